-- party: arithmetic of working days. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.working_days_later(at timestamptz, n integer, calendar text DEFAULT 'office', time_zone text DEFAULT NULL) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cal  crm.calendar := crm.calendar_check(calendar, time_zone);
	here timestamp;
	edge date;
	found_ date;
BEGIN
	IF at IS NULL OR n IS NULL THEN
		RETURN NULL;
	END IF;
	IF NOT isfinite(at) OR n NOT BETWEEN -2000 AND 2000 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('no working days to count: %s from %s', n, at),
			HINT = 'Give a finite time and at most 2000 days, forwards or back.';
	END IF;
	here := at AT TIME ZONE cal.time_zone;
	IF cal.round_the_clock THEN
		RETURN (here + n * interval '1 day') AT TIME ZONE cal.time_zone;
	END IF;
	-- n working days lie in fewer days than these, whatever the holidays
	edge := here::date + sign(n)::integer * (abs(n) * 2 + 31);
	IF n > 0 THEN
		SELECT h.day INTO found_ FROM (SELECT DISTINCT x.day FROM crm.working_hours(here::date + 1, edge, cal) x) h ORDER BY h.day OFFSET n - 1 LIMIT 1;
	ELSIF n < 0 THEN
		SELECT h.day INTO found_ FROM (SELECT DISTINCT x.day FROM crm.working_hours(edge, here::date - 1, cal) x) h ORDER BY h.day DESC OFFSET -n - 1 LIMIT 1;
	ELSE
		SELECT min(h.day) INTO found_ FROM crm.working_hours(here::date, here::date + 31, cal) h;
	END IF;
	IF found_ IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('calendar "%s" has no %s working days from %s', calendar, n, here::date),
			HINT = 'Look at its hours in crm.calendar_hours.';
	END IF;
	RETURN (found_ + here::time) AT TIME ZONE cal.time_zone;
END
$$;
COMMENT ON FUNCTION crm.working_days_later(timestamptz, integer, text, text) IS 'The n-th working day after a moment, at the same hour of that day, by a calendar (crm.calendar.code) and the zone (NULL: the calendar''s); n below 0 counts back, n = 0 is the day itself or the next one that is worked. Errors: 22023 unknown calendar or zone, more than 2000 days, a calendar without working days. Friday 15:00 and 3 is Wednesday 15:00 (claim 95).';

CREATE OR REPLACE FUNCTION crm.working_day_numbers(from_day date, to_day date) RETURNS TABLE (calendar_code text, day date, n integer)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp ROWS 1000 AS $$
	SELECT c.code, d.day::date,
		sum(CASE WHEN c.round_the_clock OR w.day IS NOT NULL THEN 1 ELSE 0 END) OVER (PARTITION BY c.code ORDER BY d.day)::integer
	FROM crm.calendar c
	CROSS JOIN generate_series(greatest($1, $2 - 7320)::timestamp, $2::timestamp, interval '1 day') AS d(day)
	LEFT JOIN LATERAL (
		SELECT DISTINCT h.day FROM crm.working_hours(greatest($1, $2 - 7320), $2, c.*) h
	) w ON w.day = d.day::date
$$;
COMMENT ON FUNCTION crm.working_day_numbers(date, date) IS 'Numbers the days of all calendars: n grows by one on each working day, so that the working days between two dates are the difference of their numbers. For views that count by sets; at most twenty years back from to_day, what lies before takes no number.';
