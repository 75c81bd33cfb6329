/*
 * recurrence.c
 *		Recurrence rules (RFC 5545, section 3.3.10): is a text one, and when is
 *		its next moment.
 *
 * libical counts; this file reads the text itself first, since libical lets
 * much pass, and keeps out whatever would make a count long: nothing below
 * five minutes, no rule whose moments lie minutes apart and that may never
 * come, no calendars but the common one.
 *
 * A rule counts by the clock on the wall of its zone: nine in the morning
 * stays nine in the morning when the clocks change.  A time that the clock
 * leaps over is run as long after the leap as it lies behind its beginning
 * (02:30 becomes 03:30), one that comes twice is run the second time: what
 * AT TIME ZONE says.
 *
 * No error may leave this file between a call of libical that takes memory
 * and the one that gives it back.  No lock guards anything.
 */
#include "postgres.h"

#include <libical/ical.h>

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define MAX_RULE		500		/* characters */
#define MAX_COUNT		10000
#define MAX_INTERVAL	1000
#define MIN_MINUTES		5
#define MAX_MINUTES		720
#define MAX_TURNS		200000	/* moments looked at for one answer */

typedef struct Rule
{
	struct icalrecurrencetype ical;
	bool		has_until;
	bool		until_utc;
	bool		until_day;		/* a date: to its last second */
	struct pg_tm until;
} Rule;

/* The parts of a rule whose values are lists of numbers. */
typedef struct Part
{
	const char *name;
	int			lowest;
	int			highest;
	bool		minus;			/* counts from the end too; no zero then */
	int			most;			/* values */
	bool		fine;			/* also with HOURLY and MINUTELY */
} Part;

static const Part parts[] = {
	{"BYSECOND", 0, 59, false, 1, true},
	{"BYMINUTE", 0, 59, false, 12, true},
	{"BYHOUR", 0, 23, false, 24, true},
	{"BYMONTHDAY", 1, 31, true, 31, false},
	{"BYYEARDAY", 1, 366, true, 100, false},
	{"BYWEEKNO", 1, 53, true, 53, false},
	{"BYMONTH", 1, 12, false, 12, true},
	{"BYSETPOS", 1, 366, true, 100, false}
};

static const char *const frequencies[] = {"YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY"};
static const char *const weekdays[] = {"MO", "TU", "WE", "TH", "FR", "SA", "SU"};

static void read_rule(const char *text, Rule *rule);
static void bad_rule(const char *text, const char *why) pg_attribute_noreturn();
static bool comes(const Rule *rule);
static int	week_day(const Rule *rule, int day);
static struct pg_tm tm_of(struct icaltimetype t);
static struct icaltimetype wall_time(const struct pg_tm *tm);
static Timestamp local_seconds(const struct pg_tm *tm);
static TimestampTz moment_of(struct icaltimetype t, pg_tz *zone, bool *leapt);

PG_FUNCTION_INFO_V1(crm_party_rrule_check);
PG_FUNCTION_INFO_V1(crm_party_rrule_next);

Datum
crm_party_rrule_check(PG_FUNCTION_ARGS)
{
	Rule		rule;

	read_rule(text_to_cstring(PG_GETARG_TEXT_PP(0)), &rule);
	PG_RETURN_VOID();
}

