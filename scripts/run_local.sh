#!/usr/bin/env bash
# Summary: rehearse a workflow on this machine: the file that is submitted to OSMO, its tasks as processes
# Usage: run_local.sh
#   RETRIES  how often a group may be rescheduled (3)
#   DRY_RUN  1 = only print what would run
# Without OUTPUT, results stay in outputs/run-local/WORKFLOW_ID/TASK.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
# shellcheck source=scripts/workflow_parameters.sh
source "$ROOT/scripts/workflow_parameters.sh"
workflow_help_wanted "$@"

load_secrets
DRY_RUN=${DRY_RUN:-}
[[ $DRY_RUN != 0 ]] || DRY_RUN=
RETRIES=${RETRIES:-3}
[[ $RETRIES =~ ^[0-9]+$ ]] || die "RETRIES=$RETRIES is no whole number"

train_image=${IMAGE:-local/ur10e-act-train:here}
eval_image=${EVAL_IMAGE:-local/ur10e-act-eval:here}
data_url=
if [[ -n ${LOCALPATH:-} ]]; then
  data_url=azure://local$(realpath -- "$LOCALPATH")
fi
workflow_parameters
if [[ -n $azure && -z ${AZCOPY:-} ]] && ! command -v azcopy >/dev/null; then
  "$ROOT/scripts/setup.sh" azcopy
fi
python=$(project_python)
exec "$python" -m ur10e_act.osmo.run_local "$workflow_file" "${set_arguments[@]}" --retries "$RETRIES" \
  ${DRY_RUN:+--plan}
