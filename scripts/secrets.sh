#!/usr/bin/env bash
# Summary: store what secrets.env holds as OSMO credentials, new or in place of older values
# Usage: secrets.sh
#   azure-storage       the storage account's name and key, which tasks use (AZURE_STORAGE_ACCOUNT_NAME, _KEY)
#   azure-storage-data  the same as OSMO itself needs it for azure:// URLs; where STORAGE_URL is one
#   registry            where the images come from (REGISTRY, REGISTRY_USERNAME, REGISTRY_PASSWORD)
#   wandb               WANDB_API_KEY
#   DRY_RUN=1  only show the commands
# Prints names, never values; these reach osmo through pipes. Variables are described in secrets.example.env.
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=scripts/secrets_file.sh
source "$ROOT/scripts/secrets_file.sh"
# shellcheck source=scripts/osmo_cli.sh
source "$ROOT/scripts/osmo_cli.sh"
help_wanted "$@"

load_secrets
DRY_RUN=${DRY_RUN:-}
MASKED_FROM=9 # characters; OSMO leaves shorter values readable in logs

AZURE_STORAGE_ACCOUNT_NAME=${AZURE_STORAGE_ACCOUNT_NAME:-}
AZURE_STORAGE_ACCOUNT_KEY=${AZURE_STORAGE_ACCOUNT_KEY:-}
AZURE_STORAGE_BLOB_ENDPOINT=${AZURE_STORAGE_BLOB_ENDPOINT:-}
STORAGE_URL=${STORAGE_URL:-}
REGISTRY=${REGISTRY:-}
REGISTRY_USERNAME=${REGISTRY_USERNAME:-}
REGISTRY_PASSWORD=${REGISTRY_PASSWORD:-}
WANDB_API_KEY=${WANDB_API_KEY:-}

need_values() {
  local name
  for name in "$@"; do
    [[ -n ${!name} ]] || die "$name is not set: secrets.env needs all of $*"
    [[ ${!name} != *[[:space:]]* ]] || die "$name has a blank in it: mend it in secrets.env"
  done
}

