-- claims 4 and 14: tasks come in from a sheet, with doer, giver, company, state and deadline; one without a
-- deadline is refused; an update and the load itself are taken back.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
BEGIN;
SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.employee (id, name) VALUES (900001, 'Анна Смирнова'), (900002, 'Иван Петров');
INSERT INTO crm.company (id, name) VALUES (900001, 'Север');
SELECT import_id AS id, rows_created AS created, rows_refused AS refused FROM crm.import_load('tasks.csv', 'task', convert_to(E'"ID";"Название";"Описание";"Крайний срок";"Постановщик";"Ответственный";"Статус";"Компания";"Дата закрытия"\n1;Позвонить;"про цемент";01.12.2026 10:00;Иван Петров;Анна Смирнова;Ждет выполнения;ООО Север;\n2;Письмо;;01.10.2026 10:00;Иван Петров;Анна Смирнова;Завершена;;02.10.2026 09:00\n3;Отмена;;01.10.2026 10:00;;Никто;Отклонена;;\n4;Без срока;;;;;;;\n', 'UTF8'), profile => 'bitrix24') \gset
SELECT :created AS created, :refused AS refused;
SELECT name, note, employee_id, giver_id, company_id, due_at, state, done_at, reason, source, source_id FROM crm.task ORDER BY id;
SELECT cell, severity, message FROM crm.import_report(:id);
SELECT import_id AS second FROM crm.import_load('tasks.csv', 'task', convert_to(E'"ID";"Название";"Крайний срок"\n1;Позвонить ещё;05.12.2026 10:00\n', 'UTF8'), profile => 'bitrix24', policy => 'update') \gset
SELECT name, due_at FROM crm.task WHERE source_id = '1';
SELECT * FROM crm.import_undo(:second);
SELECT name, due_at FROM crm.task WHERE source_id = '1';
SELECT * FROM crm.import_undo(:id);
SELECT count(*) FROM crm.task;
ROLLBACK;
