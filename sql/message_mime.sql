-- claim 59: attachments with Cyrillic names
-- claim 62: text and html alternatives, nothing injected
\set SHOW_CONTEXT never
CREATE FUNCTION pg_temp.show(letter bytea) RETURNS SETOF text LANGUAGE sql AS
$$ SELECT replace(line, E'\t', '<tab>') FROM unnest(string_to_array(convert_from(letter, 'UTF8'), E'\r\n')) AS line $$;

-- text only
SELECT * FROM pg_temp.show(crm.mime_build('sales@cement.example', 'client@test.local', 'Hello', E'one\ntwo = 2\n.\n', NULL, '1.a@crm.example', '2026-11-24 10:00+03'));
-- the whole: alternatives, attachments, names, an own header
SELECT * FROM pg_temp.show(crm.mime_build('ООО "Цемент" <sales@cement.example>', 'Иван Петров <client@test.local>',
    'Машина А123ВС77 прибыла на выгрузку, просим принять груз до конца дня', E'Здравствуйте!\nМашина прибыла.', '<p>Здравствуйте!</p>',
    '<2.a@crm.example>', '2026-11-24 10:00+03', ARRAY['References: <1.a@crm.example>', 'X-Note: заметка'],
    ARRAY['Счёт № 15.xlsx', 'act.pdf'], ARRAY['application/vnd.openxmlformats-officedocument.spreadsheetml.sheet', 'application/pdf'],
    ARRAY['\x504b0304'::bytea, 'hello'::bytea]));
-- the same arguments, the same octets; only CR LF ends a line; no line is longer than 998
CREATE TEMP TABLE long AS SELECT crm.mime_build('a@b.example', 'c@d.example', repeat('Тема ', 100), repeat(E'длинная строка без перевода ', 500), repeat('x', 5000),
    '3@crm.example', '2026-11-24', NULL, ARRAY[repeat('ы', 120) || '.txt'], ARRAY['text/plain'], ARRAY[decode(repeat('00ff0d0a', 5000), 'hex')]) AS letter;
SELECT letter = crm.mime_build('a@b.example', 'c@d.example', repeat('Тема ', 100), repeat(E'длинная строка без перевода ', 500), repeat('x', 5000),
    '3@crm.example', '2026-11-24', NULL, ARRAY[repeat('ы', 120) || '.txt'], ARRAY['text/plain'], ARRAY[decode(repeat('00ff0d0a', 5000), 'hex')]) AS same FROM long;
SELECT max(length(line)) <= 998 AS short_lines, bool_and(line !~ '[\r\n]') AS crlf_only, bool_and(line ~ '^[\t\x20-\x7e]*$') AS ascii
FROM long, unnest(string_to_array(convert_from(letter, 'UTF8'), E'\r\n')) AS line;
-- a manager's own letter is not marked as a robot's
SELECT line FROM pg_temp.show(crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '4@crm.example', '2026-11-24', ARRAY['Auto-Submitted: no'])) AS line WHERE line ~ '^(Auto|X-Auto)';
-- names that would fool a file system or an eye
SELECT line FROM pg_temp.show(crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '5@crm.example', '2026-11-24', NULL,
    ARRAY['../etc/passwd', 'C:\x"y.txt', U&'inv\202Exslx.exe', '.hidden'], ARRAY[NULL, NULL, NULL, NULL], ARRAY['1'::bytea, '2', '3', '4'])) AS line WHERE line ~ 'filename';

-- the envelope's address
SELECT crm.mail_address('Имя Фамилия <user@example.org>') AS named, crm.mail_address(' user.name+tag@example.org ') AS bare, crm.mail_address('user@почта.рф') AS idn;

-- header injection and other bad input
SELECT crm.mime_build('a@b.example', 'c@d.example', E'Hi\r\nBcc: evil@x.example', 't', NULL, '6@crm.example', '2026-11-24');
\echo :LAST_ERROR_SQLSTATE
SELECT crm.mime_build(E'a@b.example\nX: y', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24');
SELECT crm.mime_build('a@b.example', E'c@d.example\r\nRCPT TO:<x@y.example>', 's', 't', NULL, '6@crm.example', '2026-11-24');
SELECT crm.mime_build('a@b.example', 'c@d.example', U&'a\2028b', 't', NULL, '6@crm.example', '2026-11-24');
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, E'6@crm.example>\r\nX: y', '2026-11-24');
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', ARRAY[E'X-A: b\nX-C: d']);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', ARRAY['Bcc: x@y.example']);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', ARRAY['Content-Type: text/html']);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', ARRAY['no colon']);
SELECT crm.mime_build('a@b.example, e@f.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24');
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, 'no id', '2026-11-24');
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', 'infinity');
SELECT crm.mime_build('a@b.example', 'c@d.example', NULL, 't', NULL, '6@crm.example', '2026-11-24');
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', NULL, ARRAY['a', 'b'], ARRAY['text/plain'], ARRAY['1'::bytea]);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', NULL, ARRAY[''], ARRAY['text/plain'], ARRAY['1'::bytea]);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', NULL, ARRAY[E'a\r\nX: y'], ARRAY['text/plain'], ARRAY['1'::bytea]);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', NULL, ARRAY['a'], ARRAY[E'text/plain; x=y'], ARRAY['1'::bytea]);
SELECT crm.mime_build('a@b.example', 'c@d.example', 's', 't', NULL, '6@crm.example', '2026-11-24', NULL, ARRAY['a'], ARRAY['text/plain'],
    ARRAY[decode(repeat('00', 40000000), 'hex')]);
SELECT crm.mail_address(x) FROM unnest(ARRAY['']) AS x;
SELECT crm.mail_address('a@b.example, c@d.example');
SELECT crm.mail_address('user');
SELECT crm.mail_address('a b@example.org');
SELECT crm.mail_address('Имя@example.org');
SELECT crm.mail_address('<a@b>c@d.example>');
SELECT crm.mail_address('a@-b.example');
SELECT crm.mail_address('a@b..example');
