-- shipping: what the pages look up.

-- the street monitor asks each five seconds for the newest check-in of its place
CREATE INDEX checkin_known ON crm.checkin (place_id, known_at);
