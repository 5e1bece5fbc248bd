#!/usr/bin/env bats
# publish.sh with the real azcopy against a real Azurite, through a proxy that fails on demand.
# shellcheck disable=SC2030,SC2031 # each test is a subshell, and means to be
load test_helper
load azurite

setup_file() { blob_setup_file; }
teardown_file() { stop "$AZURITE_PID"; }
setup() {
  blob_setup
  RUN=$BATS_TEST_TMPDIR/run
  mkdir -p "$RUN/checkpoints/000100" "$RUN/checkpoints/000200/odd %+#?ü"
  for step in 000100 000200; do
    head -c 50000 /dev/urandom >"$RUN/checkpoints/$step/model.safetensors"
  done
  ln -s 000200 "$RUN/checkpoints/last"
  echo 1 >"$RUN/checkpoints/000200/odd %+#?ü/a b%20c"
  : >"$RUN/empty"
  echo '{}' >"$RUN/.hidden"
}
teardown() { blob_teardown; }

# writes: how many blobs were written since the last forget_requests.
writes() {
  grep -cE '^[a-z]+ PUT ' "$FAULTS/requests" || true
}

@test "a run goes up and comes back as it was, links and all; again costs one listing" {
  publish "$RUN" "$CON/run"
  assert_ok
  [ "$output" = "$AZURE_STORAGE_BLOB_ENDPOINT/$CON/run/" ]
  [[ $(grep ' PUT ' "$FAULTS/requests" | tail -n 1) == *"/run/.manifest.json" ]]
  fetch --manifest "$CON/run" "$DEST"
  assert_ok
  assert_same "$RUN"
  [ "$(readlink "$DEST/checkpoints/last")" = 000200 ]
  forget_requests
  fetch --manifest "$CON/run" "$DEST"
  [[ $stderr == *"is up to date"* ]]
  [ "$(requests list)" -eq 1 ]
  [ "$(requests data)" -eq 0 ]
  forget_requests
  publish "$RUN" "$CON/run"
  [[ $stderr == *"is up to date"* ]]
  [ "$(requests list)" -eq 1 ]
  [ "$(writes)" -eq 0 ]
}

@test "only what differs is sent; blobs that have no file any more stay, and readers pass over them" {
  publish "$RUN" "$CON/run"
  assert_ok
  rm -r "$RUN/checkpoints/000100"
  mkdir "$RUN/checkpoints/000300"
  echo 3 >"$RUN/checkpoints/000300/model.safetensors"
  ln -sfn 000300 "$RUN/checkpoints/last"
  forget_requests
  publish "$RUN" "$CON/run"
  assert_ok
  [[ $stderr == *"1 files, 0 MB sent now; 1 other blobs stay there"* ]]
  [ "$(writes)" -eq 2 ]
  forget_requests
  fetch --manifest "$CON/run" "$DEST"
  assert_ok
  assert_same "$RUN"
  run ! grep -q 'data GET .*000100' "$FAULTS/requests"
}

@test "a half upload is refused, also one over an older whole one" {
  fault '{"action": "status", "code": 403, "error": "AuthorizationPermissionMismatch", "on": "other", "match": "000200"}'
  publish "$RUN" "$CON/run"
  assert_ended 2 "cannot upload"
  [[ $stderr == *403* ]]
  fault '{}'
  fetch --manifest "$CON/run" "$DEST"
  assert_ended 2 "has no .manifest.json"
  publish "$RUN" "$CON/run"
  assert_ok
  echo new >"$RUN/empty"
  echo newer >"$RUN/.hidden"
  fault '{"action": "status", "code": 403, "error": "AuthorizationPermissionMismatch", "on": "other", "match": "manifest"}'
  publish "$RUN" "$CON/run"
  assert_ended 2 ".manifest.json"
  fault '{}'
  for option in --verify --manifest; do
    fetch "$option" "$CON/run" "$DEST"
    assert_ended 75 "2 of 5 files are not as .manifest.json says"
  done
  [ -z "$(ls -A "$WORK")" ]
  publish "$RUN" "$CON/run"
  assert_ok
  fetch --manifest "$CON/run" "$DEST"
  assert_ok
  assert_same "$RUN"
}

