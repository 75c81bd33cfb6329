-- Each shipped rule about trips: its message once, none where it must not go, a preview with parts.
-- claim 48: the departure with the link of the track, our page's or the GPS service's where it is there in time
-- claim 49: the approach by metres and by minutes, per client; claim 50: the arrival with dwell, no drive past
-- claim 64: a series is told in its order, or not at all; in a digest too; claim 70: SMS at a place without internet, and the text stands without its link
\getenv abs_srcdir PG_ABS_SRCDIR
\set setup :abs_srcdir '/test/data/robots.sql'
\set ECHO none
\i :setup
\set ECHO all
INSERT INTO crm.company (id, name) VALUES (901, 'Stroy'), (902, 'Beton');
INSERT INTO crm.contact (id, company_id, name, language, channel) VALUES (901, 901, 'Anna', 'en', NULL), (902, 902, 'Борис', 'ru', 'telegram');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '+79161234561'), (902, 'phone', '+79161234562'), (902, 'telegram', '4002'), (902, 'email', 'boris@example.com');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, no_internet) VALUES (901, 'Plant', 'plant', 37, 55, 500, false), (902, 'Site 4', 'unloading', 37.5, 55, 400, false), (903, 'Quarry', 'unloading', 37.5, 55, 400, true), (904, 'Next door', 'unloading', 37.08, 55, 400, false);
INSERT INTO crm.vehicle (id, plate) SELECT 900 + i, 'A00' || i FROM generate_series(1, 20) i;
-- by metres: 2 km and 8 km; by minutes: 20
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product, tonnes, approach_km, approach_minutes)
SELECT 900 + i, 'N-' || i, c, c, p, 'cement', 20, km, minutes FROM (VALUES (1, 901, 902, 2, NULL), (2, 901, 902, 8, NULL), (3, 901, 902, 1, 20), (4, 902, 902, NULL, NULL), (5, 902, 903, NULL, NULL), (6, 901, 904, NULL, NULL),
	(7, 901, 902, NULL, NULL), (8, 901, 902, NULL, NULL), (9, 901, 902, NULL, NULL), (10, 901, 902, NULL, NULL), (11, 901, 902, NULL, NULL), (12, 901, 902, NULL, NULL)) v(i, c, p, km, minutes);
CREATE FUNCTION pg_temp.load(i integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, waybill, weighed_at) VALUES (900 + i, 900 + i, 14000, 34000, 'W-' || i, crm.now());
	RETURN QUERY SELECT pg_temp.leave();
END $$;
-- fix k: half minutes after the load, 0.01 degrees (640 m) each from the fifth on; a courier after each batch
CREATE FUNCTION pg_temp.fixes(i integer, t0 timestamptz, ks integer[], stop double precision DEFAULT 37.5) RETURNS void LANGUAGE sql AS $$
	SELECT crm.put_positions(array_fill(900 + i::bigint, ARRAY[cardinality(ks)]), array_agg(t0 + k * interval '30 seconds' ORDER BY n), array_agg(least(stop, 37 + greatest(0, k - 5) * 0.01) ORDER BY n), array_fill(55::float8, ARRAY[cardinality(ks)]))
	FROM unnest(ks) WITH ORDINALITY AS u(k, n) $$;
CREATE FUNCTION pg_temp.drive(i integer, from_k integer, to_k integer, batch integer DEFAULT 6) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	t0 timestamptz := (SELECT t.loaded_at FROM crm.trip t WHERE t.vehicle_id = 900 + i ORDER BY t.id DESC LIMIT 1);
	ks integer[];
BEGIN
	FOR ks IN SELECT array_agg(k ORDER BY n) FROM generate_series(from_k, to_k, sign(to_k - from_k)::integer) WITH ORDINALITY AS u(k, n) GROUP BY (n - 1) / batch ORDER BY (n - 1) / batch LOOP
		PERFORM crm.set_now(greatest(crm.clock(), t0 + (SELECT max(k) FROM unnest(ks) k) * interval '30 seconds'), 0);
		PERFORM pg_temp.fixes(i, t0, ks);
		PERFORM crm.courier_due(1);
		RETURN QUERY SELECT format('fix %s: ', ks[cardinality(ks)]) || l FROM pg_temp.leave() l;
	END LOOP;
