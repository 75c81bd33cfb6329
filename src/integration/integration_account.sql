-- Money with a paid service: balance, spending a day, budget, and the stop when it refuses us. And bytes of strangers as text, JSON and XML,
-- and values escaped for them.

-- ---- bytes that came -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.body_text(body bytea) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	BEGIN
		RETURN convert_from(coalesce(body, ''), 'UTF8');
	EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
		NULL;
	END;
	-- no UTF-8: a Russian service that answers in its old encoding; 0x98 alone is not in it
	RETURN convert_from(decode(replace(replace(regexp_replace(encode(body, 'hex'), '(..)', '\1 ', 'g'), '98 ', '3f '), '00 ', '3f '), 'hex'), 'WIN1251');
END
$$;
COMMENT ON FUNCTION crm.body_text(bytea) IS 'The text of a body: as UTF-8, or where it is none as windows-1251, what cannot be shown as ?; empty where there is none. Never an error.';

CREATE OR REPLACE FUNCTION crm.body_json(body bytea) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN ltrim(crm.body_text(body), U&'\FEFF')::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.body_json(bytea) IS 'The JSON of a body, in UTF-8 or windows-1251; NULL where it is none. Never an error.';

CREATE OR REPLACE FUNCTION crm.body_xml(body bytea) RETURNS xml
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	words text := crm.body_text(body);
BEGIN
	IF words ~* '<!(doctype|entity)' THEN
		RETURN NULL;
	END IF;
	-- a namespace that is no absolute URI (SMS4B has one) would be a warning in the log each time it is looked at
	RETURN xmlparse(DOCUMENT regexp_replace(ltrim(words, U&'\FEFF'), '\sxmlns=("[^":]*"|''[^'':]*'')', '', 'g'));
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.body_xml(bytea) IS 'The XML document of a body; NULL where it is none or holds a document type, whose entities could grow without end. A default namespace that is no absolute URI is taken out. Never an error.';

CREATE OR REPLACE FUNCTION crm.xml_text(said xml, expression text) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT nullif(x.value, '') FROM XMLTABLE('/*' PASSING $1 COLUMNS value text PATH 'string(' || $2 || ')') AS x
$$;
COMMENT ON FUNCTION crm.xml_text(xml, text) IS 'The text of the first node of an XPath expression, its entities read; NULL where there is none or it is empty. Error 22000 for an expression that cannot be read.';

CREATE OR REPLACE FUNCTION crm.as_number(words text) RETURNS numeric
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN btrim($1) ~ '^[+-]?[0-9]{1,12}([.,][0-9]{1,12})?$' THEN replace(btrim($1), ',', '.')::numeric END;
END;
COMMENT ON FUNCTION crm.as_number(text) IS 'A number as services write it, with point or comma, at most twelve digits before it; NULL for all else. Never an error.';

