-- integration: links for people without a login, made here and answered by the listener under /l/.

-- ---- C ---------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.link_token() RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_link_token';
COMMENT ON FUNCTION crm.link_token() IS 'A fresh token: 22 letters and digits, 130 random bits of the system''s own source. No other character, since phones cut links at some of them.';

CREATE OR REPLACE FUNCTION crm.call_link(function text, link_id bigint, request crm.http_request, limit_ms integer) RETURNS crm.http_response
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_integration_call_link';
COMMENT ON FUNCTION crm.call_link(text, bigint, crm.http_request, integer) IS 'Calls a purpose''s function, as crm.call_route calls a route''s; no integration is its own.';

-- ---- purposes --------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.register_link_purpose(purpose text, function text, max_body_bytes integer DEFAULT 65536) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	ships boolean := crm.in_script();
BEGIN
	IF coalesce($1, '') !~ '^[a-z][a-z0-9_]{0,31}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s cannot name a purpose', coalesce(quote_literal($1), 'NULL')),
			HINT = 'Use lower-case letters, digits and _, at most 32, beginning with a letter.';
	END IF;
	IF NOT ships AND EXISTS (SELECT FROM crm.link_purpose p WHERE p.purpose = $1 AND p.shipped) THEN
		RAISE EXCEPTION USING ERRCODE = '42710', MESSAGE = format('purpose %s ships with crm and cannot be replaced', $1),
			HINT = 'Register yours under another name.';
	END IF;
	IF ships = ($1 LIKE 'x\_%') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the name of purpose %s belongs to others', $1),
			HINT = CASE WHEN ships THEN 'Names with x_ belong to the DBA.' ELSE format('Name it x_%s: names without x_ are kept for purposes that come with the product.', $1) END;
	END IF;
	IF $3 IS NULL OR $3 NOT BETWEEN 0 AND 16777216 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('cannot take bodies of %s bytes', coalesce($3::text, 'NULL')),
			HINT = 'Give 0 to 16777216 (16 MB).';
	END IF;
	PERFORM crm.check_kind_function('link', $2);
	INSERT INTO crm.link_purpose AS p (purpose, function, max_body_bytes, shipped) VALUES ($1, $2, $3, ships)
	ON CONFLICT (purpose) DO UPDATE SET function = EXCLUDED.function, max_body_bytes = EXCLUDED.max_body_bytes, shipped = EXCLUDED.shipped;
END
$$;
COMMENT ON FUNCTION crm.register_link_purpose(text, text, integer) IS 'Makes a purpose of links known: the full name of a function (see crm.link_purpose) and the longest body that it takes. The function runs with the rights that a route''s has. The name of a DBA''s purpose begins with x_. Errors: 22023, 42710 a shipped purpose, those of crm.check_kind_function.';

-- ---- making and closing ----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.setting_now(name text) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found text;
BEGIN
	SELECT substr(c.setting, length(setting_now.name) + 2) INTO found
	FROM pg_db_role_setting s
	LEFT JOIN pg_database d ON d.oid = s.setdatabase
	CROSS JOIN LATERAL unnest(s.setconfig) AS c(setting)
	WHERE s.setrole = 0 AND (d.datname = current_database() OR s.setdatabase = 0) AND starts_with(c.setting, setting_now.name || '=')
	ORDER BY s.setdatabase = 0
	LIMIT 1;
	IF found IS NULL AND current_setting(setting_now.name) = '' THEN
		found := ''; -- the view below is slow
	ELSIF found IS NULL THEN
		SELECT CASE WHEN g.source IN ('database', 'user', 'database user', 'global') THEN g.boot_val ELSE g.setting END INTO found
		FROM pg_settings g WHERE g.name = setting_now.name;
	END IF;
	RETURN found;
END
$$;
COMMENT ON FUNCTION crm.setting_now(text) IS 'A setting as ALTER DATABASE … SET or ALTER ROLE ALL SET says it now, else as the server''s configuration does: the session of a courier or listener began before the setting was changed. Only for settings that superusers alone may set.';

CREATE OR REPLACE FUNCTION crm.link_base() RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN coalesce(rtrim(nullif(crm.setting_now('crm.public_url'), ''), '/'),
		'http://' || regexp_replace(crm.listener_address(), '^(0\.0\.0\.0|\[::\])(?=:)', '127.0.0.1'));
