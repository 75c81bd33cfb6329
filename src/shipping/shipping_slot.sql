-- shipping: slots, check-ins, the queue. Code: may be run again.

SELECT crm.register_foreign_key('crm.slot', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.slot', 'order_id', 'crm.customer_order', 'id');
SELECT crm.register_foreign_key('crm.slot', 'trip_id', 'crm.trip', 'id');
SELECT crm.register_foreign_key('crm.slot', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.slot', 'carrier_id', 'crm.company', 'id');
SELECT crm.register_no_foreign_key('crm.slot', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.slot_plan', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.slot_plan', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'passage_id', 'crm.passage', 'id');
SELECT crm.register_foreign_key('crm.checkin', 'shipment_id', 'crm.shipment', 'id');
SELECT crm.register_no_foreign_key('crm.checkin', 'source_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.queue_interval', 'place_id', 'crm.place', 'id');
SELECT crm.register_foreign_key('crm.queue_interval', 'vehicle_id', 'crm.vehicle', 'id');
SELECT crm.register_foreign_key('crm.queue_interval', 'slot_id', 'crm.slot', 'id');
SELECT crm.register_no_foreign_key('crm.queue_interval', 'source_id', 'a number of another system');
