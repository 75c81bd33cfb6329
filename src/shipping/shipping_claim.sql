-- shipping: claims, explanations, the lawyers' review. Code: may be run again.

SELECT crm.register_foreign_key('crm.claim', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.claim', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.claim', 'lateness_id', 'crm.lateness', 'id');
SELECT crm.register_foreign_key('crm.claim', 'term_id', 'crm.contract_term', 'id');
SELECT crm.register_foreign_key('crm.claim', 'deal_id', 'crm.deal', 'id');
SELECT crm.register_no_foreign_key('crm.claim', 'document_id', 'a paper that was put away leaves the claim as it is');
SELECT crm.register_foreign_key('crm.claim_point', 'claim_id', 'crm.claim', 'id');
SELECT crm.register_foreign_key('crm.claim_log', 'claim_id', 'crm.claim', 'id');
SELECT crm.register_foreign_key('crm.explanation', 'claim_id', 'crm.claim', 'id');
SELECT crm.register_foreign_key('crm.explanation_file', 'explanation_id', 'crm.explanation', 'id');
