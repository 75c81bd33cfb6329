-- erp, wagons: triggers. State: runs once.

CREATE TRIGGER wagon_in_put INSTEAD OF INSERT ON crm_erp.wagon_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('wagon');
COMMENT ON TRIGGER wagon_in_put ON crm_erp.wagon_in IS 'A row is a call of crm_erp.put_wagon';
