/*-------------------------------------------------------------------------
 *
 * xlsx.c
 *	  Excel sheets from queries: rows in, bytes out, ready for the printer.
 *
 * A query runs as its caller, read-only, on the snapshot of the calling
 * statement, through a cursor; so a sheet shows what a view shows in the same
 * statement, and a long one can be cancelled.  Text is always written as
 * text: no value can become a formula.
 *
 * The workbook belongs to a memory context whose reset callback frees it, so
 * no error leaks.  Nothing is raised from inside a frame of libxlsxwriter: it
 * has no call-backs, and its error codes become errors of ours after it
 * returned.  Its files are made where temporary files of queries live: the
 * result is a temporary file of the server's own, gone with the statement, the
 * others are unlinked as soon as they are open.
 *
 * It must never write a formula, a link or a file name that comes from data.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xlsxwriter.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/plancache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

#define XLSX_MAX_SHEETS 32
#define XLSX_MAX_COLUMNS 256
#define XLSX_MAX_ROWS 1048576	/* of the format, headings included */
#define XLSX_MAX_CELLS INT64CONST(3000000)	/* packing them cannot be cancelled: about 2 s */
#define XLSX_MAX_TEXT 32767		/* UTF-16 units in a cell, by the format */
#define XLSX_MAX_BYTES ((int64) 512 * 1024 * 1024)
#define XLSX_FETCH 500
#define XLSX_MIN_WIDTH 8
#define XLSX_MAX_WIDTH 60
#define XLSX_PORTRAIT_WIDTH 95	/* characters that a portrait page takes */
#define XLSX_EPOCH 36526		/* 2000-01-01 as Excel counts days */
#define XLSX_FIRST_DAY 61		/* 1900-03-01: before it Excel counts a day too many */
#define XLSX_LAST_DAY 2958465	/* 9999-12-31 */

/* One sheet as it was asked for. */
typedef struct Sheet
{
	char	   *query;
	char	   *title;			/* NULL: none */
	char	   *name;
	int			nlabels;
	char	  **labels;			/* NULL entry: the column's own name */
	int			nformats;
	char	  **formats;		/* NULL entry: by the column's type */
} Sheet;

/* A column of the sheet that is being written. */
typedef struct Column
{
	Oid			type;			/* of the base type */
	Oid			output;
	int			width;
	lxw_format *format;
	lxw_format *text_format;
} Column;

/* A workbook and all that must be given back with it. */
typedef struct Book
{
	MemoryContextCallback callback;
	lxw_workbook *workbook;		/* NULL: closed */
	int			nfds;			/* descriptors that were announced */
	int64		cells;
	bool		russian;
	text	   *zone;
	char	   *orientation;
	lxw_format *title_format;
	lxw_format *head_format;
	lxw_format *text_format;
	lxw_format *date_format;
	lxw_format *moment_format;
	lxw_format *time_format;
} Book;

PG_FUNCTION_INFO_V1(crm_xlsx_from_query);
PG_FUNCTION_INFO_V1(crm_xlsx_book);

/* ---- the workbook ------------------------------------------------------ */

static void
book_release(void *arg)
{
	Book	   *book = arg;

	if (book->workbook != NULL)
	{
		lxw_worksheet *sheet;

		/* lxw_workbook_free() leaves the files of the rows open. */
		STAILQ_FOREACH(sheet, book->workbook->worksheets, list_pointers)
		{
			if (sheet->optimize_tmpfile != NULL)
				fclose(sheet->optimize_tmpfile);
			sheet->optimize_tmpfile = NULL;
		}
		lxw_workbook_free(book->workbook);
	}
	book->workbook = NULL;
	while (book->nfds > 0)
	{
		ReleaseExternalFD();
		book->nfds--;
	}
}

