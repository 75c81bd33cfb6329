-- claim 91a: a call list is a pool of cold contacts: handed out one at a time, attempts with results, call-backs
-- by the contact's clock and in working hours, a limit of attempts, back to the pool, a deal at the end.
SET client_min_messages = warning;
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT crm.activate('off');
-- Tuesday, 10:00 in Moscow and Samara at 11:00; in Vladivostok it is 17:00, in Kaliningrad 9:00
SELECT crm.set_now('2026-11-24 10:00+03', 0) IS NOT NULL AS moved;
INSERT INTO crm.employee (id, name) VALUES (9001, 'Anna'), (9002, 'Boris'), (9003, 'Clara');
INSERT INTO crm.company (id, name, owner_id, time_zone) SELECT 9000 + g, 'Firm ' || g, CASE g WHEN 9 THEN 9003 END, CASE g WHEN 3 THEN 'Asia/Vladivostok' WHEN 4 THEN 'America/New_York' ELSE 'Europe/Moscow' END FROM generate_series(1, 12) g;
INSERT INTO crm.contact (id, company_id, name, is_decision_maker, archived_at) SELECT 9000 + g, 9000 + g, 'Person ' || g, g % 2 = 0, CASE g WHEN 8 THEN crm.now() END FROM generate_series(1, 12) g;
INSERT INTO crm.contact (id, company_id, name, is_decision_maker) VALUES (9021, 9001, 'Chief of 1', true), (9022, 9002, 'Clerk of 2', false);
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT c.id, 'phone', '+7916000' || lpad((c.id - 9000)::text, 4, '0') FROM crm.contact c WHERE c.id BETWEEN 9001 AND 9022 AND c.id <> 9007;
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (9005, 'phone', '+74950000005');

\echo what is refused
SELECT crm.add_call_list('x', 'X', 'nope');
SELECT crm.add_call_list('x', 'X', 'delivery', 'nope');
\set VERBOSITY terse
SELECT crm.add_call_list('x', 'X', 'delivery', attempt_limit => 0);
SELECT crm.add_call_list('X y', 'X', 'delivery');
\set VERBOSITY default
SELECT crm.add_call_list('x', 'X', 'delivery', calendar => 'moon');
SELECT crm.add_call_list('spring', 'Весна', 'delivery', attempt_limit => 2) IS NOT NULL AS made;
SELECT * FROM crm.call_hand('autumn', 9001);
SELECT * FROM crm.call_hand('spring', 1);
SELECT * FROM crm.call_list_add('spring', array_fill(1::bigint, ARRAY[1000001]));

\echo filled by ids: 4 new, one without a number, one archived, one owned, one unknown; then again
SELECT * FROM crm.call_list_add('spring', ARRAY[9003, 9001, 9002, 9004, 9007, 9008, 9009, -1, 9001]);
SELECT * FROM crm.call_list_add('spring', ARRAY[9001, 9002]);
\echo filled by a condition, one of each company: not Firm 1 and 2 (their deciding ones are 9021 and 9002), 9005, 9006, 9010 to 9012
SELECT * FROM crm.call_list_fill('spring', $$company_id >= 9005 AND company ~ '^Firm' AND has_phone AND owner_id IS NULL$$, true);
SELECT * FROM crm.call_list_fill('spring', 'true; DROP TABLE crm.deal');
SELECT * FROM crm.call_list_fill('spring', 'contact_id IN (SELECT id FROM crm.contact)');
SELECT * FROM crm.call_list_fill('spring', 'pg_sleep(10) IS NULL');
SELECT * FROM crm.call_list_fill('spring', 'pg_read_file(company) IS NULL');
SELECT * FROM crm.call_list_fill('spring', 'colour = 1');
SELECT * FROM crm.call_list_fill('spring', ' ');

\echo the zone whose day ends first goes first; the same one again while it is held; another employee gets another
SELECT kind, company, contact, phone, attempt, attempt_limit, local_time, reserved_until FROM crm.call_hand('spring', 9001);
SELECT kind, contact FROM crm.call_hand('spring', 9001);
SELECT kind, contact, local_time FROM crm.call_hand('spring', 9002);
CREATE TEMP TABLE hand AS SELECT e.employee_id, e.hand_id, e.contact_id FROM crm.call_list_entry e WHERE e.state = 'reserved';
\echo results
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9001), 'nonsense');
SELECT * FROM crm.call_result(-1, 'busy');
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9001), 'call_back');
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9001), 'call_back', call_back_at => '2026-11-24 09:00+03');
-- Vladivostok: tomorrow at 19:00 there is after hours: Thursday at 9:00 there, 02:00 in Moscow
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9001), 'call_back', 'asks for a price', call_back_local => '2026-11-25 19:00');
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9001), 'call_back', call_back_local => '2026-11-25 19:00');
\set VERBOSITY sqlstate
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9001), 'refused');
\set VERBOSITY default
-- no answer: in four hours, which counts
SELECT * FROM crm.call_result((SELECT hand_id FROM hand WHERE employee_id = 9002), 'no_answer');
\echo at 18:30 nobody in Moscow is called, nor at night in New York where it is 10:30: that one is
SELECT crm.set_now('2026-11-24 18:30+03', 0) IS NOT NULL AS moved;
SELECT kind, contact, local_time FROM crm.call_hand('spring', 9002);
SELECT kind, contact FROM crm.call_hand('spring', 9001);
\echo the reservation runs out by itself and the contact goes to who asks next
SELECT crm.set_now('2026-11-24 18:50+03', 0) IS NOT NULL AS moved;
SELECT kind, contact FROM crm.call_hand('spring', 9001);
SELECT g.action, g.employee_id FROM crm.call_list_log g JOIN crm.call_list_entry e ON e.id = g.entry_id WHERE e.contact_id = 9004 ORDER BY g.id;
\echo the result of the one who was too late is refused; given back by hand
\set VERBOSITY sqlstate
SELECT crm.call_result((SELECT min(g.id) FROM crm.call_list_log g JOIN crm.call_list_entry e ON e.id = g.entry_id WHERE e.contact_id = 9004), 'busy');
\set VERBOSITY default
SELECT crm.call_return((SELECT hand_id FROM crm.call_list_entry WHERE contact_id = 9004), 'lunch') AS returned, crm.call_return((SELECT hand_id FROM crm.call_list_entry WHERE contact_id = 9004)) AS again;

