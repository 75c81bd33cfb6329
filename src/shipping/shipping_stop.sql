-- shipping: stops and silences of vehicles. crm.put_positions() finds the stops (stop.c).

SELECT crm.register_no_foreign_key('crm.stop', 'vehicle_id', 'history that crm.put_positions() computes; it looks the vehicle up');
SELECT crm.register_no_foreign_key('crm.stop', 'place_id', 'history that crm.put_positions() computes from crm.place; a place may go, its history stays');

CREATE OR REPLACE FUNCTION crm.stops_from(vehicle_ids bigint[], from_ats timestamptz[])
	RETURNS TABLE (vehicle_id bigint, id bigint, place_id bigint, from_at timestamptz, to_at timestamptz, gap boolean, lon double precision, lat double precision)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off ROWS 500 AS $$
BEGIN
	RETURN QUERY
		SELECT u.vehicle_id, s.id, s.place_id, s.from_at, s.to_at, s.gap, s.lon, s.lat
		FROM unnest(vehicle_ids, from_ats) AS u(vehicle_id, at)
		CROSS JOIN LATERAL (
			(SELECT y.* FROM crm.stop y WHERE y.vehicle_id = u.vehicle_id AND y.superseded_at IS NULL AND y.from_at <= u.at ORDER BY y.from_at DESC LIMIT 1)
			UNION ALL
			(SELECT y.* FROM crm.stop y WHERE y.vehicle_id = u.vehicle_id AND y.superseded_at IS NULL AND y.from_at > u.at ORDER BY y.from_at OFFSET 0)) s
		ORDER BY u.vehicle_id, s.from_at;
END
$$;
COMMENT ON FUNCTION crm.stops_from(bigint[], timestamptz[]) IS 'Of each vehicle the last stop in force that began by its moment, and later ones; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.write_stops(ids bigint[], vehicle_ids bigint[], place_ids bigint[], froms timestamptz[], tos timestamptz[], gaps boolean[],
	lons double precision[], lats double precision[], replaces boolean[], withdrawn boolean[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off AS $$
BEGIN
	-- what late fixes disproved or corrected goes first: one row in force a vehicle and moment
	UPDATE crm.stop s SET superseded_at = crm.now()
	FROM unnest(ids, replaces, withdrawn) AS u(id, replaces, withdrawn)
	WHERE (u.replaces OR u.withdrawn) AND s.id = ANY (ARRAY[u.id]);
	UPDATE crm.stop s SET to_at = u.to_at, gap = u.gap
	FROM unnest(ids, tos, gaps, replaces, withdrawn) AS u(id, to_at, gap, replaces, withdrawn)
	WHERE u.id IS NOT NULL AND NOT u.replaces AND NOT u.withdrawn AND s.id = ANY (ARRAY[u.id]);
	INSERT INTO crm.stop (vehicle_id, place_id, from_at, to_at, gap, lon, lat)
	SELECT u.vehicle_id, u.place_id, u.from_at, u.to_at, u.gap, u.lon, u.lat
	FROM unnest(ids, vehicle_ids, place_ids, froms, tos, gaps, lons, lats, replaces, withdrawn) AS u(id, vehicle_id, place_id, from_at, to_at, gap, lon, lat, replaces, withdrawn)
	WHERE (u.id IS NULL OR u.replaces) AND NOT u.withdrawn;
END
$$;
COMMENT ON FUNCTION crm.write_stops(bigint[], bigint[], bigint[], timestamptz[], timestamptz[], boolean[], double precision[], double precision[], boolean[], boolean[]) IS
'Writes new stops and new versions, completes those that went on, gives up those that late positions disproved; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.position_gaps(vehicle_id bigint, from_at timestamptz, to_at timestamptz)
	RETURNS TABLE (silent_from timestamptz, silent_to timestamptz, seconds double precision, distance_m double precision)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.sees_vehicle($1) THEN
		RETURN;
	END IF;
	RETURN QUERY
		SELECT x.at, x.next_at, extract(epoch FROM coalesce(x.next_at, crm.now()) - x.at)::double precision, crm.distance_m(x.lon, x.lat, x.next_lon, x.next_lat)
		FROM (SELECT p.at, p.lon, p.lat, lead(p.at) OVER w AS next_at, lead(p.lon) OVER w AS next_lon, lead(p.lat) OVER w AS next_lat
			FROM crm.vehicle_position p
			WHERE p.vehicle_id = position_gaps.vehicle_id AND p.at BETWEEN position_gaps.from_at AND position_gaps.to_at
			WINDOW w AS (ORDER BY p.at)) x
		WHERE coalesce(x.next_at, least(position_gaps.to_at, crm.now())) - x.at > interval '10 minutes'
		ORDER BY x.at;
END
$$;
COMMENT ON FUNCTION crm.position_gaps(bigint, timestamptz, timestamptz) IS 'Silences of a vehicle over ten minutes within a span, from fix to fix: start, end (NULL: silent still at the end of the span), seconds, and the straight line between the two fixes in metres';

CREATE OR REPLACE VIEW crm.position_gap AS
	SELECT v.id AS vehicle_id, v.plate, g.silent_from, g.silent_to, g.seconds, g.distance_m
	FROM crm.vehicle v
	CROSS JOIN LATERAL crm.position_gaps(v.id, crm.now() - interval '7 days', crm.now()) g
	WHERE v.archived_at IS NULL AND ((SELECT crm.for_plant()) OR crm.sees_vehicle(v.id));
COMMENT ON VIEW crm.position_gap IS 'Silences of vehicles over ten minutes in the last seven days; for another span crm.position_gaps()';
COMMENT ON COLUMN crm.position_gap.vehicle_id IS 'crm.vehicle.id';
COMMENT ON COLUMN crm.position_gap.plate IS 'crm.vehicle.plate';
COMMENT ON COLUMN crm.position_gap.silent_from IS 'The last fix before the silence';
COMMENT ON COLUMN crm.position_gap.silent_to IS 'The first one after it; NULL: silent still';
COMMENT ON COLUMN crm.position_gap.seconds IS 'How long, seconds; up to now where it is silent still';
COMMENT ON COLUMN crm.position_gap.distance_m IS 'Straight line between the two fixes, metres; NULL: silent still';
