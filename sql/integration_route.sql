-- Inbound: a path with a token names a function; unknown routes, wrong tokens, methods and sizes; recorded reports of a gateway.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate();
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier;
CREATE FUNCTION k.report(integration_id bigint, request crm.http_request) RETURNS crm.http_response LANGUAGE plpgsql AS $$
DECLARE
	answer crm.http_response;
BEGIN
	IF request.query = 'nothing' THEN
		RETURN NULL;
	ELSIF request.query = 'bad' THEN
		answer.status := 99;
	ELSIF request.query = 'error' THEN
		RAISE EXCEPTION 'no such message';
	ELSE
		answer.status := 200;
		answer.headers := ARRAY['Content-Type: text/plain; charset=utf-8'];
		answer.body := convert_to(format('%s|%s|%s|%s|%s|%s', current_user, request.method, request.path, crm.form_value(request.query, 'id'),
			crm.form_value(request.query, 'a'), crm.header_value(request.headers, 'user-agent')), 'UTF8');
	END IF;
	RETURN answer;
END $$;
CREATE FUNCTION k.wrong(integration_id bigint, request text) RETURNS crm.http_response LANGUAGE sql AS $$ SELECT NULL::crm.http_response $$;
SELECT crm.register_kind('x_k', NULL, NULL);
SELECT crm.add_integration('sms', 'x_k', '') AS sms \gset
SAVEPOINT s;
SELECT crm.add_route('sms', 'dlr', 'k.wrong');
ROLLBACK TO s;
SELECT crm.add_route('nobody', 'dlr', 'k.report');
ROLLBACK TO s;
SELECT crm.add_route('sms', 'd/r', 'k.report');
ROLLBACK TO s;
SELECT crm.add_route('sms', 'dlr', 'k.report', '{GET,CONNECT}');
ROLLBACK TO s;
SELECT crm.add_route('sms', 'dlr', 'k.report', max_body_bytes => -1);
ROLLBACK TO s;
SELECT crm.add_route('sms', 'dlr', 'k.report', max_body_bytes => 10) AS path \gset
SELECT :'path' ~ '^/h/sms/dlr/[0-9a-f]{64}$';
-- only the hash is kept where a dump sees it
SELECT count(*) FROM crm.route r WHERE r::text LIKE '%' || split_part(:'path', '/', 5) || '%';
SELECT name, methods, max_body_bytes, enabled FROM crm.route;
CREATE FUNCTION k.ask(VARIADIC requests crm.http_request[]) RETURNS SETOF text LANGUAGE sql AS
	$$ SELECT format('%s %s %s', h.status, h.headers, convert_from(h.body, 'UTF8')) FROM crm.listener_handle(requests) h $$;
-- answers come in the order of the requests; the function sees what follows the token and never the token
SELECT k.ask(
	ROW ('GET', :'path', 'id=43&st=1&a=%D0%94%D0%B0+NACK%2F', E'Host: x\nUser-Agent: Kannel/1.4.5\n', '', '127.0.0.1'),
	ROW ('POST', :'path' || '/more/of%20it', '', '', 'id=1', '127.0.0.1'),
	ROW ('GET', :'path' || '/', 'id=%FF%00', '', '', '127.0.0.1'),
	ROW ('GET', :'path', 'nothing', '', '', '127.0.0.1'),
	ROW ('GET', :'path' || 'x', '', '', '', '127.0.0.1'),
	ROW ('GET', '/h/sms/dlr', '', '', '', '127.0.0.1'),
	ROW ('GET', '/h/sms/dlr/', '', '', '', '127.0.0.1'),
	ROW ('GET', '', '', '', '', '127.0.0.1'),
	ROW ('GET', 'h' || :'path', '', '', '', '127.0.0.1'),
	ROW ('GET', replace(:'path', 'sms', 'mail'), '', '', '', '127.0.0.1'),
	ROW ('DELETE', :'path', '', '', '', '127.0.0.1'),
	ROW ('POST', :'path', '', '', '12345678901', '127.0.0.1'));
-- an error of one ends the batch; the listener keeps the culprit's bytes
SAVEPOINT s;
SELECT k.ask(ROW ('GET', :'path', 'id=1', '', '', 'p'), ROW ('GET', :'path', 'error', '', '', 'p'));
ROLLBACK TO s;
SELECT k.ask(ROW ('GET', :'path', 'bad', '', '', 'p'));
ROLLBACK TO s;
SELECT crm.listener_reject(ROW ('POST', :'path', 'error=1', '', 'the body', 'p')::crm.http_request, 'P0001', 'no such message for ' || :'path');
SELECT integration_id = :sms, what, reason, sqlstate, convert_from(bytes, 'UTF8') FROM crm.rejected;
-- a new token, and the old path is unknown; switched off is unknown too
SELECT crm.add_route('sms', 'dlr', 'k.report') AS fresh \gset
SELECT k.ask(ROW ('GET', :'path', 'id=1', '', '', 'p'), ROW ('GET', :'fresh', 'id=1', '', '', 'p'));
UPDATE crm.route SET enabled = false;
SELECT k.ask(ROW ('GET', :'fresh', 'id=1', '', '', 'p'));
SELECT count(*) FROM crm.listener_routes();
UPDATE crm.route SET enabled = true;
-- the address to give to a service
SELECT crm.route_url(:sms, 'dlr') IS NULL AS listener_is_off;
SELECT severity, message FROM crm.health WHERE subject = 'listener';
SELECT crm.listen(18080);
SELECT crm.listener_address();
SELECT crm.route_url(:sms, 'dlr') = 'http://127.0.0.1:18080' || :'fresh', crm.route_url(:sms, 'none') IS NULL;
SELECT crm.listen(18080, '::1');
SELECT crm.listen(18080, '0.0.0.0');
SELECT crm.route_url(:sms, 'dlr') LIKE 'http://127.0.0.1:18080/h/sms/%';
UPDATE crm.integration SET settings = '{"callback_url": "https://plant.example/"}';
SELECT crm.route_url(:sms, 'dlr') LIKE 'https://plant.example/h/sms/%';
SAVEPOINT s;
SELECT crm.listen(0);
ROLLBACK TO s;
SELECT crm.listen(18080, 'localhost');
ROLLBACK TO s;
SELECT crm.listen(18080, '10.0.0.0/8');
ROLLBACK TO s;
SELECT crm.listen(NULL);
SELECT crm.listener_address();
-- after a restore the token is gone, the old path works and health says what to do
DELETE FROM crm.secret;
SELECT crm.route_url(:sms, 'dlr') IS NULL;
SELECT k.ask(ROW ('GET', :'fresh', 'id=1', '', '', 'p'));
SELECT severity, message, hint FROM crm.health WHERE subject = 'integration sms';
-- a function that is gone shows in health
ALTER FUNCTION k.report RENAME TO gone;
SELECT severity, message FROM crm.health WHERE subject = 'integration sms' AND message LIKE '%k.report%';
-- not active: nothing is taken
SET LOCAL crm.mode = 'off';
SELECT k.ask(ROW ('GET', :'fresh', 'id=1', '', '', 'p'));
-- header lines
SELECT crm.header_value(E'HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:  two words \r\nX-AB: 3\r\nEmpty:\r\n', h) FROM unnest(ARRAY['X-A', 'x-ab', 'empty', 'none', '']) h;
ROLLBACK;
