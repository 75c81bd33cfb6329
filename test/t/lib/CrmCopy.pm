# What the tests of copies share: an original with messages that wait, and the proof that a copy is silent.
#   my ($original, $ledger) = crm_original('name', conf => …);   live, five messages wait, nobody answers yet
#   silent($copy, $ledger, qr/reason/, $database);                runs, may reach the double, and sends nothing
#   speaks($copy, $ledger, $database);                            after crm.activate() it sends
#   my $copy = crm_open_copy('name', FOLDER, $original)           a data directory made by hand, as a node on its own port
package CrmCopy;
use strict;
use warnings;
use CrmLedger;
use CrmTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);
use Exporter 'import';
our @EXPORT = qw(crm_original silent speaks crm_open_copy);

sub crm_original
{
	my ($name, %opt) = @_;
	my $ledger = CrmLedger->new(start => 0);
	my $node = crm_node($name, %opt);
	$ledger->integrations($node);
	$node->safe_psql('plant', q{SELECT crm.send('sms', '+79161234567', 'waits ' || g) FROM generate_series(1, 5) g});
	ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT count(*) FROM crm.message WHERE state = 'queued' AND attempts > 0}) > 0 }),
		'messages wait, and the courier of the original tries in vain');
	return ($node, $ledger);
}

# postmaster.pid and recovery settings are the test's business
sub crm_open_copy
{
	my ($name, $folder, $original) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);
	mkdir $copy->basedir;
	rename $folder, $copy->data_dir or die "$folder: $!";
	chmod 0700, $copy->data_dir;
	$copy->append_conf('postgresql.conf', 'port = ' . $copy->port . "\nunix_socket_directories = '" . $copy->host . "'\n");
	return $copy;
}

sub silent
{
	my ($copy, $ledger, $why, $database) = @_;
	$database //= 'plant';
	my $bytes = $ledger->bytes;
	my $attempts = $copy->safe_psql($database, q{SELECT count(*) FROM crm.message_attempt});
	is($copy->safe_psql($database, q{SELECT crm.mode(), crm.guard()}), 'off|f', 'the copy is off');
	like($copy->safe_psql($database, q{SELECT severity || ': ' || message FROM crm.health WHERE subject = 'activation'}), $why, 'crm.health says why');
	if ($copy->safe_psql($database, 'SELECT pg_is_in_recovery()') eq 'f')
	{
		is($copy->safe_psql($database, q{SELECT count(*) FROM crm.message WHERE body LIKE 'waits %' AND state = 'queued'}), '5', 'the messages wait in the copy');
		# whatever may hold a courier back is taken away, and it is woken
		$copy->safe_psql($database, q{SELECT crm.integration_retry('sms')});
		my ($rc, $out, $err) = $copy->psql($database, q{SELECT crm.integration_test('sms')});
		like($err, qr/talks to nobody/, 'a test by hand is refused');
	}
	sleep 3;
	is($ledger->bytes, $bytes, 'not a byte has left the copy');
	is($copy->safe_psql($database, q{SELECT count(*) FROM crm.message_attempt}), $attempts, 'and not a try was made');
	return;
}

sub speaks
{
	my ($copy, $ledger, $database) = @_;
	$database //= 'plant';
	my $before = $ledger->count(qr/^sms .* waits \d/);
	is($copy->safe_psql($database, 'SELECT crm.activate()'), 'live', 'a person activates the copy');
	$copy->safe_psql($database, q{SELECT crm.set_secret('sms', 'new')});
	ok(wait_for(15, sub { $ledger->count(qr/^sms .* waits \d/) >= $before + 5 }), 'and it sends what waits') or diag $copy->safe_psql($database, 'SELECT * FROM crm.health');
	is($copy->safe_psql($database, q{SELECT count(*) FROM crm.health WHERE subject = 'activation'}), '0', 'crm.health is content');
	return;
}

1;
