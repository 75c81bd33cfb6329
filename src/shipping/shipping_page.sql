-- shipping: a carrier's page, without a login (claims 55 and 73): what is held against him or asked of him, and his answer.

CREATE OR REPLACE FUNCTION crm.claim_page_rows(claim_id bigint, language text DEFAULT 'ru') RETURNS TABLE (label text, value text)
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l    text := claim_page_rows.language;
	form constant text := 'DD.MM.YYYY HH24:MI';
BEGIN
	RETURN QUERY
		SELECT r.label, r.value
		FROM (SELECT y.* FROM crm.claim y WHERE y.id = claim_page_rows.claim_id) c
		CROSS JOIN LATERAL (SELECT y.* FROM crm.lateness y WHERE y.id = c.lateness_id OFFSET 0) a
		CROSS JOIN LATERAL (SELECT n.number, n.zone FROM crm.contract_term y JOIN crm.contract n ON n.id = y.contract_id WHERE y.id = c.term_id OFFSET 0) n
		CROSS JOIN LATERAL (SELECT y.plate FROM crm.vehicle y WHERE y.id = a.vehicle_id OFFSET 0) v
		LEFT JOIN LATERAL (SELECT y.name FROM crm.place y WHERE y.id = a.place_id OFFSET 0) p ON true
		LEFT JOIN LATERAL (SELECT y.name FROM crm.company y WHERE y.id = c.carrier_id OFFSET 0) k ON true
		CROSS JOIN LATERAL (VALUES
			(1, crm.page_word(l, 'Претензия', 'Claim'), c.id::text),
			(2, crm.page_word(l, 'Перевозчик', 'Carrier'), k.name),
			(3, crm.page_word(l, 'Договор', 'Contract'), n.number),
			(4, crm.page_word(l, 'За опоздание', 'For lateness'), CASE c.side WHEN 'loading' THEN crm.page_word(l, 'на погрузку', 'at loading') ELSE crm.page_word(l, 'на выгрузку', 'at unloading') END),
			(5, crm.page_word(l, 'Машина', 'Vehicle'), v.plate),
			(6, crm.page_word(l, 'Место', 'Place'), p.name),
			(7, crm.page_word(l, 'По плану', 'Planned'), to_char(a.planned_at AT TIME ZONE n.zone, form)),
			(8, crm.page_word(l, 'Прибыла', 'Arrived'), to_char(a.arrived_at AT TIME ZONE n.zone, form)
				|| CASE WHEN a.error_s > 0 THEN format(' (± %s %s)', ceil(a.error_s / 60), crm.page_word(l, 'мин', 'min')) ELSE '' END),
			(9, crm.page_word(l, 'Чем доказано', 'Proved by'), CASE a.means WHEN 'gps' THEN crm.page_word(l, 'положение по спутнику', 'position by satellite')
				WHEN 'gate' THEN crm.page_word(l, 'отметка на воротах', 'the gate') WHEN 'weighbridge' THEN crm.page_word(l, 'весы', 'the weighbridge')
				WHEN 'bot' THEN crm.page_word(l, 'отметка водителя', 'the driver''s check-in') WHEN 'monitor' THEN crm.page_word(l, 'отметка у монитора', 'check-in at the monitor')
				ELSE crm.page_word(l, 'отметка сотрудника', 'an employee''s check-in') END),
			(10, crm.page_word(l, 'Опоздание, мин', 'Late, min'), c.late_minutes::text),
			(11, crm.page_word(l, 'Из них простой по вине завода, мин', 'Of them in the plant''s own queue, min'), nullif(c.excused_minutes, 0)::text),
			(12, crm.page_word(l, 'Допустимо по договору, мин', 'Free by the contract, min'), c.free_minutes::text),
			(13, crm.page_word(l, 'К оплате, мин', 'Charged, min'), c.charged_minutes::text),
			(14, crm.page_word(l, 'Штраф, руб.', 'Penalty, roubles'), trim_scale(c.penalty)::text
				|| CASE WHEN c.penalty <> c.penalty_made THEN format(' (%s %s)', crm.page_word(l, 'было', 'was'), trim_scale(c.penalty_made)) ELSE '' END),
			(15, crm.page_word(l, 'Объяснить до', 'To be explained by'), to_char(c.explain_by AT TIME ZONE n.zone, form)),
			(16, crm.page_word(l, 'Состояние', 'State'), CASE c.state
				WHEN 'made' THEN crm.page_word(l, 'ждёт объяснения', 'waits for an explanation') WHEN 'sent' THEN crm.page_word(l, 'ждёт объяснения', 'waits for an explanation')
				WHEN 'explained' THEN crm.page_word(l, 'объяснение получено', 'explained') WHEN 'reviewing' THEN crm.page_word(l, 'рассматривается', 'under review')
				WHEN 'accepted' THEN crm.page_word(l, 'объяснение принято, штрафа нет', 'the explanation was accepted, no penalty')
				WHEN 'partly' THEN crm.page_word(l, 'принято частично', 'accepted partly') WHEN 'rejected' THEN crm.page_word(l, 'объяснение отклонено', 'the explanation was rejected')
				ELSE crm.page_word(l, 'отозвана', 'taken back') END),
			(17, crm.page_word(l, 'Решение', 'Decision'), CASE WHEN c.decided_at IS NOT NULL THEN c.reason END)) AS r(n, label, value)
		WHERE r.value IS NOT NULL
		ORDER BY r.n;
