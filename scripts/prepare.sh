#!/usr/bin/env bash
# Summary: bring the dataset to train or evaluate on, from Azure Blob or from LOCALPATH
# Usage: prepare.sh [OPTION OF fetch.sh ...]
#   SOURCE     what to bring; default: AZURE_BLOB_CONTAINER and AZURE_BLOB_PREFIX (secrets.env)
#   DEST       the folder (outputs/data, which make train takes when DATA is not set)
#   LOCALPATH  the folder to copy where no Azure credentials are configured
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
help_wanted "$@"

load_secrets
SOURCE=${SOURCE:-}
DEST=${DEST:-$ROOT/outputs/data}

if [[ -z ${AZCOPY:-} && -n ${AZURE_STORAGE_SAS_TOKEN:-}${AZURE_STORAGE_ACCOUNT_KEY:-}${AZCOPY_AUTO_LOGIN_TYPE:-} ]] &&
  ! command -v azcopy >/dev/null; then
  "$ROOT/scripts/setup.sh" azcopy
fi
exec "$ROOT/scripts/fetch.sh" "$@" ${SOURCE:+"$SOURCE"} "$DEST"
