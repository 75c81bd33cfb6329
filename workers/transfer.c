/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  libcurl's multi handle in the one wait: start, serve, finish.
 *
 * Easy handles are pooled and never reset: what is the same for every request
 * is set once, a transport sets the rest (a fresh handle costs 5 %).
 *
 * A request leaves once.  libcurl would send it again by itself when a kept
 * connection breaks before a reply comes; the pre-request call-back refuses a
 * second departure, and the transfer ends as "broken", sent.
 *
 * Must never: throw or palloc in a call-back (libcurl's frames are on the
 * stack): call-backs copy into malloc'd, bounded memory and return short; run
 * libcurl where it may start a resolver's thread with signals unblocked;
 * follow a redirect; speak to an address that the integration does not allow;
 * read a proxy from the environment; hand a secret to libcurl but by
 * CURLOPT_USERNAME and CURLOPT_PASSWORD or in a header.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "workers/loop.h"
#include "workers/transport.h"
#include "workers/worker.h"

#define BUDGET_MAX		2048	/* connections, idle ones included */
#define HANDLES_IDLE	256		/* easy handles kept */
#define TRANSFERS_IDLE	4096
#define KEEP_BYTES		4096	/* a pooled buffer bigger than this is freed */

/* an easy handle; callbacks get it, and find the transfer that it serves */
typedef struct CrmHandle
{
	struct CrmHandle *next;
	CURL	   *easy;
	CrmTransfer *transfer;
	const CrmTransport *transport;	/* whose protocols are set */
	CrmLane    *lane;			/* whose ca_file and proxy are set */
	int			options_version;
} CrmHandle;

static const CrmTransport *const transports[] = {
	&crm_http_transport,
	&crm_smtp_transport
};

static CURLM *multi = NULL;
static CrmHandle *idle_handles = NULL;
static int	idle_handle_count = 0;
static CrmTransfer *idle_transfers = NULL;	/* linked through handle */
static int	idle_transfer_count = 0;
static int64 timer_at = -1;		/* µs; -1 = none */
static const char *system_ca_file = NULL;
static bool account_fds = false;
static size_t reply_bytes = 0;	/* held in buffers of replies */

static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp);
static int	on_timer(CURLM *m, long timeout_ms, void *userp);
static void on_ready(int fd, uint32 events);
static size_t on_body(char *data, size_t size, size_t count, void *userp);
static size_t on_header(char *data, size_t size, size_t count, void *userp);
static int	on_departure(void *userp, char *remote, char *local, int remote_port, int local_port);
static curl_socket_t on_open(void *userp, curlsocktype purpose, struct curl_sockaddr *address);
static int	on_close(void *userp, curl_socket_t fd);
static CrmHandle *handle_new(void);
static void handle_free(CrmHandle *handle);
static bool address_allowed(const CrmTransfer *transfer, int family, const void *bytes);

/*
 * How many connections this process may have.  Returns that number.
 */
static int
open_files_budget(void)
{
	struct rlimit limit;
	int			budget;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		limit.rlim_cur = limit.rlim_max = 1024;
	if (limit.rlim_cur < limit.rlim_max)
	{
		/* fd.c stays within max_safe_fds, so what is above is ours */
		rlim_t		wish = (rlim_t) max_safe_fds + BUDGET_MAX + 128;

		if (limit.rlim_cur < wish)
		{
			limit.rlim_cur = Min(wish, limit.rlim_max);
			(void) setrlimit(RLIMIT_NOFILE, &limit);
			(void) getrlimit(RLIMIT_NOFILE, &limit);
		}
	}
	budget = (int) Min(limit.rlim_cur, 1000000) - max_safe_fds - 64;
	if (budget < max_safe_fds / 3)
	{
		/* then they share fd.c's files, and must be counted there */
		account_fds = true;
		budget = max_safe_fds / 3;
	}
	return Max(4, Min(budget, BUDGET_MAX));
}

int
crm_transfer_open(void)
{
	int			budget = open_files_budget();

	/* libcurl's own memory, never palloc: a resolver's thread allocates too */
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK ||
		(multi = curl_multi_init()) == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start libcurl")));

	system_ca_file = curl_version_info(CURLVERSION_NOW)->cainfo;

	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) budget);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) budget);
	return budget;
}

/*
 * Bytes of replies in memory.
 */
