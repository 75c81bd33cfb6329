/*-------------------------------------------------------------------------
 *
 * position.c
 *	  crm.put_positions(): the only door for fixes of vehicles.
 *
 * One call takes a set of fixes of any vehicles in any order.  It checks them
 * (what is wrong is counted by reason, never an error that would cost the
 * rest), leaves out those that are there already, adds the others to
 * crm.vehicle_position, follows each vehicle through the zones (passage.c),
 * writes the passages that changed and has the trips of these vehicles judged.
 *
 * Two calls that bring fixes of one vehicle must not run at once: each would
 * judge without the other's fixes.  So a call takes an advisory lock for each
 * of the 64 groups of vehicles that it touches, in ascending order, to the
 * end of its transaction; weighings of a vehicle take the same lock
 * (crm.lock_vehicles).  A group and not a vehicle, so that a set of ten
 * thousand vehicles does not fill the lock table.
 *
 * What it must never do: throw away a row without counting it; run DDL while
 * a store is open.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "core/plan.h"
#include "shipping/shipping.h"

#define LOCK_CLASS		0x43524d56	/* first half of the advisory keys: "CRMV" */
#define LOCK_GROUPS		64
#define LOOKBACK		8
#define LOOKBACK_MOST	8192
#define BATCH_MOST		1000000

typedef enum Refusal
{
	TAKEN,
	NO_VEHICLE,
	NO_TIME,
	NO_COORDINATES,
	NOT_FINITE,
	OUT_OF_RANGE,
	NULL_ISLAND,
	IN_FUTURE,
	TOO_OLD,
	FEW_SATELLITES,
	SWAPPED
} Refusal;

static const char *const refusal_names[] = {
	"taken", "no vehicle", "no time", "no coordinates", "not finite", "out of range",
	"null island", "in the future", "too old", "too few satellites", "swapped?"
};

typedef struct Refused
{
	int64		vehicle_id;
	Refusal		reason;
	TimestampTz at;
	double		lon;
	double		lat;
} Refused;

/* The fixes of one vehicle in the call. */
typedef struct VehicleSet
{
	int64		vehicle_id;
	int			first;			/* into the ordered rows */
	int			n;
	int			nfresh;			/* of these, moved to the front: not stored yet */
	bool		known;
	bool		late;			/* the store holds later ones than the oldest fresh */
	bool		changed;		/* a passage of it changed */
	TimestampTz oldest;			/* of the fresh */
	TimestampTz newest;
	CrmFix		last[LOOKBACK];
	CrmFix	   *back;			/* the last stored ones before the oldest fresh; mostly in last */
	int			nback;
	int			anchor;			/* the walk starts after this one of back, -1: none */
	int			first_recorded;
	int			nrecorded;
	bool		plain;			/* its stops need no look at the record */
	int			first_stop;
	int			nstops;
} VehicleSet;

typedef struct Batch
{
	MemoryContext context;
	CrmPosition *rows;
	CrmPosition **order;		/* by vehicle, time, place in the call */
	int			nrows;
	Refused    *refused;
	int			nrefused;
	VehicleSet *vehicles;
	int			nvehicles;
	CrmPassage *recorded;
	int			nrecorded;
	CrmStop    *stops;
} Batch;

PG_FUNCTION_INFO_V1(crm_shipping_put_positions);
PG_FUNCTION_INFO_V1(crm_shipping_lock_vehicles);

