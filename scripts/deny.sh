#!/usr/bin/env bash
# Runs cargo-deny, or says how to install it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo deny --version >/dev/null 2>&1; then
    echo "missing: cargo-deny. Run:" >&2
    echo "    cargo install cargo-deny --version '^0.20' --locked" >&2
    exit 1
fi
cargo deny --locked check
