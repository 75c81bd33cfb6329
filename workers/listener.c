/*-------------------------------------------------------------------------
 *
 * listener.c
 *	  Inbound HTTP: delivery reports, pushes, forms, pages.
 *
 * libmicrohttpd runs without threads; its epoll descriptor stands in the same
 * wait as the latch and the postmaster's death.  Its call-backs only gather,
 * into malloc'd and bounded memory, and then suspend the connection.  When
 * MHD_run has returned, all gathered requests are answered by
 * crm.listener_handle() in one transaction; if that fails, one by one, and only
 * the culprit gets 500 and a row in crm.rejected.  Then the connections are
 * resumed.
 *
 * A request costs no transaction before its route, method, token and size were
 * found good against a copy of the routes, which is read again when something
 * unknown is asked for (at most once in a second) and when it has grown old.
 * crm.listener_handle() decides again for itself.
 *
 * Links (/l/PURPOSE/TOKEN) are many and are not copied.  What is checked before a
 * transaction is their form, their purpose and their size: a body of more than a
 * few kilobytes is taken only by a link that was opened before.  Who asks for
 * links that are not there is answered more slowly after a while, and then
 * turned away; links that were found good are served all the same, since many
 * people may come through one proxy.
 *
 * A hostile client: headers, bodies and connections are bounded in number, size
 * and time.  libmicrohttpd's own time-out counts from the last byte, so each
 * connection has a clock of its own here.  Nobody is turned away for want of
 * room, since a gateway takes a reset for a failure and a burst is no attack:
 * while all places are taken the rest waits in the kernel's queue, and those
 * who hold a place without asking anything lose it soon.  What is refused is
 * logged at most once a minute.
 *
 * Must never: throw or palloc inside a call-back; hold a transaction, snapshot
 * or lock while waiting; put a path or a token into the log.
 *
 * Locks: none; everything is this process's.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "core/stop.h"
#include "workers/loop.h"
#include "workers/sha256.h"
#include "workers/worker.h"

#define LINK_BODY_BYTES		65536	/* of a link not seen before */
#define TOKEN_MIN			16
#define TOKEN_MAX			64
#define GOOD_LINKS			4096	/* remembered; a power of two */
#define PEERS				1024	/* counted; a power of two */
#define MISSES				60	/* links not there that one peer may ask for at once */
#define MISSES_PER_S		1
#define PROXY_FACTOR		10	/* loopback is a proxy: many people */

#define CONNECTIONS			640 /* at most, if the limit of open files allows */
#define BACKLOG				1024	/* the rest waits here, in the kernel */
#define ACCEPT_ROUNDS		32	/* the library accepts ten in a run */
#define CONNECTIONS_FROM_ONE 64 /* from one address that is not loopback */
#define HEADER_BYTES		16384	/* request line and headers */
#define DEFAULT_BODY_BYTES	1048576 /* until the route is known */
#define GATHERED_BYTES		(64 * 1024 * 1024)	/* of all bodies together */
#define ANSWER_BYTES		(16 * 1024 * 1024)
#define BATCH_REQUESTS		200
#define BATCH_BYTES			(8 * 1024 * 1024)

#define HEADER_MS			10000	/* from the first byte to the last header */
#define BODY_MS				60000
#define SEND_MS				60000
#define KEEP_ALIVE_MS		75000	/* between two requests */
#define FULL_HEADER_MS		1000	/* while all places are taken: for those who say
								 * nothing */
#define FULL_KEEP_ALIVE_MS	1000	/* … and for those who were answered */
#define SWEEP_MS			1000
#define FULL_SWEEP_MS		100
#define ROUTES_OLD_MS		5000
#define ROUTES_AGAIN_MS		1000
#define HOLD_MS				10000	/* a route that did not get ready in time */
#define LOG_EVERY_MS		60000
#define BATCH_LIMIT_MS		10000
#define ROUTES_LIMIT_MS		5000

/* A route, as crm.listener_routes() says; malloc'd. */
typedef struct Route
{
	char	   *integration;
	char	   *name;
	char	   *methods;		/* "GET,POST" */
	uint8		token_hash[CRM_SHA256_BYTES];
	size_t		max_body;
	int64		held_until;
} Route;

/* A purpose of links, as crm.listener_purposes() says; malloc'd. */
typedef struct Purpose
{
	char	   *name;
	size_t		max_body;
	int64		held_until;
} Purpose;

/* How many links that are not there some peers may still ask for. */
typedef struct Misses
{
	int64		at;				/* when it was counted last; 0 = never */
	double		left;
} Misses;

typedef enum ConnectionState
{
	CONN_IDLE,					/* no whole header yet */
	CONN_BODY,
	CONN_OURS,					/* suspended, waits for its answer */
	CONN_SENDING
} ConnectionState;

typedef struct Connection
{
	dlist_node	node;			/* in idle or in busy */
	int			fd;
	ConnectionState state;
	int64		since;			/* of the state, ms */
	int64		first_byte;		/* of the header under way, 0 = none came */
	uint64		received;		/* bytes at the end of the last request */
	bool		served;			/* a request was answered already */
	bool		shut;			/* we have shut it down */
	char		peer[INET6_ADDRSTRLEN];
} Connection;

/* One request; malloc'd. */
typedef struct Request
{
	dlist_node	node;			/* in ready */
	bool		is_ready;
	Connection *connection;
	struct MHD_Connection *mhd;
	char	   *path;			/* the raw URI, cut at the question mark */
	const char *query;
	char		method[16];
	char	   *headers;
	char	   *body;
	size_t		length;
	size_t		room;
	size_t		limit;			/* of the body */
	bool		started;
	bool		unverified;		/* asked for something unknown to an old copy
								 * of the routes */

	bool		is_link;
	bool		is_good;		/* … that was found good before */
	uint8		hash[CRM_SHA256_BYTES]; /* of its token */

	bool		answered;
	int			status;
	char	   *answer;
	size_t		answer_length;
	char	  **answer_headers;
	int			number_headers;
} Request;

/* Answers that need no function; made once. */
typedef enum Fixed
{
	FIXED_400, FIXED_404, FIXED_405, FIXED_413, FIXED_429, FIXED_500, FIXED_503, FIXED_COUNT
} Fixed;

