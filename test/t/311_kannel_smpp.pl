# SMS through Kannel to an operator over SMPP: the SMSC is a program of its own with another library's protocol. Texts of
# several parts arrive whole, receipts bring every message to its end, what the operator refuses is undelivered in its
# words; it throttles and hangs up once, and the courier is killed meanwhile: every message is in its ledger once.
# CRM_KANNEL_MESSAGES messages (100).
# claim 46 (the SMS provider is part of the module)
use strict;
use warnings;
use CrmTest;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SmsDouble;
use Test::More;
use Time::HiRes qw(sleep);

my $many = $ENV{CRM_KANNEL_MESSAGES} // 100;
my $folder = PostgreSQL::Test::Utils::tempdir() . '/smpp';
my ($admin, $box, $sendsms, $smsc, $listener) = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 5;
mkdir $folder or die "$folder: $!";
mkdir "$folder/spool";
my %run;
END { local $?; $_->kill_kill foreach values %run; }

sub answers { return IO::Socket::INET->new(PeerAddr => "127.0.0.1:$_[0]") ? 1 : 0 }

# the gateway, as docs/integration/sms_kannel.md has it, with an operator behind SMPP
open my $conf, '>', "$folder/kannel.conf" or die $!;
print {$conf} <<"END";
group = core
admin-port = $admin
admin-interface = 127.0.0.1
admin-password = "secret"
status-password = "secret"
smsbox-port = $box
smsbox-interface = 127.0.0.1
box-allow-ip = "127.0.0.1"
box-deny-ip = "*.*.*.*"
log-file = "$folder/bearerbox.log"
log-level = 1
dlr-storage = internal
store-type = spool
store-location = "$folder/spool"
sms-resend-freq = 2

group = smsc
smsc = smpp
smsc-id = OPERATOR
host = 127.0.0.1
port = $smsc
transceiver-mode = true
smsc-username = crm
smsc-password = secret
system-type = "VMA"
msg-id-type = 0x00
reconnect-delay = 1
enquire-link-interval = 10

group = smsbox
bearerbox-host = 127.0.0.1
bearerbox-port = $box
sendsms-port = $sendsms
sendsms-interface = 127.0.0.1
log-file = "$folder/smsbox.log"
log-level = 1
max-pending-requests = 64
http-request-retry = 60
http-queue-delay = 1

group = sendsms-user
username = crm
password = "secret"
max-messages = 10
concatenation = true

group = sms-service
keyword = default
catch-all = true
text = "nobody reads here"
max-messages = 0
END
close $conf;
my $start = sub {
	my ($name, $port, @command) = @_;
	$run{$name} = IPC::Run::start(\@command, '<', \undef, '>', "$folder/$name.out", '2>&1');
	return wait_for(20, sub { answers($port) });
};
ok($start->('smsc', $smsc, '/usr/bin/perl', tree() . '/test/double/smpp', '--port', $smsc, '--ledger', "$folder/ledger", '--deliver-ms', 200,
	'--invalid', '7918', '--undelivered', '7919', '--throttle-every', 90, '--cut-every', 60), 'the operator runs');
ok($start->('bearerbox', $box, '/usr/sbin/bearerbox', '-v', 4, "$folder/kannel.conf"), 'the gateway runs');
ok($start->('smsbox', $sendsms, '/usr/sbin/smsbox', '-v', 4, "$folder/kannel.conf"), 'and its smsbox');

my $node = crm_node('kannelsmpp', conf => 'restart_after_crash = on');
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $count = sub { return $sql->("SELECT count(*) FROM crm.message WHERE $_[0]") };
my $states = sub { return $sql->('SELECT state, count(*), min(last_error) FROM crm.message GROUP BY 1 ORDER BY 1') };
$sql->("SELECT crm.listen($listener)");
$sql->("SELECT crm.add_integration('kannel', 'sms_kannel', 'http://127.0.0.1:$sendsms/cgi-bin/sendsms', '{\"sender\": \"CEMENT\", \"retry_ms\": 200, \"retry_max_ms\": 1000}', 'secret')");
$sql->("SELECT crm.add_route('kannel', 'dlr', 'crm.sms_kannel_dlr', '{GET}')");
my $ledger = sub {
	open my $file, '<', "$folder/ledger" or return ();
	return map { JSON::PP->new->decode($_) } <$file>;
};

