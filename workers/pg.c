/*-------------------------------------------------------------------------
 *
 * pg.c
 *	  Transport SQL: one query to another PostgreSQL database a transfer; the
 *	  connection is kept between transfers of one integration.
 *
 * The request: method SQL, url postgresql://host:port/database (?sslmode=…),
 * username and password, body the text of ONE statement in UTF-8, its
 * parameters $1, $2, … in context: {"params": ["text", 5, null]}.
 *
 * The reply: status 200 and body {"columns": ["a", "b"], "rows": [["1", null],
 * …]}, every value as the text that the server writes for it.  An error of the
 * server is a status (401, 503, 400), words in error ("auth:", "broken:" where
 * waiting helps, "sql:" where it does not) and the header lines SQLSTATE and
 * Message.
 *
 * A connection reads only (default_transaction_read_only), unless the setting
 * read_only is false; the server itself gives a query up before we do
 * (statement_timeout), so that closing the connection is all the cancelling
 * that there is.  A query that reads and was on a kept connection which turned
 * out to be dead goes again, once.
 *
 * libpq's asynchronous calls in the courier's one wait.  PQconnectStart would
 * wait for a name server, so libcurl resolves the name: it is told to connect
 * and is handed no socket, and each address that it tries is looked at by
 * address.c and noted.  A session of crm.integration_test() runs the same
 * steps by crm_pg_step.
 *
 * libpq makes room for a message as soon as it has read its length, and keeps
 * every setting that the server tells of, during the login too.  So what a call
 * may add to the process is limited (RLIMIT_AS, soft), which makes a row beyond
 * the bound an error; and the bytes that libpq has read from the socket are
 * counted against what the rows in the reply explain.  (Not the process's size:
 * threads that resolve names move it meanwhile.)
 *
 * Must never: throw or palloc below libpq's or libcurl's frames; wait; read
 * libpq's environment, a service file, .pgpass or somebody's certificate; give
 * a connection to another integration, address or login; speak through a Unix
 * socket, where the server's operating system user would be let in as whoever
 * it says it is.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <linux/tcp.h>
#include <locale.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/numeric.h"

#include "workers/loop.h"
#include "workers/transport.h"
#include "workers/worker.h"

#define ADDRESSES		8
#define PARAMS			1000
#define IDLE_US			INT64CONST(55000000)
#define IDLE_SESSIONS	64
#define KEEP_BYTES		(1024 * 1024)	/* libpq keeps its largest buffer: a bigger reply ends the connection */
#define SLACK_BYTES		(32 * 1024 * 1024)
#define CHAT_BYTES		(1024 * 1024)	/* all that a server may say besides rows */
#define NO_FILE			"/dev/null/none"	/* can never be there */

/* a request, taken apart; hangs on its transfer */
typedef struct PgCall
{
	char	   *host;			/* brackets of IPv6 included */
	char	   *port;
	char	   *database;
	char	   *sslmode;		/* NULL: not said in the URL */
	int			param_count;
	char	   *params[PARAMS];
	char		addresses[ADDRESSES][INET6_ADDRSTRLEN];
	int			address_count;
	bool		beyond_loopback;
	bool		again;			/* has been sent on a connection that was dead */
} PgCall;

typedef enum PgStep
{
	PG_CONNECTING,
	PG_SENDING,
	PG_READING,
	PG_IDLE
} PgStep;

typedef struct PgSession
{
	dlist_node	node;
	const CrmCarrier *carrier;
	CrmLane    *lane;
	int			options_version;
	PGconn	   *conn;
	int			fd;
	uint32		want;
	PgStep		step;
	CrmTransfer *transfer;		/* NULL: nobody's */
	bool		reused;
	bool		heard;			/* something came for this query */
	bool		failed;			/* the server said an error */
	bool		header_out;
	int			rows;
	int64		connect_us;
	int64		idle_since_us;
	int64		read_before;	/* bytes from the socket, when the query left */
	char	   *key;			/* address, login, time-out; NUL between them */
	size_t		key_length;
} PgSession;

static dlist_head sessions = DLIST_STATIC_INIT(sessions);
static int	idle_count = 0;

static void pump(PgSession *s);
static void on_ready(int fd, uint32 events);
static void end_transfer(PgSession *s, bool keep);

static const char *const pg_schemes[] = {"postgresql://", NULL};

/* ---- what libpq would read by itself --------------------------------------- */

static const char *const variables[] = {
	"PGAPPNAME", "PGCHANNELBINDING", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "PGDATABASE", "PGDATESTYLE",
	"PGGEQO", "PGGSSENCMODE", "PGGSSLIB", "PGHOST", "PGHOSTADDR", "PGKRBSRVNAME", "PGLOADBALANCEHOSTS",
	"PGMAXPROTOCOLVERSION", "PGMINPROTOCOLVERSION", "PGOPTIONS", "PGPASSFILE", "PGPASSWORD", "PGPORT",
	"PGREALM", "PGREQUIREAUTH", "PGREQUIREPEER", "PGREQUIRESSL", "PGSERVICE", "PGSERVICEFILE", "PGSSLCERT",
	"PGSSLCERTMODE", "PGSSLCOMPRESSION", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLKEY", "PGSSLKEYLOGFILE",
	"PGSSLMAXPROTOCOLVERSION", "PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLNEGOTIATION", "PGSSLROOTCERT",
	"PGSSLSNI", "PGTARGETSESSIONATTRS", "PGTTY", "PGTZ", "PGUSER"
};

