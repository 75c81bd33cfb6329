-- claim 47: weighings are read from the scales' own database by two functions on replies, proved on recorded ones without a network
-- claim 67: a kind is two functions and a row
\set QUIET on
\set VERBOSITY terse
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/weighbridge_pg/'
SET timezone = 'UTC';
SET datestyle = 'ISO';
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL crm.time_zone = 'Europe/Moscow';
SELECT set_config('test.folder', :'folder', true) <> '' AS folder_known;
SELECT crm.activate('live'), crm.set_now('2026-05-02 12:00+03', 0) IS NOT NULL;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (1, 'A-1', 1, 'Cement'), (2, 'A-2', 1, 'Sand');
SELECT crm.add_integration('vesy', 'weighbridge_pg', 'postgresql://10.1.2.3:5432/vesy', '{"table": "Весы.Взвешивание", "key": "Номер", "username": "reader", "batch": 6, "overlap": 3, "kinds": {"1": "tare", "2": "gross"},
	"columns": {"vehicle": "Машина", "kind": "Вид", "kg": "Вес", "at": "Время", "order": "Заказ", "waybill": "ttn\"; DROP TABLE x; --", "storno": "Отменено"}}') > 0 AS added;
UPDATE crm.integration SET id = 78 WHERE name = 'vesy';

CREATE FUNCTION pg_temp.file(name text) RETURNS bytea LANGUAGE sql AS
	$$ SELECT pg_read_binary_file(current_setting('test.folder') || name || '.json') $$;
