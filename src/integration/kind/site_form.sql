-- site_form: the plant's web site. Nothing is asked of it: its forms come in by the listener.
--
-- POST to the route is a form, as a browser or the site's back end sends it; GET is a page with a form of ours, or a
-- token for the site's own; .../status answers a visitor by number and phone (claim 8). Settings: form (what the form
-- is called), token (true: a form without a signed token is spam), origins (sites whose scripts may read answers),
-- back_url (where a browser goes afterwards), proxy (true: the visitor's address is the last of X-Forwarded-For),
-- consent_version and consent_text (of our page).

CREATE OR REPLACE FUNCTION crm.site_form_answer(status integer, answer json, origin text) RETURNS crm.http_response
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT ROW ($1, ARRAY['Content-Type: application/json; charset=utf-8', 'Cache-Control: no-store', 'X-Content-Type-Options: nosniff', 'Vary: Origin']
		|| CASE WHEN $3 IS NOT NULL THEN ARRAY['Access-Control-Allow-Origin: ' || $3] ELSE '{}' END, convert_to($2::text, 'UTF8'))::crm.http_response
$$;
COMMENT ON FUNCTION crm.site_form_answer(integer, json, text) IS 'An answer as JSON, which scripts of an origin (NULL: of none) may read';

CREATE OR REPLACE FUNCTION crm.site_form_fields(request crm.http_request) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	type_ text := lower(coalesce(crm.header_value(request.headers, 'content-type'), ''));
	doc   jsonb;
BEGIN
	IF type_ ~ '^(application/(x-www-form-urlencoded)|multipart/form-data)' THEN
		-- files are left out; of fields of one name the first counts
		SELECT coalesce(jsonb_object_agg(f.name, f.value), '{}') INTO doc
		FROM (SELECT DISTINCT ON (p.name) p.name, crm.body_text(p.content) AS value
			FROM crm.form_parts(crm.header_value(request.headers, 'content-type'), request.body) WITH ORDINALITY AS p(name, file_name, media_type, content, n)
			WHERE p.file_name IS NULL AND p.name <> '' ORDER BY p.name, p.n) f;
		RETURN doc;
	END IF;
	doc := crm.body_json(request.body);
	IF jsonb_typeof(doc) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'the body is no form and no JSON object', HINT = 'Send application/x-www-form-urlencoded, multipart/form-data or application/json.';
	END IF;
	RETURN doc;
END
$$;
COMMENT ON FUNCTION crm.site_form_fields(crm.http_request) IS 'The fields of a form, as JSON: of a browser''s two ways to send it, or of a JSON body. Error 22023 for all else';

CREATE OR REPLACE FUNCTION crm.site_form_page(settings jsonb, form text, language text, doc jsonb, problem text) RETURNS text
	LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	consent text := coalesce((SELECT t.wording FROM crm.consent_text t WHERE t.code = settings ->> 'consent_version' AND t.purpose = 'processing'), settings ->> 'consent_text');
	honey   text := coalesce((SELECT f.honeypot FROM crm.lead_form f WHERE f.code IN (form, 'default') ORDER BY f.code = form DESC LIMIT 1), 'website');
BEGIN
	RETURN crm.page_html(crm.page_word(language, 'Заявка', 'Request'),
		format(E'<h1>%s</h1>\n%s<form method="post">\n%s\n<input type="hidden" name="form_token" value="%s">\n<input type="hidden" name="form" value="%s">\n<p hidden aria-hidden="true"><label>%s<input name="%s" tabindex="-1" autocomplete="off"></label></p>\n',
			crm.page_word(language, 'Оставьте заявку', 'Leave a request'),
			CASE WHEN problem IS NULL THEN '' ELSE format(E'<p class="bad" role="alert">%s</p>\n', crm.html(problem)) END,
			crm.page_once(), crm.html(crm_erp.lead_token(form)), crm.html(form), crm.page_word(language, 'Не заполняйте', 'Leave empty'), honey)
		|| (SELECT string_agg(format(E'<label for="%1$s">%2$s</label>\n<input id="%1$s" name="%1$s" type="%3$s" value="%4$s" maxlength="300"%5$s>\n', f.name, f.label, f.type, crm.html(doc ->> f.name), f.more), '' ORDER BY f.n)
			FROM (VALUES (1, 'name', crm.page_word(language, 'Имя', 'Name'), 'text', ' autocomplete="name"'),
				(2, 'phone', crm.page_word(language, 'Телефон', 'Phone'), 'tel', ' autocomplete="tel" required'),
				(3, 'company', crm.page_word(language, 'Компания', 'Company'), 'text', ' autocomplete="organization"'),
				(4, 'product', crm.page_word(language, 'Что нужно и сколько', 'What, and how much'), 'text', '')) AS f(n, name, label, type, more))
		|| format(E'<label for="message">%s</label>\n<textarea id="message" name="message" maxlength="10000">\n%s</textarea>\n', crm.page_word(language, 'Сообщение', 'Message'), crm.html(doc ->> 'message'))
		|| CASE WHEN consent IS NULL THEN '' ELSE format(E'<p><label><input type="checkbox" name="consent_processing" value="1" required> %s</label></p>\n<input type="hidden" name="consent_version" value="%s">\n<input type="hidden" name="consent_text" value="%s">\n',
			replace(crm.html(consent), E'\n', '<br>'), crm.html(settings ->> 'consent_version'), crm.html(consent)) END
		|| format(E'<button>%s</button>\n</form>\n<h2>%s</h2>\n<form method="get">\n<label for="n">%s</label>\n<input id="n" name="number" maxlength="100" required>\n<label for="p">%s</label>\n<input id="p" name="phone" type="tel" maxlength="30" required>\n<button>%s</button>\n</form>',
			crm.page_word(language, 'Отправить', 'Send'), crm.page_word(language, 'Где мой заказ', 'Where is my order'), crm.page_word(language, 'Номер заказа или заявки', 'Number of the order or request'),
			crm.page_word(language, 'Телефон', 'Phone'), crm.page_word(language, 'Узнать', 'Ask')), language);
END
$$;
COMMENT ON FUNCTION crm.site_form_page(jsonb, text, text, jsonb, text) IS 'A page with a form, for a site that has none: settings, what the form is called, language, the fields written so far, what was wrong with them';

CREATE OR REPLACE FUNCTION crm.site_form_route(integration_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	site     text;
	settings jsonb;
	l        text := crm.page_language(request);
	origin   text := left(crm.header_value(request.headers, 'origin'), 300);
	allowed  text;
	page     boolean := coalesce(crm.header_value(request.headers, 'accept'), '') ~* 'text/html';
	peer     text;
	form     text;
	doc      jsonb;
	answer   crm_erp.put_result;
	asked    integer;
	words    text;
	found_   json;
BEGIN
	SELECT i.name, k.defaults || i.settings INTO site, settings FROM crm.integration i JOIN crm.integration_kind k ON k.kind = i.kind WHERE i.id = $1;
	form := left(lower(coalesce(settings ->> 'form', 'site')), 100);
	IF jsonb_typeof(settings -> 'origins') = 'array' AND jsonb_exists(settings -> 'origins', origin) THEN
		allowed := origin;
	END IF;
	peer := CASE WHEN settings ->> 'proxy' = 'true' THEN coalesce(btrim(substring(crm.header_value(request.headers, 'x-forwarded-for') FROM '([^,]*)$')), request.peer) ELSE request.peer END;

	IF request.method = 'OPTIONS' THEN
		RETURN ROW (CASE WHEN allowed IS NULL THEN 403 ELSE 204 END, CASE WHEN allowed IS NULL THEN NULL ELSE ARRAY['Access-Control-Allow-Origin: ' || allowed, 'Access-Control-Allow-Methods: GET, POST',
			'Access-Control-Allow-Headers: Content-Type, Accept', 'Access-Control-Max-Age: 600', 'Vary: Origin'] END, NULL)::crm.http_response;
	END IF;

	IF btrim(request.path, '/') = 'status' OR request.method = 'GET' AND crm.form_value(request.query, 'number') IS NOT NULL THEN
		IF request.method NOT IN ('GET', 'POST') THEN
			RETURN ROW (405, ARRAY['Allow: GET, POST'], NULL)::crm.http_response;
		END IF;
		INSERT INTO crm.lead_ask AS a (address, hour, number) VALUES (left(coalesce(peer, ''), 100), date_trunc('hour', crm.now(), 'UTC'), 1)
		ON CONFLICT (address, hour) DO UPDATE SET number = least(a.number + 1, 1000000) RETURNING number INTO asked;
		IF asked > 60 THEN
			RETURN ROW (429, ARRAY['Retry-After: 600'], NULL)::crm.http_response;
		END IF;
		BEGIN
			doc := CASE WHEN request.method = 'POST' THEN crm.site_form_fields(request) ELSE jsonb_build_object('number', crm.form_value(request.query, 'number'), 'phone', crm.form_value(request.query, 'phone')) END;
		EXCEPTION WHEN data_exception THEN
			doc := '{}';
		END;
		SELECT json_agg(json_strip_nulls(json_build_object('kind', s.kind, 'number', s.number, 'state', s.state, 'state_name', s.state_name, 'since', s.since, 'eta', s.eta))),
			string_agg(crm.page_rows(ARRAY[crm.page_word(l, 'Номер', 'Number'), crm.page_word(l, 'Состояние', 'State'), crm.page_word(l, 'Ожидается', 'Expected')],
				ARRAY[s.number, s.state_name, to_char(s.eta, 'DD.MM.YYYY HH24:MI')]), E'\n')
		INTO found_, words
		FROM crm_erp.order_status(crm.lead_text(doc, 'number', 100), crm.lead_text(doc, 'phone', 100)) s;
		IF page THEN
			RETURN crm.page_answer(CASE WHEN words IS NULL THEN 404 ELSE 200 END, crm.page_html(crm.page_word(l, 'Состояние заказа', 'State of the order'),
				format('<h1>%s</h1>%s', crm.page_word(l, 'Состояние заказа', 'State of the order'),
					coalesce(words, format('<p>%s</p>', crm.page_word(l, 'По этому номеру и телефону ничего нет. Проверьте оба.', 'Nothing is known by this number and phone. Look at both.')))), l));
		END IF;
		RETURN crm.site_form_answer(CASE WHEN found_ IS NULL THEN 404 ELSE 200 END, json_build_object('found', coalesce(found_, '[]')), allowed);
	ELSIF btrim(request.path, '/') <> '' THEN
		RETURN ROW (404, NULL, NULL)::crm.http_response;
	END IF;

	IF request.method IN ('GET', 'HEAD') THEN
		IF page THEN
			RETURN crm.page_answer(200, crm.site_form_page(settings, form, l, '{}', NULL));
		END IF;
		RETURN crm.site_form_answer(200, json_build_object('form_token', crm_erp.lead_token(form), 'form', form, 'once', crm.link_token()), allowed);
	END IF;

	-- A browser names the site whose page sends; where sites are listed, the others are no site of ours.
	IF origin IS NOT NULL AND allowed IS NULL AND jsonb_array_length(CASE jsonb_typeof(settings -> 'origins') WHEN 'array' THEN settings -> 'origins' ELSE '[]' END) > 0 THEN
		RETURN crm.site_form_answer(403, json_build_object('error', 'this site may not send forms here'), NULL);
	END IF;
	BEGIN
		doc := crm.site_form_fields(request);
		IF crm.lead_text(doc, 'source_lead_id', 200) IS NULL AND crm.lead_text(doc, 'once', 100) IS NOT NULL THEN
			doc := doc || jsonb_build_object('source_lead_id', 'once:' || crm.lead_text(doc, 'once', 100));
		END IF;
		IF crm.lead_text(doc, 'form', 100) IS NULL THEN
			doc := doc || jsonb_build_object('form', form);
		END IF;
		IF crm.lead_text(doc, 'page_url', 2000) IS NULL AND crm.header_value(request.headers, 'referer') IS NOT NULL THEN
			doc := doc || jsonb_build_object('page_url', crm.header_value(request.headers, 'referer'));
		END IF;
		answer := crm.lead_put(doc - 'site' || jsonb_build_object('site', site), site, peer, crm.header_value(request.headers, 'user-agent'), settings ->> 'token' = 'true');
	EXCEPTION WHEN data_exception OR program_limit_exceeded OR null_value_not_allowed THEN
		GET STACKED DIAGNOSTICS words = MESSAGE_TEXT;
		IF page THEN
			RETURN crm.page_answer(422, crm.site_form_page(settings, form, l, coalesce(doc, '{}'), crm.page_word(l, 'Укажите телефон или почту, чтобы мы могли ответить.', 'Give a phone or an address, so that we can answer.')));
		END IF;
		RETURN crm.site_form_answer(422, json_build_object('error', words), allowed);
	END;
	-- Who sends spam hears nothing of it.
	IF page AND settings ->> 'back_url' ~ '^https?://[^[:space:]]+$' THEN
		RETURN ROW (303, ARRAY['Location: ' || (settings ->> 'back_url') || CASE WHEN position('?' IN settings ->> 'back_url') > 0 THEN '&' ELSE '?' END || 'lead=' || answer.id, 'Cache-Control: no-store'], NULL)::crm.http_response;
	ELSIF page THEN
		RETURN crm.page_answer(200, crm.page_html(crm.page_word(l, 'Заявка принята', 'Taken'),
			format('<h1>%s</h1><p class="good">%s %s.</p><p>%s</p>', crm.page_word(l, 'Заявка принята', 'Your request was taken'), crm.page_word(l, 'Её номер', 'Its number is'), answer.id,
				crm.page_word(l, 'Мы ответим в рабочее время. По номеру и телефону можно узнать её состояние.', 'We shall answer in working hours. By the number and your phone you can ask for its state.')), l));
	END IF;
	RETURN crm.site_form_answer(200, json_build_object('id', answer.id::text, 'number', answer.id::text, 'repeat', answer.result IN ('same', 'updated')), allowed);
END
$$;
COMMENT ON FUNCTION crm.site_form_route(bigint, crm.http_request) IS 'Route of the site: SELECT crm.add_route(''site'', ''lead'', ''crm.site_form_route'', ''{GET,POST,OPTIONS}''). POST takes a form (crm_erp.put_lead), GET gives a page or a token, /status answers by number and phone; the same form again gets the same number. 422 nothing to answer to, 403 a site that is not listed, 429 too many questions. Claim 8';

SELECT crm.register_kind('site_form', NULL, NULL, defaults => '{"form": "site"}',
	description_en => 'Forms of the plant''s web site, taken by the listener', description_ru => 'Формы сайта, принимаемые слушателем');
