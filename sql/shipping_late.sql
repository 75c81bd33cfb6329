-- claim 54: slot 10:00, grace 15: at 10:15:01 one notice; a check-in at 10:10: none
-- A check-in that is known later than the notice corrects and never notifies twice. A message goes to the carrier, and none when he came.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 06:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true);
INSERT INTO crm.contact (id, company_id, name) VALUES (901, 901, 'Client'), (902, 902, 'Dispatcher');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (902, 'phone', '+79161234567'), (901, 'phone', '+79161234568');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500);
INSERT INTO crm.vehicle (id, plate, carrier_id) SELECT 900 + i, 'T ' || i, CASE WHEN i < 8 THEN 902 END FROM generate_series(1, 9) i;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, product) VALUES (901, 'N', 901, 901, 'Cement');
INSERT INTO crm.slot (id, vehicle_id, order_id, planned_from, source_id) SELECT 900 + i, 900 + i, 901, '2026-05-05 07:00Z', 's' || i FROM generate_series(1, 9) i;

\echo == the grace is not over
SELECT crm.set_now('2026-05-05 07:10Z', 0) IS NOT NULL AS at_10;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (902, '2026-05-05 07:10Z', 'gate', 'erp', 'a');
UPDATE crm.slot SET cancelled_at = crm.now() WHERE id = 903;
UPDATE crm.slot SET planned_from = '2026-05-05 07:00:30Z', moved_by = 'plant' WHERE id = 904;
SELECT crm.put_positions(ARRAY[905, 905, 905], ARRAY['2026-05-05 07:07Z', '2026-05-05 07:08Z', '2026-05-05 07:09:30Z']::timestamptz[], ARRAY[36.98, 37, 37], ARRAY[55.0, 55, 55]) AS by_gps;
SELECT crm.set_now('2026-05-05 07:15:00Z', 0) IS NOT NULL AS at_15, crm.slots_due();
-- the courier is told when to look again: in a second of a clock that runs a thousand times slower
SELECT crm.set_now('2026-05-05 07:15:00Z', 0.001) IS NOT NULL AS runs;
SELECT crm.slot_deadline('{}') - crm.monotonic_ms() BETWEEN 900000 AND 1000000 AS soon;

\echo == over
SELECT crm.set_now('2026-05-05 07:15:01Z', 0) IS NOT NULL AS at_15_01, crm.slot_deadline('{}') IS NOT NULL AS waits;
SELECT e.object_id, e.at, e.company_id, e.data ->> 'vehicle_plate' AS plate, e.data ->> 'at_local' AS planned FROM crm.event e WHERE e.kind = 'slot.late' ORDER BY 1;
SELECT crm.slots_due() AS again;
SELECT crm.set_now('2026-05-05 07:15:31Z', 0) IS NOT NULL AS moved_one, crm.slots_due();
SELECT e.object_id, e.at FROM crm.event e WHERE e.kind = 'slot.late' AND e.object_id = 904;

\echo == the truth comes late: a check-in of 10:05, told at 10:20
SELECT crm.set_now('2026-05-05 07:20Z', 0) IS NOT NULL AS at_20;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (901, '2026-05-05 07:05Z', 'gate', 'erp', 'b');
SELECT arrived_at, late_told_at IS NOT NULL AS told, crm.slot_late(id) AS still FROM crm.slot WHERE id = 901;
UPDATE crm.checkin SET cancelled_at = crm.now() WHERE source_id = 'b';
UPDATE crm.slot SET planned_from = '2026-05-05 08:00Z', moved_by = 'plant' WHERE id = 901;
SELECT crm.set_now('2026-05-05 08:15:01Z', 0) IS NOT NULL AS second_grace, crm.slots_due();
SELECT count(*) AS notices, count(DISTINCT object_id) AS slots FROM crm.event WHERE kind = 'slot.late';

\echo == who hears it: the carrier, or the client who fetches it himself
SELECT e.object_id, (SELECT array_agg(contact_id) FROM crm.company_contacts(ARRAY[e.id])) AS company, (SELECT array_agg(contact_id) FROM crm.slot_client(ARRAY[e.id])) AS client
FROM crm.event e WHERE e.kind = 'slot.late' AND e.object_id IN (901, 909) ORDER BY 1;

\echo == one that has just come in by its tracker is waited for; one that is history is no news
INSERT INTO crm.slot (id, vehicle_id, planned_from, source_id) VALUES (921, 905, '2026-05-05 08:30Z', 'x'), (922, 906, '2026-05-04 08:30Z', 'y');
SELECT crm.set_now('2026-05-05 08:45:01Z', 0) IS NOT NULL AS over, crm.put_positions(ARRAY[905, 905], ARRAY['2026-05-05 08:40Z', '2026-05-05 08:44:50Z']::timestamptz[], ARRAY[36.98, 37], ARRAY[55.0, 55]) AS fixes;
SELECT crm.slots_due();
SELECT crm.put_positions(ARRAY[905], ARRAY['2026-05-05 08:45:55Z']::timestamptz[], ARRAY[37.0], ARRAY[55.0]) AS stands, crm.set_now('2026-05-05 08:46Z', 0) IS NOT NULL AS later;
SELECT crm.slots_due(), (SELECT arrived_means FROM crm.slot WHERE id = 921);
SELECT count(*) AS notices FROM crm.event WHERE kind = 'slot.late' AND object_id IN (921, 922);
SELECT promise, ok FROM crm.claim_selftest() ORDER BY 1;
ROLLBACK;
