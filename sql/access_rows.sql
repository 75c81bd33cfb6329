-- promise 8: a manager sees and writes his own clients and deals, a head those of the team and of the teams below, a
-- deputy those of whom he stands in for, director and BI all; what belongs to nobody is the heads'. claims 97 and 105.
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
CREATE ROLE access_a LOGIN IN ROLE crm_manager;
CREATE ROLE access_b LOGIN IN ROLE crm_manager;
CREATE ROLE access_c LOGIN IN ROLE crm_manager;
CREATE ROLE access_head LOGIN IN ROLE crm_head;
CREATE ROLE access_top LOGIN IN ROLE crm_head;
CREATE ROLE access_director LOGIN IN ROLE crm_director;
CREATE ROLE access_bi LOGIN IN ROLE crm_bi_reader;
CREATE ROLE access_nobody LOGIN IN ROLE crm_manager;
INSERT INTO crm.team (id, name, parent_id) VALUES (1, 'Region', NULL), (2, 'North', 1), (3, 'South', 1);
INSERT INTO crm.employee (id, name, role_name, team_id, is_head, dismissed_at) VALUES (1, 'Anna', 'access_a', 2, false, NULL), (2, 'Boris', 'access_b', 2, false, NULL),
	(3, 'Clara', 'access_c', 3, false, NULL), (4, 'Helen', 'access_head', 2, true, NULL), (5, 'Tom', 'access_top', 1, true, NULL), (6, 'Gone', 'access_nobody', 2, false, '2026-11-01');
INSERT INTO crm.company (id, name, owner_id, is_client, is_carrier) VALUES (1, 'Alpha of A', 1, true, false), (2, 'Beta of B', 2, true, false), (3, 'Gamma of C', 3, true, false),
	(4, 'Delta of nobody', NULL, true, false), (5, 'Epsilon of the dismissed', 6, true, false), (6, 'carrier of nobody', NULL, false, true);
SELECT setval(pg_get_serial_sequence('crm.company', 'id'), 100);
INSERT INTO crm.contact (id, company_id, name) SELECT 700100 + c.id, c.id, 'Person of ' || c.name FROM crm.company c;
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT c.id, 'email', c.id || '@example.com' FROM crm.contact c WHERE c.id BETWEEN 700101 AND 700110;
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, owner_id, name)
	SELECT v.id, s.funnel_id, s.id, v.company_id, v.owner_id, v.name
	FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id AND f.code = 'delivery' AND s.code = 'new',
	(VALUES (1, 1, 1, 'own'), (2, 2, 2, 'of B'), (3, 1, 3, 'handed over to C'), (4, 2, 6, 'of the dismissed at B''s'), (5, 4, NULL, 'of nobody')) AS v(id, company_id, owner_id, name);

CREATE FUNCTION pg_temp.sees() RETURNS TABLE (what text, rows_ text) LANGUAGE sql AS $$
	SELECT 'companies', (SELECT string_agg(c.id::text, ' ' ORDER BY c.id) FROM crm.company c)
	UNION ALL SELECT 'people', (SELECT string_agg(c.id::text, ' ' ORDER BY c.id) FROM crm.contact c WHERE c.id BETWEEN 700101 AND 700110)
	UNION ALL SELECT 'deals', (SELECT string_agg(d.id::text, ' ' ORDER BY d.id) FROM crm.deal d)
$$;
\echo A: own, and the deal at the own client that was handed over
SET LOCAL SESSION AUTHORIZATION access_a;
SELECT * FROM pg_temp.sees();
SELECT count(*) FROM crm.contact_point;
SELECT count(DISTINCT l.deal_id) FROM crm.stage_log l;
\echo B
SET LOCAL SESSION AUTHORIZATION access_b;
SELECT * FROM pg_temp.sees();
\echo C: the client of a card that was handed over, as long as it is open
SET LOCAL SESSION AUTHORIZATION access_c;
SELECT * FROM pg_temp.sees();
RESET SESSION AUTHORIZATION;
UPDATE crm.deal SET stage_id = (SELECT s.id FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = 'delivery' AND s.code = 'lost') WHERE id = 3;
SET LOCAL SESSION AUTHORIZATION access_c;
SELECT * FROM pg_temp.sees();
\echo the head of North, and of the region above it
SET LOCAL SESSION AUTHORIZATION access_head;
SELECT * FROM pg_temp.sees();
SET LOCAL SESSION AUTHORIZATION access_top;
SELECT * FROM pg_temp.sees();
\echo director; BI; a login of one who has left
SET LOCAL SESSION AUTHORIZATION access_director;
SELECT * FROM pg_temp.sees();
SET LOCAL SESSION AUTHORIZATION access_bi;
SELECT count(*) FROM crm.company;
SET LOCAL SESSION AUTHORIZATION access_nobody;
SELECT * FROM pg_temp.sees();
\echo who stands in sees for those days
RESET SESSION AUTHORIZATION;
INSERT INTO crm.absence (employee_id, days, kind, deputy_id) VALUES (2, '[2026-11-23,2026-11-25)', 'leave', 3);
SET LOCAL SESSION AUTHORIZATION access_c;
SELECT * FROM pg_temp.sees();
RESET SESSION AUTHORIZATION;
SELECT crm.set_now('2026-11-25 09:00Z', 0);
SET LOCAL SESSION AUTHORIZATION access_c;
SELECT * FROM pg_temp.sees();

