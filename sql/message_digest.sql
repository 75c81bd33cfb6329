-- A rule with a digest tells a reader the facts of its window in one message: once each, without those that are not true
-- any more; two readers have two; what is rolled back leaves nothing; it waits for the reader's morning.
\set VERBOSITY terse
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
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.register_kind('x_mail_test', NULL, NULL, channel => 'email');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "max_parts": 4}') > 0, crm.add_integration('post', 'x_mail_test', '', '{"sender": "a@example.com"}') > 0;
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact (company_id, name, language, channel) VALUES (:company, 'John', 'en', 'email') RETURNING id AS john \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '8 916 123-45-67'), (:john, 'email', 'john@example.com');
INSERT INTO crm.template (code, channel, language, subject, body) VALUES ('done', 'sms', 'ru', NULL, 'Дело {{number}}'), ('done', 'email', 'en', 'Done', E'Thing {{number}}\ndone');
-- refused: urgent, and what has a digest no meaning with
INSERT INTO crm.rule (code, event_kind, audience, channel, template, digest, priority) VALUES ('many', 'thing.done', 'company_contacts', 'auto', 'done', '1 hour', 2);
INSERT INTO crm.rule (code, event_kind, audience, channel, template, digest, delay) VALUES ('many', 'thing.done', 'company_contacts', 'auto', 'done', '1 hour', '1 minute');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, digest) VALUES ('many', 'thing.done', 'company_contacts', 'auto', 'done', '1 second');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, digest, truth) VALUES ('many', 'thing.done', 'company_contacts', 'auto', 'done', '1 hour',
	'crm.now() < ''2026-11-24 09:50Z'' OR object_id <> 3') RETURNING version, broken;
