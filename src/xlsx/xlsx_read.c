/*-------------------------------------------------------------------------
 *
 * xlsx_read.c
 *	  Sheets that people send: bytes in, cells and rows out.
 *
 * An .xlsx is a zip of XML.  libzip hands out the bytes of one part at a time,
 * libxml2's reader walks them as a stream, so a sheet of a million rows needs
 * memory for one row and for the workbook's shared strings only.  A CSV is read
 * by sheet_csv.c into the same rows.
 *
 * What the file says of itself is never trusted: unpacked bytes are counted
 * while they come, with a limit on their number and on their ratio to the
 * packed ones; names of parts are never used as paths; a document type is
 * refused, so no entity is ever expanded and nothing is fetched; rows, columns,
 * styles, strings and merged ranges are bounded.
 *
 * The archive and the reader belong to a memory context whose reset callback
 * gives them back, so no error leaks.  Nothing is raised from inside a frame of
 * libzip or libxml2: the only callback that they call (part_read) notes what is
 * wrong and returns -1; it is raised when the library has returned.
 *
 * It must never evaluate a formula, follow a link or open a file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>

#include <libxml/xmlreader.h>
#include <zip.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "xlsx/sheet.h"

#define MAX_FILE (512 * 1024 * 1024)
#define MAX_UNPACKED (INT64CONST(4) * 1024 * 1024 * 1024)	/* of all parts that are read */
#define MAX_RATIO 200			/* unpacked to packed, once FREE_BYTES have come */
#define FREE_BYTES (INT64CONST(4) * 1024 * 1024)
#define MAX_ENTRIES 20000
#define MAX_SHEETS 1024
#define MAX_STRINGS 8000000
#define MAX_STRING_BYTES (INT64CONST(512) * 1024 * 1024)
#define MAX_STYLES 65536
#define MAX_MERGES 100000
#define MAX_TEXT 32767			/* signs in a cell, by the format; bytes here are four times that */
#define MAX_DEPTH 64

/* One sheet of the workbook. */
typedef struct Worksheet
{
	char	   *name;
	char	   *id;				/* of its relationship */
	char	   *part;			/* name in the archive; NULL: no such part */
	bool		hidden;
} Worksheet;

/* A range whose cells are one. */
typedef struct Merge
{
	int			top,
				left,
				bottom,
				right;
	char	   *value;			/* of its first cell, once that has come */
	char		kind;
	char		range[40];
} Merge;

/* The file and all that must be given back with it. */
typedef struct Workbook
{
	MemoryContextCallback callback;
	zip_source_t *source;		/* ours until the archive took it */
	zip_t	   *archive;
	zip_file_t *part;
	xmlTextReaderPtr xml;

	const char *bytes;			/* the file */
	int64		nbytes;
	int64		unpacked;		/* of all parts so far */
	int64		part_bytes;		/* of this one */
	int64		part_packed;	/* what the archive says that it takes */
	const char *part_name;
	int			trouble;		/* an SQLSTATE that part_read noted; 0: none */
	char		words[200];		/* libxml2's first complaint */
	int			line;

	bool		from_1904;
	int			nsheets;
	Worksheet  *sheets;
	int			nstrings;
	int64	   *offsets;		/* of the shared strings in pool */
	char	   *pool;
	int64		pool_len;
	int64		pool_room;
	int			nstyles;
	char	   *styles;			/* of each cell format: DATE, TIME or 0 */
	int			nmerges;
	Merge	   *merges;
} Workbook;

enum
{
	STYLE_PLAIN = 0,
	STYLE_DATE = 1,				/* shows a day, or a day and a time */
	STYLE_TIME = 2				/* shows a time only */
};

PG_FUNCTION_INFO_V1(crm_xlsx_sheet_address);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_list);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_rows);
PG_FUNCTION_INFO_V1(crm_xlsx_sheet_cells);

static void workbook_release(void *arg);
static Workbook *workbook_open(const char *bytes, int64 nbytes);
static void part_open(Workbook *book, const char *name, bool xml);
static bool part_exists(Workbook *book, const char *name);
static void part_close(Workbook *book);
static int	part_read(void *context, char *buffer, int len);
static int	part_close_callback(void *context);
static void complain(void *arg, const char *message, xmlParserSeverities severity, xmlTextReaderLocatorPtr where);
static bool next_node(Workbook *book);
static void part_failed(Workbook *book) pg_attribute_noreturn();
static void broken(const char *part, const char *why) pg_attribute_noreturn();
static void too_much(const char *what, const char *hint) pg_attribute_noreturn();
static void not_a_workbook(const char *why, const char *hint) pg_attribute_noreturn();
static void read_structure(Workbook *book);
static void read_strings(Workbook *book, const char *part);
static void read_styles(Workbook *book, const char *part);
static void find_merges(Workbook *book, const char *part);
static void read_sheet(Workbook *book, Worksheet *sheet, SheetSink *sink, bool fill);

/* ---- what is in hand --------------------------------------------------- */

static void
workbook_release(void *arg)
{
	Workbook   *book = arg;

	if (book->xml != NULL)
		xmlFreeTextReader(book->xml);
	book->xml = NULL;
	if (book->part != NULL)
		zip_fclose(book->part);
	book->part = NULL;
	if (book->archive != NULL)
		zip_discard(book->archive);
	book->archive = NULL;
	if (book->source != NULL)
		zip_source_free(book->source);
	book->source = NULL;
}

static void
not_a_workbook(const char *why, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the file is no workbook: %s", why),
			 errhint("%s", hint)));
}

static void
broken(const char *part, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("the workbook is broken at \"%s\": %s", part, why),
			 errhint("Open it in a spreadsheet program, save it as .xlsx and give that.")));
}

static void
too_much(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("the workbook is refused: %s", what),
			 errhint("%s", hint)));
}

static Workbook *
workbook_open(const char *bytes, int64 nbytes)
{
	Workbook   *book = palloc0(sizeof(Workbook));
	zip_error_t error;

	if (nbytes >= 8 && memcmp(bytes, "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", 8) == 0)
		not_a_workbook("it is an old Excel file (.xls) or is locked by a password",
					   "Open it in Excel, take the password off and save it as .xlsx or CSV.");
	book->bytes = bytes;
	book->nbytes = nbytes;
	book->callback.func = workbook_release;
	book->callback.arg = book;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &book->callback);
	zip_error_init(&error);
	book->source = zip_source_buffer_create(bytes, nbytes, 0, &error);
	if (book->source == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory for a workbook")));
	book->archive = zip_open_from_source(book->source, ZIP_RDONLY, &error);
	if (book->archive == NULL)
	{
		char		words[200];

		strlcpy(words, zip_error_strerror(&error), sizeof(words));
		zip_error_fini(&error);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
				 errmsg("the workbook is broken: %s", words),
				 errhint("It is a zip file that is not whole: fetch it again, or save it anew as .xlsx.")));
	}
	book->source = NULL;		/* the archive frees it */
	zip_error_fini(&error);
	if (zip_get_num_entries(book->archive, 0) > MAX_ENTRIES)
		too_much(psprintf("its zip has more than %d entries", MAX_ENTRIES), "Save it anew in a spreadsheet program.");
	return book;
}

