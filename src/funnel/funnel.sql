-- funnel: functions and views. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.

CREATE OR REPLACE FUNCTION crm.deal_transition() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_funnel_transition';
COMMENT ON FUNCTION crm.deal_transition() IS 'Trigger function of crm.deal, before a row is written: refuses a move that the funnel does not allow with 23514, naming both stages and, in DETAIL and HINT, the moves that it does (claim 15); keeps stage_at, stage_event_id and closed_at.';

-- ---- the log and the event, a statement at a time ---------------------------------------------------

CREATE OR REPLACE FUNCTION crm.deal_log_insert() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	stages bigint[];
	logs   bigint[];
	deals  bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	WITH logged AS (
		INSERT INTO crm.stage_log (deal_id, from_stage_id, to_stage_id, at, event_id, reason)
		SELECT f.id, NULL, f.stage_id, f.stage_at, f.stage_event_id, f.stage_reason
		FROM fresh f
		ORDER BY f.id
		RETURNING id, deal_id, to_stage_id
	)
	SELECT array_agg(DISTINCT l.to_stage_id), array_agg(l.id ORDER BY l.id), array_agg(l.deal_id ORDER BY l.id) INTO stages, logs, deals FROM logged l;
	IF stages IS NOT NULL THEN
		PERFORM crm.deals_may_move(deals, array_fill(NULL::bigint, ARRAY[cardinality(deals)]),
			ARRAY(SELECT l.to_stage_id FROM unnest(logs) WITH ORDINALITY AS g(id, n)
				CROSS JOIN LATERAL (SELECT y.to_stage_id FROM crm.stage_log y WHERE y.id = g.id OFFSET 0) l ORDER BY g.n))
		WHERE EXISTS (SELECT FROM crm.stage s WHERE s.id = ANY (stages) AND (s.enter_required IS NOT NULL OR s.enter_condition IS NOT NULL OR s.reason_required));
		PERFORM crm.stage_actions(stages, logs);
		PERFORM crm.next_step_ask(deals);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.deal_log_insert() IS 'Trigger function of crm.deal: asks what the first stage of new deals asks, logs it, all of a statement at once, and runs its actions.';

CREATE OR REPLACE FUNCTION crm.deal_moves() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_funnel_moves';
COMMENT ON FUNCTION crm.deal_moves() IS 'Trigger function of crm.deal, after an UPDATE: hands the deals that moved to crm.deals_moved, and those of which a date may have moved to crm.deals_dated, all of a statement at once. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.deals_moved(deal_ids bigint[], from_ids bigint[], to_ids bigint[], at timestamptz[], event_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	stages bigint[];
	logs   bigint[];
