-- Sets of ids are exact: equal to COUNT(DISTINCT) bit for bit, in parallel too, they merge, and no
-- bytes that are no set reach CRoaring.
SET client_min_messages = warning;
BEGIN;
SELECT setseed(0.42);
CREATE TABLE public.kpi_facts (grp integer, id bigint) WITH (parallel_workers = 2);
INSERT INTO public.kpi_facts
SELECT g % 7, CASE g % 5
	WHEN 0 THEN (random() * 5000)::bigint                              -- dense
	WHEN 1 THEN (random() * 9e18)::bigint                              -- all over the 64 bits
	WHEN 2 THEN -(random() * 100000)::bigint                           -- negative
	WHEN 3 THEN 4294967296 * (random() * 20)::bigint + (random() * 70000)::bigint
	ELSE NULL END
FROM generate_series(1, 60000) g;
INSERT INTO public.kpi_facts SELECT 7, g FROM generate_series(100000, 190000) g;  -- one long run
INSERT INTO public.kpi_facts VALUES (8, NULL), (9, 9223372036854775807), (9, -9223372036854775808), (9, 0), (9, -1);
ANALYZE public.kpi_facts;

\echo every group as COUNT(DISTINCT) has it
SELECT grp, count(DISTINCT id) = crm.distinct_count(id) AS counted, crm.ids_count(crm.ids_agg(id)) = count(DISTINCT id) AS set_counted
FROM public.kpi_facts GROUP BY grp ORDER BY grp;
SELECT crm.distinct_count(id) = count(DISTINCT id) AS total, crm.distinct_count(id) FILTER (WHERE false) AS over_nothing, crm.ids_agg(id) FILTER (WHERE false) IS NULL AS no_set
FROM public.kpi_facts;

\echo the members are the ids, ascending
SELECT grp, (SELECT array_agg(m) FROM crm.ids_members(s.ids) m) = s.expected AS same
FROM (SELECT grp, crm.ids_agg(id) AS ids, coalesce(array_agg(DISTINCT id ORDER BY id) FILTER (WHERE id IS NOT NULL), '{}') AS expected FROM public.kpi_facts GROUP BY grp) s
WHERE grp <> 8 ORDER BY grp;
SELECT m FROM crm.ids_members((SELECT crm.ids_agg(id) FROM public.kpi_facts WHERE grp = 9)) m;
SELECT count(*) FROM crm.ids_members((SELECT crm.ids_agg(id) FROM public.kpi_facts WHERE grp = 8)) m;

\echo sets merge: union of the groups is the whole
SELECT crm.ids_union_count(ids) = (SELECT count(DISTINCT id) FROM public.kpi_facts) AS counted,
	crm.ids_union_agg(ids) = (SELECT crm.ids_agg(id) FROM public.kpi_facts) AS same_bytes
FROM (SELECT crm.ids_agg(id) AS ids FROM public.kpi_facts GROUP BY grp) s;

\echo algebra of two sets
SELECT crm.ids_count(crm.ids_union(a, b)) = (SELECT count(*) FROM (SELECT id FROM public.kpi_facts WHERE grp = 1 AND id IS NOT NULL UNION SELECT id FROM public.kpi_facts WHERE grp = 2 AND id IS NOT NULL) x) AS union_,
	crm.ids_count(crm.ids_intersect(a, b)) = (SELECT count(*) FROM (SELECT id FROM public.kpi_facts WHERE grp = 1 AND id IS NOT NULL INTERSECT SELECT id FROM public.kpi_facts WHERE grp = 2 AND id IS NOT NULL) x) AS intersect_,
	crm.ids_count(crm.ids_except(a, b)) = (SELECT count(*) FROM (SELECT id FROM public.kpi_facts WHERE grp = 1 AND id IS NOT NULL EXCEPT SELECT id FROM public.kpi_facts WHERE grp = 2 AND id IS NOT NULL) x) AS except_,
	crm.ids_count(crm.ids_except(a, a)) AS nothing, crm.ids_contains(a, (SELECT min(id) FROM public.kpi_facts WHERE grp = 1)) AS contains, crm.ids_contains(a, 123456789012) AS contains_not
FROM (SELECT crm.ids_agg(id) FILTER (WHERE grp = 1) AS a, crm.ids_agg(id) FILTER (WHERE grp = 2) AS b FROM public.kpi_facts) s;

\echo in parallel
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL max_parallel_workers_per_gather = 2;
EXPLAIN (COSTS OFF) SELECT crm.distinct_count(id) FROM public.kpi_facts;
SELECT grp, crm.distinct_count(id) = (SELECT count(*) FROM (SELECT DISTINCT f.id FROM public.kpi_facts f WHERE f.grp = k.grp AND f.id IS NOT NULL) x) AS same
FROM public.kpi_facts k GROUP BY grp ORDER BY grp;
SELECT crm.ids_union_count(ids) = (SELECT count(DISTINCT id) FROM public.kpi_facts) AS parallel_union FROM (SELECT crm.ids_agg(id) AS ids FROM public.kpi_facts GROUP BY grp) s;

\echo as a window
SELECT id, crm.distinct_count(id % 3) OVER (ORDER BY id) FROM generate_series(1::bigint, 5) id;

\echo bytes that are no set
CREATE FUNCTION pg_temp.outcome(b bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN crm.ids_count(b)::text;
EXCEPTION WHEN invalid_binary_representation THEN
	RETURN SQLSTATE;
END $$;
SELECT pg_temp.outcome(b) FROM (VALUES (''::bytea), ('\x00'), ('\x0000000000000000'), ('\xffffffffffffffff'), ('\x0100000000000000'), ('\x010000000000000000000000'),
	('\x0100000000000000000000003a30000000000000'), ('\x0100000000000000000000003b30ffff')) v(b);
SELECT crm.ids_members('\x0102030405060708090a'::bytea);
ROLLBACK;
BEGIN;
CREATE FUNCTION pg_temp.outcome(b bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT CASE WHEN count(*) = crm.ids_count(b) AND count(*) = count(DISTINCT m) THEN 'sound' ELSE 'UNSOUND' END FROM crm.ids_members(b) m);
EXCEPTION WHEN invalid_binary_representation THEN
	RETURN 'refused';
END $$;
\echo every byte of a set of arrays, bits and runs changed: refused, or a sound set
WITH set AS (
	SELECT crm.ids_agg(id) AS b FROM (
		SELECT g::bigint * 3 AS id FROM generate_series(1, 40) g
		UNION ALL SELECT 65536 + g * 2 FROM generate_series(0, 5000) g
		UNION ALL SELECT 200000 + g FROM generate_series(0, 9000) g
		UNION ALL SELECT 5000000000 + g * 7 FROM generate_series(0, 30) g) x
), mutant AS (
	SELECT set_byte(b, n, (get_byte(b, n) + d) % 256) AS m FROM set, generate_series(0, length(b) - 1) n, (VALUES (1), (128), (255)) v(d)
	WHERE n < 200 OR n % 37 = 0 OR n > length(b) - 200
	UNION ALL SELECT substring(b FROM 1 FOR n) FROM set, generate_series(0, length(b) - 1, 11) n
)
SELECT pg_temp.outcome(m) AS outcome, count(*) > 0 AS some FROM mutant GROUP BY 1 ORDER BY 1;
ROLLBACK;
