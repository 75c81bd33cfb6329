# Secrets of every kind are a canary, and everything that a server can log and count is switched on. Work is
# done and made to fail: a wrong password and a service that gives back all it was sent, TLS, a take function
# that raises what it was given, a cancelled statement, a secret that is set wrongly. The canary is then looked
# for, plain, percent-encoded, in base64 at each alignment and in hex: in the server's log, what sessions and
# pg_stat_statements show, every table and view but crm.secret, a dump, processes and the data directory.
use strict;
use warnings;
use CrmTest;
use CrmLedger;
use MIME::Base64;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my %canary = map { $_ => "Canary/$_+7f3a9c1e&5b2d=4860" } qw(header query mail file token own);
my @forms;
foreach my $word (values %canary)
{
	my $percent = $word =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ger;
	push @forms, $word, $percent, $percent =~ s/(%..)/lc $1/ger, unpack('H*', $word);
	foreach my $before (0 .. 2)
	{
		# whole groups only: what stands beside it decides the first and the last
		my $code = encode_base64('x' x $before . $word, '');
		push @forms, substr($code, $before ? 4 : 0, 4 * int((length($word) - 2) / 3) - 4);
	}
}
my $any = join '|', map { quotemeta } @forms;
my $found = sub { my ($text) = @_; my @hits = $text =~ /(.{0,60}(?:$any).{0,40})/g; return join "\n", splice @hits, 0, 5 };

my $ledger = CrmLedger->new;
my $node = crm_node('secret', conf => "shared_preload_libraries = 'crm, pg_stat_statements, auto_explain'\n");
$node->append_conf('postgresql.conf', <<'CONF');
log_min_messages = debug5
log_statement = all
log_min_duration_statement = 0
log_error_verbosity = verbose
log_duration = on
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
CONF
$node->reload;
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
$sql->('CREATE EXTENSION pg_stat_statements');
my $dir = PostgreSQL::Test::Utils::tempdir();
my $place = "$dir/password";
open my $fh, '>', $place or die;
print $fh "$canary{file}\n";
close $fh;

# ---- entered as docs/dba.md says: by file:, or in a session that is not logged ----
$ENV{PGOPTIONS} = '-c log_statement=none -c log_duration=off -c log_min_duration_statement=-1 -c log_min_error_statement=panic -c auto_explain.log_min_duration=-1';
my ($sms, $mail, $http) = ($ledger->sms_url, $ledger->mail_url, "http://127.0.0.1:$ledger->{http}");
$sql->(<<"SQL");
SELECT crm.add_integration('sms', 'sms_kannel', '$sms', '{"sender": "CEMENT", "retry_ms": 200, "hold_ms": 100}', '$canary{header}');
SELECT crm.add_integration('old', 'sms_kannel', '$sms', '{"sender": "CEMENT", "dialect": "get", "retry_ms": 200, "hold_ms": 100}', '$canary{query}');
SELECT crm.add_integration('mail', 'mail_out', '$mail', '{"sender": "plant\@crm.test", "username": "crm", "starttls": false, "retry_ms": 200, "hold_ms": 100}', '$canary{mail}');
SELECT crm.add_integration('gps', 'gps_wialon', '$http', '{}', '$canary{token}');
SQL
my ($rc, $out, $err) = $node->psql('plant', "SELECT crm.set_secret('none', '$canary{own}')");
like($err, qr/no integration is named/, 'a secret that is set wrongly is an error');
delete $ENV{PGOPTIONS};
$sql->(<<"SQL");
SELECT crm.add_integration('tls', 'sms_kannel', 'https://127.0.0.1:$ledger->{smtp}/', '{"sender": "CEMENT", "retry_ms": 200}', 'file:$place');
-- a kind of the DBA whose take function raises what it was given
CREATE SCHEMA own;
CREATE TABLE own.left (number integer DEFAULT 4);
INSERT INTO own.left DEFAULT VALUES;
CREATE FUNCTION own.next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS \$\$
BEGIN
	UPDATE own.left SET number = number - 1 WHERE number > 0;
	IF FOUND THEN
		RETURN QUERY SELECT 1::bigint, 'GET', (SELECT url FROM crm.integration WHERE id = \$1), NULL::text[], NULL::bytea, 'crm', crm.secret_value(\$1), 5000, NULL::jsonb;
	END IF;
END \$\$;
CREATE FUNCTION own.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS \$\$
BEGIN
	RAISE EXCEPTION 'cannot read %', convert_from(replies[1].body, 'UTF8');
END \$\$;
GRANT USAGE ON SCHEMA own TO crm_courier;
GRANT SELECT, UPDATE ON own.left TO crm_courier;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA own TO crm_courier;
SELECT crm.register_kind('x_own', 'own.next', 'own.take');
SELECT crm.add_integration('own', 'x_own', '$http', '{"poll_ms": 200}', 'file:$place');
SQL
my $route = $sql->(q{SELECT crm.listen(}. PostgreSQL::Test::Cluster::get_free_port() . q{); SELECT crm.add_route('sms', 'dlr', 'crm.sms_kannel_dlr')});
my ($token) = $route =~ m{/h/sms/dlr/(\w+)};
ok($token, 'a route with a token');
$any .= '|' . quotemeta($token) . '|' . unpack('H*', $token);

