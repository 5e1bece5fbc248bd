# OSMO for the tests: the stand-in of osmo.py, or, with OSMO=PATH, a real CLI that is logged in to a service of its own.
# OSMO_CONNECTION is the connection string of that service's Azurite, whose container data the tests write to, and
# OSMO_SET_STATUS a program: WORKFLOW_ID STATUS | WORKFLOW_ID --log LINE.
# shellcheck shell=bash disable=SC2154

REAL_OSMO=${OSMO:-}

osmo_setup() {
  own_environment
  copy_root
  cp -R "$REPO/workflows" "$REPO/secrets.example.env" "$ROOT"
  ln -s "$REPO/.venv" "$ROOT/.venv"
  export SECRETS=$BATS_TEST_TMPDIR/secrets.env
  secrets_env ""
  if [[ -n $REAL_OSMO ]]; then
    export OSMO=$REAL_OSMO
    local name
    for name in azure-storage azure-storage-trial azure-storage-data registry wandb; do
      "$OSMO" credential delete "$name" >/dev/null 2>&1 || true
    done
  else
    export OSMO=$BATS_TEST_DIRNAME/osmo.py OSMO_STATE=$BATS_TEST_TMPDIR/osmo OSMO_PROJECT=$REPO
    mkdir "$OSMO_STATE"
    PATH=$REPO/.venv/bin:$PATH
  fi
  export TAG=1 REGISTRY=osmo.invalid/robots
}

# What only the stand-in can be made to do, or tell.
only_standin() {
  [[ -z $REAL_OSMO ]] || skip "needs the stand-in: $1"
}

# secrets_env LINE ...: what secrets.env holds.
secrets_env() {
  printf '%s\n' "$@" >"$SECRETS"
  chmod 600 "$SECRETS"
}

# The account of Azurite, whose key is published.
azure_secrets() {
  # The first line with a name counts.
  secrets_env "$@" "AZURE_STORAGE_ACCOUNT_NAME=devstoreaccount1" "AZURE_STORAGE_ACCOUNT_KEY=$KEY" \
    "AZURE_STORAGE_BLOB_ENDPOINT=${OSMO_BLOB_ENDPOINT:-http://127.0.0.1:18010/devstoreaccount1}" \
    "AZURE_BLOB_CONTAINER=datasets" "AZURE_BLOB_PREFIX=reach" "STORAGE_URL=azure://devstoreaccount1/data/act"
}
KEY=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==

# stored NAME TYPE: the CLI lists that credential.
stored() {
  "$OSMO" credential --format-type json list | tr -d ' \n' | grep -qF "\"cred_name\":\"$1\",\"cred_type\":\"$2\""
}

# payload NAME KEY: what the stand-in has as its value.
payload() {
  python -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]]["payload"][sys.argv[3]])' \
    "$OSMO_STATE/credentials.json" "$1" "$2"
}

# refuse_next COMMAND STATUS STDOUT: the stand-in's next such call fails so.
refuse_next() {
  printf '{"command": "%s", "status": %d, "stdout": "%s"}\n' "$1" "$2" "$3" >>"$OSMO_STATE/fail"
}

# becomes ID STATUS, and log_line ID LINE.
becomes() {
  if [[ -n $REAL_OSMO ]]; then
    "$OSMO_SET_STATUS" "$1" "$2" >/dev/null
  else
    edit_workflow "$1" 'w["status"] = text' "$2"
  fi
}

log_line() {
  if [[ -n $REAL_OSMO ]]; then
    "$OSMO_SET_STATUS" "$1" RUNNING >/dev/null
    "$OSMO_SET_STATUS" "$1" --log "$2" >/dev/null
  else
    edit_workflow "$1" 'w["logs"].append("[train] " + text)' "$2"
  fi
}

# edit_workflow ID STATEMENT TEXT: on w, what the stand-in knows of the workflow; in one step, as it may be reading.
edit_workflow() {
  python - "$OSMO_STATE/workflows.json" "$@" <<'EOF_PYTHON'
import json
import os
import sys

path, name, statement, text = sys.argv[1:]
with open(path) as file:
    workflows = json.load(file)
exec(statement, {"w": workflows[name], "text": text})
with open(path + ".edit", "w") as file:
    json.dump(workflows, file)
os.replace(path + ".edit", path)
EOF_PYTHON
}

script() {
  run --separate-stderr "$ROOT/scripts/$1.sh" "${@:2}"
}

assert_fine() {
  [[ $status -eq 0 ]] || fail "status $status: $output $stderr"
}

# wait_until COMMAND ...: it succeeds within 30 seconds; wait_until_not: it fails.
wait_until() {
  local turn
  for ((turn = 0; turn < 300; turn++)); do
    ! "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  fail "never true: $*"
}

wait_until_not() {
  local turn
  for ((turn = 0; turn < 300; turn++)); do
    "$@" >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  fail "always true: $*"
}
