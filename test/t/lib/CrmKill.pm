# A cluster to kill in, its provider's double and the ledger that is compared afterwards: for 115, 116 and 117.
#   my $k = CrmKill->new('name', conf => "…", install_path => …, delay => ms, timeout => ms, node => …);
# Two integrations of the kind x_ledger to one double: "hold" has the setting on_unknown of that name, "resend"
# none: the kind's defaults say so. The double keeps what came by itself, is never told what to expect, and never asked by the server.
package CrmKill;
use strict;
use warnings;
use CrmPg;
use CrmSink;
use CrmTest;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);

sub new
{
	my ($class, $name, %opt) = @_;
	my $self = bless { sink => CrmSink->new(delay => $opt{delay} // 20), seen => 0, came => {}, at => {}, part => {} }, $class;
	my $node = $self->{node} = $opt{node} // crm_node($name, install_path => $opt{install_path},
		conf => "restart_after_crash = on\nmax_connections = 30\nshared_buffers = 16MB\n" . ($opt{conf} // ''));
	my $url = $self->{sink}->url;
	my $timeout = $opt{timeout} // 30000;
	$node->safe_psql('plant', slurp_file(tree() . '/test/data/ledger_http/kind.sql'));
	foreach my $how (qw(hold resend))
	{
		$node->safe_psql('plant', "SELECT crm.add_integration('$how', 'x_ledger', '$url', "
			  . "'{\"max_in_flight\": 16, \"timeout_ms\": $timeout" . ($how eq 'hold' ? ', "on_unknown": "hold"}' : '}') . "')");
	}
	$self->{data} = $node->data_dir;
	mkdir "$self->{data}/crm_stops" if -d $self->{data};
	$self->{database} = $node->safe_psql('plant', 'SELECT oid FROM pg_database WHERE datname = current_database()');
	return $self;
}

# ---- processes ----

# pids of the server's processes by title: "crm courier", "crm launcher", "backend", "postmaster", …
sub processes
{
	my ($self) = @_;
	my %found;
	foreach my $dir (glob '/proc/[0-9]*')
	{
		my $cwd = readlink "$dir/cwd" // next;
		next if $cwd ne $self->{data};
		open my $fh, '<', "$dir/cmdline" or next;
		my $title = do { local $/; <$fh> } // next;
		my ($pid) = $dir =~ /(\d+)$/;
		my $what = $title =~ /^postgres: (?:\S+: )?(crm \w+)/ ? $1 : $title =~ /^postgres: (?:\S+: )?\w+ plant \[local\]/ ? 'backend' :
		  $title =~ /^postgres: / ? 'other' : 'postmaster';
		push @{ $found{$what} }, $pid;
	}
	return \%found;
}

sub pid
{
	my ($self, $what) = @_;
	return ($self->processes->{$what} // [])->[0];
}

# The postmaster is dead: how many seconds until none of ours lives; more than $limit = never. Then waits for the rest.
sub orphans
{
	my ($self, $limit) = @_;
	my $start = time;
	my $took;
	until (defined $took)
	{
		my @ours = grep { /^crm / } keys %{ $self->processes };
		$took = time - $start if !@ours || time - $start > $limit;
		sleep 0.01;
	}
	my $end = time + 10;
	sleep 0.02 while %{ $self->processes } && time < $end;
	kill 'KILL', map { @$_ } values %{ $self->processes };
	return $took;
}

# Kills the postmaster, looks at what is left, starts again. Returns the seconds that ours outlived it.
sub kill_postmaster
{
	my ($self, $meanwhile) = @_;
	my ($pid) = slurp_file("$self->{data}/postmaster.pid") =~ /^(\d+)/;
	kill 'KILL', $pid;
	sleep 0.001 while kill 0, $pid;
	$meanwhile->() if $meanwhile;
	my $took = $self->orphans(3);
	$self->{marks} = $self->flight;
	$self->{node}{_pid} = undef;
	$self->{node}->start;
	return $took;
}

# ---- stops ----

sub arm
{
	my ($self, $stop) = @_;
	open my $fh, '>', "$self->{data}/crm_stops/$stop.armed" or die "cannot arm: $!";
	close $fh;
	return;
}

# The pid of the process that came to a stop, or undef.
sub reached
{
	my ($self, $stop, $seconds) = @_;
	my $file = "$self->{data}/crm_stops/$stop.reached";
	my $end = time + $seconds;
	until (-e $file) { return undef if time > $end; sleep 0.002 }
	return slurp_file($file) + 0;
}

# Lets go whoever is held, and disarms.
sub release
{
	my ($self) = @_;
	opendir my $dir, "$self->{data}/crm_stops" or return;
	unlink "$self->{data}/crm_stops/$_" foreach grep { /\.(armed|taken|reached)$/ } readdir $dir;
	return;
}

# The numbers that the first courier's flight file marks as perhaps gone.
sub flight
{
	my ($self) = @_;
	my %marked;
	open my $fh, '<:raw', "$self->{data}/crm_flight/$self->{database}.0" or return \%marked;
	my $all = do { local $/; <$fh> };
	for (my $at = 4096; $at + 24 <= length $all; $at += 24)
	{
		my (undef, $ref, $mark) = unpack 'q q Q', substr $all, $at, 24;
		$marked{$ref} = 1 if $mark;
	}
	return \%marked;
}

# ---- queueing ----

# A session of its own that runs one script; ->() waits for its end and tells whether it succeeded, with its output.
sub session
{
	my ($self, $sql) = @_;
	my $session = CrmPg->new($self->{node}, 'plant') // return sub { return (0, '') };
	$session->start($sql);
	return sub { my $out = $session->finish; return (defined $out, $out // '') };
}

# SQL that queues messages with this body, one of each integration a round.
sub sending
{
	my ($self, $body, $rounds) = @_;
	return "SELECT crm.send('ledger', 'r' || g, '$body', integration => i) FROM generate_series(1, $rounds) g, unnest('{hold,resend}'::text[]) i";
}

# A question to a server that may be coming back: undef while it cannot answer.
sub ask
{
	my ($self, $sql) = @_;
	$self->{session} //= CrmPg->new($self->{node}, 'plant') // return undef;
	my $out = $self->{session}->ask($sql);
	delete $self->{session} if !defined $out;
	return $out;
}

# ---- the ledger ----

# number of times by id, of what came whole
sub came
{
	my ($self) = @_;
	open my $fh, '<', $self->{sink}{log} or return $self->{came};
	seek $fh, $self->{seen}, 0;
	while (my $line = <$fh>)
	{
		last if $line !~ /\n$/;
		$self->{seen} += length $line;
		if ($line =~ /^(\d+) (\d+)$/) { $self->{came}{$1}++; push @{ $self->{at}{$1} }, $2 / 1e6 }
		elsif ($line =~ /^part (\d+) /) { $self->{part}{$1}++ }
	}
	return $self->{came};
}

# Waits until every message above a number has ended, asking at most for so many seconds.
sub ended
{
	my ($self, $after, $seconds) = @_;
	my $end = time + $seconds;
	while (time < $end)
	{
		return 1 if ($self->ask("SELECT count(*) FROM crm.message WHERE id > $after AND state IN ('queued', 'sending')") // 1) eq '0';
		sleep 0.03;
	}
	return 0;
}

# Messages above a number: id => { how, state, body, tries => [outcomes] }
sub messages
{
	my ($self, $after) = @_;
	my %m;
	foreach my $row (split /\n/, $self->ask(<<"SQL") // die 'the server does not answer')
SELECT m.id, i.name, m.state, m.body, (SELECT string_agg(a.outcome, ' ' ORDER BY a.attempt, a.at) FROM crm.message_attempt a WHERE a.message_id = m.id AND a.outcome <> 'report')
FROM crm.message m JOIN crm.integration i ON i.id = m.integration_id WHERE m.id > $after
SQL
	{
		my ($id, $how, $state, $body, $tries) = split /\|/, $row;
		$m{$id} = { how => $how, state => $state, body => $body, tries => [ split / /, $tries // '' ] };
	}
	return \%m;
}

# Compares messages with the ledger. Returns counts: queued, accepted (came at least once), lost (did not come and
# nobody says so), repeated (came again), wrong (repeated without an unclear try that explains it, or under "hold",
# or counted as sent though it never came), uncertain (messages that stay so), unclear (messages with such a try),
# phantom (came and is no message); and the list of unclear numbers.
sub compare
{
	my ($self, $after) = @_;
	my $m = $self->messages($after);
	my $came = $self->came;
	my %n = map { $_ => 0 } qw(queued accepted lost repeated wrong uncertain unclear phantom resolved);
	my @unclear;
	foreach my $id (keys %$m)
	{
		my $row = $m->{$id};
		my $times = $came->{$id} // 0;
		my $doubts = grep { $_ eq 'uncertain' } @{ $row->{tries} };
		$n{queued}++;
		$n{accepted}++ if $times;
		$n{uncertain}++ if $row->{state} eq 'uncertain';
		$n{resolved}++ if $doubts && $row->{state} ne 'uncertain';
		if ($doubts) { $n{unclear}++; push @unclear, $id }
		$n{lost}++ if !$times && $row->{state} ne 'uncertain' && $row->{state} ne 'failed';
		$n{repeated}++ if $times > 1;
		$n{wrong}++ if $times > 1 && ($row->{how} eq 'hold' || $times > 1 + $doubts)
		  || $row->{state} =~ /^(sent|delivered)$/ && !$times || $row->{state} !~ /^(sent|delivered|uncertain|failed)$/;
	}
	$n{phantom} = grep { $_ > $after && !$m->{$_} } keys %$came;
	return (\%n, \@unclear, $m);
}

1;
