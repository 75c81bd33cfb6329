/* shipping, by rail: reports about wagons from whatever middleman, by a mapping of their columns.  May be run again. */

CREATE OR REPLACE FUNCTION crm.dislocation_rows(body jsonb, mapping text DEFAULT 'spv4664', OUT list jsonb, OUT taken text, OUT whole boolean, OUT problem text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	part   jsonb;
	name   text;
	header record;
BEGIN
	whole := true;
	IF jsonb_typeof(body) = 'object' THEN
		taken := coalesce(body ->> 'created_at', body #>> '{data,created_at}', body ->> 'timestamp', body ->> 'LAST_UPDATE');
		name := coalesce(jsonb_path_query_first(body, 'strict $.**.returnCode', silent => true) #>> '{}', jsonb_path_query_first(body, 'strict $.**.returncode', silent => true) #>> '{}', '0');
		IF name <> '0' OR body ->> 'status' IN ('error', 'fail', 'failed') THEN
			problem := format('the report is an error: code %s, %s', left(name, 40), left(coalesce(
				jsonb_path_query_first(body, 'strict $.**.errorMessage', silent => true) #>> '{}', jsonb_path_query_first(body, 'strict $.**.errormessage', silent => true) #>> '{}', body ->> 'message', ''), 300));
			RETURN;
		END IF;
		part := jsonb_path_query_first(body, 'strict $.** ? (@.head.type() == "array" && @.body.type() == "array")', silent => true);
		IF part IS NOT NULL THEN
			list := jsonb_build_array(part -> 'head') || (part -> 'body');
		ELSE
			FOREACH name IN ARRAY ARRAY['vagons', 'wagons', 'operations', 'row', 'rows'] LOOP
				part := jsonb_path_query_first(body, ('strict $.**.' || name)::jsonpath, silent => true);
				IF part IS NOT NULL THEN
					list := CASE jsonb_typeof(part) WHEN 'array' THEN part WHEN 'object' THEN jsonb_build_array(part) ELSE '[]' END;
					whole := name <> 'operations';
					EXIT;
				END IF;
			END LOOP;
			IF list IS NULL AND body ? 'status' OR jsonb_path_exists(body, 'strict $.**.return', silent => true) THEN
				list := coalesce(list, '[]');	-- an empty report is a report
			END IF;
		END IF;
	ELSIF jsonb_typeof(body) = 'array' THEN
		list := body;
	END IF;
	IF list IS NULL THEN
		problem := 'there is no list of rows in it';
		RETURN;
	END IF;
	IF jsonb_array_length(list) > 200000 THEN
		problem := format('it has %s rows; at most 200000 are read', jsonb_array_length(list));
		RETURN;
	END IF;
	IF EXISTS (SELECT FROM jsonb_array_elements(list) WITH ORDINALITY AS r(value, n) WHERE r.n <= 10 AND jsonb_typeof(r.value) = 'array') THEN
		-- a table: the headings are in that of the first lines that has most of them
		SELECT r.n, r.value INTO header
		FROM jsonb_array_elements(list) WITH ORDINALITY AS r(value, n)
		CROSS JOIN LATERAL (SELECT count(DISTINCT m.field) AS fits
			FROM jsonb_array_elements_text(CASE jsonb_typeof(r.value) WHEN 'array' THEN r.value ELSE '[]' END) AS c(cell)
			JOIN crm.dislocation_mapping m ON m.code = dislocation_rows.mapping AND btrim(regexp_replace(c.cell, '\s+', ' ', 'g')) ~* m.header) AS f
		WHERE r.n <= 20 AND f.fits > 1
		ORDER BY f.fits DESC, r.n LIMIT 1;
		IF header.n IS NULL THEN
			problem := format('none of its first lines has headings that the mapping %s knows', dislocation_rows.mapping);
			RETURN;
		END IF;
		SELECT coalesce(jsonb_agg(o.pairs ORDER BY o.n), '[]') INTO list
		FROM (
			SELECT r.n, (SELECT jsonb_object_agg(btrim(regexp_replace(h.head, '\s+', ' ', 'g')), r.value -> (h.k::integer - 1))
				FROM jsonb_array_elements_text(header.value) WITH ORDINALITY AS h(head, k) WHERE btrim(h.head) <> '') AS pairs
			FROM jsonb_array_elements(list) WITH ORDINALITY AS r(value, n)
			WHERE r.n > header.n AND jsonb_typeof(r.value) = 'array' AND EXISTS (SELECT FROM jsonb_array_elements_text(r.value) AS c(cell) WHERE btrim(c.cell) <> '')) AS o;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.dislocation_rows(jsonb, text) IS 'The rows of a report about wagons in whichever form it came: an array of objects, an envelope with vagons, wagons, operations, row or rows, a form of head and body, a table of texts with its headings among the first twenty lines. taken: when it says it was made; whole: false for the history of a wagon; problem: why there are none. Protocol etran, section 9';

CREATE OR REPLACE FUNCTION crm.dislocation_read(list jsonb, mapping text, zone text) RETURNS crm.dislocation_row[]
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	parts  jsonb;
	result crm.dislocation_row[];
	want   text;
	e      jsonb := '{}';	-- field -> SQL expression of its text
BEGIN
	-- each heading is judged once; only its quoted name goes into the statement
	SELECT jsonb_object_agg(x.field, x.expression) INTO parts
	FROM (
		SELECT f.field, format('coalesce(%s)', string_agg(f.expression, ', ' ORDER BY f.shipped, f."position")) AS expression
		FROM (
			SELECT m.field, m.shipped, m."position", CASE m.extractor
				WHEN 'digits' THEN format('nullif(coalesce(substring(r.row ->> %1$L FROM ''\(\s*([0-9]+)\s*\)[^()]*$''), CASE WHEN btrim(r.row ->> %1$L) ~ ''^[0-9]+$'' THEN btrim(r.row ->> %1$L) END), '''')', k.key)
				WHEN 'digits6' THEN format('substring(r.row ->> %L FROM ''\(\s*([0-9]{6})\s*\)'')', k.key)
				WHEN 'before' THEN format('nullif(btrim(regexp_replace(r.row ->> %L, ''\s*\([^()]*\)\s*$'', '''')), '''')', k.key)
				WHEN 'dhm' THEN format('crm.dislocation_minutes(r.row ->> %L)::text', k.key)
				ELSE format('nullif(btrim(r.row ->> %L), '''')', k.key) END AS expression
			FROM (SELECT DISTINCT j.key FROM jsonb_array_elements(list) AS a(value), LATERAL jsonb_object_keys(CASE jsonb_typeof(a.value) WHEN 'object' THEN a.value ELSE '{}' END) AS j(key)) AS k
			CROSS JOIN LATERAL (
				-- a heading may hold two facts ("name (code)"): one row of the mapping for each of its fields
				SELECT DISTINCT ON (y.field) y.field, y.extractor, y."position", y.shipped
				FROM crm.dislocation_mapping y
				WHERE y.code = dislocation_read.mapping AND k.key ~* y.header AND length(k.key) <= 200
				ORDER BY y.field, y.shipped, y."position") AS m) AS f
		GROUP BY f.field) AS x;
	IF parts IS NULL OR NOT parts ? 'wagon' THEN
		RETURN NULL;
	END IF;
	FOREACH want IN ARRAY ARRAY['wagon', 'operation', 'at', 'station', 'destination', 'distance_left_km', 'idle', 'idle_days', 'idle_hours', 'idle_minutes', 'weight_kg', 'weight_t', 'loaded', 'empty',
		'cargo_code', 'cargo_name', 'train_index', 'waybill_number', 'waybill_key', 'started_at', 'departed_at', 'arrived_at', 'due_on', 'origin', 'consignee_okpo', 'consignee_name', 'claim_number'] LOOP
		e := e || jsonb_build_object(want, coalesce(parts ->> want, 'NULL::text'));
	END LOOP;
	EXECUTE format($query$
		SELECT array_agg(ROW(y.n, y.wagon, y.operation, y.at, y.station, y.destination, y.distance_left_km, y.idle_minutes, y.weight_kg, y.loaded, y.cargo_code, y.cargo_name, y.train_index,
			y.waybill_number, y.started_at, y.arrived_at, y.due_on, y.origin, y.consignee_okpo, y.consignee_name, y.claim_number,
			CASE
				WHEN o.phase IS NOT NULL THEN o.phase
				WHEN NOT y.loaded AND y.station = y.destination AND y.weight_kg > 0 AND y.cargo_code NOT LIKE '421%%' THEN 'unloaded'
				WHEN NOT y.loaded OR y.cargo_code LIKE '421%%' THEN 'empty'
				WHEN y.station = y.destination THEN CASE WHEN y.arrived_at IS NOT NULL THEN 'arrived' ELSE 'arriving' END
				WHEN y.station = y.origin THEN CASE WHEN y.train_index IS NULL THEN 'loading' ELSE 'moving' END
				WHEN y.idle_minutes >= 720 THEN 'standing'
				ELSE 'moving' END,
			CASE
				WHEN y.wagon IS NULL THEN 'the wagon has no number that can be read'
				WHEN y.at IS NULL THEN 'the operation has no time that can be read'
				WHEN y.at > $3 + interval '1 day' THEN 'the operation is in the future'
				WHEN y.at < $3 - interval '400 days' THEN 'the operation is older than 400 days' END)::crm.dislocation_row ORDER BY y.n)
		FROM (
			SELECT x.n, CASE WHEN x.wagon ~ '^[0-9]{5,12}$' THEN x.wagon END AS wagon,
				CASE WHEN x.operation ~ '^[0-9]{1,4}$' THEN coalesce(nullif(ltrim(x.operation, '0'), ''), '0') ELSE '' END AS operation,
				coalesce(crm.rail_time(x.at, $2), CASE WHEN x.at IS NULL THEN coalesce(crm.rail_time(x.arrived_at, $2), crm.rail_time(x.started_at, $2)) END) AS at,
				coalesce(CASE WHEN length(x.station) = 6 THEN x.station ELSE crm.station_of(x.station) END, '') AS station,
				CASE WHEN length(x.destination) = 6 THEN x.destination ELSE crm.station_of(x.destination) END AS destination,
				CASE WHEN x.distance_left_km ~ '^[0-9 ]{1,12}$' AND replace(x.distance_left_km, ' ', '')::numeric < 100000 THEN replace(x.distance_left_km, ' ', '')::integer END AS distance_left_km,
				coalesce(CASE WHEN x.idle ~ '^[0-9]{1,8}$' THEN x.idle::integer END,
					CASE WHEN coalesce(x.idle_days, x.idle_hours, x.idle_minutes) IS NOT NULL THEN
						CASE WHEN x.idle_days ~ '^[0-9]{1,4}$' THEN x.idle_days::integer * 1440 ELSE 0 END
						+ CASE WHEN x.idle_hours ~ '^[0-9]{1,3}(:|$)' THEN substring(x.idle_hours FROM '^[0-9]+')::integer * 60 ELSE 0 END
						+ CASE WHEN x.idle_minutes ~ '^[0-9]{1,3}$' THEN x.idle_minutes::integer ELSE 0 END END) AS idle_minutes,
				CASE WHEN w.kg BETWEEN 0 AND 1000000 THEN w.kg END AS weight_kg,
				CASE WHEN lower(x.loaded) IN ('1', 'true', 'да') OR x.loaded ~* '^гру' OR lower(x.loaded) = 'г' THEN true
					WHEN lower(x.loaded) IN ('0', 'false', 'нет') OR x.loaded ~* '^пор' OR lower(x.loaded) = 'п' THEN false
					WHEN x.empty = '1' THEN false WHEN x.empty = '0' THEN true
					WHEN w.kg > 0 THEN true END AS loaded,
				left(x.cargo_code, 20) AS cargo_code, left(x.cargo_name, 500) AS cargo_name,
				CASE WHEN x.train_index ~ '[1-9]' THEN left(x.train_index, 40) END AS train_index,
				left(crm.waybill_number(coalesce(x.waybill_number, CASE WHEN x.waybill_key ~ '^20[0-9]{2}.' THEN substr(x.waybill_key, 5) END)), 40) AS waybill_number,
				crm.rail_time(coalesce(x.started_at, x.departed_at), $2) AS started_at, crm.rail_time(x.arrived_at, $2) AS arrived_at,
				(crm.rail_time(x.due_on, $2) AT TIME ZONE $2)::date AS due_on,
				CASE WHEN length(x.origin) = 6 THEN x.origin ELSE crm.station_of(x.origin) END AS origin,
				crm.okpo(x.consignee_okpo) AS consignee_okpo, left(x.consignee_name, 500) AS consignee_name, left(x.claim_number, 60) AS claim_number
			FROM (SELECT r.n::integer AS n, %s FROM jsonb_array_elements($1) WITH ORDINALITY AS r(row, n) OFFSET 0) AS x
			CROSS JOIN LATERAL (SELECT coalesce(crm.rail_number(x.weight_kg), crm.rail_number(x.weight_t) * 1000) AS kg OFFSET 0) AS w
			OFFSET 0) AS y
		LEFT JOIN LATERAL (SELECT z.phase FROM crm.wagon_operation z WHERE z.code = y.operation ORDER BY z.shipped LIMIT 1) AS o ON true$query$,
		(SELECT string_agg(format('(%s) AS %I', p.value, p.key), ', ') FROM jsonb_each_text(e) AS p(key, value)))
	INTO result USING list, zone, crm.clock();
	RETURN coalesce(result, '{}');
END
$$;
COMMENT ON FUNCTION crm.dislocation_read(jsonb, text, text) IS 'Rows of a report about wagons (objects by heading) as crm.dislocation_row, by the columns of crm.dislocation_mapping; NULL where no column holds the number of the wagon. The phase comes from the operation where that proves it, else from the facts (protocol etran, section 7). zone: of times without one';

CREATE OR REPLACE FUNCTION crm.dislocation_minutes(words text) RETURNS integer
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN p.part IS NOT NULL THEN p.part[1]::integer * 1440 + p.part[2]::integer * 60 + coalesce(p.part[3], '0')::integer
		WHEN btrim($1) ~ '^[0-9]{1,4}$' THEN btrim($1)::integer * 1440 END
	FROM (SELECT regexp_match($1, '^\s*([0-9]{1,4}):([0-9]{1,3})(?::([0-9]{1,3}))?\s*$') AS part) AS p;
END;
COMMENT ON FUNCTION crm.dislocation_minutes(text) IS 'Minutes of a standing time written days:hours:minutes, or of whole days; NULL for all else';

CREATE OR REPLACE FUNCTION crm.import_dislocation(body jsonb, mapping text DEFAULT 'spv4664', source text DEFAULT 'manual', taken_at timestamptz DEFAULT NULL,
	whole boolean DEFAULT NULL, integration_id bigint DEFAULT NULL, force boolean DEFAULT false) RETURNS crm.dislocation_snapshot
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	s      crm.rail_setting := crm.rail_settings();
	shape  record;
	rows_  crm.dislocation_row[];
	good   crm.dislocation_row[];
	before crm.dislocation_snapshot;
	result crm.dislocation_snapshot;
	moment timestamptz;
	news   bigint[];
	ids    bigint[];
	span   record;
BEGIN
	IF coalesce(source, '') = '' OR length(source) > 200 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a report about wagons needs a source of 1 to 200 signs', HINT = 'Give the same name each time: snapshots of one source follow each other.';
	END IF;
	IF NOT EXISTS (SELECT FROM crm.dislocation_mapping m WHERE m.code = mapping) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('there is no mapping %s', coalesce(quote_literal(mapping), 'NULL')),
			HINT = 'SELECT DISTINCT code FROM crm.dislocation_mapping; lists them.';
	END IF;
	PERFORM pg_advisory_xact_lock('crm.dislocation_snapshot'::regclass::oid::integer, hashtext(source));
	shape := crm.dislocation_rows(body, mapping);
	moment := coalesce($4, crm.rail_time(shape.taken, s.time_zone), crm.clock());
	result.source := source;
	result.integration_id := $6;
	result.taken_at := moment;
	result.whole := coalesce($5, shape.whole);
	result.row_count := coalesce(jsonb_array_length(shape.list), 0);
	result.wagons := 0;
	result.unread := 0;
	result.refused := shape.problem;
	SELECT x.* INTO before FROM crm.dislocation_snapshot x
	WHERE x.source = $3 AND x.whole AND (x.refused IS NULL OR x.accepted_at IS NOT NULL) ORDER BY x.id DESC LIMIT 1;
	IF result.refused IS NULL AND result.whole AND NOT force AND moment < before.taken_at THEN
		result.refused := format('it was made at %s, before the one that is here (%s)', moment, before.taken_at);
	END IF;
	IF result.refused IS NULL AND result.row_count > 0 THEN
		rows_ := crm.dislocation_read(shape.list, mapping, s.time_zone);
		IF rows_ IS NULL THEN
			result.refused := format('the mapping %s finds no column with the number of the wagon', mapping);
		END IF;
	END IF;
	IF result.refused IS NULL THEN
		good := ARRAY(SELECT r FROM unnest(rows_) AS r WHERE r.problem IS NULL);
		result.wagons := (SELECT count(DISTINCT r.wagon) FROM unnest(good) AS r);
		result.unread := result.row_count - cardinality(good);
		PERFORM crm.reject($6, format('%s, row %s', left(source, 100), r.n), r.problem, NULL, convert_to((shape.list -> (r.n - 1))::text, 'UTF8'))
		FROM (SELECT u.n, u.problem FROM unnest(rows_) AS u WHERE u.problem IS NOT NULL ORDER BY u.n LIMIT 100) AS r;
		IF result.whole AND NOT force AND before.wagons >= 5 AND result.wagons < before.wagons * (100 - s.lost_percent) / 100.0 THEN
			result.refused := format('it has %s wagons, the one before had %s', result.wagons, before.wagons);
		END IF;
		IF result.refused IS NULL AND result.row_count > 0 AND cardinality(good) = 0 THEN
			result.refused := format('none of its rows can be read: %s', (SELECT r.problem FROM unnest(rows_) AS r LIMIT 1));
		END IF;
	END IF;
	INSERT INTO crm.dislocation_snapshot AS x (source, integration_id, taken_at, whole, row_count, wagons, unread, refused)
	VALUES (result.source, result.integration_id, result.taken_at, result.whole, result.row_count, result.wagons, result.unread, result.refused)
	RETURNING x.* INTO result;
	IF result.refused IS NOT NULL THEN
		PERFORM crm.reject($6, format('report about wagons of %s', left(source, 100)), result.refused, NULL, convert_to(left(body::text, 60000), 'UTF8'));
		RETURN result;
	END IF;

	IF cardinality(good) > 0 THEN
		PERFORM crm.rail_wagons(ARRAY(SELECT DISTINCT r.wagon FROM unnest(good) AS r));
		ids := ARRAY(SELECT w.id FROM unnest(good) AS r CROSS JOIN LATERAL (SELECT y.id FROM crm.wagon y WHERE y.number = r.wagon OFFSET 0) AS w);
		SELECT min(r.at) AS first, max(r.at) AS last INTO span FROM unnest(good) AS r;
		PERFORM crm.make_partitions('crm.wagon_location'::regclass, span.first, span.last);
		WITH fresh AS (
			INSERT INTO crm.wagon_location (wagon_id, at, operation, station, destination, distance_left_km, idle_minutes, weight_kg, loaded, cargo_code, train_index, waybill_number, phase, integration_id)
			SELECT w.id, r.at, r.operation, r.station, r.destination, r.distance_left_km, r.idle_minutes, r.weight_kg, r.loaded, r.cargo_code, r.train_index, r.waybill_number, r.phase, $6
			FROM unnest(good) AS r
			CROSS JOIN LATERAL (SELECT y.id FROM crm.wagon y WHERE y.number = r.wagon OFFSET 0) AS w
			ORDER BY r.at, r.n
			ON CONFLICT DO NOTHING
			RETURNING 1
		) SELECT count(*) INTO result.new_operations FROM fresh;
		UPDATE crm.dislocation_snapshot x SET new_operations = result.new_operations WHERE x.id = result.id;

		-- waybills that only this report names; a wagon of one arrives by the report as by its document
		IF s.waybill_from_dislocation THEN
			INSERT INTO crm.waybill (source, source_id, integration_id, number, phase, consignee_okpo, consignee_name, from_station, to_station, cargo_code, cargo_name, claim_number, order_id, company_id, wagon_count)
			SELECT 'dislocation', d.waybill_number || '@' || d.day, $6, d.waybill_number, 'moving', d.consignee_okpo, d.consignee_name, d.origin, d.destination, d.cargo_code, d.cargo_name, d.claim_number,
				o.order_id, coalesce((SELECT y.company_id FROM crm.customer_order y WHERE y.id = o.order_id), crm.rail_company(d.consignee_okpo, d.consignee_name)), d.wagons
			FROM (SELECT r.waybill_number, max(coalesce(r.started_at, moment))::date AS day, min(r.consignee_okpo) AS consignee_okpo, min(r.consignee_name) AS consignee_name, min(r.origin) AS origin,
					min(r.destination) AS destination, min(r.cargo_code) AS cargo_code, min(r.cargo_name) AS cargo_name, min(r.claim_number) AS claim_number, count(DISTINCT r.wagon) AS wagons
				FROM unnest(good) AS r WHERE r.waybill_number IS NOT NULL AND r.loaded AND coalesce(r.cargo_code, '') NOT LIKE '421%'
				GROUP BY r.waybill_number) AS d
			CROSS JOIN LATERAL (SELECT crm.rail_order(d.waybill_number, d.claim_number) AS order_id) AS o
			WHERE NOT EXISTS (SELECT FROM (SELECT FROM crm.waybill y WHERE y.number = d.waybill_number AND y.created_at > moment - interval '90 days' OFFSET 0) AS x)
			ORDER BY d.waybill_number
			ON CONFLICT ON CONSTRAINT waybill_source_key DO NOTHING;
		END IF;
		WITH run AS MATERIALIZED (
			SELECT DISTINCT ON (w.id) w.id AS wagon_id, b.id AS waybill_id, b.invoice_id, r.weight_kg, r.n,
				CASE WHEN r.phase = 'arrived' OR r.station = r.destination AND r.arrived_at IS NOT NULL THEN coalesce(r.arrived_at, r.at) END AS arrived_at
			FROM unnest(good) AS r
			CROSS JOIN LATERAL (SELECT y.id FROM crm.wagon y WHERE y.number = r.wagon OFFSET 0) AS w
			CROSS JOIN LATERAL (SELECT y.id, y.invoice_id FROM crm.waybill y WHERE y.number = r.waybill_number AND y.created_at > moment - interval '90 days' ORDER BY y.created_at DESC, y.id DESC LIMIT 1) AS b
			WHERE r.waybill_number IS NOT NULL AND r.loaded
			ORDER BY w.id, r.at DESC, r.n DESC
		), put AS (
			INSERT INTO crm.waybill_wagon AS x (waybill_id, wagon_id, "position", net_kg, arrived_at, arrival_known_at)
			SELECT r.waybill_id, r.wagon_id, r.n, r.weight_kg, r.arrived_at, CASE WHEN r.arrived_at IS NOT NULL THEN crm.now() END
			FROM run r
			WHERE r.invoice_id IS NULL OR EXISTS (SELECT FROM (SELECT FROM crm.waybill_wagon y WHERE y.waybill_id = r.waybill_id AND y.wagon_id = r.wagon_id OFFSET 0) AS z)
			ORDER BY r.waybill_id, r.wagon_id
			ON CONFLICT ON CONSTRAINT waybill_wagon_pkey DO UPDATE SET net_kg = coalesce(x.net_kg, EXCLUDED.net_kg), arrived_at = EXCLUDED.arrived_at, arrival_known_at = EXCLUDED.arrival_known_at
			WHERE x.arrived_at IS NULL AND EXCLUDED.arrived_at IS NOT NULL
			RETURNING x.waybill_id, x.arrived_at
		)
		SELECT array_agg(DISTINCT p.waybill_id) INTO news FROM put p WHERE p.arrived_at IS NOT NULL;
		UPDATE crm.waybill w SET wagon_count = c.number, weight_kg = coalesce(c.weight_kg, w.weight_kg), changed_at = crm.now()
		FROM (SELECT DISTINCT r.waybill_number FROM unnest(good) AS r WHERE r.waybill_number IS NOT NULL) AS r
		CROSS JOIN LATERAL (SELECT y.id FROM crm.waybill y WHERE y.number = r.waybill_number AND y.invoice_id IS NULL AND y.created_at > moment - interval '90 days' ORDER BY y.created_at DESC, y.id DESC LIMIT 1) AS b
		CROSS JOIN LATERAL (SELECT count(*) AS number, sum(y.net_kg) AS weight_kg FROM crm.waybill_wagon y WHERE y.waybill_id = b.id AND y.removed_at IS NULL) AS c
		WHERE w.id = b.id AND (w.wagon_count, w.weight_kg) IS DISTINCT FROM (c.number::integer, coalesce(c.weight_kg, w.weight_kg));

		INSERT INTO crm.wagon_now AS x (wagon_id, at, operation, station, destination, distance_left_km, idle_minutes, weight_kg, loaded, cargo_code, train_index, waybill_number, waybill_id,
			started_at, arrived_at, due_on, phase, source, seen_at)
		SELECT DISTINCT ON (w.id) w.id, r.at, r.operation, r.station, r.destination, r.distance_left_km, r.idle_minutes, r.weight_kg, r.loaded, r.cargo_code, r.train_index, r.waybill_number, b.id,
			r.started_at, r.arrived_at, r.due_on, r.phase, $3, moment
		FROM unnest(good) AS r
		CROSS JOIN LATERAL (SELECT y.id FROM crm.wagon y WHERE y.number = r.wagon OFFSET 0) AS w
		LEFT JOIN LATERAL (SELECT y.id FROM crm.waybill y WHERE y.number = r.waybill_number AND y.created_at > moment - interval '90 days' ORDER BY y.created_at DESC, y.id DESC LIMIT 1) AS b ON true
		ORDER BY w.id, r.at DESC, r.n DESC
		ON CONFLICT ON CONSTRAINT wagon_now_pkey DO UPDATE SET at = EXCLUDED.at, operation = EXCLUDED.operation, station = EXCLUDED.station, destination = EXCLUDED.destination,
			distance_left_km = EXCLUDED.distance_left_km, idle_minutes = EXCLUDED.idle_minutes, weight_kg = EXCLUDED.weight_kg, loaded = EXCLUDED.loaded, cargo_code = EXCLUDED.cargo_code,
			train_index = EXCLUDED.train_index,
			-- a report that names no waybill takes none away on the same way
			waybill_number = CASE WHEN EXCLUDED.waybill_number IS NULL AND EXCLUDED.destination IS NOT DISTINCT FROM x.destination THEN x.waybill_number ELSE EXCLUDED.waybill_number END,
			waybill_id = CASE WHEN EXCLUDED.waybill_number IS NULL AND EXCLUDED.destination IS NOT DISTINCT FROM x.destination THEN x.waybill_id ELSE EXCLUDED.waybill_id END,
			started_at = CASE WHEN EXCLUDED.started_at IS NULL AND EXCLUDED.destination IS NOT DISTINCT FROM x.destination THEN x.started_at ELSE EXCLUDED.started_at END,
			due_on = CASE WHEN EXCLUDED.due_on IS NULL AND EXCLUDED.destination IS NOT DISTINCT FROM x.destination THEN x.due_on ELSE EXCLUDED.due_on END,
			arrived_at = EXCLUDED.arrived_at, phase = EXCLUDED.phase, source = EXCLUDED.source, seen_at = EXCLUDED.seen_at, gone_at = NULL
		WHERE EXCLUDED.at > x.at OR EXCLUDED.at = x.at AND EXCLUDED.seen_at >= x.seen_at;
	END IF;
	IF result.whole THEN
		-- those whose operation here is older than what is known were seen all the same
		UPDATE crm.wagon_now x SET seen_at = moment, source = $3, gone_at = NULL WHERE x.wagon_id = ANY (ids) AND x.seen_at < moment;
		UPDATE crm.wagon_now x SET gone_at = moment, phase = 'gone' WHERE x.source = $3 AND x.gone_at IS NULL AND x.seen_at < moment;
	END IF;
	PERFORM crm.waybill_news(news);
	RETURN result;
END
$$;
COMMENT ON FUNCTION crm.import_dislocation(jsonb, text, text, timestamptz, boolean, bigint, boolean) IS 'Takes a report about wagons (see crm.dislocation_rows for its forms) by a mapping of its columns: operations into crm.wagon_location, the newest of each wagon into crm.wagon_now, arrivals at the station of destination into their waybills. The same again changes nothing. Refused as a whole, with a row here and in crm.rejected: an error, no rows that can be read, a snapshot older than the last of its source or one that lost more than crm.rail_setting.lost_percent of its wagons (force takes it all the same). whole: a snapshot of all wagons, so that one that is missing has gone; NULL: by its form. Rows that cannot be read are in crm.rejected and the rest goes on. Errors: 42704 no such mapping, 22023 no source';

CREATE OR REPLACE FUNCTION crm.import_dislocation(body text, mapping text DEFAULT NULL, source text DEFAULT 'manual', taken_at timestamptz DEFAULT NULL,
	whole boolean DEFAULT NULL, integration_id bigint DEFAULT NULL, force boolean DEFAULT false) RETURNS crm.dislocation_snapshot
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := ltrim(body, U&'\FEFF \000A\000D\0009');
	tree  jsonb;
BEGIN
	IF clean ~ '^[\[{]' THEN
		tree := clean::jsonb;
	ELSIF clean LIKE '<%' THEN
		tree := (crm.rail_tree(convert_to(clean, 'UTF8'))).tree;
	ELSE
		RETURN crm.import_dislocation(crm.csv_rows(body), coalesce(mapping, 'russian'), source, taken_at, whole, integration_id, force);
	END IF;
	RETURN crm.import_dislocation(tree, coalesce(mapping, 'spv4664'), source, taken_at, whole, integration_id, force);
END
$$;
COMMENT ON FUNCTION crm.import_dislocation(text, text, text, timestamptz, boolean, bigint, boolean) IS 'The same for a report as text: JSON, XML (mapping spv4664 unless another is named) or CSV (mapping russian). Errors also: 22P02 no JSON, 2200M no XML';

CREATE OR REPLACE FUNCTION crm.import_dislocation(cells text[][], mapping text DEFAULT 'russian', source text DEFAULT 'manual', taken_at timestamptz DEFAULT NULL,
	whole boolean DEFAULT NULL, integration_id bigint DEFAULT NULL, force boolean DEFAULT false) RETURNS crm.dislocation_snapshot
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT crm.import_dislocation(to_jsonb($1), $2, $3, $4, $5, $6, $7) $$;
COMMENT ON FUNCTION crm.import_dislocation(text[], text, text, timestamptz, boolean, bigint, boolean) IS 'The same for a table of cells as a sheet holds it, its headings among the first twenty lines';

CREATE OR REPLACE FUNCTION crm.accept_dislocation(source text) RETURNS boolean
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE crm.dislocation_snapshot x SET accepted_at = crm.now()
	WHERE x.id = (SELECT max(y.id) FROM crm.dislocation_snapshot y WHERE y.source = accept_dislocation.source AND y.whole) AND x.refused IS NOT NULL AND x.accepted_at IS NULL;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION crm.accept_dislocation(text) IS 'Says that the newest snapshot of a source was right although it was refused: the next is compared with it. False where the newest was not refused';

CREATE OR REPLACE FUNCTION crm.rail_maintain() RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	s crm.rail_setting := crm.rail_settings();
BEGIN
	PERFORM crm.waybills_late();
	PERFORM crm.waybill_arrivals(ARRAY(
		SELECT DISTINCT x.waybill_id FROM crm.waybill_wagon x
		WHERE x.arrived_at IS NOT NULL AND x.arrival_id IS NULL AND x.removed_at IS NULL AND x.arrival_known_at <= crm.now() - s.arrival_wait LIMIT 1000));
	DELETE FROM crm.dislocation_snapshot x WHERE x.id IN (
		SELECT y.id FROM crm.dislocation_snapshot y WHERE y.known_at < crm.now() - interval '90 days' ORDER BY y.id LIMIT 1000);
END
$$;
COMMENT ON FUNCTION crm.rail_maintain() IS 'Called by the courier: late waybills, arrivals whose wait is over, old rows of crm.dislocation_snapshot';
SELECT crm.register_hook('maintain', 'rail', 'crm.rail_maintain');

CREATE OR REPLACE FUNCTION crm.ship_rail() RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.rail_settings();
END
$$;
COMMENT ON FUNCTION crm.ship_rail() IS 'Brings the row of crm.rail_setting where it is missing; called by crm.activate()';
SELECT crm.register_hook('ship', 'rail', 'crm.ship_rail');

CREATE OR REPLACE FUNCTION crm.rail_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'notice', 'waybills', format('%s waybills are in a state whose meaning is not known: %s', count(*), left(string_agg(DISTINCT w.state, ', '), 300)),
		'SELECT crm.register_rail_state(''the words'', ''moving''); says what a state means; the waybill takes it at its next document.', min(w.changed_at)
	FROM crm.waybill w WHERE w.phase = 'unknown' AND w.version > 0 AND w.changed_at > crm.now() - interval '30 days' HAVING count(*) > 0
	UNION ALL
	SELECT 'notice', 'wagons', format('operations of wagons without a name: %s', left(string_agg(DISTINCT n.operation, ', '), 300)),
		'SELECT crm.register_wagon_operation(''CODE'', ''name''); names one; wagons are judged by the other facts meanwhile.', NULL
	FROM crm.wagon_now n
	WHERE n.operation <> '' AND n.gone_at IS NULL AND NOT EXISTS (SELECT FROM crm.wagon_operation o WHERE o.code = n.operation) HAVING count(*) > 0
	UNION ALL
	SELECT 'warning', 'wagons of ' || n.source, format('the last report about wagons of %s was refused: %s', n.source, n.refused),
		format('Look into crm.rejected; if it is right: SELECT crm.accept_dislocation(%L);', n.source), n.known_at
	FROM (SELECT DISTINCT ON (x.source) x.* FROM crm.dislocation_snapshot x ORDER BY x.source, x.id DESC) n
	WHERE n.refused IS NOT NULL AND n.accepted_at IS NULL
	UNION ALL
	SELECT 'warning', 'wagons of ' || n.source, format('the newest report about wagons of %s was made at %s', n.source, n.taken_at),
		'Nobody is told of arrivals that it would show. Is the integration on, does its service answer?', n.taken_at
	FROM (SELECT DISTINCT ON (x.source) x.* FROM crm.dislocation_snapshot x WHERE x.refused IS NULL AND x.whole ORDER BY x.source, x.id DESC) n
	CROSS JOIN (SELECT coalesce((SELECT r.snapshot_age FROM crm.rail_setting r), '6 hours') AS age) s
	WHERE n.taken_at < crm.now() - s.age AND n.taken_at > crm.now() - interval '30 days'
	UNION ALL
	SELECT 'notice', 'waybills', format('%s waybills on their way belong to nobody we know, among them consignee %s (OKPO %s)', count(*), min(w.consignee_name), min(w.consignee_okpo)),
		'INSERT INTO crm.rail_party (okpo, company_id) VALUES (''OKPO'', ID); tells whose they are, from their next document on.', min(w.created_at)
	FROM crm.waybill w WHERE w.company_id IS NULL AND w.phase IN ('accepted', 'moving', 'arrived', 'notified') AND w.changed_at > crm.now() - interval '30 days' HAVING count(*) > 0
$$;
COMMENT ON FUNCTION crm.rail_health() IS 'What is wrong with waybills and wagons, in words; a part of crm.health';
SELECT crm.register_hook('health', 'rail', 'crm.rail_health');

CREATE OR REPLACE FUNCTION crm.rail_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'an arrival of wagons is announced once', coalesce(max(x.n), 0) <= 1, format('%s announcements, at most %s of one arrival', coalesce(sum(x.n), 0), coalesce(max(x.n), 0))
	FROM (SELECT count(*) AS n FROM crm.event e WHERE e.kind = 'waybill.arrived' GROUP BY e.source, e.source_id) x
	UNION ALL
	SELECT 'every announced wagon belongs to an arrival of its waybill', count(*) = 0, format('%s do not', count(*))
	FROM crm.waybill_wagon x JOIN crm.waybill_arrival a ON a.id = x.arrival_id WHERE a.waybill_id <> x.waybill_id
$$;
COMMENT ON FUNCTION crm.rail_selftest() IS 'What must hold of arrivals by rail; a part of crm.selftest()';
SELECT crm.register_hook('selftest', 'rail', 'crm.rail_selftest');
