-- What the ERP corrects after the client was told: another order or vehicle is refused, a storno that is taken
-- back makes the trip a trip again.
-- claim 47
SET datestyle = 'ISO, YMD';
\pset format unaligned
\pset tuples_only on
\set SHOW_CONTEXT never
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2026-11-24 09:00+03', 0) IS NOT NULL, crm.activate();
SELECT result FROM crm_erp.put_company('C1', 'Client');
SELECT result FROM crm_erp.put_order('O1', 'C1', 'Cement', '28');
SELECT result FROM crm_erp.put_order('O2', 'C1', 'Cement', '20');
SELECT result FROM crm_erp.put_shipment('W1', 'O1', 'A123BC77', '14200');
-- before the gross the order may still change
SELECT result FROM crm_erp.put_shipment('W1', 'O2');
SELECT result FROM crm_erp.put_shipment('W1', gross_kg => '42300');
SAVEPOINT s;
SELECT result FROM crm_erp.put_shipment('W1', 'O1');
ROLLBACK TO s;
SELECT result FROM crm_erp.put_shipment('W1', vehicle => 'B456OP77');
ROLLBACK TO s;
-- the same again, and a corrected weight, are no trouble
SELECT result FROM crm_erp.put_shipment('W1', 'O2', 'A123BC77');
SELECT result FROM crm_erp.put_shipment('W1', gross_kg => '42100');
SELECT state FROM crm.trip;
SELECT result FROM crm_erp.put_shipment('W1', storno => '1');
SELECT state FROM crm.trip;
SELECT result FROM crm_erp.put_shipment('W1', storno => '0');
SELECT state FROM crm.trip;
SELECT count(*) FROM crm.event WHERE kind = 'shipment.loaded';
ROLLBACK;
