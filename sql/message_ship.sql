-- Shipped rules and templates: an edit and a switch of the DBA survive every activation, an untouched text is brought up to date, nothing shipped can be deleted.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.activate('live');
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
CREATE FUNCTION pg_temp.ship(text text, priority integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.ship_template('shipped.a', 'sms', 'ru', NULL, text || ' {{number}}', NULL);
	PERFORM crm.ship_template('shipped.b', 'sms', 'ru', NULL, text || ' {{number}}', NULL);
	PERFORM crm.ship_rule('shipped.a', jsonb_build_object('event_kind', 'thing.done', 'audience', 'company_contacts', 'channel', 'sms', 'template', 'shipped.a', 'priority', priority));
	PERFORM crm.ship_rule('shipped.b', jsonb_build_object('event_kind', 'thing.done', 'audience', 'company_contacts', 'channel', 'sms', 'template', 'shipped.b', 'priority', priority));
	PERFORM crm.rules_check();
END $$;
SELECT pg_temp.ship('one', 1);
SELECT code, version, body, shipped FROM crm.template WHERE code LIKE 'shipped.%' ORDER BY 1;
SELECT code, version, priority, enabled, switched, broken, shipped FROM crm.rule WHERE code LIKE 'shipped.%' ORDER BY 1;
-- the DBA edits a and switches b
UPDATE crm.template SET body = 'our own {{number}}' WHERE code = 'shipped.a';
UPDATE crm.rule SET expires_after = '2 hours' WHERE code = 'shipped.a';
UPDATE crm.rule SET switched = false WHERE code = 'shipped.b';
SELECT crm.activate('live');
SELECT pg_temp.ship('one', 1);
SELECT pg_temp.ship('two', 2);
SELECT code, version, body FROM crm.template WHERE code LIKE 'shipped.%' ORDER BY 1;
SELECT code, version, priority, expires_after, enabled, switched FROM crm.rule WHERE code LIKE 'shipped.%' ORDER BY 1;
SELECT t.code, v.version, v.body FROM crm.template_version v JOIN crm.template t ON t.id = v.template_id WHERE t.code LIKE 'shipped.%' ORDER BY 1, 2;
DELETE FROM crm.rule WHERE code = 'shipped.b';
DELETE FROM crm.template WHERE code = 'shipped.b';
-- a setting of the DBA
UPDATE crm.quiet_hours SET to_time = '20:00' WHERE kind = 'service' AND NOT weekend;
SELECT crm.ship_message();
SELECT * FROM crm.quiet_hours ORDER BY 1, 2;
-- every shipped rule can run, and its templates are there in both languages
SELECT code, broken FROM crm.rule WHERE broken IS NOT NULL;
SELECT r.code FROM crm.rule r WHERE r.shipped AND r.code NOT LIKE 'shipped.%'
	AND (SELECT count(*) FROM crm.template t WHERE t.code = r.template AND t.channel = CASE r.channel WHEN 'auto' THEN 'sms' ELSE r.channel END) < 2;
-- sms of shipped templates stay short: at most three parts with long values
SELECT t.code, t.language FROM crm.template t,
	LATERAL (SELECT jsonb_object_agg(v.name, CASE WHEN v.name LIKE '%\_count' THEN '1000' ELSE repeat('Щ', 12) END) FROM unnest(crm.template_variables(t.body)) AS v(name)) x(vars),
	LATERAL crm.sms_segments(crm.template_fill(t.body, x.vars)) s
WHERE t.shipped AND t.channel = 'sms' AND s.parts > 3;
ROLLBACK;
