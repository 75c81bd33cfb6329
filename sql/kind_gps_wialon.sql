-- claim 67: Wialon is spoken to by two functions on bytes, proved on documented replies without a network
\set QUIET on
\set VERBOSITY terse
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/gps_wialon/'
SET timezone = 'UTC';
SET datestyle = 'ISO';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT set_config('test.folder', :'folder', true) <> '' AS folder_known;
SELECT crm.activate('live');
SELECT crm.set_now('2025-12-29 09:20:00Z', 0);
SELECT count(*) FROM crm.make_partitions('crm.vehicle_position', '2025-12-01', '2026-01-15');
INSERT INTO crm.vehicle (id, plate) VALUES (701, 'TRK 101'), (702, 'TRK-102'), (799, 'AB 799');
SELECT crm.add_integration('tracks', 'gps_wialon', 'https://hst-api.wialon.com/', '{"allow_hosts": ["hst-api.wialon.com"]}') > 0 AS added;
UPDATE crm.integration SET id = 77 WHERE name = 'tracks';
SELECT crm.set_secret('tracks', 'T+k&en');

CREATE FUNCTION pg_temp.file(name text) RETURNS bytea LANGUAGE sql AS
	$$ SELECT pg_read_binary_file(current_setting('test.folder') || name || '.json') $$;
-- what next asks, readable
CREATE FUNCTION pg_temp.ask() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' ', r.method, r.url, crm.form_value(f.form, 'svc'), crm.form_value(f.form, 'sid'), crm.form_value(f.form, 'params'), '|', r.context)
	FROM crm.gps_wialon_next(77, 5) AS r CROSS JOIN LATERAL (SELECT convert_from(r.body, 'UTF8')) AS f(form) $$;
-- a reply to the last question; then what is remembered, without clocks
CREATE FUNCTION pg_temp.answer(step text, body bytea, status integer DEFAULT 200, error text DEFAULT NULL, more jsonb DEFAULT '{}') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE crm.integration_state SET session = session || jsonb_build_object('asked', (session ->> 'taken')::integer + 1) WHERE integration_id = 77 AND session ? 'sid';
	PERFORM crm.courier_settle(1, 77, ARRAY[ROW (1, status, '', body, error, true, 20,
		jsonb_build_object('step', step) || CASE step WHEN 'login' THEN '{}' ELSE jsonb_build_object('sid', crm.session_value(77) ->> 'sid', 'from', 0) END || more)::crm.reply]);
	RETURN (SELECT format('%s failures %s%s', session - ARRAY['evts_at', 'units_at', 'base', 'asked', 'taken', 'rights'], failures, ': ' || last_error) FROM crm.integration_state WHERE integration_id = 77);
END $$;
-- half a minute later, with no question open
CREATE FUNCTION pg_temp.later() RETURNS void LANGUAGE sql AS
	$$ UPDATE crm.integration_state SET session = session - 'evts_at' || jsonb_build_object('taken', session -> 'asked', 'units_at', (session ->> 'units_at')::bigint - 30000) WHERE integration_id = 77 $$;
CREATE FUNCTION pg_temp.history() RETURNS TABLE (plate text, "window" text, problem text) LANGUAGE sql AS
	$$ SELECT coalesce(plate, name), missing_from || ' to ' || missing_to, problem FROM crm.gps_wialon_unit WHERE missing_from IS NOT NULL ORDER BY 1 $$;

\echo -- log in: everything in the body of the POST
SELECT pg_temp.ask();
SELECT pg_temp.answer('login', pg_temp.file('login'));
\echo -- subscribe and list in one batch, entry by entry
SELECT pg_temp.ask();
SELECT pg_temp.answer('units', '['::bytea || pg_temp.file('update_data_flags') || ','::bytea || pg_temp.file('search_items') || ']'::bytea);
SELECT unit, name, uid, plate, last_message_at, gone, missing_from FROM crm.gps_wialon_unit ORDER BY unit;
SELECT plate, gps_integration_id, gps_unit FROM crm.vehicle ORDER BY id;
\echo -- the past comes first, for ten seconds; then events
SELECT left(pg_temp.ask(), 120);
SELECT pg_temp.later();
\echo -- events: the old one is stored too, the one without a fix is not, a deleted unit is marked
SELECT pg_temp.ask();
SELECT pg_temp.answer('events', pg_temp.file('events'));
SELECT vehicle_id, at, lon, lat, speed_kmh, course, satellites FROM crm.vehicle_position ORDER BY at;
SELECT unit, name, gone, last_message_at FROM crm.gps_wialon_unit ORDER BY unit;
SELECT count(*) AS rejected FROM crm.rejected WHERE integration_id = 77;
\echo -- history: one unit a request, then the next; two of four came, so the span is halved
SELECT pg_temp.ask();
SELECT pg_temp.answer('history', pg_temp.file('load_interval'), more => '{"unit": "4101001", "from": 1766996399, "to": 1767000001}');
SELECT pg_temp.ask();
SELECT pg_temp.answer('history', replace(convert_from(pg_temp.file('load_interval'), 'UTF8'), '"count": 4', '"count": 2')::bytea, more => '{"unit": "4101001", "from": 1766996400, "to": 1766998200}');
SELECT pg_temp.history();
SELECT pg_temp.answer('history', pg_temp.file('load_interval_none'), more => '{"unit": "4101001", "from": 1766998200, "to": 1767000001}');
SELECT pg_temp.answer('history', '{"error": 1001}', more => '{"unit": "4101002", "from": 1766996400, "to": 1767000001}');
SELECT pg_temp.history();
SELECT what, theirs, ours, rejected FROM crm.completeness WHERE integration_id = 77;
SELECT count(*) AS positions FROM crm.vehicle_position;
\echo -- nothing missing: nothing to ask until the poll interval is over
UPDATE crm.integration_state SET session = session || jsonb_build_object('taken', session -> 'asked') WHERE integration_id = 77;
SELECT pg_temp.ask();
SELECT pg_temp.later();
SELECT pg_temp.ask();
SELECT pg_temp.answer('events', pg_temp.file('events_with_sensors'));

