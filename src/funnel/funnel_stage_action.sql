-- funnel: the stage actions task, message, move and function. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.

CREATE OR REPLACE FUNCTION crm.settings_check(action text, settings jsonb, known jsonb) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bad text;
BEGIN
	SELECT string_agg(s.key, ', ' ORDER BY s.key) INTO bad FROM jsonb_each(settings) s
	WHERE NOT known ? s.key OR NOT (known -> s.key) ? jsonb_typeof(s.value);
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not settings of the action %s: %s', action, left(bad, 200)),
			HINT = 'It takes: ' || (SELECT string_agg(k.key || ' (' || (SELECT string_agg(t.type, ' or ') FROM jsonb_array_elements_text(k.value) AS t(type)) || ')', ', ' ORDER BY k.key) FROM jsonb_each(known) k) || '.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.settings_check(text, jsonb, jsonb) IS 'Refuses settings of a stage action with 22023 where a key or its type is not among the known ones: an object of arrays of jsonb types.';

CREATE OR REPLACE FUNCTION crm.deal_template_check(what text, template text) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	unknown text;
BEGIN
	SELECT string_agg(v.name, ', ') INTO unknown FROM unnest(crm.template_variables(template)) AS v(name) WHERE v.name <> ALL (crm.deal_variables());
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42703', MESSAGE = format('%s names unknown variables: %s', what, unknown),
			HINT = format('Known are: %s.', array_to_string(crm.deal_variables(), ', '));
	END IF;
END
$$;
COMMENT ON FUNCTION crm.deal_template_check(text, text) IS 'Refuses a text with variables that deals do not have (42703, with the known ones) or broken placeholders (42601).';

