-- Activation: off until a person activates; bound to this server; a setting only lowers it; a plain role cannot raise it.
\pset format unaligned
\pset tuples_only on
SELECT crm.mode(), crm.guard(), crm.activation_problem();
SELECT severity, subject, message, hint FROM crm.health WHERE subject = 'activation';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate('loud');
ROLLBACK;
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT crm.activate();
SELECT crm.mode(), crm.guard(), crm.activation_problem() IS NULL;
SELECT count(*) > 0 AS keys_are_there, bool_and(convalidated) AS and_valid FROM pg_constraint c WHERE contype = 'f' AND connamespace = 'crm'::regnamespace;
SET LOCAL crm.mode = 'sandbox';
SELECT crm.mode();
SET LOCAL crm.mode = 'off';
SELECT crm.mode(), crm.guard();
RESET crm.mode;
-- each part of the binding that differs switches it off, with the reason
SAVEPOINT s;
UPDATE crm.activation SET system_identifier = '1';
SELECT crm.mode(), regexp_replace(crm.activation_problem(), '\d{5,}', 'N', 'g');
ROLLBACK TO s;
UPDATE crm.activation SET timeline = 99;
SELECT crm.mode(), crm.activation_problem();
ROLLBACK TO s;
UPDATE crm.activation SET machine = 'another';
SELECT crm.mode(), crm.activation_problem();
-- … on a machine that was named for a planned promotion as well, as long as none was promoted
UPDATE crm.activation SET hosts = ARRAY[trim(E'\n' from pg_read_file('/proc/sys/kernel/hostname'))];
SELECT crm.mode(), crm.activation_problem();
ROLLBACK TO s;
UPDATE crm.activation SET data_directory = '1:1';
SELECT crm.mode(), crm.activation_problem();
ROLLBACK TO s;
UPDATE crm.activation SET database_oid = 1;
SELECT crm.mode(), regexp_replace(crm.activation_problem(), 'has \d+', 'has N');
ROLLBACK TO s;
-- activating again changes the mode and nothing else
SELECT crm.activate('sandbox');
SELECT count(*) FROM crm.activation;
SELECT crm.deactivate();
SELECT crm.mode(), crm.guard();
ROLLBACK;
SELECT crm.mode();
-- who may
CREATE ROLE core_activation_plain;
GRANT USAGE ON SCHEMA crm TO core_activation_plain;
SET ROLE core_activation_plain;
SELECT crm.mode();
SET crm.mode = 'live';
SELECT crm.activate();
RESET ROLE;
REVOKE USAGE ON SCHEMA crm FROM core_activation_plain;
DROP ROLE core_activation_plain;
