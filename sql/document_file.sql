-- claims 6 and 94: the commercial proposal: a page and a workbook, stored with their hash; escaped; versions; a changed byte is found
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
INSERT INTO crm.employee (id, name) VALUES (90001, 'Анна "Смета" Иванова');
INSERT INTO crm.company (id, name, full_name, inn, language) VALUES (90001, 'Рога', 'ООО "Рога & <Копыта>"', '7707083893', 'ru'), (90002, 'Hooves', NULL, NULL, 'en');
INSERT INTO crm.deal (id, funnel_id, company_id, owner_id, name, amount, tonnes)
SELECT v.*
FROM crm.funnel f, LATERAL (VALUES
	(90001, f.id, 90001, 90001, 'Цемент <script>alert(1)</script> М500', 1234567.50, 200.125),
	(90002, f.id, 90002, NULL, '=1+1', 1000, NULL),
	(90003, f.id, 90001, NULL, 'no amount', NULL, 20),
	(90004, f.id, NULL, NULL, 'no company', 100, 20)) AS v(id, funnel_id, company_id, owner_id, name, amount, tonnes)
WHERE f.code = 'delivery';
CREATE TEMP TABLE made AS SELECT crm.make_document('proposal', 'deal', 90001, 90001, '{"note": "Цена с НДС & доставкой", "valid_days": 10}') AS id;
INSERT INTO made SELECT crm.make_document('proposal', 'deal', 90002, 90002);
-- numbers are a database's own
\pset format unaligned
SELECT replace(crm.document_html(m.id), d.number, 'NUMBER') FROM made m JOIN crm.document d USING (id) ORDER BY m.id;
\pset format aligned
-- the stored bytes are hashed; independent of the function that stored them
SELECT f.version, f.format, replace(f.file_name, d.number, 'NUMBER') AS file_name, f.sha256 = sha256(f.content) AS hashed, f.bytes = octet_length(f.content) AS counted,
	encode(substr(f.content, 1, 4), 'escape') LIKE CASE f.format WHEN 'xlsx' THEN 'PK%' ELSE '<!DO%' END AS looks
FROM made m JOIN crm.document d USING (id) JOIN crm.document_file f ON f.document_id = d.id ORDER BY f.id;
SELECT version, format, equal, difference FROM crm.document_verify((SELECT min(id) FROM made));
-- made again: a new version, the old one stays
UPDATE crm.deal SET amount = 1200000 WHERE id = 90001;
SELECT crm.render_document((SELECT min(id) FROM made));
SELECT count(*), count(DISTINCT sha256) FROM crm.document_file WHERE document_id = (SELECT min(id) FROM made);
SELECT crm.document_html((SELECT min(id) FROM made)) LIKE '%1' || E'\u00A0' || '200' || E'\u00A0' || '000,00%' AS newest;
-- one byte changed past the triggers
UPDATE crm.document_file SET content = '\x00';
DELETE FROM crm.document_file;
SET LOCAL session_replication_role = replica;
UPDATE crm.document_file SET content = set_byte(content, 10, get_byte(content, 10) # 1) WHERE document_id = (SELECT min(id) FROM made) AND version = 1 AND format = 'html';
UPDATE crm.document_file SET content = content || '\x20' WHERE document_id = (SELECT min(id) FROM made) AND version = 2 AND format = 'html';
SET LOCAL session_replication_role = origin;
SELECT version, format, equal, regexp_replace(regexp_replace(difference, '[0-9a-f]{64}', 'HASH', 'g'), '[0-9]+ bytes where [0-9]+', 'N bytes where M') AS difference FROM crm.document_verify((SELECT min(id) FROM made));
SELECT ok, regexp_replace(evidence, 'КП-2026-[0-9]+', 'NUMBER', 'g') AS evidence FROM crm.document_selftest() WHERE promise LIKE 'files%';
-- what cannot be made
SELECT crm.make_document('proposal', 'deal', 90003, 90001);
SELECT crm.make_document('proposal', 'deal', 90004, NULL);
SELECT crm.make_document('proposal', 'deal', 99999, 90001);
SELECT crm.make_document('proposal', 'claim', 90001, 90001);
SELECT crm.make_document('proposal', 'deal', 90001, 90001, '{"valid_days": "soon"}', true);
SELECT crm.make_document('proposal', 'deal', 90001, 90001, '{"valid_days": 1.5}', true);
SELECT crm.document_html(-1);
SELECT * FROM crm.document_verify(-1);
SELECT crm.set_document_state((SELECT max(id) FROM made), 'accepted');
-- accepted ones are not made again
DO $$ BEGIN PERFORM crm.render_document((SELECT max(id) FROM made)); EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE WARNING '%', regexp_replace(SQLERRM, 'КП-2026-[0-9]+', 'NUMBER'); END $$;
-- a function that makes nothing
CREATE FUNCTION crm.test_render(document_id bigint) RETURNS crm.document_rendering LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT NULL::bytea, '', NULL $$;
ALTER FUNCTION crm.test_render(bigint) OWNER TO crm_owner;
SELECT crm.register_document_kind('test_act', 'ACT', 'Акт', 'Act', 'crm.test_render');
SELECT crm.make_document('test_act', 'test', 1, NULL);
-- who sees what
SET LOCAL ROLE crm_manager;
SELECT count(*) FROM crm.document;
SET LOCAL ROLE crm_bi_reader;
SELECT document_id = (SELECT max(document_id) FROM crm_bi.document) AS last, kind, company, state, bytes > 0 AS bytes, length(sha256) AS sha256, version, letters FROM crm_bi.document WHERE object_id BETWEEN 90001 AND 90002 ORDER BY document_id;
SELECT content FROM crm.document_file LIMIT 1;
SET LOCAL ROLE crm_director;
SELECT count(content) FROM crm.document_file WHERE document_id IN (SELECT document_id FROM crm_bi.document WHERE object_id = 90001);
ROLLBACK;
