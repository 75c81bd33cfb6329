-- claim 33: lines are held by people with validity dates; a SIM moved on the 15th splits its calls by date
-- Who was responsible for a company, and when.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.employee (id, name) VALUES (90001, 'A'), (90002, 'B');
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'one', 90001), (90002, 'two', NULL), (90003, 'three', 90001);
SELECT crm.set_now('2026-11-25 10:00+03', 0);
UPDATE crm.company SET name = name || '!' WHERE id BETWEEN 90001 AND 90003;
UPDATE crm.company SET owner_id = 90002 WHERE id IN (90001, 90002);
SELECT company_id, employee_id, during FROM crm.responsibility ORDER BY company_id, during;
SELECT crm.responsible(90001, '2026-11-24 12:00+03') AS before, crm.responsible(90001) AS now_, crm.responsible(90002, '2026-11-24 12:00+03') AS nobody;
-- twice in one moment leaves the last one
UPDATE crm.company SET owner_id = 90001 WHERE id = 90001;
UPDATE crm.company SET owner_id = NULL WHERE id = 90003;
SELECT company_id, employee_id, during FROM crm.responsibility ORDER BY company_id, during;
-- many at once, after few: in linear time
INSERT INTO crm.company (id, name, owner_id) SELECT g, 'many', 90001 FROM generate_series(100001, 104000) g;
SELECT crm.set_now('2026-11-26 10:00+03', 0);
SET LOCAL statement_timeout = '60s';
UPDATE crm.company SET owner_id = 90002 WHERE name = 'many';
SET LOCAL statement_timeout = 0;
SELECT employee_id, upper_inf(during) AS open, count(*) FROM crm.responsibility WHERE company_id > 100000 GROUP BY 1, 2 ORDER BY 1;
-- no two at once
INSERT INTO crm.responsibility (company_id, employee_id, during) VALUES (90001, 90002, '[2026-11-24 12:00+03,2026-11-24 13:00+03)');
-- lines
INSERT INTO crm.line (id, kind, value) VALUES (90001, 'sim', '+79160000001');
INSERT INTO crm.line_holder (line_id, employee_id, during) VALUES (90001, 90001, '[2026-11-01 00:00+03,2026-11-15 00:00+03)'), (90001, 90002, '[2026-11-15 00:00+03,)');
SELECT crm.line_holder_at('sim', '+79160000001', '2026-11-14 23:59+03') AS fourteenth, crm.line_holder_at('sim', '+79160000001', '2026-11-15 00:00+03') AS fifteenth,
	crm.line_holder_at('sim', '+79169999999') AS not_ours;
INSERT INTO crm.line_holder (line_id, employee_id, during) VALUES (90001, 90001, '[2026-12-01 00:00+03,)');
-- without activation nothing is written: a restore brings its own ranges
SELECT crm.deactivate();
UPDATE crm.company SET owner_id = 90001 WHERE id = 90002;
SELECT count(*) FROM crm.responsibility WHERE company_id = 90002;
-- the next activation finds who changed meanwhile: another, nobody any more, somebody again, the first one; and leaves the rest
UPDATE crm.company SET owner_id = NULL WHERE id = 90001;
UPDATE crm.company SET owner_id = 90002 WHERE id = 90003;
INSERT INTO crm.company (id, name, owner_id) VALUES (90004, 'four', 90001);
SELECT crm.set_now('2026-11-27 10:00+03', 0);
CREATE TEMP TABLE before AS SELECT * FROM crm.responsibility;
SELECT crm.activate('live');
SELECT company_id, employee_id, during FROM crm.responsibility WHERE company_id BETWEEN 90001 AND 90004 ORDER BY company_id, during;
SELECT crm.responsible(90002, '2026-11-27 09:59+03') AS before, crm.responsible(90002) AS now_;
SELECT count(*) FROM (SELECT * FROM before EXCEPT SELECT * FROM crm.responsibility) gone WHERE company_id NOT BETWEEN 90001 AND 90004;
TRUNCATE before;
INSERT INTO before SELECT * FROM crm.responsibility;
SELECT crm.set_now('2026-11-28 10:00+03', 0);
SELECT crm.activate('live');
SELECT count(*) FROM (SELECT * FROM before EXCEPT SELECT * FROM crm.responsibility) gone;
ROLLBACK;
