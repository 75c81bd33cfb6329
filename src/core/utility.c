/*-------------------------------------------------------------------------
 *
 * utility.c
 *	  DROP, RENAME, SET TABLESPACE and CREATE … TEMPLATE of a database that
 *	  has workers of ours.
 *
 * A connected worker makes these commands fail ("is being accessed by other
 * users").  So before the server looks, the workers of that database are asked
 * to leave and kept away until the command's transaction has ended; then the
 * launcher brings them back where they are still wanted, also after an error.
 *
 * Must never: bounce a worker for a command that would be refused anyway
 * (everything that the server checks before the sessions is checked here
 * first, by the same rules); refuse what the server would allow; change the
 * command.
 *
 * Locks: none of its own; slots.c has the shared state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_tablespace.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/tablespace.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "replication/slot.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"
#include "storage/latch.h"

#include "core/slots.h"

#define CLIENT_WAIT_MS	5000	/* as long as the server itself waits */
#define WORKER_WAIT_MS	5000

static ProcessUtility_hook_type previous_hook = NULL;
static bool poke_at_commit = false;
static bool holding = false;

static void utility_hook(PlannedStmt *pstmt, const char *queryString,
						 bool readOnlyTree, ProcessUtilityContext context,
						 ParamListInfo params, QueryEnvironment *queryEnv,
						 DestReceiver *dest, QueryCompletion *qc);
static void utility_xact(XactEvent event, void *arg);
static Oid	database_to_clear(Node *statement, ProcessUtilityContext context,
							  bool *force, bool *soon);
static bool may_drop(DropdbStmt *statement, Oid *database, bool *force);
static bool may_copy(CreatedbStmt *statement, Oid *database);
static bool may_rename(RenameStmt *statement, Oid *database);
static bool may_move(AlterDatabaseStmt *statement, Oid *database);
static int	clients_of(Oid database);

/*
 * Install the hook.  Only where the library is preloaded: else there are no
 * workers.
 */
void
crm_utility_init(void)
{
	previous_hook = ProcessUtility_hook;
	ProcessUtility_hook = utility_hook;
	RegisterXactCallback(utility_xact, NULL);
}

static void
utility_hook(PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
			 ProcessUtilityContext context, ParamListInfo params,
			 QueryEnvironment *queryEnv, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *statement = pstmt->utilityStmt;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
		case T_CreatedbStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_RenameStmt:
			if (!IsTransactionState() || IsAbortedTransactionBlockState())
				break;
			if (!IsA(statement, RenameStmt) ||
				((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
			{
				bool		force = false;
				bool		soon = true;
				Oid			database = database_to_clear(statement, context,
														 &force, &soon);

				poke_at_commit = true;
				if (OidIsValid(database))
				{
					int			clients = 0;

					/*
					 * The server waits some seconds for clients that are
					 * about to end, and so do we, before the workers are
					 * disturbed at all.
					 */
					for (int waited = 0; !force; waited += 100)
					{
						clients = clients_of(database);
						if (clients == 0 || waited >= CLIENT_WAIT_MS)
							break;
						(void) WaitLatch(MyLatch,
										 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
										 100, PG_WAIT_EXTENSION);
						ResetLatch(MyLatch);
						CHECK_FOR_INTERRUPTS();
					}
					if (clients > 0)
						ereport(ERROR,
								(errcode(ERRCODE_OBJECT_IN_USE),
								 errmsg(IsA(statement, CreatedbStmt) ?
										"source database \"%s\" is being accessed by other users" :
										"database \"%s\" is being accessed by other users",
										get_database_name(database)),
								 errdetail_plural("There is %d other session using the database.",
												  "There are %d other sessions using the database.",
												  clients, clients)));
					holding = true;
					(void) crm_slots_hold(database,
										  soon ? CRM_LEAVE_SOON : CRM_LEAVE_NOW,
										  WORKER_WAIT_MS);
				}
			}
			break;
		default:
			break;
	}

	if (previous_hook)
		previous_hook(pstmt, queryString, readOnlyTree, context, params,
					  queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context,
								params, queryEnv, dest, qc);
}

/*
 * The end of the transaction gives the database back to its workers.
 */
static void
utility_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			if (holding)
				crm_slots_release();
			else if (poke_at_commit && event == XACT_EVENT_COMMIT)
				crm_slots_poke_launcher();
			holding = poke_at_commit = false;
			break;
		default:
			break;
	}
}

