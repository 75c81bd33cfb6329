/*
 * shipping, by rail: waybills and their wagons, where wagons are, the codes of
 * the railway, and how reports about wagons are read.
 *
 * A waybill is known by the id that ETRAN gives it, whichever of our logins
 * sees it; its number is used again over the years.  A wagon of a waybill
 * arrives once and belongs to one arrival: an arrival is what is announced.
 */

-- without SET here and in shipping_rail.sql where a set of rows calls it: so it is inlined
CREATE FUNCTION crm.waybill_number(number text) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
	SELECT nullif(translate(regexp_replace($1, '[[:space:]]+', '', 'g'),
		'abcehkmoptxyABCEHKMOPTXYабвгдеёжзийклмнопрстуфхцчшщъыьэюя',
		'АВСЕНКМОРТХУАВСЕНКМОРТХУАБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ'), '');
END;
COMMENT ON FUNCTION crm.waybill_number(text) IS 'Number of a railway waybill as it is compared: without blanks, in capitals, Latin look-alikes as Cyrillic (protocol etran, section 5); NULL for an empty one';

CREATE TABLE crm.rail_setting (
	single boolean PRIMARY KEY DEFAULT true CHECK (single),
	time_zone text NOT NULL DEFAULT 'Europe/Moscow',
	arrival_wait interval NOT NULL DEFAULT '30 minutes' CHECK (arrival_wait BETWEEN '0' AND '2 days'),
	late_news interval NOT NULL DEFAULT '24 hours' CHECK (late_news BETWEEN '1 hour' AND '30 days'),
	lost_percent integer NOT NULL DEFAULT 50 CHECK (lost_percent BETWEEN 1 AND 100),
	snapshot_age interval NOT NULL DEFAULT '6 hours' CHECK (snapshot_age BETWEEN '10 minutes' AND '30 days'),
	order_by text[] NOT NULL DEFAULT '{shipment,claim}' CHECK (order_by <@ '{shipment,claim}'),
	waybill_from_dislocation boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE crm.rail_setting IS 'How deliveries by rail are judged: one row, changed by UPDATE; brought by crm.activate() where it is missing';
COMMENT ON COLUMN crm.rail_setting.single IS 'Always true: there is one row';
COMMENT ON COLUMN crm.rail_setting.time_zone IS 'Zone of times without a zone in reports about wagons (the railway keeps Moscow time)';
COMMENT ON COLUMN crm.rail_setting.arrival_wait IS 'How long the wagons of a waybill that arrived wait for the rest before they are announced; those that come later are an arrival of their own';
COMMENT ON COLUMN crm.rail_setting.late_news IS 'What happened longer ago than this when we learn of it is no news: its event says late = 1 and the rules that ship send nothing';
COMMENT ON COLUMN crm.rail_setting.lost_percent IS 'A snapshot that lost more than so many per cent of the wagons of the one before is refused';
COMMENT ON COLUMN crm.rail_setting.snapshot_age IS 'crm.health warns when the newest snapshot of a source is older than this';
COMMENT ON COLUMN crm.rail_setting.order_by IS 'How the order of a waybill is found, in turn: shipment (a weighed wagon with this number of waybill), claim (an order with the number of the claim GU-12, as far as the hyphen)';
COMMENT ON COLUMN crm.rail_setting.waybill_from_dislocation IS 'True: a waybill that only reports about wagons name is kept too, and becomes ETRAN''s when that comes';

CREATE TABLE crm.rail_state (
	words text NOT NULL CHECK (words <> '' AND length(words) <= 200),
	phase text NOT NULL,
	shipped boolean NOT NULL DEFAULT false,
	CONSTRAINT rail_state_pkey PRIMARY KEY (words, shipped),
	CONSTRAINT rail_state_phase_check CHECK (phase IN ('draft', 'presented', 'accepted', 'moving', 'arrived', 'notified', 'delivered', 'reverted', 'dead', 'unknown'))
);
COMMENT ON TABLE crm.rail_state IS 'What the states of a waybill mean, by their text. The rows of the extension are code; a DBA''s row of the same words wins and is dumped. Protocol etran, section 5.1';
COMMENT ON COLUMN crm.rail_state.words IS 'The state''s text in small letters, ё written е';
COMMENT ON COLUMN crm.rail_state.phase IS 'draft, presented, accepted, moving, arrived, notified, delivered, reverted, dead, unknown';
COMMENT ON COLUMN crm.rail_state.shipped IS 'True for a row that came with the extension: it is not dumped, and an update replaces it';

CREATE TABLE crm.wagon_operation (
	code text NOT NULL CHECK (code ~ '^[0-9]{1,4}$'),
	name text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
	phase text,
	shipped boolean NOT NULL DEFAULT false,
	CONSTRAINT wagon_operation_pkey PRIMARY KEY (code, shipped),
	CONSTRAINT wagon_operation_phase_check CHECK (phase IN ('loading', 'moving', 'standing', 'abandoned', 'arrived', 'unloaded', 'empty', 'broken', 'gone'))
);
COMMENT ON TABLE crm.wagon_operation IS 'Operations with wagons by their code. The rows of the extension are code; a DBA''s row of the same code wins and is dumped. Protocol etran, section 7';
COMMENT ON COLUMN crm.wagon_operation.code IS 'Code as the railway writes it, not padded';
COMMENT ON COLUMN crm.wagon_operation.name IS 'Name in Russian; empty: not known';
COMMENT ON COLUMN crm.wagon_operation.phase IS 'Phase of crm.wagon_now that the operation proves; NULL: by the other facts';
COMMENT ON COLUMN crm.wagon_operation.shipped IS 'True for a row that came with the extension: it is not dumped, and an update replaces it';

CREATE TABLE crm.station (
	code text PRIMARY KEY CHECK (code ~ '^[0-9]{6}$'),
	name text NOT NULL CHECK (name <> '' AND length(name) <= 200),
	railway text CHECK (length(railway) <= 100),
	source text NOT NULL DEFAULT 'manual',
	created_at timestamptz NOT NULL DEFAULT crm.now()
);
COMMENT ON TABLE crm.station IS 'Railway stations (ESR): learnt from waybills, or loaded by crm.load_stations()';
COMMENT ON COLUMN crm.station.code IS 'Six digits, the last the check digit (crm.station_code_ok)';
COMMENT ON COLUMN crm.station.name IS 'Name';
COMMENT ON COLUMN crm.station.railway IS 'Code or name of the railway; NULL: not known';
COMMENT ON COLUMN crm.station.source IS 'manual (loaded: it wins) or the kind of integration that named it';
COMMENT ON COLUMN crm.station.created_at IS 'When we learned of it';

CREATE TABLE crm.rail_party (
	okpo text PRIMARY KEY CHECK (okpo ~ '^([0-9]{8}|[0-9]{10})$'),
	company_id bigint NOT NULL
);
COMMENT ON TABLE crm.rail_party IS 'Which company a sender or consignee is, by its OKPO; where none is said here, the name decides if just one company has it';
COMMENT ON COLUMN crm.rail_party.okpo IS 'OKPO, 8 or 10 digits as text: leading zeros matter';
COMMENT ON COLUMN crm.rail_party.company_id IS 'crm.company.id';
CREATE INDEX rail_party_company ON crm.rail_party (company_id);

CREATE TABLE crm.waybill (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	source text NOT NULL DEFAULT 'etran' CHECK (source <> '' AND length(source) <= 100),
	source_id text NOT NULL CHECK (source_id <> '' AND length(source_id) <= 100),
	integration_id bigint,
	invoice_id bigint,
	number text CHECK (length(number) <= 40),
	state_id integer,
	state text CHECK (length(state) <= 200),
	phase text NOT NULL DEFAULT 'unknown',
	kind text CHECK (length(kind) <= 200),
	sender_okpo text CHECK (length(sender_okpo) <= 20),
	sender_name text CHECK (length(sender_name) <= 500),
	consignee_okpo text CHECK (length(consignee_okpo) <= 20),
	consignee_name text CHECK (length(consignee_name) <= 500),
	company_id bigint,
	order_id bigint,
	from_station text CHECK (length(from_station) <= 20),
	to_station text CHECK (length(to_station) <= 20),
	cargo_code text CHECK (length(cargo_code) <= 20),
	cargo_name text CHECK (length(cargo_name) <= 500),
	weight_kg numeric(14,3),
	wagon_count integer NOT NULL DEFAULT 0,
	claim_number text CHECK (length(claim_number) <= 60),
	written_at timestamptz,
	load_at timestamptz,
	accepted_at timestamptz,
	departed_at timestamptz,
	expires_at timestamptz,
	arrived_at timestamptz,
	notified_at timestamptz,
	notice_number text CHECK (length(notice_number) <= 60),
	delivered_at timestamptz,
	last_oper timestamptz,
	document_hash bytea,
	version integer NOT NULL DEFAULT 0,
	departed_told_at timestamptz,
	notified_told_at timestamptz,
	late_told_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT crm.now(),
	changed_at timestamptz NOT NULL DEFAULT crm.now(),
	CONSTRAINT waybill_source_key UNIQUE (source, source_id),
	CONSTRAINT waybill_phase_check CHECK (phase IN ('draft', 'presented', 'accepted', 'moving', 'arrived', 'notified', 'delivered', 'reverted', 'dead', 'unknown'))
);
COMMENT ON TABLE crm.waybill IS 'Railway waybills as ETRAN last said; earlier versions are in crm.waybill_version. The phase may go back (раскредитование отменено). Claim 51, protocol etran';
COMMENT ON COLUMN crm.waybill.id IS 'Our number';
COMMENT ON COLUMN crm.waybill.source IS 'etran (setting source of the integration), or dislocation where only reports about wagons name it';
COMMENT ON COLUMN crm.waybill.source_id IS 'invoiceID there; for dislocation number and day of the start of the trip';
COMMENT ON COLUMN crm.waybill.integration_id IS 'crm.integration.id that said it last; NULL: brought by hand';
COMMENT ON COLUMN crm.waybill.invoice_id IS 'invoiceID of ETRAN; NULL: not from there yet';
COMMENT ON COLUMN crm.waybill.number IS 'Number with Latin look-alikes as Cyrillic; used again over the years; NULL: a draft';
COMMENT ON COLUMN crm.waybill.state_id IS 'invoiceStateID: the railway''s number of the state';
COMMENT ON COLUMN crm.waybill.state IS 'invoiceState: the state in words';
COMMENT ON COLUMN crm.waybill.phase IS 'What the state means (crm.rail_state): draft, presented, accepted, moving, arrived, notified, delivered, reverted, dead, unknown';
COMMENT ON COLUMN crm.waybill.kind IS 'Kind of the document in words';
COMMENT ON COLUMN crm.waybill.sender_okpo IS 'OKPO of the sender, padded to 8 digits';
COMMENT ON COLUMN crm.waybill.sender_name IS 'Name of the sender';
COMMENT ON COLUMN crm.waybill.consignee_okpo IS 'OKPO of the consignee, padded to 8 digits';
COMMENT ON COLUMN crm.waybill.consignee_name IS 'Name of the consignee';
COMMENT ON COLUMN crm.waybill.company_id IS 'crm.company.id of the client: the order''s, else the consignee by crm.rail_party or name; NULL: nobody we know';
COMMENT ON COLUMN crm.waybill.order_id IS 'crm.customer_order.id found by crm.rail_setting.order_by; NULL: none';
COMMENT ON COLUMN crm.waybill.from_station IS 'Station of departure, six digits (crm.station.code)';
COMMENT ON COLUMN crm.waybill.to_station IS 'Station of destination, six digits';
COMMENT ON COLUMN crm.waybill.cargo_code IS 'Cargo by ETSNG';
COMMENT ON COLUMN crm.waybill.cargo_name IS 'Cargo in words, the exact name where one is given';
COMMENT ON COLUMN crm.waybill.weight_kg IS 'Weight of the cargo, kg';
COMMENT ON COLUMN crm.waybill.wagon_count IS 'Wagons on it';
COMMENT ON COLUMN crm.waybill.claim_number IS 'Number of the claim GU-12 (of the loaded or of the empty run)';
COMMENT ON COLUMN crm.waybill.written_at IS 'invDateCreate: when the document was made';
COMMENT ON COLUMN crm.waybill.load_at IS 'When it was or is to be loaded';
COMMENT ON COLUMN crm.waybill.accepted_at IS 'invDateReady: accepted for carriage';
COMMENT ON COLUMN crm.waybill.departed_at IS 'invDateDeparture';
COMMENT ON COLUMN crm.waybill.expires_at IS 'invDateExpire: end of the delivery term';
COMMENT ON COLUMN crm.waybill.arrived_at IS 'invDateArrive';
COMMENT ON COLUMN crm.waybill.notified_at IS 'invDateNotification: consignee notified';
COMMENT ON COLUMN crm.waybill.notice_number IS 'invNotification: number of the notice';
COMMENT ON COLUMN crm.waybill.delivered_at IS 'invDateDelivery or invDateRaskrEl: handed over';
COMMENT ON COLUMN crm.waybill.last_oper IS 'invLastOper of the document that is stored; NULL: no document yet';
COMMENT ON COLUMN crm.waybill.document_hash IS 'SHA-256 of that document';
COMMENT ON COLUMN crm.waybill.version IS 'How many different documents came; 0: none';
COMMENT ON COLUMN crm.waybill.departed_told_at IS 'When waybill.departed was emitted';
COMMENT ON COLUMN crm.waybill.notified_told_at IS 'When waybill.notified was emitted';
COMMENT ON COLUMN crm.waybill.late_told_at IS 'When waybill.late was emitted';
COMMENT ON COLUMN crm.waybill.created_at IS 'When we learned of it';
COMMENT ON COLUMN crm.waybill.changed_at IS 'When what we know of it last changed';
CREATE INDEX waybill_number_idx ON crm.waybill (number, created_at);
CREATE INDEX waybill_open ON crm.waybill (expires_at) WHERE late_told_at IS NULL AND arrived_at IS NULL AND expires_at IS NOT NULL AND phase IN ('accepted', 'moving');
CREATE INDEX waybill_company ON crm.waybill (company_id);
CREATE INDEX waybill_order ON crm.waybill (order_id) WHERE order_id IS NOT NULL;

CREATE TABLE crm.waybill_version (
	waybill_id bigint NOT NULL,
	version integer NOT NULL,
	last_oper timestamptz,
	hash bytea NOT NULL,
	document jsonb NOT NULL,
	known_at timestamptz NOT NULL DEFAULT crm.now(),
	CONSTRAINT waybill_version_pkey PRIMARY KEY (waybill_id, version),
	CONSTRAINT waybill_version_hash_key UNIQUE (waybill_id, hash)
);
COMMENT ON TABLE crm.waybill_version IS 'Every different document that came for a waybill, as a tree of names in small letters';
COMMENT ON COLUMN crm.waybill_version.waybill_id IS 'crm.waybill.id';
COMMENT ON COLUMN crm.waybill_version.version IS '1, 2, … in the order in which they came';
COMMENT ON COLUMN crm.waybill_version.last_oper IS 'invLastOper';
COMMENT ON COLUMN crm.waybill_version.hash IS 'SHA-256 of the document';
COMMENT ON COLUMN crm.waybill_version.document IS 'The whole document';
COMMENT ON COLUMN crm.waybill_version.known_at IS 'When it came, business clock';

CREATE TABLE crm.waybill_wagon (
	waybill_id bigint NOT NULL,
	wagon_id bigint NOT NULL,
	"position" integer,
	net_kg numeric(14,3),
	gross_kg numeric(14,3),
	capacity_t numeric(10,3),
	tare_t numeric(10,3),
	seals text[] NOT NULL DEFAULT '{}',
	containers text[] NOT NULL DEFAULT '{}',
	arrived_at timestamptz,
	arrival_known_at timestamptz,
	arrival_id bigint,
	removed_at timestamptz,
	CONSTRAINT waybill_wagon_pkey PRIMARY KEY (waybill_id, wagon_id)
);
COMMENT ON TABLE crm.waybill_wagon IS 'Wagons of a waybill';
COMMENT ON COLUMN crm.waybill_wagon.waybill_id IS 'crm.waybill.id';
COMMENT ON COLUMN crm.waybill_wagon.wagon_id IS 'crm.wagon.id';
COMMENT ON COLUMN crm.waybill_wagon."position" IS 'carOrder: place in the document';
COMMENT ON COLUMN crm.waybill_wagon.net_kg IS 'Weight of the cargo, kg';
COMMENT ON COLUMN crm.waybill_wagon.gross_kg IS 'Gross, kg';
COMMENT ON COLUMN crm.waybill_wagon.capacity_t IS 'carTonnage: carrying capacity, tonnes';
COMMENT ON COLUMN crm.waybill_wagon.tare_t IS 'carWeightDep: tare, tonnes';
COMMENT ON COLUMN crm.waybill_wagon.seals IS 'Marks of the seals';
COMMENT ON COLUMN crm.waybill_wagon.containers IS 'Numbers of the containers on it';
COMMENT ON COLUMN crm.waybill_wagon.arrived_at IS 'When it arrived, by the waybill or by reports about wagons';
COMMENT ON COLUMN crm.waybill_wagon.arrival_known_at IS 'When we learned of its arrival, business clock';
COMMENT ON COLUMN crm.waybill_wagon.arrival_id IS 'crm.waybill_arrival.id with which it was announced; NULL: not yet';
COMMENT ON COLUMN crm.waybill_wagon.removed_at IS 'When a later document no longer named it; NULL: it is on the waybill';
CREATE INDEX waybill_wagon_wagon ON crm.waybill_wagon (wagon_id);
CREATE INDEX waybill_wagon_arriving ON crm.waybill_wagon (waybill_id) WHERE arrived_at IS NOT NULL AND arrival_id IS NULL AND removed_at IS NULL;

CREATE TABLE crm.waybill_arrival (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	waybill_id bigint NOT NULL,
	number integer NOT NULL,
	arrived_at timestamptz NOT NULL,
	wagon_count integer NOT NULL,
	told_at timestamptz NOT NULL DEFAULT crm.now(),
	CONSTRAINT waybill_arrival_key UNIQUE (waybill_id, number)
);
COMMENT ON TABLE crm.waybill_arrival IS 'Wagons of a waybill that arrived together: one row, one event waybill.arrived, one message. Its key is what makes the announcement happen once';
COMMENT ON COLUMN crm.waybill_arrival.id IS 'Our number';
COMMENT ON COLUMN crm.waybill_arrival.waybill_id IS 'crm.waybill.id';
COMMENT ON COLUMN crm.waybill_arrival.number IS '1, 2, … of its waybill';
COMMENT ON COLUMN crm.waybill_arrival.arrived_at IS 'When the first of its wagons arrived';
COMMENT ON COLUMN crm.waybill_arrival.wagon_count IS 'Wagons announced';
COMMENT ON COLUMN crm.waybill_arrival.told_at IS 'When it was announced, business clock';

CREATE TABLE crm.wagon_location (
	wagon_id bigint NOT NULL,
	at timestamptz NOT NULL,
	operation text NOT NULL DEFAULT '',
	station text NOT NULL DEFAULT '',
	destination text,
	distance_left_km integer,
	idle_minutes integer,
	weight_kg numeric(14,3),
	loaded boolean,
	cargo_code text,
	train_index text,
	waybill_number text,
	phase text NOT NULL,
	integration_id bigint,
	known_at timestamptz NOT NULL DEFAULT crm.now()
) PARTITION BY RANGE (at);
COMMENT ON TABLE crm.wagon_location IS 'Operations with wagons as reports told them, partitioned by month; one a wagon, moment, operation and station. Written by crm.import_dislocation()';
COMMENT ON COLUMN crm.wagon_location.wagon_id IS 'crm.wagon.id';
COMMENT ON COLUMN crm.wagon_location.at IS 'When the operation was';
COMMENT ON COLUMN crm.wagon_location.operation IS 'Code of the operation (crm.wagon_operation); empty: not said';
COMMENT ON COLUMN crm.wagon_location.station IS 'Station of the operation, six digits; empty: not said';
COMMENT ON COLUMN crm.wagon_location.destination IS 'Station of destination, six digits';
COMMENT ON COLUMN crm.wagon_location.distance_left_km IS 'Distance left, km';
COMMENT ON COLUMN crm.wagon_location.idle_minutes IS 'Standing since the operation, minutes';
COMMENT ON COLUMN crm.wagon_location.weight_kg IS 'Weight of the cargo, kg';
COMMENT ON COLUMN crm.wagon_location.loaded IS 'Loaded or empty; NULL: not said';
COMMENT ON COLUMN crm.wagon_location.cargo_code IS 'Cargo by ETSNG; 421… are wagons as cargo: an empty run';
COMMENT ON COLUMN crm.wagon_location.train_index IS 'Index of the train; NULL: in no train';
COMMENT ON COLUMN crm.wagon_location.waybill_number IS 'Number of the waybill, look-alikes as Cyrillic';
COMMENT ON COLUMN crm.wagon_location.phase IS 'loading, moving, standing, abandoned, arriving, arrived, unloaded, empty, broken: by the operation''s code or by the facts';
COMMENT ON COLUMN crm.wagon_location.integration_id IS 'crm.integration.id that brought it; NULL: by hand';
COMMENT ON COLUMN crm.wagon_location.known_at IS 'When it came in, business clock';

CREATE TABLE crm.wagon_now (
	wagon_id bigint PRIMARY KEY,
	at timestamptz NOT NULL,
	operation text NOT NULL DEFAULT '',
	station text NOT NULL DEFAULT '',
	destination text,
	distance_left_km integer,
	idle_minutes integer,
	weight_kg numeric(14,3),
	loaded boolean,
	cargo_code text,
	train_index text,
	waybill_number text,
	waybill_id bigint,
	started_at timestamptz,
	arrived_at timestamptz,
	due_on date,
	phase text NOT NULL,
	source text NOT NULL,
	seen_at timestamptz NOT NULL,
	gone_at timestamptz
) WITH (fillfactor = 70);
COMMENT ON TABLE crm.wagon_now IS 'Where each wagon was last, by the newest operation; the way there is in crm.wagon_location';
COMMENT ON COLUMN crm.wagon_now.wagon_id IS 'crm.wagon.id';
COMMENT ON COLUMN crm.wagon_now.at IS 'When the last operation was';
COMMENT ON COLUMN crm.wagon_now.operation IS 'Its code; empty: not said';
COMMENT ON COLUMN crm.wagon_now.station IS 'Its station, six digits; empty: not said';
COMMENT ON COLUMN crm.wagon_now.destination IS 'Station of destination, six digits';
COMMENT ON COLUMN crm.wagon_now.distance_left_km IS 'Distance left, km';
COMMENT ON COLUMN crm.wagon_now.idle_minutes IS 'Standing since the operation, minutes, as the report said';
COMMENT ON COLUMN crm.wagon_now.weight_kg IS 'Weight of the cargo, kg';
COMMENT ON COLUMN crm.wagon_now.loaded IS 'Loaded or empty; NULL: not said';
COMMENT ON COLUMN crm.wagon_now.cargo_code IS 'Cargo by ETSNG';
COMMENT ON COLUMN crm.wagon_now.train_index IS 'Index of the train; NULL: in no train';
COMMENT ON COLUMN crm.wagon_now.waybill_number IS 'Number of the waybill, look-alikes as Cyrillic';
COMMENT ON COLUMN crm.wagon_now.waybill_id IS 'crm.waybill.id under which it runs; NULL: none known';
COMMENT ON COLUMN crm.wagon_now.started_at IS 'Start of the trip';
COMMENT ON COLUMN crm.wagon_now.arrived_at IS 'Arrival at the destination, as the report said';
COMMENT ON COLUMN crm.wagon_now.due_on IS 'Day of delivery by the contract of carriage';
COMMENT ON COLUMN crm.wagon_now.phase IS 'As crm.wagon_location.phase; gone: no longer in the snapshot of its source';
COMMENT ON COLUMN crm.wagon_now.source IS 'Which stream of snapshots it was last in (crm.dislocation_snapshot.source)';
COMMENT ON COLUMN crm.wagon_now.seen_at IS 'Time of the newest snapshot that had it';
COMMENT ON COLUMN crm.wagon_now.gone_at IS 'Time of the first whole snapshot without it; after an arrival it was unloaded and left between two of them; NULL: it is there';
CREATE INDEX wagon_now_source ON crm.wagon_now (source) WHERE gone_at IS NULL;
CREATE INDEX wagon_now_waybill ON crm.wagon_now (waybill_id) WHERE waybill_id IS NOT NULL;

CREATE TABLE crm.dislocation_mapping (
	code text NOT NULL CHECK (code ~ '^[a-z0-9_]{1,63}$'),
	"position" integer NOT NULL,
	header text NOT NULL CHECK (length(header) <= 300 AND ('' ~* header) IS NOT NULL),
	field text NOT NULL,
	extractor text NOT NULL DEFAULT 'plain',
	shipped boolean NOT NULL DEFAULT false,
	CONSTRAINT dislocation_mapping_pkey PRIMARY KEY (code, "position", shipped),
	CONSTRAINT dislocation_mapping_field_check CHECK (field IN ('wagon', 'operation', 'operation_name', 'at', 'station', 'station_name', 'destination', 'destination_name', 'distance_left_km',
		'idle', 'idle_days', 'idle_hours', 'idle_minutes', 'weight_kg', 'weight_t', 'loaded', 'empty', 'cargo_code', 'cargo_name', 'train_index', 'waybill_number', 'waybill_key', 'shipment_number',
		'started_at', 'departed_at', 'arrived_at', 'due_on', 'origin', 'consignee_okpo', 'consignee_name', 'sender_okpo', 'claim_number')),
	CONSTRAINT dislocation_mapping_extractor_check CHECK (extractor IN ('plain', 'digits', 'digits6', 'before', 'dhm'))
);
COMMENT ON TABLE crm.dislocation_mapping IS 'Which column of a report about wagons is what: of a code''s rows, the first by position whose expression fits the heading. The rows of the extension are code and start at position 1000; a DBA adds rows before them, or a code of his own, which are dumped. Protocol etran, section 8';
COMMENT ON COLUMN crm.dislocation_mapping.code IS 'Name of the report: spv4664, russian, or the DBA''s own';
COMMENT ON COLUMN crm.dislocation_mapping."position" IS 'The smallest that fits decides';
COMMENT ON COLUMN crm.dislocation_mapping.header IS 'Regular expression over the heading, in any case of letters';
COMMENT ON COLUMN crm.dislocation_mapping.field IS 'What the column holds. Of several columns for one field the first that is not empty counts';
COMMENT ON COLUMN crm.dislocation_mapping.extractor IS 'plain; digits (in the last brackets: "Станция (985609)"); digits6 (six digits in brackets); before (what stands before the brackets); dhm ("д:ч:м" as minutes)';
COMMENT ON COLUMN crm.dislocation_mapping.shipped IS 'True for a row that came with the extension: it is not dumped, and an update replaces it';

CREATE TABLE crm.dislocation_snapshot (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	source text NOT NULL CHECK (source <> '' AND length(source) <= 200),
	integration_id bigint,
	taken_at timestamptz NOT NULL,
	known_at timestamptz NOT NULL DEFAULT crm.now(),
	whole boolean NOT NULL,
	row_count integer NOT NULL,
	wagons integer NOT NULL,
	new_operations integer NOT NULL DEFAULT 0,
	unread integer NOT NULL DEFAULT 0,
	refused text,
	accepted_at timestamptz
);
COMMENT ON TABLE crm.dislocation_snapshot IS 'Every report about wagons that came: what it held, and why it was refused. Kept for 90 days';
COMMENT ON COLUMN crm.dislocation_snapshot.id IS 'Our number';
COMMENT ON COLUMN crm.dislocation_snapshot.source IS 'The stream it belongs to: name of the integration, or as the caller says';
COMMENT ON COLUMN crm.dislocation_snapshot.integration_id IS 'crm.integration.id; NULL: by hand';
COMMENT ON COLUMN crm.dislocation_snapshot.taken_at IS 'When it was made there; when it came where that is not said';
COMMENT ON COLUMN crm.dislocation_snapshot.known_at IS 'When it came in, business clock';
COMMENT ON COLUMN crm.dislocation_snapshot.whole IS 'True: a snapshot of all wagons of its source; false: some wagons, or the history of one';
COMMENT ON COLUMN crm.dislocation_snapshot.row_count IS 'Rows in it';
COMMENT ON COLUMN crm.dislocation_snapshot.wagons IS 'Different wagons in it';
COMMENT ON COLUMN crm.dislocation_snapshot.new_operations IS 'Operations that were new';
COMMENT ON COLUMN crm.dislocation_snapshot.unread IS 'Rows that could not be read (in crm.rejected)';
COMMENT ON COLUMN crm.dislocation_snapshot.refused IS 'Why nothing of it was taken; NULL: it was taken';
COMMENT ON COLUMN crm.dislocation_snapshot.accepted_at IS 'When a person accepted its loss of wagons by crm.accept_dislocation()';
CREATE INDEX dislocation_snapshot_source ON crm.dislocation_snapshot (source, id DESC);

CREATE TABLE crm.rail_document_kind (
	kind text NOT NULL CHECK (kind ~ '^[a-z0-9_]{1,40}$'),
	list_request text NOT NULL CHECK (list_request ~ '^[A-Za-z0-9]{1,60}$'),
	flags text[] NOT NULL DEFAULT '{}',
	item text NOT NULL CHECK (item ~ '^[a-z0-9]{1,60}$'),
	id_name text NOT NULL CHECK (id_name ~ '^[a-z0-9]{1,60}$'),
	oper_name text CHECK (oper_name ~ '^[a-z0-9]{1,60}$'),
	get_request text NOT NULL CHECK (length(get_request) BETWEEN 5 AND 4000 AND get_request LIKE '%{{id}}%'),
	shipped boolean NOT NULL DEFAULT false,
	CONSTRAINT rail_document_kind_pkey PRIMARY KEY (kind, shipped)
);
COMMENT ON TABLE crm.rail_document_kind IS 'Kinds of documents that ETRAN is asked for, where the setting documents of the integration names them. A DBA adds a kind by a row. Protocol etran, section 4';
COMMENT ON COLUMN crm.rail_document_kind.kind IS 'Name: invoice (waybills, which become crm.waybill), claim, vpu, cumulative, act, or the DBA''s own';
COMMENT ON COLUMN crm.rail_document_kind.list_request IS 'Root element of the request for what changed';
COMMENT ON COLUMN crm.rail_document_kind.flags IS 'Empty elements that are sent with it beside the setting use_flags; {none} sends no flags at all';
COMMENT ON COLUMN crm.rail_document_kind.item IS 'Name of an item of the reply, small letters';
COMMENT ON COLUMN crm.rail_document_kind.id_name IS 'Name of the id within an item, small letters';
COMMENT ON COLUMN crm.rail_document_kind.oper_name IS 'Name of the time of the last change within an item, small letters; NULL: every item is fetched';
COMMENT ON COLUMN crm.rail_document_kind.get_request IS 'The request for one document; {{id}} stands for its id';
COMMENT ON COLUMN crm.rail_document_kind.shipped IS 'True for a row that came with the extension';

CREATE TABLE crm.rail_document (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	source text NOT NULL,
	kind text NOT NULL,
	document_id bigint NOT NULL,
	integration_id bigint,
	last_oper text,
	hash bytea NOT NULL,
	document jsonb NOT NULL,
	version integer NOT NULL DEFAULT 1,
	known_at timestamptz NOT NULL DEFAULT crm.now(),
	CONSTRAINT rail_document_key UNIQUE (source, kind, document_id)
);
COMMENT ON TABLE crm.rail_document IS 'Documents of ETRAN other than waybills (claims GU-12, wagon use sheets, acts, …), the newest version of each as a tree';
COMMENT ON COLUMN crm.rail_document.id IS 'Our number';
COMMENT ON COLUMN crm.rail_document.source IS 'As crm.waybill.source';
COMMENT ON COLUMN crm.rail_document.kind IS 'crm.rail_document_kind.kind';
COMMENT ON COLUMN crm.rail_document.document_id IS 'Its id there';
COMMENT ON COLUMN crm.rail_document.integration_id IS 'crm.integration.id that said it last';
COMMENT ON COLUMN crm.rail_document.last_oper IS 'Time of the last change as the list of changes said it';
COMMENT ON COLUMN crm.rail_document.hash IS 'SHA-256 of the document';
COMMENT ON COLUMN crm.rail_document.document IS 'The document, names in small letters';
COMMENT ON COLUMN crm.rail_document.version IS 'How many different documents came';
COMMENT ON COLUMN crm.rail_document.known_at IS 'When this one came, business clock';

CREATE TABLE crm.rail_fetch (
	integration_id bigint NOT NULL,
	kind text NOT NULL,
	document_id bigint NOT NULL,
	last_oper text,
	tries integer NOT NULL DEFAULT 0,
	after timestamptz NOT NULL DEFAULT crm.clock(),
	words text,
	CONSTRAINT rail_fetch_pkey PRIMARY KEY (integration_id, kind, document_id)
) WITH (fillfactor = 70);
COMMENT ON TABLE crm.rail_fetch IS 'Documents that ETRAN said have changed and that are still to be fetched: written in the transaction that moves the cursor';
COMMENT ON COLUMN crm.rail_fetch.integration_id IS 'crm.integration.id';
COMMENT ON COLUMN crm.rail_fetch.kind IS 'crm.rail_document_kind.kind';
COMMENT ON COLUMN crm.rail_fetch.document_id IS 'Id of the document there';
COMMENT ON COLUMN crm.rail_fetch.last_oper IS 'Time of its last change as the list said it';
COMMENT ON COLUMN crm.rail_fetch.tries IS 'How often it was refused';
COMMENT ON COLUMN crm.rail_fetch.after IS 'Not before this, business clock';
COMMENT ON COLUMN crm.rail_fetch.words IS 'Why it could not be fetched';
CREATE INDEX rail_fetch_due ON crm.rail_fetch (integration_id, after);

CREATE TYPE crm.dislocation_row AS (
	n integer,
	wagon text,
	operation text,
	at timestamptz,
	station text,
	destination text,
	distance_left_km integer,
	idle_minutes integer,
	weight_kg numeric,
	loaded boolean,
	cargo_code text,
	cargo_name text,
	train_index text,
	waybill_number text,
	started_at timestamptz,
	arrived_at timestamptz,
	due_on date,
	origin text,
	consignee_okpo text,
	consignee_name text,
	claim_number text,
	phase text,
	problem text
);
COMMENT ON TYPE crm.dislocation_row IS 'One row of a report about wagons as it was read; called for by crm.import_dislocation()';
COMMENT ON COLUMN crm.dislocation_row.n IS 'Number of the row, from 1';
COMMENT ON COLUMN crm.dislocation_row.wagon IS 'Number of the wagon';
COMMENT ON COLUMN crm.dislocation_row.operation IS 'Code of the last operation, empty where none';
COMMENT ON COLUMN crm.dislocation_row.at IS 'When it was';
COMMENT ON COLUMN crm.dislocation_row.station IS 'Where, six digits, empty where not said';
COMMENT ON COLUMN crm.dislocation_row.destination IS 'Station of destination';
COMMENT ON COLUMN crm.dislocation_row.distance_left_km IS 'Distance left, km';
COMMENT ON COLUMN crm.dislocation_row.idle_minutes IS 'Standing, minutes';
COMMENT ON COLUMN crm.dislocation_row.weight_kg IS 'Weight of the cargo, kg';
COMMENT ON COLUMN crm.dislocation_row.loaded IS 'Loaded or empty';
COMMENT ON COLUMN crm.dislocation_row.cargo_code IS 'Cargo by ETSNG';
COMMENT ON COLUMN crm.dislocation_row.cargo_name IS 'Cargo in words';
COMMENT ON COLUMN crm.dislocation_row.train_index IS 'Index of the train; NULL: in none';
COMMENT ON COLUMN crm.dislocation_row.waybill_number IS 'Number of the waybill, look-alikes as Cyrillic';
COMMENT ON COLUMN crm.dislocation_row.started_at IS 'Start of the trip';
COMMENT ON COLUMN crm.dislocation_row.arrived_at IS 'Arrival at the destination';
COMMENT ON COLUMN crm.dislocation_row.due_on IS 'Day of delivery by the contract';
COMMENT ON COLUMN crm.dislocation_row.origin IS 'Station where the trip began';
COMMENT ON COLUMN crm.dislocation_row.consignee_okpo IS 'OKPO of the consignee';
COMMENT ON COLUMN crm.dislocation_row.consignee_name IS 'Name of the consignee';
COMMENT ON COLUMN crm.dislocation_row.claim_number IS 'Number of the claim GU-12';
COMMENT ON COLUMN crm.dislocation_row.phase IS 'What the wagon does, see crm.wagon_location.phase';
COMMENT ON COLUMN crm.dislocation_row.problem IS 'Why the row cannot be used; NULL: it can';
