-- kpi: presets: a plant's first funnel, its rules and its report by one call (claim 13). Code: may be run again.

CREATE OR REPLACE FUNCTION crm.setup_funnel(code text, name_ru text, name_en text, stages jsonb, moves text[], actions jsonb) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	made bigint;
BEGIN
	-- a draft until it is whole
	INSERT INTO crm.funnel AS f (code, name_ru, name_en, next_step, shipped, enabled) VALUES ($1, $2, $3, 'tell', true, false) ON CONFLICT ON CONSTRAINT funnel_code_key DO NOTHING RETURNING f.id INTO made;
	IF made IS NULL THEN
		RETURN false;					-- whoever has it has made it his own
	END IF;
	INSERT INTO crm.stage (funnel_id, code, name_ru, name_en, "position", is_won, is_lost, rot_days, enter_required, reason_required, shipped)
	SELECT made, s.code, s.ru, s.en, s.n * 10, coalesce(s."end", '') = 'won', coalesce(s."end", '') = 'lost', s.rot, s.required, coalesce(s."end", '') = 'lost', true
	FROM ROWS FROM (jsonb_to_recordset($4) AS (code text, ru text, en text, "end" text, rot integer, required text[])) WITH ORDINALITY AS s(code, ru, en, "end", rot, required, n);
	INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id, shipped)
	SELECT made, a.id, b.id, true
	FROM unnest($5) AS m(pair)
	JOIN crm.stage a ON a.funnel_id = made AND a.code = split_part(m.pair, ' ', 1)
	JOIN crm.stage b ON b.funnel_id = made AND b.code = split_part(m.pair, ' ', 2);
	INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings, "position", after, after_unit, at_time, on_leave, until_answer, on_error, shipped)
	SELECT made, s.id, a.action, a.settings, a.n * 10, a.after, coalesce(a.unit, 'days'), a.at_time, coalesce(a.on_leave, 'cancel'), coalesce(a.until_answer, false), coalesce(a.on_error, 'block'), true
	FROM ROWS FROM (jsonb_to_recordset($6) AS (stage text, action text, settings jsonb, after integer, unit text, at_time time, on_leave text, until_answer boolean, on_error text))
		WITH ORDINALITY AS a(stage, action, settings, after, unit, at_time, on_leave, until_answer, on_error, n)
	JOIN crm.stage s ON s.funnel_id = made AND s.code = a.stage;
	UPDATE crm.funnel f SET enabled = true WHERE f.id = made;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.setup_funnel(text, text, text, jsonb, text[], jsonb) IS 'Makes a funnel of a preset, with stages in their order, moves ("from to") and actions. False: it is there, and stays as it is. For crm.setup().';

CREATE OR REPLACE FUNCTION crm.setup(preset text) RETURNS TABLE (what text, name text, state text)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	rules text[];
	made  boolean;
