-- ---- C entry points --------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.version() RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_version';
COMMENT ON FUNCTION crm.version() IS 'Version of the loaded library; crm.health says where it differs from the extension''s.';

CREATE OR REPLACE FUNCTION crm.is_preloaded() RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_is_preloaded';
COMMENT ON FUNCTION crm.is_preloaded() IS 'Whether the server was started with crm in shared_preload_libraries.';

CREATE OR REPLACE FUNCTION crm.mode() RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_mode_sql';
COMMENT ON FUNCTION crm.mode() IS 'live, sandbox or off: what crm.activate() granted on this very server and database, lowered by the setting crm.mode.';

CREATE OR REPLACE FUNCTION crm.guard() RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_guard_sql';
COMMENT ON FUNCTION crm.guard() IS 'True where triggers may have effects: this database was activated here. False after a restore, in a copy and on a replica.';

CREATE OR REPLACE FUNCTION crm.activation_problem() RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_activation_problem';
COMMENT ON FUNCTION crm.activation_problem() IS 'Why crm.guard() is false, in words; NULL where it is true.';

CREATE OR REPLACE FUNCTION crm.binding(OUT system_identifier text, OUT timeline integer, OUT machine text,
	OUT data_directory text, OUT database_oid oid)
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_binding';
COMMENT ON FUNCTION crm.binding() IS 'What an activation is bound to on this server.';

CREATE OR REPLACE FUNCTION crm.now() RETURNS timestamptz
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_now_sql';
COMMENT ON FUNCTION crm.now() IS 'Business time of the transaction: now(), unless crm.set_now() moved the clock.';

CREATE OR REPLACE FUNCTION crm.clock() RETURNS timestamptz
	LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_clock_sql';
COMMENT ON FUNCTION crm.clock() IS 'Business time at this moment: clock_timestamp(), unless crm.set_now() moved the clock.';

CREATE OR REPLACE FUNCTION crm.time_zone_exists(name text) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_time_zone_exists';
COMMENT ON FUNCTION crm.time_zone_exists(text) IS 'Whether pg_timezone_names has that name; found once, a backend knows it.';

CREATE OR REPLACE FUNCTION crm.monotonic_ms() RETURNS bigint
	LANGUAGE c VOLATILE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_monotonic_ms_sql';
COMMENT ON FUNCTION crm.monotonic_ms() IS 'Milliseconds since the machine''s start, by a clock that nobody sets: for time-outs, back-off and poll intervals.';

CREATE OR REPLACE FUNCTION crm.wake(urgent boolean DEFAULT false) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_wake_sql';
COMMENT ON FUNCTION crm.wake(boolean) IS 'Wakes this database''s couriers once this transaction commits; a rollback, of a savepoint too, takes it back. urgent: what was queued goes before all other.';

CREATE OR REPLACE FUNCTION crm.urgent_only(on_ boolean) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_urgent_only_sql';
COMMENT ON FUNCTION crm.urgent_only(boolean) IS 'Until it is switched off again, or the transaction ends, the queue gives this process only what goes before all other. For crm.courier_claim().';

CREATE OR REPLACE FUNCTION crm.poke_launcher() RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_poke_launcher_sql';
COMMENT ON FUNCTION crm.poke_launcher() IS 'Has the launcher look at the databases again once this transaction commits.';

CREATE OR REPLACE FUNCTION crm.append_only() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_append_only';
COMMENT ON FUNCTION crm.append_only() IS 'Trigger function, BEFORE UPDATE OR DELETE OR TRUNCATE, for each statement: refuses with SQLSTATE 55000. Only crm.forget() may update.';

CREATE OR REPLACE FUNCTION crm.rewrite_door(open boolean) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_rewrite_door';
COMMENT ON FUNCTION crm.rewrite_door(boolean) IS 'Opens or closes the one door through which append-only rows are updated, for the subtransaction that calls; an error closes it. For crm.forget() only.';

CREATE OR REPLACE FUNCTION crm.rewriting() RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_rewriting_sql';
COMMENT ON FUNCTION crm.rewriting() IS 'Whether crm.forget() is rewriting rows in this transaction.';

CREATE OR REPLACE FUNCTION crm.hold_rules(hold boolean) RETURNS void
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS '$libdir/crm', 'crm_hold_rules';
COMMENT ON FUNCTION crm.hold_rules(boolean) IS 'Holds message rules, deal moves by events and stage actions, for the subtransaction that calls, or lets them go: what is loaded then is history. An error lets them go. No setting, so that nobody silences a rule by SET. For crm.import_run() only.';

CREATE OR REPLACE FUNCTION crm.rules_held() RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS '$libdir/crm', 'crm_rules_held_sql';
COMMENT ON FUNCTION crm.rules_held() IS 'Whether a load of history holds the rules in this transaction. Whatever acts by itself on a fact (a rule, a stage action, a condition to enter a stage) asks it beside crm.guard().';

CREATE OR REPLACE FUNCTION crm.clock_changed() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_clock_changed';
COMMENT ON FUNCTION crm.clock_changed() IS 'Trigger function of crm.clock_state: every session reads the clock again after commit.';

