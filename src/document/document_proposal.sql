-- document: the commercial proposal of a deal. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.document_number_text(value numeric, digits integer, language text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT CASE WHEN $3 = 'ru' THEN translate(t.said, ',.', E'\u00A0,') ELSE t.said END
	FROM (SELECT to_char($1, 'FM999,999,999,999,990' || CASE WHEN $2 > 0 THEN '.' || repeat('0', $2) ELSE '' END)) AS t(said);
END;
COMMENT ON FUNCTION crm.document_number_text(numeric, integer, text) IS 'A number as a document shows it: groups of three and so many digits after the point; Russian: a hard space and a comma.';

CREATE OR REPLACE FUNCTION crm.document_page(title text, heading text, lines text[], names text[], cells text[], foot text, language text) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT '<!DOCTYPE html>' || E'\n<html lang="' || CASE $7 WHEN 'ru' THEN 'ru' ELSE 'en' END
		|| E'">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>' || crm.escaped($1, 'xml')
		|| E'</title></head>\n<body style="margin:0;padding:16px;background:#ffffff;color:#1a1a1a;font:16px/1.5 Arial,Helvetica,sans-serif">\n<div style="max-width:600px;margin:0 auto">\n'
		|| '<h1 style="font-size:22px;line-height:1.3;margin:0 0 12px">' || crm.escaped($2, 'xml') || E'</h1>\n'
		|| coalesce((SELECT string_agg('<p style="margin:0 0 8px">' || crm.escaped(l.line, 'xml') || E'</p>\n', '' ORDER BY l.n)
			FROM unnest($3) WITH ORDINALITY AS l(line, n) WHERE l.line IS NOT NULL), '')
		|| coalesce('<table style="border-collapse:collapse;width:100%;margin:16px 0;font-size:16px">' || E'\n'
			|| (SELECT string_agg('<tr><th scope="row" style="text-align:left;font-weight:normal;color:#555555;padding:8px 8px 8px 0;border-bottom:1px solid #dddddd">' || crm.escaped(r.name, 'xml')
				|| '</th><td style="text-align:right;padding:8px 0;border-bottom:1px solid #dddddd">' || crm.escaped(r.cell, 'xml') || E'</td></tr>\n', '' ORDER BY r.n)
				FROM unnest($4, $5) WITH ORDINALITY AS r(name, cell, n) WHERE r.cell IS NOT NULL) || E'</table>\n', '')
		|| coalesce('<p style="margin:0;font-size:14px;color:#555555">' || crm.escaped($6, 'xml') || E'</p>\n', '')
		|| E'</div>\n</body>\n</html>\n';
END;
COMMENT ON FUNCTION crm.document_page(text, text, text[], text[], text[], text, text) IS 'A page of a document: one column of at most 600 pixels, text of 16, every value escaped. title, heading; lines: paragraphs; names and cells: a table of two columns, rows without a cell left out; foot: a last line; language: ru or en.';

CREATE OR REPLACE FUNCTION crm.document_proposal(document_id bigint) RETURNS crm.document_rendering
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	doc   crm.document;
	d     record;
	ru    boolean;
	heading text;
	days  integer := 14;
	valid date;
	r     crm.document_rendering;
BEGIN
	SELECT x.* INTO doc FROM crm.document x WHERE x.id = document_proposal.document_id;
	IF NOT FOUND THEN
		PERFORM crm.document_missing(document_id);
	END IF;
	SELECT x.name, x.amount, x.tonnes, CASE WHEN x.tonnes > 0 THEN round(x.amount / x.tonnes, 2) END AS price,
		coalesce(c.full_name, c.name) AS company, c.inn, coalesce(c.language, 'ru') AS language, e.name AS manager
	INTO d
	FROM crm.deal x
	LEFT JOIN crm.company c ON c.id = coalesce(doc.company_id, x.company_id)
	LEFT JOIN crm.employee e ON e.id = x.owner_id
	WHERE x.id = doc.object_id AND doc.object_kind = 'deal';
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('there is no deal %s to propose', doc.object_id),
			HINT = 'A proposal is made of a deal: SELECT crm.make_document(''proposal'', ''deal'', id, company_id) FROM crm.deal;';
	END IF;
	IF d.amount IS NULL OR d.company IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004',
			MESSAGE = format('deal %s has no %s: there is nothing to propose', doc.object_id, CASE WHEN d.amount IS NULL THEN 'amount' ELSE 'company' END),
			HINT = format('UPDATE crm.deal SET %s = … WHERE id = %s;', CASE WHEN d.amount IS NULL THEN 'amount' ELSE 'company_id' END, doc.object_id);
	END IF;
	IF doc.data ? 'valid_days' THEN
		IF jsonb_typeof(doc.data -> 'valid_days') <> 'number' OR (doc.data ->> 'valid_days')::numeric NOT IN (SELECT g FROM generate_series(1, 366) g) THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('not a number of days: %s', left(doc.data ->> 'valid_days', 100)),
				HINT = 'valid_days is a whole number from 1 to 366.';
		END IF;
		days := (doc.data ->> 'valid_days')::integer;
	END IF;
	valid := doc.document_date + days;
	ru := d.language = 'ru';
	heading := CASE WHEN ru THEN format('Коммерческое предложение %s от %s', doc.number, to_char(doc.document_date, 'DD.MM.YYYY'))
		ELSE format('Commercial proposal %s of %s', doc.number, to_char(doc.document_date, 'YYYY-MM-DD')) END;
	r.file_name := doc.number;
	r.html := crm.document_page(heading, heading,
		ARRAY[CASE WHEN ru THEN 'Кому: ' ELSE 'To: ' END || d.company || coalesce(CASE WHEN ru THEN ', ИНН ' ELSE ', tax number ' END || d.inn, ''),
			left(doc.data ->> 'note', 4000)],
		CASE WHEN ru THEN ARRAY['Предмет', 'Количество, т', 'Цена за тонну, руб.', 'Сумма, руб.', 'Действует до']
			ELSE ARRAY['Subject', 'Quantity, t', 'Price of a tonne, RUB', 'Amount, RUB', 'Valid until'] END,
		ARRAY[d.name, crm.document_number_text(d.tonnes, 3, d.language), crm.document_number_text(d.price, 2, d.language),
			crm.document_number_text(d.amount, 2, d.language), CASE WHEN ru THEN to_char(valid, 'DD.MM.YYYY') ELSE to_char(valid, 'YYYY-MM-DD') END],
		CASE WHEN ru THEN 'Ваш менеджер: ' ELSE 'Your manager: ' END || d.manager, d.language);
	r.xlsx := crm.xlsx_from_query(
		format('SELECT %L::text AS subject, %L::numeric(15,3) AS tonnes, %L::numeric(15,2) AS price, %L::numeric(15,2) AS amount, %L::date AS valid', d.name, d.tonnes, d.price, d.amount, valid),
		left(heading || CASE WHEN ru THEN '. Кому: ' ELSE '. To: ' END || d.company, 250), doc.number,
		CASE WHEN ru THEN ARRAY['Предмет', 'Количество, т', 'Цена за тонну, руб.', 'Сумма, руб.', 'Действует до']
			ELSE ARRAY['Subject', 'Quantity, t', 'Price of a tonne, RUB', 'Amount, RUB', 'Valid until'] END,
		NULL, 'auto', d.language);
	RETURN r;
END
$$;
COMMENT ON FUNCTION crm.document_proposal(bigint) IS 'Makes the files of a commercial proposal from its deal: company, subject, tonnes, price of a tonne, amount in roubles, in the company''s language (claim 94). data: note, a paragraph; valid_days, 1 to 366, by default 14. It names no contact. Errors: P0002 no such document or deal, 22004 the deal has no amount or company, 22023 valid_days.';
SELECT crm.register_document_kind('proposal', 'КП', 'Коммерческое предложение', 'Commercial proposal', 'crm.document_proposal');
