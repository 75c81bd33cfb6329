-- Random walks through random zones, delivered in random order, against a slow oracle in plain SQL.
-- The oracle shares no code with the C: it looks at all fixes of a vehicle at once.  CRM_SEED varies the walks.
\set ON_ERROR_STOP 1
\getenv data CRM_DATA
\if :{?data}
\else
\set data ../shared/data
\endif
\getenv seed CRM_SEED
\if :{?seed}
\else
\set seed 1
\endif
\getenv soak CRM_SOAK
\if :{?soak}
\set vehicles 70
\else
\set vehicles 7
\endif
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SELECT crm.set_now('2026-05-03 12:00+00', 0) IS NOT NULL AS clock, setseed((:seed % 1000) / 1000.0) IS NOT NULL AS seeded;

CREATE FUNCTION pg_temp.metres(lon1 float8, lat1 float8, lon2 float8, lat2 float8) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT 2 * 6371008.8 * asin(sqrt(least(1, sin(radians(lat2 - lat1) / 2) ^ 2 + cos(radians(lat1)) * cos(radians(lat2)) * sin(radians(lon2 - lon1) / 2) ^ 2))) $$;

-- Borders as edges in metres about the middle of their bounds.
CREATE TEMP TABLE edge (place_id bigint, lon0 float8, lat0 float8, ax float8, ay float8, bx float8, by float8) ON COMMIT DROP;
CREATE FUNCTION pg_temp.outside(place bigint, lon float8, lat float8) RETURNS float8 LANGUAGE sql STABLE AS
$$ SELECT CASE WHEN p.border IS NULL THEN pg_temp.metres(p.lon, p.lat, $2, $3) - p.radius_m ELSE (
	SELECT CASE WHEN count(*) FILTER (WHERE (e.ay > q.y) <> (e.by > q.y) AND q.x < (e.bx - e.ax) * (q.y - e.ay) / nullif(e.by - e.ay, 0) + e.ax) % 2 = 1 THEN -1 ELSE 1 END
		* sqrt(min((q.x - e.ax - t.t * (e.bx - e.ax)) ^ 2 + (q.y - e.ay - t.t * (e.by - e.ay)) ^ 2))
	FROM edge e, LATERAL (SELECT 6371008.8 * cos(radians(e.lat0)) * radians($2 - e.lon0) AS x, 6371008.8 * radians($3 - e.lat0) AS y) q,
		LATERAL (SELECT coalesce(greatest(0, least(1, ((q.x - e.ax) * (e.bx - e.ax) + (q.y - e.ay) * (e.by - e.ay)) / nullif((e.bx - e.ax) ^ 2 + (e.by - e.ay) ^ 2, 0))), 0) AS t) t
	WHERE e.place_id = $1) END
	FROM crm.place p WHERE p.id = $1 $$;

CREATE FUNCTION pg_temp.oracle() RETURNS TABLE (vehicle_id bigint, place_id bigint, entered_at timestamptz, entered_error_s float8, entered_gap boolean, entry_fix_at timestamptz,
	dwelled boolean, left_at timestamptz, left_error_s float8, left_gap boolean, exit_fix_at timestamptz) LANGUAGE sql AS $$
