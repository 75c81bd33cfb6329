/*-------------------------------------------------------------------------
 *
 * stop.c
 *	  Stops of a vehicle as a function of its fixes.
 *
 * A fixed rule walks the good fixes (passage.c says which) in the order of
 * their own time.  A run begins at a fix, its anchor, and goes on while no
 * step is a drive (quicker than CRM_DRIVE_MS and longer than CRM_DRIVE_M) and
 * no fix is farther than CRM_STOP_M from the anchor; the fix that ends it is
 * the next anchor.  A run of at least CRM_STOP_S is a stop: from the anchor's
 * time to its last fix's, at the anchor's place.  The last run of a vehicle
 * has no end yet.
 *
 * After a drive nothing of the past matters.  So the state before a fix is
 * found by looking back to the last drive, or to the last recorded stop; and a
 * walk through late fixes agrees with the record again at the first drive
 * between two fixes after them that were good before, too.
 *
 * Pure computation: no SQL, no clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"

#include "shipping/shipping.h"

/* The run that a vehicle is in. */
typedef struct Run
{
	CrmFix		anchor;
	bool		gap;
	int			recorded;		/* the stop that it is recorded as, or -1 */
} Run;

static bool drives(const CrmFix *a, const CrmFix *b);
static bool step(Run *run, const CrmFix *prev, const CrmFix *fix);
static bool recall(CrmTrack *track, int first, const CrmFix *prev, bool late,
				   CrmStop *recorded, int nrecorded, Run *run);
static bool silent(CrmTrack *track, const CrmFix *anchor, TimestampTz through);
static void note(CrmStop **found, int *nfound, int *size, const Run *run, const CrmFix *last, bool over);
static int64 place_of(const CrmFix *fix);

static double
seconds_between(TimestampTz from, TimestampTz to)
{
	return (double) (to - from) / USECS_PER_SEC;
}

static bool
drives(const CrmFix *a, const CrmFix *b)
{
	double		least = Max(CRM_DRIVE_M, CRM_DRIVE_MS * seconds_between(a->at, b->at));
	double		north = fabs(a->lat - b->lat) * (CRM_EARTH_M * M_PI / 180.0);

	/* the way north alone is mostly enough to know */
	return north > least || crm_distance(a->lon, a->lat, b->lon, b->lat) > least;
}

/* Take one more fix; true: a new run began with it. */
static bool
step(Run *run, const CrmFix *prev, const CrmFix *fix)
{
	if (prev != NULL && !drives(prev, fix) &&
		crm_distance(run->anchor.lon, run->anchor.lat, fix->lon, fix->lat) <= CRM_STOP_M)
	{
		run->gap = run->gap || seconds_between(prev->at, fix->at) > CRM_GAP_S;
		return false;
	}
	run->anchor = *fix;
	run->gap = false;
	run->recorded = -1;
	return true;
}

/* The last good fix before number first, its index; -1: none. */
static int
last_good(CrmTrack *track, int first)
{
	for (int i = first - 1; i >= 0; i--)
		if (crm_track_status(track, i) == CRM_FIX_GOOD)
			return i;
	return -1;
}

/*
 * Can the run at the end of these fixes be told without the record?  It can
 * where a drive is among them and the run is too short to be a stop yet.
 */
bool
crm_stop_plain(CrmTrack *track, int first)
{
	int			p = last_good(track, first);
	Run			run = {{0}};

	return p < 0 || (recall(track, first, &track->fixes[p], false, NULL, -1, &run) &&
					 seconds_between(run.anchor.at, track->fixes[p].at) < CRM_STOP_S);
}

/*
 * The run that prev, the last good fix before number first, is in.  Looks
 * among the track's own fixes first; nrecorded -1: nowhere else.
 */
