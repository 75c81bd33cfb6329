/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  One request carried in the calling session, for crm.integration_test().
 *
 * The couriers carry everything else.  This one is for a person who waits: it
 * is interruptible, takes at most ten seconds, follows no redirect, keeps
 * certificates verified, and for SMTP logs in and says NOOP instead of
 * sending anything.
 *
 * Nothing may throw inside of a call-back of libcurl: call-backs copy into
 * malloc'd memory with a bound and return a short count beyond it.  All
 * signals are blocked around calls that may start the resolver's thread,
 * which would otherwise run our handlers.  Handles are freed in every outcome.
 * No lock is taken.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <strings.h>
#include <sys/socket.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#define FETCH_MAX_MS		10000
#define FETCH_SLICE_MS		50
#define FETCH_HEADER_BYTES	65536

/* Bytes from outside, bounded, outside of palloc. */
typedef struct Gathered
{
	char	   *data;
	size_t		length;
	size_t		limit;
	bool		too_long;
} Gathered;

typedef struct Fetch
{
	CURLM	   *multi;
	CURL	   *easy;
	struct curl_slist *headers;
	Gathered	header;
	Gathered	body;
	char		error[CURL_ERROR_SIZE];
	bool		refused;
	char	  **allowed;		/* made before the transfer; call-backs only
								 * read it */
	int			number_allowed;
	bool		name_allowed;
} Fetch;

/* The fields of crm.request, in their order. */
enum
{
	REQ_REF, REQ_METHOD, REQ_URL, REQ_HEADERS, REQ_BODY, REQ_USERNAME, REQ_PASSWORD, REQ_TIMEOUT, REQ_CONTEXT,
	REQ_FIELDS
};

#define REPLY_FIELDS 8

/* The request, taken apart. */
typedef struct FetchRequest
{
	Datum		values[REQ_FIELDS];
	bool		nulls[REQ_FIELDS];
	char	   *method;
	char	   *url;
	bool		smtp;
} FetchRequest;

static void take_apart(Datum request, FetchRequest *r);
static void refuse_control_characters(const char *text, const char *what);
static bool host_allowed(const char *url, char **allowed, int number);
static void initialise_curl(void);
static void set_up(Fetch *f, FetchRequest *r, const char *ca_file, int limit_ms);
static bool carry(Fetch *f, int limit_ms, CURLcode *result);
static const char *error_of(Fetch *f, FetchRequest *r, bool done, CURLcode result, long status, int limit_ms);
static const char *class_of(CURLcode result);
static text *plain_text(Gathered *g);
static size_t gather(char *data, size_t size, size_t number, void *to);
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address);
static bool address_in(const struct sockaddr *address, const char *network);
static void clean_up(Fetch *f);

PG_FUNCTION_INFO_V1(crm_integration_fetch);

