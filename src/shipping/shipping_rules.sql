-- The messages about deliveries that come with the product, in Russian and English.

CREATE OR REPLACE FUNCTION crm.ship_delivery_rules() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	ru_hello constant text := 'Здравствуйте, {{contact_name}}!';
	en_hello constant text := 'Dear {{contact_name}},';
	ru_label constant text[] := ARRAY['Заказ', 'Груз', 'Машина'];
	en_label constant text[] := ARRAY['Order', 'Cargo', 'Vehicle'];
	fact constant text[] := ARRAY['{{order_number}}', '{{product}}, {{tonnes}} т', '{{vehicle_plate}}'];
	en_fact constant text[] := ARRAY['{{order_number}}', '{{product}}, {{tonnes}} t', '{{vehicle_plate}}'];
BEGIN
	PERFORM crm.ship_words('shipment.loaded', 'ru', 'Заказ {{order_number}}: отгружено {{product}}, {{tonnes}} т, машина {{vehicle_plate}}, накладная {{waybill}}.',
		'Заказ {{order_number}}: отгружено', ru_hello, 'Машина {{vehicle_plate}} загружена в {{at_local}}.', ru_label || 'Накладная'::text, fact || '{{waybill}}'::text);
	PERFORM crm.ship_words('shipment.loaded', 'en', 'Order {{order_number}}: {{product}}, {{tonnes}} t loaded, vehicle {{vehicle_plate}}, waybill {{waybill}}.',
		'Order {{order_number}}: loaded', en_hello, 'vehicle {{vehicle_plate}} was loaded at {{at_local}}.', en_label || 'Waybill'::text, en_fact || '{{waybill}}'::text);
	-- lines of digests: of one of the two there is none
	PERFORM crm.ship_words('shipment.digest', 'ru', 'Заказ {{order_number}}: {{product}}, {{tonnes}} т, {{wagon_number}}{{vehicle_plate}}, накладная {{waybill}}.', 'Отгрузка',
		NULL, 'Заказ {{order_number}}: {{product}}, {{tonnes}} т, {{wagon_number}}{{vehicle_plate}}, накладная {{waybill}}.');
	PERFORM crm.ship_words('shipment.digest', 'en', 'Order {{order_number}}: {{product}}, {{tonnes}} t, {{wagon_number}}{{vehicle_plate}}, waybill {{waybill}}.', 'Shipments',
		NULL, 'Order {{order_number}}: {{product}}, {{tonnes}} t, {{wagon_number}}{{vehicle_plate}}, waybill {{waybill}}.');
	-- makes sense without its link, which stands at the end (claim 70)
	PERFORM crm.ship_words('trip.departed', 'ru', 'Заказ {{order_number}}: машина {{vehicle_plate}} выехала с завода в {{at_local}}. {{track_link}}',
		'Заказ {{order_number}}: машина {{vehicle_plate}} выехала', ru_hello, 'Машина {{vehicle_plate}} выехала с завода в {{at_local}}. {{track_link}}', ru_label, fact);
	PERFORM crm.ship_words('trip.departed', 'en', 'Order {{order_number}}: vehicle {{vehicle_plate}} left the plant at {{at_local}}. {{track_link}}',
		'Order {{order_number}}: vehicle {{vehicle_plate}} has left', en_hello, 'vehicle {{vehicle_plate}} left the plant at {{at_local}}. {{track_link}}', en_label, en_fact);
	PERFORM crm.ship_words('trip.approaching', 'ru', 'Заказ {{order_number}}: машина {{vehicle_plate}} подъезжает к месту разгрузки {{place_name}}, ожидается в {{eta}}.',
		'Заказ {{order_number}}: машина {{vehicle_plate}} подъезжает', ru_hello, 'Машина {{vehicle_plate}} подъезжает к месту разгрузки {{place_name}}, ожидается в {{eta}}.', ru_label, fact);
	PERFORM crm.ship_words('trip.approaching', 'en', 'Order {{order_number}}: vehicle {{vehicle_plate}} is approaching {{place_name}}, expected at {{eta}}.',
		'Order {{order_number}}: vehicle {{vehicle_plate}} is approaching', en_hello, 'vehicle {{vehicle_plate}} is approaching {{place_name}}, expected at {{eta}}.', en_label, en_fact);
	-- the letter of the arrival has a rule of its own: the text goes by telephone alone
	PERFORM crm.ship_words('trip.arrived', 'ru', 'Заказ {{order_number}}: машина {{vehicle_plate}} прибыла в {{at_local}}, {{place_name}}.');
	PERFORM crm.ship_words('trip.arrived', 'en', 'Order {{order_number}}: vehicle {{vehicle_plate}} arrived at {{at_local}}, {{place_name}}.');
	PERFORM crm.ship_template('trip.arrived.letter', 'email', 'ru', 'Заказ {{order_number}}: машина {{vehicle_plate}} прибыла',
		E'Здравствуйте, {{contact_name}}!\n\nМашина {{vehicle_plate}} прибыла на разгрузку: {{place_name}}, {{at_local}}.\n\nЗаказ: {{order_number}}\nГруз: {{product}}, {{tonnes}} т\nВодитель: {{driver}}\n',
		crm.letter_html(ARRAY[ru_hello, 'Машина <b>{{vehicle_plate}}</b> прибыла на разгрузку.'], ARRAY['Место', 'Время', 'Заказ', 'Груз', 'Водитель'],
			ARRAY['{{place_name}}', '{{at_local}}', '{{order_number}}', '{{product}}, {{tonnes}} т', '{{driver}}']));
	PERFORM crm.ship_template('trip.arrived.letter', 'email', 'en', 'Order {{order_number}}: vehicle {{vehicle_plate}} arrived',
		E'Dear {{contact_name}},\n\nvehicle {{vehicle_plate}} has arrived for unloading: {{place_name}}, {{at_local}}.\n\nOrder: {{order_number}}\nCargo: {{product}}, {{tonnes}} t\nDriver: {{driver}}\n',
		crm.letter_html(ARRAY[en_hello, 'Vehicle <b>{{vehicle_plate}}</b> has arrived for unloading.'], ARRAY['Place', 'Time', 'Order', 'Cargo', 'Driver'],
			ARRAY['{{place_name}}', '{{at_local}}', '{{order_number}}', '{{product}}, {{tonnes}} t', '{{driver}}']));

	PERFORM crm.ship_rule('shipment.loaded', '{"event_kind": "shipment.loaded", "condition": "coalesce(data ->> ''wagon_number'', '''') = ''''", "audience": "order_contact",
		"channel": "auto", "template": "shipment.loaded", "once": "object", "expires_after": "24 hours"}');
	-- a train is weighed wagon by wagon: its client hears of it once
	PERFORM crm.ship_rule('shipment.loaded.wagon', '{"event_kind": "shipment.loaded", "condition": "coalesce(data ->> ''wagon_number'', '''') <> ''''", "audience": "order_contact",
		"channel": "auto", "template": "shipment.digest", "once": "object", "digest": "30 minutes", "expires_after": "24 hours"}');
	-- in the place of shipment.loaded, for clients of many vehicles a day
	PERFORM crm.ship_rule('shipment.loaded.digest', '{"event_kind": "shipment.loaded", "condition": "coalesce(data ->> ''wagon_number'', '''') = ''''", "audience": "order_contact",
		"channel": "auto", "template": "shipment.digest", "once": "object", "digest": "1 hour", "expires_after": "24 hours", "enabled": false}');
	-- All three of a series in one lane, so that they leave in their order; what is overtaken is not told any more.
	PERFORM crm.ship_rule('trip.departed', '{"event_kind": "trip.departed", "condition": "(data ->> ''track_by'') IS DISTINCT FROM ''locator''", "audience": "order_contact",
		"channel": "auto", "template": "trip.departed", "once": "object", "priority": 2,
		"truth": "NOT crm.trip_is(object_id, ''{arrived,unloaded}'') AND NOT crm.told(object_kind, object_id, ''{trip.approaching,trip.arrived}'')", "expires_after": "12 hours"}');
	PERFORM crm.ship_rule('trip.departed.locator', '{"event_kind": "trip.track_link", "condition": "(data ->> ''departure'')::integer = 1", "audience": "order_contact",
		"channel": "auto", "template": "trip.departed", "once": "object", "priority": 2,
		"truth": "NOT crm.trip_is(object_id, ''{arrived,unloaded}'') AND NOT crm.told(object_kind, object_id, ''{trip.approaching,trip.arrived}'')", "expires_after": "12 hours"}');
	PERFORM crm.ship_rule('trip.approaching', '{"event_kind": "trip.approaching", "audience": "order_contact", "channel": "auto", "template": "trip.approaching",
		"once": "object", "truth": "crm.trip_is(object_id, ''{approaching}'')", "priority": 2, "quiet": "urgent", "expires_after": "3 hours"}');
	PERFORM crm.ship_rule('trip.arrived', '{"event_kind": "trip.arrived", "audience": "order_contact", "channel": "auto", "template": "trip.arrived",
		"once": "object", "truth": "crm.trip_is(object_id, ''{arrived,unloaded}'')", "priority": 2, "quiet": "urgent", "expires_after": "24 hours"}');
	PERFORM crm.ship_rule('trip.arrived.letter', '{"event_kind": "trip.arrived", "audience": "order_contact", "channel": "email", "template": "trip.arrived.letter",
		"once": "object", "truth": "crm.trip_is(object_id, ''{arrived,unloaded}'')", "quiet": "urgent", "expires_after": "72 hours"}');
	PERFORM crm.rules_check();
END
$$;
COMMENT ON FUNCTION crm.ship_delivery_rules() IS 'Brings the rules and templates about shipments and trips; what the DBA changed or switched stays. Called by crm.activate(). Claims 47 to 50.';
SELECT crm.register_hook('ship', 'delivery rules', 'crm.ship_delivery_rules');
