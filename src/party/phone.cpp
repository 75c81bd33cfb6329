/*
 * phone.cpp
 *		Phone numbers: E.164 and the kind of line, by libphonenumber.
 *
 * The C++ library is reached through two functions that catch every exception
 * and hold all objects with destructors; the entry points around them hold
 * none, so an ereport never jumps over a C++ frame and an exception never
 * reaches the server.  The library opens no file and no connection: its tables
 * are compiled in, so answers depend on nothing but its version.
 *
 * There is no state of ours; the library's singleton belongs to the process.
 */
/*
 * The library's headers come first: the server's own define macros (LOG, ERROR,
 * FATAL, snprintf) that they cannot stand.
 */
#include <exception>
#include <new>
#include <string>

#include <phonenumbers/phonenumber.pb.h>
#include <phonenumbers/phonenumberutil.h>

extern "C"
{
#include "postgres.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;
}

using i18n::phonenumbers::PhoneNumber;
using i18n::phonenumbers::PhoneNumberUtil;

#define MAX_RAW		250			/* bytes of a raw number; the library's own bound */
#define E164_ROOM	24			/* "+", 15 digits and some air */

enum Outcome
{
	PHONE_OK,
	PHONE_REGION,
	PHONE_NOT_A_NUMBER,
	PHONE_COUNTRY,
	PHONE_TOO_SHORT,
	PHONE_TOO_LONG,
	PHONE_SEVERAL,
	PHONE_NO_SUCH_NUMBER,
	PHONE_NO_MEMORY,
	PHONE_BROKEN
};

static Outcome parse_number(const char *raw, size_t length, const char *region,
							char *e164) noexcept;
static const char *kind_of(const char *raw, size_t length, bool *no_memory) noexcept;

/* Is there a second number after a separator? */
static bool
holds_several(const std::string &raw)
{
	size_t		from = 0;
	int			numbers = 0;

	while (from <= raw.size())
	{
		size_t		stop = raw.find_first_of(",;/\n", from);
		int			digits = 0;

		if (stop == std::string::npos)
			stop = raw.size();
		for (size_t i = from; i < stop; i++)
			digits += raw[i] >= '0' && raw[i] <= '9';
		if (digits >= 7)
			numbers++;
		from = stop + 1;
	}
	return numbers > 1;
}

/*
 * Forms that people write and the library reads otherwise: a leading 00 is
 * "+" in most of the world but not the international prefix of Russia.
 */
static std::string
prepared(const char *raw, size_t length)
{
	std::string text(raw, length);
	size_t		first = text.find_first_not_of(" \t\r\n\v\f");

	if (first == std::string::npos)
		return std::string();
	text.erase(0, first);
	if (text.compare(0, 2, "00") == 0)
		text.replace(0, 2, "+");
	return text;
}

static Outcome
parse_number(const char *raw, size_t length, const char *region, char *e164) noexcept
{
	try
	{
		const PhoneNumberUtil *util = PhoneNumberUtil::GetInstance();
		std::string text = prepared(raw, length);
		std::string formatted;
		PhoneNumber number;

		if (util->GetCountryCodeForRegion(region) == 0)
			return PHONE_REGION;
		if (holds_several(text))
			return PHONE_SEVERAL;
		switch (util->Parse(text, region, &number))
		{
			case PhoneNumberUtil::NO_PARSING_ERROR:
				break;
			case PhoneNumberUtil::INVALID_COUNTRY_CODE_ERROR:
				return PHONE_COUNTRY;
			case PhoneNumberUtil::TOO_SHORT_NSN:
			case PhoneNumberUtil::TOO_SHORT_AFTER_IDD:
				return PHONE_TOO_SHORT;
			case PhoneNumberUtil::TOO_LONG_NSN:
				return PHONE_TOO_LONG;
			default:
				return PHONE_NOT_A_NUMBER;
		}
		switch (util->IsPossibleNumberWithReason(number))
		{
			case PhoneNumberUtil::TOO_SHORT:
			case PhoneNumberUtil::IS_POSSIBLE_LOCAL_ONLY:
				return PHONE_TOO_SHORT;
			case PhoneNumberUtil::TOO_LONG:
				return PHONE_TOO_LONG;
			case PhoneNumberUtil::INVALID_COUNTRY_CODE:
				return PHONE_COUNTRY;
			default:
				break;
		}
		if (!util->IsValidNumber(number))
			return PHONE_NO_SUCH_NUMBER;
		util->Format(number, PhoneNumberUtil::E164, &formatted);
		if (formatted.size() >= E164_ROOM)
			return PHONE_TOO_LONG;
		formatted.copy(e164, formatted.size());
		e164[formatted.size()] = '\0';
		return PHONE_OK;
	}
	catch (const std::bad_alloc &)
	{
		return PHONE_NO_MEMORY;
	}
	catch (...)
	{
		return PHONE_BROKEN;
	}
}

