# A mail server that answers late, never, too much or with nonsense delays its own letters only; a session is
# kept for its own integration and login; clear text is never used where STARTTLS was asked for.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use CrmRaw;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

# ---- a server that does what the recipient's left part says ----
my $log = PostgreSQL::Test::Utils::tempdir() . '/smtp';
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
		open my $out, '>>', $log;
		$out->autoflush(1);
		$c->autoflush(1);
		my ($to, $letter, $data) = ('', '', 0);
		print $out "session\n";
		print $c "220 test ESMTP\r\n";
		while (my $line = <$c>)
		{
			$line =~ s/\r\n$//;
			if ($data)
			{
				if ($line ne '.') { $letter .= "$line\n"; next }
				$data = 0;
				print $out "letter $to " . length($letter) . "\n";
				print $out "dots $letter" if $to eq 'dots';
				sleep 3 if $to eq 'late';
				sleep 60 if $to eq 'never';
				if ($to eq 'spam') { print $c "554 5.7.1 spam\r\n" }
				else { print $c "250 2.0.0 Ok\r\n" }
				exit 0 if $to eq 'closes';
			}
			elsif ($line =~ /^EHLO (.*)/)
			{
				print $out "ehlo $1\n";
				if ($1 eq 'endless') { 1 while print $c '250-' . 'z' x 500 . "\r\n" }
				if ($1 eq 'oneline') { 1 while print $c 'z' x 5000 }
				print $c "250-test\r\n250 SIZE 1000000\r\n";
			}
			elsif ($line =~ /^MAIL FROM/) { print $out "$line\n"; ($to, $letter) = ('', ''); print $c "250 ok\r\n" }
			elsif ($line =~ /^RCPT TO:<(.*?)@/)
			{
				$to = $1;
				if ($to eq 'nobody') { print $c "550 5.1.1 User unknown\r\n" }
				elsif ($to eq 'twice') { print $c "250 ok\r\n250 ok\r\n" }
				elsif ($to eq 'nonsense') { print $c "what?\r\n" }
				elsif ($to eq 'endless') { 1 while print $c '250-' . 'z' x 500 . "\r\n" }
				elsif ($to eq 'busy') { print $c "421 4.3.2 shutting down\r\n"; exit 0 }
				else { print $c "250 ok\r\n" }
			}
			elsif ($line eq 'DATA')
			{
				if ($to eq 'nodata') { print $c "250 ok\r\n" }
				else { $data = 1; print $c "354 go on\r\n" }
			}
			elsif ($line eq 'QUIT') { print $out "quit\n"; sleep 60 }
			elsif ($line eq 'RSET') { print $out "rset\n"; print $c "250 ok\r\n" }
			elsif ($line eq 'NOOP') { print $out "noop\n"; print $c "250 alive\r\n" }
			else { print $out "what $line\n"; print $c "500 what\r\n" }
		}
		exit 0;
	}
}
close $listener;
END { local $?; if ($server) { kill '-KILL', $server; waitpid $server, 0 } }

my $sink = CrmSink->new;
my $node = crm_node('post');
my $raw = CrmRaw->new($node);
my $url = "smtp://127.0.0.1:$port/me";
my $letter = sub { my ($name, $to, %o) = @_; return { name => $name, url => $url, base => 'smtp://127.0.0.1', headers => [ 'MAIL FROM: a@plant.test', "RCPT TO: $to\@plant.test" ], body => 'Subject: x\r\n\r\nfirst\r\n', %o } };
my $words = sub { my ($r) = @_; return "$r->{status} sent=$r->{sent} $r->{error}" };
my $lines = sub { my ($what) = @_; my @seen = slurp_file($log) =~ /^$what$/mg; return scalar @seen };
# how long another integration waits meanwhile
my $other = sub {
	my $started = time;
	my ($id) = $raw->send({ url => $sink->url . '/' });
	$raw->done(20, $id);
	return time - $started;
};
$other->();

# ---- late answers hold nobody else ----
my ($late) = $raw->send($letter->('late', 'late', timeout => 15000));
sleep 0.5;
cmp_ok($other->(), '<', 2.5, 'while a server thinks about a letter, others are served');
$raw->done(10, $late);
is($words->($raw->rows($late)), '250 sent=1 ', 'and its answer counts');
my ($never) = $raw->send($letter->('never', 'never', timeout => 1500));
$raw->done(10, $never);
is($words->($raw->rows($never)), '0 sent=1 timeout: no whole reply within 1500 ms', 'no answer in time: it may have left');
my ($nobody) = $raw->send($letter->('post', 'nobody'));
$raw->done(10, $nobody);
is($words->($raw->rows($nobody)), '550 sent=0 ', 'a refused recipient');
cmp_ok($other->(), '<', 2.5, 'after a refusal nobody waits for a farewell');

