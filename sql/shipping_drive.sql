-- claim 49: a vehicle is approaching once a trip, by distance
-- claim 50: it has arrived when it entered the place and stayed
-- claim 64: departed, approaching, arrived come once each and with the same times, whatever the order of the fixes
-- claim 66: the arrival is the crossing of the border, within one fix
-- A real drive, delivered in seven ways to seven vehicles that each carry a load.
SET datestyle = 'ISO, YMD';
\set ON_ERROR_STOP 1
\getenv data CRM_DATA
\if :{?data}
\else
\set data ../shared/data
\endif
SELECT pg_stat_file(:'data' || '/gps/munich-car.json', true) IS NULL AS absent \gset
\if :absent
\echo skipped: CRM_DATA
\quit
\endif
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'Europe/Berlin';
SET LOCAL datestyle = 'ISO';
SELECT crm.set_now('2026-09-10 12:00+02', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
CREATE TEMP TABLE fix ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY x.at)::integer AS n, x.*
FROM (SELECT (j->>'time')::timestamptz + interval '12 years' AS at,
		split_part(btrim(j->>'point', 'POINT()'), ' ', 1)::float8 AS lon,
		split_part(btrim(j->>'point', 'POINT()'), ' ', 2)::float8 AS lat
	FROM json_array_elements(pg_read_file(:'data' || '/gps/munich-car.json')::json) j) x;
SELECT count(*), min(at), max(at) FROM fix;

INSERT INTO crm.company (id, name) VALUES (101, 'Client');
INSERT INTO crm.contact (id, company_id, name) VALUES (101, 101, 'Anna');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, time_zone) SELECT 101, 'Plant', 'plant', lon, lat, 300, 'Europe/Berlin' FROM fix WHERE n = 1;
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, time_zone, company_id) SELECT 102, 'Client''s yard', 'unloading', lon, lat, 500, 'Europe/Berlin', 101 FROM fix ORDER BY n DESC LIMIT 1;
INSERT INTO crm.zone_setting (place_id, approach_km) VALUES (102, 5);
INSERT INTO crm.vehicle (id, plate) SELECT 100 + i, 'M CR ' || i FROM generate_series(1, 7) i;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product, tonnes) SELECT 100 + i, 'N-' || i, 101, 101, 102, 'Cement M500', 20 FROM generate_series(1, 7) i;
INSERT INTO crm.shipment (order_id, vehicle_id, product, tare_kg, gross_kg, weighed_at)
SELECT 100 + i, 100 + i, 'Cement M500', 15000, 35000, '2026-09-10 06:54:00+02' FROM generate_series(1, 7) i;

CREATE FUNCTION pg_temp.deliver(vehicle bigint, from_n integer, to_n integer) RETURNS integer LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1), array_agg(at), array_agg(lon), array_agg(lat)) FROM fix WHERE n BETWEEN $2 AND $3 $$;

-- 1: one batch.  2: in order, seven at a time.  3: the same twice.
SELECT pg_temp.deliver(101, 1, 10000) AS one_batch;
SELECT sum(pg_temp.deliver(102, i, i + 6)) AS sevens FROM generate_series(1, 1194, 7) i;
SELECT sum(pg_temp.deliver(103, i, i + 6)) AS first_time FROM generate_series(1, 1194, 7) i;
SELECT sum(pg_temp.deliver(103, i, i + 6)) AS second_time FROM generate_series(1, 1194, 7) i;
-- 4: in reverse, one batch.  5: in reverse, fix by fix.
SELECT crm.put_positions(array_agg(104::bigint ORDER BY n DESC), array_agg(at ORDER BY n DESC), array_agg(lon ORDER BY n DESC), array_agg(lat ORDER BY n DESC)) AS reverse_batch FROM fix;
SELECT sum(pg_temp.deliver(105, n, n)) AS reverse_singly FROM (SELECT n FROM fix ORDER BY n DESC) f;
-- 6: every tenth repeated, every seventh late by ten minutes, twelve at a time.  7: the same fix by fix.
CREATE TEMP TABLE arrival ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY due, n, copy) AS k, n
FROM (SELECT n, copy, at + CASE WHEN n % 7 = 0 THEN interval '10 minutes' ELSE interval '0' END + copy * interval '3 seconds' AS due
	FROM fix, generate_series(0, 1) copy WHERE copy = 0 OR n % 10 = 0) a;
SELECT sum(x.n) AS repeated_and_late FROM (
	SELECT crm.put_positions(array_agg(106::bigint ORDER BY k), array_agg(at ORDER BY k), array_agg(lon ORDER BY k), array_agg(lat ORDER BY k)) AS n
	FROM arrival JOIN fix USING (n) GROUP BY k / 12 ORDER BY k / 12) x;
SELECT sum(pg_temp.deliver(107, n, n)) AS repeated_and_late_singly FROM (SELECT n FROM arrival ORDER BY k) a;

-- The same times and bounds for all seven.
SELECT count(*) AS vehicles, state, departed_at::timestamptz(1), round(departed_error_s::numeric, 1) AS ds, approaching_at::timestamptz(1), round(approaching_error_s::numeric, 1) AS aps,
	arrived_at::timestamptz(1), round(arrived_error_s::numeric, 1) AS ars
FROM crm.trip GROUP BY state, departed_at, departed_error_s, 5, 6, 7, 8, approaching_at, arrived_at;
SELECT count(DISTINCT vehicle_id) AS vehicles, place_id, entered_at::timestamptz(1), entered_gap, dwelled, left_at::timestamptz(1), exit_fix_at
FROM crm.passage WHERE superseded_at IS NULL GROUP BY place_id, entered_at, entered_error_s, entered_gap, dwelled, left_at, exit_fix_at, entry_fix_at ORDER BY 3;

-- Each event once for each.
SELECT kind, count(*), count(DISTINCT object_id) AS trips FROM crm.event WHERE object_kind = 'trip' GROUP BY kind ORDER BY min(at);

-- In which order they became known, and which were no news any more.
SELECT t.vehicle_id - 100 AS way, string_agg(replace(e.kind, 'trip.', '') || CASE WHEN e.data->>'late' = '1' THEN ' (late)' ELSE '' END, ', ' ORDER BY e.id) AS events
FROM crm.event e JOIN crm.trip t ON t.id = e.object_id AND e.object_kind = 'trip' GROUP BY 1 ORDER BY 1;

-- Arrival within one fix of the crossing: the fixes around it, and their distance to the border.
SELECT f.at, round((crm.distance_m(f.lon, f.lat, p.lon, p.lat) - p.radius_m)::numeric, 1) AS outside_m
FROM fix f, crm.place p, crm.trip t
WHERE p.id = 102 AND t.vehicle_id = 101 AND f.at BETWEEN t.arrived_at - interval '1.5 seconds' AND t.arrived_at + interval '1.5 seconds' ORDER BY f.at;

SELECT data->>'order_number' AS number, data->>'place_name' AS place, data->>'tonnes' AS tonnes, data->>'at_local' AS at_local, data->>'vehicle_plate' AS plate, data->>'trip_state' AS state
FROM crm.event WHERE kind = 'trip.arrived' ORDER BY id LIMIT 1;
SELECT phase, count(*), round(min(distance_m)) AS nearest_m FROM crm.trip_track((SELECT id FROM crm.trip WHERE vehicle_id = 105)) GROUP BY phase ORDER BY min(at);
SELECT promise, ok FROM crm.selftest() WHERE promise ~ 'trip|passage|shipment' ORDER BY 1;
ROLLBACK;
