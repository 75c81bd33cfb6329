-- funnel: the cold base. Code: may be run any number of times.
--
-- A list hands its contacts out one by one. The pool is an index by list, zone and time; whoever looks takes the
-- first row that nobody else holds (SKIP LOCKED), and begins behind the place where the last hand-out of that list
-- and zone was made (crm.call_list_log.queue_at), so that rows that died in front of it, which a held snapshot keeps,
-- are not walked over again and again. What comes back to the pool comes with the time of its return, hence ahead of
-- that place; what a rolled back or late transaction left behind is found by looks from the beginning, one in 50.

-- ---- who asks ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.call_list_who(employee_id bigint) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM crm.employee e WHERE e.id = $1 AND (e.dismissed_at IS NULL OR e.dismissed_at > crm.now())) THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('employee %s is not there, or has left', coalesce($1::text, 'NULL')),
			HINT = 'SELECT id, name FROM crm.employee WHERE dismissed_at IS NULL;';
	END IF;
	IF NOT crm.sees_employee($1) THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('you do not act for employee %s', $1), HINT = 'SELECT * FROM crm.call_next(list) takes for yourself.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.call_list_who(bigint) IS 'Refuses an employee who is not there or has left with 23503, and one for whom the caller may not act with 42501';

CREATE OR REPLACE FUNCTION crm.call_list_row(list text) RETURNS crm.call_list
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l crm.call_list;
BEGIN
	SELECT x.* INTO l FROM crm.call_list x WHERE x.code = list;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('call list "%s" does not exist', coalesce(left(list, 100), 'NULL')),
			DETAIL = format('There are: %s.', coalesce((SELECT string_agg(q.code, ', ' ORDER BY q.code) FROM (SELECT x.code FROM crm.call_list x ORDER BY x.code LIMIT 20) q), 'none')),
			HINT = 'SELECT crm.add_call_list(code, name, funnel) makes one.';
	END IF;
	RETURN l;
END
$$;
COMMENT ON FUNCTION crm.call_list_row(text) IS 'A call list by its code. Error P0002 for one that is not there, with those that are.';

-- ---- lists and what is on them ----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.call_list_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- A restore may bring these rows before the stages.
	IF NOT crm.guard() THEN
		RETURN NEW;
	END IF;
	PERFORM crm.calendar_check(NEW.calendar_code, NULL);
	IF NEW.stage_id IS NOT NULL AND NOT EXISTS (SELECT FROM crm.stage s WHERE s.id = NEW.stage_id AND s.funnel_id = NEW.funnel_id) THEN
		RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = format('stage %s is not of funnel %s', NEW.stage_id, NEW.funnel_id),
			HINT = format('Its stages are: %s.', coalesce((SELECT string_agg(format('%s "%s"', s.id, s.code), ', ' ORDER BY s."position", s.id)
				FROM crm.stage s WHERE s.funnel_id = NEW.funnel_id), 'none'));
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.call_list_check() IS 'Trigger function of crm.call_list: refuses a stage of another funnel with 23514 and an unknown calendar with 22023.';

CREATE OR REPLACE FUNCTION crm.add_call_list(code text, name text, funnel text, stage text DEFAULT NULL, attempt_limit integer DEFAULT 5,
	reserve_for interval DEFAULT '15 minutes', calendar text DEFAULT 'office', purpose text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	f  crm.funnel;
	s  bigint;
	id bigint;
BEGIN
	SELECT x.* INTO f FROM crm.funnel x WHERE x.code = funnel;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('funnel "%s" does not exist', coalesce(left(funnel, 100), 'NULL')), HINT = 'SELECT code FROM crm.funnel lists them.';
	END IF;
	IF stage IS NOT NULL THEN
		SELECT x.id INTO s FROM crm.stage x WHERE x.funnel_id = f.id AND x.code = stage;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('stage "%s" does not exist in funnel "%s"', left(stage, 100), funnel),
				HINT = format('Give one of: %s.', (SELECT string_agg(format('"%s"', x.code), ', ' ORDER BY x."position", x.id) FROM crm.stage x WHERE x.funnel_id = f.id));
		END IF;
	END IF;
	INSERT INTO crm.call_list (code, name, funnel_id, stage_id, attempt_limit, reserve_for, calendar_code, purpose)
	VALUES ($1, $2, f.id, s, $5, $6, $7, $8)
	RETURNING call_list.id INTO id;
	RETURN id;
END
$$;
COMMENT ON FUNCTION crm.add_call_list(text, text, text, text, integer, interval, text, text) IS 'Makes a call list whose deals go into a funnel (its first stage, or the one named); returns its number. Further settings are columns of crm.call_list. Errors: P0002 no such funnel, 22023 no such stage or calendar, 23505 the code is taken, 23514 a value out of its bounds';

-- in plpgsql, which keeps its plans: a function in SQL is planned again by each statement that calls it
CREATE OR REPLACE FUNCTION crm.call_list_phones(contact_id bigint) RETURNS text[]
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT array_agg(p.value ORDER BY p.state = 'verified' DESC, p.state = 'unknown' DESC, p.is_mobile DESC, p.id)
		FROM crm.contact_point p WHERE p.contact_id = $1 AND p.kind = 'phone' AND p.state <> 'invalid');
END
$$;
COMMENT ON FUNCTION crm.call_list_phones(bigint) IS 'Numbers of a contact in the order in which they are tried: proved ones first, then mobiles; without those known to be wrong. NULL: none';

