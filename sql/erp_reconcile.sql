-- Lists compared with the ERP, both ways: counts, sums and a hash a row that the ERP can reckon itself (md5 of the fields is the oracle).
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
SELECT count(*) FROM crm_erp.put_batch('[{"put":"company","erp_id":"C-1","name":"Ромашка","inn":"7707083893"},{"put":"company","erp_id":"C-2","name":"Вторая","archived":1},
	{"put":"order","erp_id":"O-1","company_erp_id":"C-1","product":"Цемент","tonnes":"27,5","price":"5000,5","number":"1","ordered_at":"2026-11-01T00:00:00"},
	{"put":"order","erp_id":"O-2","company_erp_id":"C-2","product":"Песок","tonnes":"10","number":"2","ordered_at":"2026-11-30T23:59:59","state":"confirmed"},
	{"put":"order","erp_id":"O-3","company_erp_id":"C-2","product":"Песок","tonnes":"1","number":"3","ordered_at":"2026-12-01T00:00:00"},
	{"put":"shipment","erp_id":"W-1","order_erp_id":"O-1","vehicle":"А001АА77","tare_kg":"14000","gross_kg":"41500","weighed_at":"2026-11-24T10:00:00","waybill":"T1"},
	{"put":"shipment","erp_id":"W-2","order_erp_id":"O-1","vehicle":"А001АА77","tare_kg":"14000","gross_kg":"40000","weighed_at":"2026-11-24T11:00:00","storno":1},
	{"put":"employee","erp_id":"E-1","name":"Петров","team":"Север"},{"put":"vehicle","erp_id":"V-1","plate":"В 777 ВВ 77"},{"put":"place","erp_id":"L-1","name":"Стройка"},
	{"put":"contact","erp_id":"P-1","company_erp_id":"C-1","name":"Иванов"},{"put":"weighing","erp_id":"X-1","vehicle":"В777ВВ77","kind":"tare","kg":"14000","weighed_at":"2026-11-24T12:00:00"}]') WHERE result = 'created';
INSERT INTO crm.customer_order (number, company_id, product) SELECT 'made here', id, 'x' FROM crm.company WHERE source_id = 'C-1';
-- November in the plant's zone: two orders, not the one of the next month, not one that the ERP does not know
SELECT kind, erp_id, at, count, quantity, amount, hash, content FROM crm_erp.reconcile('order', '01.11.2026', '2026-12-01T00:00:00');
SELECT r.hash = md5(md5('O-1|1|C-1|Цемент|27.500|5000.5000|new') || md5('O-2|2|C-2|Песок|10.000||confirmed')) FROM crm_erp.reconcile('order', timestamp '2026-11-01', timestamp '2026-12-01') r WHERE kind = 'total';
SELECT e, kind, erp_id, quantity, content FROM unnest(ARRAY['shipment', 'weighing', 'company', 'contact', 'employee', 'vehicle', 'place']) e, crm_erp.reconcile(e) WHERE kind = 'row';
SELECT kind, count, quantity FROM crm_erp.reconcile('shipment') WHERE kind = 'total';
SELECT kind, count, quantity, hash = md5('') FROM crm_erp.reconcile('order', '2030-01-01');
-- one order changes: its hash and the total's do
UPDATE crm.customer_order SET tonnes = 28 WHERE source_id = 'O-1';
SELECT kind, erp_id, hash FROM crm_erp.reconcile('order', '2026-11-01', '2026-12-01');
\echo the other way
SELECT problem, erp_id, id IS NOT NULL, ours, theirs FROM crm_erp.reconcile_list('order', '2026-11-01', '2026-12-01', E'\ufeffO-1;' || md5('O-1|1|C-1|Цемент|27.500|5000.5000|new') || E'\r\nO-2\r\nO-9;abc\r\nO-9;abc\r\n');
SELECT problem, erp_id FROM crm_erp.reconcile_list('order', '2026-11-01', '2026-12-01', 'O-2;' || upper(md5('O-2|2|C-2|Песок|10.000||confirmed')));
SELECT problem, erp_id FROM crm_erp.reconcile_list('order', '2026-11-01', '2026-12-01', '["O-1", "O-2", "O-2"]');
SELECT severity, message FROM crm.erp_feed_health();
SELECT count(*) FROM crm_erp.reconcile_list('order', '2026-11-01', '2026-12-01', '[{"erp_id": "O-1"}, {"erp_id": "O-2", "hash": null}]');
SELECT count(*) FROM crm.erp_feed_health();
SELECT entity, theirs, ours, differences FROM crm.erp_reconciled;
SELECT problem, erp_id FROM crm_erp.reconcile_list('company', '', '', '');
\echo bad input
SELECT crm_erp.reconcile('everything');
SELECT crm_erp.reconcile('order', 'yesterday');
SELECT crm_erp.reconcile_list('order', NULL, NULL, '[{');
ROLLBACK;
