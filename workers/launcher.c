/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  One process a cluster: finds the databases that want workers, starts
 *	  them, brings them back, follows CREATE, DROP, RENAME and ALTER DATABASE.
 *
 * It connects to no database and sees shared catalogues only.  A database is
 * wanted where crm.activate() has left "ALTER DATABASE … SET crm.courier = on"
 * (and crm.listen() "crm.listener = address:port"); whether anything is sent
 * is decided in the database.  pg_db_role_setting cannot be opened by the
 * relation cache without a database, so its heap is scanned by hand.
 *
 * Each turn: read the catalogues into a list, end the transaction, then act on
 * the list.  The slots in shared memory are its memory: when it dies and comes
 * back, it goes on with them.
 *
 * Must never: connect to a database; start a worker where a command holds the
 * database (utility.c); start one more often than its back-off allows.
 *
 * Locks: crm_shared->lock for the slots; AccessShareLock on the catalogues
 * while they are read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/toast_internals.h"
#include "access/xact.h"
#include "access/xlogutils.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_tablespace.h"
#include "catalog/pg_type.h"
#include "common/string.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relmapper.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/stop.h"
#include "workers/transport.h"
#include "workers/worker.h"

#define LOOK_MS				10000	/* without a poke */
#define BACKOFF_FIRST_MS	250
#define BACKOFF_MAX_MS		60000
#define STEADY_MS			30000	/* a worker that lived so long starts afresh */
#define UNBORN_MS			20000	/* registered, but no process came */

typedef struct Wanted
{
	Oid			database;
	bool		courier;
	char		listener[CRM_SETTING_LEN];
	char		mode[16];		/* crm.mode of the database, as it stands there */
} Wanted;

static CrmShared *shared;
static BackgroundWorkerHandle *handles[CRM_SLOTS];
static bool complained = false; /* about worker slots, until one started */

static Wanted *read_wanted(int *count, Oid *role);
static void read_marks(Wanted *wanted, int count);
static struct varlena *fetch_setting(Datum datum);
static const char *courier_setting(char *to, int couriers, const Wanted *wanted);
static long act(const Wanted *wanted, int count, Oid role, bool poked);
static void ask_for(Oid database, CrmWorkerKind kind, int number, const char *setting);
static long tend(int index, bool is_wanted, const char *setting, Oid role, bool poked);
static bool start(int index);
static void launcher_on_exit(int code, Datum arg);

void
crm_launcher_main(Datum main_arg)
{
	CrmWorkerApiFunction get_api;
	MemoryContext turn;
	uint32		pokes_seen = 0;
	int64		next_look = 0;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	get_api = (CrmWorkerApiFunction)
		load_external_function("crm", "crm_worker_api", true, NULL);
	crm_worker = get_api();
	shared = crm_worker->shared;
	if (shared == NULL)
		proc_exit(0);

	on_shmem_exit(launcher_on_exit, 0);
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	shared->launcher_pid = MyProcPid;
	shared->launcher_procno = MyProc->pgprocno;
	shared->launcher_started = GetCurrentTimestamp();
	LWLockRelease(shared->lock);

	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	turn = AllocSetContextCreate(TopMemoryContext, "crm launcher turn",
								 ALLOCSET_DEFAULT_SIZES);

	for (;;)
	{
		uint32		pokes = pg_atomic_read_u32(&shared->pokes);
		int64		now = crm_worker_ms();
		long		wait = LOOK_MS;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextReset(turn);
		MemoryContextSwitchTo(turn);

		if (pokes != pokes_seen || now >= next_look)
		{
			Oid			role;
			int			count;
			Wanted	   *wanted = read_wanted(&count, &role);

			wait = act(wanted, count, role, pokes != pokes_seen);
			pokes_seen = pokes;
			next_look = now + wait;
		}
		else
			wait = next_look - now;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(wait, 1), PG_WAIT_EXTENSION);
		/* a child's end comes as SIGUSR1 and sets the latch without a poke */
		if (MyLatch->is_set)
			next_look = 0;
		ResetLatch(MyLatch);
	}
}

