/*
 * mime.c
 *		Builds a letter: text and html alternatives, attachments, headers.
 *
 * GMime makes the structure and the bodies.  Header values are encoded here,
 * since GMime 3.2 makes encoded words of more than 75 characters, chooses
 * charsets of its own and lets a text pass that looks like an encoded word.
 *
 * All checks and all of the server's allocations come before the first GMime
 * object and after the last one is gone, so that an error never jumps over a
 * foreign frame and no foreign object is lost.  glib ends the process where it finds
 * no memory, so the size of everything that is given to it is bounded first.
 *
 * The same arguments make the same octets: boundaries come from the
 * Message-ID, bodies are always quoted-printable or base64 (a boundary that
 * holds "=_" cannot occur in either), the date is given.  A letter that is
 * sent again is therefore the same letter.
 *
 * Nothing here opens a file or a connection.  No lock guards anything.
 */
#include "postgres.h"

#include <gmime/gmime.h>

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/md5.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* A finished letter; base64 makes 4 octets out of 3, and lines end in two. */
#define MAX_LETTER			(50 * 1024 * 1024)
#define MAX_PARTS_RAW		(MAX_LETTER / 78 * 56)
#define MAX_ATTACHMENTS		100
#define MAX_HEADERS			50
#define MAX_HEADER_VALUE	4000
#define MAX_FILE_NAME		255
#define LINE_WIDTH			76	/* characters of a header's line */
#define LONGEST_WORD		900 /* a word without blanks that still fits a line */
#define LAST_DATE			INT64CONST(253402300799)	/* the end of the year 9999 */

typedef struct Attachment
{
	char	   *name;			/* UTF-8, safe as a file's name */
	char	   *disposition;	/* the whole value of Content-Disposition, folded */
	char	   *ascii_name;
	char	   *type;			/* "application/pdf" */
	char	   *content;
	Size		length;
} Attachment;

typedef struct Header
{
	const char *name;
	char	   *value;			/* ASCII, folded, from the blank to the line end */
} Header;

/* "Name <spec>" or "spec", in UTF-8 */
typedef struct Address
{
	char	   *name;			/* NULL: none */
	char	   *spec;
} Address;

/* All that a letter is made of, checked, in UTF-8, with CR LF in bodies. */
typedef struct Letter
{
	char	   *text;
	char	   *html;			/* NULL: none */
	char		seed[33];		/* of the boundaries */
	int			headers;
	Header		header[MAX_HEADERS + 10];
	int			attachments;
	Attachment *attachment;
} Letter;

PG_FUNCTION_INFO_V1(crm_message_mime_build);
PG_FUNCTION_INFO_V1(crm_message_mail_address);

static void start_gmime(void);
static char *utf8_argument(Datum value);
static char *shown(char *value);
static char *checked_line(const char *what, char *value, Size most);
static char *checked_body(const char *what, char *value);
static Address checked_address(const char *what, char *value);
static char *checked_message_id(char *value);
static void add_header(Letter *letter, const char *name, char *value);
static char *date_value(pg_time_t date);
static char *folded(const char *name, const char *value);
static bool is_plain(const char *value);
static char *address_value(const char *name, const Address *address);
static void append_words(StringInfo to, const char *value, int column);
static bool take_headers(Letter *letter, ArrayType *headers);
static void take_attachments(Letter *letter, ArrayType *names, ArrayType *types,
							 ArrayType *contents);
static char *disposition_of(const char *name, char **ascii_name);
static void append_ascii(StringInfo to, pg_wchar c);
static bool build(const Letter *letter, GByteArray *into);
static GMimeObject *text_part(const char *subtype, const char *content);
static GMimeObject *attachment_part(const Attachment *attachment);
static void append_raw(GMimeObject *object, const char *name, const char *value);
static bool good_addr_spec(const char *spec, bool international);

/*
 * crm.mime_build(from_addr, to_addr, subject, body_text, body_html,
 *				  message_id, date, headers, attachment_names,
 *				  attachment_types, attachments) -> bytea
 */
