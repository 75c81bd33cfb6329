-- How fast an integration may be spoken to (settings rate, rate_per, daily_limit), and its circuit in words.

CREATE OR REPLACE FUNCTION crm.rate_shift(counts integer[], steps bigint) RETURNS integer[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT array_agg(coalesce($1[n - least($2, 21)::integer], 0) ORDER BY n) FROM generate_series(1, 21) AS n;
END;
COMMENT ON FUNCTION crm.rate_shift(integer[], bigint) IS 'Counts of 21 slots, the newest first, so many slots later.';

CREATE OR REPLACE FUNCTION crm.rate_room(integration_id bigint, settings jsonb, OUT room integer, OUT next_ms bigint)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	rate    integer := CASE WHEN $2 ->> 'rate' ~ '^[1-9][0-9]{0,5}$' THEN ($2 ->> 'rate')::integer END;
	daily   integer := CASE WHEN $2 ->> 'daily_limit' ~ '^[0-9]{1,8}$' THEN ($2 ->> 'daily_limit')::integer END;
	span_ms bigint := CASE coalesce($2 ->> 'rate_per', 's') WHEN 'min' THEN 3000 WHEN 'h' THEN 180000 WHEN 'day' THEN 4320000 ELSE 50 END;
	now_ms  bigint := crm.monotonic_ms();
	slot_now bigint := now_ms / span_ms;
	zone    text := current_setting('crm.time_zone');
	today   date := (crm.clock() AT TIME ZONE zone)::date;
	pace    double precision := coalesce((SELECT c.rate FROM crm.clock_state c), 1);
	r       crm.integration_rate;
	moment  bigint;
	oldest  integer;
BEGIN
	INSERT INTO crm.integration_rate AS x (integration_id, slot, slot_ms, counts, day) VALUES ($1, slot_now, span_ms, crm.rate_shift('{}', 0), today)
	ON CONFLICT (integration_id) DO NOTHING;
	SELECT x.* INTO r FROM crm.integration_rate x WHERE x.integration_id = $1 FOR NO KEY UPDATE;
	IF r.slot_ms <> span_ms THEN
		-- another period: all that was counted counts as just now
		r.counts := crm.rate_shift(ARRAY[(SELECT sum(u.n) FROM unnest(r.counts) AS u(n))::integer], 0);
	ELSE
		-- a slot of the future is one of before the machine's start: nobody knows how long ago that was
		r.counts := crm.rate_shift(r.counts, greatest(0, slot_now - r.slot));
	END IF;
	IF r.day <> today THEN
		r.day_count := 0;
	END IF;
	room := least(rate - (SELECT sum(u.n) FROM unnest(r.counts) AS u(n)), daily - r.day_count);
	IF room <= 0 THEN
		room := 0;
		IF rate <= (SELECT sum(u.n) FROM unnest(r.counts) AS u(n)) THEN
			SELECT max(u.i) INTO oldest FROM unnest(r.counts) WITH ORDINALITY AS u(n, i) WHERE u.n > 0;
			next_ms := (slot_now - (oldest - 1) + 21) * span_ms;
		END IF;
		IF daily <= r.day_count AND pace > 0 THEN
			moment := now_ms + (extract(epoch FROM ((today + 1)::timestamp AT TIME ZONE zone) - crm.clock()) * 1000 / pace)::bigint + 1;
			next_ms := greatest(next_ms, least(moment, now_ms + 86400000));
		END IF;
	END IF;
	UPDATE crm.integration_rate x SET slot = slot_now, slot_ms = span_ms, counts = r.counts, day = today, day_count = r.day_count
	WHERE x.integration_id = $1 AND (x.slot, x.slot_ms, x.day) IS DISTINCT FROM (slot_now, span_ms, today);
END
$$;
COMMENT ON FUNCTION crm.rate_room(bigint, jsonb) IS 'How many messages the limits of an integration let go now (NULL: it has none), and if none may when the next may, in crm.monotonic_ms. rate: at most so many in any rate_per (s, min, h, day); daily_limit: at most so many a day of the zone crm.time_zone. Counted from the table, so a restart of the courier or the machine gives no second helping.';

CREATE OR REPLACE FUNCTION crm.rate_took(integration_id bigint, settings jsonb, room integer, number integer, messages integer) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	left_ record;
BEGIN
	UPDATE crm.integration_rate x SET counts[1] = x.counts[1] + $4, day_count = x.day_count + $5 WHERE x.integration_id = $1 AND $4 > 0;
	SELECT * INTO left_ FROM crm.rate_room($1, $2);
	UPDATE crm.integration_rate x SET
		next_ms = CASE WHEN left_.room = 0 THEN left_.next_ms END,
		blocked_since = CASE WHEN left_.room = 0 THEN coalesce(x.blocked_since, clock_timestamp()) END
	WHERE x.integration_id = $1 AND (left_.room = 0 OR $4 < $3) AND (x.next_ms IS NOT NULL OR left_.room = 0);
END
$$;
COMMENT ON FUNCTION crm.rate_took(bigint, jsonb, integer, integer, integer) IS 'Counts what was claimed within crm.rate_room: requests for the rate, messages for the daily limit; notes since when and until when the limit holds the integration back.';

CREATE OR REPLACE FUNCTION crm.rate_next(integration_id bigint) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT greatest((SELECT nullif(s.hold_ms, 0) FROM crm.integration_state s WHERE s.integration_id = $1),
		(SELECT x.next_ms FROM crm.integration_rate x WHERE x.integration_id = $1))
$$;
COMMENT ON FUNCTION crm.rate_next(bigint) IS 'Before this moment of crm.monotonic_ms nothing of an integration is asked for: back-off or its limit; NULL: none was set.';

CREATE OR REPLACE VIEW crm.circuit AS
	SELECT n.name AS integration,
		CASE WHEN s.failures > 2 AND s.hold_ms > crm.monotonic_ms() THEN 'open' WHEN s.failures > 2 THEN 'half-open' ELSE 'closed' END AS state,
		s.failures, s.failing_since,
		CASE WHEN s.hold_ms > crm.monotonic_ms() THEN date_trunc('second', clock_timestamp() + (s.hold_ms - crm.monotonic_ms()) * interval '1 ms') END AS waits_until,
		s.last_error, s.last_error_at, s.last_ok_at, s.outstanding AS in_flight,
		(SELECT date_trunc('second', clock_timestamp() + (x.next_ms - crm.monotonic_ms()) * interval '1 ms') FROM crm.integration_rate x WHERE x.integration_id = n.id AND x.next_ms > crm.monotonic_ms()) AS limited_until
	FROM crm.integration n
	JOIN crm.integration_state s ON s.integration_id = n.id
	WHERE n.enabled;
COMMENT ON VIEW crm.circuit IS 'How each integration is asked now. closed: as usual, after one or two failures with a pause. open: three failures or more in a row, nothing is asked until waits_until. half-open: one request is tried; good, and it is closed, bad, and it is open for longer. Not on a standby.';
COMMENT ON COLUMN crm.circuit.integration IS 'Name of the integration';
COMMENT ON COLUMN crm.circuit.state IS 'closed, open or half-open';
COMMENT ON COLUMN crm.circuit.failures IS 'Failures since the last success';
COMMENT ON COLUMN crm.circuit.failing_since IS 'When the first of them was, real time';
COMMENT ON COLUMN crm.circuit.waits_until IS 'Nothing is asked before this: back-off with jitter, or the service''s Retry-After; real time';
COMMENT ON COLUMN crm.circuit.last_error IS 'The last failure in words, secrets masked';
COMMENT ON COLUMN crm.circuit.last_error_at IS 'When it happened, real time';
COMMENT ON COLUMN crm.circuit.last_ok_at IS 'When the service last answered well, real time';
COMMENT ON COLUMN crm.circuit.in_flight IS 'Requests claimed and not settled yet';
COMMENT ON COLUMN crm.circuit.limited_until IS 'Its own limit (settings rate, daily_limit) lets nothing go before this; real time';

CREATE OR REPLACE FUNCTION crm.log_line(words text) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_integration_log';
COMMENT ON FUNCTION crm.log_line(text) IS 'Writes one line into the server''s log (level LOG), without statement and context.';

CREATE OR REPLACE FUNCTION crm.circuit_changed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text := (SELECT n.name FROM crm.integration n WHERE n.id = NEW.integration_id);
BEGIN
	IF NEW.failures > 2 THEN
		PERFORM crm.log_line(format('integration "%s" fails, its circuit is open: %s', name,
			left(regexp_replace(coalesce(NEW.last_error, 'no reason known'), '[[:cntrl:]]+', ' ', 'g'), 500)));
	ELSIF NEW.failures = 0 THEN
		PERFORM crm.log_line(format('integration "%s" answers again after %s failures', name, OLD.failures));
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.circuit_changed() IS 'Trigger function: one line in the server''s log when an integration''s circuit opens, and one when it closes; none for what lies between.';
