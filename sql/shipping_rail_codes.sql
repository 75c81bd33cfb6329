-- Codes of the railway: every recorded code is judged as it should be; numbers of waybills, times and the railway's day.
\set QUIET on
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/rail_etran/'
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO';
CREATE TEMP TABLE vector AS
	SELECT v.file, split_part(l.line, E'\t', 1) AS code, split_part(l.line, E'\t', 2) AS valid
	FROM (VALUES ('wagon_numbers'), ('esr_codes'), ('etsng_codes'), ('okpo_codes')) AS v(file)
	CROSS JOIN LATERAL string_to_table(convert_from(pg_read_binary_file(:'folder' || v.file || '.tsv'), 'UTF8'), E'\n') WITH ORDINALITY AS l(line, n)
	WHERE l.n > 1 AND l.line <> '';
\echo -- every vector: how many of each, how many judged right
SELECT v.file, v.valid, count(*), count(*) FILTER (WHERE (v.valid = 't') = CASE v.file
	WHEN 'wagon_numbers' THEN crm.wagon_number_ok(v.code) WHEN 'esr_codes' THEN crm.station_code_ok(v.code)
	WHEN 'etsng_codes' THEN crm.cargo_code_ok(v.code) ELSE crm.okpo_ok(v.code) END)
FROM vector v GROUP BY 1, 2 ORDER BY 1, 2;
\echo -- an oracle of its own: of the ten codes with the same first digits exactly one is right
SELECT v.file, count(*) FILTER (WHERE n.number <> 1) AS wrong FROM vector v
CROSS JOIN LATERAL (SELECT count(*) AS number FROM generate_series(0, 9) d
	WHERE CASE v.file WHEN 'esr_codes' THEN crm.station_code_ok(left(v.code, -1) || d) WHEN 'okpo_codes' THEN crm.okpo_ok(left(v.code, -1) || d) ELSE crm.cargo_code_ok(left(v.code, -1) || d) END) AS n
WHERE v.file <> 'wagon_numbers' AND length(v.code) IN (6, 8) GROUP BY 1 ORDER BY 1;
\echo -- the forms of one station; what is none
SELECT crm.station_code(c) FROM unnest('{985609,98560,9856,98569,887500,8875,02810,12,abcde,9856099}'::text[]) AS c;
\echo -- five digits have two readings: the one that is a station wins
BEGIN;
SELECT crm.load_stations(E'код;название;дорога\n985609;Мыс Астафьева;96\n"98001";"Станция ""Б""; вторая";83');
SELECT code, name, railway, crm.station_code_ok(code) FROM crm.station ORDER BY 1;
SELECT crm.station_of('98569'), crm.station_of('98001');
SELECT crm.load_stations(E'985609;Мыс Астафьева;96');
\set ON_ERROR_STOP off
SAVEPOINT s;
SELECT crm.load_stations(E'985609;А\nxx;Б');
ROLLBACK;
\echo -- OKPO with zeros that a sheet dropped; numbers of waybills with Latin letters
SELECT crm.okpo('1126022'), crm.okpo_ok(crm.okpo('1126022')), crm.okpo('x'), crm.waybill_number(' ЭT 000102'), crm.waybill_number('эт000102') = crm.waybill_number('ЭТ000102'), crm.waybill_number(' ');
\echo -- times as they come
SELECT w, crm.rail_time(w, 'Europe/Moscow') FROM unnest('{24.11.2026 00:41:07,24.11.2026 9:05,24.11.2026,2026-07-13T09:52:00.000,2026-11-23 22:53:00,0001-01-01T00:00:00,31.02.2026,29.02.2028,24.13.2026,24.11.2026 25:00,""}'::text[]) AS w;
\echo -- the day of the railway begins at 18:00 Moscow
SELECT crm.railway_day('2026-11-24 17:59:59+03'), crm.railway_day('2026-11-24 18:00:00+03'), crm.railway_day('2026-12-31 15:00:00+00');