static void
launcher_on_exit(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->launcher_pid == MyProcPid)
	{
		shared->launcher_pid = 0;
		shared->launcher_procno = -1;
	}
	LWLockRelease(shared->lock);
}

/*
 * The databases that may have workers, with their marks.  In memory of the
 * turn.
 */
static Wanted *
read_wanted(int *count, Oid *role)
{
	MemoryContext turn = CurrentMemoryContext;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Wanted	   *wanted = NULL;
	Oid		   *all = NULL;
	int			all_count = 0;
	int			size = 0;

	*count = 0;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());

	*role = get_role_oid("crm_courier", true);

	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (all_count >= size)
		{
			MemoryContext old = MemoryContextSwitchTo(turn);

			size = Max(size * 2, 16);
			wanted = wanted ? repalloc(wanted, size * sizeof(Wanted)) :
				palloc(size * sizeof(Wanted));
			all = all ? repalloc(all, size * sizeof(Oid)) : palloc(size * sizeof(Oid));
			MemoryContextSwitchTo(old);
		}
		all[all_count++] = form->oid;
		/* -2: a DROP DATABASE that was interrupted */
		if (!form->datallowconn || form->datconnlimit == -2)
			continue;
		wanted[*count].database = form->oid;
		wanted[*count].courier = false;
		wanted[*count].listener[0] = '\0';
		wanted[*count].mode[0] = '\0';
		(*count)++;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);

	read_marks(wanted, *count);

	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(turn);

	crm_flight_sweep(all, all_count);
	return wanted;
}

/*
 * Scan the heap of a shared, mapped catalogue that the relation cache cannot
 * open in a process without a database.  No pruning, no hint of an index: a
 * plain look at every row.
 */
static Relation
open_shared_heap(Oid relid, TupleDesc desc)
{
	RelFileNode node;
	Relation	rel;

	LockRelationOid(relid, AccessShareLock);
	node.spcNode = GLOBALTABLESPACE_OID;
	node.dbNode = InvalidOid;
	node.relNode = RelationMapOidToFilenode(relid, true);
	rel = CreateFakeRelcacheEntry(node);
	rel->rd_id = relid;
	rel->rd_att = desc;
	rel->rd_tableam = GetHeapamTableAmRoutine();
	rel->rd_rel->relkind = RELKIND_RELATION;
	rel->rd_rel->relisshared = true;
	return rel;
}

static void
close_shared_heap(Relation rel)
{
	Oid			relid = rel->rd_id;

	FreeFakeRelcacheEntry(rel);
	UnlockRelationOid(relid, AccessShareLock);
}

/*
 * crm.courier and crm.listener out of pg_db_role_setting, rows of a database
 * and no role.
 */
static void
read_marks(Wanted *wanted, int count)
{
	TupleDesc	desc = CreateTemplateTupleDesc(Natts_pg_db_role_setting);
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Snapshot	snapshot;

	/* types are not looked up: an oid lies as an integer does, bytea as text */
	TupleDescInitBuiltinEntry(desc, Anum_pg_db_role_setting_setdatabase, "setdatabase",
							  INT4OID, -1, 0);
	TupleDescInitBuiltinEntry(desc, Anum_pg_db_role_setting_setrole, "setrole",
							  INT4OID, -1, 0);
	TupleDescInitBuiltinEntry(desc, Anum_pg_db_role_setting_setconfig, "setconfig",
							  TEXTARRAYOID, -1, 1);

	rel = open_shared_heap(DbRoleSettingRelationId, desc);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = heap_beginscan(rel, snapshot, 0, NULL, NULL, SO_TYPE_SEQSCAN);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		bool		isnull;
		Oid			database = DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull));
		Oid			role = DatumGetObjectId(heap_getattr(tuple, 2, desc, &isnull));
		Datum		config = heap_getattr(tuple, 3, desc, &isnull);
		Wanted	   *w = NULL;
		Datum	   *items;
		int			item_count;

		CHECK_FOR_INTERRUPTS();
		if (isnull || OidIsValid(role))
			continue;
		for (int i = 0; i < count && w == NULL; i++)
		{
			if (wanted[i].database == database)
				w = &wanted[i];
		}
		if (w == NULL)
			continue;
		deconstruct_array((ArrayType *) fetch_setting(config), TEXTOID, -1, false,
						  TYPALIGN_INT, &items, NULL, &item_count);
		for (int i = 0; i < item_count; i++)
		{
			char	   *item = TextDatumGetCString(items[i]);
			bool		on;

			if (pg_strncasecmp(item, "crm.courier=", 12) == 0)
				w->courier = parse_bool(item + 12, &on) && on;
			else if (pg_strncasecmp(item, "crm.listener=", 13) == 0)
				strlcpy(w->listener, item + 13, CRM_SETTING_LEN);
			else if (pg_strncasecmp(item, "crm.mode=", 9) == 0)
				strlcpy(w->mode, item + 9, sizeof(w->mode));
		}
	}
	heap_endscan(scan);
	UnregisterSnapshot(snapshot);
	close_shared_heap(rel);
}

