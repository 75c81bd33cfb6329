-- The one clock: moved, slowed to a stop, put back; bounds are refused with the value and a hint.
\set VERBOSITY verbose
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET timezone = 'UTC';
\set VERBOSITY default
SELECT abs(extract(epoch FROM crm.now() - now())) < 1 AS real_time;
BEGIN;
SELECT crm.set_now('2026-03-01 09:00Z', 0);
SELECT crm.now(), crm.clock();
SELECT crm.set_now('2026-03-01 10:00Z', 3600);
SELECT pg_sleep(0.05);
SELECT crm.clock() > '2026-03-01 10:01Z' AS runs_fast, crm.now() = '2026-03-01 10:00Z' AS transaction_stands;
SAVEPOINT s;
SELECT crm.set_now('infinity');
ROLLBACK TO s;
SELECT crm.set_now('1900-01-01');
ROLLBACK TO s;
SELECT crm.set_now('2026-03-01', 'NaN');
ROLLBACK TO s;
SELECT crm.set_now('2026-03-01', -1);
ROLLBACK TO s;
SELECT crm.reset_now() = now() AS real_again;
ROLLBACK;
SELECT abs(extract(epoch FROM crm.now() - now())) < 1 AS real_time_after_rollback;
-- another session sees the moved clock after the commit, and real time after the reset
SELECT crm.set_now('2026-03-01 09:00Z', 0);
\c -
SET timezone = 'UTC';
SELECT crm.clock();
SELECT crm.reset_now() = now() AS real_again;
\c -
SELECT abs(extract(epoch FROM crm.clock() - now())) < 1 AS real_time;
SELECT a.x <= b.x AS monotonic FROM (SELECT crm.monotonic_ms() AS x) a, (SELECT crm.monotonic_ms() AS x) b;
-- a plain role may look at the clock and not move it
CREATE ROLE core_clock_plain;
GRANT USAGE ON SCHEMA crm TO core_clock_plain;
SET ROLE core_clock_plain;
SELECT crm.now() IS NOT NULL AS may_look;
SELECT crm.set_now('2026-03-01');
INSERT INTO crm.clock_state (base_real, base_business, rate) VALUES (now(), now(), 1);
RESET ROLE;
REVOKE USAGE ON SCHEMA crm FROM core_clock_plain;
DROP ROLE core_clock_plain;
