# An SMS gateway (HTTP) and a mail server (SMTP) that keep one ledger of what came and to whom, for TAP tests.
#   my $ledger = CrmLedger->new(start => 0);       free ports; new() starts it unless start is 0
#   $ledger->integrations($node);                  'sms' (sms_kannel) and 'mail' (mail_out) to it
#   $ledger->behave('slow 2');                     how requests are answered from now on:
#       ok | slow SECONDS | status CODE WORDS | echo CODE (gives back all it was sent) | drop
#   $ledger->entries;                              [channel, recipient, all of its text] of each message
#   $ledger->count(qr/…/);                         how many of them match "channel recipient text"
#   $ledger->bytes;                                bytes that came, of whatever
package CrmLedger;
use strict;
use warnings;
use CrmTest;
use IO::Socket::INET;
use MIME::Base64;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);

my $number = 0;

sub new
{
	my ($class, %opt) = @_;
	my $base = PostgreSQL::Test::Utils::tempdir() . '/ledger' . ++$number;
	my $self = bless { http => PostgreSQL::Test::Cluster::get_free_port(), smtp => PostgreSQL::Test::Cluster::get_free_port(),
		log => $base, how => "$base.how", pids => [] }, $class;
	$self->behave('ok');
	$self->start unless defined $opt{start} && !$opt{start};
	return $self;
}

sub behave
{
	my ($self, $how) = @_;
	open my $fh, '>', "$self->{how}.new" or die;
	print $fh $how;
	close $fh;
	rename "$self->{how}.new", $self->{how} or die;
	return;
}

sub how { my ($self) = @_; return PostgreSQL::Test::Utils::slurp_file($self->{how}) }

sub note
{
	my ($self, @fields) = @_;
	s/([\\\t\r\n])/sprintf '\\x%02x', ord $1/ge foreach @fields;
	open my $fh, '>>', $self->{log} or return;
	syswrite $fh, join("\t", @fields) . "\n";
	close $fh;
	return;
}

sub start
{
	my ($self) = @_;
	foreach my $what ('http', 'smtp')
	{
		my $pid = fork // die;
		if ($pid == 0)
		{
			$SIG{CHLD} = 'IGNORE';
			$SIG{TERM} = 'DEFAULT';
			setpgrp;
			my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{$what}, Listen => 256, ReuseAddr => 1) or exit 1;
			while (my $c = $listener->accept)
			{
				my $child = fork;
				if (defined $child && $child == 0)
				{
					$c->autoflush(1);
					$what eq 'http' ? $self->http($c) : $self->smtp($c);
					require POSIX;
					POSIX::_exit(0);
				}
				close $c;
			}
			require POSIX;
			POSIX::_exit(0);
		}
		push @{ $self->{pids} }, $pid;
		wait_for(10, sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{$what}) }) or die 'the double does not answer';
	}
	return;
}

sub stop
{
	my ($self) = @_;
	local $?;
	foreach my $pid (@{ $self->{pids} })
	{
		kill 'KILL', -$pid, $pid;
		waitpid $pid, 0;
	}
	$self->{pids} = [];
	return;
}

