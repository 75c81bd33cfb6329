-- shipping: a client's page of one trip: where the vehicle is now (claim 48).

CREATE OR REPLACE FUNCTION crm.map_link(lon double precision, lat double precision) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN replace(replace(nullif(crm.setting_now('crm.map_url'), ''), '{lat}', to_char(lat, 'FM990.00000')), '{lon}', to_char(lon, 'FM990.00000'));
END
$$;
COMMENT ON FUNCTION crm.map_link(double precision, double precision) IS 'The address of a map that shows a point, by the setting crm.map_url; NULL where that is empty. Degrees, WGS 84';

CREATE OR REPLACE FUNCTION crm.trip_page_rows(trip_id bigint)
	RETURNS TABLE (phase text, at timestamptz, lon double precision, lat double precision, distance_m double precision, eta timestamptz, arrived_at timestamptz, plate text, place_name text, product text, zone text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t   record;
	fix record;
BEGIN
	SELECT y.*, v.plate AS v_plate, d.name AS d_name, d.lon AS d_lon, d.lat AS d_lat, coalesce(d.time_zone, current_setting('crm.time_zone')) AS d_zone,
		(SELECT string_agg(DISTINCT s.product, ', ') FROM crm.shipment s WHERE s.trip_id = y.id AND s.cancelled_at IS NULL) AS products
	INTO t
	FROM crm.trip y
	JOIN crm.vehicle v ON v.id = y.vehicle_id
	LEFT JOIN crm.place d ON d.id = y.destination_place_id
	WHERE y.id = trip_page_rows.trip_id;
	IF NOT FOUND OR t.state = 'cancelled' OR crm.now() > t.arrived_at + interval '2 hours' OR crm.now() > t.loaded_at + interval '30 days' THEN
		RETURN;
	END IF;
	plate := t.v_plate;
	place_name := t.d_name;
	product := t.products;
	zone := t.d_zone;
	IF t.state IN ('planned', 'loading') OR t.state = 'departed' AND t.departed_at IS NULL THEN
		phase := 'loading';
		RETURN NEXT;
		RETURN;
	ELSIF t.state = 'unloaded' OR t.arrived_at IS NOT NULL THEN
		-- where it goes from here is another client's affair
		phase := CASE WHEN t.state = 'unloaded' THEN 'unloaded' ELSE 'arrived' END;
		arrived_at := t.arrived_at;
		IF t.arrived_at IS NOT NULL THEN
			RETURN NEXT;
		END IF;
		RETURN;
	END IF;
	phase := 'under way';
	-- loaded anew since: its fixes are another trip's
	IF EXISTS (SELECT FROM crm.trip y WHERE y.vehicle_id = t.vehicle_id AND y.loaded_at > coalesce(t.departed_at, t.approaching_at, t.loaded_at) + interval '5 minutes' AND y.state <> 'cancelled') THEN
		RETURN;
	END IF;
	SELECT w.* INTO fix FROM crm.vehicle_where(t.vehicle_id) w WHERE w.at >= coalesce(least(t.departed_at, t.approaching_at), t.loaded_at) - interval '15 minutes';
	IF FOUND THEN
		at := fix.at;
		lon := fix.lon;
		lat := fix.lat;
		distance_m := crm.distance_m(fix.lon, fix.lat, t.d_lon, t.d_lat);
	END IF;
	eta := CASE WHEN t.eta > crm.now() THEN t.eta END;
	RETURN NEXT;
END
$$;
COMMENT ON FUNCTION crm.trip_page_rows(bigint) IS 'What a client may see of a trip at this moment: phase (loading: not left yet; under way; arrived, unloaded), its last fix, metres to the destination and expected arrival while it is under way, nothing of where it is otherwise. No row from two hours after the arrival on, for a trip that was cancelled, or whose vehicle carries another load. Asks the trip itself, whatever a link says of its end. Claim 48';

CREATE OR REPLACE FUNCTION crm.track_page(link_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l    text := crm.page_language(request);
	t    record;
	body text;
	map  text;
	form constant text := 'DD.MM.YYYY HH24:MI';
BEGIN
	IF request.method <> 'GET' THEN
		RETURN ROW (405, ARRAY['Allow: GET, HEAD'], NULL)::crm.http_response;
	END IF;
	SELECT p.* INTO t FROM crm.link k CROSS JOIN LATERAL crm.trip_page_rows(k.object_id) p WHERE k.id = track_page.link_id AND k.object_kind = 'trip';
	IF NOT FOUND THEN
		RETURN crm.link_gone();
	END IF;
	map := crm.map_link(t.lon, t.lat);
	body := format('<h1>%s %s</h1>', crm.html(crm.page_word(l, 'Машина', 'Vehicle')), crm.html(t.plate))
		|| CASE t.phase
			WHEN 'loading' THEN format('<p>%s</p>', crm.page_word(l, 'Ещё не выехала. Здесь будет видно, где она.', 'It has not left yet. Its place will be seen here.'))
			WHEN 'under way' THEN format('<p>%s</p>', crm.page_word(l, 'В пути', 'Under way'))
			ELSE format('<p class="good">%s</p>', crm.page_word(l, 'Прибыла', 'Arrived')) END
		|| crm.page_rows(
			ARRAY[crm.page_word(l, 'Куда', 'To'), crm.page_word(l, 'Груз', 'Load'), crm.page_word(l, 'Ожидаемое прибытие', 'Expected arrival'),
				crm.page_word(l, 'До места по прямой', 'Straight line left'), crm.page_word(l, 'Последняя отметка', 'Last position'),
				crm.page_word(l, 'Координаты', 'Coordinates'), crm.page_word(l, 'Прибыла', 'Arrived')],
			ARRAY[t.place_name, t.product, to_char(t.eta AT TIME ZONE t.zone, form),
				CASE WHEN t.distance_m IS NOT NULL THEN CASE WHEN t.distance_m < 1000 THEN crm.page_word(l, 'меньше 1 км', 'less than 1 km')
					ELSE format('%s %s', round(t.distance_m / 1000), crm.page_word(l, 'км', 'km')) END END,
				to_char(t.at AT TIME ZONE t.zone, form), to_char(t.lat, 'FM990.00000') || ', ' || to_char(t.lon, 'FM990.00000'),
				to_char(t.arrived_at AT TIME ZONE t.zone, form)])
		|| CASE WHEN map IS NOT NULL THEN format('<p><a href="%s" rel="noreferrer noopener">%s</a></p>', crm.html(map), crm.page_word(l, 'Показать на карте', 'Show on a map')) ELSE '' END
		|| CASE WHEN t.at < crm.now() - interval '15 minutes' THEN format('<p class="bad">%s</p>', crm.page_word(l, 'Отметок давно не было: машина вне связи.', 'No position for a while: the vehicle is out of reach.')) ELSE '' END
		|| format('<p class="note">%s %s. %s</p>', crm.page_word(l, 'Данные на', 'Data as of'), to_char(crm.now() AT TIME ZONE t.zone, 'HH24:MI'),
			crm.page_word(l, 'Время местное для места разгрузки. Страница обновляется сама раз в минуту.', 'Times are local at the place of unloading. The page loads itself again each minute.'));
	RETURN crm.page_answer(200, crm.page_html(crm.page_word(l, 'Машина ', 'Vehicle ') || t.plate, body, l, 60));
END
$$;
COMMENT ON FUNCTION crm.track_page(bigint, crm.http_request) IS 'Purpose track: the page of one trip for its client (claim 48): where the vehicle is, from departure to two hours after arrival, by crm.trip_page_rows at each look; no driver, no other vehicle, no other trip. Before the departure it says so, afterwards it is gone';

CREATE OR REPLACE FUNCTION crm.trip_track_link(trip_id bigint) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t crm.trip;
BEGIN
	SELECT * INTO t FROM crm.trip y WHERE y.id = trip_track_link.trip_id AND crm.sees_trip(y.id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no trip has number %s', coalesce(trip_id::text, 'NULL')), HINT = 'Give crm.trip.id.';
	END IF;
	IF t.state IN ('unloaded', 'cancelled') OR crm.now() > t.arrived_at + interval '2 hours' THEN
		RETURN NULL;
	END IF;
	RETURN crm.keep_link('track', 'trip', t.id, crm.now() + interval '31 days', t.company_id);
END
$$;
COMMENT ON FUNCTION crm.trip_track_link(bigint) IS 'The address of the page where a client sees the vehicle of a trip; made at the first call, the same at every later one. NULL for a trip that is over, and without crm.link_base(). Error 42704 no trip. Claim 48';

SELECT crm.register_link_purpose('track', 'crm.track_page', 0);
