-- funnel: the process as it is, mined from the stage log (claim 80). Code: may be run any number of times.
-- Read with the caller's rights. A deal is a case, an entry of crm.stage_log a step; the order is that of the log.

CREATE OR REPLACE FUNCTION crm.funnel_by_code(funnel text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	id bigint;
BEGIN
	SELECT f.id INTO id FROM crm.funnel f WHERE f.code = funnel;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('funnel "%s" does not exist', coalesce(left(funnel, 100), 'NULL')),
			HINT = format('There are: %s.', coalesce((SELECT string_agg(f.code, ', ' ORDER BY f.code) FROM crm.funnel f), 'none; those that ship appear with crm.activate()'));
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION crm.funnel_by_code(text) IS 'crm.funnel.id of a funnel by its code. Error P0002 for one that is not there, with those that are.';

CREATE OR REPLACE FUNCTION crm.process_map(funnel text, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, calendar text DEFAULT 'office')
	RETURNS TABLE (kind text, from_stage text, to_stage text, moves bigint, deals bigint, median_hours numeric, p90_hours numeric,
		median_working_hours numeric, p90_working_hours numeric, rework numeric)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	f      constant bigint := crm.funnel_by_code(funnel);
	stages bigint[];
	until  constant timestamptz := coalesce("to", 'infinity');
	since  constant timestamptz := coalesce("from", '-infinity');
	first_ timestamptz;
	last_  timestamptz;
BEGIN
	stages := ARRAY(SELECT s.id FROM crm.stage s WHERE s.funnel_id = f);
	SELECT min(l.at), greatest(max(l.at), crm.now()) INTO first_, last_ FROM crm.stage_log l WHERE l.to_stage_id = ANY (stages);
	RETURN QUERY
	WITH scale AS MATERIALIZED (
		SELECT w.opens, w.closes, w.before FROM crm.working_scale(coalesce(first_, crm.now()), coalesce(last_, crm.now()), calendar) w
	), step AS (
		SELECT l.deal_id, l.from_stage_id, l.to_stage_id, l.at, lag(l.at) OVER d AS entered, first_value(l.at) OVER d AS began,
			lead(l.id) OVER d IS NULL AS is_last, row_number() OVER (PARTITION BY l.deal_id, l.to_stage_id ORDER BY l.id) > 1 AS again
		FROM crm.stage_log l
		WHERE l.to_stage_id = ANY (stages) AND l.at < until
		WINDOW d AS (PARTITION BY l.deal_id ORDER BY l.id)
	), edge AS (
		SELECT e.kind, e.from_id, e.to_id, p.deal_id, e.again,
			CASE WHEN e.begins IS NOT NULL THEN greatest(date_part('epoch', e.ends - e.begins), 0) / 3600 END AS hours,
			CASE WHEN e.begins IS NOT NULL THEN
				greatest(crm.working_position(e.ends, c.opens, c.closes, c.before) - crm.working_position(e.begins, c.opens, c.closes, c.before), 0) / 60 END AS working
		FROM step p
		CROSS JOIN scale c
		CROSS JOIN LATERAL (
			SELECT CASE WHEN p.from_stage_id IS NULL THEN 'start' ELSE 'move' END AS kind, p.from_stage_id AS from_id, p.to_stage_id AS to_id,
				p.again, CASE WHEN p.from_stage_id IS NOT NULL THEN p.entered END AS begins, p.at AS ends
			UNION ALL
			SELECT CASE WHEN s.is_won OR s.is_lost THEN 'end' ELSE 'open' END, p.to_stage_id, NULL, false,
				CASE WHEN s.is_won OR s.is_lost THEN p.began ELSE p.at END, CASE WHEN s.is_won OR s.is_lost THEN p.at ELSE least(until, crm.now()) END
			FROM crm.stage s WHERE p.is_last AND s.id = p.to_stage_id
		) e
		WHERE p.at >= since
	), summed AS (
		SELECT e.kind, e.from_id, e.to_id, count(*) AS moves, count(DISTINCT e.deal_id) AS deals,
			percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY e.hours) AS hours,
			percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY e.working) AS working,
			count(*) FILTER (WHERE e.again) AS again
		FROM edge e
		GROUP BY e.kind, e.from_id, e.to_id
	)
	SELECT m.kind, a.code, b.code, m.moves, m.deals, m.hours[1]::numeric(14,3), m.hours[2]::numeric(14,3),
		m.working[1]::numeric(14,3), m.working[2]::numeric(14,3), round(m.again::numeric / m.moves, 4)
	FROM summed m
	LEFT JOIN crm.stage a ON a.id = m.from_id
	LEFT JOIN crm.stage b ON b.id = m.to_id
	ORDER BY array_position(ARRAY['start', 'move', 'end', 'open'], m.kind), a."position" NULLS FIRST, b."position", m.from_id, m.to_id;
