#!/usr/bin/env bash
# Summary: remove what set-up and tests left behind: .venv, tests/node_modules, caches; outputs/ stays
# Usage: clean.sh
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

cd -- "$ROOT"
rm -rf -- .venv tests/node_modules .ruff_cache .pytest_cache python/.{ruff,mypy,pytest}_cache
find python tests -name __pycache__ -type d -prune -exec rm -rf -- {} +
