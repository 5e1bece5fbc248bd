#!/usr/bin/env bats
load test_helper

@test "datasets, output and further arguments reach offline_eval.py" {
  copy_root
  record python3
  mkdir "$HOME/a b" "$HOME/c"
  CHECKPOINT=$HOME DATA="$HOME/a b:$HOME/c" OUTPUT="$HOME/o p" run scripts/eval.sh --mode queue
  [ "$status" -eq 0 ]
  [ "$(head -n -1 "$CALLS" | tr '\n' '|')" = "$ROOT/python/offline_eval.py|--checkpoint|$HOME|--output|$HOME/o p|\
--dataset|$HOME/a b|$HOME/c|--mode|queue|" ]
}

@test "what is missing is said in one line" {
  copy_root
  DATA=$HOME run --separate-stderr scripts/eval.sh
  assert_refused "CHECKPOINT is not set"
  DATA=$HOME CHECKPOINT=$HOME/nothing run --separate-stderr scripts/eval.sh
  assert_refused "$HOME/nothing is not there"
  CHECKPOINT=$HOME run --separate-stderr scripts/eval.sh
  assert_refused "DATA is not set"
  CHECKPOINT=$HOME DATA=$HOME/nothing run --separate-stderr scripts/eval.sh
  assert_refused "$HOME/nothing is not a directory"
}
