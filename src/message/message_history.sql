/*
 * message: what has ended and is old moves to its history.  May be run again
 * at any time.
 *
 * crm.message_body holds what is queued, under way or fresh.  The courier moves
 * the rest in small sets to crm.message_history: body and end in one row, by
 * month, without a trigger.  Tries and results stay where they were written:
 * they are partitioned by month already, a copy of a gigabyte would save
 * nothing, and a late report finds them.  Whoever gives a message a new try
 * locks its body first or brings it back (crm.message_back): the move skips
 * what is locked, and looks again at what it has locked.
 *
 * OFFSET 0: see message_outbox.sql.
 */

CREATE OR REPLACE VIEW crm.message_said AS
	SELECT b.id, b.integration_id, b.lane, b.channel, b.recipient, b.sender, b.subject, b.body, b.html, b.language, b.encoding, b.segments,
		b.rule_id, b.rule_version, b.template_id, b.template_version, b.event_id, b.event_known_at, b.object_kind, b.object_id,
		b.company_id, b.contact_id, b.contact_point_id, b.zone, b.quiet_kind, b.open_until, b.not_before, b.expires_at, b.depth, b.sandbox,
		b.queued_at, b.queued_by, b.chain_id, b.follows_id, b.step, b.bytes, NULL::text AS state, NULL::timestamptz AS ended_at, NULL::timestamptz AS sent_at
	FROM crm.message_body b
	UNION ALL
	SELECT h.id, h.integration_id, h.lane, h.channel, h.recipient, h.sender, h.subject, h.body, h.html, h.language, h.encoding, h.segments,
		h.rule_id, h.rule_version, h.template_id, h.template_version, h.event_id, h.event_known_at, h.object_kind, h.object_id,
		h.company_id, h.contact_id, h.contact_point_id, h.zone, h.quiet_kind, h.open_until, h.not_before, h.expires_at, h.depth, h.sandbox,
		h.queued_at, h.queued_by, h.chain_id, h.follows_id, h.step, h.bytes, h.state, h.ended_at, h.sent_at
	FROM crm.message_history h;
COMMENT ON VIEW crm.message_said IS 'What was said to whom, wherever it lies: crm.message_body and crm.message_history as one. For code that joins; people read crm.message';
COMMENT ON COLUMN crm.message_said.id IS 'Number of the message, drawn by crm.next_message_id()';
COMMENT ON COLUMN crm.message_said.integration_id IS 'Integration that carries it (crm.integration.id)';
COMMENT ON COLUMN crm.message_said.lane IS 'Lane of the queue: 2 first, 1, 0 last; NULL: it waited for an hour, or never was to be sent';
COMMENT ON COLUMN crm.message_said.channel IS 'sms, email, telegram';
COMMENT ON COLUMN crm.message_said.recipient IS 'Phone in E.164 or address of the reader';
COMMENT ON COLUMN crm.message_said.sender IS 'Sender that the reader sees';
COMMENT ON COLUMN crm.message_said.subject IS 'Subject of a letter';
COMMENT ON COLUMN crm.message_said.body IS 'Text as sent';
COMMENT ON COLUMN crm.message_said.html IS 'HTML part of a letter';
COMMENT ON COLUMN crm.message_said.language IS 'Language of the text';
COMMENT ON COLUMN crm.message_said.encoding IS 'For sms: GSM7 or UCS2';
COMMENT ON COLUMN crm.message_said.segments IS 'For sms: parts that the provider bills';
COMMENT ON COLUMN crm.message_said.rule_id IS 'Rule that queued it (crm.rule.id); NULL: sent by hand';
COMMENT ON COLUMN crm.message_said.rule_version IS 'Version of that rule';
COMMENT ON COLUMN crm.message_said.template_id IS 'Template that it was filled from (crm.template.id)';
COMMENT ON COLUMN crm.message_said.template_version IS 'Version of that template';
COMMENT ON COLUMN crm.message_said.event_id IS 'Event that it announces (crm.event.id)';
COMMENT ON COLUMN crm.message_said.event_known_at IS 'known_at of that event: names its partition';
COMMENT ON COLUMN crm.message_said.object_kind IS 'What the event happened to';
COMMENT ON COLUMN crm.message_said.object_id IS 'id of what the event happened to';
COMMENT ON COLUMN crm.message_said.company_id IS 'Company of the reader (crm.company.id)';
COMMENT ON COLUMN crm.message_said.contact_id IS 'Reader (crm.contact.id); NULL: an address given by hand';
COMMENT ON COLUMN crm.message_said.contact_point_id IS 'Address of the reader (crm.contact_point.id)';
COMMENT ON COLUMN crm.message_said.zone IS 'Reader''s time zone, IANA name';
COMMENT ON COLUMN crm.message_said.quiet_kind IS 'Hours of crm.quiet_hours that it respects; NULL: any hour';
COMMENT ON COLUMN crm.message_said.open_until IS 'Until when the reader''s hours, as computed when it was queued, let it go; later they are computed again';
COMMENT ON COLUMN crm.message_said.not_before IS 'Not to be sent before this moment, business clock';
COMMENT ON COLUMN crm.message_said.expires_at IS 'Not to be sent at or after this moment, business clock';
COMMENT ON COLUMN crm.message_said.depth IS 'Length of the chain of events and messages that led here; bounded by 8';
COMMENT ON COLUMN crm.message_said.sandbox IS 'Queued in the mode sandbox: goes to a test recipient whatever the mode is later';
COMMENT ON COLUMN crm.message_said.queued_at IS 'When it was queued, business clock';
COMMENT ON COLUMN crm.message_said.queued_by IS 'Login whose transaction queued it';
COMMENT ON COLUMN crm.message_said.chain_id IS 'First message of the chain in which this one follows (crm.message.id); NULL: it follows none';
COMMENT ON COLUMN crm.message_said.follows_id IS 'Message in whose place this one goes (crm.message.id); NULL: of none';
COMMENT ON COLUMN crm.message_said.step IS 'Which step of the chain it is, from 1; NULL: the first message';
COMMENT ON COLUMN crm.message_said.bytes IS 'Octets of its texts in UTF-8, as queued: subject, body and html; stays when the reader is forgotten';
COMMENT ON COLUMN crm.message_said.state IS 'State with which it moved to its history; NULL: it has not moved, crm.message tells';
COMMENT ON COLUMN crm.message_said.ended_at IS 'When we knew its end, where its history says so';
COMMENT ON COLUMN crm.message_said.sent_at IS 'When the provider took it, where its history says so';