Datum
crm_message_mime_build(PG_FUNCTION_ARGS)
{
	static const char *const required[] = {
		"sender", "recipient", "subject", "text", NULL, "Message-ID", "date"
	};
	Letter		letter;
	Address		from;
	Address		to;
	char	   *subject;
	char	   *message_id;
	pg_time_t	date;
	const char *problem = NULL;
	GByteArray *made;
	bool		built;
	bytea	   *result;

	for (int i = 0; i < (int) lengthof(required); i++)
		if (required[i] != NULL && PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a letter must have a %s", required[i]),
					 errhint("Only the html body, headers and attachments may be absent.")));

	memset(&letter, 0, sizeof(letter));
	from = checked_address("sender", utf8_argument(PG_GETARG_DATUM(0)));
	to = checked_address("recipient", utf8_argument(PG_GETARG_DATUM(1)));
	subject = checked_line("subject", utf8_argument(PG_GETARG_DATUM(2)), MAX_HEADER_VALUE);
	letter.text = checked_body("text", utf8_argument(PG_GETARG_DATUM(3)));
	if (!PG_ARGISNULL(4))
		letter.html = checked_body("html", utf8_argument(PG_GETARG_DATUM(4)));
	message_id = checked_message_id(utf8_argument(PG_GETARG_DATUM(5)));
	date = TIMESTAMP_NOT_FINITE(PG_GETARG_TIMESTAMPTZ(6)) ? -1 :
		timestamptz_to_time_t (PG_GETARG_TIMESTAMPTZ(6));

	if (date < 0 || date > LAST_DATE)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("a letter's date must lie between the years 1970 and 9999"),
				 errhint("Give the time at which the letter was written.")));
	if (!pg_md5_hash(message_id, strlen(message_id), letter.seed, &problem))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not make a boundary for a letter: %s", problem)));

	add_header(&letter, "Date", date_value(date));
	add_header(&letter, "From", address_value("From", &from));
	add_header(&letter, "To", address_value("To", &to));
	add_header(&letter, "Subject", folded("Subject", subject));
	add_header(&letter, "Message-ID", psprintf(" <%s>\n", message_id));
	if (PG_ARGISNULL(7) || !take_headers(&letter, PG_GETARG_ARRAYTYPE_P(7)))
	{
		add_header(&letter, "Auto-Submitted", pstrdup(" auto-generated\n"));
		add_header(&letter, "X-Auto-Response-Suppress", pstrdup(" All\n"));
	}
	add_header(&letter, "MIME-Version", pstrdup(" 1.0\n"));
	take_attachments(&letter,
					 PG_ARGISNULL(8) ? NULL : PG_GETARG_ARRAYTYPE_P(8),
					 PG_ARGISNULL(9) ? NULL : PG_GETARG_ARRAYTYPE_P(9),
					 PG_ARGISNULL(10) ? NULL : PG_GETARG_ARRAYTYPE_P(10));
	CHECK_FOR_INTERRUPTS();

	/* From here to g_byte_array_free nothing may raise an error. */
	start_gmime();
	made = g_byte_array_new();
	built = build(&letter, made);
	result = NULL;
	if (made->len > MAX_LETTER)
		built = false;
	if (built)
	{
		result = (bytea *) palloc_extended((Size) made->len + VARHDRSZ,
										   MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (result != NULL)
		{
			memcpy(VARDATA(result), made->data, made->len);
			SET_VARSIZE(result, made->len + VARHDRSZ);
		}
	}
	g_byte_array_free(made, TRUE);

	if (!built)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a letter would be larger than %d bytes", MAX_LETTER),
				 errhint("Send fewer or smaller attachments.")));
	if (result == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory"),
				 errdetail("A letter found no memory.")));
	PG_RETURN_BYTEA_P(result);
}

/*
 * crm.mail_address(address text) -> text
 *
 * The bare address of "Name <address>", as the envelope wants it: its domain
 * in ASCII.
 */
Datum
crm_message_mail_address(PG_FUNCTION_ARGS)
{
	Address		address = checked_address("address", utf8_argument(PG_GETARG_DATUM(0)));

	PG_RETURN_TEXT_P(cstring_to_text(address.spec));
}