static const struct
{
	int			status;
	const char *words;
}			fixed_answers[FIXED_COUNT] = {
	{400, "Bad request\n"}, {404, "Not found\n"}, {405, "Method not allowed\n"},
	{413, "Too large\n"}, {429, "Too many requests\n"}, {500, "It could not be processed\n"}, {503, "Try again later\n"}
};

typedef struct Batch
{
	Request   **requests;
	int			count;
} Batch;

/* What is read of routes and links. */
typedef struct RouteList
{
	Route	   *list;
	int			number;
	Purpose    *purposes;
	int			number_purposes;
	char	   *gone;			/* bytes of crm.link_gone() */
	size_t		gone_length;
	char	  **gone_headers;
	int			number_gone_headers;
	bool		out_of_memory;
} RouteList;

typedef struct Rejection
{
	Request    *request;
	const CrmFailure *failure;
} Rejection;

static struct MHD_Daemon *mhd_daemon = NULL;
static struct MHD_Response *fixed[FIXED_COUNT];
static dlist_head idle = DLIST_STATIC_INIT(idle);	/* oldest first */
static dlist_head busy = DLIST_STATIC_INIT(busy);
static dlist_head ready = DLIST_STATIC_INIT(ready);
static int	connections = 0;
static int	connections_limit = 0;
static size_t gathered = 0;		/* bytes of bodies and answers in memory */

static Route *routes = NULL;
static int	number_routes = 0;
static Purpose *purposes = NULL;
static int	number_purposes = 0;
static int64 routes_at = 0;		/* when both were read; 0 = never */
static struct MHD_Response *gone = NULL;	/* for links: crm.link_gone() */
static uint8 good_links[GOOD_LINKS][CRM_SHA256_BYTES];
static Misses misses[PEERS];

static int64 now_ms = 0;		/* of this turn */
static int64 sweep_at = 0;
static int64 log_at = 0;
static int	refused_unknown = 0;
static int	refused_large = 0;
static int	refused_busy = 0;
static int	refused_many = 0;
static int	refused_slow = 0;
static char last_peer[INET6_ADDRSTRLEN] = "";

static int	open_socket_at(const char *setting, bool *loopback);
static void open_daemon(void);
static void on_panic(void *cls, const char *file, unsigned int line, const char *reason);
static void on_socket(int fd, uint32 events);
static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
						  enum MHD_ConnectionNotificationCode what);
static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd);
static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
								  const char *version, const char *upload, size_t *upload_length, void **context);
static void on_completed(void *cls, struct MHD_Connection *mhd, void **context,
						 enum MHD_RequestTerminationCode how);
static enum MHD_Result on_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value);
static enum MHD_Result begin(Request *r, const char *method);
static enum MHD_Result take_body(Request *r, const char *data, size_t length);
static enum MHD_Result refuse(Request *r, Fixed what, int *counter);
static enum MHD_Result send_answer(Request *r);
static Route *route_of(Request *r);
static Purpose *purpose_of(Request *r);
static bool is_good_link(const uint8 *hash);
static void keep_good_link(const uint8 *hash);
static bool may_miss(const char *peer, bool give_back);
static Fixed judge(Request *r, int64 *held_until);
static bool method_in(const char *methods, const char *method);
static void set_state(Connection *c, ConnectionState state);
static void shut(Connection *c);
static uint64 bytes_received(int fd);
static void run_daemon(void);
static bool is_full(void);
static void sweep(void);
static void log_refused(void);
static bool read_routes(void);
static void read_routes_work(void *arg);
static void read_links_work(RouteList *fresh);
static void keep_gone(RouteList *fresh);
static bool add_header(struct MHD_Response *response, char *line);
static bool copy_headers(HeapTuple tuple, TupleDesc desc, int column, char ***headers, int *number);
static bool copy_bytes(HeapTuple tuple, TupleDesc desc, int column, char **bytes, size_t *length);
static void free_routes(RouteList *list);
static void answer_ready(void);
static void answer_batch(Batch *batch);
static void answer_work(void *arg);
static void reject_work(void *arg);
static Datum request_datum(Request *r, TupleDesc desc);
static Oid	request_type(void);
static void keep_answer(Request *r, HeapTuple tuple, TupleDesc desc);
static void answer_fixed(Request *r, Fixed what);
static void resume(Request *r);
static void free_request(Request *r);
static void *zeroed(size_t size);

void
crm_listener_main(Datum main_arg)
{
	crm_worker_start(main_arg, "crm listener");
	crm_loop_open();
	open_daemon();
	crm_worker_ready();
	(void) read_routes();
	crm_worker->say(crm_worker_slot, CRM_WORKER_IDLE, NULL);

	for (;;)
	{
		MHD_UNSIGNED_LONG_LONG mhd_timeout;
		long		timeout = -1;

		(void) crm_worker_turn();
		now_ms = crm_worker_ms();
		if (crm_worker_leaving() != 0)
			break;

		if (!dlist_is_empty(&ready))
			timeout = 0;
		else
		{
			if (MHD_get_timeout(mhd_daemon, &mhd_timeout) == MHD_YES)
				timeout = Min(mhd_timeout, SWEEP_MS);
			if (connections > 0)
			{
				long		next = is_full() ? FULL_SWEEP_MS : SWEEP_MS;

				timeout = timeout < 0 ? next : Min(timeout, next);
			}
			if (log_at != 0)
				timeout = timeout < 0 ? LOG_EVERY_MS : timeout;
		}
		(void) crm_loop_serve(timeout);

		now_ms = crm_worker_ms();
		run_daemon();
		if (!dlist_is_empty(&ready))
		{
			answer_ready();
			crm_worker->say(crm_worker_slot, CRM_WORKER_IDLE, NULL);
			now_ms = crm_worker_ms();
			run_daemon();
		}
		if (now_ms >= sweep_at || (is_full() && now_ms >= sweep_at - SWEEP_MS + FULL_SWEEP_MS))
		{
			sweep_at = now_ms + SWEEP_MS;
			sweep();
			log_refused();
		}
	}

	/*
	 * What was answered has left or leaves with the kernel; what was not is
	 * sent again by who sent it.  The descriptors close with the process.
	 */
	crm_worker_leave(CRM_EXIT_ASKED, NULL);
}

