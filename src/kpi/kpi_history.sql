-- kpi: the history of deals, everything in one order of time. Code: may be run again.
-- Each branch begins at the deal's number, so that a question about one deal reads a few rows of each table.

CREATE OR REPLACE VIEW crm.deal_moment AS
	SELECT l.deal_id, l.at, 'stage' AS kind, l.id AS object_id, CASE WHEN l.from_stage_id IS NULL THEN 'entered' ELSE 'moved' END AS what,
		concat_ws(' → ', f.name_ru, t.name_ru) AS title, NULL::text AS detail, l.by AS who, l.event_id
	FROM crm.stage_log l LEFT JOIN crm.stage f ON f.id = l.from_stage_id JOIN crm.stage t ON t.id = l.to_stage_id
	UNION ALL
	SELECT a.deal_id, l.at, 'task', a.object_id, l.what, t.name, coalesce(l.words, to_char(l.due_at AT TIME ZONE crm.kpi_zone(), 'DD.MM.YYYY HH24:MI')), l.by, l.event_id
	FROM crm.deal_activity a JOIN crm.task t ON t.id = a.object_id JOIN crm.task_log l ON l.task_id = t.id
	WHERE a.object_kind = 'task'
	UNION ALL
	SELECT a.deal_id, n.at, 'note', a.object_id, 'written', 'note', n.text, n.by, NULL
	FROM crm.deal_activity a JOIN crm.note n ON n.id = a.object_id
	WHERE a.object_kind = 'note'
	UNION ALL
	SELECT o.deal_id, o.ordered_at, 'order', o.id, 'ordered', concat_ws(' ', o.number, o.product), concat_ws(' ', o.tonnes, 't'), o.source, NULL
	FROM crm.customer_order o WHERE o.deal_id IS NOT NULL
	UNION ALL
	SELECT o.deal_id, s.weighed_at, 'shipment', s.id, CASE WHEN s.cancelled_at IS NULL THEN 'loaded' ELSE 'cancelled' END, s.product,
		concat_ws(' ', round(s.net_kg / 1000, 3), 't', s.waybill), s.source, NULL
	FROM crm.customer_order o JOIN crm.shipment s ON s.order_id = o.id WHERE o.deal_id IS NOT NULL
	UNION ALL
	SELECT x.deal_id, w.at, 'trip', t.id, w.what, v.plate, p.name, NULL, NULL
	FROM (SELECT DISTINCT o.deal_id, y.trip_id FROM crm.customer_order o JOIN crm.trip_order y ON y.order_id = o.id WHERE o.deal_id IS NOT NULL) x
	JOIN crm.trip t ON t.id = x.trip_id JOIN crm.vehicle v ON v.id = t.vehicle_id
	LEFT JOIN crm.place p ON p.id = t.destination_place_id
	CROSS JOIN LATERAL (VALUES ('departed', t.departed_at), ('approaching', t.approaching_at), ('arrived', t.arrived_at), ('unloaded', t.unloaded_at)) AS w(what, at)
	WHERE w.at IS NOT NULL
	UNION ALL
	SELECT d.object_id, d.created_at, 'document', d.id, d.state, concat_ws(' ', d.kind, d.number), d.reason, d.created_by, NULL
	FROM crm.document d WHERE d.object_kind = 'deal'
	UNION ALL
	SELECT d.object_id, m.queued_at, 'message', m.id, m.state, concat_ws(' ', m.channel, m.rule), concat_ws(E'\n', m.subject, m.body, m.last_error), (SELECT p.name FROM crm.contact p WHERE p.id = m.contact_id), m.event_id
	FROM crm.document d JOIN crm.document_sending g ON g.document_id = d.id AND g.message_id IS NOT NULL
	CROSS JOIN LATERAL (SELECT x.id, x.queued_at, x.state, x.channel, x.rule, x.subject, x.body, x.last_error, x.contact_id, x.event_id FROM crm.message x WHERE x.id = g.message_id OFFSET 0) m
	WHERE d.object_kind = 'deal'
	UNION ALL
	SELECT s.deal_id, m.queued_at, 'message', m.id, m.state, concat_ws(' ', m.channel, m.rule), concat_ws(E'\n', m.subject, m.body, m.last_error), (SELECT p.name FROM crm.contact p WHERE p.id = m.contact_id), m.event_id
	FROM (
		SELECT q.id AS deal_id, 'deal'::text AS object_kind, q.id AS object_id FROM crm.deal q
		UNION ALL
		SELECT o.deal_id, 'customer_order', o.id FROM crm.customer_order o WHERE o.deal_id IS NOT NULL
		UNION ALL
		SELECT o.deal_id, 'shipment', s.id FROM crm.customer_order o JOIN crm.shipment s ON s.order_id = o.id WHERE o.deal_id IS NOT NULL
		UNION ALL
		-- a trip that carries two orders of a deal is one
		SELECT DISTINCT o.deal_id, 'trip', x.trip_id FROM crm.customer_order o JOIN crm.trip_order x ON x.order_id = o.id WHERE o.deal_id IS NOT NULL
		UNION ALL
		SELECT a.deal_id, a.object_kind, a.object_id FROM crm.deal_activity a
	) s
	CROSS JOIN LATERAL (SELECT x.id FROM crm.event x WHERE x.object_kind = s.object_kind AND x.object_id = s.object_id OFFSET 0) e
	CROSS JOIN LATERAL (SELECT x.id, x.queued_at, x.state, x.channel, x.rule, x.subject, x.body, x.last_error, x.contact_id, x.event_id FROM crm.message x WHERE x.event_id = e.id OFFSET 0) m;
