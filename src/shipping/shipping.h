/*-------------------------------------------------------------------------
 *
 * shipping.h
 *	  Fixes, zones and the store of positions: what the C files of this room
 *	  share.
 *
 * Distances are metres on a sphere of radius CRM_EARTH_M (the mean radius of
 * WGS 84), by the haversine formula.  A polygon is judged in the local
 * equirectangular projection about the middle of its bounds on that sphere.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_SHIPPING_H
#define CRM_SHIPPING_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define CRM_EARTH_M				6371008.8

/* Two fixes farther apart in time than this have a gap between them. */
#define CRM_GAP_S				600.0

/*
 * A fix is a spike when both its neighbours are farther than CRM_SPIKE_M and
 * quicker than CRM_SPIKE_MS from it, while they agree with each other.
 */
#define CRM_SPIKE_M				200.0
#define CRM_SPIKE_MS			(300.0 / 3.6)

/*
 * A stop: at least CRM_STOP_S within CRM_STOP_M of its first fix, without a
 * step that is a drive: quicker than CRM_DRIVE_MS and longer than CRM_DRIVE_M.
 */
#define CRM_STOP_M				100.0
#define CRM_STOP_S				300.0
#define CRM_DRIVE_MS			(20.0 / 3.6)
#define CRM_DRIVE_M				5.0

/* Farther than the first from where the vehicle was, exchanged nearer than the second: exchanged. */
#define CRM_SWAPPED_FAR_M		300000.0
#define CRM_SWAPPED_NEAR_M		100000.0

/* How far a tracker's clock may be ahead, and how old a fix may be. */
#define CRM_AHEAD_S				600
#define CRM_POSITION_DAYS		92

/* Expected arrival: straight line times this, at the speed of this window. */
#define CRM_DETOUR				1.3
#define CRM_SPEED_WINDOW_S		900.0
#define CRM_SPEED_LEAST_MS		(5.0 / 3.6)
/* what is assumed of a vehicle that stands, or has been seen too shortly */
#define CRM_SPEED_ASSUMED_MS	(50.0 / 3.6)

typedef struct CrmFix
{
	TimestampTz at;
	double		lon;
	double		lat;
} CrmFix;

/* One accepted row of a batch. */
typedef struct CrmPosition
{
	int64		vehicle_id;
	CrmFix		fix;
	int			ordinal;		/* place in the call: the first of equals wins */
	float		speed_kmh;		/* NaN: none */
	float		course;			/* NaN: none */
	int			satellites;		/* -1: none */
} CrmPosition;

typedef struct CrmZone
{
	int64		place_id;
	double		lon;			/* centre, or middle of the polygon's bounds */
	double		lat;
	double		coslat;
	double		radius;			/* circle; 0 for a polygon */
	double		margin;			/* left only beyond border + margin, metres */
	double		dwell;			/* arrived only after so many seconds */
	double		half_width;		/* bounds of the polygon about lon, lat, metres */
	double		half_height;
	int			nrings;			/* 0: a circle */
	int		   *ring_end;		/* index after the last point of each ring */
	double	   *x;				/* metres east of lon */
	double	   *y;				/* metres north of lat */
	struct CrmZone *next_wide;
} CrmZone;

/* zone.c */
extern double crm_distance(double lon1, double lat1, double lon2, double lat2);
extern void crm_zones_refresh(void);
extern CrmZone *crm_zone(int64 place_id);
extern double crm_zone_distance(const CrmZone *zone, const CrmFix *fix);
extern int	crm_zones_near(const CrmFix *fix, CrmZone *const **zones);
extern CrmZone *crm_zones_wide(void);

/* store.c */
typedef struct CrmStore CrmStore;

extern CrmStore *crm_store_open(bool writing);
extern void crm_store_close(CrmStore *store);
extern void crm_store_refresh(CrmStore *store);
extern bool crm_store_covers(CrmStore *store, TimestampTz at);
extern int	crm_store_before(CrmStore *store, int64 vehicle_id, TimestampTz before,
							 int limit, CrmFix *fixes);
extern int	crm_store_from(CrmStore *store, int64 vehicle_id, TimestampTz from,
						   TimestampTz through, int limit, CrmFix *fixes);
extern void crm_store_insert(CrmStore *store, CrmPosition **positions, int n,
							 TimestampTz known_at);

/* passage.c */
typedef struct CrmTrack
{
	CrmStore   *store;
	int64		vehicle_id;
	CrmFix	   *fixes;			/* raw fixes, ascending */
	int			n;
	int			size;
	bool		reading;		/* more may be in the store after the last one */
	TimestampTz through;		/* the last moment to read */
} CrmTrack;

extern bool crm_fix_suspect(const CrmFix *a, const CrmFix *b);
extern const CrmFix *crm_track_fix(CrmTrack *track, int i);

typedef enum CrmFixStatus
{
	CRM_FIX_GOOD,
	CRM_FIX_SPIKE,
	CRM_FIX_UNDECIDED			/* suspect, and nothing follows yet */
} CrmFixStatus;

extern CrmFixStatus crm_track_status(CrmTrack *track, int i);

typedef struct CrmPassage
{
	int64		id;				/* 0: not recorded yet */
	int64		vehicle_id;
	int64		place_id;
	TimestampTz entered_at;
	double		entered_error;	/* seconds; NaN: no bound */
	bool		entered_gap;
	TimestampTz entry_fix_at;
	bool		dwelled;
	bool		left;
	TimestampTz left_at;
	double		left_error;
	bool		left_gap;
	TimestampTz exit_fix_at;

	/* while the automaton runs */
	CrmZone    *zone;
	CrmFix		last_in;		/* the last fix inside, and how deep */
	double		last_in_depth;
	bool		leaving;		/* left_* hold the crossing out, not proven yet */
	int			recorded;		/* index of the row that it was loaded from, or -1 */
} CrmPassage;

typedef struct CrmPassageChanges
{
	/* rows to complete in place */
	CrmPassage *progress;
	int			nprogress;
	/* rows to write; replaces[i] is the id of the version given up, or 0 */
	CrmPassage *fresh;
	int64	   *replaces;
	int			nfresh;
	/* rows given up; by[i] is an index into fresh, or -1 */
	int64	   *withdrawn;
	int		   *by;
	int			nwithdrawn;
	int			size;			/* room in every one of these arrays */
} CrmPassageChanges;

extern void crm_passages_follow(CrmTrack *track, int first, TimestampTz newest,
								bool late, CrmPassage *recorded, int nrecorded,
								CrmPassageChanges *changes);

/* stop.c */
typedef struct CrmStop
{
	int64		id;				/* 0: not recorded yet */
	int64		vehicle_id;
	int64		place_id;		/* 0: none */
	TimestampTz from;
	TimestampTz to;
	bool		over;			/* to is its end; else it stands there still */
	bool		gap;
	double		lon;
	double		lat;

	/* what is to be written */
	bool		replaces;		/* a new version of id; else id is completed in place */
	bool		withdrawn;		/* id never was */
} CrmStop;

typedef struct CrmStopChanges
{
	CrmStop    *stops;
	int			n;
	int			size;
} CrmStopChanges;

extern bool crm_stop_plain(CrmTrack *track, int first);
extern void crm_stops_follow(CrmTrack *track, int first, TimestampTz newest, bool late,
							 CrmStop *recorded, int nrecorded, bool plain, CrmStopChanges *changes);

#endif							/* CRM_SHIPPING_H */
