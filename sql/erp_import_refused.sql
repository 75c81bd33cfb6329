-- claims 4 and 93: what cannot be loaded is refused before anything is written, with SQLSTATE and what to do.
SET client_min_messages = warning;
BEGIN;
SELECT crm.activate('live') AS mode;
CREATE FUNCTION pg_temp.try(entity text, body text, mapping jsonb DEFAULT NULL, policy text DEFAULT 'skip', profile text DEFAULT 'any', options jsonb DEFAULT '{}', name text DEFAULT 'x.csv') RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; hint text; made bigint;
BEGIN
	made := crm.import_new(name, entity, convert_to(body, 'UTF8'), mapping, policy, profile, NULL, options);
	RETURN (SELECT 'taken: ' || i.mapping::text FROM crm.import i WHERE i.id = made);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(hint, ''));
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
SELECT pg_temp.try('lead', E'Название\nx');
SELECT pg_temp.try('company', E'Название\nx', policy => 'guess');
SELECT pg_temp.try('company', E'Название\nx', profile => 'salesforce');
SELECT pg_temp.try('company', E'Название\nx', options => '{"dates": "ymd"}');
SELECT pg_temp.try('company', E'Название\nx', options => '{"zone": "Mars/Base"}');
SELECT pg_temp.try('company', E'Название\nx', options => '{"source": "erp"}');
SELECT pg_temp.try('company', E'Название\nx', options => '[]');
SELECT pg_temp.try('company', E'Название\nx', name => ' ');
SELECT pg_temp.try('company', E'Цвет;Размер\nx;y');
SELECT pg_temp.try('company', E'Цвет;Размер\nx;y', '{"Вкус": "name"}');
SELECT pg_temp.try('company', E'Цвет;Размер\nx;y', '{"Цвет": "taste"}');
SELECT pg_temp.try('company', E'Цвет;Размер\nx;y', '{"Цвет": "name", "$B": "inn"}');
SELECT pg_temp.try('company', E'Название;ИНН\nx;y', '{"ИНН": null}');
SELECT pg_temp.try('task', E'Задача\nx');
SELECT pg_temp.try('company', array_to_string(array_agg('c' || n), ';') || E'\nx') FROM generate_series(1, 300) n;
SELECT pg_temp.try('company', '<html>');
SELECT pg_temp.try('company', E'\n\n');
\echo nothing was kept
SELECT count(*) FROM crm.import WHERE mapping <> '{"inn": 2, "name": 1}' AND mapping <> '{"name": 1}';
\echo unknown loads, and loads of others
SELECT pg_temp.refused('SELECT crm.import_run(-1)'), pg_temp.refused('SELECT crm.import_preview(NULL)');
\echo cells: every kind of fault with its address
SELECT import_id AS id, rows_read, rows_created, rows_refused FROM crm.import_load('x.csv', 'deal', convert_to(E'Сделка;Компания;Сумма;Дата создания;ИНН;ID\n;;5;;;1\nДве;x;много;;;2\nТри;x;99999999999999;;;3\nЧетыре;x;1;24.11.0900;;4\nПять;x;1;24.11.1800;;5\nШесть;x;1;;770708389;6\n' || repeat('Ы', 501) || E';x;1;;;7\nХорошая;x;"1 000,50";24.11.2026;;8\n', 'UTF8'), options => '{"funnel": "delivery"}') \gset
SELECT :rows_read AS read, :rows_created AS created, :rows_refused AS refused;
SELECT cell, severity, state, left(value, 20) AS value, left(message, 90) AS message, hint FROM crm.import_report(:id);
SELECT name, amount FROM crm.deal WHERE source = 'import' ORDER BY id;
\echo a check that only the table knows refuses its row and no other
ALTER TABLE crm.company ADD CONSTRAINT dba_check CHECK (name <> 'Запретная');
SELECT import_id AS id FROM crm.import_load('y.csv', 'company', convert_to((SELECT 'Название' || string_agg(E'\n' || CASE n WHEN 37 THEN 'Запретная' ELSE 'К' || n END, '' ORDER BY n) FROM generate_series(1, 100) n), 'UTF8')) \gset
SELECT rows_created, rows_refused FROM crm.import WHERE id = :id;
SELECT cell, state, message FROM crm.import_report(:id);
\echo a head loads what is his; another head does not see it
SAVEPOINT b;
CREATE ROLE crm_test_head1 LOGIN IN ROLE crm_head;
CREATE ROLE crm_test_head2 LOGIN IN ROLE crm_head;
SET LOCAL SESSION AUTHORIZATION crm_test_head1;
SELECT import_id AS id, rows_created FROM crm.import_load('z.csv', 'company', convert_to(E'Название\nЕго клиент\n', 'UTF8')) \gset
SELECT :rows_created AS created;

SET LOCAL SESSION AUTHORIZATION crm_test_head2;
SELECT pg_temp.refused(format('SELECT crm.import_undo(%s)', :id));
ROLLBACK;
BEGIN;
\echo a manager loads nothing
SET LOCAL ROLE crm_manager;
SELECT crm.import_new('x', 'company', '');
ROLLBACK;
