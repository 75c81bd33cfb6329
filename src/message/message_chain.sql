/*
 * message: what follows a message that failed or was not delivered in time.
 * May be run again at any time.
 *
 * A chain is the first message and those that go in its place, one after the
 * other: crm.message_body.chain_id, follows_id, step.  The unique index on
 * follows_id decides who is first, a report or the deadline.  A row of
 * crm.message_timer is locked by both: the report that ends a message deletes
 * it, the deadline skips rows that are locked.
 *
 * OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.
 */

CREATE OR REPLACE FUNCTION crm.chain_interval(words text) RETURNS interval
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN words::interval;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.chain_interval(text) IS 'A text as an interval; NULL where it is none. Never an error';

CREATE OR REPLACE FUNCTION crm.chain_check(whose text, steps jsonb, event_kind text) RETURNS void
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	s jsonb;
	n integer := 0;
	after interval;
	before_ interval;
	bad text;
	t crm.template%ROWTYPE;
BEGIN
	IF jsonb_typeof(steps) <> 'array' OR jsonb_array_length(steps) NOT BETWEEN 1 AND 5 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the fallback of %s is no list of one to five steps', whose),
			HINT = 'For example ''[{"channel": "email", "template": "arrived", "upon": "not delivered", "after": "15 min"}]''.';
	END IF;
	FOR s IN SELECT x.value FROM jsonb_array_elements(steps) x LOOP
		n := n + 1;
		bad := CASE WHEN jsonb_typeof(s) <> 'object' THEN 'it is no object' ELSE (
			SELECT format('%s is not known', k.key) FROM jsonb_each(s) k
			WHERE k.key <> ALL (ARRAY['upon', 'after', 'channel', 'integration', 'sender', 'if_uncertain']
				|| CASE WHEN event_kind IS NULL THEN ARRAY['recipient', 'body', 'subject'] ELSE ARRAY['template'] END)
				OR jsonb_typeof(k.value) <> 'string' LIMIT 1) END;
		IF bad IS NULL THEN
			after := crm.chain_interval(s ->> 'after');
			bad := CASE
				WHEN s ->> 'channel' IS NULL THEN 'it names no channel'
				WHEN COALESCE(s ->> 'upon', '') NOT IN ('failed', 'not delivered') THEN 'upon is failed or not delivered'
				WHEN COALESCE(s ->> 'if_uncertain', 'hold') NOT IN ('hold', 'next') THEN 'if_uncertain is hold or next'
				WHEN s ->> 'upon' = 'failed' AND s ? 'after' THEN 'after is for not delivered only'
				WHEN s ->> 'upon' = 'not delivered' AND (after BETWEEN '1 minute' AND '31 days') IS NOT TRUE THEN 'after is an interval from a minute to 31 days'
				WHEN s ->> 'upon' = 'not delivered' AND after <= before_ THEN 'after must be longer than that of the step before: it counts from the first message'
				WHEN s ->> 'channel' NOT IN ('sms', 'email', 'telegram') AND NOT EXISTS (SELECT FROM crm.integration_kind k WHERE k.channel = s ->> 'channel') THEN 'its channel is not known'
				WHEN event_kind IS NULL AND (s ->> 'recipient' IS NULL OR s ->> 'recipient' ~ '[[:cntrl:]]' OR length(s ->> 'recipient') > 320) THEN 'it needs a recipient, in one line'
				WHEN event_kind IS NULL AND (COALESCE(crm.message_text(s ->> 'body'), '') = '' OR octet_length(s ->> 'body') > 1048576) THEN 'it needs a body of at most 1 MB'
				WHEN s ->> 'subject' ~ '[[:cntrl:]]' OR length(s ->> 'subject') > 255 THEN 'the subject is one line of at most 255 characters'
				WHEN event_kind IS NOT NULL AND NOT EXISTS (SELECT FROM crm.template x WHERE x.code = s ->> 'template' AND x.channel = s ->> 'channel')
					THEN format('there is no template "%s" for %s', COALESCE(s ->> 'template', ''), s ->> 'channel') END;
			before_ := COALESCE(after, before_);
		END IF;
		IF bad IS NOT NULL THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('step %s of the fallback of %s cannot be done: %s', n, whose, bad), DETAIL = format('The step: %s', s),
				HINT = CASE WHEN event_kind IS NULL THEN 'A step has channel, recipient, body, upon, and if upon is "not delivered" after; perhaps subject, integration, sender, if_uncertain.'
					ELSE 'A step has channel, template, upon, and if upon is "not delivered" after; perhaps integration, sender, if_uncertain.' END;
		END IF;
		IF s ? 'sender' THEN
			PERFORM crm.sender_check(s ->> 'channel', s ->> 'sender');
		END IF;
		IF event_kind IS NULL THEN
			PERFORM CASE s ->> 'channel' WHEN 'sms' THEN crm.phone_e164(s ->> 'recipient') WHEN 'email' THEN crm.email_normal(s ->> 'recipient') END;
		ELSE
			FOR t IN SELECT * FROM crm.template x WHERE x.code = s ->> 'template' AND x.channel = s ->> 'channel' LOOP
				PERFORM crm.template_check(t.code, t.channel, t.language, t.subject, t.body, t.html, event_kind);
			END LOOP;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.chain_check(text, jsonb, text) IS
