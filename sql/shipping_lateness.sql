-- claim 56: limit 60 minutes, late 75: a penalty for 15; claim 71: plan, fact, source of the fact, error, reason
-- Lateness by proved times on both sides, the error in the carrier's favour; the plant's queue is excused to the minute.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-06 06:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true);
INSERT INTO crm.contract (id, carrier_id, number) VALUES (901, 902, 'D-1');
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff, cap) VALUES
	(901, 901, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 1, "roubles": 100}]', 10000), (902, 901, 'unloading', '2026-01-01', 60, '[{"from": 0, "each": 1, "roubles": 100}]', 10000);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site', 'unloading', 37.5, 55, 400);
INSERT INTO crm.vehicle (id, plate, carrier_id) SELECT 900 + i, 'T ' || i, 902 FROM generate_series(1, 12) i;
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, window_from, window_to) VALUES (901, 'N', 901, 902, 'Cement', '2026-05-05 10:00Z', '2026-05-05 11:00Z'), (902, 'No window', 901, 902, 'Cement', NULL, NULL);
CREATE FUNCTION pg_temp.load(vehicle bigint, order_no bigint, tare_at timestamptz, gross_at timestamptz) RETURNS void LANGUAGE sql AS $$
	INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, weighed_at, source_id) VALUES ($2, $1, 14000, $3, $1 || ' ' || $3);
	UPDATE crm.shipment SET gross_kg = 34000, weighed_at = $4 WHERE vehicle_id = $1 AND gross_kg IS NULL;
$$;
-- A road of k steps of 30 seconds and 0.01 degrees, from t0.
CREATE FUNCTION pg_temp.go(vehicle bigint, t0 timestamptz, n integer) RETURNS integer LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1 ORDER BY k), array_agg($2 + k * interval '30 seconds' ORDER BY k), array_agg(least(37.5, 37 + greatest(0, k - 5) * 0.01) ORDER BY k), array_agg(55.0::float8 ORDER BY k)) FROM generate_series(1, $3) k $$;
CREATE VIEW pg_temp.late AS SELECT l.vehicle_id - 900 AS v, l.side, l.version AS n, l.planned_at::time AS planned, l.arrived_at::time(0) AS arrived, round(l.error_s) AS err, l.means,
	l.late_minutes AS late, l.excused_minutes AS exc, l.charged_minutes AS charged, l.penalty, l.reason FROM crm.lateness l WHERE l.superseded_at IS NULL ORDER BY l.vehicle_id, l.side;

\echo == at loading: 75 minutes late by the gate, by the tare, in time, without a slot
INSERT INTO crm.slot (id, vehicle_id, order_id, planned_from, source_id) SELECT 900 + i, 900 + i, 902, '2026-05-05 07:00Z', 's' || i FROM generate_series(1, 3) i;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (901, '2026-05-05 08:15Z', 'gate', 'erp', 'a'), (903, '2026-05-05 06:40Z', 'bot', 'bot', 'b');
SELECT pg_temp.load(901, 902, '2026-05-05 08:20Z', '2026-05-05 08:50Z'), pg_temp.load(902, 902, '2026-05-05 08:15:59Z', '2026-05-05 08:50Z'), pg_temp.load(903, 902, '2026-05-05 08:20Z', '2026-05-05 08:50Z'), pg_temp.load(904, 902, '2026-05-05 08:20Z', '2026-05-05 08:50Z') \g /dev/null
SELECT * FROM pg_temp.late;
SELECT proofs FROM crm.lateness WHERE vehicle_id = 901 AND superseded_at IS NULL;
-- the news, once each, and a correction is none
SELECT e.object_id = t.id AS trip, t.vehicle_id, e.company_id, e.data ->> 'late_minutes' AS late, e.data ->> 'penalty' AS penalty FROM crm.event e JOIN crm.trip t ON t.id = e.object_id WHERE e.kind = 'lateness.found' ORDER BY 2;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (901, '2026-05-05 08:10Z', 'gate', 'erp', 'c');
SELECT * FROM pg_temp.late WHERE v = 1;
SELECT version, arrived_at::time, late_minutes, penalty, superseded_at IS NULL AS in_force FROM crm.lateness WHERE vehicle_id = 901 ORDER BY version;
SELECT count(*) AS events FROM crm.event WHERE kind = 'lateness.found';

