# At each of the places that matter a process is stopped and killed -9, and the courier, the launcher, a backend in
# its commit or the postmaster instead, in turn (CRM_SOAK: all of them). Each time the cluster comes back, everything
# ends, and the ledger of the provider's double shows nothing lost, nothing twice but under the same number and only
# what was in flight, and doubt only about what the table below allows. Policies on_unknown hold and resend.
use strict;
use warnings;
use CrmKill;
use CrmTest;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Storable ();
use Test::More;
use Time::HiRes qw(time sleep);

# The stops: name, how a process is brought there, what may be in doubt after the process there was killed.
#	doubt	none: no message may become uncertain, all are sent once.
#			marked: exactly those that the flight file marks are uncertain; where the marked ones had left
#			whole, "resend" repeats them, nothing else is sent twice.
#			same: the reply came and nobody could read it: uncertain, and not by the kill.
#	queued	what becomes of the message of a backend that is killed there: no = it is nowhere, and never came.
my @stops = (
	# a backend that queues
	[ 'queue: a number drawn', 'queue', 'none', 'no' ],
	[ 'queue: before commit', 'queue', 'none', 'no' ],
	[ 'queue: after commit, before the latch', 'queue', 'none', 'yes' ],
	[ 'queue: after the latch', 'queue', 'any', 'yes' ],
	# the courier's claim: leased only when committed; nothing has left
	[ 'claim: picked', 'send', 'none' ],
	[ 'claim: leased', 'send', 'none' ],
	[ 'claim: before commit', 'send', 'none' ],
	[ 'claim: after commit', 'send', 'none' ],
	# bytes
	[ 'send: place reserved', 'send', 'none' ],
	[ 'send: before the mark', 'send', 'marked' ],
	[ 'send: half a mark', 'send', 'marked' ],
	[ 'send: after the mark', 'send', 'marked' ],
	[ 'wire: a part of the request', '/stall', 'marked' ],
	[ 'wire: the whole request', '/hang', 'marked' ],
	[ 'wire: a part of the reply', '/begin', 'marked' ],
	[ 'reply: whole', 'send', 'marked' ],
	# settle
	[ 'settle: before commit', 'send', 'marked' ],
	[ 'settle: after commit', 'send', 'none' ],
	[ 'settle: a mark cleared', 'send', 'none' ],
	[ 'reject: before commit', '/poison', 'marked' ],
	[ 'reject: after commit', '/poison', 'same' ],
	# a courier that takes over from a dead one, which had replies in hand
	[ 'start: flight file read', 'start', 'marked' ],
	[ 'start: before commit', 'start', 'marked' ],
	[ 'start: after commit', 'start', 'marked' ],
	[ 'start: flight file half clean', 'start', 'before' ],
	[ 'start: flight file clean', 'start', 'before' ],
	# housekeeping
	[ 'maintain: before commit', 'restart', 'none' ],
	[ 'maintain: after commit', 'restart', 'none' ],
	[ 'due: before commit', 'restart', 'none' ],
	[ 'due: after commit', 'restart', 'none' ],
	# the listener's answer to a delivery report
	[ 'report: before commit', 'report', 'none' ],
	[ 'report: after commit', 'report', 'none' ],
	# the launcher
	[ 'launcher: a worker has ended', 'restart', 'none' ],
	[ 'launcher: before it registers a worker', 'restart', 'none' ],
	[ 'launcher: after it registered a worker', 'restart', 'any' ]);
my @targets = qw(there launcher backend postmaster courier);

# messages of each integration that are queued; the long bodies of /stall are dear
sub rounds { return $_[0] eq '/stall' ? 1 : 3 }

my $seed = $ENV{CRM_SEED} // 1;
my $built = PostgreSQL::Test::Utils::tempdir() . '/stops';
my $started = time;
my $log = '';
IPC::Run::run([ tree() . '/test/stops/build', $built ], '>', \my $home, '2>', \$log) or die "no build with stops: $log";
chomp $home;
note sprintf 'built in %.1f s, seed %d', time - $started, $seed;

# the cluster of this part of the work
my ($k, $node, $port, $path);
sub cluster
{
	my ($name) = @_;
	$k = CrmKill->new($name, install_path => $home);
	$node = $k->{node};
	$port = PostgreSQL::Test::Cluster::get_free_port();
	$node->safe_psql('plant', "SELECT crm.listen($port)");
	$path = $node->safe_psql('plant', "SELECT crm.add_route('hold', 'report', 'ledger.report', '{POST}')");
	wait_for(20, sub { $k->pid('crm courier') && $k->pid('crm listener') }) or die 'no courier';
	return;
}

# a report of the provider, which tells it again until it hears 200
sub report
{
	my ($id, $again) = @_;
	my $end = time + ($again ? 20 : 0);
	do
	{
		my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 2);
		if ($socket)
		{
			print $socket "POST $path?id=$id&state=delivered HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
			return $socket if !$again;
			my $line = <$socket> // '';
			return 1 if $line =~ / 200 /;
		}
		sleep 0.05;
	} while time < $end;
	return 0;
}