END
$$;
COMMENT ON FUNCTION crm.link_base() IS 'What links begin with, without a slash at the end: the setting crm.public_url, else the address of the listener; NULL when there is neither.';

CREATE OR REPLACE FUNCTION crm.make_link(purpose text, object_kind text, object_id bigint, expires_at timestamptz, uses integer DEFAULT NULL, company_id bigint DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	base  text := crm.link_base();
	token text := crm.link_token();
BEGIN
	IF NOT EXISTS (SELECT FROM crm.link_purpose p WHERE p.purpose = $1) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no links are made for %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'Known purposes: ' || coalesce((SELECT string_agg(p.purpose, ', ' ORDER BY p.purpose) FROM crm.link_purpose p), 'none')
				|| '. crm.register_link_purpose() makes a new one known.';
	END IF;
	IF coalesce($2, '') !~ '^[a-z][a-z0-9_]{0,62}$' OR $3 IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a link about %s %s leads nowhere', coalesce(quote_literal($2), 'NULL'), coalesce($3::text, 'NULL')),
			HINT = 'Give the kind of the object (claim, trip) and its number.';
	END IF;
	IF $4 <= crm.now() THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a link that ended at %s is of no use', $4),
			HINT = 'Give a moment that is still to come, or NULL for a link that works until it is closed.';
	END IF;
	IF $5 < 1 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a link for %s uses is of no use', $5),
			HINT = 'Give 1 or more, or NULL for any number.';
	END IF;
	INSERT INTO crm.link (purpose, token_hash, object_kind, object_id, expires_at, uses, company_id, closed_at, closed_reason)
	VALUES ($1, sha256(convert_to(token, 'UTF8')), $2, $3, $4, $5, $6,
		CASE WHEN base IS NULL THEN crm.now() END, CASE WHEN base IS NULL THEN 'no address' END);
	RETURN base || '/l/' || $1 || '/' || token;
END
$$;
COMMENT ON FUNCTION crm.make_link(text, text, bigint, timestamptz, integer, bigint) IS 'Makes a link: its purpose, what it is about, until when it works (NULL: until crm.close_links), how often something may be done by it (NULL: any number) and the company that gets it. Returns the address with its token, which is nowhere else. NULL, and a row in crm.health, when crm.link_base() has no address to give: the text that names it must make sense without. Errors: 42704 an unknown purpose, 22023.';

CREATE OR REPLACE FUNCTION crm.keep_link(purpose text, object_kind text, object_id bigint, expires_at timestamptz DEFAULT NULL, company_id bigint DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	base  text := crm.link_base();
	token text;
	made  text;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended(format('crm.keep_link %s %s %s', $1, $2, $3), 0));
	SELECT k.token INTO token
	FROM crm.link l
	JOIN crm.link_kept k ON k.link_id = l.id
	WHERE l.object_kind = $2 AND l.object_id = $3 AND l.purpose = $1 AND l.closed_at IS NULL
		AND (l.expires_at IS NULL OR l.expires_at > crm.now())
	ORDER BY l.id DESC LIMIT 1;
	IF token IS NOT NULL THEN
		RETURN base || '/l/' || $1 || '/' || token;
	END IF;
	made := crm.make_link($1, $2, $3, $4, NULL, $5);
	token := substring(made FROM '[^/]+$');
	INSERT INTO crm.link_kept (link_id, token)
	SELECT l.id, token FROM crm.link l WHERE l.token_hash = sha256(convert_to(token, 'UTF8'));
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.keep_link(text, text, bigint, timestamptz, bigint) IS 'The one link of a purpose about an object: the first call makes it, as crm.make_link does, for any number of uses, and later ones give the same address until it has expired or was closed. A restore brings no tokens: then a new one is made, and the old one works on. NULL and errors as crm.make_link.';

CREATE OR REPLACE FUNCTION crm.keep_links(purpose text, object_kind text, object_ids bigint[], expires_at timestamptz[], company_ids bigint[]) RETURNS TABLE (object_id bigint, url text)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off ROWS 10 AS $$
#variable_conflict use_column
DECLARE
	base text;
	now_ constant timestamptz := crm.now();
BEGIN
	IF coalesce(cardinality($3), 0) = 0 THEN
		RETURN;
	END IF;
	base := crm.link_base();
	RETURN QUERY
	WITH wanted AS MATERIALIZED (
		SELECT u.id, u.expires, u.company, k.token AS there, crm.link_token() AS fresh
		FROM unnest($3, $4, $5) AS u(id, expires, company)
		LEFT JOIN LATERAL (SELECT y.token FROM crm.link l JOIN crm.link_kept y ON y.link_id = l.id
			WHERE l.object_kind = $2 AND l.object_id = u.id AND l.purpose = $1 AND l.closed_at IS NULL AND (l.expires_at IS NULL OR l.expires_at > now_)
			ORDER BY l.id DESC LIMIT 1) k ON true
		WHERE u.id IS NOT NULL AND (u.expires IS NULL OR u.expires > now_)
	), made AS (
		INSERT INTO crm.link (purpose, token_hash, object_kind, object_id, expires_at, company_id, closed_at, closed_reason)
		SELECT $1, sha256(convert_to(w.fresh, 'UTF8')), $2, w.id, w.expires, w.company,
			CASE WHEN base IS NULL THEN now_ END, CASE WHEN base IS NULL THEN 'no address' END
		FROM wanted w WHERE w.there IS NULL
		RETURNING id, object_id
	), kept AS (
		INSERT INTO crm.link_kept (link_id, token) SELECT m.id, w.fresh FROM made m JOIN wanted w ON w.id = m.object_id WHERE base IS NOT NULL
	)
	SELECT w.id, base || '/l/' || $1 || '/' || coalesce(w.there, w.fresh) FROM wanted w WHERE base IS NOT NULL;
END
$$;
COMMENT ON FUNCTION crm.keep_links(text, text, bigint[], timestamptz[], bigint[]) IS 'As crm.keep_link for a set of different objects, an element each: end and company of the link; one whose end is over gets none. For code that writes a fact of each object itself, once: it takes no lock, so two that ask for one object at the same moment get two links, both good. No rows where crm.link_base() has no address; crm.health says so.';

CREATE OR REPLACE FUNCTION crm.close_links(purpose text, object_kind text, object_id bigint, reason text) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
	closed integer;
BEGIN
	IF coalesce($4, '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'links are closed for a reason', HINT = 'Say why in a few words.';
	END IF;
	UPDATE crm.link l SET closed_at = crm.now(), closed_reason = left($4, 500)
	WHERE l.object_kind = $2 AND l.object_id = $3 AND l.closed_at IS NULL AND ($1 IS NULL OR l.purpose = $1);
	GET DIAGNOSTICS closed = ROW_COUNT;
	RETURN closed;
END
$$;
COMMENT ON FUNCTION crm.close_links(text, text, bigint, text) IS 'Closes the open links of a purpose (NULL: of every purpose) about an object, with the reason; returns how many. A form that was sent before is still answered as it was. Error 22023 without a reason.';

-- ---- the listener's door ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.listener_purposes() RETURNS TABLE (purpose text, max_body_bytes integer)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT p.purpose, p.max_body_bytes FROM crm.link_purpose p ORDER BY p.purpose
$$;
COMMENT ON FUNCTION crm.listener_purposes() IS 'What the listener checks a link against before it costs a transaction.';

CREATE OR REPLACE FUNCTION crm.listener_links() RETURNS SETOF bytea
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT l.token_hash
	FROM (SELECT * FROM crm.link ORDER BY id DESC LIMIT 20000) l
	WHERE l.last_used_at > crm.now() - interval '1 day' AND l.closed_at IS NULL AND (l.expires_at IS NULL OR l.expires_at > crm.now())
	ORDER BY l.last_used_at DESC
	LIMIT 2000
$$;
COMMENT ON FUNCTION crm.listener_links() IS 'Hashes of links that were opened lately: a listener that has just started takes files from their holders as the one before it did.';

CREATE OR REPLACE FUNCTION crm.listener_link(request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	parts       text[] := string_to_array(request.path, '/');
	hash        bytea  := sha256(convert_to(coalesce(parts[4], ''), 'UTF8'));
	asked       crm.link_purpose;
	link        crm.link;
	done        crm.link_use;
	once        text;
	mark        bytea;
	answer      crm.http_response;
BEGIN
	IF crm.mode() = 'off' THEN
		answer.status := 503;
		answer.headers := ARRAY['Retry-After: 60'];
		RETURN answer;
	END IF;
	SELECT * INTO asked FROM crm.link_purpose p WHERE p.purpose = parts[3];
	IF NOT FOUND THEN
		RETURN crm.link_gone();
	ELSIF request.method NOT IN ('GET', 'HEAD', 'POST') THEN
		answer.status := 405;
		answer.headers := ARRAY['Allow: GET, HEAD, POST'];
		RETURN answer;
	ELSIF octet_length(request.body) > asked.max_body_bytes THEN
		answer.status := 413;
		RETURN answer;
	END IF;
	request.path := coalesce('/' || nullif(array_to_string(parts[5:], '/'), ''), CASE WHEN cardinality(parts) > 4 THEN '/' ELSE '' END);

	IF request.method = 'POST' THEN
		-- a second sender waits for the first one's answer
		SELECT * INTO link FROM crm.link l WHERE l.token_hash = hash AND l.purpose = asked.purpose FOR NO KEY UPDATE;
		IF NOT FOUND THEN
			RETURN crm.link_gone();
		END IF;
		once := crm.form_once(request);
		mark := sha256(convert_to(jsonb_build_array(request.path, once, CASE WHEN once IS NULL THEN request.query END)::text, 'UTF8')
			|| CASE WHEN once IS NULL THEN coalesce(request.body, '') ELSE '' END);
		SELECT * INTO done FROM crm.link_use u WHERE u.link_id = link.id AND u.fingerprint = mark;
		IF NOT FOUND THEN
			IF link.closed_at IS NOT NULL OR link.expires_at <= crm.now() THEN
				RETURN crm.link_gone();
			ELSIF link.used >= link.uses THEN
				SELECT * INTO done FROM crm.link_use u WHERE u.link_id = link.id ORDER BY u.at DESC LIMIT 1;
			END IF;
		END IF;
		IF done.status = 200 AND done.body IS NULL THEN
			RETURN crm.page_answer(200, crm.page_html('Принято · Taken', '<h1>Это уже принято</h1><p lang="en">This was taken already.</p>'));
		ELSIF done.status IS NOT NULL THEN
			RETURN ROW (done.status, done.headers, done.body)::crm.http_response;
		END IF;
	ELSE
		request.method := 'GET';
		SELECT * INTO link FROM crm.link l
		WHERE l.token_hash = hash AND l.purpose = asked.purpose AND l.closed_at IS NULL AND (l.expires_at IS NULL OR l.expires_at > crm.now())
			AND (l.uses IS NULL OR l.used < l.uses);
		IF NOT FOUND THEN
			RETURN crm.link_gone();
		END IF;
		IF link.last_used_at IS NULL OR link.last_used_at < crm.now() - interval '1 hour' THEN
			UPDATE crm.link l SET last_used_at = crm.now()
			WHERE l.id IN (SELECT s.id FROM crm.link s WHERE s.id = link.id FOR NO KEY UPDATE SKIP LOCKED);
		END IF;
	END IF;

	answer := crm.call_link(asked.function, link.id, request, 5000);
	IF answer IS NULL THEN
		answer.status := 204;
	ELSIF answer.status IS NULL OR answer.status NOT BETWEEN 200 AND 599 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s answered with status %s', asked.function, coalesce(answer.status::text, 'NULL')),
			HINT = 'A purpose''s function answers with a status from 200 to 599.';
	END IF;
	IF request.method = 'POST' AND answer.status < 400 THEN
		INSERT INTO crm.link_use (link_id, fingerprint, status, headers, body)
		VALUES (link.id, mark, answer.status, answer.headers, CASE WHEN octet_length(answer.body) <= 262144 THEN answer.body END);
		UPDATE crm.link l SET used = l.used + 1, last_used_at = crm.now() WHERE l.id = link.id;
	END IF;
	RETURN answer;
END
$$;
COMMENT ON FUNCTION crm.listener_link(crm.http_request) IS 'Answers /l/PURPOSE/TOKEN[/rest]. Looking (GET, HEAD) never uses a link up, since mail scanners open every one; a form (POST) that is answered with less than 400 does, and the same form again gets the first one''s answer and does nothing, also after the link has ended. Of a link that is used up every form gets the last answer. Unknown, expired, used up and closed look alike: crm.link_gone(). 405, 413, 503 while the database is not active. Errors of the purpose''s function go through.';

-- ---- upkeep ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.link_maintain() RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	DELETE FROM crm.link WHERE id IN (
		SELECT l.id FROM crm.link l
		WHERE LEAST(l.expires_at, l.closed_at, CASE WHEN l.used >= l.uses THEN l.last_used_at END) < crm.now() - crm.keep_of('crm.link')
		ORDER BY LEAST(l.expires_at, l.closed_at, CASE WHEN l.used >= l.uses THEN l.last_used_at END)
		LIMIT 1000)
$$;
COMMENT ON FUNCTION crm.link_maintain() IS 'Deletes links that ended longer ago than crm.retention says (crm.link), with what was done by them, 1000 a round.';

CREATE OR REPLACE FUNCTION crm.link_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	base  text := crm.link_base();
	found record;
BEGIN
	IF base IS NULL THEN
		RETURN QUERY
			-- a message tells its news without the track of a vehicle; an answer cannot be given without a link
			SELECT CASE WHEN bool_and(l.purpose = 'track') THEN 'notice' ELSE 'error' END, 'links', format('%s links of the last week had no address to begin with and were left out of their messages.', count(*)),
				format('ALTER DATABASE %I SET crm.public_url = ''https://crm.example.com''; and SELECT crm.listen(18080); behind it.', current_database()), min(l.created_at)
			FROM crm.link l
			WHERE l.created_at > crm.now() - interval '7 days' AND l.closed_reason = 'no address'
			HAVING count(*) > 0;
	ELSIF crm.listener_address() IS NULL THEN
		RETURN QUERY
			SELECT 'error', 'links', format('The listener is off, and links that begin with %s lead to it.', base),
				'SELECT crm.listen(18080); switches it on at the loopback address.', NULL::timestamptz
			WHERE EXISTS (SELECT FROM crm.link l WHERE l.closed_at IS NULL AND (l.expires_at IS NULL OR l.expires_at > crm.now()));
	ELSIF base ~ '^http://(127\.|\[::1\]|localhost[:/])' THEN
		RETURN QUERY
			SELECT 'warning', 'links', format('Links begin with %s, which only this machine can open.', base),
				format('Put a proxy that speaks TLS before the listener, then ALTER DATABASE %I SET crm.public_url = ''https://crm.example.com'';', current_database()), NULL::timestamptz
			WHERE EXISTS (SELECT FROM crm.link l WHERE l.created_at > crm.now() - interval '7 days');
	END IF;
	FOR found IN SELECT p.purpose, p.function FROM crm.link_purpose p ORDER BY p.purpose LOOP
		BEGIN
			PERFORM crm.check_kind_function('link', found.function);
		EXCEPTION WHEN others THEN
			severity := 'error';
			subject := 'links ' || found.purpose;
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
			since := NULL;
			RETURN NEXT;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.link_health() IS 'Rows of crm.health about links: no address to begin with, one that nobody outside can open, a listener that is off, functions that are gone.';

SELECT crm.register_foreign_key('crm.link', 'purpose', 'crm.link_purpose', 'purpose');
SELECT crm.register_no_foreign_key('crm.link', 'object_id', 'names a row of the table that object_kind says');
SELECT crm.register_no_foreign_key('crm.link', 'company_id', 'a row of a room above; links go with their time');
SELECT crm.register_foreign_key('crm.link_kept', 'link_id', 'crm.link', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.link_use', 'link_id', 'crm.link', 'id', on_delete => 'CASCADE');
SELECT crm.register_undumped('crm.link_kept', 'a dump holds no token');
SELECT crm.register_dump_filter('crm.link_purpose', 'WHERE NOT shipped');
SELECT crm.register_retention('crm.link', '90 days', '1 day', 'Links that have expired, were closed or are used up, and what was done by them; deleted in sets of 1000');
SELECT crm.register_hook('health', 'link', 'crm.link_health');
SELECT crm.register_hook('maintain', 'link', 'crm.link_maintain');
