-- What must be there once: a mobile, an address, an INN with its KPP; what people share is let in, and so is what another system owns.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.company (id, name, inn, kpp) VALUES (90001, 'ООО "Ромашка"', ' 7707-083893', '770701001'), (90002, 'Other', NULL, NULL);
INSERT INTO crm.contact (id, company_id, name) VALUES (90001, 90001, 'Иван'), (90002, 90002, 'Пётр'), (90003, 90002, 'Зоя');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '8 (916) 123-45-67'), (90001, 'phone', '+7 495 123 45 67'), (90001, 'email', 'Ivan@A.ru'), (90001, 'email', 'info@a.ru');
-- another spelling is the same; a fixed line and a mailbox of many are shared
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90002, 'phone', '+7-916-1234567');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90002, 'email', 'mailto:IVAN@a.RU');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90002, 'phone', '84951234567'), (90002, 'email', 'INFO@a.ru');
-- twice in one statement
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90002, 'phone', '+79160000001'), (90003, 'phone', '+79160000001');
SELECT count(*) FROM crm.contact_point WHERE value = '+79160000001';
-- INN and KPP; a branch has its own; digits that are wrong
INSERT INTO crm.company (name, inn, kpp) VALUES ('Again', '7707083893', '770701001');
INSERT INTO crm.company (id, name, inn, kpp) VALUES (90003, 'Branch', '7707083893', '7707AB001');
INSERT INTO crm.company (name, inn) VALUES ('x', '7707083894');
INSERT INTO crm.company (name, inn) VALUES ('x', '77070838');
INSERT INTO crm.company (name, inn) VALUES ('x', '77070838OO');
INSERT INTO crm.company (name, kpp) VALUES ('x', '77070100');
UPDATE crm.company SET inn = '7707083893', kpp = '770701001' WHERE id = 90002;
-- what another system owns is let in, whatever it says (claim 7), and is a candidate
SELECT result FROM crm_erp.put_company('C-1', 'Romashka', inn => '7707083893', kpp => '770701001');
SELECT result FROM crm_erp.put_company('C-2', 'Wrong digit', inn => '7707083894');
SELECT result FROM crm_erp.put_contact('P-1', 'C-1', 'Иван Ромашкин', phone => '+79161234567');
-- another number lets the key go; to who came in beside it, if there is one
UPDATE crm.contact_point SET value = '+79160000002' WHERE value = '+79161234567' AND contact_id = 90001;
\set VERBOSITY terse
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90003, 'phone', '+79161234567');
\set VERBOSITY default
DELETE FROM crm.contact_point WHERE value = '+79160000002';
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90003, 'phone', '+79160000002');
-- one that was put away holds nothing any more
UPDATE crm.contact SET archived_at = crm.now() WHERE id = 90003;
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90002, 'phone', '+79160000002');
-- the plant decides
UPDATE crm.party_setting SET same_phone = 'report', same_inn = 'report';
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '+79160000002');
INSERT INTO crm.company (id, name, inn, kpp) VALUES (90004, 'Third', '7707083893', '770701001');
UPDATE crm.party_setting SET same_phone = 'refuse', same_inn = 'refuse';
SELECT kind, value, company_id, contact_id FROM crm.party_key WHERE coalesce(company_id, contact_id) >= 90000 ORDER BY kind, value;
-- who may not see the other one learns whom to ask, and not who it is
CREATE ROLE "x_manager_a"; CREATE ROLE "x_manager_b";
GRANT crm_manager TO "x_manager_a", "x_manager_b";
INSERT INTO crm.employee (id, name, role_name) VALUES (90001, 'Anna', 'x_manager_a'), (90002, 'Boris', 'x_manager_b');
UPDATE crm.company SET owner_id = 90002 WHERE id IN (90001, 90002);
SET SESSION AUTHORIZATION "x_manager_a";
SELECT * FROM crm.party_find(NULL, 'Ромашка', '7707083893', '770701001', '+79160000002');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION "x_manager_a";
INSERT INTO crm.company (name, inn, kpp, owner_id) VALUES ('probe', '7707083893', '770701001', 90001);
RESET SESSION AUTHORIZATION;
-- a restore, and what was entered asleep: who came first holds the key again
SELECT crm.deactivate();
TRUNCATE crm.party_key;
INSERT INTO crm.contact_point (contact_id, kind, value, is_mobile) VALUES (90001, 'phone', '+79160000009', true), (90002, 'phone', '+79160000009', true);
SELECT crm.activate('live');
SELECT contact_id = 90001 FROM crm.party_key WHERE value = '+79160000009';
INSERT INTO crm.contact (id, name) VALUES (90009, 'new');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90009, 'phone', '+79160000009');
ROLLBACK;
