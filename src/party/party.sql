-- party: functions and views. Code: may be run any number of times.

-- ---- numbers before PostGIS -------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.checked_lon(lon double precision) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_checked_lon';
COMMENT ON FUNCTION crm.checked_lon(double precision) IS 'The longitude itself, degrees east, where it lies in -180 to 180; error 22003 otherwise, NaN and infinity too.';

CREATE OR REPLACE FUNCTION crm.checked_lat(lat double precision) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_checked_lat';
COMMENT ON FUNCTION crm.checked_lat(double precision) IS 'The latitude itself, degrees north, where it lies in -90 to 90; error 22003 otherwise, NaN and infinity too.';

CREATE OR REPLACE FUNCTION crm.checked_radius(radius_m double precision) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_checked_radius';
COMMENT ON FUNCTION crm.checked_radius(double precision) IS 'The radius itself, metres, where it lies above 0 and up to 100000; error 22003 otherwise, NaN and infinity too.';

CREATE OR REPLACE FUNCTION crm.place_check() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_party_place_check';
COMMENT ON FUNCTION crm.place_check() IS 'Trigger function of crm.place, before a row is written: refuses coordinates and radius out of range with 22003, half a point and 0, 0 with 22023.';

-- ---- maps: the only functions that name PostGIS -----------------------------------------------------
-- Bound by oid when they are made, so PostGIS may live in any schema. The checks stand inside the
-- arguments: no planner can put the foreign function before them.

CREATE OR REPLACE FUNCTION crm.geo_point(lon double precision, lat double precision) RETURNS geography
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_SetSRID(ST_MakePoint(crm.checked_lon(lon), crm.checked_lat(lat)), 4326)::geography;
COMMENT ON FUNCTION crm.geo_point(double precision, double precision) IS 'A point on the earth, WGS 84. Error 22003 for coordinates out of range.';

CREATE OR REPLACE FUNCTION crm.geo_distance_m(lon1 double precision, lat1 double precision, lon2 double precision, lat2 double precision)
	RETURNS double precision LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_Distance(crm.geo_point(lon1, lat1), crm.geo_point(lon2, lat2), true);
COMMENT ON FUNCTION crm.geo_distance_m(double precision, double precision, double precision, double precision) IS 'Distance of two points over the spheroid, metres. Error 22003 for coordinates out of range.';

CREATE OR REPLACE FUNCTION crm.geo_circle(lon double precision, lat double precision, radius_m double precision) RETURNS geography
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_Buffer(crm.geo_point(lon, lat), crm.checked_radius(radius_m));
COMMENT ON FUNCTION crm.geo_circle(double precision, double precision, double precision) IS 'A circle as a polygon, for maps; radius in metres. Error 22003 for numbers out of range.';

CREATE OR REPLACE FUNCTION crm.geo_corridor(lons double precision[], lats double precision[], width_m double precision) RETURNS geography
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_Buffer(ST_SetSRID(ST_MakeLine(ARRAY(SELECT ST_MakePoint(crm.checked_lon(u.lon), crm.checked_lat(u.lat))
		FROM unnest(lons, lats) WITH ORDINALITY AS u(lon, lat, number) ORDER BY u.number)), 4326)::geography, crm.checked_radius(width_m / 2));
COMMENT ON FUNCTION crm.geo_corridor(double precision[], double precision[], double precision) IS 'The strip of so many metres along a line as a border: half the width on each side. Degrees, metres. Error 22003 for numbers out of range.';

CREATE OR REPLACE FUNCTION crm.geo_covers(border geography, lon double precision, lat double precision) RETURNS boolean
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_Covers(border, crm.geo_point(lon, lat));
COMMENT ON FUNCTION crm.geo_covers(geography, double precision, double precision) IS 'Whether a point lies inside a border or on it. Error 22003 for coordinates out of range.';

CREATE OR REPLACE FUNCTION crm.geo_text(border geography) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_AsText(border);
COMMENT ON FUNCTION crm.geo_text(geography) IS 'A border as WKT: POLYGON((lon lat, …)).';

CREATE OR REPLACE FUNCTION crm.geo_read(wkt text) RETURNS geography
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN ST_GeogFromText(wkt);
CREATE OR REPLACE FUNCTION crm.geo_off_earth(wkt text) RETURNS boolean
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN EXISTS (SELECT FROM ST_DumpPoints(ST_GeomFromText(wkt, 4326)) AS d
		WHERE NOT (ST_X(d.geom) BETWEEN -180 AND 180 AND ST_Y(d.geom) BETWEEN -90 AND 90));
COMMENT ON FUNCTION crm.geo_off_earth(text) IS 'Whether a corner of WKT lies off the earth; a geography would silently wrap it round.';

COMMENT ON FUNCTION crm.geo_read(text) IS 'WKT read by PostGIS as it is, with its own errors; crm.geo_border is the checked way.';

CREATE OR REPLACE FUNCTION crm.geo_vertices(border geography)
	RETURNS TABLE(polygon integer, ring integer, vertex integer, lon double precision, lat double precision)
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT CASE WHEN array_length(d.path, 1) >= 3 THEN d.path[1] ELSE 1 END,
		CASE WHEN array_length(d.path, 1) >= 3 THEN d.path[2] WHEN array_length(d.path, 1) = 2 THEN d.path[1] ELSE 1 END,
		d.path[array_length(d.path, 1)], ST_X(d.geom), ST_Y(d.geom)
	FROM ST_DumpPoints(border::geometry) AS d;
