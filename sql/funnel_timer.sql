-- claim 95: tasks and timed actions of a stage: working days, dates that move, a deal that leaves, a client that answers, each once
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
INSERT INTO crm.team (id, name) VALUES (90001, 'sales');
INSERT INTO crm.employee (id, name, team_id, is_head) VALUES (90001, 'Manager', 90001, false), (90002, 'Head', 90001, true);
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'Рога', 90001), (90002, 'Копыта', NULL);
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test', 'Проба', 'Test');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won, is_lost) VALUES (90001, 90001, 'new', 'Новая', 'New', 10, false, false), (90002, 90001, 'offer', 'КП', 'Offer', 20, false, false),
	(90003, 90001, 'contract', 'Договор', 'Contract', 30, false, false), (90004, 90001, 'won', 'Успех', 'Won', 40, true, false), (90005, 90001, 'lost', 'Отказ', 'Lost', 50, false, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) SELECT 90001, a.id, b.id FROM crm.stage a, crm.stage b WHERE a.funnel_id = 90001 AND b.funnel_id = 90001 AND a.id <> b.id AND NOT a.is_won;
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, "position", settings, after, after_unit, after_from, at_time, on_leave, until_answer) VALUES
	(90001, 90001, 90002, 'task', 10, '{"name": "Узнать мнение о КП: {{deal}}", "priority": 2}', 3, 'working_days', 'entry', '18:00', 'cancel', true),
	(90002, 90001, 90003, 'task', 10, '{"name": "Как дела у клиента {{company}}?", "employee": "head"}', 30, 'days', 'entry', '10:00', 'keep', false),
	(90003, 90001, 90003, 'task', 20, '{"name": "Подготовить отгрузку"}', -2, 'working_days', 'expected_on', NULL, 'cancel', false),
	(90004, 90001, 90003, 'move', 30, '{"stage": "lost", "reason": "не ответил"}', 5, 'days', 'data.answer_by', NULL, 'cancel', true);
SET CONSTRAINTS ALL IMMEDIATE;
CREATE VIEW pg_temp.waits AS SELECT t.deal_id, t.stage_action_id AS action, t.due_at, t.state, t.reason, k.state AS task, k.due_at AS task_due, k.employee_id AS doer, k.name, coalesce(k.result, k.reason) AS words
	FROM crm.stage_timer t LEFT JOIN crm.task k ON k.id = t.task_id ORDER BY t.deal_id, t.stage_action_id, t.stage_log_id;
