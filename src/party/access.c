/*-------------------------------------------------------------------------
 *
 * access.c
 *	  Who speaks: the employee that a pooled login names, for one transaction.
 *
 * A pooled login (a member of crm_gateway) is nobody until crm.act_as() has
 * checked a ticket and called crm.speak_as(). What that leaves behind is kept
 * here and nowhere else: no setting holds it, so SET, RESET and DISCARD cannot
 * touch it, and it ends with its transaction, with the subtransaction that
 * made it when that rolls back, and with any change of the session's user.
 *
 * A transaction speaks for one employee only. A second one is refused, since
 * a cursor that was opened for the first would go on with the rows of either.
 *
 * Nothing here reads or writes a table. The call-backs run where an error
 * would be a PANIC: they only assign.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#include "core/core.h"
#include "core/expression.h"
#include "party/party.h"

PG_FUNCTION_INFO_V1(crm_party_login);
PG_FUNCTION_INFO_V1(crm_party_speak_as);
PG_FUNCTION_INFO_V1(crm_party_spoken_for);
PG_FUNCTION_INFO_V1(crm_party_is_pooled);
PG_FUNCTION_INFO_V1(crm_party_speaks);
PG_FUNCTION_INFO_V1(crm_party_plant_door);
PG_FUNCTION_INFO_V1(crm_party_for_plant);
PG_FUNCTION_INFO_V1(crm_party_me_name);

#define MAX_NAME 600			/* bytes of the name that audits keep */

/* For whom this transaction speaks. */
typedef struct Speaker
{
	int			level;			/* outermost nesting level that said so, 0 for nobody */
	LocalTransactionId lxid;	/* of the transaction */
	Oid			login;			/* who said so */
	int64		employee;
	char		name[MAX_NAME + NAMEDATALEN + 8];
} Speaker;

static Speaker speaker = {0};

/* What runs is done for the plant: see crm.plant_door(). An error closes the door, since its subtransaction is then gone. */
static SubTransactionId door = InvalidSubTransactionId;
static LocalTransactionId door_of = InvalidLocalTransactionId;

static void
at_xact_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			speaker.level = 0;
			break;
		default:
			break;
	}
}

static void
at_subxact_event(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	/* psqlODBC puts a savepoint around each statement: what it releases goes on. */
	if (speaker.level >= level)
		speaker.level = event == SUBXACT_EVENT_COMMIT_SUB ? level - 1 : 0;
}

/*
 * Who logged in.  SET ROLE changes nothing of it, nor does a definer function;
 * only a superuser, who may be anybody, becomes whom he sets.
 */
static Oid
login(void)
{
	return superuser_arg(GetSessionUserId()) ? GetOuterUserId() : GetSessionUserId();
}

static bool
speaking(void)
{
	return speaker.level > 0 && speaker.lxid == MyProc->lxid && speaker.login == login();
}

/* Whether that is a pooled login: a member of crm_gateway, which a superuser is by name only. */
static bool
is_pooled(void)
{
	Oid			gateway = get_role_oid("crm_gateway", true);

	return OidIsValid(gateway) && is_member_of_role_nosuper(login(), gateway);
}

static bool
door_open(void)
{
	return door != InvalidSubTransactionId && door_of == MyProc->lxid && SubTransactionIsActive(door);
}

/* crm.login() */
Datum
crm_party_login(PG_FUNCTION_ARGS)
{
	Name		name = (Name) palloc0(NAMEDATALEN);

	namestrcpy(name, GetUserNameFromId(login(), false));
	PG_RETURN_NAME(name);
}

/*
 * crm.speak_as(employee_id bigint, name text): for crm.act_as() alone, which
 * has checked the ticket.
 */
Datum
crm_party_speak_as(PG_FUNCTION_ARGS)
{
	static bool registered = false;
	int64		employee = PG_GETARG_INT64(0);
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	int			level = GetCurrentTransactionNestLevel();
	int			length;

	if (!is_pooled())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("login \"%s\" is no pooled one and speaks for itself", GetUserNameFromId(login(), false)),
				 errhint("Only a member of crm_gateway speaks for an employee.")));
	if (IsInParallelMode())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("cannot begin to speak for an employee during a parallel operation")));
	if (speaking())
	{
		if (speaker.employee == employee)
			PG_RETURN_VOID();
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("this transaction already speaks for another employee"),
				 errhint("End it first: a transaction speaks for one employee only.")));
	}
	if (!registered)
	{
		RegisterXactCallback(at_xact_event, NULL);
		RegisterSubXactCallback(at_subxact_event, NULL);
		registered = true;
	}

	speaker.level = 0;
	length = pg_mbcliplen(name, strlen(name), MAX_NAME);
	snprintf(speaker.name, sizeof(speaker.name), "%.*s (%s)", length, name, GetUserNameFromId(login(), false));
	speaker.employee = employee;
	speaker.login = login();
	speaker.lxid = MyProc->lxid;
	speaker.level = level;
	PG_RETURN_VOID();
}

/* crm.spoken_for(): the employee whom crm.act_as() named in this transaction, else NULL. */
Datum
crm_party_spoken_for(PG_FUNCTION_ARGS)
{
	if (!speaking())
		PG_RETURN_NULL();
	PG_RETURN_INT64(speaker.employee);
}

/* crm.is_pooled(): whether this login has to say for whom it speaks. */
Datum
crm_party_is_pooled(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(is_pooled());
}

/* crm.me_name(): who is written down as the author of a change. */
Datum
crm_party_me_name(PG_FUNCTION_ARGS)
{
	if (speaking())
		PG_RETURN_TEXT_P(cstring_to_text(speaker.name));
	PG_RETURN_TEXT_P(cstring_to_text(GetUserNameFromId(GetSessionUserId(), false)));
}

/* crm.speaks(): not a pooled login that has said nothing. */
Datum
crm_party_speaks(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(speaking() || !is_pooled());
}

/* crm.plant_door(boolean) */
Datum
crm_party_plant_door(PG_FUNCTION_ARGS)
{
	bool		was = door_open();

	if (!PG_GETARG_BOOL(0))
		door = InvalidSubTransactionId;
	else if (!was)
	{
		door = GetCurrentSubTransactionId();
		door_of = MyProc->lxid;
	}
	PG_RETURN_BOOL(was);
}

/*
 * crm.for_plant(): the condition of a rule is being judged, the door is open,
 * or who logged in sees the plant.  Asked for each row by functions that
 * couriers call, so it looks at no table.
 */
Datum
crm_party_for_plant(PG_FUNCTION_ARGS)
{
	static const char *const roles[] = {"crm_courier", "crm_owner", "crm_erp_writer", "crm_integrator", "crm_director", "crm_bi_reader"};

	if (crm_judging() || door_open())
		PG_RETURN_BOOL(true);
	if (is_pooled())
		PG_RETURN_BOOL(false);
	for (int i = 0; i < lengthof(roles); i++)
	{
		Oid			role = get_role_oid(roles[i], true);

		if (OidIsValid(role) && is_member_of_role(login(), role))
			PG_RETURN_BOOL(true);
	}
	PG_RETURN_BOOL(false);
}
