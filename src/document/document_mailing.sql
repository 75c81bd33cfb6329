-- document: sheets that are mailed by schedule. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.report_period(period text, at timestamptz, zone text, OUT from_date date, OUT to_date date) RETURNS record
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE $1 WHEN 'today' THEN d.day WHEN 'yesterday' THEN d.day - 1
			WHEN 'last_week' THEN d.day - extract(isodow FROM d.day)::integer - 6
			WHEN 'month_to_date' THEN date_trunc('month', d.day::timestamp)::date
			WHEN 'last_month' THEN (date_trunc('month', d.day::timestamp) - '1 month'::interval)::date END,
		CASE $1 WHEN 'today' THEN d.day WHEN 'yesterday' THEN d.day - 1
			WHEN 'last_week' THEN d.day - extract(isodow FROM d.day)::integer
			WHEN 'month_to_date' THEN d.day
			WHEN 'last_month' THEN date_trunc('month', d.day::timestamp)::date - 1 END
	FROM (SELECT ($2 AT TIME ZONE $3)::date) AS d(day);
END;
COMMENT ON FUNCTION crm.report_period(text, timestamptz, text) IS 'First and last day of today, yesterday, last_week (Monday to Sunday), month_to_date or last_month, seen from a moment in a zone (IANA); NULL for other words.';

CREATE OR REPLACE FUNCTION crm.report_mailing_problem(report crm.report_mailing) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	seen  oid := to_regclass(format('crm_bi.%I', report.view_name));
	wrong text;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = report.author) THEN
		RETURN format('its author %s is gone', report.author);
	END IF;
	IF seen IS NULL THEN
		RETURN format('there is no view crm_bi.%s', report.view_name);
	END IF;
	IF NOT (pg_has_role(report.author, 'crm_director', 'MEMBER') OR pg_has_role(report.author, 'crm_bi_reader', 'MEMBER'))
		OR NOT has_table_privilege(report.author, seen, 'SELECT') THEN
		RETURN format('its author %s may not read crm_bi.%s, or is no member of crm_director or crm_bi_reader', report.author, report.view_name);
	END IF;
	SELECT string_agg(DISTINCT c.name, ', ') INTO wrong
	FROM unnest(report.columns || report.order_by || report.date_column) AS c(name)
	WHERE c.name IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = seen AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped);
	IF wrong IS NOT NULL THEN
		RETURN format('crm_bi.%s has no column %s', report.view_name, wrong);
	END IF;
	IF report.date_column IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = seen AND a.attname = report.date_column
		AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)) THEN
		RETURN format('column %s is neither a date nor a time', report.date_column);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.report_mailing_problem(crm.report_mailing) IS 'Why a sheet cannot be made: its author is gone or may not read the view, the view or a column is gone; NULL: it can.';

CREATE OR REPLACE FUNCTION crm.report_mailing_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	words text;
BEGIN
	IF TG_OP = 'INSERT' AND NOT crm.guard() THEN
		RETURN NEW;						-- a restore
	END IF;
	IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - '{enabled,author,edited_at}'::text[] = to_jsonb(OLD) - '{enabled,author,edited_at}'::text[] THEN
		NEW.author := OLD.author;		-- only the switch
		RETURN NEW;
	END IF;
	NEW.author := session_user;
	NEW.edited_at := crm.now();
	words := crm.report_mailing_problem(NEW);
	IF words IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN words LIKE '%may not read%' THEN '42501' ELSE '22023' END,
			MESSAGE = format('report "%s" cannot be mailed: %s', NEW.code, words),
			HINT = 'The catalogue of crm_bi lists the views and their columns; who mails one is a member of crm_bi_reader or crm_director.';
	END IF;
	IF NEW.labels IS NOT NULL AND cardinality(NEW.labels) IS DISTINCT FROM cardinality(NEW.columns) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('report "%s" has %s labels for %s columns', NEW.code, cardinality(NEW.labels), coalesce(cardinality(NEW.columns)::text, 'all')),
			HINT = 'Name the columns, and give each its heading, or NULL for its own name.';
	END IF;
	IF crm.time_zone_exists(NEW.zone) IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a time zone: %s', left(NEW.zone, 100)), HINT = 'Give an IANA name: Europe/Moscow.';
	END IF;
	SELECT string_agg(coalesce(x.id::text, 'NULL'), ', ') INTO words FROM unnest(NEW.contact_ids) AS x(id) WHERE NOT EXISTS (SELECT FROM crm.contact c WHERE c.id = x.id);
	IF words IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('report "%s" goes to contacts that are not there: %s', NEW.code, words), HINT = 'SELECT id, name FROM crm.contact lists them.';
	END IF;
	NEW.addresses := ARRAY(SELECT crm.email_normal(coalesce(x.address, '')) FROM unnest(NEW.addresses) WITH ORDINALITY AS x(address, n) ORDER BY x.n);
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.report_mailing_check() IS 'Trigger function of crm.report_mailing: refuses what could not be mailed with 22023 (view, column, labels, zone, address), 42501 (the author may not read it), 23503 (a contact that is not there); whoever edits becomes its author.';

