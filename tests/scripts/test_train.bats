#!/usr/bin/env bats
# shellcheck disable=SC2030,SC2031 # every test is a subshell, and its settings end with it
load test_helper

# What a test that fails leaves behind would slow all others down.
teardown() {
  pkill -KILL -f -- "$BATS_TEST_TMPDIR/" || true
}

@test "one process: plain Python" {
  copy_root
  record python3
  DATA=$HOME run --separate-stderr scripts/train.sh
  [ "$status" -eq 0 ]
  [ "$(head -n 1 "$CALLS")" = "$ROOT/python/train.py" ]
  assert_called "$ROOT/python/config.yaml"
  assert_called "data.roots=['$HOME']"
  run ! grep -qE 'launch|resume|output_dir' "$CALLS"
}

@test "GPUS=2: torchrun on this machine, the cores shared out" {
  copy_root
  record python3
  DATA=$HOME GPUS=2 run --separate-stderr scripts/train.sh
  [ "$status" -eq 0 ]
  [ "$(head -n 5 "$CALLS" | tr '\n' ' ')" = \
    "-m ur10e_act.training.torchrun_launcher --nproc-per-node=2 --standalone $ROOT/python/train.py " ]
  cores=$(nproc)
  assert_called "OMP_NUM_THREADS=$((cores / 2 > 0 ? cores / 2 : 1))"
}

@test "several machines: torchrun with the rank and the address given" {
  copy_root
  record python3
  DATA=$HOME GPUS=8 NNODES=2 NODE_RANK=1 MASTER_ADDR=host0 run --separate-stderr scripts/train.sh
  [ "$status" -eq 0 ]
  [ "$(head -n 8 "$CALLS" | tr '\n' ' ')" = "-m ur10e_act.training.torchrun_launcher --nproc-per-node=8 --nnodes=2 --node-rank=1 \
--master-addr=host0 --master-port=29500 $ROOT/python/train.py " ]
}

@test "settings and further arguments reach train.py as they are" {
  copy_root
  record python3
  mkdir "$HOME/it's [a], b" "$HOME/c"
  touch "$HOME/my.yaml"
  DATA="$HOME/it's [a], b:$HOME/c" CONFIG=$HOME/my.yaml OUTPUT="$HOME/o p" OVERRIDES="training.lr=5e-5  a.b=c" \
    RESUME=1 OMP_NUM_THREADS=3 run --separate-stderr scripts/train.sh --override "x.y=z z"
  [ "$status" -eq 0 ]
  assert_called "data.roots=['$HOME/it''s [a], b', '$HOME/c']"
  assert_called "$HOME/my.yaml"
  assert_called "training.output_dir='$HOME/o p'"
  assert_called "training.lr=5e-5"
  assert_called "a.b=c"
  assert_called "--resume"
  assert_called "x.y=z z"
  assert_called "OMP_NUM_THREADS=3"
}

@test "the status of training is the status of train.sh" {
  copy_root
  record python3 7
  DATA=$HOME run scripts/train.sh
  [ "$status" -eq 7 ]
}

@test "no DATA, and no other word of where the data is" {
  copy_root
  record python3
  run --separate-stderr scripts/train.sh
  assert_refused "DATA is not set"
  run scripts/train.sh --override "data.roots=[/data]"
  [ "$status" -eq 0 ]
}

@test "what cannot be is refused in one line" {
  copy_root
  export DATA=$HOME
  DATA=$HOME/nothing run --separate-stderr scripts/train.sh
  assert_refused "$HOME/nothing is not a directory"
  DATA=$HOME:$HOME/nothing run --separate-stderr scripts/train.sh
  assert_refused "$HOME/nothing is not a directory"
  CONFIG=$HOME/nothing.yaml run --separate-stderr scripts/train.sh
  assert_refused "nothing.yaml is not a file"
  for count in 0 two -1 1.5; do
    GPUS=$count run --separate-stderr scripts/train.sh
    assert_refused "GPUS=$count"
  done
  RESUME=yes run --separate-stderr scripts/train.sh
  assert_refused "RESUME=yes"
  NNODES=2 MASTER_ADDR=host0 run --separate-stderr scripts/train.sh
  assert_refused "NODE_RANK"
  NNODES=2 NODE_RANK=2 MASTER_ADDR=host0 run --separate-stderr scripts/train.sh
  assert_refused "NODE_RANK"
  NNODES=2 NODE_RANK=0 run --separate-stderr scripts/train.sh
  assert_refused "MASTER_ADDR"
}

@test "make passes its variables on" {
  copy_root
  record python3
  sed -i 's/^\(train\|eval\): setup/\1:/' Makefile
  run make --no-print-directory train DATA="$HOME" GPUS=2 OVERRIDES="training.lr=5e-5 training.steps=3"
  [ "$status" -eq 0 ]
  assert_called "--nproc-per-node=2"
  assert_called "training.steps=3"
  run make --no-print-directory eval DATA="$HOME" CHECKPOINT="$HOME" EPISODES="0 2"
  [ "$status" -eq 0 ]
  [ "$(tr '\n' ' ' <"$CALLS")" = "$ROOT/python/offline_eval.py --checkpoint $HOME --output $ROOT/outputs/eval \
--dataset $HOME --episodes 0 2 OMP_NUM_THREADS= " ]
}

