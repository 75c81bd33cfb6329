-- party: merging what is one, and taking it back. Code: may be run any number of times.
--
-- The loser's row stays and points to the winner (merged_into_id). What hangs on it and has no owner outside goes
-- over, row by row noted in crm.merge_row. What another system owns, and what a report counts, keeps the number that
-- it came under: history does not change by a merge, and what comes later for the loser's own id lands where it would
-- have landed without one. Readers ask crm.company_ids().

CREATE OR REPLACE FUNCTION crm.register_merge(child text, child_column text, action text, reason text, condition text DEFAULT NULL) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.merge_rule AS r (child, child_column, action, condition, reason) VALUES ($1, $2, $3, $5, $4)
	ON CONFLICT (child, child_column) DO UPDATE SET action = EXCLUDED.action, condition = EXCLUDED.condition, reason = EXCLUDED.reason;
END;
COMMENT ON FUNCTION crm.register_merge(text, text, text, text, text) IS 'Says what a merge does with a reference of crm.foreign_key: move (with a condition: only those rows) or keep, and why. Called by the script; without a call it goes over';

CREATE OR REPLACE FUNCTION crm.merge_move(merge_id bigint, parent text, loser_id bigint, winner_id bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k     record;
	n     bigint;
	moved bigint := 0;
BEGIN
	FOR k IN
		SELECT f.child, f.child_column, coalesce(r.condition, 'true') AS condition,
			(SELECT string_agg(format('%L, t.%I', a.attname, a.attname), ', ' ORDER BY a.attnum)
				FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = f.child::regclass AND i.indisprimary) AS key,
			-- what the winner has already stays where it is
			coalesce((SELECT string_agg(format(' AND NOT EXISTS (SELECT FROM %s w WHERE w.%I = $2%s)', f.child, f.child_column,
				(SELECT string_agg(format(' AND w.%I = t.%I', a.attname, a.attname), '' ORDER BY a.attnum) FROM pg_attribute a
					WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attname <> f.child_column)), '')
				FROM pg_index i WHERE i.indrelid = f.child::regclass AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
					AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attname = f.child_column)), '') AS free
		FROM crm.foreign_key f LEFT JOIN crm.merge_rule r USING (child, child_column)
		WHERE f.parent = merge_move.parent AND f.parent_column = 'id' AND coalesce(r.action, 'move') = 'move'
		ORDER BY f.child, f.child_column
	LOOP
		EXECUTE format('WITH moved AS (UPDATE %1$s t SET %2$I = $2 WHERE t.%2$I = $1 AND (%3$s)%4$s RETURNING jsonb_build_object(%5$s) AS key)
			INSERT INTO crm.merge_row (merge_id, child, child_column, row_key) SELECT $3, %1$L, %2$L, m.key FROM moved m',
			k.child, k.child_column, k.condition, k.free, k.key) USING loser_id, winner_id, merge_id;
		GET DIAGNOSTICS n = ROW_COUNT;
		moved := moved + n;
	END LOOP;
	RETURN moved;
END
$$;
COMMENT ON FUNCTION crm.merge_move(bigint, text, bigint, bigint) IS 'Points what hangs on the loser to the winner and notes it; returns how many rows. For crm.merge_companies and crm.merge_contacts';

CREATE OR REPLACE FUNCTION crm.merge_give_back(merge_id bigint, loser_id bigint, winner_ids bigint[]) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k    record;
	n    bigint;
	back bigint := 0;
BEGIN
	FOR k IN
		SELECT r.child, r.child_column,
			(SELECT string_agg(format('t.%I = (r.row_key ->> %L)::%s', a.attname, a.attname, format_type(a.atttypid, a.atttypmod)), ' AND ' ORDER BY a.attnum)
				FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = r.child::regclass AND i.indisprimary) AS same
		FROM (SELECT DISTINCT x.child, x.child_column FROM crm.merge_row x WHERE x.merge_id = merge_give_back.merge_id) r
		ORDER BY 1, 2
	LOOP
		-- one that a person gave to somebody else meanwhile stays there
		EXECUTE format('UPDATE %1$s t SET %2$I = $2 FROM crm.merge_row r WHERE r.merge_id = $1 AND r.child = %1$L AND r.child_column = %2$L AND %3$s AND t.%2$I = ANY ($3)',
			k.child, k.child_column, k.same) USING merge_id, loser_id, winner_ids;
		GET DIAGNOSTICS n = ROW_COUNT;
		back := back + n;
	END LOOP;
	RETURN back;
