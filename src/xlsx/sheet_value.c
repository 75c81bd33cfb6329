/*-------------------------------------------------------------------------
 *
 * sheet_value.c
 *	  What stands in a cell, as text, number or time; NULL for what is none.
 *
 * These run for every cell of a million rows, so none of them raises: what
 * cannot be read is NULL, and who asked says where it stood.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define MAX_NUMBER 40			/* signs */
#define MAX_TIME 40

PG_FUNCTION_INFO_V1(crm_xlsx_sheet_text);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_number);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_time);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_key);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_name_key);

/* Bytes of a blank that stands at p: ASCII and controls, U+00A0, U+2007, U+2009, U+202F, U+FEFF; 0: none. */
static int
blank_at(const unsigned char *p, const unsigned char *end)
{
	if (*p <= 0x20 || *p == 0x7F)
		return 1;
	if (*p == 0xC2 && end - p >= 2 && p[1] == 0xA0)
		return 2;
	if (*p == 0xE2 && end - p >= 3 && p[1] == 0x80 && (p[2] == 0x87 || p[2] == 0x89 || p[2] == 0xAF))
		return 3;
	if (*p == 0xEF && end - p >= 3 && p[1] == 0xBB && p[2] == 0xBF)
		return 3;
	return 0;
}

/* crm.sheet_text(text): blanks of every kind folded and trimmed; empty is NULL. */
Datum
crm_xlsx_sheet_text(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	const unsigned char *p = (const unsigned char *) VARDATA_ANY(given);
	const unsigned char *end = p + VARSIZE_ANY_EXHDR(given);
	text	   *result = palloc(VARHDRSZ + (end - p));
	char	   *put = VARDATA(result);
	bool		blank = false;

	while (p < end)
	{
		int			n = blank_at(p, end);

		if (n > 0)
		{
			blank = true;
			p += n;
			continue;
		}
		if (blank && put > VARDATA(result))
			*put++ = ' ';
		blank = false;
		*put++ = *p++;
	}
	if (put == VARDATA(result))
		PG_RETURN_NULL();
	SET_VARSIZE(result, put - (char *) result);
	PG_RETURN_TEXT_P(result);
}

/* A currency that stands at p, its bytes; 0: none. */
static int
currency_at(const char *p)
{
	static const char *const marks[] = {"\u20BD", "\u0440\u0443\u0431.", "\u0440\u0443\u0431", "\u0440.", "$", "\u20AC", "RUB", "USD", "EUR", NULL};

	for (int i = 0; marks[i] != NULL; i++)
		if (strncmp(p, marks[i], strlen(marks[i])) == 0)
			return strlen(marks[i]);
	return 0;
}

