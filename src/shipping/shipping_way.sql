-- shipping: trips that are planned, a vehicle that is changed on the way, and when a vehicle is expected.

SELECT crm.register_foreign_key('crm.trip_carried', 'trip_id', 'crm.trip', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.trip_carried', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.leg_pass', 'trip_id', 'crm.trip', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.leg_pass', 'origin_place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.leg_pass', 'destination_place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.eta_said', 'trip_id', 'crm.trip', 'id', 'CASCADE');

CREATE OR REPLACE FUNCTION crm.plan_trip(vehicle_id bigint, order_ids bigint[], planned_at timestamptz, origin_place_id bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	o record;
	trip bigint;
	was  boolean;
BEGIN
	IF $3 IS NULL OR NOT isfinite($3) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('no trip can be planned for %s', coalesce($3::text, 'NULL')), HINT = 'Give the moment of loading.';
	ELSIF NOT EXISTS (SELECT FROM crm.vehicle v WHERE v.id = $1 AND crm.sees_vehicle(v.id)) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no vehicle has number %s', coalesce($1::text, 'NULL')), HINT = 'Give crm.vehicle.id.';
	ELSIF $4 IS NOT NULL AND NOT EXISTS (SELECT FROM crm.place g WHERE g.id = $4 AND (g.company_id IS NULL OR crm.sees_company(g.company_id))) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no place has number %s', $4), HINT = 'Give crm.place.id of the plant.';
	END IF;
	SELECT count(*) AS found, count(DISTINCT y.company_id) AS clients, count(DISTINCT coalesce(y.place_id, 0)) AS places, min(y.company_id) AS company_id,
		min(y.place_id) AS place_id, string_agg(y.number, ', ' ORDER BY y.number) FILTER (WHERE y.state IN ('closed', 'cancelled')) AS over
	INTO o FROM crm.customer_order y WHERE y.id = ANY ($2) AND crm.sees_order(y.id);
	IF o.found = 0 OR o.found <> (SELECT count(DISTINCT u) FROM unnest($2) u) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('not every order of %s is known', coalesce($2::text, 'NULL')), HINT = 'Give crm.customer_order.id of at least one order.';
	ELSIF o.over IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('order %s is closed or cancelled', o.over), HINT = 'A trip is planned for orders that are open.';
	ELSIF o.clients > 1 OR o.places > 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the orders are for several clients or places',
			HINT = 'A vehicle loaded for two places makes two trips: plan one for each.';
	END IF;
	was := crm.plant_door(true);
	PERFORM crm.lock_vehicles(ARRAY[$1]);
	-- the same plan once more is the same trip
	SELECT t.id INTO trip FROM crm.trip t
	WHERE t.vehicle_id = $1 AND t.state = 'planned' AND t.planned_at = $3 AND t.company_id = o.company_id AND t.destination_place_id IS NOT DISTINCT FROM o.place_id;
	IF trip IS NULL THEN
		INSERT INTO crm.trip (vehicle_id, company_id, origin_place_id, destination_place_id, state, planned_at)
		VALUES ($1, o.company_id, coalesce($4, (SELECT min(g.id) FROM crm.place g WHERE g.kind = 'plant' AND g.archived_at IS NULL HAVING count(*) = 1)), o.place_id, 'planned', $3)
		RETURNING id INTO trip;
	END IF;
	INSERT INTO crm.trip_order (trip_id, order_id) SELECT trip, u FROM (SELECT DISTINCT u FROM unnest($2) u) u ON CONFLICT DO NOTHING;
	IF NOT was THEN
		PERFORM crm.plant_door(false);
	END IF;
	RETURN trip;
END
$$;
COMMENT ON FUNCTION crm.plan_trip(bigint, bigint[], timestamptz, bigint) IS
'Plans a trip of a vehicle with orders of one client for one place, loaded at planned_at at a plant (the only one where none is given); returns it. The same call again returns the same trip. A weighing of that vehicle for that client and place within a day of it makes the plan the loading. Errors: 22008 no time; 42704 a vehicle or an order is not known; 55000 an order is over; 22023 orders for several clients or places';

CREATE OR REPLACE FUNCTION crm.change_vehicle(trip_id bigint, vehicle_id bigint, at timestamptz) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	t crm.trip;
BEGIN
	SELECT y.* INTO t FROM crm.trip y WHERE y.id = $1 AND crm.sees_trip(y.id);
	IF t.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no trip has number %s', coalesce($1::text, 'NULL')), HINT = 'Give crm.trip.id.';
	ELSIF NOT EXISTS (SELECT FROM crm.vehicle v WHERE v.id = $2 AND crm.sees_vehicle(v.id)) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no vehicle has number %s', coalesce($2::text, 'NULL')), HINT = 'Give crm.vehicle.id.';
	END IF;
	PERFORM crm.lock_vehicles(ARRAY[t.vehicle_id, $2]);
	SELECT y.* INTO t FROM crm.trip y WHERE y.id = $1 FOR UPDATE;
	IF t.vehicle_id = $2 THEN
		RETURN;
	ELSIF t.state IN ('unloaded', 'cancelled') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('trip %s is %s', $1, t.state), HINT = 'A vehicle is changed while the trip is under way.';
	ELSIF t.loaded_at IS NULL THEN
		UPDATE crm.trip y SET vehicle_id = $2 WHERE y.id = $1;	-- planned: there is nothing to keep apart
		RETURN;
	ELSIF $3 IS NULL OR NOT isfinite($3) OR $3 > crm.now() + interval '10 minutes' OR $3 <= greatest(t.loaded_at, t.vehicle_since) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('the vehicle of trip %s cannot have changed at %s', $1, coalesce($3::text, 'NULL')),
			HINT = format('Give a moment after %s and not in the future.', greatest(t.loaded_at, t.vehicle_since));
	END IF;
	INSERT INTO crm.trip_carried (trip_id, vehicle_id, from_at, to_at) VALUES ($1, t.vehicle_id, coalesce(t.vehicle_since, '-infinity'), $3);
	UPDATE crm.trip y SET vehicle_id = $2, vehicle_since = $3 WHERE y.id = $1;
	-- judged anew from there: the old one's fixes after it count no more, the new one's do
	PERFORM crm.trips_advance(ARRAY[$1], ARRAY[$3]);
END
$$;
COMMENT ON FUNCTION crm.change_vehicle(bigint, bigint, timestamptz) IS
'The load of a trip went over to another vehicle at that moment: fixes of the old one count until then, of the new one after. What was announced is not announced again. A trip that is only planned simply gets the vehicle. Naming the vehicle that it has changes nothing. Errors: 42704 no such trip or vehicle; 55000 the trip is over; 22008 a moment before the loading or the last change, or in the future';

CREATE OR REPLACE FUNCTION crm.leg_marks(vehicle_id bigint, lon double precision, lat double precision, from_at timestamptz, to_at timestamptz)
	RETURNS TABLE (mark_m integer, at timestamptz)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 14 AS $$
BEGIN
	RETURN QUERY
		SELECT m.mark, min(p.at)
		FROM (SELECT y.at, crm.distance_m(y.lon, y.lat, leg_marks.lon, leg_marks.lat) AS metres FROM crm.vehicle_position y
			WHERE y.vehicle_id = leg_marks.vehicle_id AND y.at > from_at AND y.at <= to_at) p
		CROSS JOIN unnest(ARRAY[1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500]) AS k(km)
		CROSS JOIN LATERAL (SELECT k.km * 1000 AS mark) m
		WHERE p.metres <= m.mark
		GROUP BY m.mark
		-- a mark that it was within from the start says nothing of the way
		HAVING min(p.at) > (SELECT min(y.at) FROM crm.vehicle_position y WHERE y.vehicle_id = leg_marks.vehicle_id AND y.at > from_at AND y.at <= to_at);
END
$$;
COMMENT ON FUNCTION crm.leg_marks(bigint, double precision, double precision, timestamptz, timestamptz) IS
'When, within a span, a vehicle first was within each of the marks 1 to 500 km of a point. Read once a trip, when it arrives';

CREATE OR REPLACE FUNCTION crm.trip_expected(origin_place_id bigint, destination_place_id bigint, distance_m double precision, fix_at timestamptz, own_eta timestamptz,
	OUT eta timestamptz, OUT eta_from timestamptz, OUT eta_to timestamptz, OUT history integer) RETURNS record
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
	own    double precision := greatest(extract(epoch FROM own_eta - fix_at), 0);
	mark   integer;
	h      record;
	weight double precision;
BEGIN
	-- the nearest mark at or beyond the distance, else the farthest there is
	SELECT m.km * 1000 INTO mark FROM unnest(ARRAY[1, 2, 5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500]) AS m(km)
	WHERE m.km * 1000 >= $3 ORDER BY m.km LIMIT 1;
	SELECT count(*)::integer AS n, percentile_cont(0.1) WITHIN GROUP (ORDER BY x.s) AS low, percentile_cont(0.5) WITHIN GROUP (ORDER BY x.s) AS middle,
		percentile_cont(0.9) WITHIN GROUP (ORDER BY x.s) AS high
	INTO h
	FROM (SELECT p.remaining_s * $3 / p.mark_m AS s FROM crm.leg_pass p
		WHERE p.destination_place_id = $2 AND p.origin_place_id = $1 AND p.mark_m = mark AND p.arrived_at < fix_at
		ORDER BY p.arrived_at DESC LIMIT 50) x;
	history := coalesce(h.n, 0);
	weight := history / (history + 5.0);
	eta := fix_at + interval '1 second' * CASE WHEN history = 0 THEN own ELSE (1 - weight) * own + weight * h.middle END;
	eta_from := least(eta, fix_at + interval '1 second' * CASE WHEN history = 0 THEN 0.75 * own ELSE (1 - weight) * 0.75 * own + weight * h.low END);
	eta_to := greatest(eta, fix_at + interval '1 second' * CASE WHEN history = 0 THEN 1.5 * own ELSE (1 - weight) * 1.5 * own + weight * h.high END);
END
$$;
COMMENT ON FUNCTION crm.trip_expected(bigint, bigint, double precision, timestamptz, timestamptz) IS
'When a vehicle that is so many metres (straight line) from its destination is expected, and the interval that should hold four arrivals of five: own_eta (by its own speed) with the interval 0.75 to 1.5 of the time left, drawn towards the median and the quantiles 0.1 and 0.9 of what the last fifty finished trips of the same leg took from the same distance, the more of these n there are (weight n / (n + 5)). history: n';
