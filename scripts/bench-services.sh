#!/usr/bin/env bash
# Builds the release binary and measures it over Kafka, PostgreSQL and Redis, which it starts as they
# come and stops at the end. ARGS are flags of bench/services.py.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh test
cargo build --release --locked --package gristmill
binary=$(scripts/binary.sh release)

GRISTMILL_SERVICES_DIR=$(mktemp -d)
export GRISTMILL_SERVICES_DIR GRISTMILL_SERVICES_AS=shipped
trap 'scripts/services stop' EXIT
environment=$(scripts/services start)
eval "$environment"
# shellcheck disable=SC2086 # flags are words
python3 bench/services.py --binary "$binary" ${ARGS:-}
