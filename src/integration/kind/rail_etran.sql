-- rail_etran: waybills and where wagons are, from ETRAN of the Russian Railways (SOAP, GetBlock) or from a bus that
-- passes the same on. Protocol etran: no public description exists, so what was not seen is a setting or a row.
--
-- One request at a time for each login. What changed is asked for by the number of the last operation (OperId) or by
-- dates; what is to be fetched then stands in crm.rail_fetch, written in the transaction that moves the cursor, and
-- a document leaves it in the transaction that stores it. So a courier may die at any moment: the same is asked again.
--
-- crm.cursor: list:KIND {oper_id, oper_date, to}, stopped {words, at} (the login was refused: nothing is asked until
-- crm.rail_etran_resume), removed {count} (characters that XML forbids, taken out so far).
-- The session (crm.integration_state): polled {KIND: ms, dislocation: ms}, crm.monotonic_ms of the last good reply.

CREATE OR REPLACE FUNCTION crm.rail_etran_list(integration_id bigint, key text) RETURNS text[]
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN s.words ~ '^\s*\[' THEN ARRAY(SELECT jsonb_array_elements_text(s.words::jsonb))
		ELSE array_remove(regexp_split_to_array(btrim(coalesce(s.words, '')), '[\s,;]+'), '') END
	FROM (SELECT crm.setting_of($1, $2) AS words) AS s
$$;
COMMENT ON FUNCTION crm.rail_etran_list(bigint, text) IS 'A setting that is a list: a JSON array, or words parted by blanks or commas.';

CREATE OR REPLACE FUNCTION crm.rail_etran_call(integration_id bigint, body text, context jsonb) RETURNS crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	soap     boolean := coalesce(crm.setting_of($1, 'soap')::boolean, true);
	login    text := crm.escaped(coalesce(crm.setting_of($1, 'login'), ''), 'xml');
	password text := crm.escaped(coalesce(crm.secret_value($1), ''), 'xml');
	token    text := crm.secret_value($1, 'token');
	head     text[];
	said     text;
BEGIN
	IF soap THEN
		head := ARRAY['Content-Type: text/xml; charset=utf-8', format('SOAPAction: "%s"', crm.escaped(crm.setting_of($1, 'soap_action'), 'header'))];
		said := format('<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:sys="%s"><soapenv:Body><sys:GetBlock>'
			|| '<Login>%s</Login><Password>%s</Password><Text>%s</Text></sys:GetBlock></soapenv:Body></soapenv:Envelope>',
			crm.escaped(crm.setting_of($1, 'namespace'), 'xml'), login, password, crm.escaped(body, 'xml'));
	ELSE
		head := ARRAY['Content-Type: application/xml; charset=utf-8'];
		said := format('<?xml version="1.0" encoding="UTF-8"?><GetBlockRequest><Login>%s</Login><Password>%s</Password><Text>%s</Text></GetBlockRequest>', login, password, body);
	END IF;
	IF token IS NOT NULL THEN
		head := head || ('Authorization: Bearer ' || crm.escaped(btrim(token), 'header'));
	END IF;
	RETURN ROW (1, 'POST', (SELECT i.url FROM crm.integration AS i WHERE i.id = $1), head, convert_to(said, 'UTF8'), NULL, NULL,
		crm.setting_of($1, 'timeout_ms')::integer, $3)::crm.request;
END
$$;
COMMENT ON FUNCTION crm.rail_etran_call(bigint, text, jsonb) IS 'A GetBlock with this document: as escaped text in a SOAP envelope, or (setting soap = false) as elements without one. Login from the settings, password the secret; a secret named token goes as Authorization: Bearer. Protocol etran, section 1.';

CREATE OR REPLACE FUNCTION crm.rail_etran_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	me       crm.integration;
	polled   jsonb := coalesce(crm.session_value($1) -> 'polled', '{}');
	now_ms   bigint := crm.monotonic_ms();
	zone     text := crm.setting_of($1, 'time_zone');
	every    bigint;
	wait     bigint := 3600000;
	kind_    text;
	k        crm.rail_document_kind;
	place    jsonb;
	from_at  timestamptz;
	to_at    timestamptz;
	filter   text;
	wanted   crm.rail_fetch;
	mode     text := coalesce(crm.setting_of($1, 'dislocation'), 'off');
	numbers  text[];