Datum
crm_integration_fetch(PG_FUNCTION_ARGS)
{
	Fetch	   *f;
	FetchRequest r;
	char	   *ca_file = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			limit_ms = PG_ARGISNULL(4) ? FETCH_MAX_MS : PG_GETARG_INT32(4);
	CURLcode	result = CURLE_OK;
	instr_time	start;
	instr_time	end;
	Datum		values[REPLY_FIELDS] = {0};
	bool		nulls[REPLY_FIELDS] = {0};
	TupleDesc	desc;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != REPLY_FIELDS)
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("crm.reply is not the type that this library knows"),
				errhint("ALTER EXTENSION crm UPDATE; or restart with the matching library."));

	take_apart(PG_GETARG_DATUM(0), &r);
	limit_ms = Min(Max(limit_ms, 100), FETCH_MAX_MS);
	if (!r.nulls[REQ_TIMEOUT])
		limit_ms = Min(limit_ms, Max(DatumGetInt32(r.values[REQ_TIMEOUT]), 100));

	f = palloc0(sizeof(Fetch));
	f->header.limit = FETCH_HEADER_BYTES;
	f->body.limit = PG_ARGISNULL(3) ? 1024 * 1024 : Max(PG_GETARG_INT32(3), 0);
	if (!PG_ARGISNULL(2))
	{
		Datum	   *names;
		bool	   *name_nulls;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), TEXTOID, -1, false, TYPALIGN_INT,
						  &names, &name_nulls, &f->number_allowed);
		f->allowed = palloc(sizeof(char *) * (f->number_allowed + 1));
		for (int i = 0; i < f->number_allowed; i++)
			f->allowed[i] = name_nulls[i] ? pstrdup("") : TextDatumGetCString(names[i]);
		f->name_allowed = host_allowed(r.url, f->allowed, f->number_allowed);
	}

	initialise_curl();
	INSTR_TIME_SET_CURRENT(start);
	PG_TRY();
	{
		const char *error;
		long		status = 0;
		long		request_size = 0;
		bool		done;

		set_up(f, &r, ca_file, limit_ms);
		done = carry(f, limit_ms, &result);
		curl_easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(f->easy, CURLINFO_REQUEST_SIZE, &request_size);
		INSTR_TIME_SET_CURRENT(end);
		INSTR_TIME_SUBTRACT(end, start);

		error = error_of(f, &r, done, result, status, limit_ms);
		values[0] = r.values[REQ_REF];
		nulls[0] = r.nulls[REQ_REF];
		values[1] = Int32GetDatum((int32) status);
		values[2] = PointerGetDatum(plain_text(&f->header));
		values[3] = PointerGetDatum(cstring_to_text_with_len(f->body.data ? f->body.data : "", f->body.length));
		if (error)
			values[4] = CStringGetTextDatum(error);
		else
			nulls[4] = true;
		values[5] = BoolGetDatum(request_size > 0 || status > 0);
		values[6] = Int32GetDatum((int32) INSTR_TIME_GET_MILLISEC(end));
		values[7] = r.values[REQ_CONTEXT];
		nulls[7] = r.nulls[REQ_CONTEXT];
	}
	PG_FINALLY();
	{
		clean_up(f);
	}
	PG_END_TRY();

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

static void
take_apart(Datum request, FetchRequest *r)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(request);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;

	if (desc->natts != REQ_FIELDS)
	{
		ReleaseTupleDesc(desc);
		ereport(ERROR,
				errcode(ERRCODE_DATATYPE_MISMATCH),
				errmsg("crm.request is not the type that this library knows"),
				errhint("ALTER EXTENSION crm UPDATE; or restart with the matching library."));
	}
	memset(&tuple, 0, sizeof(tuple));
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	heap_deform_tuple(&tuple, desc, r->values, r->nulls);
	ReleaseTupleDesc(desc);

	if (r->nulls[REQ_METHOD] || r->nulls[REQ_URL])
		ereport(ERROR,
				errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				errmsg("a request without method or url"),
				errhint("Give both."));
	r->method = TextDatumGetCString(r->values[REQ_METHOD]);
	r->url = TextDatumGetCString(r->values[REQ_URL]);
	r->smtp = strcmp(r->method, "SMTP") == 0;
	refuse_control_characters(r->method, "method");
	refuse_control_characters(r->url, "url");
	if (r->method[0] == '\0' || strpbrk(r->method, " :/") != NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("\"%s\" is no method", r->method),
				errhint("Use GET, POST, PUT, DELETE, PATCH, HEAD or SMTP."));
}

static void
refuse_control_characters(const char *text, const char *what)
{
	for (const unsigned char *c = (const unsigned char *) text; *c; c++)
		if (*c < 0x20 || *c == 0x7f)
			ereport(ERROR,
					errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("a control character in the %s of a request", what),
					errhint("Encode it, or leave it out."));
}

/* Whether the list names the host of the URL itself. */
static bool
host_allowed(const char *url, char **allowed, int number)
{
	CURLU	   *parts = curl_url();
	char	   *host = NULL;
	bool		result = false;

	if (parts && curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
		curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK)
	{
		for (int i = 0; i < number; i++)
			if (strcasecmp(allowed[i], host) == 0)
				result = true;
		curl_free(host);
	}
	curl_url_cleanup(parts);
	return result;
}

