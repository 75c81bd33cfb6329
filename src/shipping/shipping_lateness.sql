-- shipping: contract terms and lateness. Code: may be run again.

SELECT crm.register_foreign_key('crm.contract', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.contract', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.contract_term', 'contract_id', 'crm.contract', 'id');
SELECT crm.register_foreign_key('crm.contract_term', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.contract_term', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.lateness', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'checkin_id', 'crm.checkin', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'passage_id', 'crm.passage', 'id');
SELECT crm.register_foreign_key('crm.lateness', 'term_id', 'crm.contract_term', 'id');
