/* shipping: triggers, and indexes on expressions of ours.  Run once. */

CREATE INDEX passage_from ON crm.passage (vehicle_id, coalesce(exit_fix_at, 'infinity')) WHERE superseded_at IS NULL;

CREATE TRIGGER zones_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON crm.place
	FOR EACH STATEMENT EXECUTE FUNCTION crm.zones_changed();
COMMENT ON TRIGGER zones_changed ON crm.place IS 'Backends read their zones anew';
CREATE TRIGGER zones_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON crm.zone_setting
	FOR EACH STATEMENT EXECUTE FUNCTION crm.zones_changed();
COMMENT ON TRIGGER zones_changed ON crm.zone_setting IS 'Backends read their zones anew';

CREATE TRIGGER customer_order_check BEFORE INSERT OR UPDATE ON crm.customer_order
	FOR EACH ROW EXECUTE FUNCTION crm.customer_order_check();
COMMENT ON TRIGGER customer_order_check ON crm.customer_order IS 'Numbers and times in range';
CREATE TRIGGER customer_order_added AFTER INSERT ON crm.customer_order
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.order_added();
COMMENT ON TRIGGER customer_order_added ON crm.customer_order IS 'Emits order.created';

CREATE TRIGGER shipment_check BEFORE INSERT OR UPDATE ON crm.shipment
	FOR EACH ROW EXECUTE FUNCTION crm.shipment_check();
COMMENT ON TRIGGER shipment_check ON crm.shipment IS 'Weights in range, net reckoned';
CREATE TRIGGER shipment_added AFTER INSERT ON crm.shipment
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.shipment_added();
COMMENT ON TRIGGER shipment_added ON crm.shipment IS 'Trips and shipment.loaded of what is weighed already';
CREATE TRIGGER shipment_updated AFTER UPDATE ON crm.shipment
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.shipment_updated();
COMMENT ON TRIGGER shipment_updated ON crm.shipment IS 'Trips and shipment.loaded of a gross that came later; storno';
