# Azurite, the real azcopy and a proxy that fails on demand, for the tests and for scripts/bench.sh.
# shellcheck shell=bash disable=SC2154 # status, output and stderr are of bats

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
MODULES=$HERE/../node_modules

# The pinned azcopy, and Azurite's own account; its key is the one that Microsoft publishes for it.
azurite_account() {
  export AZCOPY AZURE_STORAGE_ACCOUNT_NAME=devstoreaccount1
  AZCOPY=$(cd -- "$HERE/.." && pwd -P)/node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64
  export AZURE_STORAGE_ACCOUNT_KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==
}
azurite_account

node_program() {
  local node=$HERE/../../.venv/bin/node
  if [[ -x $node ]]; then printf '%s\n' "$node"; else command -v node; fi
}

azcopy_runs() {
  "$AZCOPY" --version >/dev/null 2>&1
}

# start_azurite FOLDER [OPTION ...]: on a free port, its data in FOLDER; sets AZURITE (HOST:PORT) and AZURITE_PID.
start_azurite() {
  local folder=$1
  shift
  mkdir -p "$folder"
  : >"$folder/log"
  # The wheel's node is a Python that starts the real one: the group is what can be ended.
  setsid "$(node_program)" "$MODULES/azurite/dist/src/blob/main.js" --location "$folder" --blobHost 127.0.0.1 --blobPort 0 \
    --skipApiVersionCheck --disableTelemetry "$@" >"$folder/log" 2>&1 3>&- &
  AZURITE_PID=$!
  await_line "$folder/log" "$AZURITE_PID" 'successfully listens' || return
  export AZURITE
  AZURITE=$(sed -n 's,.*listens on https\?://\([0-9.:]*\).*,\1,p' "$folder/log")
  [[ -n $AZURITE ]]
}

# start_faults FOLDER: the proxy before Azurite; sets PROXY (HOST:PORT) and PROXY_PID.
start_faults() {
  mkdir -p "$1"
  : >"$1/port"
  setsid python3 "$HERE/faults.py" "$AZURITE" "$1" >"$1/port" 2>"$1/log" 3>&- &
  PROXY_PID=$!
  await_line "$1/port" "$PROXY_PID" '[0-9]' || return
  export PROXY
  PROXY=127.0.0.1:$(<"$1/port")
}

# await_line FILE PID TEXT: returns when FILE has a line with TEXT; fails when PID ends without one.
await_line() {
  timeout 60 grep -qm1 -- "$3" <(tail -n +1 -f --pid="$2" -- "$1" 2>/dev/null)
}

