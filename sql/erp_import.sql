-- claims 4 and 93: of a sheet of a thousand clients with three bad rows 997 come in, three are explained by the
-- address of the cell, and the load can be taken back to the very rows that were there.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/test/data/xlsx/clients.xlsx'
SET client_min_messages = warning;
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO, YMD';
BEGIN;
SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.employee (id, name) VALUES (900001, 'Анна Смирнова');
INSERT INTO crm.company (id, name, inn) VALUES (900001, 'Прежний клиент', '7707083893');
INSERT INTO crm.contact (id, company_id, name) VALUES (900001, 900001, 'Пётр');
CREATE FUNCTION pg_temp.state() RETURNS TABLE (name text, hash text) LANGUAGE plpgsql AS $$
BEGIN
	-- every table of ours but what tells of loads
	FOR name IN SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition AND c.relname !~ '^import' ORDER BY 1 LOOP
		EXECUTE format('SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM %s t', name) INTO hash;
		RETURN NEXT;
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.refused(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; hint text;
BEGIN
	EXECUTE query;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, regexp_replace(message, 'load \d+', 'load N'), hint);
END $$;
CREATE TEMP TABLE before_ AS SELECT * FROM pg_temp.state();

SELECT crm.import_new('clients.xlsx', 'company', pg_read_binary_file(:'file')) AS id \gset
SELECT sheet, format, header_row, headings, mapping, state FROM crm.import WHERE id = :id;
\echo the preview changes nothing and names what will be refused
SELECT "row", would, data, problems FROM crm.import_preview(:id, 2);
SELECT count(*) FROM pg_temp.state() s JOIN before_ b USING (name) WHERE s.hash IS DISTINCT FROM b.hash;

SELECT * FROM crm.import_run(:id);
SELECT "row", cell, heading, severity, state, value, message, hint FROM crm.import_report(:id);
SELECT count(*), count(inn), count(*) FILTER (WHERE crm.inn_valid(inn)), count(owner_id), min(created_at), max(created_at) FROM crm.company WHERE source = 'import';
SELECT count(*), count(DISTINCT value), bool_and(is_mobile) FROM crm.contact_point;
SELECT name, inn, created_at FROM crm.company WHERE source = 'import' ORDER BY id LIMIT 3;
SELECT action, object_kind, count(*), min(extra ->> 'Город') FROM crm.import_item WHERE import_id = :id GROUP BY 1, 2 ORDER BY 1, 2;
\echo the bytes are gone, and a second run is refused
SELECT file IS NULL AS gone, state, rules, loaded_at FROM crm.import WHERE id = :id;
SELECT pg_temp.refused(format('SELECT crm.import_run(%s)', :id));

\echo the same file again: every row is there
SELECT rows_read, rows_created, rows_skipped, rows_refused, warnings FROM crm.import_load('clients.xlsx', 'company', pg_read_binary_file(:'file'));
SELECT regexp_replace(message, 'company \d+', 'company N') AS message, hint FROM crm.import_problem WHERE import_id > :id AND severity = 'warning' ORDER BY id LIMIT 1;

\echo taken back: all is as before
SELECT * FROM crm.import_undo(:id);
SELECT s.name FROM pg_temp.state() s JOIN before_ b USING (name) WHERE s.hash IS DISTINCT FROM b.hash;
SELECT state, undone_at FROM crm.import WHERE id = :id;
SELECT pg_temp.refused(format('SELECT crm.import_undo(%s)', :id));

\echo what something points to since, or what was changed since, stays and is told
SELECT import_id AS second FROM crm.import_load('some.csv', 'company', convert_to(E'Название;ИНН\nПервая;\nВторая;\nПрежний клиент;7707083893\n', 'UTF8'), policy => 'update') \gset
INSERT INTO crm.contact (company_id, name) SELECT id, 'Гость' FROM crm.company WHERE name = 'Первая';
SELECT object_kind, "row", reason FROM crm.import_undo(:second);
SELECT name FROM crm.company ORDER BY name;

\echo an update gives back what was, but for what others changed since
SELECT import_id AS third, rows_updated FROM crm.import_load('up.csv', 'company', convert_to(E'Название;ИНН;КПП;Ответственный\nНовое имя;7707083893;770701001;Анна Смирнова\n', 'UTF8'), policy => 'update') \gset
SELECT name, kpp, owner_id FROM crm.company WHERE id = 900001;
SELECT changes FROM crm.import_item WHERE import_id = :third;
UPDATE crm.company SET kpp = '770701002' WHERE id = 900001;
SELECT object_kind, object_id, reason FROM crm.import_undo(:third);
SELECT name, kpp, owner_id FROM crm.company WHERE id = 900001;
ROLLBACK;
