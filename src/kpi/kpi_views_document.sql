-- kpi: documents for BI tools. Code: may be run again.

CREATE OR REPLACE VIEW crm_bi.document WITH (security_invoker = true) AS
	SELECT d.id AS document_id,
		d.number::varchar(40) AS number,
		d.kind::varchar(63) AS kind,
		d.document_date AS business_date,
		d.company_id AS company_id,
		c.name::varchar(500) AS company,
		d.object_kind::varchar(63) AS object_kind,
		d.object_id AS object_id,
		d.state::varchar(20) AS state,
		d.reason::varchar(2000) AS reason,
		f.file_name::varchar(255) AS file_name,
		f.bytes AS bytes,
		encode(f.sha256, 'hex')::varchar(64) AS sha256,
		f.version AS version,
		s.letters::integer AS letters,
		(s.sent_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS sent_at,
		(s.delivered_at AT TIME ZONE crm.kpi_zone())::timestamp(0) AS delivered_at,
		(crm.now() AT TIME ZONE crm.kpi_zone())::timestamp(0) AS fresh_to
	FROM crm.document d
	LEFT JOIN crm.company c ON c.id = d.company_id
	LEFT JOIN LATERAL (SELECT x.file_name, x.bytes, x.sha256, x.version FROM crm.document_file x WHERE x.document_id = d.id
		ORDER BY x.version DESC, x.format DESC LIMIT 1) f ON true
	LEFT JOIN LATERAL (SELECT count(y.message_id) AS letters, min(m.sent_at) AS sent_at, min(m.delivered_at) AS delivered_at
		FROM crm.document_sending y
		LEFT JOIN LATERAL (SELECT z.sent_at, z.delivered_at FROM crm.message z WHERE z.id = y.message_id OFFSET 0) m ON true
		WHERE y.document_id = d.id) s ON true;
COMMENT ON VIEW crm_bi.document IS 'Documents that go to counterparties, a row each, with their newest file and when it was sent; live (claim 6).';
COMMENT ON COLUMN crm_bi.document.document_id IS 'crm.document.id';
COMMENT ON COLUMN crm_bi.document.number IS 'Number, without gaps for a kind and year';
COMMENT ON COLUMN crm_bi.document.kind IS 'proposal, claim, …';
COMMENT ON COLUMN crm_bi.document.business_date IS 'Day on which it was made, plant''s zone';
COMMENT ON COLUMN crm_bi.document.company_id IS 'Whom it is for (crm.company.id)';
COMMENT ON COLUMN crm_bi.document.company IS 'Its name';
COMMENT ON COLUMN crm_bi.document.object_kind IS 'What it is about: deal, claim, …';
COMMENT ON COLUMN crm_bi.document.object_id IS 'id of what it is about';
COMMENT ON COLUMN crm_bi.document.state IS 'draft, issued, sent, accepted, rejected, cancelled';
COMMENT ON COLUMN crm_bi.document.reason IS 'Why it came to this state';
COMMENT ON COLUMN crm_bi.document.file_name IS 'Name of its newest workbook, or page where there is none';
COMMENT ON COLUMN crm_bi.document.bytes IS 'Bytes of that file';
COMMENT ON COLUMN crm_bi.document.sha256 IS 'SHA-256 of that file when it was stored, 64 digits';
COMMENT ON COLUMN crm_bi.document.version IS 'Version of that file, from 1';
COMMENT ON COLUMN crm_bi.document.letters IS 'Letters that were queued with it';
COMMENT ON COLUMN crm_bi.document.sent_at IS 'When the first of them left, plant''s zone';
COMMENT ON COLUMN crm_bi.document.delivered_at IS 'When the first of them reached its reader, plant''s zone';
COMMENT ON COLUMN crm_bi.document.fresh_to IS 'Up to when facts are in: now, plant''s zone';
SELECT crm.register_bi_view('crm_bi.document', 'Documents', 'Документы', 'one document', 'один документ', NULL);
