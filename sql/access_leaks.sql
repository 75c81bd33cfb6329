-- promise 8: nothing of another manager's client shows, by whatever way. The walk takes every relation and every function
-- from the catalogue, so that what is new is walked too: as manager A it looks for canaries of B's client in what each
-- relation and function gives and in what its errors say, and asks each function about an object of B and about one
-- that is not there: the answers must be the same. That it can find is shown by B, who owns the canaries.
\set VERBOSITY terse
\set SHOW_CONTEXT never
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = error;
SET jit = off;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms');
SELECT crm.add_integration('gate', 'x_sms_test', '', '{"sender": "CEMENT"}') > 0;
CREATE ROLE access_a LOGIN IN ROLE crm_manager;
CREATE ROLE access_b LOGIN IN ROLE crm_manager;
CREATE ROLE access_head_a LOGIN IN ROLE crm_head;
CREATE ROLE access_pool LOGIN IN ROLE crm_gateway;
INSERT INTO crm.team (id, name) VALUES (1, 'North'), (2, 'South');
INSERT INTO crm.employee (id, name, role_name, team_id, is_head) VALUES (1, 'Anna', 'access_a', 1, false), (2, 'Boris', 'access_b', 2, false), (3, 'Helen', 'access_head_a', 1, true);

-- Everything of B's has the number 777001; nothing has 888888.
\set b 777001
INSERT INTO crm.company (id, name, owner_id, inn, is_carrier) VALUES (5, 'Alpha', 1, NULL, false), (:b, 'canary company', 2, '7707083893', true);
INSERT INTO crm.contact (id, company_id, name, source, source_id) VALUES (700005, 5, 'Ann', 'manual', NULL), (:b, :b, 'canary person', 'site', 'canary id');
INSERT INTO crm.contact_point (id, contact_id, kind, value) VALUES (:b, :b, 'email', 'canary@example.com');
INSERT INTO crm.consent (id, contact_id, purpose, wording) VALUES (:b, :b, 'advertising', 'canary wording');
INSERT INTO crm.place (id, company_id, name, lon, lat) VALUES (:b, :b, 'canary place', 37.6, 55.7), (5, 5, 'Alpha''s site', 37.7, 55.8);
INSERT INTO crm.place (id, name, lon, lat, kind) VALUES (6, 'Plant', 37.0, 55.0, 'plant');
INSERT INTO crm.deal (id, funnel_id, stage_id, company_id, contact_id, owner_id, name)
	SELECT :b, s.funnel_id, s.id, :b, :b, 2, 'canary deal' FROM crm.stage s JOIN crm.funnel f ON f.id = s.funnel_id WHERE f.code = 'delivery' AND s.code = 'new';
INSERT INTO crm.task (id, name, employee_id, company_id, due_at) VALUES (:b, 'canary task', 2, :b, '2026-12-01');
INSERT INTO crm.note (id, company_id, text) VALUES (:b, :b, 'canary note');
INSERT INTO crm.vehicle (id, plate, carrier_id) VALUES (:b, 'CANARY77', :b);
INSERT INTO crm.customer_order (id, number, company_id, contact_id, place_id, deal_id, product, tonnes, ordered_at, window_to)
	VALUES (:b, 'canary order', :b, :b, :b, :b, 'Cement', 20, '2026-11-02', '2026-11-12'), (5, 'O-5', 5, 700005, 5, NULL, 'Cement', 20, '2026-11-02', '2026-11-12');
INSERT INTO crm.trip (id, vehicle_id, company_id, destination_place_id, state, loaded_at) VALUES (:b, :b, :b, :b, 'loading', '2026-11-10 08:00');
INSERT INTO crm.trip_order (trip_id, order_id) VALUES (:b, :b);
INSERT INTO crm.shipment (id, order_id, vehicle_id, trip_id, product, tare_kg, gross_kg, net_kg, weighed_at, waybill)
	VALUES (:b, :b, NULL, NULL, 'Cement', 15000, 35000, 20000, '2026-11-10 08:00', 'canary waybill'), (5, 5, NULL, NULL, 'Cement', 15000, 35000, 20000, '2026-11-10 08:00', 'W-5');
