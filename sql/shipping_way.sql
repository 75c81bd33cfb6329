-- claim 48 to 50: what is told of a trip that was planned, changed its vehicle, became known too late
-- Planned trips that a weighing makes real, a vehicle changed on the way, the control period, expected arrivals with
-- the history of the leg and how far they were off.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 12:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name) VALUES (901, 'Stroy');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site', 'unloading', 37.5, 55, 400);
INSERT INTO crm.vehicle (id, plate) SELECT 900 + i, 'T ' || i FROM generate_series(1, 60) i;
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (901, 'A', 901, 902, 'Cement'), (902, 'B', 901, 902, 'Cement'), (903, 'C', 901, NULL, 'Cement');
CREATE FUNCTION pg_temp.lon(k integer) RETURNS float8 LANGUAGE sql AS $$ SELECT least(37.5, 37 + greatest(0, $1 - 5) * 0.01) $$;
-- a road of 0.01 degrees a step of so many seconds
CREATE FUNCTION pg_temp.go(vehicle bigint, t0 timestamptz, ks integer[], step float8 DEFAULT 30) RETURNS integer LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1 ORDER BY n), array_agg($2 + k * $4 * interval '1 second' ORDER BY n), array_agg(pg_temp.lon(k) ORDER BY n), array_agg(55.0::float8 ORDER BY n)) FROM unnest($3) WITH ORDINALITY u(k, n) $$;
CREATE FUNCTION pg_temp.load(vehicle bigint, order_no bigint, at timestamptz) RETURNS void LANGUAGE sql AS
$$ INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES ($2, $1, 14000, 34000, $3) $$;
CREATE VIEW pg_temp.trips AS SELECT t.vehicle_id - 900 AS v, t.state, t.planned_at::time AS planned, t.loaded_at::time AS loaded, t.departed_at::time(0) AS departed, t.approaching_at::time(0) AS near,
	t.arrived_at::time(0) AS arrived, (SELECT string_agg(replace(e.kind, 'trip.', ''), ' ' ORDER BY e.id) FROM crm.event e WHERE e.object_kind = 'trip' AND e.object_id = t.id) AS events,
	(SELECT string_agg(o.number, '+' ORDER BY o.number) FROM crm.trip_order x JOIN crm.customer_order o ON o.id = x.order_id WHERE x.trip_id = t.id) AS orders
	FROM crm.trip t ORDER BY t.vehicle_id, coalesce(t.loaded_at, t.planned_at), t.id;
CREATE FUNCTION pg_temp.try(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE words text; state_ text;
BEGIN
	EXECUTE statement;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS words = MESSAGE_TEXT, state_ = RETURNED_SQLSTATE;
	RETURN state_ || ' ' || regexp_replace(words, 'trip [0-9]+', 'trip N');
END $$;

-- A plan: two orders in one trip; the same plan is the same trip; fixes before the weighing move nothing.
SELECT crm.plan_trip(901, '{901,902}', '2026-05-05 09:00Z') = crm.plan_trip(901, '{902,901,901}', '2026-05-05 09:00Z') AS same;
SELECT pg_temp.go(901, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 4))) AS waiting;
SELECT * FROM pg_temp.trips;
SELECT pg_temp.load(901, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT * FROM pg_temp.trips;
-- Storno: it is planned again; taken back: it loads again. The second order joins; the drive is told once.
UPDATE crm.shipment SET cancelled_at = '2026-05-05 08:03Z';
SELECT * FROM pg_temp.trips;
UPDATE crm.shipment SET cancelled_at = NULL;
SELECT pg_temp.load(901, 902, '2026-05-05 08:02Z') \g /dev/null
SELECT pg_temp.go(901, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(5, 60))) AS drive;
SELECT * FROM pg_temp.trips;
-- Two plans of one vehicle: each load fulfils the nearest; one order has several trips.
SELECT crm.plan_trip(902, '{901}', '2026-05-05 08:00Z') < crm.plan_trip(902, '{901}', '2026-05-05 10:30Z') AS planned;
SELECT pg_temp.load(902, 901, '2026-05-05 10:45Z') \g /dev/null
SELECT * FROM pg_temp.trips WHERE v = 2;
SELECT count(*) AS trips_of_order_a FROM crm.trip_order WHERE order_id = 901;
SELECT pg_temp.try(s) FROM unnest(ARRAY['SELECT crm.plan_trip(1, ''{901}'', now())', 'SELECT crm.plan_trip(901, ''{}'', now())', 'SELECT crm.plan_trip(901, ''{901,77}'', now())',
	'SELECT crm.plan_trip(901, ''{901,903}'', now())', 'SELECT crm.plan_trip(901, ''{901}'', ''infinity'')', 'SELECT crm.plan_trip(901, ''{901}'', NULL)']) s;

