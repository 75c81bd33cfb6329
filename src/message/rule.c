/*-------------------------------------------------------------------------
 *
 * rule.c
 *	  Conditions and truths of rules: read, checked, evaluated.
 *
 * A rule holds ONE expression over a row of crm.event.  core/expression.c
 * reads and checks it; which functions it may call is said here, since
 * provolatile is only a claim.  Saving neither plans nor runs it.  It is never
 * pasted into a statement: the trigger evaluates the expression itself over
 * the transition table, row by row in C, with the rights of crm_eval, inside a
 * security-restricted operation and read-only.
 *
 * A condition that fails on some data must not stop the fact that carries
 * the data: it is evaluated in a subtransaction of its own, and its error is
 * kept in crm.message_skip.
 *
 * The cache of analysed expressions belongs to the backend; it is thrown away
 * whenever a function, an operator or crm.event changes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

#include "core/core.h"
#include "core/expression.h"
#include "core/plan.h"
#include "event/event.h"

#define CACHE_MOST 64			/* expressions a backend keeps analysed */
#define BULK_FROM 64			/* events in a set from which a plan for many pays */

/* One analysed expression. */
typedef struct Cached
{
	char	   *text;
	Expr	   *expr;
} Cached;

/* A rule that is on for the kinds at hand. */
typedef struct Rule
{
	int64		id;
	char	   *kind;
	char	   *condition;		/* NULL: always */
} Rule;

/* State of crm.expression_holds() in one query. */
typedef struct Holder
{
	MemoryContext context;		/* of all that follows and of itself */
	char	   *text;
	ExprState  *state;
	ExprContext *econtext;
	TupleTableSlot *slot;
} Holder;

static MemoryContext cache_context = NULL;
static SPIPlanPtr plan_rules = NULL;
static SPIPlanPtr plan_error = NULL;
static Cached cache[CACHE_MOST];
static int	cache_used = 0;
static bool cache_stale = false;
static bool callbacks_done = false;

PG_FUNCTION_INFO_V1(crm_message_expression_check);
PG_FUNCTION_INFO_V1(crm_message_expression_holds);
PG_FUNCTION_INFO_V1(crm_message_event_rules);
PG_FUNCTION_INFO_V1(crm_message_text);

static Node *analyse(const char *what, const char *text);
static void refuse(CrmExpressionFault fault, const char *name, Oid function) pg_attribute_noreturn();
static Expr *cached_expression(const char *what, const char *text);
static ExprState *prepare(Expr *expr);
static void forget_expressions(Datum arg, int cacheid, uint32 hash);
static void forget_for_relation(Datum arg, Oid relid);
static Oid	event_table(void);
static Oid	function_oid(const char *name, int nargs, const Oid *args);
static List *active_rules(List *kinds);
static Tuplestorestate *events_that_meet(Rule *rule, CrmEventScan *scan, bool *failed);
static void queue_rule(Rule *rule, TriggerData *data, Tuplestorestate *events, Oid function);

/*
 * crm.expression_check(what, expression)
 */
Datum
crm_message_expression_check(PG_FUNCTION_ARGS)
{
	char	   *what = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *expression = text_to_cstring(PG_GETARG_TEXT_PP(1));

	(void) analyse(what, expression);
	PG_RETURN_VOID();
}

/*
 * crm.expression_holds(expression, event) -> boolean
 */
