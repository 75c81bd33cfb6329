-- claims 10 and 41: the board with sums, ages, overdue tasks and rot, against counts by hand; overdue tasks by working days
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-20 12:00+03', 0);
INSERT INTO crm.employee (id, name) VALUES (90001, 'Manager');
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'Рога', 90001);
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test', 'Проба', 'Test');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won, rot_days) VALUES (90001, 90001, 'new', 'Новая', 'New', 10, false, 5), (90002, 90001, 'work', 'Работа', 'Work', 20, false, NULL),
	(90003, 90001, 'offer', 'КП', 'Offer', 30, false, NULL), (90004, 90001, 'won', 'Успех', 'Won', 40, true, NULL);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90001, 90002), (90001, 90002, 90003), (90001, 90003, 90004), (90001, 90001, 90004);
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO crm.deal (id, funnel_id, name, company_id, owner_id, amount, tonnes) VALUES (90001, 90001, 'old', 90001, 90001, 100, 10), (90002, 90001, 'won long ago', 90001, 90001, 50, 5), (90003, 90001, 'won', NULL, NULL, 70, 7);
SELECT crm.move(90002, 'won');
SELECT crm.set_now('2026-12-21 12:00+03', 0);
INSERT INTO crm.deal (id, funnel_id, name, company_id, owner_id, amount) VALUES (90004, 90001, 'fresh', 90001, 90001, 1000), (90005, 90001, 'no amount', 90001, 90001, NULL), (90006, 90001, 'working', 90001, 90001, 500);
SELECT crm.move(90003, 'won'), crm.move(90006, 'work');
INSERT INTO crm.task (id, name, employee_id, company_id, due_at) VALUES (90001, 'late', 90001, 90001, '2026-12-17 18:00+03'), (90002, 'next', 90001, 90001, '2026-12-22 10:00+03'), (90003, 'later', 90001, 90001, '2026-12-25 10:00+03'),
	(90004, 'ancient', 90001, 90001, '2016-12-17 18:00+03'), (90005, 'this morning', NULL, NULL, '2026-12-21 09:00+03'), (90006, 'on Saturday', 90001, NULL, '2026-12-19 09:00+03');
INSERT INTO crm.deal_activity (deal_id, object_kind, object_id) VALUES (90001, 'task', 90001), (90004, 'task', 90002), (90004, 'task', 90003);
SELECT stage_order, stage, stage_kind, stage_deals, stage_amount, card_order, deal_id, stage_days, next_task, next_due_at, overdue_tasks, rotting FROM crm_bi.kanban WHERE funnel = 'test' ORDER BY stage_order, card_order;
-- the oracle: the same sums from the table
SELECT count(*) AS differ FROM (SELECT DISTINCT stage, stage_deals, stage_amount FROM crm_bi.kanban WHERE funnel = 'test') k
FULL JOIN (SELECT s.code, count(d.id) AS n, coalesce(sum(d.amount), 0) AS amount FROM crm.stage s LEFT JOIN crm.deal d ON d.stage_id = s.id AND d.id <> 90002 WHERE s.funnel_id = 90001 GROUP BY 1) o ON o.code = k.stage
WHERE (k.stage_deals, k.stage_amount) IS DISTINCT FROM (o.n::integer, o.amount::numeric(18,2));
-- ages: 17 December is a Thursday
SELECT task_id, deal_id, days, working_days, age, due_at FROM crm_bi.task_overdue ORDER BY task_id;
-- and for the ten years the days counted one by one
SELECT working_days = (SELECT count(*) FROM generate_series('2016-12-18'::date, '2026-12-21', '1 day') g WHERE crm.is_working_day(g::date)) AS exact FROM crm_bi.task_overdue WHERE task_id = 90004;
-- a funnel that is off has no board
UPDATE crm.funnel SET enabled = false WHERE id = 90001;
SELECT count(*) FROM crm_bi.kanban WHERE funnel = 'test';
SELECT view_name FROM crm_bi.catalog WHERE view_name ~ '(kanban|task_overdue|deal_without_next_step)$' ORDER BY 1;
ROLLBACK;
