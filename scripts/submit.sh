#!/usr/bin/env bash
# Summary: check a workflow and everything it needs, then submit it to OSMO
# Usage: submit.sh
#   POOL      OSMO's pool; default: that of the profile
#   PRIORITY  HIGH, NORMAL or LOW (LOW may be preempted, and goes beyond the pool's guaranteed share)
#   WATCH     1 = follow the logs, and end with 0 only when the workflow has COMPLETED
#   DRY_RUN   1 = only print the rendered workflow; asks no server
#   OSMO      the osmo program, where it is not on the PATH
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
# shellcheck source=scripts/image_names.sh
source "$ROOT/scripts/image_names.sh"
# shellcheck source=scripts/osmo_cli.sh
source "$ROOT/scripts/osmo_cli.sh"
# shellcheck source=scripts/workflow_parameters.sh
source "$ROOT/scripts/workflow_parameters.sh"
workflow_help_wanted "$@"

load_secrets
DRY_RUN=${DRY_RUN:-}
WATCH=${WATCH:-}
POOL=${POOL:-}
PRIORITY=${PRIORITY:-}
python=$(project_python)
[[ $DRY_RUN != 0 ]] || DRY_RUN=
[[ $WATCH != 0 ]] || WATCH=
case $PRIORITY in
  "" | HIGH | NORMAL | LOW) ;;
  *) die "PRIORITY=$PRIORITY: HIGH, NORMAL or LOW" ;;
esac

# What the rest of a name must look like for OSMO to find its registry.
check_image() {
  [[ $2 =~ ^[a-z0-9.-]+(:[0-9]+)?/[^[:space:]\"\\{}]+(:[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$ ]] ||
    die "$1=$2 is no image like REGISTRY/ur10e-act-train:TAG"
}

if [[ (-z ${IMAGE:-} || (-z ${EVAL_IMAGE:-} && ${WORKFLOW:-} == train-eval)) && -z ${TAG:-} ]]; then
  TAG=$(default_tag)
fi
train_image=${IMAGE:-$(image_name train)}
check_image IMAGE "$train_image"
eval_image=
if [[ ${WORKFLOW:-} == train-eval ]]; then
  eval_image=${EVAL_IMAGE:-$(image_name eval)}
  check_image EVAL_IMAGE "$eval_image"
fi

# Where LOCALPATH goes to: OSMO's upload puts the folder under the URL with its own name.
upload_url=
data_url=
if [[ -n ${LOCALPATH:-} ]]; then
  local_folder=$(realpath -- "$LOCALPATH")
  upload_url=${STORAGE_URL:+${STORAGE_URL%/}/data}
  data_url=${upload_url:+$upload_url/${local_folder##*/}}
fi
workflow_parameters
if [[ -z $azure ]]; then
  [[ -n $data_url ]] || die "STORAGE_URL is not set: LOCALPATH has to be uploaded to where OSMO can read it (secrets.env)"
fi

rendered=$("$python" -m ur10e_act.osmo.workflow_spec "$workflow_file" "${set_arguments[@]}")
if [[ -n $DRY_RUN ]]; then
  printf '%s\n' "$rendered"
  exit
fi

# check_nodes: OSMO accepts more GPUs for one task than any node has, and would wait for ever.
check_nodes() {
  local answer most
  answer=$(osmo resource list ${POOL:+--pool "$POOL"} --format-type json 2>/dev/null) ||
    die "osmo resource list failed: $(osmo_says "$answer")"
  most=$(json 'max([int(r["exposed_fields"].get("gpu") or 0) for r in d["resources"]], default=0)' <<<"$answer") ||
    die "osmo resource list answers with what is no list: $(osmo_says "$answer")"
  ((GPUS_PER_NODE <= most)) ||
    die "GPUS_PER_NODE=$GPUS_PER_NODE, but no node${POOL:+ of pool $POOL} has more than $most GPUs"
}

check_credentials() {
  local hint="store it with make secrets" account
  if [[ -n $azure ]]; then
    has_credential azure-storage GENERIC || die "OSMO has no credential azure-storage: $hint"
  fi
  if [[ -n ${WANDB:-} ]]; then
    has_credential wandb GENERIC || die "OSMO has no credential wandb: set WANDB_API_KEY and $hint"
  fi
  [[ $WORKFLOW != convert ]] || return 0
  for url in "$OUTPUT" "$data_url"; do
    if [[ $url == azure://* && ($url != "$data_url" || -z $azure) ]]; then
      account=${url#azure://} account=azure://${account%%/*}
      data_credential "$account" >/dev/null ||
        die "OSMO has no DATA credential for $account, which $url needs: set STORAGE_URL and $hint"
    fi
  done
}

upload() {
  local answer
  say "uploading $LOCALPATH to $data_url ..."
  answer=$(osmo data upload "$upload_url" "$local_folder" 2>&1) || die "osmo data upload failed: $(osmo_says "$answer")"
  [[ $answer != *"Upload Failed"* && $answer == *"Data has been uploaded"* ]] ||
    die "osmo data upload has not sent everything: $(osmo_says "${answer#*Upload Failed on files:}")"
}

need_osmo
read_credentials
check_credentials
[[ $WORKFLOW == convert ]] || check_nodes
if [[ -z $azure ]]; then
  upload
fi
if [[ $WORKFLOW == convert ]]; then
  say "the dataset: $DATASET"
elif [[ -z $OUTPUT ]]; then
  say "OUTPUT is not set: results stay in OSMO's own storage, and a training that is preempted starts from nothing"
elif [[ -z $azure ]]; then
  say "without the Azure key no checkpoints are published: a training that is preempted starts from nothing"
fi

options=()
[[ -z $POOL ]] || options+=(--pool "$POOL")
[[ -z $PRIORITY ]] || options+=(--priority "$PRIORITY")
for attempt in 1 2 3; do
  status=0
  answer=$(osmo workflow submit "$workflow_file" "${options[@]}" "${set_arguments[@]}" --format-type json 2>/dev/null) ||
    status=$?
  # Seen when two submits of one name meet; nothing has been submitted then.
  [[ $answer == *"connection pool is closed"* && $attempt -lt 3 ]] || break
done
id=$(json 'd["name"]' <<<"$answer") ||
  die "OSMO refuses the workflow (status $status): $(osmo_says "$answer")"
overview=$(json 'd.get("overview") or ""' <<<"$answer")

say "submitted $id${overview:+: $overview}"
say "  make logs ID=$id     make status ID=$id     make cancel ID=$id"
if [[ -n $OUTPUT && $WORKFLOW != convert ]]; then
  say "  results: $OUTPUT/$id/"
  [[ -z $azure ]] || say "  after a stop: make submit-$WORKFLOW RESUME=$OUTPUT/$id/checkpoints"
fi
printf '%s\n' "$id"
if [[ -n $WATCH ]]; then
  ID=$id exec "$ROOT/scripts/workflow.sh" watch
fi
