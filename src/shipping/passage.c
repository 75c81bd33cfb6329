/*-------------------------------------------------------------------------
 *
 * passage.c
 *	  Passages of zones as a function of the fixes of one vehicle.
 *
 * A fixed rule walks the fixes in the order of their own time:
 *
 *	- in at the first fix whose distance to the border is not positive; the
 *	  crossing lies between it and the fix before, in the proportion of the two
 *	  distances, and is wrong by no more than the larger part of that interval;
 *	- out at the first fix beyond border + margin; the crossing lies between
 *	  the last fix inside and the next one;
 *	- dwelled once a fix inside is the zone's dwell time later than the first
 *	  fix inside: two fixes prove it, a single one on the way past does not;
 *	- a spike is left out: a fix that both neighbours could not have reached,
 *	  while they agree with each other.  A fix that its predecessor could not
 *	  have reached waits for its successor.
 *
 * What the rule says after a fix depends on the fixes up to it (and, for a
 * suspect one, the next).  So the order in which fixes come in does not
 * matter: when a fix is older than the newest one, the walk starts anew from
 * the state before it, which the recorded passages tell by entry_fix_at and
 * exit_fix_at, and goes on until it agrees with what is recorded.  Then the
 * difference is written: a passage that went on is completed in place, one
 * that was wrong gets a new version, one that never was is given up.
 *
 * Pure computation: no SQL, no clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/float.h"

#include "shipping/shipping.h"

#define TRACK_CHUNK		256

static double seconds_between(TimestampTz from, TimestampTz to);
static TimestampTz crossing(const CrmFix *a, double da, const CrmFix *b, double db,
							double *error, bool *gap);
static void leaving_begins(CrmPassage *p, const CrmFix *fix, double distance);
static void recall_last_inside(CrmTrack *track, int anchor, const CrmFix *prev, CrmPassage *p);
static void enter(const CrmFix *prev, const CrmFix *fix, CrmZone *zone, double distance,
				  CrmPassage *p);
static bool converged(CrmPassage *open, int nopen, const CrmFix *fix,
					  CrmPassage *recorded, int nrecorded, int *partner);
static void compare(CrmPassage *found, int nfound, CrmPassage *recorded, int nrecorded,
					bool *excluded, CrmPassageChanges *changes);
static void changes_grow(CrmPassageChanges *changes);


static double
seconds_between(TimestampTz from, TimestampTz to)
{
	return (double) (to - from) / USECS_PER_SEC;
}

/* Could no truck have driven from a to b? */
bool
crm_fix_suspect(const CrmFix *a, const CrmFix *b)
{
	double		metres;

	if (fabs(a->lat - b->lat) < 0.001 && fabs(a->lon - b->lon) < 0.001)
		return false;			/* at most 160 m */
	metres = crm_distance(a->lon, a->lat, b->lon, b->lat);
	return metres > CRM_SPIKE_M &&
		metres > CRM_SPIKE_MS * fabs(seconds_between(a->at, b->at));
}

/* Fix i of the track, or NULL past its end; reads on where it may. */
const CrmFix *
crm_track_fix(CrmTrack *track, int i)
{
	while (i >= track->n)
	{
		int			got;
		TimestampTz from;

		if (!track->reading)
			return NULL;
		if (track->n + TRACK_CHUNK > track->size)
		{
			track->size = Max(track->size * 2, track->n + TRACK_CHUNK);
			track->fixes = track->fixes == NULL
				? palloc(sizeof(CrmFix) * (Size) track->size)
				: repalloc_huge(track->fixes, sizeof(CrmFix) * (Size) track->size);
		}
		from = track->n > 0 ? track->fixes[track->n - 1].at + 1 : DT_NOBEGIN;
		got = crm_store_from(track->store, track->vehicle_id, from, track->through,
							 TRACK_CHUNK, track->fixes + track->n);
		track->n += got;
		if (got < TRACK_CHUNK)
			track->reading = false;
	}
	return &track->fixes[i];
}