/* ---- start --------------------------------------------------------------- */

/*
 * A listening socket at "address:port" or "[address]:port".
 */
static int
open_socket_at(const char *setting, bool *loopback)
{
	char		host[CRM_SETTING_LEN];
	char	   *port;
	char	   *name = host;
	struct addrinfo hints = {0};
	struct addrinfo *found = NULL;
	int			fd;
	int			on = 1;
	int			code;

	strlcpy(host, setting, sizeof(host));
	port = strrchr(host, ':');
	if (port == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" is no address to listen at", setting),
				 errhint("SELECT crm.listen(18080);")));
	*port++ = '\0';
	if (*name == '[')
	{
		name++;
		name[strcspn(name, "]")] = '\0';
	}
	hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
	hints.ai_socktype = SOCK_STREAM;
	code = getaddrinfo(name, port, &hints, &found);
	if (code != 0)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" is no address to listen at: %s", setting, gai_strerror(code)),
				 errhint("SELECT crm.listen(18080);")));

	*loopback = found->ai_family == AF_INET ?
		(ntohl(((struct sockaddr_in *) found->ai_addr)->sin_addr.s_addr) >> 24) == 127 :
		IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *) found->ai_addr)->sin6_addr);

	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		(found->ai_family == AF_INET6 &&
		 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
		bind(fd, found->ai_addr, found->ai_addrlen) != 0 ||
		listen(fd, BACKLOG) != 0)
	{
		int			save_errno = errno;
		char		detail[CRM_DETAIL_LEN];

		snprintf(detail, sizeof(detail), "cannot listen at %s: %s", setting, strerror(save_errno));
		crm_worker->say(crm_worker_slot, CRM_WORKER_CONNECTING, detail);
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s", detail),
				 errhint("Choose another port: SELECT crm.listen(port);")));
	}
	freeaddrinfo(found);
	return fd;
}

static void
open_daemon(void)
{
	bool		loopback;
	int			limit = Max(16, Min(CONNECTIONS, max_safe_fds * 2 / 3));
	int			fd = open_socket_at(crm_worker_slot->setting, &loopback);
	const union MHD_DaemonInfo *info;

	/* their descriptors are opened behind the server's back */
	for (int i = 0; i < limit + 4; i++)
		ReserveExternalFD();
	connections_limit = limit;

	MHD_set_panic_func(on_panic, NULL);
	mhd_daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0,
								  NULL, NULL, on_request, NULL,
								  MHD_OPTION_LISTEN_SOCKET, fd,
								  MHD_OPTION_CONNECTION_LIMIT, (unsigned int) limit,
								  MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned int) (loopback ? 0 : CONNECTIONS_FROM_ONE),
								  MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) HEADER_BYTES,
								  MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int) (KEEP_ALIVE_MS / 1000 + 5),
								  MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
								  MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
								  MHD_OPTION_URI_LOG_CALLBACK, on_uri, NULL,
								  MHD_OPTION_STRICT_FOR_CLIENT, 1,
								  MHD_OPTION_END);
	info = mhd_daemon ? MHD_get_daemon_info(mhd_daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (info == NULL || !crm_loop_want(info->epoll_fd, EPOLLIN, on_socket))
		ereport(FATAL,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("the listener's HTTP daemon could not be started"),
				 errhint("Look at the limits of open files and memory.")));

	for (int i = 0; i < FIXED_COUNT; i++)
	{
		fixed[i] = MHD_create_response_from_buffer(strlen(fixed_answers[i].words),
												   unconstify(char *, fixed_answers[i].words),
												   MHD_RESPMEM_PERSISTENT);
		if (fixed[i] == NULL ||
			MHD_add_response_header(fixed[i], "Content-Type", "text/plain; charset=utf-8") != MHD_YES ||
			MHD_add_response_header(fixed[i], "Connection", "close") != MHD_YES ||
			(i == FIXED_429 && MHD_add_response_header(fixed[i], "Retry-After", "60") != MHD_YES) ||
			(i == FIXED_503 && MHD_add_response_header(fixed[i], "Retry-After", "5") != MHD_YES))
			ereport(FATAL,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory for the listener's answers")));
	}
	ereport(LOG,
			(errmsg("crm listener: listening at %s", crm_worker_slot->setting),
			 errhidestmt(true), errhidecontext(true)));
}

/*
 * The library found its own state broken.  It would call abort(), which brings
 * the whole cluster down; end this process alone, without returning into it.
 */
static void
on_panic(void *cls, const char *file, unsigned int line, const char *reason)
{
	ereport(LOG,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("crm listener: the HTTP library has given up: %s", reason ? reason : "no reason given"),
			 errhidestmt(true), errhidecontext(true)));
	proc_exit(1);
}

/* ---- call-backs: no palloc, no throw ------------------------------------- */

/* MHD_run follows in the main loop whatever was ready */
static void
on_socket(int fd, uint32 events)
{
}

static void *
zeroed(size_t size)
{
	return calloc(1, size);
}

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **context,
			  enum MHD_ConnectionNotificationCode what)
{
	Connection *c = *context;

	if (what == MHD_CONNECTION_NOTIFY_STARTED)
	{
		const union MHD_ConnectionInfo *info;
		int			fd;

		info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
		fd = info ? info->connect_fd : -1;
		c = zeroed(sizeof(Connection));
		if (c == NULL)
		{
			if (fd >= 0)
				(void) shutdown(fd, SHUT_RDWR);
			return;
		}
		c->fd = fd;
		c->since = now_ms;
		info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
		if (info && info->client_addr)
		{
			if (info->client_addr->sa_family == AF_INET)
				(void) inet_ntop(AF_INET, &((struct sockaddr_in *) info->client_addr)->sin_addr,
								 c->peer, sizeof(c->peer));
			else if (info->client_addr->sa_family == AF_INET6)
				(void) inet_ntop(AF_INET6, &((struct sockaddr_in6 *) info->client_addr)->sin6_addr,
								 c->peer, sizeof(c->peer));
		}
		dlist_push_tail(&idle, &c->node);
		connections++;
		*context = c;
	}
	else if (c != NULL)
	{
		dlist_delete(&c->node);
		connections--;
		free(c);
		*context = NULL;
	}
}

