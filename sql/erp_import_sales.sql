-- claims 4 and 14: a real pipeline of 8,800 opportunities comes in through the same import: counts and sums equal
-- those of the file, its oddities are listed and not dropped, and undo brings back the state before.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\getenv data CRM_DATA
\if :{?data}
\else
\set data ../shared/data
\endif
SELECT pg_stat_file(:'data' || '/sales/sales_pipeline.csv', true) IS NULL AS absent \gset
\if :absent
\echo skipped: CRM_DATA
\quit
\endif
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2018-01-10 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
\echo the file by itself, read by COPY
CREATE TEMP TABLE file (id text, agent text, product text, account text, stage text, engaged date, closed date, value numeric);
CREATE TEMP TABLE product (product text, series text, price numeric);
\set pipeline :data '/sales/sales_pipeline.csv'
\set products :data '/sales/products.csv'
COPY file FROM :'pipeline' (FORMAT csv, HEADER);
COPY product FROM :'products' (FORMAT csv, HEADER);

SELECT rows_read, rows_created, rows_refused, warnings FROM crm.import_load('sales_teams.csv', 'employee', pg_read_binary_file(:'data' || '/sales/sales_teams.csv'));
SELECT rows_read, rows_created, rows_refused, warnings FROM crm.import_load('accounts.csv', 'company', pg_read_binary_file(:'data' || '/sales/accounts.csv'));
SELECT t.extra FROM crm.import_item t JOIN crm.company c ON c.id = t.object_id WHERE t.object_kind = 'company' AND c.name = 'Acme Corporation';
SELECT crm.import_new('sales_pipeline.csv', 'deal', pg_read_binary_file(:'pipeline'),
	options => jsonb_build_object('source', 'sales', 'known', jsonb_build_object('product', (SELECT jsonb_agg(product) FROM product)))) AS id \gset
SELECT mapping FROM crm.import WHERE id = :id;
\echo its stages
SELECT value, rows, first_cell FROM crm.import_values(:id, 'stage');
SELECT crm.import_make_funnel(:id, 'pipeline', 'Pipeline', ARRAY['Prospecting', 'Engaging', 'Won', 'Lost']) IS NOT NULL AS made;
SELECT s.code, s.is_won, s.is_lost, (SELECT string_agg(t.code, ', ' ORDER BY t."position") FROM crm.move_allowed m JOIN crm.stage t ON t.id = m.to_stage_id WHERE m.from_stage_id = s.id) AS moves
FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = 'pipeline' ORDER BY s."position";
SELECT * FROM crm.import_run(:id);
\echo what differs from the file: nothing
SELECT f.id FROM file f LEFT JOIN (
	SELECT d.source_id, d.amount, d.created_at, d.closed_at, d.stage_at, s.name_en AS stage, e.name AS agent, c.name AS account, d.name
	FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id LEFT JOIN crm.employee e ON e.id = d.owner_id LEFT JOIN crm.company c ON c.id = d.company_id WHERE d.source = 'sales') d ON d.source_id = f.id
WHERE (f.agent, f.account, f.stage, f.value, f.closed::timestamp AT TIME ZONE 'Europe/Moscow', coalesce(f.engaged::timestamp AT TIME ZONE 'Europe/Moscow', crm.now()), concat_ws(' — ', f.product, f.account))
	IS DISTINCT FROM (d.agent, d.account, d.stage, d.amount, d.closed_at, d.created_at, d.name);
SELECT stage, count(*), sum(value), count(account) FROM file GROUP BY 1 ORDER BY 1;
SELECT s.name_en, count(*), sum(d.amount), count(d.company_id), count(d.closed_at) FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id GROUP BY 1 ORDER BY 1;
\echo its oddities, and the same counted in the file
SELECT severity, heading, message, count(*) FROM crm.import_report(:id) GROUP BY 1, 2, 3 ORDER BY 4 DESC;
SELECT count(*) FILTER (WHERE NOT EXISTS (SELECT FROM product p WHERE p.product = f.product)) AS product, count(*) FILTER (WHERE account IS NULL) AS account, count(*) FILTER (WHERE engaged IS NULL AND closed IS NULL) AS dates FROM file f;
SELECT count(*), count(DISTINCT deal_id) FROM crm.stage_log;
\echo taken back
SELECT count(*) FROM crm.import_undo(:id);
SELECT (SELECT count(*) FROM crm.deal) AS deals, (SELECT count(*) FROM crm.company) AS companies, (SELECT count(*) FROM crm.employee) AS employees;
ROLLBACK;
