-- claim 32: contact points prove themselves, and speak against themselves
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
INSERT INTO crm.contact (id, name) VALUES (90001, 'Иван');
INSERT INTO crm.contact_point (id, contact_id, kind, value) VALUES (90001, 90001, 'phone', '+79161234567'), (90002, 90001, 'email', 'ivan@a.ru'), (90003, 90001, 'telegram', '17'), (90004, 90001, 'email', 'second@a.ru');
CREATE VIEW pg_temp.shown AS SELECT id, state, verified_at, verified_how, verified_by, strikes FROM crm.contact_point WHERE contact_id = 90001;
SELECT crm.verify_point(90001, 'delivery', '2026-11-24 09:00+03', 'message 1'), crm.verify_point(90002, 'reply', '2026-11-24 09:00+03', 'letter 1'), crm.verify_point(90003, 'answer', '2026-11-23 09:00+03');
SELECT * FROM pg_temp.shown ORDER BY id;
-- soon again is not written, and is no row; later is
SELECT crm.verify_point(90001, 'delivery', '2026-11-24 09:30+03', 'message 2');
SELECT verified_by FROM crm.contact_point WHERE id = 90001;
SELECT crm.set_now('2026-11-26 10:00+03', 0);
SELECT crm.verify_point(90001, 'answer', '2026-11-26 09:30+03', 'call 3');
SELECT verified_by, verified_how FROM crm.contact_point WHERE id = 90001;
-- words of failures: a full mailbox, a policy, for the moment, no such mailbox
SELECT w, crm.failure_verdict('email', w) FROM unnest(ARRAY['552 5.2.2 mailbox full', '452 4.2.2 over quota', '550 5.7.1 spam', '450 4.7.1 greylisted', '550 5.1.1 User unknown', '5.1.10 null MX', '550 mailbox not found', '554 refused', '552 5.3.4 too large', '550 5.1.8 sender', '']) w;
SELECT w, crm.failure_verdict('phone', w) FROM unnest(ARRAY['undelivered UNDELIV err:001', 'undelivered EXPIRED', 'failed Unknown Subscriber', 'failed insufficient balance', 'failed Not routable. Do not try again.', 'failed absent subscriber']) w;
SELECT crm.verify_point(90002, 'bounce', '2026-11-26 09:00+03', '5.2.2 the mailbox is full'), crm.verify_point(90002, 'bounce', '2026-11-26 09:10+03', '550 5.1.1 user unknown');
-- one failure of several is a strike; a proof between them takes it back; the same told twice is one
SELECT crm.verify_point(90001, 'failure', '2026-11-26 09:40+03', 'undelivered UNDELIV'), crm.verify_point(90001, 'failure', '2026-11-26 09:40+03', 'undelivered UNDELIV');
SELECT crm.verify_point(90001, 'delivery', '2026-11-26 09:45+03', 'message 5');
SELECT crm.verify_point(90001, 'failure', '2026-11-26 09:50+03', 'undelivered UNDELIV');
SELECT crm.verify_point(90001, 'failure', '2026-11-26 09:55+03', 'undelivered REJECTD');
SELECT * FROM pg_temp.shown ORDER BY id;
-- what is older than the last word changes nothing; what is newer mends
SELECT crm.verify_point(90001, 'delivery', '2026-11-26 09:52+03'), crm.verify_point(90001, 'delivery', '2026-11-26 09:58+03');
SELECT crm.verify_point(90003, 'wrong', '2026-11-26 09:58+03', 'says the owner');
-- too old
SELECT crm.set_now('2027-06-01 10:00+03', 0);
SELECT crm.points_stale(), crm.points_stale();
SELECT contact_point_id, how, verdict, at, evidence FROM crm.contact_point_proof ORDER BY id;
-- nonsense
SELECT crm.verify_point(90001, 'rumour');
SELECT crm.verify_point(1, 'reply');
SELECT crm.verify_points(ARRAY[1, 2], ARRAY['reply'], ARRAY[now(), now()], NULL);
-- by the outbox: a batch of reports at once, an address refused at the door, letters that did not come back
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms'), crm.register_kind('x_mail_test', NULL, NULL, channel => 'email');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') AS gate, crm.add_integration('post', 'x_mail_test', '', '{"sender": "a@b.ru"}') AS post \gset
SELECT count(crm.send('sms', '+79161234567', b, contact_id => 90001)) FROM unnest(ARRAY['a', 'b']) b;
SELECT count(crm.send('email', v, 'x', contact_id => 90001)) FROM unnest(ARRAY['second@a.ru', 'second@a.ru', 'ivan@a.ru']) v;
SELECT count(*) FROM crm.outbox_take(:gate, 10);
SELECT count(*) FROM crm.outbox_take(:post, 10);
SELECT crm.outbox_result(:gate, array_agg(id ORDER BY id), array_agg('delivered'::text), NULL, NULL) FROM crm.message WHERE channel = 'sms';
SELECT crm.outbox_result(:post, array_agg(id ORDER BY id), array_agg(CASE WHEN recipient LIKE 'ivan%' THEN 'failed' ELSE 'sent' END ORDER BY id), NULL, array_agg(CASE WHEN recipient LIKE 'ivan%' THEN '550 5.1.1 no such user' END ORDER BY id))
FROM crm.message WHERE channel = 'email';
SELECT crm.letters_unreturned();
SELECT crm.set_now('2027-06-05 10:00+03', 0);
SELECT crm.letters_unreturned(), crm.letters_unreturned();
SELECT id, state, verified_how, verified_at, strikes FROM crm.contact_point WHERE contact_id = 90001 ORDER BY id;
SELECT crm.forget(90001) IS NOT NULL AS x LIMIT 1;
SELECT count(*) FROM crm.contact_point_proof WHERE evidence IS NOT NULL;
ROLLBACK;