Datum
crm_message_expression_holds(PG_FUNCTION_ARGS)
{
	text	   *expression = PG_GETARG_TEXT_PP(0);
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(1);
	Holder	   *holder = (Holder *) fcinfo->flinfo->fn_extra;
	HeapTupleData tuple;
	CrmEvalRights rights;
	bool		is_null = false;
	Datum		result = (Datum) 0;

	if (HeapTupleHeaderGetTypeId(row) != get_rel_type_id(event_table()))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("not a row of crm.event"),
				 errhint("SELECT crm.expression_holds('…', e) FROM crm.event e WHERE …;")));

	if (holder == NULL || strlen(holder->text) != VARSIZE_ANY_EXHDR(expression) ||
		memcmp(holder->text, VARDATA_ANY(expression), VARSIZE_ANY_EXHDR(expression)) != 0)
	{
		MemoryContext context = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "crm expression", ALLOCSET_SMALL_SIZES);
		MemoryContext old = MemoryContextSwitchTo(context);
		TupleDesc	desc = lookup_rowtype_tupdesc_copy(HeapTupleHeaderGetTypeId(row), HeapTupleHeaderGetTypMod(row));

		/* where the expression is a column, each row may bring another one */
		fcinfo->flinfo->fn_extra = NULL;
		if (holder != NULL)
			MemoryContextDelete(holder->context);
		holder = palloc0(sizeof(Holder));
		holder->context = context;
		holder->text = text_to_cstring(expression);
		holder->slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
		holder->econtext = CreateStandaloneExprContext();
		holder->state = prepare(copyObject(cached_expression("expression", holder->text)));
		fcinfo->flinfo->fn_extra = holder;
		MemoryContextSwitchTo(old);
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

/*
 * crm.event_rules(): the statement trigger on crm.event.
 */
Datum
crm_message_event_rules(PG_FUNCTION_ARGS)
{
	TriggerData *data = crm_event_trigger(fcinfo, "crm.event_rules()");
	CrmEventScan scan;
	List	   *kinds = NIL;
	List	   *rules;
	ListCell   *cell;
	char	   *last = NULL;
	Oid			function;

	if (!crm_guard() || crm_rules_held())
		return PointerGetDatum(NULL);

	crm_event_scan_begin(&scan, data);
	while (crm_event_scan_next(&scan))
	{
		bool		is_null;
		text	   *kind = DatumGetTextPP(slot_getattr(scan.slot, scan.kind, &is_null));
		bool		known = false;

		CHECK_FOR_INTERRUPTS();
		if (last != NULL && strlen(last) == VARSIZE_ANY_EXHDR(kind) && memcmp(last, VARDATA_ANY(kind), VARSIZE_ANY_EXHDR(kind)) == 0)
			continue;
		last = text_to_cstring(kind);
		foreach(cell, kinds)
			known = known || strcmp(lfirst(cell), last) == 0;
		if (!known)
			kinds = lappend(kinds, last);
	}
	if (kinds == NIL)
	{
		crm_event_scan_end(&scan);
		return PointerGetDatum(NULL);	/* the statement inserted no row */
	}

	rules = active_rules(kinds);
	function = rules == NIL ? InvalidOid : function_oid("rule_queue", 0, NULL);
	foreach(cell, rules)
	{
		Rule	   *rule = (Rule *) lfirst(cell);

		if (rule->condition == NULL && list_length(kinds) == 1)
			queue_rule(rule, data, data->tg_newtable, function);
		else
		{
			bool		failed;
			Tuplestorestate *events = events_that_meet(rule, &scan, &failed);

			if (!failed && tuplestore_tuple_count(events) > 0)
				queue_rule(rule, data, events, function);
			tuplestore_end(events);
		}
	}
	crm_event_scan_end(&scan);
	return PointerGetDatum(NULL);
}

/*
 * crm.message_text(value, one_line): a text without control characters,
 * zero-width and bidirectional marks, composed (NFC).  Most texts have nothing
 * to change: then the value itself is the result.
 */
