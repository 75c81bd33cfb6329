-- Texts of messages: parts of an SMS, templates, letters.

CREATE OR REPLACE FUNCTION crm.sms_segments(body text)
RETURNS TABLE (encoding text, units integer, parts integer)
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE ROWS 1
AS '$libdir/crm', 'crm_message_sms_segments';

COMMENT ON FUNCTION crm.sms_segments(text) IS
'How an SMS text travels. encoding: GSM7 (GSM 03.38 with its extension) or UCS2; units: septets, or 16-bit code units; parts: 0 for an empty text, 1 up to 160 (70) units, else parts of 153 (67) units filled greedily, in which an escape pair or a surrogate pair is never split. The text is counted as given (compose it to NFC first). Claim 57; protocol sms, section 6.';

CREATE OR REPLACE FUNCTION crm.template_fill(template text, vars jsonb)
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm', 'crm_message_template_fill';

COMMENT ON FUNCTION crm.template_fill(text, jsonb) IS
'Replaces {{name}} by the value of that name in vars, once: a value is never read as a template. {{name|one|few|many}} writes the form of a word that follows the number (Russian: {{n|вагон|вагона|вагонов}}; two forms for English: {{n|wagon|wagons}}). Values are texts or numbers; null is an empty text. Errors: 42703 unknown variables (all of them, and the known ones in DETAIL), 42601 a broken placeholder, 22023 a value that is neither text nor number, or no number where forms of a word stand.';

CREATE OR REPLACE FUNCTION crm.template_fill_html(template text, vars jsonb)
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm', 'crm_message_template_fill_html';

COMMENT ON FUNCTION crm.template_fill_html(text, jsonb) IS
'As crm.template_fill, with the values escaped for HTML (& < > " and the apostrophe), so that data can add no tags and no links. The template itself is written as it is.';

CREATE OR REPLACE FUNCTION crm.template_variables(template text)
RETURNS text[]
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm', 'crm_message_template_variables';

COMMENT ON FUNCTION crm.template_variables(text) IS
'The names of the variables that a template uses, each once, in the order of first use; an empty array where there are none. Error 42601 for a broken placeholder, so it also checks a template that is being saved.';

CREATE OR REPLACE FUNCTION crm.mime_build(
    from_addr text, to_addr text, subject text, body_text text, body_html text,
    message_id text, date timestamptz, headers text[] DEFAULT NULL,
    attachment_names text[] DEFAULT NULL, attachment_types text[] DEFAULT NULL,
    attachments bytea[] DEFAULT NULL)
RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE
AS '$libdir/crm_text', 'crm_message_mime_build';

COMMENT ON FUNCTION crm.mime_build(text, text, text, text, text, text, timestamptz, text[], text[], text[], bytea[]) IS
'A letter as octets with CR LF: one sender and one recipient (Name <address>), subject in UTF-8, a text body, an html alternative or NULL, attachments (names may be Cyrillic: RFC 2231 and an ASCII fall-back), Message-ID (left@right), date (written in UTC), further headers "Name: value". Says Auto-Submitted: auto-generated and X-Auto-Response-Suppress: All unless headers hold an Auto-Submitted of their own. The same arguments make the same octets. Errors: 22023 line breaks or controls in a header, an invalid address, type or Message-ID; 22004 an argument that must be there; 54000 more than 50 MB. Claims 59 and 62; protocol mail, section 1.';

CREATE OR REPLACE FUNCTION crm.mail_address(address text)
RETURNS text
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS '$libdir/crm_text', 'crm_message_mail_address';

COMMENT ON FUNCTION crm.mail_address(text) IS
'The bare address of "Name <address>" as an SMTP envelope takes it: printable ASCII, the domain in punycode. Error 22023 where it is not exactly one address.';
