-- claim 49: jitter over a border five times is one passage
-- claim 50: a drive past without a stop is no arrival
-- Zones by hand: hysteresis, dwell, gaps, spikes, polygons, zones that change.
\set ON_ERROR_STOP 1
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SELECT crm.set_now('2026-05-01 12:00+00', 0) IS NOT NULL AS clock;
-- A degree of latitude is 111195 m on our sphere: 0.001 degrees are 111.2 m.
INSERT INTO crm.place (id, name, lon, lat, radius_m) VALUES (1, 'Yard', 30, 50, 200);
INSERT INTO crm.vehicle (id, plate) SELECT i, 'P ' || i FROM generate_series(1, 20) i;
CREATE FUNCTION pg_temp.go(vehicle bigint, from_at timestamptz, step interval, lats float8[]) RETURNS integer LANGUAGE sql AS
$$ SELECT crm.put_positions(array_agg($1), array_agg($2 + (n - 1) * $3), array_agg(30.0::float8), array_agg(lat)) FROM unnest($4) WITH ORDINALITY AS u(lat, n) $$;
CREATE FUNCTION pg_temp.seen(vehicle bigint) RETURNS TABLE (place bigint, came text, err numeric, gap boolean, stayed boolean, went text, went_err numeric) LANGUAGE sql AS
$$ SELECT place_id, to_char(entered_at, 'HH24:MI:SS.MS'), round(entered_error_s::numeric, 2), entered_gap, dwelled, to_char(left_at, 'HH24:MI:SS.MS'), round(left_error_s::numeric, 2)
   FROM crm.passage WHERE vehicle_id = $1 AND superseded_at IS NULL ORDER BY entered_at, place_id $$;

-- Past without a stop: in and out within twenty seconds.
SELECT pg_temp.go(1, '2026-05-01 08:00+00', '5 seconds', ARRAY[49.99, 49.9975, 49.9985, 50, 50.0015, 50.0025, 50.01]);
SELECT * FROM pg_temp.seen(1);
-- The same, with a stop of two minutes.
SELECT pg_temp.go(2, '2026-05-01 08:00+00', '30 seconds', ARRAY[49.99, 49.9985, 50, 50, 50, 50, 50.01]);
SELECT * FROM pg_temp.seen(2);
-- Five crossings of the border within the margin of 50 m: one passage, left when it is truly away.
SELECT pg_temp.go(3, '2026-05-01 08:00+00', '10 seconds', ARRAY[49.99, 49.9983, 49.9981, 49.9983, 49.9981, 49.9983, 49.9981, 49.9983, 49.9981, 49.9983, 49.9981, 49.9978, 49.99]);
SELECT * FROM pg_temp.seen(3);
-- The margin that a place sets: none.
INSERT INTO crm.zone_setting (place_id, margin_m, dwell_s) VALUES (1, 0, 15);
SELECT pg_temp.go(4, '2026-05-01 08:00+00', '10 seconds', ARRAY[49.99, 49.9983, 49.9981, 49.9983, 49.9981, 49.9983, 49.9983, 49.9981]);
SELECT * FROM pg_temp.seen(4);
DELETE FROM crm.zone_setting;
-- A gap of half an hour around the crossing is marked; the bound grows with it.
SELECT pg_temp.go(5, '2026-05-01 08:00+00', '30 minutes', ARRAY[49.99, 50]);
SELECT * FROM pg_temp.seen(5);
-- First seen inside: no bound is known.
SELECT pg_temp.go(6, '2026-05-01 08:00+00', '30 seconds', ARRAY[50, 50, 50, 50]);
SELECT * FROM pg_temp.seen(6);
-- A spike to another town and back is left out; a jump that stays is believed with the second fix.
SELECT pg_temp.go(7, '2026-05-01 08:00+00', '30 seconds', ARRAY[50, 50, 51, 50, 50]);
SELECT * FROM pg_temp.seen(7);
SELECT pg_temp.go(8, '2026-05-01 08:00+00', '30 seconds', ARRAY[50, 50, 51]);
SELECT * FROM pg_temp.seen(8);
SELECT pg_temp.go(8, '2026-05-01 08:01:30+00', '30 seconds', ARRAY[51.0]);
SELECT * FROM pg_temp.seen(8);
-- Late news: the fix that shows that it was away in between takes the stay apart, with no trace lost.
SELECT pg_temp.go(9, '2026-05-01 08:00+00', '10 minutes', ARRAY[49.99, 50, 50, 49.99]);
SELECT * FROM pg_temp.seen(9);
SELECT pg_temp.go(9, '2026-05-01 08:15+00', '30 seconds', ARRAY[49.98]);
SELECT * FROM pg_temp.seen(9);
SELECT count(*) AS versions, count(*) FILTER (WHERE superseded_at IS NOT NULL) AS given_up, count(superseded_by_id) AS replaced FROM crm.passage WHERE vehicle_id = 9;
-- And the one that shows that it was there all along joins two stays.
SELECT pg_temp.go(10, '2026-05-01 08:00+00', '1 minute', ARRAY[49.99, 50, 49.99, 50, 49.99]);
SELECT pg_temp.go(11, '2026-05-01 08:00+00', '1 minute', ARRAY[49.99, 50, 50, 50, 49.99]);
SELECT * FROM pg_temp.seen(10);
-- In the margin for long, then away: the time of leaving is the border's.
SELECT pg_temp.go(12, '2026-05-01 08:00+00', '30 seconds', ARRAY[49.99, 50, 49.9983]);
SELECT pg_temp.go(12, '2026-05-01 08:01:30+00', '30 seconds', array_fill(49.9979::float8, ARRAY[200]));
SELECT pg_temp.go(12, '2026-05-01 09:41:30+00', '30 seconds', ARRAY[49.99]);
SELECT * FROM pg_temp.seen(12);

