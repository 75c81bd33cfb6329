/*-------------------------------------------------------------------------
 *
 * store.c
 *	  crm.vehicle_position as C sees it: find fixes of a vehicle, add fixes.
 *
 * The table is partitioned by month and each partition has a unique index on
 * (vehicle_id, at) of its own.  Fixes are looked up through these indexes
 * and added in pages, as COPY does: 10 thousand look-ups and inserts through
 * the executor would cost several times the insert itself.
 *
 * Nothing here decides what a fix means, and nothing may run SQL while a
 * store is open.
 *
 * Whoever writes holds the advisory locks of his vehicles (position.c), so
 * that a fix looked for and not found is still missing when it is added.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/heapam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am_d.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/core.h"
#include "shipping/shipping.h"

#define INSERT_BUFFER	1000

typedef enum Column
{
	COL_VEHICLE, COL_AT, COL_LON, COL_LAT, COL_SPEED, COL_COURSE, COL_SATELLITES, COL_KNOWN,
	NCOLUMNS
} Column;

static const char *const column_names[NCOLUMNS] = {
	"vehicle_id", "at", "lon", "lat", "speed_kmh", "course", "satellites", "known_at"
};

typedef struct Partition
{
	Oid			relid;
	TimestampTz lower;			/* inclusive */
	TimestampTz upper;			/* exclusive */
	Relation	rel;			/* NULL: not opened yet */
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	AttrNumber	column[NCOLUMNS];
} Partition;

struct CrmStore
{
	MemoryContext context;
	LOCKMODE	lockmode;
	Relation	parent;
	Snapshot	snapshot;
	int			nparts;
	Partition  *parts;			/* ascending */
};

static void partition_open(CrmStore *store, Partition *part);
static void partition_seek(CrmStore *store, Partition *part, int64 vehicle_id,
						   TimestampTz from, TimestampTz through);
static void partition_fix(Partition *part, CrmFix *fix);
static void partition_insert(Partition *part, CrmPosition **positions, int n, TimestampTz known_at);


CrmStore *
crm_store_open(bool writing)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "crm positions",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CrmStore   *store = palloc0(sizeof(CrmStore));
	PartitionDesc desc;
	Oid			relid = crm_table("vehicle_position");

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"crm.vehicle_position\" does not exist"),
				 errhint("CREATE EXTENSION crm CASCADE;")));
	store->context = context;
	store->lockmode = writing ? RowExclusiveLock : AccessShareLock;
	store->parent = table_open(relid, store->lockmode);

	desc = RelationGetPartitionDesc(store->parent, true);
	store->parts = palloc0(sizeof(Partition) * Max(desc->nparts, 1));
	if (desc->nparts > 0)
	{
		PartitionBoundInfo bounds = desc->boundinfo;

		for (int i = 0; i < bounds->ndatums; i++)
		{
			Partition  *part;

			/* indexes[i] is the partition that ends before bound i, -1 a hole */
			if (bounds->indexes[i] < 0)
				continue;
			part = &store->parts[store->nparts++];
			part->relid = desc->oids[bounds->indexes[i]];
			part->lower = i == 0 || bounds->kind[i - 1][0] == PARTITION_RANGE_DATUM_MINVALUE
				? DT_NOBEGIN : DatumGetTimestampTz(bounds->datums[i - 1][0]);
			part->upper = bounds->kind[i][0] == PARTITION_RANGE_DATUM_MAXVALUE
				? DT_NOEND : DatumGetTimestampTz(bounds->datums[i][0]);
		}
	}
	store->snapshot = RegisterSnapshot(GetLatestSnapshot());
	MemoryContextSwitchTo(old);
	return store;
}

static void
scans_end(CrmStore *store)
{
	for (int i = 0; i < store->nparts; i++)
		if (store->parts[i].scan != NULL)
		{
			index_endscan(store->parts[i].scan);
			store->parts[i].scan = NULL;
		}
}