'Refuses steps of a fallback that could not be done (22023, the step in DETAIL; 42703 unknown variables of its template). event_kind: of the rule; NULL for a message by hand, whose steps carry recipient and body';

CREATE OR REPLACE FUNCTION crm.chain_timer(steps jsonb, step integer) RETURNS TABLE (step smallint, after interval)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
	SELECT s.n::smallint, (s.value ->> 'after')::interval
	FROM jsonb_array_elements($1) WITH ORDINALITY AS s(value, n)
	WHERE s.n > $2 AND s.value ->> 'upon' = 'not delivered'
	ORDER BY s.n LIMIT 1
$$;
COMMENT ON FUNCTION crm.chain_timer(jsonb, integer) IS 'The next step, behind one, that waits for a time, and how long after the first message might leave; no row: none';

CREATE OR REPLACE FUNCTION crm.chain_start(message_id bigint) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT COALESCE(b.not_before, b.queued_at) FROM crm.message_said b WHERE b.id = $1 $$;
COMMENT ON FUNCTION crm.chain_start(bigint) IS 'When a message might leave first: its deadlines count from here';

CREATE OR REPLACE FUNCTION crm.chain_steps(message_id bigint) RETURNS jsonb
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN b.rule_id IS NULL THEN (SELECT f.steps FROM crm.message_fallback f WHERE f.message_id = COALESCE(b.chain_id, b.id))
		ELSE (SELECT v.definition -> 'fallback' FROM crm.rule_version v WHERE v.rule_id = b.rule_id AND v.version = b.rule_version) END
	FROM crm.message_said b WHERE b.id = $1
$$;
COMMENT ON FUNCTION crm.chain_steps(bigint) IS 'The steps of a message''s chain: those of the rule''s version that queued it, or its own; NULL: nothing follows it';

