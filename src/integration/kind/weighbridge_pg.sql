-- weighbridge_pg: weighings from a table of the scales' own PostgreSQL database, read by its growing key.
--
-- Settings name a table and its columns, never SQL: each name is quoted as it stands. One request at a time:
-- rows (what is beyond the cursor, and once more the last keys before it), again (a stretch that is read
-- anew), count (how many rows a day has there).
--
-- A growing key is given out before its row commits, so a row can appear below a key that was read already.
-- Hence the overlap: the last keys are read with every question, and what is there already changes nothing,
-- since (source, source_id) is unique. What comes later than that, or is cancelled later, is found by the
-- count of the last days and read again.
--
-- The cursor rows: key (the largest one read), again {after, to} (a stretch to be read), naive (the table's
-- times have no zone), tried (what was counted there when a day was read again, so that it is once).
-- The session: counted_ms (crm.monotonic_ms of the last count), batch (rows asked for, after a reply that was too large).

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_quoted(name text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN name <> '' AND octet_length(name) <= 63 AND name !~ '[\x01-\x1f]' THEN '"' || replace(name, '"', '""') || '"' END;
END;
COMMENT ON FUNCTION crm.weighbridge_pg_quoted(text) IS 'A name of the foreign database as an identifier, letter for letter; NULL for what can be none.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_column(integration_id bigint, field text) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm.weighbridge_pg_quoted(i.settings #>> ARRAY['columns', $2]) FROM crm.integration i WHERE i.id = $1;
END;
COMMENT ON FUNCTION crm.weighbridge_pg_column(bigint, text) IS 'The column that holds a field, quoted; NULL: the table has none.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_problem(integration_id bigint) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE
		WHEN i.url !~ '^postgresql://' THEN 'the address is no database: postgresql://host:port/database'
		WHEN coalesce(i.settings ->> 'table', '') !~ '^[^.]+\.[^.]+$' OR crm.weighbridge_pg_quoted(split_part(i.settings ->> 'table', '.', 1)) IS NULL
			OR crm.weighbridge_pg_quoted(split_part(i.settings ->> 'table', '.', 2)) IS NULL THEN 'the setting table names no table: give schema.table'
		WHEN crm.weighbridge_pg_quoted(i.settings ->> 'key') IS NULL THEN 'the setting key names no column: give the one that grows with each row'
		WHEN jsonb_typeof(i.settings -> 'columns') IS DISTINCT FROM 'object' THEN 'the setting columns is no object: give {"vehicle": …, "kg": …, "at": …}'
		WHEN EXISTS (SELECT FROM jsonb_object_keys(i.settings -> 'columns') k WHERE k NOT IN ('vehicle', 'kind', 'kg', 'at', 'order', 'product', 'waybill', 'storno'))
			THEN 'the setting columns knows only vehicle, kind, kg, at, order, product, waybill, storno'
		WHEN crm.weighbridge_pg_column(i.id, 'vehicle') IS NULL OR crm.weighbridge_pg_column(i.id, 'kg') IS NULL OR crm.weighbridge_pg_column(i.id, 'at') IS NULL
			THEN 'the setting columns lacks vehicle, kg or at'
		WHEN EXISTS (SELECT FROM jsonb_each_text(i.settings -> 'columns') k WHERE crm.weighbridge_pg_quoted(k.value) IS NULL) THEN 'a name in the setting columns can be no column'
		WHEN jsonb_typeof(coalesce(i.settings -> 'kinds', '{}')) <> 'object' OR EXISTS (SELECT FROM jsonb_each_text(coalesce(i.settings -> 'kinds', '{}')) k WHERE k.value NOT IN ('tare', 'gross', 'unknown'))
			THEN 'the setting kinds maps words of the scales to tare, gross or unknown'
		WHEN NOT crm.time_zone_exists(coalesce(i.settings ->> 'zone', 'Europe/Moscow')) THEN format('the setting zone %s is no time zone', i.settings ->> 'zone')
		WHEN crm.setting_of(i.id, 'unit') NOT IN ('kg', 't') THEN 'the setting unit is neither kg nor t'
		WHEN EXISTS (SELECT FROM unnest('{batch,overlap,timeout_ms,check_every_s,check_days}'::text[]) k WHERE crm.setting_of(i.id, k) !~ '^[0-9]{1,7}$')
			OR crm.setting_of(i.id, 'batch')::integer NOT BETWEEN 1 AND 20000 OR crm.setting_of(i.id, 'overlap')::integer > 20000
			THEN 'batch is 1 to 20000, overlap 0 to 20000; timeout_ms, check_every_s and check_days are whole numbers'
		WHEN nullif(crm.setting_of(i.id, 'username'), '') IS NULL THEN 'there is no user to log in as: the setting username'
	END
	FROM crm.integration i WHERE i.id = $1
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_problem(bigint) IS 'What is wrong with the settings of an integration, in words; NULL: nothing.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_ask(integration_id bigint, step text, params jsonb, more jsonb DEFAULT '{}') RETURNS crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	i     record;
	name  text := (SELECT crm.weighbridge_pg_quoted(split_part(n.settings ->> 'table', '.', 1)) || '.' || crm.weighbridge_pg_quoted(split_part(n.settings ->> 'table', '.', 2))
		FROM crm.integration n WHERE n.id = $1);
	key   text := (SELECT crm.weighbridge_pg_quoted(n.settings ->> 'key') FROM crm.integration n WHERE n.id = $1);
	query text;
BEGIN
	SELECT n.url INTO i FROM crm.integration n WHERE n.id = $1;
	IF $2 = 'count' THEN
		query := format($q$SELECT left(%s::text, 10), count(*), count(*) FILTER (WHERE %s), min(%s), max(%s) FROM %s WHERE %s > $1::bigint AND %s <= $2::bigint GROUP BY 1 ORDER BY 1 LIMIT 1000$q$,
			crm.weighbridge_pg_column($1, 'at'),
			coalesce(format('lower(%s::text) IN (''t'', ''true'', ''1'', ''y'', ''yes'', ''да'', ''истина'')', crm.weighbridge_pg_column($1, 'storno')), 'false'), key, key, name, key, key);
	ELSE
		-- t.: a bare name after ORDER BY would be the column of the result, which is text
		query := format('SELECT t.%s::text, %s FROM %s AS t WHERE t.%s > $1::bigint AND t.%s <= $2::bigint ORDER BY t.%s LIMIT $3::integer', key,
			(SELECT string_agg(coalesce('t.' || crm.weighbridge_pg_column($1, f.field), 'NULL') || '::text', ', ' ORDER BY f.n)
			 FROM unnest('{vehicle,kind,kg,at,order,product,waybill,storno}'::text[]) WITH ORDINALITY AS f(field, n)), name, key, key, key);
	END IF;
	RETURN ROW (1, 'SQL', i.url, NULL, convert_to(query, 'UTF8'), crm.setting_of($1, 'username'), crm.secret_value($1),
		crm.setting_of($1, 'timeout_ms')::integer, jsonb_build_object('step', $2, 'params', $3) || $4)::crm.request;
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_ask(bigint, text, jsonb, jsonb) IS 'A question to the scales'' database: rows between two keys (parameters after, to, number), or their number by day (after, to). The statement holds quoted names and no other text of the settings.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	place    jsonb := coalesce(crm.cursor_value($1, 'rows'), '{}');
	session  jsonb := coalesce(crm.session_value($1), '{}');
	problem  text := crm.weighbridge_pg_problem($1);
	key      bigint := coalesce((place ->> 'key')::bigint, 0);
	overlap  bigint;
	batch    integer;
	low      bigint;
BEGIN
	IF coalesce($2, 0) < 1 THEN
		RETURN;
	END IF;
	IF problem IS NULL AND coalesce(crm.secret_value($1), '') = '' AND coalesce(crm.setting_of($1, 'without_password'), 'false') <> 'true' THEN
		problem := 'there is no password: crm.set_secret() gives one';
	END IF;
	IF problem IS NOT NULL THEN
		PERFORM crm.integration_failed($1, problem, 3600000);
		RETURN;
	END IF;
	overlap := crm.setting_of($1, 'overlap')::bigint;
	batch := coalesce((session ->> 'batch')::integer, crm.setting_of($1, 'batch')::integer);
	IF place ? 'again' THEN
		RETURN NEXT crm.weighbridge_pg_ask($1, 'again', jsonb_build_array(place #> '{again,after}', place #> '{again,to}', batch));
	ELSIF key > 0 AND crm.setting_of($1, 'check_every_s')::integer > 0
		AND crm.monotonic_ms() - coalesce((session ->> 'counted_ms')::bigint, -1000000000000) >= 1000 * crm.setting_of($1, 'check_every_s')::bigint THEN
		-- from the first key of those days that we know; the first day is counted in part and not judged
		SELECT min(w.source_id::bigint) - 1 INTO low FROM crm.weighing w
		WHERE w.source = 'scales:' || $1 AND w.at >= crm.now() - make_interval(days => 1 + crm.setting_of($1, 'check_days')::integer) AND w.at < crm.now() + interval '1 day';
		PERFORM crm.set_session($1, session || jsonb_build_object('counted_ms', crm.monotonic_ms()));
		RETURN NEXT crm.weighbridge_pg_ask($1, 'count', jsonb_build_array(coalesce(low, key), key));
	ELSE
		RETURN NEXT crm.weighbridge_pg_ask($1, 'rows', jsonb_build_array(greatest(key - overlap, 0), 9223372036854775807, batch + overlap));
	END IF;
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_next(bigint, integer) IS 'The next question to the scales'' database, one at a time: a stretch to be read again, the count of the last days when it is due, else what is beyond the cursor less the overlap. Claim 47.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_time(said text, zone text) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF said ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?([+-][0-9]{2}(:?[0-9]{2}){0,2}|Z)$' THEN
		RETURN said::timestamptz;
	ELSIF said ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]{1,9})?)?$' THEN
		RETURN said::timestamp AT TIME ZONE zone;
	END IF;
	RETURN NULL;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_time(text, text) IS 'A time as PostgreSQL writes it; one without a zone is of the given zone. NULL for all else, never an error.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_rows(integration_id bigint, list jsonb)
	RETURNS TABLE (number bigint, key bigint, day text, plate text, kind text, kg numeric, at timestamptz, order_ref text, product text, waybill text, storno boolean, problem text, said jsonb)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.number, f.key, f.day, f.plate, f.kind, f.kg, f.at, f.order_ref, f.product, f.waybill, f.storno, CASE
			WHEN f.key IS NULL THEN 'the key is no whole number'
			WHEN f.plate IS NULL OR length(f.plate) > 20 OR f.plate !~ '[0-9]' THEN format('"%s" is no number plate', left(f.plate, 40))
			WHEN f.kg IS NULL THEN format('"%s" is no weight', left(f.said ->> 3, 40))
			WHEN f.kg <= 0 OR f.kg > 1000000 THEN format('the weight %s kg is out of range', f.kg)
			WHEN f.at IS NULL OR f.at < '1990-01-01Z' OR f.at > '2199-12-31Z' THEN format('"%s" is no time', left(f.said ->> 4, 40)) END, f.said
	FROM (
		SELECT e.number, CASE WHEN e.said ->> 0 ~ '^-?[0-9]{1,18}$' THEN (e.said ->> 0)::bigint END AS key, left(e.said ->> 4, 10) AS day,
			nullif(btrim(regexp_replace(e.said ->> 1, '[[:space:]]+', ' ', 'g')), '') AS plate,
			coalesce(i.settings -> 'kinds' ->> (e.said ->> 2),
				CASE WHEN lower(btrim(e.said ->> 2)) IN ('tare', 'тара', 'empty', 'in', 't') THEN 'tare' WHEN lower(btrim(e.said ->> 2)) IN ('gross', 'брутто', 'loaded', 'out', 'g') THEN 'gross' END,
				'unknown') AS kind,
			CASE WHEN abs(crm.as_number(e.said ->> 3)) < 1e9 THEN round(crm.as_number(e.said ->> 3) * CASE crm.setting_of(i.id, 'unit') WHEN 't' THEN 1000 ELSE 1 END, 3) END AS kg,
			crm.weighbridge_pg_time(e.said ->> 4, coalesce(i.settings ->> 'zone', current_setting('crm.time_zone', true), 'Europe/Moscow')) AS at,
			nullif(left(btrim(e.said ->> 5), 200), '') AS order_ref, nullif(left(btrim(e.said ->> 6), 500), '') AS product, nullif(left(btrim(e.said ->> 7), 100), '') AS waybill,
			coalesce(lower(btrim(e.said ->> 8)) IN ('t', 'true', '1', 'y', 'yes', 'да', 'истина'), false) AS storno, e.said
		FROM crm.integration i
		CROSS JOIN LATERAL jsonb_array_elements($2) WITH ORDINALITY AS e(said, number)
		WHERE i.id = $1) f
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_rows(bigint, jsonb) IS 'Rows of a reply as weighings: kilograms, moments; problem says why one cannot be used. A word for the kind that is neither known nor in the setting kinds is unknown: the weights tell.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_store(integration_id bigint, list jsonb, OUT last_key bigint, OUT number integer) RETURNS record
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	r   record;
	bad record;
