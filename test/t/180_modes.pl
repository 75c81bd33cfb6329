# The three modes on the wire, with an SMS gateway and a mail server that keep a ledger: live reaches the
# readers; sandbox reaches test recipients only, and each message says so; off reaches nobody. What was queued
# live goes to the testers once the mode is sandbox, and what was queued in the sandbox never to its reader.
use strict;
use warnings;
use CrmTest;
use CrmLedger;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $ledger = CrmLedger->new;
my $node = crm_node('modes');
$ledger->integrations($node);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $send = sub {
	my (@words) = @_;
	foreach my $word (@words)
	{
		$sql->("SELECT crm.send('sms', '+79161234567', '$word'), crm.send('email', 'reader\@client.test', '$word', 'About $word', html => '<p>$word</p>')");
	}
};
my $came = sub {
	my ($number, $pattern) = @_;
	ok(wait_for(15, sub { $ledger->count($pattern) >= $number }), "came: $number of $pattern") or diag explain [ map { "@$_[0 .. 2]" } @{ $ledger->entries } ];
	is($ledger->count($pattern), $number, 'and no more');
};
$sql->(q{INSERT INTO crm.sandbox_recipient (channel, value) VALUES ('sms', '+79990000001'), ('email', 'tester@crm.test')});
my $real = qr/^(sms \+79161234567|letter reader\@client)/;

# ---- live ----
$send->('alpha');
$came->(2, qr/alpha/);
is($ledger->count(qr/^sms \+79161234567 alpha$/), 1, 'the SMS reaches its reader, as written');
is($ledger->count(qr/^letter reader\@client\.test /), 1, 'and so does the letter');

# ---- sandbox ----
is($sql->(q{SELECT crm.activate('sandbox')}), 'sandbox', 'sandbox');
$ledger->clear;
$send->('bravo');
$came->(2, qr/bravo/);
is($ledger->count(qr/^sms \+79990000001 \[sandbox: \+79161234567\] bravo$/), 1, 'the SMS goes to the tester and says whose it was');
my ($letter) = grep { $_->[0] eq 'letter' } @{ $ledger->entries };
is($letter->[1], 'tester@crm.test', 'the letter goes to the tester');
like($letter->[2], qr/^Subject: \[sandbox\] About bravo/m, 'its subject says so');
like($letter->[2], qr/^To: .*tester\@crm\.test/m, 'its head names the tester');
my @marks = $letter->[2] =~ /\[sandbox: reader\@client\.test\]/g;
is(scalar @marks, 2, 'plain text and html both say whose it was');
is($ledger->count($real), 0, 'nothing reached the readers');

# ---- off ----
is($sql->(q{SELECT crm.activate('off')}), 'off', 'off');
my $before = $ledger->bytes;
$send->('charlie');
sleep 2;
is($ledger->bytes, $before, 'nothing leaves');
is($sql->(q{SELECT count(*) FROM crm.message WHERE body = 'charlie' AND state = 'queued'}), '2', 'and nothing is lost');
like($sql->(q{SELECT message FROM crm.health WHERE subject = 'mode'}), qr/The mode is off/, 'crm.health says it');
my ($rc, $out, $err) = $node->psql('plant', q{SELECT crm.integration_test('sms')});
like($err, qr/talks to nobody: its mode is off/, 'a test by hand neither');

# queued while it was off; sent in the mode of its hour
is($sql->(q{SELECT crm.activate('sandbox')}), 'sandbox', 'sandbox again');
$came->(2, qr/charlie/);
is($ledger->count($real), 0, 'what was queued before goes to the testers');

# ---- back to live: what was queued in the sandbox never reaches its reader ----
$ledger->stop;
$send->('delta');
ok(wait_for(10, sub { $sql->(q{SELECT min(attempts) > 0 FROM crm.message WHERE body = 'delta'}) eq 't' }), 'queued in the sandbox, tried in vain');
is($sql->(q{SELECT crm.activate('live')}), 'live', 'live again');
$send->('echo');
$ledger->start;
$sql->(q{SELECT crm.integration_retry('sms'), crm.integration_retry('mail')});
$came->(2, qr/delta/);
$came->(2, qr/echo/);
is($ledger->count(qr/^(sms \+79990000001|letter tester).*delta/s), 2, 'queued in the sandbox: to the testers');
is($ledger->count(qr/^(sms \+79161234567|letter reader).*echo/s), 2, 'queued live: to the readers');

# a setting never raises
$sql->(q{SELECT crm.activate('sandbox')});
is($sql->(q{SET crm.mode = 'live'; SELECT crm.mode()}), 'sandbox', 'a setting of live raises nothing');

$node->stop('fast');
done_testing();
