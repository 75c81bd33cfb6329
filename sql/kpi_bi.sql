-- claim 44: crm_bi.catalog lists every view, commented, with grain and labels in both languages.
-- The views read as the roles that they are for, in types that ODBC carries without loss.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
BEGIN;
SELECT crm.set_now('2026-11-24 12:00+03', 0) IS NOT NULL AS moved;
SELECT crm.activate('off');
\echo views that the catalogue does not explain
SELECT view_name FROM crm_bi.catalog WHERE description IS NULL OR label_ru = '' OR label_en = '' OR freshness = '' ORDER BY 1;
\echo views of this room without grain
SELECT view_name FROM crm_bi.catalog WHERE (grain_ru = '' OR grain_en = '') AND view_name <> 'crm_bi.unlinked' ORDER BY 1;
\echo views that the catalogue lacks
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'crm_bi'::regnamespace AND c.relkind = 'v'
	AND NOT EXISTS (SELECT FROM crm_bi.catalog k WHERE k.view_name = 'crm_bi.' || c.relname);
\echo labels of views that are not there
SELECT b.name FROM crm.bi_view b WHERE to_regclass(b.name) IS NULL;
\echo columns without a COMMENT, compiled ones too
SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relnamespace = 'crm_bi'::regnamespace AND c.relkind = 'v'
WHERE a.attnum > 0 AND col_description(a.attrelid, a.attnum) IS NULL ORDER BY 1, 2;
\echo types that arrive otherwise than they are
SELECT a.attrelid::regclass AS view, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relnamespace = 'crm_bi'::regnamespace AND c.relkind = 'v'
WHERE a.attnum > 0 AND c.relname <> 'unlinked' AND NOT (a.atttypid IN ('bigint'::regtype, 'integer'::regtype, 'date'::regtype, 'timestamp'::regtype)
	OR a.atttypid IN ('varchar'::regtype, 'numeric'::regtype) AND a.atttypmod > 0)
ORDER BY 1, 2;
\echo views without the rights of their reader
SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'crm_bi'::regnamespace AND c.relkind = 'v'
	AND c.relname <> 'unlinked' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false) ORDER BY 1;
\echo every view, read by the BI role and by the director
CREATE FUNCTION pg_temp.reads(role text) RETURNS TABLE (view text, outcome text) LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
	FOR view IN SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'crm_bi'::regnamespace AND c.relkind = 'v' ORDER BY 1 LOOP
		BEGIN
			EXECUTE format('SET LOCAL ROLE %I', role);
			EXECUTE format('SELECT count(*) FROM (SELECT * FROM %s) x', view) INTO n;
			outcome := 'read';
		EXCEPTION WHEN OTHERS THEN
			outcome := SQLERRM;
		END;
		RESET ROLE;
		RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM pg_temp.reads('crm_bi_reader') WHERE outcome <> 'read';
SELECT * FROM pg_temp.reads('crm_director') WHERE outcome <> 'read';
SELECT count(*) > 0 AS some_refused FROM pg_temp.reads('crm_erp_writer') WHERE outcome <> 'read';
\echo but no text and no address of a message
SAVEPOINT a;
SET LOCAL ROLE crm_bi_reader;
SELECT body FROM crm.message_body;
ROLLBACK TO a;
SET LOCAL ROLE crm_bi_reader;
SELECT recipient FROM crm.message;
ROLLBACK TO a;
\echo the BI role opens cells
SET LOCAL ROLE crm_bi_reader;
SELECT count(*) FROM crm.kpi_report('2026-11-01', '2026-12-01');
SELECT count(*) FROM crm.kpi_reconcile('2026-11-01', '2026-12-01');
SELECT length(crm.kpi_sheet('2026-11-01', '2026-12-01')) > 5000 AS sheet;
RESET ROLE;
\echo the production calendar is in dim_date
SELECT business_date, weekday, working, kind FROM crm_bi.dim_date WHERE business_date IN ('2026-05-08', '2026-05-09', '2026-05-11', '2026-11-24') ORDER BY 1;
ROLLBACK;
