# Recurrence rules are counted as an independent reader (Python's dateutil) counts them, on both sides of the days on
# which the clocks change. CRM_RRULE_ROUNDS rules (400), made from CRM_SEED.
# claim 52 (a schedule of the contact's own, in its zone)
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = crm_node('rrule', activate => undef);
my $seed = $ENV{CRM_SEED} // 1;
my $rounds = $ENV{CRM_RRULE_ROUNDS} // 400;
my $oracle = tree() . '/test/t/lib/rrule_oracle.py';
my $folder = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $folder;

my ($cases, $theirs) = ('', '');
ok(IPC::Run::run([ 'python3', $oracle, 'make', $seed, $rounds ], '>', \$cases), "rules from seed $seed");
append_to_file("$folder/cases", $cases);
ok(IPC::Run::run([ 'python3', $oracle, 'answer', "$folder/cases" ], '>', \$theirs), 'the independent reader counts');

my $ours = $node->safe_psql('plant', <<"SQL");
CREATE TABLE public.c (n serial, rule text, starts timestamptz, zone text, after timestamptz);
COPY public.c (rule, starts, zone, after) FROM '$folder/cases';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SELECT crm.rrule_next(rule, starts, zone, after) FROM public.c ORDER BY n;
SQL
my @cases = split /\n/, $cases;
my @theirs = split /\n/, $theirs, -1;
my @ours = split /\n/, "$ours\n", -1;
my $none = 0;
my @bad;
for my $i (0 .. $#cases)
{
	$none++ if $theirs[$i] eq '';
	push @bad, "$cases[$i]\n  theirs: $theirs[$i]\n  ours:   $ours[$i]" if $theirs[$i] ne $ours[$i];
}
is(scalar @bad, 0, "$rounds rules, of which $none have ended") or diag(join("\n", @bad[0 .. ($#bad < 9 ? $#bad : 9)]));
cmp_ok($none, '<', $rounds / 2, 'most of them come');

# a step a moment: what was found is where the next is asked from
is($node->safe_psql('plant', <<'SQL'), 't', 'a year in steps and the year counted by hand');
WITH RECURSIVE w AS (
	SELECT crm.rrule_next('FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=10;BYMINUTE=0', '2026-01-01 00:00Z', 'Europe/Berlin', '2026-01-01 00:00Z') AS at
	UNION ALL
	SELECT crm.rrule_next('FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=10;BYMINUTE=0', '2026-01-01 00:00Z', 'Europe/Berlin', at) FROM w WHERE at < '2027-01-01'
), h AS (
	SELECT (g + time '10:00') AT TIME ZONE 'Europe/Berlin' AS at
	FROM generate_series(timestamp '2026-01-01', '2026-12-31', '1 day') g WHERE extract(isodow FROM g) IN (1, 4)
)
SELECT (SELECT array_agg(at ORDER BY at) FROM w WHERE at < '2026-12-31 23:00Z') = (SELECT array_agg(at ORDER BY at) FROM h)
SQL

$node->stop;
done_testing();
