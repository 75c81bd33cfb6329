# A service that always fails, with 10,000 messages queued: the server's log grows by a handful of lines, crm.health
# says it once and in words, nothing is lost, and another service is served meanwhile.
use strict;
use warnings;
use CrmTest;
use CrmLedger;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $ledger = CrmLedger->new;
my $node = crm_node('failing');
$ledger->integrations($node);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
# nobody listens there; a refusal is the quickest failure that there is
$sql->(q{UPDATE crm.integration SET url = 'http://127.0.0.1:1/' WHERE name = 'sms'});
# of the server's own, not of this test's statements
sub lines { return scalar grep { !/ client backend LOG:  statement: / } split /\n/, slurp_file($node->logfile) }
my $before = lines();
$sql->(q{SELECT count(crm.send('sms', '+79161234567', 'n ' || g)) FROM generate_series(1, 10000) g});
my $seconds = $ENV{CRM_SOAK} ? 30 : 6;
my $started = time;
my $round = 0;
while (time < $started + $seconds)
{
	$sql->("SELECT crm.send('email', 'reader\@client.test', 'letter', 'About @{[ ++$round ]}'), crm.integration_retry('sms')");
	sleep 0.3;
}
ok(wait_for(10, sub { $ledger->count(qr/^letter/) == $round }), "another service is served: $round letters") or diag $ledger->count(qr/^letter/);
my $lines = lines() - $before;
note "$lines lines in the log in $seconds s, " . $sql->('SELECT count(*) FROM crm.message_attempt') . ' tries';
# a person who has it tried again is told again
my $told = () = slurp_file($node->logfile) =~ /its circuit is open/g;
cmp_ok($told, '<=', $round + 1, 'one line each time that the circuit opens');
cmp_ok($lines - $told, '<', 20, 'and the log stays small');
is($sql->(q{SELECT count(*) FROM crm.health WHERE subject = 'integration sms' AND message ~ '^sms fails and 10000 messages wait; its circuit is (open until [-0-9: +]+|half-open[^:]*): connect: '}), '1', 'crm.health says it once, in words')
	or diag $sql->('SELECT * FROM crm.health');
is($sql->(q{SELECT count(*) FROM crm.message WHERE channel = 'sms' AND state IN ('queued', 'sending')}), '10000', 'nothing is lost');
$node->stop('fast');
done_testing();
