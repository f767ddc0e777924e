#!/usr/bin/env bash
# Builds the release binary and measures questions and ingestion, each alone and both together, and how
# soon a live funnel shows an event. ARGS are flags of bench/beside.py.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh build
cargo build --release --locked --package gristmill
# shellcheck disable=SC2086 # flags are words
exec python3 bench/beside.py --binary "$(scripts/binary.sh release)" ${ARGS:-}
