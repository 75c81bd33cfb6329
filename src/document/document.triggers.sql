-- document: triggers. State: runs once.

CREATE TRIGGER document_1_keep BEFORE UPDATE OR DELETE ON crm.document
	FOR EACH ROW EXECUTE FUNCTION crm.document_keep();
COMMENT ON TRIGGER document_1_keep ON crm.document IS 'A number stays, a state follows the order of states';

CREATE TRIGGER document_2_log_insert AFTER INSERT ON crm.document
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.document_log_insert();
COMMENT ON TRIGGER document_2_log_insert ON crm.document IS 'Logs the first state';

CREATE TRIGGER document_2_log_update AFTER UPDATE ON crm.document
	REFERENCING OLD TABLE AS before_ NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.document_log_update();
COMMENT ON TRIGGER document_2_log_update ON crm.document IS 'Logs states and emits document.…';

CREATE TRIGGER document_no_truncate BEFORE TRUNCATE ON crm.document
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER document_no_truncate ON crm.document IS 'Documents stay';

CREATE TRIGGER document_file_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.document_file
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER document_file_append_only ON crm.document_file IS 'A file is never rewritten';

CREATE TRIGGER document_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.document_log
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER document_log_append_only ON crm.document_log IS 'History is never rewritten';

CREATE TRIGGER document_sending_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.document_sending
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER document_sending_append_only ON crm.document_sending IS 'History is never rewritten';
