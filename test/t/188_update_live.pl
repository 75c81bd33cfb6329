# ALTER EXTENSION crm UPDATE while a courier works: to a version that the loaded library is not, and back. The
# courier leaves at its next transaction, the log and crm.health say why and what to do, the messages wait; after
# the way back it comes by itself at once, and each message is sent once or, where it was under way, uncertain.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new(delay => 200);
my $node = crm_node('updated');
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 8}');
ok($sink->courier_up($node), 'the courier runs');
my $version = $node->safe_psql('plant', 'SELECT crm.version()');
my $load = sub { $node->safe_psql('plant', q{INSERT INTO plain.queue (path, body) SELECT CASE WHEN g % 2 = 0 THEN '/slow' ELSE '/' END, 'x' FROM generate_series(1, 1000) g}) };

$load->();
ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE state = 'sent'}) > 20 }), 'it works');
my $started = time;
$node->safe_psql('plant', "ALTER EXTENSION crm UPDATE TO '${version}next'");
note sprintf 'the update took %.2f s', time - $started;
ok(wait_for(10, sub { $sink->courier($node) eq '' }), 'the courier leaves');
my $sent = scalar keys %{ $sink->ledger };
cmp_ok($sent, '<', 1000, "before all was sent: $sent");
like(slurp_file($node->logfile), qr/crm courier leaves: extension crm is version \Q${version}next\E, the loaded library is version \Q$version\E: ALTER EXTENSION crm UPDATE, or restart the server/, 'and says why');
is($node->safe_psql('plant', q{SELECT severity FROM crm.health WHERE subject = 'version'}), 'error', 'crm.health too');
$load->();
sleep 1;
is(scalar keys %{ $sink->ledger }, $sent, 'nothing more is sent');

$node->safe_psql('plant', "ALTER EXTENSION crm UPDATE TO '$version'");
is($node->safe_psql('plant', 'SELECT crm.mode()'), 'live', 'the activation has outlived both');
$started = time;
ok($sink->courier_up($node), 'the courier comes back by itself');
cmp_ok(time - $started, '<', 5, 'and soon');
$node->safe_psql('plant', 'UPDATE crm.integration SET max_in_flight = 200');
ok($sink->settled($node, 30), 'all ends');
my $ledger = $sink->ledger;
my ($uncertain) = $sink->states($node) =~ /uncertain (\d+)/;
# the library's courier may not settle into another version: what had come in the last moment counts too
cmp_ok($uncertain // 0, '<=', 64, 'uncertain only what was under way, or came since the last settle');
cmp_ok(scalar keys %$ledger, '>=', 2000 - ($uncertain // 0), 'every other message came');
is(scalar(grep { $ledger->{$_} > 1 } keys %$ledger), 0, 'once');
note 'states: ' . $sink->states($node);
$node->stop('fast');
done_testing();
