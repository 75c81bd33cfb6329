-- erp: what a merge of companies or contacts leaves as it is, in the rooms below. Code: may be run any number of times.
-- What stays is what another system names by its own ids, or a report counts: it is read through crm.company_ids().

SELECT crm.register_merge('crm.deal', 'company_id', 'move', 'a deal that has ended is history', 't.closed_at IS NULL');
SELECT crm.register_merge('crm.deal', 'contact_id', 'move', 'a deal that has ended is history', 't.closed_at IS NULL');
SELECT crm.register_merge('crm.document', 'company_id', 'keep', 'a document names whom it was made for');
SELECT crm.register_merge('crm.document_sending', 'contact_id', 'keep', 'append-only: whom it was sent to');
SELECT crm.register_merge('crm.customer_order', 'company_id', 'keep', 'the ERP''s: shipments are counted by it');
SELECT crm.register_merge('crm.customer_order', 'contact_id', 'move', 'the notices of an order that runs go to the one who stays', 't.state NOT IN (''closed'', ''cancelled'')');
SELECT crm.register_merge('crm.trip', 'company_id', 'keep', 'counted by it');
SELECT crm.register_merge('crm.waybill', 'company_id', 'keep', 'the railway''s');
SELECT crm.register_merge('crm.rail_party', 'company_id', 'keep', 'which of the railway''s parties the ERP''s number is');
SELECT crm.register_merge(c.child, 'carrier_id', 'keep', 'terms, vehicles and what followed from them hold together by the number they were agreed under')
FROM unnest(ARRAY['crm.claim', 'crm.contract', 'crm.contract_term', 'crm.lateness', 'crm.slot', 'crm.vehicle', 'crm.carrier_request', 'crm.carrier_offer']) AS c(child);
SELECT crm.register_merge('crm.carrier_offer', 'contact_id', 'keep', 'whom it was offered to');
SELECT crm.register_merge('crm.wagon', 'owner_id', 'keep', 'the railway''s');
SELECT crm.register_merge('crm.erp_point', 'contact_id', 'keep', 'which point the ERP''s number of a contact has');
SELECT crm.register_merge('crm.forgotten', 'contact_id', 'keep', 'append-only');
