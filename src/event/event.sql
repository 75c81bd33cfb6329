/* event: code.  May be run again at any time. */

CREATE OR REPLACE FUNCTION crm.register_event_kind(kind text, object_kind text, variables text[], description_en text, description_ru text) RETURNS void
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	INSERT INTO crm.event_kind AS k (kind, object_kind, variables, description_en, description_ru)
	VALUES ($1, $2, $3, $4, $5)
	ON CONFLICT ON CONSTRAINT event_kind_pkey DO UPDATE
	SET object_kind = excluded.object_kind, variables = excluded.variables,
		description_en = excluded.description_en, description_ru = excluded.description_ru;
END
$$;

COMMENT ON FUNCTION crm.register_event_kind(text, text, text[], text, text) IS
'Makes a kind of event known: its name, what it happens to, the keys of its data and two descriptions. Called by the rooms'' code at install and update; a DBA''s own kinds are registered again after a restore';

CREATE OR REPLACE FUNCTION crm.event_object_kind(kind text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT k.object_kind FROM crm.event_kind k WHERE k.kind = $1 $$;

COMMENT ON FUNCTION crm.event_object_kind(text) IS 'What events of a kind happen to; NULL: no such kind';

CREATE OR REPLACE FUNCTION crm.event_check() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS '$libdir/crm', 'crm_event_check';

COMMENT ON FUNCTION crm.event_check() IS
'Refuses an event of an unknown kind (23503) or on another object than its kind says (23514); once a statement, asleep until crm.activate()';

SELECT crm.register_undumped('crm.event_kind', 'rows of code, registered by every install');
SELECT crm.register_no_foreign_key('crm.event', 'object_id', 'names a row of the table that object_kind says');
SELECT crm.register_no_foreign_key('crm.event', 'company_id', 'history, partitioned');
SELECT crm.register_no_foreign_key('crm.event', 'cause_id', 'history, partitioned; its parent has no key');
SELECT crm.register_no_foreign_key('crm.event', 'source_id', 'a number of another system');

SELECT crm.register_growing('crm.event', 'id', 'append-only; rules and funnels answer to an event in the transaction of its fact');
SELECT crm.register_partitioned('crm.event', 'known_at', 'month', ARRAY[
	'CREATE UNIQUE INDEX ON crm.%1$I (id)',
	'CREATE INDEX ON crm.%1$I (object_kind, object_id, id)',
	'CREATE INDEX ON crm.%1$I (source, source_id) WHERE source_id IS NOT NULL',
	'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON crm.%1$I FOR EACH STATEMENT EXECUTE FUNCTION crm.append_only()']);
