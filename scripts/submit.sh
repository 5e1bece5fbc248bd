#!/usr/bin/env bash
# Summary: check a workflow and everything it needs, then submit it to OSMO
# Usage: submit.sh
#   WORKFLOW        train, ddp, train-eval or convert
#   POOL            OSMO's pool; default: that of the profile
#   PRIORITY        HIGH, NORMAL or LOW (LOW may be preempted, and goes beyond the pool's guaranteed share)
#   WATCH           1 = follow the logs, and end with 0 only when the workflow has COMPLETED
#   DRY_RUN         1 = only print the rendered workflow; asks no server
#   OSMO            the osmo program, where it is not on the PATH
#   GPUS            GPUs in all (train: 1; ddp: 2; train-eval: 1)
#   GPUS_PER_NODE   GPUs of each node; GPUS is a multiple of it (1)
#   NODE_CPUS       of each node (8)
#   NODE_MEMORY     of each node (64Gi)
#   NODE_DISK       of each node (200Gi)
#   PLATFORM        of the pool
#   DATA_PLATFORM   for the task that downloads the data
#   EXEC_TIMEOUT    like 24h
#   SOURCE          dataset or recordings in blob storage: CONTAINER/PREFIX or azure://ACCOUNT/CONTAINER/PREFIX;
#                   default: AZURE_BLOB_CONTAINER and AZURE_BLOB_PREFIX
#   LOCALPATH       a dataset on this machine, taken where no Azure key is configured
#   DATA_TASK       1 = a task without GPUs downloads the data first and hands them to the training
#   DATASET         convert: where the dataset is or will be, CONTAINER/PREFIX; SOURCE are the recordings then
#   CONVERT_CONFIG  as for make convert; a file in python/
#   STRICT          as for make convert
#   RECOVER         as for make convert
#   STORAGE_URL     URL for results and checkpoints: azure://ACCOUNT/CONTAINER/PREFIX
#   RESUME_FROM     checkpoints URL of an earlier run to resume from: STORAGE_URL/WORKFLOW_ID/checkpoints
#   CONFIG          configuration in the image: a file in python/ (python/config.yaml)
#   STEPS           training.steps
#   OVERRIDES       blank-separated SECTION.KEY=VALUE
#   SAVE_MINUTES    minutes between checkpoints (10)
#   NAME            of the workflow (ur10e-act-WORKFLOW)
#   REGISTRY        the images are REGISTRY/ur10e-act-train:TAG and -eval:TAG
#   TAG             the git description
#   TRAIN_IMAGE     another image for training
#   EVAL_IMAGE      another image for the evaluation
#   EVAL_GPUS       of the evaluation: 1 or 0 GPUs (1)
#   EPISODES        of the evaluation: episode numbers (the held-out ones)
#   WANDB           project at Weights & Biases to log to, with the credential wandb
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
# shellcheck source=scripts/image_names.sh
source "$ROOT/scripts/image_names.sh"
help_wanted "$@"

load_secrets
python=$(project_python)
if [[ (-z ${TRAIN_IMAGE:-} || (-z ${EVAL_IMAGE:-} && ${WORKFLOW:-} == train-eval)) && -z ${TAG:-} ]]; then
  TAG=$(default_tag)
fi
TRAIN_IMAGE=${TRAIN_IMAGE:-$(image_name train)}
if [[ ${WORKFLOW:-} == train-eval ]]; then
  EVAL_IMAGE=${EVAL_IMAGE:-$(image_name eval)}
fi
export TRAIN_IMAGE EVAL_IMAGE
exec "$python" -m ur10e_act.osmo.submit
