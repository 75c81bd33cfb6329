/*-------------------------------------------------------------------------
 *
 * trip.c
 *	  crm.trip_approach(): when a vehicle under way came near its destination,
 *	  and when it is expected there.
 *
 * A function of the stored fixes after the trip's base (its departure, or the
 * weighing while that is not known), so that it tells the same whatever the
 * order in which they came in.  It reads; what follows is decided in SQL.
 *
 * Near is the first of two: the crossing of a circle about the destination,
 * interpolated between two fixes; the first fix from which the rest of the
 * way, straight line x CRM_DETOUR, takes no more than the given minutes at the
 * vehicle's own speed, stops included, over the last CRM_SPEED_WINDOW_S.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/core.h"
#include "shipping/shipping.h"

#define LOOKBACK			8
#define SPEED_SPAN_LEAST	60.0

/* The way driven, for the speed of a window. */
typedef struct Way
{
	TimestampTz *at;
	double	   *metres;			/* from the first one on */
	int			n;
	int			size;
	int			low;			/* first one of the window */
} Way;

PG_FUNCTION_INFO_V1(crm_shipping_trip_approach);

PGDLLEXPORT Datum crm_shipping_trip_approach(PG_FUNCTION_ARGS);

static void way_add(Way *way, const CrmFix *fix, double metres);
static double way_speed(Way *way);

