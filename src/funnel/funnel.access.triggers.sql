-- funnel: row-level security. State: runs once.

CREATE INDEX deal_owner_idx ON crm.deal ((coalesce(owner_id, 0)));

-- As names of companies.
ALTER TABLE crm.deal ALTER name SET STATISTICS 0;

-- What may be written names no client and no contact that the person does not see: a deal of one's own would show them.
SELECT crm.protect('crm.deal',
	'coalesce(owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]) OR company_id = ANY ((SELECT crm.company_deals())::bigint[])',
	'(coalesce(owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]) OR company_id IN (SELECT o.id FROM crm.company_own o))'
	' AND (company_id IS NULL OR company_id IN (SELECT s.id FROM crm.company_seen s))'
	' AND (contact_id IS NULL OR EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id))',
	'coalesce(owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]) OR company_id IN (SELECT o.id FROM crm.company_own o)');
SELECT crm.protect('crm.stage_log', 'EXISTS (SELECT FROM crm.deal d WHERE d.id = deal_id)');
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.deal d WHERE d.id = deal_id)')
FROM unnest(ARRAY['crm.stage_action_failure', 'crm.stage_timer', 'crm.checklist_item', 'crm.deal_activity']) t;
SELECT crm.protect('crm.deal_link', 'EXISTS (SELECT FROM crm.deal d WHERE d.id IN (deal_id, card_id))');
-- who works through a list gets one contact at a time, by crm.call_next()
SELECT crm.protect('crm.call_list_entry', 'EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id)');
SELECT crm.protect('crm.call_list_log', 'EXISTS (SELECT FROM crm.call_list_entry e WHERE e.id = entry_id)');
SELECT crm.protect('crm.do_not_call', 'CASE WHEN contact_id IS NOT NULL THEN EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id)'
	' WHEN company_id IS NOT NULL THEN company_id IN (SELECT s.id FROM crm.company_seen s) ELSE (SELECT crm.speaks()) END');

-- The stage log tells of stages.
SELECT crm.audit('crm.deal', ARRAY['stage_id', 'stage_at', 'stage_event_id', 'closed_at']);
