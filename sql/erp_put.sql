-- claim 2: every argument may come as text, as an old ODBC client and 1C format it
-- claim 7: what the ERP does not know is tolerated, any text is an id
-- claim 47: tare and gross of one weighing make the shipment; the deal moves in the same transaction
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 12:00+03', 0);
-- the same call is the same row, other content updates it
SELECT result, erp_id FROM crm_erp.put_company('C-1', 'ООО Ромашка', '7707083893', '770701001');
SELECT result, erp_id FROM crm_erp.put_company('C-1', 'ООО Ромашка', '7707083893', '770701001');
SELECT result, erp_id FROM crm_erp.put_company(E'C-1\u00a0', E' ООО\u00a0Ромашка ', '', '');
SELECT result FROM crm_erp.put_company('C-1', 'ООО Василёк', is_carrier => 'Истина');
SELECT result FROM crm_erp.put_company('C-1', 'ООО Василёк', NULL, '-', true, false);
SELECT name, inn, kpp, is_client, is_carrier, source_id FROM crm.company WHERE source = 'erp';
SELECT entity, erp_id, changes FROM crm.erp_change ORDER BY id;
-- ids: a GUID in any spelling; the zero GUID and blanks are none
SELECT result, erp_id FROM crm_erp.put_company('{6F9619FF-8B86-D011-B42D-00CF4FC964FF}', 'Guid');
SELECT result, erp_id FROM crm_erp.put_company('6f9619ff-8b86-d011-b42d-00cf4fc964ff', 'Guid');
SELECT crm_erp.put_company('00000000-0000-0000-0000-000000000000', 'x');
SELECT crm_erp.put_company(E' \u00a0 ', 'x');
SELECT crm_erp.put_company('C-2');
SELECT crm_erp.put_company('C-2', 'x', '12');
SELECT crm_erp.put_company('C-2', 'x', is_client => 'maybe');
SELECT crm_erp.put_company('C-2', 'x', owner_erp_id => 'E-9');
SELECT crm_erp.put_company(repeat('x', 201), 'x');
-- people
SELECT result FROM crm_erp.put_employee('E-1', 'Петров', 'Север', '1');
SELECT result FROM crm_erp.put_company('C-1', owner_erp_id => 'E-1');
SELECT result FROM crm_erp.put_contact('P-1', 'C-1', 'Иванов', '8 (916) 123-45-67', 'Ivan@Test.local');
SELECT result FROM crm_erp.put_contact('P-1', 'C-1', 'Иванов', '+7 916 1234567', 'IVAN@test.local');
SELECT result FROM crm_erp.put_contact('P-1', phone => '8 916 123-45-68');
SELECT kind, value FROM crm.contact_point p JOIN crm.contact c ON c.id = p.contact_id WHERE c.source_id = 'P-1' ORDER BY 1;
SELECT result FROM crm_erp.put_contact('P-1', email => '-');
SELECT crm_erp.put_contact('P-1', phone => '12');
SELECT crm_erp.put_contact('P-1', email => 'ivan');
SELECT crm_erp.put_contact('P-2', 'NOPE', 'x');
SELECT crm_erp.put_contact('P-2', 'C-1');
-- places
SELECT result FROM crm_erp.put_place('L-0', NULL, 'Завод', 'plant', 37.0, 55.0, 500);
SELECT result FROM crm_erp.put_place('L-1', 'C-1', 'Стройка', lon => '37,5', lat => '55,7', radius_m => E'1\u00a0000');
SELECT result FROM crm_erp.put_place('L-1', 'C-1', 'Стройка', NULL::text, 37.5, 55.7);
SELECT result FROM crm_erp.put_place('L-1', border => 'POLYGON((37 55,38 55,38 56,37 55))');
SELECT result FROM crm_erp.put_place('L-1', border => 'POLYGON((37 55,38 55,38 56,37 55))');
SELECT result FROM crm_erp.put_place('L-1', border => '-');
SELECT crm_erp.put_place('L-2', NULL, 'x', lon => '181', lat => '1');
SELECT crm_erp.put_place('L-2', NULL, 'x', lon => '37');
SELECT crm_erp.put_place('L-2', NULL, 'x', radius_m => 'NaN');
SELECT crm_erp.put_place('L-2', NULL, 'x', border => 'POINT(1 1)');
-- orders: the deal is made with them and follows them
SELECT result FROM crm_erp.put_order('O-1', 'C-1', 'Цемент М500', E'27,5', E'5\u00a0000,50', '0000-000001', '24.11.2026 9:05:00', '2026-11-25T08:00:00', '25.11.2026 12:00', 'L-1', 'P-1');
SELECT result FROM crm_erp.put_order('O-1', 'C-1', 'Цемент М500', 27.5, 5000.5, '0000-000001', timestamp '2026-11-24 09:05');
SELECT result FROM crm_erp.put_order('O-1', tonnes => '28', ordered_at => '0001-01-01T00:00:00', window_to => '01.01.0001 0:00:00');
SELECT number, tonnes, price, ordered_at, window_from, window_to, state FROM crm.customer_order WHERE source = 'erp';
SELECT d.name, d.amount, d.tonnes, s.code FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.source = 'erp';
SELECT crm_erp.put_order('O-2', 'NOPE', 'Цемент', '1');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', '-1');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', 'много');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', '1', ordered_at => '31.02.2026');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', '1', ordered_at => '2526-01-01');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', 1, ordered_at => timestamp 'infinity');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', '1', window_from => '2026-11-25 12:00', window_to => '2026-11-25 08:00');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', '1', place_erp_id => 'L-9');
SELECT crm_erp.put_order('O-2', 'C-1', 'Цемент', '1', state => 'posted');
SELECT crm_erp.put_order('O-2', 'C-1');
-- weighings: tare, then gross, under one id
SELECT result FROM crm_erp.put_shipment('W-1', 'O-1', 'А123ВС77', E'14\u202f200');
SELECT crm_erp.put_shipment('W-1', gross_kg => '10000');
SELECT crm_erp.put_shipment('W-1', gross_kg => '-5');
SELECT crm_erp.put_shipment('W-9', 'O-9', 'А123ВС77', '14200');
SELECT crm_erp.put_shipment('W-9');
SELECT crm_erp.put_shipment('W-9', 'O-1', wagon => '123');
SELECT crm_erp.put_shipment('W-9', 'O-1', 'the red one');
SELECT result FROM crm_erp.put_shipment('W-1', 'O-1', 'a 123 bc 77', 14200, 42300, timestamp '2026-11-24 11:00', 'ТН-1');
SELECT result FROM crm_erp.put_shipment('W-1', 'O-1', 'a 123 bc 77', 14200, 42300, timestamp '2026-11-24 11:00', 'ТН-1');
SELECT tare_kg, gross_kg, net_kg, weighed_at, waybill, product, trip_id IS NOT NULL AS trip FROM crm.shipment WHERE source = 'erp';
SELECT result FROM crm_erp.put_vehicle('V-1', 'А 123 ВС 77', 'C-1', driver => 'Сидоров', driver_phone => '+7 916 111-22-33');
SELECT result FROM crm_erp.put_vehicle('V-1', 'A123BC77', 'C-1', driver => 'Сидоров', driver_phone => '8 916 111 22 33');
SELECT crm_erp.put_vehicle('V-2', 'А123ВС77');
SELECT from_stage, to_stage, at, event_kind FROM crm.deal_history ORDER BY stage_log_id;
SELECT state FROM crm.trip;
SELECT result FROM crm_erp.put_shipment('W-1', storno => 'да');
SELECT result FROM crm_erp.put_shipment('W-1', storno => '1');
SELECT cancelled_at FROM crm.shipment WHERE source_id = 'W-1';
SELECT result FROM crm_erp.put_order('O-1', state => 'cancelled');
SELECT d.name, s.code, d.closed_at IS NOT NULL AS closed FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id WHERE d.source = 'erp';
-- a transaction that is rolled back leaves nothing
SAVEPOINT one;
SELECT result FROM crm_erp.put_order('O-5', 'C-1', 'Цемент', '1');
SELECT result FROM crm_erp.put_shipment('W-5', 'O-5', 'В777ВВ77', '14000', '40000');
ROLLBACK TO one;
SELECT count(*) FROM crm.customer_order WHERE source_id = 'O-5' UNION ALL SELECT count(*) FROM crm.shipment WHERE source_id = 'W-5'
UNION ALL SELECT count(*) FROM crm.deal WHERE source_id = 'order:O-5';
SELECT crm_erp.guid_from_ref('e1cib/data/Справочник.Партнеры?ref=80c6000c29a4b1c111e0a1b2c3d4e5f6');
SELECT crm_erp.guid_from_ref('x');
-- a database that is not active takes nothing
SELECT crm.deactivate();
SELECT crm_erp.put_company('C-1', 'x');
ROLLBACK;
