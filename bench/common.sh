# What the rows share; bench/run exports PGHOST, PGPORT, PGUSER, CRM_BENCH (folder of bench/), CRM_TOOLS
# (sink and bare, compiled).
set -eu
export PGOPTIONS='-c client_min_messages=warning'
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 "$@"; }
database=crm_bench_${row:?}
sink_pid=
clean_up() {
	[ -z "$sink_pid" ] || kill "$sink_pid" 2>/dev/null || true
	psql -X -q -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" >&2 || true
}
trap clean_up EXIT
plant() { # a database that is activated, with the kind of the plain sink and an integration "bench"
	psql -X -q -d postgres -c "DROP DATABASE IF EXISTS $database WITH (FORCE)" -c "CREATE DATABASE $database" >&2
	export PGDATABASE=$database
	sql -c 'CREATE EXTENSION crm CASCADE' -c "SELECT crm.activate('live')" -f "$CRM_BENCH/kind.sql" \
		-c "SELECT crm.add_integration('bench', 'x_bench_http', 'http://127.0.0.1:$sink_port/', '{\"sender\": \"PLANT\", \"max_in_flight\": ${in_flight:-64}}')" >/dev/null
}
sink() { # sink [DELAY_MS [LOG]]: on a free port, in sink_port
	sink_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	"$CRM_TOOLS/sink" "$sink_port" "$@" >/dev/null 2>&1 &
	sink_pid=$!
	local i
	for i in $(seq 50); do (exec 3<>/dev/tcp/127.0.0.1/"$sink_port") 2>/dev/null && return; sleep 0.1; done
	echo 'the sink does not answer' >&2; exit 1
}
bare() { "$CRM_TOOLS/bare" "http://127.0.0.1:$sink_port/" "$@"; }
hold() { sql -c "UPDATE crm.integration_state SET hold_ms = crm.monotonic_ms() + 3600000" >/dev/null; }
release() { sql -c "UPDATE crm.integration_state SET hold_ms = 0" -c "SELECT crm.wake()" >/dev/null; }
count() { # requests that the sink has seen, into counted; without a process of its own, which would cost the run a core
	exec 3<>/dev/tcp/127.0.0.1/"$sink_port"
	printf 'GET /count HTTP/1.1\r\nHost: sink\r\n\r\n' >&3
	local l length
	read -r l <&3; read -r length <&3; read -r l <&3
	length=${length//[!0-9]/}
	read -r -N "$length" counted <&3
	exec 3<&- 3>&-
}
came() { # until the sink has seen so many requests
	local end=$((SECONDS + 300))
	until count; [ "${counted:-0}" -ge "$1" ]; do
		[ $SECONDS -lt $end ] || { echo 'the requests do not arrive' >&2; return 1; }
		sleep 0.03
	done
}
wait_for() { # wait_for SECONDS CONDITION
	local end=$((SECONDS + $1))
	until [ "$(sql -c "SELECT $2")" = t ]; do
		[ $SECONDS -lt $end ] || { echo 'the queue is not drained' >&2; return 1; }
		sleep 0.03
	done
}
# until each message has its try and nobody holds one; crm.message would tell it too, in 20 us a message
settled() { wait_for "$1" "NOT EXISTS (SELECT FROM crm.message_lease) AND (SELECT count(*) FROM crm.message_attempt) >= (SELECT count(*) FROM crm.message_body)"; }
# and until nothing waits for another try
drained() { wait_for "$1" "NOT EXISTS (SELECT FROM crm.message WHERE state IN ('queued', 'sending'))"; }
line() { # line NAME VALUE GOAL
	printf '%s %s %s\n' "$@"
}
fill() { # fill N [URL PATTERN]: N messages in one statement, spread over the integrations; as a rule's statement writes them
	sql -c "INSERT INTO crm.message_body (integration_id, lane, channel, recipient, sender, body, language, encoding, segments)
		SELECT i.id, 1, 'sms', '+7916' || lpad((g % 10000000)::text, 7, '0'), 'PLANT', 'Order 4711 has left the plant, 24.5 t of cement, plate A123BC77', 'en', 'GSM7', 1
		FROM generate_series(1, $1) g
		JOIN (SELECT i.id, row_number() OVER (ORDER BY i.id) - 1 AS n, count(*) OVER () AS total FROM crm.integration i) i ON i.n = g % i.total" >/dev/null
}
courier() { sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'crm courier' AND datname = current_database()"; }
own_memory() { awk '/^Rss(Anon|File)/ { n += $2 } END { print n }' "/proc/$1/status"; } # kB that are not shared buffers
seconds() { date +%s.%N; }
calc() { python3 -c "print('%.2f' % ($1))"; }
