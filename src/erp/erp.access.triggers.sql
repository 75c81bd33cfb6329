-- erp: row-level security. State: runs once.

SELECT crm.protect(t) FROM unnest(ARRAY['crm.erp_change', 'crm.erp_point', 'crm.import', 'crm.import_item', 'crm.import_problem']) t;
-- a lead that is nobody's yet is the heads'
SELECT crm.protect('crm.lead', 'CASE WHEN company_id IS NOT NULL THEN company_id IN (SELECT s.id FROM crm.company_seen s)'
	' WHEN deal_id IS NOT NULL THEN EXISTS (SELECT FROM crm.deal d WHERE d.id = deal_id) ELSE 0 = ANY ((SELECT crm.visible_employees())::bigint[]) END');
SELECT crm.protect('crm.lead_touch', 'EXISTS (SELECT FROM crm.lead l WHERE l.id = lead_id)');
-- links and refused bytes belong to the ground floors, which come before people
SELECT crm.protect(t) FROM unnest(ARRAY['crm.link', 'crm.link_kept', 'crm.link_use', 'crm.rejected']) t;
