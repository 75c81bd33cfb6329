-- kpi: views of crm_bi on tasks and funnels. Code: may be run again.
-- Types that ODBC carries well: bigint, integer, date, varchar(n), numeric(p,s), timestamp in the plant's zone.

CREATE OR REPLACE VIEW crm_bi.task_overdue WITH (security_invoker = true) AS
	WITH today AS MATERIALIZED (
		SELECT (crm.now() AT TIME ZONE crm.kpi_zone())::date AS day
	), numbered AS MATERIALIZED (
		SELECT w.calendar_code, w.day, w.n
		FROM today CROSS JOIN LATERAL crm.working_day_numbers(
			(SELECT (min(t.due_at) AT TIME ZONE crm.kpi_zone())::date FROM crm.task t WHERE t.state = 'open' AND t.due_at < crm.now()), today.day) w
	), late AS (
		SELECT t.*, coalesce(e.calendar_code, 'office') AS calendar, e.name AS employee, e.team_id, (t.due_at AT TIME ZONE crm.kpi_zone())::date AS due_day
		FROM crm.task t LEFT JOIN crm.employee e ON e.id = t.employee_id
		WHERE t.state = 'open' AND t.due_at < crm.now()
	)
	SELECT l.id AS task_id, l.name::varchar(500) AS task,
		l.employee_id, l.employee::varchar(500) AS employee, l.team_id,
		l.company_id, c.name::varchar(500) AS company, a.deal_id,
		(l.due_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS due_at,
		(today.day - l.due_day)::integer AS days,
		(z.n - coalesce(d.n, 0))::integer AS working_days,
		(CASE WHEN z.n - coalesce(d.n, 0) <= 1 THEN '0-1' WHEN z.n - coalesce(d.n, 0) <= 5 THEN '2-5' WHEN z.n - coalesce(d.n, 0) <= 20 THEN '6-20' ELSE '21+' END)::varchar(10) AS age,
		l.priority::integer AS priority, l.overdue_level::integer AS escalated,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM late l
	CROSS JOIN today
	LEFT JOIN numbered d ON d.calendar_code = l.calendar AND d.day = l.due_day
	LEFT JOIN numbered z ON z.calendar_code = l.calendar AND z.day = today.day
	LEFT JOIN crm.company c ON c.id = l.company_id
	LEFT JOIN LATERAL (SELECT min(x.deal_id) AS deal_id FROM crm.deal_activity x WHERE x.object_kind = 'task' AND x.object_id = l.id) a ON true;
COMMENT ON VIEW crm_bi.task_overdue IS 'Open tasks whose deadline has passed, with their age in working days of the doer''s calendar (claim 10); live.';
COMMENT ON COLUMN crm_bi.task_overdue.task_id IS 'crm.task.id';
COMMENT ON COLUMN crm_bi.task_overdue.task IS 'What is to be done';
COMMENT ON COLUMN crm_bi.task_overdue.employee_id IS 'Who does it (crm.employee.id); NULL: nobody';
COMMENT ON COLUMN crm_bi.task_overdue.employee IS 'Name';
COMMENT ON COLUMN crm_bi.task_overdue.team_id IS 'The doer''s team (crm.team.id)';
COMMENT ON COLUMN crm_bi.task_overdue.company_id IS 'Client (crm.company.id)';
COMMENT ON COLUMN crm_bi.task_overdue.company IS 'Its name';
COMMENT ON COLUMN crm_bi.task_overdue.deal_id IS 'Deal (crm.deal.id); NULL: of none';
COMMENT ON COLUMN crm_bi.task_overdue.due_at IS 'Deadline, plant''s zone';
COMMENT ON COLUMN crm_bi.task_overdue.days IS 'Days of the calendar since the day of the deadline';
COMMENT ON COLUMN crm_bi.task_overdue.working_days IS 'Working days since then, the day of the deadline not counted; what is older than twenty years counts from there';
COMMENT ON COLUMN crm_bi.task_overdue.age IS 'Group of ages in working days: 0-1, 2-5, 6-20, 21+';
COMMENT ON COLUMN crm_bi.task_overdue.priority IS '2 urgent, 1 normal, 0 when there is time';
COMMENT ON COLUMN crm_bi.task_overdue.escalated IS 'Steps of crm.task_escalation that were told';
COMMENT ON COLUMN crm_bi.task_overdue.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.task_overdue', 'Overdue tasks', 'Просроченные задачи', 'one overdue task', 'одна просроченная задача', NULL);

CREATE OR REPLACE VIEW crm_bi.deal_without_next_step WITH (security_invoker = true) AS
	SELECT d.id AS deal_id, d.name::varchar(500) AS deal, f.code::varchar(63) AS funnel, s.code::varchar(63) AS stage, s.name_ru::varchar(500) AS stage_ru, s.name_en::varchar(500) AS stage_en,
		d.owner_id AS employee_id, e.name::varchar(500) AS employee, d.company_id, c.name::varchar(500) AS company, d.amount::numeric(15,2) AS amount,
		(CASE WHEN n.overdue > 0 THEN 'overdue' ELSE 'no task' END)::varchar(10) AS problem,
		n.overdue::integer AS overdue_tasks,
		(d.stage_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS stage_at,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.deal d
	JOIN crm.funnel f ON f.id = d.funnel_id AND f.enabled
	JOIN crm.stage s ON s.id = d.stage_id
	LEFT JOIN crm.employee e ON e.id = d.owner_id
	LEFT JOIN crm.company c ON c.id = d.company_id
	CROSS JOIN LATERAL (
		SELECT count(*) FILTER (WHERE t.due_at >= crm.now()) AS ahead, count(*) FILTER (WHERE t.due_at < crm.now()) AS overdue
		FROM crm.deal_activity a JOIN crm.task t ON t.id = a.object_id AND t.state = 'open'
		WHERE a.deal_id = d.id AND a.object_kind = 'task') n
	WHERE d.closed_at IS NULL AND n.ahead = 0;
COMMENT ON VIEW crm_bi.deal_without_next_step IS 'Open deals of funnels that are on without a task in the future (claim 91); live. crm.funnel.next_step tells of them or forbids them.';
COMMENT ON COLUMN crm_bi.deal_without_next_step.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm_bi.deal_without_next_step.deal IS 'Name of the deal';
COMMENT ON COLUMN crm_bi.deal_without_next_step.funnel IS 'Code of its funnel';
COMMENT ON COLUMN crm_bi.deal_without_next_step.stage IS 'Code of its stage';
COMMENT ON COLUMN crm_bi.deal_without_next_step.stage_ru IS 'Name of the stage in Russian';
COMMENT ON COLUMN crm_bi.deal_without_next_step.stage_en IS 'Name of the stage in English';
COMMENT ON COLUMN crm_bi.deal_without_next_step.employee_id IS 'Owner (crm.employee.id); NULL: nobody';
COMMENT ON COLUMN crm_bi.deal_without_next_step.employee IS 'Name';
COMMENT ON COLUMN crm_bi.deal_without_next_step.company_id IS 'Client (crm.company.id)';
COMMENT ON COLUMN crm_bi.deal_without_next_step.company IS 'Its name';
COMMENT ON COLUMN crm_bi.deal_without_next_step.amount IS 'Value, roubles';
COMMENT ON COLUMN crm_bi.deal_without_next_step.problem IS 'no task; overdue: there are some, and their deadlines have passed';
COMMENT ON COLUMN crm_bi.deal_without_next_step.overdue_tasks IS 'Open tasks whose deadline has passed';
COMMENT ON COLUMN crm_bi.deal_without_next_step.stage_at IS 'Since when it is in its stage, plant''s zone';
COMMENT ON COLUMN crm_bi.deal_without_next_step.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.deal_without_next_step', 'Deals without a next step', 'Сделки без следующего шага', 'one open deal', 'одна открытая сделка', NULL);

CREATE OR REPLACE VIEW crm_bi.kanban WITH (security_invoker = true) AS
	SELECT f.code::varchar(63) AS funnel, s."position" AS stage_order, s.code::varchar(63) AS stage, s.name_ru::varchar(500) AS stage_ru, s.name_en::varchar(500) AS stage_en,
		(CASE WHEN s.is_won THEN 'won' WHEN s.is_lost THEN 'lost' ELSE 'open' END)::varchar(10) AS stage_kind,
		count(d.id) OVER stage_::integer AS stage_deals,
		coalesce(sum(d.amount) OVER stage_, 0)::numeric(18,2) AS stage_amount,
		coalesce(sum(d.tonnes) OVER stage_, 0)::numeric(18,3) AS stage_tonnes,
		CASE WHEN d.id IS NOT NULL THEN row_number() OVER (PARTITION BY s.id ORDER BY n.due_at IS NULL, n.due_at, d.stage_at, d.id)::integer END AS card_order,
		d.id AS deal_id, d.name::varchar(500) AS deal, d.company_id, c.name::varchar(500) AS company, d.owner_id AS employee_id, e.name::varchar(500) AS employee,
		d.amount::numeric(15,2) AS amount, d.tonnes::numeric(15,3) AS tonnes, d.expected_on,
		(d.stage_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS stage_at,
		(extract(epoch FROM crm.now() - d.stage_at) / 86400)::numeric(10,1) AS stage_days,
		(n.due_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS next_due_at, n.name::varchar(500) AS next_task,
		CASE WHEN d.id IS NOT NULL THEN coalesce(o.overdue, 0)::integer END AS overdue_tasks,
		CASE WHEN d.id IS NOT NULL THEN (d.closed_at IS NULL AND s.rot_days IS NOT NULL AND crm.now() - d.stage_at > s.rot_days * interval '1 day')::integer END AS rotting,
		CASE WHEN d.id IS NOT NULL THEN coalesce(i.open_items, 0)::integer END AS open_items,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.funnel f
	JOIN crm.stage s ON s.funnel_id = f.id
	LEFT JOIN crm.deal d ON d.stage_id = s.id AND (d.closed_at IS NULL OR d.closed_at > crm.now() - interval '30 days')
	LEFT JOIN crm.company c ON c.id = d.company_id
	LEFT JOIN crm.employee e ON e.id = d.owner_id
	LEFT JOIN LATERAL (SELECT t.due_at, t.name FROM crm.deal_activity a JOIN crm.task t ON t.id = a.object_id AND t.state = 'open'
		WHERE a.deal_id = d.id AND a.object_kind = 'task' ORDER BY t.due_at, t.id LIMIT 1) n ON true
	LEFT JOIN LATERAL (SELECT count(*) AS overdue FROM crm.deal_activity a JOIN crm.task t ON t.id = a.object_id AND t.state = 'open' AND t.due_at < crm.now()
		WHERE a.deal_id = d.id AND a.object_kind = 'task') o ON true
	LEFT JOIN LATERAL (SELECT count(*) AS open_items FROM crm.checklist_item k WHERE k.deal_id = d.id AND k.blocks AND k.done_at IS NULL) i ON true
	WHERE f.enabled
	WINDOW stage_ AS (PARTITION BY s.id);
COMMENT ON VIEW crm_bi.kanban IS 'The board of every funnel that is on (claim 41): a row a card, and one without a card for an empty stage; closed deals of the last 30 days. A card is moved by crm.move(deal_id, stage). Live; shows who asks the deals that he sees, and sums over those.';
COMMENT ON COLUMN crm_bi.kanban.funnel IS 'Code of the funnel';
COMMENT ON COLUMN crm_bi.kanban.stage_order IS 'Order of the columns of the board';
COMMENT ON COLUMN crm_bi.kanban.stage IS 'Code of the stage';
COMMENT ON COLUMN crm_bi.kanban.stage_ru IS 'Name of the stage in Russian';
COMMENT ON COLUMN crm_bi.kanban.stage_en IS 'Name of the stage in English';
COMMENT ON COLUMN crm_bi.kanban.stage_kind IS 'open, won, lost';
COMMENT ON COLUMN crm_bi.kanban.stage_deals IS 'Cards in the stage';
COMMENT ON COLUMN crm_bi.kanban.stage_amount IS 'Sum of their values, roubles';
COMMENT ON COLUMN crm_bi.kanban.stage_tonnes IS 'Sum of their quantities, tonnes';
COMMENT ON COLUMN crm_bi.kanban.card_order IS 'Order of the cards in the stage: the nearest next step first, then the longest in the stage; NULL: an empty stage';
COMMENT ON COLUMN crm_bi.kanban.deal_id IS 'crm.deal.id; NULL: an empty stage';
COMMENT ON COLUMN crm_bi.kanban.deal IS 'Name of the deal';
COMMENT ON COLUMN crm_bi.kanban.company_id IS 'Client (crm.company.id)';
COMMENT ON COLUMN crm_bi.kanban.company IS 'Its name';
COMMENT ON COLUMN crm_bi.kanban.employee_id IS 'Owner (crm.employee.id)';
COMMENT ON COLUMN crm_bi.kanban.employee IS 'Name';
COMMENT ON COLUMN crm_bi.kanban.amount IS 'Value, roubles';
COMMENT ON COLUMN crm_bi.kanban.tonnes IS 'Quantity, tonnes';
COMMENT ON COLUMN crm_bi.kanban.expected_on IS 'Day on which it is expected to close';
COMMENT ON COLUMN crm_bi.kanban.stage_at IS 'Since when it is in the stage, plant''s zone';
COMMENT ON COLUMN crm_bi.kanban.stage_days IS 'Age in the stage, days';
COMMENT ON COLUMN crm_bi.kanban.next_due_at IS 'Deadline of its first open task, plant''s zone; NULL: it has no next step';
COMMENT ON COLUMN crm_bi.kanban.next_task IS 'That task';
COMMENT ON COLUMN crm_bi.kanban.overdue_tasks IS 'Its open tasks whose deadline has passed';
COMMENT ON COLUMN crm_bi.kanban.rotting IS '1: open, and longer in the stage than crm.stage.rot_days; 0: not';
COMMENT ON COLUMN crm_bi.kanban.open_items IS 'Items of its checklist that block it';
COMMENT ON COLUMN crm_bi.kanban.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.kanban', 'Board of the funnels', 'Доска воронок', 'one card', 'одна карточка', NULL);
