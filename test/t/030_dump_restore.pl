# A dump restores to the same rows, fires no effect, carries no secret and sends nothing; a rule that was
# edited and switched stands; after crm.activate() the copy works. Tried serial, parallel, from a folder, as a
# script, by an owner who is no superuser, and, where it must fail, into a database that was activated.
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $canary = 'canary-7f3a9c1e5b2d4860-secret';
my $node = crm_node('dump', conf => "max_connections = 50");
my $plant = slurp_file(tree() . '/test/data/plant.sql');
# A gateway that nobody answers at: the messages stay in the queue.
$node->safe_psql('plant', "SELECT crm.add_integration('sms', 'sms_kannel', 'http://127.0.0.1:1/cgi-bin/sendsms', '{\"sender\": \"CEMENT\", \"username\": \"crm\"}', '$canary')");
$node->safe_psql('plant', $plant);
$node->safe_psql('plant', "UPDATE crm.rule SET switched = false WHERE code = 'trip.departed'");
$node->safe_psql('plant', "UPDATE crm.template SET body = 'Отгружено {{tonnes}} т, заказ {{order_number}}' WHERE code = 'shipment.loaded' AND channel = 'sms' AND language = 'ru'");
my $messages = $node->safe_psql('plant', 'SELECT count(*) FROM crm.message');
is($messages, '2', 'two messages are due');
# One that has ended long ago lies in its history.
$node->safe_psql('plant', <<'SQL');
INSERT INTO crm.message_body (integration_id, channel, recipient, body, language, queued_at) SELECT id, 'sms', '+79161234567', 'old', 'ru', crm.now() - interval '3 hours' FROM crm.integration;
INSERT INTO crm.message_result (message_id, state, at) SELECT id, 'cancelled', crm.now() - interval '2 hours' FROM crm.message_body WHERE body = 'old';
SELECT crm.set_retention('message.ended', '1 hour');
SELECT crm.message_move();
SQL
is($node->safe_psql('plant', "SELECT m.body, m.state FROM crm.message m JOIN crm.message_history h USING (id)"), 'old|cancelled', 'and one is in its history');
# What the courier is about to write must not come between the dump and the comparison.
$node->safe_psql('plant', "ALTER SYSTEM SET crm.mode = 'off'; SELECT pg_reload_conf()");
sleep 2;

# A checksum of every table of ours that a dump carries whole.
my $sums = <<'SQL';
DO $$
DECLARE
	t record;
	s text;
BEGIN
	CREATE TEMP TABLE sums (name text, rows bigint, sum text);
	FOR t IN
		SELECT c.oid::regclass AS name FROM pg_class c
		WHERE c.relnamespace = 'crm'::regnamespace AND (c.relkind = 'p' OR c.relkind = 'r' AND NOT c.relispartition)
			AND NOT EXISTS (SELECT FROM crm.dump_rule r WHERE r.table_name = c.oid::regclass::text AND r.condition IS NULL)
		ORDER BY 1
	LOOP
		EXECUTE format('INSERT INTO sums SELECT %L, count(*), md5(string_agg(r.*::text, E''\n'' ORDER BY r.*::text COLLATE "C")) FROM %s r', t.name, t.name);
	END LOOP;
END
$$;
SELECT name, rows, sum FROM sums ORDER BY name;
SQL
my $before = $node->safe_psql('plant', $sums);
like($before, qr/crm\.event\|[1-9]/, 'there are events to carry');
cmp_ok(scalar(() = $before =~ /\n/g), '>', 20, 'and many tables to compare');

my $dir = $node->basedir;
my $from = $node->connstr('plant');
command_ok([ 'pg_dump', '-Fc', '-f', "$dir/plant.dump", '-d', $from ], 'pg_dump -Fc');
command_ok([ 'pg_dump', '-Fd', '-j', '4', '-f', "$dir/plant.dir", '-d', $from ], 'pg_dump -Fd -j 4');
my ($stdout, $stderr) = run_command([ 'pg_dump', '-f', "$dir/plant.sql", '-d', $from ]);
is($stderr, '', 'pg_dump warns of nothing');
my $text = slurp_file("$dir/plant.sql");
unlike($text, qr/\Q$canary\E/, 'no secret in the dump');
unlike($text, qr/COPY crm\.activation /, 'no activation in the dump');

