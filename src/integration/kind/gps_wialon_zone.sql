-- gps_wialon beyond positions: zones of Wialon as places, locator links for clients, notifications pushed to our
-- listener, and leaving. Protocol wialon, sections 1.3, 1.6, 5 and 6.1.

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
		INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
		SELECT 'trip.track_link', 'trip', t.id, t.company_id, crm.now(),
			crm.trip_data(t.id) || jsonb_build_object('track_url', crm.track_url(t.id), 'trip_state', t.state,
				'at', to_char(crm.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')),
			'trip', t.id || '.link.' || l.vehicle_id
		FROM crm.trip AS t WHERE t.id = l.trip_id
			AND NOT EXISTS (SELECT FROM crm.locator_link AS y WHERE y.trip_id = l.trip_id AND y.vehicle_id = l.vehicle_id AND y.id <> l.id AND y.live_at IS NOT NULL);
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
	UPDATE crm.integration_state AS s SET session = coalesce(s.session, '{}') || '{"leaving": true}' WHERE s.integration_id = target;
	IF NOT FOUND THEN
		UPDATE crm.integration AS i SET enabled = false WHERE i.id = target;
	END IF;
	PERFORM crm.poll_after(target, 0);
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
SELECT crm.register_event_kind('trip.track_link', 'trip',
	ARRAY['trip_id', 'order_number', 'product', 'tonnes', 'waybill', 'vehicle_plate', 'driver', 'driver_phone', 'place_name', 'origin_name', 'trip_state', 'at', 'track_url'],
	'The link by which the client sees the vehicle on the map is there', 'Готова ссылка, по которой клиент видит машину на карте');
