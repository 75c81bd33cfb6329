-- Retention: a setting for each table that may be cut off at its old end. Parts are dropped whole, under a
-- lock time-out, one of a table at a time; no row is deleted. Facts (events, shipments, positions) are not
-- among them: crm never drops one, and a DBA who wants to detaches the part.

CREATE OR REPLACE FUNCTION crm.register_retention(what text, keep interval, minimum interval, description text,
	follows text DEFAULT NULL, guard text DEFAULT NULL) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.retention_kind AS k (what, keep, minimum, description, follows, guard) VALUES ($1, $2, $3, $4, $5, $6)
	ON CONFLICT (what) DO UPDATE SET keep = EXCLUDED.keep, minimum = EXCLUDED.minimum, description = EXCLUDED.description,
		follows = EXCLUDED.follows, guard = EXCLUDED.guard;
END;
COMMENT ON FUNCTION crm.register_retention(text, interval, interval, text, text, text) IS 'Offers a table or a step for crm.set_retention(): how long it is kept by default (NULL = for ever), the least that may be chosen, words, another one that it is kept no longer than, and a function f(part regclass, upto timestamptz) that says whether a part is still needed. Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_growing(name text, distribution_key text, triggers text DEFAULT NULL) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.growing AS g (name, distribution_key, triggers) VALUES ($1, $2, $3)
	ON CONFLICT (name) DO UPDATE SET distribution_key = EXCLUDED.distribution_key, triggers = EXCLUDED.triggers;
END;
COMMENT ON FUNCTION crm.register_growing(text, text, text) IS 'Names a table that grows without bound, the column by which it can be distributed, and why it has triggers if it does. Called by the script.';

CREATE OR REPLACE FUNCTION crm.keep_of(what text) RETURNS interval
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE chain AS (
		SELECT k.what, k.follows, k.keep, 1 AS depth FROM crm.retention_kind k WHERE k.what = $1
		UNION ALL
		SELECT k.what, k.follows, k.keep, c.depth + 1 FROM chain c JOIN crm.retention_kind k ON k.what = c.follows WHERE c.depth < 8
	)
	SELECT min(CASE WHEN h.what IS NULL THEN c.keep ELSE h.keep END) FROM chain c LEFT JOIN crm.retention_choice h ON h.what = c.what
$$;
COMMENT ON FUNCTION crm.keep_of(text) IS 'How long something of crm.retention is kept; NULL: for ever.';

CREATE OR REPLACE FUNCTION crm.set_retention(what text, keep interval) RETURNS interval
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	kind crm.retention_kind;
BEGIN
	SELECT * INTO kind FROM crm.retention_kind k WHERE k.what = set_retention.what;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('nothing is kept for a time under the name %s', coalesce(quote_literal(set_retention.what), 'NULL')),
			HINT = 'SELECT what, keep, description FROM crm.retention lists what is. Facts, such as events, are never dropped by crm: ALTER TABLE … DETACH PARTITION takes a part out.';
	END IF;
	IF keep < kind.minimum THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s cannot be kept for %s only', kind.what, keep),
			HINT = format('The least is %s; NULL keeps it for ever.', kind.minimum);
	END IF;
	INSERT INTO crm.retention_choice AS c (what, keep) VALUES (kind.what, set_retention.keep)
	ON CONFLICT ON CONSTRAINT retention_choice_pkey DO UPDATE SET keep = EXCLUDED.keep, chosen_at = EXCLUDED.chosen_at, chosen_by = EXCLUDED.chosen_by;
	RETURN crm.keep_of(kind.what);
END
$$;
COMMENT ON FUNCTION crm.set_retention(text, interval) IS 'Chooses how long something of crm.retention is kept, by the business clock; NULL: for ever. Returns what holds (no longer than what it follows). Errors: 22023 unknown, or shorter than the least.';

CREATE OR REPLACE VIEW crm.retention AS
	SELECT k.what, crm.keep_of(k.what) AS keep, c.what IS NOT NULL AS chosen, k.keep AS default_keep, k.minimum, k.follows, k.description
	FROM crm.retention_kind k LEFT JOIN crm.retention_choice c ON c.what = k.what;
COMMENT ON VIEW crm.retention IS 'How long things are kept; change it by crm.set_retention(). What is not here is kept for ever.';
COMMENT ON COLUMN crm.retention.what IS 'A partitioned table, whose parts are dropped whole, or a step.';
COMMENT ON COLUMN crm.retention.keep IS 'How long, by the business clock; NULL = for ever.';
COMMENT ON COLUMN crm.retention.chosen IS 'The DBA chose it.';
COMMENT ON COLUMN crm.retention.default_keep IS 'How long where nobody chose.';
COMMENT ON COLUMN crm.retention.minimum IS 'The shortest time that may be chosen.';
COMMENT ON COLUMN crm.retention.follows IS 'It is kept no longer than this one.';
COMMENT ON COLUMN crm.retention.description IS 'What it is.';

