/*-------------------------------------------------------------------------
 *
 * event.c
 *	  The statement trigger that checks new events, and how such a trigger
 *	  walks them.
 *
 * A set of events is walked once, in C, because emitters insert hundreds of
 * thousands at a time; the registry is asked once for each run of one kind.
 * Nothing here may write: effects belong to the rooms above.  There is no
 * shared state, so no lock guards anything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "core/core.h"
#include "core/plan.h"
#include "event/event.h"

static SPIPlanPtr plan_object_kind = NULL;

PG_FUNCTION_INFO_V1(crm_event_check);

static void check_kind(const char *kind, char **object_kind);
static bool same_text(text *value, const char *other);

/*
 * crm.event_check(): the kind is registered and the object is of its kind.
 */
Datum
crm_event_check(PG_FUNCTION_ARGS)
{
	TriggerData *data = crm_event_trigger(fcinfo, "crm.event_check()");
	CrmEventScan scan;
	char	   *last_kind = NULL;
	char	   *last_object = NULL;

	if (!crm_guard())
		return PointerGetDatum(NULL);

	crm_event_scan_begin(&scan, data);
	while (crm_event_scan_next(&scan))
	{
		bool		is_null;
		text	   *kind = DatumGetTextPP(slot_getattr(scan.slot, scan.kind, &is_null));
		text	   *object_kind;

		CHECK_FOR_INTERRUPTS();
		if (last_kind == NULL || !same_text(kind, last_kind))
		{
			last_kind = text_to_cstring(kind);
			check_kind(last_kind, &last_object);
		}
		object_kind = DatumGetTextPP(slot_getattr(scan.slot, scan.object_kind, &is_null));
		if (!same_text(object_kind, last_object))
			ereport(ERROR,
					(errcode(ERRCODE_CHECK_VIOLATION),
					 errmsg("event of kind \"%s\" on a \"%s\"", last_kind, text_to_cstring(object_kind)),
					 errhint("Events of this kind happen to a \"%s\": write that into object_kind.", last_object)));
	}
	crm_event_scan_end(&scan);
	return PointerGetDatum(NULL);
}

/*
 * The trigger's data, or an error where the function is called as something
 * else than a statement trigger AFTER INSERT on crm.event.
 */
TriggerData *
crm_event_trigger(FunctionCallInfo fcinfo, const char *name)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(data->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(data->tg_event) || !TRIGGER_FIRED_BY_INSERT(data->tg_event) ||
		data->tg_newtable == NULL || RelationGetRelid(data->tg_relation) != crm_table("event"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("%s is a trigger function of crm.event only", name),
				 errhint("Use it in CREATE TRIGGER … AFTER INSERT ON crm.event REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT.")));
	return data;
}

void
crm_event_scan_begin(CrmEventScan *scan, TriggerData *data)
{
	TupleDesc	desc = RelationGetDescr(data->tg_relation);

	scan->store = data->tg_newtable;
	scan->slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	scan->kind = SPI_fnumber(desc, "kind");
	scan->object_kind = SPI_fnumber(desc, "object_kind");
	scan->id = SPI_fnumber(desc, "id");
	if (scan->kind <= 0 || scan->object_kind <= 0 || scan->id <= 0 ||
		SPI_gettypeid(desc, scan->kind) != TEXTOID || SPI_gettypeid(desc, scan->object_kind) != TEXTOID ||
		SPI_gettypeid(desc, scan->id) != INT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("crm.event has other columns than this library expects"),
				 errhint("The library and the extension are of different versions: ALTER EXTENSION crm UPDATE; and restart the server.")));

	/* a read pointer of our own: other readers of the set keep their place */
	tuplestore_select_read_pointer(scan->store, tuplestore_alloc_read_pointer(scan->store, EXEC_FLAG_REWIND));
	tuplestore_rescan(scan->store);
}

bool
crm_event_scan_next(CrmEventScan *scan)
{
	return tuplestore_gettupleslot(scan->store, true, false, scan->slot);
}

void
crm_event_scan_again(CrmEventScan *scan)
{
	tuplestore_rescan(scan->store);
}

void
crm_event_scan_end(CrmEventScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
}

static bool
same_text(text *value, const char *other)
{
	int			length = strlen(other);

	return VARSIZE_ANY_EXHDR(value) == length && memcmp(VARDATA_ANY(value), other, length) == 0;
}

/*
 * Asks the registry for the object kind of a kind of event.  The result lives
 * in the caller's context.
 */
static void
check_kind(const char *kind, char **object_kind)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(kind)};
	char	   *word = NULL;

	SPI_connect();
	if (crm_plan_run(&plan_object_kind, "SELECT crm.event_object_kind($1)", 1, types, values) == 1)
		word = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	if (word == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
				 errmsg("unknown kind of event: \"%s\"", kind),
				 errhint("SELECT kind FROM crm.event_kind; lists the known ones. A new one is registered by crm.register_event_kind().")));
	*object_kind = MemoryContextStrdup(caller, word);
	SPI_finish();
}
