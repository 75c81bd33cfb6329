-- claim 54: the ERP sends slots and check-ins; claim 72: contracts with their terms. The same call again is the same row
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
\set VERBOSITY terse
BEGIN;
SELECT crm.set_now('2026-05-05 09:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT result FROM crm_erp.put_company('haul', 'Haul', is_carrier => '1');
SELECT result FROM crm_erp.put_company('stroy', 'Stroy');
SELECT result FROM crm_erp.put_place('plant', NULL, 'Plant', 'plant');
SELECT result FROM crm_erp.put_vehicle('v1', 'А123ВС77', 'haul');
SELECT result FROM crm_erp.put_order('o1', 'stroy', 'Cement', '20');
SELECT result FROM crm_erp.put_slot('s1', '05.05.2026 10:00', vehicle => 'v1', order_erp_id => 'o1', place_erp_id => 'plant', gate => '3');
SELECT result FROM crm_erp.put_slot('s1', '2026-05-05T10:00:00', vehicle => 'а 123 вс 77');
SELECT result FROM crm_erp.put_slot('s1', timestamp '2026-05-05 10:30', grace_minutes => 20);
SELECT s.planned_from, s.agreed_from, s.grace_minutes, s.gate, s.version, s.moved_by FROM crm.slot s WHERE s.source_id = 's1';
SELECT crm.set_now('2026-05-05 12:00+03', 0) IS NOT NULL AS later;
SELECT result FROM crm_erp.put_checkin('c1', 'v1', '2026-05-05T11:45:00', 'gate', place_erp_id => 'plant');
SELECT result FROM crm_erp.put_checkin('c1', 'v1', timestamp '2026-05-05 11:45');
SELECT result FROM crm_erp.put_checkin('c2', slot_erp_id => 's1', at => '2026-05-05T11:40:00', means => 'bot');
SELECT s.arrived_at, s.arrived_means FROM crm.slot s WHERE s.source_id = 's1';
SELECT result FROM crm_erp.put_checkin('c2', storno => '1');
SELECT s.arrived_at, s.arrived_means FROM crm.slot s WHERE s.source_id = 's1';
SELECT result FROM crm_erp.put_contract('d1', 'haul', 'D-1', 'loading', '01.01.2026', free_minutes => '60', tariff => '[{"from": 0, "each": 15, "roubles": 500}]', cap => '10 000,00');
SELECT result FROM crm_erp.put_contract('d1', 'haul', 'D-1', 'loading', '2026-01-01', free_minutes => '60');
SELECT result FROM crm_erp.put_contract('d1', NULL, NULL, 'loading', timestamp '2026-01-01', timestamp '2026-11-30');
SELECT result FROM crm_erp.put_contract('d1', side => 'loading', valid_from => '2026-12-01', free_minutes => '30', tariff => '[{"from": 0, "each": 1, "roubles": 100}]', auto_claim => 'да');
SELECT c.number, c.auto_claim, t.side, t.valid_from, t.valid_to, t.free_minutes, t.cap FROM crm.contract c JOIN crm.contract_term t ON t.contract_id = c.id ORDER BY t.valid_from;
SELECT result FROM crm_erp.put_shipment('w1', 'o1', 'v1', '14000', '34000', '2026-05-05T11:55:00');
SELECT side, planned_at, arrived_at, means, late_minutes, charged_minutes, penalty FROM crm_bi.arrival;
SELECT loadings, loading_on_time_pct, mean_late_minutes, claims, penalties FROM crm_bi.carrier_score;
SELECT ordinal, role FROM crm.arrival_points((SELECT trip_id FROM crm_bi.arrival), 'loading');
INSERT INTO crm_erp.slot_in (erp_id, planned_from, vehicle) VALUES ('s2', '2026-05-06T10:00:00', 'v1');
SELECT line, entity, erp_id, result, sqlstate, regexp_replace(message, 'term [0-9]+', 'term …') AS message FROM crm_erp.put_batch('[{"entity": "slot", "erp_id": "s3", "planned_from": "2026-05-07T10:00:00", "vehicle": "v1"}, {"entity": "checkin", "erp_id": "c9", "vehicle": "v1", "at": "1970-01-01T00:00:00"},
	{"entity": "contract", "erp_id": "d1", "side": "unloading", "valid_from": "2026-01-01", "free_minutes": 60, "tariff": [{"from": 0, "each": 15, "roubles": 500}]},
	{"entity": "contract", "erp_id": "d1", "side": "loading", "valid_from": "2026-06-01", "free_minutes": 60, "tariff": [{"from": 0, "each": 15, "roubles": 500}]},
	{"entity": "slot", "erp_id": "s4"}, {"entity": "slot", "erp_id": "s5", "planned_from": "2026-05-07T10:00:00", "planned_to": "2026-05-07T09:00:00"}, {"entity": "slot", "erp_id": "s6", "planned_from": "2026-05-07T10:00:00", "moved_by": "wind"},
	{"entity": "checkin", "erp_id": "c8", "vehicle": "v1", "means": "telepathy"}, {"entity": "checkin", "erp_id": "c7"}, {"entity": "contract", "erp_id": "d1", "side": "loading", "valid_from": "2026-12-01", "tariff": [{"from": 0, "each": 15, "roubles": -5}]}]');
SELECT entity, erp_id, changes - 'judged' - 'late_at' AS changes FROM crm.erp_change WHERE entity IN ('slot', 'checkin', 'contract') ORDER BY id;
ROLLBACK;
