-- claim 51: forty wagons of one waybill that arrive are one message that says "40 вагонов"; behind it stand their numbers.
-- However they come (all in the document, bit by bit in reports, twice), each wagon is announced once.
\set QUIET on
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2026-11-24 12:00:00+03', 0);
SELECT crm.activate('live');
SELECT crm.add_integration('sms', 'sms_kannel', 'http://127.0.0.1:1/cgi-bin/sendsms', '{"sender": "CEMENT"}', 'x') > 0;
INSERT INTO crm.company (id, name, is_client) VALUES (1, 'ООО «Ромашка»', true), (2, 'Other', true);
INSERT INTO crm.contact (id, company_id, name, language) VALUES (1, 1, 'Анна', 'ru'), (2, 1, 'Bob', 'en'), (3, 2, 'Order', 'ru');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (1, 'phone', '+79160000001'), (2, 'phone', '+79160000002'), (3, 'phone', '+79160000003');
INSERT INTO crm.rail_party VALUES ('10000024', 1);
INSERT INTO crm.customer_order (id, number, company_id, contact_id, product) VALUES (1, '0030000101', 2, 3, 'Coal');
SELECT crm.load_stations(E'985609;Мыс Астафьева');

-- a waybill of so many wagons, from a number on
CREATE FUNCTION pg_temp.waybill(id bigint, number text, wagons integer, first integer DEFAULT 0, more jsonb DEFAULT '{}') RETURNS bigint LANGUAGE sql AS $$
	SELECT crm.put_waybill(jsonb_build_object('invoiceid', id::text, 'invnumber', number, 'invoicestate', 'В пути', 'invlastoper', '24.11.2026 10:00:00', 'invtostationcode', '985609',
		'invrecipokpo', '10000024', 'invfreight', '{"freightcode": "161128", "freightname": "Уголь"}'::jsonb, 'invdatedeparture', '24.11.2026 02:00:00',
		'invcar', (SELECT jsonb_agg(jsonb_build_object('carnumber', (60000000 + first + n)::text, 'carorder', n::text, 'carweightnet', '69500')) FROM generate_series(1, wagons) n)) || more) $$;
-- a report: these wagons stand at the destination or on the way
CREATE FUNCTION pg_temp.report(number text, first integer, arrived integer, moving integer, at text DEFAULT '2026-11-24 11:00:00') RETURNS text LANGUAGE sql AS $$
	SELECT format('%s wagons, %s new operations%s', r.wagons, r.new_operations, ', refused: ' || r.refused) FROM crm.import_dislocation((
		SELECT jsonb_agg(jsonb_build_object('NOM_VAG', (60000000 + first + n)::text, 'DATE_OP', at, 'STAN_OP', CASE WHEN n <= arrived THEN '985609' ELSE '971305' END, 'STAN_NAZN', '985609',
			'DATE_PRIB', CASE WHEN n <= arrived THEN at ELSE '' END, 'PPV_GRUJ', '1', 'NOM_NAK', number, 'DATE_NACH', '2026-11-20 10:00:00', 'GRUZPOL_OKPO', '10000024', 'VES_GRZ', '69500', 'KOD_GRZ_UCH', '161128'))
		FROM generate_series(1, arrived + moving) n), 'spv4664', 'report ' || number, whole => false) r $$;
CREATE FUNCTION pg_temp.said() RETURNS SETOF text LANGUAGE sql AS $$ SELECT m.recipient || ': ' || m.body FROM crm.message m WHERE m.channel = 'sms' ORDER BY m.id $$;

\echo -- forty wagons arrive by their document: one event, one message to each contact of the consignee
SELECT pg_temp.waybill(1, 'ЭТ000001', 40) > 0;
SELECT pg_temp.waybill(1, 'ЭТ000001', 40, 0, '{"invoicestate": "Груз прибыл", "invlastoper": "24.11.2026 11:50:00", "invdatearrive": "24.11.2026 11:45:00"}') > 0;
SELECT kind, data ->> 'wagon_count', data ->> 'tonnes', length(data ->> 'wagon_numbers') FROM crm.event WHERE object_kind = 'waybill' ORDER BY id;
SELECT pg_temp.said();
\echo -- the numbers behind it
SELECT count(*), min(wagon_number), max(wagon_number), sum(net_t), min(arrival_number) FROM crm.waybill_wagons((SELECT id FROM crm.waybill WHERE invoice_id = 1), 1);
\echo -- the next documents (consignee notified, handed over) and a report of the same: no second message
SELECT pg_temp.waybill(1, 'ЭТ000001', 40, 0, '{"invoicestate": "Получатель уведомлен", "invlastoper": "24.11.2026 11:55:00", "invdatearrive": "24.11.2026 11:45:00", "invdatenotification": "24.11.2026 11:54:00", "invnotification": "7"}') > 0;
SELECT pg_temp.report('ЭT000001', 0, 40, 0);
SELECT pg_temp.waybill(1, 'ЭТ000001', 40, 0, '{"invoicestate": "Раскредитование отменено", "invlastoper": "24.11.2026 11:58:00", "invdatearrive": "24.11.2026 11:45:00"}') > 0;
SELECT kind, data ->> 'wagon_count' FROM crm.event WHERE object_kind = 'waybill' ORDER BY id;
SELECT count(*) FROM crm.message;

