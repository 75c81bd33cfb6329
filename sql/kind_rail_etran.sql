-- claims 51 and 67: ETRAN is spoken to by two functions on bytes, proved on replies of every shape that was seen, without a network
\set QUIET on
\set VERBOSITY terse
\set SHOW_CONTEXT never
\pset format unaligned
\pset tuples_only on
\getenv abs_srcdir PG_ABS_SRCDIR
\set folder :abs_srcdir '/test/data/rail_etran/'
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO';
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT set_config('test.folder', :'folder', true) <> '' AS folder_known;
SELECT crm.activate('live');
SELECT crm.set_now('2026-11-24 01:30:00+03', 0);
SELECT crm.add_integration('etran', 'rail_etran', 'http://etran.example:8092/AppServer/IEtranSysservice', '{"login": "Ромашка & Ко"}') > 0 AS added;
UPDATE crm.integration SET id = 77 WHERE name = 'etran';
SELECT crm.set_secret('etran', 'p<w');

CREATE FUNCTION pg_temp.file(name text) RETURNS bytea LANGUAGE sql AS
	$$ SELECT pg_read_binary_file(current_setting('test.folder') || name) $$;
-- what next asks: the innermost document, and the context
CREATE FUNCTION pg_temp.ask() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(' | ', (crm.rail_tree(r.body)).tree #>> '{envelope,body,getblock,text}', r.context - 'now')
	FROM crm.rail_etran_next(77, 5) AS r $$;
-- a SOAP envelope around a document, as the service would
CREATE FUNCTION pg_temp.wrapped(inner_ bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT convert_to('<?xml version="1.0" encoding="UTF-8"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body><r:GetBlockResponse xmlns:r="SysEtranInt"><Text>'
		|| crm.escaped(crm.body_text(inner_), 'xml') || '</Text><return>true</return></r:GetBlockResponse></e:Body></e:Envelope>', 'UTF8') $$;
-- a reply to the last question; then what is remembered
CREATE FUNCTION pg_temp.answer(context jsonb, body bytea, status integer DEFAULT 200, error text DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM crm.courier_settle(1, 77, ARRAY[ROW (1, status, '', body, error, true, 20, context || '{"now": "2026-11-24 01:30:00+03"}')::crm.reply]);
	RETURN (SELECT format('failures %s%s, hold %s s', s.failures, ': ' || s.last_error, greatest(0, ceil((s.hold_ms - crm.monotonic_ms()) / 1000.0))) FROM crm.integration_state AS s WHERE s.integration_id = 77);
END $$;
CREATE FUNCTION pg_temp.polled(VARIADIC what text[]) RETURNS void LANGUAGE sql AS
	$$ SELECT crm.set_session(77, jsonb_build_object('polled', (SELECT jsonb_object_agg(w, crm.monotonic_ms()) FROM unnest(what) AS w))) $$;
CREATE FUNCTION pg_temp.forget() RETURNS void LANGUAGE sql AS $$ SELECT crm.set_session(77, NULL), crm.integration_succeeded(77) $$;

\echo -- the whole request: login and password escaped, the document as escaped text
SELECT r.method, r.url, r.headers, convert_from(r.body, 'UTF8') FROM crm.rail_etran_next(77, 1) AS r;
\echo -- the first question looks back two days
SELECT pg_temp.ask();
\echo -- the list, from UTF-8 with a declaration that lies and from windows-1251 with return first: the same
SELECT (crm.rail_etran_open(pg_temp.file('soap_invoiceStatusReply_utf8_lying_decl.xml'), 1000000)).inner_tree
	= (crm.rail_etran_open(pg_temp.file('soap_invoiceStatusReply_cp1251_return_first.xml'), 1000000)).inner_tree AS same;
SELECT pg_temp.answer('{"step": "list", "kind": "invoice", "to": "2026-11-24 01:30:00+03"}', pg_temp.file('soap_invoiceStatusReply_cp1251_return_first.xml'));
SELECT kind, document_id, last_oper FROM crm.rail_fetch ORDER BY 2;
SELECT name, value - 'reached' FROM crm.cursor ORDER BY 1;
\echo -- then the documents, one at a time
SELECT pg_temp.ask();
SELECT pg_temp.answer('{"step": "document", "kind": "invoice", "id": 900000101, "oper": "24.11.2026 00:41:07"}', pg_temp.wrapped(pg_temp.file('rep_getInvoiceReply_enroute.xml')));
SELECT pg_temp.ask();
SELECT pg_temp.answer('{"step": "document", "kind": "invoice", "id": 900000102, "oper": "24.11.2026 00:52:30"}', pg_temp.wrapped(pg_temp.file('rep_getInvoiceReply_arrived.xml')));
SELECT number, phase, wagon_count, departed_at, arrived_at, expires_at, notice_number, weight_kg FROM crm.waybill ORDER BY id;
SELECT kind, data ->> 'waybill_number', data ->> 'wagon_count', data ->> 'late' FROM crm.event WHERE object_kind = 'waybill' ORDER BY id;
\echo -- one that is not to be had leaves the others alone
SELECT pg_temp.answer('{"step": "document", "kind": "invoice", "id": 900000103, "oper": "24.11.2026 00:59:59"}', pg_temp.wrapped(pg_temp.file('rep_error_not_found.xml')));
SELECT count(*) AS to_fetch FROM crm.rail_fetch;
SELECT what, reason FROM crm.rejected ORDER BY id;
\echo -- nothing to do until the next poll, then by the number of the last operation
SELECT pg_temp.ask();
SELECT pg_temp.forget();
SELECT pg_temp.ask();
\echo -- the same list again: nothing to fetch but the one that was not had; the empty list moves the cursor too
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.file('soap_invoiceStatusReply_utf8_lying_decl.xml'));
SELECT document_id FROM crm.rail_fetch;
DELETE FROM crm.rail_fetch;
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.wrapped(replace(crm.body_text(pg_temp.file('rep_invoiceStatusReply_empty.xml')), '700000140', '13013876096')::bytea));
SELECT value ->> 'oper_id' FROM crm.cursor WHERE name = 'list:invoice';
\echo -- the same document again is no news; containers stand on their wagon
SELECT count(*) FROM crm.event WHERE object_kind = 'waybill';
SELECT pg_temp.answer('{"step": "document", "kind": "invoice", "id": 900000102}', pg_temp.wrapped(pg_temp.file('rep_getInvoiceReply_arrived.xml')));
SELECT count(*) FROM crm.event WHERE object_kind = 'waybill';
SELECT pg_temp.answer('{"step": "document", "kind": "invoice", "id": 900000104}', pg_temp.wrapped(pg_temp.file('rep_getInvoiceReply_containers.xml')));
SELECT w.phase, x.wagon_number, x.containers, x.seals FROM crm.waybill w, crm.waybill_wagons(w.id) x WHERE w.invoice_id = 900000104;

\echo -- busy waits, whatever its code; the cursor stays
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.wrapped(pg_temp.file('rep_error_busy.xml')));
SELECT value ->> 'oper_id' FROM crm.cursor WHERE name = 'list:invoice';
\echo -- a Fault, a page, half a reply, bytes of no encoding, a document type: the cursor stays, what could not be read is kept
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.file('soap_fault.xml'), 500) ~ 'failures 2: fault: Internal error, hold [1-9]';
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', '<html><body>502</body></html>', 502) ~ 'failures 3: status 502';
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', substr(pg_temp.file('soap_invoiceStatusReply_utf8_lying_decl.xml'), 1, 700)) ~ 'failures 4: this is no XML document';
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', '<a>'::bytea || '\x98ff'::bytea || '</a>'::bytea) ~ 'failures 5: ';
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>') ~ 'document type.*hold 3600 s';
SELECT what, left(reason, 60), sqlstate, bytes_length FROM crm.rejected WHERE id > (SELECT min(id) FROM crm.rejected) ORDER BY id;
SELECT value ->> 'oper_id' FROM crm.cursor WHERE name = 'list:invoice';
SELECT pg_temp.forget();
\echo -- characters that XML forbids are taken out and counted, written as references too
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.wrapped(convert_to(E'<invoiceStatusReply>\x02<OperId value="13013876097&#x1;"/>\x1f</invoiceStatusReply>', 'UTF8')));
SELECT value FROM crm.cursor WHERE name = 'removed';
SELECT crm.rail_tree(E'<A>\\002<b:C xmlns:b="x" Value="1&#x1;2"/>\\037<c>3</c></A>');
SELECT value ->> 'oper_id' FROM crm.cursor WHERE name = 'list:invoice';