WITH raw AS (
	SELECT p.*, lag(p.at) OVER w AS pat, lag(p.lon) OVER w AS plon, lag(p.lat) OVER w AS plat, lead(p.at) OVER w AS nat, lead(p.lon) OVER w AS nlon, lead(p.lat) OVER w AS nlat
	FROM crm.vehicle_position p WINDOW w AS (PARTITION BY p.vehicle_id ORDER BY p.at)
), judged AS (
	SELECT r.*, coalesce(m1 > greatest(200, 300 / 3.6 * extract(epoch FROM at - pat)::float8), false) AS suspect,
		coalesce(m2 > greatest(200, 300 / 3.6 * extract(epoch FROM nat - at)::float8), false) AS suspect_next,
		coalesce(m3 > greatest(200, 300 / 3.6 * extract(epoch FROM nat - pat)::float8), false) AS suspect_around
	FROM raw r, LATERAL (SELECT pg_temp.metres(plon, plat, lon, lat) AS m1, pg_temp.metres(lon, lat, nlon, nlat) AS m2, pg_temp.metres(plon, plat, nlon, nlat) AS m3) m
), good AS (
	SELECT * FROM judged WHERE NOT suspect OR (nat IS NOT NULL AND NOT (suspect_next AND NOT suspect_around))
), measured AS MATERIALIZED (
	SELECT g.vehicle_id, g.at, z.place_id, z.margin_m, z.dwell_s, pg_temp.outside(z.place_id, g.lon, g.lat) AS d
	FROM good g, crm.zones() z
), marked AS (
	SELECT m.*, lag(m.at) OVER w AS pat, lag(m.d) OVER w AS pd, lead(m.at) OVER w AS nat, lead(m.d) OVER w AS nd,
		count(CASE WHEN d <= 0 OR d > margin_m THEN 1 END) OVER w AS decided
	FROM measured m WINDOW w AS (PARTITION BY m.vehicle_id, m.place_id ORDER BY m.at)
), stated AS (
	SELECT m.*, decided > 0 AND first_value(d) OVER (PARTITION BY m.vehicle_id, m.place_id, decided ORDER BY m.at) <= 0 AS inside FROM marked m
), runs AS (
	SELECT s.*, count(*) FILTER (WHERE NOT inside) OVER (PARTITION BY s.vehicle_id, s.place_id ORDER BY s.at) AS run FROM stated s
), stays AS (
	SELECT r.vehicle_id, r.place_id, r.run, min(r.at) AS entry_at, max(r.at) FILTER (WHERE d <= 0) AS last_at, max(r.dwell_s) AS dwell_s
	FROM runs r WHERE r.inside GROUP BY 1, 2, 3
)
SELECT s.vehicle_id, s.place_id,
	CASE WHEN e.pd > 0 THEN e.pat + e.pd / (e.pd - e.d) * (e.at - e.pat) ELSE e.at END,
	CASE WHEN e.pd > 0 THEN extract(epoch FROM e.at - e.pat)::float8 * greatest(e.pd / (e.pd - e.d), 1 - e.pd / (e.pd - e.d)) END,
	CASE WHEN e.pd > 0 THEN e.at - e.pat > interval '10 minutes' ELSE true END, e.at,
	extract(epoch FROM s.last_at - s.entry_at) >= s.dwell_s,
	CASE WHEN x.at IS NOT NULL THEN l.at + l.d / (l.d - l.nd) * (l.nat - l.at) END,
	CASE WHEN x.at IS NOT NULL THEN extract(epoch FROM l.nat - l.at)::float8 * greatest(l.d / (l.d - l.nd), 1 - l.d / (l.d - l.nd)) END,
	CASE WHEN x.at IS NOT NULL THEN l.nat - l.at > interval '10 minutes' ELSE false END, x.at
FROM stays s
JOIN runs e ON e.vehicle_id = s.vehicle_id AND e.place_id = s.place_id AND e.at = s.entry_at
JOIN runs l ON l.vehicle_id = s.vehicle_id AND l.place_id = s.place_id AND l.at = s.last_at
LEFT JOIN LATERAL (SELECT min(r.at) AS at FROM runs r WHERE r.vehicle_id = s.vehicle_id AND r.place_id = s.place_id AND r.at > s.last_at AND NOT r.inside) x ON true
$$;
CREATE FUNCTION pg_temp.compare() RETURNS TABLE (missing bigint, too_many bigint) LANGUAGE sql AS $$
WITH o AS MATERIALIZED (SELECT vehicle_id, place_id, entered_at::timestamptz(3), round(entered_error_s::numeric, 3) AS e, entered_gap, entry_fix_at, dwelled, left_at::timestamptz(3), round(left_error_s::numeric, 3) AS l, left_gap, exit_fix_at FROM pg_temp.oracle()),
	c AS MATERIALIZED (SELECT vehicle_id, place_id, entered_at::timestamptz(3), round(entered_error_s::numeric, 3) AS e, entered_gap, entry_fix_at, dwelled, left_at::timestamptz(3), round(left_error_s::numeric, 3) AS l, left_gap, exit_fix_at FROM crm.passage WHERE superseded_at IS NULL)
SELECT (SELECT count(*) FROM (SELECT * FROM o EXCEPT ALL SELECT * FROM c) x), (SELECT count(*) FROM (SELECT * FROM c EXCEPT ALL SELECT * FROM o) x) $$;

-- Stops, fix by fix: a run ends at a step quicker than 20 km/h or 100 m from its first fix; five minutes are a stop.
CREATE FUNCTION pg_temp.stops() RETURNS TABLE (vehicle_id bigint, from_at timestamptz, to_at timestamptz, gap boolean, place_id bigint) LANGUAGE plpgsql AS $$
DECLARE
	f record;
	a crm.vehicle_position;
	p crm.vehicle_position;
	g boolean;
	far float8;
