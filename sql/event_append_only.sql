-- Events are append-only on the table and on its partitions; kinds and objects are checked; nothing is before activation.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
INSERT INTO crm.event (kind, object_kind, object_id, data) VALUES ('thing.done', 'thing', 1, '{"number": 7}');
SELECT kind, object_kind, object_id, at, known_at, business_date, data, source FROM crm.event;
UPDATE crm.event SET object_id = 2;
DELETE FROM crm.event;
TRUNCATE crm.event;
UPDATE crm.event_202611 SET object_id = 2;
DELETE FROM crm.event_202611;
TRUNCATE crm.event_202611;
INSERT INTO crm.event (kind, object_kind, object_id) VALUES ('thing.undone', 'thing', 1);
INSERT INTO crm.event (kind, object_kind, object_id) VALUES ('thing.done', 'trip', 1);
\set VERBOSITY terse
INSERT INTO crm.event (kind, object_kind, object_id, data) VALUES ('thing.done', 'thing', 1, '[1]');
\set VERBOSITY default
-- a statement without rows, and a set in which one is wrong
INSERT INTO crm.event (kind, object_kind, object_id) SELECT 'thing.done', 'thing', 1 WHERE false;
INSERT INTO crm.event (kind, object_kind, object_id) SELECT CASE WHEN i = 500 THEN 'thing.bad' ELSE 'thing.done' END, 'thing', i FROM generate_series(1, 1000) i;
SELECT count(*) FROM crm.event;
-- no key, index or row trigger on the parent
SELECT count(*) FROM pg_index WHERE indrelid = 'crm.event'::regclass;
SELECT crm.set_now('2026-11-20', 0);
ROLLBACK;
-- asleep: a restore may bring rows whose kinds are not registered yet
BEGIN;
SELECT crm.make_partitions('crm.event', now(), now());
INSERT INTO crm.event (kind, object_kind, object_id) VALUES ('thing.unknown', 'thing', 1);
SELECT kind FROM crm.event;
ROLLBACK;
