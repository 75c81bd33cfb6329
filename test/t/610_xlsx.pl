# claim 60
# claim 61
# What is in a sheet: typed cells, the same numbers as the query gives, text that never is a formula, a
# set-up for the printer; and what is left behind: nothing.
use strict;
use warnings;
use utf8;
use Encode qw(encode decode);
use IO::Uncompress::Unzip qw($UnzipError);
use MIME::Base64 qw(decode_base64);
use Time::HiRes qw(time);
use Test::More;
use PostgreSQL::Test::Utils;
use CrmTest;

my $node = crm_node('sheet', activate => undef);

# parts(BYTES): the files inside a workbook
sub parts
{
	my ($bytes) = @_;
	my %part;
	my $zip = IO::Uncompress::Unzip->new(\$bytes) or die "no zip: $UnzipError";
	for (my $more = 1; $more > 0; $more = $zip->nextStream)
	{
		my $name = $zip->getHeaderInfo->{Name};
		my ($text, $buffer) = ('', '');
		$text .= $buffer while ($zip->read($buffer) > 0);
		$part{$name} = decode('UTF-8', $text);
	}
	return \%part;
}

# sheet(SQL EXPRESSION): parts of the workbook that it gives
sub sheet
{
	my ($expression) = @_;
	return parts(decode_base64($node->safe_psql('plant', encode('UTF-8', "SELECT encode($expression, 'base64')"))));
}

