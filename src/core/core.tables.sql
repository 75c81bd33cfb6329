-- Texts for Russian readers stand in this script and in every message: no other encoding holds them all.
DO $$
BEGIN
	IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
		RAISE EXCEPTION USING
			ERRCODE = '0A000',
			MESSAGE = pg_catalog.format('crm needs a database in UTF8, this one is in %s', pg_catalog.current_setting('server_encoding')),
			HINT = 'CREATE DATABASE plant ENCODING ''UTF8'' TEMPLATE template0;';
	END IF;
END
$$;

-- Roles. Cluster-wide, made where they are absent; an existing one is taken only where it cannot do harm.
-- DROP EXTENSION leaves them, since another database may use them.
DO $$
DECLARE
	wanted record;
	there  pg_catalog.pg_roles;
BEGIN
	FOR wanted IN
		SELECT * FROM (VALUES
			('crm_owner',      false, 'owns every table, sequence and partition of crm; as good as a superuser'),
			('crm_courier',    true,  'the role of the couriers and listeners; clients cannot connect as it'),
			('crm_eval',       false, 'reads what a condition in a rule may read; nothing else'),
			('crm_manager',    false, 'a sales manager'),
			('crm_head',       false, 'the head of a team: also writes rules and templates'),
			('crm_director',   false, 'sees the whole plant and crm.health'),
			('crm_bi_reader',  false, 'reads the views of crm_bi'),
			('crm_erp_writer', false, 'calls the functions of crm_erp'),
			('crm_gateway',    false, 'a pooled login that says for which employee it speaks'),
			('crm_integrator', false, 'owns functions of integration kinds and stage actions')
		) AS v(name, login, words)
	LOOP
		SELECT * INTO there FROM pg_catalog.pg_roles WHERE rolname = wanted.name;
		IF NOT FOUND THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I %s', wanted.name,
				CASE WHEN wanted.login THEN 'LOGIN CONNECTION LIMIT 0' ELSE 'NOLOGIN' END);
			EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, 'crm: ' || wanted.words);
		ELSIF there.rolsuper OR there.rolcreaterole OR there.rolbypassrls
			OR (wanted.name = 'crm_owner' AND there.rolcanlogin) THEN
			RAISE EXCEPTION USING
				ERRCODE = '42710',
				MESSAGE = pg_catalog.format('role "%s" exists and is too strong for crm', wanted.name),
				DETAIL  = 'It is a superuser, may create roles, bypasses row-level security, or is crm_owner and can log in.',
				HINT    = pg_catalog.format('ALTER ROLE %I NOSUPERUSER NOCREATEROLE NOBYPASSRLS%s; or rename it, then create the extension again.',
					wanted.name, CASE WHEN wanted.name = 'crm_owner' THEN ' NOLOGIN' ELSE '' END);
		END IF;
	END LOOP;
END
$$;

-- The schemas are made here and never adopted: a squatted name ends the installation.
CREATE SCHEMA crm;
CREATE SCHEMA crm_bi;
CREATE SCHEMA crm_erp;
COMMENT ON SCHEMA crm IS 'CRM: parties, funnels, events, messages, deliveries, and the doors of its couriers.';
COMMENT ON SCHEMA crm_bi IS 'Views for BI tools. Start with crm_bi.catalog.';
COMMENT ON SCHEMA crm_erp IS 'Functions and views for an ERP over ODBC: text, numeric, timestamp and boolean only; idempotent by the ERP''s own ids.';

