-- The robots of orders: the reminder to place one, and the rules that come with the product for them. May be run again at any time.

CREATE OR REPLACE FUNCTION crm.no_order_since(company_id bigint, at timestamptz, hours integer) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN crm.for_plant() OR crm.sees_company($1) THEN
		NOT EXISTS (SELECT FROM crm.customer_order o WHERE o.company_id = $1 AND o.ordered_at > $2 - $3 * interval '1 hour' AND o.state <> 'cancelled') END;
END;
COMMENT ON FUNCTION crm.no_order_since(bigint, timestamptz, integer) IS 'Whether a client has placed no order since so many hours before a moment; cancelled ones do not count. For the truth of rules. Claim 52';

CREATE OR REPLACE FUNCTION crm.order_source(order_id bigint) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT o.source FROM crm.customer_order o WHERE o.id = $1 AND (crm.for_plant() OR crm.sees_company(o.company_id));
END;
COMMENT ON FUNCTION crm.order_source(bigint) IS 'Where an order came from: manual, erp, site, …. For conditions: crm.order_source(object_id) <> ''erp''';

SELECT crm.register_truth('no_order_since', 'crm.no_order_since', 'Whether a client has placed no order since so many hours before a moment');
SELECT crm.register_truth('order_source', 'crm.order_source', 'Where an order came from');
SELECT crm.register_event_kind('order.reminder', 'schedule', ARRAY['hours', 'at_local', 'date_local'], 'It is time for a contact to place an order', 'Контакту пора сделать заказ');

CREATE OR REPLACE FUNCTION crm.order_remind(schedule_id bigint, planned_at timestamptz) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'order.reminder', 'schedule', s.id, c.company_id, $2,
		jsonb_build_object('hours', s.args ->> 'hours', 'at_local', to_char($2 AT TIME ZONE s.zone, 'HH24:MI'), 'date_local', to_char($2 AT TIME ZONE s.zone, 'DD.MM.YYYY')),
		'schedule', format('%s %s', s.id, extract(epoch FROM $2))
	FROM crm.schedule s JOIN crm.contact c ON c.id = s.contact_id AND c.archived_at IS NULL
	WHERE s.id = $1
$$;
COMMENT ON FUNCTION crm.order_remind(bigint, timestamptz) IS 'Action order_reminder of schedules: emits order.reminder for the schedule''s contact';
SELECT crm.register_schedule_action('order_reminder', 'crm.order_remind');

