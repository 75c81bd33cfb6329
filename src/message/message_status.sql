/*
 * message: asking a provider that knows our number what became of a message.
 * May be run again at any time.
 *
 * For the kinds that can ask (setting on_unknown = ask).  crm.message_watch
 * holds what is still open; it can be rebuilt: an uncertain message is found
 * again by its attempt, whoever wrote it.  The watch never sends: it only puts
 * a message back into the queue under its own number, and only once the
 * provider has said often enough that it does not know that number.
 *
 * OFFSET 0: see message_outbox.sql.
 */

CREATE OR REPLACE FUNCTION crm.outbox_watch(integration_id bigint, message_ids bigint[], after_ms bigint) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF COALESCE(cardinality($2), 0) = 0 THEN
		RETURN;
	END IF;
	INSERT INTO crm.message_watch AS w (message_id, integration_id, due_ms)
	SELECT b.id, $1, crm.monotonic_ms() + GREATEST(0, LEAST($3, 3600000))
	FROM (SELECT DISTINCT m.id FROM unnest($2) AS m(id)) m
	CROSS JOIN LATERAL (SELECT x.id FROM crm.message_body x WHERE x.id = m.id AND x.integration_id = $1 OFFSET 0) b
	WHERE NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = m.id OFFSET 0)
	ORDER BY b.id
	ON CONFLICT (message_id) DO UPDATE SET due_ms = excluded.due_ms, asked = 0, unknown = 0, since = excluded.since, since_ms = excluded.since_ms;
END
$$;
COMMENT ON FUNCTION crm.outbox_watch(bigint, bigint[], bigint) IS
'Has crm.outbox_due() give these messages in so many milliseconds (at most an hour): for the take function of a kind that asks. Those that have ended are left alone';

CREATE OR REPLACE FUNCTION crm.outbox_due(integration_id bigint, capacity integer, pace_ms bigint)
RETURNS TABLE (message_id bigint, recipient text, provider_id text, uncertain boolean, asked integer)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	mode text := crm.mode();
	now_ms bigint := crm.monotonic_ms();
	settings jsonb;
	test_address text := crm.sandbox_address($1);
	first_ms bigint;
	most_ms bigint;
	hours integer;
	due bigint[];
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF mode = 'off' OR NOT crm.guard() OR COALESCE($2, 0) <= 0
		OR EXISTS (SELECT FROM crm.integration_state s WHERE s.integration_id = $1 AND (s.session ->> 'ask_from_ms')::bigint > now_ms) THEN
		RETURN;
	END IF;
	SELECT k.defaults || i.settings INTO settings FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1;
	first_ms := GREATEST(100, COALESCE((settings ->> 'ask_ms')::bigint, 30000));
	most_ms := GREATEST(first_ms, COALESCE((settings ->> 'ask_max_ms')::bigint, 3600000));
	hours := COALESCE((settings ->> 'ask_hours')::integer, 72);

	-- uncertain since before this courier, or by a reply that could not be read: found by the attempt
	IF settings ->> 'on_unknown' = 'ask' THEN
		INSERT INTO crm.message_watch (message_id, integration_id, due_ms)
		SELECT DISTINCT a.message_id, $1, now_ms + first_ms
		FROM (SELECT x.message_id FROM crm.message_attempt x
			WHERE x.integration_id = $1 AND x.outcome = 'uncertain' AND x.at > crm.clock() - make_interval(hours => hours)
				AND NOT EXISTS (SELECT FROM crm.message_watch w WHERE w.message_id = x.message_id OFFSET 0) OFFSET 0) a
		WHERE crm.message_doubtful(a.message_id)
		ON CONFLICT DO NOTHING;
	END IF;

	SELECT array_agg(w.message_id ORDER BY w.due_ms) INTO due
	FROM (SELECT x.message_id, x.due_ms FROM crm.message_watch x
		WHERE x.integration_id = $1 AND x.due_ms <= now_ms ORDER BY x.due_ms, x.message_id LIMIT $2) w;
	IF due IS NULL THEN
		RETURN;
	END IF;
	DELETE FROM crm.message_watch w
	WHERE w.message_id = ANY (due)
		AND (w.since < crm.clock() - make_interval(hours => hours) OR EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = w.message_id OFFSET 0));
	-- the next time is booked before the question leaves: a lost answer needs nobody to notice
	RETURN QUERY
	WITH asked AS (
		UPDATE crm.message_watch w SET asked = w.asked + 1, due_ms = now_ms + crm.backoff_ms(w.asked + 1, first_ms, most_ms)
		WHERE w.message_id = ANY (due)
		RETURNING w.message_id, w.asked
	)
	SELECT b.id, CASE WHEN mode = 'sandbox' OR b.sandbox THEN COALESCE(test_address, b.recipient) ELSE b.recipient END,
		(SELECT t.provider_id FROM (SELECT x.provider_id, x.at FROM crm.message_attempt x WHERE x.message_id = b.id OFFSET 0) t
			WHERE t.provider_id IS NOT NULL ORDER BY t.at DESC LIMIT 1),
		crm.message_doubtful(b.id), a.asked
	FROM asked a
	CROSS JOIN LATERAL (SELECT x.id, x.recipient, x.sandbox FROM crm.message_body x WHERE x.id = a.message_id OFFSET 0) b
	ORDER BY b.id;
	IF FOUND THEN
		UPDATE crm.integration_state s SET session = COALESCE(s.session, '{}') || jsonb_build_object('ask_from_ms', now_ms + GREATEST(0, COALESCE($3, 0)))
		WHERE s.integration_id = $1;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.outbox_due(bigint, integer, bigint) IS
