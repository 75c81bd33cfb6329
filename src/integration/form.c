/*-------------------------------------------------------------------------
 *
 * form.c
 *	  Reads what a browser sends for a form: multipart/form-data (RFC 7578)
 *	  and application/x-www-form-urlencoded.
 *
 * The bytes are a stranger's.  Whatever they are, the outcome is parts or an
 * error 22023; nothing is read beyond the body, nothing is copied before its
 * length was checked, and time grows with the length of the body only.  A
 * name in one of the two ways to write it is taken as the WHATWG's form
 * submission writes it: %22, %0D and %0A stand for a quote and line ends.
 *
 * There is no state, so no lock guards anything.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "integration/integration.h"

#define FORM_BYTES		(16 * 1024 * 1024 + 4096)
#define FORM_PARTS		100
#define FORM_FIELDS		1000	/* of the other way to write it */
#define HEADER_BYTES	8192	/* of one part */
#define HEADER_LINES	20
#define BOUNDARY_BYTES	70
#define NAME_BYTES		200
#define FILE_NAME_BYTES 1000
#define MEDIA_BYTES		200

/* A stretch of the body; never ends with a zero. */
typedef struct Slice
{
	const char *at;
	int			length;
} Slice;

typedef struct Part
{
	bool		disposed;		/* Content-Disposition was read */
	char	   *name;			/* UTF-8, ends with a zero */
	char	   *file_name;		/* NULL: a plain field */
	char	   *media_type;		/* NULL: none given */
} Part;

PG_FUNCTION_INFO_V1(crm_integration_form_parts);
PG_FUNCTION_INFO_V1(crm_integration_form_text);

static void put_part(ReturnSetInfo *rsinfo, const Part *part, const char *content, int length);
static void fields(ReturnSetInfo *rsinfo, Slice body);
static void parts(ReturnSetInfo *rsinfo, Slice type, Slice body);
static const char *find_delimiter(Slice body, const char *from, const char *boundary, int length, bool first,
								  const char **after, bool *last);
static const char *read_headers(const char *at, const char *end, Part *part);
static void read_header(Slice line, Part *part);
static bool next_parameter(Slice *rest, Slice *name, char **value, int limit);
static char *name_of(const char *bytes, int length, int limit, const char *what);
static char *file_name_of(char *bytes);
static char *media_type_of(Slice value);
static Slice trimmed(const char *at, const char *end);
static bool is_word(Slice slice, const char *word);
static bool is_token_char(char c);
static void damaged(const char *detail) pg_attribute_noreturn();

/*
 * crm.form_parts(content_type text, body bytea)
 *		RETURNS TABLE (name text, file_name text, media_type text, content bytea)
 */
Datum
crm_integration_form_parts(PG_FUNCTION_ARGS)
{
	text	   *type = PG_GETARG_TEXT_PP(0);
	bytea	   *bytes = PG_GETARG_BYTEA_PP(1);
	Slice		header = trimmed(VARDATA_ANY(type), VARDATA_ANY(type) + VARSIZE_ANY_EXHDR(type));
	Slice		body = {VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)};
	const char *semicolon = memchr(header.at, ';', header.length);
	Slice		kind = trimmed(header.at, semicolon ? semicolon : header.at + header.length);

	InitMaterializedSRF(fcinfo, 0);
	if (body.length > FORM_BYTES)
		damaged("It is longer than 16 MB.");
	if (is_word(kind, "application/x-www-form-urlencoded"))
		fields((ReturnSetInfo *) fcinfo->resultinfo, body);
	else if (is_word(kind, "multipart/form-data"))
	{
		Slice		rest = {kind.at + kind.length, header.at + header.length - kind.at - kind.length};

		parts((ReturnSetInfo *) fcinfo->resultinfo, rest, body);
	}
	else
		damaged("Its content type is that of no form.");
	return (Datum) 0;
}

/*
 * crm.form_text(content bytea) -> text
 */
Datum
crm_integration_form_text(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);

	PG_RETURN_TEXT_P(crm_text_of_stranger(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)));
}

