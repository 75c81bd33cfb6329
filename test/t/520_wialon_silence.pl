# A session killed in the middle of the drive, then an hour of silence, then everything at once and in the wrong order: the same
# passages as of a vehicle that was heard all the time, the same times of the trip, and no second message.
# claim 64 (late data does not produce a stale message), claim 66
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
use Time::HiRes qw(sleep time);

my $track = tree() . '/test/demo/track.json';
my ($begin, $rate) = (1782885600, 60);
my $wialon = wialon_start(token => 'T', clock => $begin - 600, rate => 0, idle => 100000,
	unit => [ "id=1,name=TRK 101,track=$track,start=$begin" ]);
my $node = crm_node('wialon_silence', activate => undef);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };

$sql->("SELECT crm.set_now(to_timestamp($begin - 600), 0)");
$sql->("SELECT crm.activate('live')");
$sql->(<<"SQL");
INSERT INTO crm.company (id, name, is_client) VALUES (1, 'Client', true);
INSERT INTO crm.contact (id, company_id, name) VALUES (1, 1, 'Anna');
INSERT INTO crm.contact_point (contact_id, kind, value) VALUES (1, 'phone', '+79161234567');
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (1, 'Plant', 'plant', 38.7062, 55.3163, 600);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, company_id) VALUES (2, 'Site', 'unloading', 38.7583, 55.2146, 400, 1);
INSERT INTO crm.vehicle (id, plate) VALUES (1, 'TRK 101'), (2, 'HEARD 2');
INSERT INTO crm.zone_setting (place_id, approach_km) VALUES (2, 3);
INSERT INTO crm.customer_order (id, number, company_id, place_id, product, contact_id) VALUES (1, 'A-1', 1, 2, 'cement', 1);
CREATE FUNCTION public.gate_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT (NULL::crm.request).* WHERE false';
CREATE FUNCTION public.gate_take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT';
GRANT EXECUTE ON FUNCTION public.gate_next, public.gate_take TO crm_courier;
SELECT crm.register_kind('x_gate', 'public.gate_next', 'public.gate_take', channel => 'sms');
SELECT crm.add_integration('gate', 'x_gate', 'http://127.0.0.1:1/', '{"sender": "CEMENT"}');
UPDATE crm.rule SET enabled = code IN ('trip.departed', 'trip.approaching', 'trip.arrived'), quiet = 'urgent';
SQL
$sql->("SELECT crm.add_integration('tracks', 'gps_wialon', '" . $wialon->url . q{', '{"poll_ms": 1100, "history_first_s": 0}', 'T')});
ok(wait_for(20, sub { $sql->("SELECT count(*) FROM crm.gps_wialon_unit WHERE vehicle_id IS NOT NULL") == 1 }), 'the unit has its vehicle');
$sql->("SELECT crm.set_now(to_timestamp($begin - 10), $rate)");
$wialon->control('clock=' . ($begin - 10) . "&rate=$rate");
$sql->("INSERT INTO crm.shipment (order_id, vehicle_id, product, tare_kg, gross_kg) VALUES (1, 1, 'cement', 14000, 40000)");
ok(wait_for(30, sub { $sql->("SELECT count(*) FROM crm.event WHERE kind = 'trip.departed'") == 1 }), 'it departed');

# the session dies, and Wialon is not to be reached for an hour of its time
$wialon->control('expire=1&fault=status&code=502&count=0');
sleep 2;
my $heard = $sql->('SELECT count(*) FROM crm.vehicle_position');
$sql->("SELECT crm.set_now(to_timestamp($begin + 1280 + 3600), 0)");
$wialon->control('clock=' . ($begin + 1280 + 3600) . '&rate=0');
cmp_ok($heard, '<', $wialon->control()->{units}{1}{fixes}, 'a part of the drive was not heard');
# what the tracker kept comes at once, the newest first, as events; the rest is history
my $fixes = $wialon->control()->{units}{1}{fixes};
$wialon->control('clear=1');
$sql->("SELECT crm.integration_retry('tracks')");
my $data = JSON::PP->new->decode(slurp_file($track));
ok(wait_for(30, sub { (() = grep { $_->{status} == 200 && !defined $_->{error} } $wialon->requests('core/batch')) >= 2 }), 'a new session');
foreach my $fix (reverse @{ $data->{fixes} }[ -12 .. -1 ])
{
	my $event = JSON::PP->new->encode({ i => 1, t => 'm', d => { t => $begin + int($fix->[0]), f => 1, tp => 'ud', pos => { x => $fix->[1], y => $fix->[2], s => 40, c => 0, sc => 9 } } });
	$event =~ s/([^A-Za-z0-9])/sprintf('%%%02X', ord $1)/ge;
	$wialon->control("inject=$event");
	sleep 0.4;
}
ok(wait_for(90, sub { $sql->('SELECT count(*) FROM crm.vehicle_position') >= $fixes && $sql->("SELECT count(*) FROM crm.gps_wialon_unit WHERE missing_from IS NOT NULL") == 0 }), 'everything is here')
  or diag($sql->('SELECT * FROM crm.gps_wialon_unit'), $sql->('SELECT count(*) FROM crm.vehicle_position'), " of $fixes");
is($sql->('SELECT count(*), count(DISTINCT at) FROM crm.vehicle_position'), "$fixes|$fixes", 'every fix once');

# the same drive, heard in order
$sql->('SELECT crm.put_positions(array_agg(2::bigint ORDER BY at), array_agg(at ORDER BY at), array_agg(lon ORDER BY at), array_agg(lat ORDER BY at)) FROM crm.vehicle_position WHERE vehicle_id = 1');
my $passages = sub { $sql->("SELECT string_agg(concat_ws('|', place_id, entered_at, entered_error_s, entry_fix_at, dwelled, left_at, left_error_s, exit_fix_at), E'\\n' ORDER BY entry_fix_at) FROM crm.passage WHERE superseded_at IS NULL AND vehicle_id = $_[0]") };
isnt($passages->(1), '', 'there are passages');
is($passages->(1), $passages->(2), 'the same passages');
is($sql->('SELECT count(*) FROM ((SELECT from_at, to_at, gap FROM crm.stop WHERE superseded_at IS NULL AND vehicle_id = 1) EXCEPT (SELECT from_at, to_at, gap FROM crm.stop WHERE superseded_at IS NULL AND vehicle_id = 2)) x'), '0', 'the same stops');
is($sql->("SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM crm.event WHERE kind ~ '^trip' GROUP BY 1) x"),
	'trip.approaching 1, trip.arrived 1, trip.departed 1', 'each fact once');
is($sql->('SELECT count(*) FROM (SELECT rule, object_id FROM crm.message GROUP BY 1, 2 HAVING count(*) > 1) x'), '0', 'no second message');
is($sql->("SELECT count(*) > 0 FROM crm.message"), 't', 'and there were messages');
done_testing();
