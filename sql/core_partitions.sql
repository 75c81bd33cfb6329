-- Partitions are made once, with their indexes, owned by crm_owner, for bounded times only.
\pset format unaligned
\pset tuples_only on
BEGIN;
CREATE TABLE crm.core_part (id bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE crm.core_part OWNER TO crm_owner;
SELECT crm.register_partitioned('crm.core_part', 'at', 'month', ARRAY['CREATE UNIQUE INDEX ON crm.%1$I (id)']);
SELECT crm.make_partitions('crm.core_part', '2026-01-31 23:00Z', '2026-03-01 00:00Z');
SELECT crm.make_partitions('crm.core_part', '2026-01-01', '2026-03-02');
SELECT c.relname, pg_get_userbyid(c.relowner), count(i.*) FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid LEFT JOIN pg_index i ON i.indrelid = c.oid
WHERE h.inhparent = 'crm.core_part'::regclass GROUP BY 1, 2 ORDER BY 1;
INSERT INTO crm.core_part VALUES (1, '2026-02-28 23:59:59Z');
SAVEPOINT s;
SELECT crm.make_partitions('crm.core_part', '2026-01-01', 'infinity');
ROLLBACK TO s;
SELECT crm.make_partitions('crm.core_part', '2026-01-01', '2126-01-01');
ROLLBACK TO s;
SELECT crm.make_partitions('pg_class', '2026-01-01', '2026-01-01');
ROLLBACK;
