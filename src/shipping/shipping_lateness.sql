-- shipping: contract terms and lateness. Code: may be run again.

SELECT crm.register_foreign_key('crm.contract', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.contract', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.contract_term', 'contract_id', 'crm.contract', 'id');
SELECT crm.register_foreign_key('crm.contract_term', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.contract_term', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.lateness', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'checkin_id', 'crm.checkin', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'passage_id', 'crm.passage', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'term_id', 'crm.contract_term', 'id');

-- Terms of contracts --------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.contract_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.time_zone_exists(new.zone) IS NOT TRUE THEN
		RAISE EXCEPTION USING ERRCODE = '22023', TABLE = 'contract', SCHEMA = 'crm', COLUMN = 'zone',
			MESSAGE = format('zone "%s" of contract "%s" does not exist', new.zone, new.number), HINT = 'Give an IANA name, such as Europe/Moscow.';
	END IF;
	IF TG_OP = 'UPDATE' AND (new.carrier_id, new.zone) IS DISTINCT FROM (old.carrier_id, old.zone)
		AND EXISTS (SELECT FROM crm.contract_term t WHERE t.contract_id = old.id AND (t.used_at IS NOT NULL OR new.carrier_id <> old.carrier_id)) THEN
		RAISE EXCEPTION USING ERRCODE = '55000', TABLE = 'contract', SCHEMA = 'crm',
			MESSAGE = format('carrier and zone of contract "%s" stand: it has terms', old.number),
			HINT = 'Enter another contract, and end the terms of this one.';
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.contract_check() IS 'Trigger of crm.contract: the zone exists (22023); carrier and zone stand once terms rest on them (55000)';

CREATE OR REPLACE FUNCTION crm.tariff_check(tariff jsonb) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	step  jsonb;
	last  numeric := -1;
	key   text;
	value numeric;
BEGIN
	IF jsonb_typeof(tariff) IS DISTINCT FROM 'array' OR jsonb_array_length(tariff) NOT BETWEEN 1 AND 20 THEN
		RETURN 'it is no list of one to twenty steps';
	END IF;
	FOR step IN SELECT e.value FROM jsonb_array_elements(tariff) e LOOP
		IF jsonb_typeof(step) <> 'object' THEN
			RETURN format('step %s is no object', left(step::text, 40));
		END IF;
		SELECT k INTO key FROM jsonb_object_keys(step) k WHERE k NOT IN ('from', 'each', 'roubles', 'started') LIMIT 1;
		IF key IS NOT NULL THEN
			RETURN format('a step has no "%s"', left(key, 40));
		END IF;
		FOREACH key IN ARRAY ARRAY['from', 'each', 'roubles'] LOOP
			IF jsonb_typeof(step -> key) IS DISTINCT FROM 'number' THEN
				RETURN format('%s of a step is %s, no number', key, coalesce(left((step -> key)::text, 40), 'missing'));
			END IF;
			value := (step ->> key)::numeric;
			IF value < 0 OR value > 10000000 OR key = 'each' AND (value < 1 OR value > 100000) OR key <> 'roubles' AND value <> trunc(value) OR scale(value) > 2 THEN
				RETURN format('%s %s of a step is out of range', key, left(value::text, 40));
			END IF;
		END LOOP;
		IF step ? 'started' AND jsonb_typeof(step -> 'started') <> 'boolean' THEN
			RETURN 'started of a step is neither true nor false';
		END IF;
		IF last = -1 AND (step ->> 'from')::numeric <> 0 THEN
			RETURN format('the first step is from %s, not from 0', step ->> 'from');
		ELSIF (step ->> 'from')::numeric <= last THEN
			RETURN format('step from %s does not come after the one from %s', step ->> 'from', last);
		END IF;
		last := (step ->> 'from')::numeric;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.tariff_check(jsonb) IS 'What is wrong with a tariff, in words; NULL: nothing. Steps {from, each: whole minutes; roubles: 0 to 10000000, two decimals; started}, ascending, the first from 0';

