# A file-level copy of a stopped data directory (cp -a), started elsewhere on the same machine while the
# original runs, sends nothing, also where the machine is among the activation's hosts; the original goes on. A
# backup that is unpacked into the very directory of the original is a copy too. A directory that was only
# renamed is the original still.
use strict;
use warnings;
use CrmCopy;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my ($node, $ledger) = crm_original('files');
my $host = `hostname`;
chomp $host;
$node->safe_psql('plant', "SELECT crm.activate('live', ARRAY['$host', 'other'])");
$node->stop('fast');
my $backup = $node->basedir . '/cold';
system('cp', '-a', $node->data_dir, $backup) == 0 or die;
system('cp', '-a', $backup, $node->basedir . '/elsewhere') == 0 or die;
my $copy = crm_open_copy('elsewhere', $node->basedir . '/elsewhere', $node);

$ledger->start;
$copy->start;
silent($copy, $ledger, qr/^warning: This database does not act: activated in another data directory/);

# the original beside it
$node->start;
is($node->safe_psql('plant', 'SELECT crm.mode()'), 'live', 'the original is live');
$node->safe_psql('plant', q{SELECT crm.integration_retry('sms')});
ok(wait_for(15, sub { $ledger->count(qr/^sms .* waits/) >= 5 }), 'the original sends');
sleep 1;
is($ledger->count(qr/^sms .* waits/), 5, 'each once: the copy has no part in it');
speaks($copy, $ledger);
$copy->stop('fast');

# ---- the same path, the directory itself never removed: only what is in it ----
$node->stop('fast');
system("rm -rf @{[ $node->data_dir ]}/* && cp -a $backup/. @{[ $node->data_dir ]}/") == 0 or die;
$ledger->clear;
$node->start;
silent($node, $ledger, qr/^warning: This database does not act: activated in another data directory, or restored into this one/);
speaks($node, $ledger);

# ---- renamed within its file system: no copy ----
$node->stop('fast');
my $data = $node->data_dir;
rename $data, "$data.moved" or die;
symlink "$data.moved", $data or die;
$node->start;
is($node->safe_psql('plant', 'SELECT crm.mode()'), 'live', 'a directory that was renamed is the original still');
$node->safe_psql('plant', q{SELECT crm.send('sms', '+79161234567', 'moved')});
ok(wait_for(10, sub { $ledger->count(qr/moved$/) == 1 }), 'and sends');

$node->stop('fast');
done_testing();