Datum
crm_party_rrule_next(PG_FUNCTION_ARGS)
{
	char	   *words = text_to_cstring(PG_GETARG_TEXT_PP(0));
	TimestampTz starts = PG_GETARG_TIMESTAMPTZ(1);
	char	   *zone_name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	TimestampTz after = PG_GETARG_TIMESTAMPTZ(3);
	pg_tz	   *zone = strlen(zone_name) <= TZ_STRLEN_MAX ? pg_tzset(zone_name) : NULL;
	Rule		rule;
	int			offset;
	struct pg_tm tm;
	fsec_t		fraction;
	struct icaltimetype start;
	bool		ahead;
	int64		unit;
	TimestampTz until = DT_NOEND;
	Timestamp	first;
	Timestamp	moved;
	int			left;
	icalrecur_iterator *walk;
	TimestampTz found = DT_NOEND;
	bool		interrupted = false;

	read_rule(words, &rule);
	if (zone == NULL)
		ereport(ERROR,
				errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("time zone \"%s\" does not exist", zone_name),
				errhint("Give an IANA name, such as Europe/Moscow or Asia/Yekaterinburg."));
	if (TIMESTAMP_NOT_FINITE(starts) || TIMESTAMP_NOT_FINITE(after) ||
		timestamp2tm(after, &offset, &tm, &fraction, NULL, zone) != 0 || tm.tm_year < 1970 || tm.tm_year > 2200 ||
		timestamp2tm(starts, &offset, &tm, &fraction, NULL, zone) != 0 || tm.tm_year < 1970 || tm.tm_year > 2200)
		ereport(ERROR,
				errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				errmsg("cannot count a recurrence from %s", timestamptz_to_str(TIMESTAMP_NOT_FINITE(after) ? after : starts)),
				errhint("Give times between 1970 and 2200."));
	start = wall_time(&tm);
	first = moved = local_seconds(&tm);

	if (rule.has_until)
	{
		if (rule.until_utc)
			offset = 0;
		else
			offset = DetermineTimeZoneOffset(&rule.until, zone);
		if (tm2timestamp(&rule.until, 0, &offset, &until) != 0)
			bad_rule(words, "UNTIL is out of range");
		if (until <= after)
			PG_RETURN_NULL();
	}

	/*
	 * A rule that counts its moments is walked from its first one, any other
	 * from near where it is asked for.  Up to weeks the first moment is moved
	 * by whole intervals, since libical forgets those when it is told to start
	 * later; months and years it keeps.
	 */
	ahead = rule.ical.count == 0 && after > starts + 3 * USECS_PER_DAY;
	unit = rule.ical.freq == ICAL_MINUTELY_RECURRENCE ? USECS_PER_MINUTE : rule.ical.freq == ICAL_HOURLY_RECURRENCE ? USECS_PER_HOUR :
		rule.ical.freq == ICAL_DAILY_RECURRENCE ? USECS_PER_DAY : rule.ical.freq == ICAL_WEEKLY_RECURRENCE ? 7 * USECS_PER_DAY : 0;
	if (ahead && unit > 0)
	{
		int64		step = unit * rule.ical.interval;
		int64		steps = (after - starts - 2 * USECS_PER_DAY) / step;

		/* a week is begun before its first day */
		moved += Max(steps - 1, 0) * step;
	}

	/*
	 * libical mistakes the week in which a rule begins when the first of its
	 * days lies before the day of the start (Sunday in a week from Monday), so
	 * such a rule begins on the first of its days, and what it counts is
	 * counted below.
	 */
	if (rule.ical.freq == ICAL_WEEKLY_RECURRENCE && rule.ical.by_day[0] != ICAL_RECURRENCE_ARRAY_MAX &&
		timestamp2tm(moved, NULL, &tm, &fraction, NULL, NULL) == 0)
	{
		int			begins = 6;

		for (int i = 0; i < ICAL_BY_DAY_SIZE && rule.ical.by_day[i] != ICAL_RECURRENCE_ARRAY_MAX; i++)
			begins = Min(begins, week_day(&rule, icalrecurrencetype_day_day_of_week(rule.ical.by_day[i])));
		moved += (begins - week_day(&rule, icaltime_day_of_week(wall_time(&tm)))) * USECS_PER_DAY;
	}
	if (timestamp2tm(moved, NULL, &tm, &fraction, NULL, NULL) == 0)
		start = wall_time(&tm);
	left = rule.ical.count > 0 ? rule.ical.count : MAX_TURNS;
	rule.ical.count = 0;
	walk = icalrecur_iterator_new(rule.ical, start);
	if (walk == NULL)
		bad_rule(words, "its parts contradict each other");
	if (ahead && unit == 0 && timestamp2tm(after - USECS_PER_DAY, &offset, &tm, &fraction, NULL, zone) == 0)
	{
		struct icaltimetype from = wall_time(&tm);

		from.hour = start.hour;
		from.minute = start.minute;
		from.second = start.second;
		(void) icalrecur_iterator_set_start(walk, from);
	}
	for (int turn = 0; turn < MAX_TURNS; turn++)
	{
		struct icaltimetype t = icalrecur_iterator_next(walk);
		TimestampTz at;
		bool		leapt;

		if (icaltime_is_null_time(t))
			break;
		if (INTERRUPTS_PENDING_CONDITION())
		{
			interrupted = true;
			break;
		}
		tm = tm_of(t);
		if (local_seconds(&tm) < first)
			continue;
		if (left-- == 0)
			break;
		at = moment_of(t, zone, &leapt);
		if (at <= after || at < starts - USECS_PER_SEC)
			continue;
		found = Min(found, at);
		/* what follows a time that was leapt over may come before it */
		if (!leapt)
			break;
	}
	icalrecur_iterator_free(walk);
	if (interrupted)
		CHECK_FOR_INTERRUPTS();

	if (found == DT_NOEND || found > until)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(found);
}

