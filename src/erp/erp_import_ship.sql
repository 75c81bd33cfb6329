-- erp: by which words the columns and stages of sheets and of other CRMs' exports are known. Code: may be run any
-- number of times. Words of Bitrix24's exports of companies were seen in a program that reads them; what stands
-- under assumed comes from memory of such files and differs with version and settings: the preview shows it.

CREATE OR REPLACE FUNCTION crm.ship_import() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Several words for one field, parted by a line; a word for many entities stands under each.
	INSERT INTO crm.import_heading AS h (profile, entity, heading, field, assumed, shipped)
	SELECT DISTINCT ON (v.profile, e.entity, crm.sheet_key(w.word)) v.profile, e.entity, crm.sheet_key(w.word), v.field, v.assumed, true
	FROM (VALUES
		('any', 'company', 'name', false, 'Название|Наименование|Компания|Клиент|Организация|Контрагент|Партнер|Название компании|Наименование компании|Название организации|Краткое наименование|Company|Company name|Name|Account|Account name|Organization|Customer'),
		('any', 'company', 'full_name', false, 'Полное название|Полное наименование|Юридическое название|Юридическое лицо|Наименование полное|Full name|Legal name'),
		('any', 'company contact deal task', 'inn', false, 'ИНН|ИНН компании|ИНН организации|ИНН контрагента|INN|Tax number|Tax ID|VAT ID'),
		('any', 'company', 'kpp', false, 'КПП|KPP'),
		('any', 'company contact', 'phone', false, 'Телефон|Телефоны|Тел|Рабочий телефон|Номер телефона|Контактный телефон|Основной телефон|Phone|Phone number|Telephone|Work phone'),
		('any', 'company contact', 'phone2', false, 'Мобильный телефон|Мобильный|Сотовый|Телефон 2|Второй телефон|Доп. телефон|Mobile|Mobile phone|Phone 2|Cell'),
		('any', 'contact', 'phone3', false, 'Телефон 3|Третий телефон|Другой телефон|Домашний телефон|Phone 3|Home phone|Other phone'),
		('any', 'company contact', 'email', false, 'Email|E-mail|Почта|Эл. почта|Электронная почта|Адрес электронной почты|Рабочий email|Рабочий e-mail|Email address|Work email'),
		('any', 'contact', 'email2', false, 'Email 2|Личный email|Личный e-mail|Частный e-mail|Другой email|Другой e-mail|Home email'),
		('any', 'company', 'is_client', false, 'Клиент да/нет|Является клиентом|Is client'),
		('any', 'company', 'is_carrier', false, 'Перевозчик|Является перевозчиком|Carrier|Is carrier'),
		('any', 'company deal task', 'owner', false, 'Ответственный|Менеджер|Ответственный менеджер|Основной менеджер|Ответственный сотрудник|Owner|Responsible|Manager|Sales agent|Sales rep|Assigned to'),
		('any', 'company contact deal task', 'created_at', false, 'Дата создания|Создан|Создана|Создано|Дата добавления|Created|Created at|Created on|Created date|Engage date|Date created'),
		('any', 'company contact deal task employee', 'id', false, 'ID|Код|Номер записи|Идентификатор|Record ID|Opportunity ID|Deal ID|Contact ID|Company ID|External ID'),
		('any', 'contact', 'name', false, 'Имя|ФИО|Ф.И.О.|Контакт|Контактное лицо|Полное имя|Имя контакта|Представитель|Name|Full name|Contact|Contact name|Contact person'),
		('any', 'contact', 'last_name', false, 'Фамилия|Last name|Surname|Family name'),
		('any', 'contact', 'first_name', false, 'Имя без фамилии|First name|Given name'),
		('any', 'contact', 'middle_name', false, 'Отчество|Middle name|Second name|Patronymic'),
		('any', 'contact', 'position', false, 'Должность|Position|Job title|Title'),
		('any', 'contact deal task', 'company', false, 'Компания|Клиент|Организация|Контрагент|Партнер|Название компании|Наименование компании|Company|Company name|Account|Account name|Organization|Customer'),
		('any', 'contact deal task', 'company_id', false, 'ID компании|Код компании|Код клиента|Account ID|Customer ID'),
		('any', 'contact', 'is_decision_maker', false, 'ЛПР|Принимает решения|Decision maker'),
		('any', 'deal', 'name', false, 'Название|Наименование|Сделка|Название сделки|Тема|Интерес|Name|Deal|Deal name|Title|Opportunity|Opportunity name'),
		('any', 'deal task', 'contact', false, 'Контакт|Контактное лицо|Основной контакт|ФИО|Contact|Contact name|Contact person'),
		('any', 'deal task', 'contact_id', false, 'ID контакта|Код контакта'),
		('any', 'deal', 'pipeline', false, 'Воронка|Воронка продаж|Направление|Pipeline|Sales pipeline|Funnel'),
		('any', 'deal', 'stage', false, 'Этап|Стадия|Статус|Этап сделки|Стадия сделки|Статус сделки|Stage|Deal stage|Status'),
		('any', 'deal', 'amount', false, 'Сумма|Бюджет|Стоимость|Сумма сделки|Сумма, руб.|Бюджет ₽|Amount|Value|Budget|Price|Close value|Deal value'),
		('any', 'deal', 'tonnes', false, 'Тонны|Тоннаж|Объем, т|Вес, т|Tonnes|Tons'),
		('any', 'deal', 'product', false, 'Товар|Продукт|Товары|Product|Products'),
		('any', 'deal', 'closed_at', false, 'Дата закрытия|Закрыта|Дата завершения|Close date|Closed|Closed at|Closing date'),
		('any', 'task', 'name', false, 'Задача|Название|Наименование|Тема|Текст задачи|Task|Name|Subject|Title'),
		('any', 'task', 'note', false, 'Описание|Комментарий|Примечание|Description|Note|Notes|Comment'),
		('any', 'task', 'owner', false, 'Исполнитель|Doer|Assignee'),
		('any', 'task', 'giver', false, 'Постановщик|Автор|Поручил|Created by|Creator|Author'),
		('any', 'task', 'due_at', false, 'Срок|Крайний срок|Дата исполнения|Срок исполнения|Выполнить до|Due|Due date|Due at|Deadline'),
		('any', 'task', 'state', false, 'Статус|Состояние|Выполнена|Выполнено|State|Status|Done|Completed'),
		('any', 'task', 'done_at', false, 'Дата выполнения|Дата закрытия|Дата завершения|Done at|Completed at|Closed at'),
		('any', 'task', 'result', false, 'Результат|Result'),
		('any', 'employee', 'name', false, 'Сотрудник|ФИО|Имя|Менеджер|Employee|Name|Full name|Sales agent'),
		('any', 'employee', 'team', false, 'Отдел|Подразделение|Команда|Team|Department|Regional office'),
		('any', 'employee', 'is_head', false, 'Руководитель|Начальник|Head|Is head'),
		-- amoCRM: exports of contacts hold companies too, told by Тип
		('amocrm', 'company', 'name', true, 'Название компании|Наименование'),
		('amocrm', 'contact', 'name', true, 'Полное имя контакта|Наименование'),
		('amocrm', 'contact', 'company', true, 'Компания контакта|Компания'),
		('amocrm', 'company contact', 'row_kind', true, 'Тип'),
		('amocrm', 'contact', 'position', true, 'Должность (контакт)|Должность контакта'),
		('amocrm', 'company contact', 'phone', true, 'Рабочий телефон (контакт)|Рабочий телефон (компания)|Рабочий телефон'),
		('amocrm', 'contact', 'phone2', true, 'Мобильный телефон (контакт)|Мобильный телефон|Рабочий прямой телефон'),
		('amocrm', 'company contact', 'email', true, 'Рабочий email (контакт)|Рабочий email (компания)|Рабочий email'),
		('amocrm', 'contact', 'email2', true, 'Личный email (контакт)|Личный email'),
		('amocrm', 'deal', 'name', true, 'Название сделки'),
		('amocrm', 'deal', 'company', true, 'Компания|Компания контакта'),
		('amocrm', 'deal', 'contact', true, 'Основной контакт|Полное имя контакта'),
		('amocrm', 'deal', 'pipeline', true, 'Воронка'),
		('amocrm', 'deal', 'stage', true, 'Этап сделки|Статус сделки'),
		('amocrm', 'deal', 'amount', true, 'Бюджет ₽|Бюджет|Бюджет, руб|Бюджет сделки'),
		('amocrm', 'deal', 'created_at', true, 'Дата создания сделки|Дата создания'),
		('amocrm', 'deal', 'closed_at', true, 'Дата закрытия'),
		('amocrm', 'task', 'name', true, 'Текст задачи|Комментарий|Задача'),
		('amocrm', 'task', 'note', true, 'Тип задачи'),
		('amocrm', 'task', 'due_at', true, 'Дата исполнения|Срок|Дата завершения'),
		('amocrm', 'task', 'owner', true, 'Исполнитель|Ответственный'),
		('amocrm', 'task', 'giver', true, 'Автор|Кем создана'),
		-- Bitrix24
		('bitrix24', 'company', 'name', false, 'Название компании'),
		('bitrix24', 'company', 'full_name', false, 'Реквизит (Россия): Полное наименование организации'),
		('bitrix24', 'company', 'inn', false, 'Реквизит (Россия): ИНН'),
		('bitrix24', 'company', 'kpp', false, 'Реквизит (Россия): КПП'),
		('bitrix24', 'company contact', 'phone', false, 'Рабочий телефон'),
		('bitrix24', 'company contact', 'phone2', false, 'Мобильный телефон'),
		('bitrix24', 'contact', 'phone3', true, 'Другой телефон'),
		('bitrix24', 'company contact', 'email', false, 'Рабочий e-mail'),
		('bitrix24', 'contact', 'email2', true, 'Частный e-mail'),
		('bitrix24', 'contact', 'first_name', true, 'Имя'),
		('bitrix24', 'contact', 'last_name', true, 'Фамилия'),
		('bitrix24', 'contact', 'middle_name', true, 'Отчество'),
		('bitrix24', 'contact deal', 'company', true, 'Компания|Компания: Название компании'),
		('bitrix24', 'deal', 'name', true, 'Название'),
		('bitrix24', 'deal', 'pipeline', true, 'Воронка|Направление сделки|Направление'),
		('bitrix24', 'deal', 'stage', true, 'Стадия сделки|Стадия'),
		('bitrix24', 'deal', 'amount', true, 'Сумма'),
		('bitrix24', 'deal', 'created_at', true, 'Дата начала|Дата создания'),
		('bitrix24', 'deal', 'closed_at', true, 'Дата завершения|Предполагаемая дата закрытия'),
		('bitrix24', 'deal', 'contact', true, 'Контакт'),
		('bitrix24', 'task', 'name', true, 'Название|Задача'),
		('bitrix24', 'task', 'due_at', true, 'Крайний срок'),
		('bitrix24', 'task', 'owner', true, 'Ответственный|Исполнитель'),
		('bitrix24', 'task', 'giver', true, 'Постановщик'),
		('bitrix24', 'task', 'state', true, 'Статус'),
		('bitrix24', 'task', 'done_at', true, 'Дата закрытия'),
		-- 1C:CRM: lists saved as .xlsx, often under a few lines of title
		('1c_crm', 'company', 'name', true, 'Наименование|Клиент|Партнер|Рабочее наименование'),
		('1c_crm', 'company', 'full_name', true, 'Полное наименование|Публичное наименование|Наименование для печати'),
		('1c_crm', 'company', 'owner', true, 'Основной менеджер|Ответственный'),
		('1c_crm', 'company contact deal task', 'id', true, 'Код|Номер'),
		('1c_crm', 'company contact', 'email', true, 'Адрес электронной почты|Адрес эл. почты|E-mail'),
		('1c_crm', 'contact', 'name', true, 'Наименование|Контактное лицо|ФИО'),
		('1c_crm', 'contact', 'company', true, 'Владелец|Клиент|Партнер|Контрагент'),
		('1c_crm', 'contact', 'position', true, 'Должность|Роль'),
		('1c_crm', 'deal', 'name', true, 'Наименование|Тема|Описание'),
		('1c_crm', 'deal', 'company', true, 'Клиент|Партнер|Контрагент'),
		('1c_crm', 'deal', 'stage', true, 'Этап|Состояние|Стадия|Текущий этап'),
		('1c_crm', 'deal', 'pipeline', true, 'Вид интереса|Вид сделки|Процесс продажи|Бизнес-процесс'),
		('1c_crm', 'deal', 'amount', true, 'Сумма|Потенциал|Сумма документа'),
		('1c_crm', 'deal', 'created_at', true, 'Дата|Дата начала'),
		('1c_crm', 'deal', 'closed_at', true, 'Дата окончания|Дата закрытия'),
		('1c_crm', 'task', 'name', true, 'Наименование|Тема|Описание'),
		('1c_crm', 'task', 'due_at', true, 'Срок исполнения|Срок|Дата окончания'),
		('1c_crm', 'task', 'owner', true, 'Исполнитель|Ответственный'),
		('1c_crm', 'task', 'giver', true, 'Автор'),
		('1c_crm', 'task', 'state', true, 'Выполнена|Состояние'),
		('1c_crm', 'task', 'created_at', true, 'Дата')
	) AS v(profile, entities, field, assumed, words)
	CROSS JOIN LATERAL regexp_split_to_table(v.entities, ' ') AS e(entity)
	CROSS JOIN LATERAL regexp_split_to_table(v.words, '\|') AS w(word)
	ORDER BY v.profile, e.entity, crm.sheet_key(w.word)
	ON CONFLICT ON CONSTRAINT import_heading_pkey DO NOTHING;

	INSERT INTO crm.import_stage AS s (profile, stage, stage_code, assumed, shipped)
	SELECT DISTINCT ON (v.profile, crm.sheet_key(w.word)) v.profile, crm.sheet_key(w.word), v.target, v.assumed, true
	FROM (VALUES
		('any', '@won', false, 'Won|Closed won|Выиграна|Выиграно|Успешно|Успешна|Закрыта успешно'),
		('any', '@lost', false, 'Lost|Closed lost|Проиграна|Проиграно|Потеряна|Отказ|Закрыта неуспешно'),
		('amocrm', '@won', true, 'Успешно реализовано'),
		('amocrm', '@lost', true, 'Закрыто и не реализовано'),
		('amocrm', '@first', true, 'Неразобранное|Первичный контакт'),
		('bitrix24', '@won', true, 'Сделка успешна|Сделка заключена'),
		('bitrix24', '@lost', true, 'Сделка провалена|Сделка проиграна|Анализ причины провала'),
		('bitrix24', '@first', true, 'Новая'),
		('1c_crm', '@won', true, 'Выиграна|Успешное завершение|Закрыт успешно|Удовлетворен'),
		('1c_crm', '@lost', true, 'Проиграна|Неуспешное завершение|Закрыт неуспешно|Не удовлетворен')
	) AS v(profile, target, assumed, words)
	CROSS JOIN LATERAL regexp_split_to_table(v.words, '\|') AS w(word)
	ORDER BY v.profile, crm.sheet_key(w.word)
	ON CONFLICT ON CONSTRAINT import_stage_pkey DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.ship_import() IS 'Writes the headings and stages by which sheets and the exports of amoCRM, Bitrix24 and 1C:CRM are read; what a DBA changed or switched off stays. Called by crm.activate().';
SELECT crm.register_hook('ship', 'import', 'crm.ship_import');
