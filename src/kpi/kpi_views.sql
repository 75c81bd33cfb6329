-- kpi: the views of crm_bi that are written by hand. Code: may be run again.
-- Types that ODBC carries well: bigint, integer, date, varchar(n), numeric(p,s), timestamp in the plant's zone.
CREATE OR REPLACE VIEW crm_bi.shipment WITH (security_invoker = true) AS
	SELECT s.id AS shipment_id,
		(s.weighed_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS weighed_at,
		(s.weighed_at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		c.id AS client_id,
		c.name::varchar(500) AS client,
		(CASE WHEN c.is_client THEN 'client' ELSE 'own' END)::varchar(10) AS client_kind,
		coalesce(r.employee_id, c.owner_id) AS employee_id,
		e.name::varchar(500) AS employee,
		o.id AS order_id,
		o.number::varchar(100) AS order_number,
		s.product::varchar(500) AS product,
		s.waybill::varchar(200) AS waybill,
		v.plate::varchar(40) AS vehicle,
		w.number::varchar(8) AS wagon,
		p.name::varchar(500) AS place,
		s.trip_id AS trip_id,
		(s.gross_kg / 1000)::numeric(14,3) AS gross_t,
		(s.tare_kg / 1000)::numeric(14,3) AS tare_t,
		(s.net_kg / 1000)::numeric(14,3) AS net_t,
		o.price::numeric(16,4) AS price,
		(o.price * s.net_kg / 1000)::numeric(18,2) AS amount,
		s.source::varchar(100) AS source,
		s.source_id::varchar(200) AS source_id,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.shipment s
	JOIN crm.customer_order o ON o.id = s.order_id
	JOIN crm.company c ON c.id = o.company_id
	LEFT JOIN crm.responsibility r ON r.company_id = c.id AND r.during @> s.weighed_at
	LEFT JOIN crm.employee e ON e.id = coalesce(r.employee_id, c.owner_id)
	LEFT JOIN crm.vehicle v ON v.id = s.vehicle_id
	LEFT JOIN crm.wagon w ON w.id = s.wagon_id
	LEFT JOIN crm.place p ON p.id = o.place_id
	WHERE s.net_kg IS NOT NULL AND s.cancelled_at IS NULL;
COMMENT ON VIEW crm_bi.shipment IS 'Loads by the weighbridge, a row a weighing that was not cancelled; live. Sums of net_t equal the indicator ship_t but for the plant''s own consumption (client_kind own).';
COMMENT ON COLUMN crm_bi.shipment.shipment_id IS 'crm.shipment.id';
COMMENT ON COLUMN crm_bi.shipment.weighed_at IS 'When the gross was weighed, plant''s zone';
COMMENT ON COLUMN crm_bi.shipment.business_date IS 'Day in the plant''s zone';
COMMENT ON COLUMN crm_bi.shipment.client_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm_bi.shipment.client IS 'Its name';
COMMENT ON COLUMN crm_bi.shipment.client_kind IS 'client; own: the plant''s own consumption';
COMMENT ON COLUMN crm_bi.shipment.employee_id IS 'Who was responsible for the client then (crm.employee.id); NULL: nobody';
COMMENT ON COLUMN crm_bi.shipment.employee IS 'Name';
COMMENT ON COLUMN crm_bi.shipment.order_id IS 'crm.customer_order.id';
COMMENT ON COLUMN crm_bi.shipment.order_number IS 'Number of the order';
COMMENT ON COLUMN crm_bi.shipment.product IS 'Product';
COMMENT ON COLUMN crm_bi.shipment.waybill IS 'Waybill';
COMMENT ON COLUMN crm_bi.shipment.vehicle IS 'Plate; NULL: by rail';
COMMENT ON COLUMN crm_bi.shipment.wagon IS 'Number of the wagon; NULL: by road';
COMMENT ON COLUMN crm_bi.shipment.place IS 'Place of unloading; NULL: the client fetches it';
COMMENT ON COLUMN crm_bi.shipment.trip_id IS 'crm.trip.id that carried it';
COMMENT ON COLUMN crm_bi.shipment.gross_t IS 'Gross, tonnes';
COMMENT ON COLUMN crm_bi.shipment.tare_t IS 'Tare, tonnes';
COMMENT ON COLUMN crm_bi.shipment.net_t IS 'Net, tonnes';
COMMENT ON COLUMN crm_bi.shipment.price IS 'Price of a tonne in the order, roubles';
COMMENT ON COLUMN crm_bi.shipment.amount IS 'Net by the order''s price, roubles; not the ERP''s invoice';
COMMENT ON COLUMN crm_bi.shipment.source IS 'Where the row comes from';
COMMENT ON COLUMN crm_bi.shipment.source_id IS 'Id there';
COMMENT ON COLUMN crm_bi.shipment.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.shipment', 'Shipments', 'Отгрузки', 'one weighed load', 'одна взвешенная отгрузка', NULL);

CREATE OR REPLACE VIEW crm_bi.trip WITH (security_invoker = true) AS
	SELECT t.id AS trip_id,
		t.state::varchar(20) AS state,
		(t.loaded_at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		v.plate::varchar(40) AS vehicle,
		k.id AS carrier_id,
		k.name::varchar(500) AS carrier,
		c.id AS client_id,
		c.name::varchar(500) AS client,
		coalesce(r.employee_id, c.owner_id) AS employee_id,
		e.name::varchar(500) AS employee,
		f.name::varchar(500) AS origin,
		p.name::varchar(500) AS destination,
		o.numbers::varchar(1000) AS orders,
		(s.net_kg / 1000)::numeric(14,3) AS net_t,
		(o.window_from AT TIME ZONE crm.kpi_zone())::timestamp(0) AS window_from,
		(o.window_to AT TIME ZONE crm.kpi_zone())::timestamp(0) AS window_to,
		(t.loaded_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS loaded_at,
		(t.departed_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS departed_at,
		t.departed_error_s::numeric(10,1) AS departed_error_s,
		(t.approaching_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS approaching_at,
		(t.arrived_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS arrived_at,
		t.arrived_error_s::numeric(10,1) AS arrived_error_s,
		(t.unloaded_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS unloaded_at,
		(extract(epoch FROM t.arrived_at - t.departed_at) / 60)::numeric(12,1) AS way_minutes,
		(extract(epoch FROM t.unloaded_at - t.arrived_at) / 60)::numeric(12,1) AS unloading_minutes,
		(greatest(extract(epoch FROM t.arrived_at - o.window_to), 0) / 60)::numeric(12,1) AS late_minutes,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.trip t
	JOIN crm.vehicle v ON v.id = t.vehicle_id
	LEFT JOIN crm.company k ON k.id = v.carrier_id
	LEFT JOIN crm.company c ON c.id = t.company_id
	LEFT JOIN crm.responsibility r ON r.company_id = c.id AND r.during @> t.loaded_at
	LEFT JOIN crm.employee e ON e.id = coalesce(r.employee_id, c.owner_id)
	LEFT JOIN crm.place f ON f.id = t.origin_place_id
	LEFT JOIN crm.place p ON p.id = t.destination_place_id
	LEFT JOIN LATERAL (SELECT min(o.window_from) AS window_from, min(o.window_to) AS window_to, string_agg(o.number, ', ' ORDER BY o.number) AS numbers
		FROM crm.trip_order x JOIN crm.customer_order o ON o.id = x.order_id WHERE x.trip_id = t.id) o ON true
	LEFT JOIN LATERAL (SELECT sum(s.net_kg) AS net_kg FROM crm.shipment s WHERE s.trip_id = t.id AND s.cancelled_at IS NULL) s ON true;
COMMENT ON VIEW crm_bi.trip IS 'Trips of vehicles with a load to one place; live. Times are crossings of borders, interpolated, with a bound of their error.';
COMMENT ON COLUMN crm_bi.trip.trip_id IS 'crm.trip.id';
COMMENT ON COLUMN crm_bi.trip.state IS 'planned, loading, departed, approaching, arrived, unloaded, cancelled';
COMMENT ON COLUMN crm_bi.trip.business_date IS 'Day of loading in the plant''s zone';
COMMENT ON COLUMN crm_bi.trip.vehicle IS 'Plate';
COMMENT ON COLUMN crm_bi.trip.carrier_id IS 'The carrier (crm.company.id)';
COMMENT ON COLUMN crm_bi.trip.carrier IS 'Its name';
COMMENT ON COLUMN crm_bi.trip.client_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm_bi.trip.client IS 'Its name';
COMMENT ON COLUMN crm_bi.trip.employee_id IS 'Who was responsible for the client at loading (crm.employee.id)';
COMMENT ON COLUMN crm_bi.trip.employee IS 'Name';
COMMENT ON COLUMN crm_bi.trip.origin IS 'Plant';
COMMENT ON COLUMN crm_bi.trip.destination IS 'Place of unloading';
COMMENT ON COLUMN crm_bi.trip.orders IS 'Numbers of the orders that it carries';
COMMENT ON COLUMN crm_bi.trip.net_t IS 'Load, tonnes';
COMMENT ON COLUMN crm_bi.trip.window_from IS 'Start of the window of unloading, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.window_to IS 'End of the window of unloading, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.loaded_at IS 'The last weighing with a load, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.departed_at IS 'When it left the plant, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.departed_error_s IS 'Bound of the error of departed_at, seconds';
COMMENT ON COLUMN crm_bi.trip.approaching_at IS 'When it came near, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.arrived_at IS 'When it arrived, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.arrived_error_s IS 'Bound of the error of arrived_at, seconds';
COMMENT ON COLUMN crm_bi.trip.unloaded_at IS 'When it left the place of unloading, plant''s zone';
COMMENT ON COLUMN crm_bi.trip.way_minutes IS 'From departure to arrival, minutes';
COMMENT ON COLUMN crm_bi.trip.unloading_minutes IS 'From arrival to leaving again, minutes';
COMMENT ON COLUMN crm_bi.trip.late_minutes IS 'Arrival after the end of the window, minutes; 0: in time; NULL: no window, or not arrived';
COMMENT ON COLUMN crm_bi.trip.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.trip', 'Trips', 'Рейсы', 'one trip of a vehicle to one place', 'один рейс машины к одному месту', NULL);

CREATE OR REPLACE VIEW crm_bi.trip_eta WITH (security_invoker = true) AS
	SELECT t.id AS trip_id,
		t.state::varchar(20) AS state,
		(t.loaded_at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		v.plate::varchar(40) AS vehicle,
		k.id AS carrier_id,
		k.name::varchar(500) AS carrier,
		c.id AS client_id,
		c.name::varchar(500) AS client,
		coalesce(r.employee_id, c.owner_id) AS employee_id,
		e.name::varchar(500) AS employee,
		f.name::varchar(500) AS origin,
		p.name::varchar(500) AS destination,
		o.numbers::varchar(1000) AS orders,
		(s.net_kg / 1000)::numeric(14,3) AS net_t,
		(o.window_from AT TIME ZONE crm.kpi_zone())::timestamp(0) AS window_from,
		(o.window_to AT TIME ZONE crm.kpi_zone())::timestamp(0) AS window_to,
		(t.departed_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS departed_at,
		(t.eta AT TIME ZONE crm.kpi_zone())::timestamp(0) AS eta,
		(t.eta_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS eta_at,
		(greatest(extract(epoch FROM t.eta - crm.now()), 0) / 60)::numeric(12,1) AS minutes_left,
		(greatest(extract(epoch FROM t.eta - o.window_to), 0) / 60)::numeric(12,1) AS late_minutes,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.trip t
	JOIN crm.vehicle v ON v.id = t.vehicle_id
	LEFT JOIN crm.company k ON k.id = v.carrier_id
	LEFT JOIN crm.company c ON c.id = t.company_id
	LEFT JOIN crm.responsibility r ON r.company_id = c.id AND r.during @> t.loaded_at
	LEFT JOIN crm.employee e ON e.id = coalesce(r.employee_id, c.owner_id)
	LEFT JOIN crm.place f ON f.id = t.origin_place_id
	LEFT JOIN crm.place p ON p.id = t.destination_place_id
	LEFT JOIN LATERAL (SELECT min(o.window_from) AS window_from, min(o.window_to) AS window_to, string_agg(o.number, ', ' ORDER BY o.number) AS numbers
		FROM crm.trip_order x JOIN crm.customer_order o ON o.id = x.order_id WHERE x.trip_id = t.id) o ON true
	LEFT JOIN LATERAL (SELECT sum(s.net_kg) AS net_kg FROM crm.shipment s WHERE s.trip_id = t.id AND s.cancelled_at IS NULL) s ON true
	WHERE t.state IN ('departed', 'approaching');
COMMENT ON VIEW crm_bi.trip_eta IS 'Vehicles on their way, with the arrival expected now; live.';
COMMENT ON COLUMN crm_bi.trip_eta.trip_id IS 'crm.trip.id';
COMMENT ON COLUMN crm_bi.trip_eta.state IS 'planned, loading, departed, approaching, arrived, unloaded, cancelled';
COMMENT ON COLUMN crm_bi.trip_eta.business_date IS 'Day of loading in the plant''s zone';
COMMENT ON COLUMN crm_bi.trip_eta.vehicle IS 'Plate';
COMMENT ON COLUMN crm_bi.trip_eta.carrier_id IS 'The carrier (crm.company.id)';
COMMENT ON COLUMN crm_bi.trip_eta.carrier IS 'Its name';
COMMENT ON COLUMN crm_bi.trip_eta.client_id IS 'The client (crm.company.id)';
COMMENT ON COLUMN crm_bi.trip_eta.client IS 'Its name';
COMMENT ON COLUMN crm_bi.trip_eta.employee_id IS 'Who was responsible for the client at loading (crm.employee.id)';
COMMENT ON COLUMN crm_bi.trip_eta.employee IS 'Name';
COMMENT ON COLUMN crm_bi.trip_eta.origin IS 'Plant';
COMMENT ON COLUMN crm_bi.trip_eta.destination IS 'Place of unloading';
COMMENT ON COLUMN crm_bi.trip_eta.orders IS 'Numbers of the orders that it carries';
COMMENT ON COLUMN crm_bi.trip_eta.net_t IS 'Load, tonnes';
COMMENT ON COLUMN crm_bi.trip_eta.window_from IS 'Start of the window of unloading, plant''s zone';
COMMENT ON COLUMN crm_bi.trip_eta.window_to IS 'End of the window of unloading, plant''s zone';
COMMENT ON COLUMN crm_bi.trip_eta.departed_at IS 'When it left the plant, plant''s zone';
COMMENT ON COLUMN crm_bi.trip_eta.eta IS 'Expected arrival, plant''s zone';
COMMENT ON COLUMN crm_bi.trip_eta.eta_at IS 'The fix from which it was reckoned, plant''s zone';
COMMENT ON COLUMN crm_bi.trip_eta.minutes_left IS 'From now to the expected arrival, minutes';
COMMENT ON COLUMN crm_bi.trip_eta.late_minutes IS 'Expected arrival after the end of the window, minutes; NULL: no window';
COMMENT ON COLUMN crm_bi.trip_eta.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.trip_eta', 'Vehicles on their way', 'Машины в пути', 'one trip that is under way', 'один рейс в пути', NULL);

CREATE OR REPLACE VIEW crm_bi.message WITH (security_invoker = true) AS
	SELECT m.id AS message_id,
		(m.queued_at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		m.state::varchar(20) AS state,
		m.channel::varchar(31) AS channel,
		m.language::varchar(2) AS language,
		m.rule::varchar(63) AS rule,
		m.company_id AS client_id,
		c.name::varchar(500) AS client,
		m.contact_id AS contact_id,
		p.name::varchar(500) AS contact,
		m.event_id AS event_id,
		m.object_kind::varchar(40) AS object_kind,
		m.object_id AS object_id,
		m.segments AS segments,
		m.attempts AS attempts,
		(m.queued_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS queued_at,
		(m.sent_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS sent_at,
		(m.delivered_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS delivered_at,
		m.last_error::varchar(500) AS last_error,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.message m
	LEFT JOIN crm.company c ON c.id = m.company_id
	LEFT JOIN crm.contact p ON p.id = m.contact_id;
COMMENT ON VIEW crm_bi.message IS 'Messages and what became of them, without their texts and addresses; live.';
COMMENT ON COLUMN crm_bi.message.message_id IS 'crm.message.id';
COMMENT ON COLUMN crm_bi.message.business_date IS 'Day on which it was queued, plant''s zone';
COMMENT ON COLUMN crm_bi.message.state IS 'queued, sending, sent, delivered, undelivered, failed, expired, cancelled, uncertain';
COMMENT ON COLUMN crm_bi.message.channel IS 'sms, email, telegram';
COMMENT ON COLUMN crm_bi.message.language IS 'Language of the text';
COMMENT ON COLUMN crm_bi.message.rule IS 'Rule that queued it; NULL: by hand';
COMMENT ON COLUMN crm_bi.message.client_id IS 'Company of the reader (crm.company.id)';
COMMENT ON COLUMN crm_bi.message.client IS 'Its name';
COMMENT ON COLUMN crm_bi.message.contact_id IS 'Reader (crm.contact.id)';
COMMENT ON COLUMN crm_bi.message.contact IS 'The reader''s name';
COMMENT ON COLUMN crm_bi.message.event_id IS 'Event that it announces (crm.event.id)';
COMMENT ON COLUMN crm_bi.message.object_kind IS 'What the event happened to';
COMMENT ON COLUMN crm_bi.message.object_id IS 'id of what the event happened to';
COMMENT ON COLUMN crm_bi.message.segments IS 'For sms: parts that the provider bills';
COMMENT ON COLUMN crm_bi.message.attempts IS 'Tries to send it';
COMMENT ON COLUMN crm_bi.message.queued_at IS 'When it was queued, plant''s zone';
COMMENT ON COLUMN crm_bi.message.sent_at IS 'When the provider took it, plant''s zone';
COMMENT ON COLUMN crm_bi.message.delivered_at IS 'When it was delivered, plant''s zone';
COMMENT ON COLUMN crm_bi.message.last_error IS 'The provider''s words, or ours';
COMMENT ON COLUMN crm_bi.message.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.message', 'Messages', 'Сообщения', 'one message to one reader', 'одно сообщение одному читателю', NULL);

CREATE OR REPLACE VIEW crm_bi.egress WITH (security_invoker = true) AS
	SELECT (e.at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		(e.at AT TIME ZONE crm.kpi_zone())::timestamp(3) AS at,
		e.what::varchar(10) AS what,
		e.integration::varchar(63) AS integration,
		e.host::varchar(255) AS host,
		e.channel::varchar(31) AS channel,
		e.message_id,
		e.contact_id,
		e.company_id AS client_id,
		e.requests,
		e.bytes,
		e.outcome::varchar(20) AS outcome,
		CASE WHEN e.sandbox THEN 'yes' ELSE 'no' END::varchar(3) AS sandbox,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(3) AS fresh_to
	FROM crm.fact_egress e;
COMMENT ON VIEW crm_bi.egress IS 'What left, when, to whom, how many bytes, about which persons: each try of a message, all other requests summed by hour; live.';
COMMENT ON COLUMN crm_bi.egress.business_date IS 'Its day, plant''s zone';
COMMENT ON COLUMN crm_bi.egress.at IS 'When the try was settled, of a sum the start of its hour; plant''s zone';
COMMENT ON COLUMN crm_bi.egress.what IS 'message: one try of one message; poll: the sum of an hour''s other requests';
COMMENT ON COLUMN crm_bi.egress.integration IS 'Name of the integration';
COMMENT ON COLUMN crm_bi.egress.host IS 'Host that was spoken to';
COMMENT ON COLUMN crm_bi.egress.channel IS 'sms, email, telegram; NULL for polls';
COMMENT ON COLUMN crm_bi.egress.message_id IS 'crm.message.id; NULL for polls';
COMMENT ON COLUMN crm_bi.egress.contact_id IS 'Person it concerned (crm.contact.id); NULL: an address given by hand, or a poll';
COMMENT ON COLUMN crm_bi.egress.client_id IS 'Their company (crm.company.id)';
COMMENT ON COLUMN crm_bi.egress.requests IS 'Requests';
COMMENT ON COLUMN crm_bi.egress.bytes IS 'Octets of texts and files, of polls of address, headers and body; without what the protocol adds';
COMMENT ON COLUMN crm_bi.egress.outcome IS 'sent, failed (refused), throttled, retry, uncertain (left, no answer); NULL for polls';
COMMENT ON COLUMN crm_bi.egress.sandbox IS 'yes: it went to a test recipient';
COMMENT ON COLUMN crm_bi.egress.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.egress', 'What left', 'Что ушло наружу', 'one try of a message, or an hour of other requests', 'одна попытка сообщения или час прочих запросов', NULL);

CREATE OR REPLACE VIEW crm.fact_trip_fix AS
	SELECT e.id, e.kind, e.object_id, e.known_at, coalesce(nullif(e.data ->> 'fix_at', '')::timestamptz, e.at) AS fix_at
	FROM crm.event e WHERE e.object_kind = 'trip';
COMMENT ON VIEW crm.fact_trip_fix IS 'Events of trips with the time of the fix that proved them, and nothing else of their data: a reader of reports sees no text and no address. Runs as its owner.';
COMMENT ON COLUMN crm.fact_trip_fix.id IS 'crm.event.id';
COMMENT ON COLUMN crm.fact_trip_fix.kind IS 'crm.event.kind';
COMMENT ON COLUMN crm.fact_trip_fix.object_id IS 'crm.trip.id';
COMMENT ON COLUMN crm.fact_trip_fix.known_at IS 'When the event became known, business clock';
COMMENT ON COLUMN crm.fact_trip_fix.fix_at IS 'Time of the newest fix of the vehicle when the event was written; where there is none, the time of the event';

CREATE OR REPLACE VIEW crm_bi.notice_latency WITH (security_invoker = true) AS
	SELECT b.id AS message_id,
		(b.queued_at AT TIME ZONE crm.kpi_zone())::date AS business_date,
		e.kind::varchar(63) AS event_kind,
		e.object_id AS trip_id,
		b.channel::varchar(31) AS channel,
		u.code::varchar(63) AS rule,
		(e.fix_at AT TIME ZONE crm.kpi_zone())::timestamp(3) AS fix_at,
		(e.known_at AT TIME ZONE crm.kpi_zone())::timestamp(3) AS known_at,
		(b.queued_at AT TIME ZONE crm.kpi_zone())::timestamp(3) AS queued_at,
		(COALESCE(a.sent_at, b.sent_at) AT TIME ZONE crm.kpi_zone())::timestamp(3) AS sent_at,
		(CASE WHEN b.not_before > b.queued_at THEN 'yes' ELSE 'no' END)::varchar(3) AS held,
		extract(epoch FROM e.known_at - e.fix_at)::numeric(12,3) AS poll_s,
		extract(epoch FROM b.queued_at - e.known_at)::numeric(12,3) AS queue_s,
		extract(epoch FROM COALESCE(a.sent_at, b.sent_at) - b.queued_at)::numeric(12,3) AS send_s,
		extract(epoch FROM COALESCE(a.sent_at, b.sent_at) - e.fix_at)::numeric(12,3) AS total_s,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.message_said b
	JOIN crm.fact_trip_fix e ON e.id = b.event_id AND e.known_at = b.event_known_at
	LEFT JOIN crm.rule u ON u.id = b.rule_id
	LEFT JOIN LATERAL (SELECT min(x.at) AS sent_at FROM crm.message_attempt x WHERE x.message_id = b.id AND x.outcome = 'sent' AND x.at >= b.queued_at - interval '1 day') a ON true;
COMMENT ON VIEW crm_bi.notice_latency IS 'How long a notice about a vehicle took, from the fix that proved it to the provider; live (claim 65). In the business clock. The median and the 95th percentile: percentile_cont(0.95) WITHIN GROUP (ORDER BY total_s).';
COMMENT ON COLUMN crm_bi.notice_latency.message_id IS 'crm.message.id';
COMMENT ON COLUMN crm_bi.notice_latency.business_date IS 'Day on which it was queued, plant''s zone';
COMMENT ON COLUMN crm_bi.notice_latency.event_kind IS 'trip.departed, trip.approaching, trip.arrived, trip.unloaded';
COMMENT ON COLUMN crm_bi.notice_latency.trip_id IS 'crm.trip.id';
COMMENT ON COLUMN crm_bi.notice_latency.channel IS 'sms, email, telegram';
COMMENT ON COLUMN crm_bi.notice_latency.rule IS 'Rule that queued it';
COMMENT ON COLUMN crm_bi.notice_latency.fix_at IS 'The fix that proved the event, tracker''s clock, plant''s zone';
COMMENT ON COLUMN crm_bi.notice_latency.known_at IS 'When the database knew of the event, plant''s zone';
COMMENT ON COLUMN crm_bi.notice_latency.queued_at IS 'When the message was queued, plant''s zone';
COMMENT ON COLUMN crm_bi.notice_latency.sent_at IS 'When the provider took it, plant''s zone; NULL: not yet';
COMMENT ON COLUMN crm_bi.notice_latency.held IS 'yes: it waited for an hour, the reader''s morning or the rule''s delay';
COMMENT ON COLUMN crm_bi.notice_latency.poll_s IS 'From the fix to the database, seconds: the tracker''s and the poll''s delay';
COMMENT ON COLUMN crm_bi.notice_latency.queue_s IS 'From the event to the queue, seconds';
COMMENT ON COLUMN crm_bi.notice_latency.send_s IS 'From the queue to the provider, seconds';
COMMENT ON COLUMN crm_bi.notice_latency.total_s IS 'From the fix to the provider, seconds';
COMMENT ON COLUMN crm_bi.notice_latency.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.notice_latency', 'Latency of notices', 'Задержка уведомлений', 'one notice about a vehicle', 'одно уведомление о машине', NULL);

CREATE OR REPLACE VIEW crm_bi.dim_employee WITH (security_invoker = true) AS
	SELECT e.id AS employee_id,
		e.name::varchar(500) AS employee,
		e.team_id AS team_id,
		t.name::varchar(200) AS team,
		(CASE WHEN e.is_head THEN 'yes' ELSE 'no' END)::varchar(3) AS is_head,
		(CASE WHEN e.dismissed_at IS NULL OR e.dismissed_at > crm.now() THEN 'yes' ELSE 'no' END)::varchar(3) AS works,
		(e.dismissed_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS dismissed_at,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.employee e
	LEFT JOIN crm.team t ON t.id = e.team_id;
COMMENT ON VIEW crm_bi.dim_employee IS 'Employees: a dimension for the facts of crm_bi.';
COMMENT ON COLUMN crm_bi.dim_employee.employee_id IS 'crm.employee.id: the key';
COMMENT ON COLUMN crm_bi.dim_employee.employee IS 'Name';
COMMENT ON COLUMN crm_bi.dim_employee.team_id IS 'crm.team.id';
COMMENT ON COLUMN crm_bi.dim_employee.team IS 'Team now';
COMMENT ON COLUMN crm_bi.dim_employee.is_head IS 'yes: head of the team';
COMMENT ON COLUMN crm_bi.dim_employee.works IS 'no: has left';
COMMENT ON COLUMN crm_bi.dim_employee.dismissed_at IS 'When the person left, plant''s zone';
COMMENT ON COLUMN crm_bi.dim_employee.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.dim_employee', 'Employees', 'Сотрудники', 'one employee', 'один сотрудник', NULL);

CREATE OR REPLACE VIEW crm_bi.dim_client WITH (security_invoker = true) AS
	SELECT c.id AS client_id,
		c.name::varchar(500) AS client,
		c.full_name::varchar(1000) AS full_name,
		c.inn::varchar(12) AS inn,
		c.kpp::varchar(9) AS kpp,
		(CASE WHEN c.is_client THEN 'yes' ELSE 'no' END)::varchar(3) AS is_client,
		(CASE WHEN c.is_carrier THEN 'yes' ELSE 'no' END)::varchar(3) AS is_carrier,
		c.owner_id AS owner_id,
		e.name::varchar(500) AS owner,
		(c.created_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS since,
		(c.archived_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS archived_at,
		c.merged_into_id AS merged_into_id,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.company c
	LEFT JOIN crm.employee e ON e.id = c.owner_id;
COMMENT ON VIEW crm_bi.dim_client IS 'Clients and carriers: a dimension for the facts of crm_bi.';
COMMENT ON COLUMN crm_bi.dim_client.client_id IS 'crm.company.id: the key';
COMMENT ON COLUMN crm_bi.dim_client.client IS 'Short name';
COMMENT ON COLUMN crm_bi.dim_client.full_name IS 'Name by the register';
COMMENT ON COLUMN crm_bi.dim_client.inn IS 'Tax number';
COMMENT ON COLUMN crm_bi.dim_client.kpp IS 'Nine signs beside it';
COMMENT ON COLUMN crm_bi.dim_client.is_client IS 'yes: buys from us';
COMMENT ON COLUMN crm_bi.dim_client.is_carrier IS 'yes: drives for us';
COMMENT ON COLUMN crm_bi.dim_client.owner_id IS 'Who is responsible now (crm.employee.id)';
COMMENT ON COLUMN crm_bi.dim_client.owner IS 'Name';
COMMENT ON COLUMN crm_bi.dim_client.since IS 'When we learned of the company, plant''s zone';
COMMENT ON COLUMN crm_bi.dim_client.archived_at IS 'When it was put away, plant''s zone';
COMMENT ON COLUMN crm_bi.dim_client.merged_into_id IS 'The company that this one was found to be the same as';
COMMENT ON COLUMN crm_bi.dim_client.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.dim_client', 'Clients and carriers', 'Клиенты и перевозчики', 'one company', 'одна компания', NULL);

CREATE OR REPLACE VIEW crm_bi.dim_date WITH (security_invoker = true) AS
	SELECT g.d::date AS business_date,
		extract(year FROM g.d)::integer AS year,
		extract(quarter FROM g.d)::integer AS quarter,
		extract(month FROM g.d)::integer AS month,
		date_trunc('month', g.d)::date AS month_start,
		extract(isoyear FROM g.d)::integer AS iso_year,
		extract(week FROM g.d)::integer AS iso_week,
		extract(isodow FROM g.d)::integer AS weekday,
		(CASE WHEN coalesce(c.kind IN ('working', 'short'), extract(isodow FROM g.d) <= 5) THEN 'yes' ELSE 'no' END)::varchar(3) AS working,
		coalesce(c.kind, 'plain')::varchar(20) AS kind
	FROM (SELECT make_date(extract(year FROM crm.now())::integer - 10, 1, 1) AS first_day, make_date(extract(year FROM crm.now())::integer + 1, 12, 31) AS last_day) y
	CROSS JOIN LATERAL generate_series(y.first_day::timestamp, y.last_day::timestamp, interval '1 day') g(d)
	LEFT JOIN crm.calendar_day c ON c.country = 'ru' AND c.day = g.d::date;
COMMENT ON VIEW crm_bi.dim_date IS 'Days of the last ten years to the end of the next, with the Russian production calendar: a dimension for business_date.';
COMMENT ON COLUMN crm_bi.dim_date.business_date IS 'The day: the key';
COMMENT ON COLUMN crm_bi.dim_date.year IS 'Year';
COMMENT ON COLUMN crm_bi.dim_date.quarter IS 'Quarter, 1 to 4';
COMMENT ON COLUMN crm_bi.dim_date.month IS 'Month, 1 to 12';
COMMENT ON COLUMN crm_bi.dim_date.month_start IS 'First day of the month';
COMMENT ON COLUMN crm_bi.dim_date.iso_year IS 'Year of the ISO week';
COMMENT ON COLUMN crm_bi.dim_date.iso_week IS 'ISO week, 1 to 53';
COMMENT ON COLUMN crm_bi.dim_date.weekday IS '1 Monday to 7 Sunday';
COMMENT ON COLUMN crm_bi.dim_date.working IS 'yes: worked by the Russian production calendar';
COMMENT ON COLUMN crm_bi.dim_date.kind IS 'plain, or the calendar''s exception: day_off, working, short, non_working_paid';
SELECT crm.register_bi_view('crm_bi.dim_date', 'Days', 'Дни', 'one day', 'один день', NULL);

CREATE OR REPLACE VIEW crm_bi.catalog WITH (security_invoker = true) AS
	SELECT ('crm_bi.' || v.relname)::varchar(80) AS view_name,
		coalesce(b.label_en, i.name_en || ', ' || i.unit_en, CASE v.relname WHEN 'kpi' THEN 'Indicators by day and employee' WHEN 'kpi_rows' THEN 'Rows behind the indicators' ELSE v.relname END)::varchar(200) AS label_en,
		coalesce(b.label_ru, i.name_ru || ', ' || i.unit_ru, CASE v.relname WHEN 'kpi' THEN 'Показатели по дням и сотрудникам' WHEN 'kpi_rows' THEN 'Строки показателей' ELSE v.relname END)::varchar(200) AS label_ru,
		coalesce(b.grain_en, CASE WHEN i.code IS NOT NULL OR v.relname = 'kpi_rows' THEN 'one fact and part of an indicator' WHEN v.relname = 'kpi' THEN 'one indicator, day and employee' ELSE '' END)::varchar(300) AS grain_en,
		coalesce(b.grain_ru, CASE WHEN i.code IS NOT NULL OR v.relname = 'kpi_rows' THEN 'один факт и часть показателя' WHEN v.relname = 'kpi' THEN 'один показатель, день и сотрудник' ELSE '' END)::varchar(300) AS grain_ru,
		i.unit_en::varchar(30) AS unit_en,
		i.unit_ru::varchar(30) AS unit_ru,
		i.code::varchar(40) AS indicator,
		coalesce(b.freshness, 'live')::varchar(20) AS freshness,
		coalesce(b.drill, CASE WHEN v.relname = 'kpi' THEN 'crm_bi.kpi_rows by code, business_date and employee_id' WHEN i.code IS NOT NULL THEN 'crm.kpi_rows(''' || i.code || ''', from, to, employee)' END)::varchar(200) AS drill,
		obj_description(v.oid, 'pg_class')::varchar(2000) AS description
	FROM pg_class v
	LEFT JOIN crm.bi_view b ON b.name = 'crm_bi.' || v.relname
	LEFT JOIN (crm.compiled k JOIN crm.indicator i ON i.code = k.code) ON k.view_name = 'crm_bi.' || v.relname
	WHERE v.relnamespace = 'crm_bi'::regnamespace AND v.relkind IN ('v', 'm');
COMMENT ON VIEW crm_bi.catalog IS 'Every view of crm_bi: what one row is, in both languages, and how fresh it is (claim 44). Start here.';
COMMENT ON COLUMN crm_bi.catalog.view_name IS 'The view';
COMMENT ON COLUMN crm_bi.catalog.label_en IS 'Title in English';
COMMENT ON COLUMN crm_bi.catalog.label_ru IS 'Title in Russian';
COMMENT ON COLUMN crm_bi.catalog.grain_en IS 'What one row is, in English';
COMMENT ON COLUMN crm_bi.catalog.grain_ru IS 'What one row is, in Russian';
COMMENT ON COLUMN crm_bi.catalog.unit_en IS 'Unit of an indicator, in English';
COMMENT ON COLUMN crm_bi.catalog.unit_ru IS 'Unit of an indicator, in Russian';
COMMENT ON COLUMN crm_bi.catalog.indicator IS 'Indicator that the view was made from; NULL: none';
COMMENT ON COLUMN crm_bi.catalog.freshness IS 'live: as the reading statement sees the facts';
COMMENT ON COLUMN crm_bi.catalog.drill IS 'How a figure opens into its rows; NULL: the rows are the view';
COMMENT ON COLUMN crm_bi.catalog.description IS 'The view''s COMMENT';
SELECT crm.register_bi_view('crm_bi.catalog', 'Catalogue of views', 'Каталог представлений', 'one view of crm_bi', 'одно представление crm_bi', NULL);

