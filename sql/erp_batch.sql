-- claim 2: many rows in one text; a bad row does not stop the others
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 12:00+03', 0);
SELECT line, entity, erp_id, result, sqlstate, message, advice FROM crm_erp.put_batch(E'\ufeff[{"entity":"company","erp_id":"A","name":"Альфа"},\r\n'
	'{"entity":"company","erp_id":"A","name":"Альфа"},{"entity":"contact","erp_id":"k","company_erp_id":"A","name":"И","phone":"12"},\r\n'
	'{"entity":"order","erp_id":"o1","company_erp_id":"A","product":"Цемент","tonnes":27.5},{"entity":"order","erp_id":"o2","company_erp_id":"Z","product":"Цемент","tonnes":27.5},'
	'{"entity":"order","erp_id":"o3","company_erp_id":"A","prodct":"Цемент"},{"entity":"zzz"},5,{"entity":"company"},'
	'{"entity":"company","erp_id":"A","name":"Альфа и Ко"},{"entity":"company","erp_id":"B","name":"Бета","is_carrier":true,"archived":null},'
	'{"entity":"shipment","erp_id":"w","order_erp_id":"o1","vehicle":"А001АА77","tare_kg":"14 000","gross_kg":"40 000"}]\r\n');
SELECT line, erp_id, result FROM crm_erp.put_batch(E'{"entity":"company","erp_id":"A2","name":"1"}\r\n{"entity":"company","erp_id":"A3","name":"2"}\r\n');
SELECT line, erp_id, result FROM crm_erp.put_batch('{"rows":[{"entity":"company","erp_id":"A2","name":"1"}]}');
SELECT line, erp_id, result FROM crm_erp.put_batch('{"entity":"company","erp_id":"A2","name":"3"}');
SELECT count(*) FROM crm_erp.put_batch('');
SELECT * FROM crm_erp.put_batch('[{]');
SELECT * FROM crm_erp.put_batch('5');
-- every row bad, every second bad, one bad at each end: the good ones are there, in order
SELECT result, count(*) FROM crm_erp.put_batch((SELECT jsonb_agg(jsonb_build_object('entity', 'company', 'erp_id', 'bad' || g))::text FROM generate_series(1, 20) g)) GROUP BY 1;
SELECT result, count(*), min(line), max(line), bool_and(erp_id = 'm' || line) AS in_order
FROM crm_erp.put_batch((SELECT jsonb_agg(jsonb_build_object('entity', 'company', 'erp_id', 'm' || g, 'name', CASE WHEN g % 2 = 0 THEN 'x' END))::text FROM generate_series(1, 50) g)) GROUP BY 1 ORDER BY 1;
SELECT result, count(*) FROM crm_erp.put_batch((SELECT jsonb_agg(jsonb_build_object('entity', 'company', 'erp_id', 'n' || g, 'name', CASE WHEN g NOT IN (1, 700, 1500) THEN 'x' END))::text FROM generate_series(1, 1500) g)) GROUP BY 1 ORDER BY 1;
-- new orders go as a set, with what a row at a time makes; a bad one, one that is there and one that comes twice are told apart
SELECT result, count(*), min(line), min(message) FROM crm_erp.put_batch((SELECT jsonb_agg(jsonb_build_object('put', 'order', 'erp_id', 's' || CASE g WHEN 77 THEN 76 ELSE g END, 'company_erp_id', CASE g WHEN 300 THEN 'NONE' ELSE 'A' END,
	'product', 'Щебень', 'tonnes', '1,5', 'price', '100') || CASE g WHEN 201 THEN '{"stray": 1}'::jsonb WHEN 250 THEN '{"make_deal": 0}' ELSE '{}' END)::text FROM generate_series(1, 400) g)) GROUP BY 1 ORDER BY 1;
SELECT result, count(*) FROM crm_erp.put_batch((SELECT jsonb_agg(jsonb_build_object('put', 'order', 'erp_id', 's' || g, 'company_erp_id', 'A', 'product', 'Щебень', 'tonnes', CASE WHEN g = 50 THEN '2' ELSE '1,5' END))::text FROM generate_series(41, 60) g)) GROUP BY 1 ORDER BY 1;
SELECT count(*), count(o.deal_id), count(DISTINCT d.id), min(d.amount), max(d.amount), min(s.code), max(s.code), min(d.name), (SELECT count(*) FROM crm.event e WHERE e.kind = 'order.created' AND e.data ->> 'product' = 'Щебень')
FROM crm.customer_order o LEFT JOIN crm.deal d ON d.id = o.deal_id LEFT JOIN crm.stage s ON s.id = d.stage_id WHERE o.product = 'Щебень';
DELETE FROM crm.customer_order WHERE product = 'Щебень';
DELETE FROM crm.deal WHERE source_id LIKE 'order:s%';
SELECT count(*) FROM crm.company WHERE source_id ~ '^[mn][0-9]';
-- clients that can only INSERT
INSERT INTO crm_erp.company_in (erp_id, name, is_carrier) VALUES ('I-1', 'Вставка', '1');
INSERT INTO crm_erp.company_in (erp_id, name, is_carrier) VALUES ('I-1', 'Вставка', '1');
INSERT INTO crm_erp.order_in (erp_id, company_erp_id, product, tonnes) VALUES ('I-2', 'I-1', 'Песок', '5,5');
INSERT INTO crm_erp.order_in (erp_id, company_erp_id, product) VALUES ('I-3', 'NOPE', 'Песок');
SELECT c.name, c.is_carrier, o.tonnes FROM crm.company c JOIN crm.customer_order o ON o.company_id = c.id WHERE c.source_id = 'I-1';
DELETE FROM crm.customer_order WHERE source_id = 'I-2';
DELETE FROM crm.deal WHERE source_id = 'order:I-2';
-- what the ERP reads back
SELECT erp_id, name, is_client, is_carrier FROM crm_erp.company WHERE erp_id IN ('A', 'B') ORDER BY 1;
SELECT erp_id, order_no, deal_stage, product, tonnes, ordered_at, state FROM crm_erp.customer_order;
SELECT erp_id, vehicle_plate, net_kg, weighed_at FROM crm_erp.shipment;
SELECT vehicle_plate, state FROM crm_erp.trip;
SELECT name, funnel, stage, stage_name FROM crm_erp.deal;
SELECT entity, erp_id, column_name, value_before, value_after FROM crm_erp.change WHERE erp_id NOT LIKE 's%' ORDER BY id;
-- only what ODBC reads without a surprise
SELECT DISTINCT format_type(a.atttypid, a.atttypmod) AS type FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'crm_erp'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
	AND format_type(a.atttypid, a.atttypmod) !~ '^(character varying\(\d+\)|numeric\(\d+,\d+\)|bigint|integer|smallint|text|timestamp without time zone)$';
SELECT DISTINCT t::regtype FROM pg_proc p, unnest(p.proargtypes) t WHERE p.pronamespace = 'crm_erp'::regnamespace AND p.oid <> 'crm_erp.put_lead(jsonb)'::regprocedure ORDER BY 1;
ROLLBACK;
