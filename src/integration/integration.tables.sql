-- integration: the outside services, how each is spoken to, and what could not be read.
-- State only; the functions are in integration.sql.

-- ---- what travels between a kind and the courier ---------------------------------------------------

CREATE TYPE crm.request AS (
	ref        bigint,
	method     text,
	url        text,
	headers    text[],
	body       bytea,
	username   text,
	password   text,
	timeout_ms integer,
	context    jsonb
);
COMMENT ON TYPE crm.request IS 'One request to an outside service, made by a kind''s next function and carried by the courier. Nothing in it is kept: the courier holds it in memory until the reply is settled.';
COMMENT ON COLUMN crm.request.ref IS 'The kind''s own number for the request, given back in the reply: the message''s id for channels, any number for pollers';
COMMENT ON COLUMN crm.request.method IS 'GET, POST, PUT, DELETE, PATCH, HEAD, SMTP for a letter, or SQL for a query';
COMMENT ON COLUMN crm.request.url IS 'http(s)://host[:port]/path?query, smtp(s)://host:port/name-for-EHLO, or postgresql://host:port/database. Never with a password in it';
COMMENT ON COLUMN crm.request.headers IS 'Header lines "Name: value" without line ends; for SMTP the envelope: "MAIL FROM: a@b", then "RCPT TO: c@d" for each recipient';
COMMENT ON COLUMN crm.request.body IS 'The bytes sent; for SMTP the whole letter with CR LF line ends; for SQL one statement in UTF-8; NULL for none';
COMMENT ON COLUMN crm.request.username IS 'User name for HTTP basic or SMTP authentication, or of the database; NULL for none';
COMMENT ON COLUMN crm.request.password IS 'Password that belongs to username; never logged and never kept';
COMMENT ON COLUMN crm.request.timeout_ms IS 'Milliseconds from the start of the transfer until it is given up; NULL means 30000';
COMMENT ON COLUMN crm.request.context IS 'Anything the kind wants back with the reply; never sent, but for SQL the values of $1, $2, … as the list params';

CREATE TYPE crm.reply AS (
	ref        bigint,
	status     integer,
	headers    text,
	body       bytea,
	error      text,
	sent       boolean,
	elapsed_ms integer,
	context    jsonb
);
COMMENT ON TYPE crm.reply IS 'What came back for one crm.request, given to the kind''s take function.';
COMMENT ON COLUMN crm.reply.ref IS 'The request''s ref';
COMMENT ON COLUMN crm.reply.status IS 'HTTP status or SMTP code; for SQL 200, 401 (login), 400 (the statement), 503 (may pass); 0 when no reply line came';
COMMENT ON COLUMN crm.reply.headers IS 'Header lines as they came; for SMTP the server''s reply lines; for SQL the lines SQLSTATE and Message of an error; NULL where none came';
COMMENT ON COLUMN crm.reply.body IS 'The reply''s bytes, at most the integration''s max_reply_bytes; for SQL {"columns": […], "rows": [[…], …]} with every value as text or null; NULL where none came';
COMMENT ON COLUMN crm.reply.error IS 'NULL when a whole reply came; otherwise a class word and the reason: resolve: connect: tls: timeout: broken: too large: refused:, and for SQL auth: sql: with the SQLSTATE';
COMMENT ON COLUMN crm.reply.sent IS 'True when bytes of the request may have left this machine: then what happened to it is not known from an error';
COMMENT ON COLUMN crm.reply.elapsed_ms IS 'Milliseconds the transfer took';
COMMENT ON COLUMN crm.reply.context IS 'The request''s context';

