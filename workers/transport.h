/*-------------------------------------------------------------------------
 *
 * transport.h
 *	  A request on its way: from the claim, over the wire, to the settle.
 *
 * request.c copies a request and says what is wrong with it; easy.c holds what
 * is the same for every request, whoever moves it; address.c decides who may be
 * spoken to; transfer.c moves many in the courier's one wait, fetch.c one in a
 * session.
 *
 * A transport is one struct of functions; transports[] in request.c is the
 * short table of all.  A transport knows how to move
 * bytes and nothing of what they mean.
 *
 * Life of a transfer: waiting (in its lane) -> running (in the multi handle, or
 * in a session of its transport) -> done (in its lane, until its settle has
 * committed) -> pool.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_TRANSPORT_H
#define CRM_TRANSPORT_H

#include "postgres.h"

#include "access/tupdesc.h"

#include <curl/curl.h>

#include "lib/ilist.h"
#include "utils/jsonb.h"

#define CRM_ERROR_LEN		256
#define CRM_HEAD_LIMIT		(64 * 1024)
#define CRM_URL_LIMIT		(8 * 1024)
#define CRM_HEADERS_LIMIT	64
#define CRM_TIMEOUT_MS		30000
#define CRM_TIMEOUT_MAX_MS	600000
#define CRM_CONNECT_MS		10000

/* bytes from outside: malloc'd, bounded, never palloc'd (filled in call-backs) */
typedef struct CrmBuffer
{
	char	   *data;
	size_t		length;
	size_t		size;
} CrmBuffer;

/* what an integration's options say; parsed once for each text of them */
typedef struct CrmOptions
{
	char	   *ca_file;		/* NULL: the system's */
	char	   *proxy;			/* NULL: none, whatever the environment says */
	bool		starttls;		/* smtp:// must be encrypted by STARTTLS */
	char	   *sslmode;		/* of libpq; NULL: verify-full, beyond loopback */
	bool		writes;			/* a database may be written to */
	bool		without_password;	/* it may let us in without asking for one */
	char	  **allow_hosts;	/* NULL: any but link-local */
	int			allow_count;
} CrmOptions;

/* one integration in this courier; malloc'd, lives as long as the process */
typedef struct CrmLane
{
	int64		integration;	/* hash key */
	int			max_in_flight;
	int			max_reply_bytes;
	CrmOptions	options;
	char	   *options_raw;	/* the jsonb that options was parsed from */
	size_t		options_size;
	int			options_version;

	dlist_head	waiting;
	int			waiting_count;
	dlist_node *urgent_last;	/* in a claim: the last urgent one that was put in front */
	int			running;
	dlist_head	done;
	int			done_count;

	int			window;			/* requests that it may hold */
	int			room;			/* asked for in the last claim; below 0: of urgent ones only */
	int			got;			/* and given */
	bool		asked;			/* whether the last claim came to it */
	uint64		asked_turn;		/* the last claim that did */
	bool		more;			/* it may have more to give */
	int64		mean_us;		/* of a request's time on the way, moving */
	int64		filled_us;		/* when it was last given any */
	int			filled;			/* how many it held then */
	int			settle_failures;	/* in a row, transient */
	int64		settle_not_before;	/* ms */
	bool		settle_singly;	/* find the culprit */
} CrmLane;

struct CrmTransport;
struct CrmTransfer;

/*
 * Who moves the bytes: the courier's loop or a session.  Called by libcurl, so
 * nothing of it may throw; libcurl keeps the pointer as long as a connection.
 */
typedef struct CrmCarrier
{
	bool		(*opened) (int fd); /* false: no room for one more */
	void		(*closing) (int fd);
	void		(*departed) (struct CrmTransfer *transfer);
} CrmCarrier;

/* an easy handle; call-backs get it, and find the transfer that it serves */
typedef struct CrmHandle
{
	struct CrmHandle *next;
	CURL	   *easy;
	const CrmCarrier *carrier;
	struct CrmTransfer *transfer;
	const struct CrmTransport *transport;	/* whose protocols are set */
	CrmLane    *lane;			/* whose ca_file and proxy are set */
	int			options_version;
	bool		size_known;		/* SMTP: the server has said SIZE */
	char		words[CURL_ERROR_SIZE];
} CrmHandle;

typedef struct CrmTransfer
{
	dlist_node	node;
	CrmLane    *lane;
	const struct CrmTransport *transport;
	int64		ref;
	int			flight;			/* slot in the flight file, -1 = none */
	bool		ref_null;

	/* the request: everything points into block */
	char	   *block;
	size_t		block_size;
	char	   *method;
	char	   *url;
	char	   *username;
	char	   *password;
	char	   *body;
	size_t		body_length;
	char	   *context;		/* jsonb as it came, a varlena; NULL */
	size_t		context_size;
	struct curl_slist *headers; /* made by hand inside block */
	int			timeout_ms;
	char	   *from;			/* SMTP: inside block, once looked through */
	char	   *recipient;
	void	   *own;			/* of its transport; goes by its release */

	/* while it runs */
	CrmHandle  *handle;
	int64		started_us;
	int			departures;		/* times that its bytes were about to leave */
	bool		probe;			/* only a test: no letter is sent */
	bool		reply_ended;	/* the next line begins another reply */
	bool		too_large;
	size_t		head_bytes;		/* of all replies so far */
	bool		host_refused;
	char		address[64];

	/* the reply */
	int			status;
	bool		sent;
	int			elapsed_ms;
	char		error[CRM_ERROR_LEN];	/* "" = a whole reply came */
	CrmBuffer	head;
	CrmBuffer	reply;
	int			settle_tries;
} CrmTransfer;

