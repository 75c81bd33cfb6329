/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  What courier and listener share: start, one transaction, one look
 *	  around, the end.
 *
 * A worker connects as crm_courier, never as a superuser.  Each transaction
 * first locks the extension itself, so that DROP EXTENSION and a transaction
 * of ours exclude each other, and looks whether it is still the same one; if
 * not, the worker leaves.
 *
 * SIGTERM during start-up is FATAL at the next interrupt check.  Once at work
 * it is a request: no new work, what is nearly done is finished and settled,
 * and the process is gone within CRM_TERM_GRACE_MS whatever hangs; a
 * transaction that is still under way after CRM_TERM_DIE_MS is ended hard.
 *
 * Must never: hold a transaction, snapshot or lock between two calls of
 * crm_worker_run; put a foreign word into pg_stat_activity.
 *
 * Locks: share lock on the extension object inside a transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <malloc.h>
#include <time.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "workers/worker.h"

PG_MODULE_MAGIC;

#define CRM_TERM_GRACE_MS	300
#define CRM_TERM_DIE_MS		700
#define CRM_SOON_GRACE_MS	1000
#define CRM_TICK_MS			100
/*
 * Short for a courier: while its transaction waits for a lock, no byte moves,
 * and replies would count as late.  The listener's clients wait anyway.
 */
#define COURIER_LOCK_TIMEOUT	"250ms"
#define LISTENER_LOCK_TIMEOUT	"10s"
#define CRM_LOG_EVERY_MS	10000

const CrmWorkerApi *crm_worker = NULL;
CrmWorkerSlot *crm_worker_slot = NULL;
MemoryContext crm_worker_context = NULL;

static const char *worker_name = "crm worker";
static Oid	extension_oid = InvalidOid;
static char outdated[CRM_DETAIL_LEN];	/* not empty: another version is here */
static TimeoutId tick_timeout;

/* written by signal handlers */
static volatile sig_atomic_t term_requested = false;
static volatile int64 term_at = 0;
static volatile int64 limit_at = 0; /* 0 = no transaction is timed */
static volatile sig_atomic_t limit_hit = false;

static int64 leave_since = 0;
static int64 log_next = 0;
static int	log_suppressed = 0;

static void worker_sigterm(SIGNAL_ARGS);
static void worker_tick(void);
static void worker_settings(void);
static Oid	find_extension(void);
static bool is_transient(int sqlerrcode);
static bool may_quote_data(int sqlerrcode);
static void keep_failure(ErrorData *error, CrmFailure *failure);

int64
crm_worker_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int64
crm_worker_ms(void)
{
	return crm_worker_us() / 1000;
}

/*
 * Safe in a signal handler: clock_gettime, stores and a latch.
 */
static void
worker_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	if (!term_requested)
	{
		term_at = crm_worker_ms();
		term_requested = true;
	}
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * Every CRM_TICK_MS while a transaction runs.  The server arms no
 * statement_timeout for a worker's SPI, so the limit is ours.
 */
static void
worker_tick(void)
{
	int64		now = crm_worker_ms();

	if (limit_at != 0 && now >= limit_at)
	{
		limit_hit = true;
		QueryCancelPending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
	if (term_requested && now >= term_at + CRM_TERM_DIE_MS)
	{
		ProcDiePending = true;
		InterruptPending = true;
		SetLatch(MyLatch);
	}
}

void
crm_worker_start(Datum main_arg, const char *activity)
{
	CrmWorkerApiFunction get_api;

	worker_name = activity;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	/*
	 * glibc raises its mmap threshold when big blocks are freed and then keeps them: a fixed one
	 * gives replies of megabytes back to the system, while the memory of a batch stays instead of
	 * coming and going with each.  Few arenas: resolver threads need no heap of their own.
	 */
	mallopt(M_MMAP_THRESHOLD, 2 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 8 * 1024 * 1024);
	mallopt(M_TOP_PAD, 1024 * 1024);
	mallopt(M_ARENA_MAX, 2);

	get_api = (CrmWorkerApiFunction)
		load_external_function("crm", "crm_worker_api", true, NULL);
	crm_worker = get_api();
	if (crm_worker->shared == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library \"crm\" is not preloaded"),
				 errhint("Add crm to shared_preload_libraries and restart the server.")));
	if (strcmp(crm_worker->version, CRM_VERSION) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("library \"crm\" is version %s and library \"crm_worker\" is version %s",
						crm_worker->version, CRM_VERSION),
				 errhint("Restart the server, so that both come from the same installation.")));

	crm_worker_slot = crm_worker->attach(DatumGetInt32(main_arg));
	if (crm_worker_slot == NULL || crm_worker_slot->leave != CRM_LEAVE_NO)
		crm_worker_leave(CRM_EXIT_ASKED, NULL);

	BackgroundWorkerInitializeConnectionByOid(crm_worker_slot->database,
											  crm_worker_slot->role, 0);
	if (crm_worker_slot->leave != CRM_LEAVE_NO)
		crm_worker_leave(CRM_EXIT_ASKED, NULL);

	crm_worker_context = AllocSetContextCreate(TopMemoryContext, "crm worker turn",
											   ALLOCSET_DEFAULT_SIZES);
	tick_timeout = RegisterTimeout(USER_TIMEOUT, worker_tick);
	worker_settings();

	StartTransactionCommand();
	extension_oid = find_extension();
	CommitTransactionCommand();

	if (!OidIsValid(extension_oid))
		crm_worker_leave(CRM_EXIT_NOT_HERE, "extension crm is not in this database");
	if (outdated[0] != '\0')
		crm_worker_leave(CRM_EXIT_NOT_HERE, outdated);
	MemoryContextSwitchTo(crm_worker_context);
}

