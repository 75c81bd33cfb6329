-- kpi: sets of ids, facts, the catalogue of indicators and what is compiled from it. Code: may be run again.

-- ---- sets of ids that merge --------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.ids_add(internal, bigint) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_add';
COMMENT ON FUNCTION crm.ids_add(internal, bigint) IS 'Transition of crm.ids_agg and crm.distinct_count.';

CREATE OR REPLACE FUNCTION crm.ids_add_set(internal, bytea) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_add_set';
COMMENT ON FUNCTION crm.ids_add_set(internal, bytea) IS 'Transition of crm.ids_union_agg. Error 22P03: bytes that are no set.';

CREATE OR REPLACE FUNCTION crm.ids_combine(internal, internal) RETURNS internal
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_combine';
COMMENT ON FUNCTION crm.ids_combine(internal, internal) IS 'Joins the states of two parallel workers, or of two nodes.';

CREATE OR REPLACE FUNCTION crm.ids_serial(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_serial';
COMMENT ON FUNCTION crm.ids_serial(internal) IS 'A state as bytes, to be handed to another process.';

CREATE OR REPLACE FUNCTION crm.ids_deserial(bytea, internal) RETURNS internal
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_deserial';
COMMENT ON FUNCTION crm.ids_deserial(bytea, internal) IS 'A state from the bytes of crm.ids_serial.';

CREATE OR REPLACE FUNCTION crm.ids_final_set(internal) RETURNS bytea
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_final_set';
COMMENT ON FUNCTION crm.ids_final_set(internal) IS 'Result of crm.ids_agg and crm.ids_union_agg.';

CREATE OR REPLACE FUNCTION crm.ids_final_count(internal) RETURNS bigint
	LANGUAGE c IMMUTABLE PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_final_count';
COMMENT ON FUNCTION crm.ids_final_count(internal) IS 'Result of crm.distinct_count and crm.ids_union_count.';

CREATE OR REPLACE AGGREGATE crm.ids_agg(id bigint) (
	SFUNC = crm.ids_add, STYPE = internal, SSPACE = 8192, FINALFUNC = crm.ids_final_set,
	COMBINEFUNC = crm.ids_combine, SERIALFUNC = crm.ids_serial, DESERIALFUNC = crm.ids_deserial, PARALLEL = SAFE);
COMMENT ON AGGREGATE crm.ids_agg(bigint) IS 'The exact set of ids as roaring bitmaps (portable 64-bit format); NULL ids do not count, NULL over no row. Sets of days, people and nodes merge by crm.ids_union_agg. Error 54000 beyond 512 MB.';

CREATE OR REPLACE AGGREGATE crm.ids_union_agg(ids bytea) (
	SFUNC = crm.ids_add_set, STYPE = internal, SSPACE = 8192, FINALFUNC = crm.ids_final_set,
	COMBINEFUNC = crm.ids_combine, SERIALFUNC = crm.ids_serial, DESERIALFUNC = crm.ids_deserial, PARALLEL = SAFE);
COMMENT ON AGGREGATE crm.ids_union_agg(bytea) IS 'The union of sets made by crm.ids_agg. Errors: 22P03 bytes that are no set, 54000 beyond 512 MB.';

CREATE OR REPLACE AGGREGATE crm.ids_union_count(ids bytea) (
	SFUNC = crm.ids_add_set, STYPE = internal, SSPACE = 8192, FINALFUNC = crm.ids_final_count,
	COMBINEFUNC = crm.ids_combine, SERIALFUNC = crm.ids_serial, DESERIALFUNC = crm.ids_deserial, PARALLEL = SAFE);
COMMENT ON AGGREGATE crm.ids_union_count(bytea) IS 'How many ids the union of sets made by crm.ids_agg has: the distinct count of several days or people. 0 over no row.';

CREATE OR REPLACE AGGREGATE crm.distinct_count(id bigint) (
	SFUNC = crm.ids_add, STYPE = internal, SSPACE = 8192, FINALFUNC = crm.ids_final_count,
	COMBINEFUNC = crm.ids_combine, SERIALFUNC = crm.ids_serial, DESERIALFUNC = crm.ids_deserial, PARALLEL = SAFE);
COMMENT ON AGGREGATE crm.distinct_count(bigint) IS 'COUNT(DISTINCT id), exactly, without a sort and in parallel. 0 over no row. Error 54000 beyond 512 MB.';

CREATE OR REPLACE FUNCTION crm.ids_count(ids bytea) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_count';
COMMENT ON FUNCTION crm.ids_count(bytea) IS 'How many ids a set holds. Error 22P03: bytes that are no set.';

CREATE OR REPLACE FUNCTION crm.ids_members(ids bytea) RETURNS SETOF bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1000 AS '$libdir/crm_kpi', 'crm_ids_members';
COMMENT ON FUNCTION crm.ids_members(bytea) IS 'The ids of a set, ascending. Error 22P03: bytes that are no set.';

CREATE OR REPLACE FUNCTION crm.ids_contains(ids bytea, id bigint) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_contains';
COMMENT ON FUNCTION crm.ids_contains(bytea, bigint) IS 'Whether a set holds an id. Error 22P03: bytes that are no set.';

CREATE OR REPLACE FUNCTION crm.ids_union(a bytea, b bytea) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_union';
COMMENT ON FUNCTION crm.ids_union(bytea, bytea) IS 'The ids of either set. Error 22P03: bytes that are no set.';

CREATE OR REPLACE FUNCTION crm.ids_intersect(a bytea, b bytea) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_intersect';
COMMENT ON FUNCTION crm.ids_intersect(bytea, bytea) IS 'The ids of both sets. Error 22P03: bytes that are no set.';

CREATE OR REPLACE FUNCTION crm.ids_except(a bytea, b bytea) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm_kpi', 'crm_ids_except';
COMMENT ON FUNCTION crm.ids_except(bytea, bytea) IS 'The ids of the first set that are not in the second. Error 22P03: bytes that are no set.';

-- ---- registries --------------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.register_fact(name text, view text, description_en text, description_ru text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.fact AS f (name, view, description_en, description_ru) VALUES ($1, $2, $3, $4)
	ON CONFLICT (name) DO UPDATE SET view = EXCLUDED.view, description_en = EXCLUDED.description_en, description_ru = EXCLUDED.description_ru;
END;
COMMENT ON FUNCTION crm.register_fact(text, text, text, text) IS 'Names a view whose rows indicators may count: with id and company_id (bigint) and times (timestamptz). Called by the script.';

CREATE OR REPLACE FUNCTION crm.register_bi_view(name text, label_en text, label_ru text, grain_en text, grain_ru text, drill text DEFAULT NULL) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.bi_view AS v (name, label_en, label_ru, grain_en, grain_ru, drill) VALUES ($1, $2, $3, $4, $5, $6)
	ON CONFLICT (name) DO UPDATE SET label_en = EXCLUDED.label_en, label_ru = EXCLUDED.label_ru,
		grain_en = EXCLUDED.grain_en, grain_ru = EXCLUDED.grain_ru, drill = EXCLUDED.drill;
END;
COMMENT ON FUNCTION crm.register_bi_view(text, text, text, text, text, text) IS 'Gives a view of crm_bi its labels and grain in crm_bi.catalog. Called by the script.';

SELECT crm.register_undumped('crm.fact', 'rows of code');
SELECT crm.register_undumped('crm.bi_view', 'rows of code');

-- ---- what the definitions need -----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.kpi_zone() RETURNS text
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT coalesce(nullif(current_setting('crm.time_zone', true), ''), 'Europe/Moscow');
END;
COMMENT ON FUNCTION crm.kpi_zone() IS 'The plant''s zone (setting crm.time_zone): in it views of crm_bi show times and business dates.';

CREATE OR REPLACE FUNCTION crm.kpi_parameter_at(code text, day date) RETURNS numeric
	LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
	SELECT p.value FROM crm.kpi_parameter p WHERE p.code = $1 AND p.valid_from <= $2 ORDER BY p.valid_from DESC LIMIT 1;
END;
COMMENT ON FUNCTION crm.kpi_parameter_at(text, date) IS 'A number of crm.kpi_parameter as it held on a day; NULL: it did not exist yet.';

-- ---- facts -------------------------------------------------------------------------------------------

CREATE OR REPLACE VIEW crm.fact_shipment WITH (security_invoker = true) AS
	SELECT s.id, o.company_id, s.weighed_at, (s.net_kg / 1000)::numeric(14,3) AS net_t, s.product, s.waybill, o.number AS order_number,
		v.plate AS vehicle_plate, o.price, coalesce(c.is_client, true) AS is_client, s.source, s.source_id, s.wagon_id IS NOT NULL AS by_rail,
		o.place_id IS NULL AS self_pickup, s.created_at AS known_at
	FROM crm.shipment s
	JOIN crm.customer_order o ON o.id = s.order_id
	LEFT JOIN crm.company c ON c.id = o.company_id
	LEFT JOIN crm.vehicle v ON v.id = s.vehicle_id
	WHERE s.net_kg IS NOT NULL AND s.cancelled_at IS NULL;
COMMENT ON VIEW crm.fact_shipment IS 'Loads that the weighbridge weighed and nobody cancelled: a fact for indicators.';
COMMENT ON COLUMN crm.fact_shipment.id IS 'crm.shipment.id';
COMMENT ON COLUMN crm.fact_shipment.company_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm.fact_shipment.weighed_at IS 'When the gross was weighed';
COMMENT ON COLUMN crm.fact_shipment.net_t IS 'Net, tonnes';
COMMENT ON COLUMN crm.fact_shipment.product IS 'Product';
COMMENT ON COLUMN crm.fact_shipment.waybill IS 'Number of the waybill';
COMMENT ON COLUMN crm.fact_shipment.order_number IS 'Number of the order';
COMMENT ON COLUMN crm.fact_shipment.vehicle_plate IS 'Plate; NULL: by rail, or not known';
COMMENT ON COLUMN crm.fact_shipment.price IS 'Price of a tonne in the order, roubles';
COMMENT ON COLUMN crm.fact_shipment.is_client IS 'False: the plant''s own, such as its own consumption';
COMMENT ON COLUMN crm.fact_shipment.source IS 'Where the row comes from';
COMMENT ON COLUMN crm.fact_shipment.source_id IS 'Id there';
COMMENT ON COLUMN crm.fact_shipment.by_rail IS 'Loaded into a wagon';
COMMENT ON COLUMN crm.fact_shipment.self_pickup IS 'The client fetches it: the order names no place of unloading';
COMMENT ON COLUMN crm.fact_shipment.known_at IS 'When we learned of it';
SELECT crm.register_fact('shipment', 'crm.fact_shipment', 'a load that the weighbridge weighed', 'отгрузка, взвешенная на весах');

CREATE OR REPLACE VIEW crm.fact_trip WITH (security_invoker = true) AS
	SELECT t.id, t.company_id, t.state, t.loaded_at, t.departed_at, t.approaching_at, t.arrived_at, t.unloaded_at, v.plate AS vehicle_plate,
		k.name AS carrier, p.name AS place,
		(extract(epoch FROM t.arrived_at - t.departed_at) / 60)::numeric(12,1) AS way_minutes,
		(extract(epoch FROM t.unloaded_at - t.arrived_at) / 60)::numeric(12,1) AS unloading_minutes
	FROM crm.trip t
	JOIN crm.vehicle v ON v.id = t.vehicle_id
	LEFT JOIN crm.company k ON k.id = v.carrier_id
	LEFT JOIN crm.place p ON p.id = t.destination_place_id
	WHERE t.state <> 'cancelled';
COMMENT ON VIEW crm.fact_trip IS 'Trips of vehicles with a load to one place: a fact for indicators.';
COMMENT ON COLUMN crm.fact_trip.id IS 'crm.trip.id';
COMMENT ON COLUMN crm.fact_trip.company_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm.fact_trip.state IS 'planned, loading, departed, approaching, arrived, unloaded';
COMMENT ON COLUMN crm.fact_trip.loaded_at IS 'The last weighing with a load';
COMMENT ON COLUMN crm.fact_trip.departed_at IS 'When it left the plant';
COMMENT ON COLUMN crm.fact_trip.approaching_at IS 'When it came near';
COMMENT ON COLUMN crm.fact_trip.arrived_at IS 'When it arrived';
COMMENT ON COLUMN crm.fact_trip.unloaded_at IS 'When it left the place of unloading';
COMMENT ON COLUMN crm.fact_trip.vehicle_plate IS 'Plate';
COMMENT ON COLUMN crm.fact_trip.carrier IS 'Carrier';
COMMENT ON COLUMN crm.fact_trip.place IS 'Place of unloading';
COMMENT ON COLUMN crm.fact_trip.way_minutes IS 'From departure to arrival, minutes';
COMMENT ON COLUMN crm.fact_trip.unloading_minutes IS 'From arrival to leaving again, minutes';
SELECT crm.register_fact('trip', 'crm.fact_trip', 'a trip with a load to one place', 'рейс с грузом к одному месту разгрузки');

CREATE OR REPLACE VIEW crm.fact_delivery WITH (security_invoker = true) AS
	SELECT o.id, o.company_id, o.number AS order_number, o.product, o.tonnes, o.window_from, o.window_to AS due_at, s.shipped_t, s.in_time_t,
		s.last_handed_at, o.place_id IS NULL AS self_pickup, s.by_rail, o.window_to <= crm.now() AS is_due,
		s.in_time_t > 0 AND s.in_time_t >= coalesce(o.tonnes * (1 - w.short_percent / 100), 0) AS on_time_in_full
	FROM crm.customer_order o
	CROSS JOIN LATERAL (
		SELECT coalesce(crm.kpi_parameter_at('otif_late_minutes', d.day), 0) AS late_minutes,
			coalesce(crm.kpi_parameter_at('otif_short_percent', d.day), 0) AS short_percent
		FROM (SELECT (o.window_to AT TIME ZONE crm.kpi_zone())::date AS day) d
		OFFSET 0 -- once an order, not once a load
	) w
	CROSS JOIN LATERAL (
		SELECT coalesce(sum(x.net_kg) / 1000, 0)::numeric(14,3) AS shipped_t,
			coalesce(sum(x.net_kg) FILTER (WHERE x.handed_at <= o.window_to + w.late_minutes * interval '1 minute') / 1000, 0)::numeric(14,3) AS in_time_t,
			max(x.handed_at) AS last_handed_at, coalesce(bool_or(x.wagon_id IS NOT NULL), false) AS by_rail
		FROM (
			SELECT s.net_kg, s.wagon_id, CASE WHEN o.place_id IS NULL THEN s.weighed_at ELSE t.arrived_at END AS handed_at
			FROM crm.shipment s LEFT JOIN crm.trip t ON t.id = s.trip_id
			WHERE s.order_id = o.id AND s.net_kg IS NOT NULL AND s.cancelled_at IS NULL
		) x
	) s
	WHERE o.window_to IS NOT NULL AND o.state <> 'cancelled';
COMMENT ON VIEW crm.fact_delivery IS 'Orders with a window of unloading, and how much of each was handed over in time: a fact for indicators. A load is handed over when its trip arrives; one that the client fetches, when it is weighed. All parts of a split order count.';
COMMENT ON COLUMN crm.fact_delivery.id IS 'crm.customer_order.id';
COMMENT ON COLUMN crm.fact_delivery.company_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm.fact_delivery.order_number IS 'Number of the order';
COMMENT ON COLUMN crm.fact_delivery.product IS 'Product';
COMMENT ON COLUMN crm.fact_delivery.tonnes IS 'Ordered, tonnes; NULL: any quantity is full';
COMMENT ON COLUMN crm.fact_delivery.window_from IS 'Start of the window of unloading; an earlier arrival is in time';
COMMENT ON COLUMN crm.fact_delivery.due_at IS 'End of the window of unloading';
COMMENT ON COLUMN crm.fact_delivery.shipped_t IS 'Shipped until now, tonnes';
COMMENT ON COLUMN crm.fact_delivery.in_time_t IS 'Handed over until the end of the window and the tolerance (otif_late_minutes), tonnes';
COMMENT ON COLUMN crm.fact_delivery.last_handed_at IS 'When the last part was handed over; NULL: none was yet';
COMMENT ON COLUMN crm.fact_delivery.self_pickup IS 'The client fetches it';
COMMENT ON COLUMN crm.fact_delivery.by_rail IS 'A part went by wagon, whose arrival no source tells yet';
COMMENT ON COLUMN crm.fact_delivery.is_due IS 'The window has ended';
COMMENT ON COLUMN crm.fact_delivery.on_time_in_full IS 'What was handed over in time reaches the order, less the tolerance (otif_short_percent)';
SELECT crm.register_fact('delivery', 'crm.fact_delivery', 'an order with a window of unloading', 'заказ с окном разгрузки');

CREATE OR REPLACE VIEW crm.fact_message WITH (security_invoker = true) AS
	SELECT b.id, b.company_id, r.at AS ended_at, b.queued_at, r.state, b.channel, b.language, b.object_kind, b.object_id, b.segments,
		b.rule_id IS NOT NULL AS by_rule, b.sandbox
	FROM crm.message_result r
	JOIN crm.message_said b ON b.id = r.message_id;
COMMENT ON VIEW crm.fact_message IS 'Messages that came to an end: a fact for indicators.';
COMMENT ON COLUMN crm.fact_message.id IS 'crm.message.id';
COMMENT ON COLUMN crm.fact_message.company_id IS 'Company of the reader (crm.company.id)';
COMMENT ON COLUMN crm.fact_message.ended_at IS 'When we knew the end of it';
COMMENT ON COLUMN crm.fact_message.queued_at IS 'When it was queued';
COMMENT ON COLUMN crm.fact_message.state IS 'delivered, undelivered, failed, expired, cancelled';
COMMENT ON COLUMN crm.fact_message.channel IS 'sms, email, telegram';
COMMENT ON COLUMN crm.fact_message.language IS 'Language of the text';
COMMENT ON COLUMN crm.fact_message.object_kind IS 'What the event happened to';
COMMENT ON COLUMN crm.fact_message.object_id IS 'id of what the event happened to';
COMMENT ON COLUMN crm.fact_message.segments IS 'For sms: parts that the provider bills';
COMMENT ON COLUMN crm.fact_message.by_rule IS 'Sent by a rule; false: by hand';
COMMENT ON COLUMN crm.fact_message.sandbox IS 'Went to a test recipient';
SELECT crm.register_fact('message', 'crm.fact_message', 'a message that came to an end', 'сообщение, судьба которого известна');

-- ---- saving and compiling ----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.kpi_expression(fact regclass, expression text, type regtype) RETURNS text
	LANGUAGE c STABLE STRICT PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS '$libdir/crm', 'crm_kpi_expression';
COMMENT ON FUNCTION crm.kpi_expression(regclass, text, regtype) IS 'Checks ONE expression over the columns of a fact, and returns it as PostgreSQL writes it; neither planned nor run. Columns, constants and built-in functions that only reckon with them. Errors: 42601 syntax, 42703 an unknown column, 42883 an unknown function, 42804 another type, 0A000 what is not allowed, 54000 too long.';

CREATE OR REPLACE FUNCTION crm.indicator_definition(i crm.indicator) RETURNS jsonb
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT to_jsonb(i) - ARRAY['version', 'enabled', 'switched', 'broken', 'author', 'edited_at', 'shipped', 'shipped_hash'];
END;
COMMENT ON FUNCTION crm.indicator_definition(crm.indicator) IS 'The definition of an indicator without its switch and its history.';

CREATE OR REPLACE FUNCTION crm.indicator_sql(i crm.indicator) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	view     text := (SELECT f.view FROM crm.fact f WHERE f.name = i.fact);
	needed   text;
	kind     regtype;
	inner_   text;
BEGIN
	IF view IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('indicator "%s" counts an unknown fact: %s', i.code, i.fact),
			HINT = 'Known are: ' || (SELECT string_agg(f.name, ', ' ORDER BY f.name) FROM crm.fact f) || '.';
	END IF;
	FOREACH needed IN ARRAY i.drill || i.time_column || CASE WHEN i.credit = 'doer' THEN ARRAY['employee_id'] ELSE '{}' END LOOP
		SELECT a.atttypid::regtype INTO kind FROM pg_attribute a
		WHERE a.attrelid = view::regclass AND a.attname = needed AND a.attnum > 0 AND NOT a.attisdropped;
		IF kind IS NULL OR needed = i.time_column AND kind <> 'timestamptz'::regtype OR needed = 'employee_id' AND i.credit = 'doer' AND kind <> 'bigint'::regtype THEN
			RAISE EXCEPTION USING ERRCODE = '42703',
				MESSAGE = format('indicator "%s" names %s, which is no %scolumn of the fact %s', i.code, quote_literal(needed),
					CASE WHEN needed = i.time_column THEN 'timestamptz ' ELSE '' END, i.fact),
				HINT = format('Columns of %s: %s.', view, (SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, NULL), ', ' ORDER BY a.attnum)
					FROM pg_attribute a WHERE a.attrelid = view::regclass AND a.attnum > 0 AND NOT a.attisdropped));
		END IF;
	END LOOP;
	-- The expressions are what crm.kpi_expression() wrote, never the text as it was typed.
	inner_ := format('SELECT f.id AS fact_id, f.%1$I AS at, f.company_id, %2$s AS doer_id, (%4$s)::numeric AS weight, %5$s AS hit'
		' FROM %3$s f WHERE f.%1$I >= $1 AND f.%1$I < $2 AND (%6$s)',
		i.time_column, CASE i.credit WHEN 'doer' THEN 'f.employee_id' ELSE 'NULL::bigint' END, view,
		coalesce(crm.kpi_expression(view::regclass, i.weight, 'numeric'), '1'),
		coalesce('(' || crm.kpi_expression(view::regclass, i.numerator, 'boolean') || ')', 'false'),
		coalesce(crm.kpi_expression(view::regclass, i.predicate, 'boolean'), 'true'));
	RETURN format('SELECT x.fact_id, x.at, (x.at AT TIME ZONE $3)::date, %s, x.company_id, %s, x.weight FROM (%s) x%s%s WHERE x.weight IS NOT NULL%s',
		CASE i.credit WHEN 'doer' THEN 'x.doer_id' ELSE 'coalesce(r.employee_id, c.owner_id)' END,
		CASE i.additive WHEN 'ratio' THEN 'p.part' ELSE '''value''::text' END,
		inner_,
		CASE i.credit WHEN 'doer' THEN '' ELSE
			' LEFT JOIN crm.responsibility r ON r.company_id = x.company_id AND r.during @> x.at LEFT JOIN crm.company c ON c.id = x.company_id' END,
		CASE i.additive WHEN 'ratio' THEN ' CROSS JOIN (VALUES (''numerator''::text), (''denominator'')) p(part)' ELSE '' END,
		CASE i.additive WHEN 'ratio' THEN ' AND (p.part = ''denominator'' OR x.hit)' ELSE '' END);
END
$$;
COMMENT ON FUNCTION crm.indicator_sql(crm.indicator) IS 'The query that an indicator means, over $1 and $2 (from, to) and $3 (zone). Checks everything that it names. Errors: 23503 an unknown fact, 42703 an unknown column, and those of crm.kpi_expression().';

CREATE OR REPLACE FUNCTION crm.compile_union() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	rows_  text;
	daily  text;
	v      text;
	fresh  boolean;
BEGIN
	SELECT string_agg(format('SELECT %L::varchar(40) AS code, k.fact_id, k.at, k.business_date, k.employee_id, k.company_id, k.part, k.weight FROM %s k',
			c.code, c.view_name), ' UNION ALL ' ORDER BY i."position", c.code),
		string_agg(format('SELECT %1$L::varchar(40) AS code, k.business_date, k.employee_id, %2$s AS value, %3$s AS numerator, %4$s AS denominator, count(*) AS facts FROM %5$s k GROUP BY k.business_date, k.employee_id',
			c.code,
			crm.kpi_figure(i, 'value'), crm.kpi_figure(i, 'numerator'), crm.kpi_figure(i, 'denominator'),
			c.view_name), ' UNION ALL ' ORDER BY i."position", c.code)
	INTO rows_, daily
	FROM crm.compiled c JOIN crm.indicator i ON i.code = c.code;
	IF rows_ IS NULL THEN
		DROP VIEW IF EXISTS crm_bi.kpi, crm_bi.kpi_rows;
		RETURN;
	END IF;

	fresh := to_regclass('crm_bi.kpi_rows') IS NULL;
	EXECUTE 'CREATE OR REPLACE VIEW crm_bi.kpi_rows WITH (security_invoker = true) AS ' || rows_;
	EXECUTE $c$COMMENT ON VIEW crm_bi.kpi_rows IS 'The rows behind every indicator: one row a fact and part. Filter by code and business_date. Made from crm.indicator by crm.activate() and by each edit; live.'$c$;
	EXECUTE $c$COMMENT ON COLUMN crm_bi.kpi_rows.code IS 'Indicator (crm.indicator.code)'$c$;
	PERFORM crm.compile_comments('crm_bi.kpi_rows');
	IF fresh THEN
		GRANT SELECT ON crm_bi.kpi_rows TO crm_bi_reader, crm_director;
	END IF;

	fresh := to_regclass('crm_bi.kpi') IS NULL;
	EXECUTE format('CREATE OR REPLACE VIEW crm_bi.kpi WITH (security_invoker = true) AS '
		'SELECT d.code, i.name_ru::varchar(100) AS name_ru, i.name_en::varchar(100) AS name_en, i.unit_ru::varchar(30) AS unit_ru, i.unit_en::varchar(30) AS unit_en, '
		'i.additive::varchar(10) AS additive, d.business_date, d.employee_id, e.name::varchar(500) AS employee, e.team_id, t.name::varchar(200) AS team, '
		'd.value::numeric(18,4) AS value, d.numerator::numeric(18,4) AS numerator, d.denominator::numeric(18,4) AS denominator, d.facts, '
		'(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to '
		'FROM (%s) d JOIN crm.indicator i ON i.code = d.code LEFT JOIN crm.employee e ON e.id = d.employee_id LEFT JOIN crm.team t ON t.id = e.team_id', daily);
	FOREACH v IN ARRAY ARRAY[
		'code|Indicator (crm.indicator.code)', 'name_ru|Its name in Russian', 'name_en|Its name in English', 'unit_ru|Its unit in Russian', 'unit_en|Its unit in English',
		'additive|sum: days and people may be added up; distinct, ratio: they may not, ask crm.kpi_report() for the period',
		'business_date|Day in the plant''s zone', 'employee_id|Who is credited (crm.employee.id); NULL: nobody was responsible', 'employee|Name', 'team_id|Team now (crm.team.id)', 'team|Its name',
		'value|The figure of the day; NULL: a ratio over nothing', 'numerator|Of a ratio', 'denominator|Of a ratio', 'facts|Rows behind it (crm_bi.kpi_rows)',
		'fresh_to|Up to when facts are in: now, plant''s zone'] LOOP
		EXECUTE format('COMMENT ON COLUMN crm_bi.kpi.%I IS %L', split_part(v, '|', 1), split_part(v, '|', 2));
	END LOOP;
	EXECUTE $c$COMMENT ON VIEW crm_bi.kpi IS 'Every indicator by day and employee. Made from crm.indicator by crm.activate() and by each edit; live.'$c$;
	IF fresh THEN
		GRANT SELECT ON crm_bi.kpi TO crm_bi_reader, crm_director;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.compile_union() IS 'Makes crm_bi.kpi and crm_bi.kpi_rows from what is compiled. Called by crm.compile_indicator() and crm.ship_kpi().';

CREATE OR REPLACE FUNCTION crm.compile_comments(view text) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('COMMENT ON COLUMN %s.fact_id IS %L', view::regclass, 'id of the fact');
	EXECUTE format('COMMENT ON COLUMN %s.at IS %L', view::regclass, 'When it happened, plant''s zone');
	EXECUTE format('COMMENT ON COLUMN %s.business_date IS %L', view::regclass, 'Day in the plant''s zone');
	EXECUTE format('COMMENT ON COLUMN %s.employee_id IS %L', view::regclass, 'Who is credited (crm.employee.id); NULL: nobody was responsible');
	EXECUTE format('COMMENT ON COLUMN %s.company_id IS %L', view::regclass, 'The client (crm.company.id)');
	EXECUTE format('COMMENT ON COLUMN %s.part IS %L', view::regclass, 'value; for a ratio numerator and denominator');
	EXECUTE format('COMMENT ON COLUMN %s.weight IS %L', view::regclass, 'What the row adds to its part');
END
$$;
COMMENT ON FUNCTION crm.compile_comments(text) IS 'Comments on the columns that every compiled view has. Called by crm.compile_indicator().';

CREATE OR REPLACE FUNCTION crm.compile_indicator(code text) RETURNS boolean
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	i        crm.indicator;
	f_name   text := format('crm.kpi_of_%s', code);
	v_name   text := format('crm_bi.kpi_%s', code);
	fresh    boolean;
	words    text;
BEGIN
	-- One compiles at a time: two would replace crm_bi.kpi at once. Readers do not wait.
	LOCK TABLE crm.compiled IN SHARE ROW EXCLUSIVE MODE;
	SELECT x.* INTO i FROM crm.indicator x WHERE x.code = compile_indicator.code;
	IF i.code IS NULL OR NOT coalesce(i.switched, i.enabled) OR i.broken IS NOT NULL THEN
		DELETE FROM crm.compiled c WHERE c.code = compile_indicator.code RETURNING c.function_name, c.view_name INTO f_name, v_name;
		IF NOT FOUND THEN
			RETURN false;
		END IF;
		PERFORM crm.compile_union();
		EXECUTE format('DROP VIEW IF EXISTS %s', v_name);
		EXECUTE format('DROP FUNCTION IF EXISTS %s(timestamptz, timestamptz, text)', f_name);
		RETURN false;
	END IF;
	IF code !~ '^[a-z][a-z0-9_]{0,39}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('%L is no code of an indicator', code);
	END IF;
	fresh := to_regclass(v_name) IS NULL;
	EXECUTE format('CREATE OR REPLACE FUNCTION %s(from_at timestamptz, to_at timestamptz, zone text) RETURNS TABLE (fact_id bigint, at timestamptz, business_date date, employee_id bigint, company_id bigint, part text, weight numeric) LANGUAGE sql STABLE PARALLEL RESTRICTED BEGIN ATOMIC %s; END',
		f_name, crm.indicator_sql(i));
	words := format(E'%s, %s / %s, %s. %s\n%s\nVersion %s, from crm.indicator.', i.name_ru, i.unit_ru, i.name_en, i.unit_en, i.note_ru, i.note_en, i.version);
	EXECUTE format('COMMENT ON FUNCTION %s(timestamptz, timestamptz, text) IS %L', f_name, words);
	EXECUTE format('CREATE OR REPLACE VIEW %s WITH (security_invoker = true) AS SELECT k.fact_id, (k.at AT TIME ZONE crm.kpi_zone())::timestamp(3) AS at, k.business_date, k.employee_id, k.company_id, k.part::varchar(12) AS part, k.weight::numeric(18,4) AS weight FROM %s(''-infinity'', ''infinity'', crm.kpi_zone()) k',
		v_name, f_name);
	EXECUTE format('COMMENT ON VIEW %s IS %L', v_name, words);
	PERFORM crm.compile_comments(v_name);
	IF fresh THEN
		EXECUTE format('REVOKE ALL ON FUNCTION %s(timestamptz, timestamptz, text) FROM PUBLIC', f_name);
		EXECUTE format('GRANT EXECUTE ON FUNCTION %s(timestamptz, timestamptz, text) TO crm_bi_reader, crm_director', f_name);
		EXECUTE format('GRANT SELECT ON %s TO crm_bi_reader, crm_director', v_name);
	END IF;
	INSERT INTO crm.compiled AS c (code, version, function_name, view_name) VALUES (i.code, i.version, f_name, v_name)
	ON CONFLICT ON CONSTRAINT compiled_pkey DO UPDATE SET version = EXCLUDED.version, function_name = EXCLUDED.function_name, view_name = EXCLUDED.view_name, compiled_at = EXCLUDED.compiled_at;
	PERFORM crm.compile_union();
	RETURN true;
END
$$;
COMMENT ON FUNCTION crm.compile_indicator(text) IS 'Makes the function and the view of an indicator, or drops them where it is off or gone; true where they stand now. Errors: those of crm.indicator_sql().';

CREATE OR REPLACE FUNCTION crm.drop_compiled() RETURNS integer
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c crm.compiled;
	n integer := 0;
BEGIN
	LOCK TABLE crm.compiled IN SHARE ROW EXCLUSIVE MODE;
	DROP VIEW IF EXISTS crm_bi.kpi, crm_bi.kpi_rows;
	FOR c IN DELETE FROM crm.compiled RETURNING * LOOP
		EXECUTE format('DROP VIEW IF EXISTS %s', c.view_name);
		EXECUTE format('DROP FUNCTION IF EXISTS %s(timestamptz, timestamptz, text)', c.function_name);
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION crm.drop_compiled() IS 'Drops every compiled function and view; returns how many indicators had them. For DROP EXTENSION without CASCADE; crm.activate() makes them again.';

CREATE OR REPLACE FUNCTION crm.indicator_check() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	view text;
BEGIN
	-- A restore brings rows that were checked when they were saved; activation looks at them again.
	IF NOT crm.guard() THEN
		RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
	END IF;
	IF TG_OP = 'DELETE' THEN
		IF OLD.shipped THEN
			RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('indicator "%s" came with the product and cannot be deleted', OLD.code),
				HINT = format('Switch it off: UPDATE crm.indicator SET switched = false WHERE code = %L;', OLD.code);
		END IF;
		RETURN OLD;
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.code <> OLD.code THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('the code of indicator "%s" never changes', OLD.code),
			HINT = 'Insert another indicator, and switch this one off.';
	END IF;
	IF TG_OP = 'INSERT' OR crm.indicator_definition(NEW) IS DISTINCT FROM crm.indicator_definition(OLD) THEN
		PERFORM crm.indicator_sql(NEW);
		SELECT f.view INTO view FROM crm.fact f WHERE f.name = NEW.fact;
		IF NOT has_table_privilege(session_user, view, 'SELECT') THEN
			RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('"%s" may not read %s', session_user, view),
				HINT = 'Whoever writes an indicator must be able to read the facts that it counts.';
		END IF;
		NEW.broken := NULL;
		NEW.author := session_user;
		NEW.edited_at := crm.now();
		NEW.version := CASE TG_OP WHEN 'INSERT' THEN
			coalesce((SELECT max(v.version) FROM crm.indicator_version v WHERE v.code = NEW.code), 0) + 1 ELSE OLD.version + 1 END;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.indicator_check() IS 'Trigger function of crm.indicator, before: checks the definition, counts versions, keeps what shipped. Errors: those of crm.indicator_sql(), 42501 the author may not read the fact, 55000 a shipped row, or another code.';

CREATE OR REPLACE FUNCTION crm.indicator_saved() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	IF TG_OP = 'DELETE' THEN
		PERFORM crm.compile_indicator(OLD.code);
		RETURN NULL;
	END IF;
	INSERT INTO crm.indicator_version (code, version, definition, by) VALUES (NEW.code, NEW.version, crm.indicator_definition(NEW), NEW.author)
	ON CONFLICT ON CONSTRAINT indicator_version_key DO NOTHING;
	PERFORM crm.compile_indicator(NEW.code);
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.indicator_saved() IS 'Trigger function of crm.indicator, after: keeps the version and compiles it.';

CREATE OR REPLACE FUNCTION crm.ship_kpi() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
	i crm.indicator;
	n crm.indicator;
	o record;
	view text;
BEGIN
	INSERT INTO crm.kpi_parameter (code, value, unit, description_en, description_ru, shipped) VALUES
		('otif_late_minutes', 30, 'min', 'An arrival so long after the end of the window is still in time.', 'Прибытие не позже конца окна плюс столько минут считается вовремя.', true),
		('otif_short_percent', 2, '%', 'So much less than ordered is still in full.', 'Недовес до стольких процентов заказа считается полной поставкой.', true)
	ON CONFLICT ON CONSTRAINT kpi_parameter_pkey DO NOTHING;

	FOR r IN
		SELECT * FROM (VALUES
			('ship_t', 10, 'Отгрузка', 'Shipped', 'т', 't', 'more', 'sum', 'shipment', 'is_client', 'weighed_at', 'net_t', NULL, NULL, 1, 3,
				ARRAY['order_number', 'waybill', 'vehicle_plate', 'product', 'net_t'],
				'Сумма нетто по весам на момент взвешивания брутто; самовывоз считается, отменённые и собственное потребление нет.',
				'Net weight by the weighbridge at the time of the gross; what clients fetch counts, cancelled loads and own consumption do not.'),
			('clients_served', 20, 'Клиенты с отгрузкой', 'Clients served', 'клиентов', 'clients', 'more', 'distinct', 'shipment', 'is_client', 'weighed_at', NULL, NULL, 'company', 1, 0,
				ARRAY['order_number', 'waybill', 'net_t'],
				'Разные клиенты, которым отгружали в периоде; каждый один раз, у отдела — объединение.',
				'Different clients that got a load in the period; each once, a team''s is the union.'),
			('trips', 30, 'Рейсы', 'Trips', 'рейсов', 'trips', 'more', 'sum', 'trip', NULL, 'arrived_at', NULL, NULL, NULL, 1, 0,
				ARRAY['vehicle_plate', 'carrier', 'place', 'way_minutes'],
				'Рейсы, прибывшие на разгрузку, по времени прибытия.',
				'Trips that arrived for unloading, by the time of arrival.'),
			('otif', 40, 'Вовремя и полностью', 'On time in full', '%', '%', 'more', 'ratio', 'delivery', 'is_due AND NOT by_rail', 'due_at', NULL, 'on_time_in_full', NULL, 100, 1,
				ARRAY['order_number', 'tonnes', 'in_time_t', 'last_handed_at'],
				'Заказы, доставленные до конца окна разгрузки (плюс допуск) и полностью (минус допуск), к заказам, окно которых кончилось в периоде. Ранний приезд допустим. Прибытие, которого не подтверждает факт, не считается вовремя; вагоны не входят.',
				'Orders handed over by the end of their window (and the tolerance) and in full (less the tolerance), of those whose window ended in the period. Early is in time. An arrival that no fact proves is not in time; wagons are left out.'),
			('messages_delivered', 50, 'Доставленные сообщения', 'Messages delivered', 'сообщений', 'messages', 'more', 'sum', 'message', 'state = ''delivered'' AND NOT sandbox', 'ended_at', NULL, NULL, NULL, 1, 0,
				ARRAY['channel', 'object_kind', 'object_id'],
				'Сообщения клиентам с отчётом о доставке, по времени, когда он стал известен.',
				'Messages to clients with a report of delivery, by the time when it became known.')
		) AS v(code, "position", name_ru, name_en, unit_ru, unit_en, direction, additive, fact, predicate, time_column, weight, numerator, distinct_of, scale, digits, drill, note_ru, note_en)
	LOOP
		i := NULL;
		SELECT x.* INTO i FROM crm.indicator x WHERE x.code = r.code;
		IF i.code IS NULL THEN
			INSERT INTO crm.indicator (code, "position", name_ru, name_en, unit_ru, unit_en, direction, additive, fact, predicate, time_column, weight, numerator, distinct_of, scale, digits, drill, note_ru, note_en, shipped)
			VALUES (r.code, r."position", r.name_ru, r.name_en, r.unit_ru, r.unit_en, r.direction, r.additive, r.fact, r.predicate, r.time_column, r.weight, r.numerator, r.distinct_of, r.scale, r.digits, r.drill, r.note_ru, r.note_en, true);
		ELSIF i.shipped_hash = md5(crm.indicator_definition(i)::text) THEN
			-- What the DBA edited stays as he left it.
			n := jsonb_populate_record(i, to_jsonb(r));
			IF crm.indicator_definition(n) IS NOT DISTINCT FROM crm.indicator_definition(i) THEN
				CONTINUE;
			END IF;
			UPDATE crm.indicator x SET "position" = n."position", name_ru = n.name_ru, name_en = n.name_en, unit_ru = n.unit_ru, unit_en = n.unit_en,
				direction = n.direction, additive = n.additive, fact = n.fact, predicate = n.predicate, time_column = n.time_column, weight = n.weight,
				numerator = n.numerator, distinct_of = n.distinct_of, scale = n.scale, digits = n.digits, drill = n.drill, note_ru = n.note_ru,
				note_en = n.note_en, version = x.version + 1
			WHERE x.code = r.code;
		ELSE
			CONTINUE;
		END IF;
		UPDATE crm.indicator x SET shipped_hash = md5(crm.indicator_definition(x)::text) WHERE x.code = r.code;
	END LOOP;

	-- Everything is compiled anew: a restore may have brought it from an older version, or from another owner.
	FOR o IN SELECT c.function_name, c.view_name FROM crm.compiled c LOOP
		IF to_regclass(o.view_name) IS NOT NULL THEN
			EXECUTE format('ALTER VIEW %s OWNER TO crm_owner', o.view_name);
		END IF;
		IF to_regprocedure(o.function_name || '(timestamptz, timestamptz, text)') IS NOT NULL THEN
			EXECUTE format('ALTER FUNCTION %s(timestamptz, timestamptz, text) OWNER TO crm_owner', o.function_name);
		END IF;
	END LOOP;
	FOR o IN SELECT c.code FROM crm.compiled c WHERE NOT EXISTS (SELECT FROM crm.indicator x WHERE x.code = c.code AND coalesce(x.switched, x.enabled)) LOOP
		PERFORM crm.compile_indicator(o.code);
	END LOOP;
	FOR i IN SELECT x.* FROM crm.indicator x WHERE coalesce(x.switched, x.enabled) ORDER BY x."position", x.code LOOP
		BEGIN
			IF NOT i.shipped THEN
				-- Whoever wrote it must still be there, and able to read what it counts.
				SELECT f.view INTO view FROM crm.fact f WHERE f.name = i.fact;
				IF NOT EXISTS (SELECT FROM pg_roles p WHERE p.rolname = i.author) THEN
					RAISE EXCEPTION USING ERRCODE = '42704', MESSAGE = format('its author "%s" is gone', i.author);
				ELSIF view IS NOT NULL AND NOT has_table_privilege(i.author, view, 'SELECT') THEN
					RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = format('its author "%s" may not read %s', i.author, view);
				END IF;
			END IF;
			UPDATE crm.indicator x SET broken = NULL WHERE x.code = i.code AND x.broken IS NOT NULL;
			PERFORM crm.compile_indicator(i.code);
			INSERT INTO crm.indicator_version (code, version, definition, by) VALUES (i.code, i.version, crm.indicator_definition(i), i.author)
			ON CONFLICT ON CONSTRAINT indicator_version_key DO NOTHING;
		EXCEPTION WHEN OTHERS THEN
			UPDATE crm.indicator x SET broken = SQLERRM WHERE x.code = i.code;
			PERFORM crm.compile_indicator(i.code);
			RAISE WARNING USING MESSAGE = format('indicator "%s" is off: %s', i.code, SQLERRM);
		END;
	END LOOP;
END
$$;
COMMENT ON FUNCTION crm.ship_kpi() IS 'Writes the indicators and parameters that come with the product, where the DBA did not change them, and compiles every indicator that is on. Called by crm.activate().';
SELECT crm.register_hook('ship', 'kpi', 'crm.ship_kpi');
