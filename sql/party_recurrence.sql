-- Recurrence rules: what is refused and why, and what the clock of the zone does to them (claim 52).
\set VERBOSITY default
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
CREATE FUNCTION pg_temp.refused(rule text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM crm.rrule_check(rule);
	RETURN 'taken';
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || detail;
END $$;
SELECT crm.rrule_check('FREQ=WEEKLY;BYDAY=XX');
SELECT r, pg_temp.refused(r) FROM unnest(ARRAY['', 'every day', 'FREQ=DAILY;', 'BYDAY=MO', 'FREQ=SECONDLY', 'FREQ=MINUTELY', 'FREQ=MINUTELY;INTERVAL=4',
	'FREQ=MINUTELY;INTERVAL=5', 'FREQ=DAILY;FREQ=DAILY', 'FREQ=DAILY;INTERVAL=0', 'FREQ=DAILY;INTERVAL=99999999999', 'FREQ=DAILY;COUNT=10001',
	'FREQ=DAILY;COUNT=1;UNTIL=20270101', 'FREQ=DAILY;UNTIL=20270230', 'FREQ=DAILY;UNTIL=20270228T235959Z', 'FREQ=DAILY;UNTIL=2027', 'FREQ=DAILY;BYHOUR=24',
	'FREQ=DAILY;BYHOUR=-1', 'FREQ=DAILY;BYHOUR=1,', 'FREQ=DAILY;BYMINUTE=0,1,2,3,4,5,6,7,8,9,10,11,12', 'FREQ=DAILY;BYSECOND=0,1', 'FREQ=MONTHLY;BYMONTHDAY=0',
	'FREQ=MONTHLY;BYMONTHDAY=-31', 'FREQ=WEEKLY;BYDAY=2MO', 'FREQ=MONTHLY;BYDAY=0MO', 'FREQ=MONTHLY;BYDAY=-1FR', 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30',
	'FREQ=MONTHLY;BYMONTH=4,6;BYMONTHDAY=31', 'FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29', 'FREQ=HOURLY;BYMONTHDAY=31;BYMONTH=2', 'FREQ=DAILY;BYWEEKNO=3',
	'FREQ=MONTHLY;BYSETPOS=1', 'FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1;BYHOUR=9,10', 'FREQ=DAILY;RSCALE=CHINESE', 'FREQ=DAILY;X=1', 'freq=daily', 'FREQ=WEEKLY;WKST=WE',
	'FREQ=DAILY;' || repeat('BYDAY=MO;', 60)]) r;

-- ten in the morning stays ten in the morning
SELECT crm.rrule_next('FREQ=DAILY;BYHOUR=10;BYMINUTE=0;BYSECOND=0', '2026-01-01 00:00Z', 'Europe/Berlin', a)
FROM unnest(ARRAY['2026-03-28 00:00Z', '2026-03-29 00:00Z', '2026-10-24 00:00Z', '2026-10-25 00:00Z']::timestamptz[]) a;
-- an hour that is leapt over, and one that comes twice
SELECT crm.rrule_next('FREQ=DAILY', '2026-03-01 01:30Z', 'Europe/Berlin', '2026-03-28 12:00Z'), crm.rrule_next('FREQ=DAILY', '2026-10-01 00:30Z', 'Europe/Berlin', '2026-10-24 12:00Z');
-- what is asked for is behind "after" and not before the start
SELECT crm.rrule_next('FREQ=DAILY', '2026-03-01 09:00Z', 'UTC', a) FROM unnest(ARRAY['2020-01-01 00:00Z', '2026-03-01 08:59:59Z', '2026-03-01 09:00Z', '2026-03-01 09:00:00.000001Z']::timestamptz[]) a;
-- it ends: by number, by a local hour, by an hour of UTC, by a day to its last second
SELECT r, crm.rrule_next(r, '2026-03-01 09:00Z', 'Europe/Moscow', '2026-03-02 09:00Z') FROM unnest(ARRAY['FREQ=DAILY;COUNT=2', 'FREQ=DAILY;COUNT=3',
	'FREQ=DAILY;UNTIL=20260303T115959', 'FREQ=DAILY;UNTIL=20260303T120000', 'FREQ=DAILY;UNTIL=20260303T085959Z', 'FREQ=DAILY;UNTIL=20260303T090000Z', 'FREQ=DAILY;UNTIL=20260303']) r;
-- a week is begun on Monday, so that its Sunday is its last day; moments before the start are not counted
SELECT r, crm.rrule_next(r, '2026-03-05 09:00Z', 'UTC', '2026-03-05 09:00Z') FROM unnest(ARRAY['FREQ=WEEKLY;INTERVAL=2;BYDAY=SU', 'FREQ=WEEKLY;INTERVAL=2;BYDAY=SU;WKST=SU',
	'FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;COUNT=2', 'FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;COUNT=1']) r;
-- a rule that its start never meets ends, soon
SELECT crm.rrule_next('FREQ=DAILY;INTERVAL=7;BYDAY=MO', '2026-03-01 09:00Z', 'UTC', '2026-03-02 09:00Z');
-- hours of a day, also where the rule begins before the first of them; steps that would pass over such hours are refused
SELECT crm.rrule_next('FREQ=HOURLY;BYHOUR=12,20', '2024-01-13 04:50Z', 'UTC', '2024-01-13 04:50Z'), crm.rrule_next('FREQ=HOURLY;BYHOUR=12', '2024-01-13 04:50Z', 'UTC', '2024-01-13 04:50Z'),
	crm.rrule_next('FREQ=MINUTELY;INTERVAL=20;BYHOUR=12', '2024-01-13 04:50Z', 'UTC', '2024-01-13 04:50Z');
SELECT crm.rrule_next('FREQ=HOURLY;INTERVAL=24;BYHOUR=3', '2026-03-01 09:00Z', 'UTC', '2026-03-02 09:00Z');
SELECT crm.rrule_next('FREQ=MINUTELY;INTERVAL=120;BYHOUR=3', '2026-03-01 10:00Z', 'UTC', '2026-03-02 09:00Z');
SELECT crm.rrule_next('FREQ=DAILY', '2026-03-01 09:00Z', 'Mars/Olympus', '2026-03-02 09:00Z');
SELECT crm.rrule_next('FREQ=DAILY', '2026-03-01 09:00Z', 'UTC', 'infinity');
SELECT crm.rrule_next('FREQ=DAILY', '1969-03-01 09:00Z', 'UTC', '2026-03-02 09:00Z');