static void
start_gmime(void)
{
	static bool started = false;

	if (!started)
	{
		g_mime_init();
		started = true;
	}
}

/* An argument of type text as a string in UTF-8. */
static char *
utf8_argument(Datum value)
{
	char	   *server = TextDatumGetCString(value);

	if (GetDatabaseEncoding() == PG_UTF8)
		return server;
	return pg_server_to_any(server, strlen(server), PG_UTF8);
}

/* The beginning of such a string for an error's words, in the database's encoding. */
static char *
shown(char *value)
{
	int			length = pg_encoding_mbcliplen(PG_UTF8, value, strlen(value), 120);

	value = pnstrdup(value, length);
	return pg_any_to_server(value, length, PG_UTF8);
}

/*
 * A value that will stand in a header or in the envelope: one line without
 * controls and without the line and paragraph separators of Unicode.
 */
static char *
checked_line(const char *what, char *value, Size most)
{
	Size		length = strlen(value);

	if (length > most)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a letter's %s is longer than %zu bytes", what, most),
				 errhint("Shorten it.")));
	for (const unsigned char *at = (unsigned char *) value; *at; at++)
		if (*at < ' ' || *at == 0x7F ||
			(at[0] == 0xE2 && at[1] == 0x80 && (at[2] == 0xA8 || at[2] == 0xA9)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("a letter's %s holds a line break or another control character", what),
					 errdetail("It is at byte %d.", (int) (at - (unsigned char *) value) + 1),
					 errhint("A header is one line: take the control characters out.")));
	return value;
}

/*
 * A body with CR LF at each line's end, whatever it had, and no other
 * control characters than tab.
 */
static char *
checked_body(const char *what, char *value)
{
	StringInfoData lines;

	if (strlen(value) > MAX_PARTS_RAW / 6)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a letter's %s is longer than %d bytes", what, MAX_PARTS_RAW / 6),
				 errhint("Send it as an attachment.")));
	initStringInfo(&lines);
	for (const char *at = value; *at; at++)
	{
		if (*at == '\r' || *at == '\n')
		{
			appendBinaryStringInfo(&lines, "\r\n", 2);
			if (at[0] == '\r' && at[1] == '\n')
				at++;
		}
		else if (((unsigned char) *at < ' ' && *at != '\t') || *at == 0x7F)
			appendStringInfoChar(&lines, ' ');
		else
			appendStringInfoCharMacro(&lines, *at);
	}
	if (lines.len < 2 || lines.data[lines.len - 1] != '\n')
		appendBinaryStringInfo(&lines, "\r\n", 2);
	return lines.data;
}

/*
 * One address as people write it: "name@example.org" or
 * "Name <name@example.org>", the name in quotes or not; quotes inside of a
 * name are a part of it, as in the names of companies.
 */
static Address
checked_address(const char *what, char *value)
{
	Address		address = {NULL, NULL};
	char	   *open;
	char	   *end;
	char	   *raw = pstrdup(checked_line(what, value, MAX_HEADER_VALUE));
	char		ascii[300];

	while (*value == ' ')
		value++;
	end = value + strlen(value);
	while (end > value && end[-1] == ' ')
		*--end = '\0';
	address.spec = value;
	open = strrchr(value, '<');
	if (open != NULL && end > open && end[-1] == '>')
	{
		char	   *name = value;
		char	   *stop = open;

		end[-1] = '\0';
		address.spec = open + 1;
		while (stop > name && stop[-1] == ' ')
			stop--;
		*stop = '\0';
		if (stop - name >= 2 && *name == '"' && stop[-1] == '"' && strchr(name + 1, '"') == stop - 1)
		{
			stop[-1] = '\0';
			name++;
		}
		if (*name)
			address.name = name;
	}

	/* The domain in punycode; the left part must be in ASCII already. */
	ascii[0] = '\0';
	if (good_addr_spec(address.spec, true))
	{
		InternetAddress *mailbox;
		const char *idn;

		start_gmime();
		mailbox = internet_address_mailbox_new(NULL, address.spec);
		idn = internet_address_mailbox_get_idn_addr(INTERNET_ADDRESS_MAILBOX(mailbox));
		if (idn != NULL && strlen(idn) < sizeof(ascii))
			strlcpy(ascii, idn, sizeof(ascii));
		g_object_unref(mailbox);
	}
	if (!good_addr_spec(ascii, false))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a letter's %s is not one mail address: \"%s\"", what,
						shown(raw)),
				 errhint("Write name@example.org or Name <name@example.org>.")));
	address.spec = pstrdup(ascii);
	return address;
}

