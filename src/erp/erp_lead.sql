-- erp: leads of web sites (protocols/erp.md, section 5; claims 8, 45, 53).
--
-- A form becomes a lead once: by the site's own id, else by phone or address and form within some minutes. What is
-- spam stays in crm.lead and makes nothing; all else makes or finds a contact, begins a deal or is noted on the open
-- one, and says lead.received, in one transaction. Nothing is ever merged by a name.

-- ---- what a stranger typed ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.lead_text(doc jsonb, field text, most integer, lines boolean DEFAULT false) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	value text := CASE WHEN jsonb_typeof(doc -> field) IN ('string', 'number', 'boolean') THEN doc ->> field END;
BEGIN
	IF value IS NULL THEN
		RETURN NULL;
	END IF;
	-- the direction of writing and what has no width would show another text than is kept
	value := regexp_replace(left(value, 4 * most), E'[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]', '', 'g');
	IF lines THEN
		value := regexp_replace(replace(replace(value, E'\r\n', E'\n'), E'\r', E'\n'), E'[\\x01-\\x09\\x0b-\\x1f\\x7f\u00a0]+', ' ', 'g');
		value := regexp_replace(value, E'\n{4,}', E'\n\n\n', 'g');
	ELSE
		value := regexp_replace(value, E'[\\x01-\\x1f\\x7f-\\x9f\u00a0\u2028\u2029 ]+', ' ', 'g');
	END IF;
	RETURN nullif(left(btrim(value, E' \n'), most), '');
END
$$;
COMMENT ON FUNCTION crm.lead_text(jsonb, text, integer, boolean) IS 'A field of a form as it is kept: a text, number or yes and no, trimmed, at most so many signs; in one line (no line end can get into a letter''s header), or with its lines. What is empty, a list or an object is NULL. Never an error';

