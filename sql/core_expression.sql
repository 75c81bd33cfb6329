-- Whoever may write a condition or a predicate runs no code of his own by it: no type, operator, function or collation of somebody's is touched, when it is saved or later.
\set VERBOSITY default
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', 'Заказ {{number}}');
INSERT INTO crm.company (id, name) VALUES (1, 'Alpha');
INSERT INTO crm.customer_order (id, number, company_id, product, price) VALUES (1, 'O-1', 1, 'Cement', 5000);
INSERT INTO crm.shipment (order_id, product, tare_kg, gross_kg, net_kg, weighed_at) VALUES (1, 'Cement', 15000, 40000, 25000, '2026-11-10 08:00Z');

-- one who may write rules and indicators, and has a schema of his own
CREATE ROLE expression_writer IN ROLE crm_head, crm_director;
CREATE SCHEMA evil AUTHORIZATION expression_writer;
SET LOCAL SESSION AUTHORIZATION expression_writer;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
CREATE FUNCTION evil.trap(v text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RAISE WARNING 'his code ran as %', current_user; RETURN true; END $$;
CREATE FUNCTION evil.trap2(a bigint, b bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT evil.trap('') $$;
CREATE DOMAIN evil.word AS text CHECK (evil.trap(VALUE));
CREATE DOMAIN evil.number AS bigint CHECK (evil.trap(''));
CREATE DOMAIN evil.date AS pg_catalog.date;
CREATE TYPE evil.pair AS (a evil.word, b integer);
CREATE TYPE evil.span AS RANGE (subtype = evil.number);
CREATE TYPE evil.colour AS ENUM ('red');
CREATE FUNCTION evil.takes(w evil.word[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION evil.many(VARIADIC w evil.word[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION evil.default(w evil.word DEFAULT 'x', more boolean DEFAULT evil.trap('')) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE FUNCTION evil.takes_too(w evil.word[], n integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE OPERATOR evil.## (LEFTARG = evil.word[], RIGHTARG = integer, FUNCTION = evil.takes_too);
-- an operator of PostgreSQL's own function, whose negator is his
CREATE OPERATOR evil.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8eq, NEGATOR = OPERATOR(evil.<>));
CREATE OPERATOR evil.<> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.trap2, NEGATOR = OPERATOR(evil.=));
CREATE COLLATION evil.order FROM "C";
CREATE TEXT SEARCH CONFIGURATION evil.words (COPY = simple);
CREATE DOMAIN pg_temp.his AS text CHECK (evil.trap(VALUE));

-- the trap works
SELECT '{x}'::evil.word[];
SELECT NOT (v OPERATOR(evil.=) 0) FROM generate_series(1::bigint, 1) v;

CREATE FUNCTION pg_temp.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE hint text;
BEGIN
	EXECUTE command;
	RETURN 'SAVED';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN concat_ws(' | ', SQLSTATE, SQLERRM, CASE WHEN hint = '' THEN 'WITHOUT A HINT' END);
END $$;
CREATE FUNCTION pg_temp.rule(n bigint, expression text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.try(format('INSERT INTO crm.rule (code, event_kind, audience, channel, template, condition) VALUES (%L, ''thing.done'', ''company_contacts'', ''sms'', ''done'', %L)', 'rule_' || n, expression)) $$;
CREATE FUNCTION pg_temp.predicate(n bigint, expression text) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.try(format('INSERT INTO crm.indicator (code, name_ru, name_en, fact, predicate, time_column) VALUES (%L, ''x'', ''x'', ''shipment'', %L, ''weighed_at'')', 'i' || n, expression)) $$;
CREATE TEMP TABLE way (n bigint GENERATED ALWAYS AS IDENTITY, expression text);
INSERT INTO way (expression) VALUES
	('''{x}''::evil.word[] IS NULL'),
	('evil._word ''{x}'' IS NULL'),
	('evil._word(''{x}'') IS NULL'),
	('(''{x}'')._his IS NULL'),
	('ARRAY[''x'']::evil.word[] IS NULL'),
	('CAST(source AS evil.word) = ''x'''),
	('source::evil.word[] IS NULL'),
	('evil.word(source) IS NULL'),
	('(''(x,1)''::evil.pair) IS NULL'),
	('ROW(''x'', 1)::evil.pair IS NULL'),
	('(ROW(''x'', 1)::evil.pair).a = ''x'''),
	('''[1,2]''::evil.span IS NULL'),
	('evil.span(1, 2) IS NULL'),
	('''red''::evil.colour IS NULL'),
	('weighed_at::evil.date IS NULL'),
	('''{x}''::pg_temp._his IS NULL'),
	('pg_temp._his(''{x}'') IS NULL'),
	('''{x}''::_his IS NULL'),
	('evil.takes(''{x}'')'),
	('evil.takes(w => ''{x}'')'),
	('evil.many(VARIADIC ''{x}'')'),
	('evil.many(''x'', ''y'')'),
	('evil.default()'),
	('evil.trap(source)'),
	('evil.missing(source)'),
	('regress.evil.trap(source)'),
	('(source).trap'),
	('''{x}'' OPERATOR(evil.##) 1'),
	('NOT (1::bigint OPERATOR(evil.=) 2::bigint)'),
	('NOT (id OPERATOR(evil.=) 0)'),
	('NOT (id OPERATOR(evil.=) ANY (''{0}''::bigint[]))'),
	('source COLLATE evil.order = ''x'''),
	('source COLLATE "C" = ''x'' AND source COLLATE pg_catalog."POSIX" = ''x'' AND false'),
	(format('array_in(''{x}'', %s, -1) IS NULL', 'evil.word'::regtype::oid)),
	('to_tsvector(''evil.words'', source) IS NULL'),
	('to_tsvector(''evil.words''::regconfig, source) IS NULL'),
	('to_tsvector(3748::oid, source) IS NULL'),
	('to_tsvector(''russian'', source) @@ to_tsquery(''russian''::regconfig, ''брак'')'),
	('''crm.secret''::regclass IS NULL'),
	('''(1)''::crm.secret IS NULL'),
	('''(1)''::pg_authid IS NULL'),
	('NULL::crm.company IS NULL'),
	('''1''::information_schema.cardinal_number IS NULL'),
	('''<a/>''::xml IS NULL'),
	('xpath_exists(''/a'', ''<a/>'')'),
	('xmlserialize(CONTENT xmlelement(NAME a) AS evil.word) IS NULL'),
	('textin(''x'') IS NULL'),
	('''x''::cstring IS NULL'),
	('count(source ORDER BY source USING OPERATOR(evil.<)) > 0'),
	('pg_sleep(1) IS NULL');
-- two lines each: a condition of a rule, a predicate of an indicator
SELECT regexp_replace(w.expression, '\d{4,}', 'N') || E'\n  ' || pg_temp.rule(w.n, replace(w.expression, 'weighed_at', 'at')) || E'\n  ' || pg_temp.predicate(w.n, w.expression) FROM way w ORDER BY w.n;
-- whole rows, which go by the name of the table
SELECT pg_temp.rule(n, replace(e, '$', 'event')) || E'\n  ' || pg_temp.predicate(n, replace(e, '$', 'fact_shipment'))
FROM (VALUES (101, '$::text = ''x'''), (102, '$.trap'), (103, '$._his IS NULL'), (104, 'text($) = ''x'''), (105, 'to_jsonb($.*) IS NULL')) v(n, e);
-- the sentences in full
\set ON_ERROR_ROLLBACK on
INSERT INTO crm.rule (code, event_kind, audience, channel, template, truth) VALUES ('r', 'thing.done', 'company_contacts', 'sms', 'done', '''{x}''::evil.word[] IS NULL');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, condition) VALUES ('r', 'thing.done', 'company_contacts', 'sms', 'done', 'NOT (id OPERATOR(evil.=) 0)');
INSERT INTO crm.indicator (code, name_ru, name_en, fact, weight, time_column) VALUES ('r', 'x', 'x', 'shipment', 'CASE WHEN ''{x}''::evil.word[] IS NULL THEN 1 END', 'weighed_at');
-- an own search path changes no meaning
SET LOCAL search_path = evil, pg_catalog;
SELECT pg_temp.rule(201, 'NOT (object_id = 0)'), pg_temp.predicate(201, 'NOT (id = 0)');
SELECT pg_temp.rule(202, 'trap(source)') || E'\n  ' || pg_temp.predicate(202, 'trap(source)');
RESET search_path;
-- a literal beside a column of his type, of a relation of his
CREATE TABLE evil.fact (id bigint, words evil.word[]);
SELECT pg_temp.try('SELECT crm.kpi_expression(''evil.fact'', ''words = ''''{x}'''''', ''boolean'')');
SELECT pg_temp.try('SELECT crm.kpi_expression(''evil.fact'', ''ROW(fact.*) = ROW(1, ''''{x}'''')'', ''boolean'')');
RESET SESSION AUTHORIZATION;

-- a function that rules may call: asked as crm_eval, even where the planner folds it; one of the same name is another
CREATE SCHEMA plant;
GRANT USAGE, CREATE ON SCHEMA plant TO PUBLIC;
CREATE FUNCTION plant.open(day text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN RAISE WARNING 'plant.open() ran as %, read only %', current_user, current_setting('transaction_read_only'); RETURN true; END $$;
SELECT crm.register_truth('plant_open', 'plant.open(text)', 'Whether the plant is open');
SET LOCAL SESSION AUTHORIZATION expression_writer;
SELECT pg_temp.rule(301, 'plant.open(''monday'')');
CREATE FUNCTION plant.open(w evil.word[]) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
SELECT pg_temp.rule(302, 'plant.open(''{x}''::text)');
SELECT pg_temp.rule(303, 'plant.open(''{x}'')');
DROP FUNCTION plant.open(evil.word[]);
RESET SESSION AUTHORIZATION;
-- an enum that the DBA gave to a fact
CREATE TYPE plant.shift AS ENUM ('day', 'night');
CREATE VIEW plant.fact AS SELECT 1::bigint AS id, 'day'::plant.shift AS shift;
SELECT crm.kpi_expression('plant.fact', 'shift IN (''day'', ''night'') AND shift IS NOT NULL', 'boolean');

-- rows from before this was refused do nothing when they are used, and activation tells of them
ALTER TABLE crm.rule DISABLE TRIGGER USER;
INSERT INTO crm.rule (code, event_kind, audience, channel, template, condition) VALUES
	('old_1', 'thing.done', 'company_contacts', 'sms', 'done', '''{x}''::evil.word[] IS NOT NULL'),
	('old_2', 'thing.done', 'company_contacts', 'sms', 'done', 'NOT (id OPERATOR(evil.=) 0)'),
	('old_3', 'thing.done', 'company_contacts', 'sms', 'done', 'source::evil.word = ''manual''');
ALTER TABLE crm.rule ENABLE TRIGGER USER;
ALTER TABLE crm.indicator DISABLE TRIGGER USER;
INSERT INTO crm.indicator (code, name_ru, name_en, fact, predicate, time_column) VALUES
	('old_1', 'x', 'x', 'shipment', '''{x}''::evil.word[] IS NOT NULL', 'weighed_at'),
	('old_2', 'x', 'x', 'shipment', 'NOT (id OPERATOR(evil.=) 0)', 'weighed_at');
ALTER TABLE crm.indicator ENABLE TRIGGER USER;

-- what was saved is used, by those with more rights
SELECT code, condition FROM crm.rule WHERE author = 'expression_writer' ORDER BY code;
SELECT code, predicate FROM crm.indicator WHERE author = 'expression_writer' ORDER BY code;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 5, 1, '{"number": 7}');
SELECT words FROM crm.message_skip WHERE reason = 'error' ORDER BY id;
SELECT code, value FROM crm.kpi_cells('2026-11-01', '2026-12-01') WHERE code ~ '^i[0-9]' AND level = 'total' ORDER BY code;
SELECT crm.activate('live');
SELECT code, broken FROM crm.rule WHERE broken IS NOT NULL ORDER BY code;
SELECT code, broken FROM crm.indicator WHERE broken IS NOT NULL ORDER BY code;
ROLLBACK;
