-- Our people as the ERP knows them: teams and their heads, lines that are handed over, absences and deputies, those who leave (claims 33 and 53).
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 12:00+03', 0) IS NOT NULL;
SELECT result FROM crm_erp.put_employee('E-1', 'Петров', 'Север', mobile => '8 916 111-22-33', extension => '101', mailbox => 'Petrov@Plant.test');
SELECT result FROM crm_erp.put_employee('E-1', 'Петров', 'Север', mobile => '+79161112233', extension => '101', mailbox => 'petrov@plant.test');
-- the team that was known by its name becomes the ERP's; employees may name it by its id
SELECT result FROM crm_erp.put_team('T-1', 'Север', 'E-1');
SELECT result FROM crm_erp.put_team('T-1', 'Север', 'E-1');
SELECT result FROM crm_erp.put_employee('E-2', 'Сидорова', 'T-1', calendar => 'always');
SELECT result FROM crm_erp.put_team('T-1', 'Северный отдел', 'E-2');
SELECT e.name, t.name, e.is_head, e.calendar_code FROM crm.employee e JOIN crm.team t ON t.id = e.team_id ORDER BY e.name;
SELECT result FROM crm_erp.put_team('T-2', 'Юг');
SELECT crm_erp.put_team('T-2', 'Северный отдел');
SELECT crm_erp.put_team('T-3', 'Юг');
SELECT crm_erp.put_team('T-3');
SELECT crm_erp.put_team('T-3', 'Восток', 'E-9');
SELECT result FROM crm_erp.put_team('T-1', head_erp_id => '-');
SELECT count(*) FROM crm.employee WHERE is_head;
-- the SIM goes to another on the 25th: its calls before are the first one's
SELECT crm.set_now('2026-11-25 09:00+03', 0) IS NOT NULL;
SELECT result FROM crm_erp.put_employee('E-2', mobile => '89161112233');
SELECT e.name, l.kind, l.value, h.during FROM crm.line_holder h JOIN crm.line l ON l.id = h.line_id JOIN crm.employee e ON e.id = h.employee_id ORDER BY l.kind, h.during;
SELECT c.name, p.value FROM crm.contact c JOIN crm.contact_point p ON p.contact_id = c.id WHERE c.source = 'employee' ORDER BY 1, 2;
SELECT result FROM crm_erp.put_employee('E-1', extension => '-');
-- leave, with a deputy; a day is in it to its end
SELECT result FROM crm_erp.put_absence('A-1', 'E-1', 'Отпуск', '01.12.2026', '14.12.2026', 'E-2');
SELECT result FROM crm_erp.put_absence('A-1', 'E-1', 'leave', '2026-12-01', '2026-12-14', 'E-2');
SELECT crm_erp.put_absence('A-2', 'E-1', 'sick', '2026-12-14', '2026-12-20');
SELECT result FROM crm_erp.put_absence('A-1', to_day => '2026-12-13');
SELECT result FROM crm_erp.put_absence('A-2', 'E-1', 'sick', '2026-12-14', '2026-12-20');
SELECT kind, days, deputy_id IS NOT NULL FROM crm.absence ORDER BY days;
SELECT crm.employee_works(e.id, '2026-12-10 12:00+03'), crm.employee_works(e.id, '2026-12-21 12:00+03') FROM crm.employee e WHERE e.name = 'Петров';
SELECT result FROM crm_erp.put_absence('A-2', cancelled => '1');
SELECT result FROM crm_erp.put_absence('A-2', cancelled => '1');
SELECT crm_erp.put_absence('A-3', 'E-1', 'leave', '2026-12-20', '2026-12-19');
SELECT crm_erp.put_absence('A-3', 'E-1', 'party', '2026-12-20', '2026-12-21');
SELECT crm_erp.put_absence('A-3', 'E-1', 'leave', '2026-12-20', '2026-12-21', 'E-1');
SELECT crm_erp.put_absence('A-3', 'E-9', 'leave', '2026-12-20', '2026-12-21');
SELECT crm_erp.put_absence('A-3', 'E-1');
-- who leaves holds no line, and is reached no more; taken back, he is there again
SELECT result FROM crm_erp.put_employee('E-2', dismissed_at => '2026-11-25T00:00:00');
SELECT l.kind, upper(h.during) FROM crm.line_holder h JOIN crm.line l ON l.id = h.line_id JOIN crm.employee e ON e.id = h.employee_id WHERE e.name = 'Сидорова';
SELECT c.archived_at IS NOT NULL, (SELECT count(*) FROM crm.contact_point p WHERE p.contact_id = c.id) FROM crm.contact c WHERE c.name = 'Сидорова';
SELECT result FROM crm_erp.put_employee('E-2', mobile => '+79161112244');
SELECT result FROM crm_erp.put_employee('E-2', dismissed_at => '-', mobile => '+79161112244');
SELECT l.value, h.during FROM crm.line_holder h JOIN crm.line l ON l.id = h.line_id WHERE upper_inf(h.during) ORDER BY 1;
SELECT crm_erp.put_employee('E-3', 'x', calendar => 'nights');
SELECT crm_erp.put_employee('E-3', 'x', extension => 'one');
SELECT crm_erp.put_employee('E-3', 'x', mobile => '12');
INSERT INTO crm_erp.team_in (erp_id, name) VALUES ('T-4', 'Запад');
INSERT INTO crm_erp.absence_in (erp_id, employee_erp_id, kind, from_day, to_day) VALUES ('A-4', 'E-1', 'sick', '2027-01-11', '2027-01-12');
INSERT INTO crm_erp.employee_in (erp_id, name, team, mobile) VALUES ('E-4', 'Новый', 'T-4', '+79161112255');
SELECT line, result FROM crm_erp.put_batch('[{"put": "team", "erp_id": "T-4", "name": "Запад"}, {"put": "employee", "erp_id": "E-4", "mobile": "+79161112255"}, {"put": "absence", "erp_id": "A-4", "deputy_erp_id": "E-4"}]');
SELECT entity, erp_id, column_name, value_before, value_after FROM crm_erp.change WHERE column_name IN ('mobile', 'extension', 'name', 'days') ORDER BY id, column_name;
ROLLBACK;
