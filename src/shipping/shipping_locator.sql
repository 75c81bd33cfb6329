-- shipping: the link by which a client sees the vehicle of a trip. The GPS kind makes it and takes it back.

SELECT crm.register_foreign_key('crm.locator_link', 'trip_id', 'crm.trip', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.locator_link', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.locator_link', 'integration_id', 'crm.integration', 'id', 'CASCADE');

CREATE OR REPLACE FUNCTION crm.track_url(trip_id bigint) RETURNS text
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT rtrim(crm.setting_of(l.integration_id, 'locator_site'), '/') || '/locator/index.html?t=' || l.token
	FROM crm.locator_link l
	WHERE l.trip_id = $1 AND crm.sees_trip($1) AND l.state = 'live' AND l.expires_at > crm.now()
	ORDER BY l.id DESC LIMIT 1
$$;
COMMENT ON FUNCTION crm.track_url(bigint) IS 'The address by which a client sees the vehicle of a trip on the map now; NULL: there is none (not departed, two hours past the arrival, not asked for)';

CREATE OR REPLACE FUNCTION crm.wialon_locator(trip_id bigint) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	t record;
	url text := crm.track_url($1);
BEGIN
	IF url IS NOT NULL THEN
		RETURN url;
	END IF;
	SELECT y.id, y.state, y.vehicle_id, v.plate, v.gps_unit, i.id AS integration_id, i.name, i.kind, crm.setting_of(i.id, 'locator_site') AS site INTO t
	FROM crm.trip y JOIN crm.vehicle v ON v.id = y.vehicle_id LEFT JOIN crm.integration i ON i.id = v.gps_integration_id
	WHERE y.id = $1 AND crm.sees_trip(y.id);
	IF t.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no trip has number %s', coalesce($1::text, 'NULL')), HINT = 'Give crm.trip.id.';
	ELSIF t.state IN ('unloaded', 'cancelled') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('trip %s is %s', $1, t.state), HINT = 'A link is for a trip that is under way.';
	ELSIF t.gps_unit IS NULL OR t.kind IS DISTINCT FROM 'gps_wialon' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('vehicle %s has no tracker in Wialon', t.plate),
			HINT = 'crm.vehicle.gps_integration_id and gps_unit say where its positions come from.';
	ELSIF coalesce(t.site, '') !~ '^https?://[^/?#@[:space:]]+' THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('integration %s has no locator_site', t.name),
			HINT = 'UPDATE crm.integration SET settings = settings || ''{"locator_site": "https://hosting.wialon.com"}'' … : the site on which links are opened.';
	END IF;
	INSERT INTO crm.locator_link (trip_id, vehicle_id, integration_id, unit)
	SELECT t.id, t.vehicle_id, t.integration_id, t.gps_unit
	ON CONFLICT DO NOTHING;
	PERFORM crm.poll_after(t.integration_id, 0);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.wialon_locator(bigint) IS
'Asks for the link by which a client sees the vehicle of a trip on Wialon''s map, and that vehicle alone; returns it when it is live. Otherwise NULL: the courier makes it once the trip has departed, event trip.track_link tells of it. Two hours after the arrival it is taken back. Errors: 42704 no trip; 55000 it is over, its vehicle has no tracker in Wialon, the integration names no locator_site. Claim 48';

SELECT crm.register_event_kind('trip.track_link', 'trip',
	ARRAY['trip_id', 'order_number', 'product', 'tonnes', 'waybill', 'vehicle_plate', 'driver', 'driver_phone', 'place_name', 'origin_name', 'trip_state', 'at', 'at_local', 'date_local',
		'track_url', 'track_link', 'departure', 'fix_at'],
	'The link by which the client sees the vehicle on the map is there', 'Готова ссылка, по которой клиент видит машину на карте');

CREATE OR REPLACE FUNCTION crm.track_link_told(link_id bigint, url text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l crm.locator_link;
BEGIN
	SELECT y.* INTO l FROM crm.locator_link y WHERE y.id = track_link_told.link_id FOR UPDATE;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'trip.track_link', 'trip', t.id, t.company_id, crm.now(),
		crm.trip_data(t.id) || jsonb_build_object('track_url', coalesce(track_link_told.url, ''), 'track_link', coalesce(track_link_told.url, ''), 'trip_state', t.state,
			'departure', (l.tell_by IS NOT NULL)::integer, 'at', to_char(crm.now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', coalesce(to_char(t.departed_at AT TIME ZONE z.zone, 'HH24:MI'), ''), 'date_local', coalesce(to_char(t.departed_at AT TIME ZONE z.zone, 'DD.MM.YYYY'), ''))
			-- the fix that proved the departure, by which the way to the provider is measured
			|| CASE WHEN l.tell_by IS NOT NULL THEN jsonb_build_object('fix_at', coalesce((SELECT e.data ->> 'fix_at' FROM crm.event e
				WHERE e.object_kind = 'trip' AND e.object_id = t.id AND e.kind = 'trip.departed' AND e.known_at >= l.wanted_at - interval '1 day' LIMIT 1), '')) ELSE '{}' END,
		'trip', t.id || '.link.' || CASE WHEN l.state = 'live' THEN l.vehicle_id::text ELSE 'page' END
	FROM crm.trip t
	LEFT JOIN crm.place d ON d.id = t.destination_place_id
	LEFT JOIN crm.place g ON g.id = t.origin_place_id
	CROSS JOIN LATERAL (SELECT coalesce(d.time_zone, g.time_zone, current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) z
	WHERE t.id = l.trip_id
		AND (l.tell_by IS NOT NULL OR NOT EXISTS (SELECT FROM crm.locator_link y WHERE y.trip_id = l.trip_id AND y.vehicle_id = l.vehicle_id AND y.id <> l.id AND y.live_at IS NOT NULL));
	UPDATE crm.locator_link y SET tell_by = NULL WHERE y.id = l.id AND y.tell_by IS NOT NULL;
END
$$;
COMMENT ON FUNCTION crm.track_link_told(bigint, text) IS 'Emits trip.track_link with an address, once for a trip and vehicle; departure in its data is 1 where the message of the departure has waited for it. Called when the GPS service made the link, and when it did not in time';

CREATE OR REPLACE FUNCTION crm.locator_due() RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	l  record;
	at timestamptz;
BEGIN
	IF NOT crm.guard() OR crm.mode() = 'off' THEN
		RETURN NULL;
	END IF;
	FOR l IN SELECT y.id, y.trip_id FROM crm.locator_link y WHERE y.tell_by <= crm.clock() ORDER BY y.tell_by LIMIT 200 FOR UPDATE SKIP LOCKED LOOP
		PERFORM crm.track_link_told(l.id, crm.trip_track_link(l.trip_id));
	END LOOP;
	SELECT y.tell_by INTO at FROM crm.locator_link y WHERE y.tell_by IS NOT NULL ORDER BY y.tell_by LIMIT 1;
	RETURN greatest(crm.due_ms(at), CASE WHEN at <= crm.clock() THEN crm.monotonic_ms() + 200 END);
END
$$;
COMMENT ON FUNCTION crm.locator_due() IS 'Hook due: departures whose locator link was not made within the setting locator_wait_s are told with our own page''s; says when the next one is due';
SELECT crm.register_hook('due', 'locator', 'crm.locator_due');
