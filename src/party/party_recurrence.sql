-- Recurrence rules, counted by libical in a library of its own that is loaded at the first call.

CREATE OR REPLACE FUNCTION crm.rrule_check(rrule text) RETURNS void
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm_text', 'crm_party_rrule_check';
COMMENT ON FUNCTION crm.rrule_check(text) IS
'Refuses a text that is no recurrence rule of RFC 5545 (section 3.3.10), or one that we do not count: 22023, the fault in DETAIL. FREQ from YEARLY to HOURLY, and MINUTELY with an INTERVAL of 5 to 720; INTERVAL up to 1000, COUNT up to 10000, UNTIL; BYMONTH, BYWEEKNO, BYYEARDAY, BYMONTHDAY, BYDAY, BYHOUR, BYMINUTE (12 values), BYSECOND (one), BYSETPOS (with one hour and minute), WKST. A rule that never comes (30 February) is refused too';

CREATE OR REPLACE FUNCTION crm.rrule_next(rrule text, starts_at timestamptz, zone text, after timestamptz) RETURNS timestamptz
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS '$libdir/crm_text', 'crm_party_rrule_next';
COMMENT ON FUNCTION crm.rrule_next(text, timestamptz, text, timestamptz) IS
'The first moment of a recurrence rule behind "after" and not before starts_at (DTSTART); NULL: none comes any more. The rule counts by the clock on the wall of the zone (IANA name), so that 09:00 stays 09:00 when the clocks change; a time that they leap over comes as long after the leap as it lies behind its beginning (02:30 as 03:30), one that comes twice is the second one, as AT TIME ZONE has it. What the rule does not say (BYHOUR, BYDAY, …) is that of starts_at; starts_at itself is a moment only where the rule meets it. Errors: 22023 a bad rule (crm.rrule_check) or zone, 22008 times outside of 1970 to 2200';