BEGIN
	FOR f IN
		SELECT j.* FROM (
			SELECT r.*, coalesce(m1 > greatest(200, 300 / 3.6 * extract(epoch FROM at - pat)::float8), false) AS suspect,
				coalesce(m2 > greatest(200, 300 / 3.6 * extract(epoch FROM nat - at)::float8), false) AND NOT coalesce(m3 > greatest(200, 300 / 3.6 * extract(epoch FROM nat - pat)::float8), false) AS spike
			FROM (SELECT v.*, lag(v.at) OVER w AS pat, lag(v.lon) OVER w AS plon, lag(v.lat) OVER w AS plat, lead(v.at) OVER w AS nat, lead(v.lon) OVER w AS nlon, lead(v.lat) OVER w AS nlat
				FROM crm.vehicle_position v WINDOW w AS (PARTITION BY v.vehicle_id ORDER BY v.at)) r,
				LATERAL (SELECT pg_temp.metres(plon, plat, lon, lat) AS m1, pg_temp.metres(lon, lat, nlon, nlat) AS m2, pg_temp.metres(plon, plat, nlon, nlat) AS m3) m) j
		WHERE NOT j.suspect OR (j.nat IS NOT NULL AND NOT j.spike)
		ORDER BY j.vehicle_id, j.at
	LOOP
		IF p.vehicle_id IS DISTINCT FROM f.vehicle_id THEN
			IF p.at - a.at >= interval '5 minutes' THEN
				RETURN QUERY SELECT a.vehicle_id, a.at, NULL::timestamptz, g, (SELECT min(z.id) FROM crm.place z WHERE pg_temp.outside(z.id, a.lon, a.lat) <= 0);
			END IF;
			a := row(f.vehicle_id, f.at, f.lon, f.lat, f.speed_kmh, f.course, f.satellites, f.known_at);
			g := false;
		ELSE
			far := pg_temp.metres(p.lon, p.lat, f.lon, f.lat);
			IF far > 5 AND far > 20 / 3.6 * extract(epoch FROM f.at - p.at) OR pg_temp.metres(a.lon, a.lat, f.lon, f.lat) > 100 THEN
				IF p.at - a.at >= interval '5 minutes' THEN
					RETURN QUERY SELECT a.vehicle_id, a.at, p.at, g, (SELECT min(z.id) FROM crm.place z WHERE pg_temp.outside(z.id, a.lon, a.lat) <= 0);
				END IF;
				a := row(f.vehicle_id, f.at, f.lon, f.lat, f.speed_kmh, f.course, f.satellites, f.known_at);
				g := false;
			ELSE
				g := g OR f.at - p.at > interval '10 minutes';
			END IF;
		END IF;
		p := row(f.vehicle_id, f.at, f.lon, f.lat, f.speed_kmh, f.course, f.satellites, f.known_at);
	END LOOP;
	IF p.at - a.at >= interval '5 minutes' THEN
		RETURN QUERY SELECT a.vehicle_id, a.at, NULL::timestamptz, g, (SELECT min(z.id) FROM crm.place z WHERE pg_temp.outside(z.id, a.lon, a.lat) <= 0);
	END IF;
END $$;
CREATE FUNCTION pg_temp.compare_stops(OUT any_there boolean, OUT missing bigint, OUT too_many bigint) LANGUAGE sql AS $$
WITH o AS MATERIALIZED (SELECT * FROM pg_temp.stops()), c AS MATERIALIZED (SELECT vehicle_id, from_at, to_at, gap, place_id FROM crm.stop WHERE superseded_at IS NULL)
SELECT (SELECT count(*) FROM o) > 0, (SELECT count(*) FROM (SELECT * FROM o EXCEPT ALL SELECT * FROM c) x), (SELECT count(*) FROM (SELECT * FROM c EXCEPT ALL SELECT * FROM o) x) $$;

