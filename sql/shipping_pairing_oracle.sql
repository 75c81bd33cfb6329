-- claim 47: whatever the order in which weighings come, and in however many pieces, the shipments are the ones that a slow walk finds
\set ON_ERROR_STOP 1
\set SHOW_CONTEXT never
SET timezone = 'Europe/Moscow';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2026-05-20 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode, setseed(0.47) IS NOT NULL AS seeded;
INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
INSERT INTO crm.customer_order (id, number, company_id, product, source, source_id) VALUES (1, 'A-1', 1, 'Cement', 'erp', 'o1'), (2, 'A-2', 1, 'Sand', 'erp', 'o2');

-- The oracle: one vehicle, row by row, from the raw rows alone. Kinds are known in this test.
CREATE FUNCTION pg_temp.walk(of_vehicle bigint, gross_first boolean) RETURNS TABLE (tare numeric, gross numeric, at timestamptz, ref text, waybill text) LANGUAGE plpgsql AS $$
DECLARE
	w      record;
	n      integer := 0;
	kinds  text[] := '{}'; kgs numeric[] := '{}'; firsts timestamptz[] := '{}'; lasts timestamptz[] := '{}'; refs text[] := '{}'; bills text[] := '{}';
	used   boolean[] := '{}';
	t      integer;
	g      integer;
	usual  boolean;
	sure   boolean;
BEGIN
	FOR w IN SELECT x.* FROM crm.weighing x WHERE x.vehicle_id = of_vehicle AND x.cancelled_at IS NULL ORDER BY x.at, x.source, x.source_id LOOP
		IF n > 0 AND kinds[n] = w.kind AND w.at - lasts[n] <= interval '30 minutes' THEN
			kgs[n] := w.kg; lasts[n] := w.at; refs[n] := coalesce(w.order_ref, refs[n]); bills[n] := coalesce(w.waybill, bills[n]);
		ELSE
			n := n + 1;
			kinds[n] := w.kind; kgs[n] := w.kg; firsts[n] := w.at; lasts[n] := w.at; refs[n] := w.order_ref; bills[n] := w.waybill; used[n] := false;
		END IF;
	END LOOP;
	FOR pass IN 1 .. 4 LOOP
		FOR i IN 1 .. n - 1 LOOP
			CONTINUE WHEN used[i] OR used[i + 1] OR kinds[i] = kinds[i + 1] OR firsts[i + 1] - lasts[i] > interval '12 hours';
			t := CASE WHEN kinds[i] = 'tare' THEN i ELSE i + 1 END;
			g := CASE WHEN kinds[i] = 'tare' THEN i + 1 ELSE i END;
			CONTINUE WHEN kgs[g] <= kgs[t] OR refs[g] <> refs[t] OR bills[g] <> bills[t];
			usual := (t < g) <> gross_first;
			sure := coalesce(bills[g] = bills[t], false);
			CONTINUE WHEN CASE pass WHEN 1 THEN NOT (sure AND usual) WHEN 2 THEN NOT sure WHEN 3 THEN NOT usual ELSE false END;
			used[i] := true; used[i + 1] := true;
			IF coalesce(refs[g], refs[t]) IN ('o1', 'o2', 'A-1', 'A-2') THEN
				tare := kgs[t]; gross := kgs[g]; at := greatest(lasts[i], lasts[i + 1]); ref := right(coalesce(refs[g], refs[t]), 1); waybill := coalesce(bills[g], bills[t]);
				RETURN NEXT;
			END IF;
		END LOOP;
	END LOOP;
END $$;

-- 30 sets of 2 to 16 weighings; each comes four times, for four vehicles: at once, and three times shuffled and in pieces.
CREATE TEMP TABLE fact AS
SELECT s.set_no, n AS no, CASE WHEN random() < 0.5 THEN 'tare' ELSE 'gross' END AS kind, (random() * 100)::integer AS weight,
	'2026-05-10 00:00+03'::timestamptz + s.hours * random() * interval '1 hour' AS at,
	(ARRAY['o1', 'o1', 'A-2', 'nobody', NULL, NULL])[1 + floor(random() * 6)::integer] AS ref,
	CASE WHEN random() < 0.3 THEN 'T' || floor(random() * 3) END AS waybill, random() < 0.12 AS storno
FROM (SELECT g AS set_no, 2 + floor(random() * 15)::integer AS size, (ARRAY[2, 6, 24, 90])[1 + floor(random() * 4)::integer] AS hours FROM generate_series(1, 30) g) s
CROSS JOIN LATERAL generate_series(1, s.size) n;
UPDATE fact SET at = date_trunc('minute', at), weight = CASE kind WHEN 'tare' THEN 12000 + 100 * weight ELSE 19000 + 100 * weight END;
INSERT INTO crm.vehicle (id, plate) SELECT set_no * 10 + way, format('V %s', set_no * 10 + way) FROM (SELECT DISTINCT set_no FROM fact) f, generate_series(1, 4) way;
CREATE PROCEDURE pg_temp.come(way integer) LANGUAGE plpgsql AS $$
DECLARE
	piece record;
