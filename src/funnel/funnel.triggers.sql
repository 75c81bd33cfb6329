-- funnel: triggers. State: runs once.

CREATE TRIGGER deal_1_transition BEFORE INSERT OR UPDATE ON crm.deal
	FOR EACH ROW EXECUTE FUNCTION crm.deal_transition();
COMMENT ON TRIGGER deal_1_transition ON crm.deal IS 'Refuses a move that the funnel does not allow';

CREATE TRIGGER deal_2_log_insert AFTER INSERT ON crm.deal
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.deal_log_insert();
COMMENT ON TRIGGER deal_2_log_insert ON crm.deal IS 'Logs the first stage';

CREATE TRIGGER deal_2_log_update AFTER UPDATE ON crm.deal
	REFERENCING OLD TABLE AS before_ NEW TABLE AS after_ FOR EACH STATEMENT EXECUTE FUNCTION crm.deal_moves();
COMMENT ON TRIGGER deal_2_log_update ON crm.deal IS 'Logs moves and emits deal.moved';

CREATE TRIGGER stage_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.stage_log
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER stage_log_append_only ON crm.stage_log IS 'History is never rewritten';

CREATE TRIGGER event_2_funnel AFTER INSERT ON crm.event
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.event_moves_deals();
COMMENT ON TRIGGER event_2_funnel ON crm.event IS 'Moves deals by what happened';

CREATE TRIGGER funnel_keep_shipped BEFORE DELETE ON crm.funnel
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_keep_shipped();
COMMENT ON TRIGGER funnel_keep_shipped ON crm.funnel IS 'What ships is switched off, not deleted';
CREATE TRIGGER stage_keep_shipped BEFORE DELETE ON crm.stage
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_keep_shipped();
COMMENT ON TRIGGER stage_keep_shipped ON crm.stage IS 'What ships stays';
CREATE TRIGGER move_allowed_keep_shipped BEFORE DELETE ON crm.move_allowed
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_keep_shipped();
COMMENT ON TRIGGER move_allowed_keep_shipped ON crm.move_allowed IS 'What ships is switched off, not deleted';
CREATE TRIGGER deal_move_rule_keep_shipped BEFORE DELETE ON crm.deal_move_rule
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_keep_shipped();
COMMENT ON TRIGGER deal_move_rule_keep_shipped ON crm.deal_move_rule IS 'What ships is switched off, not deleted';

CREATE TRIGGER move_allowed_check BEFORE INSERT OR UPDATE ON crm.move_allowed
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_check();
COMMENT ON TRIGGER move_allowed_check ON crm.move_allowed IS 'Both stages belong to the funnel';
CREATE TRIGGER deal_move_rule_check BEFORE INSERT OR UPDATE ON crm.deal_move_rule
	FOR EACH ROW EXECUTE FUNCTION crm.funnel_check();
COMMENT ON TRIGGER deal_move_rule_check ON crm.deal_move_rule IS 'The stage belongs to the funnel, the kind of event exists';
