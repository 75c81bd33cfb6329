-- funnel: what entering a stage does. Code: may be run any number of times.

-- ---- functions that stand in rows -------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.owner_code(function text, arguments text, result text) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p record;
BEGIN
	IF function IS NULL OR function !~ '^[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*$' THEN
		RAISE EXCEPTION USING ERRCODE = '42602', MESSAGE = format('not the full name of a function: %s', coalesce(left(function, 200), 'NULL')),
			HINT = 'Write it with its schema and without arguments, in small letters.';
	END IF;
	SELECT x.oid, x.prosecdef, x.prorettype, x.proretset, r.rolname, r.rolsuper,
		EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'crm'
			WHERE d.classid = 'pg_proc'::regclass AND d.objid = x.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e') AS ours
	INTO p
	FROM pg_proc x JOIN pg_roles r ON r.oid = x.proowner
	WHERE x.oid = to_regprocedure(format('%s(%s)', function, arguments));
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42883', MESSAGE = format('function %s(%s) does not exist', function, arguments),
			HINT = 'Create it first; what is registered is registered again after a restore.';
	END IF;
	IF p.prorettype <> result::regtype OR p.proretset THEN
		RAISE EXCEPTION USING ERRCODE = '42P13', MESSAGE = format('function %s(%s) does not return %s', function, arguments, result), HINT = 'Give it that result.';
	END IF;
	-- It runs in a definer function of crm_owner: what is not ours must run as its own owner.
	IF NOT p.ours AND NOT crm.in_script() AND (p.rolsuper OR NOT p.prosecdef
		OR p.rolname <> 'crm_owner' AND NOT pg_has_role(p.rolname, 'crm_integrator', 'MEMBER')) THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('function %s of %s is not run', function, p.rolname),
			DETAIL = 'It would run with the rights of crm_owner, or its owner is a superuser or no member of crm_integrator.',
			HINT = format('ALTER FUNCTION %s(%s) SECURITY DEFINER SET search_path = pg_catalog, pg_temp; and OWNER TO a member of crm_integrator.', function, arguments);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.owner_code(text, text, text) IS 'Checks that a function named in a row may be called: it is there, with these arguments and result, and it belongs to the extension or runs as its owner, who is a member of crm_integrator and no superuser. Errors: 42602, 42883, 42P13, 42501.';

