/*-------------------------------------------------------------------------
 *
 * expression.c
 *	  Checks an expression of the catalogue of indicators when it is saved.
 *
 * A predicate or a weight is text in a row, written by people.  It is parsed
 * as ONE expression, analysed over the columns of its fact, and handed back
 * as PostgreSQL writes it down itself; only that text is pasted into what is
 * compiled.  It may use columns, constants and built-in functions whose
 * answer depends on their arguments alone (and on the zone of the session for
 * a few of dates).  It is neither planned nor run here.
 *
 * Must never accept: a second statement, a sub-select, an aggregate, a set, a
 * function that is volatile or not built in, the words now and today in a
 * literal (they would freeze the day on which they were saved).
 *
 * Lock: AccessShare on the fact's view, to the end of the transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "parser/parse_collate.h"
#include "parser/parse_expr.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#define EXPRESSION_MAX 10000	/* bytes */

PG_FUNCTION_INFO_V1(crm_kpi_expression);

/* Stable built-ins that are taken all the same: dates in the session's zone, and text made of values. */
static const char *const stable_allowed[] = {
	"concat", "concat_ws", "date", "date_part", "date_trunc", "extract", "format", "time", "timestamp",
	"timestamptz", "timetz", "timezone", "to_char", "to_date", "to_number", "to_timestamp"
};

static const char *const frozen_words[] = {"now", "today", "tomorrow", "yesterday"};

static void
expression_context(void *arg)
{
	const char *expression = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(expression);
	}
	errcontext("expression of an indicator: %s", expression);
}

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s cannot stand in an expression of an indicator", what),
			 errhint("Use columns of the fact, constants and built-in functions that only reckon with them.")));
}

/* Whether a literal holds a word that is a moment, such as 'today 10:00'. */
static bool
holds_frozen_word(const char *text)
{
	for (const char *p = text; *p != '\0';)
	{
		size_t		length = 0;

		while (isalpha((unsigned char) p[length]))
			length++;
		for (int i = 0; length > 0 && i < (int) lengthof(frozen_words); i++)
			if (strlen(frozen_words[i]) == length && pg_strncasecmp(p, frozen_words[i], length) == 0)
				return true;
		p += length > 0 ? length : 1;
	}
	return false;
}

static bool
raw_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_SubLink:
		case T_SelectStmt:
			refuse("a sub-select");
			break;
		case T_ParamRef:
			refuse("a parameter");
			break;
		case T_SetToDefault:
			refuse("DEFAULT");
			break;
		case T_A_Const:
			{
				A_Const    *constant = (A_Const *) node;

				if (!constant->isnull && nodeTag(&constant->val) == T_String &&
					holds_frozen_word(strVal(&constant->val)))
					ereport(ERROR,
							(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
							 errmsg("a literal with the word now, today, tomorrow or yesterday cannot stand in an expression of an indicator"),
							 errdetail("It would keep the day on which it was saved: %s", strVal(&constant->val)),
							 errhint("The period of a report is applied by itself; leave it out.")));
				return false;
			}
		default:
			break;
	}
	return raw_expression_tree_walker(node, raw_walker, context);
}

static bool
function_refused(Oid function, void *context)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		good;

	if (!HeapTupleIsValid(tuple))
		return true;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	good = function < FirstNormalObjectId && proc->pronamespace == PG_CATALOG_NAMESPACE && proc->prokind == PROKIND_FUNCTION &&
		!proc->proretset && proc->provolatile != PROVOLATILE_VOLATILE;
	if (good && proc->provolatile == PROVOLATILE_STABLE)
	{
		const char *name = NameStr(proc->proname);

		good = false;
		for (int i = 0; i < (int) lengthof(stable_allowed) && !good; i++)
			good = strcmp(name, stable_allowed[i]) == 0;
		/* Comparisons of dates with moments, and sums with intervals. */
		if (!good && (strncmp(name, "date_", 5) == 0 || strncmp(name, "timestamp", 9) == 0 || strncmp(name, "interval_", 9) == 0))
			good = true;
	}
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function %s cannot stand in an expression of an indicator", format_procedure(function)),
				 errhint("Use built-in functions whose answer depends on their arguments alone.")));
	ReleaseSysCache(tuple);
	return false;
}

