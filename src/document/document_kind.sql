-- document: the registry of kinds. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.register_document_kind(kind text, prefix text, name_ru text, name_en text, render text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM crm.owner_code(render, 'bigint', 'crm.document_rendering');
	INSERT INTO crm.document_kind AS k (kind, prefix, name_ru, name_en, render) VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT ON CONSTRAINT document_kind_pkey DO UPDATE SET prefix = EXCLUDED.prefix, name_ru = EXCLUDED.name_ru, name_en = EXCLUDED.name_en, render = EXCLUDED.render;
END
$$;
COMMENT ON FUNCTION crm.register_document_kind(text, text, text, text, text) IS 'Makes a kind of document known: its name, the first part of its numbers (unique), its names in Russian and English, and the full name of f(document_id bigint) RETURNS crm.document_rendering, which reads the document and its object. Called by the script; a DBA''s own kinds are registered again after a restore, and their functions are SECURITY DEFINER and belong to a member of crm_integrator. Errors: those of crm.owner_code().';
SELECT crm.register_undumped('crm.document_kind', 'filled by code');
