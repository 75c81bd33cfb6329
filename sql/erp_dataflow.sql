-- claim 68: the system draws itself. Every enabled rule, integration, funnel, event and door is in the drawing, and it
-- holds to the grammar of a flowchart whatever their names are.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT crm.activate('off');
-- Lines of a flowchart that our grammar does not know, arrows to nothing, and what opens and does not close.
CREATE FUNCTION pg_temp.faults(drawing text) RETURNS TABLE (fault text) LANGUAGE sql AS $$
	WITH line AS (SELECT l.l, l.n, btrim(l.l) AS t FROM regexp_split_to_table(drawing, '\n') WITH ORDINALITY AS l(l, n)),
	node AS (SELECT (regexp_match(t, '^([a-z][a-z0-9]*)(\["|\("|\(\("|\{\{")'))[1] AS id FROM line WHERE n > 1),
	arrow AS (SELECT regexp_match(t, '^([a-z][a-z0-9]*) -->(\|"[^"|]*"\|)? ([a-z][a-z0-9]*)$') AS a FROM line)
	SELECT 'line ' || n || ': ' || t FROM line
	WHERE n = 1 AND t <> 'flowchart LR' OR n > 1 AND t !~ concat_ws('|', '^subgraph [a-z_]+\["[^"`<>{}|;\\%&\[\]]+"\]$', '^end$', '^[a-z][a-z0-9]*\["(?:[^"#`<>{}|\\%&\[\];]|#[0-9]+;)+"\]$',
		'^[a-z][a-z0-9]*\("(?:[^"#`<>{}|\\%&\[\];]|#[0-9]+;)+"\)$', '^[a-z][a-z0-9]*\(\("(?:[^"#`<>{}|\\%&\[\];]|#[0-9]+;)+"\)\)$', '^[a-z][a-z0-9]*\{\{"(?:[^"#`<>{}|\\%&\[\];]|#[0-9]+;)+"\}\}$',
		'^[a-z][a-z0-9]* -->(\|"(?:[^"#`<>{}|\\%&\[\];]|#[0-9]+;)+"\|)? [a-z][a-z0-9]*$')
	UNION ALL SELECT 'twice: ' || id FROM node WHERE id IS NOT NULL GROUP BY id HAVING count(*) > 1
	UNION ALL SELECT 'arrow to nothing: ' || array_to_string(a, ' ') FROM arrow WHERE a IS NOT NULL AND NOT (a[1] IN (SELECT id FROM node WHERE id IS NOT NULL) AND a[3] IN (SELECT id FROM node WHERE id IS NOT NULL))
	UNION ALL SELECT 'subgraphs and ends: ' || count(*) FILTER (WHERE t ~ '^subgraph') || ', ' || count(*) FILTER (WHERE t = 'end') FROM line HAVING count(*) FILTER (WHERE t ~ '^subgraph') <> count(*) FILTER (WHERE t = 'end')
$$;
\echo the checker finds faults
SELECT * FROM pg_temp.faults(E'flowchart LR\n  subgraph g["x"]\n    a["b"]\n    a["b]\n  a --> c\n  a -->|x| a\n  a["x;y"]');
\echo as it ships
SELECT * FROM pg_temp.faults(crm.dataflow());
SELECT * FROM pg_temp.faults(crm.dataflow('mermaid', 'en', true));
\echo names that break out, and things of each layer
INSERT INTO crm.template (code, channel, language, body) VALUES ('flow', 'sms', 'ru', 'x');
INSERT INTO crm.rule (code, event_kind, condition, audience, channel, template) VALUES ('flow.on', 'deal.moved', $$data ->> 'deal' <> '"]; end %%{x}%% <script>' AND at IS NOT NULL$$, 'company_contacts', 'sms', 'flow'),
	('flow.off', 'deal.moved', NULL, 'company_contacts', 'sms', 'flow');
