# Commands on databases work while their courier has 100 requests hanging: DROP DATABASE of another one and
# of its own, CREATE … TEMPLATE, RENAME, SET TABLESPACE; the courier comes back in every outcome; a command
# that is refused does not disturb it; a database without the mark or without the extension costs nothing.
# alone: it measures how long things take
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use IPC::Run;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new;
my $node = crm_node('database', conf => "log_min_messages = log\n", init => { allows_streaming => 'logical' });
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 100}');
ok($sink->courier_up($node), 'the courier runs');

my $hang = sub {
	my ($database) = @_;
	$node->safe_psql($database, q{INSERT INTO plain.queue (path, timeout) SELECT '/hang', 600000 FROM generate_series(1, 100)});
	ok(wait_for(10, sub { $node->safe_psql($database, q{SELECT in_flight FROM crm.workers() WHERE kind = 'courier' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())}) == 100 }), '100 requests hang');
};
my $timed = sub {
	my ($what, $limit, @sql) = @_;
	my $started = time;
	my ($rc, $out, $err) = $node->psql('postgres', join ';', @sql);
	my $took = time - $started;
	is($rc, 0, $what) or diag $err;
	cmp_ok($took, '<', $limit, sprintf('%s took %.2f s', $what, $took));
};

$hang->('plant');
my $pid = $sink->courier($node);
foreach my $i (1 .. 3)
{
	$timed->("another database is made and dropped ($i)", 3, "CREATE DATABASE x$i STRATEGY wal_log") if $i;
	my $started = time;
	$node->safe_psql('postgres', "DROP DATABASE x$i");
	cmp_ok(time - $started, '<', 2, 'DROP DATABASE of another database does not wait');
}
is($sink->courier($node), $pid, 'the courier has not noticed');

# ---- refused commands disturb nobody ----
$node->safe_psql('postgres', 'CREATE ROLE nobody LOGIN; CREATE ROLE maker LOGIN CREATEDB');
foreach my $sql ('DROP DATABASE plant', 'ALTER DATABASE plant RENAME TO other', 'CREATE DATABASE copy TEMPLATE plant')
{
	my ($rc, $out, $err) = $node->psql('postgres', $sql, extra_params => [ '-U', 'nobody' ]);
	isnt($rc, 0, "$sql is refused to nobody");
}
my ($rc, $out, $err) = $node->psql('postgres', 'CREATE DATABASE postgres TEMPLATE plant');
like($err, qr/already exists/, 'a copy under a name that is taken is refused');
($rc, $out, $err) = $node->psql('postgres', 'BEGIN; DROP DATABASE plant; COMMIT');
like($err, qr/cannot run inside a transaction block/, 'and a DROP in a transaction block');
is($sink->courier($node), $pid, 'the courier has not been disturbed');

# ---- clients in the way: the courier stays ----
my $client = $node->background_psql('plant');
$client->query('SELECT 1');
($rc, $out, $err) = $node->psql('postgres', 'CREATE DATABASE copy TEMPLATE plant');
like($err, qr/source database "plant" is being accessed by other users/, 'a copy of a database in use is refused as ever');
like($err, qr/There is 1 other session using the database/, 'and counts the clients, not the courier');
is($sink->courier($node), $pid, 'without disturbing the courier');
$client->quit;

# ---- several clients that were there at once and are gone ----
my @clients = map { $node->background_psql('plant') } 1 .. 5;
$_->query('SELECT 1') foreach @clients;
$_->quit foreach @clients;
$timed->('clients that have left are in nobody\'s way', 2, 'ALTER DATABASE plant RENAME TO works', 'ALTER DATABASE works RENAME TO plant');
ok($sink->courier_up($node), 'the courier is back');

