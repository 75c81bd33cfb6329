-- shipping: the places to which orders, shipments and trips go, for the channel of a message. Claim 70.

CREATE OR REPLACE FUNCTION crm.order_places(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000
AS $$
	SELECT i.id, o.place_id FROM unnest($1) AS i(id)
	CROSS JOIN LATERAL (SELECT x.place_id FROM crm.customer_order x WHERE x.id = i.id OFFSET 0) o WHERE o.place_id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.order_places(bigint[]) IS 'Where orders are unloaded (crm.place.id); orders without a place are left out';

CREATE OR REPLACE FUNCTION crm.shipment_places(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000
AS $$
	SELECT i.id, o.place_id FROM unnest($1) AS i(id)
	CROSS JOIN LATERAL (SELECT x.order_id FROM crm.shipment x WHERE x.id = i.id OFFSET 0) s
	CROSS JOIN LATERAL (SELECT x.place_id FROM crm.customer_order x WHERE x.id = s.order_id OFFSET 0) o WHERE o.place_id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.shipment_places(bigint[]) IS 'Where shipments are unloaded (crm.place.id): the place of their order; those without one are left out';

CREATE OR REPLACE FUNCTION crm.trip_places(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000
AS $$
	SELECT i.id, t.place_id FROM unnest($1) AS i(id)
	CROSS JOIN LATERAL (SELECT x.destination_place_id AS place_id FROM crm.trip x WHERE x.id = i.id OFFSET 0) t WHERE t.place_id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.trip_places(bigint[]) IS 'Where trips are unloaded (crm.place.id); those without a place are left out';

SELECT crm.register_place_finder('customer_order', 'crm.order_places');
SELECT crm.register_place_finder('shipment', 'crm.shipment_places');
SELECT crm.register_place_finder('trip', 'crm.trip_places');
