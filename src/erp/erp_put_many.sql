-- erp: new orders of a batch, all at once. A row at a time each order costs its triggers, its event and its deal's move
-- anew; those are statement triggers, so a set costs them once. What it makes is what crm_erp.put_order makes.

CREATE OR REPLACE FUNCTION crm.erp_put_orders(rows_ jsonb[]) RETURNS crm_erp.put_result[]
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	parsed  jsonb;
	ids     jsonb;
	answers crm_erp.put_result[];
BEGIN
	-- Left to put_order: what is there, comes twice, lacks something, or names a key that there is not.
	SELECT jsonb_agg(to_jsonb(x)) INTO parsed
	FROM (
		SELECT p.*, c.id AS contact_id, count(*) OVER (PARTITION BY p.key) AS times
		FROM unnest(rows_) WITH ORDINALITY AS u(r, n)
		CROSS JOIN LATERAL (
			SELECT u.n, crm.erp_key(u.r ->> 'erp_id', 'erp_id', true) AS key, crm.erp_company(u.r ->> 'company_erp_id', 'company_erp_id', false) AS company_id,
				crm.erp_text(u.r ->> 'product', 'product') AS product,
				crm.erp_range(crm.erp_number(u.r ->> 'tonnes', 'tonnes'), 'tonnes', 0.001, 1000000, 'tonnes') AS tonnes,
				crm.erp_range(crm.erp_number(u.r ->> 'price', 'price'), 'price', 0, 100000000, 'roubles a tonne') AS price,
				crm.erp_text(u.r ->> 'number', 'number', 100) AS number, crm.erp_time(u.r ->> 'ordered_at', 'ordered_at') AS ordered_at,
				crm.erp_time(u.r ->> 'window_from', 'window_from') AS window_from, crm.erp_time(u.r ->> 'window_to', 'window_to') AS window_to,
				crm.erp_known('place', u.r ->> 'place_erp_id', 'place_erp_id') AS place_id, nullif(crm.erp_key(u.r ->> 'contact_erp_id', 'contact_erp_id'), '-') AS contact_key,
				lower(crm.erp_text(u.r ->> 'state', 'state', 20)) AS state, coalesce(crm.erp_boolean(u.r ->> 'make_deal', 'make_deal'), true) AS make_deal
			OFFSET 0) p
		LEFT JOIN LATERAL (SELECT y.id FROM crm.contact y WHERE y.source = 'erp' AND y.source_id = p.contact_key OFFSET 0) c ON true
		WHERE jsonb_typeof(u.r) = 'object' AND NOT EXISTS (SELECT FROM jsonb_object_keys(u.r) k WHERE k <> ALL (ARRAY['entity', 'put', 'erp_id', 'company_erp_id', 'product',
			'tonnes', 'price', 'number', 'ordered_at', 'window_from', 'window_to', 'place_erp_id', 'contact_erp_id', 'state', 'make_deal']))
	) x
	WHERE x.times = 1 AND x.company_id IS NOT NULL AND x.product IS NOT NULL AND (x.contact_key IS NULL OR x.contact_id IS NOT NULL)
		AND (x.state IS NULL OR x.state IN ('new', 'confirmed', 'shipping', 'closed', 'cancelled')) AND (x.window_from <= x.window_to) IS NOT FALSE
		AND NOT EXISTS (SELECT FROM crm.customer_order y WHERE y.source = 'erp' AND y.source_id = x.key OFFSET 0) AND crm.erp_linked('order', x.key) IS NULL;
	IF parsed IS NULL THEN
		RETURN array_fill(NULL::crm_erp.put_result, ARRAY[cardinality(rows_)]);
	END IF;
	INSERT INTO crm.deal (funnel_id, company_id, contact_id, owner_id, name, amount, tonnes, created_at, source, source_id)
	SELECT f.id, p.company_id, p.contact_id, c.owner_id, left(format('%s, %s', coalesce(p.number, p.key), p.product), 500),
		round(p.tonnes::numeric(14,3) * p.price::numeric(16,4), 2), p.tonnes, least(p.ordered_at, crm.now()), 'erp', 'order:' || p.key
	FROM jsonb_to_recordset(parsed) AS p(n integer, key text, company_id bigint, contact_id bigint, number text, product text, tonnes numeric, price numeric, ordered_at timestamptz, make_deal boolean)
	CROSS JOIN LATERAL (SELECT y.owner_id FROM crm.company y WHERE y.id = p.company_id OFFSET 0) c
	JOIN crm.funnel f ON f.code = 'delivery' AND f.enabled
	WHERE p.make_deal
	ORDER BY p.n
	ON CONFLICT ON CONSTRAINT deal_source_key DO NOTHING;
	WITH made AS (
		INSERT INTO crm.customer_order (number, company_id, contact_id, place_id, deal_id, product, tonnes, price, ordered_at, window_from, window_to, state, source, source_id)
		SELECT coalesce(p.number, left(p.key, 100)), p.company_id, p.contact_id, p.place_id, d.id, p.product, p.tonnes, p.price, coalesce(p.ordered_at, crm.now()), p.window_from, p.window_to,
			coalesce(p.state, 'new'), 'erp', p.key
		FROM jsonb_to_recordset(parsed) AS p(n integer, key text, company_id bigint, contact_id bigint, place_id bigint, number text, product text, tonnes numeric, price numeric, ordered_at timestamptz,
			window_from timestamptz, window_to timestamptz, state text, make_deal boolean)
		LEFT JOIN LATERAL (SELECT y.id FROM crm.deal y WHERE p.make_deal AND y.source = 'erp' AND y.source_id = 'order:' || p.key OFFSET 0) d ON true
		ORDER BY p.n
		ON CONFLICT ON CONSTRAINT customer_order_source_key DO NOTHING
		RETURNING id, source_id
	)
	SELECT jsonb_object_agg(m.source_id, m.id) INTO ids FROM made m;
	-- One that another session was first with is left to put_order.
	SELECT array_agg(CASE WHEN ids ? p.key THEN ROW((ids ->> p.key)::bigint, 'created', p.key)::crm_erp.put_result END ORDER BY u.n) INTO answers
	FROM unnest(rows_) WITH ORDINALITY AS u(r, n)
	LEFT JOIN jsonb_to_recordset(parsed) AS p(n integer, key text) ON p.n = u.n;
	RETURN answers;
END
$$;
COMMENT ON FUNCTION crm.erp_put_orders(jsonb[]) IS 'Takes the new orders among rows of a batch, as crm_erp.put_order takes one, in two statements whatever their number; NULL in the answer: left to put_order. An error of one is an error of all: the caller then tries fewer';
