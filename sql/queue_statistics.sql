-- The queue looks up what it needs and nothing else, also while the planner believes that its tables are empty:
-- vacuumed when nothing lived in them, and filled since.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0) IS NOT NULL, crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3, "on_unknown": "ask", "ask_ms": 100}') AS gate \gset
SELECT crm.add_integration('other', 'x_sms_test', '', '{"sender": "CEMENT"}') AS other \gset
-- 20,000 for the one, a few behind them for the other, 5,000 for an hour to come
INSERT INTO crm.message_body (integration_id, lane, channel, recipient, sender, body, language, encoding, segments, rule_id, queued_at, bytes)
SELECT CASE WHEN i > 20000 THEN :other ELSE :gate END, 1, 'sms', '+79161234567', 'CEMENT', 'text ' || i, 'ru', 'GSM7', 1, NULL, crm.now(), 10
FROM generate_series(1, 20100) i;
WITH b AS (
	INSERT INTO crm.message_body (integration_id, lane, channel, recipient, sender, body, language, encoding, segments, not_before, bytes)
	SELECT :gate, NULL, 'sms', '+79161234567', 'CEMENT', 'late ' || i, 'ru', 'GSM7', 1, crm.now() + interval '1 hour', 10 FROM generate_series(1, 5000) i RETURNING id)
INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at) SELECT id, :gate, 1, crm.now() + interval '1 hour' FROM b;
UPDATE pg_class c SET reltuples = 0, relpages = 1
WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'i') AND c.relname ~ '^(message_|event|contact|company|crm_message)';
UPDATE pg_class c SET reltuples = 0, relpages = 1 FROM pg_index i
WHERE c.oid = i.indexrelid AND i.indrelid::regclass::text ~ '^crm\.(message_|event|contact|company)';

-- what a statement has read: rows of tables, entries of indexes; not of leases, whose dead rows this one transaction keeps
CREATE TEMP TABLE work (step text, rows bigint);
CREATE FUNCTION pg_temp.looked() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint FROM pg_class c
	WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'i') AND c.relname ~ '^(message_|event_20|contact|company)' AND c.relname !~ '^message_lease' $$;
CREATE FUNCTION pg_temp.does(step text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	before_ bigint := pg_temp.looked();
	told text;
BEGIN
	EXECUTE statement INTO told;
	INSERT INTO work VALUES (step, pg_temp.looked() - before_);
	RETURN told;
END
$$;
-- a thousand each time; half is sent, the rest needs more than that
CREATE TEMP TABLE held (id bigint, attempt integer);
CREATE FUNCTION pg_temp.claim(gate bigint, n integer) RETURNS bigint LANGUAGE sql AS $$
	WITH t AS (INSERT INTO held SELECT t.message_id, t.attempt FROM crm.outbox_take(gate, n) t RETURNING 1) SELECT count(*) FROM t $$;
CREATE FUNCTION pg_temp.settle(gate bigint, outcomes text[]) RETURNS bigint LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(h.id ORDER BY h.id), array_agg(outcomes[1 + h.id % cardinality(outcomes)] ORDER BY h.id), array_agg('p' || h.id ORDER BY h.id),
		array_agg('words'::text ORDER BY h.id)) FROM held h;
	WITH t AS (DELETE FROM held RETURNING 1) SELECT count(*) FROM t $$;

SELECT pg_temp.does('claim', format('SELECT pg_temp.claim(%s, 1000)', :gate)), pg_temp.does('settle, sent', format('SELECT pg_temp.settle(%s, ''{sent}'')', :gate))
FROM generate_series(1, 8);
SELECT pg_temp.does('claim behind others', format('SELECT pg_temp.claim(%s, 100)', :other)), pg_temp.does('settle, sent', format('SELECT pg_temp.settle(%s, ''{sent}'')', :other));
SELECT pg_temp.does('claim', format('SELECT pg_temp.claim(%s, 1000)', :gate)),
	pg_temp.does('settle, all ways', format('SELECT pg_temp.settle(%s, ''{sent,retry,failed,uncertain,delivered,throttled}'')', :gate))
FROM generate_series(1, 2);
SELECT pg_sleep(0.05);
SELECT pg_temp.does('claim retries', format('SELECT pg_temp.claim(%s, 600)', :gate)), pg_temp.does('settle, sent', format('SELECT pg_temp.settle(%s, ''{sent}'')', :gate));
-- those whose hour has come
SELECT crm.set_now('2026-11-24 11:00Z', 0);
SELECT pg_temp.does('claim delayed', format('SELECT pg_temp.claim(%s, 1000)', :gate)), pg_temp.does('settle, sent', format('SELECT pg_temp.settle(%s, ''{sent}'')', :gate))
FROM generate_series(1, 2);
SELECT pg_temp.does('when next', format('SELECT crm.message_deadline(ARRAY[%s]) IS NOT NULL', :gate));
-- a courier dies with a batch in its hands, half of it started
SELECT pg_temp.does('claim', format('SELECT pg_temp.claim(%s, 1000)', :gate));
SELECT crm.queue_forget();
SELECT pg_temp.does('start anew', format('SELECT pg_temp.claim(%s, 1)', :gate));
UPDATE crm.message_lease SET pid = 1, started = 1;
SELECT pg_temp.does('recover', format('SELECT crm.message_recover(0, true, %L, %L)', array_agg(:gate), array_agg(id))) FROM held WHERE id % 2 = 0;
TRUNCATE held;
-- questions about what is open
SELECT pg_temp.does('watch', format('SELECT crm.outbox_watch(%s, %L, 0)', :gate, (SELECT array_agg(a.message_id)
	FROM (SELECT message_id FROM crm.message_attempt WHERE outcome = 'sent' ORDER BY 1 LIMIT 1000) a)));
CREATE TEMP TABLE asked (id bigint);
SELECT pg_temp.does('ask', format('WITH t AS (INSERT INTO asked SELECT message_id FROM crm.outbox_due(%s, 1000, 0) RETURNING 1) SELECT count(*) FROM t', :gate));
SELECT pg_temp.does('price', format('SELECT crm.outbox_price(%s, %L, NULL, NULL)', :gate, (SELECT array_agg(id) FROM asked)));
SELECT pg_temp.does('told', format('SELECT crm.outbox_status(%s, %L, %L, NULL, NULL, NULL)', :gate, (SELECT array_agg(id) FROM asked), (SELECT array_agg('delivered'::text) FROM asked)));
-- what is old moves
SELECT crm.set_now('2027-02-24 09:00Z', 0);
SELECT pg_temp.does('move', 'SELECT crm.message_move(1000)');
SELECT pg_temp.does('move', 'SELECT crm.message_move(1000)');

SELECT step, CASE WHEN max(rows) < 30000 THEN 'reads what it needs' ELSE 'reads ' || max(rows) END FROM work GROUP BY step ORDER BY step;
ROLLBACK;
