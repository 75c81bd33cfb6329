# claim 48, 54a, 73: links over HTTP: looking never uses one up, a form sent twice is one, hostile input is refused in bounds; pages by an independent parser.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/lib";
use CrmTest;
use Digest::SHA qw(sha256_hex);
use File::Temp qw(tempdir);
use IPC::Open2;
use ListenerTest;
use Test::More;
use Time::HiRes qw(time sleep);

my ($node, $port, $route) = listener_node('links');
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
$sql->(q{
	CREATE TABLE web.said (id bigint GENERATED ALWAYS AS IDENTITY, name text, file_name text, length integer, hash text);
	GRANT SELECT, INSERT ON web.said TO crm_courier;
	CREATE FUNCTION web.page(link_id bigint, request crm.http_request) RETURNS crm.http_response LANGUAGE plpgsql AS $$
	BEGIN
		IF request.query = 'slow' THEN
			PERFORM pg_sleep(30);
		ELSIF request.query = 'boom' THEN
			RAISE EXCEPTION 'no such thing';
		ELSIF request.method = 'GET' THEN
			RETURN crm.page_answer(200, crm.page_html('A <form>', '<h1>Say it</h1><form method="post" enctype="multipart/form-data">' || crm.page_once() || '<button>go</button></form>'));
		END IF;
		INSERT INTO web.said (name, file_name, length, hash)
		SELECT p.name, p.file_name, octet_length(p.content), encode(sha256(p.content), 'hex') FROM crm.form_parts(crm.header_value(request.headers, 'content-type'), request.body) p;
		RETURN crm.page_answer(200, crm.page_html('Thanks', '<h1>Taken as ' || (SELECT max(id) FROM web.said) || '</h1>'));
	END $$;
	SELECT crm.register_link_purpose('x_say', 'web.page', 10747904);
	INSERT INTO crm.place (id, name, kind, lon, lat, radius_m) VALUES (901, 'Plant', 'plant', 37, 55, 500);
	INSERT INTO crm.vehicle (id, plate, driver) VALUES (901, 'А123ВС77', 'Иван Петров');
	INSERT INTO crm.slot (id, place_id, vehicle_id, planned_from, gate, source_id) VALUES (901, 901, 901, crm.now() + interval '20 minutes', '3', 's');
});
my $path_of = sub { my ($url) = $sql->($_[0]) =~ m{^http://127\.0\.0\.1:$port(/\S+)$} or die 'no address'; return $1 };
my $parse = sub {
	my ($answer) = @_;
	my ($body) = $answer =~ /\r\n\r\n(.*)$/s;
	my $pid = open2(my $out, my $in, 'python3', "$FindBin::Bin/lib/html_oracle.py") or die;
	print $in $body;
	close $in;
	local $/;
	my $text = <$out>;
	waitpid($pid, 0);
	return $? == 0 ? $text : undef;
};
ok(wait_for(10, sub { (ask($port, 'GET', "$route?id=0"))[0] == 200 }), 'the listener is up');

# looking, as often as one likes
my $path = $path_of->(q{SELECT crm.make_link('x_say', 'thing', 1, crm.now() + interval '1 day', 1)});
my ($status, $answer);
ok(wait_for(10, sub { (ask($port, 'GET', $path))[0] == 200 }), 'the listener, which reads purposes at most once a second, knows a new one');
for my $method (qw(GET HEAD GET))
{
	($status, $answer) = ask($port, $method, $path);
	is($status, 200, "$method does not use it up");
}
is($sql->('SELECT used FROM crm.link'), '0', '… really');
like($answer, qr/\r\n\Q$_\E/, "header: $_") for ('Content-Security-Policy: default-src', 'Referrer-Policy: no-referrer', 'Cache-Control: no-store', 'X-Robots-Tag: noindex', 'Content-Type: text/html; charset=utf-8');
like((ask($port, 'HEAD', $path))[1], qr/\r\n\r\n$/s, 'HEAD has no body');
is($parse->($answer), 'Say it go', 'the page is whole');

# a form with files as curl writes it; once more, and another one
my $dir = tempdir(CLEANUP => 1);
my %content = ('фото 1.jpg' => pack('C*', map { ($_ * 7919) % 256 } 1 .. 3000) x 1000, 'b".txt' => "--x\r\n", 'empty' => '');
for my $name (sort keys %content)
{
	open my $f, '>:raw', "$dir/$name" or die;
	print $f $content{$name};
	close $f;
}
my $post = sub {
	my ($to, $once) = @_;
	open my $c, '-|', 'curl', '-s', '-S', '-i', '-m', '20', '-H', 'Expect:', '-F', "once=$once", '-F', 'text=Пробка', (map { ('-F', 'file=@"' . ($_ =~ s/(["\\])/\\$1/gr =~ s{^}{$dir/}r) . '"') } sort keys %content), "http://127.0.0.1:$port$to" or die;
	local $/;
	my $got = <$c>;
	close $c;
	return $got;
};
my $first = $post->($path, 'o1');
like($first, qr{^HTTP/1\.1 200 }, 'a form with files');
my $body = sub { return ($_[0] =~ /\r\n\r\n(.*)$/s)[0] // '' };
like($parse->($first), qr/^Taken as \d+$/, 'its page');
is($body->($post->($path, 'o1')), $body->($first), 'twice is once: the first answer');
is($body->($post->($path, 'o2')), $body->($first), 'used up: the last answer');
is($sql->(q{SELECT string_agg(format('%s|%s|%s|%s', name, file_name, length, hash), E'\n' ORDER BY id) FROM web.said}),
	join("\n", "once||2|" . sha256_hex('o1'), 'text||12|' . sha256_hex('Пробка'), map { "file|$_|" . length($content{$_}) . '|' . sha256_hex($content{$_}) } sort keys %content),
	'each part came whole, once');
is($sql->('SELECT used FROM crm.link'), '1', 'one use');

# no oracle
my @gone = map { (ask($port, 'GET', $_))[1] =~ s/\r\nDate: [^\r]*//r } ($path, "${path}x", '/l/x_say/' . 'a' x 22, '/l/x_none/' . 'a' x 22,
	$path_of->(q{WITH l AS (SELECT crm.make_link('x_say', 'thing', 2, NULL) AS url) SELECT url FROM l}) =~ s/.$/-/r, '/l/', '/l/x_say', '/l/x_say/short');
like($gone[0], qr{^HTTP/1\.1 404 }, 'used up: 404');
is(scalar(grep { $body->($_) ne $body->($gone[0]) } @gone), 0, 'unknown, used up, broken: the same page');
like($parse->($gone[0]), qr/Ссылка не действует.*The link does not work/s, 'in two languages');
my $closed = $path_of->(q{SELECT crm.make_link('x_say', 'thing', 3, NULL)});
is((ask($port, 'GET', $closed))[0], 200, 'a link');
$sql->(q{SELECT crm.close_links('x_say', 'thing', 3, 'over')});
is($body->((ask($port, 'GET', $closed))[1]), $body->($gone[0]), 'closed: the same page');
my $short = $path_of->(q{SELECT crm.make_link('x_say', 'thing', 4, crm.now() + interval '1 second')});
ok(wait_for(5, sub { (ask($port, 'GET', $short))[0] == 404 }), 'expired');

# hostile: large bodies of strangers, methods, damage, slow and failing pages
my $fresh = $path_of->(q{SELECT crm.make_link('x_say', 'thing', 5, NULL)});
is((ask($port, 'POST', '/l/x_say/' . 'b' x 22, 'x' x 70000))[0], 413, 'a stranger sends no large body');
is((ask($port, 'GET', $fresh))[0], 200, 'opened');
my $s = connect_to($port);
syswrite($s, "POST $fresh HTTP/1.1\r\nHost: t\r\nContent-Length: 10747905\r\n\r\n");
like(read_all($s, 5), qr{^HTTP/1\.1 413 }, 'more than the purpose takes');
is((ask($port, 'DELETE', $fresh))[0], 405, 'a method that no link has');
$s = connect_to($port);
syswrite($s, "POST $fresh HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 4\r\n\r\n--x\0");
like(read_all($s, 5), qr{^HTTP/1\.1 500 }, 'what is no form');
is((ask($port, 'GET', "$fresh?boom"))[0], 500, 'a page that fails');
my ($token) = $fresh =~ m{/([^/]+)$};
is($sql->(qq{SELECT count(*), count(*) FILTER (WHERE r::text LIKE '%$token%') FROM crm.rejected r WHERE what LIKE 'inbound % /l/x_say'}), '2|0', 'both are kept, without the token');
my $start = time;
is((ask($port, 'GET', "$fresh?slow"))[0], 500, 'a page that does not get ready');
cmp_ok(time - $start, '<', 9, '… ends after five seconds');
is((ask($port, 'GET', $fresh))[0], 503, '… and its purpose rests');
my %said;
for my $round (1 .. 200)
{
	my @s = map { connect_to($port) } 1 .. 30;
	syswrite($s[$_], sprintf("GET /l/track/%022d HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", $round * 100 + $_)) for 0 .. $#s;
	for (@s) { my $a = read_all($_); $said{ $a =~ m{^HTTP/1\.1 (\d+)} ? $1 : 0 }++ }
	last if ($said{429} // 0) > 10;
}
cmp_ok($said{429} // 0, '>', 10, 'who tries many links is turned away') or diag(explain(\%said));
is((ask($port, 'GET', '/l/track/short' . $_))[0], 404, 'a token that is none costs nothing') for 1 .. 3;

# the street monitor (claim 54a): a check-in is there within five seconds; no whole plate, no name
my $monitor = $path_of->('SELECT crm.monitor_link(901)');
ok(wait_for(30, sub { (ask($port, 'GET', $monitor))[0] == 200 }), 'the monitor, after the storm');
my $text = $parse->((ask($port, 'GET', $monitor))[1]);
like($text, qr/\*123\*\* 77 \d\d:\d\d 3 ОЖИДАЕТСЯ/, 'masked number, slot, gate, state');
unlike($text, qr/Петров|ВС/, 'nothing personal');
like((ask($port, 'GET', $monitor))[1], qr/<meta http-equiv="refresh" content="5">/, 'loads itself again every five seconds');
$start = time;
$sql->(q{INSERT INTO crm.checkin (vehicle_id, place_id, at, means, source, source_id) VALUES (901, 901, crm.now(), 'gate', 'erp', 'a')});
ok(wait_for(5, sub { ($parse->((ask($port, 'GET', $monitor))[1]) // '') =~ /\*123\*\* 77 \d\d:\d\d 3 ЖДЁТ/ }), 'a check-in is on the page');
cmp_ok(time - $start, '<', 5, '… within five seconds');
like($parse->((ask($port, 'GET', $monitor))[1]), qr/Данные на \d\d:\d\d/, 'it says how fresh it is');

# a listener that starts anew takes files from those who had opened their link
my $old = pid_of($node, 'crm listener');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
ok(wait_for(20, sub { my $p = pid_of($node, 'crm listener'); $p ne '' && $p ne $old && (ask($port, 'GET', '/'))[0] == 404 }), 'the listener came back');
like($post->($fresh, 'o9'), qr{^HTTP/1\.1 200 }, 'and takes files from an open page');

# lowered: nothing is said
$sql->($_) for ('ALTER SYSTEM SET crm.mode = off', 'SELECT pg_reload_conf()');
ok(wait_for(10, sub { (ask($port, 'GET', $monitor))[0] == 503 }), 'off: 503');
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike(join("\n", grep { !/client backend/ } split /\n/, $log), qr/\Q$token\E/, 'no token in the log');
$node->stop('fast');
done_testing();
