-- claim 1: two calendars live side by side, the plant's round the clock and the office's
-- Working time by weekly hours, the Russian production calendar and IANA zones.
SET datestyle = 'ISO, YMD';
SET timezone = 'Europe/Moscow';
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 10:00+03', 0);
-- Friday 17:50 to Monday 09:10 at 9 to 18 is 20 minutes; round the clock it is the difference
SELECT crm.working_minutes('2026-11-20 17:50+03', '2026-11-23 09:10+03') AS office, crm.working_minutes('2026-11-20 17:50+03', '2026-11-23 09:10+03', 'always') AS always;
-- half-open, snapped to the opening, fractions kept
SELECT crm.working_minutes('2026-11-23 06:00+03', '2026-11-23 09:00+03') AS before_opening,
	crm.working_minutes('2026-11-23 09:00+03', '2026-11-23 09:00:30+03') AS half_a_minute,
	crm.working_minutes('2026-11-23 18:00+03', '2026-11-24 09:00+03') AS night,
	crm.working_minutes('2026-11-23 12:00+03', '2026-11-23 11:00+03') AS backwards;
-- 3 November 2026 is short, the 4th a holiday
SELECT crm.working_minutes('2026-11-03 00:00+03', '2026-11-04 00:00+03') AS short, crm.working_minutes('2026-11-04 00:00+03', '2026-11-05 00:00+03') AS holiday;
-- a Saturday that is worked, and short: Friday's hours, one less
SELECT crm.working_minutes('2027-02-20 00:00+03', '2027-02-21 00:00+03') AS saturday, crm.is_working_day('2027-02-20') AS worked, crm.is_working_day('2027-02-21') AS sunday;
-- working days of the years, as published
SELECT extract(year FROM h.day)::int AS year, count(DISTINCT h.day) AS days
FROM crm.calendar c, crm.working_hours('2023-01-01', '2027-12-31', c) h WHERE c.code = 'office' GROUP BY 1 ORDER BY 1;
-- summer time: the night of 29 March is an hour shorter in Berlin, the working day is not
SELECT crm.working_minutes('2026-03-28 00:00+01', '2026-03-31 00:00+02', 'always', 'Europe/Berlin') AS always, crm.working_minutes('2026-03-28 00:00+01', '2026-03-31 00:00+02', 'office', 'Europe/Berlin') AS office;
SELECT crm.next_working_time('2026-12-30 20:00+03') AS after_the_thirtieth, crm.next_working_time('2026-11-23 12:00+03') AS now_,
	crm.is_working_time('2026-11-21 12:00+03') AS saturday, crm.is_working_time('2026-11-21 12:00+03', 'always') AS plant;
-- breaks, and rows that overlap count once
INSERT INTO crm.calendar (code, name) VALUES ('shop', 'with a break');
INSERT INTO crm.calendar_hours SELECT 'shop', w, o, c FROM generate_series(1, 7) w, (VALUES (480, 720), (600, 720), (780, 1020)) AS h(o, c);
SELECT crm.working_minutes('2026-11-23 00:00+03', '2026-11-24 00:00+03', 'shop') AS shop;
-- people: hours, leave, dismissal
INSERT INTO crm.employee (id, name, time_zone) VALUES (90001, 'A', 'Asia/Yekaterinburg'), (90002, 'B', 'Europe/Moscow');
INSERT INTO crm.absence (employee_id, days, kind, deputy_id) VALUES (90002, '[2026-11-20,2026-11-30)', 'leave', 90001);
SELECT crm.employee_works(90001, '2026-11-24 07:30+03') AS ural, crm.employee_works(90001, '2026-11-24 16:30+03') AS ural_evening, crm.employee_works(90002, '2026-11-24 12:00+03') AS on_leave;
INSERT INTO crm.absence (employee_id, days, kind) VALUES (90002, '[2026-11-29,2026-12-02)', 'sick');
-- once a year: the next calendar, as a file comes
SELECT crm.put_calendar(E'\uFEFFdate\tkind\r\n2028-01-03\tday_off\r\n2028-02-26\tshort\r\n2028-02-26\tworking\r\n') AS changed;
SELECT crm.put_calendar(E'2028-01-03\tday_off') AS changed, crm.is_working_day('2028-01-03') AS third, crm.is_working_day('2028-02-26') AS saturday;
SELECT crm.put_calendar('2028-13-01 working');
SELECT crm.put_calendar('2028-01-04 holiday');
-- what a DBA changed stands when the product ships again
UPDATE crm.calendar_day SET kind = 'working' WHERE day = '2027-01-08';
SELECT crm.ship_party();
SELECT kind, shipped_kind FROM crm.calendar_day WHERE day = '2027-01-08';
-- wrong words
SELECT crm.working_minutes('2026-11-23', '2026-11-24', 'nope');
SELECT crm.working_minutes('2026-11-23', '2026-11-24', 'office', 'Mars/Base');
SELECT crm.working_minutes('-infinity', '2026-11-24');
SELECT crm.working_minutes('1995-01-01', '2026-11-24');
SELECT crm.is_working_day('infinity');
ROLLBACK;
