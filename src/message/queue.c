/*-------------------------------------------------------------------------
 *
 * queue.c
 *	  The queue of messages in the memory of the process that claims.
 *
 * One courier leases an integration, so nothing here is shared and no lock
 * guards anything.  For each integration and lane the process keeps
 *
 *	 base	 every message up to this id was seen, and none below can still
 *			 commit;
 *	 seen	 a bitmap of the ids above base that were seen;
 *	 ring	 messages that were read and not yet handed out.
 *
 * An id that commits late must not be lost.  crm.next_message_id() gives its
 * transaction an xid before it draws the number.  So when the newest number
 * was N while the next xid was X, every transaction that drew a number up to
 * N has an xid before X; once a snapshot's xmin has reached X all of them are
 * over, and a scan with a later snapshot sees all that will ever be there up
 * to N.  Only then base passes to N.
 *
 * All of it can be rebuilt from the tables, and is when the transaction that
 * changed it does not commit.  The call-backs at the end of a transaction
 * only set a flag: they must not throw or allocate.  No table is named here:
 * the queue_* functions of message_outbox.sql read and write them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "core/plan.h"
#include "core/stop.h"

#define LANES 3
#define READ_AHEAD 4096			/* messages read beyond what is wanted now */
#define NEAR_WINDOW 65536		/* ids above base that are always looked at again */
#define BITS 64

/* A message that was read and waits in memory. */
typedef struct Waiting
{
	int64		id;
	int64		rule;			/* 0: none */
	TimestampTz expires_at;		/* DT_NOEND: never */
	TimestampTz open_until;		/* DT_NOEND: no hours to respect */
	int32		attempt;
} Waiting;

typedef struct Lane
{
	int64		base;
	int64		written;		/* the watermark that the table has */
	int64		scanned;		/* highest id that was read */
	uint64	   *seen;			/* bit 0 is id base + 1 */
	int64		seen_words;
	int64		seen_count;
	Waiting    *ring;			/* ring[first] .. ring[first + count - 1], not wrapped */
	int			first;
	int			count;
	int			room;
	bool		pending;		/* base will pass to newest once xmin has reached xid */
	int64		newest;
	TransactionId xid;
	int64		full_cost_us;	/* what the last look at the whole window cost */
	TimestampTz full_at;
} Lane;

typedef struct Queue
{
	int64		integration;	/* hash key */
	bool		loaded;
	int64		retry_ms;		/* retries are read up to here */
	int64		retry_id;
	TimestampTz delayed_at;		/* delayed ones are taken up to here, but for late comers */
	int64		delayed_id;
	int64		delayed_cost_us;	/* what the last look at all of them cost */
	TimestampTz delayed_full_at;
	Lane		lane[LANES];
} Queue;

/* A message in this process's hands. */
typedef struct Leased
{
	int64		id;				/* hash key */
	int64		lease;
	int64		integration;
	int32		attempt;
} Leased;

typedef struct Lease
{
	int64		id;				/* hash key */
	int64		left;			/* messages that are not settled */
} Lease;

/* What crm.queue_pick() gathers. */
typedef struct Pick
{
	Waiting    *items;
	int			count;
	int			room;
	MemoryContext context;		/* of the caller, not of SPI */
	HTAB	   *ids;			/* of the items: no message twice in a batch */
} Pick;

static MemoryContext queue_context = NULL;
static HTAB * queues = NULL;
static HTAB * leased = NULL;
static HTAB * leases = NULL;
static bool touched = false;	/* this transaction changed the memory */
static bool stale = false;		/* the memory does not match the tables */
static bool callbacks_done = false;

static SPIPlanPtr plan_load = NULL;
static SPIPlanPtr plan_open = NULL;
static SPIPlanPtr plan_read = NULL;
static SPIPlanPtr plan_retries = NULL;
static SPIPlanPtr plan_waiting = NULL;
static SPIPlanPtr plan_delayed = NULL;

PG_FUNCTION_INFO_V1(crm_message_next_id);
PG_FUNCTION_INFO_V1(crm_message_process_is_me);
PG_FUNCTION_INFO_V1(crm_message_process_lives);
PG_FUNCTION_INFO_V1(crm_message_process_started);
PG_FUNCTION_INFO_V1(crm_message_id_ranges);
PG_FUNCTION_INFO_V1(crm_message_queue_pick);
PG_FUNCTION_INFO_V1(crm_message_queue_leased);
PG_FUNCTION_INFO_V1(crm_message_queue_settled);
PG_FUNCTION_INFO_V1(crm_message_queue_retry_from);
PG_FUNCTION_INFO_V1(crm_message_queue_forget);