void
crm_worker_ready(void)
{
	pqsignal(SIGTERM, worker_sigterm);
	/* one that came before the line above has set ProcDiePending */
	CHECK_FOR_INTERRUPTS();
}

/*
 * Whatever ALTER DATABASE or ALTER ROLE says, these hold in a worker.  A lease
 * must be durable before a byte leaves: synchronous_commit may be more than
 * "on" or "local", never "off".
 */
static void
worker_settings(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			settings[] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"jit", "off"},
		{"application_name", ""},
		{"max_parallel_workers_per_gather", "0"},
		/* small statements, run again and again: to plan each anew costs more than it runs */
		{"plan_cache_mode", "force_generic_plan"},
		/* plans hold what they were made for: passwords, letters */
		{"auto_explain.log_min_duration", "-1"},
		{"debug_print_parse", "off"},
		{"debug_print_rewritten", "off"},
		{"debug_print_plan", "off"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET,
						PGC_S_SESSION);
	SetConfigOption("lock_timeout",
					crm_worker_slot->kind == CRM_WORKER_COURIER ? COURIER_LOCK_TIMEOUT : LISTENER_LOCK_TIMEOUT,
					PGC_SUSET, PGC_S_SESSION);
	if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		SetConfigOption("synchronous_commit", "on", PGC_SUSET, PGC_S_SESSION);
}

/*
 * The extension's oid, or InvalidOid.  What its version says against the
 * library goes to outdated.
 */
static Oid
find_extension(void)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum("crm"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		datum = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(rel), &isnull);

		char	   *version = isnull ? "" : TextDatumGetCString(datum);

		result = ((Form_pg_extension) GETSTRUCT(tuple))->oid;
		outdated[0] = '\0';
		if (strcmp(version, CRM_VERSION) != 0)
			snprintf(outdated, sizeof(outdated),
					 "extension crm is version %.32s, the loaded library is version %s: ALTER EXTENSION crm UPDATE, or restart the server",
					 version, CRM_VERSION);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

