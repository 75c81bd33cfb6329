-- A provider that repeats what it was called with tells nobody: its words are masked wherever they are kept, and it speaks of its own messages only.
\set SHOW_CONTEXT never
\set VERBOSITY terse
\set ON_ERROR_ROLLBACK on
\pset format unaligned
\pset tuples_only on
SET datestyle = 'ISO, YMD';
SET timezone = 'UTC';
SET client_min_messages = warning;
BEGIN;
SELECT crm.set_now('2026-11-24 09:00Z', 0);
SELECT crm.activate('live');
CREATE SCHEMA k;
GRANT USAGE ON SCHEMA k TO crm_courier, crm_integrator;
SELECT crm.register_kind('x_words', NULL, NULL, channel => 'sms');
-- 'in a file' in other words: 17 bytes, so that base64 has a rest
SELECT crm.add_integration('one', 'x_words', '', '{"sender": "CEMENT", "retry_ms": 1, "max_attempts": 1}', 'canary+7f3a/9=q') AS one \gset
SELECT crm.add_integration('two', 'x_words', '', '{"sender": "CEMENT"}', 'other-secret-2') AS two \gset
SELECT crm.set_secret('one', 'file:' || current_setting('data_directory') || '/integration_words.test', 'file');
COPY (SELECT 'sparrow-in-a-file') TO PROGRAM 'cat > integration_words.test';
CREATE VIEW pg_temp.canary AS SELECT f FROM unnest(ARRAY['canary+7f3a/9=q', 'canary%2B7f3a%2F9%3Dq', 'canary%2b7f3a%2f9%3dq', 'canary+7f3a\/9=q',
	encode('canary+7f3a/9=q', 'base64'), encode('user:canary+7f3a/9=q', 'base64'), encode('us:canary+7f3a/9=q;and more', 'base64'), encode('usr:canary+7f3a/9=q', 'base64'),
	translate(encode('user:canary+7f3a/9=q', 'base64'), '+/=', '-_'), 'sparrow-in-a-file', encode('sparrow-in-a-file', 'base64'), encode('u:sparrow-in-a-file', 'base64')]) f;
SELECT string_agg(f, ' ') AS said FROM pg_temp.canary \gset
SELECT f, convert_from(crm.masked(:one, convert_to('<' || f || '>', 'UTF8')), 'UTF8') FROM pg_temp.canary;
\echo in tries, results, events, reports, what is rejected
SELECT count(crm.send('sms', '+79161234567', b, integration => 'one')) FROM unnest(ARRAY['a', 'b', 'c', 'd', 'e']) b;
SELECT count(*) FROM crm.outbox_take(:one, 10);
SELECT crm.outbox_result(:one, array_agg(b.id ORDER BY b.id), array_agg((ARRAY['failed', 'retry', 'sent', 'delivered', 'uncertain'])[ascii(b.body) - 96] ORDER BY b.id),
	array_agg('p-' || b.body ORDER BY b.id), array_agg(b.body || ': login ' || :'said' || ' is wrong' ORDER BY b.id))
FROM crm.message_body b;
CREATE FUNCTION k.judge(integration_id bigint, reply crm.reply) RETURNS text LANGUAGE sql AS
	$$ SELECT coalesce(crm.message_report(NULL, 'undelivered', ($2).context ->> 'id', ($2).context ->> 'words', crm.now())::text, 'kept') $$;
CREATE FUNCTION k.reject(integration_id bigint, reply crm.reply) RETURNS text LANGUAGE sql AS
	$$ SELECT crm.reject((($2).context ->> 'of')::bigint, 'a reply', 'it said ' || (($2).context ->> 'words'), NULL, convert_to(($2).context ->> 'words', 'UTF8')) IS NOT NULL $$;
CREATE FUNCTION k.complete(integration_id bigint, reply crm.reply) RETURNS text LANGUAGE sql AS
	$$ SELECT crm.record_completeness((($2).context ->> 'of')::bigint, '[2026-03-01,2026-03-02)', 10, 9, 1)::text $$;
CREATE ROLE integration_words_author LOGIN IN ROLE crm_integrator;
ALTER FUNCTION k.judge OWNER TO integration_words_author;
ALTER FUNCTION k.reject OWNER TO integration_words_author;
ALTER FUNCTION k.complete OWNER TO integration_words_author;
CREATE FUNCTION pg_temp.within(f text, i bigint, context jsonb) RETURNS text LANGUAGE sql AS
	$$ SELECT crm.call_judge('k.' || f, i, ROW (1, 200, '', NULL, NULL, true, 1, context)::crm.reply, 1000) $$;
