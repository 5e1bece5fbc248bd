# shellcheck shell=bash
# What is set for a workflow, checked and turned into its parameters; sourced, never run.
# shellcheck disable=SC2034,SC2154 # the caller reads workflow_file, and has set the images and data_url

# workflow_usage: the variables that submit.sh and run_local.sh share.
workflow_usage() {
  cat <<'USAGE'

  WORKFLOW       train, ddp, train-eval or convert
  GPUS           GPUs in all (train: 1; ddp: 2; train-eval: 1)
  GPUS_PER_NODE  GPUs of each node; GPUS is a multiple of it (1)
  DATA           dataset or recordings in blob storage: CONTAINER/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX;
                 default: AZURE_BLOB_CONTAINER and AZURE_BLOB_PREFIX
  LOCALPATH      a dataset on this machine, taken where no Azure key is configured
  DATASET        convert: where the dataset is, or shall be, CONTAINER/PREFIX; DATA are the recordings then
  CONVERT_CONFIG STRICT RECOVER  as for make convert; the file in python/
  DATA_TASK      1 = a task without GPUs brings the data first and hands them to the training
  OUTPUT         URL for results and checkpoints (STORAGE_URL): azure://ACCOUNT/CONTAINER/PREFIX
  RESUME         checkpoints URL of an earlier run to go on from: OUTPUT/WORKFLOW_ID/checkpoints
  CONFIG         configuration in the image: a file in python/ (python/config.yaml)
  STEPS          training.steps
  OVERRIDES      blank-separated SECTION.KEY=VALUE
  SAVE_MINUTES   minutes between checkpoints (10)
  NAME           of the workflow (ur10e-act-WORKFLOW)
  REGISTRY TAG   the images are REGISTRY/ur10e-act-train:TAG and -eval:TAG; TAG: the git description
  IMAGE          another image for training; EVAL_IMAGE: for the evaluation
  PLATFORM       of the pool; DATA_PLATFORM: for the task that brings the data
  CPUS MEMORY STORAGE  of each node (8, 64Gi, 200Gi)
  EXEC_TIMEOUT   like 24h
  EVAL_GPUS EPISODES  of the evaluation: 1 or 0 GPUs (1), and episode numbers (the held-out ones)
  WANDB          project at Weights & Biases to log to, with the credential wandb
USAGE
}

# workflow_help_wanted "$@": help_wanted, with those variables.
workflow_help_wanted() {
  case ${1:-} in
    -h | --help)
      usage
      workflow_usage
      exit
      ;;
  esac
}