END;
COMMENT ON FUNCTION crm.geo_vertices(geography) IS 'The corners of a border, degrees: polygon and ring from 1 (ring 1 is the outer one, others are holes), vertex in order, the last equal to the first. For code that computes on its own copy.';

CREATE OR REPLACE FUNCTION crm.geo_border_problem(border geography) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN CASE
		WHEN GeometryType(border::geometry) NOT IN ('POLYGON', 'MULTIPOLYGON') THEN 'it is no polygon'
		WHEN ST_SRID(border::geometry) <> 4326 THEN 'its coordinates are not WGS 84'
		WHEN ST_IsEmpty(border::geometry) THEN 'it is empty'
		WHEN ST_NPoints(border::geometry) > 10000 THEN 'it has more than 10000 corners'
		WHEN EXISTS (SELECT FROM ST_DumpPoints(border::geometry) AS d
			WHERE NOT (ST_X(d.geom) BETWEEN -180 AND 180 AND ST_Y(d.geom) BETWEEN -90 AND 90)) THEN 'a corner is not on the earth'
		WHEN NOT ST_IsValid(border::geometry) THEN 'its sides cross'
	END;
COMMENT ON FUNCTION crm.geo_border_problem(geography) IS 'Why a border cannot be one, in words; NULL where it can.';

CREATE OR REPLACE FUNCTION crm.geo_border(wkt text) RETURNS geography
	LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
	border  crm.place.border%TYPE;
	problem text;
BEGIN
	IF length(wkt) > 1000000 OR wkt ~* 'nan|inf' THEN
		problem := 'it is too long or names no numbers';
	ELSE
		BEGIN
			IF crm.geo_off_earth(wkt) THEN
				problem := 'a corner is not on the earth';
			ELSE
				border := crm.geo_read(wkt);
				problem := crm.geo_border_problem(border);
			END IF;
		EXCEPTION WHEN internal_error OR data_exception THEN
			problem := SQLERRM;
		END;
	END IF;
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('"%s" is no border: %s', left(wkt, 80), problem),
			HINT = 'Write POLYGON((lon lat, lon lat, …)) in degrees, the last corner equal to the first.';
	END IF;
	RETURN border;
END
$$;
COMMENT ON FUNCTION crm.geo_border(text) IS 'A border from WKT, checked: a polygon or multipolygon of at most 10000 corners on the earth whose sides do not cross. Error 22023 with the reason.';

CREATE OR REPLACE FUNCTION crm.place_border_check() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = error AS $$
DECLARE
	problem text := crm.geo_border_problem(NEW.border);
BEGIN
	IF problem IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('the border of place "%s" cannot be one: %s', NEW.name, problem),
			HINT = 'crm.geo_border(''POLYGON((lon lat, …))'') makes one from text.';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.place_border_check() IS 'Trigger function of crm.place: refuses a border that cannot be one with 22023.';

CREATE OR REPLACE VIEW crm.place_geo AS
	SELECT p.id AS place_id, p.name, p.kind, p.lon, p.lat, p.radius_m,
		coalesce(p.border, crm.geo_circle(p.lon, p.lat, coalesce(p.radius_m, 300))) AS shape
	FROM crm.place p
	WHERE p.border IS NOT NULL OR p.lon IS NOT NULL;
COMMENT ON VIEW crm.place_geo IS 'Places as shapes for maps: the border, or the circle of the radius (300 m where none is given).';
COMMENT ON COLUMN crm.place_geo.place_id IS 'crm.place.id';
COMMENT ON COLUMN crm.place_geo.name IS 'Name of the place';
COMMENT ON COLUMN crm.place_geo.kind IS 'plant, unloading, station, other';
COMMENT ON COLUMN crm.place_geo.lon IS 'Longitude of the centre, degrees east';
COMMENT ON COLUMN crm.place_geo.lat IS 'Latitude of the centre, degrees north';
COMMENT ON COLUMN crm.place_geo.radius_m IS 'Radius, metres';
COMMENT ON COLUMN crm.place_geo.shape IS 'Polygon, WGS 84';

