-- claim 56: a lateness beyond the limit makes a claim with track evidence, the term's version and a hash
-- Issue 5, show 4: alter one stored point and claim_verify says which; add a queue interval and the penalty falls by just those minutes.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-06 06:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier, inn) VALUES (901, 'Stroy', false, NULL), (902, 'Haul', true, '7707083893');
INSERT INTO crm.contact (id, company_id, name) VALUES (902, 902, 'Dispatcher');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (902, 'email', 'd@haul.example');
INSERT INTO crm.contract (id, carrier_id, number) VALUES (901, 902, 'D-1');
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff, cap) VALUES
	(901, 901, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 1, "roubles": 100}]', 10000), (902, 901, 'unloading', '2026-01-01', 60, '[{"from": 0, "each": 1, "roubles": 100}]', 10000);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site', 'unloading', 37.5, 55, 400);
INSERT INTO crm.vehicle (id, plate, carrier_id) SELECT 900 + i, 'T ' || i, 902 FROM generate_series(1, 9) i;
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, window_from, window_to) VALUES (901, 'N', 901, 902, 'Cement', '2026-05-05 08:00Z', '2026-05-05 08:30Z');
CREATE FUNCTION pg_temp.go(vehicle bigint, t0 timestamptz, n integer) RETURNS integer LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1 ORDER BY k), array_agg($2 + k * interval '30 seconds' ORDER BY k), array_agg(least(37.5, 37 + greatest(0, k - 5) * 0.01) ORDER BY k), array_agg(55.0::float8 ORDER BY k)) FROM generate_series(1, $3) k $$;
INSERT INTO crm.slot (vehicle_id, order_id, planned_from, source_id) SELECT 900 + i, 901, '2026-05-05 07:00Z', 's' || i FROM generate_series(1, 3) i;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) SELECT 900 + i, '2026-05-05 08:15Z', 'gate', 'erp', 'g' || i FROM generate_series(1, 2) i;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) SELECT 901, 900 + i, 14000, 34000, '2026-05-05 08:50Z' FROM generate_series(1, 3) i;
SELECT pg_temp.go(901, '2026-05-05 09:10Z', 60) AS drive;
CREATE VIEW pg_temp.claims AS SELECT c.id, l.vehicle_id - 900 AS v, c.side, c.revision AS rev, c.late_minutes AS late, c.excused_minutes AS exc, c.charged_minutes AS charged, c.penalty_made AS made, c.penalty, c.state, length(c.hash) AS hash
	FROM crm.claim c JOIN crm.lateness l ON l.id = c.lateness_id ORDER BY l.vehicle_id, c.side, c.id;
ALTER SEQUENCE crm.claim_id_seq RESTART 901;

\echo == made by hand, once
SELECT crm.make_claim(id) AS claim FROM crm.lateness WHERE superseded_at IS NULL AND penalty > 0 ORDER BY vehicle_id, side;
SELECT crm.make_claim(id) AS again FROM crm.lateness WHERE superseded_at IS NULL AND penalty > 0 ORDER BY vehicle_id, side;
SELECT * FROM pg_temp.claims;
SELECT ordinal, role, at, lon, lat, round(error_s) AS err, regexp_replace(regexp_replace(fact, '(trip|check-in|passage|slot) \d+', '\1 …', 'g'), 'known .*', 'known …') AS fact
FROM crm.claim_point WHERE claim_id = (SELECT id FROM pg_temp.claims WHERE v = 1 AND side = 'unloading') ORDER BY ordinal;
SELECT (crm.claim_verify(id)).* FROM pg_temp.claims;
SELECT e.data ->> 'penalty' AS penalty, e.data ->> 'contract' AS contract, e.company_id FROM crm.event e WHERE e.kind = 'claim.made' ORDER BY e.id;

