-- Wagons from the ERP: by its id, taking over one that the railway or the weighbridge named first; alone, typed, in a batch, by INSERT.
\set QUIET on
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.set_now('2026-11-24 12:00:00+03', 0) IS NOT NULL;
SELECT crm.activate('live');
SELECT result FROM crm_erp.put_company('C-1', 'Owner');
SELECT result FROM crm_erp.put_wagon('W-1', '60848066', 'C-1', '24 000');
SELECT result FROM crm_erp.put_wagon('W-1', '60848066', 'C-1', 24000::numeric);
SELECT result FROM crm_erp.put_wagon('W-1', tare_kg => '24 100,5');
SELECT crm.rail_wagons('{52776101}');
SELECT result FROM crm_erp.put_wagon('W-2', '5277 6101');
SELECT line, result, sqlstate, message FROM crm_erp.put_batch('[{"entity": "wagon", "erp_id": "W-2", "owner_erp_id": "C-1"}, {"entity": "wagon", "erp_id": "W-3", "number": "60848066"}, {"entity": "wagon", "erp_id": "W-4"}, {"entity": "wagon", "erp_id": "W-5", "number": "abc"}, {"entity": "wagon", "erp_id": "W-6", "numbr": "1"}]');
INSERT INTO crm_erp.wagon_in (erp_id, number) VALUES ('W-7', '62879416');
SELECT w.number, c.name, w.tare_kg, w.source, w.source_id FROM crm.wagon w LEFT JOIN crm.company c ON c.id = w.owner_id ORDER BY w.source_id;
SELECT result FROM crm_erp.put_wagon('W-2', owner_erp_id => '-');
SELECT entity, erp_id, regexp_replace(changes::text, '\m\d{1,9}\M(?=[],])(?!\.)', 'ID', 'g') FROM crm.erp_change WHERE entity = 'wagon' AND NOT changes ? 'tare_kg' ORDER BY id;
SELECT entity, erp_id, changes FROM crm.erp_change WHERE entity = 'wagon' AND changes ? 'tare_kg' ORDER BY id;
ROLLBACK;
