-- A person is forgotten: in no column of any table is the name, the phone or the address, and every count is as before.
\set VERBOSITY default
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
UPDATE crm.party_setting SET same_phone = 'report', same_email = 'report';
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number', 'person', 'phone'], 'A thing was done', 'Дело сделано');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.register_kind('x_mail', NULL, NULL, channel => 'email');
SELECT crm.add_integration('gate', 'x_sms_test', 'https://sms.example.com:8443/send', '{"sender": "CEMENT", "retry_ms": 1}') AS gate \gset
SELECT crm.add_integration('mail', 'x_mail', 'smtps://mail.example.com', '{"sender": "plant@example.com"}') AS mail \gset
-- what everybody counts, and where the person is found
CREATE FUNCTION pg_temp.counts() RETURNS TABLE (name text, number bigint) LANGUAGE plpgsql AS $$
DECLARE t regclass;
BEGIN
	FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'crm'::regnamespace AND relkind = 'r' LOOP
		name := t; EXECUTE format('SELECT count(*) FROM %s', t) INTO number; RETURN NEXT;
	END LOOP;
	RETURN QUERY SELECT 'state ' || m.state, count(*) FROM crm.message m GROUP BY m.state;
	RETURN QUERY SELECT concat_ws(' ', 'kpi', k.code, k.level), sum(k.value)::bigint FROM crm.kpi_cells('2026-11-01', '2026-12-01') k GROUP BY 1;
	RETURN QUERY SELECT 'egress ' || e.channel || e.outcome, sum(e.bytes)::bigint FROM crm_bi.egress e WHERE e.channel IS NOT NULL GROUP BY 1;
