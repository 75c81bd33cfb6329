# SMS through SMS4B by a real courier, with a double that keeps its own ledger of GUIDs and misbehaves: lost and half
# replies, web pages, faults, sessions that die, no money, a wrong password, and the courier killed. Every message is in the
# ledger once under its GUID; what was uncertain is resolved by asking.
# CRM_SMS_MESSAGES messages (200).
# claim 46 (the SMS provider is part of the module)
use strict;
use warnings;
use CrmTest;
use JSON::PP;
use SmsDouble;
use Test::More;
use Time::HiRes qw(sleep);

my $many = $ENV{CRM_SMS_MESSAGES} // 200;
my $double = double_start('sms4b', 'deliver-ms' => 300);
my $node = crm_node('sms4b', conf => 'restart_after_crash = on');
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $count = sub { return $sql->("SELECT count(*) FROM crm.message WHERE $_[0]") };
my $states = sub { return $sql->('SELECT state, count(*), min(last_error) FROM crm.message GROUP BY 1 ORDER BY 1') };
$sql->("SELECT crm.add_integration('sms4b', 'sms_sms4b', '" . $double->url . "/ws/sms.asmx', '"
	. '{"login": "crm", "sender": "CEMENT", "ask_ms": 500, "ask_max_ms": 1000, "ask_pace_ms": 200, "unknown_ms": 2500, "retry_ms": 200, "retry_max_ms": 1000, '
	. '"hold_ms": 500, "throttle_ms": 500, "timeout_ms": 2000, "balance_ms": 60000, "price": 3.5, "max_in_flight": 16}' . "', 'secret')");
is($sql->("SELECT crm.integration_test('sms4b')") =~ s/ \(.*//r, 'ok: SMS4B opens a session', 'the test opens a session');

$double->control($_) foreach (
	'fault=slow&op=send&ms=400&every=11', 'fault=drop&op=send&every=13', 'fault=cut&op=send&every=17', 'fault=half&op=send&every=19',
	'fault=status&code=500&op=send&every=23', 'fault=page&op=send&every=29', 'fault=page_after&op=send&every=31',
	'fault=lose&op=send&every=41', 'fault=slow&op=send&ms=3000&every=43', 'fault=deny&op=send&every=53', 'fault=error&code=-2&op=send&count=2&skip=50',
	'fault=half&op=status&every=7', 'fault=status&code=502&op=status&every=9', 'fault=error&code=-2&op=status&count=1&skip=4');
$sql->("SELECT count(crm.send('sms', '+7912' || lpad(i::text, 7, '0'), 'Машина ' || i || ': «20 т» & <5 %> ещё')) FROM generate_series(1, $many) i");
wait_for(30, sub { $count->("state IN ('sent', 'delivered')") > $many / 5 });
$double->control('expire=1');
ok(courier_killed($node), 'sessions die, the courier is killed in the middle, and another one is there');
ok(wait_for(150, sub { $count->("state NOT IN ('delivered', 'undelivered')") == 0 }), 'every message comes to its end') or diag($states->(), $sql->('SELECT * FROM crm.health'));
my $state = $double->control();
note join ', ', map { "$_: $state->{faults}{$_}" } sort keys %{ $state->{faults} };
my $ledger = $double->ledger();
is(scalar(keys %$ledger), $many, 'every message is in the ledger');
is(join(' ', grep { $ledger->{$_} != 1 } sort keys %$ledger), '', 'each once');
is($sql->("SELECT count(*) FROM crm.message m WHERE m.provider_id IS DISTINCT FROM crm.sms_sms4b_guid(1, m.id)::text OR m.provider_id <> ALL ('{" . join(',', keys %$ledger) . "}')"), 0,
	'under the GUID that is made of its number');
cmp_ok($sql->("SELECT count(DISTINCT message_id) FROM crm.message_attempt WHERE outcome = 'uncertain'"), '>', 20, 'many replies were lost: '
	. $sql->("SELECT count(DISTINCT message_id) FROM crm.message_attempt WHERE outcome = 'uncertain'"));
is($count->("state = 'undelivered'"), scalar(grep { $_->{denied} } values %{ $state->{messages} }), 'what was taken and then denied is undelivered');
my ($first) = grep { $_->{phone} eq '79120000001' } values %{ $state->{messages} };
is($first->{text}, JSON::PP->new->utf8->decode('"Машина 1: «20 т» & <5 %> ещё"'), 'the text is as it was written');
is($first->{sender}, 'CEMENT', 'with its sender');
cmp_ok($state->{requests}{start}, '<=', 12, "few sessions are opened: $state->{requests}{start}");

# no money: what is refused for it is tried again, the balance says why, and it stops
$double->control('clear=1');
$double->control('balance=35');
$sql->("SELECT count(crm.send('sms', '+7913' || lpad(i::text, 7, '0'), 'Money ' || i)) FROM generate_series(1, 20) i");
my $health = "SELECT message FROM crm.health WHERE subject = 'integration sms4b'";
ok(wait_for(30, sub { $sql->($health) =~ /^sms4b fails and 10 messages wait.*: balance: / }), 'without money it stops, and ten wait') or diag($sql->($health), $states->());
is($count->("state = 'failed'"), 0, 'nothing failed');
$double->control('balance=1000');
ok(wait_for(30, sub { $count->("body LIKE 'Money%' AND state = 'delivered'") == 20 }), 'money is there again: all go by themselves') or diag($states->());

# a wrong password
$double->control('auth=dead');
$sql->("SELECT count(crm.send('sms', '+7914' || lpad(i::text, 7, '0'), 'Auth ' || i)) FROM generate_series(1, 10) i");
ok(wait_for(30, sub { $sql->($health) =~ /^sms4b fails and 10 messages wait.*: auth: StartSession: error -1/ }), 'a refused password stops it, in words') or diag($sql->($health), $states->());
$double->control('auth=alive');
ok(wait_for(30, sub { $count->("body LIKE 'Auth%' AND state = 'delivered'") == 10 }), 'and it goes on by itself') or diag($states->(), $sql->($health));
ok(wait_for(20, sub { $sql->($health) eq '' }), 'health is quiet') or diag($sql->($health));
$ledger = $double->ledger();
is(join(' ', grep { $ledger->{$_} != 1 } sort keys %$ledger), '', 'and all are in the ledger once');
$node->stop;
done_testing();