/*
 * Detoast by hand as well: a database with many settings has its row out of
 * line, in a table that the relation cache cannot open either.
 */
static struct varlena *
fetch_setting(Datum datum)
{
	struct varlena *value = (struct varlena *) DatumGetPointer(datum);
	struct varatt_external pointer;
	struct varlena *result;
	TupleDesc	desc;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	int32		size;
	SnapshotData toast_snapshot;

	if (!VARATT_IS_EXTERNAL_ONDISK(value))
		return pg_detoast_datum(value);

	VARATT_EXTERNAL_GET_POINTER(pointer, value);
	size = VARATT_EXTERNAL_GET_EXTSIZE(pointer);
	result = palloc0(size + VARHDRSZ);
	if (VARATT_EXTERNAL_IS_COMPRESSED(pointer))
		SET_VARSIZE_COMPRESSED(result, size + VARHDRSZ);
	else
		SET_VARSIZE(result, size + VARHDRSZ);

	desc = CreateTemplateTupleDesc(3);
	TupleDescInitBuiltinEntry(desc, 1, "chunk_id", INT4OID, -1, 0);
	TupleDescInitBuiltinEntry(desc, 2, "chunk_seq", INT4OID, -1, 0);
	TupleDescInitBuiltinEntry(desc, 3, "chunk_data", TEXTOID, -1, 0);

	rel = open_shared_heap(pointer.va_toastrelid, desc);
	InitToastSnapshot(toast_snapshot, GetActiveSnapshot()->lsn, GetActiveSnapshot()->whenTaken);
	scan = heap_beginscan(rel, &toast_snapshot, 0, NULL, NULL, SO_TYPE_SEQSCAN);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		bool		isnull;
		int32		sequence;
		struct varlena *chunk;
		int32		offset;

		if (DatumGetObjectId(heap_getattr(tuple, 1, desc, &isnull)) != pointer.va_valueid)
			continue;
		sequence = DatumGetInt32(heap_getattr(tuple, 2, desc, &isnull));
		chunk = PG_DETOAST_DATUM_PACKED(heap_getattr(tuple, 3, desc, &isnull));
		offset = sequence * TOAST_MAX_CHUNK_SIZE;
		if (isnull || sequence < 0 || offset + (int32) VARSIZE_ANY_EXHDR(chunk) > size)
			continue;
		memcpy(VARDATA(result) + offset, VARDATA_ANY(chunk), VARSIZE_ANY_EXHDR(chunk));
	}
	heap_endscan(scan);
	close_shared_heap(rel);
	return pg_detoast_datum(result);
}

/*
 * What a courier must be started anew for: of how many it is one, and the
 * database's crm.mode, which a process that is connected takes from nowhere
 * else.
 */
static const char *
courier_setting(char *to, int couriers, const Wanted *wanted)
{
	snprintf(to, CRM_SETTING_LEN, "%d %s", couriers, wanted->mode);
	return to;
}

/*
 * Compare what is wanted with what is there.  Milliseconds until something has
 * to be looked at again.
 */