'Messages of an integration about which its provider is to be asked now, at most capacity, and nothing for pace_ms after that: for the next function of a kind that asks. Sent ones without a final report, and (where the setting on_unknown is ask) uncertain ones, also of a dead courier. recipient: as it was sent to; uncertain: whether the provider has ever said that it has it. Settings of the integration: ask_ms (30000) to the first question, doubled with each up to ask_max_ms (3600000), for ask_hours (72)';

CREATE OR REPLACE FUNCTION crm.message_doubtful(message_id bigint) RETURNS boolean
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT COALESCE((SELECT a.outcome = 'uncertain' FROM crm.message_attempt a WHERE a.message_id = $1 AND a.outcome <> 'report' ORDER BY a.attempt DESC, a.at DESC LIMIT 1), false)
		AND NOT EXISTS (SELECT FROM crm.message_result r WHERE r.message_id = $1)
		AND NOT EXISTS (SELECT FROM crm.message_flight f WHERE f.message_id = $1 AND NOT f.spent OFFSET 0)
		AND NOT EXISTS (SELECT FROM crm.message_delayed d WHERE d.message_id = $1)
		AND NOT EXISTS (SELECT FROM crm.message_body b JOIN crm.message_lease l ON l.integration_id = b.integration_id AND l.ids @> b.id
			WHERE b.id = $1 AND NOT EXISTS (SELECT FROM crm.message_attempt x WHERE x.message_id = b.id AND x.lease_id = l.id))
$$;
COMMENT ON FUNCTION crm.message_doubtful(bigint) IS 'Whether a message is uncertain: its last try got no answer, it has not ended, waits for no other try and is in nobody''s hands';