/* "<left@right>" or "left@right" -> left@right */
static char *
checked_message_id(char *value)
{
	Size		length = strlen(checked_line("Message-ID", value, 250));
	int			ats = 0;

	if (length > 2 && value[0] == '<' && value[length - 1] == '>')
	{
		value[length - 1] = '\0';
		value++;
		length -= 2;
	}
	for (const char *at = value; *at; at++)
	{
		if (*at <= ' ' || *at >= 0x7F || strchr("<>()[]\\,;:\"", *at) != NULL)
			ats = -1000;
		else if (*at == '@')
			ats++;
	}
	if (ats != 1 || value[0] == '@' || value[length - 1] == '@')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid Message-ID: \"%s\"", shown(value)),
				 errhint("Write it as left@right in printable ASCII, for example 42.9f3c@crm.example.")));
	return value;
}

static void
add_header(Letter *letter, const char *name, char *value)
{
	Assert(letter->headers < (int) lengthof(letter->header));
	letter->header[letter->headers].name = name;
	letter->header[letter->headers].value = value;
	letter->headers++;
}

/* The value of Date: in UTC, in English whatever the locale is */
static char *
date_value(pg_time_t date)
{
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	struct pg_tm *tm = pg_gmtime(&date);

	return psprintf(" %.3s, %02d %.3s %d %02d:%02d:%02d +0000\n", days + tm->tm_wday * 3, tm->tm_mday,
					months + tm->tm_mon * 3, tm->tm_year + 1900, tm->tm_hour, tm->tm_min, tm->tm_sec);
}

/*
 * A text that may stand in a header as it is: printable ASCII, nothing that a
 * reader would decode, no word that is too long for a line.
 */
static bool
is_plain(const char *value)
{
	int			word = 0;

	for (const char *at = value; *at; at++)
	{
		word = *at == ' ' ? 0 : word + 1;
		if ((unsigned char) *at < ' ' || (unsigned char) *at >= 0x7F || word > LONGEST_WORD ||
			(at[0] == '=' && at[1] == '?'))
			return false;
	}
	return true;
}

/*
 * The value of an unstructured header, or of a list of ids: folded at blanks,
 * or as encoded words where it is not plain.
 */
static char *
folded(const char *name, const char *value)
{
	StringInfoData line;
	int			column = strlen(name) + 1;

	initStringInfo(&line);
	if (!is_plain(value))
		append_words(&line, value, column);
	else
	{
		appendStringInfoChar(&line, ' ');
		column++;
		while (*value)
		{
			int			blanks = strspn(value, " ");
			int			length = blanks + strcspn(value + blanks, " ");

			/* a line of blanks alone would not be a fold */
			if (column + length > LINE_WIDTH && blanks > 0 && length > blanks &&
				line.data[line.len - 1] != ' ')
			{
				appendStringInfoChar(&line, '\n');
				column = 0;
			}
			appendBinaryStringInfo(&line, value, length);
			column += length;
			value += length;
		}
	}
	appendStringInfoChar(&line, '\n');
	return line.data;
}

