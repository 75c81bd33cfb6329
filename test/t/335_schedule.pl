# The courier runs planned moments within two seconds of their time, each once, though it is killed again and again; what a
# commit made due is run as soon. So are digests and urgent requests to carriers: no fact is told twice or forgotten, no carrier
# asked twice or passed over.
# claim 52 (reminders at their hour), claim 55 (the next carrier after so many minutes)
# alone: it measures how long things take
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $node = crm_node('schedule', conf => "restart_after_crash = on\n");
my $sql = sub { return $node->safe_psql('plant', $_[0]) };
$sql->(<<'SQL');
CREATE TABLE public.done (schedule_id bigint, planned_at timestamptz, at timestamptz DEFAULT crm.clock());
CREATE FUNCTION public.note(schedule_id bigint, planned_at timestamptz) RETURNS void LANGUAGE sql AS 'INSERT INTO public.done VALUES ($1, $2)';
GRANT INSERT ON public.done TO crm_courier;
GRANT EXECUTE ON FUNCTION public.note TO crm_courier;
SELECT crm.register_schedule_action('note', 'public.note');
SQL

# a minute of the business clock is a second: every five minutes is every five seconds
$sql->(q{SELECT crm.set_now('2026-11-24 09:00:30Z', 60)});
$sql->(q{SELECT crm.add_schedule('five', 'note', 'FREQ=MINUTELY;INTERVAL=5', '2026-11-24 00:00Z', 'Europe/Moscow')});
ok(wait_for(40, sub { $sql->('SELECT count(*) FROM public.done') >= 4 }), 'it runs');
my $late = $sql->('SELECT max(extract(epoch FROM at - planned_at)) / 60 FROM public.done');
cmp_ok($late, '<', 2, "at most $late s late");

