-- sms_sms4b: SMS through SMS4B (sms4b.ru) over SOAP: a session, GroupSMS with a GUID of ours for each message, CheckSMS.
--
-- Each message is a group of its own, one request each: a packet of several would leave, after a courier's death, several
-- messages in doubt behind the mark of one. The GUID is made from the message's number, so a lost reply is asked about
-- under it, and a message that SMS4B does not know goes again under the same one.

CREATE OR REPLACE FUNCTION crm.sms_sms4b_guid(integration_id bigint, message_id bigint) RETURNS uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT md5(format('crm/%s/%s/%s', extract(epoch FROM i.created_at), i.id, $2))::uuid FROM crm.integration AS i WHERE i.id = $1
$$;
COMMENT ON FUNCTION crm.sms_sms4b_guid(bigint, bigint) IS 'The GUID under which SMS4B knows a message: always the same for it, also after a restore, and another in another plant.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_soap(url text, method text, content text, timeout_ms integer, ref bigint, context jsonb) RETURNS crm.request
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT ROW ($5, 'POST', $1, ARRAY['Content-Type: text/xml; charset=utf-8', format('SOAPAction: "SMS4B/%s"', $2)],
		convert_to(format('<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body><%1$s xmlns="SMS4B">%2$s</%1$s></soap:Body></soap:Envelope>', $2, $3), 'UTF8'),
		NULL, NULL, $4, jsonb_build_object('op', $2) || coalesce($6, '{}'))::crm.request
$$;
COMMENT ON FUNCTION crm.sms_sms4b_soap(text, text, text, integer, bigint, jsonb) IS 'One SOAP 1.1 request; content is XML already.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_text(body text, codec text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE $2 WHEN 'hex' THEN (
			SELECT string_agg(CASE WHEN a.code < 65536 THEN lpad(upper(to_hex(a.code)), 4, '0')
				ELSE upper(to_hex(55296 + ((a.code - 65536) >> 10))) || upper(to_hex(56320 + ((a.code - 65536) & 1023))) END, '' ORDER BY c.n)
			FROM regexp_split_to_table($1, '') WITH ORDINALITY AS c(sign, n) CROSS JOIN LATERAL (SELECT ascii(c.sign)) AS a(code))
		ELSE crm.escaped($1, 'xml') END
$$;
COMMENT ON FUNCTION crm.sms_sms4b_text(text, text) IS 'A text as SMS4B takes it: plain (escaped for XML), or hex (UTF-16BE in hexadecimal digits).';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	address text;
	settings jsonb;
	session jsonb := coalesce(crm.session_value($1), '{}');
	sid text := session ->> 'sid';
	now_ms bigint := crm.monotonic_ms();
	limit_ms integer;
	used integer := 0;
	ids bigint[];
