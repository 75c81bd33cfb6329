-- Who is on duty, and how an employee is reached. Claim 53.

CREATE OR REPLACE FUNCTION crm.put_duty(employee_id bigint, from_day date, to_day date, from_time time, to_time time, team_id bigint DEFAULT NULL, weekdays integer[] DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	zone text;
	written integer;
BEGIN
	SELECT e.time_zone INTO zone FROM crm.employee e WHERE e.id = $1 AND e.dismissed_at IS NULL;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('employee %s is not there, or has left', $1), HINT = 'SELECT id, name FROM crm.employee WHERE dismissed_at IS NULL;';
	END IF;
	IF from_day IS NULL OR to_day IS NULL OR to_day < from_day OR to_day - from_day > 366 OR from_time IS NULL OR to_time IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no duty from %s to %s, %s to %s', from_day, to_day, from_time, to_time),
			HINT = 'Give two days at most a year apart, both included, and two times; a time to that is not behind the time from is the next morning''s.';
	END IF;
	IF NOT weekdays <@ ARRAY[1, 2, 3, 4, 5, 6, 7] THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no days of the week: %s', weekdays), HINT = 'Give numbers from 1 (Monday) to 7, or NULL for every day.';
	END IF;
	INSERT INTO crm.duty (employee_id, during, team_id)
	SELECT $1, tstzrange((d.day + from_time) AT TIME ZONE zone, (d.day + CASE WHEN to_time <= from_time THEN 1 ELSE 0 END + to_time) AT TIME ZONE zone), $6
	FROM (SELECT g::date AS day FROM generate_series(from_day::timestamp, to_day::timestamp, interval '1 day') g) d
	WHERE weekdays IS NULL OR extract(isodow FROM d.day)::integer = ANY (weekdays);
	GET DIAGNOSTICS written = ROW_COUNT;
	RETURN written;
END
$$;
COMMENT ON FUNCTION crm.put_duty(bigint, date, date, time, time, bigint, integer[]) IS 'Enters shifts of an employee: one a day from from_day to to_day, on these days of the week (1 Monday to 7; NULL: all), from from_time to to_time of the employee''s own zone (a to_time that is not behind from_time is the next morning''s), for the clients of a team or of all. Returns the number of shifts. Errors: 22023 days or times, 23503 no such employee, 23P01 somebody is on duty then already';

CREATE OR REPLACE FUNCTION crm.on_duty(at timestamptz, team_id bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.employee_id FROM crm.duty d JOIN crm.employee e ON e.id = d.employee_id
	WHERE d.during @> $1 AND (d.team_id IS NULL OR d.team_id = $2) AND (e.dismissed_at IS NULL OR e.dismissed_at > $1)
	ORDER BY d.team_id IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION crm.on_duty(timestamptz, bigint) IS 'Who is on duty at a moment for the clients of a team (crm.team.id): the team''s own shift, else the one for all; NULL: nobody';

CREATE OR REPLACE FUNCTION crm.out_of_hours(at timestamptz, company_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	who bigint := coalesce(crm.responsible($2, $1), (SELECT c.owner_id FROM crm.company c WHERE c.id = $2));
BEGIN
	IF NOT crm.for_plant() AND NOT crm.sees_company($2) THEN
		RETURN NULL;
	END IF;
	RETURN NOT coalesce(crm.employee_works(who, $1), crm.is_working_time($1, 'office', current_setting('crm.time_zone')));
END
$$;
COMMENT ON FUNCTION crm.out_of_hours(timestamptz, bigint) IS 'Whether at a moment nobody''s working hours cover a client: the responsible manager does not work then (own calendar, zone and absences); for a client without one the office''s hours count. For conditions: crm.out_of_hours(at, company_id). Claim 53';

CREATE OR REPLACE FUNCTION crm.duty_for(at timestamptz, company_id bigint) RETURNS bigint
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	who bigint := coalesce(crm.responsible($2, $1), (SELECT c.owner_id FROM crm.company c WHERE c.id = $2));
	deputy bigint;
BEGIN
	IF crm.employee_works(who, $1) THEN
		RETURN who;
	END IF;
	SELECT a.deputy_id INTO deputy FROM crm.employee e JOIN crm.absence a ON a.employee_id = e.id AND a.days @> ($1 AT TIME ZONE e.time_zone)::date
	WHERE e.id = who;
	IF crm.employee_works(deputy, $1) THEN
		RETURN deputy;
	END IF;
	RETURN crm.on_duty($1, (SELECT e.team_id FROM crm.employee e WHERE e.id = who));
END
$$;
COMMENT ON FUNCTION crm.duty_for(timestamptz, bigint) IS 'Which employee answers for a client at a moment: the responsible manager where he works then, else his deputy of that day where that one does, else who is on duty for his team, else for all; NULL: nobody';

-- ---- employees as readers ----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.employees_reachable() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO crm.contact (name, "position", time_zone, source, source_id)
	SELECT e.name, 'employee', e.time_zone, 'employee', e.id::text FROM crm.employee e
	WHERE NOT EXISTS (SELECT FROM crm.contact c WHERE c.source = 'employee' AND c.source_id = e.id::text)
	ORDER BY e.id
	ON CONFLICT (source, source_id) DO NOTHING;
	UPDATE crm.contact c SET name = e.name, time_zone = e.time_zone, archived_at = e.dismissed_at
	FROM crm.employee e
	WHERE c.source = 'employee' AND c.source_id = e.id::text
		AND (c.name, c.time_zone, c.archived_at) IS DISTINCT FROM (e.name, e.time_zone, e.dismissed_at);
	-- a line belongs to who holds it now
	DELETE FROM crm.contact_point p USING crm.contact c, crm.line l
	WHERE c.id = p.contact_id AND c.source = 'employee' AND l.kind IN ('sim', 'mailbox') AND l.value = p.value
		AND NOT EXISTS (SELECT FROM crm.line_holder h WHERE h.line_id = l.id AND h.during @> crm.now() AND h.employee_id::text = c.source_id);
	INSERT INTO crm.contact_point (contact_id, kind, value)
	SELECT c.id, CASE l.kind WHEN 'sim' THEN 'phone' ELSE 'email' END, l.value
	FROM crm.line_holder h JOIN crm.line l ON l.id = h.line_id AND l.kind IN ('sim', 'mailbox')
	JOIN crm.contact c ON c.source = 'employee' AND c.source_id = h.employee_id::text
	WHERE h.during @> crm.now() AND NOT EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = c.id AND p.value = l.value)
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.employees_reachable() IS 'Keeps one contact of no company for each employee (source employee, source_id the employee''s number), so that rules can address him: his name and zone, and as his points the SIM and the mailbox that he holds now (crm.line_holder). Points that a person entered stay. A dismissed employee''s is archived';

CREATE OR REPLACE FUNCTION crm.employees_changed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.employees_reachable();
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.employees_changed() IS 'Trigger function of crm.employee and crm.line_holder: crm.employees_reachable(). Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.employee_contact(employee_id bigint) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT c.id FROM crm.contact c WHERE c.source = 'employee' AND c.source_id = $1::text AND c.archived_at IS NULL;
END;
COMMENT ON FUNCTION crm.employee_contact(bigint) IS 'The contact by which an employee is reached (crm.employees_reachable); NULL: none, or dismissed';

CREATE OR REPLACE FUNCTION crm.duty_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'warning', 'duty', format('%s has duty from %s and no phone: no SMS reaches him', e.name, min(lower(d.during))),
		format('Enter his SIM (crm.line, crm.line_holder) or INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (%s, ''phone'', …);', crm.employee_contact(e.id)), NULL::timestamptz
	FROM crm.duty d JOIN crm.employee e ON e.id = d.employee_id
	WHERE upper(d.during) > crm.now() AND lower(d.during) < crm.now() + interval '7 days' AND crm.guard()
		AND NOT EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = crm.employee_contact(e.id) AND p.kind = 'phone' AND p.is_mobile AND p.state <> 'invalid')
	GROUP BY e.id, e.name
$$;
COMMENT ON FUNCTION crm.duty_health() IS 'Rows of crm.health: people on duty in the next week whom no SMS reaches';

SELECT crm.register_foreign_key('crm.duty', 'employee_id', 'crm.employee', 'id');
SELECT crm.register_foreign_key('crm.duty', 'team_id', 'crm.team', 'id');
SELECT crm.register_hook('activate', 'employees', 'crm.employees_reachable');
SELECT crm.register_hook('maintain', 'employees', 'crm.employees_reachable');
SELECT crm.register_hook('health', 'duty', 'crm.duty_health');
