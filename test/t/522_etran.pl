# Waybills come whole and once through an ETRAN that misbehaves in every way it knows: slow, half, dropped, busy, an hour
# of silence, the courier killed in the middle. The client hears once.
# claim 51 (wagons arrived: one message a group)
use strict;
use warnings;
use CrmTest;
use EtranDouble;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $etran = etran_start(login => 'plant', password => 'secret');
my $node = crm_node('etran', activate => undef, conf => 'restart_after_crash = on');
my $sql = sub { my ($out, $code) = ('', 1); ($code, $out) = $node->psql('plant', $_[0]); return $code == 0 ? $out : undef };
my $clock = sub { $node->safe_psql('plant', "SELECT crm.set_now('2026-11-24 $_[0]+03', 0)") };

# a document of so many wagons in a state
sub waybill
{
	my ($id, $wagons, $state, $oper, $more) = @_;
	my $cars = join '', map { sprintf '<invCar><carNumber value="%d"/><carOrder value="%d"/><carWeightNet value="69000"/></invCar>', 60000000 + $id * 100 + $_, $_ } 1 .. $wagons;
	$etran->control(put => $id, state => $state, oper => "24.11.2026 $oper",
		document => "<getInvoiceReply version=\"1.0\"><invoiceID value=\"$id\"/><invNumber value=\"" . sprintf('%08d', $id)
		  . "\"/><invoiceState value=\"$state\"/><invLastOper value=\"24.11.2026 $oper\"/><invRecipOKPO value=\"10000024\"/><invToStationCode value=\"985609\"/>" . ($more // '') . "$cars</getInvoiceReply>");
	return;
}
my ($moving, $arrived) = ('В пути', 'Груз прибыл');

$clock->('12:00:00');
$node->safe_psql('plant', $_) foreach (
	"SELECT crm.activate('live')",
	"INSERT INTO crm.company (id, name, is_client) VALUES (1, 'Client', true)",
	"INSERT INTO crm.contact (id, company_id, name, language) VALUES (1, 1, 'Anna', 'en')",
	"INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (1, 'phone', '+79160000001')",
	"INSERT INTO crm.rail_party VALUES ('10000024', 1)",
	"SELECT crm.register_kind('x_sms_test', NULL, NULL, channel => 'sms')",
	"SELECT crm.add_integration('gate', 'x_sms_test', '', '{\"sender\": \"CEMENT\"}')",
	"SELECT crm.add_integration('rail', 'rail_etran', '" . $etran->url . q{', '{"login": "plant", "poll_ms": 300, "min_interval_ms": 20, "busy_wait_ms": 500, "timeout_ms": 2000, "dislocation_every_s": 3600}', 'secret')});
like($sql->("SELECT crm.integration_test('rail')") // '', qr/^(ok: ETRAN answers|failed: error 100)/, 'the test asks without harm');

my $known = sub { return ($sql->("SELECT count(*) FROM crm.waybill WHERE version > 0") // 0) == $_[0] };
my $messages = sub { return $sql->('SELECT count(*) FROM crm.message') };
waybill($_, 40, $moving, '10:00:00') foreach 1 .. 3;
ok(wait_for(30, sub { $known->(3) }), 'three waybills are here') or diag($sql->('SELECT failures, last_error FROM crm.integration_state'));
is($sql->('SELECT count(*) FROM crm.wagon'), '120', 'with their wagons');
is($messages->(), '0', 'nobody is told of wagons on their way');

# each fault strikes, and the change made meanwhile comes all the same
my $id = 10;
foreach my $fault ([ 'a reply of 500', fault => 'status', code => 500 ], [ 'half a reply', fault => 'half' ], [ 'a body that ends early', fault => 'cut' ],
	[ 'a connection dropped', fault => 'drop' ], [ 'a slow reply', fault => 'slow', ms => 2500 ], [ 'busy', fault => 'busy' ], [ 'an Oracle error', fault => 'ora' ],
	[ 'a SOAP Fault', fault => 'fault' ], [ 'a web page', fault => 'page' ], [ 'bytes of no encoding', fault => 'bytes' ],
	[ 'a list that names all twice', fault => 'duplicate', step => 'invoiceStatus' ], [ 'the answer before', fault => 'late', step => 'getInvoice' ],
	[ 'a document of 500', fault => 'status', code => 500, step => 'getInvoice' ])
{
	my ($name, @order) = @$fault;
	$etran->control(@order);
	waybill(++$id, 2, $moving, sprintf('10:%02d:00', $id));
	# one call of psql a round
	my $ok = wait_for(40, sub {
		sleep 0.15;
		my $here = $sql->("UPDATE crm.rail_fetch SET after = crm.clock() - interval '1 minute'; SELECT crm.integration_retry('rail');
			SELECT count(*) FROM crm.waybill WHERE invoice_id = $id AND version > 0") // '';
		return $here =~ /\b1$/ && !grep { $_->{used} < $_->{count} } @{ $etran->control->{faults} };
	});
	ok($ok, "$name: goes on") or diag($sql->('SELECT failures, last_error, session FROM crm.integration_state'), $sql->('SELECT * FROM crm.rail_fetch'));
}
is($sql->("SELECT count(*) FROM crm.waybill WHERE version > 0"), 3 + $id - 10, 'each waybill once');

# an hour of silence, in which wagons arrive
$etran->control(silent => 1);
waybill(1, 40, $arrived, '12:30:00', '<invDateArrive value="24.11.2026 12:29:00"/>');
$clock->('13:00:00');
sleep 1;
$etran->control(silent => 0);
$sql->("SELECT crm.integration_retry('rail')");
ok(wait_for(40, sub { $sql->("SELECT crm.integration_retry('rail')"); ($messages->() // 0) == 1 }), 'after an hour of silence the arrival is told') or diag($sql->('SELECT failures, last_error FROM crm.integration_state'));
is($sql->('SELECT body FROM crm.message'), '40 wagons arrived at 985609: , waybill 00000001, 24.11.2026 12:29.', 'forty wagons are one message');

# killed in the middle of a request
$etran->control(fault => 'slow', ms => 1500, step => 'getInvoice');
waybill(2, 40, $arrived, '12:40:00', '<invDateArrive value="24.11.2026 12:39:00"/>');
ok(wait_for(20, sub { $etran->control->{active} > 0 && grep { $_->{kind} eq 'slow' && $_->{used} } @{ $etran->control->{faults} } }), 'a document is on its way');
my $pid = $sql->("SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
kill 'KILL', $pid if $pid;
ok(wait_for(40, sub { $sql->("SELECT crm.integration_retry('rail')"); ($messages->() // 0) == 2 }), 'killed meanwhile: the arrival is told') or diag($sql->('SELECT failures, last_error FROM crm.integration_state'));

# the same twice: a cursor that was lost reads all again
my $asked = () = $etran->requests('getInvoice');
$sql->("BEGIN; UPDATE crm.waybill SET last_oper = NULL; DELETE FROM crm.cursor WHERE name LIKE 'list:%'; COMMIT");
ok(wait_for(60, sub { my $now = () = $etran->requests('getInvoice'); return $now >= $asked + $id - 10 + 3 && $sql->('SELECT count(*) FROM crm.rail_fetch') eq '0' }), 'everything is read again');
is($messages->(), '2', 'and nobody hears twice');
is($sql->("SELECT count(*), max(n) FROM (SELECT count(*) AS n FROM crm.event WHERE kind = 'waybill.arrived' GROUP BY object_id) x"), '2|1', 'each arrival is one event');
is($sql->('SELECT count(*) FROM crm.waybill_version'), $sql->('SELECT sum(version) FROM crm.waybill'), 'and no document is a version twice');

# one request at a time, but for what a killed courier left behind
cmp_ok($etran->control->{overlaps}, '<=', 4, 'requests of the login do not overlap, but after a kill or a time-out');

# a refused login: an alarm, and silence
$etran->control(password => 'other');
ok(wait_for(20, sub { ($sql->("SELECT count(*) FROM crm.health WHERE message ~ 'refuses the login of rail'") // 0) == 1 }), 'a refused login is an alarm');
my $before = () = $etran->requests('invoiceStatus');
$sql->("SELECT crm.integration_retry('rail')");
sleep 1.2;
my $after = () = $etran->requests('invoiceStatus');
is($after, $before, 'and nothing more is asked');
$sql->("SELECT crm.set_secret('rail', 'other'), crm.rail_etran_resume('rail')");
waybill(99, 1, $moving, '12:50:00');
ok(wait_for(20, sub { ($sql->("SELECT count(*) FROM crm.waybill WHERE invoice_id = 99 AND version > 0") // 0) == 1 }), 'mended by a person it goes on');
is($sql->("SELECT count(*) FROM crm.rejected WHERE bytes IS NULL AND integration_id IS NOT NULL AND what LIKE 'the reply%'"), '0', 'what could not be read is kept with its bytes');
done_testing();
