# A fast stop with 1000 requests hanging takes about as long as one with none. With CRM_SOAK also what DROP
# DATABASE of another database costs with them, against a server without crm, in one run.
# alone: it measures how long things take
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new;
my $node = crm_node('thousand', conf => "max_files_per_process = 3000\n");
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 1000}');
ok($sink->courier_up($node), 'the courier runs');
my $hang = sub {
	$node->safe_psql('plant', q{INSERT INTO plain.queue (path, timeout) SELECT '/hang', 600000 FROM generate_series(1, 1000)});
	my $in_flight = 0;
	ok(wait_for(20, sub { ($in_flight = $node->safe_psql('plant', q{SELECT in_flight FROM crm.workers() WHERE kind = 'courier'})) == 1000 }), '1000 requests hang') or diag $in_flight;
};
$hang->();

if ($ENV{CRM_SOAK})
{
	my $bare = PostgreSQL::Test::Cluster->new('bare');
	$bare->init;
	$bare->append_conf('postgresql.conf', "fsync = off\nmax_worker_processes = 8\n");
	$bare->start;
	my %took;
	foreach my $i (1 .. 30)
	{
		foreach my $n ($bare, $node)
		{
			$n->safe_psql('postgres', "CREATE DATABASE x$i");
			my $started = time;
			$n->safe_psql('postgres', "DROP DATABASE x$i");
			push @{ $took{ $n->name } }, time - $started;
		}
	}
	my %median = map { $_ => (sort { $a <=> $b } @{ $took{$_} })[15] } keys %took;
	my $ratio = $median{thousand} / $median{bare};
	note sprintf 'DROP DATABASE of another: %.1f ms, bare %.1f ms, ratio %.2f', 1000 * $median{thousand}, 1000 * $median{bare}, $ratio;
	cmp_ok($ratio, '<=', 1.5, 'DROP DATABASE of another database costs at most half more');
	$bare->stop('fast');
}

my $started = time;
$node->stop('fast');
my $took = time - $started;
note sprintf 'fast stop: %.2f s', $took;
cmp_ok($took, '<', 2, 'a fast stop does not wait for them');
$node->start;
ok($sink->courier_up($node), 'a new courier');
ok(wait_for(10, sub { $sink->states($node) eq 'uncertain 1000' }), 'what may have left is uncertain, all of it') or diag $sink->states($node);
$started = time;
$node->stop('fast');
note sprintf 'fast stop with nothing under way: %.2f s', time - $started;
done_testing();
