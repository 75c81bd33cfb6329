/*-------------------------------------------------------------------------
 *
 * sheet_csv.c
 *	  Text files of rows: what Excel and other CRMs export as CSV.
 *
 * The encoding is UTF-16 or UTF-8 by a mark at the start, else UTF-8 where the
 * whole file is valid, else windows-1251.  The delimiter is what "sep=" says,
 * else the one of ; , tab | that parts the first records most evenly.  Quotes
 * are doubled within quotes; a quoted text may hold line ends.  A record has a
 * number from 1, blank ones too, as Excel shows it.
 *
 * Nothing of a text is evaluated: "=1+1" stays these four signs.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "xlsx/sheet.h"

#define MAX_RECORDS 10000000
#define MAX_FIELD (1024 * 1024)
#define LOOK_RECORDS 20			/* for the delimiter */

/* A file made readable. */
typedef struct Csv
{
	const char *at;
	const char *end;
	const char *encoding;
	char		delimiter;
} Csv;

/* UTF-16 as UTF-8; signs that no text holds become blanks. */
static char *
from_utf16(const unsigned char *bytes, int64 nbytes, bool big, int64 *length)
{
	char	   *to = MemoryContextAllocHuge(CurrentMemoryContext, nbytes / 2 * 3 + 1);
	char	   *put = to;

	for (int64 i = 0; i + 1 < nbytes; i += 2)
	{
		uint32		code = big ? bytes[i] << 8 | bytes[i + 1] : bytes[i + 1] << 8 | bytes[i];

		if (i % 1048576 == 0)
			CHECK_FOR_INTERRUPTS();
		if (code >= 0xD800 && code <= 0xDBFF && i + 3 < nbytes)
		{
			uint32		low = big ? bytes[i + 2] << 8 | bytes[i + 3] : bytes[i + 3] << 8 | bytes[i + 2];

			if (low >= 0xDC00 && low <= 0xDFFF)
			{
				code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
				i += 2;
			}
		}
		if (code == 0 || (code >= 0xD800 && code <= 0xDFFF))
			code = ' ';
		unicode_to_utf8(code, (unsigned char *) put);
		put += pg_utf_mblen((unsigned char *) put);
	}
	*length = put - to;
	return to;
}

static void
make_readable(Csv *csv, const char *bytes, int64 nbytes)
{
	const unsigned char *u = (const unsigned char *) bytes;

	if (nbytes >= 2 && ((u[0] == 0xFF && u[1] == 0xFE) || (u[0] == 0xFE && u[1] == 0xFF)))
	{
		int64		length;

		csv->at = from_utf16(u + 2, nbytes - 2, u[0] == 0xFE, &length);
		csv->end = csv->at + length;
		csv->encoding = "UTF-16";
		return;
	}
	if (nbytes >= 3 && memcmp(bytes, "\xEF\xBB\xBF", 3) == 0)
	{
		bytes += 3;
		nbytes -= 3;
	}
	if (memchr(bytes, '\0', nbytes) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the file is neither a workbook nor text: it holds zero bytes"),
				 errhint("Give an .xlsx, or a CSV in UTF-8 or windows-1251.")));
	for (int64 i = 0; i < nbytes && (u[i] <= 0x20 || i < 3); i++)
		if (bytes[i] == '<')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("the file is a page (HTML or XML), whatever its name says"),
					 errhint("Open it in a spreadsheet program and save it as .xlsx, or export it as CSV.")));
	csv->encoding = "UTF-8";
	csv->at = bytes;
	csv->end = bytes + nbytes;
	if (!pg_verify_mbstr(PG_UTF8, bytes, nbytes, true))
	{
		csv->encoding = "windows-1251";
		pg_verify_mbstr(PG_WIN1251, bytes, nbytes, false);
		csv->at = (char *) pg_do_encoding_conversion((unsigned char *) bytes, nbytes, PG_WIN1251, PG_UTF8);
		csv->end = csv->at + strlen(csv->at);
	}
}

/*
 * Reads one field into out; sets what ended it: the delimiter, a line feed, or
 * zero at the end of the file.  quoted: it stood in quotes.
 */
static void
read_field(Csv *csv, char delimiter, StringInfo out, char *ended, bool *quoted, int record)
{
	const char *p = csv->at;

	resetStringInfo(out);
	*quoted = false;
	if (p < csv->end && *p == '"')
	{
		*quoted = true;
		p++;
		for (;;)
		{
			const char *quote = memchr(p, '"', csv->end - p);

			if (quote == NULL || quote - p > MAX_FIELD)
				ereport(ERROR,
						(errcode(quote == NULL ? ERRCODE_INVALID_TEXT_REPRESENTATION : ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("a quoted text of record %d of the file %s", record, quote == NULL ? "does not end" : "is longer than a megabyte"),
						 errhint("A quote within a quoted text is written twice: \"ООО \"\"Ромашка\"\"\".")));
			appendBinaryStringInfo(out, p, quote - p);
			p = quote + 1;
			if (p < csv->end && *p == '"')
			{
				appendStringInfoChar(out, '"');
				p++;
				continue;
			}
			break;
		}
	}
	/* what follows a closing quote belongs to the text: some programs forget to double quotes */
	{
		const char *start = p;

		while (p < csv->end && *p != delimiter && *p != '\n' && *p != '\r')
			p++;
		if (p - start > MAX_FIELD)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("a text of record %d of the file is longer than a megabyte", record),
					 errhint("Shorten it.")));
		appendBinaryStringInfo(out, start, p - start);
	}
	*ended = '\0';
	if (p < csv->end)
	{
		*ended = *p == delimiter ? delimiter : '\n';
		if (*p == '\r' && p + 1 < csv->end && p[1] == '\n')
			p++;
		p++;
	}
	csv->at = p;
}