CREATE OR REPLACE FUNCTION crm.outbox_status(integration_id bigint, message_ids bigint[], states text[], provider_ids text[], words text[], moments timestamptz[]) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	settings jsonb;
	enough integer;
	most integer;
	m record;
	w record;
	last integer;
	again integer := 0;
	found_ids bigint[];
	usual numeric;
	pause bigint;
	young_ms bigint;
	now_ms bigint := crm.monotonic_ms();
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF COALESCE(cardinality($2), 0) = 0 THEN
		RETURN 0;
	END IF;
	IF cardinality($3) IS DISTINCT FROM cardinality($2) OR COALESCE(cardinality($4), cardinality($2)) <> cardinality($2)
		OR COALESCE(cardinality($5), cardinality($2)) <> cardinality($2) OR COALESCE(cardinality($6), cardinality($2)) <> cardinality($2) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the arrays of crm.outbox_status() differ in length: %s messages, %s states', cardinality($2), cardinality($3)),
			HINT = 'Give one state for each message; provider_ids, words and moments may be NULL as a whole.';
	END IF;
	SELECT k.defaults || i.settings INTO settings FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1;
	enough := GREATEST(1, COALESCE((settings ->> 'unknown_asks')::integer, 2));
	most := COALESCE((settings ->> 'max_attempts')::integer, 10);
	pause := COALESCE((settings ->> 'retry_ms')::bigint, 2000);
	young_ms := COALESCE((settings ->> 'unknown_ms')::bigint, 120000);
	-- a provider may repeat what it was called with
	words := crm.masked_words($1, words);

	FOR m IN
		SELECT s.id, s.state, s.provider_id, left(s.words, 2000) AS words, s.at
		FROM unnest($2, $3, $4, $5, $6) AS s(id, state, provider_id, words, at)
		WHERE EXISTS (SELECT FROM crm.message_body b WHERE b.id = s.id AND b.integration_id = $1 OFFSET 0)
		ORDER BY s.id
	LOOP
		IF m.state IS NULL OR m.state NOT IN ('sent', 'delivered', 'undelivered', 'failed', 'unknown') THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown state of a message: %s', COALESCE(m.state, 'NULL')),
				HINT = 'Use sent, delivered, undelivered, failed or unknown.';
		END IF;
		PERFORM pg_advisory_xact_lock(hashtext('crm.message_report'), hashint8(m.id));
		IF m.state <> 'unknown' THEN
			IF crm.message_doubtful(m.id) THEN
				-- the provider has it: the lost answer is replaced by this one
				INSERT INTO crm.message_attempt (message_id, attempt, outcome, at, integration_id, provider_id, words)
				SELECT m.id, max(a.attempt), 'sent', GREATEST(crm.clock(), max(a.at) + interval '1 microsecond'), $1, left(m.provider_id, 200),
					'no answer came, but the provider has it'
				FROM crm.message_attempt a WHERE a.message_id = m.id AND a.outcome <> 'report';
				found_ids := found_ids || m.id;
			END IF;
			IF m.state = 'sent' THEN
				UPDATE crm.message_watch w SET unknown = 0 WHERE w.message_id = m.id AND w.unknown <> 0;
			ELSE
				DELETE FROM crm.message_watch w WHERE w.message_id = m.id;
			END IF;
			PERFORM crm.message_told($1, m.id, m.state, m.provider_id, m.words, m.at);
		ELSIF crm.message_doubtful(m.id) THEN
			-- a request that was given up may still be on its way into the provider's books
			UPDATE crm.message_watch w SET unknown = w.unknown + 1
			WHERE w.message_id = m.id AND w.since_ms NOT BETWEEN now_ms - young_ms AND now_ms RETURNING w.unknown INTO w;
			CONTINUE WHEN NOT FOUND OR w.unknown < enough;
			DELETE FROM crm.message_watch w WHERE w.message_id = m.id;
			SELECT max(a.attempt) INTO last FROM crm.message_attempt a WHERE a.message_id = m.id AND a.outcome <> 'report';
			IF last < most THEN
				INSERT INTO crm.message_delayed (message_id, integration_id, lane, due_at)
				SELECT b.id, $1, COALESCE(b.lane, 1), crm.clock() + crm.backoff_ms(last, pause) * interval '1 millisecond' FROM crm.message_body b WHERE b.id = m.id
				ON CONFLICT DO NOTHING;
				again := again + 1;
			ELSE
				INSERT INTO crm.message_result (message_id, state, words) VALUES (m.id, 'failed', format('the provider does not know it after %s tries', last))
				ON CONFLICT DO NOTHING;
				PERFORM crm.message_events('message.failed', ARRAY[m.id], ARRAY[format('the provider does not know it after %s tries', last)]);
			END IF;
		END IF;
	END LOOP;
	-- nobody told what these cost: as much as the others
	IF found_ids IS NOT NULL THEN
		usual := (SELECT b.price FROM crm.account_budget($1) b);
		IF usual IS NOT NULL THEN
			PERFORM crm.account_spent($1, cardinality(found_ids), NULL, round(usual * cardinality(found_ids), 4));
		END IF;
	END IF;
	IF again > 0 THEN
		PERFORM crm.wake();
	END IF;
	RETURN again;
