-- claim 24: an indicator is a row; its words, its query and its views come from it, checked when it is saved.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
BEGIN;
SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS moved;
SELECT crm.activate('off');
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(hint, ''));
END $$;
SELECT code, version, additive, coalesce(switched, enabled) AS on_, broken, shipped FROM crm.indicator ORDER BY "position";
SELECT code, function_name, view_name FROM crm.compiled ORDER BY code;
SELECT what, words FROM crm.kpi_explain('clients_served', 'en');
SELECT obj_description('crm_bi.kpi_ship_t'::regclass);

\echo a DBA adds one with a row
INSERT INTO crm.company (id, name) VALUES (1, 'Alpha');
INSERT INTO crm.customer_order (id, number, company_id, product, price) VALUES (1, 'O-1', 1, 'Cement', 5000);
INSERT INTO crm.shipment (order_id, product, tare_kg, gross_kg, net_kg, weighed_at) VALUES (1, 'Cement', 15000, 40000, 25000, '2026-11-10 08:00+03'), (1, 'Gypsum', 15000, 25000, 10000, '2026-11-10 09:00+03');
INSERT INTO crm.indicator (code, name_ru, name_en, unit_ru, unit_en, fact, predicate, time_column, weight, digits)
VALUES ('cement_rub', 'Цемент, выручка', 'Cement, revenue', 'руб.', 'RUB', 'shipment', 'product = ''Cement'' AND is_client', 'weighed_at', 'price * net_t', 2);
SELECT code, level, value, facts FROM crm.kpi_cells('2026-11-01', '2026-12-01') WHERE code = 'cement_rub';
SELECT fact_id IS NOT NULL, business_date, part, weight FROM crm_bi.kpi_cement_rub;
SELECT label_en, grain_en, drill FROM crm_bi.catalog WHERE view_name = 'crm_bi.kpi_cement_rub';
SELECT count(*) FROM crm.kpi_reconcile('2026-11-01', '2026-12-01');

\echo an edit is a new version; the old one stays
UPDATE crm.indicator SET predicate = 'product IN (''Cement'', ''Gypsum'')' WHERE code = 'cement_rub';
SELECT version, broken FROM crm.indicator WHERE code = 'cement_rub';
SELECT version, definition ->> 'predicate' AS predicate FROM crm.indicator_version WHERE code = 'cement_rub' ORDER BY version;
SELECT value FROM crm.kpi_cells('2026-11-01', '2026-12-01') WHERE code = 'cement_rub' AND level = 'total';
SELECT pg_temp.try('UPDATE crm.indicator_version SET definition = ''{}''');
\echo a ratio, with a numerator that some rows make
INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column, additive, numerator, scale, weight)
VALUES ('cement_share', 'Доля цемента', 'Share of cement', 'shipment', 'weighed_at', 'ratio', 'product = ''Cement''', 100, 'net_t');
SELECT round(value, 4) AS value, numerator, denominator FROM crm.kpi_cells('2026-11-01', '2026-12-01') WHERE code = 'cement_share' AND level = 'total';
SELECT value, numerator, denominator FROM crm.kpi_cells('2026-10-01', '2026-11-01') WHERE code = 'cement_share' AND level = 'total';

\echo what is refused when it is saved
SELECT p AS predicate, pg_temp.try(format('INSERT INTO crm.indicator (code, name_ru, name_en, fact, predicate, time_column) VALUES (''bad'', ''x'', ''x'', ''shipment'', %L, ''weighed_at'')', p)) AS outcome
FROM (VALUES ('nope = 1'), ('net_t'), ('net_t >'), ('true; DROP TABLE crm.deal'), ('true) OR (SELECT true'), ('net_t > (SELECT 1)'), ('EXISTS (SELECT FROM pg_authid)'),
	('pg_read_file(''/etc/passwd'') IS NULL'), ('set_config(''a.b'', ''c'', false) IS NULL'), ('pg_sleep(1e9) IS NULL'), ('random() > 0.5'),
	('now() > weighed_at'), ('current_date > ''2026-01-01'''), ('weighed_at > ''now'''), ('weighed_at > ''today 10:00'''), ('current_user = ''x'''), ('current_setting(''x'') IS NULL'),
	('count(*) > 1'), ('row_number() OVER () = 1'), ('generate_series(1, 2) = 1'), ('$1 = 1'), ('true AS x'), ('true, false'), ('*'), ('fact_shipment.*'), ('true FROM pg_class'), ('true ORDER BY 1'), ('true LIMIT 1'),
	('fact_shipment IS NULL'), ('table_to_xml(''pg_authid'', true, true, '''') IS NULL'), ('crm.mode() = ''live'''), ('ctid IS NULL'), ('true UNION SELECT true'), ('')) v(p);
SELECT c AS command, pg_temp.try(c) AS outcome FROM (VALUES
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column) VALUES ('bad', 'x', 'x', 'nope', 'at')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column) VALUES ('bad', 'x', 'x', 'shipment', 'net_t')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column, weight) VALUES ('bad', 'x', 'x', 'shipment', 'weighed_at', 'product')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column, credit) VALUES ('bad', 'x', 'x', 'shipment', 'weighed_at', 'doer')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column, drill) VALUES ('bad', 'x', 'x', 'shipment', 'weighed_at', '{nope}')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column) VALUES ('Bad code', 'x', 'x', 'shipment', 'weighed_at')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column) VALUES ('rows', 'x', 'x', 'shipment', 'weighed_at')$$),
	($$INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column, additive) VALUES ('bad', 'x', 'x', 'shipment', 'weighed_at', 'ratio')$$),
	($$UPDATE crm.indicator SET predicate = 'nope' WHERE code = 'cement_rub'$$),
	($$UPDATE crm.indicator SET code = 'other' WHERE code = 'cement_rub'$$),
	($$DELETE FROM crm.indicator WHERE code = 'ship_t'$$)) v(c);

