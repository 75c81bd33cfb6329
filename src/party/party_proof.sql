-- party: contact points prove themselves (claim 32). Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.register_failure_rule(kind text, code text, "position" integer, pattern text, verdict text) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.failure_rule AS r (kind, code, position, pattern, verdict, shipped) VALUES ($1, $2, $3, $4, $5, crm.in_script())
	ON CONFLICT (kind, shipped, code) DO UPDATE SET position = EXCLUDED.position, pattern = EXCLUDED.pattern, verdict = EXCLUDED.verdict;
END;
COMMENT ON FUNCTION crm.register_failure_rule(text, text, integer, text, text) IS 'Says what words of a failure mean for the address, see crm.failure_rule; replaces the caller''s row of that kind and code, never a shipped one: give it a smaller position';

CREATE OR REPLACE FUNCTION crm.failure_verdict(kind text, words text) RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce((SELECT r.verdict FROM crm.failure_rule r WHERE r.kind = $1 AND left($2, 2000) ~* r.pattern ORDER BY r.position, r.shipped, r.code LIMIT 1), 'nothing')
$$;
COMMENT ON FUNCTION crm.failure_verdict(text, text) IS 'What the words of a failure say of a phone, email or telegram: bad, strike or nothing, by crm.failure_rule';

CREATE OR REPLACE FUNCTION crm.verify_points(point_ids bigint[], hows text[], ats timestamptz[], evidences text[]) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	s       crm.party_setting;
	bad     text;
	changed integer := 0;
	n       integer;
BEGIN
	SELECT h.how INTO bad FROM unnest(hows) AS h(how)
	WHERE coalesce(h.how, '') NOT IN ('delivery', 'answer', 'reply', 'letter', 'silence', 'arrival', 'person', 'bounce', 'failure', 'wrong');
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown proof of a contact point: %s', coalesce(left(bad, 40), 'NULL')),
			HINT = 'Use delivery, answer, reply, letter, silence, arrival or person; against it bounce, failure or wrong.';
	END IF;
	IF cardinality(hows) IS DISTINCT FROM cardinality(point_ids) OR cardinality(ats) IS DISTINCT FROM cardinality(point_ids) OR coalesce(cardinality(evidences), cardinality(point_ids)) <> cardinality(point_ids) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s points, %s proofs and %s times', cardinality(point_ids), cardinality(hows), cardinality(ats)), HINT = 'Give one of each for each point.';
	END IF;
	s := crm.party_settings();
	-- The newest word counts. A proof that is renewed too soon is not written: most calls end here.
	WITH told AS (
		SELECT DISTINCT ON (t.id) t.id, t.how, t.at, left(t.evidence, 500) AS evidence
		FROM unnest(point_ids, hows, ats, evidences) AS t(id, how, at, evidence)
		WHERE t.how IN ('delivery', 'answer', 'reply', 'letter', 'silence', 'arrival', 'person') AND isfinite(t.at) AND t.at <= crm.now() + interval '1 day'
		ORDER BY t.id, t.at DESC
	), due AS MATERIALIZED (
		SELECT p.id, t.how, t.at, t.evidence, p.state <> 'verified' AS news
		FROM told t
		CROSS JOIN LATERAL (SELECT x.id, x.state, x.verified_at, x.strikes, x.value FROM crm.contact_point x WHERE x.id = t.id OFFSET 0) p
		WHERE (p.state <> 'verified' OR p.strikes > 0 OR p.verified_at < t.at - s.renew_after)
			AND (p.verified_at IS NULL OR p.verified_at <= t.at) AND p.value NOT LIKE 'forgotten:%'
			AND t.at > crm.now() - s.stale_after
		ORDER BY p.id
	), written AS (
		UPDATE crm.contact_point p SET state = 'verified', verified_at = d.at, verified_how = d.how, verified_by = d.evidence, strikes = 0
		FROM due d WHERE p.id = ANY (ARRAY[d.id])
		RETURNING p.id
	), logged AS (
		INSERT INTO crm.contact_point_proof (contact_point_id, how, verdict, at, evidence)
		SELECT d.id, d.how, 'good', d.at, d.evidence FROM due d WHERE d.news
	)
	SELECT count(*) INTO changed FROM written;
	IF NOT hows && ARRAY['bounce', 'failure', 'wrong'] THEN
		RETURN changed;
	END IF;
	WITH told AS (
		SELECT DISTINCT ON (p.id) p.id, t.how, t.at, left(t.evidence, 500) AS evidence,
			CASE WHEN t.how = 'wrong' OR t.how = 'bounce' AND coalesce(t.evidence, '') = '' THEN 'bad' ELSE crm.failure_verdict(p.kind, t.evidence) END AS verdict, p.strikes
		FROM unnest(point_ids, hows, ats, evidences) AS t(id, how, at, evidence)
		CROSS JOIN LATERAL (SELECT x.id, x.kind, x.state, x.verified_at, x.strikes, x.value FROM crm.contact_point x WHERE x.id = t.id OFFSET 0) p
		WHERE t.how IN ('bounce', 'failure', 'wrong') AND isfinite(t.at) AND t.at <= crm.now() + interval '1 day'
			AND p.state <> 'invalid' AND (p.verified_at IS NULL OR p.verified_at <= t.at) AND p.value NOT LIKE 'forgotten:%'
			-- the same failure told again is one
			AND NOT EXISTS (SELECT FROM crm.contact_point_proof f WHERE f.contact_point_id = p.id AND f.at = t.at AND f.verdict IN ('strike', 'bad'))
		ORDER BY p.id, array_position(ARRAY['bad', 'strike', 'nothing'], CASE WHEN t.how = 'wrong' OR t.how = 'bounce' AND coalesce(t.evidence, '') = '' THEN 'bad' ELSE crm.failure_verdict(p.kind, t.evidence) END), t.at DESC
	), due AS MATERIALIZED (
		SELECT t.*, t.verdict = 'bad' OR t.strikes + 1 >= s.strikes AS ends FROM told t WHERE t.verdict <> 'nothing' ORDER BY t.id
	), written AS (
		UPDATE crm.contact_point p SET strikes = least(p.strikes + 1, 1000), state = CASE WHEN d.ends THEN 'invalid' ELSE p.state END,
			verified_at = CASE WHEN d.ends THEN d.at ELSE p.verified_at END, verified_how = CASE WHEN d.ends THEN d.how ELSE p.verified_how END,
			verified_by = CASE WHEN d.ends THEN d.evidence ELSE p.verified_by END
		FROM due d WHERE p.id = ANY (ARRAY[d.id])
		RETURNING p.id
	), logged AS (
		INSERT INTO crm.contact_point_proof (contact_point_id, how, verdict, at, evidence)
		SELECT d.id, d.how, CASE WHEN d.ends THEN 'bad' ELSE 'strike' END, d.at, d.evidence FROM due d
	)
	SELECT count(*) INTO n FROM written;
	RETURN changed + n;
