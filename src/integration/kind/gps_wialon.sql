-- gps_wialon: positions of vehicles from Wialon (hosted or Local) by its Remote API: login by token, the list
-- of units, a subscription, polling of events, and history for what was missed. Protocol wialon, sections 1-4, 9, 12.
--
-- One request at a time is on the way: a session has one loader of history and hands each event out once. So a
-- reply that never came back to take (a courier killed, a lost connection, half a reply) is known by the two
-- counters in the session, and what it held is read again from history. How far each unit is known, and the gap
-- that is still to be read, stand in crm.cursor and live through crash, dump and restore.
--
-- The session (crm.integration_state): sid, base (where calls go), tm (the server's time of the last reply),
-- asked and taken (requests made, replies settled), lost (sessions lost since the last good events), waits
-- (refusals for haste in a row), evts_at and units_at (crm.monotonic_ms of the last), units_from (how much of
-- the list has come), page (units asked for at once), refill (something was missed), trouble (something failed
-- since the last good events).
-- rights (the token's access), resources_at, resources_from (the list of resources).
-- The cursor zones:ID of a resource: name, dirty (to be read), seen {zone: hash of its shape}, tries, after, words.
-- The cursor leave: log out and stop; no part of the session, which next and take write as they had read it.
-- The cursor push: ms (of the last notification by HTTP), recent (their fingerprints).
-- The cursor unit:ID: name and uid there, t (time of the newest message stored), seen (of the newest known),
-- mapped, gone, gap {from, to, slice, tries, after, words}. Times are seconds since 1970, as Wialon gives them.

CREATE OR REPLACE FUNCTION crm.gps_wialon_number(value jsonb) RETURNS double precision
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE jsonb_typeof(value)
		WHEN 'number' THEN CASE WHEN length(value #>> '{}') <= 40 THEN (value #>> '{}')::double precision END
		WHEN 'string' THEN CASE WHEN value #>> '{}' ~ '^\s*[+-]?[0-9]{1,15}([.,][0-9]{1,20})?\s*$'
			THEN replace(btrim(value #>> '{}'), ',', '.')::double precision END
	END;
END;
COMMENT ON FUNCTION crm.gps_wialon_number(jsonb) IS 'A number of a reply, also where it came as text or with a decimal comma; NULL for anything else.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_meaning(code integer, reason text DEFAULT NULL) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT format('error %s, %s%s', code, coalesce(m.words, 'a code that is not documented'), coalesce(' (' || left(nullif(reason, ''), 200) || ')', ''))
	FROM (SELECT (jsonb_build_object(
		'-100', 'network time-out inside Wialon', '-101', 'wrong network response inside Wialon',
		'1', 'invalid session', '2', 'invalid service name', '3', 'invalid result', '4', 'invalid input',
		'5', 'the request could not be performed', '6', 'unknown error', '7', 'access denied',
		'8', 'invalid user name or password', '9', 'the authorisation server is not available',
		'10', 'too many requests at once', '11', 'the password was reset', '12', 'a subsystem is not loaded', '14', 'billing error',
		'1001', 'no messages in the interval', '1002', 'such an item exists', '1003', 'only one request at a time',
		'1004', 'too many messages', '1005', 'the request took too long', '1006', 'too many two-factor attempts',
		'1011', 'the address changed or the session expired') ->> code::text)) AS m(words);
END;
COMMENT ON FUNCTION crm.gps_wialon_meaning(integer, text) IS 'An error code of Wialon in words. Protocol wialon, section 1.7.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_error(reply jsonb) RETURNS integer
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN jsonb_typeof(reply) = 'object' AND reply ? 'error' THEN
		coalesce(CASE WHEN abs(crm.gps_wialon_number(reply -> 'error')) < 1e9 THEN crm.gps_wialon_number(reply -> 'error')::integer END, 6)
		ELSE 0 END;
END;
COMMENT ON FUNCTION crm.gps_wialon_error(jsonb) IS 'The error code of a reply or of one entry of a batch; 0 when there is none: Wialon answers errors with HTTP status 200.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_plate(name text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT translate(regexp_replace(name, '[[:space:]_-]+', '', 'g'),
		'abekmhopctyxABEKMHOPCTYXавекмнорстухбгдёжзийлпфцчшщъыьэюя',
		'АВЕКМНОРСТУХАВЕКМНОРСТУХАВЕКМНОРСТУХБГДЁЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯ');
END;
COMMENT ON FUNCTION crm.gps_wialon_plate(text) IS 'The name of a unit written like crm.vehicle.plate_key, so that a plate can be looked for in it.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_base(url text, base_url text, allow_hosts jsonb) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE
		WHEN base_url !~ '^https?://[^/?#@[:space:]]+/?$' OR url ~* '^https:' AND base_url !~* '^https:' THEN rtrim(url, '/')
		WHEN lower(substring(base_url FROM '^https?://([^/:]+)')) = lower(substring(url FROM '^https?://([^/:]+)'))
			OR jsonb_typeof(allow_hosts) = 'array' AND allow_hosts ? lower(substring(base_url FROM '^https?://([^/:]+)'))
		THEN rtrim(base_url, '/')
		ELSE rtrim(url, '/')
	END;
END;
COMMENT ON FUNCTION crm.gps_wialon_base(text, text, jsonb) IS 'Where calls go after login: the base_url of the login reply if it is on the integration''s own host or on one of allow_hosts and no less secure, else the integration''s address.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_call(base text, svc text, params jsonb, sid text, timeout_ms integer, context jsonb) RETURNS crm.request
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT ROW (1, 'POST', base || '/wialon/ajax.html', ARRAY['Content-Type: application/x-www-form-urlencoded'],
		convert_to('svc=' || crm.url_encode(svc) || '&params=' || crm.url_encode(params::text) || coalesce('&sid=' || crm.url_encode(sid), ''), 'UTF8'),
		NULL, NULL, timeout_ms, context)::crm.request;
END;
COMMENT ON FUNCTION crm.gps_wialon_call(text, text, jsonb, text, integer, jsonb) IS 'One call of the Remote API: everything in the body of a POST, so that no token stands in an access log. Protocol wialon, section 1.1.';

-- ---- what to ask -----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_login(integration_id bigint) RETURNS crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	address text := rtrim((SELECT i.url FROM crm.integration AS i WHERE i.id = $1), '/');
	token   text := nullif(btrim(crm.secret_value($1)), '');
BEGIN
	IF token IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN crm.gps_wialon_call(address, 'token/login',
		jsonb_strip_nulls(jsonb_build_object('token', token, 'fl', 103, 'operateAs', nullif(crm.setting_of($1, 'operate_as'), ''))),
		NULL, crm.setting_of($1, 'timeout_ms')::integer, '{"step": "login"}');
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_login(bigint) IS 'The login by the token that is the integration''s secret; NULL where there is none. Also the harmless question of crm.integration_test.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	session  jsonb := coalesce(crm.session_value($1), '{}');
	sid      text := session ->> 'sid';
	base     text := session ->> 'base';
	now_ms   bigint := crm.monotonic_ms();
	limit_ms integer := crm.setting_of($1, 'timeout_ms')::integer;
	pause    bigint := (SELECT least(greatest(coalesce(i.poll_ms, 5000), 1100), 240000) FROM crm.integration AS i WHERE i.id = $1);
	pushed   bigint;
	from_item integer := coalesce((session ->> 'units_from')::integer, 0);
	page     integer := coalesce((session ->> 'page')::integer, crm.setting_of($1, 'units_page')::integer);
	request  crm.request;
	wish     jsonb;
	due      boolean;
	gap      record;
	gap_to   double precision;
BEGIN
	IF coalesce($2, 0) < 1 THEN
		RETURN;
	END IF;
	SELECT NULL::text AS name, NULL::jsonb AS value INTO gap;

	IF EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'leave') THEN
		IF sid IS NULL THEN
			PERFORM crm.gps_wialon_left($1);
			PERFORM crm.set_session($1, NULL);
			RETURN;
		END IF;
		PERFORM crm.set_session($1, session || jsonb_build_object('asked', coalesce((session ->> 'asked')::bigint, 0) + 1));
		RETURN NEXT crm.gps_wialon_call(base, 'core/logout', '{}', sid, limit_ms, jsonb_build_object('step', 'logout', 'sid', sid));
		RETURN;
	END IF;

	IF sid IS NULL THEN
		request := crm.gps_wialon_login($1);
		IF request.method IS NULL THEN
			PERFORM crm.integration_failed($1, 'there is no token to log in with: crm.set_secret() gives one', 3600000);
			RETURN;
		END IF;
		RETURN NEXT request;
		RETURN;
	END IF;

	-- A reply that never reached take may have held events, and they are handed out once.
	IF session -> 'asked' IS DISTINCT FROM session -> 'taken' THEN
		session := session || jsonb_build_object('refill', true, 'taken', session -> 'asked');
	END IF;
	pushed := (SELECT (c.value ->> 'ms')::bigint FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'push');

	IF session ? 'refill' OR from_item > 0 OR NOT session ? 'units_at'
		OR now_ms - (session ->> 'units_at')::bigint >= 1000 * crm.setting_of($1, 'units_every_s')::bigint THEN
		wish := jsonb_build_object('svc', 'core/search_items', 'params', jsonb_build_object(
			'spec', jsonb_build_object('itemsType', 'avl_unit', 'propName', 'sys_name', 'propValueMask', '*',
				'sortType', 'sys_name', 'propType', 'property', 'or_logic', 0),
			'force', 1, 'flags', 1281, 'from', from_item, 'to', from_item + page - 1));
		IF from_item = 0 THEN
			-- subscribe before reading: what happens between the two comes as an event
			request := crm.gps_wialon_call(base, 'core/batch', jsonb_build_object('flags', 0, 'params', jsonb_build_array(
				jsonb_build_object('svc', 'core/update_data_flags', 'params', jsonb_build_object('spec', jsonb_build_array(
					jsonb_build_object('type', 'type', 'data', 'avl_unit', 'flags', 1057, 'mode', 0, 'max_items', 0)))),
				wish)), sid, limit_ms, jsonb_build_object('step', 'units', 'sid', sid, 'from', 0));
		ELSE
			request := crm.gps_wialon_call(base, wish ->> 'svc', wish -> 'params', sid, limit_ms,
				jsonb_build_object('step', 'page', 'sid', sid, 'from', from_item));
		END IF;
	ELSE
		-- a notification by HTTP means: now, but never more often than ten times in ten seconds
		due := now_ms - coalesce((session ->> 'evts_at')::bigint, 0) >= CASE WHEN pushed > (session ->> 'evts_at')::bigint THEN 1100 ELSE pause END;
		request := crm.gps_wialon_link_request($1, session);
		IF request.method IS NULL AND NOT due THEN
			request := crm.gps_wialon_zone_request($1, session);
		END IF;
		-- After something was missed the past comes before the present for a while, so that a trip is told in order.
		IF request.method IS NOT NULL THEN
			NULL;
		ELSIF NOT due OR now_ms - (session ->> 'units_at')::bigint < 1000 * crm.setting_of($1, 'history_ahead_s')::bigint THEN
			SELECT c.name, c.value -> 'gap' AS value INTO gap
			FROM crm.cursor AS c
			WHERE c.integration_id = $1 AND c.name LIKE 'unit:%' AND c.value ? 'gap'
				AND coalesce((c.value #>> '{gap,after}')::double precision, 0) <= extract(epoch FROM clock_timestamp())
			ORDER BY (c.value #>> '{gap,from}')::double precision, c.name
			LIMIT 1;
		END IF;
		IF request.method IS NOT NULL THEN
			NULL;
		ELSIF gap.name IS NOT NULL THEN
			gap_to := least((gap.value ->> 'to')::double precision,
				(gap.value ->> 'from')::double precision + coalesce((gap.value ->> 'slice')::double precision, crm.setting_of($1, 'slice_s')::double precision));
			request := crm.gps_wialon_call(base, 'messages/load_interval', jsonb_build_object(
				'itemId', substr(gap.name, 6)::bigint, 'timeFrom', floor((gap.value ->> 'from')::numeric)::bigint, 'timeTo', ceil(gap_to::numeric)::bigint,
				'flags', 1, 'flagsMask', 65281, 'loadCount', crm.setting_of($1, 'history_count')::integer), sid, limit_ms,
				jsonb_build_object('step', 'history', 'sid', sid, 'unit', substr(gap.name, 6),
					'from', floor((gap.value ->> 'from')::numeric)::bigint, 'to', ceil(gap_to::numeric)::bigint));
		ELSIF due THEN
			request := ROW (1, 'POST', base || '/avl_evts?sid=' || crm.url_encode(sid), ARRAY['Content-Type: application/x-www-form-urlencoded'],
				NULL, NULL, NULL, limit_ms, jsonb_build_object('step', 'events', 'sid', sid))::crm.request;
			session := session || jsonb_build_object('evts_at', now_ms);
		ELSE
			PERFORM crm.poll_after($1, greatest(0, coalesce((session ->> 'evts_at')::bigint, 0) + pause - now_ms)::integer);
		END IF;
	END IF;

	IF request.method IS NULL THEN
		PERFORM crm.set_session($1, session);
		RETURN;
	END IF;
	PERFORM crm.set_session($1, session || jsonb_build_object('asked', coalesce((session ->> 'asked')::bigint, 0) + 1));
	RETURN NEXT request;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_next(bigint, integer) IS 'The next request for Wialon, one at a time: login, list of units with subscription, events at the poll interval (no more often than once in 1.1 seconds, no more seldom than every four minutes, since a session dies after five), and between them slices of history where something is missing. Claims 48 to 50 and 66, protocol wialon.';

-- ---- what came -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_fixes(events jsonb)
	RETURNS TABLE (number bigint, unit text, verdict text, t double precision, lon double precision, lat double precision,
		speed double precision, course double precision, satellites integer, event jsonb)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT e.number, e.unit,
		CASE
			WHEN jsonb_typeof(e.event) <> 'object' THEN 'the event is no object'
			WHEN e.event ->> 't' IS DISTINCT FROM 'm' THEN 'other'
			WHEN e.unit IS NULL THEN 'the event names no unit'
			WHEN e.unit !~ '^[1-9][0-9]{0,17}$' THEN 'other'
			WHEN jsonb_typeof(e.message) IS DISTINCT FROM 'object' THEN 'the message is no object'
			WHEN coalesce(e.message ->> 'tp', 'ud') NOT IN ('ud', 'udp') THEN 'other'
			WHEN e.t IS NULL OR e.t <= 0 OR e.t >= 4102444800 THEN 'the message has no time that can be read'
			WHEN e.pos IS NULL OR e.pos IN ('null', 'false', '{}', '[]') THEN 'no position'
			WHEN jsonb_typeof(e.pos) <> 'object' THEN 'the position is no object'
			WHEN crm.gps_wialon_number(e.pos -> 'x') IS NULL OR crm.gps_wialon_number(e.pos -> 'y') IS NULL THEN 'the position has no coordinates that can be read'
			ELSE 'fix'
		END,
		e.t, crm.gps_wialon_number(e.pos -> 'x'), crm.gps_wialon_number(e.pos -> 'y'),
		crm.gps_wialon_number(e.pos -> 's'), crm.gps_wialon_number(e.pos -> 'c'),
		CASE WHEN crm.gps_wialon_number(e.pos -> 'sc') BETWEEN 0 AND 254 THEN crm.gps_wialon_number(e.pos -> 'sc')::integer END, e.event
	FROM (
		SELECT a.number, a.event, a.event ->> 'i' AS unit, m.message, crm.gps_wialon_number(m.message -> 't') AS t,
			CASE WHEN m.message ->> 'tp' = 'udp' AND m.message ? 'x' THEN m.message ELSE m.message -> 'pos' END AS pos
		FROM jsonb_array_elements(CASE jsonb_typeof(events) WHEN 'array' THEN events ELSE '[]' END) WITH ORDINALITY AS a(event, number)
		CROSS JOIN LATERAL (SELECT CASE jsonb_typeof(a.event -> 'd') WHEN 'object' THEN a.event -> 'd' END) AS m(message)
	) AS e;
END;
COMMENT ON FUNCTION crm.gps_wialon_fixes(jsonb) IS 'The events of a reply as rows. verdict: fix; no position (a message without one); other (no data message); or why it cannot be read. x is longitude, y latitude; the time of a position is its message''s. Protocol wialon, sections 3.1, 4.3 and 9.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_store(integration_id bigint, what text, events jsonb, tm double precision, moves_cursor boolean) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	r      record;
	number integer := 0;
	bad    record;
BEGIN
	PERFORM crm.assert_own_integration($1);
	SELECT
		array_agg(v.id ORDER BY f.t) FILTER (WHERE f.good) AS vehicles,
		array_agg(to_timestamp(f.t) ORDER BY f.t) FILTER (WHERE f.good) AS moments,
		array_agg(f.lon ORDER BY f.t) FILTER (WHERE f.good) AS lons,
		array_agg(f.lat ORDER BY f.t) FILTER (WHERE f.good) AS lats,
		array_agg(f.speed ORDER BY f.t) FILTER (WHERE f.good) AS speeds,
		array_agg(f.course ORDER BY f.t) FILTER (WHERE f.good) AS courses,
		array_agg(f.satellites ORDER BY f.t) FILTER (WHERE f.good) AS satellites,
		array_agg(f.unit) FILTER (WHERE f.verdict IN ('fix', 'no position')) AS units,
		array_agg(f.t) FILTER (WHERE f.verdict IN ('fix', 'no position')) AS times,
		array_agg(v.id IS NOT NULL) FILTER (WHERE f.verdict IN ('fix', 'no position')) AS mapped,
		count(*) FILTER (WHERE f.verdict NOT IN ('fix', 'no position', 'other')) AS unreadable
	INTO r
	FROM (SELECT x.*, x.verdict = 'fix' AND u.id IS NOT NULL AS good, u.id AS vehicle
		FROM crm.gps_wialon_fixes($3) AS x
		LEFT JOIN LATERAL (SELECT y.id FROM crm.vehicle AS y WHERE y.gps_integration_id = $1 AND y.gps_unit = x.unit OFFSET 0) AS u ON true) AS f
	LEFT JOIN LATERAL (SELECT f.vehicle AS id) AS v ON true;

	IF r.vehicles IS NOT NULL THEN
		PERFORM crm.put_positions(r.vehicles, r.moments, r.lons, r.lats, r.speeds, r.courses, r.satellites);
	END IF;

	IF $5 AND r.units IS NOT NULL THEN
		-- a tracker whose clock is ahead must not carry the cursor past what is still to come
		INSERT INTO crm.cursor AS c (integration_id, name, value)
		SELECT $1, 'unit:' || u.unit,
			jsonb_build_object('seen', max(u.t)) || CASE WHEN bool_or(u.mapped) THEN jsonb_build_object('t', max(u.t), 'mapped', true)
				ELSE jsonb_build_object('t', $4, 'mapped', false) END
		FROM unnest(r.units, r.times, r.mapped) AS u(unit, t, mapped)
		WHERE u.t <= $4 + 600
		GROUP BY u.unit
		ON CONFLICT (integration_id, name) DO UPDATE SET
			value = c.value || jsonb_build_object('seen', greatest((c.value ->> 'seen')::double precision, (EXCLUDED.value ->> 'seen')::double precision))
				|| CASE WHEN (EXCLUDED.value ->> 'mapped')::boolean AND (c.value ->> 'mapped')::boolean
					THEN jsonb_build_object('t', greatest((c.value ->> 't')::double precision, (EXCLUDED.value ->> 't')::double precision)) ELSE '{}' END,
			changed_at = crm.now()
		WHERE (EXCLUDED.value ->> 'mapped')::boolean;
	END IF;

	IF r.unreadable > 0 THEN
		FOR bad IN
			SELECT f.unit, f.verdict, f.event FROM crm.gps_wialon_fixes($3) AS f
			WHERE f.verdict NOT IN ('fix', 'no position', 'other') ORDER BY f.number LIMIT 100
		LOOP
			PERFORM crm.reject($1, $2 || coalesce(', unit ' || bad.unit, ''), bad.verdict, NULL, convert_to(bad.event::text, 'UTF8'));
		END LOOP;
		IF r.unreadable > 100 THEN
			PERFORM crm.reject($1, $2, format('%s more of the same reply could not be read', r.unreadable - 100));
		END IF;
	END IF;
	RETURN r.unreadable;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_store(bigint, text, jsonb, double precision, boolean) IS 'Stores the events of a reply: fixes of mapped units through crm.put_positions in one set, cursors forward (never to a time ahead of the server''s by more than ten minutes), what cannot be read into crm.rejected one by one. Returns how many could not be read.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_units(integration_id bigint, items jsonb, tm double precision, refill boolean) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	back  double precision := crm.setting_of($1, 'history_back_s')::double precision;
	first double precision := crm.setting_of($1, 'history_first_s')::double precision;
	most  double precision := crm.setting_of($1, 'history_max_s')::double precision;
	places jsonb;
BEGIN
	PERFORM crm.assert_own_integration($1);

	-- A vehicle that names no tracker gets the unit in whose name its plate stands, if there is just one of each.
	IF crm.setting_of($1, 'map_by_plate')::boolean THEN
		WITH unit AS (
			SELECT e.item ->> 'id' AS id, crm.gps_wialon_plate(e.item ->> 'nm') AS name
			FROM jsonb_array_elements($2) AS e(item)
			WHERE e.item ->> 'id' ~ '^[1-9][0-9]{0,17}$' AND jsonb_typeof(e.item -> 'nm') = 'string'
				AND NOT EXISTS (SELECT FROM crm.vehicle AS v WHERE v.gps_integration_id = $1 AND v.gps_unit = e.item ->> 'id' OFFSET 0)
		), pair AS (
			SELECT v.id AS vehicle, u.id AS unit, count(*) OVER (PARTITION BY v.id) AS units, count(*) OVER (PARTITION BY u.id) AS vehicles
			FROM unit AS u
			JOIN crm.vehicle AS v ON v.gps_unit IS NULL AND v.archived_at IS NULL AND coalesce(v.gps_integration_id, $1) = $1
				AND length(v.plate_key) >= 5 AND strpos(u.name, v.plate_key) > 0
		)
		UPDATE crm.vehicle AS v SET gps_integration_id = $1, gps_unit = p.unit
		FROM pair AS p
		WHERE v.id = p.vehicle AND p.units = 1 AND p.vehicles = 1;
	END IF;

	-- A unit whose name holds no plate that is known here becomes a vehicle, where the setting wants it.
	IF crm.setting_of($1, 'import_units')::boolean THEN
		INSERT INTO crm.vehicle (plate, gps_integration_id, gps_unit, source, source_id)
		SELECT DISTINCT ON (crm.gps_wialon_plate(x.name)) x.name, $1, x.id, 'wialon', $1 || ':' || x.id
		FROM (SELECT e.item ->> 'id' AS id, left(btrim(regexp_replace(e.item ->> 'nm', '[[:cntrl:]]+', ' ', 'g')), 40) AS name
			FROM jsonb_array_elements($2) AS e(item)
			WHERE e.item ->> 'id' ~ '^[1-9][0-9]{0,17}$' AND jsonb_typeof(e.item -> 'nm') = 'string') AS x
		WHERE x.name ~ '[^[:space:]_-]'
			AND NOT EXISTS (SELECT FROM crm.vehicle AS v WHERE v.gps_integration_id = $1 AND v.gps_unit = x.id OFFSET 0)
			AND NOT EXISTS (SELECT FROM crm.vehicle AS v WHERE length(v.plate_key) >= 5 AND strpos(crm.gps_wialon_plate(x.name), v.plate_key) > 0)
		ORDER BY crm.gps_wialon_plate(x.name), x.id
		ON CONFLICT DO NOTHING;
	END IF;

	-- What is the last position worth: only what is newer than the unit's cursor, which is read before it moves.
	SELECT jsonb_agg(jsonb_build_object('i', e.item -> 'id', 't', 'm', 'd', jsonb_build_object('t', e.item #> '{pos,t}', 'pos', e.item -> 'pos'))) INTO places
	FROM jsonb_array_elements($2) AS e(item)
	LEFT JOIN LATERAL (SELECT y.value FROM crm.cursor AS y WHERE y.integration_id = $1 AND y.name = 'unit:' || (e.item ->> 'id') OFFSET 0) AS c ON true
	WHERE jsonb_typeof(e.item -> 'pos') = 'object'
		AND crm.gps_wialon_number(e.item #> '{pos,t}') > coalesce((c.value ->> 't')::double precision, $3 - most);

	INSERT INTO crm.cursor AS c (integration_id, name, value)
	SELECT $1, 'unit:' || u.id,
		jsonb_strip_nulls(jsonb_build_object('name', left(u.name, 200), 'uid', left(u.uid, 100), 'mapped', u.mapped, 't', $3, 'seen', u.seen))
			|| CASE WHEN u.mapped AND first > 0 THEN jsonb_build_object('gap', jsonb_build_object('from', $3 - first, 'to', $3 + 1)) ELSE '{}' END
	FROM (
		SELECT DISTINCT ON (1) e.item ->> 'id' AS id, e.item ->> 'nm' AS name, e.item ->> 'uid' AS uid,
			EXISTS (SELECT FROM crm.vehicle AS v WHERE v.gps_integration_id = $1 AND v.gps_unit = e.item ->> 'id' OFFSET 0) AS mapped,
			greatest(crm.gps_wialon_number(e.item #> '{lmsg,t}'), crm.gps_wialon_number(e.item #> '{pos,t}')) AS seen
		FROM jsonb_array_elements($2) AS e(item)
		WHERE jsonb_typeof(e.item) = 'object' AND e.item ->> 'id' ~ '^[1-9][0-9]{0,17}$'
	) AS u
	ON CONFLICT (integration_id, name) DO UPDATE SET
		value = (c.value - ARRAY['gone', 'name', 'uid']) || (EXCLUDED.value - ARRAY['t', 'gap'])
			-- missed while nobody listened, or never read because no vehicle was known: from the last stored on
			|| CASE WHEN (EXCLUDED.value ->> 'mapped')::boolean
					AND (NOT coalesce((c.value ->> 'mapped')::boolean, false)
						OR $4 AND (c.value ? 'gap' OR (EXCLUDED.value ->> 'seen')::double precision > (c.value ->> 't')::double precision))
				THEN jsonb_build_object('gap', jsonb_build_object(
					'from', greatest($3 - most, least((c.value #>> '{gap,from}')::double precision, (c.value ->> 't')::double precision - 1 - back)),
					'to', $3 + 1))
				ELSE '{}' END,
		changed_at = crm.now();

	-- a place within a gap comes with its history, in order
	SELECT jsonb_agg(e.event) INTO places
	FROM jsonb_array_elements(places) AS e(event)
	LEFT JOIN LATERAL (SELECT y.name, y.value FROM crm.cursor AS y WHERE y.integration_id = $1 AND y.name = 'unit:' || (e.event ->> 'i')
		AND y.value ? 'gap' AND NOT y.value -> 'gap' ? 'tries' OFFSET 0) AS c ON true
	WHERE c.name IS NULL OR crm.gps_wialon_number(e.event #> '{d,t}') < (c.value #>> '{gap,from}')::double precision;
	PERFORM crm.gps_wialon_store($1, 'the list of units', places, $3, true);

	PERFORM crm.reject($1, 'the list of units', 'a unit without an id that can be read', NULL, convert_to(e.item::text, 'UTF8'))
	FROM jsonb_array_elements($2) AS e(item)
	WHERE jsonb_typeof(e.item) <> 'object' OR e.item ->> 'id' IS NULL OR e.item ->> 'id' !~ '^[1-9][0-9]{0,17}$'
	LIMIT 100;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_units(bigint, jsonb, double precision, boolean) IS 'Takes a part of the list of units: finds their vehicles (by crm.vehicle.gps_unit, else by the plate in the unit''s name), remembers every unit, known or not, stores last positions, and notes which history is to be read: of units seen for the first time, of units that have just got a vehicle, and, with refill, of units that sent something while nobody listened.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_gap(integration_id bigint, unit text, change jsonb) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm.assert_own_integration($1);
	UPDATE crm.cursor AS c SET
		value = CASE WHEN $3 IS NULL THEN c.value - 'gap'
			ELSE c.value || jsonb_build_object('gap', jsonb_strip_nulls(coalesce(c.value -> 'gap', '{}') || $3)) END,
		changed_at = crm.now()
	WHERE c.integration_id = $1 AND c.name = 'unit:' || $2;
END;
COMMENT ON FUNCTION crm.gps_wialon_gap(bigint, text, jsonb) IS 'Changes what is still to be read of a unit''s history; NULL: nothing.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_history(integration_id bigint, unit text, from_t double precision, to_t double precision, messages jsonb, tm double precision) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	events jsonb := (SELECT jsonb_agg(jsonb_build_object('i', $2, 't', 'm', 'd', m.message)) FROM jsonb_array_elements($5) AS m(message));
	vehicle bigint := (SELECT v.id FROM crm.vehicle AS v WHERE v.gps_integration_id = $1 AND v.gps_unit = $2);
	theirs bigint;
	usable bigint;
	ours   bigint;
	gap    jsonb;
BEGIN
	PERFORM crm.gps_wialon_store($1, 'the history', events, $6, false);

	SELECT count(*), count(*) FILTER (WHERE x.usable),
		count(*) FILTER (WHERE x.usable AND EXISTS (SELECT FROM crm.vehicle_position AS p WHERE p.vehicle_id = vehicle AND p.at = to_timestamp(x.t) OFFSET 0))
	INTO theirs, usable, ours
	FROM (
		SELECT f.t, bool_or(f.verdict = 'fix' AND abs(f.lon) <= 180 AND abs(f.lat) <= 90 AND NOT (f.lon = 0 AND f.lat = 0) AND f.t <= $6 + 600) AS usable
		FROM crm.gps_wialon_fixes(events) AS f
		WHERE f.verdict NOT IN ('no position', 'other') AND f.t IS NOT NULL
		GROUP BY f.t
	) AS x;
	IF theirs > 0 AND vehicle IS NOT NULL THEN
		PERFORM crm.record_completeness($1, tstzrange(to_timestamp($3), to_timestamp($4), '[]'), theirs, ours, theirs - usable, 'unit ' || $2);
	END IF;

	gap := (SELECT c.value -> 'gap' FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'unit:' || $2);
	PERFORM crm.gps_wialon_gap($1, $2, CASE WHEN (gap ->> 'to')::double precision > $4
		THEN jsonb_build_object('from', $4, 'tries', NULL, 'after', NULL, 'words', NULL) END);
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_history(bigint, text, double precision, double precision, jsonb, double precision) IS 'Stores one slice of a unit''s history, counts it in crm.completeness (moments there = positions here + unusable ones) and moves the gap on. Both ends of a slice are read twice, duplicates are dropped.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_take(integration_id bigint, replies crm.reply[]) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	session jsonb := coalesce(crm.session_value($1), '{}');
	now_ms  bigint := crm.monotonic_ms();
	pause   bigint := (SELECT least(greatest(coalesce(i.poll_ms, 5000), 1100), 240000) FROM crm.integration AS i WHERE i.id = $1);
	reply   crm.reply;
	step    text;
	what    text;
	body    jsonb;
	part    jsonb;
	code    integer;
	tm      double precision;
	state   text;
	words   text;
	trouble text;           -- for crm.health; with it comes a pause
	hold_ms bigint;
	lost    boolean;
	missed  boolean;
	narrow  boolean;
	waiting boolean;
	aside   boolean;
	total   integer;
	got     integer;
BEGIN
	FOREACH reply IN ARRAY $2 LOOP
		step := reply.context ->> 'step';
		IF step <> 'login' THEN
			CONTINUE WHEN reply.context ->> 'sid' IS DISTINCT FROM session ->> 'sid';
			session := session || jsonb_build_object('taken', coalesce((session ->> 'taken')::bigint, 0) + 1);
		END IF;
		what := CASE step WHEN 'login' THEN 'the login' WHEN 'events' THEN 'the events' WHEN 'logout' THEN 'the logout'
			WHEN 'resources' THEN 'the list of resources' WHEN 'zones' THEN 'the zones of resource ' || (reply.context ->> 'resource')
			WHEN 'link' THEN 'the locator link of trip ' || (reply.context ->> 'trip')
			WHEN 'history' THEN 'the history of unit ' || (reply.context ->> 'unit') ELSE 'the list of units' END;
		body := NULL;
		code := 0;
		lost := false;
		missed := false;    -- events may be gone with this reply
		narrow := false;    -- it was more than can be had at once
		waiting := false;
		aside := step IN ('history', 'resources', 'zones', 'link', 'logout');    -- no events are lost with it, the rest goes on without

		-- bytes to JSON
		IF reply.error IS NOT NULL THEN
			narrow := reply.error LIKE 'too large:%' AND step <> 'login';
			missed := NOT aside;
			trouble := format('%s did not come whole: %s', what, reply.error);
		ELSIF reply.status <> 200 THEN
			missed := NOT aside;
			trouble := format('%s: Wialon answered with status %s', what, reply.status);
		ELSE
			BEGIN
				words := convert_from(reply.body, 'UTF8');
				IF strpos(words, '\u0000') > 0 THEN
					words := replace(words, '\u0000', '');
				END IF;
				body := words::jsonb;
			EXCEPTION WHEN others THEN
				GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
				PERFORM crm.reject($1, 'the reply with ' || what, 'it is no JSON: ' || words, state, reply.body);
				missed := NOT aside;
				trouble := format('%s came in a reply that is no JSON (%s bytes); crm.rejected has it', what, coalesce(octet_length(reply.body), 0));
			END;
			code := crm.gps_wialon_error(body);
			words := crm.gps_wialon_meaning(code, body ->> 'reason');
		END IF;

		IF body IS NULL THEN
			NULL;
		ELSIF step = 'login' THEN
			IF body ->> 'eid' ~ '^[0-9A-Za-z_-]{8,128}$' THEN
				tm := crm.gps_wialon_number(body -> 'tm');
				session := jsonb_build_object('trouble', session -> 'trouble', 'sid', body ->> 'eid', 'tm', coalesce(tm, extract(epoch FROM crm.clock())::double precision), 'asked', 0, 'taken', 0, 'refill', true,
					'lost', coalesce((session ->> 'lost')::integer, 0), 'page', session -> 'page',
				'rights', crm.gps_wialon_rights(body),
					'base', (SELECT crm.gps_wialon_base(i.url, body ->> 'base_url', i.settings -> 'allow_hosts') FROM crm.integration AS i WHERE i.id = $1));
			ELSIF code IN (4, 7, 8) THEN
				trouble := format('Wialon refuses the token: %s. Nothing more is asked for an hour. Make a token with access 768 and no end, give it by crm.set_secret(), then crm.integration_retry()', words);
				hold_ms := 3600000;
			ELSIF code <> 0 THEN
				trouble := 'the login failed: ' || words;
				hold_ms := CASE WHEN code IN (9, 10, 1003) THEN 60000 END;
			ELSE
				PERFORM crm.reject($1, 'the reply with the login', 'it names no session', NULL, reply.body);
				trouble := 'the reply to the login names no session; crm.rejected has it';
			END IF;
		ELSIF step = 'logout' THEN
			PERFORM crm.gps_wialon_left($1);
			session := '{}';
		ELSIF code IN (1, 1011) OR code IN (4, 6, 8) AND NOT aside THEN
			lost := true;
		ELSIF code = 1003 AND coalesce(body ->> 'reason', '') !~* 'gzip' THEN
			waiting := true;
		ELSIF step = 'history' THEN
			IF code IN (1001, 2) THEN
				PERFORM crm.gps_wialon_history($1, reply.context ->> 'unit', (reply.context ->> 'from')::double precision, (reply.context ->> 'to')::double precision,
					'[]', (session ->> 'tm')::double precision);
			ELSIF code IN (1004, 1005) THEN
				narrow := true;
				trouble := format('%s: %s', what, words);
			ELSIF code <> 0 THEN
				trouble := format('%s cannot be read: %s', what, words);
			ELSIF jsonb_typeof(body -> 'messages') IS DISTINCT FROM 'array' THEN
				PERFORM crm.reject($1, 'the reply with ' || what, 'it holds no list of messages', NULL, reply.body);
				trouble := what || ' came in a shape that is not known; crm.rejected has it';
			ELSIF crm.gps_wialon_number(body -> 'count') > jsonb_array_length(body -> 'messages') THEN
				narrow := true;
				trouble := format('%s: %s messages in one moment', what, body ->> 'count');
			ELSE
				PERFORM crm.gps_wialon_history($1, reply.context ->> 'unit', (reply.context ->> 'from')::double precision, (reply.context ->> 'to')::double precision,
					body -> 'messages', (session ->> 'tm')::double precision);
			END IF;
		ELSIF step = 'resources' THEN
			session := crm.gps_wialon_resources_take($1, session, (reply.context ->> 'from')::integer, body, now_ms);
		ELSIF step = 'zones' THEN
			PERFORM crm.gps_wialon_zones($1, reply.context ->> 'resource', body, reply.body);
		ELSIF step = 'link' THEN
			PERFORM crm.gps_wialon_link_take($1, reply, body);
		ELSIF step = 'events' THEN
			IF code <> 0 THEN
				trouble := 'the events cannot be read: ' || words;
			ELSIF jsonb_typeof(body) IS DISTINCT FROM 'object' OR jsonb_typeof(coalesce(body -> 'events', '[]')) <> 'array' AND body -> 'events' <> '{}' THEN
				PERFORM crm.reject($1, 'the reply with the events', 'it is no object with a list of events', NULL, reply.body);
				missed := true;
				trouble := 'the events came in a shape that is not known; crm.rejected has it';
			ELSE
				tm := coalesce(crm.gps_wialon_number(body -> 'tm'), (session ->> 'tm')::double precision);
				PERFORM crm.gps_wialon_store($1, 'an event', body -> 'events', tm, true);
				UPDATE crm.cursor AS c SET
					value = c.value || CASE e.event ->> 't' WHEN 'd' THEN '{"gone": true}' ELSE jsonb_build_object('name', left(e.event #>> '{d,nm}', 200)) END,
					changed_at = crm.now()
				FROM jsonb_array_elements(CASE jsonb_typeof(body -> 'events') WHEN 'array' THEN body -> 'events' ELSE '[]' END) AS e(event)
				WHERE c.integration_id = $1 AND c.name = 'unit:' || (e.event ->> 'i')
					AND (e.event ->> 't' = 'd' OR e.event ->> 't' = 'u' AND jsonb_typeof(e.event #> '{d,nm}') = 'string');
				PERFORM crm.gps_wialon_zones_touched($1, body -> 'events');
				session := session - 'trouble' || jsonb_build_object('tm', tm, 'lost', 0, 'waits', 0);
			END IF;
		ELSE
			-- the list of units, after the subscription where both came in a batch
			part := body;
			IF step = 'units' THEN
				IF code <> 0 OR jsonb_typeof(body) <> 'array' OR jsonb_array_length(body) < 2 THEN
					part := NULL;
				ELSE
					FOR part IN SELECT e.entry FROM jsonb_array_elements(body) WITH ORDINALITY AS e(entry, number) WHERE e.number <= 2 ORDER BY e.number LOOP
						code := crm.gps_wialon_error(part);
						EXIT WHEN code <> 0;
					END LOOP;
				END IF;
			END IF;
			words := crm.gps_wialon_meaning(code, coalesce(part, body) ->> 'reason');
			IF code IN (1, 1011, 4, 6, 8) THEN
				lost := true;
			ELSIF code = 1003 THEN
				waiting := true;
			ELSIF code <> 0 THEN
				trouble := format('the list of units cannot be read: %s%s', words, CASE WHEN code = 7 THEN '. The token needs access 768' ELSE '' END);
				hold_ms := CASE WHEN code = 7 THEN 300000 END;
			ELSIF jsonb_typeof(part -> 'items') IS DISTINCT FROM 'array' THEN
				PERFORM crm.reject($1, 'the reply with the list of units', 'it holds no list of items', NULL, reply.body);
				trouble := 'the list of units came in a shape that is not known; crm.rejected has it';
			ELSE
				PERFORM crm.gps_wialon_units($1, part -> 'items', (session ->> 'tm')::double precision, session ? 'refill');
				got := (reply.context ->> 'from')::integer + jsonb_array_length(part -> 'items');
				total := coalesce(least(crm.gps_wialon_number(part -> 'totalItemsCount'), 1000000), 0)::integer;
				IF got < total AND jsonb_array_length(part -> 'items') > 0 THEN
					session := session || jsonb_build_object('units_from', got);
				ELSE
					session := session - ARRAY['units_from', 'refill'] || jsonb_build_object('units_at', now_ms);
				END IF;
			END IF;
		END IF;

		-- what follows from it
		IF missed AND step <> 'login' THEN
			session := session - 'units_from' || '{"refill": true}';
		END IF;
		IF narrow AND step = 'history' THEN
			IF (reply.context ->> 'to')::double precision - (reply.context ->> 'from')::double precision > 1 THEN
				PERFORM crm.gps_wialon_gap($1, reply.context ->> 'unit', jsonb_build_object('slice',
					greatest(1, floor(((reply.context ->> 'to')::double precision - (reply.context ->> 'from')::double precision) / 2))));
				trouble := NULL;
			END IF;
		ELSIF narrow AND step IN ('units', 'page') THEN
			session := session || jsonb_build_object('page', greatest(1, coalesce((session ->> 'page')::integer, crm.setting_of($1, 'units_page')::integer) / 4));
		END IF;
		IF step = 'history' AND trouble IS NOT NULL THEN
			-- this unit waits, the others and the events go on
			part := (SELECT c.value -> 'gap' FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'unit:' || (reply.context ->> 'unit'));
			got := coalesce((part ->> 'tries')::integer, 0) + 1;
			PERFORM crm.gps_wialon_gap($1, reply.context ->> 'unit', jsonb_build_object('tries', got, 'words', left(trouble, 500),
				'after', extract(epoch FROM clock_timestamp()) + least(3600, 5 * power(2, least(got, 12)))));
			IF reply.error IS NULL AND reply.status = 200 THEN
				trouble := NULL;
			END IF;
		ELSIF aside AND trouble IS NOT NULL THEN
			CASE step WHEN 'zones' THEN PERFORM crm.gps_wialon_zones_wait($1, reply.context ->> 'resource', trouble);
				WHEN 'link' THEN PERFORM crm.gps_wialon_link_wait($1, (reply.context ->> 'link')::bigint, trouble);
				WHEN 'resources' THEN session := session || jsonb_build_object('resources_at', now_ms, 'resources_from', NULL);
				WHEN 'logout' THEN
					PERFORM crm.gps_wialon_left($1);
					session := '{}';
				ELSE NULL; END CASE;
			IF reply.error IS NULL AND reply.status = 200 THEN
				trouble := NULL;
			END IF;
		ELSIF step = 'link' AND (lost OR waiting) THEN
			PERFORM crm.gps_wialon_link_wait($1, (reply.context ->> 'link')::bigint, NULL);
		END IF;
		IF lost THEN
			got := coalesce((session ->> 'lost')::integer, 0) + 1;
			session := jsonb_build_object('lost', got, 'page', session -> 'page', 'trouble', session -> 'trouble');
			IF got >= 2 THEN
				trouble := format('the session was lost %s times without one good reply between: %s', got, words);
			END IF;
		ELSIF waiting THEN
			got := coalesce((session ->> 'waits')::integer, 0) + 1;
			session := session || jsonb_build_object('waits', got);
			IF got >= 4 THEN
				trouble := format('Wialon asks for patience again and again: %s', words);
			ELSE
				hold_ms := 1000 * got + floor(random() * 1000)::bigint;
			END IF;
		END IF;
	END LOOP;

	IF trouble IS NOT NULL THEN
		session := session || '{"trouble": true}';
		PERFORM crm.integration_failed($1, trouble, hold_ms);
	ELSIF session ? 'trouble' THEN
		-- over only when events come: a good list or login between two failures must not shorten the pause
		UPDATE crm.integration_state AS s SET judged = true WHERE s.integration_id = $1;
	END IF;
	session := jsonb_strip_nulls(session);
	PERFORM crm.set_session($1, session);
	PERFORM crm.poll_after($1, (CASE
		WHEN trouble IS NULL AND hold_ms IS NOT NULL THEN hold_ms
		WHEN NOT session ? 'sid' OR session ? 'refill' OR session ? 'units_from'
			OR EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'leave')
			OR crm.gps_wialon_link_due($1) OR crm.gps_wialon_zones_due($1, session)
			OR (SELECT (c.value ->> 'ms')::bigint FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'push') > (session ->> 'evts_at')::bigint
			OR EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name LIKE 'unit:%' AND c.value ? 'gap'
				AND coalesce((c.value #>> '{gap,after}')::double precision, 0) <= extract(epoch FROM clock_timestamp())) THEN 0
		ELSE greatest(0, coalesce((session ->> 'evts_at')::bigint, 0) + pause - now_ms) END)::integer);
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_take(bigint, crm.reply[]) IS 'What Wialon''s replies mean: HTTP status first, then JSON, then the error inside it. Errors 1 and 1011 (and 4, 6, 8 outside of history) mean a lost session: a new login at once, and at the second loss in a row a row in crm.health and a growing pause. A refused token asks nothing more for an hour. 1003 waits. What cannot be read goes to crm.rejected with its bytes and the rest goes on. Protocol wialon, sections 1.7, 3.1, 4, 9 and 12.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_test(integration_id bigint) RETURNS SETOF crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	request crm.request := crm.gps_wialon_login($1);
BEGIN
	IF request.method IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'there is no token to log in with',
			HINT = 'SELECT crm.set_secret(NAME, ''file:/etc/crm/wialon.token'');';
	END IF;
	RETURN NEXT request;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_test(bigint) IS 'One login, for crm.integration_test; its session dies of itself after five minutes. Error 22023 without a token.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_judge(integration_id bigint, reply crm.reply) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	body jsonb;
BEGIN
	IF ($2).error IS NOT NULL THEN
		RETURN 'failed: ' || ($2).error;
	ELSIF ($2).status <> 200 THEN
		RETURN format('failed: status %s', ($2).status);
	END IF;
	BEGIN
		body := convert_from(($2).body, 'UTF8')::jsonb;
	EXCEPTION WHEN others THEN
		RETURN 'failed: the reply is no JSON; is this the address of a Wialon API?';
	END;
	RETURN CASE WHEN body ? 'eid' THEN format('ok: logged in as %s', coalesce(body #>> '{user,nm}', body ->> 'au', 'a user without a name'))
		ELSE 'failed: ' || crm.gps_wialon_meaning(crm.gps_wialon_error(body), body ->> 'reason') END;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_judge(bigint, crm.reply) IS 'What the reply to the test login means, in words.';

-- ---- for people ------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW crm.gps_wialon_unit AS
	SELECT i.name AS integration, substr(c.name, 6) AS unit, c.value ->> 'name' AS name, c.value ->> 'uid' AS uid,
		v.id AS vehicle_id, v.plate,
		to_timestamp((c.value ->> 'seen')::double precision) AS last_message_at,
		coalesce((c.value ->> 'gone')::boolean, false) AS gone,
		to_timestamp((c.value #>> '{gap,from}')::double precision) AS missing_from,
		to_timestamp((c.value #>> '{gap,to}')::double precision) AS missing_to,
		c.value #>> '{gap,words}' AS problem
	FROM crm.cursor AS c
	JOIN crm.integration AS i ON i.id = c.integration_id AND i.kind = 'gps_wialon'
	LEFT JOIN crm.vehicle AS v ON v.gps_integration_id = i.id AND v.gps_unit = substr(c.name, 6)
	WHERE c.name LIKE 'unit:%';
COMMENT ON VIEW crm.gps_wialon_unit IS 'Every unit that the token of a Wialon integration can see, with its vehicle where there is one. A unit without a vehicle is listed here and its positions are not stored; once it has one, history is read back to the moment the unit was first seen.';
COMMENT ON COLUMN crm.gps_wialon_unit.integration IS 'crm.integration.name';
COMMENT ON COLUMN crm.gps_wialon_unit.unit IS 'Id of the unit in Wialon: what crm.vehicle.gps_unit holds';
COMMENT ON COLUMN crm.gps_wialon_unit.name IS 'Its name there';
COMMENT ON COLUMN crm.gps_wialon_unit.uid IS 'Unique id of the tracker, mostly its IMEI; NULL where the token may not see it';
COMMENT ON COLUMN crm.gps_wialon_unit.vehicle_id IS 'crm.vehicle.id; NULL: no vehicle is known for it';
COMMENT ON COLUMN crm.gps_wialon_unit.plate IS 'crm.vehicle.plate';
COMMENT ON COLUMN crm.gps_wialon_unit.last_message_at IS 'Time of the newest message known, of any kind';
COMMENT ON COLUMN crm.gps_wialon_unit.gone IS 'True: deleted there, or no longer visible to the token';
COMMENT ON COLUMN crm.gps_wialon_unit.missing_from IS 'From when on history is still to be read; NULL: nothing is missing';
COMMENT ON COLUMN crm.gps_wialon_unit.missing_to IS 'Until when';
COMMENT ON COLUMN crm.gps_wialon_unit.problem IS 'Why it could not be read so far; it is tried again by itself';

CREATE OR REPLACE FUNCTION crm.gps_wialon_reread(integration text, from_at timestamptz, to_at timestamptz, unit text DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	target bigint := (SELECT i.id FROM crm.integration AS i WHERE i.name = $1 AND i.kind = 'gps_wialon');
	number integer;
BEGIN
	IF target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no Wialon integration is named %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'SELECT name FROM crm.integration WHERE kind = ''gps_wialon''; lists them.';
	END IF;
	IF $2 IS NULL OR $3 IS NULL OR NOT isfinite($2) OR NOT isfinite($3) OR $2 >= $3 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no history from %s to %s', coalesce($2::text, 'NULL'), coalesce($3::text, 'NULL')),
			HINT = 'Give the earlier moment first.';
	END IF;
	UPDATE crm.cursor AS c SET value = c.value || jsonb_build_object('gap', jsonb_build_object(
		'from', least((c.value #>> '{gap,from}')::double precision, extract(epoch FROM $2)::double precision),
		'to', greatest((c.value #>> '{gap,to}')::double precision, extract(epoch FROM $3)::double precision))), changed_at = crm.now()
	FROM crm.vehicle AS v
	WHERE c.integration_id = target AND v.gps_integration_id = target AND c.name = 'unit:' || v.gps_unit AND v.gps_unit = coalesce($4, v.gps_unit);
	GET DIAGNOSTICS number = ROW_COUNT;
	PERFORM crm.poll_after(target, 0);
	RETURN number;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_reread(text, timestamptz, timestamptz, text) IS 'Has the history of all units with a vehicle, or of one, read again for a span; what is here already is not stored twice. The counts stand in crm.completeness afterwards. Returns how many units it concerns. Errors: 42704 no such integration, 22023 no span.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'notice', 'integration ' || u.integration,
		format('%s units of %s belong to no vehicle: %s%s', count(*), u.integration, (string_agg(format('%s (%s)', coalesce(u.name, '?'), u.unit), ', ' ORDER BY u.unit) FILTER (WHERE u.number <= 5)),
			CASE WHEN count(*) > 5 THEN ', …' ELSE '' END),
		format('UPDATE crm.vehicle SET gps_integration_id = %s, gps_unit = ''UNIT'' WHERE plate = ''PLATE''; the list is crm.gps_wialon_unit.', min(i.id)), NULL::timestamptz
	FROM (SELECT w.*, row_number() OVER (PARTITION BY w.integration ORDER BY w.unit) AS number FROM crm.gps_wialon_unit AS w WHERE w.vehicle_id IS NULL AND NOT w.gone) AS u
	JOIN crm.integration AS i ON i.name = u.integration AND i.enabled
	GROUP BY u.integration
	UNION ALL
	SELECT 'warning', 'integration ' || i.name,
		format('%s vehicles have a tracker that %s does not show: %s', count(*), i.name, left(string_agg(v.plate, ', ' ORDER BY v.plate), 200)),
		'Does the unit still exist, and does the token''s user see it? crm.vehicle.gps_unit is the unit''s id, not its IMEI.', NULL
	FROM crm.vehicle AS v
	JOIN crm.integration AS i ON i.id = v.gps_integration_id AND i.kind = 'gps_wialon' AND i.enabled
	WHERE v.gps_unit IS NOT NULL AND v.archived_at IS NULL
		AND EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = i.id AND c.name LIKE 'unit:%')
		AND NOT EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = i.id AND c.name = 'unit:' || v.gps_unit AND NOT c.value ? 'gone')
	GROUP BY i.name
	UNION ALL
	SELECT 'warning', 'integration ' || u.integration,
		format('history of %s units of %s is missing and cannot be read: %s', count(*), u.integration, min(u.problem)),
		'The token''s user needs the right to query messages of these units. It is tried again by itself; new positions come all the same.', min(u.missing_from)
	FROM crm.gps_wialon_unit AS u
	JOIN crm.integration AS i ON i.name = u.integration AND i.enabled
	WHERE u.problem IS NOT NULL
	GROUP BY u.integration
	UNION ALL
	SELECT 'warning', 'integration ' || i.name,
		format('%s replies or events of %s could not be read, the last: %s: %s', sum(r.seen), i.name,
			(array_agg(r.what ORDER BY r.last_at DESC, r.id DESC))[1], (array_agg(r.reason ORDER BY r.last_at DESC, r.id DESC))[1]),
		format('SELECT * FROM crm.rejected WHERE integration_id = %s; has them with their bytes. This row leaves a day after the last of them.', min(i.id)), min(r.at)
	FROM crm.rejected AS r
	JOIN crm.integration AS i ON i.id = r.integration_id AND i.kind = 'gps_wialon' AND i.enabled
	WHERE r.last_at > crm.now() - interval '1 day'
		AND NOT EXISTS (SELECT FROM crm.integration_state AS s WHERE s.integration_id = i.id AND s.failures > 0)
	GROUP BY i.name;
END;
COMMENT ON FUNCTION crm.gps_wialon_health() IS 'Rows of crm.health about Wialon: units without a vehicle, vehicles without a unit, history that cannot be read, what was rejected in the last day.';

-- Beyond positions: zones of Wialon as places, locator links for clients, notifications pushed to our listener, and
-- leaving. Protocol wialon, sections 1.3, 1.6, 5 and 6.1.

CREATE OR REPLACE FUNCTION crm.gps_wialon_rights(login jsonb) RETURNS bigint
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	token jsonb := coalesce($1 -> 'token', $1 #> '{user,token}');
	found_ double precision;
BEGIN
	IF jsonb_typeof(token) = 'string' THEN
		token := (token #>> '{}')::jsonb;
	END IF;
	found_ := crm.gps_wialon_number(token -> 'fl');
	-- all rights also come as the unsigned form of -1
	RETURN CASE WHEN found_ = 4294967295 OR abs(found_) >= 9e18 THEN -1 ELSE found_::bigint END;
EXCEPTION WHEN others THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_rights(jsonb) IS 'Access of the token by the reply to a login: -1 is everything; NULL where the reply does not say it. The token stands there as JSON inside of a string. Protocol wialon, sections 1.2 and 1.6.';

-- ---- zones -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_zones_due(integration_id bigint, session jsonb) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm.setting_of($1, 'import_zones')::boolean AND (
		$2 ? 'resources_from' OR NOT $2 ? 'resources_at'
		OR crm.monotonic_ms() - ($2 ->> 'resources_at')::bigint >= 1000 * crm.setting_of($1, 'zones_every_s')::bigint
		OR EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name LIKE 'zones:%' AND c.value ? 'dirty'
			AND coalesce((c.value ->> 'after')::double precision, 0) <= extract(epoch FROM clock_timestamp())));
END;
COMMENT ON FUNCTION crm.gps_wialon_zones_due(bigint, jsonb) IS 'Whether the zones of some resource are to be read now.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_zone_request(integration_id bigint, session jsonb) RETURNS crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	from_item integer := coalesce(($2 ->> 'resources_from')::integer, 0);
	page      integer := crm.setting_of($1, 'units_page')::integer;
	limit_ms  integer := crm.setting_of($1, 'timeout_ms')::integer;
	resource  text;
BEGIN
	IF NOT crm.gps_wialon_zones_due($1, $2) THEN
		RETURN NULL;
	END IF;
	IF $2 ? 'resources_from' OR NOT $2 ? 'resources_at'
		OR crm.monotonic_ms() - ($2 ->> 'resources_at')::bigint >= 1000 * crm.setting_of($1, 'zones_every_s')::bigint THEN
		-- subscribed before they are read, as units are
		RETURN crm.gps_wialon_call($2 ->> 'base', 'core/batch', jsonb_build_object('flags', 0, 'params', jsonb_build_array(
			jsonb_build_object('svc', 'core/update_data_flags', 'params', jsonb_build_object('spec', jsonb_build_array(
				jsonb_build_object('type', 'type', 'data', 'avl_resource', 'flags', 4097, 'mode', 0, 'max_items', 0)))),
			jsonb_build_object('svc', 'core/search_items', 'params', jsonb_build_object(
				'spec', jsonb_build_object('itemsType', 'avl_resource', 'propName', 'sys_name', 'propValueMask', '*',
					'sortType', 'sys_name', 'propType', 'property', 'or_logic', 0),
				'force', 1, 'flags', 1, 'from', from_item, 'to', from_item + page - 1)))),
			$2 ->> 'sid', limit_ms, jsonb_build_object('step', 'resources', 'sid', $2 ->> 'sid', 'from', from_item));
	END IF;
	resource := (SELECT substr(c.name, 7) FROM crm.cursor AS c
		WHERE c.integration_id = $1 AND c.name LIKE 'zones:%' AND c.value ? 'dirty'
			AND coalesce((c.value ->> 'after')::double precision, 0) <= extract(epoch FROM clock_timestamp())
		ORDER BY c.name LIMIT 1);
	RETURN crm.gps_wialon_call($2 ->> 'base', 'resource/get_zone_data', jsonb_build_object('itemId', resource::bigint, 'flags', 28),
		$2 ->> 'sid', limit_ms, jsonb_build_object('step', 'zones', 'sid', $2 ->> 'sid', 'resource', resource));
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_zone_request(bigint, jsonb) IS 'The next request about zones: the list of resources with a subscription every zones_every_s seconds, then the zones of each resource, and of one again when an event says that it changed. NULL: nothing to ask, or import_zones is off.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_zones_wait(integration_id bigint, resource text, words text) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm.assert_own_integration($1);
	UPDATE crm.cursor AS c SET changed_at = crm.now(), value = c.value || jsonb_build_object('words', left($3, 500),
		'tries', coalesce((c.value ->> 'tries')::integer, 0) + 1,
		'after', extract(epoch FROM clock_timestamp()) + least(3600, 5 * power(2, least(coalesce((c.value ->> 'tries')::integer, 0) + 1, 12))))
	WHERE c.integration_id = $1 AND c.name = 'zones:' || $2;
END;
COMMENT ON FUNCTION crm.gps_wialon_zones_wait(bigint, text, text) IS 'The zones of a resource cannot be read: why, and a growing pause up to an hour; everything else goes on.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_resources_take(integration_id bigint, session jsonb, from_item integer, body jsonb, now_ms bigint) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	part  jsonb := $4 -> 1;
	total double precision;
	got   integer;
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF jsonb_typeof($4) IS DISTINCT FROM 'array' OR crm.gps_wialon_error($4 -> 0) IN (1, 1011) OR crm.gps_wialon_error(part) <> 0
		OR jsonb_typeof(part -> 'items') IS DISTINCT FROM 'array' THEN
		-- not now; a dead session shows itself at the next poll
		INSERT INTO crm.cursor AS c (integration_id, name, value)
		VALUES ($1, 'zones', jsonb_build_object('words', 'the list of resources cannot be read: ' || CASE
			WHEN crm.gps_wialon_error(coalesce(part, $4)) <> 0 THEN crm.gps_wialon_meaning(crm.gps_wialon_error(coalesce(part, $4)), coalesce(part, $4) ->> 'reason')
			ELSE 'its shape is not known' END))
		ON CONFLICT (integration_id, name) DO UPDATE SET value = EXCLUDED.value, changed_at = crm.now();
		RETURN $2 - 'resources_from' || jsonb_build_object('resources_at', $5);
	END IF;
	DELETE FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'zones';
	INSERT INTO crm.cursor AS c (integration_id, name, value)
	SELECT DISTINCT ON (e.item ->> 'id') $1, 'zones:' || (e.item ->> 'id'), jsonb_strip_nulls(jsonb_build_object('name', left(e.item ->> 'nm', 200), 'dirty', true))
	FROM jsonb_array_elements(part -> 'items') AS e(item)
	WHERE e.item ->> 'id' ~ '^[1-9][0-9]{0,17}$'
	ON CONFLICT (integration_id, name) DO UPDATE SET value = c.value - ARRAY['after', 'gone'] || EXCLUDED.value, changed_at = crm.now();
	total := coalesce(crm.gps_wialon_number(part -> 'totalItemsCount'), 0);
	got := $3 + jsonb_array_length(part -> 'items');
	IF got < least(total, 10000) AND jsonb_array_length(part -> 'items') > 0 THEN
		RETURN $2 || jsonb_build_object('resources_from', got);
	END IF;
	RETURN $2 - 'resources_from' || jsonb_build_object('resources_at', $5);
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_resources_take(bigint, jsonb, integer, jsonb, bigint) IS 'Takes a part of the list of resources: the zones of each are to be read. Returns the session as it is then.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_zones_touched(integration_id bigint, events jsonb) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	-- a resource's event may name the zones or not: they are read again in any case
	UPDATE crm.cursor AS c SET value = c.value - 'after' || '{"dirty": true}', changed_at = crm.now()
	FROM (SELECT DISTINCT e.event ->> 'i' AS resource
		FROM jsonb_array_elements(CASE jsonb_typeof($2) WHEN 'array' THEN $2 ELSE '[]' END) AS e(event)
		WHERE e.event ->> 't' IN ('u', 'd')) AS e
	WHERE c.integration_id = $1 AND c.name = 'zones:' || e.resource;
END;
COMMENT ON FUNCTION crm.gps_wialon_zones_touched(bigint, jsonb) IS 'Events that say that a resource changed or went: its zones are read again.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_zone_shape(zone jsonb,
	OUT lon double precision, OUT lat double precision, OUT radius_m double precision, OUT border geography, OUT problem text) RETURNS record
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	lons double precision[];
	lats double precision[];
	n    integer;
	kind double precision := crm.gps_wialon_number($1 -> 't');
	w    double precision := crm.gps_wialon_number($1 -> 'w');
BEGIN
	IF jsonb_typeof($1 -> 'p') IS DISTINCT FROM 'array' THEN
		problem := 'the zone has no points';
		RETURN;
	END IF;
	SELECT array_agg(crm.gps_wialon_number(p.point -> 'x') ORDER BY p.number), array_agg(crm.gps_wialon_number(p.point -> 'y') ORDER BY p.number), count(*)
	INTO lons, lats, n FROM jsonb_array_elements($1 -> 'p') WITH ORDINALITY AS p(point, number);
	IF n = 0 OR n > 10000 OR array_position(lons, NULL) IS NOT NULL OR array_position(lats, NULL) IS NOT NULL THEN
		problem := CASE WHEN n = 0 THEN 'the zone has no points' WHEN n > 10000 THEN 'the zone has more than 10000 points' ELSE 'a point of the zone cannot be read' END;
		RETURN;
	END IF;
	IF kind = 3 THEN
		w := coalesce(nullif(w, 0), crm.gps_wialon_number($1 #> '{p,0,r}'));
		IF lons[1] NOT BETWEEN -180 AND 180 OR lats[1] NOT BETWEEN -90 AND 90 THEN
			problem := 'the centre is not on the earth';
		ELSIF coalesce(w, 0) <= 0 OR w > 100000 THEN
			problem := format('the radius %s m is not between 0 and 100000', coalesce(w::text, 'NULL'));
		ELSE
			lon := lons[1];
			lat := lats[1];
			radius_m := w;
		END IF;
	ELSIF kind = 2 THEN
		IF lons[1] <> lons[n] OR lats[1] <> lats[n] THEN
			lons := lons || lons[1];
			lats := lats || lats[1];
		END IF;
		border := crm.geo_border((SELECT 'POLYGON((' || string_agg(u.lon || ' ' || u.lat, ',' ORDER BY u.number) || '))'
			FROM unnest(lons, lats) WITH ORDINALITY AS u(lon, lat, number)));
	ELSIF kind = 1 THEN
		IF coalesce(w, 0) <= 0 OR w > 100000 THEN
			problem := format('the width %s m of the line is not between 0 and 100000', coalesce(w::text, 'NULL'));
		ELSE
			border := crm.geo_corridor(lons, lats, w);
			problem := crm.geo_border_problem(border);
		END IF;
	ELSE
		problem := format('a zone of type %s is not known', coalesce($1 ->> 't', 'NULL'));
	END IF;
	IF problem IS NOT NULL THEN
		border := NULL;
	END IF;
EXCEPTION WHEN others THEN
	problem := sqlerrm;
	border := NULL;
	lon := NULL;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_zone_shape(jsonb) IS 'The shape of a zone of Wialon: a circle (type 3) as centre and radius in metres, a polygon (2; the ring closed or not) and a line with its width (1) as a border; or why it cannot be one, in words: sides that cross, points off the earth. x is longitude. Protocol wialon, section 5.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_zones(integration_id bigint, resource text, body jsonb, bytes bytea) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	code  integer := crm.gps_wialon_error($3);
	seen  jsonb := coalesce((SELECT c.value -> 'seen' FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'zones:' || $2), '{}');
	now_  jsonb := '{}';
	stem  text := $1 || ':' || $2 || ':';
	z     record;
	shape record;
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF code <> 0 THEN
		PERFORM crm.gps_wialon_zones_wait($1, $2, crm.gps_wialon_meaning(code, $3 ->> 'reason')
			|| CASE WHEN code = 7 THEN '. The token needs access 0x200 and its user the right to view the resource''s geofences' ELSE '' END);
		RETURN;
	END IF;
	IF jsonb_typeof($3) IS DISTINCT FROM 'array' THEN
		PERFORM crm.reject($1, 'the zones of resource ' || $2, 'it is no list of zones', NULL, $4);
		PERFORM crm.gps_wialon_zones_wait($1, $2, 'they came in a shape that is not known; crm.rejected has it');
		RETURN;
	END IF;
	FOR z IN
		SELECT DISTINCT ON (e.zone ->> 'id') e.zone, e.zone ->> 'id' AS id,
			coalesce(nullif(left(btrim(regexp_replace(e.zone ->> 'n', '[[:cntrl:]]+', ' ', 'g')), 500), ''), format('zone %s of %s', e.zone ->> 'id', $2)) AS name,
			md5(jsonb_build_array(e.zone -> 'n', e.zone -> 't', e.zone -> 'w', e.zone -> 'p')::text) AS hash
		FROM jsonb_array_elements($3) WITH ORDINALITY AS e(zone, number)
		WHERE jsonb_typeof(e.zone) = 'object' AND e.zone ->> 'id' ~ '^[0-9]{1,18}$'
		ORDER BY e.zone ->> 'id', e.number
	LOOP
		now_ := now_ || jsonb_build_object(z.id, z.hash);
		CONTINUE WHEN seen ->> z.id = z.hash;
		shape := crm.gps_wialon_zone_shape(z.zone);
		IF shape.problem IS NOT NULL THEN
			-- the place, if it is there, keeps the shape that it had
			PERFORM crm.reject($1, format('zone %s of resource %s', z.id, $2), shape.problem, NULL, convert_to(z.zone::text, 'UTF8'));
			CONTINUE;
		END IF;
		INSERT INTO crm.place AS p (name, kind, lon, lat, radius_m, border, source, source_id)
		VALUES (z.name, crm.setting_of($1, 'zones_kind'), shape.lon, shape.lat, shape.radius_m, shape.border, 'wialon', stem || z.id)
		ON CONFLICT ON CONSTRAINT place_source_key DO UPDATE SET name = EXCLUDED.name, lon = EXCLUDED.lon, lat = EXCLUDED.lat,
			radius_m = EXCLUDED.radius_m, border = EXCLUDED.border, archived_at = NULL;
	END LOOP;
	-- deleted there: put away here, the history stays
	UPDATE crm.place AS p SET archived_at = crm.now()
	FROM jsonb_object_keys(seen) AS s(id)
	WHERE NOT now_ ? s.id AND p.source = 'wialon' AND p.source_id = stem || s.id AND p.archived_at IS NULL;
	PERFORM crm.reject($1, 'the zones of resource ' || $2, 'a zone without an id that can be read', NULL, convert_to(e.zone::text, 'UTF8'))
	FROM jsonb_array_elements($3) AS e(zone)
	WHERE jsonb_typeof(e.zone) <> 'object' OR e.zone ->> 'id' IS NULL OR e.zone ->> 'id' !~ '^[0-9]{1,18}$'
	LIMIT 100;
	UPDATE crm.cursor AS c SET value = c.value - ARRAY['dirty', 'tries', 'after', 'words'] || jsonb_build_object('seen', now_), changed_at = crm.now()
	WHERE c.integration_id = $1 AND c.name = 'zones:' || $2;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_zones(bigint, text, jsonb, bytea) IS 'Takes the zones of a resource: each becomes or changes a place with source wialon and source_id INTEGRATION:RESOURCE:ZONE; one that is gone there is put away. What cannot be a zone is in crm.rejected with its bytes, once until it changes, and the others go on. A place that is changed by hand stays so until its zone changes there.';

-- ---- locator links ---------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_link_due(integration_id bigint) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM crm.locator_link AS l JOIN crm.trip AS t ON t.id = l.trip_id
		WHERE l.integration_id = $1 AND l.retry_at <= crm.now()
			AND (l.state = 'wanted' AND (t.departed_at IS NOT NULL OR t.state = 'cancelled') OR l.state = 'closing'
				OR l.state = 'live' AND (t.arrived_at + interval '2 hours' <= crm.now() OR t.state = 'cancelled' OR t.vehicle_id <> l.vehicle_id)));
END;
COMMENT ON FUNCTION crm.gps_wialon_link_due(bigint) IS 'Whether a locator link is to be made or taken back now.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_link_request(integration_id bigint, session jsonb) RETURNS crm.request
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	limit_ms integer := crm.setting_of($1, 'timeout_ms')::integer;
	rights   bigint := ($2 ->> 'rights')::bigint;
	l        record;
BEGIN
	IF NOT EXISTS (SELECT FROM crm.locator_link AS x WHERE x.integration_id = $1 AND x.state NOT IN ('closed', 'failed')) THEN
		RETURN NULL;
	END IF;
	-- what is over; what was asked and never answered
	UPDATE crm.locator_link AS x SET
		state = CASE
			WHEN x.state = 'asked' THEN 'wanted'
			WHEN x.state = 'wanted' OR x.expires_at <= crm.now() THEN 'closed'
			ELSE 'closing' END,
		token = CASE WHEN x.state = 'live' AND x.expires_at > crm.now() THEN x.token END,
		closed_at = CASE WHEN x.state = 'wanted' OR x.expires_at <= crm.now() THEN crm.now() END,
		retry_at = crm.now()
	FROM crm.trip AS t
	WHERE t.id = x.trip_id AND x.integration_id = $1 AND (
		x.state = 'asked' AND x.retry_at <= crm.now()
		OR x.state IN ('wanted', 'live') AND (t.arrived_at + interval '2 hours' <= crm.now() OR t.state = 'cancelled' OR t.vehicle_id <> x.vehicle_id)
		OR x.state IN ('live', 'closing') AND x.expires_at <= crm.now());

	IF rights <> -1 THEN
		UPDATE crm.locator_link AS x SET state = 'failed', problem = format('the token has access %s; links need -1 (everything)', rights)
		WHERE x.integration_id = $1 AND x.state = 'wanted';
	END IF;

	SELECT x.*, o.numbers INTO l
	FROM crm.locator_link AS x
	JOIN crm.trip AS t ON t.id = x.trip_id
	CROSS JOIN LATERAL (SELECT string_agg(y.number, ', ' ORDER BY y.number) AS numbers
		FROM crm.trip_order AS v JOIN crm.customer_order AS y ON y.id = v.order_id WHERE v.trip_id = x.trip_id) AS o
	WHERE x.integration_id = $1 AND x.retry_at <= crm.now() AND (x.state = 'closing' OR x.state = 'wanted' AND t.departed_at IS NOT NULL)
	ORDER BY x.state, x.id LIMIT 1;
	IF l.id IS NULL THEN
		RETURN NULL;
	END IF;
	IF l.state = 'closing' THEN
		-- not asked again before the reply is in or given up
		UPDATE crm.locator_link AS x SET retry_at = crm.now() + interval '10 minutes' WHERE x.id = l.id;
		RETURN crm.gps_wialon_call($2 ->> 'base', 'token/update', jsonb_build_object('callMode', 'delete', 'h', l.token), $2 ->> 'sid', limit_ms,
			jsonb_build_object('step', 'link', 'sid', $2 ->> 'sid', 'link', l.id, 'trip', l.trip_id, 'op', 'delete'));
	END IF;
	UPDATE crm.locator_link AS x SET state = 'asked', retry_at = crm.now() + interval '10 minutes' WHERE x.id = l.id;
	RETURN crm.gps_wialon_call($2 ->> 'base', 'token/update', jsonb_build_object('callMode', 'create', 'app', 'locator', 'at', 0,
			'dur', 3600 * crm.setting_of($1, 'locator_hours')::integer, 'fl', 256,
			'p', jsonb_build_object('note', left(coalesce(nullif(l.numbers, ''), 'trip ' || l.trip_id), 200), 'zones', 0, 'tracks', 0)::text,
			'items', jsonb_build_array(l.unit::bigint)), $2 ->> 'sid', limit_ms,
		jsonb_build_object('step', 'link', 'sid', $2 ->> 'sid', 'link', l.id, 'trip', l.trip_id, 'op', 'create'));
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_link_request(bigint, jsonb) IS 'The next request about locator links of an integration: takes back those of trips that arrived two hours ago, were cancelled or changed their vehicle, then makes those of trips that have departed, for that unit alone with access 0x100. A token with less than -1 makes none and says so; polling goes on. A create whose reply is lost is asked anew; the lost token dies after locator_hours. Claim 48, protocol wialon, section 6.1.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_link_wait(integration_id bigint, link_id bigint, words text) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT crm.assert_own_integration($1);
	UPDATE crm.locator_link AS x SET
		tries = x.tries + ($3 IS NOT NULL)::integer,
		problem = coalesce(left($3, 500), x.problem),
		state = CASE WHEN x.tries >= 9 AND $3 IS NOT NULL THEN 'failed' WHEN x.state = 'asked' THEN 'wanted' ELSE x.state END,
		retry_at = crm.now() + CASE WHEN $3 IS NULL THEN interval '5 seconds' ELSE least(interval '1 hour', interval '15 seconds' * power(2, x.tries)) END
	WHERE x.integration_id = $1 AND x.id = $2 AND x.state IN ('asked', 'closing');
END;
COMMENT ON FUNCTION crm.gps_wialon_link_wait(bigint, bigint, text) IS 'A request about a link failed: it is tried again after a growing pause, ten times in all; NULL: the session was lost or Wialon asks for patience, which is no failure.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_link_take(integration_id bigint, reply crm.reply, body jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	code integer := crm.gps_wialon_error($3);
	link bigint := (($2).context ->> 'link')::bigint;
	l    record;
BEGIN
	PERFORM crm.assert_own_integration($1);
	SELECT x.* INTO l FROM crm.locator_link AS x WHERE x.id = link AND x.integration_id = $1 AND x.state IN ('asked', 'closing') FOR UPDATE;
	IF l.id IS NULL THEN
		RETURN;
	END IF;
	IF l.state = 'closing' THEN
		-- a token that is not known there any more is as good as deleted
		IF code IN (0, 3, 4) AND jsonb_typeof($3) = 'object' THEN
			UPDATE crm.locator_link AS x SET state = 'closed', token = NULL, closed_at = crm.now(), problem = NULL WHERE x.id = l.id;
		ELSE
			PERFORM crm.gps_wialon_link_wait($1, l.id, crm.gps_wialon_meaning(code, $3 ->> 'reason'));
		END IF;
	ELSIF code = 7 THEN
		UPDATE crm.locator_link AS x SET state = 'failed', problem = crm.gps_wialon_meaning(code, $3 ->> 'reason') || '. Links need a token with access -1 (everything)' WHERE x.id = l.id;
	ELSIF code <> 0 THEN
		PERFORM crm.gps_wialon_link_wait($1, l.id, crm.gps_wialon_meaning(code, $3 ->> 'reason'));
	ELSIF jsonb_typeof($3) IS DISTINCT FROM 'object' OR coalesce($3 ->> 'h', '') !~ '^[0-9A-Za-z]{16,200}$' THEN
		PERFORM crm.reject($1, 'the reply with a locator link', 'it holds no token', NULL, ($2).body);
		PERFORM crm.gps_wialon_link_wait($1, l.id, 'the reply holds no token; crm.rejected has it');
	ELSIF $3 ? 'items' AND $3 -> 'items' IS DISTINCT FROM jsonb_build_array(l.unit::bigint)
		OR $3 ? 'fl' AND crm.gps_wialon_number($3 -> 'fl') IS DISTINCT FROM 256 THEN
		-- wider than asked: nobody gets it
		UPDATE crm.locator_link AS x SET state = 'closing', token = $3 ->> 'h', expires_at = crm.now() + interval '1 hour' * crm.setting_of($1, 'locator_hours')::integer,
			retry_at = crm.now(), problem = 'Wialon made a link that shows more than this vehicle; it is taken back' WHERE x.id = l.id;
	ELSE
		UPDATE crm.locator_link AS x SET state = 'live', token = $3 ->> 'h', live_at = crm.now(), problem = NULL,
			expires_at = crm.now() + interval '1 hour' * crm.setting_of($1, 'locator_hours')::integer WHERE x.id = l.id;
		PERFORM crm.track_link_told(l.id, crm.track_url(l.trip_id));
	END IF;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_link_take(bigint, crm.reply, jsonb) IS 'What the reply to a request about a link means: made (event trip.track_link, once a trip and vehicle), taken back, refused, or to be tried again. A link that came wider than asked is given to nobody and taken back.';

-- ---- notifications by HTTP -------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_notified(integration_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	names  jsonb := crm.setting_of($1, 'push')::jsonb;
	form   text := coalesce(CASE WHEN octet_length(($2).body) > 0 THEN crm.body_text(($2).body) END, ($2).query, '');
	unit   text;
	title  text;
	t      double precision;
	lon    double precision;
	lat    double precision;
	speed  double precision;
	vehicle bigint;
	mark   text;
	recent jsonb;
BEGIN
	unit  := btrim(crm.form_value(form, names ->> 'unit'));
	title := btrim(crm.form_value(form, names ->> 'name'));
	IF unit IS NULL OR NOT EXISTS (SELECT FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'unit:' || unit) THEN
		-- by name or by the tracker's own number, if it is one unit's alone
		unit := (SELECT CASE WHEN count(*) = 1 THEN substr(min(c.name), 6) END FROM crm.cursor AS c
			WHERE c.integration_id = $1 AND c.name LIKE 'unit:%' AND NOT c.value ? 'gone' AND (c.value ->> 'name' = title OR c.value ->> 'uid' = unit));
	END IF;
	IF unit IS NULL THEN
		PERFORM crm.reject($1, 'a notification by HTTP', 'it names no unit that is known', '22023',
			convert_to(coalesce(nullif(($2).query, '') || E'\n', ''), 'UTF8') || coalesce(($2).body, ''));
		RETURN ROW (422, NULL, convert_to('no unit that is known', 'UTF8'))::crm.http_response;
	END IF;

	mark := md5(form);
	SELECT c.value -> 'recent' INTO recent FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'push' FOR UPDATE;
	IF recent ? mark THEN
		RETURN ROW (200, NULL, convert_to('known', 'UTF8'))::crm.http_response;
	END IF;

	t     := crm.gps_wialon_number(to_jsonb(crm.form_value(form, names ->> 'time')));
	lon   := crm.gps_wialon_number(to_jsonb(crm.form_value(form, names ->> 'lon')));
	lat   := crm.gps_wialon_number(to_jsonb(crm.form_value(form, names ->> 'lat')));
	speed := crm.gps_wialon_number(to_jsonb(substring(crm.form_value(form, names ->> 'speed') FROM '^\s*[0-9]+(?:[.,][0-9]+)?')));
	vehicle := (SELECT v.id FROM crm.vehicle AS v WHERE v.gps_integration_id = $1 AND v.gps_unit = unit);
	IF vehicle IS NOT NULL AND t > 0 AND t < 4102444800 AND lon IS NOT NULL AND lat IS NOT NULL THEN
		PERFORM crm.put_positions(ARRAY[vehicle], ARRAY[to_timestamp(t)], ARRAY[lon], ARRAY[lat], ARRAY[speed]);
	END IF;

	-- a hint only: the poll brings what is true
	INSERT INTO crm.cursor AS c (integration_id, name, value)
	VALUES ($1, 'push', jsonb_build_object('ms', crm.monotonic_ms(), 'recent', jsonb_build_array(mark)))
	ON CONFLICT (integration_id, name) DO UPDATE SET changed_at = crm.now(),
		value = jsonb_build_object('ms', crm.monotonic_ms(), 'recent', EXCLUDED.value -> 'recent'
			|| coalesce((SELECT jsonb_agg(e.mark ORDER BY e.number) FROM jsonb_array_elements(c.value -> 'recent') WITH ORDINALITY AS e(mark, number) WHERE e.number < 100), '[]'));
	UPDATE crm.integration_state AS s SET due_ms = least(s.due_ms, crm.monotonic_ms()) WHERE s.integration_id = $1 AND s.outstanding = 0;
	PERFORM crm.wake();
	RETURN ROW (200, NULL, convert_to('ok', 'UTF8'))::crm.http_response;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_notified(bigint, crm.http_request) IS 'Takes a notification that Wialon pushes (action push_messages), as a form in the body or the address; the setting push says which names its text uses. The fact in it is "go and poll this unit now"; a position in it is stored as any other. The same notification again, of the last hundred, is answered and does nothing. One that names no unit known is in crm.rejected and gets 422. Its address: crm.add_route(INTEGRATION, ''wialon'', ''crm.gps_wialon_notified'').';

-- ---- leaving ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_left(integration_id bigint) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	DELETE FROM crm.cursor AS c WHERE c.integration_id = $1 AND c.name = 'leave';
	UPDATE crm.integration AS i SET enabled = false WHERE i.id = $1
$$;
COMMENT ON FUNCTION crm.gps_wialon_left(bigint) IS 'The work with Wialon has ended as crm.gps_wialon_stop asked: the integration is disabled, and enabled again it goes on.';

CREATE OR REPLACE FUNCTION crm.gps_wialon_stop(integration text) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	target bigint := (SELECT i.id FROM crm.integration AS i WHERE i.name = $1 AND i.kind = 'gps_wialon');
BEGIN
	IF target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no Wialon integration is named %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'SELECT name FROM crm.integration WHERE kind = ''gps_wialon''; lists them.';
	END IF;
	IF EXISTS (SELECT FROM crm.integration_state AS s WHERE s.integration_id = target) THEN
		INSERT INTO crm.cursor AS c (integration_id, name, value) VALUES (target, 'leave', '{}') ON CONFLICT (integration_id, name) DO NOTHING;
		PERFORM crm.poll_after(target, 0);
	ELSE
		PERFORM crm.gps_wialon_left(target);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.gps_wialon_stop(text) IS 'Ends the work with Wialon in good order: the next request is core/logout, then the integration is disabled. UPDATE crm.integration SET enabled = false stops at once and leaves the session to die of itself after five minutes. Error 42704 for no such integration.';

-- ---- for people ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.gps_wialon_zone_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'warning', 'integration ' || i.name, format('zones of %s cannot be read: %s%s', i.name, coalesce(c.value ->> 'name' || ': ', ''), c.value ->> 'words'),
		'It is tried again by itself; positions come all the same.', c.changed_at
	FROM crm.cursor AS c
	JOIN crm.integration AS i ON i.id = c.integration_id AND i.kind = 'gps_wialon' AND i.enabled
	WHERE (c.name = 'zones' OR c.name LIKE 'zones:%') AND c.value ? 'words' AND crm.setting_of(i.id, 'import_zones')::boolean
	UNION ALL
	SELECT 'warning', 'integration ' || i.name, format('%s of %s cannot make locator links: its token has access %s', 'the integration', i.name, s.session ->> 'rights'),
		'Links need a token with access -1 (everything). Make one for a user of its own who sees no more than it should, give it by crm.set_secret().', NULL
	FROM crm.integration AS i
	JOIN crm.integration_state AS s ON s.integration_id = i.id
	WHERE i.kind = 'gps_wialon' AND i.enabled AND crm.setting_of(i.id, 'locator_site') <> '' AND (s.session ->> 'rights')::bigint <> -1
	UNION ALL
	SELECT 'warning', 'integration ' || min(i.name), format('%s locator links of %s failed in the last day, the last: %s', count(*), min(i.name), (array_agg(l.problem ORDER BY l.id DESC))[1]),
		'SELECT * FROM crm.locator_link WHERE problem IS NOT NULL; crm.wialon_locator(TRIP) asks anew.', min(l.wanted_at)
	FROM crm.locator_link AS l
	JOIN crm.integration AS i ON i.id = l.integration_id AND i.enabled
	WHERE l.state = 'failed' AND l.wanted_at > crm.now() - interval '1 day'
	GROUP BY l.integration_id;
END;
COMMENT ON FUNCTION crm.gps_wialon_zone_health() IS 'Rows of crm.health about Wialon: zones that cannot be read, links that cannot be made, a token that may not make them.';
SELECT crm.register_hook('health', 'gps_wialon zones', 'crm.gps_wialon_zone_health');
SELECT crm.register_kind('gps_wialon', 'crm.gps_wialon_next', 'crm.gps_wialon_take',
	test_function => 'crm.gps_wialon_test', judge_function => 'crm.gps_wialon_judge',
	defaults => '{"poll_ms": 5000, "max_in_flight": 1, "max_reply_bytes": 16777216, "timeout_ms": 60000, "operate_as": "", "map_by_plate": true,
		"units_page": 1000, "units_every_s": 600, "slice_s": 86400, "history_count": 10000, "history_back_s": 3600, "history_first_s": 3600,
		"history_max_s": 2592000, "history_ahead_s": 10, "import_units": false, "import_zones": false, "zones_kind": "other", "zones_every_s": 3600,
		"locator_site": "", "locator_auto": false, "locator_hours": 72, "locator_wait_s": 60,
		"push": {"unit": "unit_id", "name": "unit", "time": "t", "lat": "lat", "lon": "lon", "speed": "speed"}}',
	description_en => 'Positions of vehicles from Wialon (Remote API), with history for what was missed',
	description_ru => 'Координаты машин из Wialon (Remote API), с дочитыванием пропущенного из истории');
SELECT crm.register_hook('health', 'gps_wialon', 'crm.gps_wialon_health');