CREATE OR REPLACE FUNCTION crm.call_hindrances(contact_ids bigint[], purpose text, owned boolean, employee_id bigint) RETURNS TABLE (contact_id bigint, hindrance text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY SELECT c.id, CASE
		WHEN c.archived_at IS NOT NULL OR k.archived_at IS NOT NULL THEN 'archived'
		WHEN EXISTS (SELECT FROM crm.do_not_call d WHERE d.contact_id = c.id AND d.lifted_at IS NULL OFFSET 0)
			OR EXISTS (SELECT FROM crm.do_not_call d WHERE d.company_id = c.company_id AND d.lifted_at IS NULL OFFSET 0)
			OR EXISTS (SELECT FROM (SELECT p.value FROM crm.contact_point p WHERE p.contact_id = c.id AND p.kind = 'phone' OFFSET 0) p
				WHERE EXISTS (SELECT FROM crm.do_not_call d WHERE d.phone_sha256 = sha256(convert_to(p.value, 'UTF8')) AND d.lifted_at IS NULL OFFSET 0)) THEN 'do_not_call'
		WHEN NOT EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = c.id AND p.kind = 'phone' AND p.state <> 'invalid' OFFSET 0) THEN 'no_phone'
		WHEN $2 IS NOT NULL AND NOT a.agreed THEN 'no_consent'
		WHEN $2 IS DISTINCT FROM 'processing' AND NOT a.ads AND a.withdrawn THEN 'no_consent'
		WHEN NOT $3 AND k.owner_id IS NOT NULL AND k.owner_id IS DISTINCT FROM $4 THEN 'owned'
	END
	FROM unnest($1) WITH ORDINALITY AS u(id, n)
	CROSS JOIN LATERAL (SELECT y.id, y.company_id, y.archived_at FROM crm.contact y WHERE y.id = u.id OFFSET 0) c
	LEFT JOIN LATERAL (SELECT y.owner_id, y.archived_at FROM crm.company y WHERE y.id = c.company_id OFFSET 0) k ON true
	CROSS JOIN LATERAL (
		SELECT coalesce(bool_or(x.stands AND x.purpose = $2), false) AS agreed, coalesce(bool_or(x.stands AND x.purpose = 'advertising'), false) AS ads,
			coalesce(bool_or(x.purpose = 'advertising' AND x.withdrawn_at <= crm.now()), false) AS withdrawn
		FROM (SELECT y.purpose, y.withdrawn_at, y.given_at <= crm.now() AND (y.withdrawn_at IS NULL OR y.withdrawn_at > crm.now()) AS stands
			FROM crm.consent y WHERE y.contact_id = c.id OFFSET 0) x) a
	ORDER BY u.n;
END
$$;
COMMENT ON FUNCTION crm.call_hindrances(bigint[], text, boolean, bigint) IS 'Why contacts are not called from a list with this purpose and rule on owned companies, by this employee: archived, do_not_call (it, its company or one of its numbers stands in crm.do_not_call), no_phone, no_consent, owned; NULL: it may be called. In the order of the contacts';

CREATE OR REPLACE FUNCTION crm.call_list_add(list text, contact_ids bigint[]) RETURNS TABLE (added integer, present integer, barred integer, unknown integer)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	l     crm.call_list := crm.call_list_row(list);
	here  bigint[];
	fresh bigint[];
	zones text[];
	good  bigint[];
BEGIN
	IF cardinality(contact_ids) > 1000000 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = format('%s contacts are too many for one call', cardinality(contact_ids)), HINT = 'Give at most 1000000 at a time.';
	END IF;
	SELECT array_agg(c.id ORDER BY u.n) INTO here
	FROM (SELECT x.id, min(x.n) AS n FROM unnest(contact_ids) WITH ORDINALITY AS x(id, n) GROUP BY x.id) u
	CROSS JOIN LATERAL (SELECT y.id, y.company_id FROM crm.contact y WHERE y.id = u.id AND y.source <> 'employee' OFFSET 0) c
	WHERE c.company_id IS NULL OR crm.sees_company(c.company_id);
	unknown := (SELECT count(DISTINCT u) FROM unnest(contact_ids) u) - coalesce(cardinality(here), 0);
	-- Who is on the list already stays there, whatever became of him.
	SELECT array_agg(h.id ORDER BY h.n) INTO fresh
	FROM unnest(here) WITH ORDINALITY AS h(id, n)
	WHERE NOT EXISTS (SELECT FROM crm.call_list_entry e WHERE e.list_id = l.id AND e.contact_id = h.id OFFSET 0);
	SELECT array_agg(h.contact_id ORDER BY h.n) FILTER (WHERE h.hindrance IS NULL), count(*) FILTER (WHERE h.hindrance IS NOT NULL)
	INTO good, barred
	FROM crm.call_hindrances(fresh, l.purpose, l.owned, NULL) WITH ORDINALITY AS h(contact_id, hindrance, n);
	WITH put AS (
		INSERT INTO crm.call_list_entry (list_id, contact_id, company_id, time_zone)
		SELECT l.id, c.id, c.company_id, coalesce(c.time_zone, k.time_zone, current_setting('crm.time_zone'))
		FROM unnest(good) WITH ORDINALITY AS g(id, n)
		CROSS JOIN LATERAL (SELECT y.id, y.company_id, y.time_zone FROM crm.contact y WHERE y.id = g.id OFFSET 0) c
		LEFT JOIN LATERAL (SELECT y.time_zone FROM crm.company y WHERE y.id = c.company_id OFFSET 0) k ON true
		ORDER BY g.n
		ON CONFLICT ON CONSTRAINT call_list_entry_key DO NOTHING
		RETURNING time_zone
	)
	SELECT count(*), array_agg(DISTINCT f.time_zone) INTO added, zones FROM put f;
	INSERT INTO crm.call_list_zone (list_id, time_zone) SELECT l.id, z FROM unnest(zones) z ORDER BY z ON CONFLICT DO NOTHING;
	present := coalesce(cardinality(here), 0) - barred - added;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION crm.call_list_add(text, bigint[]) IS 'Puts contacts (crm.contact.id, in the order in which they are to be called) on a list, from a query, an import or by hand. added: new ones; present: on the list already, whatever became of them; barred: must not or cannot be called now (crm.call_hindrances); unknown: no such contact, one of our own people, or not to be seen by the caller. Errors: P0002 no such list, 54000 more than a million';

CREATE OR REPLACE FUNCTION crm.call_list_add_companies(list text, company_ids bigint[]) RETURNS TABLE (added integer, present integer, barred integer, unknown integer)
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT * FROM crm.call_list_add(list, (
		SELECT array_agg(p.id ORDER BY u.n)
		FROM (SELECT x.id, min(x.n) AS n FROM unnest(company_ids) WITH ORDINALITY AS x(id, n) GROUP BY x.id) u
		CROSS JOIN LATERAL (SELECT c.id FROM crm.contact c WHERE c.company_id = u.id AND c.archived_at IS NULL
			ORDER BY crm.call_list_phones(c.id) IS NULL, c.is_decision_maker DESC, c.id LIMIT 1) p))
