# Whatever a server sends back, the request ends in the words that rules rely on, in bounded memory, and the
# couriers and crm.integration_test() say the same. What a kind must not send is refused before a byte leaves.
use strict;
use warnings;
use CrmTest;
use CrmRaw;
use IO::Compress::Gzip qw(gzip);
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# ---- a server that does what the path says ----
my $log = PostgreSQL::Test::Utils::tempdir() . '/http';
my $bomb = '';
{
	my $zeros = "\0" x (48 * 1024 * 1024);
	gzip(\$zeros => \$bomb, -Level => 1) or die;
	undef $zeros;
}
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
		next if fork;
		my ($head, $path) = ('', '');
		while (my $line = <$c>) { $path = $1 if $line =~ /^\S+ (\S+)/ && $path eq ''; last if $line eq "\r\n" }
		my $sent = 0;
		my $say = sub { my $n = syswrite $c, $_[0]; $sent += $n // 0; return $n };
		my $ok = "HTTP/1.1 200 OK\r\n";
		open my $out, '>>', $log;
		$out->autoflush(1);
		print $out "$path\n";
		if ($path eq '/redirect') { $say->("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:$port/followed\r\nContent-Length: 0\r\n\r\n") }
		elsif ($path eq '/endless') { $say->("${ok}Content-Length: 2147483648\r\n\r\n"); my $piece = 'y' x 65536; 1 while $sent < 2_147_483_648 && $say->($piece); print $out "endless $sent\n" }
		elsif ($path eq '/chunks') { $say->("${ok}Transfer-Encoding: chunked\r\n\r\n"); my $piece = "10000\r\n" . 'y' x 65536 . "\r\n"; 1 while $sent < 2_147_483_648 && $say->($piece); print $out "chunks $sent\n" }
		elsif ($path eq '/bomb') { $say->("${ok}Content-Encoding: gzip\r\nContent-Length: " . length($bomb) . "\r\n\r\n$bomb") }
		elsif ($path eq '/headers') { $say->($ok); 1 while $sent < 100_000_000 && $say->("X-Y: " . 'z' x 1000 . "\r\n"); print $out "headers $sent\n" }
		elsif ($path eq '/longheader') { $say->("${ok}X: "); 1 while $sent < 100_000_000 && $say->('z' x 65536); print $out "longheader $sent\n" }
		elsif ($path eq '/interim') { 1 while $sent < 100_000_000 && $say->("HTTP/1.1 100 Continue\r\n\r\n" x 1000); print $out "interim $sent\n" }
		elsif ($path eq '/falsestatus') { $say->($ok); 1 while $sent < 100_000_000 && $say->("HTTP/1.1: " . 'z' x 1000 . "\r\n"); print $out "falsestatus $sent\n" }
		elsif ($path eq '/midbody') { $say->("${ok}Content-Length: 1000\r\n\r\nhalf") }
		elsif ($path eq '/midheader') { $say->("${ok}Content-Type: text/pl") }
		elsif ($path eq '/noheaderend') { $say->("${ok}Content-Type: text/plain\r\n") }
		elsif ($path eq '/midchunk') { $say->("${ok}Transfer-Encoding: chunked\r\n\r\n10\r\nhalf") }
		elsif ($path eq '/nolastchunk') { $say->("${ok}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n") }
		elsif ($path eq '/short') { $say->("${ok}Content-Length: 4\r\nConnection: close\r\n\r\nhalf and more than it said") }
		elsif ($path eq '/nothing') { }
		elsif ($path eq '/garbage') { $say->("\0\1\2 what is this\r\n\r\n") }
		elsif ($path eq '/badgzip') { $say->("${ok}Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\nno gzip!!") }
		elsif ($path eq '/trailer') { $say->("${ok}Transfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\nX-After: yes\r\n\r\n") }
		elsif ($path eq '/continue') { $say->("HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n${ok}X-Late: 1\r\nContent-Length: 4\r\n\r\ngood") }
		else { $say->("${ok}Content-Length: 4\r\n\r\ngood") }
		close $c;
		exit 0;
	}
}
close $listener;
END { local $?; if ($server) { kill '-KILL', $server; waitpid $server, 0 } }

my $node = crm_node('bytes');
my $raw = CrmRaw->new($node);
my $url = "http://127.0.0.1:$port";
my $memory = sub {
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
	return slurp_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+)/m ? $1 / 1024 : 0;
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
my $case = sub { my ($url, $like, $what, %request) = @_; push @cases, { url => $url, like => $like, what => $what, %request } };

