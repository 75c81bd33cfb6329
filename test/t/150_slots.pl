# Background worker slots are used up: a warning that names the setting, a row in crm.health, and the courier
# starts as soon as one is free. Eight are enough.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new;
# the launcher of logical replication, ours, and no more
my $node = crm_node('slots', conf => "max_worker_processes = 2\n", activate => undef);
$sink->kind($node);
$sink->integration($node, 'sink');
$node->safe_psql('plant', 'SELECT crm.activate()');
ok(wait_for(15, sub { slurp_file($node->logfile) =~ /WARNING:  out of background worker slots/ }), 'a warning is logged');
like(slurp_file($node->logfile), qr/HINT:  You might need to increase max_worker_processes, which is 2/, 'with the setting and its value');
is($node->safe_psql('plant', q{SELECT severity FROM crm.health WHERE subject = 'courier' AND message ~ 'out of background worker slots' AND hint ~ 'max_worker_processes'}), 'error', 'crm.health says it');
$node->safe_psql('plant', q{INSERT INTO plain.queue (body) VALUES ('waits')});
sleep 3;
my $warnings = () = slurp_file($node->logfile) =~ /WARNING:  out of background worker slots/g;
is($warnings, 1, 'it is said once');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
ok($sink->settled($node, 20), 'with the default of eight it runs');
is($node->safe_psql('plant', q{SELECT count(*) FROM crm.health WHERE subject IN ('courier', 'launcher')}), '0', 'and crm.health is content');

# the role that couriers connect as: workers can, clients cannot
my ($rc, $out, $err) = $node->psql('plant', 'SELECT 1', extra_params => [ '-U', 'crm_courier' ]);
isnt($rc, 0, 'a client cannot connect as crm_courier');
is($node->safe_psql('plant', q{SELECT usename FROM pg_stat_activity WHERE backend_type = 'crm courier'}), 'crm_courier', 'the courier does');

$node->stop('fast');
done_testing();
