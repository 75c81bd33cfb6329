/* event: triggers. */

CREATE TRIGGER event_0_check AFTER INSERT ON crm.event
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.event_check();
COMMENT ON TRIGGER event_0_check ON crm.event IS 'The kind is registered and the object is of its kind';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.event
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.event IS 'What happened stays: no change, no deletion, for nobody';
