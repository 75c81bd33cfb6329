/*-------------------------------------------------------------------------
 *
 * transition.c
 *	  The trigger that lets a deal move only where its funnel allows.
 *
 * crm.deal_transition() runs before a deal is written. A new deal without a
 * stage gets the first one; a change of stage that is no row of
 * crm.move_allowed is refused with 23514, whoever makes it: crm.move, an
 * event, or plain UPDATE of a million rows. It also keeps stage_at,
 * stage_event_id, stage_reason and closed_at.
 *
 * crm.deal_moves() runs after the statement: it walks old and new rows side by
 * side and hands the deals that moved to crm.deals_moved, which writes the log
 * and the events, a statement each. Deals of which a date moved that timers may
 * count from go to crm.deals_dated.
 *
 * Stages and moves are read once a statement, straight from their tables under
 * the statement's snapshot and AccessShareLock, into the memory of the
 * statement; nothing outlives it, so nothing has to be invalidated. The deal's
 * row is locked by the executor before the trigger sees it: of two sessions
 * that move one deal, the second is judged by where the first left it.
 *
 * It must never write a table, and never refuse a row that a restore brings:
 * without activation a new row is taken as it is, since the stages may not be
 * there yet.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/core.h"
#include "core/pairs.h"

/* What crm.deals_moved is told of each move: id, stage left, stage entered, at, event */
#define MOVE_COLUMNS 5
#define MOVE_FROM 1
#define MOVE_TO 2

typedef struct Stage
{
	int64		id;				/* hash key */
	int64		funnel_id;
	int32		position;
	bool		is_final;
	char	   *code;
} Stage;

typedef struct Move
{
	int64		from;			/* hash key, both */
	int64		to;
} Move;

/* What one statement knows; lives in FmgrInfo.fn_extra */
typedef struct Transition
{
	AttrNumber	id;
	AttrNumber	funnel_id;
	AttrNumber	stage_id;
	AttrNumber	created_at;
	AttrNumber	closed_at;
	AttrNumber	stage_at;
	AttrNumber	stage_event_id;
	AttrNumber	stage_reason;
	HTAB	   *stages;			/* NULL until a row needs them */
	HTAB	   *moves;
} Transition;

/* The deals that a statement moved, column by column */
typedef struct Moves
{
	AttrNumber	columns[MOVE_COLUMNS];	/* of crm.deal */
	AttrNumber	expected_on;
	AttrNumber	data;
	ArrayBuildState *values[MOVE_COLUMNS];
	ArrayBuildState *dated;			/* deals whose expected_on or data changed */
} Moves;

PG_FUNCTION_INFO_V1(crm_funnel_transition);
PG_FUNCTION_INFO_V1(crm_funnel_moves);

static AttrNumber column_of(Relation rel, const char *name, Oid type);
static Transition *transition_state(FmgrInfo *flinfo, Relation rel);
static void load_funnels(Transition *state, MemoryContext context);
static Stage *find_stage(Transition *state, int64 id);
static Stage *first_stage(Transition *state, int64 funnel_id);
static char *moves_from(Transition *state, Stage *from);
static int	by_position(const ListCell *a, const ListCell *b);
static void refuse_move(Transition *state, int64 deal, Stage *from, Stage *to) pg_attribute_noreturn();
static bool differs(TupleTableSlot *before, TupleTableSlot *after, AttrNumber column, bool by_value, int length);
static void move_pair(TupleTableSlot *before, TupleTableSlot *after, void *arg);
static HeapTuple check_insert(Transition *state, Relation rel, HeapTuple tuple, MemoryContext context);
static HeapTuple check_update(Transition *state, Relation rel, HeapTuple old, HeapTuple tuple, MemoryContext context);

Datum
crm_funnel_transition(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Transition *state;
	HeapTuple	tuple;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) || TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("crm.deal_transition() was not called as a trigger before a row is written")));

	state = transition_state(fcinfo->flinfo, trigdata->tg_relation);
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		tuple = check_insert(state, trigdata->tg_relation, trigdata->tg_trigtuple, fcinfo->flinfo->fn_mcxt);
	else
		tuple = check_update(state, trigdata->tg_relation, trigdata->tg_trigtuple,
							 trigdata->tg_newtuple, fcinfo->flinfo->fn_mcxt);
	return PointerGetDatum(tuple);
}

