-- claim 73: the carrier's page of a claim: its facts, an explanation with files, sent twice is one; what cannot be taken is said on the page
\set ON_ERROR_STOP 1
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SET LOCAL crm.public_url = 'https://crm.example.com';
SELECT crm.set_now('2026-05-05 06:00Z', 0) IS NOT NULL, crm.activate('live');
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul <&> Sons', true);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500);
INSERT INTO crm.vehicle (id, plate, carrier_id) VALUES (901, 'А101ВС77', 902);
INSERT INTO crm.contract (id, carrier_id, number) VALUES (901, 902, 'D-1');
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff) VALUES (901, 901, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 15, "roubles": 500}]');
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (901, 'N', 901, 'Cement');
INSERT INTO crm.slot (id, place_id, vehicle_id, order_id, planned_from, source_id) VALUES (901, 901, 901, 901, '2026-05-05 07:00Z', 's');
SELECT crm.set_now('2026-05-05 08:15Z', 0) IS NOT NULL;
INSERT INTO crm.checkin (vehicle_id, place_id, slot_id, at, means, source, source_id) VALUES (901, 901, 901, '2026-05-05 08:15Z', 'gate', 'erp', 'a');
SELECT crm.set_now('2026-05-05 09:00Z', 0) IS NOT NULL;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at, origin_place_id) VALUES (901, 901, 14000, 40000, '2026-05-05 08:50Z', 901);
SELECT crm.make_claim(l.id) AS claim FROM crm.lateness l WHERE l.superseded_at IS NULL AND l.penalty > 0 \gset
-- the number of the claim is not fixed
CREATE FUNCTION pg_temp.ask(url text, body text DEFAULT NULL, bytes bytea DEFAULT NULL) RETURNS text LANGUAGE sql AS $$
	SELECT h.status || E'\n' || regexp_replace(regexp_replace(regexp_replace(coalesce(convert_from(h.body, 'UTF8'), ''), '^.*<body>', ''),
		'value="[A-Za-z0-9]{22}"', 'value="…"', 'g'), '(Claim|scope="row">(?:Claim|Number)</th><td>)( ?)\d+', '\1\2#', 'g')
	FROM crm.listener_handle(ARRAY[ROW (CASE WHEN body IS NULL AND bytes IS NULL THEN 'GET' ELSE 'POST' END, regexp_replace(url, '^https?://[^/]*', ''), '',
		E'Accept-Language: en-GB,en;q=0.9\nContent-Type: multipart/form-data; boundary=x\n', coalesce(bytes, convert_to(replace(body, E'\n', E'\r\n'), 'UTF8')), '127.0.0.1')::crm.http_request]) h
$$;
CREATE FUNCTION pg_temp.part(name text, content text, file_name text DEFAULT NULL, type text DEFAULT 'application/pdf') RETURNS text LANGUAGE sql AS $$
	SELECT format(E'--x\nContent-Disposition: form-data; name="%s"%s\n\n%s\n', name, CASE WHEN file_name IS NULL THEN '' ELSE format(E'; filename="%s"\nContent-Type: %s', file_name, type) END, content)
$$;
SELECT crm.make_link('carrier', 'claim', :claim, '2026-06-05 00:00Z', NULL, 902) AS url \gset
SELECT pg_temp.ask(:'url');
-- Russian where the browser names nothing else
SELECT (SELECT count(*) FROM crm.claim_page_rows(:claim)), (SELECT value FROM crm.claim_page_rows(:claim) WHERE label = 'Чем доказано'), (SELECT count(*) FROM crm.claim_page_rows(-1));
-- nothing said, too many files, an empty file, no form at all: said on the page, and nothing is kept
SELECT substring(pg_temp.ask(:'url', pg_temp.part('text', '  ') || '--x--') FROM '^422|role="alert">[^<]*'), substring(pg_temp.ask(:'url', pg_temp.part('text', '  ') || '--x--') FROM 'role="alert">([^<]*)');
SELECT substring(pg_temp.ask(:'url', pg_temp.part('text', 'A jam & <b>more</b>') || repeat(pg_temp.part('file', 'f', 'a.pdf'), 6) || '--x--') FROM 'role="alert">([^<]*)');
SELECT substring(pg_temp.ask(:'url', pg_temp.part('text', 'A jam & <b>more</b>') || repeat(pg_temp.part('file', 'f', 'a.pdf'), 6) || '--x--') FROM '<textarea.*</textarea>');
SELECT substring(pg_temp.ask(:'url', pg_temp.part('text', 'A jam') || pg_temp.part('file', '', 'a.pdf') || '--x--') FROM 'role="alert">([^<]*)');
SELECT substring(pg_temp.ask(:'url', pg_temp.part('text', 'A jam') || pg_temp.part('file', repeat('f', 5300000), 'a.pdf') || pg_temp.part('file', repeat('f', 5300000), 'b.pdf') || '--x--') FROM 'role="alert">([^<]*)');
SELECT substring(pg_temp.ask(:'url', repeat('x', 10747905)) FROM '^...');
SELECT substring(pg_temp.ask(:'url', NULL, '\x00ff0d0a') FROM 'role="alert">([^<]*)');
SELECT count(*) FROM crm.explanation;
SELECT max(used) FROM crm.link WHERE company_id = 902;
-- taken, with files; a second click is the same one
SELECT pg_temp.part('once', 'o1') || pg_temp.part('text', E'A jam on <the> road\nand "snow"') || pg_temp.part('file', '%PDF', '../акт №1.pdf') || pg_temp.part('file', '', '') || pg_temp.part('file', 'jpg', 'b.jpg', 'strange') || '--x--' AS body \gset
SELECT pg_temp.ask(:'url', :'body') AS first \gset
SELECT :'first';
SELECT :'first' = pg_temp.ask(:'url', :'body');
SELECT e.claim_id = :claim, e.text_, e.by <> '' FROM crm.explanation e;
SELECT f.name, f.media_type, convert_from(f.content, 'UTF8') FROM crm.explanation_file f ORDER BY f.id;
SELECT max(used) FROM crm.link WHERE company_id = 902;
SELECT substring(pg_temp.ask(:'url') FROM '<h2>Your explanation.*');
-- too late, and decided
SELECT crm.set_now('2026-05-11 09:00Z', 0) IS NOT NULL;
SELECT pg_temp.ask(:'url') LIKE '%<form%', substring(pg_temp.ask(:'url', pg_temp.part('text', 'Another jam') || '--x--') FROM 'role="alert">([^<]*)');
-- a link about something else, or about nothing
SELECT left(pg_temp.ask(crm.make_link('carrier', 'trip', 1, NULL)), 3), left(pg_temp.ask(crm.make_link('carrier', 'claim', -1, NULL)), 3);
ROLLBACK;