INSERT INTO crm.slot (id, order_id, trip_id, vehicle_id, carrier_id, planned_from, agreed_from, late_at, gate) VALUES (:b, :b, :b, :b, :b, '2026-11-25', '2026-11-25', '2026-11-25', 'canary gate');
INSERT INTO crm.waybill (id, company_id, order_id, source, source_id) VALUES (:b, :b, :b, 'x', 'canary');
SELECT setval(pg_get_serial_sequence('crm.message_body', 'id'), :b - 1), setval(pg_get_serial_sequence('crm.event', 'id'), :b + 1000);
SELECT crm.send('sms', '+79165550001', 'canary text', contact_id => :b) = :b;
INSERT INTO crm.event (id, kind, object_kind, object_id, company_id, at, data) VALUES (:b, 'order.created', 'customer_order', :b, :b, '2026-11-10 08:00', '{"client": "canary client"}');
CREATE FUNCTION crm.access_render(document_id bigint) RETURNS crm.document_rendering LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT ROW(NULL, 'canary page', NULL)::crm.document_rendering $$;
ALTER FUNCTION crm.access_render(bigint) OWNER TO crm_owner;
REVOKE ALL ON FUNCTION crm.access_render(bigint) FROM PUBLIC;
SELECT crm.register_document_kind('access', 'ACC', 'Акт', 'Act', 'crm.access_render');
SELECT setval(pg_get_serial_sequence('crm.document', 'id'), :b - 1);
SELECT crm.make_document('access', 'deal', :b, :b, '{"words": "canary data"}') = :b;

-- Every column that the role may read, of every relation of ours.
CREATE FUNCTION pg_temp.walk_relations() RETURNS TABLE (relation text, outcome text, seen bigint) LANGUAGE plpgsql AS $$
DECLARE
	columns text;
	rel     oid;
BEGIN
	FOR relation, rel IN
		SELECT format('%I.%I', c.relnamespace::regnamespace, c.relname), c.oid FROM pg_class c WHERE c.relnamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace)
			AND c.relkind IN ('r', 'p', 'v', 'm') ORDER BY 1
	LOOP
		SELECT string_agg(format('x.%I', a.attname), ', ' ORDER BY a.attnum) INTO columns
		FROM pg_attribute a WHERE a.attrelid = rel AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege(a.attrelid, a.attnum, 'SELECT');
		outcome := NULL;
		seen := 0;
		BEGIN
			EXECUTE format('SELECT count(*) FROM %s x WHERE ROW(%s)::text ~* ''canary|777001|7707083893|79165550001''', relation, coalesce(columns, 'x.*')) INTO seen;
			outcome := 'read';
		EXCEPTION WHEN OTHERS THEN
			outcome := CASE WHEN SQLERRM ~* 'canary' THEN 'the error shows it: ' || SQLERRM WHEN SQLSTATE = '42501' THEN 'refused' ELSE SQLERRM END;
		END;
		RETURN NEXT;
	END LOOP;
END $$;

-- Every function that the role may execute, with numbers of B's objects and with numbers of none.
CREATE FUNCTION pg_temp.walk_functions(tried text[] DEFAULT ARRAY['deal', 'ship_t', 'access', 'delivered', 'sms', 'company', 'customer_order', 'trip', '777001']) RETURNS TABLE (function text, outcome text, asked bigint) LANGUAGE plpgsql AS $$
DECLARE
	f       record;
	words   text;
	call    text;
	number  text;
	answers text[];
	said    text;
	detail  text;
	hint    text;