SELECT crm.register_growing('crm.message_history', 'id');
SELECT crm.register_growing('crm.message_attempt', 'message_id', 'append-only, also for its owner; its statement triggers do nothing on INSERT');
SELECT crm.register_growing('crm.message_result', 'message_id', 'append-only, also for its owner; an arrived message proves its address in the same transaction');
SELECT crm.register_growing('crm.message_price', 'message_id', 'append-only, also for its owner');
SELECT crm.register_growing('crm.message_attachment', 'message_id');
SELECT crm.register_growing('crm.message_skip', 'event_id');
SELECT crm.register_growing('crm.message_key', 'object_id');

CREATE OR REPLACE FUNCTION crm.message_moved_only() RETURNS trigger
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
DECLARE
	lost bigint;
BEGIN
	SELECT g.id INTO lost FROM gone g
	WHERE NOT EXISTS (SELECT FROM crm.message_history h WHERE h.id = g.id AND h.queued_at = g.queued_at OFFSET 0)
	ORDER BY g.id LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('message %s cannot be deleted: its history does not have it', lost),
			HINT = 'The courier moves messages that have ended; crm.set_retention() says when, and for how long they are kept.';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.message_moved_only() IS 'Statement trigger on crm.message_body: a message leaves it only for crm.message_history. Error 55000';

CREATE OR REPLACE FUNCTION crm.message_ends(message_ids bigint[]) RETURNS TABLE (id bigint, queued_at timestamptz, state text,
	ended_at timestamptz, sent_at timestamptz, delivered_at timestamptz, provider_id text, last_error text, attempts integer)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT b.id, b.queued_at, COALESCE(r.state, a.outcome), r.at, CASE WHEN a.outcome = 'sent' THEN a.at END,
		CASE WHEN r.state = 'delivered' THEN COALESCE(r.reported_at, r.at) END, COALESCE(r.provider_id, a.provider_id),
		CASE WHEN r.state IS DISTINCT FROM 'delivered' THEN COALESCE(r.words, CASE WHEN a.outcome <> 'sent' THEN a.words END) END,
		COALESCE(a.attempt, 0)
	FROM crm.message_body b
	LEFT JOIN LATERAL (SELECT x.state, x.at, x.reported_at, x.provider_id, x.words FROM crm.message_result x
		WHERE x.message_id = b.id AND x.at >= b.queued_at - interval '1 day' LIMIT 1) r ON true
	LEFT JOIN LATERAL (SELECT x.attempt, x.outcome, x.at, x.provider_id, x.words FROM crm.message_attempt x
		WHERE x.message_id = b.id AND x.at >= b.queued_at - interval '1 day' AND x.outcome <> 'report' ORDER BY x.attempt DESC, x.at DESC LIMIT 1) a ON true
	WHERE b.id = ANY ($1)
		AND CASE WHEN r.state IS NOT NULL THEN r.at < crm.clock() - crm.keep_of('message.ended')
			ELSE a.outcome IN ('sent', 'uncertain') AND a.at < crm.clock() - crm.keep_of('message.open') END
		AND NOT EXISTS (SELECT FROM crm.message_delayed d WHERE d.message_id = b.id OFFSET 0)
		AND NOT EXISTS (SELECT FROM crm.message_timer t WHERE t.message_id = b.id OFFSET 0)
		AND NOT EXISTS (SELECT FROM crm.message_watch w WHERE w.message_id = b.id OFFSET 0)
		AND NOT EXISTS (SELECT FROM crm.message_lease l WHERE l.integration_id = b.integration_id AND l.ids @> b.id)
		AND NOT EXISTS (SELECT FROM crm.message_flight f WHERE f.message_id = b.id AND NOT f.spent OFFSET 0)
