-- A new courier takes over: what never started goes back without a trace, what started is uncertain, and without a trusted list all of it is.
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
	SELECT crm.outbox_result(gate, array_agg(b.id ORDER BY b.id), array_agg(outcome), array_agg(provider || b.body), array_agg(words))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.last_error FROM crm.message m;
CREATE FUNCTION pg_temp.die() RETURNS void LANGUAGE sql AS $$ UPDATE crm.message_lease SET pid = 1, started = 1 $$;
CREATE FUNCTION pg_temp.started(gate bigint, bodies text[], OUT i bigint[], OUT r bigint[]) LANGUAGE sql AS
	$$ SELECT array_agg(gate), array_agg(b.id) FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
SELECT count(crm.send('sms', '+79161234567', b)) FROM unnest(ARRAY['a', 'b', 'c', 'd']) b;
SELECT * FROM pg_temp.take(:gate, 10);
SELECT pg_temp.settle(:gate, ARRAY['a'], 'sent', 'p-');
SELECT pg_temp.die();
SELECT body, state FROM crm.message ORDER BY body;
SELECT crm.message_recover(0, true, s.i, s.r) FROM pg_temp.started(:gate, ARRAY['b']) s;
SELECT * FROM pg_temp.shown ORDER BY body;
SELECT count(*) FROM crm.message_lease;
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
-- killed again before anything of it left, twice: still each message once, first try
SELECT pg_temp.die();
SELECT crm.message_recover(0, true, '{}', '{}');
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT pg_temp.die();
SELECT crm.message_recover(0, true, '{}', '{}');
SELECT count(*), count(DISTINCT message_id) FROM crm.message_delayed;
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
-- and whatever the flight holds, nothing is taken twice in a batch
SELECT pg_temp.die();
SELECT crm.message_recover(0, true, '{}', '{}');
SELECT crm.flight_add(:gate, array_agg(message_id), array_agg(1), array_agg(crm.monotonic_ms())) FROM crm.message_delayed;
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT * FROM pg_temp.take(:gate, 10);
-- the list cannot be trusted
SELECT pg_temp.die();
SELECT crm.message_recover(0, false, '{}', '{}');
SELECT * FROM pg_temp.shown ORDER BY body;
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
-- policy resend: the same number again
UPDATE crm.integration SET settings = settings || '{"on_unknown": "resend"}' WHERE id = :gate;
SELECT count(crm.send('sms', '+79161234567', 'e'));
SELECT * FROM pg_temp.take(:gate, 10);
SELECT pg_temp.die();
SELECT crm.message_recover(0, false, '{}', '{}');
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 10);
-- a report settles what was uncertain
SELECT crm.message_report(id, 'delivered', NULL, 'DELIVRD', NULL) FROM crm.message WHERE body = 'b';
SELECT body, state FROM crm.message ORDER BY body;
-- a lease of a process that lives is left alone
SELECT count(crm.send('sms', '+79161234567', 'f'));
SELECT * FROM pg_temp.take(:gate, 10);
SELECT crm.process_lives(pid, started), crm.process_is_me(pid, started) FROM crm.message_lease ORDER BY id DESC LIMIT 1;
SELECT crm.process_lives(pg_backend_pid(), 1), crm.process_lives(1, crm.process_started());
-- a reply that the kind could not read
SELECT crm.message_settle_failed(:gate, ROW(b.id, 200, '', 'nonsense'::bytea, NULL, true, 5, '{}')::crm.reply, 'no number in it') FROM crm.message_body b WHERE b.body = 'f';
SELECT * FROM pg_temp.shown WHERE body = 'f';
-- a transaction that fails takes back what it claimed
SELECT count(crm.send('sms', '+79161234567', 'g'));
SELECT pg_sleep(0.01);
SAVEPOINT claim;
SELECT * FROM pg_temp.take(:gate, 10);
ROLLBACK TO claim;
SELECT * FROM pg_temp.take(:gate, 10);
SAVEPOINT settle;
SELECT pg_temp.settle(:gate, ARRAY['g'], 'sent', 'p-');
ROLLBACK TO settle;
SELECT body, state FROM crm.message WHERE body = 'g';
SELECT pg_temp.settle(:gate, ARRAY['g'], 'sent', 'p-');
SELECT body, state FROM crm.message WHERE body = 'g';
ROLLBACK;
