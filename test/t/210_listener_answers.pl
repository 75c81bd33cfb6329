# The listener: off until it is switched on; one transaction for what came together; an error costs its own request alone.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use ListenerTest;
use Test::More;
use Time::HiRes qw(time sleep);

my ($node, $port, $path) = listener_node('answers');

ok(wait_for(10, sub { (ask($port, 'GET', "$path?id=1"))[0] == 200 }), 'answers within ten seconds of crm.listen()');
my ($status, $answer) = ask($port, 'GET', "$path?id=%D0%94%D0%B0");
is($status, 200, 'GET');
like($answer, qr/\r\nX-Bytes: 0\r\n.*\r\n\r\nseen \xD0\x94\xD0\xB0$/s, 'its body and headers');
($status, $answer) = ask($port, 'POST', $path, 'id=form');
like($answer, qr/X-Bytes: 7\r\n.*seen form$/s, 'POST with a body');
is((ask($port, 'PUT', $path, 'x'))[0], 405, 'a method that the route does not answer');
is((ask($port, 'GET', substr($path, 0, -1)))[0], 404, 'a token cut short');
is((ask($port, 'GET', '/'))[0], 404, 'no route at all');
is((ask($port, 'GET', '/h/web/hook/'))[0], 404, 'no token');

# together: one transaction; the culprit alone gets 500
my @sockets = map { connect_to($port) } 1 .. 10;
my $stop = $node->background_psql('plant', on_error_stop => 1);
$stop->query_safe('BEGIN; LOCK TABLE web.fact IN ACCESS EXCLUSIVE MODE');
my $first = connect_to($port);
syswrite($first, "GET $path?id=first HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
ok(wait_for(5, sub {
		$node->safe_psql('plant', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'crm listener' AND wait_event_type = 'Lock'") == 1;
	}), 'the listener is in a transaction');
for my $n (0 .. 9)
{
	my $query = $n == 4 ? "id=c$n&boom" : "id=c$n";
	syswrite($sockets[$n], "GET $path?$query HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
}
sleep 0.2;
$stop->query_safe('COMMIT');
$stop->quit;
my @status = map { my $a = read_all($_); $a =~ m{^HTTP/1\.1 (\d+)} ? $1 : 0 } @sockets;
is("@status", '200 200 200 200 500 200 200 200 200 200', 'nine are answered, the culprit gets 500');
read_all($first);
is($node->safe_psql('plant', "SELECT count(*) FROM web.fact WHERE id LIKE 'c%'"), '9', 'nine facts');
is($node->safe_psql('plant', "SELECT what, reason, sqlstate, convert_from(bytes, 'UTF8') FROM crm.rejected WHERE what LIKE 'inbound%'"),
	"inbound GET /h/web/hook|no message c4|P0002|id=c4&boom\n", 'the culprit is kept with its bytes');

@sockets = map { connect_to($port) } 1 .. 10;
$stop = $node->background_psql('plant', on_error_stop => 1);
$stop->query_safe('BEGIN; LOCK TABLE web.fact IN ACCESS EXCLUSIVE MODE');
$first = connect_to($port);
syswrite($first, "GET $path?id=first HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
sleep 0.3;
syswrite($sockets[$_], "GET $path?id=d$_ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n") for 0 .. 9;
sleep 0.2;
$stop->query_safe('COMMIT');
$stop->quit;
read_all($_) for @sockets;
is($node->safe_psql('plant', "SELECT count(*), count(DISTINCT xid) FROM web.fact WHERE id LIKE 'd%'"), '10|1', 'ten requests that came together are one transaction');

# a function that does not get ready is ended, and its route rests
my $begin = time;
is((ask($port, 'GET', "$path?id=s&slow"))[0], 500, 'too slow: 500');
cmp_ok(time - $begin, '<', 8, 'after five seconds');
is((ask($port, 'GET', "$path?id=after"))[0], 503, 'the route rests for a while');

# routes are followed: a new one at once, one switched off at once, a new token at once
my $other = $node->safe_psql('plant', q{SELECT crm.add_route('web', 'other', 'web.hook')});
ok(wait_for(3, sub { (ask($port, 'GET', "$other?id=o"))[0] == 200 }), 'a new route');
my $again = $node->safe_psql('plant', q{SELECT crm.add_route('web', 'other', 'web.hook')});
is((ask($port, 'GET', "$other?id=o"))[0], 404, 'the old token is worth nothing');
ok(wait_for(3, sub { (ask($port, 'GET', "$again?id=o"))[0] == 200 }), 'the new one works');
$node->safe_psql('plant', q{UPDATE crm.route SET enabled = false WHERE name = 'other'});
is((ask($port, 'GET', "$again?id=o"))[0], 404, 'switched off');

# nothing is held while it waits; a flood of wrong tokens costs no transactions
sleep 0.5;
is($node->safe_psql('plant', "SELECT usename, backend_xmin IS NULL, backend_xid IS NULL, xact_start IS NULL, (SELECT count(*) FROM pg_locks l WHERE l.pid = a.pid) FROM pg_stat_activity a WHERE backend_type = 'crm listener'"),
	'crm_courier|t|t|t|0', 'no snapshot, no transaction, no lock');
my $commits = sub { $node->safe_psql('postgres', "SELECT pg_stat_clear_snapshot()"); $node->safe_psql('postgres', "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'plant'") };
sleep 1.2;
my $before = $commits->();
my $wrong = 0;
for (1 .. 300) { $wrong++ if (ask($port, 'GET', "/h/web/hook/wrong$_"))[0] == 404 }
is($wrong, 300, '300 wrong tokens are 404');
sleep 1.2;
cmp_ok($commits->() - $before, '<', 60, 'and cost few transactions');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
my @lines = $log =~ /crm listener: refused \d+ requests/g;
cmp_ok(scalar(@lines), '<=', 2, 'logged once a minute');
my ($token) = $path =~ m{/([^/]+)$};
unlike($log, qr/\Q$token\E(?!')/, 'no token in the log');

# moved and switched off
my $elsewhere = PostgreSQL::Test::Cluster::get_free_port();
$node->safe_psql('plant', "SELECT crm.listen($elsewhere)");
ok(wait_for(10, sub { (ask($elsewhere, 'GET', "$path?id=moved"))[0] == 200 }), 'it moves to another port');
is((ask($port, 'GET', "$path?id=moved"))[0], 0, 'and leaves the old one');
$node->safe_psql('plant', 'SELECT crm.listen(NULL)');
ok(wait_for(10, sub { pid_of($node, 'crm listener') eq '' }), 'off');
is((ask($elsewhere, 'GET', "$path?id=off"))[0], 0, 'nobody listens');

$node->stop('fast');
done_testing();
