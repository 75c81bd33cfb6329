-- funnel: what a stage asks of a deal that enters or leaves it. Code: may be run any number of times.
-- OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.

CREATE OR REPLACE FUNCTION crm.deal_condition_check(what text, expression text) RETURNS void
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS '$libdir/crm', 'crm_funnel_condition_check';
COMMENT ON FUNCTION crm.deal_condition_check(text, text) IS 'Checks that a text is ONE boolean SQL expression over the columns of crm.deal, built of non-volatile functions that rules may call; parsed and analysed, neither planned nor run. what: the word for it in an error. Errors: 42601 syntax, 0A000 what is not allowed, 42804 not boolean, 42703, 42883; with the text and a hint.';

CREATE OR REPLACE FUNCTION crm.deal_holds(expression text, deal crm.deal) RETURNS boolean
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS '$libdir/crm', 'crm_funnel_condition_holds';
COMMENT ON FUNCTION crm.deal_holds(text, crm.deal) IS 'Evaluates a condition of a stage over a deal, as crm_eval and read-only; checked as by crm.deal_condition_check() each time.';

CREATE OR REPLACE FUNCTION crm.stage_check() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bad text;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NEW;						-- a restore
	END IF;
	IF TG_OP = 'UPDATE' AND (NEW.enter_required, NEW.leave_required, NEW.enter_condition, NEW.leave_condition)
		IS NOT DISTINCT FROM (OLD.enter_required, OLD.leave_required, OLD.enter_condition, OLD.leave_condition) THEN
		RETURN NEW;
	END IF;
	SELECT string_agg(DISTINCT coalesce(f.name, 'NULL'), ', ') INTO bad
	FROM unnest(coalesce(NEW.enter_required, '{}') || coalesce(NEW.leave_required, '{}')) AS f(name)
	WHERE f.name IS NULL OR f.name !~ '^data\.[a-z0-9_]{1,63}$' AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = 'crm.deal'::regclass AND a.attname = f.name AND a.attnum > 0 AND NOT a.attisdropped);
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42703', MESSAGE = format('stage "%s" requires what no deal has: %s', NEW.code, bad),
			HINT = 'Name columns of crm.deal, such as amount, contact_id, expected_on, or data.key for a field of your own.';
	END IF;
	IF NEW.enter_condition IS NOT NULL OR NEW.leave_condition IS NOT NULL THEN
		IF NOT has_table_privilege(session_user, 'crm.deal', 'SELECT') THEN
			RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('%s may not read crm.deal, which the condition of stage "%s" names', session_user, NEW.code),
				HINT = 'Ask for membership in crm_head.';
		END IF;
		PERFORM crm.deal_condition_check('condition to enter', NEW.enter_condition), crm.deal_condition_check('condition to leave', NEW.leave_condition);
		NEW.condition_author := session_user;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.stage_check() IS 'Trigger function of crm.stage: refuses a condition that is not one allowed expression (crm.deal_condition_check), required fields that are not there (42703), and an author who may not read crm.deal (42501). Asleep until crm.activate().';

