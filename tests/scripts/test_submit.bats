#!/usr/bin/env bats
# shellcheck disable=SC2154,SC2030,SC2031
load test_helper
load osmo

setup() {
  osmo_setup
  azure_secrets
}

teardown() {
  [[ -z ${watcher:-} ]] || kill "$watcher" 2>/dev/null || true
}

submitted() {
  "$ROOT/scripts/secrets.sh" 2>/dev/null
  script submit
}

@test "make submit-ddp GPUS=4 submits, prints the ID alone on stdout, and how to continue" {
  "$ROOT/scripts/secrets.sh" 2>/dev/null
  sed -i 's/^\(submit-.*submit-%\): setup/\1:/' Makefile
  run --separate-stderr make --no-print-directory submit-ddp GPUS=4 NAME=bats-ddp TAG="$TAG"
  assert_fine
  [[ $output =~ ^bats-ddp-[0-9]+$ ]]
  [[ $stderr == *"make logs ID=$output"* ]]
  [[ $stderr == *"make submit-ddp RESUME_FROM=azure://devstoreaccount1/data/act/$output/checkpoints"* ]]
  export ID=$output
  script workflow status
  assert_fine
  [[ $output == *"$ID"* ]]
  script workflow cancel
  assert_fine
}

@test "all workflows and the main options are accepted" {
  WORKFLOW=train STEPS=10 PRIORITY=LOW POOL=default OVERRIDES='training.lr=1e-4 data.image_size=[224,224]' submitted
  assert_fine
  WORKFLOW=train-eval GPUS=4 GPUS_PER_NODE=2 DATA_TASK=1 EPISODES='0 1' EVAL_GPUS=0 submitted
  assert_fine
  WORKFLOW=convert DATASET=datasets/houston STRICT=1 CONVERT_CONFIG=python/convert.yaml submitted
  assert_fine
  azure_secrets WANDB_API_KEY=wandb-key-123
  WORKFLOW=ddp GPUS=32 GPUS_PER_NODE=8 WANDB=robots RESUME_FROM=data/act/old-1/checkpoints EXEC_TIMEOUT=2d submitted
  assert_fine
}

@test "what the submitted file holds is what was asked for" {
  export DRY_RUN=1
  WORKFLOW=ddp GPUS=4 GPUS_PER_NODE=2 STEPS=50 OVERRIDES="training.lr=5e-5" RESUME_FROM=data/x/checkpoints OSMO=/nowhere script submit
  assert_fine
  [[ $output == *'OVERRIDES: "training.save_minutes=10 training.steps=50 training.lr=5e-5"'* ]]
  [[ $output == *'RESUME_FROM: "data/x/checkpoints"'* ]]
  [[ $output == *'SOURCE: "datasets/reach"'* ]]
  [[ $output == *'CHECKPOINT_URL: "azure://devstoreaccount1/data/act/{{workflow_id}}/checkpoints"'* ]]
  [ "$(grep -c 'name: train-' <<<"$output")" = 2 ]
  [ "$(grep -c 'NNODES: "2"' <<<"$output")" = 2 ]
  WORKFLOW=train-eval OSMO=/nowhere script submit
  assert_fine
  [[ $output != *NNODES* && $output != *MASTER_ADDR* && $output != *'{{host:'* ]]
  [[ $output != *"$KEY"* ]]
}