\echo what A writes
SET LOCAL SESSION AUTHORIZATION access_a;
INSERT INTO crm.company (name, owner_id) VALUES ('New of A', crm.me()) RETURNING name, owner_id;
INSERT INTO crm.company (name) VALUES ('of nobody');
INSERT INTO crm.company (name, owner_id) VALUES ('for B', 2);
INSERT INTO crm.company (id, name, owner_id) VALUES (999, 'with a number', crm.me());
UPDATE crm.company SET name = 'Alpha' WHERE id = 1 RETURNING name;
UPDATE crm.company SET name = 'theirs' WHERE id = 2;
UPDATE crm.company SET owner_id = 2 WHERE id = 1;
UPDATE crm.company SET owner_id = crm.me() WHERE id = 6 RETURNING name;
DELETE FROM crm.company WHERE id = 1;
INSERT INTO crm.contact (company_id, name) VALUES (1, 'New person') RETURNING name;
INSERT INTO crm.contact (company_id, name) VALUES (2, 'at B''s');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (700102, 'email', 'x@example.com');
SELECT crm.move(1, 'agreed');
SELECT crm.move(2, 'agreed');
INSERT INTO crm.stage_log (deal_id, to_stage_id, at) VALUES (1, 1, crm.now());
\echo a deal of one''s own at a hidden client, which would show it; with a hidden contact; for another one
INSERT INTO crm.deal (funnel_id, stage_id, company_id, owner_id, name) SELECT d.funnel_id, d.stage_id, 2, 1, 'spy' FROM crm.deal d WHERE d.id = 1;
INSERT INTO crm.deal (funnel_id, stage_id, contact_id, owner_id, name) SELECT d.funnel_id, d.stage_id, 700102, 1, 'spy' FROM crm.deal d WHERE d.id = 1;
UPDATE crm.deal SET company_id = 2 WHERE id = 1;
INSERT INTO crm.deal (funnel_id, stage_id, owner_id, name) SELECT d.funnel_id, d.stage_id, 2, 'gift' FROM crm.deal d WHERE d.id = 1;
\echo a deal at the own client is handed over, and stays seen
UPDATE crm.deal SET owner_id = 3 WHERE id = 1 RETURNING owner_id;
SELECT name FROM crm.deal WHERE id = 1;
\echo C, who has it, sees the client and cannot take it
SET LOCAL SESSION AUTHORIZATION access_c;
SELECT id FROM crm.company WHERE id = 1;
UPDATE crm.company SET owner_id = 3 WHERE id = 1;
SELECT owner_id FROM crm.company WHERE id = 1;
\echo the head gives clients to people of the team, those of nobody too, and to no other team
SET LOCAL SESSION AUTHORIZATION access_head;
UPDATE crm.company SET owner_id = 2 WHERE id IN (1, 4, 5);
SELECT id, owner_id FROM crm.company WHERE id IN (1, 4, 5) ORDER BY id;
UPDATE crm.company SET owner_id = 3 WHERE id = 1;
\echo settings and roles change nothing of who speaks
SET LOCAL SESSION AUTHORIZATION access_a;
SET crm.me = '2';
SET LOCAL ROLE crm_manager;
SELECT crm.me(), count(*) FROM crm.company WHERE owner_id = 2;
RESET ROLE;
SELECT crm.speak_as(2, 'x');
SELECT crm.act_as(2, 'x');
RESET SESSION AUTHORIZATION;
\echo a superuser may be anybody
SET LOCAL ROLE access_b;
SELECT crm.me();
RESET ROLE;
\echo a ring of teams ends
UPDATE crm.team SET parent_id = 2 WHERE id = 1;
SET LOCAL SESSION AUTHORIZATION access_top;
SELECT count(*) > 0 FROM crm.company;
RESET SESSION AUTHORIZATION;
\echo figures: A''s report counts what was sold while the client was his; the client itself is B''s now
INSERT INTO crm.company (id, name, owner_id) VALUES (20, 'Once of A', 1);
SELECT crm.set_now('2026-11-26 09:00Z', 0);
INSERT INTO crm.customer_order (id, number, company_id, product, tonnes) VALUES (20, 'O-20', 20, 'Cement', 20);
INSERT INTO crm.shipment (id, order_id, product, tare_kg, gross_kg, net_kg, weighed_at, waybill) VALUES (20, 20, 'Cement', 15000, 35000, 20000, '2026-11-26 08:00Z', 'W-20');
SELECT crm.set_now('2026-11-27 09:00Z', 0);
UPDATE crm.company SET owner_id = 2 WHERE id = 20;
SET LOCAL SESSION AUTHORIZATION access_a;
SELECT level, employee, ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'en');
SELECT fact_id, employee_name, company_name, weight, details FROM crm.kpi_rows('ship_t', '2026-11-01', '2026-12-01');
SET LOCAL client_min_messages = notice;
SELECT * FROM crm.kpi_reconcile('2026-11-01', '2026-12-01');
SET LOCAL client_min_messages = warning;
SELECT count(*) FROM crm.company WHERE id = 20;
SET LOCAL SESSION AUTHORIZATION access_b;
SELECT level, employee, ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'en');
SELECT count(*) FROM crm.shipment WHERE id = 20;
SET LOCAL SESSION AUTHORIZATION access_director;
SELECT level, employee, ship_t FROM crm.kpi_report('2026-11-01', '2026-12-01', language => 'en') WHERE ship_t > 0;
SELECT fact_id, employee_name, company_name, weight FROM crm.kpi_rows('ship_t', '2026-11-01', '2026-12-01');
RESET SESSION AUTHORIZATION;
ROLLBACK;
