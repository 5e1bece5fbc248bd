#!/usr/bin/env bats
# secrets.env as every script reads it.
load test_helper

setup() {
  own_environment
  copy_root
  cp "$REPO/secrets.example.env" "$ROOT"
  cat >"$ROOT/scripts/show.sh" <<'EOF'
#!/usr/bin/env bash
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
source "$ROOT/scripts/secrets_file.sh"
load_secrets
env | grep -E '^(AZURE_|AZCOPY|LOCALPATH|STALL)' | sort
EOF
  chmod +x "$ROOT/scripts/show.sh"
}

# secrets LINE ...: what secrets.env holds.
secrets() {
  printf '%s\n' "$@" >"$ROOT/secrets.env"
  chmod 600 "$ROOT/secrets.env"
}

show() {
  run --separate-stderr "$ROOT/scripts/show.sh"
}

@test "KEY=VALUE lines are read as they are, and nothing in them is executed" {
  # shellcheck disable=SC2016 # the file holds these characters
  secrets '# a comment' '' '  # another' 'AZURE_STORAGE_ACCOUNT_NAME="my name"' "AZURE_BLOB_PREFIX='a'b'" \
    'AZURE_STORAGE_ACCOUNT_KEY=a+/b==' 'AZURE_STORAGE_SAS_TOKEN=sv=1&sig=x%2F#no comment' 'AZURE_BLOB_CONTAINER=' \
    'LOCALPATH=$(touch pwned) `touch pwned` $HOME; touch pwned' $'STALL_SECONDS=90\r'
  show
  [ "$status" -eq 0 ]
  # shellcheck disable=SC2016
  [ "$output" = 'AZURE_BLOB_PREFIX=a'"'"'b
AZURE_STORAGE_ACCOUNT_KEY=a+/b==
AZURE_STORAGE_ACCOUNT_NAME=my name
AZURE_STORAGE_SAS_TOKEN=sv=1&sig=x%2F#no comment
LOCALPATH=$(touch pwned) `touch pwned` $HOME; touch pwned
STALL_SECONDS=90' ]
  [ ! -e pwned ]
}

@test "the environment wins; a last line without an end counts" {
  secrets 'LOCALPATH=/from/file'
  printf 'AZURE_BLOB_CONTAINER=last' >>"$ROOT/secrets.env"
  LOCALPATH=/from/environment show
  [ "$output" = $'AZURE_BLOB_CONTAINER=last\nLOCALPATH=/from/environment' ]
}

@test "a file that others can read is refused with the command that fixes it" {
  secrets 'LOCALPATH=/secret'
  for mode in 644 640 660 400 700; do
    chmod "$mode" "$ROOT/secrets.env"
    show
    assert_refused "chmod 600 $ROOT/secrets.env"
  done
  chmod 600 "$ROOT/secrets.env"
  show
  [ "$status" -eq 0 ]
}

@test "other lines are refused by number, without their text" {
  for line in 'export LOCALPATH=secret' 'LOCALPATH = secret' 'secret' 'PATH=secret' 'LD_PRELOAD=secret' 'lower=secret' \
    'LOCALPATH="secret' 'A*=secret'; do
    secrets 'AZURE_BLOB_CONTAINER=x' "$line"
    show
    assert_refused "line 2"
    [[ $stderr != *secret\ * && $stderr != *=secret* ]] || fail "$stderr"
  done
}

@test "no file is not an error, a named one that is missing is" {
  show
  [ -z "$output$stderr" ]
  SECRETS=$HOME/none show
  assert_refused "$HOME/none is not there"
  printf 'LOCALPATH=/x\n' >"$HOME/mine"
  chmod 600 "$HOME/mine"
  SECRETS=$HOME/mine show
  [ "$output" = LOCALPATH=/x ]
}

@test "set -x prints no value" {
  secrets 'AZURE_STORAGE_ACCOUNT_KEY=topsecret'
  run bash -x -c 'source scripts/common.sh; source scripts/secrets_file.sh; load_secrets'
  [ "$status" -eq 0 ]
  [[ $output != *topsecret* ]]
}

@test "secrets.example.env can be copied as it is, and names every variable that the scripts read" {
  cp "$REPO/secrets.example.env" "$ROOT/secrets.env"
  chmod 600 "$ROOT/secrets.env"
  show
  [ "$status" -eq 0 ]
  [ "$output" = STALL_SECONDS=300 ]
  for name in $(grep -ohE '"(AZURE|AZCOPY|LOCALPATH|STALL)[A-Z_]*"' "$REPO"/python/ur10e_act/blob/*.py | tr -d '"' | sort -u); do
    case $name in
      AZCOPY_CRED_TYPE | STALL_SECONDS_MINIMUM) ;;
      *) grep -q "^$name=" "$REPO/secrets.example.env" || fail "$name is not in secrets.example.env" ;;
    esac
  done
  run git -C "$REPO" check-ignore -q secrets.env
  [ "$status" -eq 0 ]
}
