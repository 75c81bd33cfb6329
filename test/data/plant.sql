-- A small plant: two clients, places, vehicles, orders and weighings, put by the ERP's doors.
SELECT * FROM crm_erp.put_employee('M1', 'Анна Смирнова', 'North');
SELECT * FROM crm_erp.put_company('C1', 'ООО Ромашка', '7707083893', owner_erp_id => 'M1');
SELECT * FROM crm_erp.put_company('C2', 'Stroy Group Ltd', language => 'en', owner_erp_id => 'M1');
SELECT * FROM crm_erp.put_contact('P1', 'C1', 'Иван Петров', '8 (916) 123-45-67', 'ivan@test.local');
SELECT * FROM crm_erp.put_contact('P2', 'C2', 'John Smith', '+7 926 765-43-21', 'john@test.local', language => 'en');
SELECT * FROM crm_erp.put_place('PL1', NULL, 'Завод', 'plant', '11.56438', '48.1635', '300');
SELECT * FROM crm_erp.put_place('U1', 'C1', 'Стройка на Лесной', 'unloading', '11.60', '48.20', '200');
SELECT * FROM crm_erp.put_place('U2', 'C2', 'Site 2', 'unloading', '11.70', '48.22', '200');
SELECT * FROM crm_erp.put_vehicle('V1', 'А123ВС77', driver => 'Сергей Волков');
SELECT * FROM crm_erp.put_vehicle('V2', 'В456ОР77');
SELECT * FROM crm_erp.put_order('O1', 'C1', 'Цемент М500', '28', '5600', 'З-15', place_erp_id => 'U1', contact_erp_id => 'P1');
SELECT * FROM crm_erp.put_order('O2', 'C2', 'Cement CEM I', '20', '6100', 'З-16', place_erp_id => 'U2', contact_erp_id => 'P2');
SELECT * FROM crm_erp.put_shipment('S1', 'O1', 'А123ВС77', '14200', '42300', waybill => 'ТТН-1');
SELECT * FROM crm_erp.put_shipment('S2', 'O2', 'В456ОР77', '13900', '33950', waybill => 'ТТН-2');
