-- sms_kannel: SMS through a Kannel gateway (smsbox, "sendsms"), delivery reports through the listener.
--
-- Kannel answers no message id and does not know ours, so nothing can be asked after a lost reply: such a
-- message is uncertain. Our id travels in the address that Kannel calls when it knows more (dlr-url).

CREATE OR REPLACE FUNCTION crm.sms_kannel_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	address text;
	settings jsonb;
	password text;
	dialect text;
	old boolean;
	report text;
	mask text;
	limit_ms integer;
BEGIN
	SELECT i.url, k.defaults || i.settings INTO address, settings
	FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	password := crm.secret_value($1);
	dialect := settings ->> 'dialect';
	IF dialect IS NULL OR dialect NOT IN ('post', 'get', 'get13') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown dialect of Kannel: %s', coalesce(quote_literal(dialect), 'NULL')),
			HINT = 'The setting dialect is post (1.4 and later), get, or get13 (1.3).';
	END IF;
	old := dialect = 'get13';
	mask := nullif(settings ->> 'dlr_mask', '0');
	report := crm.route_url($1, 'dlr');
	limit_ms := (settings ->> 'timeout_ms')::integer;

	RETURN QUERY
	WITH taken AS (
		SELECT t.message_id, t.body,
			regexp_replace(t.sender, '[[:cntrl:]]', '', 'g') AS sender,
			CASE WHEN settings ->> 'recipient_form' = 'digits' THEN ltrim(t.recipient, '+') ELSE t.recipient END AS recipient,
			(CASE WHEN settings ->> 'coding' ~ '^[0-2]$' THEN (settings ->> 'coding')::integer WHEN t.encoding = 'GSM7' THEN 0 ELSE 2 END
				+ CASE WHEN old THEN 1 ELSE 0 END)::text AS coding,
			CASE WHEN t.expires_at IS NOT NULL THEN greatest(1, ceil(extract(epoch FROM t.expires_at - crm.now()) / 60))::integer::text END AS validity,
			CASE WHEN mask IS NOT NULL THEN report || '?id=' || t.message_id || '&st=%d&ts=%T&fid=%F&a=%A&smsc=%i' END AS dlr_url
		FROM crm.outbox_take($1, $2) AS t
	)
	SELECT t.message_id, 'POST'::text, address,
		array_remove(ARRAY[
			'X-Kannel-Username: ' || (settings ->> 'username'),
			'X-Kannel-Password: ' || password,
			'X-Kannel-From: ' || t.sender,
			'X-Kannel-To: ' || t.recipient,
			'X-Kannel-Coding: ' || t.coding,
			'X-Kannel-SMSC: ' || (settings ->> 'smsc'),
			'X-Kannel-Account: ' || (settings ->> 'account'),
			'X-Kannel-Validity: ' || t.validity,
			'X-Kannel-DLR-Mask: ' || CASE WHEN t.dlr_url IS NOT NULL THEN mask END,
			'X-Kannel-DLR-Url: ' || t.dlr_url,
			'Content-Type: text/plain; charset=UTF-8'], NULL),
		convert_to(t.body, 'UTF8'), NULL::text, NULL::text, limit_ms, NULL::jsonb
	FROM taken AS t
	WHERE dialect = 'post'
	UNION ALL
	SELECT t.message_id, 'GET'::text,
		address || '?' || array_to_string(ARRAY[
			'username=' || crm.url_encode(settings ->> 'username'),
			'password=' || crm.url_encode(password),
			'from=' || crm.url_encode(t.sender),
			'to=' || crm.url_encode(t.recipient),
			'coding=' || t.coding,
			'charset=UTF-8',
			'smsc=' || crm.url_encode(settings ->> 'smsc'),
			'account=' || crm.url_encode(settings ->> 'account'),
			'validity=' || t.validity,
			CASE WHEN old THEN 'dlrmask=' ELSE 'dlr-mask=' END || CASE WHEN t.dlr_url IS NOT NULL THEN mask END,
			CASE WHEN old THEN 'dlrurl=' ELSE 'dlr-url=' END || crm.url_encode(t.dlr_url),
			'text=' || crm.url_encode(t.body)], '&'),
		NULL::text[], NULL::bytea, NULL::text, NULL::text, limit_ms, NULL::jsonb
	FROM taken AS t
	WHERE dialect <> 'post';