static const char *
kind_of(const char *raw, size_t length, bool *no_memory) noexcept
{
	*no_memory = false;
	try
	{
		const PhoneNumberUtil *util = PhoneNumberUtil::GetInstance();
		PhoneNumber number;

		if (util->Parse(std::string(raw, length), "ZZ", &number) !=
			PhoneNumberUtil::NO_PARSING_ERROR)
			return "invalid";
		switch (util->GetNumberType(number))
		{
			case PhoneNumberUtil::MOBILE:
				return "mobile";
			case PhoneNumberUtil::FIXED_LINE:
				return "fixed";
			case PhoneNumberUtil::FIXED_LINE_OR_MOBILE:
				return "fixed_or_mobile";
			case PhoneNumberUtil::TOLL_FREE:
				return "toll_free";
			case PhoneNumberUtil::PREMIUM_RATE:
				return "premium";
			case PhoneNumberUtil::VOIP:
				return "voip";
			case PhoneNumberUtil::PAGER:
				return "pager";
			case PhoneNumberUtil::UNKNOWN:
				return "invalid";
			default:
				return "other";
		}
	}
	catch (const std::bad_alloc &)
	{
		*no_memory = true;
		return "invalid";
	}
	catch (...)
	{
		return "invalid";
	}
}

extern "C"
{
PG_FUNCTION_INFO_V1(crm_party_phone_e164);
PG_FUNCTION_INFO_V1(crm_party_phone_kind);

static char *utf8_of(text *value, size_t *length);
static void refuse(Outcome outcome, text *raw, const char *region);

/*
 * crm.phone_e164(raw text, region text) -> text
 */
Datum
crm_party_phone_e164(PG_FUNCTION_ARGS)
{
	text	   *raw = PG_GETARG_TEXT_PP(0);
	char	   *region = text_to_cstring(PG_GETARG_TEXT_PP(1));
	size_t		length;
	char	   *utf8 = utf8_of(raw, &length);
	char		e164[E164_ROOM];
	Outcome		outcome;

	for (char *at = region; *at; at++)
		*at = pg_ascii_toupper((unsigned char) *at);
	outcome = length > MAX_RAW ? PHONE_TOO_LONG : parse_number(utf8, length, region, e164);
	if (outcome != PHONE_OK)
		refuse(outcome, raw, region);
	PG_RETURN_TEXT_P(cstring_to_text(e164));
}

/*
 * crm.phone_kind(e164 text) -> text
 */
Datum
crm_party_phone_kind(PG_FUNCTION_ARGS)
{
	text	   *raw = PG_GETARG_TEXT_PP(0);
	size_t		length;
	char	   *utf8 = utf8_of(raw, &length);
	bool		no_memory = false;
	const char *kind = "invalid";

	if (length <= MAX_RAW)
		kind = kind_of(utf8, length, &no_memory);
	if (no_memory)
		refuse(PHONE_NO_MEMORY, raw, "");
	PG_RETURN_TEXT_P(cstring_to_text(kind));
}

/* A text's bytes in UTF-8, without a closing zero. */
static char *
utf8_of(text *value, size_t *length)
{
	char	   *from = VARDATA_ANY(value);
	int			size = VARSIZE_ANY_EXHDR(value);
	char	   *utf8;

	*length = size;
	if (GetDatabaseEncoding() == PG_UTF8)
		return from;
	utf8 = pg_server_to_any(from, size, PG_UTF8);
	if (utf8 != from)
		*length = strlen(utf8);
	return utf8;
}

/* Raise the error of an outcome in words that a person can act upon. */
static void
refuse(Outcome outcome, text *raw, const char *region)
{
	const char *why;
	int			shown = pg_mbcliplen(VARDATA_ANY(raw), VARSIZE_ANY_EXHDR(raw), 60);

	switch (outcome)
	{
		case PHONE_NO_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("The library that reads phone numbers found no memory.")));
			return;
		case PHONE_BROKEN:
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("the library that reads phone numbers failed on \"%.*s\"",
							shown, VARDATA_ANY(raw)),
					 errhint("Write the number as \"+\", country code and digits.")));
			return;
		case PHONE_REGION:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown region of a phone number: \"%s\"", region),
					 errhint("Write the country's two letters of ISO 3166, for example RU.")));
			return;
		case PHONE_SEVERAL:
			why = "It holds more than one number.";
			break;
		case PHONE_TOO_SHORT:
			why = "It is too short.";
			break;
		case PHONE_TOO_LONG:
			why = "It is too long.";
			break;
		case PHONE_COUNTRY:
			why = "It begins with no known country code.";
			break;
		case PHONE_NO_SUCH_NUMBER:
			why = "No line has such a number.";
			break;
		default:
			why = "It is not written as a phone number.";
			break;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid phone number: \"%.*s\"", shown, VARDATA_ANY(raw)),
			 errdetail("%s", why),
			 errhint("Write one number, with the country code (+7 912 345-67-89) or as it is dialled within region %s.",
					 region)));
}
}
