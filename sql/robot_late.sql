-- Each shipped rule about late drivers, claims and arrived wagons: its message once, none where it must not go, a preview with parts.
-- claims 54 to 56, 73 and 74: each notice to a carrier holds his link; what he explains of a late driver is the explanation of the claim that follows
\getenv abs_srcdir PG_ABS_SRCDIR
\set setup :abs_srcdir '/test/data/robots.sql'
\set ECHO none
\i :setup
\set ECHO all
INSERT INTO crm.company (id, name, is_carrier, language) VALUES (901, 'Stroy', false, 'ru'), (902, 'Haul', true, 'en');
INSERT INTO crm.contact (id, company_id, name) VALUES (901, 901, 'Client'), (902, 902, 'Dispatcher');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (902, 'phone', '+79161234562'), (902, 'email', 'd@haul.example'), (901, 'phone', '+79161234561');
INSERT INTO crm.contract (id, carrier_id, number, auto_claim, explain_days) VALUES (901, 902, 'D-1', true, 3);
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff) VALUES (901, 901, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 1, "roubles": 100}]');
INSERT INTO crm.place (id, name, kind) VALUES (901, 'Завод', 'plant');
INSERT INTO crm.vehicle (id, plate, carrier_id) SELECT 900 + i, 'T' || i, CASE WHEN i < 9 THEN 902 END FROM generate_series(1, 9) i;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, product) VALUES (901, 'N', 901, 901, 'Cement');
INSERT INTO crm.slot (id, vehicle_id, order_id, place_id, planned_from, source_id) SELECT 900 + i, 900 + i, 901, 901, '2026-11-24 09:30Z', 's' || i FROM generate_series(1, 9) i WHERE i NOT IN (4, 5, 6, 7, 8);
ALTER SEQUENCE crm.claim_id_seq RESTART 901;
UPDATE crm.rule SET switched = false WHERE code LIKE 'shipment.%';
\echo -- plan and grace of fifteen minutes are over: the carrier, and the client who fetches himself; not for one who was there
SELECT crm.set_now('2026-11-24 09:40Z', 0) IS NOT NULL;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (903, '2026-11-24 09:40Z', 'gate', 'erp', 'c3');
SELECT crm.slots_due();
SELECT pg_temp.at('2026-11-24 09:45Z'), crm.slots_due();
SELECT crm.set_now('2026-11-24 09:45:01Z', 0) IS NOT NULL, crm.slots_due();
SELECT pg_temp.leave();
SELECT crm.slots_due();
SELECT pg_temp.at('2026-11-24 09:50Z');
SELECT pg_temp.previews('slot.late');
\echo -- the notice is still here when he comes: cancelled
INSERT INTO crm.slot (id, vehicle_id, order_id, place_id, planned_from, source_id) VALUES (904, 904, 901, 901, '2026-11-24 09:40Z', 's4');
SELECT crm.set_now('2026-11-24 09:56Z', 0) IS NOT NULL, crm.slots_due();
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (904, '2026-11-24 09:55Z', 'gate', 'erp', 'c4');
SELECT pg_temp.leave();
SELECT state, last_error FROM crm.message ORDER BY id DESC LIMIT 1;
\echo -- his link: what it shows, why he is late, with a file; twice is once; what cannot be taken is said
SELECT (regexp_match(m.body, 'https\S+'))[1] AS url FROM crm.message m WHERE m.object_id = 901 AND m.rule = 'slot.late' \gset
SELECT pg_temp.ask(:'url');
CREATE FUNCTION pg_temp.form(words text, file text DEFAULT NULL, once text DEFAULT 'a1') RETURNS text LANGUAGE sql AS $$
	SELECT format(E'--b\r\nContent-Disposition: form-data; name="once"\r\n\r\n%s\r\n--b\r\nContent-Disposition: form-data; name="text"\r\n\r\n%s\r\n', once, words)
		|| coalesce(format(E'--b\r\nContent-Disposition: form-data; name="file"; filename="road.txt"\r\nContent-Type: text/plain\r\n\r\n%s\r\n', file), '') || E'--b--\r\n' $$;
