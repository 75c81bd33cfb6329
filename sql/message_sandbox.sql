-- In the sandbox everything goes to test recipients and says so; off nothing is claimed; what was queued in the sandbox never reaches its reader.
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
SELECT crm.activate('sandbox');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3}') AS gate \gset
CREATE FUNCTION pg_temp.take(gate bigint, n integer) RETURNS TABLE (body text, attempt integer) LANGUAGE sql AS
	$$ SELECT t.body, t.attempt FROM crm.outbox_take(gate, n) t $$;
CREATE FUNCTION pg_temp.settle(gate bigint, bodies text[], outcome text, provider text DEFAULT NULL, words text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(b.id ORDER BY b.id), array_agg(outcome), array_agg(provider || b.body), array_agg(words))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.last_error FROM crm.message m;
SELECT count(crm.send('sms', '+79161234567', 'one'));
SELECT message_id FROM crm.outbox_take(:gate, 10);
SELECT severity, subject, message FROM crm.health WHERE subject = 'sandbox';
INSERT INTO crm.sandbox_recipient (channel, value) VALUES ('sms', '+79990000001');
SELECT recipient, body FROM crm.outbox_take(:gate, 10);
SELECT pg_temp.settle(:gate, ARRAY['one'], 'delivered', 'p-');
UPDATE crm.integration SET settings = settings || '{"sandbox_recipient": "+79990000002"}' WHERE id = :gate;
SELECT count(crm.send('sms', '+79161234567', 'two')), count(crm.send('sms', '+79161234567', 'three'));
SELECT recipient, body FROM crm.outbox_take(:gate, 1);
-- live again: what was queued in the sandbox still goes to the test recipient
SELECT crm.activate('live');
SELECT count(crm.send('sms', '+79161234567', 'four'));
SELECT recipient, body FROM crm.outbox_take(:gate, 10);
-- off
SELECT crm.activate('off');
SELECT count(crm.send('sms', '+79161234567', 'five'));
SELECT recipient, body FROM crm.outbox_take(:gate, 10);
-- live, without a test recipient: cancelled in words
SELECT crm.activate('sandbox');
SELECT count(crm.send('sms', '+79161234567', 'six'));
SELECT crm.activate('live');
UPDATE crm.integration SET settings = settings - 'sandbox_recipient' WHERE id = :gate;
DELETE FROM crm.sandbox_recipient;
SELECT recipient, body FROM crm.outbox_take(:gate, 10);
SELECT body, state, last_error FROM crm.message WHERE body IN ('five', 'six') ORDER BY id;
ROLLBACK;
