-- kpi: the cold base and the process in crm_bi. Code: may be run again.

CREATE OR REPLACE VIEW crm_bi.call_list WITH (security_invoker = true) AS
	SELECT l.id AS list_id,
		l.code::varchar(63) AS list,
		l.name::varchar(500) AS list_name,
		f.code::varchar(63) AS funnel,
		(CASE WHEN l.enabled THEN 'yes' ELSE 'no' END)::varchar(3) AS enabled,
		e.contacts::integer AS contacts,
		e.fresh::integer AS fresh,
		e.retry::integer AS retry,
		e.callback::integer AS callback,
		e.callback_late::integer AS callback_late,
		e.reserved::integer AS reserved,
		e.done::integer AS done,
		e.deals::integer AS deals,
		e.refused::integer AS refused,
		e.reached_limit::integer AS reached_limit,
		e.do_not_call::integer AS do_not_call,
		e.not_called::integer AS not_called,
		e.attempts::integer AS attempts,
		(100.0 * e.done / nullif(e.contacts, 0))::numeric(5,1) AS done_percent,
		(100.0 * e.deals / nullif(e.done - e.not_called, 0))::numeric(5,1) AS deal_percent,
		(e.last_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS last_call_at,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.call_list l
	JOIN crm.funnel f ON f.id = l.funnel_id
	CROSS JOIN LATERAL (
		SELECT count(*) AS contacts,
			count(*) FILTER (WHERE x.state = 'pool' AND x.result IS NULL) AS fresh,
			count(*) FILTER (WHERE x.state = 'pool' AND x.result IS NOT NULL) AS retry,
			count(*) FILTER (WHERE x.state = 'callback') AS callback,
			count(*) FILTER (WHERE x.state = 'callback' AND x.next_at < crm.now()) AS callback_late,
			count(*) FILTER (WHERE x.state = 'reserved') AS reserved,
			count(*) FILTER (WHERE x.state = 'done') AS done,
			count(x.deal_id) AS deals,
			count(*) FILTER (WHERE x.state = 'done' AND x.ended = x.result AND x.deal_id IS NULL AND x.ended <> 'do_not_call') AS refused,
			count(*) FILTER (WHERE x.ended = 'limit') AS reached_limit,
			count(*) FILTER (WHERE x.ended = 'do_not_call') AS do_not_call,
			count(*) FILTER (WHERE x.state = 'done' AND x.result IS NULL) AS not_called,
			coalesce(sum(x.attempts), 0) AS attempts,
			max(x.result_at) AS last_at
		FROM crm.call_list_entry x WHERE x.list_id = l.id) e;
COMMENT ON VIEW crm_bi.call_list IS 'How far each call list is, a row a list (claim 91a); live. contacts = fresh + retry + callback + reserved + done. Opens to crm_bi.call_list_entry by list_id.';
COMMENT ON COLUMN crm_bi.call_list.list_id IS 'crm.call_list.id';
COMMENT ON COLUMN crm_bi.call_list.list IS 'Code of the list';
COMMENT ON COLUMN crm_bi.call_list.list_name IS 'Its name';
COMMENT ON COLUMN crm_bi.call_list.funnel IS 'Code of the funnel into which its deals go';
COMMENT ON COLUMN crm_bi.call_list.enabled IS 'yes; no: nothing is handed out';
COMMENT ON COLUMN crm_bi.call_list.contacts IS 'Contacts that were put on it';
COMMENT ON COLUMN crm_bi.call_list.fresh IS 'Of them in the pool, never called';
COMMENT ON COLUMN crm_bi.call_list.retry IS 'In the pool, called before';
COMMENT ON COLUMN crm_bi.call_list.callback IS 'Promised a call-back';
COMMENT ON COLUMN crm_bi.call_list.callback_late IS 'Of the promised ones those whose time has come';
COMMENT ON COLUMN crm_bi.call_list.reserved IS 'In somebody''s hands now';
COMMENT ON COLUMN crm_bi.call_list.done IS 'Done with';
COMMENT ON COLUMN crm_bi.call_list.deals IS 'Of which a deal came';
COMMENT ON COLUMN crm_bi.call_list.refused IS 'Done by a result without a deal: refused, wrong number and the like';
COMMENT ON COLUMN crm_bi.call_list.reached_limit IS 'Done since the limit of attempts was reached';
COMMENT ON COLUMN crm_bi.call_list.do_not_call IS 'Done since they must not be called';
COMMENT ON COLUMN crm_bi.call_list.not_called IS 'Done without any call: no number, no consent, archived, owned by another, not to be called';
COMMENT ON COLUMN crm_bi.call_list.attempts IS 'Attempts that count against the limit';
COMMENT ON COLUMN crm_bi.call_list.done_percent IS 'done of contacts, per cent';
COMMENT ON COLUMN crm_bi.call_list.deal_percent IS 'deals of those who were called and are done, per cent';
COMMENT ON COLUMN crm_bi.call_list.last_call_at IS 'Last result, plant''s zone';
COMMENT ON COLUMN crm_bi.call_list.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.call_list', 'Call lists', 'Списки обзвона', 'one call list', 'один список обзвона', 'crm_bi.call_list_entry by list_id');

CREATE OR REPLACE VIEW crm_bi.call_list_entry WITH (security_invoker = true) AS
	SELECT e.id AS entry_id,
		e.list_id,
		l.code::varchar(63) AS list,
		e.company_id AS client_id,
		k.name::varchar(500) AS client,
		e.contact_id,
		c.name::varchar(500) AS contact,
		e.time_zone::varchar(63) AS time_zone,
		e.state::varchar(10) AS state,
		(CASE WHEN e.state <> 'done' THEN e.next_at AT TIME ZONE crm.kpi_zone() END)::timestamp(0) AS next_at,
		e.employee_id,
		w.name::varchar(500) AS employee,
		e.attempts::integer AS attempts,
		e.result::varchar(63) AS result,
		r.name_ru::varchar(200) AS result_ru,
		r.name_en::varchar(200) AS result_en,
		(e.result_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS result_at,
		e.ended::varchar(63) AS ended,
		e.deal_id,
		(e.added_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS added_at
	FROM crm.call_list_entry e
	JOIN crm.call_list l ON l.id = e.list_id
	LEFT JOIN crm.contact c ON c.id = e.contact_id
	LEFT JOIN crm.company k ON k.id = e.company_id
	LEFT JOIN crm.employee w ON w.id = e.employee_id
	LEFT JOIN crm.call_list_result r ON r.code = e.result;
COMMENT ON VIEW crm_bi.call_list_entry IS 'Contacts of call lists and where each stands, a row a contact and list (claim 91a); live. Opens to crm_bi.call_list_attempt by entry_id.';
COMMENT ON COLUMN crm_bi.call_list_entry.entry_id IS 'crm.call_list_entry.id';
COMMENT ON COLUMN crm_bi.call_list_entry.list_id IS 'crm.call_list.id';
COMMENT ON COLUMN crm_bi.call_list_entry.list IS 'Code of the list';
COMMENT ON COLUMN crm_bi.call_list_entry.client_id IS 'crm.company.id; NULL: of none';
COMMENT ON COLUMN crm_bi.call_list_entry.client IS 'Name of the company';
COMMENT ON COLUMN crm_bi.call_list_entry.contact_id IS 'crm.contact.id';
COMMENT ON COLUMN crm_bi.call_list_entry.contact IS 'Name of the contact';
COMMENT ON COLUMN crm_bi.call_list_entry.time_zone IS 'Zone of the contact';
COMMENT ON COLUMN crm_bi.call_list_entry.state IS 'pool, callback, reserved, done';
COMMENT ON COLUMN crm_bi.call_list_entry.next_at IS 'When it is called next, was promised, or until when it is reserved; plant''s zone; NULL: done';
COMMENT ON COLUMN crm_bi.call_list_entry.employee_id IS 'Who has it or had it last (crm.employee.id)';
COMMENT ON COLUMN crm_bi.call_list_entry.employee IS 'Name';
COMMENT ON COLUMN crm_bi.call_list_entry.attempts IS 'Attempts that count against the limit';
COMMENT ON COLUMN crm_bi.call_list_entry.result IS 'Last result';
COMMENT ON COLUMN crm_bi.call_list_entry.result_ru IS 'Its name in Russian';
COMMENT ON COLUMN crm_bi.call_list_entry.result_en IS 'Its name in English';
COMMENT ON COLUMN crm_bi.call_list_entry.result_at IS 'When, plant''s zone';
COMMENT ON COLUMN crm_bi.call_list_entry.ended IS 'Why it is done; NULL: it is not';
COMMENT ON COLUMN crm_bi.call_list_entry.deal_id IS 'crm.deal.id that came of it';
COMMENT ON COLUMN crm_bi.call_list_entry.added_at IS 'When it was put on the list, plant''s zone';
SELECT crm.register_bi_view('crm_bi.call_list_entry', 'Contacts of call lists', 'Контакты списков обзвона', 'one contact of a list', 'один контакт списка', 'crm_bi.call_list_attempt by entry_id');

CREATE OR REPLACE VIEW crm_bi.call_list_attempt WITH (security_invoker = true) AS
	SELECT g.id AS attempt_id,
		g.list_id,
		l.code::varchar(63) AS list,
		g.entry_id,
		g.action::varchar(10) AS action,
		g.employee_id,
		w.name::varchar(500) AS employee,
		(g.at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS at,
		(g.at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		g.result::varchar(63) AS result,
		r.name_ru::varchar(200) AS result_ru,
		r.name_en::varchar(200) AS result_en,
		(g.next_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS next_at,
		(CASE WHEN g.action = 'result' THEN extract(epoch FROM g.at - h.at) END)::numeric(12,0) AS seconds
	FROM crm.call_list_log g
	LEFT JOIN crm.call_list l ON l.id = g.list_id
	LEFT JOIN crm.call_list_log h ON h.id = g.hand_id
	LEFT JOIN crm.employee w ON w.id = g.employee_id
	LEFT JOIN crm.call_list_result r ON r.code = g.result;
COMMENT ON VIEW crm_bi.call_list_attempt IS 'What happened on call lists, a row a hand-out, attempt or return (claim 91a); live. Attempts are the rows with action result.';
COMMENT ON COLUMN crm_bi.call_list_attempt.attempt_id IS 'crm.call_list_log.id';
COMMENT ON COLUMN crm_bi.call_list_attempt.list_id IS 'crm.call_list.id';
COMMENT ON COLUMN crm_bi.call_list_attempt.list IS 'Code of the list';
COMMENT ON COLUMN crm_bi.call_list_attempt.entry_id IS 'crm.call_list_entry.id';
COMMENT ON COLUMN crm_bi.call_list_attempt.action IS 'handed, result, returned, expired, barred';
COMMENT ON COLUMN crm_bi.call_list_attempt.employee_id IS 'crm.employee.id';
COMMENT ON COLUMN crm_bi.call_list_attempt.employee IS 'Name';
COMMENT ON COLUMN crm_bi.call_list_attempt.at IS 'When, plant''s zone';
COMMENT ON COLUMN crm_bi.call_list_attempt.business_date IS 'Day in the plant''s zone';
COMMENT ON COLUMN crm_bi.call_list_attempt.result IS 'Result of an attempt, or why the contact left the list';
COMMENT ON COLUMN crm_bi.call_list_attempt.result_ru IS 'Name in Russian';
COMMENT ON COLUMN crm_bi.call_list_attempt.result_en IS 'Name in English';
COMMENT ON COLUMN crm_bi.call_list_attempt.next_at IS 'When it is called next, or until when it was reserved; plant''s zone';
COMMENT ON COLUMN crm_bi.call_list_attempt.seconds IS 'Of an attempt: seconds from the hand-out to the result';
SELECT crm.register_bi_view('crm_bi.call_list_attempt', 'Attempts of call lists', 'Попытки обзвона', 'one hand-out, attempt or return', 'одна выдача, попытка или возврат', NULL);

CREATE OR REPLACE VIEW crm_bi.process_map WITH (security_invoker = true) AS
	SELECT f.id AS funnel_id,
		f.code::varchar(63) AS funnel,
		m.kind::varchar(5) AS kind,
		m.from_stage::varchar(63) AS from_stage,
		m.to_stage::varchar(63) AS to_stage,
		m.moves::integer AS moves,
		m.deals::integer AS deals,
		m.median_hours::numeric(14,3) AS median_hours,
		m.p90_hours::numeric(14,3) AS p90_hours,
		m.median_working_hours::numeric(14,3) AS median_working_hours,
		m.p90_working_hours::numeric(14,3) AS p90_working_hours,
		m.rework::numeric(5,4) AS rework
	FROM crm.funnel f
	CROSS JOIN LATERAL crm.process_map(f.code) m;
COMMENT ON VIEW crm_bi.process_map IS 'The process of every funnel as it was, mined from the stage log: a row an edge (claim 80); live, all time. crm.process_map(funnel, from, to) gives a period, crm.process_map_mermaid() draws it. Sums of moves of the kinds start and move are the rows of the log.';
COMMENT ON COLUMN crm_bi.process_map.funnel_id IS 'crm.funnel.id';
COMMENT ON COLUMN crm_bi.process_map.funnel IS 'Code of the funnel';
COMMENT ON COLUMN crm_bi.process_map.kind IS 'start: deals came to be; move: from a stage to the next; end: deals that ended there; open: deals that stand there';
COMMENT ON COLUMN crm_bi.process_map.from_stage IS 'Code of the stage that was left; NULL: start';
COMMENT ON COLUMN crm_bi.process_map.to_stage IS 'Code of the stage that was entered; NULL: end and open';
COMMENT ON COLUMN crm_bi.process_map.moves IS 'How often';
COMMENT ON COLUMN crm_bi.process_map.deals IS 'How many deals';
COMMENT ON COLUMN crm_bi.process_map.median_hours IS 'Median of the hours in from_stage; of an end the whole life of the deal; of an open one what it stands until now';
COMMENT ON COLUMN crm_bi.process_map.p90_hours IS 'Nine in ten were not longer, hours';
COMMENT ON COLUMN crm_bi.process_map.median_working_hours IS 'The median in working hours of the office';
COMMENT ON COLUMN crm_bi.process_map.p90_working_hours IS 'Nine in ten, working hours of the office';
COMMENT ON COLUMN crm_bi.process_map.rework IS 'Share of these moves into a stage where the deal had been before';
SELECT crm.register_bi_view('crm_bi.process_map', 'Process map', 'Карта процесса', 'one edge of a funnel', 'один переход воронки', 'crm.deal_history by funnel, from_stage and to_stage');
