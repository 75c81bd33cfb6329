-- claim 4: what is there already is found by id, tax number, name, phone and address, and does what the policy says.
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, inn, kpp) VALUES (900001, 'ООО "Ромашка"', '7707083893', '773601001'), (900002, 'Лютик', NULL, NULL), (900003, 'Филиал', '7736050003', '111101001');
INSERT INTO crm.contact (id, company_id, name) VALUES (900001, 900001, 'Пётр Иванов');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (900001, 'phone', '+79161234567');
CREATE FUNCTION pg_temp.load(entity text, body text, policy text DEFAULT 'skip', options jsonb DEFAULT '{}') RETURNS TABLE (answer text) LANGUAGE sql AS $$
	WITH l AS MATERIALIZED (SELECT * FROM crm.import_load('t.csv', entity, convert_to(body, 'UTF8'), policy => policy, options => options))
	SELECT format('read %s created %s updated %s linked %s skipped %s refused %s', rows_read, rows_created, rows_updated, rows_linked, rows_skipped, rows_refused) FROM l $$;
CREATE FUNCTION pg_temp.told() RETURNS TABLE (cell text, severity text, message text) LANGUAGE sql AS $$
	SELECT p.cell, p.severity, p.message FROM crm.import_problem p WHERE p.import_id = (SELECT max(id) FROM crm.import) ORDER BY p."row", p.id $$;

\echo companies: by tax number, by name without legal form, within the file; a branch of another KPP is another
SAVEPOINT a;
SELECT * FROM pg_temp.load('company', E'Название;ИНН;КПП;ID\nРомашка (Москва);7707083893;;A1\n"Лютик, ООО";;;A2\nФилиал 2;7736050003;222201001;A3\nНовая;;;A4\nООО «Новая»;;;A5\nНовая;;;A4\n');
SELECT * FROM pg_temp.told();
SELECT "row", object_kind, action, object_id > 900000 AS was_there, extra FROM crm.import_item WHERE import_id = (SELECT max(id) FROM crm.import) ORDER BY 1;
\echo contacts that name companies by the ids of that system find what the rows were joined to
SELECT * FROM pg_temp.load('contact', E'ФИО;ID компании;Телефон;ID\nИван;A1;8 916 000-00-01;K1\nОльга;A2;;K2\n');
SELECT c.name, c.company_id FROM crm.contact c WHERE c.source = 'import' ORDER BY c.id;
ROLLBACK TO a;
\echo contacts: one phone in two spellings is one person, in the base and in the file
SELECT * FROM pg_temp.load('contact', E'ФИО;Компания;Телефон;Email\nИванов П.;Ромашка;8 (916) 123-45-67;\nАнна;Лютик;+7 495 000-00-00;ANNA@Example.com\nАнна Петровна;Лютик;8 916 555 44 33;anna@example.com\nПётр Иванов;ООО Ромашка;;\n', 'link');
SELECT * FROM pg_temp.told();
SELECT c.name, c.company_id, p.kind, p.value FROM crm.contact c JOIN crm.contact_point p ON p.contact_id = c.id ORDER BY c.id, p.kind, p.value;
SELECT * FROM crm.import_undo((SELECT max(id) FROM crm.import));
SELECT c.name, p.value FROM crm.contact c LEFT JOIN crm.contact_point p ON p.contact_id = c.id ORDER BY 1, 2;
\echo policy error: the row is refused; update: what the file says wins, what it does not say stays
SELECT * FROM pg_temp.load('company', E'Название;ИНН\nРомашка;7707083893\nДругая;\n', 'error');
SELECT * FROM pg_temp.told();
SELECT * FROM pg_temp.load('company', E'Название;ИНН;КПП\nРомашка и К;7707083893;\n', 'update');
SELECT name, inn, kpp FROM crm.company WHERE id = 900001;
\echo missing companies and owners: made, told, or refused
SELECT * FROM pg_temp.load('contact', E'ФИО;Компания\nКто;Неизвестная\n', options => '{"missing_company": "error"}');
SELECT * FROM pg_temp.told();
SELECT * FROM pg_temp.load('contact', E'ФИО;Компания\nКто;Неизвестная\n', options => '{"missing_company": "warn"}');
SELECT * FROM pg_temp.told();
SELECT * FROM pg_temp.load('company', E'Название;Менеджер\nТретья;Новый Человек\n', options => '{"missing_owner": "create"}');
SELECT e.name FROM crm.company c JOIN crm.employee e ON e.id = c.owner_id WHERE c.name = 'Третья';
\echo a cell that cannot be read may be left out instead of the row
SELECT * FROM pg_temp.load('company', E'Название;ИНН;Телефон\nПятая;123;+44 20 7946 0958, +7 916 000-00-09\n', options => '{"bad_cells": "drop"}');
SELECT * FROM pg_temp.told();
SELECT p.value FROM crm.contact_point p JOIN crm.contact c ON c.id = p.contact_id JOIN crm.company k ON k.id = c.company_id WHERE k.name = 'Пятая' ORDER BY 1;
ROLLBACK;