CrmFixStatus
crm_track_status(CrmTrack *track, int i)
{
	CrmFix		before,
				it,
				after;
	const CrmFix *next;

	if (i == 0)
		return CRM_FIX_GOOD;
	before = *crm_track_fix(track, i - 1);
	it = *crm_track_fix(track, i);
	if (!crm_fix_suspect(&before, &it))
		return CRM_FIX_GOOD;
	next = crm_track_fix(track, i + 1);
	if (next == NULL)
		return CRM_FIX_UNDECIDED;
	after = *next;
	return crm_fix_suspect(&it, &after) && !crm_fix_suspect(&before, &after)
		? CRM_FIX_SPIKE : CRM_FIX_GOOD;
}

/*
 * Walk the track from fix number first on.  The fixes before it are only
 * remembered; the state after the last of them is what recorded says.
 *
 * recorded holds the passages in force of the vehicle that were not over at
 * that fix, and all later ones.  newest is the newest of the fixes that are
 * new; late says that the store holds later ones than the oldest new fix.
 */
void
crm_passages_follow(CrmTrack *track, int first, TimestampTz newest, bool late,
					CrmPassage *recorded, int nrecorded, CrmPassageChanges *changes)
{
	CrmPassage *found = NULL;
	int			nfound = 0,
				found_size = 0;
	CrmPassage *open = NULL;
	int			nopen = 0,
				open_size = 0;
	bool	   *excluded = palloc0(sizeof(bool) * Max(nrecorded, 1));
	int		   *partner = NULL;
	CrmFix		prev_fix;
	const CrmFix *prev = NULL;
	int			since_newest = 0;

#define ROOM(array, n, size) \
	do { \
		if ((n) == (size)) \
		{ \
			(size) = Max(8, 2 * (size)); \
			(array) = (array) == NULL ? palloc(sizeof(CrmPassage) * (size)) \
				: repalloc((array), sizeof(CrmPassage) * (size)); \
		} \
	} while (0)

	/* the last fix that counts before the first one to walk */
	for (int i = first - 1; i >= 0 && prev == NULL; i--)
		if (crm_track_status(track, i) == CRM_FIX_GOOD)
		{
			prev_fix = *crm_track_fix(track, i);
			prev = &prev_fix;
		}

	for (int r = 0; r < nrecorded; r++)
	{
		CrmPassage *p = &recorded[r];

		p->zone = crm_zone(p->place_id);
		if (p->zone == NULL)
		{
			/* the place is gone: its history stays as it is */
			excluded[r] = true;
			continue;
		}
		if (first == 0 || p->entry_fix_at > track->fixes[first - 1].at)
			continue;
		ROOM(open, nopen, open_size);
		open[nopen] = *p;
		open[nopen].recorded = r;
		open[nopen].left = false;
		open[nopen].leaving = false;
		recall_last_inside(track, first - 1, prev, &open[nopen]);
		open[nopen].dwelled = (p->dwelled && !late) ||
			seconds_between(p->entry_fix_at, open[nopen].last_in.at) >= p->zone->dwell;
		nopen++;
	}

	for (int i = first;; i++)
	{
		const CrmFix *at_i = crm_track_fix(track, i);
		CrmFix		fix;
		CrmZone    *const *near = NULL;
		CrmZone    *wide;
		CrmFixStatus status;
		int			n;

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

		/* those that it is in: still there, or out */
		for (int o = 0; o < nopen; o++)
		{
			CrmPassage *p = &open[o];
			double		d = crm_zone_distance(p->zone, &fix);

			if (d <= 0.0)
			{
				p->last_in = fix;
				p->last_in_depth = d;
				p->leaving = false;
				if (seconds_between(p->entry_fix_at, fix.at) >= p->zone->dwell)
					p->dwelled = true;
				continue;
			}
			if (!p->leaving)
				leaving_begins(p, &fix, d);
			if (d > p->zone->margin)
			{
				p->left = true;
				p->exit_fix_at = fix.at;
				ROOM(found, nfound, found_size);
				found[nfound++] = *p;
				open[o--] = open[--nopen];
			}
		}

		/* those that it comes into */
		n = crm_zones_near(&fix, &near);
		wide = crm_zones_wide();
		for (int z = 0; z < n || wide != NULL; z++)
		{
			CrmZone    *zone;
			double		d;
			bool		inside = false;

			if (z < n)
				zone = near[z];
			else
			{
				zone = wide;
				wide = wide->next_wide;
			}
			d = crm_zone_distance(zone, &fix);
			if (d > 0.0)
				continue;
			for (int o = 0; o < nopen && !inside; o++)
				inside = open[o].zone == zone;
			if (inside)
				continue;
			ROOM(open, nopen, open_size);
			enter(prev, &fix, zone, d, &open[nopen]);
			open[nopen].vehicle_id = track->vehicle_id;
			nopen++;
		}

		prev_fix = fix;
		prev = &prev_fix;

		/* the status of the first fix after the new ones may have changed, the next one's not */
		if (since_newest >= 2)
		{
			if (partner == NULL)
				partner = palloc(sizeof(int) * 64);
			if (nopen <= 64 && converged(open, nopen, &fix, recorded, nrecorded, partner))
			{
				for (int o = 0; o < nopen; o++)
				{
					CrmPassage *r = &recorded[partner[o]];

					if (r->left)
					{
						open[o].left = true;
						open[o].left_at = r->left_at;
						open[o].left_error = r->left_error;
						open[o].left_gap = r->left_gap;
						open[o].exit_fix_at = r->exit_fix_at;
					}
					if (r->dwelled && r->entry_fix_at == open[o].entry_fix_at)
						open[o].dwelled = true;
					if (open[o].recorded < 0)
						open[o].recorded = partner[o];
				}
				for (int r = 0; r < nrecorded; r++)
					if (recorded[r].entry_fix_at > fix.at)
						excluded[r] = true;
				break;
			}
		}
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
	}

	for (int o = 0; o < nopen; o++)
	{
		ROOM(found, nfound, found_size);
		found[nfound++] = open[o];
	}
#undef ROOM

	compare(found, nfound, recorded, nrecorded, excluded, changes);
	if (found != NULL)
		pfree(found);
	if (open != NULL)
		pfree(open);
	if (partner != NULL)
		pfree(partner);
	pfree(excluded);
}

