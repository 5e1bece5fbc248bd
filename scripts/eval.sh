#!/usr/bin/env bash
# Summary: judge a checkpoint on the recorded episodes of a dataset
# Usage: eval.sh [ARGUMENT OF offline_eval.py ...]
#   CHECKPOINT=outputs/train DATA=/data/reach scripts/eval.sh --mode queue
#
#   CHECKPOINT  training output, checkpoint or pretrained_model folder
#   DATA        dataset folder, several with ":" between them; default: what SOURCE names
#   SOURCE      what prepare.sh downloads first, to DEST (data in SCRATCH, where that is set, else outputs/data)
#   OUTPUT      output folder (outputs/eval)
#   EPISODES    blank-separated episode numbers; default: the held-out ones where the checkpoint knows the dataset
#   REPORT      page to write as well, from CHECKPOINT's training and this evaluation
# Also reads what prepare.sh reads.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

CHECKPOINT=${CHECKPOINT:-}
DATA=${DATA:-}
SOURCE=${SOURCE:-}
SCRATCH=${SCRATCH:-}
REPORT=${REPORT:-}
OUTPUT=${OUTPUT:-$ROOT/outputs/eval}
EPISODES=${EPISODES:-}

[[ -n $CHECKPOINT ]] || die "CHECKPOINT is not set: name a training output, like CHECKPOINT=outputs/train"
[[ -e $CHECKPOINT ]] || die "CHECKPOINT=$CHECKPOINT is not there: name a training output or one of its checkpoints"
if [[ -z $DATA && -n $SOURCE ]]; then
  DATA=$(DEST=${DEST:-${SCRATCH:+$SCRATCH/data}} "$ROOT/scripts/prepare.sh")
fi
[[ -n $DATA ]] || die "DATA is not set: name a LeRobot v3.0 dataset, like DATA=outputs/demo"

arguments=(--checkpoint "$CHECKPOINT" --output "$OUTPUT" --dataset)
while IFS= read -r -d : root; do
  [[ -d $root ]] || die "DATA: $root is not a directory: name a LeRobot v3.0 dataset"
  arguments+=("$root")
done <<<"$DATA:"
read -r -a episodes <<<"$EPISODES"
if ((${#episodes[@]} > 0)); then
  arguments+=(--episodes "${episodes[@]}")
fi

python=$(project_python)
if [[ -z $REPORT ]]; then
  exec "$python" "$ROOT/python/offline_eval.py" "${arguments[@]}" "$@"
fi
"$python" "$ROOT/python/offline_eval.py" "${arguments[@]}" "$@"
exec "$python" "$ROOT/python/report.py" --train "$CHECKPOINT" --eval "$OUTPUT" --output "$REPORT"
