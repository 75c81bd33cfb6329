-- document: the stage action that makes a document. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.action_document_check(settings jsonb) RETURNS void
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	bad text;
BEGIN
	IF NOT EXISTS (SELECT FROM crm.document_kind k WHERE k.kind = settings ->> 'kind') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('the action document makes no kind %s', coalesce('"' || left(settings ->> 'kind', 100) || '"', 'that is named')),
			HINT = format('Set kind to one of: %s.', coalesce((SELECT string_agg(k.kind, ', ' ORDER BY k.kind) FROM crm.document_kind k), 'none'));
	END IF;
	SELECT string_agg(s.key, ', ' ORDER BY s.key) INTO bad FROM jsonb_each(settings) s
	WHERE s.key NOT IN ('kind', 'send', 'another', 'data')
		OR s.key IN ('send', 'another') AND jsonb_typeof(s.value) <> 'boolean'
		OR s.key = 'data' AND jsonb_typeof(s.value) <> 'object';
	IF bad IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not settings of the action document: %s', left(bad, 200)),
			HINT = 'kind is a text, send and another are true or false, data is an object; nothing else.';
	END IF;
END
$$;
COMMENT ON FUNCTION crm.action_document_check(jsonb) IS 'Refuses settings of the stage action document with 22023.';

CREATE OR REPLACE FUNCTION crm.action_document(deal_ids bigint[], stage_action_id bigint, stage_log_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
	settings  jsonb;
	deals     bigint[];
	companies bigint[];
	documents bigint[];
	one       record;
BEGIN
	SELECT a.settings INTO settings FROM crm.stage_action a WHERE a.id = stage_action_id;
	SELECT array_agg(d.id ORDER BY g.n), array_agg(d.company_id ORDER BY g.n) INTO deals, companies
	FROM unnest(deal_ids) WITH ORDINALITY AS g(id, n)
	CROSS JOIN LATERAL (SELECT x.id, x.company_id FROM crm.deal x WHERE x.id = g.id OFFSET 0) d;
	SELECT array_agg(m.document_id) INTO documents
	FROM crm.make_documents(settings ->> 'kind', 'deal', deals, companies,
		array_fill(coalesce(settings -> 'data', '{}'), ARRAY[cardinality(deals)]), coalesce((settings ->> 'another')::boolean, false)) m;
	-- One that was sent before is not sent again because its deal came back.
	FOR one IN
		SELECT d.id, y.contact_id
		FROM unnest(documents) AS g(id)
		CROSS JOIN LATERAL (SELECT x.id, x.object_id FROM crm.document x WHERE x.id = g.id AND x.state = 'issued' OFFSET 0) d
		CROSS JOIN LATERAL (SELECT x.contact_id FROM crm.deal x WHERE x.id = d.object_id OFFSET 0) y
		WHERE (settings ->> 'send')::boolean
		ORDER BY d.id
	LOOP
		PERFORM FROM crm.send_document(one.id,
			(SELECT p.contact_id FROM crm.contact_point p JOIN crm.contact c ON c.id = p.contact_id AND c.archived_at IS NULL
			 WHERE p.contact_id = one.contact_id AND p.kind = 'email' AND p.state <> 'invalid' LIMIT 1));
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.action_document(bigint[], bigint, bigint[]) IS 'The stage action document (claim 94): makes a document of the kind in settings.kind for each deal, in the transaction of its move. A deal that has a living one gets no second, unless settings.another is true. settings.send true: queues it to the deal''s contact, or, if that has no e-mail address, to every contact of the company; settings.data goes into the document.';
SELECT crm.register_stage_action('document', 'crm.action_document', 'crm.action_document_check');
