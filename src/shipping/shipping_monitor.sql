-- shipping: the street monitor, a page with the queue of loading that is read from ten metres (claim 54a).

CREATE OR REPLACE FUNCTION crm.plate_masked(plate text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE
		WHEN k.plate ~ '^\D\d{3}\D{2}\d{2,3}$' THEN '*' || substr(k.plate, 2, 3) || '** ' || substr(k.plate, 7)
		WHEN k.plate ~ '^\D{2}\d{6,7}$' THEN '***' || substr(k.plate, 4, 3) || ' ' || substr(k.plate, 7)
		WHEN k.plate ~ '^\d{4}\D{2}\d{2,3}$' THEN '*' || substr(k.plate, 2, 3) || '** ' || substr(k.plate, 7)
		WHEN length(k.plate) > 4 THEN repeat('*', least(length(k.plate), 9) - 3) || right(k.plate, 3)
		ELSE '***' END
	FROM (SELECT upper(regexp_replace($1, '[[:space:]_-]+', '', 'g')) AS plate) AS k;
END;
COMMENT ON FUNCTION crm.plate_masked(text) IS 'A plate as everybody may see it: last three digits and region, *123** 77; of a plate of another make the last three signs';

CREATE OR REPLACE FUNCTION crm.monitor_slots(place_id bigint, from_at timestamptz, to_at timestamptz) RETURNS SETOF crm.slot
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	RETURN QUERY SELECT s.* FROM crm.slot s
		WHERE s.place_id = monitor_slots.place_id AND s.planned_from >= from_at AND s.planned_from < to_at AND s.kind = 'loading'
		ORDER BY s.planned_from LIMIT 300;
	-- a slot that names no place is for the only plant
	IF (SELECT count(*) = 1 AND bool_and(y.id = monitor_slots.place_id) FROM crm.place y WHERE y.kind = 'plant' AND y.archived_at IS NULL) THEN
		RETURN QUERY SELECT s.* FROM crm.slot s
			WHERE s.place_id IS NULL AND s.planned_from >= from_at AND s.planned_from < to_at AND s.kind = 'loading'
			ORDER BY s.planned_from LIMIT 300;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.monitor_slots(bigint, timestamptz, timestamptz) IS 'The slots of loading at a place in a span of time, at most 300; for the only plant those too that name no place';

CREATE OR REPLACE FUNCTION crm.monitor_rows(place_id bigint) RETURNS TABLE (slot_id bigint, plate text, planned_at timestamptz, gate text, state text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	zone text := (SELECT y.time_zone FROM crm.place y WHERE y.id = monitor_rows.place_id);
	now_ timestamptz := crm.now();
BEGIN
	RETURN QUERY
		SELECT s.id, crm.plate_masked(v.plate), s.planned_from, s.gate,
			CASE WHEN s.called_at <= now_ THEN 'called' WHEN s.arrived_at IS NOT NULL THEN 'waiting'
				WHEN now_ >= s.late_at THEN 'late' ELSE 'expected' END
		FROM crm.monitor_slots(monitor_rows.place_id, now_ - interval '6 hours',
			greatest(((now_ AT TIME ZONE zone)::date + 1)::timestamp AT TIME ZONE zone, now_ + interval '4 hours')) AS s
		CROSS JOIN LATERAL (SELECT y.plate FROM crm.vehicle y WHERE y.id = s.vehicle_id OFFSET 0) AS v
		LEFT JOIN LATERAL (SELECT y.loaded_at FROM crm.trip y WHERE y.id = s.trip_id OFFSET 0) AS t ON true
		WHERE s.cancelled_at IS NULL AND t.loaded_at IS NULL
			AND (s.called_at IS NULL OR s.called_at > now_ - interval '2 hours')
			AND (s.arrived_at IS NOT NULL OR now_ < s.late_at + interval '4 hours')
		ORDER BY s.called_at <= now_ DESC NULLS LAST, CASE WHEN s.called_at <= now_ THEN s.called_at END DESC, s.planned_from, s.id;
END
$$;
COMMENT ON FUNCTION crm.monitor_rows(bigint) IS 'The queue of loading at a place, today and the next four hours: those called first, the last one on top, then by planned time; state called, waiting (has checked in), late, expected. A vehicle leaves it when it is weighed with its load, two hours after its call, or four hours after it became late. Plates are masked; nobody''s name is in it. Claim 54a';

CREATE OR REPLACE FUNCTION crm.monitor_told(place_id bigint) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	now_ timestamptz := crm.now();
BEGIN
	RETURN (
		SELECT greatest(max(greatest(s.called_told_at, k.known_at, c.known_at, f.known_at)), (SELECT max(y.known_at) FROM crm.checkin y WHERE y.place_id = monitor_told.place_id))
		FROM crm.monitor_slots(monitor_told.place_id, now_ - interval '12 hours', now_ + interval '12 hours') AS s
		LEFT JOIN LATERAL (SELECT max(y.known_at) AS known_at FROM crm.slot_plan y WHERE y.slot_id = s.id OFFSET 0) AS k ON true
		LEFT JOIN LATERAL (SELECT max(y.known_at) AS known_at FROM crm.checkin y WHERE y.slot_id = s.id OFFSET 0) AS c ON true
		LEFT JOIN LATERAL (SELECT w.known_at FROM crm.vehicle_where(s.vehicle_id) w
			WHERE s.arrived_at IS NULL AND s.planned_from BETWEEN now_ - interval '4 hours' AND now_ + interval '4 hours' OFFSET 0) AS f ON true);
END
$$;
COMMENT ON FUNCTION crm.monitor_told(bigint) IS 'When the last thing became known that the street monitor of a place can show: a check-in there, a change or call of a slot of these twelve hours, a fix of a vehicle that is due; NULL: nothing yet. Business clock. Claim 54a';

CREATE OR REPLACE FUNCTION crm.monitor_page(link_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l       text := crm.page_language(request);
	place   crm.place;
	rows_   text;
	total   integer;
	pages   integer;
	page    integer;
	told    timestamptz;
	stale   boolean;
	per     constant integer := 10;
BEGIN
	IF request.method <> 'GET' THEN
		RETURN ROW (405, ARRAY['Allow: GET, HEAD'], NULL)::crm.http_response;
	END IF;
	SELECT y.* INTO place FROM crm.link k JOIN crm.place y ON y.id = k.object_id WHERE k.id = monitor_page.link_id AND k.object_kind = 'place';
	IF NOT FOUND THEN
		RETURN crm.link_gone();
	END IF;
	-- ten seconds a page, whoever looks
	SELECT count(*) INTO total FROM crm.monitor_rows(place.id) r;
	pages := greatest(1, (total + per - 1) / per);
	page := (floor(extract(epoch FROM crm.clock()) / 10)::bigint % pages)::integer;
	SELECT string_agg(format('<tr class="%s"><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>', r.state, crm.html(r.plate),
			to_char(r.planned_at AT TIME ZONE place.time_zone, 'HH24:MI'), crm.html(r.gate),
			CASE r.state WHEN 'called' THEN crm.page_word(l, 'ВЫЗВАН', 'CALLED') WHEN 'waiting' THEN crm.page_word(l, 'ЖДЁТ', 'WAITING')
				WHEN 'late' THEN crm.page_word(l, 'ОПАЗДЫВАЕТ', 'LATE') ELSE crm.page_word(l, 'ОЖИДАЕТСЯ', 'EXPECTED') END), E'\n' ORDER BY r.n)
	INTO rows_
	FROM crm.monitor_rows(place.id) WITH ORDINALITY AS r(slot_id, plate, planned_at, gate, state, n)
	WHERE r.n > page * per AND r.n <= (page + 1) * per;
	told := crm.monitor_told(place.id);
	stale := coalesce(told < crm.now() - interval '5 minutes', true);
	RETURN crm.page_answer(200, crm.page_html(crm.page_word(l, 'Очередь на погрузку: ', 'Queue of loading: ') || place.name,
		format(E'<h1>%s</h1>\n<p class="fresh%s">%s %s%s</p>\n<table>\n<tr><th scope="col">%s</th><th scope="col">%s</th><th scope="col">%s</th><th scope="col">%s</th></tr>\n%s\n</table>%s',
			crm.html(place.name), CASE WHEN stale THEN ' stale' ELSE '' END,
			crm.page_word(l, 'Данные на', 'Data as of'), coalesce(to_char(told AT TIME ZONE place.time_zone, 'HH24:MI'), '—'),
			CASE WHEN pages > 1 THEN format(' · %s/%s', page + 1, pages) ELSE '' END,
			crm.page_word(l, 'Машина', 'Vehicle'), crm.page_word(l, 'Время', 'Time'), crm.page_word(l, 'Ворота', 'Gate'), crm.page_word(l, 'Состояние', 'State'),
			coalesce(rows_, ''), CASE WHEN total = 0 THEN format('<p>%s</p>', crm.page_word(l, 'Очереди нет', 'Nobody is waiting')) ELSE '' END),
		l, 5,
'html,body{margin:0;height:100%;background:#000;color:#fff;font:600 5.2vh/1.1 system-ui,sans-serif;overflow:hidden}
h1{font-size:5.2vh;margin:1vh 2vw 0}.fresh{font-size:4vh;margin:0 2vw 1vh;color:#8f8}.stale{color:#fff;background:#c00000}
table{width:96vw;margin:0 2vw;border-collapse:collapse;table-layout:fixed}td,th{text-align:left;height:7.4vh;padding:0 1vw 0 0;white-space:nowrap;overflow:hidden}th{font-size:3.4vh;height:4vh;color:#bbb}
tr.called td{background:#0a6b2b}tr.late td{color:#ff6b5e}tr.expected td{color:#bbb}p{margin:2vh 2vw}'));
END
$$;
COMMENT ON FUNCTION crm.monitor_page(bigint, crm.http_request) IS 'Purpose monitor: the street monitor of a place (claim 54a). Loads itself again every five seconds; ten rows a page, the next ten after ten seconds; letters a twentieth of the screen''s height. Says when the last check-in, change of a slot or fix became known, in the place''s zone, red when that is over five minutes ago';

CREATE OR REPLACE FUNCTION crm.monitor_link(place_id bigint) RETURNS text
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM crm.place y WHERE y.id = monitor_link.place_id AND (y.company_id IS NULL AND crm.speaks() OR crm.sees_company(y.company_id))) THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no place has number %s', coalesce(place_id::text, 'NULL')), HINT = 'Give crm.place.id of the plant.';
	END IF;
	RETURN crm.keep_link('monitor', 'place', place_id);
END
$$;
COMMENT ON FUNCTION crm.monitor_link(bigint) IS 'The address of the street monitor of a place, the same at every call, until crm.close_links(''monitor'', ''place'', id, why). NULL without crm.link_base(). Error 42704 no place. Claim 54a';

SELECT crm.register_link_purpose('monitor', 'crm.monitor_page', 0);
