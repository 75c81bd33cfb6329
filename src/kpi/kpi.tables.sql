-- kpi: the catalogue of indicators and what is compiled from it. State: runs once.

CREATE TABLE crm.fact (
	name           text PRIMARY KEY,
	view           text NOT NULL,
	description_en text NOT NULL,
	description_ru text NOT NULL,
	CONSTRAINT fact_name_check CHECK (name ~ '^[a-z][a-z0-9_]{0,39}$')
);
COMMENT ON TABLE crm.fact IS 'What an indicator may count: views with the columns id and company_id, and times of type timestamptz. Rows of code, filled by crm.register_fact(), in no dump.';
COMMENT ON COLUMN crm.fact.name IS 'Name by which crm.indicator calls it.';
COMMENT ON COLUMN crm.fact.view IS 'The view, with its schema; \d+ of it lists the columns that an expression may use.';
COMMENT ON COLUMN crm.fact.description_en IS 'What one row is, in English.';
COMMENT ON COLUMN crm.fact.description_ru IS 'What one row is, in Russian.';

CREATE TABLE crm.indicator (
	code         text PRIMARY KEY,
	version      integer NOT NULL DEFAULT 1,
	"position"   integer NOT NULL DEFAULT 1000,
	name_ru      text NOT NULL,
	name_en      text NOT NULL,
	unit_ru      text NOT NULL DEFAULT '',
	unit_en      text NOT NULL DEFAULT '',
	direction    text NOT NULL DEFAULT 'more',
	additive     text NOT NULL DEFAULT 'sum',
	fact         text NOT NULL,
	predicate    text,
	time_column  text NOT NULL,
	weight       text,
	numerator    text,
	distinct_of  text,
	credit       text NOT NULL DEFAULT 'responsible',
	scale        numeric(12,4) NOT NULL DEFAULT 1,
	digits       smallint NOT NULL DEFAULT 0,
	drill        text[] NOT NULL DEFAULT '{}',
	note_ru      text NOT NULL DEFAULT '',
	note_en      text NOT NULL DEFAULT '',
	valid_from   date NOT NULL DEFAULT '2000-01-01',
	enabled      boolean NOT NULL DEFAULT true,
	switched     boolean,
	broken       text,
	author       name NOT NULL DEFAULT session_user,
	edited_at    timestamptz NOT NULL DEFAULT crm.now(),
	shipped      boolean NOT NULL DEFAULT false,
	shipped_hash text,
	CONSTRAINT indicator_code_check CHECK (code ~ '^[a-z][a-z0-9_]{0,39}$' AND code NOT IN ('rows')),
	CONSTRAINT indicator_direction_check CHECK (direction IN ('more', 'less')),
	CONSTRAINT indicator_additive_check CHECK (additive IN ('sum', 'distinct', 'ratio')),
	CONSTRAINT indicator_ratio_check CHECK ((additive = 'ratio') = (numerator IS NOT NULL)),
	CONSTRAINT indicator_distinct_check CHECK ((additive = 'distinct') = (distinct_of IS NOT NULL) AND distinct_of IN ('company', 'fact')),
	CONSTRAINT indicator_credit_check CHECK (credit IN ('responsible', 'doer')),
	CONSTRAINT indicator_digits_check CHECK (digits BETWEEN 0 AND 6),
	CONSTRAINT indicator_scale_check CHECK (scale > 0),
	CONSTRAINT indicator_texts_check CHECK (name_ru <> '' AND name_en <> '' AND length(name_ru) <= 100 AND length(name_en) <= 100
		AND length(unit_ru) <= 30 AND length(unit_en) <= 30 AND length(note_ru) <= 2000 AND length(note_en) <= 2000),
	CONSTRAINT indicator_expressions_check CHECK (length(predicate) <= 10000 AND length(weight) <= 10000 AND length(numerator) <= 10000),
	CONSTRAINT indicator_drill_check CHECK (cardinality(drill) <= 12)
);
COMMENT ON TABLE crm.indicator IS 'The catalogue of indicators: a row defines one, and its number, its rows, its view and its COMMENT come from it (kpi.md, rule 2; claims 24, 25). Checked and compiled when it is saved; an edit is a new version, the old one stays in crm.indicator_version.';
COMMENT ON COLUMN crm.indicator.code IS 'Name of the indicator: the argument of crm.kpi_rows(), and crm_bi.kpi_CODE';
COMMENT ON COLUMN crm.indicator.version IS 'Grows with each edit of the definition';
COMMENT ON COLUMN crm.indicator."position" IS 'Order in the report';
COMMENT ON COLUMN crm.indicator.name_ru IS 'Name in Russian';
COMMENT ON COLUMN crm.indicator.name_en IS 'Name in English';
COMMENT ON COLUMN crm.indicator.unit_ru IS 'Unit in Russian';
COMMENT ON COLUMN crm.indicator.unit_en IS 'Unit in English';
COMMENT ON COLUMN crm.indicator.direction IS 'more or less: which is better';
COMMENT ON COLUMN crm.indicator.additive IS 'sum: periods and people add up; distinct: each object once, so they do not; ratio: numerator by denominator, so they do not';
COMMENT ON COLUMN crm.indicator.fact IS 'What is counted (crm.fact.name)';
COMMENT ON COLUMN crm.indicator.predicate IS 'One SQL expression, boolean, over the columns of the fact: which rows count; NULL: all. Columns, constants and built-in functions only';
COMMENT ON COLUMN crm.indicator.time_column IS 'Column of the fact, timestamptz, by which a row belongs to a period';
COMMENT ON COLUMN crm.indicator.weight IS 'One SQL expression, numeric: what a row adds; NULL: 1. A row whose weight is NULL does not count';
COMMENT ON COLUMN crm.indicator.numerator IS 'For a ratio: one SQL expression, boolean: which of the counted rows are in the numerator too';
COMMENT ON COLUMN crm.indicator.distinct_of IS 'For distinct: company counts each client once, fact each row''s object once';
COMMENT ON COLUMN crm.indicator.credit IS 'responsible: to who was responsible for the client when it happened; doer: to the fact''s employee_id (kpi.md, rule 5)';
COMMENT ON COLUMN crm.indicator.scale IS 'What a ratio is multiplied by: 100 shows per cent';
COMMENT ON COLUMN crm.indicator.digits IS 'Decimals shown';
COMMENT ON COLUMN crm.indicator.drill IS 'Columns of the fact that crm.kpi_rows() shows in details';
COMMENT ON COLUMN crm.indicator.note_ru IS 'What counts and what does not, in Russian';
COMMENT ON COLUMN crm.indicator.note_en IS 'What counts and what does not, in English';
COMMENT ON COLUMN crm.indicator.valid_from IS 'Since when this version is meant to be read';
COMMENT ON COLUMN crm.indicator.enabled IS 'On or off as written (or shipped)';
COMMENT ON COLUMN crm.indicator.switched IS 'The DBA''s switch: true or false wins over enabled, and no update of the product touches it; NULL: as enabled says';
COMMENT ON COLUMN crm.indicator.broken IS 'Why it could not be compiled at activation; NULL: it was';
COMMENT ON COLUMN crm.indicator.author IS 'Login that wrote this version';
COMMENT ON COLUMN crm.indicator.edited_at IS 'Last edit, business clock';
COMMENT ON COLUMN crm.indicator.shipped IS 'Comes with the product: cannot be deleted, only switched off';
COMMENT ON COLUMN crm.indicator.shipped_hash IS 'md5 of the definition as it was shipped; while the row still has it, an update of the product replaces it';

