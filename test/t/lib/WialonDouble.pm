# A Wialon double of its own for a test: started on a free port, ordered about by control(), stopped at the end.
package WialonDouble;
use strict;
use warnings;
use CrmTest;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(sleep);
use Exporter 'import';
our @EXPORT = qw(wialon_start);

# wialon_start(token => …, unit => […], option => value …)
sub wialon_start
{
	my (%option) = @_;
	my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(), log => PostgreSQL::Test::Utils::tempdir() . '/wialon.log' }, __PACKAGE__;
	my @units = @{ delete $option{unit} // [] };
	my @command = ('/usr/bin/python3', tree() . '/test/double/wialon', '--port', $self->{port}, '--log', $self->{log});
	push @command, "--$_", $option{$_} foreach sort keys %option;
	push @command, '--unit', $_ foreach @units;
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>', '/dev/null', '2>', \$self->{errors});
	wait_for(20, sub { return eval { $self->control(); 1 } }) or die 'the Wialon double did not start: ' . ($self->{errors} // '');
	return $self;
}

sub url { return "http://127.0.0.1:$_[0]{port}" }

# control(query): its answer as a hash
sub control
{
	my ($self, $query) = @_;
	my ($out, $errors) = ('', '');
	IPC::Run::run([ 'curl', '-fsS', '--max-time', '5', $self->url . '/control' . (defined $query ? "?$query" : '') ], '>', \$out, '2>', \$errors)
	  or die "the Wialon double does not answer: $errors";
	return JSON::PP->new->utf8->decode($out);
}

# requests(service): what was asked, from its own log
sub requests
{
	my ($self, $svc) = @_;
	open my $file, '<', $self->{log} or return ();
	my @found = grep { $_->{svc} eq $svc } map { JSON::PP->new->utf8->decode($_) } <$file>;
	close $file;
	return @found;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	$self->{run}->kill_kill if $self->{run};
	return;
}

1;
