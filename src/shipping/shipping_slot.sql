-- shipping: slots, check-ins, the queue. Code: may be run again.

SELECT crm.register_foreign_key('crm.slot', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.slot', 'order_id', 'crm.customer_order', 'id');
SELECT crm.register_foreign_key('crm.slot', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.slot', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.slot', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.slot', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.slot_plan', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.slot_plan', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'passage_id', 'crm.passage', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'shipment_id', 'crm.shipment', 'id');
SELECT crm.register_no_foreign_key('crm.checkin', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.queue_interval', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.queue_interval', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.queue_interval', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_no_foreign_key('crm.queue_interval', 'source_id', 'a number of another system');
SELECT crm.register_no_foreign_key('crm.slot', 'arrived_checkin_id', 'drawn from the check-ins, which name their slot: two keys would be a ring');

-- What may be said of a time --------------------------------------------------

CREATE OR REPLACE FUNCTION crm.time_in_range(at timestamptz, what text) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT isfinite(at) OR at < timestamptz '2000-01-01 00:00Z' OR at > crm.now() + interval '5 years' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('%s %s is out of range', what, at),
			HINT = 'Give a real time between the year 2000 and five years from now.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.time_in_range(timestamptz, text) IS 'Refuses a time of a slot, check-in or queue that cannot be meant: infinite, before 2000, more than five years ahead. Error 22008. NULL passes';

CREATE OR REPLACE FUNCTION crm.slot_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	before_ timestamptz;
	after_  timestamptz;
BEGIN
	PERFORM crm.time_in_range(new.planned_from, 'start of the slot');
	PERFORM crm.time_in_range(new.planned_to, 'end of the slot');
	PERFORM crm.time_in_range(new.called_at, 'call of the slot');
	IF new.planned_to < new.planned_from OR new.planned_to > new.planned_from + interval '31 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', TABLE = 'slot', SCHEMA = 'crm',
			MESSAGE = format('the slot ends at %s, and begins at %s', new.planned_to, new.planned_from),
			HINT = 'planned_to must not be before planned_from, nor more than 31 days after it; leave it NULL for a point in time.';
	END IF;
	IF TG_OP = 'INSERT' THEN
		-- a restore brings its own
		new.agreed_from := coalesce(new.agreed_from, new.planned_from);
		new.late_at := coalesce(new.late_at, CASE new.kind WHEN 'loading' THEN new.agreed_from ELSE coalesce(new.agreed_to, new.agreed_from) END);
		IF crm.guard() THEN
			new.version := 1;
			new.agreed_version := 1;
			new.agreed_from := new.planned_from;
			new.agreed_to := new.planned_to;
			new.judged := false;
		END IF;
	ELSE
		IF (new.planned_from, new.planned_to, new.grace_minutes, new.gate, new.vehicle_id) IS DISTINCT FROM
			(old.planned_from, old.planned_to, old.grace_minutes, old.gate, old.vehicle_id) THEN
			new.version := old.version + 1;
			IF (new.planned_from, new.planned_to) IS NOT DISTINCT FROM (old.planned_from, old.planned_to) THEN
				new.agreed_version := CASE WHEN old.agreed_version = old.version THEN new.version ELSE old.agreed_version END;
			ELSE
				-- A move that becomes known when the slot was missed already hides nothing, unless it was the plant's;
				-- and nobody is late for a time that he learns of when it is over.
				before_ := CASE new.kind WHEN 'loading' THEN old.agreed_from ELSE coalesce(old.agreed_to, old.agreed_from) END;
				after_ := CASE new.kind WHEN 'loading' THEN new.planned_from ELSE coalesce(new.planned_to, new.planned_from) END;
				IF crm.now() <= after_ AND (new.moved_by = 'plant' OR crm.now() <= before_) OR new.moved_by = 'plant' AND after_ >= before_ THEN
					new.agreed_version := new.version;
					new.agreed_from := new.planned_from;
					new.agreed_to := new.planned_to;
				END IF;
			END IF;
		END IF;
		IF (new.version, new.kind, new.place_id, new.order_id, new.trip_id, new.vehicle_id, new.carrier_id, new.called_at, new.cancelled_at) IS DISTINCT FROM
			(old.version, old.kind, old.place_id, old.order_id, old.trip_id, old.vehicle_id, old.carrier_id, old.called_at, old.cancelled_at)
			AND NOT (new.judged AND NOT old.judged) AND NOT (new.trip_found AND new.trip_id IS DISTINCT FROM old.trip_id) THEN
			new.judged := false;
		END IF;
	END IF;
	IF crm.guard() THEN
		new.late_at := CASE new.kind WHEN 'loading' THEN new.agreed_from ELSE coalesce(new.agreed_to, new.agreed_from) END
			+ new.grace_minutes * interval '1 minute' + interval '1 second';
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.slot_check() IS 'Trigger of crm.slot: times in range and in order; numbers the plans and decides which one is agreed. Errors: 22008, 22023, with the value and a hint';

CREATE OR REPLACE FUNCTION crm.checkin_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.time_in_range(new.at, 'check-in');
	IF new.error_s = 'NaN' THEN
		RAISE EXCEPTION USING ERRCODE = '22003', TABLE = 'checkin', SCHEMA = 'crm', COLUMN = 'error_s',
			MESSAGE = 'error of the check-in is NaN', HINT = 'Give seconds, or NULL where no bound is known.';
	END IF;
	IF new.at > crm.clock() + interval '10 minutes' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', TABLE = 'checkin', SCHEMA = 'crm', COLUMN = 'at',
			MESSAGE = format('check-in at %s lies in the future', new.at), HINT = 'Look at the clock of the gate: a check-in is told when it happened.';
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.checkin_check() IS 'Trigger of crm.checkin: the time in range, not more than ten minutes ahead of crm.clock(). Errors: 22003, 22008, with the value and a hint';

CREATE OR REPLACE FUNCTION crm.queue_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.time_in_range(new.from_at, 'start of the queue');
	PERFORM crm.time_in_range(new.to_at, 'end of the queue');
	IF new.to_at <= new.from_at OR new.to_at > new.from_at + interval '7 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', TABLE = 'queue_interval', SCHEMA = 'crm',
			MESSAGE = format('the queue ends at %s, and begins at %s', new.to_at, new.from_at),
			HINT = 'to_at must be after from_at, and at most seven days.';
	END IF;
	RETURN new;
END
$$;
COMMENT ON FUNCTION crm.queue_check() IS 'Trigger of crm.queue_interval: times in range and in order, at most seven days. Errors: 22008, 22023, with the value and a hint';

-- What follows from slots and proofs ---------------------------------------------

CREATE OR REPLACE FUNCTION crm.slot_data(slot_ids bigint[]) RETURNS TABLE (slot_id bigint, company_id bigint, data jsonb)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT s.id, coalesce(s.carrier_id, v.carrier_id, o.company_id),
		jsonb_build_object('slot_id', s.id, 'slot_kind', s.kind, 'version', s.version,
			'order_number', coalesce(o.number, ''), 'product', coalesce(o.product, ''), 'client', coalesce(c.name, ''), 'carrier', coalesce(k.name, ''),
			'vehicle_plate', coalesce(v.plate, ''), 'driver', coalesce(v.driver, ''), 'driver_phone', coalesce(v.driver_phone, ''),
			'place_name', coalesce(d.name, ''), 'gate', coalesce(s.gate, ''), 'grace_minutes', s.grace_minutes,
			'at', to_char(s.planned_from AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', to_char(s.planned_from AT TIME ZONE z.zone, 'HH24:MI'),
			'to_local', coalesce(to_char(s.planned_to AT TIME ZONE z.zone, 'HH24:MI'), ''),
			'date_local', to_char(s.planned_from AT TIME ZONE z.zone, 'DD.MM.YYYY'),
			'called_local', coalesce(to_char(s.called_at AT TIME ZONE z.zone, 'HH24:MI'), ''))
	FROM (SELECT y.* FROM crm.slot y WHERE y.id = ANY ($1) OFFSET 0) s
	LEFT JOIN LATERAL (SELECT y.plate, y.driver, y.driver_phone, y.carrier_id FROM crm.vehicle y WHERE y.id = s.vehicle_id OFFSET 0) v ON true
	LEFT JOIN LATERAL (SELECT y.number, y.product, y.company_id FROM crm.customer_order y WHERE y.id = s.order_id OFFSET 0) o ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = o.company_id OFFSET 0) c ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = coalesce(s.carrier_id, v.carrier_id) OFFSET 0) k ON true
	LEFT JOIN LATERAL (SELECT y.name, y.time_zone FROM crm.place y WHERE y.id = s.place_id OFFSET 0) d ON true
	CROSS JOIN LATERAL (SELECT coalesce(d.time_zone, current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) z
$$;
COMMENT ON FUNCTION crm.slot_data(bigint[]) IS 'What a template may say of slots, and the company that their events concern: the carrier, else the client who fetches it himself';

SELECT crm.register_event_kind('slot.' || k.verb, 'slot',
	ARRAY['slot_id', 'slot_kind', 'version', 'order_number', 'product', 'client', 'carrier', 'vehicle_plate', 'driver', 'driver_phone',
		'place_name', 'gate', 'grace_minutes', 'at', 'at_local', 'to_local', 'date_local', 'called_local', 'link'], k.en, k.ru)
FROM (VALUES
	('planned', 'A slot was planned or moved', 'Назначено или перенесено время погрузки'),
	('called', 'The driver was called to the gate', 'Водитель вызван на погрузку'),
	('late', 'The driver is late for loading', 'Водитель опаздывает на погрузку')) AS k(verb, en, ru);

CREATE OR REPLACE FUNCTION crm.slots_judge(slot_ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET enable_nestloop = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	plant bigint;
	trips bigint[];
	-- a slot an element
	ids bigint[];
	kinds text[];
	vehicles bigint[];
	places bigint[];
	agreeds timestamptz[];
	los timestamptz[];
	his timestamptz[];
	firsts boolean[];
	voids boolean[];
BEGIN
	IF NOT crm.guard() OR coalesce(cardinality(slot_ids), 0) = 0 THEN
		RETURN;
	END IF;
	-- In one order, so that two sessions do not wait for each other in a ring.
	PERFORM FROM crm.slot s WHERE s.id = ANY (slot_ids) ORDER BY s.id FOR NO KEY UPDATE;
	SELECT min(p.id) INTO plant FROM crm.place p WHERE p.kind = 'plant' AND p.archived_at IS NULL HAVING count(*) = 1;

	-- Each slot with its share of its vehicle's time: up to half the way to the slot before and after it.
	SELECT array_agg(n.id), array_agg(n.kind), array_agg(n.vehicle_id), array_agg(n.place_id), array_agg(n.agreed_from), array_agg(n.lo), array_agg(n.hi), array_agg(n.first_), array_agg(n.void)
	INTO ids, kinds, vehicles, places, agreeds, los, his, firsts, voids
	FROM (
		SELECT s.id, s.kind, s.vehicle_id, coalesce(s.place_id, CASE s.kind WHEN 'loading' THEN plant END) AS place_id, s.agreed_from, s.cancelled_at IS NOT NULL AS void,
			greatest(s.agreed_from - interval '12 hours', b.at + (s.agreed_from - b.at) / 2) AS lo,
			least(coalesce(s.agreed_to, s.agreed_from) + interval '24 hours', s.agreed_from + (a.at - s.agreed_from) / 2) AS hi,
			b.at IS NULL AS first_
		FROM (SELECT y.* FROM crm.slot y WHERE y.id = ANY (slot_ids) OFFSET 0) s
		LEFT JOIN LATERAL (SELECT y.agreed_from AS at FROM crm.slot y WHERE y.vehicle_id = s.vehicle_id AND y.agreed_from < s.agreed_from
			AND y.agreed_from > s.agreed_from - interval '24 hours' AND y.kind = s.kind AND y.cancelled_at IS NULL ORDER BY y.agreed_from DESC LIMIT 1) b ON true
		LEFT JOIN LATERAL (SELECT y.agreed_from AS at FROM crm.slot y WHERE y.vehicle_id = s.vehicle_id AND y.agreed_from > s.agreed_from
			AND y.agreed_from < s.agreed_from + interval '48 hours' AND y.kind = s.kind AND y.cancelled_at IS NULL ORDER BY y.agreed_from LIMIT 1) a ON true) n;

	-- Proofs that other facts hold: entries by GPS, weighings. Those that were disproved go.
	WITH near AS MATERIALIZED (
		SELECT u.* FROM unnest(ids, kinds, vehicles, places, agreeds, los, his, firsts, voids) AS u(id, kind, vehicle_id, place_id, agreed_from, lo, hi, first_, void)
		WHERE u.vehicle_id IS NOT NULL AND NOT u.void
	), void AS (
		UPDATE crm.checkin c SET cancelled_at = crm.now()
		FROM near n
		CROSS JOIN LATERAL (SELECT y.id, y.passage_id, y.shipment_id FROM crm.checkin y WHERE y.vehicle_id = n.vehicle_id
			AND y.at BETWEEN n.lo - interval '7 days' AND n.hi AND y.cancelled_at IS NULL AND y.source IN ('gps', 'weighing') OFFSET 0) k
		WHERE c.id = ANY (ARRAY[k.id]) AND c.cancelled_at IS NULL
			AND (EXISTS (SELECT FROM crm.passage p WHERE p.id = k.passage_id AND p.superseded_at IS NOT NULL OFFSET 0)
				OR EXISTS (SELECT FROM crm.shipment h WHERE h.id = k.shipment_id AND h.cancelled_at IS NOT NULL OFFSET 0))
	), gps AS (
		INSERT INTO crm.checkin (vehicle_id, place_id, slot_id, at, error_s, means, passage_id, source, source_id)
		SELECT DISTINCT ON (p.id) n.vehicle_id, p.place_id, CASE WHEN p.entered_at < n.lo THEN n.id END, p.entered_at, p.entered_error_s, 'gps', p.id, 'gps', p.id::text
		FROM near n
		CROSS JOIN LATERAL (SELECT y.* FROM crm.passage y WHERE y.vehicle_id = n.vehicle_id AND y.superseded_at IS NULL
			AND coalesce(y.exit_fix_at, 'infinity') > n.lo ORDER BY coalesce(y.exit_fix_at, 'infinity') OFFSET 0) p
		WHERE p.place_id = n.place_id AND p.dwelled AND p.entered_at < n.hi
			-- one that stands there since long is there; but for a vehicle that came for an earlier slot
			AND (p.entered_at >= n.lo OR n.first_ AND coalesce(p.left_at, 'infinity') >= n.agreed_from)
		ORDER BY p.id, abs(extract(epoch FROM p.entered_at - n.agreed_from)), n.id
		ON CONFLICT ON CONSTRAINT checkin_source_key DO NOTHING
	)
	INSERT INTO crm.checkin AS c (vehicle_id, place_id, at, means, shipment_id, source, source_id)
	SELECT DISTINCT ON (h.id) n.vehicle_id, coalesce(h.origin_place_id, n.place_id), h.weighed_at, 'weighbridge', h.id, 'weighing', h.id::text
	FROM near n
	CROSS JOIN LATERAL (SELECT y.* FROM crm.shipment y WHERE y.vehicle_id = n.vehicle_id AND y.weighed_at BETWEEN n.lo AND n.hi AND y.cancelled_at IS NULL OFFSET 0) h
	WHERE n.kind = 'loading'
	ORDER BY h.id, n.id
	ON CONFLICT ON CONSTRAINT checkin_source_key DO UPDATE
	-- the gross comes later than the tare that proved the arrival; a tare may be weighed anew
	SET at = CASE WHEN (SELECT y.gross_kg FROM crm.shipment y WHERE y.id = excluded.shipment_id) IS NULL THEN excluded.at ELSE least(c.at, excluded.at) END,
		cancelled_at = NULL
	WHERE c.cancelled_at IS NOT NULL OR c.at <> excluded.at;

	WITH near AS MATERIALIZED (
		SELECT u.* FROM unnest(ids, kinds, vehicles, places, los, his, voids) AS u(id, kind, vehicle_id, place_id, lo, hi, void)
	), proved AS MATERIALIZED (
		SELECT n.id, n.place_id, c.id AS checkin_id, c.at, c.error_s, c.means
		FROM near n
		LEFT JOIN LATERAL (
			SELECT k.* FROM (
				SELECT y.* FROM crm.checkin y WHERE y.slot_id = n.id AND y.cancelled_at IS NULL
				UNION ALL
				(SELECT y.* FROM crm.checkin y WHERE y.vehicle_id = n.vehicle_id AND y.at BETWEEN n.lo AND n.hi AND y.slot_id IS NULL AND y.cancelled_at IS NULL
					AND (y.place_id = n.place_id OR y.place_id IS NULL AND n.kind = 'loading' OR n.place_id IS NULL AND n.kind = 'loading') OFFSET 0)) k
			WHERE NOT n.void
			ORDER BY k.at, k.error_s NULLS FIRST, k.id LIMIT 1) c ON true
	), told AS (
		UPDATE crm.slot s SET arrived_at = p.at, arrived_error_s = p.error_s, arrived_means = p.means, arrived_checkin_id = p.checkin_id,
			place_id = p.place_id, judged = true
		FROM proved p
		WHERE s.id = ANY (ARRAY[p.id]) AND (NOT s.judged OR (s.arrived_at, s.arrived_error_s, s.arrived_means, s.arrived_checkin_id, s.place_id)
			IS DISTINCT FROM (p.at, p.error_s, p.means, p.checkin_id, p.place_id))
	)
	-- From the check-in (not before the slot) to the call the driver stood in the plant's queue.
	INSERT INTO crm.queue_interval AS q (place_id, vehicle_id, slot_id, from_at, to_at, source, source_id, cancelled_at)
	SELECT p.place_id, s.vehicle_id, s.id, x.from_at, CASE WHEN s.called_at > x.from_at THEN least(s.called_at, x.from_at + interval '7 days') ELSE x.from_at + interval '1 second' END, 'slot', s.id::text,
		CASE WHEN s.cancelled_at IS NOT NULL OR s.called_at IS NULL OR s.called_at <= x.from_at THEN crm.now() END
	FROM proved p
	CROSS JOIN LATERAL (SELECT y.* FROM crm.slot y WHERE y.id = p.id OFFSET 0) s
	CROSS JOIN LATERAL (SELECT greatest(s.agreed_from, p.at) AS from_at) x
	WHERE s.kind = 'loading' AND s.vehicle_id IS NOT NULL AND p.place_id IS NOT NULL AND p.at IS NOT NULL
		AND (s.called_at > x.from_at OR EXISTS (SELECT FROM crm.queue_interval y WHERE y.source = 'slot' AND y.source_id = s.id::text OFFSET 0))
	ORDER BY p.id
	ON CONFLICT ON CONSTRAINT queue_interval_source_key DO UPDATE
	SET from_at = excluded.from_at, to_at = excluded.to_at, cancelled_at = excluded.cancelled_at, place_id = excluded.place_id, vehicle_id = excluded.vehicle_id
	WHERE (q.from_at, q.to_at, q.cancelled_at IS NULL) IS DISTINCT FROM (excluded.from_at, excluded.to_at, excluded.cancelled_at IS NULL);

	-- Trips that the slots plan or planned, or may plan.
	SELECT array_agg(DISTINCT x.trip_id) INTO trips
	FROM (SELECT y.* FROM crm.slot y WHERE y.id = ANY (slot_ids) OFFSET 0) s
	CROSS JOIN LATERAL (
		SELECT s.trip_id WHERE s.trip_id IS NOT NULL
		UNION ALL (SELECT y.trip_id FROM crm.lateness y WHERE y.slot_id = s.id AND y.superseded_at IS NULL OFFSET 0)
		UNION ALL (SELECT y.id FROM crm.trip y WHERE y.vehicle_id = s.vehicle_id AND y.loaded_at BETWEEN s.agreed_from - interval '10 days' AND s.agreed_from + interval '10 days' OFFSET 0)
		UNION ALL (SELECT y.trip_id FROM crm.trip_order y WHERE y.order_id = s.order_id AND s.vehicle_id IS NULL OFFSET 0)) x(trip_id);
	PERFORM crm.lateness_recompute(trips);
END
$$;
COMMENT ON FUNCTION crm.slots_judge(bigint[]) IS 'Draws what follows from slots: the earliest proved arrival (check-ins, entries by GPS with dwell, weighings; of the vehicle''s slots the nearest in time, from 12 hours before to 24 after), the wait from check-in to call, the lateness of their trips. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.slots_planned(ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	planned bigint[];
	called  bigint[];
BEGIN
	WITH written AS (
		INSERT INTO crm.slot_plan (slot_id, version, planned_from, planned_to, grace_minutes, gate, vehicle_id, moved_by, agreed, source)
		SELECT s.id, s.version, s.planned_from, s.planned_to, s.grace_minutes, s.gate, s.vehicle_id, s.moved_by, s.agreed_version = s.version, s.source
		FROM crm.slot s WHERE s.id = ANY (ids)
		ORDER BY s.id
		ON CONFLICT ON CONSTRAINT slot_plan_pkey DO NOTHING
		RETURNING slot_id
	)
	SELECT array_agg(w.slot_id) INTO planned FROM written w;
	-- Once for each: the mark comes first.
	WITH marked AS (
		UPDATE crm.slot s SET called_told_at = crm.now(), judged = true WHERE s.id = ANY (ids) AND s.called_at IS NOT NULL AND s.called_told_at IS NULL AND s.cancelled_at IS NULL RETURNING s.id
	)
	SELECT array_agg(m.id) INTO called FROM marked m;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT x.kind, 'slot', d.slot_id, d.company_id, CASE x.kind WHEN 'slot.called' THEN s.called_at ELSE crm.now() END, d.data, 'slot',
		CASE x.kind WHEN 'slot.called' THEN s.id || '.called' ELSE s.id || '.' || s.version END
	FROM (VALUES ('slot.planned', planned), ('slot.called', called)) AS x(kind, ids)
	CROSS JOIN LATERAL crm.slot_data(x.ids) d
	CROSS JOIN LATERAL (SELECT y.id, y.version, y.called_at, y.source, y.cancelled_at FROM crm.slot y WHERE y.id = d.slot_id OFFSET 0) s
	WHERE s.cancelled_at IS NULL AND s.source <> 'order'
	ORDER BY d.slot_id;
END
$$;
COMMENT ON FUNCTION crm.slots_planned(bigint[]) IS 'Keeps the plans of slots that are new or changed and emits slot.planned and slot.called, each once; called by the triggers of crm.slot. The window of an order is no news of its own';

CREATE OR REPLACE FUNCTION crm.slot_written() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ids bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(f.id ORDER BY f.id) INTO ids FROM fresh f WHERE NOT f.judged;
	IF ids IS NOT NULL THEN
		PERFORM crm.slots_planned(ids);
		PERFORM crm.slots_judge(ids);
		PERFORM crm.wake();	-- the next lateness may be due sooner
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.slot_written() IS 'Trigger of crm.slot: plans are kept, events emitted, arrivals and lateness drawn. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.slots_near(vehicle_ids bigint[], ats timestamptz[]) RETURNS bigint[]
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT array_agg(DISTINCT s.id)
	FROM unnest(vehicle_ids, ats) AS u(vehicle_id, at)
	CROSS JOIN LATERAL (SELECT y.id FROM crm.slot y WHERE y.vehicle_id = u.vehicle_id
		AND y.agreed_from BETWEEN u.at - interval '33 days' AND u.at + interval '8 days' AND y.cancelled_at IS NULL
		AND u.at < coalesce(y.agreed_to, y.agreed_from) + interval '25 hours' OFFSET 0) s
$$;
COMMENT ON FUNCTION crm.slots_near(bigint[], timestamptz[]) IS 'Slots of vehicles that a proof of each moment may bear on; NULL: none';

CREATE OR REPLACE FUNCTION crm.checkin_written() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	vehicles bigint[];
	ats      timestamptz[];
	named    bigint[];
	ids      bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- those of GPS and weighings are drawn where slots are judged
	SELECT array_agg(f.vehicle_id), array_agg(f.at), array_agg(f.slot_id) INTO vehicles, ats, named FROM fresh f WHERE f.source NOT IN ('gps', 'weighing');
	IF vehicles IS NOT NULL THEN
		SELECT array_agg(DISTINCT x.id) INTO ids FROM unnest(crm.slots_near(vehicles, ats) || named) AS x(id) WHERE x.id IS NOT NULL;
		PERFORM crm.slots_judge(ids);
		-- at the place of unloading there need be no slot of the vehicle's own
		PERFORM crm.lateness_recompute(ARRAY(
			SELECT DISTINCT t.id FROM unnest(vehicles, ats) AS u(vehicle_id, at)
			CROSS JOIN LATERAL (SELECT y.id FROM crm.trip y WHERE y.vehicle_id = u.vehicle_id AND y.loaded_at BETWEEN u.at - interval '10 days' AND u.at + interval '1 day' OFFSET 0) t));
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.checkin_written() IS 'Trigger of crm.checkin: the slots and trips that it bears on are judged. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.passage_proves() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	vehicles bigint[];
	ats      timestamptz[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(f.vehicle_id), array_agg(f.entered_at) INTO vehicles, ats FROM fresh f WHERE f.dwelled OR f.superseded_at IS NOT NULL;
	IF vehicles IS NOT NULL THEN
		PERFORM crm.slots_judge(crm.slots_near(vehicles, ats));
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.passage_proves() IS 'Trigger of crm.passage: entries with dwell, and those that were disproved, bear on the slots of their vehicles. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.weighing_proves() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	vehicles bigint[];
	ats      timestamptz[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- not where its proof is drawn already: a load's own trip is a second look at the same row
	SELECT array_agg(f.vehicle_id), array_agg(f.weighed_at) INTO vehicles, ats
	FROM fresh f
	LEFT JOIN LATERAL (SELECT y.vehicle_id, y.at, y.cancelled_at FROM crm.checkin y WHERE y.source = 'weighing' AND y.source_id = f.id::text OFFSET 0) c ON true
	WHERE f.vehicle_id IS NOT NULL AND (c.vehicle_id IS DISTINCT FROM f.vehicle_id OR (c.cancelled_at IS NULL) <> (f.cancelled_at IS NULL)
		OR c.at > f.weighed_at OR f.gross_kg IS NULL AND c.at <> f.weighed_at);
	IF vehicles IS NOT NULL THEN
		PERFORM crm.slots_judge(crm.slots_near(vehicles, ats));
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.weighing_proves() IS 'Trigger of crm.shipment: a weighing of a vehicle proves that it was there; one whose proof stands as it is bears on nothing. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.order_window() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- A window of nonsense is the order's own matter and no plan.
	INSERT INTO crm.slot AS s (kind, place_id, order_id, planned_from, planned_to, grace_minutes, cancelled_at, source, source_id, agreed_from, late_at)
	SELECT 'unloading', f.place_id, f.id, f.window_from, f.window_to, 0, CASE WHEN f.state = 'cancelled' THEN crm.now() END, 'order', f.id::text, f.window_from, f.window_to
	FROM fresh f
	WHERE f.window_from >= '2000-01-01 00:00Z' AND f.window_to <= least(f.window_from + interval '31 days', crm.now() + interval '5 years')
	ORDER BY f.id
	ON CONFLICT ON CONSTRAINT slot_source_key DO UPDATE
	SET planned_from = excluded.planned_from, planned_to = excluded.planned_to, place_id = excluded.place_id, cancelled_at = excluded.cancelled_at
	WHERE (s.planned_from, s.planned_to, s.place_id, s.cancelled_at IS NULL)
		IS DISTINCT FROM (excluded.planned_from, excluded.planned_to, excluded.place_id, excluded.cancelled_at IS NULL);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.order_window() IS 'Trigger of crm.customer_order: its window of unloading is kept as a slot, so that changed ones stay known. Asleep until crm.activate()';

-- The driver is late --------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.slots_due() RETURNS integer
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	moment timestamptz := crm.clock();
	due    bigint[];
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN 0;
	END IF;
	SELECT array_agg(x.id) INTO due
	FROM (SELECT s.id FROM crm.slot s
		WHERE s.kind = 'loading' AND s.late_told_at IS NULL AND s.arrived_at IS NULL AND s.cancelled_at IS NULL
			AND s.late_at <= moment AND s.late_at > moment - interval '12 hours'
			-- it has just come in by its tracker, and has not stood there long enough to count: a little later
			AND NOT EXISTS (SELECT FROM (SELECT y.* FROM crm.passage y WHERE y.vehicle_id = s.vehicle_id AND y.superseded_at IS NULL
				AND coalesce(y.exit_fix_at, 'infinity') = 'infinity' OFFSET 0) p
				WHERE p.place_id = s.place_id AND p.left_at IS NULL AND p.entered_at > moment - interval '10 minutes')
		ORDER BY s.late_at, s.id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED) x;
	IF due IS NULL THEN
		RETURN 0;
	END IF;
	WITH marked AS (
		UPDATE crm.slot s SET late_told_at = moment
		WHERE s.id = ANY (due) AND s.late_told_at IS NULL AND s.arrived_at IS NULL
		RETURNING s.id, s.late_at
	), known AS MATERIALIZED (
		SELECT m.id, m.late_at, d.company_id, d.data FROM marked m JOIN crm.slot_data(due) d ON d.slot_id = m.id
	), linked AS MATERIALIZED (
		-- by which the carrier, or the client who fetches himself, says why
		SELECT k.object_id, k.url
		FROM (SELECT array_agg(n.id ORDER BY n.id) AS ids, array_agg(n.late_at + interval '3 days' ORDER BY n.id) AS ends, array_agg(n.company_id ORDER BY n.id) AS companies FROM known n) a
		CROSS JOIN LATERAL crm.keep_links('carrier', 'slot', a.ids, a.ends, a.companies) k
	)
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'slot.late', 'slot', n.id, n.company_id, n.late_at, n.data || jsonb_build_object('link', coalesce(k.url, '')), 'slot', n.id || '.late'
	FROM known n LEFT JOIN linked k ON k.object_id = n.id
	ORDER BY n.late_at, n.id;
	RETURN cardinality(due);
END
$$;
COMMENT ON FUNCTION crm.slots_due() IS 'Emits slot.late for every slot for loading whose grace is over while nobody has come (claim 54): once a slot, at most 1000 a call; a slot over by twelve hours is history and no news. Returns how many. Called by the courier';

CREATE OR REPLACE FUNCTION crm.slots_maintain() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.slots_due();
END
$$;
COMMENT ON FUNCTION crm.slots_maintain() IS 'The courier''s housekeeping: crm.slots_due()';
SELECT crm.register_hook('maintain', 'slots', 'crm.slots_maintain');

CREATE OR REPLACE FUNCTION crm.slot_deadline(integration_ids bigint[]) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	moment timestamptz := crm.clock();
	pace   double precision := coalesce((SELECT c.rate FROM crm.clock_state c), 1);
	next_  timestamptz;
	words  text;
	state  text;
BEGIN
	-- Housekeeping comes every ten seconds only: what is due now is told now.
	BEGIN
		PERFORM crm.slots_due();
	EXCEPTION WHEN others THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
		PERFORM crm.reject(NULL, 'slot.late', words, state);
		RETURN NULL;
	END;
	SELECT s.late_at INTO next_ FROM crm.slot s
	WHERE s.kind = 'loading' AND s.late_told_at IS NULL AND s.arrived_at IS NULL AND s.cancelled_at IS NULL AND s.late_at > moment - interval '12 hours'
	ORDER BY s.late_at LIMIT 1;
	IF next_ IS NULL OR pace <= 0 AND next_ > moment THEN
		RETURN NULL;
	END IF;
	RETURN crm.monotonic_ms() + CASE WHEN next_ <= moment THEN 1000
		ELSE ceil(extract(epoch FROM least(next_, moment + interval '1 day') - moment) * 1000 / pace)::bigint END;
END
$$;
COMMENT ON FUNCTION crm.slot_deadline(bigint[]) IS 'Tells what is due and says when the next slot''s grace is over, milliseconds of crm.monotonic_ms(); NULL: none waits. A hook deadline of crm.courier_wait()';
SELECT crm.register_hook('deadline', 'slots', 'crm.slot_deadline');

CREATE OR REPLACE FUNCTION crm.slot_late(slot_id bigint) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM crm.slot s WHERE s.id = $1 AND s.cancelled_at IS NULL AND s.arrived_at IS NULL AND (crm.for_plant() OR crm.sees_slot(s.id)))
$$;
COMMENT ON FUNCTION crm.slot_late(bigint) IS 'Whether the driver has still not come to a slot: the truth of a rule on slot.late, crm.slot_late(object_id)';
SELECT crm.register_truth('slot_late', 'crm.slot_late', 'Whether the driver has still not come');

CREATE OR REPLACE FUNCTION crm.slot_client(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.id, o.contact_id
	FROM crm.event e
	CROSS JOIN LATERAL (SELECT y.order_id, y.carrier_id, y.vehicle_id FROM crm.slot y WHERE e.object_kind = 'slot' AND y.id = e.object_id OFFSET 0) s
	CROSS JOIN LATERAL (SELECT y.contact_id, y.company_id, y.place_id FROM crm.customer_order y WHERE y.id = s.order_id OFFSET 0) o
	CROSS JOIN LATERAL (SELECT FROM crm.contact y WHERE y.id = o.contact_id AND y.archived_at IS NULL OFFSET 0) c
	WHERE e.id = ANY ($1)
		AND coalesce(s.carrier_id, (SELECT y.carrier_id FROM crm.vehicle y WHERE y.id = s.vehicle_id), o.company_id) = o.company_id
$$;
COMMENT ON FUNCTION crm.slot_client(bigint[]) IS 'Audience: the contact of the order of a slot whose client fetches it himself (no carrier, or the client is the carrier)';
SELECT crm.register_audience('slot_client', 'crm.slot_client', 'The contact of the order of a slot, where the client fetches it himself');

CREATE OR REPLACE FUNCTION crm.slots_activated() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ids bigint[];
BEGIN
	SELECT array_agg(s.id ORDER BY s.id) INTO ids FROM crm.slot s WHERE NOT s.judged;
	IF ids IS NOT NULL THEN
		PERFORM crm.slots_planned(ids);
		PERFORM crm.slots_judge(ids);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.slots_activated() IS 'At the end of crm.activate(): slots that were entered meanwhile are judged';
SELECT crm.register_hook('activate', 'slots', 'crm.slots_activated');
