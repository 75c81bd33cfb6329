-- kpi: the report, its rows, its proof and its sheet. Code: may be run again.

CREATE OR REPLACE FUNCTION crm.kpi_period("from" date, "to" date, zone text, OUT from_at timestamptz, OUT to_at timestamptz)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF "from" IS NULL OR "to" IS NULL OR NOT isfinite("from") OR NOT isfinite("to") OR "from" < date '1990-01-01' OR "to" > date '2200-01-01' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('cannot report from %s to %s', coalesce("from"::text, 'NULL'), coalesce("to"::text, 'NULL')),
			HINT = 'Give two dates between 1990 and 2200; the period holds its first day and not its last.';
	END IF;
	IF "from" > "to" THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the period ends before it begins: %s, %s', "from", "to"),
			HINT = 'Give the first day, then the day after the last.';
	END IF;
	BEGIN
		from_at := "from"::timestamp AT TIME ZONE zone;
		to_at := "to"::timestamp AT TIME ZONE zone;
	EXCEPTION WHEN invalid_parameter_value THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown time zone: %s', quote_nullable(zone)),
			HINT = 'Use a name of pg_timezone_names, such as Europe/Moscow.';
	END;
	IF from_at IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'the zone of a report is NULL', HINT = 'Use a name of pg_timezone_names, such as Europe/Moscow.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.kpi_period(date, date, text) IS 'The moments of a period [from, to) in a zone. Errors: 22008 unusable dates, 22023 from after to or an unknown zone, 22004 no zone.';

CREATE OR REPLACE FUNCTION crm.kpi_figure(i crm.indicator, part text) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE
		WHEN i.additive = 'ratio' AND part = 'value' THEN
			format('%s * coalesce(sum(k.weight) FILTER (WHERE k.part = ''numerator''), 0) / nullif(sum(k.weight) FILTER (WHERE k.part = ''denominator''), 0)', i.scale)
		WHEN i.additive = 'ratio' THEN format('coalesce(sum(k.weight) FILTER (WHERE k.part = %L), 0)', part)
		WHEN part <> 'value' THEN 'NULL::numeric'
		WHEN i.additive = 'distinct' THEN format('crm.distinct_count(k.%s)::numeric', CASE i.distinct_of WHEN 'company' THEN 'company_id' ELSE 'fact_id' END)
		ELSE 'coalesce(sum(k.weight), 0)' END;
END;
COMMENT ON FUNCTION crm.kpi_figure(crm.indicator, text) IS 'How a figure is computed from rows k of an indicator, as an SQL expression: value, numerator or denominator.';

