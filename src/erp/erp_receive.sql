-- erp: messages of the ERP that carry a number, and lists compared with it.

CREATE OR REPLACE FUNCTION crm_erp.put_batch(node text, message_no text, body text)
	RETURNS TABLE(line integer, entity varchar, erp_id varchar, id bigint, result varchar, sqlstate varchar, message varchar, advice varchar)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	number   numeric := crm.erp_number($2, 'message_no');
	hash     bytea := sha256(convert_to(coalesce($3, ''), 'UTF8'));
	n        crm.erp_node;
	before_  crm.erp_message;
	r        record;
	good     integer := 0;
	bad      integer := 0;
	errors   jsonb[] := '{}';
	missing  bigint;
BEGIN
	n := crm.erp_node_open($1);
	IF number IS NULL OR number <> trunc(number) OR number < 1 OR number > 1000000000000000 THEN
		PERFORM crm.erp_fail('22023', format('message_no "%s" is no number of a message', left($2, 40)), 'Number your messages 1, 2, 3, … for each node, and send the same number with the same body again until it is answered.');
	END IF;
	IF number <= n.received_no THEN
		SELECT m.* INTO before_ FROM crm.erp_message m WHERE m.node = n.node AND m.message_no = number;
		IF before_.sha256 IS DISTINCT FROM hash THEN
			PERFORM crm.erp_fail('22023', CASE WHEN before_.node IS NULL
					THEN format('message %s of node "%s" goes back: number %s was taken already, and what %s held is not remembered', number, n.node, n.received_no, number)
					ELSE format('message %s of node "%s" was taken already with another body', number, n.node) END,
				format('Where this base of the ERP was restored from a copy its numbers have gone back: SELECT crm_erp.start_anew(''%s'', ''the number before the one that you send next''), then send it. Otherwise number it %s.', n.node, n.received_no + 1));
		END IF;
		RETURN QUERY
			SELECT e.ordinality::integer, left(coalesce(e.value ->> 'entity', e.value ->> 'put'), 40)::varchar, left(e.value ->> 'erp_id', 200)::varchar, NULL::bigint,
				(CASE WHEN b.value IS NULL THEN 'same' ELSE 'error' END)::varchar,
				(b.value ->> 'sqlstate')::varchar, (b.value ->> 'message')::varchar, (b.value ->> 'advice')::varchar
			FROM jsonb_array_elements(crm.erp_rows($3)) WITH ORDINALITY e
			LEFT JOIN LATERAL (SELECT x.value FROM jsonb_array_elements(before_.errors) x WHERE x.value ->> 'line' = e.ordinality::text) b ON true
			ORDER BY 1;
		RETURN;
	END IF;
	IF number > n.received_no + 1 THEN
		missing := n.received_no + 1;
		RETURN QUERY SELECT 0, 'message'::varchar, NULL::varchar, NULL::bigint, 'gap'::varchar, NULL::varchar,
			(CASE WHEN number = missing + 1 THEN format('message %s never came', missing) ELSE format('messages %s to %s never came', missing, number - 1) END)::varchar,
			'This one is taken all the same. Send what they held by put_batch(text), or compare with crm_erp.reconcile.'::varchar;
	END IF;

	INSERT INTO crm.erp_speaking (xid, node) VALUES (pg_current_xact_id(), n.node);
	FOR r IN SELECT * FROM crm_erp.put_batch($3) LOOP
		IF r.result = 'error' THEN
			bad := bad + 1;
			IF bad <= 1000 THEN
				errors := errors || jsonb_build_object('line', r.line, 'sqlstate', r.sqlstate, 'message', r.message, 'advice', r.advice);
			END IF;
		ELSE
			good := good + 1;
		END IF;
		RETURN QUERY SELECT r.line, r.entity, r.erp_id, r.id, r.result, r.sqlstate, r.message, r.advice;
	END LOOP;
	DELETE FROM crm.erp_speaking s WHERE s.xid = pg_current_xact_id();
	INSERT INTO crm.erp_message (node, message_no, sha256, rows_ok, rows_bad, missing_from, errors)
	VALUES (n.node, number, hash, good, bad, missing, to_jsonb(errors));
	UPDATE crm.erp_node y SET received_no = number, received_at = crm.now() WHERE y.node = n.node;
