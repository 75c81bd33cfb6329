# A copy by pg_dump and pg_restore, with the database's settings (--create), and one by CREATE DATABASE …
# TEMPLATE: beside their original on the same server, with messages that wait and a gateway that answers, they
# send nothing until a person activates them.
use strict;
use warnings;
use CrmCopy;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $ledger) = crm_original('logical');
my $dir = $node->basedir;
$node->command_ok([ 'pg_dump', '-Fc', '--create', '-f', "$dir/plant.dump", 'plant' ], 'a dump that carries the mark of an active database');
$node->safe_psql('postgres', 'CREATE DATABASE twin TEMPLATE plant');
# nothing more comes from the original
$node->safe_psql('plant', q{SELECT crm.activate('off')});
$ledger->start;

silent($node, $ledger, qr/^warning: This database does not act: activated for the database with oid \d+, this one has \d+/, 'twin');

$node->safe_psql('postgres', 'ALTER DATABASE plant RENAME TO original');
$node->command_ok([ 'pg_restore', '--create', '-d', 'postgres', "$dir/plant.dump" ], 'restored under the name of the original');
is($node->safe_psql('postgres', q{SELECT setconfig::text FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = 'plant'}),
	'{crm.courier=on}', 'with its mark, so that a courier does come');
silent($node, $ledger, qr/^warning: This database does not act: never activated, or restored from a dump/, 'plant');

# a courier that comes while the restore is under way touches nothing: what it made would be in its way
$node->safe_psql('postgres', 'CREATE DATABASE half');
$node->safe_psql('postgres', 'ALTER DATABASE half SET crm.courier = on');
$node->safe_psql('half', 'CREATE EXTENSION crm CASCADE');
ok(wait_for(10, sub { $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'crm courier' AND datname = 'half'}) eq '1' }), 'a courier comes to a database that has the mark');
sleep 2;
is($node->safe_psql('half', q{SELECT count(*) FROM pg_class WHERE relispartition AND relnamespace = 'crm'::regnamespace}), '0', 'it keeps no house there before somebody activates it');
$node->safe_psql('postgres', 'DROP DATABASE half');

speaks($node, $ledger, 'plant');
speaks($node, $ledger, 'twin');
is($node->safe_psql('original', 'SELECT crm.mode()'), 'off', 'the original, renamed, is what it was');

$node->stop('fast');
done_testing();