CREATE TYPE crm.http_request AS (
	method  text,
	path    text,
	query   text,
	headers text,
	body    bytea,
	peer    text
);
COMMENT ON TYPE crm.http_request IS 'One inbound request, given by the listener to a route''s function.';
COMMENT ON COLUMN crm.http_request.method IS 'The method as it came, in capitals';
COMMENT ON COLUMN crm.http_request.path IS 'For crm.listener_handle the whole path; for a route''s function only what follows the token, empty or starting with /';
COMMENT ON COLUMN crm.http_request.query IS 'What follows the question mark, still percent-encoded (crm.form_value reads it); empty when there is none';
COMMENT ON COLUMN crm.http_request.headers IS 'Lines "Name: value" ended by line feeds; bytes beyond ASCII are shown as ? (crm.header_value reads it)';
COMMENT ON COLUMN crm.http_request.body IS 'The bytes of the body, at most the route''s max_body_bytes';
COMMENT ON COLUMN crm.http_request.peer IS 'Address of the sender';

CREATE TYPE crm.http_response AS (
	status  integer,
	headers text[],
	body    bytea
);
COMMENT ON TYPE crm.http_response IS 'The answer of a route''s function.';
COMMENT ON COLUMN crm.http_response.status IS 'HTTP status, 200 to 599';
COMMENT ON COLUMN crm.http_response.headers IS 'Header lines "Name: value"; NULL for none';
COMMENT ON COLUMN crm.http_response.body IS 'The bytes sent back; NULL for none';

-- ---- kinds and integrations ------------------------------------------------------------------------

CREATE TABLE crm.integration_kind (
	kind           text PRIMARY KEY CHECK (kind ~ '^[a-z][a-z0-9_]{0,62}$'),
	channel        text CHECK (channel ~ '^[a-z][a-z0-9_]{0,62}$'),
	next_function  text,
	take_function  text,
	test_function  text,
	judge_function text,
	defaults       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(defaults) = 'object'),
	description_en text NOT NULL DEFAULT '',
	description_ru text NOT NULL DEFAULT '',
	shipped        boolean NOT NULL DEFAULT false,
	CHECK ((next_function IS NULL) = (take_function IS NULL)),
	-- a dump brings the DBA's rows into a table where a later version's own stand already
	CONSTRAINT integration_kind_name_check CHECK (shipped OR kind LIKE 'x\_%')
);
COMMENT ON TABLE crm.integration_kind IS 'The kinds of outside service that this database can speak to. Filled by crm.register_kind; the rows of the extension are code, those of a DBA are dumped. Claims 22, 46 and 67.';
COMMENT ON COLUMN crm.integration_kind.kind IS 'Name of the kind; that of a DBA''s own begins with x_';
COMMENT ON COLUMN crm.integration_kind.channel IS 'Channel whose messages this kind carries (sms, email, …); NULL for a kind that polls or only listens';
COMMENT ON COLUMN crm.integration_kind.next_function IS 'schema.function(integration_id bigint, capacity integer) RETURNS SETOF crm.request: what to ask now; NULL for a kind that only listens';
COMMENT ON COLUMN crm.integration_kind.take_function IS 'schema.function(integration_id bigint, replies crm.reply[]) RETURNS void: what the replies mean';
COMMENT ON COLUMN crm.integration_kind.test_function IS 'schema.function(integration_id bigint) RETURNS SETOF crm.request: one harmless request for crm.integration_test; NULL for none';
COMMENT ON COLUMN crm.integration_kind.judge_function IS 'schema.function(integration_id bigint, reply crm.reply) RETURNS text: what the reply to the test means, in words; NULL for the plain judgement by status';
COMMENT ON COLUMN crm.integration_kind.defaults IS 'Settings of a new integration of this kind. The keys poll_ms, max_in_flight and max_reply_bytes go into the columns of crm.integration';
COMMENT ON COLUMN crm.integration_kind.description_en IS 'What it is for, in English';
COMMENT ON COLUMN crm.integration_kind.description_ru IS 'What it is for, in Russian';
COMMENT ON COLUMN crm.integration_kind.shipped IS 'True for a kind that came with the extension: it is not dumped and cannot be replaced';

