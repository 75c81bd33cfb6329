/*
 * message: forgetting a person.  May be run again at any time.
 *
 * The person's name, phones and addresses are taken out of every table of crm;
 * every row stays, so that no count and no report changes.
 */

CREATE OR REPLACE FUNCTION crm.forget_pattern(kind text, value text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	quoted constant text := '([][\\.^$*+?(){}|])';
	between constant text := '(?:%20|[\s().-]){0,3}';
	digits text := regexp_replace(value, '\D', '', 'g');
	words text;
	number integer;
BEGIN
	IF kind = 'phone' AND length(digits) >= 7 THEN
		IF digits ~ '^7[0-9]{10}$' THEN
			RETURN '(?<![0-9])(?:(?:\+|%2B)?[78]' || between || ')?' || array_to_string(regexp_split_to_array(substr(digits, 2), ''), between) || '(?![0-9])';
		END IF;
		RETURN '(?<![0-9])(?:\+|%2B|00)?' || array_to_string(regexp_split_to_array(digits, ''), between) || '(?![0-9])';
	ELSIF kind = 'email' THEN
		RETURN '(?<![a-z0-9._-])' || replace(regexp_replace(value, quoted, '\\\1', 'g'), '@', '(?:@|%40)') || '(?![a-z0-9-])';
	ELSIF kind = 'name' THEN
		-- its words in any order: surname first, or last
		SELECT '(?:' || string_agg(regexp_replace(w.word, quoted, '\\\1', 'g'), '|') || '|' || string_agg(regexp_replace(crm.url_encode(w.word), quoted, '\\\1', 'g'), '|') || ')',
			count(*) INTO words, number
		FROM regexp_split_to_table(btrim(value), '\s+') AS w(word);
		RETURN '(?<![[:alnum:]])' || words || CASE WHEN number > 1 THEN '(?:(?:\s|[+]|%20)+' || words || ')+' ELSE '' END || '(?![[:alnum:]])';
	ELSIF length(value) >= 5 THEN
		RETURN '(?<![[:alnum:]])' || regexp_replace(value, quoted, '\\\1', 'g') || '(?![[:alnum:]])';
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.forget_pattern(text, text) IS 'A regular expression that finds a phone in every spelling, an address, a name with its words in any order, also percent-encoded; NULL for what is too short to be looked for. kind: phone, email, telegram, name';

CREATE OR REPLACE FUNCTION crm.forget_json(value jsonb, pattern text, alias text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	RETURN CASE jsonb_typeof(value)
		WHEN 'string' THEN to_jsonb(regexp_replace(value #>> '{}', pattern, alias, 'gi'))
		WHEN 'number' THEN CASE WHEN value #>> '{}' ~* pattern THEN to_jsonb(alias) ELSE value END
		WHEN 'object' THEN (SELECT COALESCE(jsonb_object_agg(regexp_replace(e.key, pattern, alias, 'gi'), crm.forget_json(e.value, pattern, alias)), '{}') FROM jsonb_each(value) e)
		WHEN 'array' THEN (SELECT COALESCE(jsonb_agg(crm.forget_json(e.value, pattern, alias) ORDER BY e.n), '[]') FROM jsonb_array_elements(value) WITH ORDINALITY AS e(value, n))
		ELSE value END;
END
$$;
COMMENT ON FUNCTION crm.forget_json(jsonb, text, text) IS 'A JSON value in which every text, key and number that a pattern finds is replaced by an alias';

CREATE OR REPLACE FUNCTION crm.forget_found(bytes bytea, pattern text, needles bytea[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
	SELECT encode($1, 'escape') ~* $2 OR EXISTS (SELECT FROM unnest($3) AS n(bytes) WHERE position(n.bytes IN $1) > 0)
$$;
COMMENT ON FUNCTION crm.forget_found(bytea, text, bytea[]) IS 'Whether a pattern (in ASCII) or one of the strings stands in bytes';

CREATE OR REPLACE FUNCTION crm.forget(contact_id bigint) RETURNS TABLE (what text, changed bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	c crm.contact%ROWTYPE;
	alias text := 'forgotten:' || $1;
	ids bigint[];
	busy bigint;
	waiting bigint[];
	everywhere text;
	own text;
	needles bytea[] := '{}';
	rest text[];
	p record;
	t record;
	hook record;
	n bigint;
	done jsonb := '{}';
	merged jsonb := '{}';
BEGIN
	SELECT x.* INTO c FROM crm.contact x WHERE x.id = $1 FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('contact %s is not there', COALESCE($1::text, 'NULL')),
			HINT = 'SELECT id, name FROM crm.contact lists them.';
	END IF;
	-- the same person under other numbers
	FOR p IN SELECT x.id FROM crm.contact x WHERE x.merged_into_id = $1 AND x.source <> 'forgotten' ORDER BY x.id LOOP
		FOR t IN SELECT f.what, f.changed FROM crm.forget(p.id) f LOOP
			merged := jsonb_set(merged, ARRAY[t.what], to_jsonb(COALESCE((merged ->> t.what)::bigint, 0) + t.changed));
		END LOOP;
	END LOOP;

	-- What the person is known by. What another contact or employee shares is not looked for in rows of others.
	FOR p IN
		SELECT v.kind, v.value, crm.forget_pattern(v.kind, v.value) AS pattern,
			CASE v.kind
				WHEN 'name' THEN v.value !~ '\S\s+\S' OR EXISTS (SELECT FROM crm.contact x WHERE x.id <> $1 AND lower(x.name) = lower(v.value))
					OR EXISTS (SELECT FROM crm.employee x WHERE lower(x.name) = lower(v.value))
				WHEN 'telegram' THEN true
				ELSE EXISTS (SELECT FROM crm.contact_point x WHERE x.contact_id <> $1 AND x.value = v.value)
					OR EXISTS (SELECT FROM crm.line x WHERE x.value = v.value) END AS shared
		FROM (SELECT 'name' AS kind, c.name AS value WHERE c.source <> 'forgotten'
			  UNION SELECT x.kind, x.value FROM crm.contact_point x WHERE x.contact_id = $1
			  UNION SELECT CASE b.channel WHEN 'sms' THEN 'phone' ELSE b.channel END, b.recipient FROM crm.message_said b WHERE b.contact_id = $1) v
		WHERE v.value NOT LIKE 'forgotten:%'
		ORDER BY 1, 2
	LOOP
		CONTINUE WHEN p.pattern IS NULL;
		own := concat_ws('|', own, p.pattern);
		IF NOT p.shared THEN
			everywhere := concat_ws('|', everywhere, p.pattern);
			rest := rest || p.value;
			IF p.kind = 'name' THEN
				needles := needles || convert_to(p.value, 'UTF8') || convert_to(upper(p.value), 'UTF8') || convert_to(lower(p.value), 'UTF8')
					|| convert_to((SELECT string_agg(CASE WHEN ascii(l.l) < 128 THEN l.l ELSE '\u' || lpad(to_hex(ascii(l.l)), 4, '0') END, '' ORDER BY l.n)
						FROM regexp_split_to_table(p.value, '') WITH ORDINALITY AS l(l, n)), 'UTF8');
				IF p.value !~ '[^[:ascii:]А-Яа-яЁё]' THEN
					needles := needles || convert_to(p.value, 'WIN1251');
				END IF;
			END IF;
		END IF;
	END LOOP;

	-- Nothing more leaves for this person.
	SELECT array_agg(b.id ORDER BY b.id) INTO ids FROM crm.message_said b
	WHERE b.contact_id = $1 OR b.contact_id IS NULL AND b.recipient = ANY (rest);
	ids := COALESCE(ids, '{}');
	PERFORM crm.chain_shut(ids);
	SELECT min(m.id) FILTER (WHERE m.state = 'sending'), array_agg(m.id) FILTER (WHERE m.state = 'queued') INTO busy, waiting
	FROM crm.message m WHERE m.id = ANY (ids);
	IF busy IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55006', MESSAGE = format('message %s to contact %s is on the wire', busy, $1),
			HINT = 'Call again in a moment; nothing was changed.';
	END IF;
	IF waiting IS NOT NULL THEN
		PERFORM crm.chain_stop(waiting, array_fill('the reader was forgotten'::text, ARRAY[cardinality(waiting)]));
	END IF;
	DELETE FROM crm.message_timer x WHERE x.message_id = ANY (ids);

	PERFORM crm.rewrite_door(true);
	-- What is the person's own goes whole.
	UPDATE crm.message_body b SET recipient = alias, body = '[forgotten]', subject = left(b.subject, 0) || '[forgotten]', html = left(b.html, 0) || '[forgotten]'
	WHERE b.id = ANY (ids) AND b.recipient <> alias;
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.message_body', n);
	UPDATE crm.message_history b SET recipient = alias, body = '[forgotten]', subject = left(b.subject, 0) || '[forgotten]', html = left(b.html, 0) || '[forgotten]',
		last_error = CASE WHEN own IS NULL THEN b.last_error ELSE regexp_replace(b.last_error, own, alias, 'gi') END
	WHERE b.id = ANY (ids) AND b.recipient <> alias;
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.message_history', n);
	UPDATE crm.message_attachment a SET name = 'forgotten-' || a.id, content = '' WHERE a.message_id = ANY (ids) AND a.name <> 'forgotten-' || a.id;
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.message_attachment', n);
	UPDATE crm.message_fallback f SET steps = '[]'
	WHERE f.message_id IN (SELECT COALESCE(b.chain_id, b.id) FROM crm.message_said b WHERE b.id = ANY (ids)) AND f.steps <> '[]';
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.message_fallback', n);
	UPDATE crm.event e SET data = e.data || jsonb_build_object('recipient', alias, 'body', '[forgotten]')
	WHERE e.object_kind = 'message' AND e.object_id = ANY (ids) AND e.data ->> 'recipient' <> alias;
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.event', n);
	IF own IS NOT NULL THEN
		UPDATE crm.message_attempt a SET words = regexp_replace(a.words, own, alias, 'gi') WHERE a.message_id = ANY (ids) AND a.words ~* own;
		GET DIAGNOSTICS n = ROW_COUNT;
		done := done || jsonb_build_object('crm.message_attempt', n);
		UPDATE crm.message_result r SET words = regexp_replace(r.words, own, alias, 'gi') WHERE r.message_id = ANY (ids) AND r.words ~* own;
		GET DIAGNOSTICS n = ROW_COUNT;
		done := done || jsonb_build_object('crm.message_result', n);
		UPDATE crm.event e SET data = crm.forget_json(e.data, own, alias)
		WHERE e.object_kind = 'message' AND e.object_id = ANY (ids) AND e.data::text ~* own;
	END IF;
	-- the rooms above, which may still read by what the person is known
	FOR hook IN SELECT h.name, h.function FROM crm.hook h WHERE h.point = 'forget' ORDER BY h.position LOOP
		EXECUTE format('SELECT %s($1)', hook.function) INTO n USING $1;
		done := done || jsonb_build_object(hook.name, n);
	END LOOP;
	UPDATE crm.consent x SET form = NULL, page = NULL, address = NULL, user_agent = NULL, withdrawn_how = NULL, wording = '[forgotten]', source_id = NULL
	WHERE x.contact_id = $1 AND x.wording <> '[forgotten]';
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.consent', n);
	UPDATE crm.contact x SET name = alias, "position" = NULL, source = 'forgotten', source_id = NULL, archived_at = COALESCE(x.archived_at, crm.now())
	WHERE x.id = $1 AND x.source <> 'forgotten';
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.contact', n);
	-- after the contact: what nobody holds any more is no key
	UPDATE crm.contact_point x SET value = 'forgotten:' || x.id, raw = NULL, state = 'invalid', verified_by = NULL
	WHERE x.contact_id = $1 AND x.value <> 'forgotten:' || x.id;
	GET DIAGNOSTICS n = ROW_COUNT;
	done := done || jsonb_build_object('crm.contact_point', n);

	-- Then whatever names the person in a row of something else: every table, every text.
	IF everywhere IS NOT NULL THEN
		FOR t IN
			SELECT r.oid::regclass::text AS name, COALESCE(i.inhparent, r.oid)::regclass::text AS whole,
				string_agg(CASE a.atttypid::regtype::text
					WHEN 'jsonb' THEN format('%1$I = crm.forget_json(%1$I, $1, $2)', a.attname)
					WHEN 'bytea' THEN format('%1$I = CASE WHEN crm.forget_found(%1$I, $1, $3) THEN convert_to(''[forgotten]'', ''UTF8'') ELSE %1$I END', a.attname)
					WHEN 'text[]' THEN format('%1$I = (SELECT array_agg(regexp_replace(u.u, $1, $2, ''gi'') ORDER BY u.n) FROM unnest(%1$I) WITH ORDINALITY AS u(u, n))', a.attname)
					ELSE format('%1$I = regexp_replace(%1$I, $1, $2, ''gi'')', a.attname) END, ', ' ORDER BY a.attnum) AS sets,
				string_agg(CASE a.atttypid::regtype::text
					WHEN 'bytea' THEN format('crm.forget_found(%I, $1, $3)', a.attname)
					WHEN 'jsonb' THEN format('%I::text ~* $1', a.attname)
					WHEN 'text[]' THEN format('array_to_string(%I, E''\n'') ~* $1', a.attname)
					ELSE format('%I ~* $1', a.attname) END, ' OR ' ORDER BY a.attnum) AS finds
			FROM pg_class r
			LEFT JOIN pg_inherits i ON i.inhrelid = r.oid
			JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
				AND a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'jsonb'::regtype, 'bytea'::regtype, 'text[]'::regtype)
			WHERE r.relnamespace = 'crm'::regnamespace AND r.relkind = 'r'
				-- what the plant itself has written: its people, its services, its texts
				AND r.relname <> ALL (ARRAY['employee', 'line', 'team', 'integration', 'integration_kind', 'secret', 'route', 'sandbox_recipient', 'rule', 'rule_version',
					'template', 'template_version', 'forgotten', 'foreign_key', 'hook', 'granted', 'dump_rule', 'partitioned', 'growing', 'retention_kind', 'retention_choice',
					'failure_rule', 'merge_rule', 'party_setting', 'party_key'])
			GROUP BY r.oid, i.inhparent
			ORDER BY 1
		LOOP
			EXECUTE format('UPDATE %s SET %s WHERE %s', t.name, t.sets, t.finds) USING everywhere, alias, needles;
			GET DIAGNOSTICS n = ROW_COUNT;
			done := jsonb_set(done, ARRAY[t.whole], to_jsonb(COALESCE((done ->> t.whole)::bigint, 0) + n));
		END LOOP;
	END IF;
	PERFORM crm.rewrite_door(false);
	SELECT COALESCE(jsonb_object_agg(x.key, x.n), '{}') INTO done
	FROM (SELECT u.key, sum(u.value::bigint) AS n FROM (SELECT * FROM jsonb_each_text(done) UNION ALL SELECT * FROM jsonb_each_text(merged)) u GROUP BY 1) x;

	RETURN QUERY SELECT d.key, d.value::bigint FROM jsonb_each_text(done) d WHERE d.value::bigint > 0 ORDER BY 1;
	IF FOUND THEN
		INSERT INTO crm.forgotten (contact_id, changed)
		SELECT $1, jsonb_object_agg(d.key, d.value) FROM jsonb_each(done) d WHERE d.value <> '0';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.forget(bigint) IS
'Forgets a person: name, phones, addresses and the texts sent to them are taken out of every table of crm, events, tries, rejected bytes and the ERP''s changes too; every row and every count stays. Messages that wait are cancelled. The contact stays under the name forgotten:ID, archived, without the ERP''s number: the same person who comes again is a new contact. A name of one word, and what another contact shares, is taken out of the person''s own rows only; what the plant has written itself (employees, services, rules, templates) is left. Reads every table once. Returns the rows that it rewrote, by table; again: none. Kept in crm.forgotten. Errors: P0002 no such contact, 55006 a message of theirs is on the wire this very moment';
