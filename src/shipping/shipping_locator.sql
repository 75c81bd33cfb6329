-- shipping: the link by which a client sees the vehicle of a trip. The GPS kind makes it and takes it back.

SELECT crm.register_foreign_key('crm.locator_link', 'trip_id', 'crm.trip', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.locator_link', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.locator_link', 'integration_id', 'crm.integration', 'id', 'CASCADE');

CREATE OR REPLACE FUNCTION crm.track_url(trip_id bigint) RETURNS text
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT rtrim(crm.setting_of(l.integration_id, 'locator_site'), '/') || '/locator/index.html?t=' || l.token
	FROM crm.locator_link l
	WHERE l.trip_id = $1 AND l.state = 'live' AND l.expires_at > crm.now()
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
	WHERE y.id = $1;
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