CREATE OR REPLACE FUNCTION crm.chain_skip(message_ids bigint[], number integer, reason text, words text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	INSERT INTO crm.message_skip (rule_id, rule_version, event_id, contact_id, reason, words)
	SELECT b.rule_id, b.rule_version, b.event_id, b.contact_id, $3, format('step %s, in the place of message %s: %s', $2, b.id, $4)
	FROM crm.message_said b WHERE b.id = ANY ($1) AND b.rule_id IS NOT NULL;
	-- one by hand has no rule: its own tries say it
	INSERT INTO crm.message_attempt (message_id, attempt, outcome, integration_id, words)
	SELECT b.id, COALESCE((SELECT max(a.attempt) FROM crm.message_attempt a WHERE a.message_id = b.id), 1), 'report', b.integration_id,
		format('step %s of its chain could not follow: %s', $2, $4)
	FROM crm.message_said b WHERE b.id = ANY ($1) AND b.rule_id IS NULL
$$;
COMMENT ON FUNCTION crm.chain_skip(bigint[], integer, text, text) IS 'Says why a step of a chain could not be queued: in crm.message_skip, of a message by hand among its reports';

CREATE OR REPLACE FUNCTION crm.chain_step(message_ids bigint[], number integer, what jsonb, steps jsonb) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	r crm.rule%ROWTYPE;
	carrier record;
	from_name text;
	max_parts integer;
	defaults jsonb;
	words text;
	timer record;
	done bigint[];
BEGIN
	SELECT u.* INTO r FROM crm.message_said b LEFT JOIN crm.rule u ON u.id = b.rule_id WHERE b.id = message_ids[1];
	SELECT i.id, i.settings INTO carrier FROM crm.integration i WHERE i.id = crm.channel_integration(what ->> 'channel', what ->> 'integration');
	from_name := COALESCE(what ->> 'sender', carrier.settings ->> 'sender');
	words := CASE WHEN carrier.id IS NULL THEN format('no enabled integration%s carries %s', COALESCE(format(' "%s"', what ->> 'integration'), ''), what ->> 'channel') END;
	IF words IS NULL THEN
		BEGIN
			PERFORM crm.sender_check(what ->> 'channel', from_name);
		EXCEPTION WHEN invalid_parameter_value OR null_value_not_allowed THEN
			words := SQLERRM;
		END;
	END IF;
	IF words IS NOT NULL THEN
		PERFORM crm.chain_skip(message_ids, number, CASE WHEN carrier.id IS NULL THEN 'no integration' ELSE 'no sender' END, words);
		RETURN '{}';
	END IF;
	max_parts := CASE WHEN carrier.settings ->> 'max_parts' ~ '^[0-9]{1,4}$' THEN (carrier.settings ->> 'max_parts')::integer ELSE 10 END;
	SELECT t.step, t.after INTO timer FROM crm.chain_timer(steps, number) t;
	SELECT jsonb_object_agg(v.name, NULL) INTO defaults
	FROM crm.event_kind k, unnest(k.variables || crm.person_variables()) AS v(name) WHERE k.kind = r.event_kind;

	WITH prior AS MATERIALIZED (
		SELECT b.*, e.data FROM crm.message_said b
		LEFT JOIN LATERAL (SELECT x.data FROM crm.event x WHERE x.id = b.event_id AND x.known_at = b.event_known_at OFFSET 0) e ON true
		WHERE b.id = ANY (message_ids) AND (b.expires_at IS NULL OR b.expires_at > crm.clock())
			-- the unique index knows the followers that have not moved
			AND NOT EXISTS (SELECT FROM crm.message_history h WHERE h.follows_id = b.id OFFSET 0)
	), reader AS MATERIALIZED (
		SELECT b.id, p.id AS point_id,
			CASE WHEN b.rule_id IS NOT NULL THEN p.value
				ELSE CASE what ->> 'channel' WHEN 'sms' THEN crm.phone_e164(what ->> 'recipient') WHEN 'email' THEN crm.email_normal(what ->> 'recipient') ELSE btrim(what ->> 'recipient') END END AS recipient,
			t.id AS template_id, t.version AS template_version, COALESCE(t.language, b.language) AS language,
			CASE WHEN b.rule_id IS NULL THEN crm.message_text(what ->> 'body') ELSE rtrim(crm.message_text(crm.template_fill(t.body, v.vars)), ' ') END AS body,
			CASE WHEN b.rule_id IS NULL THEN what ->> 'subject' ELSE crm.message_text(crm.template_fill(t.subject, v.vars), true) END AS subject,
			CASE WHEN b.rule_id IS NOT NULL THEN crm.template_fill_html(t.html, v.vars) END AS html
		FROM prior b
		LEFT JOIN LATERAL (SELECT x.id, x.name, x.company_id, x.language, x.archived_at FROM crm.contact x WHERE x.id = b.contact_id OFFSET 0) c ON true
		LEFT JOIN LATERAL (SELECT x.name, x.language FROM crm.company x WHERE x.id = c.company_id OFFSET 0) m ON true
		LEFT JOIN LATERAL (
			SELECT x.id, x.value FROM crm.contact_point x
			WHERE x.contact_id = c.id AND c.archived_at IS NULL AND x.state <> 'invalid'
				AND CASE what ->> 'channel' WHEN 'sms' THEN x.kind = 'phone' AND x.is_mobile ELSE x.kind = what ->> 'channel' END
			ORDER BY x.state = 'verified' DESC, x.state = 'stale', x.id LIMIT 1) p ON b.rule_id IS NOT NULL
		LEFT JOIN LATERAL (
			SELECT x.* FROM crm.template x
			WHERE x.code = what ->> 'template' AND x.channel = what ->> 'channel'
			ORDER BY x.language = COALESCE(c.language, m.language, 'ru') DESC, x.language = COALESCE(m.language, 'ru') DESC,
				x.language = 'ru' DESC, x.language LIMIT 1) t ON b.rule_id IS NOT NULL
		CROSS JOIN LATERAL (SELECT defaults || b.data || jsonb_build_object('contact_name', c.name, 'company_name', m.name) OFFSET 0) AS v(vars)
	), ready AS MATERIALIZED (
		SELECT b.id, x.recipient, x.point_id, x.template_id, x.template_version, x.language, x.body, x.subject, x.html, s.encoding, s.parts,
			o.from_at, o.until_at
		FROM (SELECT f.* FROM reader f WHERE f.recipient IS NOT NULL AND f.body <> '' ORDER BY f.id) x
		JOIN prior b ON b.id = x.id
		LEFT JOIN LATERAL crm.sms_segments(x.body) s ON what ->> 'channel' = 'sms'
		LEFT JOIN LATERAL crm.open_hours(b.quiet_kind, COALESCE(b.zone, current_setting('crm.time_zone')), crm.clock()) o ON b.quiet_kind IS NOT NULL
		WHERE s.parts IS NULL OR s.parts <= max_parts
	), said AS (
		INSERT INTO crm.message_body AS n (integration_id, lane, channel, recipient, sender, subject, body, html, language, encoding, segments,
			rule_id, rule_version, template_id, template_version, event_id, event_known_at, object_kind, object_id, company_id, contact_id,
			contact_point_id, zone, quiet_kind, open_until, not_before, expires_at, depth, sandbox, chain_id, follows_id, step, bytes)
		SELECT carrier.id, CASE WHEN y.from_at > crm.clock() THEN NULL ELSE COALESCE(r.priority, b.lane, 1) END, what ->> 'channel', y.recipient, from_name,
			y.subject, y.body, y.html, y.language, y.encoding, y.parts,
			b.rule_id, b.rule_version, y.template_id, y.template_version, b.event_id, b.event_known_at, b.object_kind, b.object_id, b.company_id, b.contact_id,
			y.point_id, b.zone, b.quiet_kind, y.until_at, CASE WHEN y.from_at > crm.clock() THEN y.from_at END, b.expires_at, b.depth,
			b.sandbox OR crm.mode() = 'sandbox', COALESCE(b.chain_id, b.id), b.id, number,
			octet_length(y.body) + COALESCE(octet_length(y.subject), 0) + COALESCE(octet_length(y.html), 0)
		FROM ready y JOIN prior b ON b.id = y.id
		ORDER BY b.id
		ON CONFLICT (follows_id) WHERE follows_id IS NOT NULL DO NOTHING
		RETURNING n.id, n.follows_id, n.chain_id, n.not_before, n.expires_at, n.rule_id
	), late AS (
		INSERT INTO crm.message_result (message_id, state, words)
		SELECT s.id, 'expired', format('the hour at which it may go, %s, is after its end, %s', s.not_before, s.expires_at)
		FROM said s WHERE s.not_before >= s.expires_at
	), waits AS (
		INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at)
		SELECT s.id, carrier.id, COALESCE(r.priority, 1), s.not_before
		FROM said s WHERE s.not_before IS NOT NULL AND (s.expires_at IS NULL OR s.not_before < s.expires_at)
	), timed AS (
		-- each has a minute of its own at least
		INSERT INTO crm.message_timer (message_id, step, due_at)
		SELECT s.id, timer.step, GREATEST(crm.chain_start(s.chain_id) + timer.after, COALESCE(s.not_before, crm.clock()) + interval '1 minute')
		FROM said s WHERE timer.step IS NOT NULL AND (s.expires_at IS NULL OR COALESCE(s.not_before, crm.clock()) < s.expires_at)
	), skipped AS (
		INSERT INTO crm.message_skip (rule_id, rule_version, event_id, contact_id, reason, words)
		SELECT b.rule_id, b.rule_version, b.event_id, b.contact_id, w.reason, format('step %s, in the place of message %s: %s', number, b.id, w.words)
		FROM reader x JOIN prior b ON b.id = x.id
		CROSS JOIN LATERAL (SELECT CASE WHEN x.recipient IS NULL THEN 'no address' WHEN x.body IS NULL THEN 'no template' WHEN x.body = '' THEN 'empty' ELSE 'too long' END AS reason,
			CASE WHEN x.recipient IS NULL THEN format('contact %s has no usable address for %s', b.contact_id, what ->> 'channel')
				WHEN x.body IS NULL THEN format('template "%s" has no row for %s', what ->> 'template', what ->> 'channel')
				WHEN x.body = '' THEN format('template "%s" gives an empty text', what ->> 'template')
				ELSE format('the text takes more than %s parts', max_parts) END AS words) w
		WHERE b.rule_id IS NOT NULL AND NOT EXISTS (SELECT FROM ready y WHERE y.id = x.id)
	)
	SELECT array_agg(s.follows_id) INTO done FROM said s;
	RETURN COALESCE(done, '{}');