static long
act(const Wanted *wanted, int count, Oid role, bool poked)
{
	long		wait = LOOK_MS;
	int			couriers = *crm_worker->couriers;
	char		of_couriers[CRM_SETTING_LEN];

	for (int i = 0; i < count; i++)
	{
		courier_setting(of_couriers, couriers, &wanted[i]);
		for (int number = 0; wanted[i].courier && number < couriers; number++)
			ask_for(wanted[i].database, CRM_WORKER_COURIER, number, of_couriers);
		if (wanted[i].courier && wanted[i].listener[0] != '\0')
			ask_for(wanted[i].database, CRM_WORKER_LISTENER, 0, wanted[i].listener);
	}
	for (int i = 0; i < CRM_SLOTS; i++)
	{
		CrmWorkerSlot *slot = &shared->slot[i];
		const char *setting = NULL;
		long		left;

		if (slot->state == CRM_WORKER_FREE)
			continue;
		for (int j = 0; j < count && setting == NULL; j++)
		{
			if (wanted[j].database != slot->database || !wanted[j].courier)
				continue;
			if (slot->kind == CRM_WORKER_COURIER && slot->number < couriers)
				setting = courier_setting(of_couriers, couriers, &wanted[j]);
			else if (slot->kind == CRM_WORKER_LISTENER && wanted[j].listener[0] != '\0')
				setting = wanted[j].listener;
		}
		left = tend(i, setting != NULL, setting, role, poked);
		wait = Min(wait, left);
	}
	return wait;
}

/*
 * Make sure that a slot exists for a worker that is wanted.
 */
static void
ask_for(Oid database, CrmWorkerKind kind, int number, const char *setting)
{
	int			unused = -1;
	bool		full = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < CRM_SLOTS; i++)
	{
		CrmWorkerSlot *slot = &shared->slot[i];

		if (slot->state == CRM_WORKER_FREE)
		{
			if (unused < 0)
				unused = i;
		}
		else if (slot->database == database && slot->kind == kind && slot->number == number)
		{
			LWLockRelease(shared->lock);
			return;
		}
	}
	if (unused >= 0)
	{
		CrmWorkerSlot *slot = &shared->slot[unused];

		slot->kind = kind;
		slot->number = number;
		slot->pid = 0;
		slot->procno = -1;
		slot->generation = 0;
		slot->leave = CRM_LEAVE_NO;
		slot->exit = CRM_EXIT_ASKED;
		slot->started = 0;
		slot->since = GetCurrentTimestamp();
		slot->not_before = 0;
		slot->failures = 0;
		slot->in_flight = 0;
		slot->detail[0] = '\0';
		strlcpy(slot->setting, setting, CRM_SETTING_LEN);
		slot->database = database;
		slot->state = CRM_WORKER_RESTING;
	}
	else
		full = true;
	LWLockRelease(shared->lock);

	if (full && !complained)
	{
		complained = true;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("more than %d databases and listeners want a worker of crm", CRM_SLOTS),
				 errhint("Call crm.deactivate() in databases that need none.")));
	}
}

/*
 * One slot: start its worker, ask it to leave, or free it.  Milliseconds until
 * the next look at it.
 */
