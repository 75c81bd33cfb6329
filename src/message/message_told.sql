-- message: whether a reader was told already: what keeps the messages of one object in their order (claim 64).

CREATE OR REPLACE FUNCTION crm.message_left(message_id bigint) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	SELECT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = $1 AND a.outcome IN ('sent', 'uncertain', 'report'))
		OR EXISTS (SELECT FROM crm.message_lease l WHERE l.ids @> $1
			AND NOT EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = $1 AND a.lease_id = l.id))
		OR EXISTS (SELECT FROM crm.message_history h WHERE h.id = $1 AND h.state IN ('sent', 'delivered', 'undelivered', 'uncertain'))
$$;
COMMENT ON FUNCTION crm.message_left(bigint) IS 'Whether a message has left for its provider, or may have: sent, delivered or not, uncertain, in a courier''s hands';

CREATE OR REPLACE FUNCTION crm.told(object_kind text, object_id bigint, kinds text[]) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
	SELECT EXISTS (
		SELECT FROM crm.rule r
		CROSS JOIN LATERAL (
			(SELECT k.message_id FROM crm.message_key k WHERE k.rule_id = r.id AND k.object_id = $2 AND k.object_kind = $1 OFFSET 0)
			UNION ALL
			(SELECT i.message_id FROM crm.digest_item i WHERE i.rule_id = r.id AND i.object_id = $2 AND i.object_kind = $1 AND i.message_id IS NOT NULL AND i.words IS NULL OFFSET 0)) m
		WHERE r.event_kind = ANY ($3) AND crm.message_left(m.message_id))
$$;
COMMENT ON FUNCTION crm.told(text, bigint, text[]) IS 'Whether somebody was told of an event of one of these kinds about an object: its message has left, alone or in a digest. For the truth of rules whose message must not come after that one: NOT crm.told(object_kind, object_id, ''{trip.approaching}''). Claim 64';
