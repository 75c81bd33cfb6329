-- claim 80: the process map is the stage log: its sums are the log's, each figure is computed anew another way;
-- variants are the deals; the drawing names each edge once and nothing can break out of a label.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT crm.activate('off');
SELECT crm.set_now('2026-11-02 09:00+03', 0) IS NOT NULL AS moved;
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (9001, 'map', 'Карта', 'Map');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won, is_lost) VALUES
	(9001, 9001, 'new', 'Новая "сделка"]; x --> y', 'New', 1, false, false), (9002, 9001, 'talk', 'Разговор', E'Talk\n  n9 --> n10 %%{init: {}}%% <b>#quot;</b>', 2, false, false),
	(9003, 9001, 'won', 'Успех', 'Won', 3, true, false), (9004, 9001, 'lost', 'Отказ', 'Lost', 4, false, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) SELECT 9001, a, b FROM generate_series(9001, 9004) a, generate_series(9001, 9004) b WHERE a <> b;
INSERT INTO crm.deal (id, funnel_id, stage_id, name) SELECT 9000 + g, 9001, 9001, 'd' || g FROM generate_series(1, 6) g;
\echo an empty funnel has an empty map; one that is not there is named
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (9002, 'empty', 'Пусто', 'Empty');
SELECT count(*) FROM crm.process_map('empty');
SELECT crm.process_map_mermaid('empty');
\set VERBOSITY terse
SELECT * FROM crm.process_map('nope');
\set VERBOSITY default
SELECT crm.process_diagram('map', format => 'png');
-- over a weekend: Friday 17:00 to Monday 10:00 is 65 hours and 2 working ones
SELECT crm.set_now('2026-11-06 17:00+03', 0) IS NOT NULL AS moved;
SELECT count(crm.move(9000 + g, 'talk')) FROM generate_series(1, 5) g;
SELECT crm.set_now('2026-11-09 10:00+03', 0) IS NOT NULL AS moved;
SELECT crm.move(9001, 'won'), crm.move(9002, 'won'), crm.move(9003, 'lost'), crm.move(9004, 'new');
SELECT crm.set_now('2026-11-10 10:00+03', 0) IS NOT NULL AS moved;
SELECT crm.move(9004, 'talk'), crm.move(9003, 'talk');
SELECT crm.set_now('2026-11-10 12:00+03', 0) IS NOT NULL AS moved;
SELECT * FROM crm.process_map('map');
\echo a period
SELECT kind, from_stage, to_stage, moves, deals, rework FROM crm.process_map('map', '2026-11-09', '2026-11-10');

\echo each figure computed another way, pair by pair; and the log counted: no row is a difference
INSERT INTO crm.deal (id, funnel_id, stage_id, name) SELECT 10000 + g, 9001, 9001, 'r' || g FROM generate_series(1, 60) g;
DO $$
DECLARE at timestamptz := '2026-11-10 12:00+03';
BEGIN
	FOR turn IN 1 .. 60 LOOP
		at := at + interval '7 hours';
		PERFORM crm.set_now(at, 0);
		UPDATE crm.deal SET stage_id = 9001 + (stage_id - 9001 + 1 + abs(hashint8(id * 100 + turn) % 3)) % 4 WHERE funnel_id = 9001 AND abs(hashint8(id * 1000 + turn) % 10) < 3;
	END LOOP;
END $$;
CREATE TEMP TABLE twin AS
	SELECT CASE WHEN l.from_stage_id IS NULL THEN 'start' ELSE 'move' END AS kind, l.from_stage_id, l.to_stage_id, l.deal_id, p.at AS begins, l.at AS ends,
		EXISTS (SELECT FROM crm.stage_log x WHERE x.deal_id = l.deal_id AND x.to_stage_id = l.to_stage_id AND x.id < l.id) AS again
	FROM crm.stage_log l LEFT JOIN LATERAL (SELECT x.at FROM crm.stage_log x WHERE x.deal_id = l.deal_id AND x.id < l.id ORDER BY x.id DESC LIMIT 1) p ON true
	WHERE l.to_stage_id BETWEEN 9001 AND 9004
	UNION ALL
	SELECT CASE WHEN d.closed_at IS NULL THEN 'open' ELSE 'end' END, d.stage_id, NULL, d.id,
		CASE WHEN d.closed_at IS NULL THEN d.stage_at ELSE d.created_at END, CASE WHEN d.closed_at IS NULL THEN crm.now() ELSE d.stage_at END, false
	FROM crm.deal d WHERE d.funnel_id = 9001;