static void
initialise_curl(void)
{
	static bool ready = false;
	sigset_t	all;
	sigset_t	before;
	CURLcode	code;

	if (ready)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code != CURLE_OK)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("libcurl could not be initialised: %s", curl_easy_strerror(code)));
	ready = true;
}

static void
set_up(Fetch *f, FetchRequest *r, const char *ca_file, int limit_ms)
{
	CURL	   *easy;

	f->multi = curl_multi_init();
	f->easy = easy = curl_easy_init();
	if (f->multi == NULL || easy == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory for a transfer"));

	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_URL, r->url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, r->smtp ? "smtp,smtps" : "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	/* bounded after unpacking: the cap is counted where the body arrives */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	if (ca_file && ca_file[0])
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) limit_ms);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, f->error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, gather);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &f->body);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, gather);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, &f->header);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, f);
	if (!r->nulls[REQ_USERNAME])
	{
		curl_easy_setopt(easy, CURLOPT_USERNAME, TextDatumGetCString(r->values[REQ_USERNAME]));
		if (!r->smtp)
			curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long) CURLAUTH_BASIC);
	}
	if (!r->nulls[REQ_PASSWORD])
		curl_easy_setopt(easy, CURLOPT_PASSWORD, TextDatumGetCString(r->values[REQ_PASSWORD]));

	if (r->smtp)
	{
		curl_easy_setopt(easy, CURLOPT_USE_SSL, (long) CURLUSESSL_TRY);
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "NOOP");
		return;
	}
	if (!r->nulls[REQ_HEADERS])
	{
		Datum	   *lines;
		bool	   *line_nulls;
		int			number;

		deconstruct_array(DatumGetArrayTypeP(r->values[REQ_HEADERS]), TEXTOID, -1, false, TYPALIGN_INT,
						  &lines, &line_nulls, &number);
		for (int i = 0; i < number; i++)
		{
			struct curl_slist *longer;
			char	   *line;

			if (line_nulls[i])
				continue;
			line = TextDatumGetCString(lines[i]);
			refuse_control_characters(line, "headers");
			longer = curl_slist_append(f->headers, line);
			if (longer == NULL)
				ereport(ERROR,
						errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("out of memory for a transfer"));
			f->headers = longer;
		}
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, f->headers);
	}
	if (strcmp(r->method, "HEAD") == 0)
	{
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
		return;
	}
	if (!r->nulls[REQ_BODY])
	{
		bytea	   *body = DatumGetByteaPP(r->values[REQ_BODY]);

		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) VARSIZE_ANY_EXHDR(body));
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, VARDATA_ANY(body));
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
}

/* Moves the bytes; false when the time was over first. */
static bool
carry(Fetch *f, int limit_ms, CURLcode *result)
{
	instr_time	start;
	sigset_t	all;
	sigset_t	before;

	sigfillset(&all);
	INSTR_TIME_SET_CURRENT(start);
	if (curl_multi_add_handle(f->multi, f->easy) != CURLM_OK)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory for a transfer"));
	for (;;)
	{
		int			running = 0;
		int			left;
		CURLMcode	code;
		CURLMsg    *message;
		instr_time	now;

		pthread_sigmask(SIG_SETMASK, &all, &before);
		code = curl_multi_perform(f->multi, &running);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		CHECK_FOR_INTERRUPTS();
		if (code != CURLM_OK)
			ereport(ERROR,
					errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					errmsg("the transfer failed: %s", curl_multi_strerror(code)));
		while ((message = curl_multi_info_read(f->multi, &left)) != NULL)
			if (message->msg == CURLMSG_DONE)
			{
				*result = message->data.result;
				return true;
			}
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		if (running == 0 || INSTR_TIME_GET_MILLISEC(now) > limit_ms)
			return false;
		(void) curl_multi_poll(f->multi, NULL, 0, FETCH_SLICE_MS, NULL);
	}
}

