-- claim 54: planned slots with all their plans; a slot moved when it was missed already hides no lateness
-- Proofs of arrival from gate, weighbridge, GPS: the earliest counts, late and twice told ones correct it.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 07:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site', 'unloading', 37.5, 55, 400);
INSERT INTO crm.vehicle (id, plate, carrier_id) SELECT 900 + i, 'T ' || i, 902 FROM generate_series(1, 9) i;
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, window_from, window_to) VALUES (901, 'N', 901, 902, 'Cement', '2026-05-05 12:00Z', '2026-05-05 14:00Z');
CREATE VIEW pg_temp.slots AS SELECT s.id, s.source, s.version AS v, s.planned_from::time AS planned, s.agreed_version AS av, s.agreed_from::time AS agreed, s.late_at::time AS late, s.place_id AS place,
	s.arrived_at::time(0) AS arrived, round(s.arrived_error_s) AS err, s.arrived_means AS means, s.judged FROM crm.slot s ORDER BY s.id;

\echo == the window of an order is a slot
SELECT kind, order_id, planned_from::time, planned_to::time, late_at::time, source FROM crm.slot;
UPDATE crm.customer_order SET window_to = '2026-05-05 15:00Z' WHERE id = 901;
SELECT s.version, s.planned_to::time, s.agreed_to::time, s.agreed_version, (SELECT count(*) FROM crm.slot_plan p WHERE p.slot_id = s.id) AS plans FROM crm.slot s;

\echo == moves
INSERT INTO crm.slot (id, vehicle_id, order_id, planned_from, source_id) SELECT 900 + i, 900 + i, 901, '2026-05-05 10:00Z', 's' || i FROM generate_series(1, 8) i;
UPDATE crm.slot SET planned_from = '2026-05-05 11:00Z' WHERE id = 901;	-- in time, by the carrier
SELECT crm.set_now('2026-05-05 10:30Z', 0) IS NOT NULL AS later;
UPDATE crm.slot SET planned_from = '2026-05-05 12:00Z' WHERE id = 902;	-- missed already: hides nothing
UPDATE crm.slot SET planned_from = '2026-05-05 12:00Z', moved_by = 'plant' WHERE id = 903;	-- the plant's own wish
UPDATE crm.slot SET planned_from = '2026-05-05 09:00Z', moved_by = 'plant' WHERE id = 904;	-- nobody is late for what he never knew
UPDATE crm.slot SET gate = '3' WHERE id = 905;	-- no other time
UPDATE crm.slot SET planned_from = '2026-05-05 12:30Z' WHERE id = 901;	-- again, in time
SELECT * FROM pg_temp.slots WHERE id BETWEEN 901 AND 905;
SELECT slot_id, version, planned_from::time, gate, moved_by, agreed, known_at::time FROM crm.slot_plan WHERE slot_id BETWEEN 901 AND 905 ORDER BY 1, 2;
SELECT object_id, count(*), max(data ->> 'at_local') AS newest FROM crm.event WHERE kind = 'slot.planned' GROUP BY 1 ORDER BY 1;

\echo == proofs
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (906, '2026-05-05 10:20Z', 'gate', 'erp', 'a');
SELECT * FROM pg_temp.slots WHERE id = 906;
-- earlier, known later; and the same once more
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (906, '2026-05-05 10:05Z', 'bot', 'bot', 'a');
\set ON_ERROR_STOP 0
SAVEPOINT twice;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (906, '2026-05-05 10:05Z', 'bot', 'bot', 'a');
ROLLBACK TO twice;
\set ON_ERROR_STOP 1
SELECT * FROM pg_temp.slots WHERE id = 906;
-- a lie is taken back
UPDATE crm.checkin SET cancelled_at = crm.now() WHERE source = 'bot';
SELECT * FROM pg_temp.slots WHERE id = 906;
-- the tare, and then the gross of the same weighing; by GPS a minute earlier
INSERT INTO crm.shipment (id, order_id, vehicle_id, tare_kg, weighed_at) VALUES (901, 901, 907, 14000, '2026-05-05 10:08Z');
SELECT * FROM pg_temp.slots WHERE id = 907;
UPDATE crm.shipment SET gross_kg = 34000, weighed_at = '2026-05-05 10:29Z' WHERE id = 901;
SELECT * FROM pg_temp.slots WHERE id = 907;
SELECT crm.put_positions(ARRAY[907, 907, 907, 907], ARRAY['2026-05-05 10:05Z', '2026-05-05 10:06Z', '2026-05-05 10:07Z', '2026-05-05 10:09Z']::timestamptz[], ARRAY[36.98, 36.99, 37, 37], ARRAY[55.0, 55, 55, 55]) AS fixes;
SELECT * FROM pg_temp.slots WHERE id = 907;
-- past the gate without a stop: no arrival
SELECT crm.put_positions(ARRAY[908, 908, 908], ARRAY['2026-05-05 10:05:00Z', '2026-05-05 10:05:30Z', '2026-05-05 10:06:00Z']::timestamptz[], ARRAY[36.98, 37, 37.02], ARRAY[55.0, 55, 55]) AS past;
SELECT * FROM pg_temp.slots WHERE id = 908;
-- two slots of a vehicle: each has the proof nearest to it
INSERT INTO crm.slot (id, vehicle_id, planned_from, source_id) VALUES (911, 909, '2026-05-05 06:00Z', 'm'), (912, 909, '2026-05-05 10:00Z', 'n');
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (909, '2026-05-05 06:10Z', 'gate', 'erp', 'm'), (909, '2026-05-05 09:50Z', 'gate', 'erp', 'n');
SELECT * FROM pg_temp.slots WHERE id IN (911, 912);

\echo == called, and the wait until then
UPDATE crm.slot SET called_at = '2026-05-05 10:25Z' WHERE id IN (906, 912);
UPDATE crm.slot SET called_at = '2026-05-05 10:26Z' WHERE id = 912;
SELECT object_id, at::time FROM crm.event WHERE kind = 'slot.called' ORDER BY 1;
SELECT slot_id, from_at::time, to_at::time, cancelled_at IS NULL AS holds FROM crm.queue_interval ORDER BY 1;

\echo == nonsense
\set ON_ERROR_STOP 0
\set VERBOSITY terse
SAVEPOINT bad;
INSERT INTO crm.slot (planned_from) VALUES ('1970-01-01 00:00Z');
ROLLBACK TO bad;
INSERT INTO crm.slot (planned_from, planned_to) VALUES ('2026-05-05 10:00Z', '2026-05-05 09:00Z');
ROLLBACK TO bad;
INSERT INTO crm.slot (planned_from) VALUES ('infinity');
ROLLBACK TO bad;
INSERT INTO crm.slot (planned_from, grace_minutes) VALUES ('2026-05-05 10:00Z', -1);
ROLLBACK TO bad;
INSERT INTO crm.checkin (vehicle_id, at) VALUES (901, '2026-05-05 11:00Z');
ROLLBACK TO bad;
INSERT INTO crm.checkin (vehicle_id, at, error_s) VALUES (901, '2026-05-05 10:00Z', 'NaN');
ROLLBACK TO bad;
INSERT INTO crm.queue_interval (place_id, from_at, to_at) VALUES (901, '2026-05-05 10:00Z', '2026-05-05 09:00Z');
ROLLBACK TO bad;
UPDATE crm.slot_plan SET version = 9;
ROLLBACK TO bad;
ROLLBACK;