static void
book_error(lxw_error error, const char *what)
{
	int			code;
	const char *hint;

	switch (error)
	{
		case LXW_NO_ERROR:
			return;
		case LXW_ERROR_MEMORY_MALLOC_FAILED:
			code = ERRCODE_OUT_OF_MEMORY;
			hint = "Ask for fewer rows or columns.";
			break;
		case LXW_ERROR_CREATING_XLSX_FILE:
		case LXW_ERROR_CREATING_TMPFILE:
		case LXW_ERROR_READING_TMPFILE:
		case LXW_ERROR_ZIP_FILE_OPERATION:
		case LXW_ERROR_ZIP_FILE_ADD:
		case LXW_ERROR_ZIP_CLOSE:
		case LXW_ERROR_ZIP_BAD_ZIP_FILE:
			code = ERRCODE_IO_ERROR;
			hint = "Look at the free space and the rights of the server's temporary files (setting temp_tablespaces).";
			break;
		case LXW_ERROR_SHEETNAME_LENGTH_EXCEEDED:
		case LXW_ERROR_INVALID_SHEETNAME_CHARACTER:
		case LXW_ERROR_SHEETNAME_START_END_APOSTROPHE:
		case LXW_ERROR_SHEETNAME_ALREADY_USED:
			code = ERRCODE_INVALID_PARAMETER_VALUE;
			hint = "Excel takes 1 to 31 characters, none of []:*?/\\, no apostrophe at an end, each name once.";
			break;
		case LXW_ERROR_WORKSHEET_INDEX_OUT_OF_RANGE:
		case LXW_ERROR_MAX_STRING_LENGTH_EXCEEDED:
			code = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
			hint = "Ask for fewer rows or shorter texts.";
			break;
		default:
			code = ERRCODE_EXTERNAL_ROUTINE_EXCEPTION;
			hint = "Ask for fewer rows or columns.";
	}
	ereport(ERROR,
			(errcode(code),
			 errmsg("cannot write the sheet \"%s\": %s", what, lxw_strerror(error)),
			 errhint("%s", hint)));
}

/*
 * Writes the workbook, which frees it in every outcome.  Where that fails
 * half-way, the files of rows that were not read yet would stay open, and
 * nobody holds them any more: they are known by what they were before.
 */
static lxw_error
book_close(Book *book)
{
	struct
	{
		int			fd;
		struct stat st;
	}			files[XLSX_MAX_SHEETS];
	int			nfiles = 0;
	lxw_worksheet *sheet;
	lxw_error	error;

	STAILQ_FOREACH(sheet, book->workbook->worksheets, list_pointers)
	{
		if (sheet->optimize_tmpfile == NULL || nfiles == XLSX_MAX_SHEETS)
			continue;
		files[nfiles].fd = fileno(sheet->optimize_tmpfile);
		if (fstat(files[nfiles].fd, &files[nfiles].st) == 0)
			nfiles++;
	}
	error = workbook_close(book->workbook);
	book->workbook = NULL;
	for (int i = 0; error != LXW_NO_ERROR && i < nfiles; i++)
	{
		struct stat now;

		if (fstat(files[i].fd, &now) == 0 && now.st_dev == files[i].st.st_dev && now.st_ino == files[i].st.st_ino)
			close(files[i].fd);
	}
	return error;
}

