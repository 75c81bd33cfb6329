-- party: what must be there once, what looks like a duplicate, what was merged. State: runs once.

CREATE TABLE crm.party_setting (
	single boolean PRIMARY KEY DEFAULT true CHECK (single),
	stale_after interval NOT NULL DEFAULT '180 days' CHECK (stale_after BETWEEN '1 day' AND '3650 days'),
	renew_after interval NOT NULL DEFAULT '1 day' CHECK (renew_after BETWEEN '0' AND '90 days'),
	silence_after interval NOT NULL DEFAULT '3 days' CHECK (silence_after BETWEEN '1 hour' AND '90 days'),
	strikes integer NOT NULL DEFAULT 2 CHECK (strikes BETWEEN 1 AND 100),
	same_inn text NOT NULL DEFAULT 'refuse' CHECK (same_inn IN ('refuse', 'report')),
	same_phone text NOT NULL DEFAULT 'refuse' CHECK (same_phone IN ('refuse', 'report')),
	same_email text NOT NULL DEFAULT 'refuse' CHECK (same_email IN ('refuse', 'report')),
	shared_mailboxes text[] NOT NULL DEFAULT '{info,office,mail,post,sales,sale,zakaz,order,orders,buh,buhgalter,secretary,sekretar,priemnaya,zakupki,snab,snabzhenie,support,contact,contacts,admin,noreply,no-reply}',
	exempt_sources text[] NOT NULL DEFAULT '{erp}',
	alike_from real NOT NULL DEFAULT 0.5 CHECK (alike_from BETWEEN 0.3 AND 1),
	candidate_from numeric(4,3) NOT NULL DEFAULT 0.5 CHECK (candidate_from BETWEEN 0.1 AND 1),
	searched_at timestamptz,
	silence_upto bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE crm.party_setting IS 'How contact points prove themselves and what counts as a duplicate: one row, changed by UPDATE; brought by crm.activate() where it is missing';
COMMENT ON COLUMN crm.party_setting.single IS 'Always true: there is one row';
COMMENT ON COLUMN crm.party_setting.stale_after IS 'How long a proof of a contact point holds (QUAL_WINDOW of the report); after it verified becomes stale';
COMMENT ON COLUMN crm.party_setting.renew_after IS 'A proof that is younger than this is not written again by the next fact: what is sent daily costs the point one write a day';
COMMENT ON COLUMN crm.party_setting.silence_after IS 'A mailbox to which two letters were sent, and none came back within this time after the second, is verified';
COMMENT ON COLUMN crm.party_setting.strikes IS 'How many permanent failures in a row, without a proof between them, make a point invalid where one alone does not';
COMMENT ON COLUMN crm.party_setting.same_inn IS 'A second company of the same INN and KPP: refuse (SQLSTATE 23505), or report (let in, and shown in crm.duplicate_candidates)';
COMMENT ON COLUMN crm.party_setting.same_phone IS 'A second contact with the same mobile: refuse or report. Fixed lines are shared by nature and never refused';
COMMENT ON COLUMN crm.party_setting.same_email IS 'A second contact with the same address: refuse or report';
COMMENT ON COLUMN crm.party_setting.shared_mailboxes IS 'Mailboxes that are nobody''s own (the part before the @): a second contact may have one';
COMMENT ON COLUMN crm.party_setting.exempt_sources IS 'Sources whose rows are never refused, because the other system owns them; they are reported';
COMMENT ON COLUMN crm.party_setting.alike_from IS 'Likeness of two names, 0 to 1 (trigrams), from which they are a reason at all';
COMMENT ON COLUMN crm.party_setting.candidate_from IS 'Score from which a pair is kept as a candidate, 0 to 1';
COMMENT ON COLUMN crm.party_setting.silence_upto IS 'crm.contact_point.id up to which crm.letters_unreturned() has looked; written by it';
COMMENT ON COLUMN crm.party_setting.searched_at IS 'When crm.find_duplicates() ended last, business clock; NULL: never';

CREATE TABLE crm.party_key (
	kind text NOT NULL,
	value text NOT NULL COLLATE "C",
	company_id bigint,
	contact_id bigint,
	PRIMARY KEY (kind, value),
	CONSTRAINT party_key_holder_check CHECK ((company_id IS NULL) <> (contact_id IS NULL))
);
CREATE INDEX party_key_company ON crm.party_key (company_id) WHERE company_id IS NOT NULL;
CREATE INDEX party_key_contact ON crm.party_key (contact_id) WHERE contact_id IS NOT NULL;
COMMENT ON TABLE crm.party_key IS 'Who was first with a mobile, an address, an INN with its KPP: the unique key over them makes two sessions wait for each other. Kept by triggers, filled again by crm.activate(), in no dump';
COMMENT ON COLUMN crm.party_key.kind IS 'phone, email, inn';
COMMENT ON COLUMN crm.party_key.value IS 'In its one form: +79161234567, an address in small letters, INN/KPP';
COMMENT ON COLUMN crm.party_key.company_id IS 'crm.company.id that holds an INN; NULL for phone and email';
COMMENT ON COLUMN crm.party_key.contact_id IS 'crm.contact.id that holds a phone or an address; NULL for an INN';

CREATE TABLE crm.company_name (
	company_id bigint PRIMARY KEY,
	norm text NOT NULL,
	grams bigint[] NOT NULL
);
CREATE INDEX company_name_grams ON crm.company_name USING gin (grams);
COMMENT ON TABLE crm.company_name IS 'Names of companies by their trigrams, to find those that are alike. Filled behind the entry of companies, by the courier and by crm.find_duplicates(), so that no insert pays for it; in no dump';
COMMENT ON COLUMN crm.company_name.company_id IS 'crm.company.id';
COMMENT ON COLUMN crm.company_name.norm IS 'crm.party_norm_name of its name';
COMMENT ON COLUMN crm.company_name.grams IS 'crm.name_grams of that';

CREATE TABLE crm.name_gram (
	gram bigint PRIMARY KEY,
	companies bigint NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE crm.name_gram IS 'How often a trigram occurs in crm.company_name, counted when names were added: a search begins with the rarest ones. In no dump';
COMMENT ON COLUMN crm.name_gram.gram IS 'The trigram, three code points of 21 bits';
COMMENT ON COLUMN crm.name_gram.companies IS 'Companies, about';

CREATE TABLE crm.duplicate (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	object_kind text NOT NULL,
	first_id bigint NOT NULL,
	second_id bigint NOT NULL,
	score numeric(4,3) NOT NULL,
	reasons text[] NOT NULL,
	state text NOT NULL DEFAULT 'open',
	found_at timestamptz NOT NULL DEFAULT crm.now(),
	decided_at timestamptz,
	decided_by text,
	note text,
	CONSTRAINT duplicate_pair_key UNIQUE (object_kind, first_id, second_id),
	CONSTRAINT duplicate_kind_check CHECK (object_kind IN ('company', 'contact')),
	CONSTRAINT duplicate_order_check CHECK (first_id < second_id),
	CONSTRAINT duplicate_state_check CHECK (state IN ('open', 'dismissed', 'gone')),
	CONSTRAINT duplicate_note_check CHECK (length(note) <= 2000)
);
CREATE INDEX duplicate_second ON crm.duplicate (object_kind, second_id);
CREATE INDEX duplicate_open ON crm.duplicate (score) WHERE state = 'open';
COMMENT ON TABLE crm.duplicate IS 'Pairs that may be one and the same, found by crm.find_duplicates(); what a person decided about a pair stays. crm.duplicate_candidates shows those that are open';
COMMENT ON COLUMN crm.duplicate.id IS 'Our number';
COMMENT ON COLUMN crm.duplicate.object_kind IS 'company or contact';
COMMENT ON COLUMN crm.duplicate.first_id IS 'crm.company.id or crm.contact.id, the smaller one';
COMMENT ON COLUMN crm.duplicate.second_id IS 'The other one';
COMMENT ON COLUMN crm.duplicate.score IS 'How sure, 0 to 1';
COMMENT ON COLUMN crm.duplicate.reasons IS 'What speaks for it and against it, the heaviest first; no values';
COMMENT ON COLUMN crm.duplicate.state IS 'open; dismissed (a person says that they are two); gone (the reasons are no longer there)';
COMMENT ON COLUMN crm.duplicate.found_at IS 'When it was first found, business clock';
COMMENT ON COLUMN crm.duplicate.decided_at IS 'When a person decided';
COMMENT ON COLUMN crm.duplicate.decided_by IS 'Who';
COMMENT ON COLUMN crm.duplicate.note IS 'Why, in the person''s words';

CREATE TABLE crm.address (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	company_id bigint NOT NULL,
	kind text NOT NULL DEFAULT 'legal',
	text text NOT NULL,
	norm text NOT NULL,
	place_id bigint,
	source text NOT NULL DEFAULT 'manual',
	source_id text,
	created_at timestamptz NOT NULL DEFAULT crm.now(),
	CONSTRAINT address_source_key UNIQUE (source, source_id),
	CONSTRAINT address_kind_check CHECK (kind IN ('legal', 'postal', 'office', 'delivery', 'other')),
	CONSTRAINT address_text_check CHECK (text <> '' AND length(text) <= 1000),
	CONSTRAINT address_company_key UNIQUE (company_id, kind, norm)
);
CREATE INDEX address_norm ON crm.address (norm);
COMMENT ON TABLE crm.address IS 'Addresses of companies as people write them; what can be driven to is crm.place';
COMMENT ON COLUMN crm.address.id IS 'Our number';
COMMENT ON COLUMN crm.address.company_id IS 'crm.company.id';
COMMENT ON COLUMN crm.address.kind IS 'legal (by the register), postal, office, delivery, other';
COMMENT ON COLUMN crm.address.text IS 'As written';
COMMENT ON COLUMN crm.address.norm IS 'crm.address_norm of it, written by a trigger: the same address in another spelling is the same';
COMMENT ON COLUMN crm.address.place_id IS 'crm.place.id that is this address; NULL: not known';
COMMENT ON COLUMN crm.address.source IS 'Where the row comes from: manual, erp, …';
COMMENT ON COLUMN crm.address.source_id IS 'Id there, unique within the source';
COMMENT ON COLUMN crm.address.created_at IS 'When it was entered, business clock';