END
$$;
COMMENT ON FUNCTION crm.claim_page_rows(bigint, text) IS 'What a carrier sees of a claim, as labels and texts in ru or en, times in the zone of the contract; no row for an unknown one. Claim 73';

CREATE OR REPLACE FUNCTION crm.explanation_form(language text, said text, problem text, once_html text) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE WHEN $3 IS NULL THEN '' ELSE format(E'<p class="bad" role="alert">%s</p>\n', crm.html($3)) END
		|| format(E'<form method="post" enctype="multipart/form-data">\n%s\n<label for="text">%s</label>\n<textarea id="text" name="text" required maxlength="20000">\n%s</textarea>\n<label for="file">%s</label>\n<input id="file" type="file" name="file" multiple>\n<button>%s</button>\n</form>',
			$4, crm.page_word($1, 'Что произошло', 'What happened'), crm.html($2),
			crm.page_word($1, 'Файлы: до пяти, вместе до 10 МБ', 'Files: up to five, 10 MB together'), crm.page_word($1, 'Отправить', 'Send'))
$$;
COMMENT ON FUNCTION crm.explanation_form(text, text, text, text) IS 'The form of an explanation as HTML: language, the words written so far, what was wrong with them (NULL: nothing), the field once as HTML';

CREATE OR REPLACE FUNCTION crm.explanation_posted(l text, object_kind text, object_id bigint, request crm.http_request, OUT number bigint, OUT said text, OUT problem text, OUT names text[])
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	types text[];
	files bytea[];
BEGIN
	BEGIN
		SELECT crm.form_text(p.content) INTO said
		FROM crm.form_parts(crm.header_value(request.headers, 'content-type'), request.body) p WHERE p.name = 'text' AND p.file_name IS NULL LIMIT 1;
		SELECT array_agg(left(p.file_name, 200) ORDER BY p.n), array_agg(coalesce(p.media_type, 'application/octet-stream') ORDER BY p.n), array_agg(p.content ORDER BY p.n)
		INTO names, types, files
		FROM crm.form_parts(crm.header_value(request.headers, 'content-type'), request.body) WITH ORDINALITY AS p(name, file_name, media_type, content, n)
		WHERE p.name = 'file' AND p.file_name <> '';
		said := btrim(replace(said, E'\r\n', E'\n'), E' \t\n');
		IF coalesce(said, '') = '' THEN
			problem := crm.page_word(l, 'Напишите, что произошло.', 'Write what happened.');
		ELSIF length(said) > 20000 THEN
			problem := crm.page_word(l, 'Слишком длинно: до 20000 знаков.', 'Too long: 20000 signs at most.');
		ELSIF cardinality(names) > 5 OR (SELECT sum(octet_length(f)) FROM unnest(files) f) > 10485760 THEN
			problem := crm.page_word(l, 'Слишком много файлов: до пяти, вместе до 10 МБ. Выберите их ещё раз.', 'Too many files: up to five, 10 MB together. Choose them again.');
		ELSIF EXISTS (SELECT FROM unnest(files) f WHERE octet_length(f) = 0) THEN
			problem := crm.page_word(l, 'Один из файлов пуст. Выберите их ещё раз.', 'One of the files is empty. Choose them again.');
		ELSE
			IF $2 = 'claim' THEN
				number := crm.explain_claim($3, said, coalesce(names, '{}'), coalesce(types, '{}'), coalesce(files, '{}'));
			ELSE
				number := crm.explain_slot($3, said, coalesce(names, '{}'), coalesce(types, '{}'), coalesce(files, '{}'));
			END IF;
		END IF;
	EXCEPTION
		WHEN object_not_in_prerequisite_state THEN
			problem := crm.page_word(l, 'Объяснение уже не принимается: срок прошёл или решение вынесено. Свяжитесь с юристами завода.',
				'No explanation is taken any more: the time is over, or it was decided. Write to the plant''s lawyers.');
		WHEN program_limit_exceeded THEN
			problem := crm.page_word(l, 'Объяснений уже слишком много. Свяжитесь с юристами завода.', 'There are too many explanations already. Write to the plant''s lawyers.');
		WHEN data_exception THEN
			problem := crm.page_word(l, 'Это не удалось прочитать. Проверьте текст и файлы.', 'This could not be read. Look at the text and the files.');
	END;