static lxw_format *
book_format(Book *book, const char *number, bool wrap)
{
	lxw_format *format = workbook_add_format(book->workbook);

	if (format == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for a sheet's formats")));
	format_set_align(format, LXW_ALIGN_VERTICAL_TOP);
	format_set_border(format, LXW_BORDER_THIN);
	format_set_border_color(format, 0xBFBFBF);
	if (number != NULL)
		format_set_num_format(format, number);
	if (wrap)
		format_set_text_wrap(format);
	return format;
}

static Book *
book_open(const char *path, int nsheets, const char *language, const char *orientation, const char *title)
{
	Book	   *book = palloc0(sizeof(Book));
	lxw_workbook_options options = {.constant_memory = LXW_TRUE,.tmpdir = NULL,.use_zip64 = LXW_FALSE};
	lxw_doc_properties properties = {0};
	char	   *directory = pstrdup(path);
	const char *zone = GetConfigOption("crm.time_zone", true, false);

	get_parent_directory(directory);
	options.tmpdir = directory;
	book->orientation = pstrdup(orientation);
	book->russian = strcmp(language, "ru") == 0;
	book->zone = cstring_to_text(zone != NULL && zone[0] != '\0' ? zone : "Europe/Moscow");

	book->callback.func = book_release;
	book->callback.arg = book;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &book->callback);
	/* One for each sheet's rows, and those that assembling opens in turn. */
	for (int i = 0; i < nsheets + 4; i++)
	{
		if (!AcquireExternalFD())
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
					 errmsg("too many files are open to write a workbook of %d sheets", nsheets),
					 errhint("Raise max_files_per_process and the server's limit of open files.")));
		book->nfds++;
	}
	book->workbook = workbook_new_opt(path, &options);
	if (book->workbook == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for a workbook")));
	properties.title = (char *) title;
	properties.created = (time_t) timestamptz_to_time_t (GetCurrentTransactionStartTimestamp());

	book_error(workbook_set_properties(book->workbook, &properties), title);

	book->title_format = workbook_add_format(book->workbook);
	book->head_format = book_format(book, NULL, true);
	if (book->title_format == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory for a sheet's formats")));
	format_set_bold(book->title_format);
	format_set_font_size(book->title_format, 14);
	format_set_bold(book->head_format);
	format_set_align(book->head_format, LXW_ALIGN_CENTER);
	format_set_align(book->head_format, LXW_ALIGN_VERTICAL_CENTER);
	format_set_bg_color(book->head_format, 0xE7E6E6);
	book->text_format = book_format(book, "@", true);
	book->date_format = book_format(book, book->russian ? "dd.mm.yyyy" : "yyyy-mm-dd", false);
	book->moment_format = book_format(book, book->russian ? "dd.mm.yyyy hh:mm:ss" : "yyyy-mm-dd hh:mm:ss", false);
	book->time_format = book_format(book, "hh:mm:ss", false);
	return book;
}

/* ---- text -------------------------------------------------------------- */

/*
 * A text as a cell may hold it, in UTF-8: control characters and what XML
 * forbids become blanks, and what Excel would decode ("_x0041_") is kept as it
 * is written.  Sets *units to its length in UTF-16 units and *widest to its
 * longest line.
 */
static char *
cell_text(const char *value, int *units, int *widest)
{
	char	   *utf8 = pg_server_to_any(value, strlen(value), PG_UTF8);
	StringInfoData out;
	int			line = 0;

	initStringInfo(&out);
	*units = 0;
	*widest = 0;
	for (const unsigned char *p = (const unsigned char *) utf8; *p != '\0';)
	{
		int			length = pg_utf_mblen(p);

		if (length == 1)
		{
			if (*p == '\n')
			{
				*widest = Max(*widest, line);
				line = -1;
				appendStringInfoChar(&out, '\n');
			}
			else if (*p == '_' && p[1] == 'x' && isxdigit(p[2]) && isxdigit(p[3]) && isxdigit(p[4]) && isxdigit(p[5]) && p[6] == '_')
			{
				appendStringInfoString(&out, "_x005F_");
				*units += 6;
			}
			else
				appendStringInfoChar(&out, (*p < 0x20 && *p != '\t') || *p == 0x7F ? ' ' : *p);
		}
		else if (length == 3 && p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE)
			appendStringInfoChar(&out, ' ');
		else
		{
			for (int i = 0; i < length && p[i] != '\0'; i++)
				appendStringInfoChar(&out, p[i]);
			if (length == 4)
				(*units)++;
		}
		(*units)++;
		line++;
		for (int i = 0; i < length && *p != '\0'; i++)
			p++;
	}
	*widest = Max(*widest, line);
	return out.data;
}

/* A text for a footer: its & would be a command there. */
static char *
footer_text(const char *value)
{
	StringInfoData out;
	int			units;
	int			widest;
	char	   *clean = cell_text(value, &units, &widest);

	initStringInfo(&out);
	/* by the characters of UTF-8, which the database's encoding may not be */
	for (int n = 0; n < 80 && *clean != '\0'; n++)
	{
		int			length = pg_utf_mblen((const unsigned char *) clean);

		if (*clean == '&')
			appendStringInfoChar(&out, '&');
		for (; length > 0 && *clean != '\0'; length--, clean++)
			appendStringInfoChar(&out, *clean == '\n' ? ' ' : *clean);
	}
	return out.data;
}

/* ---- one sheet --------------------------------------------------------- */

/* Significant digits of a number as numeric_out writes it. */
static int
significant_digits(const char *number)
{
	int			n = 0;
	int			zeros = 0;

	for (const char *p = number; *p != '\0'; p++)
	{
		if (!isdigit((unsigned char) *p))
			continue;
		if (*p == '0')
		{
			if (n > 0)
				zeros++;
			continue;
		}
		n += zeros + 1;
		zeros = 0;
	}
	return n;
}

static const char *
column_format(Oid type, int32 typmod, const char *name)
{
	size_t		length = strlen(name);

	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			if (strcmp(name, "id") == 0 || (length > 3 && strcmp(name + length - 3, "_id") == 0))
				return "0";
			return "#,##0";
		case NUMERICOID:
			if (typmod >= (int32) VARHDRSZ)
			{
				int			scale = (typmod - VARHDRSZ) & 0x7ff;

				if (scale == 0)
					return "#,##0";
				if (scale <= 10)
					return psprintf("#,##0.%.*s", scale, "0000000000");
			}
			return NULL;
		default:
			return NULL;
	}
}

