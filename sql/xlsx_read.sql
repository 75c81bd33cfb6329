-- claims 4 and 93: sheets are read as another reader reads them (kinds.tsv is openpyxl's account), in both
-- calendars; formulas are never calculated; hostile and broken files are refused with words, and quickly.
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/xlsx/'
SET client_min_messages = warning;
SELECT set_config('test.folder', :'folder', false) IS NOT NULL AS folder;
CREATE FUNCTION pg_temp.f(name text) RETURNS bytea LANGUAGE sql AS $$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;
CREATE TEMP TABLE oracle (file text, cell text, value text);
\set tsv :folder 'kinds.tsv'
COPY oracle FROM :'tsv';
CREATE TEMP VIEW ours AS
	SELECT n.file, c.cell, c.value FROM (VALUES ('kinds.xlsx'), ('days1904.xlsx')) n(file) CROSS JOIN LATERAL crm.sheet_cells(pg_temp.f(n.file)) c;
SELECT count(*) FROM oracle;
\echo what the other reader sees and we do not, and the other way round
TABLE oracle EXCEPT TABLE ours;
TABLE ours EXCEPT TABLE oracle;

\echo kinds, sheets, merged ranges
SELECT * FROM crm.sheet_list(pg_temp.f('days1904.xlsx'));
SELECT kind, count(*), min(cell) FROM crm.sheet_cells(pg_temp.f('kinds.xlsx')) GROUP BY 1 ORDER BY 1;
SELECT "row", cells, kinds FROM crm.sheet_rows(pg_temp.f('kinds.xlsx'), from_row => 3);
SELECT cell, value, merged FROM crm.sheet_cells(pg_temp.f('kinds.xlsx')) WHERE merged IS NOT NULL;
SELECT sheet_name, cells FROM crm.sheet_rows(pg_temp.f('kinds.xlsx'), 'Тайный');
SELECT sheet_name, cells FROM crm.sheet_rows(pg_temp.f('kinds.xlsx'), '2');
\echo formulas: their kept value; cells and rows without an address; runs of text without their reading
SELECT cell, kind, value, is_formula FROM crm.sheet_cells(pg_temp.f('formulas.xlsx'));
\echo what our own writer made is read back
SELECT cells, kinds FROM crm.sheet_rows(crm.xlsx_from_query($$SELECT 1.5 AS a, '=1+1' AS b, date '2026-11-24' AS c, true AS d, '_x0041_' AS e$$)) OFFSET 1;

\echo what is refused
CREATE FUNCTION pg_temp.try(file bytea, sheet text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text; n bigint; began timestamptz := clock_timestamp();
BEGIN
	SELECT count(*) INTO n FROM crm.sheet_rows(file, sheet);
	RETURN n || ' rows';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(hint, ''), CASE WHEN clock_timestamp() - began > interval '10 s' THEN 'slow' END);
END $$;
SELECT n.name, pg_temp.try(pg_temp.f(n.name || '.xlsx')) FROM (VALUES ('bomb'), ('entities'), ('external'), ('wide'), ('tall'), ('strings'), ('order'), ('nested'), ('torn'), ('cut'), ('spoilt'), ('ods')) n(name);
SELECT pg_temp.try(pg_temp.f('kinds.xlsx'), 'Нет такого');
SELECT pg_temp.try('\xd0cf11e0a1b11ae1000000000000'), pg_temp.try(''), pg_temp.try('\x504b0506000000000000000000000000000000000000');
SELECT pg_temp.try(convert_to('<html><table><tr><td>1</td></tr></table></html>', 'UTF8')), pg_temp.try('\x2550444600000102');
SELECT count(*) FROM crm.sheet_rows(NULL);

\echo CSV: delimiters, quotes, line ends, encodings
CREATE FUNCTION pg_temp.csv(t text, encoding text DEFAULT 'UTF8') RETURNS TABLE (format text, "row" integer, cells text[]) LANGUAGE sql AS $$
	SELECT (SELECT l.format FROM crm.sheet_list(convert_to(t, encoding)) l), r."row", r.cells FROM crm.sheet_rows(convert_to(t, encoding)) r $$;
SELECT * FROM pg_temp.csv(E'a;b;c\r\n"x;1";"say ""hi""";"two\nlines"\r\n\r\n1,5;;3\r\n');
SELECT * FROM pg_temp.csv(E'name,sum\n"ООО ""Ромашка"", Москва",5\n');
SELECT * FROM pg_temp.csv(E'\ufeffимя\tсумма\nИванов\t1');
SELECT * FROM pg_temp.csv(E'Имя;Город\nПётр;Орёл\n', 'WIN1251');
SELECT * FROM pg_temp.csv(E'sep=|\na;b|c\n');
SELECT r.cells FROM crm.sheet_rows('\xfffe3104370431043b000900310030000a00') r;
SELECT * FROM pg_temp.csv('=cmd|calc;+1');
SELECT pg_temp.try(convert_to(E'a;b\n"no end;1\n', 'UTF8'));
SELECT pg_temp.try(convert_to(repeat(';', 20000), 'UTF8'));

\echo values: what is none is NULL
SELECT v, crm.sheet_number(v) FROM unnest(ARRAY['1 234,5', E'1\u00a0234\u202f567.25', '1.234.567,5', '1,234,567.5', '-5', E'\u22125', '12 000 ₽', '5 руб.', '$7', '1e3', '', '1-2', '1,2,3', 'abc', '1.2,3.4', 'e5', '.5', '5.', '1e999']) v;
SELECT v, crm.sheet_time(v, 'dmy', 'Europe/Moscow') AT TIME ZONE 'Europe/Moscow' AS dmy, crm.sheet_time(v, 'mdy', 'Europe/Moscow') AT TIME ZONE 'Europe/Moscow' AS mdy
FROM unnest(ARRAY['24.11.2026', '24.11.26 9:05', '2026-11-24', '2026-11-24T10:00:00Z', '2026-11-24 10:00:00.5+05:30', '11/24/2026', '24/11/2026', '03/04/2026 5:06 PM', '20261124', '31.02.2026', '29.02.2024', '24.11.2026 г.', '24.11.2026 25:00', '24.13.2026', '5', 'завтра', '99999999']) v;
SELECT crm.sheet_key('  Дата создания: (№ 2) ёЁ') AS key, crm.sheet_name_key('ООО «Ромашка»') AS a, crm.sheet_name_key('Ромашка, ООО') AS b, crm.sheet_name_key('Romashka Ltd.') AS c, crm.sheet_name_key('ООО') AS d,
	crm.sheet_name_key('Общество с ограниченной ответственностью "Ромашка"') AS e, crm.sheet_address(7, 28) AS address, crm.sheet_text(E' a\u00a0\n b ') AS folded;
\echo a long one can be cancelled
SET statement_timeout = '50ms';
SELECT count(*) FROM crm.sheet_rows(convert_to(repeat(E'"a ""b""";1;2;3;4;5;6;7;8;9\n', 1000000), 'UTF8'));
RESET statement_timeout;