# the pid of the process that is at the stop, after bringing it there
sub bring
{
	my ($stop, $how, $body, $sessions) = @_;
	my $queue = sub { push @$sessions, $k->session($k->sending($_[0], rounds($how))) };
	if ($how =~ m{^/(\w+)})
	{
		$k->arm($stop) if $stop !~ /^wire/;
		$queue->("$how $body");
		return $k->reached($stop, 10) if $stop !~ /^wire/;
		# the double tells when it has what it wants of all of them
		my $side = $how eq '/stall' ? 'part' : 'came';
		my $before = keys %{ $k->came && $k->{$side} };
		return wait_for(10, sub { $k->came; keys(%{ $k->{$side} }) >= $before + 2 * rounds($how) }) ? $k->pid('crm courier') : undef;
	}
	if ($how eq 'send' || $how eq 'queue')
	{
		$k->arm($stop);
		$queue->($body);
		return $k->reached($stop, 10);
	}
	if ($how eq 'start')
	{
		$k->arm('reply: whole');
		$queue->($body);
		my $pid = $k->reached('reply: whole', 10) // return undef;
		$k->arm($stop);
		$k->{dead} = $k->flight;
		kill 'KILL', $pid;
		return $k->reached($stop, 20);
	}
	if ($how eq 'restart')
	{
		$k->arm($stop);
		kill 'TERM', $k->pid('crm courier');
		my $pid = $k->reached($stop, 20);
		# what is queued while it is held must be found afterwards
		$queue->($body);
		$_->() foreach splice @$sessions;
		return $pid;
	}
	# a report on a message that was sent
	my ($ok, $out) = $k->session($k->sending($body, rounds($how)))->();
	my ($id) = $out =~ /^(\d+)/;
	$k->ended($id - 1, 10) or return undef;
	$k->{report} = $id;
	$k->arm($stop);
	my $socket = report($id, 0);
	push @$sessions, sub { close $socket if $socket; return (0, '', '') };
	return $k->reached($stop, 10);
}

my @results;
my %total = map { $_ => 0 } qw(kills queued accepted lost repeated wrong uncertain resolved phantom);
my %kills;
my ($slowest, $longest_orphan) = (0, 0);

