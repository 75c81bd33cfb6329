/* shipping: triggers of requests to carriers. */

CREATE TRIGGER wake AFTER INSERT OR UPDATE OF deadline_at ON crm.carrier_offer FOR EACH STATEMENT EXECUTE FUNCTION crm.wake_couriers();
COMMENT ON TRIGGER wake ON crm.carrier_offer IS 'The commit wakes the couriers: a deadline was set';
