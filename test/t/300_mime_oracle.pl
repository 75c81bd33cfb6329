# Letters that crm.mime_build makes are read by an independent reader (Python's email package): every header, body,
# attachment's name and octet comes back, with names in Cyrillic, long subjects, odd addresses.
# CRM_MIME_ROUNDS letters (100), made from CRM_SEED.
# claim 59 (attachments with Cyrillic names)
# claim 62 (text and html)
use strict;
use warnings;
use CrmTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = crm_node('mime', activate => undef);
my $seed = $ENV{CRM_SEED} // 1;
my $rounds = $ENV{CRM_MIME_ROUNDS} // 100;
my $oracle = tree() . '/test/t/lib/mime_oracle.py';
my $folder = PostgreSQL::Test::Utils::tempdir();
chmod 0755, $folder;

my ($cases, $report) = ('', '');
ok(IPC::Run::run([ 'python3', $oracle, 'make', $seed, $rounds ], '>', \$cases), "cases from seed $seed");
append_to_file("$folder/cases.json", $cases);

my $letters = $node->safe_psql('plant', <<"SQL");
SELECT encode(crm.mime_build(
	CASE WHEN c->'from'->>0 = '' THEN c->'from'->>1 ELSE format('%s <%s>', c->'from'->>0, c->'from'->>1) END,
	CASE WHEN c->'to'->>0 = '' THEN c->'to'->>1 ELSE format('%s <%s>', c->'to'->>0, c->'to'->>1) END,
	c->>'subject', c->>'text', c->>'html', c->>'message_id', (c->>'date')::timestamptz, NULL,
	(SELECT array_agg(a->>'name' ORDER BY i) FROM jsonb_array_elements(c->'attachments') WITH ORDINALITY x(a, i)),
	(SELECT array_agg(a->>'type' ORDER BY i) FROM jsonb_array_elements(c->'attachments') WITH ORDINALITY x(a, i)),
	(SELECT array_agg(decode(a->>'content', 'base64') ORDER BY i) FROM jsonb_array_elements(c->'attachments') WITH ORDINALITY x(a, i))), 'hex')
FROM jsonb_array_elements(pg_read_file('$folder/cases.json')::jsonb) WITH ORDINALITY AS e(c, n) ORDER BY n;
SQL
append_to_file("$folder/letters.hex", "$letters\n");
my $same = IPC::Run::run([ 'python3', $oracle, 'check', "$folder/cases.json", "$folder/letters.hex" ], '>', \$report);
ok($same, 'the independent reader reads what was written') or diag($report);
like($report, qr/^$rounds letters read, 0 differences$/m, 'every letter was read');

# the oracle sees a fault: one octet of an attachment or a body changed
$letters =~ s/3d3d0d0a/3d410d0a/ or $letters =~ s/(0d0a0d0a)(..)/$1 . '58'/e;
append_to_file("$folder/broken.hex", "$letters\n");
ok(!IPC::Run::run([ 'python3', $oracle, 'check', "$folder/cases.json", "$folder/broken.hex" ], '>', \$report), 'and sees a fault');

$node->stop;
done_testing();
