# The courier runs planned moments within two seconds of their time, each once, though it is killed again and again; what a
# commit made due is run as soon.
# claim 52 (reminders at their hour)
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
for my $round (1 .. 4)
{
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
