-- party: who is there once, and who may be there twice. Code: may be run any number of times.
--
-- A key (crm.party_key) belongs to who was first with it. The insert of a second row with the key of one that another
-- session has not committed yet waits for that one's end: so two sessions cannot both be first.
-- Look-ups by LATERAL (... OFFSET 0) and without sequential scans: see message_outbox.sql.

CREATE OR REPLACE FUNCTION crm.party_settings() RETURNS crm.party_setting
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s crm.party_setting;
BEGIN
	SELECT x.* INTO s FROM crm.party_setting x;
	IF NOT FOUND THEN
		INSERT INTO crm.party_setting DEFAULT VALUES ON CONFLICT DO NOTHING;
		SELECT x.* INTO STRICT s FROM crm.party_setting x;
	END IF;
	RETURN s;
END
$$;
COMMENT ON FUNCTION crm.party_settings() IS 'The row of crm.party_setting, made with its defaults where it is missing';

CREATE OR REPLACE FUNCTION crm.ship_party_setting() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.party_settings();
END
$$;
COMMENT ON FUNCTION crm.ship_party_setting() IS 'Brings the row of crm.party_setting; called by crm.activate()';
SELECT crm.register_hook('ship', 'party_setting', 'crm.ship_party_setting');

-- ---- the redirect of what was merged ------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.company_now(company_id bigint) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH RECURSIVE way AS (
		SELECT c.id, c.merged_into_id, 1 AS step FROM crm.company c WHERE c.id = $1
		UNION ALL
		SELECT c.id, c.merged_into_id, w.step + 1 FROM way w JOIN crm.company c ON c.id = w.merged_into_id WHERE w.step < 100
	)
	SELECT w.id FROM way w ORDER BY w.step DESC LIMIT 1
$$;
COMMENT ON FUNCTION crm.company_now(bigint) IS 'Under which number a company goes now: its own, or that of the one it was merged into, however often; NULL: there is none';

CREATE OR REPLACE FUNCTION crm.company_ids(company_id bigint) RETURNS bigint[]
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH RECURSIVE all_ AS (
		SELECT crm.company_now($1) AS id, 1 AS step
		UNION ALL
		SELECT c.id, a.step + 1 FROM all_ a JOIN crm.company c ON c.merged_into_id = a.id WHERE a.step < 100
	)
	SELECT array_agg(a.id ORDER BY a.step, a.id) FROM all_ a WHERE a.id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.company_ids(bigint) IS 'All numbers of a company: the one it goes under now first, then those that were merged into it. Facts that another system owns (orders, shipments) keep the number they came under: ask for = ANY of these';

CREATE OR REPLACE FUNCTION crm.contact_now(contact_id bigint) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH RECURSIVE way AS (
		SELECT c.id, c.merged_into_id, 1 AS step FROM crm.contact c WHERE c.id = $1
		UNION ALL
		SELECT c.id, c.merged_into_id, w.step + 1 FROM way w JOIN crm.contact c ON c.id = w.merged_into_id WHERE w.step < 100
	)
	SELECT w.id FROM way w ORDER BY w.step DESC LIMIT 1
$$;
COMMENT ON FUNCTION crm.contact_now(bigint) IS 'Under which number a contact goes now: its own, or that of the one it was merged into; NULL: there is none';

CREATE OR REPLACE FUNCTION crm.contact_ids(contact_id bigint) RETURNS bigint[]
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	WITH RECURSIVE all_ AS (
		SELECT crm.contact_now($1) AS id, 1 AS step
		UNION ALL
		SELECT c.id, a.step + 1 FROM all_ a JOIN crm.contact c ON c.merged_into_id = a.id WHERE a.step < 100
	)
	SELECT array_agg(a.id ORDER BY a.step, a.id) FROM all_ a WHERE a.id IS NOT NULL
$$;
COMMENT ON FUNCTION crm.contact_ids(bigint) IS 'All numbers of a contact: the one it goes under now first, then those that were merged into it';