CREATE OR REPLACE FUNCTION crm.partitions_past(parent regclass, before timestamptz) RETURNS TABLE (part regclass, upto timestamptz)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, YMD'
AS $$
	SELECT p.part, p.upto
	FROM (SELECT c.oid::regclass AS part, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS upto
		  FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
		  WHERE h.inhparent = $1 AND NOT h.inhdetachpending) p
	WHERE p.upto <= $2
	ORDER BY p.upto
$$;
COMMENT ON FUNCTION crm.partitions_past(regclass, timestamptz) IS 'Parts of a table that end before a moment, oldest first.';

CREATE OR REPLACE FUNCTION crm.retention_drop() RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
	kind    crm.retention_kind;
	past    record;
	free    boolean;
	dropped integer := 0;
BEGIN
	-- what others follow goes first
	FOR kind IN SELECT k.* FROM crm.retention_kind k JOIN crm.partitioned p ON p.parent = k.what ORDER BY k.follows IS NOT NULL, k.what LOOP
		SELECT p.* INTO past FROM crm.partitions_past(kind.what::regclass, crm.clock() - crm.keep_of(kind.what)) p LIMIT 1;
		CONTINUE WHEN NOT FOUND;
		IF kind.guard IS NOT NULL THEN
			EXECUTE format('SELECT %s($1, $2)', kind.guard) INTO free USING past.part, past.upto;
			CONTINUE WHEN NOT free;
		END IF;
		BEGIN
			EXECUTE format('DROP TABLE %s', past.part);
			dropped := dropped + 1;
		EXCEPTION WHEN lock_not_available OR dependent_objects_still_exist THEN
			NULL;	-- a dump reads it, or a view of the DBA names it: crm.health says so when it lasts
		END;
	END LOOP;
	RETURN dropped;
END
$$;
COMMENT ON FUNCTION crm.retention_drop() IS 'Drops the oldest part of each table whose time is over (crm.retention), one of a table in a call, and returns how many. Waits 100 ms for a lock and no longer: a pg_dump delays it, and nobody waits behind it. Called by the courier.';

CREATE OR REPLACE FUNCTION crm.retention_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'warning', 'retention', format('%s is past its time since %s and still there.', p.part, p.upto + crm.keep_of(k.what)),
		'A long transaction, a view of yours on it, or a message that has not ended holds it.', NULL::timestamptz
	FROM crm.retention_kind k JOIN crm.partitioned t ON t.parent = k.what
	CROSS JOIN LATERAL (SELECT * FROM crm.partitions_past(k.what::regclass, crm.clock() - crm.keep_of(k.what) - interval '7 days') LIMIT 1) p
	WHERE crm.guard()
$$;
COMMENT ON FUNCTION crm.retention_health() IS 'Rows of crm.health about parts that should have been dropped a week ago.';

CREATE OR REPLACE FUNCTION crm.growing_wrong() RETURNS TABLE (name text, what text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	WITH part AS (
		SELECT g.name, g.distribution_key, g.triggers, c.oid, c.relkind
		FROM crm.growing g JOIN pg_class c ON c.oid = g.name::regclass OR c.oid IN (SELECT h.inhrelid FROM pg_inherits h WHERE h.inhparent = g.name::regclass)
	)
	SELECT p.parent, 'has no distribution key' FROM crm.partitioned p WHERE NOT EXISTS (SELECT FROM crm.growing g WHERE g.name = p.parent)
	UNION ALL
	SELECT p.oid::regclass::text, format('has no column %s that is never NULL', p.distribution_key) FROM part p
	WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.oid AND a.attname = p.distribution_key AND a.attnotnull)
	UNION ALL
	SELECT p.oid::regclass::text, format('unique key %s does not contain %s', i.indexrelid::regclass, p.distribution_key) FROM part p
	JOIN pg_index i ON i.indrelid = p.oid AND i.indisunique
	WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = p.oid AND a.attname = p.distribution_key AND a.attnum = ANY (i.indkey))
	UNION ALL
	SELECT p.oid::regclass::text, format('trigger %s', t.tgname) FROM part p
	JOIN pg_trigger t ON t.tgrelid = p.oid AND NOT t.tgisinternal
	WHERE p.triggers IS NULL
	ORDER BY 1, 2
$$;
COMMENT ON FUNCTION crm.growing_wrong() IS 'Tables that grow without bound and could not be distributed as they are: no key named, a unique key without it, a trigger without a reason. Empty = all is well.';
