-- claim 94: entering a stage runs its actions in the transaction of the move, once for each entry; one that fails blocks
-- the move or is flagged
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.funnel (id, code, name_ru, name_en) VALUES (90001, 'test', 'Проба', 'Test');
INSERT INTO crm.stage (id, funnel_id, code, name_ru, name_en, "position") VALUES
	(90001, 90001, 'new', 'Новая', 'New', 1), (90002, 90001, 'proposal', 'Предложение', 'Send proposal', 2), (90003, 90001, 'later', 'Потом', 'Later', 3);
INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id) SELECT 90001, a, b FROM generate_series(90001, 90003) a, generate_series(90001, 90003) b WHERE a <> b;
CREATE TABLE crm.test_told (n serial, deals bigint[], action bigint, entered bigint[]);
ALTER TABLE crm.test_told OWNER TO crm_owner;
CREATE FUNCTION crm.test_action(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN
	INSERT INTO crm.test_told (deals, action, entered) SELECT deal_ids, stage_action_id, array_agg(l.to_stage_id ORDER BY l.id) FROM crm.stage_log l WHERE l.id = ANY (stage_log_ids);
	IF EXISTS (SELECT FROM crm.deal d WHERE d.id = ANY (deal_ids) AND d.name LIKE 'bad%') THEN
		RAISE EXCEPTION USING ERRCODE = '22012', MESSAGE = 'a bad deal', HINT = 'Mend its name.';
	END IF;
END $$;
SELECT crm.register_stage_action('test', 'crm.test_action');
ALTER FUNCTION crm.test_action(bigint[], bigint, bigint[]) OWNER TO crm_owner;
SELECT crm.register_stage_action('test', 'crm.test_action');
SELECT crm.register_stage_action('test', 'crm.now');
SELECT crm.register_stage_action('test', 'now(); DROP TABLE crm.deal');
-- saved only where it can run
INSERT INTO crm.stage_action (funnel_id, stage_id, action) VALUES (90001, 90002, 'none');
INSERT INTO crm.stage_action (funnel_id, stage_id, action) VALUES (90001, -1, 'test');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90002, 'document', '{"kind": "none"}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90002, 'document', '{"kind": "proposal", "send": "yes"}');
INSERT INTO crm.stage_action (funnel_id, stage_id, action, settings) VALUES (90001, 90002, 'document', '{"kind": "proposal", "sent": true}');
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action) VALUES (90001, 90001, 90002, 'test');

-- by a move, by plain UPDATE of many in one statement, by a deal that comes to be there; not elsewhere
INSERT INTO crm.deal (id, funnel_id, name) SELECT g, 90001, CASE g WHEN 90009 THEN 'bad' ELSE 'deal ' || g END FROM generate_series(90001, 90010) g;
SELECT crm.move(90001, 'proposal');
SELECT crm.move(90001, 'proposal');
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90002 AND 90004;
INSERT INTO crm.deal (id, funnel_id, stage_id, name) VALUES (90011, 90001, 90002, 'born here'), (90012, 90001, 90001, 'born there');
SELECT crm.move(90001, 'later');
SELECT crm.move(90001, 'proposal');
UPDATE crm.deal SET name = name WHERE id = 90001;
SELECT deals, action, entered FROM crm.test_told ORDER BY n;
-- switched off
UPDATE crm.stage_action SET enabled = false WHERE id = 90001;
SELECT crm.move(90005, 'proposal');
UPDATE crm.stage_action SET enabled = true WHERE id = 90001;
SELECT count(*) FROM crm.test_told;

-- block: nobody of the statement moves
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90008 AND 90010;
SELECT id, stage_id FROM crm.deal WHERE id BETWEEN 90008 AND 90010 ORDER BY id;
SELECT count(*) FROM crm.stage_log WHERE deal_id BETWEEN 90008 AND 90010 AND to_stage_id = 90002;
-- flag: all move, those that are well have it done, the other one is flagged
UPDATE crm.stage_action SET on_error = 'flag' WHERE id = 90001;
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90008 AND 90010;
SELECT id, stage_id FROM crm.deal WHERE id BETWEEN 90008 AND 90010 ORDER BY id;
SELECT deals FROM crm.test_told ORDER BY n DESC LIMIT 2;
SELECT deal_id, code, words, hint, resolved_at FROM crm.stage_action_failure WHERE stage_action_id = 90001;
SELECT severity, subject, message, hint FROM crm.stage_action_health();
SELECT kind, object_id FROM crm.event WHERE kind = 'deal.moved' AND object_id = 90009;
-- tried again: fails, then is mended; a second time nothing is done
SELECT crm.retry_stage_action(id) FROM crm.stage_action_failure WHERE stage_action_id = 90001;
UPDATE crm.deal SET name = 'mended' WHERE id = 90009;
SELECT crm.retry_stage_action(id) FROM crm.stage_action_failure WHERE stage_action_id = 90001;
SELECT crm.retry_stage_action(id) FROM crm.stage_action_failure WHERE stage_action_id = 90001;
SELECT deals FROM crm.test_told ORDER BY n DESC LIMIT 1;
SELECT count(*) FROM crm.stage_action_health();
SELECT crm.retry_stage_action(-1);
-- an action that is not registered any more, as after a restore
SAVEPOINT gone;
DELETE FROM crm.stage_action_kind WHERE action = 'test';
SELECT crm.move(90006, 'proposal');
SELECT words FROM crm.stage_action_failure WHERE deal_id = 90006;
SELECT subject, message FROM crm.stage_action_health() ORDER BY message;
ROLLBACK TO gone;
-- one whose owner became too strong is not run
SAVEPOINT strong;
ALTER FUNCTION crm.test_action(bigint[], bigint, bigint[]) OWNER TO postgres;
UPDATE crm.stage_action SET on_error = 'block' WHERE id = 90001;
SELECT crm.move(90006, 'proposal');
ROLLBACK TO strong;