static Queue *queue_of(int64 integration);
static void load(Queue *queue);
static void begin_change(void);
static void forget(void);
static void at_end(XactEvent event, void *arg);
static void at_subend(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg);
static bool seen(Lane *lane, int64 id);
static void mark_seen(Lane *lane, int64 id);
static int64 seen_above(Lane *lane, int64 id);
static void pass_base(Lane *lane, int64 to);
static void push(Lane *lane, const Waiting *item);
static int64 newest_number(void);
static void read_lane(Queue *queue, int n, int want);
static void take_lane(Queue *queue, int n, int capacity, Pick *pick);
static void take_retries(Queue *queue, int capacity, Pick *pick);
static void take_delayed(Queue *queue, int capacity, Pick *pick);
static void pick_item(Pick *pick, const Waiting *item);
static Waiting item_of(HeapTuple tuple, TupleDesc desc);
static Datum int8_array(const int64 *values, int n);
static Datum int4_array(const int32 *values, int n);
static const int64 *ids_of(ArrayType *array, int *n);
static void note_lease(int64 lease, int64 id, int64 integration, int32 attempt);

/*
 * crm.next_message_id(): the xid first, then the number.
 */
Datum
crm_message_next_id(PG_FUNCTION_ARGS)
{
	Oid			sequence = crm_table("message_number");
	int64		number;

	if (!OidIsValid(sequence))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sequence crm.message_number is not there"),
				 errhint("CREATE EXTENSION crm makes it.")));
	(void) GetTopTransactionId();
	number = nextval_internal(sequence, false);
	CRM_STOP("queue: a number drawn");
	PG_RETURN_INT64(number);
}

Datum
crm_message_process_started(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(MyStartTimestamp);
}

Datum
crm_message_process_is_me(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_INT32(0) == MyProcPid && PG_GETARG_INT64(1) == MyStartTimestamp);
}

/*
 * crm.process_lives(pid, started): read from the status array, which does not
 * ask who we are.
 */
Datum
crm_message_process_lives(PG_FUNCTION_ARGS)
{
	int32		pid = PG_GETARG_INT32(0);
	int64		started = PG_GETARG_INT64(1);
	int			n;
	bool		lives = false;

	pgstat_clear_backend_activity_snapshot();
	n = pgstat_fetch_stat_numbackends();
	for (int i = 1; i <= n && !lives; i++)
	{
		LocalPgBackendStatus *status = pgstat_fetch_stat_local_beentry(i);

		lives = status != NULL && status->backendStatus.st_procpid == pid &&
			status->backendStatus.st_proc_start_timestamp == started;
	}
	PG_RETURN_BOOL(lives);
}

/*
 * crm.id_ranges(ids): neighbours joined.
 */
Datum
crm_message_id_ranges(PG_FUNCTION_ARGS)
{
	int			n;
	const int64 *given = ids_of(PG_GETARG_ARRAYTYPE_P(0), &n);
	int64	   *ids = palloc(sizeof(int64) * Max(n, 1));
	StringInfoData text;
	Oid			input;
	Oid			param;

	memcpy(ids, given, sizeof(int64) * n);
	for (int i = 1; i < n; i++)
	{
		/* nearly always sorted already */
		int64		id = ids[i];
		int			j = i;

		for (; j > 0 && ids[j - 1] > id; j--)
			ids[j] = ids[j - 1];
		ids[j] = id;
		CHECK_FOR_INTERRUPTS();
	}
	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	for (int i = 0; i < n;)
	{
		int64		from = ids[i];
		int64		to = from;

		for (i++; i < n && ids[i] <= to + 1; i++)
			to = ids[i];
		appendStringInfo(&text, "%s[" INT64_FORMAT "," INT64_FORMAT ")", text.len > 1 ? "," : "", from, to + 1);
	}
	appendStringInfoChar(&text, '}');
	getTypeInputInfo(INT8MULTIRANGEOID, &input, &param);
	PG_RETURN_DATUM(OidInputFunctionCall(input, text.data, param, -1));
}

/*
 * crm.queue_pick(integration_id, capacity)
 */
