-- activity: tasks. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.

-- ---- what the triggers do ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.task_tell() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NEW;						-- a restore
	END IF;
	IF TG_OP = 'UPDATE' AND OLD.state <> 'open' AND NEW.state <> OLD.state
		AND NOT (OLD.state = 'done' AND NEW.state = 'open' AND NEW.reason <> '' AND NEW.done_at IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('task %s is %s and cannot become %s', OLD.id, OLD.state, NEW.state),
			HINT = format('Give a new task, or have it done again: SELECT crm.accept_task(%s, false, ''why'');', OLD.id);
	END IF;
	NEW.overdue_level := 0;
	NEW.tell_at := CASE WHEN NEW.state = 'open' THEN NEW.due_at END;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.task_tell() IS 'Trigger function of crm.task, before a row is written: the escalation starts at the deadline; refuses with 55000 to change a task that is closed, but for crm.accept_task(id, false). Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.task_events(task_ids bigint[], whats text[], cause_ids bigint[]) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, cause_id, data)
	SELECT 'task.' || i.what, 'task', t.id, t.company_id, i.cause_id,
		jsonb_build_object('task', t.name, 'task_id', t.id, 'employee', e.name, 'giver', g.name, 'company', c.name,
			'due_local', to_char(t.due_at AT TIME ZONE coalesce(e.time_zone, current_setting('crm.time_zone')), 'DD.MM.YYYY HH24:MI'),
			'result', left(t.result, 500), 'reason', left(t.reason, 500), 'priority', t.priority)
		|| CASE i.what WHEN 'overdue' THEN jsonb_build_object('level', t.overdue_level, 'to_whom', x.to_whom, 'days', x.working_days) ELSE '{}' END
	FROM unnest($1, $2, $3) WITH ORDINALITY AS i(id, what, cause_id, n)
	CROSS JOIN LATERAL (SELECT y.* FROM crm.task y WHERE y.id = i.id OFFSET 0) t
	LEFT JOIN LATERAL (SELECT y.name, y.time_zone FROM crm.employee y WHERE y.id = t.employee_id OFFSET 0) e ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.employee y WHERE y.id = t.giver_id OFFSET 0) g ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = t.company_id OFFSET 0) c ON true
	LEFT JOIN LATERAL (SELECT y.to_whom, y.working_days FROM crm.task_escalation y WHERE i.what = 'overdue' AND y.level = t.overdue_level OFFSET 0) x ON true
	ORDER BY i.n
$$;
COMMENT ON FUNCTION crm.task_events(bigint[], text[], bigint[]) IS 'Emits events of tasks, with names, the deadline in the doer''s zone, result and reason: for each task what happened (added, done, cancelled, overdue) and the event that caused it.';

