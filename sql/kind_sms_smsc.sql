-- sms_smsc: what is asked of SMSC, and what its replies mean, on recorded bytes; a lost reply is resolved by asking.
-- claim 46: an SMS provider is part of the module
-- claim 58: messages carry the alpha name
\set SHOW_CONTEXT never
\pset null '(null)'
SET datestyle = 'ISO, YMD';
\getenv abs_srcdir PG_ABS_SRCDIR
\set replies :abs_srcdir '/test/data/sms_smsc/replies.tsv'
\set statuses :abs_srcdir '/test/data/sms_smsc/statuses.tsv'
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT crm.set_now('2026-03-02 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT crm.add_integration('smsc', 'sms_smsc', 'http://127.0.0.1:8027/', '{"login": "plant", "sender": "CEMENT", "max_attempts": 3, "retry_ms": 3600000, "retry_max_ms": 3600000}', 'canary-password') AS smsc \gset
CREATE FUNCTION pg_temp.claim(op text DEFAULT NULL, capacity integer DEFAULT 100) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT c.* FROM crm.courier_claim(1, $2, '{}', '{}') AS i, unnest(i.requests) AS c WHERE c.context ->> 'op' = coalesce($1, c.context ->> 'op') $$;
-- time passes for questions, balance and holds, and for nothing else
CREATE FUNCTION pg_temp.later() RETURNS void LANGUAGE sql AS
	$$ UPDATE crm.message_watch SET due_ms = 0, since_ms = since_ms - 1000000000;
	   UPDATE crm.integration_state SET hold_ms = 0, session = session - '{ask_from_ms,balance_from_ms}'::text[] $$;
CREATE FUNCTION pg_temp.form(body bytea) RETURNS TABLE (name text, value text) LANGUAGE sql AS
	$$ SELECT split_part(p, '=', 1), crm.form_value(convert_from($1, 'UTF8'), split_part(p, '=', 1)) FROM regexp_split_to_table(convert_from($1, 'UTF8'), '&') AS p $$;
CREATE FUNCTION pg_temp.say(id bigint, said text, context jsonb DEFAULT '{"op": "send"}', status integer DEFAULT 200) RETURNS void LANGUAGE sql AS
	$$ SELECT crm.courier_settle(1, (SELECT i.id FROM crm.integration AS i WHERE i.name = 'smsc'), ARRAY[ROW ($1, $4, '', convert_to($2, 'UTF8'), NULL, true, 5, $3)::crm.reply]) $$;

-- what is asked: the balance first, then messages; no secret in an address, everything in its place
SELECT crm.send('sms', '8 (912) 345-67-89', E'Машина «А123ВС77» прибыла.\r\n&psw=1&mes=x "+" 100 % ещё') AS ru \gset
SELECT crm.send('sms', '+79123456780', 'Your cargo [20 t] has left', expires_after => '90 minutes') AS en \gset
CREATE TEMP TABLE asked AS SELECT r.* FROM pg_temp.claim() AS r;
SELECT a.method, a.url, a.headers, a.username, a.timeout_ms, a.context FROM asked AS a ORDER BY a.ref < 0 DESC, a.ref;
SELECT CASE WHEN a.ref > 0 THEN a.ref - :ru END AS message, f.name, CASE f.name WHEN 'id' THEN (f.value::bigint - :ru)::text ELSE f.value END AS value
FROM asked AS a, pg_temp.form(a.body) AS f ORDER BY a.ref < 0 DESC, a.ref;
SELECT pg_temp.say(-1, '{"balance": "100.50", "currency": "RUR"}', '{"op": "balance"}');
SELECT pg_temp.say(:ru, '{"id": ' || :ru || ', "cnt": 2, "cost": "7.00", "balance": "93.50"}'), pg_temp.say(:en, '{"id": ' || :en || ', "cnt": 1, "cost": "3.50", "balance": "90"}');
SELECT id - :ru AS message, state, provider_id = id::text AS our_id, sender, encoding, segments FROM crm.message WHERE id >= :ru ORDER BY id;
SELECT message_id - :ru AS message, parts, price, currency FROM crm.message_price ORDER BY 1;
SELECT day, messages, parts, amount FROM crm.integration_spending;
SELECT balance, currency FROM crm.integration_account;

-- what each reply means
CREATE TEMP TABLE reply (n integer GENERATED ALWAYS AS IDENTITY, op text, status integer, body text, error text, sent boolean, outcome text, class text, rejected integer, origin text);
COPY reply (op, status, body, error, sent, outcome, class, rejected, origin) FROM :'replies' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
CREATE TEMP TABLE one AS SELECT n, crm.send('sms', '+79123456789', 'reply ' || n) AS id FROM reply ORDER BY n;
SELECT count(*) AS claimed FROM pg_temp.claim('send');
CREATE TEMP TABLE before AS SELECT r.id FROM crm.rejected AS r;
SELECT crm.courier_settle(1, :smsc, array_agg(ROW (one.id, r.status, '',
	CASE WHEN r.body LIKE '\\x%' THEN decode(substr(r.body, 3), 'hex') ELSE convert_to(replace(r.body, '{id}', one.id::text), 'UTF8') END, r.error, r.sent, 5, '{"op": "send"}')::crm.reply))
FROM reply AS r JOIN one USING (n);
SELECT r.status, left(r.body, 60) AS body, r.outcome, a.outcome AS ours, a.words
FROM reply AS r JOIN one USING (n) LEFT JOIN crm.message_attempt AS a ON a.message_id = one.id WHERE a.outcome IS DISTINCT FROM r.outcome;
SELECT count(*) AS replies FROM reply;
SELECT (SELECT sum(rejected) FROM reply) AS to_be_kept, (SELECT sum(seen) FROM crm.rejected) AS kept;
SELECT DISTINCT what, reason, sqlstate FROM crm.rejected ORDER BY 1, 2;
SELECT a.words FROM reply AS r JOIN one USING (n) JOIN crm.message_attempt AS a ON a.message_id = one.id WHERE r.origin LIKE '%windows-1251';
SELECT m.state, count(*) FROM one JOIN crm.message AS m USING (id) GROUP BY 1 ORDER BY 1;
-- auth goes before money in words, and stops the integration: nothing but the balance is asked
SELECT severity, subject, regexp_replace(message, '\d{4}-\d\d-\d\d [0-9:+]+', 'T') AS message, hint ~ 'set_secret' AS says_what FROM crm.health WHERE subject = 'integration smsc';
SELECT count(*) AS claimed_while_held FROM pg_temp.claim();
SELECT pg_temp.later();
SELECT context FROM pg_temp.claim();
SELECT pg_temp.say(-1, '{"error": "authorise error", "error_code": 2}', '{"op": "balance"}');
SELECT pg_temp.later();
SELECT count(*) AS claimed FROM pg_temp.claim();
SELECT pg_temp.say(-1, '{"balance": "0"}', '{"op": "balance"}');
SELECT regexp_replace(message, '\d{4}-\d\d-\d\d [0-9:+]+', 'T') AS message, hint ~ '^Pay' AS says_what FROM crm.health WHERE subject = 'integration smsc';
-- an answer without a balance is kept and ends no stop
SELECT pg_temp.say(-1, b, '{"op": "balance"}') FROM unnest(ARRAY['[1]', '{"balance": "much"}', '{"balance": {"a": 1}}', '<html>', '{"balance": 1e900000}']) AS b;
SELECT count(*) AS kept FROM crm.rejected WHERE what = 'reply to balance.php';
SELECT crm.account_stopped(:smsc);
SELECT pg_temp.say(-1, '{"balance": "1000.00"}', '{"op": "balance"}');
SELECT crm.account_stopped(:smsc), count(*) AS health FROM crm.health WHERE subject LIKE '%smsc';

-- what became of sent messages: one question for many
CREATE TEMP TABLE status (n integer GENERATED ALWAYS AS IDENTITY, body text, state text, rejected integer, origin text);
COPY status (body, state, rejected, origin) FROM :'statuses' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
CREATE TEMP TABLE two AS SELECT n, crm.send('sms', '+79123456789', 'status ' || n) AS id FROM status ORDER BY n;
SELECT count(*) AS claimed FROM pg_temp.claim('send');
SELECT crm.courier_settle(1, :smsc, array_agg(ROW (id, 200, '', convert_to('{"id": ' || id || ', "cnt": 1}', 'UTF8'), NULL, true, 5, '{"op": "send"}')::crm.reply)) FROM two;
DELETE FROM before;
INSERT INTO before SELECT id FROM crm.rejected;
SELECT crm.courier_settle(1, :smsc, array_agg(ROW (-2, 200, '', convert_to(s.body, 'UTF8'), NULL, true, 5, jsonb_build_object('op', 'status', 'ids', jsonb_build_array(two.id)))::crm.reply))
FROM status AS s JOIN two USING (n);
SELECT s.body, s.state, m.state AS ours, m.last_error FROM status AS s JOIN two USING (n) JOIN crm.message AS m USING (id) WHERE m.state IS DISTINCT FROM s.state;
SELECT DISTINCT m.last_error FROM two JOIN crm.message AS m USING (id) WHERE m.state = 'undelivered' ORDER BY 1;
SELECT DISTINCT m.delivered_at FROM two JOIN crm.message AS m USING (id) WHERE m.state = 'delivered';
SELECT (SELECT sum(rejected) FROM status) AS to_be_kept, (SELECT sum(seen) FROM crm.rejected WHERE id NOT IN (SELECT id FROM before)) AS kept;
SELECT crm.integration_retry('smsc');
SELECT pg_temp.later();
CREATE TEMP TABLE question AS SELECT r.* FROM pg_temp.claim('status') AS r;
SELECT q.url, jsonb_array_length(q.context -> 'ids') AS ids, f.name,
	CASE WHEN f.name IN ('id', 'phone') THEN regexp_count(f.value, ',') + 1 ELSE NULL END AS values
FROM question AS q, pg_temp.form(q.body) AS f WHERE f.name NOT IN ('login', 'psw');
-- a minute passes between two questions
SELECT count(*) AS asked_again FROM pg_temp.claim('status');
-- several in one reply: by their id in any order, or by their place where they have none
CREATE TEMP TABLE three AS SELECT n, crm.send('sms', '+79123456789', 'batch ' || n) AS id FROM generate_series(1, 4) AS n;
SELECT count(*) AS claimed FROM pg_temp.claim('send') AS c JOIN three ON three.id = c.ref;
SELECT crm.courier_settle(1, :smsc, array_agg(ROW (id, 200, '', convert_to('{"id": ' || id || ', "cnt": 1}', 'UTF8'), NULL, true, 5, '{"op": "send"}')::crm.reply)) FROM three;
SELECT pg_temp.say(-2, (SELECT jsonb_agg(jsonb_build_object('id', id, 'status', CASE n WHEN 2 THEN 20 ELSE 1 END) ORDER BY n DESC)::text FROM three WHERE n < 3),
	jsonb_build_object('op', 'status', 'ids', (SELECT jsonb_agg(id ORDER BY n) FROM three WHERE n < 3)));
SELECT pg_temp.say(-2, '[{"status": 1}, {"status": 3}]', jsonb_build_object('op', 'status', 'ids', (SELECT jsonb_agg(id ORDER BY n) FROM three WHERE n > 2)));
SELECT n, m.state FROM three JOIN crm.message AS m USING (id) ORDER BY n;

-- a lost reply: asked about, and sent again under the same number only after SMSC has twice not known it
SELECT pg_temp.later();
SELECT crm.send('sms', '+79123456789', 'lost, and taken') AS taken \gset
SELECT crm.send('sms', '+79123456789', 'lost, and not taken') AS lost \gset
SELECT count(*) AS claimed FROM pg_temp.claim('send') AS c WHERE c.ref IN (:taken, :lost);
SELECT crm.courier_settle(1, :smsc, array_agg(ROW (id, 0, '', NULL, 'timeout: no reply in 30000 ms', true, 30000, '{"op": "send"}')::crm.reply)) FROM unnest(ARRAY[:taken, :lost]) AS id;
SELECT body, state, last_error FROM crm.message WHERE id IN (:taken, :lost) ORDER BY id;
SELECT crm.message_doubtful(:lost) AS doubtful;
-- asked at once, nothing is believed yet: the request may still be on its way there
SELECT crm.outbox_status(:smsc, ARRAY[:lost], '{unknown}', NULL, '{status -3}', NULL) AS again FROM generate_series(1, 3);
SELECT pg_temp.later();
SELECT pg_temp.say(-2, '{"status": 0}', jsonb_build_object('op', 'status', 'ids', jsonb_build_array(:taken))), pg_temp.say(-2, '{"status": -3}', jsonb_build_object('op', 'status', 'ids', jsonb_build_array(:lost)));
SELECT body, state, provider_id = id::text AS our_id FROM crm.message WHERE id IN (:taken, :lost) ORDER BY id;
-- unknown once is not enough; and had SMSC known it in between, the count would begin anew
SELECT unknown FROM crm.message_watch WHERE message_id = :lost;
SELECT count(*) AS sent_again FROM pg_temp.claim('send') AS c WHERE c.ref IN (:taken, :lost);
-- unknown for the second time: it goes again
SELECT pg_temp.say(-2, '{"status": -3}', jsonb_build_object('op', 'status', 'ids', jsonb_build_array(:lost)));
SELECT body, state FROM crm.message WHERE id = :lost;
SELECT due_at > crm.clock() AS after_a_pause, lane FROM crm.message_delayed WHERE message_id = :lost;
-- unknown once more, from a second question that was on its way: not a third copy
SELECT pg_temp.say(-2, '{"status": -3}', jsonb_build_object('op', 'status', 'ids', jsonb_build_array(:lost)));
SELECT count(*) AS waiting_tries FROM crm.message_delayed WHERE message_id = :lost;
UPDATE crm.message_delayed SET due_at = crm.clock() WHERE message_id = :lost;
SELECT c.ref = :lost AS same_message, f.value = :'lost' AS same_id FROM pg_temp.claim('send') AS c, pg_temp.form(c.body) AS f WHERE f.name = 'id' AND c.ref = :lost;
-- error 9 after a lost reply means that the first copy was taken
SELECT pg_temp.say(:lost, '{"error": "duplicate request", "error_code": 9}');
SELECT state FROM crm.message WHERE id = :lost;
SELECT crm.account_stopped(:smsc), count(*) AS held FROM crm.health WHERE subject = 'integration smsc';
SELECT pg_temp.say(-2, '{"status": 1, "last_timestamp": 1772445600}', jsonb_build_object('op', 'status', 'ids', jsonb_build_array(:lost)));
SELECT state, delivered_at, attempts FROM crm.message WHERE id = :lost;
SELECT attempt, outcome, words FROM crm.message_attempt WHERE message_id = :lost ORDER BY at, attempt;
SELECT count(*) AS still_watched FROM crm.message_watch WHERE message_id = :lost;
-- the courier is woken when the next question is due, and not again and again by one that nobody asked
UPDATE crm.message_watch SET due_ms = crm.monotonic_ms() + 5000;
UPDATE crm.integration_state SET hold_ms = 0, session = session - 'ask_from_ms';
SELECT crm.watch_deadline(ARRAY[:smsc]) - crm.monotonic_ms() BETWEEN 1 AND 5000 AS in_five_seconds, crm.watch_deadline('{}') IS NULL AS of_no_other;
UPDATE crm.message_watch SET due_ms = crm.monotonic_ms() - 61000;
SELECT crm.watch_deadline(ARRAY[:smsc]) IS NULL AS let_be;
-- an uncertain message of a dead courier is found by its attempt
DELETE FROM crm.message_watch WHERE message_id = (SELECT min(id) FROM one JOIN crm.message USING (id) WHERE state = 'uncertain');
SELECT pg_temp.later();
SELECT count(*) > 0 AS asked FROM pg_temp.claim('status');
SELECT count(*) AS watched_again FROM crm.message_watch WHERE message_id = (SELECT min(id) FROM one JOIN crm.message USING (id) WHERE state = 'uncertain');

-- a budget: what it does not cover waits
UPDATE crm.integration SET settings = settings || '{"budget_day": 21, "price": 3.5}' WHERE name = 'smsc';
SELECT crm.account_room(:smsc, 100) AS room_while_on_their_way;
UPDATE crm.integration_state SET outstanding = 0;
SELECT span, budget, trim_scale(spent) AS spent, trim_scale(price) AS price FROM crm.account_budget(:smsc);
SELECT crm.account_room(:smsc, 100) AS room;
UPDATE crm.integration SET settings = settings || '{"budget_month": "10,5"}' WHERE name = 'smsc';
SELECT span, budget, trim_scale(spent) AS spent FROM crm.account_budget(:smsc);
SELECT crm.account_room(:smsc, 100) AS room;
SELECT severity, subject, regexp_replace(message, ' and \d+ messages wait', ' and N messages wait') AS message, hint FROM crm.health WHERE subject = 'budget smsc';
SELECT crm.set_now('2026-04-01 00:00Z', 0) IS NOT NULL AS clock;
SELECT span, budget, spent FROM crm.account_budget(:smsc);
UPDATE crm.integration SET settings = settings - '{budget_day,budget_month}'::text[] || '{"balance_low": 2000}' WHERE name = 'smsc';
SELECT severity, subject, regexp_replace(message, '\d{4}-\d\d-\d\d [0-9:+]+', 'T') AS message FROM crm.health WHERE subject LIKE '%smsc' ORDER BY 2;

-- in the sandbox everything, questions too, is of the test recipient
INSERT INTO crm.sandbox_recipient (channel, value) VALUES ('sms', '+79990000000');
SELECT crm.set_now('2026-04-01 09:00Z', 0) IS NOT NULL AS clock, crm.activate('sandbox') AS mode;
SELECT crm.integration_retry('smsc');
UPDATE crm.integration_state SET outstanding = 0, failures = 0;
SELECT crm.send('sms', '+79123456789', 'sandbox') AS id \gset
SELECT f.name, f.value FROM pg_temp.claim('send') AS c, pg_temp.form(c.body) AS f WHERE c.ref = :id AND f.name IN ('phones', 'mes');

-- settings: a key instead of a password; an unknown way is refused
UPDATE crm.integration SET settings = settings || '{"auth": "apikey"}' WHERE name = 'smsc';
SELECT f.name, f.value FROM crm.sms_smsc_test(:smsc) AS t, pg_temp.form(t.body) AS f;
UPDATE crm.integration SET settings = settings || '{"auth": "md5"}' WHERE name = 'smsc';
SELECT f.value = md5('canary-password') AS md5 FROM crm.sms_smsc_test(:smsc) AS t, pg_temp.form(t.body) AS f WHERE f.name = 'psw';
UPDATE crm.integration SET settings = settings || '{"auth": "basic"}' WHERE name = 'smsc';
SAVEPOINT s;
SELECT crm.sms_smsc_test(:smsc);
ROLLBACK TO s;
SELECT crm.sms_smsc_judge(:smsc, ROW (0, status, '', body, error, true, 5, NULL)::crm.reply)
FROM (VALUES (200, '{"balance": "12.50", "currency": "RUR"}'::bytea, NULL), (200, '{"error": "authorise error", "error_code": 2}', NULL), (200, '[]', NULL), (404, '<html>', NULL), (0, NULL, 'connect: Connection refused')) AS v(status, body, error);
-- the password is in no row that people or dumps see
SELECT count(*) AS leaks FROM (SELECT i::text FROM crm.integration AS i UNION ALL SELECT r::text FROM crm.rejected AS r UNION ALL SELECT a::text FROM crm.message_attempt AS a
	UNION ALL SELECT s::text FROM crm.integration_state AS s UNION ALL SELECT h::text FROM crm.health AS h) AS x(words) WHERE words ~ 'canary' OR words ~ md5('canary-password');
-- a final state never goes back, and a question of another integration changes nothing
SELECT crm.add_integration('other', 'sms_smsc', 'https://smsc.ru', '{"login": "other", "sender": "OTHER"}') AS other \gset
SELECT crm.outbox_status(:other, ARRAY[:lost, :taken], '{undelivered,undelivered}', NULL, NULL, NULL), crm.outbox_status(:smsc, ARRAY[:lost], '{undelivered}', NULL, NULL, NULL);
SELECT state FROM crm.message WHERE id IN (:lost, :taken) ORDER BY id;
SAVEPOINT s;
SELECT crm.outbox_status(:smsc, ARRAY[:lost], '{gone}', NULL, NULL, NULL);
ROLLBACK TO s;
-- a message that was found by asking left once, and counts once
SELECT bool_and(e.n = a.leases) AS once, bool_or(a.told > 0) AS some_were_found
FROM (SELECT message_id, count(*) AS n FROM crm.fact_egress WHERE message_id IS NOT NULL GROUP BY 1) e
JOIN (SELECT message_id, count(DISTINCT lease_id) AS leases, count(*) FILTER (WHERE outcome = 'sent' AND lease_id IS NULL) AS told FROM crm.message_attempt GROUP BY 1) a USING (message_id);
SELECT crm.outbox_status(:smsc, ARRAY[:lost], '{sent,sent}', NULL, NULL, NULL);
ROLLBACK;