static bool
recall(CrmTrack *track, int first, const CrmFix *prev, bool late,
	   CrmStop *recorded, int nrecorded, Run *run)
{
	CrmTrack	past = {0};
	TimestampTz since = DT_NOBEGIN;
	bool		exact = false;	/* a run begins after since */
	int			begin = -1;
	int			limit = 64;

	/* a drive among the fixes at hand; number 0 may be a spike, its predecessor is not here */
	for (int i = last_good(track, first); i > 0;)
	{
		int			before = last_good(track, i);

		if (before <= 0)
			break;
		if (drives(&track->fixes[before], &track->fixes[i]))
		{
			begin = i;
			break;
		}
		i = before;
	}
	if (begin >= 0 && nrecorded < 0)
	{
		const CrmFix *last = NULL;

		for (int i = begin; i < first; i++)
		{
			if (crm_track_status(track, i) != CRM_FIX_GOOD)
				continue;
			step(run, last, &track->fixes[i]);
			last = &track->fixes[i];
		}
		return true;
	}
	if (nrecorded < 0)
		return false;

	for (int r = nrecorded - 1; r >= 0; r--)
	{
		if (recorded[r].from > prev->at)
			continue;
		if (!recorded[r].over || recorded[r].to >= prev->at)
		{
			run->anchor.at = recorded[r].from;
			run->anchor.lon = recorded[r].lon;
			run->anchor.lat = recorded[r].lat;
			/* the silence may lie behind prev, where late fixes end it */
			run->gap = recorded[r].gap && (!late || silent(track, &run->anchor, prev->at));
			run->recorded = r;
			return true;
		}
		since = recorded[r].to;
		exact = true;
		break;
	}

	for (;; limit *= 4)
	{
		bool		whole;
		const CrmFix *last = NULL;
		int			start = -1;

		past.fixes = palloc_extended(sizeof(CrmFix) * (Size) limit, MCXT_ALLOC_HUGE);
		past.n = crm_store_before(track->store, track->vehicle_id, prev->at + 1, limit, past.fixes);
		whole = past.n < limit;
		if (exact && past.n > 0 && past.fixes[0].at <= since)
			whole = true;
		/* the last drive, or the first fix after the recorded stop, or the very first fix */
		for (int i = past.n - 1; i >= 0 && start < 0; i--)
		{
			int			before;

			if (past.fixes[i].at != prev->at && crm_track_status(&past, i) != CRM_FIX_GOOD)
				continue;
			before = last_good(&past, i);
			if (before < 0)
				start = whole ? i : -2;
			else if (before == 0 && !whole)
				start = -2;		/* it may be a spike: its predecessor was not read */
			else if ((exact && past.fixes[before].at <= since) || drives(&past.fixes[before], &past.fixes[i]))
				start = i;
			if (start == -2)
				break;
		}
		if (start >= 0)
		{
			for (int i = start; i < past.n; i++)
			{
				if (past.fixes[i].at != prev->at && crm_track_status(&past, i) != CRM_FIX_GOOD)
					continue;
				step(run, last, &past.fixes[i]);
				last = &past.fixes[i];
			}
			pfree(past.fixes);
			return true;
		}
		pfree(past.fixes);
		if (whole)
			return false;
		CHECK_FOR_INTERRUPTS();
	}
}

/* Is there a gap between the good fixes from anchor through a moment, which is a good fix's? */
static bool
silent(CrmTrack *track, const CrmFix *anchor, TimestampTz through)
{
	CrmTrack	past = {0};
	TimestampTz last = anchor->at;
	bool		gap = false;

	past.store = track->store;
	past.vehicle_id = track->vehicle_id;
	past.reading = true;
	past.through = through;
	past.n = past.size = 1;
	past.fixes = palloc(sizeof(CrmFix));
	past.fixes[0] = *anchor;
	for (int i = 1; !gap && crm_track_fix(&past, i) != NULL; i++)
	{
		if (past.fixes[i].at != through && crm_track_status(&past, i) != CRM_FIX_GOOD)
			continue;
		gap = seconds_between(last, past.fixes[i].at) > CRM_GAP_S;
		last = past.fixes[i].at;
	}
	pfree(past.fixes);
	return gap;
}

/*
 * Walk the track from fix number first on and compare with the record, which
 * holds the last stop that began before it and all later ones.
 */