size_t
crm_transfer_bytes(void)
{
	return reply_bytes;
}

bool
crm_buffer_append(CrmBuffer *buffer, const char *data, size_t length, size_t limit)
{
	bool		fits = true;

	if (buffer->length + length > limit)
	{
		length = limit - Min(limit, buffer->length);
		fits = false;
	}
	if (buffer->length + length > buffer->size)
	{
		size_t		size = Max(buffer->size * 2, (size_t) 512);
		char	   *more;

		while (size < buffer->length + length)
			size *= 2;
		size = Min(size, Max(limit, buffer->length + length));
		more = realloc(buffer->data, size);
		if (more == NULL)
			return false;
		reply_bytes += size - buffer->size;
		buffer->data = more;
		buffer->size = size;
	}
	if (length > 0)
		memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	return fits;
}

static void
buffer_clear(CrmBuffer *buffer)
{
	buffer->length = 0;
	if (buffer->size > KEEP_BYTES)
	{
		reply_bytes -= buffer->size;
		free(buffer->data);
		buffer->data = NULL;
		buffer->size = 0;
	}
}

void
crm_transfer_fail(CrmTransfer *transfer, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(transfer->error, sizeof(transfer->error), format, args);
	va_end(args);
}

/*
 * Header-like text must be one line of text.
 */
static bool
is_clean(const CrmText *text)
{
	for (size_t i = 0; i < text->length; i++)
	{
		unsigned char c = text->data[i];

		if (c < 0x20 ? c != '\t' : c == 0x7f)
			return false;
	}
	return true;
}

static bool
is_clean_url(const CrmText *text)
{
	for (size_t i = 0; i < text->length; i++)
	{
		unsigned char c = text->data[i];

		if (c <= 0x20 || c == 0x7f)
			return false;
	}
	return text->length > 0 && text->length <= CRM_URL_LIMIT;
}

static const CrmTransport *
transport_for(const CrmText *url)
{
	for (int i = 0; i < lengthof(transports); i++)
	{
		for (const char *const *scheme = transports[i]->schemes; *scheme != NULL; scheme++)
		{
			size_t		length = strlen(*scheme);

			if (url->length > length && pg_strncasecmp(url->data, *scheme, length) == 0)
				return transports[i];
		}
	}
	return NULL;
}

static char *
put(char **at, const CrmText *text)
{
	char	   *start = *at;

	if (text->data == NULL)
		return NULL;
	memcpy(start, text->data, text->length);
	start[text->length] = '\0';
	*at += text->length + 1;
	return start;
}

/*
 * Copy a request out of the claim's memory.  A request that cannot be sent
 * comes back with its error set.  NULL: out of memory.
 */
