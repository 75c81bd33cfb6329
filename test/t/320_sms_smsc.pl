# SMS through SMSC by a real courier, with a double that keeps its own ledger and misbehaves: slow, refusing, half replies,
# dropped connections, web pages, messages that are taken and then denied, a throttle, no money, a wrong password, and
# the courier killed. Every message is in the ledger once under its number; what was uncertain is resolved by asking.
# CRM_SMS_MESSAGES messages (200).
# claim 9 (an account without money is a row of health in words, and messages wait)
# claim 46 (the SMS provider is part of the module)
use strict;
use warnings;
use CrmTest;
use JSON::PP;
use SmsDouble;
use Test::More;
use Time::HiRes qw(sleep);

my $many = $ENV{CRM_SMS_MESSAGES} // 200;
my $double = double_start('smsc', 'deliver-ms' => 300);
my $node = crm_node('smsc', conf => 'restart_after_crash = on');
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $count = sub { return $sql->("SELECT count(*) FROM crm.message WHERE $_[0]") };
my $states = sub { return $sql->('SELECT state, count(*), min(last_error) FROM crm.message GROUP BY 1 ORDER BY 1') };
$sql->("SELECT crm.add_integration('smsc', 'sms_smsc', '" . $double->url . "', '"
	. '{"login": "crm", "sender": "CEMENT", "ask_ms": 500, "ask_max_ms": 1000, "ask_pace_ms": 300, "unknown_ms": 2500, "retry_ms": 200, "retry_max_ms": 1000, '
	. '"hold_ms": 500, "throttle_ms": 500, "timeout_ms": 2000, "balance_ms": 60000, "max_in_flight": 16}' . "', 'secret')");
like($sql->("SELECT crm.integration_test('smsc')"), qr/^ok: balance 1000000.00 RUR/, 'the test asks for the balance');

# everything at once
$double->control($_) foreach (
	'fault=slow&op=send&ms=400&every=11', 'fault=drop&op=send&every=13', 'fault=cut&op=send&every=17', 'fault=half&op=send&every=19',
	'fault=status&code=500&op=send&every=23', 'fault=page&op=send&every=29', 'fault=page_after&op=send&every=31', 'fault=list&op=send&every=37',
	'fault=lose&op=send&every=41', 'fault=slow&op=send&ms=3000&every=43', 'fault=status&code=503&retry_after=1&op=send&count=1&skip=60',
	'fault=error&code=9&op=send&count=1&skip=90', 'fault=error&code=4&op=send&count=1&skip=120', 'fault=deny&op=send&every=53',
	'fault=half&op=status&count=1&skip=3', 'fault=status&code=502&op=status&count=1&skip=5', 'fault=drop&op=status&count=1&skip=7');
$sql->("SELECT count(crm.send('sms', '+7912' || lpad(i::text, 7, '0'), 'Машина ' || i || ' прибыла: «20 т» + 5 % & ещё.')) FROM generate_series(1, $many) i");
wait_for(30, sub { $count->("state IN ('sent', 'delivered')") > $many / 4 });
ok(courier_killed($node), 'the courier is killed in the middle, and another one is there');
ok(wait_for(120, sub { $count->("state NOT IN ('delivered', 'undelivered')") == 0 }), 'every message comes to its end') or diag($states->());
my $state = $double->control();
note join ', ', map { "$_: $state->{faults}{$_}" } sort keys %{ $state->{faults} };
my $ledger = $double->ledger();
is(scalar(keys %$ledger), $many, 'every message is in the ledger');
is(join(' ', grep { $ledger->{$_} != 1 } sort keys %$ledger), '', 'each once, under its number');
is($sql->("SELECT count(*) FROM crm.message m WHERE m.provider_id IS DISTINCT FROM m.id::text"), 0, 'whose number is ours');
cmp_ok($sql->("SELECT count(DISTINCT message_id) FROM crm.message_attempt WHERE outcome = 'uncertain'"), '>', 20, 'many replies were lost: '
	. $sql->("SELECT count(DISTINCT message_id) FROM crm.message_attempt WHERE outcome = 'uncertain'"));
