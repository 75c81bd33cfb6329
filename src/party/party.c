/*-------------------------------------------------------------------------
 *
 * party.c
 *	  Checks on bytes and numbers of parties: coordinates, e-mail addresses,
 *	  Russian tax numbers.
 *
 * Every coordinate and radius passes here before PostGIS sees it, since a
 * radius that is no number ends the whole cluster there. Nothing in this file
 * reads or writes a table, so it takes no lock; it must never let a value
 * through unchecked, and never allocate by a length that comes from outside.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "core/core.h"
#include "core/pairs.h"
#include "party/party.h"

/* RFC 5321: an address, its local part; RFC 1035: a label of its domain */
#define MAX_EMAIL 254
#define MAX_LOCAL 64
#define MAX_LABEL 63

PG_FUNCTION_INFO_V1(crm_party_checked_lon);
PG_FUNCTION_INFO_V1(crm_party_checked_lat);
PG_FUNCTION_INFO_V1(crm_party_checked_radius);
PG_FUNCTION_INFO_V1(crm_party_place_check);
PG_FUNCTION_INFO_V1(crm_party_owner_changed);
PG_FUNCTION_INFO_V1(crm_party_inn_valid);
PG_FUNCTION_INFO_V1(crm_party_kpp_valid);
PG_FUNCTION_INFO_V1(crm_party_email_normal);

static bool place_number(TriggerData *trigdata, HeapTuple tuple, const char *column, double *value);
static void owner_pair(TupleTableSlot *before, TupleTableSlot *after, void *arg);
static int	inn_digit(const char *inn, const int *weights, int count);
static void email_refuse(const char *given, const char *why) pg_attribute_noreturn();
static bool is_local_char(unsigned char c);
static char *label_ascii(const char *label, int len);

/* ---- coordinates -------------------------------------------------------- */

double
crm_checked_lon(double lon)
{
	if (!(lon >= -180.0 && lon <= 180.0))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("longitude %g is out of range", lon),
				 errhint("Give degrees east of Greenwich, from -180 to 180.")));
	return lon;
}

double
crm_checked_lat(double lat)
{
	if (!(lat >= -90.0 && lat <= 90.0))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("latitude %g is out of range", lat),
				 errhint("Give degrees north of the equator, from -90 to 90.")));
	return lat;
}

double
crm_checked_radius(double radius_m)
{
	if (!(radius_m > 0.0 && radius_m <= CRM_MAX_RADIUS_M))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("radius %g m is out of range", radius_m),
				 errhint("Give metres above 0, up to %.0f.", CRM_MAX_RADIUS_M)));
	return radius_m;
}

Datum
crm_party_checked_lon(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(crm_checked_lon(PG_GETARG_FLOAT8(0)));
}

Datum
crm_party_checked_lat(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(crm_checked_lat(PG_GETARG_FLOAT8(0)));
}

Datum
crm_party_checked_radius(PG_FUNCTION_ARGS)
{
	PG_RETURN_FLOAT8(crm_checked_radius(PG_GETARG_FLOAT8(0)));
}

/* Reads a double precision column by name; false where it is NULL. */
static bool
place_number(TriggerData *trigdata, HeapTuple tuple, const char *column, double *value)
{
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);
	int			attno = SPI_fnumber(desc, column);
	bool		isnull;
	Datum		datum;

	if (attno <= 0 || SPI_gettypeid(desc, attno) != FLOAT8OID)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("table \"%s\" has no column \"%s\" of type double precision",
						RelationGetRelationName(trigdata->tg_relation), column),
				 errhint("crm.place_check() belongs to crm.place alone.")));
	datum = heap_getattr(tuple, attno, desc, &isnull);
	if (isnull)
		return false;
	*value = DatumGetFloat8(datum);
	return true;
}

/*
 * BEFORE INSERT OR UPDATE, for each row of crm.place. The table's CHECK
 * constraints say the same; this one gives the value and a hint, and knows
 * that 0, 0 is a tracker without a fix and no place.
 */
