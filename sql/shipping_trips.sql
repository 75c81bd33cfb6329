-- claim 49: approaching by minutes of driving as well as by distance, per client
-- claim 64: a late fix may correct a time; a state is announced once and never goes back
-- Trips beyond the straight case: minutes, rounds of one vehicle, two destinations, a silent departure, a
-- correction, an arrival that was none.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 20:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name) VALUES (901, 'Stroy');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site', 'unloading', 37.5, 55, 400), (903, 'Far site', 'unloading', 38, 55, 400), (904, 'Next door', 'unloading', 37.05, 55, 300);
INSERT INTO crm.vehicle (id, plate) SELECT 900 + i, 'T ' || i FROM generate_series(1, 20) i;
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (901, 'N', 901, 902, 'Cement'), (902, 'Far', 901, 903, 'Cement'), (903, 'Near', 901, 904, 'Cement');
-- by minutes: twenty, or two kilometres
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, approach_km, approach_minutes) VALUES (904, 'M', 901, 902, 'Cement', 2, 20);

-- A road of k steps of 30 seconds and 0.01 degrees (64 km/h, 77 km/h to the eye of the detour).
CREATE FUNCTION pg_temp.lon(k integer, far float8) RETURNS float8 LANGUAGE sql AS $$ SELECT least($2, 37 + greatest(0, $1 - 5) * 0.01) $$;
CREATE FUNCTION pg_temp.go(vehicle bigint, t0 timestamptz, ks integer[], far float8 DEFAULT 37.5) RETURNS integer LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1 ORDER BY n), array_agg($2 + k * interval '30 seconds' ORDER BY n), array_agg(pg_temp.lon(k, $4) ORDER BY n), array_agg(55.0::float8 ORDER BY n)) FROM unnest($3) WITH ORDINALITY u(k, n) $$;
CREATE FUNCTION pg_temp.load(vehicle bigint, order_no bigint, at timestamptz) RETURNS void LANGUAGE sql AS
$$ INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES ($2, $1, 14000, 34000, $3) $$;
CREATE VIEW pg_temp.trips AS SELECT t.vehicle_id - 900 AS v, p.name, t.state, t.loaded_at::time AS loaded, t.departed_at::time(0) AS departed, t.approaching_at::time(0) AS near, round(t.approaching_error_s) AS near_err,
	t.arrived_at::time(0) AS arrived, t.unloaded_at::time(0) AS unloaded, t.eta::time(0) AS eta,
	(SELECT count(*) FROM crm.event e WHERE e.object_kind = 'trip' AND e.object_id = t.id) AS events FROM crm.trip t JOIN crm.place p ON p.id = t.destination_place_id ORDER BY t.vehicle_id, t.loaded_at, t.id;

-- Minutes: the same for any order of delivery.
SELECT pg_temp.load(900 + v, 904, '2026-05-05 08:02Z') FROM generate_series(1, 4) v \g /dev/null
SELECT pg_temp.go(901, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 60))) AS batch;
SELECT sum(pg_temp.go(902, '2026-05-05 08:00Z', ARRAY[k])) AS singly FROM generate_series(1, 60) k;
SELECT sum(pg_temp.go(903, '2026-05-05 08:00Z', ARRAY[k])) AS reverse FROM generate_series(60, 1, -1) k;
SELECT sum(pg_temp.go(904, '2026-05-05 08:00Z', ARRAY[(k * 37) % 61])) AS shuffled FROM generate_series(1, 60) k;
SELECT * FROM pg_temp.trips;

