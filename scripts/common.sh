# shellcheck shell=bash
# What every script here needs; sourced, never run.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# python -m ur10e_act.MODULE
export PYTHONPATH=$ROOT/python${PYTHONPATH:+:$PYTHONPATH}

say() {
  printf '%s\n' "$*" >&2
}

# Names that a shell may well have exported for something else. Under make they count only when they are given on its
# command line, in GIVEN; scripts that a script calls, and those that are called by hand, read the environment.
if [[ -n ${GIVEN+set} ]]; then
  for name in NAME ID TAG CONFIG IMAGE DATA SOURCE DEST OUTPUT REPORT TRAIN EVAL EPISODES STEPS POOL PLATFORM PRIORITY; do
    if [[ -n ${!name:-} && " $GIVEN " != *" $name "* ]]; then
      [[ $0 == */setup.sh ]] || say "note: $name from the environment is not used; give it on make's command line: $name=..."
      unset "$name"
    fi
  done
  unset GIVEN name
fi

# Ends the script with one line that says what is wrong and what to do about it.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 2
}

# Prints the script's own header, from "# Summary:" to the first line that is not its continuation.
usage() {
  sed -n '/^# Summary: /,/^[^#]/{/^# shellcheck/d;s/^# \{0,1\}//p;}' "$0"
}

help_wanted() {
  case ${1:-} in
    -h | --help)
      usage
      exit 0
      ;;
  esac
}

# The interpreter with the project's packages: .venv on a laptop, the image's own where there is none.
project_python() {
  if [[ -x $ROOT/.venv/bin/python ]]; then
    printf '%s\n' "$ROOT/.venv/bin/python"
  else
    command -v python3 || command -v python || die "no Python: run make setup"
  fi
}

# need_count NAME: the variable holds a whole number from 1 on.
need_count() {
  [[ ${!1} =~ ^[1-9][0-9]*$ ]] || die "$1=${!1} is not a whole number from 1 on"
}

# A YAML string whatever the text holds.
yaml_quoted() {
  printf "'%s'\n" "${1//\'/\'\'}"
}

# threads_per_process N: this machine's cores shared out among N processes, at least one each.
threads_per_process() {
  local cores threads
  cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
  threads=$((cores / $1))
  printf '%s\n' $((threads > 0 ? threads : 1))
}
