-- An append-only table refuses UPDATE, DELETE and TRUNCATE, for its owner too.
\pset format unaligned
\pset tuples_only on
BEGIN;
CREATE TABLE core_log (id int);
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON core_log FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only();
INSERT INTO core_log VALUES (1);
SAVEPOINT s;
UPDATE core_log SET id = 2;
ROLLBACK TO s;
DELETE FROM core_log;
ROLLBACK TO s;
TRUNCATE core_log;
ROLLBACK TO s;
SELECT crm.append_only();
ROLLBACK TO s;
SELECT * FROM core_log;
ROLLBACK;
