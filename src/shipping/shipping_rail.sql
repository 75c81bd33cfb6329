/*
 * shipping, by rail: waybills, arrivals, where wagons are.  May be run again.
 *
 * OFFSET 0 and = ANY (ARRAY[x]): see message_outbox.sql.
 */

SELECT crm.register_no_foreign_key('crm.waybill', 'source_id', 'a number of another system');
SELECT crm.register_no_foreign_key('crm.waybill', 'invoice_id', 'a number of another system');
SELECT crm.register_no_foreign_key('crm.waybill', 'state_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.waybill', 'integration_id', 'crm.integration', 'id', 'SET NULL');
SELECT crm.register_foreign_key('crm.waybill', 'company_id', 'crm.company', 'id');
SELECT crm.register_foreign_key('crm.waybill', 'order_id', 'crm.customer_order', 'id');
SELECT crm.register_foreign_key('crm.waybill_version', 'waybill_id', 'crm.waybill', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.waybill_wagon', 'waybill_id', 'crm.waybill', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.waybill_wagon', 'wagon_id', 'crm.wagon', 'id');
SELECT crm.register_foreign_key('crm.waybill_wagon', 'arrival_id', 'crm.waybill_arrival', 'id');
SELECT crm.register_foreign_key('crm.waybill_arrival', 'waybill_id', 'crm.waybill', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.rail_party', 'company_id', 'crm.company', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.wagon_now', 'wagon_id', 'crm.wagon', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.wagon_now', 'waybill_id', 'crm.waybill', 'id', 'SET NULL');
SELECT crm.register_no_foreign_key('crm.wagon_location', 'wagon_id', 'history, partitioned; crm.import_dislocation() makes the wagon');
SELECT crm.register_no_foreign_key('crm.wagon_location', 'integration_id', 'history, partitioned');
SELECT crm.register_no_foreign_key('crm.dislocation_snapshot', 'integration_id', 'a record of what came, which outlives its integration');
SELECT crm.register_no_foreign_key('crm.rail_document', 'document_id', 'a number of another system');
SELECT crm.register_foreign_key('crm.rail_document', 'integration_id', 'crm.integration', 'id', 'SET NULL');
SELECT crm.register_foreign_key('crm.rail_fetch', 'integration_id', 'crm.integration', 'id', 'CASCADE');
SELECT crm.register_no_foreign_key('crm.rail_fetch', 'document_id', 'a number of another system');
SELECT crm.register_dump_filter('crm.rail_state', 'WHERE NOT shipped');
SELECT crm.register_dump_filter('crm.wagon_operation', 'WHERE NOT shipped');
SELECT crm.register_dump_filter('crm.dislocation_mapping', 'WHERE NOT shipped');
SELECT crm.register_dump_filter('crm.rail_document_kind', 'WHERE NOT shipped');
SELECT crm.register_growing('crm.wagon_location', 'wagon_id');
SELECT crm.register_partitioned('crm.wagon_location', 'at', 'month', ARRAY[
	'CREATE UNIQUE INDEX ON crm.%1$I (wagon_id, at, operation, station)']);

-- Codes -------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.station_code_ok(code text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_shipping_station_code_ok';
COMMENT ON FUNCTION crm.station_code_ok(text) IS 'Whether a station''s code has six digits and the last is its check digit (ESR; weights 1 to 5 modulo 11, 3 to 7 where that is 10, else 0); false for another form. Protocol etran, section 10.2';

CREATE OR REPLACE FUNCTION crm.station_code(code text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_shipping_station_code';
COMMENT ON FUNCTION crm.station_code(text) IS 'The six digits of a station''s code: six as they are; five without a check digit; four of a station open to freight; four with their check digit (taken where it fits: crm.station_of looks into crm.station too). NULL for what is none';

CREATE OR REPLACE FUNCTION crm.cargo_code_ok(code text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_shipping_cargo_code_ok';
COMMENT ON FUNCTION crm.cargo_code_ok(text) IS 'Whether a code of cargo (ETSNG) has six digits and the last is its check digit; false for another form. Protocol etran, section 10.3';

CREATE OR REPLACE FUNCTION crm.okpo_ok(code text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_shipping_okpo_ok';
COMMENT ON FUNCTION crm.okpo_ok(text) IS 'Whether an OKPO has 8 or 10 digits and the last is its check digit; false for another form. Protocol etran, section 10.4';

CREATE OR REPLACE FUNCTION crm.okpo(code text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE WHEN btrim($1) ~ '^[0-9]{1,8}$' THEN lpad(btrim($1), 8, '0') WHEN btrim($1) ~ '^[0-9]{9,10}$' THEN lpad(btrim($1), 10, '0') END;
END;
COMMENT ON FUNCTION crm.okpo(text) IS 'An OKPO with the leading zeros that some source dropped, 8 or 10 digits; NULL for what is none';

CREATE OR REPLACE FUNCTION crm.station_of(code text) RETURNS text
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT CASE WHEN length($1) = 5 AND right($1, 1) <> '0' AND $1 ~ '^[0-9]{5}$'
		AND NOT EXISTS (SELECT FROM crm.station s WHERE s.code = crm.station_code($1))
		THEN coalesce((SELECT s.code FROM crm.station s WHERE s.code >= $1 AND s.code <= $1 || '9' AND length(s.code) = 6 AND crm.station_code_ok(s.code) LIMIT 1), crm.station_code($1))
		ELSE crm.station_code($1) END
$$;
COMMENT ON FUNCTION crm.station_of(text) IS 'As crm.station_code; of the two readings of five digits the one that crm.station has';

CREATE OR REPLACE FUNCTION crm.railway_day(at timestamptz, zone text DEFAULT 'Europe/Moscow') RETURNS date
	LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT (($1 AT TIME ZONE $2) + interval '6 hours')::date;
END;
COMMENT ON FUNCTION crm.railway_day(timestamptz, text) IS 'The railway''s day of a moment: it begins at 18:00 of the day before, Moscow time. For reports; what is stored is the true time';

CREATE OR REPLACE FUNCTION crm.rail_words(words text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT btrim(regexp_replace(translate(lower($1), 'АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯё', 'абвгдеежзийклмнопрстуфхцчшщъыьэюяе'), '\s+', ' ', 'g'));
END;
COMMENT ON FUNCTION crm.rail_words(text) IS 'Words as they are compared: small letters, ё as е, single blanks';

CREATE OR REPLACE FUNCTION crm.rail_time(words text, zone text) RETURNS timestamptz
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	part text[] := regexp_match(words, '^\s*(\d{1,2})\.(\d{1,2})\.(\d{4})(?:[ T]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?');
	y integer;
	m integer;
	d integer;
BEGIN
	IF part IS NULL THEN
		part := regexp_match(words, '^\s*(\d{4})-(\d{2})-(\d{2})(?:[ T]+(\d{2}):(\d{2})(?::(\d{2}))?)?');
		IF part IS NULL THEN
			RETURN NULL;
		END IF;
		part := ARRAY[part[3], part[2], part[1]] || part[4:];
	END IF;
	y := part[3];
	m := part[2];
	d := part[1];
	IF y < 1990 OR y > 2199 OR m NOT BETWEEN 1 AND 12 OR d < 1 OR d > 31 OR coalesce(part[4], '0')::integer > 24
		OR coalesce(part[5], '0')::integer > 59 OR coalesce(part[6], '0')::integer > 59 THEN
		RETURN NULL;
	END IF;
	IF d > 28 AND d > extract(day FROM make_date(y, m, 1) + interval '1 month' - interval '1 day') THEN
		RETURN NULL;
	END IF;
	RETURN (make_date(y, m, d) + make_interval(hours => coalesce(part[4], '0')::integer, mins => coalesce(part[5], '0')::integer,
		secs => coalesce(part[6], '0')::integer)) AT TIME ZONE zone;
END
$$;
COMMENT ON FUNCTION crm.rail_time(text, text) IS 'A time as the railway and its middlemen write it (24.11.2026 00:41:07, 24.11.2026, 2026-11-24T00:36:00.000), wall clock of the zone; NULL for none, for the year 0001 and for what is no time. Never an error';

CREATE OR REPLACE FUNCTION crm.rail_number(words text) RETURNS numeric
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE WHEN n.digits ~ '^-?[0-9]{1,12}([.,][0-9]{1,6})?$' THEN translate(n.digits, ',', '.')::numeric END
	-- blanks of the kinds that sheets write between thousands
	FROM (SELECT translate($1, E' \t' || chr(160) || chr(8239), '') AS digits) AS n;
END;
COMMENT ON FUNCTION crm.rail_number(text) IS 'A number with point or comma and blanks of any kind between thousands; NULL for all else. Never an error';

-- What ships ----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.register_rail_state(words text, phase text) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.rail_state AS s (words, phase, shipped) VALUES (crm.rail_words($1), $2, crm.in_script())
	ON CONFLICT ON CONSTRAINT rail_state_pkey DO UPDATE SET phase = EXCLUDED.phase;
END;
COMMENT ON FUNCTION crm.register_rail_state(text, text) IS 'Says what a state of a waybill means; a DBA''s row wins over a shipped one. Waybills that are there take it at their next document. Error 23514 for an unknown phase';

CREATE OR REPLACE FUNCTION crm.register_wagon_operation(code text, name text, phase text DEFAULT NULL) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.wagon_operation AS o (code, name, phase, shipped) VALUES ($1, $2, $3, crm.in_script())
	ON CONFLICT ON CONSTRAINT wagon_operation_pkey DO UPDATE SET name = EXCLUDED.name, phase = EXCLUDED.phase;
END;
COMMENT ON FUNCTION crm.register_wagon_operation(text, text, text) IS 'Names an operation with a wagon, and the phase that it proves by itself (NULL: by the other facts). Error 23514 for an unknown phase';

CREATE OR REPLACE FUNCTION crm.register_dislocation_column(code text, "position" integer, header text, field text, extractor text DEFAULT 'plain') RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.dislocation_mapping AS m (code, "position", header, field, extractor, shipped) VALUES ($1, $2, $3, $4, $5, crm.in_script())
	ON CONFLICT ON CONSTRAINT dislocation_mapping_pkey DO UPDATE SET header = EXCLUDED.header, field = EXCLUDED.field, extractor = EXCLUDED.extractor;
END;
COMMENT ON FUNCTION crm.register_dislocation_column(text, integer, text, text, text) IS 'Says which column of a report about wagons is what, see crm.dislocation_mapping. Errors: 23514 an unknown field or extractor, 2201B a broken expression';

CREATE OR REPLACE FUNCTION crm.register_rail_document_kind(kind text, list_request text, flags text[], item text, id_name text, oper_name text, get_request text) RETURNS void
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.rail_document_kind AS k (kind, list_request, flags, item, id_name, oper_name, get_request, shipped) VALUES ($1, $2, $3, $4, $5, $6, $7, crm.in_script())
	ON CONFLICT ON CONSTRAINT rail_document_kind_pkey DO UPDATE SET list_request = EXCLUDED.list_request, flags = EXCLUDED.flags, item = EXCLUDED.item,
		id_name = EXCLUDED.id_name, oper_name = EXCLUDED.oper_name, get_request = EXCLUDED.get_request;
END;
COMMENT ON FUNCTION crm.register_rail_document_kind(text, text, text[], text, text, text, text) IS 'Makes a kind of ETRAN document known, see crm.rail_document_kind. Error 23514 for a request without {{id}}';

SELECT crm.register_rail_state(s.words, s.phase)
FROM (VALUES
	('draft', ARRAY['Заготовка', 'Заготовка уведомления', 'Накладная заполнена грузоотправителем', 'На визировании', 'Завизирована', 'Ожидание согласования заявки ГУ-12']),
	('presented', ARRAY['Накладная предъявлена', 'Приемосдатчиком принято', 'Груз завезен полностью', 'Погрузка на вагон', 'Не оплачен']),
	('accepted', ARRAY['Груз принят к перевозке', 'Автоматический прием', 'Грузоотправитель накладную получил']),
	('moving', ARRAY['В пути', 'На подходе', 'Переадресован', 'Заадресован', 'Изменено назначение']),
	('arrived', ARRAY['Груз прибыл']),
	('notified', ARRAY['Получатель уведомлен']),
	('delivered', ARRAY['Раскредитован', 'Работа с документом окончена', 'Работа с документами окончена']),
	('reverted', ARRAY['Раскредитование отменено', 'Сторно по отправлению отменено']),
	('dead', ARRAY['Испорчен', 'Испорчен после сторно', 'Информация с номерного бланка испорчена', 'Просрочен', 'Отклонен', 'Отказ грузоотправителя', 'Отказ в согласовании',
		'Приемосдатчиком не принято', 'Груз не прибыл', 'Сторнирован в пути', 'Сторнирован по отправлению', 'Сторнирован по назначению'])) AS p(phase, list)
CROSS JOIN LATERAL (SELECT w.words, p.phase FROM unnest(p.list) AS w(words)) AS s;

SELECT crm.register_wagon_operation(o.code, o.name, o.phase)
FROM (VALUES
	('2', 'проследование или прибытие в составе поезда', NULL), ('4', 'включение в состав при формировании', NULL), ('8', 'исключение из состава при расформировании', NULL),
	('7', 'корректировка сведений о вагоне в составе', NULL), ('20', 'погрузка', NULL), ('21', 'выгрузка на подъездных путях', NULL),
	('40', 'освобождение вагона при сортировке', NULL), ('53', 'перечисление в неисправные', 'broken'), ('72', 'списание', 'gone'), ('92', 'брошен', 'abandoned')) AS o(code, name, phase);

SELECT crm.register_dislocation_column('spv4664', 1000 + 10 * m.n::integer, '^' || m.header || '$', m.field, m.extractor)
FROM (SELECT v.*, row_number() OVER () FROM (VALUES
	('NOM_VAG', 'wagon', 'plain'), ('KOP_VMDJ?', 'operation', 'plain'), ('M?NAIM_KOP_VMD', 'operation_name', 'plain'), ('DATE_OP', 'at', 'plain'), ('STAN_OP', 'station', 'plain'),
	('STAN_NAZN', 'destination', 'plain'), ('RASST_STAN_NAZN', 'distance_left_km', 'plain'), ('PROST_DN', 'idle_days', 'plain'), ('PROST_CH', 'idle_hours', 'plain'),
	('PROST_MIN', 'idle_minutes', 'plain'), ('VES_GRZJ?', 'weight_kg', 'plain'), ('PPV_GRUJJ?', 'loaded', 'plain'), ('PPV_PORJ?', 'empty', 'plain'),
	('KOD_GRZ_UCHJ?', 'cargo_code', 'plain'), ('FREIGHT_EXACT_NAME', 'cargo_name', 'plain'), ('INDEX_POEZD', 'train_index', 'plain'), ('NOM_NAK', 'waybill_number', 'plain'),
	('ID_OTPRK', 'waybill_key', 'plain'), ('UNO', 'shipment_number', 'plain'), ('DATE_NACH', 'started_at', 'plain'), ('DATE_OTPR', 'departed_at', 'plain'),
	('DATE_PRIB', 'arrived_at', 'plain'), ('DATE_DOSTAV', 'due_on', 'plain'), ('STAN_NACH', 'origin', 'plain'), ('GRUZPOL_OKPOJ?', 'consignee_okpo', 'plain'),
	('GRUZOTPR_OKPOJ?', 'sender_okpo', 'plain'), ('INV_CLAIM_NUMBER', 'claim_number', 'plain')) AS v) AS m(header, field, extractor, n);
SELECT crm.register_dislocation_column('russian', 1000 + 10 * m.n::integer, m.header, m.field, m.extractor)
FROM (SELECT v.*, row_number() OVER () FROM (VALUES
	('^(номер |№ ?)вагона?$|^вагон$|^№ ваг', 'wagon', 'plain'),
	('^(станция операции|станция дислокации|станция текущей дислокации|станция)$', 'station', 'digits'),
	('^(код станции операции|код станции дислокации)$', 'station', 'plain'),
	('^(станция назначения|ст\.? ?назн)', 'destination', 'digits'),
	('^код станции назначения$', 'destination', 'plain'),
	('^(станция отправления|ст\.? ?отпр)', 'origin', 'digits'),
	('^код операции$', 'operation', 'plain'),
	('^операция( с вагоном)?$', 'operation', 'digits'),
	('^(дата|время|дата и время) (операции|последней операции)( \(мск\))?$|^дата операции', 'at', 'plain'),
	('^(расстояние до|осталось|остаточное расстояние|расст\.? ?до)', 'distance_left_km', 'plain'),
	('^(простой|время простоя|дни без операции)', 'idle', 'dhm'),
	('^вес( груза)?,? ?\(?(т|тонн)\)?$', 'weight_t', 'plain'),
	('^вес( груза)?(,? ?\(?кг\)?)?$', 'weight_kg', 'plain'),
	('^(тип парка|груж[её]ный|п/г|состояние вагона)', 'loaded', 'plain'),
	('^(код груза|код етснг)$', 'cargo_code', 'plain'),
	('^груз$|^наименование груза', 'cargo_name', 'before'),
	('^груз$', 'cargo_code', 'digits6'),
	('^индекс поезда', 'train_index', 'plain'),
	('^(номер |№ ?)накладной|^накладная$', 'waybill_number', 'plain'),
	('^(дата|начало) (начала )?рейса|^дата погрузки|^дата отправления', 'started_at', 'plain'),
	('^дата прибытия|^прибытие', 'arrived_at', 'plain'),
	('^(срок доставки|нормативный срок|дата доставки)', 'due_on', 'plain'),
	('^окпо грузополучателя', 'consignee_okpo', 'plain'),
	('^грузополучатель', 'consignee_name', 'before'),
	('^(номер )?(заявк[аи]|гу-12)', 'claim_number', 'plain')) AS v) AS m(header, field, extractor, n);

SELECT crm.register_rail_document_kind('invoice', 'invoiceStatus', '{}', 'invoice', 'invoiceid', 'invoicelastoper', '<getInvoice version="1.0"><invoiceID value="{{id}}"/>{{mod11}}</getInvoice>');
SELECT crm.register_rail_document_kind('claim', 'claimToAgreementStatus', '{}', 'claim', 'claimid', 'claimlastoper', '<getClaim version="1.0"><claimID value="{{id}}"/>{{mod11}}</getClaim>');
SELECT crm.register_rail_document_kind('vpu', 'vpuStatus', '{none}', 'vpu', 'vpuid', 'vpulastoper', '<getVPU version="1.0"><vpuId value="{{id}}"/>{{mod11}}</getVPU>');
SELECT crm.register_rail_document_kind('cumulative', 'cumulativeStatus', '{none}', 'cum', 'cumid', 'cumlastoper', '<getCumulativeList version="1.0"><cumId value="{{id}}"/>{{mod11}}</getCumulativeList>');
SELECT crm.register_rail_document_kind('act', 'actStatus', '{none,useSetoff,useOverLoad}', 'act', 'actid', 'actlastoper', '<getAct version="1.0"><actId value="{{id}}"/>{{mod11}}</getAct>');

CREATE OR REPLACE FUNCTION crm.rail_settings() RETURNS crm.rail_setting
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	s crm.rail_setting;
BEGIN
	SELECT r.* INTO s FROM crm.rail_setting r;
	IF NOT FOUND THEN
		INSERT INTO crm.rail_setting DEFAULT VALUES ON CONFLICT DO NOTHING;
		SELECT r.* INTO STRICT s FROM crm.rail_setting r;
	END IF;
	RETURN s;
END
$$;
COMMENT ON FUNCTION crm.rail_settings() IS 'The row of crm.rail_setting, made with its defaults where it is missing';

-- Trees -------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.rail_tree(document bytea, OUT tree jsonb, OUT removed integer)
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_shipping_rail_tree';
COMMENT ON FUNCTION crm.rail_tree(bytea) IS 'An XML document as {root: …}: an element is its attribute value, or its text, or an object of its children by their local names in small letters; of several of one name an array; nothing where it is empty. The bytes are read as UTF-8, where they are none as windows-1251; the declaration is not asked. removed: characters that XML forbids, which were taken out. Errors: 2200M no XML or with a document type, 54000 deeper than 64 elements or more than five million, 22021 bytes of no encoding. Protocol etran, section 1.2';

CREATE OR REPLACE FUNCTION crm.rail_unpack(packed bytea, max_bytes integer) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_sheet', 'crm_shipping_rail_unpack';
COMMENT ON FUNCTION crm.rail_unpack(bytea, integer) IS 'What was packed by gzip or zlib. Errors: 54000 longer than max_bytes (at most 256 MB), 22P03 broken or not whole';

CREATE OR REPLACE FUNCTION crm.rail_list(value jsonb) RETURNS SETOF jsonb
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 20 SET search_path = pg_catalog, pg_temp
AS $$
	SELECT e.value FROM jsonb_array_elements(CASE jsonb_typeof($1) WHEN 'array' THEN $1 WHEN 'object' THEN jsonb_build_array($1) ELSE '[]' END) AS e(value)
$$;
COMMENT ON FUNCTION crm.rail_list(jsonb) IS 'The repeats of a group: the elements of an array, or the one object; nothing for all else';

-- Wagons, stations, companies ----------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.rail_wagons(numbers text[]) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	made integer;
BEGIN
	INSERT INTO crm.wagon (number, source, source_id)
	SELECT DISTINCT u.number, 'rail', u.number FROM unnest(numbers) AS u(number)
	WHERE NOT EXISTS (SELECT FROM (SELECT FROM crm.wagon w WHERE w.number = u.number OFFSET 0) AS x)
	ORDER BY 1
	ON CONFLICT DO NOTHING;
	GET DIAGNOSTICS made = ROW_COUNT;
	RETURN made;
END
$$;
COMMENT ON FUNCTION crm.rail_wagons(text[]) IS 'Makes the wagons of these numbers that are not there; returns how many';

CREATE OR REPLACE FUNCTION crm.rail_name_key(name text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT regexp_replace(regexp_replace(crm.rail_words($1),
		'^(общество с ограниченной ответственностью|(публичное |закрытое |открытое )?акционерное общество|индивидуальный предприниматель|ооо|пао|зао|оао|ао|ип)[ "«]+', ''), '[^[:alnum:]а-я]+', '', 'g');
END;
COMMENT ON FUNCTION crm.rail_name_key(text) IS 'Name of an organisation as it is compared: small letters and digits only, without the legal form before it';

CREATE OR REPLACE FUNCTION crm.rail_company(okpo text, name text) RETURNS bigint
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT p.company_id FROM crm.rail_party p WHERE p.okpo = crm.okpo($1)),
		(SELECT min(c.id) FROM crm.company c WHERE c.archived_at IS NULL AND crm.rail_name_key($2) <> ''
			AND crm.rail_name_key($2) IN (crm.rail_name_key(c.name), crm.rail_name_key(c.full_name)) HAVING count(*) = 1))
$$;
COMMENT ON FUNCTION crm.rail_company(text, text) IS 'The company of a sender or consignee: by crm.rail_party, else the only one of that name; NULL: none';

CREATE OR REPLACE FUNCTION crm.csv_rows(body text) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := replace(replace(ltrim(body, U&'\FEFF'), E'\r\n', E'\n'), E'\r', E'\n');
	head  text;
	mark  text;
BEGIN
	-- a line end within quotes is a blank
	IF strpos(clean, '"') > 0 THEN
		SELECT string_agg(CASE WHEN p.n % 2 = 0 THEN replace(p.part, E'\n', ' ') ELSE p.part END, '"' ORDER BY p.n) INTO clean
		FROM string_to_table(clean, '"') WITH ORDINALITY AS p(part, n);
	END IF;
	head := split_part(clean, E'\n', 1);
	mark := CASE WHEN strpos(clean, E'\t') > 0 AND strpos(head, ';') = 0 THEN E'\t' WHEN strpos(clean, ';') > 0 THEN ';' ELSE ',' END;
	RETURN (SELECT coalesce(jsonb_agg(r.cells ORDER BY r.n), '[]')
		FROM (
			SELECT l.n, CASE WHEN strpos(l.line, '"') = 0 THEN to_jsonb(string_to_array(l.line, mark))
				ELSE (SELECT jsonb_agg(CASE WHEN c.cell[1] LIKE '"%' THEN replace(substr(c.cell[1], 2, greatest(length(c.cell[1]) - 2, 0)), '""', '"') ELSE c.cell[1] END ORDER BY c.k)
					FROM regexp_matches(l.line || mark, format('("(?:[^"]|"")*"|[^%1$s]*)%1$s', mark), 'g') WITH ORDINALITY AS c(cell, k)) END AS cells
			FROM string_to_table(clean, E'\n') WITH ORDINALITY AS l(line, n)
			WHERE btrim(l.line) <> '') AS r);
END
$$;
COMMENT ON FUNCTION crm.csv_rows(text) IS 'A table in CSV as an array of arrays of texts: parted by tab, semicolon or comma, whichever it has; quotes and doubled quotes are read, a line end within quotes is a blank';

CREATE OR REPLACE FUNCTION crm.load_stations(body text) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	lines  jsonb := crm.csv_rows(body);
	number integer;
	bad    record;
BEGIN
	SELECT min(r.n) AS line, count(*) AS number, min(r.cells ->> 0) AS value INTO bad
	FROM jsonb_array_elements(lines) WITH ORDINALITY AS r(cells, n)
	WHERE (crm.station_code(btrim(r.cells ->> 0)) IS NULL OR coalesce(btrim(r.cells ->> 1), '') = '' OR length(r.cells ->> 1) > 200)
		AND NOT (r.n = 1 AND btrim(r.cells ->> 0) !~ '[0-9]');
	IF bad.number > 0 THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%s lines are no station, the first is line %s: "%s"', bad.number, bad.line, left(bad.value, 40)),
			HINT = 'Give a line a station: code of 4 to 6 digits;name;railway. A first line of headings is passed over.';
	END IF;
	INSERT INTO crm.station AS s (code, name, railway)
	SELECT DISTINCT ON (1) crm.station_code(btrim(r.cells ->> 0)), btrim(r.cells ->> 1), nullif(left(btrim(r.cells ->> 2), 100), '')
	FROM jsonb_array_elements(lines) WITH ORDINALITY AS r(cells, n)
	WHERE crm.station_code(btrim(r.cells ->> 0)) IS NOT NULL
	ORDER BY 1, r.n DESC
	ON CONFLICT ON CONSTRAINT station_pkey DO UPDATE SET name = EXCLUDED.name, railway = coalesce(EXCLUDED.railway, s.railway), source = 'manual'
	WHERE (s.name, s.source, s.railway) IS DISTINCT FROM (EXCLUDED.name, 'manual', coalesce(EXCLUDED.railway, s.railway));
	GET DIAGNOSTICS number = ROW_COUNT;
	RETURN number;
END
$$;
COMMENT ON FUNCTION crm.load_stations(text) IS 'Loads a classifier of stations from CSV: code, name, railway. Returns how many are new or changed. Error 22023 with the first line that is no station; nothing is loaded then';

-- Waybills --------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.rail_phase(state text) RETURNS text
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT coalesce((SELECT s.phase FROM crm.rail_state s WHERE s.words = crm.rail_words($1) ORDER BY s.shipped LIMIT 1), 'unknown')
$$;
COMMENT ON FUNCTION crm.rail_phase(text) IS 'The phase of a waybill''s state by crm.rail_state; unknown where no row has its words';

CREATE OR REPLACE FUNCTION crm.rail_order(number text, claim_number text) RETURNS bigint
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
DECLARE
	way  text;
	id_  bigint;
BEGIN
	FOREACH way IN ARRAY coalesce((SELECT s.order_by FROM crm.rail_setting s), '{shipment,claim}') LOOP
		IF way = 'shipment' AND number IS NOT NULL THEN
			SELECT s.order_id INTO id_ FROM crm.shipment s
			WHERE crm.waybill_number(s.waybill) = crm.waybill_number(rail_order.number) AND s.wagon_id IS NOT NULL AND s.waybill IS NOT NULL AND s.cancelled_at IS NULL
				AND s.weighed_at > crm.now() - interval '180 days'
			ORDER BY s.weighed_at DESC, s.id DESC LIMIT 1;
		ELSIF way = 'claim' AND claim_number IS NOT NULL THEN
			SELECT o.id INTO id_ FROM crm.customer_order o
			WHERE o.number = split_part(rail_order.claim_number, '-', 1) AND o.state <> 'cancelled'
			ORDER BY o.ordered_at DESC, o.id DESC LIMIT 1;
		END IF;
		EXIT WHEN id_ IS NOT NULL;
	END LOOP;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.rail_order(text, text) IS 'The order of a waybill by crm.rail_setting.order_by: that of a weighed wagon with its number, or the one numbered as the claim GU-12; NULL: none';

CREATE OR REPLACE FUNCTION crm.put_waybill(document jsonb, source text DEFAULT 'etran', integration_id bigint DEFAULT NULL, zone text DEFAULT 'Europe/Moscow', weight_unit text DEFAULT 'kg')
	RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	invoice  bigint := CASE WHEN document ->> 'invoiceid' ~ '^[0-9]{1,18}$' THEN (document ->> 'invoiceid')::bigint END;
	hash     bytea := sha256(convert_to(document::text, 'UTF8'));
	number_  text := crm.waybill_number(left(coalesce(document ->> 'invnumber', document ->> 'invoicenumber'), 40));
	w        crm.waybill;
	cars     jsonb := (SELECT coalesce(jsonb_agg(c.car), '[]') FROM crm.rail_list(document -> 'invcar') AS c(car));
	unit     numeric := CASE weight_unit WHEN 't' THEN 1000 ELSE 1 END;
	largest  numeric;
	oper     timestamptz := crm.rail_time(document ->> 'invlastoper', zone);
	late_one boolean;
BEGIN
	IF invoice IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22004', MESSAGE = 'the waybill has no invoiceID', HINT = 'A waybill is known by the id that ETRAN gives it.';
	END IF;
	IF jsonb_array_length(cars) > 1000 THEN
		RAISE EXCEPTION USING ERRCODE = '54000', MESSAGE = format('waybill %s has %s wagons', invoice, jsonb_array_length(cars)), HINT = 'At most 1000 are read.';
	END IF;

	SELECT x.* INTO w FROM crm.waybill x WHERE x.source = $2 AND x.source_id = invoice::text FOR NO KEY UPDATE;
	IF NOT FOUND AND number_ IS NOT NULL THEN
		-- reports about wagons may have named it before
		SELECT x.* INTO w FROM crm.waybill x
		WHERE x.number = number_ AND x.source = 'dislocation' AND x.invoice_id IS NULL AND x.created_at > crm.now() - interval '90 days'
		ORDER BY x.created_at DESC LIMIT 1 FOR NO KEY UPDATE;
		IF FOUND THEN
			UPDATE crm.waybill x SET source = $2, source_id = invoice::text, invoice_id = invoice WHERE x.id = w.id;
		END IF;
	END IF;
	IF w.id IS NULL THEN
		INSERT INTO crm.waybill (source, source_id, invoice_id, integration_id) VALUES ($2, invoice::text, invoice, $3)
		ON CONFLICT ON CONSTRAINT waybill_source_key DO NOTHING;
		SELECT x.* INTO STRICT w FROM crm.waybill x WHERE x.source = $2 AND x.source_id = invoice::text FOR NO KEY UPDATE;
	END IF;
	IF w.document_hash = hash THEN
		RETURN w.id;
	END IF;
	late_one := oper < w.last_oper;
	INSERT INTO crm.waybill_version (waybill_id, version, last_oper, hash, document) VALUES (w.id, w.version + 1, oper, hash, document)
	ON CONFLICT ON CONSTRAINT waybill_version_hash_key DO NOTHING;
	IF FOUND THEN
		UPDATE crm.waybill x SET version = x.version + 1 WHERE x.id = w.id;
	END IF;
	IF late_one THEN
		RETURN w.id;	-- an older document that came late corrects nothing
	END IF;

	-- a loaded wagon carries 20 to 100 tonnes: so the unit shows
	SELECT max(crm.rail_number(c.car ->> 'carweightnet')) INTO largest FROM jsonb_array_elements(cars) AS c(car);
	IF largest > 0 AND unit = 1 AND largest <= 200 OR largest > 2000 AND unit = 1000 THEN
		unit := CASE unit WHEN 1 THEN 1000 ELSE 1 END;
		PERFORM crm.reject($3, format('waybill %s, weights', invoice), format('the largest net weight is %s: read as %s, not as the setting weight_unit says', largest, CASE unit WHEN 1 THEN 'kg' ELSE 't' END));
	END IF;

	UPDATE crm.waybill x SET
		integration_id = coalesce($3, x.integration_id),
		invoice_id = invoice,
		number = coalesce(number_, x.number),
		state_id = CASE WHEN document ->> 'invoicestateid' ~ '^[0-9]{1,9}$' THEN (document ->> 'invoicestateid')::integer END,
		state = left(document ->> 'invoicestate', 200),
		phase = crm.rail_phase(document ->> 'invoicestate'),
		kind = left(document ->> 'invtypename', 200),
		sender_okpo = crm.okpo(document ->> 'invsenderokpo'),
		sender_name = left(document ->> 'invsendername', 500),
		consignee_okpo = crm.okpo(document ->> 'invrecipokpo'),
		consignee_name = left(document ->> 'invrecipname', 500),
		from_station = crm.station_of(btrim(document ->> 'invfromstationcode')),
		to_station = crm.station_of(btrim(coalesce(document ->> 'invtostationcode', document ->> 'invtostationemptycode'))),
		cargo_code = f.code,
		cargo_name = left(f.name, 500),
		weight_kg = CASE WHEN f.weight * unit BETWEEN 0 AND 1e10 THEN f.weight * unit END,
		claim_number = left(coalesce(document ->> 'invclaimnumber', document ->> 'invloadclaim_number'), 60),
		written_at = crm.rail_time(document ->> 'invdatecreate', zone),
		load_at = coalesce(crm.rail_time(document ->> 'invfactdatetoload', zone), crm.rail_time(document ->> 'invdateload', zone)),
		accepted_at = crm.rail_time(document ->> 'invdateready', zone),
		departed_at = crm.rail_time(document ->> 'invdatedeparture', zone),
		expires_at = crm.rail_time(document ->> 'invdateexpire', zone),
		arrived_at = crm.rail_time(document ->> 'invdatearrive', zone),
		notified_at = crm.rail_time(document ->> 'invdatenotification', zone),
		notice_number = left(document ->> 'invnotification', 60),
		delivered_at = coalesce(crm.rail_time(document ->> 'invdatedelivery', zone), crm.rail_time(document ->> 'invdateraskrel', zone)),
		wagon_count = jsonb_array_length(cars),
		last_oper = coalesce(oper, x.last_oper),
		document_hash = hash,
		changed_at = crm.now()
	FROM (SELECT max(g.f ->> 'freightcode') AS code, string_agg(DISTINCT coalesce(g.f ->> 'freightexactname', g.f ->> 'freightname'), ', ') AS name,
			sum(coalesce(crm.rail_number(g.f ->> 'freightrealweight'), crm.rail_number(g.f ->> 'freightweight'))) AS weight
		FROM crm.rail_list(document -> 'invfreight') AS g(f)) AS f
	WHERE x.id = w.id
	RETURNING x.* INTO w;

	UPDATE crm.waybill x SET order_id = o.id, company_id = coalesce(o.company_id, crm.rail_company(w.consignee_okpo, w.consignee_name))
	FROM (SELECT r.id, (SELECT y.company_id FROM crm.customer_order y WHERE y.id = r.id) AS company_id FROM crm.rail_order(w.number, w.claim_number) AS r(id)) AS o
	WHERE x.id = w.id;

	INSERT INTO crm.station AS s (code, name, source)
	SELECT DISTINCT ON (1) v.code, left(v.name, 200), 'etran'
	FROM (VALUES (w.from_station, document ->> 'invfromstationname'), (w.to_station, coalesce(document ->> 'invtostationname', document ->> 'invtostationemptyname'))) AS v(code, name)
	WHERE v.code ~ '^[0-9]{6}$' AND v.name <> ''
	ORDER BY 1
	ON CONFLICT ON CONSTRAINT station_pkey DO UPDATE SET name = EXCLUDED.name WHERE s.source <> 'manual' AND s.name <> EXCLUDED.name;

	PERFORM crm.rail_wagons(ARRAY(SELECT c.car ->> 'carnumber' FROM jsonb_array_elements(cars) AS c(car) WHERE c.car ->> 'carnumber' ~ '^[0-9]{5,12}$'));
	INSERT INTO crm.waybill_wagon AS x (waybill_id, wagon_id, "position", net_kg, gross_kg, capacity_t, tare_t, seals, containers)
	SELECT DISTINCT ON (g.id) w.id, g.id, CASE WHEN c.car ->> 'carorder' ~ '^[0-9]{1,6}$' THEN (c.car ->> 'carorder')::integer ELSE c.n::integer END,
		CASE WHEN k.net BETWEEN 0 AND 1e10 THEN k.net END, CASE WHEN k.gross BETWEEN 0 AND 1e10 THEN k.gross END,
		CASE WHEN k.capacity BETWEEN 0 AND 1e6 THEN k.capacity END, CASE WHEN k.tare BETWEEN 0 AND 1e6 THEN k.tare END,
		ARRAY(SELECT left(s.seal ->> 'sealmarks', 100) FROM crm.rail_list(c.car -> 'carcsl') AS s(seal) WHERE s.seal ->> 'sealmarks' <> '' LIMIT 50),
		ARRAY(SELECT left(t.cont ->> 'contnumber', 20) FROM crm.rail_list(document -> 'invcont') AS t(cont) WHERE t.cont ->> 'contcarorder' = c.car ->> 'carorder' AND t.cont ->> 'contnumber' <> '' LIMIT 50)
	FROM jsonb_array_elements(cars) WITH ORDINALITY AS c(car, n)
	CROSS JOIN LATERAL (SELECT y.id FROM crm.wagon y WHERE y.number = c.car ->> 'carnumber' OFFSET 0) AS g
	CROSS JOIN LATERAL (SELECT crm.rail_number(c.car ->> 'carweightnet') * unit AS net, crm.rail_number(c.car ->> 'carweightgross') * unit AS gross,
		crm.rail_number(c.car ->> 'cartonnage') AS capacity, crm.rail_number(c.car ->> 'carweightdep') AS tare) AS k
	ORDER BY g.id, c.n
	ON CONFLICT ON CONSTRAINT waybill_wagon_pkey DO UPDATE SET "position" = EXCLUDED."position", net_kg = EXCLUDED.net_kg, gross_kg = EXCLUDED.gross_kg,
		capacity_t = EXCLUDED.capacity_t, tare_t = EXCLUDED.tare_t, seals = EXCLUDED.seals, containers = EXCLUDED.containers, removed_at = NULL;
	UPDATE crm.waybill_wagon x SET removed_at = crm.now()
	WHERE x.waybill_id = w.id AND x.removed_at IS NULL AND jsonb_array_length(cars) > 0
		AND NOT EXISTS (SELECT FROM jsonb_array_elements(cars) AS c(car)
			CROSS JOIN LATERAL (SELECT y.id FROM crm.wagon y WHERE y.number = c.car ->> 'carnumber' OFFSET 0) AS g WHERE g.id = x.wagon_id);
	IF w.arrived_at IS NOT NULL AND w.phase <> 'dead' THEN
		UPDATE crm.waybill_wagon x SET arrived_at = coalesce(x.arrived_at, w.arrived_at), arrival_known_at = coalesce(x.arrival_known_at, crm.now())
		WHERE x.waybill_id = w.id AND x.arrived_at IS NULL AND x.removed_at IS NULL;
	END IF;
	PERFORM crm.waybill_news(ARRAY[w.id]);
	RETURN w.id;
END
$$;
COMMENT ON FUNCTION crm.put_waybill(jsonb, text, bigint, text, text) IS 'Takes a waybill as the tree of a getInvoiceReply (names in small letters) by its invoiceID: the same document again changes nothing, an older one is kept as a version only. Its wagons, stations, client and order are found, and what is news is told. zone: of its times; weight_unit: kg or t, corrected where it cannot be. Returns crm.waybill.id. Errors: 22004 no invoiceID, 54000 more than 1000 wagons';

CREATE OR REPLACE FUNCTION crm.waybill_event(waybill_ids bigint[], kind text) RETURNS void
	LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT $2, 'waybill', w.id, w.company_id, m.at,
		crm.waybill_data(w.id, NULL) || jsonb_build_object(
			'late', CASE WHEN m.at < crm.now() - s.late_news THEN 1 ELSE 0 END,
			'days_late', greatest(0, coalesce((m.at AT TIME ZONE s.time_zone)::date - (w.expires_at AT TIME ZONE s.time_zone)::date, 0)),
			'at', to_char(m.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', to_char(m.at AT TIME ZONE z.zone, 'HH24:MI'), 'date_local', to_char(m.at AT TIME ZONE z.zone, 'DD.MM.YYYY')),
		'waybill', w.id::text
	FROM (SELECT y.* FROM crm.waybill y WHERE y.id = ANY ($1) OFFSET 0) AS w
	CROSS JOIN crm.rail_settings() AS s
	CROSS JOIN LATERAL (SELECT CASE $2 WHEN 'waybill.departed' THEN w.departed_at WHEN 'waybill.notified' THEN w.notified_at ELSE crm.now() END AS at) AS m
	CROSS JOIN LATERAL (SELECT coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) AS z
	ORDER BY m.at, w.id
$$;
COMMENT ON FUNCTION crm.waybill_event(bigint[], text) IS 'Emits waybill.departed, waybill.notified or waybill.late for these waybills; called by crm.waybill_news()';

CREATE OR REPLACE FUNCTION crm.waybill_data(waybill_id bigint, arrival_id bigint DEFAULT NULL) RETURNS jsonb
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
AS $$
	SELECT jsonb_build_object(
		'waybill_number', coalesce(w.number, ''), 'order_number', coalesce(o.number, ''), 'product', coalesce(nullif(w.cargo_name, ''), o.product, ''),
		'tonnes', coalesce(trim_scale(round(CASE WHEN $2 IS NULL THEN coalesce(w.weight_kg, c.net_kg) ELSE c.net_kg END / 1000, 3))::text, ''),
		'wagon_count', coalesce(nullif(c.number, 0), CASE WHEN $2 IS NULL THEN w.wagon_count ELSE 0 END), 'wagon_numbers', coalesce(c.numbers, ''),
		'station_name', coalesce(d.name, w.to_station, ''), 'origin_name', coalesce(g.name, w.from_station, ''),
		'consignee_name', coalesce(w.consignee_name, ''), 'notice_number', coalesce(w.notice_number, ''),
		'expires_local', coalesce(to_char(w.expires_at AT TIME ZONE 'Europe/Moscow', 'DD.MM.YYYY'), ''), 'waybill_state', coalesce(w.state, ''))
	FROM crm.waybill w
	LEFT JOIN LATERAL (SELECT y.number, y.product FROM crm.customer_order y WHERE y.id = w.order_id OFFSET 0) o ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.station y WHERE y.code = w.to_station OFFSET 0) d ON true
	LEFT JOIN LATERAL (SELECT y.name FROM crm.station y WHERE y.code = w.from_station OFFSET 0) g ON true
	CROSS JOIN LATERAL (
		SELECT count(*) AS number, sum(x.net_kg) AS net_kg,
			string_agg(v.number, ', ' ORDER BY x."position", v.number) FILTER (WHERE x.n <= 20) || CASE WHEN count(*) > 20 THEN ', …' ELSE '' END AS numbers
		FROM (SELECT y.wagon_id, y.net_kg, y."position", row_number() OVER (ORDER BY y."position", y.wagon_id) AS n FROM crm.waybill_wagon y
			WHERE y.waybill_id = w.id AND y.removed_at IS NULL AND ($2 IS NULL OR y.arrival_id = $2) OFFSET 0) x
		CROSS JOIN LATERAL (SELECT y.number FROM crm.wagon y WHERE y.id = x.wagon_id OFFSET 0) v) c
	WHERE w.id = $1
$$;
COMMENT ON FUNCTION crm.waybill_data(bigint, bigint) IS 'What a template may say of a waybill, or of one arrival of its wagons; at most twenty numbers of wagons, all of them are in crm.waybill_wagons()';

CREATE OR REPLACE FUNCTION crm.waybill_arrivals(waybill_ids bigint[]) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	s    crm.rail_setting := crm.rail_settings();
	made bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN 0;
	END IF;
	-- one at a time for a waybill
	PERFORM FROM crm.waybill w WHERE w.id = ANY (waybill_ids) ORDER BY w.id FOR NO KEY UPDATE;
	WITH ready AS MATERIALIZED (
		SELECT w.id, a.first_at
		FROM (SELECT y.id FROM crm.waybill y WHERE y.id = ANY (waybill_ids) AND y.phase <> 'dead' OFFSET 0) AS w
		CROSS JOIN LATERAL (
			SELECT min(y.arrived_at) FILTER (WHERE y.arrived_at IS NOT NULL AND y.arrival_id IS NULL) AS first_at,
				min(y.arrival_known_at) FILTER (WHERE y.arrived_at IS NOT NULL AND y.arrival_id IS NULL) AS known_at,
				count(*) FILTER (WHERE y.arrived_at IS NULL) AS missing
			FROM crm.waybill_wagon y WHERE y.waybill_id = w.id AND y.removed_at IS NULL OFFSET 0) AS a
		WHERE a.first_at IS NOT NULL AND (a.missing = 0 OR a.known_at <= crm.now() - s.arrival_wait)
	), fresh AS (
		INSERT INTO crm.waybill_arrival (waybill_id, number, arrived_at, wagon_count)
		SELECT r.id, coalesce((SELECT max(y.number) FROM crm.waybill_arrival y WHERE y.waybill_id = r.id), 0) + 1, r.first_at,
			(SELECT count(*) FROM crm.waybill_wagon y WHERE y.waybill_id = r.id AND y.removed_at IS NULL AND y.arrived_at IS NOT NULL AND y.arrival_id IS NULL)
		FROM ready r ORDER BY r.first_at, r.id
		RETURNING id, waybill_id
	), told AS (
		UPDATE crm.waybill_wagon x SET arrival_id = f.id FROM fresh f
		WHERE x.waybill_id = f.waybill_id AND x.removed_at IS NULL AND x.arrived_at IS NOT NULL AND x.arrival_id IS NULL
	)
	SELECT array_agg(f.id) INTO made FROM fresh f;
	INSERT INTO crm.event (kind, object_kind, object_id, company_id, at, data, source, source_id)
	SELECT 'waybill.arrived', 'waybill', w.id, w.company_id, a.arrived_at,
		crm.waybill_data(w.id, a.id) || jsonb_build_object('arrival', a.number,
			'late', CASE WHEN a.arrived_at < crm.now() - s.late_news THEN 1 ELSE 0 END,
			'days_late', greatest(0, coalesce((a.arrived_at AT TIME ZONE s.time_zone)::date - (w.expires_at AT TIME ZONE s.time_zone)::date, 0)),
			'at', to_char(a.arrived_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'at_local', to_char(a.arrived_at AT TIME ZONE z.zone, 'HH24:MI'), 'date_local', to_char(a.arrived_at AT TIME ZONE z.zone, 'DD.MM.YYYY')),
		'waybill_arrival', a.id::text
	FROM (SELECT y.* FROM crm.waybill_arrival y WHERE y.id = ANY (made) OFFSET 0) AS a
	CROSS JOIN LATERAL (SELECT y.id, y.company_id, y.expires_at FROM crm.waybill y WHERE y.id = a.waybill_id OFFSET 0) AS w
	CROSS JOIN LATERAL (SELECT coalesce(current_setting('crm.time_zone', true), 'Europe/Moscow') AS zone) AS z
	ORDER BY a.arrived_at, a.id;
	RETURN coalesce(cardinality(made), 0);
END
$$;
COMMENT ON FUNCTION crm.waybill_arrivals(bigint[]) IS 'Announces the wagons of these waybills that arrived: all of a waybill together once the last is there, or what is there when crm.rail_setting.arrival_wait has passed since we learned of the first. Each wagon is announced once, one event waybill.arrived an arrival (claim 51). Returns how many arrivals. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.waybill_news(waybill_ids bigint[]) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	ids bigint[];
BEGIN
	IF NOT crm.guard() OR coalesce(cardinality(waybill_ids), 0) = 0 THEN
		RETURN;
	END IF;
	-- the mark comes first: it is what makes an announcement happen once
	WITH marked AS (
		UPDATE crm.waybill w SET departed_told_at = crm.now()
		WHERE w.id = ANY (waybill_ids) AND w.departed_told_at IS NULL AND w.departed_at IS NOT NULL AND w.phase <> 'dead' RETURNING w.id
	) SELECT array_agg(m.id) INTO ids FROM marked m;
	IF ids IS NOT NULL THEN
		PERFORM crm.waybill_event(ids, 'waybill.departed');
	END IF;
	PERFORM crm.waybill_arrivals(waybill_ids);
	WITH marked AS (
		UPDATE crm.waybill w SET notified_told_at = crm.now()
		WHERE w.id = ANY (waybill_ids) AND w.notified_told_at IS NULL AND w.notified_at IS NOT NULL AND w.phase <> 'dead' RETURNING w.id
	) SELECT array_agg(m.id) INTO ids FROM marked m;
	IF ids IS NOT NULL THEN
		PERFORM crm.waybill_event(ids, 'waybill.notified');
	END IF;
	PERFORM crm.waybills_late(waybill_ids);
END
$$;
COMMENT ON FUNCTION crm.waybill_news(bigint[]) IS 'Tells what is new of these waybills: departed, arrived, consignee notified, late; each once. Asleep until crm.activate()';

CREATE OR REPLACE FUNCTION crm.waybills_late(waybill_ids bigint[] DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
	s   crm.rail_setting := crm.rail_settings();
	day timestamptz := date_trunc('day', crm.now() AT TIME ZONE s.time_zone) AT TIME ZONE s.time_zone;
	ids bigint[];
BEGIN
	IF NOT crm.guard() THEN
		RETURN 0;
	END IF;
	WITH due AS MATERIALIZED (
		SELECT w.id FROM crm.waybill w
		WHERE w.late_told_at IS NULL AND w.arrived_at IS NULL AND w.expires_at IS NOT NULL AND w.phase IN ('accepted', 'moving')
			AND w.expires_at < day AND (waybill_ids IS NULL OR w.id = ANY (waybill_ids))
			AND NOT EXISTS (SELECT FROM (SELECT FROM crm.waybill_arrival a WHERE a.waybill_id = w.id OFFSET 0) AS x)
		ORDER BY w.id LIMIT 1000 FOR NO KEY UPDATE SKIP LOCKED
	), marked AS (
		UPDATE crm.waybill w SET late_told_at = crm.now() FROM due d WHERE w.id = d.id RETURNING w.id
	) SELECT array_agg(m.id) INTO ids FROM marked m;
	IF ids IS NOT NULL THEN
		PERFORM crm.waybill_event(ids, 'waybill.late');
	END IF;
	RETURN coalesce(cardinality(ids), 0);
END
$$;
COMMENT ON FUNCTION crm.waybills_late(bigint[]) IS 'Tells once of each waybill that is on its way after the last day of its delivery term (Moscow dates), of these or of all, a thousand a call. Returns how many';

CREATE OR REPLACE FUNCTION crm.waybill_is(waybill_id bigint, phases text[]) RETURNS boolean
	LANGUAGE sql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (
		SELECT FROM crm.waybill w
		WHERE w.id = $1 AND (crm.for_plant() OR crm.sees_company(w.company_id)) AND CASE WHEN w.phase IN ('draft', 'presented', 'accepted', 'moving', 'unknown')
				AND EXISTS (SELECT FROM crm.waybill_arrival a WHERE a.waybill_id = w.id) THEN 'arrived' ELSE w.phase END = ANY ($2))
$$;
COMMENT ON FUNCTION crm.waybill_is(bigint, text[]) IS 'Whether a waybill is in one of these phases now; one whose wagons were reported as arrived counts as arrived before its document says so. For the truth of rules: crm.waybill_is(object_id, ''{arrived,notified}'')';
SELECT crm.register_truth('waybill_is', 'crm.waybill_is', 'Whether a railway waybill is in one of these phases now');

CREATE OR REPLACE FUNCTION crm.waybill_wagons(waybill_id bigint, arrival integer DEFAULT NULL)
	RETURNS TABLE (wagon_number text, "position" integer, net_t numeric, arrived_at timestamptz, arrival_number integer, station text, phase text, seals text, containers text)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.number, x."position", trim_scale(x.net_kg / 1000), x.arrived_at, a.number, coalesce(s.name, n.station), n.phase, array_to_string(x.seals, ', '), array_to_string(x.containers, ', ')
	FROM crm.waybill_wagon x
	JOIN crm.wagon g ON g.id = x.wagon_id
	LEFT JOIN crm.waybill_arrival a ON a.id = x.arrival_id
	LEFT JOIN crm.wagon_now n ON n.wagon_id = x.wagon_id
	LEFT JOIN crm.station s ON s.code = n.station
	WHERE x.waybill_id = $1 AND crm.sees_waybill($1) AND x.removed_at IS NULL AND ($2 IS NULL OR a.number = $2)
	ORDER BY x."position", g.number
$$;
COMMENT ON FUNCTION crm.waybill_wagons(bigint, integer) IS 'All wagons of a waybill, or those of one of its arrivals (the number in the event''s data): what stands behind "40 вагонов" of a message (claim 51)';

CREATE OR REPLACE FUNCTION crm.waybill_contacts(event_ids bigint[]) RETURNS TABLE (event_id bigint, contact_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT DISTINCT e.id, c.id
	FROM crm.event e
	CROSS JOIN LATERAL (SELECT y.order_id, y.company_id FROM crm.waybill y WHERE e.object_kind = 'waybill' AND y.id = e.object_id OFFSET 0) w
	LEFT JOIN LATERAL (SELECT k.id FROM (SELECT y.contact_id FROM crm.customer_order y WHERE y.id = w.order_id OFFSET 0) o
		CROSS JOIN LATERAL (SELECT y.id FROM crm.contact y WHERE y.id = o.contact_id AND y.archived_at IS NULL OFFSET 0) k) p ON true
	CROSS JOIN LATERAL (
		SELECT p.id WHERE p.id IS NOT NULL
		UNION ALL (SELECT y.id FROM crm.contact y WHERE p.id IS NULL AND y.company_id = w.company_id AND y.archived_at IS NULL OFFSET 0)) c
	WHERE e.id = ANY ($1)
$$;
COMMENT ON FUNCTION crm.waybill_contacts(bigint[]) IS 'Audience: the contact of the waybill''s order, else every contact of the client who is its consignee';
SELECT crm.register_audience('waybill_contacts', 'crm.waybill_contacts', 'The contact of the order that the railway waybill belongs to, else all contacts of the consignee');

CREATE OR REPLACE FUNCTION crm.waybill_deals(object_ids bigint[]) RETURNS TABLE (object_id bigint, deal_id bigint)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT w.id, coalesce(o.deal_id, (SELECT d.id FROM crm.deal d WHERE d.company_id = o.company_id AND d.closed_at IS NULL ORDER BY d.created_at DESC, d.id DESC LIMIT 1))
	FROM (SELECT y.id, y.order_id FROM crm.waybill y WHERE y.id = ANY ($1) AND y.order_id IS NOT NULL OFFSET 0) w
	CROSS JOIN LATERAL (SELECT y.deal_id, y.company_id FROM crm.customer_order y WHERE y.id = w.order_id OFFSET 0) o
$$;
COMMENT ON FUNCTION crm.waybill_deals(bigint[]) IS 'Deal finder of waybill: the deal of its order';
SELECT crm.register_deal_finder('waybill', 'crm.waybill_deals');

SELECT crm.register_event_kind('waybill.' || k.verb, 'waybill',
	ARRAY['waybill_number', 'order_number', 'product', 'tonnes', 'wagon_count', 'wagon_numbers', 'station_name', 'origin_name', 'consignee_name', 'notice_number',
		'expires_local', 'waybill_state', 'late', 'days_late', 'at', 'at_local', 'date_local'] || k.more, k.en, k.ru)
FROM (VALUES
	('departed', '{}'::text[], 'The wagons of a railway waybill departed', 'Вагоны по накладной отправлены'),
	('arrived', '{arrival}', 'Wagons of a railway waybill arrived at the station of destination', 'Вагоны по накладной прибыли на станцию назначения'),
	('notified', '{}', 'The railway notified the consignee', 'Железная дорога уведомила получателя'),
	('late', '{}', 'The delivery term of a railway waybill has passed', 'Срок доставки по накладной истёк')) AS k(verb, more, en, ru);
