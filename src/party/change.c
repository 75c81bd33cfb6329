/*-------------------------------------------------------------------------
 *
 * change.c
 *	  Who changed what: the trigger that keeps crm.change_log.
 *
 * After an UPDATE or DELETE it walks the transition tables of the statement
 * once and hands what really changed to crm.changes_made(), all rows of the
 * statement in one call; an UPDATE that changes nothing leaves nothing.  An
 * INSERT is logged row by row, and by the trigger's WHEN clause only where a
 * person makes it: what a source brings names its source itself.
 *
 * crm.forget() leaves nothing here: what it takes away must stand nowhere, and
 * it has a log of its own.
 *
 * The arguments of the trigger are columns that are left out: those that a
 * log of their own tells of.  Nothing here reads or writes a table; texts are
 * cut at a fixed length.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "core/core.h"
#include "core/pairs.h"
#include "party/party.h"

#define MAX_VALUE 8000			/* bytes that are kept of one value */
#define BATCH 10000				/* rows handed over at once, so that memory is bounded */

PG_FUNCTION_INFO_V1(crm_party_log_changes);

typedef struct ChangeLog
{
	Relation	rel;
	const char *op;
	AttrNumber	id;
	bool	   *left_out;		/* by column number less one */
	MemoryContext rows;			/* of one batch */
	ArrayBuildState *ids;
	ArrayBuildState *olds;
	ArrayBuildState *news;
	int			count;
} ChangeLog;

static void hand_over(ChangeLog *log);
static void add_change(ChangeLog *log, Datum id, Jsonb *before, Jsonb *after);
static Jsonb *row_json(ChangeLog *log, TupleTableSlot *slot, TupleTableSlot *other);
static void value_json(Form_pg_attribute att, Datum value, bool isnull, JsonbValue *json);
static void pair_changed(TupleTableSlot *before, TupleTableSlot *after, void *arg);

static void
hand_over(ChangeLog *log)
{
	static const Oid types[] = {TEXTOID, TEXTOID, INT8ARRAYOID, JSONBARRAYOID, JSONBARRAYOID};
	Datum		values[5];
	MemoryContext outside;

	if (log->count == 0)
		return;
	outside = MemoryContextSwitchTo(log->rows);
	values[0] = CStringGetTextDatum(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(log->rel)),
															   RelationGetRelationName(log->rel)));
	values[1] = CStringGetTextDatum(log->op);
	values[2] = makeArrayResult(log->ids, log->rows);
	values[3] = makeArrayResult(log->olds, log->rows);
	values[4] = makeArrayResult(log->news, log->rows);
	crm_call_sql("changes_made", 5, types, values);
	MemoryContextSwitchTo(outside);
	MemoryContextReset(log->rows);
	log->ids = log->olds = log->news = NULL;
	log->count = 0;
}

/* before, after: NULL where there is none. */
static void
add_change(ChangeLog *log, Datum id, Jsonb *before, Jsonb *after)
{
	log->ids = accumArrayResult(log->ids, id, false, INT8OID, log->rows);
	log->olds = accumArrayResult(log->olds, JsonbPGetDatum(before), before == NULL, JSONBOID, log->rows);
	log->news = accumArrayResult(log->news, JsonbPGetDatum(after), after == NULL, JSONBOID, log->rows);
	if (++log->count >= BATCH)
		hand_over(log);
}

static void
value_json(Form_pg_attribute att, Datum value, bool isnull, JsonbValue *json)
{
	char		buffer[MAXDATELEN + 1];
	Oid			output;
	bool		varlena;
	char	   *words;

	if (isnull)
	{
		json->type = jbvNull;
		return;
	}
	switch (att->atttypid)
	{
		case BOOLOID:
			json->type = jbvBool;
			json->val.boolean = DatumGetBool(value);
			return;
		case INT2OID:
			json->type = jbvNumeric;
			json->val.numeric = int64_to_numeric(DatumGetInt16(value));
			return;
		case INT4OID:
			json->type = jbvNumeric;
			json->val.numeric = int64_to_numeric(DatumGetInt32(value));
			return;
		case INT8OID:
			json->type = jbvNumeric;
			json->val.numeric = int64_to_numeric(DatumGetInt64(value));
			return;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			words = pstrdup(JsonEncodeDateTime(buffer, value, att->atttypid, NULL));
			break;
		default:
			getTypeOutputInfo(att->atttypid, &output, &varlena);
			words = OidOutputFunctionCall(output, value);
			break;
	}
	json->type = jbvString;
	json->val.string.val = words;
	json->val.string.len = pg_mbcliplen(words, strlen(words), MAX_VALUE);
}

