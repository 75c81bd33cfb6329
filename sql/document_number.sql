-- claim 6: numbers of documents have no gap for a kind and year, in the year of the plant's zone, in bulk too; a second
-- call for one object finds the living document
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-12-31 20:59:59+00', 0);
CREATE FUNCTION crm.test_render(document_id bigint) RETURNS crm.document_rendering LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
	IF (SELECT d.object_id = 13 FROM crm.document d WHERE d.id = document_id) THEN
		RAISE EXCEPTION USING ERRCODE = '22012', MESSAGE = 'thirteen is not rendered', HINT = 'Take another.';
	END IF;
	RETURN ROW(NULL, 'page ' || document_id, NULL)::crm.document_rendering;
END $$;
-- a function that would run with the owner's rights is not taken
SELECT crm.register_document_kind('test_act', 'ACT', 'Акт', 'Act', 'crm.test_render');
ALTER FUNCTION crm.test_render(bigint) OWNER TO crm_owner;
SELECT crm.register_document_kind('test_act', 'ACT', 'Акт', 'Act', 'crm.test_none');
SELECT crm.register_document_kind('test_act', 'ACT', 'Акт', 'Act', 'crm.now');
SELECT crm.register_document_kind('test_act', 'ACT', 'Акт', 'Act', 'crm.test_render');
SELECT crm.register_document_kind('test_bill', 'BILL', 'Счёт', 'Bill', 'crm.test_render');

CREATE FUNCTION pg_temp.number_of(id bigint) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT d.number FROM crm.document d WHERE d.id = $1); END $$;

-- a second before midnight in Moscow, then after it
CREATE TEMP TABLE made AS SELECT crm.make_document('test_act', 'test', 1, NULL) AS id;
INSERT INTO made SELECT crm.make_document('test_act', 'test', 2, NULL);
INSERT INTO made SELECT crm.make_document('test_bill', 'test', 1, NULL);
SELECT crm.set_now('2026-12-31 21:00:00+00', 0);
INSERT INTO made SELECT crm.make_document('test_act', 'test', 3, NULL);
SELECT d.number, d.document_date, d.object_id FROM made m JOIN crm.document d USING (id) ORDER BY d.id;

-- one living document for an object; another only where asked for; a rejected or cancelled one makes room
SELECT crm.make_document('test_act', 'test', 1, NULL) = (SELECT min(id) FROM made) AS the_same;
SELECT pg_temp.number_of(crm.make_document('test_act', 'test', 1, NULL, another => true));
SELECT crm.make_document('test_act', 'test', 1, NULL) = (SELECT min(id) FROM made) AS still_the_same;
SELECT crm.set_document_state((SELECT min(id) FROM made), 'cancelled', 'test');
SELECT pg_temp.number_of(crm.make_document('test_act', 'test', 1, NULL));
SELECT number, state FROM crm.document WHERE id = (SELECT min(id) FROM made);
-- another kind of object with the same id is another object
SELECT pg_temp.number_of(crm.make_document('test_act', 'other', 1, NULL));

-- an error takes the number back
SELECT crm.make_document('test_act', 'test', 13, NULL);
SAVEPOINT before_;
SELECT pg_temp.number_of(crm.make_document('test_act', 'test', 20, NULL));
ROLLBACK TO before_;
SELECT pg_temp.number_of(crm.make_document('test_act', 'test', 21, NULL));
-- in bulk: one that fails takes all back and is named; duplicates are one; those that are there are told
SELECT * FROM crm.make_documents('test_act', 'test', '{12,13,14}', NULL);
SELECT m.object_id, pg_temp.number_of(m.document_id), m.fresh FROM crm.make_documents('test_act', 'test', '{31,30,31,2,21}', NULL) m ORDER BY m.document_id;
SELECT pg_temp.number_of(m.document_id), m.fresh FROM crm.make_documents('test_act', 'test', '{31,31}', NULL, another => true) m ORDER BY m.document_id;

-- ten thousand in one statement
SET LOCAL statement_timeout = '120s';
SELECT count(*), count(DISTINCT document_id), bool_and(fresh) FROM crm.make_documents('test_bill', 'test', ARRAY(SELECT g FROM generate_series(100001, 110000) g), NULL);
SET LOCAL statement_timeout = 0;
SELECT count(*), min(serial), max(serial) FROM crm.document WHERE kind = 'test_bill' AND year = 2027;
SELECT kind, year, last FROM crm.document_counter WHERE kind LIKE 'test%' ORDER BY 1, 2;
SELECT ok, evidence FROM crm.document_selftest() WHERE promise LIKE 'numbers%';
-- the self-test sees a hole
SAVEPOINT hole;
SET LOCAL session_replication_role = replica;
DELETE FROM crm.document WHERE number = 'ACT-2027-00002';
SET LOCAL session_replication_role = origin;
SELECT ok, evidence FROM crm.document_selftest() WHERE promise LIKE 'numbers%';
ROLLBACK TO hole;

-- refused
SELECT crm.make_document('none', 'test', 1, NULL);
SELECT crm.make_document('test_act', 'test', NULL, NULL);
SELECT crm.make_document('test_act', 'Bad Kind', 1, NULL);
SELECT crm.make_document('test_act', 'test', 99, NULL, '[]');
SELECT crm.make_document('test_act', 'test', 99, NULL, state => 'sent');
SELECT count(*) FROM crm.make_documents('test_act', 'test', '{1,2}', '{1}');
SELECT count(*) FROM crm.make_documents('test_act', 'test', array_fill(1::bigint, ARRAY[100001]), NULL);
SELECT count(*) FROM crm.make_documents('test_act', 'test', '{}', NULL);
\set VERBOSITY terse
UPDATE crm.document SET number = 'X' WHERE id = (SELECT max(id) FROM made);
UPDATE crm.document SET serial = serial + 100 WHERE id = (SELECT max(id) FROM made);
DELETE FROM crm.document WHERE number = 'ACT-2027-00002';
TRUNCATE crm.document CASCADE;
ROLLBACK;