END $$;
UPDATE crm.rule SET switched = false WHERE code LIKE 'shipment.%';
\echo -- wishes of three clients on one road: at 2 km, at 8 km, twenty minutes before
SELECT pg_temp.load(1), pg_temp.load(2), pg_temp.load(3);
SELECT pg_temp.drive(1, 1, 60);
SELECT pg_temp.drive(2, 1, 60);
SELECT pg_temp.drive(3, 1, 60);
\echo -- the same fixes once more: nothing
SELECT pg_temp.fixes(1, '2026-11-24 09:00Z', ARRAY(SELECT generate_series(1, 60)));
SELECT pg_temp.leave();
\echo -- the page behind the link: under way, two hours after the arrival no more; that vehicle only
SELECT crm.trip_track_link(t.id) AS url, (regexp_match(b.body, 'https\S+'))[1] = crm.trip_track_link(t.id) AS in_the_message FROM crm.trip t JOIN crm.message_body b ON b.object_id = t.id AND b.body LIKE '%left the plant%' WHERE t.vehicle_id = 901 \gset
SELECT :'in_the_message', left(pg_temp.ask(:'url'), 40);
SELECT pg_temp.at('2026-11-24 11:30Z');
SELECT pg_temp.ask(:'url');
\echo -- by the chat of the reader, with his letter of the arrival; at a place without internet by SMS
SELECT pg_temp.load(4);
SELECT pg_temp.drive(4, 1, 60);
SELECT pg_temp.load(5);
SELECT pg_temp.drive(5, 1, 60);
\echo -- nearer than the distance of the approach: both at once, in their order
SELECT pg_temp.load(6);
SELECT pg_temp.fixes(6, crm.now(), ARRAY(SELECT generate_series(1, 9)), 37.06);
SELECT pg_temp.at(crm.now() + interval '5 minutes');
\echo -- in reverse fix by fix; all at once: what is overtaken is not told
SELECT pg_temp.load(7);
SELECT pg_temp.drive(7, 60, 1, 1);
SELECT pg_temp.load(8);
SELECT pg_temp.drive(8, 60, 1, 60);
\echo -- the approach is known before the departure: the departure is no news any more, link or not
SELECT pg_temp.load(9);
SELECT pg_temp.drive(9, 48, 50);
SELECT pg_temp.drive(9, 3, 8);
SELECT m.rule, m.state, m.last_error FROM crm.message m JOIN crm.trip t ON t.id = m.object_id AND t.vehicle_id = 909 WHERE m.object_kind = 'trip' ORDER BY m.id;
\echo -- a drive past without a stop is no arrival; five times over the border of the approach are one message
SELECT pg_temp.load(10);
SELECT pg_temp.drive(10, 1, 8);
SELECT crm.set_now(crm.now() + interval '20 minutes', 0) IS NOT NULL;
SELECT crm.put_positions(array_fill(910::bigint, ARRAY[10]), array_agg(crm.now() + k * interval '1 minute'), array_agg(CASE WHEN k % 2 <> 0 THEN 37.36 ELSE 37.33 END), array_fill(55::float8, ARRAY[10])) FROM generate_series(-9, 0) k;
SELECT pg_temp.leave();
SELECT crm.set_now(crm.now() + interval '10 minutes', 0) IS NOT NULL;
SELECT crm.put_positions(ARRAY[910, 910, 910], ARRAY[crm.now() - interval '2 minutes', crm.now() - interval '90 seconds', crm.now() - interval '1 minute'], ARRAY[37.49, 37.502, 37.515], ARRAY[55.0, 55, 55]);
SELECT pg_temp.leave();
SELECT state FROM crm.trip WHERE vehicle_id = 910;
\echo -- at night the approach goes, the departure waits for the morning; the arrival takes it back
SELECT crm.set_now('2026-11-24 20:00Z', 0) IS NOT NULL;
SELECT pg_temp.load(11);
SELECT pg_temp.drive(11, 1, 45);
SELECT m.rule, m.state, m.not_before FROM crm.message m JOIN crm.trip t ON t.id = m.object_id AND t.vehicle_id = 911 WHERE m.object_kind = 'trip' ORDER BY m.id;
SELECT pg_temp.drive(11, 46, 60);
SELECT pg_temp.at('2026-11-25 05:01Z');
SELECT m.rule, m.state, m.last_error FROM crm.message m JOIN crm.trip t ON t.id = m.object_id AND t.vehicle_id = 911 WHERE m.object_kind = 'trip' ORDER BY m.id;
\echo -- departures in a digest: those that have come near meanwhile are left out
UPDATE crm.rule SET priority = 1, digest = '28 minutes', condition = NULL WHERE code = 'trip.departed' RETURNING broken;
SELECT pg_temp.load(12), pg_temp.load(1);
SELECT pg_temp.drive(12, 1, 7);
SELECT pg_temp.drive(1, 1, 57);
SELECT pg_temp.at(crm.now() + interval '3 minutes');
SELECT e.data ->> 'order_number', i.words FROM crm.digest_item i JOIN crm.event e ON e.id = i.event_id ORDER BY 1;
UPDATE crm.rule SET priority = 2, digest = NULL WHERE code = 'trip.departed' RETURNING broken;