BEGIN
	FOR piece IN
		SELECT array_agg(format('s%s.%s.%s', f.set_no, way, f.no)) AS ids, array_agg(f.set_no * 10 + way) AS vehicles, array_agg(f.kind) AS kinds, array_agg(f.weight::numeric) AS kgs,
			array_agg(f.at) AS ats, array_agg(f.ref) AS refs, array_agg(f.waybill) AS waybills, array_agg(f.storno) AS stornos
		FROM (SELECT *, random() AS r, floor(random() * 12) AS piece_no FROM fact ORDER BY r) f
		GROUP BY CASE WHEN way = 1 THEN 0 ELSE f.piece_no END
		ORDER BY random()
	LOOP
		PERFORM crm.put_weighings('s', piece.ids, piece.vehicles, piece.kinds, piece.kgs, piece.ats, piece.refs, NULL, piece.waybills,
			-- a storno comes with its row, or after it
			CASE WHEN random() < 0.5 THEN piece.stornos ELSE array_fill(false, ARRAY[cardinality(piece.ids)]) END);
		PERFORM crm.put_weighings('s', piece.ids, piece.vehicles, piece.kinds, piece.kgs, piece.ats, piece.refs, NULL, piece.waybills, piece.stornos);
	END LOOP;
END $$;
CALL pg_temp.come(1);
CALL pg_temp.come(2);
CALL pg_temp.come(3);
CALL pg_temp.come(4);
CREATE VIEW pg_temp.ours AS
	SELECT s.vehicle_id AS v, s.tare_kg AS tare, s.gross_kg AS gross, s.weighed_at AS at, s.order_id::text AS ref, s.waybill FROM crm.shipment s WHERE s.cancelled_at IS NULL;
SELECT count(*) > 150 AS enough, count(*) FILTER (WHERE storno) > 15 AS with_stornos FROM fact;
SELECT count(*) > 200 AS enough_shipments FROM pg_temp.ours;
\echo -- what the walk finds and we do not, and the other way round
SELECT v.id, w.* FROM crm.vehicle v, pg_temp.walk(v.id, false) w EXCEPT ALL SELECT * FROM pg_temp.ours;
SELECT * FROM pg_temp.ours EXCEPT ALL SELECT v.id, w.* FROM crm.vehicle v, pg_temp.walk(v.id, false) w;
\echo -- each weighing has one fate, and the same one whatever the way
SELECT count(*) AS without_fate FROM crm.weighing w WHERE NOT EXISTS (SELECT FROM crm.weighing_pair k WHERE k.weighing_id = w.id);
SELECT count(*) AS differ FROM (SELECT w.vehicle_id / 10, split_part(w.source_id, '.', 3) FROM crm.weighing w JOIN crm.weighing_pair k ON k.weighing_id = w.id
	GROUP BY 1, 2 HAVING count(DISTINCT (k.state, k.read_as, k.reason)) <> 1) x;
\echo -- a shipment that counts was announced once
SELECT count(*) FILTER (WHERE n <> 1) AS not_once FROM (SELECT count(e.id) AS n FROM crm.shipment s LEFT JOIN crm.event e ON e.kind = 'shipment.loaded' AND e.object_id = s.id
	WHERE s.cancelled_at IS NULL GROUP BY s.id) x;
\echo -- all of it again, in one piece: nothing changes
CREATE TEMP TABLE before_ AS SELECT * FROM crm.shipment;
SELECT p.added, p.changed FROM crm.put_weighings('s', (SELECT array_agg(source_id ORDER BY id) FROM crm.weighing), (SELECT array_agg(vehicle_id ORDER BY id) FROM crm.weighing),
	(SELECT array_agg(kind ORDER BY id) FROM crm.weighing), (SELECT array_agg(kg ORDER BY id) FROM crm.weighing), (SELECT array_agg(at ORDER BY id) FROM crm.weighing),
	(SELECT array_agg(order_ref ORDER BY id) FROM crm.weighing), NULL, (SELECT array_agg(waybill ORDER BY id) FROM crm.weighing),
	(SELECT array_agg(cancelled_at IS NOT NULL ORDER BY id) FROM crm.weighing)) p;
SELECT crm.weighings_pair(array_agg(vehicle_id), array_agg(at)) FROM crm.weighing;
SELECT count(*) AS changed FROM (SELECT * FROM before_ EXCEPT SELECT * FROM crm.shipment) x;
\echo -- where vehicles come loaded
INSERT INTO crm.weighing_setting (gross_first) VALUES (true);
SELECT crm.weighings_pair(array_agg(vehicle_id), array_agg(at)) FROM crm.weighing;
SELECT v.id, w.* FROM crm.vehicle v, pg_temp.walk(v.id, true) w EXCEPT ALL SELECT * FROM pg_temp.ours;
SELECT * FROM pg_temp.ours EXCEPT ALL SELECT v.id, w.* FROM crm.vehicle v, pg_temp.walk(v.id, true) w;
SELECT promise, ok FROM crm.selftest() WHERE promise ~ 'weighing|shipment';
ROLLBACK;