-- ---- registries ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.register_hook(point text, name text, function text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.hook AS h (point, name, function) VALUES ($1, $2, $3)
	ON CONFLICT (point, name) DO UPDATE SET function = EXCLUDED.function, position = EXCLUDED.position;
END;
COMMENT ON FUNCTION crm.register_hook(text, text, text) IS 'Adds a function of an upper room to a point of a lower one (crm.hook). Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_foreign_key(child text, child_column text, parent text,
	parent_column text DEFAULT 'id', on_delete text DEFAULT 'NO ACTION') RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.foreign_key AS k (child, child_column, parent, parent_column, on_delete, reason)
	VALUES ($1, $2, $3, $4, $5, NULL)
	ON CONFLICT (child, child_column) DO UPDATE SET
		parent = EXCLUDED.parent, parent_column = EXCLUDED.parent_column,
		on_delete = EXCLUDED.on_delete, reason = NULL;
END;
COMMENT ON FUNCTION crm.register_foreign_key(text, text, text, text, text) IS 'Names a foreign key that crm.activate() adds. Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_no_foreign_key(child text, child_column text, reason text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.foreign_key AS k (child, child_column, parent, parent_column, reason)
	VALUES ($1, $2, NULL, NULL, $3)
	ON CONFLICT (child, child_column) DO UPDATE SET
		parent = NULL, parent_column = NULL, reason = EXCLUDED.reason;
END;
COMMENT ON FUNCTION crm.register_no_foreign_key(text, text, text) IS 'Names a column that refers to rows without a foreign key, and why. Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_undumped(table_name text, reason text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.dump_rule AS r (table_name, condition, reason) VALUES ($1, NULL, $2)
	ON CONFLICT (table_name) DO UPDATE SET condition = NULL, reason = EXCLUDED.reason;
END;
COMMENT ON FUNCTION crm.register_undumped(text, text) IS 'Keeps a table out of dumps, and says why. Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_dump_filter(table_name text, condition text, reason text DEFAULT 'rows of code come with the script') RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.dump_rule AS r (table_name, condition, reason) VALUES ($1, $2, $3)
	ON CONFLICT (table_name) DO UPDATE SET condition = EXCLUDED.condition, reason = EXCLUDED.reason;
END;
COMMENT ON FUNCTION crm.register_dump_filter(text, text, text) IS 'Has a dump carry only the rows of a table that a WHERE clause names. Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_partitioned(parent text, column_of text, span text, index_ddl text[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.partitioned AS p (parent, column_of, span, index_ddl) VALUES ($1, $2, $3, $4)
	ON CONFLICT (parent) DO UPDATE SET
		column_of = EXCLUDED.column_of, span = EXCLUDED.span, index_ddl = EXCLUDED.index_ddl;
END;
COMMENT ON FUNCTION crm.register_partitioned(text, text, text, text[]) IS 'Names a table that crm.make_partitions() serves. Called by the script.';

