-- Which orders, trips, vehicles and claims a person may see. Promise 8.

CREATE OR REPLACE FUNCTION crm.sees_order(order_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.customer_order o WHERE o.id = $1 AND (crm.for_plant() OR crm.sees_company(o.company_id)));
END
$$;
COMMENT ON FUNCTION crm.sees_order(bigint) IS 'Whether the person who speaks may see an order: he sees its client. False for one that is not there.';
SELECT crm.register_hook('sees', 'customer_order', 'crm.sees_order');

CREATE OR REPLACE FUNCTION crm.sees_trip(trip_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.trip t WHERE t.id = $1 AND (crm.for_plant() OR crm.sees_company(t.company_id)));
END
$$;
COMMENT ON FUNCTION crm.sees_trip(bigint) IS 'Whether the person who speaks may see a trip: he sees its client. False for one that is not there.';
SELECT crm.register_hook('sees', 'trip', 'crm.sees_trip');

CREATE OR REPLACE FUNCTION crm.sees_vehicle(vehicle_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.for_plant() OR EXISTS (SELECT FROM crm.vehicle v WHERE v.id = $1 AND (v.carrier_id IS NULL AND crm.speaks() OR v.carrier_id IS NOT NULL AND crm.sees_company(v.carrier_id)))
		OR EXISTS (SELECT FROM (SELECT DISTINCT t.company_id FROM crm.trip t WHERE t.vehicle_id = $1) c WHERE crm.sees_company(c.company_id));
END
$$;
COMMENT ON FUNCTION crm.sees_vehicle(bigint) IS 'Whether the person who speaks may see a vehicle: it is the plant''s own, or he sees its carrier, or a trip of it.';
SELECT crm.register_hook('sees', 'vehicle', 'crm.sees_vehicle');

CREATE OR REPLACE FUNCTION crm.sees_shipment(shipment_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.for_plant() OR crm.sees_order((SELECT s.order_id FROM crm.shipment s WHERE s.id = $1));
END
$$;
COMMENT ON FUNCTION crm.sees_shipment(bigint) IS 'Whether the person who speaks may see a load: he sees its order.';
SELECT crm.register_hook('sees', 'shipment', 'crm.sees_shipment');

CREATE OR REPLACE FUNCTION crm.sees_slot(slot_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.slot s WHERE s.id = $1 AND (crm.for_plant() OR crm.sees_order(s.order_id) OR crm.sees_trip(s.trip_id)
		OR s.carrier_id IS NOT NULL AND crm.sees_company(s.carrier_id)
		OR s.order_id IS NULL AND s.trip_id IS NULL AND s.carrier_id IS NULL AND crm.sees_company(NULL)));
END
$$;
COMMENT ON FUNCTION crm.sees_slot(bigint) IS 'Whether the person who speaks may see a slot: he sees its order, its trip or its carrier; one of nobody, where he sees what belongs to nobody.';
SELECT crm.register_hook('sees', 'slot', 'crm.sees_slot');

CREATE OR REPLACE FUNCTION crm.sees_claim(claim_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.claim c WHERE c.id = $1 AND (crm.for_plant() OR crm.sees_company(c.carrier_id) OR crm.sees_trip(c.trip_id)));
END
$$;
COMMENT ON FUNCTION crm.sees_claim(bigint) IS 'Whether the person who speaks may see a claim: he sees its carrier, or the client of its trip.';
SELECT crm.register_hook('sees', 'claim', 'crm.sees_claim');

CREATE OR REPLACE FUNCTION crm.sees_waybill(waybill_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.waybill w WHERE w.id = $1 AND (crm.for_plant() OR crm.sees_company(w.company_id)));
END
$$;
COMMENT ON FUNCTION crm.sees_waybill(bigint) IS 'Whether the person who speaks may see a railway waybill: he sees its company; one of nobody, where he sees what belongs to nobody.';
SELECT crm.register_hook('sees', 'waybill', 'crm.sees_waybill');