BEGIN
	SELECT i.* INTO me FROM crm.integration AS i WHERE i.id = $1;
	every := coalesce(me.poll_ms, 180000);
	IF coalesce($2, 0) < 1 THEN
		RETURN;
	END IF;
	place := crm.cursor_value($1, 'stopped');
	IF place IS NOT NULL THEN
		PERFORM crm.integration_failed($1, 'auth: ' || (place ->> 'words'), 3600000);
		RETURN;
	END IF;
	IF coalesce(crm.setting_of($1, 'login'), '') = '' OR crm.secret_value($1) IS NULL THEN
		PERFORM crm.integration_failed($1, 'there is no login (setting login) or no password (crm.set_secret) to ask with', 3600000);
		RETURN;
	END IF;
	-- ETRAN takes one request at a time from a login, also where two integrations use it
	IF NOT pg_try_advisory_xact_lock('crm.rail_fetch'::regclass::oid::integer, hashtext(me.url || ' ' || crm.setting_of($1, 'login')))
		OR EXISTS (SELECT FROM crm.integration AS o JOIN crm.integration_state AS s ON s.integration_id = o.id AND s.outstanding > 0
			WHERE o.kind = me.kind AND o.id <> $1 AND o.enabled AND o.url = me.url AND crm.setting_of(o.id, 'login') = crm.setting_of($1, 'login')) THEN
		PERFORM crm.poll_after($1, 1000);
		RETURN;
	END IF;

	-- what changed
	FOREACH kind_ IN ARRAY crm.rail_etran_list($1, 'documents') LOOP
		SELECT x.* INTO k FROM crm.rail_document_kind AS x WHERE x.kind = kind_ ORDER BY x.shipped LIMIT 1;
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the setting documents names "%s", which is no kind of document', left(kind_, 40)),
				HINT = 'SELECT kind FROM crm.rail_document_kind; lists them.';
		END IF;
		IF polled ? kind_ AND now_ms - (polled ->> kind_)::bigint < every THEN
			wait := least(wait, every - (now_ms - (polled ->> kind_)::bigint));
			CONTINUE;
		END IF;
		place := crm.cursor_value($1, 'list:' || kind_);
		IF place ? 'oper_id' AND crm.setting_of($1, 'cursor') = 'operid' THEN
			filter := format('<OperId value="%s"/>', place ->> 'oper_id');
		ELSE
			from_at := coalesce((place ->> 'reached')::timestamptz - make_interval(secs => crm.setting_of($1, 'overlap_s')::integer),
				crm.clock() - make_interval(secs => crm.setting_of($1, 'first_lookback_s')::integer));
			-- with a cursor to follow the first answer tells all of it; by dates windows follow each other
			to_at := CASE WHEN place IS NULL AND crm.setting_of($1, 'cursor') = 'operid' THEN crm.clock()
				ELSE least(crm.clock(), coalesce((place ->> 'reached')::timestamptz, from_at) + make_interval(secs => crm.setting_of($1, 'window_s')::integer)) END;
			filter := format('<fromDate value="%s"/><toDate value="%s"/>',
				to_char(from_at AT TIME ZONE zone, 'DD.MM.YYYY HH24:MI:SS'), to_char(to_at AT TIME ZONE zone, 'DD.MM.YYYY HH24:MI:SS'));
		END IF;
		RETURN NEXT crm.rail_etran_call($1, format('<%1$s version="1.0">%2$s%3$s</%1$s>', k.list_request, filter,
			(SELECT string_agg(format('<%s/>', f.flag), '' ORDER BY f.n)
			 FROM unnest(CASE WHEN 'none' = ANY (k.flags) THEN array_remove(k.flags, 'none') ELSE crm.rail_etran_list($1, 'use_flags') || k.flags END) WITH ORDINALITY AS f(flag, n)
			 WHERE f.flag ~ '^[A-Za-z][A-Za-z0-9]{0,40}$')),
			jsonb_strip_nulls(jsonb_build_object('step', 'list', 'kind', kind_, 'to', to_at, 'now', crm.clock())));
		RETURN;
	END LOOP;

	-- where the wagons are
	IF mode <> 'off' THEN
		every := greatest(1, crm.setting_of($1, 'dislocation_every_s')::integer) * 1000::bigint;
		IF polled ? 'dislocation' AND now_ms - (polled ->> 'dislocation')::bigint < every THEN
			wait := least(wait, every - (now_ms - (polled ->> 'dislocation')::bigint));
		ELSE
			IF mode = 'wagons' THEN
				numbers := ARRAY(SELECT DISTINCT g.number FROM crm.waybill AS w
					JOIN crm.waybill_wagon AS x ON x.waybill_id = w.id AND x.removed_at IS NULL AND x.arrived_at IS NULL
					JOIN crm.wagon AS g ON g.id = x.wagon_id
					WHERE w.phase IN ('accepted', 'moving') AND w.changed_at > crm.now() - interval '90 days' ORDER BY 1 LIMIT crm.setting_of($1, 'wagons_at_once')::integer);
				filter := (SELECT '<vagons>' || string_agg(format('<vagon>%s</vagon>', n.number), '') || '</vagons>' FROM unnest(numbers) AS n(number));
			ELSE
				filter := (SELECT string_agg(CASE mode WHEN 'owner' THEN format('<okpoSob>%s</okpoSob>', o.okpo) ELSE format('<okpo>%s</okpo>', o.okpo) END, '')
					FROM unnest(crm.rail_etran_list($1, 'okpo')) AS o(okpo) WHERE o.okpo ~ '^[0-9]{1,10}$');
				IF mode = 'consignee' THEN
					filter := format('<gruzpolOkpos>%s</gruzpolOkpos>', filter) || coalesce((SELECT format('<stanNazns>%s</stanNazns>', string_agg(format('<stan_nazn>%s</stan_nazn>', s.code), ''))
						FROM unnest(crm.rail_etran_list($1, 'stations')) AS s(code) WHERE s.code ~ '^[0-9]{4,6}$'), '');
				END IF;
				filter := filter || '<idstr>01</idstr>';
			END IF;
			IF filter IS NULL AND mode <> 'wagons' THEN
				RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the setting dislocation is "%s" and the setting okpo names nobody', left(mode, 40)),
					HINT = 'Give okpo as a list of OKPO, or set dislocation to off or wagons.';
			ELSIF filter IS NOT NULL THEN
				RETURN NEXT crm.rail_etran_call($1, format('<GetInform>%s<ns0:getReferenceSPV4664 xmlns:ns0="http://service.siw.pktbcki.rzd/"><ns0:ReferenceSPV4664Request>'
					|| '<idUser>%s</idUser><idReference>14</idReference>%s</ns0:ReferenceSPV4664Request></ns0:getReferenceSPV4664></GetInform>',
					CASE WHEN crm.setting_of($1, 'gzip')::boolean THEN '<UseGZIPBinary>1</UseGZIPBinary>' ELSE '' END,
					crm.escaped(crm.setting_of($1, 'id_user'), 'xml'), filter),
					jsonb_build_object('step', 'dislocation', 'whole', mode <> 'wagons'));
				RETURN;
			END IF;
		END IF;
	END IF;

	-- documents
	SELECT f.* INTO wanted FROM crm.rail_fetch AS f WHERE f.integration_id = $1 ORDER BY f.after, f.document_id LIMIT 1;
	IF wanted.document_id IS NOT NULL THEN
		IF wanted.after <= crm.clock() THEN
			SELECT x.* INTO k FROM crm.rail_document_kind AS x WHERE x.kind = wanted.kind ORDER BY x.shipped LIMIT 1;
			IF NOT FOUND THEN
				DELETE FROM crm.rail_fetch AS f WHERE f.integration_id = $1 AND f.kind = wanted.kind;
				PERFORM crm.poll_after($1, 0);
				RETURN;
			END IF;
			RETURN NEXT crm.rail_etran_call($1, replace(replace(k.get_request, '{{id}}', wanted.document_id::text),
				'{{mod11}}', CASE WHEN crm.setting_of($1, 'use_mod11')::boolean THEN '<useMod11/>' ELSE '' END),
				jsonb_strip_nulls(jsonb_build_object('step', 'document', 'kind', wanted.kind, 'id', wanted.document_id, 'oper', wanted.last_oper)));
			RETURN;
		END IF;
		wait := least(wait, greatest(1000, 1000 * extract(epoch FROM wanted.after - crm.clock()))::bigint);
	END IF;
	PERFORM crm.poll_after($1, greatest(wait, 1000)::integer);
