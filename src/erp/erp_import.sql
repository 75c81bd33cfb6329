-- erp: sheets in: mapping, checks by cell, duplicates, loading in sets. Code: may be run any number of times.
-- A load works on tables of its own (crm.import_work_N and others), made and dropped in its transaction: what
-- statements are sees their real sizes, and two loads never wait for each other.

-- ---- fields ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_fields()
	RETURNS TABLE(entity text, field text, type text, required boolean, max_length integer, label_ru text, label_en text)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT v.* FROM (VALUES
		('company', 'name', 'text', true, 500, 'Название', 'Name'),
		('company', 'full_name', 'text', false, 1000, 'Полное название', 'Full name'),
		('company', 'inn', 'inn', false, 20, 'ИНН', 'Tax number'),
		('company', 'kpp', 'kpp', false, 20, 'КПП', 'KPP'),
		('company', 'phone', 'phones', false, 320, 'Телефон', 'Phone'),
		('company', 'phone2', 'phones', false, 320, 'Второй телефон', 'Second phone'),
		('company', 'email', 'emails', false, 640, 'Электронная почта', 'E-mail'),
		('company', 'is_client', 'boolean', false, 20, 'Клиент', 'Client'),
		('company', 'is_carrier', 'boolean', false, 20, 'Перевозчик', 'Carrier'),
		('company', 'owner', 'text', false, 500, 'Ответственный', 'Responsible'),
		('company', 'created_at', 'time', false, 40, 'Дата создания', 'Created'),
		('company', 'id', 'text', false, 150, 'ID', 'ID'),
		('company', 'row_kind', 'text', false, 50, 'Тип', 'Type of row'),
		('contact', 'name', 'text', true, 500, 'Имя', 'Name'),
		('contact', 'last_name', 'text', false, 200, 'Фамилия', 'Last name'),
		('contact', 'first_name', 'text', false, 200, 'Имя без фамилии', 'First name'),
		('contact', 'middle_name', 'text', false, 200, 'Отчество', 'Middle name'),
		('contact', 'position', 'text', false, 500, 'Должность', 'Position'),
		('contact', 'company', 'text', false, 500, 'Компания', 'Company'),
		('contact', 'company_id', 'text', false, 150, 'ID компании', 'ID of the company'),
		('contact', 'inn', 'inn', false, 20, 'ИНН компании', 'Tax number of the company'),
		('contact', 'phone', 'phones', false, 320, 'Телефон', 'Phone'),
		('contact', 'phone2', 'phones', false, 320, 'Второй телефон', 'Second phone'),
		('contact', 'phone3', 'phones', false, 320, 'Третий телефон', 'Third phone'),
		('contact', 'email', 'emails', false, 640, 'Электронная почта', 'E-mail'),
		('contact', 'email2', 'emails', false, 640, 'Вторая почта', 'Second e-mail'),
		('contact', 'is_decision_maker', 'boolean', false, 20, 'Принимает решения', 'Decision maker'),
		('contact', 'created_at', 'time', false, 40, 'Дата создания', 'Created'),
		('contact', 'id', 'text', false, 150, 'ID', 'ID'),
		('contact', 'row_kind', 'text', false, 50, 'Тип', 'Type of row'),
		('deal', 'name', 'text', true, 500, 'Название', 'Name'),
		('deal', 'company', 'text', false, 500, 'Компания', 'Company'),
		('deal', 'company_id', 'text', false, 150, 'ID компании', 'ID of the company'),
		('deal', 'inn', 'inn', false, 20, 'ИНН компании', 'Tax number of the company'),
		('deal', 'contact', 'text', false, 500, 'Контакт', 'Contact'),
		('deal', 'contact_id', 'text', false, 150, 'ID контакта', 'ID of the contact'),
		('deal', 'owner', 'text', false, 500, 'Ответственный', 'Responsible'),
		('deal', 'pipeline', 'text', false, 200, 'Воронка', 'Funnel'),
		('deal', 'stage', 'text', false, 200, 'Этап', 'Stage'),
		('deal', 'amount', 'number', false, 40, 'Сумма', 'Amount'),
		('deal', 'tonnes', 'number', false, 40, 'Тонны', 'Tonnes'),
		('deal', 'product', 'text', false, 500, 'Продукт', 'Product'),
		('deal', 'created_at', 'time', false, 40, 'Дата создания', 'Created'),
		('deal', 'closed_at', 'time', false, 40, 'Дата закрытия', 'Closed'),
		('deal', 'id', 'text', false, 150, 'ID', 'ID'),
		('task', 'name', 'text', true, 500, 'Задача', 'Task'),
		('task', 'note', 'text', false, 10000, 'Описание', 'Note'),
		('task', 'company', 'text', false, 500, 'Компания', 'Company'),
		('task', 'company_id', 'text', false, 150, 'ID компании', 'ID of the company'),
		('task', 'inn', 'inn', false, 20, 'ИНН компании', 'Tax number of the company'),
		('task', 'contact', 'text', false, 500, 'Контакт', 'Contact'),
		('task', 'contact_id', 'text', false, 150, 'ID контакта', 'ID of the contact'),
		('task', 'owner', 'text', false, 500, 'Исполнитель', 'Doer'),
		('task', 'giver', 'text', false, 500, 'Постановщик', 'Giver'),
		('task', 'due_at', 'time', true, 40, 'Срок', 'Due'),
		('task', 'state', 'text', false, 50, 'Состояние', 'State'),
		('task', 'done_at', 'time', false, 40, 'Выполнена', 'Done'),
		('task', 'result', 'text', false, 10000, 'Результат', 'Result'),
		('task', 'created_at', 'time', false, 40, 'Дата создания', 'Created'),
		('task', 'id', 'text', false, 150, 'ID', 'ID'),
		('employee', 'name', 'text', true, 500, 'Сотрудник', 'Employee'),
		('employee', 'team', 'text', false, 200, 'Отдел', 'Team'),
		('employee', 'is_head', 'boolean', false, 20, 'Руководитель', 'Head'),
		('employee', 'id', 'text', false, 150, 'ID', 'ID')
	) AS v(entity, field, type, required, max_length, label_ru, label_en);
END;
COMMENT ON FUNCTION crm.import_fields() IS 'The fields that a column of a sheet may be mapped to, for each entity: type (text, number, time, boolean, inn, kpp, phones, emails), whether a row needs it, and its labels. A contact without a name takes last, first and middle name; a deal without one takes product and company.';