BEGIN
	SELECT i.url, k.defaults || i.settings INTO address, settings
	FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	IF settings ->> 'body_codec' NOT IN ('plain', 'hex') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown body_codec of SMS4B: %s', quote_literal(settings ->> 'body_codec')),
			HINT = 'The setting body_codec is plain or hex.';
	END IF;
	limit_ms := (settings ->> 'timeout_ms')::integer;
	IF sid IS NULL THEN
		-- one at a time; the mark of one that was lost goes by itself
		IF coalesce((session ->> 'starting_ms')::bigint, 0) NOT BETWEEN now_ms - limit_ms - 5000 AND now_ms THEN
			PERFORM crm.set_session($1, session || jsonb_build_object('starting_ms', now_ms));
			RETURN NEXT crm.sms_sms4b_soap(address, 'StartSession', format('<Login>%s</Login><Password>%s</Password><Gmt>%s</Gmt>',
				crm.escaped(settings ->> 'login', 'xml'), crm.escaped(crm.secret_value($1), 'xml'), (settings ->> 'gmt')::integer), limit_ms, -1, NULL);
		END IF;
		RETURN;
	END IF;
	IF crm.account_ask($1) THEN
		used := 1;
		RETURN NEXT crm.sms_sms4b_soap(address, 'ParamSMS', format('<SessionId>%s</SessionId>', sid), limit_ms, -1, jsonb_build_object('sid', sid));
	END IF;
	IF crm.account_stopped($1) IS NOT NULL OR capacity <= used THEN
		RETURN;
	END IF;
	SELECT array_agg(d.message_id) INTO ids FROM crm.outbox_due($1, (settings ->> 'ask_batch')::integer, (settings ->> 'ask_pace_ms')::bigint) AS d;
	IF ids IS NOT NULL THEN
		used := used + 1;
		RETURN NEXT crm.sms_sms4b_soap(address, 'CheckSMS', format('<SessionId>%s</SessionId><Guids>%s</Guids>', sid,
			(SELECT string_agg(format('<string>%s</string>', crm.sms_sms4b_guid($1, u.id)), '' ORDER BY u.n) FROM unnest(ids) WITH ORDINALITY AS u(id, n))),
			limit_ms, -2, jsonb_build_object('sid', sid, 'ids', to_jsonb(ids)));
	END IF;
	RETURN QUERY
	SELECT r.*
	FROM crm.outbox_take($1, crm.account_room($1, capacity - used)) AS t
	CROSS JOIN LATERAL (SELECT CASE WHEN t.encoding = 'GSM7' THEN settings ->> 'encoding_gsm' ELSE settings ->> 'encoding_ucs2' END) AS e(code)
	CROSS JOIN LATERAL crm.sms_sms4b_soap(address, 'GroupSMS',
		format('<SessionId>%s</SessionId><Group>-1</Group><Source>%s</Source><Encoding>%s</Encoding><Body></Body><Off>%s</Off><Start></Start><Period></Period>'
			'<List><GroupSMSList><G>%s</G><D>%s</D><B>%s</B><E>%s</E></GroupSMSList></List>',
			sid, crm.escaped(t.sender, 'xml'), e.code,
			to_char((t.expires_at AT TIME ZONE 'UTC') + make_interval(hours => (settings ->> 'gmt')::integer), settings ->> 'date_format'),
			crm.sms_sms4b_guid($1, t.message_id), ltrim(t.recipient, '+'), crm.sms_sms4b_text(t.body, settings ->> 'body_codec'), e.code),
		limit_ms, t.message_id, jsonb_build_object('sid', sid)) AS r;
END
$$;
COMMENT ON FUNCTION crm.sms_sms4b_next(bigint, integer) IS
'Next requests for SMS4B: a session where there is none; the balance where it is due; one question about a batch of messages; messages, one request each under a GUID of the message. While SMS4B refuses us only the balance is asked. Protocol sms, section 1.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_number(said xml, name text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN v.value ~ '^-?[0-9]{1,18}$' OR v.value ~ '^-?[0-9]{19}$' AND abs(v.value::numeric) <= 9223372036854775807 THEN v.value::bigint END
	FROM (SELECT btrim(crm.xml_text($1, format('//*[local-name()="%s"]', $2)))) AS v(value)
$$;
COMMENT ON FUNCTION crm.sms_sms4b_number(xml, text) IS 'The whole number in the first element of that name, in whatever namespace; NULL where there is none.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_words(said xml, reply crm.reply) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	-- what the rules of crm.reply_rule read
	SELECT CASE
		WHEN n.result IS NULL THEN left(CASE WHEN n.fault IS NULL THEN 'unreadable: ' || regexp_replace(crm.body_text(substr(($2).body, 1, 300)), '\s+', ' ', 'g') ELSE 'fault: ' || n.fault END, 500)
		WHEN n.result < 0 OR n.result = 0 AND n.item IS NULL OR n.team < 0 AND n.item IS NULL THEN format('result %s', n.result)
		WHEN n.item IS NULL THEN 'unreadable: no state in it'
		WHEN n.item > 0 THEN format('accepted %s', n.item)
		ELSE format('item %s', n.item) END
	FROM (SELECT crm.sms_sms4b_number($1, 'Result') AS result, crm.sms_sms4b_number($1, 'Group') AS team, crm.sms_sms4b_number($1, 'R') AS item,
		crm.xml_text($1, '//*[local-name()="faultstring"]') AS fault) AS n