# ---- replies ----
$case->("$url/good", qr/^200 sent=1 bytes=4 $/, 'a good reply');
$check->();
my $before = $memory->();
my $small = '{"max_reply_bytes": 65536}';
foreach my $path (qw(endless chunks bomb))
{
	$case->("$url/$path", qr/^200 sent=1 bytes=65536 too large: the reply exceeds 65536 bytes$/, "/$path ends at the bound", settings => $small);
}
foreach my $path (qw(headers longheader interim falsestatus))
{
	$case->("$url/$path", qr/^\d+ sent=1 bytes=0 too large: /, "/$path ends at a bound", settings => $small);
}
foreach my $path (qw(midbody midheader noheaderend midchunk nolastchunk nothing garbage badgzip))
{
	$case->("$url/$path", qr/^\d+ sent=1 bytes=\d broken: /, "/$path is no whole reply");
}
$case->("$url/short", qr/^200 sent=1 bytes=4 $/, 'what is beyond the length is not read');
$case->("$url/redirect", qr/^302 sent=1 bytes=0 $/, 'a redirect is a reply');
$case->("$url/trailer", qr/^200 sent=1 bytes=4 $/, 'trailers after the last chunk');
my $interim = 'an interim reply before the reply';
$case->("$url/continue", qr/^200 sent=1 bytes=4 $/, $interim);
$check->();
my $grown = $memory->() - $before;
cmp_ok($grown, '<', 16, sprintf 'the memory of the courier is bounded (%.1f MB more)', $grown);
my $seen = slurp_file($log);
unlike($seen, qr{^/followed}m, 'no redirect is followed');
foreach my $path (qw(endless chunks headers longheader interim falsestatus))
{
	my @sent = $seen =~ /^$path (\d+)/mg;
	ok(@sent == 2 && !grep({ $_ > 16 * 1024 * 1024 } @sent), "/$path was broken off early (@sent bytes)");
}
like($row{$interim}{courier}{said}, qr/^HTTP\/1\.1 200 OK\s+X-Late: 1/, 'only the headers of the reply are kept');
unlike($row{$interim}{courier}{said}, qr/Early/);

# ---- what never leaves ----
truncate $log, 0;
my $refused = qr/^0 sent=0 bytes=0 refused: /;
foreach my $scheme ('file:///etc/passwd', "gopher://127.0.0.1:$port/_x", "ftp://127.0.0.1:$port/x", "dict://127.0.0.1:$port/d:x", "telnet://127.0.0.1:$port",
	"//127.0.0.1:$port/", "127.0.0.1:$port/", "http:127.0.0.1:$port/x", '')
{
	$case->($scheme, $refused, "the address $scheme");
}
$case->("$url/x", $refused, 'the method SMTP to an HTTP address', method => 'SMTP');
$case->("smtp://127.0.0.1:$port/x", $refused, 'the method POST to an SMTP address', method => 'POST');
$case->("$url/x", $refused, 'a method of two words', method => 'GET /x');
foreach my $header ('X: 1\r\nY: 2', 'X: 1\nY: 2', 'X: 1\rY', ' X: folded', 'no colon', ': no name', 'X Y: 1', 'X\r\n: 1')
{
	$case->("$url/x", $refused, "the header '$header'", headers => [ 'A: b', $header ]);
}
foreach my $path ('/x\r\nHost: other', '/x HTTP/1.1', '/\t', '/x\nX: 1')
{
	$case->("$url$path", $refused, "the address with '$path'");
}
my @letter = (base => 'smtp://127.0.0.1', body => 'Subject: x\r\n\r\nx\r\n');
my $post = "smtp://127.0.0.1:$port/me";
my @from = ('MAIL FROM: a@plant.test');
my @to = ('RCPT TO: b@plant.test');
foreach my $bad ([ 'a recipient with a line end', $post, [ @from, 'RCPT TO: b@plant.test\r\nDATA' ] ], [ 'a sender with a line end', $post, [ 'MAIL FROM: a@plant.test>\nRCPT TO:<c@plant.test', @to ] ],
	[ 'two recipients', $post, [ @from, @to, 'RCPT TO: c@plant.test' ] ], [ 'a recipient with a parameter', $post, [ @from, 'RCPT TO: b@plant.test> NOTIFY=NEVER' ] ],
	[ 'no recipient', $post, [@from] ], [ 'a recipient whose left part is not ASCII', $post, [ @from, "RCPT TO: \xd0\xb0\@plant.test" ] ],
	[ 'a domain that is not in punycode', $post, [ @from, "RCPT TO: b\@\xd0\xb0.test" ] ])
{
	my ($what, $to, $headers) = @$bad;
	$case->($to, $refused, $what, @letter, headers => $headers);
}
$check->();
is(slurp_file($log), '', 'not a byte of them came');

# ---- names of other alphabets, whatever the locale of the database ----
$case->("http://\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.invalid/x", qr/^0 sent=0 bytes=0 resolve: .*xn--e1afmkfd\.invalid/, 'a Cyrillic host is asked for in punycode');
$case->('http://' . 'a' x 64 . '.invalid/x', qr/^0 sent=0 bytes=0 resolve: /, 'a name that cannot exist');
$check->();
is($node->safe_psql('plant', "SELECT crm.mail_address('a\@\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80.\xd1\x80\xd1\x84')"), 'a@xn--e1afmkfd.xn--p1ai', 'the domain of a letter is in punycode')
	if $node->safe_psql('plant', 'SHOW server_encoding') eq 'UTF8';

$node->stop('fast');
done_testing();
