-- party: triggers. State: runs once.

CREATE TRIGGER place_1_numbers BEFORE INSERT OR UPDATE OF lon, lat, radius_m ON crm.place
	FOR EACH ROW EXECUTE FUNCTION crm.place_check();
COMMENT ON TRIGGER place_1_numbers ON crm.place IS 'Refuses numbers that are no place before PostGIS sees them';

CREATE TRIGGER place_2_border BEFORE INSERT OR UPDATE OF border ON crm.place
	FOR EACH ROW WHEN (NEW.border IS NOT NULL) EXECUTE FUNCTION crm.place_border_check();
COMMENT ON TRIGGER place_2_border ON crm.place IS 'Refuses a border that cannot be one';

CREATE TRIGGER contact_point_1_normal BEFORE INSERT OR UPDATE OF kind, value ON crm.contact_point
	FOR EACH ROW EXECUTE FUNCTION crm.contact_point_normal();
COMMENT ON TRIGGER contact_point_1_normal ON crm.contact_point IS 'Brings numbers and addresses to their one form';

CREATE TRIGGER company_1_responsibility_insert AFTER INSERT ON crm.company
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.responsibility_insert();
COMMENT ON TRIGGER company_1_responsibility_insert ON crm.company IS 'Keeps crm.responsibility by the first owner';

CREATE TRIGGER company_1_responsibility_update AFTER UPDATE ON crm.company
	REFERENCING OLD TABLE AS before_ NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.owner_changed();
COMMENT ON TRIGGER company_1_responsibility_update ON crm.company IS 'Keeps crm.responsibility where the owner changes';
