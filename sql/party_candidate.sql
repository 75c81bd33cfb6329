-- Names as they are compared, their likeness (the oracle is pg_trgm), all pairs that are alike (the oracle compares each with each), and the candidates.
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
SELECT n, crm.party_norm_name(n) FROM unnest(ARRAY['ООО «Ромашка»', 'Общество с ограниченной ответственностью "РОМАШКА"', 'Ромашка, ООО', 'О.О.О. Ромашка', 'OOO Romashka Ltd.',
	'Ромaшка', 'ИП Иванов И.П.', 'АО "Торговый дом Ёлка"', 'ООО', 'Завод №1', 'Рома' || chr(173) || 'шка', 'СТРОИ' || chr(774) || 'ДОМ', 'O''Neil & Co', '', ' - ', repeat('я', 1200)]) WITH ORDINALITY AS t(n, i) WHERE length(n) < 100 ORDER BY i;
SELECT length(crm.party_norm_name(repeat('я', 1200)));
SELECT n, crm.address_norm(n) FROM unnest(ARRAY['123456, г. Москва, ул. Ленина, д.5, корп. 2, оф. 10', 'Россия, Москва, Ленина ул., 5 к2 10', 'Московская обл., дер. Ивановка, 7а']) AS n;
CREATE SCHEMA x_trgm;
CREATE EXTENSION pg_trgm SCHEMA x_trgm;
CREATE TEMP TABLE names AS
	SELECT g AS id, crm.party_norm_name((ARRAY['Строй', 'Бетон', 'Ромашка', 'Цемент', 'Завод', 'Торг'])[1 + g % 6] || (ARRAY['сервис', 'маркет', ' плюс', 'групп', ''])[1 + g % 5] || ' ' || left(md5(g::text), 1 + g % 4)) AS n
	FROM generate_series(1, 400) g;
SELECT count(*) FROM names a, names b WHERE abs(crm.name_similarity(a.n, b.n) - x_trgm.similarity(a.n, b.n)) > 0.00001;
SELECT t.least, (SELECT count(*) FROM names a JOIN names b ON a.id < b.id AND crm.name_similarity(a.n, b.n) >= t.least) = s.n AS as_many, s.wrong
FROM unnest(ARRAY[0.3, 0.5, 0.625, 0.8, 1]::real[]) AS t(least)
CROSS JOIN LATERAL (SELECT count(*) AS n, count(*) FILTER (WHERE p.score <> crm.name_similarity(a.n, b.n)) AS wrong
	FROM crm.similar_names((SELECT array_agg(id ORDER BY id) FROM names), (SELECT array_agg(n ORDER BY id) FROM names), t.least) p JOIN names a ON a.id = p.first_id JOIN names b ON b.id = p.second_id) s;
SELECT max(n) FROM (SELECT count(*) AS n FROM crm.similar_names(ARRAY[1, 2, 3, 4], ARRAY['aaaa', 'aaaa', 'aaaa', 'aaaa'], 0.5, 1)) x;
SELECT * FROM crm.similar_names(ARRAY[1, 2, NULL], ARRAY['ромашка', NULL, 'ромашка'], 0.5);
SELECT * FROM crm.similar_names(ARRAY[1], ARRAY['a', 'b'], 0.5);
SELECT * FROM crm.similar_names(ARRAY[1], ARRAY['a'], 'NaN');
SELECT * FROM crm.similar_names(ARRAY[1], ARRAY['a'], 0.5, -1);
-- candidates, with their reasons
INSERT INTO crm.company (id, name, inn, kpp, source, source_id) VALUES (90001, 'ООО "Ромашка"', '7707083893', '770701001', 'manual', NULL), (90002, 'Ромашка, АО', NULL, NULL, 'manual', NULL),
	(90003, 'Ромашка', '500100732259', NULL, 'manual', NULL), (90004, 'Завод ЖБИ 1', NULL, NULL, 'manual', NULL), (90005, 'Завод ЖБИ 2', NULL, NULL, 'manual', NULL),
	(90006, 'Совсем другое имя', '7707083893', NULL, 'erp', 'C-6'), (90007, 'Рамашка', NULL, NULL, 'manual', NULL), (90008, 'Нечто', NULL, NULL, 'manual', NULL);
INSERT INTO crm.contact (id, company_id, name) VALUES (90001, 90001, 'Иван Петров'), (90002, 90007, 'Пётр'), (90003, 90001, 'Петров Иван'), (90004, 90008, 'Иван Петров');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (90001, 'phone', '+74951234567'), (90002, 'phone', '+74951234567');
INSERT INTO crm.address (company_id, text) VALUES (90004, 'Москва, ул. Ленина, 5'), (90008, 'г. Москва, Ленина, д5');
SELECT crm.find_duplicates();
SELECT object_kind, first_id, second_id, score, reasons FROM crm.duplicate_candidates ORDER BY 1, 2, 3;
SELECT crm.dismiss_duplicate('company', 90002, 90001, 'two brothers');
SELECT crm.dismiss_duplicate('company', 90001, 90008);
SELECT crm.find_duplicates(), crm.find_duplicates();
SELECT count(*) FROM crm.duplicate_candidates WHERE second_id = 90002;
-- a name that changed is another one; nothing is kept that has no reason any more
UPDATE crm.company SET name = 'Василёк' WHERE id = 90003;
SELECT crm.find_duplicates();
SELECT object_kind, first_id, second_id, score, reasons FROM crm.duplicate_candidates ORDER BY 1, 2, 3;
SELECT state FROM crm.duplicate WHERE second_id = 90003;
-- asked for one: by everything, by a name with a mistake, by nothing that can be read
SELECT * FROM crm.party_find(NULL, 'Ромашка', '7707083893', '770701001', '8 495 123-45-67', 'nobody@a.ru');
SELECT * FROM crm.party_find('company', 'ООО Василек');
SELECT * FROM crm.party_find('company', 'Василек плюс');
SELECT * FROM crm.party_find('contact', 'x', NULL, NULL, 'not a phone', 'not an address');
SELECT * FROM crm.party_find('ship', 'x');
ROLLBACK;