# ---- work: each of these meets the services that answer thus ----
my ($shown, $round) = ('', 0);
foreach my $how ('echo 401', 'echo 500')
{
	$ledger->behave($how);
	$round++;
	foreach my $integration ('sms', 'old', 'tls')
	{
		$sql->("SELECT crm.send('sms', '+79161234567', 'round $round', integration => '$integration')");
	}
	$sql->("SELECT crm.send('email', 'reader\@client.test', 'round $round', 'About', integration => 'mail')");
	$sql->("SELECT crm.integration_retry(name) FROM crm.integration; UPDATE own.left SET number = 1");
	foreach my $integration ('sms', 'old', 'mail', 'tls', 'gps', 'own')
	{
		($rc, $out, $err) = $node->psql('plant', "SELECT crm.integration_test('$integration')");
		$shown .= "$out\n$err\n";
	}
	$shown .= $sql->(q{SELECT * FROM crm.health; SELECT * FROM crm.workers()});
	for (1 .. 5)
	{
		$shown .= $sql->(q{SELECT query, application_name, backend_type FROM pg_stat_activity});
		sleep 0.05;
	}
}
# cancelled while it waits for the service
$ledger->behave('slow 3');
($rc, $out, $err) = $node->psql('plant', q{SET statement_timeout = '500ms'; SELECT crm.integration_test('old')});
like($err, qr/canceling statement/, 'a test is cancelled');
$shown .= $err;
$ledger->behave('ok');
ok(wait_for(10, sub { $sql->(q{SELECT count(*) > 0 FROM crm.rejected WHERE what ~ 'own.take'}) eq 't' }), 'the take function has failed, and what it was given is kept');

# ---- where it did go ----
my $came = join ' ', map { @$_ } @{ $ledger->entries };
ok($came =~ qr/\Q$canary{header}\E/, 'the services got it: in a header');
ok($came =~ qr/@{[ quotemeta($canary{query} =~ s{([^A-Za-z0-9_.~-])}{sprintf '%%%02X', ord $1}ger) ]}/, 'in a query');
ok($came =~ qr/\Q@{[ encode_base64("\0crm\0$canary{mail}", '') ]}\E/, 'in a login');
ok($came =~ qr/\Q@{[ encode_base64("crm:$canary{file}", '') ]}\E/, 'in a login of HTTP');

# ---- and where not ----
is($found->($shown), '', 'not in what sessions, tests, health and workers show');
is($found->($sql->('SELECT query FROM pg_stat_statements')), '', 'not in pg_stat_statements');
my $relations = $sql->(q{SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace::regnamespace::text IN ('crm', 'crm_bi', 'crm_erp')
	AND c.relkind IN ('r', 'v', 'm') AND c.oid <> 'crm.secret'::regclass ORDER BY 1});
my $everything = $sql->(join ';', map { "SELECT '$_', r::text FROM $_ r" } split /\n/, $relations);
ok($everything =~ /\*\*\*/, 'masked where the services gave it back');
is($found->($everything), '', 'not in any table or view but crm.secret');
($rc, $out, $err) = $node->psql('plant', 'SET ROLE crm_director; SELECT * FROM crm.secret');
like($err, qr/permission denied/, 'which nobody but the couriers reads');
my ($dump, $errors) = run_command([ 'pg_dump', '-d', $node->connstr('plant') ]);
like($dump, qr/round 1/, 'a dump holds what it should');
is($found->($dump), '', 'and no secret');
my $processes = '';
foreach my $pid (split /\n/, $sql->('SELECT pid FROM pg_stat_activity'))
{
	foreach my $what ('cmdline', 'environ')
	{
		open my $proc, '<', "/proc/$pid/$what" or next;
		local $/;
		$processes .= (<$proc> // '') . "\n";
	}
}
is($found->($processes), '', 'not in the title or the environment of a process');

# ---- the data directory: the table itself and the log of its changes ----
my %may = map { $_ => 1 } split /\n/, $sql->(q{SELECT pg_relation_filepath('crm.secret') UNION ALL
	SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = 'crm.secret'::regclass});
$node->stop('fast');
my $data = $node->data_dir;
open my $patterns, '>', "$dir/patterns" or die;
print $patterns "$_\n" foreach @forms, $token;
close $patterns;
my @hits = grep { !$may{$_} && !m{^pg_wal/} } map { s{^\./}{}r } split /\n/, `cd $data && grep -rlaF -f $dir/patterns . 2>/dev/null`;
is("@hits", '', 'not in a file of the data directory but that of the table');
is(`cd $data && grep -rlaF '$canary{file}' . 2>/dev/null`, '', 'a secret in a file is nowhere in it at all');
is(`find $data -name 'core*' -type f -size +100k`, '', 'no core file');
my $log = slurp_file($node->logfile);
like($log, qr/auto_explain|Query Text/, 'the log holds plans');
is($found->($log), '', 'not in the log');
done_testing();
