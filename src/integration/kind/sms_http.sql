-- sms_http: SMS through any provider that speaks HTTP, described by the settings of the integration: what to send,
-- where the id is in the reply, what a refusal means, how to ask what became of a message, and for the balance.
--
-- A description is checked whole before anything is sent. Values go into templates once, escaped for their place; an
-- address begins with the integration's own, and no secret stands in one.

CREATE OR REPLACE FUNCTION crm.sms_http_fill(template text, vars jsonb, place text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT crm.template_fill($1, (SELECT jsonb_object_agg(v.key, CASE WHEN v.key = 'base' AND $3 = 'url' THEN v.value ELSE crm.escaped(coalesce(v.value, ''), $3) END)
		FROM jsonb_each_text($2) AS v(key, value)))
$$;
COMMENT ON FUNCTION crm.sms_http_fill(text, jsonb, text) IS 'A template with its values escaped for the place. Errors: those of crm.template_fill().';

CREATE OR REPLACE FUNCTION crm.sms_http_request(part jsonb, vars jsonb, basic_user text, secret text, timeout_ms integer, ref bigint, context jsonb) RETURNS crm.request
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	type text := coalesce(part ->> 'type', 'json');
	mime text := CASE type WHEN 'json' THEN 'application/json; charset=utf-8' WHEN 'form' THEN 'application/x-www-form-urlencoded'
		WHEN 'xml' THEN 'text/xml; charset=utf-8' ELSE 'text/plain; charset=utf-8' END;
	head text[] := ARRAY(SELECT crm.sms_http_fill(h.line, vars || jsonb_build_object('secret', secret), 'header')
		FROM jsonb_array_elements_text(coalesce(part -> 'headers', '[]')) WITH ORDINALITY AS h(line, n) ORDER BY h.n);
	body bytea;
BEGIN
	IF part ->> 'body' IS NOT NULL THEN
		body := convert_to(crm.sms_http_fill(part ->> 'body', vars || jsonb_build_object('secret', secret), type), 'UTF8');
		IF NOT EXISTS (SELECT FROM unnest(head) AS h(line) WHERE h.line ~* '^content-type:') THEN
			head := head || ('Content-Type: ' || mime);
		END IF;
	END IF;
	RETURN ROW (ref, coalesce(part ->> 'method', CASE WHEN body IS NULL THEN 'GET' ELSE 'POST' END),
		crm.sms_http_fill(coalesce(part ->> 'url', '{{base}}'), vars, 'url'), nullif(head, '{}'), body,
		basic_user, CASE WHEN basic_user IS NOT NULL THEN secret END, timeout_ms, context)::crm.request;
END
$$;
COMMENT ON FUNCTION crm.sms_http_request(jsonb, jsonb, text, text, integer, bigint, jsonb) IS 'One request from a part of the description (send, status, balance) and its values.';

CREATE OR REPLACE FUNCTION crm.sms_http_find(place text, status integer, headers text, body bytea, said jsonb, query text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN left(CASE
		WHEN place LIKE '$%' THEN jsonb_path_query_first(said, ('strict ' || place)::jsonpath, '{}', true) #>> '{}'
		WHEN place LIKE 'lax $%' THEN jsonb_path_query_first(said, place::jsonpath, '{}', true) #>> '{}'
		WHEN place LIKE 'header:%' THEN crm.header_value(headers, substr(place, 8))
		WHEN place LIKE 're:%' THEN substring(crm.body_text(substr(body, 1, 65536)) FROM substr(place, 4))
		WHEN place LIKE 'xpath:%' THEN crm.xml_text(crm.body_xml(body), substr(place, 7))
		WHEN place LIKE 'query:%' THEN crm.form_value(query, substr(place, 7))
		WHEN place LIKE 'form:%' THEN crm.form_value(crm.body_text(body), substr(place, 6))
		WHEN place = 'body' THEN crm.body_text(substr(body, 1, 1000))
		WHEN place = 'status' THEN status::text END, 500);
END
$$;
COMMENT ON FUNCTION crm.sms_http_find(text, integer, text, bytea, jsonb, text) IS 'The value at a place of a reply: $… (JSON path, strict: a list is no object; lax $… where it may be), header:NAME, re:PATTERN (the group, or the match, in the body), xpath:EXPRESSION, status, body; of what the provider calls also query:NAME and form:NAME. At most 500 characters; NULL where there is none.';

CREATE OR REPLACE FUNCTION crm.sms_http_fits(rule jsonb, status integer, headers text, body bytea, said jsonb, query text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	span int4range := crm.sms_http_span(rule ->> 'status');
	found text;
BEGIN
	IF span IS NOT NULL AND NOT status <@ span THEN
		RETURN false;
	END IF;
	IF NOT rule ?| ARRAY['place', 'equals', 'pattern', 'absent'] THEN
		RETURN true;
	END IF;
	found := crm.sms_http_find(coalesce(rule ->> 'place', 'body'), status, headers, body, said, query);
	IF rule -> 'absent' = 'true' THEN
		RETURN found IS NULL;
	END IF;
	RETURN found IS NOT NULL
		AND (rule -> 'equals' IS NULL OR CASE jsonb_typeof(rule -> 'equals')
			WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements_text(rule -> 'equals') AS e(value) WHERE e.value = found)
			ELSE rule ->> 'equals' = found END)
		AND (rule ->> 'pattern' IS NULL OR found ~* (rule ->> 'pattern'));
END
$$;
COMMENT ON FUNCTION crm.sms_http_fits(jsonb, integer, text, bytea, jsonb, text) IS 'Whether all that a rule asks of a reply holds: status (200 or 200-299), and of the value at place (body, if none is named): equals (a value, or a list), pattern (regular expression, in any case of letters), absent (there is none); with a place alone: there is a value.';

CREATE OR REPLACE FUNCTION crm.sms_http_span(words text) RETURNS int4range
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN $1 ~ '^[0-9]{1,3}(-[0-9]{1,3})?$' AND split_part($1, '-', 1)::integer <= coalesce(nullif(split_part($1, '-', 2), ''), '999')::integer
		THEN int4range(split_part($1, '-', 1)::integer, coalesce(nullif(split_part($1, '-', 2), ''), split_part($1, '-', 1))::integer, '[]') END
$$;
COMMENT ON FUNCTION crm.sms_http_span(text) IS 'A status or a span of them, 404 or 200-299; NULL for anything else.';

CREATE OR REPLACE FUNCTION crm.sms_http_check(description jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sample jsonb;
	part record;
	f record;
	r record;
	name text;
	wrong text;
BEGIN
	SELECT jsonb_object_agg(k.key, '1') INTO sample FROM (
		SELECT unnest(ARRAY['base', 'id', 'recipient', 'digits', 'sender', 'text', 'encoding', 'language', 'parts', 'expires', 'minutes', 'seconds', 'report_url', 'provider_id'])
		UNION SELECT v.key FROM jsonb_each(coalesce(description -> 'values', '{}')) AS v) AS k(key);
	FOR part IN SELECT p.name, description -> p.name AS value FROM unnest(ARRAY['send', 'status', 'balance']) AS p(name) WHERE p.name = 'send' OR description ? p.name LOOP
		wrong := CASE
			WHEN jsonb_typeof(part.value) IS DISTINCT FROM 'object' THEN 'is no object'
			WHEN coalesce(part.value ->> 'url', '{{base}}') !~ '^\{\{base\}\}([/?]|$)' THEN 'has a url that does not begin with {{base}}'
			WHEN part.value ->> 'url' ~ '\{\{\s*secret' THEN 'has the secret in its url: give it in a header, in the body, or by basic_user'
			WHEN part.value ->> 'url' ~ '[[:cntrl:] ]' THEN 'has a blank in its url'
			WHEN coalesce(part.value ->> 'method', 'GET') NOT IN ('GET', 'POST', 'PUT', 'PATCH', 'DELETE') THEN 'has a method that is none of GET, POST, PUT, PATCH, DELETE'
			WHEN coalesce(part.value ->> 'type', 'json') NOT IN ('json', 'form', 'xml', 'text') THEN 'has a type that is none of json, form, xml, text'
			WHEN jsonb_typeof(coalesce(part.value -> 'headers', '[]')) <> 'array' THEN 'has headers that are no list'
			WHEN EXISTS (SELECT FROM jsonb_array_elements_text(CASE jsonb_typeof(part.value -> 'headers') WHEN 'array' THEN part.value -> 'headers' ELSE '[]' END) AS h(line)
				WHERE h.line !~ '^[A-Za-z0-9-]+: ' OR h.line ~ '[[:cntrl:]]') THEN 'has a header that is no "Name: value"' END;
		IF wrong IS NULL THEN
			PERFORM crm.sms_http_fill(coalesce(part.value ->> 'url', '{{base}}'), sample, 'url'),
				(SELECT count(crm.sms_http_fill(h.line, sample || '{"secret": "1"}', 'header')) FROM jsonb_array_elements_text(coalesce(part.value -> 'headers', '[]')) AS h(line));
			IF part.value ->> 'body' IS NOT NULL THEN
				wrong := CASE
					WHEN coalesce(part.value ->> 'type', 'json') = 'json'
						AND crm.body_json(convert_to(crm.sms_http_fill(part.value ->> 'body', sample || '{"secret": "1"}', 'json'), 'UTF8')) IS NULL THEN 'has a body that is no JSON once it is filled'
					WHEN part.value ->> 'type' = 'xml'
						AND crm.body_xml(convert_to(crm.sms_http_fill(part.value ->> 'body', sample || '{"secret": "1"}', 'xml'), 'UTF8')) IS NULL THEN 'has a body that is no XML once it is filled'
					WHEN crm.sms_http_fill(part.value ->> 'body', sample || '{"secret": "1"}', 'text') IS NULL THEN 'has a body that cannot be filled' END;
			END IF;
		END IF;
		IF wrong IS NOT NULL THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the part %s of the description %s', part.name, wrong), HINT = 'docs/integration/sms_http.md has whole examples.';
		END IF;
	END LOOP;

	-- every place and pattern is compiled once
	FOR f IN
		SELECT 'read.' || p.key AS name, p.value AS place FROM jsonb_each_text(coalesce(description -> 'read', '{}')) AS p
		UNION ALL SELECT 'status.' || p.key, p.value FROM jsonb_each_text(CASE jsonb_typeof(description -> 'status') WHEN 'object' THEN description -> 'status' ELSE '{}' END) AS p WHERE p.key IN ('state', 'at', 'words')
		UNION ALL SELECT 'balance.value', description #>> '{balance,value}' WHERE description ? 'balance'
		UNION ALL SELECT 'report.' || p.key, p.value FROM jsonb_each_text(coalesce(description -> 'report', '{}')) AS p WHERE p.key IN ('state', 'at', 'words')
		UNION ALL SELECT 'a rule', x.rule ->> 'place' FROM crm.sms_http_rules(description) AS x WHERE x.rule ? 'place'
	LOOP
		name := f.name;
		IF f.place IS NULL OR f.place !~ '^((lax )?\$|header:[A-Za-z0-9-]+$|re:.|xpath:.|query:.|form:.|body$|status$)' THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s names no place: %s', name, coalesce(quote_literal(f.place), 'NULL')),
				HINT = 'A place is $.path, header:Name, re:pattern, xpath:/path, body or status.';
		END IF;
		BEGIN
			PERFORM crm.sms_http_find(f.place, 200, '', '<a/>', '{}', '');
		EXCEPTION WHEN data_exception THEN
			IF f.place NOT LIKE 'xpath:%' THEN
				RAISE;
			END IF;
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no XPath expression: %s', name, substr(f.place, 7)), HINT = 'For example xpath:/answer/number.';
		END;
	END LOOP;
	FOR r IN SELECT x.rule, x.class FROM crm.sms_http_rules(description) AS x LOOP
		IF jsonb_typeof(r.rule) IS DISTINCT FROM 'object' OR r.rule ? 'status' AND crm.sms_http_span(r.rule ->> 'status') IS NULL
			OR r.class AND coalesce(r.rule ->> 'class', '') NOT IN ('ok', 'transient', 'throttled', 'permanent', 'content', 'sender', 'auth', 'balance', 'config', 'duplicate', 'unknown') THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('this is no rule: %s', left(r.rule::text, 200)),
				HINT = 'A rule is {"status": "200-299", "place": "$.error", "equals": "7", "class": "permanent"}; classes are ok, transient, throttled, permanent, content, sender, auth, balance, config, duplicate, unknown.';
		END IF;
		PERFORM '' ~* (r.rule ->> 'pattern');
	END LOOP;
	IF NOT description -> 'read' ? 'id' AND NOT EXISTS (SELECT FROM crm.sms_http_rules(description) AS x WHERE x.class AND x.rule ->> 'class' = 'ok') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the description does not say how a message that was taken is known',
			HINT = 'Give read.id, the place of the provider''s id, or a rule of class ok.';
	END IF;
	FOR f IN SELECT 'status' AS name, description -> 'status' AS value UNION ALL SELECT 'report', description -> 'report' LOOP
		IF f.value IS NOT NULL AND (f.value ->> 'state' IS NULL OR jsonb_typeof(f.value -> 'states') IS DISTINCT FROM 'object'
			OR EXISTS (SELECT FROM jsonb_each_text(CASE jsonb_typeof(f.value -> 'states') WHEN 'object' THEN f.value -> 'states' ELSE '{}' END) AS s WHERE s.value NOT IN ('sent', 'delivered', 'undelivered', 'failed', 'unknown'))) THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the part %s of the description does not say what its states mean', f.name),
				HINT = 'Give state, a place, and states, for example {"DELIVRD": "delivered"}; each is sent, delivered, undelivered, failed or unknown.';
		END IF;
	END LOOP;
	IF description ->> 'on_unknown' = 'ask' AND NOT ('id' = ANY (crm.template_variables(concat_ws(' ', description #>> '{status,url}', description #>> '{status,body}')))) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'on_unknown is ask, but the part status does not ask by {{id}}, our number',
			HINT = 'Set on_unknown to hold or resend, or ask by a number that the provider knows although its reply was lost.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.sms_http_check(jsonb) IS 'Checks a description whole: templates, places, rules, states. Errors, with what is wrong: 22023; those of crm.template_fill(), of JSON paths (42601) and patterns (2201B).';

CREATE OR REPLACE FUNCTION crm.sms_http_rules(description jsonb) RETURNS TABLE (rule jsonb, class boolean)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.value, true FROM jsonb_array_elements(CASE jsonb_typeof($1 -> 'rules') WHEN 'array' THEN $1 -> 'rules' ELSE '[]' END) AS r
	UNION ALL
	SELECT r.value, false FROM jsonb_array_elements(CASE jsonb_typeof($1 #> '{status,unknown}') WHEN 'array' THEN $1 #> '{status,unknown}' ELSE '[]' END) AS r
$$;
COMMENT ON FUNCTION crm.sms_http_rules(jsonb) IS 'The rules of a description: those that class a reply, and those that say that the provider does not know a message.';

CREATE OR REPLACE FUNCTION crm.sms_http_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	d jsonb;
	base text;
	secret text := crm.secret_value($1);
	vars jsonb;
	report text := crm.route_url($1, 'report');
	limit_ms integer;
	used integer := 0;
	by_theirs boolean;
	m record;
BEGIN
	SELECT rtrim(i.url, '/'), k.defaults || i.settings INTO base, d
	FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	PERFORM crm.sms_http_check(d);
	vars := coalesce(d -> 'values', '{}') || jsonb_build_object('base', base);
	limit_ms := (d ->> 'timeout_ms')::integer;
	IF d ? 'balance' AND crm.account_ask($1) THEN
		used := 1;
		RETURN NEXT crm.sms_http_request(d -> 'balance', vars, d ->> 'basic_user', secret, limit_ms, -1, '{"op": "balance"}');
	END IF;
	IF crm.account_stopped($1) IS NOT NULL THEN
		IF d ? 'balance' THEN
			RETURN;
		END IF;
		-- nothing else tells whether it takes us again; one at a time, however often we are called
		capacity := least(capacity, 1 - (SELECT s.outstanding FROM crm.integration_state AS s WHERE s.integration_id = $1));
		IF capacity < 1 THEN
			RETURN;
		END IF;
	END IF;
	IF d ? 'status' AND capacity > used AND crm.account_stopped($1) IS NULL THEN
		by_theirs := 'provider_id' = ANY (crm.template_variables(concat_ws(' ', d #>> '{status,url}', d #>> '{status,body}')));
		FOR m IN
			SELECT t.* FROM crm.outbox_due($1, least((d ->> 'ask_batch')::integer, capacity - used), (d ->> 'ask_pace_ms')::bigint) AS t
		LOOP
			CONTINUE WHEN by_theirs AND m.provider_id IS NULL;
			used := used + 1;
			RETURN NEXT crm.sms_http_request(d -> 'status',
				vars || jsonb_build_object('id', (d ->> 'id_prefix') || m.message_id, 'provider_id', coalesce(m.provider_id, ''), 'recipient',
					CASE d ->> 'recipient_form' WHEN 'digits' THEN ltrim(m.recipient, '+') ELSE m.recipient END, 'digits', ltrim(m.recipient, '+')),
				d ->> 'basic_user', secret, limit_ms, -m.message_id, jsonb_build_object('op', 'status', 'id', m.message_id));
		END LOOP;
	END IF;
	FOR m IN SELECT t.* FROM crm.outbox_take($1, crm.account_room($1, capacity - used)) AS t LOOP
		RETURN NEXT crm.sms_http_request(d -> 'send',
			vars || jsonb_build_object(
				'id', (d ->> 'id_prefix') || m.message_id,
				'recipient', CASE d ->> 'recipient_form' WHEN 'digits' THEN ltrim(m.recipient, '+') ELSE m.recipient END,
				'digits', ltrim(m.recipient, '+'),
				'sender', m.sender,
				'text', m.body,
				'encoding', coalesce(d -> 'encodings' ->> m.encoding, m.encoding),
				'language', m.language,
				'parts', m.segments,
				'expires', to_char(coalesce(m.expires_at, crm.now() + make_interval(mins => (d ->> 'validity_minutes')::integer)) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
				'minutes', CASE WHEN m.expires_at IS NULL THEN (d ->> 'validity_minutes')::integer ELSE greatest(1, ceil(extract(epoch FROM m.expires_at - crm.now()) / 60))::integer END,
				'seconds', CASE WHEN m.expires_at IS NULL THEN 60 * (d ->> 'validity_minutes')::integer ELSE greatest(60, ceil(extract(epoch FROM m.expires_at - crm.now())))::integer END,
				'provider_id', '',
				'report_url', coalesce(report || '?id=' || m.message_id, '')),
			d ->> 'basic_user', secret, limit_ms, m.message_id, '{"op": "send"}');
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.sms_http_next(bigint, integer) IS
'Next requests for a described provider: the balance where it is described and due, questions about messages, one request each, and messages. The description is checked first: with a mistake in it nothing is sent, and crm.health has the words.';

CREATE OR REPLACE FUNCTION crm.sms_http_class(integration_id bigint, description jsonb, reply crm.reply, said jsonb) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	class text;
BEGIN
	IF reply.error IS NOT NULL THEN
		RETURN CASE WHEN reply.error LIKE 'refused:%' THEN 'config' WHEN reply.sent THEN 'unknown' ELSE 'transient' END;
	END IF;
	SELECT r.value ->> 'class' INTO class
	FROM jsonb_array_elements(CASE jsonb_typeof(description -> 'rules') WHEN 'array' THEN description -> 'rules' ELSE '[]' END) WITH ORDINALITY AS r(value, n)
	WHERE crm.sms_http_fits(r.value, reply.status, reply.headers, reply.body, said)
	ORDER BY r.n LIMIT 1;
	IF coalesce(class, 'ok') = 'ok' THEN
		IF reply.status BETWEEN 200 AND 299 OR class = 'ok' THEN
			-- taken, if the provider gave it a number where it should
			RETURN CASE
				WHEN description -> 'read' ? 'id' THEN
					CASE WHEN coalesce(crm.sms_http_find(description #>> '{read,id}', reply.status, reply.headers, reply.body, said), '') <> '' THEN 'ok' ELSE 'unknown' END
				WHEN class = 'ok' THEN 'ok'
				ELSE 'unknown' END;
		END IF;
		-- nobody who can be asked: a server's error is taken for a refusal
		class := CASE
			WHEN reply.status IN (401, 403) THEN 'auth'
			WHEN reply.status = 402 THEN 'balance'
			WHEN reply.status = 429 THEN 'throttled'
			WHEN reply.status IN (404, 405) OR reply.status BETWEEN 300 AND 399 THEN 'config'
			WHEN reply.status BETWEEN 400 AND 499 THEN 'transient'
			WHEN description ->> 'on_unknown' = 'ask' THEN 'unknown'
			ELSE 'transient' END;
	END IF;
	RETURN class;
END
$$;
COMMENT ON FUNCTION crm.sms_http_class(bigint, jsonb, crm.reply, jsonb) IS 'What a reply to a message means, one of the classes of crm.reply_rule: by the rules of the description, the first that fits; else a 2xx with the id is ok and any other 2xx unknown; else by the status.';

CREATE OR REPLACE FUNCTION crm.sms_http_moment(words text) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET datestyle = 'ISO, YMD' SET timezone = 'UTC'
AS $$
BEGIN
	RETURN CASE
		WHEN words ~ '^[0-9]{9,10}$' THEN to_timestamp(words::double precision)
		WHEN words ~ '^[0-9]{13}$' THEN to_timestamp(words::double precision / 1000)
		WHEN words ~ '^20[0-9]{2}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\.[0-9]{1,9})?)?(Z|[+-][0-2][0-9]:?([0-5][0-9])?)?$' THEN words::timestamptz END;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.sms_http_moment(text) IS 'A time as providers write it: seconds or milliseconds since 1970, or ISO (UTC where no zone is told); NULL for all else.';

CREATE OR REPLACE FUNCTION crm.sms_http_take(integration_id bigint, replies crm.reply[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
	d jsonb;
	r crm.reply;
	said jsonb;
	class text;
	value text;
	state text;
	refs bigint[];
	outcomes text[];
	classes text[];
	provider_ids text[];
	words text[];
	parts integer[];
	prices numeric[];
	balance numeric;
	asked bigint[];
	states text[];
	asked_words text[];
	moments timestamptz[];
BEGIN
	SELECT k.defaults || i.settings INTO d FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	FOREACH r IN ARRAY replies LOOP
		said := CASE WHEN r.error IS NULL THEN crm.body_json(r.body) END;
		IF r.context ->> 'op' = 'send' THEN
			class := crm.sms_http_class($1, d, r, said);
			refs := refs || r.ref;
			classes := classes || class;
			outcomes := outcomes || CASE class WHEN 'ok' THEN 'sent' WHEN 'transient' THEN 'retry' WHEN 'config' THEN 'retry'
				WHEN 'throttled' THEN 'throttled' WHEN 'auth' THEN 'throttled' WHEN 'balance' THEN 'throttled'
				WHEN 'duplicate' THEN 'uncertain' WHEN 'unknown' THEN 'uncertain' ELSE 'failed' END;
			provider_ids := provider_ids || CASE WHEN class = 'ok' AND d -> 'read' ? 'id' THEN crm.sms_http_find(d #>> '{read,id}', r.status, r.headers, r.body, said) END;
			words := words || CASE WHEN r.error IS NOT NULL THEN left(r.error, 500)
				ELSE left(rtrim(r.status || ' ' || regexp_replace(coalesce(CASE WHEN d -> 'read' ? 'words' THEN nullif(crm.sms_http_find(d #>> '{read,words}', r.status, r.headers, r.body, said), '') END,
					crm.body_text(substr(r.body, 1, 500)), ''), '\s+', ' ', 'g')), 500) END;
			value := CASE WHEN class = 'ok' AND d -> 'read' ? 'parts' THEN crm.sms_http_find(d #>> '{read,parts}', r.status, r.headers, r.body, said) END;
			parts := parts || CASE WHEN value ~ '^[0-9]{1,4}$' THEN value::integer END;
			prices := prices || CASE WHEN class = 'ok' AND d -> 'read' ? 'price' THEN abs(crm.as_number(crm.sms_http_find(d #>> '{read,price}', r.status, r.headers, r.body, said))) END;
			IF class = 'ok' AND d -> 'read' ? 'balance' THEN
				balance := coalesce(crm.as_number(crm.sms_http_find(d #>> '{read,balance}', r.status, r.headers, r.body, said)), balance);
			END IF;
			IF class = 'unknown' AND r.error IS NULL AND r.status BETWEEN 200 AND 299 THEN
				PERFORM crm.reject($1, 'reply to a message', 'no rule of the description fits, and no id is where it should be', '22P02', coalesce(r.body, ''));
			END IF;
		ELSIF r.error IS NOT NULL THEN
			NULL; -- asked again by itself
		ELSIF r.context ->> 'op' = 'balance' THEN
			balance := NULL;
			IF r.status BETWEEN 200 AND 299 THEN
				balance := crm.as_number(crm.sms_http_find(d #>> '{balance,value}', r.status, r.headers, r.body, said));
				IF balance IS NULL THEN
					PERFORM crm.reject($1, 'reply about the balance', 'no number at ' || (d #>> '{balance,value}'), '22P02', coalesce(r.body, ''));
				END IF;
			ELSIF r.status IN (401, 403) THEN
				PERFORM crm.account_stop($1, 'auth', 'status ' || r.status);
			END IF;
		ELSIF EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(d #> '{status,unknown}') WHEN 'array' THEN d #> '{status,unknown}' ELSE '[]' END) AS u(rule)
				WHERE crm.sms_http_fits(u.rule, r.status, r.headers, r.body, said)) THEN
			asked := asked || (r.context ->> 'id')::bigint;
			states := states || 'unknown'::text;
			asked_words := asked_words || 'the provider does not know it'::text;
			moments := moments || NULL::timestamptz;
		ELSIF r.status BETWEEN 200 AND 299 THEN
			value := crm.sms_http_find(d #>> '{status,state}', r.status, r.headers, r.body, said);
			state := d #> '{status,states}' ->> value;
			IF state IS NULL THEN
				PERFORM crm.reject($1, 'reply about a message', format('%s at %s is no state of the description', coalesce(quote_literal(value), 'nothing'), d #>> '{status,state}'), '22P02', coalesce(r.body, ''));
			ELSE
				asked := asked || (r.context ->> 'id')::bigint;
				states := states || state;
				asked_words := asked_words || concat_ws(': ', value, CASE WHEN d -> 'status' ? 'words' THEN crm.sms_http_find(d #>> '{status,words}', r.status, r.headers, r.body, said) END);
				moments := moments || CASE WHEN d -> 'status' ? 'at' THEN crm.sms_http_moment(crm.sms_http_find(d #>> '{status,at}', r.status, r.headers, r.body, said)) END;
			END IF;
		ELSIF r.status IN (401, 403) THEN
			PERFORM crm.account_stop($1, 'auth', 'status ' || r.status);
		END IF;
	END LOOP;
	-- first the balance: a refusal of the same batch came after it, or may have
	PERFORM crm.account_balance($1, balance);
	PERFORM crm.outbox_verdict($1, refs, outcomes, classes, provider_ids, words, parts, prices, ask => d ? 'status');
	PERFORM crm.outbox_status($1, asked, states, NULL, asked_words, moments);
END
$$;
COMMENT ON FUNCTION crm.sms_http_take(bigint, crm.reply[]) IS
'Settles replies of a described provider: of messages by crm.sms_http_class(), of questions by the states of the description. What it does not describe leaves a message uncertain and stands in crm.rejected.';

CREATE OR REPLACE FUNCTION crm.sms_http_report(integration_id bigint, request crm.http_request) RETURNS crm.http_response
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	d jsonb;
	said jsonb := crm.body_json(request.body);
	number text := crm.form_value(coalesce(request.query, ''), 'id');
	value text;
	state text;
	reason text;
BEGIN
	SELECT k.defaults || i.settings INTO d FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	value := crm.sms_http_find(d #>> '{report,state}', 0, request.headers, request.body, said, coalesce(request.query, ''));
	state := d #> '{report,states}' ->> value;
	reason := CASE
		WHEN NOT d ? 'report' THEN 'the description has no part report'
		WHEN number IS NULL OR number !~ '^[0-9]{1,18}$' THEN 'no number of a message in its address'
		WHEN NOT EXISTS (SELECT FROM crm.message_said AS b WHERE b.id = number::bigint AND b.integration_id = $1) THEN format('message %s is not one of this integration', number)
		WHEN state IS NULL OR state = 'unknown' THEN format('%s at %s is no state of the description', coalesce(quote_literal(value), 'nothing'), d #>> '{report,state}') END;
	IF reason IS NOT NULL THEN
		PERFORM crm.reject($1, 'delivery report', reason, '22P02', convert_to(coalesce(nullif(request.query, '') || E'\n', ''), 'UTF8') || coalesce(request.body, ''));
	ELSE
		PERFORM crm.outbox_status($1, ARRAY[number::bigint], ARRAY[state], NULL,
			ARRAY[concat_ws(': ', value, CASE WHEN d -> 'report' ? 'words' THEN crm.sms_http_find(d #>> '{report,words}', 0, request.headers, request.body, said, coalesce(request.query, '')) END)],
			ARRAY[CASE WHEN d -> 'report' ? 'at' THEN crm.sms_http_moment(crm.sms_http_find(d #>> '{report,at}', 0, request.headers, request.body, said, coalesce(request.query, ''))) END]);
	END IF;
	RETURN ROW (200, NULL, convert_to(coalesce(d #>> '{report,answer}', ''), 'UTF8'))::crm.http_response;
END
$$;
COMMENT ON FUNCTION crm.sms_http_report(bigint, crm.http_request) IS 'Route report: what a described provider calls at {{report_url}}. The message''s number stands in the address, its state where the part report says. What cannot be used is answered all the same, and kept in crm.rejected.';

CREATE OR REPLACE FUNCTION crm.sms_http_test(integration_id bigint) RETURNS SETOF crm.request
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	d jsonb;
	base text;
BEGIN
	SELECT rtrim(i.url, '/'), k.defaults || i.settings INTO base, d
	FROM crm.integration AS i JOIN crm.integration_kind AS k ON k.kind = i.kind WHERE i.id = $1;
	PERFORM crm.sms_http_check(d);
	IF NOT d ? 'balance' THEN
		RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = 'the description is in order, but has no part balance: there is no harmless question to ask',
			HINT = 'Describe the balance, or send yourself a message.';
	END IF;
	RETURN NEXT crm.sms_http_request(d -> 'balance', coalesce(d -> 'values', '{}') || jsonb_build_object('base', base), d ->> 'basic_user', crm.secret_value($1), 10000, 0, NULL);
END
$$;
COMMENT ON FUNCTION crm.sms_http_test(bigint) IS 'Checks the description and asks for the balance. Errors: those of crm.sms_http_check(), 0A000 where no balance is described.';

CREATE OR REPLACE FUNCTION crm.sms_http_judge(integration_id bigint, reply crm.reply) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN ($2).error IS NOT NULL THEN 'failed: ' || ($2).error
		WHEN ($2).status BETWEEN 200 AND 299 AND v.balance IS NOT NULL THEN format('ok: balance %s', v.balance)
		ELSE format('failed: %s %s', ($2).status, left(regexp_replace(crm.body_text(substr(($2).body, 1, 300)), '\s+', ' ', 'g'), 200)) END
	FROM crm.integration AS i,
		LATERAL (SELECT crm.as_number(crm.sms_http_find(i.settings #>> '{balance,value}', ($2).status, ($2).headers, ($2).body, crm.body_json(($2).body)))) AS v(balance)
	WHERE i.id = $1
$$;
COMMENT ON FUNCTION crm.sms_http_judge(bigint, crm.reply) IS 'What the reply to the test means.';

SELECT crm.register_kind('sms_http', 'crm.sms_http_next', 'crm.sms_http_take', channel => 'sms',
	test_function => 'crm.sms_http_test', judge_function => 'crm.sms_http_judge',
	defaults => '{"recipient_form": "plus", "id_prefix": "", "on_unknown": "hold", "unknown_asks": 2, "unknown_ms": 120000, "ask_ms": 30000, "ask_max_ms": 3600000, "ask_hours": 72, "ask_batch": 20, "ask_pace_ms": 1000, "balance_ms": 600000, "currency": "RUB", "validity_minutes": 1440, "max_parts": 10, "timeout_ms": 30000, "hold_ms": 60000, "throttle_ms": 10000, "max_in_flight": 16, "max_reply_bytes": 1048576}',
	description_en => 'SMS through any provider over HTTP, described by the settings', description_ru => 'SMS через любого провайдера по HTTP, описанного настройками');
