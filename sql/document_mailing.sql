-- claims 60 and 61: a view of crm_bi mailed as a sheet: the period in the report's zone, the same rows as the view, once for a
-- planned moment of its schedule; only what its author may read
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
-- periods: a Monday, the 1st of a month, New Year, and a moment that is another day in another zone
SELECT v.at, p.period, r.from_date, r.to_date
FROM (VALUES ('2026-11-30 06:00+03'::timestamptz), ('2027-01-01 00:00+03'), ('2026-03-01 23:59+03')) AS v(at),
	unnest('{today,yesterday,last_week,month_to_date,last_month,never}'::text[]) WITH ORDINALITY AS p(period, n), crm.report_period(p.period, v.at, 'Europe/Moscow') r ORDER BY v.at, p.n;
SELECT z.zone, r.from_date FROM unnest('{UTC,Europe/Moscow,Asia/Vladivostok}'::text[]) AS z(zone), crm.report_period('today', '2026-11-30 22:30+00', z.zone) r;

SELECT crm.set_now('2026-11-30 06:00+03', 0);
INSERT INTO crm.company (id, name) VALUES (90001, 'Рога');
INSERT INTO crm.contact (id, company_id, name) VALUES (90001, 90001, 'Reader'), (90002, 90001, 'Only a phone');
INSERT INTO crm.contact_point (contact_id, kind, value, state) VALUES (90001, 'email', 'one@example.com', 'unknown'), (90001, 'email', 'refused@example.com', 'invalid'), (90002, 'phone', '+79161234567', 'unknown');
-- documents of several days; the last of yesterday and the first of today
INSERT INTO crm.document (id, kind, year, serial, number, document_date, object_kind, object_id, company_id, state, created_at)
SELECT 90000 + g, 'proposal', 2026, 90000 + g, 'КП-' || g, '2026-11-22'::date + g, 'test', g, 90001, 'issued', crm.now() FROM generate_series(1, 8) g;
CREATE FUNCTION pg_temp.sheet(message bigint) RETURNS bytea LANGUAGE sql AS 'SELECT content FROM crm.message_attachment WHERE message_id = $1';
INSERT INTO crm.report_mailing (code, view_name, columns, labels, order_by, date_column, period, title, contact_ids, addresses)
VALUES ('documents', 'document', '{number,business_date,company,state}', '{Номер,Дата,Компания,NULL}', '{number}', 'business_date', 'last_week', 'Документы', '{90001,90002}', '{" Boss@Example.com ",one@example.com}');
SELECT author, addresses, zone FROM crm.report_mailing WHERE code = 'documents';
-- no carrier
SELECT count(*) FROM crm.mail_report('documents');
SELECT crm.add_integration('test_mail', 'mail_out', 'smtp://127.0.0.1:2525', '{"sender": "plant@example.com"}') IS NOT NULL AS mail;
CREATE TEMP TABLE sent AS SELECT m.id FROM crm.mail_report('documents') AS m(id);
SELECT m.recipient, m.contact_id, m.subject, m.body, a.name FROM sent JOIN crm.message m USING (id) JOIN crm.message_attachment a ON a.message_id = m.id ORDER BY 1;
-- one sheet for all; what is in it: test/t/610_xlsx.pl
SELECT count(DISTINCT md5(pg_temp.sheet(id))) AS sheets FROM sent;
SELECT planned_at, from_date, to_date, rows, cardinality(message_ids) AS letters, bytes = octet_length((SELECT pg_temp.sheet(min(id)) FROM sent)) AS bytes, sha256 = sha256((SELECT pg_temp.sheet(min(id)) FROM sent)) AS hash FROM crm.report_mailed;
-- a time column is read in the report's zone: the day of Vladivostok begins seven hours earlier
INSERT INTO crm.report_mailing (code, view_name, columns, date_column, period, zone, title, addresses, language, send_empty) VALUES
	('letters', 'document', NULL, 'fresh_to', 'yesterday', 'Asia/Vladivostok', 'Fresh', '{boss@example.com}', 'en', false);
