-- erp: the door for single weighings; crm_erp.put_shipment takes those that the ERP has paired itself.

CREATE OR REPLACE FUNCTION crm_erp.put_weighing(erp_id text, vehicle text DEFAULT NULL, kind text DEFAULT NULL, kg text DEFAULT NULL,
	weighed_at text DEFAULT NULL, order_erp_id text DEFAULT NULL, product text DEFAULT NULL, waybill text DEFAULT NULL, storno text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key       text := crm.erp_key(erp_id, 'erp_id', true);
	v_kind    text := lower(crm.erp_text(kind, 'kind', 20));
	v_kg      numeric(12,3) := crm.erp_range(crm.erp_number(kg, 'kg'), 'kg', 1, 1000000, 'kilograms');
	v_at      timestamptz := crm.erp_time(weighed_at, 'weighed_at');
	v_order   text := crm.erp_key(order_erp_id, 'order_erp_id');
	v_product text := crm.erp_text(product, 'product');
	v_waybill text := crm.erp_text(waybill, 'waybill', 100);
	v_storno  boolean := crm.erp_boolean(storno, 'storno');
	v_vehicle bigint;
	old_      crm.weighing;
	put_      record;
BEGIN
	PERFORM crm.erp_begin();
	v_kind := CASE WHEN v_kind IN ('tare', 'тара') THEN 'tare' WHEN v_kind IN ('gross', 'брутто') THEN 'gross' WHEN v_kind IN ('unknown', '-') THEN 'unknown' ELSE v_kind END;
	IF v_kind NOT IN ('tare', 'gross', 'unknown') THEN
		PERFORM crm.erp_fail('22023', format('kind "%s" is no kind of weighing', v_kind), 'Send tare, gross or unknown in kind; unknown, or nothing, lets the weights tell.');
	END IF;
	v_vehicle := crm.erp_vehicle(vehicle);
	SELECT w.* INTO old_ FROM crm.weighing w WHERE w.source = 'erp' AND w.source_id = key;
	IF old_.id IS NULL AND (v_vehicle IS NULL OR v_kg IS NULL) THEN
		PERFORM crm.erp_fail('22004', format('weighing "%s" has no %s', key, CASE WHEN v_vehicle IS NULL THEN 'vehicle' ELSE 'weight' END),
			'Send vehicle and kg when the weighing is sent for the first time.');
	END IF;
	put_ := crm.put_weighings('erp', ARRAY[key], ARRAY[coalesce(v_vehicle, old_.vehicle_id)], ARRAY[coalesce(v_kind, old_.kind)], ARRAY[coalesce(v_kg, old_.kg)],
		ARRAY[coalesce(v_at, old_.at, crm.now())], ARRAY[CASE WHEN v_order = '-' THEN NULL ELSE coalesce(v_order, old_.order_ref) END],
		ARRAY[crm.erp_keep(v_product, old_.product)], ARRAY[crm.erp_keep(v_waybill, old_.waybill)], ARRAY[coalesce(v_storno, old_.cancelled_at IS NOT NULL)]);
	RETURN (SELECT ROW(w.id, CASE WHEN put_.added > 0 THEN 'created' WHEN put_.changed > 0 THEN 'updated' ELSE 'same' END, key)::crm_erp.put_result
		FROM crm.weighing w WHERE w.source = 'erp' AND w.source_id = key);
END
$$;
COMMENT ON FUNCTION crm_erp.put_weighing(text, text, text, text, text, text, text, text, text) IS 'Takes one weighing by its id at the scales: vehicle (the ERP''s id or a plate; a plate that was never met becomes a vehicle), kind tare or gross (nothing: the weights tell), kg in kilograms, weighed_at, order_erp_id (an order that is not known yet may follow: the weighing waits for it), product, waybill; storno 1 cancels it, 0 puts it in force again. Tare and gross of a vehicle become a shipment by themselves, in whatever order they come; what is missing stands in crm.weighing_open. All text; empty leaves what is known, - clears order, product and waybill. Answers id, result (created, updated, same), erp_id. Errors, the advice in DETAIL too: 22004 no id, vehicle or weight, 23503 vehicle that can be none, 22003 weight out of range, 22P02 no number, 22007 and 22008 time, 22023 kind, 55000 not active. Claim 47.';

CREATE OR REPLACE FUNCTION crm_erp.put_weighing(erp_id text, vehicle text, kind text, kg numeric, weighed_at timestamp DEFAULT NULL, order_erp_id text DEFAULT NULL,
	product text DEFAULT NULL, waybill text DEFAULT NULL, storno boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_weighing($1, $2, $3, $4::text, crm.erp_stamp($5, 'weighed_at'), $6, $7, $8, $9::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_weighing(text, text, text, numeric, timestamp, text, text, text, boolean) IS 'The same with the weight as numeric, the time as timestamp (in the plant''s zone), storno as boolean.';

CREATE OR REPLACE VIEW crm_erp.weighing_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS vehicle, NULL::varchar(255) AS kind, NULL::varchar(255) AS kg, NULL::varchar(255) AS weighed_at, NULL::varchar(255) AS order_erp_id, NULL::varchar(255) AS product, NULL::varchar(255) AS waybill, NULL::varchar(255) AS storno
	WHERE false;
COMMENT ON VIEW crm_erp.weighing_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_weighing; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.weighing_in.erp_id IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.vehicle IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.kind IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.kg IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.weighed_at IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.order_erp_id IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.product IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.waybill IS 'As the argument of crm_erp.put_weighing';
COMMENT ON COLUMN crm_erp.weighing_in.storno IS 'As the argument of crm_erp.put_weighing';