PGDLLEXPORT Datum crm_shipping_put_positions(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum crm_shipping_lock_vehicles(PG_FUNCTION_ARGS);

/* plans of the SQL that this file calls, prepared once a backend */
static SPIPlanPtr known_plan = NULL;
static SPIPlanPtr partitions_plan = NULL;
static SPIPlanPtr recorded_plan = NULL;
static SPIPlanPtr write_plan = NULL;
static SPIPlanPtr moved_plan = NULL;
static SPIPlanPtr refuse_plan = NULL;
static SPIPlanPtr stops_plan = NULL;
static SPIPlanPtr write_stops_plan = NULL;

static void batch_read(Batch *b, FunctionCallInfo fcinfo);
static void batch_order(Batch *b);
static void batch_vehicles(Batch *b);
static void batch_partitions(Batch *b);
static void sift(Batch *b, VehicleSet *v, CrmStore *store);
static void look_farther(VehicleSet *v, CrmStore *store);
static void recorded_load(Batch *b);
static void follow(Batch *b, VehicleSet *v, CrmStore *store, CrmPassageChanges *changes);
static void track_of(Batch *b, VehicleSet *v, CrmStore *store, CrmTrack *track);
static bool swapped(const CrmFix *fix, const CrmFix *reference);
static void stops_load(Batch *b);
static void stops_write(CrmStopChanges *c);
static void changes_write(CrmPassageChanges *c);
static void trips_moved(Batch *b);
static void refused_write(Batch *b);
static void lock_groups(uint64 groups);


static Datum
int8_array(int64 *values, int n)
{
	Datum	   *d = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		d[i] = Int64GetDatum(values[i]);
	return PointerGetDatum(construct_array(d, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

static Datum
typed_array(Datum *values, bool *nulls, int n, Oid type)
{
	int16		length;
	bool		by_value;
	char		align;
	int			lower = 1;

	get_typlenbyvalalign(type, &length, &by_value, &align);
	if (n == 0)
		return PointerGetDatum(construct_empty_array(type));
	return PointerGetDatum(construct_md_array(values, nulls, 1, &n, &lower, type,
											  length, by_value, align));
}

static uint64
lock_group(int64 vehicle_id)
{
	return UINT64CONST(1) << (murmurhash32((uint32) vehicle_id ^ (uint32) (vehicle_id >> 32)) % LOCK_GROUPS);
}

static void
lock_groups(uint64 groups)
{
	for (int g = 0; g < LOCK_GROUPS; g++)
		if (groups & (UINT64CONST(1) << g))
		{
			LOCKTAG		tag;

			SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_CLASS, g, 2);
			(void) LockAcquire(&tag, ExclusiveLock, false, false);
		}
}

/* crm.lock_vehicles(bigint[]): what writes facts of these vehicles' ways waits its turn. */
Datum
crm_shipping_lock_vehicles(PG_FUNCTION_ARGS)
{
	Datum	   *ids;
	bool	   *nulls;
	int			n;
	uint64		groups = 0;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, true, TYPALIGN_DOUBLE, &ids, &nulls, &n);
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			groups |= lock_group(DatumGetInt64(ids[i]));
	lock_groups(groups);
	PG_RETURN_VOID();
}

Datum
crm_shipping_put_positions(PG_FUNCTION_ARGS)
{
	Batch		batch = {0};
	Batch	   *b = &batch;
	MemoryContext old;
	CrmPassageChanges changes = {0};
	CrmStopChanges stops = {0};
	int			inserted = 0;
	int			nlate = 0;

	b->context = AllocSetContextCreate(CurrentMemoryContext, "crm put_positions",
									   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(b->context);

	batch_read(b, fcinfo);
	if (b->nrows > 0 || b->nrefused > 0)
	{
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		MemoryContextSwitchTo(b->context);

		batch_order(b);
		batch_vehicles(b);
		if (b->nrows > 0)
		{
			CrmStore   *store;

			batch_partitions(b);
			crm_zones_refresh();

			store = crm_store_open(true);
			for (int i = 0; i < b->nvehicles; i++)
			{
				VehicleSet *v = &b->vehicles[i];

				if (!v->known)
					continue;
				sift(b, v, store);
				/* the fresh rows of all vehicles stand together in front */
				memmove(&b->order[inserted], &b->order[v->first], sizeof(CrmPosition *) * v->nfresh);
				v->first = inserted;
				inserted += v->nfresh;
				if (v->nfresh > 0 && v->late)
					nlate++;
			}
			if (inserted > 0)
			{
				crm_store_insert(store, b->order, inserted, crm_now());
				if (nlate > 0)
					crm_store_refresh(store);
				for (int i = 0; i < b->nvehicles; i++)
				{
					VehicleSet *v = &b->vehicles[i];

					if (v->nfresh == 0)
						continue;
					if (v->late)
						v->nback = crm_store_before(store, v->vehicle_id, v->oldest, LOOKBACK, v->back);
					v->anchor = v->nback - 1;
					if (v->nback >= 2 && crm_fix_suspect(&v->back[v->nback - 2], &v->back[v->nback - 1]))
					{
						v->anchor--;	/* that one waited for what comes now */
						look_farther(v, store);
					}
				}
				recorded_load(b);
				for (int i = 0; i < b->nvehicles; i++)
					if (b->vehicles[i].nfresh > 0)
						follow(b, &b->vehicles[i], store, &changes);
				stops_load(b);
				for (int i = 0; i < b->nvehicles; i++)
				{
					VehicleSet *v = &b->vehicles[i];
					CrmTrack	track = {0};

					if (v->nfresh == 0)
						continue;
					track_of(b, v, store, &track);
					crm_stops_follow(&track, v->anchor + 1, v->newest, v->late,
									 b->stops + v->first_stop, v->nstops, v->plain, &stops);
					pfree(track.fixes);
				}
			}
			crm_store_close(store);
			if (stops.n > 0)
				stops_write(&stops);

			if (changes.nprogress + changes.nfresh + changes.nwithdrawn > 0)
				changes_write(&changes);
			if (inserted > 0 && crm_guard())
				trips_moved(b);
		}
		if (b->nrefused > 0)
			refused_write(b);
		SPI_finish();
	}

	MemoryContextSwitchTo(old);
	MemoryContextDelete(b->context);
	PG_RETURN_INT32(inserted);
}

/* Take the arguments apart and sort the rows into good and refused. */
static void
batch_read(Batch *b, FunctionCallInfo fcinfo)
{
	static const Oid types[7] = {INT8OID, TIMESTAMPTZOID, FLOAT8OID, FLOAT8OID, FLOAT8OID, FLOAT8OID, INT4OID};
	static const char *const names[7] = {"vehicle_ids", "at", "lon", "lat", "speed_kmh", "course", "satellites"};
	Datum	   *values[7];
	bool	   *nulls[7];
	int			n = -1;
	TimestampTz latest = crm_clock() + CRM_AHEAD_S * USECS_PER_SEC;
	TimestampTz earliest = crm_now() - (int64) CRM_POSITION_DAYS * USECS_PER_DAY;

	for (int i = 0; i < 7; i++)
	{
		ArrayType  *array;
		int			count;

		values[i] = NULL;
		if (PG_ARGISNULL(i))
		{
			if (i < 4)
				ereport(ERROR,
						(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						 errmsg("%s of crm.put_positions() is NULL", names[i]),
						 errhint("Only speed_kmh, course and satellites may be NULL, as a whole or in places.")));
			continue;
		}
		array = PG_GETARG_ARRAYTYPE_P(i);
		if (ARR_NDIM(array) > 1)
			ereport(ERROR,
					(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
					 errmsg("%s of crm.put_positions() has %d dimensions", names[i], ARR_NDIM(array)),
					 errhint("Pass arrays of one dimension, an element a fix.")));
		deconstruct_array(array, types[i], types[i] == INT4OID ? 4 : 8, true,
						  types[i] == INT4OID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
						  &values[i], &nulls[i], &count);
		if (n >= 0 && count != n)
			ereport(ERROR,
					(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
					 errmsg("%s of crm.put_positions() has %d elements, vehicle_ids has %d", names[i], count, n),
					 errhint("Pass arrays of one length, an element a fix; NULL where a value is not known.")));
		n = count;
	}
	if (n > BATCH_MOST)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%d positions in one call, %d are allowed", n, BATCH_MOST),
				 errhint("Call crm.put_positions() several times; sets of 10000 are quickest.")));

	b->rows = palloc_extended(sizeof(CrmPosition) * (Size) Max(n, 1), MCXT_ALLOC_HUGE);
	b->refused = palloc_extended(sizeof(Refused) * (Size) Max(n, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < n; i++)
	{
		CrmPosition *p = &b->rows[b->nrows];
		Refusal		reason = TAKEN;

		p->vehicle_id = nulls[0][i] ? 0 : DatumGetInt64(values[0][i]);
		p->fix.at = nulls[1][i] ? DT_NOEND : DatumGetTimestampTz(values[1][i]);
		p->fix.lon = nulls[2][i] ? get_float8_nan() : DatumGetFloat8(values[2][i]);
		p->fix.lat = nulls[3][i] ? get_float8_nan() : DatumGetFloat8(values[3][i]);

		if (nulls[0][i])
			reason = NO_VEHICLE;
		else if (nulls[1][i])
			reason = NO_TIME;
		else if (nulls[2][i] || nulls[3][i])
			reason = NO_COORDINATES;
		else if (TIMESTAMP_NOT_FINITE(p->fix.at) || !isfinite(p->fix.lon) || !isfinite(p->fix.lat))
			reason = NOT_FINITE;
		else if (fabs(p->fix.lon) > 180.0 || fabs(p->fix.lat) > 90.0)
			reason = OUT_OF_RANGE;
		else if (p->fix.lon == 0.0 && p->fix.lat == 0.0)
			reason = NULL_ISLAND;
		else if (p->fix.at > latest)
			reason = IN_FUTURE;
		else if (p->fix.at < earliest)
			reason = TOO_OLD;

		if (reason != TAKEN)
		{
			Refused    *r = &b->refused[b->nrefused++];

			r->vehicle_id = p->vehicle_id;
			r->reason = reason;
			r->at = p->fix.at;
			r->lon = p->fix.lon;
			r->lat = p->fix.lat;
			continue;
		}

		/* what a tracker says beside the place is kept only where it can be true */
		p->speed_kmh = p->course = get_float4_nan();
		p->satellites = -1;
		if (values[4] != NULL && !nulls[4][i])
		{
			double		speed = DatumGetFloat8(values[4][i]);

			if (speed >= 0.0 && speed <= 400.0)
				p->speed_kmh = speed;
		}
		if (values[5] != NULL && !nulls[5][i])
		{
			double		course = DatumGetFloat8(values[5][i]);

			if (course >= 0.0 && course <= 360.0)
				p->course = course;
		}
		if (values[6] != NULL && !nulls[6][i])
		{
			int32		satellites = DatumGetInt32(values[6][i]);

			if (satellites >= 0 && satellites < 255)
				p->satellites = satellites;
			if (p->satellites >= 0 && p->satellites < crm_guc_min_satellites)
			{
				Refused    *r = &b->refused[b->nrefused++];

				r->vehicle_id = p->vehicle_id;
				r->reason = FEW_SATELLITES;
				r->at = p->fix.at;
				r->lon = p->fix.lon;
				r->lat = p->fix.lat;
				continue;
			}
		}
		p->ordinal = i;
		b->nrows++;
	}
}

static inline int
position_cmp(const CrmPosition *x, const CrmPosition *y)
{
	if (x->vehicle_id != y->vehicle_id)
		return x->vehicle_id < y->vehicle_id ? -1 : 1;
	if (x->fix.at != y->fix.at)
		return x->fix.at < y->fix.at ? -1 : 1;
	return x->ordinal - y->ordinal;
}

static int
cmp_order(const void *a, const void *b)
{
	return position_cmp(*(CrmPosition *const *) a, *(CrmPosition *const *) b);
}

/* Order the rows, and leave out what the call itself repeats. */
static void
batch_order(Batch *b)
{
	bool		ordered = true;
	int			n = 0;

	b->order = palloc_extended(sizeof(CrmPosition *) * (Size) Max(b->nrows, 1), MCXT_ALLOC_HUGE);
	for (int i = 0; i < b->nrows; i++)
	{
		b->order[i] = &b->rows[i];
		if (i > 0 && ordered && position_cmp(b->order[i - 1], b->order[i]) > 0)
			ordered = false;
	}
	if (!ordered)
		qsort(b->order, b->nrows, sizeof(CrmPosition *), cmp_order);

	for (int i = 0; i < b->nrows; i++)
	{
		if (n > 0 && b->order[n - 1]->vehicle_id == b->order[i]->vehicle_id &&
			b->order[n - 1]->fix.at == b->order[i]->fix.at)
			continue;
		b->order[n++] = b->order[i];
	}
	b->nrows = n;
}

/* Group the rows by vehicle, take the locks, refuse unknown vehicles. */
static void
batch_vehicles(Batch *b)
{
	uint64		groups = 0;
	int64	   *ids;
	Oid			types[1] = {INT8ARRAYOID};
	Datum		args[1];

	if (b->nrows == 0)
		return;

	b->vehicles = palloc_extended(sizeof(VehicleSet) * (Size) b->nrows, MCXT_ALLOC_HUGE);
	for (int i = 0; i < b->nrows; i++)
	{
		VehicleSet *v;

		if (i == 0 || b->order[i]->vehicle_id != b->order[i - 1]->vehicle_id)
		{
			v = &b->vehicles[b->nvehicles++];
			memset(v, 0, offsetof(VehicleSet, last));
			v->back = v->last;
			v->nback = v->first_recorded = v->nrecorded = v->first_stop = v->nstops = 0;
			v->plain = false;
			v->vehicle_id = b->order[i]->vehicle_id;
			v->first = i;
			groups |= lock_group(v->vehicle_id);
		}
		b->vehicles[b->nvehicles - 1].n++;
	}
	lock_groups(groups);

	ids = palloc(sizeof(int64) * b->nvehicles);
	for (int i = 0; i < b->nvehicles; i++)
		ids[i] = b->vehicles[i].vehicle_id;
	args[0] = int8_array(ids, b->nvehicles);
	(void) crm_plan_run(&known_plan, "SELECT vehicle_id FROM crm.vehicles_known($1)", 1, types, args);

	for (uint64 r = 0; r < SPI_processed; r++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[r], SPI_tuptable->tupdesc, 1, &isnull));
		int			low = 0,
					high = b->nvehicles - 1;

		while (low <= high)
		{
			int			middle = (low + high) / 2;

			if (b->vehicles[middle].vehicle_id == id)
			{
				b->vehicles[middle].known = true;
				break;
			}
			if (b->vehicles[middle].vehicle_id < id)
				low = middle + 1;
			else
				high = middle - 1;
		}
	}
	SPI_freetuptable(SPI_tuptable);

	for (int i = 0; i < b->nvehicles; i++)
	{
		VehicleSet *v = &b->vehicles[i];

		for (int j = 0; j < v->n && !v->known; j++)
		{
			CrmPosition *p = b->order[v->first + j];
			Refused    *r = &b->refused[b->nrefused++];

			r->vehicle_id = v->vehicle_id;
			r->reason = NO_VEHICLE;
			r->at = p->fix.at;
			r->lon = p->fix.lon;
			r->lat = p->fix.lat;
		}
	}
}

