-- A provider of messages whose double keeps a ledger of ids: each message is a POST of its body with its number
-- in the query. A body that begins with a path, like "/hang", is posted there the first time and to / after
-- that; /stall gets three megabytes, and a reply from /poison cannot be read. Only for tests of the couriers.
CREATE SCHEMA ledger;

CREATE FUNCTION ledger.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place text := (SELECT i.url FROM crm.integration i WHERE i.id = $1);
	limit_ms integer := crm.setting_of($1, 'timeout_ms')::integer;
BEGIN
	RETURN QUERY SELECT t.message_id, 'POST'::text, place || p.path || '?' || t.message_id, ARRAY['Content-Type: text/plain'],
		convert_to(t.body || CASE p.path WHEN '/stall' THEN repeat('x', 3000000) ELSE '' END, 'UTF8'),
		NULL::text, NULL::text, limit_ms, jsonb_build_object('path', p.path)
	FROM crm.outbox_take($1, $2) t
	CROSS JOIN LATERAL (SELECT CASE WHEN t.attempt = 1 THEN coalesce(substring(t.body from '^/\S+'), '/') ELSE '/' END AS path) p;
END $$;

CREATE FUNCTION ledger.take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM unnest($2) r WHERE r.context ->> 'path' = '/poison' AND r.error IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22000', MESSAGE = 'a reply that cannot be read';
	END IF;
	PERFORM crm.outbox_result($1, array_agg(r.ref),
		array_agg(CASE WHEN r.error IS NULL AND r.status = 200 THEN 'sent' WHEN r.error IS NULL AND r.status = 503 THEN 'retry'
			WHEN r.error IS NULL THEN 'failed' WHEN r.sent THEN 'uncertain' ELSE 'retry' END),
		array_agg('p' || r.ref), array_agg(coalesce(r.error, r.status::text)))
	FROM unnest($2) r;
END $$;

-- the provider's report: ?id=NUMBER&state=WORD
CREATE FUNCTION ledger.report(integration_id bigint, request crm.http_request) RETURNS crm.http_response
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.message_report(crm.form_value(request.query, 'id')::bigint, crm.form_value(request.query, 'state'), NULL, 'the provider says so', NULL);
	RETURN ROW (200, NULL, NULL)::crm.http_response;
END $$;

GRANT USAGE ON SCHEMA ledger TO crm_courier, crm_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger TO crm_courier, crm_owner;
SELECT crm.register_kind('x_ledger', 'ledger.next', 'ledger.take', channel => 'ledger', description_en => 'test material',
	description_ru => 'для испытаний', defaults => '{"timeout_ms": 30000, "retry_ms": 20, "retry_max_ms": 100, "on_unknown": "resend"}');