END
$$;
COMMENT ON FUNCTION crm.chain_step(bigint[], integer, jsonb, jsonb) IS
'Queues one step of a chain in the place of messages of one rule (or of one by hand), in one statement; returns those of them that it follows. What cannot be queued is a row in crm.message_skip; one whose time is over is followed by nothing';

CREATE OR REPLACE FUNCTION crm.chain_go(message_ids bigint[], from_steps integer[], late boolean) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
	g record;
	s jsonb;
	left_ bigint[];
	done bigint[];
	followed bigint[] := '{}';
	words text;
BEGIN
	FOR g IN
		SELECT b.rule_id, b.rule_version, CASE WHEN b.rule_id IS NULL THEN b.id END AS alone, f.step, array_agg(b.id ORDER BY b.id) AS ids, crm.chain_steps(min(b.id)) AS steps
		FROM unnest($1, $2) AS f(id, step)
		CROSS JOIN LATERAL (SELECT x.id, x.rule_id, x.rule_version FROM crm.message_said x WHERE x.id = f.id OFFSET 0) b
		GROUP BY 1, 2, 3, 4 ORDER BY min(b.id)
	LOOP
		CONTINUE WHEN g.steps IS NULL;
		left_ := g.ids;
		FOR n IN g.step .. jsonb_array_length(g.steps) LOOP
			s := g.steps -> (n - 1);
			EXIT WHEN late AND n > g.step AND s ->> 'upon' = 'not delivered';		-- its own hour is still to come
			CONTINUE WHEN late AND s ->> 'upon' = 'failed';
			BEGIN
				done := crm.chain_step(left_, n, s, g.steps);
			EXCEPTION
				WHEN transaction_rollback OR insufficient_resources OR operator_intervention OR system_error OR lock_not_available THEN
					RAISE;
				WHEN OTHERS OR assert_failure THEN
					GET STACKED DIAGNOSTICS words = MESSAGE_TEXT;
					done := '{}';
					PERFORM crm.chain_skip(left_, n, 'error', words);
			END;
			followed := followed || done;
			SELECT COALESCE(array_agg(l.id), '{}') INTO left_ FROM unnest(left_) AS l(id) WHERE l.id <> ALL (done);
			EXIT WHEN cardinality(left_) = 0;
		END LOOP;
	END LOOP;
	RETURN followed;