@test "parameters out of range are refused before OSMO is asked, with what would fit" {
  export OSMO=/nowhere
  WORKFLOW=ddp GPUS=32 script submit
  assert_refused "32 tasks, but OSMO takes 20 by default: GPUS_PER_NODE=2 makes 16 nodes"
  WORKFLOW=train-eval GPUS=20 DATA_TASK=1 script submit
  assert_refused "22 tasks, but OSMO takes 20 by default: GPUS_PER_NODE=2 makes 10 nodes"
  WORKFLOW=ddp GPUS=4 GPUS_PER_NODE=3 script submit
  assert_refused "GPUS_PER_NODE=3 does not divide GPUS=4"
  WORKFLOW=ddp GPUS=two script submit
  assert_refused "GPUS=two is not a whole number"
  WORKFLOW=train GPUS=2 script submit
  assert_refused "one GPU only"
  WORKFLOW=dpp script submit
  assert_refused "WORKFLOW=dpp: train, ddp, train-eval or convert"
  WORKFLOW=convert script submit
  assert_refused "DATASET is not set"
  WORKFLOW=convert DATASET=c/p CONVERT_CONFIG=/etc/hosts script submit
  assert_refused "name a file in python/"
  WORKFLOW=ddp PRIORITY=URGENT script submit
  assert_refused "HIGH, NORMAL or LOW"
  WORKFLOW=ddp EXEC_TIMEOUT='1h 30m' script submit
  assert_refused "EXEC_TIMEOUT=1h 30m"
  WORKFLOW=ddp NAME=1st script submit
  assert_refused "NAME=1st"
  WORKFLOW=ddp STORAGE_URL=https://account.blob.core.windows.net/c/p script submit
  assert_refused "is not a URL like azure://ACCOUNT/CONTAINER/PREFIX"
  WORKFLOW=ddp TRAIN_IMAGE=ur10e-act-train script submit
  assert_refused "TRAIN_IMAGE=ur10e-act-train is not an image like REGISTRY/"
  REGISTRY='' WORKFLOW=ddp script submit
  assert_refused "REGISTRY is not set"
  WORKFLOW=ddp SOURCE=reach script submit
  assert_refused "name CONTAINER/PREFIX"
}

