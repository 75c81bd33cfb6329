-- mail_out: letters by SMTP.
--
-- SMTP has no key that makes a second copy harmless: a letter whose final reply was lost is uncertain. Each try
-- sends the same octets with the same Message-ID, which was chosen when the letter was queued.

CREATE OR REPLACE FUNCTION crm.mail_out_html(html text, body text, subject text, language text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN $1 ~* '<html[\s>]' THEN $1 ELSE
		format(E'<!DOCTYPE html>\n<html lang="%s">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>%s</title>\n</head>\n', e.lang, e.title)
		|| E'<body style="margin:0;padding:0;background:#ffffff;">\n'
		|| E'<div style="max-width:600px;margin:0 auto;padding:16px;font-family:Arial,Helvetica,sans-serif;font-size:16px;line-height:1.5;color:#1a1a1a;overflow-wrap:break-word;">\n'
		|| coalesce($1, '<p style="margin:0 0 16px 0;">' || regexp_replace(regexp_replace(e.body, E'(?<!\n)\n(?!\n)', E'<br>\n', 'g'), E'\n{2,}', E'</p>\n<p style="margin:0 0 16px 0;">', 'g') || '</p>')
		|| E'\n</div>\n</body>\n</html>\n' END
	FROM (SELECT CASE WHEN $4 ~ '^[a-z]{2}$' THEN $4 ELSE 'ru' END AS lang,
		replace(replace(replace(coalesce($3, ''), '&', '&amp;'), '<', '&lt;'), '>', '&gt;') AS title,
		replace(replace(replace(btrim(replace($2, E'\r\n', E'\n'), E'\n'), '&', '&amp;'), '<', '&lt;'), '>', '&gt;') AS body) AS e
$$;
COMMENT ON FUNCTION crm.mail_out_html(text, text, text, text) IS
'The html part of a letter as a whole page that reads on a phone and on a desktop: one column of at most 600 pixels, 16 pixel letters, no picture from outside. html: a fragment, or a whole page (taken as it is), or NULL: then the plain text is shown. Claim 62.';

CREATE OR REPLACE FUNCTION crm.mail_out_build(integration_id bigint, letters jsonb) RETURNS crm.request[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	address text;
	settings jsonb;
	password text;
	result crm.request[];
	large record;
BEGIN
	SELECT i.url, k.defaults || i.settings INTO address, settings
	FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	IF settings ->> 'username' IS NOT NULL THEN
		password := crm.secret_value($1);
	END IF;
	SELECT array_agg(ROW (l.message_id, 'SMTP', address,
		ARRAY['MAIL FROM: ' || crm.mail_address(coalesce(replace(settings ->> 'return_path', '{id}', l.message_id::text), l.sender)),
			'RCPT TO: ' || crm.mail_address(l.recipient)],
		crm.mime_build(l.sender, l.recipient, coalesce(l.subject, ''), l.body,
			CASE WHEN l.html IS NOT NULL OR settings ->> 'html' IS DISTINCT FROM 'off' THEN crm.mail_out_html(l.html, l.body, l.subject, l.language) END,
			coalesce(l.message_header_id, l.message_id || '@' || split_part(crm.mail_address(l.sender), '@', 2)),
			coalesce(b.not_before, b.queued_at),
			CASE WHEN settings ->> 'reply_to' IS NOT NULL THEN ARRAY['Reply-To: ' || (settings ->> 'reply_to')] END,
			a.names, a.types, a.contents),
		settings ->> 'username', password, (settings ->> 'timeout_ms')::integer, NULL)::crm.request)
	INTO result
	FROM (
		SELECT m.message_id, coalesce(m.sender, settings ->> 'sender') AS sender, m.recipient, m.subject, m.body, m.html, m.language, m.message_header_id
		FROM jsonb_to_recordset($2) AS m(message_id bigint, sender text, recipient text, subject text, body text, html text, language text, message_header_id text)
	) AS l
	CROSS JOIN LATERAL (SELECT x.not_before, x.queued_at FROM crm.message_body AS x WHERE x.id = l.message_id OFFSET 0) AS b
	LEFT JOIN LATERAL (
		SELECT array_agg(f.name ORDER BY f.id) AS names, array_agg(f.content_type ORDER BY f.id) AS types, array_agg(f.content ORDER BY f.id) AS contents
		FROM crm.message_attachment AS f WHERE f.message_id = l.message_id
	) AS a ON true;

	SELECT r.ref, octet_length(r.body) AS bytes INTO large
	FROM unnest(result) AS r WHERE octet_length(r.body) > (settings ->> 'max_letter_bytes')::integer LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '54000',
			MESSAGE = format('the letter has %s bytes, more than the %s that the server takes', large.bytes, settings ->> 'max_letter_bytes'),
			HINT = 'Send fewer or smaller attachments, or raise the setting max_letter_bytes.';
	END IF;
	RETURN result;
END
$$;
COMMENT ON FUNCTION crm.mail_out_build(bigint, jsonb) IS
'SMTP requests for letters (rows of crm.outbox_take as a JSON array). Raises the error of a letter that cannot be built (22023 an address or a file name, 54000 a size); the caller then builds them one by one.';

CREATE OR REPLACE FUNCTION crm.mail_out_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	room integer := $2;
	step integer := 4;
	budget bigint := crm.setting_of($1, 'batch_bytes')::bigint;
	letters jsonb;
	letter jsonb;
	made crm.request[];
	bytes bigint;
	bad_ids bigint[] := '{}';
	bad_words text[] := '{}';
	problem text;
	hint text;
BEGIN
	-- Letters may be large: a few at first, more while they are small, no more once the budget is used up.
	WHILE room > 0 AND budget > 0 LOOP
		SELECT jsonb_agg(to_jsonb(t)) INTO letters FROM crm.outbox_take($1, least(room, step)) AS t;
		EXIT WHEN letters IS NULL;
		BEGIN
			made := crm.mail_out_build($1, letters);
		EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
			-- one of them cannot be built: that one fails, the others go
			made := '{}';
			FOR letter IN SELECT l FROM jsonb_array_elements(letters) AS l LOOP
				BEGIN
					made := made || crm.mail_out_build($1, jsonb_build_array(letter));
				EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
					GET STACKED DIAGNOSTICS problem = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
					bad_ids := bad_ids || (letter ->> 'message_id')::bigint;
					bad_words := bad_words || left(concat_ws(' ', problem || '.', nullif(hint, '')), 500);
				END;
			END LOOP;
		END;
		SELECT coalesce(sum(octet_length(r.body)), 0) INTO bytes FROM unnest(made) AS r;
		RETURN QUERY SELECT r.* FROM unnest(made) AS r;
		budget := budget - bytes;
		room := room - jsonb_array_length(letters);
		EXIT WHEN jsonb_array_length(letters) < step;
		step := CASE WHEN bytes > budget / 4 THEN 4 ELSE 200 END;
	END LOOP;
	IF bad_ids <> '{}' THEN
		PERFORM crm.outbox_result($1, bad_ids, array_fill('failed'::text, ARRAY[cardinality(bad_ids)]),
			array_fill(NULL::text, ARRAY[cardinality(bad_ids)]), bad_words);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.mail_out_next(bigint, integer) IS
'Next letters for an SMTP server, one recipient a request, at most about batch_bytes of them at a time. A letter that cannot be built (a bad address, a size) fails at once with the reason; the others go. Protocol mail, section 1.';

CREATE OR REPLACE FUNCTION crm.mail_out_take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	ids bigint[];
	outcomes text[];
	providers text[];
	said text[];
	trouble text;
BEGIN
	SELECT array_agg(m.ref), array_agg(m.outcome),
		array_agg(CASE WHEN m.outcome = 'sent' THEN
			coalesce(substring(m.words FROM 'queued as ([^\s<>]{1,100})'), substring(m.words FROM '\mid=([^\s<>]{1,100})'), left(m.words, 100)) END),
		array_agg(m.words), min(m.words) FILTER (WHERE m.class IN ('auth', 'balance', 'config'))
	INTO ids, outcomes, providers, said, trouble
	FROM crm.reply_meaning($1, $2) AS m;
	IF ids IS NULL THEN
		RETURN;
	END IF;
	PERFORM crm.outbox_result($1, ids, outcomes, providers, said);
	IF trouble IS NOT NULL THEN
		PERFORM crm.integration_failed($1, trouble, crm.setting_of($1, 'hold_ms')::bigint);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.mail_out_take(bigint, crm.reply[]) IS
'Settles the replies of an SMTP server by the rows of crm.reply_rule; the provider''s id is the queue id that the server told ("queued as …", "id=…"). A refused login holds the whole integration for hold_ms and is shown in crm.health; the letters wait.';

CREATE OR REPLACE FUNCTION crm.mail_out_test(integration_id bigint) RETURNS SETOF crm.request
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	sender text := crm.mail_address(coalesce(crm.setting_of($1, 'sender'), 'crm@localhost'));
	account text := crm.setting_of($1, 'username');
BEGIN
	RETURN QUERY SELECT 0::bigint, 'SMTP'::text, (SELECT i.url FROM crm.integration AS i WHERE i.id = $1),
		ARRAY['MAIL FROM: ' || sender, 'RCPT TO: nobody@test.invalid'],
		crm.mime_build(sender, 'nobody@test.invalid', 'test', 'test', NULL, 'test@crm.invalid', crm.now()),
		account, CASE WHEN account IS NOT NULL THEN crm.secret_value($1) END, 10000, NULL::jsonb;
END
$$;
COMMENT ON FUNCTION crm.mail_out_test(bigint) IS
'What crm.integration_test asks: the address, TLS and the login, then NOOP; no letter is sent.';

CREATE OR REPLACE FUNCTION crm.mail_out_judge(integration_id bigint, reply crm.reply) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN ($2).error IS NOT NULL THEN 'failed: ' || ($2).error
		WHEN ($2).status BETWEEN 200 AND 299 THEN 'ok: ' || w.words
		ELSE 'failed: ' || w.words END
	FROM crm.reply_words(($2).status, ($2).headers, NULL, true) AS w(words)
$$;
COMMENT ON FUNCTION crm.mail_out_judge(bigint, crm.reply) IS 'What the reply to the test means, with the server''s words.';

SELECT crm.register_kind('mail_out', 'crm.mail_out_next', 'crm.mail_out_take', channel => 'email',
	test_function => 'crm.mail_out_test', judge_function => 'crm.mail_out_judge',
	defaults => '{"starttls": true, "timeout_ms": 120000, "hold_ms": 60000, "html": "auto", "max_letter_bytes": 26214400, "batch_bytes": 16777216, "max_in_flight": 8, "max_reply_bytes": 65536}',
	description_en => 'Letters by SMTP: text and HTML, attachments',
	description_ru => 'Письма по SMTP: текст и HTML, вложения');

SELECT crm.register_reply_rule('mail_out', 'taken', 1000, 200, 299, NULL, 'sent', 'ok');
SELECT crm.register_reply_rule('mail_out', 'login', 1010, 530, 538, '^53[0458]', 'throttled', 'auth');
SELECT crm.register_reply_rule('mail_out', 'login_later', 1020, 454, 454, NULL, 'throttled', 'auth');
SELECT crm.register_reply_rule('mail_out', 'rate', 1030, 400, 499, '4\.7\.|too (many|fast)|rate|throttl|limit', 'throttled', 'throttled');
SELECT crm.register_reply_rule('mail_out', 'closing', 1040, 421, 421, NULL, 'throttled', 'throttled');
SELECT crm.register_reply_rule('mail_out', 'later', 1050, 400, 499, NULL, 'retry', 'transient');
SELECT crm.register_reply_rule('mail_out', 'sender', 1060, 500, 599, '5\.1\.[78]|5\.7\.(1|26)|sender', 'failed', 'sender');
SELECT crm.register_reply_rule('mail_out', 'too_large', 1070, 500, 599, '^552|5\.3\.4|5\.2\.3', 'failed', 'content');
SELECT crm.register_reply_rule('mail_out', 'refused', 1080, 500, 599, NULL, 'failed', 'permanent');