SELECT pg_temp.ask(:'url', 'POST', pg_temp.form(' '));
SELECT regexp_replace(pg_temp.ask(:'url', 'POST', pg_temp.form('The bridge is closed', 'photo', 'a2')), 'Number \d+', 'Number …');
SELECT count(*) FROM crm.explanation WHERE pg_temp.ask(:'url', 'POST', pg_temp.form('The bridge is closed', 'photo', 'a2')) LIKE '200%';
SELECT e.slot_id, e.claim_id, e.text_, f.name, f.content FROM crm.explanation e JOIN crm.explanation_file f ON f.explanation_id = e.id;
SELECT kind, data ->> 'words' FROM crm.event WHERE kind = 'slot.explained';
SELECT crm.explain_slot(-1, 'x');
SELECT crm.explain_slot(903, 'x', '{a}', '{image/png}', ARRAY[''::bytea]);
\echo -- 75 minutes late, 60 free: the claim, its letter at the next look of the courier and not in the housekeeping, and the short message with the same link
SELECT crm.set_now('2026-11-24 10:45Z', 0) IS NOT NULL;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) SELECT 900 + i, '2026-11-24 10:45Z', 'gate', 'erp', 'c' || i FROM generate_series(1, 2) i;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) SELECT 901, 900 + i, 14000, 34000, '2026-11-24 10:45Z' FROM generate_series(1, 3) i;
SELECT left(x, 250) FROM pg_temp.at('2026-11-24 10:46Z') x;
SELECT (regexp_match(a.body, 'https\S+'))[1] = (regexp_match(b.body, 'https\S+'))[1] FROM crm.message a, crm.message b WHERE a.channel = 'email' AND a.body LIKE '%T2 was%' AND b.rule = 'claim.made' AND b.body LIKE '%T2,%';
SELECT pg_temp.at('2026-11-24 10:50Z');
\echo -- what he had said of the late driver is there, with its file; the other one waits for him
SELECT c.id, c.state, e.text_, f.name FROM crm.claim c LEFT JOIN crm.explanation e ON e.claim_id = c.id LEFT JOIN crm.explanation_file f ON f.explanation_id = e.id ORDER BY c.id;
SELECT crm.explain_slot(902, 'And mine too') > 0, (SELECT state FROM crm.claim WHERE id = 902);
SELECT pg_temp.previews('claim.made');
\echo -- ten minutes in the own queue of the plant lower it, the letter goes again; the queue is taken back: restored, and again
INSERT INTO crm.queue_interval (place_id, vehicle_id, from_at, to_at, source_id) VALUES (901, 902, '2026-11-24 10:00Z', '2026-11-24 10:10Z', 'q1');
SELECT regexp_replace(x, '^(\S+ \S+) .*?(Penalty [^.]*)\..*', '\1 \2') FROM pg_temp.at('2026-11-24 10:51Z') x;
UPDATE crm.queue_interval SET cancelled_at = crm.now() WHERE source_id = 'q1';
SELECT regexp_replace(x, '^(\S+ \S+) .*?(Penalty [^.]*)\..*', '\1 \2') FROM pg_temp.at('2026-11-24 10:52Z') x;
SELECT what, penalty_before, penalty FROM crm.claim_log WHERE claim_id = 902 AND what <> 'sent' ORDER BY id;
SELECT (crm.claim_verify(902)).*;
\echo -- never above what was claimed first, and not after the decision
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (902, '2026-11-24 10:20Z', 'manual', 'erp', 'c2b');
SELECT penalty, state FROM crm.claim WHERE id = 902;
UPDATE crm.checkin SET cancelled_at = crm.now() WHERE source_id = 'c2b';
SELECT id, penalty, state FROM crm.claim ORDER BY id;
INSERT INTO crm.slot (id, vehicle_id, order_id, place_id, planned_from, source_id) VALUES (905, 905, 901, 901, '2026-11-24 09:30Z', 's5');
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) VALUES (905, '2026-11-24 10:45Z', 'gate', 'erp', 'c5');
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) VALUES (901, 905, 14000, 34000, '2026-11-24 10:50Z');
UPDATE crm.checkin SET cancelled_at = crm.now() WHERE source_id = 'c5';
SELECT what, penalty_before, penalty, reason FROM crm.claim_log WHERE claim_id = (SELECT max(id) FROM crm.claim) ORDER BY id;
\echo -- the decisions: accepted closes the link, partly leaves one to look at; each told once by letter and by telephone
SELECT crm.decide_claim(901, 'accepted', NULL, 'force majeure'), crm.decide_claim(903, 'partly', 500, 'half of it');
SELECT pg_temp.leave();
SELECT pg_temp.at('2026-11-24 11:30Z');
SELECT pg_temp.previews('claim.decided');
SELECT pg_temp.previews('claim.decided.letter');
\echo -- switched off: nothing
UPDATE crm.rule SET switched = false WHERE code IN ('claim.made', 'slot.late');
INSERT INTO crm.slot (id, vehicle_id, order_id, place_id, planned_from, source_id) VALUES (906, 906, 901, 901, '2026-11-24 11:31Z', 's6');
SELECT crm.set_now('2026-11-24 11:50Z', 0) IS NOT NULL, crm.slots_due();
SELECT pg_temp.leave();
\echo -- wagons: the previews (once, and not: shipping_rail_arrivals)
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('waybill.arrived', 'waybill', -1, 901, '{"late": 1, "wagon_count": 40, "station_name": "Мыс Астафьева", "product": "Уголь", "waybill_number": "ЭТ118700", "date_local": "24.11.2026", "at_local": "14:50", "order_number": "N", "tonnes": "2780", "wagon_numbers": "60000001, 60000002"}');
SELECT pg_temp.previews('waybill.arrived');
SELECT pg_temp.previews('waybill.arrived.letter');
SELECT pg_temp.leave();
SELECT promise FROM crm.selftest() WHERE NOT ok AND promise NOT LIKE 'sequences%';
ROLLBACK;
