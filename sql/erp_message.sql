-- Messages of the ERP with numbers (protocols/erp.md, section 4): a repetition is answered as before, a gap is named, a number that goes back is refused with what to do.
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 12:00+03', 0) IS NOT NULL;
SELECT crm_erp.received_no('ut');
-- BOM, CR LF, an object a line, blanks that do not break in numbers, a comma, dates in two forms, the empty date
SELECT line, entity, erp_id, result, sqlstate, message FROM crm_erp.put_batch('ut', '1', E'\ufeff{"put": "company", "erp_id": "C-1", "name": "Ромашка"}\r\n'
	'{"put": "order", "erp_id": "O-1", "company_erp_id": "C-1", "product": "Цемент", "tonnes": "1\u00a0027,5", "ordered_at": "24.11.2026 9:05:00", "window_from": "2026-11-25T08:00:00", "window_to": "0001-01-01T00:00:00"}\r\n'
	'{"put": "order", "erp_id": "O-2", "company_erp_id": "NONE", "product": "Цемент"}\r\n{"entity": "company", "erp_id": "C-2", "name": "Вторая"}\r\n');
SELECT number, tonnes, ordered_at, window_from, window_to FROM crm.customer_order;
SELECT count(*) AS events FROM crm.event \gset
-- the same again: no effect, every row answered as it was
SELECT line, entity, erp_id, result, sqlstate, message FROM crm_erp.put_batch('ut', 1, E'\ufeff{"put": "company", "erp_id": "C-1", "name": "Ромашка"}\r\n'
	'{"put": "order", "erp_id": "O-1", "company_erp_id": "C-1", "product": "Цемент", "tonnes": "1\u00a0027,5", "ordered_at": "24.11.2026 9:05:00", "window_from": "2026-11-25T08:00:00", "window_to": "0001-01-01T00:00:00"}\r\n'
	'{"put": "order", "erp_id": "O-2", "company_erp_id": "NONE", "product": "Цемент"}\r\n{"entity": "company", "erp_id": "C-2", "name": "Вторая"}\r\n');
SELECT count(*) = :events, (SELECT count(*) FROM crm.company) FROM crm.event;
-- another body under a number that was taken
SELECT crm_erp.put_batch('ut', 1, '[]');
SELECT crm_erp.received_no('ut');
-- a gap is taken and named, in the answer and in crm.health; the number before it never comes back unseen
SELECT line, result, message FROM crm_erp.put_batch('ut', 5, '[{"put": "company", "erp_id": "C-3", "name": "Третья"}]');
SELECT line, result FROM crm_erp.put_batch('ut', 6, '[{"put": "company", "erp_id": "C-3", "name": "Третья"}]');
SELECT crm_erp.put_batch('ut', 3, '[]');
SELECT message FROM crm.health WHERE subject = 'erp node ut';
SELECT crm_erp.received_no('ut');
-- what is no JSON is refused whole and its number stays free
SELECT crm_erp.put_batch('ut', 7, '[{');
SELECT line, result FROM crm_erp.put_batch('ut', 7, '[{"put": "company", "erp_id": "C-4", "name": "Четвёртая"}]');
-- the base was restored: its numbers go back, and are taken after it says so
SELECT crm_erp.put_batch('ut', 5, '[{"put": "company", "erp_id": "C-5", "name": "Пятая"}]');
SELECT crm_erp.start_anew('ut', '4') LIKE '1:%', crm_erp.received_no('ut');
SELECT line, result FROM crm_erp.put_batch('ut', 5, '[{"put": "company", "erp_id": "C-5", "name": "Пятая"}]');
SELECT node, message_no, rows_ok, rows_bad, missing_from FROM crm.erp_message ORDER BY 1, 2;
-- another node has numbers of its own
SELECT crm_erp.received_no('other'), (SELECT count(*) FROM crm_erp.put_batch('other', 1, '')), crm_erp.received_no('other');
SELECT crm_erp.put_batch('ut', v, '[]') FROM unnest(ARRAY['0', '-1', '1,5', '', 'x']) v LIMIT 1;
SELECT crm_erp.put_batch('ut', '1,5', '[]');
SELECT crm_erp.put_batch('ut', '', '[]');
SELECT crm_erp.put_batch('', '1', '[]');
-- one bad row of a thousand
SELECT result, count(*), min(line), min(message) FROM crm_erp.put_batch('ut', 6, (SELECT jsonb_agg(jsonb_build_object('put', 'order', 'erp_id', 'M-' || g, 'company_erp_id', 'C-1', 'product', 'Цемент', 'tonnes', CASE WHEN g = 501 THEN 'много' ELSE g::text END))::text FROM generate_series(1, 1000) g)) GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM crm.customer_order WHERE source_id LIKE 'M-%';
SELECT count(*) FROM crm.erp_speaking;
-- every function of crm_erp has a face that takes text alone (claim 2)
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'crm_erp'::regnamespace
GROUP BY p.proname HAVING NOT bool_or((SELECT bool_and(t = 'text'::regtype) FROM unnest(p.proargtypes) t)) ORDER BY 1;
-- and what it answers is varchar(n), numeric(p,s), timestamp, integers and text
SELECT t.typname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_type t JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0
WHERE t.typnamespace = 'crm_erp'::regnamespace AND t.typtype = 'c' AND format_type(a.atttypid, a.atttypmod) !~ '^(character varying\(\d+\)|numeric\(\d+,\d+\)|bigint|integer|smallint|text|timestamp without time zone)$';
ROLLBACK;
