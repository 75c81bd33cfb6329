-- claim 73: the carrier explains a claim with files, until a deadline; claim 74: lawyers review it in a funnel of its own, the penalty follows
\set ON_ERROR_STOP 1
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-05-06 06:00Z', 0) IS NOT NULL AS clock, crm.activate('live') AS mode;
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true);
INSERT INTO crm.contact (id, company_id, name) VALUES (902, 902, 'Dispatcher');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (902, 'email', 'd@haul.example');
SELECT crm.add_integration('test_mail', 'mail_out', 'smtp://127.0.0.1:2525', '{"sender": "plant@example.com"}') IS NOT NULL AS mail;
INSERT INTO crm.contract (id, carrier_id, number, auto_claim, explain_days) VALUES (901, 902, 'D-1', true, 3);
INSERT INTO crm.contract_term (id, contract_id, side, valid_from, free_minutes, tariff) VALUES (901, 901, 'loading', '2026-01-01', 60, '[{"from": 0, "each": 1, "roubles": 100}]');
INSERT INTO crm.place (id, name, kind) VALUES (901, 'Plant', 'plant');
INSERT INTO crm.vehicle (id, plate, carrier_id) SELECT 900 + i, 'T ' || i, 902 FROM generate_series(1, 6) i;
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (901, 'N', 901, 'Cement');
INSERT INTO crm.slot (vehicle_id, order_id, planned_from, source_id) SELECT 900 + i, 901, '2026-05-05 07:00Z', 's' || i FROM generate_series(1, 6) i;
ALTER SEQUENCE crm.claim_id_seq RESTART 901;
INSERT INTO crm.checkin (vehicle_id, at, means, source, source_id) SELECT 900 + i, '2026-05-05 08:15Z', 'gate', 'erp', 'g' || i FROM generate_series(1, 6) i;
INSERT INTO crm.shipment (order_id, vehicle_id, tare_kg, gross_kg, weighed_at) SELECT 901, 900 + i, 14000, 34000, '2026-05-05 08:50Z' FROM generate_series(1, 6) i;
SELECT crm.claims_send();
CREATE VIEW pg_temp.claims AS SELECT c.id, c.state, c.penalty_made AS made, c.penalty, c.explain_by, c.explained_at IS NOT NULL AS explained, c.decided_at IS NOT NULL AS decided, s.code AS stage, d.closed_at IS NOT NULL AS closed, p.state AS paper, c.reason
	FROM crm.claim c LEFT JOIN crm.deal d ON d.id = c.deal_id LEFT JOIN crm.stage s ON s.id = d.stage_id LEFT JOIN crm.document p ON p.id = c.document_id ORDER BY c.id;
SELECT * FROM pg_temp.claims;

\echo == the explanation
SELECT crm.explain_claim(901, E'  Road closed.\n', ARRAY['C:\photos\road.JPG'], '{"IMAGE/jpeg; charset=x"}', ARRAY['\x01020304'::bytea]) AS first_ \gset
SELECT crm.explain_claim(901, 'Road closed.', '{other.jpg}', '{image/jpeg}', ARRAY['\x01020304'::bytea]) = :first_ AS same_again;
SELECT crm.explain_claim(901, 'And a flat tyre.') <> :first_ AS another;
SELECT e.text_, f.name, f.media_type, f.hash = encode(sha256('\x01020304'), 'hex') AS hash FROM crm.explanation e LEFT JOIN crm.explanation_file f ON f.explanation_id = e.id ORDER BY e.id;
SELECT count(*) AS events, count(DISTINCT source_id) AS different FROM crm.event WHERE kind = 'claim.explained';
SELECT id, state, penalty, explained, stage FROM pg_temp.claims WHERE id = 901;
SELECT crm.explain_claim(c, 'x') IS NOT NULL AS explained FROM generate_series(902, 905) c;