INSERT INTO crm.vehicle (id, plate) SELECT i, 'R ' || i FROM generate_series(1, :vehicles) i;
INSERT INTO crm.place (name, lon, lat, radius_m) SELECT 'C ' || i, 30 + random() * 0.1, 50 + random() * 0.1, 100 + random() * 900 FROM generate_series(1, 14) i;
INSERT INTO crm.place (name, border) VALUES
	('Field', crm.geo_border('POLYGON((30.02 50.02,30.05 50.025,30.06 50.05,30.03 50.06,30.04 50.04,30.02 50.02))')),
	('Two yards', crm.geo_border('MULTIPOLYGON(((30.07 50.07,30.08 50.07,30.08 50.08,30.07 50.08,30.07 50.07)),((30.01 50.08,30.03 50.08,30.03 50.095,30.01 50.095,30.01 50.08),(30.015 50.083,30.025 50.083,30.025 50.09,30.015 50.09,30.015 50.083)))'));
INSERT INTO crm.zone_setting (place_id, margin_m, dwell_s) SELECT min(id) + 1, 0, 0 FROM crm.place UNION ALL SELECT min(id) + 2, 400, 300 FROM crm.place;
INSERT INTO edge
SELECT p.id, b.lon0, b.lat0, 6371008.8 * cos(radians(b.lat0)) * radians(lag(v.lon) OVER w - b.lon0), 6371008.8 * radians(lag(v.lat) OVER w - b.lat0),
	6371008.8 * cos(radians(b.lat0)) * radians(v.lon - b.lon0), 6371008.8 * radians(v.lat - b.lat0)
FROM crm.place p, LATERAL (SELECT (min(x.lon) + max(x.lon)) / 2 AS lon0, (min(x.lat) + max(x.lat)) / 2 AS lat0 FROM crm.geo_vertices(p.border) x) b, crm.geo_vertices(p.border) v
WHERE p.border IS NOT NULL WINDOW w AS (PARTITION BY p.id, v.polygon, v.ring ORDER BY v.vertex);
DELETE FROM edge WHERE ax IS NULL;

-- Walks of uneven steps with stops, gaps, jumps and spikes.
CREATE TEMP TABLE walk ON COMMIT DROP AS
WITH step AS MATERIALIZED (
	SELECT v::bigint AS vehicle_id, k, random() AS a, random() AS r, random() AS g, random() AS s FROM generate_series(1, :vehicles) v, generate_series(1, 250) k
), way AS (
	SELECT vehicle_id, k, '2026-05-03 00:00+00'::timestamptz + sum(CASE WHEN g < 0.02 THEN 1500 ELSE 5 + round(g::numeric * 90, 2) END) OVER w * interval '1 second' AS at,
		30.05 + sum(CASE WHEN r < 0.4 OR k % 60 < 12 THEN 0.0002 * (a - 0.5) ELSE 0.009 * (a - 0.5) END) OVER w AS lon, 50.05 + sum(CASE WHEN r < 0.4 OR k % 60 < 12 THEN 0.0002 * (s - 0.5) ELSE 0.009 * (s - 0.5) END) OVER w AS lat, g, s
	FROM step WINDOW w AS (PARTITION BY vehicle_id ORDER BY k)
)
SELECT vehicle_id, k, at, lon + CASE WHEN g > 0.985 THEN 0.3 ELSE 0 END AS lon, lat + CASE WHEN g > 0.985 THEN s - 0.5 ELSE 0 END AS lat, random() AS dice FROM way;
SELECT count(*) = :vehicles * 250 AS whole, count(*) = count(DISTINCT (vehicle_id, at)) AS "distinct" FROM walk;

-- In order, in sets; in reverse; shuffled in sets of seven; shuffled singly; halves in turn; the rest at once.
DO $$
DECLARE
	g record;
BEGIN
	FOR g IN
		SELECT array_agg(vehicle_id ORDER BY o) AS v, array_agg(at ORDER BY o) AS a, array_agg(lon ORDER BY o) AS x, array_agg(lat ORDER BY o) AS y
		FROM (SELECT w.*, row_number() OVER (PARTITION BY vehicle_id % 7 ORDER BY
				CASE vehicle_id % 7 WHEN 0 THEN k WHEN 1 THEN -k WHEN 2 THEN dice WHEN 3 THEN dice WHEN 4 THEN k % 2 * 1000 + k WHEN 5 THEN k + dice * 20 ELSE 0 END) AS o
			FROM walk w) w
		GROUP BY vehicle_id % 7, CASE vehicle_id % 7 WHEN 0 THEN o / 10 WHEN 1 THEN o WHEN 2 THEN o / 7 WHEN 3 THEN o WHEN 4 THEN o / 50 WHEN 5 THEN o / 3 ELSE 0 END
		ORDER BY vehicle_id % 7, min(o)
	LOOP
		PERFORM crm.put_positions(g.v, g.a, g.x, g.y);
	END LOOP;
