-- kpi: why requests get lost, deadlines break, clients leave (claim 81). Code: may be run again.

CREATE OR REPLACE FUNCTION crm.ship_loss() RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO crm.kpi_parameter (code, value, unit, description_en, description_ru, shipped) VALUES
		('loss_silent_hours', 16, 'working hours', 'An open deal without any activity for so long counts as lost sight of.', 'Открытая сделка без активности столько рабочих часов считается забытой.', true),
		('loss_rhythm_factor', 1.5, '', 'A client is late by the own rhythm when so many times the median interval between orders has passed.', 'Клиент выбился из ритма, когда прошло столько медианных интервалов между заказами.', true),
		('loss_rhythm_orders', 4, 'days', 'Days with orders that a client needs to have a rhythm.', 'Сколько дней с заказами нужно, чтобы у клиента был ритм.', true)
	ON CONFLICT ON CONSTRAINT kpi_parameter_pkey DO NOTHING
$$;
COMMENT ON FUNCTION crm.ship_loss() IS 'Writes the parameters of the views of losses that ship; a row that is there stays. Called by crm.activate().';
SELECT crm.register_hook('ship', 'loss', 'crm.ship_loss');

CREATE OR REPLACE VIEW crm_bi.deal_activity WITH (security_invoker = true) AS
	SELECT a.deal_id, a.kind::varchar(10) AS kind, a.fact_id, a.contact_id, a.employee_id,
		(a.moment AT TIME ZONE crm.kpi_zone())::timestamp(0) AS at,
		(a.moment AT TIME ZONE crm.kpi_zone())::date AS business_date
	FROM (
		SELECT l.deal_id, 'move' AS kind, l.id AS fact_id, NULL::bigint AS contact_id, NULL::bigint AS employee_id, l.at AS moment
		FROM crm.stage_log l WHERE l.event_id IS NULL AND l.from_stage_id IS NOT NULL
		UNION ALL
		SELECT d.id, 'message', m.id, c.id, NULL, m.queued_at
		FROM crm.deal d
		CROSS JOIN LATERAL (SELECT x.id FROM crm.contact x WHERE x.company_id = d.company_id UNION SELECT d.contact_id WHERE d.contact_id IS NOT NULL) c
		JOIN crm.message_said m ON m.contact_id = c.id AND m.rule_id IS NULL AND m.queued_at >= d.created_at
		UNION ALL
		SELECT d.id, 'call', g.id, c.id, g.employee_id, g.at
		FROM crm.deal d
		CROSS JOIN LATERAL (SELECT x.id FROM crm.contact x WHERE x.company_id = d.company_id UNION SELECT d.contact_id WHERE d.contact_id IS NOT NULL) c
		JOIN crm.call_list_entry e ON e.contact_id = c.id
		JOIN crm.call_list_log g ON g.entry_id = e.id AND g.action = 'result' AND g.at >= d.created_at
		UNION ALL
		SELECT y.deal_id, 'task', t.id, t.contact_id, t.employee_id, t.done_at
		FROM crm.deal_activity y JOIN crm.task t ON t.id = y.object_id AND t.state = 'done' WHERE y.object_kind = 'task'
		UNION ALL
		SELECT d.id, 'note', n.id, n.contact_id, NULL, n.at
		FROM crm.deal d JOIN crm.note n ON n.company_id = d.company_id AND n.at >= d.created_at
	) a;
