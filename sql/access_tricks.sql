-- promise 8, the known tricks against row-level security: a function of the user's own in WHERE, a cast or a division that
-- fails on a hidden row, a cheap condition put before the policy, conflicts, foreign keys, sequences, COPY, estimates.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET client_min_messages = notice;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0) IS NOT NULL;
SELECT crm.activate('live');
CREATE ROLE access_a LOGIN IN ROLE crm_manager;
INSERT INTO crm.employee (id, name, role_name) VALUES (1, 'Anna', 'access_a'), (2, 'Boris', NULL);
INSERT INTO crm.company (id, name, owner_id, inn, source, source_id) VALUES (1, 'Alpha', 1, NULL, 'erp', 'A-1'), (2, 'hidden', 2, '7707083893', 'erp', 'B-1');
SELECT setval(pg_get_serial_sequence('crm.company', 'id'), 100);
INSERT INTO crm.company (name, owner_id) SELECT 'hidden ' || n, 2 FROM generate_series(1, 500) n;
INSERT INTO crm.contact (id, company_id, name) VALUES (700101, 1, 'Ann'), (700102, 2, 'hidden person');
INSERT INTO crm.contact_point (id, contact_id, kind, value) VALUES (700102, 700102, 'email', 'hidden@example.com');
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, owner_id, name) SELECT c.id, s.funnel_id, s.id, c.id, c.owner_id, c.name
	FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id AND f.code = 'delivery' AND s.code = 'new', crm.company c WHERE c.id IN (1, 2);
ANALYZE crm.company, crm.deal, crm.contact;
SET LOCAL jit = off;
SET LOCAL SESSION AUTHORIZATION access_a;
\echo a leaky function, as cheap as can be
CREATE FUNCTION pg_temp.shout(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'seen: %', $1; RETURN true; END $$;
SELECT name FROM crm.company WHERE pg_temp.shout(name);
SELECT name FROM crm.contact WHERE pg_temp.shout(name);
SELECT name FROM crm.deal WHERE pg_temp.shout(name);
SELECT value FROM crm.contact_point WHERE pg_temp.shout(value);
SELECT client FROM crm_bi.dim_client WHERE pg_temp.shout(client);
SELECT d.name FROM crm.deal d JOIN crm.company c ON c.id = d.company_id AND pg_temp.shout(c.name) ORDER BY pg_temp.shout(d.name);
SELECT recipient FROM crm.message WHERE pg_temp.shout(recipient);
CREATE OPERATOR pg_temp.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = starts_with, RESTRICT = scalarltsel);
SELECT count(*) FROM crm.company WHERE name OPERATOR(pg_temp.<<<) 'hidden';
\echo errors of a cast and of a division
SELECT count(*) FROM crm.company WHERE name::integer > 0 AND name <> 'Alpha';
SELECT count(*) FROM crm.company WHERE 1 / (id - 2) > -5;
SELECT count(*) FROM crm.company WHERE CASE WHEN inn IS NOT NULL THEN 1 / (length(inn) - 10) > 0 ELSE true END;
\echo updates and locks of what is hidden
UPDATE crm.company SET name = name || pg_temp.shout(name)::text WHERE id = 2;
SELECT name FROM crm.company WHERE id = 2 FOR UPDATE;
\echo keys: no number and no source of one''s own choice, and a conflict with a hidden row says nothing of it
INSERT INTO crm.company (name, owner_id, source, source_id) VALUES ('x', 1, 'erp', 'B-1');
INSERT INTO crm.company (id, name, owner_id) VALUES (2, 'x', 1) ON CONFLICT (id) DO UPDATE SET owner_id = 1;
INSERT INTO crm.contact (company_id, name) VALUES (2, 'x');
INSERT INTO crm.contact (company_id, name) VALUES (999999, 'x');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (700102, 'email', 'hidden@example.com');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (999999, 'email', 'hidden@example.com');
UPDATE crm.contact SET company_id = 2 WHERE id = 700101;
UPDATE crm.contact SET company_id = 999999 WHERE id = 700101;
UPDATE crm.company SET owner_id = 2 WHERE id = 1;
UPDATE crm.company SET owner_id = 999999 WHERE id = 1;
\echo sequences
SELECT currval('crm.company_id_seq');
SELECT nextval('crm.company_id_seq');
SELECT last_value FROM crm.company_id_seq;
SELECT last_value FROM pg_sequences WHERE schemaname = 'crm' AND sequencename = 'company_id_seq';
\echo COPY gives what is seen
COPY (SELECT name FROM crm.company) TO STDOUT;
COPY crm.company (name) TO STDOUT;
COPY crm.company (name, owner_id) FROM STDIN;
\.
SET row_security = off;
SELECT count(*) FROM crm.company;
RESET row_security;
\echo statistics
SELECT count(*) FROM pg_stats WHERE schemaname = 'crm' AND tablename IN ('company', 'contact', 'deal');
CREATE FUNCTION pg_temp.estimate(query text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE plan json; BEGIN EXECUTE 'EXPLAIN (FORMAT json) ' || query INTO plan; RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows'; END $$;
SELECT pg_temp.estimate('SELECT FROM crm.company WHERE name = ''hidden''') = pg_temp.estimate('SELECT FROM crm.company WHERE name = ''nothing of that name''') AS no_telling;
SELECT pg_temp.estimate('SELECT FROM crm.company WHERE name LIKE ''hidden%''') = pg_temp.estimate('SELECT FROM crm.company WHERE name LIKE ''zzzzz%''') AS no_telling;
\echo nothing may be planted
CREATE TRIGGER t BEFORE INSERT ON crm.company FOR EACH ROW EXECUTE FUNCTION crm.append_only();
CREATE POLICY p ON crm.company USING (true);
ALTER TABLE crm.company DISABLE ROW LEVEL SECURITY;
CREATE RULE r AS ON SELECT TO crm.company DO INSTEAD SELECT 1;
SET LOCAL ROLE crm_director;
RESET SESSION AUTHORIZATION;
\echo the policy asks its functions once a query, and an index finds what is one''s own
SET LOCAL SESSION AUTHORIZATION access_a;
SET LOCAL enable_seqscan = off;
EXPLAIN (COSTS off) SELECT name FROM crm.deal;
RESET SESSION AUTHORIZATION;
ROLLBACK;
