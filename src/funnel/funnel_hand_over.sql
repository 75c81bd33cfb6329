-- funnel: a deal is handed over to another funnel and comes back. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql. Claim 98.

CREATE OR REPLACE FUNCTION crm.hand_over_check(settings jsonb) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.settings_check('hand_over', settings, '{"funnel": ["string"], "stage": ["string"], "name": ["string"], "owner": ["string", "number"], "checklist": ["array"],
		"wait": ["boolean"], "return_won": ["string"], "return_lost": ["string"]}');
	IF NOT EXISTS (SELECT FROM crm.funnel f WHERE f.code = settings ->> 'funnel') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the action hand_over knows no funnel %s', coalesce('"' || left(settings ->> 'funnel', 100) || '"', 'that is named')),
			HINT = format('Set funnel to one of: %s.', (SELECT string_agg(f.code, ', ' ORDER BY f.code) FROM crm.funnel f));
	END IF;
	IF settings ? 'stage' AND NOT EXISTS (SELECT FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = settings ->> 'funnel' AND s.code = settings ->> 'stage' AND NOT s.is_won AND NOT s.is_lost) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('funnel "%s" has no open stage "%s"', settings ->> 'funnel', left(settings ->> 'stage', 100)),
			HINT = format('Its open stages are: %s.', (SELECT string_agg(s.code, ', ' ORDER BY s."position", s.id) FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = settings ->> 'funnel' AND NOT s.is_won AND NOT s.is_lost));
	END IF;
	IF jsonb_array_length(settings -> 'checklist') > 50 OR EXISTS (SELECT FROM jsonb_array_elements(settings -> 'checklist') i
		WHERE jsonb_typeof(i.value) <> 'string' OR length(i.value #>> '{}') NOT BETWEEN 1 AND 500) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'not a checklist', HINT = 'Set checklist to at most 50 texts of 1 to 500 characters.';
	END IF;
	IF settings ->> 'owner' NOT IN ('same', 'nobody') AND NOT EXISTS (SELECT FROM crm.employee e WHERE e.id::text = settings ->> 'owner' AND e.dismissed_at IS NULL) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the action hand_over gives its card to nobody that is there: %s', settings ->> 'owner'),
			HINT = 'Set owner to same, nobody, or the number of one who works here.';
	END IF;
	PERFORM crm.deal_template_check('the name of a card', settings ->> 'name');
END
$$;
COMMENT ON FUNCTION crm.hand_over_check(jsonb) IS 'Refuses settings of the stage action hand_over with 22023.';

CREATE OR REPLACE FUNCTION crm.hand_over_leads(settings jsonb, stage_id bigint) RETURNS bigint[]
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT array_agg(x.id) FROM (
		SELECT s.id FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id
		WHERE f.code = $1 ->> 'funnel' AND ($1 ->> 'stage' IS NULL OR s.code = $1 ->> 'stage')
		ORDER BY s."position", s.id LIMIT 1) x;
END;
COMMENT ON FUNCTION crm.hand_over_leads(jsonb, bigint) IS 'The stage in which the cards of the stage action hand_over begin.';

CREATE OR REPLACE FUNCTION crm.cards_make(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[], settings jsonb) RETURNS bigint[]
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	target crm.stage;
	cards  bigint[];
	logs   bigint[];
	whom   text := coalesce(settings ->> 'owner', 'same');
	datas  jsonb[];
BEGIN
	SELECT array_agg(v.data ORDER BY v.n) INTO datas FROM crm.deal_values(deal_ids) v;
	SELECT s.* INTO target FROM crm.stage s WHERE s.id = (crm.hand_over_leads(settings, NULL))[1];
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('funnel "%s" has no stage to begin in', settings ->> 'funnel'), HINT = 'Add stages to it.';
	END IF;
	WITH made AS (
		INSERT INTO crm.deal (funnel_id, stage_id, company_id, contact_id, owner_id, name, amount, tonnes, expected_on, data, source, source_id)
		SELECT target.funnel_id, target.id, d.company_id, d.contact_id, CASE whom WHEN 'same' THEN d.owner_id WHEN 'nobody' THEN NULL ELSE whom::bigint END,
			coalesce(left(crm.message_text(crm.template_fill(settings ->> 'name', g.data), true), 500), d.name), d.amount, d.tonnes, d.expected_on, d.data,
			'hand_over', coalesce(stage_action_id::text, 'by hand ' || target.funnel_id) || ':' || g.log_id
		FROM unnest(deal_ids, stage_log_ids, datas) WITH ORDINALITY AS g(deal_id, log_id, data, n)
		CROSS JOIN LATERAL (SELECT y.* FROM crm.deal y WHERE y.id = g.deal_id OFFSET 0) d
		-- one that is out still is not handed over twice
		WHERE NOT EXISTS (SELECT FROM crm.deal_link l CROSS JOIN LATERAL (SELECT y.funnel_id FROM crm.deal y WHERE y.id = l.card_id OFFSET 0) c
			WHERE l.deal_id = g.deal_id AND l.returned_at IS NULL AND c.funnel_id = target.funnel_id OFFSET 0)
		ORDER BY g.n
		ON CONFLICT ON CONSTRAINT deal_source_key DO NOTHING
		RETURNING id, split_part(source_id, ':', 2)::bigint AS log_id
	)
	SELECT array_agg(m.id ORDER BY m.id), array_agg(m.log_id ORDER BY m.id) INTO cards, logs FROM made m;
	IF cards IS NULL THEN
		RETURN '{}';
	END IF;
	INSERT INTO crm.deal_link (deal_id, card_id, stage_action_id, stage_log_id, waits, return_won, return_lost)
	SELECT l.deal_id, g.card_id, cards_make.stage_action_id, g.log_id, coalesce((settings ->> 'wait')::boolean, false), settings ->> 'return_won', settings ->> 'return_lost'
	FROM unnest(cards, logs) AS g(card_id, log_id)
	-- the condition keeps it from an index that holds both columns and does not begin with id
	CROSS JOIN LATERAL (SELECT y.deal_id FROM crm.stage_log y WHERE y.id = g.log_id AND y.at IS NOT NULL OFFSET 0) l
	ORDER BY g.card_id;
	INSERT INTO crm.checklist_item (deal_id, "position", name)
	SELECT g.card_id, i.n * 10, i.name
	FROM unnest(cards) AS g(card_id) CROSS JOIN jsonb_array_elements_text(settings -> 'checklist') WITH ORDINALITY AS i(name, n)
	ORDER BY g.card_id, i.n;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, cause_id, data)
	SELECT 'deal.handed_over', 'deal', v.deal_id, v.company_id, s.event_id, v.data || jsonb_build_object('from_deal_id', s.deal_id)
	FROM crm.deal_values(cards) v
	CROSS JOIN LATERAL (SELECT y.deal_id, y.event_id FROM crm.stage_log y WHERE y.id = logs[v.n] OFFSET 0) s
	ORDER BY v.n;
	RETURN cards;
END
$$;
COMMENT ON FUNCTION crm.cards_make(bigint[], bigint, bigint[], jsonb) IS 'Makes cards of deals in another funnel, with their checklists and the way back; returns their numbers. A deal whose card there is open gets no second one.';

CREATE OR REPLACE FUNCTION crm.action_hand_over(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.cards_make(deal_ids, stage_action_id, stage_log_ids, (SELECT a.settings FROM crm.stage_action a WHERE a.id = action_hand_over.stage_action_id));
END
$$;
COMMENT ON FUNCTION crm.action_hand_over(bigint[], bigint, bigint[]) IS 'The stage action hand_over (claim 98): makes a card of each deal in another funnel, in the transaction of the move. settings: funnel; stage, where it begins (by default the first); name, with the variables of crm.deal_variables(); owner: same, nobody or a number; checklist: texts, until all are ticked the card moves nowhere but backwards or to a lost stage; wait: the deal itself waits for its card; return_won, return_lost: stages to which the deal goes when the card is closed.';
SELECT crm.register_stage_action('hand_over', 'crm.action_hand_over', 'crm.hand_over_check', false, ARRAY['deal.handed_over'], 'crm.hand_over_leads');
SELECT crm.register_event_kind('deal.handed_over', 'deal', crm.deal_variables() || 'from_deal_id'::text, 'A card came from another funnel', 'Сделка передана в другую воронку');
SELECT crm.register_event_kind('deal.returned', 'deal', crm.deal_variables() || ARRAY['card_id', 'outcome', 'outcome_ru', 'problem'], 'The card of a deal was closed', 'Карточка сделки закрыта');

CREATE OR REPLACE FUNCTION crm.hand_over(deal_id bigint, funnel text, checklist text[] DEFAULT NULL, return_won text DEFAULT NULL, return_lost text DEFAULT NULL, wait boolean DEFAULT false) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	settings jsonb := jsonb_strip_nulls(jsonb_build_object('funnel', funnel, 'checklist', to_jsonb(checklist), 'return_won', return_won, 'return_lost', return_lost, 'wait', wait));
	log bigint;
	made bigint;
BEGIN
	IF NOT crm.sees_deal(deal_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('deal %s does not exist', coalesce(deal_id::text, 'NULL')), HINT = 'SELECT id, name FROM crm.deal lists the deals that you see.';
	END IF;
	PERFORM FROM crm.deal d WHERE d.id = hand_over.deal_id FOR NO KEY UPDATE;
	PERFORM crm.hand_over_check(settings);
	SELECT l.id INTO log FROM crm.stage_log l WHERE l.deal_id = hand_over.deal_id ORDER BY l.id DESC LIMIT 1;
	made := (crm.cards_make(ARRAY[deal_id], NULL, ARRAY[log], settings))[1];
	IF made IS NULL THEN
		SELECT l.card_id INTO made FROM crm.deal_link l JOIN crm.deal c ON c.id = l.card_id JOIN crm.funnel f ON f.id = c.funnel_id
		WHERE l.deal_id = hand_over.deal_id AND f.code = hand_over.funnel ORDER BY l.id DESC LIMIT 1;
	END IF;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.hand_over(bigint, text, text[], text, text, boolean) IS 'Hands a deal over by hand, as the stage action hand_over does; returns the card, or the one that is there. Errors: P0002 no such deal, 22023 no such funnel or a bad checklist.';

CREATE OR REPLACE FUNCTION crm.cards_closed(deal_ids bigint[], to_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	links    bigint[];
	outcomes text[];
	deals    bigint[];
	froms    bigint[];
	targets  bigint[];
	blocked  bigint[];
	says     text[];
BEGIN
	-- a deal that goes on, by whomever, has no trouble to tell of any more
	UPDATE crm.deal_link l SET problem = NULL
	FROM (SELECT z.id FROM unnest(deal_ids) AS g(id)
		CROSS JOIN LATERAL (SELECT y.id FROM crm.deal_link y WHERE y.deal_id = g.id AND y.problem IS NOT NULL OFFSET 0) z) u
	WHERE l.id = ANY (ARRAY[u.id]);
	-- opened again: it is out again
	UPDATE crm.deal_link l SET returned_at = NULL, outcome = NULL, problem = NULL
	FROM (SELECT g.id FROM unnest(deal_ids, to_ids) AS g(id, to_id) JOIN crm.stage s ON s.id = g.to_id AND NOT s.is_won AND NOT s.is_lost
		CROSS JOIN LATERAL (SELECT y.id FROM crm.deal_link y WHERE y.card_id = g.id AND y.returned_at IS NOT NULL OFFSET 0) z) u
	WHERE l.card_id = ANY (ARRAY[u.id]);
	WITH closed AS (
		UPDATE crm.deal_link l SET returned_at = crm.now(), outcome = u.outcome
		FROM (SELECT z.id, CASE WHEN s.is_won THEN 'won' ELSE 'lost' END AS outcome
			FROM unnest(deal_ids, to_ids) AS g(id, to_id) JOIN crm.stage s ON s.id = g.to_id AND (s.is_won OR s.is_lost)
			CROSS JOIN LATERAL (SELECT y.id FROM crm.deal_link y WHERE y.card_id = g.id AND y.returned_at IS NULL OFFSET 0) z) u
		WHERE l.id = ANY (ARRAY[u.id])
		RETURNING l.id, l.deal_id, l.outcome, CASE l.outcome WHEN 'won' THEN l.return_won ELSE l.return_lost END AS back
	)
	SELECT array_agg(c.id ORDER BY c.deal_id), array_agg(c.outcome ORDER BY c.deal_id), array_agg(c.deal_id ORDER BY c.deal_id), array_agg(d.stage_id ORDER BY c.deal_id),
		array_agg(CASE WHEN t.id <> d.stage_id AND d.closed_at IS NULL THEN t.id END ORDER BY c.deal_id),
		array_agg(CASE WHEN c.back IS NULL OR t.id = d.stage_id THEN NULL
			WHEN t.id IS NULL THEN format('stage "%s" is not in its funnel', c.back)
			WHEN d.closed_at IS NOT NULL THEN 'the deal is closed'
			WHEN NOT EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = d.stage_id AND m.to_stage_id = t.id AND m.enabled) THEN format('from where it is it may not go to stage "%s"', c.back) END ORDER BY c.deal_id)
	INTO links, outcomes, deals, froms, targets, says
	FROM closed c
	CROSS JOIN LATERAL (SELECT y.stage_id, y.closed_at, y.funnel_id FROM crm.deal y WHERE y.id = c.deal_id OFFSET 0) d
	LEFT JOIN crm.stage t ON t.funnel_id = d.funnel_id AND t.code = c.back;
	IF links IS NULL THEN
		RETURN;
	END IF;
	SELECT coalesce(array_agg(DISTINCT p.deal_id), '{}') INTO blocked
	FROM (SELECT array_agg(x.deal_id) AS ids, array_agg(x.from_id) AS from_ids, array_agg(x.to_id) AS to_ids
		FROM unnest(deals, froms, targets, says) AS x(deal_id, from_id, to_id, problem) WHERE x.to_id IS NOT NULL AND x.problem IS NULL) g,
		crm.move_problems(g.ids, g.from_ids, g.to_ids) p;
	UPDATE crm.deal_link l SET problem = u.problem
	FROM (SELECT x.id, coalesce(x.problem, (SELECT p.message FROM crm.move_problems(ARRAY[x.deal_id], ARRAY[x.from_id], ARRAY[x.to_id]) p LIMIT 1)) AS problem
		FROM unnest(links, deals, froms, targets, says) AS x(id, deal_id, from_id, to_id, problem)
		WHERE x.problem IS NOT NULL OR (x.deal_id IN (SELECT b.id FROM unnest(blocked) AS b(id))) IS TRUE) u
	WHERE l.id = ANY (ARRAY[u.id]);
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
	SELECT 'deal.returned', 'deal', v.deal_id, v.company_id, v.data || jsonb_build_object('card_id', l.card_id, 'outcome', g.outcome,
		'outcome_ru', CASE g.outcome WHEN 'won' THEN 'выполнено' ELSE 'отказ' END, 'problem', l.problem)
	FROM crm.deal_values(deals) v
	CROSS JOIN LATERAL (SELECT links[v.n] AS id, outcomes[v.n] AS outcome) g
	CROSS JOIN LATERAL (SELECT y.card_id, y.problem FROM crm.deal_link y WHERE y.id = g.id OFFSET 0) l
	ORDER BY v.n;
	UPDATE crm.deal d SET stage_id = u.to_id
	FROM (SELECT DISTINCT ON (x.deal_id) x.deal_id, x.to_id FROM unnest(deals, targets, says) AS x(deal_id, to_id, problem)
		WHERE x.to_id IS NOT NULL AND x.problem IS NULL AND (x.deal_id IN (SELECT b.id FROM unnest(blocked) AS b(id))) IS NOT TRUE ORDER BY x.deal_id) u
	WHERE d.id = ANY (ARRAY[u.deal_id]);
END
$$;
COMMENT ON FUNCTION crm.cards_closed(bigint[], bigint[]) IS 'The way back of what was handed over: a card that is won or lost closes its link, emits deal.returned, and its deal goes to the stage that was agreed; where it may not, the reason stands in crm.deal_link.problem. A card that is opened again is out again. Called when deals move.';

CREATE OR REPLACE VIEW crm.deal_card WITH (security_invoker = true) AS
	SELECT l.deal_id, l.card_id, f.code AS funnel, s.code AS stage, s.name_ru AS stage_ru, s.name_en AS stage_en, c.owner_id,
		i.items::integer AS items, i.open_items::integer AS open_items, l.waits, l.made_at, l.returned_at, l.outcome, l.problem
	FROM crm.deal_link l
	JOIN crm.deal c ON c.id = l.card_id
	JOIN crm.funnel f ON f.id = c.funnel_id
	JOIN crm.stage s ON s.id = c.stage_id
	CROSS JOIN LATERAL (SELECT count(*) AS items, count(*) FILTER (WHERE y.done_at IS NULL) AS open_items FROM crm.checklist_item y WHERE y.deal_id = l.card_id) i;
COMMENT ON VIEW crm.deal_card IS 'Where the cards are that were made of a deal in other funnels, and what is open in their checklists (claim 98)';
COMMENT ON COLUMN crm.deal_card.deal_id IS 'crm.deal.id that was handed over';
COMMENT ON COLUMN crm.deal_card.card_id IS 'crm.deal.id of its card';
COMMENT ON COLUMN crm.deal_card.funnel IS 'Code of the card''s funnel';
COMMENT ON COLUMN crm.deal_card.stage IS 'Code of the stage where the card is';
COMMENT ON COLUMN crm.deal_card.stage_ru IS 'Its name in Russian';
COMMENT ON COLUMN crm.deal_card.stage_en IS 'Its name in English';
COMMENT ON COLUMN crm.deal_card.owner_id IS 'crm.employee.id who has the card';
COMMENT ON COLUMN crm.deal_card.items IS 'Items of its checklist';
COMMENT ON COLUMN crm.deal_card.open_items IS 'Those that are not ticked';
COMMENT ON COLUMN crm.deal_card.waits IS 'True: the deal waits for the card';
COMMENT ON COLUMN crm.deal_card.made_at IS 'When it was handed over, business clock';
COMMENT ON COLUMN crm.deal_card.returned_at IS 'When the card was closed; NULL: it is open';
COMMENT ON COLUMN crm.deal_card.outcome IS 'won or lost';
COMMENT ON COLUMN crm.deal_card.problem IS 'Why the deal did not go on by itself';

SELECT crm.register_foreign_key('crm.deal_link', 'deal_id', 'crm.deal', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.deal_link', 'card_id', 'crm.deal', 'id', on_delete => 'CASCADE');
SELECT crm.register_no_foreign_key('crm.deal_link', 'stage_action_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.deal_link', 'stage_log_id', 'history outlives what it tells of');
