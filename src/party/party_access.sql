-- Who speaks, and whom and what that person may see. Promise 8; claims 97, 105.

-- ---- who speaks -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.speak_as(employee_id bigint, name text) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_party_speak_as';
COMMENT ON FUNCTION crm.speak_as(bigint, text) IS 'Has this transaction speak for an employee. For crm.act_as() alone, which has checked the ticket. Errors: 42501 no pooled login, 25001 it speaks for another one already.';

CREATE OR REPLACE FUNCTION crm.spoken_for() RETURNS bigint
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_spoken_for';
COMMENT ON FUNCTION crm.spoken_for() IS 'The employee (crm.employee.id) whom crm.act_as() named in this transaction; NULL: none.';

CREATE OR REPLACE FUNCTION crm.is_pooled() RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_is_pooled';
COMMENT ON FUNCTION crm.is_pooled() IS 'Whether the session''s login is a member of crm_gateway: it is nobody until crm.act_as().';

CREATE OR REPLACE FUNCTION crm.me() RETURNS bigint
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.is_pooled() THEN
		RETURN crm.spoken_for();
	END IF;
	RETURN (SELECT e.id FROM crm.employee e WHERE e.role_name = session_user AND e.dismissed_at IS NULL);
END
$$;
COMMENT ON FUNCTION crm.me() IS 'The employee (crm.employee.id) who speaks: the one whose login this session is, or whom a pooled login named by crm.act_as(); NULL: nobody. SET ROLE and settings change nothing of it.';

CREATE OR REPLACE FUNCTION crm.me_name() RETURNS text
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_me_name';
COMMENT ON FUNCTION crm.me_name() IS 'Who is written down as the author of a change: the login of the session; for a pooled login that speaks for an employee "name (login)".';

CREATE OR REPLACE FUNCTION crm.sees_all() RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	who text := session_user;
BEGIN
	IF crm.is_pooled() THEN
		SELECT e.role_name INTO who FROM crm.employee e WHERE e.id = crm.spoken_for();
		RETURN EXISTS (SELECT FROM pg_roles r WHERE r.rolname = who
			AND (pg_has_role(r.oid, 'crm_director', 'MEMBER') OR pg_has_role(r.oid, 'crm_bi_reader', 'MEMBER')) AND NOT r.rolsuper);
	END IF;
	RETURN pg_has_role(who, 'crm_director', 'MEMBER') OR pg_has_role(who, 'crm_bi_reader', 'MEMBER') OR pg_has_role(who, 'crm_owner', 'MEMBER')
		OR pg_has_role(who, 'crm_courier', 'MEMBER') OR pg_has_role(who, 'crm_integrator', 'MEMBER') OR pg_has_role(who, 'crm_erp_writer', 'MEMBER');
END
$$;
COMMENT ON FUNCTION crm.sees_all() IS 'Whether the session sees the whole plant: its login belongs to crm_director, crm_bi_reader, the robots or the owner; a pooled login, where the employee for whom it speaks has a role (crm.employee.role_name) that belongs to crm_director or crm_bi_reader.';

CREATE OR REPLACE FUNCTION crm.visible_employees() RETURNS bigint[]
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	me bigint := crm.me();
	mine crm.employee;
	seen bigint[];
BEGIN
	IF crm.sees_all() THEN
		RETURN (SELECT array_agg(e.id) FROM crm.employee e) || 0::bigint;
	END IF;
	SELECT * INTO mine FROM crm.employee e WHERE e.id = me;
	IF NOT FOUND THEN
		RETURN '{}';
	END IF;
	-- whom I stand in for today
	SELECT coalesce(array_agg(a.employee_id), '{}') INTO seen
	FROM crm.absence a JOIN crm.employee e ON e.id = a.employee_id
	WHERE a.deputy_id = me AND a.days @> (crm.now() AT TIME ZONE e.time_zone)::date;
	seen := seen || me;
	IF mine.is_head AND mine.team_id IS NOT NULL THEN
		seen := seen || 0::bigint || ARRAY(
			WITH RECURSIVE below AS (
				SELECT mine.team_id AS id
				UNION
				SELECT t.id FROM crm.team t JOIN below b ON t.parent_id = b.id
			)
			SELECT e.id FROM crm.employee e JOIN below b ON b.id = e.team_id);
	END IF;
	RETURN seen;
END
$$;
COMMENT ON FUNCTION crm.visible_employees() IS 'Whose clients, deals and tasks the person who speaks may see (crm.employee.id): his own; those of whom he stands in for today (crm.absence.deputy_id); a head''s also those of his team and the teams below it, dismissed people too; whoever sees the whole plant (crm.sees_all): all. 0 in it: what belongs to nobody. Empty for nobody. Row-level security asks it once a query.';