\echo the switch of the DBA, and what shipped, through another activation
UPDATE crm.indicator SET switched = false WHERE code = 'otif';
UPDATE crm.indicator SET name_en = 'Tonnes out' WHERE code = 'ship_t';
SELECT to_regclass('crm_bi.kpi_otif') IS NULL AS gone, pg_temp.try($$SELECT * FROM crm.kpi_rows('otif', '2026-11-01', '2026-12-01')$$);
SELECT otif_pct, ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01') WHERE level = 'total';
GRANT SELECT ON crm_bi.kpi_ship_t TO pg_monitor;
SELECT crm.activate('off');
SELECT code, version, name_en, switched FROM crm.indicator WHERE code IN ('otif', 'ship_t') ORDER BY code;
SELECT code FROM crm.compiled ORDER BY code;
SELECT has_table_privilege('pg_monitor', 'crm_bi.kpi_ship_t', 'SELECT') AS grant_stands;
UPDATE crm.indicator SET switched = NULL WHERE code = 'otif';
SELECT to_regclass('crm_bi.kpi_otif') IS NOT NULL AS back;

\echo compiled objects belong to crm_owner and are no members of the extension
SELECT c.relname, c.relowner::regrole AS owner, EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') AS member
FROM pg_class c WHERE c.relnamespace = 'crm_bi'::regnamespace AND c.relname ~ '^kpi' ORDER BY 1;
SELECT p.proname, p.proowner::regrole AS owner, p.prosecdef AS definer, has_function_privilege('public', p.oid, 'EXECUTE') AS public_
FROM pg_proc p WHERE p.proname ~ '^kpi_of_' ORDER BY 1;

\echo one that can be compiled no more is off, and health says why; the others live
ALTER TABLE crm.indicator DISABLE TRIGGER USER;
UPDATE crm.indicator SET predicate = 'gone_column' WHERE code = 'cement_rub';
ALTER TABLE crm.indicator ENABLE TRIGGER USER;
SELECT crm.activate('off');
SELECT subject, message, hint FROM crm.health WHERE subject LIKE 'indicator%';
SELECT count(*) FROM crm.compiled WHERE code = 'cement_rub';
SELECT ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01') WHERE level = 'total';
\echo one whose author left
CREATE ROLE kpi_author IN ROLE crm_director;
SET LOCAL SESSION AUTHORIZATION kpi_author;
INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column) VALUES ('loads', 'Взвешивания', 'Loads', 'shipment', 'weighed_at');
SELECT author, version FROM crm.indicator WHERE code = 'loads';
SELECT value FROM crm.kpi_cells('2026-11-01', '2026-12-01') WHERE code = 'loads' AND level = 'total';
\echo he writes what it says, and not what is said of it
SELECT c AS column_, has_column_privilege('crm.indicator', c, 'UPDATE') AS change, has_column_privilege('crm.indicator', c, 'INSERT') AS give
FROM (SELECT attname AS c, attnum FROM pg_attribute WHERE attrelid = 'crm.indicator'::regclass AND attnum > 0) a
WHERE NOT (has_column_privilege('crm.indicator', c, 'UPDATE') AND has_column_privilege('crm.indicator', c, 'INSERT')) ORDER BY attnum;
SELECT pg_temp.try('UPDATE crm.indicator SET shipped = false WHERE code = ''ship_t''');
SELECT pg_temp.try('UPDATE crm.indicator SET version = 99, shipped_hash = NULL WHERE code = ''loads''');
SELECT pg_temp.try('INSERT INTO crm.indicator (code, name_ru, name_en, fact, time_column, author) VALUES (''other'', ''x'', ''x'', ''shipment'', ''weighed_at'', ''postgres'')');
SELECT pg_temp.try('UPDATE crm.indicator SET name_en = ''All loads'' WHERE code = ''loads''');
RESET SESSION AUTHORIZATION;
DROP ROLE kpi_author;
SELECT message FROM crm.health WHERE subject = 'indicator loads';
SELECT crm.activate('off');
SELECT message FROM crm.health WHERE subject = 'indicator loads';
UPDATE crm.indicator SET name_en = 'Weighings' WHERE code = 'loads';
SELECT author = session_user AS mine, broken FROM crm.indicator WHERE code = 'loads';
DELETE FROM crm.indicator WHERE code IN ('cement_rub', 'cement_share', 'loads');
SELECT pg_temp.try('SELECT crm.kpi_expression(0::regclass, ''true'', ''boolean'')');
SELECT pg_temp.try('SELECT crm.kpi_expression(''crm.fact_trip'', ''true'', ''text'')');
SELECT code FROM crm.compiled ORDER BY code;
SELECT count(*) FROM crm.indicator_version WHERE code = 'cement_rub';

\echo all of it can be taken away, and made again
SELECT crm.drop_compiled();
SELECT relname FROM pg_class WHERE relnamespace = 'crm_bi'::regnamespace AND relname ~ '^kpi';
SELECT count(*) FROM crm.kpi_cells('2026-11-01', '2026-12-01');
SELECT crm.activate('off');
SELECT count(*) FROM crm.compiled;
ROLLBACK;
