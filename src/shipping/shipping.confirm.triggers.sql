-- shipping: triggers of arrivals that prove places. State: runs once.

CREATE TRIGGER trip_confirms_place AFTER UPDATE OF arrived_at ON crm.trip
	FOR EACH ROW WHEN (NEW.arrived_at IS NOT NULL AND OLD.arrived_at IS NULL AND NEW.destination_place_id IS NOT NULL) EXECUTE FUNCTION crm.place_confirmed();
COMMENT ON TRIGGER trip_confirms_place ON crm.trip IS 'Who arrived found the place';
