#!/usr/bin/env bats
load test_helper

@test "make help lists every target, with words beside it" {
  run make -C "$REPO" --no-print-directory help
  [ "$status" -eq 0 ]
  while read -r target; do
    grep -qE "^  make $target +[A-Z]" <<<"$output" || fail "$target is not in: $output"
  done < <(sed -n 's/^\([a-z-]*\):.*/\1/p' "$REPO/Makefile")
}

@test "make alone is make help" {
  run make -C "$REPO" --no-print-directory
  [ "$status" -eq 0 ]
  assert_says "make smoke"
}

@test "every script prints its own help" {
  for script in "$REPO"/scripts/*.sh; do
    # What is only sourced cannot be executed.
    [[ -x $script ]] || continue
    run "$script" --help
    [ "$status" -eq 0 ]
    assert_says "Summary: "
    assert_says "Usage: ${script##*/}"
    [[ $output != *"set -e"* && $output != *shellcheck\ source* ]] || fail "$output"
  done
}

@test "the lock files name no registry, and a hash for every package" {
  run grep -nE '://|index-url|find-links' "$REPO"/python/requirements*.lock
  [ "$status" -eq 1 ]
  # Its other URLs are what packages say of their sponsors.
  run grep -nE '"resolved"|registry|\.tgz' "$REPO/tests/package-lock.json"
  [ "$status" -eq 1 ]
  for lock in "$REPO"/python/requirements*.lock; do
    run awk '/^[a-z]/ { if (name && !hashes) print name; name = $1; hashes = 0 } /--hash=sha256:/ { hashes++ }
      END { if (!hashes) print name }' "$lock"
    [ -z "$output" ]
  done
}
