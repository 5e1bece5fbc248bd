#!/usr/bin/env bash
# Summary: measure fetch.sh against plain azcopy copy, and a re-run against a first run, on a local Azurite
# Usage: bench.sh
#   ROUNDS  interleaved rounds; the medians are compared (3)
#   BIG_MB  size of each of the 4 big files beside 2,000 small ones (600: azcopy ends on a tick of 2 s, so runs must be long)
# shellcheck source=scripts/common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=tests/scripts/azurite.bash
source "$ROOT/tests/scripts/azurite.bash"
help_wanted "$@"

ROUNDS=${ROUNDS:-3}
BIG_MB=${BIG_MB:-600}
need_count ROUNDS
need_count BIG_MB

"$ROOT/scripts/setup.sh" dev
azcopy_runs || die "azcopy does not run: apt-get install libsecret-1-0"
WORK=$(mktemp -d)
PLAIN=$WORK/plain
# The user's own account has no part in this.
unset AZURE_STORAGE_SAS_TOKEN AZCOPY_AUTO_LOGIN_TYPE
install -m 600 /dev/null "$WORK/secrets.env"
export SECRETS=$WORK/secrets.env
AZURITE_PID=
cleanup() {
  [[ -z $AZURITE_PID ]] || stop "$AZURITE_PID"
  rm -rf -- "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# seconds COMMAND ...: how long it takes; its output is shown only when it fails.
seconds() {
  local start=$EPOCHREALTIME
  "$@" >"$WORK/output" 2>&1 || {
    cat "$WORK/output" >&2
    die "failed: $*"
  }
  awk "BEGIN { printf \"%.2f\n\", $EPOCHREALTIME - $start }"
}

median() {
  printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

ratio() {
  awk "BEGIN { printf \"%.2f\n\", $1 / $2 }"
}

say "making 4 files of $BIG_MB MB and 2,000 small ones ..."
mkdir -p "$WORK"/tree/{big,small/{00..19}}
for index in 1 2 3 4; do
  head -c "${BIG_MB}MB" /dev/urandom >"$WORK/tree/big/$index"
done
for ((index = 0; index < 2000; index++)); do
  printf '%d %5000d\n' "$index" "$index" >"$WORK/tree/small/$(printf '%02d/%04d' $((index % 20)) "$index")"
done
start_azurite "$WORK/azurite" || die "Azurite does not start: $(<"$WORK/azurite/log")"
AZURE_STORAGE_BLOB_ENDPOINT=http://$AZURITE/devstoreaccount1
export AZURE_STORAGE_BLOB_ENDPOINT
python3 "$HERE/blob.py" container bench
say "uploading them to Azurite ..."
plain_azcopy copy "$WORK/tree/*" "$AZURE_STORAGE_BLOB_ENDPOINT/bench/tree" --recursive --from-to=LocalBlob --put-md5
rm -rf -- "$WORK/tree"

plain_copy() {
  rm -rf -- "$WORK/by-azcopy"
  sync
  plain+=("$(seconds plain_azcopy copy "$AZURE_STORAGE_BLOB_ENDPOINT/bench/tree/*" "$WORK/by-azcopy" --recursive --from-to=BlobLocal)")
}

fetch_twice() {
  rm -rf -- "$WORK/by-fetch"
  sync
  first+=("$(seconds "$ROOT/scripts/fetch.sh" bench/tree "$WORK/by-fetch")")
  again+=("$(seconds "$ROOT/scripts/fetch.sh" bench/tree "$WORK/by-fetch")")
}

plain=() first=() again=()
for ((round = 1; round <= ROUNDS; round++)); do
  # Who goes first changes, so that neither gains by it.
  if ((round % 2)); then
    plain_copy
    fetch_twice
  else
    fetch_twice
    plain_copy
  fi
  say "round $round: azcopy copy ${plain[-1]} s, fetch ${first[-1]} s, fetch again ${again[-1]} s"
done
diff -r --exclude=.manifest.json "$WORK/by-azcopy" "$WORK/by-fetch" || die "fetch.sh downloaded other files than azcopy"
printf 'fetch / azcopy copy      %s  (medians of %d rounds: %s s / %s s)\n' \
  "$(ratio "$(median "${first[@]}")" "$(median "${plain[@]}")")" "$ROUNDS" "$(median "${first[@]}")" "$(median "${plain[@]}")"
printf 'fetch again / fetch      %s  (%s s / %s s)\n' \
  "$(ratio "$(median "${again[@]}")" "$(median "${first[@]}")")" "$(median "${again[@]}")" "$(median "${first[@]}")"
