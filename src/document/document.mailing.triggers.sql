-- document: triggers of mailed sheets. State: runs once.

CREATE TRIGGER report_mailing_check BEFORE INSERT OR UPDATE ON crm.report_mailing
	FOR EACH ROW EXECUTE FUNCTION crm.report_mailing_check();
COMMENT ON TRIGGER report_mailing_check ON crm.report_mailing IS 'The view, its columns and the readers are there, the author may read it';

CREATE TRIGGER report_mailed_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.report_mailed
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER report_mailed_append_only ON crm.report_mailed IS 'History is never rewritten';