Datum
crm_party_place_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	HeapTuple	tuple;
	double		lon,
				lat,
				radius;
	bool		has_lon,
				has_lat;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigdata->tg_event) || TRIGGER_FIRED_BY_DELETE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("crm.place_check() was not called as a trigger before a row is written")));

	tuple = TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple;
	has_lon = place_number(trigdata, tuple, "lon", &lon);
	has_lat = place_number(trigdata, tuple, "lat", &lat);
	if (has_lon != has_lat)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a place has only a %s", has_lon ? "longitude" : "latitude"),
				 errhint("Give both lon and lat, or neither.")));
	if (has_lon)
	{
		crm_checked_lon(lon);
		crm_checked_lat(lat);
		if (lon == 0.0 && lat == 0.0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a place cannot lie at longitude 0, latitude 0"),
					 errhint("That is what a tracker without a fix reports. Give the real coordinates, or neither.")));
	}
	if (place_number(trigdata, tuple, "radius_m", &radius))
		crm_checked_radius(radius);
	return PointerGetDatum(tuple);
}

/* ---- owners ------------------------------------------------------------- */

typedef struct OwnerChanges
{
	AttrNumber	id;
	AttrNumber	owner_id;
	ArrayBuildState *companies;
	ArrayBuildState *owners;	/* NULL element: nobody */
} OwnerChanges;

static void
owner_pair(TupleTableSlot *before, TupleTableSlot *after, void *arg)
{
	OwnerChanges *changes = arg;
	bool		no_old,
				no_new,
				isnull;
	Datum		was = slot_getattr(before, changes->owner_id, &no_old);
	Datum		is = slot_getattr(after, changes->owner_id, &no_new);

	if (no_old == no_new && (no_old || DatumGetInt64(was) == DatumGetInt64(is)))
		return;
	changes->companies = accumArrayResult(changes->companies, slot_getattr(after, changes->id, &isnull),
										  false, INT8OID, CurrentMemoryContext);
	changes->owners = accumArrayResult(changes->owners, is, no_new, INT8OID, CurrentMemoryContext);
}

/*
 * AFTER UPDATE of crm.company, for each statement: hands the companies whose
 * owner changed to crm.responsibility_changed, all at once.
 */
Datum
crm_party_owner_changed(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT8ARRAYOID, INT8ARRAYOID};
	OwnerChanges changes = {0};
	Datum		values[2];

	if (CALLED_AS_TRIGGER(fcinfo))
	{
		Relation	rel = ((TriggerData *) fcinfo->context)->tg_relation;

		if (!crm_guard())
			return PointerGetDatum(NULL);
		changes.id = crm_trigger_column(rel, "crm.owner_changed", "id", INT8OID);
		changes.owner_id = crm_trigger_column(rel, "crm.owner_changed", "owner_id", INT8OID);
	}
	crm_walk_pairs(fcinfo, "crm.owner_changed", owner_pair, &changes);
	if (changes.companies != NULL)
	{
		values[0] = makeArrayResult(changes.companies, CurrentMemoryContext);
		values[1] = makeArrayResult(changes.owners, CurrentMemoryContext);
		crm_call_sql("responsibility_changed", 2, types, values);
	}
	return PointerGetDatum(NULL);
}

/* ---- tax numbers -------------------------------------------------------- */

/* A check digit of an INN: the weighted sum, modulo 11, modulo 10. */
static int
inn_digit(const char *inn, const int *weights, int count)
{
	int			sum = 0;

	for (int i = 0; i < count; i++)
		sum += (inn[i] - '0') * weights[i];
	return sum % 11 % 10;
}

