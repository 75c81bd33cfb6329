-- claim 16: crm.selftest() finds what was broken, by a load past the triggers too; each thing is broken and found.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
-- nothing is broken before activation
SELECT promise, ok, evidence FROM crm.selftest() WHERE NOT ok;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['tonnes'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '8 916 123-45-67');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', 'done');
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template) VALUES ('done', 'thing.done', '(data->>''tonnes'')::numeric > 1', 'company_contacts', 'sms', 'done') RETURNING id AS rule \gset
INSERT INTO crm.deal (funnel_id, name) SELECT id, 'a deal' FROM crm.funnel WHERE code = 'delivery' RETURNING id AS deal \gset
SELECT crm.set_now('2026-11-24 09:01Z', 0);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 1, :company, '{"tonnes": 5}'), ('thing.done', 'thing', 2, :company, '{"tonnes": 1}');
SELECT id AS message, event_id AS event FROM crm.message_body \gset
INSERT INTO crm.message_result (message_id, state) VALUES (:message, 'delivered');
SELECT promise, ok FROM crm.selftest() ORDER BY 1;
CREATE FUNCTION pg_temp.found() RETURNS TABLE (promise text, evidence text) LANGUAGE sql AS $$
	SELECT s.promise, regexp_replace(s.evidence, '(message|batch|process|events|deal|integration|stands at|\.id at|'',) -?\d+', '\1 N', 'g') FROM crm.selftest() s WHERE NOT s.ok $$;
SAVEPOINT whole;

-- loaded with session_replication_role = replica: an event, a reference to nobody, a rule, a deal
SET LOCAL session_replication_role = replica;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 3, :company, '{"tonnes": 7}'), ('thing.done', 'thing', 4, :company, '{"tonnes": 1}');
SET LOCAL session_replication_role = origin;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
INSERT INTO crm.contact (company_id, name) VALUES (-5, 'Nobody''s');
SET LOCAL session_replication_role = origin;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.rule SET channel = 'email' WHERE id = :rule;
UPDATE crm.template SET body = 'changed' WHERE code = 'done';
SET LOCAL session_replication_role = origin;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
SET LOCAL session_replication_role = replica;
UPDATE crm.deal SET stage_id = (SELECT id FROM crm.stage WHERE code = 'agreed') WHERE id = :deal;
SET LOCAL session_replication_role = origin;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;

-- a restore that was not whole: ends, tries and keys whose message is not there
INSERT INTO crm.message_result (message_id, state) VALUES (-1, 'failed');
INSERT INTO crm.message_attempt (message_id, attempt, outcome, integration_id) VALUES (-2, 1, 'sent', :gate);
INSERT INTO crm.message_key (rule_id, object_kind, object_id, cause, contact_id, message_id) VALUES (:rule, 'thing', 9, '', :ivan, -3);
INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at) VALUES (-4, :gate, 1, crm.now());
INSERT INTO crm.message_timer (message_id, step, due_at) VALUES (-5, 1, crm.now());
INSERT INTO crm.message_flight_1 (message_id, integration_id, attempt, due_ms) VALUES (-6, :gate, 1, 1);
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
-- two ends, in different months
INSERT INTO crm.message_result (message_id, state, at) VALUES (:message, 'failed', '2026-12-01 09:00Z');
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
-- rows of a dead courier
INSERT INTO crm.lease (integration_id, generation, pid) VALUES (:gate, 1, -1);
INSERT INTO crm.message_lease (integration_id, ids, pid, started) VALUES (:gate, '{[1,2)}', -1, 1);
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;

-- triggers: off, gone, gone from a partition
ALTER TABLE crm.event DISABLE TRIGGER event_1_message;
DROP TRIGGER append_only ON crm.message_body;
DO $$ BEGIN EXECUTE format('DROP TRIGGER append_only ON crm.event_%s', to_char(crm.now(), 'YYYYMM')); END $$;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
-- a key that is gone, one that is not validated
ALTER TABLE crm.contact DROP CONSTRAINT contact_company_id_fkey;
ALTER TABLE crm.contact ADD CONSTRAINT contact_company_id_fkey FOREIGN KEY (company_id) REFERENCES crm.company (id) NOT VALID;
ALTER TABLE crm.contact_point DROP CONSTRAINT contact_point_contact_id_fkey;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
-- a partition, an index of one
DO $$ BEGIN
	EXECUTE format('DROP TABLE crm.message_attempt_%s', to_char(crm.now() + interval '1 month', 'YYYYMM'));
	EXECUTE format('DROP INDEX crm.message_result_%s_message_id_idx', to_char(crm.now(), 'YYYYMM'));
END $$;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
-- sequences: one of a table, and the one of messages
SELECT last_value AS numbers FROM crm.message_number \gset
SELECT last_value AS contacts FROM crm.contact_id_seq \gset
SELECT setval('crm.contact_id_seq', 1, false);
SELECT setval('crm.message_number', 1, false);
SELECT * FROM pg_temp.found();
SELECT setval('crm.message_number', :numbers) = :numbers, setval('crm.contact_id_seq', :contacts) = :contacts; -- no rollback does it
ROLLBACK TO whole;
-- owners, paths, rights
ALTER FUNCTION crm.why(bigint) RESET search_path;
ALTER FUNCTION crm.forget(bigint) OWNER TO CURRENT_USER;
ALTER TABLE crm.rule OWNER TO crm_head;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
GRANT SELECT ON crm.contact_point TO PUBLIC;
GRANT EXECUTE ON FUNCTION crm.forget(bigint) TO PUBLIC;
GRANT UPDATE ON crm.event TO crm_eval;
GRANT CREATE ON SCHEMA crm_bi TO crm_head;
DO $$ BEGIN EXECUTE format('GRANT SELECT ON crm.event_%s TO crm_manager', to_char(crm.now(), 'YYYYMM')); END $$;
SELECT promise, regexp_replace(evidence, '_\d{6}', '_MONTH', 'g') FROM pg_temp.found();
ROLLBACK TO whole;
-- roles
ALTER ROLE crm_bi_reader BYPASSRLS;
ALTER ROLE crm_owner LOGIN;
ALTER ROLE crm_courier CONNECTION LIMIT -1;
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
-- a look that fails is a row, and hides no other
SELECT crm.register_hook('selftest', 'broken', 'crm.no_such_function');
SELECT * FROM pg_temp.found();
ROLLBACK TO whole;
SELECT * FROM pg_temp.found();
ROLLBACK;
