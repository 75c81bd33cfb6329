-- sms_kannel: what is asked of the gateway, and what its words and reports mean, on recorded bytes.
-- claim 46: an SMS provider is part of the module
-- claim 58: messages carry the alpha name
\set SHOW_CONTEXT never
\pset null '(null)'
\getenv abs_srcdir PG_ABS_SRCDIR
\set replies :abs_srcdir '/test/data/sms_kannel/replies.tsv'
\set reports :abs_srcdir '/test/data/sms_kannel/reports.tsv'
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT crm.set_now('2026-03-02 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT crm.listen(18080) AS listener;
SELECT crm.add_integration('kannel', 'sms_kannel', 'http://127.0.0.1:13013/cgi-bin/sendsms', '{"sender": "CEMENT", "max_attempts": 3, "retry_ms": 3600000, "retry_max_ms": 3600000}', 'canary-password') AS kannel \gset
SELECT crm.add_route('kannel', 'dlr', 'crm.sms_kannel_dlr', '{GET}') AS route \gset

-- what is asked: POST, no secret in the address, the text in UTF-8, our id in the address of the report
CREATE FUNCTION pg_temp.claim(capacity integer DEFAULT 100) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT c.* FROM crm.courier_claim(1, $1, '{}', '{}') AS i, unnest(i.requests) AS c $$;
SELECT crm.send('sms', '8 (912) 345-67-89', 'Машина А123ВС77 прибыла на погрузку.') AS ru \gset
SELECT crm.send('sms', '+79123456780', 'Your cargo [20 t] has left', expires_after => '90 minutes') AS en \gset
CREATE TEMP TABLE asked AS SELECT r.* FROM pg_temp.claim() AS r;
SELECT a.ref - :ru AS message, a.method, a.url, replace(replace(h.line, :'route', '/h/kannel/dlr/TOKEN'), 'id=' || a.ref, 'id=ID') AS header
FROM asked AS a, unnest(a.headers) WITH ORDINALITY AS h(line, n) ORDER BY a.ref, h.n;
SELECT a.ref - :ru AS message, convert_from(a.body, 'UTF8') AS body, a.username, a.timeout_ms FROM asked AS a ORDER BY a.ref;

-- what the replies mean, each for its own message
CREATE TEMP TABLE reply (n integer GENERATED ALWAYS AS IDENTITY, status integer, body text, error text, sent boolean, outcome text, class text, origin text);
COPY reply (status, body, error, sent, outcome, class, origin) FROM :'replies' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
SELECT r.status, r.body, r.error, r.outcome, r.class, m.outcome AS ours, m.class AS our_class, m.words
FROM reply AS r JOIN crm.reply_meaning(:kannel, (SELECT array_agg(ROW (n, status, '', convert_to(body, 'UTF8'), error, sent, 5, NULL)::crm.reply) FROM reply)) AS m ON m.ref = r.n
WHERE (r.outcome, r.class) IS DISTINCT FROM (m.outcome, m.class);
SELECT count(*) AS replies FROM reply;
-- words of strangers never break a batch
SELECT m.outcome, m.words FROM crm.reply_meaning(:kannel, ARRAY[ROW (1, 202, '', '\xff00d09fd0', NULL, true, 5, NULL)::crm.reply]) AS m;

-- a DBA's row goes before the shipped ones; a broken pattern is refused
SELECT crm.register_reply_rule('sms_kannel', 'own_queued', 10, 202, 202, '^3: ', 'retry', 'transient');
SELECT m.outcome FROM crm.reply_meaning(:kannel, ARRAY[ROW (1, 202, '', '3: Queued for later delivery', NULL, true, 5, NULL)::crm.reply]) AS m;
SELECT shipped, count(*) > 0 AS some FROM crm.reply_rule WHERE kind = 'sms_kannel' GROUP BY 1 ORDER BY 1;
SELECT crm.register_reply_rule('sms_kannel', 'accepted', 20, 202, 202, '^0: ', 'uncertain', 'unknown');
SELECT shipped, "position", outcome FROM crm.reply_rule WHERE kind = 'sms_kannel' AND code = 'accepted' ORDER BY shipped;
DELETE FROM crm.reply_rule WHERE kind = 'sms_kannel' AND code = 'accepted' AND NOT shipped;
SAVEPOINT s;
SELECT crm.register_reply_rule('sms_kannel', 'bad', 10, 202, 202, '(', 'retry', 'transient');
ROLLBACK TO s;

-- settled: sent; then reports, in any order and twice
SELECT crm.courier_settle(1, :kannel, array_agg(ROW (ref, 202, '', '0: Accepted for delivery', NULL, true, 5, NULL)::crm.reply)) FROM asked;
SELECT id - :ru AS message, state, sender, recipient, encoding, segments, last_error FROM crm.message WHERE id >= :ru ORDER BY id;
CREATE FUNCTION pg_temp.report(query text) RETURNS integer LANGUAGE sql AS
	$$ SELECT r.status FROM crm.listener_handle(ARRAY[ROW ('GET', current_setting('test.route'), $1, '', NULL, '127.0.0.1')::crm.http_request]) AS r $$;
SELECT set_config('test.route', :'route', true) <> '' AS route;
CREATE TEMP TABLE report (n integer GENERATED ALWAYS AS IDENTITY, query text, state text, note text, origin text);
COPY report (query, state, note, origin) FROM :'reports' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
CREATE TEMP TABLE one AS SELECT n, crm.send('sms', '+79123456789', 'report ' || n) AS id FROM report ORDER BY n;
SELECT count(*) AS claimed, crm.courier_settle(1, :kannel, array_agg(ROW (c.ref, 202, '', '0: Accepted for delivery', NULL, true, 5, NULL)::crm.reply)) FROM pg_temp.claim() AS c;
SELECT r.st AS status, count(*) FROM (SELECT pg_temp.report(replace(query, '{id}', one.id::text)) AS st FROM report JOIN one USING (n) ORDER BY n) AS r GROUP BY 1;
SELECT r.note, r.state, m.state AS ours, m.provider_id, (SELECT string_agg(words, ' | ') FROM crm.message_attempt AS a WHERE a.message_id = m.id AND a.outcome = 'report') AS words
FROM report AS r JOIN one USING (n) JOIN crm.message AS m ON m.id = one.id ORDER BY r.n;
-- the same again changes nothing; a late "on its way" and even a late "not delivered" do not undo a delivery
CREATE TEMP TABLE before AS SELECT m.id, m.state, m.delivered_at, m.provider_id FROM crm.message AS m;
SELECT count(*) FILTER (WHERE pg_temp.report(replace(query, '{id}', one.id::text)) = 200) AS answered FROM report JOIN one USING (n);
SELECT pg_temp.report('id=' || one.id || '&st=8&ts=1795557479&a=ACK%2F') AS late_8, pg_temp.report('id=' || one.id || '&st=2&ts=1795557479') AS late_2 FROM one WHERE n = 2;
SELECT count(*) AS changed FROM before AS b JOIN crm.message AS m USING (id) WHERE (b.state, b.delivered_at, b.provider_id) IS DISTINCT FROM (m.state, m.delivered_at, m.provider_id);
SELECT count(*) AS events FROM crm.event WHERE kind IN ('message.delivered', 'message.failed');
-- not ours, no number, no known bit, nothing at all, another integration's: answered, kept once
SELECT crm.add_integration('other', 'sms_kannel', 'http://127.0.0.1:13014/cgi-bin/sendsms', '{"sender": "OTHER"}') AS other \gset
SELECT (crm.sms_kannel_dlr(:other, ROW ('GET', '', 'id=' || :ru || '&st=1', '', NULL, '127.0.0.1')::crm.http_request)).status AS other;
SELECT pg_temp.report(q) FROM unnest(ARRAY['id=999999999999&st=1', 'id=999999999999&st=1', 'id=%27;drop&st=1', 'id=2&st=', '', 'id=' || :ru || '&st=256', 'id=2e5&st=1', 'id=99999999999999999999&st=1']) AS q;
SELECT i.name, r.what, replace(r.reason, 'message ' || :'ru' || ' is', 'message RU is') AS reason, r.sqlstate, replace(convert_from(r.bytes, 'UTF8'), 'id=' || :'ru' || '&', 'id=RU&') AS bytes, r.seen
FROM crm.rejected AS r JOIN crm.integration AS i ON i.id = r.integration_id ORDER BY r.id;
SELECT state FROM crm.message WHERE id = :ru;

-- a wrong password holds the integration and loses nothing; health says what to do
SELECT crm.send('sms', '+79123456789', 'wrong password') AS id \gset
SELECT crm.courier_settle(1, :kannel, array_agg(ROW (c.ref, 403, '', 'Authorization failed for sendsms', NULL, true, 5, NULL)::crm.reply)) FROM pg_temp.claim() AS c;
SELECT state, attempts, last_error FROM crm.message WHERE id = :id;
SELECT severity, subject, message FROM crm.health WHERE subject = 'integration kannel';
SELECT count(*) AS claimed_while_held FROM pg_temp.claim() AS c;
-- final words end a message at once; a lost reply leaves it uncertain
SELECT crm.integration_retry('kannel');
SELECT count(crm.send('sms', '+79123456789', x)) FROM unnest(ARRAY['denied', 'lost', 'later']) AS x;
SELECT crm.courier_settle(1, :kannel, array_agg(
	CASE WHEN c.body = 'denied' THEN ROW (c.ref, 403, '', 'Not routable. Do not try again.', NULL, true, 5, NULL)::crm.reply
		WHEN c.body = 'lost' THEN ROW (c.ref, 0, '', NULL, 'timeout: no reply in 30000 ms', true, 30000, NULL)::crm.reply
		ELSE ROW (c.ref, 503, '', 'Temporal failure, try again later.', NULL, true, 5, NULL)::crm.reply END))
FROM pg_temp.claim() AS c WHERE c.body IN ('denied', 'lost', 'later');
SELECT body, state, last_error FROM crm.message WHERE body IN ('denied', 'lost', 'later') ORDER BY body;

-- old gateways: everything in the query, twice encoded where it is an address
UPDATE crm.integration SET settings = settings || '{"dialect": "get13", "recipient_form": "digits", "smsc": "A B", "dlr_mask": 3}' WHERE name = 'kannel';
SELECT crm.integration_retry('kannel');
SELECT crm.send('sms', '+79123456789', 'Счёт & 100 %') AS id \gset
SELECT c.method, replace(replace(c.url, crm.url_encode(:'route'), '%2Fh%2Fkannel%2Fdlr%2FTOKEN'), 'id%3D' || :id, 'id%3DID') AS url, c.headers, c.body
FROM pg_temp.claim() AS c WHERE c.ref = :id;
UPDATE crm.integration SET settings = settings || '{"dialect": "smpp"}' WHERE name = 'kannel';
SAVEPOINT s;
SELECT crm.sms_kannel_next(:kannel, 1);
ROLLBACK TO s;

-- the test of an integration sends nothing: the gateway refuses it for its missing receiver
UPDATE crm.integration SET settings = settings || '{"dialect": "post"}' WHERE name = 'kannel';
SELECT method, url, headers FROM crm.sms_kannel_test(:kannel);
SELECT crm.sms_kannel_judge(:kannel, ROW (0, status, '', body, error, true, 5, NULL)::crm.reply)
FROM (VALUES (400, 'Missing receiver(s) number(s), rejected'::bytea, NULL), (403, 'Authorization failed for sendsms', NULL), (0, NULL, 'connect: Connection refused')) AS v(status, body, error);
-- without a route no report is asked for
DELETE FROM crm.route WHERE integration_id = :kannel;
SELECT crm.send('sms', '+79123456789', 'no route') AS id \gset
SELECT h AS header FROM pg_temp.claim() AS c, unnest(c.headers) AS h WHERE c.ref = :id AND h LIKE 'X-Kannel-DLR%';
-- a batch of a thousand is one statement
SELECT count(*) FROM (SELECT crm.send('sms', '+79123456789', 'bulk ' || i) FROM generate_series(1, 1000) AS i) AS x;
CREATE TEMP TABLE bulk AS SELECT c.ref FROM pg_temp.claim(3000) AS c WHERE c.body LIKE 'bulk %';
SELECT count(*) AS claimed FROM bulk;
SELECT crm.courier_settle(1, :kannel, array_agg(ROW (ref, 202, '', '0: Accepted for delivery', NULL, true, 5, NULL)::crm.reply)) FROM bulk;
SELECT state, count(*) FROM crm.message WHERE body LIKE 'bulk %' GROUP BY 1;
-- the password is in no row that people or dumps see
SELECT count(*) AS leaks FROM (SELECT i::text FROM crm.integration AS i UNION ALL SELECT r::text FROM crm.rejected AS r UNION ALL SELECT a::text FROM crm.message_attempt AS a
	UNION ALL SELECT h::text FROM crm.health AS h) AS x(words) WHERE words LIKE '%canary%';
ROLLBACK;
