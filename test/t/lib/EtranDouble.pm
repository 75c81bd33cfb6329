# An ETRAN double of its own for a test: started on a free port, ordered about by control(), stopped at the end.
package EtranDouble;
use strict;
use warnings;
use CrmTest;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Exporter 'import';
our @EXPORT = qw(etran_start);

# etran_start(option => value …)
sub etran_start
{
	my (%option) = @_;
	my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(), log => PostgreSQL::Test::Utils::tempdir() . '/etran.log' }, __PACKAGE__;
	my @command = ('/usr/bin/python3', tree() . '/test/double/etran', '--port', $self->{port}, '--log', $self->{log});
	push @command, "--$_", $option{$_} foreach sort keys %option;
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>', '/dev/null', '2>', \$self->{errors});
	wait_for(20, sub { return eval { $self->control(); 1 } }) or die 'the ETRAN double did not start: ' . ($self->{errors} // '');
	return $self;
}

sub url { return "http://127.0.0.1:$_[0]{port}/AppServer/IEtranSysservice" }

# control(name => value …): its answer as a hash
sub control
{
	my ($self, %order) = @_;
	my ($out, $errors) = ('', '');
	my @fields = map { ('--data-urlencode', "$_=$order{$_}") } sort keys %order;
	IPC::Run::run([ 'curl', '-fsS', '--max-time', '5', '-X', 'POST', @fields, "http://127.0.0.1:$self->{port}/control" ], '>', \$out, '2>', \$errors)
	  or die "the ETRAN double does not answer: $errors";
	return JSON::PP->new->utf8->decode($out);
}

# requests(root): what was asked, from its own log
sub requests
{
	my ($self, $root) = @_;
	open my $file, '<', $self->{log} or return ();
	my @found = grep { $_->{root} eq $root } map { JSON::PP->new->utf8->decode($_) } <$file>;
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
