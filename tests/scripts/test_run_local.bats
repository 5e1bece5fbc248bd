#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031
# bats file_tags=slow
load test_helper
load azurite

# From blob to blob: real azcopy and Azurite, real torchrun, the files that OSMO gets.

setup_file() {
  blob_setup_file
}

teardown_file() {
  stop "${AZURITE_PID:-}"
}

setup() {
  blob_setup
  cp -R "$REPO/workflows" "$REPO/secrets.example.env" "$ROOT"
  ln -s "$REPO/.venv" "$ROOT/.venv"
  blob tree "$CON" "$REPO/tests/fixtures/ur10e_v3_by_lerobot_0_4_4" reach/
  export SOURCE=$CON/reach STORAGE_URL=azure://devstoreaccount1/$CON/out OMP_NUM_THREADS=1 CONFIG=python/config.smoke.yaml
  OVERRIDES="model.dim_model=32 model.n_heads=2 model.dim_feedforward=32 model.n_encoder_layers=1"
  OVERRIDES+=" data.image_size=[32,32] training.batch_size=2 training.warmup_steps=0 training.val_every=100"
  OVERRIDES+=" logging.log_every=1 logging.tensorboard=false eval.latency_frames=3"
  export OVERRIDES
  LOG=$BATS_TEST_TMPDIR/log
}

teardown() {
  [[ -z ${running:-} ]] || kill "$running" 2>/dev/null || true
  blob_teardown
}

rehearse() {
  run --separate-stderr timeout -k 5 300 "$ROOT/scripts/run_local.sh"
}

# steps TASK FILE: the steps that its log tells of.
steps() {
  sed -n "s/^\[$1\] train step=\([0-9]*\)\/.*/\1/p" "$2" | tr '\n' ' '
}

@test "train-eval on two nodes: dataset in blob, data task, training, evaluation, metrics and report in blob" {
  WORKFLOW=train-eval GPUS=2 STEPS=3 DATA_TASK=1 EVAL_GPUS=0 rehearse
  assert_ok
  assert_says "[train-0] training on cpu world_size=2"
  [[ $stderr == *"workflow ur10e-act-train-eval-1: COMPLETED"* ]]
  [[ $output$stderr != *"$AZURE_STORAGE_ACCOUNT_KEY"* ]]
  fetch "$CON/out/ur10e-act-train-eval-1/eval" "$WORK/eval"
  assert_ok
  [[ -s $WORK/eval/report.html && -s $WORK/eval/metrics/summary.json && -s $WORK/eval/metrics/all_episodes.parquet ]]
  grep -q '"held_out": true' "$WORK/eval/metrics/summary.json"
  fetch --manifest "$CON/out/ur10e-act-train-eval-1/checkpoints" "$WORK/checkpoints"
  assert_ok
  [[ $(readlink "$WORK/checkpoints/last") == 000003 ]]
}

@test "a node that is killed: OSMO's retry resumes from the published checkpoint" {
  # Enough steps for the first checkpoint to be published while others are still to come.
  export WORKFLOW=ddp GPUS=2 STEPS=100 SAVE_MINUTES=0.02
  : >"$LOG"
  "$ROOT/scripts/run_local.sh" >"$LOG" 2>&1 3>&- &
  running=$!
  timeout 300 grep -qm1 'sent now' <(tail -n +1 -f --pid="$running" "$LOG" 2>/dev/null)
  pkill -9 -of "^[^ ]*python[0-9.]* -u $ROOT/python/train.py.*/train-1/0/scratch"
  status=0
  wait "$running" || status=$?
  [[ $status -eq 0 ]] || fail "$(<"$LOG")"
  # Killed is 137, and lost its peer 75, whichever comes first.
  grep -Eq 'run-local: train-(1 ended with 137|0 ended with 75): RESCHEDULED' "$LOG"
  [[ $(grep -c '^\[train-0\] training on cpu' "$LOG") -eq 2 ]]
  ! grep -q 'Traceback' "$LOG" || fail "$(<"$LOG")"
  start=$(sed -n 's/^\[train-0\] training on cpu .* step=\([0-9]*\)\/.*/\1/p' "$LOG" | tail -1)
  [[ $start -ge 1 ]] || fail "started from $start: $(<"$LOG")"
  [[ $(steps train-0 "$LOG") == *" $((start + 1)) "*" 100 " ]]
  # The metrics of the first attempt, which only the checkpoint still had, are in the result.
  fetch "$CON/out/ur10e-act-ddp-1/train" "$WORK/train"
  assert_ok
  [[ $(grep -c '"type": "train"' "$WORK/train/metrics.jsonl") -eq 100 ]]
  [[ $(grep -c '"type": "val", "step": 0' "$WORK/train/metrics.jsonl") -eq 1 ]]
  [[ ! -e $WORK/train/checkpoints ]]
}