/* a session gives them back: others in it may use libpq too */
static char *hidden[lengthof(variables)];

static void
hide_environment(bool for_good)
{
	for (int i = 0; i < lengthof(variables); i++)
	{
		const char *value = getenv(variables[i]);

		if (value == NULL)
			continue;
		if (!for_good && hidden[i] == NULL)
			hidden[i] = strdup(value);
		unsetenv(variables[i]);
	}
}

static void
show_environment(void)
{
	for (int i = 0; i < lengthof(variables); i++)
	{
		if (hidden[i] == NULL)
			continue;
		setenv(variables[i], hidden[i], 1);
		free(hidden[i]);
		hidden[i] = NULL;
	}
}

/*
 * Before a courier has any thread.
 */
void
crm_pg_open(void)
{
	hide_environment(true);
}

/* ---- around each call of libpq ----------------------------------------------- */

typedef struct Guard
{
	locale_t	before;
	struct rlimit limit;
	bool		limited;
} Guard;

/*
 * Bytes of address space, -1 where nobody tells.
 */
static int64
process_size(void)
{
	char		text[64];
	int			fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t		length;

	if (fd < 0)
		return -1;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return -1;
	text[length] = '\0';
	return (int64) strtoll(text, NULL, 10) * sysconf(_SC_PAGESIZE);
}

/*
 * Words in one language, and a bound on memory.
 */
static void
enter(Guard *guard, const CrmLane *lane)
{
	static locale_t plain = (locale_t) 0;
	int64		size pg_attribute_unused();

	if (plain == (locale_t) 0)
		plain = newlocale(LC_ALL_MASK, "C", (locale_t) 0);
	guard->before = plain != (locale_t) 0 ? uselocale(plain) : (locale_t) 0;
	guard->limited = false;
#ifndef __SANITIZE_ADDRESS__
	size = process_size();
	if (size > 0 && getrlimit(RLIMIT_AS, &guard->limit) == 0)
	{
		struct rlimit mine = guard->limit;
		rlim_t		wish = (rlim_t) size + 2 * (rlim_t) lane->max_reply_bytes + SLACK_BYTES;

		if (mine.rlim_cur == RLIM_INFINITY || mine.rlim_cur > wish)
		{
			mine.rlim_cur = wish;
			guard->limited = setrlimit(RLIMIT_AS, &mine) == 0;
		}
	}
#endif
}

static void
leave(Guard *guard)
{
	if (guard->limited)
		(void) setrlimit(RLIMIT_AS, &guard->limit);
	if (guard->before != (locale_t) 0)
		(void) uselocale(guard->before);
}

/* ---- the request ------------------------------------------------------------- */

static void
free_call(CrmTransfer *t)
{
	PgCall	   *call = t->own;

	if (call == NULL)
		return;
	curl_free(call->host);
	curl_free(call->port);
	curl_free(call->database);
	free(call->sslmode);
	for (int i = 0; i < call->param_count; i++)
		free(call->params[i]);
	free(call);
	t->own = NULL;
}

/*
 * context {"params": [...]} as texts.  False: the transfer's error says why not.
 */
static bool
open_params(CrmTransfer *t, PgCall *call)
{
	JsonbContainer *root;
	JsonbContainer *list;
	JsonbValue	value;
	int			count;

	if (t->context == NULL)
		return true;
	root = &((Jsonb *) t->context)->root;
	if (!JsonContainerIsObject(root) || getKeyJsonValueFromContainer(root, "params", 6, &value) == NULL ||
		value.type == jbvNull)
		return true;
	if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
	{
		crm_transfer_fail(t, "refused: the parameters of the query are no list");
		return false;
	}
	list = value.val.binary.data;
	count = JsonContainerSize(list);
	if (count > PARAMS)
	{
		crm_transfer_fail(t, "refused: more than %d parameters", PARAMS);
		return false;
	}
	for (int i = 0; i < count; i++)
	{
		JsonbValue *item = getIthJsonbValueFromContainer(list, i);
		char	   *text = NULL;

		switch (item->type)
		{
			case jbvNull:
				break;
			case jbvString:
				text = strndup(item->val.string.val, item->val.string.len);
				break;
			case jbvBool:
				text = strdup(item->val.boolean ? "true" : "false");
				break;
			case jbvNumeric:
				{
					char	   *number = DatumGetCString(DirectFunctionCall1(numeric_out,
																			 NumericGetDatum(item->val.numeric)));

					text = strdup(number);
					pfree(number);
					break;
				}
			default:
				crm_transfer_fail(t, "refused: parameter %d of the query is no text, number, truth or null", i + 1);
				return false;
		}
		if (text == NULL && item->type != jbvNull)
		{
			crm_transfer_fail(t, "broken: out of memory");
			return false;
		}
		call->params[call->param_count++] = text;
		pfree(item);
	}
	return true;
}