-- One row, of no dump: this database may act, here and nowhere else.
CREATE TABLE crm.activation (
	only_row          boolean     NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
	mode              text        NOT NULL CHECK (mode IN ('live', 'sandbox', 'off')),
	system_identifier text        NOT NULL,
	timeline          integer     NOT NULL,
	machine           text        NOT NULL,
	data_directory    text        NOT NULL,
	database_oid      oid         NOT NULL,
	hosts             text[],
	activated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	activated_by      text        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE crm.activation IS 'The activation of this database, written by crm.activate(). In no dump; bound to server, machine, directory and database, so that a copy is off until a person activates it.';
COMMENT ON COLUMN crm.activation.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN crm.activation.mode IS 'live, sandbox (everything goes to crm.sandbox_recipient) or off (facts count, nothing leaves).';
COMMENT ON COLUMN crm.activation.system_identifier IS 'The cluster''s system identifier.';
COMMENT ON COLUMN crm.activation.timeline IS 'The WAL timeline at activation; a promotion or a point-in-time recovery changes it.';
COMMENT ON COLUMN crm.activation.machine IS '/etc/machine-id, or the host name where there is none.';
COMMENT ON COLUMN crm.activation.data_directory IS 'Device and inode of the data directory, inode and birth of its PG_VERSION: any copy has others, also one that is unpacked into the same place.';
COMMENT ON COLUMN crm.activation.database_oid IS 'The database''s oid; its name may change.';
COMMENT ON COLUMN crm.activation.hosts IS 'Host names of other machines on which a planned promotion stays active; a copy there does not.';
COMMENT ON COLUMN crm.activation.activated_at IS 'Real time of the activation.';
COMMENT ON COLUMN crm.activation.activated_by IS 'The login that activated.';

-- The moved clock; empty = real time. Columns 2 to 4 are read in C by position.
CREATE TABLE crm.clock_state (
	only_row      boolean          NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
	base_real     timestamptz      NOT NULL,
	base_business timestamptz      NOT NULL,
	rate          double precision NOT NULL CHECK (rate >= 0 AND rate <= 100000)
);
COMMENT ON TABLE crm.clock_state IS 'The business clock where crm.set_now() moved it; empty = real time. In no dump.';
COMMENT ON COLUMN crm.clock_state.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN crm.clock_state.base_real IS 'Real time at which the clock was moved.';
COMMENT ON COLUMN crm.clock_state.base_business IS 'Business time at that moment.';
COMMENT ON COLUMN crm.clock_state.rate IS 'Business seconds in a real second; 0 = stands still.';

-- Registries: rows of code, written by the script itself and dumped never.
CREATE TABLE crm.hook (
	point    text    NOT NULL,
	name     text    NOT NULL,
	function text    NOT NULL,
	position integer NOT NULL GENERATED BY DEFAULT AS IDENTITY,
	PRIMARY KEY (point, name)
);
COMMENT ON TABLE crm.hook IS 'What upper rooms add to a lower one: a function of theirs for a point of his. Rows of code, in no dump.';
COMMENT ON COLUMN crm.hook.point IS 'ship, health, activate, maintain, selftest, clock_floor, clock_check, recover, deadline, due, settle_failed, waiting, weighing_order, forget, lent_companies, sees.';
COMMENT ON COLUMN crm.hook.name IS 'The room or part that adds it.';
COMMENT ON COLUMN crm.hook.function IS 'The function''s full name; its arguments are the point''s.';
COMMENT ON COLUMN crm.hook.position IS 'Order of calling: the order of the rooms.';

CREATE TABLE crm.foreign_key (
	child         text NOT NULL,
	child_column  text NOT NULL,
	parent        text,
	parent_column text,
	on_delete     text NOT NULL DEFAULT 'NO ACTION',
	reason        text,
	PRIMARY KEY (child, child_column),
	CHECK ((parent IS NULL) = (reason IS NOT NULL))
);
COMMENT ON TABLE crm.foreign_key IS 'Foreign keys that crm.activate() proves and adds; the script adds none, since pg_restore -j loads tables in any order. Rows of code, in no dump.';
COMMENT ON COLUMN crm.foreign_key.child IS 'The table that refers.';
COMMENT ON COLUMN crm.foreign_key.child_column IS 'Its column.';
COMMENT ON COLUMN crm.foreign_key.parent IS 'The table referred to; NULL where there is no key on purpose.';
COMMENT ON COLUMN crm.foreign_key.parent_column IS 'Its column.';
COMMENT ON COLUMN crm.foreign_key.on_delete IS 'NO ACTION, CASCADE or SET NULL.';
COMMENT ON COLUMN crm.foreign_key.reason IS 'Why a column that names another row has no key.';

CREATE TABLE crm.dump_rule (
	table_name text PRIMARY KEY,
	condition  text,
	reason     text NOT NULL
);
COMMENT ON TABLE crm.dump_rule IS 'Tables of crm that no dump carries (condition NULL) or only in part. Every other one is dumped whole. Rows of code, in no dump.';
COMMENT ON COLUMN crm.dump_rule.table_name IS 'The table.';
COMMENT ON COLUMN crm.dump_rule.condition IS 'A WHERE clause for pg_dump; NULL = the table is not dumped.';
COMMENT ON COLUMN crm.dump_rule.reason IS 'Why.';

CREATE TABLE crm.partitioned (
	parent    text   PRIMARY KEY,
	column_of text   NOT NULL,
	span      text   NOT NULL CHECK (span IN ('day', 'month')),
	index_ddl text[] NOT NULL
);
COMMENT ON TABLE crm.partitioned IS 'Tables that are cut by time; crm.make_partitions() makes their parts. Rows of code, in no dump.';
COMMENT ON COLUMN crm.partitioned.parent IS 'The partitioned table. It has no key, index or row trigger of its own: attaching would make them and a dump could not be restored.';
COMMENT ON COLUMN crm.partitioned.column_of IS 'The column that cuts it.';
COMMENT ON COLUMN crm.partitioned.span IS 'day or month, in UTC.';
COMMENT ON COLUMN crm.partitioned.index_ddl IS 'Statements that follow CREATE TABLE, %1$I the partition''s name without its schema.';

CREATE TABLE crm.granted (
	kind     text NOT NULL,
	identity text NOT NULL,
	PRIMARY KEY (kind, identity)
);
COMMENT ON TABLE crm.granted IS 'Objects whose rights the script has set once; an update grants only on new ones, so that a DBA''s own grants stay his. Rows of code, in no dump.';
COMMENT ON COLUMN crm.granted.kind IS 'Kind of object, as pg_identify_object says.';
COMMENT ON COLUMN crm.granted.identity IS 'Its identity, as pg_identify_object says.';

CREATE TABLE crm.expected_trigger (
	table_name   text NOT NULL,
	trigger_name text NOT NULL,
	PRIMARY KEY (table_name, trigger_name)
);
COMMENT ON TABLE crm.expected_trigger IS 'Triggers that the script has made, so that crm.selftest() misses one that was dropped. Rows of code, in no dump.';
COMMENT ON COLUMN crm.expected_trigger.table_name IS 'The table or view.';
COMMENT ON COLUMN crm.expected_trigger.trigger_name IS 'The trigger.';

-- How long things are kept: what the code offers, and what the DBA chose.
CREATE TABLE crm.retention_kind (
	what        text     PRIMARY KEY,
	keep        interval,
	minimum       interval NOT NULL,
	follows     text,
	guard       text,
	description text     NOT NULL
);
COMMENT ON TABLE crm.retention_kind IS 'What may be kept for a time only, registered by the rooms. Facts are not among them: crm drops no event. Rows of code, in no dump.';
COMMENT ON COLUMN crm.retention_kind.what IS 'A table of crm.partitioned, whose parts are dropped whole; or the name of a step that a room takes by itself.';
COMMENT ON COLUMN crm.retention_kind.keep IS 'How long it is kept where the DBA chose nothing; NULL = for ever.';
COMMENT ON COLUMN crm.retention_kind.minimum IS 'The shortest time that may be chosen.';
COMMENT ON COLUMN crm.retention_kind.follows IS 'Another row: it is kept no longer than that one.';
COMMENT ON COLUMN crm.retention_kind.guard IS 'Function f(part regclass, upto timestamptz) RETURNS boolean: whether nothing needs a part any more; NULL = none is asked.';
COMMENT ON COLUMN crm.retention_kind.description IS 'What it is, in words.';

CREATE TABLE crm.retention_choice (
	what      text        PRIMARY KEY,
	keep      interval,
	chosen_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	chosen_by text        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE crm.retention_choice IS 'How long things are kept, where the DBA chose it by crm.set_retention(). crm.retention shows what holds.';
COMMENT ON COLUMN crm.retention_choice.what IS 'crm.retention_kind.what.';
COMMENT ON COLUMN crm.retention_choice.keep IS 'How long; NULL = for ever.';
COMMENT ON COLUMN crm.retention_choice.chosen_at IS 'Real time of the choice.';
COMMENT ON COLUMN crm.retention_choice.chosen_by IS 'The login that chose.';

-- Tables that grow without bound, and the column by which they can be spread over servers.
CREATE TABLE crm.growing (
	name             text PRIMARY KEY,
	distribution_key text NOT NULL,
	triggers         text
);
COMMENT ON TABLE crm.growing IS 'Tables that grow without bound, with the column that every unique key of theirs contains, so that they can be distributed by it. Rows of code, in no dump.';
COMMENT ON COLUMN crm.growing.name IS 'The table.';
COMMENT ON COLUMN crm.growing.distribution_key IS 'The column; never NULL.';
COMMENT ON COLUMN crm.growing.triggers IS 'Why the table has triggers all the same; NULL = it has none.';
