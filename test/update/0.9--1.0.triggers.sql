-- From the made-up 0.9: the trigger that it lacked.
CREATE TRIGGER clock_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON crm.clock_state
	FOR EACH STATEMENT EXECUTE FUNCTION crm.clock_changed();
COMMENT ON TRIGGER clock_changed ON crm.clock_state IS 'Every session reads the clock again after commit.';