Datum
crm_message_queue_pick(PG_FUNCTION_ARGS)
{
	int64		integration = PG_GETARG_INT64(0);
	int			capacity = PG_GETARG_INT32(1);
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false, false, false, false, false, false};
	Pick		pick = {NULL, 0, 0, CurrentMemoryContext, NULL};
	Queue	   *queue;
	TimestampTz now = crm_clock();
	int64	   *ids;
	int32	   *attempts;
	int64	   *expired;
	int64	   *closed;
	int64	   *rules;
	int64		marks[LANES];
	bool		mark_nulls[LANES];
	Datum		mark_values[LANES];
	int			n_expired = 0;
	int			n_closed = 0;
	int			n_rules = 0;
	bool		moved = false;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function crm.queue_pick() called in a context that does not accept its row type"),
				 errhint("Call it as the extension declares it: SELECT * FROM crm.queue_pick().")));
	capacity = Max(0, Min(capacity, 10000));

	begin_change();
	SPI_connect();
	queue = queue_of(integration);
	take_lane(queue, 2, capacity, &pick);
	if (crm_urgent_only())
		capacity = pick.count;
	if (pick.count < capacity)
		take_retries(queue, capacity, &pick);
	if (pick.count < capacity)
		take_delayed(queue, capacity, &pick);
	for (int n = 1; n >= 0 && pick.count < capacity; n--)
		take_lane(queue, n, capacity, &pick);
	SPI_finish();

	ids = palloc(sizeof(int64) * Max(pick.count, 1));
	attempts = palloc(sizeof(int32) * Max(pick.count, 1));
	expired = palloc(sizeof(int64) * Max(pick.count, 1));
	closed = palloc(sizeof(int64) * Max(pick.count, 1));
	rules = palloc(sizeof(int64) * Max(pick.count, 1));
	for (int i = 0; i < pick.count; i++)
	{
		Waiting    *item = &pick.items[i];
		bool		known = item->rule == 0;

		ids[i] = item->id;
		attempts[i] = item->attempt;
		if (item->expires_at <= now)
			expired[n_expired++] = item->id;
		else if (item->open_until <= now)
			closed[n_closed++] = item->id;
		for (int j = 0; j < n_rules && !known; j++)
			known = rules[j] == item->rule;
		if (!known)
			rules[n_rules++] = item->rule;
	}

	if (pick.count > 0)
		CRM_STOP("claim: picked");

	/* what is still in a ring was seen but not handed out */
	for (int n = 0; n < LANES; n++)
	{
		Lane	   *lane = &queue->lane[n];

		marks[n] = lane->base;
		for (int i = 0; i < lane->count; i++)
			marks[n] = Min(marks[n], lane->ring[lane->first + i].id - 1);
		mark_nulls[n] = marks[n] <= lane->written;
		mark_values[n] = Int64GetDatum(marks[n]);
		if (!mark_nulls[n])
		{
			lane->written = marks[n];
			moved = true;
		}
	}

	values[0] = int8_array(ids, pick.count);
	values[1] = int4_array(attempts, pick.count);
	nulls[2] = n_expired == 0;
	values[2] = int8_array(expired, n_expired);
	nulls[3] = n_closed == 0;
	values[3] = int8_array(closed, n_closed);
	nulls[4] = n_rules == 0;
	values[4] = int8_array(rules, n_rules);
	nulls[5] = !moved;
	if (moved)
	{
		int			dims[1] = {LANES};
		int			lower[1] = {1};

		values[5] = PointerGetDatum(construct_md_array(mark_values, mark_nulls, 1, dims, lower, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * crm.queue_leased(integration_id, lease_id, ids, attempts)
 */
Datum
crm_message_queue_leased(PG_FUNCTION_ARGS)
{
	int64		integration = PG_GETARG_INT64(0);
	int64		lease = PG_GETARG_INT64(1);
	ArrayType  *tries = PG_GETARG_ARRAYTYPE_P(3);
	int			n;
	const int64 *ids = ids_of(PG_GETARG_ARRAYTYPE_P(2), &n);

	if (ARR_NDIM(tries) != 1 || ARR_DIMS(tries)[0] != n || ARR_HASNULL(tries) || ARR_ELEMTYPE(tries) != INT4OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the arrays of crm.queue_leased() differ in length"),
				 errhint("Give one try for each message.")));
	begin_change();
	for (int i = 0; i < n; i++)
		note_lease(lease, ids[i], integration, ((int32 *) ARR_DATA_PTR(tries))[i]);
	CRM_STOP("claim: leased");
	PG_RETURN_VOID();
}

/*
 * crm.queue_settled(integration_id, ids)
 */
Datum
crm_message_queue_settled(PG_FUNCTION_ARGS)
{
	int64		integration = PG_GETARG_INT64(0);
	int			n;
	const int64 *ids = ids_of(PG_GETARG_ARRAYTYPE_P(1), &n);
	TupleDesc	desc;
	Datum	   *attempts = palloc(sizeof(Datum) * Max(n, 1));
	Datum	   *of_lease = palloc(sizeof(Datum) * Max(n, 1));
	bool	   *unknown = palloc(sizeof(bool) * Max(n, 1));
	int64	   *done = palloc(sizeof(int64) * Max(n, 1));
	int			n_done = 0;
	int			dims[1] = {n};
	int			lower[1] = {1};
	Datum		values[3];
	bool		nulls[3] = {false, false, false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function crm.queue_settled() called in a context that does not accept its row type"),
				 errhint("Call it as the extension declares it: SELECT * FROM crm.queue_settled().")));

	begin_change();
	SPI_connect();
	(void) queue_of(integration);
	SPI_finish();

	for (int i = 0; i < n; i++)
	{
		Leased	   *entry = hash_search(leased, &ids[i], HASH_FIND, NULL);
		Lease	   *lease;

		attempts[i] = of_lease[i] = (Datum) 0;
		unknown[i] = entry == NULL || entry->integration != integration;
		if (unknown[i])
			continue;
		attempts[i] = Int32GetDatum(entry->attempt);
		of_lease[i] = Int64GetDatum(entry->lease);
		lease = hash_search(leases, &entry->lease, HASH_FIND, NULL);
		if (lease != NULL && --lease->left == 0)
		{
			done[n_done++] = lease->id;
			hash_search(leases, &entry->lease, HASH_REMOVE, NULL);
		}
		hash_search(leased, &ids[i], HASH_REMOVE, NULL);
	}
	values[0] = n == 0 ? PointerGetDatum(construct_empty_array(INT4OID)) :
		PointerGetDatum(construct_md_array(attempts, unknown, 1, dims, lower, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	values[1] = n == 0 ? PointerGetDatum(construct_empty_array(INT8OID)) :
		PointerGetDatum(construct_md_array(of_lease, unknown, 1, dims, lower, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	nulls[2] = n_done == 0;
	values[2] = int8_array(done, n_done);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * crm.queue_retry_from(integration_id)
 */
Datum
crm_message_queue_retry_from(PG_FUNCTION_ARGS)
{
	int64		integration = PG_GETARG_INT64(0);
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	Queue	   *queue = NULL;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function crm.queue_retry_from() called in a context that does not accept its row type"),
				 errhint("Call it as the extension declares it: SELECT * FROM crm.queue_retry_from().")));
	if (queues != NULL && !stale)
		queue = hash_search(queues, &integration, HASH_FIND, NULL);
	values[0] = Int64GetDatum(queue != NULL && queue->loaded ? queue->retry_ms : -1);
	values[1] = Int64GetDatum(queue != NULL && queue->loaded ? queue->retry_id : 0);
	values[2] = TimestampTzGetDatum(queue != NULL && queue->loaded ? queue->delayed_at : DT_NOBEGIN);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/*
 * crm.queue_forget()
 */
Datum
crm_message_queue_forget(PG_FUNCTION_ARGS)
{
	stale = true;
	PG_RETURN_VOID();
}

/* ---- memory -------------------------------------------------------------- */

/*
 * Whatever changes the memory calls this first: if the transaction, or the
 * subtransaction, rolls back, the memory is rebuilt.
 */
static void
begin_change(void)
{
	if (!callbacks_done)
	{
		RegisterXactCallback(at_end, NULL);
		RegisterSubXactCallback(at_subend, NULL);
		callbacks_done = true;
	}
	if (stale || queue_context == NULL)
		forget();
	touched = true;
}

static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		stale = stale || touched;
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_COMMIT)
		touched = false;
}

static void
at_subend(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		stale = stale || touched;
}

static void
forget(void)
{
	HASHCTL		control = {0};

	if (queue_context != NULL)
		MemoryContextDelete(queue_context);
	queue_context = NULL;
	queues = leased = leases = NULL;

	queue_context = AllocSetContextCreate(TopMemoryContext, "crm message queue", ALLOCSET_DEFAULT_SIZES);
	control.hcxt = queue_context;
	control.keysize = sizeof(int64);
	control.entrysize = sizeof(Queue);
	queues = hash_create("crm queues", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	control.entrysize = sizeof(Leased);
	leased = hash_create("crm leased messages", 4096, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	control.entrysize = sizeof(Lease);
	leases = hash_create("crm leases", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	stale = false;
}

/* The queue of an integration, loaded.  Needs an SPI connection. */
static Queue *
queue_of(int64 integration)
{
	bool		there;
	Queue	   *queue = hash_search(queues, &integration, HASH_ENTER, &there);

	if (!there)
	{
		memset((char *) queue + sizeof(int64), 0, sizeof(Queue) - sizeof(int64));
		queue->loaded = false;
	}
	if (!queue->loaded)
		load(queue);
	return queue;
}

static void
load(Queue *queue)
{
	Oid			types[1] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(queue->integration)};
	int			n;

	n = (int) crm_plan_run(&plan_load, "SELECT lane, watermark, taken FROM crm.queue_load($1)", 1, types, values);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		is_null;
		int			number = DatumGetInt16(SPI_getbinval(tuple, desc, 1, &is_null));
		Lane	   *lane = &queue->lane[number];

		Assert(number >= 0 && number < LANES);
		memset(lane, 0, sizeof(Lane));
		lane->base = lane->written = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &is_null));
		lane->scanned = lane->base;
	}
	for (int i = 0; i < n; i++)
	{
		bool		is_null;
		Datum		taken = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &is_null);
		int			count;
		const int64 *ids;

		if (is_null)
			continue;
		/* numbers are unique: one of another lane does no harm in this one */
		ids = ids_of(DatumGetArrayTypeP(taken), &count);
		for (int j = 0; j < count; j++)
		{
			for (int k = 0; k < LANES; k++)
				mark_seen(&queue->lane[k], ids[j]);
		}
	}

	n = (int) crm_plan_run(&plan_open, "SELECT lease_id, message_id, attempt FROM crm.queue_open($1)", 1, types, values);
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		is_null;

		note_lease(DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null)),
				   DatumGetInt64(SPI_getbinval(tuple, desc, 2, &is_null)), queue->integration,
				   DatumGetInt32(SPI_getbinval(tuple, desc, 3, &is_null)));
	}
	queue->retry_ms = -1;
	queue->retry_id = 0;
	queue->delayed_at = DT_NOBEGIN;
	queue->delayed_id = 0;
	queue->delayed_cost_us = 0;
	queue->delayed_full_at = 0;
	queue->loaded = true;
}

