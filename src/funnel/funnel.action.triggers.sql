-- funnel: triggers of stage actions. State: runs once.

CREATE TRIGGER stage_action_check BEFORE INSERT OR UPDATE ON crm.stage_action
	FOR EACH ROW EXECUTE FUNCTION crm.stage_action_check();
COMMENT ON TRIGGER stage_action_check ON crm.stage_action IS 'The stage belongs to the funnel, the action is there, its settings hold';
CREATE TRIGGER stage_action_keep_shipped BEFORE DELETE ON crm.stage_action
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_keep_shipped();
COMMENT ON TRIGGER stage_action_keep_shipped ON crm.stage_action IS 'What ships is switched off, not deleted';
