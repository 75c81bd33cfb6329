-- What has ended and is old moves to its history in sets, and crm.message, crm.why and the facts of the report show the same before and after, for messages of every state.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-06-03 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (name, company_id) VALUES ('Иван', :company) RETURNING id AS ivan \gset
INSERT INTO crm.event (kind, object_kind, object_id, company_id) VALUES ('trip.arrived', 'trip', 1, :company) RETURNING id AS event \gset
SELECT id AS rule FROM crm.rule WHERE code = 'trip.arrived' \gset

-- 5000 messages, the last digit is what becomes of them; every column is filled somewhere
CREATE TEMP TABLE made AS SELECT crm.next_message_id() AS id, n, n % 10 AS fate, crm.clock() - (5000 - n) * interval '1 minute' AS queued_at FROM generate_series(1, 5000) n;
INSERT INTO crm.message_body (id, integration_id, lane, channel, recipient, sender, subject, body, html, language, encoding, segments, rule_id, rule_version,
	template_id, template_version, event_id, event_known_at, object_kind, object_id, company_id, contact_id, contact_point_id, zone, quiet_kind, open_until,
	not_before, expires_at, depth, sandbox, queued_at)
SELECT m.id, :gate, CASE WHEN fate <> 1 THEN n % 3 END, CASE WHEN n % 3 = 0 THEN 'email' ELSE 'sms' END, '+7916' || n, CASE WHEN n % 2 = 0 THEN 'CEMENT' END,
	CASE WHEN n % 3 = 0 THEN 'Письмо ' || n END, 'Текст ' || n, CASE WHEN n % 3 = 0 THEN '<p>' || n || '</p>' END, CASE WHEN n % 5 = 0 THEN 'en' ELSE 'ru' END,
	CASE WHEN n % 3 <> 0 THEN 'UCS2' END, CASE WHEN n % 3 <> 0 THEN n % 4 + 1 END, CASE WHEN n % 7 > 0 THEN :rule END, CASE WHEN n % 7 > 0 THEN 1 END, 5, 1,
	CASE WHEN n % 7 > 0 THEN :event END, CASE WHEN n % 7 > 0 THEN crm.now() END, 'trip', n, :company, :ivan, n, 'Europe/Moscow',
	CASE WHEN n % 4 = 0 THEN 'service' END, queued_at + interval '1 hour', CASE WHEN n % 4 = 0 THEN queued_at + interval '1 minute' END,
	CASE WHEN n % 6 = 0 THEN queued_at + interval '1 day' END, n % 3, n % 11 = 0, queued_at
FROM made m;
SELECT crm.make_partitions(t::regclass, '2026-05-01Z', '2026-06-01Z') >= 0 FROM unnest(ARRAY['crm.message_attempt', 'crm.message_result']) t;
-- 1 waits for an hour, 2 sent, 3 delivered, 4 undelivered, 5 failed after tries, 6 expired, 7 cancelled after a retry, 8 uncertain, 9 waits for a retry, 0 waits
INSERT INTO crm.message_delayed SELECT id, :gate, 1, crm.clock() + interval '90 days' FROM made WHERE fate = 1;
INSERT INTO crm.message_attempt (message_id, attempt, outcome, at, integration_id, lease_id, provider_id, words)
SELECT m.id, t.n, CASE WHEN t.n < t.last OR fate IN (7, 9) THEN 'retry' WHEN fate = 5 THEN 'failed' WHEN fate = 8 THEN 'uncertain' ELSE 'sent' END,
	m.queued_at + t.n * interval '10 seconds', :gate, 1000 + t.n, CASE WHEN fate IN (2, 3, 4) THEN 'p' || m.n END, CASE WHEN fate > 4 THEN 'said ' || m.n END
