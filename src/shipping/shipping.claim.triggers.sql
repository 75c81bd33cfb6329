/* shipping: triggers of slots, proofs, terms, lateness and claims.  Run once. */

CREATE TRIGGER slot_check BEFORE INSERT OR UPDATE ON crm.slot
	FOR EACH ROW EXECUTE FUNCTION crm.slot_check();
COMMENT ON TRIGGER slot_check ON crm.slot IS 'Times in range; numbers the plans and decides which one is agreed';
CREATE TRIGGER slot_added AFTER INSERT ON crm.slot
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.slot_written();
COMMENT ON TRIGGER slot_added ON crm.slot IS 'Plans are kept, arrivals and lateness drawn';
CREATE TRIGGER slot_changed AFTER UPDATE ON crm.slot
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.slot_written();
COMMENT ON TRIGGER slot_changed ON crm.slot IS 'Plans are kept, arrivals and lateness drawn';
CREATE TRIGGER slot_plan_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.slot_plan
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER slot_plan_append_only ON crm.slot_plan IS 'History is never rewritten';

CREATE TRIGGER checkin_check BEFORE INSERT OR UPDATE ON crm.checkin
	FOR EACH ROW EXECUTE FUNCTION crm.checkin_check();
COMMENT ON TRIGGER checkin_check ON crm.checkin IS 'Times in range';
CREATE TRIGGER checkin_added AFTER INSERT ON crm.checkin
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.checkin_written();
COMMENT ON TRIGGER checkin_added ON crm.checkin IS 'Arrivals and lateness are drawn';
CREATE TRIGGER checkin_changed AFTER UPDATE ON crm.checkin
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.checkin_written();
COMMENT ON TRIGGER checkin_changed ON crm.checkin IS 'Arrivals and lateness are drawn';

CREATE TRIGGER passage_proves_added AFTER INSERT ON crm.passage
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.passage_proves();
COMMENT ON TRIGGER passage_proves_added ON crm.passage IS 'An entry with dwell proves an arrival';
CREATE TRIGGER passage_proves_changed AFTER UPDATE ON crm.passage
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.passage_proves();
COMMENT ON TRIGGER passage_proves_changed ON crm.passage IS 'An entry with dwell proves an arrival, a disproved one no longer';
CREATE TRIGGER shipment_2_proves_added AFTER INSERT ON crm.shipment
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.weighing_proves();
COMMENT ON TRIGGER shipment_2_proves_added ON crm.shipment IS 'A weighing proves an arrival';
CREATE TRIGGER shipment_2_proves_changed AFTER UPDATE ON crm.shipment
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.weighing_proves();
COMMENT ON TRIGGER shipment_2_proves_changed ON crm.shipment IS 'A weighing proves an arrival, a cancelled one no longer';
CREATE TRIGGER customer_order_window_added AFTER INSERT ON crm.customer_order
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.order_window();
COMMENT ON TRIGGER customer_order_window_added ON crm.customer_order IS 'The window of unloading is kept as a slot';
CREATE TRIGGER customer_order_window_changed AFTER UPDATE ON crm.customer_order
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.order_window();
COMMENT ON TRIGGER customer_order_window_changed ON crm.customer_order IS 'The window of unloading is kept as a slot';

CREATE TRIGGER queue_check BEFORE INSERT OR UPDATE ON crm.queue_interval
	FOR EACH ROW EXECUTE FUNCTION crm.queue_check();
COMMENT ON TRIGGER queue_check ON crm.queue_interval IS 'Times in range and in order';
CREATE TRIGGER queue_added AFTER INSERT ON crm.queue_interval
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.queue_written();
COMMENT ON TRIGGER queue_added ON crm.queue_interval IS 'Lateness of that time is reckoned anew';
CREATE TRIGGER queue_changed AFTER UPDATE ON crm.queue_interval
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.queue_written();
COMMENT ON TRIGGER queue_changed ON crm.queue_interval IS 'Lateness of that time is reckoned anew';

CREATE TRIGGER contract_check BEFORE INSERT OR UPDATE ON crm.contract
	FOR EACH ROW EXECUTE FUNCTION crm.contract_check();
COMMENT ON TRIGGER contract_check ON crm.contract IS 'The zone exists; carrier and zone stand once terms rest on them';
CREATE TRIGGER contract_term_check BEFORE INSERT OR UPDATE ON crm.contract_term
	FOR EACH ROW EXECUTE FUNCTION crm.contract_term_check();
COMMENT ON TRIGGER contract_term_check ON crm.contract_term IS 'Tariffs make sense, terms do not overlap, used ones stand';
CREATE TRIGGER contract_term_added AFTER INSERT ON crm.contract_term
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.contract_term_written();
COMMENT ON TRIGGER contract_term_added ON crm.contract_term IS 'Lateness of its days is reckoned anew';
CREATE TRIGGER contract_term_changed AFTER UPDATE ON crm.contract_term
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.contract_term_written();
COMMENT ON TRIGGER contract_term_changed ON crm.contract_term IS 'Lateness of its days is reckoned anew';

CREATE TRIGGER trip_proves_changed AFTER UPDATE ON crm.trip
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.trip_proves();
COMMENT ON TRIGGER trip_proves_changed ON crm.trip IS 'A trip loaded again, or cancelled';
CREATE TRIGGER trip_order_proves AFTER INSERT ON crm.trip_order
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.trip_proves();
COMMENT ON TRIGGER trip_order_proves ON crm.trip_order IS 'The windows of a trip''s orders';
CREATE TRIGGER trip_fact_proves AFTER INSERT ON crm.trip_fact
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.trip_proves();
COMMENT ON TRIGGER trip_fact_proves ON crm.trip_fact IS 'Departures and arrivals';

CREATE TRIGGER claim_point_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.claim_point
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER claim_point_append_only ON crm.claim_point IS 'History is never rewritten';
CREATE TRIGGER claim_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.claim_log
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER claim_log_append_only ON crm.claim_log IS 'History is never rewritten';
CREATE TRIGGER explanation_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.explanation
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER explanation_append_only ON crm.explanation IS 'History is never rewritten';
CREATE TRIGGER explanation_file_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.explanation_file
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER explanation_file_append_only ON crm.explanation_file IS 'History is never rewritten';
CREATE TRIGGER deal_3_claim AFTER UPDATE ON crm.deal
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.claim_moved();
COMMENT ON TRIGGER deal_3_claim ON crm.deal IS 'Moving the deal of a review decides its claim';
