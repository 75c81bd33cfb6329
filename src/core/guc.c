/*-------------------------------------------------------------------------
 *
 * guc.c
 *	  The settings of crm, sorted by name.  Each is documented here and, in
 *	  the same words, in docs/dba.md.
 *
 * What must not travel with a dump (whether this database is live) is a row
 * and no setting.  crm.courier and crm.listener are marks that
 * crm.activate() and crm.listen() leave on the database for the launcher,
 * which reads them from pg_db_role_setting; their value in a session says
 * nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "pgtime.h"
#include "utils/guc.h"

#include "core/core.h"
#include "core/slots.h"

/* longest time in milliseconds that one claim or settle may take */
int			crm_guc_claim_timeout_ms = 30000;

/* how many couriers serve a database */
int			crm_guc_couriers = 1;

/* longest sleep of a courier that nobody wakes, in milliseconds */
int			crm_guc_fallback_ms = 10000;

/*
 * a map to look at a place: {lat} and {lon} stand for degrees.  Only superusers
 * set it, as crm.public_url.
 */
static char *guc_map_url = NULL;

/* upper bound of what may leave; crm.activate() decides below it */
int			crm_guc_mode = CRM_LIVE;

/*
 * what links given to people outside begin with: where a proxy that speaks TLS
 * hands on to the listener.  crm.link_base() reads it, from ALTER DATABASE
 * first; only superusers set it, since a link of ours must not lead elsewhere.
 */
static char *guc_public_url = NULL;

/* the plant's time zone */
char	   *crm_guc_time_zone = NULL;
int			crm_guc_control_period = 720;
int			crm_guc_min_satellites = 1;

static bool guc_courier_mark = false;
static char *guc_listener_mark = NULL;

static const struct config_enum_entry mode_options[] = {
	{"off", CRM_OFF, false},
	{"sandbox", CRM_SANDBOX, false},
	{"live", CRM_LIVE, false},
	{NULL, 0, false}
};

/* Refuses a zone that the server does not know, at SET and not at the first use. */
static bool
check_time_zone(char **newval, void **extra, GucSource source)
{
	if (pg_tzset(*newval) != NULL)
		return true;
	GUC_check_errdetail("Time zone \"%s\" is not known.", *newval);
	GUC_check_errhint("SELECT name FROM pg_timezone_names lists the known ones.");
	return false;
}

/* An address that names both coordinates. */
static bool
check_map_url(char **newval, void **extra, GucSource source)
{
	bool		plain = true;

	for (const unsigned char *c = (const unsigned char *) *newval; *c; c++)
		if (*c <= 0x20 || *c >= 0x7f || strchr("\"'<>\\", *c) != NULL)
			plain = false;
	if (**newval == '\0' ||
		(plain && strlen(*newval) <= 500 &&
		 (strncmp(*newval, "https://", 8) == 0 || strncmp(*newval, "http://", 7) == 0) &&
		 strstr(*newval, "{lat}") != NULL && strstr(*newval, "{lon}") != NULL))
		return true;
	GUC_check_errdetail("\"%s\" is no address of a map.", *newval);
	GUC_check_errhint("Give http:// or https:// with {lat} and {lon} in it, or nothing for no map.");
	return false;
}

/* An address that a path can follow: http or https, a host, no query. */
static bool
check_public_url(char **newval, void **extra, GucSource source)
{
	const char *at = *newval;

	if (*at == '\0')
		return true;
	if (strncmp(at, "https://", 8) == 0)
		at += 8;
	else if (strncmp(at, "http://", 7) == 0)
		at += 7;
	else
		at = "";
	if (*at != '\0' && *at != '/' && *at != ':' && strlen(*newval) <= 500 &&
		strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/[]%") == strlen(at))
		return true;
	GUC_check_errdetail("\"%s\" is no address that links can begin with.", *newval);
	GUC_check_errhint("Give http:// or https:// with a host and perhaps a path, without query and user: https://crm.example.com");
	return false;
}

void
crm_guc_init(void)
{
	DefineCustomIntVariable("crm.claim_timeout",
							"Longest time that a courier's claim or settle may take.",
							"A longer one is cancelled and tried again; nothing is sent twice by that.",
							&crm_guc_claim_timeout_ms,
							30000, 100, 600000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("crm.courier",
							 "Mark of a database that crm.activate() has switched on.",
							 "Read by the launcher from ALTER DATABASE; its value in a session has no effect.",
							 &guc_courier_mark,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("crm.couriers",
							"Number of couriers of a database.",
							"Each integration is served by one of them; a change has them leave and share anew.",
							&crm_guc_couriers,
							1, 1, CRM_COURIERS_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("crm.fallback_interval",
							"Longest sleep of a courier that nobody wakes.",
							"A commit wakes it at once; this bound serves COMMIT PREPARED and lost signals.",
							&crm_guc_fallback_ms,
							10000, 100, 60000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomStringVariable("crm.listener",
							   "Address and port of this database's listener.",
							   "Set by crm.listen(); read by the launcher from ALTER DATABASE.",
							   &guc_listener_mark,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);

	DefineCustomStringVariable("crm.map_url",
							   "Map that a page leads to.",
							   "An address with {lat} and {lon}; empty: coordinates only.",
							   &guc_map_url,
							   "https://yandex.ru/maps/?pt={lon},{lat}&z=12",
							   PGC_SUSET, 0,
							   check_map_url, NULL, NULL);

	DefineCustomIntVariable("crm.control_period",
							"How long after its time a fact of a trip may still be told.",
							"What becomes known later corrects the trip and notifies nobody.",
							&crm_guc_control_period,
							720, 1, 44640,
							PGC_USERSET, GUC_UNIT_MIN,
							NULL, NULL, NULL);

	DefineCustomIntVariable("crm.min_satellites",
							"Positions with fewer satellites are refused.",
							"Where a tracker does not say how many it sees, the position is taken.",
							&crm_guc_min_satellites,
							1, 0, 50,
							PGC_USERSET, 0,
							NULL, NULL, NULL);

	DefineCustomEnumVariable("crm.mode",
							 "Upper bound of what may leave the database.",
							 "live leaves the decision to crm.activate(); sandbox and off lower it.",
							 &crm_guc_mode,
							 CRM_LIVE, mode_options,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("crm.public_url",
							   "What links given to people outside begin with.",
							   "Address of the proxy before the listener; empty: the listener's own address.",
							   &guc_public_url,
							   "",
							   PGC_SUSET, 0,
							   check_public_url, NULL, NULL);

	DefineCustomStringVariable("crm.time_zone",
							   "Zone of the plant.",
							   "Business dates, and times that the ERP gives without a zone, are of this zone.",
							   &crm_guc_time_zone,
							   "Europe/Moscow",
							   PGC_USERSET, 0,
							   check_time_zone, NULL, NULL);

	MarkGUCPrefixReserved("crm");
}
