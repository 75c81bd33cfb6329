-- event: row-level security. State: runs once.

SELECT crm.protect('crm.event', 'CASE WHEN company_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[]) ELSE company_id IN (SELECT s.id FROM crm.company_seen s) END');
