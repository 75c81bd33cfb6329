-- erp: the trigger of the weighings' view. State: runs once.

CREATE TRIGGER weighing_in_put INSTEAD OF INSERT ON crm_erp.weighing_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('weighing');
COMMENT ON TRIGGER weighing_in_put ON crm_erp.weighing_in IS 'A row is a call of crm_erp.put_weighing';