static bool
part_exists(Workbook *book, const char *name)
{
	return zip_name_locate(book->archive, name, ZIP_FL_NOCASE) >= 0;
}

static void
part_open(Workbook *book, const char *name, bool xml)
{
	zip_stat_t	about;
	zip_int64_t index = zip_name_locate(book->archive, name, 0);

	if (index < 0)
		index = zip_name_locate(book->archive, name, ZIP_FL_NOCASE);
	if (index < 0)
		broken(name, "it is not in the file");
	zip_stat_init(&about);
	if (zip_stat_index(book->archive, index, 0, &about) != 0)
		broken(name, zip_error_strerror(zip_get_error(book->archive)));
	book->part_name = name;
	book->part_bytes = 0;
	book->part_packed = (about.valid & ZIP_STAT_COMP_SIZE) ? Min((int64) about.comp_size, book->nbytes) : book->nbytes;
	if (book->part_packed < 0)
		book->part_packed = book->nbytes;
	book->words[0] = '\0';
	book->part = zip_fopen_index(book->archive, index, 0);
	if (book->part == NULL)
		broken(name, zip_error_strerror(zip_get_error(book->archive)));
	if (!xml)
		return;
	/* never HUGE, never NOENT, never DTDLOAD: its own limits stand, nothing is expanded, nothing fetched */
	book->xml = xmlReaderForIO(part_read, part_close_callback, book, NULL, NULL, XML_PARSE_NONET | XML_PARSE_NOWARNING);
	if (book->xml == NULL)
	{
		if (book->trouble)
			part_failed(book);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("libxml2 could not start")));
	}
	xmlTextReaderSetErrorHandler(book->xml, complain, book);
}

static void
part_close(Workbook *book)
{
	if (book->xml != NULL)
		xmlFreeTextReader(book->xml);
	book->xml = NULL;
	if (book->part != NULL)
		zip_fclose(book->part);
	book->part = NULL;
}

/* Called by libxml2 and by find_merges(): raises nothing. */
static int
part_read(void *context, char *buffer, int len)
{
	Workbook   *book = context;
	zip_int64_t got;

	if (book->trouble)
		return -1;
	got = zip_fread(book->part, buffer, len);
	if (got < 0)
	{
		book->trouble = ERRCODE_INVALID_BINARY_REPRESENTATION;
		strlcpy(book->words, zip_file_strerror(book->part), sizeof(book->words));
		return -1;
	}
	book->part_bytes += got;
	book->unpacked += got;
	if (book->unpacked > MAX_UNPACKED ||
		(book->part_bytes > FREE_BYTES && book->part_bytes / MAX_RATIO > book->part_packed))
	{
		book->trouble = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		return -1;
	}
	return (int) got;
}

/* The part is closed by part_close(). */
static int
part_close_callback(void *context)
{
	return 0;
}

/* Raises what went wrong while a part was read. */
static void
part_failed(Workbook *book)
{
	int			trouble = book->trouble;

	book->trouble = 0;
	if (trouble == ERRCODE_PROGRAM_LIMIT_EXCEEDED)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the workbook is refused: \"%s\" unpacks to far more than a sheet does", book->part_name),
				 errdetail("It had given " INT64_FORMAT " bytes out of at most " INT64_FORMAT " packed ones when it was stopped; a part may give %d times its size, a workbook " INT64_FORMAT " bytes.",
						   book->part_bytes, book->part_packed, MAX_RATIO, MAX_UNPACKED),
				 errhint("Save the sheet as CSV if it is what it should be.")));
	if (trouble != 0)
		broken(book->part_name, psprintf("it cannot be unpacked (%s)", book->words));
	broken(book->part_name, psprintf("%s (line %d)", book->words[0] ? book->words : "it is no XML or breaks off", book->line));
}

static void
complain(void *arg, const char *message, xmlParserSeverities severity, xmlTextReaderLocatorPtr where)
{
	Workbook   *book = arg;

	if (book->words[0] == '\0' && (severity == XML_PARSER_SEVERITY_ERROR || severity == XML_PARSER_SEVERITY_VALIDITY_ERROR))
	{
		strlcpy(book->words, message, sizeof(book->words));
		for (char *s = book->words; *s; s++)
			if ((unsigned char) *s < 0x20)
				*s = ' ';
		for (int n = strlen(book->words); n > 0 && book->words[n - 1] == ' '; n--)
			book->words[n - 1] = '\0';
		book->line = xmlTextReaderLocatorLineNumber(where);
	}
}

/* The next node of the part; false at its end. */
static bool
next_node(Workbook *book)
{
	static int	turn = 0;
	int			code;
	int			kind;

	if (++turn % 1000 == 0)
		CHECK_FOR_INTERRUPTS();
	code = xmlTextReaderRead(book->xml);
	if (code < 0 || book->trouble)
		part_failed(book);
	if (code == 0)
		return false;
	kind = xmlTextReaderNodeType(book->xml);
	if (kind == XML_READER_TYPE_DOCUMENT_TYPE || kind == XML_READER_TYPE_ENTITY_REFERENCE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_XML_DOCUMENT),
				 errmsg("the workbook is refused: \"%s\" has a document type or entities of its own", book->part_name),
				 errdetail("They could grow without end or name files; no spreadsheet program writes them."),
				 errhint("Open it in a spreadsheet program and save it anew.")));
	if (xmlTextReaderDepth(book->xml) > MAX_DEPTH)
		too_much(psprintf("\"%s\" is deeper than %d elements", book->part_name, MAX_DEPTH), "Save it anew in a spreadsheet program.");
	return true;
}

static inline bool
is_element(Workbook *book, const char *name)
{
	return xmlTextReaderNodeType(book->xml) == XML_READER_TYPE_ELEMENT &&
		strcmp((const char *) xmlTextReaderConstLocalName(book->xml), name) == 0;
}

static inline bool
is_end(Workbook *book, const char *name)
{
	return xmlTextReaderNodeType(book->xml) == XML_READER_TYPE_END_ELEMENT &&
		strcmp((const char *) xmlTextReaderConstLocalName(book->xml), name) == 0;
}

