-- claim 60: a sheet is made from a SELECT of the caller, on the statement's snapshot, and only reads.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
BEGIN;
SELECT substring(crm.xlsx_from_query('SELECT 1 AS a', 'Title') FROM 1 FOR 4) AS magic;
SELECT crm.xlsx_from_query(NULL) IS NULL AS nothing;
SELECT length(crm.xlsx_from_query('SELECT 1 WHERE false')) > 3000 AS headings_only;
SELECT length(crm.xlsx_book(ARRAY['SELECT 1 AS a', 'VALUES (1, now())', 'TABLE pg_catalog.pg_am'], ARRAY['one', NULL], ARRAY['First', 'Второй'])) > 3000 AS book;

\echo what is refused, with state and hint
CREATE FUNCTION pg_temp.try(query text, title text DEFAULT NULL, sheet text DEFAULT NULL, labels text[] DEFAULT NULL, formats text[] DEFAULT NULL, orientation text DEFAULT 'auto', language text DEFAULT 'ru')
RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; hint text;
BEGIN
	RETURN 'made ' || (length(crm.xlsx_from_query(query, title, sheet, labels, formats, orientation, language)) > 0);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(hint, ''));
END $$;
CREATE TABLE public.sheet_probe (n integer);
CREATE FUNCTION public.sheet_writes() RETURNS integer LANGUAGE sql VOLATILE AS 'INSERT INTO public.sheet_probe VALUES (1) RETURNING n';
SELECT pg_temp.try('SELECT 1; SELECT 2');
SELECT pg_temp.try('');
SELECT pg_temp.try('DELETE FROM public.sheet_probe');
SELECT pg_temp.try('SELECT 1 INTO public.sheet_other');
SELECT pg_temp.try('WITH w AS (INSERT INTO public.sheet_probe VALUES (1) RETURNING n) SELECT * FROM w');
SELECT pg_temp.try('SELECT n FROM public.sheet_probe FOR UPDATE');
SELECT pg_temp.try('SELECT public.sheet_writes()');
SELECT pg_temp.try('SELECT nope');
SELECT pg_temp.try('SELECT 1/0');
SELECT pg_temp.try('SELECT 1', sheet => 'a/b');
SELECT pg_temp.try('SELECT 1', sheet => repeat('x', 32));
SELECT pg_temp.try('SELECT 1', sheet => '');
SELECT pg_temp.try('SELECT 1', orientation => 'sideways');
SELECT pg_temp.try('SELECT 1', language => 'de');
SELECT pg_temp.try('SELECT 1', labels => ARRAY['a', 'b']);
SELECT pg_temp.try('SELECT repeat(''x'', 32768)');
SELECT pg_temp.try('SELECT repeat(''x'', 32767)');
SELECT pg_temp.try('SELECT ' || string_agg(n::text, ', ')) FROM generate_series(1, 257) n;
SELECT crm.xlsx_book('{}');
ROLLBACK;
SELECT crm.xlsx_book(ARRAY[NULL]);
SELECT crm.xlsx_book(ARRAY['SELECT 1', 'SELECT 2'], NULL, ARRAY['Same', 'same']);

\echo nothing was written, and the transaction may write again
BEGIN;
SELECT length(crm.xlsx_from_query('SELECT 1')) > 0;
SHOW transaction_read_only;
CREATE TABLE public.sheet_probe (n integer);
INSERT INTO public.sheet_probe VALUES (1);
\echo rows that the caller wrote in this transaction are in the sheet
SELECT length(crm.xlsx_from_query('SELECT n FROM public.sheet_probe')) > 0;
\echo with the rights of the caller
SAVEPOINT a;
GRANT USAGE ON SCHEMA crm TO pg_monitor;
GRANT EXECUTE ON FUNCTION crm.xlsx_from_query(text, text, text, text[], text[], text, text) TO pg_monitor;
SET LOCAL ROLE pg_monitor;
SELECT crm.xlsx_from_query('SELECT n FROM public.sheet_probe');
ROLLBACK TO a;
\echo a long one can be cancelled
SET LOCAL statement_timeout = '300ms';
SELECT crm.xlsx_from_query('SELECT g, md5(g::text) FROM generate_series(1, 1000000) g');
ROLLBACK;
