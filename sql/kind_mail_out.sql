-- mail_out: the letter and its envelope, and what a server's replies mean, on recorded bytes.
-- claim 46: the e-mail connection is part of the module
-- claim 59: letters with and without attachments
-- claim 62: a letter reads on a phone and on a PC
\set SHOW_CONTEXT never
\pset null '(null)'
\getenv abs_srcdir PG_ABS_SRCDIR
\set replies :abs_srcdir '/test/data/mail_out/replies.tsv'
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL timezone = 'UTC';
SELECT crm.set_now('2026-03-02 09:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT crm.add_integration('mail', 'mail_out', 'smtp://127.0.0.1:2525/crm.example',
	'{"sender": "ООО \"Цемент\" <sales@cement.example>", "username": "crm", "max_attempts": 3, "retry_ms": 3600000, "retry_max_ms": 3600000}', 'canary-password') AS mail \gset
CREATE FUNCTION pg_temp.claim(capacity integer DEFAULT 100) RETURNS SETOF crm.request LANGUAGE sql AS
	$$ SELECT c.* FROM crm.courier_claim(1, $1, '{}', '{}') AS i, unnest(i.requests) AS c $$;
CREATE FUNCTION pg_temp.shown(letter bytea, id bigint) RETURNS SETOF text LANGUAGE sql AS
	$$ SELECT regexp_replace(regexp_replace(replace(line, E'\t', '<tab>'), 'crm\.' || $2 || '\.[0-9a-f]{12}', 'crm.ID.HASH'), '=_[am]_[0-9a-f]{32}', 'BOUNDARY')
	   FROM unnest(string_to_array(convert_from($1, 'UTF8'), E'\r\n')) AS line $$;

-- a letter: envelope, login, text and html, Message-ID of our own
SELECT crm.send('email', 'Client@Test.Local', E'Dear client,\n\nthe truck A123BC77 <15 t> has left & will come at 14:30.\nWait for it.\n\nThe plant', 'Отгрузка № 15', language => 'en') AS id \gset
CREATE TEMP TABLE asked AS SELECT * FROM pg_temp.claim();
SELECT ref - :id AS message, method, url, headers, username, password IS NOT NULL AS has_password, timeout_ms FROM asked;
SELECT line FROM asked, pg_temp.shown(body, :id) AS line;
-- the same letter again on the next try: the same octets
SELECT crm.courier_settle(1, :mail, array_agg(ROW (ref, 451, E'451 4.3.0 later\r\n', NULL, NULL, false, 5, NULL)::crm.reply)) FROM asked;
SELECT state, attempts, last_error FROM crm.message WHERE id = :id;
UPDATE crm.message_flight_0 SET due_ms = crm.monotonic_ms() - 1;
SELECT (a.body = b.body) AS same_octets FROM asked AS a, pg_temp.claim() AS b WHERE a.ref = b.ref;
SELECT crm.courier_settle(1, :mail, array_agg(ROW (ref, 250, E'250 2.0.0 Ok: queued as 58C54A762E2\r\n', NULL, NULL, true, 5, NULL)::crm.reply)) FROM asked;
SELECT state, provider_id, attempts, last_error FROM crm.message WHERE id = :id;

