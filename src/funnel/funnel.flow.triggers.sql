-- funnel: triggers of checks, timers and next steps. State: runs once.

CREATE TRIGGER stage_check BEFORE INSERT OR UPDATE ON crm.stage
	FOR EACH ROW EXECUTE FUNCTION crm.stage_check();
COMMENT ON TRIGGER stage_check ON crm.stage IS 'Conditions are one expression each, required fields are there';

CREATE TRIGGER stage_touch_insert AFTER INSERT ON crm.stage REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER stage_touch_insert ON crm.stage IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER stage_touch_update AFTER UPDATE ON crm.stage REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER stage_touch_update ON crm.stage IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER stage_touch_delete AFTER DELETE ON crm.stage REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER stage_touch_delete ON crm.stage IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER move_allowed_touch_insert AFTER INSERT ON crm.move_allowed REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER move_allowed_touch_insert ON crm.move_allowed IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER move_allowed_touch_update AFTER UPDATE ON crm.move_allowed REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER move_allowed_touch_update ON crm.move_allowed IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER move_allowed_touch_delete AFTER DELETE ON crm.move_allowed REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER move_allowed_touch_delete ON crm.move_allowed IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER stage_action_touch_insert AFTER INSERT ON crm.stage_action REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER stage_action_touch_insert ON crm.stage_action IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER stage_action_touch_update AFTER UPDATE ON crm.stage_action REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER stage_action_touch_update ON crm.stage_action IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER deal_move_rule_touch_insert AFTER INSERT ON crm.deal_move_rule REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER deal_move_rule_touch_insert ON crm.deal_move_rule IS 'The funnel is checked when the transaction ends';
CREATE TRIGGER deal_move_rule_touch_update AFTER UPDATE ON crm.deal_move_rule REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION crm.funnel_touch();
COMMENT ON TRIGGER deal_move_rule_touch_update ON crm.deal_move_rule IS 'The funnel is checked when the transaction ends';

CREATE CONSTRAINT TRIGGER funnel_whole AFTER INSERT OR UPDATE ON crm.funnel
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (crm.guard()) EXECUTE FUNCTION crm.funnel_whole();
COMMENT ON TRIGGER funnel_whole ON crm.funnel IS 'A funnel that is on is whole when the transaction ends';
CREATE TRIGGER rule_funnel AFTER INSERT OR UPDATE ON crm.rule
	FOR EACH ROW WHEN (coalesce(NEW.switched, NEW.enabled)) EXECUTE FUNCTION crm.rule_funnel();
COMMENT ON TRIGGER rule_funnel ON crm.rule IS 'A rule of messages closes no loop through a funnel';

CREATE TRIGGER stage_action_rule AFTER INSERT OR UPDATE OR DELETE ON crm.stage_action
	FOR EACH ROW EXECUTE FUNCTION crm.stage_action_rule();
COMMENT ON TRIGGER stage_action_rule ON crm.stage_action IS 'The action message has a rule of its own';

CREATE TRIGGER event_3_answer AFTER INSERT ON crm.event
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.event_answers();
COMMENT ON TRIGGER event_3_answer ON crm.event IS 'What waited for the client''s answer ends';

CREATE TRIGGER task_3_funnel AFTER UPDATE ON crm.task
	REFERENCING NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.tasks_closed();
COMMENT ON TRIGGER task_3_funnel ON crm.task IS 'A closed task ends its timer and may leave its deal without a next step';

CREATE CONSTRAINT TRIGGER next_step_judge AFTER INSERT ON crm.next_step_check
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION crm.next_step_judge();
COMMENT ON TRIGGER next_step_judge ON crm.next_step_check IS 'No open deal without a next step, where the funnel asks for one';
