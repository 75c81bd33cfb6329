-- kpi: what is known of a client, in one call. Code: may be run again.
-- Everything is looked up by the numbers of the company and bounded, so that a million activities cost no more than ten.

CREATE OR REPLACE FUNCTION crm.client_gaps(company_ids bigint[]) RETURNS text[]
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
	SELECT array_remove(ARRAY[
		CASE WHEN c.inn IS NULL THEN 'no INN' WHEN NOT crm.inn_valid(c.inn) THEN 'the INN is wrong' END,
		CASE WHEN NOT coalesce(p.decides, false) THEN 'no decision maker' END,
		CASE WHEN NOT coalesce(p.mobile, false) THEN 'no verified mobile' END,
		CASE WHEN NOT coalesce(p.mail, false) THEN 'no verified e-mail address' END,
		CASE WHEN NOT EXISTS (SELECT FROM crm.place x WHERE x.company_id = ANY ($1) AND x.archived_at IS NULL AND x.confirmed_at IS NOT NULL) THEN 'no place that an arrival confirms' END,
		CASE WHEN c.owner_id IS NULL THEN 'nobody is responsible' END,
		CASE WHEN crm.next_contact(c.id) IS NULL THEN 'no next contact' END,
		CASE WHEN NOT coalesce(p.consent, false) THEN 'no consent' END,
		CASE WHEN NOT coalesce(p.channel, false) THEN 'no preferred channel' END,
		CASE WHEN EXISTS (SELECT FROM crm.duplicate d WHERE d.object_kind = 'company' AND d.state = 'open' AND d.score >= 0.9 AND d.first_id = c.id)
			OR EXISTS (SELECT FROM crm.duplicate d WHERE d.object_kind = 'company' AND d.state = 'open' AND d.score >= 0.9 AND d.second_id = c.id) THEN 'may be a duplicate' END
		], NULL)
	FROM crm.company c
	LEFT JOIN LATERAL (
		SELECT bool_or(k.is_decision_maker) AS decides, bool_or(k.channel IS NOT NULL) AS channel, bool_or(crm.consented(k.id, 'processing')) AS consent,
			bool_or(EXISTS (SELECT FROM crm.contact_point x WHERE x.contact_id = k.id AND x.kind = 'phone' AND x.is_mobile AND x.state = 'verified')) AS mobile,
			bool_or(EXISTS (SELECT FROM crm.contact_point x WHERE x.contact_id = k.id AND x.kind = 'email' AND x.state = 'verified')) AS mail
		FROM (SELECT x.id, x.is_decision_maker, x.channel FROM crm.contact x WHERE x.company_id = ANY ($1) AND x.archived_at IS NULL ORDER BY x.is_decision_maker DESC, x.id LIMIT 200) k
	) p ON true
	WHERE c.id = $1[1]
$$;
COMMENT ON FUNCTION crm.client_gaps(bigint[]) IS 'What is missing to know a client well, in words (kpi.md, section 4); empty: nothing. company_ids: crm.company_ids of it';

CREATE OR REPLACE FUNCTION crm.next_contact(company_id bigint) RETURNS timestamptz
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT t.due_at FROM crm.task t WHERE t.company_id = $1 AND t.state = 'open' AND t.due_at >= crm.now() ORDER BY t.due_at LIMIT 1
$$;
COMMENT ON FUNCTION crm.next_contact(bigint) IS 'When a client is to be contacted next: the nearest deadline to come of an open task with it; NULL: no date is set';

CREATE OR REPLACE FUNCTION crm.portrait(company_id bigint) RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
	-- planned once in a session: planning costs more than all that is read
	SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	ids bigint[] := crm.company_ids($1);
	c   crm.company;
	r   jsonb;
