-- integration: a change of what is served wakes the courier.

CREATE TRIGGER integration_wake AFTER INSERT OR UPDATE ON crm.integration
	FOR EACH STATEMENT EXECUTE FUNCTION crm.integration_changed();
COMMENT ON TRIGGER integration_wake ON crm.integration IS 'Wakes the courier at commit.';
