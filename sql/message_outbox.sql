-- The queue: order by lanes, each message handed out once, settled once; retries grow, end and keep the provider's words.
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
	SELECT crm.outbox_result(gate, array_agg(b.id ORDER BY b.id), array_agg(outcome ORDER BY b.id), array_agg(provider || b.body ORDER BY b.id), array_agg(words ORDER BY b.id))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.last_error FROM crm.message m;
SELECT count(crm.send('sms', '+79161234567', 'bulk ' || i, priority => 0)) FROM generate_series(1, 5) i;
SELECT count(crm.send('sms', '+79161234567', 'normal ' || i)) FROM generate_series(1, 3) i;
SELECT count(crm.send('sms', '+79161234567', 'urgent ' || i, priority => 2)) FROM generate_series(1, 2) i;
SELECT * FROM pg_temp.take(:gate, 0);
SELECT * FROM pg_temp.take(:gate, 4);
SELECT * FROM pg_temp.take(:gate, 4);
-- what comes now goes before what waits
SELECT count(crm.send('sms', '+79161234567', 'urgent 3', priority => 2));
SELECT * FROM pg_temp.take(:gate, 2);
SELECT * FROM pg_temp.take(:gate, 100);
SELECT * FROM pg_temp.take(:gate, 100);
SELECT state, count(*) FROM pg_temp.shown GROUP BY 1;
SELECT sum(upper(r) - lower(r)), count(DISTINCT l.id) FROM crm.message_lease l, unnest(l.ids) r;
-- outcomes
SELECT pg_temp.settle(:gate, ARRAY['urgent 1', 'urgent 2', 'urgent 3', 'normal 1'], 'sent', 'p-');
SELECT pg_temp.settle(:gate, ARRAY['normal 2'], 'failed', NULL, '403 Not routable. Do not try again.');
SELECT pg_temp.settle(:gate, ARRAY['normal 3'], 'retry', NULL, '503 Temporal failure, try again later.');
SELECT pg_temp.settle(:gate, ARRAY['bulk 1'], 'throttled', NULL, '429');
SELECT pg_temp.settle(:gate, ARRAY['bulk 2'], 'uncertain', NULL, 'timeout: no answer');
SELECT pg_temp.settle(:gate, ARRAY['bulk 3', 'bulk 4', 'bulk 5'], 'delivered', 'p-');
SELECT * FROM pg_temp.shown ORDER BY body;
SELECT count(*) FROM crm.message_lease;
-- settling twice changes nothing
SELECT pg_temp.settle(:gate, ARRAY['urgent 1', 'normal 2'], 'failed', NULL, 'again');
SELECT pg_temp.settle(:gate, ARRAY['bulk 3'], 'sent', 'x-');
SELECT state, count(*) FROM pg_temp.shown GROUP BY 1 ORDER BY 1;
-- bad calls
SELECT crm.outbox_result(:gate, ARRAY[1::bigint], ARRAY['sent', 'sent'], NULL, NULL);
SELECT crm.outbox_result(:gate, ARRAY[1::bigint], ARRAY['lost'], NULL, NULL);
SELECT crm.outbox_result(:gate, ARRAY[]::bigint[], NULL, NULL, NULL);
-- retries, each after a pause; the third try is the last
SELECT pg_sleep(0.05);
SELECT * FROM pg_temp.take(:gate, 100) ORDER BY 1;
SELECT pg_temp.settle(:gate, ARRAY['normal 3'], 'retry', NULL, 'second');
SELECT pg_temp.settle(:gate, ARRAY['bulk 1'], 'sent', 'p-');
SELECT pg_sleep(0.05);
SELECT * FROM pg_temp.take(:gate, 100);
SELECT pg_temp.settle(:gate, ARRAY['normal 3'], 'retry', NULL, 'third');
SELECT * FROM pg_temp.shown WHERE body IN ('normal 3', 'bulk 1') ORDER BY 1;
SELECT pg_sleep(0.05);
SELECT * FROM pg_temp.take(:gate, 100);
SELECT attempt, outcome, words FROM crm.message_attempt a JOIN crm.message_body b ON b.id = a.message_id WHERE b.body = 'normal 3' ORDER BY attempt;
SELECT kind, data ->> 'body', data ->> 'words' FROM crm.event WHERE kind = 'message.failed' ORDER BY id;
-- pauses double, and stay in their bounds
SELECT a, bool_and(ms BETWEEN 0.74 * want AND 1.26 * want) FROM (SELECT a, LEAST(900000, 2000 * 2 ^ (a - 1)) AS want, crm.backoff_ms(a, 2000::bigint, 900000::bigint) AS ms
	FROM generate_series(1, 12) a, generate_series(1, 50)) s GROUP BY a ORDER BY a;
-- an uncertain one waits for a person
SELECT severity, message FROM crm.health WHERE subject = 'messages';
SELECT crm.message_resolve(id, 'resend') FROM crm.message WHERE body = 'bulk 2';
SELECT pg_sleep(0.01);
SELECT * FROM pg_temp.take(:gate, 100);
SELECT pg_temp.settle(:gate, ARRAY['bulk 2'], 'uncertain', NULL, 'timeout: no answer');
SELECT crm.message_resolve(id, 'perhaps') FROM crm.message WHERE body = 'bulk 2';
SELECT crm.message_resolve(id, 'delivered') FROM crm.message WHERE body = 'bulk 2';
SELECT * FROM pg_temp.shown WHERE body = 'bulk 2';
SELECT count(*) FROM crm.health WHERE subject = 'messages';
-- policy resend
UPDATE crm.integration SET settings = settings || '{"on_unknown": "resend"}' WHERE id = :gate;
SELECT count(crm.send('sms', '+79161234567', 'doubtful'));
SELECT * FROM pg_temp.take(:gate, 100);
SELECT pg_temp.settle(:gate, ARRAY['doubtful'], 'uncertain', NULL, 'timeout: no answer');
SELECT * FROM pg_temp.shown WHERE body = 'doubtful';
SELECT pg_sleep(0.05);
SELECT * FROM pg_temp.take(:gate, 100);
-- the spent tables are emptied in turn
SELECT pg_temp.settle(:gate, ARRAY['doubtful'], 'sent', 'p-');
SELECT bool_and(f.spent) FROM crm.message_flight f;
INSERT INTO crm.message_flight_0 SELECT f.message_id, f.integration_id, f.attempt, f.due_ms FROM (SELECT * FROM crm.message_flight_0 LIMIT 1) f, generate_series(1, 1001);
SELECT crm.flight_rotate();
SELECT (SELECT turn FROM crm.message_flight_turn), (SELECT count(*) > 1000 FROM crm.message_flight_0);
SELECT crm.flight_rotate();
SELECT (SELECT turn FROM crm.message_flight_turn), (SELECT count(*) FROM crm.message_flight_0);
ROLLBACK;