static inline bool
is_text(Workbook *book)
{
	int			kind = xmlTextReaderNodeType(book->xml);

	return kind == XML_READER_TYPE_TEXT || kind == XML_READER_TYPE_CDATA ||
		kind == XML_READER_TYPE_SIGNIFICANT_WHITESPACE || kind == XML_READER_TYPE_WHITESPACE;
}

/* An attribute by its local name, copied into the current context; NULL: it has none. */
static char *
attribute(Workbook *book, const char *name)
{
	char	   *value = NULL;
	int			more = xmlTextReaderMoveToFirstAttribute(book->xml);

	while (more == 1)
	{
		if (strcmp((const char *) xmlTextReaderConstLocalName(book->xml), name) == 0 && !xmlTextReaderIsNamespaceDecl(book->xml))
		{
			value = pstrdup((const char *) xmlTextReaderConstValue(book->xml));
			break;
		}
		more = xmlTextReaderMoveToNextAttribute(book->xml);
	}
	xmlTextReaderMoveToElement(book->xml);
	return value;
}

static bool
is_true(const char *value)
{
	return value != NULL && (strcmp(value, "1") == 0 || strcmp(value, "true") == 0 || strcmp(value, "on") == 0);
}

/* ---- structure --------------------------------------------------------- */

/* The name in the archive of a target of a relationship in the folder of "from". */
static char *
resolve(const char *from, const char *target)
{
	StringInfoData out;
	const char *slash = strrchr(from, '/');
	char	   *whole;
	char	   *piece;
	char	   *rest;

	initStringInfo(&out);
	if (target[0] == '/')
		whole = pstrdup(target + 1);
	else if (slash != NULL)
		whole = psprintf("%.*s/%s", (int) (slash - from), from, target);
	else
		whole = pstrdup(target);
	for (rest = whole; (piece = strsep(&rest, "/\\")) != NULL;)
	{
		if (strcmp(piece, "..") == 0)
		{
			char	   *last = strrchr(out.data, '/');

			out.len = last != NULL ? last - out.data : 0;
			out.data[out.len] = '\0';
		}
		else if (piece[0] != '\0' && strcmp(piece, ".") != 0)
			appendStringInfo(&out, "%s%s", out.len > 0 ? "/" : "", piece);
	}
	return out.data;
}

