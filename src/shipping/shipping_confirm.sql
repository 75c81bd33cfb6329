-- shipping: an arrival proves the coordinates of a place. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.place_confirmed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- once a month is enough: each write has every zone read again
	IF crm.guard() THEN
		UPDATE crm.place p SET confirmed_at = NEW.arrived_at, confirmed_by = format('trip %s', NEW.id)
		WHERE p.id = NEW.destination_place_id AND (p.confirmed_at IS NULL OR p.confirmed_at < NEW.arrived_at - interval '30 days');
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.place_confirmed() IS 'Trigger function of crm.trip, once it has arrived: its place lies where we say (kpi.md, section 4); written at most once in thirty days. Asks crm.guard()';