static void
write_text(lxw_worksheet *sheet, Sheet *spec, lxw_row_t row, int column, const char *value, Column *col)
{
	int			units;
	int			widest;
	char	   *clean = cell_text(value, &units, &widest);

	if (units > XLSX_MAX_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a text of %d characters does not fit into a cell", units),
				 errdetail("Row %u, column %d of the sheet \"%s\"; a cell takes %d.", row + 1, column + 1, spec->name, XLSX_MAX_TEXT),
				 errhint("Shorten it in the query: left(..., 32000).")));
	col->width = Max(col->width, widest);
	/* Always a string, whatever it begins with: never a formula. */
	book_error(worksheet_write_string(sheet, row, column, clean, col->text_format), spec->name);
}

static void
write_number(lxw_worksheet *sheet, Sheet *spec, lxw_row_t row, int column, double value, const char *shown, Column *col)
{
	/* Blanks between thousands widen what is shown by a third. */
	col->width = Max(col->width, (int) strlen(shown) * 4 / 3 + 1);
	book_error(worksheet_write_number(sheet, row, column, value, col->format), spec->name);
}

static void
write_day(lxw_worksheet *sheet, Sheet *spec, lxw_row_t row, int column, double serial, Datum value, int width, Column *col)
{
	if (serial < XLSX_FIRST_DAY || serial >= XLSX_LAST_DAY + 1)
	{
		write_text(sheet, spec, row, column, OidOutputFunctionCall(col->output, value), col);
		return;
	}
	col->width = Max(col->width, width);
	book_error(worksheet_write_number(sheet, row, column, serial, col->format), spec->name);
}