-- ---- values that go out ----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.escaped(value text, place text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE $2
		WHEN 'url' THEN crm.url_encode($1)
		WHEN 'form' THEN crm.url_encode($1)
		WHEN 'json' THEN substr(j.said, 2, length(j.said) - 2)
		WHEN 'xml' THEN replace(replace(replace(replace(replace(regexp_replace($1, '[\x01-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]', '', 'g'),
			'&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&apos;')
		WHEN 'header' THEN regexp_replace($1, '[\x01-\x1f\x7f-\x9f\u2028\u2029]', '', 'g')
		WHEN 'text' THEN $1 END
	FROM (SELECT to_json($1)::text) AS j(said)
$$;
COMMENT ON FUNCTION crm.escaped(text, text) IS 'A value as it may stand in a place: url, form, json (inside of quotes), xml, header (control characters are taken out), text (as it is).';

-- ---- money -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.account_day() RETURNS date
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT (crm.now() AT TIME ZONE current_setting('crm.time_zone'))::date;
END;
COMMENT ON FUNCTION crm.account_day() IS 'Today of the business clock, in the zone of the setting crm.time_zone: the day to which spending belongs.';

CREATE OR REPLACE FUNCTION crm.account_stop(integration_id bigint, class text, words text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.integration_failed($1, format('%s: %s', $2, $3), coalesce(crm.as_number(crm.setting_of($1, 'hold_ms'))::bigint, 60000));
	UPDATE crm.integration_state s SET session = coalesce(s.session, '{}') - '{stopped_balance,balance_from_ms}'::text[] || jsonb_build_object('stopped', $2)
	WHERE s.integration_id = $1 AND s.session ->> 'stopped' IS DISTINCT FROM $2;
END
$$;
COMMENT ON FUNCTION crm.account_stop(bigint, text, text) IS 'A service refuses us, not one message: class balance, auth or config, and its words. Nothing is asked for the setting hold_ms (60000); then only the balance, or one message where the kind cannot ask it, until crm.account_resume or crm.account_balance ends the stop. crm.health says why; what is queued waits.';

CREATE OR REPLACE FUNCTION crm.account_resume(integration_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.integration_succeeded($1);
	UPDATE crm.integration_state s SET session = s.session - '{stopped,stopped_balance}'::text[]
	WHERE s.integration_id = $1 AND s.session ? 'stopped';
	IF FOUND THEN
		PERFORM crm.wake();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.account_resume(bigint) IS 'The service takes our requests: ends back-off and a stop.';

CREATE OR REPLACE FUNCTION crm.account_stopped(integration_id bigint) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT s.session ->> 'stopped' FROM crm.integration_state s WHERE s.integration_id = $1;
END;
COMMENT ON FUNCTION crm.account_stopped(bigint) IS 'Why a service refuses us since crm.account_stop: balance, auth or config; NULL when it does not.';

CREATE OR REPLACE FUNCTION crm.account_ask(integration_id bigint) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
	now_ms bigint := crm.monotonic_ms();
	every  bigint := crm.as_number(crm.setting_of($1, 'balance_ms'))::bigint;
BEGIN
	PERFORM crm.assert_own_integration($1);
	UPDATE crm.integration_state s SET session = coalesce(s.session, '{}')
		|| jsonb_build_object('balance_from_ms', now_ms + CASE WHEN s.session ? 'stopped' THEN 1000 ELSE greatest(every, 1000) END)
	WHERE s.integration_id = $1
		AND (coalesce((s.session ->> 'balance_from_ms')::bigint, 0) <= now_ms OR (s.session ->> 'balance_from_ms')::bigint > now_ms + 86400000)
		AND (every > 0 OR s.session ? 'stopped');
	RETURN FOUND;
END
$$;
COMMENT ON FUNCTION crm.account_ask(bigint) IS 'Whether the balance is to be asked now: each balance_ms (0: never), and while the service refuses us. Books the next time.';

CREATE OR REPLACE FUNCTION crm.account_balance(integration_id bigint, balance numeric) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
	session jsonb;
	mark    numeric;
BEGIN
	PERFORM crm.assert_own_integration($1);
	IF $2 IS NULL THEN
		RETURN;
	END IF;
	INSERT INTO crm.integration_account AS a (integration_id, balance, currency)
	VALUES ($1, $2, crm.setting_of($1, 'currency'))
	ON CONFLICT (integration_id) DO UPDATE SET balance = EXCLUDED.balance, currency = EXCLUDED.currency, balance_at = crm.now();
	SELECT s.session INTO session FROM crm.integration_state s WHERE s.integration_id = $1;
	IF session ? 'stopped' THEN
		mark := crm.as_number(session ->> 'stopped_balance');
		-- an account with a credit is below zero all the time: what counts is that somebody paid
		IF $2 > coalesce(crm.as_number(crm.setting_of($1, 'balance_min')), 0) OR $2 > mark THEN
			PERFORM crm.account_resume($1);
		ELSE
			PERFORM crm.account_stop($1, 'balance', format('%s%s left', trim_scale($2), coalesce(' ' || crm.setting_of($1, 'currency'), '')));
			UPDATE crm.integration_state s SET session = s.session || jsonb_build_object('stopped_balance', coalesce(mark, $2)::text)
			WHERE s.integration_id = $1;
		END IF;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.account_balance(bigint, numeric) IS 'Keeps the balance that a service told. Where the service refused us (crm.account_stop): more than the setting balance_min (0), or more than it was at first, ends the stop. Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.account_spent(integration_id bigint, messages integer, parts integer, amount numeric) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM crm.assert_own_integration($1);
	INSERT INTO crm.integration_spending AS s (integration_id, day, messages, parts, amount)
	VALUES ($1, crm.account_day(), coalesce($2, 0), coalesce($3, 0), coalesce($4, 0))
	ON CONFLICT (integration_id, day) DO UPDATE SET messages = s.messages + EXCLUDED.messages, parts = s.parts + EXCLUDED.parts,
		amount = s.amount + EXCLUDED.amount;
END
$$;
COMMENT ON FUNCTION crm.account_spent(bigint, integer, integer, numeric) IS 'Adds to the spending of today: messages, billed parts, their price. Error 42501 outside of a call for this integration.';

CREATE OR REPLACE FUNCTION crm.account_budget(integration_id bigint, OUT span text, OUT budget numeric, OUT spent numeric, OUT price numeric) RETURNS record
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH today AS (
		SELECT crm.account_day() AS day
	), paid AS (
		SELECT coalesce(sum(s.amount) FILTER (WHERE s.day = t.day), 0) AS of_day, coalesce(sum(s.amount), 0) AS of_month,
			sum(s.amount) / nullif(sum(s.messages), 0) AS mean
		FROM today t LEFT JOIN crm.integration_spending s ON s.integration_id = $1 AND s.day BETWEEN date_trunc('month', t.day)::date AND t.day
	)
	SELECT l.span, l.budget, l.spent, coalesce(nullif(p.mean, 0), crm.as_number(crm.setting_of($1, 'price')))
	FROM paid p
	CROSS JOIN LATERAL (VALUES
		('day', crm.as_number(crm.setting_of($1, 'budget_day')), p.of_day),
		('month', crm.as_number(crm.setting_of($1, 'budget_month')), p.of_month)) AS l(span, budget, spent)
	ORDER BY l.budget - l.spent, l.span
	LIMIT 1
$$;
COMMENT ON FUNCTION crm.account_budget(bigint) IS 'The budget of an integration that has the least left (settings budget_day, budget_month; budget is NULL where there is none), what was spent of it, and what one message is taken to cost: the mean of this month, else the setting price.';

CREATE OR REPLACE FUNCTION crm.account_room(integration_id bigint, capacity integer) RETURNS integer
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	b       record;
	on_way  integer;
BEGIN
	SELECT * INTO b FROM crm.account_budget($1);
	IF b.budget IS NULL THEN
		RETURN greatest($2, 0);
	END IF;
	SELECT s.outstanding INTO on_way FROM crm.integration_state s WHERE s.integration_id = $1;
	-- whose price nobody knows yet goes one at a time
	RETURN greatest(0, least($2, CASE WHEN b.spent >= b.budget THEN 0 WHEN coalesce(b.price, 0) <= 0 THEN 1
		ELSE floor(least((b.budget - b.spent) / b.price, 1000000))::integer END - coalesce(on_way, 0)));
END
$$;
COMMENT ON FUNCTION crm.account_room(bigint, integer) IS 'How many messages may be taken now: the capacity, less what the budget of the day or the month does not cover at the usual price, with what is on its way counted. A text of more parts than usual may pass the budget by its own price.';

CREATE OR REPLACE FUNCTION crm.account_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	hook    record;
	waiting jsonb := '{}';
	piece   jsonb;
BEGIN
	FOR hook IN SELECT h.function FROM crm.hook h WHERE h.point = 'waiting' ORDER BY h.position LOOP
		EXECUTE format('SELECT jsonb_object_agg(w.integration_id::text, w.waiting) FROM %s() w WHERE w.waiting > 0', hook.function) INTO piece;
		waiting := waiting || coalesce(piece, '{}');
	END LOOP;
	RETURN QUERY
		SELECT 'error', 'budget ' || n.name,
			format('The budget of %s for the %s, %s%s, is used up (%s spent)%s', n.name, b.span, b.budget, coalesce(' ' || crm.setting_of(n.id, 'currency'), ''),
				trim_scale(round(b.spent, 2)), coalesce(' and ' || (waiting ->> n.id::text) || ' messages wait', '')),
			format('They go on the next %s by themselves, or when the setting budget_%s is raised: UPDATE crm.integration SET settings = settings || ''{"budget_%s": …}'' WHERE name = %L;',
				b.span, b.span, b.span, n.name),
			NULL::timestamptz
		FROM crm.integration n
		CROSS JOIN LATERAL crm.account_budget(n.id) b
		WHERE n.enabled AND b.budget IS NOT NULL AND b.spent + coalesce(b.price, 0) > b.budget
		ORDER BY n.name;
	RETURN QUERY
		SELECT 'warning', 'balance ' || n.name,
			format('%s has %s%s left, less than %s', n.name, trim_scale(a.balance), coalesce(' ' || a.currency, ''), crm.setting_of(n.id, 'balance_low')),
			'Pay before it is used up: then messages wait. The setting balance_low is the mark.', a.balance_at
		FROM crm.integration n
		JOIN crm.integration_account a ON a.integration_id = n.id
		WHERE n.enabled AND a.balance < crm.as_number(crm.setting_of(n.id, 'balance_low'))
		ORDER BY n.name;
END
$$;
COMMENT ON FUNCTION crm.account_health() IS 'Rows of crm.health about money: a budget that is used up, a balance below the setting balance_low.';

SELECT crm.register_foreign_key('crm.integration_account', 'integration_id', 'crm.integration', 'id', on_delete => 'CASCADE');
SELECT crm.register_foreign_key('crm.integration_spending', 'integration_id', 'crm.integration', 'id', on_delete => 'CASCADE');
SELECT crm.register_hook('health', 'account', 'crm.account_health');
