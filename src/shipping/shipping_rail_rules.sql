-- The messages about deliveries by rail that come with the product, in Russian and English.

CREATE OR REPLACE FUNCTION crm.ship_rail_rules() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	letter constant text := '<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"></head>'
		|| '<body style="margin:0;background:#f2f2f2"><div style="max-width:560px;margin:0 auto;padding:20px;background:#ffffff;'
		|| 'font:16px/1.5 -apple-system,Segoe UI,Roboto,Arial,sans-serif;color:#222222">%s</div></body></html>';
	line constant text := '<p style="margin:0 0 12px">%s</p>';
	fact constant text := '<p style="margin:0 0 6px"><span style="color:#777777">%s</span><br><b>%s</b></p>';
BEGIN
	PERFORM crm.ship_words('waybill.arrived', 'ru',
		'На ст. {{station_name}} {{wagon_count|прибыл|прибыли|прибыло}} {{wagon_count}} {{wagon_count|вагон|вагона|вагонов}}, {{product}}, накладная {{waybill_number}}, {{date_local}} {{at_local}}.');
	PERFORM crm.ship_words('waybill.arrived', 'en',
		'{{wagon_count}} {{wagon_count|wagon|wagons}} arrived at {{station_name}}: {{product}}, waybill {{waybill_number}}, {{date_local}} {{at_local}}.');
	PERFORM crm.ship_template('waybill.arrived.letter', 'email', 'ru', 'Накладная {{waybill_number}}: {{wagon_count|прибыл|прибыли|прибыло}} {{wagon_count}} {{wagon_count|вагон|вагона|вагонов}}',
		E'Здравствуйте, {{contact_name}}!\n\nНа станцию {{station_name}} {{wagon_count|прибыл|прибыли|прибыло}} {{wagon_count}} {{wagon_count|вагон|вагона|вагонов}}: {{date_local}} {{at_local}}.\n\nНакладная: {{waybill_number}}\nЗаказ: {{order_number}}\nГруз: {{product}}, {{tonnes}} т\nВагоны: {{wagon_numbers}}\n',
		format(letter, format(line, 'Здравствуйте, {{contact_name}}!')
			|| format(line, 'На станцию <b>{{station_name}}</b> {{wagon_count|прибыл|прибыли|прибыло}} <b>{{wagon_count}} {{wagon_count|вагон|вагона|вагонов}}</b>.')
			|| format(fact, 'Время', '{{date_local}} {{at_local}}') || format(fact, 'Накладная', '{{waybill_number}}') || format(fact, 'Заказ', '{{order_number}}')
			|| format(fact, 'Груз', '{{product}}, {{tonnes}} т') || format(fact, 'Вагоны', '{{wagon_numbers}}')));
	PERFORM crm.ship_template('waybill.arrived.letter', 'email', 'en', 'Waybill {{waybill_number}}: {{wagon_count}} {{wagon_count|wagon|wagons}} arrived',
		E'Dear {{contact_name}},\n\n{{wagon_count}} {{wagon_count|wagon|wagons}} arrived at {{station_name}}: {{date_local}} {{at_local}}.\n\nWaybill: {{waybill_number}}\nOrder: {{order_number}}\nCargo: {{product}}, {{tonnes}} t\nWagons: {{wagon_numbers}}\n',
		format(letter, format(line, 'Dear {{contact_name}},')
			|| format(line, '<b>{{wagon_count}} {{wagon_count|wagon|wagons}}</b> arrived at <b>{{station_name}}</b>.')
			|| format(fact, 'Time', '{{date_local}} {{at_local}}') || format(fact, 'Waybill', '{{waybill_number}}') || format(fact, 'Order', '{{order_number}}')
			|| format(fact, 'Cargo', '{{product}}, {{tonnes}} t') || format(fact, 'Wagons', '{{wagon_numbers}}')));

	PERFORM crm.ship_rule('waybill.arrived', '{"event_kind": "waybill.arrived", "condition": "(data ->> ''late'')::integer = 0", "audience": "waybill_contacts", "channel": "auto",
		"template": "waybill.arrived", "once": "event", "truth": "crm.waybill_is(object_id, ''{arrived,notified,delivered}'')", "priority": 2, "expires_after": "24 hours"}');
	PERFORM crm.ship_rule('waybill.arrived.letter', '{"event_kind": "waybill.arrived", "condition": "(data ->> ''late'')::integer = 0", "audience": "waybill_contacts", "channel": "email",
		"template": "waybill.arrived.letter", "once": "event", "truth": "crm.waybill_is(object_id, ''{arrived,notified,delivered}'')", "expires_after": "72 hours"}');
	PERFORM crm.rules_check();
END
$$;
COMMENT ON FUNCTION crm.ship_rail_rules() IS 'Brings the rules and templates about wagons that arrived; what the DBA changed or switched stays. Called by crm.activate(). Claim 51.';
SELECT crm.register_hook('ship', 'rail rules', 'crm.ship_rail_rules');