\echo -- hostile events: each is kept with its bytes, the good one beside them is stored
SELECT pg_temp.later();
SELECT count(*) FROM pg_temp.ask();
SELECT pg_temp.answer('events', $${"tm": 1767000040, "new": [1], "events": [
	{"i": 4101001, "t": "m", "d": {"t": "1767000031", "tp": "ud", "pos": {"y": "53,84", "x": " 27.56 ", "s": "70", "c": 1e400, "sc": 255}}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000032, "pos": [53.84, 27.56]}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000033, "pos": {"y": "north", "x": 27}}},
	{"i": 4101001, "t": "m", "d": {"t": null, "pos": {"y": 53.8, "x": 27.5}}},
	{"i": 4101001, "t": "m", "d": [1, 2]},
	{"i": 4101001, "t": "m", "d": {"t": 1767000034, "pos": {"y": 0, "x": 0}}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000035, "pos": null}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000036}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000037, "pos": {"y": 153.8, "x": 27.5}}},
	{"i": 4101001, "t": "m", "d": {"t": 1798536040, "pos": {"y": 53.8, "x": 27.5}}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000038, "tp": "us", "st": "hello", "pos": {"y": 53.8, "x": 27.5}}},
	{"i": 4101001, "t": "m", "d": {"t": 1767000039, "tp": "udp", "y": 53.85, "x": 27.57}},
	{"t": "m", "d": {"t": 1767000039, "pos": {"y": 53.8, "x": 27.5}}},
	{"i": 5550000, "t": "m", "d": {"t": 1767000039, "pos": {"y": 53.8, "x": 27.5}}},
	"text", 5, null]}$$::bytea);
SELECT at, lon, lat, speed_kmh, course, satellites FROM crm.vehicle_position WHERE at > '2025-12-29 09:20:10Z' ORDER BY at;
SELECT what, reason, convert_from(bytes, 'UTF8') FROM crm.rejected WHERE integration_id = 77 ORDER BY id;
SELECT reason, seen FROM crm.position_refused WHERE vehicle_id = 701 ORDER BY 1;
SELECT unit, name, last_message_at FROM crm.gps_wialon_unit WHERE unit IN ('4101001', '5550000') ORDER BY 1;
SELECT severity, message FROM crm.health WHERE subject = 'integration tracks' ORDER BY 2;

\echo -- half a reply: kept, one row in words, read again from history
SELECT pg_temp.later();
SELECT count(*) FROM pg_temp.ask();
SELECT pg_temp.answer('events', substr(pg_temp.file('events'), 1, 700));
SELECT what, left(reason, 45), sqlstate, length(bytes) FROM crm.rejected WHERE integration_id = 77 ORDER BY id DESC LIMIT 1;
SELECT severity, message FROM crm.health WHERE subject = 'integration tracks' AND message ~ 'fails|could not be read';
SELECT pg_temp.ask();
SELECT pg_temp.answer('units', '['::bytea || pg_temp.file('update_data_flags') || ','::bytea ||
	replace(convert_from(pg_temp.file('search_items'), 'UTF8'), '1766999988', '1767000100')::bytea || ']'::bytea);
