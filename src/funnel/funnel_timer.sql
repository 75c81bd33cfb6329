-- funnel: what waits in a stage. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql. (state = …) IS TRUE keeps a look-up by key from a partial index of that
-- state, which it would walk through from end to end.

-- ---- when -------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.date_of(words text) RETURNS date
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF words !~ '^\d{4}-\d{2}-\d{2}' THEN
		RETURN NULL;
	END IF;
	RETURN make_date(substr(words, 1, 4)::integer, substr(words, 6, 2)::integer, substr(words, 9, 2)::integer);
EXCEPTION WHEN datetime_field_overflow THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.date_of(text) IS 'The date with which a text begins, written as 2026-11-30; NULL: none.';

CREATE OR REPLACE FUNCTION crm.stage_due(base timestamptz, after integer, unit text, at_time time, calendar text, zone text) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	due timestamptz := CASE unit WHEN 'hours' THEN base + after * interval '1 hour' WHEN 'working_days' THEN crm.working_days_later(base, after, calendar, zone)
		ELSE ((base AT TIME ZONE zone) + after * interval '1 day') AT TIME ZONE zone END;
BEGIN
	IF at_time IS NOT NULL AND unit <> 'hours' THEN
		due := ((due AT TIME ZONE zone)::date + at_time) AT TIME ZONE zone;
	END IF;
	RETURN due;
END
$$;
COMMENT ON FUNCTION crm.stage_due(timestamptz, integer, text, time, text, text) IS 'When something of a stage is due: so many hours, days or working days from a moment, at an hour of the local day; NULL for NULL. Error 22023 for a calendar or zone that is not there.';