static bool
open_url(CrmTransfer *t, PgCall *call)
{
	CURLU	   *parts = curl_url();
	char	   *path = NULL;
	char	   *query = NULL;
	char	   *user = NULL;
	bool		good = false;

	if (parts == NULL || curl_url_set(parts, CURLUPART_URL, t->url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
		curl_url_get(parts, CURLUPART_HOST, &call->host, 0) != CURLUE_OK || call->host[0] == '\0' ||
		strpbrk(call->host, ",%/") != NULL)
		crm_transfer_fail(t, "refused: the URL has no host that can be asked");
	else if (curl_url_get(parts, CURLUPART_USER, &user, 0) == CURLUE_OK)
		crm_transfer_fail(t, "refused: the URL holds a user or a password");
	else if (curl_url_get(parts, CURLUPART_PATH, &path, 0) != CURLUE_OK || strlen(path) < 2 ||
			 strchr(path + 1, '/') != NULL)
		crm_transfer_fail(t, "refused: the URL names no database: postgresql://host:port/database");
	else
	{
		if (curl_url_get(parts, CURLUPART_PORT, &call->port, 0) != CURLUE_OK)
			call->port = NULL;
		call->database = curl_easy_unescape(NULL, path + 1, 0, NULL);
		if (curl_url_get(parts, CURLUPART_QUERY, &query, 0) == CURLUE_OK && query[0] != '\0')
		{
			if (strncmp(query, "sslmode=", 8) == 0 && strchr(query, '&') == NULL)
				call->sslmode = strdup(query + 8);
			else
				crm_transfer_fail(t, "refused: the URL has a parameter other than sslmode");
		}
		if (call->database == NULL || call->database[0] == '\0')
			crm_transfer_fail(t, "refused: the URL names no database: postgresql://host:port/database");
		good = t->error[0] == '\0';
	}
	curl_free(path);
	curl_free(query);
	curl_free(user);
	curl_url_cleanup(parts);
	return good;
}

static bool
is_sslmode(const char *word)
{
	static const char *const modes[] = {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"};

	for (int i = 0; i < lengthof(modes); i++)
	{
		if (strcmp(word, modes[i]) == 0)
			return true;
	}
	return false;
}

/*
 * Once a transfer.  False: its error says why it cannot be sent.
 */
static bool
open_call(CrmTransfer *t)
{
	PgCall	   *call;
	const char *mode;

	if (t->own != NULL)
		return true;
	call = t->own = calloc(1, sizeof(PgCall));
	if (call == NULL)
	{
		crm_transfer_fail(t, "broken: out of memory");
		return false;
	}
	if (!open_url(t, call))
		return false;
	mode = call->sslmode ? call->sslmode : t->lane->options.sslmode;
	if (mode != NULL && !is_sslmode(mode))
	{
		crm_transfer_fail(t, "refused: sslmode is none of disable, allow, prefer, require, verify-ca, verify-full");
		return false;
	}
	if (t->lane->options.proxy != NULL)
	{
		crm_transfer_fail(t, "refused: a database is not asked through a proxy");
		return false;
	}
	if (t->username == NULL || t->username[0] == '\0')
	{
		crm_transfer_fail(t, "refused: the request names no user");
		return false;
	}
	if (t->body == NULL || t->body_length == 0 || memchr(t->body, '\0', t->body_length) != NULL)
	{
		crm_transfer_fail(t, "refused: the query is empty or has a zero byte");
		return false;
	}
	return open_params(t, call);
}

/* ---- names ------------------------------------------------------------------- */

/*
 * libcurl asks for a socket to an address: it gets none, and we have the
 * address.
 */
static curl_socket_t
on_address(void *userp, curlsocktype purpose, struct curl_sockaddr *address)
{
	CrmTransfer *t = ((CrmHandle *) userp)->transfer;
	PgCall	   *call = t->own;
	const void *bytes = NULL;
	char		text[INET6_ADDRSTRLEN];

	if (address->family == AF_INET)
		bytes = &((struct sockaddr_in *) &address->addr)->sin_addr;
	else if (address->family == AF_INET6)
		bytes = &((struct sockaddr_in6 *) &address->addr)->sin6_addr;
	if (bytes == NULL || inet_ntop(address->family, bytes, text, sizeof(text)) == NULL)
		return CURL_SOCKET_BAD;
	if (!crm_address_allowed(&t->lane->options, t->url, address->family, bytes))
	{
		t->host_refused = true;
		strlcpy(t->address, text, sizeof(t->address));
		return CURL_SOCKET_BAD;
	}
	for (int i = 0; i < call->address_count; i++)
	{
		if (strcmp(call->addresses[i], text) == 0)
			return CURL_SOCKET_BAD;
	}
	if (call->address_count < ADDRESSES)
		strlcpy(call->addresses[call->address_count++], text, INET6_ADDRSTRLEN);
	if (address->family == AF_INET ? *(const uint8 *) bytes != 127 :
		memcmp(bytes, &in6addr_loopback, 16) != 0)
		call->beyond_loopback = true;
	return CURL_SOCKET_BAD;
}

static bool
pg_prepare(CrmTransfer *t, CURL *easy)
{
	PgCall	   *call;
	char		url[320];

	if (!open_call(t))
		return false;
	call = t->own;
	call->address_count = 0;
	if (snprintf(url, sizeof(url), "http://%s/", call->host) >= sizeof(url))
	{
		crm_transfer_fail(t, "refused: the URL's host is too long");
		return false;
	}
	if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK)
	{
		crm_transfer_fail(t, "broken: out of memory");
		return false;
	}
	/* it has no business with them */
	curl_easy_setopt(easy, CURLOPT_USERNAME, NULL);
	curl_easy_setopt(easy, CURLOPT_PASSWORD, NULL);
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_address);
	return true;
}

/* ---- sessions ---------------------------------------------------------------- */