END
$$;
COMMENT ON FUNCTION crm.sms_kannel_next(bigint, integer) IS
'Next messages for a Kannel gateway, one request each: POST with X-Kannel-… headers, so that the password stands in no address and no log; the dialects get and get13 put everything into the query, as old gateways want it. Our message id stands in the address of the delivery report, which is asked for where the route dlr exists and dlr_mask is not 0. Protocol sms, section 5.';

CREATE OR REPLACE FUNCTION crm.sms_kannel_take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	ids bigint[];
	outcomes text[];
	said text[];
	trouble text;
BEGIN
	SELECT array_agg(m.ref), array_agg(m.outcome), array_agg(m.words),
		min(m.words) FILTER (WHERE m.class IN ('auth', 'balance', 'config'))
	INTO ids, outcomes, said, trouble
	FROM crm.reply_meaning($1, $2) AS m;
	IF ids IS NULL THEN
		RETURN;
	END IF;
	PERFORM crm.outbox_result($1, ids, outcomes, array_fill(NULL::text, ARRAY[cardinality(ids)]), said);
	IF trouble IS NOT NULL THEN
		PERFORM crm.integration_failed($1, trouble, crm.setting_of($1, 'hold_ms')::bigint);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.sms_kannel_take(bigint, crm.reply[]) IS
'Settles replies of a Kannel gateway by the rows of crm.reply_rule. A wrong password or a wrong setting holds the whole integration for hold_ms and is shown in crm.health; the messages wait.';

CREATE OR REPLACE FUNCTION crm.sms_kannel_dlr(integration_id bigint, request crm.http_request) RETURNS crm.http_response
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	answer crm.http_response := ROW (200, NULL, NULL)::crm.http_response;
	query text := coalesce(request.query, '');
	id text := crm.form_value(query, 'id');
	st text := crm.form_value(query, 'st');
	ts text := crm.form_value(query, 'ts');
	number bigint;
	bits integer;
	age interval;
	state text;
	words text;
BEGIN
	IF id ~ '^[0-9]{1,18}$' AND st ~ '^[0-9]{1,5}$' THEN
		number := id::bigint;
		bits := st::integer;
	ELSE
		PERFORM crm.reject($1, 'delivery report', 'id or st is no number', '22P02', convert_to(query, 'UTF8'));
		RETURN answer;
	END IF;
	-- the value is a mask: some gateways set bit 32 beside a final one
	state := CASE WHEN bits & 1 <> 0 THEN 'delivered'
		WHEN bits & (2 | 16) <> 0 THEN 'undelivered'
		WHEN bits & (4 | 8 | 32) <> 0 THEN 'sent' END;
	words := left(btrim(format('report %s%s%s', bits, coalesce(': ' || nullif(crm.form_value(query, 'a'), ''), ''),
		coalesce(' (' || nullif(crm.form_value(query, 'smsc'), '') || ')', ''))), 500);
	-- the gateway's clock, in whole seconds, tells how old the report is; the moment itself is told by ours
	age := CASE WHEN ts ~ '^[0-9]{9,11}$'
		THEN least(greatest(clock_timestamp() - to_timestamp(ts::double precision) - interval '1 second', interval '0'), interval '7 days')
		ELSE interval '0' END;
	IF state IS NULL
		OR NOT EXISTS (SELECT FROM crm.message_said AS b WHERE b.id = number AND b.integration_id = $1)
		OR NOT crm.message_report(number, state, nullif(crm.form_value(query, 'fid'), ''), words, crm.clock() - age) THEN
		PERFORM crm.reject($1, 'delivery report',
			CASE WHEN state IS NULL THEN format('st = %s has no known bit', bits) ELSE format('message %s is not one of this integration', number) END,
			NULL, convert_to(query, 'UTF8'));
	END IF;
	RETURN answer;
END
$$;
COMMENT ON FUNCTION crm.sms_kannel_dlr(bigint, crm.http_request) IS
'Route dlr: takes Kannel''s delivery report. st is tested bit by bit: 1 delivered, 2 and 16 undelivered, 4, 8 and 32 on the way; fid becomes the provider''s id. The same report twice changes nothing. What names no message of this integration is kept in crm.rejected and answered 200 all the same, so that the gateway does not repeat it.';