$$;
COMMENT ON FUNCTION crm.call_list_add_companies(text, bigint[]) IS 'Puts one contact of each company (crm.company.id) on a list: one with a number, who decides, the first. Answers as crm.call_list_add, which does it; companies without contacts count in none of its figures';

CREATE OR REPLACE VIEW crm.call_list_candidate WITH (security_invoker = true) AS
	SELECT c.id AS contact_id, c.name AS contact, c."position", c.is_decision_maker, coalesce(c.language, k.language, 'ru') AS language,
		coalesce(c.time_zone, k.time_zone) AS time_zone, c.source, c.created_at,
		k.id AS company_id, k.name AS company, k.inn, k.kpp, k.is_client, k.is_carrier, k.owner_id, k.source AS company_source, k.created_at AS company_created_at,
		EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = c.id AND p.kind = 'phone' AND p.state <> 'invalid') AS has_phone
	FROM crm.contact c
	LEFT JOIN crm.company k ON k.id = c.company_id
	WHERE c.archived_at IS NULL AND k.archived_at IS NULL AND c.source <> 'employee';
COMMENT ON VIEW crm.call_list_candidate IS 'Contacts with their companies: the columns that a condition of crm.call_list_fill may name';
COMMENT ON COLUMN crm.call_list_candidate.contact_id IS 'crm.contact.id';
COMMENT ON COLUMN crm.call_list_candidate.contact IS 'Name of the contact';
COMMENT ON COLUMN crm.call_list_candidate."position" IS 'Post';
COMMENT ON COLUMN crm.call_list_candidate.is_decision_maker IS 'Whether this one decides';
COMMENT ON COLUMN crm.call_list_candidate.language IS 'ru or en';
COMMENT ON COLUMN crm.call_list_candidate.time_zone IS 'IANA zone; NULL: the plant''s';
COMMENT ON COLUMN crm.call_list_candidate.source IS 'Where the contact comes from';
COMMENT ON COLUMN crm.call_list_candidate.created_at IS 'When we learned of the contact';
COMMENT ON COLUMN crm.call_list_candidate.company_id IS 'crm.company.id; NULL: of none';
COMMENT ON COLUMN crm.call_list_candidate.company IS 'Name of the company';
COMMENT ON COLUMN crm.call_list_candidate.inn IS 'Its tax number';
COMMENT ON COLUMN crm.call_list_candidate.kpp IS 'Its KPP';
COMMENT ON COLUMN crm.call_list_candidate.is_client IS 'Whether it buys';
COMMENT ON COLUMN crm.call_list_candidate.is_carrier IS 'Whether it carries';
COMMENT ON COLUMN crm.call_list_candidate.owner_id IS 'crm.employee.id responsible for it; NULL: nobody';
COMMENT ON COLUMN crm.call_list_candidate.company_source IS 'Where the company comes from';
COMMENT ON COLUMN crm.call_list_candidate.company_created_at IS 'When we learned of it';
COMMENT ON COLUMN crm.call_list_candidate.has_phone IS 'Whether the contact has a number that is not known to be wrong';

CREATE OR REPLACE FUNCTION crm.call_list_expression(of regclass, expression text) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS '$libdir/crm', 'crm_funnel_call_list_expression';
COMMENT ON FUNCTION crm.call_list_expression(regclass, text) IS 'Checks ONE boolean expression over the columns of a view, and returns it as PostgreSQL writes it; neither planned nor run. Columns, constants and built-in functions whose answer depends on their arguments alone. Errors: 42601 syntax, 42703 an unknown column, 42883 an unknown function, 42804 another type, 0A000 what is not allowed, 54000 too long.';

CREATE OR REPLACE FUNCTION crm.call_list_fill(list text, condition text, one_of_company boolean DEFAULT false) RETURNS TABLE (added integer, present integer, barred integer, unknown integer)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	ids bigint[];
BEGIN
	IF condition IS NULL OR btrim(condition) = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a call list is filled by a condition', HINT = 'Write one over the columns of crm.call_list_candidate, such as is_client AND owner_id IS NULL; true takes all.';
	END IF;
	EXECUTE format($q$
		SELECT array_agg(x.contact_id ORDER BY x.contact_id) FROM (
			SELECT q.contact_id, row_number() OVER (PARTITION BY coalesce(q.company_id, -q.contact_id)
				ORDER BY q.has_phone DESC, q.is_decision_maker DESC, q.contact_id) AS place
			FROM (SELECT call_list_candidate.contact_id, call_list_candidate.company_id, call_list_candidate.is_decision_maker, call_list_candidate.has_phone
				FROM crm.call_list_candidate WHERE %s OFFSET 0) q) x
		WHERE x.place = 1 OR NOT $1$q$, crm.call_list_expression('crm.call_list_candidate', condition))
	INTO ids USING coalesce(one_of_company, false);
	RETURN QUERY SELECT * FROM crm.call_list_add(list, coalesce(ids, '{}'));
END
$$;
COMMENT ON FUNCTION crm.call_list_fill(text, text, boolean) IS 'Fills a list with the contacts that meet a condition over crm.call_list_candidate, read with the caller''s rights: all of them, or one of each company (who has a number and decides). Again: only new ones come. Answers and errors as crm.call_list_add and crm.call_list_expression; 22023 no condition';

