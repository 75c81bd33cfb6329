# TLS is verified always: a self-signed certificate and a wrong name are refused before a byte of the request
# leaves; with the integration's own ca_file and the right name it is accepted.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'no openssl here' if system('openssl version >/dev/null 2>&1') != 0;

my $dir = PostgreSQL::Test::Utils::tempdir();
my $port = PostgreSQL::Test::Cluster::get_free_port();
system(qq{openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext "subjectAltName=DNS:localhost" -keyout $dir/key.pem -out $dir/cert.pem 2>/dev/null}) == 0 or die;
chmod 0644, "$dir/cert.pem";
my $server = fork // die;
if ($server == 0)
{
	open STDOUT, '>', "$dir/out";
	open STDERR, '>&', \*STDOUT;
	exec 'openssl', 's_server', '-accept', $port, '-cert', "$dir/cert.pem", '-key', "$dir/key.pem", '-www' or exit 1;
}
my $sink = CrmSink->new;
my $node = crm_node('tls');
$sink->kind($node);
$node->safe_psql('plant', <<"SQL");
SELECT crm.add_integration('selfsigned', 'x_plain_http', 'https://localhost:$port');
SELECT crm.add_integration('wrongname', 'x_plain_http', 'https://127.0.0.1:$port', '{"ca_file": "$dir/cert.pem"}');
SELECT crm.add_integration('right', 'x_plain_http', 'https://localhost:$port', '{"ca_file": "$dir/cert.pem"}');
SELECT crm.add_integration('nofile', 'x_plain_http', 'https://localhost:$port', '{"ca_file": "$dir/none.pem"}');
INSERT INTO plain.queue (sink, body, timeout) SELECT unnest(ARRAY['selfsigned', 'wrongname', 'nofile']), 'x', 5000;
SQL
foreach my $case ([ 'selfsigned', qr/^tls: / ], [ 'wrongname', qr/^tls: / ], [ 'nofile', qr/^tls: / ])
{
	my ($name, $words) = @$case;
	my $said = '';
	wait_for(15, sub { ($said = $node->safe_psql('plant', "SELECT words FROM plain.queue WHERE sink = '$name'")) ne '' });
	like($said, $words, "$name is refused");
	ok(wait_for(15, sub { $node->safe_psql('plant', "SELECT state FROM plain.queue WHERE sink = '$name'") eq 'queued' }), 'and nothing had left');
	$node->safe_psql('plant', "UPDATE crm.integration SET enabled = false WHERE name = '$name'");
}

# openssl answers no POST: that the request left shows that the connection was accepted
$node->safe_psql('plant', q{INSERT INTO plain.queue (sink, body, timeout) VALUES ('right', 'x', 1500)});
ok(wait_for(20, sub { $node->safe_psql('plant', q{SELECT state FROM plain.queue WHERE sink = 'right'}) eq 'uncertain' }),
	'with its own authority and the right name the request leaves') or diag $node->safe_psql('plant', 'SELECT * FROM plain.queue');

$node->stop('fast');
kill 'KILL', $server;
waitpid $server, 0;
$? = 0;
done_testing();
