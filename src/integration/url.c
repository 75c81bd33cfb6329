/*
 * url.c
 *		Percent-encoding for requests, and reading of query strings and forms.
 *
 * Encoding keeps the unreserved characters of RFC 3986 and writes every other
 * octet of the UTF-8 text as %XX, so that the result may stand anywhere in a
 * URL or in an application/x-www-form-urlencoded body, also inside a value
 * that is itself encoded once more.
 *
 * Reading is for bytes of strangers: it must never raise an error for what
 * they sent.  A damaged escape stands as it is, octets that are no UTF-8 and
 * NUL become U+FFFD.  There is no state, so no lock guards anything.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "integration/integration.h"

/* An octet outside of ASCII becomes three characters. */
#define MAX_ENCODED		(MaxAllocSize / 3 - VARHDRSZ)

PG_FUNCTION_INFO_V1(crm_integration_url_encode);
PG_FUNCTION_INFO_V1(crm_integration_form_value);

static int	hex_digit(char c);

/*
 * crm.url_encode(value text) -> text
 */
Datum
crm_integration_url_encode(PG_FUNCTION_ARGS)
{
	static const char hex[] = "0123456789ABCDEF";
	text	   *value = PG_GETARG_TEXT_PP(0);
	char	   *from = VARDATA_ANY(value);
	int			length = VARSIZE_ANY_EXHDR(value);
	text	   *result;
	char	   *to;

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *utf8 = pg_server_to_any(from, length, PG_UTF8);

		if (utf8 != from)
		{
			from = utf8;
			length = strlen(utf8);
		}
	}
	if ((Size) length > MAX_ENCODED)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a text of %d bytes is too long to be percent-encoded", length),
				 errhint("Send texts of that size as a request's body.")));

	result = (text *) palloc((Size) length * 3 + VARHDRSZ);
	to = VARDATA(result);
	for (int i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) from[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~')
			*to++ = c;
		else
		{
			*to++ = '%';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		}
		if ((i & 0xFFFF) == 0xFFFF)
			CHECK_FOR_INTERRUPTS();
	}
	SET_VARSIZE(result, to - (char *) result);
	PG_RETURN_TEXT_P(result);
}

/*
 * crm.form_value(form text, name text) -> text
 *
 * The first value of that name in a query string or a form's body; NULL where
 * the name is absent.  A name without "=" has the empty value.
 */
Datum
crm_integration_form_value(PG_FUNCTION_ARGS)
{
	text	   *form = PG_GETARG_TEXT_PP(0);
	text	   *name = PG_GETARG_TEXT_PP(1);
	char	   *at = VARDATA_ANY(form);
	char	   *end = at + VARSIZE_ANY_EXHDR(form);
	int			name_length = VARSIZE_ANY_EXHDR(name);

	if (at < end && *at == '?')
		at++;
	while (at < end)
	{
		char	   *stop = memchr(at, '&', end - at);
		char	   *equals;
		char	   *key;
		int			key_length;

		CHECK_FOR_INTERRUPTS();
		if (stop == NULL)
			stop = end;
		equals = memchr(at, '=', stop - at);
		key = crm_form_decode(at, (equals ? equals : stop) - at, &key_length);
		if (key_length == name_length && memcmp(key, VARDATA_ANY(name), name_length) == 0)
		{
			char	   *value;
			int			value_length;

			if (equals == NULL)
				PG_RETURN_TEXT_P(cstring_to_text_with_len("", 0));
			value = crm_form_decode(equals + 1, stop - equals - 1, &value_length);
			PG_RETURN_TEXT_P(crm_text_of_stranger(value, value_length));
		}
		pfree(key);
		at = stop + 1;
	}
	PG_RETURN_NULL();
}

/*
 * Undo the encoding of one name or value of a form: "+" is a space there.
 */
char *
crm_form_decode(const char *from, int length, int *decoded)
{
	char	   *result = palloc(length + 1);
	char	   *to = result;

	for (int i = 0; i < length; i++)
	{
		if (from[i] == '+')
			*to++ = ' ';
		else if (from[i] == '%' && i + 2 < length &&
				 hex_digit(from[i + 1]) >= 0 && hex_digit(from[i + 2]) >= 0)
		{
			*to++ = (char) (hex_digit(from[i + 1]) << 4 | hex_digit(from[i + 2]));
			i += 2;
		}
		else
			*to++ = from[i];
	}
	*to = '\0';
	*decoded = to - result;
	return result;
}

/*
 * Octets of a stranger as a text of this database: what is no UTF-8, and NUL,
 * becomes U+FFFD, and what the database's encoding lacks becomes "?".
 */
text *
crm_text_of_stranger(const char *bytes, int length)
{
	StringInfoData clean;
	const unsigned char *at = (const unsigned char *) bytes;
	const unsigned char *end = at + length;
	bool		utf8 = GetDatabaseEncoding() == PG_UTF8;

	initStringInfo(&clean);
	while (at < end)
	{
		int			size = pg_utf_mblen(at);

		if (*at != '\0' && size <= end - at && pg_utf8_islegal(at, size))
		{
			if (size == 1 || utf8)
				appendBinaryStringInfo(&clean, (const char *) at, size);
			else
				appendStringInfoChar(&clean, '?');
			at += size;
		}
		else
		{
			if (utf8)
				appendBinaryStringInfo(&clean, "\xEF\xBF\xBD", 3);
			else
				appendStringInfoChar(&clean, '?');
			at++;
		}
	}
	return cstring_to_text_with_len(clean.data, clean.len);
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}