/* See what this transaction has added in the meantime. */
void
crm_store_refresh(CrmStore *store)
{
	scans_end(store);
	UnregisterSnapshot(store->snapshot);
	CommandCounterIncrement();
	store->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

void
crm_store_close(CrmStore *store)
{
	scans_end(store);
	for (int i = 0; i < store->nparts; i++)
		if (store->parts[i].rel != NULL)
		{
			ExecDropSingleTupleTableSlot(store->parts[i].slot);
			index_close(store->parts[i].index, NoLock);
			table_close(store->parts[i].rel, NoLock);
		}
	UnregisterSnapshot(store->snapshot);
	table_close(store->parent, NoLock);
	MemoryContextDelete(store->context);
}

bool
crm_store_covers(CrmStore *store, TimestampTz at)
{
	for (int i = store->nparts - 1; i >= 0; i--)
		if (at >= store->parts[i].lower && at < store->parts[i].upper)
			return true;
	return false;
}

/*
 * The newest fixes of a vehicle before a moment, at most limit of them, in
 * ascending order.
 */
int
crm_store_before(CrmStore *store, int64 vehicle_id, TimestampTz before, int limit, CrmFix *fixes)
{
	int			n = 0;

	for (int i = store->nparts - 1; i >= 0 && n < limit; i--)
	{
		Partition  *part = &store->parts[i];

		if (part->lower >= before)
			continue;
		partition_seek(store, part, vehicle_id, DT_NOBEGIN, before - 1);
		while (n < limit && index_getnext_slot(part->scan, BackwardScanDirection, part->slot))
			partition_fix(part, &fixes[n++]);
	}
	for (int i = 0; i < n / 2; i++)
	{
		CrmFix		swap = fixes[i];

		fixes[i] = fixes[n - 1 - i];
		fixes[n - 1 - i] = swap;
	}
	return n;
}

/* The oldest fixes of a vehicle in a closed interval, at most limit, ascending. */
int
crm_store_from(CrmStore *store, int64 vehicle_id, TimestampTz from, TimestampTz through,
			   int limit, CrmFix *fixes)
{
	int			n = 0;

	for (int i = 0; i < store->nparts && n < limit; i++)
	{
		Partition  *part = &store->parts[i];

		if (part->upper <= from)
			continue;
		if (part->lower > through)
			break;
		partition_seek(store, part, vehicle_id, from, through);
		while (n < limit && index_getnext_slot(part->scan, ForwardScanDirection, part->slot))
			partition_fix(part, &fixes[n++]);
	}
	return n;
}

/* Add rows, ordered by vehicle and time; each has its partition. */
void
crm_store_insert(CrmStore *store, CrmPosition **positions, int n, TimestampTz known_at)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "crm new positions",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CrmPosition **mine = palloc(sizeof(CrmPosition *) * n);
	int			done = 0;

	for (int i = store->nparts - 1; i >= 0 && done < n; i--)
	{
		Partition  *part = &store->parts[i];
		int			k = 0;

		for (int j = 0; j < n; j++)
			if (positions[j]->fix.at >= part->lower && positions[j]->fix.at < part->upper)
				mine[k++] = positions[j];
		if (k == 0)
			continue;
		partition_open(store, part);
		partition_insert(part, mine, k, known_at);
		done += k;
	}
	if (done < n)
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("no partition of \"crm.vehicle_position\" for %d positions", n - done),
				 errhint("A partition was dropped in the meantime. Try again.")));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
partition_open(CrmStore *store, Partition *part)
{
	MemoryContext old;
	List	   *indexes;
	ListCell   *cell;

	if (part->rel != NULL)
		return;
	old = MemoryContextSwitchTo(store->context);
	part->rel = table_open(part->relid, store->lockmode);
	for (int i = 0; i < NCOLUMNS; i++)
	{
		part->column[i] = get_attnum(part->relid, column_names[i]);
		if (part->column[i] == InvalidAttrNumber)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("partition \"%s\" has no column \"%s\"",
							RelationGetRelationName(part->rel), column_names[i]),
					 errhint("Partitions of crm.vehicle_position are made by crm.make_partitions() only. Detach this one.")));
	}

	indexes = RelationGetIndexList(part->rel);
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), store->lockmode);

		if (index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisunique &&
			index->rd_index->indisvalid && index->rd_index->indnkeyatts == 2 &&
			index->rd_index->indkey.values[0] == part->column[COL_VEHICLE] &&
			index->rd_index->indkey.values[1] == part->column[COL_AT] &&
			RelationGetIndexPredicate(index) == NIL &&
			index->rd_indoption[0] == 0 && index->rd_indoption[1] == 0)
		{
			part->index = index;
			break;
		}
		index_close(index, store->lockmode);
	}
	list_free(indexes);
	if (part->index == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition \"%s\" has no unique index on (vehicle_id, at)",
						RelationGetRelationName(part->rel)),
				 errhint("CREATE UNIQUE INDEX ON crm.%s (vehicle_id, at);",
						 quote_identifier(RelationGetRelationName(part->rel)))));
	part->slot = table_slot_create(part->rel, NULL);
	MemoryContextSwitchTo(old);
}

