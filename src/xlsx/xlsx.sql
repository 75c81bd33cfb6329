-- xlsx: sheets from queries. Code: may be run again.

CREATE OR REPLACE FUNCTION crm.xlsx_from_query(query text, title text DEFAULT NULL, sheet text DEFAULT NULL, labels text[] DEFAULT NULL,
	formats text[] DEFAULT NULL, orientation text DEFAULT 'auto', language text DEFAULT 'ru') RETURNS bytea
	LANGUAGE c STABLE PARALLEL UNSAFE AS '$libdir/crm_sheet', 'crm_xlsx_from_query';
COMMENT ON FUNCTION crm.xlsx_from_query(text, text, text, text[], text[], text, text) IS 'An Excel workbook (.xlsx) of one sheet from one SELECT, which runs as the caller, read-only, on the calling statement''s snapshot. Numbers, dates and booleans are typed cells, everything else is text and never a formula; NULL is an empty cell; numbers of more than fifteen digits are kept whole as text; timestamptz is shown in the zone of crm.time_zone. Ready for print: A4, one page wide, headings repeated, page numbers (claims 60, 61). labels: headings in order, NULL = the column''s name; formats: Excel number formats in order, NULL = by type; orientation: auto, portrait, landscape; language: ru or en. Bounds: 256 columns, 1048576 rows, 3 million values, 32767 characters a cell. Errors: 0A000 not one SELECT, 25006 it would write, 54000 a bound, 22023 a name or option that Excel does not take, 58030 temporary files.';

CREATE OR REPLACE FUNCTION crm.xlsx_book(queries text[], titles text[] DEFAULT NULL, sheets text[] DEFAULT NULL, orientation text DEFAULT 'auto',
	language text DEFAULT 'ru') RETURNS bytea
	LANGUAGE c STABLE PARALLEL UNSAFE AS '$libdir/crm_sheet', 'crm_xlsx_book';
COMMENT ON FUNCTION crm.xlsx_book(text[], text[], text[], text, text) IS 'An Excel workbook of several sheets, one for each SELECT, all on one snapshot; otherwise as crm.xlsx_from_query(). titles: the line above the headings; sheets: names of the sheets, at most 31 characters. At most 32 sheets. Errors: as there, and 22004 a query that is NULL.';

-- ---- reading ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.sheet_rows(file bytea, sheet text DEFAULT NULL, from_row integer DEFAULT 1, max_rows integer DEFAULT NULL)
	RETURNS TABLE(sheet_name text, "row" integer, cells text[], kinds text)
	LANGUAGE c IMMUTABLE PARALLEL UNSAFE ROWS 100000 COST 1000 AS '$libdir/crm_sheet', 'crm_xlsx_sheet_rows';
COMMENT ON FUNCTION crm.sheet_rows(bytea, text, integer, integer) IS 'The rows of a sheet, read as a stream (claims 4 and 93): an .xlsx (sheet: its name or number from 1; NULL: the first that shows), or a CSV (; , tab or | parts it, UTF-8, UTF-16 with a mark, or windows-1251). row: its number as Excel shows it; rows without a value are left out. cells: values as text, NULL = empty; days as 2026-11-24 or 2026-11-24 10:00:00 in either calendar, numbers with a dot and at most 15 digits, true and false; a merged range has its value in every cell. kinds: a letter a cell: t text, n number, d day or time, b boolean, e error, f formula without a kept value, blank empty; a capital: the kept value of a formula, which is never calculated. Bounds: 512 MB, 4 GB unpacked at 200 times the packed size, 1048576 rows (10 million of a CSV), 16384 columns, 8 million shared texts. Errors: 22023 no workbook (.xls, .xlsb, .ods, a page) or no such sheet, 22P03 a broken zip or sheet, 22P02 a quote that does not end, 2200M a document type, 54000 a bound; each says what to do.';

CREATE OR REPLACE FUNCTION crm.sheet_cells(file bytea, sheet text DEFAULT NULL, from_row integer DEFAULT 1, max_rows integer DEFAULT NULL)
	RETURNS TABLE(sheet_name text, "row" integer, "column" integer, cell text, kind text, value text, is_formula boolean, merged text)
	LANGUAGE c IMMUTABLE PARALLEL UNSAFE ROWS 1000000 COST 1000 AS '$libdir/crm_sheet', 'crm_xlsx_sheet_cells';
COMMENT ON FUNCTION crm.sheet_cells(bytea, text, integer, integer) IS 'The cells of a sheet that are not empty, one a row: address (B7), kind (text, number, date, boolean, error, formula = one without a kept value), value as text, whether a formula gave it, and for the first cell of a merged range the range. Otherwise as crm.sheet_rows().';

CREATE OR REPLACE FUNCTION crm.sheet_list(file bytea)
	RETURNS TABLE(number integer, name text, hidden boolean, format text)
	LANGUAGE c IMMUTABLE PARALLEL UNSAFE ROWS 3 AS '$libdir/crm_sheet', 'crm_xlsx_sheet_list';
COMMENT ON FUNCTION crm.sheet_list(bytea) IS 'The sheets of a workbook in order, and how the file was understood: xlsx, days counted from 1900 or 1904; a CSV with its encoding and delimiter. Errors: as crm.sheet_rows().';

CREATE OR REPLACE FUNCTION crm.sheet_text(value text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_xlsx_sheet_text';
COMMENT ON FUNCTION crm.sheet_text(text) IS 'A cell''s text as it is kept: blanks of every kind and controls folded and trimmed; NULL where nothing is left.';

CREATE OR REPLACE FUNCTION crm.sheet_number(value text) RETURNS numeric
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_xlsx_sheet_number';
COMMENT ON FUNCTION crm.sheet_number(text) IS 'A number as people and programs write it: blanks of any kind or a second separator between thousands, comma or dot before decimals, a currency before or behind; NULL for what is none, never an error.';

CREATE OR REPLACE FUNCTION crm.sheet_time(value text, day_order text, time_zone text) RETURNS timestamptz
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_xlsx_sheet_time';
COMMENT ON FUNCTION crm.sheet_time(text, text, text) IS 'A day or time as text: 2026-11-24, 24.11.2026, 24/11/2026, 20261124, with a time behind it or not, with an offset or without (then in time_zone). day_order: dmy, or mdy for 11/24/2026. NULL for what is none, never an error but 22023 for an unknown zone.';

CREATE OR REPLACE FUNCTION crm.sheet_key(value text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_xlsx_sheet_key';
COMMENT ON FUNCTION crm.sheet_key(text) IS 'What spellings of one word share: small letters of Latin and Cyrillic, digits, no blanks and no signs, е for ё. NULL where nothing is left.';

CREATE OR REPLACE FUNCTION crm.sheet_name_key(name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_xlsx_sheet_name_key';
COMMENT ON FUNCTION crm.sheet_name_key(text) IS 'What spellings of one firm''s or person''s name share: crm.sheet_key() without the words of a legal form (ООО, АО, ИП, LLC, Ltd, …), unless nothing else is left.';

CREATE OR REPLACE FUNCTION crm.sheet_address("row" integer, "column" integer) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_xlsx_sheet_address';
COMMENT ON FUNCTION crm.sheet_address(integer, integer) IS 'The address of a cell as Excel writes it: row 7, column 28 is AB7. Error 22003 beyond column 16384.';
