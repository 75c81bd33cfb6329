/*-------------------------------------------------------------------------
 *
 * easy.c
 *	  What every request through libcurl has in common, whoever moves it.
 *
 * A request leaves once.  libcurl would send it again by itself when a kept
 * connection breaks before a reply comes; the pre-request call-back refuses a
 * second departure, and the transfer ends as "broken", sent.
 *
 * Must never: throw or palloc in a call-back (libcurl's frames are on the
 * stack): call-backs copy into malloc'd, bounded memory and return short;
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
#include <sys/socket.h>
#include <unistd.h>

#include "workers/transport.h"

static size_t on_body(char *data, size_t size, size_t count, void *userp);
static size_t on_header(char *data, size_t size, size_t count, void *userp);
static int	on_departure(void *userp, char *remote, char *local, int remote_port, int local_port);
static curl_socket_t on_open(void *userp, curlsocktype purpose, struct curl_sockaddr *address);
static int	on_close(void *userp, curl_socket_t fd);

CrmHandle  *
crm_easy_new(const CrmCarrier *carrier)
{
	CrmHandle  *handle = calloc(1, sizeof(CrmHandle));
	CURL	   *easy;

	if (handle == NULL)
		return NULL;
	handle->carrier = carrier;
	easy = handle->easy = curl_easy_init();
	if (easy == NULL)
	{
		free(handle);
		return NULL;
	}
	curl_easy_setopt(easy, CURLOPT_PRIVATE, handle);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* never wait for a resolver's thread */
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	/* bounded after unpacking: the cap is counted where the body arrives */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
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
	/* a connection outlives the handle that opened it, a carrier does not end */
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, (void *) carrier);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, handle->words);
	return handle;
}

void
crm_easy_drop(CrmHandle *handle)
{
	curl_easy_cleanup(handle->easy);
	free(handle);
}

/*
 * Options of this one transfer.  False: its error says why not.
 */
bool
crm_easy_arm(CrmHandle *handle, CrmTransfer *transfer)
{
	CURL	   *easy = handle->easy;
	CrmLane    *lane = transfer->lane;

	handle->transfer = transfer;
	transfer->handle = handle;
	handle->words[0] = '\0';

	/* with a proxy the address that is opened is the proxy's */
	if (lane->options.proxy != NULL && !crm_url_allowed(&lane->options, transfer->url))
	{
		transfer->host_refused = true;
		crm_transfer_fail_code(transfer, easy, CURLE_COULDNT_CONNECT);
		return false;
	}
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
						 lane->options.ca_file ? lane->options.ca_file :
						 curl_version_info(CURLVERSION_NOW)->cainfo);
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
	return transfer->transport->prepare(transfer, easy);
}

/* ---- call-backs: libcurl's frames are on the stack, nothing may throw ---- */

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
	if (t->lane->options.proxy == NULL &&
		!crm_address_text_allowed(&t->lane->options, t->url, remote))
	{
		t->host_refused = true;
		strlcpy(t->address, remote ? remote : "", sizeof(t->address));
		return CURL_PREREQFUNC_ABORT;
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
	if (transfer->handle != NULL)
		transfer->handle->carrier->departed(transfer);
}

static curl_socket_t
on_open(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
	CrmHandle  *handle = userp;
	CrmTransfer *t = handle->transfer;
	int			fd;
	const void *bytes = NULL;

	if (address->family == AF_INET)
		bytes = &((struct sockaddr_in *) &address->addr)->sin_addr;
	else if (address->family == AF_INET6)
		bytes = &((struct sockaddr_in6 *) &address->addr)->sin6_addr;

	/* with a proxy this is the proxy's address, which the DBA has named */
	if (bytes == NULL ||
		(t->lane->options.proxy == NULL &&
		 !crm_address_allowed(&t->lane->options, t->url, address->family, bytes)))
	{
		t->host_refused = true;
		if (bytes != NULL)
			inet_ntop(address->family, bytes, t->address, sizeof(t->address));
		return CURL_SOCKET_BAD;
	}

	fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	if (fd < 0)
		return CURL_SOCKET_BAD;
	if (!handle->carrier->opened(fd))
	{
		close(fd);
		return CURL_SOCKET_BAD;
	}
	return fd;
}

static int
on_close(void *userp, curl_socket_t fd)
{
	((const CrmCarrier *) userp)->closing(fd);
	return close(fd);
}

/* ---- words ---------------------------------------------------------------- */

void
crm_transfer_fail(CrmTransfer *transfer, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(transfer->error, sizeof(transfer->error), format, args);
	va_end(args);
}

/*
 * The words for a transfer that brought no whole reply: a class word that
 * rules can rely on, then what a person can read.
 */
void
crm_transfer_fail_code(CrmTransfer *t, CURL *easy, CURLcode code)
{
	const char *word;
	const char *detail;
	curl_off_t	connected = 0;
	curl_off_t	resolved = 0;

	if (t->host_refused && t->lane->options.proxy != NULL)
	{
		crm_transfer_fail(t, "refused: the URL's host is not one that this integration may speak to");
		return;
	}
	if (t->host_refused)
	{
		crm_transfer_fail(t, "refused: address %s is not one that this integration may speak to",
						  t->address[0] ? t->address : "of the URL");
		return;
	}
	if (t->too_large)
	{
		if (t->head_bytes > CRM_HEAD_LIMIT)
			crm_transfer_fail(t, "too large: the reply's headers exceed %d bytes", CRM_HEAD_LIMIT);
		else
			crm_transfer_fail(t, "too large: the reply exceeds %d bytes", t->lane->max_reply_bytes);
		return;
	}
	/* libcurl's own bound, where it is reached before ours */
	if (t->handle != NULL && strncmp(t->handle->words, "Too large response headers", 26) == 0)
	{
		crm_transfer_fail(t, "too large: the reply's headers exceed what is read of them");
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
			/* once the request is out these speak of the reply */
			word = t->departures > 0 ? "broken" : "refused";
			break;
		case CURLE_OUT_OF_MEMORY:
			/* how libcurl calls a header line beyond its own bound */
			if (t->departures > 0 && t->reply.length == 0)
			{
				crm_transfer_fail(t, "too large: a header line of the reply exceeds %d bytes", CURL_MAX_HTTP_HEADER);
				return;
			}
			word = "broken";
			break;
		case CURLE_ABORTED_BY_CALLBACK:
			crm_transfer_fail(t, "broken: the connection ended before a reply came");
			return;
		default:
			word = "broken";
			break;
	}
	detail = curl_easy_strerror(code);
	/* which name, and what is wrong with the certificate */
	if ((strcmp(word, "tls") == 0 || strcmp(word, "resolve") == 0) &&
		t->handle != NULL && t->handle->words[0] != '\0')
		detail = t->handle->words;
	crm_transfer_fail(t, "%s: %s", word, detail);
	/* a certificate's names are bytes from outside */
	for (char *c = t->error; *c != '\0'; c++)
	{
		if ((unsigned char) *c < 0x20 || (unsigned char) *c >= 0x7f)
			*c = '?';
	}
}