END $$;
SELECT (SELECT count(*) FROM crm.vehicle_position) = (SELECT count(*) FROM walk) AS all_taken, (SELECT count(*) > 5 FROM crm.passage WHERE superseded_at IS NULL) AS enough;
SELECT * FROM pg_temp.compare();
SELECT * FROM pg_temp.compare_stops();
-- Everything once more changes nothing.
CREATE TEMP TABLE before ON COMMIT DROP AS SELECT * FROM crm.passage;
SELECT crm.put_positions(array_agg(vehicle_id), array_agg(at), array_agg(lon), array_agg(lat)) FROM walk;
SELECT count(*) FROM (TABLE crm.passage EXCEPT TABLE before) x;
SELECT * FROM pg_temp.compare_stops();

-- The real drive.
SELECT pg_stat_file(:'data' || '/gps/munich-car.json', true) IS NULL AS absent \gset
\if :absent
\echo skipped: CRM_DATA
\quit
\endif
CREATE TEMP TABLE fix ON COMMIT DROP AS
SELECT (j->>'time')::timestamptz - timestamptz '2014-09-10 00:00+02' + timestamptz '2026-05-03 00:00+00' AS at,
	split_part(btrim(j->>'point', 'POINT()'), ' ', 1)::float8 AS lon, split_part(btrim(j->>'point', 'POINT()'), ' ', 2)::float8 AS lat
FROM json_array_elements(pg_read_file(:'data' || '/gps/munich-car.json')::json) j;
INSERT INTO crm.place (name, lon, lat, radius_m) SELECT 'M ' || row_number() OVER (), lon, lat, 50 + (extract(epoch FROM at)::bigint * 37) % 400 FROM fix WHERE extract(second FROM at) = 7 AND extract(minute FROM at)::integer % 2 = 0;
INSERT INTO crm.vehicle (id, plate) VALUES (1031, 'M 31'), (1032, 'M 32');
DELETE FROM crm.passage WHERE vehicle_id < 1000;
DELETE FROM crm.stop WHERE vehicle_id < 1000;
DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'crm.vehicle_position'::regclass LOOP EXECUTE 'DELETE FROM ' || p; END LOOP; END $$;
SELECT crm.put_positions(array_agg(1031::bigint), array_agg(at), array_agg(lon), array_agg(lat)) FROM fix;
SELECT sum(n) FROM (SELECT crm.put_positions(array_agg(1032::bigint), array_agg(at), array_agg(lon), array_agg(lat)) AS n FROM fix GROUP BY hashfloat8(lon) % 40) x;
SELECT count(*) > 5 AS enough FROM crm.passage WHERE vehicle_id = 1031 AND superseded_at IS NULL;
SELECT * FROM pg_temp.compare();
SELECT * FROM pg_temp.compare_stops();

-- The drive of the demo, with its halt, in order and in pieces.
\getenv abs_srcdir PG_ABS_SRCDIR
CREATE TEMP TABLE demo ON COMMIT DROP AS
SELECT '2026-05-03 06:00+00'::timestamptz + (j ->> 0)::float8 * interval '1 second' AS at, (j ->> 1)::float8 AS lon, (j ->> 2)::float8 AS lat
FROM json_array_elements(pg_read_file(:'abs_srcdir' || '/test/demo/track.json')::json -> 'fixes') j;
INSERT INTO crm.place (name, lon, lat, radius_m) SELECT 'D ' || row_number() OVER (ORDER BY at), lon, lat, 150 FROM (SELECT DISTINCT ON (floor(extract(epoch FROM at) / 240)) * FROM demo ORDER BY floor(extract(epoch FROM at) / 240), at) d;
INSERT INTO crm.vehicle (id, plate) VALUES (1041, 'D 41'), (1042, 'D 42');
SELECT crm.put_positions(array_agg(1041::bigint), array_agg(at), array_agg(lon), array_agg(lat)) = (SELECT count(DISTINCT at) FROM demo) AS whole FROM demo;
SELECT sum(n) = (SELECT count(DISTINCT at) FROM demo) AS whole FROM (SELECT crm.put_positions(array_agg(1042::bigint), array_agg(at), array_agg(lon), array_agg(lat)) AS n FROM demo GROUP BY hashfloat8(lat) % 25) x;
SELECT * FROM pg_temp.compare();
SELECT * FROM pg_temp.compare_stops();
ROLLBACK;
