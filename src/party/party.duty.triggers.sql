-- party: triggers of employees as readers.

CREATE TRIGGER employee_reachable AFTER INSERT OR UPDATE OR DELETE ON crm.employee
	FOR EACH STATEMENT EXECUTE FUNCTION crm.employees_changed();
COMMENT ON TRIGGER employee_reachable ON crm.employee IS 'Each employee has a contact by which rules address him';
CREATE TRIGGER line_holder_reachable AFTER INSERT OR UPDATE OR DELETE ON crm.line_holder
	FOR EACH STATEMENT EXECUTE FUNCTION crm.employees_changed();
COMMENT ON TRIGGER line_holder_reachable ON crm.line_holder IS 'And the lines that he holds';
