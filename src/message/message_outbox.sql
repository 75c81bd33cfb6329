/*
 * message: the outbox, seen from the courier.  May be run again at any time.
 *
 * queue.c keeps the watermark, the ids that were read ahead and those that are
 * leased in the memory of the process that claims; what it needs of the tables
 * it asks of the queue_* functions here.  All of it can be rebuilt from them.
 *
 * OFFSET 0 keeps a look-up a look-up whatever the statistics say.  A table that
 * was vacuumed while nothing lived in it has one row for the planner until it
 * is analysed again, and a join begins with the smaller side: it would read the
 * whole table for each number that is looked for.  The same reason has a DELETE
 * take an array, and an UPDATE write = ANY (ARRAY[x]): no index is read in the
 * order of that.
 */

-- What queue.c asks ------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.queue_load(integration_id bigint) RETURNS TABLE (lane smallint, watermark bigint, taken bigint[])
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	WITH lanes AS MATERIALIZED (
		SELECT l.lane::smallint AS lane, COALESCE(c.watermark, 0) AS watermark
		FROM generate_series(0, 2) AS l(lane)
		LEFT JOIN crm.message_cursor c ON c.integration_id = $1 AND c.lane = l.lane
	), low AS (
		SELECT min(l.watermark) AS mark FROM lanes l
	)
	-- asked of what was claimed, not of what waits: a backlog of a million costs nothing here
	SELECT l.lane, l.watermark,
		(SELECT array_agg(DISTINCT t.id) FROM (
			SELECT generate_series(GREATEST(lower(span), (SELECT mark FROM low) + 1), upper(span) - 1) AS id
			FROM crm.message_lease s CROSS JOIN LATERAL unnest(s.ids) AS span WHERE s.integration_id = $1
			UNION ALL SELECT a.message_id FROM crm.message_attempt a WHERE a.message_id > (SELECT mark FROM low) AND a.integration_id = $1
			UNION ALL SELECT r.message_id FROM crm.message_result r WHERE r.message_id > (SELECT mark FROM low)
			UNION ALL SELECT d.message_id FROM crm.message_delayed d WHERE d.integration_id = $1
			UNION ALL SELECT f.message_id FROM crm.message_flight f WHERE f.integration_id = $1) t
		 WHERE t.id > (SELECT mark FROM low) AND l.lane = 0)
	FROM lanes l
	ORDER BY l.lane
$$;
COMMENT ON FUNCTION crm.queue_load(bigint) IS 'The lanes of an integration: their watermarks, and in the first row the numbers above the lowest one that were claimed already, of whichever lane';

CREATE OR REPLACE FUNCTION crm.queue_read(integration_id bigint, lane integer, after_id bigint, amount integer)
RETURNS TABLE (id bigint, expires_at timestamptz, open_until timestamptz, rule_id bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	-- what was queued in the sandbox is looked at twice: as if its hours were over
	SELECT b.id, b.expires_at, CASE WHEN b.sandbox THEN '-infinity' ELSE b.open_until END, b.rule_id
	FROM crm.message_body b
	-- as rows, so that no plan goes by the number alone and passes over what others carry
	WHERE (b.integration_id, b.lane, b.id) > ($1, $2::smallint, $3) AND (b.integration_id, b.lane) <= ($1, $2::smallint) AND b.lane IS NOT NULL
	ORDER BY b.integration_id, b.lane, b.id LIMIT $4;
END
$$;
COMMENT ON FUNCTION crm.queue_read(bigint, integer, bigint, integer) IS 'The messages of a lane above an id, in order; a fresh snapshot each time';

CREATE OR REPLACE FUNCTION crm.queue_read_delayed(integration_id bigint, after_at timestamptz, after_id bigint, amount integer)
RETURNS TABLE (id bigint, expires_at timestamptz, open_until timestamptz, rule_id bigint, attempt integer, due_at timestamptz)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	WITH due AS (
		SELECT d.message_id FROM crm.message_delayed d
		WHERE d.integration_id = $1 AND (d.due_at, d.message_id) > ($2, $3) AND d.due_at <= crm.clock()
		ORDER BY d.due_at, d.message_id LIMIT $4
	), gone AS (
		DELETE FROM crm.message_delayed d WHERE d.message_id = ANY (ARRAY(SELECT due.message_id FROM due)) RETURNING d.message_id, d.due_at
	)
	-- its hours were computed for this moment; if the queue is late they are computed again
	SELECT b.id, b.expires_at, CASE WHEN b.sandbox OR b.quiet_kind IS NOT NULL THEN '-infinity'::timestamptz END, b.rule_id,
		COALESCE((SELECT max(a.attempt) FROM crm.message_attempt a WHERE a.message_id = b.id AND a.outcome <> 'report'), 0) + 1, gone.due_at
	FROM gone
	CROSS JOIN LATERAL (SELECT x.id, x.expires_at, x.sandbox, x.quiet_kind, x.rule_id FROM crm.message_body x WHERE x.id = gone.message_id OFFSET 0) b
	ORDER BY b.id;
END
$$;
COMMENT ON FUNCTION crm.queue_read_delayed(bigint, timestamptz, bigint, integer) IS 'Takes messages whose hour has come out of crm.message_delayed, behind a place in the order of their hours; they are leased or ended in the same transaction';

CREATE OR REPLACE VIEW crm.message_flight AS
	SELECT f.message_id, f.integration_id, f.attempt, f.due_ms, f.turn,
		EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = f.message_id AND a.attempt >= f.attempt AND a.outcome <> 'report' OFFSET 0)
			OR EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = f.message_id OFFSET 0)
			OR NOT EXISTS (SELECT FROM crm.message_body b WHERE b.id = f.message_id OFFSET 0) AS spent
	FROM (
		SELECT x.message_id, x.integration_id, x.attempt, x.due_ms, 0 AS turn FROM crm.message_flight_0 x
		UNION ALL
		SELECT x.message_id, x.integration_id, x.attempt, x.due_ms, 1 FROM crm.message_flight_1 x) f;
COMMENT ON VIEW crm.message_flight IS 'Messages that wait for another try: both tables as one';
COMMENT ON COLUMN crm.message_flight.message_id IS 'Message (crm.message.id)';
COMMENT ON COLUMN crm.message_flight.integration_id IS 'Integration that carries it (crm.integration.id)';
COMMENT ON COLUMN crm.message_flight.attempt IS 'Number of the try that is to come';
COMMENT ON COLUMN crm.message_flight.due_ms IS 'When it is due, milliseconds of crm.monotonic_ms()';
COMMENT ON COLUMN crm.message_flight.turn IS 'Which of the two tables: 0 or 1';
COMMENT ON COLUMN crm.message_flight.spent IS 'Whether that try was made, or the message has ended, or has moved to its history; for ever so once it is';

