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

# make_only ARGUMENT ...: make says what it would run, and runs nothing.
make_only() {
  run --separate-stderr make -C "$REPO" --no-print-directory -n "$@"
}

@test "a variable that the target does not read is refused before anything runs, with the nearest name" {
  while IFS='|' read -r arguments says; do
    # shellcheck disable=SC2086
    run --separate-stderr make -C "$REPO" --no-print-directory $arguments
    assert_refused "$says"
    [ -z "$output" ]
  done <<'CASES'
submit-ddp GPU=8|make submit-ddp does not read GPU; did you mean GPUS?
smoke GPUS=4|make smoke does not read GPUS; it reads OUTPUT PYTHON
data FASTER=1|make data does not read FASTER; it reads AZCOPY
report OUTPUT=x|did you mean REPORT?
inspect BAG=x|did you mean BAGS?
submit-train MEMORY=4Gi|did you mean NODE_MEMORY?
submit-train-eval IMAGE=x|did you mean TRAIN_IMAGE?
submit-ddp OUTPUT=x|did you mean STORAGE_URL?
help STEPS=5|make help does not read STEPS; it reads none
CASES
}

@test "what the target, its set-up or one of several targets reads is accepted" {
  while read -r -a arguments; do
    make_only "${arguments[@]}"
    [ "$status" -eq 0 ] || fail "${arguments[*]}: $stderr"
  done <<'CASES'
submit-ddp GPUS=4
submit-train-eval
secrets DRY_RUN=1 SECRETS=other.env
build-images IMAGE=train TAG=1 BASE_IMAGE=x
run-local WORKFLOW=ddp GPUS=2 LOCALPATH=x RETRIES=1
train PYTHON=python3.12 GPUS=2 CUDA_VISIBLE_DEVICES=0,1
demo train OUTPUT=x GPUS=2
eval CHECKPOINT=x SOURCE=c/p AZURE_BLOB_CONTAINER=c
test FAST=1 PYTHON=python3
CASES
}

@test "a generic name counts on the command line only, and is named where the environment has it" {
  copy_root
  record python3
  export NAME=my.laptop ID=other
  run --separate-stderr make --no-print-directory status ID=w-1
  [ "$stderr" = "note: NAME from the environment is not used; give it on make's command line: NAME=..." ]
  # A script that is called by hand has no other way.
  run --separate-stderr scripts/workflow.sh status
  [ -z "$stderr" ]
}
