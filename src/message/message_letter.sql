-- message: the looks of the letters that ship (claim 62).

CREATE OR REPLACE FUNCTION crm.letter_html(lines text[], labels text[] DEFAULT '{}', facts text[] DEFAULT '{}') RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT '<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"></head>'
		|| '<body style="margin:0;background:#f2f2f2"><div style="max-width:560px;margin:0 auto;padding:20px;background:#ffffff;'
		|| 'font:16px/1.5 -apple-system,Segoe UI,Roboto,Arial,sans-serif;color:#222222">'
		|| coalesce((SELECT string_agg(format('<p style="margin:0 0 12px">%s</p>', l.line), '' ORDER BY l.n) FROM unnest($1) WITH ORDINALITY AS l(line, n)), '')
		|| coalesce((SELECT string_agg(format('<p style="margin:0 0 6px"><span style="color:#777777">%s</span><br><b>%s</b></p>', f.label, f.fact), '' ORDER BY f.n)
			FROM unnest($2, $3) WITH ORDINALITY AS f(label, fact, n)), '')
		|| '</div></body></html>'
$$;
COMMENT ON FUNCTION crm.letter_html(text[], text[], text[]) IS 'The HTML part of a letter''s template, one column that a telephone shows as well: paragraphs, then facts under their labels. Texts are HTML and may hold placeholders';

CREATE OR REPLACE FUNCTION crm.ship_words(code text, language text, said text, subject text DEFAULT NULL, greeting text DEFAULT NULL, line text DEFAULT NULL, labels text[] DEFAULT '{}', facts text[] DEFAULT '{}') RETURNS void
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.ship_template($1, 'sms', $2, NULL, $3, NULL), crm.ship_template($1, 'telegram', $2, NULL, $3, NULL),
		CASE WHEN $4 IS NOT NULL THEN crm.ship_template($1, 'email', $2, $4,
			concat_ws(E'\n\n', $5, coalesce($6, $3), (SELECT string_agg(f.label || ': ' || f.fact, E'\n' ORDER BY f.n) FROM unnest($7, $8) WITH ORDINALITY AS f(label, fact, n))) || E'\n',
			crm.letter_html(array_remove(ARRAY[$5, coalesce($6, $3)], NULL), $7, $8)) END
$$;
COMMENT ON FUNCTION crm.ship_words(text, text, text, text, text, text, text[], text[]) IS 'Brings a shipped text in one language for the channels among which a rule with channel auto chooses: said by sms and telegram; where there is a subject also as a letter, which greets, says line (NULL: the same) and lists facts under their labels';