# ---- killed while it works ----
# beside the planned moments: two requests that nobody answers, six carriers each for three minutes, and facts that are told in digests of three
$sql->(<<'SQL');
CREATE FUNCTION public.nothing(integration_id bigint, capacity integer) RETURNS SETOF crm.request LANGUAGE sql AS 'SELECT NULL::crm.request WHERE false';
CREATE FUNCTION public.ignore(integration_id bigint, replies crm.reply[]) RETURNS void LANGUAGE sql AS '';
GRANT EXECUTE ON FUNCTION public.nothing, public.ignore TO crm_courier;
SELECT crm.register_kind('x_paper', 'public.nothing', 'public.ignore', channel => 'sms');
SELECT crm.add_integration('paper', 'x_paper', 'http://127.0.0.1:9/', '{"sender": "CEMENT"}');
INSERT INTO crm.company (id, name, is_carrier) SELECT i, 'C' || i, i > 1 FROM generate_series(1, 7) i;
INSERT INTO crm.contact (id, company_id, name) SELECT i, i, 'Reader' FROM generate_series(1, 7) i;
INSERT INTO crm.contact_point (contact_id, kind, value) SELECT i, 'phone', '+7916000000' || i FROM generate_series(1, 7) i;
INSERT INTO crm.customer_order (id, number, company_id, product, tonnes) SELECT i, 'N-' || i, 1, 'cement', 20 FROM generate_series(1, 2) i;
SELECT crm.register_event_kind('thing.done', 'thing', ARRAY['number'], 'A thing was done', 'Дело сделано');
INSERT INTO crm.template (code, channel, language, body) VALUES ('done', 'sms', 'ru', 'Дело {{number}}');
INSERT INTO crm.rule (code, event_kind, audience, channel, template, digest) VALUES ('done', 'thing.done', 'company_contacts', 'sms', 'done', '3 minutes');
SELECT crm.request_carriers(i, ARRAY[2, 3, 4, 5, 6, 7], 3) FROM generate_series(1, 2) i;
SQL
my $facts = 0;
for my $round (1 .. 4)
{
	$sql->(qq{INSERT INTO crm.event (kind, object_kind, object_id, company_id, data) SELECT 'thing.done', 'thing', $facts + i, 1, jsonb_build_object('number', i) FROM generate_series(1, 3) i});
	$facts += 3;
	my $runs = $sql->('SELECT count(*) FROM public.done');
	my $pid = $sql->(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier'});
	sleep 1 + rand 5;
	kill 'KILL', $pid if $pid;
	ok(wait_for(60, sub { my ($rc, $out) = $node->psql('plant', 'SELECT count(*) FROM public.done'); defined $rc && $rc == 0 && $out > $runs }), "killed $round: it goes on");
}
$sql->(q{SELECT crm.switch_schedule('five', false)});
sleep 1;
is($sql->('SELECT count(*) - count(DISTINCT planned_at) FROM public.done'), '0', 'no moment ran twice');
is($sql->(q{SELECT count(*) FROM crm.schedule_run r FULL JOIN public.done d USING (schedule_id, planned_at) WHERE (r.result = 'ran') IS DISTINCT FROM (d.at IS NOT NULL)}), '0', 'what is noted as run did run, and the other way round');
is($sql->(q{SELECT count(*) FROM (SELECT min(planned_at) AS a, max(planned_at) AS z FROM crm.schedule_run) b, generate_series(a, z, '5 min') g WHERE NOT EXISTS (SELECT FROM crm.schedule_run r WHERE r.planned_at = g)}), '0', 'no moment is unaccounted for');

# ---- what was told meanwhile ----
ok(wait_for(40, sub { $sql->("SELECT count(*) FROM crm.carrier_request WHERE state = 'expired'") == 2 }), 'both requests have expired');
ok(wait_for(20, sub { $sql->('SELECT count(*) FROM crm.digest_item WHERE ended_at IS NULL') == 0 }), 'every fact has an end');
is($sql->(q{SELECT count(*) || ' ' || count(DISTINCT object_id) || ' ' || count(*) FILTER (WHERE EXISTS (SELECT FROM crm.carrier_offer f WHERE f.id = object_id AND f.answer = 'expired')) FROM crm.event WHERE kind = 'carrier_request.asked'}),
	'12 12 12', 'each of six carriers was asked once');
is($sql->(q{SELECT count(*) FROM crm.carrier_offer a JOIN crm.carrier_offer b ON b.request_id = a.request_id AND b.rank = a.rank + 1 WHERE b.sent_at < a.deadline_at}), '0', 'none before the time of the one before was up');
is($sql->(q{SELECT count(*) || ' ' || count(DISTINCT object_id) FROM crm.message WHERE rule = 'carrier_request.asked'}), '12 12', 'by one message each');
is($sql->(q{SELECT count(*) || ' ' || count(DISTINCT event_id) || ' ' || count(message_id) || ' ' || count(words) FROM crm.digest_item}), "$facts $facts $facts 0", 'each fact was told once');
is($sql->(q{SELECT count(*) FROM crm.message m WHERE m.rule = 'done' AND NOT EXISTS (SELECT FROM crm.digest_item i WHERE i.message_id = m.id)}), '0', 'and no digest without facts');

# ---- a commit brings something that is due at once ----
$sql->(q{SELECT crm.set_now('2026-11-25 09:00Z', 1)});
$sql->('TRUNCATE public.done');
$sql->(q{SELECT crm.add_schedule('soon', 'note', 'FREQ=DAILY', crm.now() + interval '2 seconds', 'Europe/Moscow')});
ok(wait_for(10, sub { $sql->('SELECT count(*) FROM public.done') == 1 }), 'a moment two seconds ahead is met');
cmp_ok($sql->('SELECT extract(epoch FROM at - planned_at) FROM public.done'), '<', 2.5, 'in time');

# ---- the idle courier rests ----
$sql->(q{SELECT crm.switch_schedule('soon', false)});
sleep 2;
my $before = $sql->('SELECT sum(calls) FROM (SELECT xact_commit AS calls FROM pg_stat_database WHERE datname = current_database()) x');
sleep 12;
my $after = $sql->('SELECT sum(calls) FROM (SELECT xact_commit AS calls FROM pg_stat_database WHERE datname = current_database()) x');
cmp_ok($after - $before, '<', 30, 'a dozen seconds without work take ' . ($after - $before) . ' transactions');

$node->stop;
done_testing();
