/* shipping: triggers of weighings.  Run once. */

CREATE TRIGGER weighing_check BEFORE INSERT OR UPDATE ON crm.weighing
	FOR EACH ROW EXECUTE FUNCTION crm.weighing_check();
COMMENT ON TRIGGER weighing_check ON crm.weighing IS 'Weight and time in range';
CREATE TRIGGER weighing_added AFTER INSERT ON crm.weighing
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.weighing_changed();
COMMENT ON TRIGGER weighing_added ON crm.weighing IS 'Pairs it: a shipment, once tare and gross are there';
CREATE TRIGGER weighing_updated AFTER UPDATE ON crm.weighing
	REFERENCING OLD TABLE AS stale NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.weighing_updated();
COMMENT ON TRIGGER weighing_updated ON crm.weighing IS 'Pairs anew after a correction or a storno';
CREATE TRIGGER weighing_order AFTER INSERT ON crm.customer_order
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.weighing_order_added();
COMMENT ON TRIGGER weighing_order ON crm.customer_order IS 'Weighings that came before their order are paired';
