/*
 * message: the channel that is chosen for a reader (rules with channel auto).
 * May be run again at any time.
 *
 * Asked when the message is queued, for a whole set of events at once.  Rules
 * with a fixed channel never come here.  Claims 69 and 70.
 *
 * OFFSET 0 in a look-up: see message_outbox.sql.
 */

CREATE OR REPLACE FUNCTION crm.register_place_finder(object_kind text, function text) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.place_finder AS f (object_kind, function) VALUES ($1, $2)
	ON CONFLICT (object_kind) DO UPDATE SET function = excluded.function;
END;
COMMENT ON FUNCTION crm.register_place_finder(text, text) IS
'Tells where objects of a kind go: a function f(object_ids bigint[]) RETURNS TABLE (object_id bigint, place_id bigint), written with its schema; an object may have several places, or none. Called by the script';

CREATE OR REPLACE FUNCTION crm.template_carriers(template text)
RETURNS TABLE (channel text, integration_id bigint, sender text, max_parts integer)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	FOR channel IN SELECT DISTINCT t.channel FROM crm.template t WHERE t.code = $1 ORDER BY 1 LOOP
		SELECT i.id, i.settings ->> 'sender',
			CASE WHEN i.settings ->> 'max_parts' ~ '^[0-9]{1,4}$' THEN (i.settings ->> 'max_parts')::integer ELSE 10 END
		INTO integration_id, sender, max_parts
		FROM crm.integration i WHERE i.id = crm.channel_integration(channel);
		CONTINUE WHEN NOT FOUND;
		BEGIN
			PERFORM crm.sender_check(channel, sender);
		EXCEPTION WHEN invalid_parameter_value OR null_value_not_allowed THEN
			CONTINUE;
		END;
		RETURN NEXT;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.template_carriers(text) IS
'The channels by which a template can go now: it has a text for them, and an enabled integration carries them under a sender that they take. max_parts: of an SMS';

CREATE OR REPLACE FUNCTION crm.events_offline(event_ids bigint[], object_kinds text[], object_ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	f record;
	ids bigint[];
	offline bigint[];
	found_events bigint[] := '{}';
BEGIN
	FOR f IN
		SELECT x.object_kind, x.function FROM crm.place_finder x
		WHERE x.object_kind IN (SELECT k.kind FROM unnest($2) AS k(kind)) ORDER BY 1
	LOOP
		SELECT array_agg(DISTINCT o.id) INTO ids FROM unnest($2, $3) AS o(kind, id) WHERE o.kind = f.object_kind;
		EXECUTE format('SELECT array_agg(DISTINCT x.object_id) FROM %s($1) x
			CROSS JOIN LATERAL (SELECT p.no_internet FROM crm.place p WHERE p.id = x.place_id OFFSET 0) p WHERE p.no_internet', f.function)
		INTO offline USING ids;
		CONTINUE WHEN offline IS NULL;
		found_events := found_events || ARRAY(SELECT e.id FROM unnest($1, $2, $3) AS e(id, kind, object)
			WHERE e.kind = f.object_kind AND (e.object IN (SELECT q.id FROM unnest(offline) AS q(id))) IS TRUE);
	END LOOP;
	RETURN found_events;
END
$$;
COMMENT ON FUNCTION crm.events_offline(bigint[], text[], bigint[]) IS
'Those of the events whose object goes to a place without mobile internet (crm.place.no_internet), found by crm.place_finder';

CREATE OR REPLACE FUNCTION crm.reader_channels(channels text[], audience text, event_ids bigint[], object_kinds text[], object_ids bigint[])
RETURNS TABLE (event_id bigint, contact_id bigint, channel text)
LANGUAGE plpgsql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp ROWS 1000
AS $$
#variable_conflict use_column
DECLARE
	offline_events bigint[] := crm.events_offline($3, $4, $5);
BEGIN
	RETURN QUERY
	WITH asked AS MATERIALIZED (
		SELECT a.event_id, a.contact_id FROM crm.audience_of($2, $3) a WHERE a.event_id IS NOT NULL AND a.contact_id IS NOT NULL
	), reader AS MATERIALIZED (
		SELECT c.id, w.usual, w.offline
		FROM (SELECT DISTINCT a.contact_id FROM asked a) d
		CROSS JOIN LATERAL (SELECT x.id, x.channel FROM crm.contact x WHERE x.id = d.contact_id AND x.archived_at IS NULL OFFSET 0) c
		CROSS JOIN LATERAL (
			SELECT COALESCE(array_agg(CASE x.kind WHEN 'phone' THEN 'sms' ELSE x.kind END), '{}') AS has
			FROM crm.contact_point x WHERE x.contact_id = c.id AND x.state <> 'invalid' AND (x.kind <> 'phone' OR x.is_mobile) OFFSET 0) p
		CROSS JOIN LATERAL (
			SELECT (SELECT u.way FROM unnest(ARRAY[c.channel, 'sms', 'email']) WITH ORDINALITY AS u(way, n)
					WHERE u.way = ANY (p.has) AND u.way = ANY ($1) ORDER BY u.n LIMIT 1) AS usual,
				(SELECT u.way FROM unnest(ARRAY['sms', c.channel, 'email']) WITH ORDINALITY AS u(way, n)
					WHERE u.way = ANY (p.has) AND u.way = ANY ($1) ORDER BY u.n LIMIT 1) AS offline
			OFFSET 0) w
	)
	SELECT a.event_id, a.contact_id,
		CASE WHEN (a.event_id IN (SELECT o.id FROM unnest(offline_events) AS o(id))) IS TRUE THEN x.offline ELSE x.usual END
	FROM asked a JOIN reader x ON x.id = a.contact_id;
END
$$;
COMMENT ON FUNCTION crm.reader_channels(text[], text, bigint[], text[], bigint[]) IS
'For a rule that leaves the channel to the reader: by which of the channels given (crm.template_carriers) each reader of the audience gets each event. Of those for which he has a usable address the one that he prefers (crm.contact.channel), else sms, else email; where the place of the event''s object has no internet sms first, whatever he prefers. NULL: none. Contacts that were put away are left out. Claims 69 and 70';

CREATE OR REPLACE FUNCTION crm.contact_channel(contact_id bigint, channels text[], offline boolean) RETURNS text
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT u.way
	FROM crm.contact c
	CROSS JOIN LATERAL unnest(CASE WHEN $3 THEN ARRAY['sms', c.channel, 'email'] ELSE ARRAY[c.channel, 'sms', 'email'] END) WITH ORDINALITY AS u(way, n)
	WHERE c.id = $1 AND u.way = ANY ($2)
		AND EXISTS (SELECT FROM crm.contact_point x WHERE x.contact_id = c.id AND x.state <> 'invalid'
			AND CASE u.way WHEN 'sms' THEN x.kind = 'phone' AND x.is_mobile ELSE x.kind = u.way END)
	ORDER BY u.n LIMIT 1
$$;
COMMENT ON FUNCTION crm.contact_channel(bigint, text[], boolean) IS 'As crm.reader_channels for one reader; offline: the place has no internet. NULL: none of the channels reaches him';

SELECT crm.register_undumped('crm.place_finder', 'rows of code, registered by every install');
