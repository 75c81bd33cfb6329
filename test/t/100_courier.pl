# A courier carries what a commit queued, at once; what was rolled back never; what a server does wrong ends
# as the words that rules rely on; nothing is sent to where it must not go; while bytes move there is no
# transaction.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new(delay => 1500);
my $node = crm_node('courier', conf => "max_prepared_transactions = 2\n");
$sink->kind($node);
$sink->integration($node, 'sink');
ok($sink->courier_up($node), 'an activated database has a courier');
$node->safe_psql('plant', 'ALTER DATABASE plant SET synchronous_commit = off');

# ---- wake at commit ----
sleep 1;
my $started = time;
$node->safe_psql('plant', q{INSERT INTO plain.queue (body) VALUES ('one')});
ok($sink->settled($node, 5), 'a commit wakes the courier');
cmp_ok(time - $started, '<', 2, 'at once and not by a time-out');
is($sink->states($node), 'sent 1', 'it was sent');
$node->safe_psql('plant', <<'SQL');
BEGIN; INSERT INTO plain.queue (body) VALUES ('rolled back'); ROLLBACK;
BEGIN; INSERT INTO plain.queue (body) VALUES ('kept'); SAVEPOINT a; INSERT INTO plain.queue (body) VALUES ('gone'); ROLLBACK TO a; COMMIT;
SQL
ok($sink->settled($node, 5));
is($sink->states($node), 'sent 2', 'what was rolled back was not sent');
is(scalar(keys %{ $sink->ledger }), 2, 'and the server has seen two');

# ---- what a server may do ----
my @cases = (
	# integration, path, state, words
	[ 'close', '/close', 'uncertain', qr/^broken: /, 'a connection closed without a reply' ],
	[ 'half', '/half', 'uncertain', qr/^broken: /, 'half a reply' ],
	[ 'big', '/big', 'uncertain', qr/^too large: the reply exceeds 1048576 bytes/, '20 MB where 1 MB is the bound' ],
	[ 'hang', '/hang', 'uncertain', qr/^timeout: no whole reply within 700 ms/, 'no reply at all' ],
	[ 'fine', '/', 'sent', qr/^200$/, 'and another integration is not disturbed' ],
);
foreach my $case (@cases)
{
	my ($name, $path, $state, $words, $what) = @$case;
	$sink->integration($node, $name, '{"max_reply_bytes": 1048576}');
}
$node->safe_psql('plant', join ';', map { "INSERT INTO plain.queue (sink, path, body, timeout) VALUES ('$_->[0]', '$_->[1]', 'x', 700)" } @cases);
ok($sink->settled($node, 20), 'all of them end');
foreach my $case (@cases)
{
	my ($name, $path, $state, $words, $what) = @$case;
	my $row = $node->safe_psql('plant', "SELECT state, words FROM plain.queue WHERE sink = '$name'");
	my ($is, $said) = split /\|/, $row, 2;
	is($is, $state, "$what: $state");
	like($said, $words, "$what: the words");
}
my $twice = grep { $_ > 1 } values %{ $sink->ledger };
is($twice, 0, 'nothing came twice, also where a kept connection broke');

# ---- where nothing may go ----
my $port = $sink->{port};
my @places = (
	[ 'closed', 'http://127.0.0.1:1', '{}', qr/^connect: / ],
	[ 'noname', 'http://no-such-host.invalid', '{}', qr/^resolve: / ],
	[ 'listed', "http://127.0.0.1:$port", '{"allow_hosts": ["192.0.2.0/24", "localhost"]}', qr/^refused: address 127\.0\.0\.1/ ],
	[ 'named', "http://localhost:$port", '{"allow_hosts": ["localhost"]}', qr/^refused: address (127\.0\.0\.1|::1)/ ],
	[ 'metadata', 'http://169.254.169.254', '{}', qr/^refused: address 169\.254\.169\.254/ ],
	[ 'mapped', 'http://[::ffff:169.254.169.254]', '{}', qr/^refused: address/ ],
	[ 'decimal', 'http://2852039166', '{}', qr/^refused: address 169\.254\.169\.254/ ],
	[ 'tls', "https://127.0.0.1:$port", '{}', qr/^tls: / ],
);
foreach my $place (@places)
{
	my ($name, $url, $settings) = @$place;
	$node->safe_psql('plant', "SELECT crm.add_integration('$name', 'x_plain_http', '$url', '$settings')");
}
my $before = keys %{ $sink->ledger };
$node->safe_psql('plant', join ';', map { "INSERT INTO plain.queue (sink, body, timeout) VALUES ('$_->[0]', 'x', 3000)" } @places);
foreach my $place (@places)
{
	my ($name, $url, $settings, $words) = @$place;
	my $said = '';
	wait_for(15, sub { ($said = $node->safe_psql('plant', "SELECT words FROM plain.queue WHERE sink = '$name'")) ne '' });
	like($said, $words, "$url is refused in words");
	# it is tried again and again, and each time it is known not to have left
	ok(wait_for(15, sub { $node->safe_psql('plant', "SELECT state FROM plain.queue WHERE sink = '$name'") eq 'queued' }), 'and nothing had left');
}
is(scalar(keys %{ $sink->ledger }), $before, 'no request came to the sink');
$node->safe_psql('plant', q{UPDATE crm.integration SET enabled = false WHERE name NOT IN ('sink', 'fine')});
$node->safe_psql('plant', q{DELETE FROM plain.queue});