/* Make the partitions that are missing. */
static void
batch_partitions(Batch *b)
{
	TimestampTz oldest = DT_NOEND,
				newest = DT_NOBEGIN;
	CrmStore   *store;
	bool		covered = true;
	Oid			types[2] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		args[2];

	store = crm_store_open(false);
	for (int i = 0; i < b->nvehicles; i++)
		for (int j = 0; j < b->vehicles[i].n && b->vehicles[i].known; j++)
		{
			TimestampTz at = b->order[b->vehicles[i].first + j]->fix.at;

			oldest = Min(oldest, at);
			newest = Max(newest, at);
			covered = covered && crm_store_covers(store, at);
		}
	crm_store_close(store);
	if (covered)
		return;

	args[0] = TimestampTzGetDatum(oldest);
	args[1] = TimestampTzGetDatum(newest);
	(void) crm_plan_run(&partitions_plan, "SELECT crm.position_partitions($1, $2)", 2, types, args);
	SPI_freetuptable(SPI_tuptable);
}

/* Move the rows of a vehicle that are not stored yet to the front of its rows. */
static void
sift(Batch *b, VehicleSet *v, CrmStore *store)
{
	CrmPosition **rows = &b->order[v->first];
	TimestampTz last;

	v->nback = crm_store_before(store, v->vehicle_id, DT_NOEND, LOOKBACK, v->back);
	last = v->nback > 0 ? v->back[v->nback - 1].at : DT_NOBEGIN;

	/* against where it was last; before the first fix of all, against what two of the first three agree on */
	if (v->nback > 0 || v->n >= 3)
	{
		const CrmFix *reference = v->nback > 0 ? &v->back[v->nback - 1] : NULL;
		int			n = 0;

		for (int i = 0; i < 3 && reference == NULL; i++)
			for (int j = i + 1; j < 3 && reference == NULL; j++)
				if (crm_distance(rows[i]->fix.lon, rows[i]->fix.lat, rows[j]->fix.lon, rows[j]->fix.lat) < CRM_SWAPPED_NEAR_M)
					reference = &rows[i]->fix;
		for (int i = 0; i < v->n && reference != NULL; i++)
		{
			if (swapped(&rows[i]->fix, reference))
			{
				Refused    *r = &b->refused[b->nrefused++];

				r->vehicle_id = v->vehicle_id;
				r->reason = SWAPPED;
				r->at = rows[i]->fix.at;
				r->lon = rows[i]->fix.lon;
				r->lat = rows[i]->fix.lat;
			}
			else
				rows[n++] = rows[i];
		}
		if (reference != NULL)
			v->n = n;
		if (v->n == 0)
			return;
	}

	if (rows[0]->fix.at > last)
		v->nfresh = v->n;
	else
	{
		CrmFix		stored[256];
		int			nstored = 0,
					s = 0;
		bool		more = true;

		for (int i = 0; i < v->n; i++)
		{
			TimestampTz at = rows[i]->fix.at;

			while (at <= last && (s == nstored || stored[s].at < at))
			{
				if (s < nstored)
				{
					s++;
					continue;
				}
				if (!more)
					break;
				nstored = crm_store_from(store, v->vehicle_id, at, rows[v->n - 1]->fix.at,
										 lengthof(stored), stored);
				more = nstored == lengthof(stored);
				s = 0;
				if (nstored == 0)
					break;
			}
			if (at <= last && s < nstored && stored[s].at == at)
				continue;
			rows[v->nfresh++] = rows[i];
		}
	}
	if (v->nfresh == 0)
		return;
	v->oldest = rows[0]->fix.at;
	v->newest = rows[v->nfresh - 1]->fix.at;
	v->late = v->oldest < last;
}