Datum
crm_party_inn_valid(PG_FUNCTION_ARGS)
{
	static const int ten[] = {2, 4, 10, 3, 5, 9, 4, 6, 8};
	static const int eleven[] = {7, 2, 4, 10, 3, 5, 9, 4, 6, 8};
	static const int twelve[] = {3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8};
	text	   *given = PG_GETARG_TEXT_PP(0);
	const char *inn = VARDATA_ANY(given);
	int			len = VARSIZE_ANY_EXHDR(given);

	if (len != 10 && len != 12)
		PG_RETURN_BOOL(false);
	for (int i = 0; i < len; i++)
		if (inn[i] < '0' || inn[i] > '9')
			PG_RETURN_BOOL(false);
	/* The first two digits are the region; 00 is none, and all zeros would pass. */
	if (inn[0] == '0' && inn[1] == '0')
		PG_RETURN_BOOL(false);
	if (len == 10)
		PG_RETURN_BOOL(inn_digit(inn, ten, 9) == inn[9] - '0');
	PG_RETURN_BOOL(inn_digit(inn, eleven, 10) == inn[10] - '0' &&
				   inn_digit(inn, twelve, 11) == inn[11] - '0');
}

Datum
crm_party_kpp_valid(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	const char *kpp = VARDATA_ANY(given);

	if (VARSIZE_ANY_EXHDR(given) != 9)
		PG_RETURN_BOOL(false);
	for (int i = 0; i < 9; i++)
	{
		bool		digit = kpp[i] >= '0' && kpp[i] <= '9';
		bool		letter = kpp[i] >= 'A' && kpp[i] <= 'Z';

		if (!digit && !(letter && (i == 4 || i == 5)))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/* ---- e-mail addresses --------------------------------------------------- */

static void
email_refuse(const char *given, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" is no e-mail address: %s", given, why),
			 errhint("Write one address as name@example.ru, without a display name or comments.")));
}

/* RFC 5322 atext and the dot, lower case already */
static bool
is_local_char(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("!#$%&'*+-/=?^_`{|}~.", c) != NULL);
}

/*
 * A label of a domain in the form that mail servers take: ASCII as it is, the
 * rest by Punycode (RFC 3492). NULL where it cannot be one.
 */