# stop PID ...: ends what was started here, each a group of its own.
stop() {
  local pid
  for pid in "$@"; do
    kill -9 -- "-$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}

# plain_azcopy ARGUMENT ...: azcopy as one would run it by hand with the account key, in FOLDER/plain.
plain_azcopy() {
  AZCOPY_CRED_TYPE=SharedKey ACCOUNT_NAME=$AZURE_STORAGE_ACCOUNT_NAME ACCOUNT_KEY=$AZURE_STORAGE_ACCOUNT_KEY \
    AZCOPY_LOG_LOCATION=$PLAIN/log AZCOPY_JOB_PLAN_LOCATION=$PLAIN/plan AZCOPY_DISABLE_SYSLOG=true \
    "$AZCOPY" "$@" --output-level=quiet --trusted-microsoft-suffixes="$AZURITE"
}

# --- for the bats files ---

PATIENCE=(timeout -k 5 120)

blob_setup_file() {
  azcopy_runs || skip "azcopy does not run: apt-get install libsecret-1-0"
  start_azurite "$BATS_FILE_TMPDIR/azurite"
  export AZURITE_PID AZURITE
}

# A proxy and a container of the test's own; the scripts in a root of their own, as in an image.
blob_setup() {
  own_environment
  azurite_account
  FAULTS=$BATS_TEST_TMPDIR/faults
  start_faults "$FAULTS"
  export AZURE_STORAGE_BLOB_ENDPOINT=http://$PROXY/devstoreaccount1
  export STALL_SECONDS_MINIMUM=1 STALL_SECONDS=60
  # A name of the file's own, since other files may run beside it: blob_teardown looks for azcopy by this name.
  CON=$(basename -- "$BATS_TEST_FILENAME" .bats)
  CON=${CON//_/-}-$BATS_TEST_NUMBER
  WORK=$BATS_TEST_TMPDIR/work
  DEST=$WORK/data
  export TMPDIR=$BATS_TEST_TMPDIR/tmp
  mkdir -p "$WORK" "$TMPDIR"
  blob container "$CON"
  copy_root
}

blob_teardown() {
  stop "$PROXY_PID"
  # No azcopy outlives its script, however that ended.
  ! pgrep -f "^$AZCOPY .*/$CON" || fail "azcopy still runs"
}

# blob ARGUMENT ...: blob.py straight to Azurite, past the faults.
blob() {
  AZURE_STORAGE_BLOB_ENDPOINT=http://$AZURITE/devstoreaccount1 python3 "$HERE/blob.py" "$@"
}

# put NAME CONTENT [MD5]: one blob in the test's container.
put() {
  blob put "$CON" "$@"
}

# seed COUNT: rec/00 ... in the test's container, and the same files in $BATS_TEST_TMPDIR/rec.
seed() {
  local index
  mkdir -p "$BATS_TEST_TMPDIR/rec/sub"
  for ((index = 0; index < $1; index++)); do
    printf 'file %d %2000d\n' "$index" "$index" >"$BATS_TEST_TMPDIR/rec/$(printf '%02d' "$index")"
  done
  printf 'below\n' >"$BATS_TEST_TMPDIR/rec/sub/below"
  blob tree "$CON" "$BATS_TEST_TMPDIR/rec" rec/
}

# fault JSON: what the proxy does from now on (see faults.py); {} ends it.
fault() {
  printf '%s' "$1" >"$FAULTS/rule.new"
  mv "$FAULTS/rule.new" "$FAULTS/rule"
}

# requests KIND: how many there were since the last forget_requests.
requests() {
  grep -c "^$1 " "$FAULTS/requests" || true
}

forget_requests() {
  : >"$FAULTS/requests"
}

fetch() {
  run --separate-stderr "${PATIENCE[@]}" "$ROOT/scripts/fetch.sh" "$@"
}

publish() {
  run --separate-stderr "${PATIENCE[@]}" "$ROOT/scripts/publish.sh" "$@"
}

assert_ok() {
  [[ $status -eq 0 ]] || fail "status $status: $output $stderr"
}

# assert_ended STATUS TEXT: that status, and one line of error, the last one, with the text and without a secret.
assert_ended() {
  [[ $status -eq $1 ]] || fail "status $status, not $1: $output $stderr"
  [[ ${stderr_lines[-1]} == "error: "*"$2"* ]] || fail "'$2' is not in the last line of: $stderr"
  [[ $output == "" ]] || fail "on stdout: $output"
  [[ $stderr != *"$AZURE_STORAGE_ACCOUNT_KEY"* && ! $stderr =~ sig=[A-Za-z0-9] ]] || fail "a secret in: $stderr"
}

# assert_same FOLDER: DEST holds the same files, its record, and nothing is left beside it.
assert_same() {
  diff -r --exclude=.manifest.json "$1" "$DEST" || fail "$DEST differs"
  [[ $(ls -A "$WORK") == data ]] || fail "left behind: $(ls -A "$WORK")"
  [[ -z $(ls -A "$TMPDIR") ]] || fail "left behind: $(ls -A "$TMPDIR")"
}

# until COMMAND ...: tries it until it succeeds, for 20 s.
until_true() {
  local deadline=$((SECONDS + 20))
  until "$@"; do
    ((SECONDS < deadline)) || fail "in vain: $*" || return
    sleep 0.05
  done
}