CREATE FUNCTION pg_temp.ask() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', r.method, r.url, r.username, r.password, r.timeout_ms, convert_from(r.body, 'UTF8'), '|', r.context) FROM crm.weighbridge_pg_next(78, 5) AS r $$;
-- a reply to the question that is open; then what is remembered
CREATE FUNCTION pg_temp.answer(step text, params jsonb, body bytea, status integer DEFAULT 200, error text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.courier_settle(1, 78, ARRAY[ROW (1, status, '', body, error, true, 20, jsonb_build_object('step', step, 'params', params))::crm.reply]);
	RETURN (SELECT format('%s %s failures %s%s', (SELECT c.value FROM crm.cursor c WHERE c.integration_id = 78), s.session - 'counted_ms', s.failures, ': ' || s.last_error) FROM crm.integration_state s WHERE s.integration_id = 78);
END $$;
CREATE VIEW pg_temp.weighings AS SELECT w.source, w.source_id, v.plate, w.kind, trim_scale(w.kg) AS kg, w.at, w.order_ref, w.waybill, w.cancelled_at IS NOT NULL AS storno, k.state
	FROM crm.weighing w JOIN crm.vehicle v ON v.id = w.vehicle_id LEFT JOIN crm.weighing_pair k ON k.weighing_id = w.id ORDER BY w.source_id::bigint;

\echo -- without a password nothing is asked; settings are looked through
SELECT * FROM pg_temp.ask();
SELECT last_error FROM crm.integration_state WHERE integration_id = 78;
SELECT crm.set_secret('vesy', 'pass-word-1');
SELECT count(crm.add_integration('t' || v.n, 'weighbridge_pg', 'postgresql://10.1.2.3/vesy', (SELECT settings FROM crm.integration WHERE id = 78) || v.more)) FROM (VALUES (1, '{"table": "weights"}'::jsonb), (2, '{"key": ""}'),
	(3, '{"columns": {"vehicle": "a", "kg": "b"}}'), (4, '{"columns": {"where": "1=1"}}'), (5, '{"kinds": {"x": "netto"}}'), (6, '{"zone": "Moon"}'), (7, '{"unit": "lb"}'), (8, '{"batch": 0}'), (9, '{"username": ""}')) AS v(n, more);
SELECT crm.weighbridge_pg_problem(id) FROM crm.integration WHERE name <> 'vesy' ORDER BY name;
DELETE FROM crm.integration WHERE name <> 'vesy';
\echo -- names are quoted, values are parameters
SELECT * FROM pg_temp.ask();
\echo -- the rows; the same again changes nothing
SELECT pg_temp.answer('rows', '[0, 9223372036854775807, 9]', pg_temp.file('rows'));
SELECT * FROM pg_temp.weighings;
SELECT o.number, trim_scale(s.tare_kg), trim_scale(s.gross_kg), s.weighed_at, s.product, s.waybill FROM crm.shipment s JOIN crm.customer_order o ON o.id = s.order_id;
SELECT pg_temp.answer('rows', '[0, 9223372036854775807, 9]', pg_temp.file('rows'));
SELECT count(*), (SELECT count(*) FROM crm.event WHERE kind = 'shipment.loaded') FROM crm.weighing;
\echo -- a row whose key was given out before: it is among the last keys
SELECT crm.set_session(78, '{"counted_ms": 9000000000000000}');
SELECT right(pg_temp.ask(), 60);
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', pg_temp.file('late'));
SELECT * FROM pg_temp.weighings WHERE plate = 'В777ОР 77';
\echo -- bad rows are kept beside, the good one among them is taken
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', pg_temp.file('bad'));
SELECT what, reason, convert_from(bytes, 'UTF8') FROM crm.rejected WHERE integration_id = 78 ORDER BY id;
SELECT source_id, kind FROM pg_temp.weighings WHERE source_id = '24';
SELECT severity, message FROM crm.health WHERE subject = 'integration vesy' ORDER BY 2;
\echo -- the count of a day: one that differs is read again, once
SELECT crm.set_session(78, '{}');
SELECT * FROM pg_temp.ask();
SELECT pg_temp.answer('count', '[9, 24]', pg_temp.file('count'));
SELECT what, span, theirs, ours, rejected FROM crm.completeness;
SELECT right(pg_temp.ask(), 60);
SELECT pg_temp.answer('again', '[9, 16, 6]', convert_to('{"rows": [["10", "А 9", "Тара", "9000", "2026-05-01 09:00:00", null, null, null, "false"]]}', 'UTF8'));
SELECT right(pg_temp.ask(), 60);
SELECT pg_temp.answer('count', '[9, 24]', pg_temp.file('count'));
SELECT theirs, ours, rejected FROM crm.completeness ORDER BY span;
SELECT right(pg_temp.ask(), 60);
\echo -- errors of the server, in words
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', NULL, 401, 'auth: 28P01 the password is refused');
SELECT hold_ms - crm.monotonic_ms() BETWEEN 3590000 AND 3600000 AS an_hour FROM crm.integration_state WHERE integration_id = 78;
SELECT message, hint FROM crm.health WHERE subject = 'integration vesy' AND message ~ 'fails';
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', NULL, 400, 'sql: 42P01 there is no such table (relation "x" does not exist)');
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', NULL, 503, 'broken: 57P03 the server is starting or stopping');
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', NULL, 0, 'too large: the reply exceeds 16777216 bytes');
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', '{"rows": 5}');
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', '\xff00');
SELECT pg_temp.answer('rows', '[14, 9223372036854775807, 9]', '{"columns": [], "rows": []}');
\echo -- the test by hand
SELECT convert_from(r.body, 'UTF8'), r.context FROM crm.weighbridge_pg_test(78) r;
SELECT crm.weighbridge_pg_judge(78, ROW (1, 200, '', b, e, true, 5, NULL)::crm.reply) FROM (VALUES (convert_to('{"rows": [["11", "А 1", "Тара", "14000", "2026-05-01 10:00:00"]]}', 'UTF8'), NULL), ('{"rows": []}', NULL), (NULL, 'auth: 28P01 the password is refused'), ('no', NULL)) AS v(b, e);
SELECT count(*) AS leaks FROM (SELECT i::text FROM crm.integration i UNION ALL SELECT r::text FROM crm.rejected r UNION ALL SELECT h::text FROM crm.health h UNION ALL SELECT c::text FROM crm.cursor c) x(words) WHERE words ~ 'pass-word';
ROLLBACK;