CREATE OR REPLACE FUNCTION crm.exclusions_check(exclusions jsonb) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	e record;
BEGIN
	IF jsonb_typeof(exclusions) IS DISTINCT FROM 'object' THEN
		RETURN 'they are no object';
	END IF;
	FOR e IN SELECT x.key, x.value FROM jsonb_each(exclusions) x LOOP
		IF e.key IN ('holidays', 'gap', 'queue') THEN
			IF jsonb_typeof(e.value) <> 'boolean' THEN
				RETURN format('%s is neither true nor false', e.key);
			END IF;
		ELSIF e.key = 'weekdays' THEN
			IF jsonb_typeof(e.value) <> 'array' THEN
				RETURN 'weekdays are no list';
			END IF;
			IF EXISTS (SELECT FROM jsonb_array_elements(e.value) d WHERE d::text !~ '^[1-7]$') THEN
				RETURN format('weekdays %s are not of 1 to 7', left(e.value::text, 40));
			END IF;
		ELSE
			RETURN format('there is no exclusion "%s"', left(e.key, 40));
		END IF;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.exclusions_check(jsonb) IS 'What is wrong with the exclusions of a term, in words; NULL: nothing. Keys: weekdays [1-7], holidays, gap, queue';

CREATE OR REPLACE FUNCTION crm.tariff_penalty(tariff jsonb, minutes integer, cap numeric) RETURNS numeric
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN $2 IS NULL OR $2 <= 0 THEN 0.00 ELSE round(least(coalesce(sum(
		CASE WHEN s.started THEN ceil(s.spent / s.each) ELSE floor(s.spent / s.each) END * s.roubles), 0), coalesce($3, 1e11)), 2) END
	FROM (
		SELECT (e.value ->> 'each')::numeric AS each, (e.value ->> 'roubles')::numeric AS roubles,
			coalesce((e.value ->> 'started')::boolean, true) AS started,
			greatest(0, least($2, coalesce(lead((e.value ->> 'from')::numeric) OVER (ORDER BY e.ordinality), $2)) - (e.value ->> 'from')::numeric) AS spent
		FROM jsonb_array_elements($1) WITH ORDINALITY e) s
$$;
COMMENT ON FUNCTION crm.tariff_penalty(jsonb, integer, numeric) IS 'What so many charged minutes cost by a tariff, roubles: each step takes the minutes up to the next one, counted in started (or full) units of its own; not above the cap';

CREATE OR REPLACE FUNCTION crm.contract_term_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wrong text;
	other record;
BEGIN
	SELECT c.carrier_id INTO new.carrier_id FROM crm.contract c WHERE c.id = new.contract_id
	UNION ALL SELECT new.carrier_id LIMIT 1;	-- a restore may bring the contract later
	IF new.carrier_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '23503', TABLE = 'contract_term', SCHEMA = 'crm', COLUMN = 'contract_id',
			MESSAGE = format('contract %s does not exist', coalesce(new.contract_id::text, 'NULL')), HINT = 'Enter the contract first: crm.contract.';
	END IF;
	IF new.valid_to < new.valid_from THEN
		RAISE EXCEPTION USING ERRCODE = '22023', TABLE = 'contract_term', SCHEMA = 'crm',
			MESSAGE = format('the term ends on %s, before it begins on %s', new.valid_to, new.valid_from), HINT = 'valid_to is the last day, and not before valid_from; NULL leaves the term open.';
	END IF;
	wrong := crm.tariff_check(new.tariff);
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', TABLE = 'contract_term', SCHEMA = 'crm', COLUMN = 'tariff',
			MESSAGE = format('tariff %s: %s', left(new.tariff::text, 200), wrong),
			HINT = 'Give steps as [{"from": 0, "each": 15, "roubles": 500}, {"from": 60, "each": 1, "roubles": 100, "started": false}].';
	END IF;
	wrong := crm.exclusions_check(new.exclusions);
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', TABLE = 'contract_term', SCHEMA = 'crm', COLUMN = 'exclusions',
			MESSAGE = format('exclusions %s: %s', left(new.exclusions::text, 200), wrong),
			HINT = 'Give {"weekdays": [6, 7], "holidays": true, "gap": true, "queue": true}, or parts of it.';
	END IF;
	IF new.cap = 'NaN' OR new.cap < 0 OR new.cap > 100000000 THEN
		RAISE EXCEPTION USING ERRCODE = '22003', TABLE = 'contract_term', SCHEMA = 'crm', COLUMN = 'cap',
			MESSAGE = format('cap %s is out of range', new.cap), HINT = 'Give roubles from 0 to 100000000, or NULL for no cap.';
	END IF;
	IF TG_OP = 'UPDATE' AND old.used_at IS NOT NULL THEN
		IF (new.contract_id, new.side, new.valid_from, new.free_minutes, new.tariff, new.cap, new.exclusions, new.used_at)
			IS DISTINCT FROM (old.contract_id, old.side, old.valid_from, old.free_minutes, old.tariff, old.cap, old.exclusions, old.used_at) THEN
			RAISE EXCEPTION USING ERRCODE = '55000', TABLE = 'contract_term', SCHEMA = 'crm',
				MESSAGE = format('term %s cannot be edited: claims rest on it', old.id),
				HINT = format('End it (valid_to, not before %s) and enter another term from the next day.', old.used_through);
		END IF;
		IF new.valid_to < old.used_through THEN
			RAISE EXCEPTION USING ERRCODE = '55000', TABLE = 'contract_term', SCHEMA = 'crm', COLUMN = 'valid_to',
				MESSAGE = format('term %s cannot end on %s: a claim of %s rests on it', old.id, new.valid_to, old.used_through),
				HINT = format('Let it end on %s or later.', old.used_through);
		END IF;
	END IF;
	-- The constraint keeps overlaps out whatever runs at once; this one says with which.
	SELECT t.id, t.valid_from, t.valid_to INTO other FROM crm.contract_term t
	WHERE t.carrier_id = new.carrier_id AND t.side = new.side AND t.id <> new.id
		AND daterange(t.valid_from, t.valid_to, '[]') && daterange(new.valid_from, new.valid_to, '[]')
	ORDER BY t.valid_from LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23P01', TABLE = 'contract_term', SCHEMA = 'crm', CONSTRAINT = 'contract_term_overlap',
			MESSAGE = format('term from %s to %s overlaps term %s, which holds from %s to %s', new.valid_from, coalesce(new.valid_to::text, 'the end'),
				other.id, other.valid_from, coalesce(other.valid_to::text, 'the end')),
			HINT = format('End that one first: UPDATE crm.contract_term SET valid_to = ''%s'' WHERE id = %s.', new.valid_from - 1, other.id);
	END IF;
	IF TG_OP = 'UPDATE' AND (new.valid_from, new.valid_to, new.free_minutes, new.tariff, new.cap, new.exclusions)
		IS DISTINCT FROM (old.valid_from, old.valid_to, old.free_minutes, old.tariff, old.cap, old.exclusions) THEN
		new.changed_at := crm.now();
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.contract_term_check() IS 'Trigger of crm.contract_term: tariff, cap and exclusions make sense (22023, 22003), no overlap (23P01, naming the other term), a used one stands (55000), each with the value and a hint';

