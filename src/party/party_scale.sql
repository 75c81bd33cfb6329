-- party: working time of many rows at once. Code: may be run any number of times.
--
-- crm.working_minutes() asks the calendar for each pair of times. Where a query counts working time for many rows it
-- asks once, for a scale of all openings between two times; on it the working minutes between two moments are the
-- difference of two positions.

CREATE OR REPLACE FUNCTION crm.working_scale(from_at timestamptz, to_at timestamptz, calendar text DEFAULT 'office', time_zone text DEFAULT NULL,
	OUT opens double precision[], OUT closes double precision[], OUT before double precision[])
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	cal crm.calendar := crm.calendar_check(calendar, time_zone);
BEGIN
	IF NOT (isfinite(from_at) AND isfinite(to_at)) OR from_at < timestamptz '1990-01-01 00:00Z' OR to_at > timestamptz '2200-01-01 00:00Z'
		OR to_at - from_at > interval '14640 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('cannot count working time from %s to %s', from_at, to_at),
			HINT = 'Give two times between 1990 and 2200, at most forty years apart.';
	END IF;
	IF cal.round_the_clock THEN
		opens := ARRAY[extract(epoch FROM from_at - interval '2 days')];
		closes := ARRAY[extract(epoch FROM to_at + interval '2 days')];
		before := ARRAY[0];
		RETURN;
	END IF;
	SELECT array_agg(q.opens ORDER BY q.opens), array_agg(q.closes ORDER BY q.opens), array_agg(q.before ORDER BY q.opens)
	INTO opens, closes, before
	FROM (SELECT h.opens, h.closes, coalesce(sum(h.closes - h.opens) OVER (ORDER BY h.opens ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) / 60 AS before
		FROM (SELECT date_part('epoch', w.opens) AS opens, date_part('epoch', w.closes) AS closes
			FROM crm.working_hours((from_at AT TIME ZONE cal.time_zone)::date - 1, (to_at AT TIME ZONE cal.time_zone)::date + 1, cal) w) h) q;
END
$$;
COMMENT ON FUNCTION crm.working_scale(timestamptz, timestamptz, text, text) IS 'All openings of a calendar between two times and a day around them, in seconds since 1970: opens, closes, and the working minutes before each. crm.working_position() reads it. Errors: 22023 unknown calendar or zone, 22008 times without end or more than forty years apart';

-- without SET, so that it is put in line: it runs for each row of a report
CREATE OR REPLACE FUNCTION crm.working_position(at timestamptz, opens double precision[], closes double precision[], before double precision[]) RETURNS double precision
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE WHEN at IS NOT NULL THEN coalesce(before[width_bucket(date_part('epoch', at), opens)]
		+ (least(date_part('epoch', at), closes[width_bucket(date_part('epoch', at), opens)]) - opens[width_bucket(date_part('epoch', at), opens)]) / 60, 0) END;
COMMENT ON FUNCTION crm.working_position(timestamptz, double precision[], double precision[], double precision[]) IS 'Where a moment lies on a scale of crm.working_scale(), in working minutes: the difference of two is the working time between them. 0 before its beginning, NULL for NULL';

CREATE OR REPLACE FUNCTION crm.working_before(at timestamptz, minutes double precision, calendar text DEFAULT 'office', time_zone text DEFAULT NULL) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s    record;
	want double precision;
	i    integer;
BEGIN
	IF minutes IS NULL OR NOT (minutes >= 0 AND minutes <= 525600) THEN
		RAISE EXCEPTION USING ERRCODE = '22003', MESSAGE = format('cannot go back %s working minutes', coalesce(minutes::text, 'NULL')), HINT = 'Give a number from 0 to 525600.';
	END IF;
	SELECT x.* INTO s FROM crm.working_scale(at - (10 + minutes / 60) * interval '1 day', at, calendar, time_zone) x;
	want := crm.working_position(at, s.opens, s.closes, s.before) - minutes;
	i := greatest(width_bucket(want, s.before), 1);
	RETURN to_timestamp(least(s.opens[i] + (want - s.before[i]) * 60, s.closes[i]));
END
$$;
COMMENT ON FUNCTION crm.working_before(timestamptz, double precision, text, text) IS 'The moment so many working minutes before another one: what happened later than that is less than so many working minutes old. Errors: 22023 unknown calendar or zone, 22003 minutes, 22008 a time without end';