/* Would the fix, with its coordinates exchanged, lie near where the vehicle was, and does it not now? */
static bool
swapped(const CrmFix *fix, const CrmFix *reference)
{
	if (fabs(fix->lat - reference->lat) < 2.0 && fabs(fix->lon - reference->lon) < 2.0)
		return false;
	return fabs(fix->lon) <= 90.0 &&
		crm_distance(fix->lon, fix->lat, reference->lon, reference->lat) > CRM_SWAPPED_FAR_M &&
		crm_distance(fix->lat, fix->lon, reference->lon, reference->lat) < CRM_SWAPPED_NEAR_M;
}

/*
 * Two trackers of one number, far apart, leave spikes only.  Look back until
 * there is a fix that counts, and not just the oldest one read, of which
 * nobody knows.
 */
static void
look_farther(VehicleSet *v, CrmStore *store)
{
	for (int limit = LOOKBACK; v->nback == limit && limit < LOOKBACK_MOST;)
	{
		CrmTrack	track = {0};

		track.fixes = v->back;
		track.n = v->nback;
		for (int i = v->anchor; i > 0; i--)
			if (crm_track_status(&track, i) == CRM_FIX_GOOD)
				return;
		limit *= 4;
		if (v->back != v->last)
			pfree(v->back);
		v->back = palloc(sizeof(CrmFix) * limit);
		v->nback = crm_store_before(store, v->vehicle_id, v->oldest, limit, v->back);
		v->anchor = v->nback - 2;
	}
}

