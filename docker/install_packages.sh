#!/usr/bin/env bash
# Summary: install the lock's packages into an image while it is built, and prove that the base's torch is still there
# Usage: install_packages.sh LOCK [PACKAGE ...]
#   PACKAGE  what to install beside the lock; it may change neither the lock's versions nor the base's torch
set -euo pipefail

lock=$1
shift
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
venv=/opt/venv
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

python3 "$here/check_image.py" record "$here/base.json"
# Beside the base's packages, not among them: nothing there has to be removed for it, and nothing is.
python3 -m venv --system-site-packages --without-pip "$venv"
python3 "$here/choose_packages.py" "$lock" "$work"
# A constraint given here adds to those of PIP_CONSTRAINT.
install=("$venv/bin/python" -m pip install --disable-pip-version-check --no-input --no-cache-dir --progress-bar off
  --quiet --root-user-action ignore --only-binary :all: --constraint "$work/constraints.txt")
"${install[@]}" --require-hashes --no-deps --requirement "$work/requirements.txt"
if (($# > 0)); then
  "${install[@]}" "$@"
fi
"$venv/bin/python" "$here/check_image.py" verify "$here/base.json"