CREATE OR REPLACE FUNCTION crm.mail_report(code text, at timestamptz DEFAULT crm.now()) RETURNS SETOF bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	report crm.report_mailing;
	words  text;
	days   record;
	seen   text;
	type_  oid;
	query  text;
	title  text;
	sheet  bytea;
	found_ bigint;
	reader record;
	letter bigint;
	letters bigint[] := '{}';
BEGIN
	SELECT r.* INTO report FROM crm.report_mailing r WHERE r.code = mail_report.code;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('report "%s" does not exist', coalesce(left(mail_report.code, 100), 'NULL')),
			HINT = format('Known are: %s.', coalesce((SELECT string_agg(r.code, ', ' ORDER BY r.code) FROM crm.report_mailing r), 'none'));
	END IF;
	IF NOT report.enabled THEN
		RETURN;
	END IF;
	IF at IS NULL OR NOT isfinite(at) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('no period for the time %s', coalesce(at::text, 'NULL')), HINT = 'Give a finite time.';
	END IF;
	words := crm.report_mailing_problem(report);
	IF words IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('report "%s" cannot be mailed: %s', report.code, words),
			HINT = 'Mend the row of crm.report_mailing; whoever saves it becomes its author.';
	END IF;
	seen := format('crm_bi.%I', report.view_name);
	SELECT * INTO days FROM crm.report_period(report.period, at, report.zone);
	title := report.title;
	query := format('SELECT %s FROM %s v', coalesce((SELECT string_agg(format('v.%I', c.name), ', ' ORDER BY c.n) FROM unnest(report.columns) WITH ORDINALITY AS c(name, n)), 'v.*'), seen);
	IF report.date_column IS NOT NULL THEN
		SELECT a.atttypid INTO type_ FROM pg_attribute a WHERE a.attrelid = seen::regclass AND a.attname = report.date_column;
		-- Times of crm_bi without a zone are the plant's.
		query := query || format(CASE WHEN type_ = 'date'::regtype THEN ' WHERE v.%1$I >= %2$L::date AND v.%1$I < %3$L::date'
			WHEN type_ = 'timestamptz'::regtype THEN ' WHERE v.%1$I >= %2$L::timestamp AT TIME ZONE %4$L AND v.%1$I < %3$L::timestamp AT TIME ZONE %4$L'
			ELSE ' WHERE v.%1$I >= (%2$L::timestamp AT TIME ZONE %4$L) AT TIME ZONE %5$L AND v.%1$I < (%3$L::timestamp AT TIME ZONE %4$L) AT TIME ZONE %5$L' END,
			report.date_column, days.from_date, days.to_date + 1, report.zone, current_setting('crm.time_zone'));
		title := title || CASE WHEN days.from_date = days.to_date THEN format(CASE report.language WHEN 'ru' THEN ' за %s' ELSE ', %s' END, to_char(days.from_date, CASE report.language WHEN 'ru' THEN 'DD.MM.YYYY' ELSE 'YYYY-MM-DD' END))
			ELSE format(CASE report.language WHEN 'ru' THEN ' с %s по %s' ELSE ', %s to %s' END, to_char(days.from_date, CASE report.language WHEN 'ru' THEN 'DD.MM.YYYY' ELSE 'YYYY-MM-DD' END),
				to_char(days.to_date, CASE report.language WHEN 'ru' THEN 'DD.MM.YYYY' ELSE 'YYYY-MM-DD' END)) END;
	END IF;
	query := query || coalesce(' ORDER BY ' || (SELECT string_agg(format('v.%I', c.name), ', ' ORDER BY c.n)
		FROM unnest(coalesce(report.order_by, nullif(ARRAY[report.date_column], '{NULL}'))) WITH ORDINALITY AS c(name, n)), '');
	-- One statement: the rows are counted on the snapshot of the sheet.
	EXECUTE format('SELECT crm.xlsx_from_query($1, $2, NULL, $3, NULL, $4, $5), (SELECT count(*) FROM (%s) q)', query)
	INTO sheet, found_ USING query, title, report.labels, report.orientation, report.language;

	IF found_ > 0 OR report.send_empty THEN
		FOR reader IN
			SELECT DISTINCT ON (x.address) x.address, x.id FROM (
				SELECT p.value AS address, c.id FROM unnest(report.contact_ids) AS i(id)
				JOIN crm.contact c ON c.id = i.id AND c.archived_at IS NULL
				JOIN crm.contact_point p ON p.contact_id = c.id AND p.kind = 'email' AND p.state <> 'invalid'
				UNION ALL SELECT a.address, NULL FROM unnest(report.addresses) AS a(address)) x
			ORDER BY x.address, x.id
		LOOP
			letter := crm.send('email', reader.address,
				coalesce(report.body, CASE report.language WHEN 'ru' THEN format(E'%s.\nСтрок: %s. Таблица приложена к письму, она готова к печати.\n', title, found_)
					ELSE format(E'%s.\nRows: %s. The sheet is attached and ready for print.\n', title, found_) END),
				subject => title, contact_id => reader.id, language => report.language);
			PERFORM crm.message_attach(letter, regexp_replace(title, '[[:cntrl:]/\\]', '_', 'g') || '.xlsx',
				'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', sheet);
			letters := letters || letter;
		END LOOP;
		IF letters = '{}' THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('report "%s" has no reader with an e-mail address', report.code),
				HINT = 'Give it addresses, or its contacts an e-mail address in crm.contact_point.';
		END IF;
	END IF;
	INSERT INTO crm.report_mailed (report_mailing_id, planned_at, from_date, to_date, rows, message_ids, bytes, sha256)
	VALUES (report.id, at, days.from_date, days.to_date, found_, letters, octet_length(sheet), sha256(sheet));
	RETURN QUERY SELECT l.id FROM unnest(letters) AS l(id);
