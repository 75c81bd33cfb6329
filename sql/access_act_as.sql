-- promise 8: a pooled login is nobody until crm.act_as() has checked a ticket; then it speaks for one employee until the
-- transaction ends. No setting, savepoint, prepared statement or other login gets round it.
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE ROLE access_pool LOGIN IN ROLE crm_gateway;
CREATE ROLE access_other LOGIN IN ROLE crm_gateway;
CREATE ROLE access_plain LOGIN IN ROLE crm_manager;
CREATE ROLE access_chief NOLOGIN IN ROLE crm_director;
CREATE ROLE access_both LOGIN IN ROLE crm_gateway, crm_director;
INSERT INTO crm.team (id, name) VALUES (9001, 'North of act_as');
INSERT INTO crm.employee (id, name, team_id, is_head, role_name, dismissed_at) VALUES (9001, 'Anna', 9001, false, NULL, NULL), (9002, 'Boris', 9001, false, NULL, NULL), (9003, 'Helen', 9001, true, NULL, NULL),
	(9004, 'Chief', NULL, false, 'access_chief', NULL), (9005, 'Gone', 9001, false, NULL, NULL);
INSERT INTO crm.company (id, name, owner_id) VALUES (9001, 'Alpha of act_as', 9001), (9002, 'Beta of act_as', 9002), (9003, 'Gamma of act_as', NULL);
SELECT length(crm.issue_ticket(9001, 'access_pool')) > 40;
SELECT crm.issue_ticket(9001, 'access_pool') AS a, crm.issue_ticket(9002, 'access_pool', '1 hour') AS b, crm.issue_ticket(9003, 'access_pool') AS head, crm.issue_ticket(9004, 'access_pool') AS chief,
	crm.issue_ticket(9005, 'access_pool') AS gone, crm.issue_ticket(9001, 'access_other') AS other \gset
UPDATE crm.employee SET dismissed_at = crm.now() WHERE id = 9005;
\echo tickets that are not issued
SELECT crm.issue_ticket(999999, 'access_pool');
SELECT crm.issue_ticket(9005, 'access_pool');
SELECT crm.issue_ticket(9001, 'access_plain');
SELECT crm.issue_ticket(9001, 'postgres');
SELECT crm.issue_ticket(9001, 'no_such_login');
SELECT crm.issue_ticket(9001, 'access_pool', '1 second'), crm.issue_ticket(9001, 'access_pool', '2 years');
SELECT count(*) FROM crm.ticket t WHERE t.hash = sha256(convert_to(:'a', 'UTF8'));
\echo without a ticket: nobody
SET SESSION AUTHORIZATION access_pool;
SELECT crm.me() IS NULL, crm.me_name(), crm.visible_employees(), crm.speaks();
SELECT count(*) FROM crm.company;
SELECT count(*) FROM crm.employee;
SELECT hash FROM crm.ticket;
SELECT crm.issue_ticket(9001, 'access_pool');
SELECT crm.speak_as(9001, 'x');
SELECT crm.plant_door(true);
\echo with one: for the transaction, whatever its statements do
BEGIN;
SELECT crm.act_as(9001, :'a');
SELECT crm.me(), crm.me_name(), (SELECT string_agg(name, ', ') FROM crm.company);
RESET ALL;
SET SESSION AUTHORIZATION DEFAULT;
SELECT crm.me() IS NULL;
SET SESSION AUTHORIZATION access_pool;
SET LOCAL ROLE crm_gateway;
SELECT crm.me(), (SELECT string_agg(name, ', ') FROM crm.company);
RESET ROLE;
SELECT crm.act_as(9001, :'a');
SAVEPOINT s;
SELECT crm.act_as(9002, :'b');
ROLLBACK TO s;
SELECT crm.me();
COMMIT;
SELECT crm.me() IS NULL, count(*) FROM crm.company;
\echo one statement is one transaction
SELECT crm.act_as(9001, :'a');
SELECT count(*) FROM crm.company;
\echo a savepoint that is released hands it on, as drivers do it; one that is rolled back takes it away
BEGIN;
SAVEPOINT s;
SELECT crm.act_as(9002, :'b');
RELEASE s;
SELECT crm.me();
SAVEPOINT s;
ROLLBACK TO s;
SELECT crm.me();
COMMIT;
BEGIN;
SAVEPOINT s;
SELECT crm.act_as(9002, :'b');
ROLLBACK TO s;
SELECT crm.me() IS NULL;
SELECT crm.act_as(9001, :'a');
SELECT crm.me();
ROLLBACK;
SELECT crm.me() IS NULL;
DO $$
BEGIN
	PERFORM set_config('crm.me', '9001', false);
