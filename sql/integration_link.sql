-- Links (claims 48, 54a, 55, 73): a token that is nowhere but in the address; bad input; what links begin with; closing; upkeep.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('sandbox');
SELECT crm.set_now('2026-11-30 10:00+03', 0) IS NOT NULL;
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE FUNCTION k.page(link_id bigint, request crm.http_request) RETURNS crm.http_response LANGUAGE sql AS
	$$ SELECT ROW (200, NULL, convert_to(format('%s %s %s', current_user, request.method, request.path), 'UTF8'))::crm.http_response $$;
SAVEPOINT s;
SELECT crm.register_link_purpose('page', 'k.page');
ROLLBACK TO s;
SELECT crm.register_link_purpose('x_Page', 'k.page');
ROLLBACK TO s;
SELECT crm.register_link_purpose('x_page', 'k.none');
ROLLBACK TO s;
SELECT crm.register_link_purpose('x_page', 'k.page', 16777217);
ROLLBACK TO s;
SELECT crm.register_link_purpose('x_page', 'k.page');
-- what links begin with: nothing, the listener, the setting; a running session sees ALTER DATABASE
SELECT crm.link_base() IS NULL;
SELECT crm.make_link('x_page', 'trip', 7, NULL) IS NULL;
SELECT severity, message FROM crm.health WHERE subject = 'links';
SELECT crm.listen(18080, '0.0.0.0');
SELECT crm.link_base();
SELECT crm.make_link('x_page', 'trip', 7, NULL) ~ '^http://127\.0\.0\.1:18080/l/x_page/[A-Za-z0-9]{22}$';
SELECT severity, message FROM crm.health WHERE subject = 'links';
SET LOCAL crm.public_url = 'https://conf.example/crm/';
SELECT crm.link_base();
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET crm.public_url = %L', current_database(), 'https://crm.example.com/'); END $$;
SELECT crm.link_base();
SELECT severity, message FROM crm.health WHERE subject = 'links';
SAVEPOINT s;
SET LOCAL crm.public_url = 'https://crm.example.com/?next=';
ROLLBACK TO s;
SET LOCAL crm.public_url = 'ftp://crm.example.com';
ROLLBACK TO s;
SET LOCAL crm.public_url = 'https://user@crm.example.com';
ROLLBACK TO s;
SET LOCAL crm.public_url = 'https:///path';
ROLLBACK TO s;
SET LOCAL ROLE crm_manager;
SET LOCAL crm.public_url = 'https://elsewhere.example';
ROLLBACK TO s;
-- bad input
\set VERBOSITY terse
SELECT crm.make_link('x_none', 'trip', 7, NULL);
\set VERBOSITY default
ROLLBACK TO s;
SELECT crm.make_link('x_page', 'a trip', 7, NULL);
ROLLBACK TO s;
SELECT crm.make_link('x_page', 'trip', NULL, NULL);
ROLLBACK TO s;
SELECT crm.make_link('x_page', 'trip', 7, '2026-11-30 10:00+03');
ROLLBACK TO s;
SELECT crm.make_link('x_page', 'trip', 7, NULL, 0);
ROLLBACK TO s;
-- the token is nowhere in the tables of links; a thousand of them are a thousand
SELECT crm.make_link('x_page', 'trip', 7, '2026-12-01 10:00+03', 1) AS url \gset
SELECT count(*) FROM crm.link l WHERE l::text LIKE '%' || right(:'url', 22) || '%';
SELECT purpose, object_kind, object_id, expires_at, uses, used, closed_at FROM crm.link WHERE token_hash = sha256(right(:'url', 22)::bytea);
SELECT count(DISTINCT crm.link_token()) FROM generate_series(1, 1000);
-- kept: the same address again, until it has expired or is closed
SELECT crm.keep_link('x_page', 'trip', 8, '2026-11-30 12:00+03') AS kept \gset
SELECT :'kept' = crm.keep_link('x_page', 'trip', 8), :'kept' = crm.keep_link('x_page', 'trip', 9);
SELECT crm.set_now('2026-11-30 12:00+03', 0) IS NOT NULL;
SELECT :'kept' = crm.keep_link('x_page', 'trip', 8);
-- closing
SAVEPOINT s;
SELECT crm.close_links('x_page', 'trip', 7, '');
ROLLBACK TO s;
SELECT crm.close_links('x_page', 'trip', 7, 'the trip was cancelled'), crm.close_links('x_page', 'trip', 7, 'again'), crm.close_links(NULL, 'trip', 9, 'all');
SELECT closed_reason, count(*) FROM crm.link GROUP BY 1 ORDER BY 1;
-- upkeep: what ended 90 days ago goes, what nothing has ended stays
SELECT crm.make_link('x_page', 'trip', 10, NULL) IS NOT NULL;
SELECT count(*) FROM crm.link;
SELECT crm.set_now('2027-02-28 11:00+03', 0) IS NOT NULL, crm.link_maintain() IS NOT NULL;
SELECT count(*) FROM crm.link;
SELECT crm.set_now('2027-02-28 13:00+03', 0) IS NOT NULL, crm.link_maintain() IS NOT NULL;
SELECT object_id, expires_at FROM crm.link ORDER BY id;
-- nobody but the owner reads a token that is kept
SELECT has_table_privilege(r.rolname, 'crm.link_kept', 'SELECT'), count(*) FROM pg_roles r WHERE r.rolname LIKE 'crm\_%' AND r.rolname <> 'crm_owner' GROUP BY 1;
ROLLBACK;
