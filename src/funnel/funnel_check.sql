-- funnel: is a funnel whole? Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.automatic_edges() RETURNS TABLE (from_id bigint, to_id bigint, by text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	a record;
	ids bigint[];
BEGIN
	FOR a IN
		SELECT x.id, x.stage_id, x.funnel_id, x.action, x.settings, k.leads_to
		FROM crm.stage_action x JOIN crm.funnel f ON f.id = x.funnel_id JOIN crm.stage_action_kind k ON k.action = x.action
		WHERE x.enabled AND k.leads_to IS NOT NULL
	LOOP
		EXECUTE format('SELECT %s($1, $2)', a.leads_to) INTO ids USING a.settings, a.stage_id;
		RETURN QUERY SELECT a.stage_id, i.id, format('action %s', a.action)
		FROM unnest(ids) AS i(id) JOIN crm.stage s ON s.id = i.id
		WHERE s.funnel_id <> a.funnel_id OR EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = a.stage_id AND m.to_stage_id = i.id AND m.enabled);
		-- the way back of a card
		RETURN QUERY SELECT z.id, t.id, format('card of %s closed', z.code)
		FROM unnest(ids) AS i(id) JOIN crm.stage s ON s.id = i.id AND s.funnel_id <> a.funnel_id
		JOIN crm.stage z ON z.funnel_id = s.funnel_id AND (z.is_won OR z.is_lost)
		JOIN crm.stage t ON t.funnel_id = a.funnel_id AND t.code = a.settings ->> CASE WHEN z.is_won THEN 'return_won' ELSE 'return_lost' END
		JOIN crm.move_allowed m ON m.from_stage_id = a.stage_id AND m.to_stage_id = t.id AND m.enabled;
	END LOOP;
	-- what a stage says by itself may be a fact that moves the deal
	RETURN QUERY
	WITH said AS (
		SELECT s.id AS stage_id, s.funnel_id, 'deal.moved' AS kind, 'move' AS by FROM crm.stage s
		UNION
		SELECT x.stage_id, x.funnel_id, e.kind, 'action ' || x.action FROM crm.stage_action x JOIN crm.stage_action_kind k ON k.action = x.action CROSS JOIN unnest(k.emits) AS e(kind) WHERE x.enabled
	), heard AS (
		SELECT s.stage_id, s.funnel_id, s.kind, s.by FROM said s
		UNION
		SELECT s.stage_id, s.funnel_id, m.kind, s.by || ', rule ' || r.code
		FROM said s JOIN crm.rule r ON r.event_kind = s.kind AND coalesce(r.switched, r.enabled)
		CROSS JOIN (VALUES ('message.delivered'), ('message.failed')) AS m(kind)
	)
	SELECT DISTINCT h.stage_id, d.to_stage_id, format('%s, event %s', h.by, h.kind)
	FROM heard h
	JOIN crm.deal_move_rule d ON d.funnel_id = h.funnel_id AND d.event_kind = h.kind AND d.enabled
	JOIN crm.funnel f ON f.id = h.funnel_id AND f.enabled
	JOIN crm.move_allowed m ON m.from_stage_id = h.stage_id AND m.to_stage_id = d.to_stage_id AND m.enabled;
END
$$;
COMMENT ON FUNCTION crm.automatic_edges() IS 'From which stage a deal (or its card) comes to which other one without a person: by a stage action, by the way back of a card, by an event that the stage causes itself or a message about it. by: in words.';

