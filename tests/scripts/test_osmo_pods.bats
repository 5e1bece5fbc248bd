#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031
load test_helper
load osmo

# What run_local.sh runs is what OSMO's service makes of the same file: with OSMO, OSMO_SET_STATUS, and OSMO_PODS, the
# folder where the service's pods lie.

setup() {
  [[ -n $REAL_OSMO && -n ${OSMO_PODS:-} ]] || skip "needs a real OSMO service: OSMO, OSMO_SET_STATUS and OSMO_PODS"
  osmo_setup
  azure_secrets WANDB_API_KEY=wandb-key-123
  "$ROOT/scripts/secrets.sh" 2>/dev/null
  export TRAIN_IMAGE=osmo.invalid/train:1 EVAL_IMAGE=osmo.invalid/eval:1 NAME=bats-pods
}

same_as_pods() {
  local id plan
  plan=$(DRY_RUN=1 "$ROOT/scripts/run_local.sh")
  id=$("$ROOT/scripts/submit.sh" 2>/dev/null)
  "$OSMO_SET_STATUS" "$id" COMPLETED >/dev/null
  run python3 "$REPO/tests/reference/compare_pods.py" "$id" "$OSMO_PODS" <<<"$plan"
  [ "$status" -eq 0 ] || fail "$output"
}

@test "train" {
  WORKFLOW=train same_as_pods
}

@test "ddp on one node and on four, with a data task, overrides and W&B" {
  WORKFLOW=ddp GPUS=4 GPUS_PER_NODE=4 same_as_pods
  WORKFLOW=ddp GPUS=8 GPUS_PER_NODE=2 DATA_TASK=1 OVERRIDES='training.lr=1e-4 data.image_size=[96,96]' \
    WANDB=robots RESUME_FROM=data/act/old-1/checkpoints same_as_pods
}

@test "train-eval, on one GPU and on two" {
  WORKFLOW=train-eval same_as_pods
  WORKFLOW=train-eval GPUS=2 DATA_TASK=1 EPISODES='0 1' same_as_pods
}

@test "convert" {
  WORKFLOW=convert DATASET=datasets/houston RECOVER=1 same_as_pods
}

@test "a dataset that comes in as an input" {
  secrets_env STORAGE_URL=azure://devstoreaccount1/data/act
  export LOCALPATH=$REPO/tests/fixtures/ur10e_v3_by_lerobot_0_4_4
  WORKFLOW=train-eval
  export WORKFLOW
  plan=$(DRY_RUN=1 "$ROOT/scripts/run_local.sh")
  # The one difference: where the folder is read from.
  plan=${plan//azure:\/\/local$LOCALPATH/azure:\/\/devstoreaccount1\/data\/act\/data\/${LOCALPATH##*\/}}
  id=$("$ROOT/scripts/submit.sh" 2>/dev/null)
  "$OSMO_SET_STATUS" "$id" COMPLETED >/dev/null
  run python3 "$REPO/tests/reference/compare_pods.py" "$id" "$OSMO_PODS" <<<"$plan"
  [ "$status" -eq 0 ] || fail "$output"
}
