# A hot standby sends nothing; promoted, it is off until a person activates it, but stays active on a machine
# that crm.activate(hosts) named; and a copy of the new primary is off again.
use strict;
use warnings;
use CrmCopy;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my ($node, $ledger) = crm_original('primary', init => { allows_streaming => 1 }, conf => "hot_standby = on\n");
my $host = `hostname`;
chomp $host;
my $dir = $node->basedir;
# two standbys: one of them unplanned
$node->command_ok([ 'pg_basebackup', '-D', "$dir/unplanned", '-c', 'fast', '-X', 'stream' ], 'a base backup');
system('cp', '-a', "$dir/unplanned", "$dir/planned") == 0 or die;
my @standby;
foreach my $name ('unplanned', 'planned')
{
	my $standby = crm_open_copy($name, "$dir/$name", $node);
	$standby->append_conf('postgresql.conf', "primary_conninfo = '" . $node->connstr . " application_name=$name'");
	$standby->append_conf('standby.signal', '');
	$standby->start;
	push @standby, $standby;
}
my ($unplanned, $planned) = @standby;
my $caught_up = sub {
	my ($standby) = @_;
	my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
	return wait_for(15, sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' });
};
ok($caught_up->($unplanned), 'the standby follows');

$node->safe_psql('plant', q{UPDATE crm.integration SET enabled = false});
$caught_up->($unplanned);
$ledger->start;
silent($unplanned, $ledger, qr/^warning: This database does not act: the server is a standby/);
my ($rc, $out, $err) = $unplanned->psql('plant', 'SELECT crm.activate()');
like($err, qr/read-only transaction|recovery/, 'a standby cannot be activated');
is($unplanned->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'crm %'}), '0', 'no process of ours runs on it');

# ---- nobody had planned it ----
$node->stop('fast');
$unplanned->promote;
$unplanned->safe_psql('plant', q{UPDATE crm.integration SET enabled = true});
silent($unplanned, $ledger, qr/^warning: This database does not act: activated in another data directory/);
speaks($unplanned, $ledger);
$unplanned->stop('fast');
$ledger->clear;

# ---- named beforehand: as if the primary were on another machine ----
$node->start;
$node->safe_psql('plant', "SELECT crm.activate('live', ARRAY['$host'])");
$node->safe_psql('plant', q{UPDATE crm.activation SET machine = 'another'; UPDATE crm.integration SET enabled = true});
$caught_up->($planned);
is($node->safe_psql('plant', 'SELECT crm.mode(), crm.activation_problem()'), 'off|activated on another machine, and no standby was promoted here',
	'on the named machine, as long as nothing was promoted, nothing acts');
is($ledger->bytes, 0, 'and nothing left');
$node->stop('fast');
$planned->promote;
is($planned->safe_psql('plant', 'SELECT crm.mode()'), 'live', 'a promotion on a named machine stays active');
ok(wait_for(20, sub { $ledger->count(qr/waits/) >= 5 }), 'and sends what waits') or diag $planned->safe_psql('plant', 'SELECT * FROM crm.health');
ok(wait_for(5, sub { $planned->safe_psql('plant', 'SELECT a.machine = b.machine AND a.timeline = b.timeline AND a.data_directory = b.data_directory FROM crm.activation a, crm.binding() b') eq 't' }),
	'the activation is bound to what it found');

# ---- and a copy of the new primary is a copy ----
$planned->stop('fast');
system('cp', '-a', $planned->data_dir, "$dir/again") == 0 or die;
my $again = crm_open_copy('again', "$dir/again", $planned);
$again->start;
is($again->safe_psql('plant', 'SELECT crm.mode(), crm.activation_problem()'), 'off|activated in another data directory, or restored into this one', 'its copy is off');
$again->stop('fast');
done_testing();