CREATE TABLE crm.integration (
	id              bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	name            text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
	kind            text NOT NULL,
	url             text NOT NULL DEFAULT '',
	settings        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
	enabled         boolean NOT NULL DEFAULT true,
	max_in_flight   integer NOT NULL DEFAULT 32 CHECK (max_in_flight BETWEEN 1 AND 1000),
	poll_ms         integer CHECK (poll_ms BETWEEN 100 AND 86400000),
	max_reply_bytes integer NOT NULL DEFAULT 8388608 CHECK (max_reply_bytes BETWEEN 1024 AND 268435456),
	created_at      timestamptz NOT NULL DEFAULT crm.now(),
	CONSTRAINT integration_limits_check CHECK (coalesce(settings ->> 'rate', '1') ~ '^[1-9][0-9]{0,5}$' AND coalesce(settings ->> 'daily_limit', '1') ~ '^[0-9]{1,8}$'
		AND coalesce(settings ->> 'rate_per', 's') IN ('s', 'min', 'h', 'day'))
);
COMMENT ON TABLE crm.integration IS 'The outside services that this plant uses: one row for each account. Made by crm.add_integration; it holds no secret.';
COMMENT ON COLUMN crm.integration.id IS 'Number of the integration';
COMMENT ON COLUMN crm.integration.name IS 'Name chosen by the DBA; also stands in the path of its routes, so letters, digits, _ . - only';
COMMENT ON COLUMN crm.integration.kind IS 'crm.integration_kind.kind';
COMMENT ON COLUMN crm.integration.url IS 'Where the service is; without user and password';
COMMENT ON COLUMN crm.integration.settings IS 'The kind''s defaults overlaid by what the DBA gave; read by crm.setting_of. Keys that every kind knows: ca_file (own certificate authority), allow_hosts (addresses that may be reached), rate and rate_per (of a channel: at most so many messages in any s, min, h or day), daily_limit (at most so many on a day of crm.time_zone), callback_url (address under which the service reaches our listener)';
COMMENT ON COLUMN crm.integration.enabled IS 'The DBA''s switch';
COMMENT ON COLUMN crm.integration.max_in_flight IS 'Requests at once';
COMMENT ON COLUMN crm.integration.poll_ms IS 'Milliseconds between polls; NULL for a kind that is not polled';
COMMENT ON COLUMN crm.integration.max_reply_bytes IS 'Longest reply that is read, in bytes; a longer one is broken off as "too large"';
COMMENT ON COLUMN crm.integration.created_at IS 'When it was added';

CREATE TABLE crm.secret (
	integration_id bigint NOT NULL,
	name           text NOT NULL CHECK (name <> ''),
	value          text,
	file           text,
	PRIMARY KEY (integration_id, name),
	CHECK ((value IS NULL) <> (file IS NULL))
);
COMMENT ON TABLE crm.secret IS 'Passwords, tokens and keys, or the files that hold them. In no dump; read only through crm.secret_value. Promise 9.';
COMMENT ON COLUMN crm.secret.integration_id IS 'The integration it belongs to';
COMMENT ON COLUMN crm.secret.name IS '"secret" for the one given to crm.add_integration; "route:NAME" for the token of a route';
COMMENT ON COLUMN crm.secret.value IS 'The secret itself; NULL when it is in a file';
COMMENT ON COLUMN crm.secret.file IS 'Absolute path of a file on the server that holds the secret, read at each use; NULL when value is set';

