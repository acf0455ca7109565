#!/usr/bin/env bash
# Starts three CockroachDB nodes on this machine, with a database for Waybill,
# to try it on. They are insecure, and on loopback. Ctrl-C ends them; what they
# stored stays in the folder.
#
#   deploy/cockroach.sh [FOLDER]
#   EVENTSTORE_DB='postgres://root@127.0.0.1:26257/waybill?sslmode=disable' waybill run eventstore
set -euo pipefail

folder=${1:-./data/cockroach}
join=127.0.0.1:26257,127.0.0.1:26258,127.0.0.1:26259
mkdir -p "$folder"

pids=()
stop() {
	kill "${pids[@]}" 2>/dev/null || true
	wait
}
trap stop EXIT INT TERM

for n in 1 2 3; do
	cockroach start --insecure --join="$join" --store="$folder/node$n" \
		--listen-addr="127.0.0.1:$((26256 + n))" --http-addr="127.0.0.1:$((8079 + n))" &
	pids+=($!)
done

# A cluster is initialised once; after that init says that it was.
for _ in $(seq 60); do
	cockroach init --insecure --host=127.0.0.1:26257 2>&1 | grep -qE 'initialized' && break
	sleep 1
done
cockroach sql --insecure --host=127.0.0.1:26257 --execute='CREATE DATABASE IF NOT EXISTS waybill'
wait