\echo == the review: accepted
SELECT crm.move(deal_id, 'review') FROM crm.claim WHERE id IN (901, 902) ORDER BY id;
SELECT id, state, stage FROM pg_temp.claims WHERE id IN (901, 902);
SELECT crm.move(deal_id, 'accepted') FROM crm.claim WHERE id = 901;
\echo == partly, and rejected; by a call, and on the board
SELECT crm.decide_claim(902, 'partly', 400, 'half of it was our road');
SELECT crm.decide_claim(903, 'rejected', NULL, 'no proof');
SELECT crm.move(deal_id, 'rejected') FROM crm.claim WHERE id = 904;
SELECT * FROM pg_temp.claims;
SELECT claim_id, what, state, penalty_before, penalty, reason FROM crm.claim_log WHERE claim_id IN (901, 902) ORDER BY id;
SELECT e.object_id, e.data ->> 'claim_state' AS state, e.data ->> 'penalty' AS penalty FROM crm.event e WHERE e.kind = 'claim.decided' ORDER BY e.id;
-- the carrier is told
SELECT m.recipient, m.subject, m.body FROM crm.message m WHERE m.rule = 'claim.decided.letter' ORDER BY m.id;
SELECT l.from_stage, l.to_stage FROM crm.deal_history l WHERE l.funnel = 'claim' AND l.deal_id = (SELECT deal_id FROM crm.claim WHERE id = 902) ORDER BY l.stage_log_id;
-- a new order of a carrier that is a client too does not go to the deal of a review
SELECT o.deal_id FROM crm.order_deals(ARRAY[901]::bigint[]) o;

\echo == what is refused
\set ON_ERROR_STOP 0
\set VERBOSITY terse
SAVEPOINT bad;
SELECT crm.decide_claim(901, 'rejected');
ROLLBACK TO bad;
SELECT crm.decide_claim(905, 'partly', 1500);
ROLLBACK TO bad;
SELECT crm.decide_claim(905, 'partly', 'NaN');
ROLLBACK TO bad;
SELECT crm.decide_claim(905, 'partly');
ROLLBACK TO bad;
SELECT crm.decide_claim(905, 'forgotten');
ROLLBACK TO bad;
SELECT crm.move(deal_id, 'partly') FROM crm.claim WHERE id = 905;
ROLLBACK TO bad;
SELECT crm.cancel_claim(905, ' ');
ROLLBACK TO bad;
SELECT crm.explain_claim(903, 'but');
ROLLBACK TO bad;
SELECT crm.explain_claim(906, ' ');
ROLLBACK TO bad;
SELECT crm.explain_claim(906, repeat('x', 20001));
ROLLBACK TO bad;
SELECT crm.explain_claim(906, 'x', '{a,b}', '{image/png}', ARRAY['\x00'::bytea]);
ROLLBACK TO bad;
SELECT crm.explain_claim(906, 'x', '{a}', '{png}', ARRAY['\x00'::bytea]);
ROLLBACK TO bad;
SELECT crm.explain_claim(906, 'x', '{/}', '{image/png}', ARRAY['\x00'::bytea]);
ROLLBACK TO bad;
SELECT crm.explain_claim(906, 'x', '{a}', '{image/png}', ARRAY[''::bytea]);
ROLLBACK TO bad;
SELECT crm.explain_claim(906, 'x', '{a}', '{image/png}', ARRAY[convert_to(repeat('x', 10485761), 'UTF8')]);
ROLLBACK TO bad;
SELECT crm.explain_claim(906, 'x', array_fill('a'::text, '{11}'), array_fill('image/png'::text, '{11}'), array_fill('\x00'::bytea, '{11}'));
ROLLBACK TO bad;
SELECT crm.explain_claim(5, 'x');
ROLLBACK TO bad;
SELECT crm.set_now('2026-05-09 06:00:01Z', 0) IS NOT NULL AS deadline;
SELECT crm.explain_claim(906, 'too late');
ROLLBACK TO bad;
DELETE FROM crm.explanation;
ROLLBACK TO bad;
ROLLBACK;