static void
note_lease(int64 lease, int64 id, int64 integration, int32 attempt)
{
	bool		there;
	Leased	   *entry = hash_search(leased, &id, HASH_ENTER, &there);
	Lease	   *whole;

	entry->lease = lease;
	entry->integration = integration;
	entry->attempt = attempt;
	whole = hash_search(leases, &lease, HASH_ENTER, &there);
	if (!there)
		whole->left = 0;
	whole->left++;
}

/* ---- what was seen ------------------------------------------------------- */

static bool
seen(Lane *lane, int64 id)
{
	int64		bit = id - lane->base - 1;

	if (bit < 0)
		return true;
	return bit / BITS < lane->seen_words && (lane->seen[bit / BITS] & (UINT64CONST(1) << (bit % BITS))) != 0;
}

static void
mark_seen(Lane *lane, int64 id)
{
	int64		bit = id - lane->base - 1;
	int64		word = bit / BITS;

	if (bit < 0)
		return;
	if (word >= lane->seen_words)
	{
		int64		words = Max(word + 1, lane->seen_words * 2);

		if (lane->seen == NULL)
			lane->seen = MemoryContextAllocHuge(queue_context, words * sizeof(uint64));
		else
			lane->seen = repalloc_huge(lane->seen, words * sizeof(uint64));
		memset(lane->seen + lane->seen_words, 0, (words - lane->seen_words) * sizeof(uint64));
		lane->seen_words = words;
	}
	lane->seen[word] |= UINT64CONST(1) << (bit % BITS);
	lane->seen_count++;
}

