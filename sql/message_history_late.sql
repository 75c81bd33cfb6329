-- After a message has moved to its history a late report is taken and shown, an uncertain one is resolved or sent again, its reader's limit still counts it, and none leaves its table in another way.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-01 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 5}') AS gate \gset
INSERT INTO crm.contact (name) VALUES ('Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '+79161234567');
CREATE FUNCTION pg_temp.settle(gate bigint, bodies text[], outcome text, provider text DEFAULT NULL, words text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(b.id), array_agg(outcome), array_agg(provider || b.body), array_agg(words))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.delivered_at, m.last_error, h.id IS NOT NULL AS moved
	FROM crm.message m LEFT JOIN crm.message_history h ON h.id = m.id ORDER BY m.body;
SELECT count(crm.send('sms', '+79161234567', b, contact_id => :ivan)) FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e', 'f']) b;
SELECT count(*) FROM crm.outbox_take(:gate, 10);
SELECT pg_temp.settle(:gate, ARRAY['a', 'b', 'f'], 'sent', 'p-'), pg_temp.settle(:gate, ARRAY['c', 'd', 'e'], 'uncertain', NULL, 'no answer');
SELECT crm.message_report(NULL, 'delivered', 'p-f', 'DELIVRD', '2026-11-01 09:01Z');
SELECT crm.set_now('2026-12-10 09:00Z', 0);
SELECT crm.message_move();
SELECT * FROM pg_temp.shown;
SELECT count(*) FROM crm.message_body;
-- late reports: by the provider's number, by ours, a second one, one that comes too late for what has ended
SELECT crm.message_report(NULL, 'delivered', 'p-a', 'DELIVRD', '2026-12-10 08:59Z');
SELECT crm.message_report(NULL, 'undelivered', 'p-a', 'EXPIRED', NULL);
SELECT crm.message_report(id, 'undelivered', NULL, 'UNDELIV', NULL) FROM crm.message WHERE body = 'b';
SELECT crm.message_report(NULL, 'undelivered', 'p-f', 'EXPIRED', NULL);
SELECT state FROM crm.contact_point WHERE contact_id = :ivan;
SELECT kind, data ->> 'body', data ->> 'words' FROM crm.event ORDER BY id;
-- a rule's limit counts what has moved
SELECT count(*) FROM crm.message_said b WHERE b.contact_id = :ivan AND b.queued_at > crm.now() - interval '60 days';
-- uncertain: a person knows, or has it sent again
SELECT crm.message_resolve(id, CASE body WHEN 'c' THEN 'resend' WHEN 'd' THEN 'failed' END) FROM crm.message WHERE body IN ('c', 'd') ORDER BY id;
SELECT * FROM pg_temp.shown;
SELECT t.body, t.attempt FROM crm.outbox_take(:gate, 10) t;
SELECT body, state FROM crm.message WHERE body = 'c';
SELECT crm.message_move();
SELECT pg_temp.settle(:gate, ARRAY['c'], 'sent', 'p-');
SELECT * FROM pg_temp.shown;
SELECT regexp_replace(crm.why(id), '^Message \d+', 'Message N') FROM crm.message WHERE body IN ('b', 'c') ORDER BY body;
-- the self-test misses nothing, and whoever is forgotten is so in the history
SELECT promise, ok FROM crm.selftest() WHERE NOT ok;
SAVEPOINT kept;
SELECT what, changed FROM crm.forget(:ivan) ORDER BY what COLLATE "C";
SELECT count(*), count(*) FILTER (WHERE recipient LIKE 'forgotten:%') FROM crm.message_history;
ROLLBACK TO kept;
-- it moves again, and comes back once
SELECT crm.set_now('2027-01-20 09:00Z', 0);
SELECT crm.message_move();
SELECT crm.message_back(id) FROM crm.message WHERE body = 'a';
SELECT body, moved FROM pg_temp.shown WHERE body IN ('a', 'c');
SELECT crm.message_back(0);
-- the body leaves for its history only
\set VERBOSITY sqlstate
DELETE FROM crm.message_body;
\set VERBOSITY default
TRUNCATE crm.message_body;
UPDATE crm.message_body SET body = '';
-- the end of a result whose part is gone is still known
SELECT crm.set_retention('crm.message_attempt', '1 month');
SELECT crm.set_now('2027-03-05 09:00Z', 0);
SELECT crm.message_move() > 0, crm.retention_drop() > 0;
SELECT * FROM pg_temp.shown;
ROLLBACK;
