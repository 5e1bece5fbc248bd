#!/usr/bin/env bats
load test_helper

# The real thing but for its size: tqdm with the real lock's hashes, from the registry.
small_root() {
  copy_root
  local lock=python/requirements.lock
  awk '/^[a-z]/ { wanted = /^tqdm==/ } wanted' "$REPO/$lock" >"$lock"
}

works() {
  .venv/bin/python -c 'import tqdm.auto' && .venv/bin/tqdm --version >/dev/null
}

# A Python of another version, or without venv, as far as setup.sh can see.
python_that() {
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  printf '#!/bin/sh\n%s\n' "$1" >"$BATS_TEST_TMPDIR/bin/python3"
  chmod +x "$BATS_TEST_TMPDIR/bin/python3"
}

# Only what setup.sh calls, and no Python.
bare_path() {
  local tool
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  for tool in bash cksum dirname flock id; do
    ln -s "$(command -v "$tool")" "$BATS_TEST_TMPDIR/bin/$tool"
  done
}

# bats test_tags=slow
@test "a set-up that is in place is left alone, at once; one that is not complete is completed" {
  small_root
  run scripts/setup.sh
  [ "$status" -eq 0 ]
  works
  touch "$BATS_TEST_TMPDIR/mark"
  start=${EPOCHREALTIME/[.,]/}
  run scripts/setup.sh
  [ "$status" -eq 0 ] && [ -z "$output" ]
  (((${EPOCHREALTIME/[.,]/} - start) < 1000000))
  [ -z "$(find .venv -newer "$BATS_TEST_TMPDIR/mark")" ]

  # Cut off after a package's metadata was written: pip alone would take the package for complete.
  mv .venv/.complete .venv/.begun
  rm -rf .venv/lib/python*/site-packages/tqdm-*/RECORD .venv/lib/python*/site-packages/tqdm/auto.py .venv/bin/tqdm
  run scripts/setup.sh
  [ "$status" -eq 0 ]
  works
}

# bats test_tags=slow
@test "a set-up that was killed is taken up again" {
  small_root
  setsid scripts/setup.sh 3>&- &
  for _ in {1..600}; do
    [[ ! -f .venv/.begun ]] || break
    sleep 0.1
  done
  kill -9 -- "-$!"
  [ ! -f .venv/.complete ]
  run scripts/setup.sh
  [ "$status" -eq 0 ]
  works
}

# bats test_tags=slow
@test "another lock, or another place, makes .venv again" {
  small_root
  scripts/setup.sh
  touch .venv/stale
  echo "# changed" >>python/requirements.lock
  run scripts/setup.sh
  [ "$status" -eq 0 ]
  [ ! -e .venv/stale ]
  works
  mv "$ROOT" "$ROOT b"
  cd "$ROOT b"
  run scripts/setup.sh
  [ "$status" -eq 0 ]
  works
}

# bats test_tags=slow
@test "a package that is not the locked one is refused" {
  small_root
  sed -i 's/sha256:...../sha256:00000/' python/requirements.lock
  run --separate-stderr scripts/setup.sh
  [ "$status" -eq 2 ]
  [[ $stderr == *"Expected sha256"* && $stderr == *"pip could not install"* ]] || fail "$stderr"
  [ ! -e .venv/.complete ]
}

@test "PYTHON must be one of 3.10 to 3.13" {
  copy_root
  PYTHON=$HOME/nothing run --separate-stderr scripts/setup.sh
  assert_refused "PYTHON=$HOME/nothing is not a Python that runs"
  python_that "echo 3.9"
  PYTHON=$BATS_TEST_TMPDIR/bin/python3 run --separate-stderr scripts/setup.sh
  assert_refused "is Python 3.9: 3.10 to 3.13 is needed"
  [ ! -e .venv ]
}

@test "no fitting Python at all" {
  copy_root
  bare_path
  run --separate-stderr env PATH="$BATS_TEST_TMPDIR/bin" scripts/setup.sh
  assert_refused "no Python 3.10 to 3.13 found"
  python_that "echo 3.14"
  run --separate-stderr env PATH="$BATS_TEST_TMPDIR/bin" scripts/setup.sh
  assert_refused "no Python 3.10 to 3.13 found"
}

@test "a Python without venv: the package is named, and installed where that is allowed" {
  copy_root
  bare_path
  # shellcheck disable=SC2016 # expanded by the program that is written
  python_that 'case $2 in *ensurepip*) exit 1 ;; *) echo 3.11 ;; esac'
  printf '#!/bin/sh\necho 1000\n' >"$BATS_TEST_TMPDIR/user-id"
  chmod +x "$BATS_TEST_TMPDIR/user-id"
  ln -sf ../user-id "$BATS_TEST_TMPDIR/bin/id"
  run --separate-stderr env PATH="$BATS_TEST_TMPDIR/bin" scripts/setup.sh
  assert_refused "python3 has no venv module: apt-get install python3.11-venv"

  sed -i 's/1000/0/' "$BATS_TEST_TMPDIR/user-id"
  record apt-get 1
  run --separate-stderr env PATH="$BATS_TEST_TMPDIR/bin" scripts/setup.sh
  [ "$status" -eq 2 ]
  [[ $stderr == *"installing python3.11-venv"*"cannot be installed"* ]] || fail "$stderr"
  assert_called update
}

@test "an unknown argument" {
  run --separate-stderr "$REPO/scripts/setup.sh" everything
  assert_refused "unknown argument 'everything'"
}