END
$$;
COMMENT ON FUNCTION crm_erp.put_batch(text, text, text) IS 'As put_batch(body), for a message with a number (protocols/erp.md, section 4). node names the base of the ERP, message_no goes up by one a message. The same number with the same body again: nothing is done, each row is answered same, or with the error that it had. A number that leaves some out is taken, and a row of line 0 with result gap names those that never came. A number that was taken already with another body is refused: the base was restored from a copy. What a message writes is not fed back to its node. Errors, the advice in DETAIL too: those of put_batch(body), 22023 no number, or one that goes back, 22004 and 22001 node, 55000 not active, or restored since';

CREATE OR REPLACE FUNCTION crm_erp.put_batch(node text, message_no numeric, body text)
	RETURNS TABLE(line integer, entity varchar, erp_id varchar, id bigint, result varchar, sqlstate varchar, message varchar, advice varchar)
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT b.line, b.entity, b.erp_id, b.id, b.result, b.sqlstate, b.message, b.advice FROM crm_erp.put_batch($1, $2::text, $3) b;
END;
COMMENT ON FUNCTION crm_erp.put_batch(text, numeric, text) IS 'The same with the number as a number.';

-- ---- an object made here is one of the ERP's ---------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_link(erp_id text, object_type text DEFAULT NULL, id text DEFAULT NULL) RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key     text := crm.erp_key($1, 'erp_id', true);
	v_type  text := lower(crm.erp_text($2, 'object_type', 20));
	v_id    bigint := trunc(crm.erp_range(crm.erp_number($3, 'id'), 'id', 1, 1000000000000000, 'our number'));
	named   text;	-- what the ERP calls it already
	other   bigint;	-- what it calls so
	there   boolean;