Datum
crm_shipping_trip_approach(PG_FUNCTION_ARGS)
{
	int64		vehicle_id;
	CrmFix		target = {0};
	TimestampTz base,
				judge_from,
				through,
				scan_from;
	double		approach_m;
	double		minutes = PG_ARGISNULL(7) ? 0.0 : PG_GETARG_INT32(7);
	CrmZone    *origin = NULL,
			   *destination = NULL;
	MemoryContext context,
				old;
	CrmTrack	track = {0};
	CrmFix		prev = {0};
	double		prev_m = 0.0;
	bool		has_prev = false;
	Way			way = {0};
	bool		hit = false,
				gap = false;
	TimestampTz hit_at = 0,
				eta = 0,
				eta_at = 0;
	double		error = 0.0,
				distance = 0.0;
	bool		has_eta = false,
				has_distance = false;
	TupleDesc	desc;
	Datum		values[6] = {0};
	bool		nulls[6] = {true, true, true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("function crm.trip_approach() called in a context that does not accept its row type"),
				 errhint("Call it as the extension declares it: SELECT * FROM crm.trip_approach().")));
	desc = BlessTupleDesc(desc);

	for (int i = 0; i <= 6; i++)
		if (PG_ARGISNULL(i))
			PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));

	vehicle_id = PG_GETARG_INT64(0);
	target.lon = PG_GETARG_FLOAT8(1);
	target.lat = PG_GETARG_FLOAT8(2);
	base = PG_GETARG_TIMESTAMPTZ(3);
	judge_from = PG_GETARG_TIMESTAMPTZ(4);
	through = PG_GETARG_TIMESTAMPTZ(5);
	approach_m = PG_GETARG_FLOAT8(6);
	if (TIMESTAMP_NOT_FINITE(base))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("base_at of crm.trip_approach() is infinite"),
				 errhint("Give the departure, or the time of the weighing.")));

	scan_from = base;
	if (judge_from > base + (int64) CRM_SPEED_WINDOW_S * USECS_PER_SEC)
		scan_from = TIMESTAMP_NOT_FINITE(judge_from) ? judge_from
			: judge_from - (int64) CRM_SPEED_WINDOW_S * USECS_PER_SEC;

	context = AllocSetContextCreate(CurrentMemoryContext, "crm approach", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);

	if (!PG_ARGISNULL(8) || !PG_ARGISNULL(9))
	{
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		crm_zones_refresh();
		SPI_finish();
		MemoryContextSwitchTo(context);
		if (!PG_ARGISNULL(8))
			origin = crm_zone(PG_GETARG_INT64(8));
		if (!PG_ARGISNULL(9))
			destination = crm_zone(PG_GETARG_INT64(9));
	}

	track.store = crm_store_open(false);
	track.vehicle_id = vehicle_id;
	track.through = DT_NOEND;
	track.size = LOOKBACK;
	track.fixes = palloc(sizeof(CrmFix) * LOOKBACK);
	track.n = crm_store_before(track.store, vehicle_id,
							   TIMESTAMP_NOT_FINITE(scan_from) ? scan_from : scan_from + 1,
							   LOOKBACK, track.fixes);
	track.reading = true;
	if (track.n == 0 && !TIMESTAMP_NOT_FINITE(scan_from))
	{
		/* nothing before: read from there on, not from the beginning of time */
		track.n = crm_store_from(track.store, vehicle_id, scan_from, DT_NOEND, 1, track.fixes);
		track.reading = track.n > 0;
	}

	for (int i = 0;; i++)
	{
		const CrmFix *at_i = crm_track_fix(&track, i);
		CrmFix		fix;
		CrmFixStatus status;
		double		metres;

		if (at_i == NULL || at_i->at > through)
			break;
		fix = *at_i;
		status = crm_track_status(&track, i);
		if (status == CRM_FIX_UNDECIDED)
			break;
		if (status == CRM_FIX_SPIKE)
			continue;

		metres = crm_distance(fix.lon, fix.lat, target.lon, target.lat);
		if (fix.at > base && fix.at > scan_from)
		{
			bool		arrived = destination != NULL && crm_zone_distance(destination, &fix) <= 0.0;
			bool		counts = origin == NULL || crm_zone_distance(origin, &fix) > origin->margin;

			way_add(&way, &fix, has_prev && way.n > 0
					? crm_distance(prev.lon, prev.lat, fix.lon, fix.lat) : 0.0);

			if (!hit && counts && fix.at >= judge_from)
			{
				double		span = has_prev ? (double) (fix.at - prev.at) / USECS_PER_SEC : 0.0;

				if (metres <= approach_m)
				{
					if (has_prev && prev_m > approach_m)
					{
						double		part = (prev_m - approach_m) / (prev_m - metres);

						hit = true;
						hit_at = prev.at + (TimestampTz) rint(part * (double) (fix.at - prev.at));
						error = span * Max(part, 1.0 - part);
						gap = span > CRM_GAP_S;
						hit_at = Max(hit_at, base);
					}
					else if (has_prev && prev.at <= base && origin == NULL)
					{
						/* the plant itself is that near: it approaches from the start */
						hit = true;
						hit_at = base;
						error = 0.0;
						gap = span > CRM_GAP_S;
					}
					else if (!arrived)
					{
						/* not seen before: some time between the base and here */
						hit = true;
						hit_at = fix.at;
						error = (double) (fix.at - base) / USECS_PER_SEC;
						gap = true;
					}
				}
				if (minutes > 0.0 && !arrived)
				{
					double		speed = way_speed(&way);

					if (speed > 0.0 && metres * CRM_DETOUR / speed <= minutes * 60.0 &&
						(!hit || fix.at < hit_at))
					{
						hit = true;
						hit_at = fix.at;
						error = span;
						gap = span > CRM_GAP_S;
					}
				}
			}

			distance = metres;
			has_distance = true;
			{
				double		speed = way_speed(&way);

				if (speed <= 0.0)
					speed = CRM_SPEED_ASSUMED_MS;
				has_eta = isfinite(metres);
				eta_at = fix.at;
				eta = !has_eta ? 0 : fix.at + (TimestampTz) (metres * CRM_DETOUR / speed * USECS_PER_SEC);
			}
		}
		prev = fix;
		prev_m = metres;
		has_prev = true;
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	crm_store_close(track.store);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);

	if (hit)
	{
		values[0] = TimestampTzGetDatum(hit_at);
		values[1] = Float8GetDatum(error);
		values[2] = BoolGetDatum(gap);
		nulls[0] = nulls[1] = nulls[2] = false;
	}
	if (has_eta)
	{
		values[3] = TimestampTzGetDatum(eta);
		values[4] = TimestampTzGetDatum(eta_at);
		nulls[3] = nulls[4] = false;
	}
	if (has_distance)
	{
		values[5] = Float8GetDatum(distance);
		nulls[5] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static void
way_add(Way *way, const CrmFix *fix, double metres)
{
	if (way->n == way->size)
	{
		way->size = Max(256, way->size * 2);
		way->at = way->at == NULL ? palloc(sizeof(TimestampTz) * way->size)
			: repalloc_huge(way->at, sizeof(TimestampTz) * (Size) way->size);
		way->metres = way->metres == NULL ? palloc(sizeof(double) * way->size)
			: repalloc_huge(way->metres, sizeof(double) * (Size) way->size);
	}
	way->at[way->n] = fix->at;
	way->metres[way->n] = (way->n > 0 ? way->metres[way->n - 1] : 0.0) + metres;
	way->n++;
	while (way->at[way->low] <= fix->at - (int64) CRM_SPEED_WINDOW_S * USECS_PER_SEC)
		way->low++;
}

/* Metres a second over the window up to the newest fix; 0: standing, or too little is known. */
static double
way_speed(Way *way)
{
	double		seconds,
				speed;

	if (way->n == 0)
		return 0.0;
	seconds = (double) (way->at[way->n - 1] - way->at[way->low]) / USECS_PER_SEC;
	if (seconds < SPEED_SPAN_LEAST)
		return 0.0;
	speed = (way->metres[way->n - 1] - way->metres[way->low]) / seconds;
	return speed >= CRM_SPEED_LEAST_MS ? speed : 0.0;
}
