-- Kinds and integrations: bad functions are refused when they are registered, and each runs with the rights of its owner.
-- claim 46: a provider is added by two functions and a row
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate();
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE ROLE integration_kind_author;
CREATE ROLE integration_kind_stranger;
GRANT crm_integrator TO integration_kind_author;
GRANT USAGE, CREATE ON SCHEMA k TO integration_kind_author, integration_kind_stranger;
CREATE FUNCTION k.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT n, 'GET', 'http://127.0.0.1:1/' || current_user, NULL::text[], NULL::bytea, NULL, NULL, NULL::integer, NULL::jsonb FROM generate_series(1, 2) n $$;
CREATE FUNCTION k.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION k.judge(integration_id bigint, reply crm.reply) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
CREATE FUNCTION k.not_a_set(integration_id bigint, capacity integer) RETURNS crm.request LANGUAGE sql AS $$ SELECT NULL::crm.request $$;
CREATE FUNCTION k.definer(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql SECURITY DEFINER AS $$ SELECT NULL::crm.request $$;
CREATE FUNCTION k.hidden(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS $$ SELECT NULL::crm.request $$;
REVOKE EXECUTE ON FUNCTION k.hidden FROM PUBLIC;
CREATE FUNCTION k.foreign_code(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS $$ SELECT NULL::crm.request $$;
ALTER FUNCTION k.foreign_code OWNER TO integration_kind_stranger;
SAVEPOINT s;
SELECT crm.register_kind('K', 'k.next', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.next', NULL);
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'next', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.nothing', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'nowhere.next', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.next', 'k.next');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.not_a_set', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.definer', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.hidden', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.foreign_code', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.next; DROP SCHEMA k CASCADE', 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.next', 'k.take', judge_function => 'k.take');
ROLLBACK TO s;
SELECT crm.register_kind('x_k', 'k.next', 'k.take', defaults => '[1]');
ROLLBACK TO s;
-- a good one, made of the DBA's own functions: it is his, so it will be in the dump
SELECT crm.register_kind('x_k', 'k.next', 'k.take', channel => 'pigeon', judge_function => 'k.judge',
	defaults => '{"speed": 5, "poll_ms": 1500}', description_en => 'a test', description_ru => 'проба');
SELECT kind, channel, next_function, take_function, judge_function, defaults, shipped FROM crm.integration_kind WHERE kind = 'x_k';
-- names without x_ are kept for those that ship, whoever writes the row: a dump must never bring one that is there
SAVEPOINT s;
SELECT crm.register_kind('sms_acme', 'k.next', 'k.take');
ROLLBACK TO s;
INSERT INTO crm.integration_kind (kind) VALUES ('sms_acme');
ROLLBACK TO s;
SELECT count(*) FROM crm.integration_kind WHERE shipped AND kind LIKE 'x\_%';
SELECT crm.register_kind('sms_kannel', 'k.next', 'k.take');
ROLLBACK TO s;
-- one that ships cannot be replaced
UPDATE crm.integration_kind SET shipped = true WHERE kind = 'x_k';
SAVEPOINT s;
SELECT crm.register_kind('x_k', 'k.next', 'k.take');
ROLLBACK TO s;
-- integrations: names, addresses and settings are looked at
SELECT crm.add_integration('has space', 'x_k', 'http://127.0.0.1:1');
ROLLBACK TO s;
SELECT crm.add_integration('a', 'unknown_kind', 'http://127.0.0.1:1') WHERE false;
SELECT crm.add_integration('a', 'x_k', 'ftp://127.0.0.1');
ROLLBACK TO s;
SELECT crm.add_integration('a', 'x_k', 'http://user:word@127.0.0.1/');
ROLLBACK TO s;
SELECT crm.add_integration('a', 'x_k', 'http://127.0.0.1:1', '{"password": "x"}');
ROLLBACK TO s;
SELECT crm.add_integration('a', 'x_k', 'http://127.0.0.1:1', '{"poll_ms": "soon"}');
ROLLBACK TO s;
SELECT crm.add_integration('a', 'x_k', 'http://127.0.0.1:1', '{"speed": 7, "max_in_flight": 4}') > 0;
SELECT name, kind, url, settings, enabled, max_in_flight, poll_ms, max_reply_bytes FROM crm.integration;
SAVEPOINT s;
SELECT crm.add_integration('a', 'x_k', 'http://127.0.0.1:1');
ROLLBACK TO s;
SELECT crm.setting_of(id, 'speed'), crm.setting_of(id, 'absent') FROM crm.integration;
UPDATE crm.integration_kind SET defaults = defaults || '{"later": "added"}';
SELECT crm.setting_of(id, 'speed'), crm.setting_of(id, 'later') FROM crm.integration;
-- whose rights: a superuser's function runs as the courier, an integrator's as himself
SELECT (r).url FROM crm.integration i, unnest(crm.call_next('k.next', i.id, 10, 1000)) r LIMIT 1;
ALTER FUNCTION k.next OWNER TO integration_kind_author;
SELECT (r).url FROM crm.integration i, unnest(crm.call_next('k.next', i.id, 10, 1000)) r LIMIT 1;
SELECT current_user = session_user, crm.kind_call();
-- more than was asked for, and too slow
SAVEPOINT s;
SELECT crm.call_next('k.next', i.id, 1, 1000) FROM crm.integration i;
ROLLBACK TO s;
CREATE FUNCTION k.slow(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS $$ SELECT NULL::crm.request FROM pg_sleep(30) $$;
SELECT crm.call_next('k.slow', i.id, 1, 50) FROM crm.integration i;
ROLLBACK TO s;
-- … and the session is what it was
SELECT current_user = session_user, crm.kind_call();
-- a kind's function may not change its role, nor use another integration
CREATE FUNCTION k.climb(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE plpgsql AS $$ BEGIN SET ROLE postgres; END $$;
SAVEPOINT s;
SELECT crm.call_next('k.climb', i.id, 1, 1000) FROM crm.integration i;
ROLLBACK TO s;
CREATE FUNCTION k.pry(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE plpgsql AS $$ BEGIN PERFORM crm.cursor_value(integration_id + 1, 'x'); RETURN; END $$;
SAVEPOINT s;
SELECT count(*) FROM (SELECT crm.call_next('k.pry', 4711, 1, 1000)) x;
ROLLBACK TO s;
-- who may register and add
SET LOCAL ROLE crm_integrator;
SAVEPOINT s;
SELECT crm.register_kind('x_mine', 'k.next', 'k.take');
ROLLBACK TO s;
SELECT crm.add_integration('b', 'x_k', 'http://127.0.0.1:1');
ROLLBACK TO s;
RESET ROLE;
ROLLBACK;