CREATE UNLOGGED TABLE crm.integration_state (
	integration_id bigint PRIMARY KEY,
	due_ms         bigint,
	hold_ms        bigint NOT NULL DEFAULT 0,
	asked_ms       bigint,
	claimed_ms     bigint,
	outstanding    integer NOT NULL DEFAULT 0,
	failures       integer NOT NULL DEFAULT 0,
	last_error     text,
	last_error_at  timestamptz,
	last_ok_at     timestamptz,
	judged         boolean NOT NULL DEFAULT false,
	session        jsonb,
	failing_since  timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE crm.integration_state IS 'What the couriers remember of each integration between two transactions: schedule, back-off, the provider''s session. Lost at a crash, and then built anew.';
COMMENT ON COLUMN crm.integration_state.integration_id IS 'The integration';
COMMENT ON COLUMN crm.integration_state.due_ms IS 'Next poll, in crm.monotonic_ms; NULL for at once (poller) or never (channel)';
COMMENT ON COLUMN crm.integration_state.hold_ms IS 'Nothing is asked before this moment of crm.monotonic_ms: back-off after failures, or the provider''s Retry-After';
COMMENT ON COLUMN crm.integration_state.asked_ms IS 'Moment that the kind asked for by crm.poll_after in the call under way';
COMMENT ON COLUMN crm.integration_state.claimed_ms IS 'When its requests were last claimed, in crm.monotonic_ms';
COMMENT ON COLUMN crm.integration_state.outstanding IS 'Requests claimed and not settled yet';
COMMENT ON COLUMN crm.integration_state.failures IS 'Failures since the last success';
COMMENT ON COLUMN crm.integration_state.last_error IS 'The last failure in words, secrets masked; NULL after a success';
COMMENT ON COLUMN crm.integration_state.last_error_at IS 'When it happened';
COMMENT ON COLUMN crm.integration_state.last_ok_at IS 'When the service last answered well';
COMMENT ON COLUMN crm.integration_state.failing_since IS 'When the first failure since the last success was; NULL after a success';
COMMENT ON COLUMN crm.integration_state.judged IS 'The kind itself has said in the call under way whether the service answers well';
COMMENT ON COLUMN crm.integration_state.session IS 'What the kind keeps of the provider''s session (an id, a host to go to)';

CREATE UNLOGGED TABLE crm.lease (
	integration_id bigint PRIMARY KEY,
	generation     bigint NOT NULL,
	courier        integer NOT NULL DEFAULT crm.courier_number(),
	pid            integer NOT NULL,
	leased_at      timestamptz NOT NULL DEFAULT crm.now()
);
COMMENT ON TABLE crm.lease IS 'Which courier serves an integration: one at a time. A lease ends with its courier''s life, never by a clock: the next courier takes it over when it starts.';
COMMENT ON COLUMN crm.lease.integration_id IS 'The integration';
COMMENT ON COLUMN crm.lease.generation IS 'The courier''s life; each start of a courier has a number of its own';
COMMENT ON COLUMN crm.lease.courier IS 'Which of the couriers it is (crm.couriers), from 0';
COMMENT ON COLUMN crm.lease.pid IS 'The courier''s process: when it is gone, so is the lease';
COMMENT ON COLUMN crm.lease.leased_at IS 'When that courier took it';

CREATE TABLE crm.cursor (
	integration_id bigint NOT NULL,
	name           text NOT NULL,
	value          jsonb NOT NULL,
	changed_at     timestamptz NOT NULL DEFAULT crm.now(),
	PRIMARY KEY (integration_id, name)
);
COMMENT ON TABLE crm.cursor IS 'How far an integration has read: changed in the transaction that writes the facts read, so nothing is skipped and nothing is read as new twice.';
COMMENT ON COLUMN crm.cursor.integration_id IS 'The integration';
COMMENT ON COLUMN crm.cursor.name IS 'What is read (a unit, a mailbox, a list)';
COMMENT ON COLUMN crm.cursor.value IS 'The place, in the kind''s own words';
COMMENT ON COLUMN crm.cursor.changed_at IS 'When it last moved';

CREATE TABLE crm.reply_rule (
	kind        text NOT NULL,
	code        text NOT NULL CHECK (code ~ '^[a-z0-9_]{1,63}$'),
	position    integer NOT NULL,
	status_from integer NOT NULL DEFAULT 0,
	status_to   integer NOT NULL DEFAULT 999,
	pattern     text CHECK (pattern IS NULL OR length(pattern) <= 1000 AND ('' ~* pattern) IS NOT NULL),
	outcome     text NOT NULL CHECK (outcome IN ('sent', 'retry', 'failed', 'uncertain', 'throttled')),
	class       text NOT NULL CHECK (class IN ('ok', 'transient', 'throttled', 'permanent', 'content', 'sender', 'auth', 'balance', 'config', 'duplicate', 'unknown')),
	shipped     boolean NOT NULL DEFAULT false,
	PRIMARY KEY (kind, shipped, code)
);
COMMENT ON TABLE crm.reply_rule IS 'What a reply of a provider of messages means: of a kind''s rows the first by position whose status and pattern fit decides. The rows of the extension are code and start at position 1000; a DBA adds rows before them, which are dumped.';
COMMENT ON COLUMN crm.reply_rule.kind IS 'crm.integration_kind.kind';
COMMENT ON COLUMN crm.reply_rule.code IS 'Name of the rule within its kind; a DBA''s row may have the name of a shipped one';
COMMENT ON COLUMN crm.reply_rule.position IS 'The smallest that fits decides';
COMMENT ON COLUMN crm.reply_rule.status_from IS 'Smallest status of the reply (HTTP status or SMTP code) that fits';
COMMENT ON COLUMN crm.reply_rule.status_to IS 'Largest status that fits';
COMMENT ON COLUMN crm.reply_rule.pattern IS 'Regular expression over the provider''s words, in any case of letters; NULL fits any words';
COMMENT ON COLUMN crm.reply_rule.outcome IS 'What becomes of the message: sent, retry (a counted try), failed (final), uncertain, throttled (again, not counted)';
COMMENT ON COLUMN crm.reply_rule.class IS 'Why. auth, balance and config are of the whole integration: it is held for a while and shown in crm.health; all others are of the one message';
COMMENT ON COLUMN crm.reply_rule.shipped IS 'True for a row that came with the extension: it is not dumped, and an update replaces it';

-- ---- what could not be read, and whether all of it came --------------------------------------------

CREATE TABLE crm.rejected (
	id             bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	at             timestamptz NOT NULL DEFAULT crm.now(),
	integration_id bigint,
	what           text NOT NULL,
	reason         text NOT NULL,
	sqlstate       text,
	bytes          bytea CHECK (octet_length(bytes) <= 65536),
	bytes_length   bigint,
	seen           integer NOT NULL DEFAULT 1,
	last_at        timestamptz NOT NULL DEFAULT crm.now(),
	fingerprint    bytea NOT NULL UNIQUE
);
COMMENT ON TABLE crm.rejected IS 'What came from outside and could not be used, with its bytes and the reason; the rest of its batch went on. Written by crm.reject, kept for 90 days. Promise 10.';
COMMENT ON COLUMN crm.rejected.id IS 'Number of the row';
COMMENT ON COLUMN crm.rejected.at IS 'When it first came';
COMMENT ON COLUMN crm.rejected.integration_id IS 'Where it came from; NULL when that is not an integration';
COMMENT ON COLUMN crm.rejected.what IS 'What it was: the step, the object, the id there';
COMMENT ON COLUMN crm.rejected.reason IS 'Why it was not used; secrets masked';
COMMENT ON COLUMN crm.rejected.sqlstate IS 'SQLSTATE of the error, where there was one';
COMMENT ON COLUMN crm.rejected.bytes IS 'The bytes, at most the first 64 kB, secrets masked';
COMMENT ON COLUMN crm.rejected.bytes_length IS 'How many bytes came';
COMMENT ON COLUMN crm.rejected.seen IS 'How often exactly this came';
COMMENT ON COLUMN crm.rejected.last_at IS 'When it last came';
COMMENT ON COLUMN crm.rejected.fingerprint IS 'Hash over integration, what, reason, SQLSTATE and bytes: the same thing twice is one row';

CREATE TABLE crm.completeness (
	id             bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	integration_id bigint NOT NULL,
	what           text NOT NULL DEFAULT '',
	span           tstzrange NOT NULL,
	theirs         bigint NOT NULL CHECK (theirs >= 0),
	ours           bigint NOT NULL CHECK (ours >= 0),
	rejected       bigint NOT NULL DEFAULT 0 CHECK (rejected >= 0),
	checked_at     timestamptz NOT NULL DEFAULT crm.now(),
	UNIQUE (integration_id, what, span)
);
COMMENT ON TABLE crm.completeness IS 'The proof that all of it came: for a span of time, rows there = rows here + rejected. A difference is a row of crm.health. Promise 6.';
COMMENT ON COLUMN crm.completeness.id IS 'Number of the row';
COMMENT ON COLUMN crm.completeness.integration_id IS 'The integration';
COMMENT ON COLUMN crm.completeness.what IS 'What was counted, where an integration brings more than one thing';
COMMENT ON COLUMN crm.completeness.span IS 'The span of the service''s time';
COMMENT ON COLUMN crm.completeness.theirs IS 'Rows the service says it has';
COMMENT ON COLUMN crm.completeness.ours IS 'Rows of it that are here';
COMMENT ON COLUMN crm.completeness.rejected IS 'Rows of it that are in crm.rejected';
COMMENT ON COLUMN crm.completeness.checked_at IS 'When it was counted';

-- ---- inbound ---------------------------------------------------------------------------------------

CREATE TABLE crm.route (
	id             bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	integration_id bigint NOT NULL,
	name           text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
	methods        text[] NOT NULL CHECK (cardinality(methods) > 0),
	token_hash     bytea NOT NULL CHECK (octet_length(token_hash) = 32),
	function       text NOT NULL,
	max_body_bytes integer NOT NULL DEFAULT 1048576 CHECK (max_body_bytes BETWEEN 0 AND 67108864),
	enabled        boolean NOT NULL DEFAULT true,
	UNIQUE (integration_id, name)
);
COMMENT ON TABLE crm.route IS 'What the listener answers: /h/INTEGRATION/NAME/TOKEN[/rest] is handed to a function. Made by crm.add_route; only the hash of the token is here.';
COMMENT ON COLUMN crm.route.id IS 'Number of the route';
COMMENT ON COLUMN crm.route.integration_id IS 'The integration it serves';
COMMENT ON COLUMN crm.route.name IS 'Second part of the path';
COMMENT ON COLUMN crm.route.methods IS 'HTTP methods that are answered';
COMMENT ON COLUMN crm.route.token_hash IS 'SHA-256 of the token';
COMMENT ON COLUMN crm.route.function IS 'schema.function(integration_id bigint, request crm.http_request) RETURNS crm.http_response';
COMMENT ON COLUMN crm.route.max_body_bytes IS 'Longest body taken, in bytes; a longer one is refused with 413 before it is read';
COMMENT ON COLUMN crm.route.enabled IS 'The DBA''s switch';

-- ---- money -------------------------------------------------------------------------------------------

CREATE TABLE crm.integration_account (
	integration_id bigint PRIMARY KEY,
	balance        numeric,
	currency       text,
	balance_at     timestamptz NOT NULL DEFAULT crm.now()
) WITH (fillfactor = 50);
COMMENT ON TABLE crm.integration_account IS 'What a paid service said last about our money with it: one row an integration.';
COMMENT ON COLUMN crm.integration_account.integration_id IS 'The integration';
COMMENT ON COLUMN crm.integration_account.balance IS 'Money left there, in currency; NULL when it was not told';
COMMENT ON COLUMN crm.integration_account.currency IS 'Setting currency of the integration at that moment';
COMMENT ON COLUMN crm.integration_account.balance_at IS 'When it was told, business clock';

CREATE TABLE crm.integration_spending (
	integration_id bigint NOT NULL,
	day            date NOT NULL,
	messages       bigint NOT NULL DEFAULT 0,
	parts          bigint NOT NULL DEFAULT 0,
	amount         numeric NOT NULL DEFAULT 0,
	PRIMARY KEY (integration_id, day)
) WITH (fillfactor = 50);
COMMENT ON TABLE crm.integration_spending IS 'What each integration took for its messages, a row a day; the settings budget_day and budget_month are kept against it.';
COMMENT ON COLUMN crm.integration_spending.integration_id IS 'The integration';
COMMENT ON COLUMN crm.integration_spending.day IS 'Day of the business clock in the zone of the setting crm.time_zone';
COMMENT ON COLUMN crm.integration_spending.messages IS 'Messages that were taken, as far as their price was told or can be assumed';
COMMENT ON COLUMN crm.integration_spending.parts IS 'Parts of them that were billed, where it is known';
COMMENT ON COLUMN crm.integration_spending.amount IS 'Their price as told, else as assumed (setting price, or the mean), in the currency of the account';


-- ---- what left -------------------------------------------------------------------------------------

CREATE TABLE crm.egress_hour (
	integration_id bigint NOT NULL,
	hour           timestamptz NOT NULL,
	host           text NOT NULL,
	requests       bigint NOT NULL,
	bytes          bigint NOT NULL,
	PRIMARY KEY (integration_id, hour, host)
) WITH (fillfactor = 50);
COMMENT ON TABLE crm.egress_hour IS 'Requests that are no messages (polls, questions about delivery and balance), summed by hour and host in the transaction that claims them. Messages are in crm.message_attempt, one by one; crm_bi.egress shows both.';
COMMENT ON COLUMN crm.egress_hour.integration_id IS 'crm.integration.id';
COMMENT ON COLUMN crm.egress_hour.hour IS 'Start of the hour, business clock';
COMMENT ON COLUMN crm.egress_hour.host IS 'Host that was asked';
COMMENT ON COLUMN crm.egress_hour.requests IS 'How many requests were handed to the courier';
COMMENT ON COLUMN crm.egress_hour.bytes IS 'Octets of their addresses, headers and bodies, without what HTTP and TLS add';

-- ---- how fast it may go ----------------------------------------------------------------------------

CREATE TABLE crm.integration_rate (
	integration_id bigint PRIMARY KEY,
	slot           bigint NOT NULL,
	slot_ms        bigint NOT NULL,
	counts         integer[] NOT NULL,
	day            date NOT NULL,
	day_count      integer NOT NULL DEFAULT 0,
	next_ms        bigint,
	blocked_since  timestamptz
) WITH (fillfactor = 50);
COMMENT ON TABLE crm.integration_rate IS 'What was claimed lately of integrations that have a limit (settings rate, daily_limit): one row each, changed in the transaction that claims.';
COMMENT ON COLUMN crm.integration_rate.integration_id IS 'The integration';
COMMENT ON COLUMN crm.integration_rate.slot IS 'Number of the newest slot: crm.monotonic_ms by slot_ms';
COMMENT ON COLUMN crm.integration_rate.slot_ms IS 'Length of a slot in milliseconds, a twentieth of rate_per';
COMMENT ON COLUMN crm.integration_rate.counts IS 'Requests claimed in the last 21 slots, the newest first: any span as long as rate_per lies within them';
COMMENT ON COLUMN crm.integration_rate.day IS 'Day of day_count, in the zone of the setting crm.time_zone';
COMMENT ON COLUMN crm.integration_rate.day_count IS 'Messages claimed on that day';
COMMENT ON COLUMN crm.integration_rate.next_ms IS 'When the limit lets the next go, in crm.monotonic_ms; NULL: it holds nothing back';
COMMENT ON COLUMN crm.integration_rate.blocked_since IS 'Since when it holds something back without a break, real time';