/* ---- the log ------------------------------------------------------------ */

static const Oid move_types[MOVE_COLUMNS] = {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID};

/* Whether a column was written with another value. */
static bool
differs(TupleTableSlot *before, TupleTableSlot *after, AttrNumber column, bool by_value, int length)
{
	bool		was_null,
				is_null;
	Datum		was = slot_getattr(before, column, &was_null);
	Datum		is = slot_getattr(after, column, &is_null);

	return was_null != is_null || (!is_null && !datum_image_eq(was, is, by_value, length));
}

static void
move_pair(TupleTableSlot *before, TupleTableSlot *after, void *arg)
{
	Moves	   *moves = arg;
	bool		isnull;
	Datum		from = slot_getattr(before, moves->columns[MOVE_FROM], &isnull);
	Datum		to = slot_getattr(after, moves->columns[MOVE_TO], &isnull);

	if (differs(before, after, moves->expected_on, true, sizeof(DateADT)) || differs(before, after, moves->data, false, -1))
		moves->dated = accumArrayResult(moves->dated, slot_getattr(after, moves->columns[0], &isnull), false, INT8OID, CurrentMemoryContext);
	if (DatumGetInt64(from) == DatumGetInt64(to))
		return;
	for (int i = 0; i < MOVE_COLUMNS; i++)
	{
		Datum		value = slot_getattr(i == MOVE_FROM ? before : after, moves->columns[i], &isnull);

		moves->values[i] = accumArrayResult(moves->values[i], value, isnull, move_types[i], CurrentMemoryContext);
	}
}

/* AFTER UPDATE of crm.deal, for each statement. */
Datum
crm_funnel_moves(PG_FUNCTION_ARGS)
{
	static const char *names[MOVE_COLUMNS] = {"id", "stage_id", "stage_id", "stage_at", "stage_event_id"};
	static const Oid types[MOVE_COLUMNS] = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
	Moves		moves = {0};
	Datum		values[MOVE_COLUMNS];

	if (CALLED_AS_TRIGGER(fcinfo))
	{
		if (!crm_guard())
			return PointerGetDatum(NULL);
		for (int i = 0; i < MOVE_COLUMNS; i++)
			moves.columns[i] = crm_trigger_column(((TriggerData *) fcinfo->context)->tg_relation,
												  "crm.deal_moves", names[i], move_types[i]);
		moves.expected_on = crm_trigger_column(((TriggerData *) fcinfo->context)->tg_relation, "crm.deal_moves", "expected_on", DATEOID);
		moves.data = crm_trigger_column(((TriggerData *) fcinfo->context)->tg_relation, "crm.deal_moves", "data", JSONBOID);
	}
	crm_walk_pairs(fcinfo, "crm.deal_moves", move_pair, &moves);
	if (moves.values[0] != NULL)
	{
		for (int i = 0; i < MOVE_COLUMNS; i++)
			values[i] = makeArrayResult(moves.values[i], CurrentMemoryContext);
		crm_call_sql("deals_moved", MOVE_COLUMNS, types, values);
	}
	if (moves.dated != NULL)
	{
		values[0] = makeArrayResult(moves.dated, CurrentMemoryContext);
		crm_call_sql("deals_dated", 1, types, values);
	}
	return PointerGetDatum(NULL);
}

/* ---- rows --------------------------------------------------------------- */

