-- Responsibility with validity: from now, from a day that has passed, from one to come.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.employee (id, name, dismissed_at) VALUES (90001, 'A', NULL), (90002, 'B', NULL), (90003, 'C', '2026-11-01 00:00+03');
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'one', 90001);
CREATE VIEW pg_temp.shown AS SELECT (SELECT owner_id FROM crm.company WHERE id = 90001) AS owner, employee_id, during, planned FROM crm.responsibility WHERE company_id = 90001;
SELECT crm.set_now('2026-11-26 10:00+03', 0);
SELECT crm.set_responsible(90001, 90002, '2026-11-25 00:00+03');
SELECT * FROM pg_temp.shown ORDER BY during;
-- the same again changes nothing; to come is planned
SELECT crm.set_responsible(90001, 90002);
SELECT crm.set_responsible(90001, 90001, '2026-12-01 00:00+03');
SELECT * FROM pg_temp.shown ORDER BY during;
SELECT crm.responsible(90001, '2026-11-30 23:59+03'), crm.responsible(90001, '2026-12-01 00:00+03');
SELECT crm.hand_over_due();
SELECT * FROM pg_temp.shown ORDER BY during;
SELECT crm.set_now('2026-12-02 10:00+03', 0);
SELECT crm.hand_over_due();
SELECT * FROM pg_temp.shown ORDER BY during;
-- who changes the owner by hand takes back what was planned
SELECT crm.set_responsible(90001, 90002, '2026-12-10 00:00+03');
UPDATE crm.company SET owner_id = NULL WHERE id = 90001;
SELECT * FROM pg_temp.shown ORDER BY during;
SELECT crm.set_responsible(90001, NULL, '2026-11-25 12:00+03');
SELECT * FROM pg_temp.shown ORDER BY during;
SELECT crm.set_responsible(1, 90001);
SELECT crm.set_responsible(90001, 90003);
SELECT crm.set_responsible(90001, 90001, 'infinity');
SELECT crm.set_responsible(90001, 90001, '1980-01-01');
ROLLBACK;
