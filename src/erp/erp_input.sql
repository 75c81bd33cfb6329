-- erp: reading what an ERP writes. Every argument may come as text, as a person or 1C formats it.

CREATE OR REPLACE FUNCTION crm.erp_fail(state text, message text, advice text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = advice, HINT = advice;
END
$$;
COMMENT ON FUNCTION crm.erp_fail(text, text, text) IS 'Raises an error whose advice stands in HINT and, since ODBC shows no HINT, in DETAIL too.';

CREATE OR REPLACE FUNCTION crm.erp_begin() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT crm.guard() THEN
		PERFORM crm.erp_fail('55000', format('database "%s" is not active and takes nothing from the ERP', current_database()),
			'A restored or copied database stays silent until a superuser runs SELECT crm.activate(). Check that the connection string names the right database.');
	END IF;
END
$$;
COMMENT ON FUNCTION crm.erp_begin() IS 'Refuses the ERP''s calls with 55000 where the database was not activated: its triggers would write no log and no event.';

CREATE OR REPLACE FUNCTION crm.erp_zone() RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	RETURN coalesce(nullif(current_setting('crm.time_zone', true), ''), 'Europe/Moscow');
COMMENT ON FUNCTION crm.erp_zone() IS 'Zone of times without a zone, to and from the ERP: the setting crm.time_zone.';

CREATE OR REPLACE FUNCTION crm.erp_text(value text, argument text, max_length integer DEFAULT 500) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := nullif(btrim(regexp_replace(value, E'[\\x01-\\x1f\\x7f\u00a0\u202f\u2007\ufeff ]+', ' ', 'g')), '');
BEGIN
	IF length(clean) > max_length THEN
		PERFORM crm.erp_fail('22001', format('%s is too long: "%s…" has %s signs', argument, left(clean, 40), length(clean)),
			format('Send at most %s signs in %s.', max_length, argument));
	END IF;
	RETURN clean;
END
$$;
COMMENT ON FUNCTION crm.erp_text(text, text, integer) IS 'A text as kept: blanks (also non-breaking ones) and controls folded, trimmed, empty is NULL. Error 22001 where it is too long.';

CREATE OR REPLACE FUNCTION crm.erp_key(value text, argument text, required boolean DEFAULT false) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key text := crm.erp_text(value, argument, 200);
BEGIN
	IF key ~* '^\{?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\}?$' THEN
		key := lower(btrim(key, '{}'));
		IF key = '00000000-0000-0000-0000-000000000000' THEN
			key := NULL;
		END IF;
	END IF;
	IF key IS NULL AND required THEN
		PERFORM crm.erp_fail('22004', format('%s is empty', argument),
			format('Send the object''s own id in %s, the same each time; an empty reference (all zeros) is none.', argument));
	END IF;
	RETURN key;
END
$$;
COMMENT ON FUNCTION crm.erp_key(text, text, boolean) IS 'An id of the ERP as kept: trimmed, a GUID in small letters without braces; empty and the zero GUID are NULL. Error 22004 where it is needed and empty.';

CREATE OR REPLACE FUNCTION crm.erp_number(value text, argument text) RETURNS numeric
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	digits text := translate(value, E' \t\r\n\u00a0\u202f\u2007\u2009\ufeff''\u2212', '          -');
BEGIN
	digits := replace(digits, ' ', '');
	IF digits = '' OR digits IS NULL THEN
		RETURN NULL;
	END IF;
	-- The last separator is the decimal one; one that comes twice parts thousands.
	IF position(',' IN digits) > 0 AND position('.' IN digits) > 0 THEN
		IF position(',' IN reverse(digits)) < position('.' IN reverse(digits)) THEN
			digits := replace(replace(digits, '.', ''), ',', '.');
		ELSE
			digits := replace(digits, ',', '');
		END IF;
	ELSIF digits ~ ',.*,' OR digits ~ '\..*\.' THEN
		digits := translate(digits, ',.', '');
	ELSE
		digits := replace(digits, ',', '.');
	END IF;
	IF length(digits) > 40 OR digits !~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)$' THEN
		PERFORM crm.erp_fail('22P02', format('%s "%s" is no number', argument, left(value, 40)),
			format('Write %s in digits, with a comma or a dot before the decimals: 27,5.', argument));
	END IF;
	RETURN digits::numeric;