$$;
COMMENT ON FUNCTION crm.message_ends(bigint[]) IS 'Those of these messages that may move to their history, with what became of them: ended, or sent or uncertain, for longer than crm.retention says, in nobody''s hands, and waiting for nothing';

CREATE OR REPLACE FUNCTION crm.message_columns() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
	WHERE a.attrelid = 'crm.message_body'::regclass AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION crm.message_columns() IS 'The columns of crm.message_body, all of which crm.message_history has';

CREATE OR REPLACE FUNCTION crm.message_move(amount integer DEFAULT 2000) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
	SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
	newest timestamptz := crm.clock() - LEAST(crm.keep_of('message.ended'), crm.keep_of('message.open'));
	begin_id bigint := COALESCE((SELECT w.after_id FROM crm.message_walk w), 0);
	looked bigint[];
	old bigint[];
	moved integer := 0;
	last bigint;
	at timestamptz;
	month timestamptz;
	columns text;
BEGIN
	IF newest IS NULL OR amount IS NULL OR amount <= 0 THEN
		RETURN 0;
	END IF;
	-- A piece of the table in the order of numbers, which is about that of time: what does not move yet is
	-- passed over, and looked at again in the next round.
	SELECT array_agg(x.id), array_agg(x.id) FILTER (WHERE x.queued_at < newest), max(x.id) INTO looked, old, last
	FROM (SELECT b.id, b.queued_at FROM crm.message_body b WHERE b.id > begin_id ORDER BY b.id LIMIT LEAST(amount, 100000)) x;
	IF cardinality(looked) < amount OR old IS NULL THEN
		last := 0;						-- the fresh end: the next round begins
	END IF;
	IF COALESCE(last, 0) <> begin_id THEN
		INSERT INTO crm.message_walk AS w (after_id) VALUES (COALESCE(last, 0)) ON CONFLICT (one) DO UPDATE SET after_id = excluded.after_id;
	END IF;
	SELECT array_agg(e.id) INTO old FROM crm.message_ends(old) e;
	IF old IS NULL THEN
		RETURN 0;
	END IF;
	SELECT array_agg(x.id) INTO old
	FROM (SELECT b.id FROM crm.message_body b WHERE b.id = ANY (old) ORDER BY b.id FOR UPDATE SKIP LOCKED) x;

	-- Locked: nobody gives them a new try from here on; who did so meanwhile is seen by these statements.
	FOR month IN SELECT DISTINCT date_trunc('month', b.queued_at, 'UTC') FROM crm.message_body b WHERE b.id = ANY (old) LOOP
		PERFORM crm.make_partitions('crm.message_history', month, month);
	END LOOP;
	columns := crm.message_columns();
	EXECUTE format('WITH moved AS (INSERT INTO crm.message_history AS h (%1$s, state, ended_at, sent_at, delivered_at, provider_id, last_error, attempts) '
		'SELECT %2$s, e.state, e.ended_at, e.sent_at, e.delivered_at, e.provider_id, e.last_error, e.attempts '
		'FROM crm.message_ends($1) e CROSS JOIN LATERAL (SELECT x.* FROM crm.message_body x WHERE x.id = e.id OFFSET 0) b RETURNING h.id) '
		'SELECT array_agg(m.id) FROM moved m', columns, 'b.' || replace(columns, ', ', ', b.')) INTO old USING old;
	DELETE FROM crm.message_body b WHERE b.id = ANY (old);
	GET DIAGNOSTICS moved = ROW_COUNT;
	RETURN moved;
END
$$;
COMMENT ON FUNCTION crm.message_move(integer) IS 'Looks at the next so many messages of crm.message_body (at most 100000) and moves those that have ended and are old (crm.retention: message.ended, message.open) to crm.message_history; returns how many. Waits for no lock but its own';