COMMENT ON VIEW crm_bi.deal_activity IS 'What people did for a deal, a row an activity; live: moves by hand, messages sent by hand to its contact or its company''s, attempts of call lists, tasks that were done, notes about its company. What robots do is no activity.';
COMMENT ON COLUMN crm_bi.deal_activity.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm_bi.deal_activity.kind IS 'move, message, call, task, note';
COMMENT ON COLUMN crm_bi.deal_activity.fact_id IS 'crm.stage_log.id, crm.message.id, crm.call_list_log.id, crm.task.id or crm.note.id';
COMMENT ON COLUMN crm_bi.deal_activity.contact_id IS 'crm.contact.id with whom; NULL: a move';
COMMENT ON COLUMN crm_bi.deal_activity.employee_id IS 'crm.employee.id who did it, where that is known';
COMMENT ON COLUMN crm_bi.deal_activity.at IS 'When, plant''s zone';
COMMENT ON COLUMN crm_bi.deal_activity.business_date IS 'Day in the plant''s zone';
SELECT crm.register_bi_view('crm_bi.deal_activity', 'Activities of deals', 'Активности по сделкам', 'one activity of a person', 'одна активность сотрудника', NULL);

CREATE OR REPLACE VIEW crm_bi.loss_no_activity WITH (security_invoker = true) AS
	WITH span AS MATERIALIZED (
		SELECT greatest(min(d.created_at), crm.now() - interval '5 years') AS since, coalesce(crm.kpi_parameter_at('loss_silent_hours', (crm.now() AT TIME ZONE crm.kpi_zone())::date), 16) AS hours
		FROM crm.deal d WHERE d.closed_at IS NULL
	), scale AS MATERIALIZED (
		SELECT c.calendar_code, c.time_zone, w.opens, w.closes, w.before, crm.working_position(crm.now(), w.opens, w.closes, w.before) AS here
		FROM span s
		CROSS JOIN (SELECT DISTINCT e.calendar_code, e.time_zone FROM crm.employee e UNION SELECT 'office', crm.kpi_zone()) c
		CROSS JOIN LATERAL crm.working_scale(s.since, crm.now(), c.calendar_code, c.time_zone) w
		WHERE s.since IS NOT NULL
	)
	SELECT d.id AS deal_id,
		d.name::varchar(500) AS deal,
		f.code::varchar(63) AS funnel,
		t.code::varchar(63) AS stage,
		d.company_id AS client_id,
		k.name::varchar(500) AS client,
		d.owner_id AS employee_id,
		e.name::varchar(500) AS employee,
		d.amount::numeric(15,2) AS amount,
		(d.created_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS created_at,
		a.at AS last_activity_at,
		coalesce(a.kind, 'none')::varchar(10) AS last_activity,
		((c.here - crm.working_position(greatest(coalesce(a.at AT TIME ZONE crm.kpi_zone(), d.created_at), s.since), c.opens, c.closes, c.before)) / 60)::numeric(12,1) AS silent_working_hours,
		s.hours::numeric(12,1) AS limit_hours,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM span s
	JOIN crm.deal d ON d.closed_at IS NULL
	JOIN crm.funnel f ON f.id = d.funnel_id
	JOIN crm.stage t ON t.id = d.stage_id
	LEFT JOIN crm.company k ON k.id = d.company_id
	LEFT JOIN crm.employee e ON e.id = d.owner_id
	JOIN scale c ON c.calendar_code = coalesce(e.calendar_code, 'office') AND c.time_zone = coalesce(e.time_zone, crm.kpi_zone())
	LEFT JOIN LATERAL (SELECT x.at, x.kind FROM crm_bi.deal_activity x WHERE x.deal_id = d.id ORDER BY x.at DESC LIMIT 1) a ON true
	WHERE c.here - crm.working_position(greatest(coalesce(a.at AT TIME ZONE crm.kpi_zone(), d.created_at), s.since), c.opens, c.closes, c.before) > s.hours * 60;
COMMENT ON VIEW crm_bi.loss_no_activity IS 'Leads and deals that nobody works at (claim 81): open ones without an activity of a person for longer than the parameter loss_silent_hours, in the working hours of their owner''s calendar and zone (the office''s where nobody owns them); live. What is older than five years counts as five. Opens to crm_bi.deal_activity by deal_id.';
COMMENT ON COLUMN crm_bi.loss_no_activity.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm_bi.loss_no_activity.deal IS 'Its name';
COMMENT ON COLUMN crm_bi.loss_no_activity.funnel IS 'Code of the funnel';
COMMENT ON COLUMN crm_bi.loss_no_activity.stage IS 'Code of the stage where it is';
COMMENT ON COLUMN crm_bi.loss_no_activity.client_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.loss_no_activity.client IS 'Name of the company';
COMMENT ON COLUMN crm_bi.loss_no_activity.employee_id IS 'Owner (crm.employee.id); NULL: nobody';
COMMENT ON COLUMN crm_bi.loss_no_activity.employee IS 'Name of the owner';
COMMENT ON COLUMN crm_bi.loss_no_activity.amount IS 'Value, roubles';
COMMENT ON COLUMN crm_bi.loss_no_activity.created_at IS 'When the deal came to be, plant''s zone';
COMMENT ON COLUMN crm_bi.loss_no_activity.last_activity_at IS 'The last activity, plant''s zone; NULL: none ever';
COMMENT ON COLUMN crm_bi.loss_no_activity.last_activity IS 'move, message, call, task, note; none';
COMMENT ON COLUMN crm_bi.loss_no_activity.silent_working_hours IS 'Working hours since then, or since the deal came to be';
COMMENT ON COLUMN crm_bi.loss_no_activity.limit_hours IS 'The parameter loss_silent_hours as it holds today';
COMMENT ON COLUMN crm_bi.loss_no_activity.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.loss_no_activity', 'Losses: nobody works at them', 'Потери: нет активности', 'one open deal', 'одна открытая сделка', 'crm_bi.deal_activity by deal_id');

CREATE OR REPLACE VIEW crm_bi.loss_deadline WITH (security_invoker = true) AS
	WITH broken AS (
		SELECT 'delivery' AS kind, 'customer_order' AS object_kind, o.id AS object_id, o.company_id, k.owner_id AS employee_id, o.window_to AS due_at, CASE WHEN t.missing = 0 THEN t.arrived_at END AS done_at,
			o.number AS words
		FROM crm.customer_order o
		JOIN crm.company k ON k.id = o.company_id
		CROSS JOIN LATERAL (SELECT max(x.arrived_at) AS arrived_at, count(*) FILTER (WHERE x.arrived_at IS NULL) AS missing, count(*) AS trips
			FROM crm.trip_order y JOIN crm.trip x ON x.id = y.trip_id AND x.state <> 'cancelled' WHERE y.order_id = o.id OFFSET 0) t
		WHERE o.state <> 'cancelled' AND o.place_id IS NOT NULL
			AND o.window_to + coalesce(crm.kpi_parameter_at('otif_late_minutes', (o.window_to AT TIME ZONE crm.kpi_zone())::date), 0) * interval '1 minute'
				< CASE WHEN t.trips = 0 OR t.missing > 0 THEN crm.now() ELSE t.arrived_at END
		UNION ALL
		SELECT 'call_back', 'call_list_entry', g.entry_id, e.company_id, g.employee_id, g.next_at, h.at, l.name
		FROM crm.call_list_log g
		JOIN crm.call_list_result r ON r.code = g.result AND r.outcome = 'callback'
		JOIN crm.call_list_entry e ON e.id = g.entry_id
		JOIN crm.call_list l ON l.id = g.list_id
		LEFT JOIN LATERAL (SELECT min(x.at) AS at, min(x.at) FILTER (WHERE x.action = 'barred') AS barred_at FROM crm.call_list_log x
			WHERE x.entry_id = g.entry_id AND x.id > g.id AND x.action IN ('handed', 'barred')) h ON true
		WHERE g.action = 'result' AND g.next_at + l.callback_grace < coalesce(h.at, crm.now()) AND (h.barred_at IS NULL OR h.barred_at > g.next_at)
		UNION ALL
		SELECT 'task', 'task', t.id, t.company_id, t.employee_id, t.due_at, t.done_at, t.name
		FROM crm.task t
		WHERE t.state <> 'cancelled' AND t.due_at < coalesce(t.done_at, crm.now())
	)
	SELECT b.kind::varchar(20) AS kind,
		b.object_kind::varchar(30) AS object_kind,
		b.object_id,
		b.words::varchar(500) AS object,
		b.company_id AS client_id,
		k.name::varchar(500) AS client,
		b.employee_id,
		e.name::varchar(500) AS employee,
		(b.due_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS due_at,
		(b.due_at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		(b.done_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS done_at,
		(CASE WHEN b.done_at IS NULL THEN 'no' ELSE 'yes' END)::varchar(3) AS done,
		(extract(epoch FROM greatest(coalesce(b.done_at, crm.now()), b.due_at) - b.due_at) / 3600)::numeric(14,1) AS late_hours,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM broken b
	LEFT JOIN crm.company k ON k.id = b.company_id
	LEFT JOIN crm.employee e ON e.id = b.employee_id;
COMMENT ON VIEW crm_bi.loss_deadline IS 'Deadlines that were broken (claim 81), a row a deadline; live: deliveries whose window is over (and the parameter otif_late_minutes) and that had not all arrived, tasks that were done after their deadline or are not done yet, call-backs that were not made within their list''s grace. Opens to the row that object_kind and object_id name: crm_bi.otif by order_id, crm_bi.call_list_attempt by entry_id.';
COMMENT ON COLUMN crm_bi.loss_deadline.kind IS 'delivery, task, call_back';
COMMENT ON COLUMN crm_bi.loss_deadline.object_kind IS 'Table of the row: customer_order, task, call_list_entry';
COMMENT ON COLUMN crm_bi.loss_deadline.object_id IS 'Its id there';
COMMENT ON COLUMN crm_bi.loss_deadline.object IS 'Number of the order, name of the task or of the call list';
COMMENT ON COLUMN crm_bi.loss_deadline.client_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.loss_deadline.client IS 'Name of the company';
COMMENT ON COLUMN crm_bi.loss_deadline.employee_id IS 'Owner of the client, who is to do the task, or who promised (crm.employee.id)';
COMMENT ON COLUMN crm_bi.loss_deadline.employee IS 'Name';
COMMENT ON COLUMN crm_bi.loss_deadline.due_at IS 'The deadline, plant''s zone';
COMMENT ON COLUMN crm_bi.loss_deadline.business_date IS 'Its day in the plant''s zone';
COMMENT ON COLUMN crm_bi.loss_deadline.done_at IS 'When it was done after all; NULL: not yet, or not all of it';
COMMENT ON COLUMN crm_bi.loss_deadline.done IS 'yes, no';
COMMENT ON COLUMN crm_bi.loss_deadline.late_hours IS 'Hours from the deadline until it was done, or until now';
COMMENT ON COLUMN crm_bi.loss_deadline.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.loss_deadline', 'Losses: broken deadlines', 'Потери: сорванные сроки', 'one deadline', 'один срок', 'crm_bi.otif by order_id, crm_bi.call_list_attempt by entry_id');

CREATE OR REPLACE VIEW crm_bi.order_interval WITH (security_invoker = true) AS
	SELECT q.company_id AS client_id,
		q.day AS business_date,
		q.previous AS previous_date,
		(q.day - q.previous)::integer AS days,
		q.orders::integer AS orders
	FROM (SELECT g.company_id, g.day, g.orders, lag(g.day) OVER (PARTITION BY g.company_id ORDER BY g.day) AS previous
		FROM (SELECT o.company_id, (o.ordered_at AT TIME ZONE crm.kpi_zone())::date AS day, count(*) AS orders
			FROM crm.customer_order o WHERE o.state <> 'cancelled' GROUP BY 1, 2) g) q;
COMMENT ON VIEW crm_bi.order_interval IS 'Days on which a client ordered and the interval since the one before, a row a client and day; live, without cancelled orders.';
COMMENT ON COLUMN crm_bi.order_interval.client_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.order_interval.business_date IS 'Day of the orders, plant''s zone';
COMMENT ON COLUMN crm_bi.order_interval.previous_date IS 'The day with orders before; NULL: the first';
COMMENT ON COLUMN crm_bi.order_interval.days IS 'Days between them; NULL: the first';
COMMENT ON COLUMN crm_bi.order_interval.orders IS 'Orders of that day';
SELECT crm.register_bi_view('crm_bi.order_interval', 'Intervals between orders', 'Интервалы между заказами', 'one client and day with orders', 'один клиент и день с заказами', NULL);

CREATE OR REPLACE VIEW crm_bi.loss_rhythm WITH (security_invoker = true) AS
	WITH today AS MATERIALIZED (
		SELECT t.day, coalesce(crm.kpi_parameter_at('loss_rhythm_factor', t.day), 1.5) AS factor, coalesce(crm.kpi_parameter_at('loss_rhythm_orders', t.day), 4) AS orders
		FROM (SELECT (crm.now() AT TIME ZONE crm.kpi_zone())::date AS day) t
	), rhythm AS (
		SELECT i.client_id, count(*) AS days, sum(i.orders) AS orders, max(i.business_date) AS last_date,
			percentile_cont(ARRAY[0.5, 0.9]) WITHIN GROUP (ORDER BY i.days) AS span
		FROM crm_bi.order_interval i
		GROUP BY i.client_id
	)
	SELECT r.client_id,
		k.name::varchar(500) AS client,
		k.owner_id AS employee_id,
		e.name::varchar(500) AS employee,
		r.orders::integer AS orders,
		r.days::integer AS order_days,
		r.span[1]::numeric(10,1) AS median_days,
		r.span[2]::numeric(10,1) AS p90_days,
		r.last_date AS last_order_date,
		(t.day - r.last_date)::integer AS silent_days,
		((t.day - r.last_date) / nullif(r.span[1], 0))::numeric(10,1) AS times_median,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM today t
	JOIN rhythm r ON r.days >= t.orders AND t.day - r.last_date > greatest(r.span[1] * t.factor, r.span[2])
	JOIN crm.company k ON k.id = r.client_id AND k.is_client AND k.archived_at IS NULL
	LEFT JOIN crm.employee e ON e.id = k.owner_id;
COMMENT ON VIEW crm_bi.loss_rhythm IS 'Clients who leave (claim 81): more days since the last order than their own rhythm has, which is the median interval between days with orders, times the parameter loss_rhythm_factor, and at least nine in ten of their intervals; of clients with at least loss_rhythm_orders such days; live. Opens to crm_bi.order_interval by client_id.';
COMMENT ON COLUMN crm_bi.loss_rhythm.client_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.loss_rhythm.client IS 'Name of the client';
COMMENT ON COLUMN crm_bi.loss_rhythm.employee_id IS 'Owner (crm.employee.id); NULL: nobody';
COMMENT ON COLUMN crm_bi.loss_rhythm.employee IS 'Name of the owner';
COMMENT ON COLUMN crm_bi.loss_rhythm.orders IS 'Orders of all time, without cancelled ones';
COMMENT ON COLUMN crm_bi.loss_rhythm.order_days IS 'Days with orders';
COMMENT ON COLUMN crm_bi.loss_rhythm.median_days IS 'Median of the days between them';
COMMENT ON COLUMN crm_bi.loss_rhythm.p90_days IS 'Nine in ten intervals were not longer';
COMMENT ON COLUMN crm_bi.loss_rhythm.last_order_date IS 'Day of the last order, plant''s zone';
COMMENT ON COLUMN crm_bi.loss_rhythm.silent_days IS 'Days since';
COMMENT ON COLUMN crm_bi.loss_rhythm.times_median IS 'How many median intervals that is';
COMMENT ON COLUMN crm_bi.loss_rhythm.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.loss_rhythm', 'Losses: clients out of rhythm', 'Потери: клиенты выбились из ритма', 'one client', 'один клиент', 'crm_bi.order_interval by client_id');