/* the server gives a query up by the time-out of its session: another one, another session */
static char *
make_key(const CrmTransfer *t, size_t *length)
{
	char		limit[16];

	snprintf(limit, sizeof(limit), "%d", t->timeout_ms);
	return crm_session_key(t, limit, length);
}

/*
 * The socket is ours to know before libpq closes it, and may be another after
 * each of its steps while it connects.
 */
static void
lose_socket(PgSession *s)
{
	if (s->fd >= 0)
		s->carrier->closing(s->fd);
	s->fd = -1;
}

static bool
find_socket(PgSession *s)
{
	int			fd = PQsocket(s->conn);

	if (fd >= 0 && !s->carrier->opened(fd))
		return false;
	s->fd = fd;
	return true;
}

static void
close_session(PgSession *s)
{
	Guard		guard;

	if (s->step == PG_IDLE)
		idle_count--;
	dlist_delete(&s->node);
	lose_socket(s);
	enter(&guard, s->lane);
	PQfinish(s->conn);
	leave(&guard);
	crm_session_key_free(s->key, s->key_length);
	free(s);
}

static void
wish(PgSession *s, uint32 events)
{
	s->want = events;
	/* a session of a person waits by itself; without memory for it the time-out ends the transfer */
	if (s->transfer == NULL || !s->transfer->probe)
		(void) crm_loop_want(s->fd, events, on_ready);
}

/*
 * The transfer's part is over.
 */
static void
end_transfer(PgSession *s, bool keep)
{
	CrmTransfer *t = s->transfer;

	if (t->error[0] != '\0')
		t->reply.length = 0;
	keep = keep && !t->probe && t->reply.length <= KEEP_BYTES && idle_count < IDLE_SESSIONS;
	free_call(t);
	s->transfer = NULL;
	if (keep)
	{
		s->step = PG_IDLE;
		s->idle_since_us = crm_worker_us();
		idle_count++;
		/* to hear that the server closes it */
		wish(s, EPOLLIN);
	}
	else
		close_session(s);
	if (!t->probe)
		crm_transfer_done(t);
}

/* libpq's last words in one line of ASCII, or of UTF-8 where the server speaks it */
static void
words_of(const char *text, char *to, size_t size)
{
	size_t		length = 0;

	/* its prefix names the address, which stands in the integration */
	if (strncmp(text, "connection to server at ", 24) == 0)
	{
		const char *after = strstr(text, " failed: ");

		text = after ? after + 9 : text;
	}
	while (*text != '\0' && *text != '\n' && length + 5 < size)
	{
		int			width = pg_utf_mblen((const unsigned char *) text);

		if ((unsigned char) *text < 0x80)
			to[length++] = (unsigned char) *text < 0x20 || *text == 0x7f ? ' ' : *text;
		else if (strnlen(text, width) == width && pg_utf8_islegal((const unsigned char *) text, width))
		{
			memcpy(to + length, text, width);
			length += width;
			text += width - 1;
		}
		else
			to[length++] = '?';
		text++;
	}
	to[length] = '\0';
}

/*
 * What an SQLSTATE means for whoever asks: shall he try again, or look at the
 * password, or at the query?
 */
static void
fail_sqlstate(CrmTransfer *t, const char *state, const char *words)
{
	static const struct
	{
		const char *state;
		const char *words;
	}			known[] = {
		{"28P01", "the password is refused"},
		{"28000", "this user may not enter from here (pg_hba.conf there)"},
		{"3D000", "there is no such database"},
		{"57P01", "the server is shut down"},
		{"57P02", "the server crashed"},
		{"57P03", "the server is starting or stopping"},
		{"57014", "the query took too long"},
		{"53300", "the server has no connection free"},
		{"25006", "the query would write, and the connection only reads"},
		{"42P01", "there is no such table"},
		{"42703", "there is no such column"},
		{"42501", "the user has no right to it"}
	};
	const char *class;
	const char *own = NULL;

	if (strncmp(state, "28", 2) == 0 || strcmp(state, "3D000") == 0)
	{
		class = "auth";
		t->status = 401;
	}
	else if (strncmp(state, "57", 2) == 0 || strncmp(state, "53", 2) == 0 || strncmp(state, "08", 2) == 0 ||
			 strncmp(state, "40", 2) == 0 || strncmp(state, "55", 2) == 0 || strncmp(state, "58", 2) == 0)
	{
		class = strcmp(state, "57014") == 0 ? "timeout" : "broken";
		t->status = 503;
	}
	else
	{
		class = "sql";
		t->status = 400;
	}
	for (int i = 0; i < lengthof(known); i++)
	{
		if (strcmp(known[i].state, state) == 0)
			own = known[i].words;
	}
	if (own != NULL)
		crm_transfer_fail(t, "%s: %s %s (%.150s)", class, state, own, words);
	else
		crm_transfer_fail(t, "%s: %s %.200s", class, state, words);
	/* nothing is cut in the middle of a letter */
	t->error[pg_encoding_verifymbstr(PG_UTF8, t->error, strlen(t->error))] = '\0';
}

static void
head_line(CrmTransfer *t, const char *name, const char *value)
{
	(void) crm_buffer_append(&t->head, name, strlen(name), CRM_HEAD_LIMIT);
	(void) crm_buffer_append(&t->head, ": ", 2, CRM_HEAD_LIMIT);
	(void) crm_buffer_append(&t->head, value, strlen(value), CRM_HEAD_LIMIT);
	(void) crm_buffer_append(&t->head, "\r\n", 2, CRM_HEAD_LIMIT);
}