/* Why no whole reply came, in the words of crm.reply.error; NULL when one did. */
static const char *
error_of(Fetch *f, FetchRequest *r, bool done, CURLcode result, long status, int limit_ms)
{
	if (f->body.too_long || f->header.too_long)
		return psprintf("too large: the reply is longer than %zu bytes",
						f->body.too_long ? f->body.limit : f->header.limit);
	if (f->refused)
		return "refused: the address is not in allow_hosts";
	if (!done)
		return psprintf("timeout: no whole reply in %d ms", limit_ms);
	if (result == CURLE_OK || (r->smtp && status >= 400))
		return NULL;
	return psprintf("%s %s", class_of(result), f->error[0] ? f->error : curl_easy_strerror(result));
}

static const char *
class_of(CURLcode result)
{
	switch (result)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
		case CURLE_COULDNT_RESOLVE_PROXY:
			return "resolve:";
		case CURLE_COULDNT_CONNECT:
			return "connect:";
		case CURLE_OPERATION_TIMEDOUT:
			return "timeout:";
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_USE_SSL_FAILED:
			return "tls:";
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_URL_MALFORMAT:
			return "refused:";
		default:
			return "broken:";
	}
}

/* Header lines as text: what is beyond ASCII is of no use in them. */
static text *
plain_text(Gathered *g)
{
	for (size_t i = 0; i < g->length; i++)
		if ((unsigned char) g->data[i] >= 0x80 || g->data[i] == '\0')
			g->data[i] = '?';
	return cstring_to_text_with_len(g->data ? g->data : "", g->length);
}

/* Call-back of libcurl: no palloc, no throw. */
static size_t
gather(char *data, size_t size, size_t number, void *to)
{
	Gathered   *g = to;
	size_t		length = size * number;
	char	   *longer;

	if (length > g->limit - g->length)
	{
		g->too_long = true;
		return 0;
	}
	longer = realloc(g->data, g->length + length + 1);
	if (longer == NULL)
		return 0;
	g->data = longer;
	memcpy(g->data + g->length, data, length);
	g->length += length;
	return length;
}

/* Call-back of libcurl: decides by the resolved address. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	Fetch	   *f = arg;
	bool		good = f->allowed == NULL || f->name_allowed;

	for (int i = 0; i < f->number_allowed && !good; i++)
		good = address_in(&address->addr, f->allowed[i]);
	if (!good)
	{
		f->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Whether an address lies in "a.b.c.d", "a.b.c.d/n", or their like of IPv6. */
static bool
address_in(const struct sockaddr *address, const char *network)
{
	char		text[80];
	char	   *slash;
	unsigned char net[16];
	const unsigned char *own;
	int			whole;
	int			bits;

	if (strlcpy(text, network, sizeof(text)) >= sizeof(text))
		return false;
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	if (address->sa_family == AF_INET)
		own = (const unsigned char *) &((const struct sockaddr_in *) address)->sin_addr;
	else if (address->sa_family == AF_INET6)
		own = (const unsigned char *) &((const struct sockaddr_in6 *) address)->sin6_addr;
	else
		return false;
	if (inet_pton(address->sa_family, text, net) != 1)
		return false;
	whole = address->sa_family == AF_INET ? 32 : 128;
	bits = slash ? atoi(slash + 1) : whole;
	if (bits < 0 || bits > whole || memcmp(own, net, bits / 8) != 0)
		return false;
	return bits % 8 == 0 || (own[bits / 8] >> (8 - bits % 8)) == (net[bits / 8] >> (8 - bits % 8));
}

static void
clean_up(Fetch *f)
{
	if (f->easy)
	{
		if (f->multi)
			curl_multi_remove_handle(f->multi, f->easy);
		curl_easy_cleanup(f->easy);
	}
	if (f->multi)
		curl_multi_cleanup(f->multi);
	curl_slist_free_all(f->headers);
	free(f->header.data);
	free(f->body.data);
}
