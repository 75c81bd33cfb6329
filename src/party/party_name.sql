-- party: names and addresses as they are compared. Code: may be run any number of times.

CREATE OR REPLACE FUNCTION crm.party_norm_name(name text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_norm_name';
COMMENT ON FUNCTION crm.party_norm_name(text) IS 'A name as it is compared: small letters, Ё as Е, without legal form (ООО, «Общество с ограниченной ответственностью», LLC, …), quotes and punctuation, Latin letters that stand in a Cyrillic word for those that look the same, «торговый дом» as тд. Words keep their order; a name that is nothing but a legal form stays. The same in every locale and encoding.';

CREATE OR REPLACE FUNCTION crm.address_norm(address text) RETURNS text
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_address_norm';
COMMENT ON FUNCTION crm.address_norm(text) IS 'An address as it is compared: small letters and numbers in their order, without the postal index and the words that only name a kind (г., ул., дом, корп., Россия).';

CREATE OR REPLACE FUNCTION crm.name_grams(name text) RETURNS bigint[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_name_grams';
COMMENT ON FUNCTION crm.name_grams(text) IS 'The trigrams of a text as numbers, ascending, each once: two blanks before each word, one behind it, as in pg_trgm, but whatever the locale.';

CREATE OR REPLACE FUNCTION crm.name_similarity(one text, two text) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS '$libdir/crm', 'crm_party_name_similarity';
COMMENT ON FUNCTION crm.name_similarity(text, text) IS 'Likeness of two texts, 0 to 1: trigrams in common by trigrams in either. The order of words does not count. Give it what crm.party_norm_name made.';

CREATE OR REPLACE FUNCTION crm.similar_names(ids bigint[], names text[], threshold real, at_most integer DEFAULT 0)
	RETURNS TABLE (first_id bigint, second_id bigint, score real)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1000 AS '$libdir/crm', 'crm_party_similar_names';
COMMENT ON FUNCTION crm.similar_names(bigint[], text[], real, integer) IS 'All pairs of a list of names whose crm.name_similarity reaches a threshold (0.2 to 1), none left out, without comparing each with each: 100000 names take seconds. at_most: of the names that are no longer than it, the so many that are most like it; 0: all. At most 2000000 names. Errors: 22003 threshold or at_most, 22023 lists of two lengths, 54000 too long.';

CREATE OR REPLACE FUNCTION crm.address_normal() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.norm := CASE WHEN crm.rewriting() THEN coalesce(NEW.norm, '') ELSE crm.address_norm(NEW.text) END;
	RETURN NEW;
END
$$;
COMMENT ON FUNCTION crm.address_normal() IS 'Trigger function of crm.address, before a row is written: crm.address_norm of its text.';

SELECT crm.register_foreign_key('crm.address', 'company_id', 'crm.company', 'id', 'CASCADE');
SELECT crm.register_foreign_key('crm.address', 'place_id', 'crm.place');
SELECT crm.register_no_foreign_key('crm.address', 'source_id', 'an id of another system');
