#!/usr/bin/env bash
# Builds the binary and the client's examples, starts a server on free loopback ports with a
# directory of its own, runs the examples one after the other, and ends the server.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh build
cargo build --locked --package gristmill
cargo build --locked --package gristmill-client --examples
binary=$(scripts/binary.sh debug)
examples=$(dirname "$binary")/examples

# Two ports that are free now, below the range that the kernel gives to outgoing connections.
free_port() {
    local port
    while port=$((10000 + RANDOM % 20000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
}
http=127.0.0.1:$(free_port)
grpc=127.0.0.1:$(free_port)

dir=$(mktemp -d)
server=
finish() {
    if [[ -n $server ]]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$dir"
}
trap finish EXIT

"$binary" serve --listen "$http" --grpc-listen "$grpc" --data-dir "$dir/data" >"$dir/log" 2>&1 &
server=$!
for _ in $(seq 600); do
    if "$binary" health --url "http://$http" >/dev/null 2>&1; then break; fi
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$dir/log" >&2
        exit 1
    fi
    sleep 0.1
done

for name in quickstart batching offline; do
    printf '\n== %s\n' "$name"
    "$examples/$name" "http://$http"
done
for name in streaming grpc_client; do
    printf '\n== %s\n' "$name"
    "$examples/$name" "http://$grpc"
done