# A policy and a dataset that two processes on one core train in seconds.
small_run() {
  export DATA=$REPO/tests/fixtures/ur10e_v3_by_lerobot_0_4_4
  export CONFIG=$BATS_TEST_TMPDIR/small.yaml OUTPUT=$BATS_TEST_TMPDIR/train OMP_NUM_THREADS=1
  cat >"$CONFIG" <<END
data: {image_size: [32, 48], held_out_episodes: [5], num_workers: 1}
model: {chunk_size: 6, n_action_steps: 6, pretrained_backbone_weights: null, dim_model: 32, n_heads: 2,
  dim_feedforward: 64, n_encoder_layers: 1, latent_dim: 4, n_vae_encoder_layers: 1}
training: {steps: ${1:-2}, batch_size: 4, device: cpu}
logging: {log_every: 1, tensorboard: false}
END
}

# bats test_tags=slow
@test "two machines, here both this one, train as one run" {
  small_run
  export NNODES=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29517
  NODE_RANK=1 "$REPO/scripts/train.sh" >"$BATS_TEST_TMPDIR/second" 2>&1 3>&- &
  NODE_RANK=0 run "$REPO/scripts/train.sh"
  [ "$status" -eq 0 ]
  wait "$!"
  assert_says "world_size=2"
  assert_says "train step=2/2"
  [ -z "$(<"$BATS_TEST_TMPDIR/second")" ] || fail "the second machine speaks too: $(<"$BATS_TEST_TMPDIR/second")"
  [ -f "$OUTPUT/checkpoints/last/pretrained_model/model.safetensors" ]
}

# started [VARIABLE=VALUE ...]: a training of two processes that runs, in a process group of its own; sets launcher.
started() {
  small_run 100000
  # An earlier training's would say that this one runs.
  : >"$BATS_TEST_TMPDIR/log"
  env GPUS=2 "$@" setsid "$REPO/scripts/train.sh" >"$BATS_TEST_TMPDIR/log" 2>&1 3>&- &
  launcher=$!
  for _ in {1..600}; do
    ! grep -q "train step=2/" "$BATS_TEST_TMPDIR/log" || break
    sleep 0.2
  done
  [ "$(pgrep -cf -- "$OUTPUT")" -ge 3 ]
}

nothing_is_left() {
  # Decoding processes notice within 5 s that their trainer is gone.
  for _ in {1..100}; do
    pgrep -f -- "$OUTPUT" >/dev/null || return 0
    sleep 0.2
  done
  fail "still there: $(pgrep -af -- "$OUTPUT")"
}

# bats test_tags=slow
@test "a signal ends all processes" {
  for variable in A= RESULT="$BATS_TEST_TMPDIR/result"; do
    started "$variable"
    kill -TERM "$launcher"
    status=0
    wait "$launcher" || status=$?
    [ "$status" -eq 143 ]
    run ! grep Traceback "$BATS_TEST_TMPDIR/log"
    nothing_is_left
    rm -rf "$OUTPUT"
  done
}

# bats test_tags=slow
@test "what OSMO kills, the process group, takes all processes with it" {
  started RESULT="$BATS_TEST_TMPDIR/result"
  kill -KILL -- "-$launcher"
  nothing_is_left
}

# bats test_tags=slow
@test "RESULT gets the best checkpoint's policy and the metrics, without links; the status of a failure is kept" {
  small_run
  export RESULT=$BATS_TEST_TMPDIR/result
  run "$REPO/scripts/train.sh"
  [ "$status" -eq 0 ]
  [ "$(cd "$RESULT" && echo *)" = "metrics.jsonl pretrained_model" ]
  [ -z "$(find "$RESULT" -type l)" ]
  cmp "$RESULT/pretrained_model/model.safetensors" "$OUTPUT/checkpoints/best/pretrained_model/model.safetensors"
  run --separate-stderr "$REPO/scripts/train.sh"
  [ "$status" -eq 2 ]
  [[ $stderr == *"holds a run already"* ]]
}

@test "STEPS and WANDB are settings, and OVERRIDES come after them" {
  copy_root
  record python3
  DATA=$HOME STEPS=5 WANDB=arm OVERRIDES="training.steps=6" scripts/train.sh
  [[ $(tr '\n' ' ' <"$CALLS") == *" --override training.steps=5 --override logging.wandb=true --override \
logging.wandb_project='arm' --override training.steps=6 "* ]] || fail "$(<"$CALLS")"
  DATA=$HOME STEPS=0 run --separate-stderr scripts/train.sh
  assert_refused "STEPS=0"
}

@test "CHECKPOINT_URL, RESULT and RESUME_FROM need a folder for the output" {
  copy_root
  record python3
  export DATA=$HOME
  for variable in CHECKPOINT_URL=c/p RESULT="$HOME/r" RESUME_FROM=c/p; do
    run --separate-stderr env "$variable" scripts/train.sh
    assert_refused "OUTPUT"
  done
  RESUME=later run --separate-stderr scripts/train.sh
  assert_refused "RESUME=later"
  RESUME=c/p run --separate-stderr scripts/train.sh
  assert_refused "RESUME_FROM names published ones"
}
