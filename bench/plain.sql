-- The least that is durable: bodies in a logged table that nobody updates, a claim that reads above a
-- watermark and moves it, an outcome row a request. What the courier itself costs, without the rooms.
CREATE SCHEMA plain;
CREATE TABLE plain.queue (id bigint PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE plain.lease (generation bigint GENERATED ALWAYS AS IDENTITY, lo bigint NOT NULL, hi bigint NOT NULL);
CREATE TABLE plain.outcome (id bigint NOT NULL, status integer NOT NULL, words text, at timestamptz NOT NULL DEFAULT now());
INSERT INTO plain.lease (lo, hi) VALUES (0, 0);
CREATE INDEX ON plain.lease (hi);

CREATE FUNCTION plain.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place text := (SELECT i.url FROM crm.integration i WHERE i.id = $1);
	lo    bigint := (SELECT max(l.hi) FROM plain.lease l);
	hi    bigint := (SELECT max(q.id) FROM (SELECT q.id FROM plain.queue q WHERE q.id > lo ORDER BY q.id LIMIT $2) q);
BEGIN
	IF hi IS NULL THEN
		RETURN;
	END IF;
	INSERT INTO plain.lease (lo, hi) VALUES (lo, hi);
	RETURN QUERY SELECT q.id, 'POST'::text, place, ARRAY['Content-Type: text/plain'], q.body, NULL::text, NULL::text, NULL::integer, NULL::jsonb
		FROM plain.queue q WHERE q.id > lo AND q.id <= hi ORDER BY q.id;
END $$;

CREATE FUNCTION plain.take(integration_id bigint, replies crm.reply[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO plain.outcome (id, status, words) SELECT r.ref, r.status, r.error FROM unnest($2) r;
END $$;

GRANT USAGE ON SCHEMA plain TO crm_courier;
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA plain TO crm_courier;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA plain TO crm_courier;
SELECT crm.register_kind('x_plain_bench', 'plain.next', 'plain.take', channel => 'plain');