\echo == the queue of the plant: the penalty falls by just those minutes
INSERT INTO crm.queue_interval (id, place_id, from_at, to_at, reason, source_id) VALUES (901, 901, '2026-05-05 07:30Z', '2026-05-05 07:37Z', 'weighbridge', 'q1');
SELECT * FROM pg_temp.late WHERE v IN (1, 2);
-- twice the same minutes count once; those of another vehicle, or before the slot, not at all
INSERT INTO crm.queue_interval (place_id, vehicle_id, from_at, to_at, source_id) VALUES (901, NULL, '2026-05-05 07:35Z', '2026-05-05 07:38Z', 'q2'), (901, 902, '2026-05-05 07:40Z', '2026-05-05 07:41Z', 'q3'), (901, NULL, '2026-05-05 05:00Z', '2026-05-05 07:00Z', 'q4');
SELECT * FROM pg_temp.late WHERE v IN (1, 2);
UPDATE crm.queue_interval SET cancelled_at = crm.now() WHERE source_id = 'q2';
SELECT v, late, exc, penalty FROM pg_temp.late WHERE v IN (1, 2);

\echo == at unloading: by GPS, with the error; the wait at the plant from check-in to call is excused
INSERT INTO crm.slot (id, vehicle_id, order_id, planned_from, source_id) VALUES (905, 905, 901, '2026-05-05 10:00Z', 's5'), (906, 906, 901, '2026-05-05 10:00Z', 's6');
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (905, '2026-05-05 09:50Z', 'gate', 'erp', 'e'), (906, '2026-05-05 09:50Z', 'gate', 'erp', 'f');
SELECT pg_temp.load(905, 901, '2026-05-05 10:55Z', '2026-05-05 11:40Z'), pg_temp.load(906, 901, '2026-05-05 10:55Z', '2026-05-05 11:40Z') \g /dev/null
SELECT pg_temp.go(905, '2026-05-05 11:45Z', 60), pg_temp.go(906, '2026-05-05 11:45Z', 60);
SELECT * FROM pg_temp.late WHERE v IN (5, 6);
UPDATE crm.slot SET called_at = '2026-05-05 10:12Z' WHERE id = 906;
SELECT * FROM pg_temp.late WHERE v = 6;
-- whole minutes of the proof less its error
SELECT l.late_minutes = floor(extract(epoch FROM t.arrived_at - t.arrived_error_s * interval '1 second' - timestamptz '2026-05-05 11:00Z') / 60) AS by_the_bound FROM crm.lateness l JOIN crm.trip t ON t.id = l.trip_id WHERE l.side = 'unloading' AND l.superseded_at IS NULL;
-- the window is moved when it was over: no excuse; a driver's own word at the place is a proof, where it is earlier
UPDATE crm.customer_order SET window_to = '2026-05-05 13:00Z' WHERE id = 901;
SELECT v, planned, late FROM pg_temp.late WHERE v IN (5, 6) AND side = 'unloading';
INSERT INTO crm.checkin (vehicle_id, place_id, at, means, source, source_id) VALUES (905, 902, '2026-05-05 12:04Z', 'bot', 'bot', 'x');
SELECT v, arrived, err, means, late FROM pg_temp.late WHERE v = 5 AND side = 'unloading';

\echo == what is not charged: no bound, days off, weekdays, gaps; the queue where the contract says so
INSERT INTO crm.slot (id, vehicle_id, order_id, planned_from, source_id) VALUES (907, 907, 902, '2026-05-05 07:00Z', 's7');
SELECT crm.put_positions(ARRAY[907, 907], ARRAY['2026-05-05 09:00Z', '2026-05-05 09:02Z']::timestamptz[], ARRAY[37.0, 37.0], ARRAY[55.0, 55.0]) AS silent_before;
SELECT pg_temp.load(907, 902, '2026-05-05 09:20Z', '2026-05-05 09:50Z') \g /dev/null
SELECT * FROM pg_temp.late WHERE v = 7;
UPDATE crm.contract_term SET exclusions = '{"weekdays": [2]}' WHERE id = 901;
SELECT v, late, charged, penalty, reason FROM pg_temp.late WHERE side = 'loading' AND late > 0;
UPDATE crm.contract_term SET exclusions = '{"holidays": true, "queue": false}' WHERE id = 901;
SELECT v, late, exc, charged, penalty, reason FROM pg_temp.late WHERE side = 'loading' AND late > 0;
UPDATE crm.contract_term SET exclusions = '{}', valid_to = '2026-05-04' WHERE id = 901;
SELECT v, late, charged, penalty, reason FROM pg_temp.late WHERE side = 'loading' AND late > 0;

\echo == a storno takes the trip away, and taken back brings it again
UPDATE crm.shipment SET cancelled_at = crm.now() WHERE vehicle_id = 902;
SELECT count(*) AS left_ FROM pg_temp.late WHERE v = 2;
UPDATE crm.shipment SET cancelled_at = NULL WHERE vehicle_id = 902;
SELECT v, n, arrived, late FROM pg_temp.late WHERE v = 2;

\echo == the same again changes nothing
SELECT max(id) AS newest FROM crm.lateness \gset
SELECT crm.lateness_recompute(ARRAY(SELECT id FROM crm.trip));
SELECT max(id) = :newest AS same FROM crm.lateness;
ROLLBACK;