CrmTransfer *
crm_transfer_new(CrmLane *lane, const CrmRequest *request)
{
	static const CrmText get = {"GET", 3};
	CrmTransfer *t;
	size_t		need;
	char	   *at;
	int			count = Max(request->header_count, 0);
	const CrmText *method = request->method.data ? &request->method : &get;

	if (idle_transfers != NULL)
	{
		t = idle_transfers;
		idle_transfers = (CrmTransfer *) t->handle;
		idle_transfer_count--;
	}
	else if ((t = calloc(1, sizeof(CrmTransfer))) == NULL)
		return NULL;

	t->lane = lane;
	t->transport = NULL;
	t->ref = request->ref;
	t->ref_null = request->ref_null;
	t->flight = -1;
	t->handle = NULL;
	t->departures = 0;
	t->read_offset = 0;
	t->reply_ended = t->too_large = t->host_refused = t->sent = false;
	t->address[0] = t->error[0] = '\0';
	t->status = t->elapsed_ms = t->settle_tries = 0;
	t->started_us = 0;
	t->timeout_ms = request->timeout_ms <= 0 ? CRM_TIMEOUT_MS :
		Min(request->timeout_ms, CRM_TIMEOUT_MAX_MS);

	need = (count + 1) * sizeof(struct curl_slist) +
		MAXALIGN(request->context.length) + method->length + request->url.length +
		request->username.length + request->password.length +
		request->body.length + 64;
	for (int i = 0; i < count; i++)
		need += request->headers[i].length + 1;
	if (need > t->block_size || t->block_size > need + 64 * 1024)
	{
		size_t		size = Max(need, (size_t) 1024);

		free(t->block);
		t->block_size = 0;
		t->block = malloc(size);
		if (t->block == NULL)
		{
			crm_transfer_free(t);
			return NULL;
		}
		t->block_size = size;
	}

	/* the list and the context first: they want alignment */
	t->headers = count > 0 ? (struct curl_slist *) t->block : NULL;
	at = t->block + MAXALIGN(count * sizeof(struct curl_slist));
	t->context = NULL;
	t->context_size = request->context.length;
	if (request->context.data != NULL)
	{
		memcpy(at, request->context.data, request->context.length);
		t->context = at;
		at += MAXALIGN(request->context.length);
	}
	t->method = put(&at, method);
	t->url = put(&at, &request->url);
	t->username = put(&at, &request->username);
	t->password = put(&at, &request->password);
	t->body = put(&at, &request->body);
	t->body_length = request->body.length;
	for (int i = 0; i < count; i++)
	{
		t->headers[i].data = put(&at, &request->headers[i]);
		t->headers[i].next = i + 1 < count ? &t->headers[i + 1] : NULL;
	}

	/* what is wrong with it */
	if (request->ref_null)
		crm_transfer_fail(t, "refused: the request has no ref");
	else if (request->url.data == NULL || !is_clean_url(&request->url))
		crm_transfer_fail(t, "refused: the URL is missing, longer than %d bytes or has blanks or control characters",
						  CRM_URL_LIMIT);
	else if ((t->transport = transport_for(&request->url)) == NULL)
		crm_transfer_fail(t, "refused: the URL's scheme is not one of http, https, smtp, smtps");
	else if (!is_clean(method) || method->length == 0 || method->length > 32 ||
			 memchr(method->data, ' ', method->length) != NULL)
		crm_transfer_fail(t, "refused: the method is not a word");
	else if (request->header_count < 0)
		crm_transfer_fail(t, "refused: more than %d headers", CRM_HEADERS_LIMIT);
	else
	{
		for (int i = 0; i < count; i++)
		{
			if (request->headers[i].data == NULL || request->headers[i].length == 0 ||
				!is_clean(&request->headers[i]))
			{
				crm_transfer_fail(t, "refused: header %d is empty or has control characters",
								  i + 1);
				break;
			}
		}
	}
	return t;
}

void
crm_transfer_free(CrmTransfer *transfer)
{
	if (transfer->handle != NULL)
		handle_free(transfer->handle);
	transfer->handle = NULL;
	/* a password must not lie about in memory longer than needed */
	if (transfer->block != NULL && transfer->password != NULL)
		explicit_bzero(transfer->password, strlen(transfer->password));
	transfer->password = NULL;
	buffer_clear(&transfer->head);
	buffer_clear(&transfer->reply);
	if (transfer->block_size > KEEP_BYTES)
	{
		free(transfer->block);
		transfer->block = NULL;
		transfer->block_size = 0;
	}
	if (idle_transfer_count >= TRANSFERS_IDLE)
	{
		reply_bytes -= transfer->head.size + transfer->reply.size;
		free(transfer->head.data);
		free(transfer->reply.data);
		free(transfer->block);
		free(transfer);
		return;
	}
	transfer->handle = (CrmHandle *) idle_transfers;
	idle_transfers = transfer;
	idle_transfer_count++;
}

static CrmHandle *
handle_new(void)
{
	CrmHandle  *handle;
	CURL	   *easy;

	if (idle_handles != NULL)
	{
		handle = idle_handles;
		idle_handles = handle->next;
		idle_handle_count--;
		return handle;
	}
	handle = calloc(1, sizeof(CrmHandle));
	if (handle == NULL)
		return NULL;
	easy = handle->easy = curl_easy_init();
	if (easy == NULL)
	{
		free(handle);
		return NULL;
	}
	curl_easy_setopt(easy, CURLOPT_PRIVATE, handle);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* never wait for a
													 * resolver's thread */
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	/* bounded after unpacking: the cap is counted where the body arrives */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, 55L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, handle);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, handle);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_departure);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, handle);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, handle);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	return handle;
}

static void
handle_free(CrmHandle *handle)
{
	handle->transfer = NULL;
	if (idle_handle_count >= HANDLES_IDLE)
	{
		curl_easy_cleanup(handle->easy);
		free(handle);
		return;
	}
	handle->next = idle_handles;
	idle_handles = handle;
	idle_handle_count++;
}

