-- funnel: triggers of the cold base. State: runs once.

CREATE TRIGGER call_list_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.call_list_log
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER call_list_log_append_only ON crm.call_list_log IS 'History is never rewritten';

CREATE TRIGGER call_list_result_keep_shipped BEFORE DELETE ON crm.call_list_result
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_keep_shipped();
COMMENT ON TRIGGER call_list_result_keep_shipped ON crm.call_list_result IS 'What ships is switched off, not deleted';

CREATE TRIGGER call_list_check BEFORE INSERT OR UPDATE ON crm.call_list
	FOR EACH ROW EXECUTE FUNCTION crm.call_list_check();
COMMENT ON TRIGGER call_list_check ON crm.call_list IS 'The stage belongs to the funnel, the calendar is there';

CREATE TRIGGER employee_call_lists AFTER UPDATE ON crm.employee
	REFERENCING OLD TABLE AS before_ NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.call_list_dismissed();
COMMENT ON TRIGGER employee_call_lists ON crm.employee IS 'What a dismissed employee had goes back to the pool';
