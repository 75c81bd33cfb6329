/* message: triggers of schedules. */

CREATE TRIGGER schedule_save BEFORE INSERT OR UPDATE ON crm.schedule
	FOR EACH ROW EXECUTE FUNCTION crm.schedule_save();
COMMENT ON TRIGGER schedule_save ON crm.schedule IS 'Checks a schedule and counts its next moment';

CREATE TRIGGER wake AFTER INSERT OR UPDATE OF action, rrule, starts_at, zone, holidays, calendar_code, enabled ON crm.schedule FOR EACH STATEMENT EXECUTE FUNCTION crm.wake_couriers();
COMMENT ON TRIGGER wake ON crm.schedule IS 'The commit wakes the couriers: a moment may be near';
