/*
 * message: facts that are told together (rules with a digest).  May be run
 * again at any time.
 *
 * crm.rule_queue() writes the items in the fact's transaction.  What is due is
 * told by the first courier: an item locks its reader's digest, the message and
 * the end of its items are one transaction.  A digest waits for the reader's
 * hours before it is made, so that the truth is asked last.
 *
 * OFFSET 0 in a look-up: see message_outbox.sql.
 */

CREATE OR REPLACE FUNCTION crm.digest_end(rule_id bigint, contact_id bigint, reason text, words text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
BEGIN
	IF $3 IS NOT NULL THEN
		INSERT INTO crm.message_skip (rule_id, rule_version, event_id, contact_id, reason, words)
		SELECT r.id, r.version, i.event_id, i.contact_id, $3, left($4, 1000)
		FROM crm.digest_item i JOIN crm.rule r ON r.id = i.rule_id
		WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL;
	END IF;
	UPDATE crm.digest_item i SET ended_at = crm.clock(), words = left($4, 1000)
	WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL;
END
$$;
COMMENT ON FUNCTION crm.digest_end(bigint, bigint, text, text) IS 'Ends what waits for a reader''s digest without telling it, and says why; reason: as in crm.message_skip, NULL: not worth a row there';

CREATE OR REPLACE FUNCTION crm.digest_text(language text, zone text, from_at timestamptz, to_at timestamptz, lines text[], number integer, amount integer, OUT head text, OUT rest text)
RETURNS record
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT format(CASE $1 WHEN 'en' THEN 'Digest from %s to %s:' ELSE 'Сводка с %s до %s:' END,
			to_char($3 AT TIME ZONE $2, 'DD.MM HH24:MI'), to_char($4 AT TIME ZONE $2, 'DD.MM HH24:MI')),
		concat_ws(E'\n', NULLIF(array_to_string($5[:$6], E'\n'), ''),
			CASE WHEN $7 > $6 THEN format(CASE $1 WHEN 'en' THEN 'and %s more' ELSE 'и ещё %s' END, $7 - $6) END)
$$;
COMMENT ON FUNCTION crm.digest_text(text, text, timestamptz, timestamptz, text[], integer, integer) IS 'The head of a digest, times of the reader''s zone, and the rest: its first lines, and how many more there are';

CREATE OR REPLACE FUNCTION crm.digest_tell(rule_id bigint, contact_id bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	moment constant timestamptz := crm.clock();
	r crm.rule%ROWTYPE;
	c record;
	p record;
	t crm.template%ROWTYPE;
	carrier record;
	hours record;
	part record;
	words record;
	encoding text;
	segments integer;
	max_parts integer;
	way text;
	sender text;
	defaults jsonb;
	mine bigint[];
	kept bigint[];
	lines text[];
	amount integer;
	body text;
	message bigint;
BEGIN
	-- what commits from here on waits for the next one
	SELECT array_agg(x.event_id) INTO mine
	FROM (SELECT i.event_id FROM crm.digest_item i WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL ORDER BY i.event_id FOR UPDATE) x;
	SELECT * INTO r FROM crm.rule x WHERE x.id = $1;
	SELECT x.id, x.name, x.company_id, x.language, x.channel, x.archived_at, m.name AS company_name, m.language AS company_language,
		COALESCE(x.time_zone, m.time_zone, current_setting('crm.time_zone')) AS zone INTO c
	FROM crm.contact x LEFT JOIN crm.company m ON m.id = x.company_id WHERE x.id = $2;
	IF r.id IS NULL OR r.broken IS NOT NULL OR NOT COALESCE(r.switched, r.enabled) OR c.id IS NULL OR c.archived_at IS NOT NULL THEN
		PERFORM crm.digest_end($1, $2, NULL, CASE WHEN r.id IS NULL THEN 'the rule is gone' WHEN r.broken IS NOT NULL THEN 'the rule cannot run: ' || r.broken
			WHEN NOT COALESCE(r.switched, r.enabled) THEN 'the rule is off' ELSE 'the contact was archived' END);
		RETURN NULL;
	END IF;
	IF r.quiet_kind = 'advertising' AND NOT crm.consented($2, 'advertising') THEN
		PERFORM crm.digest_end($1, $2, 'no consent', format('contact %s has not agreed to advertising, or has withdrawn it (crm.consent)', $2));
		RETURN NULL;
	END IF;
	-- an urgent one goes at any hour
	SELECT o.from_at, o.until_at INTO hours FROM (VALUES (1)) AS one(x) LEFT JOIN LATERAL crm.open_hours(r.quiet_kind, c.zone, moment) o ON r.quiet = 'respect';
	IF hours.from_at > moment THEN
		UPDATE crm.digest_item i SET due_at = hours.from_at
		WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL AND i.due_at < hours.from_at;
		RETURN NULL;
	END IF;

	-- Leave out what is too late or no longer true.
	UPDATE crm.digest_item i SET ended_at = moment, words = 'expired: too late by the rule'
	WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL AND (i.event_id IN (SELECT m.id FROM unnest(mine) AS m(id))) IS TRUE AND i.event_known_at + r.expires_after <= moment;
	IF r.truth IS NOT NULL THEN
		UPDATE crm.digest_item i SET ended_at = moment, words = 'not true any more: ' || r.truth
		WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL AND (i.event_id IN (SELECT m.id FROM unnest(mine) AS m(id))) IS TRUE
			AND (SELECT crm.expression_holds(r.truth, e) FROM crm.event e WHERE e.id = i.event_id AND e.known_at = i.event_known_at) IS NOT TRUE;
	END IF;
	SELECT array_agg(i.event_id ORDER BY i.event_id), count(*), min(i.at) AS from_at, max(i.depth) AS depth,
		array_agg(i.object_kind ORDER BY i.event_id) AS kinds, array_agg(i.object_id ORDER BY i.event_id) AS objects
	INTO part FROM crm.digest_item i WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL AND (i.event_id IN (SELECT m.id FROM unnest(mine) AS m(id))) IS TRUE;
	kept := part.array_agg;
	amount := part.count;
	IF amount = 0 THEN
		RETURN NULL;
	END IF;

	way := r.channel;
	IF way = 'auto' THEN
		way := COALESCE((SELECT x.channel FROM crm.contact_channel($2, ARRAY(SELECT w.channel FROM crm.template_carriers(r.template) w),
			cardinality(crm.events_offline(kept, part.kinds, part.objects)) > 0) AS x(channel)), 'sms');
	END IF;
	SELECT i.id, i.settings INTO carrier FROM crm.integration i WHERE i.id = crm.channel_integration(way, r.integration);
	IF carrier.id IS NULL THEN
		PERFORM crm.digest_end($1, $2, 'no integration', format('no enabled integration carries %s; add one with crm.add_integration()', way));
		RETURN NULL;
	END IF;
	sender := COALESCE(r.sender, carrier.settings ->> 'sender');
	BEGIN
		PERFORM crm.sender_check(way, sender);
	EXCEPTION WHEN invalid_parameter_value OR null_value_not_allowed THEN
		PERFORM crm.digest_end($1, $2, 'no sender', SQLERRM);
		RETURN NULL;
	END;
	SELECT x.id, x.value INTO p FROM crm.contact_point x
	WHERE x.contact_id = $2 AND x.state <> 'invalid' AND CASE way WHEN 'sms' THEN x.kind = 'phone' AND x.is_mobile ELSE x.kind = way END
	ORDER BY x.state = 'verified' DESC, x.state = 'stale', x.id LIMIT 1;
	IF NOT FOUND THEN
		PERFORM crm.digest_end($1, $2, 'no address', format('contact %s has no usable address for %s', $2, way));
		RETURN NULL;
	END IF;
	SELECT * INTO t FROM crm.template x WHERE x.code = r.template AND x.channel = way
	ORDER BY x.language = COALESCE(c.language, c.company_language, 'ru') DESC, x.language = COALESCE(c.company_language, 'ru') DESC, x.language = 'ru' DESC, x.language LIMIT 1;
	IF NOT FOUND THEN
		PERFORM crm.digest_end($1, $2, 'no template', format('template "%s" has no row for %s', r.template, way));
		RETURN NULL;
	END IF;

	SELECT jsonb_object_agg(v.name, NULL) || jsonb_build_object('contact_name', c.name, 'company_name', c.company_name) INTO defaults
	FROM crm.event_kind k, unnest(k.variables || crm.person_variables()) AS v(name) WHERE k.kind = r.event_kind;
	SELECT array_agg(rtrim(crm.message_text(crm.template_fill(t.body, defaults || e.data || jsonb_build_object('contact_name', c.name, 'company_name', c.company_name)), true), ' ')
		ORDER BY i.event_id) INTO lines
	FROM (SELECT x.event_id, x.event_known_at FROM crm.digest_item x
		WHERE x.rule_id = $1 AND x.contact_id = $2 AND x.event_id = ANY (kept[:10]) ORDER BY x.event_id) i
	CROSS JOIN LATERAL (SELECT x.data FROM crm.event x WHERE x.id = i.event_id AND x.known_at = i.event_known_at OFFSET 0) e;
	-- as many lines as the channel takes: none where even one is too long
	max_parts := CASE WHEN carrier.settings ->> 'max_parts' ~ '^[0-9]{1,4}$' THEN (carrier.settings ->> 'max_parts')::integer ELSE 10 END;
	FOR n IN REVERSE LEAST(10, amount) .. 0 LOOP
		SELECT * INTO words FROM crm.digest_text(t.language, c.zone, part.from_at, moment, lines, n, amount);
		body := CASE way WHEN 'email' THEN words.rest ELSE words.head || E'\n' || words.rest END;
		encoding := NULL;
		segments := NULL;
		IF way = 'sms' THEN
			SELECT s.encoding, s.parts INTO encoding, segments FROM crm.sms_segments(body) s;
		END IF;
		EXIT WHEN (segments > max_parts) IS NOT TRUE AND octet_length(body) <= 1048576;
	END LOOP;
	IF segments > max_parts THEN
		PERFORM crm.digest_end($1, $2, 'too long', format('the text takes more than %s parts', max_parts));
		RETURN NULL;
	END IF;
	message := crm.next_message_id();
	INSERT INTO crm.message_body (id, integration_id, lane, channel, recipient, sender, subject, body, language, encoding, segments,
		rule_id, rule_version, template_id, template_version, company_id, contact_id, contact_point_id, zone, quiet_kind, open_until,
		expires_at, depth, sandbox, bytes)
	VALUES (message, carrier.id, r.priority, way, p.value, sender, CASE way WHEN 'email' THEN rtrim(words.head, ':') END, body, t.language, encoding, segments,
		r.id, r.version, t.id, t.version, c.company_id, $2, p.id, c.zone, CASE WHEN r.quiet = 'respect' THEN r.quiet_kind END, hours.until_at,
		moment + r.expires_after, part.depth, crm.mode() = 'sandbox', octet_length(body) + CASE way WHEN 'email' THEN octet_length(words.head) - 1 ELSE 0 END);
	UPDATE crm.digest_item i SET ended_at = moment, message_id = message
	WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at IS NULL AND (i.event_id IN (SELECT m.id FROM unnest(kept) AS m(id))) IS TRUE;
	-- what was left out belongs to the message that left it out
	UPDATE crm.digest_item i SET message_id = message
	WHERE i.rule_id = $1 AND i.contact_id = $2 AND i.ended_at = moment AND i.message_id IS NULL AND (i.event_id IN (SELECT m.id FROM unnest(mine) AS m(id))) IS TRUE;
	RETURN message;
END
$$;
COMMENT ON FUNCTION crm.digest_tell(bigint, bigint) IS
'Tells a reader all that waits for him of a rule with a digest, in one message, and returns its number; NULL: nothing was left to tell, it was put off to his morning, or cannot be told (crm.digest_item.words, crm.message_skip). Asks the truth of each fact. The text: a head with the times, the template filled for each of the first ten facts, one line each, and the number of the rest; fewer lines where an SMS would take more parts than the setting max_parts';

CREATE OR REPLACE FUNCTION crm.digest_due() RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	d record;
	until_ms constant bigint := crm.monotonic_ms() + 3000;
	at timestamptz;
	words text;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	FOR n IN 1 .. 500 LOOP
		SELECT i.rule_id, i.contact_id INTO d FROM crm.digest_item i
		WHERE i.ended_at IS NULL AND i.due_at <= crm.clock() ORDER BY i.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
		EXIT WHEN NOT FOUND;
		BEGIN
			PERFORM crm.digest_tell(d.rule_id, d.contact_id);
		EXCEPTION
			WHEN transaction_rollback OR insufficient_resources OR operator_intervention OR system_error OR lock_not_available THEN
				RAISE;
			WHEN OTHERS OR assert_failure THEN
				GET STACKED DIAGNOSTICS words = MESSAGE_TEXT;
				PERFORM crm.digest_end(d.rule_id, d.contact_id, 'error', words);
		END;
		EXIT WHEN crm.monotonic_ms() > until_ms;
	END LOOP;
	SELECT i.due_at INTO at FROM crm.digest_item i WHERE i.ended_at IS NULL ORDER BY i.due_at LIMIT 1;
	RETURN GREATEST(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 100 END);
END
$$;
COMMENT ON FUNCTION crm.digest_due() IS 'Hook due: tells the digests whose time has come, for about three seconds at most, and says when the next one comes (crm.monotonic_ms). One that fails is ended with the error in crm.message_skip';

CREATE OR REPLACE FUNCTION crm.digest_words(message_id bigint) RETURNS text[]
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT COALESCE(array_agg(CASE WHEN d.n <= 50 THEN format('It tells event %s: %s of %s %s at %s%s.', d.event_id, d.kind, d.object_kind, d.object_id, d.at, COALESCE(' - left out: ' || d.words, ''))
		ELSE format('and %s more', d.amount - 50) END ORDER BY d.n), '{}')
	FROM (SELECT i.event_id, e.kind, i.object_kind, i.object_id, e.at, i.words, row_number() OVER (ORDER BY i.event_id) AS n, count(*) OVER () AS amount
		  FROM crm.digest_item i
		  LEFT JOIN LATERAL (SELECT x.kind, x.at FROM crm.event x WHERE x.id = i.event_id AND x.known_at = i.event_known_at OFFSET 0) e ON true
		  WHERE i.message_id = $1) d
	WHERE d.n <= 51
$$;
COMMENT ON FUNCTION crm.digest_words(bigint) IS 'What crm.why() says of a digest: its events, at most fifty, and which of them were left out';

SELECT crm.register_hook('due', 'digest', 'crm.digest_due');
SELECT crm.register_no_foreign_key('crm.digest_item', c.name, 'written in bulk with the fact; outlives it')
FROM unnest(ARRAY['rule_id', 'object_id', 'contact_id', 'event_id', 'message_id']) AS c(name);