-- Over the end of a month, fix by fix: two partitions, one passage; a late one between them changes nothing else.
SELECT pg_temp.go(18, '2026-04-30 23:58+00'::timestamptz + k * interval '1 minute', '1 minute', ARRAY[CASE WHEN k IN (0, 1, 6) THEN 49.99 ELSE 50.0 END]) FROM unnest(ARRAY[0, 1, 2, 3, 5, 6, 4]) k \g /dev/null
SELECT * FROM pg_temp.seen(18);
SELECT count(*) AS versions FROM crm.passage WHERE vehicle_id = 18;

-- A polygon with a hole, across no special line, and one that crosses itself.
INSERT INTO crm.place (id, name, border) VALUES
	(2, 'Ring', crm.geo_border('POLYGON((29.99 54.99,30.01 54.99,30.01 55.01,29.99 55.01,29.99 54.99),(29.995 54.995,30.005 54.995,30.005 55.005,29.995 55.005,29.995 54.995))'));
SELECT pg_temp.go(13, '2026-05-01 08:00+00', '1 minute', ARRAY[54.98, 54.992, 54.993, 55, 55.007, 55.02]);
SELECT * FROM pg_temp.seen(13);
-- A circle over the date line.
INSERT INTO crm.place (id, name, lon, lat, radius_m) VALUES (3, 'Line', 179.9999, 10, 1000);
SELECT crm.put_positions(ARRAY[14, 14, 14], ARRAY['2026-05-01 08:00+00', '2026-05-01 08:10+00', '2026-05-01 08:20+00']::timestamptz[], ARRAY[179.9, -179.999, -179.9], ARRAY[10.0, 10.0, 10.0]);
SELECT * FROM pg_temp.seen(14);
-- A place that moves, one that goes: seen at once by this backend.
UPDATE crm.place SET lat = 52 WHERE id = 1;
SELECT pg_temp.go(15, '2026-05-01 08:00+00', '30 seconds', ARRAY[52, 52, 50]);
SELECT * FROM pg_temp.seen(15);
SAVEPOINT s;
UPDATE crm.place SET lat = 53 WHERE id = 1;
SELECT pg_temp.go(16, '2026-05-01 08:00+00', '30 seconds', ARRAY[53.0]);
ROLLBACK TO s;
SELECT pg_temp.go(16, '2026-05-01 08:00+00', '30 seconds', ARRAY[53.0]);
SELECT count(*) AS none FROM pg_temp.seen(16);
UPDATE crm.place SET archived_at = crm.now() WHERE id = 1;
SELECT pg_temp.go(17, '2026-05-01 08:00+00', '30 seconds', ARRAY[52.0]);
SELECT count(*) AS none FROM pg_temp.seen(17);
SELECT crm.distance_m(30, 50, 30, 51)::numeric(12,3) AS a_degree;
ROLLBACK;
