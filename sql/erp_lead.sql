-- claim 8: a form of the site is one lead, however often it is sent; spam is kept apart and can be taken back
-- claim 45: what brought the client stays with him
-- Consents are kept word for word; what a stranger typed is bounded and gets into no header.
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 12:00+03', 0);
INSERT INTO crm.employee (id, name) VALUES (901, 'Manager');
-- new: contact, company, deal in the funnel lead, event
SELECT result, erp_id FROM crm_erp.put_lead('{"source_lead_id": "S-1", "form": "Price", "name": "Пётр", "phone": "8 (916) 000-00-01", "email": "Petr@Firma.test", "company": "ООО Фирма",
	"message": "Нужен цемент", "product": "М500", "quantity": "27,5 т", "utm_source": "Yandex", "utm_campaign": "%D0%9E%D1%81%D0%B5%D0%BD%D1%8C+2026", "page_url": "https://plant.test/price", "colour": "red"}');
SELECT result, erp_id FROM crm_erp.put_lead('{"source_lead_id": "S-1", "name": "другое"}');
SELECT l.status, l.form, l.name, l.phone, l.phone_raw, l.email, l.quantity, l.channel, l.last_touch, l.extra, l.was_known, c.name, k.name, d.name, d.tonnes, f.code, s.code
FROM crm.lead l JOIN crm.contact c ON c.id = l.contact_id JOIN crm.company k ON k.id = l.company_id JOIN crm.deal d ON d.id = l.deal_id JOIN crm.funnel f ON f.id = d.funnel_id JOIN crm.stage s ON s.id = d.stage_id;
SELECT e.kind, e.object_kind, e.object_id = l.id, e.company_id = l.company_id, e.data - 'deal_id' - 'lead' FROM crm.event e, crm.lead l WHERE e.kind = 'lead.received';
-- the same phone in another spelling, or the same address, and form within half an hour: counted
SELECT crm.set_now('2026-11-24 12:29+03', 0) IS NOT NULL;
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-2", "form": "price", "phone": "+7 916 000 00 01", "utm_source": "google"}');
SELECT result FROM crm_erp.put_lead('{"form": "price", "email": "PETR@firma.test"}');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-2"}');
SELECT count(*), sum(times), max(channel), max(last_touch ->> 'utm_source') FROM crm.lead;
-- another form, or later: a lead of its own; its client is known, so it is noted on the open deal
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-3", "form": "callback", "phone": "89160000001", "name": "Пётр Иванов", "company": "Другая фирма"}');
SELECT was_known, (SELECT count(*) FROM crm.deal), (SELECT count(*) FROM crm.contact WHERE source = 'lead'), (SELECT count(*) FROM crm.company), deal_id = (SELECT min(id) FROM crm.deal) FROM crm.lead WHERE source_lead_id = 'S-3';
SELECT n.text ~ 'форма callback$', n.company_id = l.company_id, n.contact_id = l.contact_id FROM crm.note n JOIN crm.lead l ON l.id::text = n.source_id AND n.source = 'lead';
-- never by name
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-4", "form": "price", "name": "Пётр", "company": "ООО Фирма", "phone": "+79160000002"}');
SELECT count(*), count(DISTINCT id) FROM crm.company WHERE name = 'ООО Фирма';
-- an INN that is one company's finds it, a wrong one does not
UPDATE crm.company SET inn = '7707083893', owner_id = 901 WHERE id = (SELECT company_id FROM crm.lead WHERE source_lead_id = 'S-4');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-5", "form": "price", "name": "Анна", "inn": "7707 083 893", "phone": "+79160000003"}');
SELECT a.company_id = b.company_id, d.owner_id FROM crm.lead a, crm.lead b, crm.deal d WHERE a.source_lead_id = 'S-4' AND b.source_lead_id = 'S-5' AND d.id = b.deal_id;
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-6", "form": "price", "inn": "7707083894", "phone": "not a phone 12", "email": "no address"}');
SELECT phone, phone_raw, email, email_raw, company_id, contact_id IS NOT NULL FROM crm.lead WHERE source_lead_id = 'S-6';
-- our own people are no clients
INSERT INTO crm.line (id, kind, value) VALUES (901, 'sim', '+79160000009');
INSERT INTO crm.line_holder (line_id, employee_id, during) VALUES (901, 901, '[2026-01-01,)');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "S-7", "form": "price", "phone": "+79160000009"}');
SELECT was_known FROM crm.lead WHERE source_lead_id = 'S-7';
\echo spam
CREATE FUNCTION pg_temp.judged(doc jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	p crm_erp.put_result := crm_erp.put_lead(doc);
BEGIN
	RETURN (SELECT concat_ws('|', p.erp_id, p.result, l.status, l.spam_reason) FROM crm_erp.lead l WHERE l.id = p.id);
END $$;
SELECT pg_temp.judged(t.doc) FROM (VALUES
	('{"source_lead_id": "P-1", "phone": "+79160000011", "website": "http://x"}'::jsonb),
	('{"source_lead_id": "P-2", "phone": "+79160000012", "filled_seconds": "1.5"}'),
	('{"source_lead_id": "P-3", "phone": "+79160000013", "form_token": "5f.0000000000000000000000000000000000000000"}'),
	('{"source_lead_id": "P-4", "phone": "+79160000014", "message": "see http://a.test and http://b.test https://c.test"}'),
	('{"source_lead_id": "P-5", "phone": "+79160000015", "name": "https://win.test", "message": "hello"}'),
	('{"source_lead_id": "P-6", "phone": "+79160000016", "name": "John", "message": "We need two hundred tonnes of cement in Riga"}')) AS t(doc);
-- the form was shown 2 s ago, a day ago, as another form, a minute ago
SELECT pg_temp.judged(jsonb_build_object('source_lead_id', t.id, 'phone', '+791600000' || t.phone, 'form', t.form, 'form_token', crm.lead_token_sign('price', extract(epoch FROM crm.now())::bigint - t.ago)))
FROM (VALUES ('P-7', 17, 'price', 2), ('P-8', 18, 'price', 86500), ('P-9', 19, 'order', 60), ('P-10', 20, 'price', 60)) AS t(id, phone, form, ago);
-- it makes nothing, and is answered as the same when it comes again
SELECT count(*), count(contact_id), count(deal_id) FROM crm.lead WHERE status = 'spam';
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "P-1", "phone": "+79160000011", "website": "http://x"}');
-- a flood from one address is one row of spam; from one phone too
SELECT result, count(*) FROM generate_series(1, 40) g CROSS JOIN LATERAL crm_erp.put_lead(format('{"form": "flood", "phone": "+7916111%s", "ip": "198.51.100.7"}', lpad(g::text, 4, '0'))) l GROUP BY 1 ORDER BY 1;
SELECT status, spam_reason, count(*), sum(times) FROM crm.lead WHERE address = '198.51.100.7' GROUP BY 1, 2 ORDER BY 1 DESC;
SELECT result, count(*) FROM generate_series(1, 12) g CROSS JOIN LATERAL crm_erp.put_lead(format('{"form": "form %s", "phone": "+79161119999"}', g)) l GROUP BY 1 ORDER BY 1;
-- taken back: everything is made as if it came now; by hand the other way, and its deal is lost
SELECT crm.restore_lead(id) IS NOT NULL FROM crm.lead WHERE source_lead_id = 'P-4';
SELECT l.status, l.restored_by = session_user, s.code, (SELECT count(*) FROM crm.event e WHERE e.object_kind = 'lead' AND e.object_id = l.id) FROM crm.lead l JOIN crm.deal d ON d.id = l.deal_id JOIN crm.stage s ON s.id = d.stage_id WHERE l.source_lead_id = 'P-4';
\set VERBOSITY sqlstate
SELECT crm.restore_lead(id) FROM crm.lead WHERE source_lead_id = 'S-4';
SELECT crm.restore_lead(NULL);
\set VERBOSITY default
SELECT crm.lead_is_spam(id, 'asks for work') FROM crm.lead WHERE source_lead_id = 'P-4';
SELECT l.status, l.spam_reason, s.code FROM crm.lead l JOIN crm.deal d ON d.id = l.deal_id JOIN crm.stage s ON s.id = d.stage_id WHERE l.source_lead_id = 'P-4';
SELECT crm.restore_lead(id) IS NOT NULL FROM crm.lead WHERE source_lead_id = 'P-4';
\echo consents
SELECT crm.put_consent_text('v3', 'processing', 'Согласен на обработку'), crm.put_consent_text('v3', 'processing', 'Согласен на обработку');
SELECT crm.put_consent_text('v3', 'processing', 'Согласен на всё');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "C-1", "form": "c", "phone": "+79160000031", "ip": "203.0.113.9", "user_agent": "UA", "page_url": "https://plant.test/c", "consent": {"processing": true, "advertising": false, "version": "v3"}}');
SELECT result FROM crm_erp.put_lead('{"source_lead_id": "C-2", "form": "c", "phone": "+79160000032", "consent_processing": "on", "consent_text": "Да", "consent_advertising": "1"}');
SELECT l.source_lead_id, c.purpose, c.wording, c.given_at, c.form, c.page, c.address, c.user_agent FROM crm.consent c JOIN crm.lead l ON l.contact_id = c.contact_id ORDER BY 1, 2;
SELECT source_lead_id, consent -> 'advertising', consent #>> '{processing,sha256}' = encode(sha256(convert_to(consent #>> '{processing,wording}', 'UTF8')), 'hex') FROM crm.lead WHERE consent <> '{}' ORDER BY 1;
SELECT message FROM crm.lead_health();
\echo bounds
SELECT result FROM crm_erp.put_lead(jsonb_build_object('source_lead_id', 'B-1', 'form', E'b\r\nBcc: x', 'name', E'Ivan\r\nBcc: all@x.test' || E'\u202e' || repeat('я', 1000), 'phone', '+79160000041', 'email', E'a@b.test\r\nBcc: c@d.test', 'message', repeat('ш', 20000),
	'list', '[1]'::jsonb, 'quantity', '1e999', 'product', '{"a": 1}'::jsonb, 'submitted_at', 'yesterday', 'ip', 'nowhere') || (SELECT jsonb_object_agg('x' || lpad(g::text, 3, '0'), repeat('y', 2000)) FROM generate_series(1, 70) g));