\echo -- where the wagons are: three levels deep, and packed
UPDATE crm.integration SET settings = settings || '{"dislocation": "consignee", "okpo": ["10000018"], "stations": "985609", "documents": []}' WHERE id = 77;
SELECT pg_temp.ask();
SELECT pg_temp.answer('{"step": "dislocation", "whole": true}', pg_temp.file('soap_GetInformReply_SPV4664.xml'));
SELECT source, whole, row_count, wagons, new_operations, unread, refused FROM crm.dislocation_snapshot ORDER BY id;
SELECT g.number, n.phase, n.station, n.destination, n.distance_left_km, n.idle_minutes, n.waybill_number, w.invoice_id FROM crm.wagon_now n JOIN crm.wagon g ON g.id = n.wagon_id LEFT JOIN crm.waybill w ON w.id = n.waybill_id ORDER BY 1;
SELECT pg_temp.answer('{"step": "dislocation", "whole": true}', pg_temp.wrapped(pg_temp.file('rep_GetInformReply_SPV4664_gzip.xml')));
SELECT pg_temp.answer('{"step": "dislocation", "whole": true}', pg_temp.wrapped(pg_temp.file('rep_GetInformReply_SPV4664_error.xml')));
SELECT pg_temp.answer('{"step": "dislocation", "whole": true}', pg_temp.wrapped('<GetInformReply><ASOUP64Reply>H4sIAAAA</ASOUP64Reply></GetInformReply>')) ~ 'packed';
SELECT wagons, new_operations, refused FROM crm.dislocation_snapshot ORDER BY id OFFSET 1;

