-- The plain sink as a provider: a POST with the message's number and text, any 200 means sent.
CREATE SCHEMA bench;
GRANT USAGE ON SCHEMA bench TO crm_courier;
CREATE FUNCTION bench.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place text := (SELECT i.url FROM crm.integration i WHERE i.id = $1);
BEGIN
	RETURN QUERY SELECT t.message_id, 'POST'::text, place, ARRAY['Content-Type: text/plain'],
		convert_to(CASE WHEN t.body LIKE 't%' THEN t.body ELSE t.message_id || ' ' || t.body END, 'UTF8'),
		NULL::text, NULL::text, NULL::integer, NULL::jsonb
	FROM crm.outbox_take($1, $2) t;
END $$;
CREATE FUNCTION bench.take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.outbox_result($1, array_agg(r.ref),
		array_agg(CASE WHEN r.error IS NULL AND r.status = 200 THEN 'sent' WHEN r.error IS NULL THEN 'failed'
			WHEN r.sent THEN 'uncertain' ELSE 'retry' END),
		array_agg(NULL::text), array_agg(r.error))
	FROM unnest($2) r;
END $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA bench TO crm_courier;
SELECT crm.register_kind('x_bench_http', 'bench.next', 'bench.take', channel => 'sms');
