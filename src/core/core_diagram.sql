-- core: words in diagrams. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.diagram_text(words text, format text DEFAULT 'mermaid') RETURNS text
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := btrim(regexp_replace(left(coalesce(words, ''), 200), '[\u0001-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+', ' ', 'g'));
BEGIN
	IF format = 'dot' THEN
		RETURN '"' || replace(replace(clean, '\', '\\'), '"', '\"') || '"';
	END IF;
	RETURN '"' || coalesce((SELECT string_agg(CASE WHEN c.c ~ '["#&<>;`{}%\\|\[\]$*~]' THEN '#' || ascii(c.c) || ';' ELSE c.c END, '' ORDER BY c.n)
		FROM regexp_split_to_table(nullif(clean, ''), '') WITH ORDINALITY AS c(c, n)), ' ') || '"';
END
$$;
COMMENT ON FUNCTION crm.diagram_text(text, text) IS 'Words as a quoted label of a diagram, whatever stands in them: of Mermaid (signs that mean something there become character codes) or, with dot, of Graphviz. Signs that are not seen become a blank; at most 200 signs.';

CREATE OR REPLACE FUNCTION crm.diagram_format(format text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF format IS NULL OR format NOT IN ('mermaid', 'dot') THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('"%s" is no format of a diagram', coalesce(left(format, 40), 'NULL')), HINT = 'Give mermaid or dot.';
	END IF;
	RETURN format;
END
$$;
COMMENT ON FUNCTION crm.diagram_format(text) IS 'The format itself where it is mermaid or dot; error 22023 otherwise.';