END
$$;
COMMENT ON FUNCTION crm.verify_points(bigint[], text[], timestamptz[], text[]) IS 'What facts prove of contact points, many at once; see crm.verify_point. evidences may be NULL as a whole. Returns how many points were written. Errors: 22023';

CREATE OR REPLACE FUNCTION crm.verify_point(contact_point_id bigint, how text, at timestamptz DEFAULT crm.now(), evidence text DEFAULT NULL) RETURNS text
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM crm.contact_point p JOIN crm.contact c ON c.id = p.contact_id WHERE p.id = verify_point.contact_point_id AND crm.party_visible(c.company_id)) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('contact point %s is not there', coalesce(contact_point_id::text, 'NULL')), HINT = 'SELECT id, value FROM crm.contact_point;';
	END IF;
	IF crm.guard() THEN
		PERFORM crm.verify_points(ARRAY[contact_point_id], ARRAY[how], ARRAY[coalesce(at, crm.now())], ARRAY[evidence]);
	END IF;
	RETURN (SELECT p.state FROM crm.contact_point p WHERE p.id = verify_point.contact_point_id);
END
$$;
COMMENT ON FUNCTION crm.verify_point(bigint, text, timestamptz, text) IS 'What one fact proves of a phone, an address or a chat. how: delivery (an SMS arrived), answer (a call was answered and talked), reply, letter (one came from it), silence (two letters went and none came back), arrival, person (somebody says that it is right): verified. bounce, failure: by the words in evidence (crm.failure_rule) invalid, a strike, or nothing: a full mailbox changes nothing; a bounce without words is final. wrong (somebody says so): invalid. evidence: which fact, at most 500 signs. A fact older than the last one changes nothing, nor does the same twice. Returns the state after. Errors: P0002, 22023. Claim 32';

CREATE OR REPLACE FUNCTION crm.points_stale(at_most integer DEFAULT 5000) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	since timestamptz := crm.now() - (crm.party_settings()).stale_after;
	n     integer;
BEGIN
	WITH old AS (
		SELECT p.id, p.verified_at FROM crm.contact_point p WHERE p.state = 'verified' AND p.verified_at < since ORDER BY p.verified_at LIMIT at_most FOR UPDATE SKIP LOCKED
	), written AS (
		UPDATE crm.contact_point p SET state = 'stale' FROM old o WHERE p.id = o.id RETURNING p.id
	)
	INSERT INTO crm.contact_point_proof (contact_point_id, how, verdict, at) SELECT w.id, 'time', 'stale', crm.now() FROM written w;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END
