-- claim 47: each shipped rule about shipments: its message once, none where it must not go, a preview with parts.
-- By vehicle at once; by wagon one message for those of half an hour; a digest of vehicles by a switch. Channel by reader
-- and by place, the reader's own quiet hours.
\getenv abs_srcdir PG_ABS_SRCDIR
\set setup :abs_srcdir '/test/data/robots.sql'
\set ECHO none
\i :setup
\set ECHO all
INSERT INTO crm.company (id, name) VALUES (901, 'ООО Бетон');
INSERT INTO crm.contact (id, company_id, name, language, channel, time_zone) VALUES (901, 901, 'Иван', NULL, NULL, NULL), (902, 901, 'Anna', 'en', 'telegram', NULL),
	(903, 901, 'Пётр', NULL, 'email', 'Asia/Kamchatka'), (904, 901, 'Nobody', NULL, NULL, NULL);
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '+79161234561'), (902, 'phone', '+79161234562'), (902, 'telegram', '4002'), (903, 'email', 'petr@example.com'), (903, 'phone', '+79161234563');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, no_internet) VALUES (901, 'Завод', 'plant', 37, 55, 500, false), (902, 'Объект', 'unloading', 37.5, 55, 400, false), (903, 'Карьер', 'unloading', 38.5, 55, 400, true);
INSERT INTO crm.vehicle (id, plate) SELECT 900 + i, 'А00' || i || 'ВС77' FROM generate_series(1, 9) i;
INSERT INTO crm.wagon (id, number) SELECT 900 + i, (60000000 + i)::text FROM generate_series(1, 12) i;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product) VALUES (901, 'N-1', 901, 901, 902, 'цемент'), (902, 'N-2', 901, 902, 902, 'cement'), (903, 'N-3', 901, 903, 902, 'цемент'),
	(904, 'N-4', 901, 904, 902, 'цемент'), (905, 'N-5', 901, 902, 903, 'cement');
\echo -- by vehicle: in the transaction of the weighing, by the channel of the reader; not twice, not for one without an address
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill, source, source_id) SELECT 900 + i, 900 + i, 14000, 34000, 'W-' || i, 'erp', 's' || i FROM generate_series(1, 4) i;
SELECT rule, state, channel FROM crm.message ORDER BY id;
SELECT pg_temp.leave();
UPDATE crm.shipment SET waybill = 'W-1a' WHERE source_id = 's1';
SELECT pg_temp.leave();
SELECT DISTINCT reason FROM crm.message_skip;
\echo -- rolled back: neither
SAVEPOINT a;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill) VALUES (901, 905, 14000, 34000, 'W-5');
ROLLBACK TO a;
SELECT pg_temp.leave();
\echo -- a place without internet: SMS, though she prefers the chat
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill) VALUES (905, 906, 14000, 34000, 'W-6');
SELECT pg_temp.leave();
\echo -- 23:30 in Moscow is 08:30 in Kamchatka: one waits for his morning, the other does not
SELECT crm.set_now('2026-11-24 20:30Z', 0) IS NOT NULL;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill) VALUES (901, 907, 14000, 34000, 'W-7'), (903, 908, 14000, 34000, 'W-8');
SELECT pg_temp.leave();
SELECT pg_temp.at('2026-11-25 04:59:59Z');
SELECT pg_temp.at('2026-11-25 05:00Z');
\echo -- wagons of one client: nothing at each, one message for all after half an hour, nothing after it
INSERT INTO crm.shipment (order_id, wagon_id, tare_kg, gross_kg, waybill, weighed_at) SELECT 901, 900 + i, 22000, 90000, 'ЭТ-1', crm.now() FROM generate_series(1, 12) i;
SELECT pg_temp.at('2026-11-25 05:29Z');
SELECT pg_temp.at('2026-11-25 05:30Z');
SELECT pg_temp.at('2026-11-25 06:30Z');
SELECT crm.why(max(id)) LIKE '%It tells event%' FROM crm.message;
\echo -- the digest of vehicles in the place of the message at once
UPDATE crm.rule SET switched = code = 'shipment.loaded.digest' WHERE code IN ('shipment.loaded', 'shipment.loaded.digest');
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill) SELECT 901, 901 + i, 14000, 34000, 'V-' || i FROM generate_series(1, 3) i;
SELECT pg_temp.leave();
SELECT pg_temp.at('2026-11-25 07:30Z');
UPDATE crm.rule SET switched = false WHERE code LIKE 'shipment.%';
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill) VALUES (901, 905, 14000, 34000, 'V-9');
SELECT pg_temp.at('2026-11-25 10:00Z');
\echo -- how they read
SELECT r.code, pg_temp.previews(r.code) FROM crm.rule r WHERE r.code LIKE 'shipment.%' AND r.code <> 'shipment.loaded.wagon' ORDER BY r.id;
SELECT promise FROM crm.selftest() WHERE NOT ok AND promise NOT LIKE 'sequences%';
ROLLBACK;