END
$$;
COMMENT ON FUNCTION crm.rail_etran_next(bigint, integer) IS 'The next request for ETRAN, one at a time for each login: what changed (by OperId or dates) at the poll interval, the report about wagons at its own, and between them the documents that changed. Nothing once the login was refused, until crm.rail_etran_resume(). Claim 51, protocol etran, sections 4, 7 and 11.';

CREATE OR REPLACE FUNCTION crm.rail_etran_class(status integer, words text) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT r.class FROM crm.reply_rule AS r
		WHERE r.kind = 'rail_etran' AND $1 BETWEEN r.status_from AND r.status_to AND (r.pattern IS NULL OR $2 ~* r.pattern)
		ORDER BY r.position, r.shipped, r.code LIMIT 1), 'unknown')
$$;
COMMENT ON FUNCTION crm.rail_etran_class(integer, text) IS 'Why ETRAN refused, by the rows of crm.reply_rule for rail_etran over its words ("error CODE status STATUS: message"): the same code means several things, so the message decides. Protocol etran, section 11.';

CREATE OR REPLACE FUNCTION crm.rail_etran_open(body bytea, max_bytes integer, OUT inner_tree jsonb, OUT words text, OUT removed integer)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	t    record;
	node jsonb;
	said jsonb;
	kept jsonb;
