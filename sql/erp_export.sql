-- claim 4: every view of crm_bi goes out as .xlsx, with the rows that the caller sees.
SET client_min_messages = warning;
BEGIN;
SELECT crm.activate('live') AS mode;
INSERT INTO crm.company (id, name) VALUES (900001, '=Ромашка');
SELECT count(*) AS views, count(*) FILTER (WHERE substring(crm.export_xlsx(c.view_name) FROM 1 FOR 2) <> 'PK') AS broken FROM crm_bi.catalog c;
\echo the file says what the view says
SELECT (SELECT count(*) FROM crm.sheet_rows(crm.export_xlsx('catalog'))) - 2 = (SELECT count(*) FROM crm_bi.catalog) AS rows,
	(SELECT r.cells[1] FROM crm.sheet_rows(crm.export_xlsx('catalog', 'en')) r LIMIT 1) AS title;
SELECT r.cells[1] FROM crm.sheet_rows(crm.export_xlsx('crm_bi.catalog', 'ru', $$view_name LIKE '%catalog'$$)) r OFFSET 2;
SAVEPOINT a;
SELECT crm.export_xlsx('crm.secret');
ROLLBACK TO a;
SELECT crm.export_xlsx('catalog', 'ru', 'true; DROP TABLE crm.company');
ROLLBACK TO a;
SELECT crm.export_xlsx('catalog', 'de');
ROLLBACK;
