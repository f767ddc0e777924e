#!/usr/bin/env bash
# Runs every fuzz target for GRISTMILL_FUZZ_SECONDS (60 if not set), and fails if one crashes, hangs or takes more
# than 1 GiB. ARGS names the targets to run instead of all.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh build
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "missing: cargo-fuzz. Run:" >&2
    echo "    cargo install cargo-fuzz --locked" >&2
    exit 1
fi
# The sanitizer's flags are not stable ones.
export RUSTC_BOOTSTRAP=1
seconds=${GRISTMILL_FUZZ_SECONDS:-60}
for target in ${ARGS:-$(cargo fuzz list)}; do
    echo "== $target"
    cargo fuzz run --target-dir "$(scripts/target.sh)/fuzz" "$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536
done