CREATE OR REPLACE FUNCTION crm.queue_read_retries(integration_id bigint, after_ms bigint, after_id bigint, upto_ms bigint, amount integer)
RETURNS TABLE (id bigint, expires_at timestamptz, open_until timestamptz, rule_id bigint, attempt integer, due_ms bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
	-- a message that ended long ago may have moved to its history: its row is spent, and counts
	SELECT f.message_id, b.expires_at, CASE WHEN b.sandbox THEN '-infinity' ELSE b.open_until END, b.rule_id, f.attempt, f.due_ms
	FROM (
		(SELECT x.message_id, x.attempt, x.due_ms FROM crm.message_flight_0 x
		 WHERE x.integration_id = $1 AND (x.due_ms, x.message_id) > ($2, $3) AND x.due_ms <= $4 ORDER BY x.due_ms, x.message_id LIMIT $5)
		UNION ALL
		(SELECT x.message_id, x.attempt, x.due_ms FROM crm.message_flight_1 x
		 WHERE x.integration_id = $1 AND (x.due_ms, x.message_id) > ($2, $3) AND x.due_ms <= $4 ORDER BY x.due_ms, x.message_id LIMIT $5)
		ORDER BY due_ms, message_id LIMIT $5
	) f
	LEFT JOIN LATERAL (SELECT x.expires_at, x.sandbox, x.open_until, x.rule_id FROM crm.message_body x WHERE x.id = f.message_id OFFSET 0) b ON true
	ORDER BY f.due_ms, f.message_id;
END
$$;
COMMENT ON FUNCTION crm.queue_read_retries(bigint, bigint, bigint, bigint, integer) IS
'Rows of crm.message_flight that are due, after the last one that was read; spent ones too: crm.queue_waiting_tries() tells them apart';

CREATE OR REPLACE FUNCTION crm.queue_waiting_tries(integration_id bigint, message_ids bigint[], attempts integer[]) RETURNS boolean[]
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT array_agg(EXISTS (SELECT FROM crm.message_flight f WHERE f.message_id = t.id AND f.attempt = t.attempt AND NOT f.spent OFFSET 0)
		AND NOT EXISTS (SELECT FROM crm.message_delayed d WHERE d.message_id = t.id OFFSET 0)
		AND NOT EXISTS (SELECT FROM crm.message_lease l WHERE l.integration_id = $1 AND l.ids @> t.id
			AND NOT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = t.id AND a.lease_id = l.id OFFSET 0)) ORDER BY t.n)
	FROM unnest($2, $3) WITH ORDINALITY AS t(id, attempt, n)
$$;
COMMENT ON FUNCTION crm.queue_waiting_tries(bigint, bigint[], integer[]) IS 'For each message and try: whether it still waits to be made, waits for no hour, and is in nobody''s hands';

CREATE OR REPLACE FUNCTION crm.queue_open(integration_id bigint) RETURNS TABLE (lease_id bigint, message_id bigint, attempt integer)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT l.id, b.id, COALESCE((SELECT max(a.attempt) FROM crm.message_attempt a WHERE a.message_id = b.id AND a.outcome <> 'report'), 0) + 1
	FROM crm.message_lease l
	CROSS JOIN LATERAL unnest(l.ids) AS span
	CROSS JOIN LATERAL (SELECT x.id FROM crm.message_body x WHERE x.id >= lower(span) AND x.id < upper(span) OFFSET 0) b
	WHERE l.integration_id = $1 AND crm.process_is_me(l.pid, l.started)
		AND NOT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = b.id AND a.lease_id = l.id OFFSET 0)
$$;
COMMENT ON FUNCTION crm.queue_open(bigint) IS 'Messages of an integration that this process has leased and not settled';

-- queue.c ------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.process_is_me(pid integer, started bigint) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS '$libdir/crm', 'crm_message_process_is_me';
COMMENT ON FUNCTION crm.process_is_me(integer, bigint) IS 'Whether a lease belongs to this very process';