/*
 * libpq gives no SQLSTATE for a login that failed but in its most verbose
 * words: "FATAL:  28P01: …", in whatever language and encoding the rest is.
 */
static bool
find_sqlstate(const char *words, char *state)
{
	for (const char *at = strstr(words, ":  "); at != NULL; at = strstr(at + 1, ":  "))
	{
		if (strspn(at + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && at[8] == ':' && at[9] == ' ')
		{
			memcpy(state, at + 3, 5);
			state[5] = '\0';
			return true;
		}
	}
	return false;
}

/*
 * No login.
 */
static void
fail_connect(PgSession *s)
{
	CrmTransfer *t = s->transfer;
	const char *said = PQerrorMessage(s->conn);
	char		state[6];
	char		words[200];

	words_of(said, words, sizeof(words));
	if (find_sqlstate(said, state))
	{
		const char *after = strstr(words, state);

		head_line(t, "SQLSTATE", state);
		head_line(t, "Message", after ? after + 7 : words);
		fail_sqlstate(t, state, after ? after + 7 : words);
	}
	else if (PQconnectionNeedsPassword(s->conn))
	{
		t->status = 401;
		crm_transfer_fail(t, "auth: the server wants a password, and there is none");
	}
	else if (strstr(said, "SSL") != NULL || strstr(said, "certificate") != NULL)
		crm_transfer_fail(t, "tls: %s", words);
	else
		crm_transfer_fail(t, "connect: %s", words);
	end_transfer(s, false);
}

/*
 * The connection is gone in the middle.
 */
static void
lose_session(PgSession *s)
{
	CrmTransfer *t = s->transfer;
	PgCall	   *call;
	const char *said;
	const char *length;
	char		words[200];

	if (t == NULL)
	{
		close_session(s);
		return;
	}
	call = t->own;
	if (s->reused && !s->heard && !call->again && !t->lane->options.writes)
	{
		/* it had been closed behind our back: the same question on a fresh one */
		call->again = true;
		s->transfer = NULL;
		close_session(s);
		t->departures = 0;
		if (!crm_transfer_start(t))
		{
			if (t->handle != NULL)
				crm_easy_drop(t->handle);
			free_call(t);
			crm_transfer_done(t);
		}
		return;
	}
	if (t->error[0] == '\0')
	{
		said = PQerrorMessage(s->conn);
		words_of(said, words, sizeof(words));
		length = strstr(said, "length ");
		if (strstr(said, "memory") != NULL ||
			(length != NULL && strtoll(length + 7, NULL, 10) > t->lane->max_reply_bytes))
		{
			t->too_large = true;
			crm_transfer_fail(t, "too large: a row of the reply exceeds %d bytes", t->lane->max_reply_bytes);
		}
		else
			crm_transfer_fail(t, "broken: %s", words[0] ? words : "the connection ended before the whole reply");
	}
	end_transfer(s, false);
}

/* ---- the reply --------------------------------------------------------------- */

static bool
put(CrmTransfer *t, const char *data, size_t length)
{
	if (crm_buffer_append(&t->reply, data, length, (size_t) t->lane->max_reply_bytes))
		return true;
	t->too_large = true;
	crm_transfer_fail(t, "too large: the reply exceeds %d bytes", t->lane->max_reply_bytes);
	return false;
}

/*
 * A text as JSON; what is no UTF-8 becomes a question mark.
 */
static bool
put_text(CrmTransfer *t, const char *text, size_t length)
{
	size_t		from = 0;
	size_t		i = 0;

	if (!put(t, "\"", 1))
		return false;
	while (i < length)
	{
		unsigned char c = text[i];
		char		escape[8];
		int			width = 1;
		bool		good;

		if (c >= 0x80)
		{
			width = pg_utf_mblen((const unsigned char *) text + i);
			good = i + width <= length && pg_utf8_islegal((const unsigned char *) text + i, width);
			if (good)
			{
				i += width;
				continue;
			}
			width = 1;
			strlcpy(escape, "?", sizeof(escape));
		}
		else if (c == '"' || c == '\\')
			snprintf(escape, sizeof(escape), "\\%c", c);
		else if (c == '\0')
			strlcpy(escape, "?", sizeof(escape));
		else if (c < 0x20)
			snprintf(escape, sizeof(escape), "\\u%04x", c);
		else
		{
			i++;
			continue;
		}
		if (!put(t, text + from, i - from) || !put(t, escape, strlen(escape)))
			return false;
		i += width;
		from = i;
	}
	return put(t, text + from, length - from) && put(t, "\"", 1);
}

static bool
put_header(PgSession *s, const PGresult *result)
{
	CrmTransfer *t = s->transfer;

	if (s->header_out)
		return true;
	s->header_out = true;
	if (!put(t, "{\"columns\": [", 13))
		return false;
	for (int i = 0; i < PQnfields(result); i++)
	{
		const char *name = PQfname(result, i);

		if ((i > 0 && !put(t, ", ", 2)) || !put_text(t, name, strlen(name)))
			return false;
	}
	return put(t, "], \"rows\": [", 12);
}

static bool
put_rows(PgSession *s, const PGresult *result)
{
	CrmTransfer *t = s->transfer;

	for (int row = 0; row < PQntuples(result); row++)
	{
		if ((s->rows > 0 && !put(t, ",", 1)) || !put(t, "\n[", 2))
			return false;
		s->rows++;
		for (int i = 0; i < PQnfields(result); i++)
		{
			if ((i > 0 && !put(t, ",", 1)) ||
				!(PQgetisnull(result, row, i) ? put(t, "null", 4) :
				  put_text(t, PQgetvalue(result, row, i), PQgetlength(result, row, i))))
				return false;
		}
		if (!put(t, "]", 1))
			return false;
	}
	return true;
}

/*
 * One piece of the reply.  False: the connection is of no use any more.
 */
static bool
take(PgSession *s, const PGresult *result)
{
	CrmTransfer *t = s->transfer;
	const char *state;
	char		words[200];

	s->heard = true;
	switch (PQresultStatus(result))
	{
		case PGRES_SINGLE_TUPLE:
			return put_header(s, result) && put_rows(s, result);
		case PGRES_TUPLES_OK:
		case PGRES_COMMAND_OK:
			if (!put_header(s, result) || !put_rows(s, result) || !put(t, "]}", 2))
				return false;
			t->status = 200;
			return true;
		case PGRES_FATAL_ERROR:
			state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
			if (state == NULL || strlen(state) != 5)
			{
				/* libpq's own words: the connection broke */
				s->heard = s->header_out;
				return false;
			}
			if (s->failed)
				return true;
			s->failed = true;
			words_of(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) ?
					 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : "", words, sizeof(words));
			head_line(t, "SQLSTATE", state);
			head_line(t, "Message", words);
			fail_sqlstate(t, state, words);
			return true;
		default:
			crm_transfer_fail(t, "refused: the query is none that gives rows");
			return false;
	}
}

