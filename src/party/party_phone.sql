-- Phone numbers, read by libphonenumber in a library of its own that is loaded at the first call.

CREATE OR REPLACE FUNCTION crm.phone_e164(raw text, region text DEFAULT 'RU')
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm_text', 'crm_party_phone_e164';

COMMENT ON FUNCTION crm.phone_e164(text, text) IS
'A phone number as people write it, in E.164 ("+79123456789"), without its extension. region: the country (ISO 3166, two letters) whose way of dialling is meant where the number has no country code. Error 22023, with the reason in DETAIL, for what is no number, too short, too long, two numbers at once, or a number that no line can have. The answer depends on the version of libphonenumber.';

CREATE OR REPLACE FUNCTION crm.phone_kind(e164 text)
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm_text', 'crm_party_phone_kind';

COMMENT ON FUNCTION crm.phone_kind(text) IS
'What line an E.164 number is: mobile, fixed, fixed_or_mobile (countries whose plan does not tell), toll_free, premium, voip, pager, other, or invalid. Never an error. An SMS can reach mobile and fixed_or_mobile.';
