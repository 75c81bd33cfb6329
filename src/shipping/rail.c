/*
 * rail.c
 *		Check digits of railway codes: stations (ESR), cargo (ETSNG),
 *		organisations (OKPO).
 *
 * All three use one rule: the digits are weighted 1, 2, 3, … and summed modulo
 * 11; where the remainder is 10 the weights 3, 4, 5, … are taken instead (10 is
 * followed by 1), and where it is 10 again the digit is 0.  Codes stay text,
 * since leading zeros matter.
 *
 * This file must never look at a table: it is called a row at a time from sets
 * of many thousands.  There is no state, so no lock guards anything.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(crm_shipping_station_code_ok);
PG_FUNCTION_INFO_V1(crm_shipping_station_code);
PG_FUNCTION_INFO_V1(crm_shipping_cargo_code_ok);
PG_FUNCTION_INFO_V1(crm_shipping_okpo_ok);

static bool all_digits(text *code);
static char check_digit(const char *digits, int count);

/* Whether six digits end in the check digit of the first five. */
Datum
crm_shipping_station_code_ok(PG_FUNCTION_ARGS)
{
	text	   *code = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(code);

	PG_RETURN_BOOL(VARSIZE_ANY_EXHDR(code) == 6 && all_digits(code) && check_digit(s, 5) == s[5]);
}

/*
 * The six digits that a station code in one of its shorter forms stands for;
 * NULL for what is none.  Five digits may be the code without its check digit,
 * or the four of a station open to freight with theirs: the second is taken
 * where it fits, since one in eleven of the first looks like it only.
 */
Datum
crm_shipping_station_code(PG_FUNCTION_ARGS)
{
	text	   *code = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(code);
	int			length = VARSIZE_ANY_EXHDR(code);
	char		full[6];

	if (length < 4 || length > 6 || !all_digits(code))
		PG_RETURN_NULL();
	if (length == 6)
		PG_RETURN_TEXT_P(cstring_to_text_with_len(s, 6));
	memcpy(full, s, length);
	if (length == 4)
		full[4] = '0';
	else if (s[4] != '0')
	{
		full[4] = '0';
		if (check_digit(full, 5) != s[4])
			full[4] = s[4];
	}
	full[5] = check_digit(full, 5);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(full, 6));
}

/* As for stations: five digits and their check digit. */
Datum
crm_shipping_cargo_code_ok(PG_FUNCTION_ARGS)
{
	return crm_shipping_station_code_ok(fcinfo);
}

/* Eight or ten digits, the last the check digit of those before it. */
Datum
crm_shipping_okpo_ok(PG_FUNCTION_ARGS)
{
	text	   *code = PG_GETARG_TEXT_PP(0);
	const char *s = VARDATA_ANY(code);
	int			length = VARSIZE_ANY_EXHDR(code);

	PG_RETURN_BOOL((length == 8 || length == 10) && all_digits(code) && check_digit(s, length - 1) == s[length - 1]);
}

static bool
all_digits(text *code)
{
	const char *s = VARDATA_ANY(code);

	for (int i = 0; i < VARSIZE_ANY_EXHDR(code); i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return true;
}

static char
check_digit(const char *digits, int count)
{
	for (int shift = 0; shift <= 2; shift += 2)
	{
		int			sum = 0;

		for (int i = 0; i < count; i++)
			sum += (digits[i] - '0') * ((i + shift) % 10 + 1);
		if (sum % 11 < 10)
			return '0' + sum % 11;
	}
	return '0';
}
