-- erp: triggers. State: runs once.

CREATE TRIGGER erp_change_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.erp_change
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER erp_change_append_only ON crm.erp_change IS 'History is never rewritten';

-- A client that can only INSERT calls the put_ functions through these.
CREATE TRIGGER company_in_put INSTEAD OF INSERT ON crm_erp.company_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('company');
COMMENT ON TRIGGER company_in_put ON crm_erp.company_in IS 'A row is a call of crm_erp.put_company';
CREATE TRIGGER employee_in_put INSTEAD OF INSERT ON crm_erp.employee_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('employee');
COMMENT ON TRIGGER employee_in_put ON crm_erp.employee_in IS 'A row is a call of crm_erp.put_employee';
CREATE TRIGGER contact_in_put INSTEAD OF INSERT ON crm_erp.contact_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('contact');
COMMENT ON TRIGGER contact_in_put ON crm_erp.contact_in IS 'A row is a call of crm_erp.put_contact';
CREATE TRIGGER place_in_put INSTEAD OF INSERT ON crm_erp.place_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('place');
COMMENT ON TRIGGER place_in_put ON crm_erp.place_in IS 'A row is a call of crm_erp.put_place';
CREATE TRIGGER vehicle_in_put INSTEAD OF INSERT ON crm_erp.vehicle_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('vehicle');
COMMENT ON TRIGGER vehicle_in_put ON crm_erp.vehicle_in IS 'A row is a call of crm_erp.put_vehicle';
CREATE TRIGGER order_in_put INSTEAD OF INSERT ON crm_erp.order_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('order');
COMMENT ON TRIGGER order_in_put ON crm_erp.order_in IS 'A row is a call of crm_erp.put_order';
CREATE TRIGGER shipment_in_put INSTEAD OF INSERT ON crm_erp.shipment_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('shipment');
COMMENT ON TRIGGER shipment_in_put ON crm_erp.shipment_in IS 'A row is a call of crm_erp.put_shipment';
