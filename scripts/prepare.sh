#!/usr/bin/env bash
# Summary: download the dataset to train or evaluate on, from Azure Blob or from LOCALPATH; recordings are converted
# Usage: prepare.sh [OPTION OF fetch.sh ...]
#   SOURCE     a dataset or ROS 2 recordings; default: AZURE_BLOB_CONTAINER and AZURE_BLOB_PREFIX (secrets.env)
#   DEST       the folder of the dataset (outputs/data, which make train takes when DATA is not set)
#   LOCALPATH  the folder to copy where no Azure credentials are configured
# Where the source holds recordings:
#   BAGS            the folder for them (DEST-recordings)
#   CONVERT_CONFIG  what to make of them; default: convert.yaml among them, else python/convert.yaml
#   STRICT RECOVER WORKERS  as for convert.sh
# Prints the dataset's folder on stdout, everything else on stderr. Run again, it downloads and converts what is new.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
help_wanted "$@"

load_secrets
SOURCE=${SOURCE:-}
DEST=${DEST:-$ROOT/outputs/data}
DEST=${DEST%/}
BAGS=${BAGS:-$DEST-recordings}
CONVERT_CONFIG=${CONVERT_CONFIG:-}
python=$(project_python)

if [[ -z ${AZCOPY:-} && -n ${AZURE_STORAGE_SAS_TOKEN:-}${AZURE_STORAGE_ACCOUNT_KEY:-}${AZCOPY_AUTO_LOGIN_TYPE:-} ]] &&
  ! command -v azcopy >/dev/null; then
  "$ROOT/scripts/setup.sh" azcopy
fi

# Recordings that are here already are updated where they are; what a source holds is seen once it is here.
target=$DEST
[[ ! -d $BAGS ]] || target=$BAGS
"$ROOT/scripts/fetch.sh" "$@" ${SOURCE:+"$SOURCE"} "$target" >/dev/null
kind=dataset
if [[ ! -f $target/meta/info.json ]]; then
  # None may be there where all of them were left out.
  kind=recordings
  [[ $* == *--unless-converted* && -f $DEST/conversion.json ]] || kind=$("$python" -m ur10e_act.recordings.find_recordings "$target")
fi
case $kind:$target in
  dataset:"$DEST")
    printf '%s\n' "$(realpath -- "$DEST")"
    exit
    ;;
  dataset:*) die "$BAGS holds a dataset now: remove it, and $DEST, which came from recordings" ;;
  recordings:"$DEST") mv -T -- "$DEST" "$BAGS" ;;
esac

if [[ -z $CONVERT_CONFIG && -f $BAGS/convert.yaml ]]; then
  CONVERT_CONFIG=$BAGS/convert.yaml
fi
# OVERRIDES here are those of a training.
BAGS=$BAGS OUTPUT=$DEST CONVERT_CONFIG=$CONVERT_CONFIG OVERRIDES='' "$ROOT/scripts/convert.sh" >&2
printf '%s\n' "$(realpath -- "$DEST")"
