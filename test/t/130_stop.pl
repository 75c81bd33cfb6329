# Stops: fast with 100 hanging requests, immediate, the postmaster killed alone, the courier terminated at
# any moment of its start: nobody stays, nothing crashes, what may have left is uncertain.
# alone: it measures how long things take
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new;
my $node = crm_node('stop');
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 100}');
ok($sink->courier_up($node), 'the courier runs');
my $hang = sub {
	$node->safe_psql('plant', q{INSERT INTO plain.queue (path, timeout) SELECT '/hang', 600000 FROM generate_series(1, 100)});
	ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT in_flight FROM crm.workers() WHERE kind = 'courier'}) == 100 }), '100 requests hang');
};

$hang->();
my $started = time;
$node->stop('fast');
cmp_ok(time - $started, '<', 2, 'a fast stop does not wait for them');
$node->start;
ok($sink->courier_up($node), 'a new courier');
ok(wait_for(10, sub { $sink->states($node) eq 'uncertain 100' }), 'they are uncertain') or diag $sink->states($node);

$hang->();
$node->stop('immediate');
$node->start;
ok($sink->courier_up($node), 'a new courier after an immediate stop');
ok(wait_for(10, sub { $sink->states($node) eq 'uncertain 200' }), 'they are uncertain') or diag $sink->states($node);

# ---- not trusted: a file of another boot ----
$node->stop('fast');
$node->start;
$sink->courier_up($node);
$node->safe_psql('plant', q{UPDATE crm.integration SET enabled = false});
$node->safe_psql('plant', q{TRUNCATE plain.queue; INSERT INTO plain.queue (state) SELECT 'sending' FROM generate_series(1, 5)});
$node->restart;
ok(wait_for(10, sub { $sink->states($node) eq 'queued 5' }), 'leased and not in the flight file: it was not sent') or diag $sink->states($node);
$node->safe_psql('plant', q{UPDATE plain.queue SET state = 'sending'});
$node->stop('fast');
my ($file) = glob($node->data_dir . '/crm_flight/*.0');
open my $fh, '+<', $file or die;
seek $fh, 40, 0;
print $fh 'another boot';
close $fh;
$node->start;
ok(wait_for(10, sub { $sink->states($node) eq 'uncertain 5' }), 'a file of another boot is not trusted') or diag $sink->states($node);

# ---- the postmaster alone ----
$node->safe_psql('plant', q{TRUNCATE plain.queue; UPDATE crm.integration SET enabled = true});
$hang->();
my $courier = $sink->courier($node);
my $launcher = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm launcher'});
my $postmaster = (split /\n/, slurp_file($node->data_dir . '/postmaster.pid'))[0];
# a process that has ended may wait for its new parent to notice
my $gone = sub {
	my ($pid) = @_;
	open my $stat, '<', "/proc/$pid/stat" or return 1;
	return (<$stat> // ') Z') =~ /\) [ZX]/;
};
my @children = split ' ', `pgrep -P $postmaster`;
kill 'KILL', $postmaster;
$started = time;
ok(wait_for(5, sub { $gone->($courier) && $gone->($launcher) }), 'courier and launcher end with the postmaster');
cmp_ok(time - $started, '<', 1, 'within a second');
$node->{_pid} = undef;
wait_for(20, sub { !grep { !$gone->($_) } @children });
# where nobody collects the dead postmaster its number still counts as taken
if (!wait_for(5, sub { !kill 0, $postmaster }))
{
	unlink glob($node->host . '/.s.PGSQL.*.lock');
}
unlink $node->data_dir . '/postmaster.pid';
$node->start;
ok($sink->courier_up($node), 'the cluster comes back');
ok(wait_for(10, sub { $sink->states($node) eq 'uncertain 100' }), 'and knows what may have left');

# ---- SIGTERM at any moment of the start ----
my $rounds = $ENV{CRM_SOAK} ? 500 : 25;
for (1 .. $rounds)
{
	wait_for(10, sub { ($courier = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'})) ne '' });
	kill 'TERM', $courier;
	sleep rand 0.08;
}
ok($sink->courier_up($node), "terminated $rounds times, the courier is back");

# ---- settings ----
$node->safe_psql('plant', q{SELECT pg_reload_conf()});
$node->safe_psql('plant', q{TRUNCATE plain.queue; INSERT INTO plain.queue (body) VALUES ('after the reload')});
ok($sink->settled($node, 10), 'it works after SIGHUP');

$node->stop('fast');
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal (6|11)/, 'nothing crashed');
done_testing();