/* The first sight of a request: its raw URI, before anything was decoded. */
static void *
on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	Request    *r = zeroed(sizeof(Request));
	char	   *mark;

	if (r == NULL)
		return NULL;
	r->connection = info ? info->socket_context : NULL;
	r->mhd = mhd;
	r->path = strdup(uri);
	if (r->path == NULL || r->connection == NULL)
	{
		free_request(r);
		return NULL;
	}
	mark = strchr(r->path, '?');
	if (mark)
		*mark++ = '\0';
	r->query = mark ? mark : "";
	return r;
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
		   const char *version, const char *upload, size_t *upload_length, void **context)
{
	Request    *r = *context;

	if (r == NULL)
		return MHD_NO;
	if (r->answered)
		return send_answer(r);
	if (!r->started)
	{
		r->started = true;
		set_state(r->connection, CONN_BODY);
		return begin(r, method);
	}
	if (*upload_length > 0)
	{
		enum MHD_Result result = take_body(r, upload, *upload_length);

		*upload_length = 0;
		return result;
	}
	if (!r->is_ready)
	{
		set_state(r->connection, CONN_OURS);
		r->is_ready = true;
		dlist_push_tail(&ready, &r->node);
		MHD_suspend_connection(mhd);
	}
	return MHD_YES;
}

/* Headers are there: is this worth reading on? */
static enum MHD_Result
begin(Request *r, const char *method)
{
	const char *length;
	int64		held_until = 0;
	Fixed		what;

	for (const unsigned char *c = (const unsigned char *) r->path; *c; c++)
		if (*c <= 0x20 || *c >= 0x7f)
			return refuse(r, FIXED_400, &refused_unknown);
	for (const unsigned char *c = (const unsigned char *) r->query; *c; c++)
		if (*c <= 0x20 || *c >= 0x7f)
			return refuse(r, FIXED_400, &refused_unknown);
	if (strlcpy(r->method, method, sizeof(r->method)) >= sizeof(r->method))
		return refuse(r, FIXED_405, &refused_unknown);
	for (char *c = r->method; *c; c++)
		if (*c < 'A' || *c > 'Z')
			return refuse(r, FIXED_405, &refused_unknown);

	r->is_link = strncmp(r->path, "/l/", 3) == 0;
	what = judge(r, &held_until);
	if (what == FIXED_404)
	{
		if (now_ms - routes_at < ROUTES_AGAIN_MS && routes_at != 0)
			return refuse(r, FIXED_404, &refused_unknown);
		r->unverified = true;
		r->limit = r->is_link ? LINK_BODY_BYTES : DEFAULT_BODY_BYTES;
	}
	else if (what != FIXED_COUNT)
		return refuse(r, what, &refused_unknown);
	else if (now_ms < held_until)
		return refuse(r, FIXED_503, &refused_busy);
	if (r->is_link && !r->is_good && !may_miss(r->connection->peer, false))
		return refuse(r, FIXED_429, &refused_many);

	length = MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, "Content-Length");
	if (length != NULL)
	{
		char	   *end;
		unsigned long long value;

		errno = 0;
		value = strtoull(length, &end, 10);
		if (errno != 0 || end == length || value > r->limit)
			return refuse(r, FIXED_413, &refused_large);
	}
	if (gathered > GATHERED_BYTES / 2)
		return refuse(r, FIXED_503, &refused_busy);

	r->headers = zeroed(HEADER_BYTES + 1);
	if (r->headers == NULL)
		return refuse(r, FIXED_503, &refused_busy);
	gathered += HEADER_BYTES;
	(void) MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, on_header, r);
	return MHD_YES;
}

/* Appends "Name: value\n"; what is no plain text becomes a question mark. */
static enum MHD_Result
on_header(void *cls, enum MHD_ValueKind kind, const char *name, const char *value)
{
	Request    *r = cls;
	size_t		have = strlen(r->headers);
	size_t		name_length = strlen(name);
	size_t		value_length = value ? strlen(value) : 0;
	char	   *at = r->headers + have;

	if (have + name_length + value_length + 3 > HEADER_BYTES)
		return MHD_NO;
	memcpy(at, name, name_length);
	at += name_length;
	*at++ = ':';
	*at++ = ' ';
	if (value_length > 0)
		memcpy(at, value, value_length);
	at += value_length;
	for (char *c = r->headers + have; c < at; c++)
		if ((unsigned char) *c < 0x20 || (unsigned char) *c >= 0x7f)
			*c = '?';
	*at++ = '\n';
	*at = '\0';
	return MHD_YES;
}

static enum MHD_Result
take_body(Request *r, const char *data, size_t length)
{
	if (length > r->limit - r->length || gathered + length > GATHERED_BYTES)
	{
		/* too late for an answer: the body is still coming */
		refused_large++;
		strlcpy(last_peer, r->connection->peer, sizeof(last_peer));
		return MHD_NO;
	}
	if (r->length + length > r->room)
	{
		size_t		room = Max(r->length + length, Min(r->limit, Max(4096, r->room * 2)));
		char	   *longer = realloc(r->body, room);

		if (longer == NULL)
			return MHD_NO;
		r->body = longer;
		r->room = room;
	}
	memcpy(r->body + r->length, data, length);
	r->length += length;
	gathered += length;
	return MHD_YES;
}

static enum MHD_Result
refuse(Request *r, Fixed what, int *counter)
{
	(*counter)++;
	strlcpy(last_peer, r->connection->peer, sizeof(last_peer));
	set_state(r->connection, CONN_SENDING);
	return MHD_queue_response(r->mhd, fixed_answers[what].status,
							  r->is_link && what == FIXED_404 && gone != NULL ? gone : fixed[what]);
}

static enum MHD_Result
send_answer(Request *r)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	set_state(r->connection, CONN_SENDING);
	for (int i = 0; i < FIXED_COUNT; i++)
		if (r->answer == NULL && r->number_headers == 0 && fixed_answers[i].status == r->status)
			return MHD_queue_response(r->mhd, r->status, r->is_link && i == FIXED_404 && gone != NULL ? gone : fixed[i]);

	/* the buffer is the response's from here on */
	response = MHD_create_response_from_buffer(r->answer_length, r->answer ? r->answer : "",
											   r->answer ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (response == NULL)
		return MHD_NO;
	gathered -= r->answer_length;
	r->answer = NULL;
	r->answer_length = 0;
	for (int i = 0; i < r->number_headers; i++)
		(void) add_header(response, r->answer_headers[i]);
	result = MHD_queue_response(r->mhd, r->status, response);
	MHD_destroy_response(response);
	return result;
}