/* When, between two fixes on different sides, the border was crossed. */
static TimestampTz
crossing(const CrmFix *a, double da, const CrmFix *b, double db, double *error, bool *gap)
{
	double		span = seconds_between(a->at, b->at);
	double		part = da / (da - db);

	*error = span * Max(part, 1.0 - part);
	*gap = span > CRM_GAP_S;
	return a->at + (TimestampTz) rint(part * (double) (b->at - a->at));
}

static void
leaving_begins(CrmPassage *p, const CrmFix *fix, double distance)
{
	p->leaving = true;
	p->left_at = crossing(&p->last_in, p->last_in_depth, fix, distance,
						  &p->left_error, &p->left_gap);
}

/*
 * For a passage that is open at the anchor: the last fix inside, and, where
 * fixes in the margin followed it, the crossing out that they begin.
 */
static void
recall_last_inside(CrmTrack *track, int anchor, const CrmFix *prev, CrmPassage *p)
{
	CrmTrack	past = {0};
	double		d = prev != NULL ? crm_zone_distance(p->zone, prev) : 0.0;
	int			limit = 64;

	/* a place that was moved may not hold its own entry any more */
	p->last_in.at = p->entry_fix_at;
	p->last_in.lon = p->zone->lon;
	p->last_in.lat = p->zone->lat;
	p->last_in_depth = 0.0;

	if (prev == NULL)
		return;
	if (d <= 0.0)
	{
		p->last_in = *prev;
		p->last_in_depth = d;
		return;
	}

	/* in the margin: look back, farther each time, down to the entry */
	for (;; limit *= 4)
	{
		bool		whole;
		int			next = -1;

		past.fixes = palloc_extended(sizeof(CrmFix) * (Size) limit, MCXT_ALLOC_HUGE);
		past.n = crm_store_before(track->store, track->vehicle_id,
								  track->fixes[anchor].at + 1, limit, past.fixes);
		whole = past.n < limit || past.fixes[0].at < p->entry_fix_at;
		for (int i = past.n - 1; i >= 0; i--)
		{
			/* the oldest one read cannot be judged without the one before it */
			if (i == 0 && !whole)
				break;
			/* prev counts, whatever the end of this piece lets it look like */
			if (past.fixes[i].at > prev->at ||
				(past.fixes[i].at != prev->at && crm_track_status(&past, i) != CRM_FIX_GOOD))
				continue;
			if (past.fixes[i].at < p->entry_fix_at)
				break;
			d = crm_zone_distance(p->zone, &past.fixes[i]);
			if (d <= 0.0)
			{
				p->last_in = past.fixes[i];
				p->last_in_depth = d;
				if (next >= 0)
					leaving_begins(p, &past.fixes[next],
								   crm_zone_distance(p->zone, &past.fixes[next]));
				pfree(past.fixes);
				return;
			}
			next = i;
		}
		pfree(past.fixes);
		if (whole)
			return;
	}
}