$$;
COMMENT ON FUNCTION crm.sms_sms4b_words(xml, crm.reply) IS 'A reply to GroupSMS in words: accepted R, item R (the message was refused), result N (the request was), fault: …, or unreadable: …; the patterns of crm.reply_rule look at them.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_state(r bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN $1 < 0 THEN NULL
		WHEN $1 & 65536 = 0 THEN 'sent'
		WHEN $1 & 255 = ($1 >> 8) & 255 THEN 'delivered'
		ELSE 'undelivered' END
$$;
COMMENT ON FUNCTION crm.sms_sms4b_state(bigint) IS 'A state R of SMS4B (parts, parts delivered, final) in the words of crm.outbox_status(); NULL for an error, which is still in process. Protocol sms, section 1.2.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	settings jsonb;
	session jsonb := coalesce(crm.session_value($1), '{}');
	r crm.reply;
	said xml;
	code bigint;
	told record;
	m record;
	s record;
	good boolean := session -> 'sid_ok' = 'true';
	lost boolean := false;
	refused boolean := false;
	worked boolean := false;
	refs bigint[];
	outcomes text[];
	classes text[];
	provider_ids text[];
	words text[];
	parts integer[];
	rest numeric;
	asked bigint[];
	states text[];
	asked_words text[];
	guids text[];