static long
tend(int index, bool is_wanted, const char *setting, Oid role, bool poked)
{
	CrmWorkerSlot *slot = &shared->slot[index];
	TimestampTz now = GetCurrentTimestamp();
	long		wait = LOOK_MS;
	bool		do_start = false;
	pid_t		pid;

	if (slot->state == CRM_WORKER_RESTING && slot->started != 0)
		CRM_STOP("launcher: a worker has ended");
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);

	/* registered, and the postmaster has given it up, or nobody knows of it */
	if (slot->state == CRM_WORKER_STARTING && slot->pid == 0)
	{
		bool		lost = handles[index] ?
			GetBackgroundWorkerPid(handles[index], &pid) == BGWH_STOPPED :
			TimestampDifferenceExceeds(slot->since, now, UNBORN_MS);

		if (lost)
		{
			slot->state = CRM_WORKER_RESTING;
			slot->leave = CRM_LEAVE_NO;
			slot->exit = CRM_EXIT_CRASH;
		}
	}

	if (slot->pid != 0 || slot->state == CRM_WORKER_STARTING)
	{
		if (!is_wanted || strcmp(slot->setting, setting) != 0)
			crm_worker->leave(slot, CRM_LEAVE_SOON);
	}
	else if (!is_wanted)
	{
		slot->database = InvalidOid;
		slot->state = CRM_WORKER_FREE;
		if (handles[index])
			pfree(handles[index]);
		handles[index] = NULL;
	}
	else if (crm_worker->held(slot->database))
		wait = 1000;			/* the holder pokes when it ends */
	else
	{
		/* a worker has just ended: when may the next one start? */
		if (slot->started != 0)
		{
			bool		steady = TimestampDifferenceExceeds(slot->started, now, STEADY_MS);

			switch (slot->exit)
			{
				case CRM_EXIT_ASKED:
					slot->failures = 0;
					slot->not_before = 0;
					break;
				case CRM_EXIT_NOT_HERE:
					slot->failures = 0;
					slot->not_before = TimestampTzPlusMilliseconds(now, BACKOFF_MAX_MS);
					break;
				case CRM_EXIT_CRASH:
					slot->failures = steady ? 1 : slot->failures + 1;
					slot->not_before =
						TimestampTzPlusMilliseconds(now,
													Min(BACKOFF_FIRST_MS << Min(slot->failures - 1, 10),
														BACKOFF_MAX_MS));
					break;
			}
			slot->started = 0;
		}
		else if (poked && slot->exit == CRM_EXIT_NOT_HERE)
			slot->not_before = 0;	/* something was activated: perhaps this */
		if (!OidIsValid(role))
		{
			strlcpy(slot->detail, "role crm_courier does not exist", CRM_DETAIL_LEN);
			wait = 5000;
		}
		/* further ahead than any back-off: the wall clock was set back */
		else if (slot->not_before > now &&
				 TimestampDifferenceMilliseconds(now, slot->not_before) <= BACKOFF_MAX_MS)
			wait = TimestampDifferenceMilliseconds(now, slot->not_before) + 1;
		else
		{
			slot->role = role;
			slot->leave = CRM_LEAVE_NO;
			slot->state = CRM_WORKER_STARTING;
			slot->since = now;
			strlcpy(slot->setting, setting, CRM_SETTING_LEN);
			do_start = true;
		}
	}
	LWLockRelease(shared->lock);

	if (do_start && !start(index))
		wait = 2000;
	return wait;
}

static bool
start(int index)
{
	CrmWorkerSlot *slot = &shared->slot[index];
	const char *name = slot->kind == CRM_WORKER_COURIER ? "crm courier" : "crm listener";
	BackgroundWorker worker;
	MemoryContext old;
	bool		started;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = Int32GetDatum(index);
	strlcpy(worker.bgw_library_name, "crm_worker", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name,
			slot->kind == CRM_WORKER_COURIER ? "crm_courier_main" : "crm_listener_main",
			BGW_MAXLEN);
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);

	if (handles[index])
		pfree(handles[index]);
	handles[index] = NULL;
	CRM_STOP("launcher: before it registers a worker");
	old = MemoryContextSwitchTo(TopMemoryContext);
	started = RegisterDynamicBackgroundWorker(&worker, &handles[index]);
	MemoryContextSwitchTo(old);
	CRM_STOP("launcher: after it registered a worker");

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (started)
		shared->out_of_slots = 0;
	else
	{
		slot->state = CRM_WORKER_RESTING;
		strlcpy(slot->detail, "out of background worker slots: raise max_worker_processes and restart",
				CRM_DETAIL_LEN);
		if (shared->out_of_slots == 0)
			shared->out_of_slots = GetCurrentTimestamp();
	}
	LWLockRelease(shared->lock);

	if (started)
		complained = false;
	else if (!complained)
	{
		complained = true;
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("out of background worker slots"),
				 errdetail("A %s for the database with oid %u cannot start.", name, slot->database),
				 errhint("You might need to increase max_worker_processes, which is %d.",
						 max_worker_processes)));
	}
	return started;
}
