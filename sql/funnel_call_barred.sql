-- claim 91a: whom no list calls: who asked not to be called, whoever comes with that number, a whole company,
-- who withdrew consent; it holds across lists and after the person was forgotten.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT crm.activate('off');
SELECT crm.set_now('2026-11-24 10:00+03', 0) IS NOT NULL AS moved;
UPDATE crm.party_setting SET same_phone = 'report', same_email = 'report';	-- two of them share one
INSERT INTO crm.employee (id, name) VALUES (9001, 'Anna');
INSERT INTO crm.company (id, name) VALUES (9001, 'One'), (9002, 'Two'), (9003, 'Three');
INSERT INTO crm.contact (id, company_id, name) VALUES (9001, 9001, 'Иван Петрович Сидоров'), (9002, 9001, 'Colleague'), (9003, 9002, 'Same Phone'), (9004, 9002, 'Other'),
	(9005, 9003, 'Agreed'), (9006, 9003, 'Withdrew'), (9007, 9003, 'Never Asked');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (9001, 'phone', '+79160000001'), (9002, 'phone', '+79160000002'), (9003, 'phone', '8 916 000-00-01'), (9004, 'phone', '+79160000004'),
	(9005, 'phone', '+79160000005'), (9006, 'phone', '+79160000006'), (9007, 'phone', '+79160000007');
INSERT INTO crm.consent (contact_id, purpose, wording, given_at, withdrawn_at) VALUES (9005, 'advertising', 'yes', '2026-11-01', NULL), (9006, 'advertising', 'yes', '2026-11-01', '2026-11-20');
SELECT crm.add_call_list('a', 'A', 'delivery') IS NOT NULL, crm.add_call_list('b', 'B', 'delivery') IS NOT NULL, crm.add_call_list('ads', 'Ads', 'delivery', purpose => 'advertising') IS NOT NULL;
SELECT * FROM crm.call_list_add('a', ARRAY[9001, 9002, 9003, 9004]);
SELECT * FROM crm.call_list_add('b', ARRAY[9001, 9003, 9004]);
\echo consent: who withdrew is in no list, who never was asked not in one that needs it
SELECT * FROM crm.call_list_add('b', ARRAY[9005, 9006, 9007]);
SELECT * FROM crm.call_list_add('ads', ARRAY[9005, 9006, 9007]);
\echo withdrawn after it was put there: it leaves at the hand-out
UPDATE crm.consent SET withdrawn_at = '2026-11-24 09:00+03' WHERE contact_id = 9005;
SELECT * FROM crm.call_hand('ads', 9001);
\echo he asks not to be called: both of his entries end, and those of the other contact with his number
SELECT h.contact, r.state FROM crm.call_hand('a', 9001) h CROSS JOIN LATERAL crm.call_result(h.hand_id, 'do_not_call', 'ask no more, said Сидоров') r;
SELECT l.code, e.contact_id, e.state, e.ended FROM crm.call_list_entry e JOIN crm.call_list l ON l.id = e.list_id ORDER BY e.id;
SELECT contact_id, company_id, phone_sha256 = sha256('+79160000001') AS hash, reason, employee_id FROM crm.do_not_call ORDER BY id;
\echo a number that comes later is barred too
INSERT INTO crm.contact (id, company_id, name) VALUES (9008, 9003, 'New With Old Number');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (9008, 'phone', '+7 (916) 000-00-01');
SELECT * FROM crm.call_list_add('a', ARRAY[9008]);
\echo forgotten: the number holds by its hash, the notes are gone, the counts stand
SELECT count(*) AS log FROM crm.call_list_log;
SELECT what, changed FROM crm.forget(9001) WHERE what LIKE 'crm.call_list%' OR what = 'crm.do_not_call';
SELECT count(*) AS log, count(*) FILTER (WHERE note ~ 'Сидоров') AS named FROM crm.call_list_log;
SELECT contact_id, reason FROM crm.do_not_call ORDER BY id;
SELECT * FROM crm.call_list_add('a', ARRAY[9008]);
\echo a whole company, and lifted again
SELECT crm.bar_calls(-1);
SELECT crm.bar_calls(9004, 'none of us', true) AS ended, crm.bar_calls(9004, 'none of us', true) AS again;
INSERT INTO crm.contact (id, company_id, name) VALUES (9009, 9002, 'Newcomer');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (9009, 'phone', '+79160000009');
SELECT * FROM crm.call_list_add('b', ARRAY[9009]);
SELECT crm.allow_calls(9009);
SELECT * FROM crm.call_list_add('b', ARRAY[9009]);
ROLLBACK;
