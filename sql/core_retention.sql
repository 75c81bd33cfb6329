-- Retention: nothing is dropped unless it was chosen; then whole parts go, oldest first, when nothing needs them; facts cannot be named.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2027-06-15 12:00Z', 0);
SELECT crm.activate('live');
SELECT what, keep, chosen, default_keep, minimum, follows FROM crm.retention ORDER BY 1;
SELECT crm.set_retention('crm.event', '1 year');
SELECT crm.set_retention(NULL, NULL);
SELECT crm.set_retention('crm.message_history', '10 days');
-- a table of its own with a part for each month, and a guard that holds one of them
CREATE TABLE crm.core_part (id bigint NOT NULL, at timestamptz NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE crm.core_part OWNER TO crm_owner;
CREATE FUNCTION crm.core_part_free(part regclass, upto timestamptz) RETURNS boolean LANGUAGE sql AS $$ SELECT part::text <> 'crm.core_part_202703' $$;
GRANT EXECUTE ON FUNCTION crm.core_part_free TO crm_owner;
SELECT crm.register_partitioned('crm.core_part', 'at', 'month', ARRAY['CREATE UNIQUE INDEX ON crm.%1$I (id)']);
SELECT crm.register_retention('crm.core_part', NULL, '1 month', 'a table of this test', guard => 'crm.core_part_free');
SELECT crm.make_partitions('crm.core_part', '2027-01-01', '2027-06-01');
CREATE VIEW pg_temp.parts AS SELECT string_agg(right(c.relname, 6), ' ' ORDER BY c.relname) FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid WHERE h.inhparent = 'crm.core_part'::regclass AND right(c.relname, 6) BETWEEN '202701' AND '202706';
CREATE VIEW pg_temp.late AS SELECT message FROM crm.retention_health() WHERE message LIKE '%core_part%';
SELECT FROM crm.retention_drop();
TABLE pg_temp.parts;
SELECT crm.set_retention('crm.core_part', '2 months');
SELECT FROM crm.retention_drop();
TABLE pg_temp.parts;
SELECT FROM crm.retention_drop();
SELECT FROM crm.retention_drop();
TABLE pg_temp.parts;
TABLE pg_temp.late;
-- a part that a view of the DBA names stays, and stops nothing else
SELECT crm.register_retention('crm.core_part', NULL, '1 month', 'a table of this test');
CREATE VIEW crm.core_part_view AS SELECT * FROM crm.core_part_202703;
SELECT FROM crm.retention_drop();
DROP VIEW crm.core_part_view;
SELECT FROM crm.retention_drop();
TABLE pg_temp.parts;
TABLE pg_temp.late;
-- for ever again
SELECT crm.set_retention('crm.core_part', NULL);
SELECT FROM crm.retention_drop();
TABLE pg_temp.parts;
SELECT crm.set_retention('crm.core_part', '1 month');
SELECT FROM crm.retention_drop();
TABLE pg_temp.parts;
-- what follows is kept no longer than what it follows
SELECT crm.set_retention('crm.message_attempt', '12 months'), crm.set_retention('crm.message_history', '6 months');
SELECT what, keep FROM crm.retention WHERE what LIKE 'crm.message%' ORDER BY 1;
ROLLBACK;
