# The listener and hostile clients: refused in bounds, and others are served meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use ListenerTest;
use Test::More;
use Time::HiRes qw(time sleep);

$SIG{PIPE} = 'IGNORE';
my ($node, $port, $path) = listener_node('hostile');
ok(wait_for(10, sub { (ask($port, 'GET', "$path?id=0"))[0] == 200 }), 'the listener is up');
my $pid = pid_of($node, 'crm listener');
my $rss = sub { my ($kb) = PostgreSQL::Test::Utils::slurp_file("/proc/$pid/status") =~ /VmRSS:\s+(\d+)/; return $kb };
my $served = sub {
	my ($what) = @_;
	my ($status, undef, $seconds) = ask($port, 'GET', "$path?id=good");
	is($status, 200, "others are served: $what");
	cmp_ok($seconds, '<', 3, '… soon');
};
my $at_rest = $rss->();

# 100 MB of body, announced: refused before it is read
my $s = connect_to($port);
syswrite($s, "POST $path HTTP/1.1\r\nHost: t\r\nContent-Length: 104857600\r\n\r\n");
like(read_all($s, 5), qr{^HTTP/1\.1 413 }, '100 MB announced: 413');
$s = connect_to($port);
syswrite($s, "POST $path HTTP/1.1\r\nHost: t\r\nContent-Length: 104857600\r\nExpect: 100-continue\r\n\r\n");
like(read_all($s, 5), qr{^HTTP/1\.1 413 }, '… and with Expect');
$s = connect_to($port);
syswrite($s, "POST $path HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999999999999999\r\n\r\n");
like(read_all($s, 5), qr{^(HTTP/1\.1 4\d\d |$)}, 'a length that is no number of bytes');

# 100 MB of body, in pieces without a length: cut off at the route's limit
$s = connect_to($port);
syswrite($s, "POST $path HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
my $sent = 0;
my $piece = "10000\r\n" . ('x' x 65536) . "\r\n";
for (1 .. 1600)
{
	my $n = syswrite($s, $piece);
	last unless defined $n && $n == length $piece;
	$sent += $n;
}
cmp_ok($sent, '<', 20 * 1024 * 1024, '100 MB in pieces: broken off');
$served->('after the big bodies');
cmp_ok($rss->() - $at_rest, '<', 16 * 1024, 'memory stays in bounds');

# a body of the limit is taken, one byte more is not
is((ask($port, 'POST', $path, 'x=' . ('x' x (1048576 - 2))))[0], 200, '1 MB is taken');
is((ask($port, 'POST', $path, 'x=' . ('x' x (1048576 - 1))))[0], 413, 'a byte more is not');

# long lines and headers
is((ask($port, 'GET', $path . '?' . ('x' x 40000)))[0], 414, 'a long request line: 414');
$s = connect_to($port);
syswrite($s, "GET $path HTTP/1.1\r\nHost: t\r\n" . join('', map { "X-$_: " . ('y' x 100) . "\r\n" } 1 .. 1000) . "\r\n");
like(read_all($s, 5), qr{^(HTTP/1\.1 431 |$)}, 'endless headers: 431');

# broken requests
for my $bytes ("\0\0\0\0", "GET", "GET \x{ff}\x{fe} HTTP/1.1\r\nHost: t\r\n\r\n", "\r\n\r\n\r\n\r\n", "GET $path HTTP/9.9\r\n\r\n",
	"GET $path?id=%00%zz HTTP/1.1\r\nHost: t\r\nX: \x01\r\nConnection: close\r\n\r\n", "POST $path HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" . ("\x00" x 300))
{
	$s = connect_to($port);
	syswrite($s, $bytes);
	shutdown($s, 1);
	my $answer = read_all($s, 5);
	unlike($answer, qr{^HTTP/1\.\d 50[0-4]}, 'no server error for broken bytes');
}
$served->('after broken requests');

# a header that is never finished, a byte now and then
my @slow = map { connect_to($port) } 1 .. 20;
syswrite($_, "GET $path HTTP/1.1\r\nHost: t\r\nX-Slow: ") for @slow;
my $start = time;
my $open = 20;
while ($open > 0 && time - $start < 40)
{
	$open = 0;
	for my $c (@slow)
	{
		next unless defined syswrite($c, 'y');
		$open++;
	}
	sleep 0.25;
}
is($open, 0, 'headers that are never finished are ended');
cmp_ok(time - $start, '<', 20, '… soon, though bytes keep coming');

# a thousand connections that say nothing
my @children;
for (1 .. 4) # each has a limit of open files of its own
{
	pipe(my $ready, my $tell) or die;
	my $child = fork() // die;
	if ($child == 0)
	{
		my @many;
		for (1 .. 250)
		{
			my $c = connect_to($port) or last;
			push @many, $c;
			syswrite($c, 'GET /h/web') if @many % 2;
		}
		syswrite($tell, scalar(@many) . "\n");
		sleep 60;
		require POSIX;
		POSIX::_exit(0);
	}
	close $tell;
	push @children, [ $child, $ready ];
}
my $number = 0;
for (@children) { my $line = readline($_->[1]); $number += $line }
is($number, 1000, 'a thousand connections');
$served->('between them') for 1 .. 5;
my @fds = glob("/proc/$pid/fd/*");
cmp_ok(scalar(@fds), '<', 720, 'the listener keeps only so many open');
cmp_ok($rss->() - $at_rest, '<', 32 * 1024, 'memory stays in bounds');
kill 'KILL', $_->[0] for @children;
waitpid($_->[0], 0) for @children;

# a burst of good requests beyond the limit of connections: they wait, none is reset
@children = ();
for (1 .. 4)
{
	pipe(my $ready, my $tell) or die;
	my $child = fork() // die;
	if ($child == 0)
	{
		my $good = 0;
		my @burst;
		for (1 .. 220)
		{
			my $c = connect_to($port) or next;
			syswrite($c, "GET $path?id=burst HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
			push @burst, $c;
		}
		for (@burst) { $good++ if read_all($_, 20) =~ m{^HTTP/1\.1 200 } }
		syswrite($tell, "$good\n");
		require POSIX;
		POSIX::_exit(0);
	}
	close $tell;
	push @children, [ $child, $ready ];
}
$number = 0;
for (@children) { my $line = readline($_->[1]); $number += $line; waitpid($_->[0], 0) }
is($number, 880, 'a burst of 880 good requests: all are answered');

# a reader who does not read
$node->safe_psql('plant', q{CREATE OR REPLACE FUNCTION web.page(integration_id bigint, request crm.http_request) RETURNS crm.http_response LANGUAGE sql AS
	$$ SELECT ROW (200, NULL, convert_to(repeat('x', 4000000), 'UTF8'))::crm.http_response $$});
my $page = $node->safe_psql('plant', q{SELECT crm.add_route('web', 'page', 'web.page')});
ok(wait_for(5, sub { my ($status, $answer) = ask($port, 'GET', $page); $status == 200 && length($answer) > 4000000 }), 'a page of 4 MB');
my @deaf = map { connect_to($port) } 1 .. 3;
syswrite($_, "GET $page HTTP/1.1\r\nHost: t\r\n\r\n") for @deaf;
sleep 0.5;
sleep 2;
$served->('while some do not read');
close $_ for @deaf;

is(pid_of($node, 'crm listener'), $pid, 'it is still the same process');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
my @lines = $log =~ /crm listener: refused/g;
cmp_ok(scalar(@lines), '<=', 3, 'logged once a minute');
unlike($log, qr/PANIC|signal 6|signal 11/, 'nothing crashed');

$node->stop('fast');
done_testing();
