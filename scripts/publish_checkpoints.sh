#!/usr/bin/env bash
# Summary: publish the checkpoints of a running training, until stdin ends, and then once more
# Usage: publish_checkpoints.sh DIR DEST
#   DIR   the checkpoints folder of a training output; need not be there yet
#   DEST  as for publish.sh; train.sh with CHECKPOINT_URL=DEST resumes from there
# DEST holds the checkpoints that DIR holds: training.keep_checkpoints of them, and the best.
# What cannot be sent is said and tried again with the next checkpoint; only the last attempt decides the exit status.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

[[ $# == 2 ]] || die "DIR and DEST are needed, see --help"
checkpoints=$1
dest=$2
published=

# Beside the checkpoints, since hard links stay within a file system.
snapshot=$(dirname -- "$checkpoints")/.publishing
mkdir -p -- "$snapshot"
trap 'rm -rf -- "$snapshot"' EXIT

# Publishes a copy that training does not rotate away meanwhile; hard links, so it costs nothing.
publish_last() {
  local last
  last=$(readlink -- "$checkpoints/last") || return 0
  [[ $last != "$published" ]] || return 0
  rm -rf -- "$snapshot/checkpoints"
  mkdir -- "$snapshot/checkpoints"
  hard_link_checkpoints || return 75
  "$ROOT/scripts/publish.sh" --prune "$snapshot/checkpoints" "$dest" >/dev/null || return
  published=$last
}

# The named checkpoints and the links to them; fails when one is removed while it is read.
hard_link_checkpoints() {
  local entry
  for entry in "$checkpoints"/*; do
    cp -RPl -- "$entry" "$snapshot/checkpoints/" 2>/dev/null || return
  done
}

while true; do
  # Ends at once when stdin does, else looks again after some seconds.
  ended=0
  read -r -t 5 || ended=$?
  status=0
  publish_last || status=$?
  if ((ended > 0 && ended <= 128)); then
    exit "$status"
  fi
done
