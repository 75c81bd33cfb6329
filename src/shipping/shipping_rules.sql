-- The messages about deliveries that come with the product, in Russian and English.

CREATE OR REPLACE FUNCTION crm.ship_delivery_rules() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	letter constant text := '<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"></head>'
		|| '<body style="margin:0;background:#f2f2f2"><div style="max-width:560px;margin:0 auto;padding:20px;background:#ffffff;'
		|| 'font:16px/1.5 -apple-system,Segoe UI,Roboto,Arial,sans-serif;color:#222222">%s</div></body></html>';
	line constant text := '<p style="margin:0 0 12px">%s</p>';
	fact constant text := '<p style="margin:0 0 6px"><span style="color:#777777">%s</span><br><b>%s</b></p>';
BEGIN
	PERFORM crm.ship_template('shipment.loaded', 'sms', 'ru', NULL,
		'Заказ {{order_number}}: отгружено {{product}}, {{tonnes}} т, машина {{vehicle_plate}}, накладная {{waybill}}.', NULL);
	PERFORM crm.ship_template('shipment.loaded', 'sms', 'en', NULL,
		'Order {{order_number}}: {{product}}, {{tonnes}} t loaded, vehicle {{vehicle_plate}}, waybill {{waybill}}.', NULL);
	PERFORM crm.ship_template('trip.departed', 'sms', 'ru', NULL,
		'Заказ {{order_number}}: машина {{vehicle_plate}} выехала с завода в {{at_local}}.', NULL);
	PERFORM crm.ship_template('trip.departed', 'sms', 'en', NULL,
		'Order {{order_number}}: vehicle {{vehicle_plate}} left the plant at {{at_local}}.', NULL);
	PERFORM crm.ship_template('trip.approaching', 'sms', 'ru', NULL,
		'Заказ {{order_number}}: машина {{vehicle_plate}} подъезжает к месту разгрузки {{place_name}}, ожидается в {{eta}}.', NULL);
	PERFORM crm.ship_template('trip.approaching', 'sms', 'en', NULL,
		'Order {{order_number}}: vehicle {{vehicle_plate}} is approaching {{place_name}}, expected at {{eta}}.', NULL);
	PERFORM crm.ship_template('trip.arrived', 'sms', 'ru', NULL,
		'Заказ {{order_number}}: машина {{vehicle_plate}} прибыла в {{at_local}}, {{place_name}}.', NULL);
	PERFORM crm.ship_template('trip.arrived', 'sms', 'en', NULL,
		'Order {{order_number}}: vehicle {{vehicle_plate}} arrived at {{at_local}}, {{place_name}}.', NULL);
	PERFORM crm.ship_template('trip.arrived', 'email', 'ru', 'Заказ {{order_number}}: машина {{vehicle_plate}} прибыла',
		E'Здравствуйте, {{contact_name}}!\n\nМашина {{vehicle_plate}} прибыла на разгрузку: {{place_name}}, {{at_local}}.\n\nЗаказ: {{order_number}}\nГруз: {{product}}, {{tonnes}} т\nВодитель: {{driver}}\n',
		format(letter, format(line, 'Здравствуйте, {{contact_name}}!') || format(line, 'Машина <b>{{vehicle_plate}}</b> прибыла на разгрузку.')
			|| format(fact, 'Место', '{{place_name}}') || format(fact, 'Время', '{{at_local}}') || format(fact, 'Заказ', '{{order_number}}')
			|| format(fact, 'Груз', '{{product}}, {{tonnes}} т') || format(fact, 'Водитель', '{{driver}}')));
	PERFORM crm.ship_template('trip.arrived', 'email', 'en', 'Order {{order_number}}: vehicle {{vehicle_plate}} arrived',
		E'Dear {{contact_name}},\n\nvehicle {{vehicle_plate}} has arrived for unloading: {{place_name}}, {{at_local}}.\n\nOrder: {{order_number}}\nCargo: {{product}}, {{tonnes}} t\nDriver: {{driver}}\n',
		format(letter, format(line, 'Dear {{contact_name}},') || format(line, 'Vehicle <b>{{vehicle_plate}}</b> has arrived for unloading.')
			|| format(fact, 'Place', '{{place_name}}') || format(fact, 'Time', '{{at_local}}') || format(fact, 'Order', '{{order_number}}')
			|| format(fact, 'Cargo', '{{product}}, {{tonnes}} t') || format(fact, 'Driver', '{{driver}}')));

	PERFORM crm.ship_rule('shipment.loaded', '{"event_kind": "shipment.loaded", "audience": "order_contact", "channel": "sms", "template": "shipment.loaded",
		"once": "object", "expires_after": "24 hours"}');
	PERFORM crm.ship_rule('trip.departed', '{"event_kind": "trip.departed", "audience": "order_contact", "channel": "sms", "template": "trip.departed",
		"once": "object", "truth": "NOT crm.trip_is(object_id, ''{arrived,unloaded}'')", "expires_after": "12 hours"}');
	PERFORM crm.ship_rule('trip.approaching', '{"event_kind": "trip.approaching", "audience": "order_contact", "channel": "sms", "template": "trip.approaching",
		"once": "object", "truth": "crm.trip_is(object_id, ''{approaching}'')", "priority": 2, "quiet": "urgent", "expires_after": "3 hours"}');
	PERFORM crm.ship_rule('trip.arrived', '{"event_kind": "trip.arrived", "audience": "order_contact", "channel": "sms", "template": "trip.arrived",
		"once": "object", "truth": "crm.trip_is(object_id, ''{arrived,unloaded}'')", "priority": 2, "quiet": "urgent", "expires_after": "24 hours"}');
	PERFORM crm.ship_rule('trip.arrived.letter', '{"event_kind": "trip.arrived", "audience": "order_contact", "channel": "email", "template": "trip.arrived",
		"once": "object", "truth": "crm.trip_is(object_id, ''{arrived,unloaded}'')", "quiet": "urgent", "expires_after": "72 hours"}');
	PERFORM crm.rules_check();
END
$$;
COMMENT ON FUNCTION crm.ship_delivery_rules() IS 'Brings the rules and templates about shipments and trips; what the DBA changed or switched stays. Called by crm.activate(). Claims 47 to 50.';
SELECT crm.register_hook('ship', 'delivery rules', 'crm.ship_delivery_rules');
