-- promise 8: every change of a row of parties, deals and agreements stands in crm.change_log with who made it; what people
-- enter stands there too, what a source brings does not. Bulk is one call a statement; nobody can change the log.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('off');
CREATE ROLE access_a LOGIN IN ROLE crm_manager;
INSERT INTO crm.employee (id, name, role_name) VALUES (1, 'Anna', 'access_a'), (2, 'Boris', NULL);
\echo what a source brings is not logged, what people enter is
INSERT INTO crm.company (id, name, owner_id, source, source_id) VALUES (1001, 'Alpha', 1, 'erp', 'A-1');
SELECT count(*) FROM crm.change_log WHERE tab = 'crm.company';
SET LOCAL SESSION AUTHORIZATION access_a;
INSERT INTO crm.contact (company_id, name, "position") VALUES (1001, 'Ann', 'buyer') RETURNING id AS contact \gset
RESET SESSION AUTHORIZATION;
SELECT tab, op, employee_id, login, by, old, new - 'id' FROM crm.change_log ORDER BY id;
\echo a change says what it changed; one that changes nothing says nothing
SET LOCAL SESSION AUTHORIZATION access_a;
UPDATE crm.company SET name = 'Alpha II', full_name = NULL, inn = '7707083893' WHERE id = 1001;
UPDATE crm.company SET name = name WHERE id = 1001;
UPDATE crm.company SET name = 'nothing' WHERE false;
RESET SESSION AUTHORIZATION;
SELECT op, employee_id, by, old, new FROM crm.change_log WHERE tab = 'crm.company' ORDER BY id;
\echo robots and the DBA too, with values of every kind, and long ones cut
UPDATE crm.company SET is_carrier = true, archived_at = '2026-11-24 10:00+03', owner_id = 2, full_name = left(repeat('я', 9000), 9000) WHERE id = 1001;
SELECT op, employee_id, old, new - 'full_name', octet_length(new ->> 'full_name') FROM crm.change_log WHERE tab = 'crm.company' ORDER BY id DESC LIMIT 1;
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, owner_id, name, amount) SELECT 1001, s.funnel_id, s.id, 1001, 1, 'deal', 10.50
	FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id AND f.code = 'delivery' AND s.code = 'new';
UPDATE crm.deal SET amount = 1e3, tonnes = 20.125 WHERE id = 1001;
\echo stages are in the stage log
SELECT crm.move(1001, 'agreed');
SELECT op, old, new FROM crm.change_log WHERE tab = 'crm.deal' ORDER BY id;
\echo a deletion keeps what was there
DELETE FROM crm.deal WHERE id = 1001;
SELECT op, old - 'created_at' - 'stage_id' - 'funnel_id', new FROM crm.change_log WHERE tab = 'crm.deal' AND op = 'delete';
\echo thirty thousand rows in one statement
INSERT INTO crm.company (id, name) SELECT n, 'bulk ' || n FROM generate_series(10001, 40000) n;
SELECT count(*) FROM crm.change_log WHERE row_id BETWEEN 10001 AND 40000;
UPDATE crm.company SET language = CASE WHEN id % 2 = 0 THEN 'en' ELSE 'ru' END WHERE id BETWEEN 10001 AND 40000;
SELECT count(*), count(DISTINCT row_id), min(old::text), min(new::text), bool_and(row_id % 2 = 0) FROM crm.change_log WHERE row_id BETWEEN 10001 AND 40000;
\echo a pooled login that speaks for an employee: both stand there
CREATE ROLE access_pool LOGIN IN ROLE crm_gateway;
SELECT crm.issue_ticket(1, 'access_pool') AS ticket \gset
UPDATE crm.company SET owner_id = 1 WHERE id = 1001;
SET LOCAL SESSION AUTHORIZATION access_pool;
SELECT crm.act_as(1, :'ticket');
UPDATE crm.company SET name = 'Alpha III' WHERE id = 1001;
RESET SESSION AUTHORIZATION;
SELECT tab, op, employee_id, login, by, old, new FROM crm.change_log ORDER BY id DESC LIMIT 1;
\echo nobody changes the log; people do not read it, the director does
UPDATE crm.change_log SET by = 'x';
DELETE FROM crm.change_log;
TRUNCATE crm.change_log;
SET LOCAL SESSION AUTHORIZATION access_a;
SELECT count(*) FROM crm.change_log;
INSERT INTO crm.change_log (tab, row_id, op, by) VALUES ('crm.company', 1, 'update', 'x');
SELECT crm.changes_made('crm.company', 'update', '{1}', '{"{}"}', '{"{}"}');
RESET SESSION AUTHORIZATION;
SET LOCAL ROLE crm_director;
SELECT count(*) > 0 FROM crm.change_log;
RESET ROLE;
\echo nor can its trigger be misused
CREATE TABLE public.access_t (id integer);
CREATE TRIGGER t AFTER UPDATE ON public.access_t FOR EACH ROW EXECUTE FUNCTION crm.log_changes();
INSERT INTO public.access_t VALUES (1);
UPDATE public.access_t SET id = 2;
DROP TRIGGER t ON public.access_t;
CREATE TRIGGER t AFTER INSERT ON public.access_t FOR EACH ROW EXECUTE FUNCTION crm.log_changes();
INSERT INTO public.access_t VALUES (1);
SELECT crm.log_changes();
\echo who is forgotten is forgotten here too
SELECT what, changed FROM crm.forget(:contact);
SELECT op, old, new - 'id' FROM crm.change_log WHERE tab = 'crm.contact';
\echo a database that is not active writes none: a restore brings its own
SELECT count(*) AS before FROM crm.change_log \gset
DELETE FROM crm.activation;
UPDATE crm.company SET name = 'asleep' WHERE id = 1001;
SELECT count(*) - :before FROM crm.change_log;
ROLLBACK;
