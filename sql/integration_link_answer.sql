-- Links answered (claims 48, 55, 73): looking never uses one up, a form does; twice is once; unknown, expired, used up and closed look alike.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL crm.public_url = 'https://crm.example.com';
SELECT crm.activate('sandbox');
SELECT crm.set_now('2026-11-30 10:00+03', 0) IS NOT NULL;
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE TABLE k.done (id bigint GENERATED ALWAYS AS IDENTITY, link_id bigint, what text);
GRANT SELECT, INSERT ON k.done TO crm_courier;
CREATE FUNCTION k.page(link_id bigint, request crm.http_request) RETURNS crm.http_response LANGUAGE plpgsql AS $$
DECLARE
	said text;
BEGIN
	IF request.method = 'GET' THEN
		RETURN ROW (200, NULL, convert_to(format('%s sees %s?%s', current_user, request.path, request.query), 'UTF8'))::crm.http_response;
	END IF;
	said := crm.form_field(request, 'say');
	IF said = 'nothing' THEN
		RETURN NULL;
	ELSIF said = 'boom' THEN
		RAISE EXCEPTION 'boom';
	ELSIF said = 'secret' THEN
		RETURN ROW (200, NULL, convert_to(crm.secret_value(link_id), 'UTF8'))::crm.http_response;
	ELSIF said IS NULL THEN
		RETURN ROW (422, NULL, convert_to('say something', 'UTF8'))::crm.http_response;
	END IF;
	INSERT INTO k.done (link_id, what) VALUES (link_id, said);
	RETURN ROW (200, ARRAY['X-A: b'], convert_to(format('%s done as %s', said, (SELECT max(id) FROM k.done)), 'UTF8'))::crm.http_response;
END $$;
SELECT crm.register_link_purpose('x_page', 'k.page', 1000), crm.register_link_purpose('x_other', 'k.page', 1000);
CREATE FUNCTION k.ask(method text, url text, body text DEFAULT '', query text DEFAULT '') RETURNS text LANGUAGE sql AS $$
	SELECT format('%s %s', h.status, CASE WHEN h.status = 404 THEN (h = crm.link_gone())::text ELSE convert_from(h.body, 'UTF8') END)
	FROM crm.listener_handle(ARRAY[ROW (method, regexp_replace(url, '^https?://[^/]*', ''), query, E'Content-Type: application/x-www-form-urlencoded\n', convert_to(body, 'UTF8'), '127.0.0.1')::crm.http_request]) h
$$;
SELECT crm.make_link('x_page', 'trip', 7, '2026-12-01 10:00+03', 1) AS url \gset
-- looking, as often as one likes; what follows the token is handed on, the token is not
SELECT k.ask(m, :'url' || p, '', 'a=1') FROM (VALUES ('GET', ''), ('HEAD', '/'), ('GET', '/a/b')) AS v(m, p);
SELECT used, last_used_at FROM crm.link;
-- what is refused by the page itself, by the method, by its size is no use
SELECT k.ask('POST', :'url', 'x=1'), k.ask('PUT', :'url'), k.ask('POST', :'url', 'say=' || repeat('x', 1000));
-- once; the same form again is answered the same; another one of a link that is used up too
SELECT k.ask('POST', :'url', 'say=yes&once=1'), k.ask('POST', :'url', 'say=no&once=1'), k.ask('POST', :'url', 'say=no&once=2');
SELECT link_id = (SELECT id FROM crm.link), what FROM k.done;
SELECT used FROM crm.link;
-- no oracle: used up, unknown, another purpose, no token, expired, closed
SELECT k.ask('GET', :'url'), k.ask('GET', :'url' || 'x'), k.ask('GET', replace(:'url', 'x_page', 'x_other')), k.ask('GET', '/l/x_none/abc'),
	k.ask('GET', '/l/x_page/'), k.ask('GET', '/l/x_page'), k.ask('GET', '/l'), k.ask('POST', :'url' || 'x', 'say=yes');
SELECT crm.make_link('x_page', 'trip', 7, '2026-12-01 10:00+03') AS url \gset
SELECT k.ask('POST', :'url', 'say=a'), k.ask('POST', :'url', 'say=b'), k.ask('POST', :'url', 'say=a'), k.ask('POST', :'url' || '/rest', 'say=a'), k.ask('POST', :'url', 'say=nothing');
SELECT crm.set_now('2026-12-01 10:00+03', 0) IS NOT NULL;
SELECT k.ask('GET', :'url'), k.ask('POST', :'url', 'say=c'), k.ask('POST', :'url', 'say=b');
SELECT crm.make_link('x_page', 'trip', 7, NULL) AS url \gset
SELECT k.ask('GET', :'url'), crm.close_links('x_page', 'trip', 7, 'over') > 0, k.ask('GET', :'url'), k.ask('POST', :'url', 'say=yes');
-- an error of the page goes through, and the request is kept without the token
SELECT crm.make_link('x_page', 'trip', 8, NULL) AS url \gset
SAVEPOINT s;
SELECT k.ask('POST', :'url', 'say=boom');
ROLLBACK TO s;
SELECT crm.listener_reject(ROW ('POST', regexp_replace(:'url', '^https?://[^/]*', ''), '', '', 'say=boom', 'p')::crm.http_request, 'P0001', 'boom');
SELECT integration_id, what, reason, r::text LIKE '%' || right(:'url', 22) || '%' FROM crm.rejected r;
-- the number of a link is no integration's: its secrets are not a page's
ALTER SEQUENCE crm.integration_id_seq RESTART WITH 900001;
SELECT crm.register_kind('x_k', NULL, NULL) IS NULL, crm.add_integration('k', 'x_k', '', '{}', 'topsecret') > 0;
DELETE FROM crm.link WHERE object_id = 7;
UPDATE crm.link SET id = (SELECT id FROM crm.integration);
SAVEPOINT s;
SELECT k.ask('POST', :'url', 'say=secret');
ROLLBACK TO s;
-- what the listener knows beforehand
SELECT * FROM crm.listener_purposes() WHERE purpose LIKE 'x\_%';
SELECT count(*) FROM crm.listener_links();
-- not active: nothing is said
SET LOCAL crm.mode = 'off';
SELECT k.ask('GET', :'url'), k.ask('GET', :'url' || 'x');
ROLLBACK;
