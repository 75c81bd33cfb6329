/*-------------------------------------------------------------------------
 *
 * slots.c
 *	  Shared memory of the workers, and what backends do with it: wake the
 *	  couriers of their database, hold a database free of workers, look.
 *
 * Must never: start, signal or kill a process (the launcher starts, the latch
 * asks); throw from crm_slots_wake or crm_slots_poke_launcher, which run after
 * the commit; keep a pointer in shared memory.
 *
 * crm_shared->lock guards the slots and the holds.  The wake-up reads
 * database, kind and procno without it: a worker scans everything when it
 * starts, so a wake-up that just misses it loses nothing, and a latch set for
 * a process that has taken over the PGPROC is only a spurious wake-up.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "core/core.h"
#include "core/slots.h"

#ifndef CRM_VERSION
#error "CRM_VERSION comes from crm.control by the Makefile"
#endif

#define CRM_TRANCHE "crm_workers"

static CrmShared *crm_shared = NULL;

static CrmWorkerSlot *slots_attach(int index);
static void slots_say(CrmWorkerSlot *slot, CrmWorkerState state, const char *detail);
static void slots_leave(CrmWorkerSlot *slot, CrmWorkerLeave how);
static bool slots_held(Oid database);
static void slots_on_exit(int code, Datum arg);
static void slots_set_latch(int procno);

static CrmWorkerApi api = {
	.version = CRM_VERSION,
	.shared = NULL,
	.attach = slots_attach,
	.say = slots_say,
	.leave = slots_leave,
	.held = slots_held,
	.poke_launcher = crm_slots_poke_launcher,
	.couriers = &crm_guc_couriers,
	.claim_timeout_ms = &crm_guc_claim_timeout_ms,
	.fallback_ms = &crm_guc_fallback_ms,
	.mode_setting = &crm_guc_mode,
	.mode = crm_mode
};

PG_FUNCTION_INFO_V1(crm_workers);
PG_FUNCTION_INFO_V1(crm_courier_number);

/*
 * How library crm_worker reaches us: the two are linked by nothing else.
 */
const CrmWorkerApi *
crm_worker_api(void)
{
	api.shared = crm_shared;
	return &api;
}

/*
 * Ask for memory: from shmem_request_hook.
 */
void
crm_slots_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(CrmShared)));
	RequestNamedLWLockTranche(CRM_TRANCHE, 1);
}

/*
 * Make or find it: from shmem_startup_hook.
 */
