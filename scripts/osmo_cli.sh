# shellcheck shell=bash
# Calling OSMO's command line; sourced, never run.

# need_osmo: the CLI is there. OSMO names another one than that on the PATH.
need_osmo() {
  command -v "${OSMO:-osmo}" >/dev/null ||
    die "${OSMO:-osmo} is not there: install OSMO's CLI (github.com/NVIDIA/OSMO, releases) and run osmo login"
}

# osmo ARGUMENT ...: the CLI. Its errors come on stdout and often with status 0, so callers look at the text.
osmo() {
  command "${OSMO:-osmo}" "$@"
}

# json EXPRESSION: evaluates it with d, the JSON on stdin, and prints the result; fails where it does not fit.
json() {
  "$(project_python)" -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1" 2>/dev/null
}

# osmo_says TEXT: what the CLI has answered, as text or as JSON, in one line without its headings.
osmo_says() {
  local text
  text=$(json 'd["message"]' <<<"$1") || text=$1
  text=$(tr -s '\n\t ' ' ' <<<"$text")
  text=${text#Error message: }
  printf '%s\n' "${text% }"
}

# read_credentials: sets credential_names, credential_types and credential_profiles; ends the script when nobody is
# logged in or the service is away.
read_credentials() {
  local answer table name type profile
  credential_names=() credential_types=() credential_profiles=()
  answer=$(osmo credential --format-type json list 2>/dev/null) ||
    die "osmo credential list failed: $(osmo_says "$answer")"
  table=$(json '"\n".join("\t".join([c["cred_name"], c["cred_type"], c["profile"] or "-"]) for c in d["credentials"])' \
    <<<"$answer") || die "osmo credential list answers with what is no list: $(osmo_says "$answer")"
  while IFS=$'\t' read -r name type profile; do
    [[ -n $name ]] || continue
    credential_names+=("$name") credential_types+=("$type") credential_profiles+=("$profile")
  done <<<"$table"
}

# has_credential NAME TYPE: read_credentials has found it.
has_credential() {
  local index
  for index in "${!credential_names[@]}"; do
    [[ ${credential_names[index]} == "$1" && ${credential_types[index]} == "$2" ]] && return
  done
  return 1
}

# data_credential PROFILE: prints the name of the DATA credential for it.
data_credential() {
  local index
  for index in "${!credential_names[@]}"; do
    if [[ ${credential_types[index]} == DATA && ${credential_profiles[index]} == "$1" ]]; then
      printf '%s\n' "${credential_names[index]}"
      return
    fi
  done
  return 1
}
