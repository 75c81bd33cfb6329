-- Facts that come in bulk look up what they need and nothing else, also while the planner believes that the tables
-- are empty: vacuumed when nothing lived in them, and filled since.
\set ON_ERROR_STOP 1
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-05 20:00Z', 0) IS NOT NULL, crm.activate('live');
UPDATE crm.rule SET enabled = code IN ('shipment.loaded', 'trip.departed', 'trip.approaching', 'trip.arrived');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
-- what was before: clients, orders, deals, 20,000 old loads and ways through the plant
INSERT INTO crm.employee (id, name) VALUES (100001, 'Ivanov'), (100002, 'Petrov');
INSERT INTO crm.company (id, name, owner_id) SELECT 100000 + i, 'Client ' || i, 100001 FROM generate_series(1, 5000) i;
INSERT INTO crm.contact (id, company_id, name, language) SELECT 100000 + i, 100000 + i, 'Anna ' || i, 'en' FROM generate_series(1, 5000) i;
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT 100000 + i, 'phone', '+7916' || 1000000 + i FROM generate_series(1, 5000) i;
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (100000, 'Plant', 'plant', 37, 55, 500);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) SELECT 100000 + i, 'Site ' || i, 'unloading', 37.5, 55, 400 FROM generate_series(1, 1) i;
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) SELECT 100000 + i, 'Site ' || i, 'unloading', 60 + i * 0.01, 50, 400 FROM generate_series(2, 3000) i;
INSERT INTO crm.vehicle (id, plate) SELECT 100000 + i, 'T ' || i FROM generate_series(1, 3000) i;
INSERT INTO crm.deal (id, funnel_id, company_id, name) SELECT 100000 + i, f.id, 100000 + i, 'deal ' || i FROM generate_series(1, 5000) i, crm.funnel f WHERE f.code = 'delivery';
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, deal_id, product)
SELECT 100000 + i, 'O ' || i, 100000 + i, 100000 + i, 100001, 100000 + i, 'Cement' FROM generate_series(1, 4000) i;
INSERT INTO crm.trip (id, vehicle_id, company_id, origin_place_id, destination_place_id, state, loaded_at, departed_at, arrived_at, unloaded_at)
SELECT 100000 + i, 101001 + i % 2000, 100001 + i % 5000, 100000, 100001, 'unloaded', '2026-04-01', '2026-04-01', '2026-04-01', '2026-04-01' FROM generate_series(1, 20000) i;
INSERT INTO crm.trip_order (trip_id, order_id) SELECT 100000 + i, 100001 + i % 4000 FROM generate_series(1, 20000) i;
INSERT INTO crm.trip_fact (trip_id, state, version, at) SELECT 100000 + i, s, 1, '2026-04-01' FROM generate_series(1, 20000) i, unnest(ARRAY['departed', 'arrived']) s;
INSERT INTO crm.shipment (order_id, vehicle_id, trip_id, product, tare_kg, gross_kg, weighed_at, announced_at)
SELECT 100001 + i % 4000, 101001 + i % 2000, 100000 + i, 'Cement', 14000, 34000, '2026-04-01', '2026-04-01' FROM generate_series(1, 20000) i;
INSERT INTO crm.passage (vehicle_id, place_id, entered_at, entry_fix_at, dwelled, left_at, exit_fix_at)
SELECT 101001 + i % 2000, 100000, '2026-04-01', '2026-04-01', true, '2026-04-01 01:00Z', '2026-04-01 01:00Z' FROM generate_series(1, 20000) i;
UPDATE pg_class c SET reltuples = 0, relpages = 1
WHERE c.relnamespace = 'crm'::regnamespace AND (c.relkind = 'r' OR c.oid IN (SELECT i.indexrelid FROM pg_index i))
	AND c.relname !~ '^(rule|template|integration|stage_|funnel|hook|event_kind|quiet|move|deal_move|deal_finder|activation|clock|audience|truth|partitioned)';

-- what a statement has read: rows of tables, entries of indexes
CREATE TEMP TABLE work (step text, rows bigint);
CREATE FUNCTION pg_temp.looked() RETURNS bigint LANGUAGE sql AS $$
	SELECT sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint FROM pg_class c
	WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'i')
		AND c.relname ~ '^(message_|event_20|contact|company|responsibility|vehicle|customer_order|trip|shipment|passage|deal_|deal$|stage_log)' AND c.relname !~ '^deal_(move_rule|finder)' $$;
CREATE FUNCTION pg_temp.does(step text, statement text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	before_ bigint := pg_temp.looked();
	told bigint;
BEGIN
	EXECUTE statement;
	GET DIAGNOSTICS told = ROW_COUNT;
	INSERT INTO work VALUES (step, pg_temp.looked() - before_);
	RETURN told;
END
$$;
SELECT pg_temp.does('orders', $$INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, deal_id, product)
	SELECT 104000 + i, 'O ' || 4000 + i, 104000 + i, 104000 + i, 100001, 104000 + i, 'Cement' FROM generate_series(1, 1000) i$$);
SELECT pg_temp.does('weighings', $$INSERT INTO crm.shipment (id, order_id, vehicle_id, tare_kg, gross_kg, weighed_at)
	SELECT 200000 + i, 104000 + i, 100000 + i, 14000, 34000, '2026-05-05 08:02Z' FROM generate_series(1, 1000) i$$);
CREATE FUNCTION pg_temp.go(from_k integer, to_k integer) RETURNS integer LANGUAGE sql AS $$
	SELECT crm.put_positions(array_agg(100000::bigint + v), array_agg('2026-05-05 08:00Z'::timestamptz + k * interval '1 minute'),
		array_agg(least(37.5, 37 + greatest(0, k - 4) * 0.02)::float8), array_agg(55.0::float8))
	FROM generate_series(1, 1000) v, generate_series($1, $2) k $$;
SELECT pg_temp.does('positions, away', 'SELECT pg_temp.go(1, 12)');
SELECT pg_temp.does('positions, near', 'SELECT pg_temp.go(13, 26)');
SELECT pg_temp.does('positions, there', 'SELECT pg_temp.go(27, 40)');
SELECT t.state, count(*) FROM crm.trip t WHERE t.created_at = crm.now() AND t.id < 100000 GROUP BY 1;
SELECT pg_temp.does('weighings', $$INSERT INTO crm.shipment (id, order_id, vehicle_id, tare_kg, gross_kg, weighed_at)
	SELECT 202000 + i, 104000 + i, 100000 + i, 14000, 34000, '2026-05-05 18:02Z' FROM generate_series(1, 1000) i$$);
SELECT pg_temp.does('storno', 'UPDATE crm.shipment SET cancelled_at = crm.now() WHERE id BETWEEN 202001 AND 203000');
SELECT pg_temp.does('storno taken back', 'UPDATE crm.shipment SET cancelled_at = NULL WHERE id BETWEEN 202001 AND 203000');
SELECT pg_temp.does('owners', 'UPDATE crm.company SET owner_id = 100002 WHERE id BETWEEN 100001 AND 101000');
SELECT count(*) FROM crm.message_body;
-- a thousand each: fourteen fixes, a stop, a trip with its facts and lateness are two hundred rows
SELECT step, CASE WHEN max(rows) < 250000 THEN 'reads what it needs' ELSE 'reads ' || max(rows) END FROM work GROUP BY step ORDER BY step;
ROLLBACK;