/* Place the partition's scan on a vehicle's fixes in a closed interval. */
static void
partition_seek(CrmStore *store, Partition *part, int64 vehicle_id,
			   TimestampTz from, TimestampTz through)
{
	ScanKeyData keys[3];

	partition_open(store, part);
	if (part->scan == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(store->context);

#if PG_VERSION_NUM >= 180000
		part->scan = index_beginscan(part->rel, part->index, store->snapshot, NULL, 3, 0);
#else
		part->scan = index_beginscan(part->rel, part->index, store->snapshot, 3, 0);
#endif
		MemoryContextSwitchTo(old);
	}
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(vehicle_id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE, TimestampTzGetDatum(from));
	ScanKeyInit(&keys[2], 2, BTLessEqualStrategyNumber, F_TIMESTAMPTZ_LE, TimestampTzGetDatum(through));
	index_rescan(part->scan, keys, 3, NULL, 0);
	CHECK_FOR_INTERRUPTS();
}

static void
partition_fix(Partition *part, CrmFix *fix)
{
	bool		isnull;

	fix->at = DatumGetTimestampTz(slot_getattr(part->slot, part->column[COL_AT], &isnull));
	fix->lon = DatumGetFloat8(slot_getattr(part->slot, part->column[COL_LON], &isnull));
	fix->lat = DatumGetFloat8(slot_getattr(part->slot, part->column[COL_LAT], &isnull));
}

static void
partition_insert(Partition *part, CrmPosition **positions, int n, TimestampTz known_at)
{
	EState	   *estate = CreateExecutorState();
	ResultRelInfo *info = makeNode(ResultRelInfo);
	TupleTableSlot **slots = palloc0(sizeof(TupleTableSlot *) * Min(n, INSERT_BUFFER));
	CommandId	cid = GetCurrentCommandId(true);
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext, "crm insert",
												ALLOCSET_DEFAULT_SIZES);
	int			natts = RelationGetDescr(part->rel)->natts;
	int			nslots = 0;

	InitResultRelInfo(info, part->rel, 1, NULL, 0);
	ExecOpenIndices(info, false);

	for (int done = 0; done < n;)
	{
		int			k = Min(n - done, INSERT_BUFFER);
		MemoryContext old;

		for (int i = 0; i < k; i++)
		{
			const CrmPosition *p = positions[done + i];
			TupleTableSlot *slot;
			Datum	   *values;
			bool	   *nulls;

			if (i == nslots)
				slots[nslots++] = table_slot_create(part->rel, NULL);
			slot = slots[i];
			ExecClearTuple(slot);
			values = slot->tts_values;
			nulls = slot->tts_isnull;
			memset(nulls, true, sizeof(bool) * natts);

#define PUT(column_of, value, is_null) \
			do { \
				values[part->column[column_of] - 1] = (value); \
				nulls[part->column[column_of] - 1] = (is_null); \
			} while (0)
			PUT(COL_VEHICLE, Int64GetDatum(p->vehicle_id), false);
			PUT(COL_AT, TimestampTzGetDatum(p->fix.at), false);
			PUT(COL_LON, Float8GetDatum(p->fix.lon), false);
			PUT(COL_LAT, Float8GetDatum(p->fix.lat), false);
			PUT(COL_SPEED, Float4GetDatum(p->speed_kmh), isnan(p->speed_kmh));
			PUT(COL_COURSE, Float4GetDatum(p->course), isnan(p->course));
			PUT(COL_SATELLITES, Int16GetDatum((int16) p->satellites), p->satellites < 0);
			PUT(COL_KNOWN, TimestampTzGetDatum(known_at), false);
#undef PUT
			ExecStoreVirtualTuple(slot);
		}

		old = MemoryContextSwitchTo(batch);
		table_multi_insert(part->rel, slots, k, cid, 0, NULL);
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);

		for (int i = 0; i < k; i++)
		{
#if PG_VERSION_NUM >= 160000
			ExecInsertIndexTuples(info, slots[i], estate, false, false, NULL, NIL, false);
#else
			ExecInsertIndexTuples(info, slots[i], estate, false, false, NULL, NIL);
#endif
			ResetPerTupleExprContext(estate);
		}
		done += k;
		CHECK_FOR_INTERRUPTS();
	}

	for (int i = 0; i < nslots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	ExecCloseIndices(info);
	FreeExecutorState(estate);
	MemoryContextDelete(batch);
}
