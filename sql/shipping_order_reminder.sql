-- Time to place an order: a contact's own schedule; silent where the order is there already (claim 52).
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 06:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
CREATE FUNCTION pg_temp.leave() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT t.recipient || ': ' || regexp_replace(t.body, 'http\S+', 'LINK') FROM crm.outbox_take((SELECT id FROM crm.integration WHERE name = 'gate'), 100) t ORDER BY t.message_id $$;
CREATE FUNCTION pg_temp.at(moment timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.set_now(moment, 0);
	PERFORM crm.courier_due(1);
	RETURN QUERY SELECT pg_temp.leave();
END $$;
INSERT INTO crm.company (id, name) VALUES (901, 'Бетон'), (902, 'Stroy');
INSERT INTO crm.contact (id, company_id, name, language, time_zone) VALUES (901, 901, 'Иван', NULL, NULL), (902, 902, 'Anna', 'en', 'Asia/Yekaterinburg'), (903, NULL, 'Nobody', NULL, NULL);
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '+79161234561'), (902, 'phone', '+79161234562');
SELECT crm.set_order_schedule(903, 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0');
SELECT crm.set_order_schedule(901, 'FREQ=DAILY');
SELECT crm.set_order_schedule(901, 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0', 'Moscow');
SELECT crm.set_order_schedule(901, 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0', hours => 0);
SELECT crm.set_order_schedule(901, 'FREQ=WEEKLY;BYDAY=TU,TH,FR;BYHOUR=10;BYMINUTE=0') > 0, crm.set_order_schedule(902, 'FREQ=WEEKLY;BYDAY=TU,TH;BYHOUR=10;BYMINUTE=0', hours => 24) > 0;
-- the zone is the contact's own, else the company's
SELECT code, zone, next_at FROM crm.schedule ORDER BY 1;
-- ten o'clock in Moscow: once, and only there
SELECT pg_temp.at('2026-11-24 06:59:59Z');
SELECT pg_temp.at('2026-11-24 07:00Z');
SELECT pg_temp.at('2026-11-24 07:00:30Z');
-- Thursday: the order came at 9:50, so the reminder of 10:00 is cancelled and says why
SELECT crm.set_now('2026-11-26 06:50Z', 0);
INSERT INTO crm.customer_order (number, company_id, contact_id, product, tonnes) VALUES ('N-1', 901, 901, 'Цемент', 20);
SELECT pg_temp.at('2026-11-26 07:00Z');
SELECT m.state, m.last_error FROM crm.message m WHERE m.rule = 'order.reminder' ORDER BY m.id;
-- a cancelled order is none
UPDATE crm.customer_order SET state = 'cancelled';
SELECT pg_temp.at('2026-11-27 07:00Z');
-- Friday 1 January is a day off
SELECT pg_temp.at('2026-12-31 07:00Z');
SELECT next_at FROM crm.schedule WHERE contact_id = 901;
-- switched off by its door, and by the rule's row
SELECT crm.set_order_schedule(901, NULL) > 0;
SELECT pg_temp.at('2027-01-12 07:00Z');
SELECT crm.set_order_schedule(901, 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0') > 0;
UPDATE crm.rule SET switched = false WHERE code = 'order.reminder';
SELECT pg_temp.at('2027-01-13 07:00Z');
UPDATE crm.rule SET switched = NULL WHERE code = 'order.reminder';
SELECT pg_temp.at('2027-01-14 07:00Z');
SELECT language, p.body, p.encoding, p.parts FROM unnest(ARRAY['ru', 'en']) language,
	LATERAL crm.template_preview('order.reminder', (SELECT max(id) FROM crm.event WHERE kind = 'order.reminder'), language) p WHERE p.channel = 'sms';
ROLLBACK;
