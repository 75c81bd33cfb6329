-- A condition or truth of a rule is ONE expression of harmless functions over an event: what else is written there is refused with the text and a hint.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
INSERT INTO crm.event (kind, object_kind, object_id, data) VALUES ('thing.done', 'thing', 5, '{"number": 7, "plate": "А123ВС"}');
CREATE FUNCTION pg_temp.try(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text; detail text; r boolean;
BEGIN
	PERFORM crm.expression_check('condition', expression);
	SELECT crm.expression_holds(expression, e) INTO r FROM crm.event e;
	RETURN COALESCE(r::text, 'unknown');
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN SQLSTATE || ' ' || SQLERRM || CASE WHEN hint = '' THEN ' WITHOUT A HINT' ELSE '' END;
END $$;
-- allowed
SELECT e, pg_temp.try(e) FROM unnest(ARRAY[
	'object_id = 5',
	'(data->>''number'')::int > 5',
	'data->>''plate'' ~ ''^А''',
	'data ? ''number'' AND NOT data ? ''missing''',
	'data->>''missing'' = ''x''',
	'at <= crm.now()',
	'known_at > at - interval ''1 hour''',
	'extract(hour FROM at AT TIME ZONE ''Europe/Moscow'') BETWEEN 8 AND 21',
	'date_trunc(''day'', at) < at',
	'kind IN (''thing.done'', ''thing.undone'')',
	'CASE WHEN company_id IS NULL THEN true ELSE false END',
	'COALESCE(data->>''missing'', ''no'') = ''no''',
	'lower(source) = ''manual'' -- a comment',
	'(data->>''number'')::numeric BETWEEN 1 AND 10',
	'to_char(at, ''YYYY'') = ''2026''',
	'true']) e;
-- refused
SELECT e, pg_temp.try(e) FROM unnest(ARRAY[
	'',
	'true; DROP TABLE crm.rule',
	'true, false',
	'*',
	'event.*',
	'true FROM crm.rule',
	'true WHERE true',
	'true ORDER BY 1',
	'true LIMIT 1',
	'true AS x',
	'DISTINCT true',
	'true UNION SELECT true',
	'(SELECT true)',
	'EXISTS (SELECT FROM crm.secret)',
	'(SELECT pg_read_file(''/etc/passwd'')) <> ''''',
	'pg_read_file(''/etc/passwd'') <> ''''',
	'set_config(''crm.mode'', ''off'', false) = ''off''',
	'current_setting(''crm.mode'') = ''off''',
	'pg_sleep(1000) IS NULL',
	'random() < 0.5',
	'nextval(''crm.message_number'') > 0',
	'length(repeat(''x'', 1000000000)) > 1',
	'crm.wake() IS NULL',
	'crm.send(''sms'', ''+79161234567'', ''x'') > 0',
	'count(*) > 0',
	'row_number() OVER () = 1',
	'generate_series(1, 10) > 1',
	'query_to_xml(''select 1'', true, true, '''') IS NULL',
	'table_to_xml(''crm.secret'', true, true, '''') IS NULL',
	'at < ''now''',
	'at < timestamptz ''today''',
	'at < ''  Tomorrow ''::timestamptz',
	'current_user = ''postgres''',
	'at < current_timestamp',
	'now() > at',
	'$1 > 0',
	'object_id',
	'object_id + 1',
	'no_such_column = 1',
	'no_such_function(1)',
	'ctid IS NULL',
	'event IS NULL',
	'crm.event.id > 0 AND',
	'((((']) e;
-- what fails on the data is an error of the evaluation only
SELECT pg_temp.try('(data->>''plate'')::int > 5');
SELECT crm.expression_check('condition', 'true; SELECT 1');
ROLLBACK;
