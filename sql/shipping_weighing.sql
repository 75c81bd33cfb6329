-- claim 47: a weighing is a shipment, an event and a trip in one transaction; rolled back it leaves none of them
\set ON_ERROR_STOP 1
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'Europe/Moscow';
SET LOCAL datestyle = 'ISO';
SELECT crm.set_now('2026-05-01 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy'), (2, 'Beton');
INSERT INTO crm.contact (id, company_id, name) VALUES (1, 1, 'Anna'), (2, 2, 'Boris');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (1, 'Plant', 'plant', 37, 55, 500), (2, 'Site', 'unloading', 37.5, 55, 300), (3, 'Depot', 'unloading', 37.5, 55.3, 300);
INSERT INTO crm.vehicle (id, plate, driver) VALUES (1, 'a 123 bc-77', 'Petrov'), (2, 'В001ОР 77', NULL);
SELECT plate_key FROM crm.vehicle ORDER BY id;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product, tonnes, price, window_from)
VALUES (1, 'A-1', 1, 1, 2, 'Cement M500', 20, 5100.50, '2026-05-01 15:00+03'), (2, 'A-2', 1, 1, 2, 'Cement M400', 10, NULL, NULL), (3, 'B-1', 2, 2, 3, 'Sand', 15, NULL, NULL);
SELECT kind, object_id, company_id, jsonb_pretty(data) FROM crm.event WHERE kind = 'order.created' AND object_id = 1;

-- Rolled back: nothing.
SAVEPOINT s;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill) VALUES (1, 1, 14000, 34000, 'TTN-1');
SELECT count(*) AS shipments, (SELECT count(*) FROM crm.trip) AS trips, (SELECT count(*) FROM crm.event WHERE kind = 'shipment.loaded') AS events FROM crm.shipment;
ROLLBACK TO s;
SELECT count(*) AS shipments, (SELECT count(*) FROM crm.trip) AS trips, (SELECT count(*) FROM crm.event WHERE kind = 'shipment.loaded') AS events FROM crm.shipment;

-- The tare alone is no load; the gross makes it one.
INSERT INTO crm.shipment (id, order_id, vehicle_id, tare_kg, weighed_at, waybill) VALUES (1, 1, 1, 14000, '2026-05-01 10:00+03', 'TTN-1');
SELECT count(*) AS events FROM crm.event WHERE kind = 'shipment.loaded';
UPDATE crm.shipment SET gross_kg = 34000, weighed_at = '2026-05-01 10:30+03' WHERE id = 1;
SELECT product, net_kg, trip_id IS NOT NULL AS has_trip FROM crm.shipment;
SELECT at, company_id, data - 'shipment_id' - 'trip_id' AS data FROM crm.event WHERE kind = 'shipment.loaded';
SELECT vehicle_id, company_id, origin_place_id, destination_place_id, state, loaded_at FROM crm.trip;
-- Weighed again, and an update of nothing: no second event.
UPDATE crm.shipment SET gross_kg = 34100 WHERE id = 1;
UPDATE crm.shipment SET waybill = waybill WHERE false;
UPDATE crm.shipment SET gross_kg = NULL, net_kg = NULL WHERE id = 1;
UPDATE crm.shipment SET gross_kg = 34050 WHERE id = 1;
SELECT count(*) AS events, (SELECT net_kg FROM crm.shipment WHERE id = 1) FROM crm.event WHERE kind = 'shipment.loaded';

-- A second order for the same place, weighed on top: the same trip. Another place: another trip of the same vehicle.
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (2, 1, 34050, 44050, '2026-05-01 12:10+03');
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (3, 1, 44050, 47050, '2026-05-01 12:20+03');
SELECT t.company_id, t.destination_place_id, t.loaded_at, string_agg(o.number, ',' ORDER BY o.number) AS orders
FROM crm.trip t JOIN crm.trip_order x ON x.trip_id = t.id JOIN crm.customer_order o ON o.id = x.order_id GROUP BY t.id ORDER BY t.id;
SELECT data->>'order_number' AS orders, data->>'product' AS products, data->>'tonnes' AS tonnes FROM (SELECT crm.trip_data(id) AS data FROM crm.trip ORDER BY id) x;

-- A day of weighings in one statement: each round is a trip of its own, by its own tare.
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at)
SELECT 1, 2, 14000 + i, 34000 + i, '2026-05-01 01:00+03'::timestamptz + i * interval '2 hours' FROM generate_series(0, 3) i;
SELECT count(*) AS trips, count(DISTINCT loaded_at) AS rounds FROM crm.trip WHERE vehicle_id = 2;

-- By wagon: no trip.
INSERT INTO crm.wagon (id, number) VALUES (1, '52456789');
INSERT INTO crm.shipment (order_id, wagon_id, tare_kg, gross_kg) VALUES (3, 1, 23000, 91000);
SELECT data->>'wagon_number' AS wagon, data->>'tonnes' AS tonnes, data->>'trip_id' AS trip FROM crm.event WHERE kind = 'shipment.loaded' ORDER BY id DESC LIMIT 1;

-- Storno before it left: the trip is none any more.
UPDATE crm.shipment SET cancelled_at = crm.now() WHERE order_id = 3 AND vehicle_id = 1;
SELECT state, count(*) FROM crm.trip GROUP BY state ORDER BY state;

-- Positions that came before the weighing count: it has left already when the ERP tells.
INSERT INTO crm.vehicle (id, plate) VALUES (3, 'C 333');
SELECT crm.put_positions(array_fill(3::bigint, ARRAY[40]), array_agg('2026-05-01 11:00+03'::timestamptz + i * interval '1 minute'), array_agg(37 + greatest(0, i - 20) * 0.004), array_fill(55::float8, ARRAY[40])) FROM generate_series(1, 40) i;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (1, 3, 14000, 34000, '2026-05-01 11:15+03');
SELECT state, departed_at, round(departed_error_s) AS error_s FROM crm.trip WHERE vehicle_id = 3;
-- Weighed late but before the departure: it joins.
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (2, 3, 34000, 36000, '2026-05-01 11:18+03');
SELECT count(*) AS trips, max(loaded_at) FROM crm.trip WHERE vehicle_id = 3;

-- Who hears of it, and which deals move.
SELECT e.kind, c.contact_id FROM crm.event e JOIN crm.order_contact(ARRAY(SELECT id FROM crm.event)) c ON c.event_id = e.id GROUP BY 1, 2 ORDER BY 1, 2;
SELECT crm.trip_is(id, '{departed}') AS departed, crm.trip_is(id, '{arrived,unloaded}') AS arrived FROM crm.trip WHERE vehicle_id = 3;
SELECT crm.wagon_number_ok('52456789') AS bad, crm.wagon_number_ok('5245678') AS short, count(*) AS one_digit_fits FROM generate_series(0, 9) i WHERE crm.wagon_number_ok('5245678' || i);
SELECT promise, ok FROM crm.selftest() WHERE promise ~ 'trip|passage|shipment' ORDER BY 1;
ROLLBACK;

-- Not activated: facts are kept, nothing follows.
BEGIN;
SET LOCAL client_min_messages = warning;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
INSERT INTO crm.vehicle (id, plate) VALUES (1, 'A 1');
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (1, 'A-1', 1, 'Cement');
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg) VALUES (1, 1, 14000, 34000);
SELECT count(*) AS shipments, (SELECT count(*) FROM crm.trip) AS trips, (SELECT count(*) FROM crm.event) AS events FROM crm.shipment;
ROLLBACK;
