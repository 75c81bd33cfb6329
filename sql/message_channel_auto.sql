-- claims 69 and 70: a rule that leaves the channel to the reader goes by the one that he prefers and has, else by SMS,
-- else by letter; to a place without internet by SMS first. One message a reader, each of a text of its channel.
\set VERBOSITY terse
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
-- things stand at the place of the same number
CREATE FUNCTION crm.x_thing_places(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint) LANGUAGE sql STABLE AS
	$$ SELECT i, i FROM unnest($1) AS i $$;
SELECT crm.register_place_finder('thing', 'crm.x_thing_places');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.register_kind('x_mail_test', NULL, NULL, channel => 'email');
SELECT crm.register_kind('x_chat_test', NULL, NULL, channel => 'telegram');
INSERT INTO crm.company (name) VALUES ('ООО Бетон') RETURNING id AS company \gset
INSERT INTO crm.place (id, company_id, name, kind, lon, lat, radius_m, no_internet)
VALUES (9001, :company, 'Цех', 'unloading', 37, 55, 100, false), (9002, :company, 'Карьер', 'unloading', 38, 56, 100, true);
INSERT INTO crm.contact (company_id, name, channel) VALUES
	(:company, 'any', NULL), (:company, 'chat', 'telegram'), (:company, 'chat without one', 'telegram'), (:company, 'letter', 'email'),
	(:company, 'letter alone', NULL), (:company, 'nothing', 'sms'), (:company, 'bad phone', NULL), (:company, 'chat alone', 'telegram'),
	(:company, 'archived', 'telegram');
INSERT INTO crm.contact_point (contact_id, kind, value)
SELECT c.id, 'phone', format('+7916123450%s', row_number() OVER (ORDER BY c.id)) FROM crm.contact c
WHERE c.company_id = :company AND c.name NOT IN ('letter alone', 'nothing', 'chat alone');
INSERT INTO crm.contact_point (contact_id, kind, value)
SELECT c.id, 'email', format('%s@example.com', replace(c.name, ' ', '.')) FROM crm.contact c
WHERE c.company_id = :company AND c.name NOT IN ('nothing', 'chat alone');
INSERT INTO crm.contact_point (contact_id, kind, value)
SELECT c.id, 'telegram', c.id FROM crm.contact c WHERE c.company_id = :company AND c.name IN ('any', 'chat', 'letter', 'chat alone', 'archived');
UPDATE crm.contact_point p SET state = 'invalid' FROM crm.contact c WHERE c.id = p.contact_id AND c.name = 'bad phone' AND p.kind = 'phone';
UPDATE crm.contact SET archived_at = crm.now() WHERE name = 'archived';
-- refused: no text for SMS; an integration or a sender beside auto; auto as a preference or as the channel of a text
INSERT INTO crm.template (code, channel, language, subject, body) VALUES ('done', 'email', 'ru', 'Дело', 'letter {{number}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('done', 'thing.done', 'company_contacts', 'auto', 'done');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', 'sms {{number}}'), ('done', 'telegram', 'ru', 'chat {{number}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, sender) VALUES ('done', 'thing.done', 'company_contacts', 'auto', 'done', 'CEMENT');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, integration) VALUES ('done', 'thing.done', 'company_contacts', 'auto', 'done', 'gate');
UPDATE crm.contact SET channel = 'auto' WHERE name = 'any';
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'auto', 'ru', 'x');
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('done', 'thing.done', 'company_contacts', 'auto', 'done') RETURNING version, broken;
-- each text of it is checked against the event, and the one for SMS stays while the rule is there
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'telegram', 'en', 'chat {{weight}}');
DELETE FROM crm.template WHERE code = 'done' AND channel = 'sms';
-- nobody carries anything yet: one integration, without a sender
SELECT crm.add_integration('gate', 'x_sms_test', '', '{}') > 0;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 1, :company, '{"number": "A-0"}') RETURNING id AS none \gset
SELECT reason, words FROM crm.message_skip WHERE event_id = :none;
SELECT subject, message FROM crm.health WHERE subject = 'rule done' AND message LIKE '%leaves%';
UPDATE crm.integration SET settings = '{"sender": "CEMENT"}' WHERE name = 'gate';
SELECT crm.add_integration('post', 'x_mail_test', '', '{"sender": "a@example.com"}') > 0,
	crm.add_integration('bot', 'x_chat_test', '', '{}') > 0;