INSERT INTO crm.deal (id, funnel_id, name, company_id, owner_id) VALUES (90001, 90001, 'one', 90001, 90001), (90002, 90001, 'two', 90002, 90001), (90003, 90001, 'three', 90001, NULL), (90004, 90001, 'four', 90002, NULL);
-- Thursday and three working days is Tuesday
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90001 AND 90004;
SELECT deal_id, action, due_at, state, task, task_due, doer, name FROM pg_temp.waits;
-- the client answers on the second day: the task is done and names the fact; one that was said before is no answer
SELECT crm.set_now('2026-11-27 12:00+03', 0);
SELECT crm.register_event_kind('test.letter', 'company', '{}', 'a letter', 'Письмо клиента');
SELECT crm.register_answer_kind('test.letter');
INSERT INTO crm.event (id, kind, object_kind, object_id, company_id, at) VALUES (90001, 'test.letter', 'company', 90001, 90001, '2026-11-26 14:59+03');
SELECT count(*) FROM pg_temp.waits WHERE state <> 'waiting';
INSERT INTO crm.event (id, kind, object_kind, object_id, company_id) VALUES (90002, 'test.letter', 'company', 90001, 90001), (90003, 'test.letter', 'company', 90001, 90001);
SELECT deal_id, action, state, reason, task, words FROM pg_temp.waits;
SELECT l.task_id = t.task_id AS logged, l.what, l.words FROM crm.stage_timer t JOIN crm.task_log l ON l.task_id = t.task_id WHERE t.deal_id = 90001 ORDER BY l.id;
-- one leaves: its task is cancelled with the reason; done by hand: its timer ends
SELECT crm.move(90002, 'contract');
SELECT crm.finish_task(task_id, 'нравится') FROM crm.stage_timer WHERE deal_id = 90004;
SELECT deal_id, action, due_at, state, reason, task, words FROM pg_temp.waits WHERE deal_id IN (90002, 90004);
-- dates: none yet, then one, then another; what was made moves with it
UPDATE crm.deal SET expected_on = '2026-12-11' WHERE id = 90002;
SELECT deal_id, action, due_at, state, task, task_due FROM pg_temp.waits WHERE deal_id = 90002;
UPDATE crm.deal SET expected_on = '2026-12-18', data = '{"answer_by": "2026-12-01"}' WHERE id = 90002;
SELECT deal_id, action, due_at, state, task, task_due, words FROM pg_temp.waits WHERE deal_id = 90002;
UPDATE crm.deal SET data = '{"answer_by": "2026-12-03"}' WHERE id = 90002;
SELECT due_at FROM pg_temp.waits WHERE action = 90004;
UPDATE crm.deal SET data = '{"answer_by": "soon"}' WHERE id = 90002;
SELECT due_at FROM pg_temp.waits WHERE action = 90004;
UPDATE crm.deal SET data = '{"answer_by": "2026-12-03"}' WHERE id = 90002;
-- due: the deal moves by itself, once; what the stage may keep stays
DO $$ BEGIN PERFORM crm.stage_timers_due(); END $$;
SELECT stage_id FROM crm.deal WHERE id = 90002;
SELECT crm.set_now('2026-12-08 10:00+03', 0);
DO $$ BEGIN PERFORM crm.stage_timers_due(); PERFORM crm.stage_timers_due(); END $$;
SELECT d.stage_id, d.stage_reason, (SELECT count(*) FROM crm.stage_log l WHERE l.deal_id = d.id) AS moves FROM crm.deal d WHERE d.id = 90002;
SELECT deal_id, action, state, reason, task FROM pg_temp.waits WHERE deal_id = 90002;
-- in again: a new entry, new timers, one each
SELECT crm.move(90002, 'contract');
SELECT action, state, due_at FROM pg_temp.waits WHERE deal_id = 90002 AND action IN (90003, 90004);
-- a timed action that fails stops nothing and stands in its table; one that is switched off is cancelled
UPDATE crm.deal SET data = '{"answer_by": "2026-12-01"}' WHERE id = 90002;
UPDATE crm.funnel SET enabled = false WHERE id = 90001;
DELETE FROM crm.move_allowed WHERE from_stage_id = 90003 AND to_stage_id = 90005;
DO $$ BEGIN PERFORM crm.stage_timers_due(); END $$;
SELECT action, state, reason LIKE 'deal 90002 cannot move%' AS why FROM pg_temp.waits WHERE deal_id = 90002 AND action = 90004;
SELECT deal_id, code FROM crm.stage_action_failure WHERE stage_action_id = 90004;
-- the answer cancels a timer that has no task
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90003, 90005);
UPDATE crm.funnel SET enabled = true WHERE id = 90001;
INSERT INTO crm.deal (id, funnel_id, stage_id, name, company_id, data) VALUES (90005, 90001, 90003, 'five', 90001, '{"answer_by": "2026-12-20"}'), (90006, 90001, 90003, 'six', NULL, '{"answer_by": "2026-12-20"}');
INSERT INTO crm.event (id, kind, object_kind, object_id, company_id) VALUES (90010, 'test.letter', 'company', 90001, 90001);
SELECT deal_id, state, reason FROM pg_temp.waits WHERE action = 90004 AND deal_id IN (90005, 90006);
SELECT event_id FROM crm.stage_timer WHERE stage_action_id = 90004 AND deal_id = 90005;
UPDATE crm.stage_action SET enabled = false WHERE id = 90004;
SELECT crm.set_now('2026-12-26 10:00+03', 0);
DO $$ BEGIN PERFORM crm.stage_timers_due(); END $$;
SELECT deal_id, state, reason FROM pg_temp.waits WHERE action = 90004 AND deal_id = 90006;
-- refused
\set VERBOSITY terse
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90001, 'task', '{"name": "x"}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, after) VALUES (90001, 90001, 'task', '{"name": "x"}', -1);
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, after) VALUES (90001, 90001, 'task', '{"name": "{{nope}}"}', 1);
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, after) VALUES (90001, 90001, 'task', '{"name": "x", "who": 1}', 1);
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, after) VALUES (90001, 90001, 'task', '{"name": "x", "employee": "nobody else"}', 1);
-- many at once
INSERT INTO crm.deal (id, funnel_id, name, company_id) SELECT g, 90001, 'many', 90002 FROM generate_series(100001, 103000) g;
UPDATE crm.deal SET stage_id = 90002 WHERE name = 'many';
SELECT count(*), count(DISTINCT task_id) FROM crm.stage_timer WHERE deal_id > 100000 AND state = 'waiting';
INSERT INTO crm.event (kind, object_kind, object_id, company_id) VALUES ('test.letter', 'company', 90002, 90002);
SELECT t.state, k.state, count(*) FROM crm.stage_timer t JOIN crm.task k ON k.id = t.task_id WHERE t.deal_id > 100000 GROUP BY 1, 2;
ROLLBACK;
