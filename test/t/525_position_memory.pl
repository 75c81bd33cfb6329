# What a courier takes while positions come through polls of Wialon: no more after many than after a few. CRM_SOAK: a million.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use WialonDouble;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $n = $ENV{CRM_SOAK} ? 1_000_000 : 20_000;
my $units = 20;
my $begin = 1782885600;
my $each = $n / $units;
# a round of the yard, a fix in five seconds; the double's time runs so that all of it comes in a minute or two
my $track = PostgreSQL::Test::Utils::tempdir() . '/track.json';
append_to_file($track, JSON::PP->new->encode({ fixes => [ map { [ $_ * 5, 37 + 0.3 * sin($_ / 40), 55 + 0.2 * cos($_ / 40) ] } 0 .. $each - 1 ] }));
my $rate = $each * 5 / ($ENV{CRM_SOAK} ? 600 : 40);
my $wialon = wialon_start(token => 'T', clock => $begin - 600, rate => 0, idle => 1e9, unit => [ map { "id=$_,name=MEM $_,track=$track,start=$begin" } 1 .. $units ]);
my $node = crm_node('position_memory', activate => undef);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };

$sql->('SELECT crm.set_now(to_timestamp(' . ($begin + $each * 5) . '), 0)');
$sql->("SELECT crm.activate('live')");
$sql->("INSERT INTO crm.vehicle (plate, gps_unit) SELECT 'MEM ' || i, NULL FROM generate_series(1, $units) i");
$sql->("INSERT INTO crm.place (name, lon, lat, radius_m) SELECT 'P ' || i, 37 + 0.3 * sin(i), 55 + 0.2 * cos(i), 300 FROM generate_series(1, 50) i");
$sql->("SELECT crm.add_integration('tracks', 'gps_wialon', '" . $wialon->url . q{', '{"poll_ms": 1100, "history_first_s": 0}', 'T')});
$sql->("UPDATE crm.vehicle SET gps_integration_id = (SELECT id FROM crm.integration), gps_unit = substr(plate, 5)");
ok(wait_for(30, sub { $sql->('SELECT count(*) FROM crm.gps_wialon_unit WHERE vehicle_id IS NOT NULL') == $units }), 'the units have their vehicles');
my $pid = $sql->("SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
my $own = sub { my $kb = 0; my $s = slurp_file("/proc/$pid/status"); $kb += $1 while $s =~ /^Rss(?:Anon|File):\s+(\d+) kB/mg; return $kb };
# a second before the first fix: what lies at the very moment of a jump is in the past already
$wialon->control("clock=" . ($begin - 1) . "&rate=$rate");
ok(wait_for(300, sub { $sql->('SELECT count(*) FROM crm.vehicle_position') > $n / 4 }), 'a quarter is here');
my $few = $own->();
ok(wait_for(1800, sub { sleep 1; $sql->('SELECT count(*) FROM crm.vehicle_position') >= $n }), 'all are here') or diag($sql->('SELECT count(*) FROM crm.vehicle_position'));
my $many = $own->();
note("$few kB after a quarter, $many kB after $n");
is($sql->("SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'"), $pid, 'by the same process');
cmp_ok($many, '<', 96 * 1024, 'it takes less than 96 MB');
cmp_ok($many - $few, '<', 4 * 1024, 'and does not grow');
$node->stop('fast');
done_testing();
