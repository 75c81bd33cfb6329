-- Quiet hours are the reader's own, in IANA zones; a message that would wake at night waits, or expires in words.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 20:30Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 3}') AS gate \gset
CREATE FUNCTION pg_temp.take(gate bigint, n integer) RETURNS TABLE (body text, attempt integer) LANGUAGE sql AS
	$$ SELECT t.body, t.attempt FROM crm.outbox_take(gate, n) t $$;
CREATE FUNCTION pg_temp.settle(gate bigint, bodies text[], outcome text, provider text DEFAULT NULL, words text DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
	SELECT crm.outbox_result(gate, array_agg(b.id ORDER BY b.id), array_agg(outcome), array_agg(provider || b.body), array_agg(words))
	FROM crm.message_body b WHERE b.body = ANY (bodies) $$;
CREATE VIEW pg_temp.shown AS SELECT m.body, m.state, m.attempts, m.provider_id, m.last_error FROM crm.message m;
-- kind, zone, moment: from, until
SELECT k, z, a, h.from_at, h.until_at FROM (VALUES
	('service', 'Europe/Moscow', timestamptz '2026-11-24 04:59:59Z'),
	('service', 'Europe/Moscow', '2026-11-24 05:00Z'),
	('service', 'Europe/Moscow', '2026-11-24 18:59:59Z'),
	('service', 'Europe/Moscow', '2026-11-24 19:00Z'),
	('service', 'Asia/Kamchatka', '2026-11-24 09:00Z'),
	('service', 'Asia/Kolkata', '2026-11-24 02:00Z'),
	('advertising', 'Europe/Moscow', '2026-11-27 18:30Z'),
	('advertising', 'Europe/Moscow', '2026-11-28 06:30Z'),
	('advertising', 'Europe/Moscow', '2026-11-29 17:00Z'),
	('service', 'Europe/Berlin', '2026-03-28 22:00Z'),
	('service', 'Europe/Berlin', '2026-10-24 21:00Z'),
	('service', 'America/New_York', '2026-11-01 05:30Z')) v(k, z, a), crm.open_hours(k, z, a) h;
-- over midnight: a lorry park that answers at night
UPDATE crm.quiet_hours SET from_time = '20:00', to_time = '06:00' WHERE kind = 'advertising';
SELECT a, h.from_at, h.until_at FROM (VALUES (timestamptz '2026-11-24 16:59Z'), ('2026-11-24 17:00Z'), ('2026-11-24 23:00Z'), ('2026-11-25 02:59Z'), ('2026-11-25 03:00Z')) v(a), crm.open_hours('advertising', 'Europe/Moscow', a) h;
SELECT * FROM crm.open_hours('service', 'Europe/Moscow', 'infinity');
SELECT * FROM crm.open_hours('service', 'Nowhere/Land', '2026-11-24');
-- 23:30 in Moscow, 05:30 in Kamchatka (+12: 08:30)
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.contact (company_id, name, time_zone) VALUES (:company, 'Москва', NULL), (:company, 'Камчатка', 'Asia/Kamchatka');
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT id, 'phone', CASE name WHEN 'Москва' THEN '+79161234567' ELSE '+79161234568' END FROM crm.contact WHERE company_id = :company;
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', '{{number}} {{contact_name}}');
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template, quiet, expires_after) VALUES
	('respect', 'thing.done', 'object_id = 1', 'company_contacts', 'sms', 'done', 'respect', NULL),
	('urgent', 'thing.done', 'object_id = 2', 'company_contacts', 'sms', 'done', 'urgent', NULL),
	('short', 'thing.done', 'object_id = 3', 'company_contacts', 'sms', 'done', 'respect', '3 hours');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', i, :company, jsonb_build_object('number', i) FROM generate_series(1, 3) i;
SELECT body, state, not_before, expires_at, last_error FROM crm.message ORDER BY body;
SELECT * FROM pg_temp.take(:gate, 10) ORDER BY 1;
-- the delay of a rule ends in the night too
SELECT crm.message_deadline(ARRAY[:gate]::bigint[]) IS NULL;
SELECT crm.set_now('2026-11-25 04:59:59Z', 0);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT crm.set_now('2026-11-25 05:00Z', 0);
SELECT crm.message_deadline(ARRAY[:gate]::bigint[]) <= crm.monotonic_ms();
SELECT * FROM pg_temp.take(:gate, 10);
SELECT count(*) FROM crm.message_delayed;
-- in the queue when the hours end: it waits for the morning, or expires
SELECT crm.set_now('2026-11-25 18:59Z', 0);
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 1, :company, '{"number": 11}'), ('thing.done', 'thing', 3, :company, '{"number": 13}');
SELECT crm.set_now('2026-11-25 19:01Z', 0);
SELECT * FROM pg_temp.take(:gate, 10);
SELECT body, state, not_before, last_error FROM crm.message WHERE body LIKE '1_ %' ORDER BY body;
SELECT crm.set_now('2026-11-26 05:00:01Z', 0);
SELECT * FROM pg_temp.take(:gate, 10);
-- by hand: any hour unless asked, and not before a time
SELECT crm.set_now('2026-11-26 20:00Z', 0);
SELECT count(crm.send('sms', '+79161234567', 'now')), count(crm.send('sms', '+79161234567', 'morning', quiet => 'respect')),
	count(crm.send('sms', '+79161234567', 'at ten', not_before => '2026-11-27 07:00Z')),
	count(crm.send('sms', '+79161234567', 'never', quiet => 'respect', expires_after => '1 hour'));
SELECT body, state, not_before FROM crm.message WHERE queued_at = crm.now() ORDER BY body;
SELECT * FROM pg_temp.take(:gate, 10);
ROLLBACK;