static bool
tree_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_Var:
			if (((Var *) node)->varattno <= 0)
				refuse("a whole row or a system column");
			break;
		case T_SQLValueFunction:
			refuse("the current date, time or user");
			break;
		case T_CoerceToDomain:
		case T_NextValueExpr:
		case T_XmlExpr:
		case T_Param:
		case T_SubLink:
		case T_SubPlan:
			refuse("this construct");
			break;
		default:
			break;
	}
	(void) check_functions_in_node(node, function_refused, context);
	return expression_tree_walker(node, tree_walker, context);
}

/* crm.kpi_expression(fact regclass, expression text, type regtype) -> text */
Datum
crm_kpi_expression(PG_FUNCTION_ARGS)
{
	Oid			fact = PG_GETARG_OID(0);
	char	   *expression = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			type = PG_GETARG_OID(2);
	ErrorContextCallback callback;
	List	   *parsed;
	SelectStmt *select;
	ResTarget  *target;
	ParseState *pstate;
	ParseNamespaceItem *item;
	Relation	rel;
	Node	   *expr;
	Oid			found;
	char	   *result;

	if (strlen(expression) > EXPRESSION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an expression of an indicator is longer than %d bytes", EXPRESSION_MAX)));
	if (type != BOOLOID && type != NUMERICOID && type != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an expression of an indicator is boolean, numeric or bigint"),
				 errhint("Name one of these types.")));
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(fact)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("no relation has the OID %u", fact),
				 errhint("Name a view of crm.fact.")));
	if (pg_class_aclcheck(fact, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(get_rel_relkind(fact)), get_rel_name(fact));
	callback.callback = expression_context;
	callback.arg = expression;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	parsed = raw_parser(expression, RAW_PARSE_PLPGSQL_EXPR);
	if (list_length(parsed) != 1 || !IsA(linitial_node(RawStmt, parsed)->stmt, SelectStmt))
		refuse("a statement");
	select = (SelectStmt *) linitial_node(RawStmt, parsed)->stmt;
	if (list_length(select->targetList) != 1 || select->distinctClause != NIL || select->intoClause != NULL ||
		select->fromClause != NIL || select->whereClause != NULL || select->groupClause != NIL || select->havingClause != NULL ||
		select->windowClause != NIL || select->sortClause != NIL || select->limitOffset != NULL || select->limitCount != NULL ||
		select->lockingClause != NIL || select->withClause != NULL || select->valuesLists != NIL || select->op != SETOP_NONE)
		refuse("more than one expression");
	target = linitial_node(ResTarget, select->targetList);
	if (target->name != NULL || target->indirection != NIL)
		refuse("a name for the result");
	(void) raw_walker(target->val, NULL);

	rel = table_open(fact, AccessShareLock);
	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = expression;
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, true);
	addNSItemToQuery(pstate, item, true, true, true);
	expr = transformExpr(pstate, target->val, EXPR_KIND_WHERE);
	found = exprType(expr);
	if (type == BOOLOID)
		expr = coerce_to_boolean(pstate, expr, "an indicator's condition");
	else
		expr = coerce_to_target_type(pstate, expr, found, type, -1, COERCION_ASSIGNMENT, COERCE_IMPLICIT_CAST, -1);
	if (expr == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("the expression is of type %s, not %s", format_type_be(found), format_type_be(type)),
				 errhint("Convert it: (...)::%s.", format_type_be(type))));
	assign_expr_collations(pstate, expr);
	(void) tree_walker(expr, NULL);

	result = deparse_expression(expr, deparse_context_for(RelationGetRelationName(rel), fact), false, false);
	table_close(rel, NoLock);
	free_parsestate(pstate);
	error_context_stack = callback.previous;
	PG_RETURN_TEXT_P(cstring_to_text(result));
}
