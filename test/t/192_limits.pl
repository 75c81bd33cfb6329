# Faults stay where they are: 10,000 messages wait for a provider that is down, and the log gets a bounded number of
# lines, crm.health one row; the circuit closes by itself, the log says so once. A rate is kept on the wire, over a
# restart of the courier. A message that is not delivered in time is followed, by the courier alone.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new(delay => 1);
my $fast = CrmSink->new(delay => 1);
my $node = crm_node('limits');
sub sql { return $node->safe_psql('plant', $_[0]) }
my ($down_url, $fast_url) = ($sink->url, $fast->url);
$sink->stop;
sql(<<"SQL");
CREATE SCHEMA plain2;
CREATE FUNCTION plain2.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql SET search_path = pg_catalog, pg_temp AS \$\$
	SELECT (t.message_id, 'POST', i.url || '/send?' || t.message_id, NULL, convert_to(t.body, 'UTF8'), NULL, NULL, 5000, NULL)::crm.request
	FROM crm.integration i, crm.outbox_take(i.id, \$2) t WHERE i.id = \$1 \$\$;
CREATE FUNCTION plain2.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS \$\$
	SELECT crm.outbox_result(\$1, array_agg(r.ref), array_agg(CASE WHEN r.status = 200 THEN 'sent' WHEN r.sent THEN 'uncertain' ELSE 'retry' END), NULL, array_agg(r.error)) FROM unnest(\$2) r \$\$;
GRANT USAGE ON SCHEMA plain2 TO crm_courier;
SELECT crm.register_kind('x_plain2', 'plain2.next', 'plain2.take', channel => 'sms');
SELECT crm.register_kind('x_plain2_mail', 'plain2.next', 'plain2.take', channel => 'email');
SELECT crm.add_integration('down', 'x_plain2', '$down_url', '{"sender": "CEMENT", "max_attempts": 1000, "retry_ms": 200, "retry_max_ms": 1000}');
SELECT crm.add_integration('limited', 'x_plain2', '$fast_url', '{"sender": "CEMENT", "rate": 40, "rate_per": "s"}');
SELECT crm.add_integration('mail', 'x_plain2_mail', '$fast_url', '{"sender": "a\@example.com"}');
GRANT SELECT ON crm.integration TO crm_courier;
SQL
ok($sink->courier_up($node), 'the courier runs');

# ---- a provider that is down ----
my $offset = -s $node->logfile;
my $lines = sub { my @l = split /\n/, substr(slurp_file($node->logfile), $offset); return grep { !/checkpoint|automatic (vacuum|analyze)|client backend LOG:  statement/ } @l };
sql(q{SELECT count(crm.send('sms', '+79161234567', 'x', integration => 'down')) FROM generate_series(1, 10000)});
ok(wait_for(30, sub { sql(q{SELECT state FROM crm.circuit WHERE integration = 'down'}) ne 'closed' }), 'the circuit opens');
my $first = sql(q{SELECT count(*) FROM crm.message_attempt});	# what was in its hands when the first failure came
my $seconds = $ENV{CRM_SOAK} ? 300 : 5;
my $rows = 0;
for (1 .. $seconds)
{
	sleep 1;
	my $n = sql(q{SELECT count(*) FROM crm.health WHERE subject = 'integration down'});
	$rows = $n if $n > $rows;
}
is($rows, 1, 'one row in crm.health, at every look');
like(sql(q{SELECT message FROM crm.health WHERE subject = 'integration down'}), qr/down fails and \d+ messages wait; its circuit is (open until|half-open).*connect/, 'in words');
my @l = $lines->();
my $tries = sql(q{SELECT count(*) FROM crm.message_attempt});
note sprintf '%d s down, 10000 waiting: %d tries until the circuit opened, %d after, %d lines in the log', $seconds, $first, $tries - $first, scalar @l;
cmp_ok($tries - $first, '<=', $seconds + 5, 'one try at a time, with growing pauses');
cmp_ok(scalar @l, '<=', 3, 'few lines') or diag join "\n", @l[0 .. ($#l < 30 ? $#l : 30)];
is(scalar(grep { /its circuit is open: connect/ } @l), 1, 'the log is told once, in words');

# ---- and it comes back ----
$sink->start;
# pauses grow up to five minutes
ok(wait_for($ENV{CRM_SOAK} ? 330 : 60, sub { sql(q{SELECT state FROM crm.circuit WHERE integration = 'down'}) eq 'closed' }), 'the circuit closes by itself');
ok(wait_for(120, sub { sql(q{SELECT count(*) FROM crm.message m JOIN crm.integration i ON i.id = m.integration_id WHERE i.name = 'down' AND m.state <> 'sent'}) == 0 }), 'everything is sent');
is(scalar(keys %{ $sink->ledger }), 10000, 'all of it arrived');
is(scalar(grep { $_ > 1 } values %{ $sink->ledger }), 0, 'once');
@l = $lines->();
is(scalar(grep { /answers again after \d+ failures/ } @l), 1, 'the log is told once that it is over');
cmp_ok(scalar @l, '<=', 5, 'few lines in all') or diag join "\n", @l;

# ---- a rate on the wire, over the death of the courier ----
sql(q{SELECT count(crm.send('sms', '+79161234567', 'x', integration => 'limited')) FROM generate_series(1, 160)});
sleep 1.5;
my $pid = $sink->courier($node);
kill 'TERM', $pid;
ok(wait_for(60, sub { sql(q{SELECT count(*) FROM crm.message m JOIN crm.integration i ON i.id = m.integration_id WHERE i.name = 'limited' AND m.state <> 'sent'}) == 0 }), 'sent at the rate');
my @at;
open my $fh, '<', $fast->{log} or die;
while (<$fh>) { push @at, $1 / 1e6 if /^\S+ (\d+)$/ }
close $fh;
@at = sort { $a <=> $b } @at;
is(scalar @at, 160, 'all arrived once');
my $most = 0;
for my $i (0 .. $#at)
{
	my $n = grep { $_ >= $at[$i] && $_ < $at[$i] + 1 } @at;
	$most = $n if $n > $most;
}
note sprintf 'rate 40 per s: at most %d in any second, %.2f s for 160', $most, $at[-1] - $at[0];
cmp_ok($most, '<=', 42, 'never more in a second than the rate, but for what the wire shifts');
cmp_ok($at[-1] - $at[0], '<', 12, 'and not much slower');

# ---- a deadline, by the courier alone ----
sql(q{SELECT crm.send('sms', '+79161234567', 'told', integration => 'limited', fallback => '[{"upon": "not delivered", "after": "1 min", "channel": "email", "recipient": "a@example.com", "body": "told by letter"}]')});
ok(wait_for(20, sub { sql(q{SELECT state FROM crm.message WHERE body = 'told'}) eq 'sent' }), 'the first is sent');
sql(q{UPDATE crm.message_timer SET due_at = crm.clock()});
ok(wait_for(40, sub { sql(q{SELECT string_agg(state, ' ') FROM crm.message WHERE body = 'told by letter'}) eq 'sent' }), 'and followed, once its time is over');

$node->stop('fast');
done_testing();