CREATE OR REPLACE FUNCTION crm.percent_decoded(value text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF value !~ '%[0-9A-Fa-f]{2}' THEN
		RETURN value;
	END IF;
	RETURN (SELECT crm.body_text(string_agg(CASE WHEN p.piece[1] ~ '^%[0-9A-Fa-f]{2}' THEN decode(replace(p.piece[1], '%', ''), 'hex')
			ELSE convert_to(replace(p.piece[1], '+', ' '), 'UTF8') END, ''::bytea ORDER BY p.n))
		FROM regexp_matches(value, '((?:%[0-9A-Fa-f]{2})+|[^%]+|%)', 'g') WITH ORDINALITY AS p(piece, n));
END
$$;
COMMENT ON FUNCTION crm.percent_decoded(text) IS 'A value of a query string, decoded once: %D0%B0 in UTF-8, %F2 in windows-1251, + as a blank; a value without an escape stays as it is, and so does a damaged escape. Never an error';

CREATE OR REPLACE FUNCTION crm.utm_value(doc jsonb, field text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN nullif(left(lower(btrim(regexp_replace(crm.percent_decoded(crm.lead_text(doc, field, 2000)), E'[\\x01-\\x1f\\x7f ]+', ' ', 'g'))), 255), '');
END
$$;
COMMENT ON FUNCTION crm.utm_value(jsonb, text) IS 'A UTM field as it is kept: decoded once, small letters, trimmed, at most 255 signs';

CREATE OR REPLACE FUNCTION crm.lead_touch_of(doc jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF jsonb_typeof(doc) IS DISTINCT FROM 'object' THEN
		RETURN '{}';
	END IF;
	RETURN jsonb_strip_nulls((SELECT jsonb_object_agg(f.name, crm.utm_value(doc, f.name))
			FROM unnest(ARRAY['utm_source', 'utm_medium', 'utm_campaign', 'utm_content', 'utm_term', 'tag']) AS f(name))
		|| (SELECT jsonb_object_agg(f.name, crm.lead_text(doc, f.name, 255))
			FROM unnest(ARRAY['yclid', 'gclid', 'ymclid', '_ym_uid', '_ga', 'roistat_visit', 'comagic_id', 'calltracking_id', 'called_number', 'at']) AS f(name))
		|| jsonb_build_object('referrer', crm.lead_text(doc, 'referrer', 2000), 'page_url', crm.lead_text(doc, 'page_url', 2000)));
END
$$;
COMMENT ON FUNCTION crm.lead_touch_of(jsonb) IS 'What brought a visitor: UTM fields, click ids, counters, number called, referrer and page of a form, or of its first_touch or last_touch';

CREATE OR REPLACE FUNCTION crm.url_host(url text) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN lower(regexp_replace(substring(url FROM '^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#:]+)'), '^www\.', ''));
COMMENT ON FUNCTION crm.url_host(text) IS 'Host of an address in small letters, without www.; NULL: none';

CREATE OR REPLACE FUNCTION crm.lead_channel(touch jsonb) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN left(coalesce(touch ->> 'utm_source',
		CASE WHEN touch ? 'yclid' THEN 'yandex' WHEN touch ? 'ymclid' THEN 'yandex_market' WHEN touch ? 'gclid' THEN 'google' END,
		touch ->> 'called_number', touch ->> 'tag',
		CASE WHEN crm.url_host(touch ->> 'referrer') IS DISTINCT FROM crm.url_host(touch ->> 'page_url') THEN crm.url_host(touch ->> 'referrer') END,
		'unknown'), 255);
COMMENT ON FUNCTION crm.lead_channel(jsonb) IS 'The channel of a visit: utm_source, the owner of a click id, the number called, a tag, the host before the site; unknown where nothing tells (claim 45)';

CREATE OR REPLACE FUNCTION crm.lead_score(name text, company text, message text, OUT score integer, OUT reasons text)
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	links   integer := (SELECT count(*) FROM regexp_matches(coalesce(message, ''), '(?:https?://|www\.|\[url|<a\s)', 'gi'));
	letters text := regexp_replace(coalesce(message, ''), '[^[:alpha:]]', '', 'g');
BEGIN
	SELECT coalesce(sum(p.points), 0), string_agg(p.reason, ', ' ORDER BY p.n) INTO score, reasons
	FROM (VALUES
		(1, least(links, 5) * 2, format('%s links', links)),
		(2, CASE WHEN concat_ws(' ', name, company) ~* '(https?://|www\.|\.(ru|com|net|org|top|xyz|site|online)\M)' THEN 5 ELSE 0 END, 'a link as the name'),
		(3, CASE WHEN message ~* '(\[/?(url|b|link)[]=]|</?[a-z][^>]*>)' THEN 3 ELSE 0 END, 'markup'),
		(4, CASE WHEN concat_ws(' ', name, message) ~ E'[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]' THEN 4 ELSE 0 END, 'letters of the Far East'),
		(5, CASE WHEN length(letters) >= 20 AND letters !~ '[А-Яа-яЁё]' THEN 2 ELSE 0 END, 'no Russian letter'),
		(6, CASE WHEN length(message) > 10 AND (message = name OR message = company) THEN 3 ELSE 0 END, 'the name again as the message'),
		(7, CASE WHEN name = company AND length(name) > 0 OR length(name) > 100 THEN 1 ELSE 0 END, 'a strange name'),
		(8, CASE WHEN message ~* '(\mcasino\M|\mviagra\M|\mcrypto|\mseo\M.*\mtop\M|раскрутк|продвижени[ея] сайт|база данных (предприятий|клиентов)|займ)' THEN 4 ELSE 0 END, 'words of advertisers')
	) AS p(n, points, reason)
	WHERE p.points > 0;
END
$$;
COMMENT ON FUNCTION crm.lead_score(text, text, text) IS 'Points of a lead''s text, and what they are for: links, markup, letters, repetition, words of advertisers. Only the sum counts: a foreign client''s letter alone is no spam';

-- ---- the signed token of a form ----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.hmac_sha256(key bytea, message bytea) RETURNS bytea
	LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	block bytea := CASE WHEN octet_length(key) > 64 THEN sha256(key) ELSE key END;
	inner_ bytea;
	outer_ bytea;
BEGIN
	block := block || decode(repeat('00', 64 - octet_length(block)), 'hex');
	inner_ := block;
	outer_ := block;
	FOR i IN 0 .. 63 LOOP
		inner_ := set_byte(inner_, i, get_byte(block, i) # 54);
		outer_ := set_byte(outer_, i, get_byte(block, i) # 92);
	END LOOP;
	RETURN sha256(outer_ || sha256(inner_ || message));
END
$$;
COMMENT ON FUNCTION crm.hmac_sha256(bytea, bytea) IS 'HMAC-SHA-256 (RFC 2104)';

CREATE OR REPLACE FUNCTION crm.lead_key_made() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO crm.lead_key (key)
	SELECT sha256(convert_to(crm.link_token() || crm.link_token() || gen_random_uuid(), 'UTF8')) WHERE NOT EXISTS (SELECT FROM crm.lead_key);
END
$$;
COMMENT ON FUNCTION crm.lead_key_made() IS 'Makes the key that signs forms where there is none: after a restore tokens of before are worth nothing';
SELECT crm.register_hook('activate', 'lead key', 'crm.lead_key_made');
SELECT crm.register_undumped('crm.lead_key', 'a dump holds no secret');
SELECT crm.register_undumped('crm.lead_ask', 'counts of the last hours');

CREATE OR REPLACE FUNCTION crm.lead_token_sign(form text, at bigint) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (SELECT to_hex(at) || '.' || left(encode(crm.hmac_sha256(k.key, convert_to(at || '|' || form, 'UTF8')), 'hex'), 40) FROM crm.lead_key k ORDER BY k.id DESC LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm.lead_token_sign(text, bigint) IS 'The token of a form that was shown at a moment (seconds of Unix)';

CREATE OR REPLACE FUNCTION crm_erp.lead_token(form text DEFAULT NULL) RETURNS varchar
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.erp_begin();
	RETURN crm.lead_token_sign(coalesce(lower(crm.erp_text(lead_token.form, 'form', 100)), 'site'), floor(extract(epoch FROM crm.clock()))::bigint);
END
$$;
COMMENT ON FUNCTION crm_erp.lead_token(text) IS 'A token for a form that is about to be shown: its field form_token. It tells when the form was shown and that we showed it; it is good for a day. Errors: 22001, 55000 not active';

CREATE OR REPLACE FUNCTION crm.lead_token_age(form text, token text) RETURNS double precision
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	at bigint;
BEGIN
	IF token !~ '^[0-9a-f]{1,10}\.[0-9a-f]{40}$' THEN
		RETURN NULL;
	END IF;
	at := ('x' || lpad(split_part(token, '.', 1), 16, '0'))::bit(64)::bigint;
	IF crm.lead_token_sign(form, at) IS DISTINCT FROM token THEN
		RETURN NULL;
	END IF;
	RETURN extract(epoch FROM crm.clock()) - at;
END
$$;
COMMENT ON FUNCTION crm.lead_token_age(text, text) IS 'How many seconds ago the form of a token was shown; NULL: we never signed it for this form';

-- ---- taking ------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.lead_consent(doc jsonb) RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	said    jsonb := CASE jsonb_typeof(doc -> 'consent') WHEN 'object' THEN doc -> 'consent' ELSE '{}'::jsonb END;
	version text := coalesce(crm.lead_text(said, 'version', 100), crm.lead_text(doc, 'consent_version', 100));
	result  jsonb := '{}';
	ticked  text;
	words   text;
BEGIN
	IF jsonb_typeof(doc -> 'consent') IN ('string', 'boolean', 'number') THEN
		said := jsonb_build_object('processing', doc -> 'consent');
	END IF;
	FOR ticked, words IN VALUES ('processing', 'text'), ('advertising', 'advertising_text') LOOP
		CONTINUE WHEN coalesce(crm.lead_text(said, ticked, 20), crm.lead_text(doc, 'consent_' || ticked, 20)) IS NULL;
		IF lower(coalesce(crm.lead_text(said, ticked, 20), crm.lead_text(doc, 'consent_' || ticked, 20))) NOT IN ('1', 'true', 'on', 'yes', 'y', 'да') THEN
			result := result || jsonb_build_object(ticked, jsonb_build_object('given', 0));
			CONTINUE;
		END IF;
		words := coalesce((SELECT t.wording FROM crm.consent_text t WHERE t.code = version AND t.purpose = ticked),
			crm.lead_text(said, words, 20000, true), crm.lead_text(doc, 'consent_' || words, 20000, true));
		result := result || jsonb_build_object(ticked, jsonb_strip_nulls(jsonb_build_object('given', 1, 'version', version, 'wording', words,
			'sha256', encode(sha256(convert_to(words, 'UTF8')), 'hex'), 'problem', CASE WHEN words IS NULL THEN 'neither the words nor a known version came with it' END)));
	END LOOP;
	RETURN result;
END
$$;
COMMENT ON FUNCTION crm.lead_consent(jsonb) IS 'What was ticked in a form, by purpose: with the version, the very words (of crm.consent_text, else as sent) and their SHA-256';

CREATE OR REPLACE FUNCTION crm.put_consent_text(code text, purpose text, wording text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known text;
BEGIN
	INSERT INTO crm.consent_text AS t (code, purpose, wording) VALUES ($1, $2, $3) ON CONFLICT ON CONSTRAINT consent_text_pkey DO NOTHING;
	IF FOUND THEN
		RETURN true;
	END IF;
	SELECT t.wording INTO known FROM crm.consent_text t WHERE t.code = $1 AND t.purpose = $2;
	IF known IS DISTINCT FROM $3 THEN
		RAISE EXCEPTION USING ERRCODE = '23505', MESSAGE = format('version "%s" of the consent to %s has other words', $1, $2),
			HINT = 'People agreed to those. Give the new words a version of their own.';
	END IF;
	RETURN false;
END
$$;
COMMENT ON FUNCTION crm.put_consent_text(text, text, text) IS 'Makes a version of a consent known: its name, the purpose (processing, advertising) and the very words beside the box. False: it was known so. Errors: 23505 it has other words, 23514 purpose or length';

CREATE OR REPLACE FUNCTION crm.lead_consents(lead crm.lead, touch_id bigint, consent jsonb) RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.consent (contact_id, purpose, wording, form, page, address, user_agent, source, source_id)
	SELECT (lead).contact_id, c.key, c.value ->> 'wording', (lead).form, (lead).page_url, (lead).address, (lead).user_agent, 'lead', $2 || ':' || c.key
	FROM jsonb_each($3) c
	WHERE c.value ->> 'given' = '1' AND c.value ->> 'wording' IS NOT NULL AND (lead).contact_id IS NOT NULL
	ON CONFLICT ON CONSTRAINT consent_source_key DO NOTHING;
END;
COMMENT ON FUNCTION crm.lead_consents(crm.lead, bigint, jsonb) IS 'Records the consents of a form (crm.lead_touch.id) for the contact of its lead';

CREATE OR REPLACE FUNCTION crm.lead_accept(lead_id bigint) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	l        crm.lead;
	contact_ bigint;
	company_ bigint;
	deal_    bigint;
	owner_   bigint;
	known    boolean;
	number   integer := 0;
	name_    text;
	zone     text := crm.erp_zone();
BEGIN
	SELECT y.* INTO STRICT l FROM crm.lead y WHERE y.id = lead_id FOR NO KEY UPDATE;
	-- Somebody whom we know: by phone, else by address; never by name.
	SELECT c.id, c.company_id INTO contact_, company_
	FROM (SELECT 'phone' AS kind, l.phone AS value UNION ALL SELECT 'email', l.email) v
	CROSS JOIN LATERAL (SELECT p.contact_id, p.state, p.kind FROM crm.contact_point p WHERE p.value = v.value AND p.kind = v.kind AND p.state <> 'invalid' OFFSET 0) p
	CROSS JOIN LATERAL (SELECT y.id, y.company_id FROM crm.contact y WHERE y.id = p.contact_id AND y.archived_at IS NULL AND y.source NOT IN ('employee', 'forgotten') OFFSET 0) c
	ORDER BY p.kind = 'phone' DESC, p.state = 'verified' DESC, p.state = 'stale', c.id DESC
	LIMIT 1;
	known := contact_ IS NOT NULL;
	WHILE number < 10 LOOP
		number := number + 1;
		SELECT y.merged_into_id INTO deal_ FROM crm.company y WHERE y.id = company_;
		EXIT WHEN deal_ IS NULL;
		company_ := deal_;
	END LOOP;
	deal_ := NULL;
	IF company_ IS NULL AND crm.inn_valid(l.inn) THEN
		PERFORM pg_advisory_xact_lock('crm.lead'::regclass::oid::integer, hashtext('inn ' || l.inn));
		-- Branches share an INN: where it is not one company it is nobody's.
		SELECT min(y.id) INTO company_ FROM crm.company y WHERE y.inn = l.inn AND y.archived_at IS NULL AND y.merged_into_id IS NULL HAVING count(*) = 1;
	END IF;
	IF company_ IS NULL AND (l.company_name IS NOT NULL OR crm.inn_valid(l.inn)) AND NOT known THEN
		INSERT INTO crm.company (name, inn, source, source_id) VALUES (coalesce(l.company_name, 'ИНН ' || l.inn), CASE WHEN crm.inn_valid(l.inn) THEN l.inn END, 'lead', l.id::text)
		ON CONFLICT ON CONSTRAINT company_source_key DO NOTHING;
		SELECT y.id INTO company_ FROM crm.company y WHERE y.source = 'lead' AND y.source_id = l.id::text;
	END IF;
	name_ := coalesce(l.name, l.phone, l.email, l.company_name, 'Без имени');
	IF NOT known THEN
		INSERT INTO crm.contact (company_id, name, source, source_id) VALUES (company_, name_, 'lead', l.id::text) ON CONFLICT ON CONSTRAINT contact_source_key DO NOTHING;
		SELECT y.id INTO contact_ FROM crm.contact y WHERE y.source = 'lead' AND y.source_id = l.id::text;
	END IF;
	INSERT INTO crm.contact_point (contact_id, kind, value, raw)
	SELECT contact_, v.kind, v.value, CASE WHEN v.raw <> v.value THEN left(v.raw, 320) END
	FROM (VALUES ('phone', l.phone, l.phone_raw), ('email', l.email, l.email_raw)) AS v(kind, value, raw)
	WHERE v.value IS NOT NULL
		AND NOT EXISTS (SELECT FROM crm.contact_point p WHERE p.contact_id = contact_ AND p.kind = v.kind AND p.value = v.value)
		AND (NOT known OR (SELECT count(*) FROM crm.contact_point p WHERE p.contact_id = contact_) < 20)
	ON CONFLICT ON CONSTRAINT contact_point_value_key DO NOTHING;

	-- Its open deal hears of it, else it begins one.
	SELECT d.id INTO deal_
	FROM (SELECT y.id, y.funnel_id FROM crm.deal y WHERE known AND y.contact_id = contact_ AND y.closed_at IS NULL
		UNION SELECT y.id, y.funnel_id FROM crm.deal y WHERE known AND y.company_id = company_ AND y.closed_at IS NULL) d
	JOIN crm.funnel f ON f.id = d.funnel_id
	ORDER BY f.code = coalesce((SELECT s.funnel FROM crm.lead_form s WHERE s.code = l.form), 'lead') DESC, d.id DESC
	LIMIT 1;
	owner_ := coalesce((SELECT y.owner_id FROM crm.company y JOIN crm.employee e ON e.id = y.owner_id AND (e.dismissed_at IS NULL OR e.dismissed_at > crm.now()) WHERE y.id = company_),
		crm.duty_for(crm.now(), company_));
	IF deal_ IS NULL THEN
		INSERT INTO crm.deal (funnel_id, company_id, contact_id, owner_id, name, tonnes, source, source_id)
		SELECT f.id, company_, contact_, owner_, left(concat_ws(', ', coalesce(l.product, 'Заявка с сайта'), coalesce(l.company_name, name_)), 500),
			CASE WHEN l.quantity BETWEEN 0.001 AND 1000000 THEN l.quantity END, 'lead', l.id::text
		FROM crm.funnel f
		WHERE f.enabled AND f.code IN (coalesce((SELECT s.funnel FROM crm.lead_form s WHERE s.code = l.form), 'lead'), 'lead') AND EXISTS (SELECT FROM crm.stage s WHERE s.funnel_id = f.id)
		ORDER BY f.code <> 'lead' DESC LIMIT 1
		ON CONFLICT ON CONSTRAINT deal_source_key DO NOTHING;
		SELECT y.id INTO deal_ FROM crm.deal y WHERE y.source = 'lead' AND y.source_id = l.id::text;
	END IF;
	UPDATE crm.lead y SET status = 'taken', company_id = company_, contact_id = contact_, deal_id = deal_, was_known = known WHERE y.id = l.id RETURNING y.* INTO l;
	IF known THEN
		INSERT INTO crm.note (text, company_id, contact_id, source, source_id)
		VALUES (left(format('Обращение с сайта %s: %s', l.id, concat_ws(', ', l.product, trim_scale(l.quantity), l.message, 'форма ' || l.form)), 10000), company_, contact_, 'lead', l.id::text)
		ON CONFLICT ON CONSTRAINT note_source_key DO NOTHING;
		INSERT INTO crm.deal_activity (deal_id, object_kind, object_id)
		SELECT deal_, 'note', n.id FROM crm.note n WHERE n.source = 'lead' AND n.source_id = l.id::text AND deal_ IS NOT NULL
		ON CONFLICT DO NOTHING;
	END IF;
	PERFORM crm.lead_consents(l, t.id, l.consent) FROM (SELECT min(x.id) AS id FROM crm.lead_touch x WHERE x.lead_id = l.id) t;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	VALUES ('lead.received', 'lead', l.id, company_, l.received_at,
		jsonb_build_object('lead', l.id::text, 'name', name_, 'phone', coalesce(l.phone, l.phone_raw, ''), 'email', coalesce(l.email, ''),
			'company', coalesce(l.company_name, (SELECT y.name FROM crm.company y WHERE y.id = company_), ''), 'product', coalesce(l.product, ''), 'quantity', coalesce(trim_scale(l.quantity)::text, ''),
			'words', coalesce(left(regexp_replace(l.message, '\s+', ' ', 'g'), 200), ''), 'form', l.form, 'channel', l.channel, 'known', known::integer,
			'deal_id', coalesce(deal_::text, ''), 'at_local', to_char(l.received_at AT TIME ZONE zone, 'HH24:MI'), 'date_local', to_char(l.received_at AT TIME ZONE zone, 'DD.MM.YYYY')),
		'lead', l.id::text);
END
$$;
COMMENT ON FUNCTION crm.lead_accept(bigint) IS 'Makes of a lead what it stands for: the contact that phone or address belong to, else a new one (with a company where one was named; an INN that is one company''s finds it); a note about a client who was known, and his open deal, else a new one in the form''s funnel, for the client''s manager or who is on duty; its consents; the event lead.received';

SELECT crm.register_event_kind('lead.received', 'lead',
	ARRAY['lead', 'name', 'phone', 'email', 'company', 'product', 'quantity', 'words', 'form', 'channel', 'known', 'deal_id', 'at_local', 'date_local'],
	'A client or somebody new asked for something', 'Новое обращение клиента');

CREATE OR REPLACE FUNCTION crm.deals_of_leads(object_ids bigint[]) RETURNS TABLE(object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT l.id, l.deal_id FROM crm.lead l WHERE l.id = ANY (object_ids) AND l.deal_id IS NOT NULL;
END;
COMMENT ON FUNCTION crm.deals_of_leads(bigint[]) IS 'Finder of deals: the one that a lead began, or was noted on';
SELECT crm.register_deal_finder('lead', 'crm.deals_of_leads');

CREATE OR REPLACE FUNCTION crm.lead_put(doc jsonb, source text, peer text, agent text, token_required boolean) RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	known   constant text[] := ARRAY['source_lead_id', 'site', 'submitted_at', 'form', 'page_url', 'referrer', 'name', 'phone', 'email', 'company', 'inn', 'message', 'product', 'quantity',
		'city', 'utm_source', 'utm_medium', 'utm_campaign', 'utm_content', 'utm_term', 'tag', 'yclid', 'gclid', 'ymclid', '_ym_uid', '_ga', 'roistat_visit', 'comagic_id', 'calltracking_id',
		'called_number', 'first_touch', 'last_touch', 'ip', 'user_agent', 'consent', 'consent_processing', 'consent_advertising', 'consent_version', 'consent_text',
		'consent_advertising_text', 'form_token', 'filled_seconds', 'once'];
	v_source text := coalesce(crm.lead_text(doc, 'site', 63), lead_put.source);
	key     text := crm.erp_key(CASE WHEN jsonb_typeof(doc -> 'source_lead_id') IN ('string', 'number') THEN doc ->> 'source_lead_id' END, 'source_lead_id');
	l       crm.lead;
	f       crm.lead_form;
	locks   integer[];
	lock_   integer;
	token   text := crm.lead_text(doc, 'form_token', 200);
	age     double precision;
	reason  text;
	points  record;
	before_ bigint;
	touch_  bigint;
	now_    timestamptz := crm.now();
BEGIN
	PERFORM crm.erp_begin();
	l.form := coalesce(lower(crm.lead_text(doc, 'form', 100)), 'site');
	SELECT y.* INTO f FROM crm.lead_form y WHERE y.code IN (l.form, 'default') ORDER BY y.code = l.form DESC LIMIT 1;
	l.name := crm.lead_text(doc, 'name', 300);
	l.phone_raw := crm.lead_text(doc, 'phone', 100);
	l.email_raw := crm.lead_text(doc, 'email', 320);
	IF key IS NULL AND l.phone_raw IS NULL AND l.email_raw IS NULL THEN
		PERFORM crm.erp_fail('22004', 'the lead has neither phone nor e-mail', 'Send phone or email, so that somebody can answer; and source_lead_id, the site''s own id of the form, the same each time.');
	END IF;
	BEGIN
		l.phone := crm.phone_e164(l.phone_raw);
	EXCEPTION WHEN data_exception THEN
		l.phone := NULL;
	END;
	BEGIN
		l.email := crm.email_normal(l.email_raw);
	EXCEPTION WHEN data_exception THEN
		l.email := NULL;
	END;
	l.company_name := crm.lead_text(doc, 'company', 500);
	l.inn := nullif(left(regexp_replace(coalesce(crm.lead_text(doc, 'inn', 40), ''), '[^0-9]', '', 'g'), 20), '');
	l.message := crm.lead_text(doc, 'message', 10000, true);
	l.product := crm.lead_text(doc, 'product', 300);
	l.city := crm.lead_text(doc, 'city', 200);
	l.page_url := crm.lead_text(doc, 'page_url', 2000);
	l.referrer := crm.lead_text(doc, 'referrer', 2000);
	l.user_agent := left(coalesce(agent, crm.lead_text(doc, 'user_agent', 500)), 500);
	l.consent := crm.lead_consent(doc);
	BEGIN
		l.address := coalesce(peer, crm.lead_text(doc, 'ip', 60))::inet;
	EXCEPTION WHEN data_exception THEN
		l.address := NULL;
	END;
	BEGIN
		l.submitted_at := crm.erp_time(crm.lead_text(doc, 'submitted_at', 60), 'submitted_at');
	EXCEPTION WHEN data_exception THEN
		l.submitted_at := NULL;
	END;
	l.quantity := crm.erp_number(substring(crm.lead_text(doc, 'quantity', 100) FROM '[0-9]{1,12}(?:[ ][0-9]{3})*(?:[.,][0-9]{1,6})?'), 'quantity');
	IF l.quantity >= 1000000000000 THEN
		l.quantity := NULL;
	END IF;
	l.last_touch := crm.lead_touch_of(doc) || crm.lead_touch_of(doc -> 'last_touch');
	l.first_touch := crm.lead_touch_of(doc -> 'first_touch');
	IF l.first_touch = '{}' THEN
		l.first_touch := l.last_touch;	-- the first that we know of
	END IF;
	l.channel := crm.lead_channel(l.first_touch);
	SELECT coalesce(jsonb_object_agg(e.key, e.value) FILTER (WHERE e.n <= 50), '{}'), greatest(count(*) - 50, 0) INTO l.extra, l.extra_dropped
	FROM (SELECT left(x.key, 100) AS key, left(x.value #>> '{}', 1000) AS value, row_number() OVER (ORDER BY x.key) AS n
		FROM jsonb_each(doc) x WHERE x.key <> ALL (known) AND x.key <> f.honeypot AND x.value <> 'null') e;

	-- Two that come at once with one id, phone or address: the second waits, and finds the first.
	SELECT array_agg(DISTINCT hashtext(v) ORDER BY hashtext(v)) INTO locks
	FROM unnest(ARRAY['id ' || v_source || ' ' || key, 'phone ' || l.phone, 'email ' || l.email]) v WHERE v IS NOT NULL;
	FOREACH lock_ IN ARRAY coalesce(locks, '{}') LOOP
		PERFORM pg_advisory_xact_lock('crm.lead'::regclass::oid::integer, lock_);
	END LOOP;
	SELECT t.lead_id INTO before_ FROM crm.lead_touch t WHERE t.source = v_source AND t.source_lead_id = key;
	IF FOUND THEN
		RETURN ROW(before_, 'same', key)::crm_erp.put_result;
	END IF;

	-- Spam, by the first reason that holds.
	points := crm.lead_score(l.name, l.company_name, l.message);
	l.score := points.score;
	IF token IS NOT NULL THEN
		age := crm.lead_token_age(l.form, token);
	END IF;
	reason := CASE
		WHEN crm.lead_text(doc, f.honeypot, 20) IS NOT NULL THEN 'honeypot: the hidden field was filled'
		WHEN token IS NOT NULL AND age IS NULL THEN 'token: it was not signed here'
		WHEN age > 86400 THEN 'token: the form was shown over a day ago'
		WHEN age < -60 THEN 'token: the form was shown later than it was sent'
		WHEN token IS NULL AND (f.token_required OR lead_put.token_required) THEN 'token: there is none'
		WHEN age < f.min_seconds THEN format('too fast: %s s', round(age))
		WHEN crm.lead_text(doc, 'filled_seconds', 20) ~ '^[0-9]{1,9}([.,][0-9]{1,9})?$' AND replace(crm.lead_text(doc, 'filled_seconds', 20), ',', '.')::numeric < f.min_seconds
			THEN format('too fast: %s s', crm.lead_text(doc, 'filled_seconds', 20))
		WHEN l.score >= f.spam_score THEN format('text: %s points: %s', points.score, points.reasons)
		WHEN (SELECT sum(y.times) FROM crm.lead y WHERE y.phone = l.phone AND y.last_at > now_ - interval '1 day') >= f.most_per_phone
			THEN format('rate: over %s forms a day from this phone', f.most_per_phone)
		WHEN (SELECT sum(y.times) FROM crm.lead y WHERE y.address = l.address AND y.last_at > now_ - interval '1 hour') >= f.most_per_address
			THEN format('rate: over %s forms an hour from this address', f.most_per_address)
	END;
	l.status := CASE WHEN reason IS NULL THEN 'taken' ELSE 'spam' END;

	-- Again within some minutes: one lead. Of spam also by the sender's address, so that a flood is one row.
	SELECT y.id INTO before_ FROM (
		SELECT x.id, x.last_at, x.form, x.status FROM crm.lead x WHERE x.phone = l.phone
		UNION ALL SELECT x.id, x.last_at, x.form, x.status FROM crm.lead x WHERE x.email = l.email
		UNION ALL SELECT x.id, x.last_at, x.form, x.status FROM crm.lead x WHERE x.address = l.address AND reason LIKE 'rate: %' AND x.status = 'spam') y
	WHERE y.form = l.form AND y.last_at > now_ - f.repeat_minutes * interval '1 minute' AND y.status = l.status
	ORDER BY y.last_at DESC LIMIT 1;
	IF FOUND THEN
		UPDATE crm.lead y SET times = y.times + 1, last_at = now_, last_touch = CASE WHEN l.last_touch <> '{}' THEN l.last_touch ELSE y.last_touch END WHERE y.id = before_ RETURNING y.* INTO l;
	ELSE
		INSERT INTO crm.lead (source, source_lead_id, status, spam_reason, score, submitted_at, form, name, phone, phone_raw, email, email_raw, company_name, inn, message, product, quantity,
			city, page_url, referrer, channel, first_touch, last_touch, consent, address, user_agent, extra, extra_dropped)
		VALUES (v_source, key, l.status, reason, l.score, l.submitted_at, l.form, l.name, l.phone, l.phone_raw, l.email, l.email_raw, l.company_name, l.inn, l.message, l.product, l.quantity,
			l.city, l.page_url, l.referrer, l.channel, l.first_touch, l.last_touch, l.consent, l.address, l.user_agent, l.extra, l.extra_dropped)
		RETURNING lead.* INTO l;
	END IF;
	IF before_ IS NULL OR key IS NOT NULL OR reason IS NULL THEN
		INSERT INTO crm.lead_touch (lead_id, source, source_lead_id, message, touch)
		VALUES (l.id, v_source, key, crm.lead_text(doc, 'message', 10000, true), crm.lead_touch_of(doc) || crm.lead_touch_of(doc -> 'last_touch'))
		RETURNING id INTO touch_;
	END IF;
	IF before_ IS NULL AND reason IS NULL THEN
		PERFORM crm.lead_accept(l.id);
	ELSIF reason IS NULL THEN
		PERFORM crm.lead_consents(l, touch_, crm.lead_consent(doc));
	END IF;
	RETURN ROW(l.id, CASE WHEN reason IS NOT NULL THEN 'spam' WHEN before_ IS NULL THEN 'created' ELSE 'updated' END, key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm.lead_put(jsonb, text, text, text, boolean) IS 'Takes a form of a site: its fields, which site, the visitor''s address and browser as the server sees them (NULL: as the fields ip and user_agent say), whether a form_token must be there. See crm_erp.put_lead';

CREATE OR REPLACE FUNCTION crm_erp.put_lead(body text) RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := btrim(body, E'\ufeff \t\r\n');
	doc   jsonb;
BEGIN
	IF octet_length(clean) > 1048576 THEN
		PERFORM crm.erp_fail('54000', format('the lead is too long: %s bytes', octet_length(clean)), 'Send at most 1 MB; files do not belong here.');
	END IF;
	BEGIN
		doc := clean::jsonb;
	EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
		doc := NULL;
	END;
	IF doc IS NULL OR jsonb_typeof(doc) <> 'object' THEN
		PERFORM crm.erp_fail('22P02', 'the lead is no JSON object', 'Send {"source_lead_id": "…", "form": "…", "name": "…", "phone": "…", "message": "…"} in UTF-8.');
	END IF;
	RETURN crm.lead_put(doc, 'site', NULL, NULL, false);
END
$$;
COMMENT ON FUNCTION crm_erp.put_lead(text) IS 'Takes a request that came by a form of the site, as one JSON object (fields: docs/erp.md; protocols/erp.md, section 5). Answers id (the number to tell the visitor), result: created; same: this source_lead_id was here; updated: the same phone or address and form within some minutes, counted on that lead; spam: kept apart, nothing is made of it. What cannot be read of a field is kept as typed, and never refused. Errors, the advice in DETAIL too: 22P02 no JSON object, 22004 nothing to answer to, 22001 id too long, 54000 over 1 MB, 55000 not active. Claims 8, 45, 53';

CREATE OR REPLACE FUNCTION crm_erp.put_lead(body jsonb) RETURNS crm_erp.put_result
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT p.id, p.result, p.erp_id FROM crm_erp.put_lead($1::text) p;
END;
COMMENT ON FUNCTION crm_erp.put_lead(jsonb) IS 'The same, for a site''s back end that has it as jsonb; every ODBC client uses the one that takes text.';

-- ---- a person looks at spam --------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.sees_lead(lead_id bigint) RETURNS boolean
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN crm.for_plant() OR EXISTS (SELECT FROM crm.lead l WHERE l.id = $1
		AND CASE WHEN l.company_id IS NOT NULL THEN crm.sees_company(l.company_id) WHEN l.deal_id IS NOT NULL THEN crm.sees_deal(l.deal_id) ELSE crm.sees_employee(NULL) END);
END
$$;
COMMENT ON FUNCTION crm.sees_lead(bigint) IS 'Whether the person who speaks may see a lead: its client or its deal is his to see; one that is nobody''s yet is the heads''.';

CREATE OR REPLACE FUNCTION crm.restore_lead(lead_id bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l crm.lead;
BEGIN
	SELECT y.* INTO l FROM crm.lead y WHERE y.id = lead_id AND crm.sees_lead(y.id) FOR NO KEY UPDATE;
	IF NOT FOUND OR l.status <> 'spam' THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN l.id IS NULL THEN 'P0002' ELSE '55000' END,
			MESSAGE = CASE WHEN l.id IS NULL THEN format('lead %s does not exist', coalesce(lead_id::text, 'NULL')) ELSE format('lead %s is no spam', lead_id) END,
			HINT = 'SELECT id, received_at, name, spam_reason FROM crm.lead WHERE status = ''spam'' lists them.';
	END IF;
	UPDATE crm.lead y SET status = 'taken', restored_at = crm.now(), restored_by = crm.me_name() WHERE y.id = l.id;
	IF l.contact_id IS NULL THEN
		PERFORM crm.lead_accept(l.id);
	END IF;
	RETURN (SELECT y.deal_id FROM crm.lead y WHERE y.id = l.id);
END
$$;
COMMENT ON FUNCTION crm.restore_lead(bigint) IS 'A lead that was kept apart is none: contact, deal, consents and event are made as if it came now. Returns the deal. Errors: P0002 no such lead, 55000 it is no spam';

CREATE OR REPLACE FUNCTION crm.lead_is_spam(lead_id bigint, reason text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	words text := nullif(left(btrim(reason), 500), '');
	l     crm.lead;
BEGIN
	IF words IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a lead is put apart with a reason', HINT = 'Say why in a few words.';
	END IF;
	UPDATE crm.lead y SET status = 'spam', spam_reason = 'by hand: ' || words WHERE y.id = lead_id AND y.status = 'taken' AND crm.sees_lead(y.id) RETURNING y.* INTO l;
	IF l.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('lead %s does not exist, or is spam already', coalesce(lead_id::text, 'NULL')), HINT = 'SELECT id, name FROM crm.lead WHERE status = ''taken'' lists them.';
	END IF;
	-- The deal that it began is lost, where its funnel allows that.
	UPDATE crm.deal d SET stage_id = s.id FROM crm.stage s
	WHERE d.id = l.deal_id AND d.source = 'lead' AND d.source_id = l.id::text AND s.funnel_id = d.funnel_id AND s.is_lost
		AND EXISTS (SELECT FROM crm.move_allowed m WHERE m.from_stage_id = d.stage_id AND m.to_stage_id = s.id AND m.enabled);
END
$$;
COMMENT ON FUNCTION crm.lead_is_spam(bigint, text) IS 'Puts a lead apart by hand, with the reason; the deal that it began is lost where the funnel allows it. crm.restore_lead takes it back. Errors: 22023 no reason, P0002 no such lead';

-- ---- the visitor asks --------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.order_status(number text, phone text) RETURNS SETOF crm_erp.order_state
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_number text := left(btrim(regexp_replace(coalesce($1, ''), E'[\\x01-\\x20\u00a0№#]+', ' ', 'g')), 100);
	v_phone  text;
	zone     text := crm.erp_zone();
BEGIN
	PERFORM crm.erp_begin();
	BEGIN
		v_phone := crm.phone_e164(left($2, 100));
	EXCEPTION WHEN data_exception THEN
		v_phone := NULL;
	END;
	IF v_number = '' OR v_phone IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY
		SELECT 'order'::varchar(10), o.number::varchar(100), o.state::varchar(63),
			(CASE o.state WHEN 'new' THEN 'Принят' WHEN 'confirmed' THEN 'Подтверждён' WHEN 'shipping' THEN 'Отгружается' WHEN 'closed' THEN 'Выполнен' ELSE 'Отменён' END)::varchar(255),
			date_trunc('second', o.ordered_at AT TIME ZONE zone), date_trunc('second', t.eta AT TIME ZONE zone)
		FROM (SELECT y.* FROM crm.customer_order y WHERE lower(y.number) = lower(v_number) OFFSET 0) o
		LEFT JOIN LATERAL (SELECT min(y.eta) AS eta FROM crm.trip_order x CROSS JOIN LATERAL (SELECT z.eta FROM crm.trip z WHERE z.id = x.trip_id AND z.state IN ('departed', 'approaching') OFFSET 0) y
			WHERE x.order_id = o.id) t ON true
		WHERE EXISTS (SELECT FROM crm.contact_point p CROSS JOIN LATERAL (SELECT y.company_id FROM crm.contact y WHERE y.id = p.contact_id AND y.archived_at IS NULL OFFSET 0) c
			WHERE p.value = v_phone AND p.kind = 'phone' AND p.state <> 'invalid' AND c.company_id = o.company_id)
		ORDER BY o.id DESC LIMIT 10;
	IF v_number ~ '^[0-9]{1,18}$' THEN
		RETURN QUERY
			SELECT 'lead'::varchar(10), l.id::text::varchar(100), coalesce(CASE WHEN l.status = 'taken' THEN s.code END, 'received')::varchar(63),
				coalesce(CASE WHEN l.status = 'taken' THEN s.name_ru END, 'Принята')::varchar(255), date_trunc('second', l.received_at AT TIME ZONE zone), NULL::timestamp
			FROM (SELECT y.* FROM crm.lead y WHERE y.id = v_number::bigint OFFSET 0) l
			LEFT JOIN LATERAL (SELECT y.stage_id FROM crm.deal y WHERE y.id = l.deal_id AND y.source = 'lead' AND y.source_id = l.id::text OFFSET 0) d ON true
			LEFT JOIN crm.stage s ON s.id = d.stage_id
			WHERE l.phone = v_phone;
	END IF;
END
$$;
COMMENT ON FUNCTION crm_erp.order_status(text, text) IS 'What a visitor may hear of an order or request by its number and a phone of its client (claim 8); no row where either is unknown: it does not say which. Error 55000 not active';

-- ---- what advertising cost ---------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm_erp.put_channel_cost(erp_id text, channel text DEFAULT NULL, from_day text DEFAULT NULL, to_day text DEFAULT NULL, amount text DEFAULT NULL, note text DEFAULT NULL)
	RETURNS crm_erp.put_result
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key       text := crm.erp_key($1, 'erp_id', true);
	v_channel text := lower(crm.erp_text($2, 'channel', 255));
	v_from    date := (crm.erp_time($3, 'from_day') AT TIME ZONE crm.erp_zone())::date;
	v_to      date := (crm.erp_time($4, 'to_day') AT TIME ZONE crm.erp_zone())::date;
	v_amount  numeric(15,2) := crm.erp_range(crm.erp_number($5, 'amount'), 'amount', 0, 1000000000000, 'roubles');
	v_note    text := crm.erp_text($6, 'note', 500);
	old_      crm.channel_cost;
	new_      crm.channel_cost;
BEGIN
	PERFORM crm.erp_begin();
	SELECT c.* INTO old_ FROM crm.channel_cost c WHERE c.source = 'erp' AND c.source_id = key FOR NO KEY UPDATE;
	new_ := old_;
	new_.channel := coalesce(v_channel, old_.channel);
	new_.from_day := coalesce(v_from, old_.from_day);
	new_.to_day := coalesce(v_to, old_.to_day, v_from);
	new_.amount := coalesce(v_amount, old_.amount);
	new_.note := crm.erp_keep(v_note, old_.note);
	IF new_.channel IS NULL OR new_.from_day IS NULL OR new_.amount IS NULL THEN
		PERFORM crm.erp_fail('22004', format('cost "%s" has no channel, day or amount', key), 'Send channel, from_day, to_day and amount when the cost is sent for the first time.');
	END IF;
	IF new_.to_day < new_.from_day OR new_.to_day - new_.from_day > 3700 THEN
		PERFORM crm.erp_fail('22023', format('cost "%s" is of %s to %s', key, new_.from_day, new_.to_day), 'Send the last day in to_day, not before from_day.');
	END IF;
	IF old_.id IS NULL THEN
		INSERT INTO crm.channel_cost (channel, from_day, to_day, amount, note, source, source_id) VALUES (new_.channel, new_.from_day, new_.to_day, new_.amount, new_.note, 'erp', key)
		RETURNING channel_cost.id INTO new_.id;
		RETURN ROW(new_.id, 'created', key)::crm_erp.put_result;
	ELSIF new_ IS NOT DISTINCT FROM old_ THEN
		RETURN ROW(old_.id, 'same', key)::crm_erp.put_result;
	END IF;
	UPDATE crm.channel_cost c SET channel = new_.channel, from_day = new_.from_day, to_day = new_.to_day, amount = new_.amount, note = new_.note WHERE c.id = old_.id;
	PERFORM crm.erp_note('channel_cost', old_.id, key, to_jsonb(old_), to_jsonb(new_));
	RETURN ROW(old_.id, 'updated', key)::crm_erp.put_result;
END
$$;
COMMENT ON FUNCTION crm_erp.put_channel_cost(text, text, text, text, text, text) IS 'Takes what a channel of advertising cost (crm.lead.channel, such as yandex), by the ERP''s id of the bill: from_day to to_day (both included), amount in roubles. All text; empty leaves. Answers id, result, erp_id. Errors, the advice in DETAIL too: 22004 no id, channel, day or amount, 22003 and 22P02 amount, 22007, 22008 and 22023 days, 55000 not active. Claim 45';

-- ---- views -------------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW crm_erp.lead AS
	SELECT l.id, l.source_lead_id::varchar(200) AS source_lead_id, l.source::varchar(63) AS site, l.form::varchar(100) AS form, l.status::varchar(10) AS status,
		left(l.spam_reason, 255)::varchar(255) AS spam_reason, l.times, left(l.name, 255)::varchar(255) AS name, l.phone::varchar(20) AS phone, left(l.email, 254)::varchar(254) AS email,
		left(l.company_name, 255)::varchar(255) AS company_name, l.product::varchar(300) AS product, l.quantity::numeric(15,3) AS quantity, l.channel::varchar(255) AS channel,
		l.company_id, l.contact_id, l.deal_id, date_trunc('second', l.received_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow')) AS received_at, l.message
	FROM crm.lead l;
COMMENT ON VIEW crm_erp.lead IS 'Requests of the site for the ERP and the site''s back end, spam too';
COMMENT ON COLUMN crm_erp.lead.id IS 'Key: our number';
COMMENT ON COLUMN crm_erp.lead.source_lead_id IS 'The site''s id';
COMMENT ON COLUMN crm_erp.lead.site IS 'Which site';
COMMENT ON COLUMN crm_erp.lead.form IS 'Which form';
COMMENT ON COLUMN crm_erp.lead.status IS 'taken or spam';
COMMENT ON COLUMN crm_erp.lead.spam_reason IS 'Why it is spam';
COMMENT ON COLUMN crm_erp.lead.times IS 'How often it came';
COMMENT ON COLUMN crm_erp.lead.name IS 'Name';
COMMENT ON COLUMN crm_erp.lead.phone IS 'Phone, E.164';
COMMENT ON COLUMN crm_erp.lead.email IS 'E-mail address';
COMMENT ON COLUMN crm_erp.lead.company_name IS 'Company as typed';
COMMENT ON COLUMN crm_erp.lead.product IS 'Product asked for';
COMMENT ON COLUMN crm_erp.lead.quantity IS 'How much of it';
COMMENT ON COLUMN crm_erp.lead.channel IS 'What brought the visitor';
COMMENT ON COLUMN crm_erp.lead.company_id IS 'crm_erp.company.id';
COMMENT ON COLUMN crm_erp.lead.contact_id IS 'crm_erp.contact.id';
COMMENT ON COLUMN crm_erp.lead.deal_id IS 'crm_erp.deal.id';
COMMENT ON COLUMN crm_erp.lead.received_at IS 'When it came, plant''s zone';
COMMENT ON COLUMN crm_erp.lead.message IS 'What was written';

CREATE OR REPLACE VIEW crm_erp.lead_in AS
	SELECT NULL::varchar(200) AS source_lead_id, NULL::varchar(63) AS site, NULL::varchar(60) AS submitted_at, NULL::varchar(100) AS form, NULL::varchar(2000) AS page_url, NULL::varchar(2000) AS referrer,
		NULL::varchar(255) AS name, NULL::varchar(100) AS phone, NULL::varchar(320) AS email, NULL::varchar(255) AS company, NULL::varchar(40) AS inn, NULL::text AS message, NULL::varchar(255) AS product,
		NULL::varchar(100) AS quantity, NULL::varchar(200) AS city, NULL::varchar(255) AS utm_source, NULL::varchar(255) AS utm_medium, NULL::varchar(255) AS utm_campaign, NULL::varchar(255) AS utm_content,
		NULL::varchar(255) AS utm_term, NULL::varchar(255) AS yclid, NULL::varchar(255) AS gclid, NULL::varchar(60) AS ip, NULL::varchar(255) AS user_agent, NULL::varchar(20) AS consent_processing,
		NULL::varchar(20) AS consent_advertising, NULL::varchar(100) AS consent_version, NULL::varchar(200) AS form_token
	WHERE false;
COMMENT ON VIEW crm_erp.lead_in IS 'For sites that can only INSERT: a row is a call of crm_erp.put_lead with these fields; holds no row (claims 2 and 8)';
COMMENT ON COLUMN crm_erp.lead_in.source_lead_id IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.site IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.submitted_at IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.form IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.page_url IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.referrer IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.name IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.phone IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.email IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.company IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.inn IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.message IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.product IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.quantity IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.city IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.utm_source IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.utm_medium IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.utm_campaign IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.utm_content IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.utm_term IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.yclid IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.gclid IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.ip IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.user_agent IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.consent_processing IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.consent_advertising IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.consent_version IS 'As the field of crm_erp.put_lead';
COMMENT ON COLUMN crm_erp.lead_in.form_token IS 'As the field of crm_erp.put_lead';

CREATE OR REPLACE VIEW crm_bi.lead WITH (security_invoker = true) AS
	SELECT l.id, date_trunc('second', l.received_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow')) AS received_at,
		(l.received_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow'))::date AS business_date, l.source::varchar(63) AS site, l.form::varchar(100) AS form, l.status::varchar(10) AS status,
		left(l.spam_reason, 255)::varchar(255) AS spam_reason, l.times, l.channel::varchar(255) AS channel,
		(l.first_touch ->> 'utm_medium')::varchar(255) AS utm_medium, (l.first_touch ->> 'utm_campaign')::varchar(255) AS utm_campaign,
		crm.lead_channel(l.last_touch)::varchar(255) AS last_channel, l.product::varchar(300) AS product, l.quantity, l.was_known::integer AS was_known, l.company_id, l.deal_id
	FROM crm.lead l;
COMMENT ON VIEW crm_bi.lead IS 'Requests of the site, without the persons';
COMMENT ON COLUMN crm_bi.lead.id IS 'crm.lead.id';
COMMENT ON COLUMN crm_bi.lead.received_at IS 'When it came, plant''s zone';
COMMENT ON COLUMN crm_bi.lead.business_date IS 'Day of the plant''s books';
COMMENT ON COLUMN crm_bi.lead.site IS 'Which site';
COMMENT ON COLUMN crm_bi.lead.form IS 'Which form';
COMMENT ON COLUMN crm_bi.lead.status IS 'taken or spam';
COMMENT ON COLUMN crm_bi.lead.spam_reason IS 'Why it is spam';
COMMENT ON COLUMN crm_bi.lead.times IS 'How often it came';
COMMENT ON COLUMN crm_bi.lead.channel IS 'What brought the visitor first';
COMMENT ON COLUMN crm_bi.lead.utm_medium IS 'UTM medium of that visit';
COMMENT ON COLUMN crm_bi.lead.utm_campaign IS 'UTM campaign of that visit';
COMMENT ON COLUMN crm_bi.lead.last_channel IS 'What brought the visitor when the form was sent';
COMMENT ON COLUMN crm_bi.lead.product IS 'Product asked for';
COMMENT ON COLUMN crm_bi.lead.quantity IS 'How much of it';
COMMENT ON COLUMN crm_bi.lead.was_known IS '1: the client was known already';
COMMENT ON COLUMN crm_bi.lead.company_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.lead.deal_id IS 'crm.deal.id';
SELECT crm.register_bi_view('crm_bi.lead', 'Requests of the site', 'Обращения с сайта', 'one lead', 'одно обращение', NULL);

CREATE OR REPLACE VIEW crm_bi.client_source WITH (security_invoker = true) AS
	SELECT c.id AS company_id, left(c.name, 255)::varchar(255) AS company_name, coalesce(f.channel, 'unknown')::varchar(255) AS channel, f.utm_medium::varchar(255) AS utm_medium,
		f.utm_campaign::varchar(255) AS utm_campaign, date_trunc('second', f.received_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow')) AS first_at, coalesce(z.last_channel, 'unknown')::varchar(255) AS last_channel,
		date_trunc('second', z.last_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow')) AS last_at, coalesce(n.leads, 0) AS leads, date_trunc('second', c.created_at AT TIME ZONE coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow')) AS created_at
	FROM crm.company c
	LEFT JOIN LATERAL (SELECT l.channel, l.first_touch ->> 'utm_medium' AS utm_medium,
			l.first_touch ->> 'utm_campaign' AS utm_campaign, l.received_at
		FROM crm.lead l WHERE l.company_id = c.id AND l.status = 'taken' ORDER BY l.received_at, l.id LIMIT 1) f ON true
	LEFT JOIN LATERAL (SELECT crm.lead_channel(l.last_touch) AS last_channel, l.last_at FROM crm.lead l WHERE l.company_id = c.id AND l.status = 'taken' ORDER BY l.last_at DESC, l.id DESC LIMIT 1) z ON true
	LEFT JOIN LATERAL (SELECT count(*) AS leads FROM crm.lead l WHERE l.company_id = c.id AND l.status = 'taken') n ON true
	WHERE c.is_client AND c.merged_into_id IS NULL;
COMMENT ON VIEW crm_bi.client_source IS 'Where each client came from (claim 45): first and last touch; a client who never sent a form is unknown, and is a row';
COMMENT ON COLUMN crm_bi.client_source.company_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.client_source.company_name IS 'Its name';
COMMENT ON COLUMN crm_bi.client_source.channel IS 'Channel of the first touch, or unknown';
COMMENT ON COLUMN crm_bi.client_source.utm_medium IS 'UTM medium of the first touch';
COMMENT ON COLUMN crm_bi.client_source.utm_campaign IS 'UTM campaign of the first touch';
COMMENT ON COLUMN crm_bi.client_source.first_at IS 'When its first lead came, plant''s zone; NULL: none';
COMMENT ON COLUMN crm_bi.client_source.last_channel IS 'Channel of the last touch, or unknown';
COMMENT ON COLUMN crm_bi.client_source.last_at IS 'When its last lead came, plant''s zone; NULL: none';
COMMENT ON COLUMN crm_bi.client_source.leads IS 'How many leads';
COMMENT ON COLUMN crm_bi.client_source.created_at IS 'Since when the client is known, plant''s zone';
SELECT crm.register_bi_view('crm_bi.client_source', 'Sources of clients', 'Источники клиентов', 'one client', 'один клиент', NULL);

CREATE OR REPLACE VIEW crm_bi.channel WITH (security_invoker = true) AS
	SELECT k.channel::varchar(255) AS channel, coalesce(l.leads, 0) AS leads, coalesce(l.spam, 0) AS spam, coalesce(l.repeats, 0) AS repeats, coalesce(c.clients, 0) AS clients,
		coalesce(l.deals, 0) AS deals, coalesce(l.won, 0) AS won, coalesce(c.ordered, 0)::numeric(18,2) AS ordered, coalesce(x.cost, 0)::numeric(18,2) AS cost,
		(CASE WHEN l.leads > 0 THEN 100.0 * l.won / l.leads END)::numeric(7,1) AS conversion_percent,
		(CASE WHEN x.cost > 0 THEN coalesce(c.ordered, 0) / x.cost END)::numeric(18,2) AS payback
	FROM (SELECT l.channel FROM crm.lead l UNION SELECT s.channel FROM crm_bi.client_source s UNION SELECT x.channel FROM crm.channel_cost x) k
	LEFT JOIN (
		SELECT l.channel, count(*) FILTER (WHERE l.status = 'taken') AS leads, count(*) FILTER (WHERE l.status = 'spam') AS spam,
			sum(l.times - 1) FILTER (WHERE l.status = 'taken') AS repeats, count(DISTINCT l.deal_id) FILTER (WHERE l.status = 'taken') AS deals,
			count(DISTINCT l.deal_id) FILTER (WHERE l.status = 'taken' AND s.is_won) AS won
		FROM crm.lead l LEFT JOIN crm.deal d ON d.id = l.deal_id LEFT JOIN crm.stage s ON s.id = d.stage_id
		GROUP BY l.channel) l ON l.channel = k.channel
	LEFT JOIN (
		SELECT s.channel, count(*) AS clients, sum(o.amount) AS ordered
		FROM crm_bi.client_source s
		LEFT JOIN (SELECT o.company_id, sum(round(o.tonnes * o.price, 2)) AS amount FROM crm.customer_order o WHERE o.state <> 'cancelled' GROUP BY o.company_id) o ON o.company_id = s.company_id
		GROUP BY s.channel) c ON c.channel = k.channel
	LEFT JOIN (SELECT x.channel, sum(x.amount) AS cost FROM crm.channel_cost x GROUP BY x.channel) x ON x.channel = k.channel;
COMMENT ON VIEW crm_bi.channel IS 'Channels compared (claim 45): requests, clients by their first touch, deals, orders, cost, payback. The clients of all channels are all clients, since unknown is a row';
COMMENT ON COLUMN crm_bi.channel.channel IS 'Channel, or unknown';
COMMENT ON COLUMN crm_bi.channel.leads IS 'Requests that were taken';
COMMENT ON COLUMN crm_bi.channel.spam IS 'Requests that were kept apart';
COMMENT ON COLUMN crm_bi.channel.repeats IS 'Forms that repeated a request';
COMMENT ON COLUMN crm_bi.channel.clients IS 'Clients whose first touch it was';
COMMENT ON COLUMN crm_bi.channel.deals IS 'Deals that its requests began or were noted on';
COMMENT ON COLUMN crm_bi.channel.won IS 'Of them won';
COMMENT ON COLUMN crm_bi.channel.ordered IS 'Sum of the orders of those clients that are not cancelled, roubles';
COMMENT ON COLUMN crm_bi.channel.cost IS 'What the channel cost, roubles (crm.channel_cost)';
COMMENT ON COLUMN crm_bi.channel.conversion_percent IS 'Deals won of requests, percent';
COMMENT ON COLUMN crm_bi.channel.payback IS 'Orders by cost; NULL: it cost nothing';
SELECT crm.register_bi_view('crm_bi.channel', 'Channels', 'Каналы', 'one channel', 'один канал', NULL);

-- ---- rows that ship ----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.ship_lead() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	lead_ bigint;
BEGIN
	INSERT INTO crm.lead_form (code, shipped) VALUES ('default', true) ON CONFLICT (code) DO NOTHING;
	INSERT INTO crm.funnel (code, name_ru, name_en, shipped) VALUES ('lead', 'Обращения', 'Requests', true) ON CONFLICT (code) DO NOTHING;
	SELECT f.id INTO lead_ FROM crm.funnel f WHERE f.code = 'lead';
	INSERT INTO crm.stage (funnel_id, code, name_ru, name_en, "position", is_won, is_lost, shipped)
	SELECT lead_, v.*, true
	FROM (VALUES
		('new', 'Новое', 'New', 10, false, false),
		('contacted', 'Связались', 'Contacted', 20, false, false),
		('qualified', 'Есть потребность', 'Qualified', 30, false, false),
		('sold', 'Стало заказом', 'Became an order', 40, true, false),
		('lost', 'Отказ', 'Lost', 50, false, true)) AS v
	ON CONFLICT (funnel_id, code) DO NOTHING;
	INSERT INTO crm.move_allowed (funnel_id, from_stage_id, to_stage_id, shipped)
	SELECT lead_, a.id, b.id, true
	FROM (VALUES ('new', 'contacted'), ('new', 'qualified'), ('new', 'lost'), ('contacted', 'qualified'), ('contacted', 'lost'), ('qualified', 'sold'), ('qualified', 'contacted'), ('qualified', 'lost'),
		('contacted', 'sold'), ('new', 'sold'), ('lost', 'new'), ('sold', 'qualified')) AS v(from_code, to_code)
	JOIN crm.stage a ON a.funnel_id = lead_ AND a.code = v.from_code
	JOIN crm.stage b ON b.funnel_id = lead_ AND b.code = v.to_code
	ON CONFLICT (from_stage_id, to_stage_id) DO NOTHING;
END
$$;
COMMENT ON FUNCTION crm.ship_lead() IS 'Writes the funnel that ships, lead: new, contacted, qualified, sold, lost, and how forms are judged (crm.lead_form, default). What is there stays as the DBA left it. Called by crm.activate()';
SELECT crm.register_hook('ship', 'lead', 'crm.ship_lead');

CREATE OR REPLACE FUNCTION crm.lead_forget(contact_id bigint) RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	number bigint;
BEGIN
	UPDATE crm.lead_touch t SET message = '[forgotten]', touch = '{}' WHERE t.lead_id IN (SELECT l.id FROM crm.lead l WHERE l.contact_id = lead_forget.contact_id) AND t.touch <> '{}';
	UPDATE crm.lead l SET name = '[forgotten]', phone = NULL, phone_raw = NULL, email = NULL, email_raw = NULL, message = NULL, address = NULL, user_agent = NULL, extra = '{}', page_url = NULL, referrer = NULL,
		consent = '{}', first_touch = l.first_touch - '{_ym_uid,_ga,roistat_visit,comagic_id,calltracking_id,yclid,gclid,ymclid,referrer,page_url}'::text[],
		last_touch = l.last_touch - '{_ym_uid,_ga,roistat_visit,comagic_id,calltracking_id,yclid,gclid,ymclid,referrer,page_url}'::text[]
	WHERE l.contact_id = lead_forget.contact_id AND l.name IS DISTINCT FROM '[forgotten]';
	GET DIAGNOSTICS number = ROW_COUNT;
	RETURN number;
END
$$;
COMMENT ON FUNCTION crm.lead_forget(bigint) IS 'What crm.forget() does to the leads of a contact: the person goes, channel, form and counts stay';
SELECT crm.register_hook('forget', 'lead', 'crm.lead_forget');

CREATE OR REPLACE FUNCTION crm.lead_maintain() RETURNS void
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	DELETE FROM crm.lead_ask a WHERE a.hour < crm.now() - interval '2 hours';
END;
COMMENT ON FUNCTION crm.lead_maintain() IS 'Drops counts of questions that no limit looks at any more';
SELECT crm.register_hook('maintain', 'lead', 'crm.lead_maintain');

CREATE OR REPLACE FUNCTION crm.lead_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN;
	END IF;
	RETURN QUERY
		SELECT 'notice', 'leads', format('%s of the %s requests of the last seven days were kept apart as spam.', count(*) FILTER (WHERE l.status = 'spam'), count(*)),
			'SELECT id, name, spam_reason FROM crm.lead WHERE status = ''spam''; SELECT crm.restore_lead(id); takes one back.', max(l.last_at) FILTER (WHERE l.status = 'spam')
		FROM crm.lead l WHERE l.received_at > crm.now() - interval '7 days'
		HAVING count(*) FILTER (WHERE l.status = 'spam') > 10 AND count(*) FILTER (WHERE l.status = 'spam') * 2 > count(*)
		UNION ALL
		SELECT 'warning', 'leads', format('%s requests of the last seven days have no deal.', count(*)),
			'Look at the funnel that crm.lead_form names: it is switched off, or has no stage.', min(l.received_at)
		FROM crm.lead l WHERE l.received_at > crm.now() - interval '7 days' AND l.status = 'taken' AND l.deal_id IS NULL
		HAVING count(*) > 0
		UNION ALL
		SELECT 'warning', 'leads', format('%s consents of the last seven days came without their words, and are not recorded.', count(*)),
			'Send consent_version with the form, and make the version known: SELECT crm.put_consent_text(…).', min(l.received_at)
		FROM crm.lead l CROSS JOIN LATERAL jsonb_each(l.consent) c WHERE l.received_at > crm.now() - interval '7 days' AND c.value ? 'problem'
		HAVING count(*) > 0;
END
$$;
COMMENT ON FUNCTION crm.lead_health() IS 'Rows of crm.health about leads: much spam, leads without a deal, consents without words';
SELECT crm.register_hook('health', 'lead', 'crm.lead_health');

SELECT crm.register_foreign_key('crm.lead', 'company_id', 'crm.company', 'id', 'SET NULL');
SELECT crm.register_foreign_key('crm.lead', 'contact_id', 'crm.contact', 'id', 'SET NULL');
SELECT crm.register_foreign_key('crm.lead', 'deal_id', 'crm.deal', 'id', 'SET NULL');
SELECT crm.register_foreign_key('crm.lead_touch', 'lead_id', 'crm.lead', 'id', 'CASCADE');
SELECT crm.register_no_foreign_key('crm.lead', 'source_lead_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.lead_touch', 'source_lead_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.channel_cost', 'source_id', 'an id of another system');