CREATE OR REPLACE FUNCTION crm.schedule_contact(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT e.id, s.contact_id FROM crm.event e
	CROSS JOIN LATERAL (SELECT y.contact_id FROM crm.schedule y WHERE y.id = e.object_id OFFSET 0) s
	WHERE e.id = ANY ($1) AND e.object_kind = 'schedule' AND s.contact_id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.schedule_contact(bigint[]) IS 'Audience: the contact whose schedule the event is of';
SELECT crm.register_audience('schedule_contact', 'crm.schedule_contact', 'The contact whose schedule the event is of');

CREATE OR REPLACE FUNCTION crm.set_order_schedule(contact_id bigint, rrule text, zone text DEFAULT NULL, holidays text DEFAULT 'skip', hours integer DEFAULT 12) RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name_ constant text := 'order_reminder.' || $1;
	own_zone text := $3;
	id bigint;
BEGIN
	SELECT coalesce(own_zone, c.time_zone, m.time_zone, current_setting('crm.time_zone')) INTO own_zone
	FROM crm.contact c LEFT JOIN crm.company m ON m.id = c.company_id WHERE c.id = $1 AND c.company_id IS NOT NULL AND c.archived_at IS NULL AND crm.sees_contact(c.id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('contact %s is not there, or belongs to no company', $1), HINT = 'SELECT id, name FROM crm.contact WHERE company_id = …;';
	END IF;
	IF $2 IS NULL THEN
		UPDATE crm.schedule s SET enabled = false WHERE s.code = name_ RETURNING s.id INTO id;
		RETURN id;
	END IF;
	IF strpos($2, 'BYHOUR=') = 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the rule names no hour: %s', $2), HINT = 'For example FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=10;BYMINUTE=0.';
	END IF;
	IF $5 IS NULL OR $5 NOT BETWEEN 1 AND 8784 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a number of hours: %s', coalesce($5::text, 'NULL')), HINT = 'Give 1 to 8784: an order that young needs no reminder.';
	END IF;
	PERFORM crm.calendar_check('office', own_zone);
	RETURN crm.add_schedule(name_, 'order_reminder', $2, date_trunc('day', crm.now() AT TIME ZONE own_zone) AT TIME ZONE own_zone, own_zone, $4, jsonb_build_object('hours', $5), $1);
END
$$;
COMMENT ON FUNCTION crm.set_order_schedule(bigint, text, text, text, integer) IS 'When a contact is reminded to place an order: a recurrence rule with its hour (crm.rrule_check), by the clock of a zone (NULL: the contact''s, else the company''s), on days off keep, skip, before or after; NULL as the rule switches it off. The reminder is not sent where the client has placed an order within so many hours before it. Returns the schedule. Errors: 23503 no such contact, 22023 rule, zone, hours, 23514 holidays. Claim 52';

-- ---- rules that ship ---------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.ship_robots() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t record;
BEGIN
	-- code, kind, text, subject of the letter: NULL where another rule sends one with its paper
	FOR t IN SELECT * FROM (VALUES
		('order.reminder', 'order.reminder', 'Здравствуйте, {{contact_name}}! Пора сделать заказ. Ждём вашу заявку.', 'Dear {{contact_name}}, it is time to place your order.', 'Пора сделать заказ', 'Time to place your order'),
		('order.out_of_hours', 'order.created', 'Новый заказ {{order_number}}: {{client}}, {{product}}, {{tonnes}} т, {{at_local}}.', 'New order {{order_number}}: {{client}}, {{product}}, {{tonnes}} t, at {{at_local}}.',
			'Новый заказ {{order_number}}', 'New order {{order_number}}'),
		('lead.out_of_hours', 'lead.received', 'Новое обращение {{at_local}}: {{name}} {{phone}}. {{words}}', 'New request at {{at_local}}: {{name}} {{phone}}. {{words}}', 'Новое обращение', 'New request'),
		('carrier_request.asked', 'carrier_request.asked', 'Срочно: заказ {{order_number}}, {{product}}, {{tonnes}} т, {{place_name}}, {{needed_local}}. Ответьте до {{deadline_local}}. {{link}}',
			'Urgent: order {{order_number}}, {{product}}, {{tonnes}} t, {{place_name}}, {{needed_local}}. Answer by {{deadline_local}}. {{link}}',
			'Срочная заявка: заказ {{order_number}}', 'Urgent request: order {{order_number}}'),
		('carrier_request.expired', 'carrier_request.expired', 'Заказ {{order_number}}: ни один перевозчик не принял заявку на {{tonnes}} т.', 'Order {{order_number}}: no carrier took the request for {{tonnes}} t.',
			'Заказ {{order_number}}: нет перевозчика', 'Order {{order_number}}: no carrier'),
		('slot.late', 'slot.late', 'Погрузка {{at_local}}, {{place_name}}: машина {{vehicle_plate}} опаздывает. Заказ {{order_number}}. Сообщите причину. {{link}}',
			'Loading at {{at_local}}, {{place_name}}: vehicle {{vehicle_plate}} is late. Order {{order_number}}. Tell us why. {{link}}',
			'Машина {{vehicle_plate}} опаздывает на погрузку', 'Vehicle {{vehicle_plate}} is late for loading'),
		('claim.made', 'claim.made', 'Претензия {{claim_id}}: {{vehicle_plate}}, опоздание {{late_minutes}} мин, штраф {{penalty}} руб. Объяснение до {{explain_by_local}}. {{link}}',
			'Claim {{claim_id}}: {{vehicle_plate}}, {{late_minutes}} min late, penalty {{penalty}} RUB. Explain by {{explain_by_local}}. {{link}}', NULL, NULL),
		('claim.decided', 'claim.decided', 'Претензия {{claim_id}}: решение принято, штраф {{penalty}} руб. {{reason}} {{link}}', 'Claim {{claim_id}} is decided, penalty {{penalty}} RUB. {{reason}} {{link}}', NULL, NULL)
	) AS v(code, kind, ru, en, subject_ru, subject_en) LOOP
		-- a room that is not installed has no such events
		CONTINUE WHEN NOT EXISTS (SELECT FROM crm.event_kind k WHERE k.kind = t.kind);
		PERFORM crm.ship_words(t.code, 'ru', t.ru, t.subject_ru), crm.ship_words(t.code, 'en', t.en, t.subject_en);
	END LOOP;
	FOR t IN SELECT * FROM (VALUES
		('order.reminder', '{"event_kind": "order.reminder", "audience": "schedule_contact", "truth": "crm.no_order_since(company_id, at, (data ->> ''hours'')::integer)", "expires_after": "4 hours"}'),
		('order.out_of_hours', '{"event_kind": "order.created", "condition": "crm.order_source(object_id) <> ''erp'' AND crm.out_of_hours(at, company_id)", "audience": "manager_on_duty",
			"priority": 2, "quiet": "urgent", "expires_after": "12 hours"}'),
		('lead.out_of_hours', '{"event_kind": "lead.received", "condition": "crm.out_of_hours(at, company_id)", "audience": "manager_on_duty", "priority": 2, "quiet": "urgent", "expires_after": "12 hours"}'),
		('carrier_request.asked', '{"event_kind": "carrier_request.asked", "audience": "carrier_offer_contact", "truth": "crm.carrier_offer_open(object_id)", "once": "object",
			"priority": 2, "quiet": "urgent", "expires_after": "24 hours"}'),
		('carrier_request.expired', '{"event_kind": "carrier_request.expired", "audience": "manager_on_duty", "once": "object", "priority": 2, "quiet": "urgent", "expires_after": "12 hours"}'),
		('slot.late', '{"event_kind": "slot.late", "audience": "company_contacts", "once": "object", "priority": 2, "quiet": "urgent", "expires_after": "3 hours"}'),
		('claim.made', '{"event_kind": "claim.made", "audience": "company_contacts", "truth": "crm.claim_stands(object_id)", "expires_after": "72 hours"}'),
		('claim.decided', '{"event_kind": "claim.decided", "audience": "company_contacts", "expires_after": "72 hours"}')
	) AS v(code, definition) LOOP
		CONTINUE WHEN NOT EXISTS (SELECT FROM crm.event_kind k WHERE k.kind = t.definition::jsonb ->> 'event_kind');
		PERFORM crm.ship_rule(t.code, t.definition::jsonb || jsonb_build_object('channel', 'auto', 'template', t.code)
			|| CASE WHEN t.code = 'slot.late' AND EXISTS (SELECT FROM crm.truth x WHERE x.name = 'slot_late') THEN '{"truth": "crm.slot_late(object_id)"}'::jsonb ELSE '{}' END);
	END LOOP;
	PERFORM crm.rules_check();
END
$$;
COMMENT ON FUNCTION crm.ship_robots() IS 'Brings the rules and templates about orders that are to be placed, requests out of hours, carriers, slots and claims; what the DBA changed or switched stays. Called by crm.activate(). Claims 52 to 56';
SELECT crm.register_hook('ship', 'robots', 'crm.ship_robots');
