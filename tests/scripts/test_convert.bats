#!/usr/bin/env bats
load test_helper

setup_file() {
  export BAGS_MADE=$BATS_FILE_TMPDIR/bags
  PYTHONPATH=$BATS_TEST_DIRNAME/../../python:$BATS_TEST_DIRNAME/../python \
    "$BATS_TEST_DIRNAME/../../.venv/bin/python" - "$BAGS_MADE" <<'EOF'
import sys
from pathlib import Path
from bags import Bag
for name, seconds in (("first", 2), ("short", 0.5)):
    Bag(seconds=seconds).write(Path(sys.argv[1]) / name)
EOF
}

@test "make inspect proposes a configuration that make convert takes" {
  run --separate-stderr make -C "$REPO" --no-print-directory inspect BAGS="$BAGS_MADE/first"
  [ "$status" -eq 0 ]
  assert_says "# /joint_states  sensor_msgs/msg/JointState  250 messages"
  printf '%s\n' "$output" >"$HOME/convert.yaml"
  run --separate-stderr make -C "$REPO" --no-print-directory convert BAGS="$BAGS_MADE" OUTPUT="$HOME/set" \
    CONVERT_CONFIG="$HOME/convert.yaml" WORKERS=2 OVERRIDES="fps=15 action.mode=delta"
  [ "$status" -eq 0 ]
  assert_says "skipped, too_short"
  assert_says "1 episodes, 29 frames, 1 skipped"
  grep -q '"fps": 15' "$HOME/set/meta/info.json"
  grep -q '"mode": "delta"' "$HOME/set/conversion.json"
  PYTHONPATH=$REPO/python run --separate-stderr "$REPO/.venv/bin/python" -m ur10e_act.recordings.find_recordings "$HOME/set"
  [ "$output" = dataset ]
  PYTHONPATH=$REPO/python run --separate-stderr "$REPO/.venv/bin/python" -m ur10e_act.recordings.find_recordings "$BAGS_MADE"
  [ "$output" = recordings ]
}

@test "STRICT=1 converts nothing where one recording is unusable, and says so in one line" {
  printf 'task: reach\ncameras: {top: {topic: /top/image_raw/compressed}}\n' >"$HOME/convert.yaml"
  BAGS=$BAGS_MADE OUTPUT=$HOME/set CONVERT_CONFIG=$HOME/convert.yaml WORKERS=1 STRICT=1 \
    run --separate-stderr "$REPO/scripts/convert.sh"
  [ "$status" -eq 2 ]
  [[ ${stderr_lines[-1]} == "error: 1 of 2 recordings cannot be converted and --strict is set; the first is short: "* ]] || fail "$stderr"
  [ ! -e "$HOME/set" ]
}

@test "what cannot be used ends in one line" {
  run --separate-stderr "$REPO/scripts/convert.sh"
  assert_refused "BAGS is not set"
  run --separate-stderr "$REPO/scripts/inspect.sh"
  assert_refused "BAGS is not set"
  export BAGS=$HOME/none OUTPUT=$HOME/set
  run --separate-stderr "$REPO/scripts/convert.sh"
  assert_refused "no such directory of recordings"
  WORKERS=0 run --separate-stderr "$REPO/scripts/convert.sh"
  assert_refused "WORKERS=0 is not a whole number"
  OVERRIDES=fpz=1 run --separate-stderr "$REPO/scripts/convert.sh"
  assert_refused "unknown key; did you mean fps?"
  mkdir "$HOME/none"
  run --separate-stderr "$REPO/scripts/convert.sh"
  assert_refused "neither a LeRobot dataset"
  PYTHONPATH=$REPO/python run --separate-stderr "$REPO/.venv/bin/python" -m ur10e_act.recordings.find_recordings "$HOME/none"
  assert_refused "neither a LeRobot dataset"
}
