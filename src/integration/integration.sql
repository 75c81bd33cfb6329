-- integration: kinds, integrations, secrets, cursors, and the doors of courier and listener.

-- ---- C ---------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.kind_call() RETURNS bigint
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_integration_kind_call';
COMMENT ON FUNCTION crm.kind_call() IS 'The integration whose kind function is running in this session; NULL outside of one.';

CREATE OR REPLACE FUNCTION crm.in_script() RETURNS boolean
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_integration_in_script';
COMMENT ON FUNCTION crm.in_script() IS 'True while CREATE EXTENSION or ALTER EXTENSION runs its script: what is registered then ships.';

CREATE OR REPLACE FUNCTION crm.check_kind_function(role text, function text) RETURNS void
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_integration_check_function';
COMMENT ON FUNCTION crm.check_kind_function(text, text) IS 'Checks that schema.name is a function that can serve as next, take, test, judge, route or schedule: its arguments, its result, its owner. Errors: 42602 not a full name, 42883 no such function, 42P13 wrong result, 42501 an owner whose code couriers do not run.';

CREATE OR REPLACE FUNCTION crm.call_next(function text, integration_id bigint, capacity integer, limit_ms integer) RETURNS crm.request[]
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_next';
COMMENT ON FUNCTION crm.call_next(text, bigint, integer, integer) IS 'Calls a kind''s next function with the rights of its owner (crm_courier where that is a superuser), for at most limit_ms milliseconds. Errors: its own, 57014 over time, 54000 more requests than the capacity.';

CREATE OR REPLACE FUNCTION crm.call_take(function text, integration_id bigint, replies crm.reply[], limit_ms integer) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_take';
COMMENT ON FUNCTION crm.call_take(text, bigint, crm.reply[], integer) IS 'Calls a kind''s take function, as crm.call_next does.';

CREATE OR REPLACE FUNCTION crm.call_test(function text, integration_id bigint, limit_ms integer) RETURNS crm.request[]
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_test';
COMMENT ON FUNCTION crm.call_test(text, bigint, integer) IS 'Calls a kind''s test function, as crm.call_next does.';

CREATE OR REPLACE FUNCTION crm.call_judge(function text, integration_id bigint, reply crm.reply, limit_ms integer) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_judge';
COMMENT ON FUNCTION crm.call_judge(text, bigint, crm.reply, integer) IS 'Calls a kind''s judge function, as crm.call_next does.';

CREATE OR REPLACE FUNCTION crm.call_route(function text, integration_id bigint, request crm.http_request, limit_ms integer) RETURNS crm.http_response
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_route';
COMMENT ON FUNCTION crm.call_route(text, bigint, crm.http_request, integer) IS 'Calls a route''s function, as crm.call_next does.';

CREATE OR REPLACE FUNCTION crm.call_schedule(function text, schedule_id bigint, planned_at timestamptz, limit_ms integer) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_schedule';
COMMENT ON FUNCTION crm.call_schedule(text, bigint, timestamptz, integer) IS 'Calls the function of a schedule''s action, as crm.call_next does; it belongs to no integration and sees no secrets.';

CREATE OR REPLACE FUNCTION crm.secret_file(path text) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_secret_file';
COMMENT ON FUNCTION crm.secret_file(text) IS 'Reads a secret from a file on the server: absolute path, regular file, at most 64 kB, text without zero bytes; the last line end is dropped. Errors name the path and never the content: 42602, 42809, 54000, 22021, 58P01 and 42501.';

CREATE OR REPLACE FUNCTION crm.secret_file_problem(path text) RETURNS text
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_secret_file_problem';
COMMENT ON FUNCTION crm.secret_file_problem(text) IS 'Why crm.secret_file cannot read this file, in words; NULL when it can.';

CREATE OR REPLACE FUNCTION crm.mask(bytes bytea, secrets text[]) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_integration_mask';
COMMENT ON FUNCTION crm.mask(bytea, text[]) IS 'The bytes with each of the secrets (of four bytes or more) replaced by ***: plain, percent-encoded, with slashes escaped as in JSON, and in base64 of both alphabets, alone or inside something longer such as user:password.';