static bool
ends_with(const char *text, const char *end)
{
	size_t		n = strlen(text);
	size_t		m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

/* Reads the workbook's parts but for the sheets: names, strings, formats. */
static void
read_structure(Workbook *book)
{
	char	   *main_part = "xl/workbook.xml";
	char	   *strings = NULL;
	char	   *styles = NULL;
	char	   *slash;
	char	   *relations;

	if (part_exists(book, "_rels/.rels"))
	{
		part_open(book, "_rels/.rels", true);
		while (next_node(book))
			if (is_element(book, "Relationship"))
			{
				char	   *type = attribute(book, "Type");
				char	   *target = attribute(book, "Target");

				if (type != NULL && target != NULL && ends_with(type, "/officeDocument"))
					main_part = resolve("", target);
			}
		part_close(book);
	}
	if (!part_exists(book, main_part))
	{
		if (part_exists(book, "content.xml"))
			not_a_workbook("it is a sheet of OpenDocument (.ods)", "Save it as .xlsx or CSV.");
		if (part_exists(book, "xl/workbook.bin"))
			not_a_workbook("it is a binary Excel file (.xlsb)", "Save it as .xlsx or CSV.");
		not_a_workbook("it is a zip file of something else", "Give an .xlsx, or a CSV in UTF-8 or windows-1251.");
	}
	if (ends_with(main_part, ".bin"))
		not_a_workbook("it is a binary Excel file (.xlsb)", "Save it as .xlsx or CSV.");

	book->sheets = palloc(sizeof(Worksheet) * MAX_SHEETS);
	part_open(book, main_part, true);
	while (next_node(book))
	{
		if (is_element(book, "workbookPr"))
			book->from_1904 = is_true(attribute(book, "date1904"));
		else if (is_element(book, "sheet"))
		{
			Worksheet  *sheet;
			char	   *state = attribute(book, "state");

			if (book->nsheets == MAX_SHEETS)
				too_much(psprintf("it has more than %d sheets", MAX_SHEETS), "Give a workbook of fewer sheets.");
			sheet = &book->sheets[book->nsheets++];
			sheet->name = attribute(book, "name");
			sheet->id = attribute(book, "id");
			sheet->part = NULL;
			sheet->hidden = state != NULL && strcmp(state, "visible") != 0;
			if (sheet->name == NULL)
				sheet->name = psprintf("%d", book->nsheets);
		}
	}
	part_close(book);

	slash = strrchr(main_part, '/');
	relations = slash != NULL ? psprintf("%.*s/_rels/%s.rels", (int) (slash - main_part), main_part, slash + 1) : psprintf("_rels/%s.rels", main_part);
	if (part_exists(book, relations))
	{
		part_open(book, relations, true);
		while (next_node(book))
			if (is_element(book, "Relationship"))
			{
				char	   *id = attribute(book, "Id");
				char	   *type = attribute(book, "Type");
				char	   *target = attribute(book, "Target");
				char	   *mode = attribute(book, "TargetMode");

				if (id == NULL || type == NULL || target == NULL || (mode != NULL && strcmp(mode, "External") == 0))
					continue;
				if (ends_with(type, "/sharedStrings"))
					strings = resolve(main_part, target);
				else if (ends_with(type, "/styles"))
					styles = resolve(main_part, target);
				else if (ends_with(type, "/worksheet"))
					for (int i = 0; i < book->nsheets; i++)
						if (book->sheets[i].id != NULL && strcmp(book->sheets[i].id, id) == 0)
							book->sheets[i].part = resolve(main_part, target);
			}
		part_close(book);
	}
	if (strings != NULL && part_exists(book, strings))
		read_strings(book, strings);
	if (styles != NULL && part_exists(book, styles))
		read_styles(book, styles);
}

/* ---- strings ----------------------------------------------------------- */

/* Writes text of XML as the cell shows it: "_x0041_" is a sign by its number. */
static void
append_decoded(StringInfo out, const char *text)
{
	for (const char *p = text; *p != '\0';)
	{
		const char *next = strstr(p, "_x");

		if (next == NULL)
		{
			appendStringInfoString(out, p);
			return;
		}
		appendBinaryStringInfo(out, p, next - p);
		if (isxdigit((unsigned char) next[2]) && isxdigit((unsigned char) next[3]) && isxdigit((unsigned char) next[4]) &&
			isxdigit((unsigned char) next[5]) && next[6] == '_')
		{
			char		digits[5] = {next[2], next[3], next[4], next[5], '\0'};
			unsigned long code = strtoul(digits, NULL, 16);
			unsigned char utf8[5] = {0};

			/* a zero, a half of a pair and other signs that no text holds become a blank */
			if (code == 0 || (code >= 0xD800 && code <= 0xDFFF) || code >= 0xFFFE)
				code = ' ';
			unicode_to_utf8(code, utf8);
			appendStringInfoString(out, (char *) utf8);
			p = next + 7;
		}
		else
		{
			appendStringInfoString(out, "_x");
			p = next + 2;
		}
	}
}

/*
 * Gathers the texts <t> up to the end of the element that the reader stands
 * on, without those of phonetic runs.
 */
static void
gather_text(Workbook *book, StringInfo out)
{
	int			depth = xmlTextReaderDepth(book->xml);
	bool		phonetic = false;
	bool		text = false;
	int			start = out->len;

	if (xmlTextReaderIsEmptyElement(book->xml))
		return;
	while (next_node(book))
	{
		if (xmlTextReaderNodeType(book->xml) == XML_READER_TYPE_END_ELEMENT && xmlTextReaderDepth(book->xml) == depth)
			return;
		if (is_element(book, "rPh"))
			phonetic = !xmlTextReaderIsEmptyElement(book->xml);
		else if (is_end(book, "rPh"))
			phonetic = false;
		else if (is_element(book, "t"))
			text = !xmlTextReaderIsEmptyElement(book->xml);
		else if (is_end(book, "t"))
			text = false;
		else if (text && !phonetic && is_text(book))
			append_decoded(out, (const char *) xmlTextReaderConstValue(book->xml));
		if (out->len - start > MAX_TEXT * 4)
			too_much(psprintf("a text of \"%s\" is longer than a cell takes (%d signs)", book->part_name, MAX_TEXT),
					 "Shorten it, or save the sheet as CSV.");
	}
}

static void
read_strings(Workbook *book, const char *part)
{
	StringInfoData text;
	int			room = 1024;

	initStringInfo(&text);
	book->offsets = palloc(sizeof(int64) * room);
	book->pool_room = 65536;
	book->pool = palloc(book->pool_room);
	part_open(book, part, true);
	while (next_node(book))
	{
		if (!is_element(book, "si"))
			continue;
		resetStringInfo(&text);
		gather_text(book, &text);
		if (book->nstrings == MAX_STRINGS || book->pool_len + text.len + 1 > MAX_STRING_BYTES)
			too_much(psprintf("its shared texts are more than %d or longer than " INT64_FORMAT " bytes", MAX_STRINGS, MAX_STRING_BYTES),
					 "Save the sheet as CSV.");
		if (book->nstrings == room)
		{
			room *= 2;
			book->offsets = repalloc_huge(book->offsets, sizeof(int64) * room);
		}
		while (book->pool_len + text.len + 1 > book->pool_room)
		{
			book->pool_room *= 2;
			book->pool = repalloc_huge(book->pool, book->pool_room);
		}
		book->offsets[book->nstrings++] = book->pool_len;
		memcpy(book->pool + book->pool_len, text.data, text.len + 1);
		book->pool_len += text.len + 1;
	}
	part_close(book);
	pfree(text.data);
}

/* ---- formats ----------------------------------------------------------- */

/* Whether a number format shows a day or a time. */
static char
format_kind(const char *code)
{
	bool		day = false;
	bool		time = false;
	bool		month = false;

	for (const char *p = code; *p != '\0' && *p != ';'; p++)
	{
		switch (*p)
		{
			case '"':
				for (p++; *p != '\0' && *p != '"'; p++)
					;
				if (*p == '\0')
					p--;
				break;
			case '\\':
			case '_':
			case '*':
				if (p[1] != '\0')
					p++;
				break;
			case '[':
				/* [h], [mm] and [ss] count hours; colours, conditions and languages show nothing */
				if (strchr("hHmMsS", p[1]) != NULL && p[1] != '\0')
				{
					const char *q = p + 1;

					while (*q == p[1])
						q++;
					if (*q == ']')
						time = true;
				}
				while (*p != '\0' && *p != ']')
					p++;
				if (*p == '\0')
					p--;
				break;
			case 'y':
			case 'Y':
			case 'd':
			case 'D':
				day = true;
				break;
			case 'h':
			case 'H':
			case 's':
			case 'S':
				time = true;
				break;
			case 'm':
			case 'M':
				month = true;
				break;
			case 'G':
			case 'g':
				if (pg_strncasecmp(p, "general", 7) == 0)
					return STYLE_PLAIN;
				break;
			default:
				break;
		}
	}
	if (day || (month && !time))
		return STYLE_DATE;
	return time ? STYLE_TIME : STYLE_PLAIN;
}

static char
builtin_kind(int id)
{
	if ((id >= 14 && id <= 17) || id == 22 || (id >= 27 && id <= 31) || id == 36 || (id >= 50 && id <= 58))
		return STYLE_DATE;
	if ((id >= 18 && id <= 21) || (id >= 32 && id <= 35) || (id >= 45 && id <= 47))
		return STYLE_TIME;
	return STYLE_PLAIN;
}

static void
read_styles(Workbook *book, const char *part)
{
	struct
	{
		int			id;
		char		kind;
	}		   *own = palloc(sizeof(*own) * MAX_STYLES);
	int			nown = 0;
	bool		within = false;

	book->styles = palloc(MAX_STYLES);
	part_open(book, part, true);
	while (next_node(book))
	{
		if (is_element(book, "numFmt") && nown < MAX_STYLES)
		{
			char	   *id = attribute(book, "numFmtId");
			char	   *code = attribute(book, "formatCode");

			if (id != NULL && code != NULL)
			{
				own[nown].id = atoi(id);
				own[nown++].kind = format_kind(code);
			}
		}
		else if (is_element(book, "cellXfs"))
			within = !xmlTextReaderIsEmptyElement(book->xml);
		else if (is_end(book, "cellXfs"))
			within = false;
		else if (within && is_element(book, "xf"))
		{
			char	   *id = attribute(book, "numFmtId");
			int			number = id != NULL ? atoi(id) : 0;
			char		kind = builtin_kind(number);

			for (int i = 0; i < nown; i++)
				if (own[i].id == number)
					kind = own[i].kind;
			if (book->nstyles == MAX_STYLES)
				too_much(psprintf("it has more than %d cell formats", MAX_STYLES), "Save the sheet as CSV.");
			book->styles[book->nstyles++] = kind;
		}
	}
	part_close(book);
	pfree(own);
}

/* ---- addresses --------------------------------------------------------- */

/* Reads "AB12"; either part may lack where its pointer is NULL. Returns where it ends, NULL: it is none. */
static const char *
read_address(const char *text, int *row, int *column)
{
	int64		number = 0;

	*column = 0;
	if (*text == '$')
		text++;
	for (; isalpha((unsigned char) *text); text++)
	{
		*column = *column * 26 + (pg_toupper((unsigned char) *text) - 'A' + 1);
		if (*column > SHEET_MAX_COLUMNS)
			return NULL;
	}
	if (*text == '$')
		text++;
	for (; isdigit((unsigned char) *text); text++)
	{
		number = number * 10 + (*text - '0');
		if (number > SHEET_MAX_ROWS)
			return NULL;
	}
	*row = (int) number;
	return *column > 0 && number > 0 ? text : NULL;
}

char *
crm_sheet_address(int row, int column)
{
	char		letters[8];
	int			n = sizeof(letters) - 1;

	letters[n] = '\0';
	for (int c = column; c > 0; c = (c - 1) / 26)
		letters[--n] = 'A' + (c - 1) % 26;
	return psprintf("%s%d", letters + n, row);
}

/*
 * Finds the merged ranges, which stand behind the rows: the bytes are unpacked
 * once more and searched, which costs a tenth of parsing them.
 */
static void
find_merges(Workbook *book, const char *part)
{
	static const char mark[] = "mergeCell ";
	char	   *buffer = palloc(65536 + 512);
	int			have = 0;
	int			got;

	part_open(book, part, false);
	do
	{
		char	   *end;
		char	   *at = buffer;
		char	   *found;
		char	   *keep;

		CHECK_FOR_INTERRUPTS();
		got = part_read(book, buffer + have, 65536);
		if (got < 0)
			part_failed(book);
		end = buffer + have + got;
		*end = '\0';
		/* what may break off at the end of the piece waits for the next one */
		keep = got > 0 ? end - Min(200, end - buffer) : end;
		while ((found = memmem(at, end - at, mark, sizeof(mark) - 1)) != NULL && found < keep)
		{
			char	   *ref = found + sizeof(mark) - 1;
			char	   *close = memchr(ref, '>', end - ref);
			const char *text;
			Merge		merge = {0};

			at = ref;
			if (close == NULL)
				continue;
			while (ref < close && strncmp(ref, "ref=", 4) != 0)
				ref++;
			if (ref >= close)
				continue;
			text = read_address(ref + 5, &merge.top, &merge.left);
			if (text == NULL || *text != ':' || read_address(text + 1, &merge.bottom, &merge.right) == NULL ||
				merge.bottom < merge.top || merge.right < merge.left)
				continue;
			if (book->nmerges == MAX_MERGES)
				too_much(psprintf("the sheet has more than %d merged ranges", MAX_MERGES), "Save the sheet as CSV.");
			if (book->merges == NULL)
				book->merges = palloc(sizeof(Merge) * MAX_MERGES);
			snprintf(merge.range, sizeof(merge.range), "%s:%s", crm_sheet_address(merge.top, merge.left), crm_sheet_address(merge.bottom, merge.right));
			book->merges[book->nmerges++] = merge;
		}
		keep = Max(keep, at);
		have = end - keep;
		memmove(buffer, keep, have);
	} while (got > 0);
	part_close(book);
	pfree(buffer);
}

static int
by_top(const void *a, const void *b)
{
	const Merge *one = a;
	const Merge *other = b;

	return one->top != other->top ? (one->top < other->top ? -1 : 1) : one->left - other->left;
}

/* ---- values ------------------------------------------------------------ */

/* A day that Excel counts, as text; false: there is no such day. */
static bool
serial_text(Workbook *book, double serial, char style, StringInfo out)
{
	double		days = floor(serial);
	int64		ms = (int64) rint((serial - days) * 86400000.0);
	int			julian;
	int			year,
				month,
				day;

	/* 1462 days part the calendars; the later one counts the days before it below zero */
	if (!(serial >= (book->from_1904 && style == STYLE_DATE ? -1462 : 0)) || serial >= 2958466)	/* 10000-01-01 */
		return false;
	if (ms >= 86400000)
	{
		ms -= 86400000;
		days += 1;
	}
	/* times are shown to the second: what is a hair below one belongs to it */
	ms = (ms + 500) / 1000 * 1000;
	if (ms >= 86400000)
	{
		ms -= 86400000;
		days += 1;
	}
	if (style == STYLE_TIME)
	{
		/* hours beyond a day are a span, as [h]:mm shows them */
		appendStringInfo(out, "%02d:%02d:%02d", (int) (ms / 3600000 + days * 24), (int) (ms / 60000 % 60), (int) (ms / 1000 % 60));
		return true;
	}
	if (book->from_1904)
		julian = date2j(1904, 1, 1) + (int) days;
	else if (days >= 61)
		julian = date2j(1899, 12, 30) + (int) days;
	else if (days >= 1 && days < 60)
		julian = date2j(1899, 12, 31) + (int) days;
	else
		return false;			/* 0, and 60: the 29th of February 1900, which never was */
	j2date(julian, &year, &month, &day);
	if (year > 9999)
		return false;
	appendStringInfo(out, "%04d-%02d-%02d", year, month, day);
	if (ms > 0)
		appendStringInfo(out, " %02d:%02d:%02d", (int) (ms / 3600000), (int) (ms / 60000 % 60), (int) (ms / 1000 % 60));
	return true;
}

/* A number as a person would write it: fifteen digits, as Excel keeps them. */
static void
number_text(double number, StringInfo out)
{
	if (number == rint(number) && fabs(number) < 1e15)
		appendStringInfo(out, "%.0f", number == 0 ? 0.0 : number);
	else
		appendStringInfo(out, "%.15g", number);
}

/*
 * The text of a cell from what stands in it; sets the kind: t text, n number,
 * d day or time, b boolean, e error, f formula without a value, blank: empty.
 */
static char
cell_value(Workbook *book, const char *type, int style, const char *value, StringInfo text, bool formula, StringInfo out)
{
	char	   *end;
	double		number;

	if (strcmp(type, "s") == 0)
	{
		long		index = value != NULL ? strtol(value, &end, 10) : -1;

		if (value == NULL || *value == '\0')
			return ' ';
		if (*end != '\0' || index < 0 || index >= book->nstrings)
			broken(book->part_name, psprintf("a cell names the shared text \"%.20s\" of %d", value, book->nstrings));
		appendStringInfoString(out, book->pool + book->offsets[index]);
		return out->len > 0 ? 't' : ' ';
	}
	if (strcmp(type, "inlineStr") == 0)
	{
		appendBinaryStringInfo(out, text->data, text->len);
		return out->len > 0 ? 't' : ' ';
	}
	if (value == NULL || *value == '\0')
		return formula && strcmp(type, "str") != 0 ? 'f' : ' ';
	if (strcmp(type, "str") == 0)
	{
		append_decoded(out, value);
		return 't';
	}
	if (strcmp(type, "b") == 0)
	{
		appendStringInfoString(out, is_true(value) ? "true" : "false");
		return 'b';
	}
	if (strcmp(type, "e") == 0)
	{
		appendStringInfoString(out, value);
		return 'e';
	}
	if (strcmp(type, "d") == 0)
	{
		appendStringInfoString(out, value);
		for (int i = 0; i < out->len; i++)
			if (out->data[i] == 'T')
				out->data[i] = ' ';
		return 'd';
	}
	number = strtod(value, &end);
	if (end == value || *end != '\0' || !isfinite(number))
	{
		appendStringInfoString(out, value);
		return 't';
	}
	if (style > 0 && style < book->nstyles && book->styles[style] != STYLE_PLAIN &&
		serial_text(book, number, book->styles[style], out))
		return 'd';
	number_text(number, out);
	return 'n';
}

/* ---- rows -------------------------------------------------------------- */

/* Keeps a value for a column of the row. */
static void
row_put(SheetRow *row, int column, const char *value, int length, char kind, bool formula)
{
	if (column > row->room)
	{
		int			room = Max(column, Min(row->room * 2, SHEET_MAX_COLUMNS));

		row->values = repalloc(row->values, sizeof(char *) * room);
		row->kinds = repalloc(row->kinds, room + 1);
		row->formulas = repalloc(row->formulas, sizeof(bool) * room);
		row->room = room;
	}
	while (row->ncolumns < column)
	{
		row->values[row->ncolumns] = NULL;
		row->formulas[row->ncolumns] = false;
		row->kinds[row->ncolumns++] = ' ';
	}
	row->values[column - 1] = pnstrdup(value, length);
	row->kinds[column - 1] = kind;
	row->formulas[column - 1] = formula;
}

SheetRow *
crm_sheet_row_new(void)
{
	SheetRow   *row = palloc0(sizeof(SheetRow));

	row->room = 64;
	row->values = palloc(sizeof(char *) * row->room);
	row->kinds = palloc(row->room + 1);
	row->formulas = palloc(sizeof(bool) * row->room);
	return row;
}

void
crm_sheet_row_put(SheetRow *row, int column, const char *value, int length, char kind)
{
	row_put(row, column, value, length, kind, false);
}

static void
check_place(Workbook *book, int row, int column)
{
	if (row > SHEET_MAX_ROWS || column > SHEET_MAX_COLUMNS)
		too_much(psprintf("\"%s\" has a cell beyond row %d or column %d", book->part_name, SHEET_MAX_ROWS, SHEET_MAX_COLUMNS),
				 "Excel itself has no more; split the sheet.");
}

/* Fills merged cells of a row from the first cell of their range. first: ranges before it have ended. */
static void
fill_merged(Workbook *book, SheetRow *row, int *first, MemoryContext long_lived)
{
	while (*first < book->nmerges && book->merges[*first].bottom < row->number)
		(*first)++;
	for (int i = *first; i < book->nmerges && book->merges[i].top <= row->number; i++)
	{
		Merge	   *merge = &book->merges[i];

		if (merge->bottom < row->number)
			continue;
		if (merge->top == row->number && merge->left <= row->ncolumns && row->values[merge->left - 1] != NULL)
		{
			merge->value = MemoryContextStrdup(long_lived, row->values[merge->left - 1]);
			merge->kind = row->kinds[merge->left - 1];
		}
		if (merge->value == NULL)
			continue;
		for (int c = merge->left; c <= merge->right; c++)
			if (c > row->ncolumns || row->values[c - 1] == NULL)
				row_put(row, c, merge->value, strlen(merge->value), merge->kind, false);
	}
}

static void
read_sheet(Workbook *book, Worksheet *sheet, SheetSink *sink, bool fill)
{
	MemoryContext here = CurrentMemoryContext;
	MemoryContext cells = AllocSetContextCreate(CurrentMemoryContext, "crm sheet row", ALLOCSET_DEFAULT_SIZES);
	SheetRow   *row = crm_sheet_row_new();
	StringInfoData value;
	StringInfoData inline_text;
	StringInfoData out;
	int			last_row = 0;
	int			first_merge = 0;
	bool		more = true;

	if (sheet->part == NULL)
		not_a_workbook(psprintf("\"%s\" is a chart or has no cells", sheet->name), "Name a sheet with cells: SELECT * FROM crm.sheet_list(file).");
	find_merges(book, sheet->part);
	if (book->nmerges > 0)
		qsort(book->merges, book->nmerges, sizeof(Merge), by_top);
	initStringInfo(&value);
	initStringInfo(&inline_text);
	initStringInfo(&out);
	part_open(book, sheet->part, true);
	while (more && next_node(book))
	{
		char	   *number;
		int			column = 0;
		bool		empty;

		if (is_end(book, "sheetData"))
			break;
		if (!is_element(book, "row"))
			continue;
		MemoryContextSwitchTo(cells);
		number = attribute(book, "r");
		empty = xmlTextReaderIsEmptyElement(book->xml);
		row->ncolumns = 0;
		row->number = number != NULL ? (int) Min(strtol(number, NULL, 10), SHEET_MAX_ROWS + 1) : last_row + 1;
		check_place(book, row->number, 0);
		if (row->number <= last_row)
			broken(book->part_name, psprintf("row %d stands behind row %d", row->number, last_row));
		last_row = row->number;
		MemoryContextSwitchTo(here);
		while (!empty && next_node(book) && !is_end(book, "row"))
		{
			char	   *address;
			char	   *type;
			char	   *style;
			bool		formula = false;
			bool		has_value = false;
			int			of_row = row->number;
			int			depth;
			char		kind;

			if (!is_element(book, "c"))
				continue;
			MemoryContextSwitchTo(cells);
			address = attribute(book, "r");
			type = attribute(book, "t");
			style = attribute(book, "s");
			MemoryContextSwitchTo(here);
			if (address == NULL)
				column++;
			else
			{
				const char *end = read_address(address, &of_row, &column);

				if (end == NULL)
					check_place(book, SHEET_MAX_ROWS + 1, 0);
				if (*end != '\0' || of_row != row->number)
					broken(book->part_name, psprintf("the cell \"%.20s\" stands in row %d", address, row->number));
			}
			check_place(book, row->number, column);
			resetStringInfo(&value);
			resetStringInfo(&inline_text);
			resetStringInfo(&out);
			depth = xmlTextReaderDepth(book->xml);
			if (!xmlTextReaderIsEmptyElement(book->xml))
				while (next_node(book))
				{
					if (xmlTextReaderNodeType(book->xml) == XML_READER_TYPE_END_ELEMENT && xmlTextReaderDepth(book->xml) == depth)
						break;
					if (is_element(book, "f"))
						formula = true;
					else if (is_element(book, "is"))
						gather_text(book, &inline_text);
					else if (is_element(book, "v"))
						has_value = !xmlTextReaderIsEmptyElement(book->xml);
					else if (is_end(book, "v"))
						has_value = false;
					else if (has_value && is_text(book))
						appendStringInfoString(&value, (const char *) xmlTextReaderConstValue(book->xml));
					if (value.len > MAX_TEXT * 4)
						too_much(psprintf("the text of %s is longer than a cell takes (%d signs)", crm_sheet_address(row->number, column), MAX_TEXT),
								 "Shorten it, or save the sheet as CSV.");
				}
			kind = cell_value(book, type != NULL ? type : "n", style != NULL ? atoi(style) : 0, value.data, &inline_text, formula, &out);
			if (kind != ' ')
			{
				MemoryContextSwitchTo(cells);
				row_put(row, column, out.data, out.len, kind, formula);
				MemoryContextSwitchTo(here);
			}
		}
		if (fill && book->nmerges > 0)
		{
			MemoryContextSwitchTo(cells);
			fill_merged(book, row, &first_merge, here);
			MemoryContextSwitchTo(here);
		}
		if (row->ncolumns > 0)
			more = sink->row(sink, row);
		MemoryContextReset(cells);
	}
	part_close(book);
	MemoryContextDelete(cells);
}

/* ---- functions --------------------------------------------------------- */

/* Where rows go, and how many. */
typedef struct RowSink
{
	SheetSink	sink;			/* first */
	Workbook   *book;			/* NULL: a CSV */
	Tuplestorestate *store;
	TupleDesc	desc;
	int			from_row;
	int64		left;
	text	   *sheet;
	MemoryContext scratch;
	const char *encoding;
} RowSink;

static Tuplestorestate *
begin_rows(FunctionCallInfo fcinfo, TupleDesc *desc)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	*desc = result->setDesc;
	return result->setResult;
}