BEGIN
	PERFORM crm.deals_may_move(deal_ids, from_ids, to_ids);
	WITH logged AS (
		INSERT INTO crm.stage_log (deal_id, from_stage_id, to_stage_id, at, event_id, reason, passed)
		SELECT m.deal_id, m.from_id, m.to_id, m.at, m.event_id, d.stage_reason, j.passed
		FROM unnest(deal_ids, from_ids, to_ids, at, event_ids) AS m(deal_id, from_id, to_id, at, event_id)
		CROSS JOIN LATERAL (SELECT y.stage_reason FROM crm.deal y WHERE y.id = m.deal_id OFFSET 0) d
		LEFT JOIN LATERAL (
			SELECT (SELECT array_agg(b.id ORDER BY b."position", b.id)
				FROM crm.stage f JOIN crm.stage t ON t.id = m.to_id
				JOIN crm.stage b ON b.funnel_id = f.funnel_id AND b."position" > f."position" AND b."position" < t."position" AND NOT b.is_won AND NOT b.is_lost
				WHERE f.id = m.from_id) AS passed
			FROM crm.move_allowed a WHERE a.from_stage_id = m.from_id AND a.to_stage_id = m.to_id AND a.skipped = 'run' OFFSET 0) j ON true
		ORDER BY m.deal_id
		RETURNING id, to_stage_id, passed
	)
	SELECT array_agg(DISTINCT l.to_stage_id) || (SELECT array_agg(DISTINCT p.id) FROM logged x CROSS JOIN unnest(x.passed) AS p(id)), array_agg(l.id)
	INTO stages, logs FROM logged l;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, cause_id, data)
	SELECT 'deal.moved', 'deal', d.id, d.company_id, m.at, m.event_id,
		jsonb_build_object('deal', d.name, 'funnel', f.code,
			'from_stage', s.code, 'from_stage_ru', s.name_ru, 'from_stage_en', s.name_en,
			'to_stage', t.code, 'to_stage_ru', t.name_ru, 'to_stage_en', t.name_en,
			'to_kind', CASE WHEN t.is_won THEN 'won' WHEN t.is_lost THEN 'lost' ELSE 'open' END,
			'amount', d.amount, 'tonnes', d.tonnes, 'reason', d.stage_reason)
	FROM unnest(deal_ids, from_ids, to_ids, at, event_ids) AS m(deal_id, from_id, to_id, at, event_id)
	CROSS JOIN LATERAL (SELECT y.id, y.company_id, y.name, y.amount, y.tonnes, y.funnel_id, y.stage_reason FROM crm.deal y WHERE y.id = m.deal_id OFFSET 0) d
	JOIN crm.stage s ON s.id = m.from_id
	JOIN crm.stage t ON t.id = m.to_id
	JOIN crm.funnel f ON f.id = d.funnel_id
	ORDER BY m.deal_id;
	PERFORM crm.stages_left(deal_ids, from_ids, to_ids);
	PERFORM crm.stage_actions(stages, logs);
	PERFORM crm.cards_closed(deal_ids, to_ids);
	PERFORM crm.next_step_ask(deal_ids);
END
$$;
COMMENT ON FUNCTION crm.deals_moved(bigint[], bigint[], bigint[], timestamptz[], bigint[]) IS 'Asks what the stages left and entered ask (crm.deals_may_move), logs moves and emits deal.moved for each, in two statements whatever their number, ends what waited in the stages left, runs the actions of the stages that were entered (and passed, where the move says so), and brings back what was handed over. Called by the trigger of crm.deal.';

SELECT crm.register_event_kind('deal.moved', 'deal',
	ARRAY['deal', 'funnel', 'from_stage', 'from_stage_ru', 'from_stage_en', 'to_stage', 'to_stage_ru', 'to_stage_en', 'to_kind', 'amount', 'tonnes', 'reason'],
	'A deal moved to another stage', 'Сделка перешла на другую стадию');