-- ---- addresses and tax numbers ----------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.email_normal(address text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_email_normal';
COMMENT ON FUNCTION crm.email_normal(text) IS 'The one form of an e-mail address: trimmed, lower case, a domain in other letters by Punycode. Error 22023 with the reason for what is none.';

CREATE OR REPLACE FUNCTION crm.inn_valid(inn text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_inn_valid';
COMMENT ON FUNCTION crm.inn_valid(text) IS 'Whether a Russian tax number has 10 or 12 digits and right check digits (claim 31).';

CREATE OR REPLACE FUNCTION crm.kpp_valid(kpp text) RETURNS boolean
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_kpp_valid';
COMMENT ON FUNCTION crm.kpp_valid(text) IS 'Whether a KPP has its form: four digits, two digits or capital Latin letters, three digits. It has no check digit.';

CREATE OR REPLACE FUNCTION crm.inn_problem(inn text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE
		WHEN crm.inn_valid($1) THEN NULL
		WHEN $1 !~ '^[0-9]*$' THEN 'it holds something other than digits'
		WHEN length($1) NOT IN (10, 12) THEN format('it has %s digits, not 10 (a company) or 12 (a person)', length($1))
		WHEN $1 LIKE '00%' THEN 'no region begins with 00'
		ELSE 'its check digit is wrong: a digit was mistyped' END
$$;
COMMENT ON FUNCTION crm.inn_problem(text) IS 'Why a text is no INN, in words; NULL where it is one';

CREATE OR REPLACE FUNCTION crm.company_requisites() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NEW;						-- a restore keeps what it finds
	END IF;
	NEW.inn := nullif(regexp_replace(NEW.inn, '[\s-]', '', 'g'), '');
	NEW.kpp := nullif(upper(regexp_replace(NEW.kpp, '[\s-]', '', 'g')), '');
	IF NOT crm.inn_valid(NEW.inn) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('"%s" is no INN: %s', left(NEW.inn, 40), crm.inn_problem(NEW.inn)),
			HINT = 'Look it up in the client''s papers, or leave it empty until you know.', COLUMN = 'inn';
	END IF;
	IF NOT crm.kpp_valid(NEW.kpp) THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('"%s" is no KPP', left(NEW.kpp, 40)),
			HINT = 'Nine signs: digits, and capital Latin letters at most in the fifth and sixth place; or leave it empty.', COLUMN = 'kpp';
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.company_requisites() IS 'Trigger function of crm.company, before a row that a person entered is written with an INN or KPP that is none: takes blanks and hyphens out, then refuses with 22023 and what is wrong. What another system sends is taken as it is (claim 7); crm.inn_valid tells.';

CREATE OR REPLACE FUNCTION crm.contact_point_normal() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	given text := NEW.value;
BEGIN
	IF crm.rewriting() OR NEW.value ~ '^forgotten:[0-9]+$' AND NEW.state = 'invalid' AND NOT crm.guard() THEN
		RETURN NEW;						-- crm.forget(), or a restore of what it has left
	END IF;
	IF NEW.kind = 'phone' THEN
		-- A restore keeps what it finds: the numbering plan may have changed since.
		IF NEW.value ~ '^\+[1-9][0-9]{6,14}$' AND NOT crm.guard() THEN
			RETURN NEW;
		END IF;
		NEW.value := crm.phone_e164(NEW.value);
		NEW.is_mobile := crm.phone_kind(NEW.value) IN ('mobile', 'fixed_or_mobile');
	ELSIF NEW.kind = 'email' THEN
		NEW.value := crm.email_normal(NEW.value);
		NEW.is_mobile := false;
	ELSIF NEW.kind = 'telegram' THEN
		NEW.value := btrim(NEW.value);
		IF NEW.value !~ '^-?[0-9]{1,19}$' THEN
			RAISE EXCEPTION USING ERRCODE = '22023',
				MESSAGE = format('"%s" is no Telegram chat', left(given, 80)),
				HINT = 'Write the number of the chat, as the bot received it; a user name cannot be written to.';
		END IF;
		NEW.is_mobile := false;
	END IF;
	IF NEW.value <> given THEN
		NEW.raw := coalesce(NEW.raw, left(given, 320));
	END IF;
	IF TG_OP = 'UPDATE' THEN
		-- Another number has no proof yet.
		IF (NEW.kind, NEW.value) IS DISTINCT FROM (OLD.kind, OLD.value) AND NEW.state = OLD.state THEN
			NEW.state := 'unknown';
			NEW.verified_at := NULL;
			NEW.verified_by := NULL;
			NEW.verified_how := NULL;
			NEW.strikes := 0;
		END IF;
	END IF;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.contact_point_normal() IS 'Trigger function of crm.contact_point: brings the value to its one form (E.164, lower-case address) and tells mobiles; another value loses its proof. Error 22023 for what is none.';

CREATE OR REPLACE FUNCTION crm.mark_contact_point(contact_point_id bigint, state text, proof text, at timestamptz DEFAULT crm.now()) RETURNS boolean
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	UPDATE crm.contact_point p SET state = $2, verified_by = $3, verified_at = $4
	WHERE p.id = $1 AND (p.verified_at IS NULL OR p.verified_at <= $4) AND $2 IN ('unknown', 'verified', 'stale', 'invalid')
	RETURNING true;
END;
COMMENT ON FUNCTION crm.mark_contact_point(bigint, text, text, timestamptz) IS 'Notes what a fact proves of a contact point (claim 32): verified, stale, invalid, and by what. A fact older than the last one changes nothing; NULL says so.';

-- ---- who is responsible -----------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.responsibility_insert() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		RETURN NULL;
	END IF;
	INSERT INTO crm.responsibility (company_id, employee_id, during)
	SELECT f.id, f.owner_id, tstzrange(crm.now(), NULL)
	FROM fresh f
	WHERE f.owner_id IS NOT NULL;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION crm.responsibility_insert() IS 'Trigger function of crm.company: opens the range of the first owner, all new companies in one statement.';

CREATE OR REPLACE FUNCTION crm.owner_changed() RETURNS trigger
	LANGUAGE c AS '$libdir/crm', 'crm_party_owner_changed';
COMMENT ON FUNCTION crm.owner_changed() IS 'Trigger function of crm.company, after an UPDATE: hands the companies whose owner changed to crm.responsibility_changed, all of a statement at once. Asks crm.guard().';

CREATE OR REPLACE FUNCTION crm.responsibility_changed(company_ids bigint[], owner_ids bigint[]) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ids    bigint[];
	owners bigint[];
BEGIN
	-- what the range of this moment says already was written by crm.set_responsible
	SELECT array_agg(c.company_id), array_agg(c.owner_id) INTO ids, owners
	FROM unnest(company_ids, owner_ids) AS c(company_id, owner_id)
	LEFT JOIN crm.responsibility r ON r.company_id = c.company_id AND r.during @> crm.now()
	WHERE r.employee_id IS DISTINCT FROM c.owner_id;
	-- A range that began at this very moment never held; one that was planned holds no more.
	DELETE FROM crm.responsibility r
	WHERE r.company_id = ANY (ids) AND lower(r.during) >= crm.now();
	UPDATE crm.responsibility r SET during = tstzrange(lower(r.during), crm.now())
	WHERE r.company_id = ANY (ids) AND (upper_inf(r.during) OR upper(r.during) > crm.now());
	INSERT INTO crm.responsibility (company_id, employee_id, during)
	SELECT c.company_id, c.owner_id, tstzrange(crm.now(), NULL)
	FROM unnest(ids, owners) AS c(company_id, owner_id)
	WHERE c.owner_id IS NOT NULL
	ORDER BY c.company_id;
	-- who has a company has those that were merged into it
	UPDATE crm.company m SET owner_id = c.owner_id
	FROM unnest(company_ids, owner_ids) AS c(company_id, owner_id)
	WHERE m.merged_into_id = c.company_id AND m.owner_id IS DISTINCT FROM c.owner_id;
END
$$;
COMMENT ON FUNCTION crm.responsibility_changed(bigint[], bigint[]) IS 'Closes the open ranges of companies and opens those of their new owners (NULL: nobody); companies that were merged into them follow. Called by the trigger of crm.company.';

CREATE OR REPLACE FUNCTION crm.set_responsible(company_id bigint, employee_id bigint, from_at timestamptz DEFAULT crm.now()) RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	c    crm.company;
	ids  bigint[];
	from_ timestamptz := from_at;
BEGIN
	IF NOT crm.guard() THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = 'this database is not active', HINT = 'SELECT crm.activate();';
	END IF;
	IF from_ IS NULL OR NOT isfinite(from_) OR from_ < timestamptz '1990-01-01 00:00Z' OR from_ > crm.now() + interval '5 years' THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('nobody can be responsible from %s on', coalesce(from_::text, 'NULL')), HINT = 'Give a time from 1990 to five years from now.';
	END IF;
	SELECT x.* INTO c FROM crm.company x WHERE x.id = set_responsible.company_id FOR UPDATE;
	IF NOT FOUND OR NOT crm.party_visible(c.id) THEN
		RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = format('company %s is not there', coalesce(set_responsible.company_id::text, 'NULL')), HINT = 'SELECT id, name FROM crm.company;';
	ELSIF c.merged_into_id IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = format('company %s goes under %s', c.id, crm.company_now(c.id)), HINT = 'Who is responsible for that one is for both.';
	ELSIF set_responsible.employee_id IS NOT NULL
		AND NOT EXISTS (SELECT FROM crm.employee e WHERE e.id = set_responsible.employee_id AND (e.dismissed_at IS NULL OR e.dismissed_at > from_)) THEN
		RAISE EXCEPTION USING ERRCODE = '23503', MESSAGE = format('employee %s is not there, or has left by %s', set_responsible.employee_id, from_),
			HINT = 'SELECT id, name FROM crm.employee WHERE dismissed_at IS NULL;';
	END IF;
	ids := crm.company_ids(c.id);
	DELETE FROM crm.responsibility r WHERE r.company_id = ANY (ids) AND lower(r.during) >= from_;
	UPDATE crm.responsibility r SET during = tstzrange(lower(r.during), from_)
	WHERE r.company_id = ANY (ids) AND (upper_inf(r.during) OR upper(r.during) > from_);
	IF set_responsible.employee_id IS NOT NULL THEN
		-- the same person again is no new range
		UPDATE crm.responsibility r SET during = tstzrange(lower(r.during), NULL)
		WHERE r.company_id = ANY (ids) AND upper(r.during) = from_ AND r.employee_id = set_responsible.employee_id;
		INSERT INTO crm.responsibility (company_id, employee_id, during, planned)
		SELECT i.id, set_responsible.employee_id, tstzrange(from_, NULL), from_ > crm.now()
		FROM unnest(ids) AS i(id)
		WHERE NOT EXISTS (SELECT FROM crm.responsibility r WHERE r.company_id = i.id AND r.during @> from_);
	END IF;
	IF from_ <= crm.now() THEN
		UPDATE crm.company x SET owner_id = set_responsible.employee_id WHERE x.id = ANY (ids) AND x.owner_id IS DISTINCT FROM set_responsible.employee_id;
	END IF;
END
$$;
COMMENT ON FUNCTION crm.set_responsible(bigint, bigint, timestamptz) IS 'Hands a company to an employee (NULL: to nobody) from a time on: now, in the past (then what was counted since is counted anew, by whom it belongs to), or to come (then the courier does it at that time; crm.responsible answers by the range at once). What was written for later than that is taken back. Errors: P0002 no such company, 23503 no such employee or dismissed, 22008 time, 55000 merged, or database not active';

CREATE OR REPLACE FUNCTION crm.hand_over_due() RETURNS void
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF crm.guard() AND EXISTS (SELECT FROM crm.responsibility r WHERE r.planned AND lower(r.during) <= crm.now()) THEN
		UPDATE crm.company c SET owner_id = r.employee_id
		FROM crm.responsibility r
		WHERE r.planned AND lower(r.during) <= crm.now() AND r.during @> crm.now() AND c.id = r.company_id AND c.owner_id IS DISTINCT FROM r.employee_id;
		UPDATE crm.responsibility r SET planned = false WHERE r.planned AND lower(r.during) <= crm.now();
	END IF;
END
$$;
COMMENT ON FUNCTION crm.hand_over_due() IS 'Hook of the courier: companies whose planned hand-over has come get their new owner';
SELECT crm.register_hook('maintain', 'hand_over', 'crm.hand_over_due');

CREATE OR REPLACE FUNCTION crm.responsibility_catch_up() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	-- Owners that changed while the triggers were asleep: nobody knows when, so from now on.
	PERFORM crm.responsibility_changed(array_agg(c.id), array_agg(c.owner_id))
	FROM crm.company c
	LEFT JOIN crm.responsibility r ON r.company_id = c.id AND r.during @> crm.now()
	WHERE r.employee_id IS DISTINCT FROM c.owner_id AND EXISTS (SELECT FROM crm.responsibility x WHERE x.company_id = c.id)
	HAVING count(*) > 0;
	INSERT INTO crm.responsibility (company_id, employee_id, during)
	SELECT c.id, c.owner_id, tstzrange(least(c.created_at, crm.now()), NULL)
	FROM crm.company c
	WHERE c.owner_id IS NOT NULL AND NOT EXISTS (SELECT FROM crm.responsibility r WHERE r.company_id = c.id);
END
$$;
COMMENT ON FUNCTION crm.responsibility_catch_up() IS 'Brings crm.responsibility to the owners that were entered while the database was not active: the first owner of a company from its creation, a changed one from the activation on. What agrees, as after a restore, stays as it is.';
SELECT crm.register_hook('activate', 'party', 'crm.responsibility_catch_up');

CREATE OR REPLACE FUNCTION crm.responsible(company_id bigint, at timestamptz DEFAULT crm.now()) RETURNS bigint
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT r.employee_id FROM crm.responsibility r
	WHERE int8range(r.company_id, r.company_id, '[]') && int8range($1, $1, '[]') AND r.company_id = $1 AND r.during @> $2;
END;
COMMENT ON FUNCTION crm.responsible(bigint, timestamptz) IS 'crm.employee.id of who was responsible for a company at a time; NULL: nobody.';

CREATE OR REPLACE FUNCTION crm.line_holder_at(kind text, value text, at timestamptz DEFAULT crm.now()) RETURNS bigint
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT h.employee_id FROM crm.line l JOIN crm.line_holder h ON h.line_id = l.id
	WHERE l.kind = $1 AND l.value = $2 AND h.during @> $3;
END;
COMMENT ON FUNCTION crm.line_holder_at(text, text, timestamptz) IS 'crm.employee.id of who held a corporate line (sim, extension, mailbox) at a time; NULL: nobody, or no line of ours (claim 33).';

-- ---- working time -----------------------------------------------------------------------------------

CREATE OR REPLACE FUNCTION crm.calendar_check(calendar text, time_zone text) RETURNS crm.calendar
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	found_ crm.calendar;
BEGIN
	SELECT c.* INTO found_ FROM crm.calendar c WHERE c.code = calendar_check.calendar;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = '22023',
			MESSAGE = format('calendar "%s" does not exist', calendar),
			HINT = format('There are: %s. Those that ship appear with crm.activate().',
				coalesce((SELECT string_agg(c.code, ', ' ORDER BY c.code) FROM crm.calendar c), 'none yet'));
	END IF;
	IF time_zone IS NOT NULL THEN
		IF NOT crm.time_zone_exists(time_zone) THEN
			RAISE EXCEPTION USING ERRCODE = '22023',
				MESSAGE = format('time zone "%s" does not exist', time_zone),
				HINT = 'Give an IANA name, such as Europe/Moscow or Asia/Yekaterinburg.';
		END IF;
		found_.time_zone := calendar_check.time_zone;
	END IF;
	RETURN found_;
END
$$;
COMMENT ON FUNCTION crm.calendar_check(text, text) IS 'A calendar by its code, with another zone where one is given. Error 22023 for a calendar or zone that does not exist, listing those that do.';

CREATE OR REPLACE FUNCTION crm.working_hours(from_day date, to_day date, calendar crm.calendar)
	RETURNS TABLE(day date, opens timestamptz, closes timestamptz)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT d.day, (d.day + lower(h.span) * interval '1 minute') AT TIME ZONE (calendar).time_zone,
		(d.day + upper(h.span) * interval '1 minute') AT TIME ZONE (calendar).time_zone
	FROM (
		SELECT g.day::date AS day, k.kind, extract(isodow FROM g.day)::integer AS weekday
		FROM generate_series(from_day::timestamp, to_day::timestamp, interval '1 day') AS g(day)
		LEFT JOIN crm.calendar_day k ON k.country = (calendar).country AND k.day = g.day::date
	) d
	CROSS JOIN LATERAL (
		-- A week-end day that is worked takes the hours of the nearest earlier day that has some.
		SELECT max(w.weekday) AS weekday
		FROM crm.calendar_hours w
		WHERE w.calendar_code = (calendar).code
			AND CASE WHEN d.kind IN ('working', 'short') THEN w.weekday <= d.weekday ELSE w.weekday = d.weekday END
	) t
	CROSS JOIN LATERAL (
		SELECT range_agg(int4range(w.opens_minute, w.closes_minute)) AS spans, max(w.closes_minute) AS last
		FROM crm.calendar_hours w
		WHERE w.calendar_code = (calendar).code AND w.weekday = t.weekday
	) a
	CROSS JOIN LATERAL unnest(a.spans * int4multirange(int4range(0,
		CASE d.kind WHEN 'short' THEN greatest(a.last - (calendar).short_by_minutes, 0) ELSE 1440 END))) AS h(span)
	WHERE NOT (calendar).round_the_clock AND d.kind IS DISTINCT FROM 'day_off' AND d.kind IS DISTINCT FROM 'non_working_paid';
END;
COMMENT ON FUNCTION crm.working_hours(date, date, crm.calendar) IS 'Opening hours of a calendar on local days, both included, as moments; the production calendar and the zone''s summer time are in them. No row for a calendar round the clock.';

CREATE OR REPLACE FUNCTION crm.working_minutes(from_at timestamptz, to_at timestamptz, calendar text DEFAULT 'office', time_zone text DEFAULT NULL)
	RETURNS double precision
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cal crm.calendar := crm.calendar_check(calendar, time_zone);
BEGIN
	IF from_at IS NULL OR to_at IS NULL THEN
		RETURN NULL;
	END IF;
	IF NOT (isfinite(from_at) AND isfinite(to_at)) OR from_at < timestamptz '1990-01-01 00:00Z' OR to_at > timestamptz '2200-01-01 00:00Z'
		OR to_at - from_at > interval '7320 days' THEN
		RAISE EXCEPTION USING ERRCODE = '22008',
			MESSAGE = format('cannot count working minutes from %s to %s', from_at, to_at),
			HINT = 'Give two times between 1990 and 2200, at most twenty years apart.';
	END IF;
	IF to_at <= from_at THEN
		RETURN 0;
	END IF;
	IF cal.round_the_clock THEN
		RETURN extract(epoch FROM to_at - from_at)::double precision / 60;
	END IF;
	RETURN (SELECT coalesce(sum(extract(epoch FROM least(h.closes, to_at) - greatest(h.opens, from_at)))::double precision / 60, 0)
		FROM crm.working_hours((from_at AT TIME ZONE cal.time_zone)::date, (to_at AT TIME ZONE cal.time_zone)::date, cal) h
		WHERE h.opens < to_at AND h.closes > from_at);
END
$$;
COMMENT ON FUNCTION crm.working_minutes(timestamptz, timestamptz, text, text) IS 'Working minutes in [from, to) by a calendar (crm.calendar.code), fractions kept; what lies outside the hours does not count, so a start outside them snaps to the next opening. A calendar round the clock gives the plain difference; to before from gives 0. Errors: 22023 unknown calendar or zone, 22008 times without end or over twenty years apart. Friday 17:50 to Monday 09:10 at 9 to 18 is 20.';

CREATE OR REPLACE FUNCTION crm.is_working_day(day date, calendar text DEFAULT 'office') RETURNS boolean
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cal crm.calendar := crm.calendar_check(calendar, NULL);
BEGIN
	IF day IS NULL THEN
		RETURN NULL;
	END IF;
	IF NOT isfinite(day) THEN
		RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('"%s" is no day of a calendar', day), HINT = 'Give a finite date.';
	END IF;
	RETURN cal.round_the_clock OR EXISTS (SELECT FROM crm.working_hours(day, day, cal) h WHERE h.closes > h.opens);
END
$$;
COMMENT ON FUNCTION crm.is_working_day(date, text) IS 'Whether a local date has working hours in a calendar. Error 22023 for an unknown calendar.';

CREATE OR REPLACE FUNCTION crm.is_working_time(at timestamptz, calendar text DEFAULT 'office', time_zone text DEFAULT NULL) RETURNS boolean
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cal crm.calendar := crm.calendar_check(calendar, time_zone);
	day date;
BEGIN
	IF at IS NULL OR NOT isfinite(at) THEN
		RETURN NULL;
	END IF;
	day := (at AT TIME ZONE cal.time_zone)::date;
	RETURN cal.round_the_clock OR EXISTS (SELECT FROM crm.working_hours(day, day, cal) h WHERE h.opens <= at AND h.closes > at);
END
$$;
COMMENT ON FUNCTION crm.is_working_time(timestamptz, text, text) IS 'Whether a moment lies in the working hours of a calendar (claim 53). Error 22023 for an unknown calendar or zone.';

CREATE OR REPLACE FUNCTION crm.next_working_time(at timestamptz, calendar text DEFAULT 'office', time_zone text DEFAULT NULL) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cal crm.calendar := crm.calendar_check(calendar, time_zone);
	day date;
BEGIN
	IF at IS NULL OR NOT isfinite(at) OR cal.round_the_clock THEN
		RETURN at;
	END IF;
	day := (at AT TIME ZONE cal.time_zone)::date;
	RETURN (SELECT greatest(h.opens, at)
		FROM crm.working_hours(day, day + 62, cal) h
		WHERE h.closes > at
		ORDER BY h.opens LIMIT 1);
END
$$;
COMMENT ON FUNCTION crm.next_working_time(timestamptz, text, text) IS 'The moment itself where it is worked, else the next opening; NULL where none comes within two months. Error 22023 for an unknown calendar or zone.';

CREATE OR REPLACE FUNCTION crm.employee_works(employee_id bigint, at timestamptz DEFAULT crm.now()) RETURNS boolean
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	SELECT (e.dismissed_at IS NULL OR e.dismissed_at > $2)
		AND NOT EXISTS (SELECT FROM crm.absence a WHERE a.employee_id = e.id AND a.days @> ($2 AT TIME ZONE e.time_zone)::date)
		AND crm.is_working_time($2, e.calendar_code, e.time_zone)
	FROM crm.employee e
	WHERE e.id = $1;
END;
COMMENT ON FUNCTION crm.employee_works(bigint, timestamptz) IS 'Whether an employee works at a moment: hired still, not absent, inside the hours of the own calendar and zone. NULL for an unknown employee.';

CREATE OR REPLACE FUNCTION crm.put_calendar(body text, country text DEFAULT 'ru') RETURNS integer
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	line   text[];
	no     integer;
	days   date[] := '{}';
	kinds  text[] := '{}';
	day    date;
	count_ integer;
BEGIN
	IF body IS NULL OR length(body) > 1000000 OR country IS NULL OR country !~ '^[a-z]{2}$' THEN
		RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'a calendar is a text of at most 1000000 signs and a country of two small letters',
			HINT = 'One day a line: the date, a tab, and day_off, working, short or non_working_paid.';
	END IF;
	FOR line, no IN
		SELECT regexp_split_to_array(btrim(l.line), '[\t; ]+'), l.no
		FROM regexp_split_to_table(ltrim(body, chr(65279)), '\r?\n') WITH ORDINALITY AS l(line, no)
		WHERE btrim(l.line) <> '' AND NOT (l.no = 1 AND l.line !~ '[0-9]')
	LOOP
		IF cardinality(line) < 2 OR line[1] !~ '^\d{4}-\d{2}-\d{2}$' OR line[2] NOT IN ('day_off', 'working', 'short', 'non_working_paid') THEN
			RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('line %s of the calendar cannot be read: "%s"', no, left(array_to_string(line, ' '), 80)),
				HINT = 'One day a line: 2028-01-03, a tab, and day_off, working, short or non_working_paid.';
		END IF;
		BEGIN
			day := line[1]::date;
		EXCEPTION WHEN data_exception THEN
			RAISE EXCEPTION USING ERRCODE = '22008', MESSAGE = format('line %s of the calendar has no such day: "%s"', no, line[1]),
				HINT = 'Write the date as year-month-day.';
		END;
		days := days || day;
		kinds := kinds || line[2];
	END LOOP;
	-- A day may stand twice (a Saturday that is worked and short): the word that says more wins.
	INSERT INTO crm.calendar_day AS d (country, day, kind)
	SELECT DISTINCT ON (g.day) put_calendar.country, g.day, g.kind
	FROM unnest(days, kinds) AS g(day, kind)
	ORDER BY g.day, array_position(ARRAY['day_off', 'non_working_paid', 'short', 'working'], g.kind)
	ON CONFLICT ON CONSTRAINT calendar_day_pkey DO UPDATE SET kind = EXCLUDED.kind WHERE d.kind <> EXCLUDED.kind;
	GET DIAGNOSTICS count_ = ROW_COUNT;
	RETURN count_;
END
$$;
COMMENT ON FUNCTION crm.put_calendar(text, text) IS 'Once a year: takes the next production calendar, one day a line (2028-01-03, tab, day_off | working | short | non_working_paid; a head line, BOM and CR LF are accepted), and returns how many days changed. Errors: 22023 and 22008 with the line.';

CREATE OR REPLACE FUNCTION crm.ship_party() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO crm.calendar (code, name, round_the_clock, country, shipped) VALUES
		('office', 'Office, Monday to Friday 9 to 18, Russian production calendar', false, 'ru', true),
		('always', 'Round the clock', true, NULL, true)
	ON CONFLICT (code) DO NOTHING;
	INSERT INTO crm.calendar_hours (calendar_code, weekday, opens_minute, closes_minute)
	SELECT 'office', w, 540, 1080
	FROM generate_series(1, 5) AS w
	WHERE NOT EXISTS (SELECT FROM crm.calendar_hours h WHERE h.calendar_code = 'office');

	-- Days of a year, month and day in four digits; of a span, the days from Monday to Friday.
	INSERT INTO crm.calendar_day AS d (country, day, kind, shipped_kind)
	SELECT 'ru', g.day::date, y.kind, y.kind
	FROM (VALUES
		(2011, 'day_off', '0103-0110 0223 0307-0309 0502 0509 0613 1104'),
		(2011, 'short', '0222 0305 1103'),
		(2012, 'day_off', '0102-0109 0223 0308-0309 0430-0501 0507-0509 0611-0612 1105 1231'),
		(2012, 'short', '0222 0307 0428 0512 0609 1229'),
		(2012, 'working', '0311 0505'),
		(2013, 'day_off', '0101-0108 0308 0501-0503 0509-0510 0612 1104'),
		(2013, 'short', '0222 0307 0430 0508 0611 1231'),
		(2014, 'day_off', '0101-0108 0310 0501-0502 0509 0612-0613 1103-1104'),
		(2014, 'short', '0224 0307 0430 0508 0611 1231'),
		(2015, 'day_off', '0101-0109 0223 0309 0501-0504 0511 0612 1104'),
		(2015, 'short', '0430 0508 0611 1103 1231'),
		(2016, 'day_off', '0101-0108 0222-0223 0307-0308 0502-0503 0509 0613 1104'),
		(2016, 'short', '0220 1103'),
		(2017, 'day_off', '0102-0106 0223-0224 0308 0501 0508-0509 0612 1106'),
		(2017, 'short', '0222 0307 1103'),
		(2018, 'day_off', '0101-0108 0223 0308-0309 0430-0502 0509 0611-0612 1105 1231'),
		(2018, 'short', '0222 0307 0428 0508 0609 1229'),
		(2019, 'day_off', '0101-0108 0308 0501-0503 0509-0510 0612 1104'),
		(2019, 'short', '0222 0307 0430 0508 0611 1231'),
		(2020, 'day_off', '0101-0108 0224 0309 0501-0505 0511 0612 0701 1104'),
		(2020, 'non_working_paid', '0330-0430 0506-0508 0624'),
		(2020, 'short', '0611 1103 1231'),
		(2021, 'day_off', '0101-0108 0222-0223 0308 0503 0510 0614 1104-1105 1231'),
		(2021, 'non_working_paid', '0504-0507 1101-1103'),
		(2021, 'short', '0220 0430 0611'),
		(2022, 'day_off', '0103-0107 0223 0307-0308 0502-0503 0509-0510 0613 1104'),
		(2022, 'short', '0222 0305 1103'),
		(2023, 'day_off', '0102-0106 0223-0224 0308 0501 0508-0509 0612 1106'),
		(2023, 'short', '0222 0307 1103'),
		(2024, 'day_off', '0101-0108 0223 0308 0429-0501 0509-0510 0612 1104 1230-1231'),
		(2024, 'short', '0222 0307 0508 0611 1102'),
		(2024, 'working', '0427 1228'),
		(2025, 'day_off', '0101-0108 0501-0502 0508-0509 0612-0613 1103-1104 1231'),
		(2025, 'short', '0307 0430 0611 1101'),
		(2026, 'day_off', '0101-0109 0223 0309 0501 0511 0612 1104 1231'),
		(2026, 'short', '0430 0508 0611 1103'),
		(2027, 'day_off', '0101-0108 0222-0223 0308 0503 0510 0614 1104-1105 1231'),
		(2027, 'short', '0220 0430 0611 1103')
	) AS y(year, kind, days)
	CROSS JOIN LATERAL regexp_split_to_table(y.days, ' ') AS s(span)
	CROSS JOIN LATERAL generate_series(to_date(y.year || left(s.span, 4), 'YYYYMMDD')::timestamp,
		to_date(y.year || right(s.span, 4), 'YYYYMMDD')::timestamp, interval '1 day') AS g(day)
	WHERE position('-' IN s.span) = 0 OR extract(isodow FROM g.day) < 6
	ON CONFLICT (country, day) DO UPDATE SET shipped_kind = EXCLUDED.shipped_kind,
		kind = CASE WHEN d.kind = d.shipped_kind THEN EXCLUDED.kind ELSE d.kind END
	WHERE d.shipped_kind IS DISTINCT FROM EXCLUDED.shipped_kind;
END
$$;
COMMENT ON FUNCTION crm.ship_party() IS 'Writes the calendars that ship: office, always, and the Russian production calendar of 2011 to 2027; a day or hours that a DBA changed stay. Called by crm.activate().';
SELECT crm.register_hook('ship', 'party', 'crm.ship_party');

-- ---- foreign keys -----------------------------------------------------------------------------------

SELECT crm.register_foreign_key('crm.employee', 'team_id', 'crm.team');
SELECT crm.register_foreign_key('crm.absence', 'employee_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.absence', 'deputy_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.line_holder', 'line_id', 'crm.line');
SELECT crm.register_foreign_key('crm.line_holder', 'employee_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.company', 'owner_id', 'crm.employee');
SELECT crm.register_no_foreign_key('crm.company', 'merged_into_id', 'a reference to the own table restores in no order');
SELECT crm.register_foreign_key('crm.responsibility', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.responsibility', 'employee_id', 'crm.employee');
SELECT crm.register_foreign_key('crm.contact', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.contact_point', 'contact_id', 'crm.contact');
SELECT crm.register_foreign_key('crm.consent', 'contact_id', 'crm.contact');
SELECT crm.register_foreign_key('crm.place', 'company_id', 'crm.company');
SELECT crm.register_foreign_key('crm.calendar_hours', 'calendar_code', 'crm.calendar', 'code');
SELECT crm.register_foreign_key('crm.employee', 'calendar_code', 'crm.calendar', 'code');
SELECT crm.register_no_foreign_key('crm.employee', 'source_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.company', 'source_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.contact', 'source_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.consent', 'source_id', 'an id of another system');
SELECT crm.register_no_foreign_key('crm.place', 'source_id', 'an id of another system');

CREATE OR REPLACE FUNCTION crm.consented(contact_id bigint, purpose text) RETURNS boolean
LANGUAGE sql STABLE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT EXISTS (SELECT FROM crm.consent c WHERE c.contact_id = $1 AND c.purpose = $2 AND c.given_at <= crm.now()
		AND (c.withdrawn_at IS NULL OR c.withdrawn_at > crm.now()))
$$;
COMMENT ON FUNCTION crm.consented(bigint, text) IS 'Whether a contact has agreed to a purpose (processing, advertising) and has not withdrawn it';
