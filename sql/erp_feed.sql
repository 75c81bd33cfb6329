-- The feed (protocols/erp.md, section 4): numbered messages, the same again until confirmed, newest state, no echo, dense positions, a new epoch in another place.
-- claim 3: an object made here is linked to its document of the ERP
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
SELECT result FROM crm_erp.put_employee('E-1', 'Петров');
SELECT result FROM crm_erp.put_company('C-1', 'Ромашка', '7707083893', owner_erp_id => 'E-1');
-- nobody reads: nothing is kept
SELECT count(*) FROM crm.erp_changed;
CREATE FUNCTION pg_temp.feed(node text, most text DEFAULT NULL) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws('|', f.message_no, f.op, f.object_type, f.object_key = (f.payload::json ->> 'id'), f.changed_at, f.payload::jsonb - 'id' - 'company_id' - 'contact_id' - 'owner_id' - 'deal_id' - 'place_id')
	FROM crm_erp.feed(node, coalesce(most, '100')) f $$;
-- the first call gives what is there
SELECT pg_temp.feed('ut');
-- asked again: the same number and object, its newest state; a confirmed one is gone
UPDATE crm.company SET name = 'Ромашка+' WHERE source_id = 'C-1';
SELECT pg_temp.feed('ut');
SELECT crm_erp.ack('ut', 2);
SELECT crm_erp.ack('ut', 'x');
SELECT crm_erp.ack('ut', 1), crm_erp.ack('ut', '1'), crm_erp.ack('ut', 0);
-- the change after the message was given comes with the next; then nothing
SELECT pg_temp.feed('ut');
SELECT crm_erp.ack('ut', 2);
SELECT count(*) FROM crm_erp.feed('ut', 10);
SELECT crm_erp.ack('ut', 2);
-- contact, phone, deal, order, lead; two at a time; many changes of one object are one row
INSERT INTO crm.contact (id, name, company_id) SELECT 901, 'Иванов', id FROM crm.company WHERE source_id = 'C-1';
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '8 916 123-45-67');
UPDATE crm.contact SET "position" = 'Директор' WHERE id = 901;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, product, tonnes, price) SELECT 901, 'N-1', id, 901, 'Цемент', 10, 5000 FROM crm.company WHERE source_id = 'C-1';
INSERT INTO crm.deal (id, funnel_id, company_id, name) SELECT 901, f.id, c.id, 'Сделка' FROM crm.funnel f, crm.company c WHERE f.code = 'delivery' AND c.source_id = 'C-1';
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "L1", "phone": "89161234567", "name": "И"}');
SELECT pg_temp.feed('ut', '2');
SELECT crm_erp.ack('ut', 3);
SELECT pg_temp.feed('ut', '100');
SELECT crm_erp.ack('ut', 4);
-- our people are contacts, too, and are not fed: no message without a row is left open
INSERT INTO crm.employee (name) VALUES ('Новый');
SELECT count(*) FROM crm_erp.feed('ut');
SELECT sent_no = acked_no FROM crm.erp_node;
-- deleted, merged
DELETE FROM crm.deal WHERE id = 901;
INSERT INTO crm.company (id, name, merged_into_id) SELECT 902, 'Ромашка (дубль)', id FROM crm.company WHERE source_id = 'C-1';
SELECT f.op, f.object_type, f.payload::jsonb ? 'merged_into' FROM crm_erp.feed('ut', 10) f;
SELECT crm_erp.ack('ut', (SELECT sent_no::numeric FROM crm.erp_node));
\echo echo
SELECT line, result FROM crm_erp.put_batch('ut', 1, '[{"put": "company", "erp_id": "C-2", "name": "От ERP"}]');
SELECT count(*) FROM crm_erp.feed('ut');
SELECT pg_temp.feed('second base', '1') IS NOT NULL;
SELECT line, result FROM crm_erp.put_batch('ut', 2, '[{"put": "company", "erp_id": "C-2", "name": "От ERP снова"}]');
SELECT crm_erp.ack('second base', '1') > 0;
SELECT f.payload::json ->> 'name' FROM crm_erp.feed('second base', 1000) f WHERE f.payload::json ->> 'erp_id' = 'C-2';
SELECT count(*) FROM crm_erp.feed('ut');
-- a plain call is fed, unless its login is the node's
SELECT result FROM crm_erp.put_company('C-3', 'Прямой');
SELECT f.payload::json ->> 'name' FROM crm_erp.feed('ut', 10) f;
SELECT crm_erp.ack('ut', (SELECT sent_no::text FROM crm.erp_node WHERE node = 'ut'));
SELECT crm.set_erp_node('ut', session_user::text, ARRAY['company', 'order']);
SELECT result FROM crm_erp.put_company('C-3', 'Прямой опять');
SELECT count(*) FROM crm_erp.feed('ut');
SELECT crm.set_erp_node('ut', NULL, ARRAY['company', 'order']);
UPDATE crm.contact SET name = 'Иванов И.' WHERE id = 901;
SELECT count(*) FROM crm_erp.feed('ut');
SELECT crm.set_erp_node('ut', 'nobody here');
SELECT crm.set_erp_node('ut', NULL, ARRAY['wagon']);
SELECT crm.set_erp_node('ut');
-- positions have no holes, and what all have confirmed is gone
SELECT crm_erp.ack('second base', '2') > 0;
SELECT count(*) FROM crm_erp.feed('second base', 1000) f WHERE crm_erp.ack('second base', f.message_no::text) < 0;
UPDATE crm.company SET full_name = 'x';
SELECT count(*) > 3, max(f.seq) - min(f.seq) + 1 = count(*) FROM crm_erp.feed('ut', 1000) f;
SELECT crm_erp.ack('ut', (SELECT sent_no::text FROM crm.erp_node WHERE node = 'ut')) > 0;
SELECT crm.drop_erp_node('second base'), crm.drop_erp_node('second base');
SELECT count(*) FROM crm_erp.feed('ut');
SELECT count(*) FROM crm.erp_feed;
\echo linked
SELECT result FROM crm_erp.put_link('CONT-1', 'contact', '901');
SELECT result FROM crm_erp.put_link('CONT-1', 'contact', '901');
SELECT result FROM crm_erp.put_contact('CONT-1', NULL, 'Иванов Иван');
SELECT result, id <> 901 FROM crm_erp.put_order('DOC-1', 'C-1', 'Песок');
\set VERBOSITY sqlstate
SELECT crm_erp.put_link('DOC-1', 'order', '901');
\set VERBOSITY default
SELECT result FROM crm_erp.put_link('DOC-2', 'order', '901');
SELECT result, id FROM crm_erp.put_order('DOC-2', state => 'confirmed', contact_erp_id => 'CONT-1');
SELECT crm_erp.put_link('DOC-3', 'order', '901');
SELECT crm_erp.put_link('DOC-3', 'order', '77777');
SELECT crm_erp.put_link('DOC-3', 'trip', '1');
SELECT erp_id, order_no, state FROM crm_erp.customer_order WHERE id = 901;
SELECT erp_id, name FROM crm_erp.contact WHERE id = 901;
SELECT f.payload::json ->> 'erp_id' FROM crm_erp.feed('ut') f WHERE f.object_type IN ('order', 'contact') ORDER BY f.seq;
\echo another place
UPDATE crm.erp_feed_state SET place = 'elsewhere';
SELECT crm.activate('live');
SELECT crm_erp.feed('ut');
SELECT crm_erp.ack('ut', 1);
SELECT crm_erp.put_batch('ut', 3, '[]');
SELECT severity, message FROM crm.erp_feed_health();
SELECT crm_erp.start_anew('ut', '2', '1000') ~ '^2:[0-9]+$';
SELECT min(f.message_no), count(*) = (SELECT count(*) FROM crm.company) + (SELECT count(*) FROM crm.contact WHERE source <> 'employee') + (SELECT count(*) FROM crm.deal) + (SELECT count(*) FROM crm.customer_order) + (SELECT count(*) FROM crm.lead) FROM crm_erp.feed('ut') f;
SELECT crm.activate('live');
SELECT crm_erp.ack('ut', 1001) > 0;
-- so long away that changes were dropped
UPDATE crm.company SET full_name = 'y';
SELECT crm.set_now('2027-03-24 12:00+03', 0) IS NOT NULL;
SELECT message FROM crm.erp_feed_health() WHERE message LIKE '%asked%';
SELECT crm.erp_feed_maintain();
SELECT message FROM crm.erp_feed_health() WHERE message LIKE '%asked%';
SELECT crm.erp_feed_maintain();
SELECT crm_erp.feed('ut');
\echo bad input
SELECT crm_erp.feed('');
SELECT crm_erp.feed(repeat('x', 64));
SELECT crm_erp.feed('new', '0');
SELECT crm_erp.feed('new', 'many');
SELECT crm_erp.received_no('never seen');
SELECT crm.deactivate();
SELECT crm_erp.feed('ut');
ROLLBACK;