END
$$;
COMMENT ON FUNCTION crm.mail_report(text, timestamptz) IS 'Makes the sheet of a report (crm.report_mailing) for the period that is counted from a moment, queues a letter with it to each reader in the caller''s transaction, and returns their numbers (crm.message.id). Typed numbers and dates, headings on each page, one page wide, page numbers, print area (claims 60, 61). No letter: the report is switched off, or it has no row and send_empty is false. Errors: P0002 no such report, 22008 a time without end, 55000 it cannot be made or has no reader, and those of crm.send() and crm.xlsx_from_query().';

CREATE OR REPLACE FUNCTION crm.schedule_mail_report(schedule_id bigint, planned_at timestamptz) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args jsonb;
BEGIN
	SELECT s.args INTO args FROM crm.schedule s WHERE s.id = schedule_mail_report.schedule_id;
	IF args ->> 'report' IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('schedule %s names no report', schedule_id),
			HINT = 'args is {"report": "CODE"}, a crm.report_mailing.code.';
	END IF;
	PERFORM FROM crm.mail_report(args ->> 'report', planned_at);
END
$$;
COMMENT ON FUNCTION crm.schedule_mail_report(bigint, timestamptz) IS 'The schedule action mail_report: mails the report that args.report names, its period counted from the planned moment. Errors: 22023 no report is named, and those of crm.mail_report().';
SELECT crm.register_schedule_action('mail_report', 'crm.schedule_mail_report');

CREATE OR REPLACE FUNCTION crm.report_mailing_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'warning', format('report "%s"', r.code), 'it is not mailed: ' || crm.report_mailing_problem(r),
		'Mend the row of crm.report_mailing; whoever saves it becomes its author.', NULL::timestamptz
	FROM crm.report_mailing r WHERE r.enabled AND crm.report_mailing_problem(r) IS NOT NULL;
END;
COMMENT ON FUNCTION crm.report_mailing_health() IS 'Rows of crm.health: reports that cannot be mailed any more.';
SELECT crm.register_hook('health', 'report_mailing', 'crm.report_mailing_health');

SELECT crm.register_foreign_key('crm.report_mailed', 'report_mailing_id', 'crm.report_mailing');