static HeapTuple
check_insert(Transition *state, Relation rel, HeapTuple tuple, MemoryContext context)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		no_funnel,
				no_stage,
				no_stage_at,
				not_closed;
	int64		funnel_id;
	Stage	   *stage;
	int			columns[3];
	Datum		values[3];
	bool		nulls[3] = {false, false, false};
	int			count = 0;
	Datum		stage_at;

	funnel_id = DatumGetInt64(heap_getattr(tuple, state->funnel_id, desc, &no_funnel));
	(void) heap_getattr(tuple, state->stage_id, desc, &no_stage);

	/* A restore brings whole rows, perhaps before their stages. */
	if (no_funnel || (!no_stage && !crm_guard()))
		return tuple;

	load_funnels(state, context);
	if (no_stage)
	{
		stage = first_stage(state, funnel_id);
		if (stage == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("funnel " INT64_FORMAT " has no stage to start in", funnel_id),
					 errhint("Add rows to crm.stage, or use a funnel that ships: SELECT id, code FROM crm.funnel.")));
		columns[count] = state->stage_id;
		values[count++] = Int64GetDatum(stage->id);
	}
	else
	{
		int64		stage_id = DatumGetInt64(heap_getattr(tuple, state->stage_id, desc, &no_stage));

		stage = find_stage(state, stage_id);
		if (stage->funnel_id != funnel_id)
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("stage \"%s\" (" INT64_FORMAT ") belongs to another funnel than " INT64_FORMAT,
							stage->code, stage_id, funnel_id),
					 errhint("Leave stage_id out, and the deal starts at the first stage of its funnel.")));
	}

	stage_at = heap_getattr(tuple, state->stage_at, desc, &no_stage_at);
	if (no_stage_at)
	{
		bool		no_created_at;

		stage_at = heap_getattr(tuple, state->created_at, desc, &no_created_at);
		if (no_created_at)
			stage_at = TimestampTzGetDatum(crm_now());
		columns[count] = state->stage_at;
		values[count++] = stage_at;
	}
	(void) heap_getattr(tuple, state->closed_at, desc, &not_closed);
	if (stage->is_final && not_closed)
	{
		columns[count] = state->closed_at;
		values[count++] = stage_at;
	}
	if (count == 0)
		return tuple;
	return heap_modify_tuple_by_cols(tuple, desc, count, columns, values, nulls);
}

static HeapTuple
check_update(Transition *state, Relation rel, HeapTuple old, HeapTuple tuple, MemoryContext context)
{
	TupleDesc	desc = RelationGetDescr(rel);
	bool		isnull,
				was_null;
	int64		deal = DatumGetInt64(heap_getattr(old, state->id, desc, &isnull));
	int64		from_id = DatumGetInt64(heap_getattr(old, state->stage_id, desc, &isnull));
	int64		funnel_id = DatumGetInt64(heap_getattr(old, state->funnel_id, desc, &isnull));
	int64		to_id,
				new_funnel_id;
	Stage	   *from,
			   *to;
	Move		key;
	int			columns[4];
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};
	int			count = 0;
	Datum		stage_at,
				was_at;

	new_funnel_id = DatumGetInt64(heap_getattr(tuple, state->funnel_id, desc, &isnull));
	if (isnull)
		return tuple;			/* NOT NULL answers */
	if (new_funnel_id != funnel_id)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("deal " INT64_FORMAT " cannot leave its funnel " INT64_FORMAT " for " INT64_FORMAT,
						deal, funnel_id, new_funnel_id),
				 errhint("A deal stays in its funnel; make another deal in the other one.")));

	to_id = DatumGetInt64(heap_getattr(tuple, state->stage_id, desc, &isnull));
	if (isnull || to_id == from_id)
		return tuple;

	load_funnels(state, context);
	to = find_stage(state, to_id);
	from = find_stage(state, from_id);
	memset(&key, 0, sizeof(key));
	key.from = from_id;
	key.to = to_id;
	if (to->funnel_id != funnel_id || hash_search(state->moves, &key, HASH_FIND, NULL) == NULL)
		refuse_move(state, deal, from, to);

	/* When it came there: the writer's word, if the writer gave one. */
	was_at = heap_getattr(old, state->stage_at, desc, &was_null);
	stage_at = heap_getattr(tuple, state->stage_at, desc, &isnull);
	if (isnull || (!was_null && DatumGetTimestampTz(was_at) == DatumGetTimestampTz(stage_at)))
	{
		stage_at = TimestampTzGetDatum(crm_now());
		columns[count] = state->stage_at;
		values[count++] = stage_at;
	}
	/* By what: an event that did the move before did not do this one. */
	{
		Datum		was = heap_getattr(old, state->stage_event_id, desc, &was_null);
		Datum		is = heap_getattr(tuple, state->stage_event_id, desc, &isnull);

		if (!isnull && !was_null && DatumGetInt64(was) == DatumGetInt64(is))
		{
			columns[count] = state->stage_event_id;
			nulls[count] = true;
			values[count++] = (Datum) 0;
		}
	}
	/* Why: the words of the move before are not this one's. */
	{
		Datum		was = heap_getattr(old, state->stage_reason, desc, &was_null);
		Datum		is = heap_getattr(tuple, state->stage_reason, desc, &isnull);

		if (!isnull && !was_null && datum_image_eq(was, is, false, -1))
		{
			columns[count] = state->stage_reason;
			nulls[count] = true;
			values[count++] = (Datum) 0;
		}
	}
	columns[count] = state->closed_at;
	nulls[count] = !to->is_final;
	values[count++] = to->is_final ? stage_at : (Datum) 0;
	return heap_modify_tuple_by_cols(tuple, desc, count, columns, values, nulls);
}

