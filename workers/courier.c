/*-------------------------------------------------------------------------
 *
 * courier.c
 *	  One process a database: carries what the database wants carried.
 *
 * The loop: wake or nearest deadline -> claim (a transaction) -> bytes move
 * with no transaction, snapshot or lock -> settle in a batch (a transaction)
 * -> memory of the turn reset.  It knows the doors crm.courier_start, _claim,
 * _wait, _settle, _reject and _idle, and no table.
 *
 * Each integration has a lane of its own: what waits, what runs, what is done.
 * A lane holds no more than its window, which follows its speed, so a slow
 * service neither fills the memory nor has its messages claimed long before
 * they can go.  A settle that fails holds up its own lane only.  What goes
 * before all other is claimed though a lane has enough, and starts first.
 *
 * No transaction lasts: a claim asks lanes in turn until its time is over and
 * goes on in the next one, a settle takes so many lanes.  Each lane costs one
 * call of its kind, so where many are busy the windows and the pauses between
 * settles grow with what a call costs.
 *
 * A reply is kept until its settle has committed: a settle is tried again, a
 * send never.
 *
 * What waits was claimed under some mode of the database.  When the mode is
 * lowered it may not leave as it is: no more is started, what is on its way is
 * settled, and the process ends; the next one finds the rest leased and never
 * started, and it is claimed anew under the mode of that moment.
 *
 * Must never: send what is not leased by a committed claim; clear a place of
 * the flight file before the settle has committed; hold a transaction while it
 * waits.
 *
 * Locks: none of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "core/plan.h"
#include "core/stop.h"
#include "workers/loop.h"
#include "workers/transport.h"
#include "workers/worker.h"

#define BATCH			1000	/* replies a settle */
#define BATCH_BYTES		(4 * 1024 * 1024)
#define WINDOW_MAX		1200	/* requests that a fast lane holds */
#define FIRST_CLAIM		100		/* of an integration not met before */
#define HELD_MAX		6000	/* requests in memory, all lanes */
#define BYTES_MAX		(24 * 1024 * 1024)	/* replies in memory: no new starts */
#define LINGER_MS		10		/* a reply waits so long for company */
#define LINGER_LOADED_MS 50		/* and so long while much waits to be sent */
#define LEAVE_LIMIT_MS	1000	/* of a settle when the database is about to go */
#define IDLE_LIMIT_MS	10000
#define IDLE_EVERY_MS	10000
#define DUE_LIMIT_MS	10000
#define DUE_BREATH_MS	20
#define DUE_EVERY_MS	500		/* what a commit made due waits no longer */
#define IDLE_OVERDUE_MS 60000	/* housekeeping waits no longer for a quiet moment */
#define WAIT_MAX_MS		60000
#define ASK_LOADED_MS	100
#define START_AGAIN_MS	250
#define RETRY_FIRST_MS	100
#define RETRY_MAX_MS	10000
#define RETRY_LOCK_MS	1000	/* and where somebody held a lock */
#define CROWDED_CLAIM_MS 100	/* between claims while no lane has room: an integration not met
								 * before may have work */
#define CULPRIT_TRIES	5
#define WINDOW_US		50000	/* a window is for so long of what a service takes */
#define WINDOW_MOST_US	500000	/* and where many are busy for so long at most */
#define ASK_SHARE		4		/* one part of so many of the time may go into asking kinds */
#define CLAIM_MS		20		/* a claim asks no further lane after that */
#define SETTLE_LANES	32		/* lanes a settle */
#define SETTLE_PAUSE_MS 250		/* between settles where many lanes are busy, at most */
#define URGENT_MAX		16		/* urgent requests that a lane is given beyond its window */
#define MODE_EVERY_MS	100		/* a commit may have lowered the mode: ask so often at most */

/* which lanes a claim asks */
typedef enum ClaimKind
{
	CLAIM_NOT,
	CLAIM_URGENT,				/* those without room, for what goes before all other */
	CLAIM_MORE,					/* those that are known to have more */
	CLAIM_ALL
} ClaimKind;

/* everything that a claim brings, to be taken over once it has committed */
typedef struct Claim
{
	dlist_head	fresh;
	int			count;
	int			asked;			/* lanes */
	bool		cut;			/* its time was over before all were asked */
	int			wait_ms;		/* to the nearest deadline */
	CrmMode		mode;			/* the highest one that it may have met */
	CrmMode		mode_after;
} Claim;

/* what the flight files held */
typedef struct Taken
{
	const CrmFlightFound *found;
	int			count;
} Taken;

typedef struct Batch
{
	CrmTransfer **transfers;
	int			count;
	int			wait_ms;		/* to the nearest deadline after it */
} Batch;

typedef struct Rejection
{
	CrmTransfer *transfer;
	const CrmFailure *failure;
} Rejection;

static int64 generation;
static int	budget;				/* connections */
static HTAB * lanes = NULL;
static CrmLane **lane_list = NULL;
static int	lane_count = 0;
static int	lane_size = 0;
static int	next_lane = 0;
static int	running = 0;
static int	waiting = 0;
static int	done = 0;
static size_t done_bytes = 0;
static int64 done_since = 0;	/* ms: the oldest reply not yet settled */
static int	done_lanes = 0;		/* lanes in the last settle */
static int	next_settle = 0;	/* lane that the next one begins with */
static int64 ask_us = 0;		/* what a lane costs in a claim, moving */
static int64 settle_us = 0;		/* and in a settle */
static uint64 claim_turn = 0;
static bool claim_cut = false;	/* the last one did not come to all */
static int64 claim_at = 0;		/* ms: deadline of the next claim */
static int64 claimed_at = 0;	/* ms: the last one */
static int64 wait_asked_at = 0; /* ms: when the nearest deadline was asked for */
static int64 wait_until = 0;	/* ms: and when it is */
static int	empty_claims = 0;	/* in a row */
static int	claim_failures = 0;
static uint32 wakes_seen;
static uint32 urgent_seen;
static CrmMode held_mode = CRM_OFF; /* the highest one under which what waits was claimed */
static uint32 mode_wakes;
static int64 mode_asked_at = 0; /* ms */
static bool mode_known = true;
static bool draining = false;	/* the mode was lowered: nothing more is started */
static int64 idle_at = 0;
static int64 due_at = 0;		/* ms: when something falls due by the business clock */
static int64 due_asked_at = 0;
static uint32 due_wakes;

