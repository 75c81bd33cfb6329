-- crm.forget() reaches what a carrier's people have explained: words, files that no program can search, kept answers of links.
-- Another one's explanation stays as it is, and so do hashes and counts.
\getenv abs_srcdir PG_ABS_SRCDIR
\set setup :abs_srcdir '/test/data/robots.sql'
\set ECHO none
\i :setup
\set ECHO all
INSERT INTO crm.company (id, name, is_carrier) VALUES (901, 'Stroy', false), (902, 'Haul', true), (903, 'Alone', true);
INSERT INTO crm.contact (id, company_id, name) VALUES (901, 902, 'Фёдор'), (902, 902, 'Anna Petrova'), (903, 903, 'Сам');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (901, 'phone', '+79161234561'), (902, 'phone', '+79161234562'), (903, 'phone', '+79161234563');
INSERT INTO crm.place (id, name, kind) VALUES (901, 'Plant', 'plant');
INSERT INTO crm.vehicle (id, plate, carrier_id) VALUES (901, 'T1', 902), (902, 'T2', 902), (903, 'T3', 903);
INSERT INTO crm.slot (id, vehicle_id, place_id, planned_from) SELECT 900 + i, 900 + i, 901, '2026-11-24 08:00Z' FROM generate_series(1, 3) i;
SELECT crm.explain_slot(901, 'ФЁДОР заболел, звоните 8 (916) 123-45-61', '{photo.jpg,фёдор.txt}', '{image/jpeg,text/plain}', ARRAY['\xffd8ff00'::bytea, convert_to('от Фёдора', 'UTF8')]) > 0,
	crm.explain_slot(902, 'Road closed. Anna Petrova', '{road.jpg,list.txt}', '{image/jpeg,text/plain}', ARRAY['\xffd8ff01'::bytea, convert_to('водитель Фёдор', 'UTF8')]) > 0,
	crm.explain_slot(903, 'A flat tyre', '{tyre.jpg}', '{image/jpeg}', ARRAY['\xffd8ff02'::bytea]) > 0;
-- the answer that the page keeps for a second click
INSERT INTO crm.link (purpose, token_hash, object_kind, object_id, company_id) VALUES ('carrier', sha256('x'), 'slot', 901, 902) RETURNING id AS link \gset
INSERT INTO crm.link_use (link_id, fingerprint, status, body) VALUES (:link, sha256('a'), 200, convert_to('<p>Фёдор</p>', 'UTF8')), (:link, sha256('b'), 200, convert_to('<p>Принято</p>', 'UTF8'));
CREATE VIEW pg_temp.shown AS SELECT e.slot_id, e.text_, f.name, encode(f.content, 'escape') AS content FROM crm.explanation e LEFT JOIN crm.explanation_file f ON f.explanation_id = e.id ORDER BY e.id, f.id;
CREATE TEMP TABLE before AS SELECT (SELECT string_agg(hash, ' ' ORDER BY id) FROM crm.explanation) AS hashes;
SELECT what, changed FROM crm.forget(901) WHERE what IN ('crm.explanation', 'crm.explanation_file', 'crm.link_use');
SELECT slot_id, text_, regexp_replace(name, '\d+$', 'N'), content FROM pg_temp.shown;
SELECT convert_from(body, 'UTF8') FROM crm.link_use ORDER BY fingerprint <> sha256('a');
SELECT count(*) FROM crm.forget(901);
-- the only one of his company: its files are his
SELECT what, changed FROM crm.forget(903) WHERE what = 'crm.explanation';
SELECT slot_id, text_, regexp_replace(name, '\d+$', 'N'), content FROM pg_temp.shown WHERE slot_id = 903;
SELECT string_agg(e.hash, ' ' ORDER BY e.id) = (SELECT hashes FROM before) FROM crm.explanation e;
SELECT crm.forget(902) IS NOT NULL LIMIT 1;
SELECT text_ FROM pg_temp.shown WHERE slot_id = 902 LIMIT 1;
ROLLBACK;