/* Cuts the line "Name: value" and adds it; false for one that is not ours to say. */
static bool
add_header(struct MHD_Response *response, char *line)
{
	char	   *colon = line ? strchr(line, ':') : NULL;

	if (colon == NULL)
		return false;
	*colon++ = '\0';
	colon += strspn(colon, " ");
	/* what frames the message is the library's */
	if (strcasecmp(line, "Content-Length") == 0 || strcasecmp(line, "Transfer-Encoding") == 0 ||
		strcasecmp(line, "Connection") == 0 || strcasecmp(line, "Date") == 0)
		return false;
	return MHD_add_response_header(response, line, colon) == MHD_YES;
}

static void
on_completed(void *cls, struct MHD_Connection *mhd, void **context,
			 enum MHD_RequestTerminationCode how)
{
	Request    *r = *context;

	if (r == NULL)
		return;
	if (r->connection != NULL)
	{
		r->connection->served = true;
		r->connection->received = bytes_received(r->connection->fd);
		set_state(r->connection, CONN_IDLE);
	}
	if (r->is_ready && !r->answered)
		dlist_delete(&r->node);
	free_request(r);
	*context = NULL;
}

static void
free_request(Request *r)
{
	gathered -= r->length + r->answer_length + (r->headers ? HEADER_BYTES : 0);
	for (int i = 0; i < r->number_headers; i++)
		free(r->answer_headers[i]);
	free(r->answer_headers);
	free(r->answer);
	free(r->body);
	free(r->headers);
	free(r->path);
	free(r);
}

/*
 * The route that a path names, with the right token; NULL when there is none.
 * The token is compared in constant time, and always compared.
 */
static Route *
route_of(Request *r)
{
	const char *part[3];
	size_t		length[3];
	const char *at = r->path;
	uint8		hash[CRM_SHA256_BYTES];
	Route	   *result = NULL;

	if (strncmp(at, "/h/", 3) != 0)
		return NULL;
	at += 3;
	for (int i = 0; i < 3; i++)
	{
		part[i] = at;
		length[i] = strcspn(at, "/");
		if (length[i] == 0 || length[i] > 200)
			return NULL;
		at += length[i];
		if (i < 2)
		{
			if (*at != '/')
				return NULL;
			at++;
		}
	}
	crm_sha256(part[2], length[2], hash);
	for (int i = 0; i < number_routes; i++)
	{
		Route	   *route = &routes[i];
		uint8		different = 0;

		if (strlen(route->integration) != length[0] || memcmp(route->integration, part[0], length[0]) != 0 ||
			strlen(route->name) != length[1] || memcmp(route->name, part[1], length[1]) != 0)
			continue;
		for (int j = 0; j < CRM_SHA256_BYTES; j++)
			different |= route->token_hash[j] ^ hash[j];
		if (different == 0)
			result = route;
	}
	return result;
}

/*
 * The purpose that the path of a link names; NULL when there is none or the
 * token cannot be one.  Leaves the token's hash.
 */