BEGIN
	PERFORM crm.assert_own_integration($1);
	SELECT count(*), max(f.key) FROM crm.weighbridge_pg_rows($1, $2) f INTO number, last_key;
	-- a truck at the gate whose plate is all that is known of it
	INSERT INTO crm.vehicle (plate, source)
	SELECT DISTINCT ON (k.key) f.plate, 'scales:' || $1 FROM crm.weighbridge_pg_rows($1, $2) f
	CROSS JOIN LATERAL (SELECT crm.gps_wialon_plate(f.plate) AS key) k
	WHERE f.problem IS NULL AND NOT EXISTS (SELECT FROM crm.vehicle v WHERE v.plate_key = k.key OFFSET 0)
	ORDER BY k.key, f.number
	ON CONFLICT ON CONSTRAINT vehicle_plate_key DO NOTHING;
	SELECT array_agg(f.key::text ORDER BY f.number) AS keys, array_agg(v.id ORDER BY f.number) AS vehicles, array_agg(f.kind ORDER BY f.number) AS kinds,
		array_agg(f.kg ORDER BY f.number) AS kgs, array_agg(f.at ORDER BY f.number) AS ats, array_agg(f.order_ref ORDER BY f.number) AS refs,
		array_agg(f.product ORDER BY f.number) AS products, array_agg(f.waybill ORDER BY f.number) AS waybills, array_agg(f.storno ORDER BY f.number) AS stornos
	INTO r
	FROM crm.weighbridge_pg_rows($1, $2) f
	CROSS JOIN LATERAL (SELECT y.id FROM crm.vehicle y WHERE y.plate_key = crm.gps_wialon_plate(f.plate) OFFSET 0) v
	WHERE f.problem IS NULL;
	IF r.keys IS NOT NULL THEN
		PERFORM crm.put_weighings('scales:' || $1, r.keys, r.vehicles, r.kinds, r.kgs, r.ats, r.refs, r.products, r.waybills, r.stornos);
	END IF;
	FOR bad IN SELECT f.key, f.day, f.problem, f.said FROM crm.weighbridge_pg_rows($1, $2) f WHERE f.problem IS NOT NULL ORDER BY f.number LOOP
		PERFORM crm.reject($1, format('weighing %s of %s', bad.key, bad.day), bad.problem, NULL, convert_to(bad.said::text, 'UTF8'));
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_store(bigint, jsonb) IS 'Stores the rows of a reply: weighings through crm.put_weighings in one set, a plate that was never met becomes a vehicle, each bad row goes to crm.rejected and the rest goes on. Returns the largest key and how many rows there were.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_count(integration_id bigint, list jsonb, low bigint, high bigint, place jsonb) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	d     record;
	zone  text := CASE WHEN ($5 ->> 'naive')::boolean THEN coalesce(crm.setting_of($1, 'zone'), current_setting('crm.time_zone', true), 'Europe/Moscow') ELSE 'UTC' END;
	tried jsonb := coalesce($5 -> 'tried', '{}');
	again jsonb;
	days  text[];
