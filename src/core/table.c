/*-------------------------------------------------------------------------
 *
 * table.c
 *	  Small things about our own tables: finding one, and the trigger that
 *	  keeps an append-only one as it is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "storage/proc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "core/core.h"

PG_FUNCTION_INFO_V1(crm_append_only);
PG_FUNCTION_INFO_V1(crm_rewrite_door);
PG_FUNCTION_INFO_V1(crm_rewriting_sql);
PG_FUNCTION_INFO_V1(crm_hold_rules);
PG_FUNCTION_INFO_V1(crm_rules_held_sql);

/*
 * The one door through which append-only rows are changed: crm.forget() opens
 * it for its own subtransaction.  An error closes it, since that is then gone.
 */
static SubTransactionId door = InvalidSubTransactionId;
static LocalTransactionId door_of = InvalidLocalTransactionId;

bool
crm_rewriting(void)
{
	return door != InvalidSubTransactionId && door_of == MyProc->lxid && SubTransactionIsActive(door);
}

/* The oid of crm.NAME, or InvalidOid where the extension is not. */
Oid
crm_table(const char *name)
{
	Oid			schema = get_namespace_oid("crm", true);

	return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

/*
 * crm.append_only(): refuses UPDATE, DELETE and TRUNCATE.  It asks no guard:
 * a restore only inserts.
 */
Datum
crm_append_only(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	const char *what;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("crm.append_only() is a trigger function"),
				 errhint("Use it in CREATE TRIGGER ... BEFORE UPDATE OR DELETE OR TRUNCATE ... FOR EACH STATEMENT.")));

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event) && crm_rewriting())
		return PointerGetDatum(NULL);
	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
		what = "UPDATE";
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		what = "DELETE";
	else if (TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		what = "TRUNCATE";
	else
		return PointerGetDatum(NULL);

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s of table \"%s.%s\" is refused: it is append-only", what,
					get_namespace_name(RelationGetNamespace(data->tg_relation)),
					RelationGetRelationName(data->tg_relation)),
			 errhint("Add a row that corrects the earlier one; history is never rewritten.")));
}

/* crm.rewrite_door(boolean): opens or closes the door for this subtransaction. */
Datum
crm_rewrite_door(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_BOOL(0))
	{
		door = GetCurrentSubTransactionId();
		door_of = MyProc->lxid;
	}
	else
		door = InvalidSubTransactionId;
	PG_RETURN_VOID();
}

/* crm.rewriting(): whether the door is open. */
Datum
crm_rewriting_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(crm_rewriting());
}

/* Whose subtransaction holds the rules, as with the door above. */
static SubTransactionId held = InvalidSubTransactionId;
static LocalTransactionId held_of = InvalidLocalTransactionId;

/* Whether facts that are written now are history that no rule acts on. */
bool
crm_rules_held(void)
{
	return held != InvalidSubTransactionId && held_of == MyProc->lxid && SubTransactionIsActive(held);
}

/* crm.hold_rules(boolean): holds the rules, or lets them go, for this subtransaction. */
Datum
crm_hold_rules(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_BOOL(0))
	{
		held = GetCurrentSubTransactionId();
		held_of = MyProc->lxid;
	}
	else
		held = InvalidSubTransactionId;
	PG_RETURN_VOID();
}

/* crm.rules_held() */
Datum
crm_rules_held_sql(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(crm_rules_held());
}
