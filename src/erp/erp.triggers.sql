-- erp: triggers. State: runs once.

CREATE TRIGGER erp_change_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.erp_change
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER erp_change_append_only ON crm.erp_change IS 'History is never rewritten';