CREATE TEMP TABLE twice AS
	SELECT t.kind, a.code AS from_stage, b.code AS to_stage, count(*) AS moves, count(DISTINCT t.deal_id) AS deals,
		(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM t.ends - t.begins)::double precision / 3600))::numeric(14,3) AS median_hours,
		(percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM t.ends - t.begins)::double precision / 3600))::numeric(14,3) AS p90_hours,
		(percentile_cont(0.5) WITHIN GROUP (ORDER BY crm.working_minutes(t.begins, t.ends) / 60))::numeric(14,3) AS median_working_hours,
		(percentile_cont(0.9) WITHIN GROUP (ORDER BY crm.working_minutes(t.begins, t.ends) / 60))::numeric(14,3) AS p90_working_hours,
		round(count(*) FILTER (WHERE t.again)::numeric / count(*), 4) AS rework
	FROM twin t LEFT JOIN crm.stage a ON a.id = t.from_stage_id LEFT JOIN crm.stage b ON b.id = t.to_stage_id GROUP BY 1, 2, 3;
(TABLE twice EXCEPT SELECT * FROM crm.process_map('map')) UNION ALL (SELECT * FROM crm.process_map('map') EXCEPT TABLE twice);
SELECT (SELECT sum(moves) FROM crm.process_map('map') WHERE kind IN ('start', 'move')) = (SELECT count(*) FROM crm.stage_log WHERE to_stage_id BETWEEN 9001 AND 9004) AS rows_of_the_log,
	(SELECT sum(moves) FROM crm.process_map('map') WHERE kind IN ('end', 'open')) = (SELECT count(*) FROM crm.deal WHERE funnel_id = 9001) AS deals;
-- what comes into a stage leaves it, ends or stands there
SELECT s.code, coalesce(sum(m.moves) FILTER (WHERE m.to_stage = s.code), 0) = coalesce(sum(m.moves) FILTER (WHERE m.from_stage = s.code), 0) AS balanced
FROM crm.stage s CROSS JOIN crm.process_map('map') m WHERE s.funnel_id = 9001 GROUP BY s.code ORDER BY 1;
SELECT (SELECT sum(m.moves) FROM crm.process_map('map', NULL, '2026-11-20') m WHERE m.kind IN ('start', 'move')) + (SELECT sum(m.moves) FROM crm.process_map('map', '2026-11-20', NULL) m WHERE m.kind IN ('start', 'move'))
	= (SELECT count(*) FROM crm.stage_log WHERE to_stage_id BETWEEN 9001 AND 9004) AS periods_add_up;
SELECT (SELECT sum(moves) FROM crm_bi.process_map WHERE funnel = 'map') = (SELECT sum(moves) FROM crm.process_map('map')) AS view_is_function;
\echo variants are the deals
SELECT sum(deals) = 66 AS all_of_them, max(place) = count(*) AS numbered, sum(share) BETWEEN 0.99 AND 1.01 AS shares FROM crm.process_variants('map', NULL, NULL, 1000);
SELECT place, path, steps, result, deals, median_hours FROM crm.process_variants('map', '2026-11-01', '2026-11-03') ORDER BY place LIMIT 3;
ROLLBACK;
BEGIN;
SELECT crm.activate('off');
SELECT crm.set_now('2026-11-02 09:00+03', 0) IS NOT NULL AS moved;
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (9001, 'map', 'Карта', 'Map');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won, is_lost) VALUES
	(9001, 9001, 'new', 'Новая "сделка"]; x --> y', 'New', 1, false, false), (9002, 9001, 'won', 'Успех', E'Won\n  n9 --> n10 %%{init: {}}%% <b>#quot;</b> \\" back', 2, true, false);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (9001, 9001, 9002);
INSERT INTO crm.deal (id, funnel_id, stage_id, name) VALUES (9001, 9001, 9001, 'd');
SELECT crm.set_now('2026-11-02 11:30+03', 0) IS NOT NULL AS moved;
SELECT crm.move(9001, 'won');
SELECT crm.process_map_mermaid('map');
SELECT crm.process_map_mermaid('map', language => 'en');
SELECT crm.process_diagram('map', language => 'en', format => 'dot');
ROLLBACK;
