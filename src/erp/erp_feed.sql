-- erp: the feed that the ERP reads, and the numbers of messages both ways (protocols/erp.md, section 4).
--
-- A change is a row of crm.erp_changed in its own transaction. A position is given after commit, by whoever holds the
-- row of crm.erp_feed_state: a reader, or the courier where nobody reads. So positions are without holes, and what
-- commits late gets a later one; a number from a sequence, taken before commit, would be passed over for ever. Who
-- finds the row taken goes without: what the other one stamps is above all that is to be seen yet.

-- ---- noting changes ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_origin() RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT coalesce(
		(SELECT s.node FROM crm.erp_speaking s WHERE s.xid = pg_current_xact_id_if_assigned()),
		(SELECT min(n.node) FROM crm.erp_node n WHERE n.login = session_user::text));
END;
COMMENT ON FUNCTION crm.erp_origin() IS 'The node that this transaction writes for: whose put_batch(node, …) it is in, or whose login the session is; NULL: the CRM itself';

CREATE OR REPLACE FUNCTION crm.erp_feed_heard(object_type text, origin text) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM crm.erp_node n WHERE n.feeding AND n.node IS DISTINCT FROM $2 AND (n.object_types IS NULL OR $1 = ANY (n.object_types)));
END;
COMMENT ON FUNCTION crm.erp_feed_heard(text, text) IS 'Whether any node wants to hear of a change of such an object by such an origin';

CREATE OR REPLACE FUNCTION crm.erp_feed_note() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	type_   text := CASE TG_ARGV[0] WHEN 'contact_point' THEN 'contact' ELSE TG_ARGV[0] END;
	origin_ text;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	-- A snapshot from before a node's first call does not show the node: then it is noted in any case.
	IF current_setting('transaction_isolation') = 'read committed' THEN
		IF NOT crm.erp_feed_heard(type_, NULL) THEN
			RETURN NULL;
		END IF;
		origin_ := crm.erp_origin();
		IF NOT crm.erp_feed_heard(type_, origin_) THEN
			RETURN NULL;
		END IF;
	ELSE
		origin_ := crm.erp_origin();
	END IF;
	-- No join: a plan once made for one row would serve a million.
	IF TG_ARGV[0] = 'contact_point' THEN
		IF TG_OP = 'DELETE' THEN
			INSERT INTO crm.erp_changed (object_type, object_id, origin) SELECT DISTINCT 'contact', b.contact_id, origin_ FROM before_ b;
		ELSE
			INSERT INTO crm.erp_changed (object_type, object_id, origin) SELECT DISTINCT 'contact', a.contact_id, origin_ FROM after_ a;
		END IF;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO crm.erp_changed (object_type, object_id, erp_id, origin)
		SELECT type_, (j.row ->> 'id')::bigint, CASE WHEN j.row ->> 'source' = 'erp' THEN j.row ->> 'source_id' END, origin_
		FROM (SELECT to_jsonb(b) AS row FROM before_ b) j;
	ELSE
		INSERT INTO crm.erp_changed (object_type, object_id, origin) SELECT type_, a.id, origin_ FROM after_ a ORDER BY a.id;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.erp_feed_note() IS 'Trigger function: notes the rows of a statement for the nodes that want to hear of them, all at once; nothing where there is none. Asks crm.guard()';

CREATE OR REPLACE FUNCTION crm.erp_feed_note_row() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	origin_ text;
BEGIN
	IF crm.guard() AND (crm.erp_feed_heard(TG_ARGV[0], NULL) OR current_setting('transaction_isolation') <> 'read committed') THEN
		origin_ := crm.erp_origin();
		INSERT INTO crm.erp_changed (object_type, object_id, origin) SELECT TG_ARGV[0], NEW.id, origin_
		WHERE crm.erp_feed_heard(TG_ARGV[0], origin_) OR current_setting('transaction_isolation') <> 'read committed';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.erp_feed_note_row() IS 'Trigger function: the same for a row whose trigger looks at what changed in it. Asks crm.guard()';

-- ---- stamping ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_feed_stamp() RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	state  crm.erp_feed_state;
	number bigint;
BEGIN
	SELECT s.* INTO state FROM crm.erp_feed_state s FOR NO KEY UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN 0;
	END IF;
	IF NOT EXISTS (SELECT FROM crm.erp_node n WHERE n.feeding) THEN
		DELETE FROM crm.erp_changed c WHERE c.id IN (SELECT x.id FROM crm.erp_changed x ORDER BY x.id LIMIT 100000);
		RETURN 0;
	END IF;
	-- Of one object only its last change: it is its state that is fed.
	WITH gone AS (
		DELETE FROM crm.erp_changed c WHERE c.id IN (SELECT x.id FROM crm.erp_changed x ORDER BY x.id LIMIT 100000)
		RETURNING c.*
	), stamped AS (
		INSERT INTO crm.erp_feed (position, object_type, object_id, erp_id, changed_at, origin, for_node)
		SELECT state.position + row_number() OVER (ORDER BY g.id), g.object_type, g.object_id, g.erp_id, g.changed_at, g.origin, g.for_node
		FROM (SELECT DISTINCT ON (x.object_type, x.object_id, x.origin, x.for_node) x.* FROM gone x
			ORDER BY x.object_type, x.object_id, x.origin, x.for_node, x.id DESC) g
		RETURNING 1
	)
	SELECT count(*) INTO number FROM stamped;
	IF number > 0 THEN
		UPDATE crm.erp_feed_state s SET position = state.position + number;
	END IF;
	RETURN number;