CREATE TABLE crm.indicator_version (
	id         bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	code       text NOT NULL,
	version    integer NOT NULL,
	definition jsonb NOT NULL,
	at         timestamptz NOT NULL DEFAULT crm.now(),
	by         name NOT NULL DEFAULT session_user,
	CONSTRAINT indicator_version_key UNIQUE (code, version)
);
COMMENT ON TABLE crm.indicator_version IS 'Every definition that an indicator ever had, append-only.';
COMMENT ON COLUMN crm.indicator_version.id IS 'Number of the row';
COMMENT ON COLUMN crm.indicator_version.code IS 'Indicator (crm.indicator.code); it may be gone';
COMMENT ON COLUMN crm.indicator_version.version IS 'Version of its definition';
COMMENT ON COLUMN crm.indicator_version.definition IS 'The row''s definition in this version, without its switch';
COMMENT ON COLUMN crm.indicator_version.at IS 'When it was written, business clock';
COMMENT ON COLUMN crm.indicator_version.by IS 'Login that wrote it';

CREATE TABLE crm.kpi_parameter (
	code           text NOT NULL,
	valid_from     date NOT NULL DEFAULT '2000-01-01',
	value          numeric(18,6) NOT NULL,
	unit           text NOT NULL DEFAULT '',
	description_en text NOT NULL DEFAULT '',
	description_ru text NOT NULL DEFAULT '',
	shipped        boolean NOT NULL DEFAULT false,
	CONSTRAINT kpi_parameter_pkey PRIMARY KEY (code, valid_from),
	CONSTRAINT kpi_parameter_code_check CHECK (code ~ '^[a-z][a-z0-9_]{0,39}$')
);
COMMENT ON TABLE crm.kpi_parameter IS 'Numbers that definitions of the report use, with the day since which each holds: a new value is a new row, so that past months keep theirs. A DBA changes the plant''s by adding a row with a later valid_from.';
COMMENT ON COLUMN crm.kpi_parameter.code IS 'Name: otif_late_minutes, otif_short_percent';
COMMENT ON COLUMN crm.kpi_parameter.valid_from IS 'First business date on which it holds';
COMMENT ON COLUMN crm.kpi_parameter.value IS 'The number, in the unit beside it';
COMMENT ON COLUMN crm.kpi_parameter.unit IS 'Unit of the number';
COMMENT ON COLUMN crm.kpi_parameter.description_en IS 'What it decides, in English';
COMMENT ON COLUMN crm.kpi_parameter.description_ru IS 'What it decides, in Russian';
COMMENT ON COLUMN crm.kpi_parameter.shipped IS 'Written by crm.ship_kpi(); a row that is there is never overwritten';

