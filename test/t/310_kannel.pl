# SMS through a real gateway: Kannel with its fake operator, its delivery reports through the listener. Texts of both
# alphabets and of several parts arrive as written; the courier is killed and the gateway stopped meanwhile, and every
# message arrives once.
# CRM_KANNEL_MESSAGES messages (300).
# claim 9 (a stopped gateway is a row of health in words, with what to do)
# claim 46 (the SMS provider is part of the module)
# claim 58 (the alpha name)
use strict;
use warnings;
use CrmTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $many = $ENV{CRM_KANNEL_MESSAGES} // 300;
my $services = tree() . '/test/demo/services';
my $folder = PostgreSQL::Test::Utils::tempdir() . '/gateway';
my $listener = PostgreSQL::Test::Cluster::get_free_port();
$ENV{$_} = PostgreSQL::Test::Cluster::get_free_port() for qw(CRM_KANNEL_PORT CRM_KANNEL_ADMIN_PORT CRM_KANNEL_BOX_PORT CRM_SMSC_PORT);
END { local $?; system($services, 'stop', $folder) if defined $folder && -e "$folder/.services"; }

# what the operator got, also before the gateway was started again
my @earlier;
sub seen
{
	my $out = '';
	IPC::Run::run([ tree() . '/test/demo/sms_read', '--json', "$folder/smsc.out" ], '>', \$out) or die "sms_read failed";
	return (@earlier, map { JSON::PP->new->utf8->decode($_) } grep { /\S/ } split /\n/, $out);
}

is(system("$services start $folder sms >/dev/null"), 0, 'the gateway runs');
my $node = crm_node('kannel', conf => 'restart_after_crash = on');
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
$sql->("SELECT crm.listen($listener)");
$sql->("SELECT crm.add_integration('kannel', 'sms_kannel', 'http://127.0.0.1:$ENV{CRM_KANNEL_PORT}/cgi-bin/sendsms', "
	  . "'{\"sender\": \"CEMENT\", \"retry_ms\": 200, \"retry_max_ms\": 1000}', 'secret')");
$sql->("SELECT crm.add_route('kannel', 'dlr', 'crm.sms_kannel_dlr', '{GET}')");
like($sql->("SELECT crm.integration_test('kannel')"), qr/^ok: the gateway knows the user/, 'the test says so');

# texts as they are written
my %text = (
	'+79120000001' => [ 1, 'Машина А123ВС77 прибыла на погрузку: «20 т» + 5 % & ещё.' ],
	'+79120000002' => [ 1, 'Plain GSM [x] {y} ~ 100 % @ $5' ],
	'+79120000003' => [ 4, 'Ваш груз отправлен. ' x 11 . 'Конец' ],
	'+79120000004' => [ 2, 'Your cargo has left the plant. ' x 8 . 'End' ]);
foreach my $number (sort keys %text)
{
	my $quoted = $text{$number}[1] =~ s/'/''/gr;
	$sql->("SELECT crm.send('sms', '$number', '$quoted')");
}
my $count = sub { return $sql->("SELECT count(*) FROM crm.message WHERE $_[0]") };
ok(wait_for(60, sub { $count->("state = 'delivered'") == 4 }), 'all are delivered, by the gateway\'s reports') or diag($sql->('SELECT id, state, last_error FROM crm.message'));
foreach my $sms (sort { $a->{recipient} cmp $b->{recipient} } seen())
{
	my $text = $sms->{text};
	utf8::encode($text);
	my $want = delete $text{ $sms->{recipient} };
	is("$sms->{sender} $sms->{parts} $text", "CEMENT $want->[0] $want->[1]", "$sms->{recipient} reads what was written");
}
is(scalar(keys %text), 0, 'none is missing');
is($sql->("SELECT count(*) FROM crm.message m, crm.sms_segments(m.body) s WHERE m.segments <> s.parts OR m.segments NOT IN (1, 2, 4)"), 0,
	'the gateway made as many parts as were counted');

# the courier is killed in the middle
$sql->("SELECT count(crm.send('sms', '+7913' || lpad(i::text, 7, '0'), 'Машина ' || i || ' прибыла.')) FROM generate_series(1, $many) i");
wait_for(30, sub { $count->("state IN ('sent', 'delivered')") > 4 + $many / 10 });
kill 9, $sql->("SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
ok(wait_for(60, sub { my ($rc, $out) = $node->psql('plant', "SELECT count(*) FROM crm.message WHERE state IN ('queued', 'sending')"); $rc == 0 && $out eq '0' }),
	'after kill -9 the queue empties');
ok(wait_for(90, sub { $count->("state = 'delivered'") == 4 + $many }), 'and every message is delivered; what was uncertain, by its report')
  or diag($sql->('SELECT state, count(*), min(last_error) FROM crm.message GROUP BY 1'));
my %times;
$times{ $_->{recipient} }++ foreach seen();
is(scalar(keys %times), $many + 4, 'the operator got every message');
is(scalar(grep { $_ != 1 } values %times), 0, 'each once');

# the gateway is stopped: health says so, the messages wait and go when it is back
@earlier = seen();
is(system("$services stop $folder"), 0, 'the gateway is stopped');
$sql->("SELECT count(crm.send('sms', '+7914' || lpad(i::text, 7, '0'), 'Later ' || i)) FROM generate_series(1, 20) i");
my $health = "SELECT message FROM crm.health WHERE subject = 'integration kannel'";
ok(wait_for(30, sub { $sql->($health) =~ /connect/ }), 'health says that it does not answer');
like($sql->($health), qr/^kannel fails and 20 messages wait: connect: /, 'with the number that waits and the reason');
is($count->("state = 'failed'"), 0, 'nothing fails for it');
is(system("$services start $folder sms >/dev/null"), 0, 'the gateway is back');
$sql->("SELECT crm.integration_retry('kannel')");
ok(wait_for(60, sub { $count->("state = 'delivered'") == $many + 24 }), 'what waited is delivered') or diag($sql->('SELECT state, count(*), min(last_error) FROM crm.message GROUP BY 1'));
ok(wait_for(30, sub { $sql->($health) eq '' }), 'and health is quiet');
%times = ();
$times{ $_->{recipient} }++ foreach seen();
is(join(' ', scalar(keys %times), scalar(grep { $_ != 1 } values %times)), ($many + 24) . ' 0', 'each once');
is($sql->("SELECT count(*) FROM crm.rejected WHERE integration_id IS NOT NULL"), 0, 'no report was rejected');

system($services, 'stop', $folder);
$node->stop;
done_testing();
