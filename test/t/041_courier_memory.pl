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
my $url = $sink->url;
$node->safe_psql('plant', slurp_file(CrmTest::tree() . '/bench/kind.sql'));
$node->safe_psql('plant', "SELECT crm.add_integration('gate', 'x_bench_http', '$url/', '{\"sender\": \"PLANT\", \"max_in_flight\": 64}')");
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
	# as a rule's statement writes them
	$node->safe_psql('plant', qq{INSERT INTO crm.message_body (integration_id, lane, channel, recipient, sender, body, language, encoding, segments)
		SELECT i.id, 1, 'sms', '+7916' || lpad((g % 10000000)::text, 7, '0'), 'PLANT', 'Order 4711 has left the plant, 24.5 t of cement', 'en', 'GSM7', 1
		FROM crm.integration i, generate_series(1, $count) g});
	# looked at seldom: counting a million rows takes the courier's core
	for (1 .. 600)
	{
		return 1 if $node->safe_psql('plant', q{SELECT count(*) FROM crm.message WHERE state IN ('queued', 'sending')}) == 0;
		sleep 1 + $count / 100_000;
	}
	return 0;
}
ok(send_off(10_000), 'a few are sent');
# caches of what is looked at now and then fill with the first rounds of housekeeping, each ten seconds
sleep 12;
ok(send_off(10_000), 'and a few after it was housekept');
my $few = own_kb();
ok(send_off($n), 'many are sent');
my $many = own_kb();
note("$few kB after 20000 sends, $many kB after $n more");
is($sink->courier($node), $pid, 'by the same process');
cmp_ok($many, '<', 64 * 1024, 'it takes less than 64 MB');
cmp_ok($many - $few, '<', 2 * 1024, 'and does not grow');
$node->stop('fast');
done_testing();
