-- What the replies of message providers mean: read by the kinds that carry a channel.

CREATE OR REPLACE FUNCTION crm.reply_words(status integer, headers text, body bytea, smtp boolean)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT left(btrim(CASE
		WHEN $4 THEN
			-- the last reply of the session, all of its lines
			regexp_replace(coalesce(substring($2 FROM format('((?:%s-[^\r\n]*[\r\n]+)*%s[^\r\n]*)[\r\n]*$', $1, $1)), right($2, 500), ''), '[\r\n]+', ' ', 'g')
		ELSE
			regexp_replace(crm.form_value('v=' || regexp_replace(encode(substr($3, 1, 1000), 'hex'), '(..)', '%\1', 'g'), 'v'), '\s+', ' ', 'g')
	END), 500)
$$;
COMMENT ON FUNCTION crm.reply_words(integer, text, bytea, boolean) IS
'What a provider said, in one line of at most 500 characters: the body of an HTTP reply, or the last reply of an SMTP session. Octets that are no UTF-8 become U+FFFD.';

CREATE OR REPLACE FUNCTION crm.reply_meaning(integration_id bigint, replies crm.reply[])
RETURNS TABLE (ref bigint, outcome text, class text, words text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH service AS (
		SELECT i.kind, i.url ~ '^smtps?:' AS smtp FROM crm.integration AS i WHERE i.id = $1
	), shape AS (
		-- a batch holds few different replies: each is judged once
		SELECT r.status, r.error, r.sent, s.kind, s.smtp, CASE WHEN s.smtp THEN r.headers END AS headers,
			CASE WHEN NOT s.smtp THEN substr(r.body, 1, 1000) END AS body, array_agg(r.ref) AS refs
		FROM unnest($2) AS r CROSS JOIN service AS s
		GROUP BY 1, 2, 3, 4, 5, 6, 7
	), said AS (
		SELECT s.*, crm.reply_words(s.status, s.headers, s.body, s.smtp) AS words FROM shape AS s
	)
	SELECT m.ref,
		CASE WHEN s.error IS NULL THEN coalesce(u.outcome, 'uncertain')
			WHEN s.sent THEN 'uncertain'
			ELSE 'retry' END,
		CASE WHEN s.error IS NULL THEN coalesce(u.class, 'unknown')
			WHEN s.error LIKE 'refused:%' THEN 'config'
			WHEN s.sent THEN 'unknown'
			ELSE 'transient' END,
		CASE WHEN s.error IS NOT NULL THEN left(s.error, 500)
			WHEN s.smtp THEN s.words
			ELSE s.status || ' ' || s.words END
	FROM said AS s
	LEFT JOIN LATERAL (
		SELECT x.outcome, x.class FROM crm.reply_rule AS x
		WHERE x.kind = s.kind AND s.status BETWEEN x.status_from AND x.status_to AND (x.pattern IS NULL OR s.words ~* x.pattern)
		ORDER BY x.position, x.shipped, x.code
		LIMIT 1
	) AS u ON s.error IS NULL
	CROSS JOIN LATERAL unnest(s.refs) AS m(ref);
END
$$;
COMMENT ON FUNCTION crm.reply_meaning(bigint, crm.reply[]) IS
'What each reply means for its message (outcome, in the words of crm.outbox_result) and why (class), by the rows of crm.reply_rule for the integration''s kind. No whole reply: uncertain if bytes of the request may have left, else retry. A whole reply that no row fits: uncertain. words: the provider''s, or the error. Protocol sms, section 0.';