END
$$;
COMMENT ON FUNCTION crm.erp_feed_stamp() IS 'Gives positions to changes that have committed, in the order of their writing and without holes, at most 100000 a call; returns how many. Waits for nobody: while another session stamps, 0. Error 40001 under REPEATABLE READ, when another stamped meanwhile';

CREATE OR REPLACE FUNCTION crm.erp_place() RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT concat_ws('/', b.system_identifier, b.timeline, b.machine, b.data_directory, b.database_oid) FROM crm.binding() b);
END
$$;
COMMENT ON FUNCTION crm.erp_place() IS 'Where this database stands, in one text (crm.binding)';

CREATE OR REPLACE FUNCTION crm.erp_feed_activated() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO crm.erp_feed_state AS s (epoch, place) VALUES (1, crm.erp_place())
	ON CONFLICT (only_row) DO UPDATE SET epoch = s.epoch + 1, place = EXCLUDED.place WHERE s.place <> EXCLUDED.place;
END
$$;
COMMENT ON FUNCTION crm.erp_feed_activated() IS 'Begins a new epoch of the feed where crm.activate() is called in another place than the last time; called again in the same place it changes nothing, or every update would cost the ERP a whole load';
SELECT crm.register_hook('activate', 'erp feed', 'crm.erp_feed_activated');

CREATE OR REPLACE FUNCTION crm.erp_feed_maintain() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	upto  bigint;
	limit_ timestamptz := crm.now() - crm.keep_of('crm.erp_feed');
BEGIN
	IF NOT crm.guard() THEN
		RETURN;
	END IF;
	PERFORM crm.erp_feed_stamp();
	SELECT coalesce(min(x.position) FILTER (WHERE x.changed_at >= limit_) - 1, max(x.position)) INTO upto
	FROM (SELECT f.position, f.changed_at FROM crm.erp_feed f ORDER BY f.position LIMIT 10000) x;
	IF EXISTS (SELECT FROM crm.erp_feed f WHERE f.position <= upto) THEN
		UPDATE crm.erp_feed_state s SET dropped_to = greatest(s.dropped_to, upto);
		DELETE FROM crm.erp_feed f WHERE f.position <= upto;
	END IF;
	DELETE FROM crm.erp_message m WHERE (m.node, m.message_no) IN (
		SELECT x.node, x.message_no FROM crm.erp_message x WHERE x.received_at < crm.now() - crm.keep_of('crm.erp_message') ORDER BY x.received_at LIMIT 1000);
END
$$;
COMMENT ON FUNCTION crm.erp_feed_maintain() IS 'Stamps what nobody reads, drops what is older than crm.retention says, in steps. Called by the courier';
SELECT crm.register_hook('maintain', 'erp feed', 'crm.erp_feed_maintain');
SELECT crm.register_retention('crm.erp_feed', '90 days', '1 day', 'Changes that a node of the ERP has not confirmed; a node that stayed away longer begins anew (crm_erp.start_anew)');
SELECT crm.register_retention('crm.erp_message', '90 days', '1 day', 'Numbers and hashes of messages taken from the ERP: so long a repetition is known as one');

