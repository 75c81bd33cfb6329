-- claim 6: states of documents in their order, each logged and told as an event; a cancelled one stays
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
CREATE FUNCTION crm.test_render(document_id bigint) RETURNS crm.document_rendering LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT NULL::bytea, 'page', NULL $$;
ALTER FUNCTION crm.test_render(bigint) OWNER TO crm_owner;
SELECT crm.register_document_kind('test_act', 'ACT', 'Акт', 'Act', 'crm.test_render');
INSERT INTO crm.document (id, kind, year, serial, number, document_date, object_kind, object_id, state)
SELECT 90000 + g, 'test_act', 2026, g, 'ACT-2026-' || g, '2026-11-24', 'deal', 90000 + g, CASE g WHEN 1 THEN 'draft' ELSE 'issued' END FROM generate_series(1, 5) g;
SELECT crm.set_now('2026-11-24 11:00+03', 0);
SELECT crm.set_document_state(90001, 'sent');
SELECT crm.set_document_state(90001, 'issued', 'checked');
SELECT crm.set_document_state(90001, 'issued');
SELECT crm.set_document_state(90001, 'draft');
SELECT crm.set_document_state(90001, 'done');
SELECT crm.set_document_state(90001, NULL);
SELECT crm.set_document_state(1, 'sent');
-- many at once, by plain UPDATE, judged and logged alike
UPDATE crm.document SET state = 'accepted', reason = 'all agreed' WHERE id BETWEEN 90002 AND 90004;
UPDATE crm.document SET state = 'sent' WHERE id BETWEEN 90002 AND 90005;
SELECT crm.set_document_state(90002, 'rejected', 'second thoughts');
SELECT crm.set_document_state(90002, 'accepted');
SELECT crm.set_document_state(90003, 'cancelled', 'wrong company');
SELECT crm.set_document_state(90003, 'accepted');
SELECT document_id, from_state, to_state, reason, at FROM crm.document_log WHERE document_id BETWEEN 90001 AND 90005 ORDER BY id;
SELECT kind, object_id, at, data FROM crm.event WHERE object_kind = 'document' AND object_id IN (90001, 90003) ORDER BY id;
SELECT number, state, reason, state_at FROM crm.document WHERE id BETWEEN 90001 AND 90005 ORDER BY id;
-- a document's event finds its deal
SELECT * FROM crm.deals_of_documents('{90001,90002}') ORDER BY 1;
-- every pair of states: what may follow
SELECT f.state, array_to_string(crm.document_states(f.state), ', ') FROM unnest('{draft,issued,sent,accepted,rejected,cancelled}'::text[]) WITH ORDINALITY AS f(state, n) ORDER BY n;
-- history stays
UPDATE crm.document_log SET reason = 'x';
DELETE FROM crm.document_log;
-- the self-test sees a state that its log does not know
SELECT ok, evidence FROM crm.document_selftest() WHERE promise LIKE 'a document is%';
SAVEPOINT past;
SET LOCAL session_replication_role = replica;
UPDATE crm.document SET state = 'draft' WHERE id = 90002;
SET LOCAL session_replication_role = origin;
SELECT ok, evidence FROM crm.document_selftest() WHERE promise LIKE 'a document is%';
ROLLBACK TO past;
-- without activation nothing is told
SELECT crm.deactivate();
UPDATE crm.document SET state = 'sent' WHERE id = 90005;
SELECT count(*) FROM crm.document_log WHERE document_id = 90005;
ROLLBACK;
