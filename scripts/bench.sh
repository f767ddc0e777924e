#!/usr/bin/env bash
# Builds the release binary and measures ingestion with it. ARGS adds flags of `bench ingest`.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh build
cargo build --release --locked --package gristmill
binary=$(scripts/binary.sh release)
# shellcheck disable=SC2086 # flags are words
"$binary" bench ingest ${ARGS:-}