-- attachments with Cyrillic names, an html of the caller's own, a return path with the message's number
UPDATE crm.integration SET settings = settings || '{"return_path": "bounce+{id}@cement.example", "reply_to": "Отдел продаж <sales@cement.example>"}' WHERE name = 'mail';
SELECT crm.send('email', 'client@test.local', 'Смотрите вложение.', 'Акт', html => '<p>Смотрите <b>вложение</b>.</p>') AS id \gset
SELECT count(crm.message_attach(:id, n, t, c)) AS attached FROM (VALUES ('Акт сверки № 7.xlsx', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', '\x504b'::bytea), ('plan.txt', 'text/plain', 'plan')) AS f(n, t, c);
TRUNCATE asked;
INSERT INTO asked SELECT * FROM pg_temp.claim();
SELECT replace(h, :'id', 'ID') AS envelope FROM asked, unnest(headers) AS h;
SELECT line FROM asked, pg_temp.shown(body, :id) AS line WHERE line ~ '^(Reply-To|Content-(Type|Disposition)|<tab>| <)';
SELECT crm.courier_settle(1, :mail, array_agg(ROW (ref, 250, E'250 OK id=1rKz2A-0004Xy-1B\r\n', NULL, NULL, true, 5, NULL)::crm.reply)) FROM asked;
UPDATE crm.integration SET settings = settings - 'return_path' - 'reply_to' WHERE name = 'mail';

-- html: a fragment becomes a page, a page stays, plain text is escaped
SELECT crm.mail_out_html('<html><body>own</body></html>', 'x', 's', 'ru') AS page;
SELECT line FROM unnest(string_to_array(crm.mail_out_html(NULL, E'a <b> & c\r\nline\n\n\nsecond', 'T <1>', 'zz'), E'\n')) AS line WHERE line ~ '<(p|html|title|meta name)|</p>';

-- one letter that cannot be built fails alone, with the reason; the others go
SELECT crm.send('email', 'one@test.local', 'one', 'one') AS one \gset
SELECT crm.send('email', 'two@test.local', 'two', 'two', sender => 'no address at all') AS two \gset
SELECT crm.send('email', 'three@test.local', 'three', 'three') AS three \gset
SELECT crm.message_attach(:three, 'big.bin', 'application/octet-stream', decode(repeat('00', 100000), 'hex')) IS NOT NULL AS attached;
UPDATE crm.integration SET settings = settings || '{"max_letter_bytes": 50000}' WHERE name = 'mail';
SELECT (SELECT count(*) FROM pg_temp.claim() AS c WHERE c.ref = :one) AS requests;
SELECT recipient, state, regexp_replace(last_error, 'has [0-9]+ bytes', 'has N bytes') AS last_error FROM crm.message WHERE id IN (:one, :two, :three) ORDER BY id;
UPDATE crm.integration SET settings = settings - 'max_letter_bytes' WHERE name = 'mail';
SELECT crm.courier_settle(1, :mail, ARRAY[ROW (:one, 250, E'250 ok\r\n', NULL, NULL, true, 5, NULL)::crm.reply]);

-- what the replies mean
CREATE TEMP TABLE reply (n integer GENERATED ALWAYS AS IDENTITY, status integer, headers text, error text, sent boolean, outcome text, class text, provider_id text, origin text);
COPY reply (status, headers, error, sent, outcome, class, provider_id, origin) FROM :'replies' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
UPDATE reply SET headers = replace(headers, '\n', E'\r\n');
SELECT r.status, r.headers, r.error, r.outcome, r.class, m.outcome AS ours, m.class AS our_class, m.words
FROM reply AS r JOIN crm.reply_meaning(:mail, (SELECT array_agg(ROW (n, status, headers, NULL, error, sent, 5, NULL)::crm.reply) FROM reply)) AS m ON m.ref = r.n
WHERE (r.outcome, r.class) IS DISTINCT FROM (m.outcome, m.class);
SELECT count(*) AS replies FROM reply;
CREATE TEMP TABLE one AS SELECT n, crm.send('email', 'client@test.local', 'reply ' || n, 'reply') AS id FROM reply ORDER BY n;
SELECT count(*) AS claimed, crm.courier_settle(1, :mail, array_agg(ROW (c.ref, r.status, r.headers, NULL, r.error, r.sent, 5, NULL)::crm.reply))
FROM pg_temp.claim() AS c JOIN one ON one.id = c.ref JOIN reply AS r USING (n);
SELECT r.n, m.state, m.provider_id, m.last_error FROM reply AS r JOIN one USING (n) JOIN crm.message AS m ON m.id = one.id
WHERE m.provider_id IS DISTINCT FROM r.provider_id OR r.n IN (1, 5, 7, 10, 20) ORDER BY r.n;
SELECT m.state, count(*) FROM one JOIN crm.message AS m USING (id) GROUP BY 1 ORDER BY 1;
-- the refused login holds the whole integration
SELECT severity, message FROM crm.health WHERE subject = 'integration mail';
SELECT count(*) AS claimed_while_held FROM pg_temp.claim();

-- a big backlog of large letters is taken in bounded portions
SELECT crm.integration_retry('mail');
UPDATE crm.integration SET settings = settings || '{"batch_bytes": 3000000}' WHERE name = 'mail';
CREATE TEMP TABLE heavy AS SELECT crm.send('email', 'client@test.local', 'heavy ' || i, 'heavy') AS id FROM generate_series(1, 12) AS i;
SELECT count(crm.message_attach(id, 'big.bin', 'application/octet-stream', decode(repeat('00', 800000), 'hex'))) AS attached FROM heavy;
SELECT count(*) AS letters, sum(octet_length(c.body)) < 8000000 AS bounded FROM pg_temp.claim(1000) AS c JOIN heavy ON heavy.id = c.ref;

-- the test of an integration, and what is kept of the password
SELECT method, url, headers, username, password IS NOT NULL AS has_password FROM crm.mail_out_test(:mail);
SELECT crm.mail_out_judge(:mail, ROW (0, status, headers, NULL, error, true, 5, NULL)::crm.reply)
FROM (VALUES (250, E'250 2.0.0 Ok\r\n', NULL), (535, E'535 5.7.8 Error: authentication failed\r\n', NULL), (0, NULL, 'tls: self-signed certificate')) AS v(status, headers, error);
SELECT count(*) AS leaks FROM (SELECT i::text FROM crm.integration AS i UNION ALL SELECT r::text FROM crm.rejected AS r UNION ALL SELECT a::text FROM crm.message_attempt AS a
	UNION ALL SELECT h::text FROM crm.health AS h) AS x(words) WHERE words LIKE '%canary%';
ROLLBACK;