CREATE OR REPLACE FUNCTION crm.stage_dues(stage_action_id bigint, deal_ids bigint[], stage_log_ids bigint[]) RETURNS TABLE (deal_id bigint, stage_log_id bigint, base_at timestamptz, due_at timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	WITH a AS MATERIALIZED (
		SELECT x.* FROM crm.stage_action x WHERE x.id = $1
	), d AS MATERIALIZED (
		SELECT g.deal_id, g.log_id, z.calendar, z.zone,
			CASE a.after_from WHEN 'entry' THEN l.at
				ELSE (CASE a.after_from WHEN 'expected_on' THEN y.expected_on ELSE crm.date_of(y.data ->> substr(a.after_from, 6)) END + time '10:00') AT TIME ZONE z.zone END AS base
		FROM a, unnest($2, $3) AS g(deal_id, log_id)
		CROSS JOIN LATERAL (SELECT k.owner_id, k.expected_on, k.data FROM crm.deal k WHERE k.id = g.deal_id OFFSET 0) y
		CROSS JOIN LATERAL (SELECT k.at FROM crm.stage_log k WHERE k.id = g.log_id OFFSET 0) l
		LEFT JOIN LATERAL (SELECT k.calendar_code, k.time_zone FROM crm.employee k WHERE k.id = y.owner_id OFFSET 0) e ON true
		CROSS JOIN LATERAL (SELECT coalesce(e.calendar_code, 'office') AS calendar, coalesce(e.time_zone, current_setting('crm.time_zone')) AS zone) z
	), t AS MATERIALIZED (
		-- counted once for each moment, however many deals share it
		SELECT u.base, u.calendar, u.zone, crm.stage_due(u.base, a.after, a.after_unit, a.at_time, u.calendar, u.zone) AS due
		FROM a, (SELECT DISTINCT d.base, d.calendar, d.zone FROM d WHERE d.base IS NOT NULL) u
	)
	SELECT d.deal_id, d.log_id, d.base, (SELECT t.due FROM t WHERE t.base = d.base AND t.calendar = d.calendar AND t.zone = d.zone)
	FROM d
$$;
COMMENT ON FUNCTION crm.stage_dues(bigint, bigint[], bigint[]) IS 'When an action is due for deals that entered its stage, and from when it counts; NULL where the date is not known yet.';

CREATE OR REPLACE FUNCTION crm.stage_timers_set(stage_action_id bigint, deal_ids bigint[], stage_log_ids bigint[]) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
	INSERT INTO crm.stage_timer (stage_action_id, stage_log_id, deal_id, base_at, due_at)
	SELECT $1, d.stage_log_id, d.deal_id, d.base_at, d.due_at FROM crm.stage_dues($1, $2, $3) d ORDER BY d.stage_log_id
	ON CONFLICT ON CONSTRAINT stage_timer_key DO NOTHING
$$;
COMMENT ON FUNCTION crm.stage_timers_set(bigint, bigint[], bigint[]) IS 'Starts the timers of an action, one for each entry of a deal into its stage: the same entry a second time starts none.';

-- ---- what ends it -----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.stage_timers_end(timer_ids bigint[], state text, reason text, event_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	tasks bigint[];
	words text[];
BEGIN
	WITH ended AS (
		UPDATE crm.stage_timer t SET state = $2, ended_at = crm.now(), reason = $3, event_id = u.event_id
		FROM unnest(timer_ids, event_ids) AS u(id, event_id)
		WHERE t.id = ANY (ARRAY[u.id]) AND (t.state = 'waiting') IS TRUE
		RETURNING t.task_id, t.event_id
	)
	SELECT array_agg(e.task_id ORDER BY e.task_id), array_agg(concat_ws(': ', $3, (SELECT k.description_ru || format(' (%s, %s)', v.kind, v.id)
			FROM crm.event v JOIN crm.event_kind k ON k.kind = v.kind WHERE v.id = e.event_id)) ORDER BY e.task_id)
	INTO tasks, words FROM ended e WHERE e.task_id IS NOT NULL;
	IF tasks IS NULL THEN
		RETURN;
	END IF;
	UPDATE crm.task t SET state = $2, done_at = crm.now(),
		result = CASE $2 WHEN 'done' THEN u.words ELSE t.result END, reason = CASE $2 WHEN 'cancelled' THEN u.words ELSE t.reason END
	FROM unnest(tasks, words) AS u(id, words)
	WHERE t.id = ANY (ARRAY[u.id]) AND (t.state = 'open') IS TRUE;
END
$$;
COMMENT ON FUNCTION crm.stage_timers_end(bigint[], text, text, bigint[]) IS 'Ends timers that wait, done or cancelled, with the reason and the event that did it, and their open tasks with them.';

CREATE OR REPLACE FUNCTION crm.stages_left(deal_ids bigint[], from_ids bigint[], to_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	timers bigint[];
	closed boolean;
	says   text;
BEGIN
	FOR closed, timers IN
		SELECT s.is_won OR s.is_lost, array_agg(t.id ORDER BY t.id)
		FROM unnest(deal_ids, to_ids) AS g(deal_id, to_id)
		CROSS JOIN LATERAL (SELECT y.id, y.stage_action_id, y.stage_log_id FROM crm.stage_timer y WHERE y.deal_id = g.deal_id AND y.state = 'waiting' OFFSET 0) t
		JOIN crm.stage_action a ON a.id = t.stage_action_id AND a.on_leave = 'cancel'
		JOIN crm.stage s ON s.id = g.to_id
		GROUP BY 1
	LOOP
		says := CASE WHEN closed THEN 'сделка закрыта' ELSE 'сделка ушла с этапа' END;
		PERFORM crm.stage_timers_end(timers, 'cancelled', says, NULL);
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.stages_left(bigint[], bigint[], bigint[]) IS 'Cancels what waited in the stages that deals leave, unless its action says keep: timers, and the open tasks of the stage. Called when deals move.';

CREATE OR REPLACE FUNCTION crm.register_answer_kind(event_kind text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.answer_kind (event_kind) VALUES ($1) ON CONFLICT DO NOTHING;
END;
COMMENT ON FUNCTION crm.register_answer_kind(text) IS 'Says that events of a kind are an answer of the client: what waits for one (crm.stage_action.until_answer) ends by it. The deals are those that the event''s object has (crm.deal_finder), else the open ones of its company. Called by the script; a DBA''s own are registered again after a restore.';
SELECT crm.register_undumped('crm.answer_kind', 'filled by code');
SELECT crm.register_answer_kind('lead.received');
SELECT crm.register_answer_kind('order.created');

CREATE OR REPLACE FUNCTION crm.event_answers() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	finder    crm.deal_finder;
	ids       bigint[];
	kinds     text[];
	objects   bigint[];
	companies bigint[];
	ats       timestamptz[];
	timers    bigint[];
	events    bigint[];
	found_    bigint[];
	deals     bigint[];
	times     timestamptz[];
	found_at  timestamptz[];
	ending    record;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(f.id), array_agg(f.object_kind), array_agg(f.object_id), array_agg(f.company_id), array_agg(f.at) INTO ids, kinds, objects, companies, ats
	FROM fresh f WHERE f.kind = ANY (ARRAY(SELECT k.event_kind FROM crm.answer_kind k));
	IF ids IS NULL OR NOT EXISTS (SELECT FROM crm.stage_action a WHERE a.until_answer) THEN
		RETURN NULL;
	END IF;
	events := '{}';
	deals := '{}';
	times := '{}';
	FOR finder IN SELECT k.* FROM crm.deal_finder k WHERE k.object_kind = ANY (kinds) LOOP
		EXECUTE format('SELECT array_agg(g.id), array_agg(p.deal_id), array_agg(g.at) FROM unnest($1, $2, $3, $5) AS g(id, kind, object_id, at)
			JOIN (SELECT DISTINCT x.object_id, x.deal_id FROM %s($3) x) p ON p.object_id = g.object_id WHERE g.kind = $4', finder.function)
		INTO found_, timers, found_at USING ids, kinds, objects, finder.object_kind, ats;
		events := events || found_;
		deals := deals || timers;
		times := times || found_at;
	END LOOP;
	-- one that names no deal answers for its company
	SELECT array_agg(x.timer_id), array_agg(x.event_id) INTO timers, found_
	FROM (
		SELECT DISTINCT ON (t.id) t.id AS timer_id, c.event_id
		FROM (
			SELECT g.event_id, g.deal_id, g.at FROM unnest(events, deals, times) AS g(event_id, deal_id, at)
			UNION ALL
			SELECT e.id, d.id, e.at
			FROM unnest(ids, companies, ats) AS e(id, company_id, at)
			CROSS JOIN LATERAL (SELECT y.id, y.closed_at FROM crm.deal y WHERE y.company_id = e.company_id OFFSET 0) d
			WHERE d.closed_at IS NULL AND (e.id IN (SELECT x.id FROM unnest(events) AS x(id))) IS NOT TRUE
		) c
		CROSS JOIN LATERAL (SELECT y.id, y.stage_action_id, y.stage_log_id FROM crm.stage_timer y WHERE y.deal_id = c.deal_id AND y.state = 'waiting' OFFSET 0) t
		JOIN crm.stage_action a ON a.id = t.stage_action_id AND a.until_answer
		CROSS JOIN LATERAL (SELECT y.at FROM crm.stage_log y WHERE y.id = t.stage_log_id OFFSET 0) l
		-- what was said before the deal came to the stage is no answer to it
		WHERE c.at >= l.at
		ORDER BY t.id, c.event_id
	) x;
	IF timers IS NULL THEN
		RETURN NULL;
	END IF;
	-- in one order, or two sessions would wait for each other in a ring
	PERFORM FROM crm.stage_timer t WHERE t.id = ANY (timers) ORDER BY t.id FOR NO KEY UPDATE;
	FOR ending IN
		SELECT CASE WHEN t.task_id IS NULL THEN 'cancelled' ELSE 'done' END AS state, array_agg(g.timer_id) AS timers, array_agg(g.event_id) AS events
		FROM unnest(timers, found_) AS g(timer_id, event_id)
		CROSS JOIN LATERAL (SELECT y.task_id FROM crm.stage_timer y WHERE y.id = g.timer_id OFFSET 0) t
		GROUP BY 1
	LOOP
		PERFORM crm.stage_timers_end(ending.timers, ending.state, 'клиент ответил', ending.events);
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.event_answers() IS 'Trigger function of crm.event: an event of crm.answer_kind ends what waits for the client''s answer: an open task is done and names the event, a timer is cancelled (claim 95). An event that happened before the deal came to the stage ends nothing. Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.tasks_closed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	tasks bigint[];
	deals bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(a.id) INTO tasks FROM after_ a WHERE a.state <> 'open';
	IF tasks IS NULL THEN
		RETURN NULL;
	END IF;
	UPDATE crm.stage_timer t SET state = u.state, ended_at = crm.now(), reason = CASE u.state WHEN 'cancelled' THEN u.reason END
	FROM (SELECT y.id AS timer_id, x.state, x.reason
		FROM unnest(tasks) AS g(id)
		CROSS JOIN LATERAL (SELECT k.state, k.reason FROM crm.task k WHERE k.id = g.id OFFSET 0) x
		CROSS JOIN LATERAL (SELECT k.id, k.state FROM crm.stage_timer k WHERE k.task_id = g.id OFFSET 0) y
		WHERE y.state = 'waiting') u
	WHERE t.id = ANY (ARRAY[u.timer_id]);
	SELECT array_agg(DISTINCT l.deal_id) INTO deals
	FROM unnest(tasks) AS g(id)
	CROSS JOIN LATERAL (SELECT y.deal_id FROM crm.deal_activity y WHERE y.object_kind = 'task' AND y.object_id = g.id OFFSET 0) l;
	PERFORM crm.next_step_ask(deals) WHERE deals IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.tasks_closed() IS 'Trigger function of crm.task, after an UPDATE: a task that was closed ends its timer, and its deal''s next step is looked at. Asleep until crm.activate().';

-- ---- when its date moves ----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.deals_dated(deal_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	a      record;
	timers bigint[];
	bases  timestamptz[];
	dues   timestamptz[];
BEGIN
	FOR a IN
		SELECT x.id AS action_id, k.own_time, array_agg(t.deal_id ORDER BY t.id) AS deals, array_agg(t.stage_log_id ORDER BY t.id) AS logs
		FROM unnest(deal_ids) AS g(id)
		CROSS JOIN LATERAL (SELECT y.id, y.deal_id, y.stage_action_id, y.stage_log_id FROM crm.stage_timer y WHERE y.deal_id = g.id AND y.state = 'waiting' OFFSET 0) t
		JOIN crm.stage_action x ON x.id = t.stage_action_id AND x.after_from <> 'entry'
		LEFT JOIN crm.stage_action_kind k ON k.action = x.action
		GROUP BY x.id, k.own_time
		ORDER BY x.id
	LOOP
		SELECT array_agg(t.id ORDER BY t.id), array_agg(d.base_at ORDER BY t.id), array_agg(d.due_at ORDER BY t.id) INTO timers, bases, dues
		FROM crm.stage_dues(a.action_id, a.deals, a.logs) d
		CROSS JOIN LATERAL (SELECT y.id, y.due_at FROM crm.stage_timer y WHERE y.stage_action_id = a.action_id AND y.stage_log_id = d.stage_log_id OFFSET 0) t
		WHERE t.due_at IS DISTINCT FROM d.due_at;
		CONTINUE WHEN timers IS NULL;
		UPDATE crm.stage_timer t SET base_at = u.base_at, due_at = u.due_at
		FROM unnest(timers, bases, dues) AS u(id, base_at, due_at) WHERE t.id = ANY (ARRAY[u.id]);
		UPDATE crm.task k SET due_at = u.due_at, reason = 'срок перенесён вместе с датой сделки'
		FROM (SELECT t.task_id, g.due_at FROM unnest(timers, dues) AS g(id, due_at)
			CROSS JOIN LATERAL (SELECT y.task_id FROM crm.stage_timer y WHERE y.id = g.id OFFSET 0) t WHERE g.due_at IS NOT NULL AND t.task_id IS NOT NULL) u
		WHERE k.id = ANY (ARRAY[u.task_id]) AND (k.state = 'open') IS TRUE;
		IF a.own_time THEN
			PERFORM crm.stage_action_do(a.action_id, a.deals, a.logs);	-- those that waited for a date
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.deals_dated(bigint[]) IS 'Counts anew what waits for a date of deals (crm.stage_action.after_from): timers, and the deadlines of their open tasks; what had no date until now gets its task. Called by the trigger of crm.deal.';

-- ---- when it is due ---------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.stage_timers_due() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	t      record;
	code   text;
	words  text;
	advice text;
	at     timestamptz;
	until_ms constant bigint := crm.monotonic_ms() + 3000;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	FOR i IN 1 .. 200 LOOP
		-- Timer and deal at once: a deal that somebody moves now is looked at again when he has.
		SELECT x.id, x.stage_action_id, x.stage_log_id, x.deal_id, a.enabled, a.action INTO t
		FROM crm.stage_timer x JOIN crm.deal d ON d.id = x.deal_id JOIN crm.stage_action a ON a.id = x.stage_action_id
		WHERE x.state = 'waiting' AND x.task_id IS NULL AND x.due_at <= crm.clock()
		ORDER BY x.due_at, x.id LIMIT 1 FOR NO KEY UPDATE OF x, d SKIP LOCKED;
		EXIT WHEN NOT FOUND;
		IF NOT t.enabled THEN
			PERFORM crm.stage_timers_end(ARRAY[t.id], 'cancelled', 'действие отключено', NULL);
			CONTINUE;
		END IF;
		-- first: what the action does may end what waits, this timer not
		UPDATE crm.stage_timer x SET state = 'done', ended_at = crm.now() WHERE x.id = t.id;
		BEGIN
			PERFORM crm.stage_action_do(t.stage_action_id, ARRAY[t.deal_id], ARRAY[t.stage_log_id]);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
			IF code ~ '^(40|53|57|58|XX)' THEN
				RAISE;
			END IF;
			UPDATE crm.stage_timer x SET state = 'failed', reason = left(words, 2000) WHERE x.id = t.id;
			INSERT INTO crm.stage_action_failure (stage_action_id, stage_log_id, deal_id, code, words, hint)
			VALUES (t.stage_action_id, t.stage_log_id, t.deal_id, code, left(words, 2000), nullif(left(advice, 2000), '')) ON CONFLICT DO NOTHING;
		END;
		EXIT WHEN crm.monotonic_ms() > until_ms;
	END LOOP;
	SELECT x.due_at INTO at FROM crm.stage_timer x WHERE x.state = 'waiting' AND x.task_id IS NULL AND x.due_at IS NOT NULL ORDER BY x.due_at LIMIT 1;
	RETURN greatest(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 200 END);
END
$$;
COMMENT ON FUNCTION crm.stage_timers_due() IS 'Hook due: runs timed actions whose moment has come, each once, for about three seconds at most, and says when the next one comes (crm.monotonic_ms). One that fails stands in crm.stage_action_failure, whatever its on_error says: there is no move left to refuse.';
SELECT crm.register_hook('due', 'stage_timer', 'crm.stage_timers_due');

SELECT crm.register_foreign_key('crm.stage_timer', 'stage_action_id', 'crm.stage_action', 'id', on_delete => 'CASCADE');
SELECT crm.register_no_foreign_key('crm.stage_timer', 'stage_log_id', 'history outlives what it tells of');
SELECT crm.register_foreign_key('crm.stage_timer', 'deal_id', 'crm.deal', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.stage_timer', 'task_id', 'crm.task', 'id', on_delete => 'CASCADE');
SELECT crm.register_no_foreign_key('crm.stage_timer', 'event_id', 'events are partitioned and never deleted');
SELECT crm.register_foreign_key('crm.deal_activity', 'deal_id', 'crm.deal', 'id', on_delete => 'CASCADE');
SELECT crm.register_no_foreign_key('crm.deal_activity', 'object_id', 'names a row of the table that object_kind says');
