-- Small tables that are written all the time: while some snapshot is held, their dead rows cannot go, and each
-- look at the few that live passes over all of them. They are written anew, in the place of a vacuum.

CREATE OR REPLACE FUNCTION crm.compact(tab regclass, most_rows integer DEFAULT 20000, least_bytes bigint DEFAULT 1048576) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
	columns text;
	kept    text[];
	alive   bigint;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = tab AND c.relnamespace = 'crm'::regnamespace AND c.relkind = 'r')
		OR pg_relation_size(tab) < least_bytes THEN
		RETURN false;
	END IF;
	-- a table that is full of what lives is left alone: at 24 bytes and more a row it is not worth it
	EXECUTE format('SELECT count(*) FROM (SELECT FROM %s LIMIT $1) x', tab) INTO alive USING most_rows + 1;
	IF alive > most_rows OR alive * 200 > pg_relation_size(tab) THEN
		RETURN false;
	END IF;
	SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO columns
	FROM pg_attribute a WHERE a.attrelid = tab AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
	BEGIN
		EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', tab);
	EXCEPTION WHEN lock_not_available THEN
		RETURN false;	-- a dump reads it: next time
	END;
	EXECUTE format('SELECT array_agg(t::text) FROM %s t', tab) INTO kept;
	IF cardinality(kept) > 2 * most_rows THEN
		RETURN false;
	END IF;
	EXECUTE format('TRUNCATE %s', tab);
	EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE SELECT %2$s FROM unnest($1) AS r(words), LATERAL (SELECT (r.words::%1$s).*) AS t', tab, columns) USING kept;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.compact(regclass, integer, bigint) IS 'Writes a small table of the queue anew (TRUNCATE, and its living rows again) where it has grown over least_bytes, mostly by dead rows that a held snapshot keeps, and at most most_rows live. Waits 100 ms for the lock and no longer. A snapshot that is older sees the table empty: it is the queue''s memory, no fact. True: it was done.';