static void
put_part(ReturnSetInfo *rsinfo, const Part *part, const char *content, int length)
{
	Datum		values[4] = {0};
	bool		nulls[4] = {false, true, true, false};
	bytea	   *bytes = palloc(length + VARHDRSZ);

	SET_VARSIZE(bytes, length + VARHDRSZ);
	memcpy(VARDATA(bytes), content, length);
	values[0] = PointerGetDatum(crm_text_of_stranger(part->name, strlen(part->name)));
	if (part->file_name)
	{
		values[1] = PointerGetDatum(crm_text_of_stranger(part->file_name, strlen(part->file_name)));
		nulls[1] = false;
	}
	if (part->media_type)
	{
		values[2] = CStringGetTextDatum(part->media_type);
		nulls[2] = false;
	}
	values[3] = PointerGetDatum(bytes);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	pfree(bytes);
}

/* name=value&name=value */
static void
fields(ReturnSetInfo *rsinfo, Slice body)
{
	const char *at = body.at;
	const char *end = body.at + body.length;
	int			number = 0;

	while (at < end)
	{
		const char *stop = memchr(at, '&', end - at);
		const char *equals;
		Part		part = {0};
		char	   *name;
		char	   *value;
		int			name_length;
		int			value_length = 0;

		CHECK_FOR_INTERRUPTS();
		if (stop == NULL)
			stop = end;
		if (stop > at)
		{
			if (++number > FORM_FIELDS)
				damaged("It has more than 1000 fields.");
			equals = memchr(at, '=', stop - at);
			name = crm_form_decode(at, (equals ? equals : stop) - at, &name_length);
			value = equals ? crm_form_decode(equals + 1, stop - equals - 1, &value_length) : pstrdup("");
			part.name = name_of(name, name_length, NAME_BYTES, "name");
			put_part(rsinfo, &part, value, value_length);
			pfree(name);
			pfree(value);
			pfree(part.name);
		}
		at = stop + 1;
	}
}

static void
parts(ReturnSetInfo *rsinfo, Slice type, Slice body)
{
	const char *end = body.at + body.length;
	const char *at;
	char	   *boundary = NULL;
	int			length;
	int			number = 0;
	bool		last;
	Slice		name;
	char	   *value;

	while (next_parameter(&type, &name, &value, BOUNDARY_BYTES))
		if (is_word(name, "boundary"))
		{
			if (boundary)
				damaged("It has two boundaries.");
			boundary = value;
		}
	if (boundary == NULL || *boundary == '\0')
		damaged("Its content type has no boundary.");
	length = strlen(boundary);

	if (find_delimiter(body, body.at, boundary, length, true, &at, &last) == NULL)
		damaged("Its boundary is nowhere in it.");
	while (!last)
	{
		Part		part = {0};
		const char *content;
		const char *stop;

		CHECK_FOR_INTERRUPTS();
		if (++number > FORM_PARTS)
			damaged("It has more than 100 parts.");
		content = read_headers(at, end, &part);
		stop = find_delimiter(body, content, boundary, length, false, &at, &last);
		if (stop == NULL)
			damaged("It is cut short.");
		put_part(rsinfo, &part, content, stop - content);
		if (part.media_type)
			pfree(part.media_type);
		if (part.file_name)
			pfree(part.file_name);
		pfree(part.name);
	}
}

/*
 * The line end before the next delimiter; *after is what follows its line.
 * The first one may stand at the very start.  NULL: there is none.
 */
static const char *
find_delimiter(Slice body, const char *from, const char *boundary, int length, bool first,
			   const char **after, bool *last)
{
	const char *end = body.at + body.length;
	char		mark[BOUNDARY_BYTES + 5];
	const char *at = from;

	snprintf(mark, sizeof(mark), "\r\n--%s", boundary);
	if (!first)
		at -= 2;				/* an empty part's line end is its headers' */
	for (;;)
	{
		const char *found;
		const char *next;

		if (first && at == body.at && body.length >= length + 2 && memcmp(at, mark + 2, length + 2) == 0)
		{
			found = at;
			next = at + length + 2;
		}
		else
		{
			found = end > at ? memmem(at, end - at, mark, length + 4) : NULL;
			if (found == NULL)
				return NULL;
			next = found + length + 4;
		}
		*last = end - next >= 2 && next[0] == '-' && next[1] == '-';
		if (*last)
			next += 2;
		while (next < end && (*next == ' ' || *next == '\t'))
			next++;
		/* what goes on otherwise is a longer word and no delimiter */
		if ((*last && next == end) || (end - next >= 2 && next[0] == '\r' && next[1] == '\n'))
		{
			*after = next == end ? end : next + 2;
			return Max(found, from);
		}
		at = found + 1;
	}
}