static void
refuse_move(Transition *state, int64 deal, Stage *from, Stage *to)
{
	char	   *allowed = moves_from(state, from);

	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("deal " INT64_FORMAT " cannot move from stage \"%s\" to stage \"%s\"%s",
					deal, from->code, to->code,
					from->funnel_id == to->funnel_id ? "" : " of another funnel"),
			 allowed == NULL ?
			 errdetail("No move from \"%s\" is allowed.", from->code) :
			 errdetail("From \"%s\" the funnel allows: %s.", from->code, allowed),
			 allowed == NULL ?
			 errhint("Allow a move by a row in crm.move_allowed.") :
			 errhint("Move it to one of: %s. Another move is allowed by a row in crm.move_allowed.", allowed)));
}

/* ---- funnels ------------------------------------------------------------ */

static AttrNumber
column_of(Relation rel, const char *name, Oid type)
{
	return crm_trigger_column(rel, "crm.deal_transition", name, type);
}

static Transition *
transition_state(FmgrInfo *flinfo, Relation rel)
{
	Transition *state = flinfo->fn_extra;

	if (state != NULL)
		return state;
	state = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Transition));
	state->id = column_of(rel, "id", INT8OID);
	state->funnel_id = column_of(rel, "funnel_id", INT8OID);
	state->stage_id = column_of(rel, "stage_id", INT8OID);
	state->created_at = column_of(rel, "created_at", TIMESTAMPTZOID);
	state->closed_at = column_of(rel, "closed_at", TIMESTAMPTZOID);
	state->stage_at = column_of(rel, "stage_at", TIMESTAMPTZOID);
	state->stage_event_id = column_of(rel, "stage_event_id", INT8OID);
	state->stage_reason = column_of(rel, "stage_reason", TEXTOID);
	flinfo->fn_extra = state;
	return state;
}

