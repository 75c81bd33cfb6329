-- claim 15: what a stage asks of a deal that enters or leaves it, what a jump does with the stages between, and reasons
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.company (id, name) VALUES (90001, 'Рога');
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test', 'Проба', 'Test');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", enter_required, leave_required, enter_condition, leave_condition, is_won, is_lost, reason_required) VALUES
	(90001, 90001, 'new', 'Новая', 'New', 10, NULL, NULL, NULL, NULL, false, false, false),
	(90002, 90001, 'work', 'Работа', 'Work', 20, '{company_id}', '{amount,data.product}', NULL, NULL, false, false, false),
	(90003, 90001, 'offer', 'КП', 'Offer', 30, NULL, NULL, 'amount > 1000', $$data ->> 'agreed' = 'yes'$$, false, false, false),
	(90004, 90001, 'won', 'Успех', 'Won', 40, NULL, NULL, NULL, NULL, true, false, false),
	(90005, 90001, 'lost', 'Отказ', 'Lost', 50, NULL, NULL, NULL, NULL, false, true, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id, skipped) VALUES (90001, 90001, 90002, 'ignore'), (90001, 90002, 90003, 'ignore'), (90001, 90003, 90004, 'ignore'), (90001, 90001, 90003, 'run'),
	(90001, 90002, 90005, 'ignore'), (90001, 90003, 90005, 'ignore'), (90001, 90003, 90002, 'ignore'), (90001, 90005, 90001, 'ignore');
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, 90001, 'deal ' || g FROM generate_series(90001, 90006) g;
-- required to enter, then to leave
SELECT crm.move(90001, 'work');
UPDATE crm.deal SET company_id = 90001 WHERE id <= 90004;
SELECT crm.move(90001, 'work');
SELECT crm.move(90001, 'offer');
UPDATE crm.deal SET amount = 500, data = '{"product": "М500"}' WHERE id = 90001;
-- the condition to enter
SELECT crm.move(90001, 'offer');
UPDATE crm.deal SET amount = 5000 WHERE id = 90001;
SELECT crm.move(90001, 'offer');
-- the condition to leave: of unknown truth is not true; a lost stage asks only for itself
SELECT crm.move(90001, 'won');
SELECT crm.move(90001, 'lost');
SELECT crm.move(90001, 'lost', 'дорого');
SELECT crm.move(90001, 'new');
SELECT stage_reason FROM crm.deal WHERE id = 90001;
SELECT crm.move(90001, 'work'), crm.move(90001, 'lost', 'дорого');
SELECT from_stage_id, to_stage_id, reason FROM crm.stage_log WHERE deal_id = 90001 ORDER BY id;
-- of many at once none moves, a fact is no error: who may, goes
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90002 AND 90006;
SELECT crm.register_event_kind('test.called', 'deal', '{}', 'called', 'called');
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'test.called', 90002);
INSERT INTO crm.event (kind, object_kind, object_id) SELECT 'test.called', 'deal', g FROM generate_series(90002, 90006) g;
SELECT id, stage_id FROM crm.deal WHERE id BETWEEN 90002 AND 90006 ORDER BY id;
-- a new deal is asked what its stage asks
INSERT INTO crm.deal (id, funnel_id, stage_id, name) VALUES (90010, 90001, 90002, 'bare');
INSERT INTO crm.deal (id, funnel_id, stage_id, name, amount) VALUES (90011, 90001, 90003, 'whole', 2000);
-- a condition that fails on a deal: an error by hand, no move by a fact
UPDATE crm.stage SET enter_condition = $$(data ->> 'n')::integer > 0$$ WHERE id = 90003;
UPDATE crm.deal SET amount = 1, data = '{"product": "x", "n": "many"}' WHERE id IN (90002, 90003);
UPDATE crm.deal SET data = '{"product": "x", "n": "7"}' WHERE id = 90003;
SELECT crm.move(90002, 'offer');
SELECT crm.register_event_kind('test.asked', 'deal', '{}', 'asked', 'asked');
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'test.asked', 90003);
INSERT INTO crm.event (kind, object_kind, object_id) VALUES ('test.asked', 'deal', 90002), ('test.asked', 'deal', 90003);
SELECT id, stage_id FROM crm.deal WHERE id IN (90002, 90003) ORDER BY id;
-- a jump: the actions of the stage between run, before those of the stage entered, and the log says so
UPDATE crm.stage SET enter_condition = NULL WHERE id = 90003;
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings, after, at_time) VALUES
	(90001, 90001, 90002, 'task', '{"name": "Позвонить: {{deal}}"}', 1, '18:00'), (90002, 90001, 90003, 'task', '{"name": "Спросить о КП"}', 3, '18:00');
INSERT INTO crm.deal (id, funnel_id, name, company_id) VALUES (90020, 90001, 'jumper', 90001);
SELECT crm.move(90020, 'offer');
SELECT l.from_stage_id, l.to_stage_id, l.passed FROM crm.stage_log l WHERE l.deal_id = 90020 ORDER BY l.id;
SELECT t.name, t.due_at FROM crm.task t JOIN crm.deal_activity a ON a.object_kind = 'task' AND a.object_id = t.id WHERE a.deal_id = 90020 ORDER BY t.id;
UPDATE crm.move_allowed SET skipped = 'ignore' WHERE from_stage_id = 90001 AND to_stage_id = 90003;
INSERT INTO crm.deal (id, funnel_id, name, company_id) VALUES (90021, 90001, 'jumper', 90001);
SELECT crm.move(90021, 'offer');
SELECT count(*) AS tasks FROM crm.deal_activity WHERE deal_id = 90021;
-- what is saved is checked
UPDATE crm.stage SET enter_condition = 'amount' WHERE id = 90002;
UPDATE crm.stage SET enter_condition = 'amont > 1' WHERE id = 90002;
UPDATE crm.stage SET enter_condition = 'pg_sleep(1) IS NULL' WHERE id = 90002;
UPDATE crm.stage SET leave_condition = '(SELECT true)' WHERE id = 90002;
UPDATE crm.stage SET enter_condition = 'created_at > ''now''' WHERE id = 90002;
UPDATE crm.stage SET enter_condition = 'true; DROP TABLE crm.deal' WHERE id = 90002;
UPDATE crm.stage SET enter_required = '{amont}' WHERE id = 90002;
UPDATE crm.stage SET enter_condition = 'crm.deal_has_next_step(id)' WHERE id = 90002;
SELECT crm.move(90004, 'new');
INSERT INTO crm.deal (id, funnel_id, name, company_id) VALUES (90030, 90001, 'step', 90001);
SELECT crm.move(90030, 'work');
SELECT crm.add_deal_task(90030, 'позвонить', '2026-11-25 12:00+03') IS NOT NULL AS given;
SELECT crm.move(90030, 'work');
ROLLBACK;
