#!/usr/bin/env bash
# Checks that the tools for a purpose are there. Missing Debian packages are installed when this
# runs as root; otherwise the exact command to run is printed and the script fails.
#
# usage: scripts/require.sh build|test|fuzz
set -euo pipefail

purpose=${1:?usage: scripts/require.sh build|test|fuzz}
root=$(cd "$(dirname "$0")/.." && pwd)

packages=()
# Some dependencies compile C (the allocator, zstd, librdkafka), and the linker is called through cc.
command -v cc >/dev/null || packages+=(build-essential)

# The fuzzer itself is C++.
[[ $purpose == build ]] || command -v c++ >/dev/null || packages+=(build-essential)

case $purpose in
build | fuzz) ;;
test)
    # Kafka runs on Java, and Maven fetches it.
    command -v java >/dev/null || packages+=(default-jre-headless)
    command -v mvn >/dev/null || packages+=(maven)
    ;;
*)
    echo "scripts/require.sh: unknown purpose '$purpose': use build, test or fuzz" >&2
    exit 2
    ;;
esac

if ((${#packages[@]})); then
    install="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}"
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing ${packages[*]}" >&2
        apt-get update -qq </dev/null >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${packages[@]}" </dev/null >&2
    else
        echo "missing: ${packages[*]}. On Debian or Ubuntu, run as root:" >&2
        echo "    $install" >&2
        exit 1
    fi
fi

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
if ! command -v cargo >/dev/null; then
    echo "missing: Rust $wanted or newer. Run:" >&2
    echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    exit 1
fi
found=$(cargo --version | cut -d' ' -f2)
if [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n1) != "$wanted" ]]; then
    echo "cargo is version $found, Rust $wanted or newer is needed. Run:" >&2
    echo "    rustup update stable" >&2
    exit 1
fi
if [[ $purpose == test ]]; then
    for component in fmt clippy; do
        if ! cargo "$component" --version >/dev/null 2>&1; then
            echo "missing: cargo $component. Run:" >&2
            echo "    rustup component add rustfmt clippy" >&2
            exit 1
        fi
    done
fi
