# SMS through described providers by a real courier: one that speaks JSON, one XML, one forms, each a double with a ledger
# of its own. Texts arrive as written whatever stands in them; with the double misbehaving and the courier killed every
# message is in the ledger once under its number; reports come by question and by call; money and keys stop and resume.
# CRM_SMS_MESSAGES messages (200).
# claim 46 (an SMS provider is a row)
use strict;
use warnings;
use CrmTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SmsDouble;
use Test::More;
use Time::HiRes qw(sleep);

my $many = $ENV{CRM_SMS_MESSAGES} // 200;
my $node = crm_node('smshttp', conf => 'restart_after_crash = on');
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $count = sub { return $sql->("SELECT count(*) FROM crm.message WHERE $_[0]") };
my $states = sub { return $sql->('SELECT integration_id, state, count(*), min(last_error) FROM crm.message GROUP BY 1, 2 ORDER BY 1, 2') };
my $listener = PostgreSQL::Test::Cluster::get_free_port();
$sql->("SELECT crm.listen($listener)");
my $quick = '{"ask_ms": 500, "ask_max_ms": 1000, "ask_pace_ms": 100, "unknown_ms": 2500, "retry_ms": 200, "retry_max_ms": 1000, '
  . '"hold_ms": 500, "throttle_ms": 500, "timeout_ms": 2000, "balance_ms": 60000}';
my %double;
foreach my $name (qw(json xml form))
{
	$double{$name} = double_start('sms_http', 'deliver-ms' => 300);
	my $description = slurp_file(tree() . "/test/data/sms_http/$name.json") =~ s/'/''/gr;
	$sql->("SELECT crm.add_integration('$name', 'sms_http', '" . $double{$name}->url . "', '$description'::jsonb || '$quick', 'secret')");
}
like($sql->("SELECT crm.integration_test('json')"), qr/^ok: balance 1000000.00/, 'the test checks the description and asks for the balance');
my ($rc, $out, $err) = $node->psql('plant', "SELECT crm.integration_test('form')");
like($err, qr/in order, but has no part balance/, 'where none is described it checks and says so');

# texts as they are written, in each dialect
my $text = "Машина «А123ВС77»: \"20 т\" + 5 % & <b>ещё</b> \\n {{id}} \\u0041 'x'\r\n]]>";
foreach my $name (sort keys %double)
{
	my $quoted = $text =~ s/'/''/gr;
	$sql->("SELECT crm.send('sms', '+79120000001', '$quoted', integration => '$name')");
}
ok(wait_for(30, sub { $count->("state IN ('sent', 'delivered')") == 3 }), 'one message goes by each') or diag($states->(), $sql->('SELECT * FROM crm.health'));
my $body = $sql->("SELECT min(encode(convert_to(body, 'UTF8'), 'hex')) FROM crm.message");
foreach my $name (sort keys %double)
{
	my ($got) = values %{ $double{$name}->control()->{messages} };
	my $bytes = $got->{text};
	utf8::encode($bytes);
	# XML reads a line end as a line feed, whoever wrote it
	my $want = pack('H*', $body);
	$want =~ s/\r\n?/\n/g, $bytes =~ s/\r\n?/\n/g if $name eq 'xml';
	is(unpack('H*', $bytes), unpack('H*', $want), "$name: the text is as it was written");
	is($got->{phone}, '79120000001', "$name: the number too");
}

# everything at once
$double{json}->control($_) foreach (
	'fault=slow&op=send&ms=400&every=11', 'fault=drop&op=send&every=13', 'fault=cut&op=send&every=17', 'fault=half&op=send&every=19',
	'fault=status&code=500&op=send&every=23', 'fault=page&op=send&every=29', 'fault=page_after&op=send&every=31', 'fault=list&op=send&every=37',
	'fault=lose&op=send&every=41', 'fault=slow&op=send&ms=3000&every=43', 'fault=late&op=send&ms=1500&every=47', 'fault=deny&op=send&every=53',
	'fault=status&code=429&retry_after=1&op=send&count=1&skip=60', 'fault=error&code=rate&op=send&count=1&skip=90', 'fault=bytes&hex=ff00fe7b&op=send&every=59',
	'fault=half&op=status&every=13', 'fault=status&code=502&op=status&every=17', 'fault=drop&op=status&every=19', 'fault=page&op=status&every=23');
$double{xml}->control($_) foreach ('fault=drop&op=send&every=7', 'fault=half&op=send&every=9', 'fault=lose&op=send&every=11', 'fault=page&op=send&every=13', 'fault=half&op=status&every=7');
$sql->("SELECT count(crm.send('sms', '+7912' || lpad(i::text, 7, '0'), 'Машина ' || i, integration => 'json')) FROM generate_series(2, $many) i");
$sql->("SELECT count(crm.send('sms', '+7913' || lpad(i::text, 7, '0'), 'Вагон <' || i || '>', integration => 'xml')) FROM generate_series(2, $many / 4) i");
$sql->("SELECT count(crm.send('sms', '+7914' || lpad(i::text, 7, '0'), 'Трактор & ' || i, integration => 'form')) FROM generate_series(2, 20) i");
wait_for(30, sub { $count->("state IN ('sent', 'delivered')") > $many / 4 });
ok(courier_killed($node), 'the courier is killed in the middle, and another one is there');
my $ended = "state IN ('delivered', 'undelivered')";
ok(wait_for(150, sub { $count->("integration_id < 3 AND NOT $ended") == 0 }), 'every message of those that can be asked comes to its end') or diag($states->());
foreach my $name (qw(json xml))
{
	my $state = $double{$name}->control();
	note "$name: " . join ', ', map { "$_: $state->{faults}{$_}" } sort keys %{ $state->{faults} };
	my $ledger = $double{$name}->ledger();
	is(scalar(keys %$ledger), $name eq 'json' ? $many : int($many / 4), "$name: every message is in the ledger");
	is(join(' ', grep { $ledger->{$_} != 1 } sort keys %$ledger), '', "$name: each once, under its number");
	is($count->("integration_id = (SELECT id FROM crm.integration WHERE name = '$name') AND state = 'undelivered'"),
		scalar(grep { $_->{denied} } values %{ $state->{messages} }), "$name: what was taken and then denied is undelivered");
}
cmp_ok($sql->("SELECT count(DISTINCT message_id) FROM crm.message_attempt WHERE outcome = 'uncertain'"), '>', 20, 'many replies were lost: '
	. $sql->("SELECT count(DISTINCT message_id) FROM crm.message_attempt WHERE outcome = 'uncertain'"));