BEGIN
	SELECT k.defaults || i.settings INTO settings FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	FOREACH r IN ARRAY replies LOOP
		said := CASE WHEN r.error IS NULL THEN crm.body_xml(r.body) END;
		CASE r.context ->> 'op'
		WHEN 'GroupSMS' THEN
			SELECT x.outcome, x.class, x.words, w.words AS plain INTO told
			FROM (SELECT crm.sms_sms4b_words(said, r)) AS w(words),
				LATERAL crm.reply_meaning($1, ARRAY[ROW (r.ref, r.status, r.headers, convert_to(w.words, 'UTF8'), r.error, r.sent, r.elapsed_ms, r.context)::crm.reply]) AS x;
			IF told.outcome = 'sent' AND lower(crm.xml_text(said, '//*[local-name()="G"]')) IS DISTINCT FROM crm.sms_sms4b_guid($1, r.ref)::text THEN
				told.outcome := 'uncertain';
				told.class := 'unknown';
				told.plain := 'unreadable: the state of another message';
			END IF;
			IF r.error IS NULL AND r.status BETWEEN 200 AND 299 AND told.plain LIKE 'unreadable:%' THEN
				PERFORM crm.reject($1, 'reply to GroupSMS', told.plain, '22P02', coalesce(r.body, ''));
			ELSIF r.error IS NULL AND told.plain LIKE 'result -%' THEN
				-- most likely the session: a session that worked before is renewed, and the try not counted
				lost := lost OR r.context ->> 'sid' = session ->> 'sid';
				IF (good OR r.context ->> 'sid' IS DISTINCT FROM session ->> 'sid') AND told.class = 'transient' THEN
					told.outcome := 'throttled';
				END IF;
			ELSIF r.error IS NULL AND told.plain LIKE 'item %' THEN
				refused := true;
			END IF;
			worked := worked OR told.outcome = 'sent';
			refs := refs || r.ref;
			outcomes := outcomes || told.outcome;
			classes := classes || told.class;
			words := words || told.words;
			provider_ids := provider_ids || CASE WHEN told.outcome = 'sent' THEN crm.sms_sms4b_guid($1, r.ref)::text END;
			parts := parts || CASE WHEN told.outcome = 'sent' THEN nullif(crm.sms_sms4b_number(said, 'R') & 255, 0)::integer END;
		WHEN 'StartSession' THEN
			session := session - 'starting_ms';
			CONTINUE WHEN r.error IS NOT NULL OR r.status NOT BETWEEN 200 AND 299;
			code := crm.sms_sms4b_number(said, 'StartSessionResult');
			IF code > 0 THEN
				session := session || jsonb_build_object('sid', code::text, 'sid_ok', false);
				IF session ->> 'stopped' IN ('auth', 'config') THEN
					PERFORM crm.account_resume($1);
					session := session - 'stopped';
				END IF;
				PERFORM crm.wake();
			ELSIF code IS NULL THEN
				PERFORM crm.reject($1, 'reply to StartSession', 'no number of a session in it', '22P02', coalesce(r.body, ''));
				PERFORM crm.integration_failed($1, 'StartSession: no number of a session in its reply');
			ELSE
				PERFORM crm.account_stop($1, 'auth', format('StartSession: error %s', code));
				session := session || '{"stopped": "auth"}';
			END IF;
		WHEN 'ParamSMS' THEN
			CONTINUE WHEN r.error IS NOT NULL OR r.status NOT BETWEEN 200 AND 299;
			code := crm.sms_sms4b_number(said, 'Result');
			IF code < 0 THEN
				lost := lost OR r.context ->> 'sid' = session ->> 'sid';
				CONTINUE;
			END IF;
			rest := crm.as_number(crm.xml_text(said, '//*[local-name()="Rest"]'));
			IF rest IS NULL THEN
				PERFORM crm.reject($1, 'reply to ParamSMS', 'no Rest in it', '22P02', coalesce(r.body, ''));
			ELSE
				worked := true;
			END IF;
		ELSE
			CONTINUE WHEN r.error IS NOT NULL OR r.status NOT BETWEEN 200 AND 299;
			code := crm.sms_sms4b_number(said, 'Result');
			IF code IS NULL THEN
				PERFORM crm.reject($1, 'reply to CheckSMS', 'no Result in it', '22P02', coalesce(r.body, ''));
				CONTINUE;
			ELSIF code < 0 THEN
				lost := lost OR r.context ->> 'sid' = session ->> 'sid';
				CONTINUE;
			END IF;
			worked := true;
			-- what is not in the list is not known there
			SELECT array_agg(a.id) AS ids, array_agg(a.state) AS states, array_agg(a.guid) AS guids, array_agg(a.words) AS words INTO s
			FROM (
				SELECT w.id, w.guid,
					CASE WHEN l.guid IS NULL OR l.r::text = ANY (ARRAY(SELECT jsonb_array_elements_text(settings -> 'unknown_codes'))) THEN 'unknown' ELSE crm.sms_sms4b_state(l.r) END AS state,
					CASE WHEN l.guid IS NULL THEN 'not in the list' ELSE format('R %s: %s of %s parts', l.r, (l.r >> 8) & 255, l.r & 255) END AS words
				FROM (SELECT i.id::bigint AS id, crm.sms_sms4b_guid($1, i.id::bigint)::text AS guid FROM jsonb_array_elements_text(r.context -> 'ids') AS i(id)) AS w
				LEFT JOIN (
					SELECT lower(btrim(crm.xml_text(e.item, '//*[local-name()="G"]'))) AS guid, crm.sms_sms4b_number(e.item, 'R') AS r
					FROM unnest(xpath('//*[local-name()="CheckSMSList"]', said)) AS e(item)) AS l ON l.guid = w.guid
			) AS a WHERE a.state IS NOT NULL;
			asked := asked || s.ids;
			states := states || s.states;
			guids := guids || s.guids;
			asked_words := asked_words || s.words;
		END CASE;
	END LOOP;
	IF lost THEN
		session := session - '{sid,sid_ok}'::text[];
	ELSIF worked THEN
		session := session || '{"sid_ok": true}';
	END IF;
	IF refused THEN
		session := session - 'balance_from_ms'; -- is it the money?
	END IF;
	PERFORM crm.set_session($1, session);
	IF rest <= coalesce(crm.as_number(settings ->> 'balance_min'), 0) AND NOT session ? 'stopped' AND settings -> 'balance_stop' = 'true' THEN
		PERFORM crm.account_stop($1, 'balance', format('%s left', rest));
	END IF;
	PERFORM crm.account_balance($1, rest);
	PERFORM crm.outbox_verdict($1, refs, outcomes, classes, provider_ids, words, parts);
	PERFORM crm.outbox_status($1, asked, states, guids, asked_words, NULL);
	IF lost OR refused THEN
		PERFORM crm.wake();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.sms_sms4b_take(bigint, crm.reply[]) IS