static void
write_cell(Book *book, lxw_worksheet *sheet, Sheet *spec, lxw_row_t row, int column, Datum value, bool isnull, Column *col)
{
	if (isnull)
	{
		book_error(worksheet_write_blank(sheet, row, column, col->format), spec->name);
		return;
	}
	switch (col->type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
			{
				int64		number = col->type == INT2OID ? DatumGetInt16(value) :
				col->type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
				char		shown[32];

				snprintf(shown, sizeof(shown), INT64_FORMAT, number);
				/* Excel keeps fifteen digits; a longer number stays whole as text. */
				if (significant_digits(shown) > 15)
					write_text(sheet, spec, row, column, shown, col);
				else
					write_number(sheet, spec, row, column, (double) number, shown, col);
				break;
			}
		case FLOAT4OID:
		case FLOAT8OID:
			{
				double		number = col->type == FLOAT4OID ? (double) DatumGetFloat4(value) : DatumGetFloat8(value);
				char	   *shown = OidOutputFunctionCall(col->output, value);

				if (isfinite(number))
					write_number(sheet, spec, row, column, col->type == FLOAT4OID ? strtod(shown, NULL) : number, shown, col);
				else
					write_text(sheet, spec, row, column, shown, col);
				break;
			}
		case NUMERICOID:
			{
				char	   *shown = OidOutputFunctionCall(col->output, value);
				double		number;

				errno = 0;
				number = isalpha((unsigned char) shown[shown[0] == '-' ? 1 : 0]) ? NAN : strtod(shown, NULL);
				if (isfinite(number) && errno == 0 && significant_digits(shown) <= 15)
					write_number(sheet, spec, row, column, number, shown, col);
				else
					write_text(sheet, spec, row, column, shown, col);
				break;
			}
		case BOOLOID:
			book_error(worksheet_write_boolean(sheet, row, column, DatumGetBool(value), col->format), spec->name);
			break;
		case DATEOID:
			{
				DateADT		day = DatumGetDateADT(value);

				write_day(sheet, spec, row, column, DATE_NOT_FINITE(day) ? 0 : (double) day + XLSX_EPOCH, value, 11, col);
				break;
			}
		case TIMESTAMPTZOID:
		case TIMESTAMPOID:
			{
				Timestamp	moment = DatumGetTimestamp(value);
				bool		finite = !TIMESTAMP_NOT_FINITE(moment);

				if (finite && col->type == TIMESTAMPTZOID)
					moment = DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone, PointerGetDatum(book->zone), value));
				write_day(sheet, spec, row, column, finite ? (double) moment / USECS_PER_DAY + XLSX_EPOCH : 0, value, 20, col);
				break;
			}
		case TIMEOID:
			col->width = Max(col->width, 9);
			book_error(worksheet_write_number(sheet, row, column, (double) DatumGetTimeADT(value) / USECS_PER_DAY, col->format), spec->name);
			break;
		default:
			write_text(sheet, spec, row, column, OidOutputFunctionCall(col->output, value), col);
	}
	if (++book->cells > XLSX_MAX_CELLS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a workbook holds more than " INT64_FORMAT " values", XLSX_MAX_CELLS),
				 errhint("Ask for fewer rows or columns.")));
}

/* The one plan of a query that may become a sheet. */
static SPIPlanPtr
sheet_plan(Sheet *spec)
{
	SPIPlanPtr	plan = SPI_prepare_cursor(spec->query, 0, NULL, 0);
	List	   *sources = plan != NULL ? SPI_plan_get_plan_sources(plan) : NIL;
	CachedPlanSource *source = sources != NIL ? linitial(sources) : NULL;
	Query	   *query;

	if (list_length(sources) != 1 || source->raw_parse_tree == NULL ||
		!IsA(source->raw_parse_tree->stmt, SelectStmt) ||
		((SelectStmt *) source->raw_parse_tree->stmt)->intoClause != NULL ||
		!SPI_is_cursor_plan(plan))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a sheet is made from exactly one SELECT"),
				 errdetail("The text holds %d statements: %s", list_length(sources),
						   pnstrdup(spec->query, pg_mbcliplen(spec->query, strlen(spec->query), 200))),
				 errhint("Give one SELECT, without INTO and without a second statement.")));
	query = linitial_node(Query, source->query_list);
	if (query->commandType != CMD_SELECT || query->hasModifyingCTE || query->rowMarks != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("a sheet is made from a SELECT that only reads"),
				 errhint("Leave out FOR UPDATE and statements that write in WITH.")));
	return plan;
}

