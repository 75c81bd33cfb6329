-- claim 94: a stage speaks by a rule of its own, and calls a function of the DBA's with that one's rights; one cause does each once
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-26 15:00+03', 0);
SELECT crm.add_integration('test_sms', 'sms_kannel', 'http://127.0.0.1:13013/', '{"sender": "CEMENT"}', 'user:pass') IS NOT NULL AS sms;
INSERT INTO crm.company (id, name) VALUES (90001, 'Рога');
INSERT INTO crm.contact (id, company_id, name) VALUES (90001, 90001, 'Иван'), (90002, 90001, 'Пётр');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '+79161234567'), (90002, 'phone', '+79161234568');
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test', 'Проба', 'Test');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position", is_won) VALUES (90001, 90001, 'new', 'Новая', 'New', 10, false), (90002, 90001, 'offer', 'КП', 'Offer', 20, false), (90003, 90001, 'won', 'Успех', 'Won', 40, true);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) VALUES (90001, 90001, 90002), (90001, 90002, 90003), (90001, 90002, 90001);
INSERT INTO crm.template (code, channel, language, body) VALUES ('test.offer', 'sms', 'ru', '{{contact_name}}, {{stage_ru}} по сделке «{{deal}}» на {{amount}} руб.');
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90001, 90001, 90002, 'message', '{"template": "test.offer"}');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT event_kind, condition, audience, channel, template, truth FROM crm.rule WHERE code = 'stage_action.90001';
-- the deal's contact; without one every contact of the company. A value that looks like a template stays a value
INSERT INTO crm.deal (id, funnel_id, name, company_id, contact_id, amount) VALUES (90001, 90001, '{{amount}}', 90001, 90002, 100), (90002, 90001, 'Цемент', 90001, NULL, 200);
UPDATE crm.deal SET stage_id = 90002 WHERE id IN (90001, 90002);
SELECT contact_id, object_id, body FROM crm.message WHERE rule = 'stage_action.90001' ORDER BY object_id, contact_id;
-- the same entry again says nothing; another entry is another cause
SELECT crm.stage_action_do(90001, ARRAY[l.deal_id], ARRAY[l.id]) FROM crm.stage_log l WHERE l.deal_id = 90001 AND l.to_stage_id = 90002;
SELECT count(*) FROM crm.message WHERE rule = 'stage_action.90001' AND object_id = 90001;
SELECT crm.move(90001, 'new'), crm.move(90001, 'offer');
SELECT count(*) FROM crm.message WHERE rule = 'stage_action.90001' AND object_id = 90001;
-- elsewhere before it could leave: its truth is gone
SELECT crm.deal_in_stage(90001, 90002), crm.move(90001, 'won');
SELECT crm.deal_in_stage(90001, 90002);
-- changed: so is the rule; another action: it goes
UPDATE crm.stage_action SET settings = '{"template": "test.offer", "audience": "company_contacts"}', on_leave = 'keep' WHERE id = 90001;
SELECT audience, truth, version FROM crm.rule WHERE code = 'stage_action.90001';
\set VERBOSITY terse
UPDATE crm.stage_action SET settings = '{"template": "test.offer", "audience": "nobody"}' WHERE id = 90001;
UPDATE crm.stage_action SET settings = '{"text": "x"}' WHERE id = 90001;
UPDATE crm.template SET body = 'Сделка {{nope}}' WHERE code = 'test.offer';
\set VERBOSITY default
DELETE FROM crm.stage_action WHERE id = 90001;
SELECT count(*) FROM crm.rule WHERE code = 'stage_action.90001';

-- a function of the DBA's
CREATE TABLE crm.test_told (n integer GENERATED ALWAYS AS IDENTITY, who name, deals bigint[]);
CREATE ROLE test_integrator ROLE postgres;
GRANT crm_integrator TO test_integrator;
GRANT INSERT ON crm.test_told TO test_integrator;
CREATE SCHEMA test_own;
GRANT USAGE ON SCHEMA test_own TO crm_owner;
CREATE FUNCTION test_own.act(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN INSERT INTO crm.test_told (who, deals) VALUES (current_user, deal_ids); END $$;
\set VERBOSITY terse
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90002, 90001, 90002, 'function', '{"function": "test_own.act"}');
ALTER FUNCTION test_own.act(bigint[], bigint, bigint[]) OWNER TO test_integrator;
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90002, 90001, 90002, 'function', '{"function": "test_own.nope"}');
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90002, 90001, 90002, 'function', '{"function": "test_own.act"}');
\set VERBOSITY default
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, 90001, 'f' FROM generate_series(90011, 90013) g;
UPDATE crm.deal SET stage_id = 90002 WHERE name = 'f';
SELECT who, deals FROM crm.test_told;
ROLLBACK;