bool
crm_worker_run(const char *activity, int limit_ms, CrmWork work, void *arg,
			   CrmFailure *failure)
{
	volatile bool done = false;
	volatile bool gone = false;
	MemoryContext context = CurrentMemoryContext;

	memset(failure, 0, sizeof(*failure));
	crm_worker->say(crm_worker_slot, CRM_WORKER_TRANSACTION, NULL);
	limit_hit = false;
	limit_at = crm_worker_ms() + limit_ms;
	enable_timeout_every(tick_timeout,
						 TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CRM_TICK_MS),
						 CRM_TICK_MS);

	PG_TRY();
	{
		if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
			SetConfigOption("synchronous_commit", "on", PGC_SUSET, PGC_S_SESSION);
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		debug_query_string = activity;
		pgstat_report_activity(STATE_RUNNING, activity);

		/* DROP EXTENSION waits for us, or we see that it has happened */
		LockDatabaseObject(ExtensionRelationId, extension_oid, 0, AccessShareLock);
		if (find_extension() != extension_oid || outdated[0] != '\0')
			gone = true;
		else
		{
			if (SPI_connect() != SPI_OK_CONNECT)
				elog(ERROR, "SPI_connect failed");
			PushActiveSnapshot(GetTransactionSnapshot());
			work(arg);
			PopActiveSnapshot();
			SPI_finish();
		}
		/* a function may have set it for the session */
		if (synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
			synchronous_commit = SYNCHRONOUS_COMMIT_LOCAL_FLUSH;
		CommitTransactionCommand();
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		limit_at = 0;
		disable_timeout(tick_timeout, false);
		QueryCancelPending = false;
		MemoryContextSwitchTo(crm_worker_context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		keep_failure(error, failure);
		FreeErrorData(error);
	}
	PG_END_TRY();

	limit_at = 0;
	disable_timeout(tick_timeout, false);
	/* a cancel that came too late must not hit the next transaction */
	QueryCancelPending = false;
	debug_query_string = NULL;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	MemoryContextSwitchTo(context);

	if (gone)
		crm_worker_leave(CRM_EXIT_NOT_HERE, outdated[0] != '\0' ? outdated :
						 "extension crm is not in this database");
	return done;
}

/*
 * Errors whose words quote the offending value: what a service said, perhaps
 * our own password.  crm.rejected has them, masked.
 */
static bool
may_quote_data(int sqlerrcode)
{
	int			category = ERRCODE_TO_CATEGORY(sqlerrcode);

	return category == ERRCODE_DATA_EXCEPTION || category == ERRCODE_PLPGSQL_ERROR;
}

/*
 * Keep what the caller needs, and log one line in bounded number.  No context
 * and no statement: they may carry data.
 */
static void
keep_failure(ErrorData *error, CrmFailure *failure)
{
	int64		now = crm_worker_ms();

	failure->sqlerrcode = error->sqlerrcode;
	strlcpy(failure->sqlstate, unpack_sql_state(error->sqlerrcode),
			sizeof(failure->sqlstate));
	if (limit_hit && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		strlcpy(failure->message, "canceled: it took longer than the courier allows",
				sizeof(failure->message));
	else
		strlcpy(failure->message, error->message ? error->message : "",
				sizeof(failure->message));
	/* cut a multibyte character at the end cleanly */
	if (error->message != NULL && strlen(error->message) >= sizeof(failure->message))
		failure->message[pg_mbcliplen(error->message, strlen(error->message),
									  sizeof(failure->message) - 1)] = '\0';
	failure->transient = is_transient(error->sqlerrcode);

	if (now < log_next)
	{
		log_suppressed++;
		return;
	}
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("%s: transaction failed with %s: %s", worker_name, failure->sqlstate,
					may_quote_data(error->sqlerrcode) ? "the value that it was about is kept out of the log" :
					failure->message),
			 log_suppressed > 0 ?
			 errdetail("%d more since the last such line.", log_suppressed) : 0,
			 errhidestmt(true), errhidecontext(true)));
	log_suppressed = 0;
	log_next = now + CRM_LOG_EVERY_MS;
}

/*
 * Errors that say nothing about the work itself.
 */
static bool
is_transient(int sqlerrcode)
{
	if (ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES)
		return true;
	switch (sqlerrcode)
	{
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_QUERY_CANCELED:
		case ERRCODE_IO_ERROR:
			return true;
		default:
			return false;
	}
}

bool
crm_worker_turn(void)
{
	bool		latched = MyLatch->is_set;

	if (latched)
		ResetLatch(MyLatch);
	/* pg_cancel_backend cancels a transaction, and there is none now */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	/* a busy loop hardly ever enters the wait that watches the postmaster */
	if (!PostmasterIsAlive())
		proc_exit(1);
	MemoryContextReset(crm_worker_context);
	MemoryContextSwitchTo(crm_worker_context);
	return latched;
}

int
crm_worker_leaving(void)
{
	int64		now;
	int64		until;

	if (!term_requested && crm_worker_slot->leave == CRM_LEAVE_NO)
		return 0;

	now = crm_worker_ms();
	if (leave_since == 0)
	{
		leave_since = now;
		crm_worker->say(crm_worker_slot, CRM_WORKER_LEAVING, NULL);
	}
	if (crm_worker_slot->leave == CRM_LEAVE_NOW)
		return 1;
	until = term_requested ? term_at + CRM_TERM_GRACE_MS : leave_since + CRM_SOON_GRACE_MS;
	return until <= now ? 1 : (int) (until - now) + 1;
}

void
crm_worker_leave(CrmWorkerExit why, const char *detail)
{
	if (crm_worker_slot != NULL)
	{
		crm_worker_slot->exit = why;
		crm_worker->say(crm_worker_slot, CRM_WORKER_LEAVING,
						detail ? detail : "");
		if (why == CRM_EXIT_NOT_HERE)
			ereport(LOG,
					(errmsg("%s leaves: %s", worker_name, detail)));
	}
	proc_exit(0);
}