/* Reads the headers of a part; returns where its content begins. */
static const char *
read_headers(const char *at, const char *end, Part *part)
{
	const char *limit = end - at > HEADER_BYTES ? at + HEADER_BYTES : end;

	for (int lines = 0;; lines++)
	{
		const char *stop = memmem(at, limit - at, "\r\n", 2);
		Slice		line;

		if (stop == NULL || lines > HEADER_LINES)
			damaged("A part has no end of headers, or too many of them.");
		line.at = at;
		line.length = stop - at;
		at = stop + 2;
		if (line.length == 0)
			break;
		read_header(line, part);
	}
	if (part->name == NULL)
		damaged("A part has no name.");
	return at;
}

static void
read_header(Slice line, Part *part)
{
	const char *colon = memchr(line.at, ':', line.length);
	Slice		name;
	Slice		value;

	for (int i = 0; i < line.length; i++)
		if ((unsigned char) line.at[i] < 0x20 && line.at[i] != '\t')
			damaged("A header has a control character.");
	if (colon == NULL || colon == line.at || !is_token_char(line.at[0]))
		damaged("A header has no name.");
	name = trimmed(line.at, colon);
	value = trimmed(colon + 1, line.at + line.length);

	if (is_word(name, "content-disposition"))
	{
		const char *semicolon = memchr(value.at, ';', value.length);
		Slice		rest;
		char	   *word;

		if (part->disposed)
			damaged("A part has two dispositions.");
		part->disposed = true;
		if (!is_word(trimmed(value.at, semicolon ? semicolon : value.at + value.length), "form-data"))
			damaged("A part is none of a form.");
		rest.at = semicolon ? semicolon : value.at + value.length;
		rest.length = value.at + value.length - rest.at;
		while (next_parameter(&rest, &name, &word, FILE_NAME_BYTES))
		{
			if (is_word(name, "name"))
			{
				if (part->name)
					damaged("A part has two names.");
				part->name = name_of(word, strlen(word), NAME_BYTES, "name");
			}
			else if (is_word(name, "filename"))
			{
				if (part->file_name)
					damaged("A part has two file names.");
				part->file_name = file_name_of(name_of(word, strlen(word), FILE_NAME_BYTES, "file name"));
			}
			pfree(word);
		}
	}
	else if (is_word(name, "content-type"))
	{
		if (part->media_type)
			damaged("A part has two types.");
		part->media_type = media_type_of(value);
	}
	else if (is_word(name, "content-transfer-encoding") &&
			 !is_word(value, "binary") && !is_word(value, "8bit") && !is_word(value, "7bit"))
		damaged("A part is encoded once more.");
}

/*
 * The next "; name=value" of a header; false at its end.  The value ends with
 * a zero; in quotes only \" is an escape, since file names hold backslashes.
 */
