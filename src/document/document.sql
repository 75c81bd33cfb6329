-- document: functions and views. Code: may be run any number of times.

-- ---- states -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.document_states(state text) RETURNS text[]
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE $1
		WHEN 'draft' THEN '{issued,cancelled}'::text[]
		WHEN 'issued' THEN '{sent,accepted,rejected,cancelled}'
		WHEN 'sent' THEN '{accepted,rejected,cancelled}'
		WHEN 'accepted' THEN '{rejected,cancelled}'
		WHEN 'rejected' THEN '{accepted,cancelled}'
		ELSE '{}' END;
END;
COMMENT ON FUNCTION crm.document_states(text) IS 'The states that may follow a state of a document; none after cancelled.';

CREATE OR REPLACE FUNCTION crm.document_keep() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('document %s cannot be deleted', OLD.number),
			HINT = format('Its number would be missing: SELECT crm.set_document_state(%s, ''cancelled'', ''the reason'');', OLD.id);
	END IF;
	IF (NEW.id, NEW.kind, NEW.year, NEW.serial, NEW.number, NEW.document_date, NEW.object_kind, NEW.object_id, NEW.another, NEW.created_at, NEW.created_by)
		IS DISTINCT FROM (OLD.id, OLD.kind, OLD.year, OLD.serial, OLD.number, OLD.document_date, OLD.object_kind, OLD.object_id, OLD.another, OLD.created_at, OLD.created_by) THEN
		RAISE EXCEPTION USING ERRCODE = '55000',
			MESSAGE = format('document %s keeps its number, date and object', OLD.number),
			HINT = 'Cancel it and make another one.';
	END IF;
	IF NEW.state <> OLD.state THEN
		IF NEW.state <> ALL (crm.document_states(OLD.state)) THEN
			RAISE EXCEPTION USING ERRCODE = '23514',
				MESSAGE = format('document %s is %s and cannot become %s', OLD.number, OLD.state, NEW.state),
				HINT = CASE WHEN crm.document_states(OLD.state) = '{}' THEN 'A cancelled document stays cancelled: make another one.'
					ELSE format('From here it may become: %s.', array_to_string(crm.document_states(OLD.state), ', ')) END;
		END IF;
		NEW.state_at := crm.now();
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.document_keep() IS 'Trigger function of crm.document: refuses to delete a document or to change its number with 55000, and a state that may not follow with 23514 and those that may.';

