#!/usr/bin/env bash
# Builds the release binary and compares its questions with ClickHouse's engine and DuckDB, which it
# installs in a virtual environment outside the repository. ARGS are flags of bench/compare.py.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh build
if ! python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "missing: Python 3.11 or newer with venv. On Debian or Ubuntu, run as root:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends python3-venv" >&2
    exit 1
fi
cargo build --release --locked --package gristmill
cargo build --release --locked --package gristmill-store --example roof

environment=${XDG_CACHE_HOME:-$HOME/.cache}/gristmill/bench/venv
if ! cmp --silent bench/requirements.txt "$environment/installed.txt"; then
    python3 -m venv --clear "$environment"
    "$environment/bin/pip" install --quiet --disable-pip-version-check -r bench/requirements.txt
    cp bench/requirements.txt "$environment/installed.txt"
fi
binary=$(scripts/binary.sh release)
# shellcheck disable=SC2086 # flags are words
exec "$environment/bin/python" bench/compare.py --binary "$binary" \
    --roof "$(dirname "$binary")/examples/roof" ${ARGS:-}