END
$$;
COMMENT ON FUNCTION crm.merge_give_back(bigint, bigint, bigint[]) IS 'Points the rows of a merge back to the loser, those that still point to one of the winner''s numbers; returns how many';

CREATE OR REPLACE FUNCTION crm.merge_refused(object_kind text, loser_id bigint, winner_id bigint, loser_there boolean, winner_there boolean, loser_into bigint, winner_now bigint) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF loser_id = winner_id THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s %s cannot be merged with itself', object_kind, loser_id), HINT = 'Name two: the one that goes, then the one that stays.';
	ELSIF NOT coalesce(loser_there, false) OR NOT coalesce(winner_there, false) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('%s %s is not there', object_kind, CASE WHEN coalesce(loser_there, false) THEN winner_id ELSE loser_id END),
			HINT = 'SELECT * FROM crm.duplicate_candidates; lists what may be one.';
	ELSIF loser_into IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s %s was merged into %s already', object_kind, loser_id, loser_into),
			HINT = format('Merge %s, or take that merge back first.', loser_into);
	ELSIF winner_now <> winner_id THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('%s %s goes under %s itself', object_kind, winner_id, winner_now),
			HINT = CASE WHEN winner_now = loser_id THEN 'They are one already.' ELSE format('Merge into %s.', winner_now) END;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.merge_refused(text, bigint, bigint, boolean, boolean, bigint, bigint) IS 'Raises why two cannot be merged: 22023 with itself, P0002 not there, 55000 merged already (so no ring can come to be)';