/*
 * Give a transfer to libcurl.  False: it ended at once, error says why.
 */
bool
crm_transfer_start(CrmTransfer *transfer)
{
	CrmHandle  *handle;
	CrmLane    *lane = transfer->lane;
	CURL	   *easy;

	transfer->started_us = crm_worker_us();
	if (transfer->error[0] != '\0')
		return false;
	handle = handle_new();
	if (handle == NULL)
	{
		crm_transfer_fail(transfer, "broken: out of memory");
		return false;
	}
	easy = handle->easy;
	handle->transfer = transfer;
	transfer->handle = handle;

	if (handle->transport != transfer->transport)
	{
		handle->transport = transfer->transport;
		curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, transfer->transport->protocols);
	}
	if (handle->lane != lane || handle->options_version != lane->options_version)
	{
		handle->lane = lane;
		handle->options_version = lane->options_version;
		curl_easy_setopt(easy, CURLOPT_CAINFO,
						 lane->options.ca_file ? lane->options.ca_file : system_ca_file);
		curl_easy_setopt(easy, CURLOPT_PROXY,
						 lane->options.proxy ? lane->options.proxy : "");
	}
	if (curl_easy_setopt(easy, CURLOPT_URL, transfer->url) != CURLE_OK)
	{
		crm_transfer_fail(transfer, "broken: out of memory");
		return false;
	}
	curl_easy_setopt(easy, CURLOPT_USERNAME, transfer->username);
	curl_easy_setopt(easy, CURLOPT_PASSWORD, transfer->password);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) transfer->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
					 (long) Min(transfer->timeout_ms, CRM_CONNECT_MS));
	if (!transfer->transport->prepare(transfer, easy))
		return false;
	if (curl_multi_add_handle(multi, easy) != CURLM_OK)
	{
		crm_transfer_fail(transfer, "broken: libcurl did not take the request");
		return false;
	}
	return true;
}

/*
 * The next transfer that has ended, or NULL.  Its handle is free again.
 */
CrmTransfer *
crm_transfer_finished(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CrmHandle  *handle = NULL;
		CrmTransfer *t;
		CURLcode	code = message->data.result;
		CURL	   *easy = message->easy_handle;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &handle);
		t = handle->transfer;
		t->elapsed_ms = (int) ((crm_worker_us() - t->started_us) / 1000);
		t->transport->finish(t, easy, code);
		curl_multi_remove_handle(multi, easy);
		t->handle = NULL;
		handle_free(handle);
		return t;
	}
	return NULL;
}

/*
 * Milliseconds until libcurl wants to be called, -1 = it does not.
 */