static text *
text_of(const char *utf8, int length)
{
	char	   *ours = pg_any_to_server(utf8, length, PG_UTF8);

	return cstring_to_text_with_len(ours, ours == utf8 ? length : strlen(ours));
}

/* One tuple a row: sheet, row, cells, kinds. */
static bool
put_row(SheetSink *sink, SheetRow *row)
{
	RowSink    *to = (RowSink *) sink;
	MemoryContext outer;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};
	Datum	   *cells;
	bool	   *empty;
	int			dims[1];
	int			lower[1] = {1};

	if (row->number < to->from_row)
		return true;
	outer = MemoryContextSwitchTo(to->scratch);
	cells = palloc(sizeof(Datum) * row->ncolumns);
	empty = palloc(sizeof(bool) * row->ncolumns);
	for (int i = 0; i < row->ncolumns; i++)
	{
		empty[i] = row->values[i] == NULL || row->kinds[i] == 'f';
		cells[i] = empty[i] ? (Datum) 0 : PointerGetDatum(text_of(row->values[i], strlen(row->values[i])));
	}
	dims[0] = row->ncolumns;
	values[0] = PointerGetDatum(to->sheet);
	values[1] = Int32GetDatum(row->number);
	values[2] = PointerGetDatum(construct_md_array(cells, empty, 1, dims, lower, TEXTOID, -1, false, TYPALIGN_INT));
	for (int i = 0; i < row->ncolumns; i++)
		if (row->formulas[i])
			row->kinds[i] = pg_toupper((unsigned char) row->kinds[i]);
	values[3] = PointerGetDatum(cstring_to_text_with_len(row->kinds, row->ncolumns));
	tuplestore_putvalues(to->store, to->desc, values, nulls);
	MemoryContextSwitchTo(outer);
	MemoryContextReset(to->scratch);
	return --to->left > 0;
}

