/* message: triggers. */

CREATE TRIGGER event_1_message AFTER INSERT ON crm.event
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.event_rules();
COMMENT ON TRIGGER event_1_message ON crm.event IS 'Rules answer to events in the same transaction';

CREATE TRIGGER template_save BEFORE INSERT OR UPDATE OR DELETE ON crm.template
	FOR EACH ROW EXECUTE FUNCTION crm.template_save();
COMMENT ON TRIGGER template_save ON crm.template IS 'Checks a text';

CREATE TRIGGER template_keep AFTER INSERT OR UPDATE ON crm.template
	FOR EACH ROW EXECUTE FUNCTION crm.template_keep();
COMMENT ON TRIGGER template_keep ON crm.template IS 'Keeps the versions of a text';

CREATE TRIGGER rule_save BEFORE INSERT OR UPDATE OR DELETE ON crm.rule
	FOR EACH ROW EXECUTE FUNCTION crm.rule_save();
COMMENT ON TRIGGER rule_save ON crm.rule IS 'Checks a rule';

CREATE TRIGGER rule_keep AFTER INSERT OR UPDATE ON crm.rule
	FOR EACH ROW EXECUTE FUNCTION crm.rule_keep();
COMMENT ON TRIGGER rule_keep ON crm.rule IS 'Keeps the versions of a rule';

CREATE TRIGGER wake AFTER INSERT ON crm.message_body FOR EACH STATEMENT EXECUTE FUNCTION crm.wake_couriers();
COMMENT ON TRIGGER wake ON crm.message_body IS 'The commit wakes the couriers';

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON crm.message_body
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.message_body IS 'What was said stays as it was said';

CREATE TRIGGER moved_only AFTER DELETE ON crm.message_body
	REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION crm.message_moved_only();
COMMENT ON TRIGGER moved_only ON crm.message_body IS 'A message leaves this table only for its history';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.message_attempt
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.message_attempt IS 'Tries and reports stay';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.message_result
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.message_result IS 'How a message ended stays';

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON crm.rule_version
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.rule_version IS 'Versions stay as they were';

CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON crm.template_version
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.template_version IS 'Versions stay as they were';

CREATE TRIGGER point_verified AFTER INSERT ON crm.message_result
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.point_verified();
COMMENT ON TRIGGER point_verified ON crm.message_result IS 'An address at which a message arrived is a good one';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.message_price
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.message_price IS 'What was paid stays';
CREATE TRIGGER chain AFTER INSERT ON crm.message_result
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.message_chain();
COMMENT ON TRIGGER chain ON crm.message_result IS 'What follows a message that failed is queued in the transaction that says so';

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.forgotten
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.forgotten IS 'Who was forgotten stays known by number';