CREATE OR REPLACE FUNCTION crm.contract_term_written() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	trips bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- what was judged without it, or by what it was before
	SELECT array_agg(DISTINCT l.trip_id) INTO trips
	FROM fresh f
	CROSS JOIN LATERAL (
		(SELECT y.trip_id FROM crm.lateness y WHERE y.carrier_id = f.carrier_id AND y.superseded_at IS NULL AND y.side = f.side AND y.late_minutes > 0
			AND y.business_date BETWEEN f.valid_from - 1 AND coalesce(f.valid_to + 1, 'infinity') AND (f.used_at IS NULL OR y.term_id IS DISTINCT FROM f.id) OFFSET 0)
		UNION ALL
		(SELECT y.trip_id FROM crm.lateness y WHERE y.carrier_id = f.carrier_id AND y.superseded_at IS NULL AND y.term_id = f.id AND y.business_date > f.valid_to OFFSET 0)) l;
	PERFORM crm.lateness_recompute(trips);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.contract_term_written() IS 'Trigger of crm.contract_term: lateness of its days is reckoned anew. Asleep until crm.activate()';

-- Lateness ------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.seconds_of(spans tstzmultirange) RETURNS double precision
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
	RETURN (SELECT coalesce(sum(extract(epoch FROM upper(s) - lower(s))), 0)::double precision FROM unnest(spans) s);
COMMENT ON FUNCTION crm.seconds_of(tstzmultirange) IS 'Length of spans of time together, seconds; NULL is 0';

