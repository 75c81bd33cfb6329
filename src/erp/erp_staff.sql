-- erp: our own people as the ERP knows them: teams, lines, absences. Conventions: erp_put.sql.

CREATE OR REPLACE FUNCTION crm.erp_lines_put(employee_id bigint, sent text[], dismissed_at timestamptz) RETURNS jsonb
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kinds   constant text[] := ARRAY['sim', 'extension', 'mailbox'];
	names   constant text[] := ARRAY['mobile', 'extension', 'mailbox'];
	now_    timestamptz := crm.now();
	changes jsonb := '{}';
	gone    boolean := coalesce(dismissed_at <= crm.now(), false);
	held    record;
	wanted  text;
	line_   bigint;
BEGIN
	FOR i IN 1 .. 3 LOOP
		SELECT h.id, l.value, h.during INTO held
		FROM crm.line_holder h JOIN crm.line l ON l.id = h.line_id
		WHERE h.employee_id = erp_lines_put.employee_id AND l.kind = kinds[i] AND upper_inf(h.during)
		ORDER BY h.id DESC LIMIT 1;
		wanted := CASE WHEN gone OR sent[i] = '-' THEN NULL ELSE coalesce(sent[i], held.value) END;
		CONTINUE WHEN wanted IS NOT DISTINCT FROM held.value;
		IF held.id IS NOT NULL THEN
			PERFORM crm.erp_line_end(held.id, held.during, CASE WHEN gone THEN greatest(dismissed_at, lower(held.during)) ELSE now_ END);
		END IF;
		IF wanted IS NOT NULL THEN
			INSERT INTO crm.line (kind, value) VALUES (kinds[i], wanted) ON CONFLICT ON CONSTRAINT line_value_key DO NOTHING;
			SELECT l.id INTO line_ FROM crm.line l WHERE l.kind = kinds[i] AND l.value = wanted FOR NO KEY UPDATE;
			-- one holder at a time
			PERFORM crm.erp_line_end(h.id, h.during, now_) FROM crm.line_holder h WHERE h.line_id = line_ AND upper_inf(h.during);
			INSERT INTO crm.line_holder (line_id, employee_id, during) VALUES (line_, erp_lines_put.employee_id, tstzrange(now_, NULL));
		END IF;
		changes := changes || jsonb_build_object(names[i], jsonb_build_array(held.value, wanted));
	END LOOP;
	RETURN changes;
END
$$;
COMMENT ON FUNCTION crm.erp_lines_put(bigint, text[], timestamptz) IS 'Gives an employee the mobile, extension and mailbox that the ERP says (NULL: as they are, -: none), from now on; who held them gives them up, and a dismissed one all of his. Returns what changed, name to [before, after]';

