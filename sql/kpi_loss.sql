-- claim 81: why requests get lost, deadlines break, clients leave: three views, each opens to its rows.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
BEGIN;
SELECT crm.activate('off');
-- the figures of a fixed plant
SELECT crm.set_now('2026-11-16 09:00+03', 0) IS NOT NULL AS moved;
INSERT INTO crm.employee (id, name, time_zone) VALUES (9001, 'Anna', 'Europe/Moscow'), (9002, 'Boris', 'Asia/Vladivostok');
INSERT INTO crm.company (id, name, owner_id) VALUES (9001, 'Alpha', 9001), (9002, 'Beta', 9002), (9003, 'Gamma', 9001), (9004, 'Delta', 9001);
INSERT INTO crm.contact (id, company_id, name) VALUES (9001, 9001, 'Ivan'), (9002, 9002, 'Olga'), (9003, 9003, 'Pavel');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (9001, 'phone', '+79160000001'), (9002, 'phone', '+79160000002'), (9003, 'phone', '+79160000003');
INSERT INTO crm.deal (id, funnel_id, company_id, contact_id, owner_id, name) SELECT g, f.id, c, NULL, o, n
FROM crm.funnel f, (VALUES (9001, 9001, 9001, 'silent'), (9002, 9002, 9002, 'silent in the east'), (9003, 9003, 9001, 'moved'), (9004, 9001, 9001, 'silent too'), (9005, NULL, NULL, 'nobody''s'), (9006, 9003, 9001, 'lost at once')) AS v(g, c, o, n)
WHERE f.code = 'delivery';
SELECT crm.move(9006, 'lost');
\echo Tuesday 17:00: 17 working hours are over in Moscow, 11 in Vladivostok; a closed deal is not lost sight of
SELECT crm.set_now('2026-11-17 17:00+03', 0) IS NOT NULL AS moved;
SELECT deal, employee, last_activity, silent_working_hours, limit_hours FROM crm_bi.loss_no_activity WHERE deal_id BETWEEN 9001 AND 9099 ORDER BY deal_id;
SELECT crm.move(9003, 'agreed');
SELECT crm.set_now('2026-11-18 10:00+03', 0) IS NOT NULL AS moved;
\echo Wednesday 10:00: 19 hours for those that nobody touched, none for the one that was moved by hand
SELECT deal, funnel, stage, client, employee, created_at, last_activity_at, last_activity, silent_working_hours FROM crm_bi.loss_no_activity WHERE deal_id BETWEEN 9001 AND 9099 ORDER BY deal_id;
\echo the working hours of the view are those of the calendar, deal by deal
SAVEPOINT before;
INSERT INTO crm.kpi_parameter (code, valid_from, value) VALUES ('loss_silent_hours', '2026-11-18', 0);
SELECT v.deal_id, v.silent_working_hours = (crm.working_minutes(coalesce(v.last_activity_at, v.created_at) AT TIME ZONE crm.kpi_zone(), crm.now(), e.calendar_code, e.time_zone) / 60)::numeric(12,1) AS same
FROM crm_bi.loss_no_activity v JOIN crm.employee e ON e.id = v.employee_id WHERE v.deal_id BETWEEN 9001 AND 9099 ORDER BY 1;
ROLLBACK TO before;
\echo a message by hand and a call are activities
SELECT crm.add_call_list('loss', 'Loss', 'delivery', calendar => 'always', reserve_for => '1 hour') IS NOT NULL AS made;
UPDATE crm.call_list SET owned = true WHERE code = 'loss';
SELECT added FROM crm.call_list_add('loss', ARRAY[9001]);
SELECT r.state FROM crm.call_hand('loss', 9001) h CROSS JOIN LATERAL crm.call_result(h.hand_id, 'call_back', call_back_at => '2026-11-18 12:00+03') r;
INSERT INTO crm.message_body (id, integration_id, channel, recipient, body, language, contact_id, company_id) VALUES (900001, 1, 'sms', '+79160000002', 'x', 'ru', 9002, 9002);
SELECT deal, last_activity FROM crm_bi.loss_no_activity WHERE deal_id BETWEEN 9001 AND 9099 ORDER BY deal_id;
SELECT deal_id, kind, contact_id, employee_id, at FROM crm_bi.deal_activity WHERE deal_id BETWEEN 9001 AND 9099 ORDER BY at, deal_id, kind;
\echo deadlines: a window that is over without an arrival, one with a late and one with a punctual one; a call-back
INSERT INTO crm.place (id, company_id, name, lon, lat) VALUES (9001, 9001, 'Site', 37.6, 55.7);
INSERT INTO crm.vehicle (id, plate) VALUES (9001, 'A001AA77');
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, ordered_at, window_to, state) VALUES
	(9001, 'never', 9001, 9001, 'Cement', '2026-11-10', '2026-11-17 12:00+03', 'new'), (9002, 'late', 9001, 9001, 'Cement', '2026-11-10', '2026-11-17 12:00+03', 'new'),
	(9003, 'in time', 9001, 9001, 'Cement', '2026-11-10', '2026-11-17 12:00+03', 'new'), (9004, 'cancelled', 9001, 9001, 'Cement', '2026-11-10', '2026-11-17 12:00+03', 'cancelled'),
	(9005, 'not yet', 9001, 9001, 'Cement', '2026-11-10', '2026-11-18 12:00+03', 'new'), (9006, 'half', 9001, 9001, 'Cement', '2026-11-10', '2026-11-17 12:00+03', 'new');
