-- xlsx: sheets from queries. Code: may be run again.

CREATE OR REPLACE FUNCTION crm.xlsx_from_query(query text, title text DEFAULT NULL, sheet text DEFAULT NULL, labels text[] DEFAULT NULL,
	formats text[] DEFAULT NULL, orientation text DEFAULT 'auto', language text DEFAULT 'ru') RETURNS bytea
	LANGUAGE c STABLE PARALLEL UNSAFE AS '$libdir/crm_sheet', 'crm_xlsx_from_query';
COMMENT ON FUNCTION crm.xlsx_from_query(text, text, text, text[], text[], text, text) IS 'An Excel workbook (.xlsx) of one sheet from one SELECT, which runs as the caller, read-only, on the calling statement''s snapshot. Numbers, dates and booleans are typed cells, everything else is text and never a formula; NULL is an empty cell; numbers of more than fifteen digits are kept whole as text; timestamptz is shown in the zone of crm.time_zone. Ready for print: A4, one page wide, headings repeated, page numbers (claims 60, 61). labels: headings in order, NULL = the column''s name; formats: Excel number formats in order, NULL = by type; orientation: auto, portrait, landscape; language: ru or en. Bounds: 256 columns, 1048576 rows, 3 million values, 32767 characters a cell. Errors: 0A000 not one SELECT, 25006 it would write, 54000 a bound, 22023 a name or option that Excel does not take, 58030 temporary files.';

CREATE OR REPLACE FUNCTION crm.xlsx_book(queries text[], titles text[] DEFAULT NULL, sheets text[] DEFAULT NULL, orientation text DEFAULT 'auto',
	language text DEFAULT 'ru') RETURNS bytea
	LANGUAGE c STABLE PARALLEL UNSAFE AS '$libdir/crm_sheet', 'crm_xlsx_book';
COMMENT ON FUNCTION crm.xlsx_book(text[], text[], text[], text, text) IS 'An Excel workbook of several sheets, one for each SELECT, all on one snapshot; otherwise as crm.xlsx_from_query(). titles: the line above the headings; sheets: names of the sheets, at most 31 characters. At most 32 sheets. Errors: as there, and 22004 a query that is NULL.';