-- Two rounds of one vehicle to one place: each has its own times; both weighings told after the positions too.
SELECT pg_temp.go(905, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 70))) AS there;
SELECT crm.put_positions(ARRAY[905, 905], ARRAY['2026-05-05 08:50Z', '2026-05-05 09:20Z']::timestamptz[], ARRAY[37.25, 37.0], ARRAY[55.0, 55.0]) AS back;
SELECT pg_temp.go(905, '2026-05-05 10:00Z', ARRAY(SELECT generate_series(1, 70))) AS again;
SELECT pg_temp.load(905, 901, '2026-05-05 10:02Z'), pg_temp.load(905, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT pg_temp.load(906, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT sum(pg_temp.go(906, '2026-05-05 08:00Z', ARRAY[k])) AS there FROM generate_series(1, 70) k;
SELECT crm.put_positions(ARRAY[906, 906], ARRAY['2026-05-05 08:50Z', '2026-05-05 09:20Z']::timestamptz[], ARRAY[37.25, 37.0], ARRAY[55.0, 55.0]) AS back;
SELECT pg_temp.load(906, 901, '2026-05-05 10:02Z') \g /dev/null
SELECT sum(pg_temp.go(906, '2026-05-05 10:00Z', ARRAY[k])) AS again FROM generate_series(1, 70) k;
SELECT * FROM pg_temp.trips WHERE v IN (5, 6);

-- One vehicle, two places: two trips that leave together.
SELECT pg_temp.load(907, 901, '2026-05-05 08:01Z'), pg_temp.load(907, 902, '2026-05-05 08:02Z') \g /dev/null
SELECT sum(pg_temp.go(907, '2026-05-05 08:00Z', ARRAY[k], 38)) AS drive FROM generate_series(1, 45) k;
SELECT sum(crm.put_positions(ARRAY[907], ARRAY['2026-05-05 08:22:30Z'::timestamptz + k * interval '1 minute'], ARRAY[37.5], ARRAY[55.0])) AS stop FROM generate_series(1, 60) k;
SELECT sum(pg_temp.go(907, '2026-05-05 09:25Z', ARRAY[k], 38)) AS farther FROM generate_series(60, 120) k;
SELECT * FROM pg_temp.trips WHERE v = 7;

-- Silent at the plant: no departure is claimed, but the approach is.
SELECT pg_temp.load(908, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT sum(pg_temp.go(908, '2026-05-05 08:00Z', ARRAY[k])) AS seen FROM generate_series(30, 50) k;
SELECT * FROM pg_temp.trips WHERE v = 8;
-- The black box comes in at last: the departure is told late, once.
SELECT pg_temp.go(908, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 29))) AS black_box;
SELECT * FROM pg_temp.trips WHERE v = 8;

-- The plant is nearer to the client than the approach distance: near from the start.
SELECT pg_temp.load(909, 903, '2026-05-05 08:02Z') \g /dev/null
SELECT sum(pg_temp.go(909, '2026-05-05 08:00Z', ARRAY[k], 37.05)) AS short FROM generate_series(1, 20) k;
SELECT * FROM pg_temp.trips WHERE v = 9;

-- Past the gate without a stop: no arrival; with one, it is.
SELECT pg_temp.load(910, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT sum(pg_temp.go(910, '2026-05-05 08:00Z', ARRAY[k], 39)) AS past FROM generate_series(1, 80) k;
SELECT * FROM pg_temp.trips WHERE v = 10;

-- An arrival that was none: a late fix shows that it was away in between. The state stays, the time goes,
-- and the truth of its message with it; the true arrival comes without a second announcement.
SELECT pg_temp.load(911, 901, '2026-05-05 08:02Z') \g /dev/null
SELECT pg_temp.go(911, '2026-05-05 08:00Z', ARRAY(SELECT generate_series(1, 54))) AS before;
SELECT crm.put_positions(ARRAY[911, 911], ARRAY['2026-05-05 08:27:40Z', '2026-05-05 08:29:40Z']::timestamptz[], ARRAY[37.5, 37.5], ARRAY[55.0, 55.0]) AS in_out;
SELECT * FROM pg_temp.trips WHERE v = 11;
SELECT crm.put_positions(ARRAY[911], ARRAY['2026-05-05 08:28:40Z'::timestamptz], ARRAY[37.5], ARRAY[55.02]) AS away;
SELECT * FROM pg_temp.trips WHERE v = 11;
SELECT crm.trip_is(id, '{arrived}') AS arrived FROM crm.trip WHERE vehicle_id = 911;
SELECT crm.put_positions(ARRAY[911], ARRAY['2026-05-05 08:32:00Z'::timestamptz], ARRAY[37.5], ARRAY[55.0]) AS stays;
SELECT * FROM pg_temp.trips WHERE v = 11;
SELECT f.state, f.version, f.at::time(0), f.superseded_at IS NULL AS in_force FROM crm.trip_fact f JOIN crm.trip t ON t.id = f.trip_id WHERE t.vehicle_id = 911 AND f.state = 'arrived' ORDER BY f.version;

-- As of any moment the facts that were known then stand; none is announced twice.
SELECT max(n) FROM (SELECT count(*) AS n FROM crm.event WHERE object_kind = 'trip' GROUP BY object_id, kind) x;
SELECT promise, ok FROM crm.selftest() WHERE promise ~ 'trip|passage|shipment' ORDER BY 1;
ROLLBACK;
