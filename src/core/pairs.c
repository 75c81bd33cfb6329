/*-------------------------------------------------------------------------
 *
 * pairs.c
 *	  Walks the two transition tables of an UPDATE in step.
 *
 * A join of the two in SQL keeps, for the whole session, the plan that its
 * first call got: after an UPDATE of one row a nested loop, with which an
 * UPDATE of 30,000 rows took minutes. The executor writes old and new row of
 * each update to the two tuplestores one after the other, so they can be read
 * side by side in linear time, whatever came before.
 *
 * Nothing here reads or writes a table; rows are looked at in place, and the
 * walk can be interrupted at each.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "core/pairs.h"

void
crm_walk_pairs(FunctionCallInfo fcinfo, const char *function, CrmPairFn fn, void *arg)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	TupleTableSlot *before,
			   *after;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) || !TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ||
		trigdata->tg_oldtable == NULL || trigdata->tg_newtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s() was not called as a trigger after an UPDATE with OLD TABLE and NEW TABLE", function)));

	desc = RelationGetDescr(trigdata->tg_relation);
	before = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	after = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	tuplestore_rescan(trigdata->tg_oldtable);
	tuplestore_rescan(trigdata->tg_newtable);
	while (tuplestore_gettupleslot(trigdata->tg_oldtable, true, false, before))
	{
		CHECK_FOR_INTERRUPTS();
		if (!tuplestore_gettupleslot(trigdata->tg_newtable, true, false, after))
			ereport(ERROR,
					(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
					 errmsg("an UPDATE of \"%s\" has more old rows than new ones",
							RelationGetRelationName(trigdata->tg_relation))));
		fn(before, after, arg);
	}
	ExecDropSingleTupleTableSlot(before);
	ExecDropSingleTupleTableSlot(after);
}

AttrNumber
crm_trigger_column(Relation rel, const char *function, const char *name, Oid type)
{
	int			attno = SPI_fnumber(RelationGetDescr(rel), name);

	if (attno <= 0 || SPI_gettypeid(RelationGetDescr(rel), attno) != type)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("table \"%s\" has no column \"%s\" of type %s",
						RelationGetRelationName(rel), name, format_type_be(type)),
				 errhint("%s() belongs to the table of crm that it was made for.", function)));
	return attno;
}

void
crm_call_sql(const char *name, int nargs, const Oid *types, Datum *values)
{
	Oid			function = LookupFuncName(list_make2(makeString("crm"), makeString(pstrdup(name))), nargs, types, false);
	FmgrInfo	flinfo;
	LOCAL_FCINFO(call, 8);

	if (nargs > 8)
		elog(ERROR, "crm_call_sql() takes at most 8 arguments");
	fmgr_info(function, &flinfo);
	InitFunctionCallInfoData(*call, &flinfo, nargs, InvalidOid, NULL, NULL);
	for (int i = 0; i < nargs; i++)
	{
		call->args[i].value = values[i];
		call->args[i].isnull = false;
	}
	(void) FunctionCallInvoke(call);
}
