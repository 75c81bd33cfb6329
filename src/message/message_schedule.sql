/*
 * message: schedules, and what is due by the business clock.  May be run again
 * at any time.
 *
 * The first courier asks crm.courier_due() at the nearest of all times and soon
 * after each commit that wakes it; the hooks due run what is due and say when
 * they want to be asked next.  A planned moment is run in the transaction that
 * writes its row of crm.schedule_run: two couriers, a crash and a clock that
 * jumps all meet that row.
 */

CREATE OR REPLACE FUNCTION crm.register_schedule_action(action text, function text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM crm.check_kind_function('schedule', $2);
	INSERT INTO crm.schedule_action AS a (action, function) VALUES ($1, $2)
	ON CONFLICT ON CONSTRAINT schedule_action_pkey DO UPDATE SET function = excluded.function;
END
$$;
COMMENT ON FUNCTION crm.register_schedule_action(text, text) IS
'Adds something that a schedule may do: a function f(schedule_id bigint, planned_at timestamptz) RETURNS void, written with its schema; it runs as its owner (crm_courier where that is a superuser), for at most five seconds, and whatever it does belongs to the transaction that notes the moment as run. A DBA''s own actions are registered again after a restore. Errors: those of crm.check_kind_function()';

CREATE OR REPLACE FUNCTION crm.schedule_next(rrule text, starts_at timestamptz, zone text, holidays text, calendar text, after timestamptz) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	occurs timestamptz;
	moved timestamptz;
	best timestamptz;
	here timestamp;
	day date;
	step integer := CASE holidays WHEN 'before' THEN -1 ELSE 1 END;
	turns integer := 0;
	tries integer;
	edge timestamptz := after;
BEGIN
	IF holidays = 'keep' THEN
		RETURN crm.rrule_next(rrule, starts_at, zone, after);
	END IF;
	IF holidays = 'after' THEN
		-- what falls on the days off before may still be to come
		day := (after AT TIME ZONE zone)::date;
		FOR i IN 1 .. 31 LOOP
			EXIT WHEN crm.is_working_day(day - i, calendar);
			edge := (day - i)::timestamp AT TIME ZONE zone - interval '1 microsecond';
		END LOOP;
		IF NOT crm.is_working_day(day, calendar) THEN
			edge := LEAST(edge, day::timestamp AT TIME ZONE zone - interval '1 microsecond');
		END IF;
	END IF;
	occurs := edge;
	LOOP
		occurs := crm.rrule_next(rrule, starts_at, zone, occurs);
		turns := turns + 1;
		EXIT WHEN occurs IS NULL OR turns > 1000 OR occurs > after + interval '5 years';
		EXIT WHEN best IS NOT NULL AND holidays = 'after' AND occurs >= best;
		here := occurs AT TIME ZONE zone;
		day := here::date;
		IF best IS NOT NULL AND holidays = 'before' THEN
			EXIT WHEN crm.is_working_day(day, calendar);	-- nothing behind a worked day moves before it
		END IF;
		tries := 0;
		WHILE NOT crm.is_working_day(day, calendar) LOOP
			tries := tries + 1;
			EXIT WHEN holidays = 'skip' OR tries > 31;
			day := day + step;
		END LOOP;
		IF holidays = 'skip' THEN
			IF tries = 0 THEN
				RETURN occurs;
			END IF;
			-- a rule of minutes is not asked through a whole holiday
			occurs := ((day + 1)::timestamp AT TIME ZONE zone) - interval '1 microsecond';
			CONTINUE;
		END IF;
		moved := CASE WHEN tries = 0 THEN occurs ELSE (day + here::time) AT TIME ZONE zone END;
		IF moved > after AND (best IS NULL OR moved < best) THEN
			best := moved;
		END IF;
		IF best IS NOT NULL AND holidays = 'before' AND tries = 0 THEN
			EXIT;
		END IF;
	END LOOP;
	RETURN best;
END
$$;
COMMENT ON FUNCTION crm.schedule_next(text, timestamptz, text, text, text, timestamptz) IS
'The first moment behind "after" of a recurrence rule moved about the days off of a calendar (crm.schedule.holidays): keep, skip, before, after; NULL: none comes, or with days off none in five years and a thousand moments. Errors: those of crm.rrule_next(), 22023 for an unknown calendar';

CREATE OR REPLACE FUNCTION crm.schedule_save() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NEW;						-- a restore
	END IF;
	IF TG_OP = 'UPDATE' THEN
		IF NEW.id <> OLD.id OR NEW.code <> OLD.code THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('schedule "%s" cannot change its code', OLD.code),
				HINT = 'Add a new schedule and switch the old one off.';
		END IF;
		IF (NEW.action, NEW.rrule, NEW.starts_at, NEW.zone, NEW.holidays, NEW.calendar_code, NEW.enabled)
			IS NOT DISTINCT FROM (OLD.action, OLD.rrule, OLD.starts_at, OLD.zone, OLD.holidays, OLD.calendar_code, OLD.enabled)
			AND NOT (OLD.broken IS NOT NULL AND NEW.broken IS NULL) THEN
			RETURN NEW;
		END IF;
	END IF;
	PERFORM FROM crm.schedule_action a WHERE a.action = NEW.action;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('schedule "%s" names an unknown action: %s', NEW.code, NEW.action),
			HINT = COALESCE('Known are: ' || (SELECT string_agg(a.action, ', ' ORDER BY a.action) FROM crm.schedule_action a) || '.', 'Register it with crm.register_schedule_action().');
	END IF;
	PERFORM crm.calendar_check(NEW.calendar_code, NEW.zone);
	PERFORM crm.rrule_check(NEW.rrule);
	NEW.broken := NULL;
	NEW.tries := 0;
	NEW.edited_at := crm.now();
	NEW.edited_by := session_user;
	NEW.next_at := crm.schedule_next(NEW.rrule, NEW.starts_at, NEW.zone, NEW.holidays, NEW.calendar_code, GREATEST(crm.now(), NEW.last_at));
	NEW.due_at := NEW.next_at;
	IF NEW.next_at IS NULL AND crm.schedule_next(NEW.rrule, NEW.starts_at, NEW.zone, NEW.holidays, NEW.calendar_code, NEW.starts_at - interval '1 second') IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('schedule "%s" never comes: %s from %s', NEW.code, NEW.rrule, NEW.starts_at),
			HINT = 'Look whether starts_at, INTERVAL and the days of the rule, and its holidays, fit together.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.schedule_save() IS 'Checks a schedule when its definition is saved and counts its next moment from now on: what lies behind is not run. Errors: 22023 rule, zone, calendar, a schedule that never comes; 23503 unknown action';

CREATE OR REPLACE FUNCTION crm.add_schedule(code text, action text, rrule text, starts_at timestamptz, zone text, holidays text DEFAULT 'keep',
	args jsonb DEFAULT '{}', contact_id bigint DEFAULT NULL) RETURNS bigint
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.schedule AS s (code, action, rrule, starts_at, zone, holidays, args, contact_id)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
	ON CONFLICT (code) DO UPDATE SET action = excluded.action, rrule = excluded.rrule, starts_at = excluded.starts_at, zone = excluded.zone,
		holidays = excluded.holidays, args = excluded.args, contact_id = excluded.contact_id, enabled = true, broken = NULL
	RETURNING s.id;
END;
COMMENT ON FUNCTION crm.add_schedule(text, text, text, timestamptz, text, text, jsonb, bigint) IS
'Adds a schedule, or gives the one of that code a new definition and switches it on; returns its number. Its moments count from now on. rrule: RFC 5545 (crm.rrule_check); starts_at: DTSTART; zone: IANA name; holidays: keep, skip, before, after. Switch off with crm.switch_schedule(code, false). Errors: 22023 rule, zone, calendar or a schedule that never comes, 23503 unknown action, 23514 a bad code or holidays';

CREATE OR REPLACE FUNCTION crm.switch_schedule(code text, "on" boolean) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	UPDATE crm.schedule s SET enabled = $2 WHERE s.code = $1 AND (s.contact_id IS NULL OR crm.sees_contact(s.contact_id));
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('there is no schedule "%s"', $1), HINT = 'SELECT code, action, next_at FROM crm.schedule; lists them.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.switch_schedule(text, boolean) IS 'Switches a schedule on or off; one that is switched on counts from now. Error 23503 for an unknown code';

-- Running -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.schedule_turn(schedule crm.schedule) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	moment constant timestamptz := crm.clock();
	edge constant timestamptz := moment - schedule.catch_up;
	at timestamptz := schedule.next_at;
	first timestamptz;
	newest timestamptz;
	listed integer := 0;
	ran boolean := false;
	f text;
	state text;
	words text;
BEGIN
	BEGIN
		-- nobody ran these, and it is too late
		WHILE at < edge AND listed < 100 LOOP
			INSERT INTO crm.schedule_run (schedule_id, planned_at, result) VALUES (schedule.id, at, 'missed') ON CONFLICT DO NOTHING;
			listed := listed + 1;
			first := at;
			at := crm.schedule_next(schedule.rrule, schedule.starts_at, schedule.zone, schedule.holidays, schedule.calendar_code, at);
		END LOOP;
		IF at < edge THEN
			first := at;
			at := crm.schedule_next(schedule.rrule, schedule.starts_at, schedule.zone, schedule.holidays, schedule.calendar_code, edge - interval '1 microsecond');
			INSERT INTO crm.schedule_run (schedule_id, planned_at, result, words)
			VALUES (schedule.id, first, 'missed', format('and all after it before %s', edge)) ON CONFLICT DO NOTHING;
		END IF;
		WHILE at <= moment LOOP
			IF newest IS NOT NULL THEN
				INSERT INTO crm.schedule_run (schedule_id, planned_at, result) VALUES (schedule.id, newest, 'missed') ON CONFLICT DO NOTHING;
			END IF;
			newest := at;
			at := crm.schedule_next(schedule.rrule, schedule.starts_at, schedule.zone, schedule.holidays, schedule.calendar_code, at);
		END LOOP;
	EXCEPTION WHEN others THEN
		UPDATE crm.schedule s SET broken = SQLERRM WHERE s.id = schedule.id;
		RETURN;
	END;

	IF newest IS NOT NULL THEN
		SELECT a.function INTO f FROM crm.schedule_action a WHERE a.action = schedule.action;
		BEGIN
			IF f IS NULL THEN
				RAISE EXCEPTION USING ERRCODE = '42883', MESSAGE = format('action "%s" is not registered', schedule.action),
					HINT = 'crm.register_schedule_action(): a DBA''s own actions are registered again after a restore.';
			END IF;
			INSERT INTO crm.schedule_run (schedule_id, planned_at, result) VALUES (schedule.id, newest, 'ran') ON CONFLICT DO NOTHING;
			IF FOUND THEN
				PERFORM crm.call_schedule(f, schedule.id, newest, 5000);
				ran := true;
			END IF;
		EXCEPTION WHEN query_canceled OR assert_failure OR others THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
			IF state IN ('55P03', '40001', '40P01') AND schedule.tries < 10 THEN
				UPDATE crm.schedule s SET next_at = newest, due_at = moment + (s.tries + 1) * interval '2 seconds', tries = s.tries + 1 WHERE s.id = schedule.id;
				RETURN;
			END IF;
			INSERT INTO crm.schedule_run (schedule_id, planned_at, result, words) VALUES (schedule.id, newest, 'failed', left(words, 1000)) ON CONFLICT DO NOTHING;
			PERFORM crm.reject(NULL, format('schedule %s', schedule.code), words, state, convert_to(format('planned at %s', newest), 'UTF8'));
		END;
	END IF;
	UPDATE crm.schedule s SET next_at = at, due_at = at, tries = 0, last_at = CASE WHEN ran THEN newest ELSE s.last_at END WHERE s.id = schedule.id;
END
$$;
COMMENT ON FUNCTION crm.schedule_turn(crm.schedule) IS
'Runs the newest planned moment of a schedule that is due and not older than its catch_up, notes those that were missed (a hundred by name), and counts the next. An action that fails leaves nothing but a row of crm.schedule_run and of crm.rejected; where somebody held a lock it is tried again, ten times';

CREATE OR REPLACE FUNCTION crm.schedule_due() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	s crm.schedule%ROWTYPE;
	until_ms constant bigint := crm.monotonic_ms() + 3000;
	at timestamptz;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	FOR i IN 1 .. 500 LOOP
		SELECT x.* INTO s FROM crm.schedule x
		WHERE x.enabled AND x.broken IS NULL AND x.due_at <= crm.clock()
		ORDER BY x.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
		EXIT WHEN NOT FOUND;
		PERFORM crm.schedule_turn(s);
		EXIT WHEN crm.monotonic_ms() > until_ms;
	END LOOP;
	SELECT x.due_at INTO at FROM crm.schedule x WHERE x.enabled AND x.broken IS NULL AND x.due_at IS NOT NULL ORDER BY x.due_at LIMIT 1;
	RETURN GREATEST(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 100 END);
END
$$;
COMMENT ON FUNCTION crm.schedule_due() IS 'Hook due: runs schedules whose moment has come, for about three seconds at most, and says when the next one comes (crm.monotonic_ms)';

CREATE OR REPLACE FUNCTION crm.chain_timers() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	at timestamptz;
BEGIN
	PERFORM crm.chain_due();
	SELECT t.due_at INTO at FROM crm.message_timer t ORDER BY t.due_at LIMIT 1;
	RETURN GREATEST(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 100 END);
END
$$;
COMMENT ON FUNCTION crm.chain_timers() IS 'Hook due: crm.chain_due(), and when the next deadline of a chain comes (crm.monotonic_ms)';

CREATE OR REPLACE FUNCTION crm.schedule_maintain() RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	DELETE FROM crm.schedule_run r WHERE (r.schedule_id, r.planned_at) IN (
		SELECT x.schedule_id, x.planned_at FROM crm.schedule_run x WHERE x.at < crm.clock() - interval '400 days' ORDER BY x.at LIMIT 1000)
$$;
COMMENT ON FUNCTION crm.schedule_maintain() IS 'The courier''s housekeeping: rows of crm.schedule_run go after 400 days, a thousand a call';

CREATE OR REPLACE FUNCTION crm.schedule_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'error', 'schedule ' || s.code, format('schedule "%s" does not run: %s', s.code, s.broken),
		format('Mend it, then UPDATE crm.schedule SET broken = NULL WHERE code = %L;', s.code), s.due_at
	FROM crm.schedule s WHERE s.broken IS NOT NULL
	UNION ALL
	SELECT 'error', 'schedule ' || s.code, format('action "%s" of schedule "%s" is not registered', s.action, s.code),
		'crm.register_schedule_action(): a DBA''s own actions are registered again after a restore.', NULL
	FROM crm.schedule s WHERE s.enabled AND NOT EXISTS (SELECT FROM crm.schedule_action a WHERE a.action = s.action)
	UNION ALL
	SELECT CASE r.result WHEN 'failed' THEN 'error' ELSE 'warning' END, 'schedule ' || s.code,
		format('schedule "%s": %s moments %s in the last day%s', s.code, count(*), r.result, COALESCE(': ' || max(r.words), '')),
		'SELECT * FROM crm.schedule_run ORDER BY at DESC; tells each.', min(r.at)
	FROM crm.schedule_run r JOIN crm.schedule s ON s.id = r.schedule_id
	WHERE r.at > crm.clock() - interval '1 day' AND r.result IN ('failed', 'missed') AND s.enabled
	GROUP BY s.code, r.result
	UNION ALL
	SELECT 'warning', 'schedule ' || s.code, format('schedule "%s" was due at %s and has not run', s.code, s.due_at), 'Is the first courier running? SELECT * FROM crm.health;', s.due_at
	FROM crm.schedule s WHERE s.enabled AND s.broken IS NULL AND s.due_at < crm.clock() - interval '2 minutes' AND crm.guard() AND crm.mode() <> 'off'
$$;
COMMENT ON FUNCTION crm.schedule_health() IS 'Rows of crm.health: schedules that are broken or late, actions that failed or are not there, moments that were missed';

SELECT crm.register_hook('due', 'schedule', 'crm.schedule_due');
SELECT crm.register_hook('due', 'chain', 'crm.chain_timers');
SELECT crm.register_hook('maintain', 'schedule', 'crm.schedule_maintain');
SELECT crm.register_hook('health', 'schedule', 'crm.schedule_health');
SELECT crm.register_undumped('crm.schedule_action', 'rows of code, registered by every install');
SELECT crm.register_foreign_key('crm.schedule', 'contact_id', 'crm.contact', 'id');
SELECT crm.register_foreign_key('crm.schedule_run', 'schedule_id', 'crm.schedule', 'id', on_delete => 'CASCADE');