UPDATE crm.rule SET switched = false WHERE code = 'flow.off';
SELECT crm.register_kind('x_flow', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('Flow.1', 'x_flow', '') IS NOT NULL AS added;
INSERT INTO crm.funnel (code, name_ru, name_en) VALUES ('flow', E'Воронка "]\n end\n n1 --> n2', '`x` #35; $$\pi$$ ' || chr(8238) || repeat('y', 300));
SELECT crm.add_call_list('flow', 'end', 'flow') IS NOT NULL AS made;
SELECT * FROM pg_temp.faults(crm.dataflow());
SELECT * FROM pg_temp.faults(crm.dataflow('mermaid', 'en', true));
SELECT regexp_replace(m[1], 'n\d+', 'n') AS line FROM regexp_matches(crm.dataflow(), '([^\n]*(?:flow[.]o|Flow[.]1|Воронка|"end")[^\n]*)', 'g') AS m;
\echo what is on and not in the drawing, what is off and in it
SELECT 'rule', r.code FROM crm.rule r WHERE coalesce(r.switched, r.enabled) AND strpos(crm.dataflow(), format('{{"%s -#62; %s', r.code, r.audience)) = 0
UNION ALL SELECT 'off', r.code FROM crm.rule r WHERE NOT coalesce(r.switched, r.enabled) AND strpos(crm.dataflow(), format('{{"%s -#62;', r.code)) > 0
UNION ALL SELECT 'event', k.kind FROM crm.event_kind k WHERE strpos(crm.dataflow(), format('("%s")', k.kind)) = 0
UNION ALL SELECT 'integration', i.name FROM crm.integration i WHERE i.enabled AND strpos(crm.dataflow(), format('["%s (%s)"]', i.name, i.kind)) = 0
UNION ALL SELECT 'funnel', f.code FROM crm.funnel f WHERE f.enabled AND strpos(crm.dataflow(), crm.diagram_text(left(f.name_en, 90) || ' / ' || left(f.name_ru, 90))) = 0
UNION ALL SELECT 'door', p.proname FROM pg_proc p WHERE p.pronamespace = 'crm_erp'::regnamespace AND p.proname LIKE 'put\_%' AND strpos(crm.dataflow(), format('["crm_erp.%s"]', p.proname)) = 0;
\echo every arrow of a rule: from its event, to its channel
SELECT count(*) = (SELECT count(*) FROM crm.rule WHERE coalesce(switched, enabled)) AS all_rules FROM (
	SELECT r.code FROM crm.rule r
	JOIN regexp_matches(crm.dataflow(), '(n\d+)\{\{"([a-z0-9_.]+) -#62;', 'g') AS n(n) ON n.n[2] = r.code
	WHERE crm.dataflow() ~ format('--> %s(\n|$)|-->\|[^\n]*\| %s(\n|$)', n.n[1], n.n[1]) AND crm.dataflow() ~ format('\n  %s -->\|', n.n[1])) x;
\echo Graphviz: as many nodes and arrows, every quote in its place
SELECT (SELECT count(*) FROM regexp_matches(crm.dataflow('dot'), '\n    n\d+ \[', 'g')) = (SELECT count(*) FROM regexp_matches(crm.dataflow(), '\n    n\d+', 'g')) AS nodes,
	(SELECT count(*) FROM regexp_matches(crm.dataflow('dot'), ' -> n\d+', 'g')) = (SELECT count(*) FROM regexp_matches(crm.dataflow(), '\n  n\d+ --', 'g')) AS arrows;
SELECT l FROM regexp_split_to_table(crm.dataflow('dot'), '\n') AS l
WHERE l !~ '^(digraph dataflow \{|  rankdir=LR;|  subgraph cluster_[a-z]+ \{|    label="([^"\\]|\\.)*";|    n\d+ \[shape=[a-z]+(, style=dashed)?, label="([^"\\]|\\.)*"\];|  n\d+ -> n\d+( \[label="([^"\\]|\\.)*"\])?;|  \}|\})$';
SELECT crm.dataflow('svg');
ROLLBACK;
