-- Bad input: orders, weighings, positions.  An error has its state, the value and a hint; a position is counted.
\set SHOW_CONTEXT never
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SET LOCAL datestyle = 'ISO';
SELECT crm.set_now('2026-05-01 12:00+00', 0) IS NOT NULL AS clock;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
INSERT INTO crm.vehicle (id, plate) VALUES (1, 'A 1');
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (1, 'A-1', 1, 'Cement');

CREATE FUNCTION pg_temp.try(statement text) RETURNS TABLE (state text, message text, hint text) LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement;
		state := 'ok';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	END;
	RETURN NEXT;
END $$;
\pset format unaligned
\pset tuples_only on
SELECT t.* FROM unnest(ARRAY[
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg) VALUES (1, 1, -14000, 34000)',
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg) VALUES (1, 1, 14000, ''NaN'')',
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg) VALUES (1, 1, 14000, 1e7)',
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg) VALUES (1, 1, 34000, 14000)',
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg) VALUES (1, 1, 14000, 14000)',
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, net_kg) VALUES (1, 1, 14000, 34000, 19000)',
	'INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (1, 1, 14000, 34000, ''infinity'')',
	'INSERT INTO crm.customer_order (number, company_id, product, tonnes) VALUES (''X'', 1, ''Cement'', -5)',
	'INSERT INTO crm.customer_order (number, company_id, product, tonnes) VALUES (''X'', 1, ''Cement'', ''NaN'')',
	'INSERT INTO crm.customer_order (number, company_id, product, price) VALUES (''X'', 1, ''Cement'', -1)',
	'INSERT INTO crm.customer_order (number, company_id, product, window_from, window_to) VALUES (''X'', 1, ''Cement'', ''2026-05-02'', ''2026-05-01'')',
	'INSERT INTO crm.customer_order (number, company_id, product, window_from) VALUES (''X'', 1, ''Cement'', ''-infinity'')',
	'INSERT INTO crm.customer_order (number, company_id, product, approach_km) VALUES (''X'', 1, ''Cement'', ''NaN'')',
	'INSERT INTO crm.customer_order (number, company_id, product, approach_minutes) VALUES (''X'', 1, ''Cement'', 0)',
	'INSERT INTO crm.vehicle (id, plate) VALUES (99, ''а1'')',
	'INSERT INTO crm.vehicle (plate) VALUES ('' - '')',
	'SELECT crm.put_positions(NULL, ''{}'', ''{}'', ''{}'')',
	'SELECT crm.put_positions(ARRAY[1], ''{}'', ''{}'', ''{}'')',
	'SELECT crm.put_positions(ARRAY[[1]], ARRAY[now()], ARRAY[1.0], ARRAY[1.0])',
	'SELECT crm.put_positions(ARRAY[1], ARRAY[now()], ARRAY[1.0], ARRAY[1.0], ARRAY[1.0, 2.0])',
	'SELECT crm.distance_m(181, 0, 0, 0)',
	'SELECT crm.distance_m(0, ''NaN'', 0, 0)',
	'SELECT crm.zones_changed()']) WITH ORDINALITY AS s(statement, n), LATERAL pg_temp.try(s.statement) t ORDER BY n;
\pset tuples_only off
\pset format aligned

