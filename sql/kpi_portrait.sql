-- claims 28 and 40: a client whole in one call, a deal's history in one order of time; who may not see either learns nothing.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
CREATE ROLE "x_manager_a"; CREATE ROLE "x_manager_b";
GRANT crm_manager TO "x_manager_a", "x_manager_b";
INSERT INTO crm.employee (id, name, role_name) VALUES (90001, 'Anna', 'x_manager_a'), (90002, 'Boris', 'x_manager_b');
INSERT INTO crm.company (id, name, inn, kpp, owner_id) VALUES (90001, 'Ромашка', '7707083893', '770701001', 90001), (90002, 'Ромашка 2', NULL, NULL, 90001);
INSERT INTO crm.contact (id, company_id, name, "position", is_decision_maker, channel) VALUES (90001, 90001, 'Иван', 'director', true, 'sms');
INSERT INTO crm.contact_point (id, contact_id, kind, value) VALUES (90001, 90001, 'phone', '+79161234567'), (90002, 90001, 'email', 'ivan@a.ru');
INSERT INTO crm.consent (contact_id, purpose, wording) VALUES (90001, 'processing', 'yes');
SELECT crm.verify_point(90001, 'answer');
INSERT INTO crm.place (id, company_id, name, lon, lat) VALUES (90001, 90001, 'Склад', 37.6, 55.7);
INSERT INTO crm.address (company_id, text) VALUES (90001, 'Москва, Ленина 5');
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, contact_id, owner_id, name, amount)
SELECT 90001, f.id, s.id, 90001, 90001, 90001, 'Поставка', 1000 FROM crm.funnel f JOIN crm.stage s ON s.funnel_id = f.id AND s.code = 'new' WHERE f.code = 'delivery';
SELECT crm.set_now('2026-11-24 11:00+03', 0);
WITH t AS (SELECT crm.add_task('позвонить', 90001, '2026-11-26 10:00+03', 90001, 90001) AS id) INSERT INTO crm.deal_activity SELECT 90001, 'task', id FROM t;
INSERT INTO crm.note (id, company_id, text) VALUES (90001, 90001, 'просит скидку');
INSERT INTO crm.deal_activity VALUES (90001, 'note', 90001);
SELECT crm.set_now('2026-11-24 12:00+03', 0);
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, deal_id, product, tonnes, price) VALUES (90001, 'Z-1', 90001, 90001, 90001, 90001, 'M500', 25, 5000), (90002, 'Z-2', 90002, NULL, NULL, NULL, 'M400', 5, 4000);
INSERT INTO crm.vehicle (id, plate) VALUES (90001, 'А123АА777');
SELECT crm.set_now('2026-11-24 13:00+03', 0);
INSERT INTO crm.shipment (id, order_id, vehicle_id, product, tare_kg, gross_kg, net_kg) VALUES (90001, 90001, 90001, 'M500', 15000, 40000, 25000);
UPDATE crm.trip SET state = 'arrived', departed_at = '2026-11-24 13:10+03', arrived_at = '2026-11-24 13:50+03' WHERE company_id = 90001;
SELECT crm.set_now('2026-11-24 14:00+03', 0);
SELECT confirmed_at, confirmed_by ~ '^trip' FROM crm.place WHERE id = 90001;
-- the history: the view without texts, the call with them; both in one order and the same rows
SELECT at, kind, what, title FROM crm_bi.deal_history WHERE deal_id = 90001 ORDER BY at, kind, object_id;
SELECT at, kind, what, title, detail FROM crm.deal_story(90001) WHERE kind <> 'message';
SELECT (SELECT count(*) FROM crm.deal_story(90001)) = (SELECT count(*) FROM crm_bi.deal_history WHERE deal_id = 90001), bool_and(at >= before) FROM (SELECT at, lag(at) OVER () AS before FROM crm.deal_story(90001)) x;
SELECT count(*) FROM crm.deal_story(90001, 2);
-- the portrait, also under the number that was merged
CREATE TEMP TABLE p AS SELECT crm.portrait(90001) AS p;
SELECT jsonb_pretty((p.p - '{created_at,contacts,deals,tasks,in_transit,messages,notes,documents}'::text[])) FROM p;
SELECT p.p #> '{contacts,0,points}' FROM p;
SELECT p.p #>> '{deals,0,name}', p.p #>> '{deals,0,stage}', p.p #>> '{tasks,0,name}', p.p #>> '{notes,0,text}', jsonb_array_length(p.p -> 'in_transit') FROM p;
SELECT crm.merge_companies(90002, 90001) > 0;
SELECT crm.portrait(90002) ->> 'id', crm.portrait(90002) ->> 'also', crm.portrait(90001) -> 'prices';
-- clients without a date or an owner, points without a proof
INSERT INTO crm.company (id, name) VALUES (90003, 'Ничья');
SELECT client_id, no_owner, no_next_date, next_at FROM crm_bi.client_unattended WHERE client_id >= 90000 ORDER BY 1;
SELECT contact_point_id, kind, state, employee FROM crm_bi.contact_point_unproved WHERE contact_point_id >= 90000 ORDER BY 1;
-- another's client and deal are not there
SET SESSION AUTHORIZATION "x_manager_a";
SELECT crm.portrait(90001) ->> 'name', count(*) > 5 FROM crm.deal_story(90001);
SET SESSION AUTHORIZATION "x_manager_b";
SELECT crm.portrait(90001);
SELECT crm.deal_story(90001);
SELECT crm.merge_companies(90001, 90002);
RESET SESSION AUTHORIZATION;
SELECT crm.portrait(NULL);
SET ROLE crm_bi_reader;
SELECT count(*) > 5 FROM crm_bi.deal_history WHERE deal_id = 90001;
SELECT detail FROM crm.deal_moment;
SELECT count(*) FROM crm_bi.client_unattended WHERE client_id >= 90000;
SELECT count(*) FROM crm_bi.contact_point_unproved WHERE contact_point_id >= 90000;
RESET ROLE;
ROLLBACK;