-- ---- nodes -------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_node_name(value text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text := crm.erp_text(value, 'node', 63);
BEGIN
	IF name IS NULL THEN
		PERFORM crm.erp_fail('22004', 'node is empty', 'Send the name of the ERP''s base in node, the same each time.');
	END IF;
	RETURN name;
END
$$;
COMMENT ON FUNCTION crm.erp_node_name(text) IS 'The name of a node as kept. Errors: 22004 empty, 22001 over 63 signs';

CREATE OR REPLACE FUNCTION crm.erp_node_open(value text, same_epoch boolean DEFAULT true) RETURNS crm.erp_node
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name  text := crm.erp_node_name(value);
	state crm.erp_feed_state;
	n     crm.erp_node;
BEGIN
	PERFORM crm.erp_begin();
	SELECT s.* INTO STRICT state FROM crm.erp_feed_state s;
	SELECT y.* INTO n FROM crm.erp_node y WHERE y.node = name FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF (SELECT count(*) FROM crm.erp_node) >= 100 THEN
			PERFORM crm.erp_fail('54000', format('node "%s" would be one of more than 100', name),
				'Each base of the ERP is one node: send the same name each time. A DBA takes away those that are none: SELECT crm.drop_erp_node(''name'').');
		END IF;
		INSERT INTO crm.erp_node (node, epoch, sent_position, acked_position) VALUES (name, state.epoch, state.position, state.position)
		ON CONFLICT ON CONSTRAINT erp_node_pkey DO NOTHING;
		SELECT y.* INTO STRICT n FROM crm.erp_node y WHERE y.node = name FOR NO KEY UPDATE;
	END IF;
	IF same_epoch AND (n.epoch <> state.epoch OR n.feeding AND n.acked_position < state.dropped_to) THEN
		PERFORM crm.erp_fail('55000', CASE WHEN n.epoch <> state.epoch
				THEN format('the exchange with node "%s" is of epoch %s, and this database, restored or copied since, is in epoch %s', name, n.epoch, state.epoch)
				ELSE format('node "%s" has not confirmed anything for so long that changes were dropped', name) END,
			format('Begin anew: SELECT crm_erp.start_anew(''%s'', ''the number of the last message that you sent'', ''the number of the last one that you took''). Everything is then fed once more under new numbers. Compare with crm_erp.reconcile.', name));
	END IF;
	RETURN n;
END
$$;
COMMENT ON FUNCTION crm.erp_node_open(text, boolean) IS 'The row of a node, locked to the end of the transaction, made where the name is new (at most 100). Errors: 22004 and 22001 name, 54000 too many, 55000 not active, another epoch, or changes that were dropped because of their age, with what to do';

CREATE OR REPLACE FUNCTION crm.drop_erp_node(node text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM crm.erp_node n WHERE n.node = drop_erp_node.node;
	IF NOT FOUND THEN
		RETURN false;
	END IF;
	DELETE FROM crm.erp_message m WHERE m.node = drop_erp_node.node;
	DELETE FROM crm.erp_changed c WHERE c.for_node = drop_erp_node.node;
	DELETE FROM crm.erp_feed f WHERE f.for_node = drop_erp_node.node OR NOT EXISTS (SELECT FROM crm.erp_node n WHERE n.feeding);
	PERFORM crm.erp_feed_tidy();
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.drop_erp_node(text) IS 'Takes a node of the exchange away, with what is kept for it alone; false: there is none of that name';

CREATE OR REPLACE FUNCTION crm.set_erp_node(node text, login text DEFAULT NULL, object_types text[] DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	stray text := (SELECT t FROM unnest(object_types) t WHERE t IS NULL OR t <> ALL (ARRAY['company', 'contact', 'deal', 'order', 'trip', 'claim', 'document', 'lead']) LIMIT 1);
BEGIN
	IF object_types IS NOT NULL AND (stray IS NOT NULL OR cardinality(object_types) = 0 OR array_position(object_types, NULL) IS NOT NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the feed has no objects of type %s', coalesce(quote_literal(stray), 'NULL')),
			HINT = 'Choose from company, contact, deal, order, trip, claim, document, lead, or NULL for all.';
	END IF;
	IF login IS NOT NULL AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = login) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('role "%s" does not exist', login), HINT = 'Give the role by which the ERP logs in, or NULL.';
	END IF;
	PERFORM crm.erp_node_open(node, false);
	UPDATE crm.erp_node n SET login = set_erp_node.login, object_types = set_erp_node.object_types WHERE n.node = crm.erp_node_name(set_erp_node.node);
END
$$;
COMMENT ON FUNCTION crm.set_erp_node(text, text, text[]) IS 'What a node hears of (types of objects, NULL: all; those that are added are fed from their next change on), and the login whose plain put_ calls count as its own and are not fed back to it. Errors: 22023 types, 42704 no such role, those of crm.erp_node_open';

CREATE OR REPLACE FUNCTION crm.erp_feed_load(node text, unseen pg_snapshot DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t      record;
	number bigint;
	total  bigint := 0;
	this   bigint := pg_snapshot_xmax(pg_current_snapshot())::text::bigint;
	base   bigint := (this >> 32) << 32;
BEGIN
	FOR t IN SELECT * FROM (VALUES ('company', 'company', 'id'), ('contact', 'contact', 'id'), ('contact', 'contact_point', 'contact_id'), ('deal', 'deal', 'id'),
			('order', 'customer_order', 'id'), ('trip', 'trip', 'id'), ('claim', 'claim', 'id'), ('document', 'document', 'id'), ('lead', 'lead', 'id')) AS v(object_type, table_name, column_name)
		WHERE EXISTS (SELECT FROM crm.erp_node n WHERE n.node = erp_feed_load.node AND (n.object_types IS NULL OR v.object_type = ANY (n.object_types)))
	LOOP
		CONTINUE WHEN unseen IS NULL AND t.table_name = 'contact_point';
		-- A row's transaction has 32 bits: the rest is of this epoch, or of the one before.
		EXECUTE format('INSERT INTO crm.erp_changed (object_type, object_id, for_node) SELECT DISTINCT %L, x.%I, $1 FROM crm.%I x'
			|| CASE WHEN unseen IS NOT NULL THEN ' WHERE NOT pg_visible_in_snapshot((CASE WHEN $2 + x.xmin::text::bigint > $3 THEN greatest($2 - 4294967296 + x.xmin::text::bigint, 3) ELSE $2 + x.xmin::text::bigint END)::text::xid8, $4)' ELSE '' END
			|| ' ORDER BY 2', t.object_type, t.column_name, t.table_name)
		USING erp_feed_load.node, base, this, unseen;
		GET DIAGNOSTICS number = ROW_COUNT;
		total := total + number;
	END LOOP;
	RETURN total;
END
$$;
COMMENT ON FUNCTION crm.erp_feed_load(text, pg_snapshot) IS 'Notes every object for a node, or those only that a snapshot did not see in their present state; returns how many';

-- ---- reading -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.feed(node text, "limit" text DEFAULT '1000') RETURNS SETOF crm_erp.feed_row
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	most   integer := coalesce(crm.erp_range(crm.erp_number("limit", 'limit'), 'limit', 1, 10000, 'objects'), 1000);
	n      crm.erp_node;
	state  crm.erp_feed_state;
	zone   text := crm.erp_zone();
	upto   bigint;
	found_ boolean;
BEGIN
	n := crm.erp_node_open(node);
	IF NOT n.feeding THEN
		UPDATE crm.erp_node y SET feeding = true, load_snapshot = pg_current_snapshot() WHERE y.node = n.node;
		PERFORM crm.erp_feed_load(n.node);
	ELSIF n.load_snapshot IS NOT NULL THEN
		-- Who wrote before the first call had committed did not know of the node: what he wrote is looked for when he has ended.
		IF n.load_xid IS NULL THEN
			UPDATE crm.erp_node y SET load_xid = pg_snapshot_xmax(pg_current_snapshot()) WHERE y.node = n.node RETURNING y.* INTO n;
		END IF;
		IF NOT EXISTS (SELECT FROM pg_snapshot_xip(pg_current_snapshot()) x WHERE x < n.load_xid) THEN
			PERFORM crm.erp_feed_load(n.node, n.load_snapshot);
			UPDATE crm.erp_node y SET load_xid = NULL, load_snapshot = NULL WHERE y.node = n.node;
		END IF;
	END IF;
	PERFORM crm.erp_feed_stamp();
	SELECT s.* INTO STRICT state FROM crm.erp_feed_state s;

	LOOP
		IF n.sent_no = n.acked_no THEN
			SELECT max(x.position), count(*) = most INTO upto, found_
			FROM (SELECT f.position FROM crm.erp_feed f
				WHERE f.position > n.acked_position AND f.position <= state.position AND (f.for_node IS NULL OR f.for_node = n.node) AND f.origin IS DISTINCT FROM n.node
					AND (n.object_types IS NULL OR f.object_type = ANY (n.object_types))
				ORDER BY f.position LIMIT most) x;
			IF upto IS NULL THEN
				-- What it wrote itself, or does not want, is behind it; not written each time that it asks in vain.
				UPDATE crm.erp_node y SET sent_position = state.position, acked_position = state.position
				WHERE y.node = n.node AND y.acked_position < state.position;
				PERFORM crm.erp_feed_tidy() WHERE n.acked_position < state.position;
				RETURN;
			END IF;
			IF NOT found_ THEN
				upto := state.position;
			END IF;
			UPDATE crm.erp_node y SET sent_no = n.sent_no + 1, sent_position = upto, sent_at = crm.now() WHERE y.node = n.node RETURNING y.* INTO n;
		END IF;

		RETURN QUERY
			WITH said AS (
				SELECT f.object_type, f.object_id, max(f.position) AS position, max(f.changed_at) AS changed_at, max(f.erp_id) AS erp_id
				FROM crm.erp_feed f
				WHERE f.position > n.acked_position AND f.position <= n.sent_position AND (f.for_node IS NULL OR f.for_node = n.node) AND f.origin IS DISTINCT FROM n.node
					AND (n.object_types IS NULL OR f.object_type = ANY (n.object_types))
				GROUP BY f.object_type, f.object_id
			), kept AS (
				SELECT k.object_type, p.object_id, p.gone, p.payload
				FROM (SELECT s.object_type, array_agg(s.object_id) AS ids FROM said s GROUP BY s.object_type) k
				CROSS JOIN LATERAL crm.erp_feed_payload(k.object_type, k.ids) p
			)
			SELECT n.sent_no, s.position, s.object_type::varchar(20), s.object_id::text::varchar(64),
				(CASE WHEN k.object_id IS NULL OR k.gone THEN 'D' ELSE 'U' END)::varchar(1),
				date_trunc('second', s.changed_at AT TIME ZONE zone),
				coalesce(k.payload, json_strip_nulls(json_build_object('id', s.object_id, 'erp_id', s.erp_id))::text),
				(n.epoch || ':' || n.sent_position)::varchar(40)
			FROM said s
			LEFT JOIN kept k ON k.object_type = s.object_type AND k.object_id = s.object_id
			-- our own people are contacts, too, but no client's
			WHERE NOT (s.object_type = 'contact' AND k.object_id IS NULL AND EXISTS (SELECT FROM crm.contact y WHERE y.id = s.object_id AND y.source = 'employee'))
			ORDER BY s.position;
		EXIT WHEN FOUND;
		-- Nobody can confirm a message without a row.
		UPDATE crm.erp_node y SET acked_no = y.sent_no, acked_position = y.sent_position WHERE y.node = n.node RETURNING y.* INTO n;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm_erp.feed(text, text) IS 'What changed in the CRM for a node of the ERP: the next message, at most limit objects (1 to 10000), a row an object in its newest state, in the order of their changes; no row: nothing new. Until crm_erp.ack(node, message_no) the same message with the same objects comes again. A node''s first call gives everything that is there. What the node''s own put_batch(node, …) wrote is not fed back to it. A message counts once the call has ended without an error. Errors, the advice in DETAIL too: 22004 and 22001 node, 22003 and 22P02 limit, 54000 too many nodes, 55000 not active, or restored since: begin anew';

CREATE OR REPLACE FUNCTION crm_erp.feed(node text, "limit" numeric) RETURNS SETOF crm_erp.feed_row
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT f.message_no, f.seq, f.object_type, f.object_key, f.op, f.changed_at, f.payload, f.feed_cursor FROM crm_erp.feed($1, $2::text) f;
END;
COMMENT ON FUNCTION crm_erp.feed(text, numeric) IS 'The same with the limit as a number.';

CREATE OR REPLACE FUNCTION crm.erp_feed_tidy() RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	DELETE FROM crm.erp_feed f WHERE f.position <= (SELECT min(n.acked_position) FROM crm.erp_node n WHERE n.feeding);
END;
COMMENT ON FUNCTION crm.erp_feed_tidy() IS 'Drops what every node has confirmed';

CREATE OR REPLACE FUNCTION crm_erp.ack(node text, message_no text) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_custom_plan AS $$
DECLARE
	number  numeric := crm.erp_number(message_no, 'message_no');
	n       crm.erp_node;
	dropped integer;
BEGIN
	n := crm.erp_node_open(node);
	IF number IS NULL OR number <> trunc(number) OR number < 0 OR number > n.sent_no THEN
		PERFORM crm.erp_fail('22023', format('message %s was never sent to node "%s"', coalesce(number::text, 'NULL'), n.node),
			format('The last one was %s. Confirm the number that crm_erp.feed gave; where this base of the ERP or this database was restored from a copy, begin anew: SELECT crm_erp.start_anew(''%s'', …).', n.sent_no, n.node));
	END IF;
	IF number < n.sent_no OR n.sent_no = n.acked_no THEN
		RETURN 0;
	END IF;
	SELECT count(DISTINCT (f.object_type, f.object_id)) INTO dropped FROM crm.erp_feed f
	WHERE f.position > n.acked_position AND f.position <= n.sent_position AND (f.for_node IS NULL OR f.for_node = n.node) AND f.origin IS DISTINCT FROM n.node
		AND (n.object_types IS NULL OR f.object_type = ANY (n.object_types));
	UPDATE crm.erp_node y SET acked_no = n.sent_no, acked_position = n.sent_position, acked_at = crm.now() WHERE y.node = n.node;
	PERFORM crm.erp_feed_tidy();
	RETURN dropped;
END
$$;
COMMENT ON FUNCTION crm_erp.ack(text, text) IS 'Confirms a message of crm_erp.feed: its objects are not fed again until they change; returns how many there were. Harmless when repeated (0). Errors, the advice in DETAIL too: 22023 a number that was never sent, 55000 not active, or restored since: begin anew';

CREATE OR REPLACE FUNCTION crm_erp.ack(node text, message_no numeric) RETURNS integer
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm_erp.ack($1, $2::text);
END;
COMMENT ON FUNCTION crm_erp.ack(text, numeric) IS 'The same with the number as a number.';

CREATE OR REPLACE FUNCTION crm_erp.received_no(node text) RETURNS bigint
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text := crm.erp_node_name(received_no.node);
BEGIN
	PERFORM crm.erp_begin();
	RETURN coalesce((SELECT n.received_no FROM crm.erp_node n WHERE n.node = name), 0);
END
$$;
COMMENT ON FUNCTION crm_erp.received_no(text) IS 'Number of the last message taken from a node by put_batch(node, message_no, body); 0: none yet. Errors: 22004 and 22001 node, 55000 not active';

CREATE OR REPLACE FUNCTION crm_erp.start_anew(node text, sent_no text DEFAULT NULL, taken_no text DEFAULT NULL, everything text DEFAULT '1') RETURNS varchar
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	theirs bigint := trunc(crm.erp_range(crm.erp_number(start_anew.sent_no, 'sent_no'), 'sent_no', 0, 1000000000000000, 'a whole number'));
	taken  bigint := trunc(crm.erp_range(crm.erp_number(start_anew.taken_no, 'taken_no'), 'taken_no', 0, 1000000000000000, 'a whole number'));
	whole  boolean := coalesce(crm.erp_boolean(everything, 'everything'), true);
	n      crm.erp_node;
	state  crm.erp_feed_state;
	number bigint;
BEGIN
	n := crm.erp_node_open(start_anew.node, false);
	PERFORM crm.erp_feed_stamp();
	SELECT s.* INTO STRICT state FROM crm.erp_feed_state s;
	number := greatest(n.sent_no, taken);
	DELETE FROM crm.erp_changed c WHERE c.for_node = n.node;
	UPDATE crm.erp_node y SET epoch = state.epoch, feeding = true, load_xid = NULL, load_snapshot = pg_current_snapshot(),
		sent_no = number, acked_no = number, sent_position = state.position, acked_position = state.position,
		received_no = coalesce(theirs, y.received_no)
	WHERE y.node = n.node;
	-- From here on the numbers mean other messages.
	DELETE FROM crm.erp_message m WHERE m.node = n.node AND m.message_no > coalesce(theirs, n.received_no);
	IF whole THEN
		PERFORM crm.erp_feed_load(n.node);
	END IF;
	PERFORM crm.erp_feed_tidy();
	RETURN state.epoch || ':' || state.position;
END
$$;
COMMENT ON FUNCTION crm_erp.start_anew(text, text, text, text) IS 'Begins the exchange with a node anew, after either side was restored from a copy: sent_no is the number of the last message that the ERP has sent (empty: as known here), taken_no of the last one that it has taken from crm_erp.feed (ours go on above it), everything 0 feeds only what changes from now on. Returns where the feed stands, epoch:position. Errors, the advice in DETAIL too: 22004 and 22001 node, 22003 and 22P02 numbers, 55000 not active';

-- ---- what is said of an object -----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_local(at timestamptz) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	RETURN to_char(at AT TIME ZONE coalesce(nullif(current_setting('crm.time_zone', true), ''), 'Europe/Moscow'), 'YYYY-MM-DD"T"HH24:MI:SS');
COMMENT ON FUNCTION crm.erp_local(timestamptz) IS 'A time as the feed writes it: the plant''s zone, 2026-11-24T10:00:00';

CREATE OR REPLACE FUNCTION crm.erp_key_of(entity text, object_id bigint, source text, source_id text) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN $3 = 'erp' THEN $4 ELSE (SELECT l.erp_id FROM crm.erp_link l WHERE l.entity = $1 AND l.object_id = $2) END;
END;
COMMENT ON FUNCTION crm.erp_key_of(text, bigint, text, text) IS 'The ERP''s id of an object that came from there, or was linked by crm_erp.put_link; NULL: it knows it not';

CREATE OR REPLACE FUNCTION crm.erp_feed_payload(object_type text, ids bigint[]) RETURNS TABLE(object_id bigint, gone boolean, payload text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
BEGIN
	IF object_type = 'company' THEN
		RETURN QUERY
			SELECT c.id, c.merged_into_id IS NOT NULL, json_strip_nulls(json_build_object('id', c.id, 'erp_id', crm.erp_key_of('company', c.id, c.source, c.source_id),
				'name', c.name, 'full_name', c.full_name, 'inn', c.inn, 'kpp', c.kpp, 'is_client', c.is_client::integer, 'is_carrier', c.is_carrier::integer,
				'owner_id', c.owner_id, 'owner_name', e.name, 'owner_erp_id', CASE WHEN e.source = 'erp' THEN e.source_id END,
				'language', c.language, 'source', c.source, 'created_at', crm.erp_local(c.created_at), 'archived', (c.archived_at IS NOT NULL)::integer,
				'merged_into', c.merged_into_id))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = u.id OFFSET 0) c
			LEFT JOIN LATERAL (SELECT y.* FROM crm.employee y WHERE y.id = c.owner_id OFFSET 0) e ON true;
	ELSIF object_type = 'contact' THEN
		RETURN QUERY
			SELECT c.id, false, json_strip_nulls(json_build_object('id', c.id, 'erp_id', crm.erp_key_of('contact', c.id, c.source, c.source_id),
				'company_id', c.company_id, 'company_erp_id', crm.erp_key_of('company', k.id, k.source, k.source_id),
				'name', c.name, 'position', c."position", 'phone', p.phone, 'email', p.email, 'is_decision_maker', c.is_decision_maker::integer,
				'language', c.language, 'source', c.source, 'created_at', crm.erp_local(c.created_at), 'archived', (c.archived_at IS NOT NULL)::integer))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.contact y WHERE y.id = u.id AND y.source <> 'employee' OFFSET 0) c
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = c.company_id OFFSET 0) k ON true
			LEFT JOIN LATERAL (
				SELECT (array_agg(y.value ORDER BY y.state = 'verified' DESC, y.is_mobile DESC, y.id DESC) FILTER (WHERE y.kind = 'phone'))[1] AS phone,
					(array_agg(y.value ORDER BY y.state = 'verified' DESC, y.id DESC) FILTER (WHERE y.kind = 'email'))[1] AS email
				FROM crm.contact_point y WHERE y.contact_id = c.id AND y.state <> 'invalid') p ON true;
	ELSIF object_type = 'deal' THEN
		RETURN QUERY
			SELECT d.id, false, json_strip_nulls(json_build_object('id', d.id, 'name', d.name, 'funnel', f.code, 'stage', s.code, 'stage_name', s.name_ru,
				'is_won', s.is_won::integer, 'is_lost', s.is_lost::integer, 'company_id', d.company_id, 'company_erp_id', crm.erp_key_of('company', k.id, k.source, k.source_id),
				'contact_id', d.contact_id, 'owner_id', d.owner_id, 'owner_erp_id', CASE WHEN e.source = 'erp' THEN e.source_id END, 'owner_name', e.name,
				'amount', d.amount, 'tonnes', d.tonnes, 'order_erp_id', CASE WHEN d.source = 'erp' AND starts_with(d.source_id, 'order:') THEN substr(d.source_id, 7) END,
				'created_at', crm.erp_local(d.created_at), 'stage_at', crm.erp_local(d.stage_at), 'closed_at', crm.erp_local(d.closed_at)))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.deal y WHERE y.id = u.id OFFSET 0) d
			JOIN crm.funnel f ON f.id = d.funnel_id
			JOIN crm.stage s ON s.id = d.stage_id
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = d.company_id OFFSET 0) k ON true
			LEFT JOIN LATERAL (SELECT y.* FROM crm.employee y WHERE y.id = d.owner_id OFFSET 0) e ON true;
	ELSIF object_type = 'order' THEN
		RETURN QUERY
			SELECT o.id, false, json_strip_nulls(json_build_object('id', o.id, 'erp_id', crm.erp_key_of('order', o.id, o.source, o.source_id), 'number', o.number,
				'company_id', o.company_id, 'company_erp_id', crm.erp_key_of('company', k.id, k.source, k.source_id), 'contact_id', o.contact_id, 'place_id', o.place_id,
				'product', o.product, 'tonnes', o.tonnes, 'price', o.price, 'state', o.state, 'deal_id', o.deal_id, 'deal_stage', s.code, 'source', o.source,
				'ordered_at', crm.erp_local(o.ordered_at), 'window_from', crm.erp_local(o.window_from), 'window_to', crm.erp_local(o.window_to)))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.customer_order y WHERE y.id = u.id OFFSET 0) o
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = o.company_id OFFSET 0) k ON true
			LEFT JOIN LATERAL (SELECT y.stage_id FROM crm.deal y WHERE y.id = o.deal_id OFFSET 0) d ON true
			LEFT JOIN crm.stage s ON s.id = d.stage_id;
	ELSIF object_type = 'trip' THEN
		RETURN QUERY
			SELECT t.id, false, json_strip_nulls(json_build_object('id', t.id, 'vehicle_id', t.vehicle_id, 'vehicle_plate', v.plate,
				'vehicle_erp_id', CASE WHEN v.source = 'erp' THEN v.source_id END, 'company_id', t.company_id,
				'company_erp_id', crm.erp_key_of('company', k.id, k.source, k.source_id), 'order_erp_ids', o.erp_ids, 'state', t.state,
				'planned_at', crm.erp_local(t.planned_at), 'loaded_at', crm.erp_local(t.loaded_at), 'departed_at', crm.erp_local(t.departed_at),
				'approaching_at', crm.erp_local(t.approaching_at), 'arrived_at', crm.erp_local(t.arrived_at), 'unloaded_at', crm.erp_local(t.unloaded_at)))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.trip y WHERE y.id = u.id OFFSET 0) t
			LEFT JOIN LATERAL (SELECT y.* FROM crm.vehicle y WHERE y.id = t.vehicle_id OFFSET 0) v ON true
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = t.company_id OFFSET 0) k ON true
			LEFT JOIN LATERAL (
				SELECT string_agg(z.source_id, ',' ORDER BY z.id) AS erp_ids
				FROM crm.trip_order y CROSS JOIN LATERAL (SELECT x.id, x.source_id FROM crm.customer_order x WHERE x.id = y.order_id AND x.source = 'erp' OFFSET 0) z
				WHERE y.trip_id = t.id) o ON true;
	ELSIF object_type = 'claim' THEN
		RETURN QUERY
			SELECT c.id, false, json_strip_nulls(json_build_object('id', c.id, 'carrier_id', c.carrier_id, 'carrier_erp_id', crm.erp_key_of('company', k.id, k.source, k.source_id),
				'trip_id', c.trip_id, 'side', c.side, 'state', c.state, 'late_minutes', c.late_minutes, 'excused_minutes', c.excused_minutes, 'charged_minutes', c.charged_minutes,
				'penalty_made', c.penalty_made, 'penalty', c.penalty, 'currency', c.currency, 'document_id', c.document_id, 'document_number', d.number,
				'made_at', crm.erp_local(c.made_at), 'explain_by', crm.erp_local(c.explain_by), 'decided_at', crm.erp_local(c.decided_at), 'reason', c.reason))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.claim y WHERE y.id = u.id OFFSET 0) c
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = c.carrier_id OFFSET 0) k ON true
			LEFT JOIN LATERAL (SELECT y.number FROM crm.document y WHERE y.id = c.document_id OFFSET 0) d ON true;
	ELSIF object_type = 'document' THEN
		RETURN QUERY
			SELECT d.id, false, json_strip_nulls(json_build_object('id', d.id, 'kind', d.kind, 'number', d.number, 'document_date', to_char(d.document_date, 'YYYY-MM-DD'),
				'state', d.state, 'reason', d.reason, 'object_kind', d.object_kind, 'object_id', d.object_id, 'company_id', d.company_id,
				'company_erp_id', crm.erp_key_of('company', k.id, k.source, k.source_id), 'created_at', crm.erp_local(d.created_at), 'state_at', crm.erp_local(d.state_at)))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.document y WHERE y.id = u.id OFFSET 0) d
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = d.company_id OFFSET 0) k ON true;
	ELSIF object_type = 'lead' THEN
		RETURN QUERY
			SELECT l.id, l.status = 'spam', json_strip_nulls(json_build_object('id', l.id, 'source_lead_id', l.source_lead_id, 'site', l.source, 'form', l.form, 'status', l.status,
				'name', l.name, 'phone', l.phone, 'email', l.email, 'company_name', l.company_name, 'inn', l.inn, 'message', l.message, 'product', l.product,
				'quantity', l.quantity, 'city', l.city, 'channel', l.channel, 'times', l.times, 'company_id', l.company_id, 'contact_id', l.contact_id, 'deal_id', l.deal_id,
				'received_at', crm.erp_local(l.received_at)))::text
			FROM unnest(ids) AS u(id)
			CROSS JOIN LATERAL (SELECT y.* FROM crm.lead y WHERE y.id = u.id OFFSET 0) l;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.erp_feed_payload(text, bigint[]) IS 'Objects of a type as the feed writes them, in their present state; those that are not there have no row; gone: merged into another, or a lead kept apart as spam';

