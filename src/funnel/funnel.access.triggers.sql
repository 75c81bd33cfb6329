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
SELECT crm.protect('crm.stage_action_failure', 'EXISTS (SELECT FROM crm.deal d WHERE d.id = deal_id)');

-- The stage log tells of stages.
SELECT crm.audit('crm.deal', ARRAY['stage_id', 'stage_at', 'stage_event_id', 'closed_at']);