CREATE OR REPLACE FUNCTION crm.kpi_facts(code text, from_at timestamptz, to_at timestamptz, zone text)
	RETURNS TABLE (fact_id bigint, at timestamptz, business_date date, employee_id bigint, company_id bigint, part text, weight numeric, company_name text, details text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	source record;
	mine   bigint[] := crm.visible_employees();
	seen   bigint[] := ARRAY(SELECT s.id FROM crm.company_seen s);
BEGIN
	SELECT c.function_name, f.view, i.drill INTO source
	FROM crm.compiled c JOIN crm.indicator i ON i.code = c.code JOIN crm.fact f ON f.name = i.fact
	WHERE c.code = $1;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	RETURN QUERY EXECUTE format(
		'SELECT k.fact_id, k.at, k.business_date, k.employee_id, k.company_id, k.part, k.weight, c.name, CASE WHEN c.id IS NOT NULL THEN %2$s END'
		' FROM %1$s($1, $2, $3) k'
		' LEFT JOIN (crm.company c JOIN unnest($5) AS s(id) ON s.id = c.id) ON c.id = k.company_id'
		' LEFT JOIN %3$s f ON f.id = k.fact_id'
		' WHERE coalesce(k.employee_id, 0) = ANY ($4)',
		source.function_name, crm.kpi_details(source.drill), source.view)
	USING $2, $3, $4, mine, seen;
END
$$;
COMMENT ON FUNCTION crm.kpi_facts(text, timestamptz, timestamptz, text) IS 'The rows of an indicator that are credited to the person who speaks, or to whom he sees (crm.visible_employees): what counts for him does not change with who owns the client today. Client and details only where he still sees the client. For the report and its rows; none for an indicator that is off.';

CREATE OR REPLACE FUNCTION crm.kpi_details(drill text[]) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce('concat_ws(''; ''' || string_agg(format(', %L || f.%I::text', d.name || ' ', d.name), '' ORDER BY d.n) || ')', 'NULL::text')
	FROM unnest($1) WITH ORDINALITY d(name, n);
END;
COMMENT ON FUNCTION crm.kpi_details(text[]) IS 'How the columns of a fact f that explain a row are written in one text, as an SQL expression.';

CREATE OR REPLACE FUNCTION crm.kpi_cells("from" date, "to" date, zone text DEFAULT crm.kpi_zone())
	RETURNS TABLE (level text, team_id bigint, employee_id bigint, code text, "position" integer, value numeric, numerator numeric, denominator numeric, facts bigint)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	period record;
	query  text;
	whole  boolean := crm.for_plant();
BEGIN
	SELECT * INTO period FROM crm.kpi_period("from", "to", zone);
	SELECT string_agg(format('SELECT %1$L::text AS code, CASE GROUPING(k.employee, k.team) WHEN 0 THEN ''employee'' WHEN 2 THEN ''team'' ELSE ''total'' END AS level,'
			' k.team, k.employee, %2$s AS value, %3$s AS numerator, %4$s AS denominator, count(*) AS facts'
			' FROM (SELECT r.*, coalesce(r.employee_id, 0) AS employee, coalesce(e.team_id, 0) AS team FROM %5$s r LEFT JOIN crm.employee e ON e.id = r.employee_id) k'
			' GROUP BY GROUPING SETS ((k.employee, k.team), (k.team), ())',
			c.code, crm.kpi_figure(i, 'value'), crm.kpi_figure(i, 'numerator'), crm.kpi_figure(i, 'denominator'),
			CASE WHEN whole THEN c.function_name || '($1, $2, $3)' ELSE format('crm.kpi_facts(%L, $1, $2, $3)', c.code) END), ' UNION ALL ')
	INTO query
	FROM crm.compiled c JOIN crm.indicator i ON i.code = c.code;
	IF query IS NULL THEN
		RETURN;
	END IF;
	-- Whoever was responsible for a client in the period stands in the report, with a zero where nothing
	-- happened; a ratio over nothing stays NULL.
	RETURN QUERY EXECUTE format(
		'WITH cell AS MATERIALIZED (%s),'
		' member AS ('
		'	SELECT m.employee, coalesce(e.team_id, 0) AS team'
		'	FROM (SELECT r.employee_id AS employee FROM crm.responsibility r WHERE r.during && tstzrange($1, $2) AND ($4 OR r.employee_id = ANY ($5))'
		'		UNION SELECT c.employee FROM cell c WHERE c.level = ''employee'') m'
		'	LEFT JOIN crm.employee e ON e.id = m.employee'
		'	WHERE m.employee = 0 OR e.id IS NOT NULL),'
		' line AS ('
		'	SELECT ''employee'' AS level, m.team, m.employee FROM member m'
		'	UNION ALL SELECT DISTINCT ''team'', m.team, NULL::bigint FROM member m'
		'	UNION ALL SELECT ''total'', NULL, NULL)'
		' SELECT l.level, l.team, l.employee, i.code, i."position",'
		'	CASE WHEN c.code IS NOT NULL THEN c.value WHEN i.additive <> ''ratio'' THEN 0 END,'
		'	CASE WHEN i.additive = ''ratio'' THEN coalesce(c.numerator, 0) END, CASE WHEN i.additive = ''ratio'' THEN coalesce(c.denominator, 0) END,'
		'	CASE WHEN c.code IS NULL THEN 0 ELSE c.facts END'
		' FROM line l CROSS JOIN (crm.compiled k JOIN crm.indicator i ON i.code = k.code)'
		' LEFT JOIN cell c ON c.code = i.code AND c.level = l.level AND c.team IS NOT DISTINCT FROM l.team AND c.employee IS NOT DISTINCT FROM l.employee'
		' ORDER BY CASE l.level WHEN ''employee'' THEN 1 WHEN ''team'' THEN 2 ELSE 3 END, l.team, l.employee, i."position", i.code', query)
	USING period.from_at, period.to_at, zone, whole, CASE WHEN NOT whole THEN crm.visible_employees() END;
END
$$;
COMMENT ON FUNCTION crm.kpi_cells(date, date, text) IS 'Every cell of the report for [from, to) in a zone: a row for each indicator that is on and each employee, team and the total. Computed from the facts as this statement sees them. A team''s and the total''s figures are computed from rows, never added up. employee_id 0: facts of clients nobody was responsible for; team_id 0: employees without a team; NULL where the level has none. value: NULL where a ratio has no denominator, 0 where nothing happened. Errors: 22008, 22023, 22004. Claims 23, 24.';

CREATE OR REPLACE FUNCTION crm.kpi_report("from" date, "to" date, zone text DEFAULT crm.kpi_zone(), language text DEFAULT 'ru')
	RETURNS TABLE (level text, team text, employee text, ship_t numeric(14,3), clients_served bigint, trips bigint, otif_pct numeric(6,1),
		otif_hit bigint, otif_due bigint, messages_delivered bigint, team_id bigint, employee_id bigint)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF language IS NULL OR language NOT IN ('ru', 'en') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown language: %s', quote_nullable(language)), HINT = 'Use ''ru'' or ''en''.';
	END IF;
	RETURN QUERY
		SELECT p.level,
			CASE WHEN p.level = 'total' THEN CASE language WHEN 'ru' THEN 'Итого' ELSE 'Total' END
				WHEN p.team_id = 0 THEN CASE language WHEN 'ru' THEN 'без отдела' ELSE 'no team' END ELSE t.name END,
			CASE WHEN p.employee_id = 0 THEN CASE language WHEN 'ru' THEN 'без ответственного' ELSE 'nobody responsible' END ELSE e.name END,
			p.ship_t::numeric(14,3), p.clients_served::bigint, p.trips::bigint, p.otif::numeric(6,1), p.otif_hit::bigint, p.otif_due::bigint, p.messages_delivered::bigint,
			p.team_id, p.employee_id
		FROM (
			SELECT c.level, c.team_id, c.employee_id,
				max(c.value) FILTER (WHERE c.code = 'ship_t') AS ship_t,
				max(c.value) FILTER (WHERE c.code = 'clients_served') AS clients_served,
				max(c.value) FILTER (WHERE c.code = 'trips') AS trips,
				max(c.value) FILTER (WHERE c.code = 'otif') AS otif,
				max(c.numerator) FILTER (WHERE c.code = 'otif') AS otif_hit,
				max(c.denominator) FILTER (WHERE c.code = 'otif') AS otif_due,
				max(c.value) FILTER (WHERE c.code = 'messages_delivered') AS messages_delivered
			FROM crm.kpi_cells("from", "to", zone) c
			GROUP BY c.level, c.team_id, c.employee_id
		) p
		LEFT JOIN crm.employee e ON e.id = p.employee_id
		LEFT JOIN crm.team t ON t.id = p.team_id
		ORDER BY p.level = 'total', t.name NULLS LAST, p.team_id, p.level, e.name NULLS LAST, p.employee_id;
END
$$;
COMMENT ON FUNCTION crm.kpi_report(date, date, text, text) IS 'The managers'' report for [from, to) in a zone: a row for each employee, after them their team, at the end the total. Tonnes; NULL where a ratio has no denominator, 0 where nothing happened, NULL also where an indicator is switched off. A DBA''s own indicators stand in crm.kpi_cells() and crm_bi.kpi. Each figure opens by crm.kpi_rows(). Claims 23, 24, 25. Errors: 22008, 22023, 22004.';

CREATE OR REPLACE FUNCTION crm.kpi_rows(code text, "from" date, "to" date, employee bigint DEFAULT NULL, part text DEFAULT NULL,
	zone text DEFAULT crm.kpi_zone(), team bigint DEFAULT NULL)
	RETURNS TABLE (fact text, fact_id bigint, at timestamptz, business_date date, employee_id bigint, employee_name text, company_id bigint, company_name text,
		fact_part text, weight numeric, details text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	period record;
	i      crm.indicator;
	f_name text;
	view   text;
	whole  boolean := crm.for_plant();
BEGIN
	SELECT * INTO period FROM crm.kpi_period("from", "to", zone);
	SELECT x.* INTO i FROM crm.indicator x WHERE x.code = kpi_rows.code;
	SELECT c.function_name INTO f_name FROM crm.compiled c WHERE c.code = kpi_rows.code;
	IF f_name IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN i.code IS NULL THEN format('unknown indicator: %s', quote_nullable(kpi_rows.code)) ELSE format('indicator "%s" is off', i.code) END,
			HINT = CASE WHEN i.broken IS NOT NULL THEN 'It could not be compiled: ' || i.broken
				ELSE coalesce('On are: ' || (SELECT string_agg(c.code, ', ' ORDER BY c.code) FROM crm.compiled c) || '.', 'SELECT crm.activate(); compiles them.') END;
	END IF;
	IF part IS NOT NULL AND part NOT IN ('value', 'numerator', 'denominator') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown part of an indicator: %s', quote_literal(part)),
			HINT = 'Use value, numerator or denominator; NULL gives all.';
	END IF;
	SELECT f.view INTO view FROM crm.fact f WHERE f.name = i.fact;
	-- Of a distinct count a row weighs 1 where it is the first of its object, else 0: the sum is the cell.
	RETURN QUERY EXECUTE format(
		'SELECT %1$L::text, k.fact_id, k.at, k.business_date, k.employee_id, e.name, k.company_id, %6$s, k.part, %2$s, %3$s'
		' FROM %4$s k'
		' LEFT JOIN crm.employee e ON e.id = k.employee_id%5$s'
		' WHERE ($4 IS NULL OR coalesce(k.employee_id, 0) = $4) AND ($5 IS NULL OR coalesce(e.team_id, 0) = $5)'
		' AND ($6 IS NULL OR k.part = $6 OR $6 = ''value'')'
		' ORDER BY k.at, k.fact_id, k.part',
		i.fact,
		CASE i.additive WHEN 'distinct' THEN format('(CASE WHEN k.%1$I IS NOT NULL AND row_number() OVER (PARTITION BY k.%1$I ORDER BY k.at, k.fact_id) = 1 THEN 1 ELSE 0 END)::numeric',
			CASE i.distinct_of WHEN 'company' THEN 'company_id' ELSE 'fact_id' END) ELSE 'k.weight' END,
		CASE WHEN whole THEN crm.kpi_details(i.drill) ELSE 'k.details' END,
		CASE WHEN whole THEN f_name || '($1, $2, $3)' ELSE format('crm.kpi_facts(%L, $1, $2, $3)', code) END,
		CASE WHEN whole THEN format(' LEFT JOIN crm.company c ON c.id = k.company_id LEFT JOIN %s f ON f.id = k.fact_id', view) END,
		CASE WHEN whole THEN 'c.name' ELSE 'k.company_name' END)
	USING period.from_at, period.to_at, zone, employee, team, part;
END
$$;
COMMENT ON FUNCTION crm.kpi_rows(text, date, date, bigint, text, text, bigint) IS 'The rows of one cell of the report: sum(weight) is the cell (of a ratio: its numerator or its denominator). employee: crm.employee.id, 0 = nobody was responsible, NULL = everyone; team: crm.team.id, 0 = without a team, NULL = all; part: value, numerator, denominator, NULL = all. Errors: 22023 an unknown or switched-off indicator, part or zone, 22008. Claim 25.';

CREATE OR REPLACE FUNCTION crm.kpi_reconcile("from" date, "to" date, zone text DEFAULT crm.kpi_zone())
	RETURNS TABLE (code text, level text, team_id bigint, employee_id bigint, part text, cell numeric, sum_of_rows numeric, count_of_rows bigint)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	c      record;
	walked bigint := 0;
BEGIN
	FOR c IN
		SELECT k.*, v.part AS cell_part, v.figure
		FROM crm.kpi_cells("from", "to", zone) k
		JOIN crm.indicator i ON i.code = k.code
		CROSS JOIN LATERAL (VALUES ('value', k.value), ('numerator', k.numerator), ('denominator', k.denominator)) v(part, figure)
		WHERE CASE i.additive WHEN 'ratio' THEN v.part <> 'value' ELSE v.part = 'value' END
	LOOP
		walked := walked + 1;
		SELECT coalesce(sum(r.weight), 0), count(*) INTO sum_of_rows, count_of_rows
		FROM crm.kpi_rows(c.code, "from", "to", CASE c.level WHEN 'employee' THEN c.employee_id END, c.cell_part, zone, CASE c.level WHEN 'team' THEN c.team_id END) r;
		IF c.figure IS DISTINCT FROM sum_of_rows THEN
			code := c.code; level := c.level; team_id := c.team_id; employee_id := c.employee_id; part := c.cell_part; cell := c.figure;
			RETURN NEXT;
		END IF;
	END LOOP;
	RAISE NOTICE USING MESSAGE = format('%s cells walked', walked);
END
$$;
COMMENT ON FUNCTION crm.kpi_reconcile(date, date, text) IS 'Opens every cell of the report for [from, to) and returns a row for each that is not the sum of its rows, numerators and denominators of ratios and distinct counts included; no row: all are. A NOTICE says how many cells were walked. Claim 25.';

CREATE OR REPLACE FUNCTION crm.kpi_explain(code text, language text DEFAULT 'ru') RETURNS TABLE (what text, words text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i  crm.indicator;
	f  crm.fact;
	ru boolean := coalesce(language, 'ru') = 'ru';
BEGIN
	SELECT x.* INTO i FROM crm.indicator x WHERE x.code = kpi_explain.code;
	IF i.code IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown indicator: %s', quote_nullable(kpi_explain.code)),
			HINT = 'SELECT code FROM crm.indicator; lists them.';
	END IF;
	SELECT x.* INTO f FROM crm.fact x WHERE x.name = i.fact;
	RETURN QUERY SELECT v.what, v.words FROM (VALUES
		(1, CASE WHEN ru THEN 'название' ELSE 'name' END, CASE WHEN ru THEN i.name_ru || ', ' || i.unit_ru ELSE i.name_en || ', ' || i.unit_en END),
		(2, CASE WHEN ru THEN 'правило' ELSE 'rule' END, CASE WHEN ru THEN i.note_ru ELSE i.note_en END),
		(3, CASE WHEN ru THEN 'факт' ELSE 'fact' END, CASE WHEN ru THEN f.description_ru ELSE f.description_en END || ' (' || f.view || ')'),
		(4, CASE WHEN ru THEN 'условие' ELSE 'predicate' END, coalesce(i.predicate, 'true')),
		(5, CASE WHEN ru THEN 'время' ELSE 'time' END, i.time_column),
		(6, CASE WHEN ru THEN 'вес' ELSE 'weight' END, coalesce(i.weight, '1')),
		(7, CASE WHEN ru THEN 'числитель' ELSE 'numerator' END, i.numerator),
		(8, CASE WHEN ru THEN 'разные' ELSE 'distinct' END, i.distinct_of),
		(9, CASE WHEN ru THEN 'чей' ELSE 'credit' END, i.credit),
		(10, CASE WHEN ru THEN 'версия' ELSE 'version' END, i.version::text),
		(11, 'SQL', crm.indicator_sql(i))
	) v(n, what, words) WHERE v.words IS NOT NULL ORDER BY v.n;
END
$$;
COMMENT ON FUNCTION crm.kpi_explain(text, text) IS 'The definition of an indicator in words, and the very query that is compiled from it ($1, $2 the period, $3 the zone). language: ru or en. Error 22023: an unknown indicator. Claim 24.';

CREATE OR REPLACE FUNCTION crm.kpi_sheet("from" date, "to" date, zone text DEFAULT crm.kpi_zone(), language text DEFAULT 'ru') RETURNS bytea
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ru      boolean := coalesce(language, 'ru') = 'ru';
	shape   text := CASE WHEN ru THEN 'DD.MM.YYYY' ELSE 'YYYY-MM-DD' END;
	queries text[];
	titles  text[];
	names   text[];
	i       crm.indicator;
BEGIN
	queries := ARRAY[format(CASE WHEN ru
		THEN 'SELECT team AS "Отдел", employee AS "Сотрудник", ship_t AS "Отгрузка, т", clients_served AS "Клиенты с отгрузкой", trips AS "Рейсы", otif_pct AS "Вовремя и полностью, %%", otif_hit AS "из них вовремя", otif_due AS "поставок к сроку", messages_delivered AS "Доставленные сообщения" FROM crm.kpi_report(%L, %L, %L, ''ru'')'
		ELSE 'SELECT team AS "Team", employee AS "Employee", ship_t AS "Shipped, t", clients_served AS "Clients served", trips AS "Trips", otif_pct AS "On time in full, %%", otif_hit AS "of them in time", otif_due AS "deliveries due", messages_delivered AS "Messages delivered" FROM crm.kpi_report(%L, %L, %L, ''en'')' END,
		"from", "to", zone)];
	titles := ARRAY[format(CASE WHEN ru THEN 'Показатели менеджеров, %s – %s' ELSE 'Managers'' indicators, %s to %s' END,
		to_char("from", shape), to_char(greatest("to" - 1, "from"), shape))];
	names := ARRAY[CASE WHEN ru THEN 'Отчёт' ELSE 'Report' END];
	FOR i IN SELECT x.* FROM crm.indicator x JOIN crm.compiled c ON c.code = x.code ORDER BY x."position", x.code LIMIT 31 LOOP
		queries := queries || format(CASE WHEN ru
			THEN 'SELECT at AS "Время", employee_name AS "Сотрудник", company_name AS "Клиент", details AS "Что", fact_part AS "Часть", weight AS "Вес", fact_id AS "id" FROM crm.kpi_rows(%L, %L, %L, zone => %L)'
			ELSE 'SELECT at AS "Time", employee_name AS "Employee", company_name AS "Client", details AS "What", fact_part AS "Part", weight AS "Weight", fact_id AS "id" FROM crm.kpi_rows(%L, %L, %L, zone => %L)' END,
			i.code, "from", "to", zone);
		titles := titles || CASE WHEN ru THEN i.name_ru || ', ' || i.unit_ru ELSE i.name_en || ', ' || i.unit_en END;
		names := names || left(i.code, 31);
	END LOOP;
	RETURN crm.xlsx_book(queries, titles, names, 'landscape', CASE WHEN ru THEN 'ru' ELSE 'en' END);
END
$$;
COMMENT ON FUNCTION crm.kpi_sheet(date, date, text, text) IS 'The managers'' report as an Excel workbook: the report on one page, then a sheet with the rows of each indicator. Claims 23, 25, 60, 61. Errors: those of crm.kpi_report() and crm.xlsx_book().';

CREATE OR REPLACE FUNCTION crm.health_kpi() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'warning', 'indicator ' || i.code, format('Indicator "%s" is off: %s', i.code, i.broken),
		'Correct its definition in crm.indicator, or save it under your own name; SELECT crm.activate(); tries the old one again.', i.edited_at
	FROM crm.indicator i WHERE i.broken IS NOT NULL
	UNION ALL
	SELECT 'warning', 'indicator ' || i.code, format('The author of indicator "%s" is gone: role "%s" does not exist. The next activation switches it off.', i.code, i.author),
		'Look at its definition, then save it under your own name: any edit of its texts will do.', i.edited_at
	FROM crm.indicator i WHERE NOT i.shipped AND i.broken IS NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = i.author);
END;
COMMENT ON FUNCTION crm.health_kpi() IS 'Rows of crm.health about indicators that could not be compiled, and about authors who are gone.';
SELECT crm.register_hook('health', 'kpi', 'crm.health_kpi');

CREATE OR REPLACE FUNCTION crm.selftest_kpi() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = 'warning' AS $$
DECLARE
	first_day date := date_trunc('month', crm.now() AT TIME ZONE crm.kpi_zone())::date;
	last_day  date := (date_trunc('month', crm.now() AT TIME ZONE crm.kpi_zone()) + interval '1 month')::date;
BEGIN
	RETURN QUERY
		SELECT 'a cell of the report is its rows', count(b.code) = 0,
			coalesce(string_agg(format('%s of %s %s: %s, rows give %s', b.code, b.level, coalesce(b.employee_id, b.team_id), b.cell, b.sum_of_rows), '; '),
				format('%s cells of %s', (SELECT count(*) FROM crm.kpi_cells(first_day, last_day)), to_char(first_day, 'YYYY-MM')))
		FROM crm.kpi_reconcile(first_day, last_day) b;
END
$$;
COMMENT ON FUNCTION crm.selftest_kpi() IS 'Row of crm.selftest(): every cell of this month''s report is the sum of its rows.';
SELECT crm.register_hook('selftest', 'kpi', 'crm.selftest_kpi');
