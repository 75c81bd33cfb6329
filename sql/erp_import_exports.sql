-- claim 14: exports of amoCRM, Bitrix24 and 1C:CRM come in by their own headings, their stages by a table.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
BEGIN;
SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.employee (id, name) VALUES (900001, 'Анна Смирнова'), (900002, 'Иван Петров');
CREATE FUNCTION pg_temp.load(profile text, entity text, body text, encoding text DEFAULT 'UTF8', options jsonb DEFAULT '{}') RETURNS TABLE (answer text) LANGUAGE sql AS $$
	WITH l AS MATERIALIZED (SELECT * FROM crm.import_load(profile || '.csv', entity, convert_to(body, encoding), profile => profile, options => options))
	SELECT format('read %s created %s skipped %s refused %s warnings %s', rows_read, rows_created, rows_skipped, rows_refused, warnings) FROM l $$;
CREATE FUNCTION pg_temp.told() RETURNS TABLE (cell text, severity text, message text, hint text) LANGUAGE sql AS $$
	SELECT p.cell, p.severity, p.message, regexp_replace(p.hint, 'funnel\(\d+', 'funnel(N') FROM crm.import_problem p WHERE p.import_id = (SELECT max(id) FROM crm.import) ORDER BY p."row", p.id $$;
\echo amoCRM: contacts and companies in one file, told by their type
\set amo_contacts '"ID","Тип","Полное имя контакта","Компания контакта","Ответственный","Дата создания","Должность (контакт)","Рабочий телефон (контакт)","Рабочий email (контакт)","Теги"\n"501","контакт","Ольга Белова","ООО Север","Анна Смирнова","05.03.2026 10:15:00","Закупщик","79161112233","olga@sever.ru","цемент"\n"502","компания","","ООО Север","Анна Смирнова","05.03.2026 10:15:00","","","",""\n'
SELECT * FROM pg_temp.load('amocrm', 'contact', replace(:'amo_contacts', '\n', E'\n'));
SELECT * FROM pg_temp.told();
\set amo_deals '"ID","Название сделки","Компания","Основной контакт","Ответственный","Этап сделки","Воронка","Бюджет ₽","Дата создания сделки","Дата закрытия"\n"701","Цемент М500","ООО Север","Ольга Белова","Анна Смирнова","Первичный контакт","Воронка","150 000","06.03.2026 11:00:00","не закрыта"\n"702","Щебень","ООО Юг","","Иван Петров","Успешно реализовано","Воронка","99000.50","01.02.2026 09:00:00","20.02.2026 18:00:00"\n"703","Песок","ООО Юг","","Пётр Нетакой","Согласование договора","Воронка","1","01.02.2026",""\n'
SELECT * FROM pg_temp.load('amocrm', 'deal', replace(:'amo_deals', '\n', E'\n'), options => '{"funnel": "delivery", "bad_cells": "drop"}');
SELECT * FROM pg_temp.told();
SELECT crm.import_map_stage('amocrm', 'Согласование договора', 'delivery', 'agreed');
SELECT * FROM pg_temp.load('amocrm', 'deal', replace(:'amo_deals', '\n', E'\n'), options => '{"funnel": "delivery", "bad_cells": "drop"}');
SELECT d.source, d.source_id, d.name, c.name AS company, k.name AS contact, e.name AS owner, s.code, d.amount, d.created_at, d.closed_at
FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id LEFT JOIN crm.company c ON c.id = d.company_id LEFT JOIN crm.contact k ON k.id = d.contact_id LEFT JOIN crm.employee e ON e.id = d.owner_id ORDER BY d.id;
\echo Bitrix24: windows-1251, semicolons, requisites beside the company, parts of a name
SELECT * FROM pg_temp.load('bitrix24', 'company', E'ID;"Название компании";"Тип компании";"Рабочий телефон";"Мобильный телефон";"Рабочий e-mail";"Ответственный";"Дата создания";"Реквизит (Россия): ИНН";"Реквизит (Россия): КПП"\n11;"Бетон ""Плюс""";Клиент;"+7 (495) 000-00-01";;info@beton.ru;"Анна Смирнова";"24.11.2025 10:00:00";7707083893;773601001\n', 'WIN1251');
SELECT c.name, c.inn, c.kpp, e.name AS owner, p.value, t.extra FROM crm.company c LEFT JOIN crm.employee e ON e.id = c.owner_id JOIN crm.contact k ON k.company_id = c.id JOIN crm.contact_point p ON p.contact_id = k.id
	JOIN crm.import_item t ON t.object_kind = 'company' AND t.object_id = c.id WHERE c.source = 'bitrix24' ORDER BY p.value;
SELECT * FROM pg_temp.load('bitrix24', 'contact', E'"ID";"Имя";"Отчество";"Фамилия";"Должность";"Компания";"Рабочий телефон";"Частный e-mail"\n"21";"Пётр";"Ильич";"Чайкин";"Директор";"Бетон ""Плюс""";"8 916 000 00 21";"p@beton.ru"\n', 'WIN1251');
SELECT c.name, c."position", k.name AS company FROM crm.contact c JOIN crm.company k ON k.id = c.company_id WHERE c.source = 'bitrix24' AND c.source_id = '21';
SELECT * FROM pg_temp.load('bitrix24', 'deal', E'"ID";"Название";"Воронка";"Стадия сделки";"Сумма";"Валюта";"Компания";"Контакт";"Ответственный";"Дата начала";"Дата завершения"\n"31";"Поставка";"Общая";"Сделка провалена";"500000";"RUB";"Бетон ""Плюс""";"Пётр Чайкин";"Иван Петров";"01.09.2025";"30.09.2025"\n', 'WIN1251', '{"funnel": "delivery"}');
SELECT d.name, s.code, d.amount, d.closed_at FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.source = 'bitrix24';
SELECT * FROM pg_temp.told();
\echo 1C:CRM: a title above the headings, an empty date of 1C, thousands by a blank that does not break
SELECT * FROM pg_temp.load('1c_crm', 'deal', E'Список интересов\n\nНомер;Дата;Наименование;Клиент;Контактное лицо;Ответственный;Этап;Сумма;Дата закрытия\n0000-000123;24.11.2025 9:05:00;Интерес к цементу;ООО «Север»;Ольга Белова;Анна Смирнова;Успешное завершение;1\u00a0234\u00a0567,50;24.12.2025 0:00:00\n0000-000124;25.11.2025;Щебень;ООО «Север»;;Анна Смирнова;Новая;5;01.01.0001 0:00:00\n', options => '{"funnel": "delivery"}');
SELECT d.source_id, d.name, c.name AS company, s.code, d.amount, d.created_at, d.closed_at FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id JOIN crm.company c ON c.id = d.company_id WHERE d.source = '1c_crm' ORDER BY d.source_id;
\echo what is assumed of each export is marked, and can be switched
SELECT profile, count(*) FILTER (WHERE assumed) > 0 AS some_assumed, bool_and(shipped) AS shipped FROM crm.import_heading GROUP BY 1 ORDER BY 1;
UPDATE crm.import_heading SET enabled = false WHERE profile = 'any' AND entity = 'company' AND heading = 'компания';
SELECT crm.activate('live') AS mode;
SELECT enabled FROM crm.import_heading WHERE profile = 'any' AND entity = 'company' AND heading = 'компания';
ROLLBACK;