CREATE OR REPLACE FUNCTION crm.funnel_loop(funnel_id bigint DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	froms bigint[];
	tos   bigint[];
	bys   text[];
BEGIN
	SELECT array_agg(e.from_id), array_agg(e.to_id), array_agg(e.by) INTO froms, tos, bys FROM crm.automatic_edges() e;
	RETURN (
		WITH RECURSIVE edge AS (
			SELECT e.from_id, e.to_id, min(e.by) AS by FROM unnest(froms, tos, bys) AS e(from_id, to_id, by) GROUP BY 1, 2
		), walk AS (
			SELECT e.from_id AS start, e.to_id AS at, ARRAY[e.from_id, e.to_id] AS path, ARRAY[e.by] AS bys
			FROM edge e JOIN crm.stage s ON s.id = e.from_id WHERE $1 IS NULL OR s.funnel_id = $1
			UNION ALL
			SELECT w.start, e.to_id, w.path || e.to_id, w.bys || e.by
			FROM walk w JOIN edge e ON e.from_id = w.at
			WHERE w.at <> w.start AND cardinality(w.path) <= 12 AND NOT e.to_id = ANY (w.path[2:])
		)
		SELECT (SELECT string_agg(format('%s.%s', f.code, s.code) || CASE WHEN p.n < cardinality(w.path) THEN format(' -(%s)-> ', w.bys[p.n]) ELSE '' END, '' ORDER BY p.n)
			FROM unnest(w.path) WITH ORDINALITY AS p(id, n) JOIN crm.stage s ON s.id = p.id JOIN crm.funnel f ON f.id = s.funnel_id)
		FROM walk w WHERE w.at = w.start ORDER BY cardinality(w.path), w.start LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm.funnel_loop(bigint) IS 'The shortest loop of stages through which deals would run for ever without a person, written with what moves them; of one funnel (crm.funnel.id), or NULL: of any. NULL: none.';

CREATE OR REPLACE FUNCTION crm.check_funnel(code text) RETURNS TABLE (severity text, what text, message text, hint text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f crm.funnel;
	first bigint;
	loop_ text;
BEGIN
	SELECT x.* INTO f FROM crm.funnel x WHERE x.code = check_funnel.code;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('funnel "%s" does not exist', coalesce(code, 'NULL')),
			HINT = format('There are: %s.', coalesce((SELECT string_agg(x.code, ', ' ORDER BY x.code) FROM crm.funnel x), 'none'));
	END IF;
	SELECT s.id INTO first FROM crm.stage s WHERE s.funnel_id = f.id ORDER BY s."position", s.id LIMIT 1;
	IF first IS NULL THEN
		RETURN QUERY SELECT 'error', 'no stages', format('funnel "%s" has no stages', f.code), 'Add rows to crm.stage, in the transaction that adds the funnel, or add it with enabled = false and switch it on when it is whole.';
		RETURN;
	END IF;
	RETURN QUERY
	WITH RECURSIVE reached AS (
		SELECT first AS id
		UNION
		SELECT m.to_stage_id FROM reached r JOIN crm.move_allowed m ON m.from_stage_id = r.id
	), live AS (
		-- a stage to which every move was switched off is retired, not forgotten
		SELECT first AS id
		UNION
		SELECT m.to_stage_id FROM live r JOIN crm.move_allowed m ON m.from_stage_id = r.id AND m.enabled
	)
	SELECT 'error', 'unreachable stage', format('no move leads to stage "%s" of funnel "%s"', s.code, f.code), format('Add moves to it to crm.move_allowed, or DELETE FROM crm.stage WHERE id = %s;', s.id)
	FROM crm.stage s WHERE s.funnel_id = f.id AND NOT EXISTS (SELECT FROM reached r WHERE r.id = s.id)
	UNION ALL
	SELECT 'notice', 'retired stage', format('every move to stage "%s" of funnel "%s" is switched off', s.code, f.code), 'UPDATE crm.move_allowed SET enabled = true brings it back.'
	FROM crm.stage s WHERE s.funnel_id = f.id AND EXISTS (SELECT FROM reached r WHERE r.id = s.id) AND NOT EXISTS (SELECT FROM live r WHERE r.id = s.id)
	UNION ALL
	SELECT 'error', 'stage without exit', format('no move leads out of stage "%s" of funnel "%s"', s.code, f.code), format('Add moves from it to crm.move_allowed, or say that it is the end: UPDATE crm.stage SET is_won = true (or is_lost) WHERE id = %s;', s.id)
	FROM crm.stage s WHERE s.funnel_id = f.id AND NOT s.is_won AND NOT s.is_lost AND EXISTS (SELECT FROM live r WHERE r.id = s.id)
		AND NOT EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = s.id AND m.enabled)
	UNION ALL
	SELECT 'error', 'action', format('action "%s" of stage "%s" names stage "%s", which is not in funnel "%s"', a.action, s.code, n.code, f.code), format('Change its settings: UPDATE crm.stage_action SET settings = … WHERE id = %s;', a.id)
	FROM crm.stage_action a JOIN crm.stage s ON s.id = a.stage_id
	CROSS JOIN LATERAL (VALUES (CASE a.action WHEN 'move' THEN a.settings ->> 'stage' END), (CASE a.action WHEN 'hand_over' THEN a.settings ->> 'return_won' END),
		(CASE a.action WHEN 'hand_over' THEN a.settings ->> 'return_lost' END)) AS n(code)
	WHERE a.funnel_id = f.id AND a.enabled AND n.code IS NOT NULL AND NOT EXISTS (SELECT FROM crm.stage t WHERE t.funnel_id = f.id AND t.code = n.code)
	UNION ALL
	SELECT 'error', 'action', format('action "%s" of stage "%s" moves to stage "%s", and the funnel does not allow it', a.action, s.code, t.code), 'Add the move to crm.move_allowed.'
	FROM crm.stage_action a JOIN crm.stage s ON s.id = a.stage_id JOIN crm.stage t ON t.funnel_id = f.id AND t.code = a.settings ->> 'stage'
	WHERE a.funnel_id = f.id AND a.enabled AND a.action = 'move' AND NOT EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = s.id AND m.to_stage_id = t.id AND m.enabled)
	UNION ALL
	SELECT 'warning', 'no end', format('funnel "%s" has no won or lost stage: no deal is ever closed', f.code), 'UPDATE crm.stage SET is_won = true WHERE …;'
	WHERE NOT EXISTS (SELECT FROM crm.stage s WHERE s.funnel_id = f.id AND (s.is_won OR s.is_lost))
	UNION ALL
	SELECT 'warning', 'author', format('%s, who wrote the conditions of stage "%s", is gone; they hold on', s.condition_author, s.code), 'Write them again as somebody who is there.'
	FROM crm.stage s WHERE s.funnel_id = f.id AND coalesce(s.enter_condition, s.leave_condition) IS NOT NULL AND s.condition_author IS NOT NULL
		AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = s.condition_author);
	loop_ := crm.funnel_loop(f.id);
	IF loop_ IS NOT NULL THEN
		RETURN QUERY SELECT 'error', 'loop', format('deals would run in a circle without a person: %s', loop_), 'Switch one of these off, or forbid one of the moves.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.check_funnel(text) IS 'What is wrong with a funnel: error (refused at the end of a transaction that leaves it so, unless the funnel is off), warning, notice. No stages, a stage that no move leads to, a stage without exit that is no end, an action that names a stage that is not there, a loop without a person, which is named. Error P0002 no such funnel. Conditions and variables of templates are checked when their row is saved.';

