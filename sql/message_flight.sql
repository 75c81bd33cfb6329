-- The tables of retries are emptied in turn: a long one is looked through a part at a time, a live row stops that,
-- and a row that came late begins it anew.
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate();
SELECT crm.register_kind('x_flight', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_flight', '', '{"sender": "CEMENT"}') AS gate \gset
SELECT crm.send('sms', '+79161234567', 'waits for its second try') AS live \gset
CREATE FUNCTION pg_temp.state() RETURNS text LANGUAGE sql AS
	$$ SELECT format('written: %s; rows %s and %s; known as spent %s', t.turn, (SELECT count(*) FROM crm.message_flight_0), (SELECT count(*) FROM crm.message_flight_1), t.looked) FROM crm.message_flight_turn t $$;
-- the second table is written, the first holds 2500 rows of two integrations: spent, since there are no such messages
INSERT INTO crm.message_flight_turn (turn) VALUES (1);
INSERT INTO crm.message_flight_0 (message_id, integration_id, attempt, due_ms) SELECT -g, :gate + g % 2, 1, g / 10 FROM generate_series(1, 2500) g;
SELECT crm.flight_rotate(1000), pg_temp.state();
SELECT crm.flight_rotate(1000), pg_temp.state();
-- one that came late: all is looked at again, nothing is lost
INSERT INTO crm.message_flight_0 (message_id, integration_id, attempt, due_ms) VALUES (:live, :gate, 1, 5000);
SELECT crm.flight_rotate(1000), pg_temp.state();
SELECT crm.flight_rotate(1000), pg_temp.state();
SELECT crm.flight_rotate(1000), pg_temp.state();
-- its try is made
INSERT INTO crm.message_attempt (message_id, attempt, outcome, integration_id) VALUES (:live, 1, 'sent', :gate);
SELECT crm.flight_rotate(1000), pg_temp.state();
SELECT crm.flight_rotate(1000), pg_temp.state();
SELECT crm.flight_rotate(1000), pg_temp.state();
-- what is not due yet is live, whatever became of it; a table that has grown gives its turn to the empty one
INSERT INTO crm.message_flight_0 (message_id, integration_id, attempt, due_ms) VALUES (-1, :gate, 1, crm.monotonic_ms() + 60000);
SELECT crm.flight_rotate(1000), pg_temp.state();
TRUNCATE crm.message_flight_0;
INSERT INTO crm.message_flight_1 (message_id, integration_id, attempt, due_ms) SELECT -g, :gate, 1, g FROM generate_series(1, 1001) g;
SELECT crm.flight_rotate(1000), pg_temp.state();
SELECT crm.flight_rotate(), pg_temp.state();
ROLLBACK;