BEGIN
	FOR d IN
		WITH there AS (
			SELECT e.said ->> 0 AS day, (e.said ->> 1)::bigint AS number, (e.said ->> 2)::bigint AS stornos, (e.said ->> 3)::bigint AS low_key, (e.said ->> 4)::bigint AS high_key
			FROM jsonb_array_elements($2) AS e(said)
			WHERE e.said ->> 0 ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' AND e.said ->> 1 ~ '^[0-9]{1,18}$' AND e.said ->> 2 ~ '^[0-9]{1,18}$' AND e.said ->> 3 ~ '^-?[0-9]{1,18}$' AND e.said ->> 4 ~ '^-?[0-9]{1,18}$'
		), here AS (
			SELECT to_char(w.at AT TIME ZONE zone, 'YYYY-MM-DD') AS day, count(*) AS number, count(w.cancelled_at) AS stornos
			FROM crm.weighing w
			WHERE w.source = 'scales:' || $1 AND w.source_id::bigint > $3 AND w.source_id::bigint <= $4 AND w.at > (SELECT min(t.day)::date FROM there t) - interval '2 days'
			GROUP BY 1
		), bad AS (
			SELECT p.part[2] AS day, count(DISTINCT p.part[1]) AS number
			FROM crm.rejected j
			CROSS JOIN LATERAL (SELECT regexp_match(j.what, '^weighing (-?[0-9]{1,18}) of (.*)$') AS part) p
			WHERE j.integration_id = $1 AND j.what LIKE 'weighing %' AND p.part[1]::bigint > $3 AND p.part[1]::bigint <= $4
				-- mended there since
				AND NOT EXISTS (SELECT FROM crm.weighing w WHERE w.source = 'scales:' || $1 AND w.source_id = p.part[1] OFFSET 0)
			GROUP BY 1
		)
		SELECT t.day, t.number, t.stornos, t.low_key, t.high_key, coalesce(h.number, 0) AS ours, coalesce(h.stornos, 0) AS our_stornos, coalesce(b.number, 0) AS rejected,
			row_number() OVER (ORDER BY t.day) = 1 AND count(*) OVER () > 1 AND $3 > 0 AS in_part
		FROM there t LEFT JOIN here h ON h.day = t.day LEFT JOIN bad b ON b.day = t.day
		ORDER BY t.day
	LOOP
		days := days || d.day;
		IF NOT d.in_part THEN
			PERFORM crm.record_completeness($1, tstzrange(d.day::date::timestamp AT TIME ZONE zone, (d.day::date + 1)::timestamp AT TIME ZONE zone), d.number, d.ours, d.rejected, 'weighings');
		END IF;
		-- read once more, once for what was counted there
		IF (d.number, d.stornos) IS DISTINCT FROM (d.ours + d.rejected, d.our_stornos) AND tried ->> d.day IS DISTINCT FROM format('%s/%s', d.number, d.stornos) AND again IS NULL THEN
			again := jsonb_build_object('after', d.low_key - 1, 'to', d.high_key);
			tried := tried || jsonb_build_object(d.day, format('%s/%s', d.number, d.stornos));
		END IF;
	END LOOP;
	RETURN $5 - 'again' || jsonb_strip_nulls(jsonb_build_object('again', again, 'tried',
		(SELECT jsonb_object_agg(k.key, k.value) FROM jsonb_each(tried) k WHERE k.key = ANY (days))));
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_count(bigint, jsonb, bigint, bigint, jsonb) IS 'Compares what the scales count by day between two keys with what is here and rejected, into crm.completeness; a day that differs is read again, once for each count that was found there. Returns the cursor.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_take(integration_id bigint, replies crm.reply[]) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	reply   crm.reply;
	step    text;
	doc     jsonb;
	place   jsonb;
	session jsonb;
	stored  record;
	asked   integer;
