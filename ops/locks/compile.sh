#!/usr/bin/env bash
# Recompiles both lock files for every platform from pyproject.toml; `make lock LOCK_ARGS=--upgrade` moves versions.
# Locks carry hashes and no index address, so any mirror serves them.
set -euo pipefail
cd "$(dirname "$0")/../.."

uv_version=0.13.9
tools="${TMPDIR:-/tmp}/durian-lock-tools-$uv_version"
[ -x "$tools/bin/uv" ] || { "${PYTHON:-python3}" -m venv "$tools" && "$tools/bin/pip" install --quiet "uv==$uv_version"; }

compile() { # compile OUTPUT OPTION...
    local output="$1"; shift
    # shellcheck disable=SC2086  # LOCK_ARGS is a list of words
    "$tools/bin/uv" pip compile pyproject.toml "$@" --output-file "$output" \
        --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command "make lock" --quiet ${LOCK_ARGS:-}
}
compile ops/locks/runtime.txt --group build
compile ops/locks/dev.txt --group build --group dev --constraint ops/locks/runtime.txt
