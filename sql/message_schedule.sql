-- Schedules: each planned moment runs once; what was missed is noted and only the newest of it runs; days off move moments;
-- an action that fails stops no other (claim 52).
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 06:30Z', 0);
SELECT crm.activate('live');
CREATE TABLE public.done (schedule text, planned_at timestamptz);
GRANT INSERT ON public.done TO crm_courier;
GRANT SELECT ON crm.schedule TO crm_courier;
CREATE FUNCTION public.note(schedule_id bigint, planned_at timestamptz) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.done SELECT s.code, $2 FROM crm.schedule s WHERE s.id = $1 $$;
CREATE FUNCTION public.break(schedule_id bigint, planned_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.done VALUES ('half done', planned_at);
	PERFORM 1 / 0;
END $$;
CREATE FUNCTION public.slow(schedule_id bigint, planned_at timestamptz) RETURNS void LANGUAGE sql AS 'SELECT pg_catalog.pg_sleep(20)';
CREATE FUNCTION public.nothing(schedule_id bigint) RETURNS void LANGUAGE sql AS '';
GRANT EXECUTE ON FUNCTION public.note, public.break, public.slow TO crm_courier;
SELECT crm.register_schedule_action('note', 'public.note'), crm.register_schedule_action('break', 'public.break'), crm.register_schedule_action('slow', 'public.slow');
SELECT crm.register_schedule_action('nothing', 'public.nothing');
CREATE FUNCTION pg_temp.tell() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s %s %s', s.code, r.planned_at, r.result, r.words) FROM crm.schedule_run r JOIN crm.schedule s ON s.id = r.schedule_id ORDER BY s.code, r.planned_at $$;

-- what is refused
SELECT crm.add_schedule('x', 'sing', 'FREQ=DAILY', '2026-11-01 07:00Z', 'Europe/Moscow');
SELECT crm.add_schedule('x', 'note', 'FREQ=DAYLY', '2026-11-01 07:00Z', 'Europe/Moscow');
SELECT crm.add_schedule('x', 'note', 'FREQ=DAILY', '2026-11-01 07:00Z', 'Moscow');
SELECT crm.add_schedule('x', 'note', 'FREQ=DAILY;INTERVAL=7;BYDAY=MO', '2026-11-01 07:00Z', 'Europe/Moscow');
SELECT crm.add_schedule('x', 'note', 'FREQ=WEEKLY;BYDAY=SU', '2026-11-01 07:00Z', 'Europe/Moscow', 'skip');
SELECT crm.switch_schedule('x', false);

-- 10:00 in Moscow: not before its time, then once
SELECT crm.add_schedule('ten', 'note', 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0;BYSECOND=0', '2026-11-01 00:00Z', 'Europe/Moscow') > 0;
SELECT next_at FROM crm.schedule;
SELECT crm.schedule_due() IS NULL;
SELECT crm.set_now('2026-11-24 06:59:59.9Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT * FROM public.done;
SELECT crm.set_now('2026-11-24 07:00Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT crm.schedule_due() IS NULL;
SELECT * FROM public.done;
SELECT next_at, last_at FROM crm.schedule;
-- saved again it runs no moment twice
UPDATE crm.schedule SET rrule = 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0,5;BYSECOND=0', next_at = '2026-11-24 07:00Z';
SELECT next_at FROM crm.schedule;
UPDATE crm.schedule SET next_at = '2026-11-24 07:00Z', due_at = '2026-11-24 07:00Z';
SELECT crm.schedule_due() IS NULL;
SELECT count(*) FROM public.done;
-- when it is due by the clock of the courier, at the clock's own pace
SELECT crm.add_schedule('ten', 'note', 'FREQ=DAILY;BYHOUR=10;BYMINUTE=0;BYSECOND=0', '2026-11-01 00:00Z', 'Europe/Moscow') > 0;
SELECT crm.set_now('2026-11-25 06:00Z', 60);
SELECT (crm.schedule_due() - crm.monotonic_ms()) BETWEEN 50000 AND 60100;

-- a night off: the newest within catch_up runs, the others are noted
SELECT crm.set_now('2026-11-28 07:40Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT pg_temp.tell();
SELECT crm.set_now('2026-11-29 08:00:01Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT pg_temp.tell() OFFSET 5;
SELECT crm.switch_schedule('ten', false);
-- and a year off writes no hundred thousand rows
SELECT crm.add_schedule('often', 'note', 'FREQ=MINUTELY;INTERVAL=5', '2026-11-01 00:00Z', 'Europe/Moscow') > 0;
UPDATE crm.schedule SET catch_up = '12 minutes' WHERE code = 'often';
SELECT crm.set_now('2027-11-29 08:01Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT result, count(*), min(planned_at), max(planned_at), max(words) FROM crm.schedule_run r JOIN crm.schedule s ON s.id = r.schedule_id AND s.code = 'often' GROUP BY 1 ORDER BY 1;
SELECT crm.switch_schedule('often', false);

-- Friday 1 January 2027 to Sunday 10 January are days off, Monday 11 is worked; Tuesday 23 February too is one
SELECT crm.set_now('2026-12-31 00:00Z', 0);
SELECT h, r, array_to_string(ARRAY(
	WITH RECURSIVE w AS (
		SELECT crm.schedule_next(r, '2026-12-01 06:00Z', 'Europe/Moscow', h, 'office', '2026-12-29 00:00Z') AS at, 1 AS n
		UNION ALL SELECT crm.schedule_next(r, '2026-12-01 06:00Z', 'Europe/Moscow', h, 'office', at), n + 1 FROM w WHERE n < 5)
	SELECT to_char(at AT TIME ZONE 'Europe/Moscow', 'DD.MM Dy HH24:MI') FROM w), ', ')
FROM unnest(ARRAY['keep', 'skip', 'before', 'after']) h, unnest(ARRAY['FREQ=DAILY', 'FREQ=WEEKLY;BYDAY=SA', 'FREQ=DAILY;BYHOUR=9,18;BYMINUTE=0']) r;

-- an action that fails leaves nothing, stops no other, and tells
DELETE FROM public.done;
SELECT crm.add_schedule('a', 'break', 'FREQ=DAILY', '2026-12-01 06:00Z', 'Europe/Moscow') > 0, crm.add_schedule('b', 'note', 'FREQ=DAILY', '2026-12-01 06:00Z', 'Europe/Moscow') > 0;
SELECT crm.set_now('2026-12-31 06:00Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT * FROM public.done;
SELECT pg_temp.tell() WHERE true OFFSET 0 LIMIT 1;
SELECT what, reason, sqlstate, convert_from(bytes, 'UTF8') FROM crm.rejected;
SELECT severity, subject, message FROM crm.schedule_health() WHERE subject = 'schedule a';
SELECT crm.switch_schedule('a', false), crm.switch_schedule('b', false);
-- so does one that takes too long
SELECT crm.add_schedule('slow', 'slow', 'FREQ=DAILY', '2026-12-01 07:00Z', 'Europe/Moscow') > 0;
SELECT crm.set_now('2026-12-31 07:00Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT r.result, r.words FROM crm.schedule_run r JOIN crm.schedule s ON s.id = r.schedule_id AND s.code = 'slow';
SELECT crm.switch_schedule('slow', false);
-- a calendar that is gone
UPDATE crm.schedule SET holidays = 'skip', enabled = true WHERE code = 'ten';
ALTER TABLE crm.schedule DISABLE TRIGGER schedule_save;
UPDATE crm.schedule SET calendar_code = 'gone' WHERE code = 'ten';
ALTER TABLE crm.schedule ENABLE TRIGGER schedule_save;
SELECT crm.set_now('2027-01-11 07:00Z', 0);
SELECT crm.schedule_due() IS NULL;
SELECT broken FROM crm.schedule WHERE code = 'ten';
-- nothing while the mode is off
SELECT crm.add_schedule('b', 'note', 'FREQ=DAILY', '2026-12-01 06:00Z', 'Europe/Moscow') > 0;
SET crm.mode = 'off';
SELECT crm.set_now('2027-01-12 06:00Z', 0);
SELECT crm.schedule_due() IS NULL, (SELECT count(*) FROM public.done);
ROLLBACK;