/* crm.sheet_number(text): a number as people and programs write it. */
Datum
crm_xlsx_sheet_number(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	int			length = VARSIZE_ANY_EXHDR(given);
	char		clean[MAX_NUMBER + 1];
	char	   *from;
	const unsigned char *p;
	const unsigned char *end;
	int			n = 0;
	int			commas = 0;
	int			dots = 0;
	char		last = '\0';
	int			digits = 0;
	int			exponent = 0;

	if (length > 100)
		PG_RETURN_NULL();
	from = text_to_cstring(given);
	p = (const unsigned char *) from;
	end = p + length;
	while (p < end)
	{
		int			skip = blank_at(p, end);

		if (skip == 0 && *p == '\'')
			skip = 1;
		if (skip == 0)
			skip = currency_at((const char *) p);
		if (skip > 0)
		{
			p += skip;
			continue;
		}
		if (*p == 0xE2 && p[1] == 0x88 && p[2] == 0x92)	/* minus sign */
		{
			if (n >= MAX_NUMBER)
				PG_RETURN_NULL();
			clean[n++] = '-';
			p += 3;
			continue;
		}
		if (n >= MAX_NUMBER || !(isdigit(*p) || strchr("+-.,eE", *p) != NULL))
			PG_RETURN_NULL();
		if (*p == ',')
			commas++;
		else if (*p == '.')
			dots++;
		if (*p == ',' || *p == '.')
			last = *p;
		clean[n++] = *p++;
	}
	clean[n] = '\0';
	/* the last separator is the decimal one; one that comes twice parts thousands */
	{
		char		decimal = commas > 0 && dots > 0 ? last : commas > 1 || dots > 1 ? '\0' : last;
		char		number[MAX_NUMBER + 1];
		int			m = 0;
		int			points = 0;

		if (decimal != '\0' && ((decimal == ',' && commas > 1) || (decimal == '.' && dots > 1)))
			PG_RETURN_NULL();
		for (int i = 0; i < n; i++)
		{
			char		c = clean[i];

			if (c == ',' || c == '.')
			{
				if (c != decimal)
					continue;
				c = '.';
				if (points++ > 0 || exponent > 0)
					PG_RETURN_NULL();
			}
			else if (c == '+' || c == '-')
			{
				if (m > 0 && number[m - 1] != 'e')
					PG_RETURN_NULL();
			}
			else if (c == 'e' || c == 'E')
			{
				if (digits == 0 || exponent++ > 0)
					PG_RETURN_NULL();
				c = 'e';
			}
			else if (exponent == 0)
				digits++;
			number[m++] = c;
		}
		number[m] = '\0';
		if (digits == 0 || !isdigit((unsigned char) number[m - 1]))
		{
			if (digits == 0 || number[m - 1] != '.')
				PG_RETURN_NULL();
			number[--m] = '\0';
		}
		if (exponent > 0)
		{
			char	   *e = strchr(number, 'e');

			if (abs(atoi(e + 1)) > 100 || strlen(e) > 5)
				PG_RETURN_NULL();
		}
		PG_RETURN_DATUM(DirectFunctionCall3(numeric_in, CStringGetDatum(number), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	}
}

/* Reads up to max digits; returns how many, and moves on. */
static int
digits_at(const char **p, int max, int *value)
{
	int			n = 0;

	*value = 0;
	while (n < max && isdigit((unsigned char) **p))
	{
		*value = *value * 10 + (**p - '0');
		(*p)++;
		n++;
	}
	return n;
}

/*
 * crm.sheet_time(text, order, zone): a day or a time as ISO, with dots, slashes
 * or dashes.  order says which of three small numbers is the day: dmy or mdy.
 */
Datum
crm_xlsx_sheet_time(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	text	   *order = PG_GETARG_TEXT_PP(1);
	text	   *zone = PG_GETARG_TEXT_PP(2);
	char		buffer[MAX_TIME + 1];
	const char *p = buffer;
	int			length = VARSIZE_ANY_EXHDR(given);
	int			part[3];
	int			size[3];
	int			year,
				month,
				day;
	int			hour = 0,
				minute = 0,
				second = 0,
				micros = 0;
	char		mark;
	bool		has_zone = false;
	int			offset = 0;
	struct pg_tm tm = {0};
	Timestamp	local;

	if (length == 0 || length > MAX_TIME)
		PG_RETURN_NULL();
	memcpy(buffer, VARDATA_ANY(given), length);
	buffer[length] = '\0';
	size[0] = digits_at(&p, 8, &part[0]);
	if (size[0] == 8)
	{
		/* 20261124 */
		year = part[0] / 10000;
		month = part[0] / 100 % 100;
		day = part[0] % 100;
	}
	else
	{
		mark = *p;
		if (mark != '.' && mark != '/' && mark != '-')
			PG_RETURN_NULL();
		p++;
		size[1] = digits_at(&p, 2, &part[1]);
		if (*p != mark)
			PG_RETURN_NULL();
		p++;
		size[2] = digits_at(&p, 4, &part[2]);
		if (size[1] == 0 || size[2] == 0)
			PG_RETURN_NULL();
		if (size[0] == 4)
		{
			year = part[0];
			month = part[1];
			day = part[2];
			if (size[2] > 2)
				PG_RETURN_NULL();
		}
		else if (size[0] <= 2 && (size[2] == 4 || size[2] == 2))
		{
			bool		month_first = VARSIZE_ANY_EXHDR(order) == 3 && memcmp(VARDATA_ANY(order), "mdy", 3) == 0 && mark != '.';

			day = month_first ? part[1] : part[0];
			month = month_first ? part[0] : part[1];
			year = size[2] == 4 ? part[2] : part[2] < 70 ? 2000 + part[2] : 1900 + part[2];
		}
		else
			PG_RETURN_NULL();
	}
	if (*p == ',')
		p++;
	if (*p == ' ' || *p == 'T' || *p == 't')
	{
		int			n;

		while (*p == ' ' || *p == 'T' || *p == 't')
			p++;
		n = digits_at(&p, 2, &hour);
		if (n > 0)
		{
			if (*p != ':')
				PG_RETURN_NULL();
			p++;
			if (digits_at(&p, 2, &minute) != 2)
				PG_RETURN_NULL();
			if (*p == ':')
			{
				p++;
				if (digits_at(&p, 2, &second) != 2)
					PG_RETURN_NULL();
				if (*p == '.' || *p == ',')
				{
					int			fraction;
					int			got;

					p++;
					got = digits_at(&p, 6, &fraction);
					if (got == 0)
						PG_RETURN_NULL();
					while (got++ < 6)
						fraction *= 10;
					micros = fraction;
					while (isdigit((unsigned char) *p))
						p++;
				}
			}
			while (*p == ' ')
				p++;
			if (pg_strncasecmp(p, "am", 2) == 0 || pg_strncasecmp(p, "pm", 2) == 0)
			{
				if (hour < 1 || hour > 12)
					PG_RETURN_NULL();
				hour = hour % 12 + (pg_tolower((unsigned char) *p) == 'p' ? 12 : 0);
				p += 2;
			}
			else if (*p == 'Z' || *p == 'z')
			{
				has_zone = true;
				p++;
			}
			else if (*p == '+' || *p == '-')
			{
				int			sign = *p == '-' ? -1 : 1;
				int			hours;
				int			minutes = 0;

				p++;
				if (digits_at(&p, 2, &hours) != 2)
					PG_RETURN_NULL();
				if (*p == ':')
					p++;
				(void) digits_at(&p, 2, &minutes);
				if (hours > 15 || minutes > 59)
					PG_RETURN_NULL();
				has_zone = true;
				offset = sign * (hours * 3600 + minutes * 60);
			}
		}
	}
	/* "24.11.2026 г." */
	while (*p == ' ')
		p++;
	if (strcmp(p, "\u0433.") == 0 || strcmp(p, "\u0433") == 0)
		p += strlen(p);
	if (*p != '\0')
		PG_RETURN_NULL();
	if (year < 1000 || year > 9999 || month < 1 || month > 12 || day < 1 || day > day_tab[isleap(year)][month - 1] ||
		hour > 24 || minute > 59 || second > 59 || (hour == 24 && (minute > 0 || second > 0 || micros > 0)))
		PG_RETURN_NULL();
	tm.tm_year = year;
	tm.tm_mon = month;
	tm.tm_mday = day;
	tm.tm_hour = hour;
	tm.tm_min = minute;
	tm.tm_sec = second;
	if (tm2timestamp(&tm, micros, NULL, &local) != 0)
		PG_RETURN_NULL();
	if (has_zone)
		PG_RETURN_TIMESTAMPTZ(local - offset * USECS_PER_SEC);
	PG_RETURN_DATUM(DirectFunctionCall2(timestamp_zone, PointerGetDatum(zone), TimestampGetDatum(local)));
}

/*
 * crm.sheet_key(text): what two spellings of one word share: small letters, no
 * blanks, no signs, ё as е.  For headings and words of a list.
 */
Datum
crm_xlsx_sheet_key(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	const unsigned char *p = (const unsigned char *) VARDATA_ANY(given);
	const unsigned char *end = p + VARSIZE_ANY_EXHDR(given);
	text	   *result = palloc(VARHDRSZ + (end - p));
	char	   *put = VARDATA(result);

	while (p < end)
	{
		if (*p < 0x80)
		{
			if (isalnum(*p))
				*put++ = pg_tolower(*p);
			p++;
		}
		else if ((*p == 0xD0 || *p == 0xD1) && end - p >= 2)
		{
			unsigned	code = (*p & 0x1F) << 6 | (p[1] & 0x3F);

			if (code >= 0x410 && code <= 0x42F)
				code += 0x20;
			if (code == 0x401 || code == 0x451)
				code = 0x435;
			*put++ = 0xC0 | code >> 6;
			*put++ = 0x80 | (code & 0x3F);
			p += 2;
		}
		else
		{
			int			blank = blank_at(p, end);
			int			n = blank > 0 ? blank : Min(pg_mblen((const char *) p), end - p);

			/* signs of U+2000 to U+20FF, and of Latin-1, are no letters */
			if (blank == 0 && !(*p == 0xE2 && (p[1] == 0x80 || p[1] == 0x81 || p[1] == 0x82 || p[1] == 0x84)) && !(*p == 0xC2))
			{
				memcpy(put, p, n);
				put += n;
			}
			p += n;
		}
	}
	if (put == VARDATA(result))
		PG_RETURN_NULL();
	SET_VARSIZE(result, put - (char *) result);
	PG_RETURN_TEXT_P(result);
}

/* Words that say what a firm is by law, and not which. Small letters, е for ё. */
static const char *const forms[] = {
	"\u043E\u043E\u043E", "\u043E\u0430\u043E", "\u0437\u0430\u043E", "\u0430\u043E", "\u043F\u0430\u043E", "\u043D\u0430\u043E", "\u0438\u043F", "\u0442\u043E\u043E", "\u043E\u0434\u043E", "\u0447\u0443\u043F", "\u0444\u0433\u0443\u043F", "\u043C\u0443\u043F",
	"\u043E\u0431\u0449\u0435\u0441\u0442\u0432\u043E", "\u043E\u0433\u0440\u0430\u043D\u0438\u0447\u0435\u043D\u043D\u043E\u0439", "\u043E\u0442\u0432\u0435\u0442\u0441\u0442\u0432\u0435\u043D\u043D\u043E\u0441\u0442\u044C\u044E",
	"\u0430\u043A\u0446\u0438\u043E\u043D\u0435\u0440\u043D\u043E\u0435", "\u043F\u0443\u0431\u043B\u0438\u0447\u043D\u043E\u0435", "\u0437\u0430\u043A\u0440\u044B\u0442\u043E\u0435", "\u043E\u0442\u043A\u0440\u044B\u0442\u043E\u0435",
	"\u0438\u043D\u0434\u0438\u0432\u0438\u0434\u0443\u0430\u043B\u044C\u043D\u044B\u0439", "\u043F\u0440\u0435\u0434\u043F\u0440\u0438\u043D\u0438\u043C\u0430\u0442\u0435\u043B\u044C", "\u0441",
	"llc", "ltd", "inc", "gmbh", "corp", "co", "plc", "limited", "sa", "ag", NULL
};

/*
 * crm.sheet_name_key(text): the key of a firm's or a person's name: that of
 * crm.sheet_key without the words of its legal form, unless nothing else is left.
 */
Datum
crm_xlsx_sheet_name_key(PG_FUNCTION_ARGS)
{
	text	   *given = PG_GETARG_TEXT_PP(0);
	const unsigned char *p = (const unsigned char *) VARDATA_ANY(given);
	const unsigned char *end = p + VARSIZE_ANY_EXHDR(given);
	int			length = end - p;
	text	   *result = palloc(VARHDRSZ + length);
	char	   *put = VARDATA(result);
	char	   *word = put;

	while (p <= end)
	{
		int			n = 0;
		bool		letter = false;

		if (p < end && *p < 0x80)
		{
			letter = isalnum(*p);
			if (letter)
				*put++ = pg_tolower(*p);
			n = 1;
		}
		else if (p < end && (*p == 0xD0 || *p == 0xD1) && end - p >= 2)
		{
			unsigned	code = (*p & 0x1F) << 6 | (p[1] & 0x3F);

			letter = true;
			if (code >= 0x410 && code <= 0x42F)
				code += 0x20;
			if (code == 0x401 || code == 0x451)
				code = 0x435;
			*put++ = 0xC0 | code >> 6;
			*put++ = 0x80 | (code & 0x3F);
			n = 2;
		}
		else if (p < end)
		{
			n = Min(pg_mblen((const char *) p), end - p);
			letter = blank_at(p, end) == 0 && *p != 0xC2 && !(*p == 0xE2 && n == 3);
			if (letter)
			{
				memcpy(put, p, n);
				put += n;
			}
		}
		if (!letter)
		{
			for (int i = 0; put > word && forms[i] != NULL; i++)
				if (strlen(forms[i]) == put - word && memcmp(forms[i], word, put - word) == 0)
					put = word;
			word = put;
		}
		p += n;
		if (n == 0)
			break;
	}
	if (put == VARDATA(result))
	{
		pfree(result);
		return crm_xlsx_sheet_key(fcinfo);
	}
	SET_VARSIZE(result, put - (char *) result);
	PG_RETURN_TEXT_P(result);
}
