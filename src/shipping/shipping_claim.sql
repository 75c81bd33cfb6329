-- shipping: claims, explanations, the lawyers' review. Code: may be run again.

SELECT crm.register_foreign_key('crm.claim', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.claim', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.claim', 'lateness_id', 'crm.lateness', 'id');
SELECT crm.register_foreign_key('crm.claim', 'term_id', 'crm.contract_term', 'id');
SELECT crm.register_foreign_key('crm.claim', 'deal_id', 'crm.deal', 'id');
SELECT crm.register_no_foreign_key('crm.claim', 'document_id', 'a paper that was put away leaves the claim as it is');
SELECT crm.register_foreign_key('crm.claim_point', 'claim_id', 'crm.claim', 'id');
SELECT crm.register_foreign_key('crm.claim_log', 'claim_id', 'crm.claim', 'id');
SELECT crm.register_foreign_key('crm.explanation', 'claim_id', 'crm.claim', 'id');
SELECT crm.register_foreign_key('crm.explanation', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.explanation_file', 'explanation_id', 'crm.explanation', 'id');

-- What a claim rests on -------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.claim_line(role text, at timestamptz, lon double precision, lat double precision, error_s double precision, fact text) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1
	RETURN concat_ws('|', role, coalesce(to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '-'), coalesce(lon::text, '-'), coalesce(lat::text, '-'),
		coalesce(error_s::text, '-'), fact);
COMMENT ON FUNCTION crm.claim_line(text, timestamptz, double precision, double precision, double precision, text) IS 'A point of a claim as the one text that is hashed: role, time in UTC, longitude, latitude, error in seconds, the rest; - for what is not there';

CREATE OR REPLACE FUNCTION crm.claim_facts(lateness_id bigint) RETURNS TABLE (ordinal integer, role text, at timestamptz, lon double precision, lat double precision, error_s double precision, fact text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET extra_float_digits = 1 SET datestyle = 'ISO, YMD' SET timezone = 'UTC' ROWS 10 AS $$
#variable_conflict use_column
DECLARE
	l crm.lateness;
	m crm.contract_term;
	k crm.contract;
	p crm.slot_plan;
	s crm.slot;
	y crm.passage;
	c crm.checkin;
	arrived timestamptz;
	error_ double precision;
	planned timestamptz;
	late integer;
BEGIN
	SELECT x.* INTO l FROM crm.lateness x WHERE x.id = $1;
	SELECT x.* INTO m FROM crm.contract_term x WHERE x.id = l.term_id;
	SELECT x.* INTO k FROM crm.contract x WHERE x.id = m.contract_id;
	SELECT x.* INTO p FROM crm.slot_plan x WHERE x.slot_id = l.slot_id AND x.version = l.plan_version;
	SELECT x.* INTO s FROM crm.slot x WHERE x.id = l.slot_id;
	SELECT x.* INTO y FROM crm.passage x WHERE x.id = l.passage_id;
	SELECT x.* INTO c FROM crm.checkin x WHERE x.id = l.checkin_id;
	-- what proves the arrival, looked up anew and not taken from the lateness
	IF y.id IS NOT NULL THEN
		arrived := y.entered_at;
		error_ := y.entered_error_s;
	ELSIF c.id IS NOT NULL THEN
		arrived := c.at;
		error_ := c.error_s;
	END IF;
	planned := CASE l.side WHEN 'loading' THEN p.planned_from ELSE coalesce(p.planned_to, p.planned_from) END;
	late := greatest(0, floor(extract(epoch FROM arrived - coalesce(error_, 0) * interval '1 second' - planned) / 60))::integer;
	RETURN QUERY
	SELECT (row_number() OVER (ORDER BY f.class, f.n))::integer, f.role, f.at, f.lon, f.lat, f.error_s, f.fact
	FROM (
		SELECT 1 AS class, 0::bigint AS n, 'trip' AS role, NULL::timestamptz AS at, NULL::double precision AS lon, NULL::double precision AS lat, NULL::double precision AS error_s,
			format('trip %s, %s, vehicle %s, carrier %s, place %s', l.trip_id, l.side, l.vehicle_id, l.carrier_id, coalesce(l.place_id::text, '-')) AS fact
		UNION ALL
		SELECT 2, x.version, 'plan', x.planned_from, NULL, NULL, NULL,
			format('slot %s, plan %s, until %s, grace %s min, moved by %s, %s, known %s', x.slot_id, x.version, coalesce(x.planned_to::text, '-'), x.grace_minutes, x.moved_by,
				CASE WHEN x.version = l.plan_version THEN 'in force' WHEN x.agreed THEN 'agreed' ELSE 'not agreed' END, x.known_at)
		FROM crm.slot_plan x WHERE x.slot_id = l.slot_id AND x.known_at <= l.known_at
		UNION ALL
		SELECT 3, c.id, 'proof', c.at, NULL, NULL, c.error_s, format('check-in %s: %s, source %s %s%s', c.id, c.means, c.source, coalesce(c.source_id, '-'), CASE WHEN c.cancelled_at IS NOT NULL THEN ', void' ELSE '' END)
		WHERE c.id IS NOT NULL
		UNION ALL
		SELECT 4, 1, 'fix_before', x.at, x.lon, x.lat, NULL, format('speed %s', coalesce(x.speed_kmh::text, '-'))
		FROM (SELECT z.* FROM crm.vehicle_position z WHERE z.vehicle_id = y.vehicle_id AND z.at < y.entry_fix_at AND z.at > y.entry_fix_at - interval '31 days' ORDER BY z.at DESC LIMIT 1) x
		UNION ALL
		SELECT 4, 2, 'crossing', y.entered_at, NULL, NULL, y.entered_error_s, format('passage %s of place %s%s', y.id, y.place_id, CASE WHEN y.entered_gap THEN ', gap' ELSE '' END)
		WHERE y.id IS NOT NULL
		UNION ALL
		SELECT 4, 3, 'fix_after', x.at, x.lon, x.lat, NULL, format('speed %s', coalesce(x.speed_kmh::text, '-'))
		FROM crm.vehicle_position x WHERE x.vehicle_id = y.vehicle_id AND x.at = y.entry_fix_at
		UNION ALL
		SELECT 5, x.id, 'queue', x.from_at, NULL, NULL, NULL, format('until %s, place %s, vehicle %s, source %s %s', x.to_at, x.place_id, coalesce(x.vehicle_id::text, 'any'), x.source, coalesce(x.source_id, '-'))
		FROM crm.queue_interval x
		WHERE l.excused_minutes > 0 AND x.known_at <= l.known_at AND (x.cancelled_at IS NULL OR x.cancelled_at > l.known_at)
			AND (x.vehicle_id IS NULL OR x.vehicle_id = l.vehicle_id)
			AND x.place_id = (CASE l.side WHEN 'loading' THEN l.place_id ELSE (SELECT coalesce(o.place_id, t.origin_place_id) FROM crm.trip t
				LEFT JOIN crm.slot o ON o.trip_id = t.id AND o.kind = 'loading' AND o.cancelled_at IS NULL WHERE t.id = l.trip_id ORDER BY o.agreed_from, o.id LIMIT 1) END)
			AND x.from_at < l.arrived_at AND x.to_at > l.planned_at - CASE l.side WHEN 'loading' THEN interval '0' ELSE interval '10 days' END
			AND x.from_at > l.planned_at - interval '20 days'
		UNION ALL
		SELECT 6, 0, 'term', NULL, NULL, NULL, NULL, format('contract %s, term %s from %s%s: %s min free, tariff %s, cap %s, exclusions %s', k.number, m.id, m.valid_from,
			-- the end may be set later
			'', m.free_minutes, m.tariff, coalesce(m.cap::text, '-'), m.exclusions)
		UNION ALL
		SELECT 7, 0, 'result', NULL, NULL, NULL, NULL, format('late %s min, excused %s, free %s, charged %s, penalty %s RUB', late, l.excused_minutes, m.free_minutes,
			greatest(0, late - l.excused_minutes - m.free_minutes), crm.tariff_penalty(m.tariff, greatest(0, late - l.excused_minutes - m.free_minutes), m.cap))) f
	ORDER BY f.class, f.n;
END
$$;
COMMENT ON FUNCTION crm.claim_facts(bigint) IS 'What a version of lateness rests on, from the facts as they are stored now: trip, plans known then, check-in, the fixes around the crossing, the crossing with its error, the queue, the term, the result reckoned anew';

CREATE OR REPLACE FUNCTION crm.claim_hash(claim_id bigint, revision integer) RETURNS text
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT encode(sha256(convert_to(string_agg(crm.claim_line(p.role, p.at, p.lon, p.lat, p.error_s, p.fact), E'\n' ORDER BY p.ordinal), 'UTF8')), 'hex')
	FROM crm.claim_point p WHERE p.claim_id = $1 AND p.revision = $2
$$;
COMMENT ON FUNCTION crm.claim_hash(bigint, integer) IS 'SHA-256, hexadecimal, over the lines (crm.claim_line) of the points of a claim''s revision, one under the other';

CREATE OR REPLACE FUNCTION crm.claim_verify(claim_id bigint) RETURNS TABLE (equal boolean, difference text)
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $$
DECLARE
	c     crm.claim;
	d     record;
	whole boolean;
	kept  boolean;
BEGIN
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = claim_verify.claim_id AND crm.sees_claim(x.id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('claim %s does not exist', coalesce(claim_id::text, 'NULL')), HINT = 'SELECT id FROM crm.claim lists them.';
	END IF;
	whole := crm.claim_hash(c.id, c.revision) IS NOT DISTINCT FROM c.hash;
	-- Positions are kept for a time only; what went with their month is no difference.
	SELECT EXISTS (SELECT FROM crm.vehicle_position v JOIN crm.lateness l ON l.id = c.lateness_id
		WHERE v.vehicle_id = l.vehicle_id AND v.at BETWEEN l.arrived_at - interval '1 day' AND l.arrived_at + interval '1 day') INTO kept;
	SELECT coalesce(a.ordinal, 1000) AS ordinal, coalesce(a.role, b.role) AS role, a.ordinal IS NULL AS added, b.ordinal IS NULL AS missing, a.at AS a_at, b.at AS b_at, a.lon AS a_lon, b.lon AS b_lon,
		a.lat AS a_lat, b.lat AS b_lat, a.error_s AS a_error, b.error_s AS b_error, a.fact AS a_fact, b.fact AS b_fact
	INTO d
	FROM (SELECT p.*, row_number() OVER (PARTITION BY p.role ORDER BY p.ordinal) AS n FROM crm.claim_point p WHERE p.claim_id = c.id AND p.revision = c.revision) a
	FULL JOIN (SELECT f.*, row_number() OVER (PARTITION BY f.role ORDER BY f.ordinal) AS n FROM crm.claim_facts(c.lateness_id) f) b ON b.role = a.role AND b.n = a.n
	WHERE crm.claim_line(a.role, a.at, a.lon, a.lat, a.error_s, a.fact) IS DISTINCT FROM crm.claim_line(b.role, b.at, b.lon, b.lat, b.error_s, b.fact)
		AND (kept OR coalesce(a.role, b.role) NOT IN ('fix_before', 'fix_after'))
	ORDER BY coalesce(a.ordinal, 1000), b.ordinal LIMIT 1;
	IF FOUND THEN
		equal := false;
		difference := CASE
			WHEN d.added THEN format('%s: the facts have one more: %s %s', d.role, d.b_at, d.b_fact)
			WHEN d.missing THEN format('point %s (%s): no longer among the facts: %s %s', d.ordinal, d.role, d.a_at, d.a_fact)
			WHEN d.a_at IS DISTINCT FROM d.b_at THEN format('point %s (%s): time %s in the claim, %s in the facts', d.ordinal, d.role, d.a_at, d.b_at)
			WHEN d.a_lon IS DISTINCT FROM d.b_lon THEN format('point %s (%s): longitude %s in the claim, %s in the facts', d.ordinal, d.role, d.a_lon, d.b_lon)
			WHEN d.a_lat IS DISTINCT FROM d.b_lat THEN format('point %s (%s): latitude %s in the claim, %s in the facts', d.ordinal, d.role, d.a_lat, d.b_lat)
			WHEN d.a_error IS DISTINCT FROM d.b_error THEN format('point %s (%s): error %s s in the claim, %s in the facts', d.ordinal, d.role, d.a_error, d.b_error)
			ELSE format('point %s (%s): "%s" in the claim, "%s" in the facts', d.ordinal, d.role, d.a_fact, d.b_fact) END
			|| CASE WHEN whole THEN '; the claim agrees with its hash: the facts were altered' ELSE '; the claim does not agree with its hash: it was altered' END;
	ELSIF NOT whole THEN
		equal := false;
		difference := format('the hash is %s, its points give %s', c.hash, crm.claim_hash(c.id, c.revision));
	ELSIF NOT EXISTS (SELECT FROM crm.claim_point p WHERE p.claim_id = c.id AND p.revision = c.revision AND p.role = 'result'
		AND p.fact LIKE format('late %s min, excused %s, free %s, charged %s, %%', c.late_minutes, c.excused_minutes, c.free_minutes, c.charged_minutes)) THEN
		equal := false;
		difference := format('the claim charges %s min (late %s, excused %s, free %s), its points say otherwise', c.charged_minutes, c.late_minutes, c.excused_minutes, c.free_minutes);
	ELSE
		equal := true;
		difference := CASE WHEN NOT kept AND EXISTS (SELECT FROM crm.claim_point p WHERE p.claim_id = c.id AND p.revision = c.revision AND p.role = 'crossing')
			THEN 'the fixes are no longer stored: their copies agree with the hash' END;
	END IF;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION crm.claim_verify(bigint) IS 'Recomputes a claim from the stored facts and compares it with its points and hash: equal, or the first point or term that differs, and whether the claim or the facts were altered. Error P0002: no such claim';

-- Making and following -----------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.claim_data(claim_ids bigint[]) RETURNS TABLE (claim_id bigint, carrier_id bigint, data jsonb)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT c.id, c.carrier_id, crm.trip_data(c.trip_id) || jsonb_build_object('claim_id', c.id, 'carrier', k.name, 'side', c.side,
		'side_ru', CASE c.side WHEN 'loading' THEN 'погрузку' ELSE 'выгрузку' END,
		'late_minutes', c.late_minutes, 'excused_minutes', c.excused_minutes, 'free_minutes', c.free_minutes, 'charged_minutes', c.charged_minutes,
		'penalty_made', trim_scale(c.penalty_made)::text, 'penalty', trim_scale(c.penalty)::text, 'claim_state', c.state, 'contract', n.number,
		'explain_by_local', to_char(c.explain_by AT TIME ZONE n.zone, 'DD.MM.YYYY HH24:MI'),
		'planned_local', to_char(l.planned_at AT TIME ZONE n.zone, 'DD.MM.YYYY HH24:MI'), 'at_local', to_char(l.arrived_at AT TIME ZONE n.zone, 'DD.MM.YYYY HH24:MI'),
		'reason', coalesce(c.reason, ''))
	FROM (SELECT y.* FROM crm.claim y WHERE y.id = ANY ($1) OFFSET 0) c
	CROSS JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = c.carrier_id OFFSET 0) k
	CROSS JOIN LATERAL (SELECT y.contract_id FROM crm.contract_term y WHERE y.id = c.term_id OFFSET 0) m
	CROSS JOIN LATERAL (SELECT y.number, y.zone FROM crm.contract y WHERE y.id = m.contract_id OFFSET 0) n
	CROSS JOIN LATERAL (SELECT y.planned_at, y.arrived_at FROM crm.lateness y WHERE y.id = c.lateness_id OFFSET 0) l
$$;
COMMENT ON FUNCTION crm.claim_data(bigint[]) IS 'What a template may say of claims';

CREATE OR REPLACE FUNCTION crm.claim_stands(claim_id bigint) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM crm.claim c WHERE c.id = $1 AND c.state IN ('made', 'sent', 'explained', 'reviewing')) $$;
COMMENT ON FUNCTION crm.claim_stands(bigint) IS 'Whether a claim stands and nothing is decided of it: the truth of the rule on claim.made, crm.claim_stands(object_id)';
SELECT crm.register_truth('claim_stands', 'crm.claim_stands', 'Whether a claim stands and nothing is decided of it');

SELECT crm.register_event_kind('claim.' || k.verb, 'claim',
	ARRAY['trip_id', 'order_number', 'product', 'tonnes', 'waybill', 'vehicle_plate', 'driver', 'driver_phone', 'place_name', 'origin_name', 'claim_id', 'carrier', 'side', 'side_ru', 'late_minutes', 'excused_minutes',
		'free_minutes', 'charged_minutes', 'penalty_made', 'penalty', 'claim_state', 'contract', 'explain_by_local', 'planned_local', 'at_local', 'reason', 'link'], k.en, k.ru)
FROM (VALUES
	('made', 'A claim for lateness was made', 'Составлена претензия за опоздание'),
	('explained', 'The carrier explained a claim', 'Перевозчик дал объяснение по претензии'),
	('decided', 'A claim was decided or taken back', 'По претензии принято решение')) AS k(verb, en, ru);

CREATE OR REPLACE FUNCTION crm.claims_write_points(claim_ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
BEGIN
	INSERT INTO crm.claim_point (claim_id, revision, ordinal, role, at, lon, lat, error_s, fact)
	SELECT c.id, c.revision, f.ordinal, f.role, f.at, f.lon, f.lat, f.error_s, f.fact
	FROM (SELECT y.* FROM crm.claim y WHERE y.id = ANY (claim_ids) ORDER BY y.id OFFSET 0) c
	CROSS JOIN LATERAL crm.claim_facts(c.lateness_id) f;
	UPDATE crm.claim c SET hash = crm.claim_hash(c.id, c.revision) WHERE c.id = ANY (claim_ids);
	UPDATE crm.contract_term t SET used_at = coalesce(t.used_at, crm.now()), used_through = greatest(t.used_through, u.day)
	FROM (SELECT c.term_id, max(l.business_date) AS day FROM crm.claim c JOIN crm.lateness l ON l.id = c.lateness_id WHERE c.id = ANY (claim_ids) GROUP BY c.term_id) u
	WHERE t.id = ANY (ARRAY[u.term_id]) AND (t.used_at IS NULL OR t.used_through IS NULL OR t.used_through < u.day);
END
$$;
COMMENT ON FUNCTION crm.claims_write_points(bigint[]) IS 'Copies the points of claims'' revisions, hashes them, and marks the terms as used';

CREATE OR REPLACE FUNCTION crm.claims_make(lateness_ids bigint[]) RETURNS bigint[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	ids bigint[];
BEGIN
	WITH made AS (
		INSERT INTO crm.claim (carrier_id, trip_id, side, lateness_id, term_id, late_minutes, excused_minutes, free_minutes, charged_minutes, penalty_made, penalty, explain_by, hash)
		SELECT l.carrier_id, l.trip_id, l.side, l.id, l.term_id, l.late_minutes, l.excused_minutes, l.free_minutes, l.charged_minutes, l.penalty, l.penalty,
			crm.now() + n.explain_days * interval '1 day', ''
		FROM (SELECT y.* FROM crm.lateness y WHERE y.id = ANY (lateness_ids) AND y.superseded_at IS NULL AND y.penalty > 0 AND y.carrier_id IS NOT NULL OFFSET 0) l
		CROSS JOIN LATERAL (SELECT y.contract_id FROM crm.contract_term y WHERE y.id = l.term_id OFFSET 0) m
		CROSS JOIN LATERAL (SELECT y.explain_days FROM crm.contract y WHERE y.id = m.contract_id OFFSET 0) n
		ORDER BY l.id
		ON CONFLICT (trip_id, side) WHERE state <> 'cancelled' DO NOTHING
		RETURNING id
	)
	SELECT array_agg(m.id) INTO ids FROM made m;
	IF ids IS NULL THEN
		RETURN NULL;
	END IF;
	PERFORM crm.claims_write_points(ids);
	INSERT INTO crm.claim_log (claim_id, what, state, penalty) SELECT c.id, 'made', c.state, c.penalty FROM crm.claim c WHERE c.id = ANY (ids) ORDER BY c.id;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
	-- under the row of the claim that this transaction has made: each link once
	SELECT 'claim.made', 'claim', d.claim_id, d.carrier_id, d.data || jsonb_build_object('link', coalesce(k.url, '')), 'claim', d.claim_id::text
	FROM crm.claim_data(ids) d
	LEFT JOIN (SELECT y.object_id, y.url FROM (SELECT array_agg(c.id ORDER BY c.id) AS ids, array_agg(c.explain_by ORDER BY c.id) AS ends, array_agg(c.carrier_id ORDER BY c.id) AS carriers
			FROM crm.claim c WHERE c.id = ANY (ids)) a
		CROSS JOIN LATERAL crm.keep_links('carrier', 'claim', a.ids, a.ends, a.carriers) y) k ON k.object_id = d.claim_id
	ORDER BY d.claim_id;
	-- what the carrier has said when the driver was late already is his explanation
	PERFORM crm.explain_claim(c.id, e.text_, f.names, f.types, f.contents)
	FROM (SELECT y.id, y.lateness_id FROM crm.claim y WHERE y.id = ANY (ids) AND y.explain_by >= crm.now() ORDER BY y.id OFFSET 0) c
	CROSS JOIN LATERAL (SELECT y.slot_id FROM crm.lateness y WHERE y.id = c.lateness_id OFFSET 0) l
	CROSS JOIN LATERAL (SELECT y.id, y.text_ FROM crm.explanation y WHERE y.slot_id = l.slot_id ORDER BY y.id OFFSET 0) e
	CROSS JOIN LATERAL (SELECT coalesce(array_agg(y.name ORDER BY y.id), '{}') AS names, coalesce(array_agg(y.media_type ORDER BY y.id), '{}') AS types, coalesce(array_agg(y.content ORDER BY y.id), '{}') AS contents
		FROM crm.explanation_file y WHERE y.explanation_id = e.id) f;
	PERFORM crm.wake();
	RETURN ids;
END
$$;
COMMENT ON FUNCTION crm.claims_make(bigint[]) IS 'Makes the claims of lateness in force that has a penalty and no claim yet, with points, hash, log, event and the carrier''s link; what he has explained of the slot before is taken as his explanation; returns their ids';

CREATE OR REPLACE FUNCTION crm.make_claim(lateness_id bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l   crm.lateness;
	id_ bigint;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'the database is not active: no claim is made here', HINT = 'A superuser runs SELECT crm.activate().';
	END IF;
	SELECT x.* INTO l FROM crm.lateness x WHERE x.id = make_claim.lateness_id AND (crm.for_plant() OR crm.sees_trip(x.trip_id) OR x.carrier_id IS NOT NULL AND crm.sees_company(x.carrier_id));
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('lateness %s does not exist', coalesce(lateness_id::text, 'NULL')), HINT = 'SELECT id, trip_id, side FROM crm.lateness WHERE superseded_at IS NULL AND penalty > 0 lists what can be claimed.';
	END IF;
	PERFORM FROM crm.trip t WHERE t.id = l.trip_id FOR NO KEY UPDATE;
	SELECT c.id INTO id_ FROM crm.claim c WHERE c.trip_id = l.trip_id AND c.side = l.side AND c.state <> 'cancelled';
	IF FOUND THEN
		RETURN id_;
	END IF;
	SELECT x.* INTO l FROM crm.lateness x WHERE x.id = make_claim.lateness_id;
	IF l.superseded_at IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('lateness %s was given up at %s: the facts changed', l.id, l.superseded_at),
			HINT = format('SELECT id, penalty FROM crm.lateness WHERE trip_id = %s AND side = ''%s'' AND superseded_at IS NULL shows the one in force.', l.trip_id, l.side);
	END IF;
	IF l.penalty <= 0 OR l.carrier_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('lateness %s has no penalty to claim: %s min late, %s', l.id, l.late_minutes,
				coalesce(l.reason, CASE WHEN l.carrier_id IS NULL THEN 'no carrier is known' WHEN l.term_id IS NULL THEN 'the carrier has no term for that day' ELSE 'within the free minutes' END)),
			HINT = 'A claim rests on a term of the contract (crm.contract_term) and on minutes beyond its free ones.';
	END IF;
	RETURN (crm.claims_make(ARRAY[l.id]))[1];
END
$$;
COMMENT ON FUNCTION crm.make_claim(bigint) IS 'Makes the claim of a lateness in force, or names the one that is there; the courier sends it. Errors: P0002 no such lateness, 55000 the facts changed since or the database is not active, 22023 nothing to claim, in words';

CREATE OR REPLACE FUNCTION crm.claims_follow(lateness_ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	c   record;
	ids bigint[];
BEGIN
	FOR c IN
		SELECT k.id, k.penalty, k.penalty_made, k.state, k.revision, n.id AS new_id, n.term_id, n.late_minutes, n.excused_minutes, n.free_minutes, n.charged_minutes, coalesce(n.penalty, 0) AS new_penalty
		FROM (SELECT DISTINCT y.trip_id, y.side FROM crm.lateness y WHERE y.id = ANY (lateness_ids)) l
		CROSS JOIN LATERAL (SELECT y.* FROM crm.claim y WHERE y.trip_id = l.trip_id AND y.side = l.side AND y.state NOT IN ('cancelled', 'accepted') OFFSET 0) k
		LEFT JOIN LATERAL (SELECT y.* FROM crm.lateness y WHERE y.trip_id = l.trip_id AND y.side = l.side AND y.superseded_at IS NULL OFFSET 0) n ON true
		WHERE n.id IS DISTINCT FROM k.lateness_id
		ORDER BY k.id
	LOOP
		IF c.new_penalty = 0 AND c.state IN ('made', 'sent', 'explained', 'reviewing') THEN
			PERFORM crm.cancel_claim(c.id, CASE WHEN c.new_id IS NULL THEN 'facts: the arrival is no longer proved' ELSE 'facts: nothing is charged any more' END);
		ELSIF c.new_id IS NOT NULL AND c.term_id IS NOT NULL AND (c.new_penalty <= c.penalty
			-- what had lowered it was taken back: up to what the carrier was claimed at first, and only while nothing is decided
			OR c.new_penalty <= c.penalty_made AND c.state IN ('made', 'sent', 'explained', 'reviewing')) THEN
			UPDATE crm.claim x SET revision = x.revision + 1, lateness_id = c.new_id, term_id = c.term_id, late_minutes = c.late_minutes, excused_minutes = c.excused_minutes,
				free_minutes = c.free_minutes, charged_minutes = c.charged_minutes, penalty = c.new_penalty,
				sent_at = CASE WHEN c.new_penalty <> c.penalty THEN NULL ELSE x.sent_at END, send_tries = 0
			WHERE x.id = c.id;
			PERFORM crm.claims_write_points(ARRAY[c.id]);
			INSERT INTO crm.claim_log (claim_id, what, state, penalty_before, penalty, reason)
			VALUES (c.id, CASE WHEN c.new_penalty < c.penalty THEN 'lowered' WHEN c.new_penalty > c.penalty THEN 'restored' ELSE 'revised' END, c.state, c.penalty, c.new_penalty, 'facts: new ones came in');
			PERFORM crm.wake();
		ELSIF c.new_penalty > c.penalty AND c.state <> 'partly' THEN
			INSERT INTO crm.claim_log (claim_id, what, state, penalty_before, penalty, reason)
			VALUES (c.id, 'not raised', c.state, c.penalty, c.penalty, format('facts: would be %s now', c.new_penalty));
		END IF;
	END LOOP;

	-- What the contract lets make itself; a claim that people took back stays so.
	SELECT array_agg(l.id) INTO ids
	FROM (SELECT y.* FROM crm.lateness y WHERE y.id = ANY (lateness_ids) AND y.superseded_at IS NULL AND y.penalty > 0 OFFSET 0) l
	CROSS JOIN LATERAL (SELECT y.contract_id FROM crm.contract_term y WHERE y.id = l.term_id OFFSET 0) m
	CROSS JOIN LATERAL (SELECT y.auto_claim FROM crm.contract y WHERE y.id = m.contract_id OFFSET 0) n
	-- or what facts alone had taken back, and have given again
	WHERE (n.auto_claim OR EXISTS (SELECT FROM crm.claim y WHERE y.trip_id = l.trip_id AND y.side = l.side AND y.state = 'cancelled' AND y.reason LIKE 'facts:%' OFFSET 0))
		AND NOT EXISTS (SELECT FROM crm.claim y WHERE y.trip_id = l.trip_id AND y.side = l.side AND (y.state <> 'cancelled' OR y.reason NOT LIKE 'facts:%') OFFSET 0);
	IF ids IS NOT NULL THEN
		PERFORM crm.claims_make(ids);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.claims_follow(bigint[]) IS 'Lets claims follow new versions of lateness: lowers them with a revision of their points, restores what was lowered by facts that were taken back (never above what was claimed first, never after a decision), takes back what is charged no more; makes those of contracts that say so, and again those that facts had taken back. Called by crm.lateness_recompute()';
CREATE OR REPLACE FUNCTION crm.claim_ended(claim_id bigint, verdict text, amount numeric, reason text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c      crm.claim;
	target bigint;
BEGIN
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = claim_ended.claim_id FOR NO KEY UPDATE;
	UPDATE crm.claim x SET state = verdict, penalty = amount, decided_at = crm.now(), reason = claim_ended.reason WHERE x.id = c.id;
	INSERT INTO crm.claim_log (claim_id, what, state, penalty_before, penalty, reason) VALUES (c.id, verdict, verdict, c.penalty, amount, claim_ended.reason);
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
	SELECT 'claim.decided', 'claim', d.claim_id, d.carrier_id, d.data || jsonb_build_object('link', coalesce(k.url, '')), 'claim', d.claim_id || '.' || verdict
	FROM crm.claim_data(ARRAY[c.id]) d
	-- where something is left to pay he may look it up
	LEFT JOIN crm.keep_links('carrier', 'claim', CASE WHEN amount > 0 THEN ARRAY[c.id] END, ARRAY[crm.now() + interval '30 days'], ARRAY[c.carrier_id]) k ON true;
	-- The board follows, where the funnel lets it.
	SELECT s.id INTO target FROM crm.deal d JOIN crm.stage s ON s.funnel_id = d.funnel_id AND s.code = CASE verdict WHEN 'cancelled' THEN 'accepted' ELSE verdict END
	WHERE d.id = c.deal_id AND d.stage_id <> s.id AND EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = d.stage_id AND m.to_stage_id = s.id AND m.enabled);
	IF target IS NOT NULL THEN
		UPDATE crm.deal d SET stage_id = target, amount = claim_ended.amount WHERE d.id = c.deal_id;
	END IF;
	IF verdict = 'cancelled' OR amount = 0 THEN
		PERFORM crm.close_links('carrier', 'claim', c.id, 'the claim is closed');
	END IF;
	PERFORM crm.claim_paper_state(c.id, verdict, claim_ended.reason);
END
$$;
COMMENT ON FUNCTION crm.claim_ended(bigint, text, numeric, text) IS 'Writes a verdict: state, penalty, log, claim.decided, the deal''s stage, the paper''s state, the link. Called by crm.decide_claim() and crm.cancel_claim()';

CREATE OR REPLACE FUNCTION crm.decide_claim(claim_id bigint, verdict text, amount numeric DEFAULT NULL, reason text DEFAULT NULL) RETURNS numeric
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c crm.claim;
BEGIN
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = decide_claim.claim_id AND crm.sees_claim(x.id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('claim %s does not exist', coalesce(claim_id::text, 'NULL')), HINT = 'SELECT id, state FROM crm.claim lists them.';
	END IF;
	IF verdict IS NULL OR verdict NOT IN ('accepted', 'partly', 'rejected') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('verdict "%s" is none', coalesce(verdict, 'NULL')),
			HINT = 'Give accepted (the explanation is accepted: no penalty), partly with an amount, or rejected (the penalty stands).';
	END IF;
	IF c.state NOT IN ('made', 'sent', 'explained', 'reviewing') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('claim %s is %s already', c.id, c.state), HINT = 'A decision stands. SELECT * FROM crm.claim_log shows who took it.';
	END IF;
	IF verdict = 'partly' AND (amount IS NULL OR amount = 'NaN' OR amount <= 0 OR amount >= c.penalty) THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN amount IS NULL THEN '22004' ELSE '22003' END, MESSAGE = format('amount %s of a claim accepted partly is out of range', coalesce(amount::text, 'NULL')),
			HINT = format('Give what is left of it, above 0 and below %s roubles: SELECT crm.decide_claim(%s, ''partly'', …, ''why'').', c.penalty, c.id);
	ELSIF verdict <> 'partly' AND amount IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('verdict %s takes no amount', verdict), HINT = 'Only partly does: accepted leaves nothing, rejected the whole penalty.';
	END IF;
	IF length(reason) > 2000 THEN
		RAISE EXCEPTION USING ERRCODE = '22001', MESSAGE = format('the reason is too long: %s signs', length(reason)), HINT = 'Give at most 2000 signs.';
	END IF;
	PERFORM crm.claim_ended(c.id, verdict, CASE verdict WHEN 'accepted' THEN 0 WHEN 'partly' THEN round(amount, 2) ELSE c.penalty END, decide_claim.reason);
	RETURN (SELECT x.penalty FROM crm.claim x WHERE x.id = c.id);
END
$$;
COMMENT ON FUNCTION crm.decide_claim(bigint, text, numeric, text) IS 'The lawyers'' verdict on a carrier''s explanation (claim 74): accepted voids the penalty, partly leaves the amount, rejected leaves the whole. Moves the deal of its review too; emits claim.decided. Returns the penalty in force. Errors: P0002, 22023 no verdict, 22004 and 22003 amount, 55000 decided already';

CREATE OR REPLACE FUNCTION crm.cancel_claim(claim_id bigint, reason text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c crm.claim;
BEGIN
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = cancel_claim.claim_id AND crm.sees_claim(x.id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('claim %s does not exist', coalesce(claim_id::text, 'NULL')), HINT = 'SELECT id, state FROM crm.claim lists them.';
	END IF;
	IF nullif(btrim(reason), '') IS NULL OR length(reason) > 2000 THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'a claim is taken back for a reason', HINT = 'Give the reason in 1 to 2000 signs.';
	END IF;
	IF c.state NOT IN ('made', 'sent', 'explained', 'reviewing') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('claim %s is %s already', c.id, c.state), HINT = 'A decision stands. SELECT * FROM crm.claim_log shows who took it.';
	END IF;
	PERFORM crm.claim_ended(c.id, 'cancelled', 0, cancel_claim.reason);
END
$$;
COMMENT ON FUNCTION crm.cancel_claim(bigint, text) IS 'Takes an undecided claim back, for a reason that stands in its log; the carrier is told by claim.decided. Errors: P0002, 22004 no reason, 55000 decided already';

-- Explanation and review --------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.explanation_hash(clean text, file_names text[], media_types text[], contents bytea[]) RETURNS text
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	number integer := coalesce(cardinality(file_names), 0);
	size   bigint := coalesce((SELECT sum(octet_length(x)) FROM unnest(contents) x), 0);
	digest text;
	wrong  text;
	state_ text := '22023';
BEGIN
	IF coalesce(clean, '') = '' THEN
		wrong := 'the explanation is empty';
		state_ := '22004';
	ELSIF length(clean) > 20000 THEN
		wrong := format('the explanation is too long: %s signs, at most 20000', length(clean));
		state_ := '22001';
	ELSIF number <> coalesce(cardinality(media_types), 0) OR number <> coalesce(cardinality(contents), 0) THEN
		wrong := format('%s names, %s media types and %s contents of files', number, coalesce(cardinality(media_types), 0), coalesce(cardinality(contents), 0));
		state_ := '2202E';
	ELSIF number > 10 OR size > 20971520 THEN
		wrong := format('%s files of %s bytes are too many: ten files and 20 MB at most', number, size);
		state_ := '54000';
	ELSE
		SELECT CASE
			WHEN u.content IS NULL OR octet_length(u.content) = 0 THEN format('file "%s" is empty', left(u.name, 40))
			WHEN octet_length(u.content) > 10485760 THEN format('file "%s" is over 10 MB', left(u.name, 40))
			WHEN coalesce(btrim(regexp_replace(u.name, '^.*[/\\]', '')), '') = '' OR length(u.name) > 1000 OR u.name ~ '[\x01-\x1f]' THEN format('"%s" is no name of a file', left(u.name, 40))
			ELSE format('"%s" is no media type', left(u.type, 40)) END
		INTO wrong
		FROM unnest(file_names, media_types, contents) AS u(name, type, content)
		WHERE u.content IS NULL OR octet_length(u.content) NOT BETWEEN 1 AND 10485760 OR coalesce(btrim(regexp_replace(u.name, '^.*[/\\]', '')), '') = '' OR length(u.name) > 1000
			OR u.name ~ '[\x01-\x1f]' OR coalesce(lower(split_part(u.type, ';', 1)), '') !~ '^[a-z0-9.+-]{1,60}/[a-z0-9.+-]{1,100}$' LIMIT 1;
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = state_, MESSAGE = wrong, HINT = 'Write what happened in 1 to 20000 signs; up to ten files of 10 MB, each with its name and media type.';
	END IF;
	SELECT encode(sha256(convert_to(clean, 'UTF8') || coalesce(string_agg(sha256(u.content), ''::bytea ORDER BY u.n), ''::bytea)), 'hex') INTO digest
	FROM unnest(contents) WITH ORDINALITY AS u(content, n);
	RETURN digest;
END
$$;
COMMENT ON FUNCTION crm.explanation_hash(text, text[], text[], bytea[]) IS 'Refuses an explanation that cannot be taken (22004 and 22001 words, 2202E, 22023 and 54000 files) and returns the SHA-256 over its words and files, hexadecimal';

CREATE OR REPLACE FUNCTION crm.explanation_write(claim_id bigint, slot_id bigint, clean text, digest text, file_names text[], media_types text[], contents bytea[]) RETURNS bigint
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	WITH said AS (
		INSERT INTO crm.explanation (claim_id, slot_id, text_, hash) VALUES ($1, $2, $3, $4) RETURNING id
	), files AS (
		INSERT INTO crm.explanation_file (explanation_id, name, media_type, content, hash)
		SELECT said.id, right(btrim(regexp_replace(u.name, '^.*[/\\]', '')), 200), lower(split_part(u.type, ';', 1)), u.content, encode(sha256(u.content), 'hex')
		FROM said, unnest($5, $6, $7) WITH ORDINALITY AS u(name, type, content, n)
		ORDER BY u.n
	)
	SELECT said.id FROM said
$$;
COMMENT ON FUNCTION crm.explanation_write(bigint, bigint, text, text, text[], text[], bytea[]) IS 'Writes an explanation with its files and returns its number; called by crm.explain_claim() and crm.explain_slot()';

CREATE OR REPLACE FUNCTION crm.explain_claim(claim_id bigint, text_ text, file_names text[] DEFAULT '{}', media_types text[] DEFAULT '{}', contents bytea[] DEFAULT '{}') RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c      crm.claim;
	clean  text := btrim(text_, E' \t\r\n');
	digest text;
	id_    bigint;
	deal   bigint;
BEGIN
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = explain_claim.claim_id AND crm.sees_claim(x.id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('claim %s does not exist', coalesce(claim_id::text, 'NULL')), HINT = 'Give the number of the claim as the letter says it.';
	END IF;
	digest := crm.explanation_hash(clean, file_names, media_types, contents);
	-- the same again, by a second click
	SELECT e.id INTO id_ FROM crm.explanation e WHERE e.claim_id = c.id AND e.hash = digest;
	IF FOUND THEN
		RETURN id_;
	END IF;
	IF c.state NOT IN ('made', 'sent', 'explained') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('claim %s is %s: it takes no explanation any more', c.id, c.state), HINT = 'Write to the lawyers who review it.';
	END IF;
	IF crm.now() > c.explain_by THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the time to explain claim %s ended at %s', c.id, c.explain_by), HINT = 'Write to the lawyers, who may decide on it all the same.';
	END IF;
	IF (SELECT count(*) FROM crm.explanation e WHERE e.claim_id = c.id) >= 20 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = format('claim %s has twenty explanations already', c.id), HINT = 'Write to the lawyers who review it.';
	END IF;

	id_ := crm.explanation_write(c.id, NULL, clean, digest, file_names, media_types, contents);

	-- The first one opens the lawyers' review.
	IF c.deal_id IS NULL THEN
		INSERT INTO crm.deal (funnel_id, company_id, name, amount, source, source_id, stage_id)
		SELECT f.id, c.carrier_id, format('Претензия %s, %s', c.id, k.name), c.penalty, 'claim', c.id::text, s.id
		FROM crm.funnel f JOIN crm.stage s ON s.funnel_id = f.id AND s.code = 'received', crm.company k
		WHERE f.code = 'claim' AND k.id = c.carrier_id
		RETURNING id INTO deal;
	END IF;
	UPDATE crm.claim x SET state = 'explained', explained_at = coalesce(x.explained_at, crm.now()), deal_id = coalesce(x.deal_id, deal) WHERE x.id = c.id;
	INSERT INTO crm.claim_log (claim_id, what, state, penalty_before, penalty, reason) VALUES (c.id, 'explained', 'explained', c.penalty, c.penalty, left(clean, 500));
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
	SELECT 'claim.explained', 'claim', d.claim_id, d.carrier_id, d.data, 'claim', d.claim_id || '.explained.' || id_ FROM crm.claim_data(ARRAY[c.id]) d;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.explain_claim(bigint, text, text[], text[], bytea[]) IS 'Takes a carrier''s explanation with its files (claim 73), opens the lawyers'' review, emits claim.explained; the same again is the same one. Returns crm.explanation.id. Errors: P0002 no claim, 22004 and 22001 words, 2202E, 22023 and 54000 files, 55000 too late or decided';

CREATE OR REPLACE FUNCTION crm.explain_slot(slot_id bigint, text_ text, file_names text[] DEFAULT '{}', media_types text[] DEFAULT '{}', contents bytea[] DEFAULT '{}') RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s      crm.slot;
	c      bigint;
	clean  text := btrim(text_, E' \t\r\n');
	digest text;
	id_    bigint;
BEGIN
	SELECT x.* INTO s FROM crm.slot x WHERE x.id = explain_slot.slot_id AND crm.sees_slot(x.id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('slot %s does not exist', coalesce(slot_id::text, 'NULL')), HINT = 'SELECT id, planned_from FROM crm.slot ORDER BY id DESC LIMIT 10;';
	END IF;
	digest := crm.explanation_hash(clean, file_names, media_types, contents);
	SELECT e.id INTO id_ FROM crm.explanation e WHERE e.slot_id = s.id AND e.hash = digest;
	IF FOUND THEN
		RETURN id_;	-- by a second click
	END IF;
	-- there is a claim already: then it is that one's
	SELECT k.id INTO c FROM crm.claim k JOIN crm.lateness l ON l.id = k.lateness_id AND l.slot_id = s.id
	WHERE k.state IN ('made', 'sent', 'explained') AND k.explain_by >= crm.now() ORDER BY k.id DESC LIMIT 1;
	IF FOUND THEN
		RETURN crm.explain_claim(c, text_, file_names, media_types, contents);
	END IF;
	IF s.cancelled_at IS NOT NULL OR crm.now() < s.planned_from OR crm.now() > s.late_at + interval '3 days' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('slot %s takes no explanation', s.id), HINT = 'It is taken from the planned time until three days after it; a claim has a deadline of its own.';
	END IF;
	IF (SELECT count(*) FROM crm.explanation e WHERE e.slot_id = s.id) >= 5 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = format('slot %s has five explanations already', s.id), HINT = 'Call the dispatcher.';
	END IF;
	id_ := crm.explanation_write(NULL, s.id, clean, digest, file_names, media_types, contents);
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id)
	SELECT 'slot.explained', 'slot', d.slot_id, d.company_id, d.data || jsonb_build_object('words', left(clean, 500)), 'slot', d.slot_id || '.explained.' || id_ FROM crm.slot_data(ARRAY[s.id]) d;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.explain_slot(bigint, text, text[], text[], bytea[]) IS 'What a carrier, or a client who fetches himself, says of a driver who is late, with files; from the planned time until three days after, at most five, the same again is the same one. Emits slot.explained; a claim that follows takes it as its explanation, one that is there gets it at once. Returns crm.explanation.id. Errors: P0002 no slot, 22004 and 22001 words, 2202E, 22023 and 54000 files or too many, 55000 not the time';
SELECT crm.register_event_kind('slot.explained', 'slot',
	ARRAY['slot_id', 'slot_kind', 'version', 'order_number', 'product', 'client', 'carrier', 'vehicle_plate', 'driver', 'driver_phone',
		'place_name', 'gate', 'grace_minutes', 'at', 'at_local', 'to_local', 'date_local', 'called_local', 'words'], 'A carrier said why the driver is late', 'Перевозчик объяснил опоздание на погрузку');

CREATE OR REPLACE FUNCTION crm.claim_moved() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	d record;
	m record;
	was boolean;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	was := crm.plant_door(true);
	FOR d IN SELECT f.id, (SELECT s.code FROM crm.stage s WHERE s.id = f.stage_id) AS stage FROM fresh f WHERE f.source = 'claim' LOOP
		FOR m IN SELECT c.*, d.stage FROM crm.claim c WHERE c.deal_id = d.id AND c.state IN ('made', 'sent', 'explained', 'reviewing') LOOP
			IF m.stage = 'review' AND m.state <> 'reviewing' THEN
				UPDATE crm.claim c SET state = 'reviewing' WHERE c.id = m.id;
				INSERT INTO crm.claim_log (claim_id, what, state, penalty_before, penalty) VALUES (m.id, 'reviewing', 'reviewing', m.penalty, m.penalty);
			ELSIF m.stage IN ('accepted', 'rejected') THEN
				PERFORM crm.decide_claim(m.id, m.stage, NULL, NULL);
			ELSIF m.stage = 'partly' THEN
				RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('claim %s is accepted partly, but what is left of it is not said', m.id),
					HINT = format('SELECT crm.decide_claim(%s, ''partly'', amount, ''why'') moves the deal too.', m.id);
			END IF;
		END LOOP;
	END LOOP;
	IF NOT was THEN
		PERFORM crm.plant_door(false);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.claim_moved() IS 'Trigger of crm.deal: moving the deal of a review decides its claim; partly needs crm.decide_claim() with the amount (22004). Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.claim_deals(object_ids bigint[]) RETURNS TABLE (object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT c.id, c.deal_id FROM crm.claim c WHERE c.id = ANY ($1) AND c.deal_id IS NOT NULL $$;
COMMENT ON FUNCTION crm.claim_deals(bigint[]) IS 'Deal finder of claim: the deal of its review';
SELECT crm.register_deal_finder('claim', 'crm.claim_deals');

CREATE OR REPLACE FUNCTION crm.ship_claim_funnel() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	claim_ bigint;
BEGIN
	INSERT INTO crm.funnel (code, name_ru, name_en, shipped) VALUES ('claim', 'Разбор претензий', 'Review of claims', true) ON CONFLICT (code) DO NOTHING;
	SELECT f.id INTO claim_ FROM crm.funnel f WHERE f.code = 'claim';
	INSERT INTO crm.stage (funnel_id, code, name_ru, name_en, "position", is_won, is_lost, shipped)
	SELECT claim_, v.*, true
	FROM (VALUES
		('received', 'Объяснение получено', 'Explanation received', 10, false, false),
		('review', 'На рассмотрении', 'Under review', 20, false, false),
		('accepted', 'Объяснение принято', 'Explanation accepted', 30, false, true),
		('partly', 'Принято частично', 'Accepted partly', 40, true, false),
		('rejected', 'Объяснение отклонено', 'Explanation rejected', 50, true, false)) AS v
	ON CONFLICT (funnel_id, code) DO NOTHING;
	INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id, shipped)
	SELECT claim_, a.id, b.id, true
	FROM (VALUES ('received', 'review'), ('received', 'accepted'), ('received', 'partly'), ('received', 'rejected'),
		('review', 'accepted'), ('review', 'partly'), ('review', 'rejected')) AS v(from_code, to_code)
	JOIN crm.stage a ON a.funnel_id = claim_ AND a.code = v.from_code
	JOIN crm.stage b ON b.funnel_id = claim_ AND b.code = v.to_code
	ON CONFLICT (from_stage_id, to_stage_id) DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.ship_claim_funnel() IS 'Writes the funnel that ships, claim: received, review, accepted, partly, rejected (claim 74). What is there stays as the DBA left it. Called by crm.activate()';
SELECT crm.register_hook('ship', 'claim funnel', 'crm.ship_claim_funnel');

-- The paper, the letter -----------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.claim_render(document_id bigint) RETURNS crm.document_rendering
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	doc crm.document;
	c   crm.claim;
	l   crm.lateness;
	d   jsonb;
	ru  boolean;
	k   record;
	zone text;
	heading text;
	r   crm.document_rendering;
BEGIN
	SELECT x.* INTO doc FROM crm.document x WHERE x.id = claim_render.document_id;
	IF NOT FOUND THEN
		PERFORM crm.document_missing(document_id);
	END IF;
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = doc.object_id AND doc.object_kind = 'claim';
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('there is no claim %s', doc.object_id), HINT = 'SELECT crm.make_claim(lateness_id) makes one, with its paper.';
	END IF;
	SELECT x.* INTO l FROM crm.lateness x WHERE x.id = c.lateness_id;
	SELECT x.data INTO d FROM crm.claim_data(ARRAY[c.id]) x;
	SELECT coalesce(x.full_name, x.name) AS name, x.inn, x.language INTO k FROM crm.company x WHERE x.id = c.carrier_id;
	SELECT n.zone INTO zone FROM crm.contract_term m JOIN crm.contract n ON n.id = m.contract_id WHERE m.id = c.term_id;
	ru := k.language = 'ru';
	heading := CASE WHEN ru THEN format('Претензия %s от %s', doc.number, to_char(doc.document_date, 'DD.MM.YYYY')) ELSE format('Claim %s of %s', doc.number, to_char(doc.document_date, 'YYYY-MM-DD')) END;
	r.file_name := doc.number;
	r.html := crm.document_page(heading, heading,
		ARRAY[CASE WHEN ru THEN 'Кому: ' ELSE 'To: ' END || k.name || coalesce(CASE WHEN ru THEN ', ИНН ' ELSE ', tax number ' END || k.inn, ''),
			CASE WHEN ru THEN format('Договор %s. Машина %s, заказ %s: опоздание на %s.', d ->> 'contract', d ->> 'vehicle_plate', d ->> 'order_number', d ->> 'side_ru')
				ELSE format('Contract %s. Vehicle %s, order %s: late for %s.', d ->> 'contract', d ->> 'vehicle_plate', d ->> 'order_number', c.side) END],
		CASE WHEN ru THEN ARRAY['План', 'Факт', 'Погрешность, с', 'Опоздание, мин', 'Очередь завода, мин', 'Льготные минуты', 'К оплате, мин', 'Штраф, руб.', 'Объяснение до', 'Контрольная сумма']
			ELSE ARRAY['Planned', 'Arrived', 'Error, s', 'Late, min', 'Plant''s queue, min', 'Free, min', 'Charged, min', 'Penalty, RUB', 'Explain by', 'SHA-256'] END,
		ARRAY[d ->> 'planned_local', to_char(l.arrived_at AT TIME ZONE zone, 'DD.MM.YYYY HH24:MI:SS'), crm.document_number_text(ceil(l.error_s)::numeric, 0, k.language), c.late_minutes::text, c.excused_minutes::text,
			c.free_minutes::text, c.charged_minutes::text, crm.document_number_text(c.penalty, 2, k.language), d ->> 'explain_by_local', c.hash],
		CASE WHEN ru THEN 'Точки трека, план и условия договора — в приложенной книге.' ELSE 'Points of the track, the plan and the term are in the workbook.' END, k.language);
	r.xlsx := crm.xlsx_book(ARRAY[
		format('SELECT t.plate AS %I, %L::text AS %I, %L::timestamp AS %I, %L::timestamp AS %I, %L::numeric AS %I, %L::integer AS %I, %L::integer AS %I, %L::integer AS %I, %L::integer AS %I, %L::numeric(14,2) AS %I FROM crm.vehicle t WHERE t.id = %s',
			CASE WHEN ru THEN 'Машина' ELSE 'Vehicle' END, d ->> 'order_number', CASE WHEN ru THEN 'Заказ' ELSE 'Order' END,
			(l.planned_at AT TIME ZONE zone)::timestamp(0), CASE WHEN ru THEN 'План' ELSE 'Planned' END, (l.arrived_at AT TIME ZONE zone)::timestamp(0), CASE WHEN ru THEN 'Факт' ELSE 'Arrived' END,
			ceil(l.error_s), CASE WHEN ru THEN 'Погрешность, с' ELSE 'Error, s' END, c.late_minutes, CASE WHEN ru THEN 'Опоздание, мин' ELSE 'Late, min' END,
			c.excused_minutes, CASE WHEN ru THEN 'Очередь завода, мин' ELSE 'Plant''s queue, min' END, c.free_minutes, CASE WHEN ru THEN 'Льготные, мин' ELSE 'Free, min' END,
			c.charged_minutes, CASE WHEN ru THEN 'К оплате, мин' ELSE 'Charged, min' END, c.penalty, CASE WHEN ru THEN 'Штраф, руб.' ELSE 'Penalty, RUB' END, l.vehicle_id),
		format('SELECT p.ordinal AS "№", p.role AS %I, (p.at AT TIME ZONE %L)::timestamp AS %I, p.lon::numeric(11,7) AS %I, p.lat::numeric(11,7) AS %I, p.error_s::numeric(12,1) AS %I, p.fact AS %I FROM crm.claim_point p WHERE p.claim_id = %s AND p.revision = %s ORDER BY p.ordinal',
			CASE WHEN ru THEN 'Что' ELSE 'What' END, zone, CASE WHEN ru THEN 'Время' ELSE 'Time' END, CASE WHEN ru THEN 'Долгота' ELSE 'Longitude' END,
			CASE WHEN ru THEN 'Широта' ELSE 'Latitude' END, CASE WHEN ru THEN 'Погрешность, с' ELSE 'Error, s' END, CASE WHEN ru THEN 'Запись' ELSE 'Record' END, c.id, c.revision)],
		ARRAY[left(heading || '. ' || k.name, 250), left(format('SHA-256: %s', c.hash), 250)],
		CASE WHEN ru THEN ARRAY['Претензия', 'Точки'] ELSE ARRAY['Claim', 'Points'] END, 'landscape', k.language);
	RETURN r;
END
$$;
COMMENT ON FUNCTION crm.claim_render(bigint) IS 'Makes the files of a claim: a page and a workbook with the points, in the carrier''s language, times in the zone of the contract. Error P0002: no such document or claim';
SELECT crm.register_document_kind('claim', 'ПР', 'Претензия', 'Claim', 'crm.claim_render');

CREATE OR REPLACE FUNCTION crm.claim_paper_state(claim_id bigint, verdict text, reason text) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT crm.set_document_state(c.document_id, 'cancelled', coalesce(nullif($3, ''), $2))
	FROM crm.claim c JOIN crm.document d ON d.id = c.document_id
	WHERE c.id = $1 AND d.state <> 'cancelled' AND $2 IN ('accepted', 'cancelled')
$$;
COMMENT ON FUNCTION crm.claim_paper_state(bigint, text, text) IS 'Cancels the paper of a claim that costs nothing any more; one that stands, wholly or partly, stays as it was sent';

CREATE OR REPLACE FUNCTION crm.send_claim(claim_id bigint) RETURNS SETOF bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c    crm.claim;
	d    jsonb;
	ru   boolean;
	link text;
	number_ text;
	open boolean;	-- to an explanation
	sent bigint[];
BEGIN
	SELECT x.* INTO c FROM crm.claim x WHERE x.id = send_claim.claim_id AND crm.sees_claim(x.id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('claim %s does not exist', coalesce(claim_id::text, 'NULL')), HINT = 'SELECT id, state FROM crm.claim lists them.';
	END IF;
	IF c.state IN ('accepted', 'cancelled') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('claim %s is %s and is not sent', c.id, c.state), HINT = 'There is nothing to claim any more.';
	END IF;
	IF c.document_id IS NULL THEN
		c.document_id := crm.make_document('claim', 'claim', c.id, c.carrier_id);
	ELSE
		PERFORM crm.render_document(c.document_id);	-- new facts lowered it: a new version of the same paper
	END IF;
	SELECT x.number INTO number_ FROM crm.document x WHERE x.id = c.document_id;
	SELECT x.data INTO d FROM crm.claim_data(ARRAY[c.id]) x;
	SELECT x.language = 'ru' INTO ru FROM crm.company x WHERE x.id = c.carrier_id;
	open := c.state IN ('made', 'sent', 'explained') AND c.explain_by > crm.now();
	IF open AND EXISTS (SELECT FROM crm.link_purpose p WHERE p.purpose = 'carrier') THEN
		link := crm.keep_link('carrier', 'claim', c.id, c.explain_by, c.carrier_id);	-- the one that the short message names
	END IF;
	SELECT array_agg(m) INTO sent FROM crm.send_document(c.document_id, NULL, NULL, CASE WHEN ru THEN
			format(E'Здравствуйте!\n\nМашина %s опоздала на %s: план %s, факт %s, опоздание %s мин, из них в очереди завода %s мин, льготных %s мин.\nШтраф по договору %s: %s руб. (претензия %s).\n%sТочки трека и расчёт — в приложении.\n',
				d ->> 'vehicle_plate', d ->> 'side_ru', d ->> 'planned_local', d ->> 'at_local', c.late_minutes, c.excused_minutes, c.free_minutes, d ->> 'contract', d ->> 'penalty', number_,
				CASE WHEN open THEN format(E'Объяснение можно дать до %s%s\n', d ->> 'explain_by_local', coalesce(': ' || link, ' ответом на это письмо.')) ELSE '' END)
		ELSE
			format(E'Good day.\n\nVehicle %s was late for %s: planned %s, arrived %s, %s min late, %s of them in the plant''s queue, %s free.\nPenalty by contract %s: %s RUB (claim %s).\n%sThe points of the track and the reckoning are attached.\n',
				d ->> 'vehicle_plate', c.side, d ->> 'planned_local', d ->> 'at_local', c.late_minutes, c.excused_minutes, c.free_minutes, d ->> 'contract', d ->> 'penalty', number_,
				CASE WHEN open THEN format(E'You may explain it until %s%s\n', d ->> 'explain_by_local', coalesce(': ' || link, ' by answering this letter.')) ELSE '' END)
		END) m;
	UPDATE crm.claim x SET document_id = c.document_id, sent_at = CASE WHEN sent IS NOT NULL THEN crm.now() END, send_tries = CASE WHEN sent IS NULL THEN 10 ELSE 0 END,
		state = CASE WHEN x.state = 'made' AND sent IS NOT NULL THEN 'sent' ELSE x.state END
	WHERE x.id = c.id;
	IF sent IS NOT NULL THEN
		INSERT INTO crm.claim_log (claim_id, what, state, penalty_before, penalty, reason)
		SELECT x.id, 'sent', x.state, x.penalty, x.penalty, format('%s letters', cardinality(sent)) FROM crm.claim x WHERE x.id = c.id;
	END IF;
	RETURN QUERY SELECT s.id FROM unnest(sent) AS s(id);
END
$$;
COMMENT ON FUNCTION crm.send_claim(bigint) IS 'Makes the paper of a claim (or its new version), a one-time link to explain it, and queues the letters to the carrier''s addresses; returns their numbers (crm.message.id), none where there is no address (crm.health says so). Errors: P0002, 55000 nothing to claim any more';

CREATE OR REPLACE FUNCTION crm.claims_send(fresh boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	one   bigint;
	words text;
	code  text;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN;
	END IF;
	FOR one IN SELECT c.id FROM crm.claim c WHERE c.sent_at IS NULL AND c.state NOT IN ('cancelled', 'accepted') AND c.send_tries < CASE WHEN $1 THEN 1 ELSE 10 END
		ORDER BY c.send_tries, c.id LIMIT CASE WHEN $1 THEN 5 ELSE 20 END FOR NO KEY UPDATE SKIP LOCKED LOOP
		BEGIN
			PERFORM crm.send_claim(one);
		EXCEPTION WHEN others THEN
			GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
			PERFORM crm.reject(NULL, format('claim %s', one), words, code);
			UPDATE crm.claim c SET send_tries = c.send_tries + 1 WHERE c.id = one;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.claims_send(boolean) IS 'Sends claims that were not sent, at most 20 a call; one that cannot be stands in crm.rejected and is tried ten times by the courier''s housekeeping. fresh: only those that nobody has tried, at most 5';
SELECT crm.register_hook('maintain', 'claims', 'crm.claims_send');

CREATE OR REPLACE FUNCTION crm.claims_due() RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	PERFORM crm.claims_send(true);
	RETURN (SELECT crm.monotonic_ms() + 100 FROM crm.claim c WHERE c.sent_at IS NULL AND c.state NOT IN ('cancelled', 'accepted') AND c.send_tries = 0 LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm.claims_due() IS 'Hook due: the letters of claims that were made or changed go as soon as the courier is woken, five a call; what fails is left to the housekeeping';
SELECT crm.register_hook('due', 'claims', 'crm.claims_due');

CREATE OR REPLACE FUNCTION crm.claim_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', 'claim ' || c.id, format('the claim to %s could not be sent', k.name),
		format('Give the carrier''s contact an e-mail address, then SELECT crm.send_claim(%s).', c.id), c.made_at
	FROM crm.claim c JOIN crm.company k ON k.id = c.carrier_id
	WHERE c.sent_at IS NULL AND c.state NOT IN ('cancelled', 'accepted') AND c.send_tries >= 10
	ORDER BY c.id LIMIT 20
$$;
COMMENT ON FUNCTION crm.claim_health() IS 'Claims that found no way to the carrier, at most 20; a part of crm.health';
SELECT crm.register_hook('health', 'claim', 'crm.claim_health');

CREATE OR REPLACE FUNCTION crm.claim_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'a claim agrees with its hash', count(*) = 0, format('%s of the newest 500 do not', count(*))
	FROM (SELECT y.* FROM crm.claim y ORDER BY y.id DESC LIMIT 500) c WHERE crm.claim_hash(c.id, c.revision) IS DISTINCT FROM c.hash
	UNION ALL
	SELECT 'a penalty is what its log says', count(*) = 0, format('%s are not', count(*))
	FROM crm.claim c WHERE c.penalty IS DISTINCT FROM (SELECT l.penalty FROM crm.claim_log l WHERE l.claim_id = c.id ORDER BY l.id DESC LIMIT 1)
	UNION ALL
	SELECT 'a late driver is announced once', coalesce(max(x.n), 0) <= 1, format('%s slots announced', count(*))
	FROM (SELECT count(*) AS n FROM crm.event e WHERE e.kind = 'slot.late' GROUP BY e.object_id) x
$$;
COMMENT ON FUNCTION crm.claim_selftest() IS 'What must hold of claims and slots; a part of crm.selftest()';
SELECT crm.register_hook('selftest', 'claim', 'crm.claim_selftest');

CREATE OR REPLACE FUNCTION crm.ship_claim_rules() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.ship_template('claim.decided.letter', 'email', 'ru', 'Решение по претензии {{claim_id}}: {{penalty}} руб.',
		E'Здравствуйте!\n\nПо претензии {{claim_id}} (машина {{vehicle_plate}}, заказ {{order_number}}) принято решение. Штраф: {{penalty}} руб. вместо {{penalty_made}} руб.\n{{reason}}\n', NULL);
	PERFORM crm.ship_template('claim.decided.letter', 'email', 'en', 'Decision on claim {{claim_id}}: {{penalty}} RUB',
		E'Good day.\n\nClaim {{claim_id}} (vehicle {{vehicle_plate}}, order {{order_number}}) has been decided. Penalty: {{penalty}} RUB instead of {{penalty_made}} RUB.\n{{reason}}\n', NULL);
	PERFORM crm.ship_rule('claim.decided.letter', '{"event_kind": "claim.decided", "audience": "company_contacts", "channel": "email", "template": "claim.decided.letter",
		"once": "object", "expires_after": "72 hours"}');
END
$$;
COMMENT ON FUNCTION crm.ship_claim_rules() IS 'Brings the letter that tells a carrier of the decision on a claim; what the DBA changed or switched stays. Called by crm.activate(). Claim 74';
SELECT crm.register_hook('ship', 'claim rules', 'crm.ship_claim_rules');