static void
sheet_setup(Book *book, lxw_worksheet *sheet, Sheet *spec, lxw_row_t head, lxw_row_t last, int ncolumns, Column *columns)
{
	int			width = 0;
	bool		landscape;

	for (int i = 0; i < ncolumns; i++)
	{
		int			w = Min(Max(columns[i].width + 1, XLSX_MIN_WIDTH), XLSX_MAX_WIDTH);

		book_error(worksheet_set_column(sheet, i, i, w, NULL), spec->name);
		width += w;
	}
	landscape = strcmp(book->orientation, "landscape") == 0 ||
		(strcmp(book->orientation, "auto") == 0 && width > XLSX_PORTRAIT_WIDTH);
	if (landscape)
		worksheet_set_landscape(sheet);
	worksheet_set_paper(sheet, 9);	/* A4 */
	worksheet_set_margins(sheet, 0.4, 0.4, 0.5, 0.6);
	worksheet_fit_to_pages(sheet, 1, 0);
	worksheet_center_horizontally(sheet);
	book_error(worksheet_repeat_rows(sheet, head, head), spec->name);
	if (ncolumns > 1 || last > head)
		book_error(worksheet_print_area(sheet, 0, 0, last, ncolumns - 1), spec->name);
	book_error(worksheet_set_footer(sheet, psprintf("&L&8 %s&R&8 %s", footer_text(spec->title != NULL ? spec->title : spec->name),
													book->russian ? "\u0421\u0442\u0440. &P \u0438\u0437 &N" : "Page &P of &N")), spec->name);
	worksheet_freeze_panes(sheet, head + 1, 0);
	if (last > head)
		book_error(worksheet_autofilter(sheet, head, 0, last, ncolumns - 1), spec->name);
}

static void
sheet_write(Book *book, Sheet *spec)
{
	lxw_worksheet *sheet;
	lxw_error	error;
	SPIPlanPtr	plan;
	Portal		portal;
	TupleDesc	desc;
	Column	   *columns;
	int			ncolumns;
	lxw_row_t	head = spec->title != NULL ? 1 : 0;
	lxw_row_t	row = head;
	MemoryContext batch;

	error = spec->name[0] == '\0' ? LXW_ERROR_SHEETNAME_LENGTH_EXCEEDED :
		workbook_validate_sheet_name(book->workbook, spec->name);
	if (error == LXW_ERROR_SHEETNAME_LENGTH_EXCEEDED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a sheet has 1 to 31 characters, not \"%s\"", spec->name)));
	book_error(error, spec->name);
	plan = sheet_plan(spec);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	desc = portal->tupDesc;
	ncolumns = desc->natts;
	if (ncolumns < 1 || ncolumns > XLSX_MAX_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a sheet takes 1 to %d columns, the query gives %d", XLSX_MAX_COLUMNS, ncolumns),
				 errhint("Name the columns that are wanted in the SELECT.")));
	if (spec->nlabels > ncolumns || spec->nformats > ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%d labels and %d formats for %d columns", spec->nlabels, spec->nformats, ncolumns),
				 errhint("Give at most one for each column, in order.")));

	sheet = workbook_add_worksheet(book->workbook, spec->name);
	if (sheet == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_IO_ERROR),
				 errmsg("cannot begin the sheet \"%s\"", spec->name),
				 errhint("Look at the free space and the rights of the server's temporary files (setting temp_tablespaces).")));
	columns = palloc0(sizeof(Column) * ncolumns);
	if (spec->title != NULL)
	{
		int			units;
		int			widest;
		char	   *title = cell_text(spec->title, &units, &widest);

		book_error(worksheet_write_string(sheet, 0, 0, title, book->title_format), spec->name);
	}
	for (int i = 0; i < ncolumns; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Column	   *col = &columns[i];
		int32		typmod = att->atttypmod;
		const char *label = i < spec->nlabels && spec->labels[i] != NULL ? spec->labels[i] : NameStr(att->attname);
		const char *format = i < spec->nformats ? spec->formats[i] : NULL;
		bool		varlena;
		char	   *clean;
		int			units;
		int			widest;

		col->type = getBaseTypeAndTypmod(att->atttypid, &typmod);
		getTypeOutputInfo(col->type, &col->output, &varlena);
		col->text_format = book->text_format;
		if (format == NULL)
			format = column_format(col->type, typmod, NameStr(att->attname));
		if (format != NULL)
			col->format = book_format(book, format, false);
		else
			switch (col->type)
			{
				case DATEOID:
					col->format = book->date_format;
					break;
				case TIMESTAMPOID:
				case TIMESTAMPTZOID:
					col->format = book->moment_format;
					break;
				case TIMEOID:
					col->format = book->time_format;
					break;
				case NUMERICOID:
				case FLOAT4OID:
				case FLOAT8OID:
				case BOOLOID:
					col->format = book_format(book, NULL, false);
					break;
				default:
					col->format = book->text_format;
			}
		clean = cell_text(label, &units, &widest);
		if (units > 255)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the heading of column %d is longer than 255 characters", i + 1),
					 errhint("Shorten it: AS \"...\" in the SELECT, or the argument labels.")));
		/* A heading wraps between words, so it need not set the width. */
		col->width = Min(widest, 16);
		book_error(worksheet_write_string(sheet, head, i, clean, book->head_format), spec->name);
	}

	batch = AllocSetContextCreate(CurrentMemoryContext, "crm sheet rows", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext old;

		SPI_cursor_fetch(portal, true, XLSX_FETCH);
		if (SPI_processed == 0)
			break;
		if (row + SPI_processed >= XLSX_MAX_ROWS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the sheet \"%s\" would have more than %d rows", spec->name, XLSX_MAX_ROWS),
					 errhint("Ask for fewer rows: a shorter period, or LIMIT.")));
		old = MemoryContextSwitchTo(batch);
		for (uint64 r = 0; r < SPI_processed; r++)
		{
			CHECK_FOR_INTERRUPTS();
			row++;
			for (int i = 0; i < ncolumns; i++)
			{
				bool		isnull;
				Datum		value = SPI_getbinval(SPI_tuptable->vals[r], desc, i + 1, &isnull);

				write_cell(book, sheet, spec, row, i, value, isnull, &columns[i]);
			}
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(batch);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	SPI_freeplan(plan);
	sheet_setup(book, sheet, spec, head, row, ncolumns, columns);
}