/* How many of the ids above this one were seen. */
static int64
seen_above(Lane *lane, int64 id)
{
	int64		bit = id - lane->base;
	int64		count = 0;

	if (bit <= 0)
		return lane->seen_count;
	for (int64 word = bit / BITS; word < lane->seen_words; word++)
	{
		uint64		bits = lane->seen[word];

		if (word == bit / BITS)
			bits &= ~((UINT64CONST(1) << (bit % BITS)) - 1);
		count += pg_popcount64(bits);
	}
	return count;
}

/* Everything up to this id is done with. */
static void
pass_base(Lane *lane, int64 to)
{
	int64		by = to - lane->base;
	int64		words = by / BITS;
	int			bits = by % BITS;
	int64		count = 0;

	if (by <= 0)
		return;
	if (words >= lane->seen_words)
	{
		if (lane->seen_words > 0)
			memset(lane->seen, 0, lane->seen_words * sizeof(uint64));
	}
	else
	{
		for (int64 i = 0; i < lane->seen_words; i++)
		{
			uint64		low = i + words < lane->seen_words ? lane->seen[i + words] : 0;
			uint64		high = i + words + 1 < lane->seen_words ? lane->seen[i + words + 1] : 0;

			lane->seen[i] = bits == 0 ? low : (low >> bits) | (high << (BITS - bits));
			count += pg_popcount64(lane->seen[i]);
		}
	}
	lane->seen_count = count;
	lane->base = to;
	lane->scanned = Max(lane->scanned, to);
	if (lane->seen_words > NEAR_WINDOW && count == 0)
	{
		/* a long transaction has ended: give its window back */
		pfree(lane->seen);
		lane->seen = NULL;
		lane->seen_words = 0;
	}
}

