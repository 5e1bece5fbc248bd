#!/usr/bin/env bash
# Summary: regenerate the lock files from python/requirements*.in and tests/package.json
# Usage: lock.sh
#   UPGRADE=1  take the newest versions that fit; without it, pins that still fit are kept
#   UV=uv      the uv to use (https://docs.astral.sh/uv); npm comes from `setup.sh dev`
# Also reads what setup.sh reads.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

UPGRADE=${UPGRADE:-}
UV=${UV:-uv}

command -v "$UV" >/dev/null || die "uv is missing: install it (pip install uv) or name it with UV=PATH"
compile=("$UV" pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header
  --only-binary :all:)
if [[ -n $UPGRADE ]]; then
  compile+=(--upgrade)
fi

cd -- "$ROOT/python"
"${compile[@]}" --excludes requirements-exclude.txt --output-file requirements.lock requirements.in
"${compile[@]}" --output-file requirements-dev.lock requirements-dev.in

"$ROOT/scripts/setup.sh" dev
cd -- "$ROOT/tests"
PATH="$ROOT/.venv/bin:$PATH" npm install --package-lock-only
