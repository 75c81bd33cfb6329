/* shipping, by rail: indexes on functions of ours.  Run once. */

CREATE INDEX shipment_rail_waybill ON crm.shipment (crm.waybill_number(waybill)) WHERE wagon_id IS NOT NULL AND waybill IS NOT NULL;