END
$$;
COMMENT ON FUNCTION crm.explanation_posted(text, text, bigint, crm.http_request) IS 'Reads the form of an explanation about a claim or slot and takes it: its number; else what was written, and in words of the language ru or en what was wrong with it';

CREATE OR REPLACE FUNCTION crm.explanation_taken(l text, title text, number bigint, zone text, names text[], back text) RETURNS crm.http_response
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT crm.page_answer(200, crm.page_html($2,
		format('<h1>%s</h1><p class="good">%s</p>', crm.html($2), crm.page_word($1, 'Объяснение принято. Его рассмотрят на заводе.', 'Your explanation was taken. The plant will review it.'))
		|| crm.page_rows(ARRAY[crm.page_word($1, 'Номер объяснения', 'Number'), crm.page_word($1, 'Принято', 'Taken'), crm.page_word($1, 'Файлы', 'Files')],
			ARRAY[$3::text, to_char(crm.now() AT TIME ZONE $4, 'DD.MM.YYYY HH24:MI'), array_to_string($5, ', ')])
		|| format('<p><a href="">%s</a></p>', $6), $1))
$$;
COMMENT ON FUNCTION crm.explanation_taken(text, text, bigint, text, text[], text) IS 'The answer to an explanation that was taken: language, title, its number, zone of its time, names of its files, the words of the way back';

CREATE OR REPLACE FUNCTION crm.explanations_html(l text, zone text, claim_id bigint, slot_id bigint) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(string_agg(format('<h2>%s %s</h2><p>%s</p>%s', crm.page_word($1, 'Ваше объяснение от', 'Your explanation of'), to_char(e.at AT TIME ZONE $2, 'DD.MM.YYYY HH24:MI'),
			replace(crm.html(e.text_), E'\n', '<br>'), CASE WHEN f.names IS NULL THEN '' ELSE format('<p class="note">%s</p>', crm.html(f.names)) END), E'\n' ORDER BY e.id), '')
	FROM crm.explanation e
	LEFT JOIN LATERAL (SELECT string_agg(y.name, ', ' ORDER BY y.id) AS names FROM crm.explanation_file y WHERE y.explanation_id = e.id) f ON true
	WHERE e.claim_id = $3 OR e.slot_id = $4
$$;
COMMENT ON FUNCTION crm.explanations_html(text, text, bigint, bigint) IS 'The explanations of a claim, or of a slot (the other NULL), as HTML for the carrier''s page';

