-- document: row-level security. State: runs once.

SELECT crm.protect('crm.document', crm.seen_by_company());
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.document d WHERE d.id = document_id)')
FROM unnest(ARRAY['crm.document_file', 'crm.document_log', 'crm.document_sending']) t;
SELECT crm.protect(t) FROM unnest(ARRAY['crm.report_mailing', 'crm.report_mailed']) t;