@test "links: kept in the folder, followed out of it, refused when they lead nowhere or round in circles" {
  mkdir "$HOME/outside"
  echo outside >"$HOME/outside/file"
  ln -s "$HOME/outside" "$RUN/dataset"
  ln -s "$HOME/outside/file" "$RUN/notes"
  ln -s "$RUN/checkpoints/000200" "$RUN/best"
  publish "$RUN" "$CON/run"
  assert_ok
  fetch --manifest "$CON/run" "$DEST"
  assert_ok
  [ "$(<"$DEST/dataset/file")" = outside ]
  [ "$(<"$DEST/notes")" = outside ]
  [ "$(readlink "$DEST/best")" = checkpoints/000200 ]
  [ ! -L "$DEST/dataset" ]
  publish "$RUN/checkpoints/last" "$CON/last"
  assert_ok
  ln -s nothing "$RUN/broken"
  publish "$RUN" "$CON/run"
  assert_ended 2 "is a link to nothing"
  rm "$RUN/broken"
  ln -s "$RUN" "$HOME/outside/back"
  publish "$RUN" "$CON/run"
  assert_ok
  fetch --manifest "$CON/run" "$DEST"
  [ "$(readlink "$DEST/dataset/back")" = .. ]
  ln -s "$HOME/outside" "$HOME/outside/round"
  publish "$RUN" "$CON/run"
  assert_ended 2 "is a link round in circles"
  rm "$HOME/outside/round"
  mkfifo "$RUN/fifo"
  publish "$RUN" "$CON/run"
  assert_ended 2 "neither a file nor a folder"
}

@test "a manifest that leads out of the folder is refused" {
  put run/a a
  put run/.manifest.json '{"version": 1, "files": {}, "links": {"up": "../../x"}}'
  fetch "$CON/run" "$DEST"
  assert_ended 2 "leads out of the folder"
  put run/.manifest.json '{"version": 1, "files": {"../a": {"bytes": 1, "md5": null}}, "links": {}}'
  fetch "$CON/run" "$DEST"
  assert_ended 2 "outside the folder"
  put run/.manifest.json 'no json'
  fetch "$CON/run" "$DEST"
  assert_ended 2 "is not a manifest"
}

@test "a missing or empty DIR, no credentials, a wrong container: one line each" {
  publish "$RUN/none" "$CON/run"
  assert_ended 2 "$RUN/none is not a directory"
  publish "$RUN/empty" "$CON/run"
  assert_ended 2 "is not a directory"
  mkdir "$RUN/bare"
  publish "$RUN/bare" "$CON/run"
  assert_ended 2 "holds no files"
  publish "$RUN" no-such-container/run
  assert_ended 2 "404 ContainerNotFound"
  publish "$RUN" "$CON"
  assert_ended 2 "no prefix"
  AZURE_STORAGE_ACCOUNT_KEY='' "${PATIENCE[@]}" "$ROOT/scripts/publish.sh" "$RUN" "$CON/run" 2>"$HOME/err" && fail "went on"
  grep -q "^error: no credentials: set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY" "$HOME/err"
  [ "$(writes)" -eq 0 ]
}

@test "a SAS with r, a, c, w and l is enough; killed half-way and run again" {
  AZURE_STORAGE_SAS_TOKEN=$(blob sas "$CON" racwl)
  export AZURE_STORAGE_SAS_TOKEN
  mkfifo "$BATS_TEST_TMPDIR/told"
  fault "{\"action\": \"hang\", \"on\": \"other\", \"match\": \"model\", \"tell\": \"$BATS_TEST_TMPDIR/told\"}"
  setsid "$ROOT/scripts/publish.sh" "$RUN" "$CON/run" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  read -r <"$BATS_TEST_TMPDIR/told"
  kill -9 "$pid"
  wait "$pid" || true
  fault '{}'
  fetch --manifest "$CON/run" "$DEST"
  assert_ended 2 "has no .manifest.json"
  publish "$RUN" "$CON/run"
  assert_ok
  fetch --manifest "$CON/run" "$DEST"
  assert_ok
  rm -rf "$TMPDIR"/azcopy-*
  assert_same "$RUN"
}

@test "an upload without progress is ended" {
  fault '{"action": "hang", "on": "other", "match": "model"}'
  STALL_SECONDS=4 publish "$RUN" "$CON/run"
  assert_ended 75 "no progress for 4 s"
}

@test "--prune removes what only the earlier manifest names, and no other blob" {
  mkdir -p "$WORK/out/000001" "$WORK/out/000002"
  echo one >"$WORK/out/000001/f"
  echo two >"$WORK/out/000002/f"
  publish "$WORK/out" "$CON/checkpoints"
  assert_ok
  put checkpoints/foreign "not ours"
  rm -r "$WORK/out/000001"
  mkdir "$WORK/out/000003"
  echo three >"$WORK/out/000003/f"
  publish --prune "$WORK/out" "$CON/checkpoints"
  assert_ok
  [[ $stderr == *"1 other blobs stay there"* ]] || fail "$stderr"
  run blob list "$CON"
  [[ $output == *checkpoints/foreign* && $output == *checkpoints/000003/f* && $output != *checkpoints/000001/f* ]] || fail "$output"
  fetch --manifest "$CON/checkpoints" "$DEST"
  assert_ok
  diff -r --exclude=.manifest.json "$WORK/out" "$DEST"
}