END
$$;
COMMENT ON FUNCTION crm.erp_number(text, text) IS 'A number as people and 1C write it: blanks of any kind between thousands, comma or dot before decimals; empty is NULL. Error 22P02 with the value and what to write.';

CREATE OR REPLACE FUNCTION crm.erp_range(value numeric, argument text, least_ numeric, greatest_ numeric, unit text) RETURNS numeric
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF value < least_ OR value > greatest_ THEN
		PERFORM crm.erp_fail('22003', format('%s %s is out of range', argument, value),
			format('Send %s in %s, from %s to %s.', argument, unit, least_, greatest_));
	END IF;
	RETURN value;
END
$$;
COMMENT ON FUNCTION crm.erp_range(numeric, text, numeric, numeric, text) IS 'The number itself where it lies in the range; error 22003 otherwise. NULL passes.';

CREATE OR REPLACE FUNCTION crm.erp_time(value text, argument text) RETURNS timestamptz
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	clean text := crm.erp_text(value, argument, 60);
	part  text[];
	local_ timestamp;
	at    timestamptz;
BEGIN
	IF clean IS NULL THEN
		RETURN NULL;
	END IF;
	-- year, month, day, hour, minute, second, zone
	part := regexp_match(clean, '^(\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2}):(\d{2})(?::(\d{2}(?:[.,]\d{1,9})?))? ?(Z|[+-]\d{2}(?::?\d{2})?)?)?$', 'i');
	IF part IS NULL THEN
		part := regexp_match(clean, '^(\d{4})(\d{2})(\d{2})(?:T?(\d{2})(\d{2})(\d{2})?)?$');
	END IF;
	IF part IS NULL THEN
		part := regexp_match(clean, '^(\d{1,2})\.(\d{1,2})\.(\d{4})(?:,? (\d{1,2}):(\d{2})(?::(\d{2}))?)?$');
		IF part IS NOT NULL THEN
			part := ARRAY[part[3], part[2], part[1]] || part[4:];
		END IF;
	END IF;
	IF part IS NOT NULL AND part[1]::integer <= 1 THEN
		RETURN NULL;	-- 1C's empty date is 01.01.0001
	END IF;
	IF part IS NOT NULL THEN
		BEGIN
			local_ := make_timestamp(part[1]::integer, part[2]::integer, part[3]::integer,
				coalesce(part[4], '0')::integer, coalesce(part[5], '0')::integer, coalesce(replace(part[6], ',', '.'), '0')::double precision);
			IF part[7] IS NULL THEN
				at := local_ AT TIME ZONE crm.erp_zone();
			ELSE
				at := (to_char(local_, 'YYYY-MM-DD HH24:MI:SS.US') || part[7])::timestamptz;
			END IF;
		EXCEPTION WHEN data_exception THEN
			at := NULL;
		END;
	END IF;
	IF at IS NULL THEN
		PERFORM crm.erp_fail('22007', format('%s "%s" is no time', argument, left(value, 40)),
			format('Write %s as 2026-11-24T10:00:00 or 24.11.2026 10:00:00.', argument));
	END IF;
	IF at < timestamptz '1990-01-01 00:00Z' OR at > timestamptz '2199-12-31 00:00Z' THEN
		PERFORM crm.erp_fail('22008', format('%s "%s" is out of range', argument, left(value, 40)),
			format('Send %s between the years 1990 and 2199.', argument));
	END IF;
	RETURN at;
END
$$;
COMMENT ON FUNCTION crm.erp_time(text, text) IS 'A time as ISO (2026-11-24T10:00:00, with a zone or without), digits (20261124100000) or Russian (24.11.2026 9:05:00); without a zone it is the plant''s (crm.time_zone). Empty and 0001-01-01 are NULL. Errors: 22007 no time, 22008 out of range.';

