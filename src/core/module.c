/*-------------------------------------------------------------------------
 *
 * module.c
 *	  Where the library starts: settings, hooks, shared memory, the launcher.
 *
 * Preloaded, the library reserves shared memory, installs the utility hook
 * and registers the launcher.  Loaded later by a backend (a server without
 * the preload line) it only defines settings, so that CREATE EXTENSION, a
 * dump and a look at the data work; crm.activate() then refuses.
 *
 * It must never open a connection, start a thread or touch a heavy library:
 * everything here runs in the postmaster too.  During pg_upgrade nothing is
 * registered.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

#include "core/core.h"
#include "core/slots.h"

PG_MODULE_MAGIC;

bool		crm_preloaded = false;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

extern PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(crm_version);
PG_FUNCTION_INFO_V1(crm_is_preloaded);

static void
crm_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(crm_clock_shmem_size());
	crm_slots_request();
}

static void
crm_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	crm_clock_shmem_startup();
	crm_slots_startup();
}

static void
crm_register_launcher(void)
{
	BackgroundWorker worker = {0};

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_name, "crm launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "crm launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "crm_worker", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "crm_launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

void
_PG_init(void)
{
	if (IsBinaryUpgrade)
		return;

	crm_guc_init();
	crm_wake_init();

	if (!process_shared_preload_libraries_in_progress)
		return;

	crm_preloaded = true;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = crm_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = crm_shmem_startup;
	crm_utility_init();
	crm_register_launcher();
}

/* crm.version(): the version of the loaded library */
Datum
crm_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(CRM_VERSION));
}

/* crm.is_preloaded(): whether the server was started with the preload line */
Datum
crm_is_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(crm_preloaded);
}
