-- claim 24: every number is computed from stored facts.
-- claim 25: every cell of the report is the sum of the rows that it opens into, distinct counts and ratios too.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
BEGIN;
SELECT crm.set_now('2026-11-01 06:00+03', 0) IS NOT NULL AS moved;
SELECT crm.activate('off');
INSERT INTO crm.team (id, name) VALUES (1, 'North'), (2, 'South');
INSERT INTO crm.employee (id, name, team_id) VALUES (1, 'Anna', 1), (2, 'Boris', 1), (3, 'Clara', 2), (4, 'Idle', NULL);
INSERT INTO crm.company (id, name, owner_id, is_client) VALUES (1, 'Alpha', 1, true), (2, 'Beta', 2, true), (3, 'Gamma', 3, true), (4, 'Nobody''s', NULL, true), (5, 'The plant', 1, false);
INSERT INTO crm.place (id, company_id, name, lon, lat, radius_m, kind) VALUES (1, 1, 'Alpha''s site', 37.6, 55.7, 300, 'unloading'), (2, NULL, 'Plant', 37.0, 55.0, 500, 'plant');
INSERT INTO crm.vehicle (id, plate) VALUES (1, 'A001AA77'), (2, 'A002AA77');
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, tonnes, price, ordered_at, window_to) VALUES
	(1, 'O-1', 1, 1, 'Cement', 25, 5000, '2026-11-02 09:00+03', '2026-11-10 12:00+03'),
	(2, 'O-2', 1, 1, 'Cement', 50, 5000, '2026-11-02 09:00+03', '2026-11-11 12:00+03'),
	(3, 'O-3', 2, NULL, 'Cement', 20, 5100, '2026-11-02 09:00+03', '2026-11-12 12:00+03'),
	(4, 'O-4', 3, 1, 'Cement', 20, 5100, '2026-11-02 09:00+03', '2026-12-12 12:00+03'),
	(5, 'O-5', 4, NULL, 'Cement', NULL, 5100, '2026-11-02 09:00+03', NULL),
	(6, 'O-6', 5, NULL, 'Cement', NULL, NULL, '2026-11-02 09:00+03', NULL);

\echo before a weighing: zeros, and NULL where there is nothing to divide by
SELECT level, team, employee, ship_t, clients_served, trips, otif_pct, otif_hit, otif_due, messages_delivered FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'en');

SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS moved;
INSERT INTO crm.shipment (id, order_id, vehicle_id, product, tare_kg, gross_kg, net_kg, weighed_at, waybill) VALUES
	(1, 1, 1, 'Cement', 15000, 40000, 25000, '2026-11-10 08:00+03', 'W-1'),
	(2, 2, 2, 'Cement', 15000, 39500, 24500, '2026-11-11 08:00+03', 'W-2'),
	(3, 2, 2, 'Cement', 15000, 40100, 25100, '2026-11-12 08:00+03', 'W-3'),
	(4, 3, NULL, 'Cement', 15000, 34800, 19800, '2026-11-12 11:00+03', 'W-4'),
	(5, 5, NULL, 'Cement', 15000, 25000, 10000, '2026-11-30 23:59:59+03', 'W-5'),
	(6, 5, NULL, 'Cement', 15000, 26000, 11000, '2026-12-01 00:00:00+03', 'W-6'),
	(7, 6, NULL, 'Cement', 15000, 20000, 5000, '2026-11-13 08:00+03', 'W-7'),
	(8, 5, NULL, 'Cement', 15000, NULL, NULL, '2026-11-13 08:00+03', 'W-8');
UPDATE crm.trip t SET state = 'arrived', departed_at = t.loaded_at + interval '10 minutes', arrived_at = t.loaded_at + interval '2 hours'
WHERE EXISTS (SELECT FROM crm.shipment s WHERE s.trip_id = t.id);
\echo weighed: O-1 on time, O-2 too late with its second half, O-3 fetched in time and 1 % short, O-4 not due yet
SELECT level, team, employee, ship_t, clients_served, trips, otif_pct, otif_hit, otif_due, messages_delivered FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'en');
\echo each cell is its rows
SET LOCAL client_min_messages = notice;
SELECT * FROM crm.kpi_reconcile('2026-11-01', '2026-12-01');
SET LOCAL client_min_messages = warning;
\echo the rows of some
SELECT fact, fact_id, at, business_date, employee_name, company_name, fact_part, weight, details FROM crm.kpi_rows('ship_t', '2026-11-01', '2026-12-01');
SELECT fact_id, company_name, fact_part, weight FROM crm.kpi_rows('clients_served', '2026-11-01', '2026-12-01', employee => 1);
SELECT fact_id, company_name, fact_part, weight, details FROM crm.kpi_rows('otif', '2026-11-01', '2026-12-01', team => 1, part => 'numerator');
SELECT fact_id, fact_part, weight FROM crm.kpi_rows('ship_t', '2026-11-01', '2026-12-01', employee => 0);