CREATE OR REPLACE FUNCTION crm.lateness_recompute(trip_ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_nestloop = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	ids   bigint[];
	fresh_ bigint[];
BEGIN
	IF NOT crm.guard() OR coalesce(cardinality(trip_ids), 0) = 0 THEN
		RETURN;
	END IF;
	-- One after the other for a trip, and in one order.
	PERFORM FROM crm.trip t WHERE t.id = ANY (trip_ids) ORDER BY t.id FOR NO KEY UPDATE;

	-- Which slot for loading is a trip's: the one that names it, else the nearest of its vehicle that no other trip has.
	WITH lone AS (
		SELECT t.id, t.vehicle_id, t.loaded_at
		FROM (SELECT y.* FROM crm.trip y WHERE y.id = ANY (trip_ids) AND y.state <> 'cancelled' OFFSET 0) t
		WHERE NOT EXISTS (SELECT FROM crm.slot s WHERE s.trip_id = t.id AND s.kind = 'loading' AND s.cancelled_at IS NULL OFFSET 0)
	), fit AS (
		SELECT DISTINCT ON (s.id) s.id AS slot_id, l.id AS trip_id
		FROM lone l
		CROSS JOIN LATERAL (SELECT y.id, y.agreed_from FROM crm.slot y WHERE y.vehicle_id = l.vehicle_id AND y.kind = 'loading' AND y.cancelled_at IS NULL
			AND (y.trip_id IS NULL OR y.trip_found AND EXISTS (SELECT FROM crm.trip z WHERE z.id = y.trip_id AND z.state = 'cancelled' OFFSET 0))
			AND y.agreed_from BETWEEN l.loaded_at - interval '24 hours' AND l.loaded_at + interval '12 hours'
			AND (y.order_id IS NULL OR EXISTS (SELECT FROM crm.trip_order x WHERE x.trip_id = l.id AND x.order_id = y.order_id OFFSET 0))
			ORDER BY y.order_id IS NULL, abs(extract(epoch FROM y.agreed_from - l.loaded_at)), y.id LIMIT 1) s
		ORDER BY s.id, abs(extract(epoch FROM s.agreed_from - l.loaded_at)), l.id
	)
	UPDATE crm.slot s SET trip_id = f.trip_id, trip_found = true FROM fit f WHERE s.id = ANY (ARRAY[f.slot_id]);

	WITH todo AS MATERIALIZED (
		SELECT t.id, t.vehicle_id, t.origin_place_id, t.destination_place_id, t.loaded_at, t.departed_at, t.arrived_at, t.arrived_error_s, v.carrier_id
		FROM (SELECT y.* FROM crm.trip y WHERE y.id = ANY (trip_ids) AND y.state <> 'cancelled' OFFSET 0) t
		CROSS JOIN LATERAL (SELECT y.carrier_id FROM crm.vehicle y WHERE y.id = t.vehicle_id OFFSET 0) v
	), loading AS MATERIALIZED (
		SELECT t.id AS trip_id, 'loading' AS side, s.id AS slot_id, s.agreed_version, coalesce(s.place_id, t.origin_place_id) AS place_id, s.agreed_from AS planned_at,
			s.carrier_id, s.arrived_at, s.arrived_error_s AS error_s, s.arrived_means AS means, s.arrived_checkin_id AS checkin_id, c.passage_id
		FROM todo t
		CROSS JOIN LATERAL (SELECT y.* FROM crm.slot y WHERE y.trip_id = t.id AND y.kind = 'loading' AND y.cancelled_at IS NULL ORDER BY y.agreed_from, y.id LIMIT 1) s
		LEFT JOIN LATERAL (SELECT y.passage_id FROM crm.checkin y WHERE y.id = s.arrived_checkin_id OFFSET 0) c ON true
	), unloading AS MATERIALIZED (
		SELECT t.id AS trip_id, 'unloading' AS side, s.id AS slot_id, s.agreed_version, coalesce(t.destination_place_id, s.place_id) AS place_id,
			coalesce(s.agreed_to, s.agreed_from) AS planned_at, s.carrier_id, p.at AS arrived_at, p.error_s, p.means, p.checkin_id, p.passage_id
		FROM todo t
		CROSS JOIN LATERAL (
			SELECT k.* FROM (
				(SELECT 1 AS rank, y.* FROM crm.slot y WHERE y.trip_id = t.id AND y.kind = 'unloading' AND y.cancelled_at IS NULL OFFSET 0)
				UNION ALL
				(SELECT 2, y.* FROM crm.slot y WHERE y.vehicle_id = t.vehicle_id AND y.kind = 'unloading' AND y.trip_id IS NULL AND y.cancelled_at IS NULL
					AND y.agreed_from BETWEEN t.loaded_at - interval '6 hours' AND t.loaded_at + interval '10 days'
					AND (y.place_id IS NULL OR y.place_id = t.destination_place_id)
					AND (y.order_id IS NULL OR EXISTS (SELECT FROM crm.trip_order x WHERE x.trip_id = t.id AND x.order_id = y.order_id OFFSET 0)) OFFSET 0)
				UNION ALL
				-- of several orders the latest window, in the carrier's favour
				(SELECT 3, y.* FROM crm.trip_order x CROSS JOIN LATERAL (SELECT z.* FROM crm.slot z WHERE z.order_id = x.order_id AND z.kind = 'unloading'
					AND z.vehicle_id IS NULL AND z.trip_id IS NULL AND z.cancelled_at IS NULL OFFSET 0) y WHERE x.trip_id = t.id)) k
			ORDER BY k.rank, coalesce(k.agreed_to, k.agreed_from) DESC, k.id LIMIT 1) s
		CROSS JOIN LATERAL (
			SELECT k.* FROM (
				SELECT t.arrived_at AS at, t.arrived_error_s AS error_s, 'gps' AS means, NULL::bigint AS checkin_id,
					(SELECT f.passage_id FROM crm.trip_fact f WHERE f.trip_id = t.id AND f.state = 'arrived' AND f.superseded_at IS NULL LIMIT 1) AS passage_id
				WHERE t.arrived_at IS NOT NULL
				UNION ALL
				(SELECT y.at, y.error_s, y.means, y.id, y.passage_id FROM crm.checkin y
				WHERE y.vehicle_id = t.vehicle_id AND y.at BETWEEN coalesce(t.departed_at, t.loaded_at) AND t.loaded_at + interval '10 days' AND y.cancelled_at IS NULL
					AND y.means <> 'gps' AND (y.slot_id = s.id OR y.slot_id IS NULL AND y.place_id = t.destination_place_id)
					AND y.at < coalesce((SELECT min(n.loaded_at) FROM crm.trip n WHERE n.vehicle_id = t.vehicle_id AND n.id <> t.id AND n.state <> 'cancelled'
						AND n.loaded_at > coalesce(t.departed_at, t.loaded_at + interval '3 hours')), 'infinity') OFFSET 0)) k
			ORDER BY k.at, k.error_s NULLS FIRST LIMIT 1) p
	), side AS MATERIALIZED (
		SELECT l.*, coalesce(l.carrier_id, b.carrier_id, t.carrier_id) AS whose, t.vehicle_id, b.id AS before_id, coalesce(b.version, 0) AS before_version,
			-- earliest moment that the proof allows: the error is the carrier's
			l.arrived_at - coalesce(l.error_s, 0) * interval '1 second' AS came_at,
			CASE l.side WHEN 'loading' THEN l.place_id ELSE coalesce(o.place_id, t.origin_place_id) END AS plant_id,
			CASE l.side WHEN 'loading' THEN l.planned_at ELSE greatest(o.planned_at, o.arrived_at) END AS queue_from,
			CASE l.side WHEN 'loading' THEN l.arrived_at ELSE coalesce(t.departed_at, t.loaded_at) END AS queue_to
		FROM (SELECT * FROM loading UNION ALL SELECT * FROM unloading) l
		JOIN todo t ON t.id = l.trip_id
		LEFT JOIN loading o ON o.trip_id = l.trip_id
		LEFT JOIN LATERAL (SELECT y.id, y.version, y.carrier_id FROM crm.lateness y WHERE y.trip_id = l.trip_id AND y.side = l.side AND y.superseded_at IS NULL OFFSET 0) b ON true
		WHERE l.arrived_at IS NOT NULL
	), judged AS MATERIALIZED (
		SELECT s.*, m.id AS term_id, m.free_minutes, m.tariff, m.cap, m.exclusions,
			coalesce(m.business_date, (s.planned_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow'))::date) AS business_date,
			coalesce(g.gap, false) AS gap,
			greatest(0, floor(extract(epoch FROM s.came_at - s.planned_at) / 60))::integer AS late_minutes,
			crm.seconds_of(q.spans) AS excused_s
		FROM side s
		LEFT JOIN LATERAL (
			SELECT y.*, d.day AS business_date
			FROM crm.contract_term y
			CROSS JOIN LATERAL (SELECT z.zone FROM crm.contract z WHERE z.id = y.contract_id OFFSET 0) c
			CROSS JOIN LATERAL (SELECT (s.planned_at AT TIME ZONE c.zone)::date AS day) d
			WHERE y.span && int8range((s.whose * 2 + CASE s.side WHEN 'unloading' THEN 1 ELSE 0 END) * 200000 + (s.planned_at::date - date '1990-01-01') - 1,
					(s.whose * 2 + CASE s.side WHEN 'unloading' THEN 1 ELSE 0 END) * 200000 + (s.planned_at::date - date '1990-01-01') + 2)
				AND d.day BETWEEN y.valid_from AND coalesce(y.valid_to, 'infinity')
			ORDER BY y.valid_from DESC LIMIT 1) m ON true
		LEFT JOIN LATERAL (SELECT y.entered_gap AS gap FROM crm.passage y WHERE y.id = s.passage_id OFFSET 0) g ON true
		LEFT JOIN LATERAL (
			SELECT range_agg(tstzrange(y.from_at, y.to_at)) * tstzmultirange(tstzrange(s.queue_from, greatest(s.queue_from, s.queue_to))) AS spans
			FROM (SELECT y.* FROM crm.queue_interval y WHERE y.place_id = s.plant_id AND y.from_at BETWEEN s.queue_from - interval '7 days' AND s.queue_to AND y.cancelled_at IS NULL OFFSET 0) y
			WHERE y.to_at > s.queue_from AND (y.vehicle_id IS NULL OR y.vehicle_id = s.vehicle_id)
				AND s.came_at > s.planned_at) q ON true
	), excused AS MATERIALIZED (
		SELECT j.*,
			CASE WHEN (j.exclusions ->> 'queue')::boolean IS FALSE THEN 0 ELSE least(j.late_minutes, ceil(j.excused_s / 60))::integer END AS excused_minutes,
			CASE WHEN j.late_minutes = 0 OR j.term_id IS NULL THEN NULL
				WHEN j.error_s IS NULL THEN 'not charged: the arrival has no bound of error'
				WHEN j.gap AND (j.exclusions ->> 'gap')::boolean THEN 'not charged: the fixes around the arrival are more than ten minutes apart'
				WHEN (j.exclusions -> 'weekdays') @> to_jsonb(extract(isodow FROM j.business_date)::integer) THEN 'not charged: excluded day of the week'
				WHEN (j.exclusions ->> 'holidays')::boolean AND NOT coalesce((SELECT d.kind IN ('working', 'short') FROM crm.calendar_day d WHERE d.country = 'ru' AND d.day = j.business_date),
					extract(isodow FROM j.business_date) <= 5) THEN 'not charged: day off' END AS why
		FROM judged j
	), reckoned AS MATERIALIZED (
		SELECT e.*, CASE WHEN e.why IS NULL AND e.term_id IS NOT NULL THEN greatest(0, e.late_minutes - e.excused_minutes - e.free_minutes) ELSE 0 END AS charged_minutes
		FROM excused e
	), priced AS MATERIALIZED (
		SELECT r.*, coalesce(crm.tariff_penalty(r.tariff, r.charged_minutes, r.cap), 0) AS penalty,
			concat_ws('; ', CASE WHEN r.excused_minutes > 0 THEN format('%s min in the plant''s queue excused', r.excused_minutes) END, r.why) AS words
		FROM reckoned r
	), changed AS MATERIALIZED (
		SELECT p.* FROM priced p
		LEFT JOIN LATERAL (SELECT y.* FROM crm.lateness y WHERE y.id = p.before_id OFFSET 0) b ON true
		WHERE b.id IS NULL OR (b.slot_id, b.plan_version, b.planned_at, b.arrived_at, b.error_s, b.means, b.checkin_id, b.passage_id, b.late_minutes, b.excused_minutes,
				b.term_id, b.free_minutes, b.charged_minutes, b.penalty, b.carrier_id, b.reason)
			IS DISTINCT FROM (p.slot_id, p.agreed_version, p.planned_at, p.arrived_at, p.error_s, p.means, p.checkin_id, p.passage_id, p.late_minutes, p.excused_minutes,
				p.term_id, p.free_minutes, p.charged_minutes, p.penalty, p.whose, nullif(p.words, ''))
	), gone AS MATERIALIZED (
		SELECT b.id FROM unnest(trip_ids) AS u(trip_id)
		CROSS JOIN LATERAL (SELECT y.id, y.side FROM crm.lateness y WHERE y.trip_id = u.trip_id AND y.superseded_at IS NULL OFFSET 0) b
		WHERE NOT EXISTS (SELECT FROM side s WHERE s.trip_id = u.trip_id AND s.side = b.side)
	)
	SELECT array_agg(x.id) INTO ids
	FROM (
		SELECT crm.lateness_write(array_agg(c.before_id), array_agg(c.trip_id), array_agg(c.side), array_agg(c.before_version + 1), array_agg(c.slot_id),
			array_agg(c.agreed_version), array_agg(c.place_id), array_agg(c.whose), array_agg(c.vehicle_id), array_agg(c.planned_at), array_agg(c.arrived_at),
			array_agg(c.error_s), array_agg(c.means), array_agg(c.checkin_id), array_agg(c.passage_id), array_agg(c.gap), array_agg(c.late_minutes),
			array_agg(c.excused_minutes), array_agg(nullif(c.words, '')), array_agg(c.business_date), array_agg(c.term_id), array_agg(c.free_minutes),
			array_agg(c.charged_minutes), array_agg(c.penalty), (SELECT array_agg(g.id) FROM gone g)) AS ids
		FROM changed c) w
	CROSS JOIN LATERAL unnest(w.ids) AS x(id);
	IF ids IS NULL THEN
		RETURN;
	END IF;

	-- The first version that says late is news; a correction is not.
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'lateness.found', 'trip', l.trip_id, l.carrier_id, l.arrived_at, crm.trip_data(l.trip_id) || jsonb_build_object(
			'side', l.side, 'late_minutes', l.late_minutes, 'excused_minutes', l.excused_minutes, 'charged_minutes', l.charged_minutes, 'penalty', trim_scale(l.penalty)::text,
			'means', l.means, 'error_s', coalesce(ceil(l.error_s)::text, ''),
			'planned_local', to_char(l.planned_at AT TIME ZONE z.zone, 'DD.MM.YYYY HH24:MI'), 'at_local', to_char(l.arrived_at AT TIME ZONE z.zone, 'HH24:MI')),
		'lateness', l.trip_id || '.' || l.side
	FROM (SELECT y.* FROM crm.lateness y WHERE y.id = ANY (ids) AND y.superseded_at IS NULL AND y.late_minutes > 0 OFFSET 0) l
	LEFT JOIN LATERAL (SELECT y.time_zone FROM crm.place y WHERE y.id = l.place_id OFFSET 0) d ON true
	CROSS JOIN LATERAL (SELECT coalesce(d.time_zone, current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) z
	WHERE NOT EXISTS (SELECT FROM crm.lateness y WHERE y.trip_id = l.trip_id AND y.side = l.side AND y.version < l.version AND y.late_minutes > 0 OFFSET 0)
	ORDER BY l.id;

	PERFORM crm.claims_follow(ids);
END
$$;
COMMENT ON FUNCTION crm.lateness_recompute(bigint[]) IS 'Judges trips at both sides against the agreed plans by proved times, the plant''s queue and the contract''s terms; writes a new version where something changed, emits lateness.found for the first one that says late, lets claims follow. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.lateness_write(before_ids bigint[], trips bigint[], sides text[], versions integer[], slots bigint[], plans integer[], places bigint[],
	carriers bigint[], vehicles bigint[], planneds timestamptz[], arriveds timestamptz[], errors double precision[], meanses text[], checkins bigint[], passages bigint[],
	gaps boolean[], lates integer[], excuseds integer[], reasons text[], days date[], terms bigint[], frees integer[], chargeds integer[], penalties numeric[], gone bigint[]) RETURNS bigint[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	ids bigint[];
BEGIN
	UPDATE crm.lateness l SET superseded_at = crm.now() WHERE l.id = ANY (before_ids || gone) AND l.superseded_at IS NULL;
	WITH written AS (
		INSERT INTO crm.lateness (trip_id, side, version, slot_id, plan_version, place_id, carrier_id, vehicle_id, planned_at, arrived_at, error_s, means,
			checkin_id, passage_id, gap, late_minutes, excused_minutes, reason, business_date, term_id, free_minutes, charged_minutes, penalty, proofs)
		-- a version that was taken back without a successor keeps its number
		SELECT u.trip_id, u.side, greatest(u.version, coalesce((SELECT max(y.version) FROM crm.lateness y WHERE y.trip_id = u.trip_id AND y.side = u.side), 0) + 1), u.slot_id, u.plan_version,
			u.place_id, u.carrier_id, u.vehicle_id, u.planned_at, u.arrived_at, u.error_s, u.means,
			u.checkin_id, u.passage_id, u.gap, u.late_minutes, u.excused_minutes, u.reason, u.business_date, u.term_id, u.free_minutes, u.charged_minutes, u.penalty,
			CASE u.side WHEN 'loading' THEN
				(SELECT coalesce(jsonb_agg(jsonb_build_object('means', k.means, 'at', to_char(k.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'error_s', k.error_s) ORDER BY k.at, k.id), '[]')
				FROM (SELECT y.* FROM crm.checkin y WHERE y.vehicle_id = u.vehicle_id AND y.cancelled_at IS NULL
					AND y.at BETWEEN u.arrived_at AND u.arrived_at + interval '12 hours' AND (y.slot_id IS NULL OR y.slot_id = u.slot_id) ORDER BY y.at, y.id LIMIT 20) k)
			ELSE jsonb_build_array(jsonb_build_object('means', u.means, 'at', to_char(u.arrived_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'error_s', u.error_s)) END
		FROM unnest(trips, sides, versions, slots, plans, places, carriers, vehicles, planneds, arriveds, errors, meanses, checkins, passages, gaps, lates, excuseds,
			reasons, days, terms, frees, chargeds, penalties) AS u(trip_id, side, version, slot_id, plan_version, place_id, carrier_id, vehicle_id, planned_at, arrived_at, error_s, means,
			checkin_id, passage_id, gap, late_minutes, excused_minutes, reason, business_date, term_id, free_minutes, charged_minutes, penalty)
		ORDER BY u.trip_id, u.side
		RETURNING id
	)
	SELECT array_agg(w.id) || gone INTO ids FROM written w;
	RETURN ids;
END
$$;
COMMENT ON FUNCTION crm.lateness_write(bigint[], bigint[], text[], integer[], bigint[], integer[], bigint[], bigint[], bigint[], timestamptz[], timestamptz[], double precision[], text[], bigint[], bigint[], boolean[], integer[], integer[], text[], date[], bigint[], integer[], integer[], numeric[], bigint[]) IS
'Writes new versions of lateness, an element each, and gives up those before and those gone; returns the ids of both. Called by crm.lateness_recompute()';

SELECT crm.register_event_kind('lateness.found', 'trip',
	ARRAY['trip_id', 'order_number', 'product', 'tonnes', 'waybill', 'vehicle_plate', 'driver', 'driver_phone', 'place_name', 'origin_name', 'side', 'late_minutes',
		'excused_minutes', 'charged_minutes', 'penalty', 'means', 'error_s', 'planned_local', 'at_local'],
	'A trip came late to loading or unloading', 'Рейс опоздал на погрузку или выгрузку');

CREATE OR REPLACE FUNCTION crm.trip_proves() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ids bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	IF TG_TABLE_NAME = 'trip_fact' THEN
		SELECT array_agg(DISTINCT f.trip_id) INTO ids FROM fresh f WHERE f.state IN ('departed', 'arrived');
	ELSIF TG_TABLE_NAME = 'trip_order' THEN
		-- and a fresh trip, which has an order always
		SELECT array_agg(DISTINCT f.trip_id) INTO ids FROM fresh f;
	ELSE
		SELECT array_agg(f.id) INTO ids FROM fresh f WHERE f.state IN ('loading', 'cancelled');
	END IF;
	IF ids IS NOT NULL THEN
		PERFORM crm.lateness_recompute(ids);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.trip_proves() IS 'Trigger of crm.trip, crm.trip_order and crm.trip_fact: fresh trips and further orders, departures, arrivals and storno bear on lateness. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.queue_written() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	trips bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- those of slots are drawn where slots are judged, and followed there
	SELECT array_agg(DISTINCT x.trip_id) INTO trips
	FROM fresh f
	CROSS JOIN LATERAL (
		(SELECT y.trip_id FROM crm.lateness y WHERE y.place_id = f.place_id AND y.superseded_at IS NULL AND y.planned_at BETWEEN f.from_at - interval '8 days' AND f.to_at
			AND y.late_minutes > 0 AND (f.vehicle_id IS NULL OR y.vehicle_id = f.vehicle_id) OFFSET 0)
		UNION ALL
		(SELECT y.trip_id FROM crm.slot y WHERE y.place_id = f.place_id AND y.planned_from BETWEEN f.from_at - interval '8 days' AND f.to_at + interval '1 day'
			AND y.trip_id IS NOT NULL AND (f.vehicle_id IS NULL OR y.vehicle_id = f.vehicle_id) OFFSET 0)) x
	WHERE f.source <> 'slot';
	PERFORM crm.lateness_recompute(trips);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.queue_written() IS 'Trigger of crm.queue_interval: lateness of the place in that time is reckoned anew. Asleep until crm.activate()';