BEGIN
	t := crm.rail_tree(body);
	removed := t.removed;
	node := jsonb_path_query_first(t.tree, 'strict $.**.fault', silent => true);
	IF node IS NOT NULL AND NOT t.tree ? 'getblockresponse' THEN
		words := 'fault: ' || left(coalesce(node ->> 'faultstring', jsonb_path_query_first(node, 'strict $.**.text', silent => true) #>> '{}', node::text), 400);
		RETURN;
	END IF;
	node := jsonb_path_query_first(t.tree, 'strict $.**.getblockresponse', silent => true);
	IF node IS NULL THEN
		inner_tree := t.tree;	-- a bus that leaves the wrapper out
	ELSE
		said := node -> 'text';
		IF jsonb_typeof(said) = 'string' THEN
			IF said #>> '{}' !~ '^\s*<' THEN
				words := 'answer: ' || left(said #>> '{}', 400);
				RETURN;
			END IF;
			t := crm.rail_tree(convert_to(said #>> '{}', 'UTF8'));
			removed := removed + t.removed;
			inner_tree := t.tree;
		ELSIF jsonb_typeof(said) = 'object' THEN
			inner_tree := said;
		ELSE
			words := 'answer: the reply holds no document';
			RETURN;
		END IF;
		IF lower(node ->> 'return') IN ('false', '0') AND NOT inner_tree ? 'error' THEN
			words := 'return false: ' || left(inner_tree::text, 400);
			RETURN;
		END IF;
	END IF;
	IF inner_tree ? 'error' THEN
		words := format('error %s status %s: %s', coalesce(inner_tree #>> '{error,errorcode}', '-'), coalesce(inner_tree #>> '{error,errorstatuscode}', '-'),
			left(regexp_replace(coalesce(inner_tree #>> '{error,errormessage}', ''), '\s+', ' ', 'g'), 400));
		RETURN;
	END IF;
	-- a report of ASOUP: a third level, which may be packed
	said := jsonb_path_query_first(inner_tree, 'strict $.**.asoupreply', silent => true);
	kept := jsonb_path_query_first(inner_tree, 'strict $.**.asoup64reply', silent => true);
	IF jsonb_typeof(kept) = 'string' THEN
		t := crm.rail_tree(crm.rail_unpack(decode(kept #>> '{}', 'base64'), max_bytes));
	ELSIF jsonb_typeof(said) = 'string' THEN
		t := crm.rail_tree(convert_to(said #>> '{}', 'UTF8'));
	ELSIF jsonb_typeof(said) = 'object' THEN
		inner_tree := said;
		RETURN;
	ELSE
		RETURN;
	END IF;
	removed := removed + t.removed;
	inner_tree := t.tree;
END
$$;
COMMENT ON FUNCTION crm.rail_etran_open(bytea, integer) IS 'What a reply holds: the innermost document as a tree, or the words of its error (an error element, a Fault, return = false). Text and return stand in any order; the text is escaped XML or elements; a report may lie a level deeper, as text or as base64 of gzip. Errors, for bytes that are neither: those of crm.rail_tree and crm.rail_unpack, 22023 no base64. Protocol etran, sections 1 and 7.';

CREATE OR REPLACE FUNCTION crm.rail_etran_listed(integration_id bigint, kind text, reply jsonb, context jsonb, bytes bytea) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	k      crm.rail_document_kind;
	zone   text := crm.setting_of($1, 'time_zone');
	source text := crm.setting_of($1, 'source');
	place  jsonb := coalesce(crm.cursor_value($1, 'list:' || $2), '{}');
	body   jsonb := (SELECT v.value FROM jsonb_each(reply) AS v LIMIT 1);
	oper   timestamptz;
	number integer;
	r      record;
BEGIN
	SELECT x.* INTO k FROM crm.rail_document_kind AS x WHERE x.kind = $2 ORDER BY x.shipped LIMIT 1;
	FOR r IN SELECT i.item FROM crm.rail_list(body -> k.item) AS i(item) WHERE coalesce(i.item ->> k.id_name, '') !~ '^[0-9]{1,18}$' LIMIT 20 LOOP
		PERFORM crm.reject($1, format('an item of the list of %s', k.kind), format('it has no %s that can be read', k.id_name), NULL, convert_to(r.item::text, 'UTF8'));
	END LOOP;
	INSERT INTO crm.rail_fetch AS f (integration_id, kind, document_id, last_oper)
	SELECT DISTINCT ON (i.id) $1, $2, i.id, i.oper
	FROM (SELECT (l.item ->> k.id_name)::bigint AS id, l.item ->> k.oper_name AS oper, l.n
		FROM crm.rail_list(body -> k.item) WITH ORDINALITY AS l(item, n) WHERE l.item ->> k.id_name ~ '^[0-9]{1,18}$') AS i
	WHERE CASE WHEN $2 = 'invoice' THEN NOT EXISTS (SELECT FROM (SELECT y.last_oper FROM crm.waybill AS y WHERE y.source = source AND y.source_id = i.id::text AND y.version > 0 OFFSET 0) AS w
				WHERE w.last_oper = crm.rail_time(i.oper, zone))
		ELSE NOT EXISTS (SELECT FROM (SELECT y.last_oper FROM crm.rail_document AS y WHERE y.source = source AND y.kind = $2 AND y.document_id = i.id OFFSET 0) AS w
				WHERE w.last_oper = i.oper) END
	ORDER BY i.id, crm.rail_time(i.oper, zone) DESC NULLS LAST, i.n
	ON CONFLICT ON CONSTRAINT rail_fetch_pkey DO UPDATE SET last_oper = EXCLUDED.last_oper, tries = 0, after = EXCLUDED.after, words = NULL
	WHERE f.last_oper IS DISTINCT FROM EXCLUDED.last_oper;
	GET DIAGNOSTICS number = ROW_COUNT;
	-- the place is the reply's, and by dates at least the end of a window that is over
	oper := crm.rail_time(body ->> 'operdate', zone);
	place := place || jsonb_strip_nulls(jsonb_build_object(
		'oper_id', CASE WHEN body ->> 'operid' ~ '^[0-9]{1,18}$' THEN greatest((body ->> 'operid')::bigint, coalesce((place ->> 'oper_id')::bigint, 0)) END,
		'oper_date', body ->> 'operdate',
		'reached', greatest((place ->> 'reached')::timestamptz, oper,
			CASE WHEN (context ->> 'to')::timestamptz <= crm.clock() - make_interval(secs => crm.setting_of($1, 'overlap_s')::integer) OR oper IS NULL THEN (context ->> 'to')::timestamptz END)));
	PERFORM crm.set_cursor($1, 'list:' || $2, place);
	RETURN number;
END
$$;
COMMENT ON FUNCTION crm.rail_etran_listed(bigint, text, jsonb, jsonb, bytea) IS 'Notes which of the listed documents are to be fetched (those whose last operation differs from what is stored) and moves the cursor, in one transaction; an empty list moves it too. Returns how many.';

CREATE OR REPLACE FUNCTION crm.rail_etran_missed(integration_id bigint, context jsonb, words text, final boolean, bytes bytea) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	tries_ integer;
BEGIN
	UPDATE crm.rail_fetch AS f SET tries = f.tries + 1, words = left($3, 500),
		after = crm.clock() + least(interval '1 hour', interval '30 seconds' * power(2, least(f.tries, 8)))
	WHERE f.integration_id = $1 AND f.kind = context ->> 'kind' AND f.document_id = (context ->> 'id')::bigint
	RETURNING f.tries INTO tries_;
	IF final OR tries_ >= crm.setting_of($1, 'fetch_tries')::integer THEN
		PERFORM crm.reject($1, format('%s %s', context ->> 'kind', context ->> 'id'), CASE WHEN final THEN $3 ELSE format('given up after %s tries: %s', tries_, $3) END, NULL, bytes);
		DELETE FROM crm.rail_fetch AS f WHERE f.integration_id = $1 AND f.kind = context ->> 'kind' AND f.document_id = (context ->> 'id')::bigint;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.rail_etran_missed(bigint, jsonb, text, boolean, bytea) IS 'A document could not be fetched: it waits, longer each time up to an hour; final, or refused too often, it goes to crm.rejected until the list names it again.';

CREATE OR REPLACE FUNCTION crm.rail_etran_take(integration_id bigint, replies crm.reply[]) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	reply   crm.reply;
	step    text;
	kind_   text;
	source  text := crm.setting_of($1, 'source');
	limit_  integer := (SELECT least(i.max_reply_bytes, 268435456) FROM crm.integration AS i WHERE i.id = $1);
	opened  record;
	words   text;
	class   text;
	state   text;
	reason  text;
	fails   integer;
	hash_   bytea;
BEGIN
	FOREACH reply IN ARRAY $2 LOOP
		step := reply.context ->> 'step';
		kind_ := reply.context ->> 'kind';
		words := NULL;
		class := NULL;
		opened := NULL;
		IF reply.error IS NOT NULL THEN
			words := reply.error;
			class := CASE WHEN reply.error LIKE 'refused:%' THEN 'config' WHEN reply.error LIKE 'too large:%' AND step = 'document' THEN 'permanent' ELSE 'transient' END;
		ELSE
			BEGIN
				opened := crm.rail_etran_open(reply.body, limit_);
				words := opened.words;
				IF words IS NULL AND reply.status <> 200 THEN
					words := format('status %s', reply.status);
				END IF;
			EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
				GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT, reason = PG_EXCEPTION_DETAIL;
				words := concat_ws(' ', words, nullif(reason, ''));
				IF reply.status = 200 THEN
					PERFORM crm.reject($1, format('the reply to %s', concat_ws(' ', step, kind_, reply.context ->> 'id')), words, state, reply.body);
					class := 'content';
				ELSE
					words := format('status %s', reply.status);
				END IF;
			END;
			IF words IS NOT NULL THEN
				class := coalesce(class, crm.rail_etran_class(reply.status, words));
			END IF;
		END IF;

		IF words IS NULL THEN
			-- the facts; what cannot be stored is rejected by itself and nothing moves past it
			BEGIN
				IF step = 'list' THEN
					IF NOT EXISTS (SELECT FROM jsonb_each(opened.inner_tree) AS v WHERE v.key LIKE '%statusreply' OR v.key LIKE '%reply') THEN
						RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the reply is no list of changes';
					END IF;
					PERFORM crm.rail_etran_listed($1, kind_, opened.inner_tree, reply.context, reply.body);
				ELSIF step = 'document' THEN
					IF kind_ = 'invoice' THEN
						IF (SELECT v.value ->> 'invoiceid' FROM jsonb_each(opened.inner_tree) AS v LIMIT 1) IS DISTINCT FROM reply.context ->> 'id' THEN
							RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the reply is not the document that was asked for';
						END IF;
						PERFORM crm.put_waybill((SELECT v.value FROM jsonb_each(opened.inner_tree) AS v LIMIT 1), source, $1, crm.setting_of($1, 'time_zone'), crm.setting_of($1, 'weight_unit'));
					ELSE
						hash_ := sha256(convert_to(opened.inner_tree::text, 'UTF8'));
						INSERT INTO crm.rail_document AS d (source, kind, document_id, integration_id, last_oper, hash, document)
						VALUES (source, kind_, (reply.context ->> 'id')::bigint, $1, reply.context ->> 'oper', hash_, (SELECT v.value FROM jsonb_each(opened.inner_tree) AS v LIMIT 1))
						ON CONFLICT ON CONSTRAINT rail_document_key DO UPDATE SET integration_id = EXCLUDED.integration_id, last_oper = EXCLUDED.last_oper, hash = EXCLUDED.hash,
							document = EXCLUDED.document, version = d.version + CASE WHEN d.hash <> EXCLUDED.hash THEN 1 ELSE 0 END, known_at = crm.now();
					END IF;
					DELETE FROM crm.rail_fetch AS f WHERE f.integration_id = $1 AND f.kind = kind_ AND f.document_id = (reply.context ->> 'id')::bigint
						AND f.last_oper IS NOT DISTINCT FROM reply.context ->> 'oper';
				ELSE
					PERFORM crm.import_dislocation(opened.inner_tree, crm.setting_of($1, 'mapping'), (SELECT i.name FROM crm.integration AS i WHERE i.id = $1), NULL,
						(reply.context ->> 'whole')::boolean, $1);
				END IF;
			EXCEPTION WHEN data_exception OR program_limit_exceeded OR integrity_constraint_violation THEN
				GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, words = MESSAGE_TEXT;
				PERFORM crm.reject($1, format('the reply to %s', concat_ws(' ', step, kind_, reply.context ->> 'id')), words, state, reply.body);
				class := 'content';
			END;
		END IF;

		IF words IS NULL THEN
			IF opened.removed > 0 THEN
				PERFORM crm.set_cursor($1, 'removed', jsonb_build_object('count', coalesce((crm.cursor_value($1, 'removed') ->> 'count')::bigint, 0) + opened.removed));
			END IF;
			IF step IN ('list', 'dislocation') THEN
				PERFORM crm.set_session($1, jsonb_build_object('polled', coalesce(crm.session_value($1) -> 'polled', '{}') || CASE
					-- by dates there may be more at once: windows follow each other until they reach today
					WHEN step = 'list' AND (reply.context ->> 'to')::timestamptz < (reply.context ->> 'now')::timestamptz - interval '1 minute' THEN '{}'
					ELSE jsonb_build_object(coalesce(kind_, 'dislocation'), crm.monotonic_ms()) END));
			END IF;
			PERFORM crm.integration_succeeded($1);
			PERFORM crm.poll_after($1, greatest(0, crm.setting_of($1, 'min_interval_ms')::integer));
			CONTINUE;
		END IF;

		fails := coalesce((SELECT s.failures FROM crm.integration_state AS s WHERE s.integration_id = $1), 0);
		IF class = 'auth' THEN
			-- accounts get locked: nothing more is asked until a person says so
			PERFORM crm.set_cursor($1, 'stopped', jsonb_build_object('words', left(words, 300), 'at', crm.now()));
			PERFORM crm.integration_failed($1, 'auth: ' || words, 3600000);
		ELSIF class = 'throttled' THEN
			PERFORM crm.integration_failed($1, 'busy: ' || words, crm.setting_of($1, 'busy_wait_ms')::bigint);
		ELSIF class IN ('permanent', 'content') AND step = 'document' THEN
			-- of this document alone: the others go on
			PERFORM crm.rail_etran_missed($1, reply.context, words, class = 'permanent', reply.body);
			PERFORM crm.integration_succeeded($1);
			PERFORM crm.poll_after($1, greatest(0, crm.setting_of($1, 'min_interval_ms')::integer));
		ELSE
			IF step = 'document' AND class NOT IN ('config') THEN
				PERFORM crm.rail_etran_missed($1, reply.context, words, false, reply.body);
			END IF;
			PERFORM crm.integration_failed($1, CASE class WHEN 'config' THEN 'config: ' ELSE '' END || words, CASE WHEN class IN ('config', 'permanent') OR fails >= 5 THEN 3600000 END);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.rail_etran_take(bigint, crm.reply[]) IS 'What ETRAN''s replies mean: a list of changes, a document, a report about wagons, or an error, judged by its words (crm.reply_rule). A refused login stops the integration until crm.rail_etran_resume(); busy waits setting busy_wait_ms (30 s); a document that is not to be had leaves the others alone; everything else is tried again, after five failures once an hour. Bytes that are no XML go to crm.rejected and the cursor stays. Protocol etran, sections 1, 7 and 11.';

CREATE OR REPLACE FUNCTION crm.rail_etran_resume(integration text) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	target bigint := (SELECT i.id FROM crm.integration AS i WHERE i.name = $1 AND i.kind = 'rail_etran');
BEGIN
	IF target IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('no ETRAN integration is named %s', coalesce(quote_literal($1), 'NULL')),
			HINT = 'SELECT name FROM crm.integration WHERE kind = ''rail_etran''; lists them.';
	END IF;
	DELETE FROM crm.cursor AS c WHERE c.integration_id = target AND c.name = 'stopped';
	PERFORM crm.integration_retry($1);
END
$$;
COMMENT ON FUNCTION crm.rail_etran_resume(text) IS 'Lets an integration ask again whose login ETRAN refused, after the password or the login was mended. Error 42704 no such integration.';

CREATE OR REPLACE FUNCTION crm.rail_etran_test(integration_id bigint) RETURNS SETOF crm.request
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF coalesce(crm.setting_of($1, 'login'), '') = '' OR crm.secret_value($1) IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'there is no login or no password to ask with',
			HINT = 'The setting login, and SELECT crm.set_secret(NAME, ''file:/etc/crm/etran.password'');';
	END IF;
	RETURN NEXT crm.rail_etran_call($1, '<test version="1.0"/>', '{"step": "test"}');
END
$$;
COMMENT ON FUNCTION crm.rail_etran_test(bigint) IS 'One question that changes nothing, for crm.integration_test. Error 22023 without login or password.';

CREATE OR REPLACE FUNCTION crm.rail_etran_judge(integration_id bigint, reply crm.reply) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	opened record;
BEGIN
	IF ($2).error IS NOT NULL THEN
		RETURN 'failed: ' || ($2).error;
	END IF;
	BEGIN
		opened := crm.rail_etran_open(($2).body, 1048576);
	EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
		RETURN format('failed: status %s, the reply is no XML; is this the address of an ETRAN service?', ($2).status);
	END;
	RETURN CASE WHEN opened.words IS NOT NULL THEN format('failed: %s (%s)', opened.words, crm.rail_etran_class(($2).status, opened.words))
		WHEN ($2).status <> 200 THEN format('failed: status %s', ($2).status)
		ELSE 'ok: ETRAN answers' END;
END
$$;
COMMENT ON FUNCTION crm.rail_etran_judge(bigint, crm.reply) IS 'What the reply to the test means, in words.';

CREATE OR REPLACE FUNCTION crm.rail_etran_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT 'error', 'integration ' || i.name, format('ETRAN refuses the login of %s: %s', i.name, c.value ->> 'words'),
		format('Nothing is asked, since accounts get locked. Mend the setting login or crm.set_secret(%L, …), then SELECT crm.rail_etran_resume(%L);', i.name, i.name), (c.value ->> 'at')::timestamptz
	FROM crm.cursor AS c JOIN crm.integration AS i ON i.id = c.integration_id AND i.kind = 'rail_etran' AND i.enabled
	WHERE c.name = 'stopped'
	UNION ALL
	SELECT 'warning', 'integration ' || i.name, format('%s documents of %s could not be fetched so far: %s', count(*), i.name, (array_agg(f.words ORDER BY f.tries DESC))[1]),
		'They are tried again by themselves, at last once an hour: SELECT * FROM crm.rail_fetch WHERE tries > 0;', NULL::timestamptz
	FROM crm.rail_fetch AS f JOIN crm.integration AS i ON i.id = f.integration_id AND i.enabled
	WHERE f.tries > 1 GROUP BY i.name
	UNION ALL
	SELECT 'warning', 'integration ' || i.name, format('%s replies of %s could not be used in the last day, the last: %s: %s', sum(r.seen), i.name,
			(array_agg(r.what ORDER BY r.last_at DESC, r.id DESC))[1], (array_agg(r.reason ORDER BY r.last_at DESC, r.id DESC))[1]),
		format('SELECT * FROM crm.rejected WHERE integration_id = %s; has them with their bytes.', min(i.id)), min(r.at)
	FROM crm.rejected AS r JOIN crm.integration AS i ON i.id = r.integration_id AND i.kind = 'rail_etran' AND i.enabled
	WHERE r.last_at > crm.now() - interval '1 day' GROUP BY i.name
$$;
COMMENT ON FUNCTION crm.rail_etran_health() IS 'Rows of crm.health about ETRAN: logins that were refused, documents that cannot be fetched, what was rejected in the last day.';

SELECT crm.register_kind('rail_etran', 'crm.rail_etran_next', 'crm.rail_etran_take',
	test_function => 'crm.rail_etran_test', judge_function => 'crm.rail_etran_judge',
	defaults => '{"poll_ms": 180000, "max_in_flight": 1, "max_reply_bytes": 104857600, "timeout_ms": 60000, "min_interval_ms": 1000, "busy_wait_ms": 30000,
		"login": "", "soap": true, "soap_action": "urn:SysEtranInt", "namespace": "SysEtranInt", "source": "etran", "time_zone": "Europe/Moscow", "weight_unit": "kg",
		"documents": ["invoice"], "use_flags": ["useSender", "useRecip", "usePayer", "useAll"], "use_mod11": true,
		"cursor": "operid", "window_s": 86400, "overlap_s": 600, "first_lookback_s": 172800, "fetch_tries": 20,
		"dislocation": "off", "okpo": [], "stations": [], "dislocation_every_s": 3600, "wagons_at_once": 500, "gzip": true, "id_user": "0", "mapping": "spv4664"}',
	description_en => 'Railway waybills and where wagons are, from ETRAN of the Russian Railways',
	description_ru => 'Железнодорожные накладные и дислокация вагонов из АС ЭТРАН');
SELECT crm.register_reply_rule('rail_etran', 'busy', 1000, 0, 599, 'ождитесь окончания предыдущего запроса', 'throttled', 'throttled');
SELECT crm.register_reply_rule('rail_etran', 'login', 1010, 0, 599, '^error [^ ]+ status 401:|еверный логин|еверный пароль|логин или пароль|ользователь заблокирован', 'failed', 'auth');
SELECT crm.register_reply_rule('rail_etran', 'unauthorized', 1020, 401, 403, NULL, 'failed', 'auth');
SELECT crm.register_reply_rule('rail_etran', 'oracle', 1030, 0, 599, 'ORA-[0-9]+', 'retry', 'transient');
SELECT crm.register_reply_rule('rail_etran', 'refused', 1040, 0, 599, '^error [^ ]+ status 406:|^error [1-4] ', 'failed', 'permanent');
SELECT crm.register_reply_rule('rail_etran', 'wrong_address', 1050, 300, 499, '^status (400|404|405)', 'failed', 'config');
SELECT crm.register_reply_rule('rail_etran', 'too_many', 1060, 429, 429, NULL, 'throttled', 'throttled');
SELECT crm.register_reply_rule('rail_etran', 'fault', 1070, 0, 599, '^fault:', 'retry', 'transient');
SELECT crm.register_reply_rule('rail_etran', 'server_error', 1080, 500, 599, NULL, 'retry', 'transient');
SELECT crm.register_reply_rule('rail_etran', 'error_other', 1090, 0, 599, NULL, 'retry', 'transient');
SELECT crm.register_hook('health', 'rail_etran', 'crm.rail_etran_health');
