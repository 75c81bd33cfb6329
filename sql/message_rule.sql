-- claim 47: a fact's event and the message of a rule are one transaction; once for one cause; what is not said has a reason.
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
UPDATE crm.party_setting SET same_phone = 'report';	-- two have one phone
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number', 'tonnes'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3}') AS gate \gset
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '8 916 123-45-67');
INSERT INTO crm.template (code, channel, language, body) VALUES
	('done', 'sms', 'ru', 'Заказ {{number}}: {{tonnes}} т, {{contact_name}}'),
	('done', 'sms', 'en', 'Order {{number}}: {{tonnes}} t, {{contact_name}}');
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template) VALUES
	('heavy', 'thing.done', '(data->>''tonnes'')::numeric > 10', 'company_contacts', 'sms', 'done') RETURNING version, enabled, broken;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 1, :company, '{"number": "A-1", "tonnes": 20.5}') RETURNING id AS e1 \gset
SELECT state, channel, recipient, sender, body, language, encoding, segments, rule FROM crm.message;
-- met by no condition, met by a text that is no number, of no company
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 2, :company, '{"number": "A-2", "tonnes": 5}') RETURNING id AS e2 \gset
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 3, :company, '{"number": "A-3", "tonnes": "много"}') RETURNING id AS e3 \gset
INSERT INTO crm.event (kind, object_kind, object_id, data) VALUES ('thing.done', 'thing', 4, '{"number": "A-4", "tonnes": 50}') RETURNING id AS e4 \gset
SELECT count(*) FROM crm.message;
SELECT reason, words FROM crm.message_skip;
SELECT crm.why_not(:e2, :ivan);
SELECT crm.why_not(:e3, :ivan);
SELECT crm.why_not(:e4, :ivan);
-- the same cause from a source: once
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
SELECT 'thing.done', 'thing', 5, :company, '{"number": "A-5", "tonnes": 15}', 'erp', '000123' FROM generate_series(1, 3);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
VALUES ('thing.done', 'thing', 5, :company, '{"number": "A-5", "tonnes": 15}', 'erp', '000123') RETURNING id AS e5 \gset
SELECT body FROM crm.message WHERE object_id = 5;
SELECT regexp_replace(crm.why_not(:e5, :ivan), 'message \d+', 'message N');
-- once in the object's life
UPDATE crm.rule SET once = 'object' WHERE code = 'heavy' RETURNING version;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
SELECT 'thing.done', 'thing', 6, :company, '{"number": "A-6", "tonnes": 15}' FROM generate_series(1, 3);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 6, :company, '{"number": "A-6", "tonnes": 15}');
SELECT count(*), min(rule_version) FROM crm.message WHERE object_id = 6;
-- at most two an hour for a contact
INSERT INTO crm.rule (code, event_kind, audience, channel, template, throttle_count, throttle_interval)
VALUES ('throttled', 'thing.done', 'company_contacts', 'sms', 'done', 2, '1 hour');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
SELECT 'thing.done', 'thing', 10 + i, :company, jsonb_build_object('number', i, 'tonnes', 1) FROM generate_series(1, 4) i;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 20, :company, '{"number": "A-20", "tonnes": 1}') RETURNING id AS e20 \gset
SELECT body FROM crm.message WHERE rule = 'throttled' ORDER BY id;
SELECT crm.why_not(:e20, :ivan);
-- switched off by the DBA; the switch is no new version
UPDATE crm.rule SET switched = false WHERE code = 'throttled' RETURNING version;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 21, :company, '{"number": "A-21", "tonnes": 1}') RETURNING id AS e21 \gset
SELECT crm.why_not(:e21, :ivan);
-- a contact without a mobile phone, one with two, and two contacts with one phone
UPDATE crm.rule SET switched = true, throttle_count = NULL, throttle_interval = NULL WHERE code = 'throttled';
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Пётр') RETURNING id AS petr \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Анна') RETURNING id AS anna \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:petr, 'phone', '+7 495 123-45-67'), (:anna, 'phone', '+7 916 123-45-67');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 22, :company, '{"number": "A-22", "tonnes": 1}') RETURNING id AS e22 \gset
SELECT recipient, body FROM crm.message WHERE object_id = 22;
SELECT regexp_replace(crm.why_not(:e22, :petr), 'contact \d+', 'contact N');
SELECT regexp_replace(crm.why_not(:e22, :anna), 'message \d+', 'message N');
-- rolled back: neither event nor message
SAVEPOINT fact;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 30, :company, '{"number": "A-30", "tonnes": 30}');
SELECT count(*) FROM crm.message WHERE object_id = 30;
ROLLBACK TO fact;
SELECT count(*) FROM crm.message WHERE object_id = 30;
-- a set: one statement, same messages
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
SELECT 'thing.done', 'thing', 1000 + i, :company, jsonb_build_object('number', i, 'tonnes', i) FROM generate_series(1, 200) i;
SELECT rule, count(*), min(body), max(segments) FROM crm.message WHERE object_id > 1000 GROUP BY rule ORDER BY rule;
SELECT regexp_replace(crm.why(min(id)), '(Message|Event|thing) \d+', '\1 N', 'g') FROM crm.message WHERE object_id = 1001;
ROLLBACK;
