-- erp: the doors. Each call is one object of the ERP, told by its own id: the same call again is the same row.

CREATE OR REPLACE FUNCTION crm.erp_phone(value text, argument text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := crm.erp_text(value, argument, 100);
	why   text;
BEGIN
	IF clean IS NULL OR clean = '-' THEN
		RETURN clean;
	END IF;
	BEGIN
		RETURN crm.phone_e164(clean);
	EXCEPTION WHEN data_exception THEN
		GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
	END;
	PERFORM crm.erp_fail('22023', format('%s "%s" is no phone number', argument, left(clean, 40)),
		concat_ws(' ', nullif(why, ''), format('Send one number in %s with the country code, +7 916 123-45-67, or leave it empty.', argument)));
END
$$;
COMMENT ON FUNCTION crm.erp_phone(text, text) IS 'A phone number in E.164; empty is NULL, a single - stays. Error 22023 with the reason.';

CREATE OR REPLACE FUNCTION crm.erp_email(value text, argument text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := crm.erp_text(value, argument, 320);
BEGIN
	IF clean IS NULL OR clean = '-' THEN
		RETURN clean;
	END IF;
	BEGIN
		RETURN crm.email_normal(clean);
	EXCEPTION WHEN data_exception THEN
		PERFORM crm.erp_fail('22023', SQLERRM, format('Send one address in %s as name@example.ru, or leave it empty.', argument));
	END;
END
$$;
COMMENT ON FUNCTION crm.erp_email(text, text) IS 'An e-mail address in its one form; empty is NULL, a single - stays. Error 22023 with the reason.';

CREATE OR REPLACE FUNCTION crm.erp_point_put(contact_id bigint, kind text, sent text) RETURNS jsonb
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	old_point bigint;
	old_value text;
	new_point bigint;
BEGIN
	SELECT p.contact_point_id, q.value INTO old_point, old_value
	FROM crm.erp_point p
	LEFT JOIN crm.contact_point q ON q.id = p.contact_point_id
	WHERE p.contact_id = erp_point_put.contact_id AND p.kind = erp_point_put.kind;
	IF sent IS NULL OR sent = old_value OR (sent = '-' AND old_value IS NULL) THEN
		RETURN NULL;
	END IF;
	IF sent = '-' THEN
		DELETE FROM crm.erp_point p WHERE p.contact_id = erp_point_put.contact_id AND p.kind = erp_point_put.kind;
		DELETE FROM crm.contact_point q WHERE q.id = old_point;
		RETURN jsonb_build_array(old_value, NULL);
	END IF;
	SELECT q.id INTO new_point FROM crm.contact_point q
	WHERE q.contact_id = erp_point_put.contact_id AND q.kind = erp_point_put.kind AND q.value = sent;
	IF new_point IS NOT NULL THEN
		-- Somebody entered it already: the ERP's former one is replaced by it.
		UPDATE crm.contact_point q SET state = 'stale', verified_by = 'erp: replaced', verified_at = crm.now() WHERE q.id = old_point;
	ELSIF old_value IS NOT NULL THEN
		UPDATE crm.contact_point q SET value = sent, raw = NULL WHERE q.id = old_point;
		new_point := old_point;
	ELSE
		INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (erp_point_put.contact_id, erp_point_put.kind, sent)
		RETURNING contact_point.id INTO new_point;
	END IF;
	INSERT INTO crm.erp_point AS p (contact_id, kind, contact_point_id) VALUES (erp_point_put.contact_id, erp_point_put.kind, new_point)
	ON CONFLICT ON CONSTRAINT erp_point_pkey DO UPDATE SET contact_point_id = EXCLUDED.contact_point_id;
	RETURN jsonb_build_array(old_value, sent);
END
$$;
COMMENT ON FUNCTION crm.erp_point_put(bigint, text, text) IS 'Puts the phone or address that the ERP gives for a contact in the place of its former one; returns [before, after], NULL where nothing changed.';

-- ---- companies ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_company(erp_id text, name text DEFAULT NULL, inn text DEFAULT NULL, kpp text DEFAULT NULL,
	is_client text DEFAULT NULL, is_carrier text DEFAULT NULL, full_name text DEFAULT NULL, owner_erp_id text DEFAULT NULL,
	language text DEFAULT NULL, time_zone text DEFAULT NULL, archived text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key         text := crm.erp_key(erp_id, 'erp_id', true);
	v_name      text := crm.erp_text(name, 'name');
	v_full      text := crm.erp_text(full_name, 'full_name', 1000);
	v_inn       text := crm.erp_text(inn, 'inn', 20);
	v_kpp       text := upper(crm.erp_text(kpp, 'kpp', 20));
	v_client    boolean := crm.erp_boolean(is_client, 'is_client');
	v_carrier   boolean := crm.erp_boolean(is_carrier, 'is_carrier');
	v_language  text := crm.erp_language(language);
	v_zone      text := crm.erp_zone_check(time_zone, 'time_zone');
	v_archived  boolean := crm.erp_boolean(archived, 'archived');
	v_owner_key text := crm.erp_key(owner_erp_id, 'owner_erp_id');
	v_owner     bigint;
	old_        crm.company;
	new_        crm.company;
	id_         bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF v_inn <> '-' AND v_inn !~ '^([0-9]{10}|[0-9]{12})$' THEN
		PERFORM crm.erp_fail('22023', format('inn "%s" is no tax number', v_inn), 'Send 10 or 12 digits in inn, or leave it empty.');
	END IF;
	IF v_kpp <> '-' AND NOT crm.kpp_valid(v_kpp) THEN
		PERFORM crm.erp_fail('22023', format('kpp "%s" is no KPP', v_kpp), 'Send nine digits in kpp (letters may stand in the fifth and sixth place), or leave it empty.');
	END IF;
	IF v_owner_key IS NOT NULL AND v_owner_key <> '-' THEN
		SELECT e.id INTO v_owner FROM crm.employee e WHERE e.source = 'erp' AND e.source_id = v_owner_key;
		IF NOT FOUND THEN
			PERFORM crm.erp_fail('23503', format('owner_erp_id "%s" is not known', v_owner_key),
				format('Send the employee first: SELECT * FROM crm_erp.put_employee(''%s'', ''the name''); then repeat this call.', v_owner_key));
		END IF;
	END IF;

	SELECT c.* INTO old_ FROM crm.company c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		SELECT c.* INTO old_ FROM crm.company c WHERE c.id = crm.erp_linked('company', key) FOR NO KEY UPDATE;
	END IF;
	IF old_.id IS NULL THEN
		IF v_name IS NULL THEN
			PERFORM crm.erp_fail('22004', format('company "%s" has no name', key), 'Send the company''s name in name when it is sent for the first time.');
		END IF;
		INSERT INTO crm.company (name, full_name, inn, kpp, is_client, is_carrier, owner_id, language, time_zone, source, source_id, archived_at)
		VALUES (v_name, nullif(v_full, '-'), nullif(v_inn, '-'), nullif(v_kpp, '-'), coalesce(v_client, true), coalesce(v_carrier, false), v_owner,
			coalesce(v_language, 'ru'), coalesce(v_zone, crm.erp_zone()), 'erp', key, CASE WHEN v_archived THEN crm.now() END)
		ON CONFLICT ON CONSTRAINT company_source_key DO NOTHING
		RETURNING company.id INTO id_;
		IF FOUND THEN
			RETURN ROW(id_, 'created', key)::crm_erp.put_result;
		END IF;
		-- Another session was first.
		SELECT c.* INTO STRICT old_ FROM crm.company c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	END IF;
	new_ := old_;
	new_.name := coalesce(v_name, old_.name);
	new_.full_name := crm.erp_keep(v_full, old_.full_name);
	new_.inn := crm.erp_keep(v_inn, old_.inn);
	new_.kpp := crm.erp_keep(v_kpp, old_.kpp);
	new_.is_client := coalesce(v_client, old_.is_client);
	new_.is_carrier := coalesce(v_carrier, old_.is_carrier);
	new_.owner_id := CASE WHEN v_owner_key = '-' THEN NULL ELSE coalesce(v_owner, old_.owner_id) END;
	new_.language := coalesce(v_language, old_.language);
	new_.time_zone := coalesce(v_zone, old_.time_zone);
	new_.archived_at := CASE WHEN v_archived THEN coalesce(old_.archived_at, crm.now()) WHEN NOT v_archived THEN NULL ELSE old_.archived_at END;
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	UPDATE crm.company c SET name = new_.name, full_name = new_.full_name, inn = new_.inn, kpp = new_.kpp, is_client = new_.is_client,
		is_carrier = new_.is_carrier, owner_id = new_.owner_id, language = new_.language, time_zone = new_.time_zone, archived_at = new_.archived_at
	WHERE c.id = old_.id;
	PERFORM crm.erp_note('company', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_company(text, text, text, text, text, text, text, text, text, text, text) IS 'Takes a client or carrier by the ERP''s id. All text; an empty argument leaves what is known, a single - clears it. Answers id, result (created, updated, same), erp_id. Errors, the advice in DETAIL too: 22004 no id or name, 22023 no INN, KPP, language or zone, 23503 owner not known, 22P02 neither yes nor no, 55000 database not active. INN check digits do not refuse a company: crm.inn_valid tells (claim 7).';

CREATE OR REPLACE FUNCTION crm_erp.put_company(erp_id text, name text, inn text, kpp text, is_client boolean, is_carrier boolean DEFAULT NULL,
	full_name text DEFAULT NULL, owner_erp_id text DEFAULT NULL, language text DEFAULT NULL, time_zone text DEFAULT NULL, archived boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_company($1, $2, $3, $4, $5::text, $6::text, $7, $8, $9, $10, $11::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_company(text, text, text, text, boolean, boolean, text, text, text, text, boolean) IS 'The same with yes and no as boolean.';

-- ---- employees ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_employee(erp_id text, name text DEFAULT NULL, team text DEFAULT NULL, is_head text DEFAULT NULL,
	role_name text DEFAULT NULL, time_zone text DEFAULT NULL, dismissed_at text DEFAULT NULL, calendar text DEFAULT NULL,
	mobile text DEFAULT NULL, extension text DEFAULT NULL, mailbox text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key         text := crm.erp_key(erp_id, 'erp_id', true);
	v_name      text := crm.erp_text(name, 'name');
	v_team      text := crm.erp_text(team, 'team', 200);
	v_head      boolean := crm.erp_boolean(is_head, 'is_head');
	v_role      text := crm.erp_text(role_name, 'role_name', 63);
	v_zone      text := crm.erp_zone_check(time_zone, 'time_zone');
	v_dismissed timestamptz := CASE WHEN crm.erp_text(dismissed_at, 'dismissed_at', 60) IS DISTINCT FROM '-' THEN crm.erp_time(dismissed_at, 'dismissed_at') END;
	v_calendar  text := lower(crm.erp_text(calendar, 'calendar', 63));
	v_lines     text[] := ARRAY[crm.erp_phone(mobile, 'mobile'), crm.erp_text(extension, 'extension', 20), crm.erp_email(mailbox, 'mailbox')];
	v_team_id   bigint;
	old_        crm.employee;
	new_        crm.employee;
	id_         bigint;
	created     boolean := false;
	lines       jsonb;
BEGIN
	PERFORM crm.erp_begin();
	IF v_calendar IS NOT NULL AND NOT EXISTS (SELECT FROM crm.calendar c WHERE c.code = v_calendar) THEN
		PERFORM crm.erp_fail('22023', format('calendar "%s" does not exist', v_calendar), 'Send office, always, or the code of a calendar that a DBA has made, or leave it empty.');
	END IF;
	IF v_lines[2] <> '-' AND v_lines[2] !~ '^[0-9*#]{1,20}$' THEN
		PERFORM crm.erp_fail('22023', format('extension "%s" is no number of a telephone exchange', v_lines[2]), 'Send the digits that a colleague dials, or leave it empty.');
	END IF;
	v_team_id := (SELECT t.team_id FROM crm.erp_team t WHERE t.erp_id = crm.erp_key(v_team, 'team'));
	IF v_team_id IS NULL AND v_team IS NOT NULL AND v_team <> '-' THEN
		INSERT INTO crm.team (name) VALUES (v_team) ON CONFLICT ON CONSTRAINT team_name_key DO NOTHING;
		SELECT t.id INTO v_team_id FROM crm.team t WHERE t.name = v_team;
	END IF;
	IF v_role IS NOT NULL AND v_role <> '-' AND EXISTS (SELECT FROM crm.employee e WHERE e.role_name = v_role AND (e.source, e.source_id) IS DISTINCT FROM ('erp', key)) THEN
		PERFORM crm.erp_fail('23505', format('role_name "%s" belongs to another employee', v_role), 'A login role is one person; send another role, or leave it empty.');
	END IF;
	SELECT e.* INTO old_ FROM crm.employee e WHERE e.source = 'erp' AND e.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_name IS NULL THEN
			PERFORM crm.erp_fail('22004', format('employee "%s" has no name', key), 'Send the person''s name in name when it is sent for the first time.');
		END IF;
		INSERT INTO crm.employee (name, role_name, team_id, is_head, time_zone, calendar_code, dismissed_at, source, source_id)
		VALUES (v_name, nullif(v_role, '-'), v_team_id, coalesce(v_head, false), coalesce(v_zone, crm.erp_zone()), coalesce(v_calendar, 'office'), v_dismissed, 'erp', key)
		ON CONFLICT ON CONSTRAINT employee_source_key DO NOTHING;
		created := FOUND;
		SELECT e.* INTO STRICT old_ FROM crm.employee e WHERE e.source = 'erp' AND e.source_id = key FOR NO KEY UPDATE;
	END IF;
	new_ := old_;
	new_.name := coalesce(v_name, old_.name);
	new_.role_name := crm.erp_keep(v_role, old_.role_name);
	new_.team_id := CASE WHEN v_team = '-' THEN NULL ELSE coalesce(v_team_id, old_.team_id) END;
	new_.is_head := coalesce(v_head, old_.is_head);
	new_.time_zone := coalesce(v_zone, old_.time_zone);
	new_.calendar_code := coalesce(v_calendar, old_.calendar_code);
	new_.dismissed_at := CASE WHEN btrim(dismissed_at) = '-' THEN NULL ELSE coalesce(v_dismissed, old_.dismissed_at) END;
	IF new_ IS DISTINCT FROM old_ THEN
		UPDATE crm.employee e SET name = new_.name, role_name = new_.role_name, team_id = new_.team_id, is_head = new_.is_head,
			time_zone = new_.time_zone, calendar_code = new_.calendar_code, dismissed_at = new_.dismissed_at
		WHERE e.id = old_.id;
	END IF;
	lines := crm.erp_lines_put(old_.id, v_lines, new_.dismissed_at);
	IF created THEN
		RETURN ROW(old_.id, 'created', key)::crm_erp.put_result;
	END IF;
	IF new_ IS NOT DISTINCT FROM old_ AND lines = '{}' THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	PERFORM crm.erp_note('employee', old_.id, key,
		to_jsonb(old_) || coalesce((SELECT jsonb_object_agg(l.key, l.value -> 0) FROM jsonb_each(lines) l), '{}'),
		to_jsonb(new_) || coalesce((SELECT jsonb_object_agg(l.key, l.value -> 1) FROM jsonb_each(lines) l), '{}'));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_employee(text, text, text, text, text, text, text, text, text, text, text) IS 'Takes one of our people by the ERP''s id. team is the id of one that put_team sent, or a name (an unknown one is made); calendar the code of a working calendar; mobile, extension and mailbox the lines that he holds from now on: whoever held one until now gives it up, and one who is dismissed holds none. All text; empty leaves, - clears. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or name, 22023 zone, calendar, no phone, extension or address, 22007 and 22008 time, 22P02 neither yes nor no, 23505 role of another person, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_employee(erp_id text, name text, team text, is_head boolean, role_name text DEFAULT NULL,
	time_zone text DEFAULT NULL, dismissed_at timestamp DEFAULT NULL, calendar text DEFAULT NULL, mobile text DEFAULT NULL, extension text DEFAULT NULL, mailbox text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_employee($1, $2, $3, $4::text, $5, $6, crm.erp_stamp($7, 'dismissed_at'), $8, $9, $10, $11) p;
END;
COMMENT ON FUNCTION crm_erp.put_employee(text, text, text, boolean, text, text, timestamp, text, text, text, text) IS 'The same with yes and no as boolean, the time as timestamp (in the plant''s zone).';

-- ---- contacts ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_contact(erp_id text, company_erp_id text DEFAULT NULL, name text DEFAULT NULL, phone text DEFAULT NULL,
	email text DEFAULT NULL, "position" text DEFAULT NULL, is_decision_maker text DEFAULT NULL, language text DEFAULT NULL,
	time_zone text DEFAULT NULL, archived text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key        text := crm.erp_key(erp_id, 'erp_id', true);
	v_company  bigint := crm.erp_company(company_erp_id, 'company_erp_id', false);
	v_name     text := crm.erp_text(name, 'name');
	v_phone    text := crm.erp_phone(phone, 'phone');
	v_email    text := crm.erp_email(email, 'email');
	v_position text := crm.erp_text("position", 'position');
	v_decides  boolean := crm.erp_boolean(is_decision_maker, 'is_decision_maker');
	v_language text := crm.erp_language(language);
	v_zone     text := crm.erp_zone_check(time_zone, 'time_zone');
	v_archived boolean := crm.erp_boolean(archived, 'archived');
	old_       crm.contact;
	new_       crm.contact;
	id_        bigint;
	created    boolean := false;
	points     jsonb := '{}';
	change     jsonb;
	point      record;
BEGIN
	PERFORM crm.erp_begin();
	SELECT c.* INTO old_ FROM crm.contact c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		SELECT c.* INTO old_ FROM crm.contact c WHERE c.id = crm.erp_linked('contact', key) FOR NO KEY UPDATE;
	END IF;
	IF old_.id IS NULL THEN
		IF v_name IS NULL OR v_company IS NULL THEN
			PERFORM crm.erp_fail('22004', format('contact "%s" has no %s', key, CASE WHEN v_name IS NULL THEN 'name' ELSE 'company' END),
				'Send name and company_erp_id when the contact is sent for the first time.');
		END IF;
		INSERT INTO crm.contact (company_id, name, "position", language, time_zone, is_decision_maker, source, source_id, archived_at)
		VALUES (v_company, v_name, nullif(v_position, '-'), v_language, v_zone, coalesce(v_decides, false), 'erp', key, CASE WHEN v_archived THEN crm.now() END)
		ON CONFLICT ON CONSTRAINT contact_source_key DO NOTHING
		RETURNING contact.id INTO id_;
		created := FOUND;
		SELECT c.* INTO STRICT old_ FROM crm.contact c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	END IF;
	FOR point IN SELECT 'phone' AS kind, v_phone AS value UNION ALL SELECT 'email', v_email LOOP
		change := crm.erp_point_put(old_.id, point.kind, point.value);
		IF change IS NOT NULL THEN
			points := points || jsonb_build_object(point.kind, change);
		END IF;
	END LOOP;
	IF created THEN
		RETURN ROW(old_.id, 'created', key)::crm_erp.put_result;
	END IF;
	new_ := old_;
	-- a contact that a merge took to the winner stays there
	new_.company_id := CASE WHEN crm.company_now(v_company) = old_.company_id THEN old_.company_id ELSE coalesce(v_company, old_.company_id) END;
	new_.name := coalesce(v_name, old_.name);
	new_."position" := crm.erp_keep(v_position, old_."position");
	new_.language := coalesce(v_language, old_.language);
	new_.time_zone := coalesce(v_zone, old_.time_zone);
	new_.is_decision_maker := coalesce(v_decides, old_.is_decision_maker);
	new_.archived_at := CASE WHEN v_archived THEN coalesce(old_.archived_at, crm.now()) WHEN NOT v_archived THEN NULL ELSE old_.archived_at END;
	IF new_ IS NOT DISTINCT FROM old_ AND points = '{}' THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	IF new_ IS DISTINCT FROM old_ THEN
		UPDATE crm.contact c SET company_id = new_.company_id, name = new_.name, "position" = new_."position", language = new_.language,
			time_zone = new_.time_zone, is_decision_maker = new_.is_decision_maker, archived_at = new_.archived_at
		WHERE c.id = old_.id;
	END IF;
	PERFORM crm.erp_note('contact', old_.id, key,
		to_jsonb(old_) || coalesce((SELECT jsonb_object_agg(p.key, p.value -> 0) FROM jsonb_each(points) p), '{}'),
		to_jsonb(new_) || coalesce((SELECT jsonb_object_agg(p.key, p.value -> 1) FROM jsonb_each(points) p), '{}'));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_contact(text, text, text, text, text, text, text, text, text, text) IS 'Takes a person at a client by the ERP''s id, with one phone and one address; those that people entered stay. All text; empty leaves, - clears. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id, name or company, 23503 company not known, 22023 no phone, address, language or zone, 22P02 neither yes nor no, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_contact(erp_id text, company_erp_id text, name text, phone text, email text, "position" text,
	is_decision_maker boolean, language text DEFAULT NULL, time_zone text DEFAULT NULL, archived boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_contact($1, $2, $3, $4, $5, $6, $7::text, $8, $9, $10::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_contact(text, text, text, text, text, text, boolean, text, text, boolean) IS 'The same with yes and no as boolean.';

-- ---- places ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_place(erp_id text, company_erp_id text DEFAULT NULL, name text DEFAULT NULL, kind text DEFAULT NULL,
	lon text DEFAULT NULL, lat text DEFAULT NULL, radius_m text DEFAULT NULL, border text DEFAULT NULL, time_zone text DEFAULT NULL,
	no_internet text DEFAULT NULL, archived text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key         text := crm.erp_key(erp_id, 'erp_id', true);
	v_company   bigint := crm.erp_company(company_erp_id, 'company_erp_id', false);
	v_name      text := crm.erp_text(name, 'name');
	v_kind      text := lower(crm.erp_text(kind, 'kind', 20));
	v_lon       double precision := crm.erp_range(crm.erp_number(lon, 'lon'), 'lon', -180, 180, 'degrees east');
	v_lat       double precision := crm.erp_range(crm.erp_number(lat, 'lat'), 'lat', -90, 90, 'degrees north');
	v_radius    double precision := crm.erp_range(crm.erp_number(radius_m, 'radius_m'), 'radius_m', 1, 100000, 'metres');
	v_border    text := crm.erp_text(border, 'border', 1000000);
	v_zone      text := crm.erp_zone_check(time_zone, 'time_zone');
	v_quiet     boolean := crm.erp_boolean(no_internet, 'no_internet');
	v_archived  boolean := crm.erp_boolean(archived, 'archived');
	shape       crm.place.border%TYPE;
	id_         bigint;
	before_     jsonb;
	after_      jsonb;
BEGIN
	PERFORM crm.erp_begin();
	IF v_kind NOT IN ('plant', 'unloading', 'station', 'other') THEN
		PERFORM crm.erp_fail('22023', format('kind "%s" is no kind of place', v_kind), 'Send plant, unloading, station or other in kind, or leave it empty for unloading.');
	END IF;
	IF (v_lon IS NULL) <> (v_lat IS NULL) OR (v_lon = 0 AND v_lat = 0) THEN
		PERFORM crm.erp_fail('22023', format('lon "%s" and lat "%s" are no point', lon, lat), 'Send both lon and lat in degrees, or neither; 0, 0 is what a tracker without a fix says.');
	END IF;
	IF v_border IS NOT NULL AND v_border <> '-' THEN
		BEGIN
			shape := crm.geo_border(v_border);
		EXCEPTION WHEN data_exception THEN
			PERFORM crm.erp_fail('22023', SQLERRM, 'Send border as POLYGON((lon lat, lon lat, …)) in degrees, the last corner equal to the first.');
		END;
	END IF;

	SELECT p.id, jsonb_build_object('company_id', p.company_id, 'name', p.name, 'kind', p.kind, 'lon', p.lon, 'lat', p.lat, 'radius_m', p.radius_m,
		'border', crm.geo_text(p.border), 'time_zone', p.time_zone, 'no_internet', p.no_internet, 'archived', p.archived_at IS NOT NULL)
	INTO id_, before_
	FROM crm.place p WHERE p.source = 'erp' AND p.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_name IS NULL THEN
			PERFORM crm.erp_fail('22004', format('place "%s" has no name', key), 'Send the place''s name in name when it is sent for the first time.');
		END IF;
		INSERT INTO crm.place (company_id, name, kind, lon, lat, radius_m, border, time_zone, no_internet, source, source_id, archived_at)
		VALUES (v_company, v_name, coalesce(v_kind, 'unloading'), v_lon, v_lat, v_radius, shape, coalesce(v_zone, crm.erp_zone()),
			coalesce(v_quiet, false), 'erp', key, CASE WHEN v_archived THEN crm.now() END)
		ON CONFLICT ON CONSTRAINT place_source_key DO NOTHING
		RETURNING place.id INTO id_;
		IF FOUND THEN
			RETURN ROW(id_, 'created', key)::crm_erp.put_result;
		END IF;
		SELECT p.id, jsonb_build_object('company_id', p.company_id, 'name', p.name, 'kind', p.kind, 'lon', p.lon, 'lat', p.lat, 'radius_m', p.radius_m,
			'border', crm.geo_text(p.border), 'time_zone', p.time_zone, 'no_internet', p.no_internet, 'archived', p.archived_at IS NOT NULL)
		INTO STRICT id_, before_
		FROM crm.place p WHERE p.source = 'erp' AND p.source_id = key FOR NO KEY UPDATE;
	END IF;
	after_ := before_ || jsonb_strip_nulls(jsonb_build_object('company_id', v_company, 'name', v_name, 'kind', v_kind, 'lon', v_lon, 'lat', v_lat,
		'radius_m', v_radius, 'border', crm.geo_text(shape), 'time_zone', v_zone, 'no_internet', v_quiet, 'archived', v_archived))
		|| CASE WHEN v_border = '-' THEN '{"border": null}'::jsonb ELSE '{}' END;
	IF after_ = before_ THEN
		RETURN ROW(id_, 'same', key)::crm_erp.put_result;
	END IF;
	UPDATE crm.place p SET company_id = coalesce(v_company, p.company_id), name = coalesce(v_name, p.name), kind = coalesce(v_kind, p.kind),
		lon = coalesce(v_lon, p.lon), lat = coalesce(v_lat, p.lat), radius_m = coalesce(v_radius, p.radius_m),
		border = CASE WHEN v_border = '-' THEN NULL ELSE coalesce(shape, p.border) END,
		time_zone = coalesce(v_zone, p.time_zone), no_internet = coalesce(v_quiet, p.no_internet),
		archived_at = CASE WHEN v_archived THEN coalesce(p.archived_at, crm.now()) WHEN NOT v_archived THEN NULL ELSE p.archived_at END
	WHERE p.id = id_;
	PERFORM crm.erp_note('place', id_, key, before_, after_);
	RETURN ROW(id_, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_place(text, text, text, text, text, text, text, text, text, text, text) IS 'Takes a place of loading or unloading by the ERP''s id: a point (degrees, WGS 84) with a radius in metres, or a border as WKT. All text; empty leaves, - clears the border. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or name, 22003 number out of range, 22023 no point, border, kind or zone, 23503 company not known, 22P02 no number, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_place(erp_id text, company_erp_id text, name text, kind text, lon numeric, lat numeric,
	radius_m numeric DEFAULT NULL, border text DEFAULT NULL, time_zone text DEFAULT NULL, no_internet boolean DEFAULT NULL, archived boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_place($1, $2, $3, $4, $5::text, $6::text, $7::text, $8, $9, $10::text, $11::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_place(text, text, text, text, numeric, numeric, numeric, text, text, boolean, boolean) IS 'The same with numbers as numeric, yes and no as boolean.';

-- ---- vehicles ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_vehicle(erp_id text, plate text DEFAULT NULL, carrier_erp_id text DEFAULT NULL, kind text DEFAULT NULL,
	driver text DEFAULT NULL, driver_phone text DEFAULT NULL, tare_kg text DEFAULT NULL, gps_integration text DEFAULT NULL,
	gps_unit text DEFAULT NULL, archived text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key        text := crm.erp_key(erp_id, 'erp_id', true);
	v_plate    text := crm.erp_text(plate, 'plate', 40);
	v_carrier  bigint := crm.erp_company(carrier_erp_id, 'carrier_erp_id', false);
	v_kind     text := lower(crm.erp_text(kind, 'kind', 20));
	v_driver   text := crm.erp_text(driver, 'driver', 200);
	v_phone    text := crm.erp_phone(driver_phone, 'driver_phone');
	v_tare     numeric := crm.erp_range(crm.erp_number(tare_kg, 'tare_kg'), 'tare_kg', 1, 999999, 'kilograms');
	v_gps      text := crm.erp_text(gps_integration, 'gps_integration', 200);
	v_unit     text := crm.erp_text(gps_unit, 'gps_unit', 200);
	v_archived boolean := crm.erp_boolean(archived, 'archived');
	v_gps_id   bigint;
	old_       crm.vehicle;
	new_       crm.vehicle;
	other      crm.vehicle;
	id_        bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF v_kind NOT IN ('truck', 'tractor', 'trailer', 'other') THEN
		PERFORM crm.erp_fail('22023', format('kind "%s" is no kind of vehicle', v_kind), 'Send truck, tractor, trailer or other in kind, or leave it empty for truck.');
	END IF;
	IF v_gps IS NOT NULL THEN
		SELECT i.id INTO v_gps_id FROM crm.integration i WHERE i.name = v_gps;
		IF NOT FOUND THEN
			PERFORM crm.erp_fail('23503', format('gps_integration "%s" does not exist', v_gps), 'Send the name of a row of crm.integration that brings positions, or leave it empty.');
		END IF;
	END IF;
	IF v_plate IS NOT NULL THEN
		SELECT v.* INTO other FROM crm.vehicle v WHERE v.id = crm.erp_vehicle_by_plate(v_plate) AND (v.source, v.source_id) IS DISTINCT FROM ('erp', key);
		IF FOUND AND other.source_id IS NOT NULL THEN
			PERFORM crm.erp_fail('23505', format('plate "%s" belongs to vehicle "%s" of source "%s"', v_plate, other.source_id, other.source),
				'One plate is one vehicle; send the other vehicle''s id, or give it another plate first.');
		END IF;
	END IF;

	SELECT v.* INTO old_ FROM crm.vehicle v WHERE v.source = 'erp' AND v.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_plate IS NULL THEN
			PERFORM crm.erp_fail('22004', format('vehicle "%s" has no plate', key), 'Send the number plate in plate when the vehicle is sent for the first time.');
		END IF;
		IF other.id IS NOT NULL THEN
			-- The weighbridge or a person met it first, under its plate alone.
			UPDATE crm.vehicle v SET source = 'erp', source_id = key WHERE v.id = other.id;
			SELECT v.* INTO old_ FROM crm.vehicle v WHERE v.id = other.id;
		ELSE
			INSERT INTO crm.vehicle (plate, kind, carrier_id, driver, driver_phone, tare_kg, gps_integration_id, gps_unit, source, source_id, archived_at)
			VALUES (v_plate, coalesce(v_kind, 'truck'), v_carrier, nullif(v_driver, '-'), nullif(v_phone, '-'), v_tare, v_gps_id, v_unit, 'erp', key,
				CASE WHEN v_archived THEN crm.now() END)
			ON CONFLICT ON CONSTRAINT vehicle_source_key DO NOTHING
			RETURNING vehicle.id INTO id_;
			IF FOUND THEN
				RETURN ROW(id_, 'created', key)::crm_erp.put_result;
			END IF;
			SELECT v.* INTO STRICT old_ FROM crm.vehicle v WHERE v.source = 'erp' AND v.source_id = key FOR NO KEY UPDATE;
		END IF;
	END IF;
	new_ := old_;
	new_.plate := coalesce(v_plate, old_.plate);
	new_.plate_key := old_.plate_key;
	new_.kind := coalesce(v_kind, old_.kind);
	new_.carrier_id := coalesce(v_carrier, old_.carrier_id);
	new_.driver := crm.erp_keep(v_driver, old_.driver);
	new_.driver_phone := crm.erp_keep(v_phone, old_.driver_phone);
	new_.tare_kg := coalesce(v_tare, old_.tare_kg);
	new_.gps_integration_id := coalesce(v_gps_id, old_.gps_integration_id);
	new_.gps_unit := coalesce(v_unit, old_.gps_unit);
	new_.archived_at := CASE WHEN v_archived THEN coalesce(old_.archived_at, crm.now()) WHEN NOT v_archived THEN NULL ELSE old_.archived_at END;
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, CASE WHEN other.id IS NULL THEN 'same' ELSE 'updated' END, key)::crm_erp.put_result;
	END IF;
	UPDATE crm.vehicle v SET plate = new_.plate, kind = new_.kind, carrier_id = new_.carrier_id, driver = new_.driver, driver_phone = new_.driver_phone,
		tare_kg = new_.tare_kg, gps_integration_id = new_.gps_integration_id, gps_unit = new_.gps_unit, archived_at = new_.archived_at
	WHERE v.id = old_.id;
	PERFORM crm.erp_note('vehicle', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_vehicle(text, text, text, text, text, text, text, text, text, text) IS 'Takes a vehicle by the ERP''s id; one that was met by its plate alone becomes this one. gps_integration is the name of a row of crm.integration, gps_unit the tracker''s id there. All text; empty leaves, - clears driver and driver_phone. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or plate, 23503 carrier or integration not known, 23505 plate of another vehicle, 22003 tare out of range, 22023 no phone or kind, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_vehicle(erp_id text, plate text, carrier_erp_id text, kind text, driver text, driver_phone text, tare_kg numeric,
	gps_integration text DEFAULT NULL, gps_unit text DEFAULT NULL, archived boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_vehicle($1, $2, $3, $4, $5, $6, $7::text, $8, $9, $10::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_vehicle(text, text, text, text, text, text, numeric, text, text, boolean) IS 'The same with the tare as numeric, yes and no as boolean.';

CREATE OR REPLACE FUNCTION crm.erp_vehicle_by_plate(plate text) RETURNS bigint
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT v.id FROM crm.vehicle v
	WHERE v.plate_key = translate(regexp_replace($1, '[[:space:]_-]+', '', 'g'),
		'abekmhopctyxABEKMHOPCTYXавекмнорстухбгдёжзийлпфцчшщъыьэюя',
		'АВЕКМНОРСТУХАВЕКМНОРСТУХАВЕКМНОРСТУХБГДЁЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯ');
END;
COMMENT ON FUNCTION crm.erp_vehicle_by_plate(text) IS 'crm.vehicle.id by a plate in any spelling; NULL: none.';

-- ---- orders ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_order(erp_id text, company_erp_id text DEFAULT NULL, product text DEFAULT NULL, tonnes text DEFAULT NULL,
	price text DEFAULT NULL, number text DEFAULT NULL, ordered_at text DEFAULT NULL, window_from text DEFAULT NULL, window_to text DEFAULT NULL,
	place_erp_id text DEFAULT NULL, contact_erp_id text DEFAULT NULL, state text DEFAULT NULL, make_deal text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key         text := crm.erp_key(erp_id, 'erp_id', true);
	v_company   bigint := crm.erp_company(company_erp_id, 'company_erp_id', false);
	v_product   text := crm.erp_text(product, 'product');
	v_tonnes    numeric(14,3) := crm.erp_range(crm.erp_number(tonnes, 'tonnes'), 'tonnes', 0.001, 1000000, 'tonnes');
	v_price     numeric(16,4) := crm.erp_range(crm.erp_number(price, 'price'), 'price', 0, 100000000, 'roubles a tonne');
	v_number    text := crm.erp_text(number, 'number', 100);
	v_ordered   timestamptz := crm.erp_time(ordered_at, 'ordered_at');
	v_from      timestamptz := crm.erp_time(window_from, 'window_from');
	v_to        timestamptz := crm.erp_time(window_to, 'window_to');
	v_place_key text := crm.erp_key(place_erp_id, 'place_erp_id');
	v_cont_key  text := crm.erp_key(contact_erp_id, 'contact_erp_id');
	v_state     text := lower(crm.erp_text(state, 'state', 20));
	v_deal      boolean := coalesce(crm.erp_boolean(make_deal, 'make_deal'), true);
	v_place     bigint;
	v_contact   bigint;
	deal_       bigint;
	old_        crm.customer_order;
	new_        crm.customer_order;
	id_         bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF v_state NOT IN ('new', 'confirmed', 'shipping', 'closed', 'cancelled') THEN
		PERFORM crm.erp_fail('22023', format('state "%s" is no state of an order', v_state), 'Send new, confirmed, shipping, closed or cancelled in state, or leave it empty.');
	END IF;
	IF v_place_key IS NOT NULL AND v_place_key <> '-' THEN
		SELECT p.id INTO v_place FROM crm.place p WHERE p.source = 'erp' AND p.source_id = v_place_key;
		IF NOT FOUND THEN
			PERFORM crm.erp_fail('23503', format('place_erp_id "%s" is not known', v_place_key),
				format('Send the place first: SELECT * FROM crm_erp.put_place(''%s'', …); then repeat this call.', v_place_key));
		END IF;
	END IF;
	IF v_cont_key IS NOT NULL AND v_cont_key <> '-' THEN
		SELECT crm.contact_now(c.id) INTO v_contact FROM crm.contact c WHERE c.source = 'erp' AND c.source_id = v_cont_key;
		v_contact := coalesce(v_contact, crm.erp_linked('contact', v_cont_key));
		IF v_contact IS NULL THEN
			PERFORM crm.erp_fail('23503', format('contact_erp_id "%s" is not known', v_cont_key),
				format('Send the contact first: SELECT * FROM crm_erp.put_contact(''%s'', …); then repeat this call.', v_cont_key));
		END IF;
	END IF;

	SELECT o.* INTO old_ FROM crm.customer_order o WHERE o.source = 'erp' AND o.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		SELECT o.* INTO old_ FROM crm.customer_order o WHERE o.id = crm.erp_linked('order', key) FOR NO KEY UPDATE;
	END IF;
	IF coalesce(v_from, old_.window_from) > coalesce(v_to, old_.window_to) THEN
		PERFORM crm.erp_fail('22023', format('the window ends (%s) before it begins (%s)', coalesce(v_to, old_.window_to), coalesce(v_from, old_.window_from)),
			'Send window_from not after window_to.');
	END IF;
	IF old_.id IS NULL THEN
		IF v_company IS NULL OR v_product IS NULL THEN
			PERFORM crm.erp_fail('22004', format('order "%s" has no %s', key, CASE WHEN v_company IS NULL THEN 'client' ELSE 'product' END),
				'Send company_erp_id and product when the order is sent for the first time.');
		END IF;
		IF v_deal THEN
			INSERT INTO crm.deal (funnel_id, company_id, contact_id, owner_id, name, amount, tonnes, created_at, source, source_id)
			SELECT f.id, c.id, v_contact, c.owner_id, left(format('%s, %s', coalesce(v_number, key), v_product), 500),
				round(v_tonnes * v_price, 2), v_tonnes, least(v_ordered, crm.now()), 'erp', 'order:' || key
			FROM crm.funnel f, crm.company c
			WHERE f.code = 'delivery' AND f.enabled AND c.id = v_company
			ON CONFLICT ON CONSTRAINT deal_source_key DO NOTHING;
			SELECT d.id INTO deal_ FROM crm.deal d WHERE d.source = 'erp' AND d.source_id = 'order:' || key;
		END IF;
		INSERT INTO crm.customer_order (number, company_id, contact_id, place_id, deal_id, product, tonnes, price, ordered_at, window_from, window_to,
			state, source, source_id)
		VALUES (coalesce(v_number, left(key, 100)), v_company, v_contact, v_place, deal_, v_product, v_tonnes, v_price, coalesce(v_ordered, crm.now()), v_from, v_to,
			coalesce(v_state, 'new'), 'erp', key)
		ON CONFLICT ON CONSTRAINT customer_order_source_key DO NOTHING
		RETURNING customer_order.id INTO id_;
		IF FOUND THEN
			RETURN ROW(id_, 'created', key)::crm_erp.put_result;
		END IF;
		SELECT o.* INTO STRICT old_ FROM crm.customer_order o WHERE o.source = 'erp' AND o.source_id = key FOR NO KEY UPDATE;
	END IF;
	new_ := old_;
	new_.number := coalesce(v_number, old_.number);
	new_.company_id := coalesce(v_company, old_.company_id);
	new_.contact_id := CASE WHEN v_cont_key = '-' THEN NULL ELSE coalesce(v_contact, old_.contact_id) END;
	new_.place_id := CASE WHEN v_place_key = '-' THEN NULL ELSE coalesce(v_place, old_.place_id) END;
	new_.product := coalesce(v_product, old_.product);
	new_.tonnes := coalesce(v_tonnes, old_.tonnes);
	new_.price := coalesce(v_price, old_.price);
	new_.ordered_at := coalesce(v_ordered, old_.ordered_at);
	new_.window_from := coalesce(v_from, old_.window_from);
	new_.window_to := coalesce(v_to, old_.window_to);
	new_.state := coalesce(v_state, old_.state);
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	UPDATE crm.customer_order o SET number = new_.number, company_id = new_.company_id, contact_id = new_.contact_id, place_id = new_.place_id,
		product = new_.product, tonnes = new_.tonnes, price = new_.price, ordered_at = new_.ordered_at, window_from = new_.window_from,
		window_to = new_.window_to, state = new_.state
	WHERE o.id = old_.id;
	PERFORM crm.erp_note('order', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	-- The deal that was made for this order follows it; where the funnel does not allow the move, the deal stays.
	UPDATE crm.deal d SET company_id = new_.company_id, contact_id = new_.contact_id, tonnes = new_.tonnes, amount = round(new_.tonnes * new_.price, 2),
		name = left(format('%s, %s', new_.number, new_.product), 500)
	WHERE d.id = old_.deal_id AND d.source = 'erp' AND d.source_id = 'order:' || key;
	IF new_.state <> old_.state AND new_.state IN ('closed', 'cancelled') THEN
		UPDATE crm.deal d SET stage_id = s.id
		FROM crm.stage s
		WHERE d.id = old_.deal_id AND d.source = 'erp' AND d.source_id = 'order:' || key AND s.funnel_id = d.funnel_id
			AND CASE new_.state WHEN 'closed' THEN s.is_won ELSE s.is_lost END
			AND EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = d.stage_id AND m.to_stage_id = s.id AND m.enabled);
	END IF;
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_order(text, text, text, text, text, text, text, text, text, text, text, text, text) IS 'Takes a client''s order by the ERP''s id. tonnes; price in roubles a tonne; window_from and window_to of unloading; state new, confirmed, shipping, closed, cancelled; make_deal 0 makes no deal in the funnel delivery (one is made by default and follows the order). All text; empty leaves, - clears place and contact. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id, client or product, 23503 client, place or contact not known, 22003 number out of range, 22P02 no number, 22007 and 22008 time, 22023 state or window, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_order(erp_id text, company_erp_id text, product text, tonnes numeric, price numeric DEFAULT NULL,
	number text DEFAULT NULL, ordered_at timestamp DEFAULT NULL, window_from timestamp DEFAULT NULL, window_to timestamp DEFAULT NULL,
	place_erp_id text DEFAULT NULL, contact_erp_id text DEFAULT NULL, state text DEFAULT NULL, make_deal boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id
	FROM crm_erp.put_order($1, $2, $3, $4::text, $5::text, $6, crm.erp_stamp($7, 'ordered_at'), crm.erp_stamp($8, 'window_from'),
		crm.erp_stamp($9, 'window_to'), $10, $11, $12, $13::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_order(text, text, text, numeric, numeric, text, timestamp, timestamp, timestamp, text, text, text, boolean) IS 'The same with numbers as numeric, times as timestamp (in the plant''s zone), yes and no as boolean.';

-- ---- shipments ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_vehicle(value text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key text := crm.erp_key(value, 'vehicle');
	id_ bigint;
BEGIN
	IF key IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT v.id INTO id_ FROM crm.vehicle v WHERE v.source = 'erp' AND v.source_id = key;
	IF NOT FOUND THEN
		id_ := crm.erp_vehicle_by_plate(key);
	END IF;
	IF id_ IS NULL AND (length(key) > 20 OR key !~ '[0-9]') THEN
		PERFORM crm.erp_fail('23503', format('vehicle "%s" is not known, and is no number plate', key),
			format('Send its plate in vehicle, or the vehicle first: SELECT * FROM crm_erp.put_vehicle(''%s'', ''its plate''); then repeat this call.', key));
	END IF;
	IF id_ IS NULL THEN
		-- A client's own truck at the gate: the plate is all that is known of it.
		INSERT INTO crm.vehicle (plate, source) VALUES (key, 'erp') ON CONFLICT ON CONSTRAINT vehicle_plate_key DO NOTHING;
		id_ := crm.erp_vehicle_by_plate(key);
	END IF;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.erp_vehicle(text) IS 'crm.vehicle.id by the ERP''s id or by a plate in any spelling; a plate that was never met becomes a vehicle. Error 23503 where it can be neither.';

CREATE OR REPLACE FUNCTION crm_erp.put_shipment(erp_id text, order_erp_id text DEFAULT NULL, vehicle text DEFAULT NULL, tare_kg text DEFAULT NULL,
	gross_kg text DEFAULT NULL, weighed_at text DEFAULT NULL, waybill text DEFAULT NULL, product text DEFAULT NULL, wagon text DEFAULT NULL,
	storno text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key        text := crm.erp_key(erp_id, 'erp_id', true);
	v_order    text := crm.erp_key(order_erp_id, 'order_erp_id');
	v_tare     numeric(12,3) := crm.erp_range(crm.erp_number(tare_kg, 'tare_kg'), 'tare_kg', 1, 1000000, 'kilograms');
	v_gross    numeric(12,3) := crm.erp_range(crm.erp_number(gross_kg, 'gross_kg'), 'gross_kg', 1, 1000000, 'kilograms');
	v_at       timestamptz := crm.erp_time(weighed_at, 'weighed_at');
	v_waybill  text := crm.erp_text(waybill, 'waybill', 100);
	v_product  text := crm.erp_text(product, 'product');
	v_wagon    text := crm.erp_text(wagon, 'wagon', 20);
	v_storno   boolean := crm.erp_boolean(storno, 'storno');
	v_vehicle  bigint;
	v_wagon_id bigint;
	order_     crm.customer_order;
	old_       crm.shipment;
	new_       crm.shipment;
	id_        bigint;
BEGIN
	PERFORM crm.erp_begin();
	SELECT s.* INTO old_ FROM crm.shipment s WHERE s.source = 'erp' AND s.source_id = key FOR NO KEY UPDATE;
	IF old_.id IS NULL AND v_order IS NULL THEN
		PERFORM crm.erp_fail('22004', format('shipment "%s" has no order', key), 'Send order_erp_id when the weighing is sent for the first time.');
	END IF;
	IF v_order IS NOT NULL THEN
		SELECT o.* INTO order_ FROM crm.customer_order o WHERE o.source = 'erp' AND o.source_id = v_order;
		IF NOT FOUND THEN
			SELECT o.* INTO order_ FROM crm.customer_order o WHERE o.id = crm.erp_linked('order', v_order);
		END IF;
		IF order_.id IS NULL THEN
			PERFORM crm.erp_fail('23503', format('order_erp_id "%s" is not known', v_order),
				format('Send the order first: SELECT * FROM crm_erp.put_order(''%s'', ''the client'', ''the product''); then repeat this call.', v_order));
		END IF;
	END IF;
	IF coalesce(v_gross, old_.gross_kg) <= coalesce(v_tare, old_.tare_kg) THEN
		PERFORM crm.erp_fail('23514', format('gross %s kg is not above the tare %s kg', coalesce(v_gross, old_.gross_kg), coalesce(v_tare, old_.tare_kg)),
			format('Weigh again, or check whether gross_kg and tare_kg of weighing "%s" were swapped; both are kilograms.', key));
	END IF;
	IF v_wagon IS NOT NULL THEN
		IF vehicle IS NOT NULL AND crm.erp_key(vehicle, 'vehicle') IS NOT NULL THEN
			PERFORM crm.erp_fail('22023', 'a shipment goes by a vehicle or by a wagon', 'Send either vehicle or wagon and leave the other empty.');
		END IF;
		IF v_wagon !~ '^[0-9]{8}$' THEN
			PERFORM crm.erp_fail('22023', format('wagon "%s" is no wagon''s number', v_wagon), 'Send the eight digits painted on the wagon.');
		END IF;
		BEGIN
			INSERT INTO crm.wagon (number, source) VALUES (v_wagon, 'erp') ON CONFLICT ON CONSTRAINT wagon_number_key DO NOTHING;
		EXCEPTION WHEN data_exception THEN
			PERFORM crm.erp_fail(SQLSTATE, SQLERRM, 'Send the eight digits painted on the wagon; the last one is a check digit.');
		END;
		SELECT w.id INTO v_wagon_id FROM crm.wagon w WHERE w.number = v_wagon;
	ELSE
		v_vehicle := crm.erp_vehicle(vehicle);
	END IF;

	IF old_.id IS NULL THEN
		INSERT INTO crm.shipment (order_id, vehicle_id, wagon_id, product, tare_kg, gross_kg, weighed_at, waybill, cancelled_at, source, source_id)
		VALUES (order_.id, v_vehicle, v_wagon_id, coalesce(v_product, order_.product), v_tare, v_gross, coalesce(v_at, crm.now()), v_waybill,
			CASE WHEN v_storno THEN crm.now() END, 'erp', key)
		ON CONFLICT ON CONSTRAINT shipment_source_key DO NOTHING
		RETURNING shipment.id INTO id_;
		IF FOUND THEN
			RETURN ROW(id_, 'created', key)::crm_erp.put_result;
		END IF;
		SELECT s.* INTO STRICT old_ FROM crm.shipment s WHERE s.source = 'erp' AND s.source_id = key FOR NO KEY UPDATE;
	END IF;
	new_ := old_;
	new_.order_id := coalesce(order_.id, old_.order_id);
	new_.vehicle_id := CASE WHEN v_wagon_id IS NOT NULL THEN NULL ELSE coalesce(v_vehicle, old_.vehicle_id) END;
	new_.wagon_id := CASE WHEN v_vehicle IS NOT NULL THEN NULL ELSE coalesce(v_wagon_id, old_.wagon_id) END;
	new_.product := coalesce(v_product, old_.product);
	new_.tare_kg := coalesce(v_tare, old_.tare_kg);
	new_.gross_kg := coalesce(v_gross, old_.gross_kg);
	new_.weighed_at := coalesce(v_at, old_.weighed_at);
	new_.waybill := coalesce(v_waybill, old_.waybill);
	new_.cancelled_at := CASE WHEN v_storno THEN coalesce(old_.cancelled_at, crm.now()) WHEN NOT v_storno THEN NULL ELSE old_.cancelled_at END;
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	-- The client of the order was told, and the trip follows the vehicle: another one is another weighing.
	IF old_.announced_at IS NOT NULL
		AND (new_.order_id, new_.vehicle_id, new_.wagon_id) IS DISTINCT FROM (old_.order_id, old_.vehicle_id, old_.wagon_id) THEN
		PERFORM crm.erp_fail('23514', format('weighing "%s" was announced with its order and vehicle', key),
			'Send storno 1 for it, and the right weighing under an id of its own.');
	END IF;
	-- net_kg is reckoned anew from the weights.
	UPDATE crm.shipment s SET order_id = new_.order_id, vehicle_id = new_.vehicle_id, wagon_id = new_.wagon_id, product = new_.product,
		tare_kg = new_.tare_kg, gross_kg = new_.gross_kg, net_kg = new_.gross_kg - new_.tare_kg, weighed_at = new_.weighed_at,
		waybill = new_.waybill, cancelled_at = new_.cancelled_at
	WHERE s.id = old_.id
	RETURNING s.net_kg INTO new_.net_kg;
	PERFORM crm.erp_note('shipment', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_shipment(text, text, text, text, text, text, text, text, text, text) IS 'Takes a weighing by its id in the ERP: tare first, gross later under the same id, or both at once. vehicle is the ERP''s id or a plate (a plate that was never met becomes a vehicle), wagon eight digits; weights in kilograms; storno 1 takes the shipment back, 0 puts it in force again. With the gross the trip opens, the deal moves and the notice is queued in this very transaction (claim 47). All text; empty leaves what is known. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or order, 23503 order or vehicle not known, 22003 weight out of range, 23514 gross not above tare, or another order or vehicle after the notice, 22P02 no number, 22007 and 22008 time, 22023 wagon, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_shipment(erp_id text, order_erp_id text, vehicle text, tare_kg numeric, gross_kg numeric DEFAULT NULL,
	weighed_at timestamp DEFAULT NULL, waybill text DEFAULT NULL, product text DEFAULT NULL, wagon text DEFAULT NULL, storno boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id
	FROM crm_erp.put_shipment($1, $2, $3, $4::text, $5::text, crm.erp_stamp($6, 'weighed_at'), $7, $8, $9, $10::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_shipment(text, text, text, numeric, numeric, timestamp, text, text, text, boolean) IS 'The same with weights as numeric, the time as timestamp (in the plant''s zone), storno as boolean.';

CREATE OR REPLACE FUNCTION crm_erp.guid_from_ref(ref text) RETURNS varchar
	LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	h text := lower(substring(ref FROM '(?:ref=|0x|^)([0-9A-Fa-f]{32})$'));
BEGIN
	IF h IS NULL THEN
		PERFORM crm.erp_fail('22P02', format('"%s" is no reference', left(ref, 80)), 'Send the 32 hexadecimal digits of a navigation link (…?ref=…) or of _IDRRef.');
	END IF;
	RETURN substr(h, 25, 8) || '-' || substr(h, 21, 4) || '-' || substr(h, 17, 4) || '-' || substr(h, 1, 4) || '-' || substr(h, 5, 12);
END
$$;
COMMENT ON FUNCTION crm_erp.guid_from_ref(text) IS 'The GUID of a 1C reference from the 32 hexadecimal digits of its navigation link or of _IDRRef, whose groups stand in another order. Error 22P02.';