@test "a mistake in the configuration is found here" {
  export OSMO=/nowhere
  WORKFLOW=ddp OVERRIDES=training.learning_rate=1 script submit
  [ "$status" -eq 2 ]
  [[ $stderr == *"training.learning_rate"* && ${#stderr_lines[@]} -eq 1 ]]
  WORKFLOW=ddp CONFIG=/etc/hosts script submit
  assert_refused "name a configuration in python/"
  WORKFLOW=ddp SAVE_MINUTES=0 script submit
  assert_refused "SAVE_MINUTES=0"
}

@test "missing credentials are named before the submit" {
  WORKFLOW=ddp script submit
  assert_refused "OSMO has no credential azure-storage: store it with make secrets"
  "$OSMO" credential set azure-storage --payload account_name=devstoreaccount1 account_key=0123456789
  WORKFLOW=ddp script submit
  assert_refused "OSMO has no DATA credential for azure://devstoreaccount1"
  "$ROOT/scripts/secrets.sh" 2>/dev/null
  WORKFLOW=ddp WANDB=robots script submit
  assert_refused "OSMO has no credential wandb"
}

@test "more GPUs than any node has, and an unknown pool, are refused" {
  WORKFLOW=ddp GPUS=32 GPUS_PER_NODE=16 submitted
  assert_refused "GPUS_PER_NODE=16, but no node has more than 8 GPUs"
  WORKFLOW=ddp POOL=nowhere submitted
  [ "$status" -eq 2 ]
  [[ $stderr == *"Pool nowhere"* && ${#stderr_lines[@]} -eq 1 ]]
}

@test "without the CLI, not logged in, or with the service away, one line says so" {
  OSMO=/nowhere WORKFLOW=ddp script submit
  assert_refused "/nowhere is not there"
  if [[ -z $REAL_OSMO ]]; then
    refuse_next "credential --format-type json list" 10 "Cannot connect to OSMO service"
    WORKFLOW=ddp script submit
    assert_refused "Cannot connect to OSMO service"
  fi
}

@test "a submit that meets another of its name is tried again" {
  only_standin "makes the service fail"
  refuse_next "workflow submit" 2 "Error: connection pool is closed"
  WORKFLOW=ddp submitted
  assert_fine
}

@test "a refusal of the server ends with its reason in one line" {
  only_standin "makes the service fail"
  refuse_next "workflow submit" 1 '{\"message\": \"Workflow submit failed:\\nno such thing\", \"code\": 1}'
  WORKFLOW=ddp submitted
  assert_refused "no such thing"
}

@test "LOCALPATH is uploaded where no account is configured, and comes in as an input" {
  if [[ -n $REAL_OSMO ]]; then
    "$ROOT/scripts/secrets.sh" 2>/dev/null
  else
    "$OSMO" credential set d --type DATA --payload endpoint=azure://devstoreaccount1 access_key_id=a access_key=AccountKey=b
  fi
  secrets_env STORAGE_URL=azure://devstoreaccount1/data/act
  export LOCALPATH=$REPO/tests/fixtures/ur10e_v3_by_lerobot_0_4_4
  WORKFLOW=train DRY_RUN=1 script submit
  assert_fine
  [[ $output == *'- url: "azure://devstoreaccount1/data/act/data/ur10e_v3_by_lerobot_0_4_4"'* ]]
  [[ $output == *'DATA: "{{input:0}}"'* && $output != *azure-storage* ]]
  WORKFLOW=train script submit
  assert_fine
  [[ $stderr == *"uploading $LOCALPATH"* ]]
  if [[ -n $REAL_OSMO ]]; then
    run "$OSMO" data list -r azure://devstoreaccount1/data/act/data
    [[ $output == *act/data/ur10e_v3_by_lerobot_0_4_4/meta/info.json* ]]
  else
    grep -qF '"data", "upload", "azure://devstoreaccount1/data/act/data", ' "$OSMO_STATE/calls"
  fi
  LOCALPATH=$HOME WORKFLOW=train script submit
  [ "$status" -eq 2 ]
  [[ $stderr == *"info.json"* && ${#stderr_lines[@]} -eq 1 ]]
  secrets_env ""
  WORKFLOW=train script submit
  assert_refused "STORAGE_URL is not set"
}

@test "WATCH=1 follows the logs to the end, and ends with the workflow's result" {
  local log=$BATS_TEST_TMPDIR/log
  "$ROOT/scripts/secrets.sh" 2>/dev/null
  for end in COMPLETED FAILED; do
    : >"$log"
    WORKFLOW=train NAME=bats-watch WATCH=1 "$ROOT/scripts/submit.sh" >"$log" 2>&1 3>&- &
    watcher=$!
    timeout 60 grep -qm1 '^bats-watch-' <(tail -n +1 -f --pid="$watcher" "$log" 2>/dev/null) || fail "$(<"$log")"
    ID=$(grep -m1 '^bats-watch-' "$log")
    log_line "$ID" "step=1 loss=0.5"
    timeout 60 grep -qm1 'step=1 loss=0.5' <(tail -n +1 -f --pid="$watcher" "$log" 2>/dev/null) || fail "$(<"$log")"
    becomes "$ID" "$end"
    status=0
    wait "$watcher" || status=$?
    [[ $(<"$log") == *"$ID: $end"* ]]
    [ "$(grep -c 'step=1 loss=0.5' "$log")" = 1 ]
    [[ $end == COMPLETED && $status -eq 0 || $end == FAILED && $status -eq 1 ]]
    ID=$ID script workflow status
    [[ $end == COMPLETED && $status -eq 0 || $end == FAILED && $status -eq 1 ]]
  done
  ID=$ID script workflow cancel
  assert_refused "is already finished"
}

@test "logs that a signal ends leave no osmo process behind" {
  only_standin "its process is known by its arguments"
  WORKFLOW=ddp submitted
  assert_fine
  export ID=$output
  touch "$OSMO_STATE/follow"
  log_line "$ID" "step=1 loss=0.5"
  for signal in TERM HUP KILL; do
    # A log each: an earlier one would say that this one is being followed.
    "$ROOT/scripts/workflow.sh" logs >"$BATS_TEST_TMPDIR/log.$signal" 2>&1 3>&- &
    watcher=$!
    wait_until grep -qs 'step=1 loss=0.5' "$BATS_TEST_TMPDIR/log.$signal"
    pgrep -f "workflow logs $ID"
    kill "-$signal" "$watcher"
    run wait "$watcher"
    wait_until_not pgrep -f "workflow logs $ID"
  done
}

@test "status, logs and cancel of an unknown workflow, or of none" {
  for action in status logs cancel; do
    ID=no-such-workflow-1 script workflow "$action"
    assert_refused "no-such-workflow-1"
    script workflow "$action"
    assert_refused "ID is not set"
  done
}
