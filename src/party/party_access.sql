-- Who speaks, and whom and what that person may see. Promise 8; claims 97, 105.

-- ---- who speaks -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.login() RETURNS name
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_login';
COMMENT ON FUNCTION crm.login() IS 'Who logged in: the session''s user, whatever SET ROLE says and whatever definer function asks. Only a superuser, who may be anybody, becomes the role that he sets.';

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
	RETURN (SELECT e.id FROM crm.employee e WHERE e.role_name = crm.login() AND e.dismissed_at IS NULL);
END
$$;
COMMENT ON FUNCTION crm.me() IS 'The employee (crm.employee.id) who speaks: the one whose login this session is, or whom a pooled login named by crm.act_as(); NULL: nobody. Settings change nothing of it, nor does SET ROLE (crm.login).';

CREATE OR REPLACE FUNCTION crm.me_name() RETURNS text
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_me_name';
COMMENT ON FUNCTION crm.me_name() IS 'Who is written down as the author of a change: the login of the session; for a pooled login that speaks for an employee "name (login)".';

CREATE OR REPLACE FUNCTION crm.speaks() RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_speaks';
COMMENT ON FUNCTION crm.speaks() IS 'False for a pooled login that has not said for which employee it speaks: it reads no row of any table with people or clients in it.';

CREATE OR REPLACE FUNCTION crm.plant_door(open boolean) RETURNS boolean
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_party_plant_door';
COMMENT ON FUNCTION crm.plant_door(boolean) IS 'Says that what follows is done for the plant and not for the person in whose transaction it runs, such as a stage action; until it is closed, or the subtransaction ends. Returns whether it was open before: then the outer one closes it. For definer code of crm alone.';

CREATE OR REPLACE FUNCTION crm.for_plant() RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_party_for_plant';
COMMENT ON FUNCTION crm.for_plant() IS 'Whether what runs now may know the whole plant: the condition of a rule is judged, crm.plant_door() is open, or the login belongs to crm_director, crm_bi_reader, the robots, the ERP or the owner. Never so for a pooled login itself.';

CREATE OR REPLACE FUNCTION crm.sees_all() RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.for_plant() OR crm.spoken_for() IS NOT NULL AND EXISTS (
		SELECT FROM crm.employee e JOIN pg_roles r ON r.rolname = e.role_name
		WHERE e.id = crm.spoken_for() AND NOT r.rolsuper AND (pg_has_role(r.oid, 'crm_director', 'MEMBER') OR pg_has_role(r.oid, 'crm_bi_reader', 'MEMBER')));
END
$$;
COMMENT ON FUNCTION crm.sees_all() IS 'Whether the person who speaks sees the whole plant: crm.for_plant(); at a pooled login, where the role of the employee for whom it speaks (crm.employee.role_name, which need not be able to log in) belongs to crm_director or crm_bi_reader.';

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
	IF mine.is_head THEN
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

CREATE OR REPLACE FUNCTION crm.lent_companies() RETURNS bigint[]
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook record;
	part bigint[];
	lent bigint[] := '{}';
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'lent_companies' ORDER BY h.position LOOP
		EXECUTE format('SELECT %s()', hook.function) INTO part;
		lent := lent || part;
	END LOOP;
	RETURN lent;
END
$$;
COMMENT ON FUNCTION crm.lent_companies() IS 'Companies (crm.company.id) of others that the person who speaks may see all the same, as upper rooms say (hook lent_companies): an open deal of his is there. Row-level security asks it once a query.';

CREATE OR REPLACE VIEW crm.company_own WITH (security_barrier = true) AS
	SELECT c.id
	FROM crm.company c
	WHERE coalesce(c.owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]);
COMMENT ON VIEW crm.company_own IS 'Companies that belong to the person who speaks or to whom he sees (crm.visible_employees): he may change what is theirs. Runs as its owner';
COMMENT ON COLUMN crm.company_own.id IS 'crm.company.id';

CREATE OR REPLACE VIEW crm.company_seen WITH (security_barrier = true) AS
	SELECT c.id
	FROM crm.company c
	WHERE coalesce(c.owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]) OR c.id = ANY ((SELECT crm.lent_companies())::bigint[])
		OR c.owner_id IS NULL AND c.is_carrier AND NOT c.is_client AND (SELECT crm.speaks());
COMMENT ON VIEW crm.company_seen IS 'Companies that the person who speaks may see: those of crm.company_own, of crm.lent_companies(), and carriers that are no clients and belong to nobody. What row-level security of tables that name a company asks. Runs as its owner';
COMMENT ON COLUMN crm.company_seen.id IS 'crm.company.id';

