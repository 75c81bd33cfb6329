/*
 * shipping: weighings, and how two of them become a shipment.
 *
 * The pairs of a vehicle are a function of its weighings, sorted by the
 * scales' time.  Whenever one comes, is corrected or cancelled, the days
 * around it are reckoned anew (crm.weighings_read) and what differs is written
 * (crm.weighings_pair): in whatever order the rows come, the pairs are the same.
 *
 * A shipment is bound to its gross: that is the load of which a client was
 * told.  While the gross stands, its shipment keeps its number, whatever tare
 * it is paired with.
 */

SELECT crm.register_foreign_key('crm.weighing', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_no_foreign_key('crm.weighing', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.weighing_pair', 'weighing_id', 'crm.weighing', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.weighing_pair', 'shipment_id', 'crm.shipment', 'id');
SELECT crm.register_foreign_key('crm.weighing_pair', 'planned_order_id', 'crm.customer_order', 'id');

CREATE OR REPLACE FUNCTION crm.weighing_check() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF new.kg = 'NaN' OR new.kg <= 0 OR new.kg > 1000000 THEN
		RAISE EXCEPTION USING ERRCODE = '22003', TABLE = 'weighing', SCHEMA = 'crm', COLUMN = 'kg',
			MESSAGE = format('weight %s kg is out of range', new.kg),
			HINT = 'Give kilograms above 0 and up to 1000000. A mistaken weighing is cancelled by cancelled_at, not by a negative weight.';
	END IF;
	IF new.at < '1990-01-01Z' OR new.at > '2199-12-31Z' OR NOT isfinite(coalesce(new.cancelled_at, new.at)) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', TABLE = 'weighing', SCHEMA = 'crm', COLUMN = 'at',
			MESSAGE = format('time %s of the weighing is out of range', new.at),
			HINT = 'Give the time at which it was weighed, between the years 1990 and 2199.';
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.weighing_check() IS 'Trigger of crm.weighing: weight and time in range. Errors: 22003, 22008, with the value and a hint';

CREATE OR REPLACE FUNCTION crm.weighing_settings(OUT pair interval, OUT again interval, OUT open interval, OUT gross_first boolean) RETURNS record
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT make_interval(hours => coalesce(max(s.pair_hours), 12)), make_interval(mins => coalesce(max(s.again_minutes), 30)),
		make_interval(hours => coalesce(max(s.open_hours), 24)), coalesce(bool_or(s.gross_first), false)
	FROM crm.weighing_setting s
$$;
COMMENT ON FUNCTION crm.weighing_settings() IS 'crm.weighing_setting with its defaults: the longest time between tare and gross, the time within which a second weighing replaces the first, when an open one is reported, and which of the two comes first where both readings fit';

-- Which order ---------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.weighing_order_of(order_ref text) RETURNS bigint
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce(
		(SELECT o.id FROM crm.customer_order o WHERE o.source = 'erp' AND o.source_id = $1),
		(SELECT min(o.id) FROM crm.customer_order o WHERE o.number = $1 AND o.state <> 'cancelled' HAVING count(*) = 1))
$$;
COMMENT ON FUNCTION crm.weighing_order_of(text) IS 'crm.customer_order.id by the ERP''s id or by a number that one order alone has; NULL: neither';

CREATE OR REPLACE FUNCTION crm.weighing_order_trips(vehicle_id bigint, at timestamptz, product text) RETURNS SETOF bigint
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1
AS $$
	SELECT DISTINCT x.order_id
	FROM (SELECT y.id FROM crm.trip y WHERE y.vehicle_id = $1 AND y.state = 'planned'
		AND y.loaded_at BETWEEN $2 - interval '2 days' AND $2 + interval '2 days' OFFSET 0) t
	CROSS JOIN LATERAL (SELECT y.order_id FROM crm.trip_order y WHERE y.trip_id = t.id OFFSET 0) x
$$;
COMMENT ON FUNCTION crm.weighing_order_trips(bigint, timestamptz, text) IS 'Hook weighing_order: the orders of planned trips of the vehicle, two days around the weighing';
SELECT crm.register_hook('weighing_order', 'trips', 'crm.weighing_order_trips');

CREATE OR REPLACE FUNCTION crm.weighing_order(vehicle_id bigint, at timestamptz, product text) RETURNS bigint
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook  record;
	more  bigint[];
	found_ bigint[] := '{}';
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'weighing_order' ORDER BY h.position LOOP
		EXECUTE format('SELECT array_agg(f) FROM %s($1, $2, $3) AS f', hook.function) INTO more USING $1, $2, $3;
		found_ := found_ || more;
	END LOOP;
	RETURN (SELECT CASE WHEN count(*) = 1 THEN min(o.id)
			-- several: the one of this product, if there is one such
			WHEN count(*) FILTER (WHERE lower(o.product) = lower($3)) = 1 THEN min(o.id) FILTER (WHERE lower(o.product) = lower($3)) END
		FROM (SELECT DISTINCT f.id FROM unnest(found_) AS f(id) WHERE f.id IS NOT NULL) f
		CROSS JOIN LATERAL (SELECT y.id, y.product FROM crm.customer_order y WHERE y.id = f.id AND y.state IN ('new', 'confirmed', 'shipping') OFFSET 0) o);
END
$$;
COMMENT ON FUNCTION crm.weighing_order(bigint, timestamptz, text) IS 'The only open order that a vehicle can have been weighed for: asks the hooks weighing_order f(vehicle_id bigint, at timestamptz, product text) RETURNS SETOF bigint (order ids) for candidates; of several the one of that product. NULL: none, or more than one';

-- Pairs -----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.weighings_read(vehicle_ids bigint[], from_ats timestamptz[], to_ats timestamptz[])
	RETURNS TABLE (weighing_id bigint, vehicle_id bigint, at timestamptz, key text, cancelled boolean, read_as text, island bigint, last_one boolean,
		pair bigint, kg numeric, order_ref text, product text, waybill text, reason text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off ROWS 1000 AS $$
#variable_conflict use_column
BEGIN
	-- plpgsql keeps the plan: making it takes longer than running it for one vehicle
	RETURN QUERY
	WITH setting AS MATERIALIZED (SELECT * FROM crm.weighing_settings()),
	mine AS MATERIALIZED (
		SELECT w.*, v.tare_kg, s.pair AS pair_limit, s.again, s.gross_first
		FROM unnest($1, $2, $3) AS u(vehicle_id, from_at, to_at)
		CROSS JOIN setting s
		CROSS JOIN LATERAL (SELECT y.tare_kg FROM crm.vehicle y WHERE y.id = u.vehicle_id OFFSET 0) v
		CROSS JOIN LATERAL (SELECT y.* FROM crm.weighing y WHERE y.vehicle_id = u.vehicle_id AND y.at BETWEEN u.from_at AND u.to_at OFFSET 0) w
	), beside AS (
		SELECT m.*, CASE WHEN m.at - lag(m.at) OVER w <= m.pair_limit THEN lag(m.kg) OVER w END AS before_kg,
			CASE WHEN lead(m.at) OVER w - m.at <= m.pair_limit THEN lead(m.kg) OVER w END AS after_kg
		FROM mine m WHERE m.cancelled_at IS NULL
		WINDOW w AS (PARTITION BY m.vehicle_id ORDER BY m.at, m.source, m.source_id)
	), marked AS (
		-- Where the scales do not say what they weighed: a fifth more than before is a load, a fifth less is none.
		SELECT b.*, CASE
			WHEN b.kind <> 'unknown' THEN b.kind
			WHEN b.tare_kg IS NOT NULL THEN CASE WHEN b.kg <= 1.25 * b.tare_kg THEN 'tare' ELSE 'gross' END
			WHEN b.before_kg IS NOT NULL THEN CASE WHEN b.kg > 1.2 * b.before_kg THEN 'gross' WHEN b.kg * 1.2 < b.before_kg THEN 'tare' END
			WHEN b.after_kg > 1.2 * b.kg THEN 'tare'
			WHEN b.after_kg * 1.2 < b.kg THEN 'gross'
			ELSE 'none' END AS mark
		FROM beside b
	), grouped AS (
		SELECT m.*, count(m.mark) OVER (PARTITION BY m.vehicle_id ORDER BY m.at, m.source, m.source_id) AS grp FROM marked m
	), followed AS (
		SELECT g.vehicle_id, g.grp, min(g.mark) AS mark, lead(min(g.mark)) OVER w AS after_mark,
			lead(min(g.at)) OVER w - max(g.at) <= min(g.pair_limit) AS near
		FROM grouped g GROUP BY g.vehicle_id, g.grp
		WINDOW w AS (PARTITION BY g.vehicle_id ORDER BY g.grp)
	), told AS MATERIALIZED (
		SELECT g.*, CASE WHEN f.mark <> 'none' THEN f.mark WHEN NOT f.near THEN NULL
			WHEN f.after_mark = 'gross' THEN 'tare' WHEN f.after_mark = 'tare' THEN 'gross' END AS half
		FROM grouped g JOIN followed f ON f.vehicle_id = g.vehicle_id AND f.grp = g.grp
	), stepped AS (
		-- Weighed again: within minutes, or while the vehicle is known to have stayed inside the plant.
		SELECT t.*, CASE
			WHEN lag(t.half) OVER w IS DISTINCT FROM t.half THEN 1
			WHEN t.at - lag(t.at) OVER w <= t.again THEN 0
			WHEN t.at - lag(t.at) OVER w > t.pair_limit THEN 1
			WHEN EXISTS (SELECT FROM (SELECT y.place_id, y.entered_at, y.left_at FROM crm.passage y WHERE y.vehicle_id = t.vehicle_id AND y.superseded_at IS NULL
					AND coalesce(y.exit_fix_at, 'infinity') > t.at ORDER BY coalesce(y.exit_fix_at, 'infinity') OFFSET 0) p
				CROSS JOIN LATERAL (SELECT FROM crm.place y WHERE y.id = p.place_id AND y.kind = 'plant' OFFSET 0) g
				WHERE p.entered_at <= t.before_at) THEN 0
			ELSE 1 END AS step
		FROM (SELECT x.*, lag(x.at) OVER (PARTITION BY x.vehicle_id ORDER BY x.at, x.source, x.source_id) AS before_at
			FROM told x WHERE x.half IS NOT NULL) t
		WINDOW w AS (PARTITION BY t.vehicle_id ORDER BY t.at, t.source, t.source_id)
	), numbered AS MATERIALIZED (
		SELECT s.*, sum(s.step) OVER w AS island, lead(s.step) OVER w IS DISTINCT FROM 0 AS last_one
		FROM stepped s
		WINDOW w AS (PARTITION BY s.vehicle_id ORDER BY s.at, s.source, s.source_id)
	), islands AS (
		SELECT n.vehicle_id, n.island, min(n.half) AS half, min(n.at) AS first_at, max(n.at) AS last_at,
			max(n.kg) FILTER (WHERE n.last_one) AS kg, min(n.pair_limit) AS pair_limit, bool_or(n.gross_first) AS gross_first,
			(array_agg(n.order_ref ORDER BY n.at DESC, n.source DESC, n.source_id DESC) FILTER (WHERE n.order_ref IS NOT NULL))[1] AS order_ref,
			(array_agg(n.product ORDER BY n.at DESC, n.source DESC, n.source_id DESC) FILTER (WHERE n.product IS NOT NULL))[1] AS product,
			(array_agg(n.waybill ORDER BY n.at DESC, n.source DESC, n.source_id DESC) FILTER (WHERE n.waybill IS NOT NULL))[1] AS waybill
		FROM numbered n GROUP BY n.vehicle_id, n.island
	), linked AS (
		-- May this one and the next be the two halves? 4 and 3: one waybill; 4 and 2: in the usual order.
		SELECT i.*, lead(i.half) OVER w AS next_half, lead(i.kg) OVER w AS next_kg,
			lead(i.half) OVER w <> i.half AND lead(i.first_at) OVER w - i.last_at <= i.pair_limit AS near,
			CASE WHEN lead(i.half) OVER w <> i.half AND lead(i.first_at) OVER w - i.last_at <= i.pair_limit
				AND CASE i.half WHEN 'tare' THEN lead(i.kg) OVER w > i.kg ELSE lead(i.kg) OVER w < i.kg END
				AND coalesce(i.order_ref = lead(i.order_ref) OVER w, true)
				AND coalesce(i.waybill = lead(i.waybill) OVER w, true)
			THEN CASE WHEN i.half = 'tare' THEN 2 ELSE 1 END + CASE WHEN i.gross_first THEN CASE WHEN i.half = 'tare' THEN -1 ELSE 1 END ELSE 0 END
				+ CASE WHEN i.waybill = lead(i.waybill) OVER w THEN 2 ELSE 0 END
			ELSE 0 END AS rank
		FROM islands i
		WINDOW w AS (PARTITION BY i.vehicle_id ORDER BY i.island)
	), third AS (
		SELECT l.*, l.rank = 4 OR l.rank = 3 AND coalesce(lag(l.rank) OVER w, 0) <> 4 AND coalesce(lead(l.rank) OVER w, 0) <> 4 AS chosen
		FROM linked l WINDOW w AS (PARTITION BY l.vehicle_id ORDER BY l.island)
	), second AS (
		SELECT t.*, t.chosen OR t.rank = 2 AND NOT coalesce(lag(t.chosen) OVER w, false) AND NOT coalesce(lead(t.chosen) OVER w, false) AS chosen_2
		FROM third t WINDOW w AS (PARTITION BY t.vehicle_id ORDER BY t.island)
	), first AS (
		SELECT s.*, s.chosen_2 OR s.rank = 1 AND NOT coalesce(lag(s.chosen_2) OVER w, false) AND NOT coalesce(lead(s.chosen_2) OVER w, false) AS chosen_1
		FROM second s WINDOW w AS (PARTITION BY s.vehicle_id ORDER BY s.island)
	), paired AS MATERIALIZED (
		SELECT f.vehicle_id, f.island, f.half, f.kg, f.order_ref, f.product, f.waybill,
			CASE WHEN f.chosen_1 THEN f.island WHEN lag(f.chosen_1) OVER w THEN lag(f.island) OVER w END AS pair,
			CASE WHEN f.near AND f.half = 'tare' AND f.next_kg <= f.kg THEN format('the gross after it weighs no more: %s kg', trim_scale(f.next_kg))
				WHEN f.half = 'gross' AND lag(f.near) OVER w AND lag(f.kg) OVER w >= f.kg THEN format('the tare before it weighs no less: %s kg', trim_scale(lag(f.kg) OVER w))
				WHEN f.half = 'tare' THEN 'no gross belongs to it' ELSE 'no tare belongs to it' END AS reason
		FROM first f WINDOW w AS (PARTITION BY f.vehicle_id ORDER BY f.island)
	)
	SELECT m.id, m.vehicle_id, m.at, m.source || ':' || m.source_id, m.cancelled_at IS NOT NULL, t.half, n.island, coalesce(n.last_one, false), p.pair,
		CASE WHEN n.last_one THEN m.kg END, p.order_ref, p.product, p.waybill,
		CASE WHEN m.cancelled_at IS NOT NULL OR p.pair IS NOT NULL THEN NULL WHEN t.half IS NULL THEN 'neither tare nor gross can be told from it alone' ELSE p.reason END
	FROM mine m
	LEFT JOIN told t ON t.id = m.id
	LEFT JOIN numbered n ON n.id = m.id
	LEFT JOIN paired p ON p.vehicle_id = n.vehicle_id AND p.island = n.island;
END
$$;
COMMENT ON FUNCTION crm.weighings_read(bigint[], timestamptz[], timestamptz[]) IS
'How the weighings of vehicles between two moments are read, a row each, from nothing but themselves: tare or gross; the run of repeated weighings (island) whose last one counts; the pair (number of its first island) that the run belongs to; order, product and waybill of the run; why it has no pair. Tare and gross beside each other in time, at most pair_hours apart, the gross heavier, orders and waybills not in conflict; one waybill decides, then the usual order of the two (crm.weighing_setting.gross_first)';

CREATE OR REPLACE FUNCTION crm.weighings_pair(vehicle_ids bigint[], ats timestamptz[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off AS $$
DECLARE
	limit_   interval := (SELECT s.pair + s.again FROM crm.weighing_settings() s);
	vehicles bigint[];
	froms    timestamptz[];
	tos      timestamptz[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN;
	END IF;
	SELECT array_agg(x.id ORDER BY x.id), array_agg(x.from_at ORDER BY x.id), array_agg(x.to_at ORDER BY x.id) INTO vehicles, froms, tos
	FROM (SELECT u.id, min(u.at) AS from_at, max(u.at) AS to_at FROM unnest(vehicle_ids, ats) AS u(id, at) WHERE u.id IS NOT NULL GROUP BY u.id) x;
	IF vehicles IS NULL THEN
		RETURN;
	END IF;
	PERFORM crm.lock_vehicles(vehicles);

	-- A weighing decides about its neighbours and theirs: two spans on each side are written, four are looked at.
	WITH span AS MATERIALIZED (
		SELECT u.id, u.from_at - 2 * limit_ AS from_at, u.to_at + 2 * limit_ AS to_at FROM unnest(vehicles, froms, tos) AS u(id, from_at, to_at)
	), read AS MATERIALIZED (
		SELECT r.*, r.at BETWEEN s.from_at AND s.to_at AS written, k.shipment_id AS old_shipment_id, k.planned_order_id AS old_order_id
		FROM crm.weighings_read(vehicles, ARRAY(SELECT f.at - 4 * limit_ FROM unnest(froms) WITH ORDINALITY AS f(at, n) ORDER BY f.n),
			ARRAY(SELECT f.at + 4 * limit_ FROM unnest(tos) WITH ORDINALITY AS f(at, n) ORDER BY f.n)) r
		JOIN span s ON s.id = r.vehicle_id
		LEFT JOIN LATERAL (SELECT y.shipment_id, y.planned_order_id FROM crm.weighing_pair y WHERE y.weighing_id = r.weighing_id OFFSET 0) k ON true
	), tare AS (
		SELECT r.* FROM read r WHERE r.pair IS NOT NULL AND r.last_one AND r.read_as = 'tare'
	), both_ AS MATERIALIZED (
		SELECT g.vehicle_id, g.pair, g.weighing_id AS gross_id, g.key, g.island AS gross_island, g.kg AS gross_kg, t.kg AS tare_kg, greatest(g.at, t.at) AS at,
			coalesce(g.order_ref, t.order_ref) AS order_ref, coalesce(g.product, t.product) AS product, coalesce(g.waybill, t.waybill) AS waybill
		FROM read g JOIN tare t ON t.vehicle_id = g.vehicle_id AND t.pair = g.pair
		WHERE g.pair IS NOT NULL AND g.last_one AND g.read_as = 'gross' AND g.written
	), planned AS (
		-- what the plan said once for one of the run
		SELECT DISTINCT ON (r.vehicle_id, r.island) r.vehicle_id, r.island, r.old_order_id FROM read r WHERE r.old_order_id IS NOT NULL AND NOT r.cancelled
		ORDER BY r.vehicle_id, r.island, r.last_one DESC, r.at DESC, r.key DESC
	), known AS MATERIALIZED (
		SELECT b.*, b.order_ref IS NULL AS by_plan,
			CASE WHEN b.order_ref IS NULL THEN coalesce(l.old_order_id, crm.weighing_order(b.vehicle_id, b.at, b.product)) ELSE crm.weighing_order_of(b.order_ref) END AS order_id
		FROM both_ b LEFT JOIN planned l ON l.vehicle_id = b.vehicle_id AND l.island = b.gross_island
	), candidate AS (
		-- The shipment that a gross has: by its name, else by what the weighings of its run belonged to.
		SELECT c.gross_id, c.key, c.rank, c.at, y.id
		FROM (
			SELECT k.*, m.old_shipment_id, CASE WHEN m.last_one THEN 2 ELSE 3 END AS rank
			FROM known k JOIN read m ON m.vehicle_id = k.vehicle_id AND m.island = k.gross_island
			WHERE m.old_shipment_id IS NOT NULL
			UNION ALL
			-- two look-ups: of a list the index would use the source alone
			SELECT k.*, y.id, 1 FROM known k
			CROSS JOIN LATERAL (SELECT z.id FROM crm.shipment z WHERE z.source = 'weighing' AND z.source_id = k.key OFFSET 0) y
			UNION ALL
			SELECT k.*, y.id, 1 FROM known k
			CROSS JOIN LATERAL (SELECT z.id FROM crm.shipment z WHERE z.source = 'weighing' AND z.source_id = k.key || '#' || k.order_id || '.' || k.vehicle_id OFFSET 0) y) c
		CROSS JOIN LATERAL (SELECT z.id, z.order_id, z.vehicle_id, z.announced_at FROM crm.shipment z WHERE z.id = c.old_shipment_id OFFSET 0) y
		-- The client was told of its order: another order is another shipment.
		WHERE c.order_id IS NOT NULL AND (y.announced_at IS NULL OR y.order_id = c.order_id AND y.vehicle_id = c.vehicle_id)
	), won AS (
		SELECT DISTINCT ON (c.id) c.* FROM candidate c ORDER BY c.id, c.rank, c.at DESC, c.key DESC
	), taken AS MATERIALIZED (
		SELECT DISTINCT ON (w.gross_id) w.gross_id, w.id FROM won w ORDER BY w.gross_id, w.rank, w.id
	), pairs AS MATERIALIZED (
		SELECT k.*, coalesce(k.product, o.product) AS of_product, t.id IS NULL AS is_new, coalesce(t.id, nextval('crm.shipment_id_seq')) AS shipment_id
		FROM known k
		CROSS JOIN LATERAL (SELECT y.product FROM crm.customer_order y WHERE y.id = k.order_id OFFSET 0) o
		LEFT JOIN taken t ON t.gross_id = k.gross_id
	), added AS (
		INSERT INTO crm.shipment (id, order_id, vehicle_id, product, tare_kg, gross_kg, weighed_at, waybill, source, source_id)
		SELECT p.shipment_id, p.order_id, p.vehicle_id, p.of_product, p.tare_kg, p.gross_kg, p.at, p.waybill, 'weighing',
			CASE WHEN EXISTS (SELECT FROM crm.shipment x WHERE x.source = 'weighing' AND x.source_id = p.key OFFSET 0)
				THEN p.key || '#' || p.order_id || '.' || p.vehicle_id ELSE p.key END
		FROM pairs p WHERE p.is_new ORDER BY p.at, p.key
	), changed AS (
		UPDATE crm.shipment s
		SET order_id = p.order_id, vehicle_id = p.vehicle_id, product = p.of_product, tare_kg = p.tare_kg, gross_kg = p.gross_kg, net_kg = p.gross_kg - p.tare_kg,
			weighed_at = p.at, waybill = p.waybill, cancelled_at = NULL
		FROM pairs p
		WHERE NOT p.is_new AND s.id = ANY (ARRAY[p.shipment_id])
			AND (s.order_id, s.vehicle_id, s.product, s.tare_kg, s.gross_kg, s.weighed_at, s.waybill, s.cancelled_at)
			IS DISTINCT FROM (p.order_id, p.vehicle_id, p.of_product, p.tare_kg, p.gross_kg, p.at, p.waybill, NULL::timestamptz)
	), dissolved AS (
		-- Storno of a half, or a half that belongs elsewhere.
		UPDATE crm.shipment s SET cancelled_at = crm.now()
		FROM (SELECT r.old_shipment_id AS id FROM read r
			WHERE r.written AND r.old_shipment_id IS NOT NULL AND coalesce(r.read_as, 'gross') = 'gross'
			EXCEPT SELECT p.shipment_id FROM pairs p
			EXCEPT SELECT x.old_shipment_id FROM read x WHERE NOT x.written AND x.read_as = 'gross' AND x.pair IS NOT NULL) d
		WHERE s.id = ANY (ARRAY[d.id]) AND s.cancelled_at IS NULL
	), outcome AS (
		SELECT r.weighing_id, r.read_as,
			CASE WHEN r.cancelled THEN 'cancelled' WHEN r.pair IS NULL OR p.shipment_id IS NULL THEN 'open' WHEN r.last_one THEN 'paired' ELSE 'replaced' END AS state,
			CASE WHEN p.shipment_id IS NOT NULL AND NOT r.cancelled THEN p.shipment_id
				WHEN r.cancelled OR r.read_as = 'gross' THEN r.old_shipment_id END AS shipment_id,
			CASE WHEN r.cancelled OR p.shipment_id IS NOT NULL THEN NULL
				WHEN k.gross_id IS NOT NULL AND k.order_ref IS NOT NULL THEN format('order "%s" is not known', k.order_ref)
				WHEN k.gross_id IS NOT NULL THEN 'no order is named, and the vehicle has not exactly one open'
				ELSE r.reason END AS reason,
			CASE WHEN NOT r.cancelled AND p.shipment_id IS NULL AND k.gross_id IS NOT NULL THEN coalesce(k.order_ref, '') END AS waits_for,
			CASE WHEN r.weighing_id = k.gross_id AND k.by_plan THEN k.order_id ELSE r.old_order_id END AS planned_order_id
		FROM read r
		LEFT JOIN known k ON k.vehicle_id = r.vehicle_id AND k.pair = r.pair
		LEFT JOIN pairs p ON p.vehicle_id = r.vehicle_id AND p.pair = r.pair
		WHERE r.written AND (r.pair IS NULL OR k.gross_id IS NOT NULL)
	)
	INSERT INTO crm.weighing_pair AS x (weighing_id, state, read_as, shipment_id, reason, waits_for, planned_order_id)
	SELECT o.weighing_id, o.state, o.read_as, o.shipment_id, o.reason, o.waits_for, o.planned_order_id FROM outcome o
	ON CONFLICT ON CONSTRAINT weighing_pair_pkey DO UPDATE
	SET state = excluded.state, read_as = excluded.read_as, shipment_id = excluded.shipment_id, reason = excluded.reason, waits_for = excluded.waits_for, planned_order_id = excluded.planned_order_id, tried_at = crm.now(),
		changed_at = CASE WHEN (x.state, x.read_as, x.shipment_id) IS DISTINCT FROM (excluded.state, excluded.read_as, excluded.shipment_id) THEN crm.now() ELSE x.changed_at END
	WHERE (x.state, x.read_as, x.shipment_id, x.reason, x.waits_for, x.planned_order_id) IS DISTINCT FROM (excluded.state, excluded.read_as, excluded.shipment_id, excluded.reason, excluded.waits_for, excluded.planned_order_id)
		OR excluded.waits_for IS NOT NULL;
END
$$;
COMMENT ON FUNCTION crm.weighings_pair(bigint[], timestamptz[]) IS
'Pairs the weighings of vehicles around the moments at which some came or changed: a shipment for each pair whose order is known, changed weights of one that was there, a storno for one whose halves are none any more. What follows of a shipment (trip, shipment.loaded) is its own triggers'' work. The same again changes nothing. Asleep until crm.activate(). Claim 47';

CREATE OR REPLACE FUNCTION crm.weighing_changed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.weighings_pair(array_agg(f.vehicle_id), array_agg(f.at)) FROM fresh f;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.weighing_changed() IS 'Trigger of crm.weighing: pairs what came. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.weighing_updated() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.weighings_pair(array_agg(x.vehicle_id), array_agg(x.at))
		FROM (SELECT s.vehicle_id, s.at FROM stale s UNION SELECT f.vehicle_id, f.at FROM fresh f) x;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.weighing_updated() IS 'Trigger of crm.weighing: pairs anew where a weighing was and where it is now. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.weighing_order_added() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.weighings_pair(array_agg(w.vehicle_id), array_agg(w.at))
		FROM (SELECT f.number AS ref FROM fresh f UNION SELECT f.source_id FROM fresh f WHERE f.source = 'erp') r
		CROSS JOIN LATERAL (SELECT y.weighing_id FROM crm.weighing_pair y WHERE y.waits_for = r.ref OFFSET 0) k
		CROSS JOIN LATERAL (SELECT y.vehicle_id, y.at FROM crm.weighing y WHERE y.id = k.weighing_id OFFSET 0) w
		HAVING count(*) > 0;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.weighing_order_added() IS 'Trigger of crm.customer_order: weighings that waited for it are paired. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.put_weighings(source text, source_ids text[], vehicle_ids bigint[], kinds text[], kgs numeric[], ats timestamptz[],
	order_refs text[] DEFAULT NULL, products text[] DEFAULT NULL, waybills text[] DEFAULT NULL, stornos boolean[] DEFAULT NULL,
	OUT added bigint, OUT changed bigint, OUT same bigint) RETURNS record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
	IF coalesce($1, '') = '' OR length($1) > 200 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('source %s names no origin of weighings', coalesce(quote_literal(left($1, 40)), 'NULL')),
			HINT = 'Give a word for where the ids come from, scales:7 for integration 7.';
	END IF;
	IF cardinality($2) > 100000 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = format('%s weighings in one call are too many', cardinality($2)), HINT = 'Give at most 100000.';
	END IF;
	-- Writers of one vehicle follow each other: else two of them could lock rows crosswise.
	PERFORM crm.lock_vehicles($3);
	WITH given AS (
		-- of one id twice the last counts
		SELECT DISTINCT ON (u.source_id) u.* FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10) WITH ORDINALITY
			AS u(source_id, vehicle_id, kind, kg, at, order_ref, product, waybill, storno, n)
		ORDER BY u.source_id, u.n DESC
	), put AS (
		INSERT INTO crm.weighing AS w (source, source_id, vehicle_id, kind, kg, at, order_ref, product, waybill, cancelled_at)
		SELECT $1, g.source_id, g.vehicle_id, coalesce(g.kind, 'unknown'), g.kg, g.at, nullif(g.order_ref, ''), nullif(g.product, ''), nullif(g.waybill, ''),
			CASE WHEN g.storno THEN crm.now() END
		FROM given g ORDER BY g.source_id
		ON CONFLICT ON CONSTRAINT weighing_source_key DO UPDATE
		SET vehicle_id = excluded.vehicle_id, kind = excluded.kind, kg = excluded.kg, at = excluded.at, order_ref = excluded.order_ref, product = excluded.product,
			waybill = excluded.waybill, cancelled_at = CASE WHEN excluded.cancelled_at IS NULL THEN NULL ELSE coalesce(w.cancelled_at, excluded.cancelled_at) END
		WHERE (w.vehicle_id, w.kind, w.kg, w.at, w.order_ref, w.product, w.waybill, w.cancelled_at IS NULL)
			IS DISTINCT FROM (excluded.vehicle_id, excluded.kind, excluded.kg, excluded.at, excluded.order_ref, excluded.product, excluded.waybill, excluded.cancelled_at IS NULL)
		RETURNING w.xmax = 0 AS fresh
	)
	SELECT count(*) FILTER (WHERE p.fresh), count(*) FILTER (WHERE NOT p.fresh), (SELECT count(*) FROM given) - count(*) INTO added, changed, same FROM put p;
END
$$;
COMMENT ON FUNCTION crm.put_weighings(text, text[], bigint[], text[], numeric[], timestamptz[], text[], text[], text[], boolean[]) IS
'The door for weighings: arrays of one length, an element a weighing, in any order: id there, vehicle, kind (tare, gross, unknown), kilograms, moment, order (the ERP''s id or the number), product, waybill, storno. The row of an id is as it came last; the same again changes nothing. Returns how many were new, changed, the same. Errors: 22003, 22008, 23502, 23503, 23514 of a row end the call: whoever reads from outside looks his rows through before. 54000 more than 100000';

-- What is open ------------------------------------------------------------------------

CREATE OR REPLACE VIEW crm.weighing_open AS
	SELECT w.id, w.at, v.plate AS vehicle_plate, coalesce(k.read_as, w.kind) AS kind, w.kg, w.order_ref, w.product, w.waybill, k.reason, k.changed_at AS since, w.source, w.source_id
	FROM crm.weighing_pair k
	JOIN crm.weighing w ON w.id = k.weighing_id
	JOIN crm.vehicle v ON v.id = w.vehicle_id
	WHERE k.state = 'open';
COMMENT ON VIEW crm.weighing_open IS 'Weighings that are no shipment: the other half is missing, or the order. Mended where it came from (source): the ERP, or the scales';
COMMENT ON COLUMN crm.weighing_open.id IS 'crm.weighing.id';
COMMENT ON COLUMN crm.weighing_open.at IS 'When it was weighed';
COMMENT ON COLUMN crm.weighing_open.vehicle_plate IS 'Plate of the vehicle';
COMMENT ON COLUMN crm.weighing_open.kind IS 'tare, gross, unknown';
COMMENT ON COLUMN crm.weighing_open.kg IS 'Weight, kg';
COMMENT ON COLUMN crm.weighing_open.order_ref IS 'Order as the scales named it; NULL: not named';
COMMENT ON COLUMN crm.weighing_open.product IS 'Product as the scales named it';
COMMENT ON COLUMN crm.weighing_open.waybill IS 'Number of the waybill';
COMMENT ON COLUMN crm.weighing_open.reason IS 'What is missing, in English';
COMMENT ON COLUMN crm.weighing_open.since IS 'Since when it is open';
COMMENT ON COLUMN crm.weighing_open.source IS 'erp, or scales: and crm.integration.id';
COMMENT ON COLUMN crm.weighing_open.source_id IS 'Id there';

CREATE OR REPLACE FUNCTION crm.weighing_maintain() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
BEGIN
	-- A trip or a slot may have been planned since; and what came before crm.activate() was paired by nobody.
	PERFORM crm.weighings_pair(array_agg(x.vehicle_id), array_agg(x.at))
	FROM (SELECT w.vehicle_id, w.at
		FROM (SELECT y.weighing_id FROM crm.weighing_pair y WHERE y.waits_for = '' AND y.tried_at < crm.now() - interval '5 minutes' ORDER BY y.tried_at LIMIT 100) k
		CROSS JOIN LATERAL (SELECT y.vehicle_id, y.at FROM crm.weighing y WHERE y.id = k.weighing_id AND y.at > crm.now() - interval '7 days' OFFSET 0) w) x
	HAVING count(*) > 0;
END
$$;
COMMENT ON FUNCTION crm.weighing_maintain() IS 'Looks again for the orders of weighings of the last seven days that named none, each every five minutes; hook maintain';
SELECT crm.register_hook('maintain', 'weighing', 'crm.weighing_maintain');

CREATE OR REPLACE FUNCTION crm.weighing_activated() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.weighings_pair(array_agg(w.vehicle_id), array_agg(w.at)) FROM crm.weighing w
	WHERE NOT EXISTS (SELECT FROM crm.weighing_pair k WHERE k.weighing_id = w.id)
	HAVING count(*) > 0;
END
$$;
COMMENT ON FUNCTION crm.weighing_activated() IS 'At the end of crm.activate(): weighings that came meanwhile are paired';
SELECT crm.register_hook('activate', 'weighing', 'crm.weighing_activated');

CREATE OR REPLACE FUNCTION crm.weighing_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', 'weighings', format('%s weighings are no shipment after %s hours, the last one of %s at %s: %s', count(*), extract(epoch FROM min(s.open))::integer / 3600,
			(array_agg(o.vehicle_plate ORDER BY o.at DESC, o.id DESC))[1], max(o.at), (array_agg(o.reason ORDER BY o.at DESC, o.id DESC))[1]),
		'SELECT * FROM crm.weighing_open; a missing order, half or storno comes from where the weighing came from (column source).', min(o.at)
	FROM crm.weighing_open o CROSS JOIN crm.weighing_settings() s
	WHERE o.at < crm.now() - s.open AND o.at > crm.now() - interval '30 days'
	HAVING count(*) > 0
$$;
COMMENT ON FUNCTION crm.weighing_health() IS 'Weighings of the last thirty days that have been open for too long; a part of crm.health';
SELECT crm.register_hook('health', 'weighing', 'crm.weighing_health');

CREATE OR REPLACE FUNCTION crm.weighing_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'a weighing is a half of one shipment at most', count(*) = 0, format('%s shipments have another number of halves than two', count(*))
	FROM (SELECT k.shipment_id FROM crm.weighing_pair k WHERE k.state = 'paired' GROUP BY k.shipment_id
		HAVING count(*) <> 2 OR count(DISTINCT k.read_as) <> 2) x
$$;
COMMENT ON FUNCTION crm.weighing_selftest() IS 'What must hold of pairs; a part of crm.selftest()';
SELECT crm.register_hook('selftest', 'weighing', 'crm.weighing_selftest');