/* ---- the book ---------------------------------------------------------- */

/*
 * Writes all sheets and returns the bytes.  Everything of the work lies in a
 * context of its own, which goes whatever happens.
 */
static bytea *
book_make(Sheet *sheets, int nsheets, const char *orientation, const char *language)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(CurrentMemoryContext, "crm workbook", ALLOCSET_DEFAULT_SIZES);
	File		file;
	char	   *path;
	Book	   *book;
	bytea	   *result;
	int64		size;
	lxw_error	error;
	int			nest;

	if (strcmp(language, "ru") != 0 && strcmp(language, "en") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown language of a sheet: \"%s\"", language),
				 errhint("Use 'ru' or 'en'.")));
	if (strcmp(orientation, "auto") != 0 && strcmp(orientation, "portrait") != 0 && strcmp(orientation, "landscape") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown orientation of a sheet: \"%s\"", orientation),
				 errhint("Use 'auto', 'portrait' or 'landscape'.")));

	MemoryContextSwitchTo(work);
	file = OpenTemporaryFile(false);
	path = pstrdup(FilePathName(file));
	book = book_open(path, nsheets, language, orientation, sheets[0].title != NULL ? sheets[0].title : sheets[0].name);

	/* A function in the query may be volatile: nothing may write all the same. */
	nest = NewGUCNestLevel();
	(void) set_config_option("transaction_read_only", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("cannot run the query of a sheet")));
	for (int i = 0; i < nsheets; i++)
		sheet_write(book, &sheets[i]);
	SPI_finish();
	AtEOXact_GUC(true, nest);

	CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(work);
	error = book_close(book);
	book_error(error, sheets[0].name);

	size = FileSize(file);
	if (size < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not determine the size of temporary file \"%s\": %m", path)));
	if (size > XLSX_MAX_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a workbook of " INT64_FORMAT " bytes is too large", size),
				 errhint("Ask for fewer rows.")));
	result = MemoryContextAlloc(caller, VARHDRSZ + size);
	SET_VARSIZE(result, VARHDRSZ + size);
	for (int64 done = 0; done < size;)
	{
		int			n = FileRead(file, VARDATA(result) + done, Min(size - done, 1024 * 1024), done, PG_WAIT_EXTENSION);

		if (n <= 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not read temporary file \"%s\": %m", path)));
		done += n;
	}
	FileClose(file);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
	return result;
}