CREATE OR REPLACE FUNCTION crm.erp_line_end(holder_id bigint, during tstzrange, at timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF lower(during) >= at THEN
		DELETE FROM crm.line_holder h WHERE h.id = holder_id;	-- it began at this very moment, and never held
	ELSE
		UPDATE crm.line_holder h SET during = tstzrange(lower(erp_line_end.during), at) WHERE h.id = holder_id;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.erp_line_end(bigint, tstzrange, timestamptz) IS 'Ends the holding of a line at a moment';

CREATE OR REPLACE FUNCTION crm_erp.put_team(erp_id text, name text DEFAULT NULL, head_erp_id text DEFAULT NULL) RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key        text := crm.erp_key($1, 'erp_id', true);
	v_name     text := crm.erp_text($2, 'name', 200);
	v_head_key text := crm.erp_key($3, 'head_erp_id');
	v_head     crm.employee;
	before_    jsonb;
	after_     jsonb;
	id_        bigint;
	owner_     text;
	result_    text := 'same';
BEGIN
	PERFORM crm.erp_begin();
	IF v_head_key IS NOT NULL AND v_head_key <> '-' THEN
		SELECT e.* INTO v_head FROM crm.employee e WHERE e.source = 'erp' AND e.source_id = v_head_key FOR NO KEY UPDATE;
		IF NOT FOUND THEN
			PERFORM crm.erp_fail('23503', format('head_erp_id "%s" is not known', v_head_key),
				format('Send the employee first: SELECT * FROM crm_erp.put_employee(''%s'', ''the name''); then repeat this call.', v_head_key));
		END IF;
	END IF;
	SELECT t.team_id INTO id_ FROM crm.erp_team t WHERE t.erp_id = key;
	IF NOT FOUND THEN
		IF v_name IS NULL THEN
			PERFORM crm.erp_fail('22004', format('team "%s" has no name', key), 'Send the team''s name in name when it is sent for the first time.');
		END IF;
		-- one that an employee's row or a person named first becomes this one
		INSERT INTO crm.team (name) VALUES (v_name) ON CONFLICT ON CONSTRAINT team_name_key DO NOTHING;
		SELECT t.id INTO id_ FROM crm.team t WHERE t.name = v_name FOR NO KEY UPDATE;
		INSERT INTO crm.erp_team AS t (erp_id, team_id) VALUES (key, id_) ON CONFLICT DO NOTHING;
		SELECT t.erp_id INTO owner_ FROM crm.erp_team t WHERE t.team_id = id_;
		IF owner_ IS DISTINCT FROM key THEN
			PERFORM crm.erp_fail('23505', format('name "%s" belongs to team "%s"', v_name, owner_), 'Names of teams are unique: send another name, or the other team''s id.');
		END IF;
		result_ := 'created';
	END IF;
	SELECT jsonb_build_object('name', t.name, 'head', (SELECT jsonb_agg(e.id ORDER BY e.id) FROM crm.employee e WHERE e.team_id = t.id AND e.is_head))
	INTO before_ FROM crm.team t WHERE t.id = id_ FOR NO KEY UPDATE;
	IF v_name IS NOT NULL AND v_name <> before_ ->> 'name' THEN
		IF EXISTS (SELECT FROM crm.team t WHERE t.name = v_name) THEN
			PERFORM crm.erp_fail('23505', format('name "%s" belongs to another team', v_name), 'Names of teams are unique: send another name, or rename the other one first.');
		END IF;
		UPDATE crm.team t SET name = v_name WHERE t.id = id_;
	END IF;
	IF v_head_key IS NOT NULL THEN
		UPDATE crm.employee e SET is_head = false WHERE e.team_id = id_ AND e.is_head AND e.id IS DISTINCT FROM v_head.id;
		UPDATE crm.employee e SET is_head = true, team_id = id_ WHERE e.id = v_head.id AND (e.is_head, e.team_id) IS DISTINCT FROM (true, id_);
	END IF;
	SELECT jsonb_build_object('name', t.name, 'head', (SELECT jsonb_agg(e.id ORDER BY e.id) FROM crm.employee e WHERE e.team_id = t.id AND e.is_head))
	INTO after_ FROM crm.team t WHERE t.id = id_;
	IF result_ <> 'created' AND after_ <> before_ THEN
		PERFORM crm.erp_note('team', id_, key, before_, after_);
		result_ := 'updated';
	END IF;
	RETURN ROW(id_, result_, key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_team(text, text, text) IS 'Takes a team (a department of sales) by the ERP''s id; one that was known by its name alone becomes this one. head_erp_id is its head: he comes into it, and who was its head before is none any more. All text; empty leaves, - as the head: none. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or name, 23503 head not known, 23505 name of another team, 55000 not active';

CREATE OR REPLACE FUNCTION crm_erp.put_absence(erp_id text, employee_erp_id text DEFAULT NULL, kind text DEFAULT NULL, from_day text DEFAULT NULL, to_day text DEFAULT NULL,
	deputy_erp_id text DEFAULT NULL, cancelled text DEFAULT NULL) RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key          text := crm.erp_key($1, 'erp_id', true);
	v_employee   bigint := crm.erp_employee($2, 'employee_erp_id');
	v_kind       text := lower(crm.erp_text($3, 'kind', 20));
	v_from       date := (crm.erp_time($4, 'from_day') AT TIME ZONE crm.erp_zone())::date;
	v_to         date := (crm.erp_time($5, 'to_day') AT TIME ZONE crm.erp_zone())::date;
	v_deputy_key text := crm.erp_key($6, 'deputy_erp_id');
	v_deputy     bigint := CASE WHEN crm.erp_key($6, 'deputy_erp_id') <> '-' THEN crm.erp_employee($6, 'deputy_erp_id') END;
	v_cancelled  boolean := coalesce(crm.erp_boolean($7, 'cancelled'), false);
	old_         crm.absence;
	new_         crm.absence;
	other        crm.absence;
	result_      text := 'created';
BEGIN
	PERFORM crm.erp_begin();
	v_kind := CASE v_kind WHEN 'отпуск' THEN 'leave' WHEN 'больничный' THEN 'sick' ELSE v_kind END;
	IF v_kind NOT IN ('leave', 'sick', 'other') THEN
		PERFORM crm.erp_fail('22023', format('kind "%s" is no kind of absence', v_kind), 'Send leave, sick or other in kind.');
	END IF;
	SELECT a.* INTO old_ FROM crm.erp_absence x JOIN crm.absence a ON a.id = x.absence_id WHERE x.erp_id = key FOR NO KEY UPDATE OF a;
	IF v_cancelled THEN
		IF old_.id IS NULL THEN
			RETURN ROW(NULL, 'same', key)::crm_erp.put_result;
		END IF;
		DELETE FROM crm.erp_absence x WHERE x.erp_id = key;
		DELETE FROM crm.absence a WHERE a.id = old_.id;
		PERFORM crm.erp_note('absence', old_.id, key, to_jsonb(old_), '{"cancelled": true}');
		RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
	END IF;
	new_ := old_;
	new_.employee_id := coalesce(v_employee, old_.employee_id);
	new_.kind := coalesce(v_kind, old_.kind, 'leave');
	new_.deputy_id := CASE WHEN v_deputy_key = '-' THEN NULL ELSE coalesce(v_deputy, old_.deputy_id) END;
	v_from := coalesce(v_from, lower(old_.days));
	v_to := coalesce(v_to, upper(old_.days) - 1);
	IF new_.employee_id IS NULL OR v_from IS NULL OR v_to IS NULL THEN
		PERFORM crm.erp_fail('22004', format('absence "%s" has no %s', key, CASE WHEN new_.employee_id IS NULL THEN 'employee' ELSE 'days' END),
			'Send employee_erp_id, from_day and to_day (the last day, included) when the absence is sent for the first time.');
	END IF;
	IF v_to < v_from OR v_to - v_from > 1500 THEN
		PERFORM crm.erp_fail('22023', format('absence "%s" lasts from %s to %s', key, v_from, v_to), 'Send the last day in to_day, not before from_day.');
	END IF;
	IF new_.deputy_id = new_.employee_id THEN
		PERFORM crm.erp_fail('22023', format('absence "%s" has the absent one as deputy', key), 'Send another employee in deputy_erp_id, or leave it empty.');
	END IF;
	new_.days := daterange(v_from, v_to, '[]');
	IF old_.id IS NOT NULL AND new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	SELECT a.* INTO other FROM crm.absence a WHERE a.employee_id = new_.employee_id AND a.days && new_.days AND a.id IS DISTINCT FROM old_.id LIMIT 1;
	IF FOUND THEN
		PERFORM crm.erp_fail('23505', format('absence "%s" falls on days of another: %s to %s', key, lower(other.days), upper(other.days) - 1),
			'Send the other one with its new days, or with cancelled 1, first.');
	END IF;
	IF old_.id IS NULL THEN
		INSERT INTO crm.absence (employee_id, days, kind, deputy_id) VALUES (new_.employee_id, new_.days, new_.kind, new_.deputy_id) RETURNING absence.id INTO new_.id;
		INSERT INTO crm.erp_absence (erp_id, absence_id) VALUES (key, new_.id);
	ELSE
		UPDATE crm.absence a SET employee_id = new_.employee_id, days = new_.days, kind = new_.kind, deputy_id = new_.deputy_id WHERE a.id = old_.id;
		PERFORM crm.erp_note('absence', old_.id, key, to_jsonb(old_), to_jsonb(new_));
		result_ := 'updated';
	END IF;
	RETURN ROW(new_.id, result_, key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_absence(text, text, text, text, text, text, text) IS 'Takes days on which an employee does not work, by the ERP''s id of the order or note: kind leave, sick or other, from_day to to_day (both included), who stands in; cancelled 1 takes it away. Rules, hand-outs and duty go by it (claim 53). All text; empty leaves, - clears the deputy. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id, employee or days, 22023 kind, days or deputy, 23503 employee not known, 23505 days of another absence, 22007 and 22008 time, 55000 not active';

CREATE OR REPLACE FUNCTION crm.erp_employee(value text, argument text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key text := crm.erp_key(value, argument);
	id_ bigint;
BEGIN
	IF key IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT e.id INTO id_ FROM crm.employee e WHERE e.source = 'erp' AND e.source_id = key;
	IF id_ IS NULL THEN
		PERFORM crm.erp_fail('23503', format('%s "%s" is not known', argument, key),
			format('Send the employee first: SELECT * FROM crm_erp.put_employee(''%s'', ''the name''); then repeat this call.', key));
	END IF;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.erp_employee(text, text) IS 'crm.employee.id by the ERP''s id; empty is NULL. Error 23503 with the call that makes it known.';

CREATE OR REPLACE VIEW crm_erp.team_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS name, NULL::varchar(255) AS head_erp_id
	WHERE false;
COMMENT ON VIEW crm_erp.team_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_team; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.team_in.erp_id IS 'As the argument of crm_erp.put_team';
COMMENT ON COLUMN crm_erp.team_in.name IS 'As the argument of crm_erp.put_team';
COMMENT ON COLUMN crm_erp.team_in.head_erp_id IS 'As the argument of crm_erp.put_team';

CREATE OR REPLACE VIEW crm_erp.absence_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS employee_erp_id, NULL::varchar(255) AS kind, NULL::varchar(255) AS from_day, NULL::varchar(255) AS to_day, NULL::varchar(255) AS deputy_erp_id, NULL::varchar(255) AS cancelled
	WHERE false;
COMMENT ON VIEW crm_erp.absence_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_absence; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.absence_in.erp_id IS 'As the argument of crm_erp.put_absence';
COMMENT ON COLUMN crm_erp.absence_in.employee_erp_id IS 'As the argument of crm_erp.put_absence';
COMMENT ON COLUMN crm_erp.absence_in.kind IS 'As the argument of crm_erp.put_absence';
COMMENT ON COLUMN crm_erp.absence_in.from_day IS 'As the argument of crm_erp.put_absence';
COMMENT ON COLUMN crm_erp.absence_in.to_day IS 'As the argument of crm_erp.put_absence';
COMMENT ON COLUMN crm_erp.absence_in.deputy_erp_id IS 'As the argument of crm_erp.put_absence';
COMMENT ON COLUMN crm_erp.absence_in.cancelled IS 'As the argument of crm_erp.put_absence';

CREATE OR REPLACE VIEW crm_erp.link_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS object_type, NULL::varchar(255) AS id
	WHERE false;
COMMENT ON VIEW crm_erp.link_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_link; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.link_in.erp_id IS 'As the argument of crm_erp.put_link';
COMMENT ON COLUMN crm_erp.link_in.object_type IS 'As the argument of crm_erp.put_link';
COMMENT ON COLUMN crm_erp.link_in.id IS 'As the argument of crm_erp.put_link';
