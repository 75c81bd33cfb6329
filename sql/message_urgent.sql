-- A claim for what goes before all other (a negative room) gets that and nothing else, also after an error of a kind.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET client_min_messages = warning;
BEGIN;
SELECT crm.activate('live');
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE FUNCTION k.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY SELECT t.message_id, 'GET'::text, 'http://127.0.0.1:1/' || t.body, NULL::text[], NULL::bytea, NULL::text, NULL::text, NULL::integer, NULL::jsonb FROM crm.outbox_take($1, capacity) t;
	IF EXISTS (SELECT FROM crm.integration i WHERE i.id = $1 AND i.settings ? 'fails') THEN
		RAISE 'no';
	END IF;
END $$;
CREATE FUNCTION k.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql AS $$ $$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA k TO crm_courier;
SELECT crm.register_kind('x_k', 'k.next', 'k.take', channel => 'sms');
SELECT crm.add_integration('fails', 'x_k', 'http://127.0.0.1:1/', '{"sender": "CEMENT", "fails": true}') AS fails \gset
SELECT crm.add_integration('gate', 'x_k', 'http://127.0.0.1:1/', '{"sender": "CEMENT"}') AS gate \gset
CREATE FUNCTION pg_temp.say(what text, priority integer, n integer, to_ text DEFAULT 'gate') RETURNS bigint LANGUAGE sql AS
	$$ SELECT count(crm.send('sms', '+79161234567', what || i, priority => priority, integration => to_)) FROM generate_series(1, n) i $$;
CREATE FUNCTION pg_temp.claim(room integer) RETURNS SETOF text LANGUAGE sql AS
	$$ SELECT r.url FROM crm.courier_claim(1, 5, ARRAY(SELECT i.id FROM crm.integration i ORDER BY i.name), ARRAY[-3, room]) x, unnest(x.requests) r $$;
SELECT pg_temp.say('normal', 1, 5), pg_temp.say('urgent', 2, 3), pg_temp.say('bulk', 0, 2), pg_temp.say('lost', 2, 1, 'fails');
-- the one that fails was asked for urgent ones only; the next one is given what it has room for
SELECT * FROM pg_temp.claim(4);
SELECT pg_temp.say('now', 2, 3);
SELECT * FROM pg_temp.claim(-2);
SELECT * FROM pg_temp.claim(-2);
-- there is no more of it
SELECT * FROM pg_temp.claim(-2);
SELECT * FROM pg_temp.claim(3);
SELECT i.name, s.failures > 0 FROM crm.integration_state s JOIN crm.integration i ON i.id = s.integration_id ORDER BY 1;
ROLLBACK;