CREATE TABLE crm.compiled (
	code          text PRIMARY KEY,
	version       integer NOT NULL,
	function_name text NOT NULL,
	view_name     text NOT NULL,
	compiled_at   timestamptz NOT NULL DEFAULT crm.now()
);
COMMENT ON TABLE crm.compiled IS 'What stands compiled: one function and one view for each indicator that is on, no members of the extension, owned by crm_owner. crm.activate() makes them anew from the rows; crm.drop_compiled() drops them, before DROP EXTENSION without CASCADE.';
COMMENT ON COLUMN crm.compiled.code IS 'Indicator (crm.indicator.code)';
COMMENT ON COLUMN crm.compiled.version IS 'Version that was compiled';
COMMENT ON COLUMN crm.compiled.function_name IS 'Its function f(from_at timestamptz, to_at timestamptz, zone text): the rows of a period';
COMMENT ON COLUMN crm.compiled.view_name IS 'Its view: all rows, for BI tools';
COMMENT ON COLUMN crm.compiled.compiled_at IS 'When, business clock';

CREATE TABLE crm.bi_view (
	name       text PRIMARY KEY,
	label_en   text NOT NULL,
	label_ru   text NOT NULL,
	grain_en   text NOT NULL,
	grain_ru   text NOT NULL,
	freshness  text NOT NULL DEFAULT 'live',
	drill      text,
	"position" integer NOT NULL GENERATED BY DEFAULT AS IDENTITY
);
COMMENT ON TABLE crm.bi_view IS 'Labels and grain of the views in crm_bi: rows of code, filled by crm.register_bi_view(), in no dump. crm_bi.catalog shows them.';
COMMENT ON COLUMN crm.bi_view.name IS 'The view, with its schema';
COMMENT ON COLUMN crm.bi_view.label_en IS 'Title in English';
COMMENT ON COLUMN crm.bi_view.label_ru IS 'Title in Russian';
COMMENT ON COLUMN crm.bi_view.grain_en IS 'What one row is, in English';
COMMENT ON COLUMN crm.bi_view.grain_ru IS 'What one row is, in Russian';
COMMENT ON COLUMN crm.bi_view.freshness IS 'live: as the reading statement''s snapshot sees the facts';
COMMENT ON COLUMN crm.bi_view.drill IS 'How a figure opens into its rows; NULL: the rows are the view';
COMMENT ON COLUMN crm.bi_view."position" IS 'Order of the catalogue';