static SPIPlanPtr start_plan = NULL;
static SPIPlanPtr claim_plan = NULL;
static SPIPlanPtr wait_plan = NULL;
static SPIPlanPtr settle_plan = NULL;
static SPIPlanPtr reject_plan = NULL;
static SPIPlanPtr idle_plan = NULL;
static SPIPlanPtr due_plan = NULL;

static void start_work(void *arg);
static bool memory_left(void);
static ClaimKind claim_due(int64 now);
static void claim(ClaimKind kind);
static int	asked_earlier(const void *a, const void *b);
static void claim_work(void *arg);
static void claim_requests(Claim *claimed, CrmLane *lane, ArrayType *requests);
static int	ask_wait(void);
static int	ask_wait_soon(void);
static bool mode_due(int64 now);
static void ask_mode(void);
static void ask_mode_work(void *arg);
static void start_waiting(void);
static int64 due_when(void);
static void ask_due(void);
static void due_work(void *arg);
static void collect(void);
static void finished(CrmTransfer *transfer);
static void serve_arrived(void);
static long settle_due(int64 now);
static void settle(int64 now);
static bool settle_batch(CrmTransfer **transfers, int count, CrmFailure *failure);
static void settle_lane(CrmLane *lane, int64 now);
static void settle_work(void *arg);
static void reject_work(void *arg);
static void idle_work(void *arg);
static CrmLane *lane_of(int64 integration);
static int	lane_room(const CrmLane *lane);

/*
 * When a transaction that failed is tried again.
 */
static int64
retry_ms(int failures, const CrmFailure *failure)
{
	return Min((int64) RETRY_FIRST_MS << Min(failures, 10),
			   failure->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? RETRY_LOCK_MS : RETRY_MAX_MS);
}

/*
 * How long a settle may take.
 */
static int
settle_limit(void)
{
	return crm_worker_slot->leave == CRM_LEAVE_NOW ?
		Min(LEAVE_LIMIT_MS, *crm_worker->claim_timeout_ms) : *crm_worker->claim_timeout_ms;
}

void
crm_courier_main(Datum main_arg)
{
	CrmFlightFound found[CRM_COURIERS_MAX];
	Taken		taken = {found, 0};
	CrmFailure	failure;

	crm_worker_start(main_arg, "crm courier");
	crm_loop_open();
	budget = crm_transfer_open();

	generation = crm_flight_open(crm_worker_slot->database, crm_worker_slot->number, found,
								 &taken.count);
	crm_worker_slot->generation = generation;
	CRM_STOP("start: flight file read");
	while (!crm_worker_run("start", *crm_worker->claim_timeout_ms, start_work, &taken, &failure))
	{
		if (!failure.transient || crm_worker_slot->leave != CRM_LEAVE_NO)
			ereport(ERROR,
					(errcode(failure.sqlerrcode),
					 errmsg("courier could not take over: %s", failure.message)));
		crm_worker->say(crm_worker_slot, CRM_WORKER_CONNECTING, failure.message);
		(void) crm_loop_serve(START_AGAIN_MS);
		(void) crm_worker_turn();
	}
	CRM_STOP("start: after commit");
	crm_flight_begin();
	CRM_STOP("start: flight file clean");
	for (int i = 0; i < taken.count; i++)
	{
		if (found[i].integrations == NULL)
			continue;
		pfree(found[i].integrations);
		pfree(found[i].refs);
	}

	crm_worker_ready();
	wakes_seen = mode_wakes = pg_atomic_read_u32(&crm_worker_slot->wakes) - 1;
	urgent_seen = pg_atomic_read_u32(&crm_worker_slot->urgent);
	idle_at = crm_worker_ms();

	for (;;)
	{
		int64		now;
		int			leaving;
		ClaimKind	due;
		long		timeout;
		long		left;

		(void) crm_worker_turn();
		leaving = crm_worker_leaving();
		now = crm_worker_ms();

		collect();
		/* places have become free: whoever waits goes before the transactions */
		if (leaving == 0 && mode_known && !draining && !mode_due(now))
		{
			start_waiting();
			crm_transfer_kick();
		}
		if (done > 0 && settle_due(now) == 0)
		{
			settle(now);
			serve_arrived();
		}

		if (leaving > 0)
		{
			/*
			 * What waits was never sent: the next courier finds its lease and no mark in the
			 * flight file.
			 */
			if (leaving == 1 || running == 0)
			{
				for (int before = done + 1; done > 0 && done < before;)
				{
					before = done;
					settle(now);
				}
				crm_worker_leave(CRM_EXIT_ASKED, NULL);
			}
		}
		else
		{
			if (mode_due(now))
				ask_mode();
			if (waiting > 0 && *crm_worker->mode_setting < held_mode)
				draining = true;
			if (draining)
			{
				if (running == 0 && done == 0)
					crm_worker_leave(CRM_EXIT_ASKED, NULL);
			}
			else if ((due = claim_due(now)) != CLAIM_NOT)
			{
				claim(due);
				serve_arrived();
			}
			if (mode_known && !draining)
				start_waiting();
		}

		/* the first courier of a database keeps its house */
		if (crm_worker_slot->number == 0 && leaving == 0 && now >= idle_at &&
			((done == 0 && waiting == 0) || now >= idle_at + IDLE_OVERDUE_MS))
		{
			(void) crm_worker_run("maintain", IDLE_LIMIT_MS, idle_work, NULL, &failure);
			CRM_STOP("maintain: after commit");
			idle_at = crm_worker_ms() + IDLE_EVERY_MS;
		}

		/* and looks at its clock */
		if (crm_worker_slot->number == 0 && leaving == 0 && now >= due_when())
		{
			ask_due();
			serve_arrived();
		}

		crm_transfer_kick();
		collect();

		/* when does something fall due by itself? */
		now = crm_worker_ms();
		if (leaving > 0)
			timeout = leaving;
		else
		{
			if (draining)
				timeout = running == 0 && done == 0 ? 0 : WAIT_MAX_MS;
			else
				timeout = claim_due(now) != CLAIM_NOT ? 0 : Max(claim_at - now, 0);
			if (waiting > 0 && pg_atomic_read_u32(&crm_worker_slot->wakes) != mode_wakes)
				timeout = Min(timeout, Max(mode_asked_at + MODE_EVERY_MS - now, 1));
			if (!draining && claim_failures == 0 && memory_left() &&
				pg_atomic_read_u32(&crm_worker_slot->wakes) != wakes_seen)
				timeout = Min(timeout, Max(claimed_at + CROWDED_CLAIM_MS - now, 1));
			if (crm_worker_slot->number == 0)
			{
				timeout = Min(timeout, Max(idle_at - now + (waiting + done > 0 ? IDLE_OVERDUE_MS : 0), 0));
				timeout = Min(timeout, Max(due_when() - now, 0));
			}
		}
		if (done > 0)
			timeout = Min(timeout, settle_due(now));
		left = crm_transfer_wait_ms();
		if (left >= 0)
			timeout = Min(timeout, left);
		timeout = Min(timeout, *crm_worker->fallback_ms);

		crm_worker_slot->in_flight = running;
		if (leaving == 0)
			crm_worker->say(crm_worker_slot,
							running > 0 ? CRM_WORKER_BUSY : CRM_WORKER_IDLE, NULL);
		(void) crm_loop_serve(timeout);
	}
}