CREATE OR REPLACE FUNCTION crm.document_tell(document_ids bigint[], from_states text[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
BEGIN
	INSERT INTO crm.document_log (document_id, from_state, to_state, reason)
	SELECT d.id, f.state, d.state, d.reason
	FROM unnest(document_ids, from_states) AS f(id, state)
	CROSS JOIN LATERAL (SELECT x.id, x.state, x.reason FROM crm.document x WHERE x.id = f.id OFFSET 0) d
	ORDER BY d.id;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
	SELECT 'document.' || d.state, 'document', d.id, d.company_id,
		jsonb_build_object('number', d.number, 'date', to_char(d.document_date, 'DD.MM.YYYY'), 'kind', d.kind, 'kind_ru', k.name_ru, 'kind_en', k.name_en,
			'of', d.object_kind, 'of_id', d.object_id, 'reason', d.reason)
	FROM unnest(document_ids) AS f(id)
	CROSS JOIN LATERAL (SELECT x.* FROM crm.document x WHERE x.id = f.id AND x.state <> 'draft' OFFSET 0) d
	JOIN crm.document_kind k ON k.kind = d.kind
	ORDER BY d.id;
END
$$;
COMMENT ON FUNCTION crm.document_tell(bigint[], text[]) IS 'Logs states that documents came to and emits document.issued, .sent, .accepted, .rejected, .cancelled: two statements whatever their number. Called by the triggers of crm.document.';

CREATE OR REPLACE FUNCTION crm.document_log_insert() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	PERFORM crm.document_tell(x.ids, x.states) FROM (SELECT array_agg(f.id ORDER BY f.id) AS ids, array_agg(NULL::text) AS states FROM fresh f) x
	WHERE x.ids IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.document_log_insert() IS 'Trigger function of crm.document: the first state of new documents, all of a statement at once.';

CREATE OR REPLACE FUNCTION crm.document_log_update() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	PERFORM crm.document_tell(x.ids, x.states)
	FROM (SELECT array_agg(a.id ORDER BY a.id) AS ids, array_agg(b.state ORDER BY a.id) AS states
		FROM after_ a JOIN before_ b ON b.id = a.id WHERE b.state <> a.state) x
	WHERE x.ids IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.document_log_update() IS 'Trigger function of crm.document: the states that documents moved to, all of a statement at once.';

SELECT crm.register_event_kind('document.issued', 'document', ARRAY['number', 'date', 'kind', 'kind_ru', 'kind_en', 'of', 'of_id', 'reason'],
	'A document was issued', 'Документ выпущен');
SELECT crm.register_event_kind('document.sent', 'document', ARRAY['number', 'date', 'kind', 'kind_ru', 'kind_en', 'of', 'of_id', 'reason'],
	'A document was sent', 'Документ отправлен');
SELECT crm.register_event_kind('document.accepted', 'document', ARRAY['number', 'date', 'kind', 'kind_ru', 'kind_en', 'of', 'of_id', 'reason'],
	'A document was accepted', 'Документ принят');
SELECT crm.register_event_kind('document.rejected', 'document', ARRAY['number', 'date', 'kind', 'kind_ru', 'kind_en', 'of', 'of_id', 'reason'],
	'A document was rejected', 'Документ отклонён');
SELECT crm.register_event_kind('document.cancelled', 'document', ARRAY['number', 'date', 'kind', 'kind_ru', 'kind_en', 'of', 'of_id', 'reason'],
	'A document was cancelled', 'Документ аннулирован');

CREATE OR REPLACE FUNCTION crm.deals_of_documents(object_ids bigint[]) RETURNS TABLE(object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.id, d.object_id FROM crm.document d WHERE d.id = ANY (object_ids) AND d.object_kind = 'deal';
END;
COMMENT ON FUNCTION crm.deals_of_documents(bigint[]) IS 'Finder of an event that happened to a document: the deal that it is about.';
SELECT crm.register_deal_finder('document', 'crm.deals_of_documents');

CREATE OR REPLACE FUNCTION crm.document_missing(document_id bigint) RETURNS void
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('document %s does not exist', coalesce(document_id::text, 'NULL')),
		HINT = 'SELECT id, number FROM crm.document lists them.';
END
$$;
COMMENT ON FUNCTION crm.document_missing(bigint) IS 'The error of a document that is not there: P0002.';

CREATE OR REPLACE FUNCTION crm.set_document_state(document_id bigint, state text, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	was text;
BEGIN
	SELECT d.state INTO was FROM crm.document d WHERE d.id = set_document_state.document_id AND crm.sees_company(d.company_id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM crm.document_missing(document_id);
	END IF;
	IF state IS NULL OR state NOT IN ('draft', 'issued', 'sent', 'accepted', 'rejected', 'cancelled') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a state of a document: %s', coalesce(left(state, 100), 'NULL')),
			HINT = 'Give one of: issued, sent, accepted, rejected, cancelled.';
	END IF;
	IF was = state THEN
		RETURN false;
	END IF;
	UPDATE crm.document d SET state = set_document_state.state, reason = set_document_state.reason WHERE d.id = set_document_state.document_id;
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.set_document_state(bigint, text, text) IS 'Moves a document to a state: draft to issued; issued to sent, accepted or rejected; accepted and rejected to each other; all to cancelled, which is the end. True: moved; false: it was there already, and nothing is logged. Errors: P0002 no such document, 22023 no such state, 23514 the state may not follow, with those that may.';

-- ---- making -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.document_files(document crm.document, render text) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r     crm.document_rendering;
	base  text;
	fresh integer;
BEGIN
	EXECUTE format('SELECT r.* FROM %s($1) r', render) INTO r USING document.id;
	IF r.xlsx IS NULL AND coalesce(r.html, '') = '' THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = format('%s made no file of document %s', render, document.number),
			HINT = 'It must return a workbook, a page, or both.';
	END IF;
	base := left(regexp_replace(coalesce(nullif(r.file_name, ''), document.number), '[[:cntrl:]/\\]', '_', 'g'), 200);
	SELECT coalesce(max(x.version), 0) + 1 INTO fresh FROM crm.document_file x WHERE x.document_id = document.id;
	INSERT INTO crm.document_file (document_id, version, format, file_name, content, bytes, sha256)
	SELECT document.id, fresh, v.format, base || '.' || v.format, v.content, octet_length(v.content), sha256(v.content)
	FROM (VALUES ('xlsx', r.xlsx), ('html', convert_to(nullif(r.html, ''), 'UTF8'))) AS v(format, content)
	WHERE v.content IS NOT NULL;
	RETURN fresh;
END
$$;
COMMENT ON FUNCTION crm.document_files(crm.document, text) IS 'Makes the files of a document by the function of its kind, which the caller has checked, and stores them with their hash as a new version, whose number it returns. Errors: 22004 no file was made, 23514 a file above 25 MB, and those of the function.';

CREATE OR REPLACE FUNCTION crm.render_document(document_id bigint) RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	doc crm.document;
	f   text;
BEGIN
	SELECT d.* INTO doc FROM crm.document d WHERE d.id = render_document.document_id AND crm.sees_company(d.company_id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM crm.document_missing(document_id);
	END IF;
	IF doc.state NOT IN ('draft', 'issued', 'sent') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('document %s is %s: its files stay as they are', doc.number, doc.state),
			HINT = 'Make another document.';
	END IF;
	SELECT k.render INTO f FROM crm.document_kind k WHERE k.kind = doc.kind;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('document kind "%s" of document %s is not registered', doc.kind, doc.number),
			HINT = 'SELECT crm.register_document_kind(…) again, as after every restore of a kind of your own.';
	END IF;
	PERFORM crm.owner_code(f, 'bigint', 'crm.document_rendering');
	RETURN crm.document_files(doc, f);
END
$$;
COMMENT ON FUNCTION crm.render_document(bigint) IS 'Makes the files of a document again and stores them as a new version, whose number it returns; the earlier ones stay. Errors: P0002 no such document; 55000 accepted, rejected or cancelled, or its kind is not registered; 22004 no file was made; 23514 a file above 25 MB; and those of the kind''s function.';

CREATE OR REPLACE FUNCTION crm.make_documents(kind text, object_kind text, object_ids bigint[], company_ids bigint[], data jsonb[] DEFAULT NULL,
	another boolean DEFAULT false, state text DEFAULT 'issued') RETURNS TABLE (object_id bigint, document_id bigint, fresh boolean)
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	the_kind crm.document_kind;
	today    date := crm.business_date();
	amount   integer := coalesce(cardinality(object_ids), 0);
	last_one integer;
	made     bigint[];
	one      bigint;
	words    text;
	code     text;
	advice   text;
BEGIN
	SELECT k.* INTO the_kind FROM crm.document_kind k WHERE k.kind = $1;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('document kind "%s" does not exist', coalesce(left($1, 100), 'NULL')),
			HINT = format('Known are: %s.', coalesce((SELECT string_agg(k.kind, ', ' ORDER BY k.kind) FROM crm.document_kind k), 'none'));
	END IF;
	IF $2 IS NULL OR array_position(object_ids, NULL) IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'a document needs the kind and id of the object that it is about',
			HINT = 'SELECT crm.make_document(''proposal'', ''deal'', 17, 5);';
	END IF;
	IF $2 !~ '^[a-z0-9_]{1,63}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a kind of object: %s', left($2, 100)), HINT = 'Write it in small letters, as in crm.event: deal, trip.';
	END IF;
	IF EXISTS (SELECT FROM unnest($5) AS x(data) WHERE jsonb_typeof(x.data) <> 'object' OR length(x.data::text) > 1000000) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('data of a document is no object, or too long: %s',
				(SELECT left(x.data::text, 100) FROM unnest($5) AS x(data) WHERE jsonb_typeof(x.data) <> 'object' OR length(x.data::text) > 1000000 LIMIT 1)),
			HINT = 'Give a JSON object of at most a million characters.';
	END IF;
	IF $7 IS NULL OR $7 NOT IN ('draft', 'issued') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('a document cannot be made as %s', coalesce(left($7, 100), 'NULL')), HINT = 'Give draft or issued.';
	END IF;
	IF amount > 100000 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = format('%s documents are too many for one call', amount), HINT = 'Give at most 100000.';
	END IF;
	IF $4 IS NOT NULL AND cardinality($4) <> amount OR $5 IS NOT NULL AND cardinality($5) <> amount THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s objects, %s companies, %s data', amount, coalesce(cardinality($4)::text, 'no'), coalesce(cardinality($5)::text, 'no')),
			HINT = 'Give arrays of one length, or NULL for companies and data.';
	END IF;
	IF amount = 0 THEN
		RETURN;
	END IF;
	IF NOT crm.for_plant() THEN
		SELECT x.id INTO one FROM unnest($3, $4) AS x(id, company)
		WHERE NOT crm.sees_object($2, x.id) OR x.company IS NOT NULL AND NOT crm.sees_company(x.company) LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('%s %s, or its company, does not exist', $2, one),
				HINT = 'Give objects and companies that you see.';
		END IF;
	END IF;

	PERFORM crm.owner_code(the_kind.render, 'bigint', 'crm.document_rendering');

	-- From here to the end of the transaction nobody else numbers this kind and year.
	INSERT INTO crm.document_counter AS c (kind, year) VALUES ($1, extract(year FROM today)::integer) ON CONFLICT DO NOTHING;
	SELECT c.last INTO last_one FROM crm.document_counter c WHERE c.kind = $1 AND c.year = extract(year FROM today)::integer FOR UPDATE;

	WITH asked AS (
		SELECT x.object_id, x.company_id, x.data, x.n FROM unnest($3, $4, $5) WITH ORDINALITY AS x(object_id, company_id, data, n)
		WHERE coalesce($6, false) OR NOT EXISTS (SELECT FROM crm.document d WHERE d.object_id = x.object_id AND d.object_kind = $2 AND d.kind = $1
			AND NOT d.another AND d.state NOT IN ('rejected', 'cancelled') OFFSET 0)
	), wanted AS (
		SELECT a.*, row_number() OVER (PARTITION BY a.object_id ORDER BY a.n) AS time FROM asked a
	), numbered AS (
		SELECT w.*, (last_one + row_number() OVER (ORDER BY w.n))::integer AS serial FROM wanted w WHERE coalesce($6, false) OR w.time = 1
	), added AS (
		INSERT INTO crm.document AS d (kind, year, serial, number, document_date, object_kind, object_id, company_id, data, another, state)
		SELECT $1, extract(year FROM today)::integer, n.serial,
			format('%s-%s-%s', the_kind.prefix, extract(year FROM today), lpad(n.serial::text, greatest(5, length(n.serial::text)), '0')),
			today, $2, n.object_id, n.company_id, coalesce(n.data, '{}'), coalesce($6, false), $7
		FROM numbered n
		ORDER BY n.serial
		RETURNING d.id
	)
	SELECT array_agg(a.id ORDER BY a.id) INTO made FROM added a;
	UPDATE crm.document_counter c SET last = c.last + cardinality(made) WHERE c.kind = $1 AND c.year = extract(year FROM today)::integer AND made IS NOT NULL;

	BEGIN
		FOREACH one IN ARRAY coalesce(made, '{}') LOOP
			PERFORM crm.document_files(d, the_kind.render) FROM crm.document d WHERE d.id = one;
		END LOOP;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, words = MESSAGE_TEXT, advice = PG_EXCEPTION_HINT;
		RAISE EXCEPTION USING ERRCODE = code,
			MESSAGE = format('%s of %s %s could not be made: %s', $1, $2, (SELECT d.object_id FROM crm.document d WHERE d.id = one), words),
			HINT = coalesce(nullif(advice, ''), format('%s makes its files.', the_kind.render));
	END;

	IF coalesce($6, false) THEN
		RETURN QUERY SELECT d.object_id, d.id, true FROM unnest(made) AS m(id) CROSS JOIN LATERAL (SELECT x.id, x.object_id FROM crm.document x WHERE x.id = m.id OFFSET 0) d ORDER BY d.id;
	ELSE
		RETURN QUERY SELECT d.object_id, d.id, m.id IS NOT NULL
			FROM (SELECT DISTINCT x.id FROM unnest($3) AS x(id)) o
			CROSS JOIN LATERAL (SELECT y.id, y.object_id FROM crm.document y WHERE y.object_id = o.id AND y.object_kind = $2 AND y.kind = $1
				AND NOT y.another AND y.state NOT IN ('rejected', 'cancelled') OFFSET 0) d
			LEFT JOIN unnest(made) AS m(id) ON m.id = d.id
			ORDER BY d.id;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.make_documents(text, text, bigint[], bigint[], jsonb[], boolean, text) IS 'Makes documents of one kind for many objects in the caller''s transaction: numbers without gaps, files, log. An object that has a living one (not rejected, not cancelled) gets no second one unless another is true; a row for each object tells its document and whether it is new. company_ids and data go with object_ids or are NULL; state: issued or draft. Two transactions that number one kind wait for each other. At most 100000. Errors: 22023 no such kind or state, arrays of different lengths; 22004 no object; 54000 too many; and those of the kind''s function, which name the object.';

CREATE OR REPLACE FUNCTION crm.make_document(kind text, object_kind text, object_id bigint, company_id bigint, data jsonb DEFAULT '{}',
	another boolean DEFAULT false, state text DEFAULT 'issued') RETURNS bigint
	LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT m.document_id FROM crm.make_documents($1, $2, ARRAY[$3], ARRAY[$4], ARRAY[$5], $6, $7) m;
END;
COMMENT ON FUNCTION crm.make_document(text, text, bigint, bigint, jsonb, boolean, text) IS 'Makes a document in the caller''s transaction and returns its id: a number without gaps for the kind and year, its files with their hash, its log. Where a living one of the same kind and object is (not rejected, not cancelled), returns that one, unless another is true. state: issued or draft. Errors: as crm.make_documents().';

-- ---- reading ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.document_html(document_id bigint) RETURNS text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	page bytea;
BEGIN
	PERFORM FROM crm.document d WHERE d.id = document_html.document_id AND crm.sees_company(d.company_id);
	IF NOT FOUND THEN
		PERFORM crm.document_missing(document_id);
	END IF;
	SELECT f.content INTO page FROM crm.document_file f WHERE f.document_id = document_html.document_id AND f.format = 'html' ORDER BY f.version DESC LIMIT 1;
	RETURN convert_from(page, 'UTF8');
END
$$;
COMMENT ON FUNCTION crm.document_html(bigint) IS 'The page of a document as it was stored, the newest version; NULL: it has none. Error: P0002 no such document.';

CREATE OR REPLACE FUNCTION crm.document_verify(document_id bigint) RETURNS TABLE (version integer, format text, file_name text, equal boolean, difference text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	PERFORM FROM crm.document d WHERE d.id = $1 AND crm.sees_company(d.company_id);
	IF NOT FOUND THEN
		PERFORM crm.document_missing($1);
	END IF;
	RETURN QUERY
		SELECT f.version, f.format, f.file_name, octet_length(f.content) = f.bytes AND sha256(f.content) = f.sha256,
			CASE WHEN octet_length(f.content) <> f.bytes THEN format('%s bytes where %s were stored', octet_length(f.content), f.bytes)
				WHEN sha256(f.content) <> f.sha256 THEN format('the bytes have SHA-256 %s where %s was stored', encode(sha256(f.content), 'hex'), encode(f.sha256, 'hex')) END
		FROM crm.document_file f WHERE f.document_id = $1
		ORDER BY f.version, f.format;
	IF NOT FOUND THEN
		RETURN QUERY SELECT NULL::integer, NULL::text, NULL::text, false, 'the document has no file';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.document_verify(bigint) IS 'Recomputes the hash of every stored file of a document: equal, or how it differs. Error: P0002 no such document.';

-- ---- sending ----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.send_document(document_id bigint, contact_id bigint DEFAULT NULL, subject text DEFAULT NULL, body text DEFAULT NULL,
	html text DEFAULT NULL) RETURNS SETOF bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	doc     crm.document;
	named   crm.document_kind;
	newest  integer;
	page    text;
	reader  record;
	title   text;
	letter  bigint;
	letters bigint[] := '{}';
BEGIN
	SELECT d.* INTO doc FROM crm.document d WHERE d.id = send_document.document_id AND crm.sees_company(d.company_id) FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		PERFORM crm.document_missing(document_id);
	END IF;
	IF doc.state IN ('draft', 'cancelled') THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('document %s is %s and is not sent', doc.number, doc.state),
			HINT = CASE doc.state WHEN 'draft' THEN format('SELECT crm.set_document_state(%s, ''issued'');', doc.id) ELSE 'Make another one.' END;
	END IF;
	IF send_document.contact_id IS NOT NULL THEN
		PERFORM FROM crm.contact c WHERE c.id = send_document.contact_id AND crm.sees_contact(c.id);
		IF NOT FOUND THEN
			RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('contact %s is not there', send_document.contact_id),
				HINT = 'Leave contact_id out to send to every contact of the company.';
		END IF;
	END IF;
	SELECT k.* INTO named FROM crm.document_kind k WHERE k.kind = doc.kind;
	SELECT max(f.version) INTO newest FROM crm.document_file f WHERE f.document_id = doc.id;
	IF newest IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('document %s has no file', doc.number), HINT = format('SELECT crm.render_document(%s);', doc.id);
	END IF;
	SELECT convert_from(f.content, 'UTF8') INTO page FROM crm.document_file f
	WHERE f.document_id = doc.id AND f.version = newest AND f.format = 'html' AND f.bytes <= 1000000;

	FOR reader IN
		SELECT DISTINCT ON (p.value) p.value, c.id, coalesce(c.language, m.language, 'ru') AS language
		FROM crm.contact c
		JOIN crm.contact_point p ON p.contact_id = c.id AND p.kind = 'email' AND p.state <> 'invalid'
		LEFT JOIN crm.company m ON m.id = c.company_id
		WHERE c.archived_at IS NULL
			AND CASE WHEN send_document.contact_id IS NULL THEN c.company_id = doc.company_id ELSE c.id = send_document.contact_id END
		ORDER BY p.value, c.id
	LOOP
		title := CASE reader.language
			WHEN 'ru' THEN format('%s %s от %s', coalesce(named.name_ru, doc.kind), doc.number, to_char(doc.document_date, 'DD.MM.YYYY'))
			ELSE format('%s %s of %s', coalesce(named.name_en, doc.kind), doc.number, to_char(doc.document_date, 'YYYY-MM-DD')) END;
		letter := crm.send('email', reader.value,
			coalesce(send_document.body, CASE reader.language WHEN 'ru' THEN format(E'Здравствуйте!\n\nНаправляем документ: %s.\nФайл приложен к письму.\n', title)
				ELSE format(E'Good day.\n\nWe send you a document: %s.\nThe file is attached.\n', title) END),
			subject => coalesce(send_document.subject, title),
			html => coalesce(send_document.html, CASE WHEN send_document.body IS NULL THEN page END),
			contact_id => reader.id, language => reader.language);
		-- The page is the letter itself where it can be; else it is a file, too, if there is no workbook.
		PERFORM crm.message_attach(letter, f.file_name,
			CASE f.format WHEN 'xlsx' THEN 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet' ELSE 'text/html' END, f.content)
		FROM crm.document_file f
		WHERE f.document_id = doc.id AND f.version = newest
			AND (f.format = 'xlsx' OR NOT EXISTS (SELECT FROM crm.document_file x WHERE x.document_id = doc.id AND x.version = newest AND x.format = 'xlsx'));
		INSERT INTO crm.document_sending (document_id, version, contact_id, message_id) VALUES (doc.id, newest, reader.id, letter);
		letters := letters || letter;
	END LOOP;
	IF letters = '{}' THEN
		INSERT INTO crm.document_sending (document_id, version, contact_id, problem) VALUES (doc.id, newest, send_document.contact_id, 'no e-mail address');
		RETURN;
	END IF;
	UPDATE crm.document d SET state = 'sent', reason = NULL WHERE d.id = doc.id AND d.state = 'issued';
	RETURN QUERY SELECT l.id FROM unnest(letters) AS l(id);
END
$$;
COMMENT ON FUNCTION crm.send_document(bigint, bigint, text, text, text) IS 'Queues letters with a document in the caller''s transaction, one for each e-mail address of the contact, or of every contact of the document''s company, and returns their numbers (crm.message.id); addresses that were refused for good and archived contacts get none. The workbook is attached (the page where there is none); the page is the html of the letter unless body or html is given. Subject and text are in the reader''s language. An issued document becomes sent. Nobody to send to: no row, a row with the problem in crm.document_sending, and one in crm.health. Errors: P0002 no such document; 55000 a draft, cancelled, without a file, and those of crm.send(); 23503 no such contact.';

CREATE OR REPLACE VIEW crm.document_letter WITH (security_invoker = true) AS
	SELECT s.id AS sending_id, s.document_id, d.number, s.version, s.contact_id, s.message_id, m.recipient,
		CASE WHEN s.message_id IS NULL THEN 'failed' ELSE m.state END AS state, s.at AS queued_at, m.sent_at, m.delivered_at,
		coalesce(s.problem, m.last_error) AS last_error, s.by
	FROM crm.document_sending s
	JOIN crm.document d ON d.id = s.document_id
	LEFT JOIN LATERAL (SELECT x.recipient, x.state, x.sent_at, x.delivered_at, x.last_error FROM crm.message x WHERE x.id = s.message_id OFFSET 0) m ON true;
COMMENT ON VIEW crm.document_letter IS 'Letters with documents and what became of them (claim 6)';
COMMENT ON COLUMN crm.document_letter.sending_id IS 'crm.document_sending.id';
COMMENT ON COLUMN crm.document_letter.document_id IS 'crm.document.id';
COMMENT ON COLUMN crm.document_letter.number IS 'Number of the document';
COMMENT ON COLUMN crm.document_letter.version IS 'Which files went';
COMMENT ON COLUMN crm.document_letter.contact_id IS 'The reader (crm.contact.id)';
COMMENT ON COLUMN crm.document_letter.message_id IS 'The letter (crm.message.id); NULL: none was queued';
COMMENT ON COLUMN crm.document_letter.recipient IS 'Its address';
COMMENT ON COLUMN crm.document_letter.state IS 'As crm.message.state; failed where no letter was queued; NULL: the message is kept no longer';
COMMENT ON COLUMN crm.document_letter.queued_at IS 'When it was queued, business clock';
COMMENT ON COLUMN crm.document_letter.sent_at IS 'When the mail server took it, business clock';
COMMENT ON COLUMN crm.document_letter.delivered_at IS 'When it reached the reader';
COMMENT ON COLUMN crm.document_letter.last_error IS 'Why not, or not yet';
COMMENT ON COLUMN crm.document_letter.by IS 'Login role of the session that sent it';

-- ---- duties -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.document_health() RETURNS TABLE (severity text, subject text, message text, hint text, since timestamptz)
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT 'warning', 'document ' || d.number, 'it was to be sent and there is no e-mail address to send it to',
		format('Enter one in crm.contact_point for company %s, then SELECT crm.send_document(%s);', coalesce(d.company_id::text, '-'), d.id), min(s.at)
	FROM crm.document_sending s
	JOIN crm.document d ON d.id = s.document_id
	WHERE s.message_id IS NULL AND s.at > crm.now() - interval '30 days' AND d.state = 'issued'
	GROUP BY d.id
	ORDER BY min(s.at) DESC
	LIMIT 20;
END;
COMMENT ON FUNCTION crm.document_health() IS 'Rows of crm.health: documents of the last thirty days that found nobody to be sent to, at most 20.';
SELECT crm.register_hook('health', 'document', 'crm.document_health');

CREATE OR REPLACE FUNCTION crm.document_selftest() RETURNS TABLE (promise text, ok boolean, evidence text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bad text[];
BEGIN
	SELECT array_agg(format('%s of %s: %s documents, last number %s, counter %s', x.kind, x.year, x.n, x.most, coalesce(c.last::text, 'none')) ORDER BY x.kind, x.year) INTO bad
	FROM (SELECT d.kind, d.year, count(*) AS n, max(d.serial) AS most FROM crm.document d GROUP BY d.kind, d.year) x
	LEFT JOIN crm.document_counter c ON c.kind = x.kind AND c.year = x.year
	WHERE x.n <> x.most OR c.last IS DISTINCT FROM x.most;
	RETURN QUERY SELECT 'numbers of documents have no gap', bad IS NULL, coalesce(array_to_string(bad, '; ') || ': changed past the functions', 'every kind and year counted');

	SELECT array_agg(format('document %s', d.number) ORDER BY d.id) INTO bad FROM (
		SELECT x.id, x.number FROM crm.document x
		WHERE x.state IS DISTINCT FROM (SELECT l.to_state FROM crm.document_log l WHERE l.document_id = x.id ORDER BY l.id DESC LIMIT 1)
		ORDER BY x.id LIMIT 20) d;
	RETURN QUERY SELECT 'a document is where its log says', bad IS NULL, coalesce(array_to_string(bad, ', ') || ': changed past the triggers', 'every document looked at');

	SELECT array_agg(format('%s, version %s', f.file_name, f.version) ORDER BY f.id) INTO bad FROM (
		SELECT x.* FROM (SELECT y.* FROM crm.document_file y ORDER BY y.id DESC LIMIT 500) x WHERE sha256(x.content) <> x.sha256 OR octet_length(x.content) <> x.bytes) f;
	RETURN QUERY SELECT 'files of documents are as they were stored', bad IS NULL,
		coalesce(array_to_string(bad[:20], '; ') || ': SELECT * FROM crm.document_verify(…);', 'the newest 500 hashed again');
END
$$;
COMMENT ON FUNCTION crm.document_selftest() IS 'Rows of crm.selftest() about documents: numbers without gaps, state and log, the hash of the newest 500 files.';
SELECT crm.register_hook('selftest', 'document', 'crm.document_selftest');

SELECT crm.register_no_foreign_key('crm.document', 'object_id', 'the object may be of any room');
SELECT crm.register_foreign_key('crm.document', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.document_file', 'document_id', 'crm.document');
SELECT crm.register_no_foreign_key('crm.document_log', 'document_id', 'history, written in bulk; a document is never deleted');
SELECT crm.register_foreign_key('crm.document_sending', 'document_id', 'crm.document');
SELECT crm.register_foreign_key('crm.document_sending', 'contact_id', 'crm.contact');
SELECT crm.register_no_foreign_key('crm.document_sending', 'message_id', 'the message moves to its history');
