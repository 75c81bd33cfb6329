-- Room for Citus: every table that is cut by time names a distribution key, every unique key of it contains that key, and none has a trigger without a reason; what breaks this is found.
\pset format unaligned
\pset tuples_only on
\set ON_ERROR_ROLLBACK on
SET client_min_messages = warning;
BEGIN;
SELECT crm.activate('live');
SELECT name, distribution_key, triggers IS NOT NULL AS has_triggers FROM crm.growing ORDER BY name COLLATE "C";
\echo wrong
SELECT * FROM crm.growing_wrong();
\echo and what is made wrong
CREATE TABLE crm.core_grown (id bigint NOT NULL, other bigint, at timestamptz NOT NULL) PARTITION BY RANGE (at);
ALTER TABLE crm.core_grown OWNER TO crm_owner;
SELECT crm.register_partitioned('crm.core_grown', 'at', 'month', ARRAY['CREATE UNIQUE INDEX ON crm.%1$I (at)']);
SELECT crm.make_partitions('crm.core_grown', '2026-01-01', '2026-01-01');
SELECT * FROM crm.growing_wrong();
SELECT crm.register_growing('crm.core_grown', 'other');
CREATE TRIGGER t BEFORE UPDATE ON crm.core_grown FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
SELECT * FROM crm.growing_wrong();
SELECT crm.register_growing('crm.core_grown', 'id', 'a reason');
SELECT * FROM crm.growing_wrong();
ROLLBACK;