Datum
crm_message_text(PG_FUNCTION_ARGS)
{
	text	   *value = PG_GETARG_TEXT_PP(0);
	bool		one_line = PG_GETARG_BOOL(1);
	const unsigned char *at = (const unsigned char *) VARDATA_ANY(value);
	const unsigned char *end = at + VARSIZE_ANY_EXHDR(value);
	bool		clean = true;
	bool		composed = true;
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;
	StringInfoData out;

	for (const unsigned char *p = at; p < end && (clean || composed); p++)
	{
		clean = clean && !(*p < 0x20 && (one_line || (*p != '\n' && *p != '\t'))) && *p != 0x7f &&
			!(utf8 && (*p == 0xe2 || *p == 0xef || *p == 0xc2 || *p == 0xd8 || *p == 0xe1 || *p == 0xf3));
		/* combining marks, or scripts beyond Latin, Greek and Cyrillic */
		composed = composed && !(utf8 && (*p == 0xcc || *p == 0xcd || *p >= 0xd6));
	}
	if (!composed)
	{
		value = DatumGetTextPP(DirectFunctionCall2(unicode_normalize_func, PointerGetDatum(value),
												   CStringGetTextDatum("NFC")));
		at = (const unsigned char *) VARDATA_ANY(value);
		end = at + VARSIZE_ANY_EXHDR(value);
	}
	if (clean)
		PG_RETURN_TEXT_P(value);

	initStringInfo(&out);
	while (at < end)
	{
		int			length = Min(pg_mblen((const char *) at), end - at);

		if (length == 1)
		{
			if (*at == '\r')
			{
				if (at + 1 < end && at[1] == '\n')
					at++;
				appendStringInfoChar(&out, one_line ? ' ' : '\n');
			}
			else if (*at == '\n' || *at == '\t')
				appendStringInfoChar(&out, one_line ? ' ' : *at);
			else if (*at >= 0x20 && *at != 0x7f)
				appendStringInfoChar(&out, *at);
		}
		else
		{
			pg_wchar	c = utf8 ? utf8_to_unicode(at) : 0;

			/* C1, soft hyphen, Arabic letter mark, zero-width, bidi, word joiner and BOM, tags; line separators */
			if (c == 0x2028 || c == 0x2029)
				appendStringInfoChar(&out, one_line ? ' ' : '\n');
			else if (!((c >= 0x80 && c <= 0x9f) || c == 0xad || c == 0x61c || c == 0x180e ||
					   (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
					   (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
					   (c >= 0xe0000 && c <= 0xe007f)))
				appendBinaryStringInfo(&out, (const char *) at, length);
		}
		at += length;
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

static Node *
analyse(const char *what, const char *text)
{
	CrmRowExpression row = {
		event_table(), function_oid("expression_functions", 0, NULL), "a rule", "the expression",
		"Write one boolean SQL expression over the columns of crm.event, such as: (data->>'tonnes')::numeric > 20", refuse
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
			ereport(ERROR,
					(errcode(ERRCODE_SYNTAX_ERROR),
					 errmsg("it carries the name \"%s\"", name),
					 errhint("Write the expression alone, without AS.")));
			break;
		case CRM_FAULT_SERVER_VALUE:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("it asks for the server's time or user"),
					 errhint("The time is crm.now().")));
			break;
		case CRM_FAULT_FUNCTION:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("function %s() is not one that a rule may call", name),
					 errhint("Allowed are PostgreSQL's own functions that neither read tables nor change anything, crm.now(), and the functions of crm.truth.")));
			break;
		case CRM_FAULT_TYPE:
		case CRM_FAULT_OPERATOR:
		case CRM_FAULT_COLLATION:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s %s is not one that a rule may use",
							fault == CRM_FAULT_TYPE ? "type" : fault == CRM_FAULT_OPERATOR ? "operator" : "collation", name),
					 errhint("Allowed are PostgreSQL's own types for values, such as numeric, text, date and jsonb, with their operators and collations.")));
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
			 errhint("A rule may use the columns of crm.event, PostgreSQL's own functions that neither read tables nor change anything, and the functions of crm.truth.")));
}

/*
 * The expression from the backend's cache, analysed, checked and made ready
 * for evaluation.
 */
