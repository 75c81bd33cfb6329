/*
 * shipping: code.  May be run again at any time.
 *
 * OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.  A vehicle's passages
 * are asked for in the order of the index passage_from, so that no plan takes
 * the one by places instead.
 */

-- Foreign keys, and the columns that have none ------------------------------

SELECT crm.register_foreign_key('crm.vehicle', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.vehicle', 'gps_integration_id', 'crm.integration', 'id');
SELECT crm.register_no_foreign_key('crm.vehicle', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.customer_order', 'company_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.customer_order', 'contact_id', 'crm.contact', 'id');
SELECT crm.register_foreign_key('crm.customer_order', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.customer_order', 'deal_id', 'crm.deal', 'id');
SELECT crm.register_no_foreign_key('crm.customer_order', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.wagon', 'owner_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.wagon', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.trip', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.trip', 'company_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.trip', 'origin_place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.trip', 'destination_place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.trip_order', 'trip_id', 'crm.trip', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.trip_order', 'order_id', 'crm.customer_order', 'id');
SELECT crm.register_foreign_key('crm.shipment', 'order_id', 'crm.customer_order', 'id');
SELECT crm.register_foreign_key('crm.shipment', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.shipment', 'wagon_id', 'crm.wagon', 'id');
SELECT crm.register_foreign_key('crm.shipment', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.shipment', 'origin_place_id', 'crm.place', 'id');
SELECT crm.register_no_foreign_key('crm.shipment', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.zone_setting', 'place_id', 'crm.place', 'id', 'CASCADE');
SELECT crm.register_no_foreign_key('crm.passage', 'vehicle_id', 'history that crm.put_positions() computes; it looks the vehicle up');
SELECT crm.register_no_foreign_key('crm.passage', 'place_id', 'history that crm.put_positions() computes from crm.place; a place may go, its history stays');
SELECT crm.register_no_foreign_key('crm.passage', 'superseded_by_id', 'names a row of the same table; a key onto itself makes the order of a restore undefined');
SELECT crm.register_foreign_key('crm.trip_fact', 'trip_id', 'crm.trip', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.trip_fact', 'passage_id', 'crm.passage', 'id');
SELECT crm.register_no_foreign_key('crm.vehicle_position', 'vehicle_id', 'history, partitioned; crm.put_positions() looks the vehicle up');
SELECT crm.register_no_foreign_key('crm.position_refused', 'vehicle_id', 'may be the very number that no vehicle has');

SELECT crm.register_growing('crm.vehicle_position', 'vehicle_id');
SELECT crm.register_partitioned('crm.vehicle_position', 'at', 'month', ARRAY[
	'CREATE UNIQUE INDEX ON crm.%1$I (vehicle_id, at)']);

-- Checks of what people and the ERP write -------------------------------------

CREATE OR REPLACE FUNCTION crm.customer_order_check() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wrong text;
	state_ text := '22003';
	hint_  text;
BEGIN
	IF new.tonnes = 'NaN' OR new.tonnes <= 0 OR new.tonnes > 10000000 THEN
		wrong := format('quantity %s t of order "%s" is out of range', new.tonnes, new.number);
		hint_ := 'Give the quantity in tonnes, above 0 and up to 10000000, or NULL.';
	ELSIF new.price = 'NaN' OR new.price < 0 OR new.price > 1000000000 THEN
		wrong := format('price %s of order "%s" is out of range', new.price, new.number);
		hint_ := 'Give the price of a tonne, from 0 to 1000000000, or NULL.';
	ELSIF NOT isfinite(new.ordered_at) OR NOT isfinite(coalesce(new.window_from, new.ordered_at))
		OR NOT isfinite(coalesce(new.window_to, new.ordered_at)) THEN
		wrong := format('a time of order "%s" is infinite', new.number);
		state_ := '22008';
		hint_ := 'Give real times, or NULL for a window that is not agreed.';
	ELSIF new.window_to < new.window_from THEN
		wrong := format('window of order "%s" ends at %s, before it begins at %s', new.number, new.window_to, new.window_from);
		state_ := '22023';
		hint_ := 'window_to must not be before window_from.';
	ELSIF NOT new.approach_km BETWEEN 0.001 AND 1000 THEN
		wrong := format('approach distance %s km of order "%s" is out of range', new.approach_km, new.number);
		hint_ := 'Give 0.001 to 1000 km, or NULL for the place''s own.';
	ELSIF NOT new.approach_minutes BETWEEN 1 AND 1440 THEN
		wrong := format('approach time %s min of order "%s" is out of range', new.approach_minutes, new.number);
		hint_ := 'Give 1 to 1440 minutes, or NULL for the place''s own.';
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = state_, MESSAGE = wrong, HINT = hint_, TABLE = 'customer_order', SCHEMA = 'crm';
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.customer_order_check() IS 'Trigger of crm.customer_order: numbers and times in range. Errors: 22003, 22008, 22023, with the value and a hint';

CREATE OR REPLACE FUNCTION crm.shipment_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	w record;
BEGIN
	FOR w IN SELECT v.name, v.kg FROM (VALUES ('tare', new.tare_kg), ('gross', new.gross_kg), ('net', new.net_kg)) AS v(name, kg)
			WHERE v.kg = 'NaN' OR v.kg <= 0 OR v.kg > 1000000 LOOP
		RAISE EXCEPTION USING ERRCODE = '22003', TABLE = 'shipment', SCHEMA = 'crm', COLUMN = w.name || '_kg',
			MESSAGE = format('%s weight %s kg is out of range', w.name, w.kg),
			HINT = 'Give kilograms above 0 and up to 1000000. A mistaken weighing is cancelled by cancelled_at, not by a negative weight.';
	END LOOP;
	IF new.gross_kg <= new.tare_kg THEN
		RAISE EXCEPTION USING ERRCODE = '23514', TABLE = 'shipment', SCHEMA = 'crm', COLUMN = 'gross_kg',
			MESSAGE = format('gross weight %s kg is not above the tare %s kg', new.gross_kg, new.tare_kg),
			HINT = 'Look whether gross_kg and tare_kg were exchanged.';
	END IF;
	IF new.net_kg <> new.gross_kg - new.tare_kg THEN
		IF TG_OP = 'UPDATE' AND new.net_kg = old.net_kg THEN
			new.net_kg := NULL;
		ELSE
			RAISE EXCEPTION USING ERRCODE = '23514', TABLE = 'shipment', SCHEMA = 'crm', COLUMN = 'net_kg',
				MESSAGE = format('net weight %s kg is not gross %s kg less tare %s kg', new.net_kg, new.gross_kg, new.tare_kg),
				HINT = 'Leave net_kg NULL: it is reckoned.';
		END IF;
	END IF;
	new.net_kg := coalesce(new.net_kg, new.gross_kg - new.tare_kg);
	IF NOT isfinite(new.weighed_at) OR NOT isfinite(coalesce(new.cancelled_at, new.weighed_at)) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', TABLE = 'shipment', SCHEMA = 'crm', COLUMN = 'weighed_at',
			MESSAGE = 'a time of the shipment is infinite', HINT = 'Give the time at which it was weighed.';
	END IF;
	new.product := coalesce(new.product, (SELECT o.product FROM crm.customer_order o WHERE o.id = new.order_id));
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.shipment_check() IS 'Trigger of crm.shipment: weights in range, gross above tare, net reckoned, product taken from the order. Errors: 22003, 22008, 23514, with the value and a hint';

CREATE OR REPLACE FUNCTION crm.wagon_number_ok(number text) RETURNS boolean
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT number ~ '^[0-9]{8}$' AND (
		SELECT sum(p / 10 + p % 10) % 10 = 0
		FROM generate_series(1, 8) AS i, LATERAL (SELECT substr(number, i, 1)::integer * CASE WHEN i % 2 = 1 THEN 2 ELSE 1 END AS p) AS d)
$$;
COMMENT ON FUNCTION crm.wagon_number_ok(text) IS 'Whether the last of the eight digits of a wagon number (gauge 1520 mm) is its check digit; false for another form';

-- Zones ---------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.zones() RETURNS TABLE (place_id bigint, lon double precision, lat double precision,
	radius_m double precision, margin_m double precision, dwell_s integer, ring_ends integer[], ring_points double precision[])
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 10000
AS $$
	SELECT p.id, coalesce(p.lon, 0), coalesce(p.lat, 0), coalesce(p.radius_m, 300),
		coalesce(s.margin_m, CASE WHEN b.ends IS NULL THEN greatest(50, 0.15 * coalesce(p.radius_m, 300)) ELSE 50 END),
		coalesce(s.dwell_s, 60), b.ends, b.points
	FROM crm.place p
	LEFT JOIN crm.zone_setting s ON s.place_id = p.id
	LEFT JOIN LATERAL (
		SELECT array_agg(r.last ORDER BY r.polygon, r.ring) AS ends,
			(SELECT array_agg(c.value ORDER BY v.polygon, v.ring, v.vertex, c.axis)
			 FROM crm.geo_vertices(p.border) v, LATERAL (VALUES (1, v.lon), (2, v.lat)) AS c(axis, value)) AS points
		FROM (SELECT v.polygon, v.ring, sum(count(*)) OVER (ORDER BY v.polygon, v.ring)::integer AS last
			  FROM crm.geo_vertices(p.border) v GROUP BY v.polygon, v.ring) r) b ON p.border IS NOT NULL
	WHERE p.archived_at IS NULL AND (p.lon IS NOT NULL OR b.ends IS NOT NULL)
	ORDER BY p.id
$$;
COMMENT ON FUNCTION crm.zones() IS 'Places as zones: circle (degrees, metres), or rings of a border as longitude and latitude in turn with the index after the last point of each; margin and dwell with their defaults. Read once a backend and kept until crm.place or crm.zone_setting changes';

CREATE OR REPLACE FUNCTION crm.zones_changed() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS '$libdir/crm', 'crm_shipping_zones_changed';
COMMENT ON FUNCTION crm.zones_changed() IS 'Trigger of crm.place and crm.zone_setting: every backend reads its zones anew after this transaction';

CREATE OR REPLACE FUNCTION crm.distance_m(lon1 double precision, lat1 double precision, lon2 double precision, lat2 double precision)
	RETURNS double precision LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_shipping_distance';
COMMENT ON FUNCTION crm.distance_m(double precision, double precision, double precision, double precision) IS
'Distance of two points in metres by the model of all passages: haversine on a sphere of 6371008.8 m. Error 22003 for coordinates out of range';

-- Positions and passages ------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.put_positions(vehicle_ids bigint[], at timestamptz[], lon double precision[], lat double precision[],
	speed_kmh double precision[] DEFAULT NULL, course double precision[] DEFAULT NULL, satellites integer[] DEFAULT NULL) RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS '$libdir/crm', 'crm_shipping_put_positions';
COMMENT ON FUNCTION crm.put_positions(bigint[], timestamptz[], double precision[], double precision[], double precision[], double precision[], integer[]) IS
'The only door for positions: arrays of one length, an element a fix, in any order. Returns how many were new. What is there already is left out; what cannot be true is counted in crm.position_refused by reason: 0/0, not finite, out of range, more than ten minutes ahead of crm.clock(), older than 92 days, unknown vehicle. Computes the passages of places and drives the trips in the same call. Errors: 22004 an array is NULL, 2202E arrays of different lengths, 54000 more than a million';

CREATE OR REPLACE FUNCTION crm.lock_vehicles(vehicle_ids bigint[]) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_shipping_lock_vehicles';
COMMENT ON FUNCTION crm.lock_vehicles(bigint[]) IS 'Waits until nobody else writes positions or loads of these vehicles, and keeps them to the end of the transaction';

CREATE OR REPLACE FUNCTION crm.vehicles_known(vehicle_ids bigint[]) RETURNS TABLE (vehicle_id bigint)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp ROWS 500 AS $$
BEGIN
	RETURN QUERY SELECT v.id FROM crm.vehicle v WHERE v.id = ANY (vehicle_ids);
END
$$;
COMMENT ON FUNCTION crm.vehicles_known(bigint[]) IS 'Which of these are vehicles; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.position_partitions(from_at timestamptz, to_at timestamptz) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.make_partitions('crm.vehicle_position'::regclass, from_at, to_at);
END
$$;
COMMENT ON FUNCTION crm.position_partitions(timestamptz, timestamptz) IS 'Makes the missing partitions of crm.vehicle_position; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.passages_from(vehicle_ids bigint[], from_ats timestamptz[])
	RETURNS TABLE (vehicle_id bigint, id bigint, place_id bigint, entered_at timestamptz, entered_error_s double precision,
		entered_gap boolean, entry_fix_at timestamptz, dwelled boolean,
		left_at timestamptz, left_error_s double precision, left_gap boolean, exit_fix_at timestamptz)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off ROWS 500 AS $$
BEGIN
	RETURN QUERY
		SELECT p.vehicle_id, p.id, p.place_id, p.entered_at, p.entered_error_s, p.entered_gap, p.entry_fix_at, p.dwelled,
			p.left_at, p.left_error_s, p.left_gap, p.exit_fix_at
		-- OFFSET 0: a plan that was made while the table was empty must not walk all of it for every vehicle later
		FROM unnest(vehicle_ids, from_ats) AS u(vehicle_id, from_at)
		CROSS JOIN LATERAL (SELECT * FROM crm.passage q WHERE q.vehicle_id = u.vehicle_id AND q.superseded_at IS NULL
			AND coalesce(q.exit_fix_at, 'infinity') > u.from_at ORDER BY coalesce(q.exit_fix_at, 'infinity') OFFSET 0) p
		ORDER BY p.vehicle_id, p.entry_fix_at, p.place_id;
END
$$;
COMMENT ON FUNCTION crm.passages_from(bigint[], timestamptz[]) IS 'Passages in force of each vehicle that were not over at its moment, and later ones; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.write_passages(ids bigint[], dwelleds boolean[], lefts timestamptz[], left_errors double precision[], left_gaps boolean[], exit_fixes timestamptz[],
	vehicle_ids bigint[], place_ids bigint[], entereds timestamptz[], entered_errors double precision[], entered_gaps boolean[], entry_fixes timestamptz[],
	new_dwelleds boolean[], new_lefts timestamptz[], new_left_errors double precision[], new_left_gaps boolean[], new_exit_fixes timestamptz[], replaces bigint[],
	withdrawn_ids bigint[], withdrawn_by integer[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_mergejoin = off AS $$
DECLARE
	new_ids bigint[];
BEGIN
	IF cardinality(ids) > 0 THEN
		UPDATE crm.passage p
		SET dwelled = u.dwelled, left_at = u.left_at, left_error_s = u.left_error_s, left_gap = u.left_gap, exit_fix_at = u.exit_fix_at
		FROM unnest(ids, dwelleds, lefts, left_errors, left_gaps, exit_fixes) AS u(id, dwelled, left_at, left_error_s, left_gap, exit_fix_at)
		WHERE p.id = ANY (ARRAY[u.id]);
	END IF;
	IF cardinality(vehicle_ids) > 0 THEN
		new_ids := ARRAY(SELECT nextval('crm.passage_id_seq') FROM generate_series(1, cardinality(vehicle_ids)));
		INSERT INTO crm.passage (id, vehicle_id, place_id, entered_at, entered_error_s, entered_gap, entry_fix_at, dwelled,
			left_at, left_error_s, left_gap, exit_fix_at)
		SELECT u.* FROM unnest(new_ids, vehicle_ids, place_ids, entereds, entered_errors, entered_gaps, entry_fixes, new_dwelleds,
			new_lefts, new_left_errors, new_left_gaps, new_exit_fixes) AS u;
		UPDATE crm.passage p SET superseded_at = crm.now(), superseded_by_id = u.new_id
		FROM unnest(replaces, new_ids) AS u(old_id, new_id)
		WHERE p.id = ANY (ARRAY[u.old_id]);
	END IF;
	IF cardinality(withdrawn_ids) > 0 THEN
		UPDATE crm.passage p SET superseded_at = crm.now(), superseded_by_id = new_ids[u.by]
		FROM unnest(withdrawn_ids, withdrawn_by) AS u(old_id, by)
		WHERE p.id = ANY (ARRAY[u.old_id]);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.write_passages(bigint[], boolean[], timestamptz[], double precision[], boolean[], timestamptz[], bigint[], bigint[], timestamptz[], double precision[], boolean[], timestamptz[], boolean[], timestamptz[], double precision[], boolean[], timestamptz[], bigint[], bigint[], integer[]) IS
'Completes passages in place, writes new ones and new versions, gives up those that late positions disproved; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.refuse_positions(vehicle_ids bigint[], reasons text[], ats timestamptz[], lons double precision[], lats double precision[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO crm.position_refused AS r (day, vehicle_id, reason, seen, last_at, last_seen_at)
	SELECT (crm.now() AT TIME ZONE 'Europe/Moscow')::date, u.vehicle_id, u.reason, count(*), max(u.at), crm.now()
	FROM unnest(vehicle_ids, reasons, ats) AS u(vehicle_id, reason, at)
	GROUP BY u.vehicle_id, u.reason
	ORDER BY u.vehicle_id, u.reason
	ON CONFLICT ON CONSTRAINT position_refused_pkey DO UPDATE
	SET seen = r.seen + excluded.seen, last_at = coalesce(excluded.last_at, r.last_at), last_seen_at = excluded.last_seen_at;

	-- What cannot be read at all is kept as it came, the first of each kind and vehicle in a call.
	PERFORM crm.reject(NULL, 'position', u.reason, '22003',
		convert_to(format('{"vehicle":%s,"at":%s,"lon":"%s","lat":"%s","alike":%s}', u.vehicle_id, coalesce(to_json(u.at)::text, 'null'), u.lon, u.lat, u.alike), 'UTF8'))
	FROM (SELECT DISTINCT ON (v.vehicle_id, v.reason) v.*, count(*) OVER (PARTITION BY v.vehicle_id, v.reason) AS alike
		  FROM unnest(vehicle_ids, reasons, ats, lons, lats) AS v(vehicle_id, reason, at, lon, lat)
		  WHERE v.reason IN ('no vehicle', 'no time', 'no coordinates', 'not finite', 'out of range')
		  ORDER BY v.vehicle_id, v.reason) u;
END
$$;
COMMENT ON FUNCTION crm.refuse_positions(bigint[], text[], timestamptz[], double precision[], double precision[]) IS
'Counts refused fixes in crm.position_refused and keeps those that could not be read in crm.rejected; called by crm.put_positions()';

CREATE OR REPLACE FUNCTION crm.vehicle_where(vehicle_id bigint) RETURNS TABLE (at timestamptz, lon double precision, lat double precision, speed_kmh real, course real, known_at timestamptz)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off ROWS 1 AS $$
BEGIN
	RETURN QUERY SELECT p.at, p.lon, p.lat, p.speed_kmh, p.course, p.known_at FROM crm.vehicle_position p
		WHERE p.vehicle_id = vehicle_where.vehicle_id ORDER BY p.at DESC LIMIT 1;
END
$$;
COMMENT ON FUNCTION crm.vehicle_where(bigint) IS 'The newest fix of a vehicle: time, degrees, km/h; no row where it has none';

-- Trips -----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.trip_state_rank(state text) RETURNS integer
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	RETURN array_position(ARRAY['planned', 'loading', 'departed', 'approaching', 'arrived', 'unloaded', 'cancelled'], state);
COMMENT ON FUNCTION crm.trip_state_rank(text) IS 'Place of a trip''s state on its one-way road: planned 1, loading 2, departed 3, approaching 4, arrived 5, unloaded 6, cancelled 7';

CREATE OR REPLACE FUNCTION crm.trip_approach(vehicle_id bigint, lon double precision, lat double precision,
	base_at timestamptz, judge_from timestamptz, through timestamptz,
	approach_m double precision, approach_minutes integer, origin_place_id bigint, destination_place_id bigint,
	OUT found_at timestamptz, OUT error_s double precision, OUT gap boolean,
	OUT eta timestamptz, OUT eta_at timestamptz, OUT distance_m double precision) RETURNS record
	LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS '$libdir/crm', 'crm_shipping_trip_approach';
COMMENT ON FUNCTION crm.trip_approach(bigint, double precision, double precision, timestamptz, timestamptz, timestamptz, double precision, integer, bigint, bigint) IS
'When, after base_at, a vehicle first came within approach_m metres of a point, or within approach_minutes by straight line x 1.3 at its own speed of the last fifteen minutes; NULL: not yet. Fixes from judge_from on are judged, up to through. origin_place_id: the plant whose fixes do not count, while the departure is not known. Also the expected arrival from the newest fix, at 50 km/h while the vehicle stands or its speed is not known. found_at NULL: not seen';

CREATE OR REPLACE FUNCTION crm.trips_advance(trip_ids bigint[], from_ats timestamptz[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
	IF NOT crm.guard() OR coalesce(cardinality(trip_ids), 0) = 0 THEN
		RETURN;
	END IF;

	WITH todo AS MATERIALIZED (
		SELECT t.*, u.from_at, d.lon, d.lat, d.name AS place_name,
			coalesce(d.time_zone, o0.time_zone, current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone,
			coalesce(w.approach_km, z.approach_km, 10) * 1000 AS approach_m,
			coalesce(w.approach_minutes, z.approach_minutes) AS approach_minutes,
			coalesce(z.control_minutes * interval '1 minute', current_setting('crm.control_period')::interval) AS control_period
		FROM unnest(trip_ids, from_ats) AS u(trip_id, from_at)
		CROSS JOIN LATERAL (SELECT y.* FROM crm.trip y WHERE y.id = u.trip_id AND y.state <> 'cancelled' AND y.loaded_at IS NOT NULL OFFSET 0) t
		LEFT JOIN LATERAL (SELECT y.lon, y.lat, y.name, y.time_zone FROM crm.place y WHERE y.id = t.destination_place_id OFFSET 0) d ON true
		LEFT JOIN LATERAL (SELECT y.time_zone FROM crm.place y WHERE y.id = t.origin_place_id OFFSET 0) o0 ON true
		LEFT JOIN LATERAL (SELECT y.approach_km, y.approach_minutes, y.control_minutes FROM crm.zone_setting y WHERE y.place_id = t.destination_place_id OFFSET 0) z ON true
		LEFT JOIN LATERAL (SELECT max(o.approach_km) AS approach_km, max(o.approach_minutes) AS approach_minutes
			FROM crm.trip_order x
			CROSS JOIN LATERAL (SELECT y.approach_km, y.approach_minutes FROM crm.customer_order y WHERE y.id = x.order_id OFFSET 0) o
			WHERE x.trip_id = t.id) w ON true
	), carrier AS MATERIALIZED (
		-- Who carried it when: the vehicle of now, and where it was changed the earlier ones.
		SELECT t.id, t.vehicle_id, coalesce(t.vehicle_since, '-infinity') AS from_at, 'infinity'::timestamptz AS to_at, true AS newest FROM todo t
		UNION ALL
		SELECT t.id, c.vehicle_id, c.from_at, c.to_at, false
		FROM todo t CROSS JOIN LATERAL (SELECT y.vehicle_id, y.from_at, y.to_at FROM crm.trip_carried y WHERE y.trip_id = t.id OFFSET 0) c
		WHERE t.vehicle_since IS NOT NULL
	), leaving AS MATERIALIZED (
		-- The first way out of the plant after the weighing; five minutes for clocks that disagree.
		SELECT DISTINCT ON (t.id) t.id, p.id AS passage_id, p.left_at, p.left_error_s, p.left_gap
		FROM todo t
		JOIN carrier c ON c.id = t.id
		CROSS JOIN LATERAL (
			SELECT p.id, p.left_at, p.left_error_s, p.left_gap
			FROM (SELECT y.* FROM crm.passage y WHERE y.vehicle_id = c.vehicle_id AND y.superseded_at IS NULL
				AND coalesce(y.exit_fix_at, 'infinity') > t.loaded_at - interval '5 minutes'	-- for the index
				ORDER BY coalesce(y.exit_fix_at, 'infinity') OFFSET 0) p
			WHERE p.place_id = t.origin_place_id
				AND p.left_at > t.loaded_at - interval '5 minutes' AND p.left_at > c.from_at AND p.left_at <= c.to_at
				AND p.left_at <= coalesce((SELECT min(n.loaded_at) FROM crm.trip n
					WHERE n.vehicle_id = t.vehicle_id AND n.state <> 'cancelled' AND n.loaded_at > t.loaded_at + interval '3 hours'), 'infinity')
			ORDER BY p.left_at LIMIT 1) p
		ORDER BY t.id, p.left_at
	), span AS MATERIALIZED (
		-- The trip's time: from the departure to the vehicle's next load.
		SELECT t.*, l.passage_id AS leaving_id, l.left_at, l.left_error_s, l.left_gap,
			coalesce(l.left_at, t.loaded_at) AS base_at,
			coalesce((SELECT min(n.loaded_at) FROM crm.trip n
				WHERE n.vehicle_id = t.vehicle_id AND n.id <> t.id AND n.state <> 'cancelled'
					AND n.loaded_at > coalesce(l.left_at, t.loaded_at + interval '3 hours')), 'infinity') AS ends_at
		FROM todo t LEFT JOIN leaving l ON l.id = t.id
	), staying AS MATERIALIZED (
		SELECT DISTINCT ON (t.id) t.*, p.id AS staying_id, p.entered_at, p.entered_error_s, p.entered_gap, p.entry_fix_at,
			p.left_at AS away_at, p.left_error_s AS away_error_s, p.left_gap AS away_gap
		FROM span t
		JOIN carrier c ON c.id = t.id
		LEFT JOIN LATERAL (
			SELECT p.id, p.entered_at, p.entered_error_s, p.entered_gap, p.entry_fix_at, p.left_at, p.left_error_s, p.left_gap
			FROM (SELECT y.* FROM crm.passage y WHERE y.vehicle_id = c.vehicle_id AND y.superseded_at IS NULL
				AND coalesce(y.exit_fix_at, 'infinity') > t.base_at	-- for the index
				ORDER BY coalesce(y.exit_fix_at, 'infinity') OFFSET 0) p
			WHERE p.place_id = t.destination_place_id AND p.dwelled
				AND p.entered_at > t.base_at AND p.entered_at < t.ends_at AND p.entered_at > c.from_at AND p.entered_at <= c.to_at
			ORDER BY p.entered_at LIMIT 1) p ON true
		ORDER BY t.id, p.entered_at
	), nearing AS MATERIALIZED (
		SELECT DISTINCT ON (t.id) t.id, t.again, a.found_at, a.error_s, a.gap,
			-- what is expected now is the newest vehicle's
			last_value(a.eta) OVER w AS eta, last_value(a.eta_at) OVER w AS eta_at, last_value(a.distance_m) OVER w AS distance_m
		FROM (
			SELECT s.*,
				-- judged anew: nothing found yet, or what was found may have changed
				s.approaching_at IS NULL OR s.approaching_error_s IS NULL
					OR s.from_at <= s.approaching_at + s.approaching_error_s * interval '1 second'
					OR s.base_at IS DISTINCT FROM coalesce(s.departed_at, s.loaded_at) AS again
			FROM staying s
			WHERE s.lon IS NOT NULL
				AND (s.entered_at IS NULL OR s.from_at <= s.entry_fix_at OR s.entered_at IS DISTINCT FROM s.arrived_at
					OR s.base_at IS DISTINCT FROM coalesce(s.departed_at, s.loaded_at))
		) t
		JOIN carrier c ON c.id = t.id
		CROSS JOIN LATERAL crm.trip_approach(c.vehicle_id, t.lon, t.lat, greatest(t.base_at, c.from_at),
			greatest(c.from_at, CASE WHEN NOT t.again THEN greatest(t.from_at, t.base_at)
				WHEN t.approaching_at IS NULL AND t.base_at IS NOT DISTINCT FROM coalesce(t.departed_at, t.loaded_at) THEN greatest(t.from_at, t.base_at)
				ELSE t.base_at END),
			least(t.entry_fix_at, t.ends_at, c.to_at), CASE WHEN t.again THEN t.approach_m ELSE 0 END, CASE WHEN t.again THEN t.approach_minutes END,
			CASE WHEN t.leaving_id IS NULL THEN t.origin_place_id END, t.destination_place_id) a
		WINDOW w AS (PARTITION BY t.id ORDER BY c.to_at ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
		ORDER BY t.id, a.found_at
	), expected AS MATERIALIZED (
		-- The vehicle's own speed and the history of the leg; eta NULL: nothing to say.
		SELECT n.id, x.* FROM nearing n JOIN staying s ON s.id = n.id
		CROSS JOIN LATERAL crm.trip_expected(s.origin_place_id, s.destination_place_id, n.distance_m, n.eta_at, n.eta) x
		WHERE n.eta IS NOT NULL AND s.entered_at IS NULL
	), said AS (
		INSERT INTO crm.eta_said (trip_id, mark_minutes, said_at, eta, eta_from, eta_to, distance_m, history)
		SELECT e.id, m.minutes, n.eta_at, e.eta, e.eta_from, e.eta_to, n.distance_m, e.history
		FROM expected e JOIN nearing n ON n.id = e.id
		CROSS JOIN LATERAL (SELECT min(v.minutes) AS minutes FROM (VALUES (60), (30), (15), (5)) AS v(minutes)
			WHERE e.eta - n.eta_at <= v.minutes * interval '1 minute') m
		WHERE m.minutes IS NOT NULL
		ON CONFLICT DO NOTHING
	), fact AS MATERIALIZED (
		SELECT s.id AS trip_id, 'departed' AS state, s.left_at AS at, s.left_error_s AS error_s, s.left_gap AS gap, s.leaving_id AS passage_id FROM staying s
		UNION ALL SELECT n.id, 'approaching', n.found_at, n.error_s, n.gap, NULL FROM nearing n WHERE n.again
		UNION ALL SELECT s.id, 'arrived', s.entered_at, s.entered_error_s, s.entered_gap, s.staying_id FROM staying s
		UNION ALL SELECT s.id, 'unloaded', s.away_at, s.away_error_s, s.away_gap, s.staying_id FROM staying s
	), changed AS MATERIALIZED (
		SELECT f.*, c.id AS before_id, coalesce(c.version, 0) + 1 AS version
		FROM fact f
		LEFT JOIN LATERAL (SELECT y.id, y.version, y.at, y.error_s FROM crm.trip_fact y
			WHERE y.trip_id = f.trip_id AND y.state = f.state AND y.superseded_at IS NULL OFFSET 0) c ON true
		WHERE f.at IS DISTINCT FROM c.at OR (f.at IS NOT NULL AND f.error_s IS DISTINCT FROM c.error_s)
	), closed AS (
		UPDATE crm.trip_fact x SET superseded_at = crm.now() FROM changed c WHERE x.id = ANY (ARRAY[c.before_id])
	), written AS (
		INSERT INTO crm.trip_fact (trip_id, state, version, at, error_s, gap, passage_id)
		SELECT c.trip_id, c.state, c.version, c.at, c.error_s, coalesce(c.gap, false), c.passage_id FROM changed c
		RETURNING trip_id, state, version, at, error_s
	), outcome AS MATERIALIZED (
		SELECT s.id, s.zone, s.control_period, s.place_name, n.distance_m,
			(ARRAY['planned', 'loading', 'departed', 'approaching', 'arrived', 'unloaded'])[greatest(crm.trip_state_rank(s.state), h.rank)] AS state,
			s.left_at AS departed_at, s.left_error_s AS departed_error_s,
			CASE WHEN n.again THEN n.found_at ELSE s.approaching_at END AS approaching_at,
			CASE WHEN n.again THEN n.error_s ELSE s.approaching_error_s END AS approaching_error_s,
			s.entered_at AS arrived_at, s.entered_error_s AS arrived_error_s,
			s.away_at AS unloaded_at, s.away_error_s AS unloaded_error_s,
			CASE WHEN e.same THEN s.eta ELSE e.eta END AS eta, CASE WHEN e.same THEN s.eta_at ELSE n.eta_at END AS eta_at,
			CASE WHEN e.same THEN s.eta_from ELSE e.eta_from END AS eta_from, CASE WHEN e.same THEN s.eta_to ELSE e.eta_to END AS eta_to
		FROM staying s
		LEFT JOIN nearing n ON n.id = s.id
		LEFT JOIN expected x ON x.id = s.id
		LEFT JOIN (SELECT f.trip_id, max(crm.trip_state_rank(f.state)) AS rank FROM fact f WHERE f.at IS NOT NULL GROUP BY f.trip_id) h ON h.trip_id = s.id
		LEFT JOIN (SELECT DISTINCT c.trip_id FROM changed c) k ON k.trip_id = s.id
		-- after the arrival what was expected last stands, or what its own speed said where all came at once
		CROSS JOIN LATERAL (SELECT coalesce(x.eta, n.eta) AS eta, x.eta_from, x.eta_to,
			n.eta IS NULL OR abs(extract(epoch FROM coalesce(x.eta, n.eta) - s.eta)) < 60 AND k.trip_id IS NULL AS same) e
	), moved AS (
		UPDATE crm.trip t
		SET state = o.state, departed_at = o.departed_at, departed_error_s = o.departed_error_s,
			approaching_at = o.approaching_at, approaching_error_s = o.approaching_error_s,
			arrived_at = o.arrived_at, arrived_error_s = o.arrived_error_s,
			unloaded_at = o.unloaded_at, unloaded_error_s = o.unloaded_error_s,
			eta = o.eta, eta_at = o.eta_at, eta_from = o.eta_from, eta_to = o.eta_to
		FROM outcome o
		WHERE t.id = ANY (ARRAY[o.id])
			AND (t.state, t.departed_at, t.departed_error_s, t.approaching_at, t.approaching_error_s, t.arrived_at, t.arrived_error_s,
				t.unloaded_at, t.unloaded_error_s, t.eta)
			IS DISTINCT FROM (o.state, o.departed_at, o.departed_error_s, o.approaching_at, o.approaching_error_s, o.arrived_at, o.arrived_error_s,
				o.unloaded_at, o.unloaded_error_s, o.eta)
	), passed AS (
		-- What this trip took from each mark on, for those that follow on its leg; anew when its arrival changes.
		INSERT INTO crm.leg_pass (trip_id, mark_m, origin_place_id, destination_place_id, arrived_at, remaining_s)
		SELECT s.id, p.mark_m, s.origin_place_id, s.destination_place_id, s.entered_at, extract(epoch FROM s.entered_at - p.at)
		FROM (SELECT w.trip_id FROM written w WHERE w.state = 'arrived' AND w.at IS NOT NULL) w
		JOIN staying s ON s.id = w.trip_id
		CROSS JOIN LATERAL crm.leg_marks(s.vehicle_id, s.lon, s.lat, greatest(s.base_at, s.vehicle_since), s.entered_at) p
		WHERE s.origin_place_id IS NOT NULL AND s.left_at IS NOT NULL
		ON CONFLICT ON CONSTRAINT leg_pass_pkey DO UPDATE SET remaining_s = excluded.remaining_s, arrived_at = excluded.arrived_at
	), linked AS (
		-- what the client is told waits for it, for a time
		INSERT INTO crm.locator_link (trip_id, vehicle_id, integration_id, unit, tell_by)
		SELECT w.trip_id, v.id, i.id, v.gps_unit, CASE WHEN w.at >= crm.now() - s.control_period AND i.wait_s > 0 THEN crm.clock() + i.wait_s * interval '1 second' END
		FROM (SELECT w.trip_id, w.at FROM written w WHERE w.state = 'departed' AND w.version = 1) w
		JOIN staying s ON s.id = w.trip_id AND s.entered_at IS NULL
		CROSS JOIN LATERAL (SELECT y.id, y.gps_integration_id, y.gps_unit FROM crm.vehicle y WHERE y.id = s.vehicle_id AND y.gps_unit IS NOT NULL OFFSET 0) v
		CROSS JOIN LATERAL (SELECT y.id, crm.setting_of(y.id, 'locator_wait_s')::integer AS wait_s FROM crm.integration y WHERE y.id = v.gps_integration_id AND y.kind = 'gps_wialon' AND y.enabled
			AND crm.setting_of(y.id, 'locator_auto')::boolean AND crm.setting_of(y.id, 'locator_site') <> '' OFFSET 0) i
		ON CONFLICT DO NOTHING
		RETURNING trip_id, tell_by
	), tracked AS MATERIALIZED (
		-- the client's page of the trip, for the message of its departure
		SELECT k.object_id AS trip_id, k.url
		FROM (SELECT array_agg(w.trip_id ORDER BY w.trip_id) AS ids, array_agg(y.company_id ORDER BY w.trip_id) AS companies, array_agg(crm.now() + interval '31 days') AS ends
			FROM written w JOIN outcome o ON o.id = w.trip_id AND w.at >= crm.now() - o.control_period AND o.arrived_at IS NULL
			CROSS JOIN LATERAL (SELECT t.company_id FROM crm.trip t WHERE t.id = w.trip_id OFFSET 0) y
			WHERE w.state = 'departed' AND w.version = 1 AND w.trip_id NOT IN (SELECT l.trip_id FROM linked l WHERE l.tell_by IS NOT NULL)) a
		CROSS JOIN LATERAL crm.keep_links('track', 'trip', a.ids, a.ends, a.companies) k
	)
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	-- Known within the control period: it is told. Later: it corrects, under a kind of its own that no rule of ours hears.
	SELECT CASE WHEN w.at >= crm.now() - o.control_period THEN 'trip.' || w.state ELSE 'trip.corrected' END, 'trip', w.trip_id, t.company_id, w.at,
		crm.trip_data(w.trip_id) || jsonb_build_object(
			'trip_state', o.state, 'fact', w.state,
			'late', (crm.trip_state_rank(o.state) > crm.trip_state_rank(w.state))::integer,
			'at', to_char(w.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', to_char(w.at AT TIME ZONE o.zone, 'HH24:MI'),
			'date_local', to_char(w.at AT TIME ZONE o.zone, 'DD.MM.YYYY'),
			'error_s', coalesce(ceil(w.error_s)::text, ''),
			'eta', coalesce(to_char(o.eta AT TIME ZONE o.zone, 'HH24:MI'), ''),
			'eta_at', coalesce(to_char(o.eta AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''),
			'eta_from', coalesce(to_char(o.eta_from AT TIME ZONE o.zone, 'HH24:MI'), ''), 'eta_to', coalesce(to_char(o.eta_to AT TIME ZONE o.zone, 'HH24:MI'), ''),
			'distance_km', coalesce(round((o.distance_m / 1000)::numeric, 1)::text, ''),
			'fix_at', coalesce(to_char(x.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), ''))
			|| CASE w.state WHEN 'departed' THEN jsonb_build_object('track_link', coalesce(k.url, ''), 'track_by', CASE WHEN l.tell_by IS NOT NULL THEN 'locator' WHEN k.url IS NOT NULL THEN 'page' ELSE '' END) ELSE '{}' END,
		'trip', w.trip_id || '.' || w.state
	FROM written w JOIN outcome o ON o.id = w.trip_id
	LEFT JOIN tracked k ON k.trip_id = w.trip_id
	LEFT JOIN linked l ON l.trip_id = w.trip_id
	CROSS JOIN LATERAL (SELECT y.company_id, y.vehicle_id FROM crm.trip y WHERE y.id = w.trip_id OFFSET 0) t
	LEFT JOIN LATERAL crm.vehicle_where(t.vehicle_id) x ON true
	WHERE w.version = 1
	ORDER BY w.at, crm.trip_state_rank(w.state);
END
$$;
COMMENT ON FUNCTION crm.trips_advance(bigint[], timestamptz[]) IS
'Judges trips by their vehicles'' passages and fixes, of which those from each trip''s moment on may be new; writes facts with their versions, moves states forward only, emits an event for the first version of a fact. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.trips_moved(vehicle_ids bigint[], from_ats timestamptz[], newest_ats timestamptz[], changed boolean[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_material = off AS $$
DECLARE
	trips bigint[];
	froms timestamptz[];
BEGIN
	-- Only what can have changed: by a passage, by a fix before the approach was seen, or the expected arrival once a minute.
	SELECT array_agg(t.id ORDER BY t.id), array_agg(u.from_at ORDER BY t.id) INTO trips, froms
	FROM unnest(vehicle_ids, from_ats, newest_ats, changed) AS u(vehicle_id, from_at, newest_at, changed)
	CROSS JOIN LATERAL (SELECT y.* FROM crm.trip y WHERE y.vehicle_id = u.vehicle_id AND y.state <> 'cancelled'
			AND y.loaded_at > u.from_at - interval '30 days'
		UNION ALL
		SELECT y.* FROM crm.trip_carried c JOIN crm.trip y ON y.id = c.trip_id AND y.state <> 'cancelled' AND y.vehicle_id <> u.vehicle_id
		WHERE c.vehicle_id = u.vehicle_id AND c.to_at >= u.from_at OFFSET 0) t
	WHERE CASE
			WHEN u.changed THEN t.unloaded_at IS NULL OR t.unloaded_error_s IS NULL OR u.from_at <= t.unloaded_at + t.unloaded_error_s * interval '1 second'
			WHEN t.approaching_at IS NULL THEN t.arrived_at IS NULL OR t.arrived_error_s IS NULL OR u.from_at <= t.arrived_at + t.arrived_error_s * interval '1 second'
			WHEN t.approaching_error_s IS NULL OR u.from_at <= t.approaching_at + t.approaching_error_s * interval '1 second' THEN true
			ELSE t.arrived_at IS NULL AND (t.eta_at IS NULL OR u.newest_at >= t.eta_at + interval '1 minute') END;
	PERFORM crm.trips_advance(trips, froms);
END
$$;
COMMENT ON FUNCTION crm.trips_moved(bigint[], timestamptz[], timestamptz[], boolean[]) IS 'Has the trips of vehicles judged: for each the moment from which fixes are new, the newest of them, and whether a passage changed; called by crm.put_positions(). A trip loaded more than thirty days before is left as it is';

CREATE OR REPLACE FUNCTION crm.trip_data(trip_id bigint) RETURNS jsonb
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object(
		'trip_id', t.id,
		'order_number', coalesce(o.numbers, ''),
		'product', coalesce(o.products, ''),
		'tonnes', coalesce(trim_scale(s.tonnes)::text, trim_scale(o.tonnes)::text, ''),
		'waybill', coalesce(s.waybills, ''),
		'vehicle_plate', v.plate,
		'driver', coalesce(v.driver, ''),
		'driver_phone', coalesce(v.driver_phone, ''),
		'place_name', coalesce(d.name, ''),
		'origin_name', coalesce(g.name, ''))
	FROM crm.trip t
	CROSS JOIN LATERAL (SELECT y.plate, y.driver, y.driver_phone FROM crm.vehicle y WHERE y.id = t.vehicle_id OFFSET 0) v
	LEFT JOIN LATERAL (SELECT y.name FROM crm.place y WHERE y.id = t.destination_place_id OFFSET 0) d ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.place y WHERE y.id = t.origin_place_id OFFSET 0) g ON true
	CROSS JOIN LATERAL (
		SELECT string_agg(DISTINCT o.number, ', ') AS numbers, string_agg(DISTINCT o.product, ', ') AS products, sum(o.tonnes) AS tonnes
		FROM crm.trip_order x
		CROSS JOIN LATERAL (SELECT y.number, y.product, y.tonnes FROM crm.customer_order y WHERE y.id = x.order_id OFFSET 0) o
		WHERE x.trip_id = t.id) o
	CROSS JOIN LATERAL (
		SELECT sum(s.net_kg) / 1000 AS tonnes, string_agg(DISTINCT s.waybill, ', ') AS waybills
		FROM crm.shipment s WHERE s.trip_id = t.id AND s.cancelled_at IS NULL) s
	WHERE t.id = $1
$$;
COMMENT ON FUNCTION crm.trip_data(bigint) IS 'What a template may say of a trip: numbers of its orders, product, tonnes, plate, driver, places, waybills';

CREATE OR REPLACE FUNCTION crm.trip_is(trip_id bigint, states text[]) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM crm.trip t
		WHERE t.id = $1 AND t.state = ANY ($2) AND (crm.for_plant() OR crm.sees_company(t.company_id))
			-- announced, but disproved by late positions since: no truth to tell
			AND CASE t.state WHEN 'departed' THEN t.departed_at IS NOT NULL WHEN 'approaching' THEN t.approaching_at IS NOT NULL
				WHEN 'arrived' THEN t.arrived_at IS NOT NULL WHEN 'unloaded' THEN t.unloaded_at IS NOT NULL ELSE true END)
$$;
COMMENT ON FUNCTION crm.trip_is(bigint, text[]) IS 'Whether a trip is in one of these states now, and the time of that state still stands. For the truth of rules: crm.trip_is(object_id, ''{departed}'')';
SELECT crm.register_truth('trip_is', 'crm.trip_is', 'Whether a trip is in one of these states now');

CREATE OR REPLACE FUNCTION crm.trip_track(trip_id bigint) RETURNS TABLE (at timestamptz, lon double precision, lat double precision, speed_kmh real, course real, phase text, distance_m double precision)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT p.at, p.lon, p.lat, p.speed_kmh, p.course,
			CASE WHEN p.at >= t.unloaded_at THEN 'unloaded' WHEN p.at >= t.arrived_at THEN 'arrived'
				WHEN p.at >= t.approaching_at THEN 'approaching' WHEN p.at >= t.departed_at THEN 'departed' ELSE 'loading' END,
			CASE WHEN d.lon IS NOT NULL THEN crm.distance_m(p.lon, p.lat, d.lon, d.lat) END
		FROM crm.trip t
		JOIN crm.vehicle_position p ON p.vehicle_id = t.vehicle_id
		LEFT JOIN crm.place d ON d.id = t.destination_place_id
		WHERE t.id = trip_track.trip_id AND crm.sees_trip(t.id)
			AND p.at >= t.loaded_at - interval '15 minutes'
			AND p.at <= coalesce(t.unloaded_at + interval '15 minutes', t.arrived_at + interval '1 day', t.loaded_at + interval '30 days')
		ORDER BY p.at;
END
$$;
COMMENT ON FUNCTION crm.trip_track(bigint) IS 'The fixes of a trip, from fifteen minutes before the weighing to fifteen after it left, with the state at each and the distance to the destination in metres';

CREATE OR REPLACE FUNCTION crm.shipping_activated() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	trips bigint[];
BEGIN
	PERFORM crm.lock_vehicles(ARRAY(SELECT DISTINCT t.vehicle_id FROM crm.trip t WHERE t.state IN ('planned', 'loading', 'departed', 'approaching', 'arrived')));
	trips := ARRAY(SELECT t.id FROM crm.trip t
		WHERE t.state IN ('planned', 'loading', 'departed', 'approaching', 'arrived') AND t.loaded_at > crm.now() - interval '30 days' ORDER BY t.id);
	PERFORM crm.trips_advance(trips, array_fill('-infinity'::timestamptz, ARRAY[cardinality(trips)]));
END
$$;
COMMENT ON FUNCTION crm.shipping_activated() IS 'At the end of crm.activate(): open trips are judged by what came in meanwhile';
SELECT crm.register_hook('activate', 'shipping', 'crm.shipping_activated');

-- Shipments -------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.shipments_weighed(shipment_ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_nestloop = off AS $$
DECLARE
	trips bigint[];
	news  bigint[];
BEGIN
	PERFORM crm.lock_vehicles(ARRAY(SELECT DISTINCT s.vehicle_id FROM crm.shipment s WHERE s.id = ANY (shipment_ids)));

	-- Once for each: the mark comes first, so that the updates below find it set.
	WITH marked AS (
		UPDATE crm.shipment s SET announced_at = crm.now() WHERE s.id = ANY (shipment_ids) AND s.announced_at IS NULL RETURNING s.id
	)
	SELECT array_agg(m.id) INTO news FROM marked m;

	-- Loads of one vehicle for one place and client, weighed within the hour, or weighed on top
	-- of each other within three, without a departure between them, are one trip.
	WITH load AS MATERIALIZED (
		SELECT s.id, s.vehicle_id, o.id AS order_id, o.company_id, o.place_id, s.weighed_at, s.tare_kg, s.gross_kg, s.origin_place_id
		FROM crm.shipment s
		CROSS JOIN LATERAL (SELECT y.id, y.company_id, y.place_id FROM crm.customer_order y WHERE y.id = s.order_id OFFSET 0) o
		WHERE s.id = ANY (news) AND s.vehicle_id IS NOT NULL AND s.trip_id IS NULL
	), beside AS (
		SELECT l.*, lag(l.weighed_at) OVER w AS before_at, lag(l.gross_kg) OVER w AS before_gross_kg
		FROM load l
		WINDOW w AS (PARTITION BY l.vehicle_id, l.company_id, l.place_id ORDER BY l.weighed_at, l.id)
	), stepped AS (
		SELECT l.*, CASE
			WHEN l.before_at IS NULL THEN 1
			WHEN l.weighed_at - l.before_at > CASE WHEN l.tare_kg >= 0.95 * l.before_gross_kg THEN interval '3 hours' ELSE interval '1 hour' END THEN 1
			WHEN EXISTS (SELECT FROM (SELECT y.place_id, y.left_at FROM crm.passage y WHERE y.vehicle_id = l.vehicle_id AND y.superseded_at IS NULL
					AND coalesce(y.exit_fix_at, 'infinity') > l.before_at ORDER BY coalesce(y.exit_fix_at, 'infinity') OFFSET 0) p
				CROSS JOIN LATERAL (SELECT FROM crm.place y WHERE y.id = p.place_id AND y.kind = 'plant' OFFSET 0) g
				WHERE p.left_at > l.before_at AND p.left_at < l.weighed_at) THEN 1
			ELSE 0 END AS step
		FROM beside l
	), numbered AS MATERIALIZED (
		SELECT s.*, sum(s.step) OVER (PARTITION BY s.vehicle_id, s.company_id, s.place_id ORDER BY s.weighed_at, s.id) AS run
		FROM stepped s
	), grouped AS (
		SELECT n.vehicle_id, n.company_id, n.place_id, n.run, min(n.weighed_at) AS first_at, max(n.weighed_at) AS last_at,
			(array_agg(n.tare_kg ORDER BY n.weighed_at, n.id))[1] AS first_tare_kg, max(n.origin_place_id) AS origin_place_id
		FROM numbered n GROUP BY n.vehicle_id, n.company_id, n.place_id, n.run
	), found_ AS MATERIALIZED (
		SELECT g.*, t.id AS trip_id FROM grouped g
		LEFT JOIN LATERAL (
			SELECT t.id FROM crm.trip t
			WHERE t.vehicle_id = g.vehicle_id AND t.company_id = g.company_id
				AND t.destination_place_id IS NOT DISTINCT FROM g.place_id
				AND t.state NOT IN ('cancelled', 'planned') AND (t.departed_at IS NULL OR t.departed_at > g.last_at - interval '5 minutes')
				AND g.last_at > t.loaded_at - interval '1 hour'
				AND g.first_at < t.loaded_at + CASE
					WHEN g.first_tare_kg >= 0.95 * (SELECT max(s.gross_kg) FROM crm.shipment s WHERE s.trip_id = t.id AND s.cancelled_at IS NULL)
					THEN interval '3 hours' ELSE interval '1 hour' END
			ORDER BY t.loaded_at DESC LIMIT 1) t ON true
	), planned_ AS MATERIALIZED (
		-- What was planned for this vehicle, client and place, the nearest in time; each plan is fulfilled once.
		SELECT DISTINCT ON (p.id) p.id, f.vehicle_id, f.company_id, f.place_id, f.run
		FROM found_ f
		CROSS JOIN LATERAL (
			SELECT t.id, t.planned_at FROM crm.trip t
			WHERE t.vehicle_id = f.vehicle_id AND t.company_id = f.company_id AND t.destination_place_id IS NOT DISTINCT FROM f.place_id
				AND t.state = 'planned' AND t.planned_at BETWEEN f.first_at - interval '1 day' AND f.last_at + interval '1 day'
			ORDER BY abs(extract(epoch FROM t.planned_at - f.first_at)), t.id LIMIT 1) p
		WHERE f.trip_id IS NULL
		ORDER BY p.id, f.first_at
	), fit AS MATERIALIZED (
		SELECT f.*, f.trip_id IS NULL AND p.id IS NULL AS opens, coalesce(f.trip_id, p.id, nextval('crm.trip_id_seq')) AS id
		FROM found_ f
		LEFT JOIN planned_ p ON p.vehicle_id = f.vehicle_id AND p.company_id = f.company_id AND p.place_id IS NOT DISTINCT FROM f.place_id AND p.run = f.run
	), opened AS (
		INSERT INTO crm.trip (id, vehicle_id, company_id, origin_place_id, destination_place_id, state, loaded_at)
		SELECT f.id, f.vehicle_id, f.company_id,
			coalesce(f.origin_place_id,
				(SELECT p.place_id FROM (SELECT y.place_id, y.entered_at, y.left_at FROM crm.passage y WHERE y.vehicle_id = f.vehicle_id AND y.superseded_at IS NULL
					AND coalesce(y.exit_fix_at, 'infinity') > f.last_at - interval '5 minutes' ORDER BY coalesce(y.exit_fix_at, 'infinity') OFFSET 0) p
				 CROSS JOIN LATERAL (SELECT FROM crm.place y WHERE y.id = p.place_id AND y.kind = 'plant' OFFSET 0) g
				 WHERE p.entered_at <= f.last_at
					AND coalesce(p.left_at, 'infinity') > f.last_at - interval '5 minutes' ORDER BY p.entered_at DESC LIMIT 1),
				(SELECT min(g.id) FROM crm.place g WHERE g.kind = 'plant' AND g.archived_at IS NULL HAVING count(*) = 1)),
			f.place_id, 'loading', f.last_at
		FROM fit f WHERE f.opens
	), joined AS (
		UPDATE crm.trip t SET loaded_at = greatest(t.loaded_at, f.last_at), state = CASE t.state WHEN 'planned' THEN 'loading' ELSE t.state END,
			origin_place_id = coalesce(CASE t.state WHEN 'planned' THEN f.origin_place_id END, t.origin_place_id) FROM fit f WHERE t.id = ANY (ARRAY[f.id]) AND NOT f.opens
	), carried AS (
		INSERT INTO crm.trip_order (trip_id, order_id)
		SELECT DISTINCT f.id, n.order_id FROM fit f
		JOIN numbered n ON n.vehicle_id = f.vehicle_id AND n.company_id = f.company_id AND n.place_id IS NOT DISTINCT FROM f.place_id AND n.run = f.run
		ON CONFLICT DO NOTHING
	), told AS (
		UPDATE crm.shipment s SET trip_id = f.id
		FROM numbered n JOIN fit f ON n.vehicle_id = f.vehicle_id AND n.company_id = f.company_id AND n.place_id IS NOT DISTINCT FROM f.place_id AND n.run = f.run
		WHERE s.id = ANY (ARRAY[n.id])
	)
	SELECT array_agg(f.id) INTO trips FROM fit f;

	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'shipment.loaded', 'shipment', s.id, o.company_id, s.weighed_at,
		jsonb_build_object(
			'shipment_id', s.id, 'trip_id', coalesce(s.trip_id::text, ''),
			'order_number', o.number, 'product', s.product, 'tonnes', trim_scale(s.net_kg / 1000)::text,
			'vehicle_plate', coalesce(v.plate, ''), 'wagon_number', coalesce(w.number, ''),
			'driver', coalesce(v.driver, ''), 'driver_phone', coalesce(v.driver_phone, ''),
			'waybill', coalesce(s.waybill, ''), 'place_name', coalesce(d.name, ''), 'origin_name', coalesce(g.name, ''),
			'at', to_char(s.weighed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', to_char(s.weighed_at AT TIME ZONE z.zone, 'HH24:MI'),
			'date_local', to_char(s.weighed_at AT TIME ZONE z.zone, 'DD.MM.YYYY')),
		'shipment', s.id::text
	FROM (SELECT y.* FROM crm.shipment y WHERE y.id = ANY (news) OFFSET 0) s
	CROSS JOIN LATERAL (SELECT y.company_id, y.number, y.place_id FROM crm.customer_order y WHERE y.id = s.order_id OFFSET 0) o
	LEFT JOIN LATERAL (SELECT y.plate, y.driver, y.driver_phone FROM crm.vehicle y WHERE y.id = s.vehicle_id OFFSET 0) v ON true
	LEFT JOIN LATERAL (SELECT y.number FROM crm.wagon y WHERE y.id = s.wagon_id OFFSET 0) w ON true
	LEFT JOIN LATERAL (SELECT y.name, y.time_zone FROM crm.place y WHERE y.id = o.place_id OFFSET 0) d ON true
	LEFT JOIN LATERAL (SELECT y.origin_place_id FROM crm.trip y WHERE y.id = s.trip_id OFFSET 0) t ON true
	LEFT JOIN LATERAL (SELECT y.name, y.time_zone FROM crm.place y WHERE y.id = coalesce(s.origin_place_id, t.origin_place_id) OFFSET 0) g ON true
	CROSS JOIN LATERAL (SELECT coalesce(d.time_zone, g.time_zone, current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) z
	ORDER BY s.weighed_at, s.id;

	-- Positions may have come before the weighing.
	PERFORM crm.trips_advance(trips, array_fill('-infinity'::timestamptz, ARRAY[coalesce(cardinality(trips), 0)]));
END
$$;
COMMENT ON FUNCTION crm.shipments_weighed(bigint[]) IS 'What follows from a gross weight: the vehicle''s trip is opened or joined, shipment.loaded is emitted, the trip is judged by the positions that are there';

CREATE OR REPLACE FUNCTION crm.shipment_added() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	weighed bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(f.id) INTO weighed FROM fresh f WHERE f.net_kg IS NOT NULL AND f.announced_at IS NULL AND f.cancelled_at IS NULL;
	IF weighed IS NOT NULL THEN
		PERFORM crm.shipments_weighed(weighed);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.shipment_added() IS 'Trigger of crm.shipment: loads that are weighed already. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.shipment_updated() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	weighed bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- One transition table only: two joined ones would keep the plan of their first call.
	SELECT array_agg(f.id) INTO weighed FROM fresh f WHERE f.net_kg IS NOT NULL AND f.announced_at IS NULL AND f.cancelled_at IS NULL;
	IF weighed IS NOT NULL THEN
		PERFORM crm.shipments_weighed(weighed);
	END IF;

	-- Storno: a trip that has not left and carries nothing any more is none.
	UPDATE crm.trip t SET state = CASE WHEN t.planned_at IS NULL THEN 'cancelled' ELSE 'planned' END, loaded_at = CASE WHEN t.planned_at IS NULL THEN t.loaded_at END
	FROM fresh f
	WHERE f.cancelled_at IS NOT NULL AND t.id = ANY (ARRAY[f.trip_id]) AND t.state IN ('planned', 'loading')
		AND NOT EXISTS (SELECT FROM crm.shipment s WHERE s.trip_id = t.id AND s.cancelled_at IS NULL OFFSET 0);
	-- A storno that was taken back: its trip is one again.
	UPDATE crm.trip t SET state = 'loading', loaded_at = coalesce(t.loaded_at, f.weighed_at)
	FROM fresh f
	WHERE f.cancelled_at IS NULL AND f.announced_at IS NOT NULL AND t.id = ANY (ARRAY[f.trip_id]) AND t.state IN ('cancelled', 'planned');
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.shipment_updated() IS 'Trigger of crm.shipment: gross weights that came after the tare, and storno. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.order_added() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'order.created', 'customer_order', o.id, o.company_id, o.ordered_at,
		jsonb_build_object(
			'order_number', o.number, 'product', o.product, 'tonnes', coalesce(trim_scale(o.tonnes)::text, ''),
			'client', coalesce(k.name, ''),
			'price', coalesce(trim_scale(o.price)::text, ''), 'place_name', coalesce(d.name, ''),
			'at', to_char(o.ordered_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', to_char(o.ordered_at AT TIME ZONE z.zone, 'HH24:MI'),
			'date_local', to_char(o.ordered_at AT TIME ZONE z.zone, 'DD.MM.YYYY'),
			'window_from_local', coalesce(to_char(o.window_from AT TIME ZONE z.zone, 'DD.MM.YYYY HH24:MI'), ''),
			'window_to_local', coalesce(to_char(o.window_to AT TIME ZONE z.zone, 'DD.MM.YYYY HH24:MI'), '')),
		'customer_order', o.id::text
	FROM fresh o
	LEFT JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = o.company_id OFFSET 0) k ON true
	LEFT JOIN LATERAL (SELECT y.name, y.time_zone FROM crm.place y WHERE y.id = o.place_id OFFSET 0) d ON true
	CROSS JOIN LATERAL (SELECT coalesce(d.time_zone, current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) z
	ORDER BY o.id;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.order_added() IS 'Trigger of crm.customer_order: emits order.created. Asleep until crm.activate()';

SELECT crm.register_event_kind('order.created', 'customer_order',
	ARRAY['order_number', 'client', 'product', 'tonnes', 'price', 'place_name', 'at', 'at_local', 'date_local', 'window_from_local', 'window_to_local'],
	'An order was entered', 'Внесён заказ');
SELECT crm.register_event_kind('shipment.loaded', 'shipment',
	ARRAY['shipment_id', 'trip_id', 'order_number', 'product', 'tonnes', 'vehicle_plate', 'wagon_number', 'driver', 'driver_phone', 'waybill',
		'place_name', 'origin_name', 'at', 'at_local', 'date_local'],
	'A loaded vehicle or wagon was weighed', 'Взвешена гружёная машина или вагон');
SELECT crm.register_event_kind('trip.' || k.state, 'trip',
	ARRAY['trip_id', 'order_number', 'product', 'tonnes', 'waybill', 'vehicle_plate', 'driver', 'driver_phone', 'place_name', 'origin_name',
		'trip_state', 'fact', 'late', 'at', 'at_local', 'date_local', 'error_s', 'eta', 'eta_at', 'eta_from', 'eta_to', 'distance_km', 'fix_at', 'track_link', 'track_by'], k.en, k.ru)
FROM (VALUES
	('departed', 'The vehicle left the plant', 'Машина выехала с завода'),
	('approaching', 'The vehicle is near the place of unloading', 'Машина подъезжает к месту выгрузки'),
	('arrived', 'The vehicle arrived at the place of unloading', 'Машина прибыла на место выгрузки'),
	('unloaded', 'The vehicle left the place of unloading', 'Машина уехала с места выгрузки'),
	('corrected', 'A fact of a trip became known after the control period: nobody is to be told', 'Факт рейса стал известен после контрольного срока: сообщать никому не надо')) AS k(state, en, ru);

-- For the rooms above and below ------------------------------------------------

CREATE OR REPLACE FUNCTION crm.order_deals(object_ids bigint[]) RETURNS TABLE (object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT o.id, coalesce(o.deal_id, (SELECT d.id FROM crm.deal d
		WHERE d.company_id = o.company_id AND d.closed_at IS NULL AND d.source <> 'claim' ORDER BY d.created_at DESC, d.id DESC LIMIT 1))
	FROM crm.customer_order o WHERE o.id = ANY ($1)
$$;
COMMENT ON FUNCTION crm.order_deals(bigint[]) IS 'Deal finder of customer_order: the order''s own deal, else the newest open deal of the client';

CREATE OR REPLACE FUNCTION crm.shipment_deals(object_ids bigint[]) RETURNS TABLE (object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_nestloop = off
AS $$
	-- two sets: hashed, however few rows the planner expects
	SELECT s.id, d.deal_id
	FROM (SELECT y.id, y.order_id FROM crm.shipment y WHERE y.id = ANY ($1) OFFSET 0) s
	JOIN crm.order_deals(ARRAY(SELECT x.order_id FROM crm.shipment x WHERE x.id = ANY ($1))) d ON d.object_id = s.order_id
$$;
COMMENT ON FUNCTION crm.shipment_deals(bigint[]) IS 'Deal finder of shipment: the deal of its order';

CREATE OR REPLACE FUNCTION crm.trip_deals(object_ids bigint[]) RETURNS TABLE (object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_nestloop = off
AS $$
	SELECT DISTINCT t.trip_id, d.deal_id
	FROM (SELECT y.trip_id, y.order_id FROM crm.trip_order y WHERE y.trip_id = ANY ($1) OFFSET 0) t
	JOIN crm.order_deals(ARRAY(SELECT x.order_id FROM crm.trip_order x WHERE x.trip_id = ANY ($1))) d ON d.object_id = t.order_id
$$;
COMMENT ON FUNCTION crm.trip_deals(bigint[]) IS 'Deal finder of trip: the deals of its orders';

SELECT crm.register_deal_finder('customer_order', 'crm.order_deals');
SELECT crm.register_deal_finder('shipment', 'crm.shipment_deals');
SELECT crm.register_deal_finder('trip', 'crm.trip_deals');

CREATE OR REPLACE FUNCTION crm.order_contact(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT e.id, o.contact_id
	FROM crm.event e
	JOIN LATERAL (
		SELECT e.object_id AS order_id WHERE e.object_kind = 'customer_order'
		UNION ALL (SELECT s.order_id FROM crm.shipment s WHERE e.object_kind = 'shipment' AND s.id = e.object_id OFFSET 0)
		UNION ALL (SELECT t.order_id FROM crm.trip_order t WHERE e.object_kind = 'trip' AND t.trip_id = e.object_id OFFSET 0)) x ON true
	CROSS JOIN LATERAL (SELECT y.contact_id FROM crm.customer_order y WHERE y.id = x.order_id OFFSET 0) o
	CROSS JOIN LATERAL (SELECT FROM crm.contact y WHERE y.id = o.contact_id AND y.archived_at IS NULL OFFSET 0) c
	WHERE e.id = ANY ($1)
$$;
COMMENT ON FUNCTION crm.order_contact(bigint[]) IS 'Audience: the contact of the order, or of each order that the shipment or trip of the event carries';
SELECT crm.register_audience('order_contact', 'crm.order_contact', 'The contact of the order that the event is about');

-- Health and self-test ----------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.shipping_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', 'positions', format('%s positions were refused today: %s (%s vehicles)', sum(r.seen), r.reason, count(*)),
		CASE r.reason
			WHEN 'in the future' THEN 'A tracker''s clock runs ahead. SELECT * FROM crm.position_refused names the vehicles.'
			WHEN 'no vehicle' THEN 'The integration names vehicles that are not in crm.vehicle. See crm.position_refused.'
			ELSE 'SELECT * FROM crm.position_refused names the vehicles; crm.rejected keeps what could not be read.' END,
		min(r.last_seen_at)
	FROM crm.position_refused r
	WHERE r.day = (crm.now() AT TIME ZONE 'Europe/Moscow')::date AND r.reason <> 'null island'
	GROUP BY r.reason
	UNION ALL
	SELECT 'warning', 'trip ' || t.id, format('vehicle %s is under way and has been silent for over two hours', v.plate),
		'Look whether its tracker works; until it speaks, nobody is told of its arrival.', w.at
	FROM crm.trip t
	JOIN crm.vehicle v ON v.id = t.vehicle_id
	CROSS JOIN LATERAL crm.vehicle_where(t.vehicle_id) w
	WHERE t.state IN ('departed', 'approaching') AND w.at < crm.now() - interval '2 hours' AND t.loaded_at > crm.now() - interval '3 days'
$$;
COMMENT ON FUNCTION crm.shipping_health() IS 'What is wrong with positions and trips, in words; a part of crm.health';
SELECT crm.register_hook('health', 'shipping', 'crm.shipping_health');

CREATE OR REPLACE FUNCTION crm.shipping_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'a trip''s state is announced once', coalesce(max(x.n), 0) <= 1, format('%s announcements, at most %s of one state of one trip', coalesce(sum(x.n), 0), coalesce(max(x.n), 0))
	FROM (SELECT count(*) AS n FROM crm.event e WHERE e.object_kind = 'trip' AND e.kind LIKE 'trip.%' AND e.kind <> 'trip.track_link' GROUP BY e.object_id, e.kind) x
	UNION ALL
	SELECT 'passages of a vehicle through a place do not overlap', count(*) = 0, format('%s overlaps', count(*))
	FROM crm.passage a JOIN crm.passage b ON b.vehicle_id = a.vehicle_id AND b.place_id = a.place_id AND b.id > a.id
		AND b.superseded_at IS NULL AND b.entry_fix_at < coalesce(a.exit_fix_at, 'infinity') AND a.entry_fix_at < coalesce(b.exit_fix_at, 'infinity')
	WHERE a.superseded_at IS NULL
	UNION ALL
	SELECT 'a shipment weighs gross less tare', count(*) = 0, format('%s do not', count(*))
	FROM crm.shipment s WHERE s.net_kg <> s.gross_kg - s.tare_kg
$$;
COMMENT ON FUNCTION crm.shipping_selftest() IS 'What must hold of trips, passages and shipments; a part of crm.selftest()';
SELECT crm.register_hook('selftest', 'shipping', 'crm.shipping_selftest');
