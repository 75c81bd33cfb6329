-- Faults stay where they are: the limit of an integration, its circuit in words, and what a courier waits for meanwhile.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 20:30Z', 1);
SELECT crm.activate('live');
CREATE SCHEMA limited;
CREATE FUNCTION limited.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	SELECT (t.message_id, 'POST', 'http://127.0.0.1:9/', NULL, NULL, NULL, NULL, NULL, NULL)::crm.request FROM crm.outbox_take($1, $2) t $$;
CREATE FUNCTION limited.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.outbox_result($1, array_agg(r.ref), array_agg(CASE WHEN r.status = 200 THEN 'sent' ELSE 'retry' END), NULL, NULL) FROM unnest($2) r $$;
GRANT USAGE ON SCHEMA limited TO crm_courier;
SELECT crm.register_kind('x_limited', 'limited.next', 'limited.take', channel => 'sms');
SELECT crm.add_integration('free', 'x_limited', 'http://127.0.0.1:9/', '{"sender": "CEMENT", "retry_ms": 1}') AS free \gset
SELECT crm.add_integration('slow', 'x_limited', 'http://127.0.0.1:9/', '{"sender": "CEMENT", "rate": 10, "rate_per": "h", "retry_ms": 1}') AS slow \gset
CREATE FUNCTION pg_temp.claim(capacity integer DEFAULT 1000) RETURNS TABLE (name text, number bigint) LANGUAGE sql AS $$
	SELECT i.name, cardinality(c.requests)::bigint FROM crm.courier_claim(7, capacity) c JOIN crm.integration i ON i.id = c.integration_id ORDER BY 1 $$;
CREATE FUNCTION pg_temp.answer(id bigint, status integer) RETURNS void LANGUAGE sql AS $$
	SELECT crm.courier_settle(7, id, array_agg(ROW (o.message_id, status, '', NULL, NULL, true, 5, NULL)::crm.reply)) FROM crm.queue_open(id) o $$;
SELECT count(crm.send('sms', '+79161234567', 'x', integration => i.name)) FROM crm.integration i, generate_series(1, 25) WHERE i.name IN ('free', 'slow');
-- ten of the slow one, all of the other
SELECT * FROM pg_temp.claim();
SELECT pg_temp.answer(:slow, 200), pg_temp.answer(:free, 200);
SELECT * FROM pg_temp.claim();
-- the courier sleeps until the next may go: at most an hour and a slot
SELECT crm.courier_wait(7) AS wait \gset
SELECT :wait > 3000;
SELECT x.next_ms - crm.monotonic_ms() BETWEEN 3600000 - 180000 AND 3600000 + 180000 FROM crm.integration_rate x;
-- it is counted in the table: another courier, another process, another start of the machine give no second helping
SELECT crm.queue_forget();
SELECT * FROM pg_temp.claim();
SAVEPOINT boot;
UPDATE crm.integration_rate SET slot = slot + 100000000;
SELECT * FROM pg_temp.claim();
ROLLBACK TO boot;
-- half an hour later: nothing; an hour later: ten
UPDATE crm.integration_rate SET slot = slot - 10;
SELECT * FROM pg_temp.claim();
UPDATE crm.integration_rate SET slot = slot - 11;
SELECT * FROM pg_temp.claim();
SELECT pg_temp.answer(:slow, 200);
-- in any hour at most ten, though they come in small helpings
SELECT count(*) FROM crm.message m WHERE m.integration_id = :slow AND m.state = 'sent';
UPDATE crm.integration_rate SET slot = slot - 25;
SELECT * FROM pg_temp.claim(3);
SELECT pg_temp.answer(:slow, 200);
UPDATE crm.integration_rate SET slot = slot - 15;
SELECT * FROM pg_temp.claim(100);
SELECT pg_temp.answer(:slow, 200);
SELECT array_remove(counts, 0) FROM crm.integration_rate;
SELECT next_ms IS NULL, blocked_since IS NULL FROM crm.integration_rate;
SELECT count(crm.send('sms', '+79161234567', 'x', integration => 'slow')) FROM generate_series(1, 25);
SELECT * FROM pg_temp.claim();
SELECT pg_temp.answer(:slow, 200);
-- health says so only once it makes messages late
SELECT message FROM crm.health WHERE subject = 'integration slow';
UPDATE crm.integration_rate SET blocked_since = clock_timestamp() - interval '2 minutes';
SELECT severity, message, hint, since < now() FROM crm.health WHERE subject = 'integration slow';
SELECT state, limited_until > now() FROM crm.circuit WHERE integration = 'slow';
-- a daily limit: until the midnight of the plant, in half an hour (20:30 UTC is 23:30 in Moscow)
UPDATE crm.integration SET settings = settings - '{rate,rate_per}'::text[] || '{"daily_limit": 30}' WHERE id = :slow;
SELECT x.room FROM crm.integration i, crm.rate_room(i.id, i.settings) x WHERE i.id = :slow;
UPDATE crm.integration_rate SET day_count = 28;
SELECT * FROM pg_temp.claim();
SELECT pg_temp.answer(:slow, 200);
SELECT * FROM pg_temp.claim();
SELECT abs(x.next_ms - crm.monotonic_ms() - 1800000) < 60000 FROM crm.integration_rate x;
SELECT crm.set_now('2026-11-24 21:00Z', 1);
SELECT * FROM pg_temp.claim();
SELECT pg_temp.answer(:slow, 200);
-- refused
SELECT crm.add_integration('bad', 'x_limited', '', '{"rate": "fast"}');
UPDATE crm.integration SET settings = settings || '{"rate": 0}' WHERE id = :slow;
UPDATE crm.integration SET settings = settings || '{"rate": 5, "rate_per": "week"}' WHERE id = :slow;
UPDATE crm.integration SET settings = settings || '{"daily_limit": -1}' WHERE id = :slow;