static Purpose *
purpose_of(Request *r)
{
	const char *name = r->path + 3;
	size_t		length = strcspn(name, "/");
	const char *token = name + length + 1;
	size_t		token_length;

	if (name[length] != '/')
		return NULL;
	token_length = strcspn(token, "/");
	if (token_length < TOKEN_MIN || token_length > TOKEN_MAX ||
		strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") < token_length)
		return NULL;
	crm_sha256(token, token_length, r->hash);
	for (int i = 0; i < number_purposes; i++)
		if (strlen(purposes[i].name) == length && memcmp(purposes[i].name, name, length) == 0)
			return &purposes[i];
	return NULL;
}

/*
 * Is a request worth a transaction?  FIXED_COUNT if so, and then its limit is
 * set; otherwise the answer.
 */
static Fixed
judge(Request *r, int64 *held_until)
{
	const char *methods;
	size_t		max_body;

	if (r->is_link)
	{
		Purpose    *purpose = purpose_of(r);

		if (purpose == NULL)
			return FIXED_404;
		r->is_good = is_good_link(r->hash);
		methods = "GET,HEAD,POST";
		max_body = r->is_good ? purpose->max_body : Min(purpose->max_body, LINK_BODY_BYTES);
		*held_until = purpose->held_until;
	}
	else
	{
		Route	   *route = route_of(r);

		if (route == NULL)
			return FIXED_404;
		methods = route->methods;
		max_body = route->max_body;
		*held_until = route->held_until;
	}
	if (!method_in(methods, r->method))
		return FIXED_405;
	if (r->length > max_body)
		return FIXED_413;
	r->limit = max_body;
	return FIXED_COUNT;
}

/* Hashes are spread evenly, so one place each is enough. */
static bool
is_good_link(const uint8 *hash)
{
	return memcmp(good_links[(hash[0] << 8 | hash[1]) & (GOOD_LINKS - 1)], hash, CRM_SHA256_BYTES) == 0;
}

static void
keep_good_link(const uint8 *hash)
{
	memcpy(good_links[(hash[0] << 8 | hash[1]) & (GOOD_LINKS - 1)], hash, CRM_SHA256_BYTES);
}

/*
 * Counts a question for a link that may not be there, or takes it back when it
 * was.  Peers that fall on the same place share what is left: whoever changes
 * his address gains nothing.
 */
static bool
may_miss(const char *peer, bool give_back)
{
	bool		proxy = strncmp(peer, "127.", 4) == 0 || strcmp(peer, "::1") == 0;
	double		most = MISSES * (proxy ? PROXY_FACTOR : 1);
	uint32		place = 2166136261u;
	Misses	   *m;

	for (const char *c = peer; *c; c++)
		place = (place ^ (unsigned char) *c) * 16777619u;
	m = &misses[place & (PEERS - 1)];
	if (m->at == 0)
		m->left = most;
	else
		m->left = Min(most, m->left + (now_ms - m->at) / 1000.0 * MISSES_PER_S * (proxy ? PROXY_FACTOR : 1));
	m->at = now_ms;
	if (give_back)
	{
		m->left = Min(most, m->left + 1);
		return true;
	}
	if (m->left < 1)
		return false;
	m->left -= 1;
	return true;
}

static bool
method_in(const char *methods, const char *method)
{
	size_t		length = strlen(method);

	for (const char *at = methods; *at;)
	{
		size_t		here = strcspn(at, ",");

		if (here == length && memcmp(at, method, length) == 0)
			return true;
		at += here;
		if (*at == ',')
			at++;
	}
	return false;
}

static void
set_state(Connection *c, ConnectionState state)
{
	dlist_delete(&c->node);
	dlist_push_tail(state == CONN_IDLE ? &idle : &busy, &c->node);
	c->state = state;
	c->since = now_ms;
	c->first_byte = 0;
}

/* ---- bounds -------------------------------------------------------------- */

/* The library sees the end of the stream and closes. */
static void
shut(Connection *c)
{
	(void) shutdown(c->fd, SHUT_RDWR);
	c->shut = true;
}

static uint64
bytes_received(int fd)
{
	struct tcp_info info = {0};
	socklen_t	length = sizeof(info);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
		return 0;
	return info.tcpi_bytes_received;
}

/* All places are taken, and more connections may wait in the kernel. */
static bool
is_full(void)
{
	return connections >= connections_limit;
}

/*
 * Lets the library work.  A burst of new connections is taken in whole; and
 * when connections have gone it must run once more, since only then does it
 * listen again after it had no place left.
 */
static void
run_daemon(void)
{
	for (int i = 0; i < ACCEPT_ROUNDS; i++)
	{
		int			before = connections;

		(void) MHD_run(mhd_daemon);
		if (connections == before)
			break;
	}
}

static void
sweep(void)
{
	dlist_iter	iter;
	int64		header_ms = is_full() ? FULL_HEADER_MS : HEADER_MS;
	int64		keep_alive_ms = is_full() ? FULL_KEEP_ALIVE_MS : KEEP_ALIVE_MS;

	dlist_foreach(iter, &idle)
	{
		Connection *c = dlist_container(Connection, node, iter.cur);
		bool		late;

		if (c->shut)
			continue;
		if (c->first_byte == 0 && bytes_received(c->fd) > c->received)
			c->first_byte = c->served ? now_ms : c->since;
		if (c->first_byte != 0)
			late = now_ms - c->first_byte > header_ms;
		else
			late = now_ms - c->since > (c->served ? keep_alive_ms : header_ms);
		if (late)
		{
			if (!c->served || c->first_byte != 0)
			{
				refused_slow++;
				strlcpy(last_peer, c->peer, sizeof(last_peer));
			}
			shut(c);
		}
	}
	dlist_foreach(iter, &busy)
	{
		Connection *c = dlist_container(Connection, node, iter.cur);

		if (!c->shut &&
			((c->state == CONN_BODY && now_ms - c->since > BODY_MS) ||
			 (c->state == CONN_SENDING && now_ms - c->since > SEND_MS)))
		{
			refused_slow++;
			strlcpy(last_peer, c->peer, sizeof(last_peer));
			shut(c);
		}
	}
}

/* One line a minute, whatever comes; never a path, since it may hold a token. */
static void
log_refused(void)
{
	if (refused_unknown + refused_large + refused_busy + refused_slow + refused_many == 0 || now_ms < log_at)
		return;
	ereport(LOG,
			(errmsg("crm listener: refused %d requests for unknown routes or with wrong tokens, %d too large, %d for want of room, %d too slow, %d from peers that tried many links; the last from %s",
					refused_unknown, refused_large, refused_busy, refused_slow, refused_many, last_peer),
			 errhidestmt(true), errhidecontext(true)));
	refused_unknown = refused_large = refused_busy = refused_slow = refused_many = 0;
	log_at = now_ms + LOG_EVERY_MS;
}

/* ---- the routes ---------------------------------------------------------- */

static bool
read_routes(void)
{
	RouteList	fresh = {0};
	RouteList	old = {0};
	CrmFailure	failure;

	if (!crm_worker_run("reading routes", ROUTES_LIMIT_MS, read_routes_work, &fresh, &failure) ||
		fresh.out_of_memory)
	{
		free_routes(&fresh);
		return false;
	}
	for (int i = 0; i < fresh.number; i++)
		for (int j = 0; j < number_routes; j++)
			if (strcmp(fresh.list[i].integration, routes[j].integration) == 0 &&
				strcmp(fresh.list[i].name, routes[j].name) == 0)
				fresh.list[i].held_until = routes[j].held_until;
	for (int i = 0; i < fresh.number_purposes; i++)
		for (int j = 0; j < number_purposes; j++)
			if (strcmp(fresh.purposes[i].name, purposes[j].name) == 0)
				fresh.purposes[i].held_until = purposes[j].held_until;
	old.list = routes;
	old.number = number_routes;
	old.purposes = purposes;
	old.number_purposes = number_purposes;
	routes = fresh.list;
	number_routes = fresh.number;
	purposes = fresh.purposes;
	number_purposes = fresh.number_purposes;
	fresh.list = NULL;
	fresh.number = 0;
	fresh.purposes = NULL;
	fresh.number_purposes = 0;
	free_routes(&old);
	keep_gone(&fresh);
	free_routes(&fresh);
	now_ms = crm_worker_ms();
	routes_at = now_ms;
	return true;
}

/* The page for links that do not work, once in the listener's life. */
static void
keep_gone(RouteList *fresh)
{
	if (gone != NULL || fresh->gone == NULL)
		return;
	gone = MHD_create_response_from_buffer(fresh->gone_length, fresh->gone, MHD_RESPMEM_MUST_COPY);
	for (int i = 0; gone != NULL && i < fresh->number_gone_headers; i++)
		(void) add_header(gone, fresh->gone_headers[i]);
}

static void
read_routes_work(void *arg)
{
	RouteList  *fresh = arg;

	if (SPI_execute("SELECT integration, name, pg_catalog.array_to_string(methods, ','), token_hash, max_body_bytes"
					" FROM crm.listener_routes()", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "crm.listener_routes() gave no rows");
	fresh->list = zeroed(sizeof(Route) * Max(SPI_processed, 1));
	if (fresh->list == NULL)
	{
		fresh->out_of_memory = true;
		return;
	}
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Route	   *route = &fresh->list[fresh->number++];
		bool		isnull;
		Datum		hash = SPI_getbinval(tuple, desc, 4, &isnull);
		char	   *text;

		text = SPI_getvalue(tuple, desc, 1);
		route->integration = strdup(text ? text : "");
		text = SPI_getvalue(tuple, desc, 2);
		route->name = strdup(text ? text : "");
		text = SPI_getvalue(tuple, desc, 3);
		route->methods = strdup(text ? text : "");
		if (route->integration == NULL || route->name == NULL || route->methods == NULL)
			fresh->out_of_memory = true;
		if (!isnull)
		{
			bytea	   *bytes = DatumGetByteaPP(hash);

			if (VARSIZE_ANY_EXHDR(bytes) == CRM_SHA256_BYTES)
				memcpy(route->token_hash, VARDATA_ANY(bytes), CRM_SHA256_BYTES);
		}
		route->max_body = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
	}
	read_links_work(fresh);
}

/* Purposes each time; the page and the links that are good at the first time. */
static void
read_links_work(RouteList *fresh)
{
	if (SPI_execute("SELECT purpose, max_body_bytes FROM crm.listener_purposes()", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "crm.listener_purposes() gave no rows");
	fresh->purposes = zeroed(sizeof(Purpose) * Max(SPI_processed, 1));
	if (fresh->purposes == NULL)
	{
		fresh->out_of_memory = true;
		return;
	}
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Purpose    *purpose = &fresh->purposes[fresh->number_purposes++];
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		bool		isnull;

		purpose->name = strdup(name ? name : "");
		if (purpose->name == NULL)
			fresh->out_of_memory = true;
		purpose->max_body = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull));
	}
	if (gone != NULL)
		return;

	if (SPI_execute("SELECT g.headers, g.body FROM crm.link_gone() AS g", true, 0) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "crm.link_gone() gave no page");
	if (!copy_headers(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &fresh->gone_headers, &fresh->number_gone_headers) ||
		!copy_bytes(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &fresh->gone, &fresh->gone_length))
		fresh->out_of_memory = true;

	if (SPI_execute("SELECT l FROM crm.listener_links() AS l", true, 0) != SPI_OK_SELECT)
		elog(ERROR, "crm.listener_links() gave no rows");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		hash = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull && VARSIZE_ANY_EXHDR(DatumGetByteaPP(hash)) == CRM_SHA256_BYTES)
			keep_good_link((const uint8 *) VARDATA_ANY(DatumGetByteaPP(hash)));
	}
}