/* ---- reading ------------------------------------------------------------- */

static void
push(Lane *lane, const Waiting *item)
{
	if (lane->first + lane->count >= lane->room)
	{
		if (lane->first > 0)
		{
			memmove(lane->ring, lane->ring + lane->first, sizeof(Waiting) * lane->count);
			lane->first = 0;
		}
		if (lane->count >= lane->room)
		{
			lane->room = Max(256, lane->room * 2);
			lane->ring = lane->ring == NULL ? MemoryContextAlloc(queue_context, sizeof(Waiting) * lane->room) :
				repalloc(lane->ring, sizeof(Waiting) * lane->room);
		}
	}
	lane->ring[lane->first + lane->count++] = *item;
}

/* The last number that was drawn; 0 where none was. */
static int64
newest_number(void)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(crm_table("message_number"));
	fcinfo->args[0].isnull = false;
	result = pg_sequence_last_value(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(result);
}

/*
 * Reads messages of a lane that were not seen before into its ring.
 */
static void
read_lane(Queue *queue, int n, int want)
{
	Lane	   *lane = &queue->lane[n];
	Oid			types[4] = {INT8OID, INT4OID, INT8OID, INT4OID};
	Datum		values[4];
	TransactionId xmin;
	TimestampTz start = GetCurrentTimestamp();
	bool		full;
	bool		complete;
	int64		from;
	int64		limit;
	int64		last;
	int			rows;

	/* The number first, then the xid: whoever drew a number up to it has an earlier xid. */
	for (int turn = 0; turn < 2; turn++)
	{
		if (!lane->pending)
		{
			int64		newest = newest_number();

			pg_memory_barrier();
			lane->newest = newest;
			lane->xid = ReadNextTransactionId();
			lane->pending = newest > lane->base;
		}
		if (turn == 1)
			return;

		xmin = GetLatestSnapshot()->xmin;
		full = lane->scanned - lane->base <= NEAR_WINDOW ||
			start - lane->full_at > 10 * lane->full_cost_us;
		from = full ? lane->base : lane->scanned;
		limit = Min(want + READ_AHEAD + seen_above(lane, from), PG_INT32_MAX);

		values[0] = Int64GetDatum(queue->integration);
		values[1] = Int32GetDatum(n);
		values[2] = Int64GetDatum(from);
		values[3] = Int32GetDatum((int32) limit);
		rows = (int) crm_plan_run(&plan_read, "SELECT id, rule_id, expires_at, open_until, 1 FROM crm.queue_read($1, $2, $3, $4)", 4, types, values);
		last = from;
		for (int i = 0; i < rows; i++)
		{
			Waiting		item = item_of(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);

			last = item.id;
			if (!seen(lane, item.id))
			{
				mark_seen(lane, item.id);
				push(lane, &item);
			}
		}
		SPI_freetuptable(SPI_tuptable);
		complete = rows < limit;
		lane->scanned = Max(lane->scanned, last);
		if (!full)
			return;

		lane->full_at = GetCurrentTimestamp();
		lane->full_cost_us = lane->full_at - start;
		if (lane->pending && TransactionIdPrecedesOrEquals(lane->xid, xmin))
		{
			int64		reach = complete ? lane->newest : Min(lane->newest, last);

			lane->pending = reach < lane->newest;
			pass_base(lane, reach);
		}
		if (lane->pending)
			return;
	}
}