/*
 * crm.courier_start(generation, courier, trusted, integration_ids, refs), for
 * this one and for each dead one.
 */
static void
start_work(void *arg)
{
	Taken	   *taken = arg;
	Oid			types[] = {INT8OID, INT4OID, BOOLOID, INT8ARRAYOID, INT8ARRAYOID};

	for (int n = 0; n < taken->count; n++)
	{
		const CrmFlightFound *found = &taken->found[n];
		Datum		values[5];
		Datum	   *ids = palloc(Max(found->count, 1) * sizeof(Datum));
		Datum	   *refs = palloc(Max(found->count, 1) * sizeof(Datum));

		for (int i = 0; i < found->count; i++)
		{
			ids[i] = Int64GetDatum(found->integrations[i]);
			refs[i] = Int64GetDatum(found->refs[i]);
		}
		values[0] = Int64GetDatum(generation);
		values[1] = Int32GetDatum(found->number);
		values[2] = BoolGetDatum(found->trusted);
		values[3] = PointerGetDatum(construct_array(ids, found->count, INT8OID, 8, true, TYPALIGN_DOUBLE));
		values[4] = PointerGetDatum(construct_array(refs, found->count, INT8OID, 8, true, TYPALIGN_DOUBLE));
		(void) crm_plan_run(&start_plan, "SELECT crm.courier_start($1, $2, $3, $4, $5)", 5, types, values);
	}
	CRM_STOP("start: before commit");
}

/* ---- lanes --------------------------------------------------------------- */