/* Read the passages in force that the fresh fixes may touch. */
static void
recorded_load(Batch *b)
{
	int64	   *ids = palloc(sizeof(int64) * b->nvehicles);
	Datum	   *from = palloc(sizeof(Datum) * b->nvehicles);
	int			n = 0;
	Oid			types[2] = {INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		args[2];
	SPITupleTable *table;
	int			v = 0;

	for (int i = 0; i < b->nvehicles; i++)
		if (b->vehicles[i].nfresh > 0)
		{
			VehicleSet *set = &b->vehicles[i];

			ids[n] = set->vehicle_id;
			from[n++] = TimestampTzGetDatum(set->anchor >= 0 ? set->back[set->anchor].at : DT_NOBEGIN);
		}
	args[0] = int8_array(ids, n);
	args[1] = typed_array(from, NULL, n, TIMESTAMPTZOID);
	(void) crm_plan_run(&recorded_plan,
		"SELECT vehicle_id, id, place_id, entered_at, entered_error_s, entered_gap, entry_fix_at, dwelled,"
		" left_at, left_error_s, left_gap, exit_fix_at FROM crm.passages_from($1, $2)", 2, types, args);

	table = SPI_tuptable;
	b->nrecorded = (int) SPI_processed;
	b->recorded = palloc_extended(sizeof(CrmPassage) * (Size) Max(b->nrecorded, 1),
								  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < b->nrecorded; i++)
	{
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		CrmPassage *p = &b->recorded[i];
		bool		isnull;
		Datum		d;

		p->vehicle_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		p->id = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		p->place_id = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
		p->entered_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
		d = SPI_getbinval(tuple, desc, 5, &isnull);
		p->entered_error = isnull ? get_float8_nan() : DatumGetFloat8(d);
		p->entered_gap = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
		p->entry_fix_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 7, &isnull));
		p->dwelled = DatumGetBool(SPI_getbinval(tuple, desc, 8, &isnull));
		d = SPI_getbinval(tuple, desc, 12, &isnull);
		p->left = !isnull;
		if (p->left)
		{
			p->exit_fix_at = DatumGetTimestampTz(d);
			p->left_at = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 9, &isnull));
			d = SPI_getbinval(tuple, desc, 10, &isnull);
			p->left_error = isnull ? get_float8_nan() : DatumGetFloat8(d);
			p->left_gap = DatumGetBool(SPI_getbinval(tuple, desc, 11, &isnull));
		}

		/* rows come ordered by vehicle, as our vehicles are */
		while (v < b->nvehicles && b->vehicles[v].vehicle_id < p->vehicle_id)
			v++;
		if (v < b->nvehicles && b->vehicles[v].vehicle_id == p->vehicle_id)
		{
			if (b->vehicles[v].nrecorded++ == 0)
				b->vehicles[v].first_recorded = i;
		}
	}
	SPI_freetuptable(table);
}

