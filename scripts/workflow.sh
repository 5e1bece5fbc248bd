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
  die "$ID cannot be asked for: $(osmo_says "$(json 'd["message"]' <<<"$answer" || printf '%s' "$answer")")"
}

alive() {
  [[ $state == PENDING || $state == RUNNING || $state == WAITING ]]
}

# follow: the logs until the workflow ends. `osmo workflow logs` may end before that; lines seen already are left out.
follow() {
  local seen=0 count line
  while true; do
    read_status
    count=0
    while IFS= read -r line; do
      count=$((count + 1))
      ((count <= seen)) || printf '%s\n' "$line"
    done < <(osmo workflow logs "$ID" 2>/dev/null)
    ((count <= seen)) || seen=$count
    alive || break
    sleep 2
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
