# What the preloaded library costs those who do not use it: under 1 MB of private memory in a backend, no
# heavy library and no second thread in the postmaster.
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->append_conf('postgresql.conf', "fsync = off");
$bare->start;
$bare->safe_psql('postgres', 'CREATE DATABASE plant');
my $crm = crm_node('crm');

# Private memory in kB of a backend that has done a little work of its own.
sub private_kb
{
	my ($node, @more) = @_;
	my ($in, $out, $err) = ('', '', '');
	my $run = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $node->connstr('plant') ], '<', \$in, '>', \$out, '2>', \$err,
		IPC::Run::timeout(60));
	$in .= "SELECT count(*) FROM pg_class;\nCREATE TEMP TABLE t AS SELECT g FROM generate_series(1, 100) g;\n";
	$in .= "$_;\n" for @more;
	$in .= "SELECT 'pid=' || pg_backend_pid();\n";
	$run->pump until $out =~ /pid=(\d+)/;
	my $pid = $1;
	my $kb = 0;
	my $smaps = slurp_file("/proc/$pid/smaps_rollup");
	$kb += $1 while $smaps =~ /^Private_(?:Dirty|Clean):\s+(\d+) kB/mg;
	my $maps = slurp_file("/proc/$pid/maps");
	$in .= "\\q\n";
	$run->finish;
	return ($kb, $maps);
}
my @without = sort { $a <=> $b } map { (private_kb($bare))[0] } 1 .. 3;
my @with = sort { $a <=> $b } map { (private_kb($crm))[0] } 1 .. 3;
note("private memory of a backend: $without[1] kB without, $with[1] kB with the library");
cmp_ok($with[1] - $without[1], '<', 1024, 'a backend pays under 1 MB');

my (undef, $maps) = private_kb($crm, 'SELECT crm.mode()', 'SELECT * FROM crm.health');
unlike($maps, qr/libcurl|libmicrohttpd|libphonenumber|libgmime|libxlsxwriter|libroaring/, 'and maps no heavy library');

my $postmaster = slurp_file($crm->data_dir . '/postmaster.pid');
my ($pid) = $postmaster =~ /^(\d+)/;
my @threads = glob("/proc/$pid/task/*");
is(scalar(@threads), 1, 'the postmaster has one thread');
unlike(slurp_file("/proc/$pid/maps"), qr/libcurl|libmicrohttpd|libphonenumber|libgmime|libxlsxwriter|libroaring/,
	'and maps no heavy library');
$_->stop for $bare, $crm;
done_testing();
