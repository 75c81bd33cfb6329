/*-------------------------------------------------------------------------
 *
 * condition.c
 *	  Conditions of stages: read, checked, evaluated over a deal.
 *
 * A condition is ONE expression over a row of crm.deal, read by
 * core/expression.c with the same functions as a rule's.  Saving neither plans
 * nor runs it; it is never pasted into a statement.  It is evaluated row by
 * row with the rights of crm_eval, inside a security-restricted operation and
 * read-only.  The analysed expression lives as long as the statement that
 * calls: nothing has to be invalidated.
 *
 * It must never write.  Lock: AccessShare on crm.deal, to the end of the
 * transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/typcache.h"

#include "core/core.h"
#include "core/expression.h"

/* State of crm.deal_holds() in one call site of a query. */
typedef struct Holder
{
	MemoryContext context;		/* of all that follows and of itself */
	char	   *text;
	ExprState  *state;
	ExprContext *econtext;
	TupleTableSlot *slot;
} Holder;

PG_FUNCTION_INFO_V1(crm_funnel_condition_check);
PG_FUNCTION_INFO_V1(crm_funnel_condition_holds);

static Node *analyse(const char *what, const char *text);
static void refuse(CrmExpressionFault fault, const char *name, Oid function) pg_attribute_noreturn();
static Holder *make_holder(MemoryContext parent, const char *text, HeapTupleHeader row);

/* crm.deal_condition_check(what, expression) */
Datum
crm_funnel_condition_check(PG_FUNCTION_ARGS)
{
	(void) analyse(text_to_cstring(PG_GETARG_TEXT_PP(0)), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	PG_RETURN_VOID();
}

/* crm.deal_holds(expression, deal) -> boolean */
Datum
crm_funnel_condition_holds(PG_FUNCTION_ARGS)
{
	text	   *expression = PG_GETARG_TEXT_PP(0);
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(1);
	Holder	   *holder = fcinfo->flinfo->fn_extra;
	HeapTupleData tuple;
	CrmEvalRights rights;
	bool		is_null = false;
	Datum		result = (Datum) 0;

	if (HeapTupleHeaderGetTypeId(row) != get_rel_type_id(crm_table("deal")))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("not a row of crm.deal"),
				 errhint("SELECT crm.deal_holds('…', d) FROM crm.deal d WHERE …;")));

	if (holder == NULL || strlen(holder->text) != VARSIZE_ANY_EXHDR(expression) ||
		memcmp(holder->text, VARDATA_ANY(expression), VARSIZE_ANY_EXHDR(expression)) != 0)
	{
		/* each row may bring another one */
		fcinfo->flinfo->fn_extra = NULL;
		if (holder != NULL)
			MemoryContextDelete(holder->context);
		holder = make_holder(fcinfo->flinfo->fn_mcxt, text_to_cstring(expression), row);
		fcinfo->flinfo->fn_extra = holder;
	}

	tuple.t_len = HeapTupleHeaderGetDatumLength(row);
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_data = row;
	ExecStoreHeapTuple(&tuple, holder->slot, false);
	ResetExprContext(holder->econtext);
	holder->econtext->ecxt_scantuple = holder->slot;

	crm_eval_begin(&rights);
	PG_TRY();
	{
		result = ExecEvalExprSwitchContext(holder->state, holder->econtext, &is_null);
	}
	PG_FINALLY();
	{
		crm_eval_end(&rights);
	}
	PG_END_TRY();
	ExecClearTuple(holder->slot);

	if (is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

static Holder *
make_holder(MemoryContext parent, const char *text, HeapTupleHeader row)
{
	MemoryContext context = AllocSetContextCreate(parent, "crm stage condition", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Holder	   *holder = palloc0(sizeof(Holder));
	TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));
	Expr	   *expr;
	CrmEvalRights rights;
	ExprState  *volatile state = NULL;

	holder->context = context;
	holder->text = pstrdup(text);
	holder->slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	holder->econtext = CreateStandaloneExprContext();
	expr = crm_expression_plan(analyse("condition", text));
	/* it asks for the right to call each function, which must be crm_eval's */
	crm_eval_begin(&rights);
	PG_TRY();
	{
		state = ExecInitExpr(expr, NULL);
	}
	PG_FINALLY();
	{
		crm_eval_end(&rights);
	}
	PG_END_TRY();
	holder->state = state;
	MemoryContextSwitchTo(old);
	return holder;
}

static Node *
analyse(const char *what, const char *text)
{
	CrmRowExpression row = {
		crm_table("deal"), LookupFuncName(list_make2(makeString("crm"), makeString("expression_functions")), 0, NULL, false),
		"a stage", "the condition",
		"Write one boolean SQL expression over the columns of crm.deal, such as: amount > 100000 AND contact_id IS NOT NULL", refuse
	};

	return crm_expression_of_row(&row, what, text);
}

static void
refuse(CrmExpressionFault fault, const char *name, Oid function)
{
	const char *thing = "an expression of this kind";

	switch (fault)
	{
		case CRM_FAULT_STATEMENT:
		case CRM_FAULT_SEVERAL:
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("it is not one expression"),
					 errhint("Write one boolean SQL expression, without FROM, WHERE, ORDER BY or a comma.")));
			break;
		case CRM_FAULT_LABEL:
			thing = "a name for the result";
			break;
		case CRM_FAULT_SERVER_VALUE:
			thing = "the server's time or user; the time is crm.now()";
			break;
		case CRM_FAULT_FUNCTION:
			thing = psprintf("the function %s(), which a condition may not call", name);
			break;
		case CRM_FAULT_TYPE:
			thing = psprintf("the type %s", name);
			break;
		case CRM_FAULT_OPERATOR:
			thing = psprintf("the operator %s", name);
			break;
		case CRM_FAULT_COLLATION:
			thing = psprintf("the collation %s", name);
			break;
		case CRM_FAULT_SUBSELECT:
			thing = "a sub-select";
			break;
		case CRM_FAULT_PARAMETER:
			thing = "a parameter";
			break;
		case CRM_FAULT_WHOLE_ROW:
			thing = "a system column or the whole row";
			break;
		case CRM_FAULT_VOLATILE:
			thing = "a volatile function";
			break;
		case CRM_FAULT_CONSTRUCT:
			if (name != NULL)
				thing = name;
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("it holds %s", thing),
			 errhint("A condition may use the columns of crm.deal, PostgreSQL's own functions that neither read tables nor change anything, crm.now(), and the functions of crm.truth.")));
}
