-- claim 64: what is no longer true is not said: truth is asked again when a message is about to leave, and the reason is kept.
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
SELECT crm.register_event_kind('thing.near', 'thing', ARRAY['number'], 'A thing is near', 'Близко');
SELECT crm.register_event_kind('thing.here', 'thing', ARRAY['number'], 'A thing is here', 'Здесь');
CREATE TABLE crm.thing_test (id bigint PRIMARY KEY, state text);
GRANT SELECT ON crm.thing_test TO crm_eval;
CREATE FUNCTION crm.thing_test_is(state text, id bigint) RETURNS boolean LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT EXISTS (SELECT FROM crm.thing_test t WHERE t.id = $2 AND t.state = $1) $$;
SELECT crm.register_truth('thing', 'crm.thing_test_is', 'State of a thing');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3}') AS gate \gset
CREATE FUNCTION pg_temp.take(gate bigint, n integer) RETURNS TABLE (body text, attempt integer) LANGUAGE sql AS
	$$ SELECT t.body, t.attempt FROM crm.outbox_take(gate, n) t $$;
CREATE FUNCTION pg_temp.settle(gate bigint, bodies text[], outcome text, provider text DEFAULT NULL, words text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(b.id ORDER BY b.id), array_agg(outcome), array_agg(provider || b.body), array_agg(words))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.last_error FROM crm.message m;
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '+79161234567');
INSERT INTO crm.template (code, channel, language, body) VALUES ('near', 'sms', 'ru', 'near {{number}}'), ('here', 'sms', 'ru', 'here {{number}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, truth, priority) VALUES
	('near', 'thing.near', 'company_contacts', 'sms', 'near', 'crm.thing_test_is(''near'', object_id)', 2),
	('here', 'thing.here', 'company_contacts', 'sms', 'here', NULL, 2);
-- in order: both
INSERT INTO crm.thing_test VALUES (1, 'near');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.near', 'thing', 1, :company, '{"number": 1}');
SELECT * FROM pg_temp.take(:gate, 10);
UPDATE crm.thing_test SET state = 'here';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.here', 'thing', 1, :company, '{"number": 1}');
SELECT * FROM pg_temp.take(:gate, 10);
-- arrived before the first message could leave
INSERT INTO crm.thing_test VALUES (2, 'near');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.near', 'thing', 2, :company, '{"number": 2}');
UPDATE crm.thing_test SET state = 'here' WHERE id = 2;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.here', 'thing', 2, :company, '{"number": 2}') RETURNING id AS e \gset
SELECT * FROM pg_temp.take(:gate, 10);
SELECT body, state, last_error FROM crm.message ORDER BY id;
-- a retry asks again
INSERT INTO crm.thing_test VALUES (3, 'near');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.near', 'thing', 3, :company, '{"number": 3}') RETURNING id AS e \gset
SELECT * FROM pg_temp.take(:gate, 10);
SELECT pg_temp.settle(:gate, ARRAY['near 3'], 'retry', NULL, '503');
UPDATE crm.thing_test SET state = 'here' WHERE id = 3;
SELECT pg_sleep(0.05);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT regexp_replace(crm.why_not(:e, :ivan), 'message \d+', 'message N');
-- expiry by the business clock
SELECT count(crm.send('sms', '+79161234567', 'late', expires_after => '10 minutes'));
SELECT crm.set_now('2026-11-24 09:10Z', 0);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT body, state, last_error FROM crm.message WHERE body = 'late';
ROLLBACK;