-- ---- task -------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.action_task_check(settings jsonb) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.settings_check('task', settings, '{"name": ["string"], "note": ["string"], "employee": ["string", "number"], "priority": ["number"]}');
	IF coalesce(settings ->> 'name', '') = '' OR length(settings ->> 'name') > 400 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the action task names no task', HINT = 'Set name to what is to be done, at most 400 characters.';
	END IF;
	PERFORM crm.deal_template_check('the name of a task', settings ->> 'name'), crm.deal_template_check('the note of a task', settings ->> 'note');
	IF settings ->> 'employee' NOT IN ('owner', 'head', 'nobody')
		AND NOT EXISTS (SELECT FROM crm.employee e WHERE e.id::text = settings ->> 'employee' AND e.dismissed_at IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the action task gives its task to nobody that is there: %s', settings ->> 'employee'),
			HINT = 'Set employee to owner, head (of the owner''s team), nobody, or the number of one who works here.';
	END IF;
	IF (settings ->> 'priority')::numeric NOT IN (0, 1, 2) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a priority: %s', settings ->> 'priority'), HINT = 'Set priority to 0, 1 or 2.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.action_task_check(jsonb) IS 'Refuses settings of the stage action task with 22023, and variables that are not there with 42703.';

CREATE OR REPLACE FUNCTION crm.action_task(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	settings jsonb;
	whom     text;
	priority smallint;
	tasks    bigint[];
	logs     bigint[];
	datas    jsonb[];
BEGIN
	SELECT array_agg(v.data ORDER BY v.n) INTO datas FROM crm.deal_values(deal_ids) v;
	SELECT a.settings INTO settings FROM crm.stage_action a WHERE a.id = action_task.stage_action_id;
	whom := coalesce(settings ->> 'employee', 'owner');
	priority := coalesce((settings ->> 'priority')::smallint, 1);
	WITH made AS (
		INSERT INTO crm.task (name, note, employee_id, company_id, contact_id, due_at, priority, source, source_id, cause_event_id)
		SELECT left(crm.message_text(crm.template_fill(settings ->> 'name', g.data), true), 500), left(crm.message_text(crm.template_fill(settings ->> 'note', g.data)), 10000),
			CASE whom WHEN 'owner' THEN o.id
				WHEN 'head' THEN (SELECT h.id FROM crm.employee e JOIN crm.employee h ON h.team_id = e.team_id AND h.is_head AND h.dismissed_at IS NULL WHERE e.id = o.id ORDER BY h.id LIMIT 1)
				WHEN 'nobody' THEN NULL ELSE whom::bigint END,
			d.company_id, d.contact_id, t.due_at, priority, 'stage_action', action_task.stage_action_id || ':' || t.stage_log_id, l.event_id
		FROM unnest(stage_log_ids, datas) WITH ORDINALITY AS g(id, data, n)
		CROSS JOIN LATERAL (SELECT y.deal_id, y.stage_log_id, y.due_at FROM crm.stage_timer y WHERE y.stage_action_id = action_task.stage_action_id AND y.stage_log_id = g.id OFFSET 0) t
		CROSS JOIN LATERAL (SELECT y.event_id FROM crm.stage_log y WHERE y.id = g.id OFFSET 0) l
		CROSS JOIN LATERAL (SELECT y.company_id, y.contact_id, y.owner_id FROM crm.deal y WHERE y.id = t.deal_id OFFSET 0) d
		CROSS JOIN LATERAL (SELECT coalesce(d.owner_id, (SELECT c.owner_id FROM crm.company c WHERE c.id = d.company_id)) AS id) o
		ORDER BY g.n
		ON CONFLICT ON CONSTRAINT task_source_key DO NOTHING
		RETURNING id, split_part(source_id, ':', 2)::bigint AS log_id
	)
	SELECT array_agg(m.id ORDER BY m.id), array_agg(m.log_id ORDER BY m.id) INTO tasks, logs FROM made m;
	-- by the timer: of crm.stage_log the deal alone would be looked for in an index that does not begin with id
	INSERT INTO crm.deal_activity (deal_id, object_kind, object_id)
	SELECT t.deal_id, 'task', g.task_id
	FROM unnest(tasks, logs) AS g(task_id, log_id)
	CROSS JOIN LATERAL (SELECT y.deal_id FROM crm.stage_timer y WHERE y.stage_action_id = action_task.stage_action_id AND y.stage_log_id = g.log_id OFFSET 0) t;
	UPDATE crm.stage_timer t SET task_id = u.task_id
	FROM (SELECT y.id, g.task_id FROM unnest(tasks, logs) AS g(task_id, log_id)
		CROSS JOIN LATERAL (SELECT z.id FROM crm.stage_timer z WHERE z.stage_action_id = action_task.stage_action_id AND z.stage_log_id = g.log_id OFFSET 0) y) u
	WHERE t.id = ANY (ARRAY[u.id]);
END
$$;
COMMENT ON FUNCTION crm.action_task(bigint[], bigint, bigint[]) IS 'The stage action task (claim 95): gives a task of each deal at once, due so long after the entry or a date of the deal as crm.stage_action.after says. settings: name and note, with the variables of crm.deal_variables(); employee: owner (the default: of the deal, else of its company), head (of his team), nobody, or a number; priority. The same entry a second time gives none.';
SELECT crm.register_stage_action('task', 'crm.action_task', 'crm.action_task_check', true, ARRAY['task.added', 'task.overdue', 'task.cancelled']);

-- ---- message ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.action_message_check(settings jsonb) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.settings_check('message', settings, '{"template": ["string"], "channel": ["string"], "audience": ["string"]}');
	IF coalesce(settings ->> 'template', '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the action message names no template', HINT = 'Set template to the code of one: SELECT DISTINCT code FROM crm.template;';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.action_message_check(jsonb) IS 'Refuses settings of the stage action message with 22023; template, channel and audience are checked with its rule.';

CREATE OR REPLACE FUNCTION crm.stage_action_rule() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;					-- a restore brings the rules too
	END IF;
	IF TG_OP <> 'INSERT' AND OLD.action = 'message' AND (TG_OP = 'DELETE' OR NEW.action <> 'message') THEN
		DELETE FROM crm.rule r WHERE r.code = 'stage_action.' || OLD.id;
	END IF;
	IF TG_OP <> 'DELETE' AND NEW.action = 'message'
		AND (TG_OP = 'INSERT' OR (NEW.settings, NEW.on_leave, NEW.stage_id, NEW.action) IS DISTINCT FROM (OLD.settings, OLD.on_leave, OLD.stage_id, OLD.action)) THEN
		INSERT INTO crm.rule AS r (code, event_kind, condition, audience, channel, template, truth, expires_after)
		VALUES ('stage_action.' || NEW.id, 'deal.message', format('data ->> ''stage_action'' = ''%s''', NEW.id), coalesce(NEW.settings ->> 'audience', 'deal_contact'),
			coalesce(NEW.settings ->> 'channel', 'sms'), NEW.settings ->> 'template',
			CASE NEW.on_leave WHEN 'cancel' THEN format('crm.deal_in_stage(object_id, %s)', NEW.stage_id) END, '72 hours')
		ON CONFLICT (code) DO UPDATE SET audience = EXCLUDED.audience, channel = EXCLUDED.channel, template = EXCLUDED.template, truth = EXCLUDED.truth;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.stage_action_rule() IS 'Trigger function of crm.stage_action: the action message speaks by a rule of its own, stage_action.ID, on deal.message: checked like any rule, its hours, throttle and fallback may be changed there. Where the action says on_leave cancel, the message does not leave once the deal is elsewhere. Errors: those of crm.rule_check().';

CREATE OR REPLACE FUNCTION crm.action_message(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, cause_id, source, source_id, data)
	SELECT 'deal.message', 'deal', v.deal_id, v.company_id, l.event_id, 'stage_action', $2 || ':' || ($3)[v.n], v.data || jsonb_build_object('stage_action', $2::text)
	FROM crm.deal_values($1) v
	CROSS JOIN LATERAL (SELECT y.event_id FROM crm.stage_log y WHERE y.id = ($3)[v.n] OFFSET 0) l
	ORDER BY v.n
$$;
COMMENT ON FUNCTION crm.action_message(bigint[], bigint, bigint[]) IS 'The stage action message: emits deal.message, to which the action''s own rule answers with its template, channel and audience (by default sms to the deal''s contact). settings: template, channel, audience. The same entry a second time sends nothing: a rule fires once for one cause.';
SELECT crm.register_stage_action('message', 'crm.action_message', 'crm.action_message_check', false, ARRAY['deal.message']);
SELECT crm.register_event_kind('deal.message', 'deal', crm.deal_variables() || 'stage_action'::text, 'A stage has something to say', 'Сообщение этапа воронки');

-- ---- move -------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.action_move_check(settings jsonb) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.settings_check('move', settings, '{"stage": ["string"], "reason": ["string"]}');
	IF coalesce(settings ->> 'stage', '') = '' OR length(settings ->> 'reason') > 2000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the action move names no stage, or too long a reason', HINT = 'Set stage to the code of one of the same funnel.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.action_move_check(jsonb) IS 'Refuses settings of the stage action move with 22023; that the stage is there and may be reached is looked at with the whole funnel.';

CREATE OR REPLACE FUNCTION crm.action_move(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	target bigint;
	here   bigint;
	words  text;
	wanted text;
BEGIN
	SELECT a.stage_id, s.id, a.settings ->> 'reason', a.settings ->> 'stage' INTO here, target, words, wanted
	FROM crm.stage_action a LEFT JOIN crm.stage s ON s.funnel_id = a.funnel_id AND s.code = a.settings ->> 'stage' WHERE a.id = action_move.stage_action_id;
	IF target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('stage "%s" is not in the funnel', wanted), HINT = 'Change settings.stage of the action.';
	END IF;
	-- one that has gone on meanwhile is not fetched back
	UPDATE crm.deal d SET stage_id = target, stage_reason = words || CASE WHEN d.stage_reason = words THEN ' ' ELSE '' END
	FROM unnest(deal_ids) AS g(id)
	WHERE d.id = ANY (ARRAY[g.id]) AND (d.stage_id = here) IS TRUE;	-- by its id, not by all that are there
END
$$;
COMMENT ON FUNCTION crm.action_move(bigint[], bigint, bigint[]) IS 'The stage action move: brings deals that are in the stage still to another one of the funnel, at once or, with crm.stage_action.after, when they have stayed so long. settings: stage, its code; reason. Errors: 22023 no such stage, 23514 what a move may meet.';

CREATE OR REPLACE FUNCTION crm.action_move_leads(settings jsonb, stage_id bigint) RETURNS bigint[]
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT array_agg(t.id) FROM crm.stage s JOIN crm.stage t ON t.funnel_id = s.funnel_id AND t.code = $1 ->> 'stage' WHERE s.id = $2;
END;
COMMENT ON FUNCTION crm.action_move_leads(jsonb, bigint) IS 'Where the stage action move brings deals.';
SELECT crm.register_stage_action('move', 'crm.action_move', 'crm.action_move_check', false, '{}', 'crm.action_move_leads');

-- ---- function ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.action_function_check(settings jsonb) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.settings_check('function', settings, '{"function": ["string"], "settings": ["object"]}');
	PERFORM crm.owner_code(settings ->> 'function', 'bigint[],bigint,bigint[]', 'void');
END
$$;
COMMENT ON FUNCTION crm.action_function_check(jsonb) IS 'Refuses settings of the stage action function with 22023, and a function that may not be run as crm.owner_code() says.';

CREATE OR REPLACE FUNCTION crm.action_function(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f text;
BEGIN
	SELECT a.settings ->> 'function' INTO f FROM crm.stage_action a WHERE a.id = action_function.stage_action_id;
	PERFORM crm.owner_code(f, 'bigint[],bigint,bigint[]', 'void');
	EXECUTE format('SELECT %s($1, $2, $3)', f) USING deal_ids, stage_action_id, stage_log_ids;
END
$$;
COMMENT ON FUNCTION crm.action_function(bigint[], bigint, bigint[]) IS 'The stage action function: calls the DBA''s own f(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void, a SECURITY DEFINER function of a member of crm_integrator, with that one''s rights. settings: function, its full name; settings, an object for it. Unlike an action that is registered it needs nothing after a restore. Errors: those of crm.owner_code() and its own.';
SELECT crm.register_stage_action('function', 'crm.action_function', 'crm.action_function_check');