# the one that cannot be asked: sent, or uncertain for a person, and none twice
ok(wait_for(20, sub { $count->("integration_id = 3 AND state NOT IN ('sent', 'uncertain')") == 0 }), 'form: all are sent, or uncertain') or diag($states->());
my $form = $double{form}->ledger();
is(join(' ', grep { $form->{$_} != 1 } sort keys %$form), '', 'form: none is in the ledger twice');
is($sql->("SELECT count(*) FROM crm.message WHERE integration_id = 3 AND state = 'sent' AND id::text <> ALL ('{" . join(',', keys %$form) . "}')"), 0, 'form: what counts as sent is there');

# reports by call instead of questions
$_->control('clear=1') foreach values %double;
$sql->("SELECT crm.add_route('json', 'report', 'crm.sms_http_report', '{GET,POST}')");
$sql->(q[UPDATE crm.integration SET settings = (settings - '{status}'::text[]) || '{"on_unknown": "hold", "report": {"state": "query:state", "states": {"delivered": "delivered", "failed": "undelivered"}}}'
	|| jsonb_build_object('send', settings -> 'send' || '{"body": "{\"to\": \"{{recipient}}\", \"from\": \"{{sender}}\", \"text\": \"{{text}}\", \"ref\": \"{{id}}\", \"report_url\": \"{{report_url}}\"}"}') WHERE name = 'json']);
$double{json}->control('fault=deny&op=send&every=10');
my $asked = $double{json}->control()->{requests}{status};
$sql->("SELECT count(crm.send('sms', '+7915' || lpad(i::text, 7, '0'), 'Call ' || i, integration => 'json')) FROM generate_series(1, 20) i");
ok(wait_for(60, sub { $count->("body LIKE 'Call%' AND $ended") == 20 }), 'reports that the provider calls bring them to their end') or diag($states->(), $sql->('SELECT what, reason, seen FROM crm.rejected'));
is($count->("body LIKE 'Call%' AND state = 'undelivered'"), 2, 'two of them undelivered, as it said');
is($double{json}->control()->{requests}{status}, $asked, 'and nothing was asked');

# no money: here the balance is asked; the one that describes none is tried with one message
$double{$_}->control('clear=1'), $double{$_}->control('balance=17.5') foreach qw(json xml);
$sql->("SELECT count(crm.send('sms', '+7916' || lpad(i::text, 7, '0'), 'Money ' || i, integration => '$_')) FROM generate_series(1, 10) i") foreach qw(json xml);
foreach my $name (qw(json xml))
{
	my $health = "SELECT message FROM crm.health WHERE subject = 'integration $name'";
	ok(wait_for(30, sub { $sql->($health) =~ /^\w+ fails and 5 messages wait.*: balance: / }), "$name: without money it stops, and five wait") or diag($sql->($health), $states->());
}
my $since = Time::HiRes::time();
my $sends = $double{xml}->control()->{requests}{send};
sleep 2;
$sends = $double{xml}->control()->{requests}{send} - $sends;
cmp_ok($sends, '<=', (Time::HiRes::time() - $since) / 0.5 + 1, 'xml: it is tried with one message in hold_ms');
is($count->("body LIKE 'Money%' AND state = 'failed'"), 0, 'nothing failed');
$double{$_}->control('balance=1000') foreach qw(json xml);
ok(wait_for(40, sub { $count->("body LIKE 'Money%' AND state = 'delivered'") == 20 }), 'money is there again: all go by themselves') or diag($states->());
ok(wait_for(20, sub { $sql->("SELECT count(*) FROM crm.health WHERE subject ~ '^integration (json|xml)'") == 0 }), 'and health is quiet') or diag($sql->('SELECT * FROM crm.health'));

# a mistake in a description sends nothing and says what is wrong
$sql->(q~UPDATE crm.integration SET settings = settings || '{"rules": [{"place": "$.a[", "class": "permanent"}]}' WHERE name = 'form'~);
my $before = $double{form}->control()->{requests}{send};
$sql->("SELECT crm.send('sms', '+79170000001', 'Wrong', integration => 'form')");
ok(wait_for(20, sub { $sql->("SELECT message FROM crm.health WHERE subject = 'integration form'") =~ /jsonpath/ }), 'a broken description is a row of health')
  or diag($sql->('SELECT * FROM crm.health'));
is($double{form}->control()->{requests}{send}, $before, 'and nothing is sent by it');
foreach my $name (qw(json xml form))
{
	my $ledger = $double{$name}->ledger();
	is(join(' ', grep { $ledger->{$_} != 1 } sort keys %$ledger), '', "$name: all are in the ledger once");
}
$node->stop;
done_testing();