\echo Wednesday in the morning: the retry is at the end of the queue; a second try without an answer is the limit
SELECT crm.set_now('2026-11-25 09:00+03', 0) IS NOT NULL AS moved;
CREATE TEMP TABLE turn (no integer GENERATED ALWAYS AS IDENTITY, contact text, attempt integer, result text, state text, next_at timestamptz);
DO $$
DECLARE
	h record;
	r record;
	said text;
BEGIN
	FOREACH said IN ARRAY ARRAY['refused', 'wrong_number', 'wrong_number', 'interested', 'do_not_call', 'no_answer', 'busy', 'refused', 'refused'] LOOP
		SELECT * INTO h FROM crm.call_hand('spring', 9001);
		EXIT WHEN NOT FOUND;
		SELECT * INTO r FROM crm.call_result(h.hand_id, said, 'said ' || said);
		INSERT INTO turn (contact, attempt, result, state, next_at) VALUES (h.contact, h.attempt, said, r.state, r.next_at);
	END LOOP;
END $$;
TABLE turn ORDER BY no;
\echo one number was wrong and the other was tried; a deal came, with its owner, and the company has one now
SELECT contact_id, value, state, verified_by FROM crm.contact_point WHERE contact_id IN (9005, 9006) ORDER BY 1, 2;
SELECT d.name, s.code, d.company_id, d.contact_id, d.owner_id, d.source, k.owner_id AS company_owner FROM crm.deal d JOIN crm.stage s ON s.id = d.stage_id JOIN crm.company k ON k.id = d.company_id WHERE d.source = 'call_list';
SELECT contact_id, state, next_at, employee_id, attempts, result, ended, deal_id IS NOT NULL AS deal FROM crm.call_list_entry ORDER BY id;
\echo Thursday: Boris is first, but Anna promised the call-back: she is given it. An hour later anybody is
SELECT crm.set_now('2026-11-26 02:30+03', 0) IS NOT NULL AS moved;
SELECT contact FROM crm.call_hand('spring', 9002);
SAVEPOINT before;
SELECT kind, contact, last_result, last_note FROM crm.call_hand('spring', 9001);
ROLLBACK TO before;
SELECT crm.set_now('2026-11-26 03:00+03', 0) IS NOT NULL AS moved;
SELECT crm.call_list_due();
SELECT kind, contact, last_result FROM crm.call_hand('spring', 9002);
\echo dismissed: what he has goes back, and he is given nothing more
UPDATE crm.employee SET dismissed_at = crm.now() WHERE id = 9002;
SELECT state, employee_id FROM crm.call_list_entry WHERE contact_id = 9003;
SELECT * FROM crm.call_hand('spring', 9002);
SELECT contact FROM crm.call_hand('spring', 9001);
SELECT crm.call_list_take_back(9001) AS taken, crm.call_list_take_back(9001) AS again;
\echo a list that is off
UPDATE crm.call_list SET enabled = false WHERE code = 'spring';
SELECT * FROM crm.call_hand('spring', 9001);
\echo progress: its parts are the whole
SELECT contacts, fresh, retry, callback, reserved, done, deals, refused, reached_limit, do_not_call, not_called, attempts, done_percent, deal_percent,
	contacts = fresh + retry + callback + reserved + done AS whole FROM crm_bi.call_list WHERE list = 'spring';
SELECT v.list, v.contacts = (SELECT count(*) FROM crm_bi.call_list_entry e WHERE e.list_id = v.list_id) AS entries,
	(SELECT count(*) FROM crm_bi.call_list_attempt a WHERE a.list_id = v.list_id AND a.action = 'result') AS results FROM crm_bi.call_list v WHERE list = 'spring';
SELECT e.kind, e.object_id, e.data ->> 'result' AS result, e.data ->> 'employee' AS employee, e.data ->> 'deal_id' IS NOT NULL AS deal FROM crm.event e WHERE e.kind = 'contact.called' AND e.data ->> 'result' IN ('interested', 'call_back') ORDER BY e.id;
\echo history is not rewritten
UPDATE crm.call_list_log SET note = 'x';
ROLLBACK;
