-- party: row-level security, and the log of changes. State: runs once.

-- The predicates' own forms: 0 stands for nobody; carriers that belong to nobody are everybody's.
CREATE INDEX company_owner_idx ON crm.company ((coalesce(owner_id, 0)));
CREATE INDEX company_carrier_idx ON crm.company (id) WHERE owner_id IS NULL AND is_carrier AND NOT is_client;

-- The hashed look into crm.company_seen is planned once and cheaply; EXISTS would be planned both ways at each level, and
-- what it would cost row by row would have every longer query compiled (jit).
-- Estimates of what is hidden would tell of it: EXPLAIN shows them, and the least and greatest names could be felt for.
ALTER TABLE crm.company ALTER name SET STATISTICS 0, ALTER full_name SET STATISTICS 0, ALTER inn SET STATISTICS 0;
ALTER TABLE crm.contact ALTER name SET STATISTICS 0;
ALTER TABLE crm.contact_point ALTER value SET STATISTICS 0, ALTER raw SET STATISTICS 0;

SELECT crm.protect('crm.team', '(SELECT crm.speaks())');
SELECT crm.protect('crm.employee', '(SELECT crm.speaks())');
SELECT crm.protect('crm.absence', 'employee_id = ANY ((SELECT crm.visible_employees())::bigint[])', 'employee_id = ANY ((SELECT crm.visible_employees())::bigint[])');
SELECT crm.protect('crm.line');
SELECT crm.protect('crm.line_holder', 'employee_id = ANY ((SELECT crm.visible_employees())::bigint[])');
SELECT crm.protect('crm.duty', '(SELECT crm.speaks())', '(SELECT crm.speaks())');
SELECT crm.protect('crm.ticket');
SELECT crm.protect('crm.company', 'coalesce(owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[]) OR id = ANY ((SELECT crm.lent_companies())::bigint[])'
	' OR owner_id IS NULL AND is_carrier AND NOT is_client AND (SELECT crm.speaks())',
	'coalesce(owner_id, 0) = ANY ((SELECT crm.visible_employees())::bigint[])');
SELECT crm.protect('crm.responsibility', 'company_id IN (SELECT s.id FROM crm.company_seen s)');
SELECT crm.protect('crm.contact', crm.seen_by_company(),
	'CASE WHEN company_id IS NULL THEN 0 = ANY ((SELECT crm.visible_employees())::bigint[]) ELSE company_id IN (SELECT o.id FROM crm.company_own o) END');
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id)',
	'EXISTS (SELECT FROM crm.contact c WHERE c.id = contact_id AND (c.company_id IS NULL OR c.company_id IN (SELECT o.id FROM crm.company_own o)))')
FROM unnest(ARRAY['crm.contact_point', 'crm.consent']) t;
SELECT crm.protect('crm.place', 'CASE WHEN company_id IS NULL THEN (SELECT crm.speaks()) ELSE company_id IN (SELECT s.id FROM crm.company_seen s) END',
	'company_id IN (SELECT o.id FROM crm.company_own o)');
SELECT crm.protect('crm.address', 'company_id IN (SELECT s.id FROM crm.company_seen s)', 'company_id IN (SELECT o.id FROM crm.company_own o)');
-- two that are alike are shown to whom sees both
SELECT crm.protect('crm.duplicate', 'CASE object_kind WHEN ''company'' THEN first_id IN (SELECT s.id FROM crm.company_seen s) AND second_id IN (SELECT s.id FROM crm.company_seen s)'
	' ELSE EXISTS (SELECT FROM crm.contact c WHERE c.id = first_id) AND EXISTS (SELECT FROM crm.contact c WHERE c.id = second_id) END');
SELECT crm.protect('crm.merge', 'CASE object_kind WHEN ''company'' THEN winner_id IN (SELECT s.id FROM crm.company_seen s) ELSE EXISTS (SELECT FROM crm.contact c WHERE c.id = winner_id) END');
SELECT crm.protect(t) FROM unnest(ARRAY['crm.merge_row', 'crm.party_key', 'crm.company_name', 'crm.name_gram', 'crm.contact_point_proof']) t;
SELECT crm.protect('crm.change_log');

-- Who changed what.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.change_log
	FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
COMMENT ON TRIGGER append_only ON crm.change_log IS 'What was changed by whom stays';
SELECT crm.audit(t) FROM unnest(ARRAY['crm.team', 'crm.employee', 'crm.absence', 'crm.company', 'crm.contact', 'crm.contact_point', 'crm.consent', 'crm.place']) t;
