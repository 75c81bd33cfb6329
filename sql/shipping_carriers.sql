-- Urgent requests: the first carrier, then the next when it declines or is silent; late is told plainly; the page says the same (claim 55).
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 06:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
CREATE FUNCTION pg_temp.leave() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT t.recipient || ': ' || regexp_replace(t.body, 'http\S+', 'LINK') FROM crm.outbox_take((SELECT id FROM crm.integration WHERE name = 'gate'), 100) t ORDER BY t.message_id $$;
CREATE FUNCTION pg_temp.at(moment timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.set_now(moment, 0);
	PERFORM crm.courier_due(1);
	RETURN QUERY SELECT pg_temp.leave();
END $$;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Бетон', false), (902, 'Первый', true), (903, 'Второй', true), (904, 'Третий', true);
INSERT INTO crm.contact (id, company_id, name) SELECT i, i, 'Диспетчер' FROM generate_series(902, 904) i;
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT 900 + i, 'phone', '+7916123456' || i FROM generate_series(2, 4) i;
INSERT INTO crm.place (id, name, kind, lon, lat) VALUES (901, 'Объект 4', 'unloading', 37, 55);
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, tonnes, window_from) SELECT 900 + i, 'N-' || i, 901, 901, 'Цемент', 20, '2026-11-24 12:00Z' FROM generate_series(1, 4) i;
SELECT crm.request_carriers(999, ARRAY[902], 10);
SELECT crm.request_carriers(901, ARRAY[901], 10);
SELECT crm.request_carriers(901, ARRAY[902, 902], 10);
SELECT crm.request_carriers(901, ARRAY[902, 903], 0);
-- silence: the next one after ten minutes, not before, and once
SELECT crm.request_carriers(901, ARRAY[902, 903, 904], 10) AS one \gset
SELECT crm.request_carriers(901, ARRAY[904], 10);
SELECT pg_temp.leave();
SELECT pg_temp.at('2026-11-24 06:09:59Z');
SELECT pg_temp.at('2026-11-24 06:10Z');
SELECT pg_temp.at('2026-11-24 06:10:01Z');
-- the first accepts now: too late, and told so
SELECT crm.answer_carrier_request(:one, true, NULL, 902);
-- the second declines: the third at once
SELECT crm.answer_carrier_request(:one, false, 'нет машин');
SELECT pg_temp.leave();
SELECT crm.answer_carrier_request(:one, true), crm.answer_carrier_request(:one, true), crm.answer_carrier_request(:one, false);
SELECT f.rank, f.answer, f.reason, f.sent_at, f.answered_at FROM crm.carrier_offer f WHERE f.request_id = :one ORDER BY 1;
SELECT state, carrier_id FROM crm.carrier_request WHERE id = :one;
SELECT pg_temp.at('2026-11-24 07:00Z');
-- nobody: it has expired
SELECT crm.request_carriers(902, ARRAY[902], 5) AS two \gset
SELECT pg_temp.leave();
SELECT pg_temp.at('2026-11-24 07:05Z');
SELECT state FROM crm.carrier_request WHERE id = :two;
-- taken back before it left: the message is cancelled
SELECT crm.request_carriers(903, ARRAY[902], 5) AS three \gset
SELECT crm.cancel_carrier_request(:three, '');
SELECT crm.cancel_carrier_request(:three, 'клиент передумал'), crm.cancel_carrier_request(:three, 'again');
SELECT pg_temp.leave();
SELECT m.state, m.last_error FROM crm.message m ORDER BY m.id DESC LIMIT 1;
SELECT crm.answer_carrier_request(:three, true);
-- the page: looking does nothing, the button answers, afterwards it tells
SELECT crm.request_carriers(904, ARRAY[902, 903], 5) AS four \gset
INSERT INTO crm.link (purpose, token_hash, object_kind, object_id) SELECT 'carrier', sha256(f.id::text::bytea), 'carrier_offer', f.id FROM crm.carrier_offer f WHERE f.request_id = :four AND f.rank = 1 RETURNING id AS link \gset
CREATE FUNCTION pg_temp.page(link bigint, method text, body text) RETURNS text LANGUAGE sql AS $$
	SELECT x.status || ' ' || (regexp_match(convert_from(x.body, 'UTF8'), '<b>(.*?)</b>'))[1] || CASE WHEN convert_from(x.body, 'UTF8') LIKE '%<form%' THEN ' (form)' ELSE '' END
	FROM crm.carrier_page(link, ROW(method, '', '', '', convert_to(body, 'UTF8'), '127.0.0.1')::crm.http_request) x $$;
SELECT pg_temp.page(:link, 'GET', ''), pg_temp.page(:link, 'POST', 'answer=maybe'), pg_temp.page(:link, 'POST', 'answer=no&reason=%3Cb%3E'), pg_temp.page(:link, 'POST', 'answer=no');
SELECT pg_temp.page(:link, 'POST', 'answer=yes'), pg_temp.page(0, 'GET', '');
SELECT rank, answer, reason FROM crm.carrier_offer WHERE request_id = :four ORDER BY 1;
-- switched off: nothing is said
UPDATE crm.rule SET switched = false WHERE code = 'carrier_request.asked';
SELECT pg_temp.leave();
SELECT pg_temp.at('2026-11-24 07:10Z');
SELECT crm.request_carriers(902, ARRAY[904], 5) > 0;
SELECT pg_temp.leave();
SELECT code, language, regexp_replace(p.body, 'http\S+', 'LINK'), p.encoding, p.parts FROM (VALUES ('carrier_request.asked'), ('carrier_request.expired')) k(code), unnest(ARRAY['ru', 'en']) language,
	LATERAL crm.template_preview(code, (SELECT max(id) FROM crm.event e WHERE e.kind = k.code), language) p WHERE p.channel = 'sms';
ROLLBACK;
