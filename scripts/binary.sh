#!/usr/bin/env bash
# Prints the path of the binary that cargo built in a profile's folder (debug or release).
set -euo pipefail
profile=${1:?usage: scripts/binary.sh debug|release}
target=$(cargo metadata --locked --no-deps --format-version 1 |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
echo "$target/$profile/gristmill"
