# Several couriers of a database: each integration is served by one of them, all are served; one that dies,
# and all that die at once, lose and repeat nothing; a change of the number has them share anew.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new(delay => 20);
my $node = crm_node('couriers', conf => "crm.couriers = 3\nmax_worker_processes = 12\nrestart_after_crash = on\n");
$sink->kind($node);
$sink->integration($node, "sink$_", '{"max_in_flight": 16}') foreach 1 .. 7;

my $pids = sub { my @p = split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier' ORDER BY 1}); return @p };
my $shares = sub { $node->safe_psql('plant', q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM (SELECT count(*) AS n FROM crm.lease GROUP BY pid) s}) };
my $fill = sub { $node->safe_psql('plant', "INSERT INTO plain.queue (sink, path, body) SELECT 'sink' || g % 7 + 1, CASE WHEN g % 5 = 0 THEN '/slow' ELSE '/' END, 'x' FROM generate_series(1, $_[0]) g") };
my $check = sub {
	my ($what) = @_;
	my $ledger = $sink->ledger;
	my ($lost, $twice) = (0, 0);
	foreach my $row (split /\n/, $node->safe_psql('plant', 'SELECT id, state FROM plain.queue'))
	{
		my ($id, $state) = split /\|/, $row;
		$lost++ if !$ledger->{$id} && $state ne 'uncertain';
		$twice++ if ($ledger->{$id} // 0) > 1;
	}
	is("$lost $twice", '0 0', "$what: nothing lost, nothing twice");
};

ok(wait_for(20, sub { $pids->() == 3 }), 'three couriers run');
is($node->safe_psql('plant', q{SELECT string_agg(detail, ' ') FROM crm.workers() WHERE kind = 'courier'}), '  ', 'and have nothing to complain about');
$fill->(3500);
ok($sink->settled($node, 30), 'every integration is served');
is($sink->states($node), 'sent 3500');
like($shares->(), qr/^[123]( [123]){1,2}$/, 'each by one of them, shared');
$check->('at work');

# ---- one dies, again and again ----
for my $round (1 .. 4)
{
	$fill->(2000);
	sleep rand 0.3;
	my @p = $pids->();
	kill 'KILL', $p[ $round % @p ];
	# a crash of one process restarts all of them
	ok(wait_for(30, sub { my @now = eval { $pids->() }; @now == 3 && !grep { my $n = $_; grep { $_ == $n } @p } @now }), "kill $round: three couriers again");
}
ok($sink->settled($node, 60), 'everything ends');
note $sink->states($node);
$check->('after the kills');

# ---- one that only ends, while the others go on ----
$fill->(2000);
my @before = $pids->();
$node->safe_psql('postgres', "SELECT pg_terminate_backend($before[1])");
ok(wait_for(20, sub { my @now = $pids->(); @now == 3 && !grep { $_ == $before[1] } @now }), 'one that was terminated is back');
my @now = $pids->();
is(scalar(grep { my $n = $_; grep { $_ == $n } @now } @before), 2, 'the others stayed');
ok($sink->settled($node, 30), 'all is sent');
$check->('after a termination');

# ---- another number ----
foreach my $number (1, 2)
{
	$node->append_conf('postgresql.conf', "crm.couriers = $number");
	$node->reload;
	ok(wait_for(20, sub { $pids->() == $number }), "$number of them");
	$fill->(1400);
	ok($sink->settled($node, 30), 'all integrations are served');
	is($shares->(), $number == 1 ? '7' : '3 4', 'shared anew');
	$check->("with $number");
}

$node->stop('fast');
done_testing();
