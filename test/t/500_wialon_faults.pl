# A drive comes whole and once through a Wialon that misbehaves in every way it knows, while it lasts: slow and broken replies,
# errors of status and of content, lost sessions, messages doubled, late, without place and from the future.
# claim 49 (approaching once, whatever the positions look like)
# claim 64 (left, approaching, arrived: each once)
use strict;
use warnings;
use CrmTest;
use WialonDouble;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $track = tree() . '/test/demo/track.json';
my ($begin, $rate) = (1782885600, 80);    # 2026-07-01 06:00 UTC
my $wialon = wialon_start(token => 'secret-token', clock => $begin - 600, rate => 0, idle => 100000,
	unit => [ "id=4101001,name=TRK 101,track=$track,start=$begin", 'id=4101002,name=somebody else' ]);
my $node = crm_node('wialon', activate => undef);
my $sql = sub { return $node->safe_psql('plant', $_[0]) };

append_to_file(my $secret = PostgreSQL::Test::Utils::tempdir() . '/token', "secret-token\n");

# everything happens in the double's time
$sql->("SELECT crm.set_now(to_timestamp($begin - 600), 0)");
$sql->("SELECT crm.activate('live')");
my ($fixes) = map { $_->{fixes} } $wialon->control()->{units}{4101001};

$sql->(<<"SQL");
INSERT INTO crm.company (id, name, is_client) VALUES (1, 'Client', true);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (1, 'Plant', 'plant', 38.7062, 55.3163, 600);
INSERT INTO crm.place (id, name, kind, lon, lat, radius_m, company_id) VALUES (2, 'Site', 'unloading', 38.7583, 55.2146, 400, 1);
INSERT INTO crm.vehicle (id, plate) VALUES (1, 'TRK 101');
INSERT INTO crm.zone_setting (place_id, approach_km) VALUES (2, 3);
INSERT INTO crm.customer_order (id, number, company_id, place_id, product) VALUES (1, 'A-1', 1, 2, 'cement');
SQL
$sql->("SELECT crm.add_integration('tracks', 'gps_wialon', '" . $wialon->url . q{', '{"poll_ms": 1000, "max_reply_bytes": 4194304, "timeout_ms": 3000}', 'file:} . "$secret')");
ok(wait_for(20, sub { $sql->("SELECT count(*) FROM crm.gps_wialon_unit") == 2 }), 'both units are listed');
is($sql->('SELECT plate, gps_unit FROM crm.vehicle'), 'TRK 101|4101001', 'the vehicle found its unit by the plate');
like($sql->("SELECT crm.integration_test('tracks')"), qr/^ok: logged in as svc_tracking/, 'the test logs in');

# the drive begins
$wialon->control('late=7:60&duplicate=5&null=11&zero=13&future=17:86400&text=9');
$sql->("SELECT crm.set_now(to_timestamp($begin - 10), $rate)");
$wialon->control('clock=' . ($begin - 10) . "&rate=$rate");
$sql->("INSERT INTO crm.shipment (order_id, vehicle_id, product, tare_kg, gross_kg) VALUES (1, 1, 'cement', 14000, 40000)");

my $positions = sub { return $sql->('SELECT count(*) FROM crm.vehicle_position') };
my %fault = (
	'half a reply' => 'fault=half&svc=avl_evts',
	'status 500' => 'fault=status&svc=avl_evts',
	'a reply of 20 MB' => 'fault=huge&svc=avl_evts',
	'a session lost' => 'expire=1',
	'a session lost within a batch' => 'expire=1&fault=session&svc=core/batch&at=2',
	'a list where an object was' => 'fault=list&svc=avl_evts',
	'a connection dropped' => 'fault=drop&svc=avl_evts',
	'a body that ends early' => 'fault=cut&svc=avl_evts',
	'a slow reply' => 'fault=slow&ms=4000&svc=avl_evts',
	'a web page' => 'fault=page&svc=avl_evts',
	'too much haste' => 'fault=error&code=1003&reason=LIMIT%20api_concurrent&svc=avl_evts',
	'half a history' => 'expire=1&fault=half&svc=messages/load_interval');