void
crm_stops_follow(CrmTrack *track, int first, TimestampTz newest, bool late,
				 CrmStop *recorded, int nrecorded, bool plain, CrmStopChanges *changes)
{
	CrmStop    *found = NULL;
	int			nfound = 0,
				size = 0;
	Run			run = {{0}};
	CrmFix		prev_fix;
	const CrmFix *prev = NULL;
	TimestampTz holds_from = DT_NOEND;	/* what is recorded from here on stays */
	TimestampTz judged_from = DT_NOBEGIN;
	int			since_newest = 0;
	bool		prev_holds = false; /* prev was there, and good, before the new fixes came */
	int			p = last_good(track, first);
	bool	   *kept = palloc0(sizeof(bool) * Max(nrecorded, 1));

	run.recorded = -1;
	if (p >= 0)
	{
		prev_fix = track->fixes[p];
		if (recall(track, first, &prev_fix, late, recorded, plain ? -1 : nrecorded, &run))
		{
			prev = &prev_fix;
			judged_from = run.anchor.at;
		}
	}

	for (int i = first;; i++)
	{
		const CrmFix *at_i = crm_track_fix(track, i);
		CrmFix		fix;
		CrmFixStatus status;
		Run			was = run;

		if (at_i == NULL)
			break;
		fix = *at_i;
		status = crm_track_status(track, i);
		if (status == CRM_FIX_UNDECIDED)
			break;
		if (late && fix.at > newest)
			since_newest++;
		if (status == CRM_FIX_SPIKE)
			continue;
		if (step(&run, prev, &fix) && prev != NULL)
		{
			note(&found, &nfound, &size, &was, prev, true);
			if (prev_holds && drives(prev, &fix))
			{
				holds_from = fix.at;
				break;
			}
		}
		prev_fix = fix;
		prev = &prev_fix;
		/* the status of the first fix after the new ones may have changed, the next one's not */
		prev_holds = since_newest >= 2;
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	if (prev != NULL && holds_from == DT_NOEND)
		note(&found, &nfound, &size, &run, prev, false);

	for (int f = 0; f < nfound; f++)
	{
		CrmStop    *now = &found[f],
				   *rec = NULL;

		for (int r = 0; r < nrecorded && rec == NULL; r++)
			if (!kept[r] && recorded[r].from == now->from)
			{
				rec = &recorded[r];
				kept[r] = true;
			}
		if (rec != NULL && rec->over == now->over && (!now->over || rec->to == now->to) && rec->gap == now->gap)
			continue;
		if (changes->n == changes->size)
		{
			changes->size = Max(64, changes->size * 2);
			changes->stops = changes->stops == NULL ? palloc(sizeof(CrmStop) * changes->size)
				: repalloc_huge(changes->stops, sizeof(CrmStop) * (Size) changes->size);
		}
		now->vehicle_id = track->vehicle_id;
		now->id = rec != NULL ? rec->id : 0;
		now->replaces = rec != NULL && rec->over;
		if (rec == NULL)
			now->place_id = place_of(&(CrmFix) {now->from, now->lon, now->lat});
		else
			now->place_id = rec->place_id;
		changes->stops[changes->n++] = *now;
	}
	/* recorded within what was walked, and not found */
	for (int r = 0; r < nrecorded; r++)
	{
		if (kept[r] || recorded[r].from < judged_from || recorded[r].from >= holds_from)
			continue;
		if (changes->n == changes->size)
		{
			changes->size = Max(64, changes->size * 2);
			changes->stops = changes->stops == NULL ? palloc(sizeof(CrmStop) * changes->size)
				: repalloc_huge(changes->stops, sizeof(CrmStop) * (Size) changes->size);
		}
		changes->stops[changes->n] = recorded[r];
		changes->stops[changes->n].withdrawn = true;
		changes->n++;
	}
	if (found != NULL)
		pfree(found);
	pfree(kept);
}

static void
note(CrmStop **found, int *nfound, int *size, const Run *run, const CrmFix *last, bool over)
{
	CrmStop    *s;

	if (seconds_between(run->anchor.at, last->at) < CRM_STOP_S)
		return;
	if (*nfound == *size)
	{
		*size = Max(8, 2 * *size);
		*found = *found == NULL ? palloc(sizeof(CrmStop) * *size)
			: repalloc(*found, sizeof(CrmStop) * *size);
	}
	s = &(*found)[(*nfound)++];
	memset(s, 0, sizeof(CrmStop));
	s->from = run->anchor.at;
	s->lon = run->anchor.lon;
	s->lat = run->anchor.lat;
	s->gap = run->gap;
	s->over = over;
	s->to = last->at;
}

/* The place that a stop is in: of several the first one entered in crm.place; 0: none. */
static int64
place_of(const CrmFix *fix)
{
	CrmZone    *const *near = NULL;
	int			n = crm_zones_near(fix, &near);
	int64		place = 0;

	for (int z = 0; z < n; z++)
		if (crm_zone_distance(near[z], fix) <= 0.0 && (place == 0 || near[z]->place_id < place))
			place = near[z]->place_id;
	for (CrmZone *wide = crm_zones_wide(); wide != NULL; wide = wide->next_wide)
		if (crm_zone_distance(wide, fix) <= 0.0 && (place == 0 || wide->place_id < place))
			place = wide->place_id;
	return place;
}
