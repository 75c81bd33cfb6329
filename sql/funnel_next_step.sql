-- claim 91: no open deal without a next step: seen, told, or demanded when the transaction ends
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
INSERT INTO crm.employee (id, name) VALUES (90001, 'Manager');
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test', 'Проба', 'Test');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won) VALUES (90001, 90001, 'new', 'Новая', 'New', 10, false), (90002, 90001, 'work', 'Работа', 'Work', 20, false), (90003, 90001, 'won', 'Успех', 'Won', 40, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90001, 90002), (90001, 90002, 90003);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
CREATE VIEW pg_temp.bare AS SELECT deal_id, problem, overdue_tasks FROM crm_bi.deal_without_next_step WHERE funnel = 'test' ORDER BY deal_id;
-- free: only seen
INSERT INTO crm.deal (id, funnel_id, name, owner_id) SELECT g, 90001, 'deal ' || g, 90001 FROM generate_series(90001, 90003) g;
SELECT * FROM pg_temp.bare;
CREATE TEMP TABLE given AS SELECT g AS deal_id, crm.add_deal_task(g, 'позвонить', '2026-11-27 12:00+03') AS id FROM generate_series(90001, 90002) g;
SELECT * FROM pg_temp.bare;
SELECT employee_id FROM crm.task t JOIN given USING (id);
-- the only task closed: the deal appears; a deadline that passed is no next step
SELECT crm.finish_task(id) FROM given WHERE deal_id = 90001;
SELECT * FROM pg_temp.bare;
SELECT crm.set_now('2026-11-28 15:00+03', 0);
SELECT * FROM pg_temp.bare;
-- tell: at the commit, once for the whole transaction
UPDATE crm.funnel SET next_step = 'tell' WHERE id = 90001;
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, 90001, 'told ' || g FROM generate_series(90011, 90013) g;
UPDATE crm.deal SET stage_id = 90002 WHERE id IN (90011, 90012);
SELECT crm.add_deal_task(90012, 'позвонить', '2026-11-29 12:00+03', 90001) IS NOT NULL AS given;
UPDATE crm.deal SET stage_id = 90002 WHERE id = 90013;
UPDATE crm.deal SET stage_id = 90003 WHERE id = 90013;
SELECT count(*) FROM crm.event WHERE kind = 'deal.without_next_step';
SET CONSTRAINTS ALL IMMEDIATE;
SELECT object_id, data ->> 'stage' AS stage FROM crm.event WHERE kind = 'deal.without_next_step' ORDER BY id;
SELECT count(*) FROM crm.next_step_check;
SET CONSTRAINTS ALL DEFERRED;
-- demand: refused
UPDATE crm.funnel SET next_step = 'demand' WHERE id = 90001;
SAVEPOINT no;
INSERT INTO crm.deal (id, funnel_id, name) VALUES (90021, 90001, 'none');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO no;
SET CONSTRAINTS ALL DEFERRED;
SAVEPOINT closed;
SELECT crm.finish_task(a.object_id, 'done') FROM crm.deal_activity a WHERE a.deal_id = 90012;
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO closed;
SET CONSTRAINTS ALL DEFERRED;
SELECT crm.finish_task(a.object_id, 'done') FROM crm.deal_activity a WHERE a.deal_id = 90012;
SELECT crm.add_deal_task(90012, 'и ещё раз', '2026-12-01 12:00+03', 90001) IS NOT NULL AS given;
INSERT INTO crm.deal (id, funnel_id, name) VALUES (90022, 90001, 'with');
SELECT crm.add_deal_task(90022, 'позвонить', '2026-12-01 12:00+03', 90001) IS NOT NULL AS given;
SET CONSTRAINTS ALL IMMEDIATE;
-- a closed deal needs none
SET CONSTRAINTS ALL DEFERRED;
UPDATE crm.deal SET stage_id = 90002 WHERE id = 90022;
UPDATE crm.deal SET stage_id = 90003 WHERE id = 90022;
SELECT crm.cancel_task(a.object_id, 'не нужно') FROM crm.deal_activity a WHERE a.deal_id = 90022;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*) FROM crm.next_step_check;
ROLLBACK;
