-- claim 4: a load runs with rules and stage actions off, as history, or on; and what holds them ends with the load.
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-20 12:00+03', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
SELECT crm.add_integration('sms', 'sms_kannel', 'http://127.0.0.1:1/', '{"sender": "CEMENT", "username": "crm"}') IS NOT NULL AS sms;
INSERT INTO crm.company (id, name) VALUES (900001, 'Ромашка');
INSERT INTO crm.contact (id, company_id, name) VALUES (900001, 900001, 'Анна');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (900001, 'phone', '+79161234567');
INSERT INTO crm.template (code, channel, language, body) VALUES ('moved', 'sms', 'ru', 'Сделка {{deal}} перешла');
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template, quiet) VALUES ('moved', 'deal.moved', 'true', 'company_contacts', 'sms', 'moved', 'urgent');
CREATE FUNCTION pg_temp.load(body text, rules boolean) RETURNS text LANGUAGE sql AS $$
	SELECT format('created %s updated %s refused %s', rows_created, rows_updated, rows_refused)
	FROM crm.import_load('deals.csv', 'deal', convert_to(body, 'UTF8'), policy => 'update', options => '{"funnel": "delivery"}', rules => rules) $$;
SELECT pg_temp.load(E'ID;Сделка;Компания;Этап;Сумма\n1;Первая;Ромашка;Новая;10\n2;Вторая;Ромашка;Новая;20\n', false);
SELECT count(*) AS events FROM crm.event WHERE kind = 'deal.moved';
\echo off: the move is a fact, and nobody hears of it
SELECT pg_temp.load(E'ID;Сделка;Компания;Этап;Сумма\n1;Первая;Ромашка;Согласована;11\n', false);
SELECT (SELECT count(*) FROM crm.event WHERE kind = 'deal.moved') AS events, (SELECT count(*) FROM crm.message) AS messages, crm.rules_held() AS held;
\echo on: the rule speaks
SELECT pg_temp.load(E'ID;Сделка;Компания;Этап;Сумма\n2;Вторая;Ромашка;Согласована;21\n', true);
SELECT (SELECT count(*) FROM crm.event WHERE kind = 'deal.moved') AS events, (SELECT string_agg(body, ', ') FROM crm.message) AS messages;
\echo a move that the funnel does not allow is left out; the rest of the row is taken
SELECT pg_temp.load(E'ID;Сделка;Компания;Этап;Сумма\n1;Первая;Ромашка;Закрыта;12\n', false);
SELECT cell, message, hint FROM crm.import_problem WHERE state = '23514';
SELECT d.name, s.code, d.amount FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id ORDER BY d.id;
\echo a load that fails lets the rules go
SAVEPOINT a;
SELECT crm.import_load('x.csv', 'deal', convert_to(E'Сделка\n"x', 'UTF8'));
ROLLBACK TO a;
SELECT crm.rules_held() AS held;
\echo nobody but the owner holds them
SET LOCAL ROLE crm_director;
SELECT crm.hold_rules(true);
ROLLBACK;
