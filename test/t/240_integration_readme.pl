# The example of docs/integration/README.md, word for word, against a provider that behaves as it says.
# claim 46: an SMS provider is added by two functions and a row
# claim 20: crm.integration_test() returns the provider's words and the time
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use ListenerTest;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my ($readme) = grep { -f } map { "$_/docs/integration/README.md" } ("$FindBin::Bin/../..", $ENV{CRM_TOP} // ());
plan skip_all => 'docs are not here' unless $readme;
my @blocks = slurp_file($readme) =~ /^```sql\n(.*?)^```/msg;
is(scalar(@blocks), 3, 'the example has three parts');

# the provider: answers by what it is asked, and writes down every request
my $dir = PostgreSQL::Test::Utils::tempdir();
my $server = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 50, ReuseAddr => 1) or die "provider: $!";
my $provider_port = $server->sockport;
my $provider = fork() // die;
if ($provider == 0)
{
	require POSIX;
	while (my $c = $server->accept)
	{
		my $got = '';
		while ($got !~ /\r\n\r\n/) { sysread($c, my $piece, 4096) or last; $got .= $piece }
		my ($length) = $got =~ /Content-Length: (\d+)/i;
		while ($length && length($got) - index($got, "\r\n\r\n") - 4 < $length) { sysread($c, my $piece, 4096) or last; $got .= $piece }
		open(my $log, '>>', "$dir/requests") or POSIX::_exit(1);
		print $log $got, "\n";
		close $log;
		my ($status, $body) = $got !~ /Authorization: Bearer the-key-of-acme\r\n/ ? (401, '{}')
			: $got =~ m{^GET /v1/balance } ? (200, '{"balance": 12.5}')
			: $got =~ /79160000400/ ? (400, '{"error": "no such number"}')
			: $got =~ /79160000500/ ? (200, 'this is no JSON')
			: (200, '{"message_id": "acme-1"}');
		syswrite($c, "HTTP/1.1 $status X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " . length($body) . "\r\n\r\n$body");
		close $c;
	}
	POSIX::_exit(0);
}
close $server;
END { local $?; kill 'KILL', $provider if $provider }

my $node = crm_node('readme');
my $port = PostgreSQL::Test::Cluster::get_free_port();
open(my $key, '>', "$dir/key") or die;
print $key "the-key-of-acme\n";
close $key;
chmod 0600, "$dir/key";
for (@blocks)
{
	s{https://api\.acme\.example/v1}{http://127.0.0.1:$provider_port/v1};
	s{file:/etc/crm/acme\.key}{file:$dir/key};
	s{listen\(18080\)}{listen($port)};
}

$node->safe_psql('plant', $blocks[0]);
my $said = $node->safe_psql('plant', $blocks[1]);
like($said, qr/^ok, balance 12\.5 \(\d+ ms\)$/m, 'crm.integration_test() gives the words and the time');
my ($path) = $said =~ m{^(/h/acme/report/[0-9a-f]+)$}m;
ok($path, 'the route has a path');
like($node->safe_psql('plant', $blocks[2]), qr/^ok, balance 7$/, 'the test of the kind on recorded bytes');

my $state = sub { $node->safe_psql('plant', "SELECT string_agg(state, ' ' ORDER BY id) FROM crm.message") };
ok(wait_for(20, sub { $state->() eq 'sent' }), 'the message is sent') or diag($state->());
my $asked = slurp_file("$dir/requests");
like($asked, qr/\{"to": "\+79161234567", "from": "PLANT", "text": "Цемент отгружен"/, 'as the provider wants it');
is($node->safe_psql('plant', 'SELECT provider_id FROM crm.message'), 'acme-1', 'its id is kept');

# the report, by the address that the provider was given (before the listener was up there is none in the first message)
ok(wait_for(10, sub { (ask($port, 'GET', "$path?id=" . $node->safe_psql('plant', 'SELECT id FROM crm.message') . '&state=delivered'))[0] == 200 }), 'the provider reports');
is($state->(), 'delivered', 'the message is delivered');
is((ask($port, 'GET', "$path?id=999999&state=delivered"))[0], 200, 'a report for a message that is not ours is taken');
is($node->safe_psql('plant', "SELECT what, convert_from(bytes, 'UTF8') FROM crm.rejected WHERE what = 'report'"), 'report|id=999999&state=delivered', '… and kept');

# a refusal is final; an answer that cannot be read leaves its message uncertain, with its bytes kept; the address of reports is given
$node->safe_psql('plant', "SELECT crm.send('sms', r, 'x') FROM unnest('{+79160000400,+79160000500,+79160000200}'::text[]) r");
ok(wait_for(20, sub { $state->() eq 'delivered failed uncertain sent' }), 'refused, not readable, sent') or diag($state->());
is($node->safe_psql('plant', 'SELECT last_error FROM crm.message ORDER BY id OFFSET 1 LIMIT 1'), 'no such number', 'the provider\'s words');
is($node->safe_psql('plant', "SELECT convert_from(bytes, 'UTF8') FROM crm.rejected WHERE what LIKE 'sms_acme.take%'"), 'this is no JSON', 'the bytes that could not be read');
like(slurp_file("$dir/requests"), qr{"report_to": "http://127\.0\.0\.1:$port/h/acme/report/[0-9a-f]{64}\?id=\d+"}, 'reports are asked for');

# a key that is refused: the messages wait, crm.health says it, and after mending all goes on
open($key, '>', "$dir/key") or die;
print $key "another-key\n";
close $key;
like($node->safe_psql('plant', "SELECT crm.integration_test('acme')"), qr/^failed: the key is refused/, 'the test says so');
$node->safe_psql('plant', "SELECT crm.send('sms', '+79160000201', 'waits')");
ok(wait_for(20, sub { $node->safe_psql('plant', "SELECT message FROM crm.health WHERE subject = 'integration acme'") =~ /the key is refused/ }), 'crm.health says so');
open($key, '>', "$dir/key") or die;
print $key "the-key-of-acme\n";
close $key;
$node->safe_psql('plant', "SELECT crm.integration_retry('acme')");
ok(wait_for(20, sub { $state->() =~ / sent$/ && $state->() !~ /queued|sending/ }), 'after mending it goes on') or diag($state->());

# secrets
$node->stop('fast');
unlike(slurp_file($node->logfile), qr/the-key-of-acme|another-key/, 'the key is in no log');
done_testing();
