# The machine's wall clock jumps an hour forward, then two back, while couriers work: nothing is sent twice,
# nothing is stuck, back-off and a courier's return go by the monotonic clock, hours and expiry by the new one,
# and crm.message still tells what became of each.
use strict;
use warnings;
use CrmTest;
use CrmLedger;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $dir = PostgreSQL::Test::Utils::tempdir();
system($ENV{CC} // 'cc', '-O2', '-shared', '-fPIC', '-o', "$dir/clock.so", tree() . '/test/double/clock.c') == 0 or die 'no clock';
my $jump = sub {
	my ($seconds) = @_;
	open my $fh, (-e "$dir/offset" ? '+<' : '>'), "$dir/offset" or die;
	binmode $fh;
	syswrite $fh, pack('q', $seconds);
	close $fh;
};
$jump->(0);
my $ledger = CrmLedger->new;
my $node;
{
	local $ENV{LD_PRELOAD} = "$dir/clock.so";
	local $ENV{CRM_TEST_CLOCK} = "$dir/offset";
	$node = crm_node('clock');
}
$ledger->integrations($node);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $send = sub { my ($word, $more) = @_; $sql->("SELECT crm.send('sms', '+79161234567', '$word'" . ($more // '') . ')') };
my $sent = sub { my ($word) = @_; return $ledger->count(qr/^sms \S+ \Q$word\E$/) };
my $state = sub { my ($word) = @_; return $sql->("SELECT state FROM crm.message WHERE body = '$word'") };
my $clock = $sql->('SELECT extract(epoch FROM clock_timestamp())::bigint');

$send->('before');
ok(wait_for(10, sub { $sent->('before') == 1 }), 'it works');

# ---- forward by an hour: messages in back-off, in hand, waiting for their hour, near their end ----
$sql->(q{UPDATE crm.integration SET settings = settings || '{"retry_ms": 4000, "retry_max_ms": 4000}' WHERE name = 'sms'});
$ledger->behave('status 503 Temporal failure, try again later');
$send->('retried');
ok(wait_for(10, sub { $sent->('retried') == 1 }), 'a message is in back-off');
my $tried = time;
$send->('later', q{, not_before => clock_timestamp() + '30 minutes'});
$send->('ends', q{, not_before => clock_timestamp() + '20 minutes', expires_after => '30 minutes'});
$ledger->behave('slow 1.5');
$send->('in hand');
ok(wait_for(10, sub { $sent->('in hand') == 1 }), 'one is in the hands of the courier');
$jump->(3600);
cmp_ok($sql->('SELECT extract(epoch FROM clock_timestamp())::bigint') - $clock, '>', 3500, 'the clock has jumped forward');
is($sent->('retried'), 1, 'the back-off has not ended by it') if time < $tried + 2.5;
ok(wait_for(15, sub { $state->('in hand') eq 'sent' }), 'the one in hand is sent');
ok(wait_for(20, sub { $sent->('later') == 1 }), 'one whose hour has come goes') or diag $sql->('SELECT * FROM crm.message');
ok(wait_for(20, sub { $state->('ends') eq 'expired' }), 'one whose end has come does not') or diag $sql->('SELECT * FROM crm.message');
ok(wait_for(15, sub { $sent->('retried') == 2 && $state->('retried') eq 'sent' }), 'the back-off ends by its own clock');

# ---- back by two hours ----
$ledger->behave('status 503 Temporal failure, try again later');
$send->('retried back');
ok(wait_for(10, sub { $sent->('retried back') == 1 }), 'a message is in back-off');
$ledger->behave('slow 1.5');
$send->('in hand back');
ok(wait_for(15, sub { $sent->('in hand back') == 1 }), 'one is in hand');
# a courier that has just ended waits for nothing that the clock says
my $pid = $sql->(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'});
$jump->(-3600);
cmp_ok($sql->('SELECT extract(epoch FROM clock_timestamp())::bigint') - $clock, '<', -3500, 'the clock has jumped back');
ok(wait_for(15, sub { $state->('in hand back') eq 'sent' }), 'the one in hand is sent, and crm.message knows it') or diag $sql->('SELECT * FROM crm.message');
ok(wait_for(20, sub { $sent->('retried back') == 2 && $state->('retried back') eq 'sent' }), 'the back-off is no hour longer');
$ledger->behave('ok');
$send->('after');
ok(wait_for(10, sub { $sent->('after') == 1 && $state->('after') eq 'sent' }), 'new ones go');

# a courier that failed just before the clock was set back comes again
$jump->(0);
kill 'TERM', $sql->(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'});
$sql->(q{CREATE FUNCTION public.fails(integer, boolean, bigint[], bigint[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
	GRANT EXECUTE ON FUNCTION public.fails TO crm_owner; GRANT USAGE ON SCHEMA public TO crm_owner;
	INSERT INTO crm.hook (point, name, function) VALUES ('recover', 'fails', 'public.fails');
	SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'crm courier'});
ok(wait_for(10, sub { slurp_file($node->logfile) =~ /could not take over/ }), 'a courier fails at its start');
$jump->(-7200);
$sql->(q{DELETE FROM crm.hook WHERE name = 'fails'});
$send->('again');
ok(wait_for(15, sub { $sent->('again') == 1 }), 'it comes back although its next start is an hour ahead by the clock');

my %twice = map { $_ => $sent->($_) } grep { $sent->($_) > 1 && !/^retried/ } ('before', 'in hand', 'later', 'in hand back', 'after', 'again');
is_deeply(\%twice, {}, 'nothing came twice');
is($sql->(q{SELECT count(*) FROM crm.message WHERE state NOT IN ('sent', 'expired')}), '0', 'and nothing is stuck') or diag $sql->('SELECT * FROM crm.message');
$node->stop('fast');
done_testing();