END
$$;
COMMENT ON FUNCTION crm.process_map(text, timestamptz, timestamptz, text) IS 'The process of a funnel as it was in [from, to) (NULL: without end), mined from crm.stage_log (claim 80): an edge a row. kind start: deals that came to be (from_stage NULL); move: from one stage to the next; end: deals whose last step in the period is a won or lost stage; open: deals that stand in a stage since their last step (to_stage NULL). moves of start and move together are the rows of the log in the period; end and open together are its deals. Times are hours, median and 9 in 10: of a move what the deal stayed in from_stage, of an end its whole life, of an open one what it stands there until now (or to); plain and in the working hours of a calendar. rework: share of the moves into a stage where the deal had been before. Deals that the caller does not see are not in it. Errors: P0002 no such funnel, 22023 no such calendar';

CREATE OR REPLACE FUNCTION crm.process_variants(funnel text, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, top integer DEFAULT 20)
	RETURNS TABLE (place bigint, path text, steps integer, result text, deals bigint, share numeric, median_hours numeric)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	f constant bigint := crm.funnel_by_code(funnel);
BEGIN
	RETURN QUERY
	WITH walk AS (
		SELECT l.deal_id, string_agg(s.code, ' > ' ORDER BY l.id) FILTER (WHERE l.n <= 100) || CASE WHEN count(*) > 100 THEN ' > …' ELSE '' END AS path,
			count(*)::integer AS steps, min(l.at) FILTER (WHERE l.n = 1) AS began, max(l.at) AS ended,
			max(CASE WHEN l.is_last THEN CASE WHEN s.is_won THEN 'won' WHEN s.is_lost THEN 'lost' ELSE 'open' END END) AS result
		FROM (SELECT x.id, x.deal_id, x.to_stage_id, x.at, row_number() OVER d AS n, lead(x.id) OVER d IS NULL AS is_last
			FROM crm.stage_log x
			WHERE x.to_stage_id = ANY (ARRAY(SELECT y.id FROM crm.stage y WHERE y.funnel_id = f))
			WINDOW d AS (PARTITION BY x.deal_id ORDER BY x.id)) l
		JOIN crm.stage s ON s.id = l.to_stage_id
		GROUP BY l.deal_id
		HAVING min(l.at) FILTER (WHERE l.n = 1) >= coalesce("from", '-infinity') AND min(l.at) FILTER (WHERE l.n = 1) < coalesce("to", 'infinity')
	)
	SELECT row_number() OVER (ORDER BY count(*) DESC, w.path), w.path, w.steps, w.result, count(*), round(count(*) / sum(count(*)) OVER (), 4),
		(percentile_cont(0.5) WITHIN GROUP (ORDER BY date_part('epoch', w.ended - w.began)) / 3600)::numeric(14,3)
	FROM walk w
	GROUP BY w.path, w.steps, w.result
	ORDER BY 1
	LIMIT greatest(least(top, 10000), 0);
END
$$;
COMMENT ON FUNCTION crm.process_variants(text, timestamptz, timestamptz, integer) IS 'The paths that deals of a funnel took, the most frequent first: for deals that began in [from, to), all their stages in order, up to now (at most 100 are written). result: won, lost, or open; share: of all these deals; median_hours: from the first step to the last. Error P0002 no such funnel';