CREATE OR REPLACE FUNCTION crm.conditions_broken(deal_ids bigint[], expressions text[], says text[]) RETURNS TABLE (deal_id bigint, said text, words text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	broken bigint[];
	saids  text[];
BEGIN
	IF deal_ids IS NULL THEN
		RETURN;
	END IF;
	BEGIN
		-- sorted, so that each expression is read once
		SELECT array_agg(d.id), array_agg(g.said) INTO broken, saids
		FROM (SELECT x.* FROM unnest(deal_ids, expressions, says) AS x(id, expression, said) ORDER BY x.expression, x.id) g
		CROSS JOIN LATERAL (SELECT y AS whole, y.id FROM crm.deal y WHERE y.id = g.id OFFSET 0) d
		WHERE crm.deal_holds(g.expression, d.whole) IS NOT TRUE;
		RETURN QUERY SELECT b.id, b.said, NULL::text FROM unnest(broken, saids) AS b(id, said);
		RETURN;
	EXCEPTION WHEN data_exception OR feature_not_supported OR syntax_error_or_access_rule_violation THEN
		NULL;							-- one by one: only the culprit fails
	END;
	FOR i IN 1 .. cardinality(deal_ids) LOOP
		deal_id := deal_ids[i];
		said := says[i];
		words := NULL;
		BEGIN
			CONTINUE WHEN (SELECT crm.deal_holds(expressions[i], y) FROM crm.deal y WHERE y.id = deal_ids[i]);
		EXCEPTION WHEN data_exception OR feature_not_supported OR syntax_error_or_access_rule_violation THEN
			words := SQLERRM;
		END;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.conditions_broken(bigint[], text[], text[]) IS 'Deals of which the condition beside them is not true, with the words for it and the error where it could not be asked; NULL is not true.';

CREATE OR REPLACE FUNCTION crm.move_problems(deal_ids bigint[], from_ids bigint[], to_ids bigint[]) RETURNS TABLE (deal_id bigint, message text, hint text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	gates  boolean;
	ids    bigint[];
	asks   text[];
	says   text[];
BEGIN
	SELECT bool_or(s.enter_required IS NOT NULL OR s.leave_required IS NOT NULL OR s.enter_condition IS NOT NULL OR s.leave_condition IS NOT NULL OR s.reason_required) INTO gates
	FROM crm.stage s WHERE s.id = ANY (ARRAY(SELECT DISTINCT x FROM unnest(from_ids || to_ids) AS x));
	IF gates THEN
		RETURN QUERY
		SELECT d.id, format('deal %s cannot %s stage "%s": %s', d.id, a.verb, a.code,
				CASE WHEN f.missing IS NULL THEN 'no reason is given' ELSE 'it has no ' || f.missing END),
			CASE WHEN f.missing IS NULL THEN format('SELECT crm.move(%s, %L, ''why'');', d.id, a.code) ELSE format('UPDATE crm.deal SET … WHERE id = %s; first.', d.id) END
		FROM unnest(deal_ids, from_ids, to_ids) AS g(id, from_id, to_id)
		JOIN crm.stage t ON t.id = g.to_id
		LEFT JOIN crm.stage s ON s.id = g.from_id
		CROSS JOIN LATERAL (VALUES ('enter', t.code, t.enter_required, t.reason_required),
			('leave', s.code, CASE WHEN NOT t.is_lost THEN s.leave_required END, false)) AS a(verb, code, required, reason)
		CROSS JOIN LATERAL (SELECT y.* FROM crm.deal y WHERE y.id = g.id AND (a.required IS NOT NULL OR a.reason) OFFSET 0) d
		CROSS JOIN LATERAL (
			SELECT string_agg(n.name, ', ' ORDER BY n.n) AS missing
			FROM unnest(a.required) WITH ORDINALITY AS n(name, n)
			WHERE coalesce(CASE WHEN n.name LIKE 'data.%' THEN d.data ->> substr(n.name, 6) ELSE to_jsonb(d) ->> n.name END, '') = '') f
		WHERE f.missing IS NOT NULL OR a.reason AND coalesce(d.stage_reason, '') = '';

		SELECT array_agg(g.id), array_agg(a.condition), array_agg(a.said) INTO ids, asks, says
		FROM unnest(deal_ids, from_ids, to_ids) AS g(id, from_id, to_id)
		JOIN crm.stage t ON t.id = g.to_id
		LEFT JOIN crm.stage s ON s.id = g.from_id
		CROSS JOIN LATERAL (VALUES (t.enter_condition, format('enter stage "%s": %s', t.code, t.enter_condition)),
			(CASE WHEN NOT t.is_lost THEN s.leave_condition END, format('leave stage "%s": %s', s.code, s.leave_condition))) AS a(condition, said)
		WHERE a.condition IS NOT NULL;
		RETURN QUERY
		SELECT b.deal_id, format('deal %s does not meet the condition to %s', b.deal_id, b.said),
			coalesce('The condition could not be asked: ' || b.words || '.', 'Change the deal so that it holds, or the condition of the stage.')
		FROM crm.conditions_broken(ids, asks, says) b;
	END IF;
	IF EXISTS (SELECT FROM crm.checklist_item c WHERE c.blocks AND c.done_at IS NULL) THEN
		RETURN QUERY
		SELECT g.id, format('deal %s has open items in its checklist: %s', g.id, c.names), format('SELECT crm.check_item(id) FROM crm.checklist_item WHERE deal_id = %s AND done_at IS NULL;', g.id)
		FROM unnest(deal_ids, from_ids, to_ids) AS g(id, from_id, to_id)
		JOIN crm.stage t ON t.id = g.to_id AND NOT t.is_lost
		JOIN crm.stage s ON s.id = g.from_id AND t."position" > s."position"
		CROSS JOIN LATERAL (SELECT string_agg(i.name, ', ' ORDER BY i."position", i.id) AS names FROM crm.checklist_item i WHERE i.deal_id = g.id AND i.blocks AND i.done_at IS NULL) c
		WHERE c.names IS NOT NULL;
	END IF;
	RETURN QUERY
	SELECT g.id, format('deal %s waits for its card %s', g.id, l.card_id), format('Close the card first: SELECT * FROM crm.deal WHERE id = %s;', l.card_id)
	FROM unnest(deal_ids, from_ids, to_ids) AS g(id, from_id, to_id)
	CROSS JOIN LATERAL (SELECT y.card_id FROM crm.deal_link y WHERE y.deal_id = g.id AND y.waits AND y.returned_at IS NULL LIMIT 1 OFFSET 0) l
	JOIN crm.stage t ON t.id = g.to_id AND NOT t.is_lost
	WHERE g.from_id IS NOT NULL;
END
$$;
COMMENT ON FUNCTION crm.move_problems(bigint[], bigint[], bigint[]) IS 'What stands in the way of moves besides crm.move_allowed, a row or more for each deal that may not: required fields, conditions and reasons of the stages left (NULL: a new deal) and entered, open items of a checklist that blocks, a card that is waited for. To a lost stage a deal may always go but for what that stage itself asks.';

CREATE OR REPLACE FUNCTION crm.deals_may_move(deal_ids bigint[], from_ids bigint[], to_ids bigint[]) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	p record;
BEGIN
	IF crm.rules_held() THEN
		RETURN;	-- a load brings deals as they were elsewhere
	END IF;
	SELECT x.deal_id, x.message, x.hint INTO p FROM crm.move_problems(deal_ids, from_ids, to_ids) x LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '23514', MESSAGE = p.message, HINT = p.hint;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.deals_may_move(bigint[], bigint[], bigint[]) IS 'Refuses moves by what crm.move_problems() finds, with 23514 and the first of them; not where crm.hold_rules() holds for a load. Called by the triggers of crm.deal.';

CREATE OR REPLACE FUNCTION crm.check_item(item_id bigint, done boolean DEFAULT true) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i crm.checklist_item;
BEGIN
	SELECT x.* INTO i FROM crm.checklist_item x WHERE x.id = item_id FOR UPDATE;
	IF NOT FOUND OR NOT crm.sees_deal(i.deal_id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('item %s does not exist', coalesce(item_id::text, 'NULL')), HINT = 'SELECT id, deal_id, name FROM crm.checklist_item WHERE done_at IS NULL;';
	END IF;
	IF (i.done_at IS NOT NULL) = done THEN
		RETURN false;
	END IF;
	UPDATE crm.checklist_item x SET done_at = CASE WHEN done THEN crm.now() END, done_by = CASE WHEN done THEN crm.me_name() END WHERE x.id = i.id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.check_item(bigint, boolean) IS 'Ticks an item of a checklist, or takes the tick back. False: it was so. Error P0002 for one that is not there or of a deal that the person does not see.';

SELECT crm.register_foreign_key('crm.checklist_item', 'deal_id', 'crm.deal', 'id', on_delete => 'CASCADE');
