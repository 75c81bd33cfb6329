-- funnel: tasks of deals, and the next step. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.

CREATE OR REPLACE FUNCTION crm.deals_of_tasks(object_ids bigint[]) RETURNS TABLE(object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT a.object_id, a.deal_id FROM crm.deal_activity a WHERE a.object_kind = 'task' AND a.object_id = ANY (object_ids);
END;
COMMENT ON FUNCTION crm.deals_of_tasks(bigint[]) IS 'Finder of an event that happened to a task: its deal.';

CREATE OR REPLACE FUNCTION crm.deals_of_messages(object_ids bigint[]) RETURNS TABLE(object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT b.id, b.object_id FROM crm.message_body b WHERE b.id = ANY (object_ids) AND b.object_kind = 'deal';
END;
COMMENT ON FUNCTION crm.deals_of_messages(bigint[]) IS 'Finder of message.delivered and message.failed: the deal that the message told of.';

CREATE OR REPLACE FUNCTION crm.deal_variables() RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT ARRAY['deal', 'deal_id', 'funnel', 'funnel_ru', 'funnel_en', 'stage', 'stage_ru', 'stage_en', 'amount', 'tonnes', 'company', 'owner', 'expected_on'] $$;
COMMENT ON FUNCTION crm.deal_variables() IS 'What templates of stage actions may name.';

CREATE OR REPLACE FUNCTION crm.deal_values(deal_ids bigint[]) RETURNS TABLE (n bigint, deal_id bigint, company_id bigint, data jsonb)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	SELECT g.n, d.id, d.company_id, jsonb_build_object('deal', d.name, 'deal_id', d.id, 'funnel', f.code, 'funnel_ru', f.name_ru, 'funnel_en', f.name_en,
		'stage', s.code, 'stage_ru', s.name_ru, 'stage_en', s.name_en, 'amount', d.amount, 'tonnes', d.tonnes, 'company', c.name, 'owner', e.name,
		'expected_on', to_char(d.expected_on, 'DD.MM.YYYY'))
	FROM unnest($1) WITH ORDINALITY AS g(id, n)
	CROSS JOIN LATERAL (SELECT y.* FROM crm.deal y WHERE y.id = g.id OFFSET 0) d
	JOIN crm.stage s ON s.id = d.stage_id
	JOIN crm.funnel f ON f.id = d.funnel_id
	LEFT JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = d.company_id OFFSET 0) c ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.employee y WHERE y.id = d.owner_id OFFSET 0) e ON true
	ORDER BY g.n
$$;
COMMENT ON FUNCTION crm.deal_values(bigint[]) IS 'The values of crm.deal_variables() for deals, in their order.';

