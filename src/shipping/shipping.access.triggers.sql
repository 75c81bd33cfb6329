-- shipping: row-level security. State: runs once. A client's order shows what belongs to it; a carrier's matters belong
-- to whom the carrier belongs, and what belongs to nobody to the heads.

SELECT crm.protect('crm.customer_order', 'company_id IN (SELECT s.id FROM crm.company_seen s)');
SELECT crm.protect('crm.trip', crm.seen_by_company());
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.customer_order o WHERE o.id = order_id)')
FROM unnest(ARRAY['crm.shipment', 'crm.carrier_request']) t;
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.trip t WHERE t.id = trip_id)')
FROM unnest(ARRAY['crm.trip_order', 'crm.trip_carried', 'crm.leg_pass', 'crm.eta_said', 'crm.trip_fact', 'crm.locator_link']) t;
SELECT crm.protect('crm.vehicle', 'carrier_id IS NULL AND (SELECT crm.speaks()) OR carrier_id IN (SELECT s.id FROM crm.company_seen s) OR EXISTS (SELECT FROM crm.trip t WHERE t.vehicle_id = vehicle.id)');
SELECT crm.protect('crm.carrier_offer', 'EXISTS (SELECT FROM crm.carrier_request r WHERE r.id = request_id)');
SELECT crm.protect('crm.slot', 'EXISTS (SELECT FROM crm.customer_order o WHERE o.id = order_id) OR EXISTS (SELECT FROM crm.trip t WHERE t.id = trip_id) OR carrier_id IN (SELECT s.id FROM crm.company_seen s)'
	' OR order_id IS NULL AND trip_id IS NULL AND carrier_id IS NULL AND 0 = ANY ((SELECT crm.visible_employees())::bigint[])');
SELECT crm.protect('crm.slot_plan', 'EXISTS (SELECT FROM crm.slot s WHERE s.id = slot_id)');
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.slot s WHERE s.id = slot_id) OR EXISTS (SELECT FROM crm.vehicle v WHERE v.id = vehicle_id)')
FROM unnest(ARRAY['crm.checkin', 'crm.queue_interval']) t;
SELECT crm.protect(t, 'carrier_id IN (SELECT s.id FROM crm.company_seen s)')
FROM unnest(ARRAY['crm.contract', 'crm.contract_term']) t;
SELECT crm.protect('crm.lateness', 'EXISTS (SELECT FROM crm.trip t WHERE t.id = trip_id) OR EXISTS (SELECT FROM crm.slot x WHERE x.id = slot_id) OR carrier_id IN (SELECT s.id FROM crm.company_seen s)');
SELECT crm.protect('crm.claim', 'carrier_id IN (SELECT s.id FROM crm.company_seen s) OR EXISTS (SELECT FROM crm.trip t WHERE t.id = trip_id)');
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.claim c WHERE c.id = claim_id)')
FROM unnest(ARRAY['crm.claim_point', 'crm.claim_log', 'crm.explanation']) t;
SELECT crm.protect('crm.explanation_file', 'EXISTS (SELECT FROM crm.explanation x WHERE x.id = explanation_id)');
SELECT crm.protect('crm.stop', 'EXISTS (SELECT FROM crm.vehicle v WHERE v.id = vehicle_id)');
SELECT crm.protect('crm.waybill', crm.seen_by_company());
SELECT crm.protect(t, 'EXISTS (SELECT FROM crm.waybill w WHERE w.id = waybill_id)')
FROM unnest(ARRAY['crm.waybill_wagon', 'crm.waybill_arrival', 'crm.wagon_now']) t;
SELECT crm.protect('crm.wagon', 'EXISTS (SELECT FROM crm.waybill_wagon x WHERE x.wagon_id = wagon.id) OR EXISTS (SELECT FROM crm.shipment s WHERE s.wagon_id = wagon.id)');
-- no person reads these but by what the functions of crm give him
SELECT crm.protect(t) FROM unnest(ARRAY['crm.vehicle_position', 'crm.position_refused', 'crm.passage', 'crm.weighing', 'crm.weighing_pair', 'crm.wagon_location',
	'crm.wagon_operation', 'crm.waybill_version', 'crm.rail_party', 'crm.dislocation_snapshot', 'crm.rail_document', 'crm.rail_fetch']) t;

SELECT crm.audit(t) FROM unnest(ARRAY['crm.customer_order', 'crm.contract', 'crm.contract_term']) t;