/* The value of From or To */
static char *
address_value(const char *name, const Address *address)
{
	StringInfoData line;

	initStringInfo(&line);
	if (address->name == NULL)
		appendStringInfo(&line, " %s\n", address->spec);
	else if (is_plain(address->name))
	{
		appendStringInfoString(&line, " \"");
		for (const char *at = address->name; *at; at++)
		{
			if (*at == '"' || *at == '\\')
				appendStringInfoChar(&line, '\\');
			appendStringInfoChar(&line, *at);
		}
		appendStringInfo(&line, "\"%s<%s>\n", line.len + strlen(address->spec) > LINE_WIDTH - 10 ? "\n " : " ",
						 address->spec);
	}
	else
	{
		append_words(&line, address->name, strlen(name) + 1);
		appendStringInfo(&line, "\n <%s>\n", address->spec);
	}
	return line.data;
}

/*
 * Encoded words of RFC 2047, each of whole characters, each on a line of its
 * own that holds at most LINE_WIDTH characters.
 */
static void
append_words(StringInfo to, const char *value, int column)
{
	static const char prefix[] = " =?UTF-8?B?";

	while (*value)
	{
		int			room = (LINE_WIDTH - column - (int) strlen(prefix) - 2) / 4 * 3;
		int			length = 0;
		char		base64[LINE_WIDTH + 1];
		int			written;

		while (value[length])
		{
			int			bytes = pg_utf_mblen((const unsigned char *) value + length);

			if (length + bytes > room)
				break;
			length += bytes;
		}
		if (length > 0)
		{
			written = pg_b64_encode(value, length, base64, sizeof(base64) - 1);
			Assert(written > 0);
			base64[Max(written, 0)] = '\0';
			appendStringInfo(to, "%s%s?=", prefix, base64);
			value += length;
		}
		if (*value)
			appendStringInfoChar(to, '\n');
		column = 0;
	}
}

/*
 * Headers of the caller, each "Name: value".  True if one of them says who
 * wrote the letter, a person or a robot.
 */
static bool
take_headers(Letter *letter, ArrayType *headers)
{
	static const char *const ours[] = {
		"From", "To", "Cc", "Bcc", "Sender", "Subject", "Date", "Message-ID",
		"MIME-Version", "Return-Path"
	};
	Datum	   *lines;
	bool	   *nulls;
	int			count;
	bool		marked = false;

	deconstruct_array(headers, TEXTOID, -1, false, TYPALIGN_INT, &lines, &nulls, &count);
	if (count > MAX_HEADERS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a letter has more than %d headers of its own", MAX_HEADERS),
				 errhint("Give only headers that a mail program reads.")));
	for (int i = 0; i < count; i++)
	{
		char	   *line;
		char	   *colon;
		bool		bad = false;

		if (nulls[i])
			continue;
		line = checked_line("header", utf8_argument(lines[i]), MAX_HEADER_VALUE);
		colon = strchr(line, ':');
		if (colon == NULL || colon == line || colon - line > 70)
			bad = true;
		for (char *at = line; !bad && at < colon; at++)
			bad = *at <= ' ' || *at >= 0x7F;
		if (bad)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid header of a letter: \"%s\"",
							shown(line)),
					 errhint("Write it as \"Name: value\".")));
		*colon = '\0';
		do
			colon++;
		while (*colon == ' ');

		for (int k = 0; k < (int) lengthof(ours); k++)
			bad |= pg_strcasecmp(line, ours[k]) == 0;
		if (bad || pg_strncasecmp(line, "Content-", 8) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the header \"%s\" of a letter is made by the server", line),
					 errhint("Give sender, recipient, subject, date and Message-ID as arguments.")));
		if (pg_strcasecmp(line, "Auto-Submitted") == 0)
			marked = true;
		if (pg_strcasecmp(line, "Reply-To") == 0)
		{
			Address		address = checked_address("Reply-To", colon);

			add_header(letter, line, address_value(line, &address));
		}
		else
			add_header(letter, line, folded(line, colon));
	}
	return marked;
}

/*
 * Attachments: three arrays of one length.
 */
