#!/usr/bin/env bash
# Checks everything, cheapest first. The last line is the sum of all test runs.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/require.sh test

if [[ ! -d ${GRISTMILL_DATA_DIR:-../shared/data} ]]; then
    echo "note: the real data sets are not at ${GRISTMILL_DATA_DIR:-../shared/data}, so the tests" \
        "that import them say so and check nothing; GRISTMILL_DATA_DIR names another place"
fi

step() {
    echo "== $1"
    shift
    "$@" </dev/null
}

# Servers of this run alone, so that a run that ends takes them from nobody else.
log=$(mktemp)
GRISTMILL_SERVICES_DIR=$(mktemp -d)
export GRISTMILL_SERVICES_DIR
trap 'rm -f "$log"; scripts/services stop' EXIT
echo "== services"
services=$(scripts/services start)
eval "$services"

step format cargo fmt --all --check
step lints cargo clippy --workspace --all-targets --locked -- -D warnings
# They have a workspace of their own, and some compile modules of the binary.
step "fuzz targets" cargo check --manifest-path fuzz/Cargo.toml --all-targets --locked
RUSTDOCFLAGS="-D warnings" step documentation cargo doc --workspace --no-deps --locked

status=0
step tests cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$log" || status=$?

# cargo prints one result for each test binary; this is their sum.
awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed\n", passed, failed }' "$log"
exit "$status"
