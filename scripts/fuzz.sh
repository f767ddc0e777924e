#!/usr/bin/env bash
# Feeds every decoder of bytes from outside or from disk with made-up ones, each target of fuzz/ for
# FUZZ_SECONDS (60 if not set), and stops at the first that crashes, hangs or takes more than 2 GiB.
# ARGS="requests calls" runs these targets instead of all.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/require.sh fuzz

fuzz=0.13.2
target=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
mkdir -p "$target"
target=$(cd "$target" && pwd)
unset CARGO_TARGET_DIR
export PATH=$target/tools/bin:$PATH
if [[ $(cargo fuzz --version 2>/dev/null) != "cargo-fuzz $fuzz" ]]; then
    CARGO_TARGET_DIR=$target/tools/build \
        cargo install cargo-fuzz --version "$fuzz" --locked --root "$target/tools"
    rm -rf "$target/tools/build"
fi

# The code is safe Rust: what counts are panics, numbers that run over, time and memory, and no sanitizer
# is needed to see those, nor a compiler that is not stable.
options=(--sanitizer none --target-dir "$target")
read -ra targets <<<"${ARGS:-$(cargo fuzz list | tr '\n' ' ')}"
if ((${#targets[@]} == 1)); then only=${targets[0]}; fi
cargo fuzz build "${options[@]}" ${only:+"$only"}

# A file of seeds has one on each line, with what is no letter of ASCII as \xff.
unpack() {
    local number=0 seed
    rm -rf "$2"
    mkdir -p "$2"
    while IFS= read -r seed; do
        printf '%b' "$seed" >"$2/$((++number))"
    done <"$1"
}

binaries=$target/$(rustc -vV | sed -n 's/^host: //p')/release
for name in "${targets[@]}"; do
    echo "== $name"
    log=$target/$name.log
    mkdir -p "$target/corpus/$name" "$target/artifacts/$name"
    unpack "fuzz/seeds/$name.txt" "$target/seeds/$name"
    # What is learnt stays in the first folder for the next time.
    if ! "$binaries/$name" "$target/corpus/$name" "$target/seeds/$name" \
        -max_total_time="${FUZZ_SECONDS:-60}" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
        -max_len=16384 -artifact_prefix="$target/artifacts/$name/" >"$log" 2>&1 </dev/null; then
        grep --invert-match '^#' "$log" | tail -n 60 >&2
        artefact=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n1)
        echo "the target $name failed; all that it wrote is in $log" >&2
        [[ -z $artefact ]] || echo "the input is in $artefact; once more: $binaries/$name $artefact" >&2
        exit 1
    fi
    tail -n1 "$log"
done
echo "no target failed"