/*
 * Bytes that OpenSSL has read and libpq has not: no event tells of them.
 */
static bool
tls_pending(PGconn *conn)
{
	static int	(*pending) (const void *ssl) = NULL;
	void	   *ssl = PQsslStruct(conn, "OpenSSL");

	if (ssl == NULL)
		return false;
	if (pending == NULL)
		pending = (int (*) (const void *)) dlsym(RTLD_DEFAULT, "SSL_pending");
	return pending != NULL && pending(ssl) > 0;
}

typedef enum Outcome
{
	GOES_ON, WHOLE, GONE
} Outcome;

static Outcome
read_reply(PgSession *s)
{
	do
	{
		PGnotify   *notify;

		if (!PQconsumeInput(s->conn))
			return GONE;
		while ((notify = PQnotifies(s->conn)) != NULL)
			PQfreemem(notify);
		while (!PQisBusy(s->conn))
		{
			PGresult   *result = PQgetResult(s->conn);
			bool		good;

			if (result == NULL)
				return WHOLE;
			good = take(s, result);
			PQclear(result);
			if (!good)
				return GONE;
		}
		if (PQstatus(s->conn) != CONNECTION_OK)
			return GONE;
	} while (tls_pending(s->conn));
	return GOES_ON;
}

/* ---- the bound ---------------------------------------------------------------- */

/*
 * How many bytes have been read from the socket since it was opened.
 */
static int64
bytes_read(const PgSession *s)
{
	struct tcp_info info = {0};
	socklen_t	length = sizeof(info);
	int			unread = 0;

	if (s->fd < 0 || getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
		ioctl(s->fd, FIONREAD, &unread) != 0)
		return 0;
	return (int64) info.tcpi_bytes_received - unread;
}

/*
 * Whether libpq has been told more than a login needs; or than a query's rows
 * are, and one under way.  On the wire a row is less than twice as long as in
 * the reply.  True: the transfer is over.
 */
static bool
is_told_too_much(PgSession *s)
{
	CrmTransfer *t = s->transfer;
	bool		login = s->step == PG_CONNECTING;
	int64		bound = CHAT_BYTES;

	if (!login)
		bound += s->read_before + t->lane->max_reply_bytes + 2 * (int64) t->reply.length;
	if (bytes_read(s) <= bound)
		return false;
	t->too_large = true;
	crm_transfer_fail(t, "too large: the server sends more than %s", login ? "a login needs" : "the rows of a reply");
	end_transfer(s, false);
	return true;
}

/* ---- the steps --------------------------------------------------------------- */

static void
hush(void *arg, const PGresult *result)
{
	/* a notice is nobody's business */
}

/*
 * A connection, logged in: the query leaves.
 */
static void
begin(PgSession *s, CrmTransfer *t)
{
	PgCall	   *call = t->own;
	Guard		guard;
	bool		good;

	s->transfer = t;
	s->heard = s->failed = s->header_out = false;
	s->rows = 0;
	s->read_before = bytes_read(s);
	if (!PQconnectionUsedPassword(s->conn) && !t->lane->options.without_password)
	{
		t->status = 401;
		crm_transfer_fail(t, "auth: the server lets in whoever comes, without a password; the setting without_password says that this is meant");
		end_transfer(s, false);
		return;
	}
	enter(&guard, s->lane);
	good = PQsetnonblocking(s->conn, 1) == 0 &&
		PQsendQueryParams(s->conn, t->body, call->param_count, NULL, (const char *const *) call->params, NULL, NULL, 0) == 1 &&
		PQsetSingleRowMode(s->conn) == 1;
	leave(&guard);
	if (!good)
	{
		lose_session(s);
		return;
	}
	t->departures++;
	t->sent = true;
	s->carrier->departed(t);
	s->step = PG_SENDING;
	pump(s);
}

