-- document: row-level security. State: runs once.

SELECT crm.protect('crm.document', 'CASE WHEN company_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[]) ELSE company_id IN (SELECT s.id FROM crm.company_seen s) END');
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.document d WHERE d.id = document_id)')
FROM unnest(ARRAY['crm.document_file', 'crm.document_log', 'crm.document_sending']) t;
SELECT crm.protect(t) FROM unnest(ARRAY['crm.report_mailing', 'crm.report_mailed']) t;