/* How a delimiter would part the first records: the least number of fields, 0 where it parts none. */
static int
parts(Csv *csv, char delimiter)
{
	const char *start = csv->at;
	int			fewest = 0;
	int			fields = 0;
	int			records = 0;
	bool		quoted = false;
	bool		fresh = true;

	/* by hand, without errors: a wrong delimiter may make quotes look odd */
	for (const char *p = start; p < csv->end && records < LOOK_RECORDS && p - start < 1048576; p++)
	{
		if (quoted)
			quoted = *p != '"';
		else if (*p == '"')
			quoted = true;
		else if (*p == delimiter)
			fields++;
		else if (*p == '\n' || (*p == '\r' && (p + 1 == csv->end || p[1] != '\n')))
		{
			if (!fresh && (records++ == 0 || fields < fewest))
				fewest = fields;
			fields = 0;
			fresh = true;
			continue;
		}
		if (*p != '\r')
			fresh = false;
	}
	if (records == 0)
		fewest = fields;
	return fewest;
}

static void
choose_delimiter(Csv *csv)
{
	static const char tried[] = ";\t,|";
	int			best = 0;

	csv->delimiter = ';';
	if (csv->end - csv->at > 5 && pg_strncasecmp(csv->at, "sep=", 4) == 0 && (csv->at[5] == '\r' || csv->at[5] == '\n'))
	{
		csv->delimiter = csv->at[4];
		return;
	}
	for (const char *t = tried; *t != '\0'; t++)
	{
		int			fields = parts(csv, *t);

		if (fields > best)
		{
			best = fields;
			csv->delimiter = *t;
		}
	}
}

void
crm_sheet_read_csv(const char *bytes, int64 nbytes, SheetSink *sink)
{
	MemoryContext here = CurrentMemoryContext;
	MemoryContext cells = AllocSetContextCreate(CurrentMemoryContext, "crm csv record", ALLOCSET_DEFAULT_SIZES);
	SheetRow   *row = crm_sheet_row_new();
	StringInfoData field;
	Csv			csv;
	int			record = 0;
	bool		more = true;

	make_readable(&csv, bytes, nbytes);
	choose_delimiter(&csv);
	initStringInfo(&field);
	if (csv.end - csv.at > 5 && pg_strncasecmp(csv.at, "sep=", 4) == 0 && csv.at[4] == csv.delimiter)
	{
		char		ended;
		bool		quoted;

		read_field(&csv, '\0', &field, &ended, &quoted, 1);
		record++;
	}
	while (more && csv.at < csv.end)
	{
		char		ended;
		int			column = 0;

		if (++record > MAX_RECORDS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the file has more than %d records", MAX_RECORDS),
					 errhint("Split it.")));
		if (record % 1000 == 0)
			CHECK_FOR_INTERRUPTS();
		row->number = record;
		row->ncolumns = 0;
		do
		{
			bool		quoted;

			read_field(&csv, csv.delimiter, &field, &ended, &quoted, record);
			if (++column > SHEET_MAX_COLUMNS)
				ereport(ERROR,
						(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						 errmsg("record %d of the file has more than %d columns", record, SHEET_MAX_COLUMNS),
						 errhint("Excel itself has no more; is the delimiter right? SELECT * FROM crm.sheet_list(file).")));
			if (field.len > 0)
			{
				MemoryContextSwitchTo(cells);
				crm_sheet_row_put(row, column, field.data, field.len, 't');
				MemoryContextSwitchTo(here);
			}
		} while (ended == csv.delimiter && ended != '\0');
		if (row->ncolumns > 0)
			more = sink->row(sink, row);
		MemoryContextReset(cells);
	}
	MemoryContextDelete(cells);
}

/* What the file was taken for, in words. */
char *
crm_sheet_csv_format(const char *bytes, int64 nbytes)
{
	Csv			csv;

	make_readable(&csv, bytes, nbytes);
	choose_delimiter(&csv);
	if (csv.delimiter == '\t')
		return psprintf("CSV in %s, parted by tabs", csv.encoding);
	return psprintf("CSV in %s, parted by %c", csv.encoding, csv.delimiter);
}
