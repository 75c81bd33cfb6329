-- claim 15: deals move by what happened, once for one cause, and a late fact moves nothing backwards
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
SELECT crm.register_event_kind(k, 'deal', '{}', k, k) FROM unnest('{test.loaded,test.departed,test.arrived,test.noise}'::text[]) k;
INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id)
SELECT f.id, v.kind, s.id FROM crm.funnel f, (VALUES ('test.loaded', 'loading'), ('test.departed', 'on_the_way'), ('test.arrived', 'delivered')) AS v(kind, stage), crm.stage s
WHERE f.code = 'delivery' AND s.funnel_id = f.id AND s.code = v.stage;
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, f.id, 'deal ' || g FROM crm.funnel f, generate_series(90001, 90006) g WHERE f.code = 'delivery';
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'agreed') WHERE id <> 90006;
SELECT crm.set_now('2026-11-24 12:00+03', 0);
-- one fact, one deal
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90001, 'test.loaded', 'deal', 90001, '2026-11-24 11:00+03');
-- several facts of one deal in one statement, in the wrong order: the earliest first
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES
	(90012, 'test.arrived', 'deal', 90002, '2026-11-24 11:50+03'), (90011, 'test.departed', 'deal', 90002, '2026-11-24 11:20+03'),
	(90010, 'test.loaded', 'deal', 90002, '2026-11-24 11:10+03'), (90013, 'test.noise', 'deal', 90002, '2026-11-24 11:15+03'),
	(90014, 'test.loaded', 'deal', 90003, '2026-11-24 11:30+03');
-- the arrival is known first, the departure comes late: nothing goes backwards
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90020, 'test.arrived', 'deal', 90003, '2026-11-24 11:55+03');
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90021, 'test.departed', 'deal', 90003, '2026-11-24 11:35+03');
-- a move that is not allowed does not happen and is no error
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90030, 'test.arrived', 'deal', 90006, '2026-11-24 11:55+03');
-- the next truck of the same order, later in time, moves a delivered deal back to loading
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90040, 'test.loaded', 'deal', 90002, '2026-11-24 11:58+03');
SELECT deal_id, from_stage, to_stage, at, event_id, event_kind FROM crm.deal_history WHERE from_stage IS NOT NULL AND event_id IS NOT NULL ORDER BY deal_id, stage_log_id;
-- each move tells its cause
SELECT object_id, data ->> 'to_stage' AS to_stage, cause_id, at FROM crm.event WHERE kind = 'deal.moved' AND cause_id IS NOT NULL ORDER BY object_id, id;
-- switched off
UPDATE crm.funnel SET enabled = false WHERE code = 'delivery';
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90050, 'test.loaded', 'deal', 90004, '2026-11-24 11:58+03');
UPDATE crm.funnel SET enabled = true WHERE code = 'delivery';
UPDATE crm.deal_move_rule SET enabled = false WHERE event_kind = 'test.loaded';
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90051, 'test.loaded', 'deal', 90004, '2026-11-24 11:58+03');
UPDATE crm.deal_move_rule SET enabled = true;
SELECT s.code FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.id = 90004;
-- moved by hand afterwards: the log names no event
SELECT crm.move(90001, 'agreed');
SELECT stage_event_id, stage_at FROM crm.deal WHERE id = 90001;
-- many facts after few, in linear time
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, f.id, 'many' FROM crm.funnel f, generate_series(100001, 110000) g WHERE f.code = 'delivery';
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'agreed') WHERE name = 'many';
SET LOCAL statement_timeout = '60s';
INSERT INTO crm.event (kind, object_kind, object_id, at) SELECT 'test.loaded', 'deal', id, '2026-11-24 11:59+03' FROM crm.deal WHERE name = 'many';
SET LOCAL statement_timeout = 0;
SELECT s.code, count(*) FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.name = 'many' GROUP BY 1;
-- a fact that is rolled back moves nothing
SAVEPOINT fact;
INSERT INTO crm.event (id, kind, object_kind, object_id, at) VALUES (90060, 'test.loaded', 'deal', 90005, '2026-11-24 11:58+03');
ROLLBACK TO fact;
SELECT count(*) FROM crm.stage_log WHERE event_id = 90060;
-- without activation no deal moves
SELECT crm.deactivate();
INSERT INTO crm.event (id, kind, object_kind, object_id, at, known_at) VALUES (90061, 'test.loaded', 'deal', 90005, '2026-11-24 11:58+03', '2026-11-24 12:00+03');
SELECT s.code FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.id = 90005;
ROLLBACK;
