#!/usr/bin/env bash
# Summary: run every check and test; all parts run, also after one has failed
# Usage: test.sh
#   FAST=1  leave out the slow tests
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

FAST=${FAST:-}

"$ROOT/scripts/setup.sh" dev
cd -- "$ROOT"
export PATH="$ROOT/.venv/bin:$PATH"

pytest=(python -m pytest -q --durations=10 --durations-min=5 -c tests/pytest.ini tests/python)
bats=(tests/node_modules/bats/bin/bats --timing --print-output-on-failure tests/scripts)
if [[ -n $FAST ]]; then
  pytest+=(-m "not slow")
  bats+=(--filter-tags '!slow')
fi

results=()
failed=0
part() {
  local name=$1 start=$SECONDS verdict=passed
  shift
  say "== $name"
  "$@" </dev/null || verdict=FAILED failed=1
  results+=("$(printf '%-7s %-5s %4d s' "$verdict" "$name" $((SECONDS - start)))")
}

# The rest of pytest's run, which began with bats'.
# shellcheck disable=SC2329 # part calls it
finish_pytest() {
  local status=0
  wait "$pytest_pid" || status=$?
  cat -- "$log"
  return "$status"
}

part lint "$ROOT/scripts/lint.sh"
# Both mostly keep one core busy.
log=$(mktemp)
trap 'rm -f -- "$log"' EXIT
"${pytest[@]}" </dev/null >"$log" 2>&1 &
pytest_pid=$!
part bats "${bats[@]}"
part pytest finish_pytest

say "== summary"
for result in "${results[@]}"; do
  say "$result"
done
if ((failed)); then
  say "test.sh: something failed, see above"
fi
exit "$failed"