is($count->("state = 'undelivered'"), scalar(grep { $_->{denied} } values %{ $state->{messages} }), 'what was taken and then denied is undelivered');
like($sql->("SELECT min(last_error) FROM crm.message WHERE state = 'undelivered'"), qr/^status 20: cannot be delivered/, 'in the words of the provider');
is($state->{messages}{1}{text}, JSON::PP->new->utf8->decode('"Машина 1 прибыла: «20 т» + 5 % & ещё."'), 'the text is as it was written');
cmp_ok($sql->("SELECT count(*) FROM crm.rejected WHERE what = 'reply to a message'"), '>', 1, 'what could not be read is kept');
cmp_ok($state->{largest}, '<=', 17, "no more at once than the setting says: $state->{largest}");
is($sql->("SELECT count(*) FROM crm.health WHERE subject LIKE 'integration smsc' OR subject = 'messages'"), 0, 'health is quiet at the end')
  or diag($sql->('SELECT * FROM crm.health'));
# one part each at one price: what was not told, since the reply was lost, is assumed at the price of the others
is($sql->('SELECT trim_scale(round(sum(amount), 2)) FROM crm.integration_spending'), 1000000 - $state->{balance}, 'the spending of the day is what was taken');

# no money: the integration stops, says so once, and everything waits
$double->control('clear=1');
$double->control('balance=35');
$sql->("SELECT count(crm.send('sms', '+7913' || lpad(i::text, 7, '0'), 'Short ' || i)) FROM generate_series(1, 30) i");
my $health = "SELECT message FROM crm.health WHERE subject = 'integration smsc'";
ok(wait_for(30, sub { $sql->($health) =~ /balance/ }), 'without money the integration stops');
ok(wait_for(30, sub { $sql->($health) =~ /20 messages wait/ }), 'what could be paid went, the others wait') or diag($sql->($health), $states->());
like($sql->($health), qr/^smsc fails and 20 messages wait.*: balance: /, 'health says it in words');
is($sql->("SELECT count(*) FROM crm.health WHERE subject LIKE '%smsc'"), 1, 'once');
like($sql->("SELECT hint FROM crm.health WHERE subject = 'integration smsc'"), qr/^Pay the account/, 'with what to do');
my $asked = $double->control()->{requests}{send};
sleep 2;
is($double->control()->{requests}{send}, $asked, 'while it is empty only the balance is asked') or diag($states->());
is($count->("state = 'failed'"), 0, 'nothing failed');
$double->control('balance=1000');
ok(wait_for(30, sub { $count->("body LIKE 'Short%' AND state = 'delivered'") == 30 }), 'money is there again: all go by themselves') or diag($states->());
ok(wait_for(10, sub { $sql->($health) eq '' }), 'and health is quiet');

# a wrong password is the same
$double->control('auth=dead');
$sql->("SELECT count(crm.send('sms', '+7914' || lpad(i::text, 7, '0'), 'Auth ' || i)) FROM generate_series(1, 10) i");
ok(wait_for(30, sub { $sql->($health) =~ /auth: / }), 'a refused password stops it');
like($sql->("SELECT hint FROM crm.health WHERE subject = 'integration smsc'"), qr/set_secret/, 'health says what to type');
$double->control('auth=alive');
ok(wait_for(30, sub { $count->("body LIKE 'Auth%' AND state = 'delivered'") == 10 }), 'and it goes on by itself') or diag($states->());

# the budget of a day
$sql->("UPDATE crm.integration SET settings = settings || jsonb_build_object('budget_day', (SELECT sum(amount) + 36 FROM crm.integration_spending)::text) WHERE name = 'smsc'");
$sql->("SELECT count(crm.send('sms', '+7915' || lpad(i::text, 7, '0'), 'Budget ' || i)) FROM generate_series(1, 15) i");
my $budget = "SELECT message FROM crm.health WHERE subject = 'budget smsc'";
ok(wait_for(30, sub { $sql->($budget) =~ /messages wait$/ }), 'the budget of the day stops it');
ok(wait_for(20, sub { $count->("body LIKE 'Budget%' AND state = 'delivered'") == 10 }), 'when ten are paid') or diag($states->(), $sql->($budget));
like($sql->($budget), qr/^The budget of smsc for the day, [0-9.]+ RUB, is used up \([0-9.]+ spent\) and 5 messages wait$/, 'health tells how much and how many');
is($count->("body LIKE 'Budget%' AND state = 'queued'"), 5, 'five wait');
$sql->("UPDATE crm.integration SET settings = settings - 'budget_day' WHERE name = 'smsc'");
ok(wait_for(30, sub { $count->("body LIKE 'Budget%' AND state = 'delivered'") == 15 }), 'raised, they go') or diag($states->());

$ledger = $double->ledger();
is(join(' ', grep { $ledger->{$_} != 1 } sort keys %$ledger), '', 'and all are in the ledger once');
$node->stop;
done_testing();