-- The truck breaks down half way: another one takes the load over at 08:15 and brings it. What was said is not said again.
SELECT pg_temp.load(903, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT pg_temp.go(903, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 28))) AS half;
SELECT pg_temp.try(format('SELECT crm.change_vehicle(%s, 904, ''2026-05-05 08:01Z'')', id)) FROM crm.trip WHERE vehicle_id = 903;
SELECT crm.change_vehicle(id, 904, '2026-05-05 08:15Z') FROM crm.trip WHERE vehicle_id = 903 \g /dev/null
SELECT * FROM pg_temp.trips WHERE v IN (3, 4);
-- the old one is towed to the very site: that is no arrival of the load
SELECT pg_temp.go(903, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(31, 60))) AS towed;
SELECT * FROM pg_temp.trips WHERE v IN (3, 4);
-- the new one drives on, in the wrong order; a late fix of the old one from before the change still counts
SELECT sum(pg_temp.go(904, '2026-05-05 08:20Z', ARRAY[k])) AS brings FROM generate_series(60, 25, -1) k;
SELECT crm.put_positions(ARRAY[903], ARRAY['2026-05-05 08:02:45Z'::timestamptz], ARRAY[37.006], ARRAY[55.0]) AS late;
SELECT * FROM pg_temp.trips WHERE v IN (3, 4);
SELECT vehicle_id - 900 AS v, from_at, to_at FROM crm.trip_carried;
SELECT crm.change_vehicle(id, 904, '2026-05-05 08:30Z') FROM crm.trip WHERE vehicle_id = 904 \g /dev/null
SELECT count(*) AS "the same is no change" FROM crm.trip_carried;

-- The control period: what becomes known later corrects, and is told to nobody.
SET LOCAL crm.control_period = '2h';
SELECT pg_temp.load(905, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT pg_temp.go(905, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 60))) AS too_late;
SELECT pg_temp.load(906, 901, '2026-05-05 11:02Z') \g /dev/null
SELECT pg_temp.go(906, '2026-05-05 11:00Z', ARRAY(SELECT generate_series(1, 60))) AS in_time;
-- the place has its own
INSERT INTO crm.zone_setting (place_id, control_minutes) VALUES (902, 600);
SELECT pg_temp.load(907, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT pg_temp.go(907, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 60))) AS in_its_time;
SELECT * FROM pg_temp.trips WHERE v BETWEEN 5 AND 7;
SELECT data ->> 'fact' AS fact, data ->> 'trip_state' AS state FROM crm.event WHERE kind = 'trip.corrected' ORDER BY id;
DELETE FROM crm.zone_setting;
RESET crm.control_period;

-- Expected arrivals. History: thirty trips of this leg at 45 seconds a step, a third slower than the straight line x 1.3 says.
SELECT crm.set_now('2026-05-07 12:00Z', 0) IS NOT NULL AS clock;
DELETE FROM crm.leg_pass;
DELETE FROM crm.eta_said;
SELECT pg_temp.load(910 + i, 901, '2026-05-06 08:01Z'::timestamptz + i * interval '20 minutes') FROM generate_series(1, 30) i \g /dev/null
SELECT sum(pg_temp.go(910 + i, '2026-05-06 08:00Z'::timestamptz + i * interval '20 minutes', ARRAY[k], 40 + i % 11)) AS history FROM generate_series(1, 30) i, generate_series(1, 60) k;
SELECT mark_m / 1000 AS km, count(*) AS trips, round(avg(remaining_s)) AS mean_s FROM crm.leg_pass GROUP BY 1 ORDER BY 1;
-- the same point of the road with the history and without: the same own speed, another expectation
CREATE VIEW pg_temp.eta AS SELECT t.vehicle_id - 900 AS v, t.eta::time(0), t.eta_from::time(0), t.eta_to::time(0), t.eta_at::time(0) FROM crm.trip t ORDER BY 1;
SELECT pg_temp.load(950, 901, '2026-05-07 08:01Z'), pg_temp.go(950, '2026-05-07 08:00Z', ARRAY(SELECT generate_series(1, 30)), 45) \g /dev/null
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (903, 'New site', 'unloading', 37.5, 55, 400);
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (904, 'N', 901, 903, 'Cement');
SELECT pg_temp.load(951, 904, '2026-05-07 08:01Z'), pg_temp.go(951, '2026-05-07 08:00Z', ARRAY(SELECT generate_series(1, 30)), 45) \g /dev/null
SELECT * FROM pg_temp.eta WHERE v IN (50, 51);
SELECT t.vehicle_id - 900 AS v, s.mark_minutes, s.eta::time(0), s.history FROM crm.eta_said s JOIN crm.trip t ON t.id = s.trip_id WHERE t.vehicle_id IN (950, 951) ORDER BY 1, 2;
-- the rest comes fix by fix: four marks at most, and then how far off it was
SELECT sum(pg_temp.go(950, '2026-05-07 08:00Z', ARRAY[k], 45)) AS rest FROM generate_series(31, 60) k;
SELECT t.vehicle_id - 900 AS v, s.mark_minutes, s.said_at::time(0), s.eta::time(0), t.arrived_at::time(0) AS arrived, t.arrived_at BETWEEN s.eta_from AND s.eta_to AS within FROM crm.eta_said s JOIN crm.trip t ON t.id = s.trip_id WHERE t.vehicle_id = 950 ORDER BY 2 DESC;
SELECT mark_minutes, trips, median_error_minutes < 10 AS good, within_interval > 0.6 AS mostly FROM crm_bi.eta_accuracy WHERE destination_id = 902 ORDER BY 1 DESC;
SELECT max(n) AS at_most FROM (SELECT count(*) AS n FROM crm.eta_said GROUP BY trip_id) x;

-- Silences of over ten minutes, marked.
SELECT crm.put_positions(ARRAY[960, 960, 960], ARRAY['2026-05-07 09:00Z', '2026-05-07 09:05Z', '2026-05-07 09:40Z']::timestamptz[], ARRAY[37, 37.01, 37.2], ARRAY[55, 55, 55]) AS fixes;
SELECT silent_from, silent_to, seconds, round(distance_m) AS metres FROM crm.position_gap WHERE vehicle_id = 960;
ROLLBACK;
