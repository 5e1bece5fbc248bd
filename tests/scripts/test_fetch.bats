#!/usr/bin/env bats
# fetch.sh with the real azcopy against a real Azurite, through a proxy that fails on demand.
# shellcheck disable=SC2030,SC2031,SC2034,SC2153 # each test is a subshell; variables come from and go to azurite.bash
load test_helper
load azurite

setup_file() { blob_setup_file; }
teardown_file() { stop "$AZURITE_PID"; }
setup() { blob_setup; }
teardown() { blob_teardown; }

# --- what is downloaded ---

@test "a prefix comes whole, without its namesakes; a second run is one listing" {
  seed 3
  for other in rec2/x rec-old/y rec.txt re; do put "$other" other; done
  fetch "$CON/rec" "$DEST"
  assert_ok
  [ "$output" = "$DEST" ]
  [[ $stderr == "source: $AZURE_STORAGE_BLOB_ENDPOINT/$CON/rec/ (AZURE_STORAGE_ACCOUNT_KEY is set)"* ]]
  assert_same "$BATS_TEST_TMPDIR/rec"
  forget_requests
  fetch "$CON/rec/" "$DEST"
  assert_ok
  [[ $stderr == *"is up to date"* ]]
  [ "$(requests list)" -eq 1 ]
  [ "$(requests data)" -eq 0 ]
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "a source that has changed is updated, and only what differs" {
  seed 4
  fetch "$CON/rec" "$DEST"
  assert_ok
  put rec/00 changed
  put rec/new new
  blob delete "$CON" rec/01
  printf changed >"$BATS_TEST_TMPDIR/rec/00"
  printf new >"$BATS_TEST_TMPDIR/rec/new"
  rm "$BATS_TEST_TMPDIR/rec/01"
  forget_requests
  fetch "$CON/rec" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec"
  [ "$(requests data)" -eq 2 ]
  forget_requests
  fetch "$CON/rec" "$DEST"
  [[ $stderr == *"is up to date"* ]]
  [ "$(requests data)" -eq 0 ]
}

@test "a local file that was damaged, cut or deleted is noticed and fixed" {
  seed 4
  fetch "$CON/rec" "$DEST"
  touch -r "$DEST/00" "$BATS_TEST_TMPDIR/time"
  printf X | dd of="$DEST/00" bs=1 seek=100 conv=notrunc status=none
  touch -r "$BATS_TEST_TMPDIR/time" "$DEST/00"
  truncate -s 10 "$DEST/01"
  rm "$DEST/02"
  forget_requests
  fetch "$CON/rec" "$DEST"
  assert_ok
  [[ $stderr == *"2 files in $DEST are not the source's"* ]]
  assert_same "$BATS_TEST_TMPDIR/rec"
  [ "$(requests data)" -eq 3 ]
}

@test "names with blanks, %, +, #, ?, umlauts, quotes and \$() arrive as they are" {
  mkdir "$BATS_TEST_TMPDIR/odd"
  for name in "a b" "a%20b" "100%" "a+b" "a#b?c=d&e" "ü" $'u\xcc\x88' "*" "'\"\`" "\$(touch x)" ".hidden" "[a]" "~" "-rf"; do
    printf '%s' "$name" >"$BATS_TEST_TMPDIR/odd/$name"
  done
  mkdir "$BATS_TEST_TMPDIR/odd/sub %zz"
  printf 1 >"$BATS_TEST_TMPDIR/odd/sub %zz/$(printf 'x%.0s' {1..206})"
  blob tree "$CON" "$BATS_TEST_TMPDIR/odd" "o %d+#?/"
  DEST="$WORK/data"
  fetch "$CON/o %d+#?" "$WORK/%zz *?#"
  assert_ok
  mv "$WORK/%zz *?#" "$DEST"
  assert_same "$BATS_TEST_TMPDIR/odd"
  DEST=$WORK/data
  fetch "$AZURE_STORAGE_BLOB_ENDPOINT/$CON/o%20%25d+%23%3F" "$DEST"
  assert_ok
  [[ $stderr == *"is up to date"* ]]
}

@test "names that lead out of DEST, meet in one path or cannot be written are refused before anything is transferred" {
  put up/a a
  put up/../../../escaped a
  fetch "$CON/up" "$DEST"
  assert_ended 2 "would be written outside"
  put meet/dir/two a
  put meet/dir//two b
  fetch "$CON/meet" "$DEST"
  assert_ended 2 "would be one file"
  put both/a a
  put both/a/b b
  fetch "$CON/both" "$DEST"
  assert_ended 2 "both a file and the folder"
  put "long/$(printf 'x%.0s' {1..207})" a
  fetch "$CON/long" "$DEST"
  assert_ended 2 "more than 206 bytes"
  [ "$(requests data)" -eq 0 ]
  [ -z "$(ls -A "$WORK")" ]
}

@test "markers of folders do not matter" {
  put rec/ ""
  put rec/empty/ ""
  for folder in 1 2 3 4; do
    put "rec/$folder/" ""
    put "rec/$folder/a" a
  done
  # azcopy would remove a folder while it makes a file in it, but not always.
  for _ in 1 2 3; do
    rm -rf "$DEST"
    fetch "$CON/rec" "$DEST"
    assert_ok
    [ "$(cd "$DEST" && echo */*)" = "1/a 2/a 3/a 4/a" ]
  done
}

@test "recordings that a dataset has are left out as long as Blob has them as they were" {
  local dataset=$BATS_TEST_TMPDIR/dataset
  seed 5
  put rec/plain "no MD5" none
  mkdir "$dataset"
  # As conversion.json has them: two kept recordings, one of two files, one without MD5 in Blob, and a skipped one.
  (
    cd "$BATS_TEST_TMPDIR/rec"
    printf 'no MD5' >plain
    entry() {
      printf '{"status": "%s", "files": {' "$1"
      for file in "${@:2}"; do
        printf '"%s": {"bytes": %d, "md5": "%s"},' "$file" "$(stat -c %s "$file")" "$(md5sum <"$file" | cut -c -32)"
      done | sed 's/,$//'
      printf '}}'
    }
    printf '{"recordings": [%s, %s, %s, %s]}' "$(entry kept 00 sub/below)" "$(entry kept 01 02)" "$(entry kept plain)" \
      "$(entry skipped 03)" >"$dataset/conversion.json"
  )
  fetch --unless-converted "$dataset" "$CON/rec" "$DEST"
  assert_ok
  [[ $stderr == *"2 recordings are in $dataset already and are left out"* ]] || fail "$stderr"
  [ "$(cd "$DEST" && echo *)" = "03 04 plain" ]
  put rec/02 changed
  fetch --unless-converted "$dataset" "$CON/rec" "$DEST"
  assert_ok
  [ "$(cd "$DEST" && echo *)" = "01 02 03 04 plain" ]
  # All of them: DEST is there, with nothing in it.
  rm -r "$DEST"
  printf '{"recordings": [{"status": "kept", "files": {"below": {"bytes": 6, "md5": "%s"}}}]}' \
    "$(printf 'below\n' | md5sum | cut -c -32)" >"$dataset/conversion.json"
  fetch --unless-converted "$dataset" "$CON/rec/sub" "$DEST"
  assert_ok
  [ "$(ls -A "$DEST")" = .manifest.json ]
  fetch --unless-converted "$BATS_TEST_TMPDIR/none" "$CON/rec/sub" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec/sub"
}

@test "blobs without MD5 come too; only their length, and later their version, can be compared" {
  put rec/a "some bytes" none
  put rec/b "other bytes" none
  fetch "$CON/rec" "$DEST"
  assert_ok
  [ "$(<"$DEST/a")" = "some bytes" ]
  forget_requests
  fetch "$CON/rec" "$DEST"
  [[ $stderr == *"is up to date"* ]]
  printf 'SOME' | dd of="$DEST/a" conv=notrunc status=none
  fetch "$CON/rec" "$DEST"
  assert_ok
  [ "$(<"$DEST/a")" = "some bytes" ]
  # Times of blobs are whole seconds.
  sleep 1.1
  put rec/b "OTHER BYTES" none
  fetch "$CON/rec" "$DEST"
  assert_ok
  [ "$(<"$DEST/b")" = "OTHER BYTES" ]
  rm -r "$DEST"
  fault '{"action": "short", "match": "rec/a"}'
  fetch "$CON/rec" "$DEST"
  assert_ended 75 "rec/a"
  [ ! -e "$DEST" ]
}

@test "2,000 small files; a second run starts no copy" {
  mkdir "$BATS_TEST_TMPDIR/many"
  (cd "$BATS_TEST_TMPDIR/many" && mkdir d{00..19} && for i in {0000..1999}; do echo "$i" >"d${i:0:1}${i:3:1}/$i" || exit; done)
  PLAIN=$BATS_TEST_TMPDIR/plain
  plain_azcopy copy "$BATS_TEST_TMPDIR/many/*" "http://$AZURITE/devstoreaccount1/$CON/many" --recursive --from-to=LocalBlob --put-md5
  # Past the proxy, which is slow.
  AZURE_STORAGE_BLOB_ENDPOINT=http://$AZURITE/devstoreaccount1 fetch "$CON/many" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/many"
  forget_requests
  fetch "$CON/many" "$DEST"
  [[ $stderr == *"is up to date"* ]]
  [ "$(requests list)" -eq 1 ]
  [ "$(requests data)" -eq 0 ]
}

# bats test_tags=slow
@test "one file of more than 1 GiB" {
  mkdir "$BATS_TEST_TMPDIR/big"
  head -c 1100000000 /dev/urandom >"$BATS_TEST_TMPDIR/big/bag.mcap"
  PLAIN=$BATS_TEST_TMPDIR/plain
  plain_azcopy copy "$BATS_TEST_TMPDIR/big/bag.mcap" "http://$AZURITE/devstoreaccount1/$CON/big/bag.mcap" --from-to=LocalBlob --put-md5
  AZURE_STORAGE_BLOB_ENDPOINT=http://$AZURITE/devstoreaccount1 fetch "$CON/big" "$DEST"
  assert_ok
  cmp "$BATS_TEST_TMPDIR/big/bag.mcap" "$DEST/bag.mcap"
  assert_same "$BATS_TEST_TMPDIR/big"
  rm -rf "$BATS_TEST_TMPDIR/big" "$DEST"
}

# --- where it comes from, and with which credentials ---

@test "the environment names the source when no SOURCE is given" {
  seed 1
  AZURE_BLOB_CONTAINER=$CON AZURE_BLOB_PREFIX=rec/ LOCALPATH=$HOME fetch "$DEST"
  assert_ok
  [[ $stderr == *"AZURE_STORAGE_ACCOUNT_KEY is set; LOCALPATH=$HOME is not used"* ]]
  assert_same "$BATS_TEST_TMPDIR/rec"
  fetch "azure://devstoreaccount1/$CON/rec" "$DEST"
  [[ $stderr == *"is up to date"* ]]
  fetch "$DEST"
  assert_ended 2 "AZURE_BLOB_CONTAINER is not set"
  AZURE_BLOB_CONTAINER=$CON fetch "$DEST"
  assert_ended 2 "AZURE_BLOB_PREFIX is not set"
  fetch "$CON" "$DEST"
  assert_ended 2 "no prefix"
  rm -r "$DEST"
  AZURE_BLOB_CONTAINER=$CON AZURE_BLOB_PREFIX=/ fetch "$DEST"
  assert_ok
  diff "$BATS_TEST_TMPDIR/rec/00" "$DEST/rec/00"
}

@test "without credentials LOCALPATH is copied; without either the variables are named" {
  seed 2
  unset AZURE_STORAGE_ACCOUNT_KEY
  ln -s 00 "$BATS_TEST_TMPDIR/rec/last"
  fetch "$CON/rec" "$DEST"
  AZURE_STORAGE_ACCOUNT_KEY="none" assert_ended 2 "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZCOPY_AUTO_LOGIN_TYPE"
  [[ $stderr == *"LOCALPATH=DIR"* && ${#stderr_lines[@]} -eq 1 ]]
  export LOCALPATH=$BATS_TEST_TMPDIR/rec
  fetch "$CON/rec" "$DEST"
  assert_ok
  [[ $stderr == *"source: LOCALPATH=$LOCALPATH (no Azure credentials are configured)"* ]]
  assert_same "$LOCALPATH"
  [ "$(readlink "$DEST/last")" = 00 ]
  fetch "$DEST"
  [[ $stderr == *"is up to date"* ]]
  printf X >>"$DEST/00"
  printf new >"$LOCALPATH/new"
  rm "$LOCALPATH/01"
  fetch "$DEST"
  assert_ok
  assert_same "$LOCALPATH"
  AZURE_STORAGE_ACCOUNT_KEY='' LOCALPATH=$WORK/none fetch "$DEST"
  [ "$status" -eq 2 ]
  [[ $stderr == *"LOCALPATH=$WORK/none is not a directory"* ]]
  fetch "$LOCALPATH/inside"
  [ "$status" -eq 2 ]
  [[ $stderr == *"lie in one another"* ]]
}

@test "a SAS goes before the key, and shows nowhere" {
  seed 2
  AZURE_STORAGE_SAS_TOKEN=$(blob sas "$CON" rl)
  export AZURE_STORAGE_SAS_TOKEN
  AZURE_STORAGE_ACCOUNT_KEY=d3Jvbmc= fetch "$CON/rec" "$DEST"
  assert_ok
  [[ $stderr == *"AZURE_STORAGE_SAS_TOKEN is set"* && $stderr != *sig=* ]]
  assert_same "$BATS_TEST_TMPDIR/rec"
  rm -r "$DEST"
  AZURE_STORAGE_SAS_TOKEN="?$(blob sas "$CON" r)" fetch "$CON/rec" "$DEST"
  assert_ended 2 "AuthorizationPermissionMismatch"
  AZURE_STORAGE_SAS_TOKEN=$(blob sas "$CON" rl -60) fetch "$CON/rec" "$DEST"
  assert_ended 2 "AuthorizationFailure"
  AZURE_STORAGE_SAS_TOKEN=secret fetch "$CON/rec" "$DEST"
  assert_ended 2 "is not a SAS token"
  [[ $stderr != *secret* ]]
  fetch "$AZURE_STORAGE_BLOB_ENDPOINT/$CON/rec?$AZURE_STORAGE_SAS_TOKEN" "$DEST"
  assert_ended 2 "put a SAS into AZURE_STORAGE_SAS_TOKEN"
  [ -z "$(ls -A "$WORK")" ]
}

@test "what azcopy says is cleaned of signatures, also when it panics" {
  seed 1
  # shellcheck disable=SC2016 # for the program to expand
  printf '#!/bin/sh\necho "panic: parse $2: sig=AbC%%2F+/=x&se=1 $AZURE_STORAGE_ACCOUNT_KEY $ACCOUNT_KEY"; exit 2\n' >"$HOME/azcopy"
  chmod +x "$HOME/azcopy"
  AZCOPY=$HOME/azcopy AZURE_STORAGE_SAS_TOKEN=$(blob sas "$CON" rl) fetch "$CON/rec" "$DEST"
  assert_ended 2 "panic: parse"
  [[ $stderr != *AbC* && $stderr == *sig=-REDACTED-* ]]
  AZCOPY=$HOME/azcopy fetch "$CON/rec" "$DEST"
  assert_ended 2 "panic: parse"
}

@test "the account key is in no argument of any process and in no file" {
  command -v strace >/dev/null || skip "strace is missing: apt-get install strace"
  seed 3
  strace -f -qq -v -s 100000 -e trace=execve,write,pwrite64,writev -e abbrev=execve -o "$BATS_TEST_TMPDIR/trace" \
    "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST" >"$BATS_TEST_TMPDIR/out" 2>&1
  assert_same "$BATS_TEST_TMPDIR/rec"
  grep -q 'execve(.*azcopy_linux_amd64", \[.*"copy"' "$BATS_TEST_TMPDIR/trace"
  grep -q 'write(.*AzcopyVersion' "$BATS_TEST_TMPDIR/trace"
  grep -oE 'execve\("[^"]*", \[[^]]*\]|write(v|64)?\(.*' "$BATS_TEST_TMPDIR/trace" >"$BATS_TEST_TMPDIR/seen"
  for secret in "$AZURE_STORAGE_ACCOUNT_KEY" "${AZURE_STORAGE_ACCOUNT_KEY:20:20}"; do
    run ! grep -qF -- "$secret" "$BATS_TEST_TMPDIR/seen"
  done
  # The same search finds what is there.
  grep -qF -- "$CON/rec" "$BATS_TEST_TMPDIR/seen"
}

@test "in mid-transfer the key is in no argument and in no file either" {
  seed 3
  mkfifo "$BATS_TEST_TMPDIR/told"
  fault "{\"action\": \"hang\", \"tell\": \"$BATS_TEST_TMPDIR/told\"}"
  "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  read -r <"$BATS_TEST_TMPDIR/told"
  run ! grep -qsF -- "$AZURE_STORAGE_ACCOUNT_KEY" /proc/[0-9]*/cmdline
  run ! grep -rqsF -- "$AZURE_STORAGE_ACCOUNT_KEY" "$TMPDIR" "$WORK" "$HOME" "$BATS_TEST_TMPDIR/out"
  grep -rqs "AzcopyVersion" "$TMPDIR"
  kill "$pid"
  wait "$pid" || [ "$?" -eq 143 ]
}

@test "azcopy's own login: an az CLI's token, over https" {
  command -v openssl >/dev/null || skip "openssl is missing"
  seed 2
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$HOME/key.pem" -out "$HOME/cert.pem" 2>/dev/null
  plain=$AZURITE first=$AZURITE_PID
  start_azurite "$BATS_TEST_TMPDIR/https" --oauth basic --cert "$HOME/cert.pem" --key "$HOME/key.pem"
  https=$AZURITE second=$AZURITE_PID AZURITE=$plain AZURITE_PID=$first
  segment() { base64 -w0 | tr '+/' '-_' | tr -d =; }
  now=$(date +%s)
  token=$(printf '{"alg":"RS256","typ":"JWT"}' | segment).$(printf \
    '{"aud":"https://storage.azure.com","iss":"https://sts.windows.net/t/","nbf":%d,"iat":%d,"exp":%d,"tid":"t"}' \
    $((now - 60)) $((now - 60)) $((now + 3600)) | segment).$(printf signature | segment)
  mkdir "$HOME/bin"
  cat >"$HOME/bin/az" <<EOF
#!/bin/sh
printf '{"accessToken": "$token", "expiresOn": "%s", "expires_on": $((now + 3600)), "subscription": "s", "tenant": "t", "tokenType": "Bearer"}' "$(date -d '1 hour' '+%F %T.000000')"
EOF
  chmod +x "$HOME/bin/az"
  export SSL_CERT_FILE=$HOME/cert.pem
  AZURE_STORAGE_BLOB_ENDPOINT=https://$https/devstoreaccount1 python3 "$HERE/blob.py" container "$CON"
  AZURE_STORAGE_BLOB_ENDPOINT=https://$https/devstoreaccount1 python3 "$HERE/blob.py" tree "$CON" "$BATS_TEST_TMPDIR/rec" rec/
  PATH=$HOME/bin:$PATH AZURE_STORAGE_ACCOUNT_KEY='' AZCOPY_AUTO_LOGIN_TYPE=AZCLI \
    AZURE_STORAGE_BLOB_ENDPOINT=https://$https/devstoreaccount1 fetch "$CON/rec" "$DEST"
  stop "$second"
  assert_ok
  [[ $stderr == *"AZCOPY_AUTO_LOGIN_TYPE is AZCLI"* && $stderr != *"$token"* ]]
  assert_same "$BATS_TEST_TMPDIR/rec"
}

# --- what can be wrong ---

@test "wrong key, unknown container, misspelt or empty prefix: one line with the reason, nothing made" {
  seed 1
  AZURE_STORAGE_ACCOUNT_KEY=d3JvbmcgYnV0IGJhc2U2NA== fetch "$CON/rec" "$DEST"
  assert_ended 2 "403 AuthorizationFailure"
  [[ $stderr == *"check the account's name and key"* ]]
  AZURE_STORAGE_ACCOUNT_KEY='no base64!' fetch "$CON/rec" "$DEST"
  assert_ended 2 "not base64: copy the key again"
  fetch no-such-container/rec "$DEST"
  assert_ended 2 "404 ContainerNotFound"
  fetch "$CON/rexx" "$DEST"
  assert_ended 2 "/$CON/rexx/ holds no files"
  fetch "$CON/re" "$DEST"
  assert_ended 2 "/$CON/re/ holds no files"
  put marked/ ""
  fetch "$CON/marked" "$DEST"
  assert_ended 2 "holds no files"
  fetch "$CON/rec/../rec" "$DEST"
  assert_ended 2 "'..'"
  AZCOPY=$HOME/none fetch "$CON/rec" "$DEST"
  assert_ended 2 "AZCOPY=$HOME/none is not a program"
  [ -z "$(ls -A "$WORK")" ]
}

@test "a misspelt prefix leaves what is at DEST as it is" {
  seed 2
  fetch "$CON/rec" "$DEST"
  fetch "$CON/rexx" "$DEST"
  assert_ended 2 "holds no files"
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "files of the user are neither deleted nor mixed with the source's" {
  seed 2
  mkdir "$DEST"
  echo mine >"$DEST/mine"
  fetch "$CON/rec" "$DEST"
  assert_ended 2 "files that did not come from"
  [[ $stderr == *"'mine'"* ]]
  rm "$DEST/mine"
  echo mine >"$DEST/00"
  fetch "$CON/rec" "$DEST"
  assert_ended 2 "'00'"
  [ "$(<"$DEST/00")" = mine ]
  rm "$DEST/00"
  # An empty folder is as good as none, and what is the source's already is kept.
  cp "$BATS_TEST_TMPDIR/rec/01" "$DEST"
  fetch "$CON/rec" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec"
  echo mine >"$DEST/sub/mine"
  put rec/00 changed
  fetch "$CON/rec" "$DEST"
  assert_ended 2 "'sub/mine'"
  [ "$(<"$DEST/sub/mine")" = mine ]
  rm "$DEST/sub/mine"
  echo file >"$WORK/file"
  fetch "$CON/rec" "$WORK/file"
  assert_ended 2 "is not a directory"
}

@test "one missing and one corrupted blob: named, nothing under the final name, a re-run completes" {
  seed 5
  fault '{"action": "status", "code": 404, "error": "BlobNotFound", "match": "rec/03"}'
  fetch "$CON/rec" "$DEST"
  assert_ended 2 "rec/03: 404"
  [ ! -e "$DEST" ]
  rm -r "$WORK/.data.fetch"
  fault '{"action": "flip", "match": "rec/02"}'
  fetch "$CON/rec" "$DEST"
  assert_ended 75 "'02' is not as listed"
  [[ $stderr == *MD5* ]]
  [ ! -e "$DEST" ]
  fault '{}'
  forget_requests
  fetch "$CON/rec" "$DEST"
  assert_ok
  [ "$(requests data)" -eq 1 ]
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "403 half-way: azcopy's reason, and a re-run takes up what is complete" {
  seed 8
  fault '{"action": "status", "code": 403, "error": "AuthenticationFailed", "match": "rec/0[4-7]"}'
  fetch "$CON/rec" "$DEST"
  assert_ended 2 "403"
  [[ $stderr == *"check the key or the SAS"* ]]
  [ ! -e "$DEST" ]
  fault '{}'
  fetch "$CON/rec" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "some 503s and resets are sat out" {
  seed 6
  fault '{"action": "status", "code": 503, "times": 3}'
  fetch "$CON/rec" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec"
  rm -r "$DEST"
  fault '{"action": "cut", "times": 4}'
  fetch "$CON/rec" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "no progress: 503 without end, a server that hangs, one that is gone; in the listing and in mid-transfer" {
  seed 4
  export STALL_SECONDS=3
  for rule in \
    '{"action": "status", "code": 503, "after": 2}' \
    '{"action": "hang", "after": 2}' \
    '{"action": "hang", "on": "list"}' \
    '{"action": "status", "code": 503, "on": "list"}' \
    '{"action": "gone", "after": 2}'; do
    rm -rf "$WORK"/.data.fetch
    fault "$rule"
    began=$SECONDS
    fetch "$CON/rec" "$DEST"
    assert_ended 75 "no progress for 3 s"
    ((SECONDS - began < 30)) || fail "took $((SECONDS - began)) s: $rule"
    case $rule in *503*) reason=ServerBusy ;; *gone*) reason="connection refused" ;; *) reason= ;; esac
    [[ $stderr == *"$reason"* ]] || fail "$stderr"
    [ ! -e "$DEST" ]
  done
  start_faults "$FAULTS"
  export AZURE_STORAGE_BLOB_ENDPOINT=http://$PROXY/devstoreaccount1
  fault '{}'
  fetch "$CON/rec" "$DEST"
  assert_ok
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "STALL_SECONDS is a number from 60 on" {
  unset STALL_SECONDS_MINIMUM
  for value in 59 0 -1 ten 1e3; do
    STALL_SECONDS=$value fetch "$CON/rec" "$DEST"
    assert_ended 2 "STALL_SECONDS=$value"
  done
}

# begin_held: a fetch in a session of its own that hangs in mid-transfer, with two files there; sets pid and azcopy.
begin_held() {
  seed 6
  mkfifo "$BATS_TEST_TMPDIR/told"
  fault "{\"action\": \"hang\", \"after\": 2, \"tell\": \"$BATS_TEST_TMPDIR/told\"}"
  setsid "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
  pid=$!
  read -r <"$BATS_TEST_TMPDIR/told"
  until_true two_are_there
  azcopy=$(pgrep -P "$pid" -f "^$AZCOPY copy")
}

two_are_there() {
  [ "$(find "$WORK/.data.fetch/staging" -type f ! -name '.azDownload-*' ! -name .manifest.json | wc -l)" -eq 2 ]
}

gone() {
  ! kill -0 "$1" 2>/dev/null
}

assert_rerun_completes() {
  [ ! -e "$DEST" ]
  fault '{}'
  forget_requests
  fetch "$CON/rec" "$DEST"
  assert_ok
  [[ $stderr == *"2 files of an interrupted run are whole and stay"* ]]
  [ "$(requests data)" -eq 5 ]
  rm -rf "$TMPDIR"/azcopy-*
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "the script alone killed with -9: azcopy ends too, a re-run completes" {
  begin_held
  kill -9 "$pid"
  wait "$pid" || true
  until_true gone "$azcopy"
  assert_rerun_completes
}

@test "the whole group killed with -9: the same" {
  begin_held
  kill -9 -- -"$pid"
  wait "$pid" || true
  until_true gone "$azcopy"
  assert_rerun_completes
}

@test "SIGTERM, SIGINT and SIGHUP are passed on; status 128 + signal; nothing is left but what is complete" {
  begin_held
  for signal in TERM INT HUP; do
    case $signal in TERM) expected=143 ;; INT) expected=130 ;; HUP) expected=129 ;; esac
    kill -s "$signal" "$pid"
    got=0
    wait "$pid" || got=$?
    [ "$got" -eq "$expected" ] || fail "$signal: $got"
    until_true gone "$azcopy"
    [ -z "$(ls -A "$TMPDIR")" ]
    [[ $(<"$BATS_TEST_TMPDIR/out") == *"ended by SIG$signal"* ]]
    [ "$signal" = HUP ] && break
    # All requests hang now, the two files stay.
    fault "{\"action\": \"hang\", \"tell\": \"$BATS_TEST_TMPDIR/told\", \"match\": \"$signal|\"}"
    # Not started in the background by the shell, which would have it ignore SIGINT.
    python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL); os.setsid(); os.execv(sys.argv[1], sys.argv[1:])' \
      "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST" >"$BATS_TEST_TMPDIR/out" 2>&1 3>&- &
    pid=$!
    read -r <"$BATS_TEST_TMPDIR/told"
    azcopy=$(pgrep -P "$pid" -f "^$AZCOPY copy")
  done
  assert_rerun_completes
}

@test "two runs on one DEST: the second waits, then finds it up to date" {
  begin_held
  "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST" >"$BATS_TEST_TMPDIR/out2" 2>&1 3>&- &
  second=$!
  until_true grep -q "waiting for another run" "$BATS_TEST_TMPDIR/out2"
  kill "$pid"
  wait "$pid" || true
  fault '{}'
  wait "$second"
  grep -q "2 files of an interrupted run" "$BATS_TEST_TMPDIR/out2"
  assert_same "$BATS_TEST_TMPDIR/rec"
  rm -r "$DEST"
  for each in 1 2 3; do
    "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST" >"$BATS_TEST_TMPDIR/out$each" 2>&1 3>&- &
    pids[each]=$!
  done
  for each in 1 2 3; do wait "${pids[each]}"; done
  [ "$(cat "$BATS_TEST_TMPDIR"/out[123] | grep -c "is up to date")" -eq 2 ]
  assert_same "$BATS_TEST_TMPDIR/rec"
}

@test "azcopy holds the lock as well" {
  begin_held
  [ -n "$(find "/proc/$azcopy/fd" -lname "$WORK/.data.fetch/lock")" ]
  kill "$pid"
  wait "$pid" || true
}

@test "disk full: said before the transfer where it can be known, azcopy's reason where not" {
  [ "$(id -u)" -eq 0 ] || skip "mounting a tmpfs needs root"
  seed 30
  mkdir "$WORK/small"
  mount -t tmpfs -o size=40k tmpfs "$WORK/small" || skip "no tmpfs can be mounted here"
  fetch "$CON/rec" "$WORK/small/data"
  umount "$WORK/small"
  assert_ended 2 "no space: 0 MB are to come"
  # Room for the bytes, but not for so many files.
  mount -t tmpfs -o size=2m,nr_inodes=20 tmpfs "$WORK/small"
  fetch "$CON/rec" "$WORK/small/data"
  made=$(find "$WORK/small" -name data)
  mount -o remount,nr_inodes=200 "$WORK/small"
  result="$status $stderr"
  fetch "$CON/rec" "$WORK/small/data"
  second=$status
  differences=$(diff -r --exclude=.manifest.json "$BATS_TEST_TMPDIR/rec" "$WORK/small/data") || true
  umount "$WORK/small"
  [[ $result == 2*"no space left on device"*"free space"* ]] || fail "$result"
  [ -z "$made" ]
  [ "$second" -eq 0 ]
  [ -z "$differences" ]
}

@test "a DEST that is a mount point, or cannot be written" {
  fetch "$CON/rec" /proc
  assert_ended 2 "mount point"
  fetch "$CON/rec" /proc/data
  [ "$status" -eq 2 ]
}

@test "a HOME that is missing or cannot be written does not matter" {
  seed 1
  HOME=/proc/none fetch "$CON/rec" "$DEST"
  assert_ok
  rm -r "$DEST"
  (unset HOME && "${PATIENCE[@]}" "$ROOT/scripts/fetch.sh" "$CON/rec" "$DEST")
  assert_same "$BATS_TEST_TMPDIR/rec"
  [ ! -e "$ROOT/.azcopy" ]
}

@test "progress is shown on a terminal" {
  command -v script >/dev/null || skip "script (bsdutils) is missing"
  seed 3
  script -qec "'$ROOT/scripts/fetch.sh' '$CON/rec' '$DEST'" /dev/null >"$BATS_TEST_TMPDIR/terminal" 2>&1
  grep -q "fetching: 100 %, 4 of 4 files" "$BATS_TEST_TMPDIR/terminal"
  assert_same "$BATS_TEST_TMPDIR/rec"
}
