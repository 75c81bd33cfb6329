/*-------------------------------------------------------------------------
 *
 * timezone.c
 *	  Whether a time zone of that name exists.
 *
 * pg_timezone_names answers it too, by opening six hundred files each time.
 * The server's own look-up is quick but takes anything that looks like a
 * POSIX rule, "ABC5", and a calendar must not.  So names are looked for in
 * the list once, and those that were found are kept, since zones do not go
 * while a server runs.
 *
 * Must never: keep a name that was not found: a stranger could fill memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "core/core.h"

#define NAME_MOST 64			/* bytes of a name, with its end */

static HTAB * known = NULL;

PG_FUNCTION_INFO_V1(crm_time_zone_exists);

/*
 * crm.time_zone_exists(name)
 */
Datum
crm_time_zone_exists(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	char		name[NAME_MOST] = {0};
	int			length = VARSIZE_ANY_EXHDR(given);
	pg_tzenum  *list;
	pg_tz	   *zone;
	bool		found = false;

	if (length == 0 || length >= NAME_MOST)
		PG_RETURN_BOOL(false);
	memcpy(name, VARDATA_ANY(given), length);
	if (known == NULL)
	{
		HASHCTL		control = {0};

		control.keysize = control.entrysize = NAME_MOST;
		known = hash_create("crm time zones", 16, &control, HASH_ELEM | HASH_STRINGS);
	}
	if (hash_search(known, name, HASH_FIND, NULL) != NULL)
		PG_RETURN_BOOL(true);
	if (pg_tzset(name) == NULL)
		PG_RETURN_BOOL(false);

	/* an error leaves open directories to the end of the transaction, no longer */
	list = pg_tzenumerate_start();
	while (!found && (zone = pg_tzenumerate_next(list)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		found = strcmp(pg_get_timezone_name(zone), name) == 0;
	}
	pg_tzenumerate_end(list);
	if (found)
		(void) hash_search(known, name, HASH_ENTER, NULL);
	PG_RETURN_BOOL(found);
}