static bool
next_parameter(Slice *rest, Slice *name, char **value, int limit)
{
	const char *at = rest->at;
	const char *end = rest->at + rest->length;
	char	   *to;
	int			room = limit;

	while (at < end && (*at == ';' || *at == ' ' || *at == '\t'))
		at++;
	if (at == end)
		return false;
	name->at = at;
	while (at < end && is_token_char(*at))
		at++;
	name->length = at - name->at;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (name->length == 0 || at == end || *at != '=')
		damaged("A header's parameter has no name or no value.");
	at++;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;

	*value = to = palloc(limit + 1);
	if (at < end && *at == '"')
	{
		at++;
		for (;;)
		{
			if (at == end)
				damaged("A header's quote has no end.");
			if (*at == '"')
				break;
			if (*at == '\\' && at + 1 < end && at[1] == '"')
				at++;
			if (*at == '\0' || room-- == 0)
				damaged("A header's value is too long.");
			*to++ = *at++;
		}
		at++;
		while (at < end && (*at == ' ' || *at == '\t'))
			at++;
		if (at < end && *at != ';')
			damaged("Something follows a header's quote.");
	}
	else
		while (at < end && *at != ';' && *at != ' ' && *at != '\t')
		{
			if (*at == '\0' || *at == '"' || room-- == 0)
				damaged("A header's value is too long.");
			*to++ = *at++;
		}
	*to = '\0';
	rest->at = at;
	rest->length = end - at;
	return true;
}

/* A name as a copy of its own: valid UTF-8 without control characters. */
static char *
name_of(const char *bytes, int length, int limit, const char *what)
{
	char	   *result;
	char	   *to;

	if (length > limit || pg_encoding_verifymbstr(PG_UTF8, bytes, length) != length)
		damaged(psprintf("A %s is too long or no UTF-8.", what));
	result = to = palloc(length + 1);
	for (int i = 0; i < length; i++)
	{
		if (bytes[i] == '%' && length - i >= 3 && strncmp(bytes + i, "%22", 3) == 0)
		{
			*to++ = '"';
			i += 2;
		}
		else if (bytes[i] == '%' && length - i >= 3 &&
				 (pg_strncasecmp(bytes + i, "%0d", 3) == 0 || pg_strncasecmp(bytes + i, "%0a", 3) == 0))
			i += 2;
		else if ((unsigned char) bytes[i] >= 0x20 && bytes[i] != 0x7f)
			*to++ = bytes[i];
	}
	*to = '\0';
	return result;
}

/*
 * The last part of a path, without the marks that turn the direction of
 * writing: they make "gpj.exe" look like "exe.jpg".
 */
static char *
file_name_of(char *bytes)
{
	char	   *from = bytes;
	char	   *to = bytes;

	for (char *c = bytes; *c; c++)
		if (*c == '/' || *c == '\\')
			from = c + 1;
	for (const unsigned char *c = (const unsigned char *) from; *c; c++)
	{
		if (c[0] == 0xE2 &&
			((c[1] == 0x80 && (c[2] == 0x8E || c[2] == 0x8F || (c[2] >= 0xAA && c[2] <= 0xAE))) ||
			 (c[1] == 0x81 && c[2] >= 0xA6 && c[2] <= 0xA9)))
		{
			c += 2;
			continue;
		}
		*to++ = *c;
	}
	*to = '\0';
	return bytes;
}

/* "type/subtype" in small letters; what is none becomes that of any bytes. */
static char *
media_type_of(Slice value)
{
	const char *semicolon = memchr(value.at, ';', value.length);
	Slice		type = trimmed(value.at, semicolon ? semicolon : value.at + value.length);
	int			slashes = 0;
	char	   *result;

	for (int i = 0; i < type.length; i++)
	{
		if (type.at[i] == '/' && i > 0 && i < type.length - 1)
			slashes++;
		else if (!is_token_char(type.at[i]))
			return pstrdup("application/octet-stream");
	}
	if (slashes != 1 || type.length > MEDIA_BYTES)
		return pstrdup("application/octet-stream");
	result = pnstrdup(type.at, type.length);
	for (char *c = result; *c; c++)
		*c = pg_ascii_tolower((unsigned char) *c);
	return result;
}

static Slice
trimmed(const char *at, const char *end)
{
	Slice		result;

	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	result.at = at;
	result.length = end - at;
	return result;
}

static bool
is_word(Slice slice, const char *word)
{
	return slice.length == strlen(word) && pg_strncasecmp(slice.at, word, slice.length) == 0;
}

/* RFC 9110's token; a type's slash is none of it */
static bool
is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static void
damaged(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the form cannot be read"),
			 errdetail("%s", detail),
			 errhint("Send multipart/form-data or application/x-www-form-urlencoded, as a browser does.")));
}
