# Whatever a database server does, a query to it ends in the words that rules rely on, in bounded memory and time, and
# the couriers and crm.integration_test() say the same. A server of our own plays the bad ones; a real one the good.
use strict;
use warnings;
use CrmTest;
use CrmRaw;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

# ---- a server that does what the database's name says ----
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, ReuseAddr => 1) or die;
my $port = $listener->sockport;
my $server = fork // die;
if ($server == 0)
{
	setpgrp;
	$SIG{CHLD} = 'IGNORE';
	$SIG{PIPE} = 'IGNORE';
	while (1)
	{
		my $c = $listener->accept or next;
		if (fork) { close $c; next }
		my $message = sub { return $_[0] . pack('N', 4 + length $_[1]) . $_[1] };
		my $read = sub { my ($n) = @_; my $all = ''; while (length $all < $n) { sysread($c, $all, $n - length $all, length $all) or exit 0 } return $all };
		my $start = sub { return $read->(unpack('N', $read->(4)) - 4) };
		my $first = $start->();
		if (unpack('N', $first) == 80877103) { syswrite $c, 'N'; $first = $start->() }
		my ($what) = $first =~ /\0database\0([^\0]*)\0/;
		my $forever = sub { sleep 3600 };
		my $error = sub { return $message->('E', "SFATAL\0VFATAL\0C$_[0]\0M$_[1]\0\0") };
		$forever->() if $what eq 'silent';
		exit 0 if $what eq 'gone';
		if ($what eq 'garbage') { syswrite $c, "HTTP/1.1 400 Bad Request\r\n\r\n" x 10; exit 0 }
		if ($what eq 'starting') { syswrite $c, $error->('57P03', 'the database system is starting up'); exit 0 }
		if ($what eq 'russian') { syswrite $c, $message->('E', "S\xc2\xc0\xc6\xcd\xce\0C28P01\0M\xed\xe5 \xf2\xee\xf2 \xef\xe0\xf0\xee\xeb\xfc\0\0"); exit 0 }
		if ($what eq 'fullhouse') { syswrite $c, $error->('53300', 'sorry, too many clients already'); exit 0 }
		syswrite $c, $message->('R', pack('N', 3)) unless $what eq 'trust';	# a clear-text password
		unless ($what eq 'trust') { $read->(1); $start->() }
		if ($what eq 'wrong') { syswrite $c, $error->('28P01', 'password authentication failed for user "crm"'); exit 0 }
		if ($what eq 'longlogin') { my $piece = $message->('S', 'name' . ('x' x 20000) . "\0v\0"); syswrite $c, $message->('R', pack('N', 0)); my $n = 0; while (syswrite $c, $message->('S', 'n' . $n++ . ('x' x 20000) . "\0v\0")) { exit 0 if $n > 100000 } exit 0 }
		syswrite $c, $message->('R', pack('N', 0)) . $message->('S', "server_version\00015.1\0") . $message->('S', "client_encoding\0UTF8\0") . $message->('K', pack('NN', 1, 1)) . $message->('Z', 'I');
		$read->(1) && $start->() foreach 1 .. 5;	# Parse, Bind, Describe, Execute, Sync
		my $parsed = $message->('1', '') . $message->('2', '') . $message->('T', pack('n', 1) . "a\0" . pack('NnNnNn', 0, 0, 25, 65535, 4294967295, 0));
		my $row = sub { return $message->('D', pack('nN', 1, length $_[0]) . $_[0]) };
		my $end = $message->('C', "SELECT 1\0") . $message->('Z', 'I');
		my $sent = 0;
		my $say = sub { my $n = syswrite $c, $_[0]; $sent += $n // 0; return $n };
		if ($what eq 'hangs') { $forever->() }
		elsif ($what eq 'midrow') { $say->($parsed . substr($row->('x' x 100), 0, 50)) }
		elsif ($what eq 'noend') { $say->($parsed . $row->('x')) }
		elsif ($what eq 'manyrows') { $say->($parsed); my $piece = $row->('y' x 1000) x 60; 1 while $sent < 2_147_483_648 && $say->($piece) }
		elsif ($what eq 'hugerow') { $say->($parsed . 'D' . pack('NnN', 2_000_000_000, 1, 1_999_999_990)); my $piece = 'y' x 65536; 1 while $sent < 2_147_483_648 && $say->($piece) }
		elsif ($what eq 'notices') { $say->($parsed); my $piece = $message->('N', "SNOTICE\0C00000\0M" . ('z' x 1000) . "\0\0") x 60; 1 while $sent < 300_000_000 && $say->($piece) }
		elsif ($what eq 'names') { $say->($parsed); my $n = 0; 1 while $sent < 2_147_483_648 && $say->($message->('S', 'n' . $n++ . ('z' x 20000) . "\0v\0")) }
		elsif ($what eq 'badutf') { $say->($parsed . $row->("\xff\"\\\n\0a\xd0") . $end) }
		elsif ($what eq 'copy') { $say->($message->('1', '') . $message->('2', '') . $message->('H', pack('Cnn', 0, 1, 0)) . $message->('d', 'x') . $end) }
		elsif ($what eq 'empty') { $say->($message->('1', '') . $message->('2', '') . $message->('Z', 'I')) }
		else { $say->($parsed . $row->('good') . $end) }
		if ($what eq 'good') { $forever->() }
		close $c;
		exit 0;
	}
}
close $listener;
END { local $?; if ($server) { kill '-KILL', $server; waitpid $server, 0 } }

my $node = crm_node('pgtransport');
{
	# what libpq would read by itself: it would make every connection of ours another one
	local @ENV{qw(PGSERVICE PGOPTIONS PGTZ)} = ('nobody', '-c nothing.is=so -c default_transaction_read_only=off', 'Asia/Tokyo');
	$node->restart;
}
my $raw = CrmRaw->new($node);
my $url = "postgresql://127.0.0.1:$port";
my $memory = sub {
	my ($what) = @_;
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
	return slurp_file("/proc/$pid/status") =~ /^$what:\s+(\d+)/m ? $1 / 1024 : 0;
};
my (@cases, %row);
my $check = sub {
	$raw->run(@cases);
	foreach my $case (@cases)
	{
		foreach my $way (qw(courier session))
		{
			my $r = $case->{$way} // next;
			like("$r->{status} sent=$r->{sent} bytes=$r->{bytes} $r->{error}", $case->{like}, "$way: $case->{what}");
		}
		$row{ $case->{what} } = $case;
	}
	@cases = ();
};
my $case = sub { my ($url, $like, $what, %request) = @_; push @cases, { url => $url, like => $like, what => $what, method => 'SQL', username => 'crm', password => 'canary', body => 'SELECT a FROM b', timeout => 9000, %request } };

# ---- before a login ----
$case->("$url/good", qr/^200 sent=1 bytes=\d+ $/, 'a good reply');
$check->();
my $before = $memory->('VmHWM');
$case->("$url/silent", qr/^0 sent=0 bytes=0 timeout: no login within 1000 ms$/, 'a server that accepts and is silent', timeout => 1000);
$case->("$url/gone", qr/^0 sent=0 bytes=0 connect: /, 'a server that closes at once');
$case->("$url/garbage", qr/^0 sent=0 bytes=0 connect: /, 'a server that is none');
$case->("$url/starting", qr/^503 sent=0 bytes=0 broken: 57P03 the server is starting or stopping/, 'a server that starts');
$case->("$url/fullhouse", qr/^503 sent=0 bytes=0 broken: 53300 the server has no connection free/, 'a server that is full');
$check->();
$case->("$url/wrong", qr/^401 sent=0 bytes=0 auth: 28P01 the password is refused/, 'a refused password');
$case->("$url/russian", qr/^401 sent=0 bytes=0 auth: 28P01 the password is refused/, 'a refusal in windows-1251');
$case->("$url/trust", qr/^401 sent=0 bytes=0 auth: the server lets in whoever comes/, 'a server that asks for no password');
$case->("$url/trust", qr/^200 sent=1 bytes=\d+ $/, 'where that is meant', settings => '{"without_password": true}');
$case->("$url/wrong", qr/^401 sent=0 bytes=0 auth: /, 'no password at all', password => undef);
$check->();
$case->('postgresql://127.0.0.1:1/x', qr/^0 sent=0 bytes=0 connect: .*refused/i, 'nobody there');
$case->('postgresql://nobody.invalid/x', qr/^0 sent=0 bytes=0 resolve: /, 'no such host');
$case->("postgresql://localhost:$port/good", qr/^200 sent=1 bytes=\d+ $/, 'a name');
$case->("$url/good?sslmode=require", qr/^0 sent=0 bytes=0 tls: /, 'TLS that the server does not have');
$case->("$url/good", qr/^0 sent=0 bytes=0 tls: /, 'the same by the settings', settings => '{"sslmode": "verify-full"}');
$check->();
# ---- after it ----
$case->("$url/hangs", qr/^0 sent=1 bytes=0 timeout: no whole reply within 4000 ms$/, 'a query that hangs', timeout => 4000);
foreach my $name (qw(midrow noend)) { $case->("$url/$name", qr/^0 sent=1 bytes=0 broken: /, "$name is no whole reply") }
$case->("$url/empty", qr/^0 sent=1 bytes=0 broken: /, 'no result at all');
$case->("$url/copy", qr/^0 sent=1 bytes=0 refused: the query is none that gives rows/, 'a copy');
$case->("$url/badutf", qr/^200 sent=1 bytes=\d+ $/, 'bytes that are no text');
$check->();
my $small = '{"max_reply_bytes": 65536}';
$case->("$url/manyrows", qr/^0 sent=1 bytes=0 too large: the reply exceeds 65536 bytes$/, '2 GB of rows end at the bound', settings => $small);
$case->("$url/hugerow", qr/^0 sent=1 bytes=0 too large: /, 'a row of 2 GB ends at a bound', settings => $small);
$case->("$url/names", qr/^0 sent=1 bytes=0 too large: the server sends more than the rows of a reply$/, '2 GB of settings end at a bound', settings => $small);
$case->("$url/longlogin", qr/^0 sent=0 bytes=0 too large: the server sends more than a login needs$/, '2 GB before the login is over end at a bound', settings => $small);
$case->("$url/notices", qr/^0 sent=1 bytes=0 too large: the server sends more than the rows of a reply$/, '300 MB of notices end at a bound', settings => $small);
$check->();
my $grown = $memory->('VmHWM') - $before;
cmp_ok($grown, '<', 80, sprintf 'the memory of the courier is bounded (%.1f MB more)', $grown);
my $kept = $memory->('VmRSS') - $before;
cmp_ok($kept, '<', 24, sprintf 'and given back (%.1f MB more)', $kept);
like($row{'bytes that are no text'}{courier}{body}, qr/^\{"columns": \["a"\]/, 'the reply is JSON');

# ---- what never leaves ----
my $refused = qr/^0 sent=0 bytes=0 refused: /;
foreach my $bad ("postgresql://", "$url/", $url, "$url/a/b", "$url/x?host=/tmp", "$url/x?sslmode=require&service=x", "postgresql://crm:secret\@127.0.0.1:$port/x", 'postgresql:///x', 'postgresql://%2Ftmp/x', "postgresql://127.0.0.1,127.0.0.2/x")
{
	$case->($bad, $refused, "the address $bad", courier_only => 1);
}
$case->("$url/x", $refused, 'the method POST', method => 'POST');
$case->("http://127.0.0.1:$port/x", $refused, 'the method SQL to an HTTP address');
$case->("$url/x", $refused, 'no user', username => undef);
$case->("$url/x", $refused, 'an sslmode that is none', settings => '{"sslmode": "perhaps"}');
$case->("$url/x", $refused, 'an address that is not allowed', settings => '{"allow_hosts": ["10.0.0.0/8"]}');
$case->("postgresql://localhost:$port/x", $refused, 'a name that leads to one', settings => '{"allow_hosts": ["localhost"]}');
$case->('postgresql://169.254.169.254/x', $refused, 'the address of machines\' own credentials');
$case->("$url/x", $refused, 'a proxy', settings => '{"proxy": "http://127.0.0.1:1"}', url => "$url/x");
$check->();

# ---- a real server: ours ----
$node->safe_psql('plant', q{SET password_encryption = 'scram-sha-256'; CREATE ROLE reader LOGIN PASSWORD 'canary'; CREATE TABLE public.t (a integer, b text); GRANT ALL ON public.t TO reader; INSERT INTO public.t VALUES (1, E'x"\\\\\n'), (2, NULL)});
unlink $node->data_dir . '/pg_hba.conf';
$node->append_conf('pg_hba.conf', "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n");
$node->reload;
my $real = 'postgresql://127.0.0.1:' . $node->port . '/plant';
my @reader = (username => 'reader');
$case->($real, qr/^200 sent=1 bytes=\d+ $/, 'rows', @reader, body => 'SELECT a, b FROM public.t ORDER BY a');
$check->();	# before the case below writes a row
$case->($real, qr/^400 sent=1 bytes=0 sql: 25006 the query would write/, 'a connection reads only', @reader, body => 'INSERT INTO public.t VALUES (3)');
$case->($real, qr/^200 sent=1 bytes=\d+ $/, 'unless it may write', @reader, body => 'INSERT INTO public.t VALUES (3)', settings => '{"read_only": false}');
$case->($real, qr/^400 sent=1 bytes=0 sql: 42P01 there is no such table/, 'no such table', @reader, body => 'SELECT 1 FROM public.nothing');
$case->($real, qr/^400 sent=1 bytes=0 sql: 42601 /, 'two statements', @reader, body => 'SELECT 1; SELECT 2');
$case->($real, qr/^503 sent=1 bytes=0 timeout: 57014 the query took too long/, 'the server gives up first', @reader, body => 'SELECT pg_sleep(30)', timeout => 9000);
$case->($real, qr/^401 sent=0 bytes=0 auth: 28P01 the password is refused/, 'the wrong password', @reader, password => 'wrong');
$case->('postgresql://127.0.0.1:' . $node->port . '/nothing', qr/^401 sent=0 bytes=0 auth: 3D000 there is no such database/, 'no such database', @reader);
$case->($real, qr/^200 sent=1 bytes=\d+ $/, 'the settings of the connection', @reader, body => q{SELECT current_setting('application_name') || current_setting('default_transaction_read_only') || current_setting('TimeZone')});
$check->();
is($row{rows}{courier}{body}, '{"columns": ["a", "b', 'a header') or diag $row{rows}{courier}{body};
is($node->safe_psql('plant', q{SELECT convert_from(got, 'UTF8')::jsonb -> 'rows' FROM raw.request WHERE body = 'SELECT a, b FROM public.t ORDER BY a' AND way = 'courier'}), '[["1", "x\\"\\\\\\n"], ["2", null]]', 'values as texts, NULL as null');
is($node->safe_psql('plant', q{SELECT convert_from(got, 'UTF8')::jsonb #>> '{rows,0,0}' FROM raw.request WHERE body LIKE 'SELECT current_setting%' AND way = 'courier'}), 'crm courieronUTC', 'who asks, and how');
unlike(join("\n", grep { /crm \w+ [A-Z]+:/ } split /\n/, slurp_file($node->logfile)), qr/canary/, 'no password in what our workers log');

# ---- a stop while queries hang ----
my @ids = $raw->send(map { { url => "$url/hangs", method => 'SQL', username => 'crm', password => 'x', timeout => 60000 } } 1 .. 20);
sleep 1;
my $began = time;
$node->stop('fast');
cmp_ok(time - $began, '<', 15, sprintf 'a fast stop does not wait for them (%.2f s)', time - $began);
done_testing();