static CrmLane *
lane_of(int64 integration)
{
	struct
	{
		int64		integration;
		CrmLane    *lane;
	}		   *entry;
	bool		found;

	if (lanes == NULL)
	{
		HASHCTL		control;

		control.keysize = sizeof(int64);
		control.entrysize = sizeof(*entry);
		lanes = hash_create("crm lanes", 64, &control, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(lanes, &integration, HASH_FIND, &found);
	if (found)
		return entry->lane;
	else
	{
		CrmLane    *lane = MemoryContextAllocZero(TopMemoryContext, sizeof(CrmLane));

		lane->integration = integration;
		dlist_init(&lane->waiting);
		dlist_init(&lane->done);
		lane->max_in_flight = 1;
		lane->room = FIRST_CLAIM;
		if (lane_count >= lane_size)
		{
			lane_size = Max(lane_size * 2, 16);
			lane_list = lane_list ? repalloc(lane_list, lane_size * sizeof(CrmLane *)) :
				MemoryContextAlloc(TopMemoryContext, lane_size * sizeof(CrmLane *));
		}
		entry = hash_search(lanes, &integration, HASH_ENTER, &found);
		entry->lane = lane;
		lane_list[lane_count++] = lane;
		return lane;
	}
}

/*
 * How many more requests this lane may be given: none before it is nearly
 * drained, so that claims come in whole batches.
 */
static int
lane_room(const CrmLane *lane)
{
	int			held = lane->waiting_count + lane->running;
	int			low = Max(lane->max_in_flight, lane->window / 8);

	/* a lane with little to do must not wait until it has nothing */
	if (lane->window <= 2 * lane->max_in_flight)
		low = lane->window - 1;
	if (lane->settle_failures > 0 || held > low || held >= lane->window)
		return 0;
	return lane->window - held;
}

/*
 * A window for about 50 ms of what the service can take: as many at once as it
 * may have, for as long as one of them lately took.  (Not only of what was
 * done lately: small claims would make it slow, and slowness the claims
 * small.)  Where many lanes are busy, for what it does in a longer time: a
 * round of claims must not take most of it.
 */
static void
lane_measure(CrmLane *lane, int64 horizon_us)
{
	int64		window = lane->mean_us == 0 ? 0 :
	(int64) lane->max_in_flight * WINDOW_US / lane->mean_us;

	if (horizon_us > WINDOW_US && lane->filled > 0)
		window = Max(window, (lane->filled - lane->waiting_count - lane->running) * horizon_us /
					 Max(crm_worker_us() - lane->filled_us, 1000));

	lane->window = (int) Max(2 * lane->max_in_flight, Min(window, WINDOW_MAX));
}

/* ---- options of an integration ------------------------------------------- */

/*
 * Take the options over when their text has changed.
 */
static void
lane_options(CrmLane *lane, Jsonb *options)
{
	CrmOptions	parsed;
	MemoryContext before;
	size_t		size = options ? VARSIZE(options) : 0;
	char	   *raw = NULL;

	if (lane->options_version > 0 && size == lane->options_size &&
		(size == 0 || memcmp(lane->options_raw, options, size) == 0))
		return;

	before = MemoryContextSwitchTo(TopMemoryContext);
	crm_options_parse(options, &parsed);
	MemoryContextSwitchTo(before);

	if (size)
	{
		raw = MemoryContextAlloc(TopMemoryContext, size);
		memcpy(raw, options, size);
	}

	/* libcurl copies what it is given, so the old ones are free to go */
	crm_options_free(&lane->options);
	if (lane->options_raw)
		pfree(lane->options_raw);
	lane->options_raw = raw;
	lane->options_size = size;
	lane->options = parsed;
	lane->options_version++;
}

/* ---- claim --------------------------------------------------------------- */

static bool
memory_left(void)
{
	return waiting + running + done < HELD_MAX && crm_flight_free() >= BATCH &&
		crm_transfer_bytes() <= BYTES_MAX;
}

static ClaimKind
claim_due(int64 now)
{
	/* after a failed claim nothing but time helps */
	if (claim_failures > 0 && now < claim_at)
		return CLAIM_NOT;
	if (memory_left())
	{
		bool		any = false;
		bool		more = claim_cut;

		for (int i = 0; i < lane_count; i++)
		{
			bool		room = lane_room(lane_list[i]) > 0;

			any = any || room;
			more = more || (room && lane_list[i]->more);
		}
		if (now >= claim_at || pg_atomic_read_u32(&crm_worker_slot->wakes) != wakes_seen)
		{
			/* if no lane could take anything, the wake-up may wait a little */
			if (any || lane_count == 0 || now >= claimed_at + CROWDED_CLAIM_MS)
				return CLAIM_ALL;
		}
		else if (more)
			return CLAIM_MORE;
	}
	if (pg_atomic_read_u32(&crm_worker_slot->urgent) != urgent_seen && crm_flight_free() >= BATCH)
		return CLAIM_URGENT;
	return CLAIM_NOT;
}

/*
 * For how long windows are to last.
 */
static int64
lane_horizon_us(void)
{
	int			busy = 0;

	for (int i = 0; i < lane_count; i++)
		busy += lane_list[i]->waiting_count > 0 || lane_list[i]->running > 0;
	return Max(WINDOW_US, Min(ASK_SHARE * busy * (ask_us + settle_us), WINDOW_MOST_US));
}

static void
claim(ClaimKind kind)
{
	Claim		claimed;
	CrmFailure	failure;
	dlist_mutable_iter iter;
	uint32		wakes = pg_atomic_read_u32(&crm_worker_slot->wakes);
	uint32		urgent = pg_atomic_read_u32(&crm_worker_slot->urgent);
	int64		horizon_us = lane_horizon_us();
	int64		start_us = crm_worker_us();

	dlist_init(&claimed.fresh);
	claimed.count = 0;
	claimed.asked = 0;
	claimed.cut = false;
	claimed.wait_ms = 0;
	claimed.mode = claimed.mode_after = CRM_OFF;

	for (int i = 0; i < lane_count; i++)
	{
		CrmLane    *lane = lane_list[i];

		lane_measure(lane, horizon_us);
		if (kind == CLAIM_ALL)
			lane->more = true;
		lane->room = kind == CLAIM_URGENT || !lane->more ? 0 : lane_room(lane);
		if (lane->room == 0 && urgent != urgent_seen && lane->settle_failures == 0)
			lane->room = -URGENT_MAX;
		lane->got = 0;
		lane->asked = false;
	}
	claim_turn++;

	if (!crm_worker_run("claim", *crm_worker->claim_timeout_ms, claim_work, &claimed, &failure))
	{
		/* not leased, so not ours */
		dlist_foreach_modify(iter, &claimed.fresh)
		{
			dlist_delete(iter.cur);
			crm_transfer_free(dlist_container(CrmTransfer, node, iter.cur));
		}
		claim_at = crm_worker_ms() + retry_ms(claim_failures, &failure);
		claim_failures++;
		crm_worker->say(crm_worker_slot, CRM_WORKER_IDLE, failure.message);
		return;
	}
	CRM_STOP("claim: after commit");
	if (claim_failures > 0)
		crm_worker->say(crm_worker_slot, CRM_WORKER_IDLE, "");
	claim_failures = 0;
	claimed_at = crm_worker_ms();
	if (claimed.asked > 0)
		ask_us += ((crm_worker_us() - start_us) / claimed.asked - ask_us) / 8;
	/* something is due and cannot be given: ask ever more seldom */
	empty_claims = claimed.count > 0 || wakes != wakes_seen ? 0 : empty_claims + 1;
	claim_at = claimed_at + Min(Max(claimed.wait_ms, empty_claims > 0 ?
									Min(10 << Min(empty_claims, 10), 1000) : 0),
								*crm_worker->fallback_ms);
	if (kind == CLAIM_ALL)
		wakes_seen = wakes;
	if (kind != CLAIM_URGENT)
		claim_cut = claimed.cut;
	urgent_seen = urgent;
	mode_wakes = wakes;
	mode_asked_at = claimed_at;
	mode_known = true;
	if (waiting > 0 && claimed.mode_after < held_mode)
		draining = true;
	held_mode = waiting > 0 ? Max(held_mode, claimed.mode) : claimed.mode;

	dlist_foreach_modify(iter, &claimed.fresh)
	{
		CrmTransfer *t = dlist_container(CrmTransfer, node, iter.cur);

		dlist_delete(iter.cur);
		if (t->lane->room >= 0)
			dlist_push_tail(&t->lane->waiting, &t->node);
		else
		{
			/* behind those of this claim, before all others */
			if (t->lane->urgent_last == NULL)
				dlist_push_head(&t->lane->waiting, &t->node);
			else
				dlist_insert_after(t->lane->urgent_last, &t->node);
			t->lane->urgent_last = &t->node;
		}
		t->lane->waiting_count++;
		waiting++;
	}
	for (int i = 0; i < lane_count; i++)
	{
		CrmLane    *lane = lane_list[i];

		lane->urgent_last = NULL;
		/* one that was passed over although there was time has nothing, or may not be asked */
		if (lane->room > 0 && (lane->asked || !claimed.cut))
			lane->more = lane->got >= lane->room;
		if (lane->got > 0)
		{
			lane->filled = lane->waiting_count + lane->running;
			lane->filled_us = crm_worker_us();
		}
	}
}

/*
 * Copies of an integration's requests, into its lane once the claim has
 * committed.
 */
static void
claim_requests(Claim *claimed, CrmLane *lane, ArrayType *requests)
{
	ArrayIterator each = array_create_iterator(requests, 0, NULL);
	CrmRequestType type = {NULL};
	CrmRequest *request = palloc(sizeof(CrmRequest));
	Datum		composite;
	bool		isnull;

	while (array_iterate(each, &composite, &isnull))
	{
		CrmTransfer *t;

		CHECK_FOR_INTERRUPTS();
		if (isnull)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("integration " INT64_FORMAT " was given a request that is NULL", lane->integration)));
		crm_request_read(&type, composite, request);
		t = crm_transfer_new(lane, request);
		if (t == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory for claimed requests")));
		dlist_push_tail(&claimed->fresh, &t->node);
		claimed->count++;
		lane->got++;
	}
	array_free_iterator(each);
}

static int
asked_earlier(const void *a, const void *b)
{
	const CrmLane *one = *(CrmLane *const *) a;
	const CrmLane *two = *(CrmLane *const *) b;

	if (one->asked_turn != two->asked_turn)
		return one->asked_turn < two->asked_turn ? -1 : 1;
	return one->integration < two->integration ? -1 : 1;
}

static void
claim_work(void *arg)
{
	Claim	   *claimed = arg;
	Oid			types[] = {INT8OID, INT4OID, INT8ARRAYOID, INT4ARRAYOID, INT4OID};
	Datum		values[5];
	CrmLane   **order = palloc(Max(lane_count, 1) * sizeof(CrmLane *));
	Datum	   *ids = palloc(Max(lane_count, 1) * sizeof(Datum));
	Datum	   *rooms = palloc(Max(lane_count, 1) * sizeof(Datum));
	SPITupleTable *table;

	/* who waited longest is asked first */
	if (lane_count > 0)
	{
		memcpy(order, lane_list, lane_count * sizeof(CrmLane *));
		qsort(order, lane_count, sizeof(CrmLane *), asked_earlier);
	}
	for (int i = 0; i < lane_count; i++)
	{
		ids[i] = Int64GetDatum(order[i]->integration);
		rooms[i] = Int32GetDatum(order[i]->room);
	}
	claimed->mode = crm_worker->mode();
	values[0] = Int64GetDatum(generation);
	values[1] = Int32GetDatum(FIRST_CLAIM);
	values[2] = PointerGetDatum(construct_array(ids, lane_count, INT8OID, 8, true, TYPALIGN_DOUBLE));
	values[3] = PointerGetDatum(construct_array(rooms, lane_count, INT4OID, 4, true, TYPALIGN_INT));
	values[4] = Int32GetDatum(CLAIM_MS);
	(void) crm_plan_run(&claim_plan,
						"SELECT integration_id, requests, max_in_flight, max_reply_bytes, options"
						" FROM crm.courier_claim($1, $2, $3, $4, $5)", 5, types, values);
	table = SPI_tuptable;

	for (uint64 row = 0; row < table->numvals; row++)
	{
		Datum		columns[5];
		bool		nulls[5];
		CrmLane    *lane;

		heap_deform_tuple(table->vals[row], table->tupdesc, columns, nulls);
		if (nulls[0] && nulls[1])
		{
			claimed->cut = true;
			continue;
		}
		if (nulls[0] || nulls[1])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("crm.courier_claim gave a row without integration or requests")));
		lane = lane_of(DatumGetInt64(columns[0]));
		lane->asked = true;
		lane->asked_turn = claim_turn;
		claimed->asked++;
		lane->max_in_flight = nulls[2] ? 1 : Max(1, DatumGetInt32(columns[2]));
		lane->max_reply_bytes = nulls[3] ? 1024 * 1024 : Max(1024, DatumGetInt32(columns[3]));
		lane_options(lane, nulls[4] ? NULL : DatumGetJsonbP(columns[4]));
		if (lane->window == 0)
			lane->window = 2 * lane->max_in_flight;
		claim_requests(claimed, lane, DatumGetArrayTypeP(columns[1]));
	}
	SPI_freetuptable(table);
	claimed->mode_after = crm_worker->mode();
	claimed->mode = Max(claimed->mode, claimed->mode_after);

	claimed->wait_ms = ask_wait_soon();
	CRM_STOP("claim: before commit");
}

