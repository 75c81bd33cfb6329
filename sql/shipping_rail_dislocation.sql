-- Reports about wagons in every form that was seen give the same facts; an older one, one that lost its wagons, one that
-- cannot be read change nothing; twenty thousand rows at once are taken within seconds.
\set QUIET on
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/rail_etran/'
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT set_config('test.folder', :'folder', true) <> '';
SELECT crm.set_now('2026-11-24 01:30:00+03', 0);
SELECT crm.activate('live');
CREATE FUNCTION pg_temp.file(name text) RETURNS text LANGUAGE sql AS $$ SELECT crm.body_text(pg_read_binary_file(current_setting('test.folder') || name)) $$;
CREATE FUNCTION pg_temp.told(s crm.dislocation_snapshot) RETURNS text LANGUAGE sql AS
	$$ SELECT format('%s rows, %s wagons, %s new, %s unread%s%s', s.row_count, s.wagons, s.new_operations, s.unread, CASE WHEN s.whole THEN ', whole' END, ', refused: ' || s.refused) $$;
CREATE FUNCTION pg_temp.now_() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', g.number, n.phase, n.at, n.operation, n.station, n.destination, n.distance_left_km, n.idle_minutes, n.waybill_number, n.gone_at) FROM crm.wagon_now n JOIN crm.wagon g ON g.id = n.wagon_id ORDER BY g.number $$;