CREATE OR REPLACE FUNCTION crm.sms_kannel_test(integration_id bigint) RETURNS SETOF crm.request
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	address text := (SELECT i.url FROM crm.integration AS i WHERE i.id = $1);
	account text := crm.setting_of($1, 'username');
BEGIN
	IF crm.setting_of($1, 'dialect') = 'post' THEN
		RETURN QUERY SELECT 0::bigint, 'POST'::text, address,
			ARRAY['X-Kannel-Username: ' || account, 'X-Kannel-Password: ' || crm.secret_value($1), 'X-Kannel-From: crm', 'Content-Type: text/plain; charset=UTF-8'],
			convert_to('test', 'UTF8'), NULL::text, NULL::text, 10000, NULL::jsonb;
	ELSE
		RETURN QUERY SELECT 0::bigint, 'GET'::text,
			address || '?username=' || crm.url_encode(account) || '&password=' || crm.url_encode(crm.secret_value($1)) || '&from=crm&text=test',
			NULL::text[], NULL::bytea, NULL::text, NULL::text, 10000, NULL::jsonb;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.sms_kannel_test(bigint) IS
'A request without a receiver: the gateway checks the user first and then refuses it, so that nothing is sent.';

CREATE OR REPLACE FUNCTION crm.sms_kannel_judge(integration_id bigint, reply crm.reply) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN ($2).error IS NOT NULL THEN 'failed: ' || ($2).error
		WHEN ($2).status = 400 AND w.words ~* 'receiver' THEN 'ok: the gateway knows the user'
		ELSE format('failed: %s %s', ($2).status, w.words) END
	FROM crm.reply_words(($2).status, NULL, ($2).body, false) AS w(words)
$$;
COMMENT ON FUNCTION crm.sms_kannel_judge(bigint, crm.reply) IS 'What the reply to the test means: the gateway must have refused it for its missing receiver, and for nothing else.';

SELECT crm.register_kind('sms_kannel', 'crm.sms_kannel_next', 'crm.sms_kannel_take', channel => 'sms',
	test_function => 'crm.sms_kannel_test', judge_function => 'crm.sms_kannel_judge',
	defaults => '{"username": "crm", "dialect": "post", "coding": "auto", "recipient_form": "plus", "dlr_mask": 31, "max_parts": 10, "timeout_ms": 30000, "hold_ms": 60000, "max_in_flight": 32, "max_reply_bytes": 65536}',
	description_en => 'SMS through a Kannel gateway, with delivery reports',
	description_ru => 'SMS через шлюз Kannel, с отчётами о доставке');

SELECT crm.register_reply_rule('sms_kannel', 'denied', 1000, 200, 299, 'denied receivers', 'failed', 'permanent');
SELECT crm.register_reply_rule('sms_kannel', 'accepted', 1010, 200, 299, '^0: |^sent', 'sent', 'ok');
SELECT crm.register_reply_rule('sms_kannel', 'queued', 1020, 200, 299, '^3: ', 'sent', 'ok');
SELECT crm.register_reply_rule('sms_kannel', 'authorization', 1030, 400, 499, 'authorization failed', 'throttled', 'auth');
SELECT crm.register_reply_rule('sms_kannel', 'not_routable', 1040, 400, 499, 'not routable', 'failed', 'permanent');
SELECT crm.register_reply_rule('sms_kannel', 'number_denied', 1050, 400, 499, 'denied by white- and/or black-lists', 'failed', 'permanent');
SELECT crm.register_reply_rule('sms_kannel', 'misformed', 1060, 400, 499, 'misformed|sender missing|missing receiver|rejected', 'retry', 'config');
SELECT crm.register_reply_rule('sms_kannel', 'too_many', 1070, 429, 429, NULL, 'throttled', 'throttled');
SELECT crm.register_reply_rule('sms_kannel', 'wrong_address', 1080, 300, 499, NULL, 'throttled', 'config');
SELECT crm.register_reply_rule('sms_kannel', 'temporal_failure', 1090, 503, 503, NULL, 'retry', 'transient');
SELECT crm.register_reply_rule('sms_kannel', 'gateway_timeout', 1100, 504, 504, NULL, 'uncertain', 'unknown');
SELECT crm.register_reply_rule('sms_kannel', 'server_error', 1110, 500, 599, NULL, 'retry', 'transient');