@test "train, and RESUME_FROM for its checkpoints by another workflow" {
  WORKFLOW=train STEPS=2 rehearse
  assert_ok
  WORKFLOW=train STEPS=4 RESUME_FROM=$STORAGE_URL/ur10e-act-train-1/checkpoints rehearse
  assert_ok
  assert_says "training on cpu world_size=1 step=2/4"
  fetch --manifest "$CON/out/ur10e-act-train-2/checkpoints" "$WORK/checkpoints"
  assert_ok
  [[ $(readlink "$WORK/checkpoints/last") == 000004 ]]
  WORKFLOW=train STEPS=4 RESUME_FROM=$STORAGE_URL/nothing/checkpoints rehearse
  [[ $status -eq 2 || $status -eq 1 ]]
  assert_says "has no .manifest.json"
}

@test "broken data end the workflow at once, and the key is in no line" {
  put reach/meta/info.json '{}'
  WORKFLOW=ddp GPUS=2 STEPS=2 rehearse
  [ "$status" -eq 1 ]
  assert_says "[train-0] error: "
  [[ $stderr != *RESCHEDULED* && $stderr == *"ended with 2: group train FAILED"* ]]
  [[ $output$stderr != *"$AZURE_STORAGE_ACCOUNT_KEY"* ]]
}

@test "recordings in blob become a dataset in blob, later ones are added, and workflows take either" {
  write_bags "$WORK/bags" first second third
  printf 'task: reach\nfps: 10\ncameras: {top: {topic: /top/image_raw/compressed}}\n' >"$WORK/bags/convert.yaml"
  mv "$WORK/bags/third" "$WORK/third"
  blob tree "$CON" "$WORK/bags" recordings/
  WORKFLOW=convert SOURCE=$CON/recordings DATASET=$CON/dataset NODE_CPUS=1 rehearse
  assert_ok
  fetch --manifest "$CON/dataset" "$WORK/dataset"
  assert_ok
  PYTHONPATH=$ROOT/python run "$ROOT/.venv/bin/python" -m ur10e_act.dataset.lerobot_dataset "$WORK/dataset"
  assert_says "2 episodes"
  blob tree "$CON" "$WORK/third" recordings/third/
  WORKFLOW=convert SOURCE=$CON/recordings DATASET=$CON/dataset NODE_CPUS=1 rehearse
  assert_ok
  assert_says "2 recordings are in "
  [[ -n $(find "$ROOT/outputs/run-local" -path '*convert-2*/recordings/third/*') ]]
  [[ -z $(find "$ROOT/outputs/run-local" -path '*convert-2*/recordings/first/*') ]]
  WORKFLOW=convert SOURCE=$CON/recordings DATASET=$CON/dataset NODE_CPUS=1 rehearse
  assert_ok
  assert_says "no recordings here; "
  assert_says " is up to date"
  fetch --manifest "$CON/dataset" "$WORK/dataset"
  assert_ok
  PYTHONPATH=$ROOT/python run "$ROOT/.venv/bin/python" -m ur10e_act.dataset.lerobot_dataset "$WORK/dataset"
  assert_says "3 episodes"
  export STEPS=1
  # The evaluation converts them, too.
  WORKFLOW=train-eval SOURCE=$CON/recordings EVAL_GPUS=0 rehearse
  assert_ok
  assert_says "held_out=yes"
  fetch "$CON/out/ur10e-act-train-eval-1/eval" "$WORK/eval"
  assert_ok
  [[ -s $WORK/eval/metrics/all_episodes.parquet ]]
  WORKFLOW=ddp GPUS=2 SOURCE=$CON/recordings DATA_TASK=1 rehearse
  assert_ok
}
