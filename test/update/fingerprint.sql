-- The fingerprint of an installation: a line for each fact of the catalogues that an update could get wrong.
-- Two databases whose outputs are equal have the same extension.
\set QUIET on
\pset format unaligned
\pset tuples_only on
\pset fieldsep ' | '
SET search_path = pg_catalog;
CREATE TEMP VIEW member AS
	SELECT d.classid, d.objid, i.type, i.identity
	FROM pg_depend d
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'crm'
	CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e';
SELECT 'member', type, identity, obj_description(objid, classid::regclass::text::name) FROM member ORDER BY 2, 3;
SELECT 'column', m.identity, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated, a.attisdropped,
	pg_get_expr(ad.adbin, ad.adrelid), col_description(m.objid, a.attnum)
FROM member m JOIN pg_attribute a ON m.classid = 'pg_class'::regclass AND a.attrelid = m.objid AND a.attnum > 0
LEFT JOIN pg_attrdef ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum ORDER BY 2, 3;
SELECT 'relation', m.identity, c.relkind, c.relowner::regrole, c.relacl::text, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, c.relpersistence
FROM member m JOIN pg_class c ON m.classid = 'pg_class'::regclass AND c.oid = m.objid ORDER BY 2;
SELECT 'constraint', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid), c.convalidated, obj_description(c.oid, 'pg_constraint')
FROM pg_constraint c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.conrelid ORDER BY 2, 3;
SELECT 'index', i.indexrelid::regclass, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = i.indrelid ORDER BY 2;
SELECT 'trigger', t.tgrelid::regclass, t.tgname, t.tgenabled, pg_get_triggerdef(t.oid), obj_description(t.oid, 'pg_trigger')
FROM pg_trigger t JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = t.tgrelid WHERE NOT t.tgisinternal ORDER BY 2, 3;
SELECT 'policy', p.polrelid::regclass, p.polname, p.polcmd, p.polroles::regrole[], pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy p JOIN member m ON m.objid = p.polrelid ORDER BY 2, 3;
SELECT 'view', m.identity, pg_get_viewdef(m.objid) FROM member m WHERE m.type = 'view' ORDER BY 2;
SELECT 'function', p.oid::regprocedure, p.proowner::regrole, p.proacl::text, p.prokind, p.provolatile, p.proparallel, p.prosecdef, p.proisstrict, p.proretset,
	p.proconfig, p.probin, pg_get_function_result(p.oid), md5(coalesce(pg_get_function_sqlbody(p.oid), p.prosrc))
FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid ORDER BY 2;
SELECT 'schema', n.nspname, n.nspowner::regrole, n.nspacl::text FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND n.oid = m.objid ORDER BY 2;
SELECT 'initial privileges', i.identity, p.privtype, p.initprivs::text FROM pg_init_privs p
JOIN member m ON m.classid = p.classoid AND m.objid = p.objoid CROSS JOIN LATERAL pg_identify_object(p.classoid, p.objoid, p.objsubid) i ORDER BY 2;
SELECT 'dumped', x.c::regclass, x.w FROM pg_extension e, unnest(e.extconfig, e.extcondition) x (c, w) WHERE e.extname = 'crm' ORDER BY x.c::regclass::text;
SELECT 'hook', point, row_number() OVER (PARTITION BY point ORDER BY position), name, function FROM crm.hook ORDER BY 2, 3;
SELECT 'foreign key', child, child_column, parent, parent_column, on_delete, reason FROM crm.foreign_key ORDER BY 2, 3;
SELECT 'dump rule', * FROM crm.dump_rule ORDER BY 2;
SELECT 'partitioned', * FROM crm.partitioned ORDER BY 2;
SELECT 'granted', * FROM crm.granted ORDER BY 2, 3;
