-- sms_http: providers described by settings: what is asked of each, what their replies mean, on recorded bytes; mistakes in
-- a description are refused in words before anything is sent.
-- claim 46: an SMS provider is a row
-- claim 58: messages carry the alpha name
\set SHOW_CONTEXT never
\pset null '(null)'
SET datestyle = 'ISO, YMD';
\getenv abs_srcdir PG_ABS_SRCDIR
\set data :abs_srcdir '/test/data/sms_http/'
\set replies :abs_srcdir '/test/data/sms_http/replies.tsv'
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT crm.set_now('2026-03-02 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT crm.listen(18080) AS listener;
CREATE TEMP TABLE provider (name text, description jsonb, id bigint, number bigint);
INSERT INTO provider SELECT p, pg_read_file(:'data' || p || '.json')::jsonb FROM unnest('{form,json,megafon,smsaero,smsru,twilio,vonage,xml}'::text[]) AS p;
UPDATE provider SET id = crm.add_integration(name, 'sms_http', 'http://127.0.0.1:8028', description || '{"max_attempts": 3, "retry_ms": 3600000, "retry_max_ms": 3600000}', 'canary&"<secret>');
SELECT count(crm.add_route(name, 'report', 'crm.sms_http_report')) AS routes FROM provider WHERE description ? 'report';

-- a value in each place
SELECT p AS place, replace(crm.escaped(E'a"b\\c&d<e>f''g\r\nh i+ё' || U&'\2028\+01F600', p), E'\r', '<CR>') AS escaped FROM unnest('{url,form,json,xml,header,text}'::text[]) AS p;
SELECT crm.sms_http_fill('{"x": "{{x}}"}', '{"x": "{{y}}\", \"z\": \"", "y": "no"}', 'json') AS once;

-- what is asked
UPDATE provider SET number = crm.send('sms', '8 (912) 345-67-89', E'Груз «20 т» & "5 %"\r\n{{secret}}<b>', integration => name, expires_after => CASE WHEN name = 'twilio' THEN interval '90 minutes' END);
CREATE FUNCTION pg_temp.settle(integration_ids bigint[], replies crm.reply[]) RETURNS void LANGUAGE sql AS
	$$ SELECT crm.courier_settle(1, ($1)[n], array_agg(($2)[n] ORDER BY n)) FROM generate_subscripts($1, 1) AS n GROUP BY ($1)[n] $$;
CREATE TEMP TABLE asked AS SELECT i.integration_id, c.* FROM crm.courier_claim(1, 100, '{}', '{}') AS i, unnest(i.requests) AS c;
CREATE FUNCTION pg_temp.shown(words text, number bigint, path text) RETURNS text LANGUAGE sql AS
	$$ SELECT regexp_replace(regexp_replace($1, format('([=/"%%]|3D)%s\M(?!\.0\.0\.1)', $2), '\1NUMBER', 'g'), '[0-9a-f]{64}', 'TOKEN') $$;
SELECT p.name, a.context ->> 'op' AS op, a.method, pg_temp.shown(a.url, p.number, NULL) AS url, a.headers, a.username, a.password IS NOT NULL AS password, pg_temp.shown(convert_from(a.body, 'UTF8'), p.number, NULL) AS body
FROM asked AS a JOIN provider AS p ON p.id = a.integration_id ORDER BY p.name, 2;
SELECT p.name, crm.body_json(a.body) ->> CASE p.name WHEN 'megafon' THEN 'message' ELSE 'text' END = m.body AS text_arrives
FROM asked AS a JOIN provider AS p ON p.id = a.integration_id JOIN crm.message AS m ON m.id = a.ref WHERE p.name IN ('json', 'megafon', 'smsaero') ORDER BY 1;

-- what each reply means
CREATE TEMP TABLE reply (n integer GENERATED ALWAYS AS IDENTITY, provider text, op text, status integer, body text, means text, rejected integer, origin text);
COPY reply (provider, op, status, body, means, rejected, origin) FROM :'replies' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
CREATE FUNCTION pg_temp.bytes(body text) RETURNS bytea LANGUAGE sql AS $$ SELECT CASE WHEN $1 LIKE '\\x%' THEN decode(substr($1, 3), 'hex') ELSE convert_to($1, 'UTF8') END $$;
SELECT r.provider, r.status, left(r.body, 60) AS body, r.means, c.class AS ours
FROM reply AS r JOIN provider AS p ON p.name = r.provider JOIN crm.integration AS i ON i.id = p.id JOIN crm.integration_kind AS k ON k.kind = i.kind
CROSS JOIN LATERAL crm.sms_http_class(p.id, k.defaults || i.settings, ROW (1, r.status, '', pg_temp.bytes(r.body), NULL, true, 5, '{"op": "send"}')::crm.reply, crm.body_json(pg_temp.bytes(r.body))) AS c(class)
WHERE r.op = 'send' AND c.class IS DISTINCT FROM r.means;
SELECT provider, op, count(*) FROM reply GROUP BY 1, 2 ORDER BY 1, 2;
-- settled, each for a message of its own
CREATE TEMP TABLE one AS SELECT r.n, p.id AS integration_id, crm.send('sms', '+79123456789', 'reply ' || n, integration => r.provider) AS id FROM reply AS r JOIN provider AS p ON p.name = r.provider ORDER BY n;
UPDATE crm.integration_state SET hold_ms = 0, session = NULL;
SELECT count(*) FILTER (WHERE c.ref > 0) AS claimed FROM crm.courier_claim(1, 200, '{}', '{}') AS i, unnest(i.requests) AS c;
SELECT pg_temp.settle(array_agg(one.integration_id), array_agg(ROW (one.id, r.status, '', pg_temp.bytes(r.body), NULL, true, 5, '{"op": "send"}')::crm.reply))
FROM reply AS r JOIN one USING (n) WHERE r.op = 'send';
SELECT r.means, m.state, count(*) FROM reply AS r JOIN one USING (n) JOIN crm.message AS m USING (id) WHERE r.op = 'send' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT r.provider, m.provider_id, a.words, x.parts, x.price FROM reply AS r JOIN one USING (n) JOIN crm.message AS m USING (id) JOIN crm.message_attempt AS a ON a.message_id = m.id LEFT JOIN crm.message_price AS x ON x.message_id = m.id
WHERE r.means = 'ok' ORDER BY r.n;
SELECT r.provider, a.words FROM reply AS r JOIN one USING (n) JOIN crm.message_attempt AS a ON a.message_id = one.id WHERE r.means = 'permanent' ORDER BY r.n;
SELECT (SELECT sum(rejected) FROM reply WHERE op = 'send') AS to_be_kept, (SELECT sum(seen) FROM crm.rejected) AS kept;
SELECT i.name, h.message FROM crm.health AS h JOIN crm.integration AS i ON h.subject = 'integration ' || i.name ORDER BY 1;
SELECT i.name, a.balance, a.currency FROM crm.integration_account AS a JOIN crm.integration AS i ON i.id = a.integration_id ORDER BY 1;

-- what became of messages: answers to questions, and calls of the provider
DELETE FROM crm.rejected;
SELECT pg_temp.settle(array_agg(one.integration_id), array_agg(ROW (one.id, 201, '', '{"message": {"id": "x"}, "sid": "x", "sms": {"1": {"status_code": 100, "sms_id": "x"}}, "data": {"id": 1}, "success": true, "messages": [{"status": "0", "message-id": "x"}], "result": {"msg_id": "x", "status": {"code": 0}}}', NULL, true, 5, '{"op": "send"}')::crm.reply))
FROM reply AS r JOIN one USING (n) WHERE r.op <> 'send';
SELECT pg_temp.settle(array_agg(one.integration_id), array_agg(ROW (-one.id, r.status, '', pg_temp.bytes(r.body), NULL, true, 5, jsonb_build_object('op', 'status', 'id', one.id))::crm.reply))
FROM reply AS r JOIN one USING (n) WHERE r.op = 'status';
SELECT r.provider, (crm.sms_http_report(one.integration_id, ROW ('POST', '', 'id=' || one.id, 'Content-Type: application/x-www-form-urlencoded',
	CASE r.provider WHEN 'vonage' THEN (SELECT convert_to(string_agg(j.key || '=' || crm.url_encode(j.value), '&'), 'UTF8') FROM jsonb_each_text(r.body::jsonb) AS j) ELSE convert_to(r.body, 'UTF8') END, '127.0.0.1')::crm.http_request)).status
FROM reply AS r JOIN one USING (n) WHERE r.op = 'report';
SELECT r.provider, r.op, r.body, r.means, m.state AS ours, m.last_error FROM reply AS r JOIN one USING (n) JOIN crm.message AS m USING (id) WHERE r.op <> 'send' AND m.state IS DISTINCT FROM r.means;
SELECT r.provider, m.state, m.delivered_at, m.last_error FROM reply AS r JOIN one USING (n) JOIN crm.message AS m USING (id) WHERE r.op <> 'send' AND m.state <> 'sent' ORDER BY r.n;
SELECT r.reason, r.seen FROM crm.rejected AS r ORDER BY r.id;
-- a call that names nothing of ours is answered and kept
DELETE FROM crm.rejected;
SELECT (crm.sms_http_report(p.id, ROW ('POST', '', q, '', b, '127.0.0.1')::crm.http_request)).status
FROM provider AS p, (VALUES ('id=999999999', 'status=delivered'::bytea), ('', 'status=delivered'), ('id=1%27', 'x'), ('id=' || (SELECT number FROM provider WHERE name = 'json'), 'status=delivered'), ('id=' || (SELECT number FROM provider WHERE name = 'vonage'), 'status=eaten'), ('id=' || (SELECT number FROM provider WHERE name = 'vonage'), '\xff00')) AS v(q, b)
WHERE p.name = 'vonage';
SELECT regexp_replace(reason, 'message \d+', 'message N') AS reason, sqlstate FROM crm.rejected ORDER BY id;

-- a lost reply: asked by our number where it can be told, else left to a person, and never sent again before
UPDATE crm.integration_state SET hold_ms = 0, session = '{}', outstanding = 0, failures = 0;
CREATE TEMP TABLE lost AS SELECT p.name, p.id AS integration_id, crm.send('sms', '+79123456789', 'lost', integration => p.name) AS id FROM provider AS p WHERE p.name IN ('json', 'form') ORDER BY p.name;
SELECT count(*) AS claimed FROM crm.courier_claim(1, 100, '{}', '{}') AS i, unnest(i.requests) AS c JOIN lost ON lost.id = c.ref;
SELECT pg_temp.settle(array_agg(integration_id), array_agg(ROW (id, 0, '', NULL, 'timeout: no reply', true, 5, '{"op": "send"}')::crm.reply)) FROM lost;
SELECT lost.name, m.state FROM lost JOIN crm.message AS m USING (id) ORDER BY 1;
UPDATE crm.message_watch SET due_ms = 0, since_ms = since_ms - 1000000000 WHERE message_id IN (SELECT id FROM lost);
UPDATE crm.integration_state SET hold_ms = 0;
SELECT lost.name, c.method, regexp_replace(c.url, 'ref=' || lost.id || '$', 'ref=NUMBER') AS url, c.headers FROM crm.courier_claim(1, 100, '{}', '{}') AS i, unnest(i.requests) AS c JOIN lost ON -lost.id = c.ref;
SELECT pg_temp.settle(array_agg(integration_id), array_agg(ROW (-id, 200, '', '{"messages": []}', NULL, true, 5, jsonb_build_object('op', 'status', 'id', id))::crm.reply)) FROM lost, generate_series(1, 2) WHERE name = 'json';
SELECT lost.name, m.state FROM lost JOIN crm.message AS m USING (id) ORDER BY 1;
UPDATE crm.message_delayed SET due_at = crm.clock() WHERE message_id IN (SELECT id FROM lost);
SELECT lost.name, crm.body_json(c.body) ->> 'ref' = lost.id::text AS same_number FROM crm.courier_claim(1, 100, '{}', '{}') AS i, unnest(i.requests) AS c JOIN lost ON lost.id = c.ref;

-- mistakes in a description
CREATE FUNCTION pg_temp.wrong(change jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text; words text; hint text;
	whole jsonb := (SELECT k.defaults || p.description FROM provider AS p, crm.integration_kind AS k WHERE p.name = 'json' AND k.kind = 'sms_http');
	k text;
BEGIN
	FOR k IN SELECT jsonb_object_keys(change) LOOP
		whole := CASE WHEN jsonb_typeof(whole -> k) = 'object' AND jsonb_typeof(change -> k) = 'object' THEN jsonb_set(whole, ARRAY[k], (whole -> k) || (change -> k)) ELSE whole || jsonb_build_object(k, change -> k) END;
	END LOOP;
	PERFORM crm.sms_http_check(jsonb_strip_nulls(whole));
	RETURN 'in order';
EXCEPTION WHEN others THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' ', state, words, '(' || nullif(hint, '') || ')');
END
$$;
SELECT n, pg_temp.wrong(c) FROM unnest(ARRAY['{}',
	'{"send": null}', '{"send": {"url": "http://169.254.169.254/"}}', '{"send": {"url": "{{base}}.evil.example/"}}', '{"send": {"url": "{{base}}@evil.example/"}}', '{"send": {"url": "{{base}}/x?key={{secret}}"}}',
	'{"send": {"url": "{{base}}/a b"}}', '{"send": {"method": "CONNECT"}}', '{"send": {"type": "yaml"}}', '{"send": {"headers": "X: y"}}', '{"send": {"headers": ["X-Y: a\r\nZ: b"]}}', '{"send": {"headers": ["no colon"]}}',
	'{"send": {"body": "{\"to\": {{recipient}"}}', '{"send": {"body": "{\"to\": \"{{recipient}}\""}}', '{"send": {"body": "{\"to\": \"{{nothing}}\"}"}}', '{"send": {"type": "xml", "body": "<a>{{text}}</b>"}}',
	'{"read": {"id": "message.id"}}', '{"read": {"id": "$.message["}}', '{"read": {"id": "re:("}}', '{"read": {"id": "xpath:///"}}', '{"read": {"id": null}, "rules": []}',
	'{"rules": [{"place": "$.a", "class": "fatal"}]}', '{"rules": [{"status": "2xx", "class": "ok"}]}', '{"rules": [{"pattern": "(", "class": "ok"}]}', '{"rules": ["ok"]}',
	'{"status": {"states": {"a": "gone"}}}', '{"status": {"state": null}}', '{"status": {"unknown": [{"status": "x"}]}}', '{"status": {"url": "{{base}}/m/{{provider_id}}"}}', '{"status": null}',
	'{"balance": {"value": "amount"}}', '{"on_unknown": "resend", "status": null}']::jsonb[]) WITH ORDINALITY AS x(c, n);
-- a broken one stops before anything is leased
UPDATE crm.integration SET settings = settings || '{"rules": [{"class": "fatal"}]}' WHERE name = 'json';
UPDATE crm.integration_state SET hold_ms = 0;
SELECT crm.send('sms', '+79123456789', 'waits', integration => 'json') AS waits \gset
SELECT count(*) AS claimed FROM crm.courier_claim(1, 100, '{}', '{}') AS i, unnest(i.requests) AS c WHERE c.ref = :waits;
SELECT state FROM crm.message WHERE id = :waits;
SELECT message FROM crm.health WHERE subject = 'integration json';

-- the test, and times as providers write them
SELECT p.name, crm.sms_http_judge(p.id, ROW (0, v.status, '', v.body, v.error, true, 5, NULL)::crm.reply)
FROM provider AS p, (VALUES (200, '{"balance": "12,50", "data": {"balance": 7}}'::bytea, NULL), (200, '[]', NULL), (401, 'no', NULL), (0, NULL, 'connect: refused')) AS v(status, body, error) WHERE p.name IN ('smsru', 'smsaero') ORDER BY 1, 2;
SELECT w, crm.sms_http_moment(w) FROM unnest('{1772445600,1772445600123,2026-03-02T10:00:00Z,2026-03-02 13:00:00+03,2026-03-02 10:00,2026-02-31T10:00:00Z,2026-03-02T25:00:00Z,now,infinity,02.03.2026,1e9}'::text[]) AS w;
-- the secret is in no row that people or dumps see
SELECT count(*) AS leaks FROM (SELECT i::text FROM crm.integration AS i UNION ALL SELECT r::text FROM crm.rejected AS r UNION ALL SELECT a::text FROM crm.message_attempt AS a
	UNION ALL SELECT s::text FROM crm.integration_state AS s UNION ALL SELECT h::text FROM crm.health AS h) AS x(words) WHERE words ~ 'canary';
SELECT count(*) AS secrets_in_addresses FROM asked WHERE url ~ 'canary';
ROLLBACK;