static void
take_attachments(Letter *letter, ArrayType *names, ArrayType *types, ArrayType *contents)
{
	Datum	   *name = NULL;
	Datum	   *type = NULL;
	Datum	   *content = NULL;
	bool	   *name_null = NULL;
	bool	   *type_null = NULL;
	bool	   *content_null = NULL;
	int			names_count = 0;
	int			types_count = 0;
	int			count = 0;
	Size		total = strlen(letter->text) + (letter->html ? strlen(letter->html) : 0);

	if (names != NULL)
		deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &name, &name_null, &names_count);
	if (types != NULL)
		deconstruct_array(types, TEXTOID, -1, false, TYPALIGN_INT, &type, &type_null, &types_count);
	if (contents != NULL)
		deconstruct_array(contents, BYTEAOID, -1, false, TYPALIGN_INT, &content, &content_null, &count);
	if (names_count != count || types_count != count)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("a letter has %d names, %d types and %d contents of attachments",
						names_count, types_count, count),
				 errhint("Give the three arrays the same length.")));
	if (count > MAX_ATTACHMENTS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a letter has more than %d attachments", MAX_ATTACHMENTS),
				 errhint("Put them into fewer files.")));

	letter->attachment = palloc0(Max(count, 1) * sizeof(Attachment));
	for (int i = 0; i < count; i++)
	{
		Attachment *attachment = &letter->attachment[i];
		struct varlena *bytes;
		char	   *slash;

		if (name_null[i] || content_null[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("attachment %d of a letter has no %s", i + 1,
							name_null[i] ? "name" : "content"),
					 errhint("Each attachment needs a name and its bytes.")));
		attachment->name = checked_line("attachment's name", utf8_argument(name[i]), MAX_FILE_NAME);
		attachment->disposition = disposition_of(attachment->name, &attachment->ascii_name);

		attachment->type = type_null[i] ? pstrdup("application/octet-stream") :
			checked_line("attachment's type", utf8_argument(type[i]), 120);
		slash = strchr(attachment->type, '/');
		for (char *at = attachment->type; slash != NULL && *at; at++)
			if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
				  (*at >= '0' && *at <= '9') || strchr("+-._", *at) != NULL || at == slash))
				slash = NULL;
		if (slash == NULL || slash == attachment->type || slash[1] == '\0' ||
			pg_strncasecmp(attachment->type, "multipart/", 10) == 0 ||
			pg_strncasecmp(attachment->type, "message/", 8) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid type of an attachment: \"%s\"", shown(attachment->type)),
					 errhint("Write a media type such as application/pdf.")));

		bytes = PG_DETOAST_DATUM_PACKED(content[i]);
		attachment->content = VARDATA_ANY(bytes);
		attachment->length = VARSIZE_ANY_EXHDR(bytes);
		total += attachment->length;
		if (total > MAX_PARTS_RAW)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a letter would be larger than %d bytes", MAX_LETTER),
					 errhint("Send fewer or smaller attachments.")));
		CHECK_FOR_INTERRUPTS();
	}
	letter->attachments = count;
}

/*
 * The value of Content-Disposition for a file's name, folded: the exact name
 * by RFC 2231 first, then a plain name for programs that do not read it.
 * Characters that a file system or a reader's eye would be fooled by become
 * "_": separators of paths, quotes, a leading dot, marks of direction.
 */
static char *
disposition_of(const char *name, char **ascii_name)
{
	static const char hex[] = "0123456789ABCDEF";
	StringInfoData exact;
	StringInfoData plain;
	StringInfoData value;
	bool		is_ascii = true;
	const unsigned char *at = (const unsigned char *) name;

	initStringInfo(&exact);
	initStringInfo(&plain);
	while (*at)
	{
		int			bytes = pg_utf_mblen(at);
		pg_wchar	c = utf8_to_unicode(at);

		if ((c == '.' && exact.len == 0) || (c < 0x80 && strchr("/\\:*?\"<>|", c) != NULL) ||
			(c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) ||
			(c >= 0x2066 && c <= 0x2069) || c == 0xFEFF || (c >= 0x80 && c < 0xA0))
		{
			appendStringInfoChar(&exact, '_');
			appendStringInfoChar(&plain, '_');
		}
		else if (c < 0x80)
		{
			if (isalnum(c) || strchr("-._~", c) != NULL)
				appendStringInfoChar(&exact, c);
			else
				appendStringInfo(&exact, "%%%c%c", hex[c >> 4], hex[c & 15]);
			appendStringInfoChar(&plain, c);
		}
		else
		{
			is_ascii = false;
			for (int i = 0; i < bytes; i++)
				appendStringInfo(&exact, "%%%c%c", hex[at[i] >> 4], hex[at[i] & 15]);
			append_ascii(&plain, c);
		}
		at += bytes;
	}
	if (exact.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an attachment of a letter has an empty name"),
				 errhint("Give the file a name with an extension.")));

	initStringInfo(&value);
	appendStringInfoString(&value, " attachment;");
	if (!is_ascii)
		appendStringInfo(&value, "\n\tfilename*=UTF-8''%s;", exact.data);
	appendStringInfo(&value, "\n\tfilename=\"%s\"\n", plain.data);
	*ascii_name = plain.data;
	return value.data;
}

