-- claim 47: tare and gross become one shipment in whatever order they come, also weighed again, cancelled, or before their order; what is missing is listed
\set ON_ERROR_STOP 1
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset null '-'
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2026-05-02 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (1, 'Plant', 'plant', 37, 55, 500), (2, 'Site', 'unloading', 37.5, 55, 300);
INSERT INTO crm.vehicle (id, plate) SELECT i, 'A ' || i FROM generate_series(1, 12) i;
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, source, source_id) VALUES (1, 'A-1', 1, 2, 'Cement', 'erp', 'o1'), (2, 'A-2', 1, 2, 'Sand', 'erp', 'o2');
-- one weighing: id there, vehicle, kind, kg, moment of 1 May, order, waybill, storno
CREATE FUNCTION pg_temp.w(id text, vehicle bigint, kind text, kg numeric, at text, ref text DEFAULT NULL, waybill text DEFAULT NULL, storno boolean DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT format('added %s changed %s same %s', p.added, p.changed, p.same)
	FROM crm.put_weighings('scales', ARRAY[$1], ARRAY[$2], ARRAY[$3], ARRAY[$4], ARRAY[('2026-05-01 ' || $5 || '+03')::timestamptz], ARRAY[$6], NULL, ARRAY[$7], ARRAY[$8]) p $$;
CREATE VIEW pg_temp.shipments AS
	SELECT s.vehicle_id AS v, o.number, trim_scale(s.tare_kg) AS tare, trim_scale(s.gross_kg) AS gross, trim_scale(s.net_kg) AS net, s.weighed_at, s.waybill, s.cancelled_at IS NOT NULL AS cancelled, t.state AS trip, s.source_id
	FROM crm.shipment s JOIN crm.customer_order o ON o.id = s.order_id LEFT JOIN crm.trip t ON t.id = s.trip_id ORDER BY s.vehicle_id, s.weighed_at, s.id;
CREATE VIEW pg_temp.listed AS SELECT o.vehicle_plate, o.kind, trim_scale(o.kg) AS kg, o.reason FROM crm.weighing_open o ORDER BY o.vehicle_plate, o.at;

\echo -- tare, then gross; the same again changes nothing
SELECT pg_temp.w('1t', 1, 'tare', 14000, '10:00', 'o1');
SELECT * FROM pg_temp.shipments;
SELECT * FROM pg_temp.listed;
SELECT pg_temp.w('1g', 1, 'gross', 34000, '10:40', 'o1', 'T-1');
SELECT pg_temp.w('1g', 1, 'gross', 34000, '10:40', 'o1', 'T-1');
\echo -- the gross comes before the tare, whatever the clock says; and a load that is weighed first
SELECT pg_temp.w('2g', 2, 'gross', 35000, '10:40', 'A-1'), pg_temp.w('2t', 2, 'tare', 15000, '10:00');
SELECT pg_temp.w('3g', 3, 'gross', 40000, '09:00', 'o2'), pg_temp.w('3t', 3, 'tare', 16000, '09:30');
SELECT * FROM pg_temp.shipments;
SELECT count(*) AS events FROM crm.event WHERE kind = 'shipment.loaded';
\echo -- weighed again: the last one counts, it is the same shipment, nobody is told twice
SELECT pg_temp.w('1g2', 1, 'gross', 34200, '10:55', 'o1', 'T-1'), pg_temp.w('1t2', 1, 'tare', 14020, '10:10');
SELECT * FROM pg_temp.shipments WHERE v = 1;
SELECT w.source_id, k.state, k.read_as FROM crm.weighing_pair k JOIN crm.weighing w ON w.id = k.weighing_id WHERE w.vehicle_id = 1 ORDER BY w.at;
SELECT count(*) AS events FROM crm.event WHERE kind = 'shipment.loaded' AND object_id = (SELECT id FROM crm.shipment WHERE vehicle_id = 1);
\echo -- storno of the second gross: the first one counts again; of that too: the shipment and its trip are cancelled; taken back: as before
SELECT pg_temp.w('1g2', 1, 'gross', 34200, '10:55', 'o1', 'T-1', true);
SELECT gross, cancelled, trip FROM pg_temp.shipments WHERE v = 1;
SELECT pg_temp.w('1g', 1, 'gross', 34000, '10:40', 'o1', 'T-1', true);
SELECT gross, cancelled, trip FROM pg_temp.shipments WHERE v = 1;
SELECT * FROM pg_temp.listed;
SELECT pg_temp.w('1g2', 1, 'gross', 34200, '10:55', 'o1', 'T-1', false);
SELECT gross, cancelled, trip FROM pg_temp.shipments WHERE v = 1;
\echo -- storno of the tare: dissolved, the gross is open; another tare: the same shipment
SELECT pg_temp.w('2t', 2, 'tare', 15000, '10:00', storno => true);
SELECT tare, gross, cancelled FROM pg_temp.shipments WHERE v = 2;
SELECT * FROM pg_temp.listed WHERE vehicle_plate = 'A 2';
SELECT pg_temp.w('2t9', 2, 'tare', 15100, '10:05');
SELECT tare, gross, cancelled FROM pg_temp.shipments WHERE v = 2;
\echo -- two rounds of a day whose first tare comes last: each gross keeps its shipment
SELECT pg_temp.w('4g1', 4, 'gross', 30000, '08:30', 'o1'), pg_temp.w('4g2', 4, 'gross', 31000, '11:30', 'o1');
SELECT pg_temp.w('4t2', 4, 'tare', 12000, '11:00');
SELECT * FROM pg_temp.listed WHERE vehicle_plate = 'A 4';
SELECT pg_temp.w('4t1', 4, 'tare', 12010, '08:00');
SELECT v, number, tare, gross, weighed_at, cancelled FROM pg_temp.shipments WHERE v = 4;
SELECT count(*) AS events FROM crm.event WHERE kind = 'shipment.loaded' AND object_id IN (SELECT id FROM crm.shipment WHERE vehicle_id = 4);
\echo -- scales that do not say what they weighed
SELECT pg_temp.w('5a', 5, NULL, 14000, '10:00', 'o1'), pg_temp.w('5b', 5, NULL, 14010, '10:04'), pg_temp.w('5c', 5, NULL, 34000, '10:30'), pg_temp.w('5d', 5, NULL, 33900, '10:35'), pg_temp.w('6a', 6, NULL, 14000, '10:00');
SELECT tare, gross FROM pg_temp.shipments WHERE v = 5;
SELECT * FROM pg_temp.listed WHERE vehicle_plate = 'A 6';
\echo -- no order, an order that comes later, one that only the plan of the vehicle knows
SELECT pg_temp.w('7t', 7, 'tare', 14000, '10:00'), pg_temp.w('7g', 7, 'gross', 34000, '10:40', 'late-1');
SELECT pg_temp.w('8t', 8, 'tare', 14000, '10:00'), pg_temp.w('8g', 8, 'gross', 34000, '10:40');
SELECT * FROM pg_temp.listed WHERE vehicle_plate IN ('A 7', 'A 8');
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (3, 'late-1', 1, 'Gravel');
INSERT INTO crm.trip (id, vehicle_id, company_id, state, loaded_at) VALUES (900, 8, 1, 'planned', '2026-05-01 09:00+03');
INSERT INTO crm.trip_order (trip_id, order_id) VALUES (900, 1), (900, 2);
SELECT crm.weighing_order(8, '2026-05-01 10:40+03', NULL) AS either, crm.weighing_order(8, '2026-05-01 10:40+03', 'sand') AS of_its_product;
DELETE FROM crm.trip_order WHERE trip_id = 900 AND order_id = 1;
UPDATE crm.weighing_pair SET tried_at = tried_at - interval '1 hour';
SELECT crm.weighing_maintain();
SELECT v, number, gross FROM pg_temp.shipments WHERE v IN (7, 8);
SELECT * FROM pg_temp.listed WHERE vehicle_plate IN ('A 7', 'A 8');
\echo -- a client was told of another order: that shipment ends, another begins; back again: the first one
SELECT pg_temp.w('7g', 7, 'gross', 34000, '10:40', 'o1');
SELECT number, gross, cancelled, source_id FROM pg_temp.shipments WHERE v = 7 ORDER BY source_id;
SELECT pg_temp.w('7g', 7, 'gross', 34000, '10:40', 'late-1');
SELECT number, gross, cancelled FROM pg_temp.shipments WHERE v = 7 ORDER BY source_id;
\echo -- what cannot be: a gross that is no heavier, orders that differ, too far apart; another plate
SELECT pg_temp.w('9t', 9, 'tare', 14000, '10:00'), pg_temp.w('9g', 9, 'gross', 13000, '10:40', 'o1');
SELECT pg_temp.w('10t', 10, 'tare', 14000, '10:00', 'o2'), pg_temp.w('10g', 10, 'gross', 34000, '10:40', 'o1');
SELECT pg_temp.w('11t', 11, 'tare', 14000, '00:10', 'o1'), pg_temp.w('11g', 11, 'gross', 34000, '12:20', 'o1');
SELECT * FROM pg_temp.listed WHERE vehicle_plate IN ('A 9', 'A 10', 'A 11');
SELECT pg_temp.w('11g', 12, 'gross', 34000, '12:20', 'o1'), pg_temp.w('12t', 12, 'tare', 14000, '12:00');
SELECT v, tare, gross FROM pg_temp.shipments WHERE v IN (11, 12);
\echo -- an hour later the vehicle is still inside the plant: weighed again; without a tracker it would be another load
SELECT crm.put_positions(array_fill(12::bigint, ARRAY[3]), ARRAY['2026-05-01 11:30+03', '2026-05-01 11:40+03', '2026-05-01 13:40+03']::timestamptz[], ARRAY[37, 37, 37], ARRAY[55, 55, 55]) AS positions;
SELECT pg_temp.w('12g2', 12, 'gross', 34400, '13:30', 'o1');
SELECT tare, gross FROM pg_temp.shipments WHERE v = 12;
\echo -- bad values, and the words of crm.health
\set ON_ERROR_STOP 0
SAVEPOINT s;
SELECT pg_temp.w('x', 1, 'tare', -5, '10:00');
ROLLBACK TO s;
SELECT pg_temp.w('x', 1, 'netto', 5, '10:00');
ROLLBACK TO s;
SELECT pg_temp.w('x', NULL, 'tare', 5, '10:00');
ROLLBACK TO s;
\set ON_ERROR_STOP 1
SELECT severity, message FROM crm.health WHERE subject = 'weighings';
SELECT promise, ok FROM crm.selftest() WHERE promise ~ 'weighing|shipment';
ROLLBACK;

\echo -- the door of the ERP
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2026-05-02 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
INSERT INTO crm.customer_order (id, number, company_id, product, source, source_id) VALUES (1, 'A-1', 1, 'Cement', 'erp', 'o1');
SELECT result, erp_id FROM crm_erp.put_weighing('W1', 'А 123 ВС 77', 'Тара', '14 000', '01.05.2026 10:00', 'o1');
SELECT result, erp_id FROM crm_erp.put_weighing('W1', 'a123bc77', 'tare', 14000, '2026-05-01 10:00'::timestamp);
INSERT INTO crm_erp.weighing_in (erp_id, vehicle, kind, kg, weighed_at, waybill) VALUES ('W2', 'А123ВС77', 'gross', '34000,5', '01.05.2026 10:40', 'T-1');
SELECT line, result, sqlstate, message FROM crm_erp.put_batch('[{"entity": "weighing", "erp_id": "W2", "waybill": "T-2"}, {"entity": "weighing", "erp_id": "W3", "kg": 5}, {"entity": "weighing", "erp_id": "W4", "vehicle": "B 1", "kg": 5, "kind": "half"}]');
SELECT o.number, s.tare_kg, s.gross_kg, s.waybill, v.plate FROM crm.shipment s JOIN crm.customer_order o ON o.id = s.order_id JOIN crm.vehicle v ON v.id = s.vehicle_id;
SELECT result FROM crm_erp.put_weighing('W2', storno => '1');
SELECT cancelled_at IS NOT NULL AS cancelled FROM crm.shipment;
ROLLBACK;
