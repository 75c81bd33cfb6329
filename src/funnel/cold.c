/*-------------------------------------------------------------------------
 *
 * cold.c
 *	  Checks the condition by which a call list is filled.
 *
 * The text is written by people.  core/expression.c reads it as ONE boolean
 * expression over the columns of a view, and it is handed back as PostgreSQL
 * writes it down itself; only that is pasted into the query.  It may use
 * columns, constants and built-in functions whose answer depends on their
 * arguments alone.
 *
 * Must never accept: a second statement, a sub-select, a function that is not
 * built in or not immutable.
 *
 * Lock: AccessShare on the view, to the end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

#include "core/expression.h"

#define CONDITION_MAX 10000		/* bytes */

PG_FUNCTION_INFO_V1(crm_funnel_call_list_expression);

static void refuse(CrmExpressionFault fault, const char *name, Oid function) pg_attribute_noreturn();
static void literal(const char *value);
static bool function_allowed(Oid function, Form_pg_proc proc);

/* crm.call_list_expression(of regclass, expression text) -> text */
Datum
crm_funnel_call_list_expression(PG_FUNCTION_ARGS)
{
	Oid			of = PG_GETARG_OID(0);
	char	   *condition = text_to_cstring(PG_GETARG_TEXT_PP(1));
	CrmExpressionRules rules = {refuse, literal, function_allowed};

	if (strlen(condition) > CONDITION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a condition of a call list is longer than %d bytes", CONDITION_MAX),
				 errhint("Fill the list by ids instead: crm.call_list_add(list, contact_ids).")));
	PG_RETURN_TEXT_P(cstring_to_text(crm_expression_written(of, "Name a view, such as crm.call_list_candidate.", condition, BOOLOID,
															"the condition", "condition of a call list", &rules)));
}

/* The error of the room; whatever is wrong, the way out is the same. */
static void
refuse(CrmExpressionFault fault, const char *name, Oid function)
{
	if (fault == CRM_FAULT_FUNCTION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function %s cannot stand in the condition of a call list",
						OidIsValid(function) ? format_procedure(function) : psprintf("%s()", name)),
				 errhint("Use built-in functions whose answer depends on their arguments alone.")));
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot stand in the condition of a call list",
					fault == CRM_FAULT_SUBSELECT ? "a sub-select" :
					fault == CRM_FAULT_SEVERAL || fault == CRM_FAULT_STATEMENT ? "more or less than one expression" :
					name != NULL ? name : "this construct"),
			 errhint("Write one expression over columns, constants and built-in functions; anything else by crm.call_list_add(list, contact_ids).")));
}

/* The condition is read and used at once: no literal can freeze a day in it. */
static void
literal(const char *value)
{
}

static bool
function_allowed(Oid function, Form_pg_proc proc)
{
	return proc->provolatile == PROVOLATILE_IMMUTABLE;
}