CREATE OR REPLACE FUNCTION crm.process_diagram(funnel text, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, language text DEFAULT 'ru', format text DEFAULT 'mermaid') RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	f     constant bigint := crm.funnel_by_code(funnel);
	kind_ constant text := crm.diagram_format(format);
	en    constant boolean := coalesce(language, 'ru') = 'en';
	body  text;
BEGIN
	WITH edge AS MATERIALIZED (
		SELECT m.*, a.id AS from_id, b.id AS to_id,
			m.moves || CASE WHEN m.kind = 'start' OR m.median_hours IS NULL THEN '' ELSE ' / ' || CASE WHEN m.median_hours < 1 THEN round(m.median_hours * 60) || CASE WHEN en THEN ' min' ELSE ' мин' END
				WHEN m.median_hours < 72 THEN round(m.median_hours, 1) || CASE WHEN en THEN ' h' ELSE ' ч' END
				ELSE round(m.median_hours / 24, 1) || CASE WHEN en THEN ' d' ELSE ' дн' END END END AS words
		FROM crm.process_map(funnel, "from", "to") m
		LEFT JOIN crm.stage a ON a.funnel_id = f AND a.code = m.from_stage
		LEFT JOIN crm.stage b ON b.funnel_id = f AND b.code = m.to_stage
	), line AS (
		SELECT 1 AS part, row_number() OVER (ORDER BY s."position", s.id) AS n,
			CASE kind_ WHEN 'dot' THEN format('  s%s [shape=box, label=%s];', s.id, crm.diagram_text(CASE WHEN en THEN s.name_en ELSE s.name_ru END, kind_))
				ELSE format('  s%s[%s]', s.id, crm.diagram_text(CASE WHEN en THEN s.name_en ELSE s.name_ru END)) END AS words
		FROM crm.stage s WHERE s.id IN (SELECT e.from_id FROM edge e UNION SELECT e.to_id FROM edge e)
		UNION ALL
		SELECT 2, 0, CASE kind_ WHEN 'dot' THEN '  begin [shape=circle, label="+"];' ELSE '  begin(("+"))' END WHERE EXISTS (SELECT FROM edge e WHERE e.kind = 'start')
		UNION ALL
		SELECT 2, 1, CASE kind_ WHEN 'dot' THEN '  finish [shape=doublecircle, label="*"];' ELSE '  finish(("x"))' END WHERE EXISTS (SELECT FROM edge e WHERE e.kind = 'end')
		UNION ALL
		SELECT 3, row_number() OVER (ORDER BY array_position(ARRAY['start', 'move', 'end'], e.kind), e.from_id NULLS FIRST, e.to_id),
			CASE kind_ WHEN 'dot' THEN format('  %s -> %s [label=%s];', coalesce('s' || e.from_id, 'begin'), coalesce('s' || e.to_id, 'finish'), crm.diagram_text(e.words, kind_))
				ELSE format('  %s -->|%s| %s', coalesce('s' || e.from_id, 'begin'), crm.diagram_text(e.words), coalesce('s' || e.to_id, 'finish')) END
		FROM edge e WHERE e.kind <> 'open'
	)
	SELECT string_agg(l.words, E'\n' ORDER BY l.part, l.n) INTO body FROM line l;
	RETURN CASE kind_ WHEN 'dot' THEN E'digraph process {\n  rankdir=LR;\n' || coalesce(body || E'\n', '') || '}' ELSE 'flowchart LR' || coalesce(E'\n' || body, '') END;
END
$$;
COMMENT ON FUNCTION crm.process_diagram(text, timestamptz, timestamptz, text, text) IS 'crm.process_map as text of a diagram: mermaid, or dot for Graphviz. Each arrow carries the number of moves and the median of the time that deals stayed; language of the names: ru or en. Errors: P0002 no such funnel, 22023 no such format';

CREATE OR REPLACE FUNCTION crm.process_map_mermaid(funnel text, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL, language text DEFAULT 'ru') RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$ SELECT crm.process_diagram($1, $2, $3, $4, 'mermaid') $$;
COMMENT ON FUNCTION crm.process_map_mermaid(text, timestamptz, timestamptz, text) IS 'crm.process_map as text of a Mermaid flowchart. Error P0002 no such funnel';
