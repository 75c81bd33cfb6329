# A double of an SMS provider (test/double/NAME) for a test: on a free port, ordered about by control(), with its ledger.
package SmsDouble;
use strict;
use warnings;
use CrmTest;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use Time::HiRes qw(sleep);
use Exporter 'import';
our @EXPORT = qw(double_start courier_killed);

# double_start(NAME, option => value …)
sub double_start
{
	my ($name, %option) = @_;
	my $self = bless { name => $name, port => PostgreSQL::Test::Cluster::get_free_port() }, __PACKAGE__;
	my @command = ('/usr/bin/python3', tree() . "/test/double/$name", '--port', $self->{port});
	push @command, "--$_", $option{$_} foreach sort keys %option;
	$self->{run} = IPC::Run::start(\@command, '<', \undef, '>', '/dev/null', '2>', \$self->{errors});
	wait_for(20, sub { return eval { $self->control(); 1 } }) or die "the double $name did not start: " . ($self->{errors} // '');
	return $self;
}

sub url { return "http://127.0.0.1:$_[0]{port}" }

# control(query): what there is, as a hash
sub control
{
	my ($self, $query) = @_;
	my ($out, $errors) = ('', '');
	IPC::Run::run([ 'curl', '-fsS', '--max-time', '5', $self->url . '/control?' . ($query // 'state=1') ], '>', \$out, '2>', \$errors)
	  or die "the double does not answer: $errors";
	return JSON::PP->new->utf8->decode($out);
}

# ledger(): id => how often it was taken
sub ledger
{
	my ($self) = @_;
	my $messages = $self->control()->{messages};
	return { map { $_ => $messages->{$_}{times} } keys %$messages };
}

# phones(): phone => how often anything was taken for it
sub phones
{
	my ($self) = @_;
	my %times;
	$times{ $_->{phone} } += $_->{times} foreach values %{ $self->control()->{messages} };
	return \%times;
}

sub DESTROY
{
	my ($self) = @_;
	local $?;
	$self->{run}->kill_kill if $self->{run};
	return;
}

# courier_killed(NODE): kill -9 of the courier; true once another one is there
sub courier_killed
{
	my ($node) = @_;
	my $pid = $node->safe_psql('plant', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'");
	return 0 unless $pid;
	kill 'KILL', $pid;
	return wait_for(30, sub {
		my ($rc, $out) = $node->psql('plant', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'crm courier' AND pid <> $pid");
		return $rc == 0 && $out eq '1';
	});
}

1;
