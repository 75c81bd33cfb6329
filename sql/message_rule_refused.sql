-- What cannot run is refused when a rule is saved: unknown names, unknown variables, loops, in words.
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
\set rule 'INSERT INTO crm.rule (code, event_kind, audience, channel, template, sender, condition, truth, of_rules) VALUES'
\set VERBOSITY terse
:rule ('r', 'thing.undone', 'company_contacts', 'sms', 'done', NULL, NULL, NULL, NULL);
:rule ('r', 'thing.done', 'everybody', 'sms', 'done', NULL, NULL, NULL, NULL);
\set VERBOSITY default
:rule ('r', 'thing.done', 'company_contacts', 'pigeon', 'done', NULL, NULL, NULL, NULL);
:rule ('r', 'thing.done', 'company_contacts', 'sms', 'undone', NULL, NULL, NULL, NULL);
:rule ('r', 'thing.done', 'company_contacts', 'sms', 'done', '79161234567', NULL, NULL, NULL);
:rule ('r', 'thing.done', 'company_contacts', 'sms', 'done', NULL, 'data->>''number''', NULL, NULL);
:rule ('r', 'thing.done', 'company_contacts', 'sms', 'done', NULL, NULL, 'pg_sleep(1) IS NULL', NULL);
:rule ('r', 'thing.done', 'company_contacts', 'sms', 'done', NULL, NULL, NULL, ARRAY['x']);
\set VERBOSITY terse
:rule ('R R', 'thing.done', 'company_contacts', 'sms', 'done', NULL, NULL, NULL, NULL);
\set VERBOSITY default
-- a template with a variable that the event does not carry, from both sides
INSERT INTO crm.template (code, channel, language, body) VALUES ('odd', 'sms', 'ru', '{{number}} {{weight}} {{colour}}');
:rule ('r', 'thing.done', 'company_contacts', 'sms', 'odd', NULL, NULL, NULL, NULL);
:rule ('good', 'thing.done', 'company_contacts', 'sms', 'done', NULL, NULL, NULL, NULL);
UPDATE crm.template SET body = 'Заказ {{nubmer}}' WHERE code = 'done' AND language = 'ru';
UPDATE crm.template SET body = 'Заказ {{number' WHERE code = 'done' AND language = 'ru';
UPDATE crm.template SET subject = E'two\nlines' WHERE code = 'done' AND language = 'ru';
DELETE FROM crm.template WHERE code = 'done' AND language = 'en';
DELETE FROM crm.template WHERE code = 'done';
-- loops
INSERT INTO crm.template (code, channel, language, body) VALUES ('failed', 'sms', 'ru', '{{words}}');
:rule ('again', 'message.failed', 'message_reader', 'sms', 'failed', NULL, NULL, NULL, NULL);
:rule ('again', 'message.failed', 'message_reader', 'sms', 'failed', NULL, NULL, NULL, ARRAY['again']);
:rule ('a', 'message.failed', 'message_reader', 'sms', 'failed', NULL, NULL, NULL, ARRAY['good']);
:rule ('b', 'message.failed', 'message_reader', 'sms', 'failed', NULL, NULL, NULL, ARRAY['a']);
:rule ('c', 'message.failed', 'message_reader', 'sms', 'failed', NULL, NULL, NULL, ARRAY['b']);
UPDATE crm.rule SET of_rules = ARRAY['good', 'c'] WHERE code = 'a';
:rule ('d', 'message.failed', 'message_reader', 'sms', 'failed', NULL, NULL, NULL, ARRAY['nobody']);
DELETE FROM crm.rule WHERE code = 'b';
-- every version is kept; the code never changes
UPDATE crm.rule SET priority = 2 WHERE code = 'good';
UPDATE crm.rule SET switched = false WHERE code = 'good';
UPDATE crm.rule SET code = 'better' WHERE code = 'good';
SELECT r.code, v.version, v.definition ->> 'priority' FROM crm.rule_version v JOIN crm.rule r ON r.id = v.rule_id WHERE r.code = 'good' ORDER BY 2;
UPDATE crm.rule_version SET version = 7;
-- an author who may not read what he names, and one who is gone
CREATE ROLE regress_crm_author;
GRANT USAGE ON SCHEMA crm TO regress_crm_author;
GRANT SELECT, INSERT, UPDATE ON crm.rule TO regress_crm_author;
SET SESSION AUTHORIZATION regress_crm_author;
:rule ('blind', 'thing.done', 'company_contacts', 'sms', 'done', NULL, 'object_id > 0', NULL, NULL);
RESET SESSION AUTHORIZATION;
REVOKE ALL ON crm.rule FROM regress_crm_author;
REVOKE ALL ON SCHEMA crm FROM regress_crm_author;
ALTER TABLE crm.rule DISABLE TRIGGER rule_save;
UPDATE crm.rule SET author = 'regress_crm_author' WHERE code = 'good';
ALTER TABLE crm.rule ENABLE TRIGGER rule_save;
DROP ROLE regress_crm_author;
SELECT crm.message_maintain();
SELECT severity, subject, message FROM crm.health WHERE subject = 'rule good';
ROLLBACK;
