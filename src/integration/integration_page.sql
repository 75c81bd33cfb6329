-- integration: forms that come, and pages that go.

-- ---- C ---------------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.form_parts(content_type text, body bytea) RETURNS TABLE (name text, file_name text, media_type text, content bytea)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_integration_form_parts';
COMMENT ON FUNCTION crm.form_parts(text, bytea) IS 'The parts of a form as a browser sends it, in their order: multipart/form-data (file_name is NULL for a plain field, empty for a file that was not chosen; never with a path) or application/x-www-form-urlencoded. At most 16 MB, 100 parts or 1000 fields. Error 22023 for whatever else comes.';

CREATE OR REPLACE FUNCTION crm.form_text(content bytea) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_integration_form_text';
COMMENT ON FUNCTION crm.form_text(bytea) IS 'The bytes of a form''s field as text. Never raises an error for what a stranger sent: octets that are no UTF-8 become U+FFFD.';

-- ---- reading a request -----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.form_field(request crm.http_request, name text) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.form_text(p.content)
	FROM crm.form_parts(crm.header_value(($1).headers, 'content-type'), ($1).body) AS p
	WHERE p.name = $2 AND p.file_name IS NULL
	LIMIT 1
$$;
COMMENT ON FUNCTION crm.form_field(crm.http_request, text) IS 'The first field of that name of the form that a request brings; NULL when there is none. Error 22023 for a body that is no form.';

CREATE OR REPLACE FUNCTION crm.form_once(request crm.http_request) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN left(crm.form_field(request, 'once'), 100);
EXCEPTION WHEN invalid_parameter_value THEN
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.form_once(crm.http_request) IS 'The field once of a form, by which the same form is known when it comes twice; NULL for a form without, and for what is no form.';

CREATE OR REPLACE FUNCTION crm.page_language(request crm.http_request) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(
		(SELECT f.value FROM crm.form_value(($1).query, 'lang') AS f(value) WHERE f.value IN ('ru', 'en')),
		(SELECT w.words[1] FROM regexp_matches(left(lower(crm.header_value(($1).headers, 'accept-language')), 200), '\m(ru|en)\M') AS w(words)),
		'ru')
$$;
COMMENT ON FUNCTION crm.page_language(crm.http_request) IS 'ru or en: what ?lang= says, else what the browser names first, else ru.';

CREATE OR REPLACE FUNCTION crm.page_word(language text, ru text, en text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE $1 WHEN 'en' THEN $3 ELSE $2 END;
END;
COMMENT ON FUNCTION crm.page_word(text, text, text) IS 'One of two texts, by the language of the page.';

-- ---- pages -----------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.html(value text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(replace(crm.escaped($1, 'xml'), '&apos;', '&#39;'), '')
$$;
COMMENT ON FUNCTION crm.html(text) IS 'A value as it may stand in a page, in its text or in an attribute between quotes; NULL is nothing.';

CREATE OR REPLACE FUNCTION crm.page_html(title text, body_html text, language text DEFAULT 'ru', refresh_s integer DEFAULT NULL, style text DEFAULT NULL) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT concat('<!DOCTYPE html>', E'\n<html lang="', CASE $3 WHEN 'en' THEN 'en' ELSE 'ru' END, E'">\n<head>\n<meta charset="utf-8">\n',
		E'<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="robots" content="noindex">\n',
		CASE WHEN $4 > 0 THEN format(E'<meta http-equiv="refresh" content="%s">\n', $4) END,
		'<title>', crm.html($1), E'</title>\n<style>\n', coalesce($5,
'body{font:17px/1.45 system-ui,sans-serif;color:#1b1b1b;background:#fff;margin:0 auto;max-width:40em;padding:1em;overflow-wrap:anywhere}
h1{font-size:1.35em}h2{font-size:1.15em;margin-top:1.6em}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.35em .6em .35em 0;border-bottom:1px solid #ddd}th{font-weight:600;width:40%}
label{display:block;margin:.8em 0 .3em}textarea,input,select,button{font:inherit;box-sizing:border-box;max-width:100%}textarea{width:100%;min-height:7em}
button{padding:.6em 1.2em;margin:.8em .6em 0 0;border:1px solid #444;border-radius:.3em;background:#f3f3f3}
.good{color:#0a6b2b}.bad{color:#b00020}.note{color:#555;font-size:.9em}'),
		E'\n</style>\n</head>\n<body>\n', $2, E'\n</body>\n</html>\n')
$$;
COMMENT ON FUNCTION crm.page_html(text, text, text, integer, text) IS 'A whole page around a body that is HTML already: readable on a phone, without scripts and without anything from elsewhere. title is a plain text; refresh_s makes the page load itself again; style takes the place of the usual one.';

CREATE OR REPLACE FUNCTION crm.page_answer(status integer, html text) RETURNS crm.http_response
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT ROW ($1, ARRAY[
		'Content-Type: text/html; charset=utf-8',
		'Content-Security-Policy: default-src ''none''; style-src ''unsafe-inline''; form-action ''self''; base-uri ''none''; frame-ancestors ''none''',
		'Referrer-Policy: no-referrer',
		'Cache-Control: no-store',
		'X-Robots-Tag: noindex, nofollow',
		'X-Content-Type-Options: nosniff'], convert_to($2, 'UTF8'))::crm.http_response
$$;
COMMENT ON FUNCTION crm.page_answer(integer, text) IS 'A page as a route''s or a purpose''s answer: nothing but its own styles may load, its address goes nowhere as a referrer, and nobody keeps or indexes it.';

CREATE OR REPLACE FUNCTION crm.page_rows(labels text[], contents text[]) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(E'<table>\n' || string_agg(format(E'<tr><th scope="row">%s</th><td>%s</td></tr>\n', crm.html(r.label), crm.html(r.content)), '' ORDER BY r.n) || '</table>', '')
	FROM unnest($1, $2) WITH ORDINALITY AS r(label, content, n)
	WHERE r.content <> ''
$$;
COMMENT ON FUNCTION crm.page_rows(text[], text[]) IS 'Labels and plain texts as a table of HTML, in their order; a label without a text is left out.';

CREATE OR REPLACE FUNCTION crm.page_once() RETURNS text
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT '<input type="hidden" name="once" value="' || crm.link_token() || '">'
$$;
COMMENT ON FUNCTION crm.page_once() IS 'The hidden field of a form by which it is known when it is sent twice.';

CREATE OR REPLACE FUNCTION crm.link_gone() RETURNS crm.http_response
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.page_answer(404, crm.page_html('Ссылка не действует · The link does not work',
		'<h1>Ссылка не действует</h1><p>Её срок истёк, она уже использована или набрана с ошибкой. Попросите новую у того, кто её прислал.</p>'
		'<div lang="en"><h1>The link does not work</h1><p>It has expired, was used already, or is not whole. Ask for a new one where it came from.</p></div>', 'ru'))
$$;
COMMENT ON FUNCTION crm.link_gone() IS 'The one page for links that are unknown, expired, used up or closed: it does not say which.';