/* One tuple a cell: sheet, row, column, cell, kind, value, formula, merged. */
static bool
put_cells(SheetSink *sink, SheetRow *row)
{
	RowSink    *to = (RowSink *) sink;
	static const char *const words[] = {"text", "number", "date", "boolean", "error", "formula"};

	for (int i = 0; i < row->ncolumns; i++)
	{
		MemoryContext outer;
		Datum		values[8];
		bool		nulls[8] = {false, false, false, false, false, false, false, true};
		const char *at;

		if (row->kinds[i] == ' ')
			continue;
		outer = MemoryContextSwitchTo(to->scratch);
		at = strchr("tndbef", row->kinds[i]);
		values[0] = PointerGetDatum(to->sheet);
		values[1] = Int32GetDatum(row->number);
		values[2] = Int32GetDatum(i + 1);
		values[3] = CStringGetTextDatum(crm_sheet_address(row->number, i + 1));
		values[4] = CStringGetTextDatum(words[at - "tndbef"]);
		nulls[5] = row->kinds[i] == 'f';
		values[5] = nulls[5] ? (Datum) 0 : PointerGetDatum(text_of(row->values[i], strlen(row->values[i])));
		values[6] = BoolGetDatum(row->formulas[i]);
		if (to->book != NULL)
			for (int m = 0; m < to->book->nmerges && to->book->merges[m].top <= row->number; m++)
				if (to->book->merges[m].top == row->number && to->book->merges[m].left == i + 1)
				{
					values[7] = CStringGetTextDatum(to->book->merges[m].range);
					nulls[7] = false;
				}
		tuplestore_putvalues(to->store, to->desc, values, nulls);
		MemoryContextSwitchTo(outer);
		MemoryContextReset(to->scratch);
	}
	return --to->left > 0;
}