static void
enter(const CrmFix *prev, const CrmFix *fix, CrmZone *zone, double distance, CrmPassage *p)
{
	double		before = prev != NULL ? crm_zone_distance(zone, prev) : 0.0;

	memset(p, 0, sizeof(CrmPassage));
	p->place_id = zone->place_id;
	p->zone = zone;
	p->recorded = -1;
	p->entry_fix_at = fix->at;
	p->last_in = *fix;
	p->last_in_depth = distance;
	if (before > 0.0)
		p->entered_at = crossing(prev, before, fix, distance, &p->entered_error, &p->entered_gap);
	else
	{
		/* it was inside already when it was first seen */
		p->entered_at = fix->at;
		p->entered_error = get_float8_nan();
		p->entered_gap = true;
	}
	p->dwelled = zone->dwell <= 0.0;
}

/*
 * Does the walk, after this fix, stand where the recorded one stood?  Then the
 * rest of the record holds.  partner[o] is the recorded passage that tells
 * how open[o] ends.
 */
static bool
converged(CrmPassage *open, int nopen, const CrmFix *fix,
		  CrmPassage *recorded, int nrecorded, int *partner)
{
	int			nthere = 0;

	for (int o = 0; o < nopen; o++)
		partner[o] = -1;

	for (int r = 0; r < nrecorded; r++)
	{
		CrmPassage *p = &recorded[r];
		int			o;

		if (p->zone == NULL || p->entry_fix_at > fix->at || (p->left && p->exit_fix_at <= fix->at))
			continue;
		nthere++;
		for (o = 0; o < nopen && open[o].zone != p->zone; o++)
			;
		if (o == nopen || open[o].last_in.at != fix->at)
			return false;
		if (!open[o].dwelled && p->entry_fix_at != open[o].entry_fix_at)
			return false;		/* how long it stays is counted anew */
		partner[o] = r;
	}
	if (nthere != nopen)
		return false;
	for (int o = 0; o < nopen; o++)
		if (partner[o] < 0)
			return false;
	return true;
}

static bool
same_seconds(double a, double b)
{
	return a == b || (isnan(a) && isnan(b));
}

static bool
same_entry(const CrmPassage *a, const CrmPassage *b)
{
	return a->entered_at == b->entered_at && a->entry_fix_at == b->entry_fix_at &&
		a->entered_gap == b->entered_gap && same_seconds(a->entered_error, b->entered_error);
}

