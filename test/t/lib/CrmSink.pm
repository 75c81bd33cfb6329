# A sink for couriers and the kind that sends to it, for TAP tests.
#   my $sink = CrmSink->new(delay => 100);         compiles bench/sink.c once, starts it on a free port
#   $sink->kind($node, 'plant');                   the kind plain_http and its schema
#   $sink->integration($node, 'sink', {…});        an integration of that kind to this sink
#   $sink->ledger;                                 id => number of times that it came
package CrmSink;
use strict;
use warnings;
use CrmTest;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);

my $program;

sub compile
{
	return $program if $program;
	$program = PostgreSQL::Test::Utils::tempdir() . '/sink';
	system($ENV{CC} // 'cc', '-O2', '-o', $program, tree() . '/bench/sink.c') == 0 or die 'no sink';
	return $program;
}

sub new
{
	my ($class, %opt) = @_;
	my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(),
		log => PostgreSQL::Test::Utils::tempdir() . '/ledger', delay => $opt{delay} // 100 }, $class;
	compile();
	$self->start;
	return $self;
}

sub start
{
	my ($self) = @_;
	my $pid = fork // die;
	if ($pid == 0)
	{
		open STDOUT, '>', '/dev/null';
		exec $program, $self->{port}, $self->{delay}, $self->{log} or exit 1;
	}
	$self->{pid} = $pid;
	wait_for(10, sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) }) or die 'the sink does not answer';
	return;
}

sub stop
{
	my ($self) = @_;
	return unless $self->{pid};
	local $?;
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{pid} = 0;
	return;
}

sub DESTROY { $_[0]->stop }

sub url { return "http://127.0.0.1:$_[0]{port}" }

sub kind
{
	my ($self, $node, $database) = @_;
	$node->safe_psql($database // 'plant', PostgreSQL::Test::Utils::slurp_file(tree() . '/test/data/plain_http/kind.sql'));
	return;
}

sub integration
{
	my ($self, $node, $name, $settings, $database) = @_;
	my $url = $self->url;
	$settings //= '{}';
	$node->safe_psql($database // 'plant', "SELECT crm.add_integration('$name', 'x_plain_http', '$url', '$settings')");
	return;
}

sub ledger
{
	my ($self) = @_;
	my %count;
	open my $fh, '<', $self->{log} or return \%count;
	while (<$fh>) { $count{$1}++ if /^(\S+) \d+$/ }
	return \%count;
}

sub courier
{
	my ($self, $node, $database) = @_;
	$database //= 'plant';
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier' AND datname = '$database'");
}

sub courier_up
{
	my ($self, $node, $database) = @_;
	return wait_for(20, sub { $self->courier($node, $database) ne '' });
}

# states of plain.queue as "sent 10, uncertain 1"
sub states
{
	my ($self, $node, $database) = @_;
	return $node->safe_psql($database // 'plant', <<'SQL');
SELECT coalesce(string_agg(state || ' ' || n, ', ' ORDER BY state), '') FROM (SELECT state, count(*) AS n FROM plain.queue GROUP BY state) s
SQL
}

sub settled
{
	my ($self, $node, $seconds, $database) = @_;
	return wait_for($seconds, sub { $node->safe_psql($database // 'plant',
		q{SELECT NOT EXISTS (SELECT FROM plain.queue WHERE state IN ('queued', 'sending'))}) eq 't' });
}

1;
