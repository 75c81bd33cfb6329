-- What could not be used: bytes cut at 64 kB, the same thing once, old rows dropped; counts that do not add up show in crm.health.
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
BEGIN;
SET LOCAL client_min_messages = warning;
SET LOCAL TimeZone = 'UTC';
SELECT crm.activate('off');
SELECT crm.set_now('2026-03-01 10:00+03', 0) IS NOT NULL;
SELECT crm.register_kind('x_k', NULL, NULL);
SELECT crm.add_integration('one', 'x_k', 'http://127.0.0.1:1') AS one \gset
SELECT crm.reject(:one, 'unit 5', 'no position', '22023', convert_to(repeat('x', 100000), 'UTF8')) = crm.reject(:one, 'unit 5', 'no position', '22023', convert_to(repeat('x', 100000), 'UTF8')) AS same_row;
SELECT crm.reject(:one, 'unit 5', 'no position', '22023', convert_to(repeat('x', 100001), 'UTF8')) IS NOT NULL;
SELECT crm.reject(NULL, 'unit 5', repeat('long ', 1000), NULL) IS NOT NULL;
SELECT what, left(reason, 12), length(reason), sqlstate, octet_length(bytes), bytes_length, seen, at = crm.now() FROM crm.rejected ORDER BY id;
SELECT crm.set_now('2026-03-02 10:00+03', 0) IS NOT NULL;
SELECT crm.reject(:one, 'unit 5', 'no position', '22023', convert_to(repeat('x', 100000), 'UTF8')) IS NOT NULL;
SELECT seen, last_at - at FROM crm.rejected WHERE seen > 1;
SELECT crm.set_now('2026-05-31 10:00+03', 0) IS NOT NULL;
SELECT crm.integration_maintain();
SELECT count(*), max(seen) FROM crm.rejected;
-- rows there = rows here + rejected
SELECT crm.record_completeness(:one, '[2026-03-01,2026-03-02)', 10, 9, 1);
SELECT count(*) FROM crm.health WHERE subject = 'integration one';
SELECT crm.record_completeness(:one, '[2026-03-02,2026-03-03)', 10, 7, 1, 'positions');
SELECT severity, message, since = crm.now() FROM crm.health WHERE subject = 'integration one';
SELECT promise, ok, evidence FROM crm.selftest() WHERE promise LIKE 'rows there%';
SELECT crm.record_completeness(:one, '[2026-03-02,2026-03-03)', 10, 9, 1, 'positions');
SELECT count(*) FROM crm.health WHERE subject = 'integration one';
ROLLBACK;