$$;
COMMENT ON FUNCTION crm.points_stale(integer) IS 'Verified points whose proof is older than crm.party_setting.stale_after become stale, at most so many, the oldest first; returns how many. Called by the courier';

CREATE OR REPLACE FUNCTION crm.maintain_points() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() THEN
		PERFORM crm.points_stale();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.maintain_points() IS 'Hook of the courier: crm.points_stale()';
SELECT crm.register_hook('maintain', 'points', 'crm.maintain_points');

CREATE OR REPLACE FUNCTION crm.forget_party(contact_id bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n     bigint;
	total bigint := 0;
BEGIN
	DELETE FROM crm.party_key k WHERE k.contact_id = forget_party.contact_id;
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	UPDATE crm.contact_point_proof f SET evidence = NULL FROM crm.contact_point p
	WHERE p.contact_id = forget_party.contact_id AND f.contact_point_id = p.id AND f.evidence IS NOT NULL;
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	UPDATE crm.merge m SET reason = NULL, before = m.before #- '{winner,position}'
	WHERE m.object_kind = 'contact' AND forget_party.contact_id IN (m.loser_id, m.winner_id) AND (m.reason IS NOT NULL OR m.before #> '{winner,position}' IS NOT NULL);
	GET DIAGNOSTICS n = ROW_COUNT;
	total := total + n;
	UPDATE crm.duplicate d SET note = NULL WHERE d.object_kind = 'contact' AND forget_party.contact_id IN (d.first_id, d.second_id) AND d.note IS NOT NULL;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN total + n;
END
$$;
COMMENT ON FUNCTION crm.forget_party(bigint) IS 'Hook of crm.forget: keys, evidence of proofs, words about merges and pairs of a person; returns how many rows';
SELECT crm.register_hook('forget', 'party', 'crm.forget_party');

-- A provider's words about a number: not in service; every other failure of it counts as one of several.
SELECT crm.register_failure_rule('phone', 'ours', 1000, 'balance|login|password|auth|throttl|rate|config|sender|blacklist|stop.?list|spam|refused:|resolve|connect|tls', 'nothing');
SELECT crm.register_failure_rule('phone', 'gone', 1010, 'not in service|unknown subscriber|no such (number|subscriber)|unallocated|number (is )?(invalid|does not exist)|invalid (number|destination)|не существует|не обслуживается', 'bad');
SELECT crm.register_failure_rule('phone', 'later', 1020, 'expired|absent|busy|memory|switched off|buffer|deleted|не в сети|выключен', 'nothing');
SELECT crm.register_failure_rule('phone', 'refused', 1030, 'undeliv|not delivered|reject|number|routable|barred|не доставлен', 'strike');
-- RFC 3463: 5.1.x is the address, 5.2.2 a full mailbox, 4.x.x for the moment, 5.7.x a policy of theirs.
SELECT crm.register_failure_rule('email', 'full', 1000, '[45]\.2\.2\M|mailbox (is )?full|over ?quota|quota (is )?exceeded|exceeded.{0,20}quota|insufficient (system )?storage|переполнен', 'nothing');
SELECT crm.register_failure_rule('email', 'later', 1010, '(^|[^0-9.])4\.[0-9]{1,3}\.[0-9]{1,3}\M|^\W*4[0-9][0-9][ -]|tempora|greylist|try again', 'nothing');
SELECT crm.register_failure_rule('email', 'ours', 1020, '5\.1\.[78]\M|5\.7\.[0-9]|5\.3\.4|5\.2\.3|5\.5\.[0-9]|spam|blocked|blacklist|too large|policy|sender|refused:|resolve:|connect:|tls:', 'nothing');
SELECT crm.register_failure_rule('email', 'gone', 1030, '5\.1\.(0|1|2|3|6|10)\M|5\.2\.1\M|5\.4\.4\M|user unknown|unknown (user|recipient|mailbox)|no such (user|recipient|mailbox|address)|(mailbox|user|recipient|address|account) (is )?(not found|unavailable|disabled|inactive|invalid|does not exist|doesn.t exist)|invalid (mailbox|recipient|address)|recipient address rejected|host (or domain name )?not found|не существует|не найден', 'bad');
SELECT crm.register_failure_rule('email', 'refused', 1040, '(^|[^0-9.])5[0-9][0-9][ -]|(^|[^0-9.])5\.[0-9]{1,3}\.[0-9]{1,3}\M', 'strike');
SELECT crm.register_failure_rule('telegram', 'gone', 1000, 'chat not found|bot was (blocked|kicked)|user is deactivated|peer_id_invalid', 'bad');

SELECT crm.register_dump_filter('crm.failure_rule', 'WHERE NOT shipped');
SELECT crm.register_foreign_key('crm.contact_point_proof', 'contact_point_id', 'crm.contact_point', 'id', 'CASCADE');