CREATE OR REPLACE FUNCTION crm.party_visible(company_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN company_id IS NULL OR crm.sees_company(company_id);
END
$$;
COMMENT ON FUNCTION crm.party_visible(bigint) IS 'Whether the speaker may know that a company is there (crm.sees_company); a contact of no company may be known';

-- ---- keys ---------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.inn_key(inn text, kpp text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN nullif(btrim(inn), '') || '/' || coalesce(btrim(kpp), '');
COMMENT ON FUNCTION crm.inn_key(text, text) IS 'The key of a legal person: INN/KPP; NULL without an INN';

CREATE OR REPLACE FUNCTION crm.duplicate_refused(kind text, value text, company_id bigint, contact_id bigint) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	what  text := CASE WHEN contact_id IS NULL THEN 'company' ELSE 'contact' END;
	of_   bigint := coalesce(company_id, (SELECT c.company_id FROM crm.contact c WHERE c.id = duplicate_refused.contact_id));
	words text;
BEGIN
	IF crm.party_visible(of_) THEN
		words := CASE WHEN contact_id IS NULL THEN
				(SELECT format('It is company %s, %s.', c.id, c.name) FROM crm.company c WHERE c.id = duplicate_refused.company_id)
			ELSE (SELECT format('It is contact %s, %s', p.id, p.name) || CASE WHEN c.id IS NULL THEN '' ELSE format(' (company %s, %s)', c.id, c.name) END || '.'
				FROM crm.contact p LEFT JOIN crm.company c ON c.id = p.company_id WHERE p.id = duplicate_refused.contact_id) END;
	ELSE
		words := 'It is a client of another employee' || coalesce((SELECT format('; ask %s.', e.name)
			FROM crm.company c JOIN crm.employee e ON e.id = c.owner_id WHERE c.id = of_), '.');
	END IF;
	RAISE EXCEPTION USING ERRCODE = '23505',
		MESSAGE = format('a %s with %s "%s" is there already', what, CASE kind WHEN 'inn' THEN 'INN and KPP' WHEN 'email' THEN 'the address' ELSE 'the phone' END, rtrim(value, '/')),
		DETAIL = words,
		HINT = CASE WHEN kind = 'inn' THEN 'Use that one. Branches of one INN have a KPP each.'
			ELSE 'Use that one. What people share is a fixed line or a mailbox of crm.party_setting.shared_mailboxes; crm.party_setting says what is refused.' END,
		CONSTRAINT = 'party_key_pkey', TABLE = 'party_key', SCHEMA = 'crm';
END
$$;
COMMENT ON FUNCTION crm.duplicate_refused(text, text, bigint, bigint) IS 'Raises 23505 for what is there already. The one that is there is named only to who may see it; others learn whom to ask.';

CREATE OR REPLACE FUNCTION crm.point_keys_insert() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	s      crm.party_setting;
	wanted bigint;
	taken  bigint;
	clash  record;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	s := crm.party_settings();
	WITH want AS MATERIALIZED (
		SELECT f.kind, f.value, f.contact_id, f.id, c.source = ANY (s.exempt_sources) AS exempt
		FROM fresh f
		CROSS JOIN LATERAL (SELECT x.source FROM crm.contact x WHERE x.id = f.contact_id AND x.archived_at IS NULL OFFSET 0) c
		WHERE (f.kind = 'phone' AND f.is_mobile OR f.kind = 'email' AND split_part(f.value, '@', 1) <> ALL (s.shared_mailboxes))
			AND c.source NOT IN ('employee', 'forgotten')
	), got AS (
		-- in one order, so that two bulk inserts wait for each other and do not lock each other out
		INSERT INTO crm.party_key (kind, value, contact_id)
		SELECT DISTINCT ON (w.kind, w.value COLLATE "C") w.kind, w.value, w.contact_id FROM want w ORDER BY w.kind, w.value COLLATE "C", w.exempt, w.id
		ON CONFLICT DO NOTHING
		RETURNING 1
	)
	SELECT (SELECT count(*) FROM want), (SELECT count(*) FROM got) INTO wanted, taken;
	IF wanted = taken THEN
		RETURN NULL;
	END IF;
	FOR clash IN
		SELECT f.kind, f.value, f.contact_id
		FROM fresh f
		CROSS JOIN LATERAL (SELECT x.source FROM crm.contact x WHERE x.id = f.contact_id AND x.archived_at IS NULL OFFSET 0) c
		CROSS JOIN LATERAL (SELECT x.contact_id FROM crm.party_key x WHERE x.kind = f.kind AND x.value = f.value OFFSET 0) k
		WHERE k.contact_id <> f.contact_id AND c.source NOT IN ('employee', 'forgotten') AND c.source <> ALL (s.exempt_sources)
			AND (f.kind = 'phone' AND f.is_mobile AND s.same_phone = 'refuse'
				OR f.kind = 'email' AND s.same_email = 'refuse' AND split_part(f.value, '@', 1) <> ALL (s.shared_mailboxes))
		ORDER BY f.id
	LOOP
		PERFORM crm.key_clash(clash.kind, clash.value, clash.contact_id);
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.point_keys_insert() IS 'Trigger function of crm.contact_point, after an INSERT, all rows of a statement at once: takes the keys of mobiles and addresses, and refuses with 23505 what another contact holds, as crm.party_setting says. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.key_clash(kind text, value text, contact_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	other bigint;
BEGIN
	-- one that was put away holds a key no more, unless somebody else has the same
	SELECT p.contact_id INTO other
	FROM crm.contact_point p JOIN crm.contact c ON c.id = p.contact_id AND c.archived_at IS NULL AND c.source NOT IN ('employee', 'forgotten')
	WHERE p.value = key_clash.value AND p.kind = key_clash.kind AND p.contact_id <> key_clash.contact_id
	ORDER BY p.id LIMIT 1;
	UPDATE crm.party_key k SET contact_id = coalesce(other, key_clash.contact_id)
	WHERE k.kind = key_clash.kind AND k.value = key_clash.value AND (other IS NULL
		OR NOT EXISTS (SELECT FROM crm.contact c WHERE c.id = k.contact_id AND c.archived_at IS NULL));
	IF other IS NOT NULL THEN
		PERFORM crm.duplicate_refused(kind, value, NULL, other);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.key_clash(text, text, bigint) IS 'A key is held by another contact: taken over where that one was put away, else 23505';

CREATE OR REPLACE FUNCTION crm.point_keys_change() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	s    crm.party_setting;
	own  text;
	n    bigint;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	DELETE FROM crm.party_key k WHERE k.kind = OLD.kind AND k.value = OLD.value AND k.contact_id = OLD.contact_id;
	IF FOUND AND OLD.value <> NEW.value THEN
		PERFORM crm.key_heirs(ARRAY[OLD.kind], ARRAY[OLD.value]);
	END IF;
	s := crm.party_settings();
	SELECT c.source INTO own FROM crm.contact c WHERE c.id = NEW.contact_id AND c.archived_at IS NULL AND c.source NOT IN ('employee', 'forgotten');
	IF NOT FOUND OR NOT (NEW.kind = 'phone' AND NEW.is_mobile OR NEW.kind = 'email' AND split_part(NEW.value, '@', 1) <> ALL (s.shared_mailboxes)) THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.party_key (kind, value, contact_id) VALUES (NEW.kind, NEW.value, NEW.contact_id) ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS n = ROW_COUNT;
	IF n = 0 AND own <> ALL (s.exempt_sources) AND OLD.value <> NEW.value AND (CASE NEW.kind WHEN 'phone' THEN s.same_phone ELSE s.same_email END) = 'refuse' THEN
		PERFORM crm.key_clash(NEW.kind, NEW.value, NEW.contact_id) FROM crm.party_key k
		WHERE k.kind = NEW.kind AND k.value = NEW.value AND k.contact_id <> NEW.contact_id;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.point_keys_change() IS 'Trigger function of crm.contact_point, after another number, address or contact was written: lets the old key go, takes the new one or refuses with 23505. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.point_keys_delete() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	kinds   text[];
	values_ text[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	WITH let AS (
		DELETE FROM crm.party_key k USING gone g WHERE k.kind = g.kind AND k.value = g.value AND k.contact_id = g.contact_id RETURNING k.kind, k.value
	)
	SELECT array_agg(l.kind), array_agg(l.value) INTO kinds, values_ FROM let l;
	PERFORM crm.key_heirs(kinds, values_);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.point_keys_delete() IS 'Trigger function of crm.contact_point, after a DELETE: lets the keys go. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.key_heirs(kinds text[], values_ text[]) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
	INSERT INTO crm.party_key (kind, value, contact_id)
	SELECT DISTINCT ON (k.kind, k.value COLLATE "C") k.kind, k.value, p.contact_id
	FROM unnest($1, $2) AS k(kind, value)
	CROSS JOIN LATERAL (SELECT x.contact_id, x.id FROM crm.contact_point x JOIN crm.contact c ON c.id = x.contact_id AND c.archived_at IS NULL AND c.source NOT IN ('employee', 'forgotten')
		WHERE x.value = k.value AND x.kind = k.kind OFFSET 0) p
	ORDER BY k.kind, k.value COLLATE "C", p.id
	ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION crm.key_heirs(text[], text[]) IS 'Gives keys that were let go to the next contact that has the same number or address, where one was let in beside the first';

CREATE OR REPLACE FUNCTION crm.company_keys_insert() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	wanted bigint;
	taken  bigint;
	clash  record;
	s      crm.party_setting;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	s := crm.party_settings();
	WITH want AS MATERIALIZED (
		SELECT crm.inn_key(f.inn, f.kpp) AS key, f.id, f.source = ANY (s.exempt_sources) AS exempt FROM fresh f WHERE f.inn IS NOT NULL AND f.archived_at IS NULL AND f.merged_into_id IS NULL
	), got AS (
		INSERT INTO crm.party_key (kind, value, company_id)
		SELECT DISTINCT ON (w.key COLLATE "C") 'inn', w.key, w.id FROM want w WHERE w.key IS NOT NULL ORDER BY w.key COLLATE "C", w.exempt, w.id
		ON CONFLICT DO NOTHING
		RETURNING 1
	)
	SELECT (SELECT count(w.key) FROM want w), (SELECT count(*) FROM got) INTO wanted, taken;
	IF wanted = taken OR s.same_inn <> 'refuse' THEN
		RETURN NULL;
	END IF;
	FOR clash IN
		SELECT f.id, crm.inn_key(f.inn, f.kpp) AS key
		FROM fresh f
		CROSS JOIN LATERAL (SELECT x.company_id FROM crm.party_key x WHERE x.kind = 'inn' AND x.value = crm.inn_key(f.inn, f.kpp) OFFSET 0) k
		WHERE k.company_id <> f.id AND f.source <> ALL (s.exempt_sources) AND f.archived_at IS NULL AND f.merged_into_id IS NULL
		ORDER BY f.id
	LOOP
		PERFORM crm.company_key_clash(clash.key, clash.id);
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.company_keys_insert() IS 'Trigger function of crm.company, after an INSERT, all rows of a statement at once: takes the keys of INN and KPP, and refuses with 23505 what another company holds, as crm.party_setting says. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.company_key_clash(key text, company_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE crm.party_key k SET company_id = company_key_clash.company_id
	WHERE k.kind = 'inn' AND k.value = key
		AND NOT EXISTS (SELECT FROM crm.company c WHERE c.id = k.company_id AND (c.archived_at IS NULL OR c.merged_into_id IS NOT NULL) AND crm.inn_key(c.inn, c.kpp) = key);
	IF NOT FOUND THEN
		PERFORM crm.duplicate_refused('inn', key, (SELECT crm.company_now(k.company_id) FROM crm.party_key k WHERE k.kind = 'inn' AND k.value = key), NULL);
	END IF;
END
$$;
COMMENT ON FUNCTION crm.company_key_clash(text, bigint) IS 'A key is held by another company: taken over where that one was put away, else 23505. One that was merged keeps its key, for the one it was merged into';

CREATE OR REPLACE FUNCTION crm.company_keys_change() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
	key text := crm.inn_key(NEW.inn, NEW.kpp);
	s   crm.party_setting;
	n   bigint;
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	IF NEW.name <> OLD.name THEN
		UPDATE crm.company_name x SET norm = n.norm, grams = crm.name_grams(n.norm) FROM (SELECT crm.party_norm_name(NEW.name) AS norm) n
		WHERE x.company_id = NEW.id AND x.norm <> n.norm;
	END IF;
	IF crm.inn_key(OLD.inn, OLD.kpp) IS DISTINCT FROM key THEN
		DELETE FROM crm.party_key k WHERE k.kind = 'inn' AND k.value = crm.inn_key(OLD.inn, OLD.kpp) AND k.company_id = OLD.id;
		IF FOUND THEN
			INSERT INTO crm.party_key (kind, value, company_id)
			SELECT 'inn', crm.inn_key(OLD.inn, OLD.kpp), x.id FROM crm.company x
			WHERE x.inn = OLD.inn AND crm.inn_key(x.inn, x.kpp) = crm.inn_key(OLD.inn, OLD.kpp) AND x.id <> OLD.id AND x.archived_at IS NULL
			ORDER BY x.id LIMIT 1
			ON CONFLICT DO NOTHING;
		END IF;
		IF key IS NOT NULL AND NEW.archived_at IS NULL THEN
			s := crm.party_settings();
			INSERT INTO crm.party_key (kind, value, company_id) VALUES ('inn', key, NEW.id) ON CONFLICT DO NOTHING;
			GET DIAGNOSTICS n = ROW_COUNT;
			IF n = 0 AND s.same_inn = 'refuse' AND NEW.source <> ALL (s.exempt_sources) THEN
				PERFORM crm.company_key_clash(key, NEW.id) FROM crm.party_key k WHERE k.kind = 'inn' AND k.value = key AND crm.company_now(k.company_id) <> NEW.id;
			END IF;
		END IF;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.company_keys_change() IS 'Trigger function of crm.company, after another name, INN or KPP was written: lets the old key go, takes the new one or refuses with 23505, and keeps crm.company_name. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.company_keys_delete() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
	IF crm.guard() THEN
		DELETE FROM crm.party_key k USING gone g WHERE k.company_id = g.id;
		DELETE FROM crm.company_name n USING gone g WHERE n.company_id = g.id;
		DELETE FROM crm.duplicate d USING gone g WHERE d.object_kind = 'company' AND g.id IN (d.first_id, d.second_id);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.company_keys_delete() IS 'Trigger function of crm.company, after a DELETE: lets its keys, its name and its candidates go. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.party_keys_catch_up() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s crm.party_setting := crm.party_settings();
BEGIN
	DELETE FROM crm.party_key k WHERE k.kind <> 'inn' AND NOT EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = k.contact_id AND p.kind = k.kind AND p.value = k.value)
		OR k.kind = 'inn' AND NOT EXISTS (SELECT FROM crm.company c WHERE c.id = k.company_id AND crm.inn_key(c.inn, c.kpp) = k.value);
	INSERT INTO crm.party_key (kind, value, contact_id)
	SELECT DISTINCT ON (p.kind, p.value COLLATE "C") p.kind, p.value, p.contact_id
	FROM crm.contact_point p JOIN crm.contact c ON c.id = p.contact_id
	WHERE (p.kind = 'phone' AND p.is_mobile OR p.kind = 'email' AND split_part(p.value, '@', 1) <> ALL (s.shared_mailboxes))
		AND c.archived_at IS NULL AND c.source NOT IN ('employee', 'forgotten') AND p.value NOT LIKE 'forgotten:%'
	ORDER BY p.kind, p.value COLLATE "C", p.id
	ON CONFLICT DO NOTHING;
	INSERT INTO crm.party_key (kind, value, company_id)
	SELECT DISTINCT ON (crm.inn_key(c.inn, c.kpp) COLLATE "C") 'inn', crm.inn_key(c.inn, c.kpp), c.id
	FROM crm.company c
	WHERE c.inn IS NOT NULL AND c.archived_at IS NULL AND crm.inn_key(c.inn, c.kpp) IS NOT NULL
	ORDER BY crm.inn_key(c.inn, c.kpp) COLLATE "C", c.merged_into_id NULLS FIRST, c.id
	ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.party_keys_catch_up() IS 'Fills crm.party_key with what was entered while the database was not active; who came first holds a key. Nothing is refused: what is there twice is a candidate';
SELECT crm.register_hook('activate', 'party_keys', 'crm.party_keys_catch_up');

-- ---- names that are alike -----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.index_names(at_most integer DEFAULT 20000, gaps boolean DEFAULT false) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	upto  bigint;
	added integer;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtext('crm.index_names'));
	upto := coalesce((SELECT max(x.company_id) FROM crm.company_name x), 0);
	WITH fresh AS (
		INSERT INTO crm.company_name (company_id, norm, grams)
		SELECT c.id, n.norm, crm.name_grams(n.norm)
		FROM (SELECT x.id, x.name FROM crm.company x
			WHERE x.id > CASE WHEN gaps THEN 0 ELSE upto END AND NOT EXISTS (SELECT FROM crm.company_name y WHERE y.company_id = x.id)
			ORDER BY x.id LIMIT at_most) c
		CROSS JOIN LATERAL (SELECT crm.party_norm_name(c.name) AS norm OFFSET 0) n
		ON CONFLICT DO NOTHING
		RETURNING grams
	), counted AS (
		INSERT INTO crm.name_gram AS g (gram, companies)
		SELECT u.gram, count(*) FROM fresh f CROSS JOIN LATERAL unnest(f.grams) AS u(gram) GROUP BY 1 ORDER BY 1
		ON CONFLICT (gram) DO UPDATE SET companies = g.companies + excluded.companies
	)
	SELECT count(*) INTO added FROM fresh;
	RETURN added;
END
$$;
COMMENT ON FUNCTION crm.index_names(integer, boolean) IS 'Adds names of companies above the last one in crm.company_name; with gaps also those below it that were committed late. Returns how many. Called by the courier';

CREATE OR REPLACE FUNCTION crm.maintain_names() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() AND (SELECT max(c.id) FROM crm.company c) > coalesce((SELECT max(n.company_id) FROM crm.company_name n), 0) THEN
		PERFORM crm.index_names();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.maintain_names() IS 'Hook of the courier: crm.index_names() where there are new companies';
SELECT crm.register_hook('maintain', 'names', 'crm.maintain_names');

CREATE OR REPLACE FUNCTION crm.names_like(norm text, likeness real) RETURNS TABLE (company_id bigint, alike real)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off ROWS 10 AS $$
#variable_conflict use_column
DECLARE
	grams bigint[] := crm.name_grams(norm);
	total integer := cardinality(grams);
	rare  bigint[];
	upto  bigint := (SELECT max(x.company_id) FROM crm.company_name x);
BEGIN
	IF total = 0 OR total > 300 THEN
		RETURN;
	END IF;
	-- who shares that much of the whole must share one of any total - likeness * total + 1: the rarest are asked for
	SELECT array_agg(g.gram) INTO rare FROM (
		SELECT u.gram FROM unnest(grams) AS u(gram) LEFT JOIN crm.name_gram c ON c.gram = u.gram
		ORDER BY coalesce(c.companies, 0), u.gram LIMIT total - ceil(likeness * total - 0.0001)::integer + 1) g;
	RETURN QUERY
	SELECT n.company_id, s.alike
	FROM crm.company_name n
	CROSS JOIN LATERAL (SELECT crm.name_similarity(n.norm, $1) AS alike OFFSET 0) s
	WHERE n.grams && rare AND s.alike >= $2
	UNION ALL
	-- those that came a moment ago
	SELECT c.id, s.alike
	FROM (SELECT x.id, x.name FROM crm.company x WHERE x.id > coalesce(upto, 0) ORDER BY x.id DESC LIMIT 2000) c
	CROSS JOIN LATERAL (SELECT crm.name_similarity(crm.party_norm_name(c.name), $1) AS alike OFFSET 0) s
	WHERE s.alike >= $2;
END
$$;
COMMENT ON FUNCTION crm.names_like(text, real) IS 'Companies whose name is alike: crm.name_similarity to a name in its one form, at least likeness. By the rarest trigrams; of the companies that are not in crm.company_name yet the newest 2000';

CREATE OR REPLACE FUNCTION crm.phone_or_null(raw text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF raw ~ '^\+[1-9][0-9]{6,14}$' THEN
		RETURN raw;
	END IF;
	RETURN crm.phone_e164(raw);
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.phone_or_null(text) IS 'A phone in E.164; NULL for what is none';

CREATE OR REPLACE FUNCTION crm.email_or_null(raw text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.email_normal(raw);
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.email_or_null(text) IS 'An e-mail address in its one form; NULL for what is none';

CREATE OR REPLACE FUNCTION crm.numbers_differ(one text, two text) RETURNS boolean
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT ARRAY(SELECT m.m[1] FROM regexp_matches($1, '\d+', 'g') AS m(m) ORDER BY 1) <> ARRAY(SELECT m.m[1] FROM regexp_matches($2, '\d+', 'g') AS m(m) ORDER BY 1)
$$;
COMMENT ON FUNCTION crm.numbers_differ(text, text) IS 'Whether two names hold different numbers: «Завод 1» and «Завод 2» are two';

CREATE OR REPLACE FUNCTION crm.party_find(kind text, name text DEFAULT NULL, inn text DEFAULT NULL, kpp text DEFAULT NULL, phone text DEFAULT NULL, email text DEFAULT NULL)
	RETURNS TABLE (object_kind text, object_id bigint, score numeric, reasons text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off ROWS 10 AS $$
#variable_conflict use_column
DECLARE
	norm    text := nullif(crm.party_norm_name(left($2, 500)), '');
	v_inn   text := nullif(regexp_replace($3, '\s', '', 'g'), '');
	v_kpp   text := nullif(upper(regexp_replace($4, '\s', '', 'g')), '');
	v_phone text := crm.phone_or_null(nullif(btrim($5), ''));
	v_email text := crm.email_or_null(nullif(btrim($6), ''));
	likeness   real := coalesce((SELECT s.alike_from FROM crm.party_setting s), 0.5);
BEGIN
	IF $1 IS NOT NULL AND $1 NOT IN ('company', 'contact') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('unknown kind of party: %s', left($1, 40)), HINT = 'Use company, contact, or NULL for both.';
	END IF;
	IF $1 IS DISTINCT FROM 'contact' THEN
		RETURN QUERY
		WITH seen AS (
			SELECT c.id, CASE WHEN c.kpp IS NOT DISTINCT FROM v_kpp THEN 0.99 WHEN c.kpp IS NULL OR v_kpp IS NULL THEN 0.95 ELSE 0.5 END AS weight,
				CASE WHEN c.kpp IS NOT DISTINCT FROM v_kpp AND v_kpp IS NOT NULL THEN 'INN and KPP' WHEN c.kpp IS NULL OR v_kpp IS NULL THEN 'INN' ELSE 'INN, another KPP' END AS reason
			FROM crm.company c WHERE c.inn = v_inn
			UNION ALL
			SELECT c.id, 0.8, 'name' FROM crm.company c WHERE crm.party_norm_name(c.name) = norm
			UNION ALL
			SELECT l.company_id, (0.8 * l.alike * CASE WHEN crm.numbers_differ(crm.party_norm_name(c.name), norm) THEN 0.6 ELSE 1 END)::numeric,
				format('name %s%%', round((100 * l.alike)::numeric))
			FROM crm.names_like(norm, likeness) l JOIN crm.company c ON c.id = l.company_id
			WHERE crm.party_norm_name(c.name) <> norm
			UNION ALL
			SELECT DISTINCT ON (k.company_id) k.company_id, CASE WHEN p.is_mobile THEN 0.6 ELSE 0.5 END, 'phone'
			FROM crm.contact_point p JOIN crm.contact k ON k.id = p.contact_id AND k.company_id IS NOT NULL
			WHERE p.value = v_phone AND p.kind = 'phone'
			UNION ALL
			SELECT DISTINCT ON (k.company_id) k.company_id, 0.6, 'mail'
			FROM crm.contact_point p JOIN crm.contact k ON k.id = p.contact_id AND k.company_id IS NOT NULL
			WHERE p.value = v_email AND p.kind = 'email'
		), whole AS (
			SELECT crm.company_now(s.id) AS id, 1 - exp(sum(ln(1 - s.weight::numeric))) AS weight, array_agg(s.reason ORDER BY s.weight DESC, s.reason) AS reasons
			FROM (SELECT DISTINCT ON (crm.company_now(x.id), split_part(x.reason, ' ', 1)) x.* FROM seen x
				ORDER BY crm.company_now(x.id), split_part(x.reason, ' ', 1), x.weight DESC) s GROUP BY 1
		)
		SELECT 'company'::text, w.id, round(w.weight * CASE WHEN d.other THEN 0.5 ELSE 1 END, 3),
			array_to_string(w.reasons, ', ') || CASE WHEN d.other THEN ', but another INN' ELSE '' END
		FROM whole w JOIN crm.company c ON c.id = w.id
		CROSS JOIN LATERAL (SELECT coalesce(c.inn <> v_inn, false) AND NOT EXISTS (SELECT FROM seen s WHERE s.reason LIKE 'INN%' AND crm.company_now(s.id) = w.id) AS other) d
		WHERE crm.party_visible(w.id)
		ORDER BY 3 DESC, 2 LIMIT 50;
	END IF;
	IF $1 IS DISTINCT FROM 'company' THEN
		RETURN QUERY
		WITH seen AS (
			SELECT crm.contact_now(p.contact_id) AS id,
				CASE WHEN p.kind = 'phone' AND p.is_mobile THEN 0.8 WHEN p.kind = 'email' AND k.value IS NOT NULL THEN 0.8 ELSE 0.3 END AS weight,
				CASE p.kind WHEN 'phone' THEN 'phone' ELSE 'mail' END AS reason
			FROM crm.contact_point p LEFT JOIN crm.party_key k ON k.kind = p.kind AND k.value = p.value
			WHERE p.value = v_phone AND p.kind = 'phone' OR p.value = v_email AND p.kind = 'email'
		), whole AS (
			SELECT s.id, 1 - exp(sum(ln(1 - s.weight))) AS weight, array_agg(s.reason ORDER BY s.weight DESC, s.reason) AS reasons
			FROM (SELECT DISTINCT ON (x.id, x.reason) x.* FROM seen x ORDER BY x.id, x.reason, x.weight DESC) s GROUP BY 1
		)
		SELECT 'contact'::text, w.id,
			round((1 - (1 - w.weight) * (1 - CASE WHEN a.alike >= likeness THEN 0.5 * a.alike ELSE 0 END)::numeric), 3),
			array_to_string(w.reasons, ', ') || CASE WHEN a.alike >= likeness THEN format(', name %s%%', round((100 * a.alike)::numeric)) ELSE '' END
		FROM whole w JOIN crm.contact c ON c.id = w.id
		CROSS JOIN LATERAL (SELECT coalesce(crm.name_similarity(crm.party_norm_name(c.name), norm), 0) AS alike) a
		WHERE c.source NOT IN ('employee', 'forgotten') AND crm.party_visible(c.company_id)
		ORDER BY 3 DESC, 2 LIMIT 50;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.party_find(text, text, text, text, text, text) IS 'Who is there already: companies by INN and KPP, name (crm.party_norm_name, then trigrams), phone and mail of their contacts; contacts by phone and mail, their name adding to it. kind: company, contact, or NULL for both. score 0 to 1, 0.9 and more is as good as sure; reasons in words, the heaviest first. What was merged is answered by what it was merged into; only what the speaker may see. At most 50 of each. What is no phone or address is passed over. Error 22023: kind. For an import of many rows join crm.company by crm.party_norm_name(name) and inn, crm.contact_point by (value, kind): each has an index';

-- ---- candidates ---------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.find_duplicates() RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	s     crm.party_setting := crm.party_settings();
	fresh bigint;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtext('crm.find_duplicates'));
	PERFORM crm.index_names(2000000, true);
	-- What is shared makes a pair of each with the first that has it, never of each with each; what more than
	-- twenty share is no reason.
	WITH live AS MATERIALIZED (
		SELECT c.id, n.norm, c.inn, c.kpp FROM crm.company c JOIN crm.company_name n ON n.company_id = c.id
		WHERE c.merged_into_id IS NULL AND c.archived_at IS NULL
	), named AS MATERIALIZED (
		SELECT l.norm, min(l.id) AS id FROM live l WHERE l.norm <> '' GROUP BY l.norm
	), listed AS MATERIALIZED (
		SELECT array_agg(n.id ORDER BY n.id) AS ids, array_agg(n.norm ORDER BY n.id) AS norms FROM named n
	), points AS MATERIALIZED (
		SELECT DISTINCT k.company_id AS id, p.kind, p.value, p.is_mobile OR p.kind = 'email' AS strong
		FROM crm.contact_point p JOIN crm.contact k ON k.id = p.contact_id AND k.archived_at IS NULL
		JOIN live l ON l.id = k.company_id
		WHERE p.kind IN ('phone', 'email')
	), reason AS (
		SELECT n.id AS one, l.id AS two, 0.8 AS weight, 'name' AS reason FROM named n JOIN live l ON l.norm = n.norm AND l.id <> n.id
		UNION ALL
		SELECT a.first_id, a.second_id, (0.8 * a.score * CASE WHEN crm.numbers_differ(x.norm, y.norm) THEN 0.6 ELSE 1 END)::numeric, format('name %s%%', round((100 * a.score)::numeric))
		-- a name that is less alike is no candidate by itself: it is looked at below where something else is shared
		FROM listed t CROSS JOIN LATERAL crm.similar_names(t.ids, t.norms, greatest(s.alike_from, s.candidate_from / 0.8)::real, 10) a
		JOIN crm.company_name x ON x.company_id = a.first_id JOIN crm.company_name y ON y.company_id = a.second_id
		UNION ALL
		SELECT g.one, l.id, CASE WHEN g.kpp IS NOT DISTINCT FROM l.kpp THEN 0.99 WHEN g.kpp IS NULL OR l.kpp IS NULL THEN 0.95 ELSE 0.3 END,
			CASE WHEN g.kpp IS NOT DISTINCT FROM l.kpp THEN 'INN and KPP' WHEN g.kpp IS NULL OR l.kpp IS NULL THEN 'INN' ELSE 'INN, another KPP' END
		FROM (SELECT DISTINCT ON (x.inn) x.inn, x.id AS one, x.kpp FROM live x WHERE x.inn IS NOT NULL ORDER BY x.inn, x.id) g
		JOIN live l ON l.inn = g.inn AND l.id <> g.one
		UNION ALL
		SELECT g.one, p.id, CASE WHEN g.strong THEN 0.6 ELSE 0.4 END, CASE g.kind WHEN 'phone' THEN 'phone' ELSE 'mail' END
		FROM (SELECT x.kind, x.value, min(x.id) AS one, bool_or(x.strong) AS strong FROM points x GROUP BY 1, 2 HAVING count(*) BETWEEN 2 AND 20) g
		JOIN points p ON p.kind = g.kind AND p.value = g.value AND p.id <> g.one
		UNION ALL
		SELECT g.one, a.company_id, 0.4, 'address'
		FROM (SELECT x.norm, min(x.company_id) AS one FROM crm.address x JOIN live l ON l.id = x.company_id WHERE x.norm <> '' GROUP BY x.norm
			HAVING count(DISTINCT x.company_id) BETWEEN 2 AND 20) g
		JOIN crm.address a ON a.norm = g.norm AND a.company_id <> g.one JOIN live l ON l.id = a.company_id
	), with_name AS (
		SELECT x.* FROM reason x
		UNION ALL
		SELECT x.one, x.two, (0.8 * n.alike * CASE WHEN crm.numbers_differ(a.norm, b.norm) THEN 0.6 ELSE 1 END)::numeric, format('name %s%%', round((100 * n.alike)::numeric))
		FROM reason x JOIN crm.company_name a ON a.company_id = x.one JOIN crm.company_name b ON b.company_id = x.two
		CROSS JOIN LATERAL (SELECT crm.name_similarity(a.norm, b.norm) AS alike OFFSET 0) n
		WHERE x.reason NOT LIKE 'name%' AND n.alike >= s.alike_from AND a.norm <> b.norm
	), pair AS (
		SELECT r.one, r.two, 1 - exp(sum(ln(1 - r.weight))) AS weight, array_agg(r.reason ORDER BY r.weight DESC, r.reason) AS reasons
		FROM (SELECT DISTINCT ON (least(x.one, x.two), greatest(x.one, x.two), split_part(x.reason, ' ', 1)) least(x.one, x.two) AS one, greatest(x.one, x.two) AS two, x.weight, x.reason
			FROM with_name x ORDER BY least(x.one, x.two), greatest(x.one, x.two), split_part(x.reason, ' ', 1), x.weight DESC) r
		GROUP BY 1, 2
	), judged AS (
		SELECT p.one, p.two, round(p.weight * CASE WHEN a.inn <> b.inn THEN 0.5 ELSE 1 END, 3) AS score,
			CASE WHEN a.inn <> b.inn THEN p.reasons || 'but another INN'::text ELSE p.reasons END AS reasons
		FROM pair p JOIN live a ON a.id = p.one JOIN live b ON b.id = p.two
	), people AS MATERIALIZED (
		-- surname first, or last
		SELECT c.id, c.company_id, n.norm, crm.name_grams(n.norm) AS words FROM crm.contact c CROSS JOIN LATERAL (SELECT crm.party_norm_name(c.name) AS norm OFFSET 0) n
		WHERE c.merged_into_id IS NULL AND c.archived_at IS NULL AND c.source NOT IN ('employee', 'forgotten')
	), of_people AS MATERIALIZED (
		SELECT DISTINCT p.contact_id AS id, p.kind, p.value, p.is_mobile OR p.kind = 'email' AND split_part(p.value, '@', 1) <> ALL (s.shared_mailboxes) AS strong
		FROM crm.contact_point p JOIN people c ON c.id = p.contact_id WHERE p.kind IN ('phone', 'email')
	), person_reason AS (
		SELECT g.one, p.id AS two, CASE WHEN g.strong THEN 0.8 ELSE 0.3 END AS weight, CASE g.kind WHEN 'phone' THEN 'phone' ELSE 'mail' END AS reason
		FROM (SELECT x.kind, x.value, min(x.id) AS one, bool_or(x.strong) AS strong FROM of_people x GROUP BY 1, 2 HAVING count(*) BETWEEN 2 AND 20) g
		JOIN of_people p ON p.kind = g.kind AND p.value = g.value AND p.id <> g.one
		UNION ALL
		SELECT g.one, p.id, 0.3, 'company' FROM (SELECT x.company_id, x.words, min(x.id) AS one FROM people x WHERE x.company_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) BETWEEN 2 AND 20) g
		JOIN people p ON p.company_id = g.company_id AND p.words = g.words AND p.id <> g.one
	), person_pair AS (
		SELECT least(r.one, r.two) AS one, greatest(r.one, r.two) AS two, 1 - exp(sum(ln(1 - r.weight))) AS weight, array_agg(r.reason ORDER BY r.weight DESC, r.reason) AS reasons
		FROM (SELECT DISTINCT least(x.one, x.two) AS one, greatest(x.one, x.two) AS two, x.weight, x.reason FROM person_reason x) r GROUP BY 1, 2
	), person_judged AS (
		SELECT p.one, p.two, round((1 - (1 - p.weight) * (1 - CASE WHEN n.alike >= s.alike_from THEN 0.5 * n.alike ELSE 0 END)::numeric), 3) AS score,
			CASE WHEN n.alike >= s.alike_from THEN p.reasons || format('name %s%%', round((100 * n.alike)::numeric)) ELSE p.reasons END AS reasons
		FROM person_pair p JOIN people a ON a.id = p.one JOIN people b ON b.id = p.two
		CROSS JOIN LATERAL (SELECT crm.name_similarity(a.norm, b.norm) AS alike) n
	), found AS MATERIALIZED (
		SELECT 'company' AS object_kind, j.* FROM judged j WHERE j.score >= s.candidate_from
		UNION ALL
		SELECT 'contact', j.* FROM person_judged j WHERE j.score >= s.candidate_from
	), gone AS (
		UPDATE crm.duplicate d SET state = 'gone'
		WHERE d.state = 'open' AND NOT EXISTS (SELECT FROM found f WHERE f.object_kind = d.object_kind AND f.one = d.first_id AND f.two = d.second_id)
	), kept AS (
		INSERT INTO crm.duplicate AS d (object_kind, first_id, second_id, score, reasons)
		SELECT f.object_kind, f.one, f.two, f.score, f.reasons FROM found f ORDER BY 1, 2, 3
		ON CONFLICT (object_kind, first_id, second_id) DO UPDATE SET score = excluded.score, reasons = excluded.reasons,
			state = CASE d.state WHEN 'gone' THEN 'open' ELSE d.state END
		WHERE (d.score, d.reasons) IS DISTINCT FROM (excluded.score, excluded.reasons) OR d.state = 'gone'
		RETURNING d.state
	)
	SELECT count(*) INTO fresh FROM kept k WHERE k.state = 'open';
	UPDATE crm.party_setting x SET searched_at = crm.now();
	RETURN fresh;
END
$$;
COMMENT ON FUNCTION crm.find_duplicates() IS 'Looks for duplicates among all companies and contacts, by name, INN, phones, mail and addresses, and keeps the pairs in crm.duplicate; returns how many are new or changed. 100000 companies take seconds: nothing is compared each with each. What a person dismissed stays dismissed. The courier does it once a night';

CREATE OR REPLACE FUNCTION crm.maintain_duplicates() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s crm.party_setting := crm.party_settings();
BEGIN
	-- once a night of the plant, when nobody waits for the courier
	IF crm.guard() AND extract(hour FROM crm.now() AT TIME ZONE current_setting('crm.time_zone')) BETWEEN 2 AND 4
		AND (s.searched_at IS NULL OR s.searched_at < crm.now() - interval '20 hours') THEN
		PERFORM crm.find_duplicates();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.maintain_duplicates() IS 'Hook of the courier: crm.find_duplicates() between two and five at night';
SELECT crm.register_hook('maintain', 'duplicates', 'crm.maintain_duplicates');

CREATE OR REPLACE FUNCTION crm.dismiss_duplicate(object_kind text, one_id bigint, two_id bigint, note text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT (SELECT coalesce(bool_and(crm.party_visible(CASE object_kind WHEN 'company' THEN o.id ELSE (SELECT c.company_id FROM crm.contact c WHERE c.id = o.id) END)), true)
			FROM unnest(ARRAY[one_id, two_id]) AS o(id)) THEN
		-- said as of one that is not there
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('%s %s and %s are no pair', left(object_kind, 40), one_id, two_id),
			HINT = 'SELECT * FROM crm.duplicate_candidates; lists the pairs.';
	END IF;
	UPDATE crm.duplicate d SET state = 'dismissed', decided_at = crm.now(), decided_by = crm.me_name(), note = left(dismiss_duplicate.note, 2000)
	WHERE d.object_kind = dismiss_duplicate.object_kind AND d.first_id = least(one_id, two_id) AND d.second_id = greatest(one_id, two_id);
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('%s %s and %s are no pair', left(object_kind, 40), one_id, two_id),
			HINT = 'SELECT * FROM crm.duplicate_candidates; lists the pairs.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.dismiss_duplicate(text, bigint, bigint, text) IS 'A person says that two are two: the pair is no candidate any more, however alike. object_kind: company, contact. Error P0002: no such pair, or one with a client that the speaker does not see';

CREATE OR REPLACE VIEW crm.duplicate_candidates WITH (security_invoker = true) AS
	SELECT d.object_kind, d.first_id, a.name AS first_name, d.second_id, b.name AS second_name, d.score, d.reasons, d.found_at,
		a.owner_id AS first_owner_id, b.owner_id AS second_owner_id
	FROM crm.duplicate d JOIN crm.company a ON a.id = d.first_id JOIN crm.company b ON b.id = d.second_id
	WHERE d.object_kind = 'company' AND d.state = 'open' AND a.merged_into_id IS NULL AND b.merged_into_id IS NULL
	UNION ALL
	SELECT d.object_kind, d.first_id, a.name, d.second_id, b.name, d.score, d.reasons, d.found_at, x.owner_id, y.owner_id
	FROM crm.duplicate d JOIN crm.contact a ON a.id = d.first_id JOIN crm.contact b ON b.id = d.second_id
	LEFT JOIN crm.company x ON x.id = a.company_id LEFT JOIN crm.company y ON y.id = b.company_id
	WHERE d.object_kind = 'contact' AND d.state = 'open' AND a.merged_into_id IS NULL AND b.merged_into_id IS NULL;
COMMENT ON VIEW crm.duplicate_candidates IS 'Pairs of companies and of contacts that may be one, with their score and reasons, as crm.find_duplicates() found them last. crm.merge_companies, crm.merge_contacts or crm.dismiss_duplicate end one';
COMMENT ON COLUMN crm.duplicate_candidates.object_kind IS 'company or contact';
COMMENT ON COLUMN crm.duplicate_candidates.first_id IS 'crm.company.id or crm.contact.id';
COMMENT ON COLUMN crm.duplicate_candidates.first_name IS 'Its name';
COMMENT ON COLUMN crm.duplicate_candidates.second_id IS 'The other one';
COMMENT ON COLUMN crm.duplicate_candidates.second_name IS 'Its name';
COMMENT ON COLUMN crm.duplicate_candidates.score IS 'How sure, 0 to 1; 0.9 and more costs points of the client base''s quality';
COMMENT ON COLUMN crm.duplicate_candidates.reasons IS 'What speaks for it and against it, the heaviest first';
COMMENT ON COLUMN crm.duplicate_candidates.found_at IS 'When it was first found';
COMMENT ON COLUMN crm.duplicate_candidates.first_owner_id IS 'crm.employee.id responsible for the first';
COMMENT ON COLUMN crm.duplicate_candidates.second_owner_id IS 'crm.employee.id responsible for the second';

SELECT crm.register_undumped('crm.party_key', 'filled again by crm.activate()');
SELECT crm.register_undumped('crm.company_name', 'filled again by the courier');
SELECT crm.register_undumped('crm.name_gram', 'filled again by the courier');
SELECT crm.register_no_foreign_key('crm.party_key', c.name, 'kept by triggers on its parents; a key over every insert would cost as much again')
FROM unnest(ARRAY['company_id', 'contact_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.company_name', 'company_id', 'kept by triggers on crm.company');
SELECT crm.register_no_foreign_key('crm.duplicate', c.name, 'a company or a contact, by object_kind')
FROM unnest(ARRAY['first_id', 'second_id']) AS c(name);
SELECT crm.register_no_foreign_key('crm.contact', 'merged_into_id', 'a reference to the own table restores in no order');
