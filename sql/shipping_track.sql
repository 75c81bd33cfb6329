-- claim 48: a client's page of one trip: that vehicle only, from departure to two hours after arrival, whatever the link's expiry
\set ON_ERROR_STOP 1
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SET LOCAL crm.public_url = 'https://crm.example.com';
SELECT crm.set_now('2026-05-05 08:00Z', 0) IS NOT NULL, crm.activate('live');
INSERT INTO crm.company (id, name) VALUES (901, 'Stroy'), (903, 'Other client');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, time_zone) VALUES (901, 'Plant', 'plant', 37, 55, 500, 'Europe/Moscow'), (902, 'Site & yard', 'unloading', 37.5, 55, 400, 'Europe/Samara'), (903, 'Secret site', 'unloading', 37.9, 55, 400, 'Europe/Moscow');
INSERT INTO crm.vehicle (id, plate, driver, driver_phone) VALUES (901, 'А101ВС77', 'Иван Петров', '+79161234567');
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (901, 'N-1', 901, 902, 'Cement "500"'), (902, 'N-2', 903, 903, 'Lime');
CREATE FUNCTION pg_temp.ask(url text, query text DEFAULT 'lang=en') RETURNS text LANGUAGE sql AS $$
	SELECT h.status || E'\n' || CASE h.status WHEN 200 THEN regexp_replace(convert_from(h.body, 'UTF8'), '^.*<body>', '') ELSE '' END
	FROM crm.listener_handle(ARRAY[ROW ('GET', regexp_replace(url, '^https?://[^/]*', ''), query, E'Host: x\n', '', '127.0.0.1')::crm.http_request]) h
$$;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at, origin_place_id) VALUES (901, 901, 14000, 40000, '2026-05-05 07:55Z', 901);
SELECT id AS trip FROM crm.trip WHERE vehicle_id = 901 \gset
SELECT crm.trip_track_link(:trip) AS url \gset
SELECT :'url' = crm.trip_track_link(:trip), :'url' LIKE 'https://crm.example.com/l/track/%', (SELECT company_id FROM crm.link);
-- not left yet: nothing of where it is
SELECT crm.put_positions(ARRAY[901, 901], ARRAY['2026-05-05 07:58Z', '2026-05-05 07:59Z']::timestamptz[], ARRAY[37.0, 37.001], ARRAY[55.0, 55]);
SELECT pg_temp.ask(:'url');
-- under way
SELECT crm.set_now('2026-05-05 08:30Z', 0) IS NOT NULL;
SELECT crm.put_positions(ARRAY[901, 901, 901], ARRAY['2026-05-05 08:10Z', '2026-05-05 08:20Z', '2026-05-05 08:29Z']::timestamptz[], ARRAY[37.05, 37.12, 37.2], ARRAY[55.0, 55, 55]);
SELECT pg_temp.ask(:'url');
SELECT pg_temp.ask(:'url', '') ~ 'Петров|7916|Secret|N-2' AS too_much, pg_temp.ask(:'url', '') ~ 'В пути' AS russian;
-- another map, or none
SET LOCAL crm.map_url = 'https://map.example/?a={lat}&b={lon}';
SELECT substring(pg_temp.ask(:'url') FROM '<a [^>]*>');
SET LOCAL crm.map_url = '';
SELECT pg_temp.ask(:'url') LIKE '%<a %';
\set ON_ERROR_STOP 0
SAVEPOINT bad;
SET LOCAL crm.map_url = 'https://map.example/';
ROLLBACK TO bad;
SET LOCAL crm.map_url = 'https://map.example/{lat}{lon}">';
ROLLBACK TO bad;
\set ON_ERROR_STOP 1
-- silent for a while
SELECT crm.set_now('2026-05-05 08:50Z', 0) IS NOT NULL;
SELECT pg_temp.ask(:'url') LIKE '%out of reach%';
-- arrived: the time, and no coordinates
SELECT crm.set_now('2026-05-05 09:10Z', 0) IS NOT NULL;
SELECT crm.put_positions(ARRAY[901, 901, 901], ARRAY['2026-05-05 09:00Z', '2026-05-05 09:05Z', '2026-05-05 09:08Z']::timestamptz[], ARRAY[37.45, 37.5, 37.5], ARRAY[55.0, 55, 55]);
SELECT pg_temp.ask(:'url');
-- gone from there to the next client: still only the arrival
SELECT crm.set_now('2026-05-05 10:30Z', 0) IS NOT NULL;
SELECT crm.put_positions(ARRAY[901, 901], ARRAY['2026-05-05 09:40Z', '2026-05-05 10:20Z']::timestamptz[], ARRAY[37.6, 37.9], ARRAY[55.0, 55]);
SELECT state FROM crm.trip WHERE id = :trip;
SELECT pg_temp.ask(:'url') ~ '37\.9|km' AS where_else;
-- two hours after the arrival it is gone, though the link would last a month
SELECT arrived_at AS arrived FROM crm.trip WHERE id = :trip \gset
SELECT crm.set_now(:'arrived'::timestamptz + interval '2 hours', 0) IS NOT NULL;
SELECT left(pg_temp.ask(:'url'), 3);
SELECT crm.set_now(:'arrived'::timestamptz + interval '2 hours 1 second', 0) IS NOT NULL;
SELECT left(pg_temp.ask(:'url'), 3), crm.trip_track_link(:trip), expires_at > crm.now() + interval '29 days' FROM crm.link;
-- a vehicle that was silent and carries another client's load now is not shown
INSERT INTO crm.vehicle (id, plate) VALUES (902, 'А102ВС77');
SELECT crm.set_now('2026-05-06 08:00Z', 0) IS NOT NULL;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at, origin_place_id) VALUES (901, 902, 14000, 40000, '2026-05-06 07:55Z', 901);
SELECT crm.put_positions(ARRAY[902, 902, 902], ARRAY['2026-05-06 07:58Z', '2026-05-06 07:59Z', '2026-05-06 08:05Z']::timestamptz[], ARRAY[37.0, 37.0, 37.05], ARRAY[55.0, 55, 55]);
SELECT id AS first FROM crm.trip WHERE vehicle_id = 902 \gset
SELECT crm.trip_track_link(:first) AS silent \gset
SELECT left(pg_temp.ask(:'silent'), 3);
SELECT crm.set_now('2026-05-06 14:00Z', 0) IS NOT NULL;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at, origin_place_id) VALUES (902, 902, 14000, 40000, '2026-05-06 13:55Z', 901);
SELECT state FROM crm.trip WHERE vehicle_id = 902 ORDER BY id;
SELECT left(pg_temp.ask(:'silent'), 3);
-- cancelled
UPDATE crm.trip SET state = 'cancelled' WHERE vehicle_id = 902;
SELECT left(pg_temp.ask(:'silent'), 3), crm.trip_track_link(:first);
\set ON_ERROR_STOP 0
SELECT crm.trip_track_link(-1);
ROLLBACK;