sub try_one
{
	my ($row, $target, $number) = @_;
	my ($stop, $how, $doubt, $queued) = @$row;
	my $what = "$stop, " . ($target eq 'there' ? 'the process there' : $target);
	my $begun = time;
	my @sessions;
	my @wrong;

	my $after = $k->ask('SELECT coalesce(max(id), 0) FROM crm.message_body') // die 'no server';
	delete @$k{qw(report dead marks)};
	my $pid = bring($stop, $how, "body $number", \@sessions);
	if (!$pid)
	{
		push @results, [ "$what: no process came there", 'none within ten seconds' ];
		$k->release;
		$_->() foreach @sessions;
		$k->ended($after, 30);
		return;
	}

	# ---- kill ----
	my $marks = $k->flight;
	my $victim = $target eq 'there' ? $pid : undef;
	my $exact = $target eq 'there' && $queued ? 0 : $target eq 'there';
	if ($target eq 'postmaster')
	{
		my $took = $k->kill_postmaster(sub { $k->release });
		$longest_orphan = $took if $took > $longest_orphan;
		push @wrong, sprintf('ours outlived the postmaster by %.2f s', $took) if $took > 1;
		$marks = $k->{marks};
	}
	else
	{
		if ($target eq 'backend')
		{
			my $own = $stop eq 'queue: before commit' ? 'queue: after commit, before the latch' : 'queue: before commit';
			$k->arm($own);
			push @sessions, $k->session($k->sending("backend $number", 1));
			$victim = $k->reached($own, 10);
		}
		elsif ($target ne 'there')
		{
			# while the launcher is held no courier may be there: then the listener
			wait_for(0.3, sub { $victim = $k->pid("crm $target") });
			$victim //= $k->pid('crm listener');
		}
		push @wrong, "no $target to kill" if !$victim;
		kill 'KILL', $victim if $victim;
		$k->release;
	}
	$kills{$target}++;
	my @ends = map { [ $_->() ] } @sessions;
	my $told = 0;	# messages that a client was told of
	$told += () = $_->[1] =~ /^\d+$/mg foreach grep { $_->[0] } @ends;

	# ---- afterwards ----
	push @wrong, 'it does not go on' if !wait_for(30, sub { defined $k->ask($k->sending("after $number", 1)) });
	report($k->{report}, 1) or push @wrong, 'the report was never taken' if $k->{report};
	push @wrong, 'not everything ends' if !$k->ended($after, 30);
	my ($n, $unclear, $m) = $k->compare($after);
	push @wrong, "$_ $n->{$_}" foreach grep { $n->{$_} } qw(lost wrong phantom);
	my @mine = grep { $m->{$_}{body} =~ /\bbody $number$/ } keys %$m;
	push @wrong, "told of $told, and $n->{queued} are there" if $n->{queued} < $told;
	if ($target eq 'there' && $queued)
	{
		my $want = $queued eq 'yes' ? 2 * rounds($how) : 0;
		push @wrong, scalar(@mine) . " were queued, not $want" if @mine != $want;
	}
	else
	{
		push @wrong, scalar(@mine) . ' were queued' if @mine != 2 * rounds($how) && $how ne 'queue';
	}
	my %doubtful = map { $_ => 1 } @$unclear;
	if ($target eq 'there' && $doubt ne 'any')
	{
		my $may = $doubt eq 'none' ? {} : $doubt eq 'marked' ? ($k->{dead} // $marks) : $doubt eq 'before' ? $k->{dead} : \%doubtful;
		# reject: the replies that could not be read are doubtful of themselves
		$may = { map { $_ => 1 } @mine } if $how eq '/poison';
		push @wrong, 'in doubt and not in flight: ' . join ' ', grep { !$may->{$_} } keys %doubtful if grep { !$may->{$_} } keys %doubtful;
		push @wrong, 'in flight and not in doubt: ' . join ' ', grep { !$doubtful{$_} } keys %$may if $how ne '/poison' && grep { !$doubtful{$_} } keys %$may;
	}
	elsif ($target eq 'postmaster' && $how ne 'start' && $how ne '/poison')
	{
		# after it was let go the courier may have moved, but nothing may be in doubt that is not marked
		push @wrong, 'in doubt and not in flight: ' . join ' ', grep { !$marks->{$_} } keys %doubtful if grep { !$marks->{$_} } keys %doubtful;
	}
	if ($k->{report})
	{
		my $results = $k->ask("SELECT count(*) FILTER (WHERE r.state = 'delivered'), count(*) FROM crm.message_result r WHERE r.message_id = $k->{report}");
		push @wrong, "results of the report: $results" if $results ne '1|1';
	}
	$total{kills}++;
	$total{$_} += $n->{$_} foreach qw(queued accepted lost repeated wrong uncertain resolved phantom);
	my $took = time - $begun;
	$slowest = $took if $took > $slowest;
	push @results, [ sprintf('%s (%.1f s; %d queued, %d came again, %d in doubt)', $what, $took, $n->{queued}, $n->{repeated}, $n->{unclear}), @wrong ];
	return;
}

# ---- the work, shared by two clusters at a time ----
my $only = $ENV{CRM_STOP} // '';
my @work;
foreach my $i (0 .. $#stops)
{
	next if $only && index($stops[$i][0], $only) < 0;
	my @these = $ENV{CRM_SOAK} ? @targets : $ENV{CRM_TARGET} ? ($ENV{CRM_TARGET}) : ('there', $i % 4 == 0 ? $targets[ 1 + ($i / 4 + $seed) % 4 ] : ());
	push @work, [ $i, $_ ] foreach @these;
}
my @parts;
foreach my $part (0, 1)
{
	my $file = PostgreSQL::Test::Utils::tempdir() . "/results$part";
	my $pid = fork // die;
	push @parts, [ $pid, $file ];
	next if $pid;
	my $ran = eval {
		cluster("stops$part");
		my $number = 0;
		try_one($stops[ $work[$_][0] ], $work[$_][1], ++$number) foreach grep { $_ % 2 == $part } 0 .. $#work;
		1;
	};
	push @results, [ "part $part runs to its end", $@ ] if !$ran;
	eval { $k->release; $node->stop('fast') } if $k;
	$k->{sink}->stop if $k;
	Storable::nstore([ \@results, \%total, \%kills, $slowest, $longest_orphan ], $file);
	POSIX::_exit(0);
}
my (%sum, %by);
foreach (@parts)
{
	my ($pid, $file) = @$_;
	waitpid $pid, 0;
	my $came = eval { Storable::retrieve($file) };
	ok($came, 'a part of the work has told its results') or next;
	foreach my $result (@{ $came->[0] })
	{
		my ($name, @wrong) = @$result;
		ok(!@wrong, $name);
		diag("$name: $_") foreach @wrong;
	}
	$sum{$_} += $came->[1]{$_} foreach keys %{ $came->[1] };
	$by{$_} += $came->[2]{$_} foreach keys %{ $came->[2] };
	$slowest = $came->[3] if $came->[3] > $slowest;
	$longest_orphan = $came->[4] if $came->[4] > $longest_orphan;
}
is($sum{kills}, scalar @work, 'every stop was met');

note 'kills: ' . join ', ', map { "$_ $by{$_}" } sort keys %by;
note join ', ', map { "$_ $sum{$_}" } qw(kills queued accepted lost repeated wrong phantom uncertain resolved);
note sprintf 'slowest %.1f s; the longest that one of ours outlived the postmaster: %.2f s; %.0f s in all', $slowest, $longest_orphan, time - $started;
done_testing();