static struct icaltimetype
wall_time(const struct pg_tm *tm)
{
	struct icaltimetype t = icaltime_null_time();

	t.year = tm->tm_year;
	t.month = tm->tm_mon;
	t.day = tm->tm_mday;
	t.hour = tm->tm_hour;
	t.minute = tm->tm_min;
	t.second = tm->tm_sec;
	return t;
}

static struct pg_tm
tm_of(struct icaltimetype t)
{
	struct pg_tm tm = {0};

	tm.tm_year = t.year;
	tm.tm_mon = t.month;
	tm.tm_mday = t.day;
	tm.tm_hour = t.hour;
	tm.tm_min = t.minute;
	tm.tm_sec = t.second;
	tm.tm_isdst = -1;
	return tm;
}

/* The place of a day (Sunday is 1) in the rule's week, from 0. */
static int
week_day(const Rule *rule, int day)
{
	return (day - (int) rule->ical.week_start + 7) % 7;
}

/* A time on the wall as a moment; leapt: the clocks leap over it. */
static TimestampTz
moment_of(struct icaltimetype t, pg_tz *zone, bool *leapt)
{
	struct pg_tm tm = tm_of(t);
	struct pg_tm back;
	int			offset;
	fsec_t		fraction;
	TimestampTz at;

	offset = DetermineTimeZoneOffset(&tm, zone);
	at = local_seconds(&tm);
	if (at == DT_NOEND)
	{
		*leapt = false;
		return DT_NOBEGIN;
	}
	at += offset * USECS_PER_SEC;
	*leapt = timestamp2tm(at, &offset, &back, &fraction, NULL, zone) == 0 && local_seconds(&back) != local_seconds(&tm);
	return at;
}

static Timestamp
local_seconds(const struct pg_tm *tm)
{
	struct pg_tm copy = *tm;
	Timestamp	at;

	return tm2timestamp(&copy, 0, NULL, &at) == 0 ? at : DT_NOEND;
}

static void
bad_rule(const char *text, const char *why)
{
	ereport(ERROR,
			errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			errmsg("not a recurrence rule: \"%s\"", text),
			errdetail("Its fault: %s.", why),
			errhint("Write it as RFC 5545 has it, such as FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=10;BYMINUTE=0."));
}

/* "-12" or "12" within bounds; false otherwise. */
static bool
read_number(const char *word, int *number)
{
	const char *digits = word + (*word == '-' || *word == '+');
	size_t		length = strlen(digits);

	if (length == 0 || length > 5 || strspn(digits, "0123456789") != length)
		return false;
	*number = atoi(digits) * (*word == '-' ? -1 : 1);
	return true;
}

static int
read_list(const char *text, const Part *part, char *value)
{
	int			values = 0;
	char	   *rest = value;

	while (rest != NULL)
	{
		char	   *word = rest;
		int			number;

		rest = strchr(word, ',');
		if (rest)
			*rest++ = '\0';
		if (!read_number(word, &number) || abs(number) < part->lowest || abs(number) > part->highest || (number < 0 && !part->minus))
			bad_rule(text, psprintf("%s has no value \"%s\"", part->name, word));
		if (++values > part->most)
			bad_rule(text, psprintf("%s has more than %d values", part->name, part->most));
	}
	return values;
}

static bool
read_days(const char *text, char *value)
{
	int			values = 0;
	bool		numbered = false;
	char	   *rest = value;

	while (rest != NULL)
	{
		char	   *word = rest;
		size_t		length;
		int			number = 1;
		bool		known = false;

		rest = strchr(word, ',');
		if (rest)
			*rest++ = '\0';
		length = strlen(word);
		for (int i = 0; i < lengthof(weekdays) && length >= 2; i++)
			known = known || strcmp(word + length - 2, weekdays[i]) == 0;
		if (known && length > 2)
		{
			char	   *figure = pnstrdup(word, length - 2);

			numbered = true;
			known = read_number(figure, &number) && number != 0 && abs(number) <= 53;
		}
		if (!known)
			bad_rule(text, psprintf("BYDAY has no value \"%s\"", word));
		if (++values > 53)
			bad_rule(text, "BYDAY has more than 53 values");
	}
	return numbered;
}

