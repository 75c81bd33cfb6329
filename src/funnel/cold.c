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

#include "access/table.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "core/expression.h"

#define CONDITION_MAX 10000		/* bytes */

PG_FUNCTION_INFO_V1(crm_funnel_call_list_expression);

static void refuse(CrmExpressionFault fault, const char *name, Oid function) pg_attribute_noreturn();
static void literal(const char *value);
static bool function_allowed(Oid function, Form_pg_proc proc);
static void condition_context(void *arg);

/* crm.call_list_expression(of regclass, expression text) -> text */
Datum
crm_funnel_call_list_expression(PG_FUNCTION_ARGS)
{
	Oid			of = PG_GETARG_OID(0);
	char	   *condition = text_to_cstring(PG_GETARG_TEXT_PP(1));
	ErrorContextCallback callback;
	CrmExpressionRules rules = {refuse, literal, function_allowed};
	Relation	rel;
	Node	   *expr;
	char	   *result;

	if (strlen(condition) > CONDITION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a condition of a call list is longer than %d bytes", CONDITION_MAX),
				 errhint("Fill the list by ids instead: crm.call_list_add(list, contact_ids).")));
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(of)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("no relation has the OID %u", of),
				 errhint("Name a view, such as crm.call_list_candidate.")));
	if (pg_class_aclcheck(of, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(of)), get_rel_name(of));

	callback.callback = condition_context;
	callback.arg = condition;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	rel = table_open(of, AccessShareLock);
	expr = crm_expression_read(condition, rel, BOOLOID, "the condition", &rules);
	result = deparse_expression(expr, deparse_context_for(RelationGetRelationName(rel), of), false, false);
	table_close(rel, NoLock);
	error_context_stack = callback.previous;
	PG_RETURN_TEXT_P(cstring_to_text(result));
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

static void
condition_context(void *arg)
{
	const char *condition = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(condition);
	}
	errcontext("condition of a call list: %s", condition);
}
