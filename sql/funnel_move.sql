-- claim 15: a funnel is not a status column: a forbidden jump raises, a log row exists, the conversion moves
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.company (id, name) VALUES (90001, 'one');
INSERT INTO crm.deal (id, funnel_id, company_id, name) SELECT g, f.id, 90001, 'deal ' || g FROM crm.funnel f, generate_series(90001, 90003) g WHERE f.code = 'delivery';
SELECT crm.move(90001, 'agreed') AS moved, crm.move(90001, 'agreed') AS again;
-- refused: both stages named, and the moves that are allowed
SELECT crm.move(90001, 'delivered');
SELECT crm.move(90001, 'nope');
SELECT crm.move(NULL, 'agreed');
SELECT crm.move(1, NULL);
-- plain UPDATE is judged the same way, of one row and of many
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'closed') WHERE id = 90002;
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'loading') WHERE id IN (90001, 90002, 90003);
\set VERBOSITY sqlstate
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'closed') WHERE id = 90002;
UPDATE crm.deal SET stage_id = -1 WHERE id = 90002;
UPDATE crm.deal SET stage_id = NULL WHERE id = 90002;
UPDATE crm.deal SET funnel_id = -1 WHERE id = 90002;
INSERT INTO crm.deal (funnel_id, name) VALUES (-1, 'x');
INSERT INTO crm.deal (funnel_id, stage_id, name) SELECT id, -1, 'x' FROM crm.funnel;
MERGE INTO crm.deal d USING (SELECT id FROM crm.stage WHERE code = 'closed') s ON d.id = 90002 WHEN MATCHED THEN UPDATE SET stage_id = s.id;
\set VERBOSITY default
SELECT crm.set_now('2026-11-24 11:00+03', 0);
UPDATE crm.deal SET stage_id = (SELECT s.id FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = 'delivery' AND s.code = 'lost') WHERE id = 90002;
SELECT d.id, s.code, d.stage_at, d.closed_at FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id ORDER BY d.id;
-- reopened: open again
SELECT crm.move(90002, 'new');
SELECT d.id, d.closed_at FROM crm.deal d WHERE d.id = 90002;
-- statements that touch no stage, and no row, log nothing
UPDATE crm.deal SET name = name || '!';
UPDATE crm.deal SET stage_id = stage_id WHERE false;
MERGE INTO crm.deal d USING (SELECT 1) s ON false WHEN MATCHED THEN UPDATE SET name = 'x';
INSERT INTO crm.deal (id, funnel_id, name) SELECT 90001, funnel_id, 'x' FROM crm.deal WHERE id = 90001 ON CONFLICT (id) DO UPDATE SET stage_id = (SELECT id FROM crm.stage WHERE code = 'loading');
SELECT deal_id, from_stage, to_stage, at, stayed, is_current, event_kind FROM crm.deal_history ORDER BY deal_id, stage_log_id;
SELECT object_id, data ->> 'from_stage' AS from_, data ->> 'to_stage_ru' AS to_, company_id = 90001 AS company FROM crm.event WHERE kind = 'deal.moved' ORDER BY id;
SELECT from_stage, to_stage, moves, deals FROM crm.funnel_conversion;
-- history is never rewritten, by nobody
UPDATE crm.stage_log SET at = at;
DELETE FROM crm.stage_log;
TRUNCATE crm.stage_log;
-- what ships is switched off, not deleted; what is saved is checked
DELETE FROM crm.move_allowed;
DELETE FROM crm.funnel;
UPDATE crm.move_allowed m SET enabled = false FROM crm.stage s WHERE s.id = m.to_stage_id AND s.code = 'lost';
SELECT crm.move(90003, 'lost');
SELECT crm.ship_funnel();
SELECT count(*) AS still_off FROM crm.move_allowed WHERE NOT enabled;
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'other', 'Другая', 'Other');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position") VALUES (90001, 90001, 'start', 'Начало', 'Start', 1), (90002, 90001, 'end', 'Конец', 'End', 2);
\set VERBOSITY sqlstate
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) SELECT 90001, 90001, id FROM crm.stage WHERE code = 'new';
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'no.such', 90002);
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id) VALUES (90001, 'deal.moved', 90002);
INSERT INTO crm.deal (funnel_id, stage_id, name) SELECT 90001, id, 'x' FROM crm.stage WHERE code = 'new';
UPDATE crm.deal SET stage_id = 90001 WHERE id = 90001;
\set VERBOSITY default
INSERT INTO crm.deal (id, funnel_id, name) VALUES (90010, 90001, 'dead end');
SELECT crm.move(90010, 'end');
-- a session that moved one deal moves many in linear time
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, f.id, 'many' FROM crm.funnel f, generate_series(100001, 110000) g WHERE f.code = 'delivery';
SET LOCAL statement_timeout = '60s';
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'agreed') WHERE name = 'many';
SET LOCAL statement_timeout = 0;
SELECT count(*) FROM crm.stage_log WHERE deal_id > 100000;
-- without activation nothing is logged and no event is emitted: a restore brings its own
SELECT crm.deactivate();
INSERT INTO crm.deal (id, funnel_id, stage_id, name) SELECT 90011, f.id, s.id, 'restored' FROM crm.funnel f JOIN crm.stage s ON s.funnel_id = f.id AND s.code = 'loading' WHERE f.code = 'delivery';
SELECT count(*) FROM crm.stage_log WHERE deal_id = 90011;
ROLLBACK;
