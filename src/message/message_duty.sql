-- Managers as readers of rules: who answers for a client at the hour of the event. Claim 53.

CREATE OR REPLACE FUNCTION crm.manager_on_duty(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT x.id, crm.employee_contact(x.employee)
	FROM (SELECT e.id, crm.duty_for(e.at, e.company_id) AS employee FROM crm.event e WHERE e.id = ANY ($1) OFFSET 0) x
	WHERE crm.employee_contact(x.employee) IS NOT NULL
$$;
COMMENT ON FUNCTION crm.manager_on_duty(bigint[]) IS 'Audience: the employee who answers for the client when the event happens (crm.duty_for): the responsible manager in his hours, else his deputy, else who is on duty';
