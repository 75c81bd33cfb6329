-- What the tests of robots share: a clock that stands, three channels, and a courier's two doors. Read by \i inside a test.
\set VERBOSITY terse
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
BEGIN;
SET LOCAL crm.public_url = 'https://crm.example.com';
SELECT crm.set_now('2026-11-24 09:00Z', 0) IS NOT NULL, crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms'), crm.register_kind('x_mail_test', NULL, NULL, channel => 'email'), crm.register_kind('x_chat_test', NULL, NULL, channel => 'telegram');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') > 0, crm.add_integration('post', 'x_mail_test', '', '{"sender": "plant@example.com"}') > 0, crm.add_integration('bot', 'x_chat_test', '', '{}') > 0;

-- What a courier would take now, which every provider accepts: channel, reader, text; tokens of links left out.
CREATE FUNCTION pg_temp.leave() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	g bigint;
	t record;
	ids bigint[];
BEGIN
	FOR g IN SELECT i.id FROM crm.integration i WHERE i.name IN ('gate', 'post', 'bot') ORDER BY i.id LOOP
		ids := '{}';
		FOR t IN SELECT * FROM crm.outbox_take(g, 1000) LOOP
			ids := ids || t.message_id;
			RETURN NEXT (SELECT b.channel FROM crm.message_body b WHERE b.id = t.message_id) || ' ' || t.recipient || ': '
				|| concat_ws(' | ', t.subject, regexp_replace(replace(t.body, E'\n', ' / '), '/l/([a-z]+)/[0-9A-Za-z]{22}', '/l/\1/…', 'g'));
		END LOOP;
		PERFORM crm.outbox_result(g, ids, array_fill('sent'::text, ARRAY[cardinality(ids)]), array_fill('p'::text, ARRAY[cardinality(ids)]), array_fill(NULL::text, ARRAY[cardinality(ids)])) WHERE ids <> '{}';
	END LOOP;
END $$;
-- At a moment: what is due by the clock is done, and what may leave leaves.
CREATE FUNCTION pg_temp.at(moment timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.set_now(moment, 0), crm.courier_due(1);
	RETURN QUERY SELECT pg_temp.leave();
END $$;
-- How the texts of a rule read for the newest event of its kind, and what they would cost.
CREATE FUNCTION pg_temp.previews(rule text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', l.language, p.channel, p.encoding, p.parts || ' parts,', p.units || ' units:', p.subject || ' |', regexp_replace(replace(p.body, E'\n', ' / '), '/l/([a-z]+)/[0-9A-Za-z]{22}', '/l/\1/…', 'g'))
	FROM crm.rule r CROSS JOIN unnest(ARRAY['ru', 'en']) AS l(language)
	CROSS JOIN LATERAL crm.template_preview(r.template, (SELECT max(e.id) FROM crm.event e WHERE e.kind = r.event_kind), l.language) p
	WHERE r.code = $1 ORDER BY l.language DESC, p.channel <> 'sms', p.channel $$;
-- What a link answers, without its page's frame.
CREATE FUNCTION pg_temp.ask(url text, method text DEFAULT 'GET', form text DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT h.status || CASE h.status WHEN 404 THEN '' ELSE ' ' || btrim(regexp_replace(regexp_replace(convert_from(h.body, 'UTF8'), '^.*<body>', ''), '<[^>]*>|\s+', ' ', 'g')) END
	FROM crm.listener_handle(ARRAY[ROW (method, regexp_replace(url, '^https?://[^/]*', ''), 'lang=en',
		E'Host: x\n' || CASE WHEN form IS NOT NULL THEN E'Content-Type: multipart/form-data; boundary=b\n' ELSE '' END, convert_to(coalesce(form, ''), 'UTF8'), '127.0.0.1')::crm.http_request]) h $$;
