#!/usr/bin/env bash
# Summary: create .venv from the lock files; with "dev", also what the tests need; with "azcopy", azcopy alone
# Usage: setup.sh [dev | azcopy]
#   PYTHON=PATH  the Python to build .venv with (3.10 to 3.13); default: the first one found
#   Where everything is in place already, nothing is done. An interrupted set-up is taken up again.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

PYTHON=${PYTHON:-}
part=${1:-run}
[[ $part == run || $part == dev || $part == azcopy ]] || die "unknown argument '$part': only dev and azcopy are known"

VENV=$ROOT/.venv
LOG=$VENV/setup.log
AZCOPY_BINARY=tests/node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64

# These would send packages elsewhere than into .venv.
unset PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONHOME PYTHONPATH

python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

fits() {
  case $1 in
    3.10 | 3.11 | 3.12 | 3.13) ;;
    *) return 1 ;;
  esac
}

find_python() {
  local candidate version
  if [[ -n $PYTHON ]]; then
    version=$(python_version "$PYTHON") || die "PYTHON=$PYTHON is not a Python that runs: name one of 3.10 to 3.13"
    fits "$version" || die "PYTHON=$PYTHON is Python $version: 3.10 to 3.13 is needed"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python3.10 python; do
    if version=$(python_version "$candidate") && fits "$version"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  die "no Python 3.10 to 3.13 found: install one (apt-get install python3 python3-venv) or name it with PYTHON=PATH"
}

# Debian ships venv and ensurepip apart from Python.
need_ensurepip() {
  local python=$1 package
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  package=python$(python_version "$python")-venv
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "installing $package ..."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"; } >/dev/null ||
      die "$package cannot be installed: $python has no venv module, name another with PYTHON=PATH"
  else
    die "$python has no venv module: apt-get install $package"
  fi
}

# What .venv was made from: the lock, the interpreter's version and the place (scripts in .venv hold its path).
key() {
  printf '%s %s %s\n' "$(cksum <"$1")" "$2" "$VENV"
}

has_key() {
  [[ -f $1 && $(<"$1") == "$2" ]]
}

# pip, with one line of progress in place of its hundreds; they go to the log.
pip_install() {
  local lock=$1 what=$2 total count=0 line
  total=$(grep -c '^[a-z].*==' "$lock")
  say "$what ..."
  # A package whose installation was cut off has metadata, but no RECORD, and pip would take it for complete.
  for line in "$VENV"/lib/python*/site-packages/*.dist-info; do
    [[ ! -d $line || -f $line/RECORD ]] || rm -rf -- "$line"
  done
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    --require-hashes --no-deps --only-binary :all: -r "$lock" 2>&1 | tee -a "$LOG" |
    while IFS= read -r line; do
      case $line in
        Collecting* | Processing* | Requirement*)
          count=$((count + 1))
          line=${line#Collecting } line=${line#Processing } line=${line#Requirement already satisfied: }
          if [[ -t 2 ]]; then
            printf '\r\033[K  %d of at most %d: %s' "$count" "$total" "${line%%[ (]*}" >&2
          elif ((count % 25 == 0)); then
            say "  $count of at most $total packages"
          fi
          ;;
        Installing\ collected*)
          if [[ -t 2 ]]; then printf '\r\033[K' >&2; fi
          say "  unpacking"
          ;;
      esac
    done || {
    tail -n 5 "$LOG" >&2
    die "pip could not install $lock (whole log: $LOG): fix what it says and run make setup again"
  }
}

install_run() {
  local version python
  if [[ -x $VENV/bin/python ]] && version=$(python_version "$VENV/bin/python"); then
    if [[ -z $PYTHON || $(python_version "$PYTHON") == "$version" ]] &&
      has_key "$VENV/.complete" "$(key "$ROOT/python/requirements.lock" "$version")"; then
      return
    fi
  fi
  python=$(find_python)
  need_ensurepip "$python"
  version=$(python_version "$python")
  if ! has_key "$VENV/.begun" "$(key "$ROOT/python/requirements.lock" "$version")"; then
    # Started from scratch rather than updated, so that nothing stays that the lock no longer names.
    rm -rf -- "$VENV"
    "$python" -m venv "$VENV" || die "$python cannot make a virtual environment in $VENV"
    key "$ROOT/python/requirements.lock" "$version" >"$VENV/.begun"
  fi
  pip_install "$ROOT/python/requirements.lock" \
    "setting up .venv with Python $version (once; some minutes, 3 GB to download, 6 GB on disk)"
  mv -- "$VENV/.begun" "$VENV/.complete"
}

install_dev() {
  local wanted
  wanted=$(key "$ROOT/python/requirements-dev.lock" "$(python_version "$VENV/bin/python")")
  if ! has_key "$VENV/.complete-dev" "$wanted"; then
    pip_install "$ROOT/python/requirements-dev.lock" "adding the test tools"
    printf '%s\n' "$wanted" >"$VENV/.complete-dev"
  fi
  npm_install .complete "the tests' npm packages"
}

# npm_install MARKER WHAT [OPTION ...]: tests/package-lock.json into tests/node_modules, unless MARKER says it is there.
npm_install() {
  local marker=$ROOT/tests/node_modules/$1 what=$2 wanted
  shift 2
  wanted=$(cksum <"$ROOT/tests/package-lock.json")
  has_key "$ROOT/tests/node_modules/.complete" "$wanted" || has_key "$marker" "$wanted" || {
    say "adding $what ..."
    (cd -- "$ROOT/tests" && PATH="$VENV/bin:$PATH" npm ci --no-progress "$@") >>"$LOG" 2>&1 || {
      tail -n 5 "$LOG" >&2
      die "npm could not install tests/package-lock.json (whole log: $LOG)"
    }
    chmod +x "$ROOT/$AZCOPY_BINARY"
    printf '%s\n' "$wanted" >"$marker"
  }
  need_libsecret
}

# azcopy is linked against it, though it needs it for nothing here.
need_libsecret() {
  [[ $("$ROOT/$AZCOPY_BINARY" --version 2>&1) == *libsecret* ]] || return 0
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    say "installing libsecret-1-0 ..."
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends libsecret-1-0; } >>"$LOG" 2>&1 ||
      say "libsecret-1-0 cannot be installed (log: $LOG): azcopy will not run"
  else
    say "azcopy needs a library that is missing: apt-get install libsecret-1-0"
  fi
}

# azcopy for those who have none: the pinned one of the tests, by the npm of the test tools.
install_azcopy() {
  LOG=$ROOT/tests/setup.log
  if ! command -v npm >/dev/null; then
    install_run
    LOG=$VENV/setup.log
    pip_install "$ROOT/python/requirements-dev.lock" "adding npm and the test tools"
  fi
  npm_install .complete-azcopy azcopy --omit=dev
}

# One set-up at a time; the lock is on this file, and goes with the process.
if command -v flock >/dev/null; then
  exec 9<"${BASH_SOURCE[0]}"
  if ! flock -n 9; then
    say "waiting for another set-up to end ..."
    flock 9
  fi
fi

if [[ $part == azcopy ]]; then
  install_azcopy
else
  install_run
fi
if [[ $part == dev ]]; then
  install_dev
fi