static Expr *
cached_expression(const char *what, const char *text)
{
	MemoryContext old;
	Expr	   *expr;

	if (!callbacks_done)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_expressions, (Datum) 0);
		CacheRegisterSyscacheCallback(OPEROID, forget_expressions, (Datum) 0);
		CacheRegisterRelcacheCallback(forget_for_relation, (Datum) 0);
		callbacks_done = true;
	}
	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(TopMemoryContext, "crm rule expressions", ALLOCSET_SMALL_SIZES);
	if (cache_stale || cache_used == CACHE_MOST)
	{
		MemoryContextReset(cache_context);
		cache_used = 0;
		cache_stale = false;
	}
	for (int i = 0; i < cache_used; i++)
	{
		if (strcmp(cache[i].text, text) == 0)
			return cache[i].expr;
	}
	expr = crm_expression_plan(analyse(what, text));
	/* planning folds calls of constants, and a truth may have asked for expressions of its own */
	if (cache_used == CACHE_MOST)
	{
		MemoryContextReset(cache_context);
		cache_used = 0;
	}
	old = MemoryContextSwitchTo(cache_context);
	cache[cache_used].text = pstrdup(text);
	cache[cache_used].expr = copyObject(expr);
	MemoryContextSwitchTo(old);
	return cache[cache_used++].expr;
}

/*
 * The state in which it is evaluated; it asks for the right to call each
 * function, which must be crm_eval's.
 */
static ExprState *
prepare(Expr *expr)
{
	CrmEvalRights rights;
	ExprState  *volatile state = NULL;

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
	return state;
}

/* Called while catalogue changes are taken in: must only set a flag. */
static void
forget_expressions(Datum arg, int cacheid, uint32 hash)
{
	cache_stale = true;
}

static void
forget_for_relation(Datum arg, Oid relid)
{
	cache_stale = true;
}

static Oid
event_table(void)
{
	Oid			event = crm_table("event");

	if (!OidIsValid(event))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"crm.event\" does not exist"),
				 errhint("The extension crm is not whole in this database. Restore it from a dump, or create it anew.")));
	return event;
}

static Oid
function_oid(const char *name, int nargs, const Oid *args)
{
	return LookupFuncName(list_make2(makeString("crm"), makeString(pstrdup(name))), nargs, args, false);
}

/*
 * The rules that are on for these kinds, in the caller's context.
 */
static List *
active_rules(List *kinds)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *rules = NIL;
	Datum	   *names = palloc(sizeof(Datum) * list_length(kinds));
	Oid			types[1] = {TEXTARRAYOID};
	Datum		values[1];
	ListCell   *cell;
	uint64		found;
	int			n = 0;

	foreach(cell, kinds)
		names[n++] = CStringGetTextDatum(lfirst(cell));
	values[0] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));

	SPI_connect();
	found = crm_plan_run(&plan_rules, "SELECT rule_id, event_kind, condition FROM crm.rules_for($1)", 1, types, values);
	for (uint64 i = 0; i < found; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		is_null;
		MemoryContext old = MemoryContextSwitchTo(caller);
		Rule	   *rule = palloc0(sizeof(Rule));

		rule->id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &is_null));
		rule->kind = TextDatumGetCString(SPI_getbinval(tuple, desc, 2, &is_null));
		values[0] = SPI_getbinval(tuple, desc, 3, &is_null);
		rule->condition = is_null ? NULL : TextDatumGetCString(values[0]);
		rules = lappend(rules, rule);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return rules;
}

/*
 * Walks the new events and keeps those of the rule's kind that meet its
 * condition.  An error of the condition is kept in crm.message_skip and the
 * rule does not fire; cancellation and lack of resources end the statement.
 */