CREATE OR REPLACE FUNCTION crm.register_stage_action(action text, function text, check_function text DEFAULT NULL, own_time boolean DEFAULT false,
	emits text[] DEFAULT '{}', leads_to text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.owner_code(function, 'bigint[],bigint,bigint[]', 'void');
	IF check_function IS NOT NULL THEN
		PERFORM crm.owner_code(check_function, 'jsonb', 'void');
	END IF;
	IF leads_to IS NOT NULL THEN
		PERFORM crm.owner_code(leads_to, 'jsonb,bigint', 'bigint[]');
	END IF;
	INSERT INTO crm.stage_action_kind AS k (action, function, check_function, own_time, emits, leads_to) VALUES ($1, $2, $3, $4, $5, $6)
	ON CONFLICT ON CONSTRAINT stage_action_kind_pkey DO UPDATE SET function = EXCLUDED.function, check_function = EXCLUDED.check_function,
		own_time = EXCLUDED.own_time, emits = EXCLUDED.emits, leads_to = EXCLUDED.leads_to;
END
$$;
COMMENT ON FUNCTION crm.register_stage_action(text, text, text, boolean, text[], text) IS 'Adds something that entering a stage may do: f(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void, called once for all deals of a statement (the arrays are of one length, in the order of stage_log_ids), in the transaction of the move, or later where crm.stage_action.after says so; and, if wanted, f(settings jsonb) RETURNS void, which raises 22023 for settings that will not do. own_time: it is called at once and finds its deadlines in crm.stage_timer. emits: kinds of events that it causes by itself; leads_to: f(settings jsonb, stage_id bigint) RETURNS bigint[], the stages into which it brings deals: both are what the check of loops follows. Called by the script; a DBA''s own actions are registered again after a restore and must be SECURITY DEFINER functions of a member of crm_integrator. Errors: those of crm.owner_code().';
SELECT crm.register_undumped('crm.stage_action_kind', 'filled by code');

CREATE OR REPLACE FUNCTION crm.stage_action_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k crm.stage_action_kind;
BEGIN
	-- A restore may bring these rows before the stages.
	IF NOT crm.guard() THEN
		RETURN NEW;
	END IF;
	IF NOT EXISTS (SELECT FROM crm.stage s WHERE s.id = NEW.stage_id AND s.funnel_id = NEW.funnel_id) THEN
		RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = format('stage %s is not of funnel %s', NEW.stage_id, NEW.funnel_id),
			HINT = format('Its stages are: %s.', coalesce((SELECT string_agg(format('%s "%s"', s.id, s.code), ', ' ORDER BY s."position", s.id)
				FROM crm.stage s WHERE s.funnel_id = NEW.funnel_id), 'none'));
	END IF;
	SELECT x.* INTO k FROM crm.stage_action_kind x WHERE x.action = NEW.action;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('stage action "%s" does not exist', NEW.action),
			HINT = format('Known are: %s.', coalesce((SELECT string_agg(x.action, ', ' ORDER BY x.action) FROM crm.stage_action_kind x), 'none'));
	END IF;
	IF k.check_function IS NOT NULL THEN
		PERFORM crm.owner_code(k.check_function, 'jsonb', 'void');
		EXECUTE format('SELECT %s($1)', k.check_function) USING NEW.settings;
	END IF;
	IF NEW.after IS NULL AND (k.own_time OR NEW.until_answer OR NEW.after_from <> 'entry') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the action "%s" names no time', NEW.action),
			HINT = 'Set after and after_unit: 3 and working_days, such as.';
	END IF;
	IF NEW.after < 0 AND NEW.after_from = 'entry' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the action "%s" would come before the deal enters the stage', NEW.action),
			HINT = 'Set after to 0 or more, or count from a date: after_from.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.stage_action_check() IS 'Trigger function of crm.stage_action: refuses a stage of another funnel with 23514, an unknown action with 23503, settings that the action''s check function refuses, and with 22023 a time that is missing or before the entry.';

-- ---- running ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.stage_action_do(stage_action_id bigint, deal_ids bigint[], stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	f text;
	a text;
	own boolean;
	deals bigint[] := deal_ids;
	logs  bigint[] := stage_log_ids;
	was boolean;
BEGIN
	SELECT x.action, k.function, k.own_time INTO a, f, own FROM crm.stage_action x LEFT JOIN crm.stage_action_kind k ON k.action = x.action WHERE x.id = stage_action_id;
	IF f IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('stage action "%s" is not registered', a),
			HINT = 'SELECT crm.register_stage_action(…) again, as after every restore of an action of your own.';
	END IF;
	PERFORM crm.owner_code(f, 'bigint[],bigint,bigint[]', 'void');
	IF own THEN
		PERFORM crm.stage_timers_set(stage_action_id, deals, logs);
		-- what has no date yet waits for it
		SELECT array_agg(t.deal_id ORDER BY t.stage_log_id), array_agg(t.stage_log_id ORDER BY t.stage_log_id) INTO deals, logs
		FROM unnest(stage_log_ids) AS g(id)
		CROSS JOIN LATERAL (SELECT y.deal_id, y.stage_log_id, y.due_at, y.state, y.task_id FROM crm.stage_timer y
			WHERE y.stage_action_id = stage_action_do.stage_action_id AND y.stage_log_id = g.id OFFSET 0) t
		WHERE t.due_at IS NOT NULL AND t.state = 'waiting' AND t.task_id IS NULL;
		IF deals IS NULL THEN
			RETURN;
		END IF;
	END IF;
	-- what the funnel does is done for the plant, whoever moved the deal
	was := crm.plant_door(true);
	EXECUTE format('SELECT %s($1, $2, $3)', f) USING deals, stage_action_id, logs;
	IF NOT was THEN
		PERFORM crm.plant_door(false);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.stage_action_do(bigint, bigint[], bigint[]) IS 'Does one action for deals that entered its stage; one that keeps time itself gets its timers first. Errors: 55000 the action is not registered, those of crm.owner_code() and of the action.';

CREATE OR REPLACE FUNCTION crm.stage_actions(stage_ids bigint[], stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	a      record;
	deals  bigint[];
	logs   bigint[];
	failed boolean;
	code   text;
	words  text;
	advice text;
BEGIN
	IF crm.rules_held() THEN
		RETURN;
	END IF;
	FOR a IN
		SELECT x.id, x.action, x.on_error, x.stage_id, s.code AS stage, f.code AS funnel, x.after IS NOT NULL AND k.own_time IS NOT TRUE AS waits
		FROM crm.stage_action x JOIN crm.stage s ON s.id = x.stage_id JOIN crm.funnel f ON f.id = s.funnel_id
		LEFT JOIN crm.stage_action_kind k ON k.action = x.action
		WHERE x.enabled AND x.stage_id = ANY (stage_ids)
		ORDER BY s."position", x."position", x.id
	LOOP
		-- An action that moves its deals on may come back here.
		IF pg_trigger_depth() > 16 THEN
			RAISE EXCEPTION USING ERRCODE = '54001', MESSAGE = format('stage actions move deals in a circle, at last into stage "%s" of funnel "%s"', a.stage, a.funnel),
				HINT = 'Switch one of them off: UPDATE crm.stage_action SET enabled = false WHERE id = …;';
		END IF;
		SELECT array_agg(l.deal_id ORDER BY l.id), array_agg(l.id ORDER BY l.id) INTO deals, logs
		FROM unnest(stage_log_ids) AS g(id)
		CROSS JOIN LATERAL (SELECT y.id, y.deal_id, y.to_stage_id, y.passed FROM crm.stage_log y WHERE y.id = g.id OFFSET 0) l
		WHERE l.to_stage_id = a.stage_id OR a.stage_id = ANY (l.passed);
		CONTINUE WHEN deals IS NULL;
		IF a.waits THEN
			PERFORM crm.stage_timers_set(a.id, deals, logs);
			CONTINUE;
		END IF;
		failed := false;
		BEGIN
			PERFORM crm.stage_action_do(a.id, deals, logs);
		EXCEPTION WHEN OTHERS THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
			IF code ~ '^(40|53|57|58|XX)' THEN
				RAISE;					-- the transaction's trouble, not the action's
			END IF;
			IF a.on_error = 'block' THEN
				RAISE EXCEPTION USING ERRCODE = code,
					MESSAGE = format('action "%s" of stage "%s" failed: %s', a.action, a.stage, words),
					DETAIL = format('The deal does not enter the stage (crm.stage_action %s, on_error block).', a.id),
					HINT = concat_ws(' ', nullif(advice, ''), format('To let deals move all the same: UPDATE crm.stage_action SET on_error = ''flag'' WHERE id = %s;', a.id));
			END IF;
			failed := true;
		END;
		CONTINUE WHEN NOT failed;
		-- One by one: only those that fail are flagged.
		FOR i IN 1 .. cardinality(deals) LOOP
			BEGIN
				IF cardinality(deals) > 1 THEN
					PERFORM crm.stage_action_do(a.id, deals[i:i], logs[i:i]);
					CONTINUE;
				END IF;
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
				IF code ~ '^(40|53|57|58|XX)' THEN
					RAISE;
				END IF;
			END;
			INSERT INTO crm.stage_action_failure (stage_action_id, stage_log_id, deal_id, code, words, hint)
			VALUES (a.id, logs[i], deals[i], code, left(words, 2000), nullif(left(advice, 2000), ''));
		END LOOP;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.stage_actions(bigint[], bigint[]) IS 'Runs the actions of the stages that deals entered or passed, in the transaction of the move, each once for all deals of the statement; a timed one gets its row of crm.stage_timer. Errors: those of an action whose on_error is block, and of the transaction itself (deadlock, serialization, cancel, a full disk); 54001 actions that move deals in a circle. Called where crm.stage_log is written.';

CREATE OR REPLACE FUNCTION crm.retry_stage_action(failure_id bigint, dismiss boolean DEFAULT false) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f crm.stage_action_failure;
BEGIN
	SELECT x.* INTO f FROM crm.stage_action_failure x WHERE x.id = failure_id AND crm.sees_deal(x.deal_id) FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('failure %s does not exist', coalesce(failure_id::text, 'NULL')),
			HINT = 'SELECT id, deal_id, words FROM crm.stage_action_failure WHERE resolved_at IS NULL;';
	END IF;
	IF f.resolved_at IS NOT NULL THEN
		RETURN false;
	END IF;
	IF dismiss IS NOT TRUE THEN
		PERFORM crm.stage_action_do(f.stage_action_id, ARRAY[f.deal_id], ARRAY[f.stage_log_id]);
	END IF;
	UPDATE crm.stage_action_failure x SET resolved_at = crm.now(), resolved_by = crm.me_name() WHERE x.id = f.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.retry_stage_action(bigint, boolean) IS 'Does an action that failed after all, or puts it away (dismiss). False: that was done before. Errors: P0002 no such failure; the action''s own, and then it stays open.';

-- ---- duties -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.stage_action_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'warning', format('action "%s" of stage "%s"', a.action, s.code),
		format('failed for %s deals that moved all the same, at last deal %s: %s', f.n, l.deal_id, l.words),
		'SELECT crm.retry_stage_action(id) FROM crm.stage_action_failure WHERE resolved_at IS NULL AND stage_action_id = ' || a.id || ';', f.since
	FROM (SELECT x.stage_action_id, count(*) AS n, min(x.at) AS since, max(x.id) AS last FROM crm.stage_action_failure x WHERE x.resolved_at IS NULL GROUP BY 1) f
	JOIN crm.stage_action_failure l ON l.id = f.last
	JOIN crm.stage_action a ON a.id = f.stage_action_id
	JOIN crm.stage s ON s.id = a.stage_id
	UNION ALL
	SELECT 'warning', format('action "%s" of stage "%s"', a.action, s.code), 'it is not registered: deals that enter the stage ' || CASE a.on_error WHEN 'block' THEN 'are held' ELSE 'are flagged' END,
		'SELECT crm.register_stage_action(…) again; a DBA''s own actions are in no dump.', NULL
	FROM crm.stage_action a JOIN crm.stage s ON s.id = a.stage_id
	WHERE a.enabled AND NOT EXISTS (SELECT FROM crm.stage_action_kind k WHERE k.action = a.action);
END;
COMMENT ON FUNCTION crm.stage_action_health() IS 'Rows of crm.health: stage actions that failed and were flagged, and those that are not registered.';
SELECT crm.register_hook('health', 'stage_action', 'crm.stage_action_health');

SELECT crm.register_foreign_key('crm.stage_action', 'funnel_id', 'crm.funnel');
SELECT crm.register_foreign_key('crm.stage_action', 'stage_id', 'crm.stage');
SELECT crm.register_foreign_key('crm.stage_action_failure', 'stage_action_id', 'crm.stage_action', 'id', on_delete => 'CASCADE');
SELECT crm.register_no_foreign_key('crm.stage_action_failure', 'stage_log_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.stage_action_failure', 'deal_id', 'history outlives what it tells of');