/*
 * crm.courier_wait(generation): milliseconds to the nearest deadline.
 */
static int
ask_wait(void)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(generation)};
	bool		isnull = true;
	Datum		wait = (Datum) 0;

	if (crm_plan_run(&wait_plan, "SELECT crm.courier_wait($1)", 1, types, values) == 1)
		wait = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	wait_asked_at = crm_worker_ms();
	wait_until = wait_asked_at +
		(isnull ? WAIT_MAX_MS : Max(0, Min(DatumGetInt32(wait), WAIT_MAX_MS)));
	return (int) (wait_until - wait_asked_at);
}

/*
 * The same, but while much waits to be sent it is asked now and then only.  One
 * that has passed was for what this claim asks: kept, it would have integrations
 * asked again and again.
 */
static int
ask_wait_soon(void)
{
	int64		now = crm_worker_ms();

	if (waiting == 0 || now >= wait_asked_at + ASK_LOADED_MS || now >= wait_until)
		return ask_wait();
	return (int) (wait_until - now);
}

/* ---- the mode ------------------------------------------------------------- */

/*
 * Whether somebody has committed since the mode was looked at; crm.activate()
 * wakes as well.
 */
static bool
mode_due(int64 now)
{
	return waiting > 0 && !draining && now >= mode_asked_at + MODE_EVERY_MS &&
		(!mode_known || pg_atomic_read_u32(&crm_worker_slot->wakes) != mode_wakes);
}

