# claim 2: an old ERP reaches crm_erp through ODBC with text parameters alone
# claim 3: what it sends is linked to the CRM's rows
# put_company, put_order and put_shipment through unixODBC with psqlODBC's default options, and wrong calls
# whose error tells in DETAIL what to do. The login is a member of crm_erp_writer and nothing else.
use strict;
use warnings;
use utf8;
use JSON::PP;
use IPC::Run;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CrmTest;

my $node = crm_node('odbc');
$node->safe_psql('plant', "CREATE ROLE erp LOGIN IN ROLE crm_erp_writer");

my ($driver) = grep { -e } glob('/usr/lib/*/odbc/psqlodbcw.so');
ok($driver, 'the driver is installed');
my $connection = sprintf('Driver=%s;Server=127.0.0.1;Port=%d;Database=plant;Uid=erp', $driver, $node->port);
my ($in, $out, $err) = ('', '', '');
my $client = IPC::Run::start([ 'python3', tree() . '/test/t/lib/odbc.py', $connection ], \$in, \$out, \$err, my $timer = IPC::Run::timer(60));

sub call
{
	my ($statement, @parameters) = @_;
	$out = '';
	$in .= JSON::PP->new->ascii->encode([ $statement, @parameters ]) . "\n";
	$client->pump until $out =~ /\n/ || !$client->pumpable || $timer->is_expired;
	diag($err) if $err;
	return JSON::PP->new->utf8->decode($out || '{}');
}
sub rows { return join '; ', map { join '|', map { $_ // 'NULL' } @$_ } @{ $_[0]{rows} // [ [ "error: $_[0]{error}" ] ] } }

is(rows(call('SELECT result, erp_id FROM crm_erp.put_company(?, ?, ?, ?)', 'C-1', 'ООО «Ромашка»', '7707083893', '770701001')),
	'created|C-1', 'a company is made');
is(rows(call('SELECT result, erp_id FROM crm_erp.put_company(?, ?, ?, ?)', 'C-1', 'ООО «Ромашка»', '7707083893', '770701001')),
	'same|C-1', 'the same call again is the same row');
is(rows(call('SELECT result FROM crm_erp.put_company(?, ?, ?, ?, ?, ?)', 'C-1', 'ООО «Ромашка»', undef, '', 'Истина', '1')),
	'updated', 'yes and no as 1C says them, NULL and empty leave what is known');
is(rows(call('SELECT result FROM crm_erp.put_contact(?, ?, ?, ?, ?)', 'P-1', 'C-1', 'Иванов', '8 (916) 123-45-67', 'ivan@test.local')),
	'created', 'a contact');
is(rows(call('SELECT result FROM crm_erp.put_place(?, ?, ?, ?, ?, ?, ?)', 'L-1', 'C-1', 'Стройка', 'unloading', '37,5', '55,7', '300')),
	'created', 'a place, numbers with a decimal comma');
is(rows(call('SELECT result FROM crm_erp.put_order(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)', 'O-1', 'C-1', 'Цемент М500', "1\x{a0}027,5", "5\x{a0}000,50",
		'0000-000001', '24.11.2026 9:05:00', '01.01.0001 0:00:00', '0001-01-01T00:00:00', 'L-1', 'P-1')),
	'created', 'an order, numbers and dates as 1C formats them');
is(rows(call('SELECT tonnes, price, ordered_at, window_from, deal_stage FROM crm_erp.customer_order WHERE erp_id = ?', 'O-1')),
	'1027.500|5000.5000|2026-11-24 09:05:00|NULL|agreed', 'read back: exact numbers, the plant\'s time, the empty date is none, the deal moved');
is(rows(call('SELECT result FROM crm_erp.put_order(?, ?, ?, ?)', 'O-1', 'C-1', 'Цемент М500', '28')), 'updated', 'other content updates the order');
is(rows(call('SELECT result FROM crm_erp.put_shipment(?, ?, ?, ?)', 'W-1', 'O-1', 'А123ВС77', '14 200')), 'created', 'the tare');
is(rows(call('SELECT result FROM crm_erp.put_shipment(?, ?, ?, ?, ?, ?, ?)', 'W-1', 'O-1', 'А123ВС77', '14 200', '42 300', '2026-11-24T11:00:00', 'ТН-1')),
	'updated', 'the gross under the same id');
is(rows(call('SELECT net_kg, vehicle_plate, weighed_at FROM crm_erp.shipment WHERE erp_id = ?', 'W-1')), '28100.000|А123ВС77|2026-11-24 11:00:00', 'read back');
is(rows(call('SELECT deal_stage FROM crm_erp.customer_order WHERE erp_id = ?', 'O-1')), 'loading', 'the deal moved with the weighing');

# What is wrong says in DETAIL what to do: the driver shows no HINT.
sub refused
{
	my ($answer, $says, $detail, $what) = @_;
	like($answer->{error} // rows($answer), qr/$says/, "$what: the value");
	like($answer->{error} // '', qr/DETAIL[: ].*$detail/s, "$what: DETAIL tells what to do");
	unlike($answer->{error} // '', qr/HINT/, "$what: no HINT came through") if $what eq 'unknown client';
}
refused(call('SELECT * FROM crm_erp.put_order(?, ?, ?, ?)', 'O-2', 'NOPE', 'Цемент', '10'), 'NOPE', 'put_company', 'unknown client');
refused(call('SELECT * FROM crm_erp.put_contact(?, ?, ?, ?)', 'P-2', 'C-1', 'Петров', '12'), '"12"', 'country code', 'a number that is no phone');
refused(call('SELECT * FROM crm_erp.put_shipment(?, ?, ?, ?)', 'W-2', 'O-1', 'А123ВС77', '-5'), '-5', 'kilograms', 'a negative weight');
refused(call('SELECT * FROM crm_erp.put_shipment(?, ?, ?, ?, ?)', 'W-2', 'O-1', 'А123ВС77', '15000', '14000'), '14000', 'swapped', 'gross below tare');
refused(call('SELECT * FROM crm_erp.put_order(?, ?, ?, ?)', 'O-2', 'C-1', 'Цемент', 'много'), 'много', 'digits', 'no number');
refused(call('SELECT * FROM crm_erp.put_company(?, ?)', '00000000-0000-0000-0000-000000000000', 'x'), 'empty', 'id', 'an empty reference');

# A client that can only INSERT.
ok(!call('INSERT INTO crm_erp.order_in (erp_id, company_erp_id, product, tonnes) VALUES (?, ?, ?, ?)', 'O-9', 'C-1', 'Песок', '5,5')->{error}, 'a row inserted is a call');
is(rows(call('SELECT tonnes FROM crm_erp.customer_order WHERE erp_id = ?', 'O-9')), '5.500', 'and the order is there');
refused(call('INSERT INTO crm_erp.order_in (erp_id, company_erp_id, product) VALUES (?, ?, ?)', 'O-10', 'NOPE', 'Песок'), 'NOPE', 'put_company', 'a row inserted for an unknown client');

is(rows(call('SELECT line, result, sqlstate FROM crm_erp.put_batch(?)',
		"\x{feff}[{\"entity\":\"company\",\"erp_id\":\"B\",\"name\":\"Бета\"},\r\n{\"entity\":\"order\",\"erp_id\":\"O-3\",\"company_erp_id\":\"NOPE\",\"product\":\"x\"},\r\n{\"entity\":\"order\",\"erp_id\":\"O-4\",\"company_erp_id\":\"B\",\"product\":\"Цемент\",\"tonnes\":\"5\"}]\r\n")),
	'1|created|NULL; 2|error|23503; 3|created|NULL', 'a batch: a bad row does not stop the others');
is(rows(call('SELECT result FROM crm_erp.put_company(?, ?)', 'C-1', 'ООО «Ромашка»')), 'same', 'the session lives on after errors');

# One bad row of a thousand in a numbered message; the same message again does nothing.
my $body = JSON::PP->new->encode([ map { { put => 'order', erp_id => "M-$_", company_erp_id => 'B', product => 'Цемент', tonnes => $_ == 700 ? 'много' : '5,5' } } 1 .. 1000 ]);
is(rows(call('SELECT result, count(*) FROM crm_erp.put_batch(?, ?, ?) GROUP BY 1 ORDER BY 1', 'ut', '1', $body)), 'created|999; error|1', 'a thousand orders, one of them bad');
is(rows(call(q{SELECT line, sqlstate, message FROM crm_erp.put_batch(?, ?, ?) WHERE result = 'error'}, 'ut', '1', $body)), '700|22P02|tonnes "много" is no number', 'again: the bad one is explained as before');
is(rows(call('SELECT crm_erp.received_no(?)', 'ut')), '1', 'and its number was taken');

# The feed across a transaction that commits late.
like(rows(call('SELECT count(*) FROM crm_erp.feed(?, ?)', 'ut', '10000')), qr/^[1-9]/, 'the first call gives what is there');
call('SELECT crm_erp.ack(?, ?)', 'ut', '1');
is(rows(call('SELECT count(*) FROM crm_erp.feed(?, ?)', 'ut', '100')), '0', 'confirmed, it does not come again');
my $late = $node->background_psql('plant');
$late->query_safe("BEGIN; INSERT INTO crm.company (name) VALUES ('late')");
$node->safe_psql('plant', "INSERT INTO crm.company (name) VALUES ('early')");
my $feed = q{SELECT f.message_no, f.op, f.object_type, f.payload FROM crm_erp.feed(?, ?) f};
like(rows(call($feed, 'ut', '100')), qr/^2\|U\|company\|\{.*"name":"early"[^;]*\}$/, 'what has committed is there');
is(rows(call('SELECT crm_erp.ack(?, ?)', 'ut', '2')), '1', 'and is confirmed');
$late->query_safe('COMMIT');
$late->quit;
like(rows(call($feed, 'ut', '100')), qr/^3\|U\|company\|\{.*"name":"late"[^;]*\}$/, 'what took its number first and committed last is not lost');
like(rows(call($feed, 'ut', '100')), qr/^3\|U/, 'not confirmed, it comes again under its number');
is(rows(call('SELECT crm_erp.ack(?, ?)', 'ut', '3')), '1', 'confirmed');
refused(call('SELECT crm_erp.ack(?, ?)', 'ut', '9'), '9', 'start_anew', 'a number that was never sent');
is(rows(call(q{SELECT count, quantity FROM crm_erp.reconcile(?, ?, ?) WHERE kind = 'total'}, 'order', '', '')), '1002|5533.000', 'what is here of the orders, in sum');
is(rows(call(q{SELECT problem, erp_id FROM crm_erp.reconcile_list(?, ?, ?, ?)}, 'company', '', '', "C-1\r\nB\r\nX-1\r\n")), 'not here|X-1', 'and what is not the same on both sides');
is(rows(call('SELECT result, erp_id FROM crm_erp.put_lead(?)', '{"source_lead_id": "L-1", "phone": "89160000001", "name": "Пётр"}')), 'created|L-1', 'a lead');
like(call('SELECT count(*) FROM crm.company')->{error}, qr/permission denied/, 'the ERP\'s login sees crm_erp and nothing beneath');

$client->kill_kill;
is($node->safe_psql('plant', 'SELECT count(*) FROM crm_bi.unlinked'), '0', 'all that came is linked');
$node->stop('fast');
done_testing();
