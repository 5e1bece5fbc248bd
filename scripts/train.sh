#!/usr/bin/env bash
# Summary: train a policy, as one process or as many, on one machine or several
# Usage: train.sh [ARGUMENT OF train.py ...]
#   DATA=DIR[:DIR...] GPUS=2 scripts/train.sh --override training.lr=5e-5
# On several machines, the same command on each, with its own NODE_RANK:
#   DATA=/data NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 GPUS=8 scripts/train.sh
#
#   DATA         dataset folder, several with ":" between them; default: data.roots of the
#                configuration, else outputs/data where make data has brought one
#   CONFIG       configuration file (python/config.yaml)
#   OUTPUT       output folder; default: training.output_dir of the configuration
#   OVERRIDES    blank-separated SECTION.KEY=VALUE
#   RESUME       1 = go on from the newest checkpoint in the output folder
#   GPUS         processes on this machine, one GPU each where there are GPUs (1)
#   NNODES       machines (1)
#   NODE_RANK    this machine's number, 0 to NNODES-1
#   MASTER_ADDR  host name or address of machine 0
#   MASTER_PORT  its port (29500)
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

DATA=${DATA:-}
CONFIG=${CONFIG:-$ROOT/python/config.yaml}
OUTPUT=${OUTPUT:-}
OVERRIDES=${OVERRIDES:-}
RESUME=${RESUME:-}
GPUS=${GPUS:-1}
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-}
MASTER_ADDR=${MASTER_ADDR:-}
MASTER_PORT=${MASTER_PORT:-29500}

[[ -f $CONFIG ]] || die "CONFIG=$CONFIG is no file: name a configuration like python/config.yaml"
need_count GPUS
need_count NNODES
arguments=(--config "$CONFIG")

if [[ -z $DATA && -d $ROOT/outputs/data && $CONFIG == "$ROOT/python/config.yaml" && "$OVERRIDES $*" != *data.roots=* ]]; then
  DATA=$ROOT/outputs/data
  say "DATA is not set: training on $DATA, which make data has brought"
fi
if [[ -z $DATA && $CONFIG == "$ROOT/python/config.yaml" && "$OVERRIDES $*" != *data.roots=* ]]; then
  die "DATA is not set: run make data, or name a LeRobot v3.0 dataset, like DATA=outputs/demo"
elif [[ -n $DATA ]]; then
  roots=
  while IFS= read -r -d : root; do
    [[ -d $root ]] || die "DATA: $root is no folder: name a LeRobot v3.0 dataset"
    roots+=${roots:+, }$(yaml_quoted "$root")
  done <<<"$DATA:"
  arguments+=(--override "data.roots=[$roots]")
fi
if [[ -n $OUTPUT ]]; then
  arguments+=(--override "training.output_dir=$(yaml_quoted "$OUTPUT")")
fi
read -r -a overrides <<<"${OVERRIDES//$'\n'/ }"
for override in "${overrides[@]}"; do
  arguments+=(--override "$override")
done
case $RESUME in
  "" | 0) ;;
  1) arguments+=(--resume) ;;
  *) die "RESUME=$RESUME: only 1 (go on from the newest checkpoint) or nothing" ;;
esac

python=$(project_python)
# The cores are shared out, since as many threads as cores in every process slow one another down.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(threads_per_process "$GPUS")}
export OMP_NUM_THREADS

# Said once and at once, not by every rank after its start.
"$python" "$ROOT/python/config.py" "${arguments[@]}" "$@" >/dev/null

torchrun=("$python" "$ROOT/python/launch.py" --nproc-per-node="$GPUS")
if ((NNODES > 1)); then
  [[ $NODE_RANK =~ ^[0-9]+$ && $NODE_RANK -lt $NNODES ]] ||
    die "NODE_RANK='$NODE_RANK' with NNODES=$NNODES: give each machine its number, 0 to $((NNODES - 1))"
  [[ -n $MASTER_ADDR ]] || die "MASTER_ADDR is not set: name the host of machine 0"
  need_count MASTER_PORT
  exec "${torchrun[@]}" --nnodes="$NNODES" --node-rank="$NODE_RANK" \
    --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" "$ROOT/python/train.py" "${arguments[@]}" "$@"
elif ((GPUS > 1)); then
  exec "${torchrun[@]}" --standalone "$ROOT/python/train.py" "${arguments[@]}" "$@"
else
  exec "$python" "$ROOT/python/train.py" "${arguments[@]}" "$@"
fi
