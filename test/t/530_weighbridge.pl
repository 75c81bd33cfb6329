# claim 47: the scales' own database is another PostgreSQL server (here in windows-1251): every weighing of it is here once, whatever stops, restarts or commits late
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

# ---- the scales ----
my $there = PostgreSQL::Test::Cluster->new('scales');
$there->init;
$there->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nlog_connections = on\nfsync = off\nlog_line_prefix = '%m [%p] %b '\nlc_messages = 'C'\n");
unlink $there->data_dir . '/pg_hba.conf';
$there->append_conf('pg_hba.conf', "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
$there->start;
$there->safe_psql('postgres', q{CREATE DATABASE vesy ENCODING 'WIN1251' LOCALE 'C' TEMPLATE template0});
sub scales { return $there->safe_psql('vesy', "SET client_encoding = 'UTF8'; $_[0]") }
scales(q{
	CREATE ROLE crm LOGIN PASSWORD 'canary-one';
	CREATE SCHEMA "Весы";
	CREATE TABLE "Весы"."Взвешивание" ("Номер" bigserial PRIMARY KEY, "Машина" text, "Вид" text, "Вес" numeric, "Время" timestamp, "Заказ" text, "Отменено" boolean NOT NULL DEFAULT false);
	CREATE FUNCTION "Весы".weigh(plate text, kind text, kg numeric, at timestamp, ref text DEFAULT 'A-1') RETURNS bigint LANGUAGE sql AS $$
		INSERT INTO "Весы"."Взвешивание" ("Машина", "Вид", "Вес", "Время", "Заказ") VALUES (plate, kind, kg, at, ref) RETURNING "Номер" $$;
	GRANT USAGE ON SCHEMA "Весы" TO crm;
	GRANT SELECT ON "Весы"."Взвешивание" TO crm;
	SELECT "Весы".weigh('А' || (100 + g / 2) || 'ВС77', CASE WHEN g % 2 = 0 THEN 'Тара' ELSE 'Брутто' END, CASE WHEN g % 2 = 0 THEN 14000 ELSE 34000 END, date_trunc('minute', localtimestamp) - interval '20 hours' + g * interval '1 minute')
	FROM generate_series(0, 1499) g;
	SELECT nextval('"Весы"."Взвешивание_Номер_seq"');
	SELECT "Весы".weigh('А' || (100 + g / 2) || 'ВС77', CASE WHEN g % 2 = 0 THEN 'Тара' ELSE 'Брутто' END, CASE WHEN g % 2 = 0 THEN 14000 ELSE 34000 END, date_trunc('minute', localtimestamp) - interval '20 hours' + g * interval '1 minute')
	FROM generate_series(1500, 2999) g;
	INSERT INTO "Весы"."Взвешивание" ("Машина", "Вид", "Вес", "Время") VALUES (NULL, 'Тара', 5, localtimestamp - interval '3 hours'), ('А1', 'Тара', -5, localtimestamp - interval '3 hours')});

# ---- the plant ----
my $node = crm_node('weighbridge', conf => "restart_after_crash = on\ncrm.time_zone = 'Europe/Moscow'\n");
sub plant { return $node->safe_psql('plant', $_[0]) }
my $url = 'postgresql://localhost:' . $there->port . '/vesy';
plant(qq{INSERT INTO crm.company (id, name) VALUES (1, 'Stroy');
	INSERT INTO crm.customer_order (id, number, company_id, product) VALUES (1, 'A-1', 1, 'Cement');
	SELECT crm.add_integration('vesy', 'weighbridge_pg', '$url', '{"table": "Весы.Взвешивание", "key": "Номер", "poll_ms": 200, "timeout_ms": 5000, "batch": 500, "overlap": 50,
		"allow_hosts": ["127.0.0.1", "::1"], "columns": {"vehicle": "Машина", "kind": "Вид", "kg": "Вес", "at": "Время", "order": "Заказ", "storno": "Отменено"}}', 'canary-one')});
sub here { return plant('SELECT count(*) FROM crm.weighing') }
sub theirs { return scales('SELECT count(*) FROM "Весы"."Взвешивание" WHERE "Вес" > 0 AND "Машина" IS NOT NULL') }
sub same { my ($what, $seconds) = @_; my $n = theirs();
	ok(wait_for($seconds // 20, sub { here() == $n }), $what) or diag here() . " of $n\n" . plant(q{SELECT severity, message FROM crm.health; SELECT * FROM crm.cursor; SELECT * FROM crm.rejected LIMIT 5}); return }
sub health { return plant(q{SELECT string_agg(severity || ' ' || message, E'\n') FROM crm.health WHERE subject = 'integration vesy'}) }

same('every weighing is here, in pieces of 500', 60);
is(plant(q{SELECT count(*), count(DISTINCT source_id), min(kind), max(kind) FROM crm.weighing}), '3000|3000|gross|tare', 'each once, in words of windows-1251');
is(plant(q{SELECT count(*), sum(net_kg) FROM crm.shipment WHERE cancelled_at IS NULL}), '1500|30000000.000', 'each pair is a shipment');
is(plant(q{SELECT count(*) FROM crm.rejected WHERE what ~ '^weighing'}), '2', 'the bad ones are kept beside');
like(plant(q{SELECT crm.integration_test('vesy')}), qr/^ok: the first row is А100ВС77, 14000 kg/, 'the test by hand says so in words');
is(scales(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crm courier' AND state = 'idle'}), '1', 'one connection is kept');
is(scales(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crm courier' AND backend_xmin IS NOT NULL}), '0', 'and holds no snapshot there');

# ---- a key that commits late ----
my $late = $there->background_psql('vesy');
$late->query_safe(q{BEGIN});
$late->query_safe(q{SET client_encoding = 'UTF8'});
$late->query_safe(q{SELECT "Весы".weigh('А9700ВС77', 'Тара', 14000, localtimestamp - interval '1 hour')});
scales(q{SELECT "Весы".weigh('А9700ВС77', 'Брутто', 34000, localtimestamp - interval '30 minutes')});
same('the later key is read');
$late->query_safe(q{COMMIT});
same('the earlier one that commits later too');
$late->quit;
is(plant(q{SELECT count(*) FROM crm.shipment s JOIN crm.vehicle v ON v.id = s.vehicle_id WHERE v.plate = 'А9700ВС77' AND s.cancelled_at IS NULL}), '1', 'and they are a shipment');

# ---- far below the overlap: a storno, and a row whose key was given out long ago ----
scales(q{UPDATE "Весы"."Взвешивание" SET "Отменено" = true WHERE "Номер" = 2001;
	INSERT INTO "Весы"."Взвешивание" VALUES (1501, 'А9701ВС77', 'Тара', 14000, localtimestamp - interval '12 hours', 'A-1')});
plant(q{UPDATE crm.integration_state SET session = session - 'counted_ms'; SELECT crm.poll_after((SELECT id FROM crm.integration), 0)});
ok(wait_for(20, sub { plant(q{SELECT count(*) FROM crm.weighing WHERE cancelled_at IS NOT NULL}) == 1 }), 'a storno of long ago is found by the count of its day') or diag plant('SELECT * FROM crm.completeness; SELECT * FROM crm.cursor');
is(plant(q{SELECT count(*) FROM crm.shipment WHERE cancelled_at IS NOT NULL}), '1', 'and its shipment is none any more');
same('and the row that came far below what was read');
plant(q{UPDATE crm.integration_state SET session = session - 'counted_ms'; SELECT crm.poll_after((SELECT id FROM crm.integration), 0)});
ok(wait_for(20, sub { plant(q{SELECT count(*) > 0 AND bool_and(theirs = ours + rejected) FROM crm.completeness}) eq 't' }), 'rows there = rows here + rejected, by day') or diag plant('SELECT * FROM crm.completeness');

# ---- the server there stops and starts ----
$there->stop('fast');
ok(wait_for(10, sub { health() =~ /vesy fails.*: (connect|broken)/ }), 'a server that is down is in crm.health') or diag health();
$there->start;
scales(q{SELECT "Весы".weigh('А9702ВС77', 'Тара', 14000, localtimestamp - interval '20 minutes')});
same('after its start the rest comes by itself');
ok(wait_for(5, sub { health() !~ /fails/ }), 'and crm.health is content');

# ---- the couriers are killed, the server here too ----
foreach my $round (1 .. 3)
{
	my $pid = plant(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'});
	scales(q{SELECT "Весы".weigh('А9703ВС77', 'Тара', 14000 + g, localtimestamp - interval '19 minutes') FROM generate_series(1, 700) g});
	sleep 0.05 * $round;
	kill 'KILL', $pid if $pid;
	$node->poll_query_until('plant', 'SELECT true') or die;
}
same('after three kills each weighing is here');
is(plant(q{SELECT count(*) - count(DISTINCT source_id) FROM crm.weighing}), '0', 'and once');

# ---- a query that hangs ----
scales(q{ALTER TABLE "Весы"."Взвешивание" RENAME TO stored; CREATE VIEW "Весы"."Взвешивание" AS SELECT s.* FROM "Весы".stored s, pg_sleep(60); GRANT SELECT ON "Весы"."Взвешивание" TO crm});
ok(wait_for(10, sub { scales(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crm courier' AND state = 'active'}) == 1 }), 'a question hangs');
is(plant(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'crm courier' AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)}), '0', 'no transaction of ours is open meanwhile');
my $began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 2, sprintf 'a fast stop does not wait for it (%.2f s)', time - $began);
$node->start;
ok(wait_for(15, sub { health() =~ /timeout: 57014|timeout: no whole reply/ }), 'the server there gives it up by itself') or diag health();
scales(q{DROP VIEW "Весы"."Взвешивание"; ALTER TABLE "Весы".stored RENAME TO "Взвешивание"});
plant(q{SELECT crm.integration_retry('vesy')});
scales(q{SELECT "Весы".weigh('А9704ВС77', 'Тара', 14000, localtimestamp - interval '18 minutes')});
same('and it goes on');

# ---- a table that is gone, a right that is missing ----
scales(q{ALTER TABLE "Весы"."Взвешивание" RENAME TO other});
ok(wait_for(10, sub { health() =~ /fails.*: sql: 42P01 there is no such table/ }), 'a table that is gone is told in words') or diag health();
scales(q{ALTER TABLE "Весы".other RENAME TO "Взвешивание"});
plant(q{SELECT crm.integration_retry('vesy')});
ok(wait_for(10, sub { health() !~ /fails/ }), 'mended') or diag health();

# ---- another password ----
scales(q{ALTER ROLE crm PASSWORD 'canary-two'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'crm courier'});
ok(wait_for(10, sub { health() =~ /fails.*: auth: 28P01 the password is refused/ }), 'a refused password is told in words') or diag health();
sleep 2;
my $log = slurp_file($there->logfile);
my $refused = () = $log =~ /password authentication failed/g;
cmp_ok($refused, '<=', 2, "and is not tried again and again ($refused)");
plant(q{SELECT crm.set_secret('vesy', 'canary-two'), crm.integration_retry('vesy')});
scales(q{SELECT "Весы".weigh('А9705ВС77', 'Тара', 14000, localtimestamp - interval '17 minutes')});
same('with the right one it goes on');

# ---- no secret anywhere ----
# the framework logs every statement of the test itself
unlike(join("\n", grep { /crm \w+ [A-Z]+:/ } split /\n/, slurp_file($node->logfile)), qr/canary/, 'no password in what our workers log');
unlike(join("\n", grep { !/statement: / } split /\n/, $log), qr/canary/, 'nor in what the server there logs of us');
is(plant(q{SELECT count(*) FROM (SELECT r::text FROM crm.rejected r UNION ALL SELECT h::text FROM crm.health h UNION ALL SELECT i::text FROM crm.integration i UNION ALL SELECT c::text FROM crm.cursor c) x(w) WHERE w ~ 'canary'}), '0', 'nor in our tables');
$node->stop('fast');
$there->stop('immediate');
done_testing();
