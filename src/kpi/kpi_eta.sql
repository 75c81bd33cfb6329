-- How good expected arrivals are.

CREATE OR REPLACE VIEW crm_bi.eta_accuracy WITH (security_invoker = true) AS
	SELECT t.origin_place_id AS origin_id,
		f.name::varchar(500) AS origin,
		t.destination_place_id AS destination_id,
		p.name::varchar(500) AS destination,
		s.mark_minutes,
		count(*) AS trips,
		avg(s.distance_m / 1000)::numeric(10,1) AS mean_distance_km,
		(percentile_cont(0.5) WITHIN GROUP (ORDER BY abs(extract(epoch FROM t.arrived_at - s.eta))::double precision) / 60)::numeric(10,1) AS median_error_minutes,
		(percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM t.arrived_at - s.eta)::double precision) / 60)::numeric(10,1) AS median_late_minutes,
		avg((t.arrived_at BETWEEN s.eta_from AND s.eta_to)::integer)::numeric(6,3) AS within_interval,
		avg(s.history)::numeric(10,1) AS mean_history,
		(max(t.arrived_at) AT TIME ZONE crm.kpi_zone())::timestamp(0) AS last_arrived_at,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.eta_said s
	JOIN crm.trip t ON t.id = s.trip_id AND t.arrived_at IS NOT NULL
	LEFT JOIN crm.place f ON f.id = t.origin_place_id
	LEFT JOIN crm.place p ON p.id = t.destination_place_id
	GROUP BY t.origin_place_id, f.name, t.destination_place_id, p.name, s.mark_minutes;
COMMENT ON VIEW crm_bi.eta_accuracy IS 'How far expected arrivals were off so far, by leg and by the minutes that were left by the expectation itself; live.';
COMMENT ON COLUMN crm_bi.eta_accuracy.origin_id IS 'crm.place.id of the plant';
COMMENT ON COLUMN crm_bi.eta_accuracy.origin IS 'Its name';
COMMENT ON COLUMN crm_bi.eta_accuracy.destination_id IS 'crm.place.id of the place of unloading';
COMMENT ON COLUMN crm_bi.eta_accuracy.destination IS 'Its name';
COMMENT ON COLUMN crm_bi.eta_accuracy.mark_minutes IS 'What was said with no more than so many minutes left: 60, 30, 15, 5';
COMMENT ON COLUMN crm_bi.eta_accuracy.trips IS 'Trips that arrived and of which it was said';
COMMENT ON COLUMN crm_bi.eta_accuracy.mean_distance_km IS 'Mean straight line to the destination when it was said, km';
COMMENT ON COLUMN crm_bi.eta_accuracy.median_error_minutes IS 'Median of the difference between expectation and arrival, either way, minutes';
COMMENT ON COLUMN crm_bi.eta_accuracy.median_late_minutes IS 'Median of arrival less expectation, minutes: above 0 it was said too early';
COMMENT ON COLUMN crm_bi.eta_accuracy.within_interval IS 'Share of arrivals within the interval that was said, 0 to 1; it should be near 0.8';
COMMENT ON COLUMN crm_bi.eta_accuracy.mean_history IS 'From how many finished trips of the leg it was drawn, on the average';
COMMENT ON COLUMN crm_bi.eta_accuracy.last_arrived_at IS 'The last arrival counted, plant''s zone';
COMMENT ON COLUMN crm_bi.eta_accuracy.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.eta_accuracy', 'Accuracy of expected arrivals', 'Точность прогноза прибытия', 'one leg and mark', 'одно плечо и отметка', NULL);
