# What goes before all other passes by what an integration was given already: the courier holds messages
# behind a gateway that is slow to answer, and those of priority 2 leave as soon as the gateway takes any.
use strict;
use warnings;
use CrmLedger;
use CrmTest;
use Test::More;

my $node = crm_node('urgent');
my $ledger = CrmLedger->new;
$ledger->integrations($node, 'plant', '"max_in_flight": 32');
my $send = sub { $node->safe_psql('plant', "SELECT count(crm.send('sms', '+7916' || lpad(g::text, 7, '0'), '$_[0] ' || g, priority => $_[1])) FROM generate_series(1, $_[2]) g") };

$ledger->behave('slow 6');
$send->('many', 1, 200);
ok(wait_for(10, sub { $ledger->count(qr/ many /) == 32 }), 'as many as may be are on their way');
ok(wait_for(10, sub { $node->safe_psql('plant', q{SELECT count(*) FROM crm.message WHERE state = 'sending'}) == 64 }), 'and as many again are in the courier\'s hands')
	or diag $node->safe_psql('plant', 'SELECT state, count(*) FROM crm.message GROUP BY 1');
$ledger->behave('ok');
$send->('now', 2, 3);
ok(wait_for(3, sub { $node->safe_psql('plant', q{SELECT count(*) FROM crm.message WHERE state = 'sending' AND body LIKE 'now %'}) == 3 }), 'the urgent ones are claimed while none of those has ended');
is($ledger->count(qr/ many /), 32, 'indeed none has');
ok(wait_for(30, sub { $ledger->count(qr/ (many|now) /) == 203 }), 'all arrive');
my @order = map { $_->[2] =~ /^((?:many|now) \d+)/ ? $1 : () } @{ $ledger->entries };
is(join(', ', sort grep { /now/ } @order[32 .. 42]), 'now 1, now 2, now 3', 'the urgent ones right after those that were on their way');
$node->stop;
done_testing();