static char *
argument_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* A text array as C strings, NULL for NULL entries. */
static char **
argument_texts(FunctionCallInfo fcinfo, int n, int *count)
{
	ArrayType  *array;
	Datum	   *values;
	bool	   *nulls;
	char	  **result;

	*count = 0;
	if (PG_ARGISNULL(n))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(n);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("an array of one dimension is needed")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, count);
	result = palloc(sizeof(char *) * (*count + 1));
	for (int i = 0; i < *count; i++)
		result[i] = nulls[i] ? NULL : TextDatumGetCString(values[i]);
	return result;
}

static char *
default_name(const char *language, int n)
{
	return psprintf("%s%d", strcmp(language, "ru") == 0 ? "\u041B\u0438\u0441\u0442" : "Sheet", n);
}

/* crm.xlsx_from_query(query, title, sheet, labels[], formats[], orientation, language) -> bytea */
Datum
crm_xlsx_from_query(PG_FUNCTION_ARGS)
{
	Sheet		sheet = {0};
	char	   *orientation = PG_ARGISNULL(5) ? "auto" : argument_text(fcinfo, 5);
	char	   *language = PG_ARGISNULL(6) ? "ru" : argument_text(fcinfo, 6);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	sheet.query = argument_text(fcinfo, 0);
	sheet.title = argument_text(fcinfo, 1);
	sheet.name = PG_ARGISNULL(2) ? default_name(language, 1) : argument_text(fcinfo, 2);
	sheet.labels = argument_texts(fcinfo, 3, &sheet.nlabels);
	sheet.formats = argument_texts(fcinfo, 4, &sheet.nformats);
	PG_RETURN_BYTEA_P(book_make(&sheet, 1, orientation, language));
}

/* crm.xlsx_book(queries[], titles[], sheets[], orientation, language) -> bytea */
Datum
crm_xlsx_book(PG_FUNCTION_ARGS)
{
	char	   *orientation = PG_ARGISNULL(3) ? "auto" : argument_text(fcinfo, 3);
	char	   *language = PG_ARGISNULL(4) ? "ru" : argument_text(fcinfo, 4);
	int			nqueries;
	int			ntitles;
	int			nnames;
	char	  **queries = argument_texts(fcinfo, 0, &nqueries);
	char	  **titles = argument_texts(fcinfo, 1, &ntitles);
	char	  **names = argument_texts(fcinfo, 2, &nnames);
	Sheet	   *sheets;

	if (nqueries < 1 || nqueries > XLSX_MAX_SHEETS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a workbook takes 1 to %d queries, not %d", XLSX_MAX_SHEETS, nqueries),
				 errhint("Give an array with one SELECT for each sheet.")));
	sheets = palloc0(sizeof(Sheet) * nqueries);
	for (int i = 0; i < nqueries; i++)
	{
		if (queries[i] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("query %d of the workbook is NULL", i + 1),
					 errhint("Give an array with one SELECT for each sheet.")));
		sheets[i].query = queries[i];
		sheets[i].title = i < ntitles ? titles[i] : NULL;
		sheets[i].name = i < nnames && names[i] != NULL ? names[i] : default_name(language, i + 1);
	}
	PG_RETURN_BYTEA_P(book_make(sheets, nqueries, orientation, language));
}