BEGIN
	PERFORM crm.assert_own_integration($1);
	FOREACH reply IN ARRAY $2 LOOP
		step := reply.context ->> 'step';
		place := coalesce(crm.cursor_value($1, 'rows'), '{}');
		session := coalesce(crm.session_value($1), '{}');
		IF reply.error LIKE 'too large:%' AND step <> 'count' THEN
			asked := coalesce((session ->> 'batch')::integer, crm.setting_of($1, 'batch')::integer);
			IF asked > 1 THEN
				PERFORM crm.set_session($1, session || jsonb_build_object('batch', greatest(asked / 4, 1)));
			END IF;
			PERFORM crm.integration_failed($1, reply.error, CASE WHEN asked > 1 THEN 1000 END);
			CONTINUE;
		ELSIF reply.error LIKE 'auth:%' THEN
			-- every further try would count against the account
			PERFORM crm.integration_failed($1, reply.error, 3600000);
			CONTINUE;
		ELSIF reply.error LIKE 'sql:%' OR reply.error LIKE 'refused:%' THEN
			PERFORM crm.integration_failed($1, reply.error, 300000);
			CONTINUE;
		ELSIF reply.error IS NOT NULL OR reply.status <> 200 THEN
			CONTINUE; -- the courier's own back-off
		END IF;
		doc := crm.body_json(reply.body);
		IF jsonb_typeof(doc -> 'rows') IS DISTINCT FROM 'array' THEN
			PERFORM crm.reject($1, 'the reply to ' || coalesce(step, 'a question'), 'it holds no rows', NULL, reply.body);
			PERFORM crm.integration_failed($1, 'the reply holds no rows');
			CONTINUE;
		END IF;
		doc := doc -> 'rows';
		IF step = 'count' THEN
			place := crm.weighbridge_pg_count($1, doc, (reply.context #>> '{params,0}')::bigint, (reply.context #>> '{params,1}')::bigint, place);
			PERFORM crm.set_cursor($1, 'rows', place);
			PERFORM crm.poll_after($1, 0);
			CONTINUE;
		END IF;
		stored := crm.weighbridge_pg_store($1, doc);
		asked := (reply.context #>> '{params,2}')::integer;
		IF stored.number > 0 THEN
			place := place || jsonb_build_object('naive', doc #>> '{0,4}' !~ '([+-][0-9]{2}(:?[0-9]{2}){0,2}|Z)$');
		END IF;
		IF step = 'again' THEN
			IF stored.number < asked OR stored.last_key IS NULL THEN
				place := place - 'again';
				session := session - 'counted_ms';
			ELSE
				place := place || jsonb_build_object('again', jsonb_build_object('after', stored.last_key, 'to', place #> '{again,to}'));
			END IF;
			PERFORM crm.poll_after($1, 0);
		ELSE
			place := place || jsonb_build_object('key', greatest(stored.last_key, (place ->> 'key')::bigint));
			IF stored.number >= asked THEN
				PERFORM crm.poll_after($1, 0);
			END IF;
		END IF;
		PERFORM crm.set_cursor($1, 'rows', jsonb_strip_nulls(place)), crm.set_session($1, session - 'batch');
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_take(bigint, crm.reply[]) IS 'Stores what the scales'' database answered and moves the cursor in the same transaction. A refused login asks no more for an hour, an error of the statement for five minutes, a reply that is too large is asked for in smaller parts; all of it in crm.health in words. Claim 47.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_test(integration_id bigint) RETURNS SETOF crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	problem text := crm.weighbridge_pg_problem($1);
BEGIN
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = problem, HINT = 'UPDATE crm.integration SET settings = settings || ''{…}''; docs/integration/weighbridge_pg.md explains each.';
	END IF;
	RETURN NEXT crm.weighbridge_pg_ask($1, 'test', '[0, 9223372036854775807, 1]');
END
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_test(bigint) IS 'The question of crm.integration_test: the first row, which needs every right and column that reading needs. Error 22023: the settings, in words.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_judge(integration_id bigint, reply crm.reply) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN ($2).error IS NOT NULL THEN 'failed: ' || ($2).error
		WHEN ($2).status <> 200 OR jsonb_typeof(d.doc -> 'rows') IS DISTINCT FROM 'array' THEN 'failed: no rows came'
		WHEN jsonb_array_length(d.doc -> 'rows') = 0 THEN 'ok: the table is empty'
		ELSE (SELECT coalesce('failed: the first row cannot be used: ' || f.problem, format('ok: the first row is %s, %s kg, %s', f.plate, trim_scale(f.kg), f.at))
			FROM crm.weighbridge_pg_rows($1, d.doc -> 'rows') f) END
	FROM (SELECT crm.body_json(($2).body) AS doc) d
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_judge(bigint, crm.reply) IS 'What the answer to the test means, in words.';

CREATE OR REPLACE FUNCTION crm.weighbridge_pg_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', 'integration ' || i.name,
		format('%s weighings of %s could not be used, the last: %s: %s', count(*), i.name,
			(array_agg(r.what ORDER BY r.last_at DESC, r.id DESC))[1], (array_agg(r.reason ORDER BY r.last_at DESC, r.id DESC))[1]),
		format('SELECT * FROM crm.rejected WHERE integration_id = %s; has the rows. One that is mended there is read again while it is among the last keys, or when its day is counted.', min(i.id)), min(r.at)
	FROM crm.rejected r
	JOIN crm.integration i ON i.id = r.integration_id AND i.kind = 'weighbridge_pg' AND i.enabled
	WHERE r.last_at > crm.now() - interval '1 day'
		AND NOT EXISTS (SELECT FROM crm.weighing w WHERE w.source = 'scales:' || i.id AND w.source_id = substring(r.what FROM '^weighing (-?[0-9]{1,18}) of '))
	GROUP BY i.name
$$;
COMMENT ON FUNCTION crm.weighbridge_pg_health() IS 'Rows of crm.health about scales: what was rejected in the last day and not mended since.';

SELECT crm.register_kind('weighbridge_pg', 'crm.weighbridge_pg_next', 'crm.weighbridge_pg_take',
	test_function => 'crm.weighbridge_pg_test', judge_function => 'crm.weighbridge_pg_judge',
	defaults => '{"poll_ms": 10000, "max_in_flight": 1, "max_reply_bytes": 16777216, "timeout_ms": 30000, "username": "crm", "batch": 1000, "overlap": 200,
		"unit": "kg", "check_every_s": 3600, "check_days": 3}',
	description_en => 'Weighings from the scales'' own PostgreSQL database',
	description_ru => 'Взвешивания из базы PostgreSQL весовой');
SELECT crm.register_hook('health', 'weighbridge_pg', 'crm.weighbridge_pg_health');
