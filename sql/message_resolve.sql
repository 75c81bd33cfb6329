-- "resend" by a person queues an uncertain message again, also where the courier has read later retries already; the other answers end it.
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
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 5}') AS gate \gset
CREATE FUNCTION pg_temp.take(gate bigint, n integer) RETURNS TABLE (body text, attempt integer) LANGUAGE sql AS
	$$ SELECT t.body, t.attempt FROM crm.outbox_take(gate, n) t $$;
CREATE FUNCTION pg_temp.settle(gate bigint, which text, outcome text) RETURNS void LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(b.id), array_agg(outcome), NULL, NULL) FROM crm.message_body b WHERE b.body = which $$;
SELECT count(crm.send('sms', '+79161234567', b)) FROM unnest(ARRAY['a', 'b', 'c']) b;
SELECT * FROM pg_temp.take(:gate, 10);
SELECT pg_temp.settle(:gate, 'a', 'uncertain'), pg_temp.settle(:gate, 'b', 'retry'), pg_temp.settle(:gate, 'c', 'uncertain');
SELECT body, state FROM crm.message ORDER BY body;
-- the clock of the retries runs on, and the courier reads b's: its place is now after every moment before
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
-- a session whose clock reading is earlier by a hair
SELECT after_ms >= crm.monotonic_ms() - 1000 AS read_up_to_now FROM crm.queue_retry_from(:gate);
SELECT crm.message_resolve(id, 'resend') FROM crm.message WHERE body = 'a';
SELECT body, state FROM crm.message ORDER BY body;
SELECT count(*) AS in_the_flight FROM crm.message_flight f JOIN crm.message_body b ON b.id = f.message_id WHERE b.body = 'a';
-- not twice
\set VERBOSITY sqlstate
SELECT crm.message_resolve(id, 'resend') FROM crm.message WHERE body = 'a';
\set VERBOSITY default
SELECT * FROM pg_temp.take(:gate, 10);
SELECT body, state FROM crm.message ORDER BY body;
SELECT pg_temp.settle(:gate, 'a', 'sent');
SELECT crm.message_resolve(id, 'failed') FROM crm.message WHERE body = 'c';
SELECT body, state, last_error ~ '^said by ' AS by_whom FROM crm.message ORDER BY body;
ROLLBACK;
