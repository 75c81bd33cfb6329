/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The one clock.  Business time is real time, unless a superuser has
 *	  moved it or given it another pace (crm.set_now), so that tests and the
 *	  demo replay a day in a minute.
 *
 * The truth is the row of crm.clock_state: business = base_business +
 * (real - base_real) * rate.  It is not dumped.  Shared memory keeps a copy
 * a database, read again after every change and after a crash restart.
 *
 * The business clock serves events, quiet hours, schedules, expiry and
 * known_at.  Time-outs, leases, back-off and poll intervals use the
 * monotonic clock, which nobody moves.
 *
 * ClockShared->lock guards all fields of its entries.  A reader that found
 * the copy unknown reads the row without the lock and stores it only where
 * no change was announced meanwhile (generation).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/core.h"

#define CLOCK_ENTRIES 64		/* databases whose clock is cached; others read the row each time */

typedef struct Clock
{
	TimestampTz base_real;
	TimestampTz base_business;
	double		rate;			/* 1 = real pace, 0 = stands still */
} Clock;

typedef struct ClockEntry
{
	Oid			dboid;
	uint32		generation;		/* grows with every announced change */
	bool		known;			/* clock holds what the row says */
	Clock		clock;
} ClockEntry;

typedef struct ClockShared
{
	slock_t		lock;
	ClockEntry	entries[CLOCK_ENTRIES];
} ClockShared;

static ClockShared *shared = NULL;
static bool changed_here = false;	/* this transaction wrote the row */

static const Clock real_clock = {0, 0, 1.0};

PG_FUNCTION_INFO_V1(crm_now_sql);
PG_FUNCTION_INFO_V1(crm_clock_sql);
PG_FUNCTION_INFO_V1(crm_monotonic_ms_sql);
PG_FUNCTION_INFO_V1(crm_clock_changed);

Size
crm_clock_shmem_size(void)
{
	return MAXALIGN(sizeof(ClockShared));
}

void
crm_clock_shmem_startup(void)
{
	bool		found;

	shared = ShmemInitStruct("crm clock", sizeof(ClockShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(ClockShared));
		SpinLockInit(&shared->lock);
	}
}

/* The entry of this database, made where there is room; call with the lock held. */
static ClockEntry *
entry_of_database(void)
{
	for (int i = 0; i < CLOCK_ENTRIES; i++)
	{
		ClockEntry *e = &shared->entries[i];

		if (e->dboid == MyDatabaseId)
			return e;
		if (e->dboid == InvalidOid)
		{
			e->dboid = MyDatabaseId;
			e->known = false;
			return e;
		}
	}
	return NULL;
}

/* What the row says now; the real clock where there is none. */
static Clock
read_row(void)
{
	Clock		clock = real_clock;
	Oid			oid = crm_table("clock_state");
	Relation	rel;
	Snapshot	snapshot;
	TableScanDesc scan;
	HeapTuple	tuple;

	if (!OidIsValid(oid))
		return clock;

	rel = table_open(oid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull[3];
		Datum		real = heap_getattr(tuple, 2, RelationGetDescr(rel), &isnull[0]);
		Datum		business = heap_getattr(tuple, 3, RelationGetDescr(rel), &isnull[1]);
		Datum		rate = heap_getattr(tuple, 4, RelationGetDescr(rel), &isnull[2]);

		if (isnull[0] || isnull[1] || isnull[2])
			continue;
		clock.base_real = DatumGetTimestampTz(real);
		clock.base_business = DatumGetTimestampTz(business);
		clock.rate = DatumGetFloat8(rate);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return clock;
}

static Clock
current_clock(void)
{
	ClockEntry *e;
	Clock		clock;
	uint32		generation = 0;

	if (shared == NULL || changed_here || !OidIsValid(MyDatabaseId))
		return OidIsValid(MyDatabaseId) ? read_row() : real_clock;

	SpinLockAcquire(&shared->lock);
	e = entry_of_database();
	if (e != NULL && e->known)
	{
		clock = e->clock;
		SpinLockRelease(&shared->lock);
		return clock;
	}
	if (e != NULL)
		generation = e->generation;
	SpinLockRelease(&shared->lock);

	clock = read_row();

	/* Without the extension nothing is cached: CREATE EXTENSION announces no change. */
	if (!OidIsValid(crm_table("clock_state")))
		return clock;

	SpinLockAcquire(&shared->lock);
	e = entry_of_database();
	if (e != NULL && e->generation == generation)
	{
		e->clock = clock;
		e->known = true;
	}
	SpinLockRelease(&shared->lock);
	return clock;
}

static TimestampTz
business(TimestampTz real)
{
	Clock		clock = current_clock();
	double		passed;
	TimestampTz result;

	if (clock.base_real == 0 && clock.base_business == 0)
		return real;
	passed = (double) (real - clock.base_real) * clock.rate;
	result = clock.base_business + (int64) rint(passed);
	return IS_VALID_TIMESTAMP(result) ? result : real;
}

/* Business time of the transaction. */
TimestampTz
crm_now(void)
{
	return business(GetCurrentTransactionStartTimestamp());
}

/* Business time at this moment. */
TimestampTz
crm_clock(void)
{
	return business(GetCurrentTimestamp());
}

/* Milliseconds of a clock that nobody moves; counts on through a suspend. */
int64
crm_monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Called at the end of every transaction; must not throw. */
void
crm_clock_at_end(bool committed)
{
	if (!changed_here)
		return;
	changed_here = false;
	if (shared == NULL || !committed)
		return;
	SpinLockAcquire(&shared->lock);
	for (int i = 0; i < CLOCK_ENTRIES; i++)
	{
		ClockEntry *e = &shared->entries[i];

		if (e->dboid == MyDatabaseId)
		{
			e->known = false;
			e->generation++;
		}
	}
	SpinLockRelease(&shared->lock);
}

Datum
crm_now_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(crm_now());
}

Datum
crm_clock_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(crm_clock());
}

Datum
crm_monotonic_ms_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(crm_monotonic_ms());
}

/* Trigger of crm.clock_state: the cached copies are stale once this transaction commits. */
Datum
crm_clock_changed(PG_FUNCTION_ARGS)
{
	changed_here = true;
	return PointerGetDatum(NULL);
}
