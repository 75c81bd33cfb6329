-- claim 57: parts of an SMS are counted by GSM 03.38 and UCS-2, never splitting a pair
-- The vectors are in test/data/sms; a row below is a vector that we count otherwise.
\getenv abs_srcdir PG_ABS_SRCDIR
\set file :abs_srcdir '/test/data/sms/segments.tsv'
CREATE TEMP TABLE vector (body text, encoding text, parts integer, units integer, name text, origin text);
COPY vector FROM :'file' (FORMAT csv, DELIMITER E'\t', QUOTE E'\b', HEADER, FORCE_NOT_NULL (body));
-- the escapes of the file are those of JSON
UPDATE vector SET body = ('"' || replace(body, '"', '\"') || '"')::json #>> '{}';
SELECT v.name, v.encoding, v.units, v.parts, s.encoding AS ours, s.units AS our_units, s.parts AS our_parts
FROM vector AS v LEFT JOIN LATERAL crm.sms_segments(v.body) AS s ON true
WHERE (v.encoding, v.units, v.parts) IS DISTINCT FROM (s.encoding, s.units, s.parts);
SELECT count(*) > 60 AS enough, count(*) FILTER (WHERE origin = 'published test') > 20 AS published FROM vector;

-- an independent count: characters laid into parts one by one in SQL
CREATE FUNCTION pg_temp.slow_parts(body text, part_size integer, single_size integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    c text; units integer; total integer := 0; filled integer := 0; parts integer := 0;
BEGIN
    FOREACH c IN ARRAY regexp_split_to_array(body, '') LOOP
        units := CASE WHEN part_size = 67 THEN CASE WHEN ascii(c) > 65535 THEN 2 ELSE 1 END
                      WHEN c ~ '[€^{}\[\]~|\\]' THEN 2 ELSE 1 END;
        IF parts = 0 OR filled + units > part_size THEN
            parts := parts + 1;
            filled := 0;
        END IF;
        filled := filled + units;
        total := total + units;
    END LOOP;
    RETURN CASE WHEN total <= single_size THEN 1 ELSE parts END;
END $$;
SELECT setseed(0.42);
SELECT count(*) AS differ
FROM (SELECT string_agg((ARRAY['a', 'я', '😀', '€'])[1 + floor(random() * random() * 4)::integer], '') AS body
      FROM generate_series(1, 400) AS i(i), generate_series(1, 60) AS n(n) WHERE i <= n * 6 GROUP BY n) AS made,
     LATERAL crm.sms_segments(made.body) AS s
WHERE s.parts <> CASE s.encoding WHEN 'UCS2' THEN pg_temp.slow_parts(made.body, 67, 70) ELSE pg_temp.slow_parts(made.body, 153, 160) END;
SELECT count(*) AS differ
FROM (SELECT string_agg((ARRAY['a', 'B', '€', '['])[1 + floor(random() * random() * 4)::integer], '') AS body
      FROM generate_series(1, 900) AS i(i), generate_series(1, 60) AS n(n) WHERE i <= n * 15 GROUP BY n) AS made,
     LATERAL crm.sms_segments(made.body) AS s
WHERE s.encoding <> 'GSM7' OR s.parts <> pg_temp.slow_parts(made.body, 153, 160);

SELECT * FROM crm.sms_segments(NULL);
SELECT * FROM crm.sms_segments(repeat('я', 1000000));