CREATE OR REPLACE FUNCTION crm.task_added() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	ids    bigint[];
	whats  text[];
	causes bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.task_log (task_id, what, due_at, employee_id, event_id)
	SELECT f.id, 'added', f.due_at, f.employee_id, f.cause_event_id FROM fresh f ORDER BY f.id;
	-- what an import brings as done is history and no news
	SELECT array_agg(f.id ORDER BY f.id), array_agg('added'::text ORDER BY f.id), array_agg(f.cause_event_id ORDER BY f.id) INTO ids, whats, causes
	FROM fresh f WHERE f.state = 'open';
	PERFORM crm.task_events(ids, whats, causes) WHERE ids IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.task_added() IS 'Trigger function of crm.task: logs new tasks, all of a statement at once, and emits task.added for those that are open. Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.task_changed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	ids   bigint[];
	whats text[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- planned anew: the plan for one row would serve a million
	EXECUTE $pairs$
		SELECT array_agg(c.id ORDER BY c.id, c.n), array_agg(c.what ORDER BY c.id, c.n)
		FROM (
			SELECT a.id, w.what, w.n
			FROM before_ b JOIN after_ a ON a.id = b.id
			CROSS JOIN LATERAL (VALUES
				(1, 'given', a.employee_id IS DISTINCT FROM b.employee_id),
				(2, 'moved', a.due_at <> b.due_at),
				(3, CASE a.state WHEN 'open' THEN 'returned' ELSE a.state END, a.state <> b.state),
				(4, 'accepted', a.accepted_at IS NOT NULL AND b.accepted_at IS NULL),
				(5, 'overdue', a.overdue_level > b.overdue_level)) AS w(n, what, holds)
			WHERE w.holds) c
		$pairs$ INTO ids, whats;
	IF ids IS NULL THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.task_log (task_id, what, due_at, employee_id, words)
	SELECT c.id, c.what, t.due_at, t.employee_id,
		CASE c.what WHEN 'done' THEN t.result WHEN 'overdue' THEN t.overdue_level::text WHEN 'accepted' THEN NULL ELSE t.reason END
	FROM unnest(ids, whats) WITH ORDINALITY AS c(id, what, n)
	CROSS JOIN LATERAL (SELECT y.due_at, y.employee_id, y.result, y.reason, y.overdue_level FROM crm.task y WHERE y.id = c.id OFFSET 0) t
	ORDER BY c.n;
	SELECT array_agg(c.id ORDER BY c.n), array_agg(c.what ORDER BY c.n) INTO ids, whats
	FROM unnest(ids, whats) WITH ORDINALITY AS c(id, what, n) WHERE c.what IN ('done', 'cancelled', 'overdue');
	PERFORM crm.task_events(ids, whats, NULL) WHERE ids IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.task_changed() IS 'Trigger function of crm.task, after an UPDATE: logs each change and emits task.done, task.cancelled and task.overdue, all of a statement at once. Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.task_escalation_keep() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF OLD.shipped THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('step %s of the escalation came with the product and cannot be deleted', OLD.level),
			HINT = format('Switch it off: UPDATE crm.task_escalation SET enabled = false WHERE level = %s;', OLD.level);
	END IF;
	RETURN OLD;
END
$$;
COMMENT ON FUNCTION crm.task_escalation_keep() IS 'Trigger function: refuses to delete a step that ships, with 55000.';

-- ---- by hand ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.add_task(name text, employee_id bigint, due_at timestamptz, company_id bigint DEFAULT NULL, contact_id bigint DEFAULT NULL,
	note text DEFAULT NULL, source text DEFAULT 'manual', source_id text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	made bigint;
BEGIN
	IF due_at IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('the task "%s" has no deadline', left(name, 100)),
			HINT = 'Nothing is to be done some day: give the time by which it is to be done.';
	END IF;
	IF employee_id IS NOT NULL AND NOT EXISTS (SELECT FROM crm.employee e WHERE e.id = $2 AND e.dismissed_at IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('employee %s is not there, or has left', $2), HINT = 'SELECT id, name FROM crm.employee WHERE dismissed_at IS NULL;';
	END IF;
	IF company_id IS NOT NULL AND NOT crm.sees_company(company_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('company %s does not exist', company_id), HINT = 'SELECT id, name FROM crm.company lists those that you see.';
	END IF;
	INSERT INTO crm.task (name, employee_id, giver_id, due_at, company_id, contact_id, note, source, source_id)
	VALUES ($1, $2, crm.me(), $3, $4, $5, $6, $7, $8)
	ON CONFLICT ON CONSTRAINT task_source_key DO NOTHING
	RETURNING id INTO made;
	IF made IS NULL THEN
		SELECT t.id INTO made FROM crm.task t WHERE t.source = $7 AND t.source_id = $8;
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.add_task(text, bigint, timestamptz, bigint, bigint, text, text, text) IS 'Gives a task: what, to whom (crm.employee.id; NULL: to nobody yet), by when; returns its number. The same source and source_id a second time gives the number of the first and changes nothing. Errors: 22004 no deadline, 23503 no such employee or contact, P0002 no such company, 23514 a name or note that is too long. Claim 90.';

CREATE OR REPLACE FUNCTION crm.task_open(task_id bigint) RETURNS crm.task
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task;
BEGIN
	SELECT x.* INTO t FROM crm.task x WHERE x.id = task_id FOR NO KEY UPDATE;
	IF NOT FOUND OR NOT (crm.sees_employee(t.employee_id) OR coalesce(t.giver_id = crm.me(), false) OR t.company_id IS NOT NULL AND crm.sees_company(t.company_id)) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('task %s does not exist', coalesce(task_id::text, 'NULL')), HINT = 'SELECT id, name FROM crm.task WHERE state = ''open'';';
	END IF;
	RETURN t;
END
$$;
COMMENT ON FUNCTION crm.task_open(bigint) IS 'The row of a task that the person who speaks may see, locked. Error P0002 where it is not there.';

CREATE OR REPLACE FUNCTION crm.finish_task(task_id bigint, result text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task := crm.task_open(task_id);
BEGIN
	IF t.state = 'done' THEN
		RETURN false;
	END IF;
	UPDATE crm.task x SET state = 'done', done_at = crm.now(), result = $2 WHERE x.id = t.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.finish_task(bigint, text) IS 'A task was done, with what result. True: now; false: it was done before, and nothing is written. Errors: P0002 no such task, 55000 it was cancelled.';

CREATE OR REPLACE FUNCTION crm.cancel_task(task_id bigint, reason text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task := crm.task_open(task_id);
BEGIN
	IF coalesce(trim(reason), '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('task %s is not cancelled without a reason', task_id), HINT = 'Nothing is closed silently: say why in a few words.';
	END IF;
	IF t.state = 'cancelled' THEN
		RETURN false;
	END IF;
	UPDATE crm.task x SET state = 'cancelled', done_at = crm.now(), reason = $2 WHERE x.id = t.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.cancel_task(bigint, text) IS 'A task need not be done, and why. True: now; false: it was cancelled before. Errors: P0002 no such task, 22023 no reason, 55000 it was done.';

CREATE OR REPLACE FUNCTION crm.move_task(task_id bigint, due_at timestamptz, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task := crm.task_open(task_id);
BEGIN
	IF due_at IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('task %s would have no deadline', task_id), HINT = 'Give the new time by which it is to be done.';
	END IF;
	IF t.state <> 'open' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('task %s is %s and has no deadline to move', task_id, t.state), HINT = 'Give a new task.';
	END IF;
	IF t.due_at = $2 THEN
		RETURN false;
	END IF;
	UPDATE crm.task x SET due_at = $2, reason = $3 WHERE x.id = t.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.move_task(bigint, timestamptz, text) IS 'Gives an open task another deadline; the one before stays in crm.task_log, and the escalation starts anew. False: it is the same. Errors: P0002, 22004 no time, 55000 it is closed.';

CREATE OR REPLACE FUNCTION crm.give_task(task_id bigint, employee_id bigint, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task := crm.task_open(task_id);
BEGIN
	IF NOT EXISTS (SELECT FROM crm.employee e WHERE e.id = $2 AND e.dismissed_at IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('employee %s is not there, or has left', $2), HINT = 'SELECT id, name FROM crm.employee WHERE dismissed_at IS NULL;';
	END IF;
	IF t.state <> 'open' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('task %s is %s', task_id, t.state), HINT = 'Give a new task.';
	END IF;
	IF t.employee_id = $2 THEN
		RETURN false;
	END IF;
	UPDATE crm.task x SET employee_id = $2, reason = $3 WHERE x.id = t.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.give_task(bigint, bigint, text) IS 'Gives an open task to another employee. False: it is his. Errors: P0002, 23503 no such employee, 55000 it is closed.';

CREATE OR REPLACE FUNCTION crm.accept_task(task_id bigint, accepted boolean DEFAULT true, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task := crm.task_open(task_id);
BEGIN
	IF t.state <> 'done' OR t.accepted_at IS NOT NULL AND accepted IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('task %s is %s: there is nothing to judge', task_id, CASE WHEN t.accepted_at IS NULL THEN t.state ELSE 'accepted' END),
			HINT = 'What was done is accepted or given back, once.';
	END IF;
	IF accepted THEN
		IF t.accepted_at IS NOT NULL THEN
			RETURN false;
		END IF;
		UPDATE crm.task x SET accepted_at = crm.now(), accepted_by = crm.me_name() WHERE x.id = t.id;
	ELSE
		IF coalesce(trim(reason), '') = '' THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('task %s is not given back without a reason', task_id), HINT = 'Say in a few words what is missing.';
		END IF;
		UPDATE crm.task x SET state = 'open', done_at = NULL, reason = $3, result = NULL WHERE x.id = t.id;
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.accept_task(bigint, boolean, text) IS 'The giver accepts what was done, or (false, with a reason) gives it back: the task is open again, with its deadline. False: it was accepted before. Errors: P0002, 22023 no reason, 55000 it is not done. Claim 90.';

CREATE OR REPLACE FUNCTION crm.comment_task(task_id bigint, words text) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.task := crm.task_open(task_id);
	made bigint;
BEGIN
	IF coalesce(trim(words), '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no words for task %s', task_id), HINT = 'Write what there is to say.';
	END IF;
	INSERT INTO crm.task_log (task_id, what, due_at, employee_id, words) VALUES (t.id, 'comment', t.due_at, t.employee_id, $2) RETURNING id INTO made;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.comment_task(bigint, text) IS 'Adds a comment to a task, open or closed; returns the row of crm.task_log. Errors: P0002, 22023 no words, 23514 more than 10000 characters.';

CREATE OR REPLACE FUNCTION crm.add_note(text text, company_id bigint DEFAULT NULL, contact_id bigint DEFAULT NULL, source text DEFAULT 'manual', source_id text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	made bigint;
BEGIN
	IF company_id IS NULL AND contact_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'a note is about a company or a contact', HINT = 'Give company_id or contact_id.';
	END IF;
	IF company_id IS NOT NULL AND NOT crm.sees_company(company_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('company %s does not exist', company_id), HINT = 'SELECT id, name FROM crm.company lists those that you see.';
	END IF;
	INSERT INTO crm.note (text, company_id, contact_id, source, source_id) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT ON CONSTRAINT note_source_key DO NOTHING
	RETURNING id INTO made;
	IF made IS NULL THEN
		SELECT n.id INTO made FROM crm.note n WHERE n.source = $4 AND n.source_id = $5;
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.add_note(text, bigint, bigint, text, text) IS 'Writes a note about a company or a contact; returns its number, and for a source and source_id that was there the number of the first. Errors: 22004 about nothing, P0002 no such company, 23503 no such contact, 23514 too long.';

-- ---- escalation -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.tasks_due() RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	due    bigint[];
	moment constant timestamptz := crm.clock();
	at     timestamptz;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(x.id) INTO due FROM (
		SELECT t.id FROM crm.task t WHERE t.tell_at <= moment ORDER BY t.tell_at LIMIT 500 FOR NO KEY UPDATE SKIP LOCKED) x;
	IF due IS NOT NULL THEN
		-- The latest step whose time has come is told; what was slept through is told once.
		UPDATE crm.task t SET overdue_level = coalesce(n.told, t.overdue_level), tell_at = n.next
		FROM (
			SELECT y.id,
				(SELECT max(s.level) FROM crm.task_escalation s WHERE s.enabled AND s.level > y.overdue_level
					AND crm.working_days_later(y.due_at, s.working_days, y.calendar, y.zone) <= moment OR s.enabled AND s.working_days = 0 AND s.level > y.overdue_level) AS told,
				(SELECT min(crm.working_days_later(y.due_at, s.working_days, y.calendar, y.zone)) FROM crm.task_escalation s WHERE s.enabled AND s.working_days > 0
					AND s.level > y.overdue_level AND crm.working_days_later(y.due_at, s.working_days, y.calendar, y.zone) > moment) AS next
			FROM (
				SELECT k.id, k.due_at, k.overdue_level, coalesce(e.calendar_code, 'office') AS calendar, coalesce(e.time_zone, current_setting('crm.time_zone')) AS zone
				FROM unnest(due) AS d(id)
				CROSS JOIN LATERAL (SELECT z.id, z.due_at, z.overdue_level, z.employee_id FROM crm.task z WHERE z.id = d.id OFFSET 0) k
				LEFT JOIN LATERAL (SELECT z.calendar_code, z.time_zone FROM crm.employee z WHERE z.id = k.employee_id OFFSET 0) e ON true
			) y
		) n
		WHERE t.id = ANY (ARRAY[n.id]);
	END IF;
	SELECT t.tell_at INTO at FROM crm.task t WHERE t.tell_at IS NOT NULL ORDER BY t.tell_at LIMIT 1;
	RETURN greatest(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 100 END);
END
$$;
COMMENT ON FUNCTION crm.tasks_due() IS 'Hook due: tells of tasks whose deadline, or whose next step of crm.task_escalation, has come, 500 a call, and says when the next one comes (crm.monotonic_ms). Of steps that were slept through only the last is told. Claim 10.';

CREATE OR REPLACE FUNCTION crm.task_people(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT DISTINCT x.id, crm.employee_contact(x.who)
	FROM (
		SELECT e.id, w.who
		FROM crm.event e
		CROSS JOIN LATERAL (SELECT y.employee_id, y.giver_id FROM crm.task y WHERE y.id = e.object_id OFFSET 0) t
		CROSS JOIN LATERAL (
			SELECT CASE coalesce(e.data ->> 'to_whom', 'doer') WHEN 'doer' THEN t.employee_id WHEN 'giver' THEN t.giver_id END AS who
			UNION ALL
			-- the doer''s head; a task that nobody does goes to every head
			SELECT h.id FROM crm.employee h
			WHERE e.data ->> 'to_whom' = 'head' AND h.is_head AND h.dismissed_at IS NULL AND h.id IS DISTINCT FROM t.employee_id
				AND (t.employee_id IS NULL OR h.team_id = (SELECT d.team_id FROM crm.employee d WHERE d.id = t.employee_id))
		) w
		WHERE e.id = ANY ($1) AND e.object_kind = 'task' AND w.who IS NOT NULL OFFSET 0
	) x
	WHERE crm.employee_contact(x.who) IS NOT NULL
$$;
COMMENT ON FUNCTION crm.task_people(bigint[]) IS 'Audience: whom the step of the escalation names (doer, head of his team, giver); of other events of a task the doer';

CREATE OR REPLACE FUNCTION crm.task_giver(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT x.id, crm.employee_contact(x.who)
	FROM (SELECT e.id, t.giver_id AS who FROM crm.event e
		CROSS JOIN LATERAL (SELECT y.giver_id, y.employee_id FROM crm.task y WHERE y.id = e.object_id OFFSET 0) t
		WHERE e.id = ANY ($1) AND e.object_kind = 'task' AND t.giver_id IS DISTINCT FROM t.employee_id OFFSET 0) x
	WHERE crm.employee_contact(x.who) IS NOT NULL
$$;
COMMENT ON FUNCTION crm.task_giver(bigint[]) IS 'Audience: who gave the task, where somebody else does it';

CREATE OR REPLACE FUNCTION crm.task_open_still(task_id bigint) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT t.state = 'open' FROM crm.task t WHERE t.id = $1 AND (crm.for_plant() OR crm.sees_task(t.id));
END;
COMMENT ON FUNCTION crm.task_open_still(bigint) IS 'Whether a task is still to be done. For the truth of rules';

-- ---- duties -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.task_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'warning', 'tasks', format('%s open tasks have nobody who does them, or one who has left', count(*)),
		'SELECT crm.give_task(t.id, …) FROM crm.task t LEFT JOIN crm.employee e ON e.id = t.employee_id WHERE t.state = ''open'' AND (e.id IS NULL OR e.dismissed_at IS NOT NULL);', min(t.created_at)
	FROM crm.task t LEFT JOIN crm.employee e ON e.id = t.employee_id
	WHERE t.state = 'open' AND (e.id IS NULL OR e.dismissed_at <= crm.now()) AND crm.guard()
	HAVING count(*) > 0;
END;
COMMENT ON FUNCTION crm.task_health() IS 'Row of crm.health: open tasks without a doer.';

CREATE OR REPLACE FUNCTION crm.task_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'no task is closed silently', count(*) = 0, format('%s of the newest 500 closed tasks have no row in their log', count(*))
	FROM (SELECT x.id, x.state FROM crm.task x WHERE x.state <> 'open' ORDER BY x.id DESC LIMIT 500) t
	WHERE NOT EXISTS (SELECT FROM crm.task_log l WHERE l.task_id = t.id AND l.what IN (t.state, 'added'));
END;
COMMENT ON FUNCTION crm.task_selftest() IS 'What must hold of tasks; a part of crm.selftest().';

CREATE OR REPLACE FUNCTION crm.tasks_activate() RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE crm.task SET tell_at = due_at WHERE state = 'open' AND tell_at IS NULL AND overdue_level = 0;
END;
COMMENT ON FUNCTION crm.tasks_activate() IS 'Hook activate: tasks that came while the database slept are told of too.';

CREATE OR REPLACE FUNCTION crm.ship_activity() RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t record;
BEGIN
	INSERT INTO crm.task_escalation (level, working_days, to_whom, shipped) VALUES (1, 0, 'doer', true), (2, 1, 'head', true), (3, 5, 'giver', true)
	ON CONFLICT (level) DO NOTHING;
	FOR t IN SELECT * FROM (VALUES
		('task.overdue', 'Просрочена задача «{{task}}»: срок {{due_local}}, исполнитель {{employee}}. {{company}}', 'Overdue: "{{task}}", due {{due_local}}, {{employee}}. {{company}}'),
		('task.added', 'Новая задача «{{task}}», срок {{due_local}}. {{company}}', 'New task: "{{task}}", due {{due_local}}. {{company}}'),
		('task.done', 'Задача «{{task}}» выполнена: {{employee}}. {{result}}', 'Done: "{{task}}", {{employee}}. {{result}}')
	) AS v(code, ru, en) LOOP
		PERFORM crm.ship_template(t.code, 'sms', 'ru', NULL, t.ru, NULL), crm.ship_template(t.code, 'sms', 'en', NULL, t.en, NULL);
	END LOOP;
	PERFORM crm.ship_rule('task.overdue', '{"event_kind": "task.overdue", "audience": "task_people", "channel": "sms", "template": "task.overdue",
		"truth": "crm.task_open_still(object_id)", "expires_after": "24 hours"}');
	-- These two speak at every task: whoever wants them switches them on, as the presets do.
	PERFORM crm.ship_rule('task.added', '{"event_kind": "task.added", "audience": "task_people", "channel": "sms", "template": "task.added",
		"truth": "crm.task_open_still(object_id)", "expires_after": "24 hours", "enabled": false}');
	PERFORM crm.ship_rule('task.done', '{"event_kind": "task.done", "audience": "task_giver", "channel": "sms", "template": "task.done", "expires_after": "24 hours", "enabled": false}');
END
$$;
COMMENT ON FUNCTION crm.ship_activity() IS 'Brings the steps of the escalation and the rules about tasks; what the DBA changed or switched stays. Called by crm.activate(). Claims 10 and 90';

SELECT crm.register_event_kind('task.added', 'task', ARRAY['task', 'task_id', 'employee', 'giver', 'company', 'due_local', 'result', 'reason', 'priority'],
	'A task was given', 'Поставлена задача');
SELECT crm.register_event_kind('task.done', 'task', ARRAY['task', 'task_id', 'employee', 'giver', 'company', 'due_local', 'result', 'reason', 'priority'],
	'A task was done', 'Задача выполнена');
SELECT crm.register_event_kind('task.cancelled', 'task', ARRAY['task', 'task_id', 'employee', 'giver', 'company', 'due_local', 'result', 'reason', 'priority'],
	'A task was cancelled', 'Задача отменена');
SELECT crm.register_event_kind('task.overdue', 'task', ARRAY['task', 'task_id', 'employee', 'giver', 'company', 'due_local', 'result', 'reason', 'priority', 'level', 'to_whom', 'days'],
	'A task is overdue, or still is after so many working days', 'Задача просрочена');
SELECT crm.register_audience('task_people', 'crm.task_people', 'Whom the escalation of a task names; of other events of a task its doer');
SELECT crm.register_audience('task_giver', 'crm.task_giver', 'Who gave the task, where somebody else does it');
SELECT crm.register_truth('task_open_still', 'crm.task_open_still', 'Whether a task is still to be done');
SELECT crm.register_hook('activate', 'task', 'crm.tasks_activate');
SELECT crm.register_hook('ship', 'activity', 'crm.ship_activity');
SELECT crm.register_hook('due', 'task', 'crm.tasks_due');
SELECT crm.register_hook('health', 'task', 'crm.task_health');
SELECT crm.register_hook('selftest', 'task', 'crm.task_selftest');

SELECT crm.register_foreign_key('crm.task', 'employee_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.task', 'giver_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.task', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.task', 'contact_id', 'crm.contact');
SELECT crm.register_no_foreign_key('crm.task', 'source_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.task', 'cause_event_id', 'events are partitioned and never deleted');
SELECT crm.register_no_foreign_key('crm.task_log', c.name, 'history outlives what it tells of') FROM unnest(ARRAY['task_id', 'employee_id', 'event_id']) AS c(name);
SELECT crm.register_foreign_key('crm.note', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.note', 'contact_id', 'crm.contact');
SELECT crm.register_no_foreign_key('crm.note', 'source_id', 'an id of another system');