\echo -- bit by bit in reports: 25 of 40 wait for the rest; the last of them makes one message
SELECT pg_temp.waybill(2, 'ЭТ000002', 40, 100) > 0;
SELECT pg_temp.report('ЭТ000002', 100, 25, 15);
SELECT pg_temp.report('ЭТ000002', 100, 25, 15, '2026-11-24 11:20:00');
SELECT count(*) AS arrivals FROM crm.waybill_arrival a JOIN crm.waybill w ON w.id = a.waybill_id WHERE w.invoice_id = 2;
SELECT pg_temp.report('ЭТ000002', 100, 40, 0, '2026-11-24 11:40:00');
SELECT a.number, a.wagon_count, a.arrived_at FROM crm.waybill_arrival a JOIN crm.waybill w ON w.id = a.waybill_id WHERE w.invoice_id = 2;
\echo -- the document that follows says the same: nothing
SELECT pg_temp.waybill(2, 'ЭТ000002', 40, 100, '{"invoicestate": "Груз прибыл", "invlastoper": "24.11.2026 12:00:00", "invdatearrive": "24.11.2026 11:45:00"}') > 0;
SELECT count(*) FROM crm.message;

\echo -- the rest does not come in time: what is there is announced after the wait, the rest by itself
SELECT pg_temp.waybill(3, 'ЭТ000003', 22, 200) > 0;
SELECT pg_temp.report('ЭТ000003', 200, 21, 1);
SELECT crm.rail_maintain();
SELECT crm.set_now('2026-11-24 12:31:00+03', 0);
SELECT crm.rail_maintain();
SELECT crm.rail_maintain();
SELECT pg_temp.report('ЭТ000003', 200, 22, 0, '2026-11-24 12:20:00');
SELECT a.number, a.wagon_count FROM crm.waybill_arrival a JOIN crm.waybill w ON w.id = a.waybill_id WHERE w.invoice_id = 3 ORDER BY 1;
SELECT wagon_number FROM crm.waybill_wagons((SELECT id FROM crm.waybill WHERE invoice_id = 3), 2);
SELECT pg_temp.said() OFFSET 4;

\echo -- the contact of the order is told, not the consignee; the order is the one with the number of the claim
SELECT pg_temp.waybill(4, 'ЭТ000004', 2, 300, '{"invclaimnumber": "0030000101-ИЗМ/1", "invoicestate": "Груз прибыл", "invdatearrive": "24.11.2026 12:00:00"}') > 0;
SELECT pg_temp.said() OFFSET 8;
SELECT e.company_id, data ->> 'order_number' FROM crm.event e WHERE kind = 'waybill.arrived' ORDER BY id DESC LIMIT 1;
\echo -- what arrived days ago is no news, and a dead document is none
SELECT pg_temp.waybill(5, 'ЭТ000005', 2, 400, '{"invoicestate": "Раскредитован", "invdatearrive": "20.11.2026 12:00:00"}') > 0;
SELECT pg_temp.waybill(6, 'ЭТ000006', 2, 500, '{"invoicestate": "Сторнирован по назначению", "invdatearrive": "24.11.2026 12:00:00"}') > 0;
SELECT data ->> 'waybill_number', data ->> 'late' FROM crm.event WHERE kind = 'waybill.arrived' ORDER BY id OFFSET 5;
SELECT count(*) FROM crm.message;

\echo -- only reports know the waybill: it is made of them, announced, and becomes that of the document without a second word
SELECT pg_temp.report('ЭТ000007', 600, 3, 0, '2026-11-24 12:25:00');
SELECT source, source_id, number, phase, wagon_count, company_id FROM crm.waybill WHERE number = 'ЭТ000007';
SELECT count(*) FROM crm.message;
SELECT pg_temp.waybill(7, 'ЭT000007', 3, 600, '{"invoicestate": "Груз прибыл", "invdatearrive": "24.11.2026 12:24:00"}') > 0;
SELECT source, source_id, phase FROM crm.waybill WHERE number = 'ЭТ000007';
SELECT count(*) FROM crm.message;

\echo -- the term has passed: told once
SELECT pg_temp.waybill(8, 'ЭТ000008', 2, 700, '{"invdateexpire": "24.11.2026"}') > 0;
SELECT crm.rail_maintain();
SELECT crm.set_now('2026-11-25 00:01:00+03', 0);
SELECT crm.rail_maintain(), crm.waybills_late();
SELECT kind, data ->> 'waybill_number', data ->> 'days_late' FROM crm.event WHERE kind = 'waybill.late';
\echo -- an older document that comes late is kept and changes nothing; one wagon less is taken off
SELECT pg_temp.waybill(8, 'ЭТ000008', 1, 700, '{"invlastoper": "24.11.2026 11:00:00"}') > 0;
SELECT pg_temp.waybill(8, 'ЭТ000008', 5, 700, '{"invlastoper": "24.11.2026 09:00:00"}') > 0;
SELECT wagon_count, version FROM crm.waybill WHERE invoice_id = 8;
SELECT count(*) FROM crm.waybill_wagons((SELECT id FROM crm.waybill WHERE invoice_id = 8));
\echo -- weights in tonnes are known by their size; a state nobody knows is kept and counted
SELECT pg_temp.waybill(9, 'ЭТ000009', 0, 800, '{"invoicestate": "Нечто новое", "invcar": {"carnumber": "60848066", "carweightnet": "69,5"}}') > 0;
SELECT net_t FROM crm.waybill_wagons((SELECT id FROM crm.waybill WHERE invoice_id = 9));
SELECT severity, message FROM crm.rail_health() WHERE subject = 'waybills';
SELECT promise, ok FROM crm.rail_selftest();
\echo -- as BI sees it
SELECT waybill_number, phase, client, order_number, to_station, wagon_count, wagons_arrived, arrived_at, days_late FROM crm_bi.waybill WHERE waybill_number IN ('ЭТ000002', 'ЭТ000004', 'ЭТ000008') ORDER BY 1;
SELECT wagon, phase, station, waybill_number, client FROM crm_bi.wagon_now WHERE waybill_number = 'ЭТ000003' AND wagon > '60000220' ORDER BY 1;
ROLLBACK;
