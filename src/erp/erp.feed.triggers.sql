-- erp: what is noted for the feed. State: runs once.

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.company
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('company');
COMMENT ON TRIGGER erp_feed_insert ON crm.company IS 'New companies for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.company
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('company');
COMMENT ON TRIGGER erp_feed_update ON crm.company IS 'Changed companies for the ERP''s feed';
CREATE TRIGGER erp_feed_delete AFTER DELETE ON crm.company
	REFERENCING OLD TABLE AS before_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('company');
COMMENT ON TRIGGER erp_feed_delete ON crm.company IS 'Deleted companies for the ERP''s feed';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.contact
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('contact');
COMMENT ON TRIGGER erp_feed_insert ON crm.contact IS 'New contacts for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.contact
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('contact');
COMMENT ON TRIGGER erp_feed_update ON crm.contact IS 'Changed contacts for the ERP''s feed';
CREATE TRIGGER erp_feed_delete AFTER DELETE ON crm.contact
	REFERENCING OLD TABLE AS before_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('contact');
COMMENT ON TRIGGER erp_feed_delete ON crm.contact IS 'Deleted contacts for the ERP''s feed';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.contact_point
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('contact_point');
COMMENT ON TRIGGER erp_feed_insert ON crm.contact_point IS 'A contact''s phones and addresses are fed with the contact';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.contact_point
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('contact_point');
COMMENT ON TRIGGER erp_feed_update ON crm.contact_point IS 'A contact''s phones and addresses are fed with the contact';
CREATE TRIGGER erp_feed_delete AFTER DELETE ON crm.contact_point
	REFERENCING OLD TABLE AS before_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('contact_point');
COMMENT ON TRIGGER erp_feed_delete ON crm.contact_point IS 'A contact''s phones and addresses are fed with the contact';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.deal
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('deal');
COMMENT ON TRIGGER erp_feed_insert ON crm.deal IS 'New deals for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.deal
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('deal');
COMMENT ON TRIGGER erp_feed_update ON crm.deal IS 'Deals that moved or changed, for the ERP''s feed';
CREATE TRIGGER erp_feed_delete AFTER DELETE ON crm.deal
	REFERENCING OLD TABLE AS before_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('deal');
COMMENT ON TRIGGER erp_feed_delete ON crm.deal IS 'Deleted deals for the ERP''s feed';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.customer_order
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('order');
COMMENT ON TRIGGER erp_feed_insert ON crm.customer_order IS 'New orders for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.customer_order
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('order');
COMMENT ON TRIGGER erp_feed_update ON crm.customer_order IS 'Changed orders for the ERP''s feed';
CREATE TRIGGER erp_feed_delete AFTER DELETE ON crm.customer_order
	REFERENCING OLD TABLE AS before_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('order');
COMMENT ON TRIGGER erp_feed_delete ON crm.customer_order IS 'Deleted orders for the ERP''s feed';

-- A trip's row is written with each fix (its expected arrival); only what the ERP wants to know is fed.
CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.trip
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('trip');
COMMENT ON TRIGGER erp_feed_insert ON crm.trip IS 'New trips for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.trip
	FOR EACH ROW WHEN ((OLD.state, OLD.vehicle_id, OLD.loaded_at, OLD.departed_at, OLD.approaching_at, OLD.arrived_at, OLD.unloaded_at)
		IS DISTINCT FROM (NEW.state, NEW.vehicle_id, NEW.loaded_at, NEW.departed_at, NEW.approaching_at, NEW.arrived_at, NEW.unloaded_at))
	EXECUTE FUNCTION crm.erp_feed_note_row('trip');
COMMENT ON TRIGGER erp_feed_update ON crm.trip IS 'States and times of trips for the ERP''s feed; a new expected arrival is none';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.claim
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('claim');
COMMENT ON TRIGGER erp_feed_insert ON crm.claim IS 'New claims for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.claim
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('claim');
COMMENT ON TRIGGER erp_feed_update ON crm.claim IS 'States of claims for the ERP''s feed';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.document
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('document');
COMMENT ON TRIGGER erp_feed_insert ON crm.document IS 'New documents for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.document
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('document');
COMMENT ON TRIGGER erp_feed_update ON crm.document IS 'States of documents for the ERP''s feed';

-- A client that can only INSERT.
CREATE TRIGGER team_in_put INSTEAD OF INSERT ON crm_erp.team_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('team');
COMMENT ON TRIGGER team_in_put ON crm_erp.team_in IS 'A row is a call of crm_erp.put_team';
CREATE TRIGGER absence_in_put INSTEAD OF INSERT ON crm_erp.absence_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('absence');
COMMENT ON TRIGGER absence_in_put ON crm_erp.absence_in IS 'A row is a call of crm_erp.put_absence';
CREATE TRIGGER link_in_put INSTEAD OF INSERT ON crm_erp.link_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('link');
COMMENT ON TRIGGER link_in_put ON crm_erp.link_in IS 'A row is a call of crm_erp.put_link';
CREATE TRIGGER lead_in_put INSTEAD OF INSERT ON crm_erp.lead_in
	FOR EACH ROW EXECUTE FUNCTION crm.erp_insert('lead');
COMMENT ON TRIGGER lead_in_put ON crm_erp.lead_in IS 'A row is a call of crm_erp.put_lead';

CREATE TRIGGER erp_feed_insert AFTER INSERT ON crm.lead
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('lead');
COMMENT ON TRIGGER erp_feed_insert ON crm.lead IS 'New leads for the ERP''s feed';
CREATE TRIGGER erp_feed_update AFTER UPDATE ON crm.lead
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.erp_feed_note('lead');
COMMENT ON TRIGGER erp_feed_update ON crm.lead IS 'Leads that repeat, or are put apart or restored, for the ERP''s feed';