\echo == the hash, by another way
SELECT bool_and(encode(sha256(convert_to(x.words, 'UTF8')), 'hex') = c.hash) AS same
FROM crm.claim c CROSS JOIN LATERAL (SELECT string_agg(p.role || '|' || coalesce(to_char(p.at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '-') || '|' || coalesce(p.lon::text, '-') || '|' || coalesce(p.lat::text, '-') || '|' || coalesce(p.error_s::text, '-') || '|' || p.fact, chr(10) ORDER BY p.ordinal) AS words
	FROM crm.claim_point p WHERE p.claim_id = c.id AND p.revision = c.revision) x;

\echo == one stored point is altered: which
SELECT id AS c FROM pg_temp.claims WHERE v = 1 AND side = 'unloading' \gset
SAVEPOINT whole;
UPDATE crm.vehicle_position SET lon = 37.4777 WHERE vehicle_id = 901 AND at = (SELECT at FROM crm.claim_point WHERE claim_id = :c AND role = 'fix_before');
SELECT equal, regexp_replace(difference, 'point \d+', 'point …') AS difference FROM crm.claim_verify(:c);
ROLLBACK TO whole;
DELETE FROM crm.vehicle_position WHERE vehicle_id = 901 AND at = (SELECT at FROM crm.claim_point WHERE claim_id = :c AND role = 'fix_after');
SELECT * FROM crm.claim_verify(:c);
ROLLBACK TO whole;
DELETE FROM crm.vehicle_position;
SELECT * FROM crm.claim_verify(:c);
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.claim_point SET lat = 55.5 WHERE claim_id = :c AND role = 'fix_after';
SELECT * FROM crm.claim_verify(:c);
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.contract_term SET free_minutes = 20 WHERE id = 902;
SELECT equal, regexp_replace(difference, '^(.{60}).*(.{60})$', '\1 … \2') AS difference FROM crm.claim_verify(:c);
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.claim_point SET fact = replace(fact, '60 min free', '20 min free') WHERE claim_id = :c AND role = 'term';
SELECT equal, difference LIKE '%(term)%it was altered' AS term FROM crm.claim_verify(:c);
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.claim SET hash = repeat('0', 64) WHERE id = :c;
SELECT equal, left(difference, 80) AS difference FROM crm.claim_verify(:c);
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.passage SET entered_at = entered_at + interval '5 minutes' WHERE id = (SELECT passage_id FROM crm.lateness WHERE id = (SELECT lateness_id FROM crm.claim WHERE id = :c));
SELECT equal, regexp_replace(difference, ':\d\d\.\d+', '', 'g') AS difference FROM crm.claim_verify(:c);
ROLLBACK TO whole;
\set ON_ERROR_STOP 0
UPDATE crm.claim_point SET lat = 55.5 WHERE claim_id = :c AND role = 'fix_after';
ROLLBACK TO whole;
SELECT crm.claim_verify(5);
ROLLBACK TO whole;
SELECT crm.make_claim(99999999);
ROLLBACK TO whole;
UPDATE crm.contract_term SET valid_to = '2026-12-31';
\set ON_ERROR_STOP 1

\echo == a queue interval: the penalty falls by just those minutes, a new revision, the same claim
INSERT INTO crm.queue_interval (place_id, from_at, to_at, reason, source_id) VALUES (901, '2026-05-05 07:30Z', '2026-05-05 07:34Z', 'weighbridge', 'q1');
SELECT * FROM pg_temp.claims WHERE side = 'loading';
SELECT (crm.claim_verify(id)).* FROM pg_temp.claims;
-- the minutes of the whole lateness: the claim is taken back, and not made again by itself where people took it back
INSERT INTO crm.queue_interval (place_id, vehicle_id, from_at, to_at, source_id) VALUES (901, 902, '2026-05-05 07:34Z', '2026-05-05 07:50Z', 'q2');
SELECT v, penalty, state FROM pg_temp.claims WHERE side = 'loading';
-- what had lowered it is taken back: it is as it was claimed first
UPDATE crm.queue_interval SET cancelled_at = crm.now() WHERE source_id = 'q1';
SELECT v, made, penalty, state FROM pg_temp.claims WHERE side = 'loading';
SELECT l.what, l.state, l.penalty_before, l.penalty, l.reason FROM crm.claim_log l JOIN pg_temp.claims c ON c.id = l.claim_id WHERE c.v = 1 AND c.side = 'loading' ORDER BY l.id;

\echo == by itself, where the contract says so
UPDATE crm.contract SET auto_claim = true;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (903, '2026-05-05 08:20Z', 'gate', 'erp', 'g3');
SELECT v, side, charged, penalty, state FROM pg_temp.claims WHERE v = 3;
SELECT crm.cancel_claim(id, 'asked by the director') FROM pg_temp.claims WHERE v = 3;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (903, '2026-05-05 08:19Z', 'gate', 'erp', 'g4');
SELECT v, side, penalty, state FROM pg_temp.claims WHERE v = 3;

\echo == sent: a paper with the points, a letter to the carrier
SELECT crm.claims_send();
SELECT r.what, r.reason FROM crm.rejected r ORDER BY 1;
SELECT crm.add_integration('test_mail', 'mail_out', 'smtp://127.0.0.1:2525', '{"sender": "plant@example.com"}') IS NOT NULL AS mail;
SELECT crm.claims_send();
SELECT c.v, c.side, c.state, regexp_replace(d.number, '-[0-9]{5}', '-N') AS number, d.state AS paper, (SELECT array_agg(f.format ORDER BY f.format) FROM crm.document_file f WHERE f.document_id = d.id) AS files
FROM pg_temp.claims c JOIN crm.claim k ON k.id = c.id LEFT JOIN crm.document d ON d.id = k.document_id WHERE c.state <> 'cancelled' ORDER BY c.v, c.side;
SELECT m.recipient, regexp_replace(m.subject, '-\d{5}', '-N') AS subject, regexp_replace(m.body, '-\d{5}', '-N') AS body, (SELECT count(*) FROM crm.message_attachment f WHERE f.message_id = m.id) AS files FROM crm.message m ORDER BY m.id;
SELECT x.line FROM crm.claim k CROSS JOIN LATERAL regexp_split_to_table(regexp_replace(crm.document_html(k.document_id), '<[^>]+>', ' ', 'g'), '\s*\n\s*') WITH ORDINALITY AS x(line, n) WHERE k.id = :c AND x.line ~ '[а-яё]' AND x.line !~ 'Контр|Претензия' ORDER BY x.n;
-- lowered afterwards: the same paper, a second version, a second letter
INSERT INTO crm.queue_interval (place_id, vehicle_id, from_at, to_at, source_id) VALUES (901, 901, '2026-05-05 07:00Z', '2026-05-05 07:06Z', 'q3');
SELECT crm.claims_send();
SELECT c.v, c.side, c.rev, c.penalty, c.state, (SELECT max(f.version) FROM crm.document_file f WHERE f.document_id = k.document_id) AS version, (SELECT count(*) FROM crm.document_sending s WHERE s.document_id = k.document_id) AS letters
FROM pg_temp.claims c JOIN crm.claim k ON k.id = c.id WHERE c.state <> 'cancelled' ORDER BY c.v, c.side;
SELECT promise, ok FROM crm.claim_selftest() ORDER BY 1;
ROLLBACK;
