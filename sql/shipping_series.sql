-- claim 48: a client hears of the departure once
-- claim 49: of the approach once
-- claim 50: of the arrival once
-- claim 64: the series is never contradictory: where the arrival is known first, what is no longer true is cancelled
-- One order, one real drive, delivered in order, twice, in reverse as one batch, in reverse fix by fix, and with
-- fixes repeated and late: the messages that are sent, and those that are cancelled with their reason.
SET datestyle = 'ISO, YMD';
\set ON_ERROR_STOP 1
\getenv data CRM_DATA
\if :{?data}
\else
\set data ../shared/data
\endif
SELECT pg_stat_file(:'data' || '/gps/munich-car.json', true) IS NULL AS absent \gset
\if :absent
\echo skipped: CRM_DATA
\quit
\endif
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'Europe/Berlin';
SELECT crm.set_now('2026-09-10 12:00+02', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
CREATE TEMP TABLE fix ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY x.at)::integer AS n, x.*
FROM (SELECT (j->>'time')::timestamptz + interval '12 years' AS at,
		split_part(btrim(j->>'point', 'POINT()'), ' ', 1)::float8 AS lon,
		split_part(btrim(j->>'point', 'POINT()'), ' ', 2)::float8 AS lat
	FROM json_array_elements(pg_read_file(:'data' || '/gps/munich-car.json')::json) j) x;

CREATE FUNCTION crm.test_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT m.message_id, 'GET', 'http://127.0.0.1:1/', NULL::text[], NULL::bytea, NULL::text, NULL::text, 1000, NULL::jsonb FROM crm.outbox_take($1, $2) m $$;
CREATE FUNCTION crm.test_take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$ SELECT crm.outbox_result($1, ARRAY[r.ref], ARRAY['sent'], ARRAY['p' || r.ref], ARRAY[NULL::text]) FROM unnest($2) r $$;
SELECT crm.register_kind('x_test', 'crm.test_next', 'crm.test_take', channel => 'sms');
SELECT crm.add_integration('sms', 'x_test', 'http://127.0.0.1:1/', '{"sender": "CEMENT"}') AS sms \gset
INSERT INTO crm.company (id, name) VALUES (101, 'Client');
INSERT INTO crm.contact (id, company_id, name, language) VALUES (101, 101, 'Anna', 'en');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (101, 'phone', '+7 916 123-45-67');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, time_zone) SELECT 101, 'Plant', 'plant', lon, lat, 300, 'Europe/Berlin' FROM fix WHERE n = 1;
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, time_zone, company_id) SELECT 102, 'Yard', 'unloading', lon, lat, 500, 'Europe/Berlin', 101 FROM fix ORDER BY n DESC LIMIT 1;
INSERT INTO crm.zone_setting (place_id, approach_km) VALUES (102, 5);
UPDATE crm.rule SET switched = false WHERE code IN ('shipment.loaded', 'trip.arrived.letter');
UPDATE crm.rule SET quiet = 'urgent';
INSERT INTO crm.vehicle (id, plate) SELECT 100 + i, 'M CR ' || i FROM generate_series(1, 5) i;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product, tonnes) SELECT 100 + i, 'N-' || i, 101, 101, 102, 'Cement M500', 20 FROM generate_series(1, 5) i;
INSERT INTO crm.shipment (order_id, vehicle_id, product, tare_kg, gross_kg, weighed_at)
SELECT 100 + i, 100 + i, 'Cement M500', 15000, 35000, '2026-09-10 06:54:00+02' FROM generate_series(1, 5) i;

-- A courier takes what is due after every delivery and the provider accepts it.
CREATE FUNCTION pg_temp.courier(sms bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	ids bigint[];
BEGIN
	SELECT array_agg(m.message_id) INTO ids FROM crm.outbox_take(sms, 100) m;
	IF ids IS NOT NULL THEN
		PERFORM crm.outbox_result(sms, ids, array_fill('sent'::text, ARRAY[cardinality(ids)]), array_fill('p'::text, ARRAY[cardinality(ids)]), array_fill(NULL::text, ARRAY[cardinality(ids)]));
	END IF;
	RETURN coalesce(cardinality(ids), 0);
END
$$;
CREATE FUNCTION pg_temp.deliver(sms bigint, vehicle bigint, ns integer[]) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.put_positions(array_agg(vehicle ORDER BY k), array_agg(at ORDER BY k), array_agg(lon ORDER BY k), array_agg(lat ORDER BY k))
	FROM unnest(ns) WITH ORDINALITY AS u(n, k) JOIN fix USING (n);
	RETURN pg_temp.courier(sms);
END
$$;
-- 1: in order, seven at a time.  2: the same twice.
SELECT sum(pg_temp.deliver(:sms, 101, array_agg)) AS in_order FROM (SELECT array_agg(n ORDER BY n) FROM fix GROUP BY n / 7 ORDER BY n / 7) x;
SELECT sum(pg_temp.deliver(:sms, 102, array_agg)) AS once FROM (SELECT array_agg(n ORDER BY n) FROM fix GROUP BY n / 7 ORDER BY n / 7) x;
SELECT sum(pg_temp.deliver(:sms, 102, array_agg)) AS again FROM (SELECT array_agg(n ORDER BY n) FROM fix GROUP BY n / 7 ORDER BY n / 7) x;
-- 3: in reverse, one batch.  4: in reverse, fix by fix.
SELECT pg_temp.deliver(:sms, 103, (SELECT array_agg(n ORDER BY n DESC) FROM fix)) AS reverse_batch;
SELECT sum(pg_temp.deliver(:sms, 104, ARRAY[n])) AS reverse_singly FROM (SELECT n FROM fix ORDER BY n DESC) x;
-- 5: every tenth repeated, every seventh late by ten minutes.
SELECT sum(pg_temp.deliver(:sms, 105, array_agg)) AS repeated_and_late FROM (
	SELECT array_agg(n ORDER BY k) FROM (
		SELECT n, row_number() OVER (ORDER BY at + CASE WHEN n % 7 = 0 THEN interval '10 minutes' ELSE interval '0' END + copy * interval '3 seconds', n, copy) AS k
		FROM fix, generate_series(0, 1) copy WHERE copy = 0 OR n % 10 = 0) a
	GROUP BY k / 12 ORDER BY k / 12) x;
SELECT crm.set_now('2026-09-10 12:10+02', 0) IS NOT NULL AS later;
SELECT pg_temp.courier(:sms) AS rest;

SELECT t.vehicle_id - 100 AS vehicle, e.kind, b.state, b.body, b.last_error
FROM crm.message b JOIN crm.event e ON e.id = b.event_id JOIN crm.trip t ON t.id = e.object_id
ORDER BY t.vehicle_id, array_position(ARRAY['trip.departed', 'trip.approaching', 'trip.arrived'], e.kind);
\echo two messages for one cause
SELECT e.object_id, e.kind, count(*) FROM crm.message b JOIN crm.event e ON e.id = b.event_id GROUP BY 1, 2 HAVING count(*) > 1;
ROLLBACK;