CREATE OR REPLACE FUNCTION crm.funnel_touch() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() THEN
		UPDATE crm.funnel f SET version = f.version + 1 WHERE f.id IN (SELECT c.funnel_id FROM changed c);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.funnel_touch() IS 'Trigger function of what a funnel is made of: counts its version, so that it is checked when the transaction ends. Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.funnel_whole() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	first record;
	more  text;
BEGIN
	-- once a transaction: only the last of its versions is looked at
	IF NOT NEW.enabled OR NOT crm.guard() OR NOT EXISTS (SELECT FROM crm.funnel f WHERE f.id = NEW.id AND f.version = NEW.version AND f.enabled) THEN
		RETURN NULL;
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.version = OLD.version AND NEW.enabled = OLD.enabled THEN
		RETURN NULL;
	END IF;
	SELECT string_agg(c.message, '; ') INTO more FROM crm.check_funnel(NEW.code) c WHERE c.severity = 'error';
	IF more IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT c.what, c.message, c.hint INTO first FROM crm.check_funnel(NEW.code) c WHERE c.severity = 'error' LIMIT 1;
	RAISE EXCEPTION USING ERRCODE = CASE first.what WHEN 'loop' THEN '54001' ELSE '23514' END, MESSAGE = format('funnel "%s" is not whole: %s', NEW.code, first.message),
		DETAIL = format('All that is wrong: %s.', more),
		HINT = first.hint || format(' Or keep it a draft while you work: UPDATE crm.funnel SET enabled = false WHERE code = %L; and SELECT * FROM crm.check_funnel(%L);', NEW.code, NEW.code);
END
$$;
COMMENT ON FUNCTION crm.funnel_whole() IS 'Trigger function of crm.funnel, when the transaction ends: refuses a funnel that is on and not whole (crm.check_funnel) with 23514, a loop with 54001. Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.rule_funnel() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	loop_ text;
BEGIN
	IF NOT crm.guard() OR NOT coalesce(NEW.switched, NEW.enabled)
		OR NOT EXISTS (SELECT FROM crm.deal_move_rule d WHERE d.enabled AND d.event_kind LIKE 'message.%') THEN
		RETURN NULL;
	END IF;
	loop_ := crm.funnel_loop();
	IF loop_ IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '54001', MESSAGE = format('rule "%s" would close a loop through a funnel', NEW.code),
			DETAIL = format('The loop: %s.', loop_), HINT = 'Switch one of these off, or forbid one of the moves.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.rule_funnel() IS 'Trigger function of crm.rule, when a rule that is on is saved: refuses with 54001 a rule whose messages would move deals in a circle, naming it. Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.funnel_check_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT c.severity, format('funnel "%s"', f.code), c.message, c.hint, NULL::timestamptz
	FROM crm.funnel f CROSS JOIN LATERAL crm.check_funnel(f.code) c
	WHERE f.enabled AND crm.guard() AND c.severity IN ('error', 'warning')
	UNION ALL
	SELECT 'warning', 'hand-over', format('%s deals did not go on when their card was closed, at last deal %s: %s', count(*), max(l.deal_id), max(l.problem)),
		'SELECT * FROM crm.deal_link WHERE problem IS NOT NULL; move them by hand, then UPDATE crm.deal_link SET problem = NULL.', min(l.returned_at)
	FROM crm.deal_link l WHERE l.problem IS NOT NULL HAVING count(*) > 0
$$;
COMMENT ON FUNCTION crm.funnel_check_health() IS 'Rows of crm.health: funnels that are on and not whole, and cards whose deal did not go back.';
SELECT crm.register_hook('health', 'funnel', 'crm.funnel_check_health');
