-- a funnel is checked when its transaction ends: no stages, unreachable, without exit, a loop without a person, which is named; a draft is not
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
-- what ships is whole
SELECT f.code, c.severity, c.message FROM crm.funnel f, crm.check_funnel(f.code) c ORDER BY 1, 2, 3;
SAVEPOINT bare;
INSERT INTO crm.funnel (code, name_ru, name_en) VALUES ('bare', 'Пустая', 'Bare');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO bare;
-- built in steps as a draft, then switched on
INSERT INTO crm.funnel (id, code, name_ru, name_en, enabled) VALUES (90001, 'test', 'Проба', 'Test', false);
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won, is_lost) VALUES (90001, 90001, 'new', 'Новая', 'New', 10, false, false), (90002, 90001, 'work', 'Работа', 'Work', 20, false, false),
	(90003, 90001, 'wait', 'Ждём', 'Wait', 30, false, false), (90004, 90001, 'won', 'Успех', 'Won', 40, true, false), (90005, 90001, 'island', 'Остров', 'Island', 50, false, false);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90001, 90002), (90001, 90002, 90003), (90001, 90001, 90004);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SELECT severity, what, message, hint FROM crm.check_funnel('test');
SAVEPOINT "on";
UPDATE crm.funnel SET enabled = true WHERE id = 90001;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO "on";
DELETE FROM crm.stage WHERE id = 90005;
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90003, 90004), (90001, 90003, 90002), (90001, 90003, 90001);
UPDATE crm.funnel SET enabled = true WHERE id = 90001;
SET CONSTRAINTS ALL IMMEDIATE;
-- a stage is retired by its moves, and that is no error
UPDATE crm.move_allowed SET enabled = false WHERE to_stage_id = 90004 AND from_stage_id = 90001;
UPDATE crm.move_allowed SET enabled = false WHERE to_stage_id = 90004;
SELECT severity, what, message FROM crm.check_funnel('test');
UPDATE crm.move_allowed SET enabled = true WHERE funnel_id = 90001;
-- the only way out is switched off
SAVEPOINT shut;
UPDATE crm.move_allowed SET enabled = false WHERE from_stage_id = 90003;
ROLLBACK TO shut;

-- loops. by stage actions alone
SET CONSTRAINTS ALL DEFERRED;
SAVEPOINT actions;
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90002, 'move', '{"stage": "wait"}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, after, after_unit) VALUES (90001, 90003, 'move', '{"stage": "work"}', 3, 'days');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO actions;
-- an action whose own event moves the deal back to it
SAVEPOINT events;
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, after) VALUES (90001, 90003, 'task', '{"name": "x"}', 1), (90001, 90002, 'task', '{"name": "x"}', 1);
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'task.overdue', 90003);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'task.added', 90002);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO events;
-- a message rule in between: saved last, it is the one that is refused
SAVEPOINT rules;
INSERT INTO crm.template (code, channel, language, body) VALUES ('test.moved', 'sms', 'ru', 'Сделка {{deal}}: {{to_stage_ru}}');
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'message.delivered', 90003), (90001, 'message.failed', 90002);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('test.moved', 'deal.moved', 'deal_contact', 'sms', 'test.moved');
ROLLBACK TO rules;
-- two funnels: handed over and back, and over again; with a person between it is none
SAVEPOINT two;
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90002, 'test2', 'Вторая', 'Second');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won) VALUES (90011, 90002, 'in', 'Вход', 'In', 10, false), (90012, 90002, 'out', 'Выход', 'Out', 20, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90002, 90011, 90012);
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90003, 'hand_over', '{"funnel": "test2", "return_won": "work"}');
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90002, 'move', '{"stage": "wait"}');
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90002, 90011, 'move', '{"stage": "out"}');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO two;
-- templates and stages that are not there
SAVEPOINT texts;
INSERT INTO crm.template (code, channel, language, body) VALUES ('test.bad', 'sms', 'ru', 'Сделка {{nope}}');
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90001, 90001, 90002, 'message', '{"template": "test.bad"}');
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90002, 90001, 90002, 'message', '{"template": "no.such"}');
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90003, 90001, 90002, 'move', '{"stage": "nope"}');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO texts;
\set VERBOSITY terse
SELECT crm.check_funnel('nope');
SELECT count(*) FROM crm.funnel_check_health();
ROLLBACK;