typedef struct CrmTransport
{
	const char *const *schemes; /* "http://", …, NULL */
	const char *method;			/* its own and only one, or NULL */
	const char *protocols;		/* for CURLOPT_PROTOCOLS_STR */

	/* options of one request; false: transfer->error says why not */
	bool		(*prepare) (CrmTransfer *transfer, CURL *easy);

	/* a header line; false: stop */
	bool		(*header) (CrmTransfer *transfer, const char *line, size_t length);

	/* the connection stands, bytes are about to leave: mark the flight or not */
	void		(*departing) (CrmTransfer *transfer);

	/* status, sent and, unless a whole reply came, error */
	void		(*finish) (CrmTransfer *transfer, CURL *easy, CURLcode code);

	/*
	 * The rest is for a transport that libcurl only brings as far as an open
	 * connection, logged in; else NULL.  connected takes the handle over.
	 * resume: true when a kept connection has taken the transfer.
	 */
	void		(*connected) (CrmTransfer *transfer, CrmHandle *handle);
	bool		(*resume) (CrmTransfer *transfer);

	/*
	 * And this for one that only has libcurl resolve a name: then the rest of
	 * the life is its own.  resolved: true when the transfer goes on.  step:
	 * for a session that waits by itself, true when it has ended.  release:
	 * what hangs on a transfer that is given up.
	 */
	bool		(*resolved) (CrmTransfer *transfer, CrmHandle *handle, CURLcode code);
	bool		(*step) (CrmTransfer *transfer, int timeout_ms);
	void		(*release) (CrmTransfer *transfer);
} CrmTransport;

extern const CrmTransport crm_http_transport;
extern const CrmTransport crm_smtp_transport;
extern const CrmTransport crm_pg_transport;

/* what a claim brings; palloc'd, copied by crm_transfer_new */
typedef struct CrmText
{
	const char *data;			/* NULL = SQL NULL */
	size_t		length;
} CrmText;

typedef struct CrmRequest
{
	int64		ref;
	bool		ref_null;
	CrmText		method;
	CrmText		url;
	CrmText		headers[CRM_HEADERS_LIMIT];
	int			header_count;	/* -1: too many */
	CrmText		body;
	CrmText		username;
	CrmText		password;
	CrmText		context;
	int			timeout_ms;		/* 0 = default */
} CrmRequest;

/* address.c */
extern bool crm_address_allowed(const CrmOptions *options, const char *url, int family,
								const void *bytes);
extern bool crm_address_text_allowed(const CrmOptions *options, const char *url, const char *address);
extern bool crm_url_allowed(const CrmOptions *options, const char *url);
extern char *crm_url_ascii(const char *url, size_t length);

/* options.c */
extern void crm_options_parse(const Jsonb *settings, CrmOptions *options);
extern void crm_options_free(CrmOptions *options);

/* request.c */
extern CrmTransfer *crm_transfer_new(CrmLane *lane, const CrmRequest *request);
extern void crm_transfer_free(CrmTransfer *transfer);
extern size_t crm_transfer_bytes(void);
extern bool crm_buffer_append(CrmBuffer *buffer, const char *data, size_t length, size_t limit);
extern char *crm_session_key(const CrmTransfer *transfer, const char *more, size_t *length);
extern void crm_session_key_free(char *key, size_t length);

/* easy.c */
extern CrmHandle *crm_easy_new(const CrmCarrier *carrier);
extern bool crm_easy_arm(CrmHandle *handle, CrmTransfer *transfer);
extern void crm_easy_drop(CrmHandle *handle);
extern void crm_transfer_depart(CrmTransfer *transfer);
extern void crm_transfer_fail(CrmTransfer *transfer, const char *format,...) pg_attribute_printf(2, 3);
extern void crm_transfer_fail_code(CrmTransfer *transfer, CURL *easy, CURLcode code);

/* transfer.c */
extern int	crm_transfer_open(void);
extern bool crm_transfer_start(CrmTransfer *transfer);
extern CrmTransfer *crm_transfer_finished(void);
extern long crm_transfer_wait_ms(void);
extern void crm_transfer_kick(void);
extern void crm_transfer_leave(CrmHandle *handle);
extern void crm_transfer_done(CrmTransfer *transfer);

/* smtp.c */
extern int64 crm_smtp_deadline(void);
extern void crm_smtp_expire(int64 now);

/* pg.c */
extern void crm_pg_open(void);
extern int64 crm_pg_deadline(void);
extern void crm_pg_expire(int64 now);

/* composite.c */
#define CRM_REQUEST_COLUMNS 9

typedef struct CrmRequestType
{
	TupleDesc	desc;			/* NULL: not looked at yet */
	int			map[CRM_REQUEST_COLUMNS];	/* places of the columns */
} CrmRequestType;

extern void crm_request_read(CrmRequestType *type, Datum composite, CrmRequest *request);
extern TupleDesc crm_reply_desc(Oid *type);
extern Datum crm_reply_datum(const CrmTransfer *transfer, TupleDesc desc);
extern Datum crm_text_from_outside(const char *data, size_t length);

/* flight.c */
typedef struct CrmFlightFound
{
	int			number;			/* of the courier whose file it is */
	bool		trusted;		/* the pairs are exactly what may have left */
	int			count;
	int64	   *integrations;	/* in TopMemoryContext; NULL without pairs */
	int64	   *refs;
} CrmFlightFound;

extern int64 crm_flight_open(Oid database, int number, CrmFlightFound *found,
							   int *found_count);
extern void crm_flight_begin(void);
extern int	crm_flight_reserve(void);
extern void crm_flight_mark(int place, int64 integration, int64 ref);
extern void crm_flight_clear(int place);
extern int	crm_flight_free(void);
extern void crm_flight_sweep(const Oid *databases, int count);

#endif							/* CRM_TRANSPORT_H */