\echo -- other documents are kept as they are, by a row that says how to ask
UPDATE crm.integration SET settings = settings || '{"dislocation": "off", "documents": "claim vpu"}' WHERE id = 77;
SELECT pg_temp.forget();
SELECT pg_temp.polled('vpu');
SELECT pg_temp.ask();
SELECT pg_temp.answer('{"step": "list", "kind": "claim"}', pg_temp.wrapped(pg_temp.file('rep_claimToAgreementStatusReply.xml')));
SELECT pg_temp.polled('vpu', 'claim');
SELECT pg_temp.ask();
SELECT pg_temp.answer('{"step": "document", "kind": "claim", "id": 800000101, "oper": "24.11.2026 00:12:00"}', pg_temp.wrapped(pg_temp.file('rep_getClaimReply.xml')));
SELECT kind, document_id, last_oper, document ->> 'claimnumber' FROM crm.rail_document;

\echo -- by dates, in windows that overlap a little
UPDATE crm.integration SET settings = settings || '{"documents": ["invoice"], "cursor": "date", "window_s": 3600}' WHERE id = 77;
DELETE FROM crm.cursor WHERE name = 'list:invoice';
SELECT pg_temp.forget();
SELECT pg_temp.ask();
SELECT pg_temp.answer('{"step": "list", "kind": "invoice", "to": "2026-11-22 02:30:00+03"}', pg_temp.wrapped('<invoiceStatusReply><OperDate value="22.11.2026 02:00:00"/></invoiceStatusReply>'));
SELECT pg_temp.ask();

\echo -- a bus: no envelope, elements instead of escaped text, a token
UPDATE crm.integration SET settings = settings || '{"soap": false, "cursor": "operid", "use_mod11": false, "use_flags": []}' WHERE id = 77;
SELECT crm.set_secret('etran', 'bearer-token', 'token');
SELECT crm.set_cursor(77, 'list:invoice', '{"oper_id": 5}');
SELECT r.headers, convert_from(r.body, 'UTF8') FROM crm.rail_etran_next(77, 1) AS r;
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.file('bus_GetBlockResponse.xml'));
SELECT value ->> 'oper_id' FROM crm.cursor WHERE name = 'list:invoice';

\echo -- a refused login: nothing more is asked, until a person says so
SELECT pg_temp.answer('{"step": "list", "kind": "invoice"}', pg_temp.wrapped(pg_temp.file('rep_error_auth.xml')));
SELECT pg_temp.forget();
SELECT pg_temp.ask();
SELECT severity, message FROM crm.rail_etran_health() WHERE severity = 'error';
SELECT crm.rail_etran_resume('etran');
SELECT pg_temp.ask() IS NOT NULL;
SELECT crm.rail_etran_judge(77, ROW (1, 200, '', pg_temp.wrapped('<testReply version="1.0"/>'), NULL, true, 5, '{}')::crm.reply);
SELECT crm.rail_etran_judge(77, ROW (1, 200, '', pg_temp.wrapped(pg_temp.file('rep_error_auth.xml')), NULL, true, 5, '{}')::crm.reply);
SELECT crm.rail_etran_class(200, 'error 100 status -: 000: Дождитесь окончания предыдущего запроса'), crm.rail_etran_class(200, 'error 100 status -: ORA-01555: snapshot too old');
\echo -- a bomb: packed small, unpacked beyond the bound; a tree too deep
SAVEPOINT bomb;
SELECT crm.rail_unpack('\x789c4b4c1c05a360140c770000f1cf6d83'::bytea, 100);
ROLLBACK TO bomb;
SELECT crm.rail_tree(convert_to(repeat('<a>', 80) || repeat('</a>', 80), 'UTF8'));
ROLLBACK;
