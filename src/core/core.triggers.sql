CREATE TRIGGER clock_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON crm.clock_state
	FOR EACH STATEMENT EXECUTE FUNCTION crm.clock_changed();
COMMENT ON TRIGGER clock_changed ON crm.clock_state IS 'Every session reads the clock again after commit.';

-- An earlier installation in this database may have moved the clock: forget it.
DELETE FROM crm.clock_state;