-- the circuit: two failures pause, the third opens it; then one request is tried
UPDATE crm.integration SET settings = settings - 'daily_limit' WHERE id = :slow;
UPDATE crm.integration SET enabled = false WHERE id = :slow;
SELECT count(crm.send('sms', '+79161234567', 'x', integration => 'free')) FROM generate_series(1, 10);
SELECT integration, state, failures, failing_since IS NULL FROM crm.circuit;
CREATE FUNCTION pg_temp.fail(id bigint) RETURNS TABLE (state text, failures integer, waits boolean, words text) LANGUAGE plpgsql AS $$
BEGIN
	UPDATE crm.integration_state s SET hold_ms = 0 WHERE s.integration_id = id;
	PERFORM pg_sleep(0.01);
	PERFORM pg_temp.claim(4);
	PERFORM pg_temp.answer(id, 503);
	RETURN QUERY SELECT c.state, c.failures, c.waits_until IS NOT NULL, c.last_error FROM crm.circuit c JOIN crm.integration i ON i.name = c.integration WHERE i.id = fail.id;
END $$;
SELECT * FROM pg_temp.fail(:free);
SELECT * FROM pg_temp.fail(:free);
SELECT * FROM pg_temp.fail(:free);
SELECT severity, subject, regexp_replace(message, '\d{4}-\d\d-\d\d [0-9:+]+', 'THEN') FROM crm.health WHERE subject LIKE 'integration%';
-- open: nothing is claimed, and what is due keeps nobody awake
SELECT * FROM pg_temp.claim();
SELECT crm.courier_wait(7) > 500;
UPDATE crm.integration_state s SET hold_ms = 0 WHERE s.integration_id = :free;
SELECT state, waits_until FROM crm.circuit;
SELECT * FROM pg_temp.claim();
SELECT * FROM pg_temp.claim();
SELECT pg_temp.answer(:free, 200);
SELECT state, failures, failing_since, last_error FROM crm.circuit;
SELECT count(*) FROM crm.health WHERE subject LIKE 'integration%';
ROLLBACK;
