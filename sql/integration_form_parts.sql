-- Forms of browsers are read whole; what is damaged gives 22023 and never anything else, whatever the bytes (2000 mutations).
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.form(content_type text, body text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	RETURN QUERY SELECT format('[%s] [%s] [%s] %s', p.name, p.file_name, p.media_type, encode(p.content, 'escape'))
	FROM crm.form_parts(content_type, convert_to(replace(body, E'\n', E'\r\n'), 'UTF8')) p;
EXCEPTION WHEN invalid_parameter_value THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN NEXT 'refused: ' || detail;
END $$;
-- as browsers write it: plain fields, a file, one that was not chosen, names with quotes and line ends, a path, a preamble
SELECT pg_temp.form('multipart/form-data; boundary=----WebKitFormBoundaryX', $$------WebKitFormBoundaryX
Content-Disposition: form-data; name="reason"

Пробка
на МКАД
------WebKitFormBoundaryX
Content-Disposition: form-data; name="empty"


------WebKitFormBoundaryX
Content-Disposition: form-data; name="file"; filename="акт №1.pdf"
Content-Type: application/pdf

%PDF------WebKitFormBoundaryX
------WebKitFormBoundaryXY
--
------WebKitFormBoundaryX
Content-Disposition: form-data; name="file"; filename=""
Content-Type: application/octet-stream


------WebKitFormBoundaryX--
$$);
SELECT pg_temp.form('Multipart/Form-Data; charset=utf-8; boundary="a b"', $$preamble
--a b
content-type: Text/Plain; charset=utf-8
CONTENT-DISPOSITION: form-data; name=q%22uote; filename="C:\dir\a%22b\".txt"

1
--a b  
Content-Disposition: form-data; name="nobody"

--a b
Content-Disposition: form-data; name="up"; filename="../../etc/passwd"
Content-Type: no type

2
--a b--
epilogue$$);
SELECT file_name = 'exe.jpg' AS direction_marks_gone FROM crm.form_parts('multipart/form-data; boundary=x',
	convert_to(E'--x\r\nContent-Disposition: form-data; name="f"; filename="' || U&'\202Eexe\2066.jpg' || E'"\r\n\r\n\r\n--x--', 'UTF8'));
SELECT octet_length(content), sha256(content) = sha256(decode(repeat('000d0a2d2d78ff', 1000), 'hex')) FROM crm.form_parts('multipart/form-data; boundary=y',
	convert_to(E'--y\r\nContent-Disposition: form-data; name="f"\r\n\r\n', 'UTF8') || decode(repeat('000d0a2d2d78ff', 1000), 'hex') || E'\\x0d0a2d2d792d2d'::bytea);
SELECT pg_temp.form('application/x-www-form-urlencoded', 'a=1&b=%D0%94%D0%B0+x&c&&=e&a=2&d=%00%ff%');
SELECT pg_temp.form('application/x-www-form-urlencoded', '');
SELECT crm.form_text('\xd094ff00d0'::bytea);
-- what is damaged, and what is too much
SELECT pg_temp.form(t, b) FROM (VALUES
	('text/plain', 'a'), ('', 'a'), ('multipart/form-data', '--x--'), ('multipart/form-data; boundary=', '--x--'), ('multipart/form-data; boundary="x', '--x--'),
	('multipart/form-data; boundary=x; boundary=y', '--x--'), ('multipart/form-data; boundary=' || repeat('x', 71), '--x--'),
	('multipart/form-data; boundary=x', ''), ('multipart/form-data; boundary=x', '--y--'), ('multipart/form-data; boundary=x', '--x'),
	('multipart/form-data; boundary=x', E'--x\n'), ('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=a\n\n1'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=a\n1\n--x--'), ('multipart/form-data; boundary=x', E'--x\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: attachment; name=a\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=a; name=b\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=a\nContent-Disposition: form-data; name=a\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; filename=a\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name="a"b\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=a\n folded: 1\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=a\nContent-Transfer-Encoding: base64\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nContent-Disposition: form-data; name=' || repeat('n', 201) || E'\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\nX: ' || repeat('n', 8192) || E'\n\n1\n--x--'),
	('multipart/form-data; boundary=x', E'--x\n' || repeat(E'X: y\n', 30) || E'\n1\n--x--'),
	('multipart/form-data; boundary=x', repeat(E'--x\nContent-Disposition: form-data; name=a\n\n1\n', 101) || '--x--'),
	('application/x-www-form-urlencoded', repeat('a=1&', 1001)), ('application/x-www-form-urlencoded', '%ff=1')) AS v(t, b);
SELECT count(*) FROM crm.form_parts('multipart/form-data; boundary=x', convert_to(repeat(E'--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n', 100) || '--x--', 'UTF8'));
-- whatever the bytes: parts or 22023
DO $$
DECLARE
	whole bytea := convert_to(E'--bound\r\nContent-Disposition: form-data; name="reason"\r\n\r\nПробка\r\n--bound\r\nContent-Disposition: form-data; name="file"; filename="a\\".pdf"\r\nContent-Type: application/pdf\r\n\r\n%PDF\r\n--bound--\r\n', 'UTF8');
	words text[] := ARRAY['0d0a', '2d2d', '2d2d626f756e64', '0d0a2d2d626f756e64', '22', '3b', '3d', '00', 'ff', 'e280', '5c22', '3a', '0d0a0d0a'];
	body  bytea;
	at    integer;
	good  integer := 0;
	bad   integer := 0;
	type  text;
BEGIN
	PERFORM setseed(0.42);
	FOR n IN 1 .. 2000 LOOP
		body := whole;
		type := 'multipart/form-data; boundary=bound';
		FOR m IN 0 .. (random() * 3)::integer LOOP
			at := (random() * (octet_length(body) - 1))::integer;
			CASE (random() * 5)::integer
				WHEN 0 THEN body := set_byte(body, at, (random() * 255)::integer);
				WHEN 1 THEN body := substr(body, 1, at);
				WHEN 2 THEN body := substr(body, 1, at) || decode(words[1 + (random() * 12)::integer], 'hex') || substr(body, at + 1);
				WHEN 3 THEN body := substr(body, 1, at) || substr(body, at + 1 + (random() * 30)::integer);
				WHEN 4 THEN body := body || substr(body, at + 1);
				ELSE type := overlay(type placing chr(33 + (random() * 90)::integer) FROM 1 + (random() * 34)::integer FOR (random() * 3)::integer);
			END CASE;
			EXIT WHEN octet_length(body) = 0;
		END LOOP;
		BEGIN
			PERFORM count(*), sum(octet_length(p.content)) FROM crm.form_parts(type, body) p;
			good := good + 1;
		EXCEPTION WHEN invalid_parameter_value THEN
			bad := bad + 1;
		END;
	END LOOP;
	RAISE NOTICE '% read or refused, some of each: %', good + bad, good > 100 AND bad > 100;
END $$;