FROM made m, LATERAL (SELECT g.n, CASE fate WHEN 5 THEN 3 WHEN 8 THEN 2 ELSE 1 END AS last FROM generate_series(1, CASE fate WHEN 5 THEN 3 WHEN 8 THEN 2 ELSE 1 END) AS g(n)) t
WHERE fate NOT IN (0, 1, 6);
INSERT INTO crm.message_attempt (message_id, attempt, outcome, at, integration_id, words)
SELECT id, 1, 'report', queued_at + interval '1 minute', :gate, 'told ' || n FROM made WHERE fate IN (3, 4) OR fate = 2 AND n % 20 = 2;
INSERT INTO crm.message_result (message_id, state, at, reported_at, provider_id, words)
SELECT id, CASE fate WHEN 3 THEN 'delivered' WHEN 4 THEN 'undelivered' WHEN 5 THEN 'failed' WHEN 6 THEN 'expired' ELSE 'cancelled' END, queued_at + interval '1 minute',
	CASE WHEN n % 20 = 3 THEN queued_at + interval '50 seconds' END, CASE WHEN n % 20 = 3 THEN 'q' || n END, CASE WHEN fate <> 3 OR n % 20 = 3 THEN 'because ' || n END
FROM made WHERE fate BETWEEN 3 AND 7;
INSERT INTO crm.message_flight_0 (message_id, integration_id, attempt, due_ms) SELECT id, :gate, 2, crm.monotonic_ms() + 900000 FROM made WHERE fate = 9;
-- a spent row of the flight keeps no message here; one in a courier's hands stays
INSERT INTO crm.message_flight_1 (message_id, integration_id, attempt, due_ms) SELECT id, :gate, 1, 1 FROM made WHERE fate = 5;
INSERT INTO crm.message_lease (integration_id, ids, pid, started) SELECT :gate, range_agg(int8range(id, id + 1)), 1, 1 FROM made WHERE fate = 0 AND n > 4900 OR fate = 2 AND n > 4990;

CREATE VIEW pg_temp.facts AS SELECT f.* FROM crm.fact_message f;
CREATE TEMP TABLE before AS SELECT m.*, CASE WHEN m.id % 7 = 0 THEN crm.why(m.id) END AS why FROM crm.message m;
CREATE TEMP TABLE facts_before AS SELECT * FROM pg_temp.facts;
SELECT state, count(*), count(sent_at), count(delivered_at), count(last_error), count(provider_id), sum(attempts) FROM before GROUP BY 1 ORDER BY 1;

-- nothing is old enough
SELECT crm.set_now('2026-06-03 09:02Z', 0);
SELECT crm.message_move(10000);
-- after five days the oldest of those that have ended are, after five weeks all of them and what was sent or is uncertain
SELECT crm.set_now('2026-06-08 09:00Z', 0);
SELECT sum(crm.message_move(1000)) > 0 FROM generate_series(1, 6);
SELECT count(*) > 1000, count(*) FILTER (WHERE state IN ('sent', 'uncertain')) FROM crm.message_history;
SELECT crm.set_now('2026-07-10 09:00Z', 0);
SELECT sum(crm.message_move(1000)) > 0 FROM generate_series(1, 6);
SELECT state, count(*) FROM crm.message_history GROUP BY 1 ORDER BY 1;
SELECT tableoid::regclass, count(*) FROM crm.message_history GROUP BY 1 ORDER BY 1;
SELECT m.fate, count(*) FROM crm.message_body b JOIN made m USING (id) GROUP BY 1 ORDER BY 1;
CREATE TEMP TABLE after AS SELECT m.*, CASE WHEN m.id % 7 = 0 THEN crm.why(m.id) END AS why FROM crm.message m;
\echo differences
TABLE before EXCEPT ALL TABLE after;
TABLE after EXCEPT ALL TABLE before;
TABLE facts_before EXCEPT ALL TABLE pg_temp.facts;
TABLE pg_temp.facts EXCEPT ALL TABLE facts_before;
SELECT id FROM made EXCEPT SELECT id FROM crm.message_said;
\echo columns of the body that the history lacks
SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'crm.message_body'::regclass AND a.attnum > 0 AND NOT EXISTS (
	SELECT FROM pg_attribute h WHERE h.attrelid = 'crm.message_history'::regclass AND h.attname = a.attname AND h.atttypid = a.atttypid AND NOT h.attisdropped);
-- what is spent in the flight ends nobody's turn: the courier passes over rows whose message has moved
SELECT count(*), count(expires_at) FROM crm.queue_read_retries(:gate, -1, 0, crm.monotonic_ms(), 10000);
SELECT count(*) FROM crm.outbox_take(:gate, 10000) t JOIN crm.message_history h ON h.id = t.message_id;
ROLLBACK;