CREATE OR REPLACE FUNCTION crm.reads_plant() RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN pg_has_role('crm_owner', 'MEMBER') OR pg_has_role('crm_eval', 'MEMBER') OR pg_has_role('crm_courier', 'MEMBER')
		OR pg_has_role('crm_integrator', 'MEMBER') OR pg_has_role('crm_erp_writer', 'MEMBER')
		OR (pg_has_role('crm_director', 'MEMBER') OR pg_has_role('crm_bi_reader', 'MEMBER')) AND NOT crm.is_pooled();
END
$$;
COMMENT ON FUNCTION crm.reads_plant() IS 'Whether the role that runs the query reads the rows of the whole plant: the owner, robots, the ERP, directors and BI that log in by themselves. For views that run as their owner; tables have the policies plant and overview for the same.';

CREATE OR REPLACE FUNCTION crm.sees_employee(employee_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.sees_all() OR coalesce($1, 0) = ANY (crm.visible_employees());
END
$$;
COMMENT ON FUNCTION crm.sees_employee(bigint) IS 'Whether the person who speaks may see what is an employee''s (NULL: nobody''s). For definer functions that give a person rows; tables are under row-level security anyway.';

CREATE OR REPLACE FUNCTION crm.sees_company(company_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.sees_all() OR CASE WHEN $1 IS NULL THEN 0 = ANY (crm.visible_employees())
		ELSE EXISTS (SELECT FROM crm.company_seen s WHERE s.id = $1) END;
END
$$;
COMMENT ON FUNCTION crm.sees_company(bigint) IS 'Whether the person who speaks may see a company: crm.company_seen has it; NULL, what is no company''s: whether he sees what belongs to nobody. False for one that is not there. For definer functions that give a person rows.';

CREATE OR REPLACE FUNCTION crm.sees_contact(contact_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.contact c WHERE c.id = $1 AND (crm.for_plant() OR crm.sees_company(c.company_id)));
END
$$;
COMMENT ON FUNCTION crm.sees_contact(bigint) IS 'Whether the person who speaks may see a contact: he sees its company. False for one that is not there.';

CREATE OR REPLACE FUNCTION crm.sees_object(kind text, id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	function text;
	seen     boolean;
BEGIN
	IF crm.for_plant() THEN
		RETURN true;
	END IF;
	SELECT h.function INTO function FROM crm.hook h WHERE h.point = 'sees' AND h.name = $1;
	IF NOT FOUND THEN
		RETURN crm.sees_all();
	END IF;
	EXECUTE format('SELECT %s($1)', function) INTO seen USING $2;
	RETURN coalesce(seen, false);
END
$$;
COMMENT ON FUNCTION crm.sees_object(text, bigint) IS 'Whether the person who speaks may see an object: kind as in crm.event.object_kind, by the function that a room registered for it (hook sees: f(id bigint) RETURNS boolean); of other kinds only who sees the whole plant sees any.';
SELECT crm.register_hook('sees', 'company', 'crm.sees_company');
SELECT crm.register_hook('sees', 'contact', 'crm.sees_contact');
SELECT crm.register_hook('sees', 'employee', 'crm.sees_employee');

-- ---- the policies -----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.protect(tab text, seen text DEFAULT NULL, written text DEFAULT NULL, changed text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p record;
BEGIN
	-- never FORCE: the owner, which dumps and definer functions run as, pays nothing
	EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tab);
	FOR p IN
		SELECT * FROM (VALUES
			('plant', 'TO crm_eval, crm_courier, crm_integrator, crm_erp_writer USING (true)', true,
				'Conditions of rules, robots and the ERP work for the whole plant; what they may touch is a matter of rights'),
			('overview', 'TO crm_director, crm_bi_reader USING ((SELECT NOT crm.is_pooled()))', true,
				'Directors and BI see the whole plant; a pooled login sees by whom it speaks for alone'),
			('seen', format('FOR SELECT TO crm_manager, crm_head, crm_gateway USING (%s)', seen), seen IS NOT NULL, 'What people see is theirs (promise 8)'),
			('entered', format('FOR INSERT TO crm_manager, crm_head, crm_gateway WITH CHECK (%s)', written), written IS NOT NULL, 'What people enter is theirs'),
			('changed', format('FOR UPDATE TO crm_manager, crm_head, crm_gateway USING (%s) WITH CHECK (%s)', coalesce(changed, written), written), written IS NOT NULL,
				'What people change is theirs, and stays so'),
			('deleted', format('FOR DELETE TO crm_manager, crm_head, crm_gateway USING (%s)', coalesce(changed, written)), written IS NOT NULL, 'What people delete is theirs')
		) AS v(name, clauses, wanted, words)
		WHERE v.wanted
	LOOP
		EXECUTE format('CREATE POLICY %I ON %s %s', p.name, tab, p.clauses);
		EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', p.name, tab, p.words);
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.protect(text, text, text, text) IS 'Puts a table under row-level security, when the script makes it. seen: what a manager, a head or a pooled login sees, nothing where nothing is said; written: what may stand in rows that they enter or change; changed: the rows that they may change or delete, as written where nothing is said. Robots, the ERP, directors and BI see all that their rights allow. Called by the script.';

CREATE OR REPLACE FUNCTION crm.seen_by_company() RETURNS text
	LANGUAGE sql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
	RETURN 'CASE WHEN company_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[]) ELSE company_id IN (SELECT s.id FROM crm.company_seen s) END';
COMMENT ON FUNCTION crm.seen_by_company() IS 'What crm.protect() takes as seen where a row names its company in company_id: who sees the company sees it; what is nobody''s is the heads''. Called by the script.';

-- ---- who changed what -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.log_changes() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_party_log_changes';
COMMENT ON FUNCTION crm.log_changes() IS 'Trigger function: writes crm.change_log, a call for all rows of a statement, with the columns that really changed. Arguments: columns that are left out, since a log of their own tells of them. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.changes_made(tab text, op text, ids bigint[], olds jsonb[], news jsonb[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO crm.change_log (tab, row_id, op, employee_id, by, old, new)
	SELECT $1, c.id, $2, w.me, w.by, c.old, c.new
	FROM (SELECT crm.me() AS me, crm.me_name() AS by OFFSET 0) w CROSS JOIN unnest($3, $4, $5) AS c(id, old, new);
END
$$;
COMMENT ON FUNCTION crm.changes_made(text, text, bigint[], jsonb[], jsonb[]) IS 'Writes rows of crm.change_log: the table, the kind of change, and for each row its id and what it held before and holds now. Called by crm.log_changes().';

CREATE OR REPLACE FUNCTION crm.audit(tab text, left_out text[] DEFAULT '{}') RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args text := (SELECT string_agg(quote_literal(x), ', ') FROM unnest(left_out) x);
BEGIN
	EXECUTE format('CREATE TRIGGER change_insert AFTER INSERT ON %s FOR EACH ROW WHEN (NOT crm.for_plant()) EXECUTE FUNCTION crm.log_changes(%s)', tab, args);
	EXECUTE format('COMMENT ON TRIGGER change_insert ON %s IS %L', tab, 'What people enter stands in crm.change_log');
	EXECUTE format('CREATE TRIGGER change_update AFTER UPDATE ON %s REFERENCING OLD TABLE AS before_ NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.log_changes(%s)', tab, args);
	EXECUTE format('COMMENT ON TRIGGER change_update ON %s IS %L', tab, 'What is changed stands in crm.change_log');
	EXECUTE format('CREATE TRIGGER change_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS before_ FOR EACH STATEMENT EXECUTE FUNCTION crm.log_changes(%s)', tab, args);
	EXECUTE format('COMMENT ON TRIGGER change_delete ON %s IS %L', tab, 'What is deleted stands in crm.change_log');
END
$$;
COMMENT ON FUNCTION crm.audit(text, text[]) IS 'Has crm.change_log kept for a table with an id, when the script makes it; left_out: columns that it says nothing of. Called by the script.';

CREATE OR REPLACE FUNCTION crm.changes_forget(contact_id bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	done bigint;
BEGIN
	UPDATE crm.change_log l SET
		old = CASE WHEN l.old IS NOT NULL THEN (SELECT coalesce(jsonb_object_agg(k.key, 'forgotten'), '{}') FROM jsonb_object_keys(l.old) AS k(key)) END,
		new = CASE WHEN l.new IS NOT NULL THEN (SELECT coalesce(jsonb_object_agg(k.key, 'forgotten'), '{}') FROM jsonb_object_keys(l.new) AS k(key)) END
	WHERE (l.tab = 'crm.contact' AND l.row_id = $1
			OR l.tab = 'crm.contact_point' AND (l.row_id IN (SELECT p.id FROM crm.contact_point p WHERE p.contact_id = $1) OR l.old @> jsonb_build_object('contact_id', $1))
			OR l.tab = 'crm.consent' AND (l.row_id IN (SELECT c.id FROM crm.consent c WHERE c.contact_id = $1) OR l.old @> jsonb_build_object('contact_id', $1)))
		AND (EXISTS (SELECT FROM jsonb_each_text(l.old) v WHERE v.value IS DISTINCT FROM 'forgotten')
			OR EXISTS (SELECT FROM jsonb_each_text(l.new) v WHERE v.value IS DISTINCT FROM 'forgotten'));
	GET DIAGNOSTICS done = ROW_COUNT;
	RETURN done;
END
$$;
COMMENT ON FUNCTION crm.changes_forget(bigint) IS 'What crm.forget() does to the changes of a contact, its addresses and consents: the columns stay named, what they held goes';
SELECT crm.register_hook('forget', 'changes', 'crm.changes_forget');

SELECT crm.register_partitioned('crm.change_log', 'at', 'month', ARRAY[
	'CREATE UNIQUE INDEX ON crm.%1$I (id)',
	'CREATE INDEX ON crm.%1$I (tab, row_id)',
	'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.%1$I FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only()']);
SELECT crm.register_growing('crm.change_log', 'id', 'append-only, also for its owner');
SELECT crm.register_retention('crm.change_log', NULL, '1 month', 'Who changed what in parties, deals and agreements');
SELECT crm.register_no_foreign_key('crm.change_log', 'row_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.change_log', 'employee_id', 'history outlives what it tells of');

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
	WHERE t.hash = sha256(convert_to($2, 'UTF8')) AND t.employee_id = $1 AND t.gateway = crm.login()
		AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp() AND e.dismissed_at IS NULL;
	IF NOT FOUND OR NOT crm.is_pooled() THEN
		-- one answer to every wrong question
		RAISE EXCEPTION USING ERRCODE = '28000', MESSAGE = format('login "%s" may not speak for employee %s by this ticket', crm.login(), coalesce($1::text, 'NULL')),
			DETAIL = 'The ticket is unknown, has ended, was taken back, or was issued for another employee or login; or the employee has left.',
			HINT = 'SELECT crm.issue_ticket(employee, login, holds); makes a new one.';
	END IF;
	PERFORM crm.speak_as($1, name);
END
$$;
COMMENT ON FUNCTION crm.act_as(bigint, text) IS 'Has a pooled login (a member of crm_gateway) speak for an employee until the end of the transaction, by a ticket of crm.issue_ticket(). Not by SET, not beyond the transaction, and gone when the savepoint in which it was called is rolled back; without it the login sees no row. What is changed then carries the employee and the login (crm.change_log). Errors: 28000 for every ticket that does not hold, 25001 where the transaction speaks for another employee already.';

-- ---- duties -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.access_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY SELECT 'warning', 'access', format('Pooled login %s also belongs to %s: it sees nothing by that, but may do what the role may do for everybody who comes through it.', r.rolname, g.rolname),
			format('REVOKE %I FROM %I; or let it be no member of crm_gateway.', g.rolname, r.rolname), NULL::timestamptz
		FROM pg_roles r JOIN pg_roles g ON g.rolname IN ('crm_director', 'crm_owner', 'crm_integrator', 'crm_erp_writer')
		WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, 'crm_gateway', 'MEMBER') AND pg_has_role(r.oid, g.oid, 'MEMBER');
	RETURN QUERY SELECT 'notice', 'access', format('Login %s belongs to %s and is no employee: it sees no client.', r.rolname, g.rolname),
			format('UPDATE crm.employee SET role_name = %L WHERE id = …;', r.rolname), NULL::timestamptz
		FROM pg_roles r JOIN pg_roles g ON g.rolname IN ('crm_manager', 'crm_head')
		WHERE r.rolcanlogin AND NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER')
			AND NOT (pg_has_role(r.oid, 'crm_gateway', 'MEMBER') OR pg_has_role(r.oid, 'crm_director', 'MEMBER') OR pg_has_role(r.oid, 'crm_bi_reader', 'MEMBER'))
			AND NOT EXISTS (SELECT FROM crm.employee e WHERE e.role_name = r.rolname);
END
$$;
COMMENT ON FUNCTION crm.access_health() IS 'Rows of crm.health: pooled logins that are more than that, and logins of managers and heads that are nobody''s.';
SELECT crm.register_hook('health', 'access', 'crm.access_health');
