# Zones and units of Wialon become places and vehicles and follow it; a client's link lives from the departure to two hours after
# the arrival and shows one vehicle; a notification by HTTP has Wialon polled at once, once; a token with less says so; logout.
# claim 48 (the track link opens that vehicle only and dies at arrival + 2 h)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use WialonDouble;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $track = tree() . '/test/demo/track.json';
my ($begin, $rate) = (1782885600, 80);    # 2026-07-01 06:00 UTC
my $wialon = wialon_start(token => 'T', clock => $begin - 600, rate => 0, idle => 100000, rights => -1, zones => tree() . '/test/data/gps_wialon/get_zone_data.json',
	unit => [ "id=4101001,name=TRK 101,track=$track,start=$begin", 'id=4101002,name=NEW 202' ]);
my $node = crm_node('wialon_zones', activate => undef);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
my $order = sub { my ($q) = @_; $q =~ s/([^A-Za-z0-9=&:.,_-])/sprintf('%%%02X', ord $1)/ge; return $wialon->control($q) };

$sql->("SELECT crm.set_now(to_timestamp($begin - 600), 0)");
$sql->("SELECT crm.activate('live')");
$sql->(<<"SQL");
INSERT INTO crm.company (id, name, is_client) VALUES (1, 'Client', true);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) OVERRIDING SYSTEM VALUE VALUES (1001, 'Plant', 'plant', 38.7062, 55.3163, 600);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, company_id) OVERRIDING SYSTEM VALUE VALUES (1002, 'Site', 'unloading', 38.7583, 55.2146, 400, 1);
INSERT INTO crm.vehicle (id, plate) VALUES (1001, 'TRK 101');
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (1, 'A-1', 1, 1002, 'cement');
SQL
my $url = $wialon->url;
$sql->("SELECT crm.add_integration('tracks', 'gps_wialon', '$url', '{\"poll_ms\": 1000, \"import_zones\": true, \"import_units\": true, \"locator_site\": \"$url\", \"locator_auto\": true}', 'T')");

# zones
my $places = sub { $sql->(q{SELECT string_agg(format('%s|%s|%s|%s', name, radius_m, border IS NOT NULL, archived_at IS NULL), ' ' ORDER BY source_id) FROM crm.place WHERE source = 'wialon'}) };
ok(wait_for(30, sub { $places->() eq 'Depot||t|t Customer A|150|f|t Corridor||t|t' }), 'a polygon, a circle and a line are places') or diag($places->());
is($sql->("SELECT crm.geo_covers(border, 27.55 + 0.005, 53.835), crm.geo_covers(border, 27.57, 53.835) FROM crm.place WHERE name = 'Depot'"), 't|f', 'the polygon is where it was drawn');
is($sql->("SELECT crm.geo_covers(border, 27.55, 53.8503), crm.geo_covers(border, 27.55, 53.852) FROM crm.place WHERE name = 'Corridor'"), 't|f', 'the line is as wide as it was drawn');
is($sql->('SELECT count(*), count(gps_unit) FROM crm.vehicle'), '2|2', 'one vehicle found its unit, the other was made for its unit');
is($sql->(q{SELECT plate, gps_unit, source FROM crm.vehicle WHERE id <> 1001}), 'NEW 202|4101002|wialon', 'a vehicle for a unit that had none');

$order->('zone={"id":2,"rid":4100900,"n":"Customer B","t":3,"w":300,"f":32,"p":[{"x":27.602,"y":53.9015,"r":300}]}');
ok(wait_for(20, sub { $places->() =~ /Customer B\|300\|f\|t/ }), 'a changed zone is followed by its event') or diag($places->());
$order->('zone={"id":7,"rid":4100900,"n":"Bow tie","t":2,"w":0,"f":32,"p":[{"x":27.5,"y":53.8},{"x":27.6,"y":53.9},{"x":27.6,"y":53.8},{"x":27.5,"y":53.9}]}');
ok(wait_for(20, sub { $sql->(q{SELECT count(*) FROM crm.rejected WHERE what = 'zone 7 of resource 4100900' AND reason ~ 'cross'}) == 1 }), 'a zone that crosses itself is kept with its bytes')
  or diag($sql->('SELECT what, reason FROM crm.rejected'));
is($sql->("SELECT count(*) FROM crm.place WHERE name = 'Bow tie'"), '0', 'and is no place');
is($sql->(q{SELECT count(*) FROM crm.health WHERE subject = 'integration tracks' AND message ~ 'could not be read'}), '1', 'and is one row of health');
$order->('dropzone=3');
ok(wait_for(20, sub { $places->() =~ /Corridor\|\|t\|f/ }), 'a zone that is gone there is put away') or diag($places->());
$wialon->control('fault=error&code=7&svc=resource/get_zone_data');
$order->('zone={"id":2,"rid":4100900,"n":"Customer C","t":3,"w":310,"f":32,"p":[{"x":27.602,"y":53.9015,"r":310}]}');
ok(wait_for(30, sub { $places->() =~ /Customer C\|310/ }), 'zones that could not be read are read again');