EXCEPTION WHEN OTHERS THEN
	RAISE WARNING '%', SQLERRM;
END $$;
\echo the head of the team, and a director through the role that the employee has
BEGIN;
SELECT crm.act_as(9003, :'head');
SELECT string_agg(name, ', ' ORDER BY id) FROM crm.company WHERE id BETWEEN 9001 AND 9003;
COMMIT;
BEGIN;
SELECT crm.act_as(9004, :'chief');
SELECT crm.sees_all(), string_agg(name, ', ' ORDER BY id) FROM crm.company WHERE id BETWEEN 9001 AND 9003;
COMMIT;
\echo one answer to all that does not hold: another employee, another login''s, the dismissed, none
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT crm.act_as(9002, :'a');
\set VERBOSITY terse
SELECT crm.act_as(9001, :'other');
SELECT crm.act_as(9005, :'gone');
SELECT crm.act_as(9001, 'guess');
SELECT crm.act_as(NULL, NULL);
SET SESSION AUTHORIZATION access_plain;
SELECT crm.act_as(9001, :'a');
RESET SESSION AUTHORIZATION;
SELECT crm.act_as(9001, :'a');
\echo taken back, and at its end
SELECT crm.revoke_tickets(9003, 'access_pool');
UPDATE crm.ticket SET expires_at = clock_timestamp() WHERE employee_id = 9004;
SET SESSION AUTHORIZATION access_pool;
SELECT crm.act_as(9003, :'head');
SELECT crm.act_as(9004, :'chief');
\echo a pooled login that is a director too sees nothing by that
SET SESSION AUTHORIZATION access_both;
SELECT count(*) FROM crm.company;
SELECT crm.sees_company(9001), crm.sees_all();
RESET SESSION AUTHORIZATION;
\echo A and B by turns, a thousand times, prepared once
CREATE TABLE public.access_seen (who bigint, company_id bigint, n bigint);
GRANT INSERT, SELECT ON public.access_seen TO access_pool;
SET SESSION AUTHORIZATION access_pool;
PREPARE mine AS INSERT INTO public.access_seen SELECT crm.me(), c.id, 1 FROM crm.company c;
PREPARE one(bigint) AS INSERT INTO public.access_seen SELECT crm.me(), c.id, 2 FROM crm.company c WHERE c.id = $1;
\set ECHO none
SELECT 'BEGIN' AS a, format('SELECT crm.act_as(%s, %L)', 9001 + n % 2, CASE n % 2 WHEN 0 THEN :'a' ELSE :'b' END) AS b, 'EXECUTE mine' AS c, format('EXECUTE one(%s)', 9001 + (n / 2) % 2) AS d, 'COMMIT' AS e
FROM generate_series(1, 1000) n
\o /dev/null
\gexec
\o
\set ECHO all
RESET SESSION AUTHORIZATION;
SELECT who, company_id, n, count(*) FROM public.access_seen GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
\echo no ticket is in a dump
SELECT count(*) FROM crm.dump_rule WHERE table_name = 'crm.ticket' AND condition IS NULL;
DROP TABLE public.access_seen;
DELETE FROM crm.ticket;
DELETE FROM crm.company WHERE id BETWEEN 9001 AND 9003;
DELETE FROM crm.employee WHERE id BETWEEN 9001 AND 9005;
DELETE FROM crm.team WHERE id = 9001;
DROP ROLE access_pool, access_other, access_plain, access_chief, access_both;
