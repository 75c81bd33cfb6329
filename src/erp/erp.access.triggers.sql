-- erp: row-level security. State: runs once.

SELECT crm.protect(t) FROM unnest(ARRAY['crm.erp_change', 'crm.erp_point']) t;
-- links and refused bytes belong to the ground floors, which come before people
SELECT crm.protect(t) FROM unnest(ARRAY['crm.link', 'crm.link_kept', 'crm.link_use', 'crm.rejected']) t;
