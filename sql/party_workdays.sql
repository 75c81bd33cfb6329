-- claim 95: N working days later, against a walk from day to day
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT v.at, v.n, crm.working_days_later(v.at, v.n) AS later FROM (VALUES
	('2026-11-27 15:00+03'::timestamptz, 3), ('2026-11-27 15:00+03', 0), ('2026-11-28 15:00+03', 0), ('2026-11-28 15:00+03', 1), ('2026-12-30 09:00+03', 2),
	('2026-11-30 10:00+03', -1), ('2027-01-11 10:00+03', -1), ('2026-11-27 23:30+03', 1)) AS v(at, n);
SELECT crm.working_days_later('2026-11-27 15:00+03', 1, 'always') AS always, crm.working_days_later('2026-11-27 22:00+03', 1, 'office', 'Asia/Vladivostok') AS east;
-- the oracle: step by step with crm.is_working_day()
CREATE FUNCTION pg_temp.walk(day date, n integer) RETURNS date LANGUAGE plpgsql AS $$
BEGIN
	WHILE n <> 0 LOOP
		day := day + sign(n)::integer;
		IF crm.is_working_day(day) THEN n := n - sign(n)::integer; END IF;
	END LOOP;
	RETURN day;
END $$;
SELECT count(*) AS tried, count(*) FILTER (WHERE (crm.working_days_later(d + time '11:00', n) AT TIME ZONE 'Europe/Moscow')::date <> pg_temp.walk(d::date, n)) AS wrong
FROM generate_series('2026-04-20'::timestamp, '2026-05-20', '1 day') AS d, unnest(ARRAY[-12, -3, -1, 1, 2, 7, 25]) AS n;
-- days numbered: a difference of numbers is a count of working days
WITH w AS MATERIALIZED (SELECT * FROM crm.working_day_numbers('2026-04-20', '2026-05-20'))
SELECT count(*) AS pairs, count(*) FILTER (WHERE b.n - a.n <> (SELECT count(*) FROM generate_series(a.day + 1, b.day, '1 day') g WHERE crm.is_working_day(g::date))) AS wrong
FROM w a JOIN w b ON b.calendar_code = a.calendar_code AND b.day > a.day WHERE a.calendar_code = 'office' AND extract(day FROM a.day) % 5 = 0;
\set VERBOSITY terse
SELECT crm.working_days_later('infinity', 1);
SELECT crm.working_days_later('2026-11-27 15:00+03', 2001);
SELECT crm.working_days_later('2026-11-27 15:00+03', 1, 'nope');
ROLLBACK;
