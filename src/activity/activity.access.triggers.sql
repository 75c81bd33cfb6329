-- activity: row-level security. State: runs once.

-- A task is its doer's, its giver's and whose client it is about.
SELECT crm.protect('crm.task', 'coalesce(employee_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]) OR giver_id = ANY ((SELECT crm.visible_employees())::bigint[])'
	' OR company_id IN (SELECT s.id FROM crm.company_seen s)');
SELECT crm.protect('crm.task_log', 'EXISTS (SELECT FROM crm.task t WHERE t.id = task_id)');
SELECT crm.protect('crm.note', 'CASE WHEN company_id IS NOT NULL THEN company_id IN (SELECT s.id FROM crm.company_seen s)'
	' WHEN contact_id IS NOT NULL THEN EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id) ELSE 0 = ANY ((SELECT crm.visible_employees())::bigint[]) END');