END
$$;
COMMENT ON FUNCTION crm.outbox_status(bigint, bigint[], text[], text[], text[], timestamptz[]) IS
'What a provider said about messages that crm.outbox_due() gave: sent (it has it), delivered, undelivered, failed, or unknown (it has none of that number). A message that was uncertain is sent by the first four; by the last, told as often in a row as the setting unknown_asks (2) says, and unknown_ms (120000) or more after its reply was lost, it goes again under its own number, or fails after max_attempts. Unknown changes nothing for a message that the provider took before. Returns how many go again. Errors: 22023';

CREATE OR REPLACE FUNCTION crm.outbox_price(integration_id bigint, message_ids bigint[], parts integer[], prices numeric[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	usual numeric := crm.as_number(crm.setting_of($1, 'price'));
	t record;
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF COALESCE(cardinality($2), 0) = 0 THEN
		RETURN;
	END IF;
	INSERT INTO crm.message_price (message_id, integration_id, parts, price, currency)
	SELECT m.id, $1, m.parts, m.price, crm.setting_of($1, 'currency') FROM unnest($2, $3, $4) AS m(id, parts, price)
	WHERE m.price IS NOT NULL;
	SELECT count(*)::integer AS messages, sum(p.parts)::integer AS parts, sum(p.price) AS amount INTO t
	FROM (
		SELECT COALESCE(m.parts, b.segments, 1) AS parts, COALESCE(m.price, usual * COALESCE(m.parts, b.segments, 1)) AS price
		FROM unnest($2, $3, $4) AS m(id, parts, price)
		LEFT JOIN LATERAL (SELECT x.segments FROM crm.message_body x WHERE x.id = m.id OFFSET 0) b ON true
	) p
	WHERE p.price IS NOT NULL;
	IF t.messages > 0 THEN
		PERFORM crm.account_spent($1, t.messages, t.parts, t.amount);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.outbox_price(bigint, bigint[], integer[], numeric[]) IS 'What messages cost: billed parts and price of each, NULL where it was not told. What was told goes into crm.message_price; the spending of the day grows by it, or by the setting price (of one part) where nothing was told';

CREATE OR REPLACE FUNCTION crm.outbox_verdict(integration_id bigint, message_ids bigint[], outcomes text[], classes text[], provider_ids text[], words text[],
	parts integer[] DEFAULT NULL, prices numeric[] DEFAULT NULL, ask boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	settings jsonb;
	t record;
BEGIN
	IF COALESCE(cardinality($2), 0) = 0 THEN
		RETURN;
	END IF;
	SELECT k.defaults || i.settings INTO settings FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1;
	PERFORM crm.outbox_result($1, $2, $3, $5, $6);
	SELECT array_agg(m.id) FILTER (WHERE m.outcome = 'sent' OR m.outcome = 'uncertain' AND settings ->> 'on_unknown' = 'ask') AS open,
		array_agg(m.id) FILTER (WHERE m.outcome = 'sent') AS sent,
		array_agg(m.parts) FILTER (WHERE m.outcome = 'sent') AS sent_parts,
		array_agg(m.price) FILTER (WHERE m.outcome = 'sent') AS sent_prices,
		(array_agg(COALESCE(m.words, 'no words') ORDER BY m.class, m.words) FILTER (WHERE m.class IN ('auth', 'balance', 'config')))[1] AS trouble,
		(array_agg(m.class ORDER BY m.class, m.words) FILTER (WHERE m.class IN ('auth', 'balance', 'config')))[1] AS class,
		min(COALESCE(m.words, 'no words')) FILTER (WHERE m.class = 'throttled') AS slower
	INTO t
	FROM unnest($2, $3, $4, $6, $7, $8) AS m(id, outcome, class, words, parts, price);
	IF ask AND COALESCE((settings ->> 'ask_hours')::integer, 0) > 0 THEN
		PERFORM crm.outbox_watch($1, t.open, COALESCE((settings ->> 'ask_ms')::bigint, 30000));
	END IF;
	PERFORM crm.outbox_price($1, t.sent, t.sent_parts, t.sent_prices);
	IF t.trouble IS NOT NULL THEN
		PERFORM crm.account_stop($1, t.class, t.trouble);
	ELSIF t.slower IS NOT NULL THEN
		PERFORM crm.integration_failed($1, 'throttled: ' || t.slower, COALESCE((settings ->> 'throttle_ms')::bigint, 10000));
	ELSIF t.sent IS NOT NULL THEN
		PERFORM crm.account_resume($1);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.outbox_verdict(bigint, bigint[], text[], text[], text[], text[], integer[], numeric[], boolean) IS
'crm.outbox_result() and what follows from the classes (those of crm.reply_rule): what is sent or uncertain is asked about later if ask is true (settings ask_ms, ask_hours, on_unknown = ask), prices are kept, auth, balance and config stop the integration until the service takes us again, throttled holds it for throttle_ms (10000). One call for a batch of replies';

CREATE OR REPLACE FUNCTION crm.watch_deadline(integration_ids bigint[]) RETURNS bigint
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT min(m.moment)
	FROM (
		SELECT GREATEST(d.due_ms, s.hold_ms, (s.session ->> 'ask_from_ms')::bigint) AS moment
		FROM crm.integration i
		CROSS JOIN LATERAL (SELECT w.due_ms FROM crm.message_watch w WHERE w.integration_id = i.id ORDER BY w.due_ms LIMIT 1) d
		LEFT JOIN crm.integration_state s ON s.integration_id = i.id
		WHERE i.enabled AND i.id = ANY ($1)
	) m
	-- what nobody asked about when it was due (a description that lost its question) wakes no courier again and again
	WHERE m.moment > crm.monotonic_ms() - 60000
$$;
COMMENT ON FUNCTION crm.watch_deadline(bigint[]) IS 'When a provider of these integrations is to be asked about a message next, milliseconds of crm.monotonic_ms(); NULL: about none';

CREATE OR REPLACE FUNCTION crm.watch_recover(courier integer, trusted boolean, integration_ids bigint[], refs bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	now_ms bigint := crm.monotonic_ms();
BEGIN
	IF NOT trusted THEN
		-- the monotonic clock of another start of the machine means nothing
		UPDATE crm.message_watch w SET due_ms = now_ms + 60000 WHERE w.due_ms > now_ms + 60000;
		UPDATE crm.integration_state s SET session = s.session - 'ask_from_ms' WHERE s.session ? 'ask_from_ms';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.watch_recover(integer, boolean, bigint[], bigint[]) IS 'A new courier whose list of pairs is of another start of the machine: hours of its clock are told anew';

SELECT crm.register_hook('deadline', 'watch', 'crm.watch_deadline');
SELECT crm.register_hook('recover', 'watch', 'crm.watch_recover');
SELECT crm.register_partitioned('crm.message_price', 'at', 'month', ARRAY[
	'CREATE INDEX ON crm.%1$I (message_id)',
	'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.%1$I FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only()']);
SELECT crm.register_no_foreign_key('crm.message_watch', c.name, 'queue: written and emptied in bulk')
FROM unnest(ARRAY['message_id', 'integration_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.message_price', c.name, 'history, partitioned')
FROM unnest(ARRAY['message_id', 'integration_id']) AS c(name);
