-- claim 58: an SMS goes under an alpha name or not at all; crm.send checks what it is given and says what to do.
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
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.send('sms', '+79161234567', 'Привет');
SELECT crm.add_integration('gate', 'x_sms_test', '') AS gate \gset
SELECT crm.send('sms', '+79161234567', 'Привет');
SELECT crm.send('sms', '+79161234567', 'Привет', sender => 'CEMENT') > 0;
UPDATE crm.integration SET settings = '{"sender": "CEMENT"}' WHERE id = :gate;
SELECT crm.send('sms', '8 (916) 123-45-67', E'Привет\u200B!\r\n') > 0;
SELECT recipient, sender, body::bytea, segments, state FROM crm.message ORDER BY id;
SELECT s, crm.sender_check('sms', s) FROM unnest(ARRAY['CEMENT', 'abc', 'A.B-C_d 1']) s;
SELECT crm.sender_check('sms', '79161234567');
SELECT crm.sender_check('sms', '123');
SELECT crm.sender_check('sms', 'AB');
SELECT crm.sender_check('sms', 'ABCDEFGHIJKL');
SELECT crm.sender_check('sms', 'ЦЕМЕНТ');
SELECT crm.sender_check('sms', E'CEM\nENT');
-- bad input
SELECT crm.send('sms', 'не телефон', 'x');
SELECT crm.send('sms', '12', 'x');
SELECT crm.send('sms', E'+79161234567\r\nBcc: x', 'x');
SELECT crm.send('sms', NULL, 'x');
SELECT crm.send('sms', '+79161234567', '');
SELECT crm.send('sms', '+79161234567', E'\u200B');
SELECT crm.send('sms', '+79161234567', repeat('ы', 2000));
SELECT crm.send('sms', '+79161234567', repeat('x', 1048577));
SELECT crm.send('pigeon', 'x', 'x');
SELECT crm.send('sms', '+79161234567', 'x', priority => 9);
SELECT crm.send('sms', '+79161234567', 'x', not_before => 'infinity');
SELECT crm.send('sms', '+79161234567', 'x', expires_after => '-1 hour');
SELECT crm.send('sms', '+79161234567', 'x', contact_id => -1);
SELECT crm.send('sms', '+79161234567', 'x', integration => 'nobody');
SELECT crm.send('email', 'x@example.com', 'x', subject => E'two\r\nlines');
SELECT crm.message_attach(1, 'x', 'text/plain', 'x');
-- EXPLAIN sends nothing
EXPLAIN (COSTS off) SELECT crm.send('sms', '+79161234567', 'x');
SELECT count(*) FROM crm.message;
-- an event is no reason to fail where the name is missing: the reason is kept, and said
UPDATE crm.integration SET settings = '{}' WHERE id = :gate;
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '+79161234567');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', '{{number}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('r', 'thing.done', 'company_contacts', 'sms', 'done');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 1, :company, '{"number": 1}');
SELECT reason, words FROM crm.message_skip;
SELECT severity, subject, message FROM crm.health WHERE subject = 'rule r';
ROLLBACK;
-- not active: nothing is sent
SELECT crm.send('sms', '+79161234567', 'x');
