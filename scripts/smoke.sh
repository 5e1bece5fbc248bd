#!/usr/bin/env bash
# Summary: the whole pipeline at a small scale: demo dataset, training by two processes, held-out evaluation, report
# Usage: smoke.sh
#   OUTPUT  folder for dataset/, train/, eval/ and report.html, emptied first (outputs/smoke)
#   Ends non-zero when the policy did not learn to reach for what it sees.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

OUTPUT=${OUTPUT:-$ROOT/outputs/smoke}
# What is set for `make train` and `make eval` is not meant for this run.
unset DATA CONFIG OVERRIDES STEPS WANDB RESUME RESUME_FROM GPUS CHECKPOINT EPISODES TRAIN EVAL
unset NNODES NODE_RANK MASTER_ADDR MASTER_PORT SOURCE CHECKPOINT_URL RESULT SCRATCH REPORT

dataset=$OUTPUT/dataset
train=$OUTPUT/train
evaluation=$OUTPUT/eval
report=$OUTPUT/report.html
python=$(project_python)

mkdir -p -- "$OUTPUT"
rm -rf -- "$dataset" "$train" "$evaluation" "$report"

say "== dataset"
OUTPUT=$dataset "$ROOT/scripts/demo.sh"
say "== training by two processes"
DATA=$dataset CONFIG=$ROOT/python/config.smoke.yaml OUTPUT=$train GPUS=2 "$ROOT/scripts/train.sh"
say "== evaluation on episodes that training did not see"
CHECKPOINT=$train DATA=$dataset OUTPUT=$evaluation "$ROOT/scripts/eval.sh"
say "== report"
status=0
"$python" -m ur10e_act.evaluation.smoke_check --train "$train" --eval "$evaluation" || status=$?
TRAIN=$train EVAL=$evaluation REPORT=$report "$ROOT/scripts/report.sh"
exit "$status"
