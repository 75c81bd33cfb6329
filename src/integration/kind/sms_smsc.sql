-- sms_smsc: SMS through SMSC.ru (and services that run the same software): send.php, status.php, balance.php.
--
-- The message's number is the id that SMSC keeps, so after a lost reply it is asked what became of it. That id is no
-- key against doubles there: a message is sent again only after SMSC has said, often enough, that it has none of it.
-- SMSC answers 200 whatever happened: only the JSON says it.

CREATE OR REPLACE FUNCTION crm.sms_smsc_form(integration_id bigint, fields text[]) RETURNS bytea
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	secret text := crm.secret_value($1);
	login text[];
BEGIN
	login := CASE crm.setting_of($1, 'auth')
		WHEN 'apikey' THEN ARRAY['apikey', secret]
		WHEN 'login' THEN ARRAY['login', crm.setting_of($1, 'login'), 'psw', secret]
		WHEN 'md5' THEN ARRAY['login', crm.setting_of($1, 'login'), 'psw', md5(secret)] END;
	IF login IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown auth of SMSC: %s', coalesce(quote_literal(crm.setting_of($1, 'auth')), 'NULL')),
			HINT = 'The setting auth is login (name and password), md5 (the password as its MD5) or apikey.';
	END IF;
	RETURN (SELECT convert_to(string_agg(f.name || '=' || crm.url_encode(f.value), '&' ORDER BY f.n), 'UTF8')
		FROM (SELECT a[2 * n - 1] AS name, a[2 * n] AS value, n
			FROM (SELECT login || ARRAY['fmt', '3', 'charset', 'utf-8'] || $2) AS x(a), generate_series(1, cardinality(a) / 2) AS n) AS f
		WHERE f.value IS NOT NULL);
END
$$;
COMMENT ON FUNCTION crm.sms_smsc_form(bigint, text[]) IS 'The body of a request: login or key, then names and values in turn, those without a value left out. Error 22023 for an unknown setting auth.';

CREATE OR REPLACE FUNCTION crm.sms_smsc_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	base text;
	settings jsonb;
	head constant text[] := ARRAY['Content-Type: application/x-www-form-urlencoded'];
	limit_ms integer;
	used integer := 0;
	ids bigint[];
	phones text[];
BEGIN
	SELECT rtrim(i.url, '/'), k.defaults || i.settings INTO base, settings
	FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	limit_ms := (settings ->> 'timeout_ms')::integer;
	IF crm.account_ask($1) THEN
		used := 1;
		RETURN NEXT ROW (-1, 'POST', base || '/sys/balance.php', head, crm.sms_smsc_form($1, ARRAY['cur', '1']), NULL, NULL, limit_ms, '{"op": "balance"}')::crm.request;
	END IF;
	IF crm.account_stopped($1) IS NOT NULL OR capacity <= used THEN
		RETURN;
	END IF;
	SELECT array_agg(d.message_id), array_agg(ltrim(d.recipient, '+')) INTO ids, phones
	FROM crm.outbox_due($1, (settings ->> 'ask_batch')::integer, (settings ->> 'ask_pace_ms')::bigint) AS d;
	IF ids IS NOT NULL THEN
		used := used + 1;
		RETURN NEXT ROW (-2, 'POST', base || '/sys/status.php', head,
			crm.sms_smsc_form($1, ARRAY['id', (SELECT string_agg((settings ->> 'id_prefix') || x.id, ',' ORDER BY x.n) FROM unnest(ids) WITH ORDINALITY AS x(id, n)),
				'phone', array_to_string(phones, ',')]), NULL, NULL, limit_ms,
			jsonb_build_object('op', 'status', 'ids', to_jsonb(ids)))::crm.request;
	END IF;
	RETURN QUERY
	SELECT t.message_id, 'POST'::text, base || '/sys/send.php', head,
		crm.sms_smsc_form($1, ARRAY[
			'phones', ltrim(t.recipient, '+'),
			'mes', t.body,
			'sender', t.sender,
			'id', (settings ->> 'id_prefix') || t.message_id,
			'cost', '3',
			'valid', CASE WHEN t.expires_at IS NOT NULL THEN least(24, greatest(1, ceil(extract(epoch FROM t.expires_at - crm.now()) / 3600)))::integer::text END]),
		NULL::text, NULL::text, limit_ms, '{"op": "send"}'::jsonb
	FROM crm.outbox_take($1, crm.account_room($1, capacity - used)) AS t;
END
$$;
COMMENT ON FUNCTION crm.sms_smsc_next(bigint, integer) IS
'Next requests for SMSC: the balance where it is due, one question about a batch of messages, and messages, one request each under the message''s number. While SMSC refuses us (no money, wrong password) only the balance is asked. Protocol sms, section 2.';