\echo -- a link of the GPS service, where the integration makes one for each departure: the message waits for it, once
SELECT crm.add_integration('wialon', 'gps_wialon', 'http://127.0.0.1:1/', '{"locator_auto": true, "locator_site": "https://hosting.example.com"}') AS wialon \gset
UPDATE crm.rule SET condition = '(data ->> ''track_by'') IS DISTINCT FROM ''locator''' WHERE code = 'trip.departed';
UPDATE crm.vehicle SET gps_integration_id = :wialon, gps_unit = '7' || id WHERE id IN (902, 903);
SELECT pg_temp.load(2), pg_temp.load(3);
SELECT pg_temp.drive(2, 1, 7, 7);
SELECT pg_temp.drive(3, 1, 7, 7);
SELECT e.data ->> 'track_by' FROM crm.event e WHERE e.kind = 'trip.departed' ORDER BY e.id DESC LIMIT 2;
SELECT id AS link FROM crm.locator_link WHERE vehicle_id = 902 \gset
UPDATE crm.locator_link SET state = 'live', token = 'abcdefghijklmnop', live_at = crm.now(), expires_at = crm.now() + interval '1 day' WHERE id = :link;
SELECT crm.track_link_told(:link, crm.track_url(trip_id)) FROM crm.locator_link WHERE id = :link;
SELECT pg_temp.leave();
\echo -- not there in time: that of our own page; when it comes later nothing is said
SELECT pg_temp.at(crm.now() + interval '50 seconds');
SELECT pg_temp.at(crm.now() + interval '20 seconds');
UPDATE crm.locator_link SET state = 'live', token = 'bcdefghijklmnopq', live_at = crm.now(), expires_at = crm.now() + interval '1 day' WHERE vehicle_id = 903;
SELECT crm.track_link_told(id, crm.track_url(trip_id)) FROM crm.locator_link WHERE vehicle_id = 903;
SELECT pg_temp.at(crm.now() + interval '2 minutes');
SELECT count(*), count(*) FILTER (WHERE data ->> 'departure' = '1') FROM crm.event WHERE kind = 'trip.track_link';
-- measured from the fix that proved the departure
SELECT l.rule, l.event_kind, EXISTS (SELECT FROM crm.fact_trip_fix f WHERE f.object_id = l.trip_id AND f.kind = 'trip.departed' AND (f.fix_at AT TIME ZONE crm.kpi_zone())::timestamp(3) = l.fix_at) FROM crm_bi.notice_latency l WHERE l.rule = 'trip.departed.locator' ORDER BY l.message_id;
\echo -- nothing that a link could begin with: the text stands without it
SET LOCAL crm.public_url = '';
SELECT pg_temp.load(4);
SELECT pg_temp.drive(4, 1, 8);
SELECT '[' || body || ']' FROM crm.message ORDER BY id DESC LIMIT 1;
SELECT severity, message FROM crm.link_health();
SET LOCAL crm.public_url = 'https://crm.example.com';
\echo -- switched off: nothing
UPDATE crm.rule SET switched = false WHERE code LIKE 'trip.%';
SELECT pg_temp.load(5);
SELECT pg_temp.drive(5, 1, 60);
\echo -- how they read
SELECT r.code, pg_temp.previews(r.code) FROM crm.rule r WHERE r.code LIKE 'trip.%' ORDER BY r.id;
SELECT promise FROM crm.selftest() WHERE NOT ok AND promise NOT LIKE 'sequences%';
ROLLBACK;