SELECT count(*) FROM crm.health WHERE subject = 'rule done' AND message LIKE '%leaves%';
CREATE FUNCTION pg_temp.said(number text) RETURNS TABLE (line text) LANGUAGE sql AS $$
	SELECT format('%s: %s', c.name, COALESCE(string_agg(format('%s by %s', b.body, i.name), ' and ' ORDER BY b.id) FILTER (WHERE b.id IS NOT NULL), (SELECT s.reason || ', ' || regexp_replace(s.words, '\d+', 'N')
		FROM crm.message_skip s JOIN crm.event e ON e.id = s.event_id WHERE s.contact_id = c.id AND e.data ->> 'number' = $1 LIMIT 1), 'nothing'))
	FROM crm.contact c
	LEFT JOIN crm.message_said b ON b.contact_id = c.id AND b.event_id IN (SELECT e.id FROM crm.event e WHERE e.data ->> 'number' = $1)
	LEFT JOIN crm.integration i ON i.id = b.integration_id
	WHERE c.company_id IS NOT NULL GROUP BY c.id, c.name ORDER BY c.id $$;
-- one set of facts, one of them at a place without internet
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES
	('thing.done', 'thing', 9001, :company, '{"number": "A-1"}'), ('thing.done', 'thing', 9002, :company, '{"number": "A-2"}');
SELECT * FROM pg_temp.said('A-1');
SELECT * FROM pg_temp.said('A-2');
SELECT count(*), count(DISTINCT (contact_id, event_id)) FROM crm.message_body;
SELECT channel, encoding, segments, sender, subject FROM crm.message_body WHERE event_id = (SELECT id FROM crm.event WHERE data ->> 'number' = 'A-1') ORDER BY id;
SELECT split_part(crm.why((SELECT max(id) FROM crm.message_body WHERE channel = 'telegram')), E'\n', 3);
-- why not: the reader without an address
SELECT regexp_replace(crm.why_not((SELECT id FROM crm.event WHERE data ->> 'number' = 'A-1'), (SELECT id FROM crm.contact WHERE name = 'nothing')), 'contact \d+', 'contact N');
-- how the texts of all channels would read, and what the SMS would take
SELECT channel, body, encoding, units, parts FROM crm.template_preview('done', (SELECT id FROM crm.event WHERE data ->> 'number' = 'A-1'));
-- the same cause again: once, though the reader prefers another channel by now
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id) VALUES ('thing.done', 'thing', 9001, :company, '{"number": "A-3"}', 'erp', 'x1');
UPDATE crm.contact SET channel = 'email' WHERE name = 'chat';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data, source, source_id) VALUES ('thing.done', 'thing', 9001, :company, '{"number": "A-3"}', 'erp', 'x1');
SELECT * FROM pg_temp.said('A-3');
-- a channel that nobody carries any more is passed over
UPDATE crm.integration SET enabled = false WHERE name = 'bot';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 9001, :company, '{"number": "A-4"}');
SELECT * FROM pg_temp.said('A-4');
-- a finder that fails stops no fact: the reason is kept
CREATE OR REPLACE FUNCTION crm.x_thing_places(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint) LANGUAGE sql STABLE AS
	$$ SELECT i, 1 / (i - i) FROM unnest($1) AS i $$;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) VALUES ('thing.done', 'thing', 9001, :company, '{"number": "A-5"}') RETURNING id AS failing \gset
SELECT reason, words FROM crm.message_skip WHERE event_id = :failing;
-- orders, shipments and trips know where they go
SELECT object_kind, function FROM crm.place_finder WHERE object_kind <> 'thing' ORDER BY 1;
INSERT INTO crm.customer_order (company_id, place_id, number, product) VALUES (:company, 9002, 'T-1', 'cement') RETURNING id AS o \gset
SELECT crm.events_offline(ARRAY[1, 2], ARRAY['customer_order', 'customer_order'], ARRAY[:o, -1]);
ROLLBACK;