static void
free_routes(RouteList *list)
{
	for (int i = 0; i < list->number; i++)
	{
		free(list->list[i].integration);
		free(list->list[i].name);
		free(list->list[i].methods);
	}
	free(list->list);
	for (int i = 0; i < list->number_purposes; i++)
		free(list->purposes[i].name);
	free(list->purposes);
	for (int i = 0; i < list->number_gone_headers; i++)
		free(list->gone_headers[i]);
	free(list->gone_headers);
	free(list->gone);
}

/* A column text[] as malloc'd lines, at most 50; false for want of memory. */
static bool
copy_headers(HeapTuple tuple, TupleDesc desc, int column, char ***headers, int *number)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);
	Datum	   *lines;
	bool	   *nulls;
	int			found;

	if (isnull)
		return true;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &lines, &nulls, &found);
	found = Min(found, 50);
	*headers = zeroed(sizeof(char *) * Max(found, 1));
	if (*headers == NULL)
		return false;
	for (int i = 0; i < found; i++)
	{
		if (!nulls[i])
			(*headers)[i] = strdup(TextDatumGetCString(lines[i]));
		*number = i + 1;
	}
	return true;
}

/* A column bytea as malloc'd bytes; false for want of memory. */
static bool
copy_bytes(HeapTuple tuple, TupleDesc desc, int column, char **bytes, size_t *length)
{
	bool		isnull;
	Datum		value = SPI_getbinval(tuple, desc, column, &isnull);
	bytea	   *found;
	size_t		found_length;

	if (isnull)
		return true;
	found = DatumGetByteaPP(value);
	found_length = VARSIZE_ANY_EXHDR(found);
	if (found_length > ANSWER_BYTES)
		ereport(ERROR,
				errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				errmsg("an answer of %zu bytes is longer than 16 MB", found_length),
				errhint("Answer with less."));
	if (found_length == 0)
		return true;
	*bytes = malloc(found_length);
	if (*bytes == NULL)
		return false;
	memcpy(*bytes, VARDATA_ANY(found), found_length);
	*length = found_length;
	return true;
}

/* ---- answers ------------------------------------------------------------- */

/* Answers what was gathered, a batch at most; the rest is next turn's. */
static void
answer_ready(void)
{
	Batch		batch;
	size_t		bytes = 0;
	bool		unverified = false;
	Request    *all[BATCH_REQUESTS];
	int			number = 0;

	batch.requests = palloc(sizeof(Request *) * BATCH_REQUESTS);
	batch.count = 0;
	while (!dlist_is_empty(&ready) && number < BATCH_REQUESTS && bytes < BATCH_BYTES)
	{
		Request    *r = dlist_container(Request, node, dlist_pop_head_node(&ready));

		all[number++] = r;
		bytes += r->length;
		unverified |= r->unverified;
	}

	if ((unverified && (routes_at == 0 || now_ms - routes_at >= ROUTES_AGAIN_MS)) ||
		now_ms - routes_at >= ROUTES_OLD_MS)
		(void) read_routes();

	for (int i = 0; i < number; i++)
	{
		Request    *r = all[i];

		if (r->unverified)
		{
			int64		held_until;
			Fixed		what = judge(r, &held_until);

			if (what == FIXED_404 && routes_at == 0)
				what = FIXED_503;
			if (what != FIXED_COUNT)
			{
				refused_unknown++;
				strlcpy(last_peer, r->connection->peer, sizeof(last_peer));
				answer_fixed(r, what);
				continue;
			}
		}
		batch.requests[batch.count++] = r;
	}

	if (batch.count > 0)
		answer_batch(&batch);
	for (int i = 0; i < batch.count; i++)
	{
		Request    *r = batch.requests[i];

		if (r->is_link && r->status < 400)
		{
			if (!r->is_good)
				(void) may_miss(r->connection->peer, true);
			keep_good_link(r->hash);
		}
	}
	for (int i = 0; i < number; i++)
		resume(all[i]);
}