static char *
label_ascii(const char *label, int len)
{
	pg_wchar	code[MAX_LABEL + 1];
	char	   *out;
	int			count = 0,
				written = 0,
				handled,
				basic;
	uint32		n = 128,
				delta = 0,
				bias = 72;

	for (int i = 0; i < len;)
	{
		int			step = pg_utf_mblen((const unsigned char *) label + i);
		pg_wchar	c;

		if (count >= MAX_LABEL || i + step > len)
			return NULL;
		c = utf8_to_unicode((const unsigned char *) label + i);
		i += step;
		/* Capital Cyrillic letters, as people type them */
		if (c >= 0x410 && c <= 0x42F)
			c += 0x20;
		else if (c >= 0x400 && c <= 0x40F)
			c += 0x50;
		else if (c < 128 && !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
			return NULL;
		else if (c >= 128 && c < 0xC0)
			return NULL;		/* controls, blanks and signs of Latin-1 */
		else if ((c >= 0x2000 && c <= 0x206F) || c == 0x3000 || c == 0xFEFF)
			return NULL;		/* blanks, marks of direction, zero widths */
		code[count++] = c;
	}
	if (count == 0 || code[0] == '-' || code[count - 1] == '-')
		return NULL;

	out = palloc(MAX_LABEL + 1);
	for (int i = 0; i < count; i++)
		if (code[i] < 128)
			out[written++] = (char) code[i];
	out[written] = '\0';
	if (written == count)
		return out;

	/* Not all ASCII: encode after the prefix. */
	basic = handled = written;
	if (written + 5 > MAX_LABEL)
		return NULL;
	memmove(out + 4, out, written);
	memcpy(out, "xn--", 4);
	written += 4;
	if (basic > 0)
		out[written++] = '-';
	while (handled < count)
	{
		uint32		next = PG_UINT32_MAX;

		for (int i = 0; i < count; i++)
			if (code[i] >= n && code[i] < next)
				next = code[i];
		/* No overflow: 64 code points below 0x110000 fit 32 bits */
		delta += (next - n) * (uint32) (handled + 1);
		n = next;
		for (int i = 0; i < count; i++)
		{
			if (code[i] < n)
				delta++;
			else if (code[i] == n)
			{
				uint32		q = delta;
				uint32		points = (uint32) handled + 1;

				for (uint32 k = 36;; k += 36)
				{
					uint32		t = k <= bias ? 1 : (k >= bias + 26 ? 26 : k - bias);
					uint32		digit = q < t ? q : t + (q - t) % (36 - t);

					if (written >= MAX_LABEL)
						return NULL;
					out[written++] = digit < 26 ? 'a' + digit : '0' + digit - 26;
					if (q < t)
						break;
					q = (q - t) / (36 - t);
				}
				delta = handled == basic ? delta / 700 : delta / 2;
				delta += delta / points;
				for (bias = 0; delta > 455; bias += 36)
					delta /= 35;
				bias += 36 * delta / (delta + 38);
				delta = 0;
				handled++;
			}
		}
		delta++;
		n++;
	}
	out[written] = '\0';
	return out;
}

/*
 * The one form of an address: trimmed, lower case, the domain in ASCII. What
 * no mail server would take is refused here and not by the provider later.
 */
Datum
crm_party_email_normal(PG_FUNCTION_ARGS)
{
	char	   *given = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *from = pg_server_to_any(given, strlen(given), PG_UTF8);
	int			len;
	char	   *at,
			   *label;
	StringInfoData out;
	bool		more = true;
	int			labels = 0;

	/* Blanks around it: also U+00A0, which ERPs and web pages put there */
	for (;;)
	{
		if (*from == ' ' || *from == '\t' || *from == '\r' || *from == '\n')
			from++;
		else if ((unsigned char) from[0] == 0xC2 && (unsigned char) from[1] == 0xA0)
			from += 2;
		else
			break;
	}
	from = pstrdup(from);
	for (len = strlen(from); len > 0;)
	{
		if (strchr(" \t\r\n", from[len - 1]) != NULL)
			len--;
		else if (len > 1 && (unsigned char) from[len - 2] == 0xC2 && (unsigned char) from[len - 1] == 0xA0)
			len -= 2;
		else
			break;
	}
	from[len] = '\0';
	if (len > 4 * MAX_EMAIL)
		email_refuse(pnstrdup(given, pg_mbcliplen(given, strlen(given), 80)), "it is too long");
	if (len > 7 && pg_strncasecmp(from, "mailto:", 7) == 0)
	{
		from += 7;
		len -= 7;
	}
	if (len > 2 && from[0] == '<' && from[len - 1] == '>')
	{
		from[len - 1] = '\0';
		from++;
		len -= 2;
	}

	at = strrchr(from, '@');
	if (at == NULL)
		email_refuse(given, "it has no @");
	if (at == from || at - from > MAX_LOCAL)
		email_refuse(given, "before the @ stand 1 to 64 signs");
	for (char *c = from; c < at; c++)
	{
		*c = pg_ascii_tolower((unsigned char) *c);
		if (!is_local_char((unsigned char) *c))
			email_refuse(given, "a sign before the @ cannot stand there");
		if (*c == '.' && (c == from || c + 1 == at || c[1] == '.'))
			email_refuse(given, "a dot before the @ stands alone between letters");
	}

	initStringInfo(&out);
	appendBinaryStringInfo(&out, from, at - from + 1);
	for (label = at + 1; more; labels++)
	{
		char	   *end = strchr(label, '.');
		char	   *ascii;

		more = end != NULL;
		if (end == NULL)
			end = label + strlen(label);
		for (char *c = label; c < end; c++)
			*c = pg_ascii_tolower((unsigned char) *c);
		ascii = label_ascii(label, end - label);
		if (ascii == NULL)
			email_refuse(given, "what follows the @ is no domain");
		if (labels > 0)
			appendStringInfoChar(&out, '.');
		appendStringInfoString(&out, ascii);
		if (out.len > MAX_EMAIL)
			email_refuse(given, "it is too long");
		label = end + 1;
	}
	if (labels < 2)
		email_refuse(given, "its domain has no dot");
	PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}
