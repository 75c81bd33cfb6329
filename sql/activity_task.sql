-- claims 10 and 90: a task has a doer and a deadline, is closed with a word, judged by its giver, and everything stands in its log
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.team (id, name) VALUES (90001, 'sales');
INSERT INTO crm.employee (id, name, team_id, is_head) VALUES (90001, 'Иванов', 90001, false), (90002, 'Петров', 90001, false), (90003, 'Глава', 90001, true);
INSERT INTO crm.employee (id, name, dismissed_at) VALUES (90004, 'Ушёл', '2026-01-01 00:00+03');
INSERT INTO crm.company (id, name) VALUES (90001, 'Рога');
CREATE TEMP TABLE made (n integer, id bigint);
INSERT INTO made SELECT 1, crm.add_task('Позвонить', 90001, '2026-11-25 12:00+03', 90001, note => 'про цемент');
INSERT INTO made SELECT 2, crm.add_task('Из обмена', 90001, '2026-11-25 12:00+03', source => 'import', source_id => '7');
INSERT INTO made SELECT 3, crm.add_task('Из обмена ещё раз', 90001, '2026-11-26 12:00+03', source => 'import', source_id => '7');
SELECT (SELECT id FROM made WHERE n = 2) = (SELECT id FROM made WHERE n = 3) AS once;
\set VERBOSITY sqlstate
-- refused
SELECT crm.add_task('Без срока', 90001, NULL);
SELECT crm.add_task('', 90001, '2026-11-25 12:00+03');
SELECT crm.add_task('Кому', 90004, '2026-11-25 12:00+03');
SELECT crm.add_task('Когда', 90001, 'infinity');
SELECT crm.cancel_task(id, ' ') FROM made WHERE n = 1;
SELECT crm.finish_task(-1);
SELECT crm.accept_task(id) FROM made WHERE n = 1;
\set VERBOSITY default
SELECT crm.move_task(id, '2026-11-27 12:00+03', 'просит позже') AS moved, crm.move_task(id, '2026-11-27 12:00+03') AS again FROM made WHERE n = 1;
SELECT crm.give_task(id, 90002, 'отпуск') FROM made WHERE n = 1;
SELECT crm.comment_task(id, 'не берёт трубку') IS NOT NULL AS said FROM made WHERE n = 1;
SELECT crm.finish_task(id, 'дозвонился') AS done, crm.finish_task(id, 'ещё раз') AS again FROM made WHERE n = 1;
-- given back, done again, accepted once
SELECT crm.accept_task(id, false, 'не спросил про объём') FROM made WHERE n = 1;
SELECT crm.finish_task(id, '20 тонн') FROM made WHERE n = 1;
SELECT crm.accept_task(id) AS accepted, crm.accept_task(id) AS again FROM made WHERE n = 1;
\set VERBOSITY sqlstate
SELECT crm.accept_task(id, false, 'поздно') FROM made WHERE n = 1;
SELECT crm.cancel_task(id, 'поздно') FROM made WHERE n = 1;
\set VERBOSITY default
SELECT crm.cancel_task(id, 'дубль') AS cancelled, crm.cancel_task(id, 'дубль') AS again FROM made WHERE n = 2;
SELECT m.n, l.what, l.due_at, l.employee_id, l.words FROM made m JOIN crm.task_log l ON l.task_id = m.id WHERE m.n < 3 ORDER BY l.id;
SELECT m.n, e.kind, e.company_id, e.data ->> 'task' AS task, e.data ->> 'employee' AS employee, e.data ->> 'due_local' AS due, e.data ->> 'result' AS result, e.data ->> 'reason' AS reason
FROM crm.event e JOIN made m ON m.id = e.object_id AND m.n < 3 WHERE e.object_kind = 'task' ORDER BY e.id;
-- a plain UPDATE is written down as well; a statement of many is one statement of log and events
INSERT INTO crm.task (id, name, employee_id, due_at) SELECT g, 'обзвон', 90001, '2026-11-30 18:00+03' FROM generate_series(90001, 91000) g;
UPDATE crm.task SET due_at = '2026-12-01 18:00+03' WHERE id BETWEEN 90001 AND 90500;
UPDATE crm.task SET state = 'done', done_at = crm.now() WHERE id BETWEEN 90001 AND 90100;
UPDATE crm.task SET note = 'x' WHERE id BETWEEN 90001 AND 90100;
SELECT what, count(*) FROM crm.task_log WHERE task_id BETWEEN 90001 AND 91000 GROUP BY 1 ORDER BY 1;
SELECT kind, count(*) FROM crm.event WHERE object_kind = 'task' AND object_id BETWEEN 90001 AND 91000 GROUP BY 1 ORDER BY 1;
\set VERBOSITY sqlstate
UPDATE crm.task SET state = 'open', done_at = NULL WHERE id = 90001;
UPDATE crm.task SET state = 'cancelled' WHERE id = 90200;
UPDATE crm.task_log SET words = 'x';
DELETE FROM crm.task_log;
\set VERBOSITY default
-- what an import brings as done is history, and no news
INSERT INTO crm.task (id, name, employee_id, due_at, state, done_at, source, source_id) VALUES (92001, 'старое', 90001, '2016-03-01 10:00+03', 'done', '2016-03-02 10:00+03', 'import', '8');
SELECT (SELECT count(*) FROM crm.event WHERE object_kind = 'task' AND object_id = 92001) AS news, (SELECT count(*) FROM crm.task_log WHERE task_id = 92001) AS logged;
-- notes
SELECT crm.add_note('любит утром', 90001, source => 'import', source_id => '1') = crm.add_note('любит утром', 90001, source => 'import', source_id => '1') AS once;
\set VERBOSITY terse
SELECT crm.add_note('о чём');
\set VERBOSITY default
SELECT * FROM crm.task_selftest();
-- the guard sleeps: nothing is told
SELECT crm.deactivate();
INSERT INTO crm.task (id, name, employee_id, due_at) VALUES (92002, 'спит', 90001, '2026-11-30 18:00+03');
SELECT (SELECT count(*) FROM crm.task_log WHERE task_id = 92002) AS logged, (SELECT tell_at FROM crm.task WHERE id = 92002) AS tell_at;
SELECT crm.activate('live');
SELECT tell_at FROM crm.task WHERE id = 92002;
ROLLBACK;
