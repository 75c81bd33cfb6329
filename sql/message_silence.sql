-- Why nothing came: crm.why_not() for each reason there is, consent to advertising among them.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number', 'tonnes'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1}') AS gate \gset
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name) VALUES (:company, 'Иван') RETURNING id AS ivan \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:ivan, 'phone', '8 916 123-45-67');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', '{{number}}'), ('done', 'email', 'ru', '{{number}}');
CREATE FUNCTION pg_temp.rule(rest text, number text DEFAULT 'N-1', tonnes integer DEFAULT 1) RETURNS text LANGUAGE plpgsql AS $$
DECLARE event bigint; who bigint; words text;
BEGIN
	DELETE FROM crm.rule WHERE code = 'tried';
	INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('tried', 'thing.done', 'company_contacts', 'sms', 'done');
	EXECUTE format('UPDATE crm.rule SET %s WHERE code = ''tried''', rest);
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
	SELECT 'thing.done', 'thing', nextval('pg_temp.number'), c.id, jsonb_build_object('number', number, 'tonnes', tonnes) FROM crm.company c WHERE c.name = 'ООО Бетон' RETURNING id INTO event;
	SELECT id INTO who FROM crm.contact WHERE name = 'Иван';
	RETURN regexp_replace(crm.why_not(event, who), '(message|contact|company_id =|object_id =) \d+', '\1 N', 'g');
END $$;
CREATE TEMP SEQUENCE number;
-- condition, with what it names only
SELECT pg_temp.rule('condition = $c$ (data ->> ''tonnes'')::numeric > 10 AND object_kind = ''thing'' $c$');
SELECT pg_temp.rule('condition = $c$ (data ->> ''absent'') = ''x'' $c$');
SELECT pg_temp.rule('condition = $c$ company_id IS NULL $c$');
-- off
SELECT pg_temp.rule('enabled = false');
SELECT pg_temp.rule('switched = false');
-- consent
SELECT pg_temp.rule('quiet_kind = ''advertising''');
INSERT INTO crm.consent (contact_id, purpose, given_at, wording) VALUES (:ivan, 'processing', '2026-11-01 00:00Z', 'yes');
SELECT pg_temp.rule('quiet_kind = ''advertising''');
INSERT INTO crm.consent (contact_id, purpose, given_at, wording) VALUES (:ivan, 'advertising', '2026-11-01 00:00Z', 'yes');
SELECT pg_temp.rule('quiet_kind = ''advertising''');
UPDATE crm.consent SET withdrawn_at = '2026-11-20 00:00Z';
SELECT pg_temp.rule('quiet_kind = ''advertising''');
SELECT severity, regexp_replace(message, 'contact [0-9]+', 'contact N') FROM crm.health WHERE subject = 'rule tried';
-- nobody carries it, no address, an empty text, a text too long
SELECT pg_temp.rule('channel = ''email''');
SELECT pg_temp.rule('integration = ''nobody''');
SELECT pg_temp.rule('enabled = true', '');
SELECT pg_temp.rule('enabled = true', repeat('длинно ', 200));
UPDATE crm.contact_point SET state = 'invalid';
SELECT pg_temp.rule('enabled = true');
UPDATE crm.contact_point SET state = 'unknown';
-- an hour, an end before it
SELECT pg_temp.rule('delay = ''1 day''');
SELECT pg_temp.rule('delay = ''1 day'', expires_after = ''1 hour''');
SELECT crm.set_now('2026-11-24 22:00Z', 0);
SELECT pg_temp.rule('quiet = ''respect''');
SELECT pg_temp.rule('quiet = ''respect'', expires_after = ''1 hour''');
-- the provider's refusal, its silence; no report
CREATE FUNCTION pg_temp.answer(outcome text, words text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE m record;
BEGIN
	PERFORM crm.outbox_take(id, 100) FROM crm.integration;
	PERFORM pg_temp.rule('quiet = ''urgent''');
	SELECT t.message_id, i.id, b.event_id, b.contact_id INTO m FROM crm.integration i, crm.outbox_take(i.id, 1) t JOIN crm.message_body b ON b.id = t.message_id;
	PERFORM crm.outbox_result(m.id, ARRAY[m.message_id], ARRAY[outcome], NULL, ARRAY[words]);
	RETURN regexp_replace(crm.why_not(m.event_id, m.contact_id), 'message \d+', 'message N', 'g');
END $$;
SELECT pg_temp.answer('failed', '403 Not routable. Do not try again.');
SELECT pg_temp.answer('uncertain', 'timeout: no answer');
SELECT pg_temp.answer('sent', NULL);
SELECT pg_temp.answer('delivered', NULL);
-- an archived contact
UPDATE crm.contact SET archived_at = '2026-11-24 21:00Z';
SELECT pg_temp.rule('enabled = true');
ROLLBACK;