static bool
is_zip(const char *bytes, int64 nbytes)
{
	return nbytes >= 4 && memcmp(bytes, "PK", 2) == 0 && (bytes[2] == 3 || bytes[2] == 5 || bytes[2] == 7);
}

static void
check_size(int64 nbytes)
{
	if (nbytes > MAX_FILE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a file of " INT64_FORMAT " bytes is too large", nbytes),
				 errhint("Give at most %d bytes; split the file.", MAX_FILE)));
	if (nbytes == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the file is empty"),
				 errhint("Give an .xlsx, or a CSV in UTF-8 or windows-1251.")));
}

/* The sheet of that name, or of that number from 1; NULL: the first that is not hidden. */
static Worksheet *
find_sheet(Workbook *book, const char *name)
{
	StringInfoData known;
	char	   *end;
	long		number;

	if (name == NULL)
	{
		for (int i = 0; i < book->nsheets; i++)
			if (!book->sheets[i].hidden && book->sheets[i].part != NULL)
				return &book->sheets[i];
		not_a_workbook("it has no sheet with cells that shows", "Name one: SELECT * FROM crm.sheet_list(file) lists them.");
	}
	for (int i = 0; i < book->nsheets; i++)
		if (strcmp(book->sheets[i].name, name) == 0)
			return &book->sheets[i];
	number = strtol(name, &end, 10);
	if (*end == '\0' && number >= 1 && number <= book->nsheets)
		return &book->sheets[number - 1];
	initStringInfo(&known);
	for (int i = 0; i < book->nsheets && known.len < 500; i++)
		appendStringInfo(&known, "%s\"%s\"", i > 0 ? ", " : "", book->sheets[i].name);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("the workbook has no sheet \"%s\"", name),
			 errdetail("It has %s.", known.data),
			 errhint("Give one of these names, or its number from 1.")));
	pg_unreachable();
}