-- ---- health ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_feed_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN;
	END IF;
	RETURN QUERY
		SELECT 'error', 'erp node ' || n.node, format('The exchange with node "%s" stands still: this database was restored or copied since it began.', n.node),
			format('SELECT crm_erp.start_anew(%L, …); by the ERP, or SELECT crm.drop_erp_node(%L); where there is no such base any more.', n.node, n.node), n.acked_at
		FROM crm.erp_node n, crm.erp_feed_state s WHERE n.epoch <> s.epoch
		UNION ALL
		SELECT 'warning', 'erp node ' || n.node, format('Node "%s" has not confirmed message %s, given to it at %s.', n.node, n.sent_no, n.sent_at),
			'See the ERP''s log: it must take the message and call crm_erp.ack.', n.sent_at
		FROM crm.erp_node n WHERE n.sent_no > n.acked_no AND n.sent_at < crm.now() - interval '1 day'
		UNION ALL
		SELECT 'warning', 'erp node ' || n.node, format('Node "%s" has asked for nothing, and changes wait since %s.', n.node, f.changed_at),
			format('Start its exchange again, or SELECT crm.drop_erp_node(%L);', n.node), f.changed_at
		FROM crm.erp_node n
		CROSS JOIN LATERAL (SELECT y.changed_at FROM crm.erp_feed y WHERE y.position > n.acked_position AND y.origin IS DISTINCT FROM n.node AND (y.for_node IS NULL OR y.for_node = n.node)
			ORDER BY y.position LIMIT 1) f
		WHERE n.feeding AND n.sent_no = n.acked_no AND f.changed_at < crm.now() - interval '1 day'
		UNION ALL
		SELECT 'warning', 'erp node ' || m.node, format('Messages %s to %s of node "%s" never came.', m.missing_from, m.message_no - 1, m.node),
			'Have the ERP send them again by put_batch(text), and compare with crm_erp.reconcile.', m.received_at
		FROM crm.erp_message m WHERE m.missing_from IS NOT NULL AND m.received_at > crm.now() - interval '7 days'
		UNION ALL
		SELECT 'warning', 'erp ' || r.entity, format('%s of the ERP from %s to %s: %s there, %s here, %s differ.', r.entity, r.from_at, r.to_at, r.theirs, r.ours, r.differences),
			'SELECT * FROM crm_erp.reconcile_list(…) lists them; send those that are missing, and compare again.', r.at
		FROM crm.erp_reconciled r WHERE r.differences > 0 AND r.at > crm.now() - interval '30 days';
END
$$;
COMMENT ON FUNCTION crm.erp_feed_health() IS 'Rows of crm.health about the exchange with the ERP: a node that must begin anew, confirms nothing or asks for nothing, messages that never came, lists that do not agree';
SELECT crm.register_hook('health', 'erp feed', 'crm.erp_feed_health');

SELECT crm.register_no_foreign_key('crm.erp_changed', 'object_id', 'names a row of the table that object_type says, or one that is gone');
SELECT crm.register_no_foreign_key('crm.erp_feed', 'object_id', 'names a row of the table that object_type says, or one that is gone');
SELECT crm.register_no_foreign_key('crm.erp_link', 'object_id', 'names a row of the table that entity says');
SELECT crm.register_foreign_key('crm.erp_team', 'team_id', 'crm.team', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.erp_absence', 'absence_id', 'crm.absence', 'id', 'CASCADE');
SELECT crm.register_undumped('crm.erp_speaking', 'rows of a transaction under way');
