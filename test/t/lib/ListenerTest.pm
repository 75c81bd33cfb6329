# A cluster of crm with its listener switched on and one route; and a plain HTTP client that can also misbehave.
package ListenerTest;
use strict;
use warnings;
use CrmTest;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);
use Exporter 'import';
our @EXPORT = qw(listener_node connect_to ask read_all pid_of);

# listener_node(NAME): (node, port, path). The route's function answers with what it was asked.
sub listener_node
{
	my ($name, %opt) = @_;
	my $node = crm_node($name, %opt);
	my $port = PostgreSQL::Test::Cluster::get_free_port();

	$node->safe_psql('plant', q{
		CREATE SCHEMA web;
		GRANT USAGE ON SCHEMA web TO crm_courier;
		CREATE TABLE web.fact (id text UNIQUE, at timestamptz DEFAULT now(), xid text DEFAULT pg_current_xact_id()::text);
		GRANT SELECT, INSERT ON web.fact TO crm_courier;
		CREATE FUNCTION web.hook(integration_id bigint, request crm.http_request) RETURNS crm.http_response LANGUAGE plpgsql AS $$
		DECLARE
			answer crm.http_response;
			id     text := coalesce(crm.form_value(request.query, 'id'), crm.form_value(convert_from(request.body, 'UTF8'), 'id'));
		BEGIN
			IF request.query LIKE '%boom%' THEN
				RAISE EXCEPTION USING ERRCODE = 'P0002', MESSAGE = 'no message ' || id;
			ELSIF request.query LIKE '%slow%' THEN
				PERFORM pg_sleep(30);
			END IF;
			IF id IS NOT NULL THEN
				INSERT INTO web.fact (id) VALUES (id) ON CONFLICT DO NOTHING;
			END IF;
			answer.status := 200;
			answer.headers := ARRAY['Content-Type: text/plain; charset=utf-8', 'X-Bytes: ' || octet_length(request.body)];
			answer.body := convert_to('seen ' || coalesce(id, 'nothing'), 'UTF8');
			RETURN answer;
		END $$;
		SELECT crm.register_kind('x_web', NULL, NULL);
		SELECT crm.add_integration('web', 'x_web', '');
	});
	my $path = $node->safe_psql('plant', q{SELECT crm.add_route('web', 'hook', 'web.hook')});
	$node->safe_psql('plant', "SELECT crm.listen($port)");
	return ($node, $port, $path);
}

sub connect_to
{
	my ($port) = @_;
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp', Timeout => 5);
}

# All that comes until the end of the stream or the time is over.
sub read_all
{
	my ($socket, $seconds) = @_;
	my $end = time + ($seconds // 10);
	my $got = '';
	while ((my $left = $end - time) > 0)
	{
		my $bits = '';
		vec($bits, fileno($socket), 1) = 1;
		next unless select($bits, undef, undef, $left);
		my $n = sysread($socket, my $piece, 65536);
		last unless $n;
		$got .= $piece;
	}
	return $got;
}

# ask(PORT, METHOD, PATH, BODY): (status, the whole answer, seconds); status 0 when none came.
sub ask
{
	my ($port, $method, $path, $body) = @_;
	my $start = time;
	my $socket = connect_to($port) or return (0, '', time - $start);
	my $length = defined $body ? "Content-Length: " . length($body) . "\r\n" : '';
	syswrite($socket, "$method $path HTTP/1.1\r\nHost: test\r\nConnection: close\r\n$length\r\n" . ($body // ''));
	my $answer = read_all($socket);
	my ($status) = $answer =~ m{^HTTP/1\.1 (\d+)};
	return ($status // 0, $answer, time - $start);
}

# The process of a worker, by its backend_type.
sub pid_of
{
	my ($node, $type) = @_;
	return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'");
}

1;