CREATE OR REPLACE FUNCTION crm.header_value(headers text, name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_integration_header_value';
COMMENT ON FUNCTION crm.header_value(text, text) IS 'Value of the last header line of that name, in any case of letters; NULL when there is none.';

CREATE OR REPLACE FUNCTION crm.url_encode(value text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_integration_url_encode';
COMMENT ON FUNCTION crm.url_encode(text) IS 'Percent-encodes every octet of the UTF-8 text but letters, digits and - . _ ~ (RFC 3986), so that the result may stand in a URL or in a form, also inside a value that is encoded once more.';

CREATE OR REPLACE FUNCTION crm.form_value(form text, name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_integration_form_value';
COMMENT ON FUNCTION crm.form_value(text, text) IS 'The first value of that name in a query string or in an application/x-www-form-urlencoded body, decoded; NULL where the name is absent. Never raises an error for what a stranger sent: a damaged escape stands as it is, octets that are no UTF-8 become U+FFFD.';

CREATE OR REPLACE FUNCTION crm.integration_fetch(request crm.request, settings jsonb, max_reply_bytes integer, limit_ms integer) RETURNS crm.reply
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS '$libdir/crm_worker', 'crm_integration_fetch';
COMMENT ON FUNCTION crm.integration_fetch(crm.request, jsonb, integer, integer) IS 'Carries one request in the calling session, for crm.integration_test, under the rules that the courier has (settings: ca_file, proxy, starttls, allow_hosts): interruptible, at most limit_ms (10000) milliseconds, no redirects.';

-- ---- small ones ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.backoff_ms(failures integer, base_ms bigint, cap_ms bigint DEFAULT 300000) RETURNS bigint
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT greatest(1, (least(greatest(cap_ms, base_ms), base_ms * power(2.0::float8, least(greatest(failures, 1), 40) - 1)) * (0.75 + 0.25 * random())))::bigint;
END;
COMMENT ON FUNCTION crm.backoff_ms(integer, bigint, bigint) IS 'Milliseconds to wait after so many failures: base, doubled with each, up to the cap, less up to a quarter by chance so that callers do not come in step.';

CREATE OR REPLACE FUNCTION crm.retry_after_ms(headers text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	value text := btrim(crm.header_value(headers, 'Retry-After'));
	span  numeric;
BEGIN
	IF value ~ '^[0-9]{1,9}$' THEN
		span := value::numeric;
	ELSIF value ~ '^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) 20[0-9]{2} [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT$' THEN
		BEGIN
			span := extract(epoch FROM value::timestamptz - clock_timestamp());
		EXCEPTION WHEN data_exception THEN
			RETURN NULL;
		END;
	ELSE
		RETURN NULL;
	END IF;
	RETURN (least(greatest(span, 0), 3600) * 1000)::bigint;
END
$$;
COMMENT ON FUNCTION crm.retry_after_ms(text) IS 'Milliseconds that a Retry-After header asks for (seconds or a date), at most an hour; NULL when there is none that can be read.';

CREATE OR REPLACE FUNCTION crm.assert_own_integration(integration_id bigint) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.kind_call() = integration_id
		OR (crm.kind_call() IS NULL AND (session_user = 'crm_courier' OR pg_has_role(session_user, 'crm_owner', 'MEMBER'))) THEN
		RETURN;
	END IF;
	RAISE EXCEPTION USING ERRCODE = '42501',
		MESSAGE = CASE WHEN integration_id IS NULL THEN 'no kind''s function is running' ELSE format('integration %s may not be used here', integration_id) END,
		HINT = 'A kind''s function may use the integration that it was called for; outside of such a call this is for members of crm_owner.';
END
$$;
COMMENT ON FUNCTION crm.assert_own_integration(bigint) IS 'Raises 42501 unless the running kind function was called for this integration, or the login is a courier or a member of crm_owner.';

-- ---- secrets ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.secret_value(integration_id bigint, name text DEFAULT 'secret') RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	found_value text;
	found_file  text;
BEGIN
	PERFORM crm.assert_own_integration($1);
	SELECT s.value, s.file INTO found_value, found_file
	FROM crm.secret s WHERE s.integration_id = $1 AND s.name = $2;
	IF found_file IS NOT NULL THEN
		found_value := crm.secret_file(found_file);
	END IF;
	RETURN found_value;
END
$$;
COMMENT ON FUNCTION crm.secret_value(bigint, text) IS 'A secret of an integration, from its row or read from its file at this moment; NULL when there is none. For couriers, and for a kind''s functions while they are called for this integration. Errors: 42501, those of crm.secret_file.';

CREATE OR REPLACE FUNCTION crm.set_secret(integration text, secret text, name text DEFAULT 'secret') RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	target bigint := (SELECT i.id FROM crm.integration i WHERE i.name = $1);
BEGIN
	IF target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no integration is named %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'SELECT name FROM crm.integration; lists them.';
	END IF;
	IF coalesce($3, '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a secret needs a name', HINT = 'Leave the argument out for the name ''secret''.';
	END IF;
	IF coalesce($2, '') = '' THEN
		DELETE FROM crm.secret s WHERE s.integration_id = target AND s.name = $3;
		RETURN;
	END IF;
	IF octet_length($2) > 65536 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the secret is longer than 64 kB', HINT = 'Give a shorter one, or file:/absolute/path.';
	END IF;
	IF $2 LIKE 'file:%' AND substr($2, 6) !~ '^/.' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'file: needs an absolute path', HINT = 'For example file:/etc/crm/kannel.password';
	END IF;
	INSERT INTO crm.secret AS s (integration_id, name, value, file)
	VALUES (target, $3, CASE WHEN $2 NOT LIKE 'file:%' THEN $2 END, CASE WHEN $2 LIKE 'file:%' THEN substr($2, 6) END)
	ON CONFLICT (integration_id, name) DO UPDATE SET value = EXCLUDED.value, file = EXCLUDED.file;
END
$$;
COMMENT ON FUNCTION crm.set_secret(text, text, text) IS 'Sets a secret of an integration: the value, or file:/absolute/path of a file that is read at each use; empty or NULL takes it away. Prefer file: the value form stands in the text of your statement. Errors: 42704 no such integration, 22023.';

CREATE OR REPLACE FUNCTION crm.secrets_of(integration_id bigint) RETURNS text[]
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(array_agg(CASE WHEN s.file IS NULL THEN s.value
		WHEN crm.secret_file_problem(s.file) IS NULL THEN crm.secret_file(s.file) END), '{}')
	FROM crm.secret s WHERE s.integration_id = $1;
END;
COMMENT ON FUNCTION crm.secrets_of(bigint) IS 'Every secret of an integration, from its row or its file; for masking only. A file that cannot be read is left out.';

CREATE OR REPLACE FUNCTION crm.masked(integration_id bigint, bytes bytea) RETURNS bytea
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm.mask($2, crm.secrets_of($1));
END;
COMMENT ON FUNCTION crm.masked(bigint, bytea) IS 'The bytes with the secrets of the integration masked by ***.';

CREATE OR REPLACE FUNCTION crm.masked_words(integration_id bigint, words text) RETURNS text
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT left(convert_from(crm.masked($1, convert_to(left($2, 70000), 'UTF8')), 'UTF8'), 2000);
END;
COMMENT ON FUNCTION crm.masked_words(bigint, text) IS 'The words, at most 2000 characters of them, with the secrets of the integration masked by ***.';

CREATE OR REPLACE FUNCTION crm.masked_words(integration_id bigint, words text[]) RETURNS text[]
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	secrets text[];
	pairs   jsonb;
BEGIN
	IF array_remove($2, NULL) = '{}' OR $2 IS NULL THEN
		RETURN $2;
	END IF;
	secrets := crm.secrets_of($1);
	-- a batch holds few different words: each is masked once
	SELECT jsonb_object_agg(d.word, left(convert_from(crm.mask(convert_to(left(d.word, 70000), 'UTF8'), secrets), 'UTF8'), 2000)) INTO pairs
	FROM (SELECT DISTINCT u.word FROM unnest($2) AS u(word) WHERE u.word IS NOT NULL) d;
	RETURN (SELECT array_agg(pairs ->> w.word ORDER BY w.n) FROM unnest($2) WITH ORDINALITY AS w(word, n));
END
$$;
COMMENT ON FUNCTION crm.masked_words(bigint, text[]) IS 'As crm.masked_words for each of many words; the secrets are fetched once.';

-- ---- rejected, completeness ------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.reject(integration_id bigint, what text, reason text, sqlstate text DEFAULT NULL, bytes bytea DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	words  text   := coalesce($2, '');
	cause  text   := coalesce($3, '');
	kept   bytea  := substr($5, 1, 65536);
	masker bigint := coalesce($1, crm.kind_call());
	result bigint;
BEGIN
	IF $1 IS NOT NULL THEN
		PERFORM crm.assert_own_integration($1);
	END IF;
	IF masker IS NOT NULL THEN
		words := crm.masked_words(masker, words);
		cause := crm.masked_words(masker, cause);
		kept  := substr(crm.masked(masker, substr($5, 1, 131072)), 1, 65536);
	END IF;
	words := left(words, 500);
	cause := left(cause, 2000);
	INSERT INTO crm.rejected AS r (integration_id, what, reason, sqlstate, bytes, bytes_length, fingerprint)
	VALUES ($1, words, cause, $4, kept, octet_length($5),
		sha256(convert_to(jsonb_build_array($1, words, cause, $4, octet_length($5))::text, 'UTF8') || coalesce(kept, '')))
	ON CONFLICT (fingerprint) DO UPDATE SET seen = r.seen + 1, last_at = crm.now()
	RETURNING r.id INTO result;
	RETURN result;
END
$$;
COMMENT ON FUNCTION crm.reject(bigint, text, text, text, bytea) IS 'Keeps what could not be used: where it came from (or NULL), what it was, why not, the SQLSTATE, its bytes (the first 64 kB). Exactly the same again counts in the same row. The integration''s secrets are masked. Returns the row''s id. Error 42501 for an integration that the running kind was not called for.';

CREATE OR REPLACE FUNCTION crm.record_completeness(integration_id bigint, span tstzrange, theirs bigint, ours bigint, rejected bigint DEFAULT 0, what text DEFAULT '') RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	adds_up boolean;
BEGIN
	PERFORM crm.assert_own_integration($1);
	INSERT INTO crm.completeness AS c (integration_id, what, span, theirs, ours, rejected)
	VALUES ($1, $6, $2, $3, $4, $5)
	ON CONFLICT (integration_id, what, span) DO UPDATE SET
		theirs = EXCLUDED.theirs, ours = EXCLUDED.ours, rejected = EXCLUDED.rejected, checked_at = crm.now()
	RETURNING c.theirs = c.ours + c.rejected INTO adds_up;
	RETURN adds_up;
END
$$;
COMMENT ON FUNCTION crm.record_completeness(bigint, tstzrange, bigint, bigint, bigint, text) IS 'Writes how many rows a service says it has for a span, how many are here and how many were rejected; true when they add up. A difference shows in crm.health until the span is counted again. Error 42501 outside of a call for this integration.';

-- ---- kinds -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.register_kind(kind text, next_function text, take_function text, channel text DEFAULT NULL,
	defaults jsonb DEFAULT '{}', test_function text DEFAULT NULL, description_en text DEFAULT '', description_ru text DEFAULT '',
	judge_function text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	ships boolean := crm.in_script();
BEGIN
	IF coalesce($1, '') !~ '^[a-z][a-z0-9_]{0,62}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s cannot name a kind', coalesce(quote_literal($1), 'NULL')),
			HINT = 'Use lower-case letters, digits and _, beginning with a letter.';
	END IF;
	IF NOT ships AND EXISTS (SELECT FROM crm.integration_kind k WHERE k.kind = $1 AND k.shipped) THEN
		RAISE EXCEPTION USING ERRCODE = '42710', MESSAGE = format('kind %s ships with crm and cannot be replaced', $1),
			HINT = 'Register yours under another name.';
	END IF;
	IF ships = ($1 LIKE 'x\_%') THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = CASE WHEN ships THEN format('kind %s of an extension begins with x_', $1) ELSE format('kind %s does not begin with x_', $1) END,
			HINT = CASE WHEN ships THEN 'Names with x_ belong to the DBA.'
				ELSE format('Name it x_%s: names without x_ are kept for kinds that come with the product, so that no later version ships one of the name of yours.', $1) END;
	END IF;
	IF ($2 IS NULL) <> ($3 IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('kind %s needs both a next and a take function, or neither', $1),
			HINT = 'A kind that only listens has neither: give NULL twice.';
	END IF;
	IF jsonb_typeof(coalesce($5, '{}')) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the defaults of kind %s are no JSON object', $1),
			HINT = 'For example ''{"poll_ms": 10000}''.';
	END IF;
	IF $2 IS NOT NULL THEN
		PERFORM crm.check_kind_function('next', $2);
		PERFORM crm.check_kind_function('take', $3);
	END IF;
	IF $6 IS NOT NULL THEN
		PERFORM crm.check_kind_function('test', $6);
	END IF;
	IF $9 IS NOT NULL THEN
		PERFORM crm.check_kind_function('judge', $9);
	END IF;
	INSERT INTO crm.integration_kind AS k (kind, channel, next_function, take_function, test_function, judge_function, defaults,
		description_en, description_ru, shipped)
	VALUES ($1, $4, $2, $3, $6, $9, coalesce($5, '{}'), coalesce($7, ''), coalesce($8, ''), ships)
	ON CONFLICT (kind) DO UPDATE SET channel = EXCLUDED.channel, next_function = EXCLUDED.next_function,
		take_function = EXCLUDED.take_function, test_function = EXCLUDED.test_function, judge_function = EXCLUDED.judge_function,
		defaults = EXCLUDED.defaults, description_en = EXCLUDED.description_en, description_ru = EXCLUDED.description_ru,
		shipped = EXCLUDED.shipped;
END
$$;
COMMENT ON FUNCTION crm.register_kind(text, text, text, text, jsonb, text, text, text, text) IS 'Makes a kind of outside service known, or replaces the DBA''s own of that name. The name of a DBA''s kind begins with x_; no shipped one does, so a later version never brings the same. The functions are full names, see crm.integration_kind; their owner must be a member of crm_integrator (or a superuser: then they run as crm_courier). Errors: 22023, 42710 a shipped kind, those of crm.check_kind_function. Claims 22, 46 and 67.';

CREATE OR REPLACE FUNCTION crm.register_reply_rule(kind text, code text, "position" integer, status_from integer, status_to integer,
	pattern text, outcome text, class text) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.reply_rule AS r (kind, code, position, status_from, status_to, pattern, outcome, class, shipped)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, crm.in_script())
	ON CONFLICT (kind, shipped, code) DO UPDATE SET position = EXCLUDED.position, status_from = EXCLUDED.status_from,
		status_to = EXCLUDED.status_to, pattern = EXCLUDED.pattern, outcome = EXCLUDED.outcome, class = EXCLUDED.class;
END;
COMMENT ON FUNCTION crm.register_reply_rule(text, text, integer, integer, integer, text, text, text) IS 'Says what a reply of a kind means, see crm.reply_rule; replaces the caller''s row of that kind and code, never a shipped one: give it a smaller position. Errors: 23514 an unknown outcome or class, 2201B a broken pattern.';

-- ---- integrations ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.add_integration(name text, kind text, url text, settings jsonb DEFAULT '{}', secret text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	chosen crm.integration_kind;
	given  jsonb := coalesce($4, '{}');
	whole  jsonb;
	bad    text;
	result bigint;
BEGIN
	IF coalesce($1, '') !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s cannot name an integration', coalesce(quote_literal($1), 'NULL')),
			HINT = 'Use letters, digits, _ . and -, at most 63; the name stands in the addresses that services call back.';
	END IF;
	SELECT * INTO chosen FROM crm.integration_kind k WHERE k.kind = $2;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no kind is named %s', coalesce(quote_literal($2), 'NULL')),
			HINT = 'Known kinds: ' || coalesce((SELECT string_agg(k.kind, ', ' ORDER BY k.kind) FROM crm.integration_kind k), 'none')
				|| '. crm.register_kind() makes a new one known.';
	END IF;
	IF EXISTS (SELECT FROM crm.integration i WHERE i.name = $1) THEN
		RAISE EXCEPTION USING ERRCODE = '42710', MESSAGE = format('integration %s is there already', $1),
			HINT = 'Change it by UPDATE crm.integration, its secret by crm.set_secret(), or choose another name.';
	END IF;
	IF coalesce($3, '') <> '' AND $3 !~ '^(https?|smtps?|imaps?|postgresql)://[^[:space:]]+$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no address that can be called', quote_literal($3)),
			HINT = 'Begin with http://, https://, smtp://, smtps://, imap://, imaps:// or postgresql://.';
	END IF;
	IF $3 ~ '^[a-z]+://[^/?#]*@' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the address holds a user or a password',
			HINT = 'Give the user in the settings and the password as the secret.';
	END IF;
	IF jsonb_typeof(given) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the settings are no JSON object', HINT = 'For example ''{"from": "PLANT"}''.';
	END IF;
	SELECT k.key INTO bad FROM jsonb_object_keys(given) AS k(key)
	WHERE k.key ~* '^(pass|passwd|password|secret|token|api_?key)$' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the setting %s looks like a secret, and settings are dumped', bad),
			HINT = 'Give it as the last argument, as file:/absolute/path or as a value.';
	END IF;
	whole := chosen.defaults || given;
	SELECT k.key INTO bad FROM jsonb_each_text(whole) AS k(key, value)
	WHERE k.key IN ('poll_ms', 'max_in_flight', 'max_reply_bytes') AND k.value IS NOT NULL AND k.value !~ '^[0-9]{1,9}$' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the setting %s is no whole number: %s', bad, whole ->> bad),
			HINT = 'Give a number, for example {"poll_ms": 10000}.';
	END IF;
	INSERT INTO crm.integration AS i (name, kind, url, settings, poll_ms, max_in_flight, max_reply_bytes)
	VALUES ($1, $2, coalesce($3, ''), whole - '{poll_ms,max_in_flight,max_reply_bytes}'::text[],
		(whole ->> 'poll_ms')::integer, coalesce((whole ->> 'max_in_flight')::integer, 32),
		coalesce((whole ->> 'max_reply_bytes')::integer, 8388608))
	RETURNING i.id INTO result;
	IF coalesce($5, '') <> '' THEN
		PERFORM crm.set_secret($1, $5);
	END IF;
	RETURN result;
END
$$;
COMMENT ON FUNCTION crm.add_integration(text, text, text, jsonb, text) IS 'Adds an account at an outside service: name, kind, address, settings over the kind''s defaults (poll_ms, max_in_flight, max_reply_bytes go into columns), secret as file:/absolute/path or as the value. Returns its id. Errors: 22023 a value, 42704 no such kind, 42710 the name is taken.';

CREATE OR REPLACE FUNCTION crm.setting_of(integration_id bigint, key text) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(i.settings ->> $2, k.defaults ->> $2)
	FROM crm.integration i
	JOIN crm.integration_kind k ON k.kind = i.kind
	WHERE i.id = $1;
END;
COMMENT ON FUNCTION crm.setting_of(bigint, text) IS 'A setting of an integration as text: the DBA''s, else the kind''s default, else NULL.';

CREATE OR REPLACE FUNCTION crm.poll_after(integration_id bigint, ms integer) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
	moment bigint := crm.monotonic_ms() + greatest(0, least(coalesce($2, 0), 86400000));
BEGIN
	IF crm.kind_call() IS NOT NULL THEN
		INSERT INTO crm.integration_state AS s (integration_id, asked_ms) VALUES ($1, moment)
		ON CONFLICT (integration_id) DO UPDATE SET asked_ms = EXCLUDED.asked_ms;
	ELSE
		INSERT INTO crm.integration_state AS s (integration_id, due_ms) VALUES ($1, moment)
		ON CONFLICT (integration_id) DO UPDATE SET due_ms = EXCLUDED.due_ms;
		PERFORM crm.wake();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.poll_after(bigint, integer) IS 'Has the integration''s next function called again after so many milliseconds instead of its poll interval; 0 for a follow-up at once. A kind says it in next or take; by hand, commit at once.';

CREATE OR REPLACE FUNCTION crm.integration_retry(name text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
	UPDATE crm.integration_state s SET hold_ms = 0, due_ms = CASE WHEN s.outstanding = 0 THEN NULL ELSE s.due_ms END, failures = least(s.failures, 1)
	FROM crm.integration i WHERE i.id = s.integration_id AND i.name = $1;
	PERFORM crm.wake();
END
$$;
COMMENT ON FUNCTION crm.integration_retry(text) IS 'Ends the back-off of an integration after its cause was mended: it is tried at once.';

CREATE OR REPLACE FUNCTION crm.integration_failed(integration_id bigint, words text, retry_ms bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
	base   bigint := coalesce((SELECT i.poll_ms FROM crm.integration i WHERE i.id = $1), 1000);
	now_ms bigint := crm.monotonic_ms();
	masked text   := crm.masked_words($1, coalesce($2, ''));
BEGIN
	PERFORM crm.assert_own_integration($1);
	INSERT INTO crm.integration_state AS s (integration_id) VALUES ($1) ON CONFLICT (integration_id) DO NOTHING;
	UPDATE crm.integration_state s SET
		failures = s.failures + 1,
		failing_since = coalesce(s.failing_since, clock_timestamp()),
		last_error = masked,
		last_error_at = clock_timestamp(),
		hold_ms = now_ms + CASE WHEN $3 IS NULL THEN crm.backoff_ms(s.failures + 1, base) ELSE least(greatest($3, 0), 3600000) END,
		judged = true
	WHERE s.integration_id = $1;
END
$$;
COMMENT ON FUNCTION crm.integration_failed(bigint, text, bigint) IS 'Notes a failure of the service: words for crm.health, and nothing is asked until retry_ms (at most an hour) have passed; without it a back-off that doubles from the poll interval to five minutes. For a kind whose service answers errors inside a good reply.';

CREATE OR REPLACE FUNCTION crm.integration_succeeded(integration_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.assert_own_integration($1);
	INSERT INTO crm.integration_state AS s (integration_id, last_ok_at, judged) VALUES ($1, clock_timestamp(), true)
	ON CONFLICT (integration_id) DO UPDATE SET failures = 0, failing_since = NULL, last_error = NULL, last_error_at = NULL, hold_ms = 0,
		last_ok_at = EXCLUDED.last_ok_at, judged = true;
END
$$;
COMMENT ON FUNCTION crm.integration_succeeded(bigint) IS 'Notes that the service answered well, whatever its status line said: ends back-off and the row in crm.health.';

CREATE OR REPLACE FUNCTION crm.cursor_value(integration_id bigint, name text) RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.assert_own_integration($1);
	RETURN (SELECT c.value FROM crm.cursor c WHERE c.integration_id = $1 AND c.name = $2);
END
$$;
COMMENT ON FUNCTION crm.cursor_value(bigint, text) IS 'How far an integration has read; NULL at the beginning. Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.set_cursor(integration_id bigint, name text, value jsonb) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF $3 IS NULL THEN
		DELETE FROM crm.cursor c WHERE c.integration_id = $1 AND c.name = $2;
		RETURN;
	END IF;
	INSERT INTO crm.cursor AS c (integration_id, name, value) VALUES ($1, $2, $3)
	ON CONFLICT (integration_id, name) DO UPDATE SET value = EXCLUDED.value, changed_at = crm.now();
END
$$;
COMMENT ON FUNCTION crm.set_cursor(bigint, text, jsonb) IS 'Moves the cursor of an integration, in the transaction that writes what was read; NULL takes it away. Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.session_value(integration_id bigint) RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.assert_own_integration($1);
	RETURN (SELECT s.session FROM crm.integration_state s WHERE s.integration_id = $1);
END
$$;
COMMENT ON FUNCTION crm.session_value(bigint) IS 'What the kind keeps of the provider''s session; NULL when there is none, and after a crash. Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.set_session(integration_id bigint, session jsonb) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.assert_own_integration($1);
	INSERT INTO crm.integration_state AS s (integration_id, session) VALUES ($1, $2)
	ON CONFLICT (integration_id) DO UPDATE SET session = EXCLUDED.session;
END
$$;
COMMENT ON FUNCTION crm.set_session(bigint, jsonb) IS 'Keeps the provider''s session (an id, a host) until the next call; NULL forgets it. Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.integration_test(name text) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	i        record;
	requests crm.request[];
	answer   crm.reply;
	words    text;
BEGIN
	SELECT n.id, n.kind, n.max_reply_bytes, k.test_function, k.judge_function, k.defaults || n.settings AS settings INTO i
	FROM crm.integration n JOIN crm.integration_kind k ON k.kind = n.kind WHERE n.name = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no integration is named %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'SELECT name FROM crm.integration; lists them.';
	END IF;
	IF i.test_function IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '0A000', MESSAGE = format('kind %s has no test', i.kind),
			HINT = 'Give crm.register_kind() a test_function.';
	END IF;
	IF crm.mode() = 'off' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database talks to nobody: its mode is off',
			HINT = 'SELECT crm.activate(); first; crm.health says why it is off.';
	END IF;
	requests := crm.call_test(i.test_function, i.id, 5000);
	IF cardinality(requests) <> 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s gave %s requests', i.test_function, cardinality(requests)),
			HINT = 'A test function gives exactly one.';
	END IF;
	answer := crm.integration_fetch(requests[1], i.settings, i.max_reply_bytes, 10000);
	IF i.judge_function IS NOT NULL THEN
		words := crm.call_judge(i.judge_function, i.id, answer, 5000);
	ELSIF answer.error IS NOT NULL THEN
		words := 'failed: ' || answer.error;
	ELSIF answer.status BETWEEN 200 AND 299 THEN
		words := format('ok: status %s, %s bytes', answer.status, coalesce(octet_length(answer.body), 0));
	ELSE
		words := format('failed: status %s', answer.status);
	END IF;
	RETURN crm.masked_words(i.id, format('%s (%s ms)', words, answer.elapsed_ms));
END
$$;
COMMENT ON FUNCTION crm.integration_test(text) IS 'Asks the service one harmless question, in this session, in at most ten seconds, and says in words how it went. Errors: 42704 no such integration, 0A000 the kind has no test, 55000 the database is not active.';

-- ---- inbound ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.listener_address() RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT nullif(substr(c.setting, length('crm.listener=') + 1), '')
	FROM pg_db_role_setting s
	JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()
	CROSS JOIN LATERAL unnest(s.setconfig) AS c(setting)
	WHERE s.setrole = 0 AND c.setting LIKE 'crm.listener=%';
END;
COMMENT ON FUNCTION crm.listener_address() IS 'address:port of this database''s listener, NULL when it is off; set by crm.listen().';

CREATE OR REPLACE FUNCTION crm.listen(port integer, address text DEFAULT '127.0.0.1') RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	place inet;
BEGIN
	IF port IS NULL THEN
		EXECUTE format('ALTER DATABASE %I RESET crm.listener', current_database());
		PERFORM crm.poke_launcher();
		RETURN NULL;
	END IF;
	IF port NOT BETWEEN 1 AND 65535 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no port', port), HINT = 'Use a free port from 1024 to 65535.';
	END IF;
	BEGIN
		place := address::inet;
	EXCEPTION WHEN invalid_text_representation THEN
		place := NULL;
	END;
	IF place IS NULL OR masklen(place) <> (CASE family(place) WHEN 4 THEN 32 ELSE 128 END) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s is no address to listen at', coalesce(quote_literal(address), 'NULL')),
			HINT = 'Give the number of one of this machine''s addresses: 127.0.0.1, ::1, or another only behind a proxy that speaks TLS.';
	END IF;
	EXECUTE format('ALTER DATABASE %I SET crm.listener = %L', current_database(),
		CASE family(place) WHEN 4 THEN host(place) ELSE '[' || host(place) || ']' END || ':' || port);
	PERFORM crm.poke_launcher();
	RETURN crm.listener_address();
END
$$;
COMMENT ON FUNCTION crm.listen(integer, text) IS 'Switches the listener of this database on at a port of the loopback address (or another address), or off by NULL. The change works after commit. Error 22023.';

CREATE OR REPLACE FUNCTION crm.add_route(integration text, name text, function text, methods text[] DEFAULT '{GET,POST}', max_body_bytes integer DEFAULT 1048576) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	target bigint := (SELECT i.id FROM crm.integration i WHERE i.name = $1);
	token  text   := replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
BEGIN
	IF target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no integration is named %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'crm.add_integration() first.';
	END IF;
	IF coalesce($2, '') !~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s cannot name a route', coalesce(quote_literal($2), 'NULL')),
			HINT = 'Use letters, digits, _ . and -.';
	END IF;
	IF coalesce(cardinality($4), 0) = 0 OR NOT $4 <@ ARRAY['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'] THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('cannot answer the methods %s', coalesce($4::text, 'NULL')),
			HINT = 'Choose from GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS.';
	END IF;
	IF $5 IS NULL OR $5 NOT BETWEEN 0 AND 67108864 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('cannot take bodies of %s bytes', coalesce($5::text, 'NULL')),
			HINT = 'Give 0 to 67108864 (64 MB).';
	END IF;
	PERFORM crm.check_kind_function('route', $3);
	INSERT INTO crm.route AS r (integration_id, name, methods, token_hash, function, max_body_bytes)
	VALUES (target, $2, $4, sha256(convert_to(token, 'UTF8')), $3, $5)
	ON CONFLICT (integration_id, name) DO UPDATE SET methods = EXCLUDED.methods, token_hash = EXCLUDED.token_hash,
		function = EXCLUDED.function, max_body_bytes = EXCLUDED.max_body_bytes;
	PERFORM crm.set_secret($1, token, 'route:' || $2);
	RETURN format('/h/%s/%s/%s', $1, $2, token);
END
$$;
COMMENT ON FUNCTION crm.add_route(text, text, text, text[], integer) IS 'Makes the listener answer a path by a function, see crm.route; called again it gives the route a new token and the old path is unknown. Returns the path with its secret token. Errors: 42704, 22023, those of crm.check_kind_function.';

CREATE OR REPLACE FUNCTION crm.route_url(integration_id bigint, name text) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	integration_name text;
	base  text;
	token text;
BEGIN
	PERFORM crm.assert_own_integration($1);
	SELECT i.name, coalesce(rtrim(crm.setting_of(i.id, 'callback_url'), '/'),
		'http://' || regexp_replace(crm.listener_address(), '^(0\.0\.0\.0|\[::\])(?=:)', '127.0.0.1'))
	INTO integration_name, base
	FROM crm.integration i WHERE i.id = $1;
	SELECT s.value INTO token
	FROM crm.route r JOIN crm.secret s ON s.integration_id = r.integration_id AND s.name = 'route:' || r.name
	WHERE r.integration_id = $1 AND r.name = $2 AND r.enabled;
	RETURN base || format('/h/%s/%s/', integration_name, $2) || token;
END
$$;
COMMENT ON FUNCTION crm.route_url(bigint, text) IS 'The address that a service can call back: the setting callback_url of the integration, else the listener''s address, and the route''s path with its token. NULL when the listener is off, or the route or its token is not there (tokens are in no dump: call crm.add_route again after a restore). Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.listener_routes() RETURNS TABLE (integration text, name text, methods text[], token_hash bytea, max_body_bytes integer)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT i.name, r.name, r.methods, r.token_hash, r.max_body_bytes
	FROM crm.route r
	JOIN crm.integration i ON i.id = r.integration_id
	WHERE r.enabled AND i.enabled
	ORDER BY i.name, r.name;
END;
COMMENT ON FUNCTION crm.listener_routes() IS 'What the listener checks a request against before it costs a transaction.';

CREATE OR REPLACE FUNCTION crm.listener_handle(requests crm.http_request[]) RETURNS SETOF crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	request crm.http_request;
	answer  crm.http_response;
	parts   text[];
	found_route record;
	active  boolean := crm.mode() <> 'off';
BEGIN
	FOREACH request IN ARRAY requests LOOP
		answer := NULL;
		parts := string_to_array(request.path, '/');
		IF parts[1] = '' AND parts[2] = 'l' THEN
			RETURN NEXT crm.listener_link(request);
			CONTINUE;
		END IF;
		SELECT r.integration_id, r.function, r.methods, r.max_body_bytes INTO found_route
		FROM crm.route r
		JOIN crm.integration i ON i.id = r.integration_id
		WHERE parts[1] = '' AND parts[2] = 'h' AND i.name = parts[3] AND r.name = parts[4] AND r.enabled AND i.enabled
			AND r.token_hash = sha256(convert_to(parts[5], 'UTF8'));
		IF NOT FOUND THEN
			answer.status := 404;
		ELSIF NOT request.method = ANY (found_route.methods) THEN
			answer.status := 405;
			answer.headers := ARRAY['Allow: ' || array_to_string(found_route.methods, ', ')];
		ELSIF octet_length(request.body) > found_route.max_body_bytes THEN
			answer.status := 413;
		ELSIF NOT active THEN
			answer.status := 503;
			answer.headers := ARRAY['Retry-After: 60'];
		ELSE
			request.path := coalesce('/' || nullif(array_to_string(parts[6:], '/'), ''), CASE WHEN cardinality(parts) > 5 THEN '/' ELSE '' END);
			answer := crm.call_route(found_route.function, found_route.integration_id, request, 5000);
			IF answer IS NULL THEN
				answer.status := 204;
			ELSIF answer.status IS NULL OR answer.status NOT BETWEEN 200 AND 599 THEN
				RAISE EXCEPTION USING ERRCODE = '22023',
					MESSAGE = format('%s answered with status %s', found_route.function, coalesce(answer.status::text, 'NULL')),
					HINT = 'A route''s function answers with a status from 200 to 599.';
			END IF;
		END IF;
		RETURN NEXT answer;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.listener_handle(crm.http_request[]) IS 'The listener''s door: answers the requests in their order, in this one transaction. Unknown route or token 404, method 405, body 413, database not active 503; links are answered by crm.listener_link(). An error of a route''s function ends the batch; the listener then takes the requests one by one.';

CREATE OR REPLACE FUNCTION crm.listener_reject(request crm.http_request, sqlstate text, message text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	parts text[] := string_to_array(request.path, '/');
BEGIN
	PERFORM crm.reject((SELECT i.id FROM crm.integration i WHERE i.name = parts[3] AND parts[2] = 'h'),
		CASE parts[2] WHEN 'l' THEN format('inbound %s /l/%s', request.method, parts[3]) -- what follows is the token
			ELSE format('inbound %s /h/%s/%s', request.method, parts[3], parts[4]) END, message, sqlstate,
		convert_to(coalesce(nullif(request.query, '') || E'\n', ''), 'UTF8') || coalesce(request.body, ''));
END
$$;
COMMENT ON FUNCTION crm.listener_reject(crm.http_request, text, text) IS 'Keeps an inbound request whose function failed, with query and body as bytes; its sender got 500.';

-- ---- the courier's doors ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.courier_start(generation bigint, courier integer, trusted boolean, integration_ids bigint[], refs bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	hook   record;
	now_ms bigint := crm.monotonic_ms();
BEGIN
	PERFORM crm.rebind();
	DELETE FROM crm.lease l
	WHERE l.courier = $2 AND (l.pid = pg_backend_pid()
		OR NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.datname = current_database() AND a.usename = 'crm_courier'));
	-- What the dead courier had in hand is nobody's now; a clock of another start of the machine means nothing.
	UPDATE crm.integration_state s SET
		outstanding = 0,
		asked_ms = NULL,
		due_ms = CASE WHEN s.outstanding > 0 THEN NULL ELSE least(s.due_ms, now_ms + coalesce(i.poll_ms, 0)) END,
		hold_ms = least(s.hold_ms, now_ms + 300000)
	FROM crm.integration i
	WHERE i.id = s.integration_id AND NOT EXISTS (SELECT FROM crm.lease l WHERE l.integration_id = s.integration_id);
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'recover' ORDER BY h.position LOOP
		EXECUTE format('SELECT %s($1, $2, $3, $4)', hook.function) USING $2, $3, coalesce($4, '{}'), coalesce($5, '{}');
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.courier_start(bigint, integer, boolean, bigint[], bigint[]) IS 'Called by a new courier for its own number and for each other that no living courier has: takes over what a dead courier of that number had leased. trusted: the pairs (integration, ref) are exactly the requests of it whose bytes may have left and that were not settled; otherwise everything that it had leased may have left. Calls the hooks recover f(courier, trusted, integration_ids, refs).';

CREATE OR REPLACE FUNCTION crm.egress_count(integration_id bigint, channel text, requests crm.request[]) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO crm.egress_hour AS e (integration_id, hour, host, requests, bytes)
	SELECT $1, date_trunc('hour', crm.now(), 'UTC'), coalesce(substring(r.url FROM '^[a-z]+://(\[[^]]*\]|[^/?#:]*)'), ''), count(*),
		sum(octet_length(r.url) + coalesce(octet_length(array_to_string(r.headers, '  ')), 0) + coalesce(octet_length(r.body), 0))
	FROM unnest($3) r
	WHERE $2 IS NULL OR coalesce(r.context ->> 'op', 'send') <> 'send'
	GROUP BY 3
	ON CONFLICT (integration_id, hour, host) DO UPDATE SET requests = e.requests + EXCLUDED.requests, bytes = e.bytes + EXCLUDED.bytes
$$;
COMMENT ON FUNCTION crm.egress_count(bigint, text, crm.request[]) IS 'Adds requests that are no messages to crm.egress_hour: all of a kind without a channel; of one with a channel those whose context names another op than send.';

CREATE OR REPLACE FUNCTION crm.courier_claim(generation bigint, capacity integer, held_ids bigint[] DEFAULT '{}', rooms integer[] DEFAULT '{}',
	limit_ms integer DEFAULT NULL)
	RETURNS TABLE (integration_id bigint, requests crm.request[], max_in_flight integer, max_reply_bytes integer, options jsonb)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	i        record;
	now_ms   bigint := crm.monotonic_ms();
	allowed  integer;
	got      crm.request[];
	seen     record;
	asked    bigint;
	state    text;
	words    text;
	hint     text;
	limit_   integer;
	urgent   boolean;
	number   integer := 0;
BEGIN
	IF coalesce($2, 0) < 1 OR crm.mode() = 'off' THEN
		RETURN;
	END IF;

	-- Each courier takes its part of the integrations that nobody serves.
	INSERT INTO crm.lease AS l (integration_id, generation, pid)
	SELECT n.id, $1, pg_backend_pid()
	FROM crm.integration n
	WHERE n.enabled AND NOT EXISTS (SELECT FROM crm.lease l WHERE l.integration_id = n.id)
	ORDER BY n.id
	LIMIT (SELECT greatest(0, ceil(count(*)::numeric / greatest(1, current_setting('crm.couriers')::integer))
			- (SELECT count(*) FROM crm.lease l JOIN crm.integration n ON n.id = l.integration_id AND n.enabled WHERE l.generation = $1))
		FROM crm.integration n WHERE n.enabled)
	ON CONFLICT (integration_id) DO NOTHING;
	INSERT INTO crm.integration_state AS s (integration_id)
	SELECT l.integration_id FROM crm.lease l
	WHERE l.generation = $1 AND NOT EXISTS (SELECT FROM crm.integration_state s WHERE s.integration_id = l.integration_id)
	ON CONFLICT (integration_id) DO NOTHING;

	FOR i IN
		SELECT n.id, n.name, n.max_in_flight, n.max_reply_bytes, n.poll_ms, k.channel, k.next_function,
			s.outstanding, s.failures, k.defaults || n.settings AS settings, array_position($3, n.id) AS place
		FROM crm.lease l
		JOIN crm.integration n ON n.id = l.integration_id AND n.enabled
		JOIN crm.integration_kind k ON k.kind = n.kind AND k.next_function IS NOT NULL
		JOIN crm.integration_state s ON s.integration_id = n.id
		WHERE l.generation = $1 AND s.hold_ms <= now_ms
			AND (k.channel IS NOT NULL OR coalesce(s.due_ms, CASE WHEN n.poll_ms IS NOT NULL THEN 0 END) <= now_ms)
		ORDER BY place NULLS FIRST, s.claimed_ms NULLS FIRST, n.id
	LOOP
		-- a transaction that lasts holds up every settle; who was not asked comes first the next time
		IF number > 0 AND crm.monotonic_ms() - now_ms > $5 THEN
			integration_id := NULL;
			requests := NULL;
			RETURN NEXT;
			EXIT;
		END IF;
		allowed := coalesce(($4)[i.place], $2);
		urgent := allowed < 0;
		CONTINUE WHEN urgent AND i.channel IS NULL;
		allowed := abs(allowed);
		IF i.failures > 2 AND i.channel IS NOT NULL THEN
			allowed := least(allowed, 1 - i.outstanding); -- a service that failed is tried with one request first
		END IF;
		limit_ := NULL;
		IF i.channel IS NOT NULL AND i.settings ?| '{rate,daily_limit}' AND allowed > 0 THEN
			-- what is counted here leaves at once, or the next helping would come on top of it
			limit_ := (SELECT r.room FROM crm.rate_room(i.id, i.settings) r);
			allowed := least(allowed, limit_, i.max_in_flight - i.outstanding);
		END IF;
		CONTINUE WHEN allowed < 1;
		number := number + 1;
		IF urgent THEN
			PERFORM crm.urgent_only(true);
		END IF;
		BEGIN
			got := coalesce(crm.call_next(i.next_function, i.id, allowed, 5000), '{}');
			-- one look at them: bodies may be large
			SELECT bool_or(r.method IS NULL OR r.url IS NULL) AS broken, max(coalesce(r.timeout_ms, 30000)) AS longest,
				count(*)::integer AS number, count(*) FILTER (WHERE coalesce(r.context ->> 'op', 'send') = 'send')::integer AS sends
			INTO seen FROM unnest(got) r;
			IF seen.broken THEN
				RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s gave a request without method or url', i.next_function);
			END IF;
		EXCEPTION WHEN query_canceled OR assert_failure OR others THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
			words := words || coalesce(' (' || nullif(hint, '') || ')', '');
			PERFORM crm.urgent_only(false);
			PERFORM crm.integration_failed(i.id, CASE WHEN strpos(words, i.next_function) = 1 THEN '' ELSE i.next_function || ': ' END || words);
			UPDATE crm.integration_state s SET judged = false WHERE s.integration_id = i.id;
			PERFORM crm.reject(i.id, i.next_function, words, state);
			CONTINUE;
		END;
		IF urgent THEN
			PERFORM crm.urgent_only(false);
		END IF;
		IF limit_ IS NOT NULL THEN
			PERFORM crm.rate_took(i.id, i.settings, allowed, seen.number, seen.sends);
		END IF;
		IF i.channel IS NULL OR seen.number > 0 THEN
			UPDATE crm.integration_state s SET
				outstanding = s.outstanding + seen.number,
				claimed_ms = now_ms,
				asked_ms = NULL,
				judged = false,
				-- while its requests are on the way a poller is not asked again, unless they are lost
				due_ms = CASE WHEN i.channel IS NOT NULL THEN s.asked_ms
					WHEN seen.number > 0 THEN now_ms + seen.longest + 30000
					ELSE coalesce(s.asked_ms, now_ms + i.poll_ms) END
			WHERE s.integration_id = i.id;
		END IF;
		IF seen.number > seen.sends OR i.channel IS NULL AND seen.number > 0 THEN
			PERFORM crm.egress_count(i.id, i.channel, got);
		END IF;
		IF seen.number > 0 OR $5 IS NOT NULL THEN
			RETURN QUERY VALUES (i.id, got, i.max_in_flight, i.max_reply_bytes, i.settings);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.courier_claim(bigint, integer, bigint[], integer[], integer) IS 'What the courier sends next, a row an integration: asks each kind that carries a channel or whose poll is due for at most capacity requests; then those in held_ids, in that order, for at most the number in rooms (0 = not asked, -N = N of what goes before all other). With limit_ms each that was asked has a row, though it be without requests; none is asked later than that many milliseconds after the beginning, and a row without integration then says that some may be left. An error of a kind puts that integration alone into back-off. options are the integration''s settings over the kind''s defaults. No row while the mode is off.';

CREATE OR REPLACE FUNCTION crm.courier_wait(generation bigint) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook    record;
	now_ms  bigint := crm.monotonic_ms();
	nearest bigint := now_ms + 60000;
	moment  bigint;
	mine    bigint[];
BEGIN
	IF crm.mode() = 'off' THEN
		RETURN 60000;
	END IF;
	SELECT array_agg(l.integration_id) INTO mine FROM crm.lease l WHERE l.generation = $1;
	SELECT least(nearest, min(CASE WHEN k.channel IS NULL THEN greatest(coalesce(s.due_ms, CASE WHEN n.poll_ms IS NOT NULL THEN 0 END), s.hold_ms)
		WHEN s.hold_ms > now_ms THEN s.hold_ms ELSE least(s.due_ms, x.next_ms) END)) INTO nearest
	FROM crm.integration n
	JOIN crm.integration_kind k ON k.kind = n.kind AND k.next_function IS NOT NULL
	JOIN crm.integration_state s ON s.integration_id = n.id
	LEFT JOIN crm.integration_rate x ON x.integration_id = n.id
	WHERE n.enabled AND n.id = ANY (mine);
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'deadline' ORDER BY h.position LOOP
		EXECUTE format('SELECT %s($1)', hook.function) INTO moment USING coalesce(mine, '{}');
		nearest := least(nearest, moment);
	END LOOP;
	RETURN greatest(0, nearest - now_ms);
END
$$;
COMMENT ON FUNCTION crm.courier_wait(bigint) IS 'Milliseconds until the courier has something to do that no commit wakes it for: a poll, the end of a back-off, a delayed message of an integration of its own (hooks deadline f(integration_ids bigint[]) RETURNS bigint in crm.monotonic_ms, NULL for none). At most 60000.';

CREATE OR REPLACE FUNCTION crm.reply_failure(reply crm.reply, polled boolean, smtp boolean) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE
		WHEN (reply).error IS NOT NULL THEN (reply).error
		WHEN smtp THEN CASE WHEN (reply).status IN (421, 454, 530, 534, 535) THEN format('status %s: %s', (reply).status, left(btrim((reply).headers), 200)) END
		WHEN (reply).status >= 500 OR (reply).status IN (401, 403, 407, 429) AND polled OR (reply).status = 429
			OR polled AND (reply).status NOT BETWEEN 200 AND 399 THEN format('status %s', (reply).status)
	END;
END;
COMMENT ON FUNCTION crm.reply_failure(crm.reply, boolean, boolean) IS 'Why a reply means that the service itself fails (not one message), in words; NULL when it does not.';

CREATE OR REPLACE FUNCTION crm.courier_settled(integration_id bigint, number integer, failure text, succeeded boolean, hold_for bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	now_ms bigint := crm.monotonic_ms();
BEGIN
	IF $3 IS NOT NULL AND NOT $4 AND NOT (SELECT s.judged FROM crm.integration_state s WHERE s.integration_id = $1) THEN
		PERFORM crm.integration_failed($1, $3, $5);
	END IF;
	UPDATE crm.integration_state s SET
		outstanding = greatest(0, s.outstanding - $2),
		failures = CASE WHEN s.judged OR NOT $4 THEN s.failures ELSE 0 END,
		failing_since = CASE WHEN s.judged OR NOT $4 THEN s.failing_since END,
		last_error = CASE WHEN s.judged OR NOT $4 THEN s.last_error END,
		last_error_at = CASE WHEN s.judged OR NOT $4 THEN s.last_error_at END,
		last_ok_at = CASE WHEN s.judged OR NOT $4 THEN s.last_ok_at ELSE clock_timestamp() END,
		hold_ms = greatest(CASE WHEN s.judged OR NOT $4 THEN s.hold_ms ELSE 0 END, now_ms + $5),
		due_ms = CASE
			WHEN s.asked_ms IS NOT NULL THEN s.asked_ms
			WHEN k.channel IS NOT NULL OR s.outstanding > $2 THEN s.due_ms
			ELSE greatest(now_ms, s.claimed_ms + n.poll_ms) END,
		asked_ms = NULL,
		judged = false
	FROM crm.integration n
	JOIN crm.integration_kind k ON k.kind = n.kind
	WHERE s.integration_id = $1 AND n.id = $1;
END
$$;
COMMENT ON FUNCTION crm.courier_settled(bigint, integer, text, boolean, bigint) IS 'Moves the schedule of an integration after so many of its replies: back-off, Retry-After, the next poll.';

CREATE OR REPLACE FUNCTION crm.courier_settle(generation bigint, integration_id bigint, replies crm.reply[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n record;
	s record;
BEGIN
	IF coalesce(cardinality($3), 0) = 0 THEN
		RETURN;
	END IF;
	SELECT i.id, i.url, k.channel, k.take_function INTO n
	FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $2;
	IF n.take_function IS NULL THEN
		PERFORM crm.reject(NULL, format('replies of integration %s', $2), 'the integration or its kind is not there any more', NULL, r.body)
		FROM unnest($3) r;
		RETURN;
	END IF;
	PERFORM crm.call_take(n.take_function, n.id, $3, 60000);
	SELECT min(f.words) AS failure, bool_or(f.words IS NULL) AS succeeded,
		max(CASE WHEN f.status IN (429, 503) THEN crm.retry_after_ms(f.headers) END) AS hold_for
	INTO s
	FROM (SELECT crm.reply_failure(r, n.channel IS NULL, n.url LIKE 'smtp%') AS words, r.status, r.headers FROM unnest($3) r) f;
	PERFORM crm.courier_settled(n.id, cardinality($3), s.failure, s.succeeded, s.hold_for);
END
$$;
COMMENT ON FUNCTION crm.courier_settle(bigint, bigint, crm.reply[]) IS 'Gives replies of an integration to the take function of its kind, in one call; the courier settles several integrations in one transaction. An error ends the batch: the courier then settles one by one and gives the culprit to crm.courier_reject.';

CREATE OR REPLACE FUNCTION crm.courier_reject(integration_id bigint, reply crm.reply, sqlstate text, message text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	n    record;
	hook record;
BEGIN
	SELECT i.id, k.take_function INTO n
	FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1;
	PERFORM crm.reject(n.id, format('%s, status %s', coalesce(n.take_function, 'a reply'), ($2).status), $4, $3,
		coalesce(($2).body, convert_to(coalesce(($2).headers, ''), 'UTF8')));
	IF n.id IS NOT NULL THEN
		PERFORM crm.integration_failed(n.id, format('%s: %s', n.take_function, $4));
		PERFORM crm.courier_settled(n.id, 1, NULL, false, NULL);
	END IF;
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'settle_failed' ORDER BY h.position LOOP
		EXECUTE format('SELECT %s($1, $2, $3)', hook.function) USING $1, $2, crm.masked_words($1, $4);
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.courier_reject(bigint, crm.reply, text, text) IS 'Keeps a reply that its kind''s take function could not settle in crm.rejected and calls the hooks settle_failed f(integration_id bigint, reply crm.reply, words text).';

CREATE OR REPLACE FUNCTION crm.courier_idle(generation bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook  record;
	state text;
	words text;
BEGIN
	IF NOT crm.guard() THEN
		RETURN; -- it may be a restore that is under way
	END IF;
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'maintain' ORDER BY h.position LOOP
		BEGIN
			EXECUTE format('SELECT %s()', hook.function);
		EXCEPTION WHEN others THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
			IF state NOT IN ('55P03', '40001', '40P01') THEN -- a lock that was not free is asked for again next time
				PERFORM crm.reject(NULL, 'maintenance ' || hook.function, words, state);
			END IF;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.courier_idle(bigint) IS 'Runs the hooks maintain f(), at most once in ten seconds; one that fails stops no other and stands in crm.rejected. Nothing in a database that nobody has activated.';

CREATE OR REPLACE FUNCTION crm.courier_due(generation bigint) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook    record;
	state   text;
	words   text;
	moment  bigint;
	now_ms  bigint;
	nearest bigint;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN 10000;
	END IF;
	nearest := crm.monotonic_ms() + 10000;
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'due' ORDER BY h.position LOOP
		BEGIN
			EXECUTE format('SELECT %s()', hook.function) INTO moment;
			nearest := least(nearest, moment);
		EXCEPTION WHEN others THEN
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
			nearest := least(nearest, crm.monotonic_ms() + 1000);
			IF state NOT IN ('55P03', '40001', '40P01') THEN -- a lock that was not free is asked for again
				PERFORM crm.reject(NULL, 'due ' || hook.function, words, state);
			END IF;
		END;
	END LOOP;
	now_ms := crm.monotonic_ms();
	RETURN greatest(0, nearest - now_ms);
END
$$;
COMMENT ON FUNCTION crm.courier_due(bigint) IS 'Runs what is due by the business clock (hooks due f() RETURNS bigint: does a bounded part of it, says when it wants to be asked next in crm.monotonic_ms, NULL for not soon) and returns the milliseconds until then, at most 10000: the clock may be moved meanwhile. Called by the first courier at that time, and soon after each commit that wakes it. One that fails stops no other and stands in crm.rejected.';

CREATE OR REPLACE FUNCTION crm.due_ms(at timestamptz) RETURNS bigint
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN $1 <= crm.clock() THEN crm.monotonic_ms()
		WHEN c.rate > 0 THEN crm.monotonic_ms() + ceil(extract(epoch FROM least($1, crm.clock() + interval '31 days') - crm.clock()) * 1000 / c.rate)::bigint + 1 END
	FROM (SELECT coalesce((SELECT s.rate FROM crm.clock_state s), 1) AS rate) c
$$;
COMMENT ON FUNCTION crm.due_ms(timestamptz) IS 'A moment of the business clock, by crm.monotonic_ms(), at the pace that it has now; NULL where the clock stands still before it, and for NULL.';

-- ---- hooks -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.integration_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	hook    record;
	k       record;
	waiting jsonb := '{}';
	piece   jsonb;
BEGIN
	IF pg_is_in_recovery() THEN
		RETURN; -- the couriers' memory is not on a standby
	END IF;
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'waiting' ORDER BY h.position LOOP
		EXECUTE format('SELECT jsonb_object_agg(w.integration_id::text, w.waiting) FROM %s() w WHERE w.waiting > 0', hook.function) INTO piece;
		waiting := waiting || coalesce(piece, '{}');
	END LOOP;
	RETURN QUERY
		SELECT CASE WHEN s.failures > 2 THEN 'error' ELSE 'warning' END, 'integration ' || n.name,
			format('%s fails%s%s: %s', n.name, coalesce(' and ' || (waiting ->> n.id::text) || ' messages wait', ''),
				CASE WHEN s.failures <= 2 THEN '' ELSE (SELECT format('; its circuit is %s%s', c.state, coalesce(' until ' || c.waits_until, ', one request is tried'))
					FROM crm.circuit c WHERE c.integration = n.name) END,
				coalesce(s.last_error, 'no reason known')),
			CASE
				WHEN s.last_error ~ '^resolve:' THEN format('Does the name in %s exist, and does this server reach its name server?', quote_literal(n.url))
				WHEN s.last_error ~ '^connect:' THEN format('Is the service at %s up, and does the firewall let this server reach it?', quote_literal(n.url))
				WHEN s.last_error ~ '^tls:' THEN 'Look at the service''s certificate; an own authority goes into the setting ca_file.'
				WHEN s.last_error ~ '^refused:' THEN 'The address is not in the setting allow_hosts.'
				WHEN s.last_error ~ '^balance:' THEN format('Pay the account at %s: the messages wait, and go by themselves when there is money again.', quote_literal(n.url))
				WHEN s.last_error ~ '^(auth:|status (401|403|407|530|534|535))' THEN format('Give the right password: SELECT crm.set_secret(%L, ''file:/…'');', n.name)
				ELSE 'crm.rejected has what was not understood.'
			END || format(' It is tried again by itself; after mending SELECT crm.integration_retry(%L); SELECT crm.integration_test(%L); asks now.', n.name, n.name),
			coalesce(s.failing_since, s.last_error_at)
		FROM crm.integration n
		JOIN crm.integration_state s ON s.integration_id = n.id
		WHERE n.enabled AND s.failures > 0
		ORDER BY n.name;
	RETURN QUERY
		SELECT 'notice', 'integration ' || n.name,
			format('The limit of %s (%s) makes %s messages late', n.name,
				concat_ws(', ', (n.settings ->> 'rate') || ' per ' || coalesce(n.settings ->> 'rate_per', 's'), (n.settings ->> 'daily_limit') || ' a day'), waiting ->> n.id::text),
			format('Raise the settings rate or daily_limit of crm.integration if the service allows more, or send less: SELECT * FROM crm.circuit WHERE integration = %L;', n.name),
			x.blocked_since
		FROM crm.integration n
		JOIN crm.integration_rate x ON x.integration_id = n.id
		WHERE n.enabled AND x.blocked_since < clock_timestamp() - interval '1 minute' AND waiting ? n.id::text
		ORDER BY n.name;
	RETURN QUERY
		SELECT 'error', 'integration ' || n.name, format('The secret %s of %s cannot be read: %s', x.name, n.name, crm.secret_file_problem(x.file)),
			'The file must be readable for the operating system''s user of the server.', NULL::timestamptz
		FROM crm.secret x
		JOIN crm.integration n ON n.id = x.integration_id
		WHERE n.enabled AND x.file IS NOT NULL AND crm.secret_file_problem(x.file) IS NOT NULL;
	RETURN QUERY
		SELECT 'warning', 'integration ' || n.name, format('The route %s of %s has no token: a restore brings none.', r.name, n.name),
			format('SELECT crm.add_route(%L, %L, %L, %L); and give the new path to the service.', n.name, r.name, r.function, r.methods), NULL::timestamptz
		FROM crm.route r
		JOIN crm.integration n ON n.id = r.integration_id
		WHERE r.enabled AND n.enabled
			AND NOT EXISTS (SELECT FROM crm.secret x WHERE x.integration_id = r.integration_id AND x.name = 'route:' || r.name);
	IF crm.listener_address() IS NULL THEN
		RETURN QUERY
			SELECT 'warning', 'listener', format('The listener is off, and %s routes wait for calls.', count(*)),
				'SELECT crm.listen(18080); switches it on at the loopback address.', NULL::timestamptz
			FROM crm.route r
			JOIN crm.integration n ON n.id = r.integration_id
			WHERE r.enabled AND n.enabled
			HAVING count(*) > 0;
	END IF;
	RETURN QUERY
		SELECT 'warning', 'integration ' || n.name,
			format('%s is not whole for %s%s: %s there, %s here, %s rejected', n.name, c.span, coalesce(' (' || nullif(c.what, '') || ')', ''), c.theirs, c.ours, c.rejected),
			'The span is read again by itself where the kind can; crm.rejected has what could not be read.', c.checked_at
		FROM crm.completeness c
		JOIN crm.integration n ON n.id = c.integration_id
		WHERE n.enabled AND c.theirs <> c.ours + c.rejected
		ORDER BY c.checked_at DESC
		LIMIT 20;
	FOR k IN
		SELECT DISTINCT f.role, f.function, n.name FROM crm.integration n
		JOIN crm.integration_kind g ON g.kind = n.kind
		CROSS JOIN LATERAL (VALUES ('next', g.next_function), ('take', g.take_function)) AS f(role, function)
		WHERE n.enabled AND f.function IS NOT NULL
		UNION ALL
		SELECT 'route', r.function, n.name FROM crm.route r JOIN crm.integration n ON n.id = r.integration_id WHERE r.enabled AND n.enabled
		ORDER BY 3, 1
	LOOP
		BEGIN
			PERFORM crm.check_kind_function(k.role, k.function);
		EXCEPTION WHEN others THEN
			severity := 'error';
			subject := 'integration ' || k.name;
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
			since := NULL;
			RETURN NEXT;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.integration_health() IS 'Rows of crm.health about integrations: each that fails, secrets that cannot be read, routes without a token, counts that do not add up, functions that are gone.';

CREATE OR REPLACE FUNCTION crm.integration_maintain() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM crm.rejected WHERE id IN (
		SELECT r.id FROM crm.rejected r WHERE r.last_at < crm.now() - crm.keep_of('crm.rejected') ORDER BY r.last_at LIMIT 1000);
	PERFORM crm.compact('crm.integration_state', 1000, 131072), crm.compact('crm.cursor', 1000, 131072);
END
$$;
COMMENT ON FUNCTION crm.integration_maintain() IS 'Drops what was rejected longer ago than crm.retention says, in small steps: a row is written for each different thing, not for each time that it came. Small tables that are written all the time are written anew where dead rows fill them.';

CREATE OR REPLACE FUNCTION crm.integration_clock_check() RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found_one record;
BEGIN
	IF crm.mode() <> 'live' THEN
		RETURN;
	END IF;
	SELECT n.name, n.url INTO found_one FROM crm.integration n
	WHERE n.enabled AND n.url <> ''
		AND n.url !~* '^[a-z]+://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?([/?#]|$)'
	ORDER BY n.name LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('the clock of a live database is not moved while integration %s speaks to %s', found_one.name, found_one.url),
			HINT = 'Move the clock in a test database, in sandbox mode, or switch the integration off first.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.integration_clock_check() IS 'Refuses (55000) to move the business clock in live mode while an enabled integration is beyond loopback.';

CREATE OR REPLACE FUNCTION crm.integration_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
		SELECT 'secrets are for the couriers', count(*) = 0,
			CASE WHEN count(*) = 0 THEN format('%s secrets, none of them readable by another role', (SELECT count(*) FROM crm.secret))
			ELSE 'crm.secret can be read by ' || string_agg(coalesce(r.rolname, 'PUBLIC'), ', ' ORDER BY r.rolname) END
		FROM pg_class c
		CROSS JOIN LATERAL aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) a
		LEFT JOIN pg_roles r ON r.oid = a.grantee
		WHERE c.oid = 'crm.secret'::regclass AND a.grantee <> c.relowner;
	RETURN QUERY
		SELECT 'rows there = rows here + rejected', count(*) FILTER (WHERE c.theirs <> c.ours + c.rejected) = 0,
			format('%s spans counted, %s of them differ', count(*), count(*) FILTER (WHERE c.theirs <> c.ours + c.rejected))
		FROM crm.completeness c;
	IF pg_is_in_recovery() THEN
		RETURN; -- the couriers' memory is not on a standby
	END IF;
	RETURN QUERY
		SELECT 'no dead courier serves an integration', count(*) = 0,
			coalesce(string_agg(format('integration %s is served by process %s, which is gone', l.integration_id, l.pid), '; ' ORDER BY l.integration_id), 'every lease has its courier')
		FROM crm.lease l
		WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.datname = current_database());
END
$$;
COMMENT ON FUNCTION crm.integration_selftest() IS 'Rows of crm.selftest() about secrets, completeness and leases.';

CREATE OR REPLACE FUNCTION crm.integration_changed() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.wake();
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.integration_changed() IS 'Trigger function: wakes the couriers when an integration was added or changed.';

-- ---- registered ------------------------------------------------------------------------------------

SELECT crm.register_foreign_key('crm.integration', 'kind', 'crm.integration_kind', 'kind');
SELECT crm.register_foreign_key('crm.secret', 'integration_id', 'crm.integration', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.cursor', 'integration_id', 'crm.integration', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.route', 'integration_id', 'crm.integration', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.completeness', 'integration_id', 'crm.integration', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.rejected', 'integration_id', 'crm.integration', 'id', on_delete => 'SET NULL');
SELECT crm.register_no_foreign_key('crm.integration_state', 'integration_id', 'what couriers remember; emptied by a crash, and an unlogged table takes part in no key');
SELECT crm.register_no_foreign_key('crm.lease', 'integration_id', 'what couriers hold; emptied by a crash, and an unlogged table takes part in no key');
SELECT crm.register_no_foreign_key('crm.integration_rate', 'integration_id', 'what was claimed lately; goes with its day');
SELECT crm.register_undumped('crm.integration_rate', 'what was claimed lately, by this machine''s clock');
SELECT crm.register_no_foreign_key('crm.egress_hour', 'integration_id', 'a record of what left, which outlives its integration');
SELECT crm.register_undumped('crm.secret', 'a dump holds no secret');
SELECT crm.register_undumped('crm.integration_state', 'the couriers'' memory of the moment');
SELECT crm.register_undumped('crm.lease', 'ends with the courier');
SELECT crm.register_dump_filter('crm.integration_kind', 'WHERE NOT shipped');
SELECT crm.register_dump_filter('crm.reply_rule', 'WHERE NOT shipped');
SELECT crm.register_hook('health', 'integration', 'crm.integration_health');
SELECT crm.register_retention('crm.rejected', '90 days', '1 day', 'What came from outside and could not be used; deleted in sets of 1000, since the same thing twice is one row');
SELECT crm.register_hook('maintain', 'integration', 'crm.integration_maintain');
SELECT crm.register_hook('clock_check', 'integration', 'crm.integration_clock_check');
SELECT crm.register_hook('selftest', 'integration', 'crm.integration_selftest');
