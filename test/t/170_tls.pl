# TLS is verified always: a self-signed certificate and a wrong name are refused before a byte of the request
# leaves, and so are one that has expired and a server that speaks only what is too old; with the integration's
# own ca_file and the right name it is accepted.
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
open my $ca, '>', "$dir/ca.cnf" or die;
print $ca "[ca]\ndefault_ca = c\n[c]\ndatabase = $dir/index\nserial = $dir/serial\nnew_certs_dir = $dir\ndefault_md = sha256\npolicy = p\nx509_extensions = e\n[p]\ncommonName = supplied\n[e]\nsubjectAltName = DNS:localhost\n";
close $ca;
open my $index, '>', "$dir/index" or die;
close $index;
system(qq{openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout $dir/oldkey.pem -out $dir/old.csr 2>/dev/null}) == 0 or die;
system(qq{openssl ca -batch -selfsign -create_serial -notext -config $dir/ca.cnf -keyfile $dir/oldkey.pem -in $dir/old.csr -startdate 20240101000000Z -enddate 20240102000000Z -out $dir/old.pem >/dev/null 2>&1}) == 0 or die;
chmod 0644, "$dir/old.pem";
# so permissive that only what the courier itself demands can refuse
open my $permissive, '>', "$dir/openssl.cnf" or die;
print $permissive "openssl_conf = o\n[o]\nssl_conf = s\n[s]\nsystem_default = d\n[d]\nMinProtocol = TLSv1\nCipherString = ALL:\@SECLEVEL=0\n";
close $permissive;
$ENV{OPENSSL_CONF} = "$dir/openssl.cnf";
my @servers;
my $serve = sub {
	my ($at, $cert, $key, @more) = @_;
	my $pid = fork // die;
	if ($pid == 0)
	{
		open STDOUT, '>', "$dir/out.$at";
		open STDERR, '>&', \*STDOUT;
		exec 'openssl', 's_server', '-accept', $at, '-cert', "$dir/$cert", '-key', "$dir/$key", '-www', @more or exit 1;
	}
	push @servers, $pid;
	return $at;
};
$serve->($port, 'cert.pem', 'key.pem');
my $expired = $serve->(PostgreSQL::Test::Cluster::get_free_port(), 'old.pem', 'oldkey.pem');
my $ancient = $serve->(PostgreSQL::Test::Cluster::get_free_port(), 'cert.pem', 'key.pem', '-tls1_1', '-cipher', 'ALL:@SECLEVEL=0');
my $sink = CrmSink->new;
my $node = crm_node('tls');
$sink->kind($node);
$node->safe_psql('plant', <<"SQL");
SELECT crm.add_integration('selfsigned', 'x_plain_http', 'https://localhost:$port');
SELECT crm.add_integration('wrongname', 'x_plain_http', 'https://127.0.0.1:$port', '{"ca_file": "$dir/cert.pem"}');
SELECT crm.add_integration('right', 'x_plain_http', 'https://localhost:$port', '{"ca_file": "$dir/cert.pem"}');
SELECT crm.add_integration('nofile', 'x_plain_http', 'https://localhost:$port', '{"ca_file": "$dir/none.pem"}');
SELECT crm.add_integration('expired', 'x_plain_http', 'https://localhost:$expired', '{"ca_file": "$dir/old.pem"}');
SELECT crm.add_integration('ancient', 'x_plain_http', 'https://localhost:$ancient', '{"ca_file": "$dir/cert.pem"}');
INSERT INTO plain.queue (sink, body, timeout) SELECT unnest(ARRAY['selfsigned', 'wrongname', 'nofile', 'expired', 'ancient']), 'x', 5000;
SQL
foreach my $case ([ 'selfsigned', qr/^tls: / ], [ 'wrongname', qr/^tls: / ], [ 'nofile', qr/^tls: / ], [ 'expired', qr/^tls: .*expired/ ], [ 'ancient', qr/^tls: / ])
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
kill 'KILL', @servers;
waitpid $_, 0 foreach @servers;
$? = 0;
done_testing();
