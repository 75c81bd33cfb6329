# Kills at random instants while two writers queue: kill -9 of the courier, the launcher, a backend at work and the
# postmaster, an immediate stop, SIGTERM and pg_terminate_backend of the courier; also of one that has only just
# started. The database commits asynchronously, as some are set up; couriers must not. Whatever a writer was told
# is committed is there, the provider's ledger shows each message once, repeats only under the policy resend and only
# for what came within moments of a kill; what stays uncertain is resolved by what the provider knows. Prints the
# table. CRM_KILLS kills (12; CRM_SOAK: 210), CRM_SEED.
use strict;
use warnings;
use CrmKill;
use CrmPg;
use CrmTest;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $count = $ENV{CRM_KILLS} // ($ENV{CRM_SOAK} ? 210 : 12);
my $seed = $ENV{CRM_SEED} // 1;
srand $seed;
note "seed $seed, $count kills";

my $k = CrmKill->new('kills', delay => 20);
my $node = $k->{node};
$node->safe_psql('postgres', 'ALTER DATABASE plant SET synchronous_commit = off');
ok(wait_for(20, sub { $k->pid('crm courier') }), 'the courier runs');

# ---- writers: keep the numbers that they were told ----
my @writers;
foreach my $n (1, 2)
{
	my $file = PostgreSQL::Test::Utils::tempdir() . "/told$n";
	my $pid = fork // die;
	push @writers, [ $pid, $file ];
	next if $pid;
	my $going = 1;
	local $SIG{TERM} = sub { $going = 0 };
	srand $seed + $n;
	open my $told, '>', $file or POSIX::_exit(1);
	$told->autoflush(1);
	my $session;
	while ($going)
	{
		if (!$session)
		{
			$session = CrmPg->new($node, 'plant');
			# what a client is told must be durable, whatever the database says
			$session = undef if $session && !defined $session->ask('SET synchronous_commit = on');
			if (!$session) { sleep 0.05; next }
		}
		my $body = rand() < 0.3 ? '/slow text' : 'text';
		my $ids = $session->ask($k->sending($body, rand() < 0.03 ? 100 : 1 + int rand 4));
		if (defined $ids) { print $told "$ids\n" }
		else { $session = undef }
		sleep rand 0.03;
	}
	POSIX::_exit(0);
}

# ---- kills ----
my %act = (
	'courier, kill -9' => sub { kill 'KILL', $_[0]; return 'crash' },
	'launcher, kill -9' => sub { my $p = $k->pid('crm launcher') // return; kill 'KILL', $p; return 'crash' },
	'backend, kill -9' => sub { my @p; wait_for(5, sub { @p = @{ $k->processes->{backend} // [] } }) or return; kill 'KILL', $p[ rand @p ]; return 'crash' },
	'postmaster, kill -9' => sub { return $k->kill_postmaster },
	'immediate stop' => sub { $node->stop('immediate'); my $took = $k->orphans(3); $node->start; return $took },
	'courier, SIGTERM' => sub { kill 'TERM', $_[0]; return 'term' },
	'courier, pg_terminate_backend' => sub { my $pid = $_[0]; return wait_for(5, sub { defined $k->ask("SELECT pg_terminate_backend($pid)") }) ? 'term' : undef });
my @kinds = sort keys %act;
my (%kills, @moments);
my ($slowest, $outlived, $stuck, $done) = (0, 0, 0, 0);
my @deck;
while ($done < $count)
{
	@deck = @kinds if !@deck;
	my ($kind) = splice @deck, rand @deck, 1;
	# sometimes the courier has hardly begun
	sleep rand 0.5 if rand() < 0.75;
	my $pid;
	if (!wait_for(30, sub { $pid = $k->pid('crm courier') })) { $stuck++; last }
	my $started = time;
	my $how = $act{$kind}->($pid) // next;
	push @moments, [ $started, time ];
	$kills{$kind}++;
	$done++;
	$outlived = $how if $how =~ /^[\d.e-]+$/ && $how > $outlived;
	wait_for(30, sub { my $now = $k->pid('crm courier'); $now && $now != $pid }) or $stuck++;
	my $took = time - $started;
	$slowest = $took if $took > $slowest;
}
kill 'TERM', map { $_->[0] } @writers;
waitpid $_->[0], 0 foreach @writers;
is($stuck, 0, 'after each kill a new courier is there');
cmp_ok($outlived, '<=', 1, 'none of ours outlives the postmaster by a second');
is(scalar(keys %kills), scalar(@kinds), 'kills of every kind') if $count >= @kinds;
ok(wait_for(20, sub { defined $k->ask('SELECT 1') }) && $k->ended(0, 60), 'everything ends');

# ---- the ledger ----
my ($n, $unclear, $m) = $k->compare(0);
my %told = map { $_ => 1 } map { split /\n/, slurp_file($_->[1]) } @writers;
my @missing = grep { !$m->{$_} } keys %told;
is(scalar(@missing), 0, 'what a writer was told is there');
is($n->{lost}, 0, 'none is lost');
is($n->{phantom}, 0, 'nothing came that was rolled back');
is($n->{wrong}, 0, 'none came twice but under the policy resend, after a try that is in doubt')
  or diag(join "\n", map { "$_: came " . ($k->{came}{$_} // 0) . " $m->{$_}{how} $m->{$_}{state} @{ $m->{$_}{tries} }" } grep { ($k->{came}{$_} // 0) != 1 } sort { $a <=> $b } keys %$m);
my @far = grep { my $at = $k->{at}{$_}[0]; $at && !grep { $at > $_->[0] - 3 && $at < $_->[1] + 1 } @moments } @$unclear;
is(scalar(@far), 0, 'in doubt is only what came within moments of a kill');
my $unresolved = $n->{uncertain};
my $again = $n->{repeated};

# what the provider knows settles the rest
foreach my $id (grep { $m->{$_}{state} eq 'uncertain' } keys %$m)
{
	my $way = $k->{came}{$id} ? 'delivered' : 'resend';
	$k->ask("SELECT crm.message_resolve($id, '$way')") // fail("message $id cannot be resolved: $k->{session}{error}");
}
ok($k->ended(0, 30), 'and everything ends');
($n, $unclear, $m) = $k->compare(0);
is("$n->{queued} $n->{accepted} $n->{lost} $n->{wrong} $n->{uncertain}", "$n->{queued} $n->{queued} 0 0 0", 'in the end the provider has every message, and none under doubt');
my $bad = () = slurp_file($node->logfile) =~ /PANIC|TRAP:|terminated by signal (?!9:|3:)/g;
is($bad, 0, 'nothing crashed by itself');

note sprintf '%-32s %s', $_, $kills{$_} // 0 foreach @kinds;
note sprintf '%-32s %s', @$_ foreach [ 'kills', $done ], [ 'queued', $n->{queued} ], [ 'told to writers', scalar keys %told ], [ 'accepted by the provider', $n->{accepted} ],
  [ 'lost', $n->{lost} ], [ 'repeated (policy resend)', $again ], [ 'repeated otherwise', $n->{wrong} ], [ 'in doubt', scalar @$unclear ],
  [ 'of these uncertain (policy hold)', $unresolved ], [ 'resolved', $n->{resolved} ];
note sprintf 'a new courier after at most %.1f s; ours outlived the postmaster by at most %.2f s', $slowest, $outlived;
$node->stop('fast');
done_testing();