static void
take_lane(Queue *queue, int n, int capacity, Pick *pick)
{
	Lane	   *lane = &queue->lane[n];

	if (lane->count < capacity - pick->count)
		read_lane(queue, n, capacity - pick->count);
	while (lane->count > 0 && pick->count < capacity)
	{
		pick_item(pick, &lane->ring[lane->first]);
		lane->first++;
		lane->count--;
	}
	if (lane->count == 0)
		lane->first = 0;
}

/*
 * Retries whose time has come.  Rows that are put back later are due later
 * than now, so what was read once is never read again.
 */
static void
take_retries(Queue *queue, int capacity, Pick *pick)
{
	int64		now_ms = crm_monotonic_ms();

	for (;;)
	{
		Oid			types[5] = {INT8OID, INT8OID, INT8OID, INT8OID, INT4OID};
		Oid			waiting_types[3] = {INT8OID, INT8ARRAYOID, INT4ARRAYOID};
		Datum		values[5];
		int			want = capacity - pick->count;
		int			rows;
		Waiting    *items;
		int64	   *ids;
		int32	   *attempts;
		bool		is_null;
		Datum		waits;
		Datum	   *waiting;
		int			n;

		CHECK_FOR_INTERRUPTS();
		values[0] = Int64GetDatum(queue->integration);
		values[1] = Int64GetDatum(queue->retry_ms);
		values[2] = Int64GetDatum(queue->retry_id);
		values[3] = Int64GetDatum(now_ms);
		values[4] = Int32GetDatum(want);
		rows = (int) crm_plan_run(&plan_retries, "SELECT id, rule_id, expires_at, open_until, attempt, due_ms FROM crm.queue_read_retries($1, $2, $3, $4, $5)", 5, types, values);
		if (rows == 0)
			return;
		items = palloc(sizeof(Waiting) * rows);
		ids = palloc(sizeof(int64) * rows);
		attempts = palloc(sizeof(int32) * rows);
		for (int i = 0; i < rows; i++)
		{
			items[i] = item_of(SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
			ids[i] = items[i].id;
			attempts[i] = items[i].attempt;
		}
		queue->retry_ms = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[rows - 1], SPI_tuptable->tupdesc, 6, &is_null));
		queue->retry_id = ids[rows - 1];

		values[1] = int8_array(ids, rows);
		values[2] = int4_array(attempts, rows);
		(void) crm_plan_run(&plan_waiting, "SELECT crm.queue_waiting_tries($1, $2, $3)", 3, waiting_types, values);
		waits = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
		deconstruct_array(DatumGetArrayTypeP(waits), BOOLOID, 1, true, TYPALIGN_CHAR, &waiting, NULL, &n);
		for (int i = 0; i < rows && i < n; i++)
		{
			if (DatumGetBool(waiting[i]))
				pick_item(pick, &items[i]);
		}
		if (pick->count >= capacity || rows < want)
			return;
	}
}

/*
 * Messages whose hour has come.  Rows that were taken are dead, and while some
 * snapshot is held they stay in front of those that wait: a look at all of
 * them would cost more with each batch.  So a look begins where the last one
 * ended.  A row that came late, due before that, is found by the looks from
 * the beginning: made whenever ten times as long has passed as the last of
 * them took.
 */
