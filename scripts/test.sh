#!/usr/bin/env bash
# Summary: run every check and test; all parts run, also after one has failed
# Usage: test.sh
#   FAST=1  leave out the slow tests
# Also reads what setup.sh reads.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

FAST=${FAST:-}

"$ROOT/scripts/setup.sh" dev
cd -- "$ROOT"
export PATH="$ROOT/.venv/bin:$PATH"

pytest=(python -m pytest -q --durations=10 --durations-min=5 -c python/pyproject.toml)
bats=(tests/node_modules/bats/bin/bats --timing --print-output-on-failure)
if [[ -n $FAST ]]; then
  pytest+=(-m "not slow")
  bats+=(--filter-tags '!slow')
fi
# These two files take as long as all others.
heavy=(tests/scripts/test_images.bats tests/scripts/test_run_local.bats)
light=()
for file in tests/scripts/*.bats; do
  [[ " ${heavy[*]} " == *" $file "* ]] || light+=("$file")
done

logs=$(mktemp -d)
trap 'rm -rf -- "$logs"' EXIT
results=()
failed=0

# part NAME COMMAND ...: runs it and notes how it ended.
part() {
  local name=$1 start=$SECONDS verdict=passed took
  shift
  say "== $name"
  "$@" </dev/null || verdict=FAILED failed=1
  took=$((SECONDS - start))
  [[ ! -f $logs/$name.took ]] || took=$(<"$logs/$name.took")
  results+=("$(printf '%-7s %-6s %4d s' "$verdict" "$name" "$took")")
}

# beside NAME COMMAND ...: starts it beside what follows; `part NAME end_of NAME` is its end.
beside() {
  local name=$1 start=$SECONDS
  shift
  {
    local status=0
    "$@" </dev/null >"$logs/$name" 2>&1 || status=$?
    printf '%s\n' $((SECONDS - start)) >"$logs/$name.took"
    exit "$status"
  } &
  printf '%s\n' "$!" >"$logs/$name.pid"
}

# shellcheck disable=SC2329 # part calls it
end_of() {
  local status=0
  wait "$(<"$logs/$1.pid")" || status=$?
  cat -- "$logs/$1"
  return "$status"
}

part lint "$ROOT/scripts/lint.sh"
# None of them keeps a core busy all the time.
beside pytest "${pytest[@]}"
beside heavy "${bats[@]}" "${heavy[@]}"
part bats "${bats[@]}" "${light[@]}"
part pytest end_of pytest
part heavy end_of heavy

say "== summary"
for result in "${results[@]}"; do
  say "$result"
done
if ((failed)); then
  say "test.sh: something failed, see above"
fi
exit "$failed"