CREATE OR REPLACE FUNCTION crm.process_lives(pid integer, started bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS '$libdir/crm', 'crm_message_process_lives';
COMMENT ON FUNCTION crm.process_lives(integer, bigint) IS 'Whether the process that took a lease still runs: the same number and the same start';

CREATE OR REPLACE FUNCTION crm.process_started() RETURNS bigint
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS '$libdir/crm', 'crm_message_process_started';
COMMENT ON FUNCTION crm.process_started() IS 'When this process started, microseconds since 2000-01-01, real time';

CREATE OR REPLACE FUNCTION crm.id_ranges(ids bigint[]) RETURNS int8multirange
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm', 'crm_message_id_ranges';
COMMENT ON FUNCTION crm.id_ranges(bigint[]) IS 'A list of numbers as ranges: neighbours are joined';

CREATE OR REPLACE FUNCTION crm.queue_pick(integration_id bigint, capacity integer, OUT ids bigint[], OUT attempts integer[],
	OUT expired bigint[], OUT closed bigint[], OUT rules bigint[], OUT watermarks bigint[]) RETURNS record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS '$libdir/crm', 'crm_message_queue_pick';
COMMENT ON FUNCTION crm.queue_pick(bigint, integer) IS
'The next messages of an integration, at most capacity: lane 2, then due retries and delayed ones, then lanes 1 and 0. expired, closed: those of them whose time is over, or whose reader''s hours are; rules: rules of theirs; watermarks: of the lanes 0, 1, 2, NULL where it did not move';

CREATE OR REPLACE FUNCTION crm.queue_leased(integration_id bigint, lease_id bigint, ids bigint[], attempts integer[]) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/crm', 'crm_message_queue_leased';
COMMENT ON FUNCTION crm.queue_leased(bigint, bigint, bigint[], integer[]) IS 'Tells the queue in memory which messages a lease holds';

CREATE OR REPLACE FUNCTION crm.queue_settled(integration_id bigint, ids bigint[], OUT attempts integer[], OUT leases bigint[], OUT done bigint[]) RETURNS record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS '$libdir/crm', 'crm_message_queue_settled';
COMMENT ON FUNCTION crm.queue_settled(bigint, bigint[]) IS
'Takes messages out of the leases in memory: their tries and leases (NULL for one that is not in this process''s hands), and the leases of which nothing is left';

CREATE OR REPLACE FUNCTION crm.queue_retry_from(integration_id bigint, OUT after_ms bigint, OUT after_id bigint, OUT delayed_at timestamptz) RETURNS record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/crm', 'crm_message_queue_retry_from';
COMMENT ON FUNCTION crm.queue_retry_from(bigint) IS 'Up to where this process has read the retries of an integration, and its delayed messages';

CREATE OR REPLACE FUNCTION crm.queue_forget() RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS '$libdir/crm', 'crm_message_queue_forget';
COMMENT ON FUNCTION crm.queue_forget() IS 'Has this process read its queues from the tables again';

-- Taking ---------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.message_end(message_ids bigint[], state text, words text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	INSERT INTO crm.message_result (message_id, state, words)
	SELECT m.id, $2, $3 FROM unnest($1) AS m(id)
	WHERE NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = m.id OFFSET 0)
	ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION crm.message_end(bigint[], text, text) IS 'Ends messages that were not sent: expired or cancelled, with the reason';

CREATE OR REPLACE FUNCTION crm.rule_untrue(rule_id bigint, message_ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	truth text;
	gone bigint[];
BEGIN
	SELECT r.truth INTO truth FROM crm.rule r WHERE r.id = $1;
	IF truth IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(m.id ORDER BY m.id) INTO gone
	FROM unnest($2) AS m(id)
	CROSS JOIN LATERAL (SELECT x.event_id, x.event_known_at FROM crm.message_body x WHERE x.id = m.id AND x.rule_id = $1 OFFSET 0) b
	CROSS JOIN LATERAL (SELECT crm.expression_holds(truth, x) AS holds FROM crm.event x WHERE x.id = b.event_id AND x.known_at = b.event_known_at OFFSET 0) e
	WHERE e.holds IS NOT TRUE;
	RETURN gone;
END
$$;
COMMENT ON FUNCTION crm.rule_untrue(bigint, bigint[]) IS 'Those messages of a rule whose truth does not hold (any more), asked in one statement; NULL: all hold';

CREATE OR REPLACE FUNCTION crm.sandbox_address(integration_id bigint) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN (SELECT COALESCE(i.settings ->> 'sandbox_recipient', (SELECT min(s.value) FROM crm.sandbox_recipient s WHERE s.channel = k.channel))
		FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1);
END
$$;
COMMENT ON FUNCTION crm.sandbox_address(bigint) IS 'Where messages of an integration go in the mode sandbox; NULL: nowhere, they wait';

CREATE OR REPLACE FUNCTION crm.sandbox_html(html text, recipient text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN $1 ~* '<body[\s>]' THEN regexp_replace($1, '(<body(?:\s[^>]*)?>)', '\1' || replace(m.mark, '\', '\\'), 'i') ELSE m.mark || $1 END
	FROM (SELECT '<p>[sandbox: ' || replace(replace(replace($2, '&', '&amp;'), '<', '&lt;'), '>', '&gt;') || ']</p>' AS mark) AS m
$$;
COMMENT ON FUNCTION crm.sandbox_html(text, text) IS 'The html part of a letter with a first line that says whose it was, in a fragment and in a whole page; NULL stays NULL';

CREATE OR REPLACE FUNCTION crm.outbox_take(integration_id bigint, capacity integer)
RETURNS TABLE (message_id bigint, attempt integer, recipient text, sender text, subject text, body text, html text, language text,
	encoding text, segments integer, expires_at timestamptz, message_header_id text)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	mode text := crm.mode();
	p record;
	gone bigint[];
	moved bigint[];
	tries integer[];
	live bigint[];
	rule bigint;
	lease bigint;
	test_address text;
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF mode = 'off' OR NOT crm.guard() OR COALESCE($2, 0) <= 0 THEN
		RETURN;
	END IF;
	test_address := crm.sandbox_address($1);
	IF mode = 'sandbox' AND test_address IS NULL THEN
		RETURN;							-- crm.health says so
	END IF;
	-- whoever cancels a message that may have been read ahead waits here, and the next claim sees it
	PERFORM pg_advisory_xact_lock_shared(hashtext('crm.outbox_take'), hashint8($1));
	SELECT * INTO p FROM crm.queue_pick($1, LEAST($2, 10000));
	live := p.ids;
	tries := p.attempts;
	IF EXISTS (SELECT FROM crm.message_stop) THEN
		SELECT array_agg(s.message_id) INTO gone FROM crm.message_stop s WHERE s.message_id = ANY (live);
	END IF;

	-- What may not go any more ends here, in words.
	IF p.expired IS NOT NULL THEN
		PERFORM crm.message_end(p.expired, 'expired', 'its time was over before it could be sent');
		gone := gone || p.expired;
	END IF;
	IF p.rules IS NOT NULL AND cardinality(live) > 0 THEN
		FOREACH rule IN ARRAY p.rules LOOP
			moved := crm.rule_untrue(rule, live);
			IF moved IS NOT NULL THEN
				PERFORM crm.message_end(moved, 'cancelled', (SELECT format('no longer true: %s', r.truth) FROM crm.rule r WHERE r.id = rule));
				gone := gone || moved;
			END IF;
		END LOOP;
	END IF;
	IF p.closed IS NOT NULL AND test_address IS NULL THEN
		SELECT array_agg(b.id) INTO moved FROM crm.message_body b WHERE b.id = ANY (p.closed) AND b.sandbox AND b.id <> ALL (COALESCE(gone, '{}'));
		IF moved IS NOT NULL THEN
			PERFORM crm.message_end(moved, 'cancelled', 'queued in the mode sandbox, and no test recipient is named');
			gone := gone || moved;
		END IF;
	END IF;
	-- The reader's hours ended while it waited: until they open again.
	IF p.closed IS NOT NULL THEN
		WITH shut AS MATERIALIZED (
			SELECT b.id, b.expires_at, b.quiet_kind, b.zone, COALESCE(b.lane, r.priority, 1) AS lane
			FROM crm.message_body b LEFT JOIN crm.rule r ON r.id = b.rule_id
			WHERE b.id = ANY (p.closed) AND b.id <> ALL (COALESCE(gone, '{}')) AND b.quiet_kind IS NOT NULL
		), late AS MATERIALIZED (
			SELECT b.id, b.expires_at, o.from_at, b.lane
			FROM (SELECT DISTINCT s.quiet_kind, s.zone FROM shut s) z
			CROSS JOIN LATERAL crm.open_hours(z.quiet_kind, z.zone, crm.clock()) o
			JOIN shut b ON b.quiet_kind = z.quiet_kind AND b.zone = z.zone
			WHERE o.from_at > crm.clock()
		), ended AS (
			INSERT INTO crm.message_result (message_id, state, words)
			SELECT l.id, 'expired', format('the hour at which it may go, %s, is after its end, %s', l.from_at, l.expires_at)
			FROM late l WHERE l.from_at >= l.expires_at
		), waits AS (
			INSERT INTO crm.message_delayed AS d (message_id, integration_id, lane, due_at)
			SELECT l.id, $1, l.lane, l.from_at FROM late l WHERE l.expires_at IS NULL OR l.from_at < l.expires_at
			ON CONFLICT (message_id) DO UPDATE SET due_at = excluded.due_at
		)
		SELECT array_agg(l.id) INTO moved FROM late l;
		gone := gone || moved;
	END IF;
	IF gone IS NOT NULL THEN
		SELECT array_agg(t.id ORDER BY t.n), array_agg(t.attempt ORDER BY t.n) INTO live, tries
		FROM unnest(live, tries) WITH ORDINALITY AS t(id, attempt, n) WHERE t.id <> ALL (gone);
	END IF;

	IF p.watermarks IS NOT NULL THEN
		INSERT INTO crm.message_cursor AS c (integration_id, lane, watermark)
		SELECT $1, w.n - 1, w.mark FROM unnest(p.watermarks) WITH ORDINALITY AS w(mark, n) WHERE w.mark IS NOT NULL
		ON CONFLICT (integration_id, lane) DO UPDATE SET watermark = excluded.watermark
		WHERE c.watermark < excluded.watermark;
	END IF;
	IF live IS NULL OR cardinality(live) = 0 THEN
		RETURN;
	END IF;

	INSERT INTO crm.message_lease AS l (integration_id, ids, pid, started)
	VALUES ($1, crm.id_ranges(live), pg_backend_pid(), crm.process_started())
	RETURNING l.id INTO lease;
	PERFORM crm.queue_leased($1, lease, live, tries);

	RETURN QUERY
	SELECT b.id, t.attempt,
		CASE WHEN mode = 'sandbox' OR b.sandbox THEN test_address ELSE b.recipient END,
		b.sender,
		CASE WHEN (mode = 'sandbox' OR b.sandbox) AND b.subject IS NOT NULL THEN '[sandbox] ' || b.subject ELSE b.subject END,
		CASE WHEN mode = 'sandbox' OR b.sandbox THEN '[sandbox: ' || b.recipient || '] ' || b.body ELSE b.body END,
		CASE WHEN mode = 'sandbox' OR b.sandbox THEN crm.sandbox_html(b.html, b.recipient) ELSE b.html END,
		b.language, b.encoding, b.segments, b.expires_at,
		CASE WHEN b.channel = 'email' THEN
			format('crm.%s.%s@%s', b.id, left(md5(b.id || b.recipient || b.queued_at::text), 12),
				COALESCE(substring(b.sender from '@([A-Za-z0-9.-]+)'), 'crm.invalid')) END
	FROM unnest(live, tries) WITH ORDINALITY AS t(id, attempt, n)
	CROSS JOIN LATERAL (SELECT x.* FROM crm.message_body x WHERE x.id = t.id OFFSET 0) b
	ORDER BY t.n;
END
$$;
COMMENT ON FUNCTION crm.outbox_take(bigint, integer) IS
'Leases the next messages of an integration, at most capacity, and returns them: for the next function of a channel''s kind. Expired, untrue and sleeping ones are sorted out first. Nothing in the mode off; in sandbox the recipient is a test recipient and the text says whose it was. The lease is durable when the transaction commits';

-- Settling -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.message_events(kind text, message_ids bigint[], words text[]) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, cause_id, data, source, source_id)
	SELECT $1, 'message', b.id, b.company_id, crm.now(), b.event_id,
		jsonb_build_object('rule', r.code, 'channel', b.channel, 'recipient', b.recipient, 'body', b.body, 'words', m.words),
		'message', b.id::text || CASE $1 WHEN 'message.failed' THEN '' ELSE ' ok' END
	FROM unnest($2, $3) AS m(id, words)
	CROSS JOIN LATERAL (SELECT x.id, x.company_id, x.event_id, x.channel, x.recipient, x.body, x.rule_id FROM crm.message_said x WHERE x.id = m.id OFFSET 0) b
	LEFT JOIN crm.rule r ON r.id = b.rule_id
$$;
COMMENT ON FUNCTION crm.message_events(text, bigint[], text[]) IS 'Emits message.delivered or message.failed for messages';

CREATE OR REPLACE FUNCTION crm.flight_add(integration_id bigint, message_ids bigint[], attempts integer[], due_ms bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM crm.message_flight_turn t WHERE t.turn = 1) THEN
		INSERT INTO crm.message_flight_1 (integration_id, message_id, attempt, due_ms)
		SELECT $1, t.id, t.attempt, t.due FROM unnest($2, $3, $4) AS t(id, attempt, due);
	ELSE
		INSERT INTO crm.message_flight_0 (integration_id, message_id, attempt, due_ms)
		SELECT $1, t.id, t.attempt, t.due FROM unnest($2, $3, $4) AS t(id, attempt, due);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.flight_add(bigint, bigint[], integer[], bigint[]) IS 'Puts messages back for another try at a time of crm.monotonic_ms()';

CREATE OR REPLACE FUNCTION crm.outbox_result(integration_id bigint, message_ids bigint[], outcomes text[], provider_ids text[], words text[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	p record;
	settings jsonb;
	most integer;
	base_ms bigint;
	most_ms bigint;
	resend boolean;
	now_ms bigint := crm.monotonic_ms();
	moment timestamptz := crm.clock();
	bad text;
	t record;
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF COALESCE(cardinality($2), 0) = 0 THEN
		RETURN;
	END IF;
	IF cardinality($3) IS DISTINCT FROM cardinality($2) OR COALESCE(cardinality($4), cardinality($2)) <> cardinality($2)
		OR COALESCE(cardinality($5), cardinality($2)) <> cardinality($2) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the arrays of crm.outbox_result() differ in length: %s messages, %s outcomes', cardinality($2), cardinality($3)),
			HINT = 'Give one outcome for each message; provider_ids and words may be NULL as a whole.';
	END IF;
	SELECT * INTO p FROM crm.queue_settled($1, $2);
	-- a provider may repeat what it was called with
	words := crm.masked_words($1, words);

	IF $3 <@ ARRAY['sent'] THEN
		INSERT INTO crm.message_attempt (message_id, attempt, outcome, at, integration_id, lease_id, provider_id, words)
		SELECT m.id, m.attempt, 'sent', moment, $1, m.lease, m.provider, left(m.words, 2000)
		FROM unnest($2, p.attempts, p.leases, $4, $5) AS m(id, attempt, lease, provider, words)
		WHERE m.lease IS NOT NULL;
	ELSE
		SELECT o.outcome INTO bad FROM unnest($3) AS o(outcome)
		WHERE o.outcome IS NULL OR o.outcome NOT IN ('sent', 'delivered', 'retry', 'failed', 'uncertain', 'throttled');
		IF FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown outcome: %s', COALESCE(bad, 'NULL')),
				HINT = 'Use sent, delivered, retry, failed, uncertain or throttled.';
		END IF;
		SELECT i.settings INTO settings FROM crm.integration i WHERE i.id = $1;
		most := COALESCE((settings ->> 'max_attempts')::integer, 10);
		base_ms := COALESCE((settings ->> 'retry_ms')::bigint, 2000);
		most_ms := COALESCE((settings ->> 'retry_max_ms')::bigint, 900000);
		resend := COALESCE(settings ->> 'on_unknown', 'hold') = 'resend';

		INSERT INTO crm.message_attempt (message_id, attempt, outcome, at, integration_id, lease_id, provider_id, words)
		SELECT m.id, m.attempt,
			CASE WHEN m.outcome = 'delivered' THEN 'sent' ELSE m.outcome END, moment, $1, m.lease, m.provider, left(m.words, 2000)
		FROM unnest($2, p.attempts, p.leases, $3, $4, $5) AS m(id, attempt, lease, outcome, provider, words)
		WHERE m.lease IS NOT NULL;

		-- one pass for those that need more than the attempt
		SELECT array_agg(m.id) FILTER (WHERE m.does = 'again') AS again,
			array_agg(m.attempt + 1) FILTER (WHERE m.does = 'again') AS again_attempt,
			array_agg(now_ms + 1 + crm.backoff_ms(m.attempt, base_ms, most_ms)) FILTER (WHERE m.does = 'again') AS again_ms,
			array_agg(m.id) FILTER (WHERE m.does = 'failed') AS failed,
			array_agg(m.words) FILTER (WHERE m.does = 'failed') AS failed_words,
			array_agg(m.id) FILTER (WHERE m.does = 'delivered') AS delivered,
			array_agg(m.provider) FILTER (WHERE m.does = 'delivered') AS delivered_provider,
			array_agg(m.words) FILTER (WHERE m.does = 'delivered') AS delivered_words
		INTO t
		FROM (SELECT m.id, m.attempt, m.provider, left(m.words, 2000) AS words,
				CASE WHEN EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = m.id OFFSET 0) THEN 'nothing'
					WHEN m.outcome = 'throttled' THEN 'again'
					WHEN m.outcome = 'retry' OR m.outcome = 'uncertain' AND resend THEN CASE WHEN m.attempt < most THEN 'again' ELSE 'failed' END
					ELSE m.outcome END AS does
			  FROM unnest($2, p.attempts, p.leases, $3, $4, $5) AS m(id, attempt, lease, outcome, provider, words)
			  WHERE m.lease IS NOT NULL AND m.outcome <> 'sent') m;
		IF t.again IS NOT NULL THEN
			PERFORM crm.flight_add($1, t.again, t.again_attempt, t.again_ms);
		END IF;
		IF t.failed IS NOT NULL THEN
			INSERT INTO crm.message_result (message_id, state, words)
			SELECT f.id, 'failed', f.words FROM unnest(t.failed, t.failed_words) AS f(id, words)
			ON CONFLICT DO NOTHING;
			PERFORM crm.message_events('message.failed', t.failed, t.failed_words);
		END IF;
		IF t.delivered IS NOT NULL THEN
			INSERT INTO crm.message_result (message_id, state, provider_id, words)
			SELECT f.id, 'delivered', f.provider, f.words FROM unnest(t.delivered, t.delivered_provider, t.delivered_words) AS f(id, provider, words)
			ON CONFLICT DO NOTHING;
			PERFORM crm.message_events('message.delivered', t.delivered, t.delivered_words);
		END IF;
	END IF;

	IF p.done IS NOT NULL THEN
		DELETE FROM crm.message_lease l WHERE l.id = ANY (p.done);
	END IF;
	-- reports that were quicker than the reply
	IF $4 IS NOT NULL AND EXISTS (SELECT FROM crm.message_report_early LIMIT 1) THEN
		FOR t IN
			SELECT m.id, e.id AS early, e.state, e.provider_id, e.words, e.at
			FROM unnest($2, $4) AS m(id, provider)
			CROSS JOIN LATERAL (SELECT x.* FROM crm.message_report_early x WHERE x.provider_id = m.provider AND COALESCE(x.integration_id, $1) = $1 OFFSET 0) e
		LOOP
			DELETE FROM crm.message_report_early e WHERE e.id = t.early;
			CONTINUE WHEN NOT FOUND;
			PERFORM crm.message_told($1, t.id, t.state, t.provider_id, t.words, t.at);
		END LOOP;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.outbox_result(bigint, bigint[], text[], text[], text[]) IS
'Settles messages that crm.outbox_take() leased: for the take function of a channel''s kind. outcomes: sent, delivered, retry (again after a growing pause, failed after max_attempts), throttled (again, not counted), failed (final, with the provider''s words), uncertain (the bytes left, no answer came: stays, or is sent again where the setting on_unknown is resend). A message that is not in this process''s hands is left alone. Settings of the integration: max_attempts (10), retry_ms (2000), retry_max_ms (900000), on_unknown (hold). Errors: 22023';

CREATE OR REPLACE FUNCTION crm.message_told(integration_id bigint, message_id bigint, state text, provider_id text, words text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	number bigint := message_id;
	m record;
	ended text;
	moment timestamptz := message_told.at;
BEGIN
	IF state IS NULL OR state NOT IN ('sent', 'delivered', 'undelivered', 'failed') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown state of a report: %s', COALESCE(state, 'NULL')),
			HINT = 'Use sent, delivered, undelivered or failed.';
	END IF;
	IF number IS NULL AND provider_id IS NOT NULL THEN
		SELECT a.message_id INTO number FROM crm.message_attempt a
		WHERE a.provider_id = message_told.provider_id AND a.integration_id = COALESCE(message_told.integration_id, a.integration_id) ORDER BY a.at DESC LIMIT 1;
		IF number IS NULL THEN
			INSERT INTO crm.message_report_early (integration_id, provider_id, state, words, at)
			VALUES (message_told.integration_id, left(message_told.provider_id, 200), message_told.state, left(message_told.words, 2000), COALESCE(moment, crm.clock()));
			RETURN NULL;
		END IF;
	END IF;
	SELECT b.id, b.integration_id, b.queued_at, b.state, b.ended_at INTO m FROM crm.message_said b WHERE b.id = number;
	-- a provider speaks of its own messages only
	IF NOT FOUND OR m.integration_id <> message_told.integration_id THEN
		RETURN false;
	END IF;
	-- a provider's clock may say anything
	IF moment < m.queued_at - interval '1 day' OR moment > crm.clock() + interval '1 day' OR NOT isfinite(moment) THEN
		moment := NULL;
	END IF;

	PERFORM pg_advisory_xact_lock(hashtext('crm.message_report'), hashint8(m.id));
	SELECT r.state INTO ended FROM crm.message_result r WHERE r.message_id = m.id AND r.at >= m.queued_at - interval '1 day';
	IF NOT FOUND AND m.ended_at IS NOT NULL THEN
		ended := m.state;				-- its history knows it still
	END IF;
	IF ended = state OR EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = m.id AND a.outcome = 'report' AND a.at >= m.queued_at - interval '1 day'
			AND a.words IS NOT DISTINCT FROM left(concat_ws(': ', message_told.state, NULLIF(message_told.words, '')), 2000)) THEN
		RETURN true;					-- told before
	END IF;
	INSERT INTO crm.message_attempt (message_id, attempt, outcome, integration_id, provider_id, words)
	SELECT m.id, COALESCE(max(a.attempt), 1), 'report', m.integration_id, left(message_told.provider_id, 200),
		left(concat_ws(': ', message_told.state, NULLIF(message_told.words, '')), 2000)
	FROM crm.message_attempt a WHERE a.message_id = m.id AND a.at >= m.queued_at - interval '1 day';
	IF ended IS NULL AND state <> 'sent' THEN
		INSERT INTO crm.message_result (message_id, state, reported_at, provider_id, words)
		VALUES (m.id, message_told.state, moment, left(message_told.provider_id, 200), left(message_told.words, 2000))
		ON CONFLICT DO NOTHING;
		PERFORM crm.message_events(CASE state WHEN 'delivered' THEN 'message.delivered' ELSE 'message.failed' END,
			ARRAY[m.id], ARRAY[left(message_told.words, 2000)]);
	END IF;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.message_told(bigint, bigint, text, text, text, timestamptz) IS
'What crm.message_report() does, for the integration that says it (NULL: a person of the plant does, of any integration). The words are taken as they are';

CREATE OR REPLACE FUNCTION crm.message_report(message_id bigint, state text, provider_id text, words text, at timestamptz) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	caller bigint := crm.kind_call();
BEGIN
	PERFORM crm.assert_own_integration(caller);
	RETURN crm.message_told(caller, $1, $2, $3, CASE WHEN caller IS NULL THEN $4 ELSE crm.masked_words(caller, $4) END, $5);
END
$$;
COMMENT ON FUNCTION crm.message_report(bigint, text, text, text, timestamptz) IS
'A provider''s report on a message: state sent (on its way), delivered, undelivered, failed. By our number, or (message_id NULL) by the provider''s; one that is not known yet is kept until its reply comes. A final state never changes. For a kind''s function, about messages of the integration that it was called for; outside of such a call for couriers and members of crm_owner. Returns true; false: no message of ours; NULL: kept. Errors: 22023 unknown state, 42501';

CREATE OR REPLACE FUNCTION crm.message_resolve(message_id bigint, how text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	m record;
BEGIN
	SELECT v.id, v.state, v.integration_id, v.attempts, v.recipient INTO m FROM crm.message v WHERE v.id = message_resolve.message_id AND crm.sees_company(v.company_id);
	IF NOT FOUND OR m.state <> 'uncertain' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('message %s is not uncertain but %s', message_resolve.message_id, COALESCE(m.state, 'unknown')),
			HINT = 'SELECT id, recipient, last_error FROM crm.message WHERE state = ''uncertain'';';
	END IF;
	IF how = 'resend' AND m.recipient LIKE 'forgotten:%' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the reader of message %s was forgotten', m.id),
			HINT = 'Resolve it as delivered or failed.';
	ELSIF how = 'resend' THEN
		PERFORM crm.message_back(m.id);
		-- not into the flight: this session cannot know up to where the courier has read it
		INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at)
		VALUES (m.id, m.integration_id, 1, crm.clock()) ON CONFLICT DO NOTHING;
		PERFORM crm.wake();
	ELSIF how IN ('delivered', 'failed') THEN
		PERFORM crm.message_told(m.integration_id, m.id, how, NULL, format('said by %s', session_user), NULL);
	ELSE
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown way to resolve a message: %s', COALESCE(how, 'NULL')),
			HINT = 'Use resend, delivered or failed.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.message_resolve(bigint, text) IS
'What a person knows of an uncertain message: delivered, failed, or resend. Errors: 55000 it is not uncertain, or its reader was forgotten, 22023';

CREATE OR REPLACE FUNCTION crm.point_verified() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	m record;
BEGIN
	IF NOT crm.guard() OR crm.mode() <> 'live' THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(b.contact_point_id ORDER BY f.message_id) AS points, array_agg(CASE f.state WHEN 'delivered' THEN 'delivery' ELSE 'failure' END ORDER BY f.message_id) AS hows,
		array_agg(COALESCE(f.reported_at, f.at) ORDER BY f.message_id) AS ats,
		array_agg(format('message %s', f.message_id) || CASE f.state WHEN 'delivered' THEN '' ELSE ': ' || concat_ws(' ', f.state, f.words) END ORDER BY f.message_id) AS evidence
	INTO m
	FROM fresh f
	CROSS JOIN LATERAL (SELECT x.contact_point_id, x.sandbox FROM crm.message_said x WHERE x.id = f.message_id OFFSET 0) b
	WHERE f.state IN ('delivered', 'undelivered', 'failed') AND NOT b.sandbox AND b.contact_point_id IS NOT NULL;
	IF m.points IS NOT NULL THEN
		PERFORM crm.verify_points(m.points, m.hows, m.ats, m.evidence);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.point_verified() IS
'Statement trigger on crm.message_result: an address at which a message arrived is verified, one that was refused for good is invalid or has a strike (crm.verify_points), all of a batch at once. Not in sandbox, where it went to a test recipient';

-- After a courier's death --------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.message_recover(courier integer, trusted boolean, integration_ids bigint[], refs bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	l record;
	u record;
	now_ms bigint := crm.monotonic_ms();
BEGIN
	PERFORM crm.queue_forget();
	IF NOT trusted THEN
		-- the monotonic clock of another start of the machine means nothing
		UPDATE crm.message_flight_0 f SET due_ms = now_ms + 60000 WHERE f.due_ms > now_ms + 60000;
		UPDATE crm.message_flight_1 f SET due_ms = now_ms + 60000 WHERE f.due_ms > now_ms + 60000;
	END IF;
	FOR l IN
		SELECT s.id, s.integration_id, s.ids, COALESCE(i.settings ->> 'on_unknown', 'hold') = 'resend' AS resend
		FROM crm.message_lease s JOIN crm.integration i ON i.id = s.integration_id
		WHERE s.courier = $1 AND (crm.process_is_me(s.pid, s.started) OR NOT crm.process_lives(s.pid, s.started))
		ORDER BY s.id
		FOR UPDATE OF s
	LOOP
		SELECT array_agg(m.id) FILTER (WHERE m.left_us) AS doubtful, array_agg(m.attempt) FILTER (WHERE m.left_us) AS doubtful_attempt,
			array_agg(m.id) FILTER (WHERE NOT m.left_us) AS unsent
		INTO u
		FROM (
			SELECT b.id, COALESCE((SELECT max(a.attempt) FROM crm.message_attempt a WHERE a.message_id = b.id AND a.outcome <> 'report'), 0) + 1 AS attempt,
				NOT trusted OR EXISTS (SELECT FROM unnest($3, $4) AS s(i, ref) WHERE s.i = l.integration_id AND s.ref = b.id) AS left_us
			FROM unnest(l.ids) AS span
			CROSS JOIN LATERAL (SELECT x.id FROM crm.message_body x WHERE x.id >= lower(span) AND x.id < upper(span) OFFSET 0) b
			WHERE NOT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = b.id AND a.lease_id = l.id OFFSET 0)
			ORDER BY b.id) m;
		IF u.doubtful IS NOT NULL THEN
			INSERT INTO crm.message_attempt (message_id, attempt, outcome, integration_id, lease_id, words)
			SELECT m.id, m.attempt, 'uncertain', l.integration_id, l.id, 'the courier ended after the message may have left, before an answer came'
			FROM unnest(u.doubtful, u.doubtful_attempt) AS m(id, attempt);
			IF NOT l.resend THEN
				u.doubtful := NULL;
			END IF;
		END IF;
		-- not into the flight: another courier may serve the integration by now, and have read it up to this moment
		INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at)
		SELECT b.id, l.integration_id, COALESCE(b.lane, 1), crm.clock()
		FROM unnest(u.doubtful || u.unsent) AS m(id)
		CROSS JOIN LATERAL (SELECT x.id, x.lane FROM crm.message_body x WHERE x.id = m.id OFFSET 0) b
		WHERE NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = b.id OFFSET 0)
		ON CONFLICT DO NOTHING;
		DELETE FROM crm.message_lease s WHERE s.id = l.id;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.message_recover(integer, boolean, bigint[], bigint[]) IS
'A new courier takes over what a dead one of a number had leased: what was never started goes back to the queue as if nothing had been; what was started (by the list of pairs; everything where the list cannot be trusted) is uncertain, and sent again only where the integration''s setting on_unknown is resend';

CREATE OR REPLACE FUNCTION crm.message_settle_failed(integration_id bigint, reply crm.reply, words text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF EXISTS (SELECT FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1 AND k.channel IS NOT NULL) THEN
		PERFORM crm.outbox_result($1, ARRAY[($2).ref], ARRAY[CASE WHEN COALESCE(($2).sent, true) THEN 'uncertain' ELSE 'retry' END], NULL,
			ARRAY[format('its reply could not be read: %s', $3)]);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.message_settle_failed(bigint, crm.reply, text) IS 'A reply that the kind could not settle: the message is uncertain, or tried again where nothing had left';

CREATE OR REPLACE FUNCTION crm.message_deadline(integration_ids bigint[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	i record;
	pace double precision := COALESCE((SELECT c.rate FROM crm.clock_state c), 1);
	own bigint;
	nearest bigint;
BEGIN
	-- most integrations have nothing that waits for an hour: one statement passes over them
	FOR i IN
		SELECT n.id, d.due_at, f.due_ms
		FROM unnest($1) AS n(id)
		CROSS JOIN LATERAL (SELECT x.kind FROM crm.integration x WHERE x.id = n.id AND x.enabled OFFSET 0) a
		CROSS JOIN LATERAL (SELECT FROM crm.integration_kind x WHERE x.kind = a.kind AND x.channel IS NOT NULL OFFSET 0) k
		CROSS JOIN LATERAL crm.queue_retry_from(n.id) q
		-- not min(): a planner that expects one row would read them all
		LEFT JOIN LATERAL (SELECT x.due_at FROM crm.message_delayed x
			WHERE x.integration_id = n.id AND x.due_at >= q.delayed_at ORDER BY x.due_at LIMIT 1) d ON true
		LEFT JOIN LATERAL (SELECT y.due_ms FROM (
			(SELECT x.due_ms FROM crm.message_flight_0 x
			 WHERE x.integration_id = n.id AND (x.due_ms, x.message_id) > (q.after_ms, q.after_id) ORDER BY x.due_ms, x.message_id LIMIT 1)
			UNION ALL
			(SELECT x.due_ms FROM crm.message_flight_1 x
			 WHERE x.integration_id = n.id AND (x.due_ms, x.message_id) > (q.after_ms, q.after_id) ORDER BY x.due_ms, x.message_id LIMIT 1)) y
			ORDER BY y.due_ms LIMIT 1) f ON true
		WHERE d.due_at IS NOT NULL OR f.due_ms IS NOT NULL
	LOOP
		own := NULL;
		IF i.due_at IS NOT NULL AND pace > 0 THEN
			own := crm.monotonic_ms() + GREATEST(0, ceil(extract(epoch FROM LEAST(i.due_at, crm.clock() + interval '1 day') - crm.clock()) * 1000 / pace)::bigint);
		ELSIF i.due_at <= crm.clock() THEN
			own := crm.monotonic_ms();
		END IF;
		own := LEAST(own, i.due_ms);
		IF own IS NOT NULL THEN
			-- what is due and may not be asked for yet must not keep the courier awake
			nearest := LEAST(nearest, GREATEST(own, crm.rate_next(i.id)));
		END IF;
	END LOOP;
	RETURN nearest;
END
$$;
COMMENT ON FUNCTION crm.message_deadline(bigint[]) IS 'When the next delayed message or retry of these integrations is due, milliseconds of crm.monotonic_ms(); NULL: none waits';

CREATE OR REPLACE FUNCTION crm.flight_rotate(budget integer DEFAULT 4000) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET lock_timeout = '100ms'
AS $$
DECLARE
	t crm.message_flight_turn;
	before crm.message_flight_turn;
	older integer;
	part record;
	rows bigint;
	left_over integer := budget;
BEGIN
	SELECT * INTO before FROM crm.message_flight_turn;
	t := before;
	t.turn := COALESCE(t.turn, 0);
	t.looked := COALESCE(t.looked, 0);
	older := 1 - t.turn;
	-- What is spent stays spent: a long table is looked through a part at a time, latest due first, where what is live stands.
	LOOP
		IF t.upto_ms IS NULL THEN
			SELECT f.integration_id INTO t.upto_integration FROM crm.message_flight f
			WHERE f.turn = older AND f.integration_id > COALESCE(t.upto_integration, -9223372036854775808) ORDER BY f.integration_id LIMIT 1;
			EXIT WHEN NOT FOUND;
			t.upto_ms := 9223372036854775807;
			t.upto_message := 9223372036854775807;
		END IF;
		EXIT WHEN left_over <= 0;
		SELECT count(*) AS rows, count(*) FILTER (WHERE f.due_ms > crm.monotonic_ms()) AS waits INTO part
		FROM (SELECT x.due_ms FROM crm.message_flight x
			WHERE x.turn = older AND x.integration_id = t.upto_integration AND (x.due_ms, x.message_id) < (t.upto_ms, t.upto_message)
			ORDER BY x.due_ms DESC, x.message_id DESC LIMIT left_over) f;
		EXIT WHEN part.waits > 0 OR EXISTS (
			SELECT FROM (SELECT x.spent FROM crm.message_flight x
				WHERE x.turn = older AND x.integration_id = t.upto_integration AND (x.due_ms, x.message_id) < (t.upto_ms, t.upto_message)
				ORDER BY x.due_ms DESC, x.message_id DESC LIMIT left_over) f
			WHERE NOT f.spent);
		t.looked := t.looked + part.rows;
		IF part.rows < left_over THEN
			t.upto_ms := NULL;
		ELSE
			SELECT f.due_ms, f.message_id INTO t.upto_ms, t.upto_message
			FROM (SELECT x.due_ms, x.message_id FROM crm.message_flight x
				WHERE x.turn = older AND x.integration_id = t.upto_integration AND (x.due_ms, x.message_id) < (t.upto_ms, t.upto_message)
				ORDER BY x.due_ms DESC, x.message_id DESC OFFSET left_over - 1 LIMIT 1) f;
		END IF;
		left_over := left_over - part.rows;
	END LOOP;

	IF t.upto_integration IS NULL THEN	-- all of it is spent
		IF t.looked > 0 THEN
			EXECUTE format('LOCK TABLE crm.message_flight_%s IN ACCESS EXCLUSIVE MODE', older);
			SELECT count(*) INTO rows FROM crm.message_flight f WHERE f.turn = older;
			-- another courier may have written into it since its turn was over: then from the beginning
			IF rows = t.looked THEN
				EXECUTE format('TRUNCATE crm.message_flight_%s', older);
			END IF;
		END IF;
		IF rows = t.looked OR t.looked = 0 THEN
			IF EXISTS (SELECT FROM crm.message_flight f WHERE f.turn = t.turn OFFSET 1000) THEN
				t.turn := older;
			END IF;
		END IF;
		t.looked := 0;
		t.upto_ms := NULL;
		t.upto_message := NULL;
	END IF;
	t.one := true;
	IF t IS DISTINCT FROM before AND (before.turn IS NOT NULL OR t.turn = 1) THEN
		INSERT INTO crm.message_flight_turn AS f SELECT t.*
		ON CONFLICT (one) DO UPDATE SET (turn, upto_integration, upto_ms, upto_message, looked)
			= ROW (excluded.turn, excluded.upto_integration, excluded.upto_ms, excluded.upto_message, excluded.looked);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.flight_rotate(integer) IS 'Looks at so many rows of the older flight table, empties it by TRUNCATE once all its rows are spent, and writes into it next; under a lock time-out, so that it never makes anybody wait';

-- What people see -----------------------------------------------------------------------------

-- Attempts and results are looked for from a day before their message on: the wall clock may have been set back.
CREATE OR REPLACE VIEW crm.message WITH (security_barrier = true) AS
	SELECT b.id,
		CASE WHEN r.state IS NOT NULL THEN r.state
			WHEN EXISTS (SELECT FROM crm.message_lease l WHERE l.integration_id = b.integration_id AND l.ids @> b.id
				AND NOT EXISTS (SELECT FROM crm.message_attempt x WHERE x.message_id = b.id AND x.lease_id = l.id)) THEN 'sending'
			WHEN a.outcome = 'sent' THEN 'sent'
			WHEN a.outcome = 'uncertain' AND NOT EXISTS (SELECT FROM crm.message_flight f WHERE f.message_id = b.id AND f.attempt > a.attempt)
				AND d.message_id IS NULL THEN 'uncertain'
			ELSE 'queued' END AS state,
		b.channel, b.recipient, b.body,
		COALESCE(r.provider_id, a.provider_id) AS provider_id,
		b.queued_at,
		CASE WHEN a.outcome = 'sent' THEN a.at END AS sent_at,
		CASE WHEN r.state = 'delivered' THEN COALESCE(r.reported_at, r.at) END AS delivered_at,
		CASE WHEN r.state IS DISTINCT FROM 'delivered' THEN COALESCE(r.words, CASE WHEN a.outcome <> 'sent' THEN a.words END) END AS last_error,
		b.sender, b.subject, b.html, b.language, b.encoding, b.segments,
		u.code AS rule, b.rule_version, b.event_id, b.object_kind, b.object_id, b.company_id, b.contact_id, b.contact_point_id,
		COALESCE(d.due_at, b.not_before) AS not_before, b.expires_at, COALESCE(a.attempt, 0) AS attempts, b.integration_id, b.sandbox, b.queued_by, b.chain_id, b.follows_id, b.step
	FROM crm.message_body b
	LEFT JOIN LATERAL (SELECT x.state, x.at, x.reported_at, x.provider_id, x.words FROM crm.message_result x
		WHERE x.message_id = b.id AND x.at >= b.queued_at - interval '1 day' LIMIT 1) r ON true
	LEFT JOIN LATERAL (SELECT x.attempt, x.outcome, x.at, x.provider_id, x.words FROM crm.message_attempt x
		WHERE x.message_id = b.id AND x.at >= b.queued_at - interval '1 day' AND x.outcome <> 'report' ORDER BY x.attempt DESC, x.at DESC LIMIT 1) a ON true
	LEFT JOIN crm.message_delayed d ON d.message_id = b.id
	LEFT JOIN crm.rule u ON u.id = b.rule_id
	-- runs as its owner, so it says itself who sees what
	WHERE (SELECT crm.reads_plant()) OR CASE WHEN b.company_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[])
		ELSE b.company_id IN (SELECT s.id FROM crm.company_seen s) END
	UNION ALL
	SELECT h.id, COALESCE(r.state, h.state), h.channel, h.recipient, h.body,
		COALESCE(r.provider_id, h.provider_id), h.queued_at, h.sent_at,
		CASE WHEN r.state = 'delivered' THEN COALESCE(r.reported_at, r.at) ELSE h.delivered_at END,
		CASE WHEN r.state IS DISTINCT FROM 'delivered' THEN COALESCE(r.words, h.last_error) END,
		h.sender, h.subject, h.html, h.language, h.encoding, h.segments,
		u.code, h.rule_version, h.event_id, h.object_kind, h.object_id, h.company_id, h.contact_id, h.contact_point_id,
		h.not_before, h.expires_at, h.attempts, h.integration_id, h.sandbox, h.queued_by, h.chain_id, h.follows_id, h.step
	FROM crm.message_history h
	-- what was told after it had moved
	LEFT JOIN LATERAL (SELECT x.state, x.at, x.reported_at, x.provider_id, x.words FROM crm.message_result x
		WHERE h.ended_at IS NULL AND x.message_id = h.id AND x.at >= h.queued_at - interval '1 day' LIMIT 1) r ON true
	LEFT JOIN crm.rule u ON u.id = h.rule_id
	WHERE (SELECT crm.reads_plant()) OR CASE WHEN h.company_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[])
		ELSE h.company_id IN (SELECT s.id FROM crm.company_seen s) END;
COMMENT ON VIEW crm.message IS 'Messages and what became of them. States: queued, sending (in a courier''s hands), sent, delivered, undelivered, failed, expired, cancelled, uncertain (left, and no answer came)';
COMMENT ON COLUMN crm.message.id IS 'Number of the message';
COMMENT ON COLUMN crm.message.state IS 'queued, sending, sent, delivered, undelivered, failed, expired, cancelled or uncertain';
COMMENT ON COLUMN crm.message.channel IS 'sms, email, telegram';
COMMENT ON COLUMN crm.message.recipient IS 'Phone in E.164 or address of the reader';
COMMENT ON COLUMN crm.message.body IS 'Text';
COMMENT ON COLUMN crm.message.provider_id IS 'Number that the provider gave it';
COMMENT ON COLUMN crm.message.queued_at IS 'When it was queued, business clock';
COMMENT ON COLUMN crm.message.sent_at IS 'When the provider took it, business clock';
COMMENT ON COLUMN crm.message.delivered_at IS 'When it reached the reader: the provider''s time, else when we heard of it';
COMMENT ON COLUMN crm.message.last_error IS 'Why it did not arrive, or not yet: the provider''s words or ours';
COMMENT ON COLUMN crm.message.sender IS 'Sender that the reader sees';
COMMENT ON COLUMN crm.message.subject IS 'Subject of a letter';
COMMENT ON COLUMN crm.message.html IS 'HTML part of a letter';
COMMENT ON COLUMN crm.message.language IS 'Language of the text';
COMMENT ON COLUMN crm.message.encoding IS 'For sms: GSM7 or UCS2';
COMMENT ON COLUMN crm.message.segments IS 'For sms: parts that the provider bills';
COMMENT ON COLUMN crm.message.rule IS 'Rule that queued it (crm.rule.code); NULL: sent by hand';
COMMENT ON COLUMN crm.message.rule_version IS 'Version of that rule';
COMMENT ON COLUMN crm.message.event_id IS 'Event that it announces (crm.event.id)';
COMMENT ON COLUMN crm.message.object_kind IS 'What the event happened to';
COMMENT ON COLUMN crm.message.object_id IS 'id of what the event happened to';
COMMENT ON COLUMN crm.message.company_id IS 'Company of the reader (crm.company.id)';
COMMENT ON COLUMN crm.message.contact_id IS 'Reader (crm.contact.id)';
COMMENT ON COLUMN crm.message.contact_point_id IS 'Address of the reader (crm.contact_point.id)';
COMMENT ON COLUMN crm.message.not_before IS 'Not sent before this moment, business clock';
COMMENT ON COLUMN crm.message.expires_at IS 'Not sent at or after this moment, business clock';
COMMENT ON COLUMN crm.message.attempts IS 'Tries so far';
COMMENT ON COLUMN crm.message.integration_id IS 'Integration that carries it (crm.integration.id)';
COMMENT ON COLUMN crm.message.sandbox IS 'Queued in the mode sandbox: never reaches its reader';
COMMENT ON COLUMN crm.message.queued_by IS 'Login whose transaction queued it';
COMMENT ON COLUMN crm.message.chain_id IS 'First message of the chain in which it follows (crm.message.id)';
COMMENT ON COLUMN crm.message.follows_id IS 'Message in whose place it goes (crm.message.id)';
COMMENT ON COLUMN crm.message.step IS 'Which step of the chain it is, from 1';

CREATE OR REPLACE VIEW crm.fact_egress AS
	SELECT a.at, 'message'::text AS what, i.name AS integration, substring(i.url FROM '^[a-z]+://(?:[^/?#@]*@)?(\[[^]]*\]|[^/?#:]*)') AS host,
		b.channel, b.id AS message_id, b.contact_id, b.company_id, 1::bigint AS requests,
		(b.bytes + CASE WHEN b.channel = 'email' THEN COALESCE((SELECT sum(f.bytes) FROM crm.message_attachment f WHERE f.message_id = b.id), 0) ELSE 0 END)::bigint AS bytes,
		a.outcome, b.sandbox
	FROM crm.message_attempt a
	JOIN crm.message_said b ON b.id = a.message_id
	LEFT JOIN crm.integration i ON i.id = a.integration_id
	-- an answer that a provider gave later, when asked, is no second try: it was never leased
	WHERE a.lease_id IS NOT NULL
		AND (a.outcome IN ('sent', 'failed', 'throttled', 'uncertain') OR a.outcome = 'retry' AND COALESCE(a.words, '') !~ '^(resolve|connect|tls|refused):')
	UNION ALL
	SELECT e.hour, 'poll', i.name, e.host, NULL, NULL, NULL, NULL, e.requests, e.bytes, NULL, NULL
	FROM crm.egress_hour e LEFT JOIN crm.integration i ON i.id = e.integration_id;
COMMENT ON VIEW crm.fact_egress IS 'What left the database: each try of a message whose bytes left or may have left, and all other requests in sums by hour; no text and no address. Runs as its owner. crm_bi.egress shows it.';
COMMENT ON COLUMN crm.fact_egress.at IS 'When the try was settled; of a sum the start of its hour; business clock';
COMMENT ON COLUMN crm.fact_egress.what IS 'message or poll';
COMMENT ON COLUMN crm.fact_egress.integration IS 'Name of the integration; NULL: it is gone';
COMMENT ON COLUMN crm.fact_egress.host IS 'Host that was spoken to';
COMMENT ON COLUMN crm.fact_egress.channel IS 'Channel of the message';
COMMENT ON COLUMN crm.fact_egress.message_id IS 'crm.message.id';
COMMENT ON COLUMN crm.fact_egress.contact_id IS 'Whom it concerned (crm.contact.id)';
COMMENT ON COLUMN crm.fact_egress.company_id IS 'Their company (crm.company.id)';
COMMENT ON COLUMN crm.fact_egress.requests IS 'Requests';
COMMENT ON COLUMN crm.fact_egress.bytes IS 'Octets: of a message its texts and files, of a poll address, headers and body; without what the protocol adds';
COMMENT ON COLUMN crm.fact_egress.outcome IS 'sent, failed, throttled, retry, uncertain; NULL for sums';
COMMENT ON COLUMN crm.fact_egress.sandbox IS 'It went to a test recipient';