CREATE OR REPLACE FUNCTION crm.carrier_claim_page(claim_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l       text := crm.page_language(request);
	c       crm.claim;
	zone    text;
	title   text;
	facts   text;
	said    text;
	problem text;
	names   text[];
	number  bigint;
	status  integer := 200;
	open    boolean;
BEGIN
	SELECT y.* INTO c FROM crm.claim y WHERE y.id = carrier_claim_page.claim_id;
	IF NOT FOUND THEN
		RETURN crm.link_gone();
	END IF;
	zone := (SELECT n.zone FROM crm.contract_term y JOIN crm.contract n ON n.id = y.contract_id WHERE y.id = c.term_id);
	title := crm.page_word(l, 'Претензия ', 'Claim ') || c.id;

	IF request.method = 'POST' THEN
		SELECT p.number, p.said, p.problem, p.names INTO number, said, problem, names FROM crm.explanation_posted(l, 'claim', c.id, request) p;
		IF number IS NOT NULL THEN
			RETURN crm.explanation_taken(l, title, number, zone, names, crm.page_word(l, 'К претензии', 'Back to the claim'));
		END IF;
		status := 422;
		SELECT y.* INTO c FROM crm.claim y WHERE y.id = carrier_claim_page.claim_id;
	ELSIF request.method <> 'GET' THEN
		RETURN ROW (405, ARRAY['Allow: GET, HEAD, POST'], NULL)::crm.http_response;
	END IF;

	SELECT crm.page_rows(array_agg(r.label ORDER BY r.n), array_agg(r.value ORDER BY r.n)) INTO facts
	FROM crm.claim_page_rows(c.id, l) WITH ORDINALITY AS r(label, value, n);
	open := c.state IN ('made', 'sent', 'explained') AND crm.now() <= c.explain_by;
	RETURN crm.page_answer(status, crm.page_html(title,
		format('<h1>%s</h1>', crm.html(title)) || facts || crm.explanations_html(l, zone, c.id, NULL)
		|| CASE WHEN open THEN format(E'<h2>%s</h2>\n', crm.page_word(l, 'Объяснить', 'Explain')) || crm.explanation_form(l, said, problem, crm.page_once())
			WHEN problem IS NOT NULL THEN format('<p class="bad" role="alert">%s</p>', crm.html(problem)) ELSE '' END, l));
END
$$;
COMMENT ON FUNCTION crm.carrier_claim_page(bigint, crm.http_request) IS 'A claim as its carrier sees it, and the form of his explanation with up to five files of 10 MB together (claim 73). What cannot be taken is said on the page, with the words that were written';

CREATE OR REPLACE FUNCTION crm.carrier_slot_page(slot_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	l       text := crm.page_language(request);
	s       record;
	title   text;
	said    text;
	problem text;
	names   text[];
	number  bigint;
	status  integer := 200;
	form    constant text := 'DD.MM.YYYY HH24:MI';
BEGIN
	SELECT y.*, d.data, coalesce(p.time_zone, current_setting('crm.time_zone')) AS zone INTO s
	FROM crm.slot y CROSS JOIN LATERAL crm.slot_data(ARRAY[y.id]) d LEFT JOIN crm.place p ON p.id = y.place_id WHERE y.id = carrier_slot_page.slot_id;
	IF NOT FOUND OR s.cancelled_at IS NOT NULL THEN
		RETURN crm.link_gone();
	END IF;
	title := crm.page_word(l, 'Погрузка ', 'Loading ') || to_char(s.planned_from AT TIME ZONE s.zone, form);
	IF request.method = 'POST' THEN
		SELECT p.number, p.said, p.problem, p.names INTO number, said, problem, names FROM crm.explanation_posted(l, 'slot', s.id, request) p;
		IF number IS NOT NULL THEN
			RETURN crm.explanation_taken(l, title, number, s.zone, names, crm.page_word(l, 'Назад', 'Back'));
		END IF;
		status := 422;
	ELSIF request.method <> 'GET' THEN
		RETURN ROW (405, ARRAY['Allow: GET, HEAD, POST'], NULL)::crm.http_response;
	END IF;
	RETURN crm.page_answer(status, crm.page_html(title,
		format('<h1>%s</h1>', crm.html(title))
		|| crm.page_rows(ARRAY[crm.page_word(l, 'Место', 'Place'), crm.page_word(l, 'Ворота', 'Gate'), crm.page_word(l, 'Машина', 'Vehicle'), crm.page_word(l, 'Водитель', 'Driver'),
				crm.page_word(l, 'Заказ', 'Order'), crm.page_word(l, 'Груз', 'Load'), crm.page_word(l, 'Прибыла', 'Arrived')],
			ARRAY[nullif(s.data ->> 'place_name', ''), nullif(s.data ->> 'gate', ''), nullif(s.data ->> 'vehicle_plate', ''), nullif(s.data ->> 'driver', ''),
				nullif(s.data ->> 'order_number', ''), nullif(s.data ->> 'product', ''), to_char(s.arrived_at AT TIME ZONE s.zone, form)])
		|| crm.explanations_html(l, s.zone, NULL, s.id)
		|| CASE WHEN s.arrived_at IS NULL THEN format('<p class="bad">%s</p>', crm.page_word(l, 'Машины ещё нет.', 'The vehicle is not here yet.')) ELSE '' END
		|| format(E'<h2>%s</h2>\n', crm.page_word(l, 'Объяснить', 'Explain')) || crm.explanation_form(l, said, problem, crm.page_once()), l));
END
$$;
COMMENT ON FUNCTION crm.carrier_slot_page(bigint, crm.http_request) IS 'A slot for which the driver is late, as its carrier or the client who fetches himself sees it, and the form in which he says why, with files (claims 54 and 55)';

CREATE OR REPLACE FUNCTION crm.carrier_link_page(link_id bigint, request crm.http_request) RETURNS crm.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	k crm.link;
BEGIN
	SELECT y.* INTO k FROM crm.link y WHERE y.id = carrier_link_page.link_id;
	IF k.object_kind = 'claim' THEN
		RETURN crm.carrier_claim_page(k.object_id, request);
	ELSIF k.object_kind = 'slot' THEN
		RETURN crm.carrier_slot_page(k.object_id, request);
	ELSIF k.object_kind = 'carrier_offer' THEN
		RETURN crm.carrier_page(link_id, request);
	END IF;
	RETURN crm.link_gone();
END
$$;
COMMENT ON FUNCTION crm.carrier_link_page(bigint, crm.http_request) IS 'Purpose carrier: the page of a carrier, by what its link is about: claim (73), carrier_offer (55), slot (54)';

SELECT crm.register_link_purpose('carrier', 'crm.carrier_link_page', 10747904);