BEGIN
	PERFORM crm.erp_begin();
	IF v_type IS NULL OR v_type NOT IN ('company', 'contact', 'order') THEN
		PERFORM crm.erp_fail('22023', format('object_type "%s" is not linked', coalesce(v_type, '')), 'Send company, contact or order in object_type, and object_key of the feed in id.');
	END IF;
	IF v_type = 'company' THEN
		SELECT true, crm.erp_key_of('company', c.id, c.source, c.source_id) INTO there, named FROM crm.company c WHERE c.id = v_id FOR NO KEY UPDATE;
		SELECT c.id INTO other FROM crm.company c WHERE c.source = 'erp' AND c.source_id = key;
	ELSIF v_type = 'contact' THEN
		SELECT true, crm.erp_key_of('contact', c.id, c.source, c.source_id) INTO there, named FROM crm.contact c WHERE c.id = v_id AND c.source <> 'employee' FOR NO KEY UPDATE;
		SELECT c.id INTO other FROM crm.contact c WHERE c.source = 'erp' AND c.source_id = key;
	ELSE
		SELECT true, crm.erp_key_of('order', o.id, o.source, o.source_id) INTO there, named FROM crm.customer_order o WHERE o.id = v_id FOR NO KEY UPDATE;
		SELECT o.id INTO other FROM crm.customer_order o WHERE o.source = 'erp' AND o.source_id = key;
	END IF;
	IF there IS NULL THEN
		PERFORM crm.erp_fail('23503', format('%s %s is not known', v_type, coalesce(v_id::text, 'NULL')), 'Send object_key of the feed in id.');
	END IF;
	IF named = key THEN
		RETURN ROW(v_id, 'same', key)::crm_erp.put_result;
	END IF;
	other := coalesce(other, (SELECT l.object_id FROM crm.erp_link l WHERE l.entity = v_type AND l.erp_id = key));
	IF named IS NOT NULL OR other IS NOT NULL THEN
		PERFORM crm.erp_fail('23505', CASE WHEN named IS NOT NULL THEN format('%s %s is "%s" in the ERP already', v_type, v_id, named) ELSE format('"%s" is %s %s already', key, v_type, other) END,
			'One object here is one there. Where both are one client, merge them first: in the CRM, or in the ERP.');
	END IF;
	INSERT INTO crm.erp_link (entity, erp_id, object_id) VALUES (v_type, key, v_id);
	PERFORM crm.erp_note(v_type, v_id, key, '{"erp_id": null}', jsonb_build_object('erp_id', key));
	RETURN ROW(v_id, 'created', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_link(text, text, text) IS 'Says which document of the ERP an object is that was made in the CRM: its id there, company, contact or order, our number (object_key of the feed). From then on put_company, put_contact, put_order and all that name it by the ERP''s id find it, instead of making another (claim 3). Answers id, result (created, same), erp_id. Errors, the advice in DETAIL too: 22004 no id, 22023 object_type, 23503 not known, 23505 either is linked to another, 55000 not active';

CREATE OR REPLACE FUNCTION crm.erp_linked(entity text, erp_id text) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT l.object_id FROM crm.erp_link l WHERE l.entity = $1 AND l.erp_id = $2;
END;
COMMENT ON FUNCTION crm.erp_linked(text, text) IS 'Our number of an object that was linked to an id of the ERP by crm_erp.put_link; NULL: none';

-- ---- lists compared ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.erp_reconcile_rows(entity text, from_at timestamptz, to_at timestamptz)
	RETURNS TABLE(erp_id text, id bigint, at timestamptz, quantity numeric, amount numeric, content text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	low  timestamptz := coalesce($2, '-infinity');
	high timestamptz := coalesce($3, 'infinity');
BEGIN
	CASE $1
	WHEN 'order' THEN
		RETURN QUERY SELECT k.key, o.id, o.ordered_at, o.tonnes::numeric, round(o.tonnes * o.price, 2),
				concat_ws('|', k.key, o.number, coalesce(crm.erp_key_of('company', c.id, c.source, c.source_id), ''), o.product, coalesce(round(o.tonnes, 3)::text, ''), coalesce(round(o.price, 4)::text, ''), o.state)
			FROM crm.customer_order o
			CROSS JOIN LATERAL (SELECT crm.erp_key_of('order', o.id, o.source, o.source_id) AS key OFFSET 0) k
			LEFT JOIN LATERAL (SELECT y.* FROM crm.company y WHERE y.id = o.company_id OFFSET 0) c ON true
			WHERE k.key IS NOT NULL AND o.ordered_at >= low AND o.ordered_at < high;
	WHEN 'shipment' THEN
		RETURN QUERY SELECT s.source_id, s.id, s.weighed_at, CASE WHEN s.cancelled_at IS NULL THEN round(s.net_kg / 1000, 3) ELSE 0 END, NULL::numeric,
				concat_ws('|', s.source_id, coalesce(crm.erp_key_of('order', o.id, o.source, o.source_id), ''), coalesce(w.number, v.plate_key, ''), coalesce(round(s.tare_kg, 3)::text, ''),
					coalesce(round(s.gross_kg, 3)::text, ''), coalesce(s.waybill, ''), (s.cancelled_at IS NOT NULL)::integer)
			FROM crm.shipment s
			LEFT JOIN LATERAL (SELECT y.id, y.source, y.source_id FROM crm.customer_order y WHERE y.id = s.order_id OFFSET 0) o ON true
			LEFT JOIN LATERAL (SELECT y.plate_key FROM crm.vehicle y WHERE y.id = s.vehicle_id OFFSET 0) v ON true
			LEFT JOIN LATERAL (SELECT y.number FROM crm.wagon y WHERE y.id = s.wagon_id OFFSET 0) w ON true
			WHERE s.source = 'erp' AND s.source_id IS NOT NULL AND s.weighed_at >= low AND s.weighed_at < high;
	WHEN 'weighing' THEN
		RETURN QUERY SELECT w.source_id, w.id, w.at, CASE WHEN w.cancelled_at IS NULL THEN w.kg ELSE 0 END::numeric, NULL::numeric,
				concat_ws('|', w.source_id, coalesce(v.plate_key, ''), round(w.kg, 3), coalesce(w.order_ref, ''), coalesce(w.waybill, ''), (w.cancelled_at IS NOT NULL)::integer)
			FROM crm.weighing w
			LEFT JOIN LATERAL (SELECT y.plate_key FROM crm.vehicle y WHERE y.id = w.vehicle_id OFFSET 0) v ON true
			WHERE w.source = 'erp' AND w.at >= low AND w.at < high;
	WHEN 'company' THEN
		RETURN QUERY SELECT k.key, c.id, c.created_at, NULL::numeric, NULL::numeric,
				concat_ws('|', k.key, c.name, coalesce(c.inn, ''), coalesce(c.kpp, ''), c.is_client::integer, c.is_carrier::integer, (c.archived_at IS NOT NULL)::integer)
			FROM crm.company c
			CROSS JOIN LATERAL (SELECT crm.erp_key_of('company', c.id, c.source, c.source_id) AS key OFFSET 0) k
			WHERE k.key IS NOT NULL AND c.created_at >= low AND c.created_at < high;
	WHEN 'contact' THEN
		RETURN QUERY SELECT k.key, c.id, c.created_at, NULL::numeric, NULL::numeric,
				concat_ws('|', k.key, coalesce(crm.erp_key_of('company', y.id, y.source, y.source_id), ''), c.name, coalesce(c."position", ''), (c.archived_at IS NOT NULL)::integer)
			FROM crm.contact c
			CROSS JOIN LATERAL (SELECT crm.erp_key_of('contact', c.id, c.source, c.source_id) AS key OFFSET 0) k
			LEFT JOIN LATERAL (SELECT x.* FROM crm.company x WHERE x.id = c.company_id OFFSET 0) y ON true
			WHERE k.key IS NOT NULL AND c.source <> 'employee' AND c.created_at >= low AND c.created_at < high;
	WHEN 'employee' THEN
		RETURN QUERY SELECT e.source_id, e.id, e.created_at, NULL::numeric, NULL::numeric,
				concat_ws('|', e.source_id, e.name, coalesce(t.name, ''), e.is_head::integer, (e.dismissed_at IS NOT NULL)::integer)
			FROM crm.employee e LEFT JOIN crm.team t ON t.id = e.team_id
			WHERE e.source = 'erp' AND e.source_id IS NOT NULL AND e.created_at >= low AND e.created_at < high;
	WHEN 'vehicle' THEN
		RETURN QUERY SELECT v.source_id, v.id, v.created_at, NULL::numeric, NULL::numeric,
				concat_ws('|', v.source_id, v.plate_key, (v.archived_at IS NOT NULL)::integer)
			FROM crm.vehicle v
			WHERE v.source = 'erp' AND v.source_id IS NOT NULL AND v.created_at >= low AND v.created_at < high;
	WHEN 'place' THEN
		RETURN QUERY SELECT p.source_id, p.id, p.created_at, NULL::numeric, NULL::numeric,
				concat_ws('|', p.source_id, p.name, p.kind, (p.archived_at IS NOT NULL)::integer)
			FROM crm.place p
			WHERE p.source = 'erp' AND p.source_id IS NOT NULL AND p.created_at >= low AND p.created_at < high;
	ELSE
		PERFORM crm.erp_fail('22023', format('entity "%s" is not compared', left($1, 40)), 'Send order, shipment, weighing, company, contact, employee, vehicle or place in entity.');
	END CASE;
END
$$;
COMMENT ON FUNCTION crm.erp_reconcile_rows(text, timestamptz, timestamptz) IS 'What crm_erp.reconcile lists: rows that the ERP knows, in a span of their time (order: ordered, shipment and weighing: weighed, others: first sent). Error 22023 entity';

CREATE OR REPLACE FUNCTION crm_erp.reconcile(entity text, "from" text DEFAULT NULL, "to" text DEFAULT NULL) RETURNS SETOF crm_erp.reconcile_row
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	low  timestamptz := crm.erp_time("from", 'from');
	high timestamptz := crm.erp_time("to", 'to');
	zone text := crm.erp_zone();
BEGIN
	PERFORM crm.erp_begin();
	RETURN QUERY
		WITH r AS MATERIALIZED (
			SELECT x.*, md5(x.content) AS hash FROM crm.erp_reconcile_rows(lower(crm.erp_text(entity, 'entity', 40)), low, high) x
		)
		SELECT 'total'::varchar(5), NULL::varchar(200), NULL::bigint, NULL::timestamp, count(*), sum(r.quantity)::numeric(18,3), sum(r.amount)::numeric(18,2),
			md5(coalesce(string_agg(r.hash, '' ORDER BY r.erp_id COLLATE "C"), ''))::varchar(32), NULL::varchar(1000)
		FROM r
		UNION ALL
		(SELECT 'row'::varchar(5), r.erp_id::varchar(200), r.id, date_trunc('second', r.at AT TIME ZONE zone), 1, r.quantity::numeric(18,3), r.amount::numeric(18,2), r.hash::varchar(32), left(r.content, 1000)::varchar(1000)
		FROM r ORDER BY r.erp_id COLLATE "C");
END
$$;
COMMENT ON FUNCTION crm_erp.reconcile(text, text, text) IS 'What is here of the ERP''s objects of a kind (order, shipment, weighing, company, contact, employee, vehicle, place), of a span from (included) to (not included) of their time; empty: without end. First a total: how many, sums, one hash over all; then each with its hash, in the order of the ids'' bytes, so that the ERP compares the total and only where it differs the rows. What is hashed stands in content; docs/erp.md lists the fields. Errors, the advice in DETAIL too: 22023 entity, 22007 and 22008 time, 55000 not active';

CREATE OR REPLACE FUNCTION crm_erp.reconcile(entity text, "from" timestamp, "to" timestamp) RETURNS SETOF crm_erp.reconcile_row
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT r.kind, r.erp_id, r.id, r.at, r.count, r.quantity, r.amount, r.hash, r.content
	FROM crm_erp.reconcile($1, crm.erp_stamp($2, 'from'), crm.erp_stamp($3, 'to')) r;
END;
COMMENT ON FUNCTION crm_erp.reconcile(text, timestamp, timestamp) IS 'The same with times as timestamp (in the plant''s zone).';

CREATE OR REPLACE FUNCTION crm_erp.reconcile_list(entity text, "from" text, "to" text, list text) RETURNS SETOF crm_erp.difference
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_entity text := lower(crm.erp_text(entity, 'entity', 40));
	low      timestamptz := crm.erp_time("from", 'from');
	high     timestamptz := crm.erp_time("to", 'to');
	clean    text := btrim(list, E'\ufeff \t\r\n');
	theirs   text[];	-- ids
	hashes   text[];
	ours     bigint;
	bad      bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF octet_length(clean) > 16777216 THEN
		PERFORM crm.erp_fail('54000', format('the list is too long: %s bytes', octet_length(clean)), 'Send at most 16 MB in one call: compare shorter spans.');
	END IF;
	IF left(clean, 1) = '[' THEN
		BEGIN
			SELECT array_agg(e.erp_id), array_agg(e.hash) INTO theirs, hashes
			FROM (SELECT CASE jsonb_typeof(j.value) WHEN 'object' THEN j.value ->> 'erp_id' ELSE j.value #>> '{}' END AS erp_id, j.value ->> 'hash' AS hash
				FROM jsonb_array_elements(clean::jsonb) j) e;
		EXCEPTION WHEN data_exception THEN
			PERFORM crm.erp_fail('22P02', 'the list is no JSON', 'Send ["O-1", …], [{"erp_id": "O-1", "hash": "…"}, …], or a line each: O-1;hash.');
		END;
	ELSE
		SELECT array_agg(regexp_replace(l.line, ';[^;]*$', '')), array_agg(substring(l.line FROM ';([^;]*)$')) INTO theirs, hashes
		FROM regexp_split_to_table(clean, '\r?\n') AS l(line) WHERE btrim(l.line) <> '';
	END IF;
	IF cardinality(theirs) > 200000 THEN
		PERFORM crm.erp_fail('54000', format('the list has too many rows: %s', cardinality(theirs)), 'Send at most 200000 rows in one call: compare shorter spans.');
	END IF;
	RETURN QUERY
		WITH t AS MATERIALIZED (
			SELECT crm.erp_key(u.erp_id, 'erp_id') AS erp_id, lower(nullif(btrim(u.hash), '')) AS hash FROM unnest(theirs, hashes) AS u(erp_id, hash)
		), once AS MATERIALIZED (
			SELECT t.erp_id, min(t.hash) AS hash, count(*) AS times FROM t WHERE t.erp_id IS NOT NULL GROUP BY t.erp_id
		), o AS MATERIALIZED (
			SELECT x.erp_id, x.id, x.content, md5(x.content) AS hash FROM crm.erp_reconcile_rows(v_entity, low, high) x
		)
		SELECT d.problem::varchar(10), d.erp_id::varchar(200), d.id, left(d.content, 1000)::varchar(1000), left(d.hash, 200)::varchar(200)
		FROM (
			SELECT CASE WHEN o.erp_id IS NULL THEN 'not here' WHEN t.erp_id IS NULL THEN 'not there' WHEN t.times > 1 THEN 'twice' ELSE 'differs' END AS problem,
				coalesce(t.erp_id, o.erp_id) AS erp_id, o.id, o.content, t.hash
			FROM once t FULL JOIN o ON o.erp_id = t.erp_id
			WHERE o.erp_id IS NULL OR t.erp_id IS NULL OR t.times > 1 OR t.hash <> o.hash) d
		ORDER BY d.erp_id COLLATE "C";
	GET DIAGNOSTICS bad = ROW_COUNT;
	SELECT count(*) INTO ours FROM crm.erp_reconcile_rows(v_entity, low, high);
	INSERT INTO crm.erp_reconciled AS r (entity, from_at, to_at, theirs, ours, differences)
	VALUES (v_entity, coalesce(low, '-infinity'), coalesce(high, 'infinity'), coalesce(cardinality(theirs), 0), ours, bad)
	ON CONFLICT ON CONSTRAINT erp_reconciled_pkey DO UPDATE SET at = crm.now(), theirs = EXCLUDED.theirs, ours = EXCLUDED.ours, differences = EXCLUDED.differences;
END
$$;
COMMENT ON FUNCTION crm_erp.reconcile_list(text, text, text, text) IS 'Compares the ERP''s own list with what is here: entity and span as in reconcile; list a line an object, "id" or "id;hash", or JSON: ["id", …] or [{"erp_id": …, "hash": …}, …], at most 200000. Answers only what is not the same: not here, not there, differs, twice; no row: both sides agree. The outcome is kept in crm.erp_reconciled, and what differs shows in crm.health. Errors, the advice in DETAIL too: 22023 entity, 22007 and 22008 time, 22P02 no JSON, 54000 too long, 55000 not active';
