# What a courier takes: under 64 MB besides the server's shared buffers that it has touched, and no more after many
# sends than after a few. CRM_SOAK: a million sends.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;

my $n = $ENV{CRM_SOAK} ? 1_000_000 : 20_000;
my $sink = CrmSink->new;
my $node = crm_node('memory');
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 64}');
ok($sink->courier_up($node), 'the courier runs');
my $pid = $sink->courier($node);

sub own_kb
{
	my $kb = 0;
	my $status = slurp_file("/proc/$pid/status");
	$kb += $1 while $status =~ /^Rss(?:Anon|File):\s+(\d+) kB/mg;
	return $kb;
}
sub send_off
{
	my ($count) = @_;
	$node->safe_psql('plant', "INSERT INTO plain.queue (sink) SELECT 'sink' FROM generate_series(1, $count)");
	# looked at seldom: counting a million rows takes the courier's core
	for (1 .. 1800)
	{
		return 1 if $node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE state <> 'sent'}) == 0;
		sleep 1;
	}
	return 0;
}
ok(send_off(10_000), 'a few are sent');
my $few = own_kb();
ok(send_off($n), 'many are sent');
my $many = own_kb();
note("$few kB after 10000 sends, $many kB after $n more");
is($sink->courier($node), $pid, 'by the same process');
cmp_ok($many, '<', 64 * 1024, 'it takes less than 64 MB');
cmp_ok($many - $few, '<', 2 * 1024, 'and does not grow');
$node->stop('fast');
done_testing();
