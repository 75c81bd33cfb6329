-- claim 10: an overdue task is told to its doer, then to the head, then to the giver, each step once, by working days
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.team (id, name) VALUES (90001, 'sales');
INSERT INTO crm.employee (id, name, team_id, is_head) VALUES (90001, 'Doer', 90001, false), (90002, 'Giver', NULL, false), (90003, 'Head', 90001, true);
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT crm.employee_contact(e.id), 'phone', '+7916000000' || right(e.id::text, 1) FROM crm.employee e WHERE e.id BETWEEN 90001 AND 90003;
SELECT crm.add_integration('test_sms', 'sms_kannel', 'http://127.0.0.1:13013/', '{"sender": "CEMENT"}', 'user:pass') IS NOT NULL AS sms;
-- due on Friday evening: 1 working day later is Monday, 5 are the next Friday
INSERT INTO crm.task (id, name, employee_id, giver_id, due_at) VALUES (90001, 'KP', 90001, 90002, '2026-11-27 15:00+03'), (90002, 'done in time', 90001, 90002, '2026-11-27 15:00+03'),
	(90003, 'nobody', NULL, 90002, '2026-11-27 15:00+03');
SELECT crm.finish_task(90002);
CREATE VIEW pg_temp.told AS SELECT e.at, e.object_id, e.data ->> 'level' AS level, e.data ->> 'to_whom' AS to_whom, e.data ->> 'days' AS days,
	(SELECT string_agg(c.name, ', ' ORDER BY c.name) FROM crm.task_people(ARRAY[e.id]) p JOIN crm.contact c ON c.id = p.contact_id) AS people
	FROM crm.event e WHERE e.kind = 'task.overdue' ORDER BY e.id;
DO $$ BEGIN PERFORM crm.tasks_due(); END $$;
SELECT count(*) FROM pg_temp.told;
SELECT crm.set_now('2026-11-27 15:00+03', 0);
DO $$ BEGIN PERFORM crm.tasks_due(); PERFORM crm.tasks_due(); END $$;
SELECT crm.set_now('2026-11-29 15:00+03', 0);
DO $$ BEGIN PERFORM crm.tasks_due(); END $$;
SELECT crm.set_now('2026-11-30 15:00+03', 0);
DO $$ BEGIN PERFORM crm.tasks_due(); PERFORM crm.tasks_due(); END $$;
SELECT * FROM pg_temp.told;
-- moved: the escalation starts anew
SELECT crm.move_task(90003, '2026-11-30 16:00+03');
SELECT crm.set_now('2026-12-04 16:00+03', 0);
DO $$ BEGIN PERFORM crm.tasks_due(); PERFORM crm.tasks_due(); END $$;
SELECT * FROM pg_temp.told WHERE at > '2026-12-01 00:00+03';
SELECT id, overdue_level, tell_at FROM crm.task WHERE id BETWEEN 90001 AND 90003 ORDER BY id;
SELECT task_id, words, at FROM crm.task_log WHERE what = 'overdue' ORDER BY id;
SELECT contact_id = crm.employee_contact(90001) AS doer, body FROM crm.message WHERE rule = 'task.overdue' AND object_id = 90001 ORDER BY id LIMIT 1;
SELECT count(*) AS messages FROM crm.message WHERE rule = 'task.overdue' AND object_id = 90001;
-- a step that is switched off is not told; what ships is not deleted
UPDATE crm.task_escalation SET enabled = false WHERE level > 1;
INSERT INTO crm.task (id, name, employee_id, due_at) VALUES (90010, 'late from the start', 90001, '2026-11-02 15:00+03');
DO $$ BEGIN PERFORM crm.tasks_due(); PERFORM crm.tasks_due(); END $$;
SELECT overdue_level, tell_at FROM crm.task WHERE id = 90010;
\set VERBOSITY terse
DELETE FROM crm.task_escalation WHERE level = 1;
\set VERBOSITY default
SELECT subject, message FROM crm.task_health();
-- a step told says when it is asked next
SELECT crm.tasks_due() IS NULL AS nothing_more;
ROLLBACK;
