-- erp: the doors of slots, check-ins and contracts with carriers. Conventions: erp_put.sql.

CREATE OR REPLACE FUNCTION crm.erp_known(kind text, value text, argument text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key text := crm.erp_key(value, argument);
	id_ bigint;
BEGIN
	IF key IS NULL OR key = '-' THEN
		RETURN NULL;
	END IF;
	CASE kind
		WHEN 'place' THEN SELECT p.id INTO id_ FROM crm.place p WHERE p.source = 'erp' AND p.source_id = key;
		WHEN 'order' THEN SELECT coalesce((SELECT o.id FROM crm.customer_order o WHERE o.source = 'erp' AND o.source_id = key), crm.erp_linked('order', key)) INTO id_;
		ELSE SELECT s.id INTO id_ FROM crm.slot s WHERE s.source = 'erp' AND s.source_id = key;
	END CASE;
	IF id_ IS NULL THEN
		PERFORM crm.erp_fail('23503', format('%s "%s" is not known', argument, key), format('Send it first: crm_erp.put_%s(''%s'', …); then repeat this call.', kind, key));
	END IF;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.erp_known(text, text, text) IS 'Our number of a place, order or slot by the ERP''s id; empty and - are NULL. Error 23503 with the call that makes it known.';

CREATE OR REPLACE FUNCTION crm_erp.put_slot(erp_id text, planned_from text DEFAULT NULL, planned_to text DEFAULT NULL, vehicle text DEFAULT NULL,
	order_erp_id text DEFAULT NULL, carrier_erp_id text DEFAULT NULL, place_erp_id text DEFAULT NULL, kind text DEFAULT NULL, gate text DEFAULT NULL,
	grace_minutes text DEFAULT NULL, moved_by text DEFAULT NULL, called_at text DEFAULT NULL, cancelled text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key       text := crm.erp_key(erp_id, 'erp_id', true);
	v_from    timestamptz := crm.erp_time(planned_from, 'planned_from');
	v_to      timestamptz := CASE WHEN btrim(planned_to) = '-' THEN NULL ELSE crm.erp_time(planned_to, 'planned_to') END;
	v_order   bigint := crm.erp_known('order', order_erp_id, 'order_erp_id');
	v_carrier bigint := crm.erp_company(nullif(btrim(carrier_erp_id), '-'), 'carrier_erp_id', false);
	v_place   bigint := crm.erp_known('place', place_erp_id, 'place_erp_id');
	v_kind    text := lower(crm.erp_text(kind, 'kind', 20));
	v_gate    text := crm.erp_text(gate, 'gate', 100);
	v_grace   integer := crm.erp_range(crm.erp_number(grace_minutes, 'grace_minutes'), 'grace_minutes', 0, 1440, 'minutes');
	v_moved   text := lower(crm.erp_text(moved_by, 'moved_by', 20));
	v_called  timestamptz := CASE WHEN btrim(called_at) = '-' THEN NULL ELSE crm.erp_time(called_at, 'called_at') END;
	v_void    boolean := crm.erp_boolean(cancelled, 'cancelled');
	v_vehicle bigint;
	old_      crm.slot;
	new_      crm.slot;
	id_       bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF v_kind NOT IN ('loading', 'unloading') THEN
		PERFORM crm.erp_fail('22023', format('kind "%s" is no kind of slot', v_kind), 'Send loading or unloading in kind, or leave it empty for loading.');
	END IF;
	IF v_moved NOT IN ('carrier', 'plant') THEN
		PERFORM crm.erp_fail('22023', format('moved_by "%s" is nobody', v_moved), 'Send carrier or plant in moved_by: whose wish the change of the time was.');
	END IF;
	v_vehicle := crm.erp_vehicle(nullif(btrim(vehicle), '-'));
	SELECT s.* INTO old_ FROM crm.slot s WHERE s.source = 'erp' AND s.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_from IS NULL THEN
			PERFORM crm.erp_fail('22004', format('slot "%s" has no time', key), 'Send planned_from when the slot is sent for the first time.');
		END IF;
		INSERT INTO crm.slot (kind, place_id, order_id, vehicle_id, carrier_id, planned_from, planned_to, gate, grace_minutes, moved_by, called_at, cancelled_at, source, source_id)
		VALUES (coalesce(v_kind, 'loading'), v_place, v_order, v_vehicle, v_carrier, v_from, v_to, nullif(v_gate, '-'), coalesce(v_grace, 15), coalesce(v_moved, 'carrier'), v_called,
			CASE WHEN v_void THEN crm.now() END, 'erp', key)
		ON CONFLICT ON CONSTRAINT slot_source_key DO NOTHING
		RETURNING slot.id INTO id_;
		IF FOUND THEN
			RETURN ROW(id_, 'created', key)::crm_erp.put_result;
		END IF;
		SELECT s.* INTO STRICT old_ FROM crm.slot s WHERE s.source = 'erp' AND s.source_id = key FOR NO KEY UPDATE;
	END IF;
	new_ := old_;
	new_.kind := coalesce(v_kind, old_.kind);
	new_.place_id := CASE WHEN btrim(place_erp_id) = '-' THEN NULL ELSE coalesce(v_place, old_.place_id) END;
	new_.order_id := CASE WHEN btrim(order_erp_id) = '-' THEN NULL ELSE coalesce(v_order, old_.order_id) END;
	new_.vehicle_id := CASE WHEN btrim(vehicle) = '-' THEN NULL ELSE coalesce(v_vehicle, old_.vehicle_id) END;
	new_.carrier_id := CASE WHEN btrim(carrier_erp_id) = '-' THEN NULL ELSE coalesce(v_carrier, old_.carrier_id) END;
	new_.planned_from := coalesce(v_from, old_.planned_from);
	new_.planned_to := CASE WHEN btrim(planned_to) = '-' THEN NULL ELSE coalesce(v_to, old_.planned_to) END;
	new_.gate := crm.erp_keep(v_gate, old_.gate);
	new_.grace_minutes := coalesce(v_grace, old_.grace_minutes);
	new_.moved_by := CASE WHEN (new_.planned_from, new_.planned_to) IS DISTINCT FROM (old_.planned_from, old_.planned_to) THEN coalesce(v_moved, 'carrier') ELSE coalesce(v_moved, old_.moved_by) END;
	new_.called_at := CASE WHEN btrim(called_at) = '-' THEN NULL ELSE coalesce(v_called, old_.called_at) END;
	new_.cancelled_at := CASE WHEN v_void THEN coalesce(old_.cancelled_at, crm.now()) WHEN NOT v_void THEN NULL ELSE old_.cancelled_at END;
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	UPDATE crm.slot s SET kind = new_.kind, place_id = new_.place_id, order_id = new_.order_id, vehicle_id = new_.vehicle_id, carrier_id = new_.carrier_id,
		planned_from = new_.planned_from, planned_to = new_.planned_to, gate = new_.gate, grace_minutes = new_.grace_minutes, moved_by = new_.moved_by,
		called_at = new_.called_at, cancelled_at = new_.cancelled_at
	WHERE s.id = old_.id;
	PERFORM crm.erp_note('slot', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_slot(text, text, text, text, text, text, text, text, text, text, text, text, text) IS 'Takes a slot for loading or a window for unloading by the ERP''s id (claim 54): times, vehicle (the ERP''s id or a plate), order, carrier, place, gate, grace in minutes; moved_by plant or carrier: whose wish a change of the time was (carrier where not said; one told too late hides no lateness); called_at: the driver was called. All text; empty leaves, - clears. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or time, 22007 and 22008 time, 22023 kind, moved_by or window, 22003 grace, 23503 order, place or carrier not known, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_slot(erp_id text, planned_from timestamp, planned_to timestamp DEFAULT NULL, vehicle text DEFAULT NULL,
	order_erp_id text DEFAULT NULL, carrier_erp_id text DEFAULT NULL, place_erp_id text DEFAULT NULL, kind text DEFAULT NULL, gate text DEFAULT NULL,
	grace_minutes numeric DEFAULT NULL, moved_by text DEFAULT NULL, called_at timestamp DEFAULT NULL, cancelled boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_slot($1, crm.erp_stamp($2, 'planned_from'), crm.erp_stamp($3, 'planned_to'), $4, $5, $6, $7, $8, $9, $10::text, $11,
		crm.erp_stamp($12, 'called_at'), $13::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_slot(text, timestamp, timestamp, text, text, text, text, text, text, numeric, text, timestamp, boolean) IS 'The same with times as timestamp (in the plant''s zone), the grace as numeric, yes and no as boolean.';

CREATE OR REPLACE FUNCTION crm_erp.put_checkin(erp_id text, vehicle text DEFAULT NULL, at text DEFAULT NULL, means text DEFAULT NULL, place_erp_id text DEFAULT NULL,
	slot_erp_id text DEFAULT NULL, note text DEFAULT NULL, storno text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key       text := crm.erp_key(erp_id, 'erp_id', true);
	v_at      timestamptz := crm.erp_time(at, 'at');
	v_means   text := lower(crm.erp_text(means, 'means', 20));
	v_place   bigint := crm.erp_known('place', place_erp_id, 'place_erp_id');
	v_slot    bigint := crm.erp_known('slot', slot_erp_id, 'slot_erp_id');
	v_note    text := crm.erp_text(note, 'note', 500);
	v_storno  boolean := crm.erp_boolean(storno, 'storno');
	v_vehicle bigint;
	old_      crm.checkin;
	new_      crm.checkin;
	id_       bigint;
BEGIN
	PERFORM crm.erp_begin();
	IF v_means NOT IN ('gate', 'weighbridge', 'bot', 'monitor', 'manual') THEN
		PERFORM crm.erp_fail('22023', format('means "%s" proves nothing', v_means), 'Send gate, weighbridge, bot, monitor or manual in means.');
	END IF;
	v_vehicle := coalesce(crm.erp_vehicle(vehicle), (SELECT s.vehicle_id FROM crm.slot s WHERE s.id = v_slot));
	SELECT c.* INTO old_ FROM crm.checkin c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_vehicle IS NULL THEN
			PERFORM crm.erp_fail('22004', format('check-in "%s" has no vehicle', key), 'Send its plate or id in vehicle, or a slot that names one in slot_erp_id.');
		END IF;
		INSERT INTO crm.checkin (vehicle_id, place_id, slot_id, at, means, note, cancelled_at, source, source_id)
		VALUES (v_vehicle, v_place, v_slot, coalesce(v_at, crm.now()), coalesce(v_means, 'gate'), nullif(v_note, '-'), CASE WHEN v_storno THEN crm.now() END, 'erp', key)
		ON CONFLICT ON CONSTRAINT checkin_source_key DO NOTHING
		RETURNING checkin.id INTO id_;
		IF FOUND THEN
			RETURN ROW(id_, 'created', key)::crm_erp.put_result;
		END IF;
		SELECT c.* INTO STRICT old_ FROM crm.checkin c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	END IF;
	new_ := old_;
	new_.vehicle_id := coalesce(v_vehicle, old_.vehicle_id);
	new_.place_id := coalesce(v_place, old_.place_id);
	new_.slot_id := coalesce(v_slot, old_.slot_id);
	new_.at := coalesce(v_at, old_.at);
	new_.means := coalesce(v_means, old_.means);
	new_.note := crm.erp_keep(v_note, old_.note);
	new_.cancelled_at := CASE WHEN v_storno THEN coalesce(old_.cancelled_at, crm.now()) WHEN NOT v_storno THEN NULL ELSE old_.cancelled_at END;
	IF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	UPDATE crm.checkin c SET vehicle_id = new_.vehicle_id, place_id = new_.place_id, slot_id = new_.slot_id, at = new_.at, means = new_.means, note = new_.note, cancelled_at = new_.cancelled_at
	WHERE c.id = old_.id;
	PERFORM crm.erp_note('checkin', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_checkin(text, text, text, text, text, text, text, text) IS 'Takes the fact that a vehicle was there, by its id in the ERP (claim 54): vehicle (id or plate), time (now where empty), means gate, weighbridge, bot, monitor or manual, place, slot; storno 1 takes it back. The earliest proof of a slot counts. All text; empty leaves what is known. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id or vehicle, 22007 and 22008 time, 22023 means, 23503 place, slot or vehicle not known, 55000 not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_checkin(erp_id text, vehicle text, at timestamp, means text DEFAULT NULL, place_erp_id text DEFAULT NULL,
	slot_erp_id text DEFAULT NULL, note text DEFAULT NULL, storno boolean DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_checkin($1, $2, crm.erp_stamp($3, 'at'), $4, $5, $6, $7, $8::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_checkin(text, text, timestamp, text, text, text, text, boolean) IS 'The same with the time as timestamp (in the plant''s zone), storno as boolean.';

CREATE OR REPLACE FUNCTION crm_erp.put_contract(erp_id text, carrier_erp_id text DEFAULT NULL, number text DEFAULT NULL, side text DEFAULT NULL, valid_from text DEFAULT NULL,
	valid_to text DEFAULT NULL, free_minutes text DEFAULT NULL, tariff text DEFAULT NULL, cap text DEFAULT NULL, exclusions text DEFAULT NULL,
	signed_on text DEFAULT NULL, auto_claim text DEFAULT NULL, explain_days text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key       text := crm.erp_key(erp_id, 'erp_id', true);
	v_carrier bigint := crm.erp_company(carrier_erp_id, 'carrier_erp_id', false);
	v_number  text := crm.erp_text(number, 'number', 100);
	v_side    text := lower(crm.erp_text(side, 'side', 20));
	v_from    date := (crm.erp_time(valid_from, 'valid_from') AT TIME ZONE crm.erp_zone())::date;
	v_to      date := CASE WHEN btrim(valid_to) <> '-' THEN (crm.erp_time(valid_to, 'valid_to') AT TIME ZONE crm.erp_zone())::date END;
	v_free    integer := crm.erp_range(crm.erp_number(free_minutes, 'free_minutes'), 'free_minutes', 0, 100000, 'minutes');
	v_cap     numeric := CASE WHEN btrim(cap) <> '-' THEN crm.erp_range(crm.erp_number(cap, 'cap'), 'cap', 0, 100000000, 'roubles') END;
	v_signed  date := (crm.erp_time(signed_on, 'signed_on') AT TIME ZONE crm.erp_zone())::date;
	v_auto    boolean := crm.erp_boolean(auto_claim, 'auto_claim');
	v_days    integer := crm.erp_range(crm.erp_number(explain_days, 'explain_days'), 'explain_days', 0, 365, 'days');
	v_tariff  jsonb;
	v_except  jsonb;
	old_      crm.contract;
	new_      crm.contract;
	term_old  crm.contract_term;
	term_new  crm.contract_term;
	result_   text := 'same';
BEGIN
	PERFORM crm.erp_begin();
	BEGIN
		v_tariff := nullif(btrim(tariff), '')::jsonb;
		v_except := nullif(btrim(exclusions), '')::jsonb;
	EXCEPTION WHEN data_exception THEN
		PERFORM crm.erp_fail('22P02', 'tariff or exclusions are no JSON', 'Send tariff as [{"from": 0, "each": 15, "roubles": 500}], exclusions as {"weekdays": [6, 7]}.');
	END;
	SELECT c.* INTO old_ FROM crm.contract c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_carrier IS NULL OR v_number IS NULL THEN
			PERFORM crm.erp_fail('22004', format('contract "%s" has no carrier or number', key), 'Send carrier_erp_id and number when the contract is sent for the first time.');
		END IF;
		INSERT INTO crm.contract (carrier_id, number, signed_on, zone, auto_claim, explain_days, source, source_id)
		VALUES (v_carrier, v_number, v_signed, crm.erp_zone(), coalesce(v_auto, false), coalesce(v_days, 5), 'erp', key)
		ON CONFLICT ON CONSTRAINT contract_source_key DO NOTHING
		RETURNING contract.* INTO old_;
		IF FOUND THEN
			result_ := 'created';
		ELSE
			SELECT c.* INTO STRICT old_ FROM crm.contract c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
		END IF;
	END IF;
	IF result_ <> 'created' THEN
		new_ := old_;
		new_.carrier_id := coalesce(v_carrier, old_.carrier_id);
		new_.number := coalesce(v_number, old_.number);
		new_.signed_on := coalesce(v_signed, old_.signed_on);
		new_.auto_claim := coalesce(v_auto, old_.auto_claim);
		new_.explain_days := coalesce(v_days, old_.explain_days);
		IF new_ IS DISTINCT FROM old_ THEN
			UPDATE crm.contract c SET carrier_id = new_.carrier_id, number = new_.number, signed_on = new_.signed_on, auto_claim = new_.auto_claim, explain_days = new_.explain_days WHERE c.id = old_.id;
			PERFORM crm.erp_note('contract', old_.id, key, to_jsonb(old_), to_jsonb(new_));
			result_ := 'updated';
		END IF;
	END IF;
	IF v_side IS NULL THEN
		RETURN ROW(old_.id, result_, key)::crm_erp.put_result;
	END IF;
	IF v_side NOT IN ('loading', 'unloading') THEN
		PERFORM crm.erp_fail('22023', format('side "%s" is none', v_side), 'Send loading or unloading in side.');
	END IF;
	IF v_from IS NULL THEN
		PERFORM crm.erp_fail('22004', format('the term of contract "%s" has no valid_from', key), 'Send the first day on which the term holds; it names the term in later calls.');
	END IF;
	SELECT t.* INTO term_old FROM crm.contract_term t WHERE t.contract_id = old_.id AND t.side = v_side AND t.valid_from = v_from FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		IF v_free IS NULL OR v_tariff IS NULL THEN
			PERFORM crm.erp_fail('22004', format('the term of contract "%s" has no free_minutes or tariff', key), 'Send both when the term is sent for the first time.');
		END IF;
		BEGIN
			INSERT INTO crm.contract_term (contract_id, side, valid_from, valid_to, free_minutes, tariff, cap, exclusions, source, source_id)
			VALUES (old_.id, v_side, v_from, v_to, v_free, v_tariff, v_cap, coalesce(v_except, '{}'), 'erp', format('%s %s %s', key, v_side, v_from));
		EXCEPTION WHEN exclusion_violation THEN
			PERFORM crm.erp_fail('23P01', SQLERRM, 'Send the earlier term again with valid_to, the day before this one begins; then repeat this call.');
		END;
		RETURN ROW(old_.id, CASE result_ WHEN 'same' THEN 'updated' ELSE result_ END, key)::crm_erp.put_result;
	END IF;
	term_new := term_old;
	term_new.valid_to := CASE WHEN btrim(valid_to) = '-' THEN NULL ELSE coalesce(v_to, term_old.valid_to) END;
	term_new.free_minutes := coalesce(v_free, term_old.free_minutes);
	term_new.tariff := coalesce(v_tariff, term_old.tariff);
	term_new.cap := CASE WHEN btrim(cap) = '-' THEN NULL ELSE coalesce(v_cap, term_old.cap) END;
	term_new.exclusions := coalesce(v_except, term_old.exclusions);
	IF term_new IS DISTINCT FROM term_old THEN
		BEGIN
			UPDATE crm.contract_term t SET valid_to = term_new.valid_to, free_minutes = term_new.free_minutes, tariff = term_new.tariff, cap = term_new.cap, exclusions = term_new.exclusions
			WHERE t.id = term_old.id;
		EXCEPTION WHEN exclusion_violation THEN
			PERFORM crm.erp_fail('23P01', SQLERRM, 'Send the other term again with a span that leaves this one free; then repeat this call.');
		END;
		PERFORM crm.erp_note('contract_term', term_old.id, key, to_jsonb(term_old), to_jsonb(term_new));
		result_ := CASE result_ WHEN 'same' THEN 'updated' ELSE result_ END;
	END IF;
	RETURN ROW(old_.id, result_, key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_contract(text, text, text, text, text, text, text, text, text, text, text, text, text) IS 'Takes a contract with a carrier by the ERP''s id, and one of its terms a call (claim 72): side loading or unloading, valid_from and valid_to (business dates; side and valid_from name the term), free_minutes, tariff and exclusions as JSON, cap in roubles; auto_claim 1 makes claims by themselves. All text; empty leaves, - clears valid_to and cap. Answers id of the contract, result, erp_id. Errors, the advice in DETAIL too: 22004 something missing, 22023 side, tariff or exclusions, 22003 number, 22P02 no JSON or number, 23P01 terms overlap, 23503 carrier not known, 55000 claims rest on the term, or not active.';

CREATE OR REPLACE FUNCTION crm_erp.put_contract(erp_id text, carrier_erp_id text, number text, side text, valid_from timestamp, valid_to timestamp DEFAULT NULL, free_minutes numeric DEFAULT NULL,
	tariff text DEFAULT NULL, cap numeric DEFAULT NULL, exclusions text DEFAULT NULL, signed_on timestamp DEFAULT NULL, auto_claim boolean DEFAULT NULL, explain_days numeric DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_contract($1, $2, $3, $4, to_char($5, 'YYYY-MM-DD'), to_char($6, 'YYYY-MM-DD'), $7::text, $8, $9::text, $10, to_char($11, 'YYYY-MM-DD'), $12::text, $13::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_contract(text, text, text, text, timestamp, timestamp, numeric, text, numeric, text, timestamp, boolean, numeric) IS 'The same with dates as timestamp (the hours do not count), numbers as numeric, yes and no as boolean.';

CREATE OR REPLACE VIEW crm_erp.slot_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS planned_from, NULL::varchar(255) AS planned_to, NULL::varchar(255) AS vehicle, NULL::varchar(255) AS order_erp_id, NULL::varchar(255) AS carrier_erp_id, NULL::varchar(255) AS place_erp_id, NULL::varchar(255) AS kind, NULL::varchar(255) AS gate, NULL::varchar(255) AS grace_minutes, NULL::varchar(255) AS moved_by, NULL::varchar(255) AS called_at, NULL::varchar(255) AS cancelled
	WHERE false;
COMMENT ON VIEW crm_erp.slot_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_slot; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.slot_in.erp_id IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.planned_from IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.planned_to IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.vehicle IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.order_erp_id IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.carrier_erp_id IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.place_erp_id IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.kind IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.gate IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.grace_minutes IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.moved_by IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.called_at IS 'As the argument of crm_erp.put_slot';
COMMENT ON COLUMN crm_erp.slot_in.cancelled IS 'As the argument of crm_erp.put_slot';

CREATE OR REPLACE VIEW crm_erp.checkin_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS vehicle, NULL::varchar(255) AS at, NULL::varchar(255) AS means, NULL::varchar(255) AS place_erp_id, NULL::varchar(255) AS slot_erp_id, NULL::varchar(255) AS note, NULL::varchar(255) AS storno
	WHERE false;
COMMENT ON VIEW crm_erp.checkin_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_checkin; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.checkin_in.erp_id IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.vehicle IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.at IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.means IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.place_erp_id IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.slot_erp_id IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.note IS 'As the argument of crm_erp.put_checkin';
COMMENT ON COLUMN crm_erp.checkin_in.storno IS 'As the argument of crm_erp.put_checkin';

CREATE OR REPLACE VIEW crm_erp.contract_in AS
	SELECT NULL::varchar(200) AS erp_id, NULL::varchar(255) AS carrier_erp_id, NULL::varchar(255) AS number, NULL::varchar(255) AS side, NULL::varchar(255) AS valid_from, NULL::varchar(255) AS valid_to, NULL::varchar(255) AS free_minutes, NULL::varchar(4000) AS tariff, NULL::varchar(255) AS cap, NULL::varchar(4000) AS exclusions, NULL::varchar(255) AS signed_on, NULL::varchar(255) AS auto_claim, NULL::varchar(255) AS explain_days
	WHERE false;
COMMENT ON VIEW crm_erp.contract_in IS 'For clients that can only INSERT: a row is a call of crm_erp.put_contract; holds no row (claim 2)';
COMMENT ON COLUMN crm_erp.contract_in.erp_id IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.carrier_erp_id IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.number IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.side IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.valid_from IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.valid_to IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.free_minutes IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.tariff IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.cap IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.exclusions IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.signed_on IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.auto_claim IS 'As the argument of crm_erp.put_contract';
COMMENT ON COLUMN crm_erp.contract_in.explain_days IS 'As the argument of crm_erp.put_contract';