CREATE OR REPLACE FUNCTION crm.sms_smsc_words(reply crm.reply, said jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	-- what the rules of crm.reply_rule read
	SELECT CASE
		WHEN jsonb_typeof($2 -> 'error_code') IN ('number', 'string') OR $2 ? 'error' THEN
			left(format('error %s: %s', coalesce($2 ->> 'error_code', '0'), regexp_replace(coalesce($2 ->> 'error', ''), '\s+', ' ', 'g')), 500)
		WHEN $2 ? 'id' THEN format('accepted %s', left($2 ->> 'id', 60))
		ELSE left('unreadable: ' || regexp_replace(crm.body_text(substr(($1).body, 1, 300)), '\s+', ' ', 'g'), 500) END
$$;
COMMENT ON FUNCTION crm.sms_smsc_words(crm.reply, jsonb) IS 'A reply of SMSC in words: error N: …, accepted ID, or unreadable: …; the patterns of crm.reply_rule look at them.';

CREATE OR REPLACE FUNCTION crm.sms_smsc_state(status integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN $1 = -3 THEN 'unknown'
		WHEN $1 IN (-2, -1, 0) THEN 'sent'
		WHEN $1 IN (1, 2, 4) THEN 'delivered'
		WHEN $1 IN (3, 20, 22, 23, 24, 25) THEN 'undelivered' END
$$;
COMMENT ON FUNCTION crm.sms_smsc_state(integer) IS 'A status of SMSC in the words of crm.outbox_status(); NULL for one that is not known. Protocol sms, section 2.';

CREATE OR REPLACE FUNCTION crm.sms_smsc_take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	prefix text := crm.setting_of($1, 'id_prefix');
	statuses constant text[] := ARRAY['stopped', 'waiting to be sent', 'handed to the operator', 'delivered', 'read', 'expired', 'link pressed'];
	s record;
	r crm.reply;
	said jsonb;
	t record;
	code text;
	balance numeric;
BEGIN
	-- messages
	WITH reply AS (
		SELECT x.*, n, crm.body_json(x.body) AS said FROM unnest($2) WITH ORDINALITY AS x(ref, status, headers, body, error, sent, elapsed_ms, context, n)
		WHERE x.context ->> 'op' = 'send'
	), worded AS (
		SELECT r.*, crm.sms_smsc_words(ROW (r.ref, r.status, r.headers, r.body, r.error, r.sent, r.elapsed_ms, r.context)::crm.reply,
			CASE WHEN jsonb_typeof(r.said) = 'object' THEN r.said END) AS words FROM reply AS r
	), meant AS (
		SELECT w.*, m.outcome, m.class, m.words AS told,
			-- an id that is not the one we gave is no answer to this message
			w.error IS NULL AND m.outcome = 'sent' AND w.said ->> 'id' IS DISTINCT FROM prefix || w.ref AS foreign_id
		FROM worded AS w
		JOIN crm.reply_meaning($1, (SELECT array_agg(ROW (x.ref, x.status, x.headers, convert_to(x.words, 'UTF8'), x.error, x.sent, x.elapsed_ms, x.context)::crm.reply) FROM worded AS x)) AS m
			ON m.ref = w.ref
	), judged AS (
		SELECT m.ref, m.status, m.body, m.told, m.said, m.foreign_id, m.error,
			CASE WHEN m.foreign_id THEN 'uncertain'
				-- said of a second copy: the first one was taken
				WHEN m.class = 'throttled' AND m.words ~ '^error 9:' AND EXISTS (SELECT FROM crm.message_attempt AS a WHERE a.message_id = m.ref AND a.outcome = 'uncertain' OFFSET 0)
					THEN 'uncertain'
				ELSE m.outcome END AS outcome,
			CASE WHEN m.foreign_id THEN 'unknown'
				WHEN m.class = 'throttled' AND m.words ~ '^error 9:' AND EXISTS (SELECT FROM crm.message_attempt AS a WHERE a.message_id = m.ref AND a.outcome = 'uncertain' OFFSET 0)
					THEN 'duplicate'
				ELSE m.class END AS class
		FROM meant AS m
	)
	SELECT array_agg(j.ref) AS refs, array_agg(j.outcome) AS outcomes, array_agg(j.class) AS classes,
		array_agg(CASE WHEN j.outcome = 'sent' THEN j.said ->> 'id' END) AS provider_ids, array_agg(j.told) AS words,
		array_agg(CASE WHEN j.said ->> 'cnt' ~ '^[0-9]{1,4}$' THEN (j.said ->> 'cnt')::integer END) AS parts,
		array_agg(crm.as_number(j.said ->> 'cost')) AS prices,
		(array_agg(crm.as_number(j.said ->> 'balance') ORDER BY crm.as_number(j.said ->> 'balance')) FILTER (WHERE j.outcome = 'sent'))[1] AS balance,
		array_agg(CASE WHEN j.error IS NULL AND j.class = 'unknown' AND j.status BETWEEN 200 AND 299 THEN coalesce(j.body, '') END) AS unreadable,
		array_agg(j.foreign_id) AS foreign_ids
	INTO t FROM judged AS j;
	IF t.refs IS NOT NULL THEN
		PERFORM crm.reject($1, 'reply to a message', CASE WHEN u.foreign_id THEN 'the id is not the one that was given' ELSE 'no JSON object with an id or an error' END, '22P02', u.body)
		FROM unnest(t.unreadable, t.foreign_ids) AS u(body, foreign_id) WHERE u.body IS NOT NULL;
		-- first the balance: a refusal of the same batch came after it, or may have
		PERFORM crm.account_balance($1, t.balance);
		PERFORM crm.outbox_verdict($1, t.refs, t.outcomes, t.classes, t.provider_ids, t.words, t.parts, t.prices);
	END IF;

	FOREACH r IN ARRAY $2 LOOP
		CONTINUE WHEN r.context ->> 'op' = 'send' OR r.error IS NOT NULL OR r.status NOT BETWEEN 200 AND 299;
		said := crm.body_json(r.body);
		code := CASE WHEN jsonb_typeof(said) = 'object' THEN said ->> 'error_code' END;
		IF code IS NOT NULL THEN
			IF code = '2' THEN
				PERFORM crm.account_stop($1, 'auth', crm.sms_smsc_words(r, said));
			ELSIF code IN ('4', '9') THEN
				PERFORM crm.integration_failed($1, 'throttled: ' || crm.sms_smsc_words(r, said), crm.setting_of($1, 'throttle_ms')::bigint);
			ELSIF r.context ->> 'op' <> 'status' OR jsonb_array_length(r.context -> 'ids') > 1 OR code NOT IN ('3', '5') THEN
				PERFORM crm.integration_failed($1, crm.sms_smsc_words(r, said));
			END IF;
		ELSIF r.context ->> 'op' = 'balance' THEN
			balance := crm.as_number(said ->> 'balance');
			IF balance IS NULL THEN
				PERFORM crm.reject($1, 'reply to balance.php', 'no balance in it', '22P02', r.body);
			ELSE
				PERFORM crm.account_balance($1, balance);
			END IF;
		ELSE
			-- one id: an object; several: an array, each with its id or in the order asked
			SELECT array_agg(a.id ORDER BY a.id) AS ids, array_agg(a.state ORDER BY a.id) AS states, array_agg(a.words ORDER BY a.id) AS words,
				array_agg(a.moment ORDER BY a.id) AS moments, count(*) FILTER (WHERE a.state IS NULL) AS unread
			INTO s
			FROM (
				SELECT asked.id, crm.sms_smsc_state(g.code) AS state, e.told,
					format('status %s%s%s', g.code,
						coalesce(': ' || CASE g.code WHEN -3 THEN 'not found' WHEN 20 THEN 'cannot be delivered' WHEN 22 THEN 'wrong number' WHEN 23 THEN 'forbidden'
							WHEN 24 THEN 'no money' WHEN 25 THEN 'number cannot be reached' ELSE statuses[g.code + 3] END, ''),
						coalesce(', err ' || nullif(left(e.told ->> 'err', 20), '0'), '')) AS words,
					CASE WHEN e.told ->> 'last_timestamp' ~ '^[1-9][0-9]{8,10}$' THEN to_timestamp((e.told ->> 'last_timestamp')::double precision) END AS moment
				FROM jsonb_array_elements_text(r.context -> 'ids') WITH ORDINALITY AS w(id, n)
				CROSS JOIN LATERAL (SELECT w.id::bigint AS id) AS asked
				JOIN jsonb_array_elements(CASE jsonb_typeof(said) WHEN 'array' THEN said WHEN 'object' THEN jsonb_build_array(said) ELSE '[]' END) WITH ORDINALITY AS e(told, n)
					ON CASE WHEN jsonb_typeof(e.told -> 'id') IN ('number', 'string') THEN e.told ->> 'id' = prefix || w.id ELSE e.n = w.n END
				CROSS JOIN LATERAL (SELECT CASE WHEN e.told ->> 'status' ~ '^-?[0-9]{1,3}$' THEN (e.told ->> 'status')::integer END AS code) AS g
			) AS a;
			IF s.ids IS NULL OR s.unread > 0 THEN
				PERFORM crm.reject($1, 'reply to status.php', 'not a known status for each message asked about', '22P02', r.body);
			END IF;
			SELECT array_agg(x.id) AS ids, array_agg(x.state) AS states, array_agg(x.words) AS words, array_agg(x.moment) AS moments,
				array_agg(prefix || x.id) AS provider_ids
			INTO s FROM unnest(s.ids, s.states, s.words, s.moments) AS x(id, state, words, moment) WHERE x.state IS NOT NULL;
			PERFORM crm.outbox_status($1, s.ids, s.states, s.provider_ids, s.words, s.moments);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.sms_smsc_take(bigint, crm.reply[]) IS
'Settles replies of SMSC: of messages by the rows of crm.reply_rule over the words of crm.sms_smsc_words(), of questions by crm.sms_smsc_state(). What is no JSON, or names another id, leaves the message uncertain and stands in crm.rejected. Error 9 for a message whose reply was lost before means that SMSC has it: it is asked about.';

CREATE OR REPLACE FUNCTION crm.sms_smsc_test(integration_id bigint) RETURNS SETOF crm.request
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 0::bigint, 'POST'::text, rtrim(i.url, '/') || '/sys/balance.php', ARRAY['Content-Type: application/x-www-form-urlencoded'],
		crm.sms_smsc_form(i.id, ARRAY['cur', '1']), NULL::text, NULL::text, 10000, NULL::jsonb
	FROM crm.integration AS i WHERE i.id = $1
$$;
COMMENT ON FUNCTION crm.sms_smsc_test(bigint) IS 'Asks for the balance: nothing is sent.';

CREATE OR REPLACE FUNCTION crm.sms_smsc_judge(integration_id bigint, reply crm.reply) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN ($2).error IS NOT NULL THEN 'failed: ' || ($2).error
		WHEN crm.as_number(b.said ->> 'balance') IS NOT NULL THEN format('ok: balance %s %s', b.said ->> 'balance', left(b.said ->> 'currency', 10))
		ELSE format('failed: %s %s', ($2).status, crm.sms_smsc_words($2, CASE WHEN jsonb_typeof(b.said) = 'object' THEN b.said END)) END
	FROM crm.body_json(($2).body) AS b(said)
$$;
COMMENT ON FUNCTION crm.sms_smsc_judge(bigint, crm.reply) IS 'What the reply to the test means.';

SELECT crm.register_kind('sms_smsc', 'crm.sms_smsc_next', 'crm.sms_smsc_take', channel => 'sms',
	test_function => 'crm.sms_smsc_test', judge_function => 'crm.sms_smsc_judge',
	defaults => '{"auth": "login", "id_prefix": "", "on_unknown": "ask", "unknown_asks": 2, "unknown_ms": 120000, "ask_ms": 30000, "ask_max_ms": 3600000, "ask_hours": 72, "ask_batch": 100, "ask_pace_ms": 65000, "balance_ms": 600000, "currency": "RUB", "max_parts": 10, "timeout_ms": 30000, "hold_ms": 60000, "throttle_ms": 60000, "retry_ms": 5000, "max_in_flight": 4, "max_reply_bytes": 1048576}',
	description_en => 'SMS through SMSC.ru, asked about delivery', description_ru => 'SMS через SMSC.ru, с запросом статусов');

SELECT crm.register_reply_rule('sms_smsc', 'error_1', 1000, 200, 299, '^error 1:', 'retry', 'config');
SELECT crm.register_reply_rule('sms_smsc', 'error_2', 1010, 200, 299, '^error 2:', 'throttled', 'auth');
SELECT crm.register_reply_rule('sms_smsc', 'error_3', 1020, 200, 299, '^error 3:', 'throttled', 'balance');
SELECT crm.register_reply_rule('sms_smsc', 'error_4', 1030, 200, 299, '^error 4:', 'throttled', 'throttled');
SELECT crm.register_reply_rule('sms_smsc', 'error_5', 1040, 200, 299, '^error 5:', 'retry', 'config');
SELECT crm.register_reply_rule('sms_smsc', 'error_6', 1050, 200, 299, '^error 6:', 'failed', 'content');
SELECT crm.register_reply_rule('sms_smsc', 'error_7', 1060, 200, 299, '^error 7:', 'failed', 'permanent');
SELECT crm.register_reply_rule('sms_smsc', 'error_8', 1070, 200, 299, '^error 8:', 'failed', 'permanent');
SELECT crm.register_reply_rule('sms_smsc', 'error_9', 1080, 200, 299, '^error 9:', 'throttled', 'throttled');
SELECT crm.register_reply_rule('sms_smsc', 'error_other', 1090, 200, 299, '^error ', 'retry', 'transient');
SELECT crm.register_reply_rule('sms_smsc', 'accepted', 1100, 200, 299, '^accepted ', 'sent', 'ok');
SELECT crm.register_reply_rule('sms_smsc', 'refused', 1110, 401, 403, NULL, 'throttled', 'auth');
SELECT crm.register_reply_rule('sms_smsc', 'too_many', 1120, 429, 429, NULL, 'throttled', 'throttled');
SELECT crm.register_reply_rule('sms_smsc', 'wrong_address', 1130, 300, 499, NULL, 'throttled', 'config');
