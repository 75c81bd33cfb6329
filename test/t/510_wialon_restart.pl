# The courier is killed and the server stopped while a vehicle drives: what was sent meanwhile is read from history, and
# nothing twice. CRM_WIALON_KILLS kills (3).
# claim 50 (arrival is told once, also when nobody listened at that moment)
use strict;
use warnings;
use CrmTest;
use WialonDouble;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $kills = $ENV{CRM_WIALON_KILLS} // ($ENV{CRM_SOAK} ? 20 : 3);
my $track = tree() . '/test/demo/track.json';
my ($begin, $rate) = (1782885600, 60);
my $wialon = wialon_start(token => 'T', clock => $begin - 600, rate => 0, idle => 600, unit => ["id=7,name=TRK 101,track=$track,start=$begin"]);
my $fixes = $wialon->control()->{units}{7}{fixes};
my $node = crm_node('wialon_restart', activate => undef, conf => 'restart_after_crash = on');
my $sql = sub { my ($out, $code) = ('', 1); ($code, $out) = $node->psql('plant', $_[0]); return $code == 0 ? $out : undef };

$node->safe_psql('plant', $_) foreach (
	"SELECT crm.set_now(to_timestamp($begin - 600), 0)",
	"SELECT crm.activate('live')",
	"INSERT INTO crm.vehicle (id, plate) VALUES (1, 'TRK 101')",
	"SELECT crm.add_integration('tracks', 'gps_wialon', '" . $wialon->url . q{', '{"poll_ms": 1000}', 'T')});
ok(wait_for(20, sub { ($sql->('SELECT count(*) FROM crm.gps_wialon_unit WHERE vehicle_id IS NOT NULL') // 0) == 1 }), 'the unit has its vehicle');
$node->safe_psql('plant', "SELECT crm.set_now(to_timestamp($begin), $rate)");
$wialon->control("clock=$begin&rate=$rate");

foreach my $i (1 .. $kills)
{
	my $seen = $sql->('SELECT count(*) FROM crm.vehicle_position') // 0;
	wait_for(20, sub { ($sql->('SELECT count(*) FROM crm.vehicle_position') // 0) > $seen || $wialon->control()->{now} > $begin + 1280 });
	my $pid = $sql->("SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
	kill 'KILL', $pid if $pid;
	ok(wait_for(30, sub { my $new = $sql->("SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'"); return $new && $new ne ($pid // '') }), "kill $i: the courier is back");
}
$node->restart('fast');
ok(wait_for(60, sub { $wialon->control()->{now} > $begin + 1280 && ($sql->('SELECT count(*) FROM crm.vehicle_position') // 0) >= $fixes }), 'the drive is here')
  or diag($sql->('SELECT * FROM crm.gps_wialon_unit'), $sql->('SELECT count(*) FROM crm.vehicle_position'));
is($sql->('SELECT count(*), count(DISTINCT at) FROM crm.vehicle_position'), "$fixes|$fixes", 'every fix once');
ok(wait_for(20, sub { ($sql->('SELECT count(*) FROM crm.gps_wialon_unit WHERE missing_from IS NOT NULL') // 1) == 0 }), 'no gap is left open');
is($sql->('SELECT count(*) FROM crm.completeness WHERE theirs <> ours + rejected'), '0', 'every slice of history adds up');
done_testing();