static void
ask_mode(void)
{
	CrmFailure	failure;
	CrmMode		mode = CRM_OFF;

	mode_wakes = pg_atomic_read_u32(&crm_worker_slot->wakes);
	mode_known = crm_worker_run("mode", *crm_worker->claim_timeout_ms, ask_mode_work, &mode, &failure);
	mode_asked_at = crm_worker_ms();
	if (mode_known && mode < held_mode)
		draining = true;
}

static void
ask_mode_work(void *arg)
{
	CrmMode    *mode = arg;

	*mode = crm_worker->mode();
}

/* ---- bytes --------------------------------------------------------------- */

/*
 * Start what waits, one of each lane in turn, as far as the lanes' limits and
 * the process's descriptors go.  No lane may take the last half of the
 * descriptors while others are served.
 */
static void
start_waiting(void)
{
	int			share = Max(1, budget / 2 / Max(1, lane_count));
	int			skipped = 0;

	while (waiting > 0 && skipped < lane_count && running < budget &&
		   crm_transfer_bytes() <= BYTES_MAX)
	{
		CrmLane    *lane = lane_list[next_lane++ % lane_count];
		CrmTransfer *t;
		int			flight;

		if (dlist_is_empty(&lane->waiting) || lane->running >= lane->max_in_flight ||
			lane->settle_failures > 0 ||
			(running >= budget / 2 && lane->running >= share && lane_count > 1))
		{
			skipped++;
			continue;
		}
		flight = crm_flight_reserve();
		if (flight < 0)
			break;
		skipped = 0;
		t = dlist_container(CrmTransfer, node, dlist_pop_head_node(&lane->waiting));
		lane->waiting_count--;
		waiting--;
		lane->running++;
		running++;
		t->flight = flight;
		CRM_STOP("send: place reserved");
		if (!crm_transfer_start(t))
			finished(t);
	}
	next_lane %= Max(lane_count, 1);
}

static void
finished(CrmTransfer *t)
{
	CrmLane    *lane = t->lane;

	lane->running--;
	running--;
	lane->mean_us += (crm_worker_us() - t->started_us - lane->mean_us) / (lane->mean_us == 0 ? 1 : 16);
	dlist_push_tail(&lane->done, &t->node);
	lane->done_count++;
	if (done++ == 0)
		done_since = crm_worker_ms();
	done_bytes += t->head.length + t->reply.length;
	CRM_STOP("reply: whole");
}

static void
collect(void)
{
	CrmTransfer *t;

	while ((t = crm_transfer_finished()) != NULL)
		finished(t);
}

/*
 * Between two transactions, each of which may have waited for a lock: take
 * what has arrived meanwhile, before it counts as late.
 */
static void
serve_arrived(void)
{
	for (int rounds = 0; rounds < 10 && crm_loop_serve(0) > 0; rounds++)
		collect();
	crm_transfer_kick();
	collect();
}

/* ---- settle -------------------------------------------------------------- */

/*
 * Milliseconds until a settle is due; 0 = now.
 */