CREATE OR REPLACE FUNCTION crm.merge_companies(loser_id bigint, winner_id bigint, reason text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l     crm.company;
	w     crm.company;
	id_   bigint;
	fill  jsonb := '{}';
	rows_ bigint;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active', HINT = 'SELECT crm.activate();';
	END IF;
	-- in one order: two who merge the same pair the other way round wait, and the second is told
	PERFORM FROM crm.company c WHERE c.id IN (loser_id, winner_id) ORDER BY c.id FOR UPDATE;
	SELECT c.* INTO l FROM crm.company c WHERE c.id = loser_id;
	SELECT c.* INTO w FROM crm.company c WHERE c.id = winner_id;
	-- what he may not see is not there for him
	IF NOT crm.party_visible(l.id) THEN
		l := NULL;
	END IF;
	IF NOT crm.party_visible(w.id) THEN
		w := NULL;
	END IF;
	PERFORM crm.merge_refused('company', loser_id, winner_id, l.id IS NOT NULL, w.id IS NOT NULL, l.merged_into_id, crm.company_now(w.id));
	IF w.inn IS NULL AND l.inn IS NOT NULL THEN
		fill := fill || jsonb_build_object('inn', jsonb_build_array(w.inn, l.inn), 'kpp', jsonb_build_array(w.kpp, l.kpp));
	END IF;
	IF w.full_name IS NULL AND l.full_name IS NOT NULL THEN
		fill := fill || jsonb_build_object('full_name', jsonb_build_array(w.full_name, l.full_name));
	END IF;
	IF l.is_client AND NOT w.is_client THEN
		fill := fill || '{"is_client": [false, true]}';
	END IF;
	IF l.is_carrier AND NOT w.is_carrier THEN
		fill := fill || '{"is_carrier": [false, true]}';
	END IF;
	IF w.owner_id IS NULL AND l.owner_id IS NOT NULL THEN
		fill := fill || jsonb_build_object('owner_id', jsonb_build_array(w.owner_id, l.owner_id));
	END IF;
	INSERT INTO crm.merge (object_kind, loser_id, winner_id, reason, merged_by, before)
	VALUES ('company', l.id, w.id, left(merge_companies.reason, 2000), crm.me_name(), jsonb_build_object(
		'loser', jsonb_build_object('archived_at', l.archived_at, 'owner_id', l.owner_id), 'winner', fill,
		'responsibility', coalesce((SELECT jsonb_agg(to_jsonb(r) ORDER BY r.id) FROM crm.responsibility r WHERE r.company_id = l.id), '[]'),
		'winner_responsibility', CASE WHEN fill ? 'owner_id' THEN coalesce((SELECT jsonb_agg(to_jsonb(r) ORDER BY r.id) FROM crm.responsibility r WHERE r.company_id = w.id), '[]') END))
	RETURNING merge.id INTO id_;
	rows_ := crm.merge_move(id_, 'crm.company', l.id, w.id);
	UPDATE crm.merge m SET moved = rows_ WHERE m.id = id_ AND rows_ > 0;
	-- from now on who has the winner has what came under the loser's number too
	UPDATE crm.company c SET merged_into_id = w.id, archived_at = coalesce(c.archived_at, crm.now()), owner_id = coalesce(w.owner_id, c.owner_id) WHERE c.id = l.id;
	IF fill <> '{}' THEN
		UPDATE crm.company c SET inn = coalesce(c.inn, fill -> 'inn' ->> 1), kpp = CASE WHEN fill ? 'inn' THEN fill -> 'kpp' ->> 1 ELSE c.kpp END,
			full_name = coalesce(c.full_name, fill -> 'full_name' ->> 1), is_client = c.is_client OR fill ? 'is_client', is_carrier = c.is_carrier OR fill ? 'is_carrier',
			owner_id = coalesce(c.owner_id, (fill -> 'owner_id' ->> 1)::bigint)
		WHERE c.id = w.id;
	END IF;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.merge_companies(bigint, bigint, text) IS 'Two companies are one: the first goes under the number of the second from now on. Contacts, places, addresses, open deals, tasks and notes go over; orders, trips, documents, contracts and what else another system owns or a report counts keep their number and are read through crm.company_ids(); who is responsible for the second is for both. What the second lacks (INN with KPP, full name, owner) it gets from the first. Returns crm.merge.id. Errors: 22023 with itself, P0002 not there, 55000 merged already or database not active, 42501';

CREATE OR REPLACE FUNCTION crm.merge_contacts(loser_id bigint, winner_id bigint, reason text DEFAULT NULL) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l     crm.contact;
	w     crm.contact;
	id_   bigint;
	fill  jsonb := '{}';
	rows_ bigint;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active', HINT = 'SELECT crm.activate();';
	END IF;
	PERFORM FROM crm.contact c WHERE c.id IN (loser_id, winner_id) ORDER BY c.id FOR UPDATE;
	SELECT c.* INTO l FROM crm.contact c WHERE c.id = loser_id;
	SELECT c.* INTO w FROM crm.contact c WHERE c.id = winner_id;
	-- what he may not see is not there for him
	IF NOT crm.party_visible(l.company_id) THEN
		l := NULL;
	END IF;
	IF NOT crm.party_visible(w.company_id) THEN
		w := NULL;
	END IF;
	PERFORM crm.merge_refused('contact', loser_id, winner_id, l.id IS NOT NULL, w.id IS NOT NULL, l.merged_into_id, crm.contact_now(w.id));
	IF 'employee' IN (l.source, w.source) OR 'forgotten' IN (l.source, w.source) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('contact %s is %s', CASE WHEN l.source IN ('employee', 'forgotten') THEN l.id ELSE w.id END,
			CASE WHEN 'employee' IN (l.source, w.source) THEN 'an employee of ours' ELSE 'forgotten' END), HINT = 'Only people at clients and carriers are merged.';
	END IF;
	SELECT coalesce(jsonb_object_agg(a.key, jsonb_build_array(b.value, a.value)), '{}') INTO fill
	FROM jsonb_each(to_jsonb(l)) a JOIN jsonb_each(to_jsonb(w)) b USING (key)
	WHERE a.key IN ('company_id', 'position', 'language', 'time_zone', 'channel') AND b.value = 'null' AND a.value <> 'null';
	IF l.is_decision_maker AND NOT w.is_decision_maker THEN
		fill := fill || '{"is_decision_maker": [false, true]}';
	END IF;
	INSERT INTO crm.merge (object_kind, loser_id, winner_id, reason, merged_by, before)
	VALUES ('contact', l.id, w.id, left(merge_contacts.reason, 2000), crm.me_name(), jsonb_build_object('loser', jsonb_build_object('archived_at', l.archived_at), 'winner', fill))
	RETURNING merge.id INTO id_;
	rows_ := crm.merge_move(id_, 'crm.contact', l.id, w.id);
	UPDATE crm.merge m SET moved = rows_ WHERE m.id = id_ AND rows_ > 0;
	UPDATE crm.contact c SET merged_into_id = w.id, archived_at = coalesce(c.archived_at, crm.now()) WHERE c.id = l.id;
	IF fill <> '{}' THEN
		UPDATE crm.contact c SET company_id = coalesce(c.company_id, (fill -> 'company_id' ->> 1)::bigint), "position" = coalesce(c."position", fill -> 'position' ->> 1),
			language = coalesce(c.language, fill -> 'language' ->> 1), time_zone = coalesce(c.time_zone, fill -> 'time_zone' ->> 1),
			channel = coalesce(c.channel, fill -> 'channel' ->> 1), is_decision_maker = c.is_decision_maker OR fill ? 'is_decision_maker'
		WHERE c.id = w.id;
	END IF;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.merge_contacts(bigint, bigint, text) IS 'Two contacts are one person: the first goes under the number of the second from now on, and is put away. Phones, addresses, consents, schedules, open deals and orders go over; a phone that both have stays where it is. Returns crm.merge.id. Errors: 22023 with itself, or an employee''s or a forgotten one, P0002 not there, 55000 merged already or database not active, 42501';

CREATE OR REPLACE FUNCTION crm.unmerge(merge_id bigint) RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	m    crm.merge;
	back bigint;
	c    crm.company;
	p    crm.contact;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active', HINT = 'SELECT crm.activate();';
	END IF;
	SELECT x.* INTO m FROM crm.merge x WHERE x.id = unmerge.merge_id FOR UPDATE;
	IF NOT FOUND OR m.undone_at IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = CASE WHEN m.id IS NULL THEN 'P0002' ELSE '55000' END,
			MESSAGE = format('merge %s %s', coalesce(unmerge.merge_id::text, 'NULL'), CASE WHEN m.id IS NULL THEN 'is not there' ELSE 'was taken back already' END),
			HINT = 'SELECT id, object_kind, loser_id, winner_id FROM crm.merge WHERE undone_at IS NULL;';
	END IF;
	IF m.object_kind = 'company' THEN
		PERFORM FROM crm.company x WHERE x.id IN (m.loser_id, m.winner_id) ORDER BY x.id FOR UPDATE;
		IF NOT (crm.party_visible(m.loser_id) AND crm.party_visible(m.winner_id)) THEN
			RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'this merge is not yours to take back', HINT = 'Ask your head.';
		END IF;
		back := crm.merge_give_back(m.id, m.loser_id, ARRAY[m.winner_id, crm.company_now(m.winner_id)]);
		-- what was filled goes, unless somebody wrote something else there
		SELECT x.* INTO c FROM crm.company x WHERE x.id = m.winner_id;
		UPDATE crm.company x SET
			inn = CASE WHEN c.inn = m.before #>> '{winner,inn,1}' THEN m.before #>> '{winner,inn,0}' ELSE c.inn END,
			kpp = CASE WHEN c.inn = m.before #>> '{winner,inn,1}' AND c.kpp IS NOT DISTINCT FROM m.before #>> '{winner,kpp,1}' THEN m.before #>> '{winner,kpp,0}' ELSE c.kpp END,
			full_name = CASE WHEN c.full_name = m.before #>> '{winner,full_name,1}' THEN m.before #>> '{winner,full_name,0}' ELSE c.full_name END,
			is_client = c.is_client AND NOT (m.before -> 'winner') ? 'is_client', is_carrier = c.is_carrier AND NOT (m.before -> 'winner') ? 'is_carrier',
			owner_id = CASE WHEN c.owner_id = (m.before #>> '{winner,owner_id,1}')::bigint THEN (m.before #>> '{winner,owner_id,0}')::bigint ELSE c.owner_id END
		WHERE x.id = m.winner_id AND m.before -> 'winner' <> '{}';
		UPDATE crm.company x SET merged_into_id = NULL, archived_at = (m.before #>> '{loser,archived_at}')::timestamptz, owner_id = (m.before #>> '{loser,owner_id}')::bigint
		WHERE x.id = m.loser_id;
		-- the ranges as they were: as if it had never been
		PERFORM crm.responsibility_restore(m.loser_id, m.before -> 'responsibility');
		IF (m.before -> 'winner') ? 'owner_id' AND (SELECT x.owner_id FROM crm.company x WHERE x.id = m.winner_id) IS NULL THEN
			PERFORM crm.responsibility_restore(m.winner_id, m.before -> 'winner_responsibility');
		END IF;
	ELSE
		PERFORM FROM crm.contact x WHERE x.id IN (m.loser_id, m.winner_id) ORDER BY x.id FOR UPDATE;
		IF NOT (SELECT bool_and(crm.party_visible(x.company_id)) FROM crm.contact x WHERE x.id IN (m.loser_id, m.winner_id)) THEN
			RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'this merge is not yours to take back', HINT = 'Ask your head.';
		END IF;
		UPDATE crm.contact x SET merged_into_id = NULL, archived_at = (m.before #>> '{loser,archived_at}')::timestamptz WHERE x.id = m.loser_id;
		back := crm.merge_give_back(m.id, m.loser_id, ARRAY[m.winner_id, crm.contact_now(m.winner_id)]);
		SELECT x.* INTO p FROM crm.contact x WHERE x.id = m.winner_id;
		UPDATE crm.contact x SET
			company_id = CASE WHEN p.company_id = (m.before #>> '{winner,company_id,1}')::bigint THEN NULL ELSE p.company_id END,
			"position" = CASE WHEN p."position" = m.before #>> '{winner,position,1}' THEN NULL ELSE p."position" END,
			language = CASE WHEN p.language = m.before #>> '{winner,language,1}' THEN NULL ELSE p.language END,
			time_zone = CASE WHEN p.time_zone = m.before #>> '{winner,time_zone,1}' THEN NULL ELSE p.time_zone END,
			channel = CASE WHEN p.channel = m.before #>> '{winner,channel,1}' THEN NULL ELSE p.channel END,
			is_decision_maker = p.is_decision_maker AND NOT (m.before -> 'winner') ? 'is_decision_maker'
		WHERE x.id = m.winner_id AND m.before -> 'winner' <> '{}';
	END IF;
	UPDATE crm.merge x SET undone_at = crm.now(), undone_by = crm.me_name() WHERE x.id = m.id;
	RETURN back;
END
$$;
COMMENT ON FUNCTION crm.unmerge(bigint) IS 'Takes a merge back: the rows that went over point to the loser again, its owner, its ranges of responsibility and what the winner was given are as before. What came after the merge stays with the winner, but for what came for the loser''s own id, which never left it. A row that somebody gave to a third one stays there. Merges may be taken back in any order. Returns how many rows went back. Errors: P0002 no such merge, 55000 taken back already, 42501';

CREATE OR REPLACE FUNCTION crm.unmerge_companies(loser_id bigint) RETURNS bigint
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.unmerge((SELECT m.id FROM crm.merge m WHERE m.object_kind = 'company' AND m.loser_id = $1 AND m.undone_at IS NULL))
$$;
COMMENT ON FUNCTION crm.unmerge_companies(bigint) IS 'crm.unmerge of the merge by which a company went into another';

CREATE OR REPLACE FUNCTION crm.unmerge_contacts(loser_id bigint) RETURNS bigint
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.unmerge((SELECT m.id FROM crm.merge m WHERE m.object_kind = 'contact' AND m.loser_id = $1 AND m.undone_at IS NULL))
$$;
COMMENT ON FUNCTION crm.unmerge_contacts(bigint) IS 'crm.unmerge of the merge by which a contact went into another';

CREATE OR REPLACE FUNCTION crm.responsibility_restore(company_id bigint, ranges jsonb) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM crm.responsibility r WHERE r.company_id = responsibility_restore.company_id;
	INSERT INTO crm.responsibility SELECT r.* FROM jsonb_populate_recordset(NULL::crm.responsibility, ranges) r;
END
$$;
COMMENT ON FUNCTION crm.responsibility_restore(bigint, jsonb) IS 'Puts the ranges of a company back as they were kept in crm.merge';

SELECT crm.register_undumped('crm.merge_rule', 'rows of code');
SELECT crm.register_foreign_key('crm.merge_row', 'merge_id', 'crm.merge');
SELECT crm.register_no_foreign_key('crm.merge', c.name, 'a company or a contact, by object_kind')
FROM unnest(ARRAY['loser_id', 'winner_id']) AS c(name);
SELECT crm.register_merge('crm.responsibility', 'company_id', 'keep', 'who was responsible, and when, is history');