static void
pump(PgSession *s)
{
	Guard		guard;
	Outcome		outcome = GOES_ON;

	if (s->step == PG_IDLE)
	{
		/* nothing is to be said to a connection that waits for work */
		close_session(s);
		return;
	}
	if (s->step == PG_CONNECTING)
	{
		PostgresPollingStatusType now;

		lose_socket(s);
		enter(&guard, s->lane);
		now = PQconnectPoll(s->conn);
		leave(&guard);
		if (!find_socket(s))
		{
			crm_transfer_fail(s->transfer, "broken: no file descriptor left");
			end_transfer(s, false);
		}
		else if (is_told_too_much(s))
			return;
		else if (now == PGRES_POLLING_OK)
			begin(s, s->transfer);
		else if (now == PGRES_POLLING_FAILED || s->fd < 0)
			fail_connect(s);
		else
			wish(s, now == PGRES_POLLING_WRITING ? EPOLLOUT : EPOLLIN);
		return;
	}

	enter(&guard, s->lane);
	if (s->step == PG_SENDING)
	{
		int			left = PQflush(s->conn);

		if (left < 0)
			outcome = GONE;
		else if (left == 0)
			s->step = PG_READING;
	}
	if (outcome != GONE)
		outcome = read_reply(s);
	leave(&guard);

	if (outcome == WHOLE)
	{
		if (s->transfer->status == 0 && s->transfer->error[0] == '\0')
			crm_transfer_fail(s->transfer, "broken: the server ended its reply without a result");
		end_transfer(s, PQstatus(s->conn) == CONNECTION_OK);
	}
	else if (outcome == GONE)
		lose_session(s);
	else if (!is_told_too_much(s))
		wish(s, s->step == PG_SENDING ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void
on_ready(int fd, uint32 events)
{
	dlist_iter	iter;

	dlist_foreach(iter, &sessions)
	{
		PgSession  *s = dlist_container(PgSession, node, iter.cur);

		if (s->fd == fd)
		{
			pump(s);
			return;
		}
	}
	crm_loop_want(fd, 0, on_ready);
}

/*
 * The addresses are known: connect.  False: the transfer's error says why not.
 */
static bool
connect_session(CrmTransfer *t, const CrmCarrier *carrier)
{
	PgCall	   *call = t->own;
	const CrmOptions *options = &t->lane->options;
	const char *mode = call->sslmode ? call->sslmode : options->sslmode;
	PgSession  *s = calloc(1, sizeof(PgSession));
	const char *keywords[24];
	const char *values[24];
	char		hosts[ADDRESSES * 260];
	char		addresses[ADDRESSES * (INET6_ADDRSTRLEN + 1)];
	char		settings[320];
	char		host[260];
	int			limit = Max(t->timeout_ms - Max(t->timeout_ms / 10, 200), 100);
	int			n = 0;
	Guard		guard;

	if (s != NULL)
		s->key = make_key(t, &s->key_length);
	if (s == NULL || s->key == NULL)
	{
		free(s);
		crm_transfer_fail(t, "broken: out of memory");
		return false;
	}
	s->carrier = carrier;
	s->lane = t->lane;
	s->options_version = t->lane->options_version;
	s->fd = -1;
	s->step = PG_CONNECTING;
	s->transfer = t;
	s->connect_us = crm_worker_us();

	/* a name for each address: it is the name that a certificate proves */
	strlcpy(host, call->host[0] == '[' ? call->host + 1 : call->host, sizeof(host));
	host[strcspn(host, "]")] = '\0';
	hosts[0] = addresses[0] = '\0';
	for (int i = 0; i < call->address_count; i++)
	{
		size_t		h = strlen(hosts);
		size_t		a = strlen(addresses);

		snprintf(hosts + h, sizeof(hosts) - h, "%s%s", i > 0 ? "," : "", host);
		snprintf(addresses + a, sizeof(addresses) - a, "%s%s", i > 0 ? "," : "", call->addresses[i]);
	}
	snprintf(settings, sizeof(settings),
			 "-c default_transaction_read_only=%s -c statement_timeout=%d -c lock_timeout=%d -c search_path=pg_catalog"
			 " -c datestyle=ISO -c timezone=UTC -c bytea_output=hex -c standard_conforming_strings=on",
			 options->writes ? "off" : "on", limit, limit);

#define SAY(keyword, value) (keywords[n] = (keyword), values[n++] = (value))
	SAY("host", hosts);
	SAY("hostaddr", addresses);
	SAY("port", call->port ? call->port : "5432");
	SAY("dbname", call->database);
	SAY("user", t->username);
	SAY("password", t->password ? t->password : "");
	SAY("passfile", NO_FILE);
	SAY("application_name", "crm courier");
	SAY("client_encoding", "UTF8");
	SAY("options", settings);
	SAY("sslmode", mode ? mode : call->beyond_loopback ? "verify-full" : "prefer");
	SAY("sslrootcert", options->ca_file ? options->ca_file :
		curl_version_info(CURLVERSION_NOW)->cainfo ? curl_version_info(CURLVERSION_NOW)->cainfo : NO_FILE);
	SAY("sslcert", NO_FILE);
	SAY("sslkey", NO_FILE);
	SAY("sslcrl", NO_FILE);
	SAY("ssl_min_protocol_version", "TLSv1.2");
	SAY("gssencmode", "disable");
	SAY("target_session_attrs", "any");
	SAY(NULL, NULL);
#undef SAY

	if (t->probe)
		hide_environment(false);
	enter(&guard, t->lane);
	s->conn = PQconnectStartParams(keywords, values, 0);
	if (s->conn != NULL)
	{
		PQsetErrorVerbosity(s->conn, PQERRORS_VERBOSE);
		PQsetErrorContextVisibility(s->conn, PQSHOW_CONTEXT_NEVER);
		PQsetNoticeReceiver(s->conn, hush, NULL);
	}
	leave(&guard);
	dlist_push_tail(&sessions, &s->node);
	if (s->conn == NULL || !find_socket(s) || PQstatus(s->conn) == CONNECTION_BAD || s->fd < 0)
	{
		char		words[200];

		words_of(s->conn ? PQerrorMessage(s->conn) : "out of memory", words, sizeof(words));
		crm_transfer_fail(t, "connect: %s", words);
		s->transfer = NULL;
		close_session(s);
		return false;
	}
	wish(s, EPOLLOUT);
	return true;
}

/*
 * libcurl is done with the name.  True: the transfer goes on by itself.
 */
static bool
pg_resolved(CrmTransfer *t, CrmHandle *handle, CURLcode code)
{
	PgCall	   *call = t->own;

	if (call->address_count == 0)
	{
		crm_transfer_fail_code(t, handle->easy, code == CURLE_OK ? CURLE_COULDNT_CONNECT : code);
		free_call(t);
		return false;
	}
	t->host_refused = false;
	if (connect_session(t, handle->carrier))
		return true;
	free_call(t);
	return false;
}

/*
 * True when a kept connection has taken the transfer.
 */
static bool
pg_resume(CrmTransfer *t)
{
	dlist_iter	iter;
	PgSession  *found = NULL;
	size_t		length;
	char	   *key;

	if (!open_call(t))
	{
		free_call(t);
		return false;
	}
	if (idle_count == 0 || (key = make_key(t, &length)) == NULL)
		return false;
	dlist_foreach(iter, &sessions)
	{
		PgSession  *s = dlist_container(PgSession, node, iter.cur);

		if (s->step == PG_IDLE && s->lane == t->lane && s->options_version == t->lane->options_version &&
			s->key_length == length && memcmp(s->key, key, length) == 0)
			found = s;
	}
	crm_session_key_free(key, length);
	if (found == NULL)
		return false;
	idle_count--;
	found->reused = true;
	begin(found, t);
	return true;
}

static int64
deadline_of(const PgSession *s)
{
	int64		at;

	if (s->transfer == NULL)
		return s->idle_since_us + IDLE_US;
	at = s->transfer->started_us + (int64) s->transfer->timeout_ms * 1000;
	return s->step == PG_CONNECTING ? Min(at, s->connect_us + (int64) CRM_CONNECT_MS * 1000) : at;
}

/*
 * When crm_pg_expire is due next, in crm_worker_us(); -1 = never.
 */
int64
crm_pg_deadline(void)
{
	dlist_iter	iter;
	int64		at = -1;

	dlist_foreach(iter, &sessions)
	{
		int64		mine = deadline_of(dlist_container(PgSession, node, iter.cur));

		if (at < 0 || mine < at)
			at = mine;
	}
	return at;
}

void
crm_pg_expire(int64 now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sessions)
	{
		PgSession  *s = dlist_container(PgSession, node, iter.cur);

		if (now < deadline_of(s))
			continue;
		if (s->transfer == NULL)
		{
			close_session(s);
			continue;
		}
		if (s->step == PG_CONNECTING)
			crm_transfer_fail(s->transfer, "timeout: no login within %d ms",
							  Min(s->transfer->timeout_ms, CRM_CONNECT_MS));
		else
			crm_transfer_fail(s->transfer, "timeout: no whole reply within %d ms", s->transfer->timeout_ms);
		end_transfer(s, false);
	}
}

static PgSession *
session_of(const CrmTransfer *t)
{
	dlist_iter	iter;

	dlist_foreach(iter, &sessions)
	{
		PgSession  *s = dlist_container(PgSession, node, iter.cur);

		if (s->transfer == t)
			return s;
	}
	return NULL;
}

/*
 * For a session of a person: wait up to so long and go on.  True: it has ended.
 */
static bool
pg_step(CrmTransfer *t, int timeout_ms)
{
	PgSession  *s = session_of(t);
	struct pollfd ready;
	sigset_t	all;
	sigset_t	before;

	if (s == NULL)
		return true;
	ready.fd = s->fd;
	ready.events = s->want & EPOLLOUT ? (s->want & EPOLLIN ? POLLIN | POLLOUT : POLLOUT) : POLLIN;
	ready.revents = 0;
	sigfillset(&all);
	(void) poll(&ready, 1, timeout_ms);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (ready.revents != 0)
		pump(s);
	crm_pg_expire(crm_worker_us());
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return session_of(t) == NULL;
}

/*
 * Whatever the transfer still has.
 */
static void
pg_release(CrmTransfer *t)
{
	PgSession  *s = session_of(t);

	if (s != NULL)
	{
		s->transfer = NULL;
		close_session(s);
	}
	free_call(t);
	if (t->probe)
		show_environment();
}

const CrmTransport crm_pg_transport = {
	.schemes = pg_schemes,
	.method = "SQL",
	.protocols = "http",
	.prepare = pg_prepare,
	.resolved = pg_resolved,
	.resume = pg_resume,
	.step = pg_step,
	.release = pg_release
};
