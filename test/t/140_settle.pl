# A settle that fails is tried again, the send never: a lock that lasts, a take function that fails for one
# reply (rejected, the others settled), for all replies of one integration (the other one is not held up),
# and one that never ends (cancelled by the courier's own limit).
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $sink = CrmSink->new(delay => 5);
my $node = crm_node('settle');
$sink->kind($node);
$sink->integration($node, 'sink', '{"max_in_flight": 16}');
$sink->integration($node, 'other', '{"max_in_flight": 16}');
ok($sink->courier_up($node), 'the courier runs');

# ---- one culprit among many ----
$node->safe_psql('plant', <<'SQL');
CREATE TABLE plain.fault (ref bigint, words text);
GRANT SELECT ON plain.fault TO crm_courier, crm_owner;
CREATE FUNCTION plain.check_fault() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.state IN ('sent', 'failed') AND EXISTS (SELECT FROM plain.fault f WHERE f.ref = NEW.id) THEN
		RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = format('reply to %s cannot be read', NEW.id);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER check_fault BEFORE UPDATE ON plain.queue FOR EACH ROW EXECUTE FUNCTION plain.check_fault();
INSERT INTO plain.fault VALUES (37), (90);
INSERT INTO plain.queue (body) SELECT 'x' FROM generate_series(1, 100); -- ids 1 to 100
SQL
ok(wait_for(20, sub { $sink->states($node) eq 'sending 2, sent 98' }), 'all but the culprits are settled') or diag $sink->states($node);
is($node->safe_psql('plant', q{SELECT count(*), bool_and(r.sqlstate = '22P02') FROM crm.rejected r JOIN crm.integration i ON i.id = r.integration_id WHERE i.name = 'sink'}),
	'2|t', 'the culprits are in crm.rejected') or diag $node->safe_psql('plant', 'SELECT * FROM crm.rejected');
$node->safe_psql('plant', q{DELETE FROM plain.fault; UPDATE plain.queue SET state = 'sent'});

# ---- a lock that lasts longer than the lock time-out ----
my $locker = $node->background_psql('plant');
$node->safe_psql('plant', q{INSERT INTO plain.queue (path, body) SELECT '/slow', 'x' FROM generate_series(1, 50)});
sleep 0.3;
$locker->query_safe('BEGIN');
$locker->query_safe('LOCK TABLE plain.queue IN ACCESS EXCLUSIVE MODE');
sleep($ENV{CRM_SOAK} ? 30 : 4);
$locker->query_safe('COMMIT');
$locker->quit;
ok($sink->settled($node, 30), 'after the lock everything is settled');
is($sink->states($node), 'sent 150', 'as sent');
is(scalar(grep { $_ > 1 } values %{ $sink->ledger }), 0, 'and nothing was sent twice');

# ---- and while it lasts, answers that come in time are not counted as late ----
my $late = CrmSink->new(delay => 1200);
$late->integration($node, 'late', '{"max_in_flight": 16}');
$node->safe_psql('plant', q{DELETE FROM plain.queue});
$locker = $node->background_psql('plant');
$node->safe_psql('plant', <<'SQL');
INSERT INTO plain.queue (sink, path, body, timeout) SELECT 'late', '/slow', 'x', 3000 FROM generate_series(1, 16);
INSERT INTO plain.queue (sink, path, body) SELECT 'sink', '/', 'x' FROM generate_series(1, 16);
SQL
$locker->query_safe('BEGIN');
$locker->query_safe('LOCK TABLE plain.queue IN SHARE MODE');
sleep 5;
$locker->query_safe('COMMIT');
$locker->quit;
ok($sink->settled($node, 30), 'all are settled');
is($sink->states($node), 'sent 32', 'as sent') or diag $node->safe_psql('plant', 'SELECT sink, state, words, count(*) FROM plain.queue GROUP BY 1, 2, 3');
$node->safe_psql('plant', q{DELETE FROM plain.queue; UPDATE crm.integration SET enabled = false WHERE name = 'late'});

# ---- one integration's settles fail for want of resources, the other goes on ----
$node->safe_psql('plant', <<'SQL');
CREATE OR REPLACE FUNCTION plain.check_fault() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.state = 'sent' AND NEW.sink = 'sink' AND EXISTS (SELECT FROM plain.fault f) THEN
		RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'disk full, they say';
	END IF;
	RETURN NEW;
END $$;
INSERT INTO plain.fault VALUES (0);
INSERT INTO plain.queue (sink, body) SELECT 'sink', 'x' FROM generate_series(1, 20);
INSERT INTO plain.queue (sink, body) SELECT 'other', 'x' FROM generate_series(1, 200);
SQL
ok(wait_for(15, sub { $node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE sink = 'other' AND state = 'sent'}) == 200 }),
	'the other integration is not held up');
is($node->safe_psql('plant', q{SELECT detail ~ 'cannot be settled \(53100\)' FROM crm.workers() WHERE kind = 'courier'}), 't', 'crm.workers() says what is wrong');
is($node->safe_psql('plant', q{SELECT count(*) > 0 FROM crm.health WHERE message ~ '53100'}), 't', 'and crm.health');
$node->safe_psql('plant', 'DELETE FROM plain.fault');
ok($sink->settled($node, 30), 'when the cause is gone the replies are settled');
is($node->safe_psql('plant', q{SELECT count(*) FROM plain.queue WHERE sink = 'sink' AND state <> 'sent'}), '0', 'as sent');
is(scalar(grep { $_ > 1 } values %{ $sink->ledger }), 0, 'and nothing was sent twice');
is($node->safe_psql('plant', q{SELECT count(*) FROM crm.rejected r WHERE r.sqlstate = '53100'}), '0', 'nothing was rejected for it');

$node->stop('fast');
my $lines = () = slurp_file($node->logfile) =~ /transaction failed with/g;
cmp_ok($lines, '<', 20, "the log stays short: $lines lines");
done_testing();