/* The columns of a row that differ from the other one's; all that have a value where other is NULL. NULL: none. */
static Jsonb *
row_json(ChangeLog *log, TupleTableSlot *slot, TupleTableSlot *other)
{
	TupleDesc	desc = RelationGetDescr(log->rel);
	JsonbParseState *state = NULL;
	JsonbValue	key,
				value;
	bool		any = false;

	slot_getallattrs(slot);
	if (other != NULL)
		slot_getallattrs(other);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || log->left_out[i])
			continue;
		if (other == NULL ? slot->tts_isnull[i] :
			slot->tts_isnull[i] == other->tts_isnull[i] &&
			(slot->tts_isnull[i] ||
			 datum_image_eq(slot->tts_values[i], other->tts_values[i], att->attbyval, att->attlen)))
			continue;
		key.type = jbvString;
		key.val.string.val = NameStr(att->attname);
		key.val.string.len = strlen(NameStr(att->attname));
		value_json(att, slot->tts_values[i], slot->tts_isnull[i], &value);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
		any = true;
	}
	key = *pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return any ? JsonbValueToJsonb(&key) : NULL;
}

static void
pair_changed(TupleTableSlot *before, TupleTableSlot *after, void *arg)
{
	ChangeLog  *log = arg;
	MemoryContext outside = MemoryContextSwitchTo(log->rows);
	Jsonb	   *old = row_json(log, before, after);
	bool		isnull;

	if (old != NULL)
	{
		Jsonb	   *fresh = row_json(log, after, before);
		Datum		id = slot_getattr(after, log->id, &isnull);

		MemoryContextSwitchTo(outside);
		add_change(log, id, old, fresh);
	}
	else
		MemoryContextSwitchTo(outside);
}

/*
 * crm.log_changes(): AFTER INSERT for each row, AFTER UPDATE and AFTER DELETE
 * for each statement with transition tables.  Asks crm.guard(): a restore
 * brings its own log.
 */
Datum
crm_party_log_changes(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	ChangeLog	log = {0};
	TupleTableSlot *slot;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		TRIGGER_FIRED_BY_TRUNCATE(data->tg_event) ||
		(TRIGGER_FIRED_FOR_ROW(data->tg_event) != 0) != TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		(TRIGGER_FIRED_BY_DELETE(data->tg_event) && data->tg_oldtable == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("crm.log_changes() was not called as its triggers call it"),
				 errhint("AFTER INSERT for each row; AFTER UPDATE or DELETE for each statement, with OLD TABLE and NEW TABLE.")));
	if (!crm_guard() || crm_rewriting())
		return PointerGetDatum(NULL);

	log.rel = data->tg_relation;
	log.id = crm_trigger_column(log.rel, "crm.log_changes", "id", INT8OID);
	log.left_out = palloc0(sizeof(bool) * RelationGetDescr(log.rel)->natts);
	for (int i = 0; i < data->tg_trigger->tgnargs; i++)
	{
		int			attno = SPI_fnumber(RelationGetDescr(log.rel), data->tg_trigger->tgargs[i]);

		if (attno > 0)
			log.left_out[attno - 1] = true;
	}
	log.rows = AllocSetContextCreate(CurrentMemoryContext, "crm changes", ALLOCSET_DEFAULT_SIZES);

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		log.op = "update";
		crm_walk_pairs(fcinfo, "crm.log_changes", pair_changed, &log);
	}
	else if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
	{
		log.op = "delete";
		slot = MakeSingleTupleTableSlot(RelationGetDescr(log.rel), &TTSOpsMinimalTuple);
		tuplestore_rescan(data->tg_oldtable);
		while (tuplestore_gettupleslot(data->tg_oldtable, true, false, slot))
		{
			MemoryContext outside = MemoryContextSwitchTo(log.rows);
			Jsonb	   *old = row_json(&log, slot, NULL);

			CHECK_FOR_INTERRUPTS();
			MemoryContextSwitchTo(outside);
			add_change(&log, slot_getattr(slot, log.id, &isnull), old, NULL);
		}
		ExecDropSingleTupleTableSlot(slot);
	}
	else
	{
		MemoryContext outside = MemoryContextSwitchTo(log.rows);
		Jsonb	   *fresh;

		log.op = "insert";
		fresh = row_json(&log, data->tg_trigslot, NULL);
		MemoryContextSwitchTo(outside);
		add_change(&log, slot_getattr(data->tg_trigslot, log.id, &isnull), NULL, fresh);
	}
	hand_over(&log);
	MemoryContextDelete(log.rows);
	return PointerGetDatum(NULL);
}
