# The listener leaves: fast stop and DROP DATABASE while clients hang; a port that is taken; the postmaster's death.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use ListenerTest;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time sleep);

$SIG{PIPE} = 'IGNORE';
my ($node, $port, $path) = listener_node('leaves');
ok(wait_for(10, sub { (ask($port, 'GET', "$path?id=0"))[0] == 200 }), 'the listener is up');

# DROP DATABASE with clients that hang
my @hanging = map { connect_to($port) } 1 .. 100;
syswrite($_, "POST $path HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nid=") for @hanging;
my $start = time;
$node->safe_psql('postgres', 'DROP DATABASE plant');
cmp_ok(time - $start, '<', 2, 'DROP DATABASE under two seconds');
ok(wait_for(3, sub { pid_of($node, 'crm listener') eq '' }), 'the listener has left');
is((ask($port, 'GET', $path))[0], 0, 'nobody listens');
$node->stop('fast');

($node, $port, $path) = listener_node('stops');
ok(wait_for(10, sub { (ask($port, 'GET', "$path?id=0"))[0] == 200 }), 'the listener is up');
@hanging = map { connect_to($port) } 1 .. 100;
syswrite($_, "POST $path HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\nid=") for @hanging;
$start = time;
$node->stop('fast');
cmp_ok(time - $start, '<', 3, 'fast stop with a hundred open requests');

# the port is taken by somebody else: said, not repeated in a rush, and mended by itself
my $thief = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 5, ReuseAddr => 1) or die "port: $!";
$node->start;
ok(wait_for(10, sub { PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /cannot listen at 127\.0\.0\.1:$port: Address already in use/ }), 'a taken port is in the log');
sleep 3;
my @lines = PostgreSQL::Test::Utils::slurp_file($node->logfile) =~ /cannot listen at/g;
cmp_ok(scalar(@lines), '<', 6, 'not in a rush');
is($node->safe_psql('plant', 'SELECT 1'), '1', 'the server lives');
close $thief;
ok(wait_for(60, sub { (ask($port, 'GET', "$path?id=1"))[0] == 200 }), 'it listens once the port is free');

# killed: the launcher brings it back after recovery; the postmaster's death ends it
my $pid = pid_of($node, 'crm listener');
kill 'TERM', $pid;
ok(wait_for(10, sub { my $new = pid_of($node, 'crm listener'); $new ne '' && $new ne $pid && (ask($port, 'GET', "$path?id=2"))[0] == 200 }), 'terminated, it comes back');
$pid = pid_of($node, 'crm listener');
my $postmaster = (split /\n/, PostgreSQL::Test::Utils::slurp_file($node->data_dir . '/postmaster.pid'))[0];
$start = time;
kill 'KILL', $postmaster;
ok(wait_for(5, sub { !kill(0, $pid) }), 'without a postmaster it is gone');
cmp_ok(time - $start, '<', 3, '… at once');
$node->{_pid} = undef;

done_testing();