static void
take_delayed(Queue *queue, int capacity, Pick *pick)
{
	Oid			types[4] = {INT8OID, TIMESTAMPTZOID, INT8OID, INT4OID};
	Datum		values[4];
	TimestampTz start = GetCurrentTimestamp();
	bool		full;
	int			rows;
	TimestampTz last_at = DT_NOBEGIN;
	int64		last_id = 0;

	/* from the beginning also where one of the two clocks was set back */
	full = start - queue->delayed_full_at > 10 * queue->delayed_cost_us || start < queue->delayed_full_at ||
		crm_clock() < queue->delayed_at;
	values[0] = Int64GetDatum(queue->integration);
	values[1] = TimestampTzGetDatum(full ? DT_NOBEGIN : queue->delayed_at);
	values[2] = Int64GetDatum(full ? 0 : queue->delayed_id);
	values[3] = Int32GetDatum(capacity - pick->count);
	rows = (int) crm_plan_run(&plan_delayed, "SELECT id, rule_id, expires_at, open_until, attempt, due_at FROM crm.queue_read_delayed($1, $2, $3, $4)", 4, types, values);
	for (int i = 0; i < rows; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Waiting		item = item_of(tuple, desc);
		bool		is_null;
		TimestampTz due = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 6, &is_null));

		if (due > last_at || (due == last_at && item.id > last_id))
		{
			last_at = due;
			last_id = item.id;
		}
		pick_item(pick, &item);
	}
	if (rows > 0)
	{
		queue->delayed_at = last_at;
		queue->delayed_id = last_id;
	}
	if (full)
	{
		queue->delayed_full_at = GetCurrentTimestamp();
		queue->delayed_cost_us = queue->delayed_full_at - start;
	}
}

/*
 * A message that is in this process's hands, or in this batch already, is not
 * picked again whatever the tables hold: it would leave twice.
 */
static void
pick_item(Pick *pick, const Waiting *item)
{
	bool		there;

	if (pick->ids == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = control.entrysize = sizeof(int64);
		control.hcxt = pick->context;
		pick->ids = hash_create("crm picked messages", 1024, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	if (hash_search(leased, &item->id, HASH_FIND, NULL) != NULL)
		return;
	hash_search(pick->ids, &item->id, HASH_ENTER, &there);
	if (there)
		return;
	if (pick->count == pick->room)
	{
		MemoryContext old = MemoryContextSwitchTo(pick->context);

		pick->room = Max(256, pick->room * 2);
		pick->items = pick->items == NULL ? palloc(sizeof(Waiting) * pick->room) : repalloc(pick->items, sizeof(Waiting) * pick->room);
		MemoryContextSwitchTo(old);
	}
	pick->items[pick->count++] = *item;
}

/* Columns: id, rule_id, expires_at, open_until, attempt. */
static Waiting
item_of(HeapTuple tuple, TupleDesc desc)
{
	Waiting		item;
	Datum		value;
	bool		is_null;

	item.id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null));
	value = SPI_getbinval(tuple, desc, 2, &is_null);
	item.rule = is_null ? 0 : DatumGetInt64(value);
	value = SPI_getbinval(tuple, desc, 3, &is_null);
	item.expires_at = is_null ? DT_NOEND : DatumGetTimestampTz(value);
	value = SPI_getbinval(tuple, desc, 4, &is_null);
	item.open_until = is_null ? DT_NOEND : DatumGetTimestampTz(value);
	item.attempt = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &is_null));
	return item;
}

/* ---- arrays -------------------------------------------------------------- */

static Datum
int8_array(const int64 *values, int n)
{
	ArrayType  *array;
	Size		size;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(INT8OID));
	size = ARR_OVERHEAD_NONULLS(1) + sizeof(int64) * n;
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = INT8OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), values, sizeof(int64) * n);
	return PointerGetDatum(array);
}

static Datum
int4_array(const int32 *values, int n)
{
	ArrayType  *array;
	Size		size;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(INT4OID));
	size = ARR_OVERHEAD_NONULLS(1) + sizeof(int32) * n;
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->dataoffset = 0;
	array->elemtype = INT4OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), values, sizeof(int32) * n);
	return PointerGetDatum(array);
}

static const int64 *
ids_of(ArrayType *array, int *n)
{
	*n = 0;
	if (ARR_NDIM(array) == 0)
		return NULL;
	if (ARR_NDIM(array) != 1 || ARR_HASNULL(array) || ARR_ELEMTYPE(array) != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("not a list of numbers: %d dimensions%s", ARR_NDIM(array), ARR_HASNULL(array) ? ", with NULLs" : ""),
				 errhint("Give a one-dimensional bigint[] without NULLs.")));
	*n = ARR_DIMS(array)[0];
	return (const int64 *) ARR_DATA_PTR(array);
}
