-- shipping: what crm.forget() does to explanations of carriers. May be run again at any time.

CREATE OR REPLACE FUNCTION crm.forget_explanations(contact_id bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
	c       crm.contact;
	alias   constant text := 'forgotten:' || $1;
	own     text;
	needles bytea[];
	alone   boolean;
	all_    bigint[];
	named   bigint[];
	claims  bigint[];
	n       bigint;
	changed bigint := 0;
BEGIN
	SELECT x.* INTO c FROM crm.contact x WHERE x.id = $1;
	-- the carrier's own rows: here also a name of one word, or one that others share, is his
	SELECT string_agg(v.pattern, '|'), array_agg(convert_to(v.value, 'UTF8')) INTO own, needles
	FROM (SELECT crm.forget_pattern(w.kind, w.value) AS pattern, w.value
		FROM (SELECT 'name' AS kind, c.name AS value WHERE c.source <> 'forgotten'
			UNION SELECT x.kind, x.value FROM crm.contact_point x WHERE x.contact_id = $1 AND x.value NOT LIKE 'forgotten:%') w) v
	WHERE v.pattern IS NOT NULL;
	IF c.company_id IS NULL OR own IS NULL THEN
		RETURN 0;
	END IF;
	alone := NOT EXISTS (SELECT FROM crm.contact x WHERE x.company_id = c.company_id AND x.id <> $1);
	claims := ARRAY(SELECT k.id FROM crm.claim k WHERE k.carrier_id = c.company_id);
	all_ := ARRAY(SELECT e.id FROM crm.explanation e WHERE e.claim_id = ANY (claims)
		UNION SELECT e.id FROM crm.explanation e JOIN LATERAL crm.slot_data(ARRAY[e.slot_id]) d ON d.company_id = c.company_id WHERE e.slot_id IS NOT NULL);
	named := ARRAY(SELECT e.id FROM crm.explanation e WHERE e.id = ANY (all_) AND e.text_ ~* own);
	UPDATE crm.explanation e SET text_ = regexp_replace(e.text_, own, alias, 'gi') WHERE e.id = ANY (named);
	GET DIAGNOSTICS n = ROW_COUNT;
	changed := changed + n;
	-- no program looks into a picture or a signed paper: where he is the one who wrote, they go whole
	UPDATE crm.explanation_file f SET name = 'forgotten-' || f.id, content = convert_to('[forgotten]', 'UTF8')
	WHERE f.explanation_id = ANY (all_) AND f.content <> convert_to('[forgotten]', 'UTF8')
		AND (alone OR f.explanation_id = ANY (named) OR f.name ~* own OR crm.forget_found(f.content, own, needles));
	GET DIAGNOSTICS n = ROW_COUNT;
	changed := changed + n;
	UPDATE crm.claim_log l SET reason = regexp_replace(l.reason, own, alias, 'gi') WHERE l.claim_id = ANY (claims) AND l.reason ~* own;
	GET DIAGNOSTICS n = ROW_COUNT;
	changed := changed + n;
	-- answers that are kept for a form that comes twice
	UPDATE crm.link_use u SET body = convert_to('[forgotten]', 'UTF8')
	FROM crm.link k WHERE k.id = u.link_id AND k.company_id = c.company_id AND crm.forget_found(u.body, own, needles);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN changed + n;
END
$$;
COMMENT ON FUNCTION crm.forget_explanations(bigint) IS 'What crm.forget() does to explanations of a contact''s company: his name, phones and addresses go from words, logs and kept answers, also where other rows keep a name that is shared; files go whole where the words or the file name him, or where he is the company''s only contact, since pictures cannot be searched. Hashes stay';
SELECT crm.register_hook('forget', 'crm.explanation', 'crm.forget_explanations');