# cells(XML): cell name -> [type, value]; text is unescaped
sub cells
{
	my ($xml) = @_;
	my %cell;
	while ($xml =~ m{<c r="([A-Z]+\d+)"(?: s="\d+")?(?: t="(\w+)")?(?:/>|>(.*?)</c>)}gs)
	{
		my ($name, $type, $body) = ($1, $2 // 'n', $3 // '');
		my $value = $body =~ m{<t[^>]*>(.*?)</t>}s ? $1 : $body =~ m{<v>(.*?)</v>}s ? $1 : undef;
		if (defined $value) { s/&lt;/</g, s/&gt;/>/g, s/&quot;/"/g, s/&amp;/&/g for $value }
		$cell{$name} = [ $type, $value, $body ];
	}
	return \%cell;
}

# ---- text that looks like a formula, a command or a link ----
my @payload = (
	'=1+1', '=cmd|\' /C calc\'!A0', '=HYPERLINK("http://evil.example","x")', '=WEBSERVICE("http://evil.example")', '=DDE("cmd";"/C calc";"!A0")',
	'=IMPORTXML("http://evil.example","//a")', '=SUM(A1:A9)', '= 1+1', ' =1+1', '==1+1',
	'+1+1', '+cmd|\' /C calc\'!A0', '-1+1', '-2+3+cmd|\' /C calc\'!A0', '@SUM(1+1)',
	'@A1', "\t=1+1", "\r=1+1", "\n=1+1", '"=1+1"',
	'\'=1+1', '{=1+1}', '|calc', '%0A=1+1', '＝1+1',
	'=1+1";=2', 'http://evil.example', 'mailto:a@b', 'internal:Sheet2!A1', 'external:c:\\calc.xlsx', '_x003D_1+1', '=A1&"x"');
cmp_ok(scalar @payload, '>=', 30, scalar(@payload) . ' payloads');
my $values = join(', ', map { my $p = $_; $p =~ s/'/''/g; $p =~ s/\\/\\\\/g; $p =~ s/\t/\\t/g; $p =~ s/\r/\\r/g; $p =~ s/\n/\\n/g; "(E'$p')" } @payload);
(my $quoted = "SELECT * FROM (VALUES $values) v(a)") =~ s/'/''/g;
$quoted =~ s/\\/\\\\/g;
my $part = sheet("crm.xlsx_from_query(E'$quoted')");
my $cell = cells($part->{'xl/worksheets/sheet1.xml'});
my $bad = 0;
for my $i (0 .. $#payload)
{
	my ($type, $value) = @{ $cell->{ 'A' . ($i + 2) } };
	my $expected = $payload[$i];
	$expected =~ s/\r/ /g;
	$expected =~ s/_x(?=[0-9A-F]{4}_)/_x005F_x/;
	unless ($type =~ /^(inlineStr|s|str)$/ && $value eq $expected) { $bad++; diag("payload $payload[$i]: $type, $value") }
}
is($bad, 0, 'every payload is a text cell with its very text');
unlike($part->{'xl/worksheets/sheet1.xml'}, qr/<f[ >]/, 'no formula in the sheet');
unlike(join('', values %$part), qr/<hyperlink/, 'no link in the workbook');

# ---- types ----
$part = sheet(q{crm.xlsx_from_query($$SELECT 1 AS id, 12345678901234567::bigint AS big, 1.50::numeric(10,2) AS money, 123456789.123456789::numeric AS long,
	'NaN'::numeric AS nan, 'Infinity'::float8 AS inf, 0.1::real AS r, true AS b, NULL::integer AS nothing, '' AS empty,
	date '2026-11-24' AS d, timestamp '2026-11-24 12:00' AS ts, timestamptz '2026-11-24 09:00Z' AS tz, time '06:00' AS t,
	date '1899-01-01' AS old, 'infinity'::date AS never, '{"a": [1]}'::jsonb AS j, E'a\x01b' AS control, 'Ёж < & > "щ" 😀' AS cyrillic$$,
	'Отчёт & 2026', 'Лист', formats => ARRAY[NULL, NULL, '0.000'])});
$cell = cells($part->{'xl/worksheets/sheet1.xml'});
my @row = map { [ @{ $cell->{ $_ . '3' } }[ 0, 1 ] ] } ('A' .. 'S');
is_deeply(\@row, [
	[ 'n', '1' ], [ 'inlineStr', '12345678901234567' ], [ 'n', '1.5' ], [ 'inlineStr', '123456789.123456789' ],
	[ 'inlineStr', 'NaN' ], [ 'inlineStr', 'Infinity' ], [ 'n', '0.1' ], [ 'b', '1' ], [ 'n', undef ], [ 'n', undef ],
	[ 'n', '46350' ], [ 'n', '46350.5' ], [ 'n', '46350.5' ], [ 'n', '0.25' ],
	[ 'inlineStr', '1899-01-01' ], [ 'inlineStr', 'infinity' ], [ 'inlineStr', '{"a": [1]}' ], [ 'inlineStr', 'a b' ], [ 'inlineStr', 'Ёж < & > "щ" 😀' ] ],
	'numbers, dates and booleans are typed cells, a moment is shown in the plant\'s zone, the rest is text')
	or diag(explain(\@row));
like($part->{'xl/styles.xml'}, qr/formatCode="0\.000"/, 'a number format that was asked for');
is($cell->{A1}[1], 'Отчёт & 2026', 'the title stands above');
is($cell->{C2}[1], 'money', 'headings stand under it');

# ---- print ----
my $xml = $part->{'xl/worksheets/sheet1.xml'};
my $book = $part->{'xl/workbook.xml'};
like($xml, qr/<pageSetUpPr fitToPage="1"\/>/, 'fitted');
like($xml, qr/<pageSetup [^>]*paperSize="9"[^>]*fitToHeight="0"/, 'A4, one page wide and as many long as needed');
like($xml, qr/orientation="landscape"/, 'a wide sheet lies');
like($xml, qr/<pageMargins left="0\.4"/, 'margins');
like($xml, qr/<oddFooter>[^<]*&amp;8 Отчёт &amp;&amp; 2026[^<]*&amp;P[^<]*&amp;N/, 'page numbers and the title in the footer');
like($xml, qr/<pane ySplit="2"[^>]*state="frozen"/, 'headings are frozen');
like($xml, qr/<cols>/, 'widths are set');
like($book, qr/_xlnm\.Print_Titles"[^>]*>'?Лист'?!\$2:\$2</, 'headings on each page');
like($book, qr/_xlnm\.Print_Area"[^>]*>'?Лист'?!\$A\$1:\$S\$3</, 'print area');
like(sheet(q{crm.xlsx_from_query('SELECT 1 AS a')})->{'xl/worksheets/sheet1.xml'}, qr/orientation="portrait"/, 'a narrow one stands');
like(sheet(q{crm.xlsx_from_query('SELECT 1 AS a', language => 'en')})->{'xl/worksheets/sheet1.xml'}, qr/Page &amp;P of/, 'English');

# ---- the same numbers ----
$node->safe_psql('plant', 'CREATE TABLE public.facts AS SELECT g AS id, ((g * 7919) % 100003 / 100.0)::numeric(12,2) AS amount FROM generate_series(1, 20000) g');
$cell = cells(sheet(q{crm.xlsx_from_query('SELECT id, amount FROM public.facts ORDER BY id')})->{'xl/worksheets/sheet1.xml'});
my $sum = 0;
$sum += $cell->{"B$_"}[1] for (2 .. 20001);
is(sprintf('%.2f', $sum), $node->safe_psql('plant', 'SELECT sum(amount) FROM public.facts'), 'the sum of 20,000 cells is the sum of the query');
ok(!exists $cell->{A20002}, 'and no row more');

# ---- several sheets ----
$part = sheet(q{crm.xlsx_book(ARRAY['SELECT 1 AS a', 'SELECT 2 AS b'], ARRAY['First', NULL], ARRAY['Один', 'Два'])});
like($part->{'xl/workbook.xml'}, qr/name="Один".*name="Два"/s, 'two sheets, in order');
is(cells($part->{'xl/worksheets/sheet2.xml'})->{A2}[1], '2', 'each with its own rows');

# ---- nothing is left ----
my $errors = join("\n", map { 'SELECT crm.xlsx_book(ARRAY[$$SELECT g FROM generate_series(1, 2000) g$$, $$SELECT 1/(g-1500) FROM generate_series(1, 2000) g$$]);' } 1 .. 50);
my ($rc, $out, $err) = $node->psql('plant', "$errors\nSELECT count(*) FROM pg_catalog.pg_ls_dir('/proc/' || pg_catalog.pg_backend_pid() || '/fd') f;", on_error_stop => 0);
my ($fds) = $out =~ /(\d+)\s*$/;
cmp_ok($fds, '<', 60, "50 failed workbooks leave no open file ($fds are open)");
is(() = $err =~ /division by zero/g, 50, 'each failed by itself');
is($node->safe_psql('plant', q{SELECT count(*) FROM pg_catalog.pg_ls_tmpdir()}), '0', 'no temporary file is left');
my @left = glob($node->data_dir . '/base/pgsql_tmp/*');
is(scalar @left, 0, 'nor one of another name');

# ---- the report on paper ----
# claim 23
$node->safe_psql('plant', q{SELECT crm.activate('off')});
$part = sheet(q{crm.kpi_sheet('2026-11-01', '2026-12-01', language => 'en')});
like($part->{'xl/workbook.xml'}, qr/name="Report".*name="ship_t".*name="otif"/s, 'the report, and the rows of each indicator');
like($part->{'xl/worksheets/sheet1.xml'}, qr/orientation="landscape"/, 'on A4, lying');
is(cells($part->{'xl/worksheets/sheet1.xml'})->{A3}[1], 'Total', 'with a total');

# ---- a sheet that is mailed ----
# claim 60
$node->safe_psql('plant', encode('UTF-8', q{
	SELECT crm.add_integration('mail', 'mail_out', 'smtp://127.0.0.1:9', '{"sender": "plant@example.com"}');
	INSERT INTO crm.company (id, name) VALUES (90001, '=Рога & "Копыта"');
	INSERT INTO crm.document (id, kind, year, serial, number, document_date, object_kind, object_id, company_id, state)
	SELECT 90000 + g, 'proposal', 2026, g, 'КП-' || lpad(g::text, 3, '0'), CASE WHEN g <= 120 THEN date '2026-11-30' ELSE date '2026-12-01' END, 'test', g * 7, 90001, 'issued' FROM generate_series(1, 125) g;
	INSERT INTO crm.report_mailing (code, view_name, columns, labels, order_by, date_column, period, title, addresses)
	VALUES ('documents', 'document', '{number,business_date,object_id,company}', '{Номер,Дата,Предмет,Компания}', '{number}', 'business_date', 'last_month', 'Документы', '{boss@example.com}');
	SELECT crm.mail_report('documents', '2026-12-15 06:00+03');}));
$part = sheet(q{(SELECT content FROM crm.message_attachment)});
$cell = cells($part->{'xl/worksheets/sheet1.xml'});
is($cell->{A1}[1], 'Документы с 01.11.2026 по 30.11.2026', 'the mailed sheet tells its period');
is_deeply([ map { $cell->{ $_ . '2' }[1] } 'A' .. 'D' ], [ 'Номер', 'Дата', 'Предмет', 'Компания' ], 'headings as the report has them');
is_deeply([ map { [ @{ $cell->{ $_ . '122' } }[ 0, 1 ] ] } 'A' .. 'D' ], [ [ 'inlineStr', 'КП-120' ], [ 'n', '46356' ], [ 'n', '840' ], [ 'inlineStr', '=Рога & "Копыта"' ] ],
	'real dates and numbers, text that is no formula') or diag(explain($cell->{D122}));
$sum = 0;
$sum += $cell->{"C$_"}[1] for (3 .. 122);
is($sum, $node->safe_psql('plant', q{SELECT sum(object_id) FROM crm_bi.document WHERE business_date < '2026-12-01'}), 'the rows of the period, all of them');
ok(!exists $cell->{A123}, 'and no row more');
$book = $part->{'xl/workbook.xml'};
like($part->{'xl/worksheets/sheet1.xml'}, qr/<pageSetUpPr fitToPage="1"\/>.*<pageSetup [^>]*paperSize="9"[^>]*fitToHeight="0".*&amp;P/s, 'one page wide, with page numbers');
like($book, qr/_xlnm\.Print_Titles"[^>]*>[^<]*!\$2:\$2<.*/, 'headings on each page');
like($book, qr/_xlnm\.Print_Area"[^>]*>[^<]*!\$A\$1:\$D\$122</, 'print area');

$node->stop;
done_testing();
