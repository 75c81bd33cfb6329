# An update is proved: a database updated from an earlier version has the same fingerprint as a fresh one,
# keeps the DBA's own grants, and locks no table but those that the transition names.
# claim 18 (updates keep the customer's own settings), claim 78
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = crm_node('update', database => 'fresh', activate => undef);
$node->safe_psql('postgres', 'CREATE DATABASE old');
$node->safe_psql('old', "CREATE EXTENSION crm VERSION '0.9' CASCADE");

my $fingerprint = sub {
	my ($db) = @_;
	my $text = $node->safe_psql($db, slurp_file(tree() . '/test/update/fingerprint.sql'));
	return join "\n", grep { !/^$/ } split /\n/, $text;
};
my $fresh = $fingerprint->('fresh');
isnt($fingerprint->('old'), $fresh, 'the earlier version differs: the test can fail');

# A DBA's own right, and data, from before.
$node->safe_psql('old', 'GRANT SELECT ON crm.hook TO crm_director');
$node->safe_psql('old', "SELECT crm.set_now('2026-03-01 09:00Z', 0)");

# What the update locks: all but AccessShareLock must be named by the transition.
my $locks = $node->safe_psql('old', <<'SQL');
BEGIN;
SET client_min_messages = warning;
ALTER EXTENSION crm UPDATE;
SELECT DISTINCT l.relation::regclass FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND c.relkind IN ('r', 'p') AND c.relnamespace = 'crm'::regnamespace
	AND l.mode NOT IN ('AccessShareLock', 'RowExclusiveLock') ORDER BY 1;
COMMIT;
SQL
is($locks, "crm.activation\ncrm.clock_state", 'the update locks only the tables of its transition');

is($node->safe_psql('old', "SELECT has_table_privilege('crm_director', 'crm.hook', 'SELECT')"), 't', "the DBA's grant stands");
is($node->safe_psql('old', "SET timezone = 'UTC'; SELECT crm.now()"), '2026-03-01 09:00:00+00', 'the data stands');
my ($rc, $dump) = (0, '');
IPC::Run::run([ 'pg_dump', '-d', $node->connstr('old'), '-s' ], '>', \$dump);
like($dump, qr/GRANT SELECT ON TABLE crm\.hook TO crm_director/, 'and a dump carries it');
$node->safe_psql('old', 'REVOKE SELECT ON crm.hook FROM crm_director');

my $updated = $fingerprint->('old');
# A right that was given and taken leaves an explicit ACL of the owner: the same rights, written out.
s/crm_owner=arwdDxt\/crm_owner\}/}/, s/\| crm_owner \| \{\} \|/| crm_owner |  |/ for ($updated, $fresh);
my %in_fresh = map { $_ => 1 } split /\n/, $fresh;
my %in_updated = map { $_ => 1 } split /\n/, $updated;
is_deeply([ sort grep { !$in_fresh{$_} } keys %in_updated ], [ sort grep { !$in_updated{$_} } keys %in_fresh ],
	'fresh and updated have the same fingerprint');
note("only in updated: $_") for sort grep { !$in_fresh{$_} } keys %in_updated;
note("only in fresh:   $_") for sort grep { !$in_updated{$_} } keys %in_fresh;
is($node->safe_psql('old', 'SELECT extversion FROM pg_extension WHERE extname = $$crm$$'),
	$node->safe_psql('fresh', 'SELECT crm.version()'), 'the version is the library\'s');

$node->stop;
done_testing();
