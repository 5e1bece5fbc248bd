#!/usr/bin/env bash
# Summary: convert ROS 2 recordings in Azure Blob to a dataset in Azure Blob; run again, it adds what is new
# Usage: convert_blob.sh
#   SOURCE   the recordings: CONTAINER/PREFIX and other forms of fetch.sh
#   DATASET  where the dataset is or will be: CONTAINER/PREFIX and other forms of publish.sh
#   SCRATCH  folder for both while they are worked on (outputs/convert)
#   CONVERT_CONFIG STRICT RECOVER WORKERS  as for prepare.sh
# Readers that fetch the dataset meanwhile are told to try again, never given a mixture.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
help_wanted "$@"

SOURCE=${SOURCE:-}
DATASET=${DATASET:-}
SCRATCH=${SCRATCH:-$ROOT/outputs/convert}
[[ -n $SOURCE ]] || die "SOURCE is not set: name the recordings, CONTAINER/PREFIX"
[[ -n $DATASET ]] || die "DATASET is not set: name the place for the dataset, CONTAINER/PREFIX"
mkdir -p -- "$SCRATCH"

# The earlier dataset, so that what is in it is not converted again.
"$ROOT/scripts/fetch.sh" --manifest --if-any "$DATASET" "$SCRATCH/dataset" >/dev/null
# It was published from a conversion, whose files a record of fetch.sh is none of.
rm -f -- "$SCRATCH/dataset/.manifest.json"
# From here on the recordings have a place of their own, whatever they are.
mkdir -p -- "$SCRATCH/recordings"
DEST=$SCRATCH/dataset BAGS=$SCRATCH/recordings \
  "$ROOT/scripts/prepare.sh" --unless-converted "$SCRATCH/dataset" >/dev/null
"$ROOT/scripts/publish.sh" "$SCRATCH/dataset" "$DATASET"
