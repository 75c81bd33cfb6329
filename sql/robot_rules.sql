-- claims 47 to 56 and 74: the rules that ship, what each hears, whom it tells, how, and when; each has texts in both languages
-- for each of its channels that fit its event. A rule that is added or changed shows here; its tests: robot_*, shipping_*.
\getenv abs_srcdir PG_ABS_SRCDIR
\set setup :abs_srcdir '/test/data/robots.sql'
\set ECHO none
\i :setup
\set ECHO all
SELECT r.code, r.event_kind, r.audience, r.channel, (SELECT string_agg(DISTINCT t.channel, '+' ORDER BY t.channel) FROM crm.template t WHERE t.code = r.template AND r.channel IN (t.channel, 'auto')) AS texts,
	r.priority, r.quiet, r.digest, r.expires_after, r.enabled, r.broken
FROM crm.rule r WHERE r.shipped ORDER BY r.code;
\echo -- channels without a text in one of the languages
SELECT r.code, t.channel FROM crm.rule r JOIN crm.template t ON t.code = r.template AND r.channel IN (t.channel, 'auto') WHERE r.shipped GROUP BY 1, 2 HAVING count(*) <> 2;
\echo -- urgent ones go at any hour; a digest goes in the hours of its reader, unless its rule says urgent
INSERT INTO crm.company (id, name) VALUES (901, 'ООО Бетон');
INSERT INTO crm.contact (id, company_id, name) VALUES (901, 901, 'Иван');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '+79161234561');
INSERT INTO crm.customer_order (id, number, company_id, contact_id, product) VALUES (901, 'N-1', 901, 901, 'цемент');
INSERT INTO crm.wagon (id, number) VALUES (901, '60000001'), (902, '60000002');
SELECT crm.set_now('2026-11-24 20:00Z', 0) IS NOT NULL;
INSERT INTO crm.shipment (order_id, wagon_id, tare_kg, gross_kg, waybill, weighed_at) VALUES (901, 901, 22000, 90000, 'ЭТ-1', crm.now());
SELECT pg_temp.at('2026-11-24 20:30Z');
SELECT pg_temp.at('2026-11-25 05:00Z');
UPDATE crm.rule SET quiet = 'urgent' WHERE code = 'shipment.loaded.wagon';
SELECT crm.set_now('2026-11-25 20:00Z', 0) IS NOT NULL;
INSERT INTO crm.shipment (order_id, wagon_id, tare_kg, gross_kg, waybill, weighed_at) VALUES (901, 902, 22000, 90000, 'ЭТ-2', crm.now());
SELECT pg_temp.at('2026-11-25 20:30Z');
ROLLBACK;