static void
read_until(const char *text, const char *value, Rule *rule)
{
	size_t		length = strlen(value);
	struct pg_tm *tm = &rule->until;
	Timestamp	at;
	struct pg_tm again;
	fsec_t		fraction;

	memset(tm, 0, sizeof(*tm));
	rule->has_until = true;
	rule->until_day = length == 8;
	rule->until_utc = length == 16 && value[15] == 'Z';
	if ((length != 8 && length != 15 && !rule->until_utc) || strspn(value, "0123456789") < 8 ||
		(length > 8 && (value[8] != 'T' || strspn(value + 9, "0123456789") != 6)))
		bad_rule(text, "UNTIL is written 20261231 or 20261231T180000, with a Z behind it for UTC");
	tm->tm_isdst = -1;
	(void) sscanf(value, "%4d%2d%2d", &tm->tm_year, &tm->tm_mon, &tm->tm_mday);
	if (rule->until_day)
		tm->tm_hour = 23, tm->tm_min = tm->tm_sec = 59;
	else
		(void) sscanf(value + 9, "%2d%2d%2d", &tm->tm_hour, &tm->tm_min, &tm->tm_sec);
	if (tm->tm_mon < 1 || tm->tm_mon > 12 || tm->tm_mday < 1 || tm->tm_mday > 31 || tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 59 ||
		tm->tm_year < 1970 || tm->tm_year > 2200 ||
		(at = local_seconds(tm)) == DT_NOEND || timestamp2tm(at, NULL, &again, &fraction, NULL, NULL) != 0 || again.tm_mday != tm->tm_mday)
		bad_rule(text, "UNTIL is no day between 1970 and 2200");
}