-- ---- handing out ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.call_list_open(list_id bigint, calendar text) RETURNS TABLE (time_zone text, closes_at timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	now_ constant timestamptz := crm.now();
	cal  crm.calendar;
	z    crm.call_list_zone;
	day  date;
BEGIN
	FOR z IN SELECT x.* FROM crm.call_list_zone x WHERE x.list_id = $1 LOOP
		IF z.asked_at IS NULL OR now_ < z.asked_at OR now_ >= z.asked_at + interval '1 hour' OR now_ >= z.closes_at THEN
			cal := crm.calendar_check(calendar, z.time_zone);
			z.opens_at := '-infinity';
			z.closes_at := 'infinity';
			z.asked_at := now_;
			IF NOT cal.round_the_clock THEN
				day := (now_ AT TIME ZONE z.time_zone)::date;
				SELECT h.opens, h.closes INTO z.opens_at, z.closes_at FROM crm.working_hours(day, day + 1, cal) h WHERE h.closes > now_ ORDER BY h.opens LIMIT 1;
			END IF;
			-- Whoever has the row writes the same; nobody waits.
			IF EXISTS (SELECT FROM (SELECT FROM crm.call_list_zone x WHERE x.list_id = $1 AND x.time_zone = z.time_zone FOR NO KEY UPDATE SKIP LOCKED) q) THEN
				UPDATE crm.call_list_zone x SET opens_at = z.opens_at, closes_at = z.closes_at, asked_at = z.asked_at WHERE x.list_id = $1 AND x.time_zone = z.time_zone;
			END IF;
		END IF;
		IF z.opens_at <= now_ AND z.closes_at > now_ THEN
			time_zone := z.time_zone;
			closes_at := z.closes_at;
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.call_list_open(bigint, text) IS 'The zones of a list''s contacts in which it is working time now by a calendar, and when that ends. Asks the calendar once an hour and zone, so a change of it is heeded within the hour';

CREATE OR REPLACE FUNCTION crm.call_hand(list text, employee_id bigint)
	RETURNS TABLE (hand_id bigint, entry_id bigint, kind text, company_id bigint, company text, contact_id bigint, contact text, "position" text, phone text,
		other_phones text, attempt integer, attempt_limit integer, local_time timestamp, reserved_until timestamptz, last_result text, last_note text, last_at timestamptz)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	l      crm.call_list := crm.call_list_row(list);
	who    constant bigint := $2;
	now_   constant timestamptz := crm.now();
	e      crm.call_list_entry;
	z      record;
	person record;
	words  text;
	since  timestamptz;
	past   bigint;
	swept  boolean := false;
BEGIN
	PERFORM crm.call_list_who(who);
	IF NOT l.enabled THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('call list "%s" is switched off', l.code), HINT = format('UPDATE crm.call_list SET enabled = true WHERE code = %L;', l.code);
	END IF;
	-- One contact at a time: two windows of one employee get the same.
	PERFORM pg_advisory_xact_lock('crm.call_list_entry'::regclass::oid::integer, hashtext(l.id || ' ' || who));
	-- What he holds is what he was handed last, if anything: the log has no dead rows to walk over, a unique index would.
	SELECT x.* INTO e FROM crm.call_list_entry x
	WHERE x.id = (SELECT g.entry_id FROM crm.call_list_log g WHERE g.list_id = l.id AND g.employee_id = who AND g.action = 'handed' ORDER BY g.id DESC LIMIT 1)
		AND x.employee_id = who AND x.state = 'reserved' FOR NO KEY UPDATE;
	IF FOUND AND e.next_at > now_ THEN
		kind := 'again';
		hand_id := e.hand_id;
	ELSIF FOUND THEN
		PERFORM crm.call_list_release(ARRAY[e.id], 'expired', NULL);
	END IF;

	FOR turn IN 1 .. 1000 LOOP
		EXIT WHEN kind = 'again';
		kind := 'callback';
		SELECT x.* INTO e FROM crm.call_list_entry x
		WHERE x.list_id = l.id AND x.employee_id = who AND x.state = 'callback' AND x.next_at <= now_
		ORDER BY x.next_at LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
		IF NOT FOUND THEN
			kind := 'pool';
			FOR z IN SELECT o.time_zone FROM crm.call_list_open(l.id, l.calendar_code) o ORDER BY o.closes_at, o.time_zone
			LOOP
				since := NULL;
				past := NULL;
				IF random() >= 0.02 THEN
					SELECT g.queue_at, g.entry_id INTO since, past FROM crm.call_list_log g
					WHERE g.list_id = l.id AND g.time_zone = z.time_zone AND g.queue_at IS NOT NULL ORDER BY g.id DESC LIMIT 1;
				END IF;
				LOOP
					SELECT x.* INTO e FROM crm.call_list_entry x
					WHERE x.list_id = l.id AND x.time_zone = z.time_zone AND x.state = 'pool' AND x.next_at <= now_ AND (x.next_at, x.id) >= (coalesce(since, '-infinity'), coalesce(past, 0))
					ORDER BY x.next_at, x.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
					EXIT WHEN FOUND OR since IS NULL;
					since := NULL;
					past := NULL;
				END LOOP;
				EXIT WHEN e.id IS NOT NULL;
			END LOOP;
		END IF;
		IF e.id IS NULL THEN
			IF swept OR crm.call_list_sweep(100) = 0 THEN
				RETURN;
			END IF;
			swept := true;
			CONTINUE;
		END IF;

		SELECT h.hindrance INTO words FROM crm.call_hindrances(ARRAY[e.contact_id], l.purpose, l.owned, who) h;
		IF words IS NOT NULL THEN
			PERFORM crm.call_list_end(ARRAY[e.id], words);
			CONTINUE;
		END IF;
		SELECT coalesce(c.time_zone, k.time_zone, current_setting('crm.time_zone')) AS zone INTO person
		FROM crm.contact c LEFT JOIN crm.company k ON k.id = c.company_id WHERE c.id = e.contact_id;
		IF person.zone <> e.time_zone THEN
			INSERT INTO crm.call_list_zone (list_id, time_zone) VALUES (l.id, person.zone) ON CONFLICT DO NOTHING;
			UPDATE crm.call_list_entry x SET time_zone = person.zone, next_at = CASE x.state WHEN 'pool' THEN now_ ELSE x.next_at END WHERE x.id = e.id;
			CONTINUE WHEN kind = 'pool';
			e.time_zone := person.zone;
		END IF;
		INSERT INTO crm.call_list_log AS g (list_id, entry_id, action, employee_id, next_at, time_zone, queue_at)
		VALUES (l.id, e.id, 'handed', who, now_ + l.reserve_for, e.time_zone, CASE kind WHEN 'pool' THEN e.next_at END)
		RETURNING g.id INTO hand_id;
		UPDATE crm.call_list_entry x SET state = 'reserved', employee_id = who, hand_id = call_hand.hand_id, next_at = now_ + l.reserve_for WHERE x.id = e.id;
		e.next_at := now_ + l.reserve_for;
		EXIT;
	END LOOP;
	IF hand_id IS NULL THEN
		RETURN;
	END IF;

	entry_id := e.id;
	contact_id := e.contact_id;
	attempt := e.attempts + 1;
	attempt_limit := l.attempt_limit;
	reserved_until := e.next_at;
	last_result := e.result;
	last_at := e.result_at;
	SELECT c.name, c."position", k.id, k.name, now_ AT TIME ZONE coalesce(c.time_zone, k.time_zone, current_setting('crm.time_zone'))
	INTO contact, "position", company_id, company, local_time
	FROM crm.contact c LEFT JOIN crm.company k ON k.id = c.company_id WHERE c.id = e.contact_id;
	SELECT p.p[1], array_to_string(p.p[2:], ', ') INTO phone, other_phones FROM (SELECT crm.call_list_phones(e.contact_id) AS p) p;
	SELECT g.note INTO last_note FROM crm.call_list_log g WHERE g.entry_id = e.id AND g.action = 'result' ORDER BY g.id DESC LIMIT 1;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION crm.call_hand(text, bigint) IS 'Hands the next contact of a list to an employee and keeps it for him (crm.call_list.reserve_for): the one that he holds (kind again), else a call-back that he promised and that is due (callback), else the first of the pool (pool) in whose zone it is working time, the zone whose day ends first before the others. Two sessions never get the same one and do not wait for each other. Who may not or cannot be called (crm.call_hindrances) leaves the list on the way. No row: nobody is there to be called now. hand_id is what crm.call_result takes; local_time is the contact''s clock. Errors: P0002 no such list, 55000 it is switched off, 23503 no such employee, 42501 the caller may not act for him';

CREATE OR REPLACE FUNCTION crm.call_next(list text)
	RETURNS TABLE (hand_id bigint, entry_id bigint, kind text, company_id bigint, company text, contact_id bigint, contact text, "position" text, phone text,
		other_phones text, attempt integer, attempt_limit integer, local_time timestamp, reserved_until timestamptz, last_result text, last_note text, last_at timestamptz)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	who bigint := crm.me();
BEGIN
	IF who IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'nobody is known by this login', HINT = 'SELECT * FROM crm.call_hand(list, employee_id) names the employee.';
	END IF;
	RETURN QUERY SELECT * FROM crm.call_hand(list, who);
END
$$;
COMMENT ON FUNCTION crm.call_next(text) IS 'The next contact of a list for the employee who asks (crm.me()); else as crm.call_hand. Error 42501 where the login is nobody''s';

CREATE OR REPLACE FUNCTION crm.call_list_release(entry_ids bigint[], why text, words text) RETURNS integer
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH freed AS (
		UPDATE crm.call_list_entry x SET state = 'pool', next_at = crm.now()
		FROM (SELECT y.id, y.state FROM crm.call_list_entry y WHERE y.id = ANY ($1) AND y.state IN ('reserved', 'callback') ORDER BY y.id FOR NO KEY UPDATE) o
		WHERE x.id = o.id
		RETURNING x.list_id, x.id, x.employee_id, CASE o.state WHEN 'reserved' THEN x.hand_id END AS hand_id
	), logged AS (
		INSERT INTO crm.call_list_log (list_id, entry_id, action, employee_id, hand_id, note, next_at)
		SELECT f.list_id, f.id, $2, f.employee_id, f.hand_id, left($3, 4000), crm.now() FROM freed f ORDER BY f.id
		RETURNING 1
	)
	SELECT count(*)::integer FROM logged
$$;
COMMENT ON FUNCTION crm.call_list_release(bigint[], text, text) IS 'Gives entries that somebody holds or promised back to the pool, to be called from now on; why: returned or expired. Returns how many. For the functions of call lists';

CREATE OR REPLACE FUNCTION crm.call_list_end(entry_ids bigint[], why text) RETURNS integer
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH ended AS (
		UPDATE crm.call_list_entry x SET state = 'done', ended = $2
		FROM (SELECT y.id FROM crm.call_list_entry y WHERE y.id = ANY ($1) AND y.state <> 'done' ORDER BY y.id FOR NO KEY UPDATE) o
		WHERE x.id = o.id
		RETURNING x.list_id, x.id, x.employee_id
	), logged AS (
		INSERT INTO crm.call_list_log (list_id, entry_id, action, employee_id, result)
		SELECT f.list_id, f.id, 'barred', f.employee_id, $2 FROM ended f ORDER BY f.id
		RETURNING 1
	)
	SELECT count(*)::integer FROM logged
$$;
COMMENT ON FUNCTION crm.call_list_end(bigint[], text) IS 'Takes entries out of their lists without a call; why: archived, do_not_call, no_phone, no_consent, owned, forgotten. Returns how many. For the functions of call lists';

CREATE OR REPLACE FUNCTION crm.call_list_sweep(bound integer) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	late   bigint[];
	orphan bigint[];
BEGIN
	SELECT array_agg(q.id) INTO late FROM (
		SELECT x.id FROM crm.call_list_entry x WHERE x.state = 'reserved' AND x.next_at <= crm.now()
		ORDER BY x.next_at LIMIT bound FOR NO KEY UPDATE SKIP LOCKED) q;
	SELECT array_agg(q.id) INTO orphan FROM crm.call_list l
	CROSS JOIN LATERAL (
		SELECT x.id FROM crm.call_list_entry x WHERE x.list_id = l.id AND x.state = 'callback' AND x.next_at <= crm.now() - l.callback_grace
		ORDER BY x.next_at LIMIT bound FOR NO KEY UPDATE SKIP LOCKED) q;
	RETURN crm.call_list_release(late, 'expired', NULL) + crm.call_list_release(orphan, 'expired', NULL);
END
$$;
COMMENT ON FUNCTION crm.call_list_sweep(integer) IS 'Gives back to the pool what was kept too long: reservations whose time is over, and call-backs that were not made within the list''s grace; at most so many of each (and list), and none that a session has in hand. Returns how many';

CREATE OR REPLACE FUNCTION crm.call_list_due() RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.call_list_sweep(500) >= 500 THEN
		RETURN crm.monotonic_ms();
	END IF;
	RETURN crm.due_ms(least(
		(SELECT min(x.next_at) FROM crm.call_list_entry x WHERE x.state = 'reserved' AND x.next_at > crm.now()),
		(SELECT min(q.next_at + l.callback_grace) FROM crm.call_list l
			CROSS JOIN LATERAL (SELECT min(x.next_at) AS next_at FROM crm.call_list_entry x
				WHERE x.list_id = l.id AND x.state = 'callback' AND x.next_at > crm.now() - l.callback_grace) q)));
END
$$;
COMMENT ON FUNCTION crm.call_list_due() IS 'What the courier does when reservations run out and call-backs are not made: crm.call_list_sweep; says when it wants to be asked next';
SELECT crm.register_hook('due', 'call_list', 'crm.call_list_due');

-- ---- results ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.call_list_hand(hand_id bigint, OUT g crm.call_list_log, OUT e crm.call_list_entry, OUT l crm.call_list)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	SELECT x.* INTO g FROM crm.call_list_log x WHERE x.id = $1 AND x.action = 'handed';
	IF NOT FOUND OR NOT crm.sees_employee(g.employee_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('no contact was handed out under %s', coalesce(hand_id::text, 'NULL')),
			HINT = 'Give the hand_id that crm.call_next returned.';
	END IF;
	SELECT x.* INTO e FROM crm.call_list_entry x WHERE x.id = g.entry_id FOR NO KEY UPDATE;
	SELECT x.* INTO l FROM crm.call_list x WHERE x.id = g.list_id;
END
$$;
COMMENT ON FUNCTION crm.call_list_hand(bigint) IS 'A hand-out, its entry (locked) and its list. Error P0002 for one that is not there or not the caller''s';

CREATE OR REPLACE FUNCTION crm.call_result(hand_id bigint, result text, note text DEFAULT NULL, call_back_at timestamptz DEFAULT NULL, call_back_local timestamp DEFAULT NULL,
	OUT state text, OUT next_at timestamptz, OUT deal_id bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	who     bigint;
	k       crm.call_list_result;
	g       crm.call_list_log;
	e       crm.call_list_entry;
	l       crm.call_list;
	said    text;
	at      timestamptz;
	why     text;
	company crm.company;
	number  text;
	h       record;
BEGIN
	SELECT x.* INTO h FROM crm.call_list_hand($1) x;
	g := h.g;
	e := h.e;
	l := h.l;
	SELECT x.* INTO k FROM crm.call_list_result x WHERE x.code = $2 AND x.enabled;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('"%s" is no result of a call', coalesce(left($2, 100), 'NULL')),
			DETAIL = format('There are: %s.', (SELECT string_agg(x.code, ', ' ORDER BY x."position", x.code) FROM crm.call_list_result x WHERE x.enabled)),
			HINT = format('Give one of: %s.', (SELECT string_agg(x.code, ', ' ORDER BY x."position", x.code) FROM crm.call_list_result x WHERE x.enabled));
	END IF;
	-- The same again, from a client that lost our answer, changes nothing.
	SELECT x.result INTO said FROM crm.call_list_log x WHERE x.hand_id = g.id AND x.action = 'result';
	IF said = k.code THEN
		state := e.state;
		next_at := CASE WHEN e.state <> 'done' THEN e.next_at END;
		deal_id := e.deal_id;
		RETURN;
	ELSIF said IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('hand-out %s has its result already: %s', g.id, said), HINT = 'SELECT * FROM crm.call_next(list) for the next contact.';
	END IF;
	IF e.hand_id <> g.id THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('hand-out %s ran out, and the contact was handed to somebody else since', g.id),
			DETAIL = format('It is with employee %s since %s.', e.employee_id, (SELECT x.at FROM crm.call_list_log x WHERE x.id = e.hand_id)),
			HINT = 'Tell the colleague; a longer crm.call_list.reserve_for leaves more time.';
	END IF;
	who := g.employee_id;

	at := NULL;
	IF k.outcome = 'callback' THEN
		at := coalesce($4, $5 AT TIME ZONE e.time_zone);
		IF at IS NULL OR at <= crm.now() OR at > crm.now() + interval '1 year' THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no time to call back: %s', coalesce(at::text, 'NULL')),
				HINT = 'Give call_back_at, or call_back_local by the contact''s own clock: later than now, within a year.';
		END IF;
		at := coalesce(crm.next_working_time(at, l.calendar_code, e.time_zone), at);
	ELSIF k.outcome = 'retry' THEN
		at := coalesce(crm.next_working_time(crm.now() + k.retry_after, l.calendar_code, e.time_zone), crm.now() + k.retry_after);
	ELSIF k.outcome = 'bad_number' THEN
		number := (crm.call_list_phones(e.contact_id))[1];
		PERFORM crm.mark_contact_point(p.id, 'invalid', 'call') FROM crm.contact_point p WHERE p.contact_id = e.contact_id AND p.kind = 'phone' AND p.value = number;
		IF crm.call_list_phones(e.contact_id) IS NOT NULL THEN
			at := coalesce(crm.next_working_time(crm.now(), l.calendar_code, e.time_zone), crm.now());
		END IF;
	END IF;
	why := CASE WHEN e.state = 'done' THEN e.ended
		WHEN at IS NULL THEN k.code
		WHEN k.outcome <> 'callback' AND e.attempts + k.counts::integer >= l.attempt_limit THEN 'limit' END;

	IF k.outcome = 'deal' AND e.deal_id IS NULL THEN
		SELECT x.* INTO company FROM crm.contact c JOIN crm.company x ON x.id = c.company_id WHERE c.id = e.contact_id FOR NO KEY UPDATE OF x;
		INSERT INTO crm.deal AS d (funnel_id, stage_id, company_id, contact_id, owner_id, name, source, source_id)
		SELECT l.funnel_id, coalesce(l.stage_id, (SELECT s.id FROM crm.stage s WHERE s.funnel_id = l.funnel_id ORDER BY s."position", s.id LIMIT 1)),
			company.id, e.contact_id, who, left(concat_ws(': ', l.name, coalesce(company.name, c.name)), 500), 'call_list', e.id::text
		FROM crm.contact c WHERE c.id = e.contact_id
		ON CONFLICT ON CONSTRAINT deal_source_key DO UPDATE SET source_id = d.source_id
		RETURNING d.id INTO e.deal_id;
		IF company.id IS NOT NULL AND company.owner_id IS NULL THEN
			UPDATE crm.company x SET owner_id = who WHERE x.id = company.id;
		END IF;
	END IF;
	UPDATE crm.call_list_entry x SET
		state = CASE WHEN why IS NOT NULL THEN 'done' WHEN k.outcome = 'callback' THEN 'callback' ELSE 'pool' END,
		ended = why, next_at = coalesce(at, x.next_at), attempts = x.attempts + k.counts::integer, result = k.code, result_at = crm.now(), deal_id = e.deal_id
	WHERE x.id = e.id
	RETURNING x.* INTO e;
	INSERT INTO crm.call_list_log (list_id, entry_id, action, employee_id, hand_id, result, note, next_at)
	VALUES (l.id, e.id, 'result', who, g.id, k.code, $3, CASE WHEN e.state <> 'done' THEN e.next_at END);
	IF k.outcome = 'do_not_call' THEN
		PERFORM crm.bar_calls(e.contact_id, coalesce($3, k.name_en), false, who);
	END IF;
	IF crm.guard() THEN
		INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
		SELECT 'contact.called', 'contact', e.contact_id, e.company_id, jsonb_build_object('list', l.code, 'list_name', l.name, 'result', k.code, 'result_ru', k.name_ru,
			'result_en', k.name_en, 'attempt', e.attempts, 'employee', w.name, 'deal_id', e.deal_id, 'state', e.state), 'call_list', g.id::text
		FROM crm.employee w WHERE w.id = who;
	END IF;
	PERFORM crm.wake() WHERE e.state = 'callback';
	state := e.state;
	next_at := CASE WHEN e.state <> 'done' THEN e.next_at END;
	deal_id := e.deal_id;
END
$$;
COMMENT ON FUNCTION crm.call_result(bigint, text, text, timestamptz, timestamp) IS 'Says how the attempt of a hand-out ended, by a code of crm.call_list_result, and what follows: again later, a call-back by the same employee (call_back_at, or call_back_local by the contact''s own clock, moved into the contact''s working hours), no more, or a deal in the list''s funnel, whose owner is the employee (he becomes the owner of a company that has none). state and next_at tell where the contact stands now (next_at NULL: done). The same result again changes nothing. Emits contact.called. Errors: P0002 no such hand-out, 22023 an unknown result or no time to call back, 55000 the hand-out has another result, or ran out and somebody else has the contact';

SELECT crm.register_event_kind('contact.called', 'contact', ARRAY['list', 'list_name', 'result', 'result_ru', 'result_en', 'attempt', 'employee', 'deal_id', 'state'],
	'A contact of a call list was called', 'Контакту из списка обзвона позвонили');

CREATE OR REPLACE FUNCTION crm.call_return(hand_id bigint, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	e crm.call_list_entry;
BEGIN
	SELECT (h.e).* INTO e FROM crm.call_list_hand($1) h;
	IF e.hand_id <> $1 OR e.state <> 'reserved' THEN
		RETURN false;
	END IF;
	RETURN crm.call_list_release(ARRAY[e.id], 'returned', reason) = 1;
END
$$;
COMMENT ON FUNCTION crm.call_return(bigint, text) IS 'Gives a contact that was handed out back to the pool without an attempt. False: it is not held under this hand-out any more. Error P0002 no such hand-out';

CREATE OR REPLACE FUNCTION crm.call_list_held(employee_ids bigint[]) RETURNS TABLE (entry_id bigint, list_id bigint)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
	SELECT x.id, x.list_id FROM crm.call_list_entry x WHERE x.state = 'reserved' AND x.employee_id = ANY ($1)
	UNION ALL
	SELECT x.id, x.list_id FROM crm.call_list l CROSS JOIN LATERAL (SELECT y.id, y.list_id FROM crm.call_list_entry y
		WHERE y.list_id = l.id AND y.state = 'callback' AND y.employee_id = ANY ($1) OFFSET 0) x
$$;
COMMENT ON FUNCTION crm.call_list_held(bigint[]) IS 'The entries that employees hold and those that they have promised to call back';

CREATE OR REPLACE FUNCTION crm.call_list_take_back(employee_id bigint, list text DEFAULT NULL, reason text DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l crm.call_list;
BEGIN
	IF NOT crm.sees_employee($1) THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('you do not act for employee %s', $1), HINT = 'A head takes back what the own team has.';
	END IF;
	IF list IS NOT NULL THEN
		l := crm.call_list_row(list);
	END IF;
	RETURN crm.call_list_release((SELECT array_agg(h.entry_id) FROM crm.call_list_held(ARRAY[$1]) h WHERE list IS NULL OR h.list_id = l.id), 'returned', reason);
END
$$;
COMMENT ON FUNCTION crm.call_list_take_back(bigint, text, text) IS 'Gives back to the pool what an employee holds and has promised to call back, in one list or all. Returns how many. Errors: P0002 no such list, 42501 the caller may not act for the employee';

CREATE OR REPLACE FUNCTION crm.call_list_dismissed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	gone bigint[];
BEGIN
	IF crm.guard() THEN
		SELECT array_agg(a.id) INTO gone FROM before_ b JOIN after_ a ON a.id = b.id AND a.dismissed_at <= crm.now() AND b.dismissed_at IS DISTINCT FROM a.dismissed_at;
		IF gone IS NOT NULL THEN
			PERFORM crm.call_list_release((SELECT array_agg(h.entry_id) FROM crm.call_list_held(gone) h), 'returned', 'the employee was dismissed');
		END IF;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.call_list_dismissed() IS 'Trigger function of crm.employee: what a dismissed employee holds and has promised goes back to the pool. One who leaves later is given nothing from then on, and his call-backs pass to others by the list''s grace';

-- ---- who must not be called -------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.bar_calls(contact_id bigint, reason text DEFAULT NULL, whole_company boolean DEFAULT false, employee_id bigint DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	c crm.contact;
BEGIN
	SELECT x.* INTO c FROM crm.contact x WHERE x.id = $1;
	IF NOT FOUND OR c.company_id IS NOT NULL AND NOT crm.sees_company(c.company_id)
		AND NOT EXISTS (SELECT FROM crm.call_list_entry e WHERE e.contact_id = c.id AND e.employee_id IS NOT NULL AND crm.sees_employee(e.employee_id)) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('contact %s is not there', coalesce($1::text, 'NULL')), HINT = 'SELECT id, name FROM crm.contact lists those that you see.';
	END IF;
	INSERT INTO crm.do_not_call (contact_id, company_id, phone_sha256, reason, employee_id)
	SELECT v.contact_id, v.company_id, v.hash, CASE WHEN v.hash IS NULL THEN left($2, 2000) END, $4
	FROM (SELECT c.id AS contact_id, NULL::bigint AS company_id, NULL::bytea AS hash
		UNION ALL SELECT NULL, c.company_id, NULL WHERE $3 AND c.company_id IS NOT NULL
		UNION ALL SELECT NULL, NULL, sha256(convert_to(p.value, 'UTF8')) FROM crm.contact_point p WHERE p.contact_id = c.id AND p.kind = 'phone' AND p.value LIKE '+%') v
	WHERE NOT EXISTS (SELECT FROM crm.do_not_call d WHERE d.lifted_at IS NULL
		AND (d.contact_id = v.contact_id OR d.company_id = v.company_id OR d.phone_sha256 = v.hash));
	RETURN crm.call_list_end((
		SELECT array_agg(e.id) FROM crm.call_list_entry e WHERE e.state <> 'done' AND (e.contact_id IN (
			SELECT c.id UNION SELECT x.id FROM crm.contact x WHERE $3 AND x.company_id = c.company_id
			UNION SELECT o.contact_id FROM crm.contact_point p JOIN crm.contact_point o ON o.kind = 'phone' AND o.value = p.value
				WHERE p.contact_id = c.id AND p.kind = 'phone'))), 'do_not_call');
END
$$;
COMMENT ON FUNCTION crm.bar_calls(bigint, text, boolean, bigint) IS 'This contact is not called any more, in no list, nor anybody under one of its numbers; whole_company: nor anybody of its company. What waits in lists is ended at once; returns how many entries. Holds after crm.forget() too. Error P0002 no such contact';

CREATE OR REPLACE FUNCTION crm.allow_calls(contact_id bigint) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	lifted integer;
BEGIN
	UPDATE crm.do_not_call d SET lifted_at = crm.now(), lifted_by = crm.me_name()
	WHERE d.lifted_at IS NULL AND (d.contact_id = $1 OR d.company_id = (SELECT c.company_id FROM crm.contact c WHERE c.id = $1)
		OR d.phone_sha256 IN (SELECT sha256(convert_to(p.value, 'UTF8')) FROM crm.contact_point p WHERE p.contact_id = $1 AND p.kind = 'phone'));
	GET DIAGNOSTICS lifted = ROW_COUNT;
	RETURN lifted;
END
$$;
COMMENT ON FUNCTION crm.allow_calls(bigint) IS 'Lifts whatever bars calls to a contact, its numbers and its company; returns how many rows of crm.do_not_call. Entries of lists that were ended stay ended';

CREATE OR REPLACE FUNCTION crm.call_list_forget(contact_id bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n bigint;
BEGIN
	UPDATE crm.call_list_entry e SET state = 'done', ended = 'forgotten' WHERE e.contact_id = $1 AND e.state <> 'done';
	UPDATE crm.do_not_call d SET reason = '[forgotten]' WHERE d.contact_id = $1 AND d.reason <> '[forgotten]';
	UPDATE crm.call_list_log g SET note = '[forgotten]'
	FROM crm.call_list_entry e WHERE e.contact_id = $1 AND g.entry_id = e.id AND g.note <> '[forgotten]';
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION crm.call_list_forget(bigint) IS 'What crm.forget() does in call lists: the contact leaves them, notes of calls are taken out; the hash of a number that must not be called stays. Returns the notes';
SELECT crm.register_hook('forget', 'crm.call_list_log', 'crm.call_list_forget');

-- ---- what ships -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.ship_call_results() RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO crm.call_list_result (code, name_ru, name_en, outcome, retry_after, counts, "position", shipped) VALUES
		('no_answer', 'Не ответили', 'No answer', 'retry', interval '4 hours', true, 10, true),
		('busy', 'Занято', 'Busy', 'retry', interval '30 minutes', true, 20, true),
		('voicemail', 'Автоответчик', 'Voicemail', 'retry', interval '4 hours', true, 30, true),
		('call_back', 'Перезвонить', 'Call back', 'callback', NULL, false, 40, true),
		('interested', 'Заинтересован', 'Interested', 'deal', NULL, true, 50, true),
		('refused', 'Отказ', 'Refused', 'final', NULL, true, 60, true),
		('wrong_number', 'Неверный номер', 'Wrong number', 'bad_number', NULL, true, 70, true),
		('do_not_call', 'Просили не звонить', 'Asked not to be called', 'do_not_call', NULL, true, 80, true)
	ON CONFLICT (code) DO NOTHING
$$;
COMMENT ON FUNCTION crm.ship_call_results() IS 'Writes the results of calls that ship; what is there stays as the DBA left it. Called by crm.activate().';
SELECT crm.register_hook('ship', 'call_list', 'crm.ship_call_results');

SELECT crm.register_foreign_key('crm.call_list', 'funnel_id', 'crm.funnel');
SELECT crm.register_foreign_key('crm.call_list', 'stage_id', 'crm.stage');
SELECT crm.register_foreign_key('crm.call_list', 'calendar_code', 'crm.calendar', 'code');
SELECT crm.register_foreign_key('crm.call_list_zone', 'list_id', 'crm.call_list');
SELECT crm.register_foreign_key('crm.call_list_entry', 'list_id', 'crm.call_list');
SELECT crm.register_foreign_key('crm.call_list_entry', 'contact_id', 'crm.contact');
SELECT crm.register_foreign_key('crm.call_list_entry', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.call_list_entry', 'employee_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.call_list_entry', 'deal_id', 'crm.deal', 'id', on_delete => 'SET NULL');
SELECT crm.register_no_foreign_key('crm.call_list_entry', 'hand_id', 'names a row of the log, which is never deleted');
SELECT crm.register_no_foreign_key('crm.call_list_log', 'list_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.call_list_log', 'entry_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.call_list_log', 'employee_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.call_list_log', 'hand_id', 'names a row of the own table');
SELECT crm.register_foreign_key('crm.do_not_call', 'contact_id', 'crm.contact');
SELECT crm.register_foreign_key('crm.do_not_call', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.do_not_call', 'employee_id', 'crm.employee');