# workflow_parameters: reads the variables above and sets workflow_file, nodes, azure (1 or nothing) and set_arguments
# (--set and --set-string for osmo). data_url and images are the caller's: data_url, train_image, eval_image.
workflow_parameters() {
  local default_gpus=1 default_name
  WORKFLOW=${WORKFLOW:-}
  case $WORKFLOW in
    train | ddp | train-eval | convert) ;;
    "") die "WORKFLOW is not set: train, ddp, train-eval or convert" ;;
    *) die "WORKFLOW=$WORKFLOW: train, ddp, train-eval or convert" ;;
  esac
  [[ $WORKFLOW != ddp ]] || default_gpus=2
  workflow_file=$ROOT/workflows/osmo-workflow-$WORKFLOW.yaml
  default_name=ur10e-act-$WORKFLOW

  GPUS=${GPUS:-$default_gpus}
  GPUS_PER_NODE=${GPUS_PER_NODE:-1}
  CPUS=${CPUS:-8}
  SAVE_MINUTES=${SAVE_MINUTES:-10}
  EVAL_GPUS=${EVAL_GPUS:-1}
  need_count GPUS
  need_count GPUS_PER_NODE
  need_count CPUS
  [[ $SAVE_MINUTES =~ ^[0-9]+(\.[0-9]+)?$ && ! $SAVE_MINUTES =~ ^[0.]+$ ]] ||
    die "SAVE_MINUTES=$SAVE_MINUTES is no number above 0"
  [[ $EVAL_GPUS == [01] ]] || die "EVAL_GPUS=$EVAL_GPUS: 1 or 0"
  [[ ($WORKFLOW != train && $WORKFLOW != convert) || $GPUS == 1 ]] || die "GPUS=$GPUS: one GPU only; take submit-ddp or submit-train-eval for more"
  ((GPUS % GPUS_PER_NODE == 0)) || die "GPUS_PER_NODE=$GPUS_PER_NODE does not divide GPUS=$GPUS"
  nodes=$((GPUS / GPUS_PER_NODE))
  check_task_count

  NAME=${NAME:-$default_name}
  [[ $NAME =~ ^[a-zA-Z]([a-zA-Z0-9_-]*[a-zA-Z0-9])?$ && ${#NAME} -le 56 ]] ||
    die "NAME=$NAME: letters, digits, - and _, a letter first, 56 at most"
  EXEC_TIMEOUT=${EXEC_TIMEOUT:-24h}
  [[ $EXEC_TIMEOUT =~ ^[0-9]+[dhms]$ ]] || die "EXEC_TIMEOUT=$EXEC_TIMEOUT: one number and unit, like 24h"
  MEMORY=${MEMORY:-64Gi} STORAGE=${STORAGE:-200Gi}
  [[ $MEMORY =~ ^[0-9]+[KMGT]i$ ]] || die "MEMORY=$MEMORY: like 64Gi"
  [[ $STORAGE =~ ^[0-9]+[KMGT]i$ ]] || die "STORAGE=$STORAGE: like 200Gi"
  PLATFORM=${PLATFORM:-} DATA_PLATFORM=${DATA_PLATFORM:-}
  [[ $PLATFORM$DATA_PLATFORM =~ ^[A-Za-z0-9_.-]*$ ]] || die "PLATFORM=$PLATFORM is no name of a platform"

  check_output
  if [[ $WORKFLOW == convert ]]; then
    check_conversion
  else
    check_configuration
  fi

  azure=
  if [[ -n ${AZURE_STORAGE_ACCOUNT_NAME:-} && -n ${AZURE_STORAGE_ACCOUNT_KEY:-} ]]; then
    azure=1
    [[ -z ${LOCALPATH:-} ]] || say "LOCALPATH=$LOCALPATH is not used: the Azure account and its key are set"
    DATA=${DATA:-${AZURE_BLOB_CONTAINER:+$AZURE_BLOB_CONTAINER/${AZURE_BLOB_PREFIX:-}}}
    [[ $DATA == */?* ]] || die "DATA is not set: name CONTAINER/PREFIX of the data, or AZURE_BLOB_CONTAINER and _PREFIX"
    [[ ! -d $DATA ]] || die "DATA=$DATA is a folder of this machine: name CONTAINER/PREFIX in blob storage"
  else
    [[ $WORKFLOW != convert ]] || die "convert works in Azure Blob: set the account and its key (secrets.env)"
    [[ -z ${DATA:-} ]] || die "DATA=$DATA needs AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (secrets.env)"
    [[ -n ${LOCALPATH:-} ]] || die "no data: set the Azure account and key (secrets.env), or LOCALPATH=DIR"
    [[ -d $LOCALPATH ]] || die "LOCALPATH=$LOCALPATH is no folder: name a LeRobot v3.0 dataset"
    "$(project_python)" -m ur10e_act.dataset.lerobot_dataset "$LOCALPATH" >/dev/null
    [[ ${DATA_TASK:-0} != 1 ]] || die "DATA_TASK=1 needs the data in Azure Blob, not in LOCALPATH"
  fi
  if [[ -n ${RESUME:-} ]]; then
    [[ $RESUME == */* ]] || die "RESUME=$RESUME: name the checkpoints URL of an earlier run"
    [[ -n $azure ]] || die "RESUME needs AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (secrets.env)"
  fi
  fill_set_arguments
}

# With OSMO's default limit of 20 tasks; says what fits.
check_task_count() {
  local others per_node
  [[ ${DATA_TASK:-0} == [01] ]] || die "DATA_TASK=$DATA_TASK: 1 or 0"
  others=${DATA_TASK:-0}
  [[ $WORKFLOW != train-eval ]] || others=$((others + 1))
  ((nodes + others > 20)) || return 0
  for ((per_node = GPUS_PER_NODE + 1; per_node <= GPUS; per_node++)); do
    if ((GPUS % per_node == 0 && GPUS / per_node + others <= 20)); then
      die "$((nodes + others)) tasks, but OSMO takes 20 by default: GPUS_PER_NODE=$per_node makes $((GPUS / per_node)) nodes"
    fi
  done
}

check_output() {
  OUTPUT=${OUTPUT:-${STORAGE_URL:-}}
  OUTPUT=${OUTPUT%/}
  [[ -z $OUTPUT || $OUTPUT =~ ^(azure://[a-z0-9]+/[a-z0-9-]+(/.+)?|(s3|gs|tos|swift)://[^/]+(/.+)?)$ ]] ||
    die "OUTPUT=$OUTPUT is no URL like azure://ACCOUNT/CONTAINER/PREFIX"
  [[ $OUTPUT != *[\"\\{}\ ]* ]] || die "OUTPUT=$OUTPUT: no quotes, braces or blanks"
}

# The configuration is looked at here, since a mistake in it would be found out on a GPU.
check_configuration() {
  local override
  local -a overrides checked
  CONFIG=${CONFIG:-python/config.yaml}
  CONFIG=${CONFIG#"$ROOT/"}
  [[ $CONFIG == python/*.yaml && -f $ROOT/$CONFIG ]] ||
    die "CONFIG=$CONFIG: name a configuration in python/, which is what the image has"
  OVERRIDES=${OVERRIDES:-}
  if [[ -n ${STEPS:-} ]]; then
    need_count STEPS
    OVERRIDES="training.steps=$STEPS $OVERRIDES"
  fi
  if [[ -n ${WANDB:-} ]]; then
    [[ $WANDB =~ ^[A-Za-z0-9_.-]+$ ]] || die "WANDB=$WANDB is no name of a project"
    OVERRIDES="logging.wandb=true logging.wandb_project=$WANDB $OVERRIDES"
  fi
  OVERRIDES=${OVERRIDES//$'\n'/ } OVERRIDES=${OVERRIDES% }
  read -r -a overrides <<<"$OVERRIDES"
  checked=(--config "$ROOT/$CONFIG" --override "training.save_minutes=$SAVE_MINUTES")
  for override in "${overrides[@]}"; do
    checked+=(--override "$override")
  done
  "$(project_python)" -m ur10e_act.config "${checked[@]}" >/dev/null
}

check_conversion() {
  DATASET=${DATASET:-}
  [[ $DATASET == */?* ]] || die "DATASET is not set: name CONTAINER/PREFIX for the dataset"
  CONVERT_CONFIG=${CONVERT_CONFIG:-}
  CONVERT_CONFIG=${CONVERT_CONFIG#"$ROOT/"}
  [[ -z $CONVERT_CONFIG || ($CONVERT_CONFIG == python/*.yaml && -f $ROOT/$CONVERT_CONFIG) ]] ||
    die "CONVERT_CONFIG=$CONVERT_CONFIG: name a file in python/, which is what the image has, or put it among the recordings"
  local name
  for name in STRICT RECOVER; do
    [[ ${!name:-} == "" || ${!name} == 1 ]] || die "$name=${!name}: 1 or nothing"
  done
}

fill_set_arguments() {
  if [[ $WORKFLOW == convert ]]; then
    set_arguments=(--set "cpus=$CPUS" --set-string "name=$NAME" "image=$train_image" "memory=$MEMORY" "storage=$STORAGE")
    set_arguments+=("platform=${DATA_PLATFORM:-$PLATFORM}" "exec_timeout=$EXEC_TIMEOUT" "source=$DATA" "dataset=$DATASET")
    set_arguments+=("convert_config=$CONVERT_CONFIG" "strict=${STRICT:-}" "recover=${RECOVER:-}")
    set_arguments+=("blob_endpoint=${AZURE_STORAGE_BLOB_ENDPOINT:-}" "azure_credential=azure-storage")
    return
  fi
  set_arguments=(--set "cpus=$CPUS" "save_minutes=$SAVE_MINUTES" "data_task=${DATA_TASK:-0}")
  local text=("name=$NAME" "image=$train_image" "memory=$MEMORY" "storage=$STORAGE" "platform=$PLATFORM")
  text+=("data_platform=$DATA_PLATFORM" "exec_timeout=$EXEC_TIMEOUT" "config=$CONFIG" "overrides=$OVERRIDES")
  text+=("resume=${RESUME:-}" "output_url=$OUTPUT" "blob_endpoint=${AZURE_STORAGE_BLOB_ENDPOINT:-}")
  if [[ $WORKFLOW != train ]]; then
    set_arguments+=("gpus=$GPUS" "gpus_per_node=$GPUS_PER_NODE")
  fi
  if [[ $WORKFLOW == train-eval ]]; then
    set_arguments+=("eval_gpus=$EVAL_GPUS")
    text+=("eval_image=$eval_image" "episodes=${EPISODES:-}")
  fi
  if [[ -n $azure ]]; then
    text+=("source=$DATA" "azure_credential=azure-storage")
  else
    text+=("data_url=$data_url" "azure_credential=")
  fi
  [[ -z ${WANDB:-} ]] || text+=("wandb_credential=wandb")
  set_arguments+=(--set-string "${text[@]}")
}