need_secret() {
  ((${#1} > 0)) || return 0
  ((${#1} >= MASKED_FROM)) ||
    die "$2 has ${#1} characters: OSMO does not mask values of fewer than $MASKED_FROM in logs; take a longer one"
}

# What is wanted: one line each, NAME TYPE KEY=VARIABLE ...
wanted=()
if [[ -n $AZURE_STORAGE_ACCOUNT_NAME$AZURE_STORAGE_ACCOUNT_KEY ]]; then
  need_values AZURE_STORAGE_ACCOUNT_NAME AZURE_STORAGE_ACCOUNT_KEY
  need_secret "$AZURE_STORAGE_ACCOUNT_KEY" AZURE_STORAGE_ACCOUNT_KEY
  [[ $AZURE_STORAGE_ACCOUNT_KEY =~ ^[A-Za-z0-9+/]+={0,2}$ ]] ||
    die "AZURE_STORAGE_ACCOUNT_KEY is no account key (base64): copy it again from the portal, Access keys"
  wanted+=("azure-storage GENERIC account_name=AZURE_STORAGE_ACCOUNT_NAME account_key=AZURE_STORAGE_ACCOUNT_KEY")
fi
if [[ $STORAGE_URL == azure://* ]]; then
  need_values AZURE_STORAGE_ACCOUNT_NAME AZURE_STORAGE_ACCOUNT_KEY
  DATA_ENDPOINT=azure://$AZURE_STORAGE_ACCOUNT_NAME
  [[ $STORAGE_URL == "$DATA_ENDPOINT"/?* ]] ||
    die "STORAGE_URL=$STORAGE_URL is not in the account $AZURE_STORAGE_ACCOUNT_NAME: OSMO could not write there"
  blob_endpoint=${AZURE_STORAGE_BLOB_ENDPOINT:-https://$AZURE_STORAGE_ACCOUNT_NAME.blob.core.windows.net}
  # shellcheck disable=SC2034 # read by its name, as those below
  DATA_KEY_ID=$AZURE_STORAGE_ACCOUNT_NAME
  CONNECTION_STRING="DefaultEndpointsProtocol=${blob_endpoint%%://*};AccountName=$AZURE_STORAGE_ACCOUNT_NAME;"
  CONNECTION_STRING+="AccountKey=$AZURE_STORAGE_ACCOUNT_KEY;BlobEndpoint=$blob_endpoint;"
  wanted+=("azure-storage-data DATA endpoint=DATA_ENDPOINT access_key_id=DATA_KEY_ID access_key=CONNECTION_STRING")
fi
if [[ -n $REGISTRY_USERNAME$REGISTRY_PASSWORD ]]; then
  need_values REGISTRY REGISTRY_USERNAME REGISTRY_PASSWORD
  need_secret "$REGISTRY_PASSWORD" REGISTRY_PASSWORD
  # shellcheck disable=SC2034
  REGISTRY_HOST=${REGISTRY%%/*}
  wanted+=("registry REGISTRY registry=REGISTRY_HOST username=REGISTRY_USERNAME auth=REGISTRY_PASSWORD")
fi
if [[ -n $WANDB_API_KEY ]]; then
  need_values WANDB_API_KEY
  need_secret "$WANDB_API_KEY" WANDB_API_KEY
  wanted+=("wandb GENERIC api_key=WANDB_API_KEY")
fi
((${#wanted[@]} > 0)) ||
  die "there is nothing to store: copy secrets.example.env to secrets.env and fill it in"

# set_credential NAME TYPE KEY=VARIABLE ...: success is what the CLI says, since it ends with 0 on many errors.
# The values go through one pipe each, made by a builtin, so that no command line holds them.
set_credential() {
  local name=$1 type=$2 pair
  local -a payload=()
  shift 2
  local -a fds=()
  local fd variable
  for pair in "$@"; do
    variable=${pair#*=}
    exec {fd}< <(printf '%s' "${!variable}")
    fds+=("$fd")
    payload+=("${pair%%=*}=/dev/fd/$fd")
  done
  answer=$(osmo credential set "$name" --type "$type" --payload-file "${payload[@]}" 2>/dev/null) || true
  for fd in "${fds[@]}"; do
    exec {fd}<&-
  done
  [[ $answer == *"Set $type credential $name."* ]]
}

delete_credential() {
  answer=$(osmo credential delete "$1" 2>/dev/null) || true
  [[ $answer == *"Deleted credential $1."* ]]
}

# store NAME TYPE KEY=VARIABLE ...: OSMO replaces a DATA or REGISTRY credential of the same account or host by itself,
# but no GENERIC one, which must be deleted first; whether it takes the new value is tried out before.
store() {
  local name=$1 type=$2 index trial=$1-trial attempt
  for index in "${!credential_names[@]}"; do
    [[ ${credential_names[index]} != "$name" || ${credential_types[index]} == "$type" ]] ||
      die "OSMO has a credential $name of type ${credential_types[index]}: delete it (osmo credential delete $name)"
  done
  if [[ $type != GENERIC ]] || ! has_credential "$name" "$type"; then
    set_credential "$@" && return
    [[ $answer == *"duplicate key"* ]] || die "OSMO refuses $name, what it had is unchanged: $(osmo_says "$answer")"
  fi
  if [[ $type == GENERIC ]]; then
    delete_credential "$trial" || true
    set_credential "$trial" "${@:2}" || die "OSMO refuses $name, what it had is unchanged: $(osmo_says "$answer")"
    delete_credential "$trial" || say "$trial is left behind: $(osmo_says "$answer")"
  fi
  delete_credential "$name" || die "$name cannot be replaced, what OSMO had is unchanged: $(osmo_says "$answer")"
  for attempt in 1 2 3; do
    set_credential "$@" && return
    say "$name, attempt $attempt: $(osmo_says "$answer")"
  done
  die "$name is deleted, but OSMO does not take the new value it has just taken on trial: run make secrets again"
}

if [[ -n $DRY_RUN && $DRY_RUN != 0 ]]; then
  for line in "${wanted[@]}"; do
    read -r name type pairs <<<"$line"
    printf 'osmo credential set %s --type %s --payload-file' "$name" "$type"
    for pair in $pairs; do
      printf ' %s=<(%s)' "${pair%%=*}" "${pair#*=}"
    done
    printf '\n'
  done
  exit
fi

need_osmo
read_credentials
for line in "${wanted[@]}"; do
  read -r -a words <<<"$line"
  if has_credential "${words[0]}" "${words[1]}"; then done="replaced"; else done="stored"; fi
  store "${words[@]}"
  say "$done ${words[0]} (${words[1]}: $(printf '%s ' "${words[@]:2}" | sed 's/=[A-Z_]*//g; s/ $//; s/ /, /g'))"
done
