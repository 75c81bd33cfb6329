-- Whatever goes wrong with a rule, the fact stays and the trouble is a row; only what ends a statement or has it tried again is raised.
\set VERBOSITY sqlstate
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
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
CREATE SCHEMA message_fact;
GRANT USAGE ON SCHEMA message_fact TO crm_owner;
-- an audience that does what the event's number says
CREATE FUNCTION message_fact.readers(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint) LANGUAGE plpgsql STABLE AS $$
DECLARE
	n text;
BEGIN
	FOR n IN SELECT e.data ->> 'number' FROM crm.event e WHERE e.id = ANY (event_ids) ORDER BY e.id LOOP
		IF n ~ '^[0-9A-Z]{5}$' THEN
			RAISE EXCEPTION USING ERRCODE = n, MESSAGE = 'the audience raises ' || n;
		ELSIF n = 'assert' THEN
			ASSERT false, 'an assertion of the audience';
		ELSIF n = 'sleep' THEN
			PERFORM pg_sleep(30);
		END IF;
	END LOOP;
	RETURN QUERY SELECT e.id, c.id FROM crm.event e JOIN crm.contact c ON c.company_id = e.company_id WHERE e.id = ANY (event_ids);
END $$;
SELECT crm.register_audience('message_fact', 'message_fact.readers', 'test');
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '+79161234567');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', 'Заказ {{number}}'), ('forms', 'sms', 'ru', '{{number}} {{number|вагон|вагона|вагонов}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('plain', 'thing.done', 'message_fact', 'sms', 'done');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, throttle_count, throttle_interval)
VALUES ('throttled', 'thing.done', 'message_fact', 'sms', 'done', 1000, '1 hour');
-- the number has no form of a word: this text cannot be filled
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template) VALUES ('forms', 'thing.done', 'data->>''number'' ~ ''^a''', 'message_fact', 'sms', 'forms');
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template) VALUES ('divides', 'thing.done', '1 / (object_id - 7) > 0', 'message_fact', 'sms', 'done');
CREATE FUNCTION pg_temp.facts(VARIADIC numbers text[]) RETURNS bigint LANGUAGE sql AS $$
	WITH f AS (INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
		SELECT 'thing.done', 'thing', CASE WHEN n = 'zero' THEN 7 ELSE 7 + i END, (SELECT max(id) FROM crm.company), jsonb_build_object('number', n)
		FROM unnest(numbers) WITH ORDINALITY AS x(n, i) RETURNING 1)
	SELECT count(*) FROM f $$;
CREATE VIEW pg_temp.shown AS
	SELECT e.data ->> 'number' AS number, r.code, coalesce(s.reason, 'queued') AS what, s.words
	FROM crm.event e
	JOIN (SELECT event_id, rule_id, reason, words FROM crm.message_skip UNION ALL SELECT event_id, rule_id, NULL, NULL FROM crm.message_body) s ON s.event_id = e.id
	JOIN crm.rule r ON r.id = s.rule_id;
\echo alone: no such column, a division, a broken lock, an assertion, an internal error
SAVEPOINT s;
SELECT pg_temp.facts('42703');
SELECT pg_temp.facts('55P03');
SELECT pg_temp.facts('assert');
SELECT pg_temp.facts('XX000');
SELECT pg_temp.facts('zero');
SELECT * FROM pg_temp.shown ORDER BY number, code;
SELECT r.code, s.reason, s.words FROM crm.message_skip s JOIN crm.rule r ON r.id = s.rule_id WHERE s.words LIKE 'condition:%';
SELECT severity, subject, message FROM crm.health WHERE subject LIKE 'rule %' ORDER BY 2, 3;
ROLLBACK TO s;
\echo in a set: only the culprit is left out
SELECT pg_temp.facts('a1', '42703', 'assert', 'a2');
SELECT * FROM pg_temp.shown ORDER BY code, number;
ROLLBACK TO s;
\echo raised: cancel, no memory, deadlock, serialization failure, an error of the disk
SELECT pg_temp.facts('a1', '57014');
SELECT pg_temp.facts('53200');
SELECT pg_temp.facts('40P01');
SELECT pg_temp.facts('a1', '40001');
SELECT pg_temp.facts('58030');
SET LOCAL statement_timeout = '200ms';
SELECT pg_temp.facts('sleep');
SET LOCAL statement_timeout = 0;
SELECT count(*) FROM crm.event WHERE kind = 'thing.done';
\echo a throttled set of 20000 readers takes no room among the locks
ROLLBACK TO s;
DELETE FROM crm.rule WHERE code IN ('plain', 'forms', 'divides');
UPDATE crm.rule SET throttle_count = 1 WHERE code = 'throttled';
WITH c AS (INSERT INTO crm.contact (company_id, name) SELECT :company, 'Reader ' || i FROM generate_series(1, 20000) i RETURNING id)
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT id, 'phone', '+7916' || lpad((row_number() OVER ())::text, 7, '0') FROM c;
SELECT pg_temp.facts('a1');
SELECT pg_temp.facts('a2');
SELECT number, what, count(*) FROM pg_temp.shown GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) < 1000 AS few FROM pg_locks WHERE pid = pg_backend_pid() AND locktype <> 'relation';
ROLLBACK;