-- ---- values that need a second look ------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_phones(value text) RETURNS text[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	piece text;
	found_ text[] := '{}';
BEGIN
	BEGIN
		RETURN ARRAY[crm.phone_e164(value)];
	EXCEPTION WHEN data_exception THEN
		NULL;
	END;
	FOREACH piece IN ARRAY regexp_split_to_array(value, '\s*[,;/\n]\s*') LOOP
		CONTINUE WHEN piece = '';
		BEGIN
			found_ := found_ || crm.phone_e164(piece);
		EXCEPTION WHEN data_exception THEN
			RETURN NULL;
		END;
	END LOOP;
	RETURN nullif(found_, '{}');
END
$$;
COMMENT ON FUNCTION crm.import_phones(text) IS 'The phone numbers of a cell in E.164; several may stand in it, parted by , ; / or a line end. NULL where one of them is none.';

CREATE OR REPLACE FUNCTION crm.import_emails(value text) RETURNS text[]
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	piece text;
	found_ text[] := '{}';
BEGIN
	FOREACH piece IN ARRAY regexp_split_to_array(value, '\s*[,;]\s*|\s+') LOOP
		CONTINUE WHEN piece = '';
		BEGIN
			found_ := found_ || crm.email_normal(piece);
		EXCEPTION WHEN data_exception THEN
			RETURN NULL;
		END;
	END LOOP;
	RETURN nullif(found_, '{}');
END
$$;
COMMENT ON FUNCTION crm.import_emails(text) IS 'The e-mail addresses of a cell in their one form; several may stand in it, parted by , ; or a blank. NULL where one of them is none.';

CREATE OR REPLACE FUNCTION crm.import_words(type text, code text, heading text, value text, OUT state text, OUT message text, OUT hint text)
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	what text := format('%s "%s"', coalesce(heading, 'the cell'), left(value, 60));
BEGIN
	CASE
		WHEN code = '!' THEN
			state := '22004'; message := format('%s is empty', coalesce(heading, 'the name')); hint := 'Fill it in, or take the row out.';
		WHEN code = '>' THEN
			state := '22001'; message := format('%s is too long: %s signs', what, length(value)); hint := 'Shorten it.';
		WHEN code = '^' THEN
			state := '22003'; message := format('%s is out of range', what);
			hint := CASE type WHEN 'time' THEN 'Give a day between the years 1990 and 2199.' ELSE 'Give a number of at most twelve digits before the decimals.' END;
		WHEN code = '#' THEN
			state := '22P02'; message := format('%s is an error of Excel, or a formula whose value the file does not keep', what);
			hint := 'Open the file in Excel, mend the formula and save it; formulas are not calculated here.';
		WHEN type = 'inn' THEN
			state := '22023';
			message := format(CASE WHEN value ~ '^([0-9]{10}|[0-9]{12})$' THEN '%s is no tax number: a digit is wrong' ELSE '%s is no tax number' END, what);
			hint := 'Give the 10 digits of a company or the 12 of a person.';
		WHEN type = 'kpp' THEN
			state := '22023'; message := format('%s is no KPP', what); hint := 'Give nine signs.';
		WHEN type = 'phones' THEN
			state := '22023'; message := format('%s is no phone number', what);
			hint := 'Give it with the country code, +7 916 123-45-67; several are parted by a comma.';
		WHEN type = 'emails' THEN
			state := '22023'; message := format('%s is no e-mail address', what); hint := 'Give it as name@example.ru; several are parted by a comma.';
		WHEN type = 'number' THEN
			state := '22P02'; message := format('%s is no number', what); hint := 'Give digits, with a comma or a dot before the decimals.';
		WHEN type = 'time' THEN
			state := '22007'; message := format('%s is no date', what);
			hint := 'Give it as 24.11.2026 or 2026-11-24, with a time or without; where the month stands first, pass {"dates": "mdy"} in options.';
		WHEN type = 'boolean' THEN
			state := '22P02'; message := format('%s is neither yes nor no', what); hint := 'Give да or нет, 1 or 0.';
		ELSE
			state := '22023'; message := format('%s cannot be taken', what); hint := 'Look at the value.';
	END CASE;
END
$$;
COMMENT ON FUNCTION crm.import_words(text, text, text, text) IS 'What is wrong with a cell, in words: SQLSTATE, message and hint, by the type of its field and a code: ! empty, > too long, ^ out of range, # an error or a formula without a value, none: it cannot be read.';

-- ---- a load ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_get(import_id bigint) RETURNS crm.import
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.import;
BEGIN
	PERFORM crm.erp_begin();
	SELECT x.* INTO i FROM crm.import x WHERE x.id = import_id FOR UPDATE;
	i.file := NULL;
	IF i.id IS NULL OR NOT (i."by" = session_user OR pg_has_role(session_user, 'crm_director', 'MEMBER')) THEN
		PERFORM crm.erp_fail('P0002', format('load %s does not exist', coalesce(import_id::text, 'NULL')),
			'SELECT crm.import_new(name, entity, file) makes one; another''s load is seen by him and by a director.');
	END IF;
	RETURN i;
END
$$;
COMMENT ON FUNCTION crm.import_get(bigint) IS 'A load without its bytes, which would be copied from call to call, locked to the end of the transaction, for who gave it and for directors. Errors: P0002 no such load, 55000 database not active.';

CREATE OR REPLACE FUNCTION crm.import_field_of(profile text, entity text, heading text) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT h.field FROM crm.import_heading h
	WHERE h.profile IN ($1, 'any') AND h.entity = $2 AND h.heading = crm.sheet_key($3) AND h.enabled
	ORDER BY (h.profile = $1) DESC LIMIT 1;
END;
COMMENT ON FUNCTION crm.import_field_of(text, text, text) IS 'The field that a heading means in a profile, or in any; NULL: unknown.';

CREATE OR REPLACE FUNCTION crm.import_take(name text, entity text, file bytea, mapping jsonb, policy text, profile text, sheet text, options jsonb, keep boolean)
	RETURNS crm.import
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_name    text := crm.erp_text(name, 'name', 200);
	heads     text[];
	head_row  integer;
	head_kind text;
	sheet_    text;
	form      text;
	best      integer := -1;
	known     integer;
	r         record;
	map_      jsonb := '{}';
	field_    text;
	place_    integer;
	bad       text;
	i         crm.import;
BEGIN
	PERFORM crm.erp_begin();
	IF file IS NULL OR v_name IS NULL THEN
		PERFORM crm.erp_fail('22004', 'a load needs a name and a file', 'SELECT crm.import_new(''clients.xlsx'', ''company'', pg_read_binary_file(''/path/clients.xlsx''));');
	END IF;
	IF NOT EXISTS (SELECT FROM crm.import_fields() f WHERE f.entity = import_take.entity) THEN
		PERFORM crm.erp_fail('22023', format('entity "%s" is not loaded', left(entity, 40)), 'Give company, contact, deal, task or employee.');
	END IF;
	IF policy IS NULL OR policy NOT IN ('skip', 'update', 'link', 'error') THEN
		PERFORM crm.erp_fail('22023', format('policy "%s" is not known', left(policy, 40)), 'Give skip, update, link or error: what a duplicate does.');
	END IF;
	IF profile IS NULL OR profile <> 'any' AND NOT EXISTS (SELECT FROM crm.import_heading h WHERE h.profile = import_take.profile) THEN
		PERFORM crm.erp_fail('22023', format('profile "%s" is not known', left(profile, 40)),
			format('Give %s.', (SELECT string_agg(DISTINCT h.profile, ', ') FROM crm.import_heading h)));
	END IF;
	options := coalesce(options, '{}');
	SELECT o.key INTO bad FROM jsonb_each(CASE WHEN jsonb_typeof(options) = 'object' THEN options ELSE '{"no object": 1}' END) o
	WHERE NOT CASE o.key
		WHEN 'source' THEN o.value #>> '{}' ~ '^[a-z0-9_.]{1,50}$' AND o.value #>> '{}' NOT IN ('erp', 'manual')
		WHEN 'dates' THEN o.value #>> '{}' IN ('dmy', 'mdy')
		WHEN 'zone' THEN crm.time_zone_exists(o.value #>> '{}')
		WHEN 'funnel' THEN EXISTS (SELECT FROM crm.funnel f WHERE f.code = o.value #>> '{}')
		WHEN 'missing_company' THEN o.value #>> '{}' IN ('create', 'warn', 'error')
		WHEN 'missing_owner' THEN o.value #>> '{}' IN ('create', 'warn', 'error')
		WHEN 'bad_cells' THEN o.value #>> '{}' IN ('refuse', 'drop')
		WHEN 'header_row' THEN jsonb_typeof(o.value) = 'number' AND (o.value #>> '{}')::numeric BETWEEN 1 AND 1000
		WHEN 'extra' THEN jsonb_typeof(o.value) = 'boolean'
		WHEN 'known' THEN jsonb_typeof(o.value) = 'object'
			AND NOT EXISTS (SELECT FROM jsonb_each(o.value) l WHERE jsonb_typeof(l.value) <> 'array')
		ELSE false END;
	IF bad IS NOT NULL THEN
		PERFORM crm.erp_fail('22023', format('option "%s" is not taken so', left(bad, 40)),
			'Options are source (a name, small letters), dates (dmy or mdy), zone (Europe/Moscow), funnel (its code), missing_company and missing_owner (create, warn, error), bad_cells (refuse, drop), header_row (a number), extra (true, false), known ({"product": ["…"]}).');
	END IF;

	SELECT l.format INTO form FROM crm.sheet_list(file) l LIMIT 1;
	-- The headings: the row given, or the one of the first twenty that knows most of them.
	FOR r IN SELECT s.sheet_name, s."row", s.cells, s.kinds FROM crm.sheet_rows(file, sheet, 1, coalesce((options ->> 'header_row')::integer, 20)) s LOOP
		sheet_ := r.sheet_name;
		CONTINUE WHEN options ? 'header_row' AND r."row" <> (options ->> 'header_row')::integer;
		SELECT count(DISTINCT crm.import_field_of(import_take.profile, import_take.entity, c.value)) INTO known FROM unnest(r.cells) c(value);
		IF known > best THEN
			best := known;
			heads := r.cells;
			head_row := r."row";
		END IF;
	END LOOP;
	IF heads IS NULL THEN
		PERFORM crm.erp_fail('22023', 'the sheet has no row of headings', 'Give a sheet whose first rows hold the names of the columns, or header_row in options.');
	END IF;
	IF cardinality(heads) > 256 THEN
		PERFORM crm.erp_fail('54000', format('the sheet has %s columns', cardinality(heads)), 'At most 256 are loaded; take the others out.');
	END IF;
	SELECT array_agg(left(crm.sheet_text(h.value), 200) ORDER BY h.ordinality) INTO heads FROM unnest(heads) WITH ORDINALITY h(value, ordinality);

	-- By the words that are known; of two columns with one meaning the first.
	FOR place_ IN 1 .. cardinality(heads) LOOP
		field_ := crm.import_field_of(profile, entity, heads[place_]);
		IF field_ IS NOT NULL AND field_ <> '-' AND NOT map_ ? field_ THEN
			map_ := map_ || jsonb_build_object(field_, place_);
		END IF;
	END LOOP;
	-- What was asked for: {"heading or $C": "field"}; null or - takes a column out.
	IF jsonb_typeof(mapping) <> 'object' THEN
		PERFORM crm.erp_fail('22023', 'the mapping is no JSON object', 'Give {"heading": "field", "$C": "field", "heading": null}.');
	END IF;
	FOR r IN SELECT m.key, m.value #>> '{}' AS field FROM jsonb_each(mapping) m WHERE mapping IS NOT NULL LOOP
		IF r.key ~ '^\$[A-Z]{1,2}$' THEN
			place_ := (SELECT sum((ascii(c.sign) - 64) * 26 ^ (length(r.key) - 1 - c.ordinality))::integer FROM string_to_table(substr(r.key, 2), NULL) WITH ORDINALITY c(sign, ordinality));
		ELSE
			place_ := (SELECT min(h.ordinality) FROM unnest(heads) WITH ORDINALITY h(value, ordinality) WHERE crm.sheet_key(h.value) = crm.sheet_key(r.key));
		END IF;
		IF place_ IS NULL OR place_ > cardinality(heads) THEN
			PERFORM crm.erp_fail('22023', format('the mapping names the column "%s", which the sheet has not', left(r.key, 60)),
				format('Its headings are: %s.', left(array_to_string(heads, ', '), 500)));
		END IF;
		SELECT coalesce(jsonb_object_agg(m.key, m.value), '{}') INTO map_ FROM jsonb_each(map_) m WHERE m.value <> to_jsonb(place_);
		IF r.field IS NOT NULL AND r.field <> '-' THEN
			IF NOT EXISTS (SELECT FROM crm.import_fields() f WHERE f.entity = import_take.entity AND f.field = r.field) THEN
				PERFORM crm.erp_fail('22023', format('%s has no field "%s"', entity, left(r.field, 40)),
					format('Fields are: %s.', (SELECT string_agg(f.field, ', ') FROM crm.import_fields() f WHERE f.entity = import_take.entity)));
			END IF;
			map_ := map_ || jsonb_build_object(r.field, place_);
		END IF;
	END LOOP;
	SELECT f.field INTO bad FROM crm.import_fields() f
	WHERE f.entity = import_take.entity AND f.required AND NOT map_ ? f.field
		AND NOT (f.field = 'name' AND f.entity = 'contact' AND (map_ ? 'last_name' OR map_ ? 'first_name'))
		AND NOT (f.field = 'name' AND f.entity = 'deal' AND (map_ ? 'product' OR map_ ? 'company' OR map_ ? 'id'))
	LIMIT 1;
	IF bad IS NOT NULL THEN
		PERFORM crm.erp_fail('22023', format('no column of the sheet is known as "%s" of %s', bad, entity),
			format('Say which: mapping => ''{"heading": "%s"}''. The headings in row %s are: %s.', bad, head_row, left(array_to_string(heads, ', '), 500)));
	END IF;

	INSERT INTO crm.import (name, entity, profile, policy, source, sheet, format, header_row, headings, mapping, options, file, file_bytes, file_sha256)
	VALUES (v_name, entity, profile, policy, coalesce(options ->> 'source', CASE profile WHEN 'any' THEN 'import' ELSE profile END), sheet_, form, head_row, heads, map_, options,
		CASE WHEN keep THEN file END, octet_length(file), encode(sha256(file), 'hex'))
	RETURNING * INTO i;
	i.file := NULL;
	RETURN i;
END
$$;
COMMENT ON FUNCTION crm.import_take(text, text, bytea, jsonb, text, text, text, jsonb, boolean) IS 'Makes a load of a file: checks the arguments, finds the headings and maps them; keeps the bytes where they are to be loaded later.';

CREATE OR REPLACE FUNCTION crm.import_new(name text, entity text, file bytea, mapping jsonb DEFAULT NULL, policy text DEFAULT 'skip',
	profile text DEFAULT 'any', sheet text DEFAULT NULL, options jsonb DEFAULT '{}')
	RETURNS bigint
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT (t.i).id FROM (SELECT crm.import_take($1, $2, $3, $4, $5, $6, $7, $8, true) AS i OFFSET 0) t;
END;
COMMENT ON FUNCTION crm.import_new(text, text, bytea, jsonb, text, text, text, jsonb) IS 'Takes a sheet or CSV to be loaded (claims 4, 14, 93) and returns its number; nothing is loaded yet: crm.import_preview shows what would be, crm.import_run does it. entity: company, contact, deal, task, employee; mapping: {"heading": "field"} or {"$C": "field"} beside what crm.import_heading knows (crm.import_fields() lists fields); policy of duplicates: skip, update, link, error; profile: any, amocrm, bitrix24, 1c_crm; sheet: name or number; options: source, dates, zone, funnel, missing_company, missing_owner, bad_cells, header_row, extra, known. Errors, the advice in DETAIL too: those of crm.sheet_rows(), 22004 no name or file, 22023 an argument, a heading or a missing field, 54000 over 256 columns, 55000 not active.';

-- ---- reading and checking ----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_problem_add(i crm.import, source_query text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kept   bigint;
	count_ bigint;
BEGIN
	SELECT 100000 - count(*) INTO kept FROM (SELECT FROM crm.import_problem p WHERE p.import_id = i.id LIMIT 100000) p;
	EXECUTE format($q$
		WITH q AS MATERIALIZED (%s), kept AS (
			INSERT INTO crm.import_problem (import_id, "row", cell, heading, severity, state, value, message, hint)
			SELECT $1, q.n, crm.sheet_address(q.n, coalesce(($2 ->> q.field)::integer, 1)), ($3)[($2 ->> q.field)::integer], q.severity, q.state, left(q.value, 200), q.message, q.hint
			FROM q ORDER BY q.n LIMIT $4)
		SELECT count(*) FROM q $q$, source_query)
	INTO count_ USING i.id, i.mapping, i.headings, kept;
	RETURN count_;
END
$$;
COMMENT ON FUNCTION crm.import_problem_add(crm.import, text) IS 'Notes problems of a load from a query of (n, field, severity, state, value, message, hint); returns how many there were, also those beyond the 100000 that are kept.';

CREATE OR REPLACE FUNCTION crm.import_prepare(i crm.import, file bytea) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $body$
DECLARE
	w        text := format('crm.import_work_%s', i.id);
	x        text := format('crm.import_match_%s', i.id);
	c        text := format('crm.import_company_%s', i.id);
	o        text := format('crm.import_owner_%s', i.id);
	s        text := format('crm.import_stages_%s', i.id);
	zone     text := coalesce(i.options ->> 'zone', crm.erp_zone());
	drops    boolean := i.options ->> 'bad_cells' = 'drop';
	prefix   text := left(encode(sha256(convert_to(i.file_sha256 || i.sheet, 'UTF8')), 'hex'), 16) || ':';
	of_firms boolean := i.entity IN ('contact', 'deal', 'task');
	has_owner boolean := i.entity IN ('company', 'deal', 'task');
	f        record;
	col      integer;
	pgtype   text;
	raw      text;
	value_   text;
	defs     text := '';
	raws     text := '';
	typed    text := '';
	picks    text := '';
	bads     text := '';
	odds     text := '';
	any_bad  text := '';
	any_odd  text := '';
	stored   boolean;
	-- rows of another kind in a file of several
	others   text[] := CASE i.entity WHEN 'contact' THEN '{компания,company}' ELSE '{контакт,contact}' END;
	extra    text := 'NULL::jsonb';
	warnings bigint := 0;
BEGIN
	FOR f IN SELECT y.* FROM crm.import_fields() y WHERE y.entity = i.entity LOOP
		col := (i.mapping ->> f.field)::integer;
		pgtype := CASE f.type WHEN 'number' THEN 'numeric' WHEN 'time' THEN 'timestamptz' WHEN 'boolean' THEN 'boolean'
			WHEN 'phones' THEN 'text[]' WHEN 'emails' THEN 'text[]' ELSE 'text' END;
		-- A text is kept once; what is made of others has a value of its own.
		stored := f.type <> 'text' OR f.field = 'name' AND i.entity IN ('contact', 'deal');
		defs := defs || format(CASE WHEN stored THEN ', t_%1$s text, v_%1$s %2$s' ELSE ', t_%1$s text' END, f.field, pgtype);
		picks := picks || format(CASE WHEN stored THEN ', v.t_%1$s, v.v_%1$s' ELSE ', v.t_%1$s' END, f.field);
		raw := coalesce(format(CASE f.type
			WHEN 'time' THEN $$CASE WHEN crm.sheet_text(r.cells[%1$s]) !~ '^(0001-01-01|0?1\.0?1\.0001)' THEN crm.sheet_text(r.cells[%1$s]) END$$
			WHEN 'inn' THEN $$replace(crm.sheet_text(r.cells[%1$s]), ' ', '')$$
			WHEN 'kpp' THEN $$upper(replace(crm.sheet_text(r.cells[%1$s]), ' ', ''))$$
			ELSE 'crm.sheet_text(r.cells[%1$s])' END, col), 'NULL::text');
		IF col IS NULL THEN
			raw := 'NULL::text';
			value_ := 'NULL::' || pgtype;
		ELSE
			value_ := format(CASE f.type
				WHEN 'number' THEN 'crm.sheet_number(s.t_%1$s)'
				WHEN 'time' THEN 'crm.sheet_time(s.t_%1$s, %2$L, %3$L)'
				WHEN 'boolean' THEN $$CASE WHEN crm.sheet_key(s.t_%1$s) IN ('1', 'да', 'истина', 'true', 't', 'yes', 'y') THEN true WHEN crm.sheet_key(s.t_%1$s) IN ('0', 'нет', 'ложь', 'false', 'f', 'no', 'n') THEN false END$$
				WHEN 'inn' THEN $$CASE WHEN crm.inn_valid(s.t_%1$s) THEN s.t_%1$s WHEN length(s.t_%1$s) IN (9, 11) AND crm.inn_valid('0' || s.t_%1$s) THEN '0' || s.t_%1$s END$$
				WHEN 'kpp' THEN $$CASE WHEN crm.kpp_valid(s.t_%1$s) THEN s.t_%1$s WHEN length(s.t_%1$s) = 8 AND crm.kpp_valid('0' || s.t_%1$s) THEN '0' || s.t_%1$s END$$
				-- What nearly every cell holds goes the short way; crm.phone_e164() says the same of it.
				WHEN 'phones' THEN $$CASE WHEN s.t_%1$s ~ '^(\+7|8|7)[ -]?\(?9[0-9]{2}\)?[ -]?[0-9]{3}[ -]?[0-9]{2}[ -]?[0-9]{2}$' THEN ARRAY['+7' || right(translate(s.t_%1$s, ' ()-', ''), 10)] WHEN s.t_%1$s IS NOT NULL THEN crm.import_phones(s.t_%1$s) END$$
				WHEN 'emails' THEN $$CASE WHEN s.t_%1$s ~ '^[A-Za-z0-9_]+([.+-][A-Za-z0-9_]+)*@([A-Za-z0-9]+(-[A-Za-z0-9]+)*\.)+[A-Za-z]{2,24}$' AND length(s.t_%1$s) <= 64 THEN ARRAY[lower(s.t_%1$s)] WHEN s.t_%1$s IS NOT NULL THEN crm.import_emails(s.t_%1$s) END$$
				ELSE 's.t_%1$s' END, f.field, coalesce(i.options ->> 'dates', 'dmy'), zone);
			IF f.type <> 'text' THEN
				IF drops THEN
					odds := odds || format(', CASE WHEN v.t_%1$s IS NOT NULL AND v.v_%1$s IS NULL THEN %1$L END', f.field);
					any_odd := any_odd || format(' OR v.t_%1$s IS NOT NULL AND v.v_%1$s IS NULL', f.field);
				ELSE
					bads := bads || format(', CASE WHEN v.t_%1$s IS NOT NULL AND v.v_%1$s IS NULL THEN %1$L END', f.field);
					any_bad := any_bad || format(' OR v.t_%1$s IS NOT NULL AND v.v_%1$s IS NULL', f.field);
				END IF;
				IF f.type = 'number' THEN
					bads := bads || format($$, CASE WHEN abs(v.v_%1$s) >= 1e12 THEN '%1$s^' END$$, f.field);
					any_bad := any_bad || format(' OR abs(v.v_%1$s) >= 1e12', f.field);
				ELSIF f.type = 'time' THEN
					bads := bads || format($$, CASE WHEN v.v_%1$s NOT BETWEEN '1990-01-01 00:00Z' AND '2199-12-31 00:00Z' THEN '%1$s^' END$$, f.field);
					any_bad := any_bad || format($$ OR v.v_%1$s NOT BETWEEN '1990-01-01 00:00Z' AND '2199-12-31 00:00Z'$$, f.field);
				END IF;
			END IF;
			bads := bads || format($$, CASE WHEN length(v.t_%1$s) > %2$s THEN '%1$s>' END$$, f.field, f.max_length);
			any_bad := any_bad || format(' OR length(v.t_%1$s) > %2$s', f.field, f.max_length);
			IF i.format LIKE 'xlsx%' THEN
				bads := bads || format($$, CASE WHEN substr(v.kinds, %2$s, 1) IN ('e', 'E', 'f', 'F') THEN '%1$s#' END$$, f.field, col);
				any_bad := any_bad || format($$ OR substr(v.kinds, %2$s, 1) IN ('e', 'E', 'f', 'F')$$, f.field, col);
			END IF;
		END IF;
		IF f.field = 'name' AND i.entity = 'contact' THEN
			value_ := $$coalesce(s.t_name, nullif(concat_ws(' ', s.t_last_name, s.t_first_name, s.t_middle_name), ''))$$;
		ELSIF f.field = 'name' AND i.entity = 'deal' THEN
			value_ := $$coalesce(s.t_name, left(nullif(concat_ws(' — ', s.t_product, s.t_company), ''), 500), s.t_id)$$;
		END IF;
		IF f.required THEN
			bads := bads || format($$, CASE WHEN %2$s AND v.t_%1$s IS NULL THEN '%1$s!' END$$, f.field, CASE WHEN stored THEN 'v.v_' || f.field || ' IS NULL' ELSE 'true' END);
			any_bad := any_bad || format(' OR %2$s AND v.t_%1$s IS NULL', f.field, CASE WHEN stored THEN 'v.v_' || f.field || ' IS NULL' ELSE 'true' END);
		END IF;
		raws := raws || format(', %s AS t_%s', raw, f.field);
		IF stored THEN
			typed := typed || format(', %s AS v_%s', value_, f.field);
		END IF;
	END LOOP;
	-- Columns that have no field here are kept beside the row.
	IF i.options -> 'extra' IS DISTINCT FROM 'false' THEN
		SELECT format('nullif(jsonb_strip_nulls(jsonb_object(%L::text[], ARRAY[%s])), ''{}'')',
			array_agg(h.value || CASE WHEN h.again THEN format(' (%s)', h.ordinality) ELSE '' END ORDER BY h.ordinality),
			string_agg(format('left(crm.sheet_text(r.cells[%s]), 4000)', h.ordinality), ', ' ORDER BY h.ordinality)) INTO extra
		FROM (
			SELECT g.value, g.ordinality, row_number() OVER (PARTITION BY g.value ORDER BY g.ordinality) > 1 AS again
			FROM unnest(i.headings) WITH ORDINALITY g(value, ordinality)
			WHERE g.value IS NOT NULL AND NOT EXISTS (SELECT FROM jsonb_each(i.mapping) m
				WHERE m.value = to_jsonb(g.ordinality) AND NOT (i.entity = 'deal' AND m.key IN ('product', 'closed_at')))) h
		HAVING count(*) > 0;
		extra := coalesce(extra, 'NULL::jsonb');
	END IF;

	EXECUTE format('CREATE UNLOGGED TABLE %s (n integer, id bigint, contact_id bigint, sid text, key text, ref text, okey text, gkey text%s, extra jsonb, bad text[], odd text[])', w, defs);
	EXECUTE format('CREATE UNLOGGED TABLE %s (n integer PRIMARY KEY, object_id bigint, how text, same_n integer)', x);
	EXECUTE format('CREATE UNLOGGED TABLE %s (ref text PRIMARY KEY, n integer, sid text, inn text, key text, name text, id bigint, company_id bigint)', c);
	EXECUTE format('CREATE UNLOGGED TABLE %s (key text PRIMARY KEY, name text, n integer, field text, employee_id bigint)', o);
	EXECUTE format('CREATE UNLOGGED TABLE %s (pkey text, skey text, pipeline text, stage text, n integer, funnel_id bigint, stage_id bigint, is_final boolean)', s);

	-- The bytes stand in a subquery of their own: in an argument the planner would copy them again and again.
	EXECUTE format($q$
		INSERT INTO %1$s
		SELECT v.n, nextval(%2$L), %3$s, coalesce(v.t_id, %4$L || v.n), %5$s, %6$s, %7$s, %8$s%9$s, v.extra,
			CASE WHEN %17$s(false%15$s) THEN array_remove(ARRAY[NULL%10$s]::text[], NULL) END, CASE WHEN false%16$s THEN array_remove(ARRAY[NULL%11$s]::text[], NULL) END
		FROM (SELECT s.*%12$s FROM (
			SELECT r."row" AS n, r.kinds%13$s, %14$s AS extra FROM (SELECT $1 AS file OFFSET 0) f CROSS JOIN LATERAL crm.sheet_rows(f.file, $2, $3) r OFFSET 0) s OFFSET 0) v
		$q$, w, pg_get_serial_sequence('crm.' || i.entity, 'id'),
		CASE WHEN i.entity = 'company' AND i.mapping ?| '{phone,phone2,email}' THEN
			$$CASE WHEN coalesce(v.v_phone, v.v_phone2, v.v_email) IS NOT NULL THEN nextval('crm.contact_id_seq') END$$ ELSE 'NULL::bigint' END,
		prefix,
		CASE WHEN i.entity = 'contact' THEN 'crm.sheet_name_key(v.v_name)' WHEN i.entity IN ('company', 'employee') THEN 'crm.sheet_name_key(v.t_name)' ELSE 'NULL' END,
		CASE WHEN of_firms THEN $$nullif(concat_ws('|', v.t_company_id, v.v_inn, crm.sheet_name_key(v.t_company)), '')$$ ELSE 'NULL' END,
		CASE WHEN has_owner THEN 'crm.sheet_key(v.t_owner)' ELSE 'NULL' END,
		CASE WHEN i.entity = 'task' THEN 'crm.sheet_key(v.t_giver)' ELSE 'NULL' END,
		picks, bads, odds, typed, raws, extra, any_bad, any_odd,
		CASE WHEN i.mapping ? 'row_kind' THEN format('crm.sheet_key(v.t_row_kind) = ANY (%L) IS NOT TRUE AND ', others) ELSE '' END)
	USING file, i.sheet, i.header_row + 1;
	EXECUTE format('ANALYZE %s (n, sid, key, ref, okey, bad%s)', w, CASE i.entity WHEN 'company' THEN ', v_inn' ELSE '' END);

	-- Bad cells, by their addresses. A cell that holds an error is no bad number beside it.
	PERFORM crm.import_problem_add(i, format($q$
		SELECT b.n, g.field, 'error' AS severity, m.state, b.value, m.message, m.hint
		FROM (
			SELECT w.n, u.code, to_jsonb(w) ->> ('t_' || rtrim(u.code, '!>^#')) AS value
			FROM %1$s w CROSS JOIN LATERAL unnest(w.bad) u(code)
			WHERE w.bad IS NOT NULL AND NOT (u.code || '#' = ANY (w.bad))) b
		JOIN crm.import_fields() g ON g.entity = %2$L AND g.field = rtrim(b.code, '!>^#')
		CROSS JOIN LATERAL crm.import_words(g.type, substr(b.code, length(g.field) + 1), coalesce((%3$L::text[])[(%4$L::jsonb ->> g.field)::integer], g.field), b.value) m
		$q$, w, i.entity, i.headings, i.mapping));
	warnings := warnings + crm.import_problem_add(i, format($q$
		SELECT b.n, g.field, 'warning' AS severity, m.state, b.value, m.message || '; the row was taken without it' AS message, m.hint
		FROM (
			SELECT w.n, u.code, to_jsonb(w) ->> ('t_' || u.code) AS value
			FROM %1$s w CROSS JOIN LATERAL unnest(w.odd) u(code)
			WHERE w.odd IS NOT NULL AND w.bad IS NULL) b
		JOIN crm.import_fields() g ON g.entity = %2$L AND g.field = b.code
		CROSS JOIN LATERAL crm.import_words(g.type, '', coalesce((%3$L::text[])[(%4$L::jsonb ->> g.field)::integer], g.field), b.value) m
		$q$, w, i.entity, i.headings, i.mapping));

	IF i.mapping ? 'row_kind' THEN
		EXECUTE format($q$INSERT INTO %s SELECT w.n, NULL, 'other', NULL FROM %s w WHERE w.bad IS NULL AND crm.sheet_key(w.t_row_kind) = ANY (%L)$q$, x, w, others);
	END IF;
	IF has_owner THEN
		warnings := warnings + crm.import_owners(i);
	END IF;
	IF of_firms THEN
		warnings := warnings + crm.import_companies(i);
	END IF;
	IF i.entity = 'deal' THEN
		warnings := warnings + crm.import_stages(i);
	END IF;
	-- Words of a list that are spelt otherwise.
	IF i.options ? 'known' THEN
		FOR f IN SELECT k.key AS field, k.value AS list FROM jsonb_each(i.options -> 'known') k WHERE i.mapping ? k.key LOOP
			warnings := warnings + crm.import_problem_add(i, format($q$
				SELECT w.n, %2$L AS field, 'warning' AS severity, '22023' AS state, w.t_%2$I AS value,
					CASE WHEN near.value IS NULL THEN format('%2$s "%%s" is not in the list', w.t_%2$I)
						ELSE format('%2$s "%%s" differs from "%%s" of the list by a blank or a sign', w.t_%2$I, near.value) END AS message,
					'The row was taken as it is. Mend the file or the list.' AS hint
				FROM %1$s w
				LEFT JOIN LATERAL (SELECT l.value FROM jsonb_array_elements_text(%3$L) l WHERE crm.sheet_key(l.value) = crm.sheet_key(w.t_%2$I) ORDER BY l.value = w.t_%2$I DESC LIMIT 1) near ON true
				WHERE w.bad IS NULL AND w.t_%2$I IS NOT NULL AND near.value IS DISTINCT FROM w.t_%2$I
				$q$, w, f.field, f.list));
		END LOOP;
	END IF;
	warnings := warnings + crm.import_matches(i);
	RETURN warnings;
END
$body$;
COMMENT ON FUNCTION crm.import_prepare(crm.import, bytea) IS 'Reads a load into tables of its own, checks every cell, finds owners, companies, stages and duplicates and notes problems; returns how many warnings. crm.import_clear() drops the tables.';

CREATE OR REPLACE FUNCTION crm.import_clear(i crm.import) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('DROP TABLE crm.import_work_%1$s, crm.import_match_%1$s, crm.import_company_%1$s, crm.import_owner_%1$s, crm.import_stages_%1$s', i.id);
END
$$;
COMMENT ON FUNCTION crm.import_clear(crm.import) IS 'Drops the tables that crm.import_prepare() made.';

CREATE OR REPLACE FUNCTION crm.import_owners(i crm.import) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	w       text := format('crm.import_work_%s', i.id);
	x       text := format('crm.import_match_%s', i.id);
	o       text := format('crm.import_owner_%s', i.id);
	missing text := coalesce(i.options ->> 'missing_owner', 'warn');
	fields  text[] := CASE i.entity WHEN 'task' THEN '{owner,giver}'::text[] ELSE '{owner}' END;
	f       text;
	count_  bigint := 0;
BEGIN
	FOREACH f IN ARRAY fields LOOP
		CONTINUE WHEN NOT i.mapping ? f;
		EXECUTE format($q$INSERT INTO %1$s SELECT w.%2$s, min(w.t_%3$s), min(w.n), %3$L FROM %4$s w WHERE w.%2$s IS NOT NULL AND w.bad IS NULL GROUP BY 1 ON CONFLICT DO NOTHING$q$,
			o, CASE f WHEN 'owner' THEN 'okey' ELSE 'gkey' END, f, w);
	END LOOP;
	EXECUTE format($q$
		UPDATE %1$s o SET employee_id = e.id
		FROM (SELECT DISTINCT ON (crm.sheet_key(y.name)) y.id, crm.sheet_key(y.name) AS key FROM crm.employee y
			ORDER BY crm.sheet_key(y.name), y.dismissed_at NULLS FIRST, y.id) e
		WHERE e.key = o.key $q$, o);
	IF missing = 'create' THEN
		RETURN 0;
	END IF;
	FOREACH f IN ARRAY fields LOOP
		CONTINUE WHEN NOT i.mapping ? f;
		count_ := count_ + crm.import_problem_add(i, format($q$
			SELECT w.n, %3$L AS field, %4$L AS severity, '23503' AS state, w.t_%3$s AS value, format('no employee is called "%%s"', left(w.t_%3$s, 60)) AS message,
				'Enter the employee first (crm_erp.put_employee, or a load of employees), or pass {"missing_owner": "create"} in options.' AS hint
			FROM %1$s o JOIN %2$s w ON w.%5$s = o.key
			WHERE o.employee_id IS NULL AND w.bad IS NULL
			$q$, o, w, f, CASE missing WHEN 'error' THEN 'error' ELSE 'warning' END, CASE f WHEN 'owner' THEN 'okey' ELSE 'gkey' END));
		IF missing = 'error' THEN
			EXECUTE format($q$INSERT INTO %1$s SELECT w.n, NULL, 'refused', NULL FROM %2$s o JOIN %3$s w ON w.%4$s = o.key WHERE o.employee_id IS NULL AND w.bad IS NULL ON CONFLICT DO NOTHING$q$,
				x, o, w, CASE f WHEN 'owner' THEN 'okey' ELSE 'gkey' END);
		END IF;
	END LOOP;
	RETURN CASE missing WHEN 'error' THEN 0 ELSE count_ END;
END
$$;
COMMENT ON FUNCTION crm.import_owners(crm.import) IS 'Finds the employees that a load names, by name; returns how many warnings.';

CREATE OR REPLACE FUNCTION crm.import_companies(i crm.import) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	w       text := format('crm.import_work_%s', i.id);
	x       text := format('crm.import_match_%s', i.id);
	c       text := format('crm.import_company_%s', i.id);
	missing text := coalesce(i.options ->> 'missing_company', 'create');
	count_  bigint := 0;
BEGIN
	EXECUTE format($q$
		INSERT INTO %1$s (ref, n, sid, inn, key, name)
		SELECT w.ref, min(w.n), min(w.t_company_id), min(w.v_inn), min(crm.sheet_name_key(w.t_company)), min(w.t_company)
		FROM %2$s w WHERE w.ref IS NOT NULL AND w.bad IS NULL GROUP BY w.ref $q$, c, w);
	EXECUTE 'ANALYZE ' || c;
	EXECUTE format($q$
		UPDATE %1$s c SET company_id = coalesce(y.merged_into_id, y.id) FROM crm.company y
		WHERE y.source = $1 AND y.source_id = c.sid $q$, c) USING i.source;
	-- An earlier load may have joined that id to a company that was there.
	EXECUTE format($q$
		UPDATE %1$s c SET company_id = t.object_id
		FROM (SELECT DISTINCT ON (y.sid) y.sid, y.object_id FROM crm.import_link y WHERE y.source = $1 AND y.object_kind = 'company' ORDER BY y.sid, y.object_id) t
		WHERE c.company_id IS NULL AND t.sid = c.sid AND EXISTS (SELECT FROM crm.company k WHERE k.id = t.object_id) $q$, c) USING i.source;
	EXECUTE format($q$
		UPDATE %1$s c SET company_id = y.id
		FROM (SELECT DISTINCT ON (z.inn) z.inn, z.id FROM crm.company z WHERE z.inn IS NOT NULL AND z.merged_into_id IS NULL ORDER BY z.inn, z.archived_at NULLS FIRST, z.id) y
		WHERE c.company_id IS NULL AND y.inn = c.inn $q$, c);
	EXECUTE format($q$
		UPDATE %1$s c SET company_id = y.id
		FROM (SELECT DISTINCT ON (crm.sheet_name_key(z.name)) crm.sheet_name_key(z.name) AS key, z.id, z.inn FROM crm.company z
			WHERE z.merged_into_id IS NULL ORDER BY crm.sheet_name_key(z.name), z.archived_at NULLS FIRST, z.id) y
		WHERE c.company_id IS NULL AND y.key = c.key AND (y.inn IS NULL OR c.inn IS NULL OR y.inn = c.inn) $q$, c);
	count_ := crm.import_problem_add(i, format($q$
		SELECT w.n, CASE WHEN w.t_company IS NOT NULL THEN 'company' WHEN w.v_inn IS NOT NULL THEN 'inn' ELSE 'company_id' END AS field, %3$L AS severity, '23503' AS state,
			coalesce(w.t_company, w.v_inn, w.t_company_id) AS value, format('company "%%s" is not known', coalesce(w.t_company, w.v_inn, w.t_company_id)) AS message,
			'Load the companies first; where the row gives a name, {"missing_company": "create"} in options makes one of it.' AS hint
		FROM %1$s c JOIN %2$s w ON w.ref = c.ref
		WHERE c.company_id IS NULL AND w.bad IS NULL AND (c.name IS NULL OR %4$L <> 'create')
		$q$, c, w, CASE missing WHEN 'error' THEN 'error' ELSE 'warning' END, missing));
	IF missing = 'error' THEN
		EXECUTE format($q$INSERT INTO %1$s SELECT w.n, NULL, 'refused', NULL FROM %2$s c JOIN %3$s w ON w.ref = c.ref WHERE c.company_id IS NULL AND w.bad IS NULL ON CONFLICT DO NOTHING$q$, x, c, w);
		count_ := 0;
	END IF;
	IF i.entity = 'deal' THEN
		count_ := count_ + crm.import_problem_add(i, format($q$
			SELECT w.n, 'company' AS field, 'warning' AS severity, '22004' AS state, NULL AS value, 'the deal names no company' AS message, 'The row was taken without one; join it later: UPDATE crm.deal SET company_id = ….' AS hint
			FROM %1$s w WHERE w.ref IS NULL AND w.bad IS NULL $q$, w));
	END IF;
	IF i.entity IN ('deal', 'task') AND i.mapping ?| '{contact,contact_id}' THEN
		EXECUTE format($q$
			UPDATE %1$s w SET contact_id = k.id FROM crm.contact k
			WHERE w.bad IS NULL AND w.t_contact_id IS NOT NULL AND k.source = $1 AND k.source_id = w.t_contact_id $q$, w) USING i.source;
		EXECUTE format($q$
			UPDATE %1$s w SET contact_id = q.id
			FROM (SELECT v.n, min(k.id) AS id FROM %1$s v JOIN %2$s c ON c.ref = v.ref AND c.company_id IS NOT NULL
				CROSS JOIN LATERAL (SELECT y.id FROM crm.contact y WHERE y.company_id = c.company_id AND y.archived_at IS NULL AND crm.sheet_name_key(y.name) = crm.sheet_name_key(v.t_contact) OFFSET 0) k
				WHERE v.bad IS NULL AND v.contact_id IS NULL AND v.t_contact IS NOT NULL GROUP BY v.n) q
			WHERE w.n = q.n $q$, w, c);
		count_ := count_ + crm.import_problem_add(i, format($q$
			SELECT w.n, CASE WHEN w.t_contact IS NULL THEN 'contact_id' ELSE 'contact' END AS field, 'warning' AS severity, '23503' AS state, coalesce(w.t_contact, w.t_contact_id) AS value,
				format('contact "%%s" is not known', left(coalesce(w.t_contact, w.t_contact_id), 60)) AS message, 'The row was taken without it. Load the contacts first.' AS hint
			FROM %1$s w WHERE w.bad IS NULL AND w.contact_id IS NULL AND coalesce(w.t_contact, w.t_contact_id) IS NOT NULL $q$, w));
	END IF;
	RETURN count_;
END
$$;
COMMENT ON FUNCTION crm.import_companies(crm.import) IS 'Finds the companies and contacts that the rows of a load name: by the source''s id, the tax number, the name; returns how many warnings.';

CREATE OR REPLACE VIEW crm.import_link WITH (security_invoker = true) AS
	SELECT i.source, t.object_kind, t.extra ->> '@id' AS sid, t.object_id
	FROM crm.import_item t
	JOIN crm.import i ON i.id = t.import_id
	WHERE t.extra ? '@id' AND i.state = 'loaded';
COMMENT ON VIEW crm.import_link IS 'Ids of another system that a load joined to objects that were there before: the row''s id is theirs, the object is ours';
COMMENT ON COLUMN crm.import_link.source IS 'crm.import.source';
COMMENT ON COLUMN crm.import_link.object_kind IS 'company, contact, deal, task, employee';
COMMENT ON COLUMN crm.import_link.sid IS 'Id there';
COMMENT ON COLUMN crm.import_link.object_id IS 'Our number';

CREATE OR REPLACE FUNCTION crm.import_stage_find(profile text, pipeline text, stage text, funnel_code text, OUT funnel_id bigint, OUT stage_id bigint, OUT is_final boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	pkey   text := coalesce(crm.sheet_key(pipeline), '');
	skey   text := crm.sheet_key(stage);
	rule   crm.import_stage;
	home   bigint;
	target text;
BEGIN
	SELECT m.* INTO rule FROM crm.import_stage m
	WHERE m.profile IN (import_stage_find.profile, 'any') AND m.pipeline IN (pkey, '') AND m.stage = skey AND m.enabled
	ORDER BY (m.profile = import_stage_find.profile) DESC, (m.pipeline <> '') DESC LIMIT 1;
	-- Whose stage: what the rule says, the pipeline's namesake, what the load says, or the only funnel that there is.
	SELECT f.id INTO home FROM crm.funnel f
	WHERE f.code = rule.funnel_code
		OR rule.funnel_code IS NULL AND (crm.sheet_key(f.name_ru) = pkey OR crm.sheet_key(f.name_en) = pkey OR crm.sheet_key(f.code) = pkey OR f.code = import_stage_find.funnel_code)
	ORDER BY (f.code = import_stage_find.funnel_code) IS NOT DISTINCT FROM true, f.id LIMIT 1;
	IF home IS NULL THEN
		SELECT min(f.id) INTO home FROM crm.funnel f WHERE f.enabled HAVING count(*) = 1;
	END IF;
	target := coalesce(rule.stage_code, CASE WHEN skey IS NULL THEN '@first' END);
	SELECT s.funnel_id, s.id, s.is_won OR s.is_lost INTO funnel_id, stage_id, is_final
	FROM crm.stage s
	WHERE s.funnel_id = home
		AND CASE target WHEN '@first' THEN true WHEN '@won' THEN s.is_won WHEN '@lost' THEN s.is_lost
			ELSE coalesce(s.code = target, crm.sheet_key(s.name_ru) = skey OR crm.sheet_key(s.name_en) = skey OR crm.sheet_key(s.code) = skey) END
	ORDER BY s."position", s.id LIMIT 1;
END
$$;
COMMENT ON FUNCTION crm.import_stage_find(text, text, text, text) IS 'Our stage for a stage of another system: by crm.import_stage, else by name in the funnel that bears the pipeline''s name or that the load names; no stage is the first one. NULL: not mapped.';

CREATE OR REPLACE FUNCTION crm.import_stages(i crm.import) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	w      text := format('crm.import_work_%s', i.id);
	x      text := format('crm.import_match_%s', i.id);
	s      text := format('crm.import_stages_%s', i.id);
	count_ bigint;
BEGIN
	EXECUTE format($q$
		INSERT INTO %1$s
		SELECT g.pkey, g.skey, g.pipeline, g.stage, g.n, f.funnel_id, f.stage_id, f.is_final
		FROM (SELECT coalesce(crm.sheet_key(w.t_pipeline), '') AS pkey, coalesce(crm.sheet_key(w.t_stage), '') AS skey, min(w.t_pipeline) AS pipeline, min(w.t_stage) AS stage, min(w.n) AS n
			FROM %2$s w WHERE w.bad IS NULL GROUP BY 1, 2) g
		CROSS JOIN LATERAL crm.import_stage_find($1, g.pipeline, g.stage, $2) f $q$, s, w) USING i.profile, i.options ->> 'funnel';
	PERFORM crm.import_problem_add(i, format($q$
		SELECT w.n, CASE WHEN s.stage IS NULL THEN 'name' ELSE 'stage' END AS field, 'error' AS severity, '23503' AS state, w.t_stage AS value,
			format('stage "%%s" is not mapped to a stage of ours', coalesce(left(w.t_stage, 60), '')) AS message,
			format('SELECT crm.import_map_stage(%%L, %%L, ''funnel'', ''stage'', %%L); or SELECT crm.import_make_funnel(%3$s, ''code''); makes a funnel of the file''s stages; {"funnel": "code"} in options names one.',
				%4$L, s.stage, s.pipeline) AS hint
		FROM %1$s s JOIN %2$s w ON coalesce(crm.sheet_key(w.t_pipeline), '') = s.pkey AND coalesce(crm.sheet_key(w.t_stage), '') = s.skey
		WHERE s.stage_id IS NULL AND w.bad IS NULL $q$, s, w, i.id, i.profile));
	EXECUTE format($q$
		INSERT INTO %1$s SELECT w.n, NULL, 'refused', NULL
		FROM %2$s s JOIN %3$s w ON coalesce(crm.sheet_key(w.t_pipeline), '') = s.pkey AND coalesce(crm.sheet_key(w.t_stage), '') = s.skey
		WHERE s.stage_id IS NULL AND w.bad IS NULL ON CONFLICT DO NOTHING $q$, x, s, w);
	count_ := crm.import_problem_add(i, format($q$
		SELECT w.n, q.field, 'warning' AS severity, q.state, q.value, q.message, q.hint
		FROM %1$s w
		JOIN %2$s s ON coalesce(crm.sheet_key(w.t_pipeline), '') = s.pkey AND coalesce(crm.sheet_key(w.t_stage), '') = s.skey
		CROSS JOIN LATERAL (VALUES
			('created_at', w.t_created_at IS NULL AND w.t_closed_at IS NULL, '22004', NULL, format('the deal is at "%%s" and has no date', coalesce(w.t_stage, 'the first stage')), 'It counts from the day of the load.'),
			('closed_at', s.is_final AND w.t_closed_at IS NULL, '22004', NULL, format('the deal is closed ("%%s") and says no day of it', w.t_stage), 'It counts as closed on the day it began.'),
			('closed_at', w.v_closed_at < w.v_created_at, '22008', w.t_closed_at, format('the deal closed on %%s, before it began on %%s', w.t_closed_at, w.t_created_at), 'The dates were taken as they are.'),
			('stage', w.t_stage IS NULL, '22004', NULL, 'the deal names no stage', 'It was put at the first stage.')
		) AS q(field, odd, state, value, message, hint)
		WHERE w.bad IS NULL AND q.odd AND s.stage_id IS NOT NULL $q$, w, s));
	RETURN count_;
END
$$;
COMMENT ON FUNCTION crm.import_stages(crm.import) IS 'Maps the stages of a load''s deals to ours and notes deals without dates; returns how many warnings.';

CREATE OR REPLACE FUNCTION crm.import_matches(i crm.import) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $body$
DECLARE
	w      text := format('crm.import_work_%s', i.id);
	x      text := format('crm.import_match_%s', i.id);
	c      text := format('crm.import_company_%s', i.id);
	points text := $$(SELECT 'phone' AS kind, unnest(%1$s.v_phone) AS value UNION ALL SELECT 'phone', unnest(%1$s.v_phone2) UNION ALL SELECT 'phone', unnest(%1$s.v_phone3) UNION ALL SELECT 'email', unnest(%1$s.v_email) UNION ALL SELECT 'email', unnest(%1$s.v_email2))$$;
	free_  text;
	count_ bigint := 0;
	keys   text[];
	key    text;
BEGIN
	-- Of those that are not refused or found yet.
	free_ := format('w.bad IS NULL AND NOT EXISTS (SELECT FROM %s x WHERE x.n = w.n)', x);
	-- The very row, from this source.
	EXECUTE format($q$
		INSERT INTO %1$s SELECT w.n, %4$s, 'id', NULL FROM %2$s w JOIN crm.%3$I y ON y.source = $1 AND y.source_id = w.sid WHERE %5$s $q$,
		x, w, i.entity, CASE i.entity WHEN 'company' THEN 'coalesce(y.merged_into_id, y.id)' ELSE 'y.id' END, free_) USING i.source;
	EXECUTE format($q$
		INSERT INTO %1$s SELECT DISTINCT ON (w.n) w.n, y.object_id, 'id', NULL
		FROM %2$s w JOIN crm.import_link y ON y.source = $1 AND y.object_kind = $2 AND y.sid = w.t_id
		WHERE %3$s AND EXISTS (SELECT FROM crm.%4$I k WHERE k.id = y.object_id) ORDER BY w.n, y.object_id $q$, x, w, free_, i.entity) USING i.source, i.entity;

	IF i.entity = 'company' THEN
		EXECUTE format($q$
			INSERT INTO %1$s SELECT DISTINCT ON (w.n) w.n, y.id, 'inn', NULL
			FROM %2$s w JOIN crm.company y ON y.inn = w.v_inn AND y.merged_into_id IS NULL AND (y.kpp IS NULL OR w.v_kpp IS NULL OR y.kpp = w.v_kpp)
			WHERE w.v_inn IS NOT NULL AND %3$s
			ORDER BY w.n, (y.kpp = w.v_kpp) DESC NULLS LAST, y.archived_at NULLS FIRST, y.id $q$, x, w, free_);
		EXECUTE format($q$
			INSERT INTO %1$s SELECT DISTINCT ON (w.n) w.n, y.id, 'name', NULL
			FROM %2$s w JOIN crm.company y ON crm.sheet_name_key(y.name) = w.key AND y.merged_into_id IS NULL AND (y.inn IS NULL OR w.v_inn IS NULL)
			WHERE %3$s
			ORDER BY w.n, y.archived_at NULLS FIRST, y.id $q$, x, w, free_);
		keys := ARRAY[$$w.v_inn || coalesce('/' || w.v_kpp, '')$$, $$CASE WHEN w.v_inn IS NULL THEN w.key END$$];
	ELSIF i.entity = 'contact' THEN
		EXECUTE format($q$
			INSERT INTO %1$s SELECT DISTINCT ON (w.n) w.n, k.id, p.kind, NULL
			FROM %2$s w CROSS JOIN LATERAL %4$s p
			JOIN crm.contact_point q ON q.kind = p.kind AND q.value = p.value
			JOIN crm.contact k ON k.id = q.contact_id AND k.archived_at IS NULL
			WHERE %3$s ORDER BY w.n, p.kind DESC, k.id $q$, x, w, free_, format(points, 'w'));
		EXECUTE format($q$
			INSERT INTO %1$s SELECT DISTINCT ON (w.n) w.n, k.id, 'name', NULL
			FROM %2$s w JOIN %4$s c ON c.ref = w.ref AND c.company_id IS NOT NULL
			CROSS JOIN LATERAL (SELECT y.id FROM crm.contact y WHERE y.company_id = c.company_id AND y.archived_at IS NULL AND crm.sheet_name_key(y.name) = w.key OFFSET 0) k
			WHERE %3$s ORDER BY w.n, k.id $q$, x, w, free_, c);
		keys := ARRAY[$$w.ref || '|' || w.key$$];
		-- Two rows of the file with one number or address.
		EXECUTE format($q$
			INSERT INTO %1$s
			SELECT DISTINCT ON (r.n) r.n, NULL, d.kind, d.n
			FROM (SELECT w.n, p.kind, p.value FROM %2$s w CROSS JOIN LATERAL %3$s p WHERE %4$s) r
			JOIN (SELECT p.kind, p.value, min(w.n) AS n FROM %2$s w CROSS JOIN LATERAL %3$s p WHERE %4$s GROUP BY 1, 2 HAVING count(DISTINCT w.n) > 1) d
				ON d.kind = r.kind AND d.value = r.value AND d.n < r.n
			ORDER BY r.n, d.n $q$, x, w, format(points, 'w'), free_);
	ELSIF i.entity = 'employee' THEN
		EXECUTE format($q$
			INSERT INTO %1$s SELECT DISTINCT ON (w.n) w.n, y.id, 'name', NULL
			FROM %2$s w JOIN crm.employee y ON crm.sheet_key(y.name) = crm.sheet_key(w.t_name)
			WHERE %3$s ORDER BY w.n, y.dismissed_at NULLS FIRST, y.id $q$, x, w, free_);
		keys := ARRAY['w.key'];
	ELSE
		keys := '{}';
	END IF;
	-- Rows of the file that are the same as an earlier one. One that repeats a row which repeats another goes with the first.
	IF i.mapping ? 'id' THEN
		keys := ARRAY['w.sid'] || keys;
	END IF;
	FOREACH key IN ARRAY keys LOOP
		EXECUTE format($q$
			INSERT INTO %1$s
			SELECT w.n, NULL, 'row', d.n
			FROM %2$s w
			JOIN (SELECT %3$s AS key, min(w.n) AS n FROM %2$s w WHERE %4$s GROUP BY 1 HAVING count(*) > 1) d ON d.key = %3$s AND d.n < w.n
			WHERE %4$s $q$, x, w, key, free_);
	END LOOP;
	EXECUTE format($q$UPDATE %1$s x SET same_n = y.same_n, object_id = y.object_id FROM %1$s y WHERE y.n = x.same_n$q$, x);

	IF i.policy = 'error' THEN
		PERFORM crm.import_problem_add(i, format($q$
			SELECT x.n, 'name' AS field, 'error' AS severity, '23505' AS state, w.t_name AS value, crm.import_same(%3$L, x.how, x.object_id, x.same_n) AS message,
				'Take the row out, or load with the policy skip, update or link.' AS hint
			FROM %1$s x JOIN %2$s w ON w.n = x.n WHERE x.how NOT IN ('refused', 'other') $q$, x, w, i.entity));
		EXECUTE format($q$UPDATE %s SET how = 'refused' WHERE how NOT IN ('refused', 'other')$q$, x);
		RETURN 0;
	END IF;
	IF i.policy = 'update' AND i.entity = 'deal' THEN
		count_ := crm.import_problem_add(i, format($q$
			SELECT x.n, 'stage' AS field, 'warning' AS severity, '23514' AS state, w.t_stage AS value, format('the funnel allows no move to "%%s" from where the deal is', w.t_stage) AS message,
				'The rest of the row was taken; move the deal with crm.move().' AS hint
			FROM %1$s x JOIN %2$s w ON w.n = x.n
			JOIN %3$s s ON s.pkey = coalesce(crm.sheet_key(w.t_pipeline), '') AND s.skey = coalesce(crm.sheet_key(w.t_stage), '')
			JOIN crm.deal y ON y.id = x.object_id
			WHERE x.how NOT IN ('refused', 'other') AND w.t_stage IS NOT NULL AND y.stage_id <> s.stage_id
				AND NOT EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = y.stage_id AND m.to_stage_id = s.stage_id AND m.enabled) $q$,
			x, w, format('crm.import_stages_%s', i.id)));
	END IF;
	RETURN count_ + crm.import_problem_add(i, format($q$
		SELECT x.n, 'name' AS field, 'warning' AS severity, '23505' AS state, w.t_name AS value, crm.import_same(%3$L, x.how, x.object_id, x.same_n) AS message,
			%4$L AS hint
		FROM %1$s x JOIN %2$s w ON w.n = x.n WHERE x.how NOT IN ('refused', 'other') $q$, x, w, i.entity,
		CASE i.policy WHEN 'skip' THEN 'The row did nothing; load with the policy update or link if it should.' WHEN 'link' THEN 'The row was joined to it.' ELSE 'The row changed it where it differs.' END));
END
$body$;
COMMENT ON FUNCTION crm.import_matches(crm.import) IS 'Finds what is there already, and rows of the file that are the same: by the source''s id, tax number with KPP, name without legal form; contacts by phone, address, or name in the company. Returns how many warnings.';

CREATE OR REPLACE FUNCTION crm.import_same(entity text, how text, object_id bigint, same_n integer) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN CASE WHEN object_id IS NULL THEN format('the row is the same %s as row %s', entity, same_n)
		ELSE format('the %s is there already: %s %s, by its %s', entity, entity, object_id, CASE how WHEN 'row' THEN 'row' WHEN 'inn' THEN 'tax number' ELSE how END) END;
COMMENT ON FUNCTION crm.import_same(text, text, bigint, integer) IS 'What a row is the same as, in words.';

CREATE OR REPLACE FUNCTION crm.import_preview(import_id bigint, rows integer DEFAULT 20)
	RETURNS TABLE("row" integer, would text, data jsonb, problems text[])
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.import := crm.import_get(import_id);
BEGIN
	IF i.state <> 'new' THEN
		PERFORM crm.erp_fail('55000', format('load %s is %s', i.id, i.state), 'SELECT * FROM crm.import_report(id) says what it did.');
	END IF;
	DELETE FROM crm.import_problem p WHERE p.import_id = i.id;
	PERFORM crm.import_prepare(i, (SELECT y.file FROM crm.import y WHERE y.id = i.id));
	RETURN QUERY EXECUTE format($q$
		SELECT w.n, CASE WHEN w.bad IS NOT NULL OR x.how = 'refused' THEN 'refuse' WHEN x.how = 'other' THEN 'skip' WHEN x.n IS NOT NULL THEN $3 ELSE 'create' END,
			(SELECT jsonb_object_agg(m.key, d.value) FROM jsonb_object_keys($4 || '{"name": 0}') m(key) CROSS JOIN LATERAL (SELECT CASE WHEN to_jsonb(w) ? ('v_' || m.key) THEN to_jsonb(w) -> ('v_' || m.key) ELSE to_jsonb(w) -> ('t_' || m.key) END AS value) d WHERE d.value <> 'null'),
			(SELECT array_agg(format('%%s: %%s', p.cell, p.message) ORDER BY p.id) FROM crm.import_problem p WHERE p.import_id = $1 AND p."row" = w.n)
		FROM %1$s w LEFT JOIN %2$s x ON x.n = w.n
		WHERE w.n IN (SELECT y.n FROM %1$s y ORDER BY y.n LIMIT $2)
			OR w.n IN (SELECT e."row" FROM crm.import_problem e WHERE e.import_id = $1 AND e.severity = 'error' ORDER BY e."row" LIMIT 1000)
		ORDER BY w.n $q$, format('crm.import_work_%s', i.id), format('crm.import_match_%s', i.id))
	USING i.id, least(greatest(rows, 0), 1000), i.policy, i.mapping;
	PERFORM crm.import_clear(i);
END
$$;
COMMENT ON FUNCTION crm.import_preview(bigint, integer) IS 'What a load would do, without doing it: the first rows (at most 1000) as they are understood, and every row (at most 1000) that would be refused, each with its problems by cell address. would: create, skip, update, link, refuse. The whole file is checked; crm.import_report() lists all problems. Errors: P0002 no such load, 55000 loaded already, 22P02 and others where the file breaks off.';

CREATE OR REPLACE FUNCTION crm.import_report(import_id bigint) RETURNS TABLE("row" integer, cell text, heading text, severity text, state text, value text, message text, hint text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.import := crm.import_get(import_id);
BEGIN
	RETURN QUERY SELECT p."row", p.cell, p.heading, p.severity, p.state, p.value, p.message, p.hint
	FROM crm.import_problem p WHERE p.import_id = i.id ORDER BY p.severity, p."row", p.id;
END
$$;
COMMENT ON FUNCTION crm.import_report(bigint) IS 'What is wrong and odd in a load, by cell: errors first, each with the value, SQLSTATE and what to do. Errors: P0002 no such load.';

-- ---- loading -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_write(i crm.import, from_n integer, to_n integer) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $body$
DECLARE
	w      text := format('crm.import_work_%s', i.id);
	x      text := format('crm.import_match_%s', i.id);
	c      text := format('crm.import_company_%s', i.id);
	o      text := format('crm.import_owner_%s', i.id);
	s      text := format('crm.import_stages_%s', i.id);
	fresh  text;
	zone   text := coalesce(i.options ->> 'zone', crm.erp_zone());
	points text := $$(SELECT DISTINCT u.kind, u.value FROM (SELECT 'phone' AS kind, unnest(w.v_phone) AS value UNION ALL SELECT 'phone', unnest(w.v_phone2) UNION ALL %s SELECT 'email', unnest(w.v_email)) u)$$;
	firms  boolean := i.mapping ?| '{company,company_id,inn}';
	news   text;
	list   text;
BEGIN
	fresh := format('w.bad IS NULL AND w.n BETWEEN %s AND %s AND NOT EXISTS (SELECT FROM %s x WHERE x.n = w.n)', from_n, to_n, x);
	points := format(points, CASE i.entity WHEN 'contact' THEN $$SELECT 'phone', unnest(w.v_phone3) UNION ALL SELECT 'email', unnest(w.v_email2) UNION ALL$$ ELSE '' END);
	CASE i.entity
		WHEN 'company' THEN
			EXECUTE format($q$
				INSERT INTO crm.company (id, name, full_name, inn, kpp, is_client, is_carrier, owner_id, time_zone, created_at, source, source_id)
				SELECT w.id, w.t_name, w.t_full_name, w.v_inn, w.v_kpp, coalesce(w.v_is_client, true), coalesce(w.v_is_carrier, false), o.employee_id, $2,
					coalesce(w.v_created_at, crm.now()), $1, w.sid
				FROM %1$s w LEFT JOIN %2$s o ON o.key = w.okey WHERE %3$s $q$, w, o, fresh) USING i.source, zone;
			-- A firm's own number belongs to a contact of its name.
			IF i.mapping ?| '{phone,phone2,email}' THEN
				EXECUTE format($q$
					INSERT INTO crm.contact (id, company_id, name, source, source_id)
					SELECT w.contact_id, w.id, w.t_name, $1, 'company:' || w.sid FROM %1$s w WHERE w.contact_id IS NOT NULL AND %2$s $q$, w, fresh) USING i.source;
				EXECUTE format($q$INSERT INTO crm.contact_point (contact_id, kind, value) SELECT w.contact_id, p.kind, p.value FROM %1$s w CROSS JOIN LATERAL %2$s p WHERE w.contact_id IS NOT NULL AND %3$s$q$, w, points, fresh);
				EXECUTE format($q$INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action) SELECT $1, w.n, 'contact', w.contact_id, 'created' FROM %1$s w WHERE w.contact_id IS NOT NULL AND %2$s$q$, w, fresh) USING i.id;
			END IF;
			news := $$jsonb_build_object('name', w.t_name, 'full_name', w.t_full_name, 'inn', w.v_inn, 'kpp', w.v_kpp, 'is_client', w.v_is_client, 'is_carrier', w.v_is_carrier, 'owner_id', o.employee_id)$$;
		WHEN 'contact' THEN
			EXECUTE format($q$
				INSERT INTO crm.contact (id, company_id, name, "position", is_decision_maker, created_at, source, source_id)
				SELECT w.id, c.company_id, w.v_name, w.t_position, coalesce(w.v_is_decision_maker, false), coalesce(w.v_created_at, crm.now()), $1, w.sid
				FROM %1$s w LEFT JOIN %2$s c ON c.ref = w.ref WHERE %3$s $q$, w, c, fresh) USING i.source;
			IF i.mapping ?| '{phone,phone2,phone3,email,email2}' THEN
				EXECUTE format($q$INSERT INTO crm.contact_point (contact_id, kind, value) SELECT w.id, p.kind, p.value FROM %1$s w CROSS JOIN LATERAL %2$s p WHERE %3$s$q$, w, points, fresh);
			END IF;
			news := $$jsonb_build_object('name', w.v_name, 'position', w.t_position, 'is_decision_maker', w.v_is_decision_maker, 'company_id', c.company_id)$$;
		WHEN 'deal' THEN
			EXECUTE format($q$
				INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, contact_id, owner_id, name, amount, tonnes, created_at, stage_at, source, source_id)
				SELECT w.id, s.funnel_id, s.stage_id, c.company_id, w.contact_id, o.employee_id, w.v_name, w.v_amount, w.v_tonnes,
					coalesce(w.v_created_at, CASE WHEN s.is_final THEN w.v_closed_at END, crm.now()),
					CASE WHEN s.is_final THEN coalesce(w.v_closed_at, w.v_created_at, crm.now()) ELSE coalesce(w.v_created_at, crm.now()) END, $1, w.sid
				FROM %1$s w
				JOIN %2$s s ON s.pkey = coalesce(crm.sheet_key(w.t_pipeline), '') AND s.skey = coalesce(crm.sheet_key(w.t_stage), '')
				LEFT JOIN %3$s c ON c.ref = w.ref LEFT JOIN %4$s o ON o.key = w.okey
				WHERE %5$s ORDER BY w.n $q$, w, s, c, o, fresh) USING i.source;
			news := $$jsonb_build_object('name', w.v_name, 'amount', w.v_amount, 'tonnes', w.v_tonnes, 'company_id', c.company_id, 'contact_id', w.contact_id, 'owner_id', o.employee_id,
				'stage_id', CASE WHEN w.t_stage IS NOT NULL AND (y.stage_id = s.stage_id OR EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = y.stage_id AND m.to_stage_id = s.stage_id AND m.enabled)) THEN s.stage_id END)$$;
		WHEN 'task' THEN
			EXECUTE format($q$
				INSERT INTO crm.task (id, name, note, employee_id, giver_id, company_id, contact_id, due_at, state, done_at, result, reason, created_at, source, source_id)
				SELECT w.id, w.t_name, w.t_note, o.employee_id, g.employee_id, c.company_id, w.contact_id, w.v_due_at, z.state,
					CASE WHEN z.state <> 'open' THEN coalesce(w.v_done_at, least(w.v_due_at, crm.now())) END, w.t_result,
					CASE WHEN z.state = 'cancelled' THEN left(coalesce(w.t_result, w.t_state), 2000) END,
					coalesce(w.v_created_at, least(w.v_due_at, crm.now())), $1, w.sid
				FROM %1$s w
				CROSS JOIN LATERAL (SELECT CASE WHEN crm.sheet_key(w.t_state) = ANY ('{да,завершена,завершено,выполнена,выполнено,закрыта,completed,done,closed,yes,1,true,истина}') THEN 'done'
					WHEN crm.sheet_key(w.t_state) = ANY ('{отменена,отклонена,cancelled,canceled,declined}') THEN 'cancelled'
					WHEN w.v_done_at IS NOT NULL THEN 'done' ELSE 'open' END AS state) z
				LEFT JOIN %2$s c ON c.ref = w.ref LEFT JOIN %3$s o ON o.key = w.okey LEFT JOIN %3$s g ON g.key = w.gkey
				WHERE %4$s ORDER BY w.n $q$, w, c, o, fresh) USING i.source;
			news := $$jsonb_build_object('name', w.t_name, 'note', w.t_note, 'due_at', w.v_due_at, 'result', w.t_result, 'employee_id', o.employee_id)$$;
		WHEN 'employee' THEN
			EXECUTE format($q$
				WITH t AS (INSERT INTO crm.team (name) SELECT DISTINCT w.t_team FROM %1$s w WHERE w.t_team IS NOT NULL AND w.bad IS NULL AND w.n BETWEEN %2$s AND %3$s
					ON CONFLICT ON CONSTRAINT team_name_key DO NOTHING RETURNING id, name)
				INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action)
				SELECT $1, (SELECT min(w.n) FROM %1$s w WHERE w.t_team = t.name), 'team', t.id, 'created' FROM t $q$, w, from_n, to_n) USING i.id;
			EXECUTE format($q$
				INSERT INTO crm.employee (id, name, team_id, is_head, time_zone, source, source_id)
				SELECT w.id, w.t_name, t.id, coalesce(w.v_is_head, false), $2, $1, w.sid
				FROM %1$s w LEFT JOIN crm.team t ON t.name = w.t_team WHERE %2$s $q$, w, fresh) USING i.source, zone;
			news := $$jsonb_build_object('team_id', (SELECT t.id FROM crm.team t WHERE t.name = w.t_team), 'is_head', w.v_is_head)$$;
	END CASE;
	EXECUTE format($q$INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action, extra) SELECT $1, w.n, $2, w.id, 'created', w.extra FROM %1$s w WHERE %2$s$q$, w, fresh) USING i.id, i.entity;

	-- What was there already, or stands in an earlier row.
	EXECUTE format($q$
		INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action, changes, extra)
		SELECT $1, w.n, $2, y.id, CASE WHEN $3 = 'skip' THEN 'skipped' WHEN $3 = 'update' AND d.changes IS NOT NULL THEN 'updated' ELSE 'linked' END,
			CASE WHEN $3 = 'update' THEN d.changes END,
			nullif(coalesce(w.extra, '{}') || CASE WHEN w.t_id IS NOT NULL AND x.how <> 'id' THEN jsonb_build_object('@id', w.t_id) ELSE '{}' END, '{}')
		FROM %1$s x
		JOIN %2$s w ON w.n = x.n
		LEFT JOIN %2$s f ON f.n = x.same_n
		JOIN crm.%3$I y ON y.id = coalesce(x.object_id, f.id)
		%4$s
		CROSS JOIN LATERAL (SELECT jsonb_object_agg(v.key, jsonb_build_array(to_jsonb(y) -> v.key, v.value)) AS changes
			FROM jsonb_each(CASE WHEN $3 = 'update' THEN jsonb_strip_nulls(%5$s) ELSE '{}' END) v
			WHERE to_jsonb(y) -> v.key IS DISTINCT FROM v.value) d
		WHERE x.how NOT IN ('refused', 'other') AND x.n BETWEEN %6$s AND %7$s $q$,
		x, w, i.entity,
		CASE WHEN i.entity IN ('company', 'deal', 'task') THEN format('LEFT JOIN %s o ON o.key = w.okey ', o) ELSE '' END
			|| CASE WHEN i.entity IN ('contact', 'deal', 'task') THEN format('LEFT JOIN %s c ON c.ref = w.ref ', c) ELSE '' END
			|| CASE WHEN i.entity = 'deal' THEN format($$LEFT JOIN %s s ON s.pkey = coalesce(crm.sheet_key(w.t_pipeline), '') AND s.skey = coalesce(crm.sheet_key(w.t_stage), '')$$, s) ELSE '' END,
		news, from_n, to_n) USING i.id, i.entity, i.policy;
	IF i.policy = 'update' THEN
		PERFORM crm.import_apply(i.entity, format($q$
			SELECT DISTINCT ON (t.object_id) t.object_id, (SELECT jsonb_object_agg(v.key, v.value -> 1) FROM jsonb_each(t.changes) v) AS values
			FROM crm.import_item t
			WHERE t.import_id = %1$s AND t.object_kind = %2$L AND t.action = 'updated' AND t."row" BETWEEN %3$s AND %4$s
			ORDER BY t.object_id, t."row" DESC $q$, i.id, i.entity, from_n, to_n));
	END IF;
	IF i.policy <> 'skip' AND i.entity = 'contact' THEN
		EXECUTE format($q$
			WITH m AS (
				SELECT w.n, y.id AS contact_id, p.kind, p.value
				FROM %1$s x JOIN %2$s w ON w.n = x.n LEFT JOIN %2$s f ON f.n = x.same_n
				JOIN crm.contact y ON y.id = coalesce(x.object_id, f.id)
				CROSS JOIN LATERAL %3$s p
				WHERE x.how NOT IN ('refused', 'other') AND x.n BETWEEN %4$s AND %5$s),
			a AS (INSERT INTO crm.contact_point (contact_id, kind, value)
				SELECT DISTINCT m.contact_id, m.kind, m.value FROM m
				ON CONFLICT ON CONSTRAINT contact_point_value_key DO NOTHING RETURNING id, contact_id, kind, value)
			INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action)
			SELECT $1, (SELECT min(m.n) FROM m WHERE m.contact_id = a.contact_id AND m.kind = a.kind AND m.value = a.value), 'contact_point', a.id, 'added' FROM a $q$,
			x, w, points, from_n, to_n) USING i.id;
	END IF;