/* A character of a file's name in ASCII: Russian letters by sound. */
static void
append_ascii(StringInfo to, pg_wchar c)
{
	static const char *const sound[] = {	/* from U+0430 on */
		"a", "b", "v", "g", "d", "e", "zh", "z", "i", "y", "k", "l", "m", "n", "o", "p",
		"r", "s", "t", "u", "f", "kh", "ts", "ch", "sh", "shch", "", "y", "", "e", "yu", "ya"
	};

	if (c == 0x0451)
		appendStringInfoChar(to, 'e');
	else if (c == 0x0401)
		appendStringInfoChar(to, 'E');
	else if (c == 0x2116)
		appendStringInfoChar(to, 'N');
	else if (c == 0x00A0)
		appendStringInfoChar(to, ' ');
	else if (c == 0x2013 || c == 0x2014)
		appendStringInfoChar(to, '-');
	else if (c >= 0x0430 && c <= 0x044F)
		appendStringInfoString(to, sound[c - 0x0430]);
	else if (c >= 0x0410 && c <= 0x042F)
	{
		const char *small = sound[c - 0x0410];

		if (*small)
			appendStringInfo(to, "%c%s", pg_ascii_toupper((unsigned char) small[0]), small + 1);
	}
	else
		appendStringInfoChar(to, '_');
}

/*
 * The letter as octets.  Only glib's memory is used here and no error is
 * raised: the caller does that when every object is gone.
 */
static bool
build(const Letter *letter, GByteArray *into)
{
	GMimeMessage *message = g_mime_message_new(FALSE);
	GMimeObject *headers = GMIME_OBJECT(message);
	GMimeObject *body = text_part("plain", letter->text);
	GMimeFormatOptions *options = g_mime_format_options_clone(g_mime_format_options_get_default());
	GMimeStream *stream;
	bool		built;

	for (int i = 0; i < letter->headers; i++)
		append_raw(headers, letter->header[i].name, letter->header[i].value);

	if (letter->html != NULL)
	{
		GMimeMultipart *both = g_mime_multipart_new_with_subtype("alternative");
		GMimeObject *html = text_part("html", letter->html);
		char		boundary[64];

		snprintf(boundary, sizeof(boundary), "=_a_%s", letter->seed);
		g_mime_multipart_set_boundary(both, boundary);
		g_mime_multipart_add(both, body);
		g_mime_multipart_add(both, html);
		g_object_unref(body);
		g_object_unref(html);
		body = GMIME_OBJECT(both);
	}
	if (letter->attachments > 0)
	{
		GMimeMultipart *mixed = g_mime_multipart_new_with_subtype("mixed");
		char		boundary[64];

		snprintf(boundary, sizeof(boundary), "=_m_%s", letter->seed);
		g_mime_multipart_set_boundary(mixed, boundary);
		g_mime_multipart_add(mixed, body);
		g_object_unref(body);
		for (int i = 0; i < letter->attachments; i++)
		{
			GMimeObject *part = attachment_part(&letter->attachment[i]);

			g_mime_multipart_add(mixed, part);
			g_object_unref(part);
		}
		body = GMIME_OBJECT(mixed);
	}
	g_mime_message_set_mime_part(message, body);
	g_object_unref(body);

	g_mime_format_options_set_newline_format(options, GMIME_NEWLINE_FORMAT_DOS);
	g_mime_format_options_set_param_encoding_method(options, GMIME_PARAM_ENCODING_METHOD_RFC2231);
	stream = g_mime_stream_mem_new_with_byte_array(into);
	g_mime_stream_mem_set_owner(GMIME_STREAM_MEM(stream), FALSE);
	built = g_mime_object_write_to_stream(headers, options, stream) >= 0;
	g_object_unref(stream);
	g_mime_format_options_free(options);
	g_object_unref(message);
	return built;
}