long
crm_transfer_wait_ms(void)
{
	int64		left;

	if (timer_at < 0)
		return -1;
	left = timer_at - crm_worker_us();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

/*
 * Let libcurl do what its timer is for; also starts what was added.
 */
void
crm_transfer_kick(void)
{
	sigset_t	all;
	sigset_t	before;
	int			running;

	if (timer_at < 0 || crm_worker_us() < timer_at)
		return;
	timer_at = -1;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- call-backs: libcurl's frames are on the stack, nothing may throw ---- */

static void
on_ready(int fd, uint32 events)
{
	int			bits = 0;
	int			running;

	if (events & EPOLLIN)
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		bits |= CURL_CSELECT_ERR;
	curl_multi_socket_action(multi, fd, bits, &running);
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	uint32		want = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		want |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		want |= EPOLLOUT;
	/* without memory for it the request ends by its time-out */
	(void) crm_loop_want(fd, want, on_ready);
	return 0;
}

static int
on_timer(CURLM *m, long timeout_ms, void *userp)
{
	timer_at = timeout_ms < 0 ? -1 : crm_worker_us() + (int64) timeout_ms * 1000;
	return 0;
}

static size_t
on_body(char *data, size_t size, size_t count, void *userp)
{
	CrmTransfer *t = ((CrmHandle *) userp)->transfer;
	size_t		length = size * count;

	if (!crm_buffer_append(&t->reply, data, length, (size_t) t->lane->max_reply_bytes))
	{
		t->too_large = true;
		return 0;
	}
	return length;
}

static size_t
on_header(char *data, size_t size, size_t count, void *userp)
{
	CrmTransfer *t = ((CrmHandle *) userp)->transfer;
	size_t		length = size * count;

	if (!t->transport->header(t, data, length))
	{
		t->too_large = true;
		return 0;
	}
	return length;
}

/*
 * The connection stands and the request is about to be written.
 */
static int
on_departure(void *userp, char *remote, char *local, int remote_port, int local_port)
{
	CrmTransfer *t = ((CrmHandle *) userp)->transfer;

	/* a kept connection was opened under another integration's rules */
	if (t->lane->options.allow_count > 0 && remote != NULL &&
		t->lane->options.proxy == NULL)
	{
		struct in6_addr six;
		struct in_addr four;
		bool		allowed = false;

		if (inet_pton(AF_INET, remote, &four) == 1)
			allowed = address_allowed(t, AF_INET, &four);
		else if (inet_pton(AF_INET6, remote, &six) == 1)
			allowed = address_allowed(t, AF_INET6, &six);
		if (!allowed)
		{
			t->host_refused = true;
			strlcpy(t->address, remote, sizeof(t->address));
			return CURL_PREREQFUNC_ABORT;
		}
	}
	/* libcurl tries again by itself on a fresh connection: not with us */
	if (t->departures++ > 0)
		return CURL_PREREQFUNC_ABORT;
	t->transport->departing(t);
	return CURL_PREREQFUNC_OK;
}

/*
 * From here on the request's bytes may have left.
 */
void
crm_transfer_depart(CrmTransfer *transfer)
{
	transfer->sent = true;
	crm_flight_mark(transfer->flight, transfer->lane->integration, transfer->ref);
}

static curl_socket_t
on_open(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
	CrmTransfer *t = ((CrmHandle *) userp)->transfer;
	int			fd;
	const void *bytes = NULL;

	if (address->family == AF_INET)
		bytes = &((struct sockaddr_in *) &address->addr)->sin_addr;
	else if (address->family == AF_INET6)
		bytes = &((struct sockaddr_in6 *) &address->addr)->sin6_addr;

	/* with a proxy this is the proxy's address, which the DBA has named */
	if (bytes == NULL ||
		(t->lane->options.proxy == NULL && !address_allowed(t, address->family, bytes)))
	{
		t->host_refused = true;
		if (bytes != NULL)
			inet_ntop(address->family, bytes, t->address, sizeof(t->address));
		return CURL_SOCKET_BAD;
	}

	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (!crm_loop_keep(fd))
	{
		close(fd);
		return CURL_SOCKET_BAD;
	}
	if (account_fds)
		ReserveExternalFD();
	return fd;
}

static int
on_close(void *userp, curl_socket_t fd)
{
	crm_loop_forget(fd);
	if (account_fds)
		ReleaseExternalFD();
	return close(fd);
}

/* ---- who may be spoken to ------------------------------------------------ */

static bool
prefix_equal(const uint8 *a, const uint8 *b, int bits)
{
	int			whole = bits / 8;
	int			rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

/*
 * Does a list entry like 10.0.0.0/8, ::1 or 192.0.2.7 cover the address?
 */
static bool
entry_covers(const char *entry, int family, const uint8 *bytes)
{
	char		text[64];
	uint8		mine[16];
	const char *slash = strchr(entry, '/');
	size_t		length = slash ? (size_t) (slash - entry) : strlen(entry);
	int			width = family == AF_INET ? 32 : 128;
	int			bits = width;

	if (length >= sizeof(text))
		return false;
	memcpy(text, entry, length);
	text[length] = '\0';
	if (inet_pton(family, text, mine) != 1)
		return false;
	if (slash != NULL)
	{
		char	   *end;
		long		n = strtol(slash + 1, &end, 10);

		if (*end != '\0' || end == slash + 1 || n < 0 || n > width)
			return false;
		bits = (int) n;
	}
	return prefix_equal(mine, bytes, bits);
}

/*
 * The host part of the URL, without user, port and brackets.
 */
static bool
url_host_is(const char *url, const char *name)
{
	const char *host = strstr(url, "://");
	const char *end;
	const char *at;
	size_t		length;

	if (host == NULL)
		return false;
	host += 3;
	end = host + strcspn(host, "/?#");
	for (at = end; at > host; at--)
	{
		if (at[-1] == '@')
		{
			host = at;
			break;
		}
	}
	length = strcspn(host, ":");
	length = Min(length, (size_t) (end - host));
	return strlen(name) == length && pg_strncasecmp(host, name, length) == 0;
}

/*
 * Not a place where a provider can be: this host, this wire, many hosts.
 */
static bool
is_odd_address(int family, const uint8 *b)
{
	if (family == AF_INET)
		return b[0] == 0 || (b[0] == 169 && b[1] == 254) || b[0] >= 224;
	return (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) || b[0] == 0xff ||
		memcmp(b, &in6addr_any, 16) == 0;
}

/*
 * Inside a plant's own network or this machine.
 */
static bool
is_private_address(int family, const uint8 *b)
{
	if (family == AF_INET)
		return b[0] == 10 || b[0] == 127 || (b[0] == 172 && (b[1] & 0xf0) == 16) ||
			(b[0] == 192 && b[1] == 168) || (b[0] == 100 && (b[1] & 0xc0) == 64);
	return (b[0] & 0xfe) == 0xfc || memcmp(b, &in6addr_loopback, 16) == 0;
}

/*
 * The resolved address against the integration's list.  An entry is an
 * address, a network, or a host's name; a name allows what it resolves to, but
 * no private address (a name may be made to resolve to one).
 */
static bool
address_allowed(const CrmTransfer *transfer, int family, const void *bytes)
{
	const CrmOptions *options = &transfer->lane->options;
	const uint8 *b = bytes;

	if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *) bytes))
	{
		family = AF_INET;
		b += 12;
	}
	for (int i = 0; i < options->allow_count; i++)
	{
		if (entry_covers(options->allow_hosts[i], family, b))
			return true;
	}
	if (is_odd_address(family, b))
		return false;
	if (options->allow_hosts == NULL)
		return true;
	if (is_private_address(family, b))
		return false;
	for (int i = 0; i < options->allow_count; i++)
	{
		if (url_host_is(transfer->url, options->allow_hosts[i]))
			return true;
	}
	return false;
}