/* The fixes that a walk of a vehicle sees: the last stored ones, then the fresh, or what the store holds. */
static void
track_of(Batch *b, VehicleSet *v, CrmStore *store, CrmTrack *track)
{
	track->store = store;
	track->vehicle_id = v->vehicle_id;
	track->through = DT_NOEND;
	track->size = v->nback + (v->late ? 0 : v->nfresh);
	track->fixes = palloc_extended(sizeof(CrmFix) * (Size) Max(track->size, 1), MCXT_ALLOC_HUGE);
	memcpy(track->fixes, v->back, sizeof(CrmFix) * v->nback);
	track->n = v->nback;
	if (v->late)
		track->reading = true;
	else
		for (int i = 0; i < v->nfresh; i++)
			track->fixes[track->n++] = b->order[v->first + i]->fix;
}

static void
follow(Batch *b, VehicleSet *v, CrmStore *store, CrmPassageChanges *changes)
{
	CrmTrack	track = {0};
	int			before;

	track_of(b, v, store, &track);
	before = changes->nprogress + changes->nfresh + changes->nwithdrawn;
	crm_passages_follow(&track, v->anchor + 1, v->newest, v->late,
						b->recorded + v->first_recorded, v->nrecorded, changes);
	v->changed = changes->nprogress + changes->nfresh + changes->nwithdrawn > before;
	v->plain = !v->late && crm_stop_plain(&track, v->anchor + 1);
	pfree(track.fixes);
}

/* Read the stops in force of those vehicles that did not drive when last seen, or got late fixes. */
static void
stops_load(Batch *b)
{
	int64	   *ids = palloc(sizeof(int64) * b->nvehicles);
	Datum	   *from = palloc(sizeof(Datum) * b->nvehicles);
	int			n = 0;
	Oid			types[2] = {INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		args[2];
	SPITupleTable *table;
	int			v = 0;
	int			rows;

	b->stops = NULL;
	for (int i = 0; i < b->nvehicles; i++)
		if (b->vehicles[i].nfresh > 0 && !b->vehicles[i].plain)
		{
			VehicleSet *set = &b->vehicles[i];

			ids[n] = set->vehicle_id;
			from[n++] = TimestampTzGetDatum(set->anchor >= 0 ? set->back[set->anchor].at : DT_NOBEGIN);
		}
	if (n == 0)
		return;
	args[0] = int8_array(ids, n);
	args[1] = typed_array(from, NULL, n, TIMESTAMPTZOID);
	(void) crm_plan_run(&stops_plan,
		"SELECT vehicle_id, id, place_id, from_at, to_at, gap, lon, lat FROM crm.stops_from($1, $2)", 2, types, args);

	table = SPI_tuptable;
	rows = (int) SPI_processed;
	b->stops = palloc_extended(sizeof(CrmStop) * (Size) Max(rows, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < rows; i++)
	{
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		CrmStop    *s = &b->stops[i];
		bool		isnull;
		Datum		d;

		s->vehicle_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		s->id = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
		d = SPI_getbinval(tuple, desc, 3, &isnull);
		s->place_id = isnull ? 0 : DatumGetInt64(d);
		s->from = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull));
		d = SPI_getbinval(tuple, desc, 5, &isnull);
		s->over = !isnull;
		s->to = isnull ? DT_NOEND : DatumGetTimestampTz(d);
		s->gap = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull));
		s->lon = DatumGetFloat8(SPI_getbinval(tuple, desc, 7, &isnull));
		s->lat = DatumGetFloat8(SPI_getbinval(tuple, desc, 8, &isnull));

		while (v < b->nvehicles && b->vehicles[v].vehicle_id < s->vehicle_id)
			v++;
		if (v < b->nvehicles && b->vehicles[v].vehicle_id == s->vehicle_id)
		{
			if (b->vehicles[v].nstops++ == 0)
				b->vehicles[v].first_stop = i;
		}
	}
	SPI_freetuptable(table);
}

