-- claim 47: the weighing's message is queued in its own transaction
-- claim 48: the client hears that the vehicle left
-- claim 64: a series never contradicts itself: what is no longer true when it would leave is cancelled, with the reason
-- The shipped rules, three vehicles on one road: fixes in order, in reverse one by one, all at once.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
UPDATE crm.rule SET enabled = code IN ('shipment.loaded', 'trip.departed', 'trip.approaching', 'trip.arrived');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
INSERT INTO crm.company (id, name) VALUES (901, 'Stroy');
INSERT INTO crm.contact (id, company_id, name, language) SELECT 900 + i, 901, 'Anna ' || i, 'en' FROM generate_series(1, 3) i;
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT 900 + i, 'phone', '+7916123456' || i FROM generate_series(1, 3) i;
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500), (902, 'Site 4', 'unloading', 37.5, 55, 400);
INSERT INTO crm.vehicle (id, plate) SELECT 900 + i, 'A 00' || i || ' AA' FROM generate_series(1, 3) i;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product, tonnes) SELECT 900 + i, 'N-' || i, 901, 900 + i, 902, 'Cement', 20 FROM generate_series(1, 3) i;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill, weighed_at) SELECT 900 + i, 900 + i, 14000, 34000, 'W' || i, '2026-05-05 08:01Z' FROM generate_series(1, 3) i;

CREATE FUNCTION pg_temp.leave(gate bigint) RETURNS text LANGUAGE sql AS
$$ SELECT string_agg(t.body, E'\n' ORDER BY t.message_id) FROM crm.outbox_take(gate, 100) t $$;
CREATE FUNCTION pg_temp.drive(gate bigint, vehicle bigint, fixes integer[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	k integer;
	said text;
BEGIN
	FOREACH k IN ARRAY fixes LOOP
		PERFORM crm.put_positions(ARRAY[vehicle], ARRAY['2026-05-05 08:00Z'::timestamptz + k * interval '30 seconds'],
			ARRAY[least(37.5, 37 + greatest(0, k - 5) * 0.01)], ARRAY[55.0]);
		said := pg_temp.leave(gate);
		IF said IS NOT NULL THEN
			RETURN NEXT 'fix ' || k || ': ' || said;
		END IF;
	END LOOP;
END $$;
SELECT pg_temp.leave(:gate) AS loaded;
SELECT pg_temp.drive(:gate, 901, ARRAY(SELECT generate_series(1, 60))) AS in_order;
SELECT pg_temp.drive(:gate, 902, ARRAY(SELECT generate_series(60, 1, -1))) AS in_reverse;
SELECT crm.put_positions(array_fill(903::bigint, ARRAY[60]), array_agg('2026-05-05 08:00Z'::timestamptz + k * interval '30 seconds'),
	array_agg(least(37.5, 37 + greatest(0, k - 5) * 0.01)), array_fill(55::float8, ARRAY[60])) FROM generate_series(1, 60) k;
SELECT pg_temp.leave(:gate) AS at_once;
-- Once more, and late: nothing more is said.
SELECT count(*) FROM pg_temp.drive(:gate, 901, ARRAY(SELECT generate_series(1, 60)));

SELECT m.recipient, e.kind, e.data->>'at_local' AS at, e.data->>'eta' AS eta, m.state, m.last_error
FROM crm.message m JOIN crm.event e ON e.id = m.event_id ORDER BY m.recipient, e.at, e.kind;
SELECT count(*) AS vehicles, state, departed_at::timestamptz(0), approaching_at::timestamptz(0), arrived_at::timestamptz(0) FROM crm.trip GROUP BY 2, departed_at, approaching_at, arrived_at;
ROLLBACK;