CREATE OR REPLACE FUNCTION crm.erp_boolean(value text, argument text) RETURNS boolean
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	word text := lower(crm.erp_text(value, argument, 20));
BEGIN
	IF word IS NULL THEN
		RETURN NULL;
	ELSIF word IN ('1', 't', 'true', 'y', 'yes', 'on', 'да', 'истина') THEN
		RETURN true;
	ELSIF word IN ('0', '-0', 'f', 'false', 'n', 'no', 'off', 'нет', 'ложь') THEN
		RETURN false;
	END IF;
	PERFORM crm.erp_fail('22P02', format('%s "%s" is neither yes nor no', argument, left(value, 20)),
		format('Write 1 or 0 in %s, true or false, Истина or Ложь.', argument));
END
$$;
COMMENT ON FUNCTION crm.erp_boolean(text, text) IS 'Yes or no as 1/0, true/false, да/нет, Истина/Ложь; empty is NULL. Error 22P02.';

CREATE OR REPLACE FUNCTION crm.erp_keep(sent text, kept text) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	RETURN CASE WHEN sent IS NULL THEN kept WHEN sent <> '-' THEN sent END;
COMMENT ON FUNCTION crm.erp_keep(text, text) IS 'What is kept after a call: what was sent; nothing sent leaves what is known; a single - clears it.';

CREATE OR REPLACE FUNCTION crm.erp_stamp(at timestamp, argument text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT isfinite(at) OR at > timestamp '9999-12-31' OR at < timestamp '0001-01-01' THEN
		PERFORM crm.erp_fail('22008', format('%s %s is out of range', argument, at),
			format('Send %s between the years 1990 and 2199.', argument));
	END IF;
	RETURN to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US');
END
$$;
COMMENT ON FUNCTION crm.erp_stamp(timestamp, text) IS 'A timestamp as the text that crm.erp_time reads, whatever DateStyle says. Error 22008 for one without end.';

CREATE OR REPLACE FUNCTION crm.erp_zone_check(value text, argument text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	zone text := crm.erp_text(value, argument, 60);
BEGIN
	IF NOT crm.time_zone_exists(zone) THEN
		PERFORM crm.erp_fail('22023', format('%s "%s" does not exist', argument, zone),
			format('Send an IANA name in %s, such as Europe/Moscow or Asia/Yekaterinburg, or leave it empty.', argument));
	END IF;
	RETURN zone;
END
$$;
COMMENT ON FUNCTION crm.erp_zone_check(text, text) IS 'A time zone by its IANA name. Error 22023.';

CREATE OR REPLACE FUNCTION crm.erp_language(value text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	word text := lower(crm.erp_text(value, 'language', 20));
BEGIN
	IF word NOT IN ('ru', 'en') THEN
		PERFORM crm.erp_fail('22023', format('language "%s" is not spoken here', word), 'Send ru or en in language, or leave it empty.');
	END IF;
	RETURN word;
END
$$;
COMMENT ON FUNCTION crm.erp_language(text) IS 'ru or en; empty is NULL. Error 22023.';

CREATE OR REPLACE FUNCTION crm.erp_company(value text, argument text, required boolean) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	key text := crm.erp_key(value, argument, required);
	id_ bigint;
BEGIN
	IF key IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT c.id INTO id_ FROM crm.company c WHERE c.source = 'erp' AND c.source_id = key;
	id_ := coalesce(id_, crm.erp_linked('company', key));
	IF id_ IS NULL THEN
		PERFORM crm.erp_fail('23503', format('%s "%s" is not known', argument, key),
			format('Send the company first: SELECT * FROM crm_erp.put_company(''%s'', ''its name''); then repeat this call.', key));
	END IF;
	RETURN id_;
END
$$;
COMMENT ON FUNCTION crm.erp_company(text, text, boolean) IS 'crm.company.id by the ERP''s id. Errors: 22004 empty where needed, 23503 not known, with the call that makes it known.';

CREATE OR REPLACE FUNCTION crm.erp_note(entity text, object_id bigint, erp_id text, before_ jsonb, after_ jsonb) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
	INSERT INTO crm.erp_change (entity, object_id, erp_id, changes)
	SELECT $1, $2, $3, jsonb_object_agg(a.key, jsonb_build_array(before_ -> a.key, a.value))
	FROM jsonb_each(after_) a
	WHERE a.value IS DISTINCT FROM before_ -> a.key
	HAVING count(*) > 0;
END;
COMMENT ON FUNCTION crm.erp_note(text, bigint, text, jsonb, jsonb) IS 'Notes in crm.erp_change what a call changed.';
