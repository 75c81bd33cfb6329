-- kpi: views of crm_bi about deliveries by rail. Code: may be run again.
-- Types that ODBC carries well, as in kpi_views.sql.

CREATE OR REPLACE VIEW crm_bi.waybill WITH (security_invoker = true) AS
	SELECT w.id AS waybill_id,
		w.number::varchar(40) AS waybill_number,
		w.phase::varchar(20) AS phase,
		w.state::varchar(200) AS state,
		c.id AS client_id,
		c.name::varchar(500) AS client,
		w.consignee_name::varchar(500) AS consignee,
		w.sender_name::varchar(500) AS sender,
		o.id AS order_id,
		o.number::varchar(100) AS order_number,
		w.claim_number::varchar(60) AS claim_number,
		w.from_station::varchar(20) AS from_code,
		f.name::varchar(200) AS from_station,
		w.to_station::varchar(20) AS to_code,
		t.name::varchar(200) AS to_station,
		w.cargo_name::varchar(500) AS cargo,
		(w.weight_kg / 1000)::numeric(14,3) AS weight_t,
		w.wagon_count,
		(SELECT count(*) FROM crm.waybill_wagon x WHERE x.waybill_id = w.id AND x.removed_at IS NULL AND x.arrived_at IS NOT NULL)::integer AS wagons_arrived,
		(w.accepted_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS accepted_at,
		(w.departed_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS departed_at,
		(w.expires_at AT TIME ZONE 'Europe/Moscow')::date AS due_on,
		(coalesce(w.arrived_at, a.arrived_at) AT TIME ZONE crm.kpi_zone())::timestamp(0) AS arrived_at,
		(w.notified_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS notified_at,
		(w.delivered_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS delivered_at,
		CASE WHEN w.expires_at IS NOT NULL AND w.phase <> 'dead' THEN
			greatest(0, (coalesce(w.arrived_at, a.arrived_at, crm.now()) AT TIME ZONE 'Europe/Moscow')::date - (w.expires_at AT TIME ZONE 'Europe/Moscow')::date) END AS days_late,
		(w.changed_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS changed_at,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.waybill w
	LEFT JOIN crm.company c ON c.id = w.company_id
	LEFT JOIN crm.customer_order o ON o.id = w.order_id
	LEFT JOIN crm.station f ON f.code = w.from_station
	LEFT JOIN crm.station t ON t.code = w.to_station
	LEFT JOIN LATERAL (SELECT max(y.arrived_at) AS arrived_at FROM crm.waybill_arrival y WHERE y.waybill_id = w.id) a ON true;
COMMENT ON VIEW crm_bi.waybill IS 'Railway waybills as ETRAN and reports about wagons last said; live. Its wagons: crm.waybill_wagons(waybill_id).';
COMMENT ON COLUMN crm_bi.waybill.waybill_id IS 'crm.waybill.id';
COMMENT ON COLUMN crm_bi.waybill.waybill_number IS 'Number of the waybill; used again over the years';
COMMENT ON COLUMN crm_bi.waybill.phase IS 'draft, presented, accepted, moving, arrived, notified, delivered, reverted, dead, unknown';
COMMENT ON COLUMN crm_bi.waybill.state IS 'State in the railway''s words';
COMMENT ON COLUMN crm_bi.waybill.client_id IS 'The client (crm.company.id); NULL: nobody we know';
COMMENT ON COLUMN crm_bi.waybill.client IS 'Its name';
COMMENT ON COLUMN crm_bi.waybill.consignee IS 'Consignee as the waybill says';
COMMENT ON COLUMN crm_bi.waybill.sender IS 'Sender as the waybill says';
COMMENT ON COLUMN crm_bi.waybill.order_id IS 'crm.customer_order.id; NULL: none found';
COMMENT ON COLUMN crm_bi.waybill.order_number IS 'Number of the order';
COMMENT ON COLUMN crm_bi.waybill.claim_number IS 'Number of the claim GU-12';
COMMENT ON COLUMN crm_bi.waybill.from_code IS 'Station of departure, code';
COMMENT ON COLUMN crm_bi.waybill.from_station IS 'Station of departure, name';
COMMENT ON COLUMN crm_bi.waybill.to_code IS 'Station of destination, code';
COMMENT ON COLUMN crm_bi.waybill.to_station IS 'Station of destination, name';
COMMENT ON COLUMN crm_bi.waybill.cargo IS 'Cargo';
COMMENT ON COLUMN crm_bi.waybill.weight_t IS 'Weight of the cargo, tonnes';
COMMENT ON COLUMN crm_bi.waybill.wagon_count IS 'Wagons on the waybill';
COMMENT ON COLUMN crm_bi.waybill.wagons_arrived IS 'Those of them that arrived';
COMMENT ON COLUMN crm_bi.waybill.accepted_at IS 'Accepted for carriage, plant''s zone';
COMMENT ON COLUMN crm_bi.waybill.departed_at IS 'Departed, plant''s zone';
COMMENT ON COLUMN crm_bi.waybill.due_on IS 'Last day of the delivery term, Moscow';
COMMENT ON COLUMN crm_bi.waybill.arrived_at IS 'Arrived, by the waybill, else by reports about its last wagons; plant''s zone';
COMMENT ON COLUMN crm_bi.waybill.notified_at IS 'Consignee notified, plant''s zone';
COMMENT ON COLUMN crm_bi.waybill.delivered_at IS 'Handed over, plant''s zone';
COMMENT ON COLUMN crm_bi.waybill.days_late IS 'Days of arrival (or of today) after the last day of the term, Moscow dates; NULL: no term';
COMMENT ON COLUMN crm_bi.waybill.changed_at IS 'When what is known of it last changed, plant''s zone';
COMMENT ON COLUMN crm_bi.waybill.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.waybill', 'Railway waybills', 'Железнодорожные накладные', 'one waybill', 'одна накладная', 'crm.waybill_wagons(waybill_id)');

CREATE OR REPLACE VIEW crm_bi.wagon_now WITH (security_invoker = true) AS
	SELECT g.id AS wagon_id,
		g.number::varchar(20) AS wagon,
		n.phase::varchar(20) AS phase,
		CASE WHEN n.loaded THEN 'loaded' WHEN NOT n.loaded THEN 'empty' END::varchar(10) AS loaded,
		(n.at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS operation_at,
		n.operation::varchar(10) AS operation,
		(SELECT p.name FROM crm.wagon_operation p WHERE p.code = n.operation ORDER BY p.shipped LIMIT 1)::varchar(200) AS operation_name,
		n.station::varchar(20) AS station_code,
		s.name::varchar(200) AS station,
		n.destination::varchar(20) AS destination_code,
		d.name::varchar(200) AS destination,
		n.distance_left_km,
		n.idle_minutes,
		(n.weight_kg / 1000)::numeric(14,3) AS weight_t,
		n.waybill_id,
		n.waybill_number::varchar(40) AS waybill_number,
		w.company_id AS client_id,
		c.name::varchar(500) AS client,
		n.due_on,
		(n.arrived_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS arrived_at,
		n.source::varchar(200) AS source,
		(n.seen_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to,
		(n.gone_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS gone_at
	FROM crm.wagon_now n
	JOIN crm.wagon g ON g.id = n.wagon_id
	LEFT JOIN crm.station s ON s.code = n.station
	LEFT JOIN crm.station d ON d.code = n.destination
	LEFT JOIN crm.waybill w ON w.id = n.waybill_id
	LEFT JOIN crm.company c ON c.id = w.company_id;
COMMENT ON VIEW crm_bi.wagon_now IS 'Where each wagon was last, by reports about wagons; as fresh as the report (fresh_to). The way there: crm.wagon_location.';
COMMENT ON COLUMN crm_bi.wagon_now.wagon_id IS 'crm.wagon.id';
COMMENT ON COLUMN crm_bi.wagon_now.wagon IS 'Number of the wagon';
COMMENT ON COLUMN crm_bi.wagon_now.phase IS 'loading, moving, standing, abandoned, arriving, arrived, unloaded, empty, broken, gone';
COMMENT ON COLUMN crm_bi.wagon_now.loaded IS 'loaded or empty; NULL: not said';
COMMENT ON COLUMN crm_bi.wagon_now.operation_at IS 'When the last operation was, plant''s zone';
COMMENT ON COLUMN crm_bi.wagon_now.operation IS 'Its code';
COMMENT ON COLUMN crm_bi.wagon_now.operation_name IS 'Its name; NULL: not known';
COMMENT ON COLUMN crm_bi.wagon_now.station_code IS 'Where it was, code of the station';
COMMENT ON COLUMN crm_bi.wagon_now.station IS 'Where it was, name; NULL: the station is not in crm.station';
COMMENT ON COLUMN crm_bi.wagon_now.destination_code IS 'Station of destination, code';
COMMENT ON COLUMN crm_bi.wagon_now.destination IS 'Station of destination, name';
COMMENT ON COLUMN crm_bi.wagon_now.distance_left_km IS 'Distance left, km';
COMMENT ON COLUMN crm_bi.wagon_now.idle_minutes IS 'Standing since the operation, minutes, as the report said';
COMMENT ON COLUMN crm_bi.wagon_now.weight_t IS 'Weight of the cargo, tonnes';
COMMENT ON COLUMN crm_bi.wagon_now.waybill_id IS 'crm.waybill.id; NULL: none known';
COMMENT ON COLUMN crm_bi.wagon_now.waybill_number IS 'Number of its waybill';
COMMENT ON COLUMN crm_bi.wagon_now.client_id IS 'The waybill''s client (crm.company.id); NULL: nobody we know';
COMMENT ON COLUMN crm_bi.wagon_now.client IS 'Its name';
COMMENT ON COLUMN crm_bi.wagon_now.due_on IS 'Day of delivery by the contract of carriage';
COMMENT ON COLUMN crm_bi.wagon_now.arrived_at IS 'Arrival at the destination, plant''s zone';
COMMENT ON COLUMN crm_bi.wagon_now.source IS 'Which stream of reports it was last in';
COMMENT ON COLUMN crm_bi.wagon_now.fresh_to IS 'Time of the newest report that had it, plant''s zone';
COMMENT ON COLUMN crm_bi.wagon_now.gone_at IS 'Time of the first whole report without it, plant''s zone; NULL: it is there';
SELECT crm.register_bi_view('crm_bi.wagon_now', 'Where wagons are', 'Дислокация вагонов', 'one wagon', 'один вагон', 'crm.wagon_location by wagon_id');
