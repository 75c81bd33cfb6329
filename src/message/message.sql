/*
 * message: code.  May be run again at any time.
 *
 * In order: registries, checks of rules and templates, hours, the rule
 * machinery, sending by hand, the outbox, reports, recovery, health, the why.
 *
 * OFFSET 0 in a look-up: see message_outbox.sql.
 */

-- Registries ---------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.register_audience(name text, function text, description text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.audience AS a (name, function, description) VALUES ($1, $2, $3)
	ON CONFLICT (name) DO UPDATE SET function = excluded.function, description = excluded.description;
END;
COMMENT ON FUNCTION crm.register_audience(text, text, text) IS
'Adds an audience that rules may name: a function f(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint), written with its schema. Called by the script';

CREATE OR REPLACE FUNCTION crm.register_truth(name text, function text, description text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.truth AS t (name, function, description) VALUES ($1, $2, $3)
	ON CONFLICT (name) DO UPDATE SET function = excluded.function, description = excluded.description;
END;
COMMENT ON FUNCTION crm.register_truth(text, text, text) IS
'Adds a function that conditions and truths of rules may call; STABLE, executable by crm_eval, written with its schema (and with its argument types where the name is not unique). Called by the script';

-- Expressions: parsed, checked and evaluated in C ----------------------------

CREATE OR REPLACE FUNCTION crm.expression_functions() RETURNS oid[]
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT COALESCE(array_agg(f.oid), '{}')
	FROM (SELECT CASE WHEN strpos(t.function, '(') > 0 THEN to_regprocedure(t.function)::oid ELSE to_regproc(t.function)::oid END AS oid
		  FROM crm.truth t
		  UNION ALL SELECT to_regprocedure('crm.now()')::oid) f
	WHERE f.oid IS NOT NULL
$$;
COMMENT ON FUNCTION crm.expression_functions() IS 'Functions outside pg_catalog that an expression of a rule may call: those of crm.truth and crm.now()';

CREATE OR REPLACE FUNCTION crm.expression_check(what text, expression text) RETURNS void
LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS '$libdir/crm', 'crm_message_expression_check';
COMMENT ON FUNCTION crm.expression_check(text, text) IS
'Checks that a text is ONE boolean SQL expression over the columns of crm.event, built of non-volatile functions that rules may call; parsed and analysed, neither planned nor run. what: the word for it in an error. Errors: 42601 syntax, 0A000 what is not allowed, 42804 not boolean, 42703, 42883; with the text and a hint';

CREATE OR REPLACE FUNCTION crm.expression_holds(expression text, event crm.event) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS '$libdir/crm', 'crm_message_expression_holds';
COMMENT ON FUNCTION crm.expression_holds(text, crm.event) IS
'Evaluates a rule''s expression over an event, as crm_eval and read-only; checked as by crm.expression_check() each time';

CREATE OR REPLACE FUNCTION crm.message_text(value text, one_line boolean DEFAULT false) RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm', 'crm_message_text';
COMMENT ON FUNCTION crm.message_text(text, boolean) IS
'A text in NFC without control characters (line feeds and tabs stay), zero-width and bidirectional marks, CR LF made LF; in one line: line breaks become spaces, for subjects and headers';

-- Saving rules and templates -------------------------------------------------

CREATE OR REPLACE FUNCTION crm.person_variables() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ARRAY['contact_name', 'company_name'] $$;
COMMENT ON FUNCTION crm.person_variables() IS 'Variables that every template knows beside those of the event: they come from the reader';

CREATE OR REPLACE FUNCTION crm.template_check(code text, channel text, language text, subject text, body text, html text, event_kind text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	known text[];
	unknown text[];
BEGIN
	IF $4 ~ '[[:cntrl:]]' THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('the subject of template "%s" (%s, %s) holds a line break or another control character', $1, $2, $3),
			HINT = 'Write it in one line.';
	END IF;
	SELECT k.variables || crm.person_variables() INTO known FROM crm.event_kind k WHERE k.kind = $7;
	SELECT array_agg(DISTINCT v.name) INTO unknown
	FROM unnest(crm.template_variables($5) || crm.template_variables(COALESCE($4, '')) || crm.template_variables(COALESCE($6, ''))) AS v(name)
	WHERE $7 IS NOT NULL AND v.name <> ALL (known);
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42703',
			MESSAGE = format('template "%s" (%s, %s) names unknown variables: %s', $1, $2, $3, array_to_string(unknown, ', ')),
			DETAIL = format('It is used for events of kind %s.', $7),
			HINT = format('Known are: %s.', array_to_string(known, ', '));
	END IF;
END
$$;
COMMENT ON FUNCTION crm.template_check(text, text, text, text, text, text, text) IS
'Refuses a template whose placeholders are broken (42601), that names variables which events of the kind do not carry (42703, with the known ones), or whose subject has more than one line (22023)';

CREATE OR REPLACE FUNCTION crm.template_hash(subject text, body text, html text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT md5(jsonb_build_array($1, $2, $3)::text) $$;
COMMENT ON FUNCTION crm.template_hash(text, text, text) IS 'Tells whether a shipped text was changed';

CREATE OR REPLACE FUNCTION crm.template_save() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	used record;
BEGIN
	IF TG_OP = 'DELETE' THEN
		IF OLD.shipped THEN
			RAISE EXCEPTION USING ERRCODE = '55000',
				MESSAGE = format('template "%s" comes with the product and cannot be deleted', OLD.code),
				HINT = 'Change its text, or switch off the rules that use it: UPDATE crm.rule SET switched = false WHERE template = …';
		END IF;
		SELECT r.code INTO used FROM crm.rule r
		WHERE r.template = OLD.code AND CASE r.channel WHEN 'auto' THEN 'sms' ELSE r.channel END = OLD.channel LIMIT 1;
		IF FOUND AND NOT EXISTS (SELECT FROM crm.template t WHERE t.code = OLD.code AND t.channel = OLD.channel AND t.id <> OLD.id) THEN
			RAISE EXCEPTION USING ERRCODE = '23503',
				MESSAGE = format('template "%s" is used by rule "%s"', OLD.code, used.code),
				HINT = 'Give the rule another template first.';
		END IF;
		RETURN OLD;
	END IF;
	IF TG_OP = 'INSERT' AND NOT crm.guard() THEN
		RETURN NEW;						-- a restore, or crm.ship_message()
	END IF;
	IF TG_OP = 'UPDATE' AND (NEW.code, NEW.channel, NEW.language) IS DISTINCT FROM (OLD.code, OLD.channel, OLD.language) THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('template "%s" cannot change its code, channel or language', OLD.code),
			HINT = 'Insert a new template instead.';
	END IF;
	IF TG_OP = 'INSERT' OR (NEW.subject, NEW.body, NEW.html) IS DISTINCT FROM (OLD.subject, OLD.body, OLD.html) THEN
		PERFORM crm.template_check(NEW.code, NEW.channel, NEW.language, NEW.subject, NEW.body, NEW.html, NULL);
		FOR used IN SELECT DISTINCT r.event_kind FROM crm.rule r WHERE r.template = NEW.code AND r.channel IN (NEW.channel, 'auto') LOOP
			PERFORM crm.template_check(NEW.code, NEW.channel, NEW.language, NEW.subject, NEW.body, NEW.html, used.event_kind);
		END LOOP;
		IF TG_OP = 'UPDATE' THEN
			NEW.version := OLD.version + 1;
		ELSE
			NEW.version := 1;
		END IF;
		NEW.edited_at := crm.now();
		NEW.edited_by := session_user;
	ELSE
		NEW.version := OLD.version;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.template_save() IS 'Checks a template when it is saved, counts its versions, and keeps shipped ones from being deleted';

CREATE OR REPLACE FUNCTION crm.template_keep() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'INSERT' AND NOT crm.guard() OR TG_OP = 'UPDATE' AND NEW.version = OLD.version THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.template_version (template_id, version, subject, body, html)
	VALUES (NEW.id, NEW.version, NEW.subject, NEW.body, NEW.html);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.template_keep() IS 'Keeps every version of a template''s text';

CREATE OR REPLACE FUNCTION crm.rule_definition(rule crm.rule) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
	SELECT to_jsonb($1) - ARRAY['id', 'version', 'switched', 'broken', 'shipped', 'shipped_hash', 'edited_at', 'author',
		CASE WHEN $1.fallback IS NULL THEN 'fallback' ELSE 'id' END, CASE WHEN $1.digest IS NULL THEN 'digest' ELSE 'id' END]
$$;
COMMENT ON FUNCTION crm.rule_definition(crm.rule) IS 'What a rule says, without its switch and its history';

CREATE OR REPLACE FUNCTION crm.rule_cycle(rule crm.rule) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- A rule on message.* answers to the messages of the rules in of_rules, or of all.
	WITH RECURSIVE node AS (
		SELECT r.code, r.event_kind, r.of_rules FROM crm.rule r WHERE r.code <> $1.code
		UNION ALL SELECT $1.code, $1.event_kind, $1.of_rules
	), edge AS (
		SELECT a.code AS cause, b.code AS effect
		FROM node a JOIN node b ON b.event_kind LIKE 'message.%' AND (b.of_rules IS NULL OR a.code = ANY (b.of_rules))
	), walk AS (
		SELECT e.effect, ARRAY[e.cause, e.effect] AS path FROM edge e WHERE e.cause = $1.code
		UNION ALL
		SELECT e.effect, w.path || e.effect
		FROM walk w JOIN edge e ON e.cause = w.effect
		WHERE w.effect <> $1.code AND cardinality(w.path) <= 8 AND NOT e.effect = ANY (w.path[2:])
	)
	SELECT array_to_string(w.path, ' -> ') FROM walk w WHERE w.effect = $1.code ORDER BY cardinality(w.path) LIMIT 1
$$;
COMMENT ON FUNCTION crm.rule_cycle(crm.rule) IS 'The shortest loop of rules that this rule would close, written as codes; NULL: none';

CREATE OR REPLACE FUNCTION crm.rule_check(rule crm.rule) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	kind crm.event_kind%ROWTYPE;
	t crm.template%ROWTYPE;
	needed text;
	words text;
BEGIN
	SELECT * INTO kind FROM crm.event_kind k WHERE k.kind = rule.event_kind;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('rule "%s" answers to an unknown kind of event: %s', rule.code, rule.event_kind),
			HINT = 'Known are: ' || (SELECT string_agg(k.kind, ', ' ORDER BY k.kind) FROM crm.event_kind k) || '.';
	END IF;
	PERFORM FROM crm.audience a WHERE a.name = rule.audience;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('rule "%s" addresses an unknown audience: %s', rule.code, rule.audience),
			HINT = 'Known are: ' || (SELECT string_agg(a.name, ', ' ORDER BY a.name) FROM crm.audience a) || '.';
	END IF;
	IF rule.channel = 'auto' AND (rule.integration IS NOT NULL OR rule.sender IS NOT NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('rule "%s" leaves the channel to the reader, and names an integration or a sender', rule.code),
			HINT = 'Leave both out: each channel goes by its first enabled integration, under that one''s sender.';
	END IF;
	IF rule.channel NOT IN ('sms', 'email', 'telegram', 'auto') AND NOT EXISTS (SELECT FROM crm.integration_kind k WHERE k.channel = rule.channel) THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('rule "%s" names an unknown channel: %s', rule.code, rule.channel),
			HINT = 'Use sms, email, telegram, a channel that a kind of integration carries, or auto: the reader''s own.';
	END IF;
	IF rule.digest IS NOT NULL AND (rule.priority = 2 OR rule.delay <> '0' OR rule.fallback IS NOT NULL
		OR rule.throttle_count IS NOT NULL OR rule.event_kind LIKE 'message.%') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('rule "%s" cannot tell its facts in digests', rule.code),
			HINT = 'A digest is for rules that are not urgent (priority 0 or 1), without delay, fallback and throttle, and not on message.*.';
	END IF;
	IF rule.sender IS NOT NULL THEN
		PERFORM crm.sender_check(rule.channel, rule.sender);
	END IF;
	IF rule.of_rules IS NOT NULL THEN
		IF rule.event_kind NOT LIKE 'message.%' THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('rule "%s" names of_rules, but answers to %s', rule.code, rule.event_kind),
				HINT = 'of_rules is for events message.delivered and message.failed only.';
		END IF;
		SELECT string_agg(o.code, ', ') INTO words FROM unnest(rule.of_rules) AS o(code)
		WHERE o.code <> rule.code AND NOT EXISTS (SELECT FROM crm.rule r WHERE r.code = o.code);
		IF words IS NOT NULL THEN
			RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('rule "%s" answers to messages of unknown rules: %s', rule.code, words),
				HINT = 'Save those rules first.';
		END IF;
	END IF;
	-- a reader who prefers nothing, and a place without internet, have SMS
	needed := CASE rule.channel WHEN 'auto' THEN 'sms' ELSE rule.channel END;
	PERFORM FROM crm.template x WHERE x.code = rule.template AND x.channel = needed;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('rule "%s" names an unknown template: %s for %s', rule.code, rule.template, needed),
			HINT = format('INSERT INTO crm.template (code, channel, language, body) VALUES (%L, %L, ''ru'', …);', rule.template, needed);
	END IF;
	FOR t IN SELECT * FROM crm.template x WHERE x.code = rule.template AND rule.channel IN (x.channel, 'auto') LOOP
		PERFORM crm.template_check(t.code, t.channel, t.language, t.subject, t.body, t.html, rule.event_kind);
	END LOOP;
	IF rule.condition IS NOT NULL THEN
		PERFORM crm.expression_check('condition', rule.condition);
	END IF;
	IF rule.truth IS NOT NULL THEN
		PERFORM crm.expression_check('truth', rule.truth);
	END IF;
	IF rule.fallback IS NOT NULL THEN
		PERFORM crm.chain_check(format('rule "%s"', rule.code), rule.fallback, rule.event_kind);
	END IF;
	words := crm.rule_cycle(rule);
	IF words IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '54001', MESSAGE = format('rule "%s" would answer to itself for ever', rule.code),
			DETAIL = format('The loop: %s.', words),
			HINT = 'Name in of_rules the rules whose messages it shall answer to, so that no loop closes.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.rule_check(crm.rule) IS
'Refuses a rule that could not run: unknown event kind, audience, channel, template (23503), unknown variables (42703), a condition or truth that is not one allowed expression, a bad sender or fallback (22023), a loop of rules (54001, the loop in DETAIL)';

CREATE OR REPLACE FUNCTION crm.rule_save() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	used text;
BEGIN
	IF TG_OP = 'DELETE' THEN
		IF OLD.shipped THEN
			RAISE EXCEPTION USING ERRCODE = '55000',
				MESSAGE = format('rule "%s" comes with the product and cannot be deleted', OLD.code),
				HINT = format('Switch it off: UPDATE crm.rule SET switched = false WHERE code = %L;', OLD.code);
		END IF;
		SELECT r.code INTO used FROM crm.rule r WHERE OLD.code = ANY (r.of_rules) LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('rule "%s" is named in of_rules of rule "%s"', OLD.code, used),
				HINT = 'Change that rule first.';
		END IF;
		RETURN OLD;
	END IF;
	IF TG_OP = 'INSERT' AND NOT crm.guard() THEN
		RETURN NEW;						-- a restore, or crm.ship_message()
	END IF;
	IF TG_OP = 'UPDATE' THEN
		IF NEW.code <> OLD.code OR NEW.id <> OLD.id THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('rule "%s" cannot change its code', OLD.code),
				HINT = 'Insert a new rule and switch the old one off.';
		END IF;
		NEW.version := OLD.version;
		IF crm.rule_definition(NEW) = crm.rule_definition(OLD) THEN
			RETURN NEW;					-- only the switch
		END IF;
		NEW.version := OLD.version + 1;
	ELSE
		NEW.version := 1;
	END IF;
	IF (NEW.condition IS NOT NULL OR NEW.truth IS NOT NULL) AND NOT has_table_privilege(session_user, 'crm.event', 'SELECT') THEN
		RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('%s may not read crm.event, which the condition of rule "%s" names', session_user, NEW.code),
			HINT = 'Ask for membership in crm_head.';
	END IF;
	NEW.broken := NULL;
	NEW.author := session_user;
	NEW.edited_at := crm.now();
	PERFORM crm.rule_check(NEW);
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.rule_save() IS 'Checks a rule when it is saved, counts its versions, and keeps shipped ones from being deleted';

CREATE OR REPLACE FUNCTION crm.rule_keep() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF TG_OP = 'INSERT' AND NOT crm.guard() OR TG_OP = 'UPDATE' AND NEW.version = OLD.version THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.rule_version (rule_id, version, definition)
	VALUES (NEW.id, NEW.version, crm.rule_definition(NEW));
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.rule_keep() IS 'Keeps every version of a rule';

CREATE OR REPLACE FUNCTION crm.rules_check() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	r crm.rule%ROWTYPE;
	words text;
BEGIN
	FOR r IN SELECT * FROM crm.rule ORDER BY id LOOP
		words := NULL;
		IF NOT r.shipped AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.rolname = r.author) THEN
			words := format('its author %s is gone', r.author);
		ELSE
			BEGIN
				PERFORM crm.rule_check(r);
			EXCEPTION WHEN OTHERS THEN
				words := SQLERRM;
			END;
		END IF;
		IF words IS DISTINCT FROM r.broken THEN
			UPDATE crm.rule x SET broken = words WHERE x.id = r.id;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.rules_check() IS 'Checks every rule again, as activation does: one that cannot run is put aside with the reason in broken and a row in crm.health';

-- Hours ------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.open_hours(kind text, zone text, at timestamptz, OUT from_at timestamptz, OUT until_at timestamptz) RETURNS record
LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	here timestamp;
	day date;
	hours record;
	opens timestamptz;
	closes timestamptz;
BEGIN
	IF NOT isfinite(at) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('no hours for the time %s', at), HINT = 'Give a finite time.';
	END IF;
	here := at AT TIME ZONE zone;
	-- a window that began yesterday may run over midnight; two days of closed doors end the search
	FOR i IN -1 .. 8 LOOP
		day := here::date + i;
		SELECT q.from_time, q.to_time INTO hours FROM crm.quiet_hours q
		WHERE q.kind = open_hours.kind AND q.weekend = (extract(isodow FROM day) >= 6);
		IF NOT FOUND THEN
			from_at := at;				-- no hours are set: always open
			RETURN;
		END IF;
		opens := (day + hours.from_time) AT TIME ZONE zone;
		closes := (day + CASE WHEN hours.to_time < hours.from_time THEN 1 ELSE 0 END + hours.to_time) AT TIME ZONE zone;
		IF at < closes AND opens < closes THEN
			from_at := GREATEST(at, opens);
			until_at := closes;
			RETURN;
		END IF;
	END LOOP;
	from_at := at;
END
$$;
COMMENT ON FUNCTION crm.open_hours(text, text, timestamptz) IS
'When a message may go to a reader in a zone (IANA name), not before a moment: from_at the first moment inside the hours of crm.quiet_hours, until_at when they end. kind: service or advertising. Daylight saving is the zone''s own';

-- The rule machinery --------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.rules_for(kinds text[]) RETURNS TABLE (rule_id bigint, event_kind text, condition text)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.id, r.event_kind, r.condition
	FROM crm.rule r
	WHERE r.event_kind = ANY ($1) AND COALESCE(r.switched, r.enabled) AND r.broken IS NULL
	ORDER BY r.priority DESC, r.id
$$;
COMMENT ON FUNCTION crm.rules_for(text[]) IS 'Rules that are on for events of these kinds';

CREATE OR REPLACE FUNCTION crm.audience_of(audience text, event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f text;
BEGIN
	SELECT a.function INTO f FROM crm.audience a WHERE a.name = $1;
	IF f IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('unknown audience: %s', $1),
			HINT = 'SELECT name, description FROM crm.audience lists them.';
	END IF;
	RETURN QUERY EXECUTE format('SELECT a.event_id, a.contact_id FROM %s($1) a', f) USING $2;
END
$$;
COMMENT ON FUNCTION crm.audience_of(text, bigint[]) IS 'The readers that an audience finds for events, a row for each event and contact';

CREATE OR REPLACE FUNCTION crm.event_depth(event_id bigint) RETURNS integer
LANGUAGE sql STABLE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE chain AS (
		SELECT e.cause_id, 1 AS depth FROM crm.event e WHERE e.id = $1
		UNION ALL
		SELECT e.cause_id, c.depth + 1 FROM chain c JOIN crm.event e ON e.id = c.cause_id WHERE c.depth < 8
	)
	SELECT COALESCE(max(c.depth), 0) FROM chain c
$$;
COMMENT ON FUNCTION crm.event_depth(bigint) IS 'Length of the chain of causes that ends in an event: 1 for a fact''s own event, at most 8';

CREATE OR REPLACE FUNCTION crm.sender_check(channel text, sender text) RETURNS void
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF channel = 'sms' THEN
		IF sender IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'no sender name is set for sms',
				HINT = 'Set it at the integration (settings: {"sender": "NAME"}) or at the rule; a name of 3 to 11 Latin letters and digits, registered with the provider.';
		ELSIF sender !~ '^[A-Za-z0-9._ -]{3,11}$' OR sender !~ '[A-Za-z]' THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a sender name for sms: %L', sender),
				HINT = 'Use 3 to 11 Latin letters, digits, dots, hyphens, underscores or blanks, at least one of them a letter.';
		END IF;
	ELSIF sender ~ '[[:cntrl:]]' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the sender holds a line break or another control character',
			HINT = 'Write it in one line.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.sender_check(text, text) IS
'Refuses a sender that the channel does not take: for sms it must be there (22004) and be an alpha name (22023). Claim 58; protocol sms, section 8';

CREATE OR REPLACE FUNCTION crm.channel_integration(channel text, name text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT i.id FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind
		WHERE k.channel = $1 AND CASE WHEN $2 IS NULL THEN i.enabled ELSE i.name = $2 END
		ORDER BY i.id LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm.channel_integration(text, text) IS 'Number of the integration that carries a channel: the named one, else the first that is enabled; NULL: none';

CREATE OR REPLACE FUNCTION crm.throttle_lock(rule_id bigint, audience text, event_ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	-- Where the row is there it is locked and not written: WHERE false comes after the lock.
	INSERT INTO crm.message_throttle AS t (rule_id, contact_id)
	SELECT $1, c.contact_id
	FROM (SELECT DISTINCT a.contact_id FROM crm.audience_of($2, $3) a WHERE a.contact_id IS NOT NULL ORDER BY 1) c
	ON CONFLICT ON CONSTRAINT message_throttle_pkey DO UPDATE SET contact_id = excluded.contact_id WHERE false;
END
$$;
COMMENT ON FUNCTION crm.throttle_lock(bigint, text, bigint[]) IS
'Keeps every other transaction from counting the messages of a rule to these readers until this one ends. By rows of crm.message_throttle, in the order of contacts: any number of readers takes no room in the table of locks, two statements never wait for each other in a circle, and facts about different readers never wait at all';

CREATE OR REPLACE FUNCTION crm.rule_queue() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off SET work_mem = '32MB'
AS $$
DECLARE
	r crm.rule%ROWTYPE;
	carrier record;
	sender text;
	defaults jsonb;
	due timestamptz;
	sandbox boolean := crm.mode() = 'sandbox';
	words text;
	parts integer[];
	one bigint;
	again bigint[];
	tries bigint[] := ARRAY[NULL::bigint];
	max_parts integer;
	timer record;
	counted_alone boolean := false;
	-- for a rule that leaves the channel to the reader
	auto boolean;
	ways text[];
	way text;
	open_channels text[];
	open_carriers bigint[];
	open_senders text[];
	open_parts integer[];
	events bigint[];
	objects bigint[];
	kinds text[];
	pick_events bigint[];
	pick_contacts bigint[];
	pick_channels text[];
BEGIN
	SELECT * INTO r FROM crm.rule x WHERE x.id = TG_ARGV[0]::bigint;
	IF NOT FOUND THEN
		RETURN NULL;					-- deleted since it was picked
	END IF;

	-- Who carries it, under which name?  What is missing is said in words, and never stops the fact.
	auto := r.channel = 'auto';
	IF r.digest IS NOT NULL THEN
		NULL;							-- asked when the digest is told
	ELSIF auto THEN
		SELECT array_agg(c.channel), array_agg(c.integration_id), array_agg(c.sender), array_agg(c.max_parts)
		INTO open_channels, open_carriers, open_senders, open_parts FROM crm.template_carriers(r.template) c;
		IF open_channels IS NULL THEN
			INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
			SELECT r.id, r.version, f.id, 'no integration',
				format('no enabled integration that has a sender carries a channel of template "%s"; add one with crm.add_integration()', r.template)
			FROM fresh f;
			RETURN NULL;
		END IF;
	ELSE
		ways := ARRAY[r.channel];
		SELECT i.id, i.settings INTO carrier FROM crm.integration i WHERE i.id = crm.channel_integration(r.channel, r.integration);
		IF carrier.id IS NULL THEN
			INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
			SELECT r.id, r.version, f.id, 'no integration',
				CASE WHEN r.integration IS NULL THEN format('no enabled integration carries %s', r.channel)
					ELSE format('integration "%s" is not there, or carries no %s', r.integration, r.channel) END
				|| '; add one with crm.add_integration()'
			FROM fresh f;
			RETURN NULL;
		END IF;
		sender := COALESCE(r.sender, carrier.settings ->> 'sender');
		BEGIN
			PERFORM crm.sender_check(r.channel, sender);
		EXCEPTION WHEN invalid_parameter_value OR null_value_not_allowed THEN
			GET STACKED DIAGNOSTICS words = PG_EXCEPTION_HINT;
			INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
			SELECT r.id, r.version, f.id, 'no sender', SQLERRM || '. ' || words FROM fresh f;
			RETURN NULL;
		END;
		max_parts := CASE WHEN carrier.settings ->> 'max_parts' ~ '^[0-9]{1,4}$' THEN (carrier.settings ->> 'max_parts')::integer ELSE 10 END;
	END IF;
	SELECT jsonb_object_agg(v.name, NULL) INTO defaults
	FROM crm.event_kind k, unnest(k.variables || crm.person_variables()) AS v(name) WHERE k.kind = r.event_kind;
	due := crm.now() + r.delay;
	SELECT t.step, t.after INTO timer FROM crm.chain_timer(r.fallback, 0) t;

	-- Two sessions that count at once would both stay under the limit.
	IF r.throttle_count IS NOT NULL THEN
		BEGIN
			PERFORM crm.throttle_lock(r.id, r.audience, (SELECT array_agg(f.id) FROM fresh f));
			counted_alone := true;
		EXCEPTION
			WHEN transaction_rollback OR insufficient_resources OR operator_intervention OR system_error THEN
				RAISE;
			WHEN lock_not_available THEN
				INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
				SELECT r.id, r.version, f.id, 'error', SQLERRM FROM fresh f;
				RETURN NULL;
			WHEN OTHERS OR assert_failure THEN
				NULL;					-- its audience fails: below it fails again, where the culprit is found
		END;
	END IF;

	-- The whole set at once; where that fails, one by one, and only the culprit is left out.
	-- "(… IN (…)) IS TRUE" is hashed, however many rows the planner expects: a join of two of these lists
	-- would be a nested loop where one event has 20000 readers.
	WHILE cardinality(tries) > 0 LOOP
		one := tries[1];
		tries := tries[2:];
		BEGIN
			IF r.throttle_count IS NOT NULL AND NOT counted_alone THEN
				PERFORM crm.throttle_lock(r.id, r.audience, (SELECT array_agg(f.id) FROM fresh f WHERE one IS NULL OR f.id = one));
			END IF;
			IF r.digest IS NOT NULL THEN
				WITH asked AS MATERIALIZED (
					SELECT DISTINCT a.event_id, a.contact_id
					FROM crm.audience_of(r.audience, (SELECT array_agg(f.id) FROM fresh f WHERE one IS NULL OR f.id = one)) a
				), reader AS MATERIALIZED (
					SELECT c.id FROM (SELECT DISTINCT a.contact_id FROM asked a) d
					CROSS JOIN LATERAL (SELECT x.id FROM crm.contact x WHERE x.id = d.contact_id AND x.archived_at IS NULL OFFSET 0) c
				)
				INSERT INTO crm.digest_item (rule_id, object_kind, object_id, cause, contact_id, event_id, event_known_at, depth, due_at)
				SELECT r.id, f.object_kind, f.object_id, CASE r.once WHEN 'object' THEN '' ELSE COALESCE(f.source || ':' || f.source_id, f.id::text) END,
					a.contact_id, f.id, f.known_at, CASE WHEN f.cause_id IS NULL THEN 0 ELSE crm.event_depth(f.cause_id) END, crm.now() + r.digest
				FROM fresh f JOIN asked a ON a.event_id = f.id
				WHERE (a.contact_id IN (SELECT x.id FROM reader x)) IS TRUE
					-- told already when the rule had no digest
					AND NOT EXISTS (SELECT FROM crm.message_key k WHERE k.rule_id = r.id AND k.object_id = f.object_id AND k.contact_id = a.contact_id AND k.object_kind = f.object_kind
						AND k.cause = CASE r.once WHEN 'object' THEN '' ELSE COALESCE(f.source || ':' || f.source_id, f.id::text) END OFFSET 0)
				ORDER BY f.id
				ON CONFLICT DO NOTHING;
				PERFORM crm.wake();
				CONTINUE;
			END IF;
			IF auto THEN
				SELECT array_agg(f.id), array_agg(f.object_kind), array_agg(f.object_id) INTO events, kinds, objects
				FROM fresh f
				WHERE (one IS NULL OR f.id = one) AND (r.of_rules IS NULL OR f.data ->> 'rule' = ANY (r.of_rules));
				SELECT array_agg(c.event_id), array_agg(c.contact_id), array_agg(c.channel) INTO pick_events, pick_contacts, pick_channels
				FROM crm.reader_channels(open_channels, r.audience, events, kinds, objects) c;
				ways := ARRAY(SELECT DISTINCT p.channel FROM unnest(pick_channels) AS p(channel) WHERE p.channel IS NOT NULL ORDER BY 1);
				INSERT INTO crm.message_skip (rule_id, rule_version, event_id, contact_id, reason, words)
				SELECT r.id, r.version, p.event_id, p.contact_id, CASE WHEN p.consents THEN 'no address' ELSE 'no consent' END,
					CASE WHEN p.consents THEN format('contact %s has no usable address for %s', p.contact_id, array_to_string(open_channels, ', '))
						ELSE format('contact %s has not agreed to advertising, or has withdrawn it (crm.consent)', p.contact_id) END
				FROM (SELECT x.event_id, x.contact_id, r.quiet_kind <> 'advertising' OR crm.consented(x.contact_id, 'advertising') AS consents
					  FROM unnest(pick_events, pick_contacts, pick_channels) AS x(event_id, contact_id, channel) WHERE x.channel IS NULL) p;
			END IF;
			FOREACH way IN ARRAY ways LOOP
				IF auto THEN
					r.channel := way;
					SELECT o.carrier AS id, NULL::jsonb AS settings, o.sender, o.parts INTO carrier
					FROM unnest(open_channels, open_carriers, open_senders, open_parts) AS o(channel, carrier, sender, parts) WHERE o.channel = way;
					sender := carrier.sender;
					max_parts := carrier.parts;
				END IF;
				WITH hit AS MATERIALIZED (
					SELECT f.id, f.object_kind, f.object_id, f.known_at, f.data,
						CASE r.once WHEN 'object' THEN '' ELSE COALESCE(f.source || ':' || f.source_id, f.id::text) END AS cause,
						CASE WHEN f.cause_id IS NULL THEN 0 ELSE crm.event_depth(f.cause_id) END AS depth
					FROM fresh f
					WHERE (one IS NULL OR f.id = one)
						AND (r.of_rules IS NULL OR f.data ->> 'rule' = ANY (r.of_rules))
				), asked AS MATERIALIZED (
					SELECT a.event_id, a.contact_id
					FROM crm.audience_of(r.audience, (SELECT array_agg(h.id) FROM hit h)) a
					WHERE NOT auto AND a.event_id IS NOT NULL AND a.contact_id IS NOT NULL
					UNION ALL
					SELECT p.event_id, p.contact_id
					FROM unnest(pick_events, pick_contacts, pick_channels) AS p(event_id, contact_id, channel)
					WHERE auto AND p.channel = r.channel
				), reader AS MATERIALIZED (
					SELECT c.id, c.company_id, jsonb_build_object('contact_name', c.name, 'company_name', m.name) AS names,
						COALESCE(c.time_zone, m.time_zone, current_setting('crm.time_zone')) AS zone,
						p.id AS point_id, p.value AS recipient, count(*) OVER (PARTITION BY p.value) > 1 AS shared,
						r.quiet_kind <> 'advertising' OR crm.consented(c.id, 'advertising') AS consents,
						t.id AS template_id, t.version AS template_version, t.language, t.subject, t.body, t.html
					FROM (SELECT DISTINCT a.contact_id FROM asked a) w
					CROSS JOIN LATERAL (SELECT x.id, x.name, x.company_id, x.time_zone, x.language FROM crm.contact x
						WHERE x.id = w.contact_id AND x.archived_at IS NULL OFFSET 0) c
					LEFT JOIN LATERAL (SELECT x.name, x.time_zone, x.language FROM crm.company x WHERE x.id = c.company_id OFFSET 0) m ON true
					LEFT JOIN LATERAL (
						SELECT x.id, x.value FROM crm.contact_point x
						WHERE x.contact_id = c.id AND x.state <> 'invalid'
							AND CASE r.channel WHEN 'sms' THEN x.kind = 'phone' AND x.is_mobile ELSE x.kind = r.channel END
						ORDER BY x.state = 'verified' DESC, x.state = 'stale', x.id LIMIT 1) p ON true
					LEFT JOIN LATERAL (
						SELECT x.* FROM crm.template x
						WHERE x.code = r.template AND x.channel = r.channel
						ORDER BY x.language = COALESCE(c.language, m.language, 'ru') DESC, x.language = COALESCE(m.language, 'ru') DESC,
							x.language = 'ru' DESC, x.language LIMIT 1) t ON true
				), hours AS MATERIALIZED (
					SELECT z.zone, o.from_at, o.until_at
					FROM (SELECT DISTINCT x.zone FROM reader x) z
					LEFT JOIN LATERAL crm.open_hours(r.quiet_kind, z.zone, due) o ON r.quiet = 'respect'
				), throttled AS MATERIALIZED (
					SELECT n.event_id, n.contact_id
					FROM (SELECT a.event_id, a.contact_id, row_number() OVER (PARTITION BY a.contact_id ORDER BY a.event_id)
							+ (SELECT count(*) FROM crm.message_said b WHERE b.contact_id = a.contact_id AND b.rule_id = r.id
								AND b.step IS NULL AND b.queued_at > crm.now() - r.throttle_interval) AS n
						  FROM asked a) n
					WHERE r.throttle_count IS NOT NULL AND n.n > r.throttle_count
				), twice AS MATERIALIZED (
					-- two contacts with one phone: one of them gets it; only such readers are sorted
					SELECT n.event_id, n.contact_id
					FROM (SELECT a.event_id, a.contact_id, row_number() OVER (PARTITION BY a.event_id, x.recipient ORDER BY a.contact_id) AS n
						  FROM asked a JOIN reader x ON x.id = a.contact_id AND x.shared) n
					WHERE n.n > 1
				), picked AS (
					SELECT a.event_id, a.contact_id
					FROM asked a
					WHERE ((a.event_id, a.contact_id) IN (SELECT t.event_id, t.contact_id FROM throttled t)) IS NOT TRUE
						AND ((a.event_id, a.contact_id) IN (SELECT t.event_id, t.contact_id FROM twice t)) IS NOT TRUE
				), filled AS MATERIALIZED (
					SELECT h.id AS event_id, h.known_at, h.object_kind, h.object_id, h.cause, h.depth,
						x.id AS contact_id, x.company_id, x.zone, x.point_id, x.recipient, x.template_id, x.template_version, x.language,
						rtrim(crm.message_text(crm.template_fill(x.body, v.vars)), ' ') AS body,
						crm.message_text(crm.template_fill(x.subject, v.vars), true) AS subject,
						crm.template_fill_html(x.html, v.vars) AS html
					FROM picked p
					JOIN hit h ON h.id = p.event_id AND h.depth < 8
					JOIN reader x ON x.id = p.contact_id AND x.recipient IS NOT NULL AND x.template_id IS NOT NULL AND x.consents
					-- OFFSET 0: built once, though three texts are filled from it
					CROSS JOIN LATERAL (SELECT defaults || h.data || x.names OFFSET 0) AS v(vars)
				), ready AS MATERIALIZED (
					SELECT f.*, s.encoding, s.parts, crm.next_message_id() AS message_id
					-- numbers follow the events: what happened first is said first
					FROM (SELECT x.* FROM filled x ORDER BY x.event_id, x.contact_id) f
					LEFT JOIN LATERAL crm.sms_segments(f.body) s ON r.channel = 'sms'
					WHERE f.body <> '' AND (s.parts IS NULL OR s.parts <= max_parts)
				), keyed AS (
					INSERT INTO crm.message_key AS k (rule_id, object_kind, object_id, cause, contact_id, message_id)
					SELECT r.id, y.object_kind, y.object_id, y.cause, y.contact_id, y.message_id FROM ready y
					ON CONFLICT DO NOTHING
					RETURNING k.message_id
				), said AS (
					INSERT INTO crm.message_body AS b (id, integration_id, lane, channel, recipient, sender, subject, body, html, language,
						encoding, segments, rule_id, rule_version, template_id, template_version, event_id, event_known_at,
						object_kind, object_id, company_id, contact_id, contact_point_id, zone, quiet_kind, open_until,
						not_before, expires_at, depth, sandbox, bytes)
					SELECT y.message_id, carrier.id, CASE WHEN COALESCE(o.from_at, due) > crm.now() THEN NULL ELSE r.priority END,
						r.channel, y.recipient, sender, y.subject, y.body, y.html, y.language,
						y.encoding, y.parts, r.id, r.version, y.template_id, y.template_version, y.event_id, y.known_at,
						y.object_kind, y.object_id, y.company_id, y.contact_id, y.point_id, y.zone,
						CASE WHEN r.quiet = 'respect' THEN r.quiet_kind END, o.until_at,
						NULLIF(COALESCE(o.from_at, due), crm.now()), crm.now() + r.expires_after, y.depth, sandbox,
						octet_length(y.body) + COALESCE(octet_length(y.subject), 0) + COALESCE(octet_length(y.html), 0)
					FROM ready y
					JOIN hours o ON o.zone = y.zone
					WHERE (y.message_id IN (SELECT k.message_id FROM keyed k)) IS TRUE
					RETURNING b.id, b.not_before, b.expires_at
				), late AS (
					INSERT INTO crm.message_result (message_id, state, words)
					SELECT s.id, 'expired', format('the hour at which it may go, %s, is after its end, %s', s.not_before, s.expires_at)
					FROM said s WHERE s.not_before >= s.expires_at
				), waits AS (
					INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at)
					SELECT s.id, carrier.id, r.priority, s.not_before
					FROM said s WHERE s.not_before > crm.now() AND (s.expires_at IS NULL OR s.not_before < s.expires_at)
				), timed AS (
					INSERT INTO crm.message_timer (message_id, step, due_at)
					SELECT s.id, timer.step, COALESCE(s.not_before, crm.now()) + timer.after
					FROM said s WHERE timer.step IS NOT NULL AND (s.expires_at IS NULL OR COALESCE(s.not_before, crm.now()) < s.expires_at)
				)
				INSERT INTO crm.message_skip (rule_id, rule_version, event_id, contact_id, reason, words)
				SELECT r.id, r.version, a.event_id, a.contact_id,
					CASE WHEN NOT x.consents THEN 'no consent' WHEN x.recipient IS NULL THEN 'no address' ELSE 'no template' END,
					CASE WHEN NOT x.consents THEN format('contact %s has not agreed to advertising, or has withdrawn it (crm.consent)', a.contact_id)
						WHEN x.recipient IS NULL THEN format('contact %s has no usable address for %s', a.contact_id, r.channel)
						ELSE format('template "%s" has no row for %s', r.template, r.channel) END
				FROM asked a JOIN reader x ON x.id = a.contact_id
				WHERE x.recipient IS NULL OR x.template_id IS NULL OR NOT x.consents
				UNION ALL
				SELECT r.id, r.version, t.event_id, t.contact_id, 'throttle',
					format('more than %s in %s for this contact', r.throttle_count, r.throttle_interval)
				FROM throttled t
				UNION ALL
				SELECT r.id, r.version, f.event_id, f.contact_id, CASE WHEN f.body = '' THEN 'empty' ELSE 'too long' END,
					CASE WHEN f.body = '' THEN format('template "%s" gives an empty text', r.template)
						ELSE format('the text takes more than %s parts', max_parts) END
				FROM filled f
				WHERE ((f.event_id, f.contact_id) IN (SELECT y.event_id, y.contact_id FROM ready y)) IS NOT TRUE
				UNION ALL
				SELECT r.id, r.version, h.id, NULL, 'loop', 'eight events and messages have caused one another'
				FROM hit h WHERE h.depth >= 8 AND r.channel = ways[1];
			END LOOP;
			IF r.priority = 2 THEN
				PERFORM crm.wake(true);
			END IF;
		EXCEPTION
			WHEN transaction_rollback OR insufficient_resources OR operator_intervention OR system_error THEN
				RAISE;
			WHEN lock_not_available THEN
				-- each of the others would wait as long again
				INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
				SELECT r.id, r.version, f.id, 'error', SQLERRM FROM fresh f WHERE one IS NULL OR f.id = ANY (one || tries);
				RETURN NULL;
			WHEN OTHERS OR assert_failure THEN
				GET STACKED DIAGNOSTICS words = MESSAGE_TEXT;
				IF one IS NULL THEN
					SELECT array_agg(f.id ORDER BY f.id) INTO again FROM (SELECT x.id FROM fresh x LIMIT 1001) f;
				END IF;
				IF one IS NULL AND cardinality(again) BETWEEN 2 AND 1000 THEN
					tries := again;
				ELSE
					INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
					SELECT r.id, r.version, f.id, 'error', words FROM fresh f WHERE one IS NULL OR f.id = one;
				END IF;
		END;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.rule_queue() IS
'Queues the messages of one rule (the trigger''s argument) for the events that met its condition (the transition table fresh): audience, address, template, hours, throttle and key in one statement for the whole set; blanks at the end of a text, where a link is missing, go. Called by crm.event_rules(). What cannot be queued is a row in crm.message_skip (and of crm.health), never an error of the fact: an audience or a text that fails, a lock time-out, an assertion, an internal error too. Only what ends the statement or has it tried again is raised: cancel and shutdown (class 57), lack of memory, disk or locks (53), an error of the system (58), deadlock and serialization failure (40)';

CREATE OR REPLACE FUNCTION crm.rule_error(rule_id bigint, event_id bigint, words text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO crm.message_skip (rule_id, rule_version, event_id, reason, words)
	SELECT r.id, r.version, $2, 'error', format('condition: %s', $3) FROM crm.rule r WHERE r.id = $1
$$;
COMMENT ON FUNCTION crm.rule_error(bigint, bigint, text) IS 'Keeps the error of a condition that could not be evaluated, for the first event of the set';

CREATE OR REPLACE FUNCTION crm.event_rules() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS '$libdir/crm', 'crm_message_event_rules';
COMMENT ON FUNCTION crm.event_rules() IS
'Statement trigger on crm.event: evaluates the conditions of the rules over the new events, as crm_eval, read-only, and calls crm.rule_queue() for those that were met. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.company_contacts(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000
AS $$
	SELECT e.id, c.id FROM crm.event e
	CROSS JOIN LATERAL (SELECT x.id FROM crm.contact x WHERE x.company_id = e.company_id AND x.archived_at IS NULL OFFSET 0) c
	WHERE e.id = ANY ($1)
$$;
COMMENT ON FUNCTION crm.company_contacts(bigint[]) IS 'Audience: every contact of the company that the event concerns';

CREATE OR REPLACE FUNCTION crm.message_reader(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.id, b.contact_id FROM crm.event e
	CROSS JOIN LATERAL (SELECT x.contact_id FROM crm.message_said x WHERE x.id = e.object_id OFFSET 0) b
	WHERE e.id = ANY ($1) AND e.object_kind = 'message' AND b.contact_id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.message_reader(bigint[]) IS 'Audience of rules on message.*: the reader of that message (another channel when the first one failed)';

CREATE OR REPLACE FUNCTION crm.wake_couriers() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.wake();
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.wake_couriers() IS 'Statement trigger: the commit that queues a message wakes the couriers';

-- Sending by hand -------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.send(channel text, recipient text, body text, subject text DEFAULT NULL, html text DEFAULT NULL,
	sender text DEFAULT NULL, integration text DEFAULT NULL, priority integer DEFAULT 1, quiet text DEFAULT 'urgent',
	not_before timestamptz DEFAULT NULL, expires_after interval DEFAULT NULL, contact_id bigint DEFAULT NULL,
	language text DEFAULT 'ru', fallback jsonb DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	carrier record;
	timer record;
	address text;
	from_name text;
	words text := crm.message_text(body);
	parts record;
	zone text := current_setting('crm.time_zone');
	company bigint;
	point bigint;
	starts timestamptz;
	ends timestamptz;
	hours record;
	id bigint;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active: nothing is sent',
			HINT = 'SELECT crm.activate(); crm.health tells why an activation does not hold here.';
	END IF;
	IF channel IS NULL OR recipient IS NULL OR body IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'crm.send() needs a channel, a recipient and a body',
			HINT = 'SELECT crm.send(''sms'', ''+79991234567'', ''text'');';
	END IF;
	IF length(recipient) > 320 OR recipient ~ '[[:cntrl:]]' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a recipient: %L', left(recipient, 100)),
			HINT = 'A recipient is one phone or address in one line.';
	END IF;
	IF subject ~ '[[:cntrl:]]' OR length(subject) > 255 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a subject: %L', left(subject, 100)),
			HINT = 'Write it in one line of at most 255 characters.';
	END IF;
	IF words = '' OR octet_length(words) > 1048576 OR octet_length(html) > 1048576 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = CASE WHEN words = '' THEN 'the body is empty' ELSE format('the body has %s bytes', octet_length(words)) END,
			HINT = 'Give a text of 1 byte to 1 MB.';
	END IF;
	IF priority IS NULL OR priority NOT BETWEEN 0 AND 2 OR quiet IS NULL OR quiet NOT IN ('urgent', 'respect') OR language IS NULL OR language NOT IN ('ru', 'en') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a priority, quiet or language: %s, %s, %s', priority, quiet, language),
			HINT = 'priority is 0, 1 or 2; quiet is urgent or respect; language is ru or en.';
	END IF;
	IF NOT isfinite(not_before) OR expires_after <= '0' OR expires_after > '366 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('not a time to send: not before %s, expires after %s', COALESCE(not_before::text, 'any'), COALESCE(expires_after::text, 'any')),
			HINT = 'Give a finite time, and an interval between a second and 366 days.';
	END IF;
	IF fallback IS NOT NULL THEN
		PERFORM crm.chain_check('this message', fallback, NULL);
	END IF;

	SELECT i.id, i.settings INTO carrier FROM crm.integration i WHERE i.id = crm.channel_integration(send.channel, send.integration);
	IF carrier.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = CASE WHEN integration IS NULL THEN format('no enabled integration carries %s', channel)
				ELSE format('integration "%s" is not there, or carries no %s', integration, channel) END,
			HINT = 'SELECT crm.add_integration(name, kind, url, settings, secret);';
	END IF;
	address := CASE channel WHEN 'sms' THEN crm.phone_e164(recipient) WHEN 'email' THEN crm.email_normal(recipient) ELSE btrim(recipient) END;
	from_name := COALESCE(sender, carrier.settings ->> 'sender');
	PERFORM crm.sender_check(channel, from_name);
	IF channel = 'sms' THEN
		SELECT * INTO parts FROM crm.sms_segments(words);
		IF parts.parts > COALESCE((carrier.settings ->> 'max_parts')::integer, 10) THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the text takes %s parts', parts.parts),
				HINT = format('At most %s are sent (setting max_parts of the integration).', COALESCE(carrier.settings ->> 'max_parts', '10'));
		END IF;
	ELSE
		SELECT NULL::text AS encoding, NULL::integer AS parts INTO parts;
	END IF;
	IF send.contact_id IS NOT NULL THEN
		SELECT COALESCE(c.time_zone, m.time_zone, zone), c.company_id, p.id INTO zone, company, point
		FROM crm.contact c LEFT JOIN crm.company m ON m.id = c.company_id
		LEFT JOIN crm.contact_point p ON p.contact_id = c.id AND p.value = address
		WHERE c.id = send.contact_id AND crm.sees_contact(c.id) LIMIT 1;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('contact %s is not there', send.contact_id),
				HINT = 'Leave contact_id out for an address that belongs to nobody.';
		END IF;
	END IF;
	starts := GREATEST(send.not_before, crm.now());
	ends := crm.now() + expires_after;
	IF quiet = 'respect' THEN
		SELECT * INTO hours FROM crm.open_hours('service', zone, starts);
		starts := hours.from_at;
	ELSE
		SELECT NULL::timestamptz AS from_at, NULL::timestamptz AS until_at INTO hours;
	END IF;

	INSERT INTO crm.message_body AS b (integration_id, lane, channel, recipient, sender, subject, body, html, language, encoding, segments,
		company_id, contact_id, contact_point_id, zone, quiet_kind, open_until, not_before, expires_at, sandbox, bytes)
	VALUES (carrier.id, CASE WHEN starts > crm.now() THEN NULL ELSE priority END, send.channel, address, from_name, send.subject, words, send.html,
		send.language, parts.encoding, parts.parts, company, send.contact_id, point, zone, CASE quiet WHEN 'respect' THEN 'service' END,
		hours.until_at, NULLIF(starts, crm.now()), ends, crm.mode() = 'sandbox',
		octet_length(words) + COALESCE(octet_length(send.subject), 0) + COALESCE(octet_length(send.html), 0))
	RETURNING b.id INTO id;
	IF starts >= ends THEN
		INSERT INTO crm.message_result (message_id, state, words)
		VALUES (id, 'expired', format('the hour at which it may go, %s, is after its end, %s', starts, ends));
	ELSIF starts > crm.now() THEN
		INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at) VALUES (id, carrier.id, priority, starts);
	ELSIF priority = 2 THEN
		PERFORM crm.wake(true);
	END IF;
	IF fallback IS NOT NULL AND (ends IS NULL OR starts < ends) THEN
		INSERT INTO crm.message_fallback (message_id, steps) VALUES (id, fallback);
		SELECT t.step, t.after INTO timer FROM crm.chain_timer(fallback, 0) t;
		INSERT INTO crm.message_timer (message_id, step, due_at) SELECT id, timer.step, starts + timer.after WHERE timer.step IS NOT NULL;
	END IF;
	RETURN id;
END
$$;
COMMENT ON FUNCTION crm.send(text, text, text, text, text, text, text, integer, text, timestamptz, interval, bigint, text, jsonb) IS
'Queues one message by hand and returns its number; it leaves when the transaction commits. channel: sms, email, telegram; recipient: a phone in any usual spelling or an address; priority 0 to 2; quiet: urgent (the default: any hour) or respect (waits for the reader''s hours, zone of the contact, else of the setting crm.time_zone); not_before, expires_after: business clock; fallback: what follows when it fails or is not delivered in time, as in crm.rule.fallback, but each step with recipient, body and perhaps subject in the place of a template. Errors: 22023 a phone or address that is none, a body that is empty or too long, a bad sender or fallback; 22004 no sender for sms; 55000 not active, or no integration';

CREATE OR REPLACE FUNCTION crm.message_attach(message_id bigint, name text, content_type text, content bytea) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	id bigint;
BEGIN
	PERFORM FROM crm.message_body b WHERE b.id = message_attach.message_id AND b.channel = 'email' AND b.queued_at = crm.now();
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('message %s is no letter that this transaction queued', message_attach.message_id),
			HINT = 'Attach files in the transaction that calls crm.send().';
	END IF;
	INSERT INTO crm.message_attachment AS a (message_id, at, name, content_type, content, bytes)
	VALUES (message_attach.message_id, crm.now(), message_attach.name, message_attach.content_type, message_attach.content, octet_length(message_attach.content)) RETURNING a.id INTO id;
	RETURN id;
END
$$;
COMMENT ON FUNCTION crm.message_attach(bigint, text, text, bytea) IS
'Adds a file to a letter that the same transaction queued by crm.send(); name without folders, MIME type, at most 25 MB. Errors: 55000 not such a letter, 23514 a bad name or type';

CREATE OR REPLACE FUNCTION crm.template_preview(code text, event_id bigint, language text DEFAULT 'ru')
RETURNS TABLE (channel text, subject text, body text, html text, encoding text, units integer, parts integer)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e crm.event%ROWTYPE;
	vars jsonb;
BEGIN
	SELECT * INTO e FROM crm.event x WHERE x.id = template_preview.event_id AND crm.sees_company(x.company_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('event %s is not there', template_preview.event_id),
			HINT = 'SELECT id, kind, at FROM crm.event ORDER BY id DESC LIMIT 10 shows the last ones.';
	END IF;
	SELECT jsonb_object_agg(v.name, NULL) INTO vars
	FROM crm.event_kind k, unnest(k.variables || crm.person_variables()) AS v(name) WHERE k.kind = e.kind;
	vars := vars || e.data || COALESCE((
		SELECT jsonb_build_object('company_name', m.name, 'contact_name', (SELECT min(c.name) FROM crm.contact c WHERE c.company_id = m.id))
		FROM crm.company m WHERE m.id = e.company_id), '{}');
	RETURN QUERY
	SELECT t.channel, crm.message_text(crm.template_fill(t.subject, vars), true), x.body, crm.template_fill_html(t.html, vars), s.encoding, s.units, s.parts
	FROM crm.template t
	CROSS JOIN LATERAL (SELECT rtrim(crm.message_text(crm.template_fill(t.body, vars)), ' ')) AS x(body)
	LEFT JOIN LATERAL crm.sms_segments(x.body) s ON t.channel = 'sms'
	WHERE t.code = template_preview.code AND t.language = template_preview.language
	ORDER BY t.channel;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('template "%s" has no text in %s', template_preview.code, template_preview.language),
			HINT = 'Known are: ' || (SELECT string_agg(DISTINCT t.code, ', ') FROM crm.template t) || '.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.template_preview(text, bigint, text) IS
'How a template reads for a real event, a row for each of its channels, with the parts that an SMS would take. Sends nothing. Claim 57';

-- Why, and why not -----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.why(message_id bigint) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m crm.message%ROWTYPE;
	r crm.rule%ROWTYPE;
	e crm.event%ROWTYPE;
	t record;
	lines text[];
BEGIN
	SELECT * INTO m FROM crm.message x WHERE x.id = why.message_id AND crm.sees_company(x.company_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('message %s is not there', why.message_id),
			HINT = 'SELECT id, recipient, state FROM crm.message ORDER BY id DESC LIMIT 10 shows the last ones.';
	END IF;
	lines := ARRAY[format('Message %s, %s to %s: %s%s.', m.id, m.channel, m.recipient, m.state, COALESCE(' (' || m.last_error || ')', ''))];
	IF m.rule IS NULL THEN
		lines := lines || format('Sent by hand by %s at %s.', m.queued_by, m.queued_at);
	ELSE
		SELECT * INTO r FROM crm.rule x WHERE x.code = m.rule;
		lines := lines || format('Rule "%s", version %s%s: on %s%s, to %s, template "%s".', r.code, m.rule_version,
			CASE WHEN r.version <> m.rule_version THEN format(' (now %s)', r.version) ELSE '' END,
			r.event_kind, COALESCE(' where ' || r.condition, ''), r.audience, r.template);
		IF r.channel = 'auto' AND m.step IS NULL THEN
			lines := lines || format('The rule leaves the channel to the reader and the place: it went by %s.', m.channel);
		END IF;
		lines := lines || crm.digest_words(m.id);
		SELECT x.* INTO e FROM crm.event x WHERE x.id = m.event_id;
		IF FOUND THEN
			lines := lines || format('Event %s: %s of %s %s at %s, known at %s, from %s%s.', e.id, e.kind, e.object_kind, e.object_id,
				e.at, e.known_at, e.source, COALESCE(' ' || e.source_id, ''));
		END IF;
		FOR i IN 1 .. 8 LOOP
			EXIT WHEN e.cause_id IS NULL;
			SELECT x.* INTO e FROM crm.event x WHERE x.id = e.cause_id;
			EXIT WHEN NOT FOUND;
			lines := lines || format('caused by event %s: %s of %s %s at %s, from %s%s.', e.id, e.kind, e.object_kind, e.object_id, e.at,
				e.source, COALESCE(' ' || e.source_id, ''));
		END LOOP;
	END IF;
	lines := lines || crm.chain_words(m.id);
	IF m.not_before IS NOT NULL THEN
		lines := lines || format('Not before %s%s.', m.not_before,
			(SELECT format(', the hours of a %s message in %s', b.quiet_kind, b.zone) FROM crm.message_said b WHERE b.id = m.id AND b.quiet_kind IS NOT NULL));
	END IF;
	FOR t IN SELECT * FROM crm.message_attempt a WHERE a.message_id = m.id ORDER BY a.at, a.attempt LOOP
		lines := lines || format('%s %s at %s%s%s.', CASE t.outcome WHEN 'report' THEN 'Report on try' ELSE 'Try' END, t.attempt || CASE t.outcome WHEN 'report' THEN '' ELSE ': ' || t.outcome END,
			t.at, COALESCE(', number ' || t.provider_id, ''), COALESCE(': ' || t.words, ''));
	END LOOP;
	RETURN array_to_string(lines, E'\n');
END
$$;
COMMENT ON FUNCTION crm.why(bigint) IS 'Why a message exists and what became of it, in words: state, rule and its version, event, what caused that, the chain of messages that follow one another, hours, tries and reports. Error P0002: no such message';

CREATE OR REPLACE FUNCTION crm.event_values(event crm.event, expression text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(format('%s = %s', v.name, COALESCE(v.value, 'NULL')), ', ' ORDER BY v.n, v.name)
	FROM (
		SELECT 1 AS n, c.key AS name, c.value FROM jsonb_each_text(to_jsonb($1)) c WHERE c.key <> 'data' AND $2 ~ format('\m%s\M', c.key)
		UNION ALL
		SELECT 2, k.key, $1.data ->> k.key FROM (SELECT DISTINCT m[1] AS key FROM regexp_matches($2, '(?:->>?|\?|#>>?)\s*''([^'']+)''', 'g') m) k
	) v
$$;
COMMENT ON FUNCTION crm.event_values(crm.event, text) IS 'The columns and the keys of data that an expression names, with their values for an event; NULL: it names none';

CREATE OR REPLACE FUNCTION crm.why_not(event_id bigint, contact_id bigint) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	e crm.event%ROWTYPE;
	c crm.contact%ROWTYPE;
	r crm.rule%ROWTYPE;
	m record;
	one bigint;
	holds boolean;
	lines text[] := '{}';
	said text;
BEGIN
	SELECT * INTO e FROM crm.event x WHERE x.id = why_not.event_id AND crm.sees_company(x.company_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('event %s is not there', why_not.event_id),
			HINT = 'SELECT id, kind, at FROM crm.event ORDER BY id DESC LIMIT 10 shows the last ones.';
	END IF;
	SELECT * INTO c FROM crm.contact x WHERE x.id = why_not.contact_id AND crm.sees_contact(x.id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('contact %s is not there', why_not.contact_id),
			HINT = 'SELECT id, name FROM crm.contact lists them.';
	END IF;
	FOR r IN SELECT * FROM crm.rule x WHERE x.event_kind = e.kind ORDER BY x.id LOOP
		said := NULL;
		-- in two steps: no join reaches into a view that is a security barrier
		SELECT b.id INTO one FROM crm.message_said b
		WHERE b.event_id = e.id AND b.rule_id = r.id AND b.contact_id = c.id ORDER BY b.step DESC NULLS LAST LIMIT 1;
		IF FOUND THEN
			SELECT v.* INTO m FROM crm.message v WHERE v.id = one;
			said := CASE WHEN m.step IS NULL THEN '' ELSE format('step %s of its chain, in the place of message %s: ', m.step, m.follows_id) END || CASE m.state
				WHEN 'delivered' THEN format('message %s was delivered at %s', m.id, m.delivered_at)
				WHEN 'queued' THEN CASE WHEN m.not_before > crm.clock() THEN format('message %s waits until %s, the reader''s hours or the rule''s delay', m.id, m.not_before)
					WHEN crm.mode() = 'off' THEN format('message %s waits: the mode is off', m.id)
					ELSE format('message %s waits in the queue', m.id) END
				WHEN 'sent' THEN format('message %s was taken by the provider at %s, and no report of delivery came', m.id, m.sent_at)
				ELSE format('message %s is %s%s', m.id, m.state, COALESCE(': ' || m.last_error, '')) END
				|| CASE WHEN m.sandbox THEN '; it was queued in the mode sandbox and goes to a test recipient' ELSE '' END;
		ELSE
			SELECT CASE WHEN i.ended_at IS NULL THEN format('it waits to be told with others, until %s or the reader''s morning', i.due_at)
				WHEN i.words IS NOT NULL THEN 'left out of the digest: ' || i.words
				ELSE format('message %s, a digest, tells it%s', i.message_id, COALESCE('; it is ' || (SELECT v.state FROM crm.message v WHERE v.id = i.message_id), '')) END
			INTO said FROM crm.digest_item i WHERE i.event_id = e.id AND i.rule_id = r.id AND i.contact_id = c.id;
			IF said IS NULL THEN
				SELECT format('duplicate: event %s of the same is told in a digest (%s %s)', i.event_id, i.object_kind, i.object_id) INTO said
				FROM crm.digest_item i
				WHERE i.rule_id = r.id AND i.object_kind = e.object_kind AND i.object_id = e.object_id AND i.contact_id = c.id
					AND i.cause = CASE r.once WHEN 'object' THEN '' ELSE COALESCE(e.source || ':' || e.source_id, e.id::text) END;
			END IF;
			IF said IS NULL THEN
				SELECT s.reason || ': ' || s.words INTO said FROM crm.message_skip s
				WHERE s.event_id = e.id AND s.rule_id = r.id AND (s.contact_id = c.id OR s.contact_id IS NULL) ORDER BY s.id DESC LIMIT 1;
			END IF;
			IF said IS NULL THEN
				SELECT format('duplicate: message %s already told the same (%s %s)', k.message_id, k.object_kind, k.object_id) INTO said
				FROM crm.message_key k
				WHERE k.rule_id = r.id AND k.object_kind = e.object_kind AND k.object_id = e.object_id AND k.contact_id = c.id
					AND k.cause = CASE r.once WHEN 'object' THEN '' ELSE COALESCE(e.source || ':' || e.source_id, e.id::text) END;
			END IF;
			IF said IS NULL AND r.broken IS NOT NULL THEN
				said := 'the rule cannot run: ' || r.broken;
			ELSIF said IS NULL AND NOT COALESCE(r.switched, r.enabled) THEN
				said := 'the rule is off' || CASE WHEN r.switched IS FALSE THEN ' (switched off by hand)' ELSE '' END;
			END IF;
			IF said IS NULL AND r.condition IS NOT NULL THEN
				BEGIN
					holds := crm.expression_holds(r.condition, e);
					IF holds IS NOT TRUE THEN
						said := format('its condition is %s: %s%s', COALESCE(holds::text, 'unknown'), r.condition, COALESCE(', with ' || crm.event_values(e, r.condition), ''));
					END IF;
				EXCEPTION WHEN OTHERS THEN
					said := format('its condition fails: %s', SQLERRM);
				END;
			END IF;
			IF said IS NULL AND r.of_rules IS NOT NULL AND (e.data ->> 'rule' = ANY (r.of_rules)) IS NOT TRUE THEN
				said := format('it answers to messages of %s only', array_to_string(r.of_rules, ', '));
			END IF;
			IF said IS NULL AND NOT EXISTS (SELECT FROM crm.audience_of(r.audience, ARRAY[e.id]) a WHERE a.contact_id = c.id) THEN
				said := format('the contact is not in its audience, %s', r.audience);
			END IF;
			IF said IS NULL AND c.archived_at IS NOT NULL THEN
				said := format('the contact was archived at %s', c.archived_at);
			END IF;
			IF said IS NULL THEN
				SELECT format('%s got it as message %s for another contact', b.recipient, b.id) INTO said
				FROM crm.message_said b JOIN crm.contact_point p ON p.contact_id = c.id AND p.value = b.recipient
				WHERE b.event_id = e.id AND b.rule_id = r.id LIMIT 1;
			END IF;
			IF said IS NULL THEN
				said := CASE WHEN r.edited_at > e.known_at THEN format('the rule was written or changed at %s, after the event', r.edited_at)
					WHEN NOT crm.guard() THEN 'this database is not active: ' || COALESCE(crm.activation_problem(), '')
					ELSE 'the event came while the database was not active, or before the contact was there; other reasons are kept for 90 days' END;
			END IF;
		END IF;
		lines := lines || format('Rule "%s": %s.', r.code, said);
	END LOOP;
	IF cardinality(lines) = 0 THEN
		RETURN format('No rule answers to %s.', e.kind);
	END IF;
	RETURN array_to_string(lines, E'\n');
END
$$;
COMMENT ON FUNCTION crm.why_not(bigint, bigint) IS
'Why a contact got no message about an event, a line for each rule on its kind: switched off, condition with the values that made it false, audience, consent, address, integration, throttle, duplicate, hours, expiry, mode, the provider''s refusal, of a chain its last message. Error P0002: no such event or contact';

-- Duties ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.message_maintain() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
BEGIN
	DELETE FROM crm.message_report_early e WHERE e.known_at < crm.clock() - interval '3 days';
	UPDATE crm.rule r SET broken = format('its author %s is gone', r.author)
	WHERE NOT r.shipped AND r.broken IS NULL AND NOT EXISTS (SELECT FROM pg_roles a WHERE a.rolname = r.author);
	DELETE FROM crm.message_stop s
	WHERE EXISTS (SELECT FROM crm.message_body b WHERE b.id = s.message_id AND (b.lane IS NULL
		OR b.id <= (SELECT c.watermark FROM crm.message_cursor c WHERE c.integration_id = b.integration_id AND c.lane = b.lane)) OFFSET 0);
	PERFORM crm.flight_rotate();
	PERFORM crm.compact('crm.message_cursor', 1000, 131072), crm.compact('crm.message_lease', 1000, 131072), crm.compact('crm.message_delayed', 20000, 262144);
END
$$;
COMMENT ON FUNCTION crm.message_maintain() IS 'The courier''s housekeeping: early reports after three days, rules without an author put aside, flight tables emptied, the queue''s small tables written anew where dead rows fill them';

CREATE OR REPLACE FUNCTION crm.message_waiting() RETURNS TABLE (integration_id bigint, waiting bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT i.id, (SELECT count(*) FROM (
			SELECT FROM crm.message_body b JOIN LATERAL (SELECT max(c.watermark) FROM crm.message_cursor c WHERE c.integration_id = i.id AND c.lane = b.lane) w(mark) ON true
			WHERE b.integration_id = i.id AND b.lane IS NOT NULL
				AND b.id > COALESCE((SELECT min(c.watermark) FROM crm.message_cursor c WHERE c.integration_id = i.id), 0) AND b.id > COALESCE(w.mark, 0)
				AND NOT EXISTS (SELECT FROM crm.message_lease l WHERE l.integration_id = i.id AND l.ids @> b.id OFFSET 0)
				AND NOT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = b.id OFFSET 0)
				AND NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = b.id OFFSET 0)
			LIMIT 100000) s)
		+ (SELECT count(*) FROM crm.message_delayed d WHERE d.integration_id = i.id AND d.due_at <= crm.clock())
		+ (SELECT count(*) FROM (SELECT FROM crm.message_flight f WHERE f.integration_id = i.id AND NOT f.spent LIMIT 100000) f)
	FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE k.channel IS NOT NULL
$$;
COMMENT ON FUNCTION crm.message_waiting() IS 'Messages that wait for each integration, at most 100000 counted: new ones, those whose hour has come, and retries';

CREATE OR REPLACE FUNCTION crm.message_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN QUERY
	SELECT 'error', 'rule ' || r.code, format('rule "%s" does not run: %s', r.code, r.broken),
		format('Mend it and save it again: UPDATE crm.rule SET … WHERE code = %L;', r.code), r.edited_at
	FROM crm.rule r WHERE r.broken IS NOT NULL;
	RETURN QUERY
	SELECT 'warning', 'messages', format('uncertain messages, which left and got no answer: %s', count(*)),
		'SELECT id, recipient, body FROM crm.message WHERE state = ''uncertain''; then crm.message_resolve(id, ''resend'' | ''delivered'' | ''failed'').', min(a.at)
	FROM crm.message_attempt a
	WHERE a.outcome = 'uncertain' AND a.at > crm.clock() - interval '31 days'
		AND NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = a.message_id)
		AND NOT EXISTS (SELECT FROM crm.message_attempt x WHERE x.message_id = a.message_id AND (x.attempt > a.attempt OR x.attempt = a.attempt AND x.outcome = 'sent'))
		AND NOT EXISTS (SELECT FROM crm.message_flight f WHERE f.message_id = a.message_id AND f.attempt > a.attempt)
		AND NOT EXISTS (SELECT FROM crm.message_delayed d WHERE d.message_id = a.message_id)
	HAVING count(*) > 0;
	RETURN QUERY
	SELECT CASE WHEN s.reason IN ('throttle', 'no consent') THEN 'notice' ELSE 'warning' END, 'rule ' || r.code,
		format('rule "%s" could not address %s readers in the last day: %s', r.code, count(*), max(s.words)),
		'SELECT * FROM crm.message_skip ORDER BY id DESC; tells each.', min(s.at)
	FROM crm.message_skip s JOIN crm.rule r ON r.id = s.rule_id
	WHERE s.at > crm.clock() - interval '1 day'
	GROUP BY r.code, s.reason;
	RETURN QUERY
	SELECT 'error', 'sandbox', format('integration "%s" has no test recipient: in the mode sandbox its messages wait', i.name),
		format('INSERT INTO crm.sandbox_recipient (channel, value) VALUES (%L, …);', k.channel), NULL::timestamptz
	FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind
	WHERE crm.mode() = 'sandbox' AND k.channel IS NOT NULL AND i.enabled AND crm.sandbox_address(i.id) IS NULL;
	RETURN QUERY
	SELECT 'warning', 'rule ' || r.code, format('rule "%s" leaves the channel to the reader, but no enabled integration carries one', r.code),
		'SELECT crm.add_integration(name, kind, url, settings, secret); or switch the rule off.', NULL::timestamptz
	FROM crm.rule r
	WHERE r.channel = 'auto' AND COALESCE(r.switched, r.enabled) AND r.broken IS NULL AND crm.guard() AND EXISTS (SELECT FROM crm.integration)
		AND NOT EXISTS (SELECT FROM crm.template_carriers(r.template));
	RETURN QUERY
	SELECT 'warning', 'channel ' || c.channel, format('rules send by %s, but no enabled integration carries it', c.channel),
		'SELECT crm.add_integration(name, kind, url, settings, secret); or switch the rules off.', NULL::timestamptz
	FROM (SELECT DISTINCT r.channel FROM crm.rule r WHERE r.channel <> 'auto' AND COALESCE(r.switched, r.enabled) AND r.broken IS NULL) c
	WHERE crm.guard() AND crm.channel_integration(c.channel) IS NULL AND EXISTS (SELECT FROM crm.integration);
END
$$;
COMMENT ON FUNCTION crm.message_health() IS 'Rows of crm.health: broken rules, uncertain messages, readers that could not be addressed, test recipients and channels that are missing';

CREATE OR REPLACE FUNCTION crm.message_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
	bad text[];
	r crm.rule%ROWTYPE;
	silent bigint[];
	number bigint := 0;
	since timestamptz := CASE WHEN EXISTS (SELECT FROM crm.clock_state) THEN '-infinity' ELSE (SELECT a.activated_at FROM crm.activation a) END;
BEGIN
	SELECT array_agg(format('message %s: %s', x.message_id, x.states) ORDER BY x.message_id) INTO bad
	FROM (SELECT y.message_id, string_agg(y.state, ', ' ORDER BY y.at) AS states FROM crm.message_result y GROUP BY y.message_id HAVING count(*) > 1 ORDER BY 1 LIMIT 20) x;
	RETURN QUERY SELECT 'a message ends once', bad IS NULL, COALESCE(array_to_string(bad, '; '), 'no message has two ends');

	SELECT array_agg(format('%s of message %s', x.what, x.message_id)) INTO bad
	FROM (
		(SELECT 'end' AS what, y.message_id FROM crm.message_result y WHERE NOT EXISTS (SELECT FROM crm.message_said b WHERE b.id = y.message_id) ORDER BY 2 LIMIT 10)
		UNION ALL (SELECT DISTINCT 'try', y.message_id FROM crm.message_attempt y WHERE NOT EXISTS (SELECT FROM crm.message_said b WHERE b.id = y.message_id) ORDER BY 2 LIMIT 10)
		UNION ALL (SELECT 'key', y.message_id FROM crm.message_key y WHERE crm.keep_of('crm.message_history') IS NULL AND NOT EXISTS (SELECT FROM crm.message_said b WHERE b.id = y.message_id) ORDER BY 2 LIMIT 10)
		UNION ALL (SELECT 'hour', y.message_id FROM crm.message_delayed y WHERE NOT EXISTS (SELECT FROM crm.message_body b WHERE b.id = y.message_id) ORDER BY 2 LIMIT 10)
		UNION ALL (SELECT 'deadline', y.message_id FROM crm.message_timer y WHERE NOT EXISTS (SELECT FROM crm.message_body b WHERE b.id = y.message_id) ORDER BY 2 LIMIT 10)
		UNION ALL (SELECT 'retry', y.message_id FROM crm.message_flight y WHERE NOT EXISTS (SELECT FROM crm.message_said b WHERE b.id = y.message_id) ORDER BY 2 LIMIT 10)
	) x;
	RETURN QUERY SELECT 'whatever speaks of a message has it', bad IS NULL, COALESCE(array_to_string(bad, '; ') || ': these messages are not there', 'ends, tries, keys, hours, deadlines and retries looked at');

	SELECT array_agg(format('batch %s of process %s', l.id, l.pid) ORDER BY l.id) INTO bad
	FROM crm.message_lease l WHERE NOT crm.process_lives(l.pid, l.started);
	RETURN QUERY SELECT 'no message is in the hands of a dead courier', bad IS NULL,
		COALESCE(array_to_string(bad[:20], '; ') || ': the next courier takes them over when it starts', 'every batch has its courier');

	SELECT array_agg(x.words ORDER BY x.words) INTO bad
	FROM (
		SELECT format('rule %s, version %s', u.code, u.version) AS words FROM crm.rule u
		WHERE NOT EXISTS (SELECT FROM crm.rule_version v WHERE v.rule_id = u.id AND v.version = u.version
			-- read back: an interval is written as the session likes it
			AND crm.rule_definition(jsonb_populate_record(u, v.definition)) = crm.rule_definition(u))
		UNION ALL
		SELECT format('template %s (%s, %s), version %s', t.code, t.channel, t.language, t.version) FROM crm.template t
		WHERE NOT EXISTS (SELECT FROM crm.template_version v WHERE v.template_id = t.id AND v.version = t.version AND (v.subject, v.body, v.html) IS NOT DISTINCT FROM (t.subject, t.body, t.html))
	) x;
	RETURN QUERY SELECT 'rules and texts have their versions', bad IS NULL,
		COALESCE(array_to_string(bad[:20], '; ') || ': changed past its trigger; save it again', 'each is kept as it stands');

	RETURN QUERY SELECT 'numbers of messages are ahead', COALESCE(b.most, 0) <= n.last_value,
		CASE WHEN b.most > n.last_value THEN format('crm.message_number stands at %s, crm.message_body.id at %s: SELECT setval(''crm.message_number'', %s);', n.last_value, b.most, b.most)
			ELSE 'the next message has a new number' END
	FROM (SELECT max(x.id) AS most FROM crm.message_said x) b, (SELECT CASE WHEN y.is_called THEN y.last_value ELSE y.last_value - 1 END AS last_value FROM crm.message_number y) n;

	-- Events of the last week that a rule had to answer to.
	bad := NULL;
	IF crm.guard() THEN
		FOR r IN SELECT x.* FROM crm.rule x WHERE COALESCE(x.switched, x.enabled) AND x.broken IS NULL ORDER BY x.id LOOP
			BEGIN
				SELECT array_agg(e.id) INTO silent
				FROM crm.event e
				WHERE e.id IN (
						SELECT v.id FROM crm.event v
						WHERE v.kind = r.event_kind AND v.known_at > GREATEST(since, r.edited_at, crm.now() - interval '7 days')
							AND (r.of_rules IS NULL OR v.data ->> 'rule' = ANY (r.of_rules))
							AND NOT EXISTS (SELECT FROM crm.message_said b WHERE b.event_id = v.id AND b.rule_id = r.id)
							AND NOT EXISTS (SELECT FROM crm.message_skip s WHERE s.event_id = v.id AND s.rule_id = r.id)
							AND NOT EXISTS (SELECT FROM crm.digest_item i WHERE i.rule_id = r.id AND i.object_kind = v.object_kind AND i.object_id = v.object_id
								AND i.cause = CASE r.once WHEN 'object' THEN '' ELSE COALESCE(v.source || ':' || v.source_id, v.id::text) END)
							AND NOT EXISTS (SELECT FROM crm.message_key k WHERE k.rule_id = r.id AND k.object_kind = v.object_kind AND k.object_id = v.object_id
								AND k.cause = CASE r.once WHEN 'object' THEN '' ELSE COALESCE(v.source || ':' || v.source_id, v.id::text) END)
						ORDER BY v.id DESC LIMIT 1000)
					AND (r.condition IS NULL OR crm.expression_holds(r.condition, e));
				SELECT count(*) + number, bad || CASE WHEN count(*) > 0 THEN format('rule %s: events %s', r.code, string_agg(a.event_id::text, ', ' ORDER BY a.event_id) FILTER (WHERE a.n <= 10)) END
				INTO number, bad
				FROM (SELECT x.event_id, row_number() OVER (ORDER BY x.event_id) AS n FROM crm.audience_of(r.audience, COALESCE(silent, '{}')) x
					  JOIN crm.contact c ON c.id = x.contact_id AND c.archived_at IS NULL AND c.created_at <= crm.now() GROUP BY x.event_id) a;
			EXCEPTION WHEN OTHERS THEN
				NULL;					-- a condition that fails has its row in crm.message_skip
			END;
		END LOOP;
		bad := array_remove(bad, NULL);
	END IF;
	RETURN QUERY SELECT 'every event had its consequences', number = 0,
		CASE WHEN NOT crm.guard() THEN 'this database is not active: events have none' WHEN number = 0 THEN 'rules asked over the events of the last week'
			ELSE format('%s events were answered by nothing, as after a load with session_replication_role = replica: %s', number, array_to_string(bad[:10], '; ')) END;
END
$$;
COMMENT ON FUNCTION crm.message_selftest() IS 'Rows of crm.selftest() about messages: one end each, nothing without its message, no dead courier, versions, events that no rule answered to';

CREATE OR REPLACE FUNCTION crm.event_clock_floor() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT max(e.known_at) FROM crm.event e $$;
COMMENT ON FUNCTION crm.event_clock_floor() IS 'Business time up to which events are known: the clock does not go back below it';

-- Shipping rules and templates -------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.ship_template(code text, channel text, language text, subject text, body text, html text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t crm.template%ROWTYPE;
	hash text := crm.template_hash($4, $5, $6);
BEGIN
	SELECT * INTO t FROM crm.template x WHERE x.code = $1 AND x.channel = $2 AND x.language = $3;
	IF NOT FOUND THEN
		INSERT INTO crm.template AS x (code, channel, language, subject, body, html, shipped, shipped_hash)
		VALUES ($1, $2, $3, $4, $5, $6, true, hash) RETURNING * INTO t;
		INSERT INTO crm.template_version (template_id, version, subject, body, html) VALUES (t.id, 1, $4, $5, $6) ON CONFLICT DO NOTHING;
	ELSIF crm.template_hash(t.subject, t.body, t.html) = t.shipped_hash AND t.shipped_hash <> hash THEN
		UPDATE crm.template x SET subject = $4, body = $5, html = $6, shipped_hash = hash WHERE x.id = t.id;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.ship_template(text, text, text, text, text, text) IS 'Brings a shipped template: new, or in the place of an older shipped text; one that the DBA changed stays';

CREATE OR REPLACE FUNCTION crm.ship_rule(code text, definition jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET intervalstyle = 'postgres'
AS $$
DECLARE
	r crm.rule%ROWTYPE;
	n crm.rule%ROWTYPE;
	hash text;
BEGIN
	n := jsonb_populate_record(NULL::crm.rule, jsonb_build_object('code', $1, 'once', 'event', 'quiet', 'respect', 'quiet_kind', 'service',
		'priority', 1, 'delay', '0', 'enabled', true) || $2);
	hash := md5(crm.rule_definition(n)::text);
	SELECT * INTO r FROM crm.rule x WHERE x.code = $1;
	IF NOT FOUND THEN
		INSERT INTO crm.rule AS x (code, event_kind, of_rules, condition, audience, channel, integration, sender, template, truth, once, quiet, quiet_kind,
			priority, delay, expires_after, throttle_count, throttle_interval, fallback, digest, enabled, shipped, shipped_hash)
		VALUES (n.code, n.event_kind, n.of_rules, n.condition, n.audience, n.channel, n.integration, n.sender, n.template, n.truth, n.once, n.quiet, n.quiet_kind,
			n.priority, n.delay, n.expires_after, n.throttle_count, n.throttle_interval, n.fallback, n.digest, n.enabled, true, hash)
		RETURNING * INTO r;
		INSERT INTO crm.rule_version (rule_id, version, definition) VALUES (r.id, 1, crm.rule_definition(r)) ON CONFLICT DO NOTHING;
	ELSIF md5(crm.rule_definition(r)::text) = r.shipped_hash AND r.shipped_hash <> hash THEN
		UPDATE crm.rule x SET (event_kind, of_rules, condition, audience, channel, integration, sender, template, truth, once, quiet, quiet_kind,
			priority, delay, expires_after, throttle_count, throttle_interval, fallback, digest, enabled, shipped_hash)
			= (n.event_kind, n.of_rules, n.condition, n.audience, n.channel, n.integration, n.sender, n.template, n.truth, n.once, n.quiet, n.quiet_kind,
			n.priority, n.delay, n.expires_after, n.throttle_count, n.throttle_interval, n.fallback, n.digest, n.enabled, hash)
		WHERE x.id = r.id;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.ship_rule(text, jsonb) IS 'Brings a shipped rule: new, or in the place of an older shipped definition; one that the DBA changed stays, and a switch is never touched';

CREATE OR REPLACE FUNCTION crm.ship_message() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO crm.quiet_hours (kind, weekend, from_time, to_time) VALUES
		('service', false, '08:00', '22:00'), ('service', true, '08:00', '22:00'),
		('advertising', false, '09:00', '21:00'), ('advertising', true, '10:00', '20:00')
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.ship_message() IS 'Brings the quiet hours that come with the product; what the DBA changed stays. Called by crm.activate()';

-- Registrations --------------------------------------------------------------------------------

SELECT crm.register_event_kind('message.delivered', 'message', ARRAY['rule', 'channel', 'recipient', 'body', 'words'],
	'A message reached its reader', 'Сообщение доставлено');
SELECT crm.register_event_kind('message.failed', 'message', ARRAY['rule', 'channel', 'recipient', 'body', 'words'],
	'A message could not be sent or delivered', 'Сообщение не отправлено или не доставлено');

SELECT crm.register_audience('company_contacts', 'crm.company_contacts', 'Every contact of the company that the event concerns');
SELECT crm.register_audience('message_reader', 'crm.message_reader', 'The reader of the message that the event is about');
SELECT crm.register_audience('manager_on_duty', 'crm.manager_on_duty', 'The responsible manager in working hours, else the deputy, else who is on duty');
SELECT crm.register_truth('told', 'crm.told', 'Whether somebody was told of an event of these kinds about an object');
SELECT crm.register_truth('out_of_hours', 'crm.out_of_hours', 'Whether the responsible manager of a client does not work at a moment: crm.out_of_hours(at, company_id)');

SELECT crm.register_hook('ship', 'message', 'crm.ship_message');
SELECT crm.register_hook('health', 'message', 'crm.message_health');
SELECT crm.register_hook('selftest', 'message', 'crm.message_selftest');
SELECT crm.register_hook('maintain', 'message', 'crm.message_maintain');
SELECT crm.register_hook('recover', 'message', 'crm.message_recover');
SELECT crm.register_hook('deadline', 'message', 'crm.message_deadline');
SELECT crm.register_hook('settle_failed', 'message', 'crm.message_settle_failed');
SELECT crm.register_hook('waiting', 'message', 'crm.message_waiting');
SELECT crm.register_hook('clock_floor', 'event', 'crm.event_clock_floor');

SELECT crm.register_undumped('crm.audience', 'rows of code, registered by every install');
SELECT crm.register_undumped('crm.message_throttle', 'rows that transactions lock; they say nothing');
SELECT crm.register_undumped('crm.truth', 'rows of code, registered by every install');

SELECT crm.register_partitioned('crm.message_attempt', 'at', 'month', ARRAY[
	'CREATE INDEX ON crm.%1$I (message_id)',
	'CREATE INDEX ON crm.%1$I (provider_id) WHERE provider_id IS NOT NULL',
	'CREATE INDEX ON crm.%1$I (integration_id, at) WHERE outcome = ''uncertain''',
	'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.%1$I FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only()']);
SELECT crm.register_partitioned('crm.message_result', 'at', 'month', ARRAY[
	'CREATE UNIQUE INDEX ON crm.%1$I (message_id)',
	'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.%1$I FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only()']);

SELECT crm.register_foreign_key('crm.template_version', 'template_id', 'crm.template', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.rule_version', 'rule_id', 'crm.rule', 'id', on_delete => 'CASCADE');
SELECT crm.register_no_foreign_key('crm.message_attachment', 'message_id', 'partitioned; the letter moves to its history');
SELECT crm.register_foreign_key('crm.message_delayed', 'integration_id', 'crm.integration', 'id');
SELECT crm.register_foreign_key('crm.message_cursor', 'integration_id', 'crm.integration', 'id');
SELECT crm.register_foreign_key('crm.message_lease', 'integration_id', 'crm.integration', 'id');
SELECT crm.register_no_foreign_key('crm.message_body', c.name, 'history, queued in bulk; its numbers were read in the same statement')
FROM unnest(ARRAY['integration_id', 'rule_id', 'template_id', 'event_id', 'object_id', 'company_id', 'contact_id', 'contact_point_id', 'chain_id', 'follows_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.message_key', c.name, 'written in bulk with the message; outlives it')
FROM unnest(ARRAY['rule_id', 'object_id', 'contact_id', 'message_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.message_throttle', c.name, 'locks, written in bulk')
FROM unnest(ARRAY['rule_id', 'contact_id']) AS c(name);
SELECT crm.register_foreign_key('crm.forgotten', 'contact_id', 'crm.contact', 'id');
SELECT crm.register_no_foreign_key('crm.message_skip', c.name, 'a log, partitioned')
FROM unnest(ARRAY['rule_id', 'event_id', 'contact_id']) AS c(name);
SELECT crm.register_no_foreign_key(f.t, c.name, 'queue: written and emptied in bulk')
FROM unnest(ARRAY['crm.message_flight_0', 'crm.message_flight_1']) AS f(t), unnest(ARRAY['message_id', 'integration_id']) AS c(name);
SELECT crm.register_no_foreign_key(t.name, 'message_id', 'queue: written and emptied in bulk') FROM unnest(ARRAY['crm.message_timer', 'crm.message_stop']) AS t(name);
SELECT crm.register_no_foreign_key('crm.message_fallback', 'message_id', 'the message moves to its history');
SELECT crm.register_no_foreign_key('crm.message_delayed', 'message_id', 'queue: written and emptied in bulk');
SELECT crm.register_no_foreign_key('crm.message_attempt', c.name, 'history, partitioned')
FROM unnest(ARRAY['message_id', 'integration_id', 'lease_id', 'provider_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.message_result', c.name, 'history, partitioned')
FROM unnest(ARRAY['message_id', 'provider_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.message_report_early', 'integration_id', 'a log, kept three days');
SELECT crm.register_no_foreign_key('crm.message_report_early', 'provider_id', 'a number of another system');