/* Reads crm.stage and crm.move_allowed, once a statement. */
static void
load_funnels(Transition *state, MemoryContext context)
{
	HASHCTL		ctl;
	HTAB	   *stages,
			   *moves;
	Relation	rel;
	TableScanDesc scan;
	TupleTableSlot *slot;
	MemoryContext old;
	AttrNumber	a_id,
				a_funnel,
				a_position,
				a_won,
				a_lost,
				a_code,
				a_from,
				a_to,
				a_enabled;

	if (state->stages != NULL)
		return;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(Stage);
	ctl.hcxt = context;
	stages = hash_create("crm stages", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(Move);
	ctl.entrysize = sizeof(Move);
	moves = hash_create("crm moves", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	rel = table_open(crm_table("stage"), AccessShareLock);
	a_id = column_of(rel, "id", INT8OID);
	a_funnel = column_of(rel, "funnel_id", INT8OID);
	a_position = column_of(rel, "position", INT4OID);
	a_won = column_of(rel, "is_won", BOOLOID);
	a_lost = column_of(rel, "is_lost", BOOLOID);
	a_code = column_of(rel, "code", TEXTOID);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int64		id = DatumGetInt64(slot_getattr(slot, a_id, &isnull));
		Stage	   *stage = hash_search(stages, &id, HASH_ENTER, NULL);

		CHECK_FOR_INTERRUPTS();
		stage->funnel_id = DatumGetInt64(slot_getattr(slot, a_funnel, &isnull));
		stage->position = DatumGetInt32(slot_getattr(slot, a_position, &isnull));
		stage->is_final = DatumGetBool(slot_getattr(slot, a_won, &isnull)) || DatumGetBool(slot_getattr(slot, a_lost, &isnull));
		old = MemoryContextSwitchTo(context);
		stage->code = TextDatumGetCString(slot_getattr(slot, a_code, &isnull));
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);

	rel = table_open(crm_table("move_allowed"), AccessShareLock);
	a_from = column_of(rel, "from_stage_id", INT8OID);
	a_to = column_of(rel, "to_stage_id", INT8OID);
	a_enabled = column_of(rel, "enabled", BOOLOID);
	slot = table_slot_create(rel, NULL);
	scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Move		key;

		CHECK_FOR_INTERRUPTS();
		if (!DatumGetBool(slot_getattr(slot, a_enabled, &isnull)))
			continue;
		memset(&key, 0, sizeof(key));
		key.from = DatumGetInt64(slot_getattr(slot, a_from, &isnull));
		key.to = DatumGetInt64(slot_getattr(slot, a_to, &isnull));
		hash_search(moves, &key, HASH_ENTER, NULL);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, NoLock);

	state->moves = moves;
	state->stages = stages;
}

static Stage *
find_stage(Transition *state, int64 id)
{
	Stage	   *stage = hash_search(state->stages, &id, HASH_FIND, NULL);

	if (stage == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("stage " INT64_FORMAT " does not exist", id),
				 errhint("SELECT id, code FROM crm.stage lists them; crm.move(deal, 'code') takes the code.")));
	return stage;
}

/* The stage of a funnel with the least position; NULL where it has none. */
static Stage *
first_stage(Transition *state, int64 funnel_id)
{
	HASH_SEQ_STATUS seq;
	Stage	   *stage,
			   *first = NULL;

	hash_seq_init(&seq, state->stages);
	while ((stage = hash_seq_search(&seq)) != NULL)
		if (stage->funnel_id == funnel_id &&
			(first == NULL || stage->position < first->position ||
			 (stage->position == first->position && stage->id < first->id)))
			first = stage;
	return first;
}

static int
by_position(const ListCell *a, const ListCell *b)
{
	const Stage *left = lfirst(a);
	const Stage *right = lfirst(b);

	if (left->position != right->position)
		return left->position < right->position ? -1 : 1;
	return left->id < right->id ? -1 : (left->id > right->id ? 1 : 0);
}

/* The stages that may follow, quoted, in their order; NULL where none may. */
static char *
moves_from(Transition *state, Stage *from)
{
	HASH_SEQ_STATUS seq;
	Move	   *move;
	List	   *targets = NIL;
	ListCell   *cell;
	StringInfoData text;

	hash_seq_init(&seq, state->moves);
	while ((move = hash_seq_search(&seq)) != NULL)
	{
		Stage	   *stage;

		if (move->from != from->id)
			continue;
		stage = hash_search(state->stages, &move->to, HASH_FIND, NULL);
		if (stage != NULL && stage->funnel_id == from->funnel_id)
			targets = lappend(targets, stage);
	}
	if (targets == NIL)
		return NULL;
	list_sort(targets, by_position);
	initStringInfo(&text);
	foreach(cell, targets)
		appendStringInfo(&text, "%s\"%s\"", text.len > 0 ? ", " : "", ((Stage *) lfirst(cell))->code);
	return text.data;
}
