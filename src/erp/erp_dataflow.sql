-- erp: the system draws itself (claim 68). Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.dataflow_sources() RETURNS TABLE (key text, object_kind text)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT DISTINCT 'door ' || p.proname, CASE substr(p.proname, 5) WHEN 'order' THEN 'customer_order' WHEN 'weighing' THEN 'shipment' WHEN 'checkin' THEN 'trip' WHEN 'lead' THEN 'company' ELSE substr(p.proname, 5) END
	FROM pg_proc p WHERE p.pronamespace = 'crm_erp'::regnamespace AND p.proname LIKE 'put\_%' AND p.proname <> 'put_batch'
	UNION
	SELECT 'integration ' || i.name, v.o FROM crm.integration i
	JOIN (VALUES ('gps_wialon', 'trip'), ('rail_etran', 'waybill'), ('weighbridge_pg', 'shipment')) AS v(k, o) ON v.k = i.kind
	UNION
	SELECT 'list ' || l.code, 'contact' FROM crm.call_list l
$$;
COMMENT ON FUNCTION crm.dataflow_sources() IS 'Which doors of the ERP, integrations and call lists write facts about which objects, by their keys in the drawing';

CREATE OR REPLACE FUNCTION crm.dataflow_nodes() RETURNS TABLE (layer text, key text, label text, state text)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT DISTINCT 'door', 'door ' || p.proname, 'crm_erp.' || p.proname, 'on'
	FROM pg_proc p WHERE p.pronamespace = 'crm_erp'::regnamespace AND (p.proname LIKE 'put\_%' OR p.proname IN ('feed', 'ack', 'reconcile'))
	UNION ALL
	SELECT 'integration', 'integration ' || i.name, i.name || ' (' || i.kind || ')', CASE WHEN i.enabled THEN 'on' ELSE 'off' END FROM crm.integration i
	UNION ALL
	SELECT 'route', 'route ' || r.id, r.name, CASE WHEN r.enabled THEN 'on' ELSE 'off' END FROM crm.route r
	UNION ALL
	SELECT 'schedule', 'schedule ' || s.action, s.action || ' x ' || count(*), 'on' FROM crm.schedule s WHERE s.enabled GROUP BY s.action
	UNION ALL
	SELECT 'object', 'object ' || o.o, o.o, 'on' FROM (
		SELECT k.object_kind AS o FROM crm.event_kind k UNION SELECT x.object_kind FROM crm.dataflow_sources() x UNION SELECT 'deal') o
	UNION ALL
	SELECT 'event', 'event ' || k.kind, k.kind, 'on' FROM crm.event_kind k
	UNION ALL
	SELECT 'rule', 'rule ' || r.code, r.code || ' -> ' || r.audience || CASE WHEN r.broken IS NULL THEN '' ELSE ' (broken)' END, CASE WHEN coalesce(r.switched, r.enabled) THEN 'on' ELSE 'off' END FROM crm.rule r
	UNION ALL
	SELECT DISTINCT 'channel', 'channel ' || c.c, c.c, 'on' FROM (
		SELECT r.channel AS c FROM crm.rule r WHERE coalesce(r.switched, r.enabled)
		UNION SELECT s.step ->> 'channel' FROM crm.rule r CROSS JOIN LATERAL jsonb_array_elements(r.fallback) AS s(step) WHERE coalesce(r.switched, r.enabled)
		UNION SELECT k.channel FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind) c WHERE c.c IS NOT NULL
	UNION ALL
	SELECT 'funnel', 'funnel ' || f.code, left(f.name_en, 90) || ' / ' || left(f.name_ru, 90), CASE WHEN f.enabled THEN 'on' ELSE 'off' END FROM crm.funnel f
	UNION ALL
	SELECT 'action', 'action ' || a.id, s.code || ': ' || a.action, CASE WHEN a.enabled THEN 'on' ELSE 'off' END FROM crm.stage_action a JOIN crm.stage s ON s.id = a.stage_id
	UNION ALL
	SELECT 'list', 'list ' || l.code, l.name, CASE WHEN l.enabled THEN 'on' ELSE 'off' END FROM crm.call_list l
$$;
COMMENT ON FUNCTION crm.dataflow_nodes() IS 'What crm.dataflow() draws: layer (door, integration, route, schedule, object, event, rule, channel, funnel, action, list), a key within the drawing, the words on it, state on or off';

CREATE OR REPLACE FUNCTION crm.dataflow_edges() RETURNS TABLE (from_key text, to_key text, label text)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT x.key, 'object ' || x.object_kind, NULL::text FROM crm.dataflow_sources() x
	UNION ALL
	SELECT 'object ' || v.o, 'door feed', NULL FROM unnest(ARRAY['company', 'contact', 'customer_order', 'shipment', 'trip', 'deal']) AS v(o)
	UNION ALL
	SELECT 'object ' || k.object_kind, 'event ' || k.kind, NULL FROM crm.event_kind k
	UNION ALL
	SELECT 'event ' || r.event_kind, 'rule ' || r.code, nullif(left(r.condition, 60), '') FROM crm.rule r
	UNION ALL
	SELECT 'rule ' || r.code, 'channel ' || r.channel, r.template FROM crm.rule r
	UNION ALL
	SELECT 'rule ' || r.code, 'channel ' || (s.step ->> 'channel'), 'fallback' FROM crm.rule r CROSS JOIN LATERAL jsonb_array_elements(r.fallback) AS s(step)
	UNION ALL
	SELECT 'channel ' || k.channel, 'integration ' || i.name, NULL FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE k.channel IS NOT NULL
	UNION ALL
	SELECT 'route ' || r.id, 'integration ' || i.name, array_to_string(r.methods, ' ') FROM crm.route r JOIN crm.integration i ON i.id = r.integration_id
	UNION ALL
	SELECT 'event ' || m.event_kind, 'funnel ' || f.code, s.code FROM crm.deal_move_rule m JOIN crm.funnel f ON f.id = m.funnel_id JOIN crm.stage s ON s.id = m.to_stage_id WHERE m.enabled
	UNION ALL
	SELECT 'funnel ' || f.code, 'action ' || a.id, NULL FROM crm.stage_action a JOIN crm.funnel f ON f.id = a.funnel_id
	UNION ALL
	SELECT 'funnel ' || f.code, 'object deal', NULL FROM crm.funnel f
	UNION ALL
	SELECT 'list ' || l.code, 'funnel ' || f.code, s.code FROM crm.call_list l JOIN crm.funnel f ON f.id = l.funnel_id LEFT JOIN crm.stage s ON s.id = l.stage_id
	UNION ALL
	SELECT 'schedule ' || s.action, 'object schedule', NULL FROM crm.schedule s WHERE s.enabled GROUP BY s.action
