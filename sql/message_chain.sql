-- A chain of channels: the next one when a message fails, or is not delivered in time; never two for one cause at once.
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
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_a', NULL, NULL, channel => 'sms');
SELECT crm.register_kind('x_sms_b', NULL, NULL, channel => 'sms');
SELECT crm.register_kind('x_mail', NULL, NULL, channel => 'email');
SELECT crm.add_integration('a', 'x_sms_a', '', '{"sender": "CEMENT", "retry_ms": 1}') AS a \gset
SELECT crm.add_integration('b', 'x_sms_b', '', '{"sender": "CEMENT"}') AS b \gset
SELECT crm.add_integration('mail', 'x_mail', '', '{"sender": "plant@example.com"}') AS mail \gset
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '8 916 123-45-67'), (:ivan, 'email', 'ivan@example.com');
INSERT INTO crm.template (code, channel, language, subject, body) VALUES
	('done', 'sms', 'ru', NULL, 'SMS {{number}}'), ('done', 'email', 'ru', 'Заказ {{number}}', 'Письмо {{number}} для {{contact_name}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, integration, template, fallback) VALUES
	('done', 'thing.done', 'company_contacts', 'sms', 'a', 'done', '[
		{"upon": "failed", "channel": "sms", "integration": "b", "template": "done"},
		{"upon": "not delivered", "after": "15 min", "channel": "email", "template": "done"}]');
CREATE FUNCTION pg_temp.fact(n integer) RETURNS bigint LANGUAGE sql AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
	SELECT 'thing.done', 'thing', n, id, jsonb_build_object('number', 'N-' || n) FROM crm.company WHERE name = 'ООО Бетон' RETURNING id $$;
CREATE FUNCTION pg_temp.first(n integer) RETURNS bigint LANGUAGE sql AS $$ SELECT id FROM crm.message_body WHERE object_id = n AND follows_id IS NULL $$;
CREATE FUNCTION pg_temp.last(n integer) RETURNS bigint LANGUAGE sql AS $$ SELECT max(id) FROM crm.message_body WHERE object_id = n $$;
CREATE FUNCTION pg_temp.settle(gate bigint, outcome text, words text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE ids bigint[];
BEGIN
	SELECT array_agg(t.message_id) INTO ids FROM crm.outbox_take(gate, 100) t;
	PERFORM crm.outbox_result(gate, ids, array_fill(outcome, ARRAY[cardinality(ids)]), NULL, array_fill(words, ARRAY[cardinality(ids)]));
	RETURN cardinality(ids);
END $$;
CREATE FUNCTION pg_temp.clean(words text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(words, '(Message|message|Event|event|contact) \d+', '\1 N', 'g'), '\[id \d+\]', '', 'g') $$;
CREATE VIEW pg_temp.shown AS SELECT m.object_id, m.step, i.name, m.channel, m.recipient, m.state, m.last_error
	FROM crm.message m JOIN crm.integration i ON i.id = m.integration_id ORDER BY m.object_id, m.id;

-- the first fails for good: the second provider in the same transaction, then the letter, counted from the first message
SELECT pg_temp.fact(1) AS e1 \gset
SELECT step, due_at FROM crm.message_timer;
SELECT pg_temp.settle(:a, 'failed', '403 Not routable');
SELECT object_id, step, name, channel, recipient, state, pg_temp.clean(last_error) FROM pg_temp.shown;
SELECT t.step, t.due_at, b.step FROM crm.message_timer t JOIN crm.message_body b ON b.id = t.message_id;
SELECT pg_temp.clean(crm.why(pg_temp.first(1)));
-- a settle that comes twice makes no second one
SELECT crm.message_told(:a, pg_temp.first(1), 'undelivered', NULL, 'again', NULL);
SELECT count(*) FROM crm.message;
SELECT pg_temp.settle(:b, 'sent');
SELECT crm.set_now('2026-11-24 09:14:59Z', 0);
SELECT crm.chain_due();
SELECT count(*) FROM crm.message;
SELECT crm.set_now('2026-11-24 09:15Z', 0);
SELECT crm.chain_due();
SELECT crm.chain_due();
SELECT object_id, step, name, channel, recipient, state, pg_temp.clean(last_error) FROM pg_temp.shown;
SELECT subject, body FROM crm.message WHERE id = pg_temp.last(1);
SELECT pg_temp.clean(crm.why(pg_temp.last(1)));
SELECT count(*) FROM crm.message_timer;

-- not delivered, and never left: it is cancelled, even if the courier has read it ahead
SELECT pg_temp.fact(2) AS e2 \gset
SELECT pg_temp.fact(3) AS e3 \gset
SELECT object_id FROM crm.outbox_take(:a, 1) t JOIN crm.message_body b ON b.id = t.message_id;
SELECT crm.outbox_result(:a, ARRAY[pg_temp.first(2)], ARRAY['sent'], NULL, NULL);
SELECT crm.set_now('2026-11-24 09:30Z', 0);
SELECT crm.chain_due();
SELECT object_id, step, name, channel, state, pg_temp.clean(last_error) FROM pg_temp.shown WHERE object_id IN (2, 3);
SELECT count(*) FROM crm.outbox_take(:a, 10);
SELECT count(*) FROM crm.message_stop;
SELECT crm.message_maintain();
SELECT count(*) FROM crm.message_stop;
-- the late report of the first calls back the letter that has not left
SELECT crm.message_told(:a, pg_temp.first(2), 'delivered', NULL, NULL, NULL);
SELECT object_id, step, name, channel, state, pg_temp.clean(last_error) FROM pg_temp.shown WHERE object_id = 2;
SELECT object_id, state FROM crm.outbox_take(:mail, 10) t JOIN crm.message m ON m.id = t.message_id ORDER BY 1;
SELECT crm.message_told(:mail, pg_temp.last(3), 'delivered', NULL, NULL, NULL);
-- delivered in time: nothing follows
SELECT pg_temp.fact(4) AS e4 \gset
SELECT pg_temp.settle(:a, 'delivered');
SELECT count(*) FROM crm.message_timer;
-- on the wire at the deadline: looked at again; then nobody knows whether it left: held
SELECT pg_temp.fact(5) AS e5 \gset
SELECT count(*) FROM crm.outbox_take(:a, 10);
SELECT crm.set_now('2026-11-24 09:45Z', 0);
SELECT crm.chain_due();
SELECT due_at FROM crm.message_timer;
SELECT crm.outbox_result(:a, ARRAY[pg_temp.first(5)], ARRAY['uncertain'], NULL, ARRAY['timeout: no answer']);
SELECT crm.set_now('2026-11-24 09:45:10Z', 0);
SELECT crm.chain_due();
SELECT due_at FROM crm.message_timer;
SELECT state FROM crm.message WHERE object_id = 5;
SELECT crm.message_resolve(pg_temp.first(5), 'failed');
SELECT object_id, step, name, channel, state, pg_temp.clean(last_error) FROM pg_temp.shown WHERE object_id = 5;
-- or followed all the same, if the rule says so
UPDATE crm.rule SET fallback = '[{"upon": "not delivered", "after": "15 min", "channel": "email", "template": "done", "if_uncertain": "next"}]' WHERE code = 'done' RETURNING version;
SELECT pg_temp.fact(6) AS e6 \gset
SELECT pg_temp.settle(:a, 'uncertain', 'timeout: no answer');
SELECT crm.set_now('2026-11-24 10:00:10Z', 0);
SELECT crm.chain_due();
SELECT object_id, step, name, channel, state, pg_temp.clean(last_error) FROM pg_temp.shown WHERE object_id = 6;
SELECT pg_temp.clean(crm.why(pg_temp.last(6)));
-- a waiting retry is not made any more
SELECT pg_temp.fact(7) AS e7 \gset
SELECT pg_temp.settle(:a, 'retry', '503 later');
SELECT crm.set_now('2026-11-24 10:15:10Z', 0);
SELECT crm.chain_due();
SELECT pg_sleep(0.05);
SELECT count(*) FROM crm.outbox_take(:a, 10);
SELECT object_id, step, name, channel, state, pg_temp.clean(last_error) FROM pg_temp.shown WHERE object_id = 7;
-- no address for the next step: said, and the first goes on
SELECT pg_temp.settle(:mail, 'sent') > 0;
DELETE FROM crm.contact_point WHERE kind = 'email';
SELECT pg_temp.fact(8) AS e8 \gset
SELECT crm.set_now('2026-11-24 10:31Z', 0);
SELECT crm.chain_due();
SELECT object_id, step, name, channel, state FROM pg_temp.shown WHERE object_id = 8;
SELECT reason, pg_temp.clean(words) FROM crm.message_skip;
SELECT pg_temp.clean(crm.why(pg_temp.first(8)));
SELECT pg_temp.clean(crm.why_not(:e8, :ivan));
SELECT count(*) FROM crm.message_timer;
SELECT pg_temp.settle(:a, 'sent');
-- by hand
SELECT crm.send('sms', '+79161234567', 'by hand', integration => 'a', fallback => '[{"upon": "not delivered", "after": "5 min", "channel": "email", "recipient": "Ivan@Example.com", "subject": "by hand", "body": "by letter"}]') AS hand \gset
SELECT pg_temp.settle(:a, 'failed', 'unknown subscriber');
SELECT channel, recipient, subject, body, state FROM crm.message WHERE chain_id = :hand;
SELECT pg_temp.clean(crm.why(id)) FROM crm.message WHERE chain_id = :hand;
-- a set
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'email', 'ivan@example.com');
SELECT count(pg_temp.fact(n)) FROM generate_series(1001, 1600) n;
SELECT count(*) FROM crm.message_timer;
SELECT crm.set_now('2026-11-24 10:50Z', 0);
SELECT crm.chain_due();
SELECT channel, state, count(*) FROM crm.message WHERE object_id > 1000 GROUP BY 1, 2 ORDER BY 1, 2;
SELECT crm.chain_due();
SELECT channel, state, count(*) FROM crm.message WHERE object_id > 1000 GROUP BY 1, 2 ORDER BY 1, 2;
-- asleep while not active, as after a restore
UPDATE crm.rule SET fallback = '[{"upon": "failed", "channel": "email", "template": "done"}]' WHERE code = 'done' RETURNING version;
SELECT pg_temp.fact(9) AS e9 \gset
SELECT crm.deactivate();
INSERT INTO crm.message_result (message_id, state, words) SELECT pg_temp.first(9), 'failed', 'a row of a dump';
INSERT INTO crm.message_timer (message_id, step, due_at) SELECT pg_temp.first(9), 1, crm.now();
SELECT crm.chain_due();
SELECT count(*) FROM crm.message WHERE object_id = 9;
SELECT crm.activate('live');
-- refused
UPDATE crm.rule SET fallback = '{}' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[]' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[{"upon": "failed", "channel": "pigeon", "template": "done"}]' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[{"upon": "failed", "channel": "sms", "template": "nothing"}]' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[{"upon": "not delivered", "channel": "sms", "template": "done"}]' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[{"upon": "not delivered", "after": "soon", "channel": "sms", "template": "done"}]' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[{"upon": "failed", "chanel": "sms", "template": "done"}]' WHERE code = 'done';
UPDATE crm.rule SET fallback = '[{"upon": "not delivered", "after": "10 min", "channel": "sms", "template": "done"}, {"upon": "not delivered", "after": "5 min", "channel": "email", "template": "done"}]' WHERE code = 'done';
SELECT crm.send('sms', '+79161234567', 'x', fallback => '[{"upon": "failed", "channel": "email", "recipient": "nobody", "body": "x"}]');
SELECT crm.send('sms', '+79161234567', 'x', fallback => '[{"upon": "failed", "channel": "email", "recipient": "a@example.com", "template": "done"}]');
ROLLBACK;
