#!/usr/bin/env bash
# Summary: check style and common mistakes of all sources: ruff, mypy, shellcheck, shfmt, hadolint
# Usage: lint.sh
# Also reads what setup.sh reads.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

"$ROOT/scripts/setup.sh" dev
cd -- "$ROOT"
export PATH="$ROOT/.venv/bin:$PATH"

shopt -s nullglob
shell_files=(scripts/*.sh docker/*.sh tests/scripts/*.bash tests/scripts/*.bats .ci/run)
docker_files=(docker/Dockerfile.*)

failed=0
ruff check --quiet . || failed=1
ruff format --quiet --diff . || failed=1
(cd python && mypy --config-file pyproject.toml --no-error-summary .) || failed=1
shellcheck "${shell_files[@]}" || failed=1
shfmt -d -i 2 -ci "${shell_files[@]}" || failed=1
if ((${#docker_files[@]} > 0)); then
  hadolint "${docker_files[@]}" || failed=1
fi
exit "$failed"
