# Every test gets a HOME of its own and none of the caller's settings, so that nothing leaks in or out.
# shellcheck shell=bash
# shellcheck disable=SC2154 # output, status and stderr are set by bats
bats_require_minimum_version 1.5.0

REPO=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd -P)

setup() {
  own_environment
}

own_environment() {
  export HOME=$BATS_TEST_TMPDIR/home
  mkdir -p "$HOME"
  unset DATA CONFIG OUTPUT OVERRIDES RESUME GPUS CHECKPOINT EPISODES TRAIN EVAL PYTHON
  unset NNODES NODE_RANK MASTER_ADDR MASTER_PORT OMP_NUM_THREADS MAKEFLAGS MAKELEVEL
  unset DOCKER BASE_IMAGE BUILD_ARGS PUSH_ARGS EXTRA_PACKAGES RUN_AS "${!BACKBONE_@}"
  unset WORKFLOW GPUS_PER_NODE DATA_TASK STEPS SAVE_MINUTES NAME "${!REGISTRY@}" TAG IMAGE EVAL_IMAGE POOL PLATFORM
  unset DATA_PLATFORM PRIORITY "${!NODE_@}" TRAIN_IMAGE RESUME_FROM STORAGE_URL EXEC_TIMEOUT
  unset EVAL_GPUS WANDB WANDB_API_KEY WATCH DRY_RUN RETRIES ID CHECKPOINT_URL RESULT SCRATCH REPORT
  unset GIVEN DATASET BAGS CONVERT_CONFIG STRICT RECOVER WORKERS
  unset "${!AZURE_@}" "${!AZCOPY_@}" AZCOPY LOCALPATH SECRETS SOURCE DEST STALL_SECONDS ROUNDS BIG_MB
}

# A copy of the scripts in a root of its own, without .venv, as in an image.
copy_root() {
  ROOT=$BATS_TEST_TMPDIR/root
  mkdir -p "$ROOT/tests"
  cp -R "$REPO/Makefile" "$REPO/scripts" "$REPO/python" "$ROOT"
  cp "$REPO"/tests/package*.json "$ROOT/tests"
  cd "$ROOT" || return
}

# record NAME [STATUS]: a program NAME, first on the PATH, that writes its arguments to $CALLS and ends with STATUS.
record() {
  CALLS=$BATS_TEST_TMPDIR/calls
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  # shellcheck disable=SC2016 # expanded by the program that is written
  printf '#!/bin/sh\n{ printf "%%s\\n" "$@"; echo "OMP_NUM_THREADS=$OMP_NUM_THREADS"; } >"%s"\nexit %s\n' \
    "$CALLS" "${2:-0}" >"$BATS_TEST_TMPDIR/bin/$1"
  chmod +x "$BATS_TEST_TMPDIR/bin/$1"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH
}

# write_bags FOLDER NAME ...: recordings of two seconds each, as a UR10e on Humble makes them.
write_bags() {
  PYTHONPATH=$REPO/python:$REPO/tests/python "$REPO/.venv/bin/python" - "$@" <<'EOF_PYTHON'
import sys
from pathlib import Path

from bags import Bag

for name in sys.argv[2:]:
    Bag(seconds=2).write(Path(sys.argv[1]) / name)
EOF_PYTHON
}

fail() {
  printf '%s\n' "$*" >&2
  return 1
}

# The call just recorded had these arguments, one after the other.
assert_called() {
  grep -qxF -- "$1" "$CALLS" || fail "no argument '$1' in: $(<"$CALLS")"
}

# $output holds the text.
assert_says() {
  [[ $output == *"$1"* ]] || fail "'$1' is not in: $output"
}

# The command just run ended with status 2 and exactly one line on stderr, which holds the text.
assert_refused() {
  [[ $status -eq 2 ]] || fail "status $status instead of 2: $output $stderr"
  [[ ${#stderr_lines[@]} -eq 1 ]] || fail "not one line: $stderr"
  [[ $stderr == *"$1"* ]] || fail "'$1' is not in: $stderr"
}
