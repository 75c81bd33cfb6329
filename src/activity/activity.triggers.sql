-- activity: triggers. State: runs once.

CREATE TRIGGER task_1_tell BEFORE INSERT ON crm.task
	FOR EACH ROW WHEN (NEW.state = 'open' AND NEW.tell_at IS NULL) EXECUTE FUNCTION crm.task_tell();
COMMENT ON TRIGGER task_1_tell ON crm.task IS 'A task is told of at its deadline';
CREATE TRIGGER task_1_tell_again BEFORE UPDATE OF due_at, state, employee_id ON crm.task
	FOR EACH ROW WHEN (NEW.due_at <> OLD.due_at OR NEW.state <> OLD.state OR NEW.employee_id IS DISTINCT FROM OLD.employee_id) EXECUTE FUNCTION crm.task_tell();
COMMENT ON TRIGGER task_1_tell_again ON crm.task IS 'What is closed stays closed; another deadline or doer starts the escalation anew';
CREATE TRIGGER task_2_log_insert AFTER INSERT ON crm.task
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.task_added();
COMMENT ON TRIGGER task_2_log_insert ON crm.task IS 'Logs new tasks and emits task.added';
CREATE TRIGGER task_2_log_update AFTER UPDATE ON crm.task
	REFERENCING OLD TABLE AS before_ NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.task_changed();
COMMENT ON TRIGGER task_2_log_update ON crm.task IS 'Logs what changed and emits task.done and task.cancelled';
CREATE TRIGGER task_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.task_log
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER task_log_append_only ON crm.task_log IS 'History is never rewritten';
CREATE TRIGGER task_escalation_keep_shipped BEFORE DELETE ON crm.task_escalation
	FOR EACH ROW EXECUTE FUNCTION crm.task_escalation_keep();
COMMENT ON TRIGGER task_escalation_keep_shipped ON crm.task_escalation IS 'What ships is switched off, not deleted';
