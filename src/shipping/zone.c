/*-------------------------------------------------------------------------
 *
 * zone.c
 *	  Places as zones: distances, and a grid that finds the zones near a fix.
 *
 * Each backend keeps its own copy of the places that have coordinates.  The
 * copy is dropped by a relcache invalidation of crm.place or
 * crm.zone_setting, which a statement trigger on both sends: it reaches every
 * backend at the writer's commit, and the writer itself at once, also when it
 * rolls back.  No counter has to be read or locked, so writers of places do
 * not wait for each other and a batch of positions pays nothing.
 *
 * This file never calls PostGIS: it reads coordinates once, as numbers.
 *
 * No lock is needed: the cache belongs to one backend.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/core.h"
#include "shipping/shipping.h"

#define RADIANS(d)		((d) * (M_PI / 180.0))
#define DEGREES(r)		((r) * (180.0 / M_PI))

/* A zone that would fill more cells than this is kept in the list of wide ones. */
#define CELLS_MOST		1024

typedef struct CellZone
{
	uint64		cell;
	CrmZone    *zone;
} CellZone;

typedef struct Cell
{
	uint64		cell;
	int			first;			/* index into zones */
	int			n;				/* 0: the slot is free */
} Cell;

typedef struct ZoneCache
{
	MemoryContext context;
	Oid			place_relid;
	Oid			setting_relid;
	int			nzones;
	CrmZone    *zones;			/* ordered by place_id */
	double		cell_degrees;
	int			columns;		/* cells around the earth */
	Cell	   *cells;			/* open addressing, a power of two */
	uint32		cell_mask;
	CrmZone   **in_cells;
	CrmZone    *wide;
} ZoneCache;

static ZoneCache *cache = NULL;
static bool cache_stale = true;
static bool callback_registered = false;

PG_FUNCTION_INFO_V1(crm_shipping_zones_changed);
PG_FUNCTION_INFO_V1(crm_shipping_distance);