CREATE OR REPLACE FUNCTION crm.run_hooks(point text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook record;
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = run_hooks.point ORDER BY h.position LOOP
		EXECUTE format('SELECT %s()', hook.function);
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.run_hooks(text) IS 'Calls every function of a point that takes no argument, in the order of the rooms.';

SELECT crm.register_undumped('crm.activation', 'a copy must not act');
SELECT crm.register_undumped('crm.clock_state', 'a copy starts at real time');
SELECT crm.register_undumped('crm.hook', 'rows of code');
SELECT crm.register_undumped('crm.foreign_key', 'rows of code');
SELECT crm.register_undumped('crm.dump_rule', 'rows of code');
SELECT crm.register_undumped('crm.partitioned', 'rows of code');
SELECT crm.register_undumped('crm.granted', 'rows of code');
SELECT crm.register_undumped('crm.expected_trigger', 'rows of code');

-- ---- partitions ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.make_partitions(parent regclass, from_at timestamptz, to_at timestamptz) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
	rule   crm.partitioned;
	lower_ timestamptz;
	upper_ timestamptz;
	name   text;
	ddl    text;
	made   integer := 0;
BEGIN
	SELECT p.* INTO rule FROM crm.partitioned p WHERE p.parent::regclass = make_partitions.parent;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('table %s is not one that crm cuts by time', make_partitions.parent),
			HINT = 'SELECT parent FROM crm.partitioned lists them.';
	END IF;
	IF NOT (isfinite(from_at) AND isfinite(to_at)) OR to_at < from_at OR to_at - from_at > interval '10 years' THEN
		RAISE EXCEPTION USING ERRCODE = '22008',
			MESSAGE = format('cannot make partitions of %s from %s to %s', make_partitions.parent, from_at, to_at),
			HINT = 'Give two finite times in order, at most ten years apart.';
	END IF;
	lower_ := date_trunc(rule.span, from_at);
	WHILE lower_ <= to_at LOOP
		upper_ := lower_ + ('1 ' || rule.span)::interval;
		name := (SELECT c.relname FROM pg_class c WHERE c.oid = make_partitions.parent)
			|| to_char(lower_, CASE rule.span WHEN 'day' THEN '_YYYYMMDD' ELSE '_YYYYMM' END);
		IF to_regclass('crm.' || quote_ident(name)) IS NULL THEN
			-- Another session may be making it: the loser finds it made.
			PERFORM pg_advisory_xact_lock('crm.partitioned'::regclass::oid::integer, hashtext(name));
			-- (asked of the table: what the name lookup remembers may be older than the lock)
			IF NOT EXISTS (SELECT FROM pg_class c WHERE c.relname = name AND c.relnamespace = 'crm'::regnamespace) THEN
				EXECUTE format('CREATE TABLE crm.%I (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE)',
					name, make_partitions.parent);
				EXECUTE format('COMMENT ON TABLE crm.%I IS %L', name, format('Part of %s; reach it through that name.', make_partitions.parent));
				FOREACH ddl IN ARRAY rule.index_ddl LOOP
					EXECUTE format(ddl, name);
				END LOOP;
				EXECUTE format('ALTER TABLE %s ATTACH PARTITION crm.%I FOR VALUES FROM (%L) TO (%L)',
					make_partitions.parent, name, lower_, upper_);
				made := made + 1;
			END IF;
		END IF;
		lower_ := upper_;
	END LOOP;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.make_partitions(regclass, timestamptz, timestamptz) IS 'Makes the missing parts of a table of crm.partitioned between two times, with their indexes; returns how many. Errors: 22023 unknown table, 22008 unusable times.';

CREATE OR REPLACE FUNCTION crm.partitions_ahead() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	rule crm.partitioned;
BEGIN
	FOR rule IN SELECT * FROM crm.partitioned LOOP
		PERFORM crm.make_partitions(rule.parent::regclass, least(crm.now(), pg_catalog.now()) - interval '1 month',
			greatest(crm.now(), pg_catalog.now()) + CASE rule.span WHEN 'day' THEN interval '7 days' ELSE interval '2 months' END);
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.partitions_ahead() IS 'Makes the partitions that the next weeks need; called by crm.activate() and by the courier.';
SELECT crm.register_hook('activate', 'core', 'crm.partitions_ahead');
SELECT crm.register_hook('maintain', 'core', 'crm.partitions_ahead');

SELECT crm.register_undumped('crm.retention_kind', 'rows of code');
SELECT crm.register_undumped('crm.growing', 'rows of code');
SELECT crm.register_hook('maintain', 'retention', 'crm.retention_drop');
SELECT crm.register_hook('health', 'retention', 'crm.retention_health');

-- ---- the clock -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.set_now(at timestamptz, rate double precision DEFAULT 1) RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook  record;
	floor timestamptz;
BEGIN
	IF at IS NULL OR NOT isfinite(at) OR at < timestamptz '1990-01-01 00:00Z' OR at > timestamptz '2200-01-01 00:00Z' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('cannot set the business clock to %s', coalesce(at::text, 'NULL')),
			HINT = 'Give a time between 1990 and 2200.';
	END IF;
	IF rate IS NULL OR NOT (rate >= 0 AND rate <= 100000) THEN
		RAISE EXCEPTION USING ERRCODE = '22003', MESSAGE = format('cannot run the business clock at rate %s', coalesce(rate::text, 'NULL')),
			HINT = 'Give a number from 0 (stands still) to 100000.';
	END IF;
	PERFORM crm.run_hooks('clock_check');
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'clock_floor' LOOP
		EXECUTE format('SELECT %s()', hook.function) INTO floor;
		IF at < floor THEN
			RAISE EXCEPTION USING ERRCODE = '22008',
				MESSAGE = format('cannot set the business clock to %s: facts are known until %s', at, floor),
				HINT = 'The clock never goes back below what is already known; give a later time.';
		END IF;
	END LOOP;
	INSERT INTO crm.clock_state AS c (base_real, base_business, rate) VALUES (pg_catalog.now(), at, set_now.rate)
	ON CONFLICT (only_row) DO UPDATE SET base_real = EXCLUDED.base_real, base_business = EXCLUDED.base_business, rate = EXCLUDED.rate;
	IF crm.guard() THEN
		PERFORM crm.partitions_ahead();
	END IF;
	RETURN crm.now();
END
$$;
COMMENT ON FUNCTION crm.set_now(timestamptz, double precision) IS 'Moves the business clock of this database to a time and gives it a pace (business seconds in a real second). For tests and demonstrations: refused in live mode with an integration beyond loopback, and below the last known fact. Errors: 22008, 22003, 55000.';

CREATE OR REPLACE FUNCTION crm.reset_now() RETURNS timestamptz
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook  record;
	floor timestamptz;
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'clock_floor' LOOP
		EXECUTE format('SELECT %s()', hook.function) INTO floor;
		IF pg_catalog.now() < floor THEN
			RAISE EXCEPTION USING ERRCODE = '22008',
				MESSAGE = format('cannot return to real time: facts are known until %s', floor),
				HINT = 'The clock never goes back below what is already known.';
		END IF;
	END LOOP;
	DELETE FROM crm.clock_state;
	IF crm.guard() THEN
		PERFORM crm.partitions_ahead();
	END IF;
	RETURN crm.now();
END
$$;
COMMENT ON FUNCTION crm.reset_now() IS 'Returns the business clock to real time. Error 22008 where facts of a later business time are known.';

-- ---- activation ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.mark_database(courier boolean) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF courier THEN
		EXECUTE format('ALTER DATABASE %I SET crm.courier = on', current_database());
	ELSE
		EXECUTE format('ALTER DATABASE %I RESET crm.courier', current_database());
	END IF;
	PERFORM crm.poke_launcher();
END
$$;
COMMENT ON FUNCTION crm.mark_database(boolean) IS 'Leaves or takes the mark by which the launcher finds this database. It grants nothing: what may be sent stands in crm.activation.';

CREATE OR REPLACE FUNCTION crm.foreign_key_offenders() RETURNS TABLE (child text, child_column text, parent text, values_found text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k crm.foreign_key;
BEGIN
	FOR k IN SELECT * FROM crm.foreign_key f WHERE f.parent IS NOT NULL ORDER BY 1, 2 LOOP
		child := k.child; child_column := k.child_column; parent := k.parent;
		EXECUTE format(
			'SELECT string_agg(v, '', '') FROM (SELECT DISTINCT c.%1$I::text AS v FROM %2$s c '
			'WHERE c.%1$I IS NOT NULL AND NOT EXISTS (SELECT FROM %3$s p WHERE p.%4$I = c.%1$I) ORDER BY 1 LIMIT 10) s',
			k.child_column, k.child, k.parent, k.parent_column) INTO values_found;
		IF values_found IS NOT NULL THEN
			RETURN NEXT;
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.foreign_key_offenders() IS 'References to rows that are not there, by table and column, the first ten values each; no row where all is whole.';

CREATE OR REPLACE FUNCTION crm.add_foreign_keys() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k    crm.foreign_key;
	name text;
	made integer := 0;
BEGIN
	FOR k IN SELECT * FROM crm.foreign_key f WHERE f.parent IS NOT NULL ORDER BY 1, 2 LOOP
		name := split_part(k.child, '.', 2) || '_' || k.child_column || '_fkey';
		IF NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = k.child::regclass AND c.contype = 'f' AND c.conname = name) THEN
			EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%I) REFERENCES %s (%I) ON DELETE %s NOT VALID',
				k.child, name, k.child_column, k.parent, k.parent_column, k.on_delete);
			EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', name, k.child, 'Added by crm.activate(), from crm.foreign_key.');
			made := made + 1;
		END IF;
	END LOOP;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.add_foreign_keys() IS 'Adds the foreign keys of crm.foreign_key that are not there, unvalidated; returns how many.';

