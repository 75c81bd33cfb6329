-- Requests out of hours go to whoever answers then: the manager in his own hours, the deputy, the duty of the team, the duty of all (claim 53).
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 06:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate \gset
CREATE FUNCTION pg_temp.leave() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT t.recipient || ': ' || regexp_replace(t.body, 'http\S+', 'LINK') FROM crm.outbox_take((SELECT id FROM crm.integration WHERE name = 'gate'), 100) t ORDER BY t.message_id $$;
CREATE FUNCTION pg_temp.at(moment timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.set_now(moment, 0);
	PERFORM crm.courier_due(1);
	RETURN QUERY SELECT pg_temp.leave();
END $$;
INSERT INTO crm.team (id, name) VALUES (901, 'Sales');
INSERT INTO crm.employee (id, name, team_id) VALUES (901, 'Manager', 901), (902, 'Deputy', 901), (903, 'Duty', 901), (904, 'Guard', NULL);
INSERT INTO crm.line (id, kind, value) SELECT 900 + i, 'sim', '+7916123456' || i FROM generate_series(1, 4) i;
INSERT INTO crm.line_holder (line_id, employee_id, during) SELECT 900 + i, 900 + i, '[2026-01-01,)' FROM generate_series(1, 4) i;
INSERT INTO crm.company (id, name, owner_id) VALUES (901, 'Бетон', 901), (902, 'Nobody''s', NULL);
-- each employee is a reader, with the line that he holds
SELECT c.name, c.company_id, p.value FROM crm.contact c JOIN crm.contact_point p ON p.contact_id = c.id ORDER BY c.source_id;
SELECT crm.put_duty(903, '2026-11-23', '2026-12-06', '18:00', '09:00', 901, ARRAY[1, 2, 3, 4, 5]), crm.put_duty(903, '2026-11-23', '2026-12-06', '09:00', '09:00', 901, ARRAY[6, 7]);
SELECT crm.put_duty(904, '2026-11-23', '2026-12-06', '00:00', '00:00');
SELECT crm.put_duty(902, '2026-11-28', '2026-11-28', '20:00', '23:00', 901);
SELECT crm.put_duty(902, '2026-11-28', '2026-11-01', '20:00', '23:00');
SELECT crm.put_duty(999, '2026-11-28', '2026-11-28', '20:00', '23:00');
CREATE FUNCTION pg_temp.order(n text, company bigint, moment timestamptz, source text DEFAULT 'site') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.set_now(moment, 0);
	INSERT INTO crm.customer_order (number, company_id, product, tonnes, source, source_id) VALUES (n, company, 'Цемент', 20, source, n);
	RETURN QUERY SELECT pg_temp.leave();
END $$;
-- Tuesday 11:00: nothing; Saturday 22:00: an SMS to who is on duty
SELECT pg_temp.order('N-1', 901, '2026-11-24 08:00Z');
SELECT pg_temp.order('N-2', 901, '2026-11-28 19:00Z');
-- what our own people entered needs no word; a client of nobody's goes to the duty of all
SELECT pg_temp.order('N-3', 901, '2026-11-28 19:10Z', 'erp');
SELECT pg_temp.order('N-4', 902, '2026-11-28 19:20Z');
-- a lead, once
INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id) SELECT 'lead.received', 'lead', 1, 901, crm.now(),
	'{"lead": "1", "name": "Пётр", "phone": "+79160000000", "words": "Нужен бетон", "at_local": "22:20"}', 'site', 'L1' FROM generate_series(1, 2);
SELECT pg_temp.leave();
-- Tuesday on leave: the deputy; a deputy who is away too: the duty of all, since the team's shift is over
INSERT INTO crm.absence (employee_id, days, kind, deputy_id) VALUES (901, '[2026-12-01,2026-12-03)', 'leave', 902);
SELECT pg_temp.order('N-5', 901, '2026-12-01 08:00Z');
INSERT INTO crm.absence (employee_id, days, kind) VALUES (902, '[2026-12-02,2026-12-03)', 'sick');
SELECT pg_temp.order('N-6', 901, '2026-12-02 08:00Z');
-- the SIM is handed over: its new holder hears it; who left hears nothing
UPDATE crm.line_holder SET during = '[2026-01-01,2026-12-03)' WHERE line_id = 903;
INSERT INTO crm.line_holder (line_id, employee_id, during) VALUES (903, 904, '[2026-12-03,)');
SELECT crm.set_now('2026-12-03 17:00Z', 0);
SELECT crm.employees_reachable();
SELECT c.name, p.value FROM crm.contact c JOIN crm.contact_point p ON p.contact_id = c.id WHERE p.value LIKE '%3' ORDER BY 1;
SELECT severity, message FROM crm.duty_health();
UPDATE crm.employee SET dismissed_at = crm.now() WHERE id = 903;
SELECT pg_temp.order('N-7', 901, '2026-12-03 19:00Z');
SELECT code, language, p.body, p.encoding, p.parts FROM (VALUES ('order.out_of_hours', 'order.created'), ('lead.out_of_hours', 'lead.received')) k(code, kind), unnest(ARRAY['ru', 'en']) language,
	LATERAL crm.template_preview(code, (SELECT max(id) FROM crm.event e WHERE e.kind = k.kind), language) p WHERE p.channel = 'sms';
ROLLBACK;
