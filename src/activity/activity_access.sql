-- Which tasks a person may see. Promise 8.

CREATE OR REPLACE FUNCTION crm.sees_task(task_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN EXISTS (SELECT FROM crm.task t WHERE t.id = $1 AND (crm.for_plant() OR coalesce(t.employee_id, 0) = ANY (crm.visible_employees())
		OR t.giver_id = ANY (crm.visible_employees()) OR t.company_id IS NOT NULL AND crm.sees_company(t.company_id)));
END
$$;
COMMENT ON FUNCTION crm.sees_task(bigint) IS 'Whether the person who speaks may see a task: he, or one whom he sees, is to do it or gave it, or it is about a client whom he sees. False for one that is not there.';
SELECT crm.register_hook('sees', 'task', 'crm.sees_task');
