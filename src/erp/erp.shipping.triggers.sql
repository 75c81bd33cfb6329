-- erp: triggers of the views for slots, check-ins and contracts. State: runs once.

CREATE TRIGGER slot_in_put INSTEAD OF INSERT ON crm_erp.slot_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('slot');
COMMENT ON TRIGGER slot_in_put ON crm_erp.slot_in IS 'A row is a call of crm_erp.put_slot';
CREATE TRIGGER checkin_in_put INSTEAD OF INSERT ON crm_erp.checkin_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('checkin');
COMMENT ON TRIGGER checkin_in_put ON crm_erp.checkin_in IS 'A row is a call of crm_erp.put_checkin';
CREATE TRIGGER contract_in_put INSTEAD OF INSERT ON crm_erp.contract_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('contract');
COMMENT ON TRIGGER contract_in_put ON crm_erp.contract_in IS 'A row is a call of crm_erp.put_contract';