BEGIN
	SELECT x.* INTO c FROM crm.company x WHERE x.id = ids[1];
	IF NOT FOUND OR NOT crm.sees_company(c.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('company %s is not there', coalesce($1::text, 'NULL')), HINT = 'SELECT id, name FROM crm.company;';
	END IF;
	r := jsonb_build_object(
		'id', c.id, 'name', c.name, 'full_name', c.full_name, 'inn', c.inn, 'inn_valid', crm.inn_valid(c.inn), 'kpp', c.kpp,
		'is_client', c.is_client, 'is_carrier', c.is_carrier, 'language', c.language, 'time_zone', c.time_zone,
		'source', c.source, 'source_id', c.source_id, 'created_at', c.created_at, 'archived_at', c.archived_at, 'also', to_jsonb(ids[2:]),
		'owner', (SELECT jsonb_build_object('id', e.id, 'name', e.name, 'since', (SELECT lower(x.during) FROM crm.responsibility x WHERE x.company_id = c.id AND x.during @> crm.now()))
			FROM crm.employee e WHERE e.id = c.owner_id),
		'owners', (SELECT coalesce(jsonb_agg(jsonb_build_object('employee', e.name, 'from', lower(x.during), 'to', upper(x.during)) ORDER BY lower(x.during) DESC), '[]')
			FROM (SELECT y.employee_id, y.during FROM crm.responsibility y WHERE y.company_id = c.id ORDER BY lower(y.during) DESC LIMIT 10) x JOIN crm.employee e ON e.id = x.employee_id),
		'addresses', (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', a.kind, 'text', a.text) ORDER BY a.kind, a.id), '[]')
			FROM (SELECT x.id, x.kind, x.text FROM crm.address x WHERE x.company_id = ANY (ids) ORDER BY x.id LIMIT 50) a),
		'contacts', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', k.id, 'name', k.name, 'position', k."position", 'decides', k.is_decision_maker,
				'language', coalesce(k.language, c.language), 'channel', k.channel, 'consents', o.purposes, 'points', p.points) ORDER BY k.is_decision_maker DESC, k.id), '[]')
			FROM (SELECT x.* FROM crm.contact x WHERE x.company_id = ANY (ids) AND x.archived_at IS NULL ORDER BY x.is_decision_maker DESC, x.id LIMIT 50) k
			CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(jsonb_build_object('id', y.id, 'kind', y.kind, 'value', y.value, 'mobile', y.is_mobile, 'state', y.state,
					'verified_at', y.verified_at, 'how', y.verified_how) ORDER BY y.kind, y.id), '[]') AS points
				FROM (SELECT x.* FROM crm.contact_point x WHERE x.contact_id = k.id ORDER BY x.id LIMIT 20) y) p
			CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(DISTINCT y.purpose), '[]') AS purposes FROM crm.consent y
				WHERE y.contact_id = k.id AND y.given_at <= crm.now() AND (y.withdrawn_at IS NULL OR y.withdrawn_at > crm.now())) o),
		'places', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'name', p.name, 'kind', p.kind, 'lon', p.lon, 'lat', p.lat, 'no_internet', p.no_internet, 'confirmed_at', p.confirmed_at) ORDER BY p.id), '[]')
			FROM (SELECT x.id, x.name, x.kind, x.lon, x.lat, x.no_internet, x.confirmed_at FROM crm.place x WHERE x.company_id = ANY (ids) AND x.archived_at IS NULL ORDER BY x.id LIMIT 50) p));
	r := r || jsonb_build_object(
		'deals', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', d.id, 'name', d.name, 'funnel', f.code, 'stage', s.code, 'stage_ru', s.name_ru, 'amount', d.amount, 'tonnes', d.tonnes,
				'stage_at', d.stage_at, 'owner', e.name) ORDER BY d.stage_at DESC NULLS LAST, d.id DESC), '[]')
			FROM (SELECT x.* FROM crm.deal x WHERE x.company_id = ANY (ids) AND x.closed_at IS NULL ORDER BY x.id DESC LIMIT 50) d
			JOIN crm.funnel f ON f.id = d.funnel_id JOIN crm.stage s ON s.id = d.stage_id LEFT JOIN crm.employee e ON e.id = d.owner_id),
		'tasks', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', t.id, 'name', t.name, 'due_at', t.due_at, 'overdue', t.due_at < crm.now(), 'doer', e.name) ORDER BY t.due_at, t.id), '[]')
			FROM (SELECT x.* FROM crm.task x WHERE x.company_id = ANY (ids) AND x.state = 'open' ORDER BY x.due_at, x.id LIMIT 50) t LEFT JOIN crm.employee e ON e.id = t.employee_id),
		'next_contact_at', (SELECT min(crm.next_contact(i.id)) FROM unnest(ids) AS i(id)),
		'notes', (SELECT coalesce(jsonb_agg(jsonb_build_object('at', n.at, 'by', n.by, 'text', left(n.text, 1000)) ORDER BY n.id DESC), '[]')
			FROM (SELECT y.* FROM unnest(ids) AS i(id) CROSS JOIN LATERAL (SELECT x.* FROM crm.note x WHERE x.company_id = i.id ORDER BY x.id DESC LIMIT 10) y ORDER BY y.id DESC LIMIT 10) n),
		'documents', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', d.id, 'number', d.number, 'kind', d.kind, 'date', d.document_date, 'state', d.state) ORDER BY d.id DESC), '[]')
			FROM (SELECT x.* FROM crm.document x WHERE x.company_id = ANY (ids) ORDER BY x.id DESC LIMIT 10) d),
		'messages', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', m.id, 'at', m.queued_at, 'channel', m.channel, 'contact', m.name, 'rule', m.rule, 'state', m.state) ORDER BY m.id DESC), '[]')
			FROM (SELECT y.id, y.queued_at, y.channel, y.state, y.rule, k.name
				FROM (SELECT x.id, x.name FROM crm.contact x WHERE x.company_id = ANY (ids) ORDER BY x.archived_at NULLS FIRST, x.is_decision_maker DESC, x.id LIMIT 50) k
				CROSS JOIN LATERAL (SELECT z.id FROM crm.message_said z WHERE z.contact_id = k.id ORDER BY z.id DESC LIMIT 5) w
				CROSS JOIN LATERAL (SELECT z.id, z.queued_at, z.channel, z.state, z.rule FROM crm.message z WHERE z.id = w.id OFFSET 0) y
				ORDER BY y.id DESC LIMIT 10) m));
	r := r || jsonb_build_object(
		'orders', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', o.id, 'number', o.number, 'product', o.product, 'tonnes', o.tonnes, 'price', o.price, 'state', o.state,
				'window_from', o.window_from, 'window_to', o.window_to, 'shipped_t', s.net) ORDER BY o.ordered_at DESC, o.id DESC), '[]')
			FROM (SELECT y.* FROM unnest(ids) AS i(id) CROSS JOIN LATERAL (SELECT x.* FROM crm.customer_order x WHERE x.company_id = i.id ORDER BY x.ordered_at DESC LIMIT 10) y ORDER BY y.ordered_at DESC LIMIT 10) o
			CROSS JOIN LATERAL (SELECT round(sum(x.net_kg) / 1000, 3) AS net FROM crm.shipment x WHERE x.order_id = o.id AND x.cancelled_at IS NULL) s),
		'prices', (SELECT coalesce(jsonb_object_agg(p.product, jsonb_build_object('price', p.price, 'at', p.ordered_at)), '{}')
			FROM (SELECT DISTINCT ON (o.product) o.product, o.price, o.ordered_at
				FROM (SELECT y.* FROM unnest(ids) AS i(id) CROSS JOIN LATERAL (SELECT x.product, x.price, x.ordered_at, x.id FROM crm.customer_order x
					WHERE x.company_id = i.id ORDER BY x.ordered_at DESC LIMIT 200) y) o WHERE o.price IS NOT NULL ORDER BY o.product, o.ordered_at DESC, o.id DESC) p),
		'in_transit', (SELECT coalesce(jsonb_agg(jsonb_build_object('trip_id', t.id, 'state', t.state, 'vehicle', v.plate, 'place', p.name, 'departed_at', t.departed_at, 'eta', t.eta) ORDER BY t.id), '[]')
			FROM (SELECT y.* FROM unnest(ids) AS i(id) CROSS JOIN LATERAL (SELECT x.* FROM crm.trip x WHERE x.company_id = i.id ORDER BY x.id DESC LIMIT 100) y
				WHERE y.state IN ('loading', 'departed', 'approaching', 'arrived')) t
			JOIN crm.vehicle v ON v.id = t.vehicle_id LEFT JOIN crm.place p ON p.id = t.destination_place_id),
		'claims', (SELECT coalesce(jsonb_agg(jsonb_build_object('id', x.id, 'side', x.side, 'state', x.state, 'penalty', x.penalty, 'made_at', x.made_at) ORDER BY x.id DESC), '[]')
			FROM (SELECT y.* FROM unnest(ids) AS i(id) CROSS JOIN LATERAL (SELECT z.* FROM crm.claim z WHERE z.carrier_id = i.id ORDER BY z.made_at DESC LIMIT 10) y) x),
		'volumes', crm.client_volumes(ids));
	RETURN r || jsonb_build_object(
		'last_shipment_at', (SELECT max((v.v ->> 'last_at')::timestamptz) FROM jsonb_array_elements(r -> 'volumes') AS v(v)),
		'last_contact_at', (SELECT max(l.at) FROM (
			SELECT (r #>> '{notes,0,at}')::timestamptz AS at
			UNION ALL SELECT (r #>> '{messages,0,at}')::timestamptz
			UNION ALL SELECT (SELECT x.done_at FROM crm.task x WHERE x.company_id = i.id AND x.state = 'done' ORDER BY x.id DESC LIMIT 1) FROM unnest(ids) AS i(id)) l),
		'duplicates', (SELECT coalesce(jsonb_agg(jsonb_build_object('company_id', d.other, 'score', d.score, 'reasons', d.reasons) ORDER BY d.score DESC, d.other), '[]')
			FROM (SELECT x.second_id AS other, x.score, x.reasons FROM crm.duplicate x WHERE x.object_kind = 'company' AND x.state = 'open' AND x.first_id = c.id
				UNION ALL SELECT x.first_id, x.score, x.reasons FROM crm.duplicate x WHERE x.object_kind = 'company' AND x.state = 'open' AND x.second_id = c.id) d
			WHERE crm.sees_company(d.other)),
		'missing', to_jsonb(crm.client_gaps(ids)), 'as_of', crm.now());
END
$$;
COMMENT ON FUNCTION crm.portrait(bigint) IS 'Everything known of a client or carrier in one call, for who may see it: requisites, owner and former ones, addresses, contacts with proof and consents, places, open deals and tasks, next and last contact, notes, documents, messages, orders, last prices, tonnes and amounts by product and month, trips on the way, penalty claims, candidates of duplicates, and what is missing. Under any of its numbers where it was merged (also: the others). Lists are bounded, the newest or most urgent first: 50 contacts, deals, tasks and places, 10 of the rest, volumes of 24 months. Error P0002: no such company, or not the speaker''s. Claim 40';

CREATE OR REPLACE FUNCTION crm.client_volumes(company_ids bigint[]) RETURNS jsonb
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
	SELECT coalesce(jsonb_agg(jsonb_build_object('month', v.month, 'product', v.product, 'tonnes', v.tonnes, 'amount', v.amount, 'loads', v.loads, 'last_at', v.last_at) ORDER BY v.month DESC, v.product), '[]')
	FROM (
		SELECT to_char(s.weighed_at AT TIME ZONE crm.kpi_zone(), 'YYYY-MM') AS month, s.product, round(sum(s.net_kg) / 1000, 3) AS tonnes,
			round(sum(o.price * s.net_kg) / 1000, 2) AS amount, count(*) AS loads, max(s.weighed_at) AS last_at
		FROM (SELECT x.id, x.price FROM crm.customer_order x WHERE x.company_id = ANY ($1) AND x.ordered_at > crm.now() - interval '30 months' ORDER BY x.ordered_at DESC LIMIT 2000) o
		CROSS JOIN LATERAL (SELECT x.product, x.net_kg, x.weighed_at FROM crm.shipment x
			WHERE x.order_id = o.id AND x.cancelled_at IS NULL AND x.net_kg IS NOT NULL AND x.weighed_at > crm.now() - interval '24 months') s
		GROUP BY 1, 2
	) v
$$;
COMMENT ON FUNCTION crm.client_volumes(bigint[]) IS 'Tonnes, amounts by the orders'' prices (roubles) and loads of a client, by product and month of the plant''s zone, of the last 24 months and at most the newest 2000 orders. company_ids: crm.company_ids of it';

CREATE OR REPLACE VIEW crm_bi.client_unattended WITH (security_invoker = true) AS
	SELECT c.id AS client_id,
		c.name::varchar(500) AS client,
		c.owner_id AS employee_id,
		e.name::varchar(500) AS employee,
		(c.owner_id IS NULL OR e.dismissed_at IS NOT NULL)::integer AS no_owner,
		(t.due_at IS NULL)::integer AS no_next_date,
		(t.due_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS next_at,
		(c.created_at AT TIME ZONE crm.kpi_zone())::date AS since,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.company c
	LEFT JOIN crm.employee e ON e.id = c.owner_id
	LEFT JOIN LATERAL (SELECT x.due_at FROM crm.task x WHERE x.company_id = c.id AND x.state = 'open' AND x.due_at >= crm.now() ORDER BY x.due_at LIMIT 1) t ON true
	WHERE c.is_client AND c.archived_at IS NULL AND c.merged_into_id IS NULL
		AND (c.owner_id IS NULL OR e.dismissed_at IS NOT NULL OR t.due_at IS NULL);
COMMENT ON VIEW crm_bi.client_unattended IS 'Clients that nobody is responsible for, or with whom nobody has a date: no open task with a deadline to come; live';
COMMENT ON COLUMN crm_bi.client_unattended.client_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.client_unattended.client IS 'Name';
COMMENT ON COLUMN crm_bi.client_unattended.employee_id IS 'Who is responsible (crm.employee.id); NULL: nobody';
COMMENT ON COLUMN crm_bi.client_unattended.employee IS 'Name';
COMMENT ON COLUMN crm_bi.client_unattended.no_owner IS '1: nobody is responsible, or somebody who has left; 0: somebody is';
COMMENT ON COLUMN crm_bi.client_unattended.no_next_date IS '1: no next contact is set; 0: one is';
COMMENT ON COLUMN crm_bi.client_unattended.next_at IS 'Next contact, plant''s zone';
COMMENT ON COLUMN crm_bi.client_unattended.since IS 'Day on which we learned of the client';
COMMENT ON COLUMN crm_bi.client_unattended.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.client_unattended', 'Clients without owner or next date', 'Клиенты без ответственного или даты', 'one client', 'один клиент', NULL);

CREATE OR REPLACE VIEW crm_bi.contact_point_unproved WITH (security_invoker = true) AS
	SELECT p.id AS contact_point_id,
		k.id AS contact_id,
		k.name::varchar(500) AS contact,
		c.id AS client_id,
		c.name::varchar(500) AS client,
		c.owner_id AS employee_id,
		e.name::varchar(500) AS employee,
		p.kind::varchar(20) AS kind,
		p.is_mobile::integer AS is_mobile,
		p.state::varchar(20) AS state,
		p.strikes::integer AS strikes,
		p.verified_how::varchar(20) AS how,
		(p.verified_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS proved_at,
		(p.created_at AT TIME ZONE crm.kpi_zone())::date AS since,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.contact_point p
	JOIN crm.contact k ON k.id = p.contact_id AND k.archived_at IS NULL AND k.source NOT IN ('employee', 'forgotten')
	LEFT JOIN crm.company c ON c.id = k.company_id
	LEFT JOIN crm.employee e ON e.id = c.owner_id
	WHERE p.state <> 'verified';
COMMENT ON VIEW crm_bi.contact_point_unproved IS 'Phones, addresses and chats of contacts that no fact proves (claim 32): unknown, stale or invalid; live. The value itself stands in crm.contact_point';
COMMENT ON COLUMN crm_bi.contact_point_unproved.contact_point_id IS 'crm.contact_point.id';
COMMENT ON COLUMN crm_bi.contact_point_unproved.contact_id IS 'crm.contact.id';
COMMENT ON COLUMN crm_bi.contact_point_unproved.contact IS 'Name';
COMMENT ON COLUMN crm_bi.contact_point_unproved.client_id IS 'crm.company.id; NULL: of no company yet';
COMMENT ON COLUMN crm_bi.contact_point_unproved.client IS 'Name';
COMMENT ON COLUMN crm_bi.contact_point_unproved.employee_id IS 'Who is responsible for the client (crm.employee.id)';
COMMENT ON COLUMN crm_bi.contact_point_unproved.employee IS 'Name';
COMMENT ON COLUMN crm_bi.contact_point_unproved.kind IS 'phone, email, telegram';
COMMENT ON COLUMN crm_bi.contact_point_unproved.is_mobile IS '1: a phone that can take an SMS; 0: not';
COMMENT ON COLUMN crm_bi.contact_point_unproved.state IS 'unknown, stale (the proof is too old), invalid';
COMMENT ON COLUMN crm_bi.contact_point_unproved.strikes IS 'Failures since the last proof';
COMMENT ON COLUMN crm_bi.contact_point_unproved.how IS 'By what it is invalid, or was proved last';
COMMENT ON COLUMN crm_bi.contact_point_unproved.proved_at IS 'When that was, plant''s zone';
COMMENT ON COLUMN crm_bi.contact_point_unproved.since IS 'Day on which it was entered';
COMMENT ON COLUMN crm_bi.contact_point_unproved.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.contact_point_unproved', 'Contact points without proof', 'Контакты без подтверждения', 'one phone, address or chat', 'один телефон, адрес или чат', NULL);