\echo -- the same snapshot as a flat list, in an envelope, as XML, as head and body: the facts once
SELECT pg_temp.told(crm.import_dislocation(pg_temp.file('dislocation_flat.json'), source => 'a'));
SELECT pg_temp.told(crm.import_dislocation(pg_temp.file('dislocation_wrapped.json'), source => 'a'));
SELECT pg_temp.told(crm.import_dislocation((crm.rail_tree(convert_to(pg_temp.file('rep_GetInformReply_SPV4664.xml'), 'UTF8'))).tree #>> '{getinformreply,asoupreply}', source => 'a'));
SELECT pg_temp.told(crm.import_dislocation(jsonb_build_object('data', jsonb_build_object('created_at', '24.11.2026 01:20', 'status', 'done', 'data', jsonb_build_object(
	'head', (SELECT jsonb_agg(k.key ORDER BY k.key) FROM jsonb_object_keys(f.rows -> 0) AS k(key)),
	'body', (SELECT jsonb_agg((SELECT jsonb_agg(v.value ORDER BY v.key) FROM jsonb_each(r.value) AS v)) FROM jsonb_array_elements(f.rows) AS r)))), source => 'form'))
FROM (SELECT pg_temp.file('dislocation_flat.json')::jsonb AS rows) AS f;
SELECT pg_temp.now_();
\echo -- the history of a wagon, some names with a J: three operations more, the newest stays
SELECT pg_temp.told(crm.import_dislocation(pg_temp.file('history601.json'), source => 'a'));
SELECT l.at, l.station, l.operation FROM crm.wagon_location l JOIN crm.wagon g ON g.id = l.wagon_id WHERE g.number = '60001112' ORDER BY 1;
\echo -- a sheet with Russian headings in its fourth line, codes in brackets, the time of standing in one cell
SELECT pg_temp.told(crm.import_dislocation(ARRAY[ARRAY['Справка о дислокации', '', '', '', '', '', '', ''], ARRAY['', '', '', '', '', '', '', ''], ARRAY['на 24.11.2026', '', '', '', '', '', '', ''],
	ARRAY['Номер вагона', 'Станция операции', 'Станция  назначения', 'Дата операции', 'Тип парка (П/Г)', 'Простой', 'Расстояние до станции назначения', 'Вес груза, т'],
	ARRAY['60001120', 'Мыс Астафьева (985609)', 'МЫС АСТАФЬЕВА (985609)', '24.11.2026 01:10', 'Груженый', '0:01:05', '0', '68,4'],
	ARRAY['94007770', 'Чита 1 (94100)', 'Мыс Астафьева (98560)', '23.11.2026 22:00:00', 'Порожний', '1:2:3', '1 694', '0']], source => 'cabinet'));
SELECT pg_temp.told(crm.import_dislocation(E'Номер вагона;Станция операции;Станция назначения;Дата операции;Тип парка (П/Г)\n"94007788";"Рабочая ""Б"" (850003)";"x\ny (985609)";24.11.2026 00:10;Груженый', source => 'csv'));
SELECT pg_temp.now_();
\echo -- a mapping of the DBA comes before what ships
SELECT crm.register_dislocation_column('mine', 10, '^Wagon$', 'wagon'), crm.register_dislocation_column('mine', 20, '^When$', 'at'), crm.register_dislocation_column('mine', 30, '^Where', 'station', 'digits6');
SELECT pg_temp.told(crm.import_dislocation('[{"Wagon": "94007796", "When": "2026-11-24 01:00", "Where is it": "Nakhodka (985609)"}]', 'mine', 'mine'));
\echo -- rows that cannot be read are kept and the rest goes on
SELECT pg_temp.told(crm.import_dislocation('[{"NOM_VAG": "60001112", "DATE_OP": "2026-11-24 01:25:00", "STAN_OP": "970001", "KOP_VMD": "92"}, {"NOM_VAG": "x"}, {"NOM_VAG": "60001112", "DATE_OP": "2031-01-01"}, {"NOM_VAG": "60001112", "DATE_OP": "0001-01-01"}, 7]', source => 'bad', whole => false));
SELECT what, reason, convert_from(bytes, 'UTF8') FROM crm.rejected ORDER BY id;
SELECT pg_temp.now_() LIMIT 1 OFFSET 1;
\echo -- errors, no list, unknown columns, an empty report
SELECT pg_temp.told(crm.import_dislocation('{"status": "error", "message": "no rights"}', source => 'e'));
SELECT pg_temp.told(crm.import_dislocation('{"data": {"returnCode": "5", "errorMessage": "нет"}}', source => 'e'));
SELECT pg_temp.told(crm.import_dislocation('{"a": 1}', source => 'e'));
SELECT pg_temp.told(crm.import_dislocation('[{"a": 1}]', source => 'e'));
SELECT pg_temp.told(crm.import_dislocation('[]', source => 'e'));
SAVEPOINT s;
SELECT crm.import_dislocation('[]', 'nothing');
ROLLBACK TO s;

\echo -- bulk: twenty thousand wagons, then twelve thousand of them later; the others have gone
CREATE FUNCTION pg_temp.many(number integer, hour integer) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_agg(jsonb_build_object('NOM_VAG', (50000000 + n)::text, 'DATE_OP', format('2026-11-23T%s:%s:00.000', lpad(hour::text, 2, '0'), lpad((n % 60)::text, 2, '0')), 'STAN_OP', '971305', 'STAN_NAZN', '985609', 'KOP_VMD', '2',
		'PPV_GRUJ', '1', 'NOM_NAK', 'ЭА' || lpad((n / 50)::text, 6, '0'), 'DATE_NACH', '2026-11-20T10:00:00', 'RASST_STAN_NAZN', lpad((n % 5000)::text, 10, '0'), 'PROST_DN', '0', 'PROST_CH', '3', 'PROST_MIN', '15', 'VES_GRZ', '69000', 'KOD_GRZ_UCH', '161128', 'INDEX_POEZD', '970001842982808'))
	FROM generate_series(1, number) n $$;
SELECT set_config('test.start', clock_timestamp()::text, true) <> '';
SELECT pg_temp.told(crm.import_dislocation(pg_temp.many(20000, 10), source => 'bulk', taken_at => '2026-11-23 11:00:00+03'));
SELECT pg_temp.told(crm.import_dislocation(pg_temp.many(12000, 12), source => 'bulk', taken_at => '2026-11-23 13:00:00+03'));
SELECT clock_timestamp() - current_setting('test.start')::timestamptz < interval '3 minutes' AS in_time;
SELECT count(*), count(waybill_id), count(DISTINCT waybill_id), min(at), max(at) FROM crm.wagon_now WHERE source = 'bulk';
SELECT count(*), sum(wagon_count), sum(weight_kg) FROM crm.waybill WHERE number LIKE 'ЭА%';
\echo -- refused: older than the one that is here; half of the wagons lost. Nothing changed, health says it
SELECT pg_temp.told(crm.import_dislocation(pg_temp.many(100, 11), source => 'bulk', taken_at => '2026-11-23 12:00:00+03'));
SELECT pg_temp.told(crm.import_dislocation(pg_temp.many(5000, 14), source => 'bulk', taken_at => '2026-11-23 15:00:00+03'));
SELECT count(*) FILTER (WHERE gone_at IS NOT NULL), max(at) FROM crm.wagon_now WHERE source = 'bulk';
SELECT severity, subject, message FROM crm.rail_health() WHERE subject = 'wagons of bulk';
\echo -- accepted by a person, the next is taken and the others have gone
SELECT crm.accept_dislocation('bulk'), crm.accept_dislocation('a');
SELECT pg_temp.told(crm.import_dislocation(pg_temp.many(5000, 14), source => 'bulk', taken_at => '2026-11-23 15:10:00+03'));
SELECT phase, count(*) FROM crm.wagon_now WHERE source = 'bulk' GROUP BY 1 ORDER BY 1;
SELECT severity, message FROM crm.rail_health() WHERE subject = 'wagons of bulk';
SELECT word, phase FROM (VALUES ('21'), ('92'), ('53'), ('4711')) AS v(word) LEFT JOIN crm.wagon_operation o ON o.code = v.word ORDER BY word;
ROLLBACK;