# what a kind must not be able to write into a request
$node->safe_psql('plant', <<'SQL');
CREATE FUNCTION plain.bad_next(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	UPDATE plain.queue SET state = 'sending' WHERE sink = 'bad' AND state = 'queued'
	RETURNING id, 'POST', (SELECT url FROM crm.integration WHERE id = $1) || path, ARRAY[body], '\x'::bytea, NULL::text, NULL::text, 2000, NULL::jsonb
$$;
GRANT EXECUTE ON FUNCTION plain.bad_next(bigint, integer) TO crm_courier;
SELECT crm.register_kind('x_plain_bad', 'plain.bad_next', 'plain.take', channel => 'plain');
SQL
$node->safe_psql('plant', "SELECT crm.add_integration('bad', 'x_plain_bad', '" . $sink->url . "')");
$before = keys %{ $sink->ledger };
$node->safe_psql('plant', q{INSERT INTO plain.queue (sink, path, body) VALUES ('bad', '/', E'X: 1\r\nY: 2'), ('bad', '/ HTTP/1.1', 'X: 1'), ('bad', E'/\r\nX:', 'X: 1')});
ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE sink = 'bad' AND words LIKE 'refused:%'}) == 3 }),
	'a header or an address with a line end is refused') or diag $node->safe_psql('plant', q{SELECT * FROM plain.queue});
is(scalar(keys %{ $sink->ledger }), $before, 'and did not leave');
$node->safe_psql('plant', q{UPDATE crm.integration SET enabled = false WHERE name = 'bad'; DELETE FROM plain.queue});

# ---- while it waits ----
$node->safe_psql('plant', q{INSERT INTO plain.queue (path, body, timeout) SELECT '/slow', 'x', 20000 FROM generate_series(1, 20)});
sleep 0.7;
# between two looks at its clock, which are transactions
ok(wait_for(5, sub { $node->safe_psql('plant', <<'SQL') eq 't|t|t|t' }), 'no transaction, no snapshot, no lock, constant words');
SELECT backend_xmin IS NULL, xact_start IS NULL, query IN ('claim', 'settle', 'maintain', 'due', 'start') AND application_name = '',
	NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid)
FROM pg_stat_activity a WHERE backend_type = 'crm courier'
SQL
ok(wait_for(5, sub { $node->safe_psql('plant', q{SELECT in_flight > 0 AND state = 'busy' FROM crm.workers() WHERE kind = 'courier'}) eq 't' }), 'crm.workers() shows it');
ok($sink->settled($node, 20), 'slow answers arrive');
is($sink->states($node), 'sent 20');

# ---- two-phase commit: the fall-back time-out or the next wake-up ----
$node->safe_psql('plant', q{BEGIN; INSERT INTO plain.queue (body) VALUES ('prepared'); PREPARE TRANSACTION 'p'});
$node->safe_psql('plant', q{COMMIT PREPARED 'p'});
$node->safe_psql('plant', q{SELECT crm.wake()});
ok($sink->settled($node, 10), 'a prepared transaction is sent after the next wake-up at the latest');

# ---- durable, whatever the database says ----
$node->safe_psql('plant', <<'SQL');
CREATE TABLE plain.seen (setting text);
GRANT INSERT ON plain.seen TO crm_courier;
CREATE OR REPLACE FUNCTION plain.take(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO plain.seen VALUES (current_setting('synchronous_commit'));
	PERFORM set_config('synchronous_commit', 'off', false);
	UPDATE plain.queue SET state = 'sent' WHERE state = 'sending';
END $$;
SQL
$node->restart;
ok($sink->courier_up($node), 'the courier is back after a restart');
foreach my $i (1 .. 2)
{
	$node->safe_psql('plant', q{INSERT INTO plain.queue (body) VALUES ('durable')});
	ok($sink->settled($node, 10));
}
is($node->safe_psql('plant', 'SELECT DISTINCT setting FROM plain.seen'), 'on', 'synchronous_commit is on in the courier');

$node->stop('fast');
done_testing();
