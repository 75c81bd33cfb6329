-- Two companies are one: what hangs on the first goes over, what a report counts stays; taken back, every table is as before.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
BEGIN;
ALTER TABLE crm.merge ALTER id RESTART WITH 1;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
-- the oracle: a checksum of every table of crm but the logs of merges and of changes
CREATE FUNCTION pg_temp.sums() RETURNS TABLE (name text, sum text) LANGUAGE plpgsql AS $$
BEGIN
	FOR name IN SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'r' AND c.relname NOT IN ('merge', 'merge_row', 'clock_state') AND c.relname NOT LIKE 'change\_log%' LOOP
		EXECUTE format('SELECT md5(coalesce(string_agg(x::text, E''\n'' ORDER BY x::text), '''')) FROM %s x', name) INTO sum;
		RETURN NEXT;
	END LOOP;
END $$;
INSERT INTO crm.employee (id, name) VALUES (90001, 'A'), (90002, 'B');
INSERT INTO crm.company (id, name, inn, kpp, owner_id, is_carrier) VALUES (90001, 'ООО "Ромашка"', '7707083893', '770701001', 90001, true),
	(90002, 'Ромашка плюс', NULL, NULL, 90002, false), (90003, 'Третья', NULL, NULL, NULL, false);
INSERT INTO crm.contact (id, company_id, name, "position") VALUES (90001, 90001, 'Иван Петров', 'снабженец'), (90002, 90002, 'Иван', NULL), (90003, 90001, 'Зоя', NULL);
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '8 916 123-45-67'), (90001, 'email', 'ivan@a.ru'), (90001, 'phone', '+7 495 123-45-67'),
	(90002, 'phone', '+74951234567');
INSERT INTO crm.consent (contact_id, purpose, wording) VALUES (90001, 'processing', 'yes');
INSERT INTO crm.place (id, company_id, name) VALUES (90001, 90001, 'Склад');
INSERT INTO crm.address (company_id, kind, text) VALUES (90001, 'legal', 'г. Москва, ул. Ленина, 5'), (90002, 'legal', 'Москва, Ленина, д5'), (90001, 'postal', 'а/я 5');
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, contact_id, name, closed_at)
SELECT 90000 + n, f.id, s.id, 90001, 90001, 'deal ' || n, NULL FROM crm.funnel f JOIN crm.stage s ON s.funnel_id = f.id AND s.code = 'new', generate_series(1, 2) n WHERE f.code = 'delivery';
UPDATE crm.deal SET stage_id = (SELECT s.id FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = 'delivery' AND s.code = 'lost') WHERE id = 90002;
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, product) VALUES (90001, '1', 90001, 90001, 90001, 'cement');
INSERT INTO crm.schedule (code, contact_id, action, rrule, starts_at, zone) VALUES ('weekly', 90001, 'order_reminder', 'FREQ=WEEKLY', '2026-11-24 09:00', 'Europe/Moscow');
SELECT crm.add_task('call', 90001, '2026-11-30 10:00+03', 90001, 90001) > 0;
SELECT crm.set_now('2026-11-25 10:00+03', 0);
SELECT crm.find_duplicates();
SELECT object_kind, first_id, second_id, score, reasons FROM crm.duplicate_candidates ORDER BY 1, 2, 3;
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.sums();
SELECT crm.merge_companies(90001, 90002, 'same people') AS first \gset
SELECT crm.merge_contacts(90001, 90002) AS second \gset
SELECT m.object_kind, r.child, r.child_column, count(*) FROM crm.merge_row r JOIN crm.merge m ON m.id = r.merge_id GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
SELECT id, inn, kpp, is_carrier, owner_id, merged_into_id, archived_at FROM crm.company WHERE id > 90000 ORDER BY 1;
SELECT id, company_id, "position", merged_into_id, archived_at FROM crm.contact WHERE id > 90000 ORDER BY 1;
-- history stays with who had it; from the merge on both are B's
SELECT company_id, employee_id, during FROM crm.responsibility ORDER BY 1, 3;
SELECT id, company_id, contact_id FROM crm.customer_order;
SELECT count(*) FROM crm.duplicate_candidates;
-- what cannot be, and no ring
SELECT crm.merge_companies(90001, 90001);
SELECT crm.merge_companies(90001, 90003);
SELECT crm.merge_companies(90003, 90001);
SELECT crm.merge_companies(90002, 90001);
SELECT crm.merge_companies(90002, 1);
SELECT crm.merge_contacts(90002, 90001);
SELECT crm.set_responsible(90001, 90001);
-- a company that was merged is still who it was: no second one comes in
INSERT INTO crm.company (name, inn, kpp) VALUES ('x', '7707083893', '770701001');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90003, 'phone', '+7 (916) 123 45 67');
SELECT object_kind, object_id, score, reasons FROM crm.party_find(NULL, 'Ромашка', '7707083893', '770701001', '89161234567', NULL);
-- a chain; who has the last one has all
SELECT crm.merge_companies(90002, 90003) AS third \gset
SELECT crm.company_now(90001), crm.company_ids(90002), crm.contact_ids(90002);
SELECT id, owner_id FROM crm.company WHERE id > 90000 ORDER BY 1;
SELECT crm.set_now('2026-11-26 10:00+03', 0);
SELECT crm.set_responsible(90003, 90001);
SELECT id, owner_id FROM crm.company WHERE id > 90000 ORDER BY 1;
SELECT crm.set_responsible(90003, 90002);
-- taken back, not the last one first: as if it had never been
SELECT crm.unmerge(:first), crm.unmerge(:second), crm.unmerge(:third);
SELECT b.name FROM before b FULL JOIN pg_temp.sums() a USING (name) WHERE a.sum IS DISTINCT FROM b.sum ORDER BY 1;
SELECT crm.unmerge(:first);
SELECT crm.unmerge(NULL);
-- what came after the merge stays with the winner, what came for the loser's own id with the loser, what was given to a third one there
SELECT crm.merge_companies(90001, 90002) > 0;
INSERT INTO crm.contact (id, company_id, name) VALUES (90010, 90002, 'later');
INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (90002, '2', 90001, 'cement'), (90003, '3', 90002, 'cement');
UPDATE crm.contact SET company_id = 90003 WHERE id = 90003;
SELECT crm.unmerge_companies(90001);
SELECT id, company_id FROM crm.contact WHERE id > 90000 ORDER BY 1;
SELECT id, company_id FROM crm.customer_order ORDER BY 1;
SELECT crm.unmerge_companies(90001);
-- asleep: nothing is merged in a copy
SELECT crm.deactivate();
SELECT crm.merge_companies(90001, 90002);
ROLLBACK;