CREATE OR REPLACE FUNCTION crm.sees_employee(employee_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.sees_all() OR coalesce($1, 0) = ANY (crm.visible_employees());
END
$$;
COMMENT ON FUNCTION crm.sees_employee(bigint) IS 'Whether the person who speaks may see what is an employee''s (NULL: nobody''s). For definer functions that give a person rows; tables are under row-level security anyway.';

CREATE OR REPLACE FUNCTION crm.sees_company(company_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook record;
	seen boolean;
BEGIN
	IF crm.sees_all() THEN
		RETURN true;
	END IF;
	IF EXISTS (SELECT FROM crm.company c WHERE c.id = $1 AND coalesce(c.owner_id, 0) = ANY (crm.visible_employees())) THEN
		RETURN true;
	END IF;
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'sees_company' ORDER BY h.position LOOP
		EXECUTE format('SELECT %s($1)', hook.function) INTO seen USING $1;
		IF seen THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;
COMMENT ON FUNCTION crm.sees_company(bigint) IS 'Whether the person who speaks may see a company: its owner is one of crm.visible_employees(), or an upper room says so (hook sees_company: an open deal of such an employee). False for one that is not there. For definer functions that give a person rows.';

-- ---- tickets ----------------------------------------------------------------------------------------

SELECT crm.register_undumped('crm.ticket', 'a copy lets nobody in by the tickets of the original');
SELECT crm.register_foreign_key('crm.ticket', 'employee_id', 'crm.employee');
SELECT crm.register_no_foreign_key('crm.team', 'parent_id', 'a reference to the own table restores in no order');

CREATE OR REPLACE FUNCTION crm.issue_ticket(employee_id bigint, gateway text, holds interval DEFAULT '12 hours') RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	login  pg_roles;
	ticket text := translate(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'base64'), '+/=', '-_');
BEGIN
	IF NOT EXISTS (SELECT FROM crm.employee e WHERE e.id = $1 AND e.dismissed_at IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('employee %s is not there, or has left', coalesce($1::text, 'NULL')),
			HINT = 'SELECT id, name FROM crm.employee WHERE dismissed_at IS NULL;';
	END IF;
	SELECT * INTO login FROM pg_roles r WHERE r.rolname = $2;
	IF NOT FOUND OR login.rolsuper OR NOT pg_has_role(login.oid, 'crm_gateway', 'MEMBER') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no pooled login', coalesce(quote_ident($2), 'NULL')),
			HINT = 'Give the name of a login that is a member of crm_gateway and no superuser: GRANT crm_gateway TO …';
	END IF;
	IF $3 IS NULL OR $3 < interval '1 minute' OR $3 > interval '400 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a ticket cannot hold for %s', coalesce($3::text, 'NULL')),
			HINT = 'Give from one minute to 400 days.';
	END IF;
	INSERT INTO crm.ticket (employee_id, gateway, hash, issued_by, expires_at)
	VALUES ($1, login.rolname, sha256(convert_to(ticket, 'UTF8')), crm.me_name(), clock_timestamp() + $3);
	RETURN ticket;
END
$$;
COMMENT ON FUNCTION crm.issue_ticket(bigint, text, interval) IS 'Issues a ticket by which one pooled login (a member of crm_gateway) may speak for one employee (crm.employee.id) for so long, 12 hours where nothing is said, at most 400 days. Returns the ticket; the database keeps its hash only. It is of no use to another login. Errors: 23503 no such employee, 22023 no such login, or a time out of bounds.';

CREATE OR REPLACE FUNCTION crm.revoke_tickets(employee_id bigint DEFAULT NULL, gateway text DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	done integer;
BEGIN
	UPDATE crm.ticket t SET revoked_at = clock_timestamp(), revoked_by = crm.me_name()
	WHERE t.revoked_at IS NULL AND t.expires_at > clock_timestamp() AND ($1 IS NULL OR t.employee_id = $1) AND ($2 IS NULL OR t.gateway = $2);
	GET DIAGNOSTICS done = ROW_COUNT;
	RETURN done;
END
$$;
COMMENT ON FUNCTION crm.revoke_tickets(bigint, text) IS 'Takes back the tickets of an employee (NULL: of all) at a login (NULL: at every one); returns how many held until now. A transaction that speaks already ends as it began.';

CREATE OR REPLACE FUNCTION crm.act_as(employee_id bigint, ticket text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text;
BEGIN
	SELECT e.name INTO name
	FROM crm.ticket t JOIN crm.employee e ON e.id = t.employee_id
	WHERE t.hash = sha256(convert_to($2, 'UTF8')) AND t.employee_id = $1 AND t.gateway = session_user
		AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp() AND e.dismissed_at IS NULL;
	IF NOT FOUND OR NOT crm.is_pooled() THEN
		-- one answer to every wrong question
		RAISE EXCEPTION USING ERRCODE = '28000', MESSAGE = format('login "%s" may not speak for employee %s by this ticket', session_user, coalesce($1::text, 'NULL')),
			DETAIL = 'The ticket is unknown, has ended, was taken back, or was issued for another employee or login; or the employee has left.',
			HINT = 'SELECT crm.issue_ticket(employee, login, holds); makes a new one.';
	END IF;
	PERFORM crm.speak_as($1, name);
END
$$;
COMMENT ON FUNCTION crm.act_as(bigint, text) IS 'Has a pooled login (a member of crm_gateway) speak for an employee until the end of the transaction, by a ticket of crm.issue_ticket(). Not by SET, not beyond the transaction, and gone when the savepoint in which it was called is rolled back; without it the login sees no row. What is changed then carries the employee and the login (crm.change_log). Errors: 28000 for every ticket that does not hold, 25001 where the transaction speaks for another employee already.';