static void
answer_batch(Batch *batch)
{
	CrmFailure	failure;

	if (crm_worker_run("answering requests", BATCH_LIMIT_MS, answer_work, batch, &failure))
	{
		CRM_STOP("report: after commit");
		return;
	}

	for (int i = 0; i < batch->count; i++)
	{
		Request    *r = batch->requests[i];
		Batch		one = {&r, 1};
		Rejection	rejection = {r, &failure};
		CrmFailure	another;
		int64		start = crm_worker_ms();

		CHECK_FOR_INTERRUPTS();
		if (batch->count > 1)
		{
			if (crm_worker_leaving() != 0)
			{
				answer_fixed(r, FIXED_503);
				continue;
			}
			if (crm_worker_run("answering a request", BATCH_LIMIT_MS, answer_work, &one, &failure))
				continue;
		}
		if (failure.transient && failure.sqlerrcode != ERRCODE_QUERY_CANCELED)
		{
			answer_fixed(r, FIXED_503);
			continue;
		}
		if (failure.sqlerrcode == ERRCODE_QUERY_CANCELED)
		{
			Route	   *route = r->is_link ? NULL : route_of(r);
			Purpose    *purpose = r->is_link ? purpose_of(r) : NULL;

			/* the others shall not wait for it again and again */
			if (route != NULL)
				route->held_until = start + HOLD_MS;
			if (purpose != NULL)
				purpose->held_until = start + HOLD_MS;
		}
		answer_fixed(r, FIXED_500);
		(void) crm_worker_run("keeping a request", ROUTES_LIMIT_MS, reject_work, &rejection, &another);
	}
}

static Oid
request_type(void)
{
	Oid			schema = get_namespace_oid("crm", false);
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   CStringGetDatum("http_request"), ObjectIdGetDatum(schema));

	if (!OidIsValid(type))
		ereport(ERROR,
				errcode(ERRCODE_UNDEFINED_OBJECT),
				errmsg("type crm.http_request is not there"),
				errhint("The extension is damaged; create it again."));
	return type;
}

static Datum
request_datum(Request *r, TupleDesc desc)
{
	Datum		values[6];
	bool		nulls[6] = {0};

	if (desc->natts != lengthof(values))
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("crm.http_request is not the type that this library knows"),
				errhint("ALTER EXTENSION crm UPDATE; or restart with the matching library."));
	values[0] = CStringGetTextDatum(r->method);
	values[1] = CStringGetTextDatum(r->path);
	values[2] = CStringGetTextDatum(r->query);
	values[3] = CStringGetTextDatum(r->headers ? r->headers : "");
	values[4] = PointerGetDatum(cstring_to_text_with_len(r->body ? r->body : "", r->length));
	values[5] = CStringGetTextDatum(r->connection->peer);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

static void
answer_work(void *arg)
{
	Batch	   *batch = arg;
	Oid			type = request_type();
	Oid			array_type = get_array_type(type);
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(type, -1);
	Datum	   *requests = palloc(sizeof(Datum) * batch->count);
	Datum		argument;

	for (int i = 0; i < batch->count; i++)
		requests[i] = request_datum(batch->requests[i], desc);
	argument = PointerGetDatum(construct_array(requests, batch->count, type, -1, false, TYPALIGN_DOUBLE));
	if (SPI_execute_with_args("SELECT h.status, h.headers, h.body FROM crm.listener_handle($1) AS h",
							  1, &array_type, &argument, NULL, false, 0) != SPI_OK_SELECT ||
		SPI_processed != batch->count)
		ereport(ERROR,
				errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				errmsg("crm.listener_handle() gave " UINT64_FORMAT " answers to %d requests",
					   SPI_processed, batch->count));
	for (int i = 0; i < batch->count; i++)
		keep_answer(batch->requests[i], SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	CRM_STOP("report: before commit");
}

/*
 * The answer goes to memory that outlives the transaction.  If this throws, the
 * request is answered again and starts from what answer_fixed leaves.
 */
static void
keep_answer(Request *r, HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value;

	answer_fixed(r, FIXED_500);
	value = SPI_getbinval(tuple, desc, 1, &isnull);
	if (isnull)
		return;
	r->status = DatumGetInt32(value);

	(void) copy_headers(tuple, desc, 2, &r->answer_headers, &r->number_headers);
	if (!copy_bytes(tuple, desc, 3, &r->answer, &r->answer_length))
	{
		answer_fixed(r, FIXED_503);
		return;
	}
	gathered += r->answer_length;
}

/* Forgets an answer that was kept, and sets a plain one. */
static void
answer_fixed(Request *r, Fixed what)
{
	for (int i = 0; i < r->number_headers; i++)
		free(r->answer_headers[i]);
	free(r->answer_headers);
	r->answer_headers = NULL;
	r->number_headers = 0;
	gathered -= r->answer_length;
	free(r->answer);
	r->answer = NULL;
	r->answer_length = 0;
	r->status = fixed_answers[what].status;
}

static void
reject_work(void *arg)
{
	Rejection  *rejection = arg;
	Oid			types[3];
	Datum		values[3];

	types[0] = request_type();
	types[1] = types[2] = TEXTOID;
	values[0] = request_datum(rejection->request, lookup_rowtype_tupdesc_copy(types[0], -1));
	values[1] = CStringGetTextDatum(rejection->failure->sqlstate);
	values[2] = CStringGetTextDatum(rejection->failure->message);
	if (SPI_execute_with_args("SELECT crm.listener_reject($1, $2, $3)", 3, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "crm.listener_reject() could not be called");
}

static void
resume(Request *r)
{
	r->answered = true;
	MHD_resume_connection(r->mhd);
}
