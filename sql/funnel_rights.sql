-- a manager moves the deals that he sees, and learns nothing of others; who did it stands in the log
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
CREATE ROLE test_anna LOGIN ROLE postgres;
CREATE ROLE test_boris LOGIN ROLE postgres;
GRANT crm_manager TO test_anna, test_boris;
INSERT INTO crm.employee (id, name, role_name) VALUES (90001, 'Anna', 'test_anna'), (90002, 'Boris', 'test_boris');
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'of Anna', 90001), (90002, 'of Boris', 90002);
INSERT INTO crm.deal (id, funnel_id, name, company_id, owner_id) SELECT v.id, f.id, v.name, v.company, v.owner FROM crm.funnel f,
	(VALUES (90001, 'hers', 90001, 90001), (90002, 'his', 90002, 90002)) AS v(id, name, company, owner) WHERE f.code = 'delivery';
INSERT INTO crm.task (id, name, employee_id, company_id, due_at) VALUES (90001, 'hers', 90001, 90001, '2026-11-27 12:00+03'), (90002, 'his', 90002, 90002, '2026-11-27 12:00+03');
INSERT INTO crm.checklist_item (id, deal_id, name) VALUES (90002, 90002, 'his');
SET SESSION AUTHORIZATION test_anna;
SELECT crm.move(90001, 'agreed');
-- his deal, and one that is not there: the same answer
\set VERBOSITY terse
SELECT crm.move(90002, 'agreed');
SELECT crm.move(90099, 'agreed');
SELECT crm.move(90002, 'no such stage');
SELECT crm.add_deal_task(90002, 'x', '2026-11-27 12:00+03');
SELECT crm.hand_over(90002, 'claim');
SELECT crm.check_item(90002);
SELECT crm.link_activity(90002, 'task', 90001);
SELECT crm.finish_task(90002);
SELECT crm.finish_task(90099);
SELECT crm.add_task('x', 90001, '2026-11-27 12:00+03', 90002);
SELECT crm.add_note('x', 90002);
UPDATE crm.deal SET stage_id = stage_id;
INSERT INTO crm.task (name, due_at) VALUES ('x', crm.now());
\set VERBOSITY default
SELECT crm.add_deal_task(90001, 'позвонить', '2026-11-27 12:00+03') IS NOT NULL AS given, crm.finish_task(90001, 'ok') AS done, crm.add_note('любит утром', 90001) IS NOT NULL AS noted;
RESET SESSION AUTHORIZATION;
SELECT to_stage_id = (SELECT s.id FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = 'delivery' AND s.code = 'agreed') AS agreed, by FROM crm.stage_log WHERE deal_id = 90001 ORDER BY id DESC LIMIT 1;
SELECT t.name, t.employee_id, t.giver_id, l.what, l.by FROM crm.task t JOIN crm.task_log l ON l.task_id = t.id WHERE t.company_id = 90001 ORDER BY l.id;
SELECT stage_id = (SELECT min(l.to_stage_id) FROM crm.stage_log l WHERE l.deal_id = 90002) AS untouched FROM crm.deal WHERE id = 90002;
ROLLBACK;