SELECT form, left(name, 25), length(name), email, length(message), product, quantity, submitted_at, address, (SELECT count(*) FROM jsonb_object_keys(extra)), extra_dropped, length(extra ->> 'x001'), name ~ E'[\\x01-\\x1f]' FROM crm.lead WHERE source_lead_id = 'B-1';
SELECT crm_erp.put_lead('[1]');
SELECT crm_erp.put_lead('{');
SELECT crm_erp.put_lead('{"name": "nobody"}');
SELECT crm_erp.put_lead(jsonb_build_object('source_lead_id', repeat('x', 201)));
SELECT crm_erp.put_lead(jsonb_build_object('message', repeat('x', 1100000)));
-- UTM: decoded once, small letters
SELECT v, crm.utm_value(jsonb_build_object('u', v), 'u') FROM unnest(ARRAY['CPC', ' %D0%A6%D0%95%D0%9C ', '%25D0%2590', '%F2%E5%F1%F2', '50%', 'c++', 'a+b%20c', '%D0', repeat('Z', 300), '']) v;
SELECT crm.lead_channel(t::jsonb) FROM unnest(ARRAY['{"utm_source": "vk", "yclid": "1"}', '{"yclid": "1"}', '{"called_number": "88001"}', '{"referrer": "https://www.ya.test/x", "page_url": "https://plant.test"}',
	'{"referrer": "https://plant.test/a", "page_url": "https://www.plant.test/b"}', '{}']) t;
