-- A claim asks integrations in the order it is told, for as many as each has room, and no further one once its time is over.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
BEGIN;
SELECT crm.activate('live');
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE FUNCTION k.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT n, 'GET', 'http://127.0.0.1:1/', NULL::text[], NULL::bytea, NULL, NULL, NULL::integer, NULL::jsonb FROM generate_series(1, least(capacity, 3)) n $$;
CREATE FUNCTION k.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql AS $$ $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA k TO crm_courier;
SELECT crm.register_kind('x_k', 'k.next', 'k.take', channel => 'sms');
SELECT crm.register_kind('x_poll', 'k.next', 'k.take');
SELECT crm.add_integration('a', 'x_k', 'http://127.0.0.1:1/') AS a \gset
SELECT crm.add_integration('b', 'x_k', 'http://127.0.0.1:1/') AS b \gset
SELECT crm.add_integration('c', 'x_k', 'http://127.0.0.1:1/') AS c \gset
SELECT crm.add_integration('poll', 'x_poll', 'http://127.0.0.1:1/', '{"poll_ms": 1000}') AS poll \gset
CREATE FUNCTION pg_temp.claim(held bigint[], rooms integer[], limit_ms integer DEFAULT NULL) RETURNS TABLE (name text, n integer) LANGUAGE sql AS
	$$ SELECT coalesce(i.name, 'and more'), cardinality(x.requests) FROM crm.courier_claim(1, 2, held, rooms, limit_ms) WITH ORDINALITY AS x(id, requests, a, b, o, n)
		LEFT JOIN crm.integration i ON i.id = x.id ORDER BY x.n $$;
-- nobody is known: each for the capacity that is given
SELECT * FROM pg_temp.claim('{}', '{}');
-- the known ones in their order, as far as they have room; a poll that is under way is not asked
SELECT * FROM pg_temp.claim(ARRAY[:c, :a, :b, :poll], '{1,3,0,1}');
-- a new one comes first
SELECT * FROM pg_temp.claim(ARRAY[:c, :a], '{1,1}', 60000);
-- the time is over after the first: the rest is said to be left
SELECT * FROM pg_temp.claim(ARRAY[:c, :a, :b], '{1,1,1}', -1);
SELECT * FROM pg_temp.claim(ARRAY[:b, :c, :a], '{1,1,1}', -1);
-- one that has nothing is told too, or it would never be known
CREATE OR REPLACE FUNCTION k.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS $$ SELECT NULL::crm.request WHERE false $$;
SELECT * FROM pg_temp.claim(ARRAY[:a, :b, :c], '{1,1,1}', 60000);
SELECT count(*) FROM pg_temp.claim(ARRAY[:a, :b, :c], '{1,1,1}');
ROLLBACK;