/*
 * A body; base64 where most of it is outside of ASCII, else quoted-printable.
 */
static GMimeObject *
text_part(const char *subtype, const char *content)
{
	GMimePart  *part = g_mime_part_new_with_type("text", subtype);
	Size		length = strlen(content);
	Size		outside = 0;
	GMimeStream *stream = g_mime_stream_mem_new_with_buffer(content, length);
	GMimeDataWrapper *wrapper = g_mime_data_wrapper_new_with_stream(stream,
																	GMIME_CONTENT_ENCODING_DEFAULT);

	for (Size i = 0; i < length; i++)
		outside += (unsigned char) content[i] >= 0x80;
	g_mime_object_set_content_type_parameter(GMIME_OBJECT(part), "charset", "utf-8");
	g_mime_part_set_content_encoding(part, outside > length / 6 ? GMIME_CONTENT_ENCODING_BASE64 :
									 GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE);
	g_mime_part_set_content(part, wrapper);
	g_object_unref(wrapper);
	g_object_unref(stream);
	return GMIME_OBJECT(part);
}

static GMimeObject *
attachment_part(const Attachment *attachment)
{
	const char *slash = strchr(attachment->type, '/');
	char	   *type = g_strndup(attachment->type, slash - attachment->type);
	GMimePart  *part = g_mime_part_new_with_type(type, slash + 1);
	GMimeStream *stream = g_mime_stream_mem_new_with_buffer(attachment->content, attachment->length);
	GMimeDataWrapper *wrapper = g_mime_data_wrapper_new_with_stream(stream,
																	GMIME_CONTENT_ENCODING_DEFAULT);

	g_free(type);
	g_mime_object_set_content_type_parameter(GMIME_OBJECT(part), "name", attachment->ascii_name);
	append_raw(GMIME_OBJECT(part), "Content-Disposition", attachment->disposition);
	g_mime_part_set_content_encoding(part, GMIME_CONTENT_ENCODING_BASE64);
	g_mime_part_set_content(part, wrapper);
	g_object_unref(wrapper);
	g_object_unref(stream);
	return GMIME_OBJECT(part);
}

/* A header whose octets are chosen here and not by GMime. */
static void
append_raw(GMimeObject *object, const char *name, const char *value)
{
	GMimeHeaderList *list = g_mime_object_get_header_list(object);

	g_mime_header_list_append(list, name, "", NULL);
	g_mime_header_set_raw_value(g_mime_header_list_get_header_at(list, g_mime_header_list_get_count(list) - 1),
								value);
}

/*
 * left@right, with nothing that a command of SMTP reads; in printable ASCII,
 * or with a domain in UTF-8 where international is said.
 */
static bool
good_addr_spec(const char *spec, bool international)
{
	const char *at = strrchr(spec, '@');
	Size		length = strlen(spec);

	if (at == NULL || at == spec || at - spec > 64 || length > 254 || at[1] == '\0')
		return false;
	for (const char *c = spec; c < at; c++)
		if (*c <= ' ' || *c >= 0x7F || strchr("<>()[]\\,;:\"@", *c) != NULL)
			return false;
	for (const char *c = at + 1; *c; c++)
	{
		if (IS_HIGHBIT_SET(*c) ? !international :
			!(isalnum((unsigned char) *c) || *c == '-' || (*c == '.' && c[1] != '.')))
			return false;
	}
	return at[1] != '.' && at[1] != '-' && spec[length - 1] != '.' && spec[length - 1] != '-';
}