END
$$;
COMMENT ON FUNCTION crm.chain_go(bigint[], integer[], boolean) IS
'Has messages followed by the next step of their chains that can be done, from a step of each on; late: by a step whose hour has come, else by any. Returns those that are followed. What cannot be done is a row in crm.message_skip, never an error of the report';

CREATE OR REPLACE FUNCTION crm.chain_stop(message_ids bigint[], words text[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
	DELETE FROM crm.message_delayed d WHERE d.message_id = ANY ($1);
	INSERT INTO crm.message_stop (message_id) SELECT m.id FROM unnest($1) AS m(id) ON CONFLICT DO NOTHING;
	INSERT INTO crm.message_result (message_id, state, words)
	SELECT m.id, 'cancelled', m.words FROM unnest($1, $2) AS m(id, words)
	WHERE NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = m.id OFFSET 0)
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.chain_stop(bigint[], text[]) IS 'Cancels messages that have not left, under the lock of crm.chain_shut()';

CREATE OR REPLACE FUNCTION crm.chain_shut(message_ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
	i bigint;
BEGIN
	FOR i IN SELECT DISTINCT b.integration_id FROM crm.message_body b WHERE b.id = ANY ($1) ORDER BY 1 LOOP
		PERFORM pg_advisory_xact_lock(hashtext('crm.outbox_take'), hashint8(i));
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.chain_shut(bigint[]) IS 'Keeps the couriers from claiming messages of these ones'' integrations until the transaction ends: what has not left by now does not leave';

CREATE OR REPLACE FUNCTION crm.message_chain() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
	ids bigint[];
	steps integer[];
	words text[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	IF EXISTS (SELECT FROM crm.message_timer) THEN
		-- first: a deadline that holds the row is waited for
		DELETE FROM crm.message_timer t WHERE t.message_id = ANY (ARRAY(SELECT f.message_id FROM fresh f));
	END IF;
	IF EXISTS (SELECT FROM fresh f WHERE f.state IN ('failed', 'undelivered')) THEN
		SELECT array_agg(b.id ORDER BY b.id), array_agg(COALESCE(b.step, 0) + 1 ORDER BY b.id) INTO ids, steps
		FROM fresh f
		CROSS JOIN LATERAL (SELECT x.id, x.step FROM crm.message_said x WHERE x.id = f.message_id OFFSET 0) b
		WHERE f.state IN ('failed', 'undelivered') AND crm.chain_steps(b.id) IS NOT NULL;
		IF ids IS NOT NULL THEN
			PERFORM crm.chain_go(ids, steps, false);
		END IF;
	END IF;
	SELECT array_agg(b.id) INTO ids
	FROM fresh f CROSS JOIN LATERAL (SELECT x.id FROM crm.message_body x WHERE x.follows_id = f.message_id OFFSET 0) b WHERE f.state = 'delivered';
	IF ids IS NOT NULL THEN
		-- it arrived after all: what follows it and has not left need not
		PERFORM crm.chain_shut(ids);
		SELECT array_agg(m.id), array_agg(format('message %s arrived after all', m.follows_id)) INTO ids, words
		FROM unnest(ids) AS f(id)
		CROSS JOIN LATERAL (SELECT x.id, x.follows_id, x.state FROM crm.message x WHERE x.id = f.id OFFSET 0) m
		WHERE m.state = 'queued'
			AND NOT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = m.id AND a.outcome IN ('sent', 'uncertain') OFFSET 0);
		IF ids IS NOT NULL THEN
			PERFORM crm.chain_stop(ids, words);
		END IF;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.message_chain() IS
'Statement trigger on crm.message_result: a message that failed or was not delivered is followed by the next step of its chain in the same transaction; one that arrived late calls back what follows it and has not left. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.chain_due() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
	due bigint[];
	steps integer[];
	followed bigint[];
	ids bigint[];
	words text[];
	moment timestamptz := crm.clock();
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN;
	END IF;
	SELECT array_agg(t.message_id) INTO due
	FROM (SELECT x.message_id FROM crm.message_timer x WHERE x.due_at <= moment ORDER BY x.due_at, x.message_id LIMIT 500 FOR UPDATE SKIP LOCKED) t;
	IF due IS NULL THEN
		RETURN;
	END IF;
	PERFORM crm.chain_shut(due);
	-- From here on, with a fresh look, nothing of them leaves.
	DELETE FROM crm.message_timer t WHERE t.message_id = ANY (due) AND EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = t.message_id OFFSET 0);
	-- on the wire just now, or nobody knows whether it left: later
	UPDATE crm.message_timer t SET due_at = moment + CASE m.state WHEN 'sending' THEN interval '10 seconds' ELSE interval '1 minute' END
	FROM (SELECT x.message_id, x.step, (SELECT v.state FROM crm.message v WHERE v.id = x.message_id) AS state
		  FROM crm.message_timer x WHERE x.message_id = ANY (due) OFFSET 0) m	-- asked of these, not of all messages
	WHERE t.message_id = ANY (ARRAY[m.message_id])
		AND (m.state = 'sending' OR COALESCE(crm.chain_steps(m.message_id) -> (m.step - 1) ->> 'if_uncertain', 'hold') = 'hold'
			AND (m.state = 'uncertain' OR m.state = 'queued' AND EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = m.message_id AND a.outcome IN ('sent', 'uncertain') OFFSET 0)));
	SELECT array_agg(t.message_id ORDER BY t.message_id), array_agg(t.step::integer ORDER BY t.message_id) INTO due, steps
	FROM crm.message_timer t WHERE t.message_id = ANY (due) AND t.due_at <= moment;
	IF due IS NULL THEN
		RETURN;
	END IF;
	followed := crm.chain_go(due, steps, true);
	DELETE FROM crm.message_timer t WHERE t.message_id = ANY (followed);
	SELECT array_agg(m.id), array_agg(format('not delivered in time: message %s goes in its place', n.id)) INTO ids, words
	FROM unnest(followed) AS f(id)
	CROSS JOIN LATERAL (SELECT x.id, x.state FROM crm.message x WHERE x.id = f.id OFFSET 0) m
	CROSS JOIN LATERAL (SELECT x.id FROM crm.message_said x WHERE x.follows_id = m.id OFFSET 0) n
	WHERE m.state = 'queued';
	IF ids IS NOT NULL THEN
		PERFORM crm.chain_stop(ids, words);
	END IF;
	-- what could not be followed waits for the next hour of its chain, if there is one
	UPDATE crm.message_timer t SET step = n.step, due_at = GREATEST(crm.chain_start(COALESCE(n.chain_id, n.id)) + n.after, moment + interval '1 minute')
	FROM (SELECT x.message_id AS id, b.chain_id, y.step, y.after
		  FROM crm.message_timer x
		  CROSS JOIN LATERAL (SELECT z.chain_id FROM crm.message_body z WHERE z.id = x.message_id OFFSET 0) b
		  CROSS JOIN LATERAL crm.chain_timer(crm.chain_steps(x.message_id), x.step) y
		  WHERE x.message_id = ANY (due)) n
	WHERE t.message_id = ANY (ARRAY[n.id]);
	DELETE FROM crm.message_timer t WHERE t.message_id = ANY (due) AND t.due_at <= moment;