BEGIN
	IF preset IS NULL OR preset NOT IN ('cement_plant', 'storage') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('there is no preset %s', coalesce(quote_literal(left(preset, 100)), 'NULL')), HINT = 'Use ''cement_plant'' or ''storage''.';
	END IF;
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active, so no rules have come yet', HINT = 'SELECT crm.activate(); first (crm.activate(''sandbox'') to try).';
	END IF;

	IF preset = 'cement_plant' THEN
		PERFORM crm.ship_template('stage.offer', 'sms', 'ru', NULL, 'Здравствуйте, {{contact_name}}! Отправили вам предложение: {{deal}}, {{tonnes}} т.', NULL),
			crm.ship_template('stage.offer', 'sms', 'en', NULL, 'Dear {{contact_name}}, our proposal is on its way: {{deal}}, {{tonnes}} t.', NULL);
		made := crm.setup_funnel('cement_sales', 'Продажи цемента', 'Cement sales',
			'[{"code": "lead", "ru": "Обращение", "en": "Request", "rot": 3}, {"code": "need", "ru": "Потребность выяснена", "en": "Need is clear", "rot": 7, "required": ["company_id"]},
			{"code": "offer", "ru": "КП отправлено", "en": "Proposal sent", "rot": 10, "required": ["company_id", "amount"]}, {"code": "contract", "ru": "Согласование договора", "en": "Contract", "rot": 21},
			{"code": "supply", "ru": "Идут поставки", "en": "Supplies run"}, {"code": "won", "ru": "Завершена", "en": "Done", "end": "won"}, {"code": "lost", "ru": "Отказ", "en": "Lost", "end": "lost"}]',
			'{lead need,lead lost,need offer,need lost,offer contract,offer need,offer lost,contract supply,contract offer,contract lost,supply won,supply contract,lost lead}',
			'[{"stage": "lead", "action": "task", "settings": {"name": "Связаться с клиентом: {{deal}}"}, "after": 4, "unit": "hours"},
			{"stage": "need", "action": "task", "settings": {"name": "Подготовить КП: {{company}}"}, "after": 1, "unit": "working_days", "at_time": "18:00"},
			{"stage": "offer", "action": "document", "settings": {"kind": "proposal", "send": true}, "on_error": "flag"},
			{"stage": "offer", "action": "message", "settings": {"template": "stage.offer", "audience": "deal_contact"}, "on_error": "flag"},
			{"stage": "offer", "action": "task", "settings": {"name": "Узнать мнение о КП: {{company}}"}, "after": 3, "unit": "working_days", "at_time": "12:00", "until_answer": true},
			{"stage": "contract", "action": "task", "settings": {"name": "Подписать договор: {{company}}"}, "after": 5, "unit": "working_days", "at_time": "18:00"},
			{"stage": "supply", "action": "task", "settings": {"name": "Позвонить: как дела у клиента {{company}}?"}, "after": 30, "on_leave": "keep", "at_time": "12:00"}]');
		RETURN QUERY SELECT 'funnel', 'cement_sales', CASE WHEN made THEN 'made' ELSE 'there' END;
		rules := '{shipment.loaded,trip.departed,trip.approaching,trip.arrived,waybill.arrived,order.reminder,order.out_of_hours,lead.out_of_hours,carrier_request.asked,slot.late,claim.made,claim.decided,task.overdue,task.added,deal.without_next_step,deal.won,deal.lost}';
	ELSE
		PERFORM crm.ship_template('stage.contract', 'sms', 'ru', NULL, 'Здравствуйте, {{contact_name}}! Договор хранения подписан. Мы сообщим день приёмки.', NULL),
			crm.ship_template('stage.contract', 'sms', 'en', NULL, 'Dear {{contact_name}}, the storage contract is signed. We shall tell you the day.', NULL);
		made := crm.setup_funnel('warehouse', 'Склад', 'Warehouse',
			'[{"code": "request", "ru": "Заявка", "en": "Request", "rot": 2}, {"code": "fetch", "ru": "Вывоз назначен", "en": "To be fetched", "rot": 3}, {"code": "place", "ru": "Размещение", "en": "Placing", "rot": 2},
			{"code": "stored", "ru": "На хранении", "en": "Stored", "end": "won"}, {"code": "refused", "ru": "Не принято", "en": "Refused", "end": "lost"}]',
			'{request fetch,request refused,fetch place,fetch request,fetch refused,place stored,place fetch,refused request}',
			'[{"stage": "request", "action": "task", "settings": {"name": "Принять на хранение: {{company}}"}, "after": 1, "unit": "working_days", "at_time": "18:00"}]');
		RETURN QUERY SELECT 'funnel', 'warehouse', CASE WHEN made THEN 'made' ELSE 'there' END;
		made := crm.setup_funnel('storage_sales', 'Продажа хранения', 'Storage sales',
			'[{"code": "lead", "ru": "Заявка", "en": "Request", "rot": 2}, {"code": "talk", "ru": "Переговоры", "en": "Talks", "rot": 7, "required": ["company_id"]},
			{"code": "offer", "ru": "КП отправлено", "en": "Proposal sent", "rot": 7, "required": ["company_id", "amount"]}, {"code": "signing", "ru": "Договор на подписании", "en": "Signing", "rot": 10},
			{"code": "contract", "ru": "Договор заключён, на складе", "en": "Contract, at the warehouse", "rot": 10}, {"code": "rework", "ru": "Вернулась со склада", "en": "Back from the warehouse", "rot": 3},
			{"code": "won", "ru": "На хранении", "en": "Stored", "end": "won"}, {"code": "lost", "ru": "Отказ", "en": "Lost", "end": "lost"}]',
			'{lead talk,lead lost,talk offer,talk lost,offer signing,offer talk,offer lost,signing contract,signing offer,signing lost,contract won,contract rework,rework contract,rework lost,lost lead}',
			'[{"stage": "lead", "action": "task", "settings": {"name": "Перезвонить: {{deal}}"}, "after": 2, "unit": "hours"},
			{"stage": "talk", "action": "task", "settings": {"name": "Следующий звонок: {{company}}"}, "after": 3, "unit": "working_days", "at_time": "12:00"},
			{"stage": "offer", "action": "document", "settings": {"kind": "proposal", "send": true}, "on_error": "flag"},
			{"stage": "offer", "action": "task", "settings": {"name": "Получить отзыв о КП: {{company}}"}, "after": 3, "unit": "working_days", "at_time": "12:00", "until_answer": true},
			{"stage": "signing", "action": "task", "settings": {"name": "Получить подписанный договор: {{company}}"}, "after": 3, "unit": "working_days", "at_time": "18:00"},
			{"stage": "contract", "action": "hand_over", "settings": {"funnel": "warehouse", "name": "Принять: {{company}}, {{deal}}", "owner": "nobody", "wait": true, "return_won": "won", "return_lost": "rework",
				"checklist": ["Найти машину и водителя", "Назначить день погрузки", "Подготовить место"]}},
			{"stage": "contract", "action": "message", "settings": {"template": "stage.contract", "audience": "deal_contact"}, "on_error": "flag"},
			{"stage": "contract", "action": "task", "settings": {"name": "Позвонить и спросить, как дела: {{company}}"}, "after": 30, "on_leave": "keep", "at_time": "12:00"},
			{"stage": "rework", "action": "task", "settings": {"name": "Разобраться, почему склад не принял: {{company}}"}, "after": 1, "unit": "working_days", "at_time": "12:00"}]');
		RETURN QUERY SELECT 'funnel', 'storage_sales', CASE WHEN made THEN 'made' ELSE 'there' END;
		rules := '{lead.out_of_hours,order.out_of_hours,order.reminder,task.overdue,task.added,task.done,deal.without_next_step,deal.handed_over,deal.returned,deal.won,deal.lost}';
	END IF;

	-- a switch that somebody set stays as it was set
	UPDATE crm.rule r SET switched = true WHERE r.code = ANY (rules) AND r.switched IS NULL AND NOT r.enabled;
	RETURN QUERY SELECT 'rule', r.code, CASE WHEN r.broken IS NOT NULL THEN 'broken: ' || r.broken WHEN coalesce(r.switched, r.enabled) THEN 'on' ELSE 'off, as you set it' END
	FROM crm.rule r WHERE r.code = ANY (rules) ORDER BY array_position(rules, r.code);
	RETURN QUERY SELECT 'report', 'crm.kpi_report', format('%s indicators', count(*)) FROM crm.indicator i;
END
$$;
COMMENT ON FUNCTION crm.setup(text) IS 'Makes a plant ready to work (claim 13): its first funnel with tasks, documents, messages and a hand-over, the notices that belong to it switched on, the report; returns what was made, what was there, and each rule with its switch. preset: cement_plant, or storage (tyres and machines: sales and the warehouse). A second call makes nothing twice and overwrites nothing: a funnel that is there stays as it is, a rule that somebody switched off stays off. Errors: 22023 no such preset, 55000 before crm.activate().';
