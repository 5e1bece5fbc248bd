#!/usr/bin/env bash
# Summary: train a policy, as one process or as many, on one machine or several
# Usage: train.sh [ARGUMENT OF train.py ...]
#   DATA=DIR[:DIR...] GPUS=2 scripts/train.sh --override training.lr=5e-5
# On several machines, the same command on each, with its own NODE_RANK:
#   DATA=/data NNODES=2 NODE_RANK=0 MASTER_ADDR=host0 GPUS=8 scripts/train.sh
#
#   DATA         dataset folder, several with ":" between them; default: what SOURCE names, else data.roots of
#                the configuration, else outputs/data where make data has downloaded one
#   SOURCE       what prepare.sh downloads first, to DEST
#   CONFIG       configuration file (python/config.yaml)
#   OUTPUT       output folder; default: training.output_dir of the configuration
#   STEPS        training.steps
#   WANDB        project at Weights & Biases to log to
#   OVERRIDES    blank-separated SECTION.KEY=VALUE; they come after STEPS and WANDB
#   RESUME       1 = resume from the newest checkpoint in the output folder
#   RESUME_FROM  CHECKPOINT_URL of an earlier run: resume from what that has published
#   CHECKPOINT_URL  where in Azure Blob to publish checkpoints as they are saved (CONTAINER/PREFIX and other forms of
#                publish.sh); training resumes from what is there already
#   RESULT       folder that gets the best checkpoint's pretrained_model and the metrics when training has ended well
#   GPUS         processes on this machine, one GPU each where there are GPUs (1)
#   NNODES       machines (1)
#   NODE_RANK    this machine's number, 0 to NNODES-1
#   MASTER_ADDR  host name or address of machine 0
#   MASTER_PORT  its port (29500)
#   SCRATCH      folder for what is not kept, as on OSMO: the default of DEST is data in it, of OUTPUT train in it
# Also reads what prepare.sh reads.
# Exit status: 0; 2: bad input, fix it; 75: temporary failure, retry; 128 + N: ended by signal N.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

DATA=${DATA:-}
SOURCE=${SOURCE:-}
CONFIG=${CONFIG:-$ROOT/python/config.yaml}
SCRATCH=${SCRATCH:-}
OUTPUT=${OUTPUT:-${SCRATCH:+$SCRATCH/train}}
DEST=${DEST:-${SCRATCH:+$SCRATCH/data}}
OVERRIDES=${OVERRIDES:-}
RESUME=${RESUME:-}
RESUME_FROM=${RESUME_FROM:-}
STEPS=${STEPS:-}
WANDB=${WANDB:-}
CHECKPOINT_URL=${CHECKPOINT_URL:-}
RESULT=${RESULT:-}
GPUS=${GPUS:-1}
NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-}
MASTER_ADDR=${MASTER_ADDR:-}
MASTER_PORT=${MASTER_PORT:-29500}

[[ -f $CONFIG ]] || die "CONFIG=$CONFIG is not a file: name a configuration like python/config.yaml"
need_count GPUS
need_count NNODES
arguments=(--config "$CONFIG")
python=$(project_python)

case $RESUME in
  "" | 0 | 1) ;;
  *) die "RESUME=$RESUME: only 1 (resume from the newest checkpoint) or nothing; RESUME_FROM names published ones" ;;
