#!/usr/bin/env bash
# Builds the release binary and measures ingestion with it. With ARGS one measurement with these
# flags of `bench ingest`, otherwise those that the README's numbers come from.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh build
cargo build --release --locked --package gristmill
binary=$(scripts/binary.sh release)

measure() {
    printf '\n== %s\n' "$1"
    shift
    "$binary" bench ingest "$@"
}

if [[ -n ${ARGS:-} ]]; then
    # shellcheck disable=SC2086 # flags are words
    measure "bench ingest $ARGS" $ARGS
    exit
fi
measure "batches of 100 for a minute, then kill -9, restart, recount" --seconds 60 --kill
measure "half of that rate" --rate 200000 --seconds 30
measure "ten times the connections" --connections 320 --seconds 20
measure "single events, beside a bare server" --single --connections 128 --baseline --seconds 20
printf '\n== over gRPC, beside bare calls\n'
"$binary" bench stream --baseline --seconds 10
if [[ -n ${SUSTAINED:-} ]]; then
    measure "a rate that merging keeps up with, for ten minutes" --rate 160000 --seconds 600
fi
printf '\nbinary %s bytes\n' "$(stat -c %s "$binary")"