static Datum
read_file(FunctionCallInfo fcinfo, bool (*take) (SheetSink *sink, SheetRow *row), bool fill)
{
	bytea	   *file = PG_GETARG_BYTEA_PP(0);
	const char *bytes = VARDATA_ANY(file);
	int64		nbytes = VARSIZE_ANY_EXHDR(file);
	char	   *name = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	RowSink		to = {0};
	MemoryContext work;
	MemoryContext outer;

	check_size(nbytes);
	to.store = begin_rows(fcinfo, &to.desc);
	to.from_row = PG_ARGISNULL(2) ? 1 : PG_GETARG_INT32(2);
	to.left = PG_ARGISNULL(3) ? PG_INT64_MAX : PG_GETARG_INT32(3);
	if (to.left <= 0)
		PG_RETURN_NULL();
	to.sink.row = take;
	work = AllocSetContextCreate(CurrentMemoryContext, "crm sheet", ALLOCSET_DEFAULT_SIZES);
	to.scratch = AllocSetContextCreate(work, "crm sheet tuple", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(work);
	if (is_zip(bytes, nbytes) || (nbytes >= 8 && memcmp(bytes, "\xD0\xCF\x11\xE0", 4) == 0))
	{
		Worksheet  *sheet;

		to.book = workbook_open(bytes, nbytes);
		read_structure(to.book);
		sheet = find_sheet(to.book, name != NULL ? pg_server_to_any(name, strlen(name), PG_UTF8) : NULL);
		to.sheet = text_of(sheet->name, strlen(sheet->name));
		read_sheet(to.book, sheet, &to.sink, fill);
		workbook_release(to.book);
	}
	else
	{
		to.sheet = cstring_to_text("CSV");
		crm_sheet_read_csv(bytes, nbytes, &to.sink);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(work);
	PG_RETURN_NULL();
}

/* sheet_rows(file bytea, sheet text, from_row integer, max_rows integer) */
Datum
crm_xlsx_sheet_rows(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
	{
		TupleDesc	desc;

		(void) begin_rows(fcinfo, &desc);
		PG_RETURN_NULL();
	}
	return read_file(fcinfo, put_row, true);
}

/* sheet_cells(file bytea, sheet text, from_row integer, max_rows integer) */
Datum
crm_xlsx_sheet_cells(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
	{
		TupleDesc	desc;

		(void) begin_rows(fcinfo, &desc);
		PG_RETURN_NULL();
	}
	return read_file(fcinfo, put_cells, false);
}

/* sheet_list(file bytea): number, name, hidden, format */
Datum
crm_xlsx_sheet_list(PG_FUNCTION_ARGS)
{
	Tuplestorestate *store;
	TupleDesc	desc;
	bytea	   *file;
	const char *bytes;
	int64		nbytes;
	MemoryContext work;
	MemoryContext outer;
	Datum		values[4];
	bool		nulls[4] = {false, false, false, false};

	store = begin_rows(fcinfo, &desc);
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	file = PG_GETARG_BYTEA_PP(0);
	bytes = VARDATA_ANY(file);
	nbytes = VARSIZE_ANY_EXHDR(file);
	check_size(nbytes);
	work = AllocSetContextCreate(CurrentMemoryContext, "crm sheet", ALLOCSET_DEFAULT_SIZES);
	outer = MemoryContextSwitchTo(work);
	if (is_zip(bytes, nbytes) || (nbytes >= 8 && memcmp(bytes, "\xD0\xCF\x11\xE0", 4) == 0))
	{
		Workbook   *book = workbook_open(bytes, nbytes);

		read_structure(book);
		for (int i = 0; i < book->nsheets; i++)
		{
			values[0] = Int32GetDatum(i + 1);
			values[1] = PointerGetDatum(text_of(book->sheets[i].name, strlen(book->sheets[i].name)));
			values[2] = BoolGetDatum(book->sheets[i].hidden);
			values[3] = CStringGetTextDatum(book->sheets[i].part == NULL ? "no cells" : book->from_1904 ? "xlsx, days from 1904" : "xlsx");
			tuplestore_putvalues(store, desc, values, nulls);
		}
		workbook_release(book);
	}
	else
	{
		values[0] = Int32GetDatum(1);
		values[1] = CStringGetTextDatum("CSV");
		values[2] = BoolGetDatum(false);
		values[3] = CStringGetTextDatum(crm_sheet_csv_format(bytes, nbytes));
		tuplestore_putvalues(store, desc, values, nulls);
	}
	MemoryContextSwitchTo(outer);
	MemoryContextDelete(work);
	PG_RETURN_NULL();
}

/* sheet_address(row integer, column integer) */
Datum
crm_xlsx_sheet_address(PG_FUNCTION_ARGS)
{
	int			row = PG_GETARG_INT32(0);
	int			column = PG_GETARG_INT32(1);

	if (row < 1 || column < 1 || column > SHEET_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("no cell stands at row %d, column %d", row, column),
				 errhint("Give a row from 1 and a column from 1 to %d.", SHEET_MAX_COLUMNS)));
	PG_RETURN_TEXT_P(cstring_to_text(crm_sheet_address(row, column)));
}
