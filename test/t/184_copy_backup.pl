# A base backup (pg_basebackup) started elsewhere while the original runs, and one that is recovered to a point
# in time: they send nothing until a person activates them, also on a machine that is named for a promotion.
use strict;
use warnings;
use CrmCopy;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $archive = PostgreSQL::Test::Utils::tempdir() . '/archive';
mkdir $archive;
my ($node, $ledger) = crm_original('backup', init => { allows_streaming => 1 },
	conf => "archive_mode = on\narchive_command = 'cp %p $archive/%f'\n");
my $host = `hostname`;
chomp $host;
$node->safe_psql('plant', "SELECT crm.activate('live', ARRAY['$host'])");
my $dir = $node->basedir;
$node->command_ok([ 'pg_basebackup', '-D', "$dir/base", '-c', 'fast', '-X', 'stream' ], 'a base backup of the running original');
system('cp', '-a', "$dir/base", "$dir/point") == 0 or die;
my $target = $node->safe_psql('plant', q{SELECT pg_create_restore_point('before')});
$node->safe_psql('plant', q{SELECT crm.send('sms', '+79161234567', 'after the point')});
$node->safe_psql('plant', 'SELECT pg_switch_wal()');
ok(wait_for(20, sub { $node->safe_psql('plant', 'SELECT archived_count > 0 FROM pg_stat_archiver') eq 't' }), 'the log is archived');

# ---- started as it is, while the original runs ----
my $copy = crm_open_copy('base', "$dir/base", $node);
$copy->append_conf('postgresql.conf', 'archive_mode = off');
$copy->start;
$node->safe_psql('plant', q{UPDATE crm.integration SET enabled = false});
$ledger->start;
silent($copy, $ledger, qr/^warning: This database does not act: activated in another data directory/);
speaks($copy, $ledger);
$copy->stop('fast');

# ---- recovered to a point in time ----
$node->stop('fast');
my $point = crm_open_copy('point', "$dir/point", $node);
$point->append_conf('postgresql.conf', <<"CONF");
archive_mode = off
restore_command = 'cp $archive/%f %p'
recovery_target_name = 'before'
recovery_target_action = 'promote'
CONF
$point->append_conf('recovery.signal', '');
$point->start;
ok(wait_for(20, sub { $point->safe_psql('plant', 'SELECT pg_is_in_recovery()') eq 'f' }), 'recovered');
is($point->safe_psql('plant', q{SELECT count(*) FROM crm.message WHERE body = 'after the point'}), '0', 'to a point in time');
is($point->safe_psql('plant', 'SELECT timeline FROM crm.binding()'), '2', 'on a timeline of its own');
silent($point, $ledger, qr/^warning: This database does not act: activated in another data directory/);

# as if the original were on another machine and this one named for a promotion: a recovery is none
$point->safe_psql('plant', q{UPDATE crm.activation SET machine = 'another'});
silent($point, $ledger, qr/^warning: This database does not act: activated on another machine, and recovered here to a point in time/);
speaks($point, $ledger);

$point->stop('fast');
done_testing();
