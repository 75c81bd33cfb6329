-- claim 3: a step of the CRM and the document of the ERP are linked both ways, and what is not linked is listed
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 12:00+03', 0);
SELECT result FROM crm_erp.put_company('C-1', 'Ромашка');
SELECT result FROM crm_erp.put_order('O-1', 'C-1', 'Цемент', '10', number => '1');
SELECT result FROM crm_erp.put_shipment('W-1', 'O-1', 'А001АА77', '14000', '24000');
SELECT count(*) FROM crm_bi.unlinked;
UPDATE crm.customer_order SET deal_id = NULL WHERE source_id = 'O-1';
SELECT entity, erp_id, name, problem FROM crm_bi.unlinked ORDER BY 1, 2;
-- those who may read it read it with their own rights, and find it in the catalogue
SET LOCAL ROLE crm_bi_reader;
SELECT entity, erp_id, name, problem FROM crm_bi.unlinked ORDER BY 1, 2;
SELECT label_en, grain_en FROM crm_bi.catalog WHERE view_name = 'crm_bi.unlinked';
SET LOCAL ROLE crm_director;
SELECT count(*) FROM crm_bi.unlinked;
RESET ROLE;
REVOKE SELECT ON crm.shipment FROM crm_bi_reader;
SET LOCAL ROLE crm_bi_reader;
SELECT count(*) FROM crm_bi.unlinked;
ROLLBACK;
