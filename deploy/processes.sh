#!/usr/bin/env bash
# A real nats-server with nats.conf, and one process per function: what
# `waybill up` does in one process. Ends all of them on Ctrl-C.
#
#   deploy/processes.sh                        data under ./data
#   DATA_DIR=/tmp/w deploy/processes.sh
#   NATS_URL=nats://127.0.0.1:5222 deploy/processes.sh -p 5222 -m 9222
#
# Arguments are nats-server's.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v nats-server >/dev/null || {
	echo "nats-server is not installed: go install github.com/nats-io/nats-server/v2@v2.15.2" >&2
	exit 1
}
export DATA_DIR=${DATA_DIR:-./data} NATS_URL=${NATS_URL:-nats://127.0.0.1:4222}
mkdir -p "$DATA_DIR"
go build -o "$DATA_DIR/waybill" .

# Each in a process group of its own: Ctrl-C goes to this script alone, which
# ends them one by one, so that each can finish what it began.
set -m
pids=()
stop() {
	trap '' INT TERM # once is enough: nothing is left behind
	trap - EXIT
	# Functions first, then the event store, NATS last.
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill -TERM "${pids[i]}" 2>/dev/null || true
		wait "${pids[i]}" 2>/dev/null || true
	done
}
trap stop EXIT
trap 'exit 0' INT TERM

# The server takes its store_dir from the file or from -sd, and not from both.
grep -v store_dir: nats.conf >"$DATA_DIR/nats.conf"
nats-server -c "$DATA_DIR/nats.conf" -sd "$DATA_DIR/jetstream" "$@" & pids+=($!)
for f in eventstore placeorder payment payment review shipping cancelorder saga accounts orderview orderquery gateway; do
	"$DATA_DIR/waybill" run "$f" & pids+=($!)
done
wait -n