-- ---- moving -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.move(deal_id bigint, stage text, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	deal   crm.deal;
	target bigint;
BEGIN
	SELECT d.* INTO deal FROM crm.deal d WHERE d.id = move.deal_id FOR NO KEY UPDATE;
	-- who may not see it learns nothing of it
	IF NOT FOUND OR NOT crm.sees_deal(deal.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002',
			MESSAGE = format('deal %s does not exist', coalesce(deal_id::text, 'NULL')),
			DETAIL = 'Give the id of a deal that you see in crm.deal.', HINT = 'SELECT id, name FROM crm.deal lists the deals that you see.';
	END IF;
	SELECT s.id INTO target FROM crm.stage s WHERE s.funnel_id = deal.funnel_id AND s.code = move.stage;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('stage "%s" does not exist in the funnel of deal %s', coalesce(stage, 'NULL'), deal_id),
			DETAIL = format('Its stages are: %s.', (SELECT string_agg(format('"%s"', s.code), ', ' ORDER BY s."position", s.id) FROM crm.stage s WHERE s.funnel_id = deal.funnel_id)),
			HINT = format('Give one of: %s.', (SELECT string_agg(format('"%s"', s.code), ', ' ORDER BY s."position", s.id) FROM crm.stage s WHERE s.funnel_id = deal.funnel_id));
	END IF;
	IF target = deal.stage_id THEN
		RETURN false;
	END IF;
	IF deal.stage_reason = reason THEN
		UPDATE crm.deal d SET stage_reason = NULL WHERE d.id = deal.id;	-- the same words are new ones
	END IF;
	UPDATE crm.deal d SET stage_id = target, stage_reason = coalesce(move.reason, d.stage_reason) WHERE d.id = deal.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.move(bigint, text, text) IS 'Moves a deal that the person who speaks may see to a stage by its code, with a reason where the stage asks for one. True: moved; false: it was there already, and nothing is logged. Errors: P0002 no such deal, 22023 no such stage in its funnel, 23514 the funnel does not allow the move, with the moves that it does, or something stands in its way (crm.move_problems), which the error names.';

CREATE OR REPLACE FUNCTION crm.register_deal_finder(object_kind text, function text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.deal_finder AS f (object_kind, function) VALUES ($1, $2)
	ON CONFLICT (object_kind) DO UPDATE SET function = EXCLUDED.function;
END;
COMMENT ON FUNCTION crm.register_deal_finder(text, text) IS 'Names the function f(object_ids bigint[]) RETURNS TABLE(object_id bigint, deal_id bigint) that finds the deals of an event''s object, so that the event can move them. Called by the script.';

CREATE OR REPLACE FUNCTION crm.deals_of_deals(object_ids bigint[]) RETURNS TABLE(object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.id, d.id FROM crm.deal d WHERE d.id = ANY (object_ids);
END;
COMMENT ON FUNCTION crm.deals_of_deals(bigint[]) IS 'Finder of an event that happened to a deal itself.';
SELECT crm.register_deal_finder('deal', 'crm.deals_of_deals');
SELECT crm.register_deal_finder('task', 'crm.deals_of_tasks');
SELECT crm.register_deal_finder('message', 'crm.deals_of_messages');
SELECT crm.register_undumped('crm.deal_finder', 'filled by code');

CREATE OR REPLACE FUNCTION crm.event_moves_deals() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	finder  crm.deal_finder;
	ids     bigint[];
	kinds   text[];
	objects bigint[];
	ats     timestamptz[];
	events  bigint[];
	deals   bigint[];
	targets bigint[];
	times   timestamptz[];
	ends    integer[];
	from_no integer;
	to_no   integer;
	blocked bigint[];
BEGIN
	IF NOT crm.guard() OR crm.rules_held() THEN
		RETURN NULL;
	END IF;
	FOR finder IN SELECT k.* FROM crm.deal_finder k LOOP
		-- One scan of the new rows and no join to them: a plan once made for one row would serve a million.
		SELECT array_agg(f.id), array_agg(f.kind), array_agg(f.object_id), array_agg(f.at)
		INTO ids, kinds, objects, ats
		FROM fresh f
		WHERE f.object_kind = finder.object_kind
			AND f.kind = ANY (ARRAY(SELECT r.event_kind FROM crm.deal_move_rule r WHERE r.enabled));
		CONTINUE WHEN ids IS NULL;

		-- Of several events of one deal the earliest moves it first: a round for each. Planned anew, for the
		-- sizes of these very arrays.
		EXECUTE format($candidates$
			WITH c AS (
				SELECT f.id AS event_id, d.id AS deal_id, r.to_stage_id, f.at,
					row_number() OVER (PARTITION BY d.id ORDER BY f.at, f.id) AS round
				FROM unnest($1, $2, $3, $4) AS f(id, kind, object_id, at)
				JOIN (SELECT DISTINCT p.object_id, p.deal_id FROM %s($3) p) p ON p.object_id = f.object_id
				CROSS JOIN LATERAL (SELECT y.id, y.funnel_id FROM crm.deal y WHERE y.id = p.deal_id OFFSET 0) d
				JOIN crm.funnel n ON n.id = d.funnel_id AND n.enabled
				JOIN crm.deal_move_rule r ON r.funnel_id = d.funnel_id AND r.event_kind = f.kind AND r.enabled
			)
			SELECT array_agg(c.event_id ORDER BY c.round, c.deal_id), array_agg(c.deal_id ORDER BY c.round, c.deal_id),
				array_agg(c.to_stage_id ORDER BY c.round, c.deal_id), array_agg(c.at ORDER BY c.round, c.deal_id),
				(SELECT array_agg(e.last ORDER BY e.round) FROM (
					SELECT c2.round, sum(count(*)) OVER (ORDER BY c2.round)::integer AS last FROM c AS c2 GROUP BY c2.round) e)
			FROM c
			$candidates$, finder.function)
		INTO events, deals, targets, times, ends
		USING ids, kinds, objects, ats;
		CONTINUE WHEN deals IS NULL;

		-- In one order, or two sessions that report many facts would wait for each other in a ring.
		PERFORM FROM crm.deal d WHERE d.id = ANY (deals) ORDER BY d.id FOR NO KEY UPDATE;

		from_no := 1;
		FOREACH to_no IN ARRAY ends LOOP
			-- A fact is no error: a deal that may not go stays where it is.
			SELECT coalesce(array_agg(DISTINCT p.deal_id), '{}') INTO blocked
			FROM (SELECT array_agg(d.id) AS ids, array_agg(d.stage_id) AS from_ids, array_agg(u.to_stage_id) AS to_ids
				FROM unnest(deals[from_no:to_no], targets[from_no:to_no]) AS u(deal_id, to_stage_id)
				CROSS JOIN LATERAL (SELECT y.id, y.stage_id FROM crm.deal y WHERE y.id = u.deal_id OFFSET 0) d) g,
				crm.move_problems(g.ids, g.from_ids, g.to_ids) p;
			UPDATE crm.deal d SET stage_id = u.to_stage_id, stage_event_id = u.event_id, stage_at = u.at
			FROM unnest(events[from_no:to_no], deals[from_no:to_no], targets[from_no:to_no], times[from_no:to_no])
				AS u(event_id, deal_id, to_stage_id, at)
			WHERE d.id = ANY (ARRAY[u.deal_id]) AND (d.id IN (SELECT x.id FROM unnest(blocked) AS x(id))) IS NOT TRUE
				AND EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = d.stage_id AND m.to_stage_id = u.to_stage_id AND m.enabled OFFSET 0)
				-- A late fact moves nothing backwards.
				AND (d.stage_at IS NULL OR u.at > d.stage_at
					OR (SELECT t."position" FROM crm.stage t WHERE t.id = u.to_stage_id) > (SELECT s."position" FROM crm.stage s WHERE s.id = d.stage_id))
				AND NOT EXISTS (SELECT FROM crm.stage_log l WHERE l.event_id = u.event_id AND l.deal_id = d.id OFFSET 0);
			from_no := to_no + 1;
		END LOOP;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.event_moves_deals() IS 'Trigger function of crm.event: moves the deals of new events by crm.deal_move_rule, a statement for all of them (one more for each further event of the same deal). A move that is not allowed from where the deal is, or in whose way something stands (crm.move_problems), does not happen; one event moves a deal once.';

-- ---- what ships -------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.funnel_keep_shipped() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF OLD.shipped THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('a row of crm.%I that came with the product cannot be deleted', TG_TABLE_NAME),
			HINT = CASE TG_TABLE_NAME WHEN 'stage' THEN 'Forbid the moves that lead to it: UPDATE crm.move_allowed SET enabled = false.'
				ELSE 'Switch it off: UPDATE … SET enabled = false. crm.activate() would bring it back.' END;
	END IF;
	RETURN OLD;
END
$$;
COMMENT ON FUNCTION crm.funnel_keep_shipped() IS 'Trigger function: refuses to delete a row that ships, with 55000.';

CREATE OR REPLACE FUNCTION crm.funnel_check() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	funnel text;
BEGIN
	-- A restore may bring these rows before the stages.
	IF NOT crm.guard() THEN
		RETURN NEW;
	END IF;
	SELECT f.code INTO funnel FROM crm.funnel f WHERE f.id = NEW.funnel_id;
	IF NOT EXISTS (SELECT FROM crm.stage s WHERE s.id = NEW.to_stage_id AND s.funnel_id = NEW.funnel_id)
		OR (to_jsonb(NEW) ? 'from_stage_id'
			AND NOT EXISTS (SELECT FROM crm.stage s WHERE s.id = (to_jsonb(NEW) ->> 'from_stage_id')::bigint AND s.funnel_id = NEW.funnel_id)) THEN
		RAISE EXCEPTION USING ERRCODE = '23514',
			MESSAGE = format('a stage named by crm.%I is not of funnel "%s"', TG_TABLE_NAME, coalesce(funnel, NEW.funnel_id::text)),
			DETAIL = format('Its stages are: %s.', (SELECT string_agg(format('%s "%s"', s.id, s.code), ', ' ORDER BY s."position", s.id) FROM crm.stage s WHERE s.funnel_id = NEW.funnel_id)),
			HINT = 'Both stages of a move belong to its funnel.';
	END IF;
	IF TG_TABLE_NAME = 'deal_move_rule' THEN
		IF NOT EXISTS (SELECT FROM crm.event_kind k WHERE k.kind = to_jsonb(NEW) ->> 'event_kind') THEN
			RAISE EXCEPTION USING ERRCODE = '23503',
				MESSAGE = format('event kind "%s" does not exist', to_jsonb(NEW) ->> 'event_kind'),
				HINT = 'SELECT kind FROM crm.event_kind lists them.';
		END IF;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.funnel_check() IS 'Trigger function of crm.move_allowed and crm.deal_move_rule: refuses a stage of another funnel with 23514 and an unknown kind of event with 23503, when the row is saved.';

CREATE OR REPLACE FUNCTION crm.ship_funnel() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	delivery bigint;
BEGIN
	INSERT INTO crm.funnel (code, name_ru, name_en, shipped) VALUES ('delivery', 'Поставка', 'Delivery', true)
	ON CONFLICT (code) DO NOTHING;
	SELECT f.id INTO delivery FROM crm.funnel f WHERE f.code = 'delivery';

	INSERT INTO crm.stage (funnel_id, code, name_ru, name_en, "position", is_won, is_lost, shipped)
	SELECT delivery, v.*, true
	FROM (VALUES
		('new', 'Новая', 'New', 10, false, false),
		('agreed', 'Согласована', 'Agreed', 20, false, false),
		('loading', 'Погрузка', 'Loading', 30, false, false),
		('on_the_way', 'В пути', 'On the way', 40, false, false),
		('delivered', 'Доставлена', 'Delivered', 50, false, false),
		('closed', 'Закрыта', 'Closed', 60, true, false),
		('lost', 'Проиграна', 'Lost', 70, false, true)) AS v
	ON CONFLICT (funnel_id, code) DO NOTHING;

	-- Forwards step by step; a departure that no tracker saw; the next truck of the same order; second thoughts.
	INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id, shipped)
	SELECT delivery, a.id, b.id, true
	FROM (VALUES
		('new', 'agreed'), ('new', 'lost'),
		('agreed', 'loading'), ('agreed', 'new'), ('agreed', 'lost'),
		('loading', 'on_the_way'), ('loading', 'delivered'), ('loading', 'agreed'), ('loading', 'lost'),
		('on_the_way', 'delivered'), ('on_the_way', 'loading'),
		('delivered', 'closed'), ('delivered', 'loading'), ('delivered', 'on_the_way'),
		('closed', 'delivered'),
		('lost', 'new')) AS v(from_code, to_code)
	JOIN crm.stage a ON a.funnel_id = delivery AND a.code = v.from_code
	JOIN crm.stage b ON b.funnel_id = delivery AND b.code = v.to_code
	ON CONFLICT (from_stage_id, to_stage_id) DO NOTHING;

	-- Kinds of events of rooms above come with those rooms; a rule on a kind that is not there is not made.
	INSERT INTO crm.deal_move_rule (funnel_id, event_kind, to_stage_id, shipped)
	SELECT delivery, v.event_kind, s.id, true
	FROM (VALUES
		('order.created', 'agreed'),
		('shipment.loaded', 'loading'),
		('trip.departed', 'on_the_way'),
		('trip.arrived', 'delivered')) AS v(event_kind, to_code)
	JOIN crm.stage s ON s.funnel_id = delivery AND s.code = v.to_code
	WHERE EXISTS (SELECT FROM crm.event_kind k WHERE k.kind = v.event_kind)
	ON CONFLICT (funnel_id, event_kind) DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.ship_funnel() IS 'Writes the funnel that ships, delivery: new, agreed, loading, on_the_way, delivered, closed, lost, with its moves and the events that move a deal. What is there stays as the DBA left it. Called by crm.activate().';
SELECT crm.register_hook('ship', 'funnel', 'crm.ship_funnel');

-- ---- what is known of a deal ------------------------------------------------------------------------

CREATE OR REPLACE VIEW crm.deal_history WITH (security_invoker = true) AS
	SELECT l.id AS stage_log_id, l.deal_id, d.name AS deal, f.code AS funnel,
		s.code AS from_stage, t.code AS to_stage, t.name_ru AS to_stage_ru, t.name_en AS to_stage_en,
		l.at, l.known_at, lead(l.at) OVER w - l.at AS stayed, lead(l.id) OVER w IS NULL AS is_current,
		l.event_id, e.kind AS event_kind, l.by
	FROM crm.stage_log l
	JOIN crm.deal d ON d.id = l.deal_id
	JOIN crm.funnel f ON f.id = d.funnel_id
	LEFT JOIN crm.stage s ON s.id = l.from_stage_id
	JOIN crm.stage t ON t.id = l.to_stage_id
	LEFT JOIN crm.event e ON e.id = l.event_id
	WINDOW w AS (PARTITION BY l.deal_id ORDER BY l.id);
COMMENT ON VIEW crm.deal_history IS 'Every stage of every deal in the order in which it was entered, with what moved it and how long it stayed';
COMMENT ON COLUMN crm.deal_history.stage_log_id IS 'crm.stage_log.id; orders the rows of a deal';
COMMENT ON COLUMN crm.deal_history.deal_id IS 'crm.deal.id';
COMMENT ON COLUMN crm.deal_history.deal IS 'Name of the deal';
COMMENT ON COLUMN crm.deal_history.funnel IS 'Code of its funnel';
COMMENT ON COLUMN crm.deal_history.from_stage IS 'Code of the stage that was left; NULL: the deal came to be';
COMMENT ON COLUMN crm.deal_history.to_stage IS 'Code of the stage that was entered';
COMMENT ON COLUMN crm.deal_history.to_stage_ru IS 'Its name in Russian';
COMMENT ON COLUMN crm.deal_history.to_stage_en IS 'Its name in English';
COMMENT ON COLUMN crm.deal_history.at IS 'When it happened, business clock';
COMMENT ON COLUMN crm.deal_history.known_at IS 'When the database learned of it';
COMMENT ON COLUMN crm.deal_history.stayed IS 'Time until the next move; NULL: is there now';
COMMENT ON COLUMN crm.deal_history.is_current IS 'True for the stage in which the deal is now';
COMMENT ON COLUMN crm.deal_history.event_id IS 'crm.event.id that moved it; NULL: by hand';
COMMENT ON COLUMN crm.deal_history.event_kind IS 'Kind of that event';
COMMENT ON COLUMN crm.deal_history.by IS 'Login role of the session';

CREATE OR REPLACE VIEW crm.funnel_conversion WITH (security_invoker = true) AS
	SELECT f.code AS funnel, s.code AS from_stage, t.code AS to_stage, count(*) AS moves, count(DISTINCT l.deal_id) AS deals
	FROM crm.stage_log l
	JOIN crm.stage t ON t.id = l.to_stage_id
	JOIN crm.funnel f ON f.id = t.funnel_id
	LEFT JOIN crm.stage s ON s.id = l.from_stage_id
	GROUP BY f.code, s.code, s."position", t.code, t."position"
	ORDER BY f.code, s."position" NULLS FIRST, t."position";
COMMENT ON VIEW crm.funnel_conversion IS 'How often each move of each funnel was made, and by how many deals (claim 15)';
COMMENT ON COLUMN crm.funnel_conversion.funnel IS 'Code of the funnel';
COMMENT ON COLUMN crm.funnel_conversion.from_stage IS 'Code of the stage that was left; NULL: deals that came to be';
COMMENT ON COLUMN crm.funnel_conversion.to_stage IS 'Code of the stage that was entered';
COMMENT ON COLUMN crm.funnel_conversion.moves IS 'How many moves';
COMMENT ON COLUMN crm.funnel_conversion.deals IS 'How many different deals';

-- ---- foreign keys -----------------------------------------------------------------------------------

SELECT crm.register_foreign_key('crm.stage', 'funnel_id', 'crm.funnel');
SELECT crm.register_foreign_key('crm.move_allowed', 'funnel_id', 'crm.funnel');
SELECT crm.register_foreign_key('crm.move_allowed', 'from_stage_id', 'crm.stage');
SELECT crm.register_foreign_key('crm.move_allowed', 'to_stage_id', 'crm.stage');
SELECT crm.register_foreign_key('crm.deal', 'funnel_id', 'crm.funnel');
SELECT crm.register_foreign_key('crm.deal', 'stage_id', 'crm.stage');
SELECT crm.register_foreign_key('crm.deal', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.deal', 'contact_id', 'crm.contact');
SELECT crm.register_foreign_key('crm.deal', 'owner_id', 'crm.employee');
SELECT crm.register_no_foreign_key('crm.deal', 'stage_event_id', 'events are partitioned and never deleted');
SELECT crm.register_no_foreign_key('crm.deal', 'source_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.stage_log', 'deal_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.stage_log', 'from_stage_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.stage_log', 'to_stage_id', 'history outlives what it tells of');
SELECT crm.register_no_foreign_key('crm.stage_log', 'event_id', 'events are partitioned and never deleted');
SELECT crm.register_foreign_key('crm.deal_move_rule', 'funnel_id', 'crm.funnel');
SELECT crm.register_foreign_key('crm.deal_move_rule', 'to_stage_id', 'crm.stage');

CREATE OR REPLACE FUNCTION crm.funnel_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bad text[];
BEGIN
	SELECT array_agg(format('deal %s', d.id) ORDER BY d.id) INTO bad FROM (
		SELECT x.id FROM crm.deal x
		WHERE x.stage_id IS DISTINCT FROM (SELECT l.to_stage_id FROM crm.stage_log l WHERE l.deal_id = x.id ORDER BY l.id DESC LIMIT 1)
		ORDER BY x.id LIMIT 20) d;
	RETURN QUERY SELECT 'a deal is where its log says', bad IS NULL, coalesce(array_to_string(bad, ', ') || ': changed past the triggers', 'every deal looked at');
END
$$;
COMMENT ON FUNCTION crm.funnel_selftest() IS 'Row of crm.selftest(): the stage of every deal is the last entry of its log';
SELECT crm.register_hook('selftest', 'funnel', 'crm.funnel_selftest');