/* Hand the changed stops to SQL. */
static void
stops_write(CrmStopChanges *c)
{
	enum
	{
		ID, VEHICLE, PLACE, FROM, TO, GAP, LON, LAT, REPLACES, WITHDRAWN, NARGS
	};
	static const Oid element[NARGS] = {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID, FLOAT8OID, FLOAT8OID, BOOLOID, BOOLOID};
	Oid			types[NARGS] = {INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID, BOOLARRAYOID, BOOLARRAYOID};
	Datum		args[NARGS];
	Datum	   *values[NARGS];
	bool	   *nulls[NARGS];

	for (int a = 0; a < NARGS; a++)
	{
		values[a] = palloc0(sizeof(Datum) * c->n);
		nulls[a] = palloc0(sizeof(bool) * c->n);
	}
	for (int i = 0; i < c->n; i++)
	{
		CrmStop    *s = &c->stops[i];

		values[ID][i] = Int64GetDatum(s->id);
		nulls[ID][i] = s->id == 0;
		values[VEHICLE][i] = Int64GetDatum(s->vehicle_id);
		values[PLACE][i] = Int64GetDatum(s->place_id);
		nulls[PLACE][i] = s->place_id == 0;
		values[FROM][i] = TimestampTzGetDatum(s->from);
		values[TO][i] = TimestampTzGetDatum(s->to);
		nulls[TO][i] = !s->over;
		values[GAP][i] = BoolGetDatum(s->gap);
		values[LON][i] = Float8GetDatum(s->lon);
		values[LAT][i] = Float8GetDatum(s->lat);
		values[REPLACES][i] = BoolGetDatum(s->replaces);
		values[WITHDRAWN][i] = BoolGetDatum(s->withdrawn);
	}
	for (int a = 0; a < NARGS; a++)
		args[a] = typed_array(values[a], nulls[a], c->n, element[a]);
	(void) crm_plan_run(&write_stops_plan,
		"SELECT crm.write_stops($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", NARGS, types, args);
	SPI_freetuptable(SPI_tuptable);
}

/* Hand the changed passages to SQL. */
static void
changes_write(CrmPassageChanges *c)
{
	enum
	{
		PROGRESS_ID, PROGRESS_DWELLED, PROGRESS_LEFT, PROGRESS_ERROR, PROGRESS_GAP, PROGRESS_FIX,
		VEHICLE, PLACE, ENTERED, ENTERED_ERROR, ENTERED_GAP, ENTRY_FIX, DWELLED,
		LEFT, LEFT_ERROR, LEFT_GAP, EXIT_FIX, REPLACES, WITHDRAWN, WITHDRAWN_BY, NARGS
	};
	static const Oid element[NARGS] = {
		INT8OID, BOOLOID, TIMESTAMPTZOID, FLOAT8OID, BOOLOID, TIMESTAMPTZOID,
		INT8OID, INT8OID, TIMESTAMPTZOID, FLOAT8OID, BOOLOID, TIMESTAMPTZOID, BOOLOID,
		TIMESTAMPTZOID, FLOAT8OID, BOOLOID, TIMESTAMPTZOID, INT8OID, INT8OID, INT4OID
	};
	static const Oid types_of[NARGS] = {
		INT8ARRAYOID, BOOLARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, BOOLARRAYOID, TIMESTAMPTZARRAYOID,
		INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, BOOLARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID,
		TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, BOOLARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID
	};
	Oid			types[NARGS];
	Datum		args[NARGS];
	Datum	   *values[NARGS];
	bool	   *nulls[NARGS];
	int			count[NARGS];

	for (int a = 0; a < NARGS; a++)
	{
		count[a] = a < VEHICLE ? c->nprogress : a < WITHDRAWN ? c->nfresh : c->nwithdrawn;
		types[a] = types_of[a];
		values[a] = palloc0(sizeof(Datum) * Max(count[a], 1));
		nulls[a] = palloc0(sizeof(bool) * Max(count[a], 1));
	}
#define EXIT(base, p, i) \
	do { \
		nulls[base][i] = nulls[(base) + 1][i] = nulls[(base) + 3][i] = !(p)->left; \
		values[base][i] = TimestampTzGetDatum((p)->left_at); \
		values[(base) + 1][i] = Float8GetDatum((p)->left_error); \
		values[(base) + 2][i] = BoolGetDatum((p)->left && (p)->left_gap); \
		values[(base) + 3][i] = TimestampTzGetDatum((p)->exit_fix_at); \
		if ((p)->left && isnan((p)->left_error)) \
			nulls[(base) + 1][i] = true; \
	} while (0)
	for (int i = 0; i < c->nprogress; i++)
	{
		CrmPassage *p = &c->progress[i];

		values[PROGRESS_ID][i] = Int64GetDatum(p->id);
		values[PROGRESS_DWELLED][i] = BoolGetDatum(p->dwelled);
		EXIT(PROGRESS_LEFT, p, i);
	}
	for (int i = 0; i < c->nfresh; i++)
	{
		CrmPassage *p = &c->fresh[i];

		values[VEHICLE][i] = Int64GetDatum(p->vehicle_id);
		values[PLACE][i] = Int64GetDatum(p->place_id);
		values[ENTERED][i] = TimestampTzGetDatum(p->entered_at);
		values[ENTERED_ERROR][i] = Float8GetDatum(p->entered_error);
		nulls[ENTERED_ERROR][i] = isnan(p->entered_error);
		values[ENTERED_GAP][i] = BoolGetDatum(p->entered_gap);
		values[ENTRY_FIX][i] = TimestampTzGetDatum(p->entry_fix_at);
		values[DWELLED][i] = BoolGetDatum(p->dwelled);
		EXIT(LEFT, p, i);
		values[REPLACES][i] = Int64GetDatum(c->replaces[i]);
		nulls[REPLACES][i] = c->replaces[i] == 0;
	}
#undef EXIT
	for (int i = 0; i < c->nwithdrawn; i++)
	{
		values[WITHDRAWN][i] = Int64GetDatum(c->withdrawn[i]);
		values[WITHDRAWN_BY][i] = Int32GetDatum(c->by[i] + 1);
		nulls[WITHDRAWN_BY][i] = c->by[i] < 0;
	}
	for (int a = 0; a < NARGS; a++)
		args[a] = typed_array(values[a], nulls[a], count[a], element[a]);

	(void) crm_plan_run(&write_plan,
		"SELECT crm.write_passages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,"
		" $17, $18, $19, $20)", NARGS, types, args);
	SPI_freetuptable(SPI_tuptable);
}