PGDLLEXPORT Datum crm_shipping_zones_changed(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum crm_shipping_distance(PG_FUNCTION_ARGS);

static void zones_invalidated(Datum arg, Oid relid);
static ZoneCache *zones_load(void);
static void zone_rings(CrmZone *zone, ArrayType *ends, ArrayType *points);
static void grid_build(ZoneCache *c);


/* Difference of two longitudes, degrees, -180 to 180. */
static inline double
turn(double degrees)
{
	if (degrees > 180.0)
		return degrees - 360.0;
	if (degrees < -180.0)
		return degrees + 360.0;
	return degrees;
}

double
crm_distance(double lon1, double lat1, double lon2, double lat2)
{
	double		sin_lat = sin(RADIANS(lat2 - lat1) / 2.0);
	double		sin_lon = sin(RADIANS(lon2 - lon1) / 2.0);
	double		h = sin_lat * sin_lat + cos(RADIANS(lat1)) * cos(RADIANS(lat2)) * sin_lon * sin_lon;

	return 2.0 * CRM_EARTH_M * asin(sqrt(Min(h, 1.0)));
}

/*
 * How far a fix is outside the border of a zone, metres; not positive inside.
 */
double
crm_zone_distance(const CrmZone *zone, const CrmFix *fix)
{
	double		px,
				py,
				nearest;
	bool		inside = false;
	int			from = 0;

	if (zone->nrings == 0)
	{
		double		sin_lat = sin(RADIANS(fix->lat - zone->lat) / 2.0);
		double		sin_lon = sin(RADIANS(fix->lon - zone->lon) / 2.0);
		double		h = sin_lat * sin_lat +
			zone->coslat * cos(RADIANS(fix->lat)) * sin_lon * sin_lon;

		return 2.0 * CRM_EARTH_M * asin(sqrt(Min(h, 1.0))) - zone->radius;
	}

	px = CRM_EARTH_M * zone->coslat * RADIANS(turn(fix->lon - zone->lon));
	py = CRM_EARTH_M * RADIANS(fix->lat - zone->lat);
	nearest = HUGE_VAL;

	for (int r = 0; r < zone->nrings; r++)
	{
		int			end = zone->ring_end[r];

		for (int i = from, j = end - 1; i < end; j = i++)
		{
			double		ax = zone->x[j],
						ay = zone->y[j],
						dx = zone->x[i] - ax,
						dy = zone->y[i] - ay,
						length2 = dx * dx + dy * dy,
						t = 0.0,
						ex,
						ey;

			/* even-odd: holes, and borders that cross themselves, come out right */
			if ((ay > py) != (zone->y[i] > py) &&
				px < dx * (py - ay) / dy + ax)
				inside = !inside;

			if (length2 > 0.0)
				t = Max(0.0, Min(1.0, ((px - ax) * dx + (py - ay) * dy) / length2));
			ex = px - (ax + t * dx);
			ey = py - (ay + t * dy);
			nearest = Min(nearest, ex * ex + ey * ey);
		}
		from = end;
	}

	nearest = sqrt(nearest);
	return inside ? -nearest : nearest;
}

/*
 * Bring the cache up to date.  Call it once before a set of look-ups; the
 * zones stay valid until the next call.
 */
void
crm_zones_refresh(void)
{
	ZoneCache  *fresh;

	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(zones_invalidated, (Datum) 0);
		callback_registered = true;
	}

	if (cache != NULL && !cache_stale)
		return;

	/* An invalidation while we read sets it again, and the next call reads anew. */
	cache_stale = false;
	PG_TRY();
	{
		fresh = zones_load();
	}
	PG_CATCH();
	{
		cache_stale = true;
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (cache != NULL)
		MemoryContextDelete(cache->context);
	cache = fresh;

	/* What an old snapshot shows must not outlive its transaction. */
	if (IsolationUsesXactSnapshot())
		cache_stale = true;
}

/* The zone of a place, or NULL. */
CrmZone *
crm_zone(int64 place_id)
{
	int			low = 0,
				high = cache->nzones - 1;

	while (low <= high)
	{
		int			middle = low + (high - low) / 2;

		if (cache->zones[middle].place_id == place_id)
			return &cache->zones[middle];
		if (cache->zones[middle].place_id < place_id)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return NULL;
}

static inline uint64
cell_of(const ZoneCache *c, int column, int row)
{
	column %= c->columns;
	if (column < 0)
		column += c->columns;
	return ((uint64) (uint32) column << 32) | (uint32) row;
}

static inline uint32
cell_hash(uint64 cell)
{
	cell ^= cell >> 33;
	cell *= UINT64CONST(0xff51afd7ed558ccd);
	cell ^= cell >> 33;
	return (uint32) cell;
}

/* The zones whose bounds touch the cell of a fix; the wide ones are apart. */
int
crm_zones_near(const CrmFix *fix, CrmZone *const **zones)
{
	uint64		cell = cell_of(cache,
							   (int) floor((fix->lon + 180.0) / cache->cell_degrees),
							   (int) floor((fix->lat + 90.0) / cache->cell_degrees));

	for (uint32 i = cell_hash(cell) & cache->cell_mask;; i = (i + 1) & cache->cell_mask)
	{
		Cell	   *slot = &cache->cells[i];

		if (slot->n == 0)
			return 0;
		if (slot->cell == cell)
		{
			*zones = &cache->in_cells[slot->first];
			return slot->n;
		}
	}
}

CrmZone *
crm_zones_wide(void)
{
	return cache->wide;
}

static void
zones_invalidated(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || cache == NULL ||
		relid == cache->place_relid || relid == cache->setting_relid)
		cache_stale = true;
}

static int
cmp_extent(const void *a, const void *b)
{
	double		x = *(const double *) a,
				y = *(const double *) b;

	return (x > y) - (x < y);
}

static int
cmp_cell(const void *a, const void *b)
{
	const CellZone *x = a,
			   *y = b;

	if (x->cell != y->cell)
		return x->cell < y->cell ? -1 : 1;
	return (x->zone->place_id > y->zone->place_id) - (x->zone->place_id < y->zone->place_id);
}

/* Read all places with coordinates.  The caller is connected to SPI. */
static ZoneCache *
zones_load(void)
{
	MemoryContext context;
	ZoneCache  *c;
	SPITupleTable *table;
	bool		isnull;

	if (SPI_execute("SELECT place_id, lon, lat, radius_m, margin_m, dwell_s, ring_ends, ring_points FROM crm.zones()",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "crm.zones() could not be read");
	table = SPI_tuptable;

	context = AllocSetContextCreate(CurrentMemoryContext, "crm zones", ALLOCSET_DEFAULT_SIZES);
	c = MemoryContextAllocZero(context, sizeof(ZoneCache));
	c->context = context;
	c->place_relid = crm_table("place");
	c->setting_relid = crm_table("zone_setting");
	c->zones = MemoryContextAllocExtended(context,
										  Max(SPI_processed, 1) * sizeof(CrmZone),
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		CrmZone    *zone = &c->zones[c->nzones];
		HeapTuple	tuple = table->vals[i];
		TupleDesc	desc = table->tupdesc;
		Datum		ends,
					points;

		zone->place_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		zone->lon = DatumGetFloat8(SPI_getbinval(tuple, desc, 2, &isnull));
		zone->lat = DatumGetFloat8(SPI_getbinval(tuple, desc, 3, &isnull));
		zone->radius = DatumGetFloat8(SPI_getbinval(tuple, desc, 4, &isnull));
		zone->margin = DatumGetFloat8(SPI_getbinval(tuple, desc, 5, &isnull));
		zone->dwell = DatumGetInt32(SPI_getbinval(tuple, desc, 6, &isnull));
		zone->coslat = cos(RADIANS(zone->lat));

		ends = SPI_getbinval(tuple, desc, 7, &isnull);
		if (!isnull)
		{
			points = SPI_getbinval(tuple, desc, 8, &isnull);
			if (!isnull)
			{
				MemoryContext old = MemoryContextSwitchTo(context);

				zone_rings(zone, DatumGetArrayTypeP(ends), DatumGetArrayTypeP(points));
				MemoryContextSwitchTo(old);
			}
		}
		else
			zone->half_width = zone->half_height = zone->radius;
		c->nzones++;
		CHECK_FOR_INTERRUPTS();
	}
	SPI_freetuptable(table);

	grid_build(c);
	MemoryContextSetParent(context, TopMemoryContext);
	return c;
}

/* Take over the rings of a polygon, as metres about its middle. */
static void
zone_rings(CrmZone *zone, ArrayType *ends, ArrayType *points)
{
	int			nrings = ArrayGetNItems(ARR_NDIM(ends), ARR_DIMS(ends));
	int			npoints = ArrayGetNItems(ARR_NDIM(points), ARR_DIMS(points)) / 2;
	int32	   *end = (int32 *) ARR_DATA_PTR(ends);
	double	   *p = (double *) ARR_DATA_PTR(points);
	double		west = 0.0,
				east = 0.0,
				south,
				north;

	if (nrings == 0 || npoints == 0 || end[nrings - 1] != npoints)
		return;

	/* bounds, as differences from the first point: right across the date line */
	south = north = p[1];
	for (int i = 0; i < npoints; i++)
	{
		double		d = turn(p[2 * i] - p[0]);

		west = Min(west, d);
		east = Max(east, d);
		south = Min(south, p[2 * i + 1]);
		north = Max(north, p[2 * i + 1]);
	}
	zone->lon = turn(p[0] + (west + east) / 2.0);
	zone->lat = (south + north) / 2.0;
	zone->coslat = cos(RADIANS(zone->lat));
	zone->radius = 0.0;
	zone->half_width = CRM_EARTH_M * zone->coslat * RADIANS(east - west) / 2.0;
	zone->half_height = CRM_EARTH_M * RADIANS(north - south) / 2.0;

	zone->nrings = nrings;
	zone->ring_end = palloc(sizeof(int) * nrings);
	memcpy(zone->ring_end, end, sizeof(int) * nrings);
	zone->x = palloc(sizeof(double) * npoints);
	zone->y = palloc(sizeof(double) * npoints);
	for (int i = 0; i < npoints; i++)
	{
		zone->x[i] = CRM_EARTH_M * zone->coslat * RADIANS(turn(p[2 * i] - zone->lon));
		zone->y[i] = CRM_EARTH_M * RADIANS(p[2 * i + 1] - zone->lat);
	}
}

/* Sort the zones into cells about as large as a usual zone. */
static void
grid_build(ZoneCache *c)
{
	MemoryContext old = MemoryContextSwitchTo(c->context);
	CellZone   *pairs;
	int			npairs = 0,
				size = c->nzones * 4 + 16,
				ncells = 0;
	double	   *extent = palloc(sizeof(double) * Max(c->nzones, 1));
	uint32		nslots;

	for (int i = 0; i < c->nzones; i++)
		extent[i] = Max(c->zones[i].half_width, c->zones[i].half_height);
	qsort(extent, c->nzones, sizeof(double), cmp_extent);
	c->cell_degrees = 0.01;
	if (c->nzones > 0)
		c->cell_degrees = DEGREES(2.0 * extent[c->nzones / 2] / CRM_EARTH_M);
	c->cell_degrees = Max(0.002, Min(1.0, c->cell_degrees));
	c->columns = (int) ceil(360.0 / c->cell_degrees);
	c->cell_degrees = 360.0 / c->columns;
	pfree(extent);

	pairs = MemoryContextAllocHuge(c->context, sizeof(CellZone) * (Size) size);
	for (int i = 0; i < c->nzones; i++)
	{
		CrmZone    *zone = &c->zones[i];
		double		up = DEGREES(zone->half_height / CRM_EARTH_M) + 1e-9,
					top = Min(90.0, fabs(zone->lat) + up),
					narrow = cos(RADIANS(top)),
					side;
		int64		left,
					right,
					low,
					high;

		/* a circle is widest, in degrees, at the edge nearer to the pole */
		side = narrow > 1e-6 ? DEGREES(zone->half_width / (CRM_EARTH_M * narrow)) + 1e-9 : 360.0;
		if (side >= 180.0)
		{
			zone->next_wide = c->wide;
			c->wide = zone;
			continue;
		}
		left = (int64) floor((zone->lon - side + 180.0) / c->cell_degrees);
		right = (int64) floor((zone->lon + side + 180.0) / c->cell_degrees);
		low = (int64) floor((zone->lat - up + 90.0) / c->cell_degrees);
		high = (int64) floor((zone->lat + up + 90.0) / c->cell_degrees);
		if ((right - left + 1) * (high - low + 1) > CELLS_MOST)
		{
			zone->next_wide = c->wide;
			c->wide = zone;
			continue;
		}
		for (int64 x = left; x <= right; x++)
			for (int64 y = low; y <= high; y++)
			{
				if (npairs == size)
				{
					size *= 2;
					pairs = repalloc_huge(pairs, sizeof(CellZone) * (Size) size);
				}
				pairs[npairs].cell = cell_of(c, (int) x, (int) y);
				pairs[npairs].zone = zone;
				npairs++;
			}
		CHECK_FOR_INTERRUPTS();
	}
	qsort(pairs, npairs, sizeof(CellZone), cmp_cell);

	for (int i = 0; i < npairs; i++)
		if (i == 0 || pairs[i].cell != pairs[i - 1].cell)
			ncells++;
	nslots = pg_nextpower2_32(Max(16, 2 * ncells));
	c->cell_mask = nslots - 1;
	c->cells = MemoryContextAllocExtended(c->context, sizeof(Cell) * (Size) nslots,
										  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	c->in_cells = MemoryContextAllocHuge(c->context, sizeof(CrmZone *) * (Size) Max(npairs, 1));
	for (int i = 0; i < npairs;)
	{
		uint32		slot = cell_hash(pairs[i].cell) & c->cell_mask;
		int			first = i;

		while (c->cells[slot].n != 0)
			slot = (slot + 1) & c->cell_mask;
		for (; i < npairs && pairs[i].cell == pairs[first].cell; i++)
			c->in_cells[i] = pairs[i].zone;
		c->cells[slot].cell = pairs[first].cell;
		c->cells[slot].first = first;
		c->cells[slot].n = i - first;
	}
	pfree(pairs);
	MemoryContextSwitchTo(old);
}

/*
 * Statement trigger of crm.place and crm.zone_setting: all backends drop
 * their zones once this transaction commits.
 */
Datum
crm_shipping_zones_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("crm.zones_changed() was not called as a trigger"),
				 errhint("It is the trigger function of crm.place and crm.zone_setting; do not call it.")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

/* Metres between two points. */
Datum
crm_shipping_distance(PG_FUNCTION_ARGS)
{
	double		d[4];

	for (int i = 0; i < 4; i++)
	{
		d[i] = PG_GETARG_FLOAT8(i);
		if (!(fabs(d[i]) <= (i % 2 == 0 ? 180.0 : 90.0)))
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("%s %g is out of range", i % 2 == 0 ? "longitude" : "latitude", d[i]),
					 errhint("Longitude comes first and lies between -180 and 180 degrees, latitude between -90 and 90.")));
	}
	PG_RETURN_FLOAT8(crm_distance(d[0], d[1], d[2], d[3]));
}
