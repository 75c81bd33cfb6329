-- claim 98: a deal handed over: one transaction makes two cards and three items that block the second, and it comes back by itself
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
INSERT INTO crm.employee (id, name) VALUES (90001, 'Manager'), (90002, 'Storekeeper');
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'Рога', 90001);
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test_sales', 'Продажи', 'Sales'), (90002, 'test_store', 'Склад', 'Store');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won, is_lost) VALUES
	(90001, 90001, 'new', 'Новая', 'New', 10, false, false), (90002, 90001, 'contract', 'Договор', 'Contract', 20, false, false), (90003, 90001, 'stored', 'На хранении', 'Stored', 30, true, false),
	(90004, 90001, 'rework', 'Вернулась', 'Rework', 25, false, false), (90005, 90001, 'lost', 'Отказ', 'Lost', 50, false, true),
	(90011, 90002, 'request', 'Заявка', 'Request', 10, false, false), (90012, 90002, 'loading', 'Приёмка', 'Loading', 20, false, false), (90013, 90002, 'done', 'Принято', 'Done', 30, true, false),
	(90014, 90002, 'refused', 'Отказ', 'Refused', 40, false, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90001, 90002), (90001, 90002, 90003), (90001, 90002, 90004), (90001, 90004, 90002), (90001, 90002, 90005), (90001, 90001, 90005),
	(90002, 90011, 90012), (90002, 90012, 90013), (90002, 90011, 90014), (90002, 90012, 90014), (90002, 90012, 90011), (90002, 90014, 90011);
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90001, 90001, 90002, 'hand_over',
	'{"funnel": "test_store", "name": "Принять: {{company}}", "owner": 90002, "checklist": ["Найти машину и водителя", "Назначить день", "Подготовить место"], "wait": true, "return_won": "stored", "return_lost": "rework"}');
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO crm.deal (id, funnel_id, name, company_id, owner_id, amount) VALUES (90001, 90001, 'Шины', 90001, 90001, 5000), (90002, 90001, 'Техника', 90001, 90001, 7000);
SELECT crm.move(90001, 'contract');
CREATE VIEW pg_temp.cards AS SELECT l.deal_id, c.name AS card, c.owner_id, c.amount, s.code AS stage, v.items, v.open_items, l.outcome, l.problem, d.stage_id AS deal_stage
	FROM crm.deal_link l JOIN crm.deal_card v ON v.card_id = l.card_id JOIN crm.deal c ON c.id = l.card_id JOIN crm.stage s ON s.id = c.stage_id JOIN crm.deal d ON d.id = l.deal_id ORDER BY l.id;
