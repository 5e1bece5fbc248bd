#!/usr/bin/env bash
# Summary: follow or end a workflow that submit.sh has submitted
# Usage: workflow.sh status | logs | cancel | watch
#   ID    the workflow ID
#   OSMO  the osmo program, where it is not on the PATH
# status prints its state and its tasks'; logs and watch follow the logs until it ends; watch and status end with 0 for a
# workflow that has COMPLETED or (status) still runs, with 1 for one that has failed.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/osmo_cli.sh
source "$ROOT/scripts/osmo_cli.sh"
help_wanted "$@"

ID=${ID:-}
[[ -n $ID ]] || die "ID is not set: name the workflow, as ID=ur10e-act-ddp-3 (osmo workflow list)"
need_osmo

# read_status: sets state. An unknown workflow ends the script, a service that is away for a while does not.
read_status() {
  local answer attempt status
  for attempt in 1 2 3 4 5; do
    status=0
    answer=$(osmo workflow query "$ID" --format-type json 2>/dev/null) || status=$?
    if state=$(json 'd["status"]' <<<"$answer"); then
      return
    fi
    ((status == 10 || status == 75)) || break
    sleep $((attempt * 2))
  done
  die "$ID cannot be asked for: $(osmo_says "$answer")"
}

alive() {
  [[ $state == PENDING || $state == RUNNING || $state == WAITING ]]
}

# print_new FILE: its complete lines behind the first $seen.
print_new() {
  local count
  count=$(wc -l <"$1")
  if ((count > seen)); then
    sed -n "$((seen + 1)),${count}p" "$1"
    seen=$count
  fi
}

# stream FILE: prints log lines as they come, until the CLI ends; and where the workflow has ended, soon after that,
# since the CLI may go on to wait.
stream() {
  local file=$1 turn=0 left=10
  # The one in the background may begin later than we read.
  : >"$file"
  osmo workflow logs "$ID" >"$file" 2>/dev/null &
  reader=$!
  while kill -0 "$reader" 2>/dev/null; do
    print_new "$file"
    sleep 1
    if alive; then
      turn=$((turn + 1))
      ((turn % 5 > 0)) || read_status
    elif ((left-- == 0)); then
      kill "$reader" 2>/dev/null || true
    fi
  done
  wait "$reader" || true
  reader=
  print_new "$file"
}

# follow: the logs until the workflow ends. Streams end early and start from the first line again; a last one, begun
# after the workflow's end, has everything.
follow() {
  local last=
  seen=0 reader=
  folder=$(mktemp -d)
  # A program in the background does not see Ctrl-C.
  trap '[[ -z $reader ]] || kill "$reader" 2>/dev/null || true; rm -rf -- "$folder"' EXIT
  while [[ -z $last ]]; do
    read_status
    alive || last=1
    stream "$folder/logs"
  done
}

case ${1:-} in
  status)
    read_status
    osmo workflow query "$ID"
    alive || [[ $state == COMPLETED ]]
    ;;
  logs) follow ;;
  watch)
    follow
    say "$ID: $state"
    [[ $state == COMPLETED ]] || exit 1
    ;;
  cancel)
    answer=$(osmo workflow cancel "$ID" 2>/dev/null) || true
    [[ $answer == *"is submitted"* ]] || die "$(osmo_says "$answer")"
    say "$(osmo_says "$answer")"
    ;;
  *) die "unknown action '${1:-}': status, logs, cancel or watch" ;;
esac