/*
 * The database whose workers must go for this statement, or InvalidOid.
 */
static Oid
database_to_clear(Node *statement, ProcessUtilityContext context, bool *force,
				  bool *soon)
{
	bool		toplevel = context == PROCESS_UTILITY_TOPLEVEL;
	Oid			database = InvalidOid;
	bool		may = false;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			*soon = false;
			if (!IsInTransactionBlock(toplevel))
				may = may_drop((DropdbStmt *) statement, &database, force);
			break;
		case T_CreatedbStmt:
			if (!IsInTransactionBlock(toplevel))
				may = may_copy((CreatedbStmt *) statement, &database);
			break;
		case T_AlterDatabaseStmt:
			if (!IsInTransactionBlock(toplevel))
				may = may_move((AlterDatabaseStmt *) statement, &database);
			break;
		case T_RenameStmt:
			may = may_rename((RenameStmt *) statement, &database);
			break;
		default:
			break;
	}
	return may && database != MyDatabaseId && crm_slots_any(database) ?
		database : InvalidOid;
}

static bool
is_template(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return result;
}

static bool
may_drop(DropdbStmt *statement, Oid *database, bool *force)
{
	ListCell   *cell;
	int			slots;
	int			active_slots;

	*database = get_database_oid(statement->dbname, true);
	if (!OidIsValid(*database) || is_template(*database) ||
		!pg_database_ownercheck(*database, GetUserId()))
		return false;
	foreach(cell, statement->options)
	{
		DefElem    *option = (DefElem *) lfirst(cell);

		if (strcmp(option->defname, "force") != 0)
			return false;
		*force = true;
	}
	/* the server refuses these two whatever the sessions are */
	(void) ReplicationSlotsCountDBSlots(*database, &slots, &active_slots);
	return active_slots == 0 && CountDBSubscriptions(*database) == 0;
}

static bool
may_copy(CreatedbStmt *statement, Oid *database)
{
	const char *template = NULL;
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = (DefElem *) lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			template = defGetString(option);
	}
	if (template == NULL)
		template = "template1";
	*database = get_database_oid(template, true);
	if (!OidIsValid(*database) ||
		OidIsValid(get_database_oid(statement->dbname, true)))
		return false;
	if (!superuser() && !have_createdb_privilege())
		return false;
	return is_template(*database) ||
		pg_database_ownercheck(*database, GetUserId());
}

static bool
may_rename(RenameStmt *statement, Oid *database)
{
	*database = get_database_oid(statement->subname, true);
	return OidIsValid(*database) &&
		!OidIsValid(get_database_oid(statement->newname, true)) &&
		pg_database_ownercheck(*database, GetUserId()) &&
		(superuser() || have_createdb_privilege());
}

static bool
may_move(AlterDatabaseStmt *statement, Oid *database)
{
	ListCell   *cell;
	const char *tablespace = NULL;
	Oid			tablespace_oid;

	foreach(cell, statement->options)
	{
		DefElem    *option = (DefElem *) lfirst(cell);

		if (strcmp(option->defname, "tablespace") == 0 && option->arg != NULL)
			tablespace = defGetString(option);
	}
	if (tablespace == NULL)
		return false;
	*database = get_database_oid(statement->dbname, true);
	if (!OidIsValid(*database) ||
		!pg_database_ownercheck(*database, GetUserId()))
		return false;
	tablespace_oid = get_tablespace_oid(tablespace, true);
	return OidIsValid(tablespace_oid) &&
		pg_tablespace_aclcheck(tablespace_oid, GetUserId(),
							   ACL_CREATE) == ACLCHECK_OK;
}

/*
 * Sessions of a database that are neither ours nor this one.  Read without a
 * lock: the server counts again under its own, this only decides whether the
 * workers are disturbed.  Autovacuum's workers are the server's to send away.
 */
static int
clients_of(Oid database)
{
	int			count = 0;

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;

		if (pid == 0 || pid == MyProcPid || proc->databaseId != database)
			continue;
		/* a process that has ended leaves pid and database behind */
		if (BackendPidGetProc(pid) != proc)
			continue;
		if ((proc->statusFlags & PROC_IS_AUTOVACUUM) != 0 ||
			crm_slots_is_worker(pid))
			continue;
		count++;
	}
	return count;
}
