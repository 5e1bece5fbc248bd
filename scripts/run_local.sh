#!/usr/bin/env bash
# Summary: rehearse a workflow on this machine: the file that is submitted to OSMO, its tasks as processes
# Usage: run_local.sh
#   WORKFLOW  train, ddp, train-eval or convert
#   OUTPUT    folder in which each run gets a folder WORKFLOW_ID/TASK (outputs/run-local)
#   RETRIES   how often a group may be rescheduled (3)
#   DRY_RUN   1 = only print what would run
# Also reads what submit.sh reads.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
help_wanted "$@"

load_secrets
[[ ${DRY_RUN:-} != 0 ]] || DRY_RUN=
RETRIES=${RETRIES:-3}
[[ $RETRIES =~ ^[0-9]+$ ]] || die "RETRIES=$RETRIES is not a whole number"
export TRAIN_IMAGE=${TRAIN_IMAGE:-local/ur10e-act-train:here} EVAL_IMAGE=${EVAL_IMAGE:-local/ur10e-act-eval:here}
python=$(project_python)
exec "$python" -m ur10e_act.osmo.run_local --retries "$RETRIES" ${OUTPUT:+--work "$OUTPUT"} ${DRY_RUN:+--plan}
