# crm.integration_test() runs in a session under the courier's rules: the same addresses are refused, a kept
# connection is looked at again, and a resolver that never answers holds neither a session nor a courier.
use strict;
use warnings;
use CrmTest;
use CrmSink;
use CrmRaw;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

# ---- a resolver of our own: *.slow.invalid never answers, N-N-N-N.map.invalid is that address ----
my $dir = PostgreSQL::Test::Utils::tempdir();
open my $c, '>', "$dir/resolver.c" or die;
print $c <<'C';
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	char name[256];

	if (real == NULL)
		real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (node != NULL && strlen(node) < sizeof(name))
	{
		char *end;

		strcpy(name, node);
		if (strstr(name, ".slow.invalid"))
		{
			for (int i = 0; i < 600; i++)
				usleep(100000);
			return EAI_AGAIN;
		}
		if ((end = strstr(name, ".map.invalid")) != NULL)
		{
			*end = 0;
			for (char *at = name; *at; at++)
				if (*at == '-')
					*at = '.';
			node = name;
		}
	}
	return real(node, service, hints, result);
}
C
close $c;
system($ENV{CC} // 'cc', '-shared', '-fPIC', '-o', "$dir/resolver.so", "$dir/resolver.c", '-ldl') == 0 or die;

my $sink = CrmSink->new;
my $node;
{
	local $ENV{LD_PRELOAD} = "$dir/resolver.so";
	$node = crm_node('fetch');
}
my $raw = CrmRaw->new($node);
my $port = $sink->{port};
my $url = $sink->url;

# ---- a resolver that hangs ----
$node->safe_psql('plant', $raw->statement('session', name => 'lost', url => 'http://a.slow.invalid/', timeout => 700));
my $started = time;
my $said = CrmRaw::unhex($node->safe_psql('plant', q{SELECT crm.integration_test('lost')}) =~ s/ .*//r);
like($said->{error}, qr/^timeout: host name not resolved/, 'a session: the words');
cmp_ok(time - $started, '<', 4, 'a session: its time-out holds while the resolver hangs');
$node->safe_psql('plant', q{UPDATE raw.request SET timeout_ms = 9000});
$started = time;
my (undef, undef, $error) = $node->psql('plant', q{SET statement_timeout = 500; SELECT crm.integration_test('lost')});
like($error, qr/canceling statement due to statement timeout/, 'a session: can be cancelled meanwhile');
cmp_ok(time - $started, '<', 4, 'a session: at once, and it ends at once');

my ($hanging) = $raw->send({ name => 'hanging', url => 'http://b.slow.invalid/', timeout => 4000 });
sleep 0.5;
$started = time;
my ($other) = $raw->send({ url => "$url/" });
ok($raw->done(5, $other), 'a courier: the others are served while a name hangs');
cmp_ok(time - $started, '<', 3, 'a courier: without delay');
$raw->done(12, $hanging);
like(($raw->rows($hanging))[0]{error}, qr/^timeout: host name not resolved/, 'a courier: the words');

# ---- where nothing may go ----
my @cases = map { { url => $_->[0], settings => $_->[1] // '{}', like => $_->[2] // qr/^refused: address/ } } (
	[ 'http://169.254.169.254/' ], [ "http://0.0.0.0:$port/" ], [ 'http://0.1.2.3/' ], [ 'http://224.0.0.1/' ], [ 'http://255.255.255.255/' ],
	[ 'http://100.100.100.200/' ], [ 'http://192.0.0.192/' ], [ 'http://0251.0376.0251.0376/' ], [ 'http://2852039166/' ],
	[ 'http://169-254-169-254.map.invalid/' ], [ "http://0-0-0-0.map.invalid:$port/" ],
	# (without IPv6 such names are not resolved)
	(map { [ "http://[$_]:$port/", undef, qr/^(refused: address|resolve: )/ ] } '::ffff:169.254.169.254', '::ffff:0.0.0.0', '::', 'fe80::1', 'ff02::1', 'fd00:ec2::254', '64:ff9b::a9fe:a9fe', '2002:a9fe:a9fe::1', '::169.254.169.254'),
	[ "http://127.0.0.1:$port/", '{"allow_hosts": ["192.0.2.0/24", "localhost"]}' ],
	[ "http://127.0.0.1:$port/", '{"allow_hosts": []}' ], [ "http://127.0.0.1:$port/", '{"allow_hosts": "127.0.0.1"}' ],
	# a name that is allowed may be made to point inside
	[ "http://127-0-0-1.map.invalid:$port/", '{"allow_hosts": ["127-0-0-1.map.invalid"]}' ],
	# no other reading of the address than libcurl's
	[ "http://allowed.test\@127.0.0.1:$port/", '{"allow_hosts": ["allowed.test"]}' ],
	[ "http://127.0.0.1:$port#\@allowed.test/", '{"allow_hosts": ["allowed.test"]}' ],
	[ "http://127.0.0.1:$port?\@allowed.test/", '{"allow_hosts": ["allowed.test"]}' ],
	# behind a proxy the words of the address decide
	[ 'http://other.test/', '{"allow_hosts": ["allowed.test"], "proxy": "' . $url . '"}', qr/^refused: the URL's host/ ],
	[ 'http://169.254.169.254/', '{"proxy": "' . $url . '"}', qr/^refused: the URL's host/ ],
);
my $before = keys %{ $sink->ledger };
$raw->run(@cases);
foreach my $case (@cases)
{
	foreach my $way (qw(courier session))
	{
		my $r = $case->{$way};
		like($r->{error}, $case->{like}, "$way: $case->{url} $case->{settings}");
		is($r->{sent}, 0, "$way: and nothing left");
	}
}
is(scalar(keys %{ $sink->ledger }), $before, 'the sink has seen nothing of them');

# ---- where it may ----
@cases = map { { url => $_->[0], settings => $_->[1] } } (
	[ "http://127.0.0.1:$port/", '{"allow_hosts": ["127.0.0.0/8"]}' ], [ "http://127-0-0-1.map.invalid:$port/", '{}' ],
	[ "http://\xd0\xbf\xd1\x80.invalid/", '{"allow_hosts": ["' . "\xd0\xbf\xd1\x80" . '.invalid"], "proxy": "' . $url . '"}' ],
	[ 'http://allowed.test/', '{"allow_hosts": ["allowed.test"], "proxy": "' . $url . '"}' ]);
$raw->run(@cases);
foreach my $case (@cases)
{
	foreach my $way (qw(courier session)) { is("$case->{$way}{status} $case->{$way}{error}", '200 ', "$way: $case->{url} $case->{settings}") }
}

# ---- a kept connection was opened under another integration's rules ----
$before = keys %{ $sink->ledger };
my $kept = "http://127.0.0.1:$port/";
my ($first) = $raw->send({ name => 'first', url => $kept });
$raw->done(10, $first);
foreach my $rules ('{"allow_hosts": []}', '{"allow_hosts": ["192.0.2.1"]}')
{
	my ($id) = $raw->send({ url => $kept, settings => $rules });
	$raw->done(10, $id);
	my ($r) = $raw->rows($id);
	like($r->{error}, qr/^refused: address 127\.0\.0\.1/, "a kept connection is not for $rules");
	is($r->{sent}, 0, 'and nothing left');
}

# ---- a stop does not wait for a resolver ----
$raw->send({ name => 'last', url => 'http://c.slow.invalid/', timeout => 30000 });
sleep 0.5;
$started = time;
$node->stop('fast');
cmp_ok(time - $started, '<', 5, 'a fast stop does not wait for the resolver');
$sink->stop;
done_testing();