static long
settle_due(int64 now)
{
	int			ready = 0;
	int			linger;
	int64		first = -1;

	for (int i = 0; i < lane_count; i++)
	{
		CrmLane    *lane = lane_list[i];

		if (lane->done_count == 0)
			continue;
		if (lane->settle_not_before > now)
		{
			if (first < 0 || lane->settle_not_before < first)
				first = lane->settle_not_before;
			continue;
		}
		ready += lane->done_count;
	}
	if (ready == 0)
		return first < 0 ? WAIT_MAX_MS : (long) (first - now);
	linger = waiting > 0 ? LINGER_LOADED_MS : LINGER_MS;
	if (done_lanes > 1 && waiting > 0)
		linger = Max(linger, (int) Min(ASK_SHARE * done_lanes * settle_us / 1000, SETTLE_PAUSE_MS));
	if (ready >= BATCH || done_bytes >= BATCH_BYTES || running + waiting == 0 ||
		now >= done_since + linger)
		return 0;
	return (long) (done_since + linger - now);
}

static void
forget_done(CrmTransfer *t)
{
	CrmLane    *lane = t->lane;

	dlist_delete(&t->node);
	lane->done_count--;
	done--;
	done_bytes -= t->head.length + t->reply.length;
	crm_flight_clear(t->flight);
	crm_transfer_free(t);
}

/*
 * One batch over the lanes that are not paused, in turn.  If it fails, each
 * lane by itself.
 */
static void
settle(int64 now)
{
	CrmTransfer **transfers = palloc(BATCH * sizeof(CrmTransfer *));
	CrmFailure	failure;
	int			count = 0;
	int			lanes_in = 0;
	size_t		bytes = 0;
	int64		start_us = crm_worker_us();
	bool		left = false;
	CrmLane    *only = NULL;

	done_lanes = 0;
	for (int i = 0; i < lane_count; i++)
		done_lanes += lane_list[i]->done_count > 0;
	for (int i = 0; i < lane_count && count < BATCH && bytes < BATCH_BYTES && lanes_in < SETTLE_LANES; i++)
	{
		CrmLane    *lane = lane_list[next_settle++ % lane_count];
		dlist_iter	iter;

		if (lane->done_count == 0 || lane->settle_not_before > now || lane->settle_singly)
			continue;
		lanes_in++;
		only = lane;
		dlist_foreach(iter, &lane->done)
		{
			CrmTransfer *t = dlist_container(CrmTransfer, node, iter.cur);

			if (count >= BATCH || bytes >= BATCH_BYTES)
				break;
			transfers[count++] = t;
			bytes += t->head.length + t->reply.length;
		}
	}
	next_settle %= Max(lane_count, 1);
	if (count > 0)
	{
		if (lanes_in == 1)
			settle_lane(only, now);
		else if (settle_batch(transfers, count, &failure))
		{
			settle_us += ((crm_worker_us() - start_us) / lanes_in - settle_us) / 8;
			left = lanes_in >= SETTLE_LANES || count >= BATCH || bytes >= BATCH_BYTES;
			for (int i = 0; i < count; i++)
			{
				transfers[i]->lane->settle_failures = 0;
				forget_done(transfers[i]);
			}
		}
		else
		{
			for (int i = 0; i < lane_count; i++)
			{
				if (lane_list[i]->done_count == 0 || lane_list[i]->settle_not_before > now ||
					lane_list[i]->settle_singly)
					continue;
				if (crm_worker_slot->leave == CRM_LEAVE_NOW)
					return;
				serve_arrived();
				settle_lane(lane_list[i], now);
			}
		}
	}
	for (int i = 0; i < lane_count; i++)
	{
		if (lane_list[i]->settle_singly && lane_list[i]->settle_not_before <= now)
		{
			serve_arrived();
			settle_lane(lane_list[i], now);
		}
	}
	/* the lanes that had no place in it are not kept waiting */
	if (!left)
		done_since = crm_worker_ms();
}

/*
 * Pause a lane: its replies stay in memory, its requests are sent no more
 * until they are settled.
 */
static void
pause_lane(CrmLane *lane, const CrmFailure *failure)
{
	char		detail[CRM_DETAIL_LEN];

	lane->settle_not_before = crm_worker_ms() + retry_ms(lane->settle_failures, failure);
	lane->settle_failures++;
	snprintf(detail, sizeof(detail),
			 "replies of integration " INT64_FORMAT " cannot be settled (%s), trying again",
			 lane->integration, failure->sqlstate);
	crm_worker->say(crm_worker_slot, CRM_WORKER_BUSY, detail);
}

