# Without the preload line CREATE EXTENSION works, a look at the data works, and activate() refuses with the
# very line to add; with it, no database that was never activated has a session of ours, and a dump of the
# other schemas is byte for byte what it was before the extension.
# claim 7
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('preload');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nshared_preload_libraries = 'pg_stat_statements'");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE plant');
$node->safe_psql('plant', <<'SQL');
CREATE EXTENSION postgis;
CREATE SCHEMA erp;
CREATE TABLE erp.document (id int PRIMARY KEY, title text NOT NULL, at timestamptz DEFAULT now());
CREATE FUNCTION erp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT pg_catalog.upper($1)';
INSERT INTO erp.document SELECT g, 'document ' || g, '2026-01-01' FROM generate_series(1, 100) g;
GRANT SELECT ON erp.document TO PUBLIC;
SQL
my $others = sub {
	my $out = '';
	foreach my $schema ('erp', 'public')
	{
		my $dump = '';
		IPC::Run::run([ 'pg_dump', '-d', $node->connstr('plant'), '-n', $schema ], '>', \$dump) or die;
		$out .= $dump;
	}
	$out =~ s/^\\(un)?restrict .*$//mg;      # a random word of each run
	return $out;
};
my $before = $others->();
like($before, qr/erp\.document/, 'the dump holds what it should');

# An installer whose default privileges are generous gives nothing away.
$node->safe_psql('plant', 'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC');
$node->safe_psql('plant', 'CREATE EXTENSION crm');
$node->safe_psql('plant', 'ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM PUBLIC');
is($node->safe_psql('plant', <<'SQL'), '', 'the installer\'s default privileges reach no table, view or sequence of ours');
SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) x
WHERE n.nspname IN ('crm', 'crm_bi', 'crm_erp') AND x.grantee = 0 ORDER BY 1
SQL
is($node->safe_psql('plant', 'SELECT crm.mode(), crm.is_preloaded()'), 'off|f', 'it installs without the preload, and is off');
my ($rc, $out, $err) = $node->psql('plant', 'SELECT crm.activate()');
like($err, qr/crm is not in shared_preload_libraries/, 'activate() refuses');
like($err, qr/restart: shared_preload_libraries = 'pg_stat_statements,crm'/, 'and prints the very line');
like($node->safe_psql('plant', "SELECT message FROM crm.health WHERE subject = 'preload'"), qr/without crm/, 'health says so');

my $after = $others->();
is($after, $before, 'a dump of the other schemas is what it was');

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_stat_statements,crm'");
$node->restart;
is($node->safe_psql('plant', 'SELECT crm.mode()'), 'off', 'still off: nobody activated');
sleep 3;
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'plant'"), '0',
	'no session of ours in a database that was never activated');
is($node->safe_psql('plant', 'SELECT crm.activate()'), 'live', 'activated');
ok(wait_for(15, sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE datname = 'plant' AND backend_type = 'crm courier'") eq '1' }),
	'a courier comes');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'crm %' AND datname IS NOT NULL AND datname <> 'plant'"), '0',
	'and to no other database');
is($node->safe_psql('plant', 'SELECT crm.deactivate()'), 'off', 'deactivated');
ok(wait_for(15, sub { $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'crm courier'") eq '0' }),
	'the courier goes');
$node->safe_psql('plant', 'DROP EXTENSION crm CASCADE');
is($others->(), $before, 'after DROP EXTENSION too');
$node->safe_psql('postgres', q{CREATE DATABASE one_byte ENCODING 'WIN1251' LOCALE 'C' TEMPLATE template0});
($rc, $out, $err) = $node->psql('one_byte', 'CREATE EXTENSION crm CASCADE');
like($err, qr/crm needs a database in UTF8, this one is in WIN1251/, 'a database of another encoding is refused');
$node->stop;
done_testing();