CREATE OR REPLACE FUNCTION crm.message_back(message_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	columns text := crm.message_columns();
BEGIN
	PERFORM FROM crm.message_body b WHERE b.id = $1 FOR UPDATE;
	IF FOUND THEN
		RETURN true;
	END IF;
	PERFORM FROM crm.message_history h WHERE h.id = $1 FOR UPDATE;
	IF NOT FOUND THEN
		RETURN EXISTS (SELECT FROM crm.message_body b WHERE b.id = $1);
	END IF;
	EXECUTE format('INSERT INTO crm.message_body (%1$s) SELECT %1$s FROM crm.message_history h WHERE h.id = $1', columns) USING $1;
	DELETE FROM crm.message_history h WHERE h.id = $1;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.message_back(bigint) IS 'Keeps a message in crm.message_body until the transaction ends, and brings it back from its history where it had moved: before it gets a new try. False: there is none of that number';

-- What needs a part that is past its time ---------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.message_part_free(part regclass, upto timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	needed boolean;
BEGIN
	EXECUTE format('SELECT EXISTS (SELECT FROM crm.message_body b WHERE b.queued_at < $1 AND EXISTS (SELECT FROM %s x WHERE x.message_id = b.id))', part)
		INTO needed USING upto;
	RETURN NOT needed;
END
$$;
COMMENT ON FUNCTION crm.message_part_free(regclass, timestamptz) IS 'Whether no message that is still in crm.message_body has a row in a part of its tries or files';

CREATE OR REPLACE FUNCTION crm.message_result_free(part regclass, upto timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	-- a message was queued before its end: its history goes first
	RETURN NOT EXISTS (SELECT FROM crm.partitions_past('crm.message_history', upto)) AND crm.message_part_free(part, upto);
END
$$;
COMMENT ON FUNCTION crm.message_result_free(regclass, timestamptz) IS 'Whether the messages of a part of crm.message_result are gone: with them it goes';

CREATE OR REPLACE FUNCTION crm.message_history_maintain() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	until timestamptz := clock_timestamp() + interval '50 milliseconds';
	begun bigint := COALESCE((SELECT w.after_id FROM crm.message_walk w), 0);
BEGIN
	-- the courier moves no byte meanwhile
	LOOP
		PERFORM crm.message_move(500);
		EXIT WHEN clock_timestamp() > until OR COALESCE((SELECT w.after_id FROM crm.message_walk w), 0) <= begun;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.message_history_maintain() IS 'The courier moves messages that have ended to their history, by the 500, for about 50 ms and to the end of the round at most';

SELECT crm.register_hook('maintain', 'history', 'crm.message_history_maintain');
SELECT crm.register_undumped('crm.message_walk', 'a place in a round that begins anew');
SELECT crm.register_partitioned('crm.message_history', 'queued_at', 'month', ARRAY[
	'CREATE UNIQUE INDEX ON crm.%1$I (id)',
	'CREATE INDEX ON crm.%1$I (contact_id, id) WHERE contact_id IS NOT NULL',
	'CREATE INDEX ON crm.%1$I (event_id) WHERE event_id IS NOT NULL',
	'CREATE INDEX ON crm.%1$I (follows_id) WHERE follows_id IS NOT NULL',
	'CREATE INDEX ON crm.%1$I (chain_id) WHERE chain_id IS NOT NULL']);
SELECT crm.register_partitioned('crm.message_attachment', 'at', 'month', ARRAY['CREATE UNIQUE INDEX ON crm.%1$I (message_id, name)']);
SELECT crm.register_partitioned('crm.message_skip', 'at', 'month', ARRAY['CREATE INDEX ON crm.%1$I (event_id)']);
SELECT crm.register_no_foreign_key('crm.message_history', c.name, 'history, partitioned')
FROM unnest(ARRAY['integration_id', 'rule_id', 'template_id', 'event_id', 'object_id', 'company_id', 'contact_id', 'contact_point_id', 'provider_id', 'chain_id', 'follows_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.message_walk', 'after_id', 'a place, not a row');

SELECT crm.register_retention('message.ended', '7 days', '1 hour', 'How long a message that has ended stays among those that are under way, before it moves to crm.message_history; NULL: it never moves');
SELECT crm.register_retention('message.open', '30 days', '4 days', 'The same for one that was sent and never reported on, or is uncertain: its report is taken after that too');
SELECT crm.register_retention('crm.message_history', NULL, '1 month', 'Messages that have ended, and with them their results. Bonuses and reports count them: kept for ever unless chosen');
SELECT crm.register_retention('crm.message_result', NULL, '1 month', 'How messages ended: goes with crm.message_history',
	follows => 'crm.message_history', guard => 'crm.message_result_free');
SELECT crm.register_retention('crm.message_attempt', NULL, '1 month', 'What each try and each report said; what the last one said stays in crm.message_history',
	follows => 'crm.message_history', guard => 'crm.message_part_free');
SELECT crm.register_retention('crm.message_attachment', NULL, '1 month', 'Files of letters',
	follows => 'crm.message_history', guard => 'crm.message_part_free');
SELECT crm.register_retention('crm.message_skip', '90 days', '1 day', 'Why rules queued nothing for a reader');
