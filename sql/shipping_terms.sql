-- claim 72: contract terms by validity; overlaps are impossible, a used term stands, December leaves November as it was
-- The tariff against a slow one that counts minute by minute, on random cases; broken tariffs refused.
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-12-05 07:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true), (903, 'Other', true);
INSERT INTO crm.contract (id, carrier_id, number) VALUES (901, 902, 'D-1'), (902, 903, 'D-2'), (903, 902, 'D-3');

\echo == the tariff
SELECT m, crm.tariff_penalty('[{"from": 0, "each": 15, "roubles": 500}]', m, NULL) AS started, crm.tariff_penalty('[{"from": 0, "each": 15, "roubles": 500, "started": false}]', m, NULL) AS full_,
	crm.tariff_penalty('[{"from": 0, "each": 30, "roubles": 300}, {"from": 60, "each": 1, "roubles": 10.50}]', m, 1000) AS steps FROM unnest(ARRAY[-5, 0, 1, 15, 16, 60, 61, 200]) m;
-- minute by minute: each minute opens a unit of its step when the step's units so far are used up
CREATE FUNCTION pg_temp.slow(tariff jsonb, minutes integer, cap numeric) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
	total numeric := 0;
	n integer := jsonb_array_length(tariff);
	s integer;
	used integer[] := array_fill(0, ARRAY[n]);
BEGIN
	FOR m IN 1 .. minutes LOOP
		s := 0;
		FOR i IN 0 .. n - 1 LOOP
			IF m > (tariff -> i ->> 'from')::integer THEN s := i; END IF;
		END LOOP;
		used[s + 1] := used[s + 1] + 1;
		IF coalesce((tariff -> s ->> 'started')::boolean, true) THEN
			IF (used[s + 1] - 1) % (tariff -> s ->> 'each')::integer = 0 THEN total := total + (tariff -> s ->> 'roubles')::numeric; END IF;
		ELSIF used[s + 1] % (tariff -> s ->> 'each')::integer = 0 THEN total := total + (tariff -> s ->> 'roubles')::numeric;
		END IF;
	END LOOP;
	RETURN least(total, cap);
END $$;
SELECT setseed(0.42);
CREATE TEMP TABLE drawn AS
SELECT (SELECT jsonb_agg(jsonb_build_object('from', x.f, 'each', 1 + floor(random() * 40)::integer, 'roubles', round((random() * 1000)::numeric, 2), 'started', random() < 0.5) ORDER BY x.f)
	FROM (SELECT DISTINCT CASE WHEN j = 0 THEN 0 ELSE 1 + floor(random() * 200 + i * 0)::integer END AS f FROM generate_series(0, i % 4) j) x) AS tariff,
	floor(random() * 400)::integer AS minutes, CASE WHEN random() < 0.3 THEN round((random() * 5000)::numeric, 2) END AS cap
FROM generate_series(1, 500) i;
SELECT count(*) AS cases, count(*) FILTER (WHERE crm.tariff_check(tariff) IS NOT NULL) AS refused,
	count(*) FILTER (WHERE crm.tariff_penalty(tariff, minutes, cap) IS DISTINCT FROM round(pg_temp.slow(tariff, minutes, cap), 2)) AS differ, sum(crm.tariff_penalty(tariff, minutes, cap)) > 0 AS something FROM drawn;

\echo == no overlaps
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff) VALUES (901, 901, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 15, "roubles": 500}]');
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff) VALUES (902, 901, 'unloading', '2026-01-01', 60, '[{"from": 0, "each": 15, "roubles": 500}]'),
	(903, 902, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 15, "roubles": 500}]');
\set ON_ERROR_STOP 0
SAVEPOINT bad;
INSERT INTO crm.contract_term (contract_id, side, valid_from, free_minutes, tariff) VALUES (901, 'loading', '2026-12-01', 30, '[{"from": 0, "each": 1, "roubles": 100}]');
ROLLBACK TO bad;
-- by another contract of the same carrier too
INSERT INTO crm.contract_term (contract_id, side, valid_from, valid_to, free_minutes, tariff) VALUES (903, 'loading', '2025-06-01', '2026-01-01', 30, '[{"from": 0, "each": 1, "roubles": 100}]');
ROLLBACK TO bad;
-- the constraint alone, without the words
ALTER TABLE crm.contract_term DISABLE TRIGGER contract_term_check;
INSERT INTO crm.contract_term (contract_id, carrier_id, side, valid_from, free_minutes, tariff) VALUES (901, 902, 'loading', '2026-12-01', 30, '[{"from": 0, "each": 1, "roubles": 100}]');
ROLLBACK TO bad;
\set ON_ERROR_STOP 1
UPDATE crm.contract_term SET valid_to = '2026-11-30' WHERE id = 901;
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff) VALUES (904, 901, 'loading', '2026-12-01', 30, '[{"from": 0, "each": 1, "roubles": 100}]');
SELECT id, side, valid_from, valid_to, free_minutes FROM crm.contract_term ORDER BY 1;