static void
read_rule(const char *text, Rule *rule)
{
	char	   *copy = pstrdup(text);
	char	   *rest = copy;
	int			frequency = -1;
	int			interval = 1;
	uint32		seen = 0;		/* one bit a part; from bit 16 on those that are no list */
	bool		numbered = false;
	int			values;
	int			hours = 1;		/* values of BYHOUR or BYMINUTE */
	StringInfoData plain;

	memset(rule, 0, sizeof(*rule));
	if (strlen(text) == 0 || strlen(text) > MAX_RULE)
		bad_rule(strlen(text) > MAX_RULE ? pnstrdup(text, 40) : text, "it is empty or longer than 500 characters");
	if (strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789=;,+-") != strlen(text))
		bad_rule(text, "it holds other signs than capital letters, digits and = ; , + -");

	/* UNTIL is judged here, in the zone of the rule, and libical never sees it */
	initStringInfo(&plain);
	while (rest != NULL)
	{
		char	   *name = rest;
		char	   *value;
		int			bit = -1;
		char	   *whole;

		rest = strchr(name, ';');
		if (rest)
			*rest++ = '\0';
		whole = pstrdup(name);
		value = strchr(name, '=');
		if (value == NULL)
			bad_rule(text, psprintf("\"%s\" has no value", name));
		*value++ = '\0';
		if (*value == '\0' || value[strlen(value) - 1] == ',')
			bad_rule(text, psprintf("\"%s\" has no value", name));

		for (int i = 0; i < lengthof(parts); i++)
			if (strcmp(name, parts[i].name) == 0)
			{
				bit = i;
				values = read_list(text, &parts[i], value);
				if (i == 1 || i == 2)
					hours = Max(hours, values);
			}
		if (strcmp(name, "FREQ") == 0)
		{
			bit = 16;
			for (int i = 0; i < lengthof(frequencies); i++)
				if (strcmp(value, frequencies[i]) == 0)
					frequency = i;
			if (frequency < 0)
				bad_rule(text, "FREQ is YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY or MINUTELY");
		}
		else if (strcmp(name, "INTERVAL") == 0)
		{
			bit = 17;
			if (!read_number(value, &interval) || interval < 1 || interval > MAX_INTERVAL)
				bad_rule(text, psprintf("INTERVAL is 1 to %d", MAX_INTERVAL));
		}
		else if (strcmp(name, "COUNT") == 0)
		{
			int			count;

			bit = 18;
			if (!read_number(value, &count) || count < 1 || count > MAX_COUNT)
				bad_rule(text, psprintf("COUNT is 1 to %d", MAX_COUNT));
		}
		else if (strcmp(name, "UNTIL") == 0)
		{
			bit = 19;
			read_until(text, value, rule);
			whole = NULL;
		}
		else if (strcmp(name, "BYDAY") == 0)
		{
			bit = 20;
			numbered = read_days(text, value);
		}
		else if (strcmp(name, "WKST") == 0)
		{
			bit = 21;
			if (strcmp(value, "MO") != 0 && strcmp(value, "SU") != 0)
				bad_rule(text, "WKST is MO or SU");
		}
		if (bit < 0)
			bad_rule(text, psprintf("part \"%s\" is not known", name));
		if (seen & (1u << bit))
			bad_rule(text, psprintf("%s stands in it twice", name));
		seen |= 1u << bit;
		if (whole)
			appendStringInfo(&plain, "%s%s", plain.len > 0 ? ";" : "", whole);
	}

#define HAS(bit) ((seen & (1u << (bit))) != 0)
	if (frequency < 0)
		bad_rule(text, "it has no FREQ");
	if (HAS(18) && HAS(19))
		bad_rule(text, "COUNT and UNTIL exclude each other");
	if (frequency == 5 && (interval < MIN_MINUTES || interval > MAX_MINUTES))
		bad_rule(text, psprintf("MINUTELY needs an INTERVAL of %d to %d", MIN_MINUTES, MAX_MINUTES));
	if (frequency == 5 && HAS(1))
		bad_rule(text, "MINUTELY has no BYMINUTE");
	if (frequency == 5 && HAS(2) && 60 % interval != 0)
		bad_rule(text, "MINUTELY with BYHOUR needs an INTERVAL that divides an hour");
	for (int i = 0; i < lengthof(parts); i++)
		if (frequency >= 4 && HAS(i) && !parts[i].fine)
			bad_rule(text, psprintf("%s does not go with HOURLY and MINUTELY", parts[i].name));
	if (HAS(5) && frequency != 0)
		bad_rule(text, "BYWEEKNO goes with YEARLY only");
	if (HAS(4) && frequency != 0)
		bad_rule(text, "BYYEARDAY goes with YEARLY only");
	if (HAS(3) && frequency == 2)
		bad_rule(text, "BYMONTHDAY does not go with WEEKLY");
	if (numbered && (frequency > 1 || HAS(5)))
		bad_rule(text, "a numbered day, such as 2MO, goes with MONTHLY and YEARLY only, and not with BYWEEKNO");
	if (HAS(7) && (seen & 0x10007fu) == 0)
		bad_rule(text, "BYSETPOS needs another BY… to choose from");
	if (HAS(7) && hours > 1)
		bad_rule(text, "BYSETPOS chooses days: with it BYHOUR and BYMINUTE have one value");

	/*
	 * Hours of every hour are hours of every day; libical passes over the
	 * first of them where the rule begins before it.
	 */
	if (frequency == 4 && HAS(2))
	{
		char	   *at = strstr(plain.data, "FREQ=HOURLY");

		if (interval > 1)
			bad_rule(text, "HOURLY with an INTERVAL has no BYHOUR: write DAILY with its hours");
		memcpy(at, "FREQ=DAILY", 10);
		memmove(at + 10, at + 11, strlen(at + 11) + 1);
	}

	icalerror_set_errors_are_fatal(0);
	rule->ical = icalrecurrencetype_from_string(plain.data);
	if (rule->ical.rscale != NULL)
	{
		free(rule->ical.rscale);
		rule->ical.rscale = NULL;
	}
	if (rule->ical.freq == ICAL_NO_RECURRENCE)
		bad_rule(text, icalerror_strerror(icalerrno));
	if (!comes(rule))
		bad_rule(text, "no day is like that: it never comes");
	pfree(copy);
	pfree(plain.data);
}

/* Whether any day at all is as the rule says. */
static bool
comes(const Rule *rule)
{
	Rule		any = *rule;
	struct icaltimetype start = icaltime_null_time();
	icalrecur_iterator *walk;
	bool		does;

	any.ical.interval = 1;
	any.ical.count = 0;
	start.year = 2000;
	start.month = start.day = 1;
	/* the parts that are allowed with these meet every day of some year */
	if (any.ical.freq == ICAL_HOURLY_RECURRENCE || any.ical.freq == ICAL_MINUTELY_RECURRENCE)
		return true;
	walk = icalrecur_iterator_new(any.ical, start);
	if (walk == NULL)
		return false;
	does = !icaltime_is_null_time(icalrecur_iterator_next(walk));
	icalrecur_iterator_free(walk);
	return does;
}
