-- kpi: triggers. State: runs once.

CREATE TRIGGER indicator_1_check BEFORE INSERT OR UPDATE OR DELETE ON crm.indicator
	FOR EACH ROW EXECUTE FUNCTION crm.indicator_check();
COMMENT ON TRIGGER indicator_1_check ON crm.indicator IS 'Refuses a definition that cannot be compiled, counts versions, keeps what shipped';

CREATE TRIGGER indicator_2_saved AFTER INSERT OR UPDATE OR DELETE ON crm.indicator
	FOR EACH ROW EXECUTE FUNCTION crm.indicator_saved();
COMMENT ON TRIGGER indicator_2_saved ON crm.indicator IS 'Keeps the version and compiles it';

CREATE TRIGGER indicator_version_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.indicator_version
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER indicator_version_append_only ON crm.indicator_version IS 'What an indicator meant is never rewritten';
