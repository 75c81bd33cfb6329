-- party: triggers and indexes of what must be there once. State: runs once.

CREATE INDEX company_inn ON crm.company (inn) WHERE inn IS NOT NULL;
CREATE INDEX company_norm_name ON crm.company (crm.party_norm_name(name));
CREATE INDEX contact_point_value ON crm.contact_point (value, kind);
CREATE INDEX contact_point_unproved_mail ON crm.contact_point (id) WHERE kind = 'email' AND state IN ('unknown', 'stale');
CREATE INDEX contact_point_proved ON crm.contact_point (verified_at) WHERE state = 'verified';

CREATE TRIGGER contact_point_2_key_insert AFTER INSERT ON crm.contact_point
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.point_keys_insert();
COMMENT ON TRIGGER contact_point_2_key_insert ON crm.contact_point IS 'A mobile and an address belong to one contact';

CREATE TRIGGER contact_point_2_key_change AFTER UPDATE OF kind, value, contact_id ON crm.contact_point
	FOR EACH ROW WHEN (OLD.kind <> NEW.kind OR OLD.value <> NEW.value OR OLD.contact_id <> NEW.contact_id) EXECUTE FUNCTION crm.point_keys_change();
COMMENT ON TRIGGER contact_point_2_key_change ON crm.contact_point IS 'Another number is another key';

CREATE TRIGGER contact_point_2_key_delete AFTER DELETE ON crm.contact_point
	REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION crm.point_keys_delete();
COMMENT ON TRIGGER contact_point_2_key_delete ON crm.contact_point IS 'What is gone holds no key';

CREATE TRIGGER company_2_key_insert AFTER INSERT ON crm.company
	REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION crm.company_keys_insert();
COMMENT ON TRIGGER company_2_key_insert ON crm.company IS 'INN and KPP belong to one company';

CREATE TRIGGER company_2_key_change AFTER UPDATE OF name, inn, kpp ON crm.company
	FOR EACH ROW WHEN ((OLD.name, OLD.inn, OLD.kpp) IS DISTINCT FROM (NEW.name, NEW.inn, NEW.kpp)) EXECUTE FUNCTION crm.company_keys_change();
COMMENT ON TRIGGER company_2_key_change ON crm.company IS 'Another INN is another key, another name is found anew';

CREATE TRIGGER company_2_key_delete AFTER DELETE ON crm.company
	REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION crm.company_keys_delete();
COMMENT ON TRIGGER company_2_key_delete ON crm.company IS 'What is gone holds no key';

CREATE TRIGGER address_1_normal BEFORE INSERT OR UPDATE OF text, norm ON crm.address
	FOR EACH ROW EXECUTE FUNCTION crm.address_normal();
COMMENT ON TRIGGER address_1_normal ON crm.address IS 'Keeps the form that is compared';

CREATE TRIGGER company_0_requisites BEFORE INSERT OR UPDATE OF inn, kpp, source ON crm.company
	FOR EACH ROW WHEN (NEW.source = 'manual' AND (NOT crm.inn_valid(NEW.inn) OR NOT crm.kpp_valid(NEW.kpp))) EXECUTE FUNCTION crm.company_requisites();
COMMENT ON TRIGGER company_0_requisites ON crm.company IS 'A person does not enter an INN with a wrong digit';
