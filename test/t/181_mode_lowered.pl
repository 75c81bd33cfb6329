# The mode is lowered while couriers hold messages that are claimed and not yet sent: nothing more leaves under
# the old mode than what was on its way. By crm.activate() to sandbox and off, by crm.deactivate(), by the
# setting crm.mode in postgresql.conf and on the database; raised again, each message comes once.
use strict;
use warnings;
use CrmTest;
use CrmLedger;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $ledger = CrmLedger->new;
my $node = crm_node('lowered');
$ledger->integrations($node);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
$sql->(q{INSERT INTO crm.sandbox_recipient (channel, value) VALUES ('sms', '+79990000001'), ('email', 'tester@crm.test')});
$sql->(q{UPDATE crm.integration SET max_in_flight = 2 WHERE name = 'sms'});
my $real = qr/^sms \+79161234567/;

foreach my $case (
	[ 'sandbox by activation', q{SELECT crm.activate('sandbox')}, q{SELECT crm.activate('live')}, 'sandbox' ],
	[ 'off by activation', q{SELECT crm.activate('off')}, q{SELECT crm.activate('live')}, 'off' ],
	[ 'sandbox by the file', q{ALTER SYSTEM SET crm.mode = 'sandbox'; SELECT pg_reload_conf()}, q{ALTER SYSTEM RESET crm.mode; SELECT pg_reload_conf()}, 'sandbox' ],
	[ 'off by the database', q{ALTER DATABASE plant SET crm.mode = 'off'}, q{ALTER DATABASE plant RESET crm.mode}, 'off' ],
	[ 'off by deactivation', q{SELECT crm.deactivate()}, q{SELECT crm.activate('live')}, 'off' ])
{
	my ($name, $lower, $raise, $mode) = @$case;
	my $started = time;
	$ledger->behave('slow 0.3');
	my $tag = $name =~ s/ /-/gr;
	$ledger->clear;
	$sql->("SELECT crm.send('sms', '+79161234567', '$tag ' || g) FROM generate_series(1, 12) g");
	ok(wait_for(10, sub { $ledger->count(qr/$tag/) >= 2 }), "$name: the first are on their way");
	$sql->($lower);
	# what had left has left; the courier hears of it within a tenth of a second
	my $at = $ledger->count($real);
	sleep 0.4;
	my $left = $ledger->count($real);
	cmp_ok($left, '<=', $at + 4, "$name: $at had left, and then " . ($left - $at));
	cmp_ok($left, '<', 12, "$name: not all");
	sleep 0.9;
	is($ledger->count($real), $left, "$name: not one more");
	is($ledger->count(qr/^sms \+79990000001.*$tag/), 0, "$name: nothing at all") if $mode eq 'off';
	ok(wait_for(15, sub { $ledger->count(qr/^sms \+79990000001 \[sandbox: \+79161234567\] $tag/) == 12 - $left }), "$name: the rest goes to the tester") if $mode eq 'sandbox';
	is($sql->(q{SELECT count(*) FROM crm.message WHERE state = 'uncertain'}), '0', "$name: nothing is uncertain by it");
	is($sql->(q{SELECT crm.mode()}), $mode, "$name: crm.mode() says so");
	$ledger->behave('ok');
	$sql->($raise);
	ok(wait_for(15, sub { $sql->(q{SELECT count(*) FROM crm.message WHERE state NOT IN ('sent', 'delivered')}) eq '0' }), "$name: all goes once it is raised again");
	is($ledger->count(qr/$tag/), 12, "$name: each came once");
	note sprintf '%s: %.1f s', $name, time - $started;
}

$node->stop('fast');
done_testing();
