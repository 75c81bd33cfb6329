-- site_form: forms of the plant's site come in by the listener, on recorded bytes; the same post twice is one lead and gets the same number.
-- claim 8: a modest site: an intake over HTTP, guarded against spam and repetition, and an answer by number and phone
-- claim 53: a lead on Saturday at 22:00 is an SMS to who is on duty, one on Tuesday at 11:00 is none
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/site_form/'
SET timezone = 'UTC';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 11:00+03', 0) IS NOT NULL;
SELECT crm.add_integration('site', 'site_form', '', '{"origins": ["https://plant.test"], "proxy": "true"}') AS site \gset
SELECT crm.add_route('site', 'lead', 'crm.site_form_route', '{GET,POST,OPTIONS}', 65536) AS path \gset
CREATE FUNCTION pg_temp.ask(method text, path text, query text, headers text, body bytea) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('|', h.status, (SELECT string_agg(x, ', ') FROM unnest(h.headers) x WHERE x ~* '^(access-control|location|allow|retry)'), convert_from(h.body, 'UTF8'))
	FROM crm.listener_handle(ARRAY[ROW (method, path, query, headers, body, '127.0.0.1')::crm.http_request]) h $$;
CREATE FUNCTION pg_temp.post(file text, path text, headers text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(pg_temp.ask('POST', path, '', headers, pg_read_binary_file(file)), '"[0-9]+"', '"N"', 'g') $$;
\set form 'Content-Type: application/x-www-form-urlencoded\nOrigin: https://plant.test\nX-Forwarded-For: 203.0.113.1, 203.0.113.2\n'
SELECT pg_temp.post(:'folder' || 'urlencoded.txt', :'path', :'form');
SELECT pg_temp.post(:'folder' || 'urlencoded.txt', :'path', :'form');
SELECT pg_temp.post(:'folder' || 'multipart.txt', :'path', E'Content-Type: multipart/form-data; boundary=----WebKitFormBoundaryX\n');
SELECT pg_temp.post(:'folder' || 'json.txt', :'path', E'Content-Type: application/json\n');
SELECT pg_temp.post(:'folder' || 'cp1251.txt', :'path', E'Content-Type: application/x-www-form-urlencoded\nReferer: https://plant.test/old\n');
SELECT source, source_lead_id, status, form, name, phone, message, channel, address, page_url, extra FROM crm.lead ORDER BY id;
SELECT c.wording FROM crm.consent c;
-- from a script of another site, without anything to answer to, with a body that is no form
SELECT pg_temp.ask('POST', :'path', '', E'Content-Type: application/x-www-form-urlencoded\nOrigin: https://evil.test\n', 'phone=%2B79160000009');
SELECT pg_temp.ask('POST', :'path', '', E'Content-Type: application/x-www-form-urlencoded\n', 'name=x');
SELECT pg_temp.ask('POST', :'path', '', E'Content-Type: text/xml\n', '<a/>');
SELECT pg_temp.ask('POST', :'path', '', E'Content-Type: multipart/form-data; boundary=x\n', 'broken');
SELECT pg_temp.ask('OPTIONS', :'path', '', E'Origin: https://plant.test\nAccess-Control-Request-Method: POST\n', '');
SELECT pg_temp.ask('OPTIONS', :'path', '', E'Origin: https://evil.test\n', '');
SELECT pg_temp.ask('GET', :'path' || '/else', '', '', '');
-- a honeypot is answered like any other, and is spam
SELECT regexp_replace(pg_temp.ask('POST', :'path', '', E'Content-Type: application/x-www-form-urlencoded\n', 'phone=%2B79160000008&website=x'), '"[0-9]+"', '"N"', 'g');
SELECT status, spam_reason FROM crm.lead ORDER BY id DESC LIMIT 1;
-- a token for the site's own form, and a page for a site that has none
SELECT a ~ '^200\|\{"form_token" : "[0-9a-f]+\.[0-9a-f]{40}", "form" : "site", "once" : "[A-Za-z0-9]{22}"\}$' FROM pg_temp.ask('GET', :'path', '', E'Accept: */*\n', '') a;
SELECT a ~ '^200\|<!DOCTYPE html>', a ~ '<form method="post">', a ~ 'name="form_token" value="[0-9a-f]+\.[0-9a-f]{40}"', a ~ 'name="once"', a ~ 'name="website"', a !~ '<script' FROM pg_temp.ask('GET', :'path', '', E'Accept: text/html\nAccept-Language: ru\n', '') a;
SELECT substring(a FROM '<h1>[^<]*</h1>') FROM pg_temp.ask('POST', :'path', '', E'Content-Type: application/x-www-form-urlencoded\nAccept: text/html\n', 'phone=89160000007&name=%3Cscript%3E') a;
SELECT substring(a FROM '^\d+\|'), a ~ '<script>', a ~ '&lt;script&gt;' FROM pg_temp.ask('POST', :'path', '', E'Content-Type: application/x-www-form-urlencoded\nAccept: text/html\n', 'name=%3Cscript%3E') a;
UPDATE crm.integration SET settings = settings || '{"back_url": "https://plant.test/thanks?x=1", "token": true}' WHERE name = 'site';
SELECT regexp_replace(a, 'lead=[0-9]+', 'lead=N') FROM pg_temp.ask('POST', :'path', '', E'Content-Type: application/x-www-form-urlencoded\nAccept: text/html\n', 'phone=89160000006') a;
SELECT status, spam_reason FROM crm.lead ORDER BY id DESC LIMIT 1;
-- where is my order: by number and phone; neither alone tells anything; who guesses is stopped
INSERT INTO crm.company (id, name) VALUES (901, 'Клиент');
INSERT INTO crm.contact (id, name, company_id) VALUES (901, 'Анна', 901);
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '+79160000031');
INSERT INTO crm.customer_order (number, company_id, product, state) VALUES ('ЗК-15', 901, 'Цемент', 'shipping');
SELECT pg_temp.ask('GET', :'path' || '/status', 'number=%D0%B7%D0%BA-15&phone=8+916+000-00-31', E'Accept: application/json\n', '');
SELECT pg_temp.ask('GET', :'path' || '/status', 'number=%D0%97%D0%9A-15&phone=89160000001', '', '');
SELECT substring(a FROM '^\d+\|'), a ~ 'Отгружается' FROM pg_temp.ask('GET', :'path' || '/status', 'number=%D0%97%D0%9A-15&phone=89160000031', E'Accept: text/html\n', '') a;
SELECT substring(a FROM '^\d+\|'), a ~ 'Отгружается' FROM pg_temp.ask('GET', :'path', 'number=%D0%97%D0%9A-15&phone=89160000031', E'Accept: text/html\n', '') a;
SELECT split_part(pg_temp.ask('GET', :'path' || '/status', 'number=' || g || '&phone=89160000031', E'X-Forwarded-For: 198.51.100.1\n', ''), '|', 1), count(*) FROM generate_series(100001, 100070) g GROUP BY 1 ORDER BY 1;
\echo out of hours
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
INSERT INTO crm.employee (id, name) VALUES (901, 'Дежурный');
INSERT INTO crm.line (id, kind, value) VALUES (901, 'sim', '+79161234561');
INSERT INTO crm.line_holder (line_id, employee_id, during) VALUES (901, 901, '[2026-01-01,)');
SELECT crm.put_duty(901, '2026-11-23', '2026-12-06', '00:00', '00:00');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "D-1", "phone": "+79160000021", "name": "Вторник"}');
SELECT crm.set_now('2026-11-28 22:00+03', 0) IS NOT NULL;
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "D-2", "phone": "+79160000022", "name": "Суббота", "message": "Нужен бетон"}');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "D-3", "phone": "+79160000023", "name": "Бот", "website": "x"}');
SELECT t.recipient || ': ' || t.body FROM crm.outbox_take(:gate, 100) t ORDER BY t.message_id;
ROLLBACK;
