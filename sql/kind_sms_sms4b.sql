-- sms_sms4b: what is asked of SMS4B, and what its replies mean, on recorded bytes; a lost reply is resolved by asking.
-- claim 46: an SMS provider is part of the module
-- claim 58: messages carry the alpha name
\set SHOW_CONTEXT never
\pset null '(null)'
SET datestyle = 'ISO, YMD';
\getenv abs_srcdir PG_ABS_SRCDIR
\set replies :abs_srcdir '/test/data/sms_sms4b/replies.tsv'
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT crm.set_now('2026-03-02 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT crm.add_integration('sms4b', 'sms_sms4b', 'http://127.0.0.1:8029/ws/sms.asmx', '{"login": "plant&co", "sender": "CEMENT", "max_attempts": 3, "retry_ms": 3600000, "retry_max_ms": 3600000}', 'canary<password>&') AS sms4b \gset
CREATE FUNCTION pg_temp.claim(op text DEFAULT NULL) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT c.* FROM crm.courier_claim(1, 200, '{}', '{}') AS i, unnest(i.requests) AS c WHERE c.context ->> 'op' = coalesce($1, c.context ->> 'op') $$;
CREATE FUNCTION pg_temp.later() RETURNS void LANGUAGE sql AS
	$$ UPDATE crm.message_watch SET due_ms = 0, since_ms = since_ms - 1000000000;
	   UPDATE crm.integration_state SET hold_ms = 0, session = session - '{ask_from_ms,balance_from_ms}'::text[] $$;
CREATE FUNCTION pg_temp.say(id bigint, op text, inner_xml text, more jsonb DEFAULT '{}') RETURNS void LANGUAGE sql AS
	$$ SELECT crm.courier_settle(1, i.id, ARRAY[ROW ($1, 200, '', convert_to(format('<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><%1$sResponse xmlns="SMS4B"><%1$sResult>%2$s</%1$sResult></%1$sResponse></soap:Body></soap:Envelope>', $2, $3), 'UTF8'),
			NULL, true, 5, jsonb_build_object('op', $2, 'sid', s.session ->> 'sid') || $4)::crm.reply]) FROM crm.integration AS i JOIN crm.integration_state AS s ON s.integration_id = i.id WHERE i.name = 'sms4b' $$;

-- a session first, one request for it; then the balance and the messages; every value in its place
SELECT crm.send('sms', '8 (912) 345-67-89', E'Груз «20 т» & "5 %"\r\n</B><B>]]> ещё') AS ru \gset
SELECT crm.send('sms', '+79123456780', 'Your cargo [20 t] has left', expires_after => '90 minutes') AS en \gset
SELECT method, url, headers, convert_from(body, 'UTF8') AS body, context FROM pg_temp.claim();
SELECT count(*) AS while_it_starts FROM pg_temp.claim();
SELECT pg_temp.say(-1, 'StartSession', '9000000000000000001');
SELECT session ->> 'sid' AS sid FROM crm.integration_state;
CREATE TEMP TABLE asked AS SELECT r.* FROM pg_temp.claim() AS r;
SELECT CASE WHEN ref > 0 THEN ref - :ru END AS message, context ->> 'op' AS op, replace(convert_from(body, 'UTF8'), crm.sms_sms4b_guid(:sms4b, ref)::text, 'GUID') AS body FROM asked ORDER BY ref < 0 DESC, ref;
SELECT crm.xml_text(crm.body_xml(a.body), '//*[local-name()="GroupSMSList"]/*[local-name()="B"]') = replace(m.body, E'\r\n', E'\n') AS text_arrives FROM asked AS a JOIN crm.message AS m ON m.id = a.ref WHERE a.ref = :ru;
SELECT count(DISTINCT crm.sms_sms4b_guid(:sms4b, n)) AS guids, crm.sms_sms4b_guid(:sms4b, 1) = crm.sms_sms4b_guid(:sms4b, 1) AS same FROM generate_series(1, 1000) AS n;
SELECT crm.sms_sms4b_text('Aё' || U&'\+01F600' || '&', c) FROM unnest('{plain,hex}'::text[]) AS c;
SELECT pg_temp.say(-1, 'ParamSMS', '<Result>1</Result><Rest>100.50</Rest>'),
	pg_temp.say(:ru, 'GroupSMS', format('<Result>1</Result><Group>700001</Group><List><CheckSMSList><G>%s</G><R>2</R></CheckSMSList></List>', crm.sms_sms4b_guid(:sms4b, :ru))),
	pg_temp.say(:en, 'GroupSMS', format('<Result>1</Result><Group>700002</Group><List><CheckSMSList><G>%s</G><R>1</R></CheckSMSList></List>', crm.sms_sms4b_guid(:sms4b, :en)));
SELECT id - :ru AS message, state, provider_id = crm.sms_sms4b_guid(:sms4b, id)::text AS our_guid FROM crm.message ORDER BY id;
SELECT balance FROM crm.integration_account;
SELECT session ->> 'sid' AS sid, session -> 'sid_ok' AS worked FROM crm.integration_state;

-- what each reply means, in a session that never worked
CREATE TEMP TABLE reply (n integer GENERATED ALWAYS AS IDENTITY, op text, status integer, body text, error text, sent boolean, means text, rejected integer, origin text);
COPY reply (op, status, body, error, sent, means, rejected, origin) FROM :'replies' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
CREATE TEMP TABLE one AS SELECT n, crm.send('sms', '+79123456789', 'reply ' || n) AS id FROM reply ORDER BY n;
SELECT count(*) AS claimed FROM pg_temp.claim('GroupSMS');
UPDATE crm.integration_state SET session = session || '{"sid_ok": false}';
CREATE FUNCTION pg_temp.bytes(body text, id bigint, guid uuid) RETURNS bytea LANGUAGE sql AS
	$$ SELECT CASE WHEN $1 LIKE '\\x%' THEN decode(substr($1, 3), 'hex') ELSE convert_to(replace(replace($1, '{guid}', $3::text), '{GUID}', upper($3::text)), 'UTF8') END $$;
SELECT crm.courier_settle(1, :sms4b, array_agg(ROW (one.id, r.status, '', pg_temp.bytes(r.body, one.id, crm.sms_sms4b_guid(:sms4b, one.id)), r.error, r.sent, 5, '{"op": "GroupSMS", "sid": "9000000000000000001"}')::crm.reply))
FROM reply AS r JOIN one USING (n) WHERE r.op = 'GroupSMS';
SELECT r.status, left(r.body, 60) AS body, r.means, a.outcome AS ours, a.words FROM reply AS r JOIN one USING (n) LEFT JOIN crm.message_attempt AS a ON a.message_id = one.id WHERE r.op = 'GroupSMS' AND a.outcome IS DISTINCT FROM r.means;
SELECT DISTINCT regexp_replace(a.words, '(unreadable: .{0,30}).*', '\1') AS words FROM reply AS r JOIN one USING (n) JOIN crm.message_attempt AS a ON a.message_id = one.id ORDER BY 1;
SELECT (SELECT sum(rejected) FROM reply WHERE op = 'GroupSMS') AS to_be_kept, (SELECT sum(seen) FROM crm.rejected) AS kept;
-- an error of the request dropped the session; of one that worked it would not have counted the try
SELECT session ? 'sid' AS session_kept FROM crm.integration_state;
SELECT message FROM crm.health WHERE subject = 'integration sms4b';
SELECT pg_temp.later();
SELECT context ->> 'op' AS op FROM pg_temp.claim();
SELECT pg_temp.say(-1, 'StartSession', '-1');
SELECT message, hint ~ 'set_secret' AS says_what FROM crm.health WHERE subject = 'integration sms4b';
SELECT pg_temp.later();
SELECT context ->> 'op' AS op FROM pg_temp.claim();
SELECT pg_temp.say(-1, 'StartSession', 'none');
SELECT pg_temp.later();
SELECT context ->> 'op' AS op FROM pg_temp.claim();
SELECT pg_temp.say(-1, 'StartSession', '77');
SELECT crm.account_stopped(:sms4b), count(*) AS health FROM crm.health WHERE subject = 'integration sms4b';
SELECT pg_temp.say(0, 'ParamSMS', '<Result>1</Result><Rest>100</Rest>');
SELECT crm.send('sms', '+79123456789', 'session died') AS died \gset
SELECT pg_temp.later();
SELECT count(*) AS claimed FROM pg_temp.claim('GroupSMS') AS c WHERE c.ref = :died;
SELECT pg_temp.say(:died, 'GroupSMS', '<Result>-2</Result><Group>-1</Group><List />');
SELECT state, last_error, (SELECT outcome FROM crm.message_attempt AS a WHERE a.message_id = m.id) AS outcome FROM crm.message AS m WHERE id = :died;
SELECT context ->> 'op' AS op FROM pg_temp.claim();
SELECT pg_temp.say(-1, 'StartSession', '78');

-- what became of sent messages
DELETE FROM crm.rejected;
UPDATE crm.integration_state SET hold_ms = 0;
SELECT count(*) AS already_claimed FROM pg_temp.claim('GroupSMS') AS c JOIN one ON one.id = c.ref JOIN reply AS r USING (n) WHERE r.op = 'CheckSMS';
SELECT crm.courier_settle(1, :sms4b, array_agg(ROW (one.id, 200, '', pg_temp.bytes((SELECT body FROM reply WHERE n = 1), one.id, crm.sms_sms4b_guid(:sms4b, one.id)), NULL, true, 5, '{"op": "GroupSMS", "sid": "78"}')::crm.reply))
FROM reply AS r JOIN one USING (n) WHERE r.op = 'CheckSMS';
SELECT crm.courier_settle(1, :sms4b, array_agg(ROW (-2, r.status, '', pg_temp.bytes(r.body, one.id, crm.sms_sms4b_guid(:sms4b, one.id)), r.error, r.sent, 5, jsonb_build_object('op', 'CheckSMS', 'sid', '78', 'ids', jsonb_build_array(one.id)))::crm.reply))
FROM reply AS r JOIN one USING (n) WHERE r.op = 'CheckSMS';
SELECT r.body, r.means, m.state AS ours, m.last_error FROM reply AS r JOIN one USING (n) JOIN crm.message AS m USING (id) WHERE r.op = 'CheckSMS' AND m.state IS DISTINCT FROM r.means;
SELECT m.state, a.words FROM reply AS r JOIN one USING (n) JOIN crm.message AS m USING (id) JOIN crm.message_attempt AS a ON a.message_id = m.id AND a.outcome = 'report' WHERE r.op = 'CheckSMS' ORDER BY r.n;
SELECT (SELECT sum(rejected) FROM reply WHERE op = 'CheckSMS') AS to_be_kept, (SELECT sum(seen) FROM crm.rejected) AS kept;

-- a lost reply: asked about by its GUID, and sent again under the same one only after SMS4B has twice not known it
SELECT pg_temp.say(-1, 'StartSession', '79');
SELECT pg_temp.later();
SELECT crm.send('sms', '+79123456789', 'lost') AS lost \gset
SELECT count(*) AS claimed FROM pg_temp.claim('GroupSMS') AS c WHERE c.ref = :lost;
SELECT crm.courier_settle(1, :sms4b, ARRAY[ROW (:lost, 0, '', NULL, 'timeout: no reply', true, 5, '{"op": "GroupSMS", "sid": "79"}')::crm.reply]);
SELECT state FROM crm.message WHERE id = :lost;
SELECT pg_temp.later();
SELECT convert_from(c.body, 'UTF8') LIKE '%<SessionId>79</SessionId><Guids>%<string>' || crm.sms_sms4b_guid(:sms4b, :lost) || '</string>%' AS asked_by_guid, c.context -> 'ids' @> to_jsonb(:lost::bigint) AS asked FROM pg_temp.claim('CheckSMS') AS c;
SELECT pg_temp.say(-2, 'CheckSMS', '<Result>0</Result><List></List>', jsonb_build_object('ids', jsonb_build_array(:lost)));
SELECT state FROM crm.message WHERE id = :lost;
SELECT pg_temp.say(-2, 'CheckSMS', '<Result>0</Result><List></List>', jsonb_build_object('ids', jsonb_build_array(:lost)));
SELECT state FROM crm.message WHERE id = :lost;
UPDATE crm.message_delayed SET due_at = crm.clock() WHERE message_id = :lost;
SELECT convert_from(c.body, 'UTF8') LIKE '%<G>' || crm.sms_sms4b_guid(:sms4b, :lost) || '</G>%' AS same_guid FROM pg_temp.claim('GroupSMS') AS c WHERE c.ref = :lost;
-- an error code that this account's settings take for "unknown"
UPDATE crm.integration SET settings = settings || '{"unknown_codes": [-12]}' WHERE name = 'sms4b';
SELECT crm.courier_settle(1, :sms4b, ARRAY[ROW (:lost, 0, '', NULL, 'timeout: no reply', true, 5, '{"op": "GroupSMS", "sid": "79"}')::crm.reply]);
SELECT pg_temp.later();
SELECT pg_temp.say(-2, 'CheckSMS', format('<Result>1</Result><List><CheckSMSList><G>%s</G><R>-12</R></CheckSMSList></List>', crm.sms_sms4b_guid(:sms4b, :lost)), jsonb_build_object('ids', jsonb_build_array(:lost))) FROM generate_series(1, 2);
SELECT state FROM crm.message WHERE id = :lost;

-- no money: an item is refused, the balance says why
SELECT pg_temp.later();
SELECT crm.send('sms', '+79123456789', 'no money') AS money \gset
SELECT count(*) AS claimed FROM pg_temp.claim('GroupSMS') AS c WHERE c.ref = :money;
SELECT pg_temp.say(:money, 'GroupSMS', format('<Result>0</Result><Group>-1</Group><List><CheckSMSList><G>%s</G><R>-20</R></CheckSMSList></List>', crm.sms_sms4b_guid(:sms4b, :money)));
UPDATE crm.integration_state SET hold_ms = 0;
SELECT context ->> 'op' AS asked_at_once FROM pg_temp.claim('ParamSMS');
SELECT pg_temp.say(-1, 'ParamSMS', '<Result>1</Result><Rest>0.00</Rest>');
SELECT regexp_replace(message, '\d+ messages', 'N messages') AS message, hint ~ '^Pay' AS says_what FROM crm.health WHERE subject = 'integration sms4b';
SELECT state FROM crm.message WHERE id = :money;
SELECT pg_temp.say(-1, 'ParamSMS', '<Result>1</Result><Rest>many</Rest>'), pg_temp.say(-1, 'ParamSMS', '<Result>1</Result><Rest>500</Rest>');
SELECT crm.account_stopped(:sms4b), (SELECT count(*) FROM crm.rejected WHERE what = 'reply to ParamSMS') AS kept;

-- settings, the test
UPDATE crm.integration SET settings = settings || '{"body_codec": "base64"}' WHERE name = 'sms4b';
SAVEPOINT s;
SELECT crm.sms_sms4b_next(:sms4b, 1);
ROLLBACK TO s;
SELECT convert_from(body, 'UTF8') AS body FROM crm.sms_sms4b_test(:sms4b);
SELECT crm.sms_sms4b_judge(:sms4b, ROW (0, status, '', body, error, true, 5, NULL)::crm.reply)
FROM (VALUES (200, '<a xmlns="SMS4B"><StartSessionResult>5</StartSessionResult></a>'::bytea, NULL), (200, '<StartSessionResult>-1</StartSessionResult>', NULL), (200, '[]', NULL), (0, NULL, 'connect: Connection refused')) AS v(status, body, error);
-- the password is in no row that people or dumps see
SELECT count(*) AS leaks FROM (SELECT i::text FROM crm.integration AS i UNION ALL SELECT r::text FROM crm.rejected AS r UNION ALL SELECT a::text FROM crm.message_attempt AS a
	UNION ALL SELECT s::text FROM crm.integration_state AS s UNION ALL SELECT h::text FROM crm.health AS h) AS x(words) WHERE words ~ 'canary';
ROLLBACK;
