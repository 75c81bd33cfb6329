-- claim 13: two presets, each with a funnel that works, eight notices and more, and the report; a second call overwrites nothing
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
\set VERBOSITY terse
SELECT crm.setup('cement_plant');
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
SELECT crm.setup('pizza');
\set VERBOSITY default
UPDATE crm.rule SET switched = false WHERE code = 'deal.won';
SELECT * FROM crm.setup('cement_plant');
SELECT * FROM crm.setup('storage');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT f.code, c.severity, c.message FROM crm.funnel f, crm.check_funnel(f.code) c;
-- a deal walks through the cement plant's funnel
INSERT INTO crm.employee (id, name) VALUES (90001, 'Manager');
INSERT INTO crm.company (id, name, owner_id) VALUES (90001, 'Рога', 90001);
INSERT INTO crm.deal (id, funnel_id, name, company_id, owner_id, amount, tonnes) SELECT v.id, f.id, 'М500', 90001, 90001, 100000, 20 FROM (VALUES (90001, 'cement_sales'), (90002, 'storage_sales')) AS v(id, code) JOIN crm.funnel f USING (code);
SELECT crm.move(90001, s) FROM unnest('{need,offer,contract,supply,won}'::text[]) s;
SELECT t.name, t.due_at, t.state FROM crm.task t JOIN crm.deal_activity a ON a.object_kind = 'task' AND a.object_id = t.id AND a.deal_id = 90001 ORDER BY t.id;
SELECT kind, state FROM crm.document WHERE object_kind = 'deal' AND object_id = 90001;
-- and one through the store's: handed over, three items, and back
SELECT crm.move(90002, s) FROM unnest('{talk,offer,signing,contract}'::text[]) s;
SELECT c.funnel, c.stage, c.items, c.open_items, d.name FROM crm.deal_card c JOIN crm.deal d ON d.id = c.card_id WHERE c.deal_id = 90002;
UPDATE crm.checklist_item SET done_at = crm.now(), done_by = 'test';
SELECT crm.move(l.card_id, s) FROM crm.deal_link l, unnest('{fetch,place,stored}'::text[]) s;
SELECT s.code FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.id = 90002;
-- what was changed stays changed
UPDATE crm.stage SET name_ru = 'Звонок' WHERE code = 'lead' AND funnel_id = (SELECT id FROM crm.funnel WHERE code = 'cement_sales');
UPDATE crm.stage_action SET enabled = false WHERE action = 'document';
UPDATE crm.rule SET switched = false WHERE code = 'task.added';
SELECT what, state, count(*) FROM crm.setup('cement_plant') GROUP BY 1, 2 ORDER BY 1, 2;
SELECT (SELECT count(*) FROM crm.funnel WHERE code = 'cement_sales') AS funnels, (SELECT name_ru FROM crm.stage WHERE code = 'lead' AND funnel_id = (SELECT id FROM crm.funnel WHERE code = 'cement_sales')) AS stage,
	(SELECT count(*) FROM crm.stage_action WHERE action = 'document' AND enabled) AS documents, (SELECT switched FROM crm.rule WHERE code = 'task.added') AS rule;
SELECT count(*) >= 8 AS notices FROM crm.setup('storage') WHERE what = 'rule' AND state = 'on';
ROLLBACK;
