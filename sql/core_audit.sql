-- The catalogues hold to the house rules: each query lists breaches and must be empty.
\set QUIET on
\pset format unaligned
\pset tuples_only on
CREATE TEMP TABLE member AS
	SELECT d.classid, d.objid, i.type, i.identity
	FROM pg_depend d
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'crm'
	CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';

\echo objects without a COMMENT
SELECT m.type, m.identity FROM member m
WHERE m.type IN ('table', 'view', 'function', 'procedure', 'aggregate', 'schema', 'materialized view')
	AND obj_description(m.objid, m.classid::regclass::text::name) IS NULL
ORDER BY 1, 2;
SELECT 'composite type', t.oid::regtype FROM pg_type t JOIN pg_class c ON c.oid = t.typrelid AND c.relkind = 'c'
JOIN member m ON m.objid IN (t.oid, c.oid) WHERE obj_description(t.oid, 'pg_type') IS NULL;
\echo columns without a COMMENT
SELECT m.identity, a.attname FROM member m
JOIN pg_attribute a ON a.attrelid = m.objid AND a.attnum > 0 AND NOT a.attisdropped
WHERE m.type IN ('table', 'view') AND col_description(m.objid, a.attnum) IS NULL
ORDER BY 1, a.attnum;
\echo triggers without a COMMENT
SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND obj_description(t.oid, 'pg_trigger') IS NULL ORDER BY 1, 2;
\echo tables that no dump carries and no rule excuses
SELECT c.oid::regclass FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'S')
JOIN pg_extension e ON e.extname = 'crm'
LEFT JOIN pg_depend own ON c.relkind = 'S' AND own.classid = 'pg_class'::regclass AND own.objid = c.oid AND own.deptype IN ('a', 'i')
WHERE NOT coalesce(c.oid = ANY (e.extconfig), false)
	AND NOT EXISTS (SELECT FROM crm.dump_rule r WHERE r.table_name IN (c.oid::regclass::text, own.refobjid::regclass::text) AND r.condition IS NULL)
ORDER BY 1;
\echo columns that name a row and have neither key nor reason
SELECT m.identity, a.attname FROM member m
JOIN pg_class c ON c.oid = m.objid AND c.relkind IN ('r', 'p')
JOIN pg_attribute a ON a.attrelid = m.objid AND a.attnum > 0 AND a.atttypid IN ('bigint'::regtype, 'integer'::regtype) AND a.attname ~ '_id$'
WHERE m.type = 'table'
	AND NOT EXISTS (SELECT FROM crm.foreign_key k WHERE k.child::regclass = m.objid AND k.child_column = a.attname)
ORDER BY 1, 2;
\echo foreign keys that name nothing
SELECT k.child, k.child_column FROM crm.foreign_key k
WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(k.child) AND a.attname = k.child_column)
	OR k.parent IS NOT NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = to_regclass(k.parent) AND a.attname = k.parent_column);
\echo hooks that call nothing
SELECT h.point, h.name, h.function FROM crm.hook h WHERE NOT EXISTS (
	SELECT FROM pg_proc p WHERE p.pronamespace = 'crm'::regnamespace AND 'crm.' || p.proname = h.function) ORDER BY 1, 2;
\echo definer functions without a pinned search_path, or owned by a superuser without need
SELECT p.oid::regprocedure FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
WHERE p.prosecdef AND (NOT coalesce(p.proconfig::text ~ 'search_path=(pg_catalog, )?pg_temp', false)
	OR p.proowner <> 'crm_owner'::regrole AND p.proname NOT IN ('mark_database', 'listen')) ORDER BY 1;
\echo plpgsql functions without a pinned search_path
SELECT p.oid::regprocedure FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
WHERE NOT coalesce(p.proconfig::text ~ 'search_path=(pg_catalog, )?pg_temp', false) ORDER BY 1;
\echo tables and sequences that crm_owner does not own
SELECT c.oid::regclass FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass
WHERE c.relowner <> 'crm_owner'::regrole AND c.relkind <> 'c' ORDER BY 1;
\echo rights of PUBLIC on tables, and on functions beyond the harmless
SELECT c.oid::regclass FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass, aclexplode(c.relacl) x WHERE x.grantee = 0;
SELECT p.oid::regprocedure FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
WHERE (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) x WHERE x.grantee = 0))
	AND p.oid::regprocedure::text NOT IN ('crm.version()', 'crm.is_preloaded()', 'crm.mode()', 'crm.guard()', 'crm.now()', 'crm.clock()', 'crm.monotonic_ms()')
ORDER BY 1;
\echo keys, indexes and row triggers on a partitioned parent
SELECT c.oid::regclass, 'index' FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid AND c.relkind = 'p' JOIN member m ON m.objid = c.oid
UNION ALL
SELECT c.oid::regclass, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid AND c.relkind = 'p' JOIN member m ON m.objid = c.oid
WHERE t.tgtype & 1 = 1 AND NOT t.tgisinternal;
\echo foreign keys before activation
SELECT c.conrelid::regclass, c.conname FROM pg_constraint c JOIN member m ON m.objid = c.conrelid WHERE c.contype = 'f';
\echo functions marked parallel safe that may write
SELECT p.oid::regprocedure FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
WHERE p.proparallel = 's' AND p.provolatile = 'v' AND p.proname <> 'monotonic_ms' ORDER BY 1;
\echo functions marked parallel safe, restricted or immutable that call one that is less
WITH f AS (
	SELECT p.oid, n.nspname || '.' || p.proname AS name, p.proname, strpos('urs', p.proparallel::text) AS parallel, p.provolatile,
		p.prosrc || coalesce(pg_get_function_sqlbody(p.oid), '') AS body
	FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass AND p.prokind = 'f' JOIN pg_namespace n ON n.oid = p.pronamespace
)
SELECT DISTINCT a.oid::regprocedure, b.oid::regprocedure FROM f a JOIN f b ON a.name <> b.name AND strpos(a.body, b.name || '(') > 0 AND a.body ~ ('(^|[^''[:alnum:]_.])' || replace(b.name, '.', '\.') || '\(')
WHERE a.parallel > b.parallel OR a.provolatile = 'i' AND b.provolatile <> 'i' AND b.proname <> 'erp_fail' -- which only raises
ORDER BY 1, 2;
\echo views of crm_bi that read with the rights of their owner
SELECT c.oid::regclass FROM member m JOIN pg_class c ON c.oid = m.objid AND m.classid = 'pg_class'::regclass AND c.relkind = 'v' AND c.relnamespace = 'crm_bi'::regnamespace
WHERE NOT coalesce('security_invoker=true' = ANY (c.reloptions), false) ORDER BY 1;
\echo views of crm_bi without labels in the catalogue
SELECT m.identity FROM member m WHERE m.type = 'view' AND m.identity LIKE 'crm\_bi.%' AND NOT EXISTS (SELECT FROM crm.bi_view b WHERE b.name = m.identity) ORDER BY 1;
\echo leakproof functions
SELECT p.oid::regprocedure FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass WHERE p.proleakproof;
\echo columns in the views of crm_erp that ODBC clients stumble on
SELECT m.identity, a.attname FROM member m JOIN pg_attribute a ON a.attrelid = m.objid AND a.attnum > 0
WHERE m.type = 'view' AND m.identity LIKE 'crm\_erp.%' AND (a.atttypid = 'numeric'::regtype AND a.atttypmod = -1 OR a.atttypid = 'timestamptz'::regtype OR a.atttypid IN ('jsonb'::regtype, 'boolean'::regtype))
ORDER BY 1, 2;
\echo done
