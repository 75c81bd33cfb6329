# PostGIS in a schema of its own: every wrapper works as each role, and places are written and read.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use CrmTest;

my $node = crm_node('maps', activate => undef);
$node->safe_psql('postgres', 'CREATE DATABASE maps');
$node->safe_psql('maps', 'CREATE SCHEMA gis; CREATE EXTENSION postgis SCHEMA gis; CREATE EXTENSION crm');
$node->safe_psql('maps', "SELECT crm.activate('live')");
my $border = "'POLYGON((37 55,38 55,38 56,37 55))'";

is($node->safe_psql('maps', "SET ROLE crm_erp_writer; SELECT result FROM crm_erp.put_place('L-1', NULL, 'x', 'plant', '37,5', '55,7', '300', $border)"),
	'created', 'the ERP writes a place with a border');
is($node->safe_psql('maps', "SET ROLE crm_erp_writer; SELECT result FROM crm_erp.put_place('L-1', NULL, 'x', 'plant', '37,5', '55,7', '300', $border)"),
	'same', 'and again');
for my $role (qw(crm_owner postgres))
{
	is($node->safe_psql('maps', "SET ROLE $role; SET search_path = ''; SELECT crm.geo_covers(g.shape, 37.9, 55.5), crm.geo_text(crm.geo_point(37, 55)),
		round(crm.geo_distance_m(37, 55, 37, 56)), crm.geo_border_problem(crm.geo_border($border)) IS NULL,
		(SELECT count(*) FROM crm.geo_vertices(g.shape)), crm.geo_covers(crm.geo_circle(37, 55, 500), 37, 55) FROM crm.place_geo g WHERE g.name = 'x'"),
		't|POINT(37 55)|111333|t|4|t', "every wrapper as $role, with an empty path");
}
my ($code, $out, $err) = $node->psql('maps', "SELECT crm.geo_circle(37, 55, 'NaN')");
like($err, qr/radius NaN m is out of range/, 'a NaN radius is refused before PostGIS sees it');
is($node->safe_psql('maps', 'SELECT 1'), '1', 'and the cluster lives');
$node->stop('fast');
done_testing();
