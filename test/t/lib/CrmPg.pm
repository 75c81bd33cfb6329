# A session of the server in this process, by the simple query protocol over the Unix socket: a psql a question
# would cost a third of a second. Trust authentication only.
#   my $s = CrmPg->new($node, 'plant') // …;	undef: nobody answers
#   $s->ask($sql);								rows joined by newlines, columns by |; undef: an error, or the server went
#   $s->start($sql); …; $s->finish;				the same in two steps
package CrmPg;
use strict;
use warnings;
use IO::Socket::UNIX;

sub new
{
	my ($class, $node, $database) = @_;
	my $socket = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or return undef;
	my $self = bless { socket => $socket, error => '' }, $class;
	local $SIG{PIPE} = 'IGNORE';
	my $start = pack('N', 196608) . join('', map { "$_\0" } 'user', (getpwuid $<)[0], 'database', $database) . "\0";
	syswrite $socket, pack('N', 4 + length $start) . $start;
	return defined $self->finish ? $self : undef;
}

sub bytes
{
	my ($self, $wanted) = @_;
	my $all = '';
	while (length $all < $wanted)
	{
		sysread($self->{socket}, $all, $wanted - length $all, length $all) or return undef;
	}
	return $all;
}

sub start
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';
	syswrite $self->{socket}, 'Q' . pack('N', 5 + length $sql) . "$sql\0";
	return;
}

# What came until the server was ready again; undef after an error, which ->{error} keeps.
sub finish
{
	my ($self) = @_;
	my @rows;
	$self->{error} = '';
	while (1)
	{
		my $head = $self->bytes(5);
		if (!defined $head) { $self->{error} ||= 'the connection ended'; $self->{gone} = 1; return undef }
		my ($type, $length) = unpack 'a N', $head;
		my $data = $length > 4 ? $self->bytes($length - 4) : '';
		if (!defined $data) { $self->{error} ||= 'the connection ended'; $self->{gone} = 1; return undef }
		if ($type eq 'D')
		{
			my ($n, $rest) = unpack 'n a*', $data;
			my @columns;
			for (1 .. $n)
			{
				my $size = unpack 'N', $rest;
				if ($size == 0xffffffff) { push @columns, ''; $rest = substr $rest, 4 }
				else { push @columns, substr $rest, 4, $size; $rest = substr $rest, 4 + $size }
			}
			push @rows, join '|', @columns;
		}
		elsif ($type eq 'E') { ($self->{error}) = $data =~ /\0M([^\0]*)/ }
		elsif ($type eq 'Z') { return $self->{error} ? undef : join "\n", @rows }
	}
}

sub ask
{
	my ($self, $sql) = @_;
	$self->start($sql);
	return $self->finish;
}

1;
