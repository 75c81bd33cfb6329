/*-------------------------------------------------------------------------
 *
 * expression.c
 *	  Checks an expression of the catalogue of indicators when it is saved.
 *
 * A predicate or a weight is text in a row, written by people.  It is read
 * by core/expression.c as ONE expression over the columns of its fact, and
 * handed back as PostgreSQL writes it down itself; only that text is pasted
 * into what is compiled.  It may use columns, constants and built-in functions
 * whose answer depends on their arguments alone (and on the zone of the session
 * for a few of dates).  It is neither planned nor run here.
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

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/regproc.h"

#include "core/expression.h"

#define EXPRESSION_MAX 10000	/* bytes */

PG_FUNCTION_INFO_V1(crm_kpi_expression);

/* Stable built-ins that are taken all the same: dates in the session's zone, and text made of values. */
static const char *const stable_allowed[] = {
	"concat", "concat_ws", "date", "date_part", "date_trunc", "extract", "format", "time", "timestamp",
	"timestamptz", "timetz", "timezone", "to_char", "to_date", "to_number", "to_timestamp"
};

static const char *const frozen_words[] = {"now", "today", "tomorrow", "yesterday"};

static void
refuse(CrmExpressionFault fault, const char *name, Oid function)
{
	const char *what = "this construct";

	switch (fault)
	{
		case CRM_FAULT_FUNCTION:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("function %s cannot stand in an expression of an indicator",
							OidIsValid(function) ? format_procedure(function) : psprintf("%s()", name)),
					 errhint("Use built-in functions whose answer depends on their arguments alone.")));
			break;
		case CRM_FAULT_TYPE:
		case CRM_FAULT_OPERATOR:
		case CRM_FAULT_COLLATION:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s %s cannot stand in an expression of an indicator",
							fault == CRM_FAULT_TYPE ? "type" : fault == CRM_FAULT_OPERATOR ? "operator" : "collation", name),
					 errhint("Use PostgreSQL's own types for values, such as numeric, text and date, with their operators and collations.")));
			break;
		case CRM_FAULT_STATEMENT:
			what = "a statement";
			break;
		case CRM_FAULT_SEVERAL:
			what = "more than one expression";
			break;
		case CRM_FAULT_LABEL:
			what = "a name for the result";
			break;
		case CRM_FAULT_SUBSELECT:
			what = "a sub-select";
			break;
		case CRM_FAULT_PARAMETER:
			what = "a parameter";
			break;
		case CRM_FAULT_WHOLE_ROW:
			what = "a whole row or a system column";
			break;
		case CRM_FAULT_SERVER_VALUE:
			what = "the current date, time or user";
			break;
		case CRM_FAULT_VOLATILE:
			what = "a volatile function";
			break;
		case CRM_FAULT_CONSTRUCT:
			if (name != NULL)
				what = name;
			break;
	}
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

static void
refuse_frozen(const char *value)
{
	if (holds_frozen_word(value))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a literal with the word now, today, tomorrow or yesterday cannot stand in an expression of an indicator"),
				 errdetail("It would keep the day on which it was saved: %s", value),
				 errhint("The period of a report is applied by itself; leave it out.")));
}

static bool
function_allowed(Oid function, Form_pg_proc proc)
{
	const char *name = NameStr(proc->proname);

	if (proc->provolatile == PROVOLATILE_IMMUTABLE)
		return true;
	for (int i = 0; i < (int) lengthof(stable_allowed); i++)
		if (strcmp(name, stable_allowed[i]) == 0)
			return true;
	/* Comparisons of dates with moments, and sums with intervals. */
	return strncmp(name, "date_", 5) == 0 || strncmp(name, "timestamp", 9) == 0 || strncmp(name, "interval_", 9) == 0;
}

/* crm.kpi_expression(fact regclass, expression text, type regtype) -> text */
Datum
crm_kpi_expression(PG_FUNCTION_ARGS)
{
	Oid			fact = PG_GETARG_OID(0);
	char	   *expression = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			type = PG_GETARG_OID(2);
	CrmExpressionRules rules = {refuse, refuse_frozen, function_allowed};

	if (strlen(expression) > EXPRESSION_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an expression of an indicator is longer than %d bytes", EXPRESSION_MAX),
				 errhint("Put a part of it into a column of the fact's view.")));
	if (type != BOOLOID && type != NUMERICOID && type != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an expression of an indicator is boolean, numeric or bigint"),
				 errhint("Name one of these types.")));
	PG_RETURN_TEXT_P(cstring_to_text(crm_expression_written(fact, "Name a view of crm.fact.", expression, type,
															"an indicator's condition", "expression of an indicator", &rules)));
}
