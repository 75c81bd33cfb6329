-- claim 58: phone numbers in E.164, mobile or not, through libphonenumber
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/test/data/sms/phones.tsv'
CREATE TEMP TABLE vector (raw text, e164 text, kind text);
COPY vector FROM :'file' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER);
CREATE FUNCTION pg_temp.ours(raw text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE why text;
BEGIN
    RETURN crm.phone_e164(raw);
EXCEPTION WHEN invalid_parameter_value THEN
    GET STACKED DIAGNOSTICS why = PG_EXCEPTION_DETAIL;
    RETURN why;
END $$;
-- vectors that we read otherwise: none
SELECT raw, e164, pg_temp.ours(raw) FROM vector WHERE e164 IS NOT NULL AND e164 IS DISTINCT FROM pg_temp.ours(raw);
-- and why the others are refused
SELECT raw, kind, pg_temp.ours(raw) AS why FROM vector WHERE e164 IS NULL;
SELECT kind, array_agg(DISTINCT crm.phone_kind(e164) ORDER BY crm.phone_kind(e164)) FROM vector WHERE e164 IS NOT NULL GROUP BY kind ORDER BY kind COLLATE "C";

-- a region of its own
SELECT crm.phone_e164('020 7946 0958', 'GB') AS london, crm.phone_e164('(201) 555-0123', 'us') AS jersey, crm.phone_kind('+12015550123') AS jersey_kind;
SELECT crm.phone_e164('8 800 200 00 00') AS toll_free, crm.phone_kind('+78002000000') AS kind;
-- phone_kind never raises
SELECT crm.phone_kind(x) FROM unnest(ARRAY['', 'junk', '+7', '89123456789', '+79123456789999999', repeat('9', 10000)]) AS x;

-- errors
\set SHOW_CONTEXT never
SELECT crm.phone_e164('12345');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.phone_e164('');
SELECT crm.phone_e164('нет телефона');
SELECT crm.phone_e164('+999 123 456 789');
SELECT crm.phone_e164('+7 100 123 45 67');
SELECT crm.phone_e164('89123456789', 'XX');
SELECT crm.phone_e164('89123456789', '');
SELECT crm.phone_e164('8 912 345-67-89; 8 (495) 123-45-67');
SELECT crm.phone_e164(repeat('1', 100000));
SELECT crm.phone_e164(NULL) IS NULL AS null_in_null_out;

-- nothing a stranger may write ends the backend
SELECT count(*) FILTER (WHERE pg_temp.ours(made) IS NULL) AS silent
FROM (SELECT (SELECT string_agg(chr(1 + (('x' || substr(md5(n || '/' || i), 1, 8))::bit(32)::bigint % 1200)::integer), '')
              FROM generate_series(1, 20) AS i) AS made
      FROM generate_series(1, 500) AS n) AS junk;