/*
 * The words for a transfer that brought no whole reply: a class word that
 * rules can rely on, then what a person can read.
 */
void
crm_transfer_fail_code(CrmTransfer *t, CURL *easy, CURLcode code)
{
	const char *word;
	curl_off_t	connected = 0;
	curl_off_t	resolved = 0;

	if (t->host_refused)
	{
		crm_transfer_fail(t, "refused: address %s is not one that this integration may speak to",
						  t->address[0] ? t->address : "of the URL");
		return;
	}
	if (t->too_large)
	{
		if (t->head.length >= CRM_HEAD_LIMIT)
			crm_transfer_fail(t, "too large: the reply's headers exceed %d bytes", CRM_HEAD_LIMIT);
		else
			crm_transfer_fail(t, "too large: the reply exceeds %d bytes", t->lane->max_reply_bytes);
		return;
	}
	switch (code)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			word = "resolve";
			break;
		case CURLE_COULDNT_CONNECT:
		case CURLE_INTERFACE_FAILED:
		case CURLE_PROXY:
			word = "connect";
			break;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_CRL_BADFILE:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		case CURLE_SSL_ENGINE_INITFAILED:
		case CURLE_USE_SSL_FAILED:
			word = "tls";
			break;
		case CURLE_OPERATION_TIMEDOUT:
			curl_easy_getinfo(easy, CURLINFO_CONNECT_TIME_T, &connected);
			curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
			crm_transfer_fail(t, "timeout: %s within %d ms",
							  t->departures > 0 ? "no whole reply" :
							  connected > 0 ? "connected, but not ready to talk" :
							  resolved > 0 ? "not connected" : "host name not resolved",
							  t->departures > 0 ? t->timeout_ms :
							  Min(t->timeout_ms, CRM_CONNECT_MS));
			return;
		case CURLE_URL_MALFORMAT:
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_BAD_FUNCTION_ARGUMENT:
			word = "refused";
			break;
		case CURLE_ABORTED_BY_CALLBACK:
			crm_transfer_fail(t, "broken: the connection ended before a reply came");
			return;
		default:
			word = "broken";
			break;
	}
	crm_transfer_fail(t, "%s: %s", word, curl_easy_strerror(code));
}
