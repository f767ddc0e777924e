#!/usr/bin/env bash
# Kills and outages under load, more of them and longer ones than the tests have time for.
#
# GRISTMILL_CHAOS_CYCLES sets how often the server is killed, GRISTMILL_CHAOS_KILLS how often processors
# of a split platform are, GRISTMILL_CHAOS_OUTAGE_SECONDS how long the servers behind it are away.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/require.sh test

# Servers of this run alone, as for the tests.
GRISTMILL_SERVICES_DIR=$(mktemp -d)
export GRISTMILL_SERVICES_DIR
trap 'scripts/services stop' EXIT
services=$(scripts/services start)
eval "$services"

export GRISTMILL_CHAOS_CYCLES=${GRISTMILL_CHAOS_CYCLES:-200}
export GRISTMILL_CHAOS_KILLS=${GRISTMILL_CHAOS_KILLS:-50}
export GRISTMILL_CHAOS_OUTAGE_SECONDS=${GRISTMILL_CHAOS_OUTAGE_SECONDS:-30}

# One after the other, for they measure how long things take.
cargo test --workspace --locked --test it -- --nocapture --test-threads=1 \
    kill_nine_under_load split_faults