$$;
COMMENT ON FUNCTION crm.dataflow_edges() IS 'The arrows of crm.dataflow(), by the keys of its nodes; an arrow whose end is not drawn is left out';

CREATE OR REPLACE FUNCTION crm.dataflow(format text DEFAULT 'mermaid', language text DEFAULT 'ru', everything boolean DEFAULT false) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	kind constant text := crm.diagram_format(format);
	en   constant boolean := coalesce(language, 'ru') = 'en';
	body text;
BEGIN
	WITH node AS MATERIALIZED (
		SELECT n.layer, n.key, n.label, n.state, l.n AS layer_no, CASE WHEN en THEN l.title_en ELSE l.title_ru END AS title,
			'n' || row_number() OVER (ORDER BY l.n, n.key) AS id
		FROM crm.dataflow_nodes() n
		JOIN (VALUES (1, 'door', 'ERP', 'ERP'), (2, 'route', 'Входящие адреса', 'Routes of the listener'), (3, 'list', 'Списки обзвона', 'Call lists'), (4, 'schedule', 'Расписания', 'Schedules'),
			(5, 'object', 'Факты', 'Facts'), (6, 'event', 'События', 'Events'), (7, 'rule', 'Правила', 'Rules'), (8, 'funnel', 'Воронки', 'Funnels'),
			(9, 'action', 'Действия стадий', 'Stage actions'), (10, 'channel', 'Каналы', 'Channels'), (11, 'integration', 'Интеграции', 'Integrations')) AS l(n, layer, title_ru, title_en) ON l.layer = n.layer
		WHERE n.state = 'on' OR everything
	), line AS (
		SELECT n.layer_no * 3 AS part, 0 AS no, CASE kind WHEN 'dot' THEN format(E'  subgraph cluster_%s {\n    label=%s;', n.layer, crm.diagram_text(n.title, kind))
			ELSE format('  subgraph g_%s[%s]', n.layer, crm.diagram_text(n.title)) END AS words
		FROM node n GROUP BY n.layer_no, n.layer, n.title
		UNION ALL
		SELECT n.layer_no * 3 + 1, row_number() OVER (ORDER BY n.key),
			CASE kind WHEN 'dot' THEN format('    %s [shape=%s%s, label=%s];', n.id, CASE n.layer WHEN 'rule' THEN 'hexagon' WHEN 'event' THEN 'ellipse' ELSE 'box' END,
					CASE n.state WHEN 'on' THEN '' ELSE ', style=dashed' END, crm.diagram_text(n.label, kind))
				WHEN 'mermaid' THEN format('    %s%s%s%s', n.id, CASE n.layer WHEN 'rule' THEN '{{' WHEN 'event' THEN '(' ELSE '[' END,
					crm.diagram_text(n.label || CASE n.state WHEN 'on' THEN '' ELSE ' (off)' END), CASE n.layer WHEN 'rule' THEN '}}' WHEN 'event' THEN ')' ELSE ']' END) END
		FROM node n
		UNION ALL
		SELECT n.layer_no * 3 + 2, 0, CASE kind WHEN 'dot' THEN '  }' ELSE '  end' END FROM node n GROUP BY n.layer_no
		UNION ALL
		SELECT 1000, row_number() OVER (ORDER BY e.from_key, e.to_key, e.label),
			CASE kind WHEN 'dot' THEN format('  %s -> %s%s;', a.id, b.id, CASE WHEN e.label IS NULL THEN '' ELSE format(' [label=%s]', crm.diagram_text(e.label, kind)) END)
				ELSE format('  %s -->%s %s', a.id, CASE WHEN e.label IS NULL THEN '' ELSE '|' || crm.diagram_text(e.label) || '|' END, b.id) END
		FROM (SELECT DISTINCT x.from_key, x.to_key, x.label FROM crm.dataflow_edges() x) e
		JOIN node a ON a.key = e.from_key
		JOIN node b ON b.key = e.to_key
	)
	SELECT string_agg(l.words, E'\n' ORDER BY l.part, l.no) INTO body FROM line l;
	RETURN CASE kind WHEN 'dot' THEN E'digraph dataflow {\n  rankdir=LR;\n' || coalesce(body || E'\n', '') || '}' ELSE 'flowchart LR' || coalesce(E'\n' || body, '') END;
END
$$;
COMMENT ON FUNCTION crm.dataflow(text, text, boolean) IS 'The system as a diagram (claim 68): the ERP''s doors, integrations and routes, the facts that they write, events, rules, channels, funnels, stage actions, call lists, schedules, and what leads to what. format: mermaid, or dot for Graphviz; language of the headings: ru or en; everything: also what is switched off. Names no client. Error 22023 no such format';