-- Positions: the rest of the set goes on, nothing is lost uncounted.
SELECT crm.put_positions('{}', '{}', '{}', '{}') AS none;
SELECT crm.put_positions(
	ARRAY[1, 1, NULL, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 999, 1, 1],
	ARRAY['2026-05-01 11:00', '2026-05-01 11:00', '2026-05-01 11:00', NULL, '2026-05-01 11:01', '2026-05-01 11:02', '2026-05-01 11:03', '2026-05-01 11:04', '2026-05-01 11:05',
		'2026-05-01 12:11', '2026-05-01 12:09', '1970-01-01', 'infinity', '2026-05-01 11:00', '2037-01-01', '4714-11-24 00:00:00+00 BC']::timestamptz[],
	ARRAY[30, 31, 30, 30, NULL, 'NaN', '-Infinity', 180.01, 0, 30, 30, 30, 30, 30, 30, 30]::float8[],
	ARRAY[50, 50, 50, 50, 50, 50, 50, 50, 0, 50, 50, 50, 50, 50, 50, 50]::float8[],
	ARRAY[900, 50, 50, 50, 50, 50, 50, 50, 50, 50, 'NaN', 50, 50, 50, 50, 50]::float8[],
	ARRAY[-1, 90, 90, 90, 90, 90, 90, 90, 90, 90, 359.5, 90, 90, 90, 90, 90]::float8[],
	ARRAY[255, 5, 5, 5, 5, 5, 5, 5, 5, 5, 0, 5, 5, 5, 5, 5]) AS taken;
SELECT * FROM crm.vehicle_position ORDER BY at;
SELECT vehicle_id, reason, seen, last_at FROM crm.position_refused ORDER BY 1, 2;
SELECT what, reason, sqlstate, convert_from(bytes, 'UTF8') FROM crm.rejected WHERE what = 'position' ORDER BY reason COLLATE "C", bytes;
SELECT severity, subject, message FROM crm.shipping_health() ORDER BY message COLLATE "C";
-- Ten thousand fixes of one second, and the corners of the earth.
SELECT crm.put_positions(array_fill(1::bigint, ARRAY[10000]), array_fill('2026-05-01 11:30+00'::timestamptz, ARRAY[10000]), array_agg(30 + i * 0.0001), array_fill(50::float8, ARRAY[10000])) AS one FROM generate_series(1, 10000) i;
SELECT crm.put_positions(ARRAY[1, 1, 1, 1], ARRAY['2026-05-01 01:00', '2026-05-01 02:00', '2026-05-01 03:00', '2026-05-01 04:00']::timestamptz[], ARRAY[180, -180, 0, 0], ARRAY[0, 0, 90, -90]) AS corners;
-- No satellites: refused; not said: taken. Longitude and latitude exchanged: found by where the vehicle was.
SELECT crm.put_positions(ARRAY[1, 1, 1], ARRAY['2026-05-01 09:00', '2026-05-01 09:01', '2026-05-01 09:02']::timestamptz[], ARRAY[30, 30.001, 30.002], ARRAY[55, 55, 55], NULL, NULL, ARRAY[0, NULL, 4]) AS two;
SET LOCAL crm.min_satellites = 5;
SELECT crm.put_positions(ARRAY[1, 1], ARRAY['2026-05-01 09:03', '2026-05-01 09:04']::timestamptz[], ARRAY[30.003, 30.004], ARRAY[55, 55], NULL, NULL, ARRAY[4, 5]) AS one;
RESET crm.min_satellites;
INSERT INTO crm.vehicle (id, plate) VALUES (2, 'A 2'), (3, 'A 3');
SELECT crm.put_positions(ARRAY[2, 2, 2, 2], ARRAY['2026-05-01 09:00', '2026-05-01 09:01', '2026-05-01 09:02', '2026-05-01 09:03']::timestamptz[], ARRAY[37.5, 55.7, 37.51, 37.52], ARRAY[55.7, 37.5, 55.7, 55.7]) AS three;
SELECT crm.put_positions(ARRAY[2, 2], ARRAY['2026-05-01 09:04', '2026-05-01 09:05']::timestamptz[], ARRAY[55.71, 30.3], ARRAY[37.53, 59.9]) AS "far, but not exchanged: one";
-- near the diagonal there is nothing to tell
SELECT crm.put_positions(ARRAY[3, 3], ARRAY['2026-05-01 09:00', '2026-05-01 09:01']::timestamptz[], ARRAY[45, 45.5], ARRAY[45.5, 45]) AS both;
SELECT vehicle_id, reason, seen FROM crm.position_refused WHERE reason IN ('swapped?', 'too few satellites') ORDER BY 1, 2;
ROLLBACK;