END
$body$;
COMMENT ON FUNCTION crm.import_write(crm.import, integer, integer) IS 'Writes the rows of a load from one to another, whatever their number, in a handful of statements.';

CREATE OR REPLACE FUNCTION crm.import_apply(entity text, query text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	list   text;
	picks  text;
	count_ bigint;
BEGIN
	SELECT string_agg(quote_ident(v.name), ', '), string_agg('u.' || quote_ident(v.name), ', ') INTO list, picks FROM unnest(CASE entity
		WHEN 'company' THEN '{name,full_name,inn,kpp,is_client,is_carrier,owner_id}'
		WHEN 'contact' THEN '{name,position,is_decision_maker,company_id}'
		WHEN 'deal' THEN '{name,amount,tonnes,company_id,contact_id,owner_id,stage_id}'
		WHEN 'task' THEN '{name,note,due_at,result,employee_id}'
		WHEN 'employee' THEN '{team_id,is_head}' END::text[]) v(name);
	EXECUTE format($q$
		UPDATE crm.%1$I y SET (%2$s) = ROW(%3$s)
		FROM (SELECT q.object_id, r.* FROM (%4$s) q
			CROSS JOIN LATERAL (SELECT z FROM crm.%1$I z WHERE z.id = q.object_id OFFSET 0) k
			CROSS JOIN LATERAL jsonb_populate_record(k.z, q.values) r) u
		WHERE y.id = u.object_id $q$, entity, list, picks, query);
	GET DIAGNOSTICS count_ = ROW_COUNT;
	RETURN count_;
END
$$;
COMMENT ON FUNCTION crm.import_apply(text, text) IS 'Writes columns of objects from a query of (object_id, values jsonb), all in one statement.';

CREATE OR REPLACE FUNCTION crm.import_write_range(i crm.import, from_n integer, to_n integer) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	state  text;
	words  text;
	hint_  text;
	middle integer;
BEGIN
	BEGIN
		PERFORM crm.import_write(i, from_n, to_n);
		RETURN;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT, hint_ = PG_EXCEPTION_HINT;
		-- What is no fault of a row (conflicts, resources, operators, defects) ends the load.
		IF left(state, 2) IN ('40', '42', '53', '54', '55', '57', '58', 'XX', '0A') THEN
			RAISE;
		END IF;
	END;
	-- A check that we do not know of refused a row: halve until it stands alone.
	IF from_n = to_n THEN
		PERFORM crm.import_problem_add(i, format($q$SELECT %s AS n, 'name' AS field, 'error' AS severity, %L AS state, NULL::text AS value, %L AS message, %L AS hint$q$,
			from_n, state, left(words, 1000), coalesce(nullif(hint_, ''), 'See the message.')));
		EXECUTE format($q$INSERT INTO crm.import_match_%s VALUES ($1, NULL, 'refused', NULL) ON CONFLICT (n) DO UPDATE SET how = 'refused'$q$, i.id) USING from_n;
		RETURN;
	END IF;
	middle := (from_n::bigint + to_n) / 2;
	PERFORM crm.import_write_range(i, from_n, middle);
	PERFORM crm.import_write_range(i, middle + 1, to_n);
END
$$;
COMMENT ON FUNCTION crm.import_write_range(crm.import, integer, integer) IS 'Writes rows in one piece; where that fails by a row''s fault, in halves, until the row stands alone and is refused with the error''s words.';

CREATE OR REPLACE FUNCTION crm.import_do(i crm.import, file bytea, rules boolean)
	RETURNS TABLE(rows_read bigint, rows_created bigint, rows_updated bigint, rows_linked bigint, rows_skipped bigint, rows_refused bigint, warnings bigint)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET work_mem = '64MB' SET default_statistics_target = 10 AS $$
DECLARE
	w     text := format('crm.import_work_%s', i.id);
	x     text := format('crm.import_match_%s', i.id);
	c     text := format('crm.import_company_%s', i.id);
	o     text := format('crm.import_owner_%s', i.id);
	zone  text := coalesce(i.options ->> 'zone', crm.erp_zone());
	last_ integer;
BEGIN
	IF i.state <> 'new' THEN
		PERFORM crm.erp_fail('55000', format('load %s is %s', i.id, i.state), 'Give the file again with crm.import_new(): rows that are there are told as duplicates.');
	END IF;
	-- One load of an entity at a time: two would each find the other's rows missing.
	PERFORM pg_advisory_xact_lock(hashtextextended('crm.import', 0));
	DELETE FROM crm.import_problem p WHERE p.import_id = i.id;
	warnings := crm.import_prepare(i, file);
	file := NULL;
	IF NOT coalesce(rules, false) THEN
		PERFORM crm.hold_rules(true);
	END IF;
	IF i.options ->> 'missing_owner' = 'create' AND i.entity IN ('company', 'deal', 'task') THEN
		EXECUTE format($q$
			WITH e AS (INSERT INTO crm.employee (name, time_zone, source, source_id)
				SELECT left(o.name, 500), $3, $2, 'name:' || left(o.key, 150) FROM %1$s o WHERE o.employee_id IS NULL
				ON CONFLICT ON CONSTRAINT employee_source_key DO UPDATE SET name = EXCLUDED.name RETURNING id, source_id, xmax),
			n AS (INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action)
				SELECT $1, o.n, 'employee', e.id, 'created' FROM e JOIN %1$s o ON 'name:' || left(o.key, 150) = e.source_id WHERE e.xmax = 0)
			UPDATE %1$s o SET employee_id = e.id FROM e WHERE o.employee_id IS NULL AND 'name:' || left(o.key, 150) = e.source_id $q$, o) USING i.id, i.source, zone;
	END IF;
	IF coalesce(i.options ->> 'missing_company', 'create') = 'create' AND i.entity IN ('contact', 'deal', 'task') THEN
		-- One for each name, whatever else the rows say of it.
		EXECUTE format($q$
			WITH g AS (SELECT coalesce(c.sid, 'name:' || left(c.key, 150)) AS sid, min(c.n) AS n, min(c.name) AS name, min(c.inn) AS inn
				FROM %1$s c JOIN %2$s w ON w.n = c.n WHERE c.company_id IS NULL AND c.name IS NOT NULL AND w.bad IS NULL
					AND NOT EXISTS (SELECT FROM %3$s x WHERE x.n = c.n AND x.how IN ('refused', 'other')) GROUP BY 1),
			k AS (INSERT INTO crm.company (name, inn, time_zone, source, source_id)
				SELECT left(g.name, 500), g.inn, $3, $2, g.sid FROM g ORDER BY g.n
				ON CONFLICT ON CONSTRAINT company_source_key DO NOTHING RETURNING id, source_id)
			INSERT INTO crm.import_item (import_id, "row", object_kind, object_id, action)
			SELECT $1, g.n, 'company', k.id, 'created' FROM k JOIN g ON g.sid = k.source_id $q$, c, w, x) USING i.id, i.source, zone;
		EXECUTE format($q$
			UPDATE %1$s c SET company_id = y.id FROM crm.company y
			WHERE c.company_id IS NULL AND y.source = $1 AND y.source_id = coalesce(c.sid, 'name:' || left(c.key, 150)) $q$, c) USING i.source;
	END IF;
	EXECUTE format('SELECT max(w.n), count(*) FROM %s w', w) INTO last_, rows_read;
	IF last_ IS NOT NULL THEN
		PERFORM crm.import_write_range(i, 1, last_);
	END IF;
	PERFORM crm.hold_rules(false);

	SELECT count(*) FILTER (WHERE t.action = 'created'), count(*) FILTER (WHERE t.action = 'updated'), count(*) FILTER (WHERE t.action = 'linked'), count(*) FILTER (WHERE t.action = 'skipped')
	INTO rows_created, rows_updated, rows_linked, rows_skipped
	FROM crm.import_item t WHERE t.import_id = i.id AND t.object_kind = i.entity;
	EXECUTE format($q$SELECT $1 + count(*) FROM %s x WHERE x.how = 'other'$q$, x) INTO rows_skipped USING rows_skipped;
	rows_refused := rows_read - rows_created - rows_updated - rows_linked - rows_skipped;
	PERFORM crm.import_clear(i);
	UPDATE crm.import y SET state = 'loaded', rules = coalesce(import_do.rules, false), loaded_at = crm.now(), file = NULL,
		rows_read = import_do.rows_read, rows_created = import_do.rows_created, rows_updated = import_do.rows_updated, rows_linked = import_do.rows_linked,
		rows_skipped = import_do.rows_skipped, rows_refused = import_do.rows_refused, warnings = import_do.warnings
	WHERE y.id = i.id;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION crm.import_do(crm.import, bytea, boolean) IS 'Loads a file in one transaction: prepares, makes what is missing, writes, counts.';