# ---- a DROP that the server refuses for other reasons than sessions ----
$node->safe_psql('plant', q{SELECT pg_create_logical_replication_slot('held', 'test_decoding', false)});
my $decoder = IPC::Run::start([ 'pg_recvlogical', '-d', $node->connstr('plant'), '-S', 'held', '--start', '-f', '-' ], '>', '/dev/null', '2>', '/dev/null');
ok(wait_for(10, sub { $node->safe_psql('plant', 'SELECT active FROM pg_replication_slots') eq 't' }), 'a replication slot is in use');
$pid = $sink->courier($node);
($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE plant WITH (FORCE)');
like($err, qr/used by an active logical replication slot/, 'DROP DATABASE is refused by the server');
is($sink->courier($node), $pid, 'and the courier has not been disturbed');
$decoder->kill_kill;
ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT bool_and(NOT active) FROM pg_replication_slots}) eq 't' }));
$node->safe_psql('plant', q{SELECT pg_drop_replication_slot('held')});
$node->safe_psql('plant', q{CREATE SUBSCRIPTION away CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)});
($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE plant WITH (FORCE)');
like($err, qr/being used by logical replication subscription/, 'nor one with a subscription');
is($sink->courier($node), $pid, 'not disturbed');
$node->safe_psql('plant', q{ALTER SUBSCRIPTION away SET (slot_name = NONE); DROP SUBSCRIPTION away});

# ---- with 100 hanging ----
$timed->('CREATE DATABASE … TEMPLATE', 4, 'CREATE DATABASE copy TEMPLATE plant');
ok($sink->courier_up($node), 'the courier is back');
isnt($sink->courier($node), $pid, 'another process');
is($node->safe_psql('copy', 'SELECT crm.mode()'), 'off', 'the copy is off');
is($sink->courier($node, 'copy'), '', 'and has no courier');
is($node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE state = 'uncertain'}), '100', 'what hung is uncertain');

$hang->('plant');
$timed->('ALTER DATABASE … RENAME', 2, 'ALTER DATABASE plant RENAME TO factory');
ok($sink->courier_up($node, 'factory'), 'the courier is back under the new name');
my $space = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$space'");
$hang->('factory');
$timed->('ALTER DATABASE … SET TABLESPACE', 6, 'ALTER DATABASE factory SET TABLESPACE elsewhere');
ok($sink->courier_up($node, 'factory'), 'the courier is back');
$node->safe_psql('postgres', 'ALTER DATABASE factory SET TABLESPACE pg_default');
$node->safe_psql('postgres', 'ALTER DATABASE factory RENAME TO plant');
ok($sink->courier_up($node), 'and again');

# an error after the courier has left
my $source = $node->safe_psql('postgres', q{SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'plant'});
($rc, $out, $err) = $node->psql('postgres', 'CREATE DATABASE bad TEMPLATE plant ENCODING latin1 LOCALE C');
isnt($rc, 0, 'a copy that fails for another reason');
ok($sink->courier_up($node), 'brings the courier back too');

# a transaction that holds the rename open
my $renamer = $node->background_psql('postgres');
$renamer->query_safe('BEGIN');
$renamer->query_safe('ALTER DATABASE plant RENAME TO held');
is($sink->courier($node), '', 'no courier while the rename is open');
$renamer->query_safe('ROLLBACK');
$renamer->quit;
ok($sink->courier_up($node), 'the courier is back after the rollback');

# ---- connections refused ----
$node->safe_psql('postgres', 'ALTER DATABASE plant ALLOW_CONNECTIONS false');
ok(wait_for(15, sub { $sink->courier($node) eq '' }), 'a database that refuses connections loses its courier');
$node->safe_psql('postgres', 'ALTER DATABASE plant ALLOW_CONNECTIONS true');
ok($sink->courier_up($node), 'and gets it back');

# ---- the extension goes and comes ----
$node->safe_psql('plant', q{INSERT INTO plain.queue (path, timeout) SELECT '/hang', 600000 FROM generate_series(1, 50)});
sleep 0.5;
my $started = time;
$node->safe_psql('plant', 'DROP EXTENSION crm CASCADE');
cmp_ok(time - $started, '<', 2, 'DROP EXTENSION … CASCADE while requests hang');
ok(wait_for(15, sub { $sink->courier($node) eq '' }), 'the courier leaves');
$node->safe_psql('plant', 'DROP SCHEMA plain CASCADE; CREATE EXTENSION crm CASCADE');
$started = time;
$node->safe_psql('plant', 'SELECT crm.activate()');
ok($sink->courier_up($node), 'a new extension that is activated has a courier');
cmp_ok(time - $started, '<', 5, 'at once');

# ---- its own database ----
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 100}');
$hang->('plant');
my $database = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'plant'});
ok(-e $node->data_dir . "/crm_flight/$database.0", 'it has a flight file');
$timed->('DROP DATABASE of its own', 3, 'DROP DATABASE plant');
$timed->('DROP DATABASE copy WITH (FORCE)', 3, 'DROP DATABASE copy WITH (FORCE)');
ok(wait_for(15, sub { !-e $node->data_dir . "/crm_flight/$database.0" }), 'the flight file goes with the database');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('crm courier', 'crm listener')}), '0', 'no worker is left');

$node->stop('fast');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/PANIC|terminated by signal|TRAP:/, 'nothing crashed');
done_testing();