# ---- sessions ----
my $sessions = $lines->('session');
my ($good) = $raw->send($letter->('post', 'good'));
$raw->done(10, $good);
is($words->($raw->rows($good)), '250 sent=1 ', 'the next letter goes');
is($lines->('session'), $sessions, 'over the same session');
is($lines->('rset'), 1, 'that was put back first');
my @letters = $raw->send(map { $letter->('post', $_) } ('good') x 10, 'closes', ('good') x 10);
$raw->done(10, @letters);
is(join(', ', map { $words->($_) } $raw->rows(@letters)), join(', ', ('250 sent=1 ') x 21), 'a session that the server closes costs no letter');
my ($after) = $raw->send($letter->('post', 'good'));
$raw->done(10, $after);
is($lines->('letter good .*'), 22, 'and none went twice');
like(slurp_file($log), qr/^MAIL FROM:<a\@plant\.test> SIZE=\d+$/m, 'the size is told to who wants it');
my ($dots) = $raw->send($letter->('post', 'dots', body => 'Subject: x\r\n\r\n.one\r\n..two\r\n.\r\nend without a line end'));
my ($big) = $raw->send($letter->('post', 'big', body => 'Subject: x\r\n\r\n' . '.234567890\r\n' x 100000));
$raw->done(10, $dots, $big);
like(slurp_file($log), qr/^dots Subject: x\n\n\.\.one\n\.\.\.two\n\.\.\nend without a line end\n/m, 'dots at the beginning of lines');
is($lines->('letter big ' . (length("Subject: x\n\n") + 12 * 100000)), 1, 'a long letter is whole');

# ---- answers ----
my @cases = ([ 'spam', qr/^554 sent=1 $/ ], [ 'busy', qr/^421 sent=0 $/ ], [ 'twice', qr/^\d+ sent=0 broken: / ], [ 'nonsense', qr/^\d+ sent=0 broken: / ],
	[ 'endless', qr/^\d+ sent=0 too large: / ], [ 'nodata', qr/^250 sent=0 broken: / ]);
my @ids = $raw->send(map { $letter->("answer_$_->[0]", $_->[0]) } @cases);
push @ids, $raw->send($letter->('endless', 'good', url => "smtp://127.0.0.1:$port/endless"), $letter->('oneline', 'good', url => "smtp://127.0.0.1:$port/oneline", timeout => 2000),
	$letter->('injected', 'good', url => "smtp://127.0.0.1:$port/me%0d%0aRSET"));
$raw->done(15, @ids);
my @rows = $raw->rows(@ids);
like($words->(shift @rows), $_->[1], "the answer $_->[0]") foreach @cases;
like($words->(shift @rows), qr/^\d+ sent=0 too large: /, 'a greeting without an end');
like($words->(shift @rows), qr/^\d+ sent=0 (too large|broken|timeout): /, 'a line without an end');
like($words->(shift @rows), qr/^0 sent=0 refused: /, 'a line end in our own name');

# ---- STARTTLS is asked for, or it is not; never half ----
my $seen = $lines->('letter tls .*') + $lines->('noop');
foreach my $row ([ 'a fresh connection', $letter->('tls', 'tls', settings => '{"starttls": true}') ], [ 'a kept one', $letter->('tls_too', 'tls', settings => '{"starttls": "true"}') ])
{
	$raw->run($row->[1]);
	foreach my $way (qw(courier session)) { like($words->($row->[1]{$way}), qr/^\d+ sent=0 tls: /, "$row->[0] without STARTTLS: $way") }
}
is($lines->('letter tls .*') + $lines->('noop'), $seen, 'and no letter and no question went in clear text');
my $started = time;
my $plain = $letter->('plain', 'good');
$raw->run($plain);
is($words->($plain->{session}), '250 sent=1 ', 'crm.integration_test() says NOOP where it is not asked for');
is($lines->('noop'), 1, 'and sends no letter');
cmp_ok(time - $started, '<', 8, 'and does not wait for a farewell');

$started = time;
$raw->send($letter->('never_again', 'never', timeout => 30000));
sleep 0.5;
$node->stop('fast');
cmp_ok(time - $started, '<', 6, 'a fast stop waits for no mail server');
$sink->stop;
done_testing();
