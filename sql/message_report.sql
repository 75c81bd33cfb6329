-- Reports: early ones wait for the reply, final states never go back, a stranger's is refused, a good address becomes verified.
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
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3}') AS gate \gset
CREATE FUNCTION pg_temp.take(gate bigint, n integer) RETURNS TABLE (body text, attempt integer) LANGUAGE sql AS
	$$ SELECT t.body, t.attempt FROM crm.outbox_take(gate, n) t $$;
CREATE FUNCTION pg_temp.settle(gate bigint, bodies text[], outcome text, provider text DEFAULT NULL, words text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(b.id ORDER BY b.id), array_agg(outcome), array_agg(provider || b.body ORDER BY b.id), array_agg(words))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.last_error FROM crm.message m;
INSERT INTO crm.contact (name) VALUES ('Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '+79161234567');
SELECT count(crm.send('sms', '+79161234567', b, contact_id => :ivan)) FROM unnest(ARRAY['a', 'b', 'c', 'd']) b;
SELECT * FROM pg_temp.take(:gate, 10);
-- by our number before the reply
SELECT crm.message_report(id, 'delivered', NULL, 'DELIVRD', '2026-11-24 08:59Z') FROM crm.message WHERE body = 'a';
SELECT body, state, delivered_at FROM crm.message WHERE body = 'a';
SELECT state, verified_at, verified_by IS NOT NULL FROM crm.contact_point WHERE contact_id = :ivan;
-- by the provider's number before the reply
SELECT crm.message_report(NULL, 'undelivered', 'p-b', 'UNDELIV err:001', '2026-11-24 08:59Z');
SELECT pg_temp.settle(:gate, ARRAY['a', 'b', 'c', 'd'], 'sent', 'p-');
SELECT * FROM pg_temp.shown ORDER BY body;
SELECT count(*) FROM crm.message_report_early;
-- on its way, delivered, and told again in every order
SELECT crm.message_report(NULL, 'sent', 'p-c', 'ENROUTE', NULL);
SELECT crm.message_report(NULL, 'delivered', 'p-c', 'DELIVRD', 'infinity');
SELECT crm.message_report(NULL, 'delivered', 'p-c', 'DELIVRD', NULL);
SELECT crm.message_report(NULL, 'undelivered', 'p-c', 'EXPIRED', NULL);
SELECT crm.message_report(NULL, 'sent', 'p-c', 'ENROUTE', NULL);
SELECT crm.message_report(id, 'delivered', 'p-b', 'DELIVRD', NULL) FROM crm.message WHERE body = 'b';
SELECT crm.message_report(id, 'failed', NULL, 'REJECTD', '1990-01-01') FROM crm.message WHERE body = 'd';
SELECT body, state, provider_id, last_error, delivered_at FROM crm.message ORDER BY body;
SELECT b.body, a.attempt, a.words FROM crm.message_attempt a JOIN crm.message_body b ON b.id = a.message_id WHERE a.outcome = 'report' ORDER BY b.body, a.words;
SELECT kind, data ->> 'body', data ->> 'words' FROM crm.event ORDER BY id;
-- not ours, nonsense
SELECT crm.message_report(0, 'delivered', NULL, NULL, NULL);
SELECT crm.message_report(NULL, 'eaten', 'p-c', NULL, NULL);
SELECT crm.message_report(NULL, 'delivered', NULL, NULL, NULL);
UPDATE crm.message_result SET state = 'delivered';
DELETE FROM crm.message_attempt;
SELECT regexp_replace(crm.why(id), 'Message \d+', 'Message N') FROM crm.message WHERE body = 'c';
ROLLBACK;
