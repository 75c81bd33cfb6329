-- message: row-level security. State: runs once.

SELECT crm.protect(t, crm.seen_by_company())
FROM unnest(ARRAY['crm.message_body', 'crm.message_history']) t;
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.message_body b WHERE b.id = message_id) OR EXISTS (SELECT FROM crm.message_history h WHERE h.id = message_id)')
FROM unnest(ARRAY['crm.message_attempt', 'crm.message_result', 'crm.message_attachment']) t;
SELECT crm.protect(t, 'CASE WHEN contact_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[]) ELSE EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id) END')
FROM unnest(ARRAY['crm.message_skip', 'crm.digest_item', 'crm.schedule']) t;
SELECT crm.protect('crm.schedule_run', 'EXISTS (SELECT FROM crm.schedule s WHERE s.id = schedule_id)');
SELECT crm.protect(t) FROM unnest(ARRAY['crm.message_key', 'crm.message_report_early', 'crm.message_price', 'crm.forgotten']) t;
SELECT crm.protect('crm.sandbox_recipient', '(SELECT crm.speaks())');
