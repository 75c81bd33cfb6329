# A cluster of crm for TAP tests: preloaded, one database "plant" with the extension.
package CrmTest;
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep time);
use Exporter 'import';
our @EXPORT = qw(crm_node wait_for tree);

# The folder of the project's test material.
sub tree { return $ENV{CRM_TREE} // "$ENV{PWD}" }

# crm_node(NAME, activate => 'live'|undef, conf => "…", database => 'plant', install_path => …): a running cluster.
sub crm_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, $opt{install_path} ? (install_path => $opt{install_path}) : ());
	my $database = $opt{database} // 'plant';

	$node->init(%{ $opt{init} // {} });
	$node->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'crm'
listen_addresses = '127.0.0.1'
log_line_prefix = '%m [%p] %b '
max_worker_processes = 8
max_locks_per_transaction = 256
fsync = off
CONF
	$node->append_conf('postgresql.conf', $opt{conf}) if $opt{conf};
	$node->start;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION crm CASCADE');
	my $mode = exists $opt{activate} ? $opt{activate} : 'live';
	$node->safe_psql($database, "SELECT crm.activate('$mode')") if defined $mode;
	return $node;
}

# wait_for(SECONDS, SUB): true as soon as SUB is; false when the time is up.
sub wait_for
{
	my ($seconds, $sub) = @_;
	my $end = time + $seconds;
	while (time < $end)
	{
		return 1 if $sub->();
		sleep 0.05;
	}
	return $sub->() ? 1 : 0;
}

1;
