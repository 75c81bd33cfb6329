-- claim 65: how long a notice took from the fix to the provider, message by message.
-- claim 76: what is on time and in full opens to the trips.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
BEGIN;
SELECT crm.set_now('2026-11-10 07:00+03', 0) IS NOT NULL AS moved;
SELECT crm.activate('off');
INSERT INTO crm.employee (id, name) VALUES (1, 'Anna');
INSERT INTO crm.company (id, name, owner_id) VALUES (1, 'Alpha', 1), (2, 'Carrier', NULL);
INSERT INTO crm.contact (id, company_id, name) VALUES (1, 1, 'Ivan');
INSERT INTO crm.place (id, company_id, name, lon, lat, radius_m, kind) VALUES (1, 1, 'Site', 37.6, 55.7, 300, 'unloading');
INSERT INTO crm.vehicle (id, plate, carrier_id) VALUES (1, 'A001AA77', 2), (2, 'A002AA77', NULL);
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, tonnes, price, ordered_at, window_from, window_to) VALUES
	(1, 'O-1', 1, 1, 'Cement', 25, 5000, '2026-11-09 09:00+03', '2026-11-10 10:00+03', '2026-11-10 12:00+03'),
	(2, 'O-2', 1, 1, 'Cement', 25, 5000, '2026-11-09 09:00+03', '2026-11-10 10:00+03', '2026-11-10 12:00+03');
INSERT INTO crm.shipment (id, order_id, vehicle_id, product, tare_kg, gross_kg, net_kg, weighed_at, waybill) VALUES
	(1, 1, 1, 'Cement', 15000, 40000, 25000, '2026-11-10 08:00+03', 'W-1'),
	(2, 2, 2, 'Cement', 15000, 40000, 25000, '2026-11-10 08:30+03', 'W-2');
SELECT crm.set_now('2026-11-10 12:40+03', 0) IS NOT NULL AS moved;
UPDATE crm.trip SET state = 'arrived', departed_at = '2026-11-10 08:10+03', departed_error_s = 7.5, approaching_at = '2026-11-10 11:50+03',
	arrived_at = '2026-11-10 12:20+03', arrived_error_s = 12 WHERE vehicle_id = 1;
UPDATE crm.trip SET state = 'departed', departed_at = '2026-11-10 08:40+03', eta = '2026-11-10 13:00+03', eta_at = '2026-11-10 12:39+03' WHERE vehicle_id = 2;
\x on
\echo a trip that arrived 20 minutes after its window, and one that is on its way
SELECT state, business_date, vehicle, carrier, client, employee, destination, orders, net_t, window_from, window_to, loaded_at, departed_at, departed_error_s,
	approaching_at, arrived_at, arrived_error_s, unloaded_at, way_minutes, unloading_minutes, late_minutes, fresh_to FROM crm_bi.trip ORDER BY vehicle;
SELECT state, vehicle, client, destination, orders, net_t, window_to, departed_at, eta, eta_at, minutes_left, late_minutes FROM crm_bi.trip_eta;
SELECT weighed_at, business_date, client, client_kind, employee, order_number, product, waybill, vehicle, place, gross_t, tare_t, net_t, price, amount FROM crm_bi.shipment WHERE shipment_id = 1;
\x off
\echo on time within the tolerance of 30 minutes; stricter from the day that a new row names
SELECT fact_id, fact_part, weight, details FROM crm.kpi_rows('otif', '2026-11-10', '2026-11-11');
INSERT INTO crm.kpi_parameter (code, valid_from, value, unit) VALUES ('otif_late_minutes', '2026-11-11', 0, 'min');
SELECT otif_pct, otif_hit, otif_due FROM crm.kpi_report('2026-11-10', '2026-11-11') WHERE level = 'total';
INSERT INTO crm.kpi_parameter (code, valid_from, value, unit) VALUES ('otif_late_minutes', '2026-11-10', 15, 'min');
SELECT otif_pct, otif_hit, otif_due FROM crm.kpi_report('2026-11-10', '2026-11-11') WHERE level = 'total';

\echo a notice: the fix at 12:20:00, known at 12:40:00, queued with it, at the provider at 12:40:01.5; one that waits
INSERT INTO crm.event (id, kind, object_kind, object_id, company_id, at, data)
SELECT 1000000, 'trip.arrived', 'trip', t.id, 1, t.arrived_at, '{"fix_at": "2026-11-10T09:20:00Z"}' FROM crm.trip t WHERE t.vehicle_id = 1;
INSERT INTO crm.message_body (id, integration_id, channel, recipient, body, language, company_id, contact_id, event_id, event_known_at, object_kind, object_id, segments)
SELECT 900001, 1, 'sms', '+79161234567', 'x', 'ru', 1, 1, 1000000, crm.now(), 'trip', t.id, 1 FROM crm.trip t WHERE t.vehicle_id = 1
UNION ALL SELECT 900002, 1, 'sms', '+79161234567', 'x', 'ru', 1, 1, 1000000, crm.now(), 'trip', t.id, 1 FROM crm.trip t WHERE t.vehicle_id = 1;
INSERT INTO crm.message_attempt (message_id, attempt, outcome, at, integration_id, provider_id) VALUES (900001, 1, 'sent', '2026-11-10 12:40:01.5+03', 1, 'p1');
INSERT INTO crm.message_result (message_id, state, at) VALUES (900001, 'delivered', '2026-11-10 12:40:09+03');
SELECT message_id, event_kind, channel, fix_at, known_at, queued_at, sent_at, held, poll_s, queue_s, send_s, total_s FROM crm_bi.notice_latency WHERE message_id IN (900001, 900002) ORDER BY 1;
SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY total_s) AS p95 FROM crm_bi.notice_latency WHERE message_id IN (900001, 900002);
SELECT message_id, business_date, state, channel, client, contact, object_kind, attempts, queued_at, sent_at, delivered_at FROM crm_bi.message WHERE message_id IN (900001, 900002) ORDER BY 1;
SELECT messages_delivered FROM crm.kpi_report('2026-11-10', '2026-11-11') WHERE level = 'employee';
SELECT fact_id, at, employee_name, company_name, details ~ '^channel sms; object_kind trip' AS details FROM crm.kpi_rows('messages_delivered', '2026-11-10', '2026-11-11');
SELECT count(*) FROM crm.kpi_reconcile('2026-11-10', '2026-11-11');
ROLLBACK;
