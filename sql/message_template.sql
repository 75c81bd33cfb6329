-- claim 57: templates pick the reader's language, keep their versions, can be previewed on a real event; a value is never read as a template.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number', 'tonnes'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3}') AS gate \gset
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '8 916 123-45-67');
INSERT INTO crm.template (code, channel, language, body) VALUES
	('done', 'sms', 'ru', 'Заказ {{number}}: {{tonnes}} т, {{contact_name}}'),
	('done', 'sms', 'en', 'Order {{number}}: {{tonnes}} t, {{contact_name}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('r', 'thing.done', 'company_contacts', 'sms', 'done');
INSERT INTO crm.contact (company_id, name, language) VALUES (:company, 'John', 'en') RETURNING id AS john \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:john, 'phone', '+79161234568');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 1, :company, '{"number": "{{contact_name}}", "tonnes": 20.5}') RETURNING id AS e \gset
SELECT language, body, encoding, segments FROM crm.message ORDER BY id;
-- the company's language, then Russian
UPDATE crm.company SET language = 'en' WHERE id = :company;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 2, :company, '{"number": "2"}');
DELETE FROM crm.template WHERE code = 'done' AND language = 'en';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 3, :company, '{"number": "3"}');
SELECT object_id, language, body FROM crm.message WHERE object_id IN (2, 3) ORDER BY id;
-- versions
UPDATE crm.template SET body = 'Заказ {{number}} готов' WHERE code = 'done' RETURNING version;
UPDATE crm.template SET body = body WHERE code = 'done' RETURNING version;
SELECT version, v.body FROM crm.template_version v WHERE template_id = (SELECT id FROM crm.template WHERE code = 'done') ORDER BY 1;
-- control characters, zero-width and bidirectional marks in the data
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 4, :company, jsonb_build_object('number', E'A\r\nB\u202Egpj\u200B\u0007!'));
SELECT body::bytea = convert_to(E'Заказ A\nBgpj! готов', 'UTF8') FROM crm.message WHERE object_id = 4 LIMIT 1;
-- preview
SELECT * FROM crm.template_preview('done', :e);
\set VERBOSITY terse
SELECT * FROM crm.template_preview('done', :e, 'en');
\set VERBOSITY default
SELECT * FROM crm.template_preview('done', 0);
SELECT count(*) FROM crm.message WHERE body LIKE '%готов%' AND object_id = 1;
-- a template that renders to nothing, a text that is too long
UPDATE crm.template SET body = '{{tonnes}}' WHERE code = 'done';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 5, :company, '{}');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 6, :company, jsonb_build_object('tonnes', repeat('ы', 700)));
SELECT DISTINCT reason, words FROM crm.message_skip ORDER BY 1;
-- a value that is no text stops its own event only
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
SELECT 'thing.done', 'thing', 6 + i, :company, CASE i WHEN 2 THEN '{"tonnes": [1, 2]}' ELSE '{"tonnes": 3}' END::jsonb FROM generate_series(1, 3) i;
SELECT object_id, count(*) FROM crm.message WHERE object_id > 6 GROUP BY 1 ORDER BY 1;
SELECT count(*) FROM crm.message_skip WHERE reason = 'error';
ROLLBACK;