-- HMAC: RFC 4231, cases 1, 2 and 6
SELECT encode(crm.hmac_sha256(decode(k, 'hex'), convert_to(m, 'UTF8')), 'hex') = h FROM (VALUES
	(repeat('0b', 20), 'Hi There', 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'),
	('4a656665', 'what do ya want for nothing?', '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'),
	(repeat('aa', 131), 'Test Using Larger Than Block-Size Key - Hash Key First', '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54')) AS t(k, m, h);
\echo sources
SELECT result FROM crm_erp.put_channel_cost('K-1', 'Yandex', '01.11.2026', '30.11.2026', '10 000');
SELECT result FROM crm_erp.put_channel_cost('K-1', 'yandex', '2026-11-01', '2026-11-30', '10000,00');
SELECT result FROM crm_erp.put_order('O-1', NULL, 'x');
INSERT INTO crm.company (name) VALUES ('Без истории');
INSERT INTO crm.customer_order (number, company_id, product, tonnes, price) SELECT 'N1', company_id, 'Цемент', 10, 5000 FROM crm.lead WHERE source_lead_id = 'S-1';
SELECT channel, leads, clients, ordered, cost, payback FROM crm_bi.channel WHERE channel IN ('yandex', 'unknown') ORDER BY 1;
SELECT sum(clients) = (SELECT count(*) FROM crm.company WHERE is_client) FROM crm_bi.channel;
SELECT company_name, channel, utm_campaign, last_channel, leads FROM crm_bi.client_source ORDER BY company_id LIMIT 1;
SET LOCAL ROLE crm_bi_reader;
SELECT count(*) > 0 FROM crm_bi.channel;
SELECT count(*) > 0 FROM crm_bi.lead;
SELECT phone FROM crm.lead;
RESET ROLE;
-- the visitor asks: by number and phone, or nothing
SELECT kind, number = l.id::text, state, state_name FROM crm.lead l, crm_erp.order_status(l.id::text, '8 916 000-00-01') WHERE l.source_lead_id = 'S-1';
SELECT kind, number, state_name FROM crm_erp.order_status('n1', '+79160000001');
SELECT count(*) FROM crm_erp.order_status('N1', '+79160000002');
SELECT count(*) FROM crm_erp.order_status('', '');
-- a site that can only INSERT, and many at once
INSERT INTO crm_erp.lead_in (source_lead_id, phone, name, utm_source) VALUES ('I-1', '+79160000051', 'Вставка', 'VK');
INSERT INTO crm_erp.lead_in (source_lead_id, phone) VALUES ('I-1', '+79160000051');
SELECT source_lead_id, channel, times FROM crm_erp.lead WHERE source_lead_id = 'I-1';
SELECT line, entity, result FROM crm_erp.put_batch('[{"put": "lead", "source_lead_id": "I-2", "phone": "+79160000052"}, {"put": "lead", "name": "x"}]');
-- the person is forgotten, the counts stay
SELECT count(*) > 0 FROM crm.lead l, crm.forget(l.contact_id) WHERE l.source_lead_id = 'C-1';
SELECT name, phone, message, address, times, channel FROM crm.lead WHERE source_lead_id IN ('C-1') OR source_lead_id IS NULL AND name = '[forgotten]';
ROLLBACK;
