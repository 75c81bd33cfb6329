-- claim 32: each contact point has its proof: verified when, by what
-- Numbers and addresses have one form, whoever writes them.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.company (id, name) VALUES (90001, 'Romashka');
INSERT INTO crm.contact (id, company_id, name) VALUES (90001, 90001, 'Ivan');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES
	(90001, 'phone', '8 (916) 123-45-67'), (90001, 'phone', '+7 495 123 45 67'), (90001, 'email', E' <IVAN@Test.Local>\u00a0'),
	(90001, 'email', 'info@Завод.РФ'), (90001, 'telegram', ' -1001 ');
SELECT kind, value, is_mobile, state, raw FROM crm.contact_point ORDER BY kind, value;
-- the same number in another spelling is the same point
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '+7-916-123-45-67');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '12');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'telegram', '@ivan');
\set VERBOSITY terse
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'fax', '1');
\set VERBOSITY default
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'email', 'Ivan <a@b.ru>');
-- a fact proves a point; an older one changes nothing; another value loses the proof
SELECT crm.mark_contact_point(id, 'verified', 'message 1', '2026-11-24 09:00+03') FROM crm.contact_point WHERE value = '+79161234567';
SELECT crm.mark_contact_point(id, 'invalid', 'bounce', '2026-11-23 09:00+03') FROM crm.contact_point WHERE value = '+79161234567';
SELECT state, verified_at, verified_by FROM crm.contact_point WHERE value = '+79161234567';
UPDATE crm.contact_point SET value = '89161234568' WHERE value = '+79161234567';
SELECT value, state, verified_at, verified_by FROM crm.contact_point WHERE is_mobile;
-- addresses
SELECT crm.email_normal('mailto:A.B+c@Example.RU'), crm.email_normal('info@bücher.example'), crm.email_normal('почта' || '@завод.рф');
SELECT crm.email_normal('info@bücher.example');
SELECT crm.email_normal('a@b@c.ru');
SELECT crm.email_normal('a..b@c.ru');
SELECT crm.email_normal('a@localhost');
SELECT crm.email_normal('a@-b.ru');
SELECT crm.email_normal('');
SELECT crm.email_normal(E'a@b.ru\nBcc: x@y.ru');
SELECT crm.email_normal(repeat('x', 65) || '@c.ru');
SELECT crm.email_normal('x@' || repeat('я', 60) || '.ru');
-- tax numbers
SELECT n, crm.inn_valid(n) FROM unnest('{7707083893,500100732259,7707083894,500100732258,0000000000,770708389,770708389x}'::text[]) n;
SELECT n, crm.kpp_valid(n) FROM unnest('{770701001,7707AB001,77070100,7707ab001}'::text[]) n;
ROLLBACK;