INSERT INTO crm.trip (id, vehicle_id, company_id, state, loaded_at, arrived_at) VALUES (9002, 9001, 9001, 'arrived', '2026-11-17 08:00+03', '2026-11-17 14:00+03'), (9003, 9001, 9001, 'arrived', '2026-11-17 08:00+03', '2026-11-17 12:20+03'),
	(9006, 9001, 9001, 'arrived', '2026-11-17 08:00+03', '2026-11-17 11:00+03'), (9007, 9001, 9001, 'departed', '2026-11-17 09:00+03', NULL);
INSERT INTO crm.trip_order (trip_id, order_id) VALUES (9002, 9002), (9003, 9003), (9006, 9006), (9007, 9006);
SELECT kind, object, client, employee, due_at, done_at, done, late_hours FROM crm_bi.loss_deadline ORDER BY kind, object;
SELECT crm.set_now('2026-11-18 13:30+03', 0) IS NOT NULL AS moved;
SELECT kind, object, client, employee, due_at, done_at, done, late_hours FROM crm_bi.loss_deadline WHERE kind = 'call_back' OR object = 'not yet' ORDER BY kind, object;
SELECT kind FROM crm.call_hand('loss', 9001);
SELECT kind, done_at, done, late_hours FROM crm_bi.loss_deadline WHERE kind = 'call_back';

\echo rhythm: Alpha every 7 days and silent for 8; Gamma every 7 and silent for 12; Delta too few; Beta unsteady; two orders a day are one
INSERT INTO crm.customer_order (number, company_id, product, ordered_at)
SELECT 'a' || g, 9001, 'Cement', timestamptz '2026-10-13 10:00+03' + g * interval '7 days' FROM generate_series(0, 4) g
UNION ALL SELECT 'c' || g, 9003, 'Cement', timestamptz '2026-10-09 10:00+03' + g * interval '7 days' FROM generate_series(0, 4) g
UNION ALL SELECT 'c0' || g, 9003, 'Cement', timestamptz '2026-10-09 15:00+03' + g * interval '7 days' FROM generate_series(0, 4) g
UNION ALL SELECT 'd' || g, 9004, 'Cement', timestamptz '2026-10-01 10:00+03' + g * interval '1 day' FROM generate_series(0, 2) g
UNION ALL SELECT 'b' || g, 9002, 'Cement', timestamptz '2026-09-01 10:00+03' + (g * g) * interval '2 days' FROM generate_series(0, 5) g;
SELECT client, employee, orders, order_days, median_days, p90_days, last_order_date, silent_days, times_median FROM crm_bi.loss_rhythm WHERE client_id BETWEEN 9001 AND 9099 ORDER BY 1;
SELECT r.client, r.median_days = percentile_cont(0.5) WITHIN GROUP (ORDER BY i.days) AS median_of_rows, r.order_days = count(*) AS days, r.orders = sum(i.orders) AS orders
FROM crm_bi.loss_rhythm r JOIN crm_bi.order_interval i ON i.client_id = r.client_id WHERE r.client_id BETWEEN 9001 AND 9099 GROUP BY r.client, r.median_days, r.order_days, r.orders;
\echo an order that is cancelled was none; one today and the client is back
UPDATE crm.customer_order SET state = 'cancelled' WHERE company_id = 9001 AND ordered_at > '2026-11-05';
SELECT client, silent_days FROM crm_bi.loss_rhythm WHERE client_id = 9001;
INSERT INTO crm.customer_order (number, company_id, product) VALUES ('a99', 9001, 'Cement');
SELECT client, silent_days FROM crm_bi.loss_rhythm WHERE client_id = 9001;
ROLLBACK;