\echo == December leaves November
INSERT INTO crm.place (id, name, kind) VALUES (901, 'Plant', 'plant');
INSERT INTO crm.vehicle (id, plate, carrier_id) VALUES (901, 'T 1', 902), (902, 'T 2', 902);
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (901, 'N', 901, 'Cement');
-- 30 November 23:30 in Moscow, and half an hour later
INSERT INTO crm.slot (vehicle_id, planned_from, source_id) VALUES (901, '2026-11-30 20:30Z', 'a'), (902, '2026-11-30 21:00Z', 'b');
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, weighed_at, source_id) VALUES (901, 901, 14000, '2026-11-30 21:45Z', 'a'), (901, 902, 14000, '2026-11-30 22:15Z', 'b');
UPDATE crm.shipment SET gross_kg = 34000, weighed_at = weighed_at + interval '20 minutes';
SELECT vehicle_id, business_date, late_minutes, term_id, free_minutes, charged_minutes, penalty FROM crm.lateness WHERE superseded_at IS NULL ORDER BY 1;
SELECT crm.make_claim(id) IS NOT NULL AS claimed FROM crm.lateness WHERE superseded_at IS NULL AND vehicle_id = 901;
SELECT used_at IS NOT NULL AS used, used_through FROM crm.contract_term WHERE id = 901;
\set ON_ERROR_STOP 0
SAVEPOINT bad;
UPDATE crm.contract_term SET free_minutes = 90 WHERE id = 901;
ROLLBACK TO bad;
UPDATE crm.contract_term SET valid_to = '2026-11-15' WHERE id = 901;
ROLLBACK TO bad;
UPDATE crm.contract SET zone = 'Asia/Yekaterinburg' WHERE id = 901;
ROLLBACK TO bad;
DELETE FROM crm.contract_term WHERE id = 901;
ROLLBACK TO bad;
\set ON_ERROR_STOP 1
-- one that no claim rests on is edited, and its lateness follows
UPDATE crm.contract_term SET free_minutes = 45 WHERE id = 904;
SELECT vehicle_id, version, term_id, free_minutes, charged_minutes, penalty FROM crm.lateness WHERE superseded_at IS NULL ORDER BY 1;

\echo == nonsense
\set ON_ERROR_STOP 0
\set VERBOSITY terse
SAVEPOINT bad;
CREATE FUNCTION pg_temp.try(tariff text, cap numeric DEFAULT NULL, exclusions text DEFAULT '{}', to_ date DEFAULT '2020-12-31') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO crm.contract_term (contract_id, side, valid_from, valid_to, free_minutes, tariff, cap, exclusions) VALUES (902, 'unloading', '2020-01-01', to_, 0, tariff::jsonb, cap, exclusions::jsonb);
	RAISE EXCEPTION 'taken';
EXCEPTION WHEN others THEN RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SELECT pg_temp.try(t) FROM unnest(ARRAY['[]', '{}', '[{"from": 0, "each": 15, "roubles": -1}]', '[{"from": 0, "each": 15, "roubles": "NaN"}]', '[{"from": 0, "each": 0, "roubles": 1}]',
	'[{"from": 5, "each": 15, "roubles": 1}]', '[{"from": 0, "each": 15, "roubles": 1}, {"from": 0, "each": 15, "roubles": 1}]', '[{"from": 0, "each": 1.5, "roubles": 1}]',
	'[{"from": 0, "each": 15}]', '[{"from": 0, "each": 15, "roubles": 1, "minutes": 3}]', '[{"from": 0, "each": 15, "roubles": 1e30}]', '[5]', 'null', '[{"from": 0, "each": 15, "roubles": 1, "started": 1}]']) t;
SELECT pg_temp.try('[{"from": 0, "each": 15, "roubles": 1}]', c) FROM unnest(ARRAY['NaN', '-1', '1e10']::numeric[]) c;
SELECT pg_temp.try('[{"from": 0, "each": 15, "roubles": 1}]', NULL, e) FROM unnest(ARRAY['[]', '{"weekday": [1]}', '{"weekdays": [0]}', '{"holidays": "yes"}', '{"weekdays": 6}']) e;
SELECT pg_temp.try('[{"from": 0, "each": 15, "roubles": 1}]', NULL, '{}', '2019-12-31');
INSERT INTO crm.contract (carrier_id, number, zone) VALUES (902, 'D-9', 'Mars/Olympus');
ROLLBACK TO bad;
ROLLBACK;
