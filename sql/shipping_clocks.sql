-- claim 48, 54: the clock of the scales runs ahead of the truck's, so that the truck leaves before it is weighed: the
-- trip arrives all the same, by GPS, and by the gate where GPS is silent. Until the next load, which is another trip.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site', 'unloading', 37.2, 55, 400);
INSERT INTO crm.vehicle (id, plate, carrier_id) VALUES (901, 'T 1', 902), (902, 'T 2', 902);
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (901, 'N', 901, 902, 'Cement');
INSERT INTO crm.slot (kind, place_id, vehicle_id, order_id, planned_from, planned_to, source_id) SELECT 'unloading', 902, v, 901, '2026-05-05 09:05Z', '2026-05-05 09:10Z', 's' || v FROM generate_series(901, 902) v;
-- fixes each ten seconds: a minute at the plant, then 19 m/s to the east
CREATE FUNCTION pg_temp.go(vehicle bigint, first integer, last integer) RETURNS void LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1 ORDER BY k), array_agg('2026-05-05 09:00Z'::timestamptz + k * interval '10 seconds' ORDER BY k),
	array_agg(least(37.2, 37 + greatest(0, k - 5) * 0.003) ORDER BY k), array_agg(55.0::float8 ORDER BY k)) FROM generate_series($2, $3) k $$;
SELECT crm.set_now('2026-05-05 09:04Z', 0) IS NOT NULL AS clock, pg_temp.go(901, 1, 24) AS drive, pg_temp.go(902, 1, 24) AS drive;
-- weighed at 09:04 by the clock of the scales
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) SELECT 901, v, 14000, 34000, '2026-05-05 09:04Z' FROM generate_series(901, 902) v;
SELECT vehicle_id, state, loaded_at, departed_at FROM crm.trip ORDER BY vehicle_id;

\echo == by GPS
SELECT crm.set_now('2026-05-05 09:20Z', 0) IS NOT NULL AS clock, pg_temp.go(901, 25, 120) AS drive;
SELECT t.state, t.approaching_at IS NOT NULL AS approaching, t.arrived_at, p.entered_at = t.arrived_at AS passage FROM crm.trip t JOIN crm.passage p ON p.vehicle_id = t.vehicle_id AND p.place_id = 902 WHERE t.vehicle_id = 901;
SELECT side, means, late_minutes FROM crm.lateness WHERE vehicle_id = 901 AND superseded_at IS NULL;

\echo == by the gate
INSERT INTO crm.checkin (vehicle_id, place_id, at, means, source, source_id) VALUES (902, 902, '2026-05-05 09:19Z', 'gate', 'erp', 'g');
SELECT side, means, late_minutes FROM crm.lateness WHERE vehicle_id = 902 AND superseded_at IS NULL;

\echo == the next load ends it
SELECT crm.set_now('2026-05-05 13:00Z', 0) IS NOT NULL AS clock;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (901, 902, 14000, 34000, '2026-05-05 12:59Z');
SELECT crm.put_positions(ARRAY[902, 902, 902, 902], ARRAY['2026-05-05 13:20Z', '2026-05-05 13:25Z', '2026-05-05 13:30Z', '2026-05-05 13:35Z']::timestamptz[], ARRAY[37.1, 37.2, 37.2, 37.2], ARRAY[55, 55, 55, 55]) FROM crm.set_now('2026-05-05 13:40Z', 0);
SELECT loaded_at, departed_at, arrived_at FROM crm.trip WHERE vehicle_id = 902 ORDER BY loaded_at;
ROLLBACK;