\echo a day belongs to the zone of the report
SELECT zone, sum(weight) FROM (VALUES ('Europe/Moscow'), ('Asia/Vladivostok'), ('America/New_York')) z(zone), crm.kpi_rows('ship_t', '2026-12-01', '2026-12-02', zone => z.zone) GROUP BY zone ORDER BY zone;
\echo a period across the end of summer time, and an empty one
SELECT count(*) FROM crm.kpi_rows('ship_t', '2026-10-01', '2026-12-01', zone => 'Europe/Berlin');
SELECT code, value, numerator, denominator FROM crm.kpi_cells('2026-11-10', '2026-11-10') WHERE level = 'total';

\echo another manager from now on: what was shipped before stays with the first
SELECT crm.set_now('2026-11-25 12:00+03', 0) IS NOT NULL AS moved;
UPDATE crm.company SET owner_id = 3 WHERE id = 1;
INSERT INTO crm.shipment (id, order_id, product, tare_kg, gross_kg, net_kg, weighed_at, waybill) VALUES (9, 1, 'Cement', 15000, 16000, 1000, '2026-11-25 12:00:01+03', 'W-9');
SELECT level, team, employee, ship_t, clients_served FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'en');
SELECT count(*) FROM crm.kpi_reconcile('2026-11-01', '2026-12-01');

\echo a storno takes its tonnes back
UPDATE crm.shipment SET cancelled_at = crm.now() WHERE id = 9;
SELECT ship_t, clients_served FROM crm.kpi_report('2026-11-01', '2026-12-01') WHERE level = 'total';

\echo rolled back: no trace in any figure; committed: there at once
SAVEPOINT weighing;
INSERT INTO crm.shipment (id, order_id, product, tare_kg, gross_kg, net_kg, weighed_at) VALUES (10, 5, 'Cement', 15000, 115000, 100000, '2026-11-25 12:00+03');
SELECT ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01') WHERE level = 'total';
SELECT sum(value) FROM crm_bi.kpi WHERE code = 'ship_t' AND business_date BETWEEN '2026-11-01' AND '2026-11-30';
ROLLBACK TO weighing;
SELECT ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01') WHERE level = 'total';
SELECT sum(value) FROM crm_bi.kpi WHERE code = 'ship_t' AND business_date BETWEEN '2026-11-01' AND '2026-11-30';

\echo BI sees the same
SELECT code, sum(weight) FROM crm_bi.kpi_rows WHERE business_date BETWEEN '2026-11-01' AND '2026-11-30' AND part <> 'denominator' GROUP BY code ORDER BY code;
SELECT code, business_date, employee, team, value, numerator, denominator, facts FROM crm_bi.kpi WHERE code IN ('otif', 'clients_served') ORDER BY code, business_date, employee;
SELECT sum(net_t) FROM crm_bi.shipment WHERE client_kind = 'client' AND business_date BETWEEN '2026-11-01' AND '2026-11-30';
SELECT promise, ok, evidence FROM crm.selftest() WHERE promise LIKE 'a cell%';

\echo bad input
CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; hint text;
BEGIN
	EXECUTE command;
	RETURN 'done';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', state, message, nullif(hint, ''));
END $$;
SELECT pg_temp.try(c) FROM (VALUES
	($$SELECT * FROM crm.kpi_report('2026-12-01', '2026-11-01')$$),
	($$SELECT * FROM crm.kpi_report(NULL, '2026-11-01')$$),
	($$SELECT * FROM crm.kpi_report('-infinity', '2026-11-01')$$),
	($$SELECT * FROM crm.kpi_report('2026-11-01', '2026-12-01', 'Mars/Olympus')$$),
	($$SELECT * FROM crm.kpi_report('2026-11-01', '2026-12-01', NULL)$$),
	($$SELECT * FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'de')$$),
	($$SELECT * FROM crm.kpi_rows('nope', '2026-11-01', '2026-12-01')$$),
	($$SELECT * FROM crm.kpi_rows(NULL, '2026-11-01', '2026-12-01')$$),
	($$SELECT * FROM crm.kpi_rows('ship_t', '2026-11-01', '2026-12-01', part => 'half')$$),
	($$SELECT * FROM crm.kpi_explain('nope')$$)) v(c);
\echo ten years of days, and a manager who left
UPDATE crm.employee SET dismissed_at = crm.now() WHERE id = 2;
SELECT ship_t FROM crm.kpi_report('2016-12-01', '2026-12-01', language => 'en') WHERE employee = 'Boris';
ROLLBACK;
