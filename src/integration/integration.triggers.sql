-- integration: a change of what is served wakes the courier.

CREATE TRIGGER integration_wake AFTER INSERT OR UPDATE ON crm.integration
	FOR EACH STATEMENT EXECUTE FUNCTION crm.integration_changed();
COMMENT ON TRIGGER integration_wake ON crm.integration IS 'Wakes the courier at commit.';

CREATE TRIGGER circuit_changed AFTER UPDATE OF failures ON crm.integration_state
	FOR EACH ROW WHEN ((OLD.failures > 2) <> (NEW.failures > 2)) EXECUTE FUNCTION crm.circuit_changed();
COMMENT ON TRIGGER circuit_changed ON crm.integration_state IS 'The log is told once';
