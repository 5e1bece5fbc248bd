#!/usr/bin/env bash
# Summary: store what secrets.env holds as OSMO credentials, new or in place of older values
# Usage: secrets.sh
#   azure-storage       the storage account's name and key, which tasks use (AZURE_STORAGE_ACCOUNT_NAME, _KEY)
#   azure-storage-data  the same as OSMO itself needs it for azure:// URLs; where STORAGE_URL is one
#   registry            where the images come from (REGISTRY, REGISTRY_USERNAME, REGISTRY_PASSWORD)
#   wandb               WANDB_API_KEY
#
#   DRY_RUN  1 = only show the commands
#   OSMO     the osmo program, where it is not on the PATH
# Prints names, never values; these reach osmo through pipes. Variables are described in secrets.example.env.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
help_wanted "$@"

load_secrets
python=$(project_python)
exec "$python" -m ur10e_act.osmo.secrets