SELECT pg_temp.history();
\echo -- shapes that are not known
SELECT pg_temp.later();
SELECT count(*) FROM pg_temp.ask();
SELECT pg_temp.answer('events', '[]');
SELECT pg_temp.answer('units', '[{"error": 0}, {"items": {}}]');
SELECT pg_temp.answer('units', '[]');
SELECT pg_temp.answer('units', '[{"error": 0}, {"items": [], "totalItemsCount": 0}]');
SELECT pg_temp.answer('events', '{"tm": 1767000101, "events": {}}');
SELECT pg_temp.answer('events', convert_to('{"tm": 1767000102, "events": [], "note": "a\u0000b"}', 'UTF8'));
SELECT pg_temp.answer('events', '\xff7b7d');
SELECT pg_temp.answer('events', NULL, status => 500);
SELECT pg_temp.answer('events', NULL, status => 0, error => 'too large: more than 16777216 bytes');
SELECT pg_temp.answer('units', NULL, status => 0, error => 'too large: more than 16777216 bytes');
SELECT what, left(reason, 60), seen FROM crm.rejected WHERE integration_id = 77 AND what LIKE 'the reply%' ORDER BY id;
SELECT pg_temp.answer('units', '[{"error": 0}, {"items": [], "totalItemsCount": 0}]');
SELECT pg_temp.answer('history', NULL, status => 0, error => 'too large: more than 16777216 bytes', more => '{"unit": "4101001", "from": 1767000000, "to": 1767000100}');
SELECT pg_temp.answer('history', '{"error": 7}', more => '{"unit": "4101001", "from": 1767000000, "to": 1767000050}');
SELECT pg_temp.history();

\echo -- a reply that never came back: what it held is read again
SELECT pg_temp.answer('events', pg_temp.file('events_idle'));
UPDATE crm.integration_state SET session = session || '{"asked": 99, "taken": 98}' WHERE integration_id = 77;
SELECT left(pg_temp.ask(), 60);
SELECT session - ARRAY['evts_at', 'units_at', 'rights'] FROM crm.integration_state WHERE integration_id = 77;

\echo -- the session is lost, in the middle of a batch too: one new login is silent, two in a row are not
SELECT pg_temp.answer('units', ('[' || convert_from(pg_temp.file('update_data_flags'), 'UTF8') || ', {"error": 1}]')::bytea);
SELECT left(pg_temp.ask(), 60);
SELECT pg_temp.answer('login', pg_temp.file('login'));
SELECT pg_temp.answer('units', '{"error": 1011}');
SELECT pg_temp.answer('login', pg_temp.file('login'));
SELECT pg_temp.answer('units', '[{"error": 0}, {"items": [], "totalItemsCount": 0}]');
SELECT severity, message FROM crm.health WHERE subject = 'integration tracks' AND message ~ 'fails';
SELECT pg_temp.answer('events', pg_temp.file('events_idle'));
\echo -- a reply to a session that is gone is not ours any more
SELECT pg_temp.answer('events', '{"error": 1}', more => '{"sid": "00000000"}');
\echo -- too fast: wait, and say so only when it goes on
SELECT pg_temp.answer('events', '{"error": 1003, "reason": "LIMIT api_concurrent"}') FROM generate_series(1, 4);
SELECT pg_temp.answer('events', pg_temp.file('events_idle'));
\echo -- an error that no page knows
SELECT pg_temp.answer('events', '{"error": 4711}');
\echo -- the token is dead: one row, nothing asked for an hour
SELECT pg_temp.answer('events', '{"error": 1}');
SELECT pg_temp.answer('login', '{"error": 8}');
SELECT hold_ms - crm.monotonic_ms() > 3500000 AS held FROM crm.integration_state WHERE integration_id = 77;
SELECT severity, message ~ 'error 8, invalid user name or password' AS says_why FROM crm.health WHERE subject = 'integration tracks' AND message ~ 'fails';

\echo -- base_url is followed to allowed hosts only
SELECT crm.gps_wialon_base('https://hst-api.wialon.com', u, '["hst-api.wialon.eu"]')
FROM unnest('{https://hst-api.wialon.eu,https://HST-API.wialon.com:444/,https://evil.example,http://hst-api.wialon.com,https://hst-api.wialon.com@evil.example,NULL}'::text[]) AS u;
\echo -- numbers of a reply
SELECT v, crm.gps_wialon_number(v) FROM unnest('{1,"\"1,5\"","\" -3.25 \"",1e400,"\"NaN\"",true,null,"[1]","\"12abc\""}'::jsonb[]) AS v;
\echo -- by hand
SELECT crm.gps_wialon_reread('tracks', '2025-12-29 08:00Z', '2025-12-29 09:00Z');
SELECT pg_temp.history();
SAVEPOINT s;
SELECT crm.gps_wialon_reread('nobody', '2025-12-29 08:00Z', '2025-12-29 09:00Z');
ROLLBACK TO s;
SELECT crm.gps_wialon_reread('tracks', '2025-12-29 10:00Z', '2025-12-29 09:00Z');
ROLLBACK TO s;
SELECT crm.gps_wialon_judge(77, ROW (0, 200, '', pg_temp.file('login'), NULL, true, 1, NULL)::crm.reply);
SELECT crm.gps_wialon_judge(77, ROW (0, 200, '', '{"error": 8}', NULL, true, 1, NULL)::crm.reply);
SELECT crm.gps_wialon_judge(77, ROW (0, 200, '', '<html>', NULL, true, 1, NULL)::crm.reply);
\echo -- no token
DELETE FROM crm.secret WHERE integration_id = 77;
SELECT crm.set_session(77, NULL);
SELECT pg_temp.ask();
SELECT last_error FROM crm.integration_state WHERE integration_id = 77;
ROLLBACK;