esac
if [[ -n $RESUME_FROM ]]; then
  [[ $RESUME_FROM == */* ]] || die "RESUME_FROM=$RESUME_FROM: name published checkpoints, CONTAINER/PREFIX"
  [[ -n $OUTPUT ]] || die "RESUME_FROM=$RESUME_FROM needs OUTPUT: name the folder for the checkpoints to come to"
fi
[[ -z $CHECKPOINT_URL$RESULT || -n $OUTPUT ]] || die "OUTPUT is not set: CHECKPOINT_URL and RESULT need it"
if ((NNODES > 1)); then
  [[ $NODE_RANK =~ ^[0-9]+$ && $NODE_RANK -lt $NNODES ]] ||
    die "NODE_RANK='$NODE_RANK' with NNODES=$NNODES: give each machine its number, 0 to $((NNODES - 1))"
  [[ -n $MASTER_ADDR ]] || die "MASTER_ADDR is not set: name the host of machine 0"
  need_count MASTER_PORT
fi

if [[ -n $OUTPUT ]]; then
  arguments+=(--override "training.output_dir=$(yaml_quoted "$OUTPUT")")
fi
if [[ -n $STEPS ]]; then
  need_count STEPS
  arguments+=(--override "training.steps=$STEPS")
fi
if [[ -n $WANDB ]]; then
  arguments+=(--override logging.wandb=true --override "logging.wandb_project=$(yaml_quoted "$WANDB")")
fi
read -r -a overrides <<<"${OVERRIDES//$'\n'/ }"
for override in "${overrides[@]}"; do
  arguments+=(--override "$override")
done
# Said once and at once, not by every rank after its start, nor after the data have come.
"$python" -m ur10e_act.config "${arguments[@]}" "$@" >/dev/null

if [[ -z $DATA && -n $SOURCE ]]; then
  DATA=$(DEST=$DEST "$ROOT/scripts/prepare.sh")
fi
if [[ -z $DATA && -d $ROOT/outputs/data && $CONFIG == "$ROOT/python/config.yaml" && "$OVERRIDES $*" != *data.roots=* ]]; then
  DATA=$ROOT/outputs/data
  say "DATA is not set: training on $DATA, which make data has downloaded"
fi
if [[ -z $DATA && $CONFIG == "$ROOT/python/config.yaml" && "$OVERRIDES $*" != *data.roots=* ]]; then
  die "DATA is not set: run make data, or name a LeRobot v3.0 dataset, like DATA=outputs/demo"
elif [[ -n $DATA ]]; then
  roots=
  while IFS= read -r -d : root; do
    [[ -d $root ]] || die "DATA: $root is not a directory: name a LeRobot v3.0 dataset"
    roots+=${roots:+, }$(yaml_quoted "$root")
  done <<<"$DATA:"
  arguments+=(--override "data.roots=[$roots]")
fi

# download_checkpoints URL [OPTION OF fetch.sh]: what has been published there becomes this output's checkpoints.
download_checkpoints() {
  "$ROOT/scripts/fetch.sh" --manifest "${@:2}" "$1" "$OUTPUT/checkpoints" >/dev/null
}

if [[ -n $CHECKPOINT_URL && -n $SCRATCH ]] && ((NNODES > 1)); then
  # OSMO starts some nodes of a group in new pods and others where they were: what all have is what is published.
  rm -rf -- "$OUTPUT/checkpoints"
fi
if [[ -n $CHECKPOINT_URL && ! -e $OUTPUT/checkpoints/last ]]; then
  download_checkpoints "$CHECKPOINT_URL" --if-any
fi
if [[ -n $RESUME_FROM ]]; then
  # A restarted resumption resumes from its own checkpoints.
  [[ -e $OUTPUT/checkpoints/last ]] || download_checkpoints "$RESUME_FROM"
  arguments+=(--resume)
elif [[ $RESUME == 1 || (-n $CHECKPOINT_URL && -e $OUTPUT/checkpoints/last) ]]; then
  arguments+=(--resume)
fi

# The cores are shared out, since as many threads as cores in every process slow one another down.
OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(threads_per_process "$GPUS")}
export OMP_NUM_THREADS

launch=("$python" -m ur10e_act.training.torchrun_launcher --nproc-per-node="$GPUS")
if ((NNODES > 1)); then
  launch+=(--nnodes="$NNODES" --node-rank="$NODE_RANK" --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT")
elif ((GPUS > 1)); then
  launch+=(--standalone)
else
  launch=("$python")
fi
launch+=("$ROOT/python/train.py" "${arguments[@]}" "$@")
if [[ -n $CHECKPOINT_URL$RESULT && ${NODE_RANK:-0} == 0 ]]; then
  supervisor=("$python" -m ur10e_act.training.supervisor --output "$OUTPUT")
  [[ -z $RESULT ]] || supervisor+=(--result "$RESULT")
  [[ -z $CHECKPOINT_URL ]] || supervisor+=(--publish "$ROOT/scripts/publish.sh" "$CHECKPOINT_URL")
  launch=("${supervisor[@]}" "${launch[@]}")
fi
exec "${launch[@]}"
