-- erp: wagons.

CREATE OR REPLACE FUNCTION crm_erp.put_wagon(erp_id text, number text DEFAULT NULL, owner_erp_id text DEFAULT NULL, tare_kg text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key         text := crm.erp_key(erp_id, 'erp_id', true);
	v_number    text := replace(crm.erp_text(number, 'number', 20), ' ', '');
	v_owner_key text := crm.erp_key(owner_erp_id, 'owner_erp_id');
	v_owner     bigint := CASE WHEN crm.erp_key(owner_erp_id, 'owner_erp_id') <> '-' THEN crm.erp_company(owner_erp_id, 'owner_erp_id', false) END;
	v_tare      numeric(12,3) := crm.erp_range(crm.erp_number(tare_kg, 'tare_kg'), 'tare_kg', 1, 999999, 'kilograms');
	old_        crm.wagon;
	new_        crm.wagon;
	other       crm.wagon;
	id_         bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF v_number IS NOT NULL AND v_number !~ '^[0-9]{5,12}$' THEN
		PERFORM crm.erp_fail('22023', format('number "%s" is no number of a wagon', v_number), 'Send the digits painted on the wagon in number, eight as a rule.');
	END IF;
	IF v_number IS NOT NULL THEN
		SELECT w.* INTO other FROM crm.wagon w WHERE w.number = v_number AND (w.source, w.source_id) IS DISTINCT FROM ('erp', key);
		IF FOUND AND other.source = 'erp' AND other.source_id IS NOT NULL THEN
			PERFORM crm.erp_fail('23505', format('number "%s" belongs to wagon "%s"', v_number, other.source_id),
				'One number is one wagon; send the other wagon''s id, or give it another number first.');
		END IF;
	END IF;
	SELECT w.* INTO old_ FROM crm.wagon w WHERE w.source = 'erp' AND w.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_number IS NULL THEN
			PERFORM crm.erp_fail('22004', format('wagon "%s" has no number', key), 'Send the wagon''s number in number when it is sent for the first time.');
		END IF;
		IF other.id IS NOT NULL THEN
			-- the weighbridge or the railway named it first
			UPDATE crm.wagon w SET source = 'erp', source_id = key WHERE w.id = other.id;
			SELECT w.* INTO old_ FROM crm.wagon w WHERE w.id = other.id;
		ELSE
			INSERT INTO crm.wagon (number, owner_id, tare_kg, source, source_id) VALUES (v_number, v_owner, v_tare, 'erp', key)
			ON CONFLICT DO NOTHING
			RETURNING wagon.id INTO id_;
			IF FOUND THEN
				RETURN ROW(id_, 'created', key)::crm_erp.put_result;
			END IF;
			-- another session was first
			SELECT w.* INTO old_ FROM crm.wagon w WHERE w.source = 'erp' AND w.source_id = key FOR NO KEY UPDATE;
			IF NOT FOUND THEN
				RETURN crm_erp.put_wagon(erp_id, number, owner_erp_id, tare_kg);
			END IF;
		END IF;
	ELSIF other.id IS NOT NULL THEN
		PERFORM crm.erp_fail('23505', format('number "%s" belongs to a wagon that is here already', v_number),
			'The railway or the weighbridge named that wagon: send it by its own id.');
	END IF;
	new_ := old_;
	new_.number := coalesce(v_number, old_.number);
	new_.owner_id := CASE WHEN v_owner_key = '-' THEN NULL ELSE coalesce(v_owner, old_.owner_id) END;
	new_.tare_kg := coalesce(v_tare, old_.tare_kg);
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, CASE WHEN other.id IS NULL THEN 'same' ELSE 'updated' END, key)::crm_erp.put_result;
	END IF;
	UPDATE crm.wagon w SET number = new_.number, owner_id = new_.owner_id, tare_kg = new_.tare_kg WHERE w.id = old_.id;
	PERFORM crm.erp_note('wagon', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_wagon(text, text, text, text) IS 'Takes a railway wagon by the ERP''s id; one that the weighbridge or the railway named first becomes this one. All text; empty leaves, - clears the owner. Answers id, result, erp_id. A wrong check digit does not refuse a wagon: crm.wagon_number_ok tells. Errors, the advice in DETAIL too: 22004 no id or number, 22023 no number of a wagon, 23503 owner not known, 23505 number of another wagon, 22003 tare out of range, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_wagon(erp_id text, number text, owner_erp_id text, tare_kg numeric)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_wagon($1, $2, $3, $4::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_wagon(text, text, text, numeric) IS 'The same with the tare as numeric.';

CREATE OR REPLACE VIEW crm_erp.wagon_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS number, NULL::varchar(255) AS owner_erp_id, NULL::varchar(255) AS tare_kg
	WHERE false;
COMMENT ON VIEW crm_erp.wagon_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_wagon; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.wagon_in.erp_id IS 'As the argument of crm_erp.put_wagon';
COMMENT ON COLUMN crm_erp.wagon_in.number IS 'As the argument of crm_erp.put_wagon';
COMMENT ON COLUMN crm_erp.wagon_in.owner_erp_id IS 'As the argument of crm_erp.put_wagon';
COMMENT ON COLUMN crm_erp.wagon_in.tare_kg IS 'As the argument of crm_erp.put_wagon';
