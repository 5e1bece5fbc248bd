#!/usr/bin/env bats
load test_helper

@test "make data copies LOCALPATH to outputs/data and prints where it is; make train takes it" {
  copy_root
  mkdir -p "$HOME/set/meta"
  echo '{}' >"$HOME/set/meta/info.json"
  sed -i 's/^data: setup/data:/; s/^train: setup/train:/' Makefile
  run --separate-stderr make --no-print-directory data LOCALPATH="$HOME/set"
  [ "$status" -eq 0 ]
  [ "$output" = "$ROOT/outputs/data" ]
  [[ $stderr == *"LOCALPATH=$HOME/set (no Azure credentials are configured)"* ]]
  diff -r --exclude=.manifest.json "$HOME/set" outputs/data
  record python3
  run --separate-stderr make --no-print-directory train
  [ "$status" -eq 0 ]
  assert_called "data.roots=['$ROOT/outputs/data']"
  [[ $stderr == *"training on $ROOT/outputs/data"* ]]
}

@test "SOURCE, DEST and options go to fetch.sh, credentials come from secrets.env" {
  copy_root
  cp "$REPO/secrets.example.env" "$ROOT"
  printf 'AZURE_STORAGE_ACCOUNT_KEY=a2V5\nAZURE_STORAGE_ACCOUNT_NAME=account\n' >secrets.env
  chmod 600 secrets.env
  record azcopy
  # shellcheck disable=SC2016 # for the program to expand
  printf '#!/bin/sh\nprintf "%%s\\n" "$@" "key $AZURE_STORAGE_ACCOUNT_KEY" >"%s"\n' "$CALLS" >"$BATS_TEST_TMPDIR/bin/python3"
  chmod +x "$BATS_TEST_TMPDIR/bin/python3"
  mkdir -p "$HOME/d/meta"
  echo '{}' >"$HOME/d/meta/info.json"
  SOURCE=con/a\ b DEST=$HOME/d run scripts/prepare.sh --verify
  [ "$status" -eq 0 ]
  [ "$(tr '\n' '|' <"$CALLS")" = "-m|ur10e_act.blob.fetch|--verify|con/a b|$HOME/d|key a2V5|" ]
}

@test "without azcopy the pinned one is set up, only where Azure is used" {
  copy_root
  printf '#!/bin/sh\necho "setup $*" >"%s"\nexit 3\n' "$HOME/called" >scripts/setup.sh
  mkdir "$HOME/bin"
  for name in bash dirname sed python3 stat grep env; do ln -s "$(command -v "$name")" "$HOME/bin/$name"; done
  PATH=$HOME/bin LOCALPATH=$HOME/none run scripts/prepare.sh
  [ ! -e "$HOME/called" ]
  PATH=$HOME/bin AZURE_STORAGE_ACCOUNT_KEY=a2V5 run scripts/prepare.sh
  [ "$(<"$HOME/called")" = "setup azcopy" ]
  [ "$status" -eq 3 ]
}

@test "recordings are converted: once, and again only what is new; DEST is the dataset" {
  copy_root
  ln -s "$REPO/.venv" .venv
  write_bags "$HOME/bags" first second
  printf 'task: reach\ncameras: {top: {topic: /top/image_raw/compressed}}\n' >"$HOME/bags/convert.yaml"
  export DEST=$HOME/dataset LOCALPATH=$HOME/bags OVERRIDES=training.lr=1e-4
  run --separate-stderr scripts/prepare.sh
  [ "$status" -eq 0 ] || fail "$stderr"
  [ "$output" = "$HOME/dataset" ]
  [[ $stderr == *"2 episodes"* ]]
  grep -q '"task": "reach"' "$DEST/conversion.json"
  [ -d "$DEST-recordings/first" ]
  write_bags "$HOME/bags" third
  run --separate-stderr scripts/prepare.sh
  [ "$status" -eq 0 ] || fail "$stderr"
  [[ $stderr == *"3 episodes"* ]] || fail "$stderr"
  PYTHONPATH=python .venv/bin/python -m ur10e_act.dataset.lerobot_dataset "$DEST"
}

@test "a folder that is neither a dataset nor recordings is refused" {
  copy_root
  ln -s "$REPO/.venv" .venv
  mkdir "$HOME/other"
  echo 1 >"$HOME/other/file"
  LOCALPATH=$HOME/other DEST=$HOME/d run --separate-stderr scripts/prepare.sh
  [ "$status" -eq 2 ]
  [[ ${stderr_lines[-1]} == *"holds neither a LeRobot dataset (meta/info.json) nor ROS 2 recordings"* ]]
}