END
$$;
COMMENT ON FUNCTION crm.chain_due() IS
'The courier''s housekeeping: messages that were not delivered within the time of their chain are followed by its next step, at most 500 a call; one that has not left is cancelled. One on the wire is looked at again in ten seconds; one that may have left and got no answer in a minute, as long as the step says if_uncertain hold';

CREATE OR REPLACE FUNCTION crm.chain_words(message_id bigint) RETURNS text[]
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
	SELECT COALESCE(array_agg(l.words ORDER BY l.n, l.id), '{}')
	FROM (
		-- by single numbers: no join reaches into a view that is a security barrier
		SELECT 1 AS n, m.id, format('Step %s of its chain: in the place of message %s, %s to %s, which is %s%s%s.', (SELECT b.step FROM crm.message_said b WHERE b.id = $1), m.id, m.channel, m.recipient, m.state,
			COALESCE(' (' || m.last_error || ')', ''), CASE m.state WHEN 'sent' THEN ', no report of delivery came in time'
				WHEN 'uncertain' THEN '; the step says that it follows all the same' ELSE '' END) AS words
		FROM crm.message m WHERE m.id = (SELECT b.follows_id FROM crm.message_said b WHERE b.id = $1)
		UNION ALL
		SELECT 2, m.id, format('Message %s follows it, step %s of its chain: %s to %s, %s.', m.id, m.step, m.channel, m.recipient, m.state)
		FROM crm.message m WHERE m.id = (SELECT b.id FROM crm.message_said b WHERE b.follows_id = $1 LIMIT 1)
		UNION ALL
		SELECT 3, t.message_id, format('If no report of delivery comes by %s, step %s follows: %s.', t.due_at, t.step, crm.chain_steps(t.message_id) -> (t.step - 1) ->> 'channel')
		FROM crm.message_timer t WHERE t.message_id = $1
		UNION ALL
		SELECT 4, s.id, format('Could not be followed: %s.', s.words)
		FROM crm.message_said b JOIN crm.message_skip s ON s.event_id = b.event_id AND s.contact_id = b.contact_id AND s.rule_id = b.rule_id
		WHERE b.id = $1 AND s.words LIKE format('step _, in the place of message %s:%%', b.id)
	) l
$$;
COMMENT ON FUNCTION crm.chain_words(bigint) IS 'What crm.why() says of the chain: in whose place a message goes, what follows it, or will when';