static Tuplestorestate *
events_that_meet(Rule *rule, CrmEventScan *scan, bool *failed)
{
	Tuplestorestate *events = tuplestore_begin_heap(true, false, work_mem);
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	int64		first = 0;
	CrmEvalRights before;
	CrmEvalRights rights;

	*failed = false;
	crm_event_scan_again(scan);
	if (rule->condition == NULL)
	{
		while (crm_event_scan_next(scan))
		{
			bool		is_null;
			text	   *kind = DatumGetTextPP(slot_getattr(scan->slot, scan->kind, &is_null));

			CHECK_FOR_INTERRUPTS();
			if (strlen(rule->kind) == VARSIZE_ANY_EXHDR(kind) && memcmp(rule->kind, VARDATA_ANY(kind), VARSIZE_ANY_EXHDR(kind)) == 0)
				tuplestore_puttupleslot(events, scan->slot);
		}
		return events;
	}

	GetUserIdAndSecContext(&before.user, &before.context);
	before.read_only = XactReadOnly;
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(caller);
	PG_TRY();
	{
		Expr	   *expr = copyObject(cached_expression("condition", rule->condition));
		ExprContext *econtext = CreateStandaloneExprContext();
		ExprState  *state;

		/* stable functions see the fact that this statement wrote */
		CommandCounterIncrement();
		PushCopiedSnapshot(GetActiveSnapshot());
		UpdateActiveSnapshotCommandId();
		crm_eval_begin(&rights);
		state = ExecInitExpr(expr, NULL);
		while (crm_event_scan_next(scan))
		{
			bool		is_null;
			text	   *kind = DatumGetTextPP(slot_getattr(scan->slot, scan->kind, &is_null));
			bool		met;

			CHECK_FOR_INTERRUPTS();
			if (strlen(rule->kind) != VARSIZE_ANY_EXHDR(kind) || memcmp(rule->kind, VARDATA_ANY(kind), VARSIZE_ANY_EXHDR(kind)) != 0)
				continue;
			if (first == 0)
				first = DatumGetInt64(slot_getattr(scan->slot, scan->id, &is_null));
			ResetExprContext(econtext);
			econtext->ecxt_scantuple = scan->slot;
			met = DatumGetBool(ExecEvalExprSwitchContext(state, econtext, &is_null));
			if (!is_null && met)
				tuplestore_puttupleslot(events, scan->slot);
		}
		crm_eval_end(&rights);
		PopActiveSnapshot();
		FreeExprContext(econtext, true);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			class;
		Datum		values[3];
		Oid			types[3] = {INT8OID, INT8OID, TEXTOID};

		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(caller);
		CurrentResourceOwner = owner;
		crm_eval_end(&before);

		class = ERRCODE_TO_CATEGORY(error->sqlerrcode);
		if (class == ERRCODE_TO_CATEGORY(ERRCODE_TRANSACTION_ROLLBACK) ||
			class == ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) ||
			class == ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) ||
			class == ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) ||
			class == ERRCODE_TO_CATEGORY(ERRCODE_INTERNAL_ERROR))
			ReThrowError(error);
		*failed = true;
		values[0] = Int64GetDatum(rule->id);
		values[1] = Int64GetDatum(first);
		values[2] = CStringGetTextDatum(error->message);
		SPI_connect();
		(void) crm_plan_run(&plan_error, "SELECT crm.rule_error($1, $2, $3)", 3, types, values);
		SPI_finish();
	}
	PG_END_TRY();
	return events;
}

/*
 * Calls crm.rule_queue() as the trigger that we are, with the events that met
 * the condition as its transition table and the rule as its argument.
 *
 * PL/pgSQL keeps plans by function and trigger, and plans for the number of
 * rows that it saw first.  A set of many events goes under another trigger's
 * number, so that a plan made for one event never meets 300,000.
 */
static void
queue_rule(Rule *rule, TriggerData *data, Tuplestorestate *events, Oid function)
{
	TriggerData call = *data;
	Trigger		trigger = *data->tg_trigger;
	char	   *argument = psprintf(INT64_FORMAT, rule->id);
	FmgrInfo	info;
	LOCAL_FCINFO(fcinfo, 0);

	trigger.tgnargs = 1;
	trigger.tgargs = &argument;
	if (tuplestore_tuple_count(events) > BULK_FROM)
		trigger.tgoid = InvalidOid;
	call.tg_trigger = &trigger;
	call.tg_newtable = events;

	fmgr_info(function, &info);
	InitFunctionCallInfoData(*fcinfo, &info, 0, InvalidOid, (Node *) &call, NULL);
	(void) FunctionCallInvoke(fcinfo);
}