-- five facts in two statements, one of them twice; one is rolled back
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', i, :company, jsonb_build_object('number', 'A-' || i) FROM generate_series(1, 3) i;
SELECT crm.set_now('2026-11-24 09:30Z', 0);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id) SELECT 'thing.done', 'thing', 4, :company, '{"number": "A-4"}', 'erp', 'x' FROM generate_series(1, 2) i;
SAVEPOINT s;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 5, :company, '{"number": "A-5"}');
ROLLBACK TO s;
SELECT count(*), count(DISTINCT contact_id), min(due_at), max(due_at) FROM crm.digest_item;
SELECT count(*) FROM crm.message_body;
SELECT crm.why_not((SELECT id FROM crm.event WHERE object_id = 1 AND kind = 'thing.done'), :ivan);
-- not yet; then one message each, in which what is not true any more is not; then nothing again
SELECT crm.set_now('2026-11-24 09:59Z', 0);
SELECT crm.digest_due() > 0;
SELECT (SELECT count(*) FROM crm.message_body);
SELECT crm.set_now('2026-11-24 10:00Z', 0);
SELECT crm.digest_due();
SELECT (SELECT count(*) FROM crm.message_body);
SELECT channel, recipient, subject, body, encoding, segments, rule FROM crm.message ORDER BY channel DESC;
SELECT crm.digest_due();
SELECT (SELECT count(*) FROM crm.message_body);
SELECT regexp_replace(crm.why((SELECT id FROM crm.message WHERE channel = 'sms')), '([Ee]vent|Message) \d+', '\1 N', 'g');
SELECT regexp_replace(crm.why_not(e.id, :ivan), 'message \d+', 'message N') FROM crm.event e WHERE e.kind = 'thing.done' AND e.object_id IN (1, 3) ORDER BY e.object_id;
-- the courier asks the truth of a digest no more; its failure is an event
SELECT crm.rule_untrue((SELECT id FROM crm.rule WHERE code = 'many'), (SELECT array_agg(id) FROM crm.message));
SELECT crm.message_events('message.failed', (SELECT array_agg(id) FROM crm.message WHERE channel = 'sms'), ARRAY['switched off']);
SELECT kind, data ->> 'rule', data ->> 'words', cause_id FROM crm.event WHERE kind = 'message.failed';
-- the same fact again: never twice
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id) VALUES ('thing.done', 'thing', 4, :company, '{"number": "A-4"}', 'erp', 'x') RETURNING id AS again \gset
SELECT count(*) FROM crm.digest_item WHERE ended_at IS NULL;
SELECT regexp_replace(crm.why_not(:again, :ivan), 'event \d+', 'event N');
-- many: ten lines and the rest; where an SMS would take too many parts, fewer
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', 100 + i, :company, jsonb_build_object('number', 'B-' || i) FROM generate_series(1, 14) i;
SELECT crm.set_now('2026-11-24 11:00Z', 0);
SELECT crm.digest_due();
SELECT body, segments FROM crm.message WHERE body LIKE '%B-%' ORDER BY channel DESC;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', 200 + i, :company, jsonb_build_object('number', 'C-' || i || repeat('ы', 60)) FROM generate_series(1, 14) i;
SELECT crm.set_now('2026-11-24 12:00Z', 0);
SELECT crm.digest_due();
SELECT facts, segments, tail FROM (SELECT cardinality(string_to_array(body, 'C-')) - 1 AS facts, segments, split_part(body, E'\n', -1) AS tail FROM crm.message WHERE channel = 'sms' AND body LIKE '%C-%') x;
-- a digest of which nothing is left is not sent
UPDATE crm.rule SET truth = 'crm.now() < ''2026-11-24 12:30Z''' WHERE code = 'many';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 300, :company, '{"number": "D-1"}');
SELECT crm.set_now('2026-11-24 13:00Z', 0);
SELECT crm.digest_due();
SELECT (SELECT count(*) FROM crm.message_body WHERE body LIKE '%D-%'), (SELECT count(*) FROM crm.digest_item WHERE ended_at IS NULL);
-- in the reader's night it waits for his morning, and takes what comes meanwhile; a rule that is off tells nothing
UPDATE crm.rule SET truth = NULL WHERE code = 'many';
SELECT crm.set_now('2026-11-24 18:30Z', 0);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 400, :company, '{"number": "E-1"}');
SELECT crm.set_now('2026-11-24 19:30Z', 0);
SELECT crm.digest_due() IS NULL;
SELECT (SELECT count(*) FROM crm.message_body WHERE body LIKE '%E-%'), (SELECT min(due_at) FROM crm.digest_item WHERE ended_at IS NULL);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 401, :company, '{"number": "E-2"}');
SELECT crm.set_now('2026-11-25 05:00Z', 0);
SELECT crm.digest_due();
SELECT body FROM crm.message WHERE body LIKE '%E-%' ORDER BY channel DESC;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 500, :company, '{"number": "F-1"}');
UPDATE crm.rule SET switched = false WHERE code = 'many';
SELECT crm.set_now('2026-11-25 06:00Z', 0);
SELECT crm.digest_due();
SELECT (SELECT count(*) FROM crm.message_body WHERE body LIKE '%F-%'), (SELECT min(words) FROM crm.digest_item WHERE object_id = 500);
-- a text that cannot be filled ends that digest alone
UPDATE crm.rule SET switched = NULL WHERE code = 'many';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 600, :company, '{"number": ["G-1"]}');
SELECT crm.set_now('2026-11-25 07:00Z', 0);
SELECT crm.digest_due();
SELECT DISTINCT reason, words FROM crm.message_skip;
-- told before the rule had a digest: not again
UPDATE crm.rule SET digest = NULL WHERE code = 'many';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id) VALUES ('thing.done', 'thing', 700, :company, '{"number": "H-1"}', 'erp', 'y');
UPDATE crm.rule SET digest = '1 hour' WHERE code = 'many';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id) VALUES ('thing.done', 'thing', 700, :company, '{"number": "H-1"}', 'erp', 'y');
SELECT (SELECT count(*) FROM crm.message_body WHERE body LIKE '%H-1%'), (SELECT count(*) FROM crm.digest_item WHERE object_id = 700);
SELECT promise FROM crm.selftest() WHERE NOT ok;
ROLLBACK;