CREATE OR REPLACE FUNCTION crm.validate_keys() RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c    record;
	done integer := 0;
BEGIN
	FOR c IN
		SELECT con.conrelid::regclass AS child, con.conname
		FROM pg_constraint con
		JOIN crm.foreign_key k ON k.parent IS NOT NULL AND k.child::regclass = con.conrelid
			AND con.conname = split_part(k.child, '.', 2) || '_' || k.child_column || '_fkey'
		WHERE con.contype = 'f' AND NOT con.convalidated
		ORDER BY 1, 2
	LOOP
		EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', c.child, c.conname);
		done := done + 1;
	END LOOP;
	RETURN done;
END
$$;
COMMENT ON FUNCTION crm.validate_keys() IS 'Validates the foreign keys that crm.activate() or an update added; returns how many.';

CREATE OR REPLACE FUNCTION crm.activate(mode text DEFAULT 'live', hosts text[] DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' SET jit = off AS $$
DECLARE
	offender record;
	words    text := '';
	preload  text;
	b        record;
BEGIN
	IF mode IS NULL OR mode NOT IN ('live', 'sandbox', 'off') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown mode: %s', coalesce(quote_literal(mode), 'NULL')),
			HINT = 'Use ''live'', ''sandbox'' or ''off''.';
	END IF;
	IF NOT crm.is_preloaded() THEN
		preload := current_setting('shared_preload_libraries');
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'crm is not in shared_preload_libraries',
			DETAIL = 'Without it no courier runs and no commit wakes one.',
			HINT = format('Add this line to postgresql.conf and restart: shared_preload_libraries = ''%s''',
				CASE WHEN preload = '' THEN 'crm' ELSE preload || ',crm' END);
	END IF;
	IF crm.version() <> (SELECT e.extversion FROM pg_extension e WHERE e.extname = 'crm') THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('the loaded library is version %s, the extension is %s', crm.version(),
				(SELECT e.extversion FROM pg_extension e WHERE e.extname = 'crm')),
			HINT = 'Run ALTER EXTENSION crm UPDATE, or restart the server where the library is the older one.';
	END IF;
	FOR offender IN SELECT * FROM crm.foreign_key_offenders() LOOP
		words := words || format('%s.%s names %s that %s does not have. ', offender.child, offender.child_column,
			offender.values_found, offender.parent);
	END LOOP;
	IF words <> '' THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = 'rows refer to rows that are not there', DETAIL = rtrim(words),
			HINT = 'The restore was not whole. Restore again into a new database, or mend these rows; crm.foreign_key_offenders() lists them.';
	END IF;
	PERFORM crm.add_foreign_keys();
	PERFORM crm.validate_keys();
	PERFORM crm.run_hooks('activate');
	PERFORM crm.run_hooks('ship');
	SELECT * INTO b FROM crm.binding();
	INSERT INTO crm.activation AS a (mode, system_identifier, timeline, machine, data_directory, database_oid, hosts)
	VALUES (activate.mode, b.system_identifier, b.timeline, b.machine, b.data_directory, b.database_oid, activate.hosts)
	ON CONFLICT (only_row) DO UPDATE SET
		mode = EXCLUDED.mode, system_identifier = EXCLUDED.system_identifier, timeline = EXCLUDED.timeline,
		machine = EXCLUDED.machine, data_directory = EXCLUDED.data_directory, database_oid = EXCLUDED.database_oid,
		hosts = EXCLUDED.hosts, activated_at = EXCLUDED.activated_at, activated_by = EXCLUDED.activated_by;
	PERFORM crm.mark_database(true);
	PERFORM crm.wake();
	RETURN crm.mode();
END
$$;
COMMENT ON FUNCTION crm.activate(text, text[]) IS 'Lets this database act, here and nowhere else: proves and adds the foreign keys, makes partitions, ships rules and kinds, and starts the couriers. mode: live, sandbox (everything goes to named test recipients) or off. hosts: names of machines on which a planned promotion stays active. Returns the mode in force. Errors: 22023 mode, 55000 no preload or versions differ, 23503 a restore that is not whole.';

CREATE OR REPLACE FUNCTION crm.rebind() RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE crm.activation AS a SET timeline = b.timeline, machine = b.machine, data_directory = b.data_directory
	FROM crm.binding() b
	WHERE crm.guard() AND (a.timeline, a.machine, a.data_directory) IS DISTINCT FROM (b.timeline, b.machine, b.data_directory);
END;
COMMENT ON FUNCTION crm.rebind() IS 'Binds an activation that holds by a planned promotion to the machine, directory and timeline that it found, so that a copy of the new primary is told from it. Called by a courier that starts.';

CREATE OR REPLACE FUNCTION crm.deactivate() RETURNS text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM crm.activation;
	PERFORM crm.mark_database(false);
	RETURN crm.mode();
END
$$;
COMMENT ON FUNCTION crm.deactivate() IS 'Takes the activation back: no effect, no courier, nothing leaves. Facts stay. Returns off.';

-- ---- health ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.health_core() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	problem text := crm.activation_problem();
BEGIN
	IF problem IS NOT NULL THEN
		RETURN QUERY SELECT 'warning', 'activation', 'This database does not act: ' || problem || '.',
			'If it is meant to, SELECT crm.activate();', NULL::timestamptz;
	ELSIF crm.mode() <> 'live' THEN
		RETURN QUERY SELECT 'notice', 'mode', format('The mode is %s.', crm.mode()),
			CASE WHEN (SELECT a.mode FROM crm.activation a) = 'live' THEN 'The setting crm.mode lowers it.'
			ELSE 'SELECT crm.activate(''live''); when it is meant to be.' END, (SELECT a.activated_at FROM crm.activation a);
	END IF;
	IF NOT crm.is_preloaded() THEN
		RETURN QUERY SELECT 'error', 'preload', 'The server runs without crm in shared_preload_libraries.',
			'Add it to postgresql.conf and restart.', NULL::timestamptz;
	END IF;
	RETURN QUERY
		SELECT 'error', 'version', format('The loaded library is version %s, the extension is %s.', crm.version(), e.extversion),
			'Run ALTER EXTENSION crm UPDATE, or restart the server.', NULL::timestamptz
		FROM pg_extension e WHERE e.extname = 'crm' AND e.extversion <> crm.version();
	RETURN QUERY
		SELECT 'notice', 'clock', format('The business clock is moved: it is %s.', crm.clock()),
			'SELECT crm.reset_now(); returns to real time.', c.base_real
		FROM crm.clock_state c;
	RETURN QUERY
		SELECT 'notice', 'roles', format('Members of crm_owner, as good as superusers: %s.', string_agg(m.rolname, ', ' ORDER BY m.rolname)),
			'Keep this list short.', NULL::timestamptz
		FROM pg_auth_members am
		JOIN pg_roles o ON o.oid = am.roleid AND o.rolname = 'crm_owner'
		JOIN pg_roles m ON m.oid = am.member
		HAVING count(*) > 0;
	RETURN QUERY
		SELECT 'warning', 'dump', format('Table %s has a %s of yours that no dump carries: %s.', x.tab, x.kind, x.name),
			'Keep it in a script of your own, to run after a restore.', NULL::timestamptz
		FROM (
			SELECT t.tgrelid::regclass AS tab, 'trigger' AS kind, t.tgname::text AS name, t.oid, 'pg_trigger'::regclass AS class
			FROM pg_trigger t WHERE NOT t.tgisinternal
			UNION ALL
			SELECT p.polrelid::regclass, 'policy', p.polname::text, p.oid, 'pg_policy'::regclass FROM pg_policy p
		) x
		JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = x.tab AND d.deptype = 'e'
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'crm'
		WHERE obj_description(x.oid, x.class::text::name) IS NULL;
END
$$;
COMMENT ON FUNCTION crm.health_core() IS 'Rows of crm.health about activation, preload, versions, clock, roles and objects that no dump carries.';
SELECT crm.register_hook('health', 'core', 'crm.health_core');

CREATE OR REPLACE FUNCTION crm.courier_number() RETURNS integer
	LANGUAGE c STABLE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_courier_number';
COMMENT ON FUNCTION crm.courier_number() IS 'Which of its database''s couriers this process is, from 0; 0 in a session too. What a courier has in hand is marked by it: after its death it is taken over together with its flight file.';

CREATE OR REPLACE FUNCTION crm.workers() RETURNS TABLE (kind text, database oid, pid integer, generation bigint, state text,
		since timestamptz, in_flight integer, started timestamptz, detail text)
	LANGUAGE c VOLATILE PARALLEL RESTRICTED AS '$libdir/crm', 'crm_workers';
COMMENT ON FUNCTION crm.workers() IS 'Workers of the whole cluster: the launcher (no database), each courier and listener that runs, and those that should and cannot, with the reason in detail. state: starting, connecting, idle, busy (bytes move), transaction, leaving, resting (no process). generation: number of the courier''s start, growing. in_flight: requests on their way. No row without the preload.';

CREATE OR REPLACE FUNCTION crm.health_workers() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	mine oid := (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
BEGIN
	IF NOT crm.is_preloaded() OR crm.mode() = 'off' THEN
		RETURN;
	END IF;
	RETURN QUERY SELECT 'error', 'launcher', 'The launcher is not running, so no courier is started.',
			'It comes back by itself after five seconds; if not, the server''s log says why.', w.since
		FROM crm.workers() w WHERE w.kind = 'launcher' AND w.pid IS NULL;
	RETURN QUERY SELECT CASE WHEN w.pid IS NULL THEN 'error' ELSE 'warning' END, w.kind,
			CASE WHEN w.pid IS NULL THEN format('The %s of this database does not run: %s.', w.kind, w.detail)
				ELSE format('The %s has trouble: %s.', w.kind, w.detail) END,
			CASE WHEN w.detail LIKE '%max_worker_processes%' THEN 'ALTER SYSTEM SET max_worker_processes to a larger number and restart the server.'
				ELSE 'The server''s log says more.' END,
			w.since
		FROM crm.workers() w WHERE w.database = mine AND w.detail <> '';
	IF NOT EXISTS (SELECT FROM crm.workers() w WHERE w.database = mine AND w.kind = 'courier') THEN
		RETURN QUERY SELECT 'error', 'courier', 'No courier is wanted for this database, so nothing is sent.',
			'SELECT crm.activate(); it also sets the mark that ALTER DATABASE … RESET crm.courier has taken away.', NULL::timestamptz;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.health_workers() IS 'Rows of crm.health about launcher, courier and listener of this database.';
SELECT crm.register_hook('health', 'workers', 'crm.health_workers');

CREATE OR REPLACE FUNCTION crm.health_rows() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook  record;
	state text;
	words text;
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'health' ORDER BY h.position LOOP
		BEGIN
			RETURN QUERY EXECUTE format('SELECT * FROM %s()', hook.function);
		EXCEPTION WHEN others THEN
			-- a look that fails hides no other; what unlogged tables hold is not on a standby
			GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
			IF state <> '0A000' OR NOT pg_is_in_recovery() THEN
				RETURN QUERY SELECT 'error', 'health', format('%s could not look: %s (%s)', hook.function, words, state),
					'The other rows are whole; the server''s log may say more.', NULL::timestamptz;
			END IF;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.health_rows() IS 'What crm.health shows.';

CREATE OR REPLACE VIEW crm.health AS
	SELECT h.severity, h.subject, h.message, h.hint, h.since FROM crm.health_rows() h;
COMMENT ON VIEW crm.health IS 'What is wrong and what to do, in words; empty = all is well. severity: error, warning, notice. since: real time, where known. Claims 9, 11.';
COMMENT ON COLUMN crm.health.severity IS 'error, warning or notice.';
COMMENT ON COLUMN crm.health.subject IS 'What it is about: activation, an integration''s name, …';
COMMENT ON COLUMN crm.health.message IS 'What is so.';
COMMENT ON COLUMN crm.health.hint IS 'What to do.';
COMMENT ON COLUMN crm.health.since IS 'Since when, real time.';

CREATE OR REPLACE FUNCTION crm.selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	hook  record;
	words text;
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'selftest' ORDER BY h.position LOOP
		BEGIN
			RETURN QUERY EXECUTE format('SELECT * FROM %s()', hook.function);
		EXCEPTION WHEN others THEN
			GET STACKED DIAGNOSTICS words = MESSAGE_TEXT;
			RETURN QUERY SELECT format('%s can look', hook.function), false, words;
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.selftest() IS 'A row for each promise of the design that this database can prove, with evidence: ok false says what is broken, a restore or a load with session_replication_role = replica too. A look that fails itself is a row and hides no other. Reads much; changes nothing. Claim 16.';

CREATE OR REPLACE FUNCTION crm.selftest_core() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	active boolean := crm.guard();
	asleep constant text := 'this database is not active: they come with crm.activate()';
	bad    text[];
	number bigint;
	s      record;
	most   bigint;
	last_  bigint;
BEGIN
	RETURN QUERY SELECT 'foreign keys hold', NOT EXISTS (SELECT FROM crm.foreign_key_offenders()),
		coalesce((SELECT string_agg(format('%s.%s: %s', o.child, o.child_column, o.values_found), '; ') FROM crm.foreign_key_offenders() o),
			format('%s keys looked at', (SELECT count(*) FROM crm.foreign_key k WHERE k.parent IS NOT NULL)));

	SELECT array_agg(format('%s.%s %s', k.child, k.child_column, CASE WHEN c.oid IS NULL THEN 'has no key' ELSE 'is not validated' END) ORDER BY 1), count(*) INTO bad, number
	FROM crm.foreign_key k
	LEFT JOIN pg_constraint c ON c.conrelid = k.child::regclass AND c.contype = 'f' AND c.conname = split_part(k.child, '.', 2) || '_' || k.child_column || '_fkey'
	WHERE k.parent IS NOT NULL AND (c.oid IS NULL OR NOT c.convalidated);
	RETURN QUERY SELECT 'foreign keys are there and validated', bad IS NULL OR NOT active,
		CASE WHEN NOT active THEN asleep WHEN bad IS NULL THEN 'all of crm.foreign_key' ELSE array_to_string(bad[:20], '; ') || '; SELECT crm.add_foreign_keys(), crm.validate_keys();' END;

	SELECT array_agg(x.words ORDER BY x.words) INTO bad FROM (
		SELECT format('%s on %s is gone', e.trigger_name, e.table_name) AS words FROM crm.expected_trigger e
		WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass(e.table_name) AND t.tgname = e.trigger_name)
		UNION ALL
		SELECT format('%s on %s is not enabled', t.tgname, t.tgrelid::regclass)
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
		WHERE c.relnamespace IN ('crm'::regnamespace, 'crm_erp'::regnamespace) AND t.tgenabled <> 'O'
		UNION ALL
		SELECT format('append_only on %s is gone', i.inhrelid::regclass)
		FROM crm.partitioned p JOIN pg_inherits i ON i.inhparent = p.parent::regclass
		WHERE array_to_string(p.index_ddl, ' ') LIKE '%TRIGGER append_only%'
			AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = i.inhrelid AND t.tgname = 'append_only')) x;
	RETURN QUERY SELECT 'every trigger is there and enabled', bad IS NULL,
		coalesce(array_to_string(bad[:20], '; '), format('%s triggers, and those of the partitions', (SELECT count(*) FROM crm.expected_trigger)));

	SELECT array_agg(x.words ORDER BY x.words) INTO bad FROM (
		SELECT format('%s has no part for %s', p.parent, to_char(d.at, 'YYYY-MM-DD')) AS words
		FROM crm.partitioned p
		CROSS JOIN LATERAL (VALUES (crm.now()), (crm.now() + CASE p.span WHEN 'day' THEN interval '2 days' ELSE interval '1 month' END)) AS d(at)
		WHERE NOT EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = p.parent::regclass
			AND c.relname = split_part(p.parent, '.', 2) || to_char(d.at AT TIME ZONE 'UTC', CASE p.span WHEN 'day' THEN '_YYYYMMDD' ELSE '_YYYYMM' END))
		UNION ALL
		SELECT format('%s has %s of %s indexes', i.inhrelid::regclass, count(x.indexrelid), w.number)
		FROM crm.partitioned p
		JOIN pg_inherits i ON i.inhparent = p.parent::regclass
		CROSS JOIN LATERAL (SELECT count(*) AS number FROM unnest(p.index_ddl) d WHERE d ~ '^CREATE (UNIQUE )?INDEX') w
		LEFT JOIN pg_index x ON x.indrelid = i.inhrelid AND x.indisvalid
		GROUP BY i.inhrelid, w.number HAVING count(x.indexrelid) < w.number) x;
	RETURN QUERY SELECT 'partitions are made ahead and have their indexes', bad IS NULL OR NOT active,
		CASE WHEN NOT active THEN asleep WHEN bad IS NULL THEN format('%s tables', (SELECT count(*) FROM crm.partitioned)) ELSE array_to_string(bad[:20], '; ') END;

	bad := NULL;
	FOR s IN
		SELECT d.objid::regclass AS name, d.refobjid::regclass AS of_table, a.attname AS of_column
		FROM pg_depend d JOIN pg_class q ON q.oid = d.objid AND q.relkind = 'S' AND q.relnamespace = 'crm'::regnamespace
		JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
		WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
		ORDER BY 1
	LOOP
		EXECUTE format('SELECT max(%I) FROM %s', s.of_column, s.of_table) INTO most;
		EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %s', s.name) INTO last_;
		IF most > last_ THEN
			bad := bad || format('%s stands at %s, %s.%s at %s: SELECT setval(%L, %s);', s.name, last_, s.of_table, s.of_column, most, s.name::text, most);
		END IF;
	END LOOP;
	RETURN QUERY SELECT 'sequences are ahead of their rows', bad IS NULL, coalesce(array_to_string(bad, '; '), 'the next number of every table is new');

	RETURN QUERY SELECT 'library and extension are of one version', e.extversion = crm.version(), format('library %s, extension %s', crm.version(), e.extversion)
		FROM pg_extension e WHERE e.extname = 'crm';

	SELECT array_agg(x.words ORDER BY x.words) INTO bad FROM (
		SELECT format('%s belongs to %s', p.oid::regprocedure, p.proowner::regrole) AS words
		FROM pg_proc p WHERE p.pronamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace) AND p.prosecdef AND p.proowner <> 'crm_owner'::regrole
			AND p.prosrc NOT LIKE '%ALTER DATABASE%' -- which only the installing superuser may
		UNION ALL
		SELECT format('%s has no pinned search_path', p.oid::regprocedure)
		FROM pg_proc p WHERE p.pronamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace) AND p.prosecdef
			AND NOT coalesce(p.proconfig::text ~ 'search_path=(pg_catalog, )?pg_temp', false)
		UNION ALL
		SELECT format('%s belongs to %s', c.oid::regclass, c.relowner::regrole)
		FROM pg_class c WHERE c.relnamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace) AND c.relkind IN ('r', 'p', 'S', 'v') AND c.relowner <> 'crm_owner'::regrole) x;
	RETURN QUERY SELECT 'owners and search paths are as made', bad IS NULL, coalesce(array_to_string(bad[:20], '; '), 'tables, views, sequences and definer functions looked at');

	SELECT array_agg(x.words ORDER BY x.words) INTO bad FROM (
		SELECT format('PUBLIC may %s %s', a.privilege_type, c.oid::regclass) AS words
		FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
		WHERE c.relnamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace) AND a.grantee = 0
		UNION ALL
		SELECT format('PUBLIC may execute %s', p.oid::regprocedure)
		FROM pg_proc p CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
		WHERE p.pronamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace) AND p.prosecdef AND a.grantee = 0
		UNION ALL
		SELECT format('%s may %s the partition %s', a.grantee::regrole, a.privilege_type, c.oid::regclass)
		FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
		WHERE c.relnamespace = 'crm'::regnamespace AND c.relispartition AND a.grantee NOT IN (0, c.relowner)
		UNION ALL
		SELECT format('crm_eval may %s %s', a.privilege_type, c.oid::regclass)
		FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
		WHERE c.relnamespace = 'crm'::regnamespace AND a.grantee = 'crm_eval'::regrole AND a.privilege_type <> 'SELECT'
		UNION ALL
		SELECT format('%s may create in schema %s', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, n.nspname)
		FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
		WHERE n.nspname IN ('crm', 'crm_bi', 'crm_erp') AND a.privilege_type = 'CREATE' AND a.grantee NOT IN (n.nspowner, 'crm_owner'::regrole)) x;
	RETURN QUERY SELECT 'nobody has rights that are not meant', bad IS NULL, coalesce(array_to_string(bad[:20], '; '), 'PUBLIC, partitions, crm_eval and the schemas looked at');

	SELECT array_agg(x.words ORDER BY x.words) INTO bad FROM (
		SELECT format('%s %s', r.rolname, w.words) AS words
		FROM pg_roles r
		CROSS JOIN LATERAL (VALUES (r.rolsuper, 'is a superuser'), (r.rolcreaterole, 'may create roles'), (r.rolbypassrls, 'passes by row-level security'),
			(r.rolreplication, 'may replicate'), (r.rolname = 'crm_owner' AND r.rolcanlogin, 'can log in'), (r.rolname = 'crm_eval' AND r.rolcanlogin, 'can log in'),
			(r.rolname = 'crm_courier' AND r.rolconnlimit <> 0, 'may be connected to by clients'), (r.rolname = 'crm_courier' AND NOT r.rolcanlogin, 'cannot log in: no courier connects')) AS w(is_so, words)
		WHERE r.rolname IN ('crm_owner', 'crm_courier', 'crm_eval', 'crm_manager', 'crm_head', 'crm_director', 'crm_bi_reader', 'crm_erp_writer', 'crm_gateway', 'crm_integrator') AND w.is_so
		UNION ALL
		SELECT format('role %s is gone', w.name) FROM unnest(ARRAY['crm_owner', 'crm_courier', 'crm_eval', 'crm_manager', 'crm_head', 'crm_director', 'crm_bi_reader', 'crm_erp_writer', 'crm_gateway', 'crm_integrator']) AS w(name)
		WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = w.name)) x;
	RETURN QUERY SELECT 'roles are as weak as they were made', bad IS NULL, coalesce(array_to_string(bad, '; '), 'ten roles looked at');
END
$$;
COMMENT ON FUNCTION crm.selftest_core() IS 'Rows of crm.selftest() about foreign keys, triggers, partitions, sequences, versions, owners, rights and roles.';
SELECT crm.register_hook('selftest', 'core', 'crm.selftest_core');