'Settles replies of SMS4B: of messages by the rows of crm.reply_rule over the words of crm.sms_sms4b_words(), of questions by crm.sms_sms4b_state(). An error of a whole request renews the session once. What cannot be read leaves a message uncertain and stands in crm.rejected.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_test(integration_id bigint) RETURNS SETOF crm.request
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.* FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind
	CROSS JOIN LATERAL crm.sms_sms4b_soap(i.url, 'StartSession', format('<Login>%s</Login><Password>%s</Password><Gmt>%s</Gmt>',
		crm.escaped((k.defaults || i.settings) ->> 'login', 'xml'), crm.escaped(crm.secret_value(i.id), 'xml'), ((k.defaults || i.settings) ->> 'gmt')::integer), 10000, 0, NULL) AS r
	WHERE i.id = $1
$$;
COMMENT ON FUNCTION crm.sms_sms4b_test(bigint) IS 'Opens a session: nothing is sent.';

CREATE OR REPLACE FUNCTION crm.sms_sms4b_judge(integration_id bigint, reply crm.reply) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN ($2).error IS NOT NULL THEN 'failed: ' || ($2).error
		WHEN n.code > 0 THEN 'ok: SMS4B opens a session'
		WHEN n.code IS NOT NULL THEN format('failed: error %s, most likely name or password', n.code)
		ELSE format('failed: %s %s', ($2).status, left(regexp_replace(crm.body_text(substr(($2).body, 1, 300)), '\s+', ' ', 'g'), 200)) END
	FROM (SELECT crm.sms_sms4b_number(crm.body_xml(($2).body), 'StartSessionResult')) AS n(code)
$$;
COMMENT ON FUNCTION crm.sms_sms4b_judge(bigint, crm.reply) IS 'What the reply to the test means.';

SELECT crm.register_kind('sms_sms4b', 'crm.sms_sms4b_next', 'crm.sms_sms4b_take', channel => 'sms',
	test_function => 'crm.sms_sms4b_test', judge_function => 'crm.sms_sms4b_judge',
	defaults => '{"gmt": 3, "encoding_gsm": 0, "encoding_ucs2": 1, "body_codec": "plain", "date_format": "YYYYMMDD HH24:MI:SS", "unknown_codes": [], "on_unknown": "ask", "unknown_asks": 2, "unknown_ms": 120000, "ask_ms": 30000, "ask_max_ms": 3600000, "ask_hours": 72, "ask_batch": 50, "ask_pace_ms": 10000, "balance_ms": 600000, "balance_stop": true, "currency": "RUB", "max_parts": 10, "timeout_ms": 30000, "hold_ms": 60000, "throttle_ms": 10000, "max_in_flight": 8, "max_reply_bytes": 1048576}',
	description_en => 'SMS through SMS4B, asked about delivery', description_ru => 'SMS через SMS4B, с запросом статусов');

SELECT crm.register_reply_rule('sms_sms4b', 'accepted', 1000, 200, 299, '^accepted ', 'sent', 'ok');
SELECT crm.register_reply_rule('sms_sms4b', 'item', 1010, 200, 299, '^item ', 'retry', 'unknown');
SELECT crm.register_reply_rule('sms_sms4b', 'result', 1020, 200, 299, '^result ', 'retry', 'transient');
SELECT crm.register_reply_rule('sms_sms4b', 'refused', 1030, 401, 403, NULL, 'throttled', 'auth');
SELECT crm.register_reply_rule('sms_sms4b', 'too_many', 1040, 429, 429, NULL, 'throttled', 'throttled');
SELECT crm.register_reply_rule('sms_sms4b', 'wrong_address', 1050, 300, 499, NULL, 'throttled', 'config');
