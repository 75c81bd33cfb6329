# kill -9 of the courier, again and again while much is queued: nothing is lost, nothing comes twice, and
# what may have left is counted in uncertain.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use Test::More;
use Time::HiRes qw(time sleep);

my $kills = $ENV{CRM_KILLS} // ($ENV{CRM_SOAK} ? 200 : 6);
my $seed = $ENV{CRM_SEED} // 1;
srand $seed;
note "seed $seed, $kills kills";

my $sink = CrmSink->new(delay => 5);
my $node = crm_node('kill', conf => "restart_after_crash = on\nfsync = on\n");
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 64}');
ok($sink->courier_up($node), 'the courier runs');

my $queued = 0;
my $slowest = 0;
for my $round (1 .. $kills)
{
	my $count = 2000;
	$node->safe_psql('plant', "INSERT INTO plain.queue (path, body) SELECT CASE WHEN g % 3 = 0 THEN '/slow' ELSE '/' END, 'x' FROM generate_series(1, $count) g");
	$queued += $count;
	sleep rand 0.4;
	my $pid = $sink->courier($node);
	next unless $pid;
	kill 'KILL', $pid;
	my $started = time;
	my $up = wait_for(30, sub {
		my ($rc, $out) = $node->psql('plant', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier' AND pid <> $pid");
		return $rc == 0 && $out ne '';
	});
	ok($up, "kill $round: a new courier is there");
	my $took = time - $started;
	$slowest = $took if $took > $slowest;
}
ok($sink->settled($node, 60), 'everything ends');
note 'states: ' . $sink->states($node) . sprintf('; slowest return %.1f s', $slowest);

my $ledger = $sink->ledger;
my ($lost, $twice, $unclear, $untrue) = (0, 0, 0, 0);
foreach my $row (split /\n/, $node->safe_psql('plant', 'SELECT id, state FROM plain.queue'))
{
	my ($id, $state) = split /\|/, $row;
	my $came = $ledger->{$id} // 0;
	$twice++ if $came > 1;
	$unclear++ if $state eq 'uncertain';
	$lost++ if $came == 0 && $state ne 'uncertain';
	$untrue++ if $state eq 'sent' && $came == 0;
}
is($node->safe_psql('plant', 'SELECT count(*) FROM plain.queue'), $queued, 'every row is there');
is($lost, 0, 'none is lost');
is($twice, 0, 'none came twice');
is($untrue, 0, 'none counts as sent that did not come');
# what is in flight, and what came back and was not yet settled
cmp_ok($unclear, '<=', $kills * (64 + 2200), "uncertain only what was in hand: $unclear");

$node->stop('fast');
done_testing();
