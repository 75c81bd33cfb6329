-- The stops of a vehicle are a function of its fixes: what comes in pieces, late or fix by fix leaves the same record as
-- all of it at once. Each case is the least that tells a walk that begins anew in the wrong place.
\set ON_ERROR_STOP 1
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SELECT crm.set_now('2026-05-03 12:00+00', 0) IS NOT NULL AS clock;
CREATE TEMP TABLE fix (name text, piece integer, s integer, km double precision) ON COMMIT DROP;

-- It stands, one fix is a spike, and every fix comes by itself: the spike, once the oldest of the last eight, is no drive.
INSERT INTO fix SELECT 'spike eight fixes ago', i, i * 45, CASE i WHEN 12 THEN 10 ELSE 0 END FROM generate_series(0, 30) i;
-- And when it then drives off, its stop ends.
INSERT INTO fix SELECT 'spike, then off', i, i * 45, CASE i WHEN 12 THEN 10 WHEN 20 THEN 3 ELSE 0 END FROM generate_series(0, 20) i;
-- The same, sixty-four fixes ago, in a run that is no stop yet when the rest comes.
INSERT INTO fix SELECT 'spike 64 fixes ago', i / 65, i * 4, CASE i WHEN 1 THEN 10 ELSE 0 END FROM generate_series(0, 90) i;
-- Two trackers of one number, ten kilometres apart, in turn: thirty spikes, and the fix that counts is before them.
INSERT INTO fix SELECT 'two trackers', i, i * 20, CASE WHEN i < 30 THEN i % 2 * 10 ELSE 0 END FROM generate_series(0, 60) i;
-- A silence of sixteen minutes, which a late fix fills; and one that it does not, before it.
INSERT INTO fix VALUES ('silence filled', 0, 0, 0), ('silence filled', 0, 240, 0), ('silence filled', 0, 1200, 0), ('silence filled', 1, 720, 0),
	('silence before', 0, 0, 0), ('silence before', 0, 700, 0), ('silence before', 0, 1900, 0), ('silence before', 1, 1300, 0),
	('silence over', 0, 0, 0), ('silence over', 0, 240, 0), ('silence over', 0, 1200, 0), ('silence over', 0, 1260, 5), ('silence over', 1, 720, 0);
-- A spike in a stop, which a late fix beside it proves to be true: two stops, and the second begins behind it.
INSERT INTO fix SELECT 'spike that was none', 0, i * 60, CASE i WHEN 7 THEN 10 ELSE 0 END FROM generate_series(0, 20) i;
INSERT INTO fix VALUES ('spike that was none', 1, 390, 10);

-- Vehicle n gets the n-th case in its pieces, vehicle n + 100 at once.
CREATE TEMP TABLE name ON COMMIT DROP AS SELECT name, row_number() OVER (ORDER BY name) AS n FROM (SELECT DISTINCT name FROM fix) x;
INSERT INTO crm.vehicle (id, plate) SELECT n + k, 'S ' || n + k FROM name, unnest('{0,100}'::bigint[]) k;
DO $$
DECLARE
	p record;
BEGIN
	FOR p IN
		SELECT array_agg(n.n) AS v, array_agg('2026-05-03 08:00+00'::timestamptz + f.s * interval '1 second') AS a, array_agg(30.0::float8) AS x, array_agg(50 + f.km / 111.2) AS y
		FROM fix f JOIN name n USING (name) GROUP BY n.n, f.piece ORDER BY n.n, f.piece
	LOOP
		PERFORM crm.put_positions(p.v, p.a, p.x, p.y);
	END LOOP;
	PERFORM crm.put_positions(array_agg(n.n + 100), array_agg('2026-05-03 08:00+00'::timestamptz + f.s * interval '1 second'), array_agg(30.0::float8), array_agg(50 + f.km / 111.2))
	FROM fix f JOIN name n USING (name);
END $$;
SELECT n.name, s.from_at::time, s.to_at::time, s.gap, count(*) FILTER (WHERE s.vehicle_id < 100) AS in_pieces, count(*) FILTER (WHERE s.vehicle_id > 100) AS at_once
FROM crm.stop s JOIN name n ON n.n = s.vehicle_id % 100
WHERE s.superseded_at IS NULL GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4;
ROLLBACK;
