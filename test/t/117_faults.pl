# Faults of the outside and of the disk: replies after the time-out, half replies, connections that end without one, a
# provider that accepts and then denies, reports twice and against each other, a provider that is not there, a name
# that does not resolve; and a full disk, on a tmpfs of its own where the kernel lets a user mount one. Nothing is
# lost, nothing comes twice but under the policy resend, and the doubt is told.
use strict;
use warnings;
use CrmKill;
use CrmPg;
use CrmTest;
use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $k = CrmKill->new('faults', delay => 900, timeout => 300);
my $node = $k->{node};
ok(wait_for(20, sub { $k->pid('crm courier') }), 'the courier runs');

# queues three to each integration, waits for their end; "hold: state times tries …" of each distinct outcome
my $after = 0;
sub outcome
{
	my ($path) = @_;
	$after = $k->ask('SELECT coalesce(max(id), 0) FROM crm.message_body');
	$k->ask($k->sending("$path text", 3)) // die 'not queued';
	# a service that only fails is asked ever more seldom: here at once
	my $tries = 0;
	until ($k->ended($after, 0.4) || $tries++ > 40) { $k->ask("SELECT crm.integration_retry(i) FROM unnest('{hold,resend}'::text[]) i") }
	my ($n, undef, $m) = $k->compare($after);
	my %seen;
	$seen{"$m->{$_}{how} $m->{$_}{state} came " . ($k->{came}{$_} // 0) . ": @{ $m->{$_}{tries} }"}++ foreach keys %$m;
	return join '; ', map { "$seen{$_} $_" } sort keys %seen;
}

# ---- what the provider does ----
my $doubt = '3 hold uncertain came 1: uncertain; 3 resend sent came 2: uncertain sent';
is(outcome('/slow'), $doubt, 'a reply after the time-out: in doubt, again only under resend');
is(outcome('/half'), $doubt, 'half a reply');
is(outcome('/close'), $doubt, 'no reply, the connection ends');
is(outcome('/big'), $doubt, 'a reply that is too large');
# the late replies have come by now: they must not be taken for others'
sleep 0.7;
is(outcome('/'), '3 hold sent came 1: sent; 3 resend sent came 1: sent', 'late replies are taken for nobody else\'s');
is(outcome('/deny'), '3 hold sent came 2: retry sent; 3 resend sent came 2: retry sent', 'accepted and denied: again, since it was denied, under the same number');
my $id = $after + 1;
my $told = sub { my ($state) = @_; return $k->ask("SELECT crm.message_report($id, '$state', NULL, 'word of the provider', NULL)") };
my $now = sub { return $k->ask("SELECT m.state, (SELECT count(*) FROM crm.message_result r WHERE r.message_id = m.id), (SELECT count(*) FROM crm.message_attempt a WHERE a.message_id = m.id AND a.outcome <> 'report') FROM crm.message m WHERE m.id = $id") };
ok(wait_for(5, sub { ($id) = sort { $a <=> $b } keys %{ $k->messages($after) }; $id }), 'a message that was accepted');
is($told->('undelivered') . ' ' . $now->(), 't undelivered|1|2', 'the provider denies by a report: undelivered, not sent again');
is($told->('undelivered') . ' ' . $now->(), 't undelivered|1|2', 'the same report twice changes nothing');
is($told->('delivered') . ' ' . $now->(), 't undelivered|1|2', 'nor does one that says the contrary');

# ---- nobody there ----
my $port = $k->{sink}{port};
$k->{sink}->stop;
$after = $k->ask('SELECT max(id) FROM crm.message_body');
$k->ask($k->sending('text', 5));
my $words = sub { return $k->ask("SELECT string_agg(DISTINCT split_part(last_error, ':', 1), ' ') || ' ' || string_agg(DISTINCT state, ' ') FROM crm.message WHERE id > $after") };
ok(wait_for(10, sub { $words->() eq 'connect queued' }), 'refused connections: they wait, and say why') or diag $words->();
sleep 0.3;
$k->{sink}->start;
$k->ask("SELECT crm.integration_retry(i) FROM unnest('{hold,resend}'::text[]) i");
ok($k->ended($after, 20), 'when it is there again they go');
my ($n) = $k->compare($after);
is("$n->{accepted} $n->{lost} $n->{repeated} $n->{unclear}", '10 0 0 0', 'once each, without doubt');
$k->ask("SELECT crm.add_integration('nowhere', 'x_ledger', 'http://nowhere.invalid', '{\"retry_ms\": 50}')");
$after = $k->ask('SELECT max(id) FROM crm.message_body');
$k->ask("SELECT crm.send('ledger', 'r', 'text', integration => 'nowhere')");
ok(wait_for(10, sub { ($words->() // '') eq 'resolve queued' }), 'a name that does not resolve') or diag $words->();
($n) = $k->compare(0);
is("$n->{phantom}", 0, 'nothing came that is no message');
$node->stop('fast');

# ---- a full disk ----
{
	package TmpfsNode;
	sub host { return $_[0]{host} }
	sub port { return $_[0]{port} }
	sub data_dir { return $_[0]{data} }
	sub safe_psql
	{
		my ($self, $database, $sql) = @_;
		my $session = CrmPg->new($self, $database) // die 'no server';
		return $session->ask($sql) // die $session->{error};
	}
	# runs a command of the shell beside the server; its last line
	sub command
	{
		my ($self, $command) = @_;
		print { $self->{in} } "$command\necho \"done \$?\"\n";
		my $last = '';
		while (defined(my $line = readline $self->{out})) { chomp $line; return $1 if $line =~ /^done (\d+)$/; $last = $line }
		die 'the shell has ended';
	}
}

SKIP:
{
	my $mount = PostgreSQL::Test::Utils::tempdir_short() . '/full';
	mkdir $mount;
	my $inner = "mount -t tmpfs -o size=160m none $mount && exec unshare -U --map-user=$< --map-group=" . ($( + 0) . ' bash';
	system("unshare -Urm bash -c '$inner -c true' >/dev/null 2>&1") == 0
	  or skip 'no user namespace with a tmpfs of its own', 7;
	my $pid = open2(my $out, my $in, 'unshare', '-Urm', 'bash', '-c', $inner);
	$in->autoflush(1);
	my $small = bless { in => $in, out => $out, host => $node->host, port => PostgreSQL::Test::Cluster::get_free_port(), data => "$mount/data" }, 'TmpfsNode';
	my $bin = $node->config_data('--bindir');
	my $log = PostgreSQL::Test::Utils::tempdir() . '/full.log';
	my $start = "$bin/pg_ctl -D $mount/data -l $log -w start >/dev/null 2>&1";
	is($small->command("$bin/initdb -D $mount/data -A trust -N --wal-segsize=1 >/dev/null 2>&1 && cat >>$mount/data/postgresql.conf <<'CONF'\n"
			  . "shared_preload_libraries = 'crm'\nport = " . $small->port . "\nlisten_addresses = ''\nunix_socket_directories = '" . $small->host
			  . "'\nfsync = off\nmin_wal_size = 2MB\nmax_wal_size = 8MB\nrestart_after_crash = on\nshared_buffers = 16MB\nCONF\n"
			  . $start), 0, 'a server on a small disk');
	$small->safe_psql('postgres', 'CREATE DATABASE plant');
	$small->safe_psql('plant', 'SET client_min_messages = error; CREATE EXTENSION crm CASCADE');
	$small->safe_psql('plant', "SELECT crm.activate('live')");
	my $f = CrmKill->new('full', node => $small, delay => 150);
	my %told;
	my $refused = 0;
	my $write = sub {
		my $ids = $f->ask($f->sending('/slow text', 20));
		if (defined $ids) { $told{$_} = 1 foreach split /\n/, $ids } else { $refused++ }
	};
	$write->() for 1 .. 20;
	# a checkpoint gives space back: it is filled again and again
	my $fill = "cat /dev/zero >>$mount/filler 2>/dev/null; [ \$(df --output=avail $mount | tail -n 1) = 0 ]";
	ok(wait_for(10, sub { $small->command($fill) == 0 }), 'the disk is full');
	my $until = time + 4;
	while (time < $until) { $write->(); $small->command($fill); sleep 0.02 }
	$small->command("rm $mount/filler");
	# whoever ran out of space for WAL has ended the server
	$small->command($start) if !wait_for(3, sub { defined $f->ask('SELECT 1') });
	ok(wait_for(20, sub { defined $f->ask('SELECT 1') }), 'with space the server is there');
	$write->();
	ok($f->ended(0, 40), 'and everything ends');
	my ($full, undef, $m) = $f->compare(0);
	is(scalar(grep { !$m->{$_} } keys %told), 0, 'what was said to be queued is there');
	is("$full->{lost} $full->{wrong} $full->{phantom}", '0 0 0', 'nothing lost, nothing twice but under resend');
	my $words = slurp_file($log);
	my ($errors, $panics) = (scalar(() = $words =~ /No space left/g), scalar(() = $words =~ /PANIC/g));
	my $failed = () = $words =~ /crm courier: transaction failed with 53100/g;
	note "full for 4 s: $errors complaints, $panics of them PANIC, $failed of the courier, $refused writes refused; "
	  . join ', ', map { "$_ $full->{$_}" } qw(queued accepted repeated uncertain resolved);
	ok($errors > 0 && $failed > 0, 'it was full indeed, for the courier too');
	$small->command("$bin/pg_ctl -D $mount/data -m immediate stop >/dev/null 2>&1");
	close $in;
	waitpid $pid, 0;
}
done_testing();
