#!/usr/bin/env bash
# Summary: follow or end a workflow that submit.sh has submitted
# Usage: workflow.sh status | logs | cancel | watch
#   ID    the workflow ID
#   OSMO  the osmo program, where it is not on the PATH
# status prints its state and its tasks'; logs and watch follow the logs until it ends; watch and status end with 0 for a
# workflow that has COMPLETED or (status) still runs, with 1 for one that has failed.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

python=$(project_python)
exec "$python" -m ur10e_act.osmo.workflow "$@"
