-- Secrets: a value or a file, read by couriers and by the kind that was called for the integration, and by nobody else; masked in what is kept.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier, crm_integrator;
SELECT crm.register_kind('x_k', NULL, NULL);
SELECT crm.add_integration('one', 'x_k', 'http://127.0.0.1:1', '{}', 'canary-7f3a/9') AS one \gset
SELECT crm.add_integration('two', 'x_k', 'http://127.0.0.1:1', '{}', 'file:relative/path') AS two \gset
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = warning;
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier, crm_integrator;
SELECT crm.register_kind('x_k', NULL, NULL);
SELECT crm.add_integration('one', 'x_k', 'http://127.0.0.1:1', '{}', 'canary-7f3a/9') AS one \gset
SELECT crm.add_integration('two', 'x_k', 'http://127.0.0.1:1') AS two \gset
SELECT crm.secret_value(:one), crm.secret_value(:two) IS NULL, crm.secret_value(:one, 'other') IS NULL;
-- a file is read at each use; the last line end is dropped
SELECT crm.set_secret('two', 'file:' || current_setting('data_directory') || '/integration_secret.test');
SAVEPOINT s;
SELECT replace(crm.secret_file_problem(file), current_setting('data_directory'), '') FROM crm.secret WHERE integration_id = :two;
COPY (SELECT 'from a file') TO PROGRAM 'cat > integration_secret.test';
SELECT crm.secret_value(:two);
COPY (SELECT 'changed') TO PROGRAM 'cat > integration_secret.test';
SELECT crm.secret_value(:two);
COPY (SELECT 1) TO PROGRAM 'head -c 70000 /dev/zero > integration_secret.test; cat > /dev/null';
SELECT crm.secret_file_problem(file) FROM crm.secret WHERE integration_id = :two;
COPY (SELECT 1) TO PROGRAM 'head -c 7 /dev/zero > integration_secret.test; cat > /dev/null';
SELECT crm.secret_file_problem(file) FROM crm.secret WHERE integration_id = :two;
COPY (SELECT 1) TO PROGRAM 'rm -f integration_secret.test; cat > /dev/null';
SELECT crm.secret_file_problem('/dev/zero'), crm.secret_file_problem('/etc'), crm.secret_file_problem('etc/passwd');
SELECT crm.secret_file('/nowhere/at/all');
ROLLBACK TO s;
SELECT crm.set_secret('nobody', 'x');
ROLLBACK TO s;
SELECT crm.set_secret('one', repeat('x', 70000));
ROLLBACK TO s;
-- nobody else
SET LOCAL ROLE crm_director;
SELECT crm.secret_value(:one);
ROLLBACK TO s;
SET LOCAL ROLE crm_integrator;
SELECT * FROM crm.secret;
ROLLBACK TO s;
SET LOCAL ROLE crm_bi_reader;
SELECT crm.secret_file('/etc/hostname');
ROLLBACK TO s;
CREATE ROLE integration_secret_author LOGIN IN ROLE crm_integrator;
SET LOCAL SESSION AUTHORIZATION integration_secret_author;
\set VERBOSITY sqlstate
SAVEPOINT t;
SELECT crm.secret_value(:one);
ROLLBACK TO t;
SELECT crm.cursor_value(:one, 'x');
ROLLBACK TO t;
RESET SESSION AUTHORIZATION;
\set VERBOSITY default
-- a kind's function gets the secret of its own integration only
CREATE FUNCTION k.judge(integration_id bigint, reply crm.reply) RETURNS text LANGUAGE sql AS $$ SELECT current_user || ' ' || coalesce(crm.secret_value(($2).ref), 'none') $$;
ALTER FUNCTION k.judge OWNER TO integration_secret_author;
SELECT crm.call_judge('k.judge', :one, ROW (:one, 200, '', NULL, NULL, true, 1, NULL)::crm.reply, 1000);
SAVEPOINT t;
SELECT regexp_replace(crm.call_judge('k.judge', :two, ROW (:one, 200, '', NULL, NULL, true, 1, NULL)::crm.reply, 1000), '\d+', 'N', 'g') WHERE false;
DO $$ BEGIN
	PERFORM crm.call_judge('k.judge', (SELECT id FROM crm.integration WHERE name = 'two'), ROW ((SELECT id FROM crm.integration WHERE name = 'one'), 200, '', NULL, NULL, true, 1, NULL)::crm.reply, 1000);
EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING '42501 for the secret of another integration';
END $$;
-- masked: plain, percent-encoded and in base64
SELECT convert_from(crm.masked(:one, 'a canary-7f3a/9 b canary-7f3a%2F9 c Y2FuYXJ5LTdmM2EvOQ== d canary'), 'UTF8');
SELECT crm.reject(:one, 'reply with canary-7f3a/9', 'it said canary-7f3a/9', NULL, 'token=canary-7f3a%2F9') IS NOT NULL;
SELECT what, reason, convert_from(bytes, 'UTF8') FROM crm.rejected;
SELECT crm.integration_failed(:one, 'login as canary-7f3a/9 failed');
SELECT last_error FROM crm.integration_state;
-- taken away
SELECT crm.set_secret('one', NULL);
SELECT count(*) FROM crm.secret WHERE integration_id = :one;
SELECT promise, ok FROM crm.selftest() WHERE promise LIKE 'secrets%';
GRANT SELECT ON crm.secret TO crm_director;
SELECT promise, ok, evidence FROM crm.selftest() WHERE promise LIKE 'secrets%';
ROLLBACK;