SELECT count(*) FROM crm.mail_report('letters', '2026-12-01 12:00+03');
SELECT count(*) FROM crm.mail_report('letters', '2026-12-01 18:00+03');
SELECT rows, from_date, to_date, cardinality(message_ids) AS letters FROM crm.report_mailed m JOIN crm.report_mailing r ON r.id = m.report_mailing_id WHERE r.code = 'letters' ORDER BY m.id;
-- switched off
UPDATE crm.report_mailing SET enabled = false WHERE code = 'letters';
SELECT count(*) FROM crm.mail_report('letters');
-- by schedule: each planned moment once, its period counted from that moment
SELECT crm.add_schedule('weekly', 'mail_report', 'FREQ=WEEKLY;BYDAY=MO', '2026-11-30 08:00+03', 'Europe/Moscow', args => '{"report": "documents"}') IS NOT NULL AS scheduled;
SELECT crm.set_now('2026-12-07 08:00:01+03', 0);
DO $$ BEGIN PERFORM crm.schedule_due(); PERFORM crm.schedule_due(); END $$;
SELECT m.planned_at, m.from_date, m.to_date, m.rows FROM crm.report_mailed m JOIN crm.report_mailing r ON r.id = m.report_mailing_id WHERE r.code = 'documents' ORDER BY m.id;
SELECT r.planned_at, r.result, r.words FROM crm.schedule_run r JOIN crm.schedule s ON s.id = r.schedule_id WHERE s.code = 'weekly' ORDER BY 1;
-- refused when saved
INSERT INTO crm.report_mailing (code, view_name, title, addresses) VALUES ('bad', 'none', 'x', '{a@example.com}');
INSERT INTO crm.report_mailing (code, view_name, title, addresses) VALUES ('bad', 'document; DROP TABLE crm.deal', 'x', '{a@example.com}');
INSERT INTO crm.report_mailing (code, view_name, columns, title, addresses) VALUES ('bad', 'document', '{number,"1; SELECT"}', 'x', '{a@example.com}');
INSERT INTO crm.report_mailing (code, view_name, date_column, period, title, addresses) VALUES ('bad', 'document', 'number', 'today', 'x', '{a@example.com}');
INSERT INTO crm.report_mailing (code, view_name, columns, labels, title, addresses) VALUES ('bad', 'document', '{number}', '{a,b}', 'x', '{a@example.com}');
INSERT INTO crm.report_mailing (code, view_name, zone, title, addresses) VALUES ('bad', 'document', 'Mars/Base', 'x', '{a@example.com}');
INSERT INTO crm.report_mailing (code, view_name, title, addresses) VALUES ('bad', 'document', 'x', '{nobody}');
INSERT INTO crm.report_mailing (code, view_name, title, contact_ids) VALUES ('bad', 'document', 'x', '{99999}');
SELECT count(*) FROM crm.mail_report('none');
SELECT count(*) FROM crm.mail_report('documents', 'infinity');
-- an author who may not read: a head; a reader may, and his right is asked again when it is mailed
CREATE ROLE crm_test_author IN ROLE crm_head;
GRANT INSERT, UPDATE, SELECT ON crm.report_mailing TO crm_test_author;
SET LOCAL SESSION AUTHORIZATION crm_test_author;
INSERT INTO crm.report_mailing (code, view_name, title, addresses) VALUES ('mine', 'document', 'x', '{a@example.com}');
RESET SESSION AUTHORIZATION;
GRANT crm_bi_reader TO crm_test_author;
SET LOCAL SESSION AUTHORIZATION crm_test_author;
INSERT INTO crm.report_mailing (code, view_name, title, addresses) VALUES ('mine', 'document', 'x', '{a@example.com}');
RESET SESSION AUTHORIZATION;
SELECT author FROM crm.report_mailing WHERE code = 'mine';
SELECT count(*) FROM crm.mail_report('mine');
REVOKE crm_bi_reader FROM crm_test_author;
SELECT count(*) FROM crm.mail_report('mine');
SELECT severity, subject, message FROM crm.report_mailing_health();
-- its reader lost the address
UPDATE crm.report_mailing SET addresses = '{}', contact_ids = '{90002}' WHERE code = 'documents';
SELECT count(*) FROM crm.mail_report('documents');
ROLLBACK;