SELECT * FROM pg_temp.cards;
SELECT e.kind, e.object_id = l.card_id AS of_card, e.data ->> 'company' AS company, e.data ->> 'from_deal_id' AS from_deal FROM crm.event e JOIN crm.deal_link l ON l.card_id = e.object_id WHERE e.kind = 'deal.handed_over';
-- the card is blocked, and the deal waits for it
\set VERBOSITY sqlstate
SELECT crm.move(card_id, 'loading') FROM crm.deal_link;
SELECT crm.move(90001, 'stored');
\set VERBOSITY terse
DO $$ BEGIN PERFORM crm.move(card_id, 'loading') FROM crm.deal_link; EXCEPTION WHEN check_violation THEN RAISE WARNING '%', regexp_replace(SQLERRM, 'deal \d+', 'the card'); END $$;
DO $$ BEGIN PERFORM crm.move(90001, 'stored'); EXCEPTION WHEN check_violation THEN RAISE WARNING '%', regexp_replace(SQLERRM, 'card \d+', 'its card'); END $$;
\set VERBOSITY default
SELECT crm.check_item(i.id), crm.check_item(i.id) AS again FROM crm.checklist_item i JOIN crm.deal_link l ON l.card_id = i.deal_id WHERE i.name <> 'Подготовить место' ORDER BY i.id;
DO $$ BEGIN PERFORM crm.move(card_id, 'loading') FROM crm.deal_link; EXCEPTION WHEN check_violation THEN RAISE WARNING '%', regexp_replace(SQLERRM, 'deal \d+', 'the card'); END $$;
SELECT crm.check_item(i.id) FROM crm.checklist_item i JOIN crm.deal_link l ON l.card_id = i.deal_id WHERE i.name = 'Подготовить место';
-- done: the deal goes on by itself
SELECT crm.move(card_id, 'loading') AND crm.move(card_id, 'done') AS done FROM crm.deal_link;
SELECT * FROM pg_temp.cards;
SELECT kind, object_id, data ->> 'outcome' AS outcome, data ->> 'problem' AS problem FROM crm.event WHERE kind = 'deal.returned' ORDER BY id;
SELECT from_stage, to_stage FROM crm.deal_history WHERE deal_id = 90001 ORDER BY stage_log_id;
-- refused there: it comes back to another stage; handed over again it is another card; opened again it is out again
SELECT crm.move(90002, 'contract');
SELECT crm.move(card_id, 'refused') FROM crm.deal_link WHERE deal_id = 90002;
SELECT card, stage, outcome, deal_stage FROM pg_temp.cards WHERE deal_id = 90002;
SELECT crm.move(90002, 'contract');
SELECT card, stage, outcome, deal_stage FROM pg_temp.cards WHERE deal_id = 90002;
SELECT crm.move(min(card_id), 'request') FROM crm.deal_link WHERE deal_id = 90002;
SELECT card, stage, outcome FROM pg_temp.cards WHERE deal_id = 90002;
-- of two that are out the deal waits for both; the reason stands in the link until it goes on
SELECT crm.move(max(card_id), 'refused') FROM crm.deal_link WHERE deal_id = 90002;
SELECT stage, outcome, problem ~ '^deal 90002 waits for its card' AS waits, deal_stage FROM pg_temp.cards WHERE deal_id = 90002;
SELECT subject, message ~ '^1 deals did not go on when their card was closed, at last deal 90002' AS told FROM crm.funnel_check_health() WHERE subject = 'hand-over';
SELECT crm.move(min(card_id), 'refused') FROM crm.deal_link WHERE deal_id = 90002;
SELECT stage, outcome, problem, deal_stage FROM pg_temp.cards WHERE deal_id = 90002;
-- a way back that the funnel does not allow any more is no error of the card
INSERT INTO crm.deal (id, funnel_id, name, company_id) VALUES (90004, 90001, 'no way', 90001);
SELECT crm.move(90004, 'contract');
UPDATE crm.move_allowed SET enabled = false WHERE from_stage_id = 90002 AND to_stage_id = 90004;
SELECT crm.move(card_id, 'refused') FROM crm.deal_link WHERE deal_id = 90004;
SELECT stage, outcome, problem, deal_stage FROM pg_temp.cards WHERE deal_id = 90004;
UPDATE crm.move_allowed SET enabled = true WHERE from_stage_id = 90002;
-- by hand; what is out still is not handed over twice
INSERT INTO crm.deal (id, funnel_id, name) VALUES (90003, 90001, 'by hand');
SELECT crm.hand_over(90003, 'test_store', '{"Позвонить"}') = crm.hand_over(90003, 'test_store', '{"Позвонить"}') AS once;
SELECT i.name FROM crm.deal_link l JOIN crm.checklist_item i ON i.deal_id = l.card_id WHERE l.deal_id = 90003;
-- many at once
INSERT INTO crm.deal (id, funnel_id, name, company_id) SELECT g, 90001, 'many', 90001 FROM generate_series(100001, 102000) g;
UPDATE crm.deal SET stage_id = 90002 WHERE name = 'many';
SELECT count(*), (SELECT count(*) FROM crm.checklist_item i JOIN crm.deal_link x ON x.card_id = i.deal_id WHERE x.deal_id > 100000) AS items FROM crm.deal_link WHERE deal_id BETWEEN 100001 AND 102000;
UPDATE crm.checklist_item SET done_at = crm.now(), done_by = 'all';
UPDATE crm.deal SET stage_id = 90012 WHERE stage_id = 90011 AND id IN (SELECT card_id FROM crm.deal_link WHERE deal_id BETWEEN 100001 AND 102000);
UPDATE crm.deal SET stage_id = 90013 WHERE stage_id = 90012;
SELECT stage_id, count(*) FROM crm.deal WHERE name = 'many' GROUP BY 1;
-- refused
\set VERBOSITY terse
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90001, 'hand_over', '{"funnel": "nope"}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90001, 'hand_over', '{"funnel": "test_store", "stage": "done"}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90001, 'hand_over', '{"funnel": "test_store", "checklist": [1]}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90001, 'hand_over', '{"funnel": "test_store", "return_won": "nope"}');
ROLLBACK;