CREATE OR REPLACE FUNCTION crm.add_deal_task(deal_id bigint, name text, due_at timestamptz, employee_id bigint DEFAULT NULL, note text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	d crm.deal;
	made bigint;
BEGIN
	SELECT x.* INTO d FROM crm.deal x WHERE x.id = $1;
	IF NOT FOUND OR NOT crm.sees_deal(d.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('deal %s does not exist', coalesce(deal_id::text, 'NULL')), HINT = 'SELECT id, name FROM crm.deal lists the deals that you see.';
	END IF;
	IF due_at IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('the task "%s" has no deadline', left(name, 100)), HINT = 'Give the time by which it is to be done.';
	END IF;
	INSERT INTO crm.task (name, employee_id, giver_id, due_at, company_id, contact_id, note)
	VALUES ($2, coalesce($4, d.owner_id, crm.me()), crm.me(), $3, d.company_id, d.contact_id, $5) RETURNING id INTO made;
	INSERT INTO crm.deal_activity (deal_id, object_kind, object_id) VALUES (d.id, 'task', made);
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.add_deal_task(bigint, text, timestamptz, bigint, text) IS 'Gives a task of a deal, its next step: to an employee (NULL: the deal''s owner, else who speaks), by when; returns its number. Errors: P0002 no such deal, 22004 no deadline, 23503 no such employee. Claims 90 and 91.';

CREATE OR REPLACE FUNCTION crm.link_activity(deal_id bigint, object_kind text, object_id bigint) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.sees_deal($1) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('deal %s does not exist', coalesce(deal_id::text, 'NULL')), HINT = 'SELECT id, name FROM crm.deal lists the deals that you see.';
	END IF;
	INSERT INTO crm.deal_activity (deal_id, object_kind, object_id) VALUES ($1, $2, $3) ON CONFLICT ON CONSTRAINT deal_activity_pkey DO NOTHING;
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION crm.link_activity(bigint, text, bigint) IS 'Says that an activity (task, note, call, letter, meeting; its id) belongs to a deal. False: it was said before. Error P0002 no such deal.';

-- ---- the next step ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.deal_has_next_step(deal_id bigint) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT EXISTS (SELECT FROM crm.deal_activity a JOIN crm.task t ON t.id = a.object_id AND t.state = 'open' WHERE a.deal_id = $1 AND a.object_kind = 'task');
END;
COMMENT ON FUNCTION crm.deal_has_next_step(bigint) IS 'Whether a deal has an open task. For conditions and the truth of rules.';

CREATE OR REPLACE FUNCTION crm.next_step_ask(deal_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	asked bigint[];
BEGIN
	IF crm.rules_held() OR NOT EXISTS (SELECT FROM crm.funnel f WHERE f.next_step <> 'free' AND f.enabled) THEN
		RETURN;
	END IF;
	SELECT array_agg(d.id) INTO asked
	FROM unnest(deal_ids) AS g(id)
	CROSS JOIN LATERAL (SELECT y.id, y.funnel_id, y.closed_at FROM crm.deal y WHERE y.id = g.id OFFSET 0) d
	JOIN crm.funnel f ON f.id = d.funnel_id AND f.next_step <> 'free' AND f.enabled
	WHERE d.closed_at IS NULL;
	IF asked IS NOT NULL THEN
		INSERT INTO crm.next_step_check (deal_ids) VALUES (asked);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.next_step_ask(bigint[]) IS 'Has the next step of deals looked at when the transaction commits, where their funnel wants it (crm.funnel.next_step); not for a load that holds rules.';

CREATE OR REPLACE FUNCTION crm.next_step_judge() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	asked bigint[];
	bare  bigint[];
	kinds text[];
	names text;
BEGIN
	-- The first call judges all that the transaction asked: no other's rows are ever seen.
	WITH taken AS (DELETE FROM crm.next_step_check RETURNING deal_ids)
	SELECT array_agg(DISTINCT i.id) INTO asked FROM taken t CROSS JOIN unnest(t.deal_ids) AS i(id);
	IF asked IS NULL OR NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	SELECT array_agg(d.id ORDER BY d.id), array_agg(f.next_step ORDER BY d.id) INTO bare, kinds
	FROM unnest(asked) AS g(id)
	CROSS JOIN LATERAL (SELECT y.id, y.funnel_id, y.closed_at FROM crm.deal y WHERE y.id = g.id OFFSET 0) d
	JOIN crm.funnel f ON f.id = d.funnel_id AND f.enabled
	WHERE d.closed_at IS NULL AND NOT EXISTS (SELECT FROM crm.deal_activity a
		CROSS JOIN LATERAL (SELECT y.state FROM crm.task y WHERE y.id = a.object_id OFFSET 0) t
		WHERE a.deal_id = d.id AND a.object_kind = 'task' AND t.state = 'open' OFFSET 0);
	IF 'demand' = ANY (kinds) THEN
		SELECT string_agg(b.id::text, ', ') INTO names FROM (SELECT x.id FROM unnest(bare, kinds) AS x(id, kind) WHERE x.kind = 'demand' ORDER BY x.id LIMIT 10) b;
		RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = format('open deals would have no next step: %s', names),
			DETAIL = 'Their funnel demands one (crm.funnel.next_step).',
			HINT = 'In the same transaction: SELECT crm.add_deal_task(deal, ''what'', ''by when''); or close the deal.';
	END IF;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
	SELECT 'deal.without_next_step', 'deal', v.deal_id, v.company_id, v.data FROM crm.deal_values(bare) v WHERE bare IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.next_step_judge() IS 'Trigger function of crm.next_step_check, when the transaction commits: an open deal without an open task is told of, or refused with 23514, as its funnel says (claim 91).';

SELECT crm.register_event_kind('deal.without_next_step', 'deal', crm.deal_variables(), 'An open deal was left without a next step', 'Открытая сделка осталась без следующего шага');
SELECT crm.register_truth('deal_has_next_step', 'crm.deal_has_next_step', 'Whether a deal has an open task');

-- ---- who is told ------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.deal_owner(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT x.id, crm.employee_contact(x.who)
	FROM (SELECT e.id, coalesce(d.owner_id, crm.responsible(d.company_id, e.at)) AS who FROM crm.event e
		CROSS JOIN LATERAL (SELECT y.owner_id, y.company_id FROM crm.deal y WHERE y.id = e.object_id OFFSET 0) d
		WHERE e.id = ANY ($1) AND e.object_kind = 'deal' OFFSET 0) x
	WHERE crm.employee_contact(x.who) IS NOT NULL
$$;
COMMENT ON FUNCTION crm.deal_owner(bigint[]) IS 'Audience: the owner of the deal, else who is responsible for its company';

CREATE OR REPLACE FUNCTION crm.deal_head(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT DISTINCT x.id, crm.employee_contact(x.who)
	FROM (SELECT e.id, h.id AS who FROM crm.event e
		CROSS JOIN LATERAL (SELECT y.owner_id FROM crm.deal y WHERE y.id = e.object_id OFFSET 0) d
		JOIN crm.employee o ON o.id = d.owner_id
		JOIN crm.employee h ON h.team_id = o.team_id AND h.is_head AND h.dismissed_at IS NULL AND h.id <> o.id
		WHERE e.id = ANY ($1) AND e.object_kind = 'deal' OFFSET 0) x
	WHERE crm.employee_contact(x.who) IS NOT NULL
$$;
COMMENT ON FUNCTION crm.deal_head(bigint[]) IS 'Audience: the heads of the team of the deal''s owner';

CREATE OR REPLACE FUNCTION crm.deal_contact(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT e.id, c.id
	FROM crm.event e
	CROSS JOIN LATERAL (SELECT y.contact_id, y.company_id FROM crm.deal y WHERE y.id = e.object_id OFFSET 0) d
	CROSS JOIN LATERAL (SELECT y.id FROM crm.contact y WHERE y.archived_at IS NULL
		AND CASE WHEN d.contact_id IS NOT NULL THEN y.id = d.contact_id ELSE y.company_id = d.company_id END OFFSET 0) c
	WHERE e.id = ANY ($1) AND e.object_kind = 'deal'
$$;
COMMENT ON FUNCTION crm.deal_contact(bigint[]) IS 'Audience: the contact of the deal, else every contact of its company';

SELECT crm.register_audience('deal_owner', 'crm.deal_owner', 'The owner of the deal, else who is responsible for its company');
SELECT crm.register_audience('deal_head', 'crm.deal_head', 'The heads of the team of the deal''s owner');
SELECT crm.register_audience('deal_contact', 'crm.deal_contact', 'The contact of the deal, else every contact of its company');

CREATE OR REPLACE FUNCTION crm.deal_in_stage(deal_id bigint, stage_id bigint) RETURNS boolean
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.stage_id = $2 FROM crm.deal d WHERE d.id = $1 AND (crm.for_plant() OR crm.sees_deal(d.id));
END;
COMMENT ON FUNCTION crm.deal_in_stage(bigint, bigint) IS 'Whether a deal is in a stage still. For the truth of rules.';
SELECT crm.register_truth('deal_in_stage', 'crm.deal_in_stage', 'Whether a deal is in a stage still');

CREATE OR REPLACE FUNCTION crm.ship_deal_rules() RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t record;
BEGIN
	FOR t IN SELECT * FROM (VALUES
		('deal.without_next_step', 'Сделка «{{deal}}» ({{company}}) без следующего шага. Поставьте задачу.', 'Deal "{{deal}}" ({{company}}) has no next step. Add a task.'),
		('deal.won', 'Сделка выиграна: «{{deal}}», {{amount}} руб.', 'Won: "{{deal}}", {{amount}} RUB.'),
		('deal.lost', 'Сделка проиграна: «{{deal}}», {{amount}} руб., была на этапе «{{from_stage_ru}}».', 'Lost: "{{deal}}", {{amount}} RUB, from "{{from_stage_en}}".'),
		('deal.handed_over', 'Новая карточка «{{deal}}» ({{company}}): {{stage_ru}}.', 'New card "{{deal}}" ({{company}}): {{stage_en}}.'),
		('deal.returned', 'Карточка по сделке «{{deal}}» закрыта: {{outcome_ru}}.', 'The card of "{{deal}}" is closed: {{outcome}}.')
	) AS v(code, ru, en) LOOP
		PERFORM crm.ship_template(t.code, 'sms', 'ru', NULL, t.ru, NULL), crm.ship_template(t.code, 'sms', 'en', NULL, t.en, NULL);
	END LOOP;
	PERFORM crm.ship_rule('deal.without_next_step', '{"event_kind": "deal.without_next_step", "audience": "deal_owner", "channel": "sms", "template": "deal.without_next_step",
		"truth": "NOT crm.deal_has_next_step(object_id)", "expires_after": "24 hours"}');
	-- whoever wants these switches them on, as the presets do
	PERFORM crm.ship_rule('deal.won', '{"event_kind": "deal.moved", "condition": "data ->> ''to_kind'' = ''won''", "audience": "deal_head", "channel": "sms", "template": "deal.won", "expires_after": "24 hours", "enabled": false}');
	PERFORM crm.ship_rule('deal.lost', '{"event_kind": "deal.moved", "condition": "data ->> ''to_kind'' = ''lost''", "audience": "deal_head", "channel": "sms", "template": "deal.lost", "expires_after": "24 hours", "enabled": false}');
	PERFORM crm.ship_rule('deal.handed_over', '{"event_kind": "deal.handed_over", "audience": "deal_owner", "channel": "sms", "template": "deal.handed_over", "expires_after": "24 hours", "enabled": false}');
	PERFORM crm.ship_rule('deal.returned', '{"event_kind": "deal.returned", "audience": "deal_owner", "channel": "sms", "template": "deal.returned", "expires_after": "24 hours", "enabled": false}');
END
$$;
COMMENT ON FUNCTION crm.ship_deal_rules() IS 'Brings the rules about deals; what the DBA changed or switched stays. Called by crm.activate(). Claims 91, 98 and 105';
SELECT crm.register_hook('ship', 'deal rules', 'crm.ship_deal_rules');