COMMENT ON VIEW crm.deal_moment IS 'What happened in deals, a row each, with its texts. Runs as its owner: crm_bi.deal_history and crm.deal_story give it to who may see the deal';
COMMENT ON COLUMN crm.deal_moment.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm.deal_moment.at IS 'When it happened, business clock';
COMMENT ON COLUMN crm.deal_moment.kind IS 'stage, task, note, order, shipment, trip, document, message';
COMMENT ON COLUMN crm.deal_moment.object_id IS 'id in the table of that kind; of a stage crm.stage_log.id';
COMMENT ON COLUMN crm.deal_moment.what IS 'What happened; of a document or message its state now';
COMMENT ON COLUMN crm.deal_moment.title IS 'In short, without words of a letter or note';
COMMENT ON COLUMN crm.deal_moment.detail IS 'At length, texts of messages and notes too';
COMMENT ON COLUMN crm.deal_moment.who IS 'Who did it, or whom it went to';
COMMENT ON COLUMN crm.deal_moment.event_id IS 'crm.event.id that caused it; NULL: none, or not known';

CREATE OR REPLACE FUNCTION crm.deal_story(deal_id bigint, at_most integer DEFAULT 1000)
	RETURNS TABLE (at timestamptz, kind text, what text, title text, detail text, who text, object_id bigint, event_id bigint)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
	SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
	IF NOT crm.sees_deal($1) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('deal %s is not there', coalesce($1::text, 'NULL')), HINT = 'SELECT id, name FROM crm.deal;';
	END IF;
	RETURN QUERY SELECT m.* FROM (
		SELECT x.at, x.kind, x.what, x.title, x.detail, x.who, x.object_id, x.event_id FROM crm.deal_moment x WHERE x.deal_id = $1
		ORDER BY x.at DESC, x.kind, x.object_id DESC LIMIT $2) m ORDER BY m.at, m.kind, m.object_id;
END
$$;
COMMENT ON FUNCTION crm.deal_story(bigint, integer) IS 'The history of a deal in one call, for who sees the deal: stages, tasks, notes, orders, shipments, trips, documents and messages with their texts, in order of time; the newest at_most. Error P0002: no such deal, or not the speaker''s. Claim 28';

CREATE OR REPLACE VIEW crm_bi.deal_history WITH (security_invoker = true) AS
	SELECT h.deal_id,
		d.name::varchar(500) AS deal,
		d.company_id AS client_id,
		c.name::varchar(500) AS client,
		(h.at AT TIME ZONE crm.kpi_zone())::timestamp(3) AS at,
		(h.at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		h.kind::varchar(20) AS kind,
		h.object_id,
		h.what::varchar(40) AS what,
		h.title::varchar(500) AS title,
		h.who::varchar(500) AS who,
		h.event_id,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.deal_moment h
	JOIN crm.deal d ON d.id = h.deal_id
	LEFT JOIN crm.company c ON c.id = d.company_id;
COMMENT ON VIEW crm_bi.deal_history IS 'What happened in a deal: stages, tasks, notes, orders, shipments, trips, documents and messages in one order of time (claim 28); live. Ask with deal_id = N and ORDER BY at, kind, object_id. Calls and letters stand here once their rooms bring them';
COMMENT ON COLUMN crm_bi.deal_history.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm_bi.deal_history.deal IS 'Its name';
COMMENT ON COLUMN crm_bi.deal_history.client_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm_bi.deal_history.client IS 'Its name';
COMMENT ON COLUMN crm_bi.deal_history.at IS 'When it happened, plant''s zone';
COMMENT ON COLUMN crm_bi.deal_history.business_date IS 'Day in the plant''s zone';
COMMENT ON COLUMN crm_bi.deal_history.kind IS 'stage, task, note, order, shipment, trip, document, message';
COMMENT ON COLUMN crm_bi.deal_history.object_id IS 'id in the table of that kind; of a stage crm.stage_log.id';
COMMENT ON COLUMN crm_bi.deal_history.what IS 'What happened: entered or moved; of a task added, moved, done, cancelled, …; loaded; departed, arrived; of a document or message its state now';
COMMENT ON COLUMN crm_bi.deal_history.title IS 'In short; crm.deal_story(deal_id) gives the texts';
COMMENT ON COLUMN crm_bi.deal_history.who IS 'Who did it, or whom it went to';
COMMENT ON COLUMN crm_bi.deal_history.event_id IS 'crm.event.id that caused it; NULL: none, or not known';
COMMENT ON COLUMN crm_bi.deal_history.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.deal_history', 'History of deals', 'История сделок', 'one thing that happened in a deal', 'одно событие в сделке', NULL);
