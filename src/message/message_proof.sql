-- message: letters that did not come back prove their address. May be run again at any time.

CREATE OR REPLACE FUNCTION crm.letters_unreturned(at_most integer DEFAULT 500) RETURNS integer
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
DECLARE
	s crm.party_setting := crm.party_settings();
	p record;
	m record;
	done integer := 0;
BEGIN
	IF NOT crm.guard() OR crm.mode() <> 'live' THEN
		RETURN 0;
	END IF;
	-- addresses without a proof, in turn: where the last round ended, this one goes on
	FOR p IN
		SELECT x.id, x.contact_id FROM crm.contact_point x
		WHERE x.kind = 'email' AND x.state IN ('unknown', 'stale') AND x.id > s.silence_upto ORDER BY x.id LIMIT at_most
	LOOP
		s.silence_upto := p.id;
		SELECT count(*) AS n, max(b.id) AS last, max(b.queued_at) AS at,
			bool_or(EXISTS (SELECT FROM crm.message v WHERE v.id = b.id AND v.state IN ('failed', 'undelivered'))) AS refused
		INTO m
		FROM (SELECT x.id, x.queued_at FROM crm.message_said x
			WHERE x.contact_id = p.contact_id AND x.contact_point_id = p.id AND x.channel = 'email' AND NOT x.sandbox
				AND x.queued_at < crm.now() - s.silence_after AND x.queued_at > crm.now() - s.stale_after
				AND EXISTS (SELECT FROM crm.message_attempt a WHERE a.message_id = x.id AND a.outcome = 'sent')
			ORDER BY x.id DESC LIMIT 5) b;
		IF m.n >= 2 AND NOT m.refused THEN
			done := done + crm.verify_points(ARRAY[p.id], ARRAY['silence'], ARRAY[m.at], ARRAY[format('message %s', m.last)]);
		END IF;
	END LOOP;
	UPDATE crm.party_setting x SET silence_upto = CASE WHEN s.silence_upto = x.silence_upto THEN 0 ELSE s.silence_upto END
	WHERE s.silence_upto <> 0;
	RETURN done;
END
$$;
COMMENT ON FUNCTION crm.letters_unreturned(integer) IS
'Addresses without a proof to which two letters or more were sent, none of which came back within crm.party_setting.silence_after of the last, are verified (how: silence); looks at so many addresses and goes on behind them next time. Returns how many. Called by the courier. Claim 32';

CREATE OR REPLACE FUNCTION crm.maintain_letters() RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM crm.letters_unreturned();
END
$$;
COMMENT ON FUNCTION crm.maintain_letters() IS 'Hook of the courier: crm.letters_unreturned()';
SELECT crm.register_hook('maintain', 'letters', 'crm.maintain_letters');
