-- Messages whose hour has come are taken in the order of their hours and numbers; one that comes late, due before those that were taken, is taken too.
\pset format unaligned
\pset tuples_only on
\set ON_ERROR_ROLLBACK on
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
CREATE FUNCTION pg_temp.take(gate bigint, n integer) RETURNS TABLE (body text) LANGUAGE sql AS $$ SELECT t.body FROM crm.outbox_take(gate, n) t ORDER BY t.message_id $$;
CREATE FUNCTION pg_temp.say(words text[], at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. cardinality(words) LOOP PERFORM crm.send('sms', '+79161234567', words[i], not_before => at); END LOOP;
END $$;
SELECT pg_temp.say(ARRAY['a1', 'a2', 'a3', 'a4'], '2026-11-24 10:00Z'), pg_temp.say(ARRAY['b1', 'b2'], '2026-11-24 09:30Z'), pg_temp.say(ARRAY['late'], '2026-11-24 09:20Z'), pg_temp.say(ARRAY['c'], '2026-11-24 12:00Z');
CREATE TEMP TABLE late AS SELECT d.* FROM crm.message_delayed d JOIN crm.message_body b ON b.id = d.message_id AND b.body = 'late';
DELETE FROM crm.message_delayed d USING late l WHERE l.message_id = d.message_id;
SELECT * FROM pg_temp.take(:gate, 10);
SELECT crm.set_now('2026-11-24 11:00Z', 0);
SELECT * FROM pg_temp.take(:gate, 3);
SELECT * FROM pg_temp.take(:gate, 2);
SELECT delayed_at FROM crm.queue_retry_from(:gate);
INSERT INTO crm.message_delayed SELECT * FROM late;
-- found by the next look from the beginning: ten times as long after the last as that took
SELECT pg_sleep(0.5);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT crm.set_now('2026-11-24 12:30Z', 0);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT count(*) FROM crm.message_delayed;
ROLLBACK;
