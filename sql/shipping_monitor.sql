-- claim 54a: the street monitor: masked plates, called, waiting, late and expected, ten rows a page, its own freshness
-- A feed that has stopped shows: the line says since when, red after five minutes.
\set ON_ERROR_STOP 1
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';
SET client_min_messages = warning;
SELECT p, crm.plate_masked(p) FROM unnest(ARRAY['А123ВС77', 'а 123 вс 777', 'A-123-BC 199', 'АА1234 77', '1234АБ77', 'АА123456', 'AB-4567-7', '12-ABC', 'X1', '', NULL]) p;
BEGIN;
SET LOCAL crm.public_url = 'https://crm.example.com';
SELECT crm.set_now('2026-05-05 06:40Z', 0) IS NOT NULL, crm.activate('live');
INSERT INTO crm.company (id, name, is_carrier) VALUES (902, 'Haul', true);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, time_zone) VALUES (901, 'Plant <1>', 'plant', 37, 55, 500, 'Europe/Moscow'), (902, 'Other', 'plant', 38, 55, 500, 'Asia/Yekaterinburg');
INSERT INTO crm.vehicle (id, plate, carrier_id, driver, driver_phone) SELECT 900 + i, format('А%sВС77', 100 + i), 902, 'Иван Петров', '+79161234567' FROM generate_series(1, 14) i;
INSERT INTO crm.slot (id, place_id, vehicle_id, planned_from, gate, source_id)
SELECT 900 + i, 901, 900 + i, '2026-05-05 06:30Z'::timestamptz + i * interval '10 minutes', i % 3 + 1, 's' || i FROM generate_series(1, 13) i;
INSERT INTO crm.slot (id, place_id, vehicle_id, planned_from, kind, source_id) VALUES (931, 902, 914, '2026-05-05 07:00Z', 'loading', 'o'), (932, 901, 914, '2026-05-05 07:00Z', 'unloading', 'u');
INSERT INTO crm.slot (id, place_id, planned_from, source_id) VALUES (933, 901, '2026-05-05 07:00Z', 'n');
SELECT crm.set_now('2026-05-05 07:02:00Z', 0) IS NOT NULL;
INSERT INTO crm.checkin (vehicle_id, place_id, at, means, source, source_id) VALUES (902, 901, '2026-05-05 06:58Z', 'gate', 'erp', 'a'), (903, 901, '2026-05-05 07:00Z', 'bot', 'bot', 'b'), (905, 901, '2026-05-05 07:01Z', 'gate', 'erp', 'c');
UPDATE crm.slot SET called_at = crm.now() WHERE id = 903;
UPDATE crm.slot SET cancelled_at = crm.now() WHERE id = 906;
SELECT r.slot_id, r.plate, r.planned_at::time, r.gate, r.state FROM crm.monitor_rows(901) r;
SELECT r.plate FROM crm.monitor_rows(902) r;
SELECT crm.monitor_told(901)::time;
CREATE FUNCTION pg_temp.ask(url text, query text DEFAULT '', method text DEFAULT 'GET') RETURNS text LANGUAGE sql AS $$
	SELECT h.status || E'\n' || coalesce(convert_from(h.body, 'UTF8'), '')
	FROM crm.listener_handle(ARRAY[ROW (method, regexp_replace(url, '^https?://[^/]*', ''), query, E'Host: x\n', '', '127.0.0.1')::crm.http_request]) h
$$;
SELECT crm.monitor_link(901) AS url \gset
SELECT :'url' = crm.monitor_link(901), :'url' LIKE 'https://crm.example.com/l/monitor/%';
SELECT pg_temp.ask(:'url');
-- the second page ten seconds later, in English; no driver, no telephone, no whole plate on either
SELECT crm.set_now('2026-05-05 07:02:10Z', 0) IS NOT NULL;
SELECT regexp_replace(pg_temp.ask(:'url', 'lang=en'), '^.*<body>', '');
SELECT pg_temp.ask(:'url') ~ 'Петров|7916|А1\d\dВС' AS personal;
-- a check-in is there at the next look
SELECT crm.set_now('2026-05-05 07:02:25Z', 0) IS NOT NULL;
INSERT INTO crm.checkin (vehicle_id, place_id, at, means, source, source_id) VALUES (901, 901, '2026-05-05 07:02:24Z', 'gate', 'erp', 'd');
SELECT crm.set_now('2026-05-05 07:02:40Z', 0) IS NOT NULL;
SELECT substring(pg_temp.ask(:'url') FROM '<tr class="[a-z]*"><td>\*101[^\n]*');
-- weighed with its load: out of the queue
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (901, 'N', 902, 'Cement');
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at, origin_place_id) VALUES (901, 903, 14000, 40000, '2026-05-05 07:02:30Z', 901);
SELECT string_agg(r.slot_id || ' ' || r.state, ', ') FROM crm.monitor_rows(901) r;
-- the feed stops: the line says since when, and turns red after five minutes; a fix of a vehicle that is due counts as news
SELECT crm.set_now('2026-05-05 07:07:25Z', 0) IS NOT NULL;
SELECT substring(pg_temp.ask(:'url') FROM '<p class="fresh[^\n]*');
SELECT crm.set_now('2026-05-05 07:07:41Z', 0) IS NOT NULL;
SELECT substring(pg_temp.ask(:'url') FROM '<p class="fresh[^\n]*');
SELECT crm.put_positions(ARRAY[907], ARRAY['2026-05-05 07:07:30Z']::timestamptz[], ARRAY[36.5], ARRAY[55.0]);
SELECT substring(pg_temp.ask(:'url') FROM '<p class="fresh[^\n]*');
-- nobody is due, nothing was ever told
INSERT INTO crm.place (id, name, kind) VALUES (903, 'Empty', 'other');
SELECT crm.monitor_link(903) AS other \gset
SELECT regexp_replace(pg_temp.ask(:'other'), '^.*<body>', '');
-- it is looked at and nothing else; closed, it is gone
SELECT pg_temp.ask(:'url', '', 'POST');
SELECT crm.close_links('monitor', 'place', 901, 'the screen was stolen');
SELECT left(pg_temp.ask(:'url'), 3), :'url' = crm.monitor_link(901);
\set ON_ERROR_STOP 0
SELECT crm.monitor_link(999);
ROLLBACK;