CREATE OR REPLACE FUNCTION crm.import_run(import_id bigint, rules boolean DEFAULT false)
	RETURNS TABLE(rows_read bigint, rows_created bigint, rows_updated bigint, rows_linked bigint, rows_skipped bigint, rows_refused bigint, warnings bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.import;
BEGIN
	i := crm.import_get(import_id);
	RETURN QUERY SELECT * FROM crm.import_do(i, (SELECT y.file FROM crm.import y WHERE y.id = i.id), rules);
END
$$;
COMMENT ON FUNCTION crm.import_run(bigint, boolean) IS 'Loads a file that crm.import_new() took, in one transaction and in sets; a bad row is refused, explained by cell in crm.import_report(), and stops no other (claim 4). rules: whether message rules, stage actions and deal moves act on what is loaded; off by default: it is history. Answers what became of the rows: read = created + updated + linked + skipped + refused. Errors: P0002 no such load, 55000 loaded before or database not active, those of crm.sheet_rows().';

CREATE OR REPLACE FUNCTION crm.import_load(name text, entity text, file bytea, mapping jsonb DEFAULT NULL, policy text DEFAULT 'skip',
	profile text DEFAULT 'any', sheet text DEFAULT NULL, options jsonb DEFAULT '{}', rules boolean DEFAULT false)
	RETURNS TABLE(import_id bigint, rows_read bigint, rows_created bigint, rows_updated bigint, rows_linked bigint, rows_skipped bigint, rows_refused bigint, warnings bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.import := crm.import_take(name, entity, file, mapping, policy, profile, sheet, options, false);
BEGIN
	RETURN QUERY SELECT i.id, d.* FROM crm.import_do(i, file, rules) d;
END
$$;
COMMENT ON FUNCTION crm.import_load(text, text, bytea, jsonb, text, text, text, jsonb, boolean) IS 'Takes a file and loads it at once, without keeping its bytes: crm.import_new() and crm.import_run() in one call, for large files and scripts. Errors: theirs.';

-- ---- taking back -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_undo(import_id bigint)
	RETURNS TABLE(object_kind text, object_id bigint, "row" integer, reason text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	i     crm.import := crm.import_get(import_id);
	kind  text;
	own   text[];
	k     record;
BEGIN
	IF i.state <> 'loaded' THEN
		PERFORM crm.erp_fail('55000', format('load %s is %s', i.id, i.state), 'Only what was loaded, and not taken back yet, can be taken back.');
	END IF;
	PERFORM pg_advisory_xact_lock(hashtextextended('crm.import', 0));
	UPDATE crm.import_item t SET left_because = NULL WHERE t.import_id = i.id AND t.left_because IS NOT NULL;
	PERFORM crm.hold_rules(true);

	-- Columns that still are as the load wrote them get their former values; of several rows the last wrote, the first knows what was.
	IF i.policy = 'update' THEN
		UPDATE crm.import_item t SET left_because = format('changed since: %s', q.names)
		FROM (SELECT z."row", z.object_id, string_agg(v.key, ', ' ORDER BY v.key) AS names
			FROM crm.import_item z CROSS JOIN LATERAL jsonb_each(z.changes) v
			WHERE z.import_id = i.id AND z.action = 'updated' AND z.object_kind = i.entity
				AND v.value -> 1 IS DISTINCT FROM crm.import_column(i.entity, z.object_id, v.key)
				AND NOT EXISTS (SELECT FROM crm.import_item l WHERE l.import_id = i.id AND l.action = 'updated' AND l.object_kind = i.entity AND l.object_id = z.object_id AND l."row" > z."row" AND l.changes ? v.key)
			GROUP BY 1, 2) q
		WHERE t.import_id = i.id AND t.object_kind = i.entity AND t."row" = q."row" AND t.object_id = q.object_id;
		PERFORM crm.import_apply(i.entity, format($q$
			SELECT q.object_id, jsonb_object_agg(q.key, q.former) AS values FROM (
				SELECT z.object_id, v.key, (array_agg(v.value -> 0 ORDER BY z."row"))[1] AS former, (array_agg(v.value -> 1 ORDER BY z."row" DESC))[1] AS latter
				FROM crm.import_item z CROSS JOIN LATERAL jsonb_each(z.changes) v
				WHERE z.import_id = %1$s AND z.action = 'updated' AND z.object_kind = %2$L
				GROUP BY 1, 2) q
			WHERE q.latter IS NOT DISTINCT FROM crm.import_column(%2$L, q.object_id, q.key)
				AND (q.key <> 'stage_id' OR EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = (q.latter #>> '{}')::bigint AND m.to_stage_id = (q.former #>> '{}')::bigint AND m.enabled))
			GROUP BY 1 $q$, i.id, i.entity));
		IF i.entity = 'deal' THEN
			UPDATE crm.import_item t SET left_because = 'its funnel allows no move back to the former stage'
			WHERE t.import_id = i.id AND t.action = 'updated' AND t.changes ? 'stage_id' AND t.left_because IS NULL
				AND crm.import_column('deal', t.object_id, 'stage_id') = t.changes -> 'stage_id' -> 1;
		END IF;
	END IF;

	-- What was made goes, from what depends to what is depended on; what something else points to stays.
	FOREACH kind IN ARRAY ARRAY['task', 'deal', 'contact_point', 'contact', 'company', 'employee', 'team'] LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM crm.import_item t WHERE t.import_id = i.id AND t.object_kind = kind AND t.action IN ('created', 'added'));
		-- Rows that belong to it and say nothing of their own.
		own := CASE kind WHEN 'contact' THEN '{crm.contact_point}' WHEN 'company' THEN '{crm.responsibility}' ELSE '{}' END::text[];
		FOR k IN SELECT f.child, f.child_column FROM crm.foreign_key f WHERE f.parent = 'crm.' || kind AND f.parent_column = 'id' AND f.child <> ALL (own) AND to_regclass(f.child) IS NOT NULL LOOP
			EXECUTE format($q$
				UPDATE crm.import_item t SET left_because = %1$L
				WHERE t.import_id = $1 AND t.object_kind = $2 AND t.action IN ('created', 'added') AND t.left_because IS NULL
					AND EXISTS (SELECT FROM %2$s y WHERE y.%3$I = t.object_id) $q$,
				format('%s.%s points to it', k.child, k.child_column), k.child, k.child_column) USING i.id, kind;
		END LOOP;
		IF kind = 'deal' THEN
			UPDATE crm.import_item t SET left_because = 'it moved since'
			WHERE t.import_id = i.id AND t.object_kind = 'deal' AND t.action = 'created' AND t.left_because IS NULL
				AND EXISTS (SELECT FROM crm.stage_log l WHERE l.deal_id = t.object_id AND l.from_stage_id IS NOT NULL);
		END IF;
		IF kind = 'contact' THEN
			-- A proof that came since is worth keeping.
			UPDATE crm.import_item t SET left_because = 'a phone or address of it was proved since'
			WHERE t.import_id = i.id AND t.object_kind = 'contact' AND t.action = 'created' AND t.left_because IS NULL
				AND EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = t.object_id AND p.state <> 'unknown');
			DELETE FROM crm.contact_point p USING crm.import_item t
			WHERE t.import_id = i.id AND t.object_kind = 'contact' AND t.action = 'created' AND t.left_because IS NULL AND p.contact_id = t.object_id
				AND NOT EXISTS (SELECT FROM crm.erp_point e WHERE e.contact_point_id = p.id);
		ELSIF kind = 'company' THEN
			DELETE FROM crm.responsibility r USING crm.import_item t
			WHERE t.import_id = i.id AND t.object_kind = 'company' AND t.action = 'created' AND t.left_because IS NULL AND r.company_id = t.object_id;
		END IF;
		EXECUTE format($q$DELETE FROM crm.%1$I y USING crm.import_item t
			WHERE t.import_id = $1 AND t.object_kind = $2 AND t.action IN ('created', 'added') AND t.left_because IS NULL AND y.id = t.object_id$q$, kind) USING i.id, kind;
	END LOOP;
	PERFORM crm.hold_rules(false);
	UPDATE crm.import y SET state = 'undone', undone_at = crm.now(), undone_by = session_user WHERE y.id = i.id;
	RETURN QUERY SELECT t.object_kind, t.object_id, t."row", t.left_because FROM crm.import_item t
	WHERE t.import_id = i.id AND t.left_because IS NOT NULL ORDER BY t.object_kind, t."row", t.object_id;
END
$$;
COMMENT ON FUNCTION crm.import_undo(bigint) IS 'Takes a load back: what it made is removed where nothing else points to it, what it changed gets its former values where nobody changed them since. Answers what could not be taken back, and why; no row: everything was. Append-only history (crm.stage_log, crm.event) keeps what it says. Errors: P0002 no such load, 55000 not loaded, or taken back before.';

CREATE OR REPLACE FUNCTION crm.import_column(entity text, object_id bigint, name text) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	value jsonb;
BEGIN
	EXECUTE format('SELECT to_jsonb(y.%2$I) FROM crm.%1$I y WHERE y.id = $1', entity, name) INTO value USING object_id;
	RETURN coalesce(value, 'null');
END
$$;
COMMENT ON FUNCTION crm.import_column(text, bigint, text) IS 'What an object''s column holds now, as JSON; null where the object is gone.';

CREATE OR REPLACE FUNCTION crm.import_drop(import_id bigint) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.import := crm.import_get(import_id);
BEGIN
	IF i.state = 'loaded' THEN
		PERFORM crm.erp_fail('55000', format('load %s is loaded', i.id), 'SELECT * FROM crm.import_undo(id) takes it back first.');
	END IF;
	DELETE FROM crm.import_problem p WHERE p.import_id = i.id;
	DELETE FROM crm.import_item t WHERE t.import_id = i.id AND i.state = 'new';
	DELETE FROM crm.import y WHERE y.id = i.id AND i.state = 'new';
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION crm.import_drop(bigint) IS 'Throws away a file that was given and not loaded; of a load that was taken back, its problems only, and answers false. Errors: P0002 no such load, 55000 it is loaded.';

-- ---- stages ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.import_map_stage(profile text, stage text, funnel_code text, stage_code text, pipeline text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.sheet_key(stage) IS NULL THEN
		PERFORM crm.erp_fail('22004', 'the stage of the file is empty', 'Give its name as the file writes it.');
	END IF;
	IF stage_code NOT IN ('@first', '@won', '@lost') AND NOT EXISTS (SELECT FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE s.code = stage_code AND f.code = funnel_code)
		OR funnel_code IS NOT NULL AND NOT EXISTS (SELECT FROM crm.funnel f WHERE f.code = funnel_code) OR stage_code IS NULL THEN
		PERFORM crm.erp_fail('23503', format('funnel "%s" has no stage "%s"', funnel_code, stage_code), 'SELECT f.code, s.code FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id; or give @first, @won, @lost.');
	END IF;
	INSERT INTO crm.import_stage AS m (profile, pipeline, stage, funnel_code, stage_code)
	VALUES (coalesce(profile, 'any'), coalesce(crm.sheet_key(pipeline), ''), crm.sheet_key(stage), funnel_code, stage_code)
	ON CONFLICT ON CONSTRAINT import_stage_pkey DO UPDATE SET funnel_code = EXCLUDED.funnel_code, stage_code = EXCLUDED.stage_code, assumed = false, enabled = true;
END
$$;
COMMENT ON FUNCTION crm.import_map_stage(text, text, text, text, text) IS 'Says which of our stages a stage of another system is, for all its pipelines or for one (claim 14). stage_code: a code, or @first, @won, @lost. Errors: 22004 no stage, 23503 no such funnel or stage.';

CREATE OR REPLACE FUNCTION crm.import_values(import_id bigint, field text) RETURNS TABLE(value text, rows bigint, first_cell text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i   crm.import := crm.import_get(import_id);
	col integer := (i.mapping ->> field)::integer;
BEGIN
	IF i.state <> 'new' THEN
		PERFORM crm.erp_fail('55000', format('load %s is %s', i.id, i.state), 'Its bytes are gone; give the file again with crm.import_new().');
	END IF;
	IF col IS NULL THEN
		PERFORM crm.erp_fail('22023', format('no column is mapped to "%s"', left(field, 40)), format('Mapped are: %s.', (SELECT string_agg(m.key, ', ') FROM jsonb_object_keys(i.mapping) m(key))));
	END IF;
	RETURN QUERY SELECT q.value, count(*), crm.sheet_address(min(q."row"), col)
	FROM (SELECT r."row", crm.sheet_text(r.cells[col]) AS value FROM crm.sheet_rows((SELECT y.file FROM crm.import y WHERE y.id = i.id), i.sheet, i.header_row + 1) r) q
	GROUP BY q.value ORDER BY count(*) DESC, min(q."row") LIMIT 1000;
END
$$;
COMMENT ON FUNCTION crm.import_values(bigint, text) IS 'The different values of a mapped column of a file that was given, how often, and where first; at most 1000. For mapping stages, owners, products. Errors: P0002 no such load, 55000 loaded already, 22023 not mapped.';

CREATE OR REPLACE FUNCTION crm.import_make_funnel(import_id bigint, code text, name text DEFAULT NULL, stages text[] DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i     crm.import := crm.import_get(import_id);
	id_   bigint;
	names text[];
BEGIN
	IF i.entity <> 'deal' OR NOT i.mapping ? 'stage' THEN
		PERFORM crm.erp_fail('22023', format('load %s has no stages', i.id), 'Give a load of deals with a column that is mapped to stage.');
	END IF;
	IF code IS NULL OR code !~ '^[a-z0-9_]{1,63}$' OR EXISTS (SELECT FROM crm.funnel f WHERE f.code = import_make_funnel.code) THEN
		PERFORM crm.erp_fail('22023', format('"%s" cannot be the code of a new funnel', left(code, 63)), 'Give small letters, digits and _, and a code that is not taken.');
	END IF;
	-- As they come in the file, or as the caller orders them; what is won and what is lost is told by words.
	names := coalesce(stages, (SELECT array_agg(v.value ORDER BY length(v.first_cell), v.first_cell) FROM crm.import_values(i.id, 'stage') v WHERE v.value IS NOT NULL));
	IF coalesce(cardinality(names), 0) NOT BETWEEN 1 AND 100 THEN
		PERFORM crm.erp_fail('54000', format('a funnel of %s stages is not made', coalesce(cardinality(names), 0)), 'Give 1 to 100 stages; is the column the right one?');
	END IF;
	INSERT INTO crm.funnel (code, name_ru, name_en) VALUES (code, coalesce(name, i.name), coalesce(name, i.name)) RETURNING id INTO id_;
	INSERT INTO crm.stage (funnel_id, code, name_ru, name_en, "position", is_won, is_lost)
	SELECT id_, CASE WHEN lower(n.value) ~ '^[a-z0-9 ]{1,60}$' THEN replace(lower(btrim(n.value)), ' ', '_') ELSE 's' || n.ordinality END, left(n.value, 200), left(n.value, 200),
		(CASE WHEN e.won THEN 1000 WHEN e.lost THEN 2000 ELSE 0 END + n.ordinality * 10)::integer, e.won, e.lost
	FROM unnest(names) WITH ORDINALITY n(value, ordinality)
	CROSS JOIN LATERAL (SELECT
		coalesce((SELECT m.stage_code FROM crm.import_stage m WHERE m.profile IN (i.profile, 'any') AND m.stage = crm.sheet_key(n.value) AND m.enabled ORDER BY m.profile = i.profile DESC LIMIT 1), '') AS word) m
	CROSS JOIN LATERAL (SELECT m.word = '@won' AS won, m.word = '@lost' AS lost) e;
	-- Forwards as far as one likes, back by a step, out at any moment; a lost deal may begin anew.
	INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id)
	SELECT id_, a.id, b.id
	FROM (SELECT s.*, row_number() OVER (ORDER BY s."position", s.id) AS no FROM crm.stage s WHERE s.funnel_id = id_) a
	JOIN (SELECT s.*, row_number() OVER (ORDER BY s."position", s.id) AS no FROM crm.stage s WHERE s.funnel_id = id_) b ON b.id <> a.id
	WHERE NOT (a.is_won OR a.is_lost) AND (b.no > a.no OR b.no = a.no - 1) OR a.is_lost AND b.no = 1;
	UPDATE crm.import y SET options = y.options || jsonb_build_object('funnel', code) WHERE y.id = i.id;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.import_make_funnel(bigint, text, text, text[]) IS 'Makes a funnel of the stages that a file of deals names, in their order there or in the one given; won and lost are told by crm.import_stage (Won, Успешно реализовано, Сделка провалена, …). Moves go forwards, a step back, and out. The load then uses it. Errors: 22023 no deals or a code that is taken, 54000 no stage or over 100.';

-- ---- out ---------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.export_xlsx(view_name text, language text DEFAULT 'ru', condition text DEFAULT NULL) RETURNS bytea
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	b      record;
	short  text := split_part(view_name, '.', CASE WHEN view_name LIKE '%.%' THEN 2 ELSE 1 END);
	labels text[];
	picks  text;
BEGIN
	SELECT c.view_name, c.label_ru, c.label_en INTO b FROM crm_bi.catalog c WHERE c.view_name IN (short, 'crm_bi.' || short) AND export_xlsx.view_name IN (short, 'crm_bi.' || short);
	IF NOT FOUND THEN
		PERFORM crm.erp_fail('42P01', format('crm_bi has no view "%s"', left(view_name, 63)), 'SELECT view_name FROM crm_bi.catalog lists them.');
	END IF;
	SELECT string_agg(format('v.%I', a.attname), ', ' ORDER BY a.attnum) INTO picks
	FROM pg_attribute a
	WHERE a.attrelid = format('crm_bi.%I', short)::regclass AND a.attnum > 0 AND NOT a.attisdropped;
	RETURN crm.xlsx_from_query(format('SELECT %s FROM crm_bi.%I v%s', picks, short, CASE WHEN condition IS NOT NULL THEN format(' WHERE (%s)', condition) ELSE '' END),
		CASE language WHEN 'en' THEN b.label_en ELSE b.label_ru END, left(short, 31), NULL, NULL, 'auto', language);
END
$$;
COMMENT ON FUNCTION crm.export_xlsx(text, text, text) IS 'Any view of crm_bi.catalog as an Excel workbook (claim 4), with the rights of the caller: the rows he sees and no others. condition: SQL over the view''s columns, which runs as the caller, read-only. Errors: 42P01 no such view, those of crm.xlsx_from_query().';

-- ---- foreign keys ------------------------------------------------------------------------------------

SELECT crm.register_foreign_key('crm.import_problem', 'import_id', 'crm.import');
SELECT crm.register_no_foreign_key('crm.import_item', 'import_id', 'written a million at a time by crm.import_run(), which holds the load');
SELECT crm.register_no_foreign_key('crm.import_item', 'object_id', 'names a row of the table that object_kind says, also one that is gone');

CREATE OR REPLACE FUNCTION crm.import_forget(contact_id bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	count_ bigint;
BEGIN
	UPDATE crm.import_item t SET extra = NULL, changes = NULL
	WHERE t.object_kind = 'contact' AND t.object_id = import_forget.contact_id AND (t.extra IS NOT NULL OR t.changes IS NOT NULL);
	GET DIAGNOSTICS count_ = ROW_COUNT;
	DELETE FROM crm.import_problem p USING crm.import_item t
	WHERE t.object_kind = 'contact' AND t.object_id = import_forget.contact_id AND p.import_id = t.import_id AND p."row" = t."row";
	RETURN count_;
END
$$;
COMMENT ON FUNCTION crm.import_forget(bigint) IS 'What crm.forget() does to loads: what a row said of the contact beyond its columns, former values and problems go';
SELECT crm.register_hook('forget', 'import', 'crm.import_forget');
