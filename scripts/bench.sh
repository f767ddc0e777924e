#!/usr/bin/env bash
# Runs all measurements, one after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ -n ${ARGS:-} ]]; then
    echo "make bench: takes no ARGS, which are flags of one measurement: use make bench-ingest, \
bench-queries, bench-beside or bench-services" >&2
    exit 2
fi
# What the last one needs shall not be missed after most of an hour.
scripts/require.sh test
for one in ingest queries beside services; do
    "scripts/bench-$one.sh"
done