BEGIN
	FOR f IN
		SELECT p.oid, p.oid::regprocedure::text AS name, p.prokind, p.proretset,
			(SELECT array_agg(t.oid::regtype::text ORDER BY u.n) FROM unnest(p.proargtypes) WITH ORDINALITY u(oid, n) JOIN pg_type t ON t.oid = u.oid) AS types
		FROM pg_proc p WHERE p.pronamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace, 'crm_erp'::regnamespace)
			AND p.prokind = 'f' AND p.prorettype NOT IN ('trigger'::regtype, 'internal'::regtype) AND has_function_privilege(p.oid, 'EXECUTE')
			AND NOT 'internal'::regtype = ANY (p.proargtypes::oid[])
		ORDER BY 2
	LOOP
		function := f.name;
		asked := 0;
		outcome := NULL;
		FOREACH words IN ARRAY tried LOOP
			CONTINUE WHEN words <> 'deal' AND NOT 'text' = ANY (coalesce(f.types, '{}'));
			answers := NULL;
			FOREACH number IN ARRAY ARRAY['777001', '888888'] LOOP
				SELECT string_agg(CASE
						WHEN t = 'bigint' THEN number || '::bigint'
						WHEN t = 'bigint[]' THEN format('ARRAY[%s]::bigint[]', number)
						WHEN t = 'text' THEN quote_literal(replace(words, '777001', number))
						WHEN t = 'text[]' THEN 'ARRAY[''loading'', ''planned'', ''moving'', ''unknown'']'
						WHEN t = 'jsonb' THEN '''{}''::jsonb'
						WHEN t = 'jsonb[]' THEN 'ARRAY[''{}'']::jsonb[]'
						WHEN t = 'date' THEN CASE n % 2 WHEN 0 THEN '''2026-11-01''::date' ELSE '''2026-12-01''::date' END
						WHEN t LIKE 'timestamp%' THEN format('''2026-11-%s''::%s', 10 + n, t)
						WHEN t = 'interval' THEN '''1 hour''::interval'
						WHEN t = 'boolean' THEN 'true'
						WHEN t IN ('integer', 'smallint', 'numeric', 'double precision', 'real') THEN '1::' || t
						WHEN t = 'bytea' THEN '''\x00''::bytea'
						ELSE 'NULL::' || t END, ', ' ORDER BY n)
				INTO call FROM unnest(f.types) WITH ORDINALITY AS u(t, n);
				call := format('SELECT string_agg(x::text, '' | '') FROM %s(%s) x', split_part(f.name, '(', 1), coalesce(call, ''));
				BEGIN
					EXECUTE call INTO said;
					RAISE EXCEPTION USING ERRCODE = 'ZZ001', MESSAGE = 'answered: ' || coalesce(said, 'NULL');	-- and nothing of it stays
				EXCEPTION WHEN OTHERS THEN
					GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
					said := concat_ws(' / ', said, detail, hint);
				END;
				asked := asked + 1;
				IF said ~* 'canary|7707083893|79165550001' THEN
					outcome := 'shows it: ' || call || ' -> ' || left(said, 300);
				END IF;
				answers := answers || replace(said, number, 'N');
			END LOOP;
			IF answers[1] <> answers[2] AND words <> '777001' AND function !~ '^crm\.(clock|monotonic_ms)\(' THEN
				outcome := coalesce(outcome, format('tells that it is there: %s -> %s, but %s', call, left(answers[1], 200), left(answers[2], 200)));
			END IF;
		END LOOP;
		RETURN NEXT;
	END LOOP;
END $$;

\echo relations in which manager A, the head of A, a silent pooled login and the pool speaking for A find a canary, or an error shows one
SELECT crm.issue_ticket(1, 'access_pool') AS ticket \gset
SET LOCAL SESSION AUTHORIZATION access_a;
CREATE TEMP TABLE walked AS SELECT 'a' AS who, * FROM pg_temp.walk_relations();
SELECT who, relation, outcome, seen FROM walked WHERE seen > 0 OR outcome NOT IN ('read', 'refused');
SET LOCAL SESSION AUTHORIZATION access_head_a;
SELECT relation, outcome, seen FROM pg_temp.walk_relations() WHERE seen > 0 OR outcome NOT IN ('read', 'refused');
SET LOCAL SESSION AUTHORIZATION access_pool;
SELECT relation, outcome, seen FROM pg_temp.walk_relations() WHERE seen > 0 OR outcome NOT IN ('read', 'refused');
SELECT count(*) FROM crm.employee;
SELECT count(*) FROM crm.company;
SELECT count(*) FROM crm.place;
SELECT crm.act_as(1, :'ticket');
SELECT relation, outcome, seen FROM pg_temp.walk_relations() WHERE seen > 0 OR outcome NOT IN ('read', 'refused');
SELECT count(*) FROM crm.company;
RESET SESSION AUTHORIZATION;
\echo where B finds his own: the walk can find
SET LOCAL SESSION AUTHORIZATION access_b;
SELECT relation FROM pg_temp.walk_relations() WHERE seen > 0;
RESET SESSION AUTHORIZATION;
\echo partitions that anybody but their owner may touch
SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) a WHERE c.relispartition AND c.relnamespace = 'crm'::regnamespace AND a.grantee <> c.relowner;
\echo tables that a person may read or write and that are not under row-level security, but for settings of the plant
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'crm'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity
	AND EXISTS (SELECT FROM unnest(ARRAY['crm_manager', 'crm_head', 'crm_gateway']) r WHERE has_any_column_privilege(r, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(r, c.oid, 'DELETE'))
ORDER BY c.oid::regclass::text COLLATE "C";
\echo views that a person may read and that run as their owner
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace IN ('crm'::regnamespace, 'crm_bi'::regnamespace) AND c.relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)
	AND EXISTS (SELECT FROM unnest(ARRAY['crm_manager', 'crm_head', 'crm_gateway']) r WHERE has_any_column_privilege(r, c.oid, 'SELECT'))
ORDER BY c.oid::regclass::text COLLATE "C";

\echo functions that show a canary to manager A or to the head of A, or tell what is there from what is not
SET LOCAL SESSION AUTHORIZATION access_a;
CREATE TEMP TABLE asked AS SELECT * FROM pg_temp.walk_functions();
SELECT function, outcome FROM asked WHERE outcome IS NOT NULL;
SELECT count(*) > 60 AS many, sum(asked) > 200 AS calls FROM asked;
SET LOCAL SESSION AUTHORIZATION access_head_a;
SELECT function, outcome FROM pg_temp.walk_functions() WHERE outcome IS NOT NULL;
RESET SESSION AUTHORIZATION;
\echo what B gets from functions: the walk can find there too
SET LOCAL SESSION AUTHORIZATION access_b;
SELECT function FROM pg_temp.walk_functions(ARRAY['deal', 'ship_t']) WHERE outcome IS NOT NULL;
RESET SESSION AUTHORIZATION;
ROLLBACK;