sub DESTROY { $_[0]->stop if $_[0]{owner} // 1 }

sub http
{
	my ($self, $c) = @_;
	while (defined(my $first = <$c>))
	{
		my ($head, $length, $body) = ($first, 0, '');
		while (defined(my $line = <$c>))
		{
			$head .= $line;
			last if $line =~ /^\r?\n$/;
			$length = $1 if $line =~ /^Content-Length:\s*(\d+)/i;
		}
		read $c, $body, $length if $length;
		my ($to) = $head =~ /^X-Kannel-To:\s*(.*?)\r?$/mi;
		($to) = $head =~ /[?&]to=([^& ]*)/ unless defined $to;
		$self->note('sms', $to // '', $body, $head);
		my $how = $self->how;
		sleep $1 if $how =~ /^slow ([\d.]+)/;
		return if $how =~ /^drop/;
		my ($code, $words) = (202, '0: Accepted for delivery');
		($code, $words) = ($1, $2) if $how =~ /^status (\d+) (.*)/s;
		($code, $words) = ($1, "$head\n$body") if $how =~ /^echo (\d+)/;
		my $extra = $how =~ /^echo/ ? join('', map { "X-Echo: $_\r\n" } grep { /\S/ } split /\r?\n/, $head) : '';
		print $c "HTTP/1.1 $code said\r\n${extra}Content-Length: " . length($words) . "\r\n\r\n$words";
	}
	return;
}

sub smtp
{
	my ($self, $c) = @_;
	my ($rcpt, $letter, $said) = ('', undef, '');
	print $c "220 test ESMTP\r\n";
	while (defined(my $line = <$c>))
	{
		my $how = $self->how;
		$said .= $line unless defined $letter;
		if (defined $letter)
		{
			if ($line eq ".\r\n")
			{
				$self->note('letter', $rcpt, $letter, $said);
				sleep $1 if $how =~ /^slow ([\d.]+)/;
				undef $letter;
				print $c "250 2.0.0 Ok: queued as Q$$\r\n";
			}
			else { $letter .= $line }
		}
		elsif ($line =~ /^EHLO/) { print $c "250-test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n" }
		elsif ($line =~ /^AUTH PLAIN\s*(\S*)/)
		{
			my $word = $1;
			if ($word eq '') { print $c "334 \r\n"; $word = <$c> // ''; $said .= $word }
			my $plain = decode_base64($word);
			$self->note('login', '', '', $word);
			if ($how =~ /^(?:echo|status)/)
			{
				$plain =~ tr/\0/ /;
				print $c "535 5.7.8 denied: $word $plain\r\n";
			}
			else { print $c "235 2.7.0 ok\r\n" }
		}
		elsif ($line =~ /^RCPT TO:<(.*?)>/) { $rcpt = $1; print $c "250 ok\r\n" }
		elsif ($line =~ /^(?:MAIL|RSET|NOOP)/) { print $c "250 ok\r\n" }
		elsif ($line =~ /^DATA/) { $letter = ''; print $c "354 go on\r\n" }
		elsif ($line =~ /^QUIT/) { print $c "221 bye\r\n"; last }
		else { print $c "502 what\r\n" }
	}
	return;
}

sub sms_url { return "http://127.0.0.1:$_[0]{http}/cgi-bin/sendsms" }
sub mail_url { return "smtp://127.0.0.1:$_[0]{smtp}/crm.example" }

sub integrations
{
	my ($self, $node, $database, $settings) = @_;
	my ($sms, $mail) = ($self->sms_url, $self->mail_url);
	$settings = $settings ? ", $settings" : '';
	$node->safe_psql($database // 'plant', <<"SQL");
SELECT crm.add_integration('sms', 'sms_kannel', '$sms', '{"sender": "CEMENT", "username": "crm", "retry_ms": 200, "retry_max_ms": 1000, "max_attempts": 1000$settings}');
SELECT crm.add_integration('mail', 'mail_out', '$mail', '{"sender": "plant\@crm.test", "starttls": false, "retry_ms": 200, "retry_max_ms": 1000, "max_attempts": 1000$settings}');
SQL
	return;
}

sub entries
{
	my ($self) = @_;
	my @entries;
	open my $fh, '<', $self->{log} or return \@entries;
	while (my $line = <$fh>)
	{
		chomp $line;
		my @fields = split /\t/, $line;
		s/\\x([0-9a-f]{2})/chr hex $1/ge foreach @fields;
		push @entries, \@fields;
	}
	return \@entries;
}

sub count
{
	my ($self, $pattern) = @_;
	return scalar grep { "$_->[0] $_->[1] $_->[2]" =~ $pattern } @{ $self->entries };
}

sub bytes { my ($self) = @_; return -s $self->{log} // 0 }

sub clear { my ($self) = @_; unlink $self->{log}; return }

1;
