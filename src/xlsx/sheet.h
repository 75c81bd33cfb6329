/*
 * sheet.h
 *		What the readers of sheets share: a row, where it goes, and limits.
 */
#ifndef CRM_SHEET_H
#define CRM_SHEET_H

#define SHEET_MAX_COLUMNS 16384	/* both by Excel's format */
#define SHEET_MAX_ROWS 1048576

/* One row as it was read. Values are UTF-8; those of empty cells are NULL. */
typedef struct SheetRow
{
	int			number;			/* from 1: a line of the sheet, a record of a CSV */
	int			ncolumns;
	int			room;
	char	  **values;
	char	   *kinds;			/* t n d b e f, or a blank */
	bool	   *formulas;
} SheetRow;

/* Who takes rows; false: he wants no more. The row's memory is the reader's. */
typedef struct SheetSink
{
	bool		(*row) (struct SheetSink *sink, SheetRow *row);
} SheetSink;

extern SheetRow *crm_sheet_row_new(void);
extern void crm_sheet_row_put(SheetRow *row, int column, const char *value, int length, char kind);
extern char *crm_sheet_address(int row, int column);
extern void crm_sheet_read_csv(const char *bytes, int64 nbytes, SheetSink *sink);
extern char *crm_sheet_csv_format(const char *bytes, int64 nbytes);

#endif