END $$;
CREATE FUNCTION pg_temp.found(words text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE t record; n bigint; w text;
BEGIN
	FOR t IN SELECT c.oid::regclass AS name, a.attname, a.atttypid FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind = 'r' ORDER BY 1, a.attnum LOOP
		FOREACH w IN ARRAY words LOOP
			EXECUTE format(CASE t.atttypid WHEN 'bytea'::regtype THEN 'SELECT count(*) FROM %s WHERE position(convert_to($1, ''UTF8'') IN %I) > 0'
				ELSE 'SELECT count(*) FROM %s WHERE %I::text ILIKE ''%%'' || $1 || ''%%''' END, t.name, t.attname) INTO n USING w;
			IF n > 0 THEN
				RETURN NEXT format('%s in %s.%s: %s', w, regexp_replace(t.name::text, '_20\d{4}$', ''), t.attname, n);
			END IF;
		END LOOP;
	END LOOP;
END $$;
CREATE FUNCTION pg_temp.send(gate bigint, outcome text, words text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE ids bigint[];
BEGIN
	SELECT array_agg(t.message_id) INTO ids FROM crm.outbox_take(gate, 100) t;
	PERFORM crm.outbox_result(gate, ids, array_fill(outcome, ARRAY[cardinality(ids)]), NULL, array_fill(words, ARRAY[cardinality(ids)]));
	RETURN cardinality(ids);
END $$;
SELECT result FROM crm_erp.put_company('K-1', 'ООО Бетон');
SELECT result FROM crm_erp.put_contact('P-77', 'K-1', 'Пётр Незабвенный', '+7 916 765-43-21', 'petr.n@example.com', 'снабженец');
SELECT result FROM crm_erp.put_contact('P-77', 'K-1', 'Пётр Незабвенный', '8(916)7654321', 'petr.n@example.com', 'главный снабженец');
SELECT result FROM crm_erp.put_contact('P-78', 'K-1', 'Анна Другая', '+7 916 111-22-33', 'anna@example.com', 'бухгалтер');
SELECT id AS petr FROM crm.contact WHERE source_id = 'P-77' \gset
SELECT id AS anna FROM crm.contact WHERE source_id = 'P-78' \gset
INSERT INTO crm.consent (contact_id, purpose, wording, form, address, user_agent) VALUES (:petr, 'processing', 'Я, Пётр Незабвенный, согласен', 'site', '10.0.0.1', 'Mozilla');
INSERT INTO crm.template (code, channel, language, subject, body) VALUES ('done', 'sms', 'ru', NULL, '{{contact_name}}: {{number}}'), ('done', 'email', 'ru', 'Для {{contact_name}}', '{{number}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template) VALUES ('sms', 'thing.done', 'company_contacts', 'sms', 'done'), ('mail', 'thing.done', 'company_contacts', 'email', 'done');
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data)
SELECT 'thing.done', 'thing', 1, c.id, '{"number": "N-1", "person": "принял ПЁТР  НЕЗАБВЕННЫЙ", "phone": 79167654321, "nested": [{"tel": "8 (916) 765-43-21"}]}' FROM crm.company c WHERE c.source_id = 'K-1';
SELECT pg_temp.send(:gate, 'delivered', 'to +79167654321 at 12:00');
SELECT pg_temp.send(:mail, 'failed', '550 <petr.n@example.com> unknown');
SELECT crm.send('sms', '89167654321', 'без контакта, Пётр Незабвенный') > 0;
SELECT pg_temp.send(:gate, 'uncertain', 'timeout: no answer');
SELECT crm.send('email', 'petr.n@example.com', 'file', subject => 'file') AS letter \gset
SELECT crm.message_attach(:letter, 'Пётр Незабвенный.pdf', 'application/pdf', 'Пётр Незабвенный') > 0;
SELECT pg_temp.send(:mail, 'sent');
SELECT crm.reject(NULL, 'call of +7 (916) 765-43-21', 'nobody', NULL, convert_to('{"from": "79167654321", "name": "\u041f\u0451\u0442\u0440 \u041d\u0435\u0437\u0430\u0431\u0432\u0435\u043d\u043d\u044b\u0439"}', 'UTF8')) > 0;
SELECT crm.reject(NULL, 'form', 'nobody', NULL, convert_to('name=' || crm.url_encode('Пётр Незабвенный') || '&mail=petr.n%40example.com', 'UTF8')) > 0;
SELECT crm.reject(NULL, 'another', 'nobody', NULL, convert_to('79167654322', 'UTF8')) > 0;
INSERT INTO crm.vehicle (plate, driver, driver_phone) VALUES ('А001АА77', 'Незабвенный Пётр', '+79167654321'), ('А002АА77', 'Пётр Незабвенный', '+79161112233');
SELECT count(*) > 15 AS many FROM pg_temp.found(ARRAY['Незабвенный', '9167654321', '765-43-21', 'petr.n@', 'P-77']);
CREATE TEMP TABLE before_ AS SELECT * FROM pg_temp.counts();
-- one that is on the wire: not now
SAVEPOINT wire;
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', 2, c.id, '{"number": "N-2"}' FROM crm.company c WHERE c.source_id = 'K-1';
SELECT count(*) FROM crm.outbox_take(:gate, 100);
\set VERBOSITY sqlstate
SELECT * FROM crm.forget(:petr);
\set VERBOSITY default
ROLLBACK TO wire;
SELECT crm.queue_forget();
SELECT what, changed FROM crm.forget(:petr);
SELECT b.name, b.number, a.number FROM before_ b FULL JOIN pg_temp.counts() a ON a.name = b.name WHERE a.number IS DISTINCT FROM b.number ORDER BY 1;
SELECT * FROM pg_temp.found(ARRAY['Пётр', '9167654321', '765-43-21', 'petr.n@', 'P-77', 'снабженец', 'Mozilla']);
-- what is left of the person, and of others
SELECT replace(name, :petr::text, 'N'), "position", source, source_id, archived_at FROM crm.contact WHERE id = :petr;
SELECT kind, regexp_replace(value, '\d+', 'N'), raw, state FROM crm.contact_point WHERE contact_id = :petr ORDER BY kind;
SELECT c.name, p.value FROM crm.contact c JOIN crm.contact_point p ON p.contact_id = c.id WHERE c.id = :anna ORDER BY 2;
SELECT channel, state, regexp_replace(recipient, ':\d+', ':N'), subject, body, last_error IS NULL FROM crm.message ORDER BY id;
SELECT regexp_replace(words, ':\d+', ':N') FROM crm.message_attempt WHERE words IS NOT NULL ORDER BY message_id;
SELECT regexp_replace(data::text, ':\d+', ':N', 'g') FROM crm.event WHERE kind = 'thing.done';
SELECT regexp_replace(what, ':\d+', ':N'), convert_from(bytes, 'UTF8'), bytes_length > 0 FROM crm.rejected ORDER BY id;
SELECT plate, regexp_replace(driver, ':\d+', ':N'), regexp_replace(driver_phone, ':\d+', ':N') FROM crm.vehicle ORDER BY plate;
SELECT key, value FROM crm.erp_change h, jsonb_each(h.changes) WHERE entity = 'contact' ORDER BY h.id, key;
-- once more: nothing; who and when is kept
SELECT * FROM crm.forget(:petr);
SELECT at, by, changed ? 'crm.contact' FROM crm.forgotten;
-- the door is closed again
UPDATE crm.message_body SET body = 'x';
UPDATE crm.forgotten SET by = 'nobody';
SELECT crm.forget(-1);
-- the same number comes again: another person
SELECT result FROM crm_erp.put_contact('P-77', 'K-1', 'Пётр Незабвенный', '8(916)7654321', 'petr.n@example.com');
SELECT count(*), bool_and(id <> :petr) FROM crm.contact WHERE source_id = 'P-77';
INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', 3, c.id, '{"number": "N-3"}' FROM crm.company c WHERE c.source_id = 'K-1';
SELECT channel, recipient FROM crm.message WHERE object_id = 3 ORDER BY 1, 2;
-- one of them waits: it is cancelled; a shared phone and a name of one word stay where they are another's
INSERT INTO crm.contact (company_id, name) SELECT id, 'Анна' FROM crm.company WHERE source_id = 'K-1' RETURNING id AS short \gset
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (:short, 'phone', '+79161112233');
SELECT pg_temp.send(:gate, 'sent');
SELECT crm.send('sms', '+79161112233', 'waits', contact_id => :short) AS waits \gset
SELECT what, changed FROM crm.forget(:short);
SELECT state, last_error FROM crm.message WHERE id = :waits;
SELECT c.name, p.value FROM crm.contact c JOIN crm.contact_point p ON p.contact_id = c.id WHERE c.id = :anna ORDER BY 2;
-- what left
SELECT business_date, what, integration, host, channel, requests, bytes, outcome, sandbox, contact_id IN (:petr, :anna) AS known FROM crm_bi.egress WHERE at < '2026-11-24 13:00' ORDER BY message_id;
SELECT crm.egress_count(:gate, NULL, ARRAY[ROW (1, 'GET', 'https://gps.example.com:8443/ajax?x=1', '{"A: b"}', convert_to('abc', 'UTF8'), NULL, NULL, NULL, NULL)::crm.request]);
SELECT crm.egress_count(:gate, NULL, ARRAY[ROW (1, 'GET', 'https://gps.example.com/', NULL, NULL, NULL, NULL, NULL, NULL)::crm.request, ROW (2, 'GET', 'https://[::1]:80/', NULL, NULL, NULL, NULL, NULL, NULL)::crm.request]);
SELECT crm.egress_count(:gate, 'sms', ARRAY[ROW (1, 'GET', 'https://a.example.com/', NULL, NULL, NULL, NULL, NULL, '{"op": "send"}')::crm.request, ROW (2, 'GET', 'https://a.example.com/', NULL, NULL, NULL, NULL, NULL, '{"op": "balance"}')::crm.request]);
SELECT at, what, integration, host, requests, bytes FROM crm_bi.egress WHERE what = 'poll' ORDER BY host;
-- what is left of a person goes through a dump: refused from people, taken by a restore
INSERT INTO crm.contact_point (contact_id, kind, value, state) VALUES (:anna, 'phone', 'forgotten:1', 'invalid');
SELECT crm.deactivate();
INSERT INTO crm.contact_point (contact_id, kind, value, state) VALUES (:anna, 'phone', 'forgotten:1', 'invalid'), (:anna, 'email', 'forgotten:2', 'invalid');
SELECT kind, value, state FROM crm.contact_point WHERE contact_id = :anna AND value LIKE 'forgotten%' ORDER BY 1;
ROLLBACK;