SELECT pg_temp.within('judge', :one, jsonb_build_object('id', 'p-c', 'words', 'report ' || :'said'));
SELECT pg_temp.within('judge', :one, jsonb_build_object('id', 'p-unknown', 'words', 'early ' || :'said'));
SELECT pg_temp.within('reject', :one, jsonb_build_object('of', :one, 'words', 'bytes ' || :'said'));
SELECT pg_temp.within('reject', :one, jsonb_build_object('words', 'of nobody ' || :'said'));
SELECT body, state, last_error FROM crm.message ORDER BY body;
SELECT data ->> 'body', data ->> 'words' FROM crm.event WHERE kind LIKE 'message.%' ORDER BY 1;
SELECT words FROM crm.message_attempt WHERE outcome = 'report';
SELECT words FROM crm.message_report_early;
SELECT what, reason, convert_from(bytes, 'UTF8') FROM crm.rejected ORDER BY id;
SELECT t.what FROM (SELECT 'attempt', string_agg(a::text, ' ') FROM crm.message_attempt a UNION ALL SELECT 'result', string_agg(a::text, ' ') FROM crm.message_result a
	UNION ALL SELECT 'event', string_agg(a::text, ' ') FROM crm.event a UNION ALL SELECT 'early', string_agg(a::text, ' ') FROM crm.message_report_early a
	UNION ALL SELECT 'rejected', string_agg(a::text || convert_from(a.bytes, 'UTF8'), ' ') FROM crm.rejected a
	UNION ALL SELECT 'why', string_agg(crm.why(b.id), ' ') FROM crm.message_body b) AS t(what, words), pg_temp.canary c
WHERE strpos(t.words, c.f) > 0;
\echo many words: each in its place, none made of nothing
SELECT crm.masked_words(:one, ARRAY['x canary+7f3a/9=q', NULL, 'y', 'x canary+7f3a/9=q', '']), crm.masked_words(:one, ARRAY[NULL, NULL]), crm.masked_words(:one, NULL::text[]) IS NULL,
	crm.masked_words(:one, '{}'::text[]), crm.masked_words(:two, ARRAY['canary+7f3a/9=q']);
\echo an early report of another integration
SELECT count(crm.send('sms', '+79161234567', b, integration => 'two')) FROM unnest(ARRAY['f', 'g']) b;
SELECT count(*) FROM crm.outbox_take(:two, 10);
SELECT pg_temp.within('judge', :one, '{"id": "n-f", "words": "of one"}'), pg_temp.within('judge', :two, '{"id": "n-g", "words": "of two"}');
SELECT crm.outbox_result(:two, array_agg(b.id ORDER BY b.id), array_agg('sent'::text), array_agg('n-' || b.body ORDER BY b.id), NULL) FROM crm.message_body b WHERE b.integration_id = :two;
SELECT body, state, last_error FROM crm.message WHERE integration_id = :two ORDER BY body;
SELECT provider_id FROM crm.message_report_early ORDER BY 1;
\echo another integration than the one of the call, and a login without a call
\set VERBOSITY sqlstate
SELECT pg_temp.within('reject', :one, jsonb_build_object('of', :two, 'words', 'x'));
SELECT pg_temp.within('complete', :one, jsonb_build_object('of', :two));
SELECT pg_temp.within('complete', :one, jsonb_build_object('of', :one));
SELECT min(id) AS g FROM crm.message_body WHERE integration_id = :two \gset
SET LOCAL SESSION AUTHORIZATION integration_words_author;
\set VERBOSITY terse
SELECT crm.message_report(:g, 'delivered', NULL, NULL, NULL);
\set VERBOSITY sqlstate
SELECT crm.message_report(NULL, 'delivered', 'n-f', NULL, NULL);
SELECT crm.reject(:one, 'a', 'b');
SELECT crm.record_completeness(:one, '[2026-03-01,2026-03-02)', 10, 10);
SELECT crm.masked_words(:one, ARRAY['canary']);
SELECT crm.secrets_of(:one);
SELECT crm.message_told(:two, :g, 'delivered', NULL, NULL, NULL);
RESET SESSION AUTHORIZATION;
\echo a person who resolves needs no call
CREATE ROLE integration_words_head LOGIN IN ROLE crm_head;
INSERT INTO crm.employee (name, role_name, is_head) VALUES ('Head', 'integration_words_head', true);
SET LOCAL SESSION AUTHORIZATION integration_words_head;
SELECT crm.message_resolve(id, 'delivered') FROM crm.message WHERE body = 'e';
RESET SESSION AUTHORIZATION;
SELECT state FROM crm.message WHERE body = 'e';
COPY (SELECT 1) TO PROGRAM 'rm -f integration_words.test; cat > /dev/null';
ROLLBACK;