-- the action document: the proposal is made and queued with the move, its number is unique
DELETE FROM crm.stage_action WHERE id = 90001;
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action, settings) VALUES (90002, 90001, 90002, 'document', '{"kind": "proposal", "send": true, "data": {"note": "as agreed"}}');
SELECT crm.add_integration('test_mail', 'mail_out', 'smtp://127.0.0.1:2525', '{"sender": "plant@example.com"}') IS NOT NULL AS mail;
INSERT INTO crm.company (id, name) VALUES (90001, 'Рога');
INSERT INTO crm.contact (id, company_id, name) VALUES (90001, 90001, 'Reader'), (90002, 90001, 'No mail');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'email', 'one@example.com'), (90002, 'phone', '+79161234567');
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, contact_id, name, amount) SELECT g, 90001, 90001, 90001, CASE g WHEN 90022 THEN 90002 END, 'Цемент', CASE g WHEN 90029 THEN NULL ELSE 1000 END FROM generate_series(90021, 90030) g;
SELECT crm.move(90021, 'proposal');
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90022 AND 90024;
SELECT d.object_id, d.serial - min(d.serial) OVER () AS number, d.state, crm.document_html(d.id) LIKE '%as agreed%' AS note, (SELECT count(*) FROM crm.document_file f WHERE f.document_id = d.id) AS files,
	(SELECT string_agg(l.recipient || ' ' || l.state, ', ') FROM crm.document_letter l WHERE l.document_id = d.id) AS letters
FROM crm.document d WHERE d.object_kind = 'deal' AND d.object_id BETWEEN 90021 AND 90030 ORDER BY d.id;
-- out and in again: the living one stays, and is not sent twice
SELECT crm.move(90021, 'later');
SELECT crm.move(90021, 'proposal');
SELECT count(*), sum((SELECT count(*) FROM crm.document_sending s WHERE s.document_id = d.id)) AS letters FROM crm.document d WHERE d.object_kind = 'deal' AND d.object_id = 90021;
-- a template that fails blocks, or is flagged; the number is taken back
SELECT crm.move(90029, 'proposal');
UPDATE crm.stage_action SET on_error = 'flag' WHERE id = 90002;
UPDATE crm.deal SET stage_id = 90002 WHERE id BETWEEN 90028 AND 90030;
SELECT id, (SELECT count(*) FROM crm.document d WHERE d.object_kind = 'deal' AND d.object_id = x.id) AS documents FROM crm.deal x WHERE id BETWEEN 90028 AND 90030 AND stage_id = 90002 ORDER BY id;
SELECT deal_id, words FROM crm.stage_action_failure WHERE stage_action_id = 90002;
SELECT ok FROM crm.document_selftest() WHERE promise LIKE 'numbers%';

-- actions that move deals on in a circle are stopped, and nothing moves
CREATE FUNCTION crm.test_circle(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ BEGIN UPDATE crm.deal d SET stage_id = CASE d.stage_id WHEN 90001 THEN 90003 ELSE 90001 END WHERE d.id = ANY (deal_ids); END $$;
ALTER FUNCTION crm.test_circle(bigint[], bigint, bigint[]) OWNER TO crm_owner;
SELECT crm.register_stage_action('circle', 'crm.test_circle');
INSERT INTO crm.stage_action (id, funnel_id, stage_id, action) VALUES (90003, 90001, 90001, 'circle'), (90004, 90001, 90003, 'circle');
\set VERBOSITY terse
SAVEPOINT circle;
DO $$ BEGIN PERFORM crm.move(90006, 'later'); EXCEPTION WHEN OTHERS THEN RAISE WARNING '%', regexp_replace(SQLERRM, '^.*: ', ''); END $$;
ROLLBACK TO circle;
SELECT stage_id FROM crm.deal WHERE id = 90006;
DELETE FROM crm.stage_action WHERE id IN (90003, 90004);
-- a shipped one is switched off, not deleted
UPDATE crm.stage_action SET shipped = true WHERE id = 90002;
DELETE FROM crm.stage_action WHERE id = 90002;
-- without activation nothing is done
SELECT crm.deactivate();
UPDATE crm.deal SET stage_id = 90002 WHERE id = 90007;
SELECT count(*) FROM crm.document WHERE object_kind = 'deal' AND object_id = 90007;
ROLLBACK;
