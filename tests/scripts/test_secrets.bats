#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2030,SC2031
load test_helper
load osmo

setup() {
  osmo_setup
}

@test "stores the account, the same for azure:// URLs, the registry and W&B" {
  azure_secrets REGISTRY=osmo.invalid/robots REGISTRY_USERNAME=me REGISTRY_PASSWORD=pass-word-1 WANDB_API_KEY=wandb-key-1
  unset REGISTRY
  script secrets
  assert_fine
  stored azure-storage GENERIC
  stored azure-storage-data DATA
  stored registry REGISTRY
  stored wandb GENERIC
  [[ $stderr == *"stored azure-storage (GENERIC: account_name, account_key)"* ]]
  [[ $output$stderr != *"$KEY"* && $output$stderr != *pass-word* && $output$stderr != *wandb-key* ]]
}

@test "replaces what is there, and leaves nothing else behind" {
  azure_secrets
  script secrets
  assert_fine
  script secrets
  assert_fine
  [[ $stderr == *"replaced azure-storage "* && $stderr == *"replaced azure-storage-data "* ]]
  stored azure-storage GENERIC
  run ! stored azure-storage-trial GENERIC
}

@test "the values are those of secrets.env, and stand in no argument" {
  only_standin "a real service does not tell values"
  azure_secrets
  script secrets
  assert_fine
  [ "$(payload azure-storage account_name)" = devstoreaccount1 ]
  [ "$(payload azure-storage account_key)" = "$KEY" ]
  [[ $(payload azure-storage-data access_key) == *"AccountKey=$KEY;BlobEndpoint=http://127.0.0.1:18010/devstoreaccount1;" ]]
  run ! grep -F "$KEY" "$OSMO_STATE/calls"
  run ! grep -rF "$KEY" "$HOME"
}

@test "a value that OSMO refuses leaves the old one in place" {
  only_standin "makes the service fail"
  azure_secrets
  script secrets
  assert_fine
  azure_secrets "AZURE_STORAGE_ACCOUNT_KEY=bmV3a2V5bmV3a2V5bmV3a2V5"
  refuse_next "credential set azure-storage-trial" 0 "Error: Please provide non-empty keys and values."
  script secrets
  assert_refused "OSMO refuses azure-storage, what it had is unchanged: Error: Please provide non-empty"
  [ "$(payload azure-storage account_key)" = "$KEY" ]
}

@test "an outage between deleting and setting is waited out" {
  only_standin "makes the service fail"
  azure_secrets
  script secrets
  assert_fine
  refuse_next "credential set azure-storage --" 10 "Error message: Cannot connect to OSMO service"
  script secrets
  assert_fine
  [ "$(payload azure-storage account_key)" = "$KEY" ]
}

@test "a name that another kind of credential has is not touched" {
  azure_secrets
  "$OSMO" credential set azure-storage --type REGISTRY --payload registry=osmo.invalid username=u auth=0123456789
  script secrets
  assert_refused "OSMO has a credential azure-storage of type REGISTRY"
  stored azure-storage REGISTRY
}

@test "DRY_RUN shows commands with names in place of values, and asks nobody" {
  azure_secrets
  OSMO=/nowhere DRY_RUN=1 script secrets
  assert_fine
  [[ ${lines[0]} == "osmo credential set azure-storage --type GENERIC --payload-file account_name=<(AZURE_STORAGE_ACCOUNT_NAME) account_key=<(AZURE_STORAGE_ACCOUNT_KEY)" ]]
  [[ $output$stderr != *"$KEY"* ]]
}

@test "missing, short and malformed values are refused before anything is sent" {
  script secrets
  assert_refused "there is nothing to store"
  secrets_env AZURE_STORAGE_ACCOUNT_NAME=account
  script secrets
  assert_refused "AZURE_STORAGE_ACCOUNT_KEY is not set"
  secrets_env AZURE_STORAGE_ACCOUNT_NAME=account AZURE_STORAGE_ACCOUNT_KEY=c2hvcnQ=
  script secrets
  assert_refused "AZURE_STORAGE_ACCOUNT_KEY has 8 characters: OSMO does not mask"
  secrets_env AZURE_STORAGE_ACCOUNT_NAME=account AZURE_STORAGE_ACCOUNT_KEY='sv=2024&sig=abcdefgh'
  script secrets
  assert_refused "is not an account key"
  secrets_env WANDB_API_KEY=12345678
  script secrets
  assert_refused "WANDB_API_KEY has 8 characters"
  azure_secrets STORAGE_URL=azure://other/data/x
  script secrets
  assert_refused "is not in the account devstoreaccount1"
}

@test "without the CLI, or not logged in, one line says so" {
  azure_secrets
  OSMO=/nowhere/osmo script secrets
  assert_refused "/nowhere/osmo is not there: install OSMO's CLI"
  if [[ -n $REAL_OSMO ]]; then
    export OSMO_CONFIG_FILE_DIR=$BATS_TEST_TMPDIR/nologin
    mkdir "$OSMO_CONFIG_FILE_DIR"
  else
    touch "$OSMO_STATE/logged-out"
  fi
  script secrets
  assert_refused 'Must login first with "login" command'
}
