-- The courier's doors: who is asked when, replies in groups, back-off of the one that fails and of nobody else.
-- claim 11: a failing integration hurts only itself
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SELECT count(*) FROM crm.courier_claim(1, 10);
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate();
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE TABLE k.seen (n serial, words text);
GRANT ALL ON k.seen, k.seen_n_seq TO crm_courier;
CREATE FUNCTION k.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT n, 'GET', 'http://127.0.0.1:1/', NULL::text[], NULL::bytea, NULL, NULL, NULL::integer, NULL::jsonb FROM generate_series(1, least(capacity, 3)) n $$;
CREATE FUNCTION k.idle(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE plpgsql AS
	$$ BEGIN PERFORM crm.poll_after(integration_id, 5000); END $$;
CREATE FUNCTION k.broken(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT 1 / (capacity - capacity), 'GET', '', NULL::text[], NULL::bytea, NULL, NULL, NULL::integer, NULL::jsonb $$;
CREATE FUNCTION k.halves(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT 1, NULL, 'http://127.0.0.1:1/', NULL::text[], NULL::bytea, NULL, NULL, NULL::integer, NULL::jsonb $$;
CREATE FUNCTION k.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO k.seen (words) SELECT i.name || ':' || string_agg(r.ref || '/' || r.status || coalesce('/' || r.error, ''), ' ' ORDER BY r.ref)
		FROM unnest(replies) r, crm.integration i WHERE i.id = $1 GROUP BY i.name;
	IF EXISTS (SELECT FROM unnest(replies) r WHERE r.context ? 'again') THEN
		PERFORM crm.poll_after(integration_id, 0);
	END IF;
	IF EXISTS (SELECT FROM unnest(replies) r WHERE r.context ? 'fine') THEN
		PERFORM crm.integration_succeeded(integration_id);
	END IF;
	IF EXISTS (SELECT FROM unnest(replies) r WHERE r.context ? 'inner error') THEN
		PERFORM crm.integration_failed(integration_id, 'error 7: access denied');
	END IF;
	IF EXISTS (SELECT FROM unnest(replies) r WHERE r.body = 'no JSON') THEN
		RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = 'this is no JSON';
	END IF;
END $$;
SELECT crm.register_kind('x_k_chan', 'k.next', 'k.take', channel => 'pigeon');
SELECT crm.register_kind('x_k_poll', 'k.next', 'k.take', defaults => '{"poll_ms": 10000}');
SELECT crm.register_kind('x_k_idle', 'k.idle', 'k.take', defaults => '{"poll_ms": 10000}');
SELECT crm.register_kind('x_k_broken', 'k.broken', 'k.take', channel => 'owl');
SELECT crm.register_kind('x_k_halves', 'k.halves', 'k.take', channel => 'owl');
SELECT crm.add_integration('broken', 'x_k_broken', '') AS broken \gset
SELECT crm.add_integration('halves', 'x_k_halves', '') AS halves \gset
SELECT crm.add_integration('chan', 'x_k_chan', '') AS chan \gset
SELECT crm.add_integration('poll', 'x_k_poll', '') AS poll \gset
SELECT crm.add_integration('idle', 'x_k_idle', '') AS idle \gset
SELECT crm.add_integration('sleeps', 'x_k_chan', '') AS sleeps \gset
UPDATE crm.integration SET enabled = false WHERE name = 'sleeps';
PREPARE claim AS SELECT i.name, count(*), min(r.ref) FROM crm.courier_claim($1, $2, $3, $4) c JOIN crm.integration i ON i.id = c.integration_id, unnest(c.requests) r GROUP BY 1 ORDER BY 1;
-- a courier starts and claims: the broken ones stop nobody
SELECT crm.courier_start(7, 0, true, '{}', '{}');
EXECUTE claim(7, 2, '{}', '{}');
SELECT i.name, s.outstanding, s.failures, s.last_error, s.hold_ms > crm.monotonic_ms() AS held
FROM crm.integration_state s JOIN crm.integration i ON i.id = s.integration_id ORDER BY 1;
SELECT what, reason, sqlstate, seen FROM crm.rejected ORDER BY 1;
-- at once again: the channel is asked, within the room that the courier names; the poller is on its way; the broken ones are held back
EXECUTE claim(7, 100, '{}', '{}');
EXECUTE claim(7, 100, ARRAY[:chan], ARRAY[1]);
EXECUTE claim(7, 100, ARRAY[:chan], ARRAY[0]);
-- another courier gets nothing of them
EXECUTE claim(8, 100, '{}', '{}');
-- replies in groups, each group in one call and in order
SELECT crm.courier_settle(7, :chan, ARRAY[ROW (1, 200, '', '', NULL, true, 5, NULL), ROW (2, 202, '', '', NULL, true, 5, NULL)]::crm.reply[]);
SELECT crm.courier_settle(7, :poll, ARRAY[ROW (1, 200, '', '', NULL, true, 5, NULL)]::crm.reply[]);
SELECT words FROM k.seen ORDER BY n;
SELECT i.name, s.outstanding, s.failures, s.last_ok_at IS NOT NULL AS ok, s.due_ms - s.claimed_ms AS next
FROM crm.integration_state s JOIN crm.integration i ON i.id = s.integration_id WHERE i.name IN ('chan', 'poll') ORDER BY 1;
SELECT crm.courier_wait(7) BETWEEN 1 AND 5000 AS soon;
-- a follow-up at once
SELECT crm.courier_settle(7, :poll, ARRAY[ROW (2, 200, '', '', NULL, true, 5, '{"again": 1}')]::crm.reply[]);
SELECT crm.courier_wait(7);
EXECUTE claim(7, 1, ARRAY[:chan], ARRAY[0]);
-- failure: words, and a hold that doubles; the first good reply ends it
CREATE FUNCTION k.fail(integration bigint, error text, headers text DEFAULT '', status integer DEFAULT 0, context jsonb DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT crm.courier_settle(7, integration, ARRAY[ROW (9, status, headers, '', error, true, 5, context)]::crm.reply[]);
	SELECT format('failures %s, hold %s s, %s', s.failures, round((s.hold_ms - crm.monotonic_ms()) / 1000.0), s.last_error) FROM crm.integration_state s WHERE s.integration_id = integration;
$$;
SELECT k.fail(:chan, 'connect: refused') ~ '^failures 1, hold 1 s, connect: refused$';
SELECT k.fail(:chan, 'connect: refused') ~ '^failures 2, hold 2 s, connect: refused$';
SELECT k.fail(:chan, 'connect: refused') ~ '^failures 3, hold [34] s, connect: refused$';
SELECT k.fail(:chan, NULL, status => 500) ~ '^failures 4, hold [678] s, status 500$';
SELECT bool_and(b) FROM (SELECT crm.backoff_ms(20, 1000) BETWEEN 225000 AND 300000 AS b FROM generate_series(1, 100)) x;
SELECT crm.backoff_ms(2147483647, 3600000) BETWEEN 2700000 AND 3600000;
SELECT severity, subject, regexp_replace(message, 'until .*: s', 'until THEN: s') FROM crm.health WHERE subject = 'integration chan';
SELECT crm.integration_retry('chan');
-- after three failures one request goes first
SELECT failures FROM crm.integration_state WHERE integration_id = :chan;
UPDATE crm.integration_state SET failures = 3, outstanding = 0 WHERE integration_id = :chan;
EXECUTE claim(7, 100, '{}', '{}');
EXECUTE claim(7, 100, '{}', '{}');
SELECT k.fail(:chan, NULL, status => 404) ~ '^failures 0, hold -\d+ s, $';
SELECT count(*) FROM crm.health WHERE subject = 'integration chan';
-- a poller is judged more strictly, and by itself where it knows better
SELECT k.fail(:poll, NULL, status => 404) ~ '^failures 1, hold (8|9|10) s, status 404$';
SELECT k.fail(:poll, NULL, status => 200, context => '{"inner error": 1}') ~ '^failures 2, hold (15|16|17|18|19|20) s, error 7: access denied$';
SELECT k.fail(:poll, NULL, status => 404, context => '{"fine": 1}') ~ '^failures 0, hold -\d+ s, $';
-- Retry-After is obeyed, within an hour
SELECT k.fail(:chan, NULL, E'HTTP/1.1 429 x\r\nRetry-After: 77\r\n', 429) ~ '^failures 1, hold 77 s, status 429$';
SELECT crm.retry_after_ms('Retry-After: 99999999'), crm.retry_after_ms('retry-after: soon'), crm.retry_after_ms('Retry-After: Wed, 32 Oct 2026 99:28:00 GMT'), crm.retry_after_ms(''),
	crm.retry_after_ms('Retry-After: Wed, 21 Oct 2020 07:28:00 GMT');
-- a reply that its kind cannot take: the batch ends, the courier gives the culprit away
SAVEPOINT s;
SELECT crm.courier_settle(7, :poll, ARRAY[ROW (3, 200, '', 'no JSON', NULL, true, 5, NULL)]::crm.reply[]);
ROLLBACK TO s;
SELECT crm.courier_reject(:poll, ROW (3, 200, '', 'no JSON', NULL, true, 5, NULL)::crm.reply, '22P02', 'this is no JSON');
SELECT i.name, r.what, r.reason, r.sqlstate, convert_from(r.bytes, 'UTF8') FROM crm.rejected r JOIN crm.integration i ON i.id = r.integration_id WHERE r.bytes IS NOT NULL;
-- a reply of an integration that is gone
SELECT crm.courier_settle(7, 4711, ARRAY[ROW (3, 200, '', 'late', NULL, true, 5, NULL)]::crm.reply[]);
SELECT what, reason FROM crm.rejected WHERE integration_id IS NULL;
-- the courier dies; the next one takes over what it had
SELECT crm.courier_start(9, 0, true, '{}', '{}');
SELECT sum(outstanding) FROM crm.integration_state;
SELECT count(*) FROM crm.lease;
SELECT crm.integration_retry('chan');
EXECUTE claim(9, 1, '{}', '{}');
SELECT count(*), count(DISTINCT generation), bool_and(pid = pg_backend_pid()) FROM crm.lease;
-- off is off
SET LOCAL crm.mode = 'off';
EXECUTE claim(9, 100, '{}', '{}');
SELECT crm.courier_wait(9);
ROLLBACK;
