-- claim 6: a document goes as a letter with its file in the same transaction; who got it and what became of it is kept
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
UPDATE crm.party_setting SET same_phone = 'report', same_email = 'report';	-- two of them share one
INSERT INTO crm.company (id, name, language) VALUES (90001, 'Рога', 'ru'), (90002, 'nobody', 'ru');
INSERT INTO crm.contact (id, company_id, name, language) VALUES (90001, 90001, 'Reader', NULL), (90002, 90001, 'English reader', 'en'), (90003, 90001, 'Gone', NULL), (90004, 90001, 'Only a phone', NULL);
INSERT INTO crm.contact_point (contact_id, kind, value, state) VALUES
	(90001, 'email', 'one@example.com', 'unknown'), (90001, 'email', 'refused@example.com', 'invalid'), (90001, 'phone', '+79161234567', 'unknown'),
	(90002, 'email', 'two@example.com', 'verified'), (90002, 'email', 'one@example.com', 'unknown'), (90003, 'email', 'gone@example.com', 'unknown'), (90004, 'phone', '+79161234568', 'unknown');
UPDATE crm.contact SET archived_at = crm.now() WHERE id = 90003;
INSERT INTO crm.deal (id, funnel_id, company_id, name, amount, tonnes) SELECT g, f.id, CASE g WHEN 90004 THEN 90002 ELSE 90001 END, 'Цемент', 1000, 10 FROM crm.funnel f, generate_series(90001, 90004) g WHERE f.code = 'delivery';
CREATE TEMP TABLE made AS SELECT object_id, document_id AS id FROM crm.make_documents('proposal', 'deal', '{90001,90002,90003,90004}', '{90001,90001,90001,90002}');
CREATE FUNCTION pg_temp.id(deal bigint) RETURNS bigint LANGUAGE sql AS 'SELECT id FROM made WHERE object_id = $1';
CREATE FUNCTION pg_temp.masked(t text) RETURNS text LANGUAGE sql AS $$ SELECT regexp_replace($1, 'КП-2026-[0-9]+', 'NUMBER', 'g') $$;
-- no carrier: an error, and the document stays issued
SELECT count(*) FROM crm.send_document(pg_temp.id(90001));
SELECT state FROM crm.document WHERE id = pg_temp.id(90001);
SELECT crm.add_integration('test_mail', 'mail_out', 'smtp://127.0.0.1:2525', '{"sender": "plant@example.com"}') AS mail \gset
-- every address of the company once, in the reader's language, with the workbook
SELECT count(*) FROM crm.send_document(pg_temp.id(90001));
SELECT m.recipient, pg_temp.masked(m.subject) AS subject, pg_temp.masked(m.body) AS body, pg_temp.masked(m.html) = pg_temp.masked(crm.document_html(pg_temp.id(90001))) AS page, m.language, m.contact_id, m.state
FROM crm.message m JOIN crm.document_sending s ON s.message_id = m.id WHERE s.document_id = pg_temp.id(90001) ORDER BY m.recipient;
SELECT s.contact_id, pg_temp.masked(a.name) AS name, a.content_type, a.content = f.content AS the_file
FROM crm.document_sending s JOIN crm.message_attachment a ON a.message_id = s.message_id
JOIN crm.document_file f ON f.document_id = s.document_id AND f.version = s.version AND f.format = 'xlsx'
WHERE s.document_id = pg_temp.id(90001) ORDER BY s.id;
SELECT state, reason FROM crm.document WHERE id = pg_temp.id(90001);
-- one contact, words of one's own: the page is left out
SELECT count(*) FROM crm.send_document(pg_temp.id(90002), 90002, 'Offer', 'Look & see');
SELECT m.recipient, m.subject, m.body, m.html FROM crm.message m JOIN crm.document_sending s ON s.message_id = m.id WHERE s.document_id = pg_temp.id(90002) ORDER BY 1;
-- taken back with its transaction: letter, history and state
SAVEPOINT sent;
SELECT count(*) FROM crm.send_document(pg_temp.id(90003));
ROLLBACK TO sent;
SELECT state, (SELECT count(*) FROM crm.document_sending s WHERE s.document_id = d.id) AS letters FROM crm.document d WHERE id = pg_temp.id(90003);
-- nobody to send to: told, and issued still
SELECT count(*) FROM crm.send_document(pg_temp.id(90004));
SELECT count(*) FROM crm.send_document(pg_temp.id(90003), 90004);
SELECT state, last_error FROM crm.document_letter WHERE document_id IN (pg_temp.id(90003), pg_temp.id(90004)) ORDER BY sending_id;
SELECT severity, pg_temp.masked(subject) AS subject, message FROM crm.document_health() ORDER BY hint;
-- what became of the letters
SELECT crm.set_now('2026-11-24 10:05+03', 0);
CREATE TEMP TABLE asked AS SELECT c.ref, m.recipient FROM crm.courier_claim(1, 100, '{}', '{}') AS i, unnest(i.requests) AS c JOIN crm.message m ON m.id = c.ref;
SELECT crm.courier_settle(1, :mail, array_agg(ROW (ref, CASE recipient WHEN 'two@example.com' THEN 550 ELSE 250 END,
	CASE recipient WHEN 'two@example.com' THEN E'550 5.1.1 no such user\r\n' ELSE E'250 2.0.0 Ok: queued as ABC\r\n' END, NULL, NULL, true, 5, NULL)::crm.reply)) FROM asked;
SELECT crm.message_report(s.message_id, 'delivered', NULL, NULL, '2026-11-24 10:04+03') FROM crm.document_sending s JOIN crm.message m ON m.id = s.message_id WHERE s.document_id = pg_temp.id(90001) AND m.recipient = 'one@example.com';
SELECT pg_temp.masked(number) AS number, version, recipient, state, queued_at, sent_at, delivered_at, last_error FROM crm.document_letter WHERE document_id = pg_temp.id(90001) ORDER BY recipient;
SET LOCAL timezone = 'UTC';
SELECT state, letters, sent_at, delivered_at FROM crm_bi.document WHERE document_id = pg_temp.id(90001);
-- refused
SELECT count(*) FROM crm.send_document(-1);
SELECT count(*) FROM crm.send_document(pg_temp.id(90003), 99999);
SELECT crm.set_document_state(pg_temp.id(90003), 'cancelled');
\set VERBOSITY terse
DO $$ BEGIN PERFORM FROM crm.send_document(pg_temp.id(90003)); EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE WARNING '%', pg_temp.masked(SQLERRM); END $$;
UPDATE crm.document_sending SET message_id = NULL;
ROLLBACK;