# texts, whole and in parts
my %text = ('79120000001' => [ 1, 'Машина А123ВС77 прибыла: «20 т» + 5 % & ещё.' ], '79120000002' => [ 4, 'Ваш груз отправлен. ' x 11 . 'Конец' ], '79120000003' => [ 2, 'Your cargo has left the plant. ' x 8 . 'End' ]);
$sql->("SELECT crm.send('sms', '+$_', '$text{$_}[1]')") foreach sort keys %text;
ok(wait_for(60, sub { $count->("state = 'delivered'") == 3 }), 'three messages are delivered by the receipts of the operator') or diag($states->());
my %got;
$got{ $_->{phone} }[ $_->{number} - 1 ] = $_ foreach $ledger->();
foreach my $phone (sort keys %text)
{
	my $whole = join '', map { $_->{text} } @{ $got{$phone} };
	utf8::encode($whole);
	is(scalar(@{ $got{$phone} }) . " $got{$phone}[0]{sender} $whole", "$text{$phone}[0] CEMENT $text{$phone}[1]", "$phone reads what was written");
}
is($sql->("SELECT count(*) FROM crm.message m WHERE m.provider_id !~ '^[0-9]{10}\$'"), 0, "the operator's number is the provider's id");

# many, some of them to numbers that it refuses or cannot reach; it throttles and hangs up, the courier is killed
$sql->("SELECT count(crm.send('sms', '+7913' || lpad(i::text, 7, '0'), 'Машина ' || i || ' прибыла.')) FROM generate_series(1, $many) i");
$sql->("SELECT count(crm.send('sms', '+7918' || lpad(i::text, 7, '0'), 'Отказ ' || i)) FROM generate_series(1, 5) i");
$sql->("SELECT count(crm.send('sms', '+7919' || lpad(i::text, 7, '0'), 'Недоставка ' || i)) FROM generate_series(1, 5) i");
wait_for(30, sub { $count->("state IN ('sent', 'delivered')") > $many / 10 });
ok(courier_killed($node), 'the courier is killed in the middle, and another one is there');
# What the gateway had not taken when the courier was killed is in doubt and held: Kannel cannot tell. The operator's own ledger
# can, and what is not there is sent again by hand.
ok(wait_for(60, sub { $count->("state NOT IN ('delivered', 'undelivered', 'uncertain')") == 0 }), 'every message comes to an end, or is in doubt');
wait_for(5, sub { $count->("state = 'uncertain'") == 0 });
my %there = map { ("+$_->{phone}" => 1) } $ledger->();
foreach my $row (split /\n/, $sql->("SELECT id, recipient FROM crm.message WHERE state = 'uncertain'"))
{
	my ($id, $recipient) = split /\|/, $row;
	$sql->("SELECT crm.message_resolve($id, 'resend')") if !$there{$recipient};
}
ok(wait_for(120, sub { $count->("state NOT IN ('delivered', 'undelivered')") == 0 }), 'every message comes to its end, by the receipts') or diag($states->(), $sql->('SELECT * FROM crm.health'));
is($count->("state = 'delivered'"), $many + 3, 'all are delivered');
like($sql->("SELECT string_agg(DISTINCT last_error, ' | ') FROM crm.message WHERE recipient LIKE '+7918%' AND state = 'undelivered'"), qr/^report 16: NACK\/0x0000000b\/Invalid Destination Address/,
	'but for those that the operator refuses, in its words');
like($sql->("SELECT string_agg(DISTINCT last_error, ' | ') FROM crm.message WHERE recipient LIKE '+7919%' AND state = 'undelivered'"), qr/^report 2: .*stat:UNDELIV/,
	'and those that it could not reach');
is($count->("state = 'undelivered'"), 10, 'ten of them');
my %times;
$times{ $_->{phone} }++ foreach grep { $_->{number} == 1 } $ledger->();
is(scalar(keys %times), $many + 3 + 5, 'the operator has every message that it took');
is(join(' ', grep { $times{$_} != 1 } sort keys %times), '', 'each once');
like(slurp_file("$folder/bearerbox.log"), qr/Throttling|throttl/i, 'it throttled');
cmp_ok(() = slurp_file("$folder/bearerbox.log") =~ /Reconnecting|connection.*(?:lost|broken|closed)|error while receiving/gi, '>=', 1, 'and hung up');
is($sql->("SELECT count(*) FROM crm.rejected WHERE integration_id IS NOT NULL"), 0, 'no report was rejected') or diag($sql->('SELECT what, reason, convert_from(bytes, \'UTF8\') FROM crm.rejected'));
$node->stop;
done_testing();