foreach my $name (sort keys %fault)
{
	my $before = () = $wialon->requests('avl_evts');
	$wialon->control($fault{$name});
	# it has struck, and good events have come since
	my $ok = wait_for(40, sub {
		sleep 0.3;
		my @open = grep { $_->{used} < $_->{count} } @{ $wialon->control()->{faults} };
		my @polls = $wialon->requests('avl_evts');
		my @good = grep { $_->{status} == 200 && !defined $_->{error} && !defined $_->{fault} } splice(@polls, $before);
		return !@open && @good && $sql->('SELECT failures FROM crm.integration_state') == 0;
	});
	ok($ok, "$name: goes on") or diag($sql->('SELECT failures, last_error, session FROM crm.integration_state'));
	$sql->("SELECT crm.integration_retry('tracks')");
}
my $end = $begin + 1280;
ok(wait_for(60, sub { $wialon->control()->{now} > $end + 90 && $positions->() >= $fixes
		  && $sql->("SELECT count(*) FROM crm.gps_wialon_unit WHERE missing_from IS NOT NULL") == 0 }), 'the drive is over and nothing is missing')
  or diag($sql->('SELECT * FROM crm.gps_wialon_unit'), $positions->());
is($positions->(), $fixes, 'every fix is stored, once');
is($sql->("SELECT count(*), count(DISTINCT at) FROM crm.vehicle_position WHERE lon BETWEEN 38 AND 39"), "$fixes|$fixes", 'and none that is no place');
is($sql->("SELECT string_agg(kind || ' ' || n, ', ' ORDER BY kind) FROM (SELECT kind, count(*) AS n FROM crm.event WHERE kind ~ '^trip' GROUP BY 1) x"),
	'trip.approaching 1, trip.arrived 1, trip.departed 1', 'each fact once');
is($sql->('SELECT count(*) FROM crm.completeness WHERE theirs <> ours + rejected'), '0', 'every slice of history adds up');
cmp_ok($sql->('SELECT count(*) FROM crm.completeness'), '>', 0, 'and slices were counted');
is($sql->("SELECT count(*) > 0 FROM crm.position_refused WHERE reason = 'null island'"), 't', 'zero coordinates are counted');
is($sql->("SELECT count(*) > 0 FROM crm.position_refused WHERE reason = 'in the future'"), 't', 'and times in the future');
is($sql->("SELECT string_agg(DISTINCT what || ': ' || left(reason, 13), '; ' ORDER BY what || ': ' || left(reason, 13)) FROM crm.rejected"),
	'the reply with the events: it is no JSON; the reply with the events: it is no obje; the reply with the history of unit 4101001: it is no JSON',
	'what could not be read is kept') or diag($sql->('SELECT what, reason FROM crm.rejected'));
is($sql->("SELECT count(*) FROM crm.health WHERE subject = 'integration tracks' AND message ~ 'could not be read'"), '1', 'and is one row of health');

# a dead token: one login an hour, one row of health
my $logins = () = $wialon->requests('token/login');
$wialon->control('token=dead');
ok(wait_for(20, sub { $sql->("SELECT message FROM crm.health WHERE subject = 'integration tracks' AND message ~ 'fails'") =~ /refuses the token: error 8/ }), 'a dead token is an alarm');
sleep 4;
my @after = $wialon->requests('token/login');
is(scalar(@after), $logins + 1, 'and is tried once, not again and again');
$wialon->control('token=alive');
$sql->("SELECT crm.integration_retry('tracks')");
ok(wait_for(20, sub { $sql->("SELECT count(*) FROM crm.health WHERE message ~ 'fails'") == 0 }), 'after mending it goes on');

my @many = $wialon->requests('avl_evts');
my $most = 0;
foreach my $i (0 .. $#many)
{
	my $n = grep { $_->{session} eq $many[$i]{session} && $_->{real} >= $many[$i]{real} && $_->{real} < $many[$i]{real} + 10 } @many[ $i .. $#many ];
	$most = $n if $n > $most;
}
cmp_ok($most, '<=', 10, "never more than ten calls for events in ten seconds of one session ($most)");
my $log = slurp_file($wialon->{log});
unlike($log . slurp_file($node->logfile), qr/secret-token/, 'the token stands in no log');
done_testing();