/* Have the trips of the vehicles judged, from the oldest fix that may change them. */
static void
trips_moved(Batch *b)
{
	int64	   *ids = palloc(sizeof(int64) * b->nvehicles);
	Datum	   *from = palloc(sizeof(Datum) * b->nvehicles);
	Datum	   *newest = palloc(sizeof(Datum) * b->nvehicles);
	Datum	   *changed = palloc(sizeof(Datum) * b->nvehicles);
	int			n = 0;
	Oid			types[4] = {INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID};
	Datum		args[4];

	for (int i = 0; i < b->nvehicles; i++)
	{
		VehicleSet *v = &b->vehicles[i];

		if (v->nfresh == 0)
			continue;
		ids[n] = v->vehicle_id;
		from[n] = TimestampTzGetDatum(v->anchor >= 0 ? v->back[v->anchor].at : v->oldest);
		newest[n] = TimestampTzGetDatum(v->newest);
		changed[n++] = BoolGetDatum(v->changed);
	}
	args[0] = int8_array(ids, n);
	args[1] = typed_array(from, NULL, n, TIMESTAMPTZOID);
	args[2] = typed_array(newest, NULL, n, TIMESTAMPTZOID);
	args[3] = typed_array(changed, NULL, n, BOOLOID);
	(void) crm_plan_run(&moved_plan, "SELECT crm.trips_moved($1, $2, $3, $4)", 4, types, args);
	SPI_freetuptable(SPI_tuptable);
}

static void
refused_write(Batch *b)
{
	Datum	   *values[5];
	bool	   *nulls[5];
	static const Oid element[5] = {INT8OID, TEXTOID, TIMESTAMPTZOID, FLOAT8OID, FLOAT8OID};
	Oid			types[5] = {INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID};
	Datum		args[5];
	Datum		names[lengthof(refusal_names)];

	for (int i = 0; i < lengthof(refusal_names); i++)
		names[i] = CStringGetTextDatum(refusal_names[i]);
	for (int a = 0; a < 5; a++)
	{
		values[a] = palloc_extended(sizeof(Datum) * (Size) b->nrefused, MCXT_ALLOC_HUGE);
		nulls[a] = palloc0(sizeof(bool) * b->nrefused);
	}
	for (int i = 0; i < b->nrefused; i++)
	{
		Refused    *r = &b->refused[i];

		values[0][i] = Int64GetDatum(r->vehicle_id);
		values[1][i] = names[r->reason];
		values[2][i] = TimestampTzGetDatum(r->at);
		nulls[2][i] = TIMESTAMP_NOT_FINITE(r->at);
		values[3][i] = Float8GetDatum(r->lon);
		values[4][i] = Float8GetDatum(r->lat);
	}
	for (int a = 0; a < 5; a++)
		args[a] = typed_array(values[a], nulls[a], b->nrefused, element[a]);
	(void) crm_plan_run(&refuse_plan, "SELECT crm.refuse_positions($1, $2, $3, $4, $5)", 5, types, args);
	SPI_freetuptable(SPI_tuptable);
}