void
crm_slots_startup(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	crm_shared = ShmemInitStruct("crm workers", sizeof(CrmShared), &found);
	if (!found)
	{
		memset(crm_shared, 0, sizeof(CrmShared));
		crm_shared->lock = &(GetNamedLWLockTranche(CRM_TRANCHE))->lock;
		crm_shared->launcher_procno = -1;
		ConditionVariableInit(&crm_shared->gone);
		pg_atomic_init_u32(&crm_shared->pokes, 0);
		for (int i = 0; i < CRM_SLOTS; i++)
		{
			crm_shared->slot[i].procno = -1;
			pg_atomic_init_u32(&crm_shared->slot[i].wakes, 0);
			pg_atomic_init_u32(&crm_shared->slot[i].urgent, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Set the latches of the couriers of a database.  Runs in the commit
 * call-back, so it takes no lock and can raise nothing.
 */
void
crm_slots_wake(Oid database, bool urgent)
{
	if (crm_shared == NULL || !OidIsValid(database))
		return;

	for (int i = 0; i < CRM_SLOTS; i++)
	{
		CrmWorkerSlot *slot = &crm_shared->slot[i];

		if (slot->database != database || slot->kind != CRM_WORKER_COURIER)
			continue;
		/* the counters first: who sees the latch must see that it was a commit */
		if (urgent)
			pg_atomic_fetch_add_u32(&slot->urgent, 1);
		pg_atomic_fetch_add_u32(&slot->wakes, 1);
		slots_set_latch(slot->procno);
	}
}

/*
 * Have the launcher look at the catalogues: something was activated, switched
 * off, created, dropped or renamed.  Call it after the commit.
 */
void
crm_slots_poke_launcher(void)
{
	if (crm_shared == NULL)
		return;
	pg_atomic_fetch_add_u32(&crm_shared->pokes, 1);
	slots_set_latch(crm_shared->launcher_procno);
}

static void
slots_set_latch(int procno)
{
	if (procno >= 0 && procno < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

/*
 * A worker takes the slot that the launcher made for it.  NULL: it is not
 * wanted any more, and should end at once.
 *
 * The call-back is registered before the worker is in the process array, so it
 * runs after the worker has been taken out of it: who waits on "gone" may then
 * count sessions.
 */
static CrmWorkerSlot *
slots_attach(int index)
{
	CrmWorkerSlot *slot;
	bool		wanted;

	if (crm_shared == NULL || index < 0 || index >= CRM_SLOTS)
		return NULL;
	slot = &crm_shared->slot[index];

	LWLockAcquire(crm_shared->lock, LW_EXCLUSIVE);
	wanted = slot->state == CRM_WORKER_STARTING && slot->pid == 0;
	if (wanted)
	{
		slot->pid = MyProcPid;
		slot->procno = MyProc->pgprocno;
		slot->state = CRM_WORKER_CONNECTING;
		slot->started = slot->since = GetCurrentTimestamp();
		slot->in_flight = 0;
		slot->exit = CRM_EXIT_CRASH;
		slot->detail[0] = '\0';
	}
	LWLockRelease(crm_shared->lock);

	if (!wanted)
		return NULL;
	on_shmem_exit(slots_on_exit, Int32GetDatum(index));
	return slot;
}

static void
slots_on_exit(int code, Datum arg)
{
	CrmWorkerSlot *slot = &crm_shared->slot[DatumGetInt32(arg)];

	LWLockAcquire(crm_shared->lock, LW_EXCLUSIVE);
	if (slot->pid == MyProcPid)
	{
		slot->pid = 0;
		slot->procno = -1;
		slot->in_flight = 0;
		slot->state = CRM_WORKER_RESTING;
		slot->since = GetCurrentTimestamp();
		slot->leave = CRM_LEAVE_NO;
		if (slot->exit == CRM_EXIT_CRASH && slot->detail[0] == '\0')
			strlcpy(slot->detail, "ended by an error, see the server's log",
					CRM_DETAIL_LEN);
	}
	LWLockRelease(crm_shared->lock);

	ConditionVariableBroadcast(&crm_shared->gone);
	/* no poke: that would end the launcher's patience with this very worker */
	slots_set_latch(crm_shared->launcher_procno);
}

/*
 * The owner's own words about itself.  detail NULL leaves the old ones.
 */
static void
slots_say(CrmWorkerSlot *slot, CrmWorkerState state, const char *detail)
{
	/* since moves only with the state; nobody decides anything by it */
	if (slot->state != state)
	{
		slot->since = GetCurrentTimestamp();
		slot->state = state;
	}
	if (detail != NULL && strcmp(slot->detail, detail) != 0)
	{
		LWLockAcquire(crm_shared->lock, LW_EXCLUSIVE);
		strlcpy(slot->detail, detail, CRM_DETAIL_LEN);
		LWLockRelease(crm_shared->lock);
	}
}

/*
 * Ask one worker to leave.  Caller holds the lock.
 */
static void
slots_leave(CrmWorkerSlot *slot, CrmWorkerLeave how)
{
	if (slot->pid == 0 && slot->state != CRM_WORKER_STARTING)
		return;
	if (slot->leave < how)
		slot->leave = how;
	slots_set_latch(slot->procno);
}

/*
 * Is some backend's command keeping workers away from this database?  Caller
 * holds the lock.  A backend that died without a word holds nothing.
 */
static bool
slots_held(Oid database)
{
	for (int i = 0; i < CRM_HOLDS; i++)
	{
		CrmHold    *hold = &crm_shared->hold[i];

		if (hold->pid == 0 || hold->database != database)
			continue;
		if (BackendPidGetProc(hold->pid) != NULL)
			return true;
		hold->pid = 0;
	}
	return false;
}

/*
 * Keep the workers of a database away until crm_slots_release, and wait until
 * those that are there have left the process array.  False: they have not
 * within wait_ms (the hold stands all the same).
 */
bool
crm_slots_hold(Oid database, CrmWorkerLeave how, int wait_ms)
{
	TimestampTz until;
	bool		clear = true;
	int			place = -1;

	if (crm_shared == NULL)
		return true;

	LWLockAcquire(crm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < CRM_HOLDS; i++)
	{
		CrmHold    *hold = &crm_shared->hold[i];

		if (hold->pid == MyProcPid && hold->database == database)
		{
			place = i;
			break;
		}
		if (place < 0 && (hold->pid == 0 || BackendPidGetProc(hold->pid) == NULL))
			place = i;
	}
	if (place >= 0)
	{
		crm_shared->hold[place].pid = MyProcPid;
		crm_shared->hold[place].database = database;
	}
	LWLockRelease(crm_shared->lock);

	if (place < 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many commands on databases at once: %d", CRM_HOLDS),
				 errhint("Try again when other DROP, ALTER or CREATE DATABASE commands have ended.")));

	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);
	ConditionVariablePrepareToSleep(&crm_shared->gone);
	for (;;)
	{
		long		left;

		clear = true;
		LWLockAcquire(crm_shared->lock, LW_EXCLUSIVE);
		for (int i = 0; i < CRM_SLOTS; i++)
		{
			CrmWorkerSlot *slot = &crm_shared->slot[i];

			if (slot->database != database ||
				(slot->pid == 0 && slot->state != CRM_WORKER_STARTING))
				continue;
			clear = false;
			slots_leave(slot, how);
		}
		LWLockRelease(crm_shared->lock);
		if (clear)
			break;

		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		if (left <= 0)
			break;
		/* an interrupt is served inside; a broadcast may come before the sleep */
		ConditionVariableTimedSleep(&crm_shared->gone, Min(left, 100),
									PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return clear;
}

/*
 * Drop every hold of this backend: at the end of its transaction, whatever the
 * outcome.
 */
void
crm_slots_release(void)
{
	bool		any = false;

	if (crm_shared == NULL)
		return;

	LWLockAcquire(crm_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < CRM_HOLDS; i++)
	{
		if (crm_shared->hold[i].pid == MyProcPid)
		{
			crm_shared->hold[i].pid = 0;
			any = true;
		}
	}
	LWLockRelease(crm_shared->lock);
	if (any)
		crm_slots_poke_launcher();
}

/*
 * Does any worker belong to this database, running or not?
 */
bool
crm_slots_any(Oid database)
{
	bool		any = false;

	if (crm_shared == NULL)
		return false;
	LWLockAcquire(crm_shared->lock, LW_SHARED);
	for (int i = 0; i < CRM_SLOTS && !any; i++)
		any = crm_shared->slot[i].state != CRM_WORKER_FREE &&
			crm_shared->slot[i].database == database;
	LWLockRelease(crm_shared->lock);
	return any;
}

/*
 * Is this process one of ours?
 */
bool
crm_slots_is_worker(int pid)
{
	bool		ours = false;

	if (crm_shared == NULL)
		return false;
	LWLockAcquire(crm_shared->lock, LW_SHARED);
	for (int i = 0; i < CRM_SLOTS && !ours; i++)
		ours = crm_shared->slot[i].pid == pid;
	LWLockRelease(crm_shared->lock);
	return ours;
}

/*
 * crm.courier_number(): of this process.
 */
Datum
crm_courier_number(PG_FUNCTION_ARGS)
{
	int			number = 0;

	if (crm_shared != NULL)
	{
		LWLockAcquire(crm_shared->lock, LW_SHARED);
		for (int i = 0; i < CRM_SLOTS; i++)
		{
			if (crm_shared->slot[i].pid == MyProcPid)
				number = crm_shared->slot[i].number;
		}
		LWLockRelease(crm_shared->lock);
	}
	PG_RETURN_INT32(number);
}

/*
 * crm_workers() -> (kind text, database oid, pid integer, generation bigint,
 *					 state text, since timestamptz, in_flight integer,
 *					 started timestamptz, detail text)
 *
 * A row for the launcher, one for each worker that runs, and one for each that
 * should run and cannot, with the reason in detail.  No rows without preload.
 */
Datum
crm_workers(PG_FUNCTION_ARGS)
{
	static const char *const states[] = {
		[CRM_WORKER_FREE] = "free",
		[CRM_WORKER_STARTING] = "starting",
		[CRM_WORKER_CONNECTING] = "connecting",
		[CRM_WORKER_IDLE] = "idle",
		[CRM_WORKER_BUSY] = "busy",
		[CRM_WORKER_TRANSACTION] = "transaction",
		[CRM_WORKER_LEAVING] = "leaving",
		[CRM_WORKER_RESTING] = "resting"
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	CrmShared  *copy;
	Datum		values[9];
	bool		nulls[9];

	InitMaterializedSRF(fcinfo, 0);
	if (rsinfo->setDesc->natts != lengthof(values))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("crm_workers returns %d columns, not %d",
						(int) lengthof(values), rsinfo->setDesc->natts),
				 errhint("Run ALTER EXTENSION crm UPDATE, and restart the server if its library is the older one.")));
	if (crm_shared == NULL)
		return (Datum) 0;

	/* a tuplestore may spill to disk: not under the lock */
	copy = palloc(sizeof(CrmShared));
	LWLockAcquire(crm_shared->lock, LW_SHARED);
	memcpy(copy, crm_shared, sizeof(CrmShared));
	LWLockRelease(crm_shared->lock);

	memset(nulls, 0, sizeof(nulls));
	values[0] = CStringGetTextDatum("launcher");
	nulls[1] = true;
	values[2] = Int32GetDatum(copy->launcher_pid);
	nulls[2] = copy->launcher_pid == 0;
	nulls[3] = true;
	values[4] = CStringGetTextDatum(copy->launcher_pid != 0 ? "idle" : "resting");
	values[5] = TimestampTzGetDatum(copy->out_of_slots != 0 ? copy->out_of_slots
									: copy->launcher_started);
	values[6] = Int32GetDatum(0);
	values[7] = TimestampTzGetDatum(copy->launcher_started);
	nulls[5] = nulls[7] = copy->launcher_started == 0;
	values[8] = CStringGetTextDatum(copy->out_of_slots != 0 ?
									"out of background worker slots: raise max_worker_processes and restart" : "");
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);

	for (int i = 0; i < CRM_SLOTS; i++)
	{
		CrmWorkerSlot *slot = &copy->slot[i];

		CHECK_FOR_INTERRUPTS();
		if (slot->state == CRM_WORKER_FREE || slot->state > CRM_WORKER_RESTING)
			continue;
		memset(nulls, 0, sizeof(nulls));
		values[0] = CStringGetTextDatum(slot->kind == CRM_WORKER_COURIER ?
										"courier" : "listener");
		values[1] = ObjectIdGetDatum(slot->database);
		values[2] = Int32GetDatum(slot->pid);
		nulls[2] = slot->pid == 0;
		values[3] = Int64GetDatum(slot->generation);
		values[4] = CStringGetTextDatum(states[slot->state]);
		values[5] = TimestampTzGetDatum(slot->since);
		values[6] = Int32GetDatum(slot->in_flight);
		values[7] = TimestampTzGetDatum(slot->started);
		nulls[7] = slot->started == 0;
		values[8] = CStringGetTextDatum(slot->detail);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
