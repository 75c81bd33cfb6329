# pg_cancel_backend() ends a transaction of a courier, never the courier: what hangs goes on hanging, and a
# cancelled settle is made again. A version of the extension that is not the library's ends it, with words.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new(delay => 300);
my $node = crm_node('cancel');
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 64}');
$sink->integration($node, 'hangs', '{"max_in_flight": 10}');
ok($sink->courier_up($node), 'the courier runs');
my $pid = $sink->courier($node);

$node->safe_psql('plant', <<'SQL');
INSERT INTO plain.queue (sink, path, timeout) SELECT 'hangs', '/hang', 600000 FROM generate_series(1, 10);
INSERT INTO plain.queue (sink, path) SELECT 'sink', CASE WHEN g % 4 = 0 THEN '/slow' ELSE '/' END FROM generate_series(1, 4000) g;
SQL
my $cancelled = 0;
for (1 .. 50)
{
	$cancelled += $node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)") eq 't';
	sleep 0.02;
}
is($cancelled, 50, 'the courier was cancelled fifty times');
is($sink->courier($node), $pid, 'and lives');
ok(wait_for(30, sub { $node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE sink = 'sink' AND state = 'sent'}) == 4000 }), 'all is sent')
	or diag $sink->states($node);
is($node->safe_psql('plant', q{SELECT string_agg(DISTINCT state, ' ') FROM plain.queue WHERE sink = 'hangs'}), 'sending', 'what hangs still hangs');
is(scalar(grep { $_ > 1 } values %{ $sink->ledger }), 0, 'nothing was sent twice');
my $lines = () = slurp_file($node->logfile) =~ /transaction failed with/g;
cmp_ok($lines, '<', 20, "the log stays short: $lines lines");

# ---- another version ----
$node->safe_psql('plant', q{UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'crm'; SELECT crm.wake()});
ok(wait_for(15, sub { $sink->courier($node) eq '' }), 'a courier leaves an extension of another version');
like($node->safe_psql('plant', q{SELECT detail FROM crm.workers() WHERE kind = 'courier'}),
	qr/^extension crm is version 0\.0, the loaded library is version .*: ALTER EXTENSION crm UPDATE, or restart the server$/, 'and says why');

$node->stop('fast');
done_testing();