static bool
same_exit(const CrmPassage *a, const CrmPassage *b)
{
	return a->left == b->left &&
		(!a->left ||
		 (a->left_at == b->left_at && a->exit_fix_at == b->exit_fix_at &&
		  a->left_gap == b->left_gap && same_seconds(a->left_error, b->left_error)));
}

static bool
overlap(const CrmPassage *a, const CrmPassage *b)
{
	return a->place_id == b->place_id &&
		(!b->left || a->entry_fix_at < b->exit_fix_at) &&
		(!a->left || b->entry_fix_at < a->exit_fix_at);
}

/* Note what of the record has to change so that it says what was found. */
static void
compare(CrmPassage *found, int nfound, CrmPassage *recorded, int nrecorded,
		bool *excluded, CrmPassageChanges *changes)
{
	bool	   *matched = palloc0(sizeof(bool) * Max(nrecorded, 1));
	int		   *fresh_of = palloc(sizeof(int) * Max(nfound, 1));

	for (int f = 0; f < nfound; f++)
		if (found[f].recorded >= 0)
		{
			if (matched[found[f].recorded])
				found[f].recorded = -1;
			else
				matched[found[f].recorded] = true;
		}
	for (int f = 0; f < nfound; f++)
		for (int r = 0; r < nrecorded && found[f].recorded < 0; r++)
			if (!matched[r] && !excluded[r] && overlap(&found[f], &recorded[r]))
			{
				found[f].recorded = r;
				matched[r] = true;
			}

	for (int f = 0; f < nfound; f++)
	{
		CrmPassage *now = &found[f];
		CrmPassage *was = now->recorded >= 0 ? &recorded[now->recorded] : NULL;

		fresh_of[f] = -1;
		if (was != NULL && same_entry(now, was))
		{
			bool		ends_equal = same_exit(now, was);

			if (ends_equal && now->dwelled == was->dwelled)
				continue;
			if ((ends_equal || !was->left) && (now->dwelled || !was->dwelled))
			{
				changes_grow(changes);
				now->id = was->id;
				changes->progress[changes->nprogress++] = *now;
				continue;
			}
		}
		changes_grow(changes);
		fresh_of[f] = changes->nfresh;
		changes->replaces[changes->nfresh] = was != NULL ? was->id : 0;
		changes->fresh[changes->nfresh++] = *now;
	}

	for (int r = 0; r < nrecorded; r++)
	{
		if (matched[r] || excluded[r])
			continue;
		changes_grow(changes);
		changes->withdrawn[changes->nwithdrawn] = recorded[r].id;
		changes->by[changes->nwithdrawn] = -1;
		for (int f = 0; f < nfound; f++)
			if (fresh_of[f] >= 0 && overlap(&found[f], &recorded[r]))
				changes->by[changes->nwithdrawn] = fresh_of[f];
		changes->nwithdrawn++;
	}
	pfree(matched);
	pfree(fresh_of);
}

static void
changes_grow(CrmPassageChanges *c)
{
	int			most = Max(c->nprogress, Max(c->nfresh, c->nwithdrawn));

	if (most < c->size)
		return;
	if (c->size == 0)
	{
		c->size = 64;
		c->progress = palloc(sizeof(CrmPassage) * c->size);
		c->fresh = palloc(sizeof(CrmPassage) * c->size);
		c->replaces = palloc(sizeof(int64) * c->size);
		c->withdrawn = palloc(sizeof(int64) * c->size);
		c->by = palloc(sizeof(int) * c->size);
		return;
	}
	c->size *= 2;
	c->progress = repalloc_huge(c->progress, sizeof(CrmPassage) * (Size) c->size);
	c->fresh = repalloc_huge(c->fresh, sizeof(CrmPassage) * (Size) c->size);
	c->replaces = repalloc_huge(c->replaces, sizeof(int64) * (Size) c->size);
	c->withdrawn = repalloc_huge(c->withdrawn, sizeof(int64) * (Size) c->size);
	c->by = repalloc_huge(c->by, sizeof(int) * (Size) c->size);
}