my $log_start = -s $node->logfile;
sub check_copy
{
	my ($name) = @_;
	is($node->safe_psql($name, 'SELECT crm.mode(), crm.guard()'), 'off|f', "$name: off until a person activates");
	is($node->safe_psql($name, $sums), $before, "$name: the same rows, and none more");
	is($node->safe_psql($name, <<'SQL'), '', "$name: sequences go on above what is there");
SELECT s.name FROM (
	SELECT pg_get_serial_sequence(a.attrelid::regclass::text, a.attname) AS seq, a.attrelid::regclass::text AS name, a.attname
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r' AND c.relnamespace = 'crm'::regnamespace
	WHERE a.attidentity <> '' AND NOT EXISTS (SELECT FROM crm.dump_rule r WHERE r.table_name = a.attrelid::regclass::text)
) s
WHERE (xpath('/row/m/text()', query_to_xml(format('SELECT max(%I) AS m FROM %s', s.attname, s.name), false, true, '')))[1]::text::bigint
	> coalesce(pg_sequence_last_value(s.seq::regclass), 0)
SQL
}
sub restored
{
	my ($name, @how) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	my ($out, $err) = run_command([ @how ]);
	is($err, '', "$name: restored without a word");
	check_copy($name);
}
restored('serial', 'pg_restore', '-d', $node->connstr('serial'), "$dir/plant.dump");
restored('parallel', 'pg_restore', '-j', '4', '-d', $node->connstr('parallel'), "$dir/plant.dump");
restored('folder', 'pg_restore', '-j', '4', '-d', $node->connstr('folder'), "$dir/plant.dir");
restored('script', 'psql', '-X', '-q', '-o', '/dev/null', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('script'), '-f', "$dir/plant.sql");

# Nothing was sent and no courier came to the copies.
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'crm courier' AND datname <> 'plant'"), '0', 'no courier in a copy');

# The copy works once a person says so.
$node->safe_psql('postgres', "ALTER SYSTEM RESET crm.mode; SELECT pg_reload_conf()");
sleep 1;
is($node->safe_psql('parallel', 'SELECT crm.activate()'), 'live', 'the copy is activated');
is($node->safe_psql('parallel', "SELECT state FROM crm.message WHERE body = 'old'"), 'cancelled', 'it shows the history');
is($node->safe_psql('parallel', "SELECT keep FROM crm.retention WHERE what = 'message.ended'"), '01:00:00', 'and keeps what the DBA chose');
is($node->safe_psql('parallel', "SELECT switched FROM crm.rule WHERE code = 'trip.departed'"), 'f', 'the switch stands');
is($node->safe_psql('parallel', "SELECT body FROM crm.template WHERE code = 'shipment.loaded' AND channel = 'sms' AND language = 'ru'"),
	'Отгружено {{tonnes}} т, заказ {{order_number}}', 'the edited text stands');
is($node->safe_psql('parallel', "SELECT bool_and(convalidated) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'crm'::regnamespace"), 't', 'foreign keys are there and hold');
$node->safe_psql('parallel', "SELECT * FROM crm_erp.put_shipment('S3', 'O1', 'А123ВС77', '14200', '40000', waybill => 'ТТН-3')");
is($node->safe_psql('parallel', 'SELECT count(*) FROM crm.message'), '4', 'a new fact has its message');
is($node->safe_psql('parallel', "SELECT body FROM crm.message ORDER BY id DESC LIMIT 1"), 'Отгружено 25.8 т, заказ З-15', 'by the edited text');

# A restore that is not whole is refused, with the rows.
$node->safe_psql('serial', 'DELETE FROM crm.company WHERE source_id = $$C2$$');
my ($rc, $out, $err) = $node->psql('serial', 'SELECT crm.activate()');
like($err, qr/rows refer to rows that are not there/, 'activate() refuses a copy with holes');
like($err, qr/crm\.contact\.company_id names 2 that crm\.company does not have/, 'and names them');

# Into a database that was activated a restore is loud.
$node->safe_psql('postgres', 'CREATE DATABASE busy');
$node->safe_psql('busy', 'CREATE EXTENSION crm CASCADE');
$node->safe_psql('busy', 'SELECT crm.activate()');
($out, $err) = run_command([ 'pg_restore', '-d', $node->connstr('busy'), "$dir/plant.dump" ]);
like($err, qr/error/i, 'a restore into an activated database is loud');

# An owner who is no superuser: a superuser makes the extension and grants him crm_owner.
$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN; CREATE DATABASE kept OWNER keeper');
$node->safe_psql('kept', 'CREATE EXTENSION crm CASCADE; GRANT crm_owner TO keeper');
$node->safe_psql('plant', 'GRANT USAGE ON SCHEMA public TO keeper');
# the courier was at work meanwhile, and is stopped again
$node->safe_psql('postgres', "ALTER SYSTEM SET crm.mode = 'off'; SELECT pg_reload_conf()");
ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT crm.mode() = 'off' AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'crm courier' AND state = 'active')}) eq 't' }), 'nothing moves');
$before = $node->safe_psql('plant', $sums);
($out, $err) = run_command([ 'pg_dump', '-Fc', '-e', 'crm', '--no-comments', '-U', 'keeper', '-f', "$dir/keeper.dump", '-d', $from ]);
is($err, '', 'he dumps');
($out, $err) = run_command([ 'pg_restore', '--no-comments', '-U', 'keeper', '-d', $node->connstr('kept'), "$dir/keeper.dump" ]);
is($err, '', 'he restores');
is($node->safe_psql('kept', $sums), $before, 'the same rows');
$node->safe_psql('postgres', "ALTER SYSTEM RESET crm.mode; SELECT pg_reload_conf()");

$node->stop;
done_testing();
