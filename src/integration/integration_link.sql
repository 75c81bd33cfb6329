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

CREATE OR REPLACE FUNCTION crm.link_base() RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	base text;
BEGIN
	-- from the catalogue: a courier's session began before the setting was made
	SELECT substr(c.setting, length('crm.public_url=') + 1) INTO base
	FROM pg_db_role_setting s
	LEFT JOIN pg_database d ON d.oid = s.setdatabase
	CROSS JOIN LATERAL unnest(s.setconfig) AS c(setting)
	WHERE s.setrole = 0 AND (d.datname = current_database() OR s.setdatabase = 0) AND c.setting LIKE 'crm.public_url=_%'
	ORDER BY s.setdatabase = 0
	LIMIT 1;
	IF base IS NULL AND current_setting('crm.public_url') <> '' THEN
		SELECT g.setting INTO base FROM pg_settings g
		WHERE g.name = 'crm.public_url' AND g.source NOT IN ('database', 'user', 'database user', 'global');
	END IF;
	RETURN coalesce(rtrim(nullif(base, ''), '/'), 'http://' || regexp_replace(crm.listener_address(), '^(0\.0\.0\.0|\[::\])(?=:)', '127.0.0.1'));
END
$$;
COMMENT ON FUNCTION crm.link_base() IS 'What links begin with, without a slash at the end: the setting crm.public_url (ALTER DATABASE … SET holds at once, then the server''s configuration), else the address of the listener; NULL when there is neither.';

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
			SELECT 'error', 'links', format('%s links of the last week had no address to begin with and were left out of their messages.', count(*)),
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