static void
settle_lane(CrmLane *lane, int64 now)
{
	CrmTransfer **transfers = palloc(BATCH * sizeof(CrmTransfer *));
	CrmFailure	failure;
	int			count = 0;
	size_t		bytes = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &lane->done)
	{
		CrmTransfer *t = dlist_container(CrmTransfer, node, iter.cur);

		if (count >= BATCH || bytes >= BATCH_BYTES)
			break;
		transfers[count++] = t;
		bytes += t->head.length + t->reply.length;
	}
	if (!lane->settle_singly)
	{
		if (settle_batch(transfers, count, &failure))
		{
			if (lane->settle_failures > 0)
				crm_worker->say(crm_worker_slot, CRM_WORKER_BUSY, "");
			lane->settle_failures = 0;
			for (int i = 0; i < count; i++)
				forget_done(transfers[i]);
			return;
		}

		/*
		 * No resources or a lock: waiting helps.  A canceled batch, a deadlock: perhaps one reply
		 * is the cause, so not for ever.
		 */
		if (failure.transient &&
			(ERRCODE_TO_CATEGORY(failure.sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
			 failure.sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
			 lane->settle_failures < CULPRIT_TRIES))
		{
			pause_lane(lane, &failure);
			return;
		}
		lane->settle_singly = true;
	}

	for (int i = 0; i < count; i++)
	{
		CrmTransfer *t = transfers[i];
		Rejection	rejection = {t, &failure};
		CrmFailure	refusal;

		if (crm_worker_leaving() == 1)
			return;
		if (settle_batch(&t, 1, &failure))
		{
			lane->settle_failures = 0;
			forget_done(t);
			continue;
		}
		if (failure.transient &&
			(ERRCODE_TO_CATEGORY(failure.sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
			 failure.sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
			 t->settle_tries++ < CULPRIT_TRIES))
		{
			pause_lane(lane, &failure);
			return;
		}
		if (!crm_worker_run("reject", settle_limit(), reject_work, &rejection, &refusal))
		{
			if (refusal.transient)
			{
				pause_lane(lane, &refusal);
				return;
			}
			ereport(WARNING,
					(errcode(refusal.sqlerrcode),
					 errmsg("reply to request " INT64_FORMAT " of integration " INT64_FORMAT " could not be kept: %s",
							t->ref, lane->integration, refusal.message),
					 errdetail("Its settle had failed with %s.", failure.sqlstate),
					 errhint("The request counts as uncertain after the courier's next start."),
					 errhidestmt(true), errhidecontext(true)));
			/* the mark in the flight file stays: the next courier reports it */
			t->flight = -1;
		}
		CRM_STOP("reject: after commit");
		forget_done(t);
	}
	lane->settle_singly = false;
	if (lane->settle_failures > 0)
		crm_worker->say(crm_worker_slot, CRM_WORKER_BUSY, "");
	lane->settle_failures = 0;
}

static bool
settle_batch(CrmTransfer **transfers, int count, CrmFailure *failure)
{
	Batch		batch = {transfers, count, WAIT_MAX_MS};

	if (!crm_worker_run("settle", settle_limit(), settle_work, &batch, failure))
		return false;
	CRM_STOP("settle: after commit");

	/* a kind may have asked to be called again at once */
	if (claim_failures == 0)
		claim_at = Min(claim_at, crm_worker_ms() + batch.wait_ms);
	if (batch.wait_ms == 0)
		empty_claims = 0;
	return true;
}

static void
settle_work(void *arg)
{
	Batch	   *batch = arg;
	Oid			reply_type;
	TupleDesc	desc = crm_reply_desc(&reply_type);
	Oid			types[3] = {INT8OID, INT8OID, get_array_type(reply_type)};
	Datum	   *replies = palloc(batch->count * sizeof(Datum));

	/* the replies of an integration stand together */
	for (int from = 0, to; from < batch->count; from = to)
	{
		CrmLane    *lane = batch->transfers[from]->lane;
		Datum		values[3];

		for (to = from; to < batch->count && batch->transfers[to]->lane == lane; to++)
			replies[to - from] = crm_reply_datum(batch->transfers[to], desc);
		values[0] = Int64GetDatum(generation);
		values[1] = Int64GetDatum(lane->integration);
		values[2] = PointerGetDatum(construct_array(replies, to - from, reply_type, -1, false, TYPALIGN_DOUBLE));
		(void) crm_plan_run(&settle_plan, "SELECT crm.courier_settle($1, $2, $3)", 3, types, values);
	}

	batch->wait_ms = ask_wait_soon();
	CRM_STOP("settle: before commit");
}

static void
reject_work(void *arg)
{
	Rejection  *rejection = arg;
	CrmTransfer *t = rejection->transfer;
	Oid			reply_type;
	TupleDesc	desc = crm_reply_desc(&reply_type);
	Oid			types[4] = {INT8OID, InvalidOid, TEXTOID, TEXTOID};
	Datum		values[4];

	types[1] = reply_type;
	values[0] = Int64GetDatum(t->lane->integration);
	values[1] = crm_reply_datum(t, desc);
	values[2] = CStringGetTextDatum(rejection->failure->sqlstate);
	values[3] = CStringGetTextDatum(rejection->failure->message);
	(void) crm_plan_run(&reject_plan, "SELECT crm.courier_reject($1, $2, $3, $4)", 4, types, values);
	CRM_STOP("reject: before commit");
}

/*
 * When crm.courier_due() is asked next: at the time that it said, and soon
 * after a commit, which may have brought something that is due earlier.
 */
static int64
due_when(void)
{
	if (pg_atomic_read_u32(&crm_worker_slot->wakes) != due_wakes)
		return Min(due_at, due_asked_at + DUE_EVERY_MS);
	return due_at;
}

static void
ask_due(void)
{
	CrmFailure	failure;
	int			wait_ms = IDLE_EVERY_MS;

	due_wakes = pg_atomic_read_u32(&crm_worker_slot->wakes);
	if (!crm_worker_run("due", DUE_LIMIT_MS, due_work, &wait_ms, &failure))
		wait_ms = RETRY_LOCK_MS;
	CRM_STOP("due: after commit");
	due_asked_at = crm_worker_ms();
	/* never without a breath, whatever a hook says */
	due_at = due_asked_at + Max(wait_ms, DUE_BREATH_MS);
}

static void
due_work(void *arg)
{
	int		   *wait_ms = arg;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(generation)};
	bool		isnull = true;
	Datum		wait = (Datum) 0;

	if (crm_plan_run(&due_plan, "SELECT crm.courier_due($1)", 1, types, values) == 1)
		wait = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		*wait_ms = DatumGetInt32(wait);
	CRM_STOP("due: before commit");
}

static void
idle_work(void *arg)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(generation)};

	(void) crm_plan_run(&idle_plan, "SELECT crm.courier_idle($1)", 1, types, values);
	CRM_STOP("maintain: before commit");
}
