-- From the made-up 0.9: the column that it lacked.
ALTER TABLE crm.activation ADD COLUMN activated_by text NOT NULL DEFAULT session_user;
COMMENT ON COLUMN crm.activation.activated_by IS 'The login that activated.';
COMMENT ON COLUMN crm.clock_state.rate IS 'Business seconds in a real second; 0 = stands still.';