# the drive, and its link
$sql->("SELECT crm.set_now(to_timestamp($begin - 10), $rate)");
$wialon->control('clock=' . ($begin - 10) . "&rate=$rate");
$sql->("INSERT INTO crm.shipment (order_id, vehicle_id, product, tare_kg, gross_kg) VALUES (1, 1001, 'cement', 14000, 40000)");
is($sql->('SELECT crm.wialon_locator(id) IS NULL, crm.track_url(id) IS NULL FROM crm.trip'), 't|t', 'no link before the departure');
ok(wait_for(30, sub { $sql->('SELECT crm.track_url(id) IS NOT NULL FROM crm.trip') eq 't' }), 'the link is there after the departure') or diag($sql->('SELECT * FROM crm.locator_link'));
is($sql->('SELECT count(*), bool_and(live_at >= (SELECT departed_at FROM crm.trip)) FROM crm.locator_link'), '1|t', 'one, and not before it');
my $link = $sql->('SELECT crm.track_url(id) FROM crm.trip');
my $open = sub { my ($out, $err) = ('', ''); IPC::Run::run([ 'curl', '-sS', '--max-time', '5', $link ], '>', \$out, '2>', \$err); return $out };
like($open->(), qr/<p>TRK 101$/, 'it shows this vehicle and no other');
my @tokens = @{ $wialon->control()->{tokens} };
is(scalar(@tokens), 1, 'one token was made');
is("$tokens[0]{fl} @{$tokens[0]{items}}", '256 4101001', 'to look, and for one unit');
ok(wait_for(20, sub { $sql->(q{SELECT count(*) FROM crm.event WHERE kind = 'trip.track_link' AND data ->> 'track_url' LIKE 'http%'}) == 1 }), 'the event tells of it once');
ok(wait_for(60, sub { $sql->("SELECT count(*) FROM crm.trip WHERE arrived_at IS NOT NULL") == 1 }), 'it arrived') or diag($sql->('SELECT * FROM crm.trip'));
my $arrived = $sql->('SELECT extract(epoch FROM arrived_at)::bigint FROM crm.trip');
$sql->("SELECT crm.set_now(to_timestamp($arrived + 7140), 0)");
sleep 3;
like($open->(), qr/TRK 101/, 'an hour and 59 minutes later it still shows it');
$sql->("SELECT crm.set_now(to_timestamp($arrived + 7260), 0)");
ok(wait_for(20, sub { !@{ $wialon->control()->{tokens} } }), 'two hours later it is taken back') or diag($sql->('SELECT * FROM crm.locator_link'));
like($open->(), qr/no such link/, 'and opens nothing');
is($sql->('SELECT state, token IS NULL, crm.track_url(trip_id) IS NULL FROM crm.locator_link'), 'closed|t|t', 'here too');

# a notification
my $port = PostgreSQL::Test::Cluster::get_free_port();
$sql->("SELECT crm.listen($port)");
my $hook = "http://127.0.0.1:$port" . $sql->("SELECT crm.add_route('tracks', 'wialon', 'crm.gps_wialon_notified', '{POST}')");
$sql->("UPDATE crm.integration SET poll_ms = 120000 WHERE name = 'tracks'");
$sql->("SELECT crm.integration_retry('tracks')");
sleep 3;
my $polls = () = $wialon->requests('avl_evts');
my $said;
ok(wait_for(20, sub { $said = eval { $order->("push=$hook&unit=4101001") }; return $said && $said->{status} == 200 }), 'a notification is taken');
is($said->{body}, 'ok', 'and believed');
ok(wait_for(5, sub { (() = $wialon->requests('avl_evts')) > $polls }), 'Wialon is polled at once, not in two minutes');
my $stored = $sql->('SELECT count(*) FROM crm.vehicle_position');
is($order->("push=$hook&unit=4101001")->{body}, 'known', 'the same one again is once');
is($sql->('SELECT count(*) FROM crm.vehicle_position'), $stored, 'nothing is stored twice');
$order->("unit=id=99,name=stranger");
is($order->("push=$hook&unit=99")->{status}, 422, 'one of an unknown unit is refused');
is($sql->("SELECT count(*) FROM crm.rejected WHERE what = 'a notification by HTTP'"), '1', 'and kept');

# a token with less
$sql->("UPDATE crm.integration SET poll_ms = 1000 WHERE name = 'tracks'");
$wialon->control('rights=768');
$wialon->control('expire=1');
$sql->("SELECT crm.poll_after(id, 0) FROM crm.integration");
ok(wait_for(20, sub { $sql->(q{SELECT count(*) FROM crm.health WHERE message ~ 'cannot make locator links: its token has access 768'}) == 1 }), 'a token with less says what it cannot do');
my $before = () = $wialon->requests('avl_evts');
$sql->("INSERT INTO crm.shipment (order_id, vehicle_id, product, tare_kg, gross_kg, weighed_at) VALUES (1, 1001, 'cement', 14000, 40000, to_timestamp($arrived + 7200))");
$sql->('UPDATE crm.trip SET departed_at = loaded_at WHERE departed_at IS NULL');
$sql->('SELECT crm.wialon_locator(max(id)) FROM crm.trip');
ok(wait_for(20, sub { $sql->(q{SELECT count(*) FROM crm.locator_link WHERE state = 'failed' AND problem ~ 'has access 768'}) == 1 }), 'and the link says it');
ok(wait_for(20, sub { (() = $wialon->requests('avl_evts')) > $before + 2 }), 'polling goes on');

# leaving
$sql->("SELECT crm.gps_wialon_stop('tracks')");
ok(wait_for(20, sub { $wialon->control()->{sessions} == 0 && (() = $wialon->requests('core/logout')) == 1 }), 'it logs out');
ok(wait_for(10, sub { $sql->('SELECT enabled FROM crm.integration') eq 'f' }), 'and is off');
done_testing();
