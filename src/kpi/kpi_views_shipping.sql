-- kpi: the views of crm_bi about arrivals, carriers and deliveries. Code: may be run again.

CREATE OR REPLACE FUNCTION crm.arrival_points(trip_id bigint, side text) RETURNS TABLE (ordinal integer, role text, at timestamptz, lon double precision, lat double precision, error_s double precision, fact text)
	LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT f.* FROM crm.lateness l CROSS JOIN LATERAL crm.claim_facts(l.id) f
	WHERE l.trip_id = $1 AND crm.sees_trip($1) AND l.side = $2 AND l.superseded_at IS NULL ORDER BY f.ordinal
$$;
COMMENT ON FUNCTION crm.arrival_points(bigint, text) IS 'What a row of crm_bi.arrival rests on, at loading or unloading: plans, check-in, the fixes before and after the crossing, the crossing with its error, the queue, the term, the result (claim 71)';

CREATE OR REPLACE VIEW crm_bi.arrival WITH (security_invoker = true) AS
	SELECT l.id AS lateness_id,
		l.trip_id AS trip_id,
		l.side::varchar(10) AS side,
		l.business_date AS business_date,
		(l.planned_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS planned_at,
		(l.arrived_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS arrived_at,
		l.means::varchar(20) AS means,
		l.error_s::numeric(12,1) AS error_s,
		l.late_minutes AS late_minutes,
		l.excused_minutes AS excused_minutes,
		l.charged_minutes AS charged_minutes,
		l.reason::varchar(500) AS reason,
		coalesce(c.penalty, l.penalty)::numeric(14,2) AS penalty,
		c.id AS claim_id,
		c.state::varchar(20) AS claim_state,
		l.carrier_id AS carrier_id,
		k.name::varchar(500) AS carrier,
		v.driver::varchar(200) AS driver,
		l.vehicle_id AS vehicle_id,
		v.plate::varchar(40) AS vehicle,
		p.name::varchar(500) AS place,
		(SELECT string_agg(o.number, ', ' ORDER BY o.number) FROM crm.trip_order x JOIN crm.customer_order o ON o.id = x.order_id WHERE x.trip_id = l.trip_id)::varchar(500) AS order_numbers,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.lateness l
	JOIN crm.vehicle v ON v.id = l.vehicle_id
	LEFT JOIN crm.company k ON k.id = l.carrier_id
	LEFT JOIN crm.place p ON p.id = l.place_id
	LEFT JOIN crm.claim c ON c.trip_id = l.trip_id AND c.side = l.side AND c.state <> 'cancelled'
	WHERE l.superseded_at IS NULL;
COMMENT ON VIEW crm_bi.arrival IS 'Arrivals at loading and unloading, a row a trip and side: plan, fact, what proves it, lateness, reason, penalty (claim 71); live. crm.arrival_points(trip_id, side) opens a row to its points.';
COMMENT ON COLUMN crm_bi.arrival.lateness_id IS 'crm.lateness.id of the version in force';
COMMENT ON COLUMN crm_bi.arrival.trip_id IS 'crm.trip.id';
COMMENT ON COLUMN crm_bi.arrival.side IS 'loading or unloading';
COMMENT ON COLUMN crm_bi.arrival.business_date IS 'Day of the plan';
COMMENT ON COLUMN crm_bi.arrival.planned_at IS 'Latest moment that is in time, plant''s zone';
COMMENT ON COLUMN crm_bi.arrival.arrived_at IS 'Earliest proved arrival, plant''s zone';
COMMENT ON COLUMN crm_bi.arrival.means IS 'What proves it: gps, gate, weighbridge, bot, monitor, manual';
COMMENT ON COLUMN crm_bi.arrival.error_s IS 'Bound of its error, seconds; NULL: none is known';
COMMENT ON COLUMN crm_bi.arrival.late_minutes IS 'Minutes late, the error taken off; 0: in time';
COMMENT ON COLUMN crm_bi.arrival.excused_minutes IS 'Minutes of them in the plant''s own queue';
COMMENT ON COLUMN crm_bi.arrival.charged_minutes IS 'Minutes that are charged';
COMMENT ON COLUMN crm_bi.arrival.reason IS 'Why something is excused or not charged';
COMMENT ON COLUMN crm_bi.arrival.penalty IS 'Penalty in force, roubles: the claim''s, else by the contract';
COMMENT ON COLUMN crm_bi.arrival.claim_id IS 'crm.claim.id; NULL: none';
COMMENT ON COLUMN crm_bi.arrival.claim_state IS 'State of the claim';
COMMENT ON COLUMN crm_bi.arrival.carrier_id IS 'crm.company.id of the carrier';
COMMENT ON COLUMN crm_bi.arrival.carrier IS 'Its name';
COMMENT ON COLUMN crm_bi.arrival.driver IS 'Usual driver of the vehicle';
COMMENT ON COLUMN crm_bi.arrival.vehicle_id IS 'crm.vehicle.id';
COMMENT ON COLUMN crm_bi.arrival.vehicle IS 'Plate';
COMMENT ON COLUMN crm_bi.arrival.place IS 'Where it was to come';
COMMENT ON COLUMN crm_bi.arrival.order_numbers IS 'Numbers of the orders that it carried';
COMMENT ON COLUMN crm_bi.arrival.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.arrival', 'Arrivals', 'Прибытия', 'one trip and side', 'один рейс и сторона (погрузка или выгрузка)', 'crm.arrival_points(trip_id, side)');

CREATE OR REPLACE VIEW crm_bi.carrier_score WITH (security_invoker = true) AS
	SELECT l.carrier_id AS carrier_id,
		k.name::varchar(500) AS carrier,
		date_trunc('month', l.business_date)::date AS month_start,
		count(*) FILTER (WHERE l.side = 'loading')::integer AS loadings,
		round(100.0 * count(*) FILTER (WHERE l.side = 'loading' AND l.late_minutes <= l.excused_minutes) / nullif(count(*) FILTER (WHERE l.side = 'loading'), 0), 1)::numeric(5,1) AS loading_on_time_pct,
		count(*) FILTER (WHERE l.side = 'unloading')::integer AS unloadings,
		round(100.0 * count(*) FILTER (WHERE l.side = 'unloading' AND l.late_minutes <= l.excused_minutes) / nullif(count(*) FILTER (WHERE l.side = 'unloading'), 0), 1)::numeric(5,1) AS unloading_on_time_pct,
		round(avg(l.late_minutes - l.excused_minutes), 1)::numeric(10,1) AS mean_late_minutes,
		count(c.id)::integer AS claims,
		count(c.id) FILTER (WHERE c.explained_at IS NOT NULL)::integer AS explained,
		count(c.id) FILTER (WHERE c.state = 'accepted')::integer AS accepted,
		coalesce(sum(c.penalty), 0)::numeric(16,2) AS penalties,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.lateness l
	JOIN crm.company k ON k.id = l.carrier_id
	LEFT JOIN crm.claim c ON c.trip_id = l.trip_id AND c.side = l.side AND c.state <> 'cancelled'
	WHERE l.superseded_at IS NULL
	GROUP BY l.carrier_id, k.name, date_trunc('month', l.business_date);
COMMENT ON VIEW crm_bi.carrier_score IS 'Carriers by month: on time at loading and unloading, mean lateness, claims, explanations, penalties (claim 75); live. Rows of crm_bi.arrival of the carrier and month are behind it.';
COMMENT ON COLUMN crm_bi.carrier_score.carrier_id IS 'crm.company.id';
COMMENT ON COLUMN crm_bi.carrier_score.carrier IS 'Its name';
COMMENT ON COLUMN crm_bi.carrier_score.month_start IS 'First day of the month of the plan';
COMMENT ON COLUMN crm_bi.carrier_score.loadings IS 'Trips judged at loading';
COMMENT ON COLUMN crm_bi.carrier_score.loading_on_time_pct IS 'In time of them, minutes in the plant''s queue apart, percent; NULL: none';
COMMENT ON COLUMN crm_bi.carrier_score.unloadings IS 'Trips judged at unloading';
COMMENT ON COLUMN crm_bi.carrier_score.unloading_on_time_pct IS 'In time of them, percent; NULL: none';
COMMENT ON COLUMN crm_bi.carrier_score.mean_late_minutes IS 'Mean lateness less the plant''s queue, minutes, those in time as 0';
COMMENT ON COLUMN crm_bi.carrier_score.claims IS 'Claims that were not taken back';
COMMENT ON COLUMN crm_bi.carrier_score.explained IS 'Of them explained';
COMMENT ON COLUMN crm_bi.carrier_score.accepted IS 'Of them explained so that the penalty was voided';
COMMENT ON COLUMN crm_bi.carrier_score.penalties IS 'Penalties in force, roubles';
COMMENT ON COLUMN crm_bi.carrier_score.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.carrier_score', 'Carriers by month', 'Перевозчики по месяцам', 'one carrier and month', 'один перевозчик и месяц', 'crm_bi.arrival by carrier_id and month');

CREATE OR REPLACE VIEW crm_bi.otif WITH (security_invoker = true) AS
	SELECT o.id AS order_id,
		o.number::varchar(100) AS order_number,
		o.company_id AS client_id,
		k.name::varchar(500) AS client,
		(o.window_to AT TIME ZONE crm.kpi_zone())::date AS business_date,
		o.tonnes::numeric(14,3) AS ordered_t,
		coalesce(s.net_t, 0)::numeric(14,3) AS delivered_t,
		t.trips::integer AS trips,
		t.late::integer AS late_trips,
		(CASE WHEN t.trips > 0 AND t.late = 0 AND t.unknown = 0 THEN 'yes' ELSE 'no' END)::varchar(3) AS on_time,
		(CASE WHEN coalesce(s.net_t, 0) >= o.tonnes * 0.99 THEN 'yes' ELSE 'no' END)::varchar(3) AS in_full,
		(CASE WHEN t.trips > 0 AND t.late = 0 AND t.unknown = 0 AND coalesce(s.net_t, 0) >= o.tonnes * 0.99 THEN 1 ELSE 0 END) AS otif,
		t.claims::integer AS claims,
		t.trip_ids::varchar(2000) AS trip_ids,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.customer_order o
	JOIN crm.company k ON k.id = o.company_id
	CROSS JOIN LATERAL (
		SELECT count(*) AS trips, count(*) FILTER (WHERE l.late_minutes > 0) AS late, count(*) FILTER (WHERE l.id IS NULL) AS unknown,
			count(c.id) AS claims, string_agg(x.id::text, ', ' ORDER BY x.id) AS trip_ids
		FROM crm.trip_order y
		JOIN crm.trip x ON x.id = y.trip_id AND x.state <> 'cancelled'
		LEFT JOIN crm.lateness l ON l.trip_id = x.id AND l.side = 'unloading' AND l.superseded_at IS NULL
		LEFT JOIN crm.claim c ON c.trip_id = x.id AND c.side = 'unloading' AND c.state <> 'cancelled'
		WHERE y.order_id = o.id) t
	LEFT JOIN LATERAL (SELECT sum(z.net_kg) / 1000 AS net_t FROM crm.shipment z JOIN crm.trip x ON x.id = z.trip_id AND x.arrived_at IS NOT NULL
		WHERE z.order_id = o.id AND z.cancelled_at IS NULL) s ON true
	WHERE o.window_to < crm.now() AND o.state <> 'cancelled' ;
COMMENT ON VIEW crm_bi.otif IS 'Deliveries on time in full, a row an order whose window is over (claim 76); live. On time: every trip reached the place within the window, by its proof less the error; in full: at least 99 % of the tonnes arrived by GPS. Opens to its trips by trip_ids; sum(claims) * 100 / sum(trips) is claims per 100 deliveries.';
COMMENT ON COLUMN crm_bi.otif.order_id IS 'crm.customer_order.id';
COMMENT ON COLUMN crm_bi.otif.order_number IS 'Number of the order';
COMMENT ON COLUMN crm_bi.otif.client_id IS 'crm.company.id of the client';
COMMENT ON COLUMN crm_bi.otif.client IS 'Its name';
COMMENT ON COLUMN crm_bi.otif.business_date IS 'Day on which the window ended, plant''s zone';
COMMENT ON COLUMN crm_bi.otif.ordered_t IS 'Ordered, tonnes';
COMMENT ON COLUMN crm_bi.otif.delivered_t IS 'Weighed and arrived, tonnes';
COMMENT ON COLUMN crm_bi.otif.trips IS 'Trips that carried it';
COMMENT ON COLUMN crm_bi.otif.late_trips IS 'Of them late at unloading';
COMMENT ON COLUMN crm_bi.otif.on_time IS 'yes: all arrived within the window';
COMMENT ON COLUMN crm_bi.otif.in_full IS 'yes: at least 99 % of the tonnes arrived';
COMMENT ON COLUMN crm_bi.otif.otif IS '1: on time and in full';
COMMENT ON COLUMN crm_bi.otif.claims IS 'Claims for these trips at unloading';
COMMENT ON COLUMN crm_bi.otif.trip_ids IS 'crm.trip.id of each, separated by commas';
COMMENT ON COLUMN crm_bi.otif.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.otif', 'On time, in full', 'Вовремя и полностью', 'one order whose window is over', 'один заказ, окно которого прошло', 'crm_bi.arrival by trip_ids');
